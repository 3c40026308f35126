//! What a pilot may do with the Kubernetes API: one list, from which the Role is made.
//!
//! The agent tells of each of its calls which of these accesses it is, by a match without a catch-all: a new call without
//! a rule does not compile, and its tests hold the request that is sent against the rule here.

use crate::names;

/// One thing a pilot does with the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Looks at all pods of the namespace.
    ListPods,
    /// Looks at its own pod.
    GetPod,
    /// Writes the epoch on a pod before it is evicted.
    PatchPod,
    /// Asks for a pod's end.
    EvictPod,
    /// Reads the set.
    GetSet,
    /// Writes the epoch on the set.
    PatchSet,
    /// Tells the set its size.
    ScaleSet,
    /// Looks at all claims of the namespace.
    ListClaims,
    /// Looks at its own claim.
    GetClaim,
    /// Marks a claim with cluster and identity.
    PatchClaim,
    /// Reads the record.
    GetRecord,
    /// Makes the record.
    CreateRecord,
    /// Replaces the record.
    UpdateRecord,
    /// Reads the Lease.
    GetLease,
    /// Makes the Lease.
    CreateLease,
    /// Takes, renews or releases the Lease.
    UpdateLease,
    /// Posts an Event.
    CreateEvent,
}

impl Access {
    /// All of them, in the order of the Role.
    pub const ALL: [Self; 17] = [
        Self::GetPod,
        Self::ListPods,
        Self::PatchPod,
        Self::EvictPod,
        Self::GetSet,
        Self::PatchSet,
        Self::ScaleSet,
        Self::GetClaim,
        Self::ListClaims,
        Self::PatchClaim,
        Self::GetRecord,
        Self::UpdateRecord,
        Self::CreateRecord,
        Self::GetLease,
        Self::UpdateLease,
        Self::CreateLease,
        Self::CreateEvent,
    ];

    /// What it takes.
    pub fn right(self) -> Right {
        let (verb, rule) = match self {
            Self::GetPod => ("get", Rule::Pods),
            Self::ListPods => ("list", Rule::Pods),
            Self::PatchPod => ("patch", Rule::Pods),
            Self::EvictPod => ("create", Rule::Evictions),
            Self::GetSet => ("get", Rule::Set),
            Self::PatchSet => ("patch", Rule::Set),
            Self::ScaleSet => ("update", Rule::Scale),
            Self::GetClaim => ("get", Rule::Claims),
            Self::ListClaims => ("list", Rule::Claims),
            Self::PatchClaim => ("patch", Rule::Claims),
            Self::GetRecord => ("get", Rule::Record),
            Self::UpdateRecord => ("update", Rule::Record),
            Self::CreateRecord => ("create", Rule::NewRecord),
            Self::GetLease => ("get", Rule::Lease),
            Self::UpdateLease => ("update", Rule::Lease),
            Self::CreateLease => ("create", Rule::NewLease),
            Self::CreateEvent => ("create", Rule::Events),
        };
        Right { verb, rule }
    }
}

/// A verb, and the rule of the Role that carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// The verb, as RBAC calls it.
    pub verb: &'static str,
    /// The rule.
    pub rule: Rule,
}

/// A rule of the Role: which objects, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Pods.
    Pods,
    /// Evictions of pods.
    Evictions,
    /// The set.
    Set,
    /// The size of the set.
    Scale,
    /// Claims.
    Claims,
    /// The record.
    Record,
    /// A record that is not there yet.
    NewRecord,
    /// The Lease.
    Lease,
    /// A Lease that is not there yet.
    NewLease,
    /// Events.
    Events,
}

impl Rule {
    /// The API group; empty for the core.
    pub fn group(self) -> &'static str {
        match self {
            Self::Pods | Self::Evictions | Self::Claims | Self::Record | Self::NewRecord => "",
            Self::Set | Self::Scale => "apps",
            Self::Lease | Self::NewLease => "coordination.k8s.io",
            Self::Events => "events.k8s.io",
        }
    }

    /// The resource, with its subresource.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Evictions => "pods/eviction",
            Self::Set => "statefulsets",
            Self::Scale => "statefulsets/scale",
            Self::Claims => "persistentvolumeclaims",
            Self::Record | Self::NewRecord => "configmaps",
            Self::Lease | Self::NewLease => "leases",
            Self::Events => "events",
        }
    }

    /// The only object it is about; none where Kubernetes cannot narrow it, or its name is not known beforehand.
    pub fn object(self, set: &str) -> Option<String> {
        match self {
            Self::Set | Self::Scale => Some(set.to_owned()),
            Self::Record => Some(names::record(set)),
            Self::Lease => Some(names::lease(set)),
            Self::Pods | Self::Evictions | Self::Claims | Self::NewRecord | Self::NewLease | Self::Events => None,
        }
    }

    /// The feature that needs it: the comment above the rule.
    pub fn why(self) -> &'static str {
        match self {
            Self::Pods => {
                "Which pods there are, and the pilot's own: whether it is ending, and how long that may take. `patch` writes\n\
                 the coordinator's epoch on a pod before it is evicted. Names of pods to come are not known here."
            }
            Self::Evictions => {
                "Restarting members one after the other when the template has changed, within the disruption budget."
            }
            Self::Set => {
                "The size that is wanted, and the coordinator's epoch on the set: it fences writes of an earlier coordinator."
            }
            Self::Scale => "Bringing a pod back: a leave that was cut off, or a scale-in that would lose data.",
            Self::Claims => {
                "Which volume is whose: cluster and identity are written on each claim. Names of claims to come are not\n\
                 known here."
            }
            Self::Record => "The record of the cluster: who its members are, and the operation under way.",
            Self::NewRecord => {
                "Making the record when the cluster is founded. Kubernetes cannot narrow `create` to a name."
            }
            Self::Lease => "Electing the coordinator: its Lease.",
            Self::NewLease => "Making the Lease at the first election. Kubernetes cannot narrow `create` to a name.",
            Self::Events => "Telling people what is done and why.",
        }
    }
}

/// The rules of the Role with their verbs, in order: each rule once, and only with verbs that an access needs.
pub fn rules() -> Vec<(Rule, Vec<&'static str>)> {
    let mut rules: Vec<(Rule, Vec<&'static str>)> = Vec::new();
    for Right { verb, rule } in Access::ALL.into_iter().map(Access::right) {
        match rules.iter_mut().find(|(known, _)| *known == rule) {
            Some((_, verbs)) => verbs.push(verb),
            None => rules.push((rule, vec![verb])),
        }
    }
    rules
}
