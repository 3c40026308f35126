//! The text form of OpenMetrics 1.0.

use std::fmt::{Display, Write};

/// The kind of a family.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// May rise and fall.
    Gauge,
    /// Rises only; its samples end in `_total`.
    Counter,
    /// Says what something is; its samples end in `_info`.
    Info,
    /// One of several states; the label of its samples has the family's name.
    StateSet,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }
}

/// A text under construction.
#[derive(Default)]
pub(super) struct Metrics {
    text: String,
}

/// One family: its samples follow its heading.
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Metrics {
    /// Begins a family. A family without samples is valid, and tells that there is such a thing.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, unit: &str, help: &str) -> Family<'_> {
        self.line(format_args!("# TYPE {name} {}", kind.word()));
        if !unit.is_empty() {
            self.line(format_args!("# UNIT {name} {unit}"));
        }
        self.line(format_args!("# HELP {name} {}", escaped(help)));
        Family { text: &mut self.text, name }
    }

    /// The whole text.
    pub(super) fn end(mut self) -> String {
        self.text.push_str("# EOF\n");
        self.text
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        push(&mut self.text, line);
        self.text.push('\n');
    }
}

impl Family<'_> {
    /// Adds a sample.
    pub(super) fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        push(self.text, format_args!("{}{suffix}", self.name));
        for (number, (label, value)) in labels.iter().enumerate() {
            let open = if number == 0 { '{' } else { ',' };
            push(self.text, format_args!("{open}{label}=\"{}\"", escaped(value)));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        push(self.text, format_args!(" {value}\n"));
        self
    }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing into a text cannot fail.
    let _ = text.write_fmt(arguments);
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_label_holds_cannot_break_out_of_it() {
        let mut metrics = Metrics::default();
        metrics.family("pilot_x", Kind::Gauge, "", "X.").sample("", &[("a", "\"} 1\n\\"), ("b", "c")], 2);
        assert_eq!(
            metrics.end(),
            "# TYPE pilot_x gauge\n# HELP pilot_x X.\npilot_x{a=\"\\\"} 1\\n\\\\\",b=\"c\"} 2\n# EOF\n"
        );
    }
}
