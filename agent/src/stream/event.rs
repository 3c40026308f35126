//! What streams tell, and count.

use protocol::id::{Generation, PilotId, PilotName};
use serde::Serialize;

/// What happened to the streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEvent {
    /// The first stream with this life of a pilot stands.
    Up {
        /// The pilot.
        peer: PilotName,
        /// Its life.
        generation: Generation,
    },
    /// It said something.
    Message {
        /// The pilot.
        peer: PilotName,
        /// Its life.
        generation: Generation,
        /// What it said.
        bytes: Vec<u8>,
    },
    /// The last stream with this life of a pilot is gone.
    Ended {
        /// The pilot.
        peer: PilotName,
        /// Its life.
        generation: Generation,
        /// What is known about why.
        evidence: Evidence,
    },
}

/// What the end of a stream says about the pilot's process. It says nothing of the database beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// Closed or reset, and its address refuses a new connection: the process has ended.
    ProcessEnded,
    /// Nothing was heard for the time allowed: the process or the network stands still.
    Silent,
    /// Closed, and its address does not answer.
    Unreachable,
    /// Closed, and its address accepts connections: the process runs, or another one in its place.
    Closed,
    /// A later life of the pilot has a stream: this one is over.
    Superseded,
}

/// Counts since the start, and sizes as they are now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StreamCounters {
    /// Messages sent.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
    /// Frames sent, pings included.
    pub sent_frames: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames received, pings included.
    pub received_frames: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Messages dropped because there is no stream to their receiver.
    pub no_stream: u64,
    /// Messages dropped because the receiver's queue is full.
    pub queue_full: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that did not prove themselves.
    pub unproven: u64,
    /// Connections closed unread because too many had not proved themselves yet.
    pub turned_away: u64,
    /// Connections dialled in vain.
    pub dial_failed: u64,
    /// Addresses at which another pilot answered than expected.
    pub wrong_peer: u64,
    /// Proven connections of an earlier life than the one known.
    pub stale_generation: u64,
    /// Streams ended for breaking the protocol: too long a frame, or one that fails authentication.
    pub broken: u64,
    /// Streams closed because the same pilots had another.
    pub doubled: u64,
    /// Connections dropped by a cut made on purpose.
    pub cut: u64,
    /// Connections not proven now.
    pub now_unproven: u64,
    /// Streams now.
    pub now_streams: u64,
}

/// Why a message was not even queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendRefused {
    /// Too long.
    #[error("a stream message of {found} bytes is longer than {}: split it", super::LONGEST_MESSAGE)]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// Too many wait already.
    #[error("too many stream messages wait to be sent: try again")]
    Busy,
    /// The streams have ended.
    #[error("the streams have ended: the pilot is stopping")]
    Ended,
}

pub(super) fn ended(peer: &PilotId, evidence: Evidence) -> StreamEvent {
    StreamEvent::Ended { peer: peer.name.clone(), generation: peer.generation, evidence }
}
