//! The rows that one look asks Cassandra for, as they come.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// What one look by CQL brought.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// The row of `system.local`.
    pub local: Local,
    /// Those of `system.peers_v2`.
    pub peers: Vec<Peer>,
    /// Those of `system_views.gossip_info`.
    pub gossip: Vec<Gossip>,
    /// Those of `system_schema.keyspaces`.
    pub keyspaces: Vec<Keyspace>,
    /// Those of `system_views.streaming`.
    pub streams: Vec<Stream>,
}

/// The row of `system.local`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Local {
    /// Its identity.
    pub host_id: Option<String>,
    /// How far its start has come, in one word.
    pub bootstrapped: Option<String>,
    /// The version that runs.
    pub version: Option<String>,
    /// The schema it has.
    pub schema: Option<String>,
}

/// A row of `system.peers_v2`: another member that owns a part of the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where it is.
    pub address: IpAddr,
    /// Its identity.
    pub host_id: Option<String>,
    /// The schema it has.
    pub schema: Option<String>,
}

/// A row of `system_views.gossip_info`: what gossip holds of one address, ourselves included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gossip {
    /// Where it speaks from.
    pub address: IpAddr,
    /// Its life: greater in each new one.
    pub generation: i32,
    /// Its beats in this life.
    pub heartbeat: i32,
    /// Its identity.
    pub host_id: Option<String>,
    /// `status_with_port`, or `status` where that is empty.
    pub status: Option<String>,
    /// The schema it has.
    pub schema: Option<String>,
    /// Bytes of data it holds, as a decimal fraction.
    pub load: Option<String>,
}

/// A row of `system_schema.keyspaces`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyspace {
    /// Class and factors.
    pub replication: BTreeMap<String, String>,
}

/// A row of `system_views.streaming`: one transfer, also one that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// How it stands, in one word.
    pub status: Option<String>,
    /// Bytes moved.
    pub done: i64,
    /// Bytes to move.
    pub total: i64,
}
