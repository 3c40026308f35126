//! Telling a person how far the fetch is.

use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeSet;
use std::io::IsTerminal;

/// Whether a fetch is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A bar on a terminal, else lines, on standard error.
    Shown,
    /// Nothing is printed.
    Silent,
}

/// Counts jars as Maven names them.
pub(super) struct Counter {
    seen: BTreeSet<String>,
    all: usize,
    show: Show,
}

enum Show {
    Bar(ProgressBar),
    Lines { said: usize },
    Nothing,
}

/// Without a terminal one line is printed for so many jars.
const LINE_EVERY: usize = 20;

impl Counter {
    pub(super) fn new(progress: Progress, what: &str, all: usize) -> Self {
        let show = match progress {
            Progress::Silent => Show::Nothing,
            Progress::Shown if std::io::stderr().is_terminal() => {
                let bar = ProgressBar::new(u64::try_from(all).unwrap_or(u64::MAX));
                if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:32}] {pos}/{len} jars, {elapsed}") {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_message(what.to_owned());
                Show::Bar(bar)
            }
            Progress::Shown => {
                eprintln!("{what}: {all} jars from Maven Central, once");
                Show::Lines { said: 0 }
            }
        };
        Self { seen: BTreeSet::new(), all, show }
    }

    /// A jar has arrived; naming it twice counts once.
    pub(super) fn arrived(&mut self, jar: &str) {
        if !self.seen.insert(jar.to_owned()) {
            return;
        }
        let count = self.seen.len();
        match &mut self.show {
            Show::Bar(bar) => bar.set_position(u64::try_from(count).unwrap_or(u64::MAX)),
            Show::Lines { said } if count >= *said + LINE_EVERY || count == self.all => {
                *said = count;
                eprintln!("  {count}/{} jars", self.all);
            }
            Show::Lines { .. } | Show::Nothing => {}
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        match &self.show {
            Show::Bar(bar) => bar.finish_and_clear(),
            Show::Lines { .. } | Show::Nothing => {}
        }
    }
}

/// The jar that a line of Maven's speaks of: `Downloaded from central: https://…/x-1.jar (7 kB at 1 MB/s)` or
/// `[INFO] Copying x-1.jar to /…`.
pub(super) fn jar_in(line: &str) -> Option<&str> {
    let rest = if let Some((_, url)) = line.split_once("Downloaded from ") {
        url.split_whitespace().nth(1)?
    } else {
        line.split_once("Copying ")?.1.split_whitespace().next()?
    };
    let name = rest.rsplit('/').next()?;
    name.ends_with(".jar").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jars_are_found_in_what_maven_prints_and_poms_are_not() {
        assert_eq!(
            jar_in("Downloaded from central: https://repo.maven.apache.org/maven2/a/x-1.jar (7 kB at 1 MB/s)"),
            Some("x-1.jar")
        );
        assert_eq!(jar_in("[INFO] Copying x-1.jar to /tmp/lib/x-1.jar"), Some("x-1.jar"));
        assert_eq!(jar_in("Downloaded from central: https://repo/a/x-1.pom (7 kB at 1 MB/s)"), None);
        assert_eq!(jar_in("[INFO] BUILD SUCCESS"), None);
    }

    #[test]
    fn a_jar_downloaded_and_then_copied_counts_once() {
        let mut counter = Counter::new(Progress::Silent, "x", 2);
        counter.arrived("a.jar");
        counter.arrived("a.jar");
        assert_eq!(counter.seen.len(), 1);
    }
}
