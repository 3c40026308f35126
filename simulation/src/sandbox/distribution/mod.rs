//! Apache Cassandra for this machine: fetched once from Maven Central, compared with committed checksums, kept.
//!
//! The cache is `$XDG_CACHE_HOME/pilotmesh/cassandra-5.0.9` (`~/.cache` where that is not set). It is filled beside
//! itself and renamed into place, so that a folder of that name is always whole; two fetchers wait for each other.
//! Afterwards no network is needed.

mod checksums;
mod prerequisites;
mod progress;

pub use prerequisites::Missing;
pub use progress::Progress;

use checksums::Checksums;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The version that is fetched.
pub const VERSION: &str = "5.0.9";

const POM: &str = include_str!("../../../assets/cassandra/pom.xml");
const JARS: &str = include_str!("../../../assets/cassandra/jars.sha256");

/// Pinned, as everything that decides which bytes arrive.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies";

/// Written last: holds the fingerprint of the list that the jars were compared with.
const STAMP: &str = "verified";

/// Lines of a failed Maven run that are shown.
const LAST_LINES: usize = 15;

/// A complete Cassandra on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CassandraHome {
    /// The folder that holds all jars and nothing else.
    pub lib: PathBuf,
    /// The agent that measures objects in memory.
    pub jamm: PathBuf,
    /// The Java 17 to run it with.
    pub java: PathBuf,
    /// Loaded classes of `nodetool`, which shorten each call by a third; absent where this Java would not make it.
    pub tool_archive: Option<PathBuf>,
    /// Its version.
    pub version: &'static str,
}

/// Why there is no Cassandra.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The machine lacks programs.
    #[error("this machine lacks what Cassandra needs:{}", list(missing))]
    Missing {
        /// All of them.
        missing: Vec<Missing>,
    },
    /// There is no folder for the cache.
    #[error("neither XDG_CACHE_HOME nor HOME is set: set one, so that the jars can be kept")]
    NoCache,
    /// The file system refused.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io {
        /// What was being attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Maven ended badly.
    #[error(
        "`mvn` could not fetch Cassandra ({status}); it needs to reach Maven Central or a mirror named in ~/.m2/settings.xml; its last words:\n{output}"
    )]
    Maven {
        /// How it ended.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// Other bytes arrived than were meant.
    #[error("what was fetched is not what was meant: {}; if Maven's own cache is damaged, remove these files below ~/.m2/repository and try again", wrong.join("; "))]
    Checksums {
        /// Every difference.
        wrong: Vec<String>,
    },
}

fn list(missing: &[Missing]) -> String {
    missing.iter().map(|m| format!("\n  {m}")).collect()
}

/// Returns the Cassandra of this machine, fetching it if it is not there. Blocks, at first for about a minute.
///
/// # Errors
/// When the machine lacks a program (all are named), Maven Central cannot be reached, or other bytes arrive than the
/// committed list says.
pub fn ensure_cassandra(progress: Progress) -> Result<CassandraHome, FetchError> {
    ensure_in(&cache_root()?, progress)
}

fn ensure_in(root: &Path, progress: Progress) -> Result<CassandraHome, FetchError> {
    let name = format!("cassandra-{VERSION}");
    let home = root.join(&name);
    let wanted = Checksums::parse(JARS);
    if !is_whole(&home, &wanted) {
        let java = prerequisites::check(true).map_err(|missing| FetchError::Missing { missing })?;
        fs::create_dir_all(root).map_err(|e| failed("make", root, e))?;
        let lock_file = root.join(format!("{name}.lock"));
        let lock =
            OpenOptions::new().create(true).append(true).open(&lock_file).map_err(|e| failed("open", &lock_file, e))?;
        // Held until it is dropped; the kernel lets go of it also where we are killed.
        lock.lock().map_err(|e| failed("lock", &lock_file, e))?;
        if !is_whole(&home, &wanted) {
            fetch(root, &name, &wanted, &java, progress)?;
        }
    }
    let java = prerequisites::check(false).map_err(|missing| FetchError::Missing { missing })?;
    let lib = home.join("lib");
    let jamm = wanted.names().find(|jar| jar.starts_with("jamm-")).map(|jar| lib.join(jar)).unwrap_or_default();
    let archive = home.join("nodetool.jsa");
    Ok(CassandraHome { lib, jamm, java, tool_archive: archive.is_file().then_some(archive), version: VERSION })
}

/// The stamp is there, of this very list, and no jar has been taken away since.
fn is_whole(home: &Path, wanted: &Checksums) -> bool {
    let stamped = fs::read_to_string(home.join(STAMP)).is_ok_and(|stamp| stamp.trim() == wanted.fingerprint());
    stamped && wanted.names().all(|jar| home.join("lib").join(jar).is_file())
}

fn fetch(root: &Path, name: &str, wanted: &Checksums, java: &Path, progress: Progress) -> Result<(), FetchError> {
    let home = root.join(name);
    let fresh = root.join(format!(".{name}.new"));
    // The lock is ours: whatever lies here was left by a fetch that was cut off.
    remove(&fresh)?;
    let lib = fresh.join("lib");
    fs::create_dir_all(&lib).map_err(|e| failed("make", &lib, e))?;
    let pom = fresh.join("pom.xml");
    fs::write(&pom, POM).map_err(|e| failed("write", &pom, e))?;
    run_maven(&pom, &lib, wanted, progress)?;
    wanted.verify(&lib)?;
    let stamp = fresh.join(STAMP);
    File::create(&stamp)
        .and_then(|mut file| {
            writeln!(file, "{}", wanted.fingerprint())?;
            file.sync_all()
        })
        .map_err(|e| failed("write", &stamp, e))?;
    // One that is not whole, or of another list, makes way.
    remove(&home)?;
    fs::rename(&fresh, &home).map_err(|e| failed("put in place", &home, e))?;
    archive_tool_classes(&home, java);
    Ok(())
}

fn run_maven(pom: &Path, lib: &Path, wanted: &Checksums, progress: Progress) -> Result<(), FetchError> {
    let maven = |e| failed("run", Path::new("mvn"), e);
    let mut output = OsString::from("-DoutputDirectory=");
    output.push(lib);
    let mut child = Command::new("mvn")
        .args(["-B", "-f"])
        .arg(pom)
        .args([COPY, "-DincludeScope=runtime"])
        .arg(output)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(maven)?;
    let mut counter = progress::Counter::new(progress, &format!("fetching Apache Cassandra {VERSION}"), wanted.len());
    let mut last = VecDeque::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(maven)?;
            if let Some(jar) = progress::jar_in(&line).filter(|jar| wanted.lists(jar)) {
                counter.arrived(jar);
            }
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(line);
        }
    }
    let status = child.wait().map_err(maven)?;
    counter.finish();
    if status.success() {
        return Ok(());
    }
    Err(FetchError::Maven { status: status.to_string(), output: Vec::from(last).join("\n") })
}

/// A convenience: where it fails, tools start as slowly as they would anyway.
fn archive_tool_classes(home: &Path, java: &Path) {
    let mut archive = OsString::from("-XX:ArchiveClassesAtExit=");
    archive.push(home.join("nodetool.jsa"));
    let made = Command::new(java)
        .args(["-Xmx64M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg(archive)
        .arg("-cp")
        .arg(home.join("lib").join("*"))
        .args(["org.apache.cassandra.tools.NodeTool", "help"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match made {
        Ok(status) if status.success() => {}
        Ok(status) => tracing::debug!(%status, "no class archive for nodetool"),
        Err(error) => tracing::debug!(%error, "no class archive for nodetool"),
    }
}

fn remove(folder: &Path) -> Result<(), FetchError> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", folder, e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn cache_root() -> Result<PathBuf, FetchError> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("pilotmesh"))
        .ok_or(FetchError::NoCache)
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> FetchError {
    FetchError::Io { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_list_is_complete_and_names_the_memory_meter() {
        let list = Checksums::parse(JARS);
        assert_eq!(list.len(), 100);
        assert!(list.names().any(|jar| jar == format!("cassandra-all-{VERSION}.jar")));
        assert!(list.names().any(|jar| jar.starts_with("jamm-")));
        assert!(POM.contains(VERSION));
    }

    #[test]
    fn a_cache_without_the_stamp_of_this_list_is_not_taken_for_whole() {
        let folder = tempfile::tempdir().expect("folder");
        let list = Checksums::parse("00  a.jar\n");
        fs::create_dir(folder.path().join("lib")).expect("folder");
        fs::write(folder.path().join("lib/a.jar"), "").expect("file");
        assert!(!is_whole(folder.path(), &list));
        fs::write(folder.path().join(STAMP), "another").expect("file");
        assert!(!is_whole(folder.path(), &list));
        fs::write(folder.path().join(STAMP), list.fingerprint() + "\n").expect("file");
        assert!(is_whole(folder.path(), &list));
        fs::remove_file(folder.path().join("lib/a.jar")).expect("removed");
        assert!(!is_whole(folder.path(), &list));
    }

    #[test]
    fn everything_that_is_missing_is_named_with_its_remedy() {
        let error = FetchError::Missing {
            missing: vec![
                Missing { what: "no Java 17 was found".into(), remedy: "apt install openjdk-17-jdk-headless" },
                Missing { what: "`mvn` was not found in PATH".into(), remedy: "apt install maven" },
            ],
        };
        let said = error.to_string();
        assert!(said.contains("openjdk-17-jdk-headless") && said.contains("apt install maven"), "{said}");
    }
}
