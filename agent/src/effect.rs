//! All that a pilot may want done. The runtime does it and decides nothing.

use crate::event::CallId;
use crate::kubernetes::call::Call;
use crate::pilot::decisions::Entry;
use crate::pilot::durable::Durable;
use protocol::id::{ClusterId, DatabaseIdentity, OperationId, PilotName};
use protocol::message::Message;
use protocol::order::OldData;
use protocol::report::Report;
use protocol::time::Millis;
use std::collections::BTreeSet;

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Keep this on disk, then say [`crate::event::Event::Kept`].
    Keep(u64, Box<Durable>),
    /// Tell the mesh.
    Publish(Box<Report>),
    /// Keep streams to these peers.
    Streams(BTreeSet<PilotName>),
    /// Say something to a peer, if there is a stream.
    Send(PilotName, Message),
    /// Ask the API, once. The answer must come within the time, or is a failure.
    Api {
        /// Which.
        id: CallId,
        /// What.
        call: Box<Call>,
        /// How long at most.
        within: Millis,
    },
    /// Act on the own database.
    Local(u64, LocalAct),
    /// A decision for the log and the story.
    Decided(Box<Entry>),
    /// End this process.
    Exit,
}

/// How a database is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAs {
    /// The first member of a new cluster.
    Founder,
    /// A new member.
    Joiner,
    /// A member that was one before.
    Returner,
}

/// Something done to the own database, through its launcher or on its volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalAct {
    /// Start, or only renew the permission where it runs.
    Start {
        /// How.
        role: StartAs,
        /// The identity the permission is for, once known.
        identity: Option<DatabaseIdentity>,
        /// The cluster it belongs to: told by the coordinator's order, by the record, or remembered.
        cluster: Option<ClusterId>,
        /// Whose part a joiner takes over, where that one's data is lost.
        replaces: Option<DatabaseIdentity>,
    },
    /// Leave the database's cluster for good.
    Leave {
        /// Under which operation.
        operation: OperationId,
    },
    /// Stop for good after a confirmed leave.
    EndAfterLeave {
        /// Under which operation.
        operation: OperationId,
    },
    /// Drain, stop, and end where the pod is ending.
    DrainAndStop,
    /// Stop the database and start it again where it stands.
    Restart,
    /// Tell the launcher how long the pod still has.
    Deadline(Millis),
    /// Move data that nobody needs any more aside; nothing is deleted.
    MoveAside {
        /// Which data.
        data: OldData,
        /// Under which operation.
        operation: OperationId,
    },
}
