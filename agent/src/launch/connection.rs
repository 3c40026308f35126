//! One agent's connection: lines in, lines out. Decides nothing.

use super::machine::Client;
use super::wire::{Heard, hear};
use protocol::launcher::LONGEST_LINE;
use std::io;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Lines that wait for a slow agent; one that lets more wait is cut off, and learns all when it comes back.
const WAITING: usize = 64;

/// What a connection tells the launcher.
pub(super) enum FromClient {
    /// A line that can be answered.
    Heard(Client, Heard),
    /// It is closed, and why where the agent is to blame.
    Closed(Client, Option<String>),
}

/// The launcher's end of a connection. Dropping it sends what waits and closes it.
pub(super) struct Connection {
    lines: mpsc::Sender<Vec<u8>>,
    pub(super) writer: JoinHandle<()>,
    reader: JoinHandle<()>,
}

impl Connection {
    /// Serves a new connection.
    pub(super) fn serve(client: Client, stream: UnixStream, to: mpsc::Sender<FromClient>) -> Self {
        let (read, mut write) = stream.into_split();
        let (lines, mut waiting) = mpsc::channel::<Vec<u8>>(WAITING);
        let writer = tokio::spawn(async move {
            while let Some(line) = waiting.recv().await {
                if write.write_all(&line).await.is_err() {
                    // The reader notices the same end, and says so.
                    break;
                }
            }
        });
        let reader = tokio::spawn(async move {
            let why = read_lines(client, read, &to).await.err();
            // Where the launcher itself has ended nobody is left to be told.
            let _ = to.send(FromClient::Closed(client, why.map(|why| why.to_string()))).await;
        });
        Self { lines, writer, reader }
    }

    /// Sends a line; `false` where the agent does not take them.
    pub(super) fn send(&self, line: Vec<u8>) -> bool {
        self.lines.try_send(line).is_ok()
    }

    /// Stops listening and gives the writer back, which ends when what waits is sent.
    pub(super) fn close(self) -> JoinHandle<()> {
        self.reader.abort();
        self.writer
    }
}

async fn read_lines(client: Client, read: OwnedReadHalf, to: &mpsc::Sender<FromClient>) -> io::Result<()> {
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let most = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX);
        let length = (&mut read).take(most + 1).read_until(b'\n', &mut line).await?;
        if length == 0 {
            return Ok(());
        }
        if line.pop() != Some(b'\n') {
            let why = match length > LONGEST_LINE {
                true => format!("a line is longer than {LONGEST_LINE} bytes"),
                false => "the last line has no end".to_owned(),
            };
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        match hear(&line) {
            Heard::Garbage(why) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            heard @ (Heard::Ask { .. } | Heard::Answer { .. }) => {
                if to.send(FromClient::Heard(client, heard)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}
