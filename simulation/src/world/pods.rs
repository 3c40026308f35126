//! Pods with their volumes: a kubelet, the launcher's own machine of production, and the database under it.

use super::agents::Life;
use super::cluster::PodSeen;
use super::database::{BrokenOff, Data, Databases, Kind, Process, Seed, Stage, Start, Turn};
use super::planted::{self, Planted};
use super::{Happening, World, marks};
use agent::event::Event;
use agent::launch::accounts::Accounts;
use agent::launch::default_care;
use agent::launch::machine::{self, Client, Effect, End, Job, Machine, MachineSettings, Purpose, Signal};
use agent::launch::memory::Memory;
use agent::pilot::durable::Durable;
use protocol::database::VolumeState;
use protocol::id::{DatabaseIdentity, PilotName, Uid};
use protocol::launcher::{Ask, Program, Reply};
use protocol::record::IntentKind;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// What outlives pods.
#[derive(Debug, Clone, Default)]
pub(crate) struct Volume {
    pub(crate) durable: Option<Durable>,
    /// What the pilot remembered at some times before, oldest first: somebody may have kept a copy.
    copies: VecDeque<Durable>,
    /// It has been lost, or replaced by such a copy.
    pub(crate) forgot: bool,
    /// All that was on it has been lost.
    pub(crate) lost: bool,
    launcher: Memory,
    accounts: Accounts,
    pub(crate) data: Option<Data>,
    aside: Vec<Data>,
}

/// Copies of a pilot's memory that somebody may bring back.
const COPIES: usize = 32;

impl Volume {
    /// The pilot's memory is written, and somebody copies it.
    pub(crate) fn remember(&mut self, durable: Durable) {
        self.copies.push_back(durable.clone());
        if self.copies.len() > COPIES {
            self.copies.pop_front();
        }
        self.durable = Some(durable);
    }

    /// What lies there of a member that was one before.
    pub(crate) fn prepared(durable: Durable, data: Data) -> Self {
        Self { durable: Some(durable), data: Some(data), ..Self::default() }
    }

    pub(crate) fn starts(&self) -> u64 {
        self.accounts.starts
    }
}

/// A launcher's process.
#[derive(Clone)]
pub(crate) struct Launcher {
    pub(crate) life: u64,
    machine: Machine,
    database: Option<Job>,
    pub(crate) leave: Option<Job>,
    asks: BTreeMap<u64, (Life, Option<u64>)>,
    told: u64,
}

/// A pod as its kubelet has it.
#[derive(Clone)]
pub(crate) struct Pod {
    uid: Uid,
    pub(crate) claim: Uid,
    pub(crate) agent: Option<Life>,
    agent_again: Option<u64>,
    pub(crate) launcher: Option<Launcher>,
    launcher_again: Option<u64>,
    /// Killed then, whatever it does.
    pub(crate) dies: Option<u64>,
    agent_told: bool,
    /// All of its containers have run.
    running: bool,
    ready: bool,
}

impl Pod {
    pub(crate) fn uid(&self) -> &Uid {
        &self.uid
    }

    /// It has been told to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.dies.is_some()
    }
}

impl World {
    /// What a kubelet does each time it looks.
    pub(crate) fn kubelet(&mut self) {
        let seen = self.cluster.pods();
        let gone: Vec<PilotName> = self
            .pods
            .iter()
            .filter(|(name, pod)| !seen.iter().any(|s| s.name == **name && s.uid == pod.uid))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.kill_pod(&name);
        }
        for pod in seen {
            self.tend_pod(&pod);
        }
    }

    fn tend_pod(&mut self, seen: &PodSeen) {
        let name = &seen.name;
        if self.tend_pod_of_lost_node(seen) {
            return;
        }
        if !self.pods.contains_key(name) {
            if let (Some(claim), true, None) = (&seen.claim, seen.bound && seen.pulled, seen.ending) {
                let begins = self.now + self.chances.kubelet.between(300, 2_500);
                let pod = Pod {
                    uid: seen.uid.clone(),
                    claim: claim.clone(),
                    agent: None,
                    agent_again: Some(begins),
                    launcher: None,
                    launcher_again: Some(begins + 400),
                    dies: None,
                    agent_told: false,
                    running: false,
                    ready: false,
                };
                self.tell(format!("pod {name} is made on claim {}", short(claim.as_str())));
                self.volumes.entry(claim.clone()).or_default();
                self.pods.insert(name.clone(), pod);
            } else if seen.ending.is_some() {
                self.cluster.finish_pod(self.now, name, &seen.uid);
            }
            return;
        }
        let now = self.now;
        let Some(pod) = self.pods.get_mut(name) else { return };
        let (uid, claim) = (pod.uid.clone(), pod.claim.clone());
        if let Some(grace) = seen.ending {
            if pod.dies.is_none() {
                pod.dies = Some(now + grace);
                let launcher = pod.launcher.as_ref().map(|l| l.life);
                self.tell(format!("pod {name} is told to end within {grace} ms"));
                if let Some(life) = launcher {
                    self.launcher_event(name, life, machine::Event::Terminate);
                }
                if self.options.planted == Some(Planted::LeaveUnasked) {
                    self.leave_unasked(name);
                }
                return;
            }
            if pod.dies.is_some_and(|at| now >= at) {
                self.tell(format!("pod {name} has had its time and is killed"));
                self.kill_pod(name);
                self.cluster.finish_pod(now, name, &uid);
                return;
            }
            if pod.launcher.is_none() {
                match pod.agent {
                    Some(agent) if !pod.agent_told => {
                        // The sidecar is told only after the containers have ended.
                        pod.agent_told = true;
                        self.after(5, Happening::Hear(agent, Box::new(Event::Terminate)));
                    }
                    Some(_) => {}
                    None => {
                        self.tell(format!("pod {name} has ended"));
                        self.pods.remove(name);
                        self.cluster.finish_pod(now, name, &uid);
                    }
                }
            }
            return;
        }
        if pod.agent.is_none() && pod.agent_again.is_some_and(|at| now >= at) {
            let life = self.start_agent(name, &uid, &claim);
            if let Some(pod) = self.pods.get_mut(name) {
                pod.agent = Some(life);
            }
        }
        let Some(pod) = self.pods.get_mut(name) else { return };
        if pod.launcher.is_none() && pod.launcher_again.is_some_and(|at| now >= at) {
            self.start_launcher(name);
        }
        let serves = self
            .databases
            .processes
            .get(name)
            .is_some_and(|p| !p.hangs(now) && matches!(p.stage, Stage::Serving | Stage::Leaving(_)));
        let Some(pod) = self.pods.get_mut(name) else { return };
        // As the sidecar's probe says it: its member serves.
        let ready = serves && pod.agent.is_some() && pod.launcher.is_some();
        let runs = pod.launcher.is_some() && pod.agent.is_some();
        if (runs && !pod.running) || ready != pod.ready {
            pod.running |= runs;
            pod.ready = ready;
            let running = pod.running;
            self.cluster.set_status(now, name, &uid, running, ready);
        }
    }

    /// Everything in the pod is killed.
    pub(crate) fn kill_pod(&mut self, name: &PilotName) {
        self.etcd_is_killed(name);
        self.databases.processes.remove(name);
        if let Some(pod) = self.pods.remove(name)
            && let Some(agent) = pod.agent
        {
            self.end_agent(agent, false);
        }
    }

    /// The pilot's process is killed and what it remembers is lost, or is as it was at some time before.
    pub(crate) fn ruin_memory(&mut self, ordinal: u32, older: bool) {
        let Some(name) = super::cluster::pod_name(ordinal) else { return };
        let Some(pod) = self.pods.get(&name) else { return };
        let claim = pod.claim.clone();
        if let Some(agent) = pod.agent {
            self.end_agent(agent, false);
        }
        let record = self.cluster.record().map_or(0, |r| r.epoch.0);
        let Some(volume) = self.volumes.get_mut(&claim) else { return };
        if older {
            let many = u64::try_from(volume.copies.len()).unwrap_or(0);
            if many == 0 {
                return;
            }
            let which = usize::try_from(self.chances.memory.below(many)).unwrap_or(0);
            volume.copies.truncate(which + 1);
            volume.durable = volume.copies.back().cloned();
        } else {
            volume.copies.clear();
            volume.durable = None;
        }
        volume.forgot = true;
        let promise = volume.durable.as_ref().and_then(|d| d.promise.as_ref());
        let promise = promise.map_or_else(|| "no promise".to_owned(), |p| format!("epoch {}", p.epoch));
        self.tell(format!("{name} has forgotten: it remembers {promise}"));
        self.oracle.forgets(&claim, record);
    }

    /// An agent's process is no more: its container starts again, unless the pod ends.
    pub(crate) fn agent_ended(&mut self, name: &PilotName, life: Life) {
        let again = self.now + self.chances.kubelet.between(800, 6_000);
        let Some(pod) = self.pods.get_mut(name).filter(|p| p.agent == Some(life)) else { return };
        pod.agent = None;
        pod.agent_again = Some(again);
        if let Some(launcher) = pod.launcher.as_ref().map(|l| l.life) {
            self.launcher_event(name, launcher, machine::Event::Gone(Client(life)));
        }
    }

    fn start_launcher(&mut self, name: &PilotName) {
        let life = self.fresh();
        let at = self.reads(name);
        let grace = self.options.grace;
        let Some(pod) = self.pods.get_mut(name) else { return };
        let Some(volume) = self.volumes.get(&pod.claim) else { return };
        let settings = MachineSettings {
            pod: pod.uid.clone(),
            life,
            grace: Duration::from_secs(grace),
            reattach: Duration::from_secs(30),
            care: default_care(),
            command: vec!["database".to_owned()],
            roots: Vec::new(),
            boot: "model".to_owned(),
        };
        let memory = planted::permission(self.options.planted, &pod.uid, volume.launcher.clone());
        let (machine, effects) = Machine::new(settings, at, memory, volume.accounts.clone());
        pod.launcher = Some(Launcher { life, machine, database: None, leave: None, asks: BTreeMap::new(), told: 0 });
        let agent = pod.agent;
        self.launcher_effects(name, life, effects);
        self.launcher_wakes(name, life);
        if let Some(agent) = agent {
            self.after(20, Happening::Ask(agent, None, Box::new(Ask::Watch)));
        }
    }

    pub(crate) fn launcher_event(&mut self, name: &PilotName, life: u64, event: machine::Event) {
        let at = self.reads(name);
        let Some(launcher) = self.launcher(name, life) else { return };
        let over = matches!(&event, machine::Event::Ended { job, .. } if launcher.database == Some(*job));
        if over {
            launcher.database = None;
        }
        let effects = launcher.machine.handle(at, event);
        if over {
            self.databases.processes.remove(name);
        }
        self.launcher_effects(name, life, effects);
        self.launcher_wakes(name, life);
    }

    fn launcher(&mut self, name: &PilotName, life: u64) -> Option<&mut Launcher> {
        self.pods.get_mut(name)?.launcher.as_mut().filter(|l| l.life == life)
    }

    fn launcher_wakes(&mut self, name: &PilotName, life: u64) {
        let clock = self.clock(name);
        let at = self.reads(name);
        let Some(launcher) = self.launcher(name, life) else { return };
        if let Some(wake) = launcher.machine.wake() {
            let wait = u64::try_from(wake.since(at).as_millis()).unwrap_or(u64::MAX);
            self.after(
                clock.wait(wait).max(1),
                Happening::Launcher(name.clone(), life, Box::new(machine::Event::Tick)),
            );
        }
    }

    pub(crate) fn launcher_on_disk(&mut self, name: &PilotName, life: u64, sequence: u64, memory: Memory) {
        let Some(pod) = self.pods.get(name).filter(|p| p.launcher.as_ref().is_some_and(|l| l.life == life)) else {
            return;
        };
        if let Some(volume) = self.volumes.get_mut(&pod.claim) {
            volume.launcher = memory;
        }
        self.launcher_event(name, life, machine::Event::Remembered { sequence, result: Ok(()) });
    }

    fn launcher_effects(&mut self, name: &PilotName, life: u64, effects: Vec<Effect>) {
        for effect in effects {
            self.launcher_effect(name, life, effect);
        }
    }

    fn launcher_effect(&mut self, name: &PilotName, life: u64, effect: Effect) {
        let at_once = |event| Happening::Launcher(name.clone(), life, Box::new(event));
        match effect {
            Effect::Remember { sequence, memory } => {
                let wait = self.chances.disk.between(1, 12);
                self.after(wait, Happening::LauncherDisk(name.clone(), life, sequence, memory));
            }
            Effect::Account(accounts) => {
                if let Some(volume) = self.pods.get(name).and_then(|p| self.volumes.get_mut(&p.claim)) {
                    volume.accounts = *accounts;
                }
            }
            Effect::StartDatabase { job, program, .. } => {
                if let Some(launcher) = self.launcher(name, life) {
                    launcher.database = Some(job);
                }
                self.start_database(name, &program);
                let pid = u32::try_from(self.fresh()).unwrap_or(0);
                self.after(0, at_once(machine::Event::Spawned { job, pid }));
            }
            Effect::RunProgram { job, purpose, .. } => {
                self.after(0, at_once(machine::Event::Spawned { job, pid: 1 }));
                match purpose {
                    Purpose::Drain => {
                        self.databases.drain(self.now, name);
                        let wait = self.chances.disk.between(300, 3_000);
                        self.after(wait, at_once(ended(job, 0)));
                    }
                    Purpose::Leave => self.begin_leave(name, life, job),
                    Purpose::Tool => self.after(50, at_once(ended(job, 0))),
                }
            }
            Effect::Signal { job, signal } => {
                let Some(launcher) = self.launcher(name, life) else { return };
                if launcher.database == Some(job) {
                    let wait = match signal {
                        Signal::Stop => self.chances.disk.between(200, 2_000),
                        Signal::Kill => 1,
                    };
                    // It says no more; its end is heard when it has ended.
                    self.after(wait, at_once(ended(job, if signal == Signal::Stop { 143 } else { 137 })));
                } else {
                    if launcher.leave == Some(job) {
                        launcher.leave = None;
                    }
                    self.after(5, at_once(ended(job, 137)));
                }
            }
            Effect::Reply { client, id, reply } => self.launcher_replies(name, life, client, id, reply),
            Effect::Changed { clients, status } => {
                for client in clients {
                    self.after(1, Happening::Hear(client.0, Box::new(Event::Launcher(Some(status.clone())))));
                }
            }
            Effect::Note(text) => self.tell(format!("launcher of {name}: {text}")),
            Effect::Exit(code) => {
                self.tell(format!("launcher of {name} ends with {code}"));
                self.databases.processes.remove(name);
                let again = self.now + 1_000;
                if let Some(pod) = self.pods.get_mut(name) {
                    pod.launcher = None;
                    pod.launcher_again = Some(again);
                    if let Some(agent) = pod.agent {
                        self.after(2, Happening::Hear(agent, Box::new(Event::Launcher(None))));
                    }
                }
            }
        }
    }

    fn launcher_replies(&mut self, name: &PilotName, life: u64, client: Client, id: u64, reply: Reply) {
        let Some(launcher) = self.launcher(name, life) else { return };
        let Some((agent, local)) = launcher.asks.remove(&id) else { return };
        if agent != client.0 {
            return;
        }
        let event = match (reply, local) {
            (Reply::Status(status), None) => Event::Launcher(Some(Box::new(status))),
            (_, None) => return,
            (Reply::Refused(why), Some(id)) => Event::Local { id, result: Err(why) },
            (Reply::Unsupported, Some(id)) => Event::Local { id, result: Err("unsupported".to_owned()) },
            (Reply::Status(_) | Reply::Accepted | Reply::Tool(_), Some(id)) => Event::Local { id, result: Ok(()) },
        };
        self.after(1, Happening::Hear(agent, Box::new(event)));
    }

    pub(crate) fn ask_launcher(&mut self, agent: Life, local: Option<u64>, ask: Ask) {
        let Some(name) = self.agents.get(&agent).map(|a| a.name().clone()) else { return };
        let Some(launcher) = self.pods.get_mut(&name).and_then(|p| p.launcher.as_mut()) else {
            if let Some(id) = local {
                self.hear(agent, Event::Local { id, result: Err("the launcher is not there".to_owned()) });
            }
            return;
        };
        launcher.told += 1;
        let (id, life) = (launcher.told, launcher.life);
        launcher.asks.insert(id, (agent, local));
        self.launcher_event(&name, life, machine::Event::Ask { client: Client(agent), id, ask });
    }

    fn start_database(&mut self, name: &PilotName, program: &Program) {
        let Some(claim) = self.pods.get(name).map(|p| p.claim.clone()) else { return };
        let mut words = program.argv.iter();
        let start = match words.next().map(String::as_str) {
            Some("founder" | "new") => Start::Founder,
            Some("added") => {
                let identity = DatabaseIdentity::new(words.next().cloned().unwrap_or_default());
                Start::Added(identity, words.filter_map(|w| seed(w)).collect())
            }
            Some("joiner") => Start::Joiner(words.filter_map(|w| seed(w)).collect()),
            Some(_) | None => Start::Returner(words.filter_map(|w| seed(w)).collect()),
        };
        if self.pods.get(name).is_some_and(|pod| !self.permitted.contains(&pod.uid)) {
            let why = format!("a database starts in the pod {name}, whose pilot has not said that it may");
            self.oracle.broken(super::oracle::Rule::Local, why);
        }
        let founds = program.argv.first().is_some_and(|word| word == "founder");
        let record = self.cluster.record();
        let Some(volume) = self.volumes.get_mut(&claim) else { return };
        if self.options.database == Kind::Ring
            && matches!(start, Start::Returner(_))
            && !volume.data.as_ref().is_some_and(|d| d.bootstrapped)
        {
            let why = format!("{name} names itself as a seed and has never been a full member");
            self.oracle.broken(super::oracle::Rule::Seed, why);
        }
        let identity = volume.data.as_ref().map(|d| d.identity.to_string());
        self.oracle.judge_start(name.as_str(), identity.as_deref(), founds, record.as_ref());
        match self.options.database {
            Kind::Ring => self.databases.start(self.now, name, &claim, &mut volume.data, start),
            Kind::Etcd => self.start_etcd(name, &claim, start),
        }
        let identity = self.databases.processes.get(name).map(|p| p.identity.to_string()).unwrap_or_default();
        self.tell(format!("database {name} starts as {identity}"));
    }

    fn begin_leave(&mut self, name: &PilotName, life: u64, job: Job) {
        let record = self.cluster.record();
        let identity = self.databases.processes.get(name).map(|p| p.identity.to_string()).unwrap_or_default();
        if let Some(launcher) = self.launcher(name, life) {
            launcher.leave = Some(job);
        }
        let stage = self.databases.processes.get(name).map(|p| p.stage);
        match stage {
            // The database goes on by itself; the program waits for it.
            Some(Stage::Leaving(_) | Stage::Announcing(_)) => match self.options.database {
                Kind::Ring => {}
                // Nothing goes on without its program: this one takes up where the one before was ended.
                Kind::Etcd => self.begin_errand(super::etcd::Errand::Leave { pod: name.clone(), launcher: life, job }),
            },
            Some(Stage::Serving) => {
                self.oracle.judge_leave(name.as_str(), &identity, record.as_ref());
                self.databases.leave(self.now, name);
                match self.options.database {
                    Kind::Ring => {}
                    Kind::Etcd => {
                        self.begin_errand(super::etcd::Errand::Leave { pod: name.clone(), launcher: life, job })
                    }
                }
                self.tell(format!("database {name} begins to leave as {identity}"));
                self.judge_moving();
            }
            Some(Stage::Starting(_) | Stage::Joining(_) | Stage::JoinFailed | Stage::Left | Stage::Draining) | None => {
                let code = i32::from(stage != Some(Stage::Left));
                self.after(300, Happening::Launcher(name.clone(), life, Box::new(ended(job, code))));
            }
        }
    }

    /// The bug of a hook that decommissions whatever ends beyond the size.
    fn leave_unasked(&mut self, name: &PilotName) {
        let beyond = name.ordinal().zip(self.cluster.replicas()).is_some_and(|(ordinal, size)| ordinal >= size);
        let identity = self.databases.processes.get(name).map(|p| p.identity.to_string()).unwrap_or_default();
        if beyond && self.databases.leave(self.now, name) {
            let record = self.cluster.record();
            self.oracle.judge_leave(name.as_str(), &identity, record.as_ref());
        }
    }

    pub(crate) fn judge_moving(&mut self) {
        let moving = |p: &super::database::Process| matches!(p.stage, Stage::Joining(_) | Stage::Leaving(_));
        let moving: Vec<String> =
            self.databases.processes.iter().filter(|(_, p)| moving(p)).map(|(n, _)| n.to_string()).collect();
        self.oracle.judge_moving(&moving);
    }

    /// The databases gossip and go on.
    pub(crate) fn turn_databases(&mut self) {
        self.watch_members();
        match self.options.database {
            Kind::Ring => self.turn_ring(),
            Kind::Etcd => self.turn_etcd(),
        }
    }

    fn turn_ring(&mut self) {
        let mut databases = std::mem::replace(&mut self.databases, Databases::new(0));
        databases.gossip(self.now, |a, b| self.reaches(a, b));
        let names: Vec<PilotName> = databases.processes.keys().cloned().collect();
        let mut turns = Vec::new();
        for name in names {
            let claim = databases.processes.get(&name).map(|p| p.claim.clone());
            let Some(mut data) = claim.as_ref().and_then(|c| self.volumes.get_mut(c)).map(|v| v.data.take()) else {
                continue;
            };
            let reaches =
                |(peer, uid): &Seed| self.reaches(&name, peer) && self.pods.get(peer).is_some_and(|p| p.uid == *uid);
            let together = databases.processes.get(&name).is_some_and(|own| match own.stage {
                Stage::Joining(_) => self.all_sources_serve(&databases, &name, own),
                Stage::Leaving(_) => databases
                    .processes
                    .iter()
                    .filter(|(_, p)| p.stage == Stage::Serving)
                    .all(|(peer, _)| self.reaches(&name, peer)),
                Stage::Starting(_)
                | Stage::JoinFailed
                | Stage::Serving
                | Stage::Announcing(_)
                | Stage::Left
                | Stage::Draining => true,
            });
            let turn = databases.turn(self.now, &name, &mut data, reaches, together);
            if let Some(volume) = claim.and_then(|c| self.volumes.get_mut(&c)) {
                volume.data = data;
            }
            turns.extend(turn.map(|t| (name, t)));
        }
        self.databases = databases;
        for (name, turn) in turns {
            self.tell(format!("database {name}: {turn:?}"));
            match turn {
                Turn::Exit(code) => self.kill_database(&name, Some(code)),
                Turn::Joining => {
                    self.oracle.changes += 1;
                    self.judge_moving();
                }
                Turn::Serving => self.owns_its_part(&name),
                Turn::Joined => {
                    if let Some(identity) = self.databases.processes.get(&name).map(|p| p.identity.clone()) {
                        self.rows_arrive(&identity);
                        if self.broken_joins.remove(&identity) {
                            self.marks.mark(marks::JOINS_ANEW);
                        }
                    }
                }
                Turn::HandsOver if self.hand_rows_over(&name) => self.databases.announce(self.now, &name),
                Turn::HandsOver => self.break_off(&name),
                Turn::Left => {
                    let stay = self
                        .volumes
                        .values()
                        .filter_map(|volume| volume.data.as_ref())
                        .filter(|d| d.is_full_member())
                        .count();
                    if stay < super::database::REPLICATION as usize {
                        self.oracle.broken(super::oracle::Rule::Copies, format!("{name} left and {stay} members stay"));
                    }
                    self.end_leave(&name, 0);
                }
            }
        }
    }

    /// Whether all whom a joiner knows as full members serve where it reaches them: it takes over from all of them.
    fn all_sources_serve(&self, databases: &Databases, name: &PilotName, joiner: &Process) -> bool {
        let serving: BTreeMap<&DatabaseIdentity, &PilotName> = databases
            .processes
            .iter()
            .filter(|(_, p)| p.stage == Stage::Serving)
            .map(|(pod, p)| (&p.identity, pod))
            .collect();
        joiner.sources().all(|source| serving.get(source).is_some_and(|peer| self.reaches(name, peer)))
    }

    /// What the database of this pod streams breaks off.
    pub(crate) fn break_off(&mut self, name: &PilotName) {
        let Some(broken) = self.databases.break_off(self.now, name) else { return };
        self.tell(format!("database {name}: its streams break off ({broken:?})"));
        match broken {
            BrokenOff::Join => {
                self.broken_joins.extend(self.databases.processes.get(name).map(|p| p.identity.clone()));
            }
            BrokenOff::Leave => {
                self.marks.mark(marks::LEAVE_FAILS);
                self.end_leave(name, 2);
            }
        }
    }

    /// The leave program of this pod ends, where one runs.
    pub(crate) fn end_leave(&mut self, name: &PilotName, code: i32) {
        if let Some(launcher) = self.pods.get_mut(name).and_then(|p| p.launcher.as_mut())
            && let Some(job) = launcher.leave.take()
        {
            let life = launcher.life;
            self.launcher_event(name, life, ended(job, code));
        }
    }

    /// The node's disk with this pod's volume is lost: everything of the pod ends, and its claim is bound to an empty one.
    pub(crate) fn lose_volume(&mut self, ordinal: u32) {
        let Some(name) = super::cluster::pod_name(ordinal) else { return };
        let Some(claim) = self.pods.get(&name).map(|p| p.claim.clone()) else { return };
        let record = self.cluster.record().map_or(0, |r| r.epoch.0);
        self.rows_are_lost_with(&claim);
        if self.etcd_is_lost_with(&claim) {
            self.etcd.is_gone();
        }
        let owned = self.volumes.get(&claim).and_then(|v| v.data.as_ref());
        let owned = owned.filter(|d| d.bootstrapped || self.etcd.is_voter(&d.identity));
        self.lost_identities.extend(owned.map(|d| d.identity.clone()));
        self.kill_pod(&name);
        self.cluster.delete_pod(self.now, name.as_str());
        self.volumes.insert(claim.clone(), Volume { lost: true, forgot: true, ..Volume::default() });
        self.tell(format!("the disk of {name} is lost"));
        self.oracle.forgets(&claim, record);
        if self.cluster.record().is_none_or(|r| r.members.is_empty()) {
            // Whoever founded has to do it again: nobody else has joined.
            self.oracle.founding_is_lost();
        }
    }

    /// The database's process ends by itself, or is killed.
    pub(crate) fn kill_database(&mut self, name: &PilotName, code: Option<i32>) {
        if code.is_none() {
            self.etcd_is_killed(name);
        }
        if self.databases.processes.remove(name).is_none() {
            return;
        }
        let Some(launcher) = self.pods.get_mut(name).and_then(|p| p.launcher.as_mut()) else { return };
        let life = launcher.life;
        let leave = match self.options.database {
            Kind::Ring => launcher.leave.take(),
            // It speaks with the others, not with the process that has ended.
            Kind::Etcd => None,
        };
        if let Some(job) = launcher.database {
            let end = End { code, signal: code.is_none().then_some(9), ..End::default() };
            self.launcher_event(name, life, machine::Event::Ended { job, end });
        }
        if let Some(job) = leave {
            self.after(100, Happening::Launcher(name.clone(), life, Box::new(ended(job, 1))));
        }
    }

    /// What a driver sees of a volume without a running database: the identity is only what the pilot remembers.
    pub(crate) fn volume_state(&self, claim: &Uid, known: Option<DatabaseIdentity>) -> VolumeState {
        let retired = |d: &&Data| self.options.planted == Some(Planted::RetiredIsEmpty) && d.decommissioned;
        match (self.volumes.get(claim).and_then(|v| v.data.as_ref()).filter(|d| !retired(d)), known) {
            (None, _) => VolumeState::Empty,
            (Some(_), Some(known)) => VolumeState::Holds(known),
            (Some(_), None) => VolumeState::HoldsUnknown,
        }
    }

    /// Who forgot, while it founded or joined, whose data it holds, in a pod that cannot start it any more: nobody can
    /// name that data, so nobody may start, move or overwrite it, and the operation stands until a person has looked.
    pub(crate) fn left_to_a_person(&self) -> Option<String> {
        let record = self.cluster.record()?;
        let forgotten = |name: &PilotName, claim: &Uid| {
            let volume = self.volumes.get(claim).filter(|v| v.forgot)?;
            let data = volume.data.as_ref()?;
            let pilot = &self.agents.values().find(|a| a.claim == *claim)?.pilot;
            let nameless = pilot.durable().identity.is_none() && pilot.durable().begun_under.is_none();
            let runs = self.databases.processes.contains_key(name);
            (nameless && !runs).then(|| format!("{name} has forgotten that its data is of {}", data.identity))
        };
        let lost = record.members.iter().find(|(_, member)| {
            self.volumes
                .get(&member.claim)
                .is_some_and(|v| v.lost && v.data.as_ref().is_none_or(|d| d.identity != member.identity))
        });
        if let Some((name, member)) = lost {
            return Some(format!("the disk of {name} with the data of {} is lost", member.identity));
        }
        let stranger = self.databases.processes.values().find_map(|p| {
            let mut lost = self.lost_identities.iter();
            lost.find(|i| p.knows(i) && !record.members.values().any(|m| m.identity == **i))
        });
        if let Some(identity) = stranger {
            // It owned data when its disk was lost, and the record had not come to know it: somebody has to remove it.
            return Some(format!("{identity} is in the ring, and its disk is lost"));
        }
        let has_left = self.databases.processes.iter().find(|(name, process)| {
            process.stage == Stage::Left
                && !record.members.contains_key(*name)
                && self.volumes.get(&process.claim).is_some_and(|volume| volume.forgot)
        });
        if let Some((name, _)) = has_left {
            // It runs in a pod that is wanted again, and nobody knows any more under which operation it left.
            return Some(format!("{name} has left, and its pilot has forgotten it"));
        }
        match record.intent.map(|i| i.kind) {
            Some(IntentKind::Form { founder }) => forgotten(&founder.name, &founder.claim),
            Some(IntentKind::Join { joiner, .. }) => forgotten(&joiner.name, &joiner.claim),
            Some(IntentKind::Leave { .. } | IntentKind::Restart { .. }) => None,
            // Its join was given up meanwhile: nothing says under which operation that data was begun.
            None => self
                .pods
                .iter()
                .filter(|(name, _)| !record.members.contains_key(*name))
                .find_map(|(name, pod)| forgotten(name, &pod.claim)),
        }
    }

    pub(crate) fn move_aside(&mut self, agent: Life, local: u64) {
        let Some((name, claim)) = self.agents.get(&agent).map(|a| (a.name().clone(), a.claim.clone())) else { return };
        let runs = self.databases.processes.contains_key(&name);
        match self.options.database {
            Kind::Ring => self.judge_owned_rows_aside(&name, &claim, runs),
            Kind::Etcd => self.judge_moving_aside(&name, &claim, runs),
        }
        let result = match self.volumes.get_mut(&claim) {
            Some(_) if runs => Err("the database runs".to_owned()),
            Some(volume) => {
                if self.options.planted != Some(Planted::NotMovedAside) {
                    volume.aside.extend(volume.data.take());
                }
                self.marks.mark(marks::MOVED_ASIDE);
                Ok(())
            }
            None => Err("there is no volume".to_owned()),
        };
        self.tell(format!("the data of {name} is moved aside: {result:?}"));
        self.hear(agent, Event::Local { id: local, result });
    }
}

fn ended(job: Job, code: i32) -> machine::Event {
    machine::Event::Ended { job, end: End { code: Some(code), ..End::default() } }
}

/// `pod@uid`, as seeds are written.
fn seed(text: &str) -> Option<super::database::Seed> {
    let (name, uid) = text.split_once('@')?;
    Some((PilotName::parse(name).ok()?, Uid::new(uid)))
}

fn short(uid: &str) -> &str {
    uid.get(..8).unwrap_or(uid)
}
