//! Front ends of the API that lie or refuse: one whose cache stands still, a store without a quorum, an admission webhook
//! or a changed Role that says no.

use super::cluster::{Cluster, NAMESPACE};
use crate::kubernetes::{ApiError, Body, Reason, Response};
use agent::kubernetes::call::Call;
use agent::kubernetes::translate::HttpCall;
use std::collections::BTreeMap;

/// What writes go through to one kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Door {
    /// The Lease.
    Lease,
    /// The record.
    Record,
    /// The set: its stamp and its size.
    Set,
    /// Claims.
    Claims,
    /// Pods: their stamps and their evictions.
    Pods,
}

impl Door {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Lease, Self::Record, Self::Set, Self::Claims, Self::Pods];

    /// The one that this write goes through; none for reads and Events.
    fn of(call: &Call) -> Option<Self> {
        match call {
            Call::CreateLease(_) | Call::ReplaceLease { .. } => Some(Self::Lease),
            Call::CreateRecord(_) | Call::ReplaceRecord(..) => Some(Self::Record),
            Call::StampSet(_) | Call::Scale(..) => Some(Self::Set),
            Call::MarkClaim(..) => Some(Self::Claims),
            Call::StampPod(_) | Call::EvictPod(_) => Some(Self::Pods),
            Call::GetLease
            | Call::GetRecord
            | Call::GetSet
            | Call::ListPods
            | Call::ListClaims
            | Call::GetOwnPod
            | Call::GetOwnClaim
            | Call::PostEvent(_) => None,
        }
    }
}

/// A front end whose cache stands still.
#[derive(Clone)]
struct Still {
    as_of: Cluster,
    until: u64,
}

/// What is wrong with the front ends.
#[derive(Clone, Default)]
pub(crate) struct Fronts {
    /// By the ordinal of the pods that read through it.
    still: BTreeMap<u32, Still>,
    /// The store behind all of them has no quorum: what was cached is read, nothing is written.
    no_quorum: Option<Still>,
    refusing: BTreeMap<Door, u64>,
}

impl Fronts {
    /// From now on this pod reads what is so now.
    pub(crate) fn stand_still(&mut self, ordinal: u32, as_of: Cluster, until: u64) {
        self.still.insert(ordinal, Still { as_of, until });
    }

    /// The store loses its quorum.
    pub(crate) fn lose_quorum(&mut self, as_of: Cluster, until: u64) {
        self.no_quorum = Some(Still { as_of, until });
    }

    /// Writes through this door are refused.
    pub(crate) fn refuse(&mut self, door: Door, until: u64) {
        self.refusing.insert(door, until);
    }

    /// What this pod reads from, where that is not the API as it is.
    pub(crate) fn shown(&self, now: u64, ordinal: u32) -> Option<&Cluster> {
        let stands = |still: &&Still| now < still.until;
        let still = self.no_quorum.as_ref().filter(stands).or_else(|| self.still.get(&ordinal).filter(stands));
        still.map(|still| &still.as_of)
    }

    /// What a front end answers by itself; nothing where the request goes through to the API as it is.
    pub(crate) fn answer(
        &mut self,
        now: u64,
        ordinal: u32,
        user: &str,
        call: &Call,
        http: &HttpCall,
    ) -> Option<Response> {
        let stands = |still: &&mut Still| now < still.until;
        if call.is_write() {
            if self.no_quorum.as_mut().filter(stands).is_some() {
                return Some(refusal(Reason::InternalError, "etcdserver: request timed out"));
            }
            let door = Door::of(call)?;
            let refused = self.refusing.get(&door).is_some_and(|until| now < *until);
            return refused
                .then(|| refusal(Reason::Forbidden, &format!("writes to {door:?} in {NAMESPACE} are refused")));
        }
        let still = match self.no_quorum.as_mut().filter(stands) {
            Some(still) => Some(still),
            None => self.still.get_mut(&ordinal).filter(stands),
        };
        still.map(|still| still.as_of.handle(now, user, http))
    }
}

fn refusal(reason: Reason, message: &str) -> Response {
    Response { status: reason.code(), body: Body::Made(ApiError::new(reason, message).to_status()) }
}
