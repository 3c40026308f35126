//! Serf's agents on the same machine, for comparison: a well-tried detector (SWIM) with its settings for a local net.

use super::figures::{Figure, Load, Subject};
use super::mesh::BenchError;
use super::process;
use crate::sandbox::process::{Signal, signal};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// Agents know each other within this.
const JOINED: Duration = Duration::from_secs(60);
/// A notice that has not come within this is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Quiet before a fault.
const QUIET: Duration = Duration::from_secs(5);
/// The second octet of their addresses: beyond those that sandboxes take.
const OCTET: u8 = 79;

/// Finds serf: the file given, or on the search path.
pub(super) fn find(given: Option<&Path>) -> Option<PathBuf> {
    let found = |path: PathBuf| path.is_file().then_some(path);
    match given {
        Some(path) => found(path.to_owned()),
        None => std::env::split_paths(&std::env::var_os("PATH")?).find_map(|folder| found(folder.join("serf"))),
    }
}

struct Agent {
    /// Killed when it is dropped.
    child: Child,
    pid: u32,
}

/// A line that an agent wrote.
struct Line {
    by: usize,
    text: String,
    at: Instant,
}

fn name(number: usize) -> String {
    format!("serf-{number}")
}

fn start(program: &Path, number: usize, lines: &mpsc::UnboundedSender<Line>) -> Result<Agent, BenchError> {
    let failed = |source| BenchError::System { doing: "start serf", source };
    let address = |number: usize| format!("127.{OCTET}.0.{}", number + 2);
    // Should this program die, the kernel ends the agents.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(["agent", "-profile=lan", "-log-level=info"]);
    command.arg(format!("-node={}", name(number))).arg(format!("-bind={}:7946", address(number)));
    command.arg(format!("-rpc-addr={}:7373", address(number)));
    if number > 0 {
        command.arg(format!("-retry-join={}:7946", address(0))).arg("-retry-interval=1s");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let pid = child.id().ok_or_else(|| failed(std::io::Error::other("it ended at once")))?;
    if let Some(out) = child.stdout.take() {
        tokio::spawn(read(out, number, lines.clone()));
    }
    if let Some(err) = child.stderr.take() {
        tokio::spawn(read(err, number, lines.clone()));
    }
    Ok(Agent { child, pid })
}

async fn read(from: impl AsyncRead + Unpin, by: usize, to: mpsc::UnboundedSender<Line>) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(text)) = lines.next_line().await {
        if to.send(Line { by, text, at: Instant::now() }).is_err() {
            return;
        }
    }
}

/// Waits until so many agents have each told an event of this kind about these many others. Returns the last moment.
async fn until(
    lines: &mut mpsc::UnboundedReceiver<Line>,
    event: &str,
    about: Option<&str>,
    by: usize,
    each: usize,
    within: Duration,
) -> Option<Instant> {
    let mut told = std::collections::BTreeMap::<usize, usize>::new();
    let work = async {
        while let Some(line) = lines.recv().await {
            let matches = line.text.contains(event) && about.is_none_or(|name| line.text.contains(&format!("{name} ")));
            if matches {
                *told.entry(line.by).or_default() += 1;
                if told.values().filter(|n| **n >= each).count() >= by {
                    return Some(line.at);
                }
            }
        }
        None
    };
    tokio::time::timeout(within, work).await.ok().flatten()
}

/// The same measurements as of the pilots, where serf has something to measure.
pub(super) async fn measure(
    program: &Path,
    size: usize,
    window: Duration,
    repeat: usize,
) -> Result<Vec<Figure>, BenchError> {
    let (to, mut lines) = mpsc::unbounded_channel();
    let mut agents = Vec::new();
    for number in 0..size {
        agents.push(start(program, number, &to)?);
    }
    let figure = |what: &str, unit: &'static str, load: Load| Figure {
        subject: Subject::Serf,
        pilots: size,
        what: what.to_owned(),
        unit,
        samples: Vec::new(),
        given_up: 0,
        aim: None,
        load,
    };
    // Each agent tells of its own joining too.
    if until(&mut lines, "EventMemberJoin", None, size, size, JOINED).await.is_none() {
        return Err(BenchError::Ended(format!("{size} serf agents did not find each other within {JOINED:?}")));
    }
    tokio::time::sleep(QUIET).await;
    let load = Load::begin();
    let look = |agents: &[Agent]| agents.iter().map(|a| process::look(a.pid)).collect::<Vec<_>>();
    let (before, begun) = (look(&agents), Instant::now());
    tokio::time::sleep(window).await;
    let (after, span) = (look(&agents), begun.elapsed().as_secs_f64());
    let mut memory = figure("agent's memory, resident", "MB", load.end());
    memory.samples = after.iter().flatten().map(|u| u.resident).collect();
    let mut cpu = figure("agent's processor time", "% of a core", load.end());
    cpu.samples = before
        .iter()
        .zip(&after)
        .filter_map(|(a, b)| Some((b.as_ref()?.cpu - a.as_ref()?.cpu) / span * 100.0))
        .collect();
    let mut figures = vec![memory, cpu];
    for (what, fault) in [("SIGSTOP to the last notice", Signal::Stop), ("SIGKILL to the last notice", Signal::Kill)] {
        let mut notice = figure(what, "s", Load::begin());
        for round in 0..repeat {
            // Never the first: the others join through it.
            let victim = 1 + round % (size - 1);
            let Some(agent) = agents.get_mut(victim) else {
                continue;
            };
            tokio::time::sleep(QUIET).await;
            while lines.try_recv().is_ok() {}
            let begun = Instant::now();
            signal(agent.pid, fault);
            let failed = until(&mut lines, "EventMemberFailed", Some(&name(victim)), size - 1, 1, PATIENCE).await;
            match failed {
                Some(at) => notice.samples.push(at.saturating_duration_since(begun).as_secs_f64()),
                None => notice.given_up += 1,
            }
            if fault == Signal::Kill {
                // Reaped before its address is taken again.
                agent.child.wait().await.map_err(|source| BenchError::System { doing: "await serf's end", source })?;
                *agent = start(program, victim, &to)?;
            } else {
                signal(agent.pid, Signal::Continue);
            }
            let back = until(&mut lines, "EventMemberJoin", Some(&name(victim)), size - 1, 1, JOINED).await;
            if back.is_none() {
                return Err(BenchError::Ended(format!("{} did not come back within {JOINED:?}", name(victim))));
            }
        }
        notice.load = notice.load.end();
        figures.push(notice);
    }
    for mut agent in agents {
        agent.child.kill().await.map_err(|source| BenchError::System { doing: "end serf", source })?;
    }
    Ok(figures)
}
