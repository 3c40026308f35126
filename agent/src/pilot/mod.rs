//! The step machine of a pilot: events in, effects out. No IO, no clock, no randomness.
//!
//! Every event changes what is known; afterwards everything is derived again from it (`run`). The same machine runs in
//! production, in the sandbox and in the simulator.

mod coordinator;
pub mod decisions;
pub mod durable;
mod election;
mod local;
mod mesh;
mod newest;
mod orders;
mod pause;
mod promises;
mod reporting;
pub mod state;
#[cfg(test)]
mod tests;

use crate::effect::Effect;
use crate::event::{CallId, Event};
use crate::kubernetes::call::{Answer, Call, Failure};
use coordinator::Leadership;
use decisions::Log;
use durable::Durable;
use pause::Chore;
use policies::decide::Limits;
use protocol::database::{DatabasePhase, DatabaseState, VolumeState};
use protocol::epoch::Epoch;
use protocol::id::{ClusterId, PilotId, PilotName, Uid};
use protocol::launcher::LauncherStatus;
use protocol::report::{ApiReach, Brief, Report};
use protocol::time::{Millis, Timestamp};
use protocol::view::{Liveness, View};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The part of the policy that the machine acts by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// How long a Lease holds without renewal.
    pub lease: Duration,
    /// How often it is renewed.
    pub renew_every: Duration,
    /// So much before its end the holder stops acting.
    pub margin: Duration,
    /// The candidate of rank k waits k of these.
    pub step: Duration,
    /// What a coordinator may do.
    pub limits: Limits,
    /// The policy's hash, for reports.
    pub hash: String,
}

/// What a pilot is given when it is started.
#[derive(Debug, Clone)]
pub struct Setup {
    /// This life of this pilot.
    pub id: PilotId,
    /// Its pod.
    pub pod: Uid,
    /// Where its stream listens.
    pub stream: SocketAddr,
    /// Where its endpoints listen.
    pub http: SocketAddr,
    /// The address of its database.
    pub database: IpAddr,
    /// The port of its database's clients.
    pub client_port: u16,
    /// Its version.
    pub version: String,
    /// The policy.
    pub rules: Rules,
    /// What it remembers.
    pub durable: Durable,
    /// The name of the cluster if it should ever found one: drawn at random before.
    pub mint: ClusterId,
    /// A number that no other life draws: nonces count up from it.
    pub nonce: u64,
}

/// A longer silence of the own clock than this between two events is a sleep: leadership is cleared.
const SLEPT: Duration = Duration::from_secs(3);
/// A call to the API may take so long.
const CALL: Duration = Duration::from_secs(2);
/// An order is fetched and delivered within this, or lapses.
const FRESH_ORDER: Duration = Duration::from_secs(3);
/// The time a fresh pilot listens before it believes that nobody coordinates.
const LISTEN: Duration = Duration::from_secs(2);

/// What a pending call was for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Purpose {
    /// To learn floor, claim and whether this member may start.
    Learn,
    /// To see whether the Lease can be taken.
    Candidacy,
    /// Taking the Lease.
    Take { patience: Option<Duration>, epoch: Epoch },
    /// Finding out whether taking it was done.
    TookIt { sent: Timestamp, patience: Option<Duration>, epoch: Epoch },
    /// Renewing it.
    Renew,
    /// Finding out whether renewing it was done.
    Renewed { sent: Timestamp },
    /// Giving it back.
    Release,
    /// Observing the world for this round of decisions.
    Observe(u64),
    /// A governed act.
    Act,
    /// A governed act that was under way when its sender gave up leadership.
    LastAct,
    /// A renewal, likewise.
    LastRenew,
    /// The grace period of the own pod.
    Grace,
    /// Whether the set of the own, ending pod is still there.
    Whole,
    /// An event for people.
    Tell,
}

#[derive(Debug, Clone)]
struct Pending {
    purpose: Purpose,
    call: Call,
    sent: Timestamp,
    /// The Lease as it was known then.
    lease: Option<(Uid, u64)>,
}

/// What waits for the disk, and the memory that will be on it then.
#[derive(Debug, Clone)]
struct Waiting {
    durable: Durable,
    effects: Vec<Effect>,
}

/// What is known from the API about this member's right to start.
#[derive(Debug, Clone, Default)]
struct Learning {
    lease_read: bool,
    /// The record, as read in this life: `Some(None)` is the API's word that there is none.
    record: Option<Option<Box<policies::world::RecordFacts>>>,
    claim_read: bool,
    next: Option<Timestamp>,
}

/// What a view says that is asked for at each event: among a thousand it is too much to be looked up each time.
#[derive(Debug, Clone, Default)]
struct Glance {
    /// How many views there have been.
    number: u64,
    /// Whom it names as coordinator.
    coordinator: Option<(PilotId, Epoch)>,
    /// Whom it does not show live.
    not_live: Vec<PilotId>,
}

impl Glance {
    fn at(number: u64, view: &View) -> Self {
        let lost = view.peers.iter().filter(|(_, peer)| peer.liveness != Liveness::Live);
        let not_live = lost.map(|(name, peer)| PilotId { name: name.clone(), generation: peer.generation }).collect();
        Self { number, coordinator: view.coordinator(), not_live }
    }
}

/// The machine.
#[derive(Debug, Clone)]
pub struct Pilot {
    setup: Setup,
    durable: Durable,
    kept: u64,
    asked_to_keep: u64,
    waiting_for_disk: BTreeMap<u64, Waiting>,
    /// The memory that is on disk for certain.
    on_disk: Durable,
    disk_trouble: Option<String>,
    floor_known: bool,

    started: Option<Timestamp>,
    last_event: Option<Timestamp>,
    view: View,
    /// What was found in it when it came.
    glance: Glance,
    launcher: Option<LauncherStatus>,
    /// The launcher was told to end when it was last heard: in an ending pod it goes before this process does.
    pod_ends: bool,
    database: DatabaseState,
    volume: Option<VolumeState>,
    api: ApiReach,

    learning: Learning,
    newest: newest::Newest,
    local: local::Local,
    election: election::Election,
    leadership: Option<Leadership>,
    mesh: mesh::Mesh,
    orders: orders::Orders,

    pending: BTreeMap<CallId, Pending>,
    next_call: u64,
    next_local: u64,
    published: Option<Report>,
    published_at: Timestamp,
    log: Log,
    heard: BTreeSet<Brief>,
    leaving: bool,
    out: Vec<Effect>,
}

impl Pilot {
    /// A pilot at the beginning of a life. `trusted` is false where the memory may be older than a promise already given.
    pub fn new(setup: Setup) -> Self {
        let durable = setup.durable.clone();
        let nonce = setup.nonce;
        Self {
            durable,
            kept: 0,
            asked_to_keep: 0,
            waiting_for_disk: BTreeMap::new(),
            on_disk: setup.durable.clone(),
            disk_trouble: None,
            floor_known: false,
            started: None,
            last_event: None,
            view: View::default(),
            glance: Glance::default(),
            launcher: None,
            pod_ends: false,
            database: DatabaseState::bare(DatabasePhase::Unknown),
            volume: None,
            api: ApiReach::Untried,
            learning: Learning::default(),
            newest: newest::Newest::default(),
            local: local::Local::default(),
            election: election::Election::default(),
            leadership: None,
            mesh: mesh::Mesh::default(),
            orders: orders::Orders::new(nonce),
            pending: BTreeMap::new(),
            next_call: 0,
            next_local: 0,
            published: None,
            published_at: Timestamp::default(),
            log: Log::default(),
            heard: BTreeSet::new(),
            leaving: false,
            out: Vec::new(),
            setup,
        }
    }

    /// Takes an event in and tells what is to be done.
    pub fn handle(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        self.mind_the_gap(now);
        match event {
            Event::Tick => {}
            Event::View(view) => self.take_view(now, *view),
            Event::StreamUp(peer) => self.stream_up(&peer),
            Event::StreamEnded { peer, process_ended } => self.stream_ended(now, &peer, process_ended),
            Event::Message(from, message) => self.take_message(now, &from, message),
            Event::Api { id, result } => self.take_answer(now, id, result),
            Event::Kept(number) => self.take_kept(number),
            Event::NotKept(number, why) => self.not_kept(now, number, why),
            Event::Launcher(status) => self.take_launcher(now, status.map(|s| *s)),
            Event::Database(state) => self.take_database(*state),
            Event::Volume(volume) => self.volume = Some(volume),
            Event::Local { id, result } => self.take_local(now, id, result),
            Event::Policy(rules) => self.setup.rules = *rules,
            Event::Terminate => self.terminate(now),
        }
        self.run(now);
        std::mem::take(&mut self.out)
    }

    /// Derives everything again from what is known.
    fn run(&mut self, now: Timestamp) {
        self.learn(now);
        self.care(now);
        self.elect(now);
        self.coordinate(now);
        self.keep_streams();
        self.publish(now);
        self.end_in_time(now);
    }

    /// A process that was asleep distrusts itself: what it believed of leadership and of others is from before.
    fn mind_the_gap(&mut self, now: Timestamp) {
        self.started.get_or_insert(now);
        if let Some(last) = self.last_event
            && now.since(last) > SLEPT
        {
            self.step_down(now, "this process was asleep");
            self.view.woken = true;
            self.election.woke(now);
            self.mesh.forget_who_spoke();
        }
        self.last_event = Some(now);
    }

    fn take_view(&mut self, now: Timestamp, view: View) {
        let changed = !same_facts(&self.view, &view);
        for (_, _, report) in view.live() {
            self.heard.extend(report.why.iter().cloned());
        }
        while self.heard.len() > 100 {
            self.heard.pop_first();
        }
        self.glance = Glance::at(self.glance.number + 1, &view);
        if let Some((id, epoch)) = self.glance.coordinator.clone() {
            self.mesh.names(now, id, epoch);
        }
        self.view = view;
        if changed {
            self.poke(now);
        }
    }

    fn take_database(&mut self, mut state: DatabaseState) {
        // A ring that stays the same stays the very same: it is told again with each report, and compared with each other.
        if state.ring == self.database.ring {
            state.ring = self.database.ring.take();
        }
        self.database = state;
    }

    fn take_launcher(&mut self, now: Timestamp, status: Option<LauncherStatus>) {
        let began =
            status.as_ref().is_some_and(|s| s.terminating) && !self.launcher.as_ref().is_some_and(|s| s.terminating);
        self.pod_ends = status.as_ref().map_or(self.pod_ends, |s| s.terminating);
        self.launcher = status;
        if !self.is_held() {
            self.local.pauses.forget(Chore::Start);
        }
        if began {
            self.local.began_to_end(now);
            self.poke(now);
        }
    }

    /// Starts a call. Its answer comes back as an event, or as a failure when the time is over.
    fn call(&mut self, now: Timestamp, purpose: Purpose, call: Call) {
        self.next_call += 1;
        let id = CallId(self.next_call);
        self.out.push(Effect::Api { id, call: Box::new(call.clone()), within: Millis::from(CALL) });
        self.pending.insert(id, Pending { purpose, call, sent: now, lease: self.newest.lease() });
    }

    fn in_flight(&self, purpose: impl Fn(&Purpose) -> bool) -> bool {
        self.pending.values().any(|p| purpose(&p.purpose))
    }

    fn take_answer(&mut self, now: Timestamp, id: CallId, result: Result<Answer, Failure>) {
        let Some(pending) = self.pending.remove(&id) else {
            return;
        };
        let result = result.and_then(|answer| self.newest.check(answer, &pending.lease));
        self.api = match &result {
            Ok(_) | Err(Failure::Conflict(_) | Failure::Refused { .. } | Failure::Unreadable(_)) => ApiReach::Reachable,
            Err(Failure::Ambiguous(_)) => ApiReach::Unreachable,
        };
        if let Ok(Answer::Lease(Some(lease))) = &result {
            self.raise_floor(lease.content.epoch);
        }
        if let Ok(Answer::Record(Some(record))) = &result {
            self.raise_floor(record.record.epoch);
        }
        match pending.purpose.clone() {
            Purpose::Learn => self.learnt(now, result),
            Purpose::Candidacy => self.candidacy_answer(now, result),
            Purpose::Take { patience, epoch } => self.take_result(now, pending.sent, patience, epoch, result),
            Purpose::TookIt { sent, patience, epoch } => self.took_it(now, sent, patience, epoch, result),
            Purpose::Renew => self.renew_result(now, pending.sent, result),
            Purpose::Renewed { sent } => self.renewed(now, sent, result),
            Purpose::Observe(round) => self.observed(now, round, result),
            Purpose::Act => self.acted(now, &pending.call, result),
            // What it came to is for the next coordinator to see; here only that it is over counts.
            Purpose::LastAct => {}
            Purpose::LastRenew => self.last_renewed(result),
            Purpose::Grace => self.grace_known(now, result),
            Purpose::Whole => self.set_known(&result),
            Purpose::Release | Purpose::Tell => {}
        }
    }

    fn raise_floor(&mut self, epoch: Epoch) {
        if epoch > self.durable.floor {
            self.durable.floor = epoch;
        }
    }

    /// Keeps the memory on disk, and holds these effects back until it is there.
    fn keep_then(&mut self, effects: Vec<Effect>) {
        self.asked_to_keep += 1;
        self.waiting_for_disk.insert(self.asked_to_keep, Waiting { durable: self.durable.clone(), effects });
        self.out.push(Effect::Keep(self.asked_to_keep, Box::new(self.durable.clone())));
    }

    fn take_kept(&mut self, number: u64) {
        self.kept = self.kept.max(number);
        self.disk_trouble = None;
        self.local.pauses.forget(Chore::Memory);
        let later = self.waiting_for_disk.split_off(&(self.kept + 1));
        let ready = std::mem::replace(&mut self.waiting_for_disk, later);
        for waiting in ready.into_values() {
            self.on_disk = waiting.durable;
            for effect in waiting.effects {
                if let Effect::Send(name, message) = &effect
                    && *name == self.setup.id.name
                {
                    self.own_promise(message);
                    continue;
                }
                self.out.push(effect);
            }
        }
    }

    /// Nothing that waited for the disk may happen: it is dropped, and with it the memory of it, so that whoever asks
    /// again is not told that it was done.
    fn not_kept(&mut self, now: Timestamp, number: u64, why: String) {
        self.disk_trouble = Some(why);
        self.local.pauses.failed(Chore::Memory, now);
        if number < self.asked_to_keep {
            // A later writing is under way that holds all of it. What waits is decided by that one.
            return;
        }
        for waiting in std::mem::take(&mut self.waiting_for_disk).into_values() {
            for effect in waiting.effects {
                if let Effect::Local(id, _) = effect {
                    self.take_local(now, id, Err("the pilot's memory could not be written".to_owned()));
                }
            }
        }
        // What was read from others is no word of ours, and stays.
        let floor = self.durable.floor.max(self.on_disk.floor);
        let (claim, roster) = (self.durable.claim.take(), std::mem::take(&mut self.durable.roster));
        self.durable = Durable { floor, claim, roster, ..self.on_disk.clone() };
    }

    fn own(&self) -> &PilotName {
        &self.setup.id.name
    }

    /// The life and name of this pilot.
    pub fn id(&self) -> &PilotId {
        &self.setup.id
    }

    /// Whether this pilot believes that it coordinates now, and at which epoch.
    pub fn believes_it_coordinates(&self, now: Timestamp) -> Option<Epoch> {
        self.leadership.as_ref().filter(|l| l.is_valid(now)).map(|l| l.epoch)
    }

    /// What it remembers.
    pub fn durable(&self) -> &Durable {
        &self.durable
    }
}

/// Whether two views carry the same liveness and the same facts that a decision can turn on.
///
/// Bytes held, moved and free change all the time: a coordinator that looked at the world for each of them would ask
/// the API more often the more members there are.
fn same_facts(a: &View, b: &View) -> bool {
    a.peers.len() == b.peers.len()
        && a.peers.iter().zip(&b.peers).all(|((name, peer), (other_name, other))| {
            name == other_name
                && other.generation == peer.generation
                && other.liveness == peer.liveness
                && match (&peer.report, &other.report) {
                    // Most are the very same: in a mesh of hundreds there would be a ring of hundreds to compare for each.
                    (Some(a), Some(b)) => {
                        Arc::ptr_eq(a, b)
                            || (telling(&a.database) == telling(&b.database)
                                && a.about == b.about
                                && a.mesh.obeyed == b.mesh.obeyed
                                && a.ring == b.ring)
                    }
                    (None, None) => true,
                    (Some(_), None) | (None, Some(_)) => false,
                }
        })
}

/// A database's report without what changes all the time.
fn telling(report: &protocol::report::DatabaseReport) -> protocol::report::DatabaseReport {
    protocol::report::DatabaseReport { streaming: None, load: None, disk: None, ..report.clone() }
}
