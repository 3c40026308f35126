//! What a driver sees of its own database process and, through it, of the others.

use crate::id::{DatabaseIdentity, OperationId};
use crate::shared::Shared;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a member's life stands, as its own pilot sees it. Never proof for others: peers are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DatabasePhase {
    /// Nothing is known yet.
    Unknown,
    /// The process is kept from starting until it may.
    Held,
    /// The process runs but does not serve yet, and it is not known to join.
    Starting,
    /// It takes over its part of the data for the first time.
    Joining,
    /// It serves as a member.
    Serving,
    /// It hands its data over to the others for good.
    Leaving,
    /// It has left: the process may run, but serves nothing and must not start on this data again.
    Left,
    /// It takes no more writes and is about to stop.
    Draining,
    /// The process is alive and answers nothing for longer than it may.
    Unresponsive,
    /// The process is not running and is about to be started again.
    Restarting,
    /// The process died so often and so quickly that starting it is slowed down and reported.
    CrashLooping,
    /// The process is not running, as intended.
    Stopped,
    /// It began to take its part over and the taking broke off: it runs, owns nothing, and does not go on by itself.
    JoinFailed,
}

/// What one member's database says of one member of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RingStatus {
    /// It takes its part over and owns nothing yet.
    Joining,
    /// A full member.
    Normal,
    /// It hands its part over.
    Leaving,
    /// It has left for good.
    Left,
    /// It said that it stops, and means to return.
    Shutdown,
    /// The database gave a word that the driver does not know: neither healthy nor gone.
    Unknown,
}

/// One line of the ring as one database sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct RingMember {
    /// Whom it is about.
    pub identity: DatabaseIdentity,
    /// What it is.
    pub status: RingStatus,
    /// Whether its heartbeat grows; `None` where that cannot be told yet.
    pub up: Option<bool>,
}

impl RingMember {
    /// A ring as its readers take it: in order of identity, as they look identities up.
    pub fn in_order(mut ring: Vec<Self>) -> Shared<[Self]> {
        ring.sort_by(|a, b| a.identity.cmp(&b.identity));
        ring.into()
    }
}

/// How far a step that moves data has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// Bytes moved.
    pub done: u64,
    /// Bytes to move in all, as known now.
    pub total: u64,
}

/// The file system that holds the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Disk {
    /// Bytes in use.
    pub used: u64,
    /// Bytes in all.
    pub total: u64,
}

/// One look at the database process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseState {
    /// Where its life stands.
    pub phase: DatabasePhase,
    /// Its identity, once it has one.
    pub identity: Option<DatabaseIdentity>,
    /// The version that runs.
    pub version: Option<String>,
    /// The ring as it sees it, itself included, in order of identity; `None` where it cannot be asked.
    pub ring: Option<Shared<[RingMember]>>,
    /// Whether all members it sees have the same schema; `None` where it cannot be asked.
    pub schema_agreed: Option<bool>,
    /// The highest replication factor of any keyspace: with fewer members, data loses a replica. `None` is unknown, not zero.
    pub replication: Option<u32>,
    /// Data it moves now, if any.
    pub streaming: Option<Progress>,
    /// Bytes of data it holds.
    pub load: Option<u64>,
    /// Its file system.
    pub disk: Option<Disk>,
}

impl DatabaseState {
    /// Only a phase, nothing else known.
    pub fn bare(phase: DatabasePhase) -> Self {
        Self {
            phase,
            identity: None,
            version: None,
            ring: None,
            schema_agreed: None,
            replication: None,
            streaming: None,
            load: None,
            disk: None,
        }
    }
}

/// What lies on a volume before a process is started on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeState {
    /// Looked at, and no file of the database is there.
    Empty,
    /// Data of this member.
    Holds(DatabaseIdentity),
    /// Data whose identity is not known to us: never overwritten, never founded upon.
    HoldsUnknown,
    /// It could not be looked at.
    Unreadable,
    /// Data that a start under this operation made, and whose identity was never heard. Only reports say so: what lies
    /// on a volume does not tell who made it.
    Begun(OperationId),
}
