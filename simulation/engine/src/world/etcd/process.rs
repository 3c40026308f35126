//! Processes: how they come up, what they hear, and what a driver sees of them.

use super::super::World;
use super::super::database::{
    DOWN_AFTER, Data, FORGOTTEN_AFTER, Line, Process, SEEDS_WITHIN, STREAMS_AGAIN, Seed, Stage, Start, Turn,
};
use super::super::oracle::Rule;
use super::super::planted::Planted;
use super::log::Peer;
use super::{Configuration, Directory};
use protocol::database::{DatabaseState, RingStatus};
use protocol::id::{DatabaseIdentity, PilotName, Uid};
use std::collections::{BTreeMap, BTreeSet};

/// Entries that a process loses which does not wait for its disk.
pub(super) const UNSYNCED: u64 = 30;
/// A member that hears no leader for so long is started anew by the planted bug that forces a new cluster.
const FORCED_AFTER: u64 = 30_000;
/// Its directory is of a member that was removed.
const REMOVED: i32 = 1;
/// It found nobody who has heard of it.
const NEVER_ADDED: i32 = 5;
/// It found nobody.
const NOBODY: i32 = 3;

impl World {
    /// Starts a process on a volume.
    pub(crate) fn start_etcd(&mut self, pod: &PilotName, claim: &Uid, start: Start) {
        let ready = self.now + self.etcd.chance.between(1_000, 5_000);
        let lies_there = self.volumes.get(claim).and_then(|v| v.data.as_ref());
        let bootstrapped = lies_there.is_some_and(|d| d.bootstrapped);
        let identity = match (lies_there.map(|d| d.identity.clone()), &start) {
            (Some(identity), _) => identity,
            (None, Start::Added(identity, _)) => identity.clone(),
            (None, Start::Founder) => self.begin_cluster(pod, claim),
            // It has no directory and nobody has added it: it will find that out.
            (None, Start::Joiner(_) | Start::Returner(_) | Start::Replacer(..)) => {
                DatabaseIdentity::new(format!("nobody-{pod}"))
            }
        };
        self.judge_directory(pod, claim);
        let process = Process {
            claim: claim.clone(),
            identity,
            stage: Stage::Starting(ready),
            start,
            bootstrapped,
            began: self.now,
            hangs_until: 0,
            ring: BTreeMap::new(),
            changed: false,
        };
        self.databases.processes.insert(pod.clone(), process);
    }

    /// The members agree, and their processes go on.
    pub(crate) fn turn_etcd(&mut self) {
        self.replicate();
        let pods: Vec<PilotName> = self.databases.processes.keys().cloned().collect();
        for pod in pods {
            if self.databases.processes.get(&pod).is_none_or(|p| p.hangs(self.now)) {
                continue;
            }
            let Some(turn) = self.turn_of(&pod) else { continue };
            self.tell(format!("database {pod}: {turn:?}"));
            match turn {
                Turn::Exit(code) => self.kill_database(&pod, Some(code)),
                Turn::Joining => {
                    self.oracle.changes += 1;
                    self.judge_moving();
                }
                Turn::Serving | Turn::Joined | Turn::HandsOver | Turn::Left => {}
            }
        }
        self.look_around();
    }

    fn turn_of(&mut self, pod: &PilotName) -> Option<Turn> {
        let now = self.now;
        let process = self.databases.processes.get(pod)?;
        let (stage, claim, identity) = (process.stage, process.claim.clone(), process.identity.clone());
        if matches!(stage, Stage::Starting(until) if now < until) {
            return None;
        }
        let Some(data) = self.volumes.get(&claim)?.data.as_ref() else { return self.begin_directory(pod) };
        if data.decommissioned {
            return Some(Turn::Exit(REMOVED));
        }
        if self.hears_of_its_removal(pod) {
            self.with_data(&claim, |data| data.decommissioned = true);
            self.tell(format!("database {pod} hears that {identity} was removed"));
            return Some(Turn::Exit(if matches!(stage, Stage::Starting(_)) { REMOVED } else { 0 }));
        }
        let peer = self.peers().into_iter().find(|p| p.pod == *pod)?;
        let led = self.etcd.led.contains(pod);
        let votes = self.configuration_of(&peer).is_some_and(|c| c.is_voter(&identity));
        match stage {
            // It answers by what it has, as a health check that asks nobody else sees it.
            Stage::Starting(_) if votes => {
                self.with_data(&claim, |data| data.bootstrapped = true);
                self.enters(pod, Stage::Serving);
                Some(Turn::Serving)
            }
            Stage::Starting(_) => {
                let length = self.etcd.chance.between(1_000, 8_000);
                self.enters(pod, Stage::Joining(now + length));
                Some(Turn::Joining)
            }
            Stage::Serving if !led => {
                self.force_new_cluster(pod, &peer);
                None
            }
            Stage::Joining(_) | Stage::JoinFailed if votes => {
                self.with_data(&claim, |data| data.bootstrapped = true);
                self.enters(pod, Stage::Serving);
                Some(Turn::Joined)
            }
            Stage::Joining(until) if !led => {
                self.enters(pod, Stage::Joining(until.max(now + STREAMS_AGAIN)));
                None
            }
            Stage::Joining(_)
            | Stage::JoinFailed
            | Stage::Serving
            | Stage::Leaving(_)
            | Stage::Announcing(_)
            | Stage::Left
            | Stage::Draining => None,
        }
    }

    fn with_data(&mut self, claim: &Uid, change: impl FnOnce(&mut Data)) {
        if let Some(data) = self.volumes.get_mut(claim).and_then(|v| v.data.as_mut()) {
            change(data);
        }
    }

    fn enters(&mut self, pod: &PilotName, stage: Stage) {
        if let Some(process) = self.databases.processes.get_mut(pod) {
            process.stage = stage;
            process.bootstrapped |= stage == Stage::Serving;
        }
    }

    /// A process that has no directory begins one: as the first member, or as the one that was added for it.
    fn begin_directory(&mut self, pod: &PilotName) -> Option<Turn> {
        let process = self.databases.processes.get(pod)?;
        let (start, began) = (process.start.clone(), process.began);
        let (claim, identity) = (process.claim.clone(), process.identity.clone());
        let length = self.etcd.chance.between(5_000, 40_000);
        let (stage, turn) = match start {
            Start::Added(_, seeds) => {
                let Some(leader) = seeds.iter().find_map(|seed| self.leader_through(pod, seed)) else {
                    return (self.now > began + SEEDS_WITHIN).then_some(Turn::Exit(NOBODY));
                };
                if !self.configuration_of(&leader).is_some_and(|c| c.has(&identity)) {
                    return Some(Turn::Exit(NEVER_ADDED));
                }
                self.judge_adoption(pod, &identity);
                self.etcd.started.insert(identity.clone());
                (Stage::Joining(self.now + length), Turn::Joining)
            }
            // Who founds has its directory from the first moment on.
            Start::Founder | Start::Joiner(_) | Start::Returner(_) | Start::Replacer(..) => {
                return Some(Turn::Exit(NEVER_ADDED));
            }
        };
        let data = Data::new(identity, Some(Directory { cluster: self.etcd.cluster?, entries: 0 }));
        self.volumes.get_mut(&claim)?.data = Some(data);
        self.enters(pod, stage);
        Some(turn)
    }

    /// The leader that a member knows who is reached from this pod.
    pub(super) fn leader_through(&self, pod: &PilotName, (peer, uid): &Seed) -> Option<Peer> {
        let there = self.pods.get(peer).is_some_and(|p| p.uid() == uid) && self.reaches(pod, peer);
        if there { self.leader_of(peer) } else { None }
    }

    /// The first of these members through which a leader is reached, with that leader.
    pub(super) fn reached_through(
        &self,
        pod: &PilotName,
        seeds: impl IntoIterator<Item = Seed>,
    ) -> Option<(Seed, Peer)> {
        seeds.into_iter().find_map(|seed| self.leader_through(pod, &seed).map(|leader| (seed, leader)))
    }

    fn begin_cluster(&mut self, pod: &PilotName, claim: &Uid) -> DatabaseIdentity {
        self.judge_new_cluster(pod);
        let identity = self.etcd.mint(pod);
        self.etcd.clusters += 1;
        self.etcd.cluster = Some(self.etcd.clusters);
        self.etcd.committed = 1;
        self.etcd.history = vec![(1, Configuration::default().with(&identity, pod, true))];
        self.etcd.started.insert(identity.clone());
        let data = Data::new(identity.clone(), Some(Directory { cluster: self.etcd.clusters, entries: 1 }));
        if let Some(volume) = self.volumes.get_mut(claim) {
            volume.data = Some(data);
        }
        identity
    }

    /// The bug of who takes a lost quorum for a reason to go on alone.
    fn force_new_cluster(&mut self, pod: &PilotName, own: &Peer) {
        let began = self.databases.processes.get(pod).map_or(self.now, |p| p.began);
        if self.options.planted != Some(Planted::ForcesNew) || self.now < began + FORCED_AFTER {
            return;
        }
        let alone = Configuration::default().with(&own.identity, pod, true);
        let others = self.configuration_of(own).map_or(0, |c| c.members().count().saturating_sub(1));
        if others > 0 {
            let why = format!("{pod} makes itself the only member where no quorum was heard: {others} are thrown out");
            self.oracle.broken(Rule::DataStays, why);
        }
        self.etcd.history.push((own.entries, alone));
    }

    /// Whether somebody it reaches, whose log is longer, has it no more among the members: then its messages are answered
    /// with that. What the log itself says of it counts as well.
    fn hears_of_its_removal(&self, pod: &PilotName) -> bool {
        let peers = self.peers();
        let Some(own) = peers.iter().find(|p| p.pod == *pod) else { return false };
        peers.iter().any(|other| {
            let is_told = other.pod == own.pod || (other.entries > own.entries && self.reaches(&own.pod, &other.pod));
            is_told
                && self.etcd.removed.contains_key(&own.identity)
                && self.configuration_of(other).is_some_and(|c| !c.has(&own.identity))
        })
    }

    /// Each process notes who is a member by its own log, and whom its peer connections reach.
    fn look_around(&mut self) {
        let now = self.now;
        let peers = self.peers();
        let mut rings: Vec<(PilotName, BTreeMap<DatabaseIdentity, Line>)> = Vec::new();
        for own in &peers {
            let (Some(configuration), Some(process)) =
                (self.configuration_of(own), self.databases.processes.get(&own.pod))
            else {
                continue;
            };
            let line = |(identity, member): (&DatabaseIdentity, &super::Member)| {
                let before = process.ring.get(identity);
                let heard = peers.iter().any(|p| p.identity == *identity && self.reaches(&p.pod, &own.pod));
                let is_own = *identity == own.identity;
                let own_word = own_word(process.stage).filter(|_| is_own);
                let status = own_word.unwrap_or(if member.votes { RingStatus::Normal } else { RingStatus::Joining });
                let since = before.map_or(now, |b| b.since);
                let grew = if heard || is_own { Some(now) } else { before.and_then(|b| b.grew) };
                (identity.clone(), Line { status, version: 0, beat: now, grew, since })
            };
            rings.push((own.pod.clone(), configuration.members().map(line).collect()));
        }
        for (pod, ring) in rings {
            if let Some(process) = self.databases.processes.get_mut(&pod) {
                process.ring = ring;
            }
        }
    }

    /// One look of the driver. Who is a member is told as this process knows it, also where there is no quorum: a voter that
    /// is not in the record yet may be what the quorum lacks, and nobody would let it start. A learner that nobody reaches
    /// for a while is left out, since it holds nothing and counts for nothing.
    pub(crate) fn look_at_etcd(&self, process: &Process) -> DatabaseState {
        let mut state = process.look(self.now);
        if state.ring.is_none() {
            return state;
        }
        let lately = |line: &Line| self.now < line.grew.unwrap_or(line.since) + FORGOTTEN_AFTER;
        let forgotten: BTreeSet<&DatabaseIdentity> = process
            .ring
            .iter()
            .filter(|(_, line)| line.status == RingStatus::Joining && !lately(line))
            .map(|(identity, _)| identity)
            .collect();
        state.ring =
            state.ring.map(|ring| ring.iter().filter(|line| !forgotten.contains(&line.identity)).cloned().collect());
        // Every member holds everything.
        state.replication = Some(1);
        state
    }

    /// Whether the leader hears this member.
    pub(super) fn is_heard(&self, identity: &DatabaseIdentity) -> bool {
        let peers = self.peers();
        let Some(leader) = self.leader(&peers) else { return false };
        peers.iter().any(|peer| peer.identity == *identity && self.is_led(peer, &leader))
    }

    /// Voters that have been heard a moment ago, as a driver counts them.
    pub(super) fn healthy(&self, configuration: &Configuration) -> usize {
        let healthy = |identity: &&DatabaseIdentity| {
            self.etcd.away.get(*identity).is_none_or(|since| self.now < since + DOWN_AFTER)
        };
        configuration.voters().filter(healthy).count()
    }
}

/// What a process says of itself besides what its configuration does.
fn own_word(stage: Stage) -> Option<RingStatus> {
    match stage {
        Stage::Leaving(_) => Some(RingStatus::Leaving),
        Stage::Draining => Some(RingStatus::Shutdown),
        Stage::Starting(_)
        | Stage::Joining(_)
        | Stage::JoinFailed
        | Stage::Serving
        | Stage::Announcing(_)
        | Stage::Left => None,
    }
}
