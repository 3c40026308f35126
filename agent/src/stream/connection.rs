//! One proven connection: reads frames, writes frames, and notices silence.

use super::frame::{self, Kind, Opening, Sealing};
use super::handshake::Proven;
use super::settings::StreamSettings;
use super::traffic::Traffic;
use crate::gossip::Cut;
use crate::machine::ByteStream;
use protocol::id::PilotId;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The other end closed or reset it.
    Closed,
    /// Nothing was heard, or nothing could be written, for the time allowed.
    Silent,
    /// The other end broke the protocol.
    Broken,
}

/// What a connection tells the hub.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) from: PilotId,
    pub(super) bytes: Vec<u8>,
}

/// Runs until the connection ends. Dropping the queue's sender closes it in order: what is queued is still sent, and
/// what the other end still sends is still read.
pub(super) async fn run(
    proven: Proven<impl ByteStream>,
    settings: StreamSettings,
    queue: mpsc::Receiver<Vec<u8>>,
    cut: watch::Receiver<Cut>,
    heard: mpsc::Sender<Heard>,
    traffic: Arc<Traffic>,
) -> End {
    let (reading, writing) = proven.stream.into_split();
    let peer = proven.peer.id;
    tokio::select! {
        end = read(reading, proven.wire.opening, &peer, settings.silence, &cut, heard, &traffic) => end,
        end = write(writing, proven.wire.sealing, &peer, settings, queue, cut.clone(), &traffic) => end,
    }
}

async fn read(
    mut stream: impl AsyncRead + Unpin,
    mut opening: Opening,
    peer: &PilotId,
    silence: Duration,
    cut: &watch::Receiver<Cut>,
    heard: mpsc::Sender<Heard>,
    traffic: &Traffic,
) -> End {
    let mut deadline = Instant::now() + silence;
    loop {
        let frame = match timeout_at(deadline, frame::read(&mut stream)).await {
            Ok(Ok(Some(frame))) => frame,
            Ok(Ok(None)) => return End::Broken,
            Ok(Err(error)) => return end_of(&error),
            Err(_) => return End::Silent,
        };
        traffic.received(frame::LENGTH + frame.len());
        let Ok(Some((kind, bytes))) = opening.open(&frame) else {
            return End::Broken;
        };
        if cut.borrow().hides(peer.name.as_str()) {
            // As if it had been lost on the way: the deadline stays where it was.
            continue;
        }
        match kind {
            Kind::Ping => {}
            Kind::Message => {
                let from = peer.clone();
                if heard.send(Heard { from, bytes }).await.is_err() {
                    return End::Closed;
                }
            }
        }
        // Counted from now: while the hub was busy nothing could be read, and that is not the peer's silence.
        deadline = Instant::now() + silence;
    }
}

async fn write(
    mut stream: impl AsyncWrite + Unpin,
    mut sealing: Sealing,
    peer: &PilotId,
    settings: StreamSettings,
    mut queue: mpsc::Receiver<Vec<u8>>,
    cut: watch::Receiver<Cut>,
    traffic: &Traffic,
) -> End {
    loop {
        let (kind, bytes) = match tokio::time::timeout(settings.ping, queue.recv()).await {
            Ok(Some(bytes)) => (Kind::Message, bytes),
            Err(_) => (Kind::Ping, Vec::new()),
            Ok(None) => {
                // The reader sees whether this could be told.
                let _ = stream.shutdown().await;
                std::future::pending::<()>().await;
                return End::Closed;
            }
        };
        if cut.borrow().hides(peer.name.as_str()) {
            continue;
        }
        let Ok(frame) = sealing.seal(kind, &bytes) else {
            return End::Broken;
        };
        match tokio::time::timeout(settings.silence, stream.write_all(&frame)).await {
            Ok(Ok(())) => traffic.sent(frame.len()),
            Ok(Err(error)) => return end_of(&error),
            Err(_) => return End::Silent,
        }
    }
}

fn end_of(error: &io::Error) -> End {
    use io::ErrorKind::{HostUnreachable, NetworkUnreachable, TimedOut};
    if [TimedOut, HostUnreachable, NetworkUnreachable].contains(&error.kind()) { End::Silent } else { End::Closed }
}
