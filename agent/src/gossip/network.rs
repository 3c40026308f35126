//! The task that owns the socket, the seals and what is known of senders.

use super::counters::GossipCounters;
use super::cut::Cut;
use super::frame::LONGEST_DATAGRAM;
use super::seal::{Opener, SealError, Sealer};
use crate::keyring::SharedKeyRing;
use crate::machine::Datagrams;
use protocol::id::{ClusterId, Generation, PilotName};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};

/// Messages that wait for the gossip task; more are dropped.
const INBOX: usize = 64;
/// Messages that wait to be sent; more are dropped.
const OUTBOX: usize = 256;

/// A genuine message for the gossip task.
#[derive(Debug)]
pub(super) struct Inbound {
    /// Where its sender is reached, by its own word.
    pub(super) from: SocketAddr,
    /// Its bytes.
    pub(super) message: Vec<u8>,
}

enum Command {
    Attach { generation: Generation, inbox: mpsc::Sender<Inbound>, done: oneshot::Sender<Result<(), SealError>> },
    Send { to: SocketAddr, message: Vec<u8> },
    Cut(Cut),
}

/// Who this pilot is to its peers.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) cluster: ClusterId,
    pub(super) name: PilotName,
    pub(super) advertise: SocketAddr,
}

/// A handle on the network task; the task ends with the last one.
#[derive(Debug, Clone)]
pub(super) struct Network {
    commands: mpsc::Sender<Command>,
    facts: watch::Receiver<GossipCounters>,
}

impl Network {
    /// Runs a network over a socket that is bound already: it outlives every restart of the gossip task, and with it
    /// the replay windows and the floors of generations.
    pub(super) fn start(
        socket: impl Datagrams,
        identity: Identity,
        generation: Generation,
        ring: SharedKeyRing,
    ) -> Result<Self, SealError> {
        let (commands, inbox) = mpsc::channel(OUTBOX);
        let (facts_tx, facts) = watch::channel(GossipCounters::default());
        let task = Task {
            sealer: seal_as(&identity, generation)?,
            opener: Opener::new(identity.cluster.clone(), identity.name.clone(), generation),
            identity,
            ring,
            socket,
            cut: Cut::Nobody,
            inbox: None,
            facts: facts_tx,
        };
        tokio::spawn(task.run(inbox));
        Ok(Self { commands, facts })
    }

    /// Delivers to a new inbox from now on, and speaks as `generation`.
    pub(super) async fn attach(&self, generation: Generation) -> anyhow::Result<mpsc::Receiver<Inbound>> {
        let (inbox, messages) = mpsc::channel(INBOX);
        let (done, sealed) = oneshot::channel();
        self.commands
            .send(Command::Attach { generation, inbox, done })
            .await
            .map_err(|_| anyhow::anyhow!("the gossip network task ended"))?;
        sealed.await??;
        Ok(messages)
    }

    /// Sends a message, or drops it where too many wait already: gossip repeats itself.
    pub(super) fn send(&self, to: SocketAddr, message: Vec<u8>) -> bool {
        self.commands.try_send(Command::Send { to, message }).is_ok()
    }

    /// The task has ended: there is no gossip any more.
    pub(super) fn has_ended(&self) -> bool {
        self.commands.is_closed()
    }

    /// Cuts this pilot off, or joins it again.
    pub(super) async fn cut(&self, cut: Cut) {
        // A network that ended hears nobody anyway.
        let _ = self.commands.send(Command::Cut(cut)).await;
    }

    /// What was counted.
    pub(super) fn counters(&self) -> GossipCounters {
        *self.facts.borrow()
    }
}

fn seal_as(identity: &Identity, generation: Generation) -> Result<Sealer, SealError> {
    Sealer::new(identity.cluster.clone(), identity.name.clone(), generation, identity.advertise)
}

struct Task<S> {
    identity: Identity,
    ring: SharedKeyRing,
    socket: S,
    sealer: Sealer,
    opener: Opener,
    cut: Cut,
    inbox: Option<mpsc::Sender<Inbound>>,
    facts: watch::Sender<GossipCounters>,
}

/// The moment as tokio has it, so that a paused clock stands still here too.
fn moment() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl<S: Datagrams> Task<S> {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        // One byte more than a frame may have, so that a longer one is seen to be longer.
        let mut buffer = [0_u8; LONGEST_DATAGRAM + 1];
        let mut sweeps = tokio::time::interval(Duration::from_secs(1));
        sweeps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((length, source)) => self.receive(source, &buffer[..length]),
                    Err(_) => {
                        // Whatever the socket has against it, gossip goes on; the pause keeps a lasting error cheap.
                        self.opener.counters.receive_failed += 1;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                },
                command = commands.recv() => match command {
                    Some(Command::Send { to, message }) => self.send(to, &message),
                    Some(Command::Attach { generation, inbox, done }) => {
                        let sealed = seal_as(&self.identity, generation).map(|sealer| {
                            self.sealer = sealer;
                            self.opener.renew(generation);
                            self.inbox = Some(inbox);
                        });
                        // Whoever asked may be gone again.
                        let _ = done.send(sealed);
                    }
                    Some(Command::Cut(cut)) => self.cut = cut,
                    None => return,
                },
                _ = sweeps.tick() => self.opener.sweep(moment()),
            }
            self.facts.send_replace(self.opener.counters);
        }
    }

    fn receive(&mut self, source: SocketAddr, datagram: &[u8]) {
        let ring = self.ring.borrow().clone();
        let Some(opened) = self.opener.open(moment(), &ring, source, datagram) else {
            return;
        };
        if self.cut.hides(&opened.name) {
            self.opener.counters.cut += 1;
            return;
        }
        let (Some(message), Some(inbox)) = (opened.message, &self.inbox) else {
            return;
        };
        let inbound = Inbound { from: opened.address, message };
        match inbox.try_send(inbound) {
            Ok(()) => self.opener.counters.delivered += 1,
            Err(_) => self.opener.counters.inbox_full += 1,
        }
    }

    fn send(&mut self, to: SocketAddr, message: &[u8]) {
        let receiver = self.opener.name_at(to).map(str::to_owned);
        let hidden = match &receiver {
            Some(name) => self.cut.hides(name),
            None => self.cut.hides_strangers(),
        };
        if hidden {
            self.opener.counters.cut += 1;
            return;
        }
        let ring = self.ring.borrow().clone();
        let sealed = self.sealer.seal(&ring, receiver.as_deref(), message);
        let counters = &mut self.opener.counters;
        counters.longest_message = counters.longest_message.max(message.len() as u64);
        let datagrams = match sealed {
            Ok(datagrams) => datagrams,
            Err(_) => {
                counters.send_failed += 1;
                return;
            }
        };
        for datagram in datagrams {
            // Never waits: a full buffer loses a datagram, as any network may, and receiving goes on.
            match self.socket.try_send_to(&datagram, to) {
                Ok(length) => {
                    self.opener.counters.sent += 1;
                    self.opener.counters.sent_bytes += length as u64;
                }
                Err(_) => self.opener.counters.send_failed += 1,
            }
        }
        self.opener.expect(moment(), to);
    }
}
