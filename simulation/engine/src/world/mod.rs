//! The deterministic simulator: pilots as in production, driven by one loop of events over models of everything else.
//!
//! One heap of (time, order, happening), ordered containers only, one generator per purpose, a clock per machine, faults
//! as a schedule. The oracle knows the true time and all state; pilots know what a pilot would.

mod agents;
mod api;
mod bounds;
pub mod chance;
pub mod clock;
pub mod cluster;
pub mod database;
pub mod etcd;
pub mod front;
mod launchers;
mod liveness;
pub mod marks;
pub mod mass;
mod members;
mod mesh;
mod nodes;
pub mod oracle;
pub mod plan;
pub mod planted;
mod pods;
mod prepared;
mod rows;
pub mod run;
mod running;
pub mod schedule;
pub mod story;
pub mod swarm;
mod volumes;

use agent::event::{CallId, Event};
use agent::kubernetes::call::Call;
use agent::launch::machine as launcher;
use agent::launch::memory::Memory;
use agent::pilot::durable::Durable;
use agents::{Agent, Life};
use chance::Chance;
use clock::Clock;
use cluster::Cluster;
use database::Databases;
use marks::Marks;
use oracle::Oracle;
use pods::Pod;
use protocol::id::{DatabaseIdentity, PilotId, PilotName, Uid};
use protocol::time::Timestamp;
use run::Options;
use schedule::{Action, Whom};
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use story::Story;
use volumes::Volume;

/// One request on its way to the API.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    life: Life,
    from: PilotId,
    id: CallId,
    call: Box<Call>,
    /// Milliseconds until the answer is there, or no answer.
    answer_after: Option<u64>,
    /// It was held on purpose.
    held: bool,
    sent: members::Sent,
}

/// Something that happens at some time.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    /// A pilot's interval timer.
    Tick(Life),
    /// A pilot's next round of gossip.
    Gossip(Life),
    /// Its driver's next look at the database.
    Look(Life),
    /// Something reaches a pilot.
    Hear(Life, Box<Event>),
    /// A pilot waits no longer for this answer.
    Timeout(Life, CallId),
    /// A pilot's memory is on disk.
    Disk(Life, u64, Box<Durable>),
    /// The next message of this stream arrives.
    Pump(Life, Life),
    /// The other end of a stream is gone.
    Hangup(Life, Life),
    /// Streams are made and given up.
    Streams,
    /// A request reaches the API.
    Request(Box<Request>),
    /// Something reaches a launcher.
    Launcher(PilotName, u64, Box<launcher::Event>),
    /// A launcher's memory is on disk.
    LauncherDisk(PilotName, u64, u64, Box<Memory>),
    /// An agent asks its launcher.
    Ask(Life, Option<u64>, Box<protocol::launcher::Ask>),
    /// Old data is moved aside.
    MoveAside(Life, u64),
    /// One round of the databases' own gossip, and their turns.
    Ring,
    /// The controllers and kubelets work.
    Kubernetes,
    /// The client writes a row.
    Row,
    /// A driver or a leave program of etcd goes on.
    Errand(Box<etcd::Errand>),
    /// A call that changes the members of etcd gets on.
    MemberCall(Box<etcd::Request>),
    /// An agent that was paused goes on.
    Resume(Life),
    /// The action of this number is due.
    Fault(usize),
}

#[derive(Clone)]
struct Entry {
    at: u64,
    order: u64,
    happening: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Generators by purpose.
#[derive(Clone)]
struct Chances {
    network: Chance,
    api: Chance,
    gossip: Chance,
    disk: Chance,
    kubelet: Chance,
    memory: Chance,
    rows: Chance,
}

/// What is broken just now.
#[derive(Clone, Default)]
struct Broken {
    /// Sides of partitions, and until when.
    cuts: Vec<(BTreeSet<u32>, u64)>,
    /// Pods to which nothing comes from the others, and until when.
    deaf: BTreeMap<u32, u64>,
    /// Pairs of pods between which streams stand still, and until when.
    clogs: Vec<((u32, u32), u64)>,
    /// Pods cut off from the API, and until when.
    api_cuts: BTreeMap<u32, u64>,
    outage_until: u64,
    /// So many requests in a thousand fare badly, until then.
    fates: (u64, u64),
    /// The next write of these lives is held for so long.
    held: BTreeMap<Life, u64>,
    /// The next write of these lives is done, and the answer is lost.
    replies_lost: BTreeSet<Life>,
    fronts: front::Fronts,
}

impl Broken {
    /// Whether anything is between any two pods.
    fn hinders_streams(&self, now: u64) -> bool {
        self.cuts.iter().any(|(_, until)| now < *until)
            || self.deaf.values().any(|until| now < *until)
            || self.clogs.iter().any(|(_, until)| now < *until)
    }
}

/// One run.
#[derive(Clone)]
pub struct World {
    options: Options,
    now: u64,
    order: u64,
    heap: BinaryHeap<Reverse<Entry>>,
    chances: Chances,
    clocks: BTreeMap<u32, Clock>,
    cluster: Cluster,
    volumes: BTreeMap<Uid, Volume>,
    pods: BTreeMap<PilotName, Pod>,
    agents: BTreeMap<Life, Agent>,
    /// Theirs, in order: a pilot among a thousand picks three of them twice a second.
    lives: Vec<Life>,
    /// Those that believed, when they heard something last, that they coordinate.
    leading: BTreeSet<Life>,
    links: BTreeMap<(Life, Life), mesh::Link>,
    databases: Databases,
    etcd: etcd::Etcd,
    broken: Broken,
    nodes: nodes::Nodes,
    /// When the pilot of this pod last held that life silent: only the oracle asks.
    held_silent: BTreeMap<(PilotName, PilotId), u64>,
    next: u64,
    rescued: bool,
    excused: Option<String>,
    requests: u64,
    writes_held: usize,
    held_answers: Vec<u16>,
    steps: plan::Steps,
    rows: rows::Rows,
    watch: members::Watch,
    /// Who owned data on a disk that is lost.
    lost_identities: BTreeSet<DatabaseIdentity>,
    /// Pods whose pilot has given its word that the database may start there.
    permitted: BTreeSet<Uid>,
    /// Joiners whose streams have broken off.
    broken_joins: BTreeSet<DatabaseIdentity>,
    /// Rare paths that were taken.
    pub marks: Marks,
    /// What went wrong, if anything.
    pub oracle: Oracle,
    /// What happened.
    pub story: Story,
}

impl World {
    /// A world before anything has happened.
    pub fn new(options: Options) -> Self {
        let seed = options.seed;
        let mut clocks = Chance::of(seed, "clocks");
        let (slow, fast) = options.rates;
        let clocks = (0..options.members.max(64))
            .map(|ordinal| {
                let offset = clocks.between(1_000_000, 1_000_000_000);
                (ordinal, Clock::new(offset, clocks.between(slow, fast)))
            })
            .collect();
        let mut world = Self {
            now: 0,
            order: 0,
            heap: BinaryHeap::new(),
            chances: Chances {
                network: Chance::of(seed, "network"),
                api: Chance::of(seed, "api"),
                gossip: Chance::of(seed, "gossip"),
                disk: Chance::of(seed, "disk"),
                kubelet: Chance::of(seed, "kubelet"),
                memory: Chance::of(seed, "copies of memory"),
                rows: Chance::of(seed, "rows"),
            },
            clocks,
            cluster: Cluster::new(seed, options.members, options.grace, options.budget),
            volumes: BTreeMap::new(),
            pods: BTreeMap::new(),
            agents: BTreeMap::new(),
            lives: Vec::new(),
            leading: BTreeSet::new(),
            links: BTreeMap::new(),
            held_silent: BTreeMap::new(),
            databases: Databases::new(seed),
            etcd: etcd::Etcd::new(seed),
            broken: Broken::default(),
            nodes: nodes::Nodes::default(),
            next: 0,
            rescued: false,
            excused: None,
            requests: 0,
            writes_held: 0,
            held_answers: Vec::new(),
            steps: plan::Steps::default(),
            rows: rows::Rows::default(),
            watch: members::Watch::default(),
            lost_identities: BTreeSet::new(),
            permitted: BTreeSet::new(),
            broken_joins: BTreeSet::new(),
            marks: Marks::default(),
            oracle: Oracle::new(options.planted),
            story: Story::new(options.aloud),
            options,
        };
        for (number, (at, _)) in world.options.schedule.clone().iter().enumerate() {
            world.at(*at, Happening::Fault(number));
        }
        if world.options.prepared {
            world.prepare();
        }
        world.after(0, Happening::Kubernetes);
        world.after(100, Happening::Ring);
        world.after(50, Happening::Streams);
        world.after(1_000, Happening::Row);
        world
    }

    /// The true time in milliseconds.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Lets the time go on until then, or until something has gone wrong.
    pub fn run_until(&mut self, end: u64) {
        while self.oracle.verdict.is_none() {
            match self.heap.peek() {
                Some(Reverse(entry)) if entry.at <= end => {}
                Some(_) | None => break,
            }
            let Some(Reverse(entry)) = self.heap.pop() else { break };
            self.now = entry.at;
            self.story.mix(entry.at ^ (entry.order << 20));
            self.happen(entry.happening);
        }
        self.now = self.now.max(end);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tick(life) => self.tick(life),
            Happening::Gossip(life) => self.gossip(life),
            Happening::Look(life) => self.look(life),
            Happening::Hear(life, event) => self.hear(life, *event),
            Happening::Timeout(life, id) => self.timeout(life, id),
            Happening::Disk(life, number, durable) => self.on_disk(life, number, *durable),
            Happening::Pump(from, to) => self.pump(from, to),
            Happening::Hangup(gone, peer) => self.hangup(gone, peer),
            Happening::Streams => {
                self.tend_streams();
                self.after(250, Happening::Streams);
            }
            Happening::Request(request) => self.execute(*request),
            Happening::Launcher(pod, life, event) => self.launcher_event(&pod, life, *event),
            Happening::LauncherDisk(pod, life, sequence, memory) => {
                self.launcher_on_disk(&pod, life, sequence, *memory);
            }
            Happening::Ask(life, local, ask) => self.ask_launcher(life, local, *ask),
            Happening::MoveAside(life, local) => self.move_aside(life, local),
            Happening::Ring => {
                self.turn_databases();
                self.after(500, Happening::Ring);
            }
            Happening::Kubernetes => {
                self.cluster.reconcile(self.now);
                self.kubelet();
                let pause = self.chances.kubelet.between(200, 400);
                self.after(pause, Happening::Kubernetes);
            }
            Happening::Row => self.write_row(),
            Happening::Errand(errand) => self.run_errand(&errand),
            Happening::MemberCall(request) => self.member_call(*request),
            Happening::Resume(life) => self.resume(life),
            Happening::Fault(number) => {
                if let Some((_, action)) = self.options.schedule.get(number).cloned() {
                    self.act(&action);
                }
            }
        }
    }

    pub(crate) fn at(&mut self, at: u64, happening: Happening) {
        self.order += 1;
        self.heap.push(Reverse(Entry { at: at.max(self.now), order: self.order, happening }));
    }

    pub(crate) fn after(&mut self, wait: u64, happening: Happening) {
        self.at(self.now + wait, happening);
    }

    pub(crate) fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn tell(&mut self, text: impl Into<String>) {
        self.story.tell(self.now, text.into());
    }

    pub(crate) fn clock(&self, pod: &PilotName) -> Clock {
        let ordinal = pod.ordinal().unwrap_or(0);
        self.clocks.get(&ordinal).cloned().unwrap_or_else(|| Clock::new(0, 1_000_000))
    }

    pub(crate) fn reads(&self, pod: &PilotName) -> Timestamp {
        self.clock(pod).read(self.now)
    }

    /// Whether what one pod sends arrives at the other.
    pub(crate) fn arrives(&self, from: &PilotName, to: &PilotName) -> bool {
        let (Some(from), Some(to)) = (from.ordinal(), to.ordinal()) else { return false };
        let cut =
            |(side, until): &(BTreeSet<u32>, u64)| self.now < *until && side.contains(&from) != side.contains(&to);
        let lost = |ordinal| self.nodes.is_lost(ordinal, self.now);
        !self.broken.cuts.iter().any(cut)
            && !lost(from)
            && !lost(to)
            && (from == to || self.broken.deaf.get(&to).is_none_or(|until| self.now >= *until))
    }

    /// Whether two pods hear each other.
    pub(crate) fn reaches(&self, a: &PilotName, b: &PilotName) -> bool {
        self.arrives(a, b) && self.arrives(b, a)
    }

    /// Whether what is said over a stream between them gets on.
    pub(crate) fn streams_flow(&self, a: &PilotName, b: &PilotName) -> bool {
        let (Some(one), Some(other)) = (a.ordinal(), b.ordinal()) else { return false };
        let clogged =
            |(pair, until): &((u32, u32), u64)| self.now < *until && *pair == (one.min(other), one.max(other));
        self.reaches(a, b) && !self.broken.clogs.iter().any(clogged)
    }

    /// Who is meant.
    fn whom(&self, whom: Whom) -> Option<Life> {
        let of = |ordinal: u32| self.agents.values().find(|a| a.name().ordinal() == Some(ordinal)).map(|a| a.life);
        match whom {
            Whom::Ordinal(ordinal) => of(ordinal),
            Whom::Coordinator => self.coordinators().last().map(|(life, _)| *life).or_else(|| of(0)),
            Whom::Writer => self.steps.last_writer(),
        }
    }

    /// The ordinal of who is meant.
    fn ordinal_of(&self, whom: Whom) -> Option<u32> {
        self.agents.get(&self.whom(whom)?)?.name().ordinal()
    }

    /// Every agent that believes that it coordinates, by epoch.
    pub fn coordinators(&self) -> Vec<(Life, u64)> {
        let mut found: Vec<(Life, u64)> = self
            .agents
            .values()
            .filter(|a| !a.paused)
            .filter_map(|a| Some((a.life, a.pilot.believes_it_coordinates(self.reads(a.name()))?.0)))
            .collect();
        found.sort_by_key(|(_, epoch)| *epoch);
        found
    }

    /// The one that coordinates; what is wrong where there is none, or another.
    pub(crate) fn sole_coordinator(&self) -> Result<(Life, u64), (oracle::Rule, String)> {
        let found = self.coordinators();
        if let [one] = found.as_slice() {
            return Ok(*one);
        }
        let epochs: Vec<String> = found.iter().map(|(_, epoch)| epoch.to_string()).collect();
        let why = format!("{} pilots coordinate (epochs {})", found.len(), epochs.join(", "));
        Err((oracle::Rule::Coordinator, why))
    }

    /// The ordinal of the pod whose agent coordinates at the highest epoch.
    pub fn coordinator_ordinal(&self) -> Option<u32> {
        let (life, _) = self.coordinators().pop()?;
        self.agents.get(&life)?.name().ordinal()
    }

    /// How many databases have been started so far by this pod's launcher, kept on its volume.
    pub fn database_starts(&self) -> BTreeMap<String, u64> {
        self.pods
            .iter()
            .filter_map(|(name, pod)| Some((name.to_string(), self.volumes.get(&pod.claim)?.starts())))
            .collect()
    }

    /// The identity of each pod's data, as it lies on its volume.
    pub fn identities(&self) -> BTreeMap<String, String> {
        self.pods
            .iter()
            .filter_map(|(name, pod)| {
                let data = self.volumes.get(&pod.claim)?.data.as_ref()?;
                Some((name.to_string(), data.identity.to_string()))
            })
            .collect()
    }

    /// Rows whose writing was acknowledged.
    pub fn rows(&self) -> usize {
        self.rows.acknowledged()
    }

    /// Whether a database of this pod takes its part over just now, or was cut off from that.
    pub fn joins(&self, pod: &str) -> bool {
        let stage =
            |p: &database::Process| matches!(p.stage, database::Stage::Joining(_) | database::Stage::JoinFailed);
        self.databases.processes.iter().any(|(name, p)| name.as_str() == pod && stage(p))
    }

    /// Whether a database runs in this pod.
    pub fn database_runs(&self, pod: &str) -> bool {
        self.databases.processes.keys().any(|name| name.as_str() == pod)
    }

    /// What waits for a person, if anything.
    pub fn waits_for_a_person(&self) -> Option<String> {
        self.left_to_a_person()
    }

    /// Whether a person had to give something back for the cluster to go on.
    pub fn rescued(&self) -> bool {
        self.rescued
    }

    /// How many requests were sent to the API so far.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// How many writes have been held on purpose so far.
    pub fn writes_held(&self) -> usize {
        self.writes_held
    }

    /// What the API answered those of them that have reached it since.
    pub fn held_answers(&self) -> &[u16] {
        &self.held_answers
    }

    /// The Kubernetes of this run, as the oracle reads it.
    pub fn kubernetes(&self) -> &Cluster {
        &self.cluster
    }

    /// Lets the time go on until this holds; false when it does not within so many milliseconds.
    pub fn run_while_not(&mut self, within: u64, holds: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + within;
        while self.now < end && self.oracle.verdict.is_none() {
            if holds(self) {
                return true;
            }
            let next = self.now + 20;
            self.run_until(next);
        }
        holds(self)
    }

    /// Whether a database of this pod hands its part over just now.
    pub fn leaves(&self, pod: &str) -> bool {
        let stage = |p: &database::Process| matches!(p.stage, database::Stage::Leaving(_));
        self.databases.processes.iter().any(|(name, p)| name.as_str() == pod && stage(p))
    }

    /// Carries an action out.
    pub fn act(&mut self, action: &Action) {
        self.tell(format!("fault: {action}"));
        let during = match self.cluster.record() {
            None => "founding",
            Some(record) => record.intent.as_ref().map_or(marks::AT_REST, |intent| intent.kind.word()),
        };
        self.marks.mark(format!("fault {}", action.family()));
        self.marks.mark(marks::during(action.family(), during));
        match action {
            Action::KillAgent(whom) => {
                if let Some(life) = self.whom(*whom) {
                    self.end_agent(life, false);
                }
            }
            Action::Pause(whom, length) => {
                if let Some(life) = self.whom(*whom) {
                    self.pause(life, *length);
                }
            }
            Action::Cut(side, length) => {
                self.broken.cuts.push((side.iter().copied().collect(), self.now + length));
            }
            Action::CutApi(whom, length) => {
                if let Some(ordinal) = self.ordinal_of(*whom) {
                    self.broken.api_cuts.insert(ordinal, self.now + length);
                }
            }
            Action::ApiOutage(length) => self.broken.outage_until = self.now + length,
            Action::ApiFates(per_mille, length) => self.broken.fates = (*per_mille, self.now + length),
            Action::HoldWrite(whom, length) => {
                if let Some(life) = self.whom(*whom) {
                    self.broken.held.insert(life, *length);
                }
            }
            Action::DeleteLease => {
                self.cluster.delete_lease(self.now);
                self.oracle.lease_is_gone();
            }
            Action::EmptyLease => {
                self.cluster.empty_lease(self.now);
                self.oracle.lease_is_gone();
            }
            Action::WallJump(ordinal, by) => {
                if let Some(clock) = self.clocks.get_mut(ordinal) {
                    clock.jump(*by);
                }
            }
            Action::Scale(size) => self.cluster.scale(self.now, *size),
            Action::DeletePod(ordinal) => self.cluster.delete_pod(self.now, &format!("{}-{ordinal}", cluster::SET)),
            Action::Template(version) => self.cluster.change_template(self.now, *version),
            Action::KillDatabase(ordinal) => {
                if let Some(pod) = cluster::pod_name(*ordinal) {
                    self.kill_database(&pod, None);
                }
            }
            Action::Deaf(ordinal, length) => {
                self.broken.deaf.insert(*ordinal, self.now + length);
            }
            Action::Clog(a, b, length) => self.broken.clogs.push(((*a.min(b), *a.max(b)), self.now + length)),
            Action::LoseReply(whom) => {
                if let Some(life) = self.whom(*whom) {
                    self.broken.replies_lost.insert(life);
                }
            }
            Action::HangDatabase(ordinal, length) => {
                if let Some(pod) = cluster::pod_name(*ordinal) {
                    self.databases.hang(self.now, &pod, *length);
                }
            }
            Action::FailMove(ordinal) => {
                if let Some(pod) = cluster::pod_name(*ordinal) {
                    self.break_off(&pod);
                }
            }
            Action::LoseVolume(ordinal) => self.lose_volume(*ordinal),
            Action::Approve => self.approve(),
            Action::LoseMemory(ordinal) => self.ruin_memory(*ordinal, false),
            Action::RollBackMemory(ordinal) => self.ruin_memory(*ordinal, true),
            Action::StaleReads(whom, length) => {
                if let Some(ordinal) = self.ordinal_of(*whom) {
                    self.broken.fronts.stand_still(ordinal, self.cluster.clone(), self.now + length);
                }
            }
            Action::NoStoreQuorum(length) => {
                self.broken.fronts.lose_quorum(self.cluster.clone(), self.now + length);
            }
            Action::Refuse(door, length) => self.broken.fronts.refuse(*door, self.now + length),
            Action::LoseNode(ordinal, length) => self.lose_node(*ordinal, *length),
            Action::CutMemberCall(cut) => self.etcd.cut_next(*cut),
            Action::Strip => self.cluster.strip(self.now),
            Action::Budget(most) => self.cluster.change_budget(self.now, *most),
            Action::Recreate(size) => {
                self.cluster.delete_all(self.now);
                self.cluster.reconcile(self.now);
                self.oracle.new_set(self.cluster.claims());
                self.rows_of_another_cluster();
                self.etcd.is_gone();
                self.cluster.make_set(self.now, *size, self.options.grace);
            }
        }
    }

    /// Heals everything: from here on the cluster has to come to rest.
    pub fn heal(&mut self) {
        self.tell("all is healed");
        if self.cluster.has_no_image() {
            // That is the user's to mend.
            self.act(&Action::Template(0));
        }
        self.broken = Broken::default();
        self.etcd.heal();
        self.nodes.come_back();
        self.databases.wake_all();
        let paused: Vec<Life> = self.agents.values().filter(|a| a.paused).map(|a| a.life).collect();
        for life in paused {
            self.resume(life);
        }
    }
}
