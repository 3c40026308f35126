//! Streams: one authenticated, encrypted TCP connection per pair of pilots, for promises, orders and evidence.
//!
//! One task owns all of them; [`StreamsHandle`] reaches it. Both pilots may dial: two streams of a pair are tolerated
//! for a while, then the one dialled by the greater name closes. A stream that ends says what it knows of the
//! *process* behind it ([`Evidence`]), which is often quicker than gossip's silence. It says nothing of a member.

mod connection;
mod event;
pub mod foreign;
mod frame;
mod handshake;
mod hub;
mod probe;
mod settings;
mod traffic;

#[cfg(test)]
mod tests;

pub use event::{Evidence, SendRefused, StreamCounters, StreamEvent};
pub use settings::{LONGEST_MESSAGE, StreamSettings};

use crate::gossip::{Cut, CutsNotAllowed};
use crate::keyring::SharedKeyRing;
use crate::machine::{Listener, Network, Sockets};
use handshake::Hello;
use hub::{Command, Hub};
use protocol::id::{ClusterId, PilotId, PilotName};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tokio::sync::{mpsc, watch};

/// What streams start from.
#[derive(Debug, Clone)]
pub struct StreamStart {
    /// The numbers.
    pub settings: StreamSettings,
    /// This pilot, in this life.
    pub own: PilotId,
    /// Where to listen (TCP); port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where peers reach this pilot; port 0 stands for the port listened on.
    pub advertise: SocketAddr,
    /// The cluster: pilots of another one get no stream.
    pub cluster: ClusterId,
    /// The mesh keys.
    pub ring: SharedKeyRing,
    /// Whether [`StreamsHandle::cut`] is obeyed: for fault tests only.
    pub allow_cuts: bool,
}

/// Streams could not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for streams on {listen}/tcp: {source}; free the port or choose another")]
pub struct StreamError {
    listen: SocketAddr,
    source: std::io::Error,
}

/// Starts streams.
#[derive(Debug)]
pub struct Streams;

impl Streams {
    /// Listens, and gives a handle and the events. Streams end when every handle, or the receiver, is dropped.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(start: StreamStart) -> Result<(StreamsHandle, mpsc::Receiver<StreamEvent>), StreamError> {
        Self::start_on(Sockets, start).await
    }

    /// The same over another network.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_on(
        network: impl Network,
        start: StreamStart,
    ) -> Result<(StreamsHandle, mpsc::Receiver<StreamEvent>), StreamError> {
        let failed = |source| StreamError { listen: start.listen, source };
        let listener = network.listen(start.listen).await.map_err(failed)?;
        let mut address = start.advertise;
        if address.port() == 0 {
            address.set_port(listener.local_addr().map_err(failed)?.port());
        }
        let own = Hello { id: start.own, address };
        let (events_tx, events) = mpsc::channel(1024);
        let (commands, commands_rx) = mpsc::channel(1024);
        let (facts_tx, facts) = watch::channel(StreamCounters::default());
        let hub = Hub::new(network, listener, own, start.cluster, start.ring, start.settings, events_tx, facts_tx);
        tokio::spawn(hub.run(commands_rx));
        let handle = StreamsHandle { commands, facts, address, allow_cuts: start.allow_cuts };
        Ok((handle, events))
    }
}

/// Reaches the streams; cheap to clone.
#[derive(Debug, Clone)]
pub struct StreamsHandle {
    commands: mpsc::Sender<Command>,
    facts: watch::Receiver<StreamCounters>,
    address: SocketAddr,
    allow_cuts: bool,
}

impl StreamsHandle {
    /// Where peers reach this pilot.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Dials these pilots at these addresses, again and again, and keeps the streams. Replaces those of before.
    ///
    /// # Errors
    /// When the streams have ended, or too much waits to be done.
    pub fn keep(&self, peers: BTreeMap<PilotName, SocketAddr>) -> Result<(), SendRefused> {
        self.ask(Command::Keep(peers))
    }

    /// Sends over whichever stream stands, dialled or accepted. Without one the message is dropped and counted:
    /// whoever needs an answer asks again.
    ///
    /// # Errors
    /// When the message is too long, the streams have ended, or too many messages wait.
    pub fn send(&self, to: &PilotName, bytes: Vec<u8>) -> Result<(), SendRefused> {
        if bytes.len() > LONGEST_MESSAGE {
            return Err(SendRefused::TooLong { found: bytes.len() });
        }
        self.ask(Command::Send { to: to.clone(), bytes })
    }

    /// Drops all traffic with some pilots, both ways, until told otherwise.
    ///
    /// # Errors
    /// When the streams were not started with cuts allowed.
    pub async fn cut(&self, cut: Cut) -> Result<(), CutsNotAllowed> {
        if !self.allow_cuts {
            return Err(CutsNotAllowed);
        }
        // Streams that ended carry nothing anyway.
        let _ = self.commands.send(Command::Cut(cut)).await;
        Ok(())
    }

    /// What was counted.
    pub fn counters(&self) -> StreamCounters {
        *self.facts.borrow()
    }

    fn ask(&self, command: Command) -> Result<(), SendRefused> {
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendRefused::Busy,
            mpsc::error::TrySendError::Closed(_) => SendRefused::Ended,
        })
    }
}
