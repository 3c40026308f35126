//! What clients and members say to a member, beside what tools do.

use super::disk::Row;
use super::ring::Entry;
use agent::driver::model::wire::{Answer, Operation};
use protocol::id::DatabaseIdentity;
use serde::{Deserialize, Serialize};

/// Everything that arrives on the port. The first form is that of the driver's
/// [`ToolRequest`](agent::driver::model::wire::ToolRequest).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Request {
    Tool(Operation),
    Client(ClientAsk),
    Peer(PeerCall),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reply {
    Tool(Answer),
    Client(ClientReply),
    Peer(PeerReply),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ClientAsk {
    /// Acknowledged when a quorum has it in its logs.
    Write { key: String, value: String },
    /// The newest a quorum has.
    Read { key: String },
    /// The keys that begin so, of one of `parts` parts of all rows, as a quorum of each has them.
    List { prefix: String, part: u64, parts: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ClientReply {
    Done,
    Value(Option<String>),
    Keys(Vec<String>),
    /// It is not known to be done, and why.
    Failed(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PeerCall {
    pub(super) cluster: String,
    /// Whom it is for: its address may be another's by now. `None` where only the address of a seed is known.
    pub(super) to: Option<DatabaseIdentity>,
    pub(super) ask: PeerAsk,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PeerAsk {
    /// What the sender knows of the ring; answered with what the sender does not know.
    Gossip(Vec<Entry>),
    /// Keep these rows, sent by a ring of this digest.
    Put {
        ring: u64,
        rows: Vec<Row>,
    },
    Get {
        ring: u64,
        key: String,
    },
    List {
        ring: u64,
        prefix: String,
        part: u64,
        parts: u64,
    },
    /// The next rows that a joining member will hold.
    Fetch {
        joiner: DatabaseIdentity,
        after: Option<String>,
    },
    /// Whether every write since it was announced went to the joining member too.
    Unbroken {
        joiner: DatabaseIdentity,
        generation: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PeerReply {
    Gossip(Vec<Entry>),
    Done,
    Row(Option<Row>),
    Keys(Vec<String>),
    /// Rows in order, and the bytes of those behind them.
    Page {
        rows: Vec<Row>,
        left: u64,
    },
    /// The receiver knows another ring: gossip first.
    OtherRing,
    Refused(String),
}
