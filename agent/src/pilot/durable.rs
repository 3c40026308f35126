//! What a pilot must remember across its lives, on the member's volume.

use protocol::epoch::Epoch;
use protocol::id::{ClusterId, DatabaseIdentity, Generation, OperationId, Uid, Voter};
use protocol::order::OrderName;
use protocol::promise::Promise;
use serde::{Deserialize, Serialize};

/// The pilot's memory. Fields may be added with a default; none changes its meaning.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Durable {
    /// The last life.
    pub generation: Option<Generation>,
    /// The pod it lived in.
    pub pod: Option<Uid>,
    /// The claim it lived on.
    pub claim: Option<Uid>,
    /// The last promise.
    pub promise: Option<Promise>,
    /// The highest epoch it has read anywhere.
    pub floor: Epoch,
    /// The cluster this volume belongs to.
    pub cluster: Option<ClusterId>,
    /// The identity whose data lies here, as its database confirmed it.
    pub identity: Option<DatabaseIdentity>,
    /// The identity here has left for good: its data is never started again.
    pub left: bool,
    /// The operation under which the data here was begun.
    pub begun_under: Option<OperationId>,
    /// The identity, lost for good, whose part is taken over by that.
    pub replaces: Option<DatabaseIdentity>,
    /// Orders obeyed, newest last.
    pub obeyed: Vec<Obeyed>,
    /// The roster it was last told.
    pub roster: Vec<Voter>,
}

/// One obeyed order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obeyed {
    /// Which operation.
    pub operation: OperationId,
    /// Which kind.
    pub order: OrderName,
    /// In which pod.
    pub pod: Uid,
    /// At which epoch.
    pub epoch: Epoch,
}

/// Orders remembered.
const REMEMBERED: usize = 16;

impl Durable {
    /// Remembers an obeyed order.
    pub fn obey(&mut self, obeyed: Obeyed) {
        let Obeyed { operation, order, pod, .. } = &obeyed;
        self.obeyed.retain(|o| !(&o.operation == operation && o.order == *order && &o.pod == pod));
        self.obeyed.push(obeyed);
        let over = self.obeyed.len().saturating_sub(REMEMBERED);
        self.obeyed.drain(..over);
    }

    /// The last order obeyed in this pod.
    pub fn last_obeyed(&self, pod: &Uid) -> Option<(OperationId, OrderName)> {
        self.obeyed.iter().rev().find(|o| &o.pod == pod).map(|o| (o.operation.clone(), o.order))
    }

    /// Whether this order was obeyed in this pod already.
    pub fn has_obeyed(&self, operation: &OperationId, order: OrderName, pod: &Uid) -> bool {
        self.obeyed.iter().any(|o| &o.operation == operation && o.order == order && &o.pod == pod)
    }
}
