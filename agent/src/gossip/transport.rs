//! chitchat's transport, sealed.
//!
//! chitchat 0.13 keeps the making and reading of its bytes to itself, so its own UDP transport serves as codec: a
//! socket of it on the loopback writes messages to a *tap* of ours, and reads what the tap feeds it. Between tap and
//! network everything is sealed. A feed is sent only after the message was proven genuine, and its decoding is waited
//! for before the next, so each message keeps its sender.
//!
//! The codec's port is on the loopback of the pod: other containers of the same pod can write to it, nobody else.
//! What they write is decoded and then dropped as foreign.

use super::network::{Inbound, Network};
use async_trait::async_trait;
use chitchat::ChitchatEnvelope;
use chitchat::transport::{RecvOutcome, SendOutcome, Socket, Transport, UdpTransport};
use protocol::id::Generation;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// How long the codec may take over one message. The loopback delivers at once; only what cannot be decoded waits.
const DECODING: Duration = Duration::from_millis(100);
/// The longest datagram of the codec.
const LONGEST: usize = 65_507;

/// Counts of the codec, shared with the view.
#[derive(Debug, Default)]
pub(super) struct CodecCounts {
    pub(super) undecodable: AtomicU64,
    pub(super) foreign: AtomicU64,
}

/// Makes chitchat's messages into bytes and back in place of chitchat's own codec: where a run must be the same twice, no
/// message may go through a socket of the system.
pub trait GossipCodec: Send + Sync {
    /// The bytes of a message.
    fn encode(&self, envelope: ChitchatEnvelope) -> Vec<u8>;

    /// The message of these bytes; none where they are of no message.
    fn decode(&self, message: &[u8]) -> Option<ChitchatEnvelope>;
}

/// Opens sealed sockets for one life of the pilot.
pub(super) struct SealedTransport {
    pub(super) network: Network,
    pub(super) local: SocketAddr,
    pub(super) generation: Generation,
    pub(super) counts: Arc<CodecCounts>,
    /// In place of chitchat's own.
    pub(super) codec: Option<Arc<dyn GossipCodec>>,
}

#[async_trait]
impl Transport for SealedTransport {
    async fn open(&self, _listen: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        if let Some(codec) = &self.codec {
            return Ok(Box::new(GivenCodecSocket {
                codec: codec.clone(),
                inbox: self.network.attach(self.generation).await?,
                network: self.network.clone(),
                local: self.local,
                counts: self.counts.clone(),
            }));
        }
        Ok(Box::new(SealedSocket {
            codec: Codec::open().await?,
            inbox: self.network.attach(self.generation).await?,
            network: self.network.clone(),
            local: self.local,
            counts: self.counts.clone(),
            feeding: Feeding::Nothing,
            sending: vec![0; LONGEST],
        }))
    }
}

/// chitchat's socket and our two taps; two, so that a message that comes late out of the codec is known to be late.
struct Codec {
    socket: Box<dyn Socket>,
    taps: [(UdpSocket, SocketAddr); 2],
    next: usize,
}

impl Codec {
    async fn open() -> anyhow::Result<Self> {
        let socket = UdpTransport.open(LOOPBACK).await?;
        let at = socket.local_addr()?;
        let taps = [tap(at).await?, tap(at).await?];
        Ok(Self { socket, taps, next: 0 })
    }
}

async fn tap(codec: SocketAddr) -> anyhow::Result<(UdpSocket, SocketAddr)> {
    let socket = UdpSocket::bind(LOOPBACK).await?;
    // Connected, so that it hears the codec and nobody else.
    socket.connect(codec).await?;
    let at = socket.local_addr()?;
    Ok((socket, at))
}

enum Feeding {
    Nothing,
    /// A message to be fed through the next tap.
    Next(Inbound),
    /// A message of `from` is in the codec, fed through this tap.
    Fed {
        from: SocketAddr,
        tap: usize,
        until: Instant,
    },
}

struct SealedSocket {
    codec: Codec,
    inbox: mpsc::Receiver<Inbound>,
    network: Network,
    local: SocketAddr,
    counts: Arc<CodecCounts>,
    feeding: Feeding,
    /// Where what the codec makes is put; one for all, because it is larger than a pilot needs for everything else.
    sending: Vec<u8>,
}

#[async_trait]
impl Socket for SealedSocket {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.local)
    }

    async fn send(&mut self, to: SocketAddr, envelope: ChitchatEnvelope) -> anyhow::Result<SendOutcome> {
        let (tap, at) = &self.codec.taps[0];
        let buffer = &mut self.sending;
        // Whatever a message before left behind is not this one.
        while tap.try_recv(buffer).is_ok() {}
        self.codec.socket.send(*at, envelope).await?;
        match tokio::time::timeout(DECODING, tap.recv(buffer)).await {
            Ok(received) => {
                let length = received?;
                self.network.send(to, buffer[..length].to_vec());
                Ok(SendOutcome { num_bytes_sent: length })
            }
            Err(_) => {
                self.counts.undecodable.fetch_add(1, Ordering::Relaxed);
                Ok(SendOutcome { num_bytes_sent: 0 })
            }
        }
    }

    /// Cancel-safe: between any two awaits the state says how far a message has come.
    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        loop {
            match std::mem::replace(&mut self.feeding, Feeding::Nothing) {
                Feeding::Nothing => {
                    let inbound = self.inbox.recv().await;
                    self.feeding =
                        Feeding::Next(inbound.ok_or_else(|| anyhow::anyhow!("the gossip network task ended"))?);
                }
                Feeding::Next(inbound) => {
                    let tap = self.codec.next;
                    // A datagram socket of the loopback is writable unless its peer's buffer is full; then it is lost.
                    match self.codec.taps[tap].0.try_send(&inbound.message) {
                        Ok(_) => {
                            self.codec.next = 1 - tap;
                            self.feeding = Feeding::Fed { from: inbound.from, tap, until: Instant::now() + DECODING };
                        }
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                            self.feeding = Feeding::Next(inbound);
                            self.codec.taps[tap].0.writable().await?;
                        }
                        Err(_) => {
                            self.counts.undecodable.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
                Feeding::Fed { from, tap, until } => {
                    self.feeding = Feeding::Fed { from, tap, until };
                    match tokio::time::timeout_at(until, self.codec.socket.recv()).await {
                        Ok(Ok(mut outcome)) if outcome.from_addr == self.codec.taps[tap].1 => {
                            self.feeding = Feeding::Nothing;
                            outcome.from_addr = from;
                            return Ok(outcome);
                        }
                        Ok(Ok(_)) => {
                            self.counts.foreign.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(Err(_)) => {
                            // A codec can be had anew at any time; gossip does not end for it.
                            self.counts.undecodable.fetch_add(1, Ordering::Relaxed);
                            self.feeding = Feeding::Nothing;
                            self.codec = Codec::open().await?;
                        }
                        Err(_) => {
                            self.counts.undecodable.fetch_add(1, Ordering::Relaxed);
                            self.feeding = Feeding::Nothing;
                        }
                    }
                }
            }
        }
    }
}

/// The socket where the codec was given.
struct GivenCodecSocket {
    codec: Arc<dyn GossipCodec>,
    inbox: mpsc::Receiver<Inbound>,
    network: Network,
    local: SocketAddr,
    counts: Arc<CodecCounts>,
}

#[async_trait]
impl Socket for GivenCodecSocket {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.local)
    }

    async fn send(&mut self, to: SocketAddr, envelope: ChitchatEnvelope) -> anyhow::Result<SendOutcome> {
        let message = self.codec.encode(envelope);
        let num_bytes_sent = message.len();
        self.network.send(to, message);
        Ok(SendOutcome { num_bytes_sent })
    }

    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        loop {
            let inbound = self.inbox.recv().await.ok_or_else(|| anyhow::anyhow!("the gossip network task ended"))?;
            match self.codec.decode(&inbound.message) {
                Some(envelope) => {
                    let num_bytes_received = inbound.message.len();
                    return Ok(RecvOutcome { from_addr: inbound.from, envelope, num_bytes_received });
                }
                None => {
                    self.counts.undecodable.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}
