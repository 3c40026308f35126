//! What a decision comes to: at most one act, and the reasons for it and for everything that waits.

use crate::world::{Outranked, Target};
use protocol::id::{ClusterId, DatabaseIdentity, OperationId, PilotName, Uid};
use protocol::order::OrderKind;
use protocol::record::ClusterRecord;
use protocol::report::OperationReport;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One step of a coordinator. Every one of them needs a fresh majority right before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Founds: makes the record, which can only be made once.
    CreateRecord(Box<ClusterRecord>),
    /// Writes the record: an intent, its end, a change of roster, conditions.
    WriteRecord(Target, Box<ClusterRecord>),
    /// Writes the epoch on the set, so that whatever an earlier coordinator still has in flight is refused.
    StampSet(Target),
    /// Tells the set its size.
    Scale(Target, u32),
    /// Writes on a claim whose data it holds.
    MarkClaim(Target, ClaimMarks),
    /// Writes the epoch on a pod, so that an earlier coordinator's eviction of it is refused.
    StampPod(Target),
    /// Asks for a pod's end, within the budgets that users set.
    Evict(Target),
    /// Orders something of a pilot.
    Order {
        /// To whom.
        to: PilotName,
        /// Which life of the pod.
        pod: Uid,
        /// Of which operation.
        operation: OperationId,
        /// What.
        kind: OrderKind,
    },
}

/// What a claim says of the data it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimMarks {
    /// The cluster.
    pub cluster: ClusterId,
    /// The identity; none where the claim was made empty again.
    pub identity: Option<DatabaseIdentity>,
    /// That identity is retired.
    pub retired: bool,
}

/// What a reason is about and how it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Something is done.
    Act,
    /// Something will be done when what it waits for has come.
    Wait,
    /// Something that was asked for is not done.
    Refuse,
    /// Something has been completed.
    Done,
}

/// Why something is done, waits or is refused: the rule, and the fact that met it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    /// How it stands.
    pub verdict: Verdict,
    /// About which pod, set or cluster.
    pub subject: String,
    /// The rule, by its name.
    pub rule: Rule,
    /// The fact.
    pub fact: String,
}

/// The rules that decisions name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Founding needs every declared member, every volume empty, no claim with an identity, and happens once.
    FoundOnce,
    /// One change at a time.
    OneAtATime,
    /// Nothing changes while a member is not seen up and serving by all.
    AllServing,
    /// Nothing joins or leaves while members disagree about the schema.
    SchemaAgreed,
    /// A member may only leave where enough stay for every replica.
    ReplicasKeepHomes,
    /// The size stays within the policy's bounds.
    Bounds,
    /// A member leaves for good only by a grant under an intent, judged against the size wanted.
    LeaveByGrant,
    /// A pod that is still wanted drains and returns.
    ReturnOnClaim,
    /// A leave that was cut off is carried on when its pod is back.
    UnfinishedLeave,
    /// New members start one at a time, by grant.
    JoinByGrant,
    /// Data of a retired identity is never started, only moved aside.
    RetiredStaysOut,
    /// Data that is nobody's is never overwritten.
    UnknownDataStays,
    /// Peers, not the member itself, say who is in the ring.
    PeersDecide,
    /// What an earlier coordinator began may still run: membership waits for one old Lease.
    OneOldLease,
    /// Every governed object carries the epoch.
    StampFirst,
    /// What is not known is neither healthy nor gone.
    UnknownHolds,
    /// After a change some time passes before the next.
    Settle,
    /// Pods follow their template one after the other, within what may be unavailable.
    RollInBudget,
    /// A roll stops at members that do not come back.
    RollStops,
    /// A member whose data is lost is replaced only where a person approves it, and all others hold their part.
    ReplaceByApproval,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::FoundOnce,
        Self::OneAtATime,
        Self::AllServing,
        Self::SchemaAgreed,
        Self::ReplicasKeepHomes,
        Self::Bounds,
        Self::Settle,
        Self::RollInBudget,
        Self::RollStops,
        Self::LeaveByGrant,
        Self::ReturnOnClaim,
        Self::UnfinishedLeave,
        Self::JoinByGrant,
        Self::RetiredStaysOut,
        Self::UnknownDataStays,
        Self::PeersDecide,
        Self::OneOldLease,
        Self::StampFirst,
        Self::UnknownHolds,
        Self::ReplaceByApproval,
    ];

    /// The reason word of conditions and events, in PascalCase.
    pub fn word(self) -> &'static str {
        match self {
            Self::FoundOnce => "FoundOnce",
            Self::OneAtATime => "OneAtATime",
            Self::AllServing => "AllServing",
            Self::SchemaAgreed => "SchemaAgreed",
            Self::ReplicasKeepHomes => "ReplicasKeepHomes",
            Self::Bounds => "Bounds",
            Self::Settle => "Settle",
            Self::RollInBudget => "RollInBudget",
            Self::RollStops => "RollStops",
            Self::LeaveByGrant => "LeaveByGrant",
            Self::ReturnOnClaim => "ReturnOnClaim",
            Self::UnfinishedLeave => "UnfinishedLeave",
            Self::JoinByGrant => "JoinByGrant",
            Self::RetiredStaysOut => "RetiredStaysOut",
            Self::UnknownDataStays => "UnknownDataStays",
            Self::PeersDecide => "PeersDecide",
            Self::OneOldLease => "OneOldLease",
            Self::StampFirst => "StampFirst",
            Self::UnknownHolds => "UnknownHolds",
            Self::ReplaceByApproval => "ReplaceByApproval",
        }
    }
}

/// What a decision comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The one thing to do now, if any.
    pub act: Option<Act>,
    /// Why, and why nothing else.
    pub reasons: Vec<Reason>,
    /// The operation under way, for people.
    pub operation: Option<OperationReport>,
    /// Something waits that has its turn before what else could be begun.
    pub(crate) holds_others_up: bool,
}

impl Plan {
    pub(crate) fn note(&mut self, verdict: Verdict, subject: impl ToString, rule: Rule, fact: impl Into<String>) {
        self.reasons.push(Reason { verdict, subject: subject.to_string(), rule, fact: fact.into() });
    }

    pub(crate) fn wait(mut self, subject: impl ToString, rule: Rule, fact: impl Into<String>) -> Self {
        self.note(Verdict::Wait, subject, rule, fact);
        self.holds_others_up = true;
        self
    }

    /// Waits as everybody does who coordinates after another, before anything that destroys or changes membership.
    pub(crate) fn wait_one_old_lease(self, subject: impl ToString) -> Self {
        let fact = "an order of the coordinator before may still run: waiting one old Lease";
        self.wait(subject, Rule::OneOldLease, fact)
    }

    pub(crate) fn act(mut self, act: Act, subject: impl ToString, rule: Rule, fact: impl Into<String>) -> Self {
        self.note(Verdict::Act, subject, rule, fact);
        self.act = Some(act);
        self
    }
}

/// A plan, or the news that another coordinates.
pub type Decision = Result<Plan, Outranked>;
