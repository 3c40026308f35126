//! What the machine must bring along, and how to get it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The Java version that Cassandra 5.0 is run with here.
const JAVA: u32 = 17;

/// Something this machine lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What was looked for, and what was found instead.
    pub what: String,
    /// How to get it.
    pub remedy: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.remedy)
    }
}

/// What running needs; with `fetch` also what fetching needs. The Java to use, or all that is missing.
pub(super) fn check(fetch: bool) -> Result<PathBuf, Vec<Missing>> {
    let mut missing = Vec::new();
    let java = find_java();
    if let Err(lacking) = &java {
        missing.push(lacking.clone());
    }
    for (program, needed, remedy) in [
        ("setpriv", true, "apt install util-linux"),
        ("sh", true, "apt install dash"),
        ("sed", true, "apt install sed"),
        ("mvn", fetch, "apt install maven"),
    ] {
        if needed && find_in_path(program).is_none() {
            missing.push(Missing { what: format!("`{program}` was not found in PATH"), remedy });
        }
    }
    match java {
        Ok(java) if missing.is_empty() => Ok(java),
        Ok(_) | Err(_) => Err(missing),
    }
}

fn find_java() -> Result<PathBuf, Missing> {
    let remedy = "apt install openjdk-17-jdk-headless, or point JAVA_HOME at a JDK 17";
    let mut candidates = Vec::new();
    if let Some(home) = std::env::var_os("JAVA_HOME") {
        candidates.push(PathBuf::from(home).join("bin/java"));
    }
    candidates.extend(find_in_path("java"));
    // Where the Java of PATH is another one, Debian still has this one here.
    candidates.push(PathBuf::from("/usr/lib/jvm/java-17-openjdk-amd64/bin/java"));
    candidates.push(PathBuf::from("/usr/lib/jvm/java-17-openjdk-arm64/bin/java"));
    let mut found = Vec::new();
    for candidate in candidates {
        match version_of(&candidate) {
            Some(JAVA) => return Ok(candidate),
            Some(other) => found.push(format!("{} is Java {other}", candidate.display())),
            None => {}
        }
    }
    Err(Missing {
        what: if found.is_empty() {
            format!("no Java {JAVA} was found")
        } else {
            format!("no Java {JAVA} was found ({})", found.join(", "))
        },
        remedy,
    })
}

fn version_of(java: &Path) -> Option<u32> {
    let output = Command::new(java).arg("-version").stdin(Stdio::null()).output().ok()?;
    major(&String::from_utf8_lossy(&output.stderr))
}

/// Reads `openjdk version "17.0.15" 2025-04-15`, and the old `"1.8.0_292"`.
fn major(printed: &str) -> Option<u32> {
    let quoted = printed.split('"').nth(1)?;
    let mut parts = quoted.split(['.', '-', '+', '_']);
    match parts.next()?.parse().ok()? {
        1 => parts.next()?.parse().ok(),
        major => Some(major),
    }
}

fn find_in_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn java_versions_old_and_new_are_read() {
        assert_eq!(major("openjdk version \"17.0.15\" 2025-04-15\n"), Some(17));
        assert_eq!(major("openjdk version \"25\" 2025-09-16\n"), Some(25));
        assert_eq!(major("java version \"1.8.0_292\"\n"), Some(8));
        assert_eq!(major("zsh: command not found: java"), None);
    }
}
