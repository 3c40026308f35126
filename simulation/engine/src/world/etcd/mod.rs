//! A model of etcd: members that agree on one log, a configuration of voters and at most one learner that is changed by
//! entries of that log, and directories that carry a member's id.
//!
//! Raft itself is taken to be right, so that an entry comes to be at once on a majority of the voters or nowhere: logs
//! differ in their length only. Who leads is computed anew from the logs, the configuration that each log ends with and
//! who reaches whom, so that whatever the mesh does to members, directories and processes shows as a quorum that is lost
//! or as a leader that lacks what was acknowledged. What is the mesh's own are the calls that change members: they are
//! made by drivers and by the leave program, take time, and may be cut off at any moment ([`calls`]).

mod calls;
mod errands;
mod judge;
mod log;
mod process;

pub(crate) use calls::Request;
pub use calls::{CutCall, MemberCallKind, Moment, What};
pub(crate) use errands::Errand;

use super::agents::Life;
use super::chance::Chance;
use super::database::Kind;
use protocol::id::{DatabaseIdentity, PilotName};
use std::collections::{BTreeMap, BTreeSet};

/// What lies of the log in a member's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// The cluster it was made in.
    pub cluster: u64,
    /// So many entries.
    pub entries: u64,
}

/// One member of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The pod whose address is its peer URL.
    pub pod: PilotName,
    /// It counts; otherwise it is a learner.
    pub votes: bool,
}

/// Who is a member, from some entry of the log on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration(BTreeMap<DatabaseIdentity, Member>);

/// So many of these voters have to agree.
pub(crate) fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

impl Configuration {
    /// All members.
    pub fn members(&self) -> impl Iterator<Item = (&DatabaseIdentity, &Member)> {
        self.0.iter()
    }

    /// Those that count.
    pub fn voters(&self) -> impl Iterator<Item = &DatabaseIdentity> {
        self.0.iter().filter(|(_, member)| member.votes).map(|(identity, _)| identity)
    }

    /// How many count.
    pub fn votes(&self) -> usize {
        self.voters().count()
    }

    /// Whether this one counts.
    pub fn is_voter(&self, identity: &DatabaseIdentity) -> bool {
        self.0.get(identity).is_some_and(|member| member.votes)
    }

    /// Whether this one is a member.
    pub fn has(&self, identity: &DatabaseIdentity) -> bool {
        self.0.contains_key(identity)
    }

    /// The one that does not count yet: etcd allows no second one.
    pub fn learner(&self) -> Option<(&DatabaseIdentity, &Member)> {
        self.0.iter().find(|(_, member)| !member.votes)
    }

    /// The member at this pod's address.
    pub fn at(&self, pod: &PilotName) -> Option<(&DatabaseIdentity, &Member)> {
        self.0.iter().find(|(_, member)| member.pod == *pod)
    }

    fn with(&self, identity: &DatabaseIdentity, pod: &PilotName, votes: bool) -> Self {
        let mut next = self.clone();
        next.0.insert(identity.clone(), Member { pod: pod.clone(), votes });
        next
    }

    fn without(&self, identity: &DatabaseIdentity) -> Self {
        let mut next = self.clone();
        next.0.remove(identity);
        next
    }
}

/// The truth of it, whoever knows it.
#[derive(Debug, Clone)]
pub(crate) struct Etcd {
    chance: Chance,
    minted: u64,
    /// The cluster there is, once it was begun.
    cluster: Option<u64>,
    clusters: u64,
    /// Entries that are committed.
    committed: u64,
    /// The configurations, each with the entry it came with.
    history: Vec<(u64, Configuration)>,
    /// Members that have been started: they have published their name.
    started: BTreeSet<DatabaseIdentity>,
    /// Who was removed, and when.
    removed: BTreeMap<DatabaseIdentity, u64>,
    /// The pods whose members hear a leader.
    led: BTreeSet<PilotName>,
    /// Voters that hear none, and since when.
    away: BTreeMap<DatabaseIdentity, u64>,
    /// Pilots whose call to promote their member is on its way.
    promoting: BTreeSet<Life>,
    /// Calls that are to be cut.
    cuts: Vec<CutCall>,
}

impl Etcd {
    /// Nothing has begun.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            chance: Chance::of(seed, "etcd"),
            minted: 0,
            cluster: None,
            clusters: 0,
            committed: 0,
            history: Vec::new(),
            started: BTreeSet::new(),
            removed: BTreeMap::new(),
            led: BTreeSet::new(),
            away: BTreeMap::new(),
            promoting: BTreeSet::new(),
            cuts: Vec::new(),
        }
    }

    /// All of it is lost before anybody else was a member, or its set was deleted: what begins next is another cluster.
    pub(crate) fn is_gone(&mut self) {
        self.cluster = None;
        self.committed = 0;
        self.history.clear();
        self.away.clear();
    }

    /// Nothing is cut any more.
    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
    }

    /// The next call like this is cut.
    pub(crate) fn cut_next(&mut self, cut: CutCall) {
        self.cuts.push(cut);
    }

    /// What lies on the volumes of a cluster that has been there before.
    pub(crate) fn prepared_directory(&self, kind: Kind) -> Option<Directory> {
        match kind {
            Kind::Ring => None,
            Kind::Etcd => Some(Directory { cluster: 1, entries: 1 }),
        }
    }

    /// These have been its members.
    pub(crate) fn prepare(&mut self, members: impl Iterator<Item = (PilotName, DatabaseIdentity)>) {
        let voter = |(pod, identity): (PilotName, DatabaseIdentity)| (identity, Member { pod, votes: true });
        let configuration = Configuration(members.map(voter).collect());
        self.started = configuration.voters().cloned().collect();
        self.history = vec![(1, configuration)];
        self.committed = 1;
        self.clusters = 1;
        self.cluster = Some(1);
    }

    /// An identity that nobody ever had.
    fn mint(&mut self, pod: &PilotName) -> DatabaseIdentity {
        self.minted += 1;
        DatabaseIdentity::new(format!("m{}-{pod}", self.minted))
    }

    /// The configuration that a log of so many entries ends with.
    fn configuration(&self, entries: u64) -> Option<&Configuration> {
        self.history.iter().rev().find(|(from, _)| *from <= entries).map(|(_, configuration)| configuration)
    }

    /// The configuration that is committed.
    pub(crate) fn committed_configuration(&self) -> Option<&Configuration> {
        self.configuration(self.committed)
    }

    /// Whether this one counts by the configuration that is committed.
    pub(crate) fn is_voter(&self, identity: &DatabaseIdentity) -> bool {
        self.committed_configuration().is_some_and(|configuration| configuration.is_voter(identity))
    }
}
