//! What a coordinator asks of one pilot, or allows it.

use crate::epoch::Epoch;
use crate::id::{ClusterId, DatabaseIdentity, OperationId, Uid};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One order to one pod. Repeating it is harmless: it is known by its operation and kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Whose time it belongs to.
    pub epoch: Epoch,
    /// Its number within the epoch.
    pub sequence: u64,
    /// The operation that it is a step of.
    pub operation: OperationId,
    /// The only pod that may obey it.
    pub pod: Uid,
    /// What to do.
    pub kind: OrderKind,
}

/// What a pilot may be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderKind {
    /// Start as the first member of a new cluster: its volume must be empty, or hold what an earlier try left.
    Found {
        /// The new cluster.
        cluster: ClusterId,
    },
    /// Start as a new member.
    Join {
        /// The cluster.
        cluster: ClusterId,
        /// This data is moved aside first. Any other data on the volume refuses the order.
        move_aside: Option<OldData>,
    },
    /// Hand the data over and leave for good. Irreversible once it streams.
    Leave {
        /// Only if it still is this member.
        identity: DatabaseIdentity,
    },
    /// Peers have confirmed the leave: stop for good.
    EndAfterLeave,
    /// Drain and end; this member is expected back on its claim.
    EndAndReturn,
    /// Start as a new member that takes over the part of one whose data is lost.
    Replace {
        /// The cluster.
        cluster: ClusterId,
        /// Whose part: it is retired, and its process can never run again.
        identity: DatabaseIdentity,
        /// As for [`OrderKind::Join`].
        move_aside: Option<OldData>,
    },
}

/// Data on a new member's volume that nobody needs any more. It is moved aside, never deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OldData {
    /// That of an identity which is retired, or which no member ever saw.
    Of(DatabaseIdentity),
    /// What a start under this join left behind, which was given up before the identity was heard.
    BegunUnder(OperationId),
}

impl std::fmt::Display for OldData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Of(identity) => write!(f, "{identity}"),
            Self::BegunUnder(operation) => write!(f, "begun-under-{operation}"),
        }
    }
}

/// The kind of an order without its particulars, as reports repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OrderName {
    /// See [`OrderKind::Found`].
    Found,
    /// See [`OrderKind::Join`]; also [`OrderKind::Replace`], which is a join under an operation of its own.
    Join,
    /// See [`OrderKind::Leave`].
    Leave,
    /// See [`OrderKind::EndAfterLeave`].
    EndAfterLeave,
    /// See [`OrderKind::EndAndReturn`].
    EndAndReturn,
}

impl OrderKind {
    /// Its kind alone.
    pub fn name(&self) -> OrderName {
        match self {
            Self::Found { .. } => OrderName::Found,
            Self::Join { .. } | Self::Replace { .. } => OrderName::Join,
            Self::Leave { .. } => OrderName::Leave,
            Self::EndAfterLeave => OrderName::EndAfterLeave,
            Self::EndAndReturn => OrderName::EndAndReturn,
        }
    }
}

impl fmt::Display for OrderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Found => "found",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::EndAfterLeave => "end-after-leave",
            Self::EndAndReturn => "end-and-return",
        })
    }
}

/// What became of an order; durable at the pilot that obeyed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is being carried out; the reports show how far it is.
    Obeyed,
    /// It was refused, and nothing was changed.
    Refused(String),
}
