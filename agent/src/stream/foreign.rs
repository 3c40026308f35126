//! The doors through which bytes of others come into a stream, each by itself: for whoever tries them with any bytes.
//!
//! Nothing here is another way to speak; it is what [`super::Streams`] uses, over any connection.

use super::frame::{self, Kind};
use super::handshake::{self, Hello, Proven};
use crate::keyring::KeyRing;
use protocol::id::{ClusterId, PilotId};
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};

/// What one end says of itself in the handshake, as bytes.
pub fn write_hello(id: &PilotId, address: SocketAddr) -> Vec<u8> {
    Hello { id: id.clone(), address }.encode()
}

/// Reads what [`write_hello`] wrote; `None` for anything else.
pub fn read_hello(bytes: &[u8]) -> Option<(PilotId, SocketAddr)> {
    Hello::decode(bytes).map(|hello| (hello.id, hello.address))
}

/// Proves the ends of a connection to each other, as the dialler or as the accepter. `None` where the other end proves
/// nothing.
pub async fn prove<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    dials: bool,
    ring: &KeyRing,
    cluster: &ClusterId,
    own: (&PilotId, SocketAddr),
) -> Option<Talk<S>> {
    let own = Hello { id: own.0.clone(), address: own.1 };
    let proven = match dials {
        true => handshake::dial(stream, ring, cluster, &own).await,
        false => handshake::accept(stream, ring, cluster, &own).await,
    };
    proven.ok().map(Talk)
}

/// A connection whose other end is proven.
pub struct Talk<S>(Proven<S>);

impl<S: AsyncRead + Unpin> Talk<S> {
    /// Who the other end says it is, and where it accepts streams.
    pub fn peer(&self) -> (&PilotId, SocketAddr) {
        (&self.0.peer.id, self.0.peer.address)
    }

    /// The connection itself.
    pub fn stream(&mut self) -> &mut S {
        &mut self.0.stream
    }

    /// A frame of this content, kind and all.
    ///
    /// # Errors
    /// When it is longer than a frame can be.
    pub fn seal(&mut self, content: &[u8]) -> Result<Vec<u8>, snow::Error> {
        self.0.wire.sealing.seal_plain(content)
    }

    /// The next frame: the message in it, or `Some(None)` for one that only shows that the other end lives. `None` where
    /// the stream would be closed.
    pub async fn hear(&mut self) -> Option<Option<Vec<u8>>> {
        let frame = frame::read(&mut self.0.stream).await.ok()??;
        match self.0.wire.opening.open(&frame).ok()?? {
            (Kind::Ping, _) => Some(None),
            (Kind::Message, bytes) => Some(Some(bytes)),
        }
    }
}
