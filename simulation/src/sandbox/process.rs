//! Containers of a sandbox: processes of this machine.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::process::Command;
use tokio::sync::mpsc;

/// What a container is started with.
#[derive(Debug, Clone)]
pub struct Start {
    /// Its pod's uid.
    pub pod: String,
    /// Its name in the pod.
    pub container: String,
    /// The program and its arguments, references resolved.
    pub argv: Vec<String>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// Where its output goes.
    pub log: PathBuf,
}

/// How a container ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its pod's uid.
    pub pod: String,
    /// Its name.
    pub container: String,
    /// The process that ended.
    pub pid: u32,
    /// Exit code, if it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

/// A signal to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Please end.
    Term,
    /// End.
    Kill,
    /// Stand still.
    Stop,
    /// Go on.
    Continue,
}

/// Starts a container. Its end is told through `ended`.
///
/// Should the sandbox die, the kernel tells the container to end: nothing stays behind.
///
/// # Errors
/// When the program cannot be started or its log cannot be opened.
pub fn start(start: Start, ended: mpsc::UnboundedSender<Ended>) -> io::Result<u32> {
    if let Some(folder) = start.log.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&start.log)?;
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "--"])
        .args(&start.argv)
        .envs(&start.env)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()?;
    let pid = child.id().ok_or_else(|| io::Error::other("the process ended at once"))?;
    tokio::spawn(async move {
        let (code, signal) = match child.wait().await {
            Ok(status) => (status.code(), status.signal()),
            Err(error) => {
                tracing::error!(%error, pid, "a container's end cannot be awaited");
                (None, None)
            }
        };
        // Nobody listens any more when the sandbox ends.
        let _ = ended.send(Ended { pod: start.pod, container: start.container, pid, code, signal });
    });
    Ok(pid)
}

/// Sends a signal to a process; one that has ended is not an error.
pub fn signal(pid: u32, signal: Signal) {
    let Some(target) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else {
        return;
    };
    let number = match signal {
        Signal::Term => rustix::process::Signal::TERM,
        Signal::Kill => rustix::process::Signal::KILL,
        Signal::Stop => rustix::process::Signal::STOP,
        Signal::Continue => rustix::process::Signal::CONT,
    };
    if let Err(error) = rustix::process::kill_process(target, number) {
        tracing::debug!(%error, pid, "no signal was sent");
    }
}

/// Whether a process runs: one that has ended and was not waited for does not.
pub fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z')))
}

/// The databases among the processes that a launcher has started: the rest are tools.
pub fn databases(launcher: u32) -> Vec<u32> {
    let is_database = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains("CassandraDaemon"))
    };
    children(launcher).into_iter().filter(is_database).collect()
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|p| p.parse().ok())
        .chain(
            // Threads of the launcher start children too.
            std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().flat_map(|task| {
                let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
                text.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<u32>>()
            }),
        )
        .collect::<BTreeSet<u32>>()
        .into_iter()
        .collect()
}

/// Resolves a container's variables and arguments as a kubelet does: `fieldRef`s from the pod, `$(NAME)` from the
/// variables.
pub fn resolve(
    pod: &Value,
    container: &Value,
    address: &str,
    given: &BTreeMap<String, String>,
) -> (Vec<String>, BTreeMap<String, String>) {
    let mut env = given.clone();
    for entry in container["env"].as_array().into_iter().flatten() {
        let Some(name) = entry["name"].as_str() else {
            continue;
        };
        let value = match entry["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("metadata.name") => pod["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            Some("metadata.namespace") => pod["metadata"]["namespace"].as_str().unwrap_or_default().to_owned(),
            Some("metadata.uid") => pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
            Some("status.podIP") => address.to_owned(),
            Some(other) => {
                tracing::warn!(field = other, "a field that the sandbox does not resolve");
                String::new()
            }
            None => expand(entry["value"].as_str().unwrap_or_default(), &env),
        };
        env.insert(name.to_owned(), value);
    }
    let mut argv = Vec::new();
    for part in ["command", "args"] {
        for text in container[part].as_array().into_iter().flatten() {
            argv.push(expand(text.as_str().unwrap_or_default(), &env));
        }
    }
    (argv, env)
}

fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("$(") {
        out.push_str(&rest[..at]);
        let after = &rest[at + 2..];
        match after.find(')') {
            Some(end) => {
                match env.get(&after[..end]) {
                    Some(value) => out.push_str(value),
                    // As a kubelet: what it does not know stays as it is.
                    None => out.push_str(&rest[at..at + 3 + end]),
                }
                rest = &after[end + 1..];
            }
            None => {
                out.push_str(&rest[at..]);
                rest = "";
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_as_a_kubelet_does() {
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        assert_eq!(expand("x$(A)y$(B)$(", &env), "x1y$(B)$(");
    }
}
