//! The controllers of a cluster, each a pass over the store: no state but what tells that nothing changed.

mod disruption;
mod garbage;
mod node;
mod scheduler;
mod statefulset;
mod volume;

use super::api::ModelApi;
use super::resource::KindId;
use super::time::ModelTime;

pub use node::{register_node, set_ready};

/// Up to where each controller has seen the store; a pass with nothing new costs a few comparisons.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    statefulset: u64,
    volume: u64,
    scheduler: u64,
    disruption: u64,
    garbage: u64,
}

/// Runs one pass of every controller. Returns whether any of them changed something:
/// then another pass may have more to do.
///
/// Controllers act in a fixed order and only on what is stored. A real cluster's controllers run
/// concurrently; the simulator gets their interleavings by calling them at different moments.
pub fn reconcile_all(api: &mut ModelApi, now: ModelTime) -> bool {
    // Controllers are clients too: with the server away they see and change nothing.
    if api.faults().outage() {
        return false;
    }
    let before = api.store().revision();
    reconcile_stateful_sets(api, now);
    reconcile_volumes(api, now);
    schedule_pods(api, now);
    reconcile_budgets(api, now);
    collect_garbage(api, now);
    api.store().revision() != before
}

/// The StatefulSet controller alone.
pub fn reconcile_stateful_sets(api: &mut ModelApi, now: ModelTime) {
    let seen = newest(api, &[KindId::STATEFUL_SETS, KindId::PODS, KindId::CLAIMS]);
    if seen != api.memory.statefulset {
        let waits = statefulset::reconcile(api, now);
        // What it changed itself is looked at again in the next pass.
        api.memory.statefulset = if waits { 0 } else { seen };
    }
}

/// The volume binder and the protection of claims in use, alone.
pub fn reconcile_volumes(api: &mut ModelApi, now: ModelTime) {
    let seen = newest(api, &[KindId::CLAIMS, KindId::VOLUMES, KindId::PODS]);
    if seen != api.memory.volume {
        volume::reconcile(api, now);
        api.memory.volume = seen;
    }
}

/// The scheduler alone.
pub fn schedule_pods(api: &mut ModelApi, now: ModelTime) {
    let seen = newest(api, &[KindId::PODS, KindId::NODES, KindId::CLAIMS]);
    if seen != api.memory.scheduler {
        scheduler::reconcile(api, now);
        api.memory.scheduler = seen;
    }
}

/// The disruption controller alone.
pub fn reconcile_budgets(api: &mut ModelApi, now: ModelTime) {
    let seen = newest(api, &[KindId::BUDGETS, KindId::PODS, KindId::STATEFUL_SETS]);
    if seen != api.memory.disruption {
        let outstanding = disruption::reconcile(api, now);
        api.memory.disruption = if outstanding { 0 } else { seen };
    }
}

/// The garbage collector and the namespace controller alone.
pub fn collect_garbage(api: &mut ModelApi, now: ModelTime) {
    let seen = api.store().garbage_hints() + api.store().changed(KindId::NAMESPACES);
    if seen != api.memory.garbage {
        garbage::reconcile(api, now);
        api.memory.garbage = seen;
    }
}

fn newest(api: &ModelApi, kinds: &[KindId]) -> u64 {
    kinds.iter().map(|kind| api.store().changed(*kind)).max().unwrap_or(0)
}
