//! What the gossip layer counts instead of logging every packet.

use serde::Serialize;

/// Counts since the pilot's start, and a few sizes as they are now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct GossipCounters {
    /// Genuine datagrams taken.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Messages handed to the gossip task.
    pub delivered: u64,
    /// The longest message sent so far, in bytes; 65,507 is the ceiling.
    pub longest_message: u64,
    /// Datagrams that are no frame of ours.
    pub malformed: u64,
    /// Datagrams under a key the ring does not hold.
    pub unknown_key: u64,
    /// Datagrams that fail authentication: forged, altered, of another cluster or for another receiver.
    pub forged: u64,
    /// Genuine datagrams seen before, or too old to tell.
    pub replayed: u64,
    /// Datagrams of an earlier life of their sender.
    pub stale_generation: u64,
    /// Genuine datagrams of a second process in the same life: a generation was repeated.
    pub twin: u64,
    /// Datagrams under the pilot's own name and life.
    pub reflected: u64,
    /// Datagrams of strangers dropped unread while forgeries exceed their budget.
    pub over_budget: u64,
    /// Chunks dropped because too much waits for its missing pieces, and messages given up incomplete.
    pub incomplete: u64,
    /// Messages dropped because the gossip task did not keep up.
    pub inbox_full: u64,
    /// Datagrams the socket refused to send.
    pub send_failed: u64,
    /// Errors of the socket while receiving.
    pub receive_failed: u64,
    /// Datagrams dropped by a cut made on purpose.
    pub cut: u64,
    /// Genuine messages that the gossip protocol could not decode, or that its codec lost.
    pub undecodable: u64,
    /// Datagrams at the codec from somebody else on the loopback.
    pub foreign: u64,
    /// Senders held now.
    pub senders: u64,
    /// Bytes of incomplete messages held now.
    pub waiting_bytes: u64,
}
