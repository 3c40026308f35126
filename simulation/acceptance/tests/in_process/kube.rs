//! The model Kubernetes with its pods, volumes and databases, and what must hold whenever anything of it changes.

use super::launcher::{Door, Told};
use super::world::Life;
use agent::http::Board;
use agent::kubernetes::translate::{EPOCH, HttpCall};
use agent::launch::accounts::Accounts;
use agent::launch::machine::{End, Event, Job};
use agent::launch::memory::Memory;
use agent::pilot::durable::Durable;
use protocol::database::{DatabasePhase, DatabaseState};
use protocol::epoch::Epoch;
use protocol::id::{PilotName, Uid};
use protocol::promise::Promise;
use protocol::record::{ClusterRecord, IntentKind};
use serde_json::Value;
use simulation::world::cluster::{Cluster, SET};
use simulation::world::database::{Data, Databases, Seed, Stage, Start, Turn};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// What outlives pods.
#[derive(Default)]
pub(crate) struct Volume {
    /// The pilot's.
    pub(crate) memory: Option<Vec<u8>>,
    pub(crate) launcher: Memory,
    pub(crate) accounts: Accounts,
    pub(crate) data: Option<Data>,
    pub(crate) aside: Vec<Data>,
    /// The highest promise that was on this disk.
    promised: Option<Promise>,
}

/// A pod as its kubelet has it.
pub(crate) struct Pod {
    pub(crate) uid: Uid,
    pub(crate) claim: Uid,
    pub(crate) address: IpAddr,
    pub(crate) agent: Option<Arc<Life>>,
    pub(crate) agent_again: Option<u64>,
    pub(crate) launcher: Option<Door>,
    pub(crate) launcher_again: Option<u64>,
    pub(crate) board: Option<(u64, Board)>,
    pub(crate) database: Option<Job>,
    pub(crate) leave: Option<Job>,
    shown: (bool, bool),
}

/// All of it.
pub(crate) struct Kube {
    pub(crate) cluster: Cluster,
    pub(crate) databases: Databases,
    pub(crate) pods: BTreeMap<PilotName, Pod>,
    volumes: BTreeMap<Uid, Volume>,
    hosts: BTreeMap<IpAddr, Seed>,
    lives: u64,
    /// The first rule that was broken.
    pub(crate) verdict: Option<String>,
    /// The life that wrote at each epoch.
    writers: BTreeMap<u64, String>,
    records: u32,
    founders: u32,
}

impl Kube {
    pub(crate) fn new(seed: u64, size: u32) -> Self {
        Self {
            cluster: Cluster::new(seed, size, 60, None),
            databases: Databases::new(seed),
            pods: BTreeMap::new(),
            volumes: BTreeMap::new(),
            hosts: BTreeMap::new(),
            lives: 0,
            verdict: None,
            writers: BTreeMap::new(),
            records: 0,
            founders: 0,
        }
    }

    /// A rule is broken.
    pub(crate) fn broken(&mut self, why: String) {
        self.verdict.get_or_insert(why);
    }

    pub(crate) fn fresh(&mut self) -> u64 {
        self.lives += 1;
        self.lives
    }

    pub(crate) fn volume(&mut self, claim: &Uid) -> &mut Volume {
        self.volumes.entry(claim.clone()).or_default()
    }

    /// The address behind a name of the headless Service.
    pub(crate) fn address_of(&self, host: &str) -> Option<IpAddr> {
        let name = PilotName::parse(host.strip_suffix(&format!(".{SET}"))?).ok()?;
        self.pods.get(&name).map(|pod| pod.address)
    }

    pub(crate) fn launcher_of(&self, name: &PilotName, uid: &Uid) -> Option<Door> {
        self.pods.get(name).filter(|pod| pod.uid == *uid)?.launcher.clone()
    }

    pub(crate) fn show(&mut self, name: &PilotName, life: u64, board: Board) {
        if let Some(pod) = self.pods.get_mut(name) {
            pod.board = Some((life, board));
        }
    }

    /// A pod is made on a claim, at an address that none had before.
    pub(crate) fn make_pod(&mut self, now: u64, name: &PilotName, uid: &Uid, claim: &Uid) -> IpAddr {
        let number = self.fresh();
        let last = u8::try_from(number % 250).unwrap_or(0);
        let address = IpAddr::V4(Ipv4Addr::new(10, 1, u8::try_from(number / 250).unwrap_or(0), last));
        self.hosts.insert(address, (name.clone(), uid.clone()));
        self.volume(claim);
        let pod = Pod {
            uid: uid.clone(),
            claim: claim.clone(),
            address,
            agent: None,
            agent_again: Some(now + 300),
            launcher: None,
            launcher_again: Some(now + 600),
            board: None,
            database: None,
            leave: None,
            shown: (false, false),
        };
        self.pods.insert(name.clone(), pod);
        address
    }

    /// The kubelet tells how the pod fares.
    pub(crate) fn tell_status(&mut self, now: u64, name: &PilotName) {
        let serves = self.databases.processes.get(name).is_some_and(|p| p.stage == Stage::Serving);
        let Some(pod) = self.pods.get_mut(name) else { return };
        let runs = pod.agent.is_some() && pod.launcher.is_some();
        let shown = (runs || pod.shown.0, runs && serves);
        if shown != pod.shown {
            pod.shown = shown;
            let uid = pod.uid.clone();
            self.cluster.set_status(now, name, &uid, shown.0, shown.1);
        }
    }

    /// A request that has reached the server.
    pub(crate) fn handle(&mut self, now: u64, life: &Life, call: &HttpCall) -> (u16, Value) {
        let before = self.cluster.target(&call.path);
        let answer = self.cluster.handle(now, life.pod.as_str(), call);
        let (status, value) = (answer.status, answer.value());
        if let Err(why) = self.judge(life, call, before, (200..300).contains(&status)) {
            self.broken(why);
        }
        (status, value)
    }

    /// A write carries what it was decided on and its epoch; it lands on nothing of a higher epoch; an epoch has one
    /// writer.
    fn judge(&mut self, life: &Life, call: &HttpCall, before: Option<(String, u64)>, done: bool) -> Result<(), String> {
        if call.method == "GET" || call.path.contains("/events") {
            return Ok(());
        }
        let by = format!("{}#{}", life.pod, life.number);
        let what = format!("{by}: {} {}", call.method, call.path);
        let body = call.body.as_ref().ok_or_else(|| format!("{what} without a body"))?;
        let eviction = call.path.ends_with("/eviction");
        let creates = call.method == "POST" && !eviction;
        let guard = if eviction { &body["deleteOptions"]["preconditions"] } else { &body["metadata"] };
        let guarded = guard["uid"].is_string() && guard["resourceVersion"].is_string();
        if !creates && !guarded {
            return Err(format!("{what} names no uid and resourceVersion"));
        }
        if !done {
            return Ok(());
        }
        if creates && call.path.ends_with("/configmaps") {
            self.records += 1;
            if self.records > 1 {
                return Err(format!("{what} makes a second record"));
            }
        }
        let stamped = !eviction && !call.path.ends_with("/scale");
        let epoch = body["metadata"]["annotations"][EPOCH].as_str().and_then(|text| text.parse::<u64>().ok());
        let Some(epoch) = epoch else {
            return if stamped { Err(format!("{what} carries no epoch")) } else { Ok(()) };
        };
        if let Some((_, stamp)) = before.filter(|(_, stamp)| *stamp > epoch) {
            return Err(format!("{what} at epoch {epoch} lands on what epoch {stamp} has written"));
        }
        // A Lease that is given back or taken again names its own epoch; everything else is the coordinator's.
        let writer = self.writers.entry(epoch).or_insert_with(|| by.clone());
        if *writer != by {
            return Err(format!("{what} at epoch {epoch}, at which {writer} has written"));
        }
        Ok(())
    }

    /// A pilot's memory is on disk: promises that it knows to be there never go back. One that the disk has not owned up
    /// to was never given.
    pub(crate) fn remember(&mut self, life: &Life, bytes: &[u8], said: bool) -> Result<(), String> {
        let volume = self.volume(&life.claim);
        volume.memory = Some(bytes.to_vec());
        if !said {
            return Ok(());
        }
        let durable: Durable = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let before = volume.promised.as_ref().map_or(Epoch::NONE, |promise| promise.epoch);
        match durable.promise {
            Some(promise) if promise.epoch < before => {
                Err(format!("{} promises epoch {} after {before}", life.pod, promise.epoch))
            }
            Some(promise) => {
                let same = volume.promised.as_ref().filter(|p| p.epoch == promise.epoch && p.holder != promise.holder);
                let twice = same.map(|other| format!("{} promises {promise:?} after {other:?}", life.pod));
                volume.promised = Some(promise);
                twice.map_or(Ok(()), Err)
            }
            None if before > Epoch::NONE => Err(format!("{} has forgotten its promise of {before}", life.pod)),
            None => Ok(()),
        }
    }

    /// One look of the driver.
    pub(crate) fn look(&self, now: u64, life: &Life) -> DatabaseState {
        match self.databases.processes.get(&life.pod) {
            Some(process) => process.look(now),
            None => DatabaseState::bare(DatabasePhase::Starting),
        }
    }

    /// The launcher starts the database as the driver wrote it down.
    pub(crate) fn start_database(&mut self, now: u64, name: &PilotName, argv: &[String]) {
        let mut words = argv.iter();
        let word = words.next().map(String::as_str);
        let seeds: Vec<Seed> =
            words.filter_map(|word| self.hosts.get(&word.parse::<IpAddr>().ok()?).cloned()).collect();
        let start = match word {
            Some("founder") => Start::Founder,
            Some("joiner") => Start::Joiner(seeds),
            Some(_) | None => Start::Returner(seeds),
        };
        let Some(claim) = self.pods.get(name).map(|pod| pod.claim.clone()) else { return };
        let record = self.cluster.record();
        let data = self.volume(&claim).data.take();
        if let Err(why) = self.judge_start(name, data.as_ref(), &start, record.as_deref()) {
            self.broken(why);
        }
        let mut data = data;
        self.databases.start(now, name, &claim, &mut data, start);
        self.volume(&claim).data = data;
    }

    /// Founded once, and everybody starts under an intent that names it.
    fn judge_start(
        &mut self,
        name: &PilotName,
        data: Option<&Data>,
        start: &Start,
        record: Option<&ClusterRecord>,
    ) -> Result<(), String> {
        let intent = record.and_then(|record| record.intent.as_ref());
        match (data, start) {
            (None, Start::Founder) => {
                self.founders += 1;
                if self.founders > 1 {
                    return Err(format!("{name} founds a second time"));
                }
                let named = |kind: &IntentKind| matches!(kind, IntentKind::Form { founder } if founder.name == *name);
                match intent.is_some_and(|intent| named(&intent.kind)) {
                    true => Ok(()),
                    false => Err(format!("{name} founds without an intent that names it")),
                }
            }
            (None, Start::Joiner(_) | Start::Added(..) | Start::Replacer(..)) => {
                let named = |kind: &IntentKind| matches!(kind, IntentKind::Join { joiner, .. } if joiner.name == *name);
                match intent.is_some_and(|intent| named(&intent.kind)) {
                    true => Ok(()),
                    false => Err(format!("{name} joins without an intent that names it")),
                }
            }
            (None, Start::Returner(_)) => Err(format!("{name} returns with nothing on its volume")),
            (Some(data), Start::Returner(_)) if !data.bootstrapped => {
                Err(format!("{name} names itself as a seed and has never been a full member"))
            }
            (
                Some(data),
                Start::Founder | Start::Joiner(_) | Start::Returner(_) | Start::Added(..) | Start::Replacer(..),
            ) => match record.is_some_and(|record| record.retired.contains_key(&data.identity)) {
                true => Err(format!("{name} starts on data that is retired")),
                false => Ok(()),
            },
        }
    }

    /// The leave program begins; its end is told later where it has to wait.
    pub(crate) fn begin_leave(&mut self, now: u64, name: &PilotName, job: Job) {
        let leaves = self.databases.leave(now, name);
        let Some(pod) = self.pods.get_mut(name) else { return };
        let goes_on = self
            .databases
            .processes
            .get(name)
            .is_some_and(|process| matches!(process.stage, Stage::Leaving(_) | Stage::Announcing(_)));
        if leaves || goes_on {
            pod.leave = Some(job);
        } else if let Some(door) = &pod.launcher {
            door.tell(Told::Event(ended(job, 1)));
        }
    }

    /// The databases gossip and go on.
    pub(crate) fn turn_databases(&mut self, now: u64) {
        self.databases.gossip(now, |_, _| true);
        let names: Vec<PilotName> = self.databases.processes.keys().cloned().collect();
        for name in names {
            let Some(claim) = self.databases.processes.get(&name).map(|process| process.claim.clone()) else {
                continue;
            };
            let mut data = self.volume(&claim).data.take();
            let pods = &self.pods;
            let there = |(peer, uid): &Seed| pods.get(peer).is_some_and(|pod| pod.uid == *uid);
            let turn = self.databases.turn(now, &name, &mut data, there, true);
            self.volume(&claim).data = data;
            match turn {
                Some(Turn::Exit(code)) => self.database_ends(&name, code),
                Some(Turn::HandsOver) => self.databases.announce(now, &name),
                Some(Turn::Left) => {
                    if let Some(pod) = self.pods.get_mut(&name)
                        && let (Some(job), Some(door)) = (pod.leave.take(), &pod.launcher)
                    {
                        door.tell(Told::Event(ended(job, 0)));
                    }
                }
                Some(Turn::Joining | Turn::Serving | Turn::Joined) | None => {}
            }
        }
    }

    /// The database's process ends.
    pub(crate) fn database_ends(&mut self, name: &PilotName, code: i32) {
        self.databases.processes.remove(name);
        if let Some(pod) = self.pods.get_mut(name)
            && let (Some(job), Some(door)) = (pod.database.take(), &pod.launcher)
        {
            door.tell(Told::Event(ended(job, code)));
        }
    }

    /// All that must be true of a mesh at rest; what is not is said.
    pub(crate) fn at_rest(&self, size: usize) -> Result<(), String> {
        let record = self.cluster.record().ok_or("there is no record")?;
        if record.members.len() != size {
            return Err(format!("{} of {size} members are in the record", record.members.len()));
        }
        if let Some(intent) = &record.intent {
            return Err(format!("an operation is under way: {:?}", intent.kind));
        }
        if self.databases.serving() != size {
            return Err(format!("{} of {size} databases serve", self.databases.serving()));
        }
        let mut leads = Vec::new();
        for (name, pod) in &self.pods {
            let life = pod.agent.as_ref().ok_or_else(|| format!("{name} has no agent"))?.number;
            let board = pod.board.as_ref().filter(|(of, _)| *of == life).map(|(_, board)| board);
            let state = board.and_then(Board::state).ok_or_else(|| format!("{name} says nothing"))?;
            let heard = state.coordinator.as_ref().map(|c| (c.pilot.clone(), c.epoch));
            let Some((who, epoch)) = heard else { return Err(format!("{name} knows of no coordinator")) };
            if state.members.len() != size {
                return Err(format!("{name} knows {} of {size} pilots", state.members.len()));
            }
            if let Some(degraded) = state.coordinator.and_then(|c| c.degraded) {
                return Err(format!("{who} decides nothing: {degraded}"));
            }
            // A disk that failed is trouble until something is written again, and at rest nothing is.
            if let Some(trouble) = state.me.trouble.filter(|trouble| !trouble.starts_with("could not write")) {
                return Err(format!("{name} has trouble: {trouble}"));
            }
            leads.push((who, epoch));
        }
        leads.dedup();
        match leads.len() {
            1 => Ok(()),
            _ => Err(format!("they name several coordinators: {leads:?}")),
        }
    }
}

pub(crate) fn ended(job: Job, code: i32) -> Event {
    Event::Ended { job, end: End { code: Some(code), ..End::default() } }
}
