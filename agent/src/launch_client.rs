//! The agent's side of the talk with the launcher: one connection, made again for life.

use crate::machine::{ByteStream, Host, Machine};
use protocol::launcher::{Ask, LONGEST_LINE, LauncherStatus, Line, Reply, Request};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// First pause before connecting again; doubled up to [`SLOWEST`].
const QUICKEST: Duration = Duration::from_millis(50);
/// Longest pause before connecting again: a launcher that comes back is found within it.
const SLOWEST: Duration = Duration::from_secs(1);
/// A launcher answers at once; only a tool takes its time.
const ANSWER: Duration = Duration::from_secs(10);
/// Events that wait for a slow agent; then the launcher's words wait too.
const WAITING: usize = 64;

/// What becomes known of the launcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LauncherEvent {
    /// Connected (again), and how things stand.
    Connected(LauncherStatus),
    /// Something changed.
    Changed(LauncherStatus),
    /// The connection ended. Says nothing about the database.
    Lost,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// There is no connection; the request was not sent.
    #[error("the launcher is not connected: nothing was asked, ask again when it is")]
    NotConnected,
    /// It cannot be sent; nothing was asked.
    #[error("the request cannot be sent: {0}")]
    NotSendable(String),
    /// The connection ended before the answer came.
    #[error(
        "the connection to the launcher ended before it answered: what was asked may have been done, look at its state"
    )]
    Lost,
    /// No answer in time.
    #[error("the launcher has not answered within {0:?}: what was asked may still be done, look at its state")]
    TimedOut(Duration),
}

/// Asks the launcher. Cheap to clone; the connection ends with the last one, or with the receiver of its events.
#[derive(Debug, Clone)]
pub struct LauncherClient {
    to: mpsc::Sender<Pending>,
}

#[derive(Debug)]
struct Pending {
    ask: Ask,
    answer: oneshot::Sender<Result<Reply, AskError>>,
}

impl LauncherClient {
    /// Connects in the background, and again for as long as a handle and the receiver live.
    ///
    /// The receiver must be read, or answers wait too: each connection begins with [`LauncherEvent::Connected`] and ends with
    /// [`LauncherEvent::Lost`].
    pub fn connect(socket: impl AsRef<Path>) -> (Self, mpsc::Receiver<LauncherEvent>) {
        Self::connect_on(Host, socket)
    }

    /// The same on another machine.
    pub fn connect_on(machine: impl Machine, socket: impl AsRef<Path>) -> (Self, mpsc::Receiver<LauncherEvent>) {
        let (to, asks) = mpsc::channel(WAITING);
        let (events, from) = mpsc::channel(WAITING);
        tokio::spawn(serve(machine, socket.as_ref().to_owned(), asks, events));
        (Self { to }, from)
    }

    /// Asks, and waits for the answer: 10 s, for a tool so much longer as it may run.
    ///
    /// # Errors
    /// When there is no connection or no answer; only after [`AskError::NotConnected`] and
    /// [`AskError::NotSendable`] is it certain that nothing was asked.
    pub async fn ask(&self, ask: Ask) -> Result<Reply, AskError> {
        let within = match &ask {
            Ask::Tool { timeout, .. } => ANSWER.saturating_add((*timeout).into()),
            Ask::Watch
            | Ask::Care(_)
            | Ask::Start { .. }
            | Ask::Stop
            | Ask::DrainAndStop
            | Ask::Leave { .. }
            | Ask::EndAfterLeave { .. }
            | Ask::Deadline { .. }
            | Ask::Restart => ANSWER,
        };
        let (answer, answered) = oneshot::channel();
        let asked = async {
            let pending = Pending { ask, answer };
            self.to.send(pending).await.map_err(|_| AskError::NotConnected)?;
            answered.await.unwrap_or(Err(AskError::Lost))
        };
        match tokio::time::timeout(within, asked).await {
            Ok(result) => result,
            Err(_) => Err(AskError::TimedOut(within)),
        }
    }
}

/// Why the whole client ends: nobody asks and nobody listens.
struct Unwanted;

async fn serve(
    machine: impl Machine,
    socket: PathBuf,
    mut asks: mpsc::Receiver<Pending>,
    events: mpsc::Sender<LauncherEvent>,
) {
    let mut pause = QUICKEST;
    loop {
        match machine.launcher(&socket).await {
            Ok(stream) => {
                let mut heard = false;
                if talk(stream, &mut asks, &events, &mut heard).await.is_err() {
                    return;
                }
                if heard {
                    pause = QUICKEST;
                    if events.send(LauncherEvent::Lost).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, socket = %socket.display(), "the launcher cannot be reached")
            }
        }
        let again = tokio::time::sleep(pause);
        tokio::pin!(again);
        loop {
            tokio::select! {
                () = &mut again => break,
                () = events.closed() => return,
                pending = asks.recv() => match pending {
                    // One that waits no longer needs no answer.
                    Some(pending) => { let _ = pending.answer.send(Err(AskError::NotConnected)); }
                    None => return,
                },
            }
        }
        pause = (pause * 2).min(SLOWEST);
    }
}

/// One connection, from its first word to its end.
async fn talk(
    stream: impl ByteStream,
    asks: &mut mpsc::Receiver<Pending>,
    events: &mpsc::Sender<LauncherEvent>,
    heard: &mut bool,
) -> Result<(), Unwanted> {
    let (read, mut write) = stream.into_split();
    // Reading has a task of its own: a line that is half read must not be lost to whatever else happens.
    let (to, mut lines) = mpsc::channel(WAITING);
    let reader = Reader(tokio::spawn(async move {
        let mut read = BufReader::new(read);
        loop {
            match next_line(&mut read).await {
                Ok(Some(line)) => {
                    if to.send(line).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "the launcher's words cannot be read");
                    return;
                }
            }
        }
    }));
    const WATCH: u64 = 0;
    let mut next = WATCH + 1;
    let mut waiting: BTreeMap<u64, oneshot::Sender<Result<Reply, AskError>>> = BTreeMap::new();
    match encode(WATCH, Ask::Watch) {
        Ok(line) if write.write_all(&line).await.is_ok() => {}
        Ok(_) | Err(_) => return Ok(()),
    }
    let result = loop {
        tokio::select! {
            line = lines.recv() => {
                let event = match line {
                    None => break Ok(()),
                    Some(Line::Reply { id: WATCH, reply: Reply::Status(status) }) => {
                        *heard = true;
                        LauncherEvent::Connected(status)
                    }
                    Some(Line::Reply { id, reply }) => {
                        if let Some(answer) = waiting.remove(&id) {
                            // One that waits no longer needs no answer.
                            let _ = answer.send(Ok(reply));
                        }
                        continue;
                    }
                    Some(Line::Changed(status)) => LauncherEvent::Changed(status),
                };
                if events.send(event).await.is_err() {
                    break Err(Unwanted);
                }
            }
            () = events.closed() => break Err(Unwanted),
            // Nothing is asked before the launcher has said how things stand.
            pending = asks.recv(), if *heard => match pending {
                Some(Pending { ask, answer }) => {
                    waiting.retain(|_, answer| !answer.is_closed());
                    let id = next;
                    next += 1;
                    let line = match encode(id, ask) {
                        Ok(line) => line,
                        Err(why) => {
                            let _ = answer.send(Err(why));
                            continue;
                        }
                    };
                    waiting.insert(id, answer);
                    if let Err(error) = write.write_all(&line).await {
                        tracing::debug!(%error, "the launcher takes no words");
                        break Ok(());
                    }
                }
                None => break Err(Unwanted),
            },
        }
    };
    drop(reader);
    for answer in waiting.into_values() {
        // One that waits no longer needs no answer.
        let _ = answer.send(Err(AskError::Lost));
    }
    result
}

/// Ends with its connection.
struct Reader(JoinHandle<()>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn encode(id: u64, ask: Ask) -> Result<Vec<u8>, AskError> {
    let mut line =
        serde_json::to_vec(&Request { id, ask }).map_err(|error| AskError::NotSendable(error.to_string()))?;
    if line.len() > LONGEST_LINE {
        return Err(AskError::NotSendable(format!("it has {} bytes, but may have {LONGEST_LINE}", line.len())));
    }
    line.push(b'\n');
    Ok(line)
}

/// The next line that is understood; words of a later launcher are passed over. `None` where the launcher has closed.
///
/// # Errors
/// When the connection breaks, or a line is cut off or longer than [`LONGEST_LINE`].
pub async fn next_line(read: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Line>> {
    let most = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX);
    loop {
        let mut line = Vec::new();
        if (&mut *read).take(most + 1).read_until(b'\n', &mut line).await? == 0 {
            return Ok(None);
        }
        if line.last() != Some(&b'\n') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a line was cut off or is longer than {LONGEST_LINE} bytes"),
            ));
        }
        match serde_json::from_slice(&line) {
            Ok(line) => return Ok(Some(line)),
            Err(error) => {
                tracing::warn!(%error, "the launcher said something that is not understood")
            }
        }
    }
}
