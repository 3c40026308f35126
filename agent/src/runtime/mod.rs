//! Joins the step machine to the world: events in, effects out, one loop.

pub mod api;
mod applied;
pub mod keeper;
pub mod member;
pub mod mesh_view;
mod seeds;
pub mod settings;

use crate::caught::caught;
use crate::effect::Effect;
use crate::event::Event;
use crate::gossip::{ChitchatMembership, Cut, GossipStart, Membership, MembershipView};
use crate::http::{Board, Health};
use crate::keyring::KeyRingWatch;
use crate::kubernetes::call::Failure;
use crate::kubernetes::translate::Names;
use crate::launch_client::{LauncherClient, LauncherEvent};
use crate::machine::{Machine, SharedClock, Signals};
use crate::pilot::{Pilot, Setup};
use crate::stream::{Evidence, StreamEvent, StreamSettings, StreamStart, Streams, StreamsHandle};
use api::Api;
use applied::{gossip_settings, rules};
use keeper::Written;
use member::{Place, Watched};
use policies::policy::Policy;
use protocol::codec;
use protocol::database::DatabasePhase;
use protocol::id::{ClusterId, PilotId, PilotName};
use protocol::launcher::{Ask, Care, LauncherStatus};
use protocol::message::Message;
use protocol::report::{Report, Role};
use protocol::time::Timestamp;
use rand::RngExt;
use seeds::Seeds;
use settings::AgentSettings;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};

/// How often the machine is woken when nothing happens.
const TICK: Duration = Duration::from_millis(200);
/// Readers see the state this soon after it changed; at once where the last change was longer ago. Making the document
/// costs more than most events.
const SHOWN_WITHIN: Duration = Duration::from_millis(100);
/// What the writer of the memory is called where it is missed.
const KEEPER: &str = "the writer of the memory";
/// How often files are looked at and the state is renewed for readers.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Why an agent ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The policy file.
    #[error("{0}")]
    Policy(String),
    /// Reading a file.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The memory.
    #[error(transparent)]
    Memory(#[from] keeper::MemoryError),
    /// The keys.
    #[error("{0}")]
    Keys(String),
    /// Gossip.
    #[error("{0}")]
    Gossip(String),
    /// Streams.
    #[error("{0}")]
    Streams(String),
    /// The API.
    #[error(transparent)]
    Api(#[from] api::ApiError),
    /// The endpoints.
    #[error("{0}")]
    Http(String),
    /// Signals.
    #[error("signals cannot be handled: {0}")]
    Signals(std::io::Error),
    /// A task that the pilot cannot do without.
    #[error(
        "{0} has ended unasked, which is a bug: this process ends so that it is started again with all of its tasks"
    )]
    TaskEnded(&'static str),
    /// Gossip had to begin a new life, so this pilot begins one too.
    #[error("gossip was restarted under a new generation: this process ends so that the pilot is one life throughout")]
    NewLife,
}

/// What the step machine is told that time it is.
fn now(clock: &SharedClock) -> Timestamp {
    Timestamp::from_millis(u64::try_from(clock.boot().as_millis()).unwrap_or(u64::MAX))
}

fn read(path: &Path) -> Result<String, AgentError> {
    std::fs::read_to_string(path).map_err(|source| AgentError::Read { path: path.to_owned(), source })
}

/// Runs an agent on a machine until it is told to end.
///
/// # Errors
/// When it cannot start, or must not go on.
pub async fn run(machine: impl Machine, settings: AgentSettings) -> Result<(), AgentError> {
    let mut policy_text = settings.policy.as_deref().map(read).transpose()?;
    let mut policy = match (&policy_text, &settings.policy) {
        (Some(text), Some(path)) => {
            Policy::parse(text, &path.display().to_string()).map_err(|faults| AgentError::Policy(faults.to_string()))?
        }
        (None, _) | (_, None) => Policy::default(),
    };
    let clock = machine.clock();
    let wall = clock.wall().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis());
    let (disk, loaded) = machine.memory(&settings.state_dir.join("pilot.state"))?;
    let memory = keeper::begin_life(disk, loaded, u64::try_from(wall).unwrap_or(0))?;
    if let Some(reason) = &memory.suspicion {
        tracing::warn!(%reason, "the pilot's memory may be older than what it promised: it promises nothing before it has read the floor");
    }
    let generation = memory.durable.generation.unwrap_or(protocol::id::Generation(1));
    let id = PilotId { name: settings.pod.clone(), generation };
    let (nonce, minted) = {
        let mut rng = rand::rng();
        (rng.random::<u64>(), rng.random::<u128>())
    };
    let keys = KeyRingWatch::start(settings.keys.clone(), Duration::from_secs(5))
        .map_err(|e| AgentError::Keys(e.to_string()))?;
    let mesh = ClusterId::new(settings.mesh.clone());

    let mut last_life = generation;
    let seeds = Seeds { names: settings.seeds.clone(), file: settings.seed_file.clone() };
    let first_seeds = seeds.resolve(&machine).await;
    let mut gossip = ChitchatMembership::start_on(
        &machine,
        GossipStart {
            settings: gossip_settings(&policy),
            name: settings.pod.clone(),
            generation,
            listen: settings.gossip,
            advertise: SocketAddr::new(settings.address, settings.gossip.port()),
            cluster: mesh.clone(),
            ring: keys.ring(),
            seeds: first_seeds.clone(),
            next_generation: Box::new(move |given| {
                // A life of the process leaves room for these before the next one's.
                last_life = protocol::id::Generation(last_life.max(given).0.saturating_add(1));
                Ok(last_life)
            }),
            allow_cuts: settings.cuts.is_some(),
        },
    )
    .await
    .map_err(|e| AgentError::Gossip(e.to_string()))?;
    let (streams, mut stream_events) = Streams::start_on(
        machine.network(),
        StreamStart {
            settings: StreamSettings::default(),
            own: id.clone(),
            listen: settings.stream,
            advertise: SocketAddr::new(settings.address, settings.stream.port()),
            cluster: mesh,
            ring: keys.ring(),
            allow_cuts: settings.cuts.is_some(),
        },
    )
    .await
    .map_err(|e| AgentError::Streams(e.to_string()))?;
    let names = Names {
        namespace: settings.namespace.clone(),
        set: settings.set.clone(),
        claim_template: settings.claim_template.clone(),
        pod: settings.pod.clone(),
    };
    let api = Api::new(machine.api(settings.kubeconfig.as_deref()).await?, names, clock.clone());
    let (launcher, mut launcher_events) = LauncherClient::connect_on(machine.clone(), &settings.launcher);
    let board = Board::new();
    // They end with this function.
    let (http, _endpoints) =
        machine.serve(settings.http, board.clone()).await.map_err(|e| AgentError::Http(e.to_string()))?;

    let setup = Setup {
        id: id.clone(),
        pod: settings.pod_uid.clone(),
        stream: streams.address(),
        http: SocketAddr::new(settings.address, http.port()),
        database: settings.address,
        client_port: settings.client_port,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        rules: rules(&policy),
        durable: memory.durable.clone(),
        mint: ClusterId::new(format!("{minted:032x}")),
        nonce,
    };
    let (keep, mut kept) = machine.keep(memory.disk);
    let (events, mut inbox) = mpsc::channel::<Event>(256);
    let (watched_to, watched) = watch::channel(Watched { process: None, identity: memory.durable.identity.clone() });
    tokio::spawn(member::keep_looking(
        machine.clone(),
        settings.driver.clone(),
        settings.address,
        launcher.clone(),
        watched,
        events.clone(),
        board.clone(),
    ));
    let place = Place {
        cluster_name: settings.cluster_name.clone(),
        address: settings.address,
        data_center: settings.data_center.clone(),
        rack: settings.rack.clone(),
        pod: settings.pod_uid.clone(),
    };
    tracing::info!(pilot = %id, policy = %policy.hash(), "pilot started");

    let mut shell = Shell {
        machine: machine.clone(),
        clock,
        pilot: Pilot::new(setup),
        streams,
        api,
        launcher: launcher.clone(),
        driver: settings.driver.clone(),
        place,
        events: events.clone(),
        keep,
        board,
        wanted: BTreeSet::new(),
        addresses: BTreeMap::new(),
        databases: BTreeMap::new(),
        ended: false,
        lost: None,
        status: None,
        announced: None,
        show_at: Some(tokio::time::Instant::now()),
        shown: tokio::time::Instant::now(),
    };
    let mut views = gossip.changes();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut house = tokio::time::interval(HOUSEKEEPING);
    house.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut signals = machine.signals().map_err(AgentError::Signals)?;
    let mut cuts = String::new();
    let mut reports = mesh_view::Reports::default();
    let mut seeds = seeds.watch(machine, first_seeds);

    while !shell.ended {
        let event = tokio::select! {
            _ = tick.tick() => Event::Tick,
            changed = views.changed() => {
                if changed.is_err() {
                    return Err(AgentError::TaskEnded("gossip"));
                }
                let view = views.borrow_and_update().clone();
                if view.own.generation != id.generation {
                    return Err(AgentError::NewLife);
                }
                shell.remember(&view);
                shell.board.set_gossip(view.counters);
                Event::View(Box::new(reports.translate(&view)))
            }
            // A branch that is only passed over once its task has ended would leave a pilot that hears half of the world.
            event = stream_events.recv() => {
                match shell.stream_event(event.ok_or(AgentError::TaskEnded("the task of the streams"))?) {
                    Some(event) => event,
                    None => continue,
                }
            }
            event = launcher_events.recv() => {
                let status = match event.ok_or(AgentError::TaskEnded("the talk with the launcher"))? {
                    LauncherEvent::Connected(status) => {
                        shell.send_care(&policy);
                        Some(status)
                    }
                    LauncherEvent::Changed(status) => Some(status),
                    LauncherEvent::Lost => None,
                };
                shell.status = status.clone();
                Event::Launcher(status.map(Box::new))
            }
            written = kept.recv() => match written.ok_or(AgentError::TaskEnded(KEEPER))? {
                Written { number, result: Ok(()) } => Event::Kept(number),
                Written { number, result: Err(why) } => {
                    tracing::error!(%why, "the pilot's memory could not be written");
                    Event::NotKept(number, why)
                }
            },
            Some(event) = inbox.recv() => event,
            changed = seeds.changed() => {
                changed.map_err(|_| AgentError::TaskEnded("the task that resolves seeds"))?;
                gossip.seeds(&seeds.borrow_and_update());
                continue;
            }
            () = signals.told_to_end() => Event::Terminate,
            () = until(shell.show_at) => {
                shell.show();
                continue;
            }
            _ = house.tick() => {
                if let Some(path) = &settings.cuts {
                    let text = std::fs::read_to_string(path).unwrap_or_default();
                    if text != cuts {
                        cuts = text;
                        let cut = parse_cut(&cuts);
                        tracing::warn!(?cut, "fault test: peers are cut off");
                        if gossip.cut(cut.clone()).await.is_err() || shell.streams.cut(cut).await.is_err() {
                            tracing::error!("cuts are not allowed here");
                        }
                    }
                }
                match reload(&settings, &mut policy_text, &policy) {
                    None => Event::Tick,
                    Some(Err(faults)) => {
                        tracing::error!("the changed policy file is refused, the one of before stays in force:\n{faults}");
                        Event::Tick
                    }
                    Some(Ok(new)) => {
                        tracing::info!(hash = %new.hash(), "policy changed");
                        let restart = gossip_settings(&new) != gossip_settings(&policy);
                        policy = new;
                        shell.send_care(&policy);
                        if restart {
                            tracing::info!("gossip settings take effect when this pilot is restarted");
                        }
                        Event::Policy(Box::new(rules(&policy)))
                    }
                }
            }
        };
        let report = shell.step(event);
        if let Some(report) = report {
            shell.tell(&report);
            match reports.tell(&id.name, &report) {
                Ok(values) => {
                    if let Err(error) = gossip.publish(&values) {
                        tracing::error!(%error, "the report is not gossiped");
                    }
                }
                Err(error) => tracing::error!(%error, "the report is not gossiped"),
            }
        }
        let process = shell.status.as_ref().map(|s| s.process.clone());
        let identity = shell.pilot.durable().identity.clone();
        watched_to.send_if_modified(|w| {
            let kind = |p: &Option<protocol::launcher::ProcessState>| p.as_ref().map(std::mem::discriminant);
            let changed = kind(&w.process) != kind(&process) || w.identity != identity;
            *w = Watched { process: process.clone(), identity: identity.clone() };
            changed
        });
        shell.show_soon();
    }
    if let Some(task) = shell.lost {
        return Err(AgentError::TaskEnded(task));
    }
    shell.show();
    gossip.depart().await;
    Ok(())
}

/// What the loop holds besides its sources.
struct Shell<M> {
    machine: M,
    clock: SharedClock,
    pilot: Pilot,
    streams: StreamsHandle,
    api: Api,
    launcher: LauncherClient,
    driver: Arc<dyn crate::driver::Driver>,
    place: Place,
    events: mpsc::Sender<Event>,
    keep: mpsc::UnboundedSender<(u64, Box<crate::pilot::durable::Durable>)>,
    board: Board,
    wanted: BTreeSet<PilotName>,
    addresses: BTreeMap<PilotName, SocketAddr>,
    databases: BTreeMap<PilotName, (IpAddr, bool)>,
    ended: bool,
    /// A task that has ended, without which this pilot must not go on.
    lost: Option<&'static str>,
    status: Option<LauncherStatus>,
    announced: Option<(Role, DatabasePhase)>,
    /// When the state is to be shown next, where it may have changed.
    show_at: Option<tokio::time::Instant>,
    shown: tokio::time::Instant,
}

impl<M: Machine> Shell<M> {
    /// Notes where peers are: nothing but the newest view remembers an address.
    fn remember(&mut self, view: &MembershipView) {
        self.addresses.clear();
        self.databases.clear();
        for (name, peer) in &view.peers {
            if let Ok(report) = Report::from_values(&peer.values) {
                self.addresses.insert(name.clone(), report.about.stream);
                let serves = matches!(report.database.phase, DatabasePhase::Serving | DatabasePhase::Leaving);
                self.databases.insert(name.clone(), (report.about.database, serves));
            }
        }
        self.keep_streams();
    }

    fn keep_streams(&self) {
        let known = self.wanted.iter().filter_map(|n| Some((n.clone(), *self.addresses.get(n)?))).collect();
        if let Err(error) = self.streams.keep(known) {
            tracing::debug!(%error, "streams are not kept");
        }
    }

    fn stream_event(&self, event: StreamEvent) -> Option<Event> {
        match event {
            StreamEvent::Up { peer, generation } => Some(Event::StreamUp(PilotId { name: peer, generation })),
            StreamEvent::Ended { peer, generation, evidence } => {
                let process_ended = match evidence {
                    Evidence::ProcessEnded | Evidence::Superseded => true,
                    Evidence::Silent | Evidence::Unreachable | Evidence::Closed => false,
                };
                Some(Event::StreamEnded { peer: PilotId { name: peer, generation }, process_ended })
            }
            StreamEvent::Message { peer, generation, bytes } => match codec::decode::<Message>(&bytes) {
                Ok(message) => Some(Event::Message(PilotId { name: peer, generation }, message)),
                Err(error) => {
                    tracing::warn!(%peer, %error, "a message is refused");
                    None
                }
            },
        }
    }

    fn send_care(&self, policy: &Policy) {
        let launcher = self.launcher.clone();
        let care = Care::from(&policy.restart);
        tokio::spawn(async move {
            if let Err(error) = launcher.ask(Ask::Care(care)).await {
                tracing::warn!(%error, "the launcher was not told how to care for a dying database");
            }
        });
    }

    /// One event, and all that comes of it. Returns a report to be gossiped.
    fn step(&mut self, event: Event) -> Option<Report> {
        let mut publish = None;
        for effect in self.pilot.handle(now(&self.clock), event) {
            match effect {
                Effect::Keep(number, durable) => {
                    if self.keep.send((number, durable)).is_err() {
                        self.lost = Some(KEEPER);
                        self.ended = true;
                    }
                }
                Effect::Publish(report) => publish = Some(*report),
                Effect::Streams(wanted) => {
                    self.wanted = wanted;
                    self.keep_streams();
                }
                Effect::Send(to, message) => match codec::encode(&message) {
                    Ok(bytes) => {
                        if let Err(error) = self.streams.send(&to, bytes) {
                            tracing::debug!(%to, %error, "a message was not sent");
                        }
                    }
                    Err(error) => tracing::error!(%error, "a message cannot be sent"),
                },
                Effect::Api { id, call, within } => {
                    let (api, events) = (self.api.clone(), self.events.clone());
                    let board = self.board.clone();
                    tokio::spawn(async move {
                        // The machine waits for an answer: a panic is one that says nothing of what was done.
                        let sent = caught(api.send(&call, within.into())).await;
                        let result = sent.unwrap_or_else(|panicked| Err(Failure::Ambiguous(panicked.to_string())));
                        if let Err(error) = &result {
                            tracing::debug!(?call, %error, "a call to the API failed");
                        }
                        board.count_call(&call, result.is_ok());
                        // The loop has ended where nobody listens any more.
                        let _ = events.send(Event::Api { id, result }).await;
                    });
                }
                Effect::Local(id, act) => {
                    let (place, driver, launcher) = (self.place.clone(), self.driver.clone(), self.launcher.clone());
                    let (machine, events) = (self.machine.clone(), self.events.clone());
                    let seeds = self.seeds(&act);
                    tracing::info!(?act, "acts on its own member");
                    tokio::spawn(async move {
                        let acted = caught(member::act(&machine, act, &place, seeds, driver, &launcher)).await;
                        let result = acted.unwrap_or_else(|panicked| Err(panicked.to_string()));
                        if let Err(error) = &result {
                            tracing::warn!(%error, "an act on the own member was refused");
                        }
                        let _ = events.send(Event::Local { id, result }).await;
                    });
                }
                Effect::Decided(entry) => {
                    self.board.count_decision(&entry);
                    for reason in &entry.reasons {
                        tracing::info!(
                            number = entry.number,
                            epoch = entry.epoch.0,
                            verdict = ?reason.verdict,
                            rule = reason.rule.word(),
                            subject = %reason.subject,
                            "{}",
                            reason.fact
                        );
                    }
                }
                Effect::Exit => self.ended = true,
            }
        }
        publish
    }

    fn seeds(&self, act: &crate::effect::LocalAct) -> Vec<IpAddr> {
        use crate::effect::{LocalAct, StartAs};
        match act {
            LocalAct::Start { role: StartAs::Joiner, .. } => {
                self.databases.values().filter(|(_, serves)| *serves).map(|(a, _)| *a).collect()
            }
            LocalAct::Start { role: StartAs::Returner, .. } => self.databases.values().map(|(a, _)| *a).collect(),
            LocalAct::Start { role: StartAs::Founder, .. }
            | LocalAct::Leave { .. }
            | LocalAct::EndAfterLeave { .. }
            | LocalAct::DrainAndStop
            | LocalAct::Restart
            | LocalAct::Deadline(_)
            | LocalAct::MoveAside { .. } => Vec::new(),
        }
    }

    /// Tells the story: what changed of this pilot and its member.
    fn tell(&mut self, report: &Report) {
        let now = (report.mesh.role.clone(), report.database.phase);
        if self.announced.as_ref() == Some(&now) {
            return;
        }
        if self.announced.as_ref().map(|a| a.1) != Some(now.1) {
            tracing::info!(phase = ?now.1, identity = ?report.database.identity, "database");
        }
        self.announced = Some(now);
    }

    fn show_soon(&mut self) {
        self.show_at.get_or_insert(self.shown + SHOWN_WITHIN);
    }

    fn show(&mut self) {
        self.show_at = None;
        self.shown = tokio::time::Instant::now();
        self.board.set_streams(self.streams.counters());
        let at = now(&self.clock);
        let state = self.pilot.state(at);
        let own = state.members.iter().find(|m| m.name == self.pilot.id().name);
        let serves = match own.and_then(|m| m.database.as_ref()) {
            Some(d) if d.phase == DatabasePhase::Serving && !d.terminating => Ok(()),
            Some(d) => Err(format!("the database is {:?}", d.phase)),
            None => Err("the database has not been looked at".to_owned()),
        };
        let launcher = match &self.status {
            Some(_) => Ok(()),
            None => Err("the launcher is not connected".to_owned()),
        };
        let health = Health {
            alive: Ok(()),
            started: true,
            ready: vec![("database".to_owned(), serves), ("launcher".to_owned(), launcher)],
        };
        self.board.set(state, self.pilot.decisions(), health);
    }
}

/// That moment; never, where there is none.
async fn until(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Looks at the policy file: nothing where it is as it was.
fn reload(settings: &AgentSettings, text: &mut Option<String>, policy: &Policy) -> Option<Result<Policy, String>> {
    let path = settings.policy.as_deref()?;
    let new = match std::fs::read_to_string(path) {
        Ok(new) => new,
        // A mount that is being swapped; told when it stays away.
        Err(error) => {
            tracing::debug!(%error, "the policy file cannot be read just now");
            return None;
        }
    };
    if text.as_ref() == Some(&new) {
        return None;
    }
    let result = policy
        .parse_reload(&new, &path.display().to_string())
        .map(|reload| reload.policy)
        .map_err(|faults| faults.to_string());
    *text = Some(new);
    Some(result)
}

/// `all`, or names one a line.
fn parse_cut(text: &str) -> Cut {
    if text.trim() == "all" {
        return Cut::All;
    }
    let names: BTreeSet<PilotName> = text.split_whitespace().filter_map(|n| PilotName::parse(n).ok()).collect();
    if names.is_empty() { Cut::Nobody } else { Cut::From(names) }
}
