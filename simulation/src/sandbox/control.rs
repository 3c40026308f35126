//! Words to a running sandbox, through a socket in its folder: one JSON line there, one back.

use super::show::events::PilotLine;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

/// The longest line taken.
const LONGEST: u64 = 64 << 10;
/// An answer takes at most so long: what is asked is done at once or not at all.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is asked of a running sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Order {
    /// Write the set's size.
    Scale {
        /// Pods.
        replicas: u32,
    },
    /// SIGKILL to the agent that coordinates.
    KillCoordinator,
    /// SIGKILL to a pod's database.
    KillDatabase {
        /// Which pod.
        pod: String,
    },
    /// SIGKILL to a pod's agent.
    KillPilot {
        /// Which pod.
        pod: String,
    },
    /// SIGSTOP to a pod's agent.
    Pause {
        /// Which pod.
        pod: String,
    },
    /// SIGCONT to a pod's agent.
    Resume {
        /// Which pod.
        pod: String,
    },
    /// Drop all gossip and streams of a pod's agent.
    Cut {
        /// Which pod.
        pod: String,
    },
    /// End every cut.
    Heal,
    /// Stop the Kubernetes API.
    ApiStop,
    /// Start it again.
    ApiStart,
    /// Tell how things stand.
    Status,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Done, in a sentence.
    Done(String),
    /// How things stand: for people, and for programs.
    Status {
        /// A screen of lines.
        text: String,
        /// The pilots.
        pilots: Vec<PilotLine>,
    },
    /// Not done: what was found, and what would help.
    Refused(String),
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("no sandbox runs in {dir}: start one with `sandbox up{flag}`", dir = dir.display())]
    NotRunning {
        /// The folder.
        dir: PathBuf,
        /// What must be added for a folder that is not the default.
        flag: String,
    },
    /// The talk broke off.
    #[error("the sandbox in {dir} did not answer ({source}): look at its log, {dir}/logs/sandbox.log", dir = dir.display())]
    Broken {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Asks the sandbox that runs in this folder. `flag` is what a user would have to add to `sandbox up` for this folder.
///
/// # Errors
/// When none runs there, or it does not answer.
pub fn ask(dir: &Path, socket: &Path, flag: &str, order: &Order) -> Result<Answer, ControlError> {
    let stream = UnixStream::connect(socket)
        .map_err(|_| ControlError::NotRunning { dir: dir.to_owned(), flag: flag.to_owned() })?;
    let talk = || -> io::Result<Answer> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        (&stream).write_all(&line)?;
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    };
    talk().map_err(|source| ControlError::Broken { dir: dir.to_owned(), source })
}

/// An order and where its answer goes.
pub type Asked = (Order, oneshot::Sender<Answer>);

/// Listens for orders until the receiver is dropped. The lock of the folder must be held: what lies at the socket's
/// place is from a sandbox that was killed.
///
/// # Errors
/// When the socket cannot be made.
pub fn listen(socket: &Path) -> io::Result<mpsc::Receiver<Asked>> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = tokio::net::UnixListener::bind(socket)?;
    let (to, orders) = mpsc::channel(8);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = to.closed() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(serve(stream, to.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "an order was not taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(orders)
}

async fn serve(stream: tokio::net::UnixStream, to: mpsc::Sender<Asked>) {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let reading = tokio::io::BufReader::new(read.take(LONGEST)).read_line(&mut line).await;
    let answer = match reading.map(|_| serde_json::from_str::<Order>(&line)) {
        Ok(Ok(order)) => {
            let (answer, answered) = oneshot::channel();
            match to.send((order, answer)).await {
                Ok(()) => answered.await.unwrap_or_else(|_| Answer::Refused("the sandbox is ending".to_owned())),
                Err(_) => Answer::Refused("the sandbox is ending".to_owned()),
            }
        }
        Ok(Err(error)) => Answer::Refused(format!("this is no order ({error}): is the sandbox of another version?")),
        Err(error) => Answer::Refused(format!("the order could not be read: {error}")),
    };
    let Ok(mut bytes) = serde_json::to_vec(&answer) else {
        return;
    };
    bytes.push(b'\n');
    if let Err(error) = write.write_all(&bytes).await {
        tracing::debug!(%error, "nobody waited for the answer");
    }
}
