//! What pilots say to each other over their streams. Gossip never carries any of it.

use crate::epoch::Epoch;
use crate::id::{ClusterId, PilotId, Uid, Voter};
use crate::order::{Order, Outcome};
use crate::promise::{Promise, Refusal};
use crate::time::Millis;
use serde::{Deserialize, Serialize};

/// One message. A new form gets a new variant at the end; none is changed (see `codec`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// A holder of the Lease asks for a promise, and tells whom it counts.
    Ask {
        /// What is to be promised.
        promise: Promise,
        /// The round it belongs to: an answer counts only for its own.
        round: u64,
        /// The cluster, once formed.
        cluster: Option<ClusterId>,
        /// The pilots that count. Empty where the receiver has been told on this stream already: then as before.
        roster: Vec<Voter>,
    },
    /// The promise is given and durable.
    Promised {
        /// To this epoch.
        epoch: Epoch,
        /// In this round.
        round: u64,
        /// By the pilot with this claim: another volume under its name does not count.
        claim: Option<Uid>,
    },
    /// The promise is refused.
    Refused {
        /// In this round.
        round: u64,
        /// Why.
        why: Refusal,
    },
    /// An order lies ready.
    Announce {
        /// Of this epoch.
        epoch: Epoch,
        /// Under this number.
        sequence: u64,
    },
    /// The target fetches it. Its validity counts from the sending of this.
    Fetch {
        /// Of this epoch.
        epoch: Epoch,
        /// Under this number.
        sequence: u64,
        /// Never used twice.
        nonce: u64,
    },
    /// The order.
    Deliver {
        /// The fetch it answers.
        nonce: u64,
        /// So long after the fetch was sent it may be begun; ends inside the coordinator's Lease.
        valid_for: Millis,
        /// What to do.
        order: Order,
    },
    /// What became of an order.
    Outcome {
        /// Of this epoch.
        epoch: Epoch,
        /// Under this number.
        sequence: u64,
        /// What.
        outcome: Outcome,
    },
    /// The sender holds this process ended: its stream closed and a new one was refused.
    Ended {
        /// Whose.
        who: PilotId,
    },
    /// The coordinator goes, has released the Lease, and names the next.
    Handover {
        /// Its epoch.
        epoch: Epoch,
        /// Who should take over.
        next: Option<PilotId>,
    },
    /// Something of the sender changed that its coordinator should look at.
    LookAtMe,
}
