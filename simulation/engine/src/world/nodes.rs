//! Nodes that are lost: nothing on them runs or answers, their pods stay in the API, and nobody may make another pod of
//! the same name. Each ordinal has a node of its own, as pods on local disks have.

use super::World;
use super::cluster::{PodSeen, pod_name};
use std::collections::BTreeMap;

/// The node controller holds a node not ready that it has not heard of for so long (`--node-monitor-grace-period`, 50 s
/// since Kubernetes 1.32).
const NOT_READY_AFTER: u64 = 50_000;
/// Pods tolerate a node that is not ready for so long (`tolerationSeconds` of admission's default, 300 s), then they are
/// deleted; with no kubelet to end them they stay as they are.
const DELETED_AFTER: u64 = NOT_READY_AFTER + 300_000;

/// One node that is lost.
#[derive(Debug, Clone)]
struct Lost {
    since: u64,
    until: u64,
    not_ready: bool,
    deleted: bool,
}

/// The nodes that are lost just now, by the ordinal of their pod.
#[derive(Debug, Clone, Default)]
pub(crate) struct Nodes(BTreeMap<u32, Lost>);

impl Nodes {
    /// Whether this one is lost.
    pub(crate) fn is_lost(&self, ordinal: u32, now: u64) -> bool {
        self.0.get(&ordinal).is_some_and(|lost| now < lost.until)
    }

    /// Whether any is.
    pub(crate) fn any_is_lost(&self, now: u64) -> bool {
        self.0.values().any(|lost| now < lost.until)
    }

    /// All are back.
    pub(crate) fn come_back(&mut self) {
        self.0.clear();
    }
}

impl World {
    /// The power of a node is cut: everything of the pod stops at once, and nothing answers for it.
    pub(crate) fn lose_node(&mut self, ordinal: u32, length: u64) {
        let Some(name) = pod_name(ordinal) else { return };
        let lost = Lost { since: self.now, until: self.now + length, not_ready: false, deleted: false };
        self.nodes.0.insert(ordinal, lost);
        self.kill_pod(&name);
    }

    /// What becomes of a pod whose node is lost; false where it is not.
    pub(crate) fn tend_pod_of_lost_node(&mut self, seen: &PodSeen) -> bool {
        let now = self.now;
        let Some(lost) = seen.name.ordinal().and_then(|ordinal| self.nodes.0.get_mut(&ordinal)) else { return false };
        if now >= lost.until {
            return false;
        }
        if now >= lost.since + NOT_READY_AFTER && !lost.not_ready {
            lost.not_ready = true;
            self.cluster.hold_unready(now, &seen.name, &seen.uid);
        } else if now >= lost.since + DELETED_AFTER && !lost.deleted && seen.ending.is_none() {
            lost.deleted = true;
            self.cluster.delete_pod(now, seen.name.as_str());
        }
        true
    }
}
