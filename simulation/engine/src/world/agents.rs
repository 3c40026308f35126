//! The processes of pilots: what reaches them, and what they want done.

use super::database::{Data, Kind};
use super::oracle::Rule;
use super::planted::Planted;
use super::{Happening, Request, World, etcd, mesh, planted};
use agent::effect::{Effect, LocalAct, StartAs};
use agent::event::{CallId, Event};
use agent::kubernetes::call::{Answer, Call, Failure};
use agent::pilot::durable::Durable;
use agent::pilot::{Pilot, Setup};
use policies::plan::Verdict;
use protocol::id::{ClusterId, Generation, PilotId, PilotName, Uid};
use protocol::launcher::{Ask, DatabaseProgram, Program, StartPermission};
use protocol::message::Message;
use protocol::promise::Promise;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One life of one agent's process, whatever its name.
pub(crate) type Life = u64;

/// Between two ticks, on the pilot's clock.
const TICK: u64 = 200;
/// Between two rounds of gossip.
pub(crate) const ROUND: u64 = 500;
/// Between two looks at the database.
const LOOK: u64 = 1000;
/// After a sleep, the view of before is held for so long.
const GOSSIP_WAKES: u64 = 1500;

/// One running process.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) life: Life,
    pub(crate) id: PilotId,
    pub(crate) pod: Uid,
    pub(crate) claim: Uid,
    pub(crate) pilot: Pilot,
    pub(crate) paused: bool,
    /// What waits in its sockets while it is paused.
    inbox: VecDeque<Event>,
    /// Waits that ended while it was paused.
    late: Vec<CallId>,
    calls: BTreeSet<CallId>,
    pub(crate) wanted: BTreeSet<PilotName>,
    pub(crate) gossip: mesh::Gossip,
    disk_busy: u64,
    led: Option<u64>,
    /// The Lease and the record have been read in this life.
    read: (bool, bool),
    /// What it was asked to promise last.
    pub(crate) asked: Option<Promise>,
    /// Only planted bugs keep anything here.
    pub(crate) kept: planted::Kept,
}

impl Agent {
    pub(crate) fn name(&self) -> &PilotName {
        &self.id.name
    }
}

impl World {
    /// Starts an agent on a volume: a new life, written down before anything is said.
    pub(crate) fn start_agent(&mut self, name: &PilotName, pod: &Uid, claim: &Uid) -> Life {
        let life = self.fresh();
        let volume = self.volumes.entry(claim.clone()).or_default();
        let mut durable = volume.durable.clone().unwrap_or_default();
        let before = durable.generation.map_or(0, |g| g.0);
        let generation = Generation((before + 1).max(self.now + 1));
        durable.generation = Some(generation);
        volume.remember(durable.clone());
        let ordinal = name.ordinal().unwrap_or(0);
        let address = std::net::IpAddr::from([
            10,
            0,
            u8::try_from(life % 250).unwrap_or(0),
            u8::try_from(ordinal % 250).unwrap_or(0),
        ]);
        let id = PilotId { name: name.clone(), generation };
        let setup = Setup {
            id: id.clone(),
            pod: pod.clone(),
            stream: (address, 7301).into(),
            http: (address, 7300).into(),
            database: address,
            client_port: 9042,
            version: "model".to_owned(),
            rules: self.options.rules.clone(),
            durable,
            mint: ClusterId::new(format!("cluster-{life}")),
            nonce: life << 32,
        };
        self.tell(format!("{id} starts"));
        self.oracle.lives.insert(life, id.clone());
        let agent = Agent {
            life,
            id,
            pod: pod.clone(),
            claim: claim.clone(),
            pilot: Pilot::new(setup),
            paused: false,
            inbox: VecDeque::new(),
            late: Vec::new(),
            calls: BTreeSet::new(),
            wanted: BTreeSet::new(),
            gossip: mesh::Gossip::default(),
            disk_busy: 0,
            led: None,
            read: (false, false),
            asked: None,
            kept: planted::Kept::default(),
        };
        self.agents.insert(life, agent);
        // Each life is newer than all before it.
        self.lives.push(life);
        self.after(1, Happening::Tick(life));
        let first = self.chances.gossip.between(10, ROUND);
        self.after(first, Happening::Gossip(life));
        self.after(300, Happening::Look(life));
        self.after(100, Happening::Ask(life, None, Box::new(Ask::Watch)));
        life
    }

    pub(crate) fn tick(&mut self, life: Life) {
        let Some(agent) = self.agents.get(&life).filter(|a| !a.paused) else { return };
        if let Some(call) = planted::again(self.options.planted, &agent.kept, self.now) {
            let (from, id) = (agent.id.clone(), CallId(u64::MAX - self.now));
            let sent = self.sent(&call);
            self.dispatch(Request { life, from, id, call: Box::new(call), answer_after: None, held: false, sent });
        }
        let Some(agent) = self.agents.get(&life) else { return };
        let wait = self.clock(agent.name()).wait(TICK) + planted::happens_to_be(self.options.planted);
        self.hear(life, Event::Tick);
        self.after(wait, Happening::Tick(life));
    }

    /// Something reaches a pilot, or its sockets.
    pub(crate) fn hear(&mut self, life: Life, event: Event) {
        let Some(agent) = self.agents.get_mut(&life) else { return };
        if agent.paused {
            agent.inbox.push_back(event);
            return;
        }
        if let Event::Api { id, .. } = &event
            && !agent.calls.remove(id)
        {
            return;
        }
        match &event {
            Event::Api { result: Ok(Answer::Lease(_)), .. } => agent.read.0 = true,
            Event::Api { result: Ok(Answer::Record(_)), .. } => agent.read.1 = true,
            Event::Message(_, Message::Ask { promise, .. }) => agent.asked = Some(promise.clone()),
            _ => {}
        }
        let name = agent.id.name.clone();
        let local = self.reads(&name);
        let Some(agent) = self.agents.get_mut(&life) else { return };
        let effects = agent.pilot.handle(local, event);
        let leads = agent.pilot.believes_it_coordinates(local).map(|e| e.0);
        if agent.led != leads {
            let id = agent.id.clone();
            let before = std::mem::replace(&mut agent.led, leads);
            match (before, leads) {
                (_, Some(epoch)) => self.tell(format!("{id} leads at epoch {epoch}")),
                (Some(epoch), None) => self.tell(format!("{id} leads no more at epoch {epoch}")),
                (None, None) => {}
            }
            match leads {
                Some(_) => self.leading.insert(life),
                None => self.leading.remove(&life),
            };
        }
        for effect in effects {
            self.carry_out(life, effect);
        }
        self.judge_leaders();
    }

    fn carry_out(&mut self, life: Life, effect: Effect) {
        let Some(agent) = self.agents.get_mut(&life) else { return };
        match effect {
            Effect::Keep(number, durable) => {
                let mut wait = if self.chances.disk.happens(10) { 400 } else { self.chances.disk.between(1, 12) };
                if self.options.planted == Some(Planted::PromiseBeforeDisk) {
                    wait += 5_000;
                    self.after(0, Happening::Hear(life, Box::new(Event::Kept(number))));
                }
                let Some(agent) = self.agents.get_mut(&life) else { return };
                agent.disk_busy = agent.disk_busy.max(self.now) + wait;
                let at = agent.disk_busy;
                self.at(at, Happening::Disk(life, number, durable));
            }
            Effect::Publish(report) => agent.gossip.publish(*report),
            Effect::Streams(wanted) => agent.wanted = wanted,
            Effect::Send(to, message) => {
                let message = planted::no_floor(self.options.planted, agent, message);
                if let Message::Promised { epoch, .. } = &message {
                    let (id, claim, read) = (agent.id.clone(), agent.claim.clone(), agent.read);
                    self.oracle.judge_promise(&id, &claim, *epoch, &to);
                    self.oracle.judge_floor(&id, *epoch, read == (true, true));
                }
                self.send(life, &to, message);
            }
            Effect::Api { id, call, within } => {
                agent.calls.insert(id);
                if self.options.planted.is_some()
                    && let Call::PostEvent(event) = &*call
                {
                    agent.kept.event = Some(event.clone());
                }
                let from = agent.id.clone();
                let wait = self.clock(&from.name).wait(within.0);
                self.after(wait, Happening::Timeout(life, id));
                let sent = self.sent(&call);
                self.dispatch(Request { life, from, id, call, answer_after: None, held: false, sent });
            }
            Effect::Local(number, act) => self.local_act(life, number, act),
            Effect::Decided(entry) => {
                let id = agent.id.clone();
                for reason in &entry.reasons {
                    self.marks.mark(format!("rule {}", reason.rule.word()));
                    let verdict = match reason.verdict {
                        Verdict::Act => "acts",
                        Verdict::Wait => "waits",
                        Verdict::Refuse => "refuses",
                        Verdict::Done => "done",
                    };
                    let (rule, epoch) = (reason.rule.word(), entry.epoch);
                    self.tell(format!("{id} [{epoch}] {} {verdict} ({rule}): {}", reason.subject, reason.fact));
                }
            }
            Effect::Exit => self.end_agent(life, true),
        }
    }

    fn local_act(&mut self, life: Life, number: u64, act: LocalAct) {
        let Some(agent) = self.agents.get(&life) else { return };
        let (id, pod) = (agent.id.clone(), agent.pod.clone());
        let (all, serving) = (agent.gossip.databases(false), agent.gossip.databases(true));
        self.tell(format!("{id} acts on its member: {act:?}"));
        let ask = match act {
            LocalAct::Start { role, identity, cluster: _, replaces } => {
                self.permitted.insert(pod.clone());
                let role = planted::role(self.options.planted, role);
                match (self.options.database, role) {
                    (Kind::Etcd, StartAs::Joiner) => {
                        return self.begin_errand(etcd::Errand::Join { life, local: number });
                    }
                    (Kind::Etcd, StartAs::Founder | StartAs::Returner)
                    | (Kind::Ring, StartAs::Founder | StartAs::Joiner | StartAs::Returner) => {}
                }
                let mut argv = match (role, replaces) {
                    (StartAs::Joiner, Some(lost)) => vec!["replacer".to_owned(), lost.to_string()],
                    (StartAs::Joiner, None) => vec!["joiner".to_owned()],
                    (StartAs::Founder, _) => vec!["founder".to_owned()],
                    (StartAs::Returner, _) => vec!["returner".to_owned()],
                };
                match role {
                    StartAs::Founder => {}
                    StartAs::Joiner if serving.is_empty() => {
                        let result = Err("there is nobody to join through".to_owned());
                        self.after(5, Happening::Hear(life, Box::new(Event::Local { id: number, result })));
                        return;
                    }
                    StartAs::Joiner => argv.extend(serving),
                    StartAs::Returner => argv.extend(all),
                }
                let program = database_program(argv);
                Ask::Start { program, permission: StartPermission { pod, identity } }
            }
            LocalAct::Leave { operation } => Ask::Leave { operation },
            LocalAct::EndAfterLeave { operation } => {
                self.judge_end_after_leave(&id.name);
                Ask::EndAfterLeave { operation }
            }
            LocalAct::DrainAndStop => {
                self.judge_stop(&id.name);
                Ask::DrainAndStop
            }
            LocalAct::Restart => Ask::Restart,
            LocalAct::Deadline(left) => Ask::Deadline { left },
            LocalAct::MoveAside { .. } => {
                let wait = self.chances.disk.between(20, 500);
                self.after(wait, Happening::MoveAside(life, number));
                return;
            }
        };
        let wait = self.chances.disk.between(1, 5);
        self.after(wait, Happening::Ask(life, Some(number), Box::new(ask)));
    }

    /// A pilot that stops its database because nobody answers it: only a planted bug does.
    pub(crate) fn stops_its_database(&mut self, life: Life) {
        let Some(name) = self.agents.get(&life).map(|a| a.name().clone()) else { return };
        self.judge_stop(&name);
        self.after(1, Happening::Ask(life, None, Box::new(Ask::DrainAndStop)));
    }

    /// S-LOCAL: a database is stopped only with its pod.
    fn judge_stop(&mut self, name: &PilotName) {
        if self.pods.get(name).is_some_and(|pod| pod.dies.is_none()) {
            self.oracle.broken(Rule::Local, format!("{name} stops its database although its pod is not told to end"));
        }
    }

    /// C-DRAIN: a leave is over when others hold all that the leaver held, and not before.
    fn judge_end_after_leave(&mut self, name: &PilotName) {
        let Some(pod) = self.pods.get(name) else { return };
        let owns = |data: &&Data| match self.options.database {
            Kind::Ring => data.is_full_member(),
            Kind::Etcd => self.etcd.is_voter(&data.identity),
        };
        if let Some(data) = self.volumes.get(&pod.claim).and_then(|v| v.data.as_ref()).filter(owns) {
            let why = format!("{name} ends as one that has left, and {} still owns its part", data.identity);
            self.oracle.broken(Rule::Left, why);
        }
    }

    pub(crate) fn timeout(&mut self, life: Life, id: CallId) {
        let Some(agent) = self.agents.get_mut(&life) else { return };
        if agent.paused {
            agent.late.push(id);
        } else if agent.calls.contains(&id) {
            let result = Err(Failure::Ambiguous("no answer in time".to_owned()));
            self.hear(life, Event::Api { id, result });
        }
    }

    pub(crate) fn on_disk(&mut self, life: Life, number: u64, durable: Durable) {
        let Some(agent) = self.agents.get(&life) else { return };
        let (id, claim) = (agent.id.clone(), agent.claim.clone());
        if let Some(volume) = self.volumes.get_mut(&claim) {
            let before = volume.durable.as_ref().and_then(|d| d.promise.clone());
            if let (Some(before), after) = (&before, durable.promise.as_ref())
                && after
                    .is_none_or(|a| a.epoch < before.epoch || (a.epoch == before.epoch && a.holder != before.holder))
            {
                let why = format!("{id} promised {before:?} and now remembers {after:?}");
                self.oracle.broken(Rule::Epoch, why);
            }
            let given = durable.promise.clone().filter(|p| before.as_ref() != Some(p));
            volume.remember(durable);
            // Its own promise goes over no wire.
            if let Some(given) = given {
                self.oracle.judge_promise(&id, &claim, given.epoch, &given.holder.name);
            }
        }
        self.hear(life, Event::Kept(number));
    }

    /// The driver looks at the database, or at the volume where it does not run.
    pub(crate) fn look(&mut self, life: Life) {
        if !self.agents.contains_key(&life) {
            return;
        }
        self.after(LOOK, Happening::Look(life));
        let Some(agent) = self.agents.get(&life).filter(|a| !a.paused) else { return };
        let name = agent.name().clone();
        let known = agent.pilot.durable().identity.clone();
        let claim = agent.claim.clone();
        if self.pods.get(&name).is_none_or(|p| p.launcher.is_none()) {
            return;
        }
        if let Some(process) = self.databases.processes.get(&name).filter(|p| p.claim == claim) {
            let seen = match self.options.database {
                Kind::Ring => process.look(self.now),
                Kind::Etcd => self.look_at_etcd(process),
            };
            let state = planted::misread_database(self.options.planted, seen);
            self.hear(life, Event::Database(Box::new(state)));
            self.promote_when_ready(life);
        } else {
            let bare = protocol::database::DatabaseState::bare(protocol::database::DatabasePhase::Stopped);
            self.hear(life, Event::Database(Box::new(bare)));
            let volume = self.volume_state(&claim, known);
            self.hear(life, Event::Volume(volume));
        }
    }

    /// SIGSTOP, and SIGCONT later.
    pub(crate) fn pause(&mut self, life: Life, length: u64) {
        if let Some(agent) = self.agents.get_mut(&life).filter(|a| !a.paused) {
            agent.paused = true;
            let id = agent.id.clone();
            self.tell(format!("{id} is stopped for {length} ms"));
            self.after(length, Happening::Resume(life));
        }
    }

    pub(crate) fn resume(&mut self, life: Life) {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(&life).filter(|a| a.paused) else { return };
        agent.paused = false;
        agent.gossip.woke(now + GOSSIP_WAKES);
        let id = agent.id.clone();
        let waiting: Vec<Event> = agent.inbox.drain(..).collect();
        let late: Vec<CallId> = agent.late.drain(..).collect();
        self.tell(format!("{id} goes on"));
        for event in waiting {
            self.hear(life, event);
        }
        for call in late {
            self.timeout(life, call);
        }
        self.after(0, Happening::Tick(life));
        self.after(ROUND, Happening::Gossip(life));
    }

    /// The process ends: killed, or by its own will.
    pub(crate) fn end_agent(&mut self, life: Life, orderly: bool) {
        let Some(agent) = self.agents.remove(&life) else { return };
        self.lives.retain(|other| *other != life);
        let how = if orderly { "ends" } else { "is killed" };
        self.tell(format!("{} {how}", agent.id));
        self.oracle.bounds.ended(life);
        if orderly {
            self.depart(&agent);
        }
        self.agent_ended(agent.name(), life);
        let peers: Vec<(Life, Life)> = self.links.keys().filter(|(a, b)| *a == life || *b == life).copied().collect();
        for (a, b) in peers {
            let wait = self.chances.network.between(2, 80);
            let peer = if a == life { b } else { a };
            self.after(wait, Happening::Hangup(life, peer));
        }
    }
}

/// What the launcher is told to run.
pub(crate) fn database_program(argv: Vec<String>) -> DatabaseProgram {
    let program = |argv: Vec<String>| Program { argv, env: BTreeMap::new() };
    DatabaseProgram {
        files: BTreeMap::new(),
        run: program(argv),
        drain: program(vec!["drain".to_owned()]),
        leave: program(vec!["leave".to_owned()]),
    }
}
