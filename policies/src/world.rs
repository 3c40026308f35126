//! What a decision is made from: Kubernetes objects as facts, and what the mesh reports.
//!
//! A write can only be aimed by a [`Target`], and a `Target` can only be had from a fact that was read and whose
//! stamp is not above the writer's epoch. So a coordinator cannot build a write to something it has not read.

use protocol::epoch::Epoch;
use protocol::id::{ClusterId, DatabaseIdentity, OperationId, PilotName, Uid};
use protocol::record::ClusterRecord;
use protocol::report::Report;
use protocol::view::Liveness;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The version that a read saw, opaque.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResourceVersion(pub String);

/// Which object, exactly as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRead {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: Uid,
    /// The version read.
    pub version: ResourceVersion,
    /// The highest epoch that wrote it; none where nobody has.
    pub stamp: Epoch,
}

/// Someone of a higher epoch has written this object: whoever finds that is not the coordinator any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} carries epoch {found}, above our {own}: another coordinates, step down")]
pub struct Outranked {
    /// The object.
    pub name: String,
    /// Its stamp.
    pub found: Epoch,
    /// The epoch of who asked.
    pub own: Epoch,
}

/// Aims one write at one object as it was read, at one epoch. Cannot be made in any other way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    name: String,
    uid: Uid,
    version: ResourceVersion,
    epoch: Epoch,
}

impl ObjectRead {
    /// Aims a write of this epoch at the object.
    ///
    /// # Errors
    /// When a higher epoch has stamped it.
    pub fn target(&self, epoch: Epoch) -> Result<Target, Outranked> {
        if self.stamp > epoch {
            return Err(Outranked { name: self.name.clone(), found: self.stamp, own: epoch });
        }
        Ok(Target { name: self.name.clone(), uid: self.uid.clone(), version: self.version.clone(), epoch })
    }
}

impl Target {
    /// The object's name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The object's uid.
    pub fn uid(&self) -> &Uid {
        &self.uid
    }
    /// The version that was read.
    pub fn version(&self) -> &ResourceVersion {
        &self.version
    }
    /// The writer's epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// The StatefulSet that makes the pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetFacts {
    /// The object.
    pub object: ObjectRead,
    /// How many pods it is told to have.
    pub replicas: u32,
    /// The ordinal of its first pod.
    pub start: u32,
    /// The template's revision; unknown while the set's controller has not looked at its latest change.
    pub revision: Option<String>,
    /// What the template says.
    pub template: Template,
}

impl SetFacts {
    /// The pods it is told to have.
    pub fn declared(&self) -> Vec<PilotName> {
        (self.start..self.start.saturating_add(self.replicas))
            .filter_map(|n| PilotName::parse(&format!("{}-{n}", self.object.name)).ok())
            .collect()
    }

    /// Whether this pod is beyond the size: no pod of its name is asked for.
    pub fn is_beyond(&self, ordinal: u32) -> bool {
        self.would_be_beyond(self.replicas, ordinal)
    }

    /// The same for another size.
    pub fn would_be_beyond(&self, size: u32, ordinal: u32) -> bool {
        ordinal >= self.start.saturating_add(size)
    }

    /// The size that just includes this ordinal.
    pub fn size_including(&self, ordinal: u32) -> u32 {
        ordinal.saturating_sub(self.start).saturating_add(1)
    }
}

/// One pod of the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFacts {
    /// The object.
    pub object: ObjectRead,
    /// It has been told to end; that cannot be withdrawn.
    pub terminating: bool,
    /// The revision of the template that it was made from.
    pub revision: Option<String>,
    /// What it was made with.
    pub template: Template,
    /// Not all of its containers have ever run: it is not scheduled, or an image cannot be had.
    pub pending: bool,
    /// None of its containers has ever been started, init containers and sidecars left aside: nothing was ever written
    /// from it.
    pub untouched: bool,
}

/// What a restart can change of a pod: its containers but for the sidecars, each as one short digest, and when a user
/// last asked for a restart. A sidecar is not part of it: its image is changed in place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template {
    /// Digests of the containers by name.
    pub containers: BTreeMap<String, String>,
    /// The annotation that `kubectl rollout restart` writes.
    pub restarted: Option<String>,
}

impl Template {
    /// Whether a pod made with `made` differs from this. Containers that somebody else put into the pod do not count.
    fn differs_from(&self, made: &Self) -> bool {
        self.restarted != made.restarted
            || self.containers.iter().any(|(name, digest)| made.containers.get(name) != Some(digest))
    }
}

/// One claim of the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimFacts {
    /// The object.
    pub object: ObjectRead,
    /// The cluster it is marked with.
    pub cluster: Option<ClusterId>,
    /// The identity it is marked with.
    pub identity: Option<DatabaseIdentity>,
    /// That identity is retired.
    pub retired: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// The operation that a person approves for it.
    pub approved: Option<OperationId>,
}

/// The record as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFacts {
    /// The object.
    pub object: ObjectRead,
    /// Its content.
    pub record: ClusterRecord,
}

/// One pilot, as the coordinator's view has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PilotFacts {
    /// Whether it lives.
    pub liveness: Liveness,
    /// What it said last.
    pub report: Arc<Report>,
}

/// All a decision knows, read at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// The decider's epoch.
    pub epoch: Epoch,
    /// The set.
    pub set: SetFacts,
    /// Its pods by name.
    pub pods: BTreeMap<PilotName, PodFacts>,
    /// Its claims by the pod they belong to.
    pub claims: BTreeMap<PilotName, ClaimFacts>,
    /// The record; `None` where none exists, which only a fresh read can tell.
    pub record: Option<RecordFacts>,
    /// The pilots, the decider included.
    pub pilots: BTreeMap<PilotName, PilotFacts>,
    /// The cluster that the Lease names, if it names one.
    pub lease_cluster: Option<ClusterId>,
    /// Pilots that were told to drain and return a moment ago: whether they heard it is not known yet, and meanwhile
    /// nothing else waits for them.
    pub told_to_return: BTreeSet<PilotName>,
    /// Pods whose eviction was refused a moment ago, and what was said: they are not asked for again yet, and meanwhile
    /// nothing else waits for them.
    pub evictions_refused: BTreeMap<Uid, String>,
    /// Steps that destroy or change membership must wait: a coordinator before us may still have an order running.
    pub patience: bool,
    /// For so long the decider has seen no operation under way. A new coordinator begins at nothing.
    pub quiet_for: Duration,
}

impl World {
    /// Whether this pod was made from another template than the set has now: by its revision and by what it says. A pod
    /// that the API server itself changes at creation differs for ever; its revision tells that nothing is to be gained.
    pub fn is_outdated(&self, pod: &PodFacts) -> bool {
        match (&self.set.revision, &pod.revision) {
            (Some(wanted), Some(made)) => wanted != made && self.set.template.differs_from(&pod.template),
            (None, _) | (_, None) => false,
        }
    }

    /// The report of a live pilot whose pod is the one the API shows.
    pub fn live_report(&self, name: &PilotName) -> Option<&Report> {
        let facts = self.pilots.get(name)?;
        let pod = self.pods.get(name)?;
        (facts.liveness == Liveness::Live && facts.report.about.pod == pod.object.uid).then_some(&*facts.report)
    }
}
