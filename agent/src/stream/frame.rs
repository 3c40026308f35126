//! Frames of a proven stream: length 2 bytes, then a sealed kind byte and payload.

use super::settings::LONGEST_MESSAGE;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of the length in front of a frame.
pub(super) const LENGTH: usize = 2;
const TAG: usize = 16;
const LONGEST_FRAME: usize = 1 + LONGEST_MESSAGE + TAG;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ping,
    Message,
}

/// The two directions of a stream. Each numbers its frames: none can be dropped, repeated or reordered.
pub(super) struct Wire {
    pub(super) sealing: Sealing,
    pub(super) opening: Opening,
}

/// What is sent.
pub(super) struct Sealing {
    noise: Arc<snow::StatelessTransportState>,
    sent: u64,
}

/// What is received.
pub(super) struct Opening {
    noise: Arc<snow::StatelessTransportState>,
    received: u64,
}

impl Wire {
    pub(super) fn of(noise: snow::StatelessTransportState) -> Self {
        let noise = Arc::new(noise);
        Self { sealing: Sealing { noise: noise.clone(), sent: 0 }, opening: Opening { noise, received: 0 } }
    }
}

impl Sealing {
    /// The frame's bytes, length and all.
    pub(super) fn seal(&mut self, kind: Kind, payload: &[u8]) -> Result<Vec<u8>, snow::Error> {
        let mut plain = Vec::with_capacity(1 + payload.len());
        plain.push(match kind {
            Kind::Ping => 0,
            Kind::Message => 1,
        });
        plain.extend(payload);
        self.seal_plain(&plain)
    }

    /// The same of a content as it is, kind and all.
    pub(super) fn seal_plain(&mut self, plain: &[u8]) -> Result<Vec<u8>, snow::Error> {
        let mut out = vec![0; 2 + plain.len() + TAG];
        let length = self.noise.write_message(self.sent, plain, &mut out[2..])?;
        self.sent += 1;
        // The sender refuses messages above 60 kB.
        out[..2].copy_from_slice(&u16::try_from(length).map_err(|_| snow::Error::Input)?.to_be_bytes());
        Ok(out)
    }
}

impl Opening {
    /// The frame's content; `None` for a kind that does not exist.
    pub(super) fn open(&mut self, frame: &[u8]) -> Result<Option<(Kind, Vec<u8>)>, snow::Error> {
        let mut plain = vec![0; frame.len()];
        let length = self.noise.read_message(self.received, frame, &mut plain)?;
        self.received += 1;
        plain.truncate(length);
        let kind = match plain.first() {
            Some(0) => Kind::Ping,
            Some(1) => Kind::Message,
            Some(_) | None => return Ok(None),
        };
        plain.remove(0);
        Ok(Some((kind, plain)))
    }
}

/// Reads a frame; `None` if it is longer or shorter than a frame may be: nothing is allocated for it.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let length = usize::from(stream.read_u16().await?);
    if !(1 + TAG..=LONGEST_FRAME).contains(&length) {
        return Ok(None);
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    Ok(Some(frame))
}
