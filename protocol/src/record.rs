//! What the cluster must never forget: kept in one Kubernetes object, changed only by compare-and-set.

use crate::epoch::Epoch;
use crate::id::{ClusterId, DatabaseIdentity, OperationId, PilotName, Uid, Voter};
use crate::order::OldData;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The durable record of one cluster. It exists from the moment its founding was decided, and is never made twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// Its name for good.
    pub cluster: ClusterId,
    /// The highest epoch that has written here.
    pub epoch: Epoch,
    /// The pilots that count for quorum, in order of name.
    pub roster: Vec<Voter>,
    /// Counts changes of the roster.
    pub roster_revision: u64,
    /// The members, by the pod they live under.
    pub members: BTreeMap<PilotName, MemberRecord>,
    /// Identities that left, were removed or replaced: never started again.
    #[serde(default)]
    pub retired: BTreeMap<DatabaseIdentity, Retirement>,
    /// The one operation under way, written before its first irreversible step.
    #[serde(default)]
    pub intent: Option<Intent>,
    /// The number of the next operation.
    pub next_operation: u64,
    /// What holds now, for people and tools.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// One member, as peers confirmed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// The claim that holds its data.
    pub claim: Uid,
    /// Its identity.
    pub identity: DatabaseIdentity,
}

/// How an identity ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retirement {
    /// The pod it lived under.
    pub name: PilotName,
    /// The claim that still holds its data, perhaps.
    pub claim: Uid,
    /// The operation that ended it.
    pub operation: OperationId,
}

/// One multi-step change and what is needed to carry it on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Its name for good.
    pub operation: OperationId,
    /// The epoch that began it.
    pub begun: Epoch,
    /// What is to be done.
    pub kind: IntentKind,
}

/// The kinds of change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IntentKind {
    /// The first member starts with an empty volume.
    Form {
        /// Who founds.
        founder: Voter,
    },
    /// A new member takes over its part.
    Join {
        /// Who joins.
        joiner: Voter,
        /// This data lies on its claim and is moved aside first.
        move_aside: Option<OldData>,
        /// The size was raised by the coordinator to bring back a member that the joiner takes its data from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        raised: Option<Raised>,
    },
    /// A member hands its part over and goes.
    Leave {
        /// Who leaves.
        leaver: Voter,
        /// As whom.
        identity: DatabaseIdentity,
        /// The size wanted when it has gone.
        size_after: u32,
        /// The size was raised by the coordinator to bring the leaver's pod back, and falls again when it has left.
        #[serde(default)]
        raised: bool,
        /// To which size, where that brought back others beyond the size as well; none for just as much as brings back the
        /// leaver. Any other size that is found is a user's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        raised_to: Option<u32>,
        /// Written before the leaver is told for the first time: from then on it may be leaving, whatever is reported,
        /// and the intent is never withdrawn.
        #[serde(default)]
        granted: bool,
    },
    /// A member's pod ends and is made again from the set's present template. Its data and its identity stay.
    Restart {
        /// Whose.
        member: Voter,
        /// Which of its pods: the one that has to go.
        pod: Uid,
    },
    /// A member's data is lost, and a new member takes its part over under the same name, from those who hold copies. Never
    /// without an approval: nobody else can tell that the old process will not come back.
    Replace {
        /// Who joins in its place.
        joiner: Voter,
        /// Whom it replaces: retired by the write that opens this.
        identity: DatabaseIdentity,
        /// As for a join.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        raised: Option<Raised>,
    },
}

/// A size that the coordinator set in the place of a smaller one. Any other size that is found is a user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// What it was raised to.
    pub to: u32,
    /// What it falls to in the end, when all beyond that have left.
    pub after: u32,
}

impl IntentKind {
    /// Whom it is about.
    pub fn subject(&self) -> &Voter {
        match self {
            Self::Form { founder } => founder,
            Self::Join { joiner, .. } | Self::Replace { joiner, .. } => joiner,
            Self::Leave { leaver, .. } => leaver,
            Self::Restart { member, .. } => member,
        }
    }

    /// One word for people.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Form { .. } => "form",
            Self::Join { .. } => "join",
            Self::Leave { .. } => "leave",
            Self::Restart { .. } => "restart",
            Self::Replace { .. } => "replace",
        }
    }
}

/// A statement about the cluster, after the Kubernetes convention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What it is about, in PascalCase.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: bool,
    /// Why, in one PascalCase word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

impl ClusterRecord {
    /// Whether the first member has been confirmed.
    pub fn is_formed(&self) -> bool {
        !self.members.is_empty() || !self.retired.is_empty()
    }

    /// The name of the next operation, of this kind and about this pod. Names are never used twice.
    pub fn name_operation(&self, word: &str, subject: &PilotName) -> OperationId {
        OperationId::new(format!("{}-{word}-{subject}", self.next_operation))
    }

    /// The number that [`Self::name_operation`] put into a name: a later operation of the same cluster has a higher one.
    pub fn operation_number(operation: &OperationId) -> Option<u64> {
        operation.as_str().split_once('-')?.0.parse().ok()
    }
}
