//! How tools and the driver talk to the process: JSON behind its length, over TCP, on the port of everything.

use protocol::database::{Progress, RingMember};
use protocol::id::DatabaseIdentity;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest frame that is read, in bytes.
pub const LONGEST_FRAME: usize = 8 << 20;

/// What a tool sends. The process takes further kinds of requests on the same port: from clients and other members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToolRequest {
    /// A tool asks.
    Tool(Operation),
}

/// What the process answers to a [`ToolRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToolReply {
    /// The answer.
    Tool(Answer),
}

/// What a tool may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Who it is and what it sees; answered in every mode.
    Status,
    /// Take no more requests and tell the others. Answered when done; a second time at once.
    Drain,
    /// Begin to leave. Answered when begun, or when it is under way or done already.
    Leave,
    /// Bound what a join or leave moves, from now on.
    LimitStreaming {
        /// `None` lifts the bound.
        bytes_per_second: Option<u64>,
    },
    /// Keep so many copies of each row from now on: fewer than before, at least 1. To be told to every member, as those
    /// that disagree refuse each other's rows.
    LowerReplication(u32),
    /// Where the members are now.
    Seeds(Vec<IpAddr>),
}

/// The answers to tools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// What it sees.
    Status(Box<Status>),
    /// It is so.
    Done,
    /// It will not, and why.
    Refused(String),
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Looks for its seeds.
    Starting,
    /// Takes its part of the rows over.
    Joining,
    /// Serves.
    Normal,
    /// Hands its part over, and serves.
    Leaving,
    /// Has left: serves nothing.
    Left,
    /// Stops serving.
    Draining,
    /// Serves nothing until a restart.
    Drained,
}

/// What a process says of itself and of the ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What it does.
    pub mode: Mode,
    /// Its identity.
    pub identity: DatabaseIdentity,
    /// Counts its starts.
    pub generation: u64,
    /// The version of the program.
    pub version: String,
    /// The ring, itself included, in order of identity.
    pub ring: Vec<RingMember>,
    /// Copies of each row.
    pub replication: u32,
    /// What it moves now.
    pub streaming: Option<Progress>,
    /// Rows it holds.
    pub rows: u64,
    /// Bytes of them.
    pub load: u64,
    /// Why the last leave ended without having left.
    pub leave_failure: Option<String>,
}

/// A question that was not answered.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("nobody listens at {address} ({source}): start the member first")]
    Closed {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing came back in time.
    #[error("{address} did not answer within {} ms: it may be stopped or overloaded", within.as_millis())]
    Silent {
        /// Where.
        address: SocketAddr,
        /// The time it had.
        within: Duration,
    },
    /// The talk broke off.
    #[error("the talk with {address} broke off ({source}): the process may just have ended")]
    Broken {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Asks over a connection of its own.
///
/// # Errors
/// When no answer came.
pub async fn ask(address: SocketAddr, operation: &Operation, within: Duration) -> Result<Answer, AskError> {
    let talk = async {
        let mut stream = TcpStream::connect(address).await.map_err(|source| AskError::Closed { address, source })?;
        ask_on(&mut stream, operation).await.map_err(|source| AskError::Broken { address, source })
    };
    timeout(within, talk).await.unwrap_or(Err(AskError::Silent { address, within }))
}

/// Asks over a connection that is there.
///
/// # Errors
/// When it broke, or said something else than an answer.
pub async fn ask_on(stream: &mut TcpStream, operation: &Operation) -> io::Result<Answer> {
    write_frame(stream, &ToolRequest::Tool(operation.clone())).await?;
    match read_frame(stream).await? {
        Some(ToolReply::Tool(answer)) => Ok(answer),
        None => Err(ErrorKind::UnexpectedEof.into()),
    }
}

/// Writes one value.
///
/// # Errors
/// When the stream does, or the value is longer than [`LONGEST_FRAME`].
pub async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), value: &impl Serialize) -> io::Result<()> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, value)?;
    let length = frame.len() - 4;
    if length > LONGEST_FRAME {
        return Err(too_long(length));
    }
    let prefix = u32::try_from(length).map_err(|_| too_long(length))?;
    frame[..4].copy_from_slice(&prefix.to_be_bytes());
    stream.write_all(&frame).await
}

/// Reads one value; `None` where the stream ended before it.
///
/// # Errors
/// When the stream does, or what came is too long or not the value wanted.
pub async fn read_frame<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<T>> {
    let mut prefix = [0; 4];
    match stream.read_exact(&mut prefix).await {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if length > LONGEST_FRAME {
        return Err(too_long(length));
    }
    // Memory for what has come, not for what is announced.
    let mut frame = Vec::new();
    stream.take(u64::from(u32::from_be_bytes(prefix))).read_to_end(&mut frame).await?;
    if frame.len() < length {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&frame).map(Some).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

fn too_long(length: usize) -> io::Error {
    let message = format!("a frame has {length} bytes but may have {LONGEST_FRAME}: send less at a time");
    io::Error::new(ErrorKind::InvalidData, message)
}
