//! What happened how often since this process began. Every key comes from an enum of ours, so the number of series is bounded.

use crate::kubernetes::call::Call;
use crate::pilot::decisions::Entry;
use policies::plan::{Rule, Verdict};
use protocol::order::OrderName;
use std::collections::BTreeMap;

/// The tasks that are started again when they end unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// The gossip layer.
    Gossip,
    /// The streams to other pilots.
    Streams,
    /// The look at the database.
    Database,
}

impl Task {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Gossip => "gossip",
            Self::Streams => "streams",
            Self::Database => "database",
        }
    }
}

/// The counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Counters {
    /// By call and whether it was answered as hoped.
    pub(super) calls: BTreeMap<(&'static str, bool), u64>,
    pub(super) decisions: BTreeMap<(Verdict, Rule), u64>,
    pub(super) given: BTreeMap<OrderName, u64>,
    pub(super) taken: BTreeMap<(OrderName, bool), u64>,
    pub(super) restarts: BTreeMap<Task, u64>,
}

impl Counters {
    pub(super) fn call(&mut self, call: &Call, answered: bool) {
        add(&mut self.calls, (verb(call), answered));
    }

    pub(super) fn decision(&mut self, entry: &Entry) {
        for reason in &entry.reasons {
            add(&mut self.decisions, (reason.verdict, reason.rule));
        }
    }

    pub(super) fn given(&mut self, order: OrderName) {
        add(&mut self.given, order);
    }

    pub(super) fn taken(&mut self, order: OrderName, obeyed: bool) {
        add(&mut self.taken, (order, obeyed));
    }

    pub(super) fn restart(&mut self, task: Task) {
        add(&mut self.restarts, task);
    }
}

fn add<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K) {
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(1);
}

/// The API's verb for a call.
fn verb(call: &Call) -> &'static str {
    match call {
        Call::GetLease | Call::GetRecord | Call::GetSet | Call::GetOwnPod | Call::GetOwnClaim => "get",
        Call::ListPods | Call::ListClaims => "list",
        Call::CreateLease(_) | Call::CreateRecord(_) | Call::EvictPod(_) | Call::PostEvent(_) => "create",
        Call::ReplaceLease { .. } | Call::ReplaceRecord(..) => "update",
        Call::StampSet(_) | Call::Scale(..) | Call::MarkClaim(..) | Call::StampPod(_) => "patch",
    }
}
