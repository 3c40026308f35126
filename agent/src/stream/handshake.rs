//! Both ends prove that they hold the mesh key of the same cluster, and say who they are.
//!
//! ```text
//! dialler  → version 1 byte, fingerprint of the mesh key 4 bytes
//! dialler  → length 2 bytes, Noise message 1 with the dialler's hello
//! accepter → length 2 bytes, Noise message 2 with the accepter's hello
//! dialler  → an empty frame: only now does the accepter believe
//! ```
//! The pattern is NNpsk0: fresh keys on both sides, so that an earlier exchange is worthless, bound to the shared key
//! from the very first message, so that a stranger's first message is already refused. A replayed first message gets
//! an answer that only its true sender could use; no stream comes of it. The prologue is version, fingerprint and
//! cluster.

use super::frame::{self, Kind, Wire};
use crate::keyring::{Fingerprint, KeyRing, Purpose};
use protocol::id::{ClusterId, Generation, PilotId, PilotName};
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
const VERSION: u8 = 1;
/// The longest handshake message: a hello with the longest name, and Noise's own 48 bytes.
const LONGEST: usize = 256;

/// Who speaks: known only after the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) id: PilotId,
    /// Where it accepts streams.
    pub(super) address: SocketAddr,
}

impl Hello {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.id.generation.0.to_be_bytes().to_vec();
        match self.address.ip() {
            IpAddr::V4(ip) => {
                out.push(4);
                out.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(6);
                out.extend(ip.octets());
            }
        }
        out.extend(self.address.port().to_be_bytes());
        out.extend(self.id.name.as_str().bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (generation, rest) = bytes.split_first_chunk::<8>()?;
        let (ip, rest): (IpAddr, &[u8]) = match rest.split_first()? {
            (4, rest) => {
                let (ip, rest) = rest.split_first_chunk::<4>()?;
                ((*ip).into(), rest)
            }
            (6, rest) => {
                let (ip, rest) = rest.split_first_chunk::<16>()?;
                ((*ip).into(), rest)
            }
            _ => return None,
        };
        let (port, name) = rest.split_first_chunk::<2>()?;
        Some(Self {
            id: PilotId {
                name: PilotName::parse(std::str::from_utf8(name).ok()?).ok()?,
                generation: Generation(u64::from_be_bytes(*generation)),
            },
            address: SocketAddr::new(ip, u16::from_be_bytes(*port)),
        })
    }
}

/// A connection whose other end is proven.
pub(super) struct Proven<S> {
    pub(super) stream: S,
    pub(super) wire: Wire,
    pub(super) peer: Hello,
    pub(super) key: Fingerprint,
}

/// Why a connection did not prove itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("the other end does not hold the same mesh key and cluster: {0}")]
    Noise(#[from] snow::Error),
    #[error("the other end speaks another version or is no pilot")]
    NoPilot,
    #[error("the other end uses a mesh key that this key ring does not hold")]
    UnknownKey,
}

/// Proves a connection that this pilot dialled.
pub(super) async fn dial<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    ring: &KeyRing,
    cluster: &ClusterId,
    own: &Hello,
) -> Result<Proven<S>, HandshakeError> {
    let key = ring.primary();
    let fingerprint = key.fingerprint();
    let psk = key.derive(Purpose::Stream, &[cluster.as_str().as_bytes()]);
    let prologue = prologue(fingerprint, cluster);
    let mut noise = builder(&prologue, psk.bytes())?.build_initiator()?;
    let mut opening = vec![VERSION];
    opening.extend(fingerprint.0);
    opening.extend(handshake_message(&mut noise, &own.encode())?);
    stream.write_all(&opening).await?;
    let peer = read_hello(&mut stream, &mut noise).await?;
    let mut wire = Wire::of(noise.into_stateless_transport_mode()?);
    let empty = wire.sealing.seal(Kind::Ping, &[])?;
    stream.write_all(&empty).await?;
    Ok(Proven { stream, wire, peer, key: fingerprint })
}

/// Proves a connection that this pilot accepted.
pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    ring: &KeyRing,
    cluster: &ClusterId,
    own: &Hello,
) -> Result<Proven<S>, HandshakeError> {
    let mut opening = [0; 5];
    stream.read_exact(&mut opening).await?;
    let [version, key @ ..] = opening;
    if version != VERSION {
        return Err(HandshakeError::NoPilot);
    }
    let key = Fingerprint(key);
    let psk = ring.find(key).ok_or(HandshakeError::UnknownKey)?.derive(Purpose::Stream, &[cluster.as_str().as_bytes()]);
    let prologue = prologue(key, cluster);
    let mut noise = builder(&prologue, psk.bytes())?.build_responder()?;
    let peer = read_hello(&mut stream, &mut noise).await?;
    let answer = handshake_message(&mut noise, &own.encode())?;
    stream.write_all(&answer).await?;
    let mut wire = Wire::of(noise.into_stateless_transport_mode()?);
    let first = frame::read(&mut stream).await?.ok_or(HandshakeError::NoPilot)?;
    wire.opening.open(&first)?.ok_or(HandshakeError::NoPilot)?;
    Ok(Proven { stream, wire, peer, key })
}

fn builder<'a>(prologue: &'a [u8], psk: &'a [u8; 32]) -> Result<snow::Builder<'a>, snow::Error> {
    snow::Builder::new(PATTERN.parse()?).prologue(prologue)?.psk(0, psk)
}

fn prologue(key: Fingerprint, cluster: &ClusterId) -> Vec<u8> {
    let mut out = b"pilotmesh stream".to_vec();
    out.push(VERSION);
    out.extend(key.0);
    out.extend(cluster.as_str().bytes());
    out
}

fn handshake_message(noise: &mut snow::HandshakeState, payload: &[u8]) -> Result<Vec<u8>, snow::Error> {
    let mut out = vec![0; 2 + LONGEST];
    let length = noise.write_message(payload, &mut out[2..])?;
    // A hello is far below 64 kB.
    out[..2].copy_from_slice(&(length as u16).to_be_bytes());
    out.truncate(2 + length);
    Ok(out)
}

async fn read_hello(
    stream: &mut (impl AsyncRead + Unpin),
    noise: &mut snow::HandshakeState,
) -> Result<Hello, HandshakeError> {
    let length = usize::from(stream.read_u16().await?);
    if length > LONGEST {
        return Err(HandshakeError::NoPilot);
    }
    let mut message = [0; LONGEST];
    let message = message.get_mut(..length).ok_or(HandshakeError::NoPilot)?;
    stream.read_exact(message).await?;
    let mut payload = [0; LONGEST];
    let length = noise.read_message(message, &mut payload)?;
    payload.get(..length).and_then(Hello::decode).ok_or(HandshakeError::NoPilot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_has_these_bytes_and_reads_back() {
        let hello = Hello {
            id: PilotId { name: PilotName::parse("cass-0").expect("a name"), generation: Generation(258) },
            address: ([10, 0, 0, 1], 7000).into(),
        };
        let golden = b"\0\0\0\0\0\0\x01\x02\x04\x0a\0\0\x01\x1b\x58cass-0";
        assert_eq!(hello.encode(), golden);
        assert_eq!(Hello::decode(golden), Some(hello));
        for length in 0..golden.len() - 5 {
            assert_eq!(Hello::decode(&golden[..length]), None);
        }
    }
}
