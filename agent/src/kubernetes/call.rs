//! What a pilot asks of the Kubernetes API, and what it may hear.

use bootstrap::rights::Access;
use policies::plan::ClaimMarks;
use policies::world::{ClaimFacts, PodFacts, RecordFacts, ResourceVersion, SetFacts, Target};
use protocol::epoch::Epoch;
use protocol::id::{ClusterId, PilotId, PilotName, Uid};
use protocol::record::ClusterRecord;
use protocol::time::Millis;
use std::collections::BTreeMap;

/// What a Lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseContent {
    /// Who holds it; nobody after a release.
    pub holder: Option<PilotId>,
    /// At which epoch it was taken.
    pub epoch: Epoch,
    /// The cluster, once formed.
    pub cluster: Option<ClusterId>,
    /// How long it holds without renewal.
    pub duration: Millis,
    /// How often it changed hands, for people: not an epoch.
    pub transitions: u32,
}

/// A Lease as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseFacts {
    /// Its uid.
    pub uid: Uid,
    /// The version read.
    pub version: ResourceVersion,
    /// What it says.
    pub content: LeaseContent,
}

/// One call. Every write but an event carries what it was decided on: a uid and a version, or "must not exist".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Reads the Lease.
    GetLease,
    /// Makes the Lease where there is none.
    CreateLease(LeaseContent),
    /// Takes, renews or releases the Lease as it was read.
    ReplaceLease {
        /// What was read.
        uid: Uid,
        /// What was read.
        version: ResourceVersion,
        /// What it shall say.
        content: LeaseContent,
    },
    /// Reads the record.
    GetRecord,
    /// Makes the record where there is none.
    CreateRecord(Box<ClusterRecord>),
    /// Replaces the record as it was read.
    ReplaceRecord(Target, Box<ClusterRecord>),
    /// Reads the set.
    GetSet,
    /// Writes the epoch on the set.
    StampSet(Target),
    /// Tells the set its size.
    Scale(Target, u32),
    /// Lists the pods of the set.
    ListPods,
    /// Lists the claims of the set.
    ListClaims,
    /// Writes on a claim.
    MarkClaim(Target, ClaimMarks),
    /// Writes the epoch on a pod.
    StampPod(Target),
    /// Asks for a pod's end within its budgets.
    EvictPod(Target),
    /// Reads the pilot's own pod.
    GetOwnPod,
    /// Reads the pilot's own claim.
    GetOwnClaim,
    /// Tells people something.
    PostEvent(EventContent),
}

/// Something for people to see under the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventContent {
    /// One PascalCase word.
    pub reason: String,
    /// A sentence.
    pub note: String,
    /// It is a warning.
    pub warning: bool,
    /// Makes its name unique: epoch and number of the decision.
    pub unique: String,
}

impl Call {
    /// Which access it is: what the pilot's Role must allow for it.
    pub fn access(&self) -> Access {
        match self {
            Self::GetLease => Access::GetLease,
            Self::CreateLease(_) => Access::CreateLease,
            Self::ReplaceLease { .. } => Access::UpdateLease,
            Self::GetRecord => Access::GetRecord,
            Self::CreateRecord(_) => Access::CreateRecord,
            Self::ReplaceRecord(..) => Access::UpdateRecord,
            Self::GetSet => Access::GetSet,
            Self::StampSet(_) => Access::PatchSet,
            Self::Scale(..) => Access::ScaleSet,
            Self::ListPods => Access::ListPods,
            Self::ListClaims => Access::ListClaims,
            Self::MarkClaim(..) => Access::PatchClaim,
            Self::StampPod(_) => Access::PatchPod,
            Self::EvictPod(_) => Access::EvictPod,
            Self::GetOwnPod => Access::GetPod,
            Self::GetOwnClaim => Access::GetClaim,
            Self::PostEvent(_) => Access::CreateEvent,
        }
    }

    /// Whether it changes anything that others depend on.
    pub fn is_write(&self) -> bool {
        match self {
            Self::GetLease
            | Self::GetRecord
            | Self::GetSet
            | Self::ListPods
            | Self::ListClaims
            | Self::GetOwnPod
            | Self::GetOwnClaim => false,
            Self::CreateLease(_)
            | Self::ReplaceLease { .. }
            | Self::CreateRecord(_)
            | Self::ReplaceRecord(..)
            | Self::StampSet(_)
            | Self::Scale(..)
            | Self::MarkClaim(..)
            | Self::StampPod(_)
            | Self::EvictPod(_)
            | Self::PostEvent(_) => true,
        }
    }
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The Lease; none where the API says that there is none.
    Lease(Option<LeaseFacts>),
    /// The record, likewise.
    Record(Option<Box<RecordFacts>>),
    /// The set, likewise.
    Set(Option<SetFacts>),
    /// The pods of the set.
    Pods(BTreeMap<PilotName, PodFacts>),
    /// The claims of the set, by the pod they belong to.
    Claims(BTreeMap<PilotName, ClaimFacts>),
    /// The own pod; its grace period if it is ending.
    OwnPod(Option<OwnPod>),
    /// The own claim.
    OwnClaim(Option<ClaimFacts>),
    /// The write was done.
    Written,
}

/// The pilot's own pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnPod {
    /// Its uid.
    pub uid: Uid,
    /// It has been told to end, and gets so long for it.
    pub grace: Option<Millis>,
}

/// How a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The object is not as it was read (409, or 422 of a failed test): nothing was changed.
    #[error("the object has changed since it was read: {0}")]
    Conflict(String),
    /// The API said no: nothing was changed.
    #[error("the API refused with {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// Nobody knows whether it was done: never sent again, but read and compared.
    #[error("no answer that says whether it was done: {0}")]
    Ambiguous(String),
    /// The answer cannot be understood.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
}
