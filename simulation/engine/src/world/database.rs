//! A model of a Cassandra-like database: a ring that every process knows by gossip of its own, joins and leaves that
//! take time and can be cut off, and an identity that lives on the volume.

use super::chance::Chance;
use super::etcd::Directory;
use protocol::database::{DatabasePhase, DatabaseState, Progress, RingMember, RingStatus};
use protocol::id::{DatabaseIdentity, PilotName, Uid};
use std::collections::{BTreeMap, BTreeSet};

/// A peer whose heartbeat has not grown for so long is down.
pub(super) const DOWN_AFTER: u64 = 6_000;
/// A joining member that died is forgotten after so long.
pub(super) const FORGOTTEN_AFTER: u64 = 30_000;
/// A joiner that finds no seed gives up after so long.
pub(super) const SEEDS_WITHIN: u64 = 30_000;
/// Who has left waits so long for all others to have heard of it before it says that it is done.
const ANNOUNCES: u64 = 10_000;
/// Copies of every piece of data.
pub const REPLICATION: u32 = 3;
/// After a cut, streams need so long to go on.
pub(super) const STREAMS_AGAIN: u64 = 2_000;

/// Which database the members of a run have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// The ring of this module.
    #[default]
    Ring,
    /// The members of [`etcd`](super::etcd).
    Etcd,
}

/// What a database leaves on its volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// Who it is.
    pub identity: DatabaseIdentity,
    /// It has been a full member.
    pub bootstrapped: bool,
    /// It has left, and would refuse to come up again.
    pub decommissioned: bool,
    /// The truth, whatever its disk says: others hold its part now, and it has not served since.
    pub handed_over: bool,
    /// Full members it knew.
    pub peers: BTreeSet<DatabaseIdentity>,
    /// The numbers of the rows that it holds.
    pub rows: BTreeSet<u32>,
    /// What lies there of a log, where the database is one that keeps one.
    pub log: Option<Directory>,
}

impl Data {
    /// What lies on the volume of a member that has just begun.
    pub fn new(identity: DatabaseIdentity, log: Option<Directory>) -> Self {
        Self {
            identity,
            bootstrapped: false,
            decommissioned: false,
            handed_over: false,
            peers: BTreeSet::new(),
            rows: BTreeSet::new(),
            log,
        }
    }

    /// It owns its part: it has taken it over, and has not handed it over for good.
    pub fn is_full_member(&self) -> bool {
        self.bootstrapped && !self.decommissioned && !self.handed_over
    }
}

/// The address of a member: of one pod, and of no other under its name.
pub type Seed = (PilotName, Uid);

/// `pod@uid`, as seeds are written.
pub(crate) fn seed(text: &str) -> Option<Seed> {
    let (name, uid) = text.split_once('@')?;
    Some((PilotName::parse(name).ok()?, Uid::new(uid)))
}

/// How a database is started, as the driver writes it into the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With nobody but itself as seed.
    Founder,
    /// With these members as seeds.
    Joiner(Vec<Seed>),
    /// As before, with these others and itself as seeds.
    Returner(Vec<Seed>),
    /// As the member of this identity, which the others have added already.
    Added(DatabaseIdentity, Vec<Seed>),
    /// With these members as seeds, to take over the part of this one, whose data is lost.
    Replacer(DatabaseIdentity, Vec<Seed>),
}

/// Where a process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Comes up until then.
    Starting(u64),
    /// Streams until then.
    Joining(u64),
    /// What it streamed broke off: it runs and owns nothing, until it is started again.
    JoinFailed,
    /// Serves.
    Serving,
    /// Streams its data away until then.
    Leaving(u64),
    /// Has left, and makes sure until then that all others hear of it.
    Announcing(u64),
    /// Has left.
    Left,
    /// Said that it stops.
    Draining,
}

/// What one process knows of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    pub(super) status: RingStatus,
    /// Orders what a member said of itself.
    pub(super) version: u64,
    pub(super) beat: u64,
    /// When the heartbeat was last seen to grow.
    pub(super) grew: Option<u64>,
    pub(super) since: u64,
}

/// One running database process.
#[derive(Debug, Clone)]
pub struct Process {
    /// The volume it runs on.
    pub claim: Uid,
    /// Who it is.
    pub identity: DatabaseIdentity,
    /// Where it stands.
    pub stage: Stage,
    pub(super) start: Start,
    pub(super) bootstrapped: bool,
    pub(super) began: u64,
    /// It is stopped until then: it says nothing and hears nothing.
    pub(super) hangs_until: u64,
    pub(super) ring: BTreeMap<DatabaseIdentity, Line>,
    /// Who is in it, or as what, has changed since that was written to its disk.
    pub(super) changed: bool,
}

/// What a process did by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// It ended with this exit code.
    Exit(i32),
    /// It began to stream data in.
    Joining,
    /// It serves.
    Serving,
    /// It has taken its part over, and serves.
    Joined,
    /// It hands over what it holds; when all of it has arrived, it announces that it has left.
    HandsOver,
    /// It has left.
    Left,
}

/// What broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenOff {
    /// A join.
    Join,
    /// A leave: its program ends with an error.
    Leave,
}

/// All processes that run, by the pod they run in.
#[derive(Debug, Clone)]
pub struct Databases {
    /// The running ones.
    pub processes: BTreeMap<PilotName, Process>,
    chance: Chance,
    minted: u64,
}

impl Databases {
    /// None yet.
    pub fn new(seed: u64) -> Self {
        Self { processes: BTreeMap::new(), chance: Chance::of(seed, "database"), minted: 0 }
    }

    /// Starts a process on a volume and returns the data it finds or makes there.
    pub fn start(&mut self, now: u64, pod: &PilotName, claim: &Uid, data: &mut Option<Data>, start: Start) {
        let data = data.get_or_insert_with(|| {
            self.minted += 1;
            Data::new(DatabaseIdentity::new(format!("h{}-{pod}", self.minted)), None)
        });
        let ready = now + self.chance.between(2_000, 8_000);
        let known = data.peers.iter().filter(|i| **i != data.identity).map(|identity| {
            let line = Line { status: RingStatus::Normal, version: 0, beat: 0, grew: None, since: now };
            (identity.clone(), line)
        });
        let process = Process {
            claim: claim.clone(),
            identity: data.identity.clone(),
            stage: Stage::Starting(ready),
            start,
            bootstrapped: data.bootstrapped,
            began: now,
            hangs_until: 0,
            changed: true,
            ring: known.collect(),
        };
        self.processes.insert(pod.clone(), process);
    }

    /// Begins to leave; false where it does not serve.
    pub fn leave(&mut self, now: u64, pod: &PilotName) -> bool {
        let length = self.chance.between(5_000, 60_000);
        let Some(process) = self.processes.get_mut(pod) else { return false };
        if process.stage != Stage::Serving {
            return false;
        }
        process.stage = Stage::Leaving(now + length);
        process.say(now, RingStatus::Leaving);
        true
    }

    /// All that it holds has arrived at the others.
    pub fn announce(&mut self, now: u64, pod: &PilotName) {
        if let Some(process) = self.processes.get_mut(pod).filter(|p| matches!(p.stage, Stage::Leaving(_))) {
            process.stage = Stage::Announcing(now + ANNOUNCES);
            process.say(now, RingStatus::Left);
        }
    }

    /// What it streams breaks off: a leave has failed and it serves as before, a join stands still. Tells which.
    pub fn break_off(&mut self, now: u64, pod: &PilotName) -> Option<BrokenOff> {
        let process = self.processes.get_mut(pod)?;
        match process.stage {
            Stage::Leaving(_) => {
                process.stage = Stage::Serving;
                process.say(now, RingStatus::Normal);
                Some(BrokenOff::Leave)
            }
            Stage::Joining(_) => {
                process.stage = Stage::JoinFailed;
                Some(BrokenOff::Join)
            }
            Stage::Starting(_)
            | Stage::JoinFailed
            | Stage::Serving
            | Stage::Announcing(_)
            | Stage::Left
            | Stage::Draining => None,
        }
    }

    /// The process is stopped (SIGSTOP) and goes on later.
    pub fn hang(&mut self, now: u64, pod: &PilotName, length: u64) {
        if let Some(process) = self.processes.get_mut(pod) {
            process.hangs_until = process.hangs_until.max(now + length);
        }
    }

    /// Those that were stopped go on.
    pub fn wake_all(&mut self) {
        for process in self.processes.values_mut() {
            process.hangs_until = 0;
        }
    }

    /// The leave program was killed: what streams goes on in the database.
    pub fn drain(&mut self, now: u64, pod: &PilotName) {
        if let Some(process) = self.processes.get_mut(pod)
            && matches!(process.stage, Stage::Serving | Stage::Leaving(_))
        {
            if process.stage == Stage::Serving {
                process.say(now, RingStatus::Shutdown);
            }
            process.stage = Stage::Draining;
        }
    }

    /// Lets one process go on: at most one turn. `together` says that it reaches all others that serve: what it takes over
    /// when it joins comes from them, and what it hands over when it leaves goes to them.
    pub fn turn(
        &mut self,
        now: u64,
        pod: &PilotName,
        data: &mut Option<Data>,
        reaches: impl Fn(&Seed) -> bool,
        together: bool,
    ) -> Option<Turn> {
        let length = self.chance.between(5_000, 40_000);
        if self.processes.get(pod)?.hangs(now) {
            return None;
        }
        let mut process = self.processes.remove(pod)?;
        if let Stage::Joining(until) | Stage::Leaving(until) = &mut process.stage
            && !together
        {
            // Nothing streams meanwhile, and the last of it comes after the way is free again.
            *until = (*until).max(now + STREAMS_AGAIN);
        }
        let turn = self.step(now, &mut process, data, reaches, length);
        self.processes.insert(pod.clone(), process);
        turn
    }

    fn step(
        &mut self,
        now: u64,
        process: &mut Process,
        data: &mut Option<Data>,
        reaches: impl Fn(&Seed) -> bool,
        length: u64,
    ) -> Option<Turn> {
        let data = data.as_mut()?;
        match process.stage {
            Stage::Starting(until) if now >= until => {
                if data.decommissioned {
                    return Some(Turn::Exit(1));
                }
                if process.bootstrapped || process.start == Start::Founder {
                    data.bootstrapped = true;
                    process.stage = Stage::Serving;
                    process.say(now, RingStatus::Normal);
                    return Some(Turn::Serving);
                }
                let (Start::Joiner(seeds)
                | Start::Returner(seeds)
                | Start::Added(_, seeds)
                | Start::Replacer(_, seeds)) = &process.start
                else {
                    return None;
                };
                let seed = seeds.iter().filter(|s| reaches(s)).find_map(|s| {
                    self.processes
                        .get(&s.0)
                        .filter(|p| !p.hangs(now) && matches!(p.stage, Stage::Serving | Stage::Leaving(_)))
                });
                let Some(seed) = seed else {
                    return (now > process.began + SEEDS_WITHIN).then_some(Turn::Exit(3));
                };
                let moving = |l: &Line| matches!(l.status, RingStatus::Joining | RingStatus::Leaving);
                if seed.ring.iter().any(|(i, l)| *i != process.identity && moving(l)) {
                    // Other bootstrapping, leaving or moving nodes detected.
                    return Some(Turn::Exit(4));
                }
                if let Some(lost) = process.replaces()
                    && seed.ring.get(lost).is_some_and(|line| line.grew.is_some_and(|at| now < at + DOWN_AFTER))
                {
                    // Cannot replace a live node.
                    return Some(Turn::Exit(5));
                }
                process.merge(now, &seed.ring.clone());
                process.stage = Stage::Joining(now + length);
                process.say(now, RingStatus::Joining);
                Some(Turn::Joining)
            }
            Stage::Joining(until) if now >= until => {
                data.bootstrapped = true;
                process.bootstrapped = true;
                process.stage = Stage::Serving;
                process.say(now, RingStatus::Normal);
                let lost = process.replaces().cloned();
                if let Some(line) = lost.and_then(|lost| process.ring.get_mut(&lost)) {
                    // What it says of itself says this of the other, wherever it is heard.
                    line.status = RingStatus::Left;
                    line.version = now + 1;
                }
                Some(Turn::Joined)
            }
            Stage::Leaving(until) if now >= until => Some(Turn::HandsOver),
            Stage::Announcing(until) if now >= until => {
                data.decommissioned = true;
                process.stage = Stage::Left;
                Some(Turn::Left)
            }
            Stage::Starting(_)
            | Stage::Joining(_)
            | Stage::JoinFailed
            | Stage::Leaving(_)
            | Stage::Announcing(_)
            | Stage::Serving
            | Stage::Left
            | Stage::Draining => {
                if std::mem::take(&mut process.changed) {
                    data.peers = process.normal();
                }
                None
            }
        }
    }

    /// One round of the databases' own gossip.
    pub fn gossip(&mut self, now: u64, reaches: impl Fn(&PilotName, &PilotName) -> bool) {
        let pods: Vec<PilotName> = self.processes.keys().cloned().collect();
        for process in self.processes.values_mut().filter(|p| !p.hangs(now)) {
            let identity = process.identity.clone();
            if let Some(line) = process.ring.get_mut(&identity) {
                line.beat = now;
                line.grew = Some(now);
            }
            let known = process.ring.len();
            process
                .ring
                .retain(|_, l| l.status != RingStatus::Joining || now < l.grew.unwrap_or(l.since) + FORGOTTEN_AFTER);
            process.changed |= process.ring.len() != known;
        }
        for pod in &pods {
            for _ in 0..2 {
                let Some(peer) = self.chance.pick(&pods).cloned() else { continue };
                if peer == *pod || !reaches(pod, &peer) {
                    continue;
                }
                let speaks = |p: &Process| {
                    !p.hangs(now) && !matches!(p.stage, Stage::Starting(until) if now < until || !p.bootstrapped)
                };
                let (Some(a), Some(b)) = (self.processes.get(pod), self.processes.get(&peer)) else { continue };
                if !speaks(a) || !speaks(b) {
                    continue;
                }
                let Some(mut a) = self.processes.remove(pod) else { continue };
                if let Some(b) = self.processes.get_mut(&peer) {
                    a.merge(now, &b.ring);
                    // What the other has just been told is no news here.
                    b.merge(now, &a.ring);
                }
                self.processes.insert(pod.clone(), a);
            }
        }
    }

    /// Members that own data, by their own account.
    pub fn serving(&self) -> usize {
        self.processes.values().filter(|p| p.stage == Stage::Serving).count()
    }
}

impl Process {
    /// The others that it knows as full members, up or down.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &DatabaseIdentity> {
        let owns = |line: &Line| matches!(line.status, RingStatus::Normal | RingStatus::Shutdown);
        let other = |identity: &DatabaseIdentity| *identity != self.identity && self.replaces() != Some(identity);
        self.ring.iter().filter(move |(identity, line)| other(identity) && owns(line)).map(|(i, _)| i)
    }

    /// Whose part it takes over.
    fn replaces(&self) -> Option<&DatabaseIdentity> {
        match &self.start {
            Start::Replacer(lost, _) => Some(lost),
            Start::Founder | Start::Joiner(_) | Start::Returner(_) | Start::Added(..) => None,
        }
    }

    fn say(&mut self, now: u64, status: RingStatus) {
        let line = Line { status, version: now + 1, beat: now, grew: Some(now), since: now };
        self.ring.insert(self.identity.clone(), line);
        self.changed = true;
    }

    fn merge(&mut self, now: u64, other: &BTreeMap<DatabaseIdentity, Line>) {
        // Both are in order of identity.
        let mut mine = self.ring.iter_mut().peekable();
        let mut unknown: Vec<(&DatabaseIdentity, &Line)> = Vec::new();
        for (identity, theirs) in other {
            // Nearly always the next is the same.
            let mut found = mine.next_if(|(own, _)| *own == identity);
            if found.is_none() {
                while mine.next_if(|(own, _)| *own < identity).is_some() {}
                found = mine.next_if(|(own, _)| *own == identity);
            }
            let Some((_, own)) = found else {
                unknown.push((identity, theirs));
                continue;
            };
            if *identity == self.identity {
                continue;
            }
            if theirs.version > own.version {
                self.changed |= own.status != theirs.status;
                own.status = theirs.status;
                own.version = theirs.version;
            }
            if theirs.beat > own.beat {
                own.beat = theirs.beat;
                own.grew = Some(now);
            }
        }
        for (identity, theirs) in unknown {
            let lately = now < theirs.beat + DOWN_AFTER;
            if *identity == self.identity || (theirs.status == RingStatus::Joining && now > theirs.beat + DOWN_AFTER) {
                continue;
            }
            self.changed = true;
            self.ring.insert(identity.clone(), Line { grew: lately.then_some(now), since: now, ..*theirs });
        }
    }

    fn normal(&self) -> BTreeSet<DatabaseIdentity> {
        let kept = |l: &Line| matches!(l.status, RingStatus::Normal | RingStatus::Leaving | RingStatus::Shutdown);
        self.ring.iter().filter(|(_, l)| kept(l)).map(|(i, _)| i.clone()).collect()
    }

    /// Whether this one is a member in its ring.
    pub fn knows(&self, identity: &DatabaseIdentity) -> bool {
        self.ring.get(identity).is_some_and(|l| l.status != RingStatus::Left)
    }

    /// It is stopped.
    pub fn hangs(&self, now: u64) -> bool {
        now < self.hangs_until
    }

    /// One look of the driver.
    pub fn look(&self, now: u64) -> DatabaseState {
        if self.hangs(now) {
            return DatabaseState::bare(DatabasePhase::Unresponsive);
        }
        let phase = match self.stage {
            Stage::Starting(_) => DatabasePhase::Starting,
            Stage::Joining(_) => DatabasePhase::Joining,
            Stage::JoinFailed => DatabasePhase::JoinFailed,
            Stage::Serving => DatabasePhase::Serving,
            Stage::Leaving(_) | Stage::Announcing(_) => DatabasePhase::Leaving,
            Stage::Left => DatabasePhase::Left,
            Stage::Draining => DatabasePhase::Draining,
        };
        let mut state = DatabaseState::bare(phase);
        if matches!(self.stage, Stage::Starting(_)) {
            return state;
        }
        state.identity = Some(self.identity.clone());
        state.version = Some("model".to_owned());
        state.schema_agreed = Some(true);
        state.replication = Some(REPLICATION);
        state.streaming = match self.stage {
            Stage::Joining(until) | Stage::Leaving(until) => {
                Some(Progress { done: 60_000u64.saturating_sub(until.saturating_sub(now)), total: 60_000 })
            }
            Stage::Starting(_)
            | Stage::JoinFailed
            | Stage::Serving
            | Stage::Announcing(_)
            | Stage::Left
            | Stage::Draining => None,
        };
        let line = |(identity, line): (&DatabaseIdentity, &Line)| {
            let silent = line.grew.map(|at| now.saturating_sub(at));
            let up = match silent {
                _ if line.status == RingStatus::Shutdown => Some(false),
                Some(silent) => Some(silent < DOWN_AFTER),
                None => (now > line.since + DOWN_AFTER).then_some(false),
            };
            RingMember { identity: identity.clone(), status: line.status, up }
        };
        state.ring = Some(self.ring.iter().map(line).collect());
        state
    }
}
