//! Starting, signalling and reaping processes. The launcher is the one place that waits for its children, so that as
//! PID 1 or subreaper it can take in orphans without losing the ends of its own.

use super::machine::{End, Job, Signal};
use protocol::launcher::Program;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, WaitStatus};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinHandle;

/// So much of a program's output is kept, in bytes.
const OUTPUT: usize = 64 * 1024;
/// After a program's end, so long for its output to arrive: its whole group has been killed, so it is there at once.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

/// All processes that the launcher has started and that have not ended.
pub(super) struct Children {
    running: BTreeMap<u32, Child>,
    /// Waits for any child, not only for its own.
    adopts: bool,
}

struct Child {
    job: Job,
    output: Option<Output>,
}

/// One that has ended and was reaped.
pub(super) struct Reaped {
    pub(super) job: Job,
    pub(super) pid: u32,
    pub(super) code: Option<i32>,
    pub(super) signal: Option<i32>,
    /// `None` where the output was passed through.
    pub(super) output: Option<Output>,
}

/// What a program prints, as it arrives.
pub(super) struct Output {
    stdout: Tail,
    stderr: Tail,
}

struct Tail {
    kept: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Children {
    pub(super) fn new(adopts: bool) -> Self {
        Self { running: BTreeMap::new(), adopts }
    }

    /// Starts a program in a process group of its own. With `keep`, its output is kept; else it is passed through.
    pub(super) fn spawn(&mut self, job: Job, program: &Program, keep: bool) -> io::Result<u32> {
        let Some((name, arguments)) = program.argv.split_first() else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the command is empty, but needs at least a program",
            ));
        };
        let stdio = || {
            if keep { Stdio::piped() } else { Stdio::inherit() }
        };
        let mut child = Command::new(name)
            .args(arguments)
            .envs(&program.env)
            .stdin(Stdio::null())
            .stdout(stdio())
            .stderr(stdio())
            .process_group(0)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
        let pid = child.id();
        let output = match (child.stdout.take(), child.stderr.take()) {
            (Some(stdout), Some(stderr)) => Some(Output {
                stdout: Tail::new(tokio::process::ChildStdout::from_std(stdout)?),
                stderr: Tail::new(tokio::process::ChildStderr::from_std(stderr)?),
            }),
            (None, None) | (Some(_), None) | (None, Some(_)) => None,
        };
        self.running.insert(pid, Child { job, output });
        Ok(pid)
    }

    /// Sends a signal to the whole group of a job; nothing where it has ended.
    pub(super) fn signal(&self, job: Job, signal: Signal) -> io::Result<()> {
        let Some((pid, _)) = self.running.iter().find(|(_, child)| child.job == job) else {
            return Ok(());
        };
        signal_group(*pid, signal)
    }

    /// Takes in all that has ended since. What is left of their groups is killed first, while their numbers are still
    /// theirs.
    pub(super) fn reap(&mut self) -> io::Result<Vec<Reaped>> {
        let mut reaped = Vec::new();
        let pids: Vec<u32> = self.running.keys().copied().collect();
        for pid in pids {
            let Some(id) = to_pid(pid) else { continue };
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if rustix::process::waitid(WaitId::Pid(id), look)?.is_none() {
                continue;
            }
            signal_group(pid, Signal::Kill)?;
            if let Some((_, status)) = rustix::process::waitpid(Some(id), WaitOptions::NOHANG)? {
                reaped.extend(self.forget(pid, status));
            }
        }
        while self.adopts {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let pid = u32::try_from(pid.as_raw_nonzero().get()).unwrap_or(0);
                    // Ours where it has ended since the look above.
                    reaped.extend(self.forget(pid, status));
                }
                Ok(None) | Err(rustix::io::Errno::CHILD) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(reaped)
    }

    fn forget(&mut self, pid: u32, status: WaitStatus) -> Option<Reaped> {
        let child = self.running.remove(&pid)?;
        Some(Reaped {
            job: child.job,
            pid,
            code: status.exit_status(),
            signal: status.terminating_signal(),
            output: child.output,
        })
    }

    /// Kills every group that is left.
    pub(super) fn kill_all(&self) -> io::Result<()> {
        self.running.keys().try_for_each(|pid| signal_group(*pid, Signal::Kill))
    }
}

impl Output {
    /// All that was printed, once the program has ended.
    pub(super) async fn into_end(self, code: Option<i32>, signal: Option<i32>) -> End {
        End {
            code,
            signal,
            out_of_memory: false,
            stdout: self.stdout.finish().await,
            stderr: self.stderr.finish().await,
        }
    }
}

impl Tail {
    fn new(mut from: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&kept);
        let reader = tokio::spawn(async move {
            let mut buffer = [0; 8192];
            // A read that fails ends the output just as its end does: the process is judged by its exit code.
            while let Ok(length @ 1..) = from.read(&mut buffer).await {
                let mut kept = into.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&buffer[..length]);
                if kept.len() > 2 * OUTPUT {
                    let surplus = kept.len() - OUTPUT;
                    kept.drain(..surplus);
                }
            }
        });
        Self { kept, reader }
    }

    async fn finish(self) -> String {
        let mut reader = self.reader;
        if tokio::time::timeout(OUTPUT_GRACE, &mut reader).await.is_err() {
            // Somebody outside of the group holds the pipe.
            reader.abort();
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let from = kept.len().saturating_sub(OUTPUT);
        String::from_utf8_lossy(&kept[from..]).into_owned()
    }
}

fn to_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// Sends a signal to a process group; one that is gone is none to be told.
pub(super) fn signal_group(pid: u32, signal: Signal) -> io::Result<()> {
    let Some(pid) = to_pid(pid) else {
        return Ok(());
    };
    let signal = match signal {
        Signal::Stop => rustix::process::Signal::TERM,
        Signal::Kill => rustix::process::Signal::KILL,
    };
    match rustix::process::kill_process_group(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether anything of this group is left.
pub(super) fn group_lives(pid: u32) -> bool {
    to_pid(pid).is_some_and(|pid| rustix::process::test_kill_process_group(pid).is_ok())
}
