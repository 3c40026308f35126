//! Membership over chitchat: one task that keeps gossip running, whatever happens to it.

use super::cut::{Cut, CutsNotAllowed};
use super::membership::{
    DEPARTING, Incident, IncidentKind, KEYS, Membership, MembershipView, OwnView, PeerView, PublishError, Values,
    check_values,
};
use super::network::{Identity, Network};
use super::observe::Observer;
use super::seal::SealError;
use super::settings::GossipSettings;
use super::transport::{CodecCounts, GossipCodec, SealedTransport};
use super::wake::WakeGuard;
use crate::keyring::SharedKeyRing;
use crate::machine::{Datagrams, Host, Machine, Network as _, SharedClock};
use chitchat::{ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, ProtocolVersion, spawn_chitchat};
use protocol::id::{ClusterId, Generation, PilotName};
use protocol::view::Liveness;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// Asked for a generation above the one given, persisted before it is returned: a life is never repeated.
pub type NextGeneration = Box<dyn FnMut(Generation) -> std::io::Result<Generation> + Send>;

/// Receive buffer asked of the system: a large message comes as a burst of 60 datagrams.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Seeds greeted in one round.
const SEEDS_A_ROUND: usize = 3;
/// The most incidents remembered.
const MOST_INCIDENTS: usize = 16;
/// Views are not renewed more often than this, however fast values change.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// What gossip starts from.
pub struct GossipStart {
    /// Its numbers.
    pub settings: GossipSettings,
    /// The pilot's name.
    pub name: PilotName,
    /// Its life, persisted and never used before.
    pub generation: Generation,
    /// Where to listen (UDP); port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where peers reach this pilot; port 0 stands for the port listened on.
    pub advertise: SocketAddr,
    /// The cluster: pilots of another one are not heard.
    pub cluster: ClusterId,
    /// The mesh keys.
    pub ring: SharedKeyRing,
    /// Where peers may be found at first.
    pub seeds: Vec<SocketAddr>,
    /// Gives a new life when gossip has to be restarted.
    pub next_generation: NextGeneration,
    /// Whether [`ChitchatMembership::cut`] is obeyed: for fault tests only.
    pub allow_cuts: bool,
}

/// Why gossip could not start.
#[derive(Debug, thiserror::Error)]
pub enum GossipError {
    /// The socket.
    #[error("cannot listen for gossip on {listen}/udp: {source}; free the port or choose another")]
    Listen {
        /// Where.
        listen: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// An address nobody can send to.
    #[error("gossip address {advertise} cannot be reached by peers: advertise the pod's own address")]
    Advertise {
        /// What was given.
        advertise: SocketAddr,
    },
    /// The seals.
    #[error(transparent)]
    Seal(#[from] SealError),
}

enum Command {
    Depart(oneshot::Sender<()>),
    #[cfg(test)]
    Crash,
}

/// Membership over sealed chitchat. Dropping it ends gossip without a word; see [`ChitchatMembership::depart`].
pub struct ChitchatMembership {
    view: watch::Receiver<Arc<MembershipView>>,
    values: watch::Sender<Values>,
    seeds: watch::Sender<Vec<SocketAddr>>,
    commands: mpsc::Sender<Command>,
    network: Network,
    allow_cuts: bool,
}

impl ChitchatMembership {
    /// Starts to gossip.
    ///
    /// # Errors
    /// When the socket cannot be had, or the address advertised is none.
    pub async fn start(start: GossipStart) -> Result<Self, GossipError> {
        Self::start_on(&Host, start).await
    }

    /// The same on another machine.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_on(machine: &impl Machine, start: GossipStart) -> Result<Self, GossipError> {
        let listen = |source| GossipError::Listen { listen: start.listen, source };
        let socket = machine.network().datagrams(start.listen, RECEIVE_BUFFER).await.map_err(listen)?;
        let clock = machine.clock();
        let local = socket.local_addr().map_err(listen)?;
        let mut advertise = start.advertise;
        if advertise.port() == 0 {
            advertise.set_port(local.port());
        }
        if advertise.ip().is_unspecified() || advertise.port() == 0 {
            return Err(GossipError::Advertise { advertise });
        }
        let identity = Identity { cluster: start.cluster.clone(), name: start.name.clone(), advertise };
        let network = Network::start(socket, identity, start.generation, start.ring.clone())?;
        let (values, values_rx) = watch::channel(Values::new());
        let (seeds, seeds_rx) = watch::channel(start.seeds.clone());
        let (commands, commands_rx) = mpsc::channel(4);
        let first = MembershipView {
            at: clock.boot(),
            own: OwnView {
                name: start.name.clone(),
                generation: start.generation,
                address: advertise,
                values: Arc::default(),
            },
            peers: BTreeMap::new(),
            digest_bytes: 0,
            lives: 1,
            woken: false,
            lonely: false,
            restarts: 0,
            incidents: Vec::new(),
            counters: network.counters(),
        };
        let (view_tx, view) = watch::channel(Arc::new(first));
        let supervisor = Supervisor {
            wake: WakeGuard::new(start.settings.interval),
            settings: start.settings,
            name: start.name,
            generation: start.generation,
            local,
            advertise,
            cluster: start.cluster,
            ring: start.ring,
            next_generation: start.next_generation,
            network: network.clone(),
            counts: Arc::default(),
            values: values_rx,
            seeds: seeds_rx,
            next_seed: 0,
            view: view_tx,
            restarts: 0,
            incidents: Vec::new(),
            heard: (0, clock.boot()),
            departing: false,
            codec: machine.gossip_codec(),
            clock,
        };
        tokio::spawn(supervisor.run(commands_rx));
        Ok(Self { view, values, seeds, commands, network, allow_cuts: start.allow_cuts })
    }

    /// Word of every new view: at least two a round.
    pub fn changes(&self) -> watch::Receiver<Arc<MembershipView>> {
        self.view.clone()
    }

    /// Says goodbye, waits two rounds for it to spread, and ends gossip.
    pub async fn depart(self) {
        let (done, gone) = oneshot::channel();
        if self.commands.send(Command::Depart(done)).await.is_ok() {
            // An error means that gossip had ended already.
            let _ = gone.await;
        }
    }

    /// Drops all traffic with some pilots, both ways, until told otherwise.
    ///
    /// # Errors
    /// When the pilot was not started with cuts allowed.
    pub async fn cut(&self, cut: Cut) -> Result<(), CutsNotAllowed> {
        if !self.allow_cuts {
            return Err(CutsNotAllowed);
        }
        self.network.cut(cut).await;
        Ok(())
    }

    #[cfg(test)]
    pub(super) async fn crash(&self) {
        let _ = self.commands.send(Command::Crash).await;
    }
}

impl Membership for ChitchatMembership {
    fn publish(&mut self, values: &Values) -> Result<(), PublishError> {
        check_values(values)?;
        self.values.send_if_modified(|now| {
            let changed = now != values;
            if changed {
                now.clone_from(values);
            }
            changed
        });
        Ok(())
    }

    fn view(&self) -> Arc<MembershipView> {
        self.view.borrow().clone()
    }

    fn seeds(&mut self, addresses: &[SocketAddr]) {
        self.seeds.send_replace(addresses.to_vec());
    }
}

/// Why one life of the gossip task is over.
enum LifeEnd {
    /// Nobody holds the membership any more, or the pilot has departed.
    Finished,
    /// It ended by itself.
    Ended(String),
    /// Somebody else has the name.
    Taken(Generation),
}

struct Supervisor {
    settings: GossipSettings,
    name: PilotName,
    generation: Generation,
    local: SocketAddr,
    advertise: SocketAddr,
    cluster: ClusterId,
    ring: SharedKeyRing,
    next_generation: NextGeneration,
    network: Network,
    counts: Arc<CodecCounts>,
    values: watch::Receiver<Values>,
    seeds: watch::Receiver<Vec<SocketAddr>>,
    next_seed: usize,
    view: watch::Sender<Arc<MembershipView>>,
    wake: WakeGuard,
    restarts: u64,
    incidents: Vec<Incident>,
    /// Genuine datagrams taken, and when their number last grew.
    heard: (u64, Duration),
    departing: bool,
    codec: Option<Arc<dyn GossipCodec>>,
    clock: SharedClock,
}

impl Supervisor {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut pause = Duration::from_millis(50);
        loop {
            let began = self.clock.boot();
            let floor = match self.live(&mut commands).await {
                LifeEnd::Finished => return,
                // Without a socket no life of the gossip task is long. Its views end here, and so whoever goes by them.
                LifeEnd::Ended(_) if self.network.has_ended() => return,
                LifeEnd::Ended(reason) => {
                    self.incident(IncidentKind::TaskEnded { reason });
                    self.generation
                }
                LifeEnd::Taken(generation) => {
                    self.incident(IncidentKind::NameTaken { generation });
                    self.generation.max(generation)
                }
            };
            self.restarts += 1;
            // A life of a minute was no quick death. Two pilots of one name must not race each other upwards.
            if self.clock.boot().saturating_sub(began) > Duration::from_secs(60) {
                pause = Duration::from_millis(50);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(30));
            while !self.renew(floor) {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if self.view.is_closed() {
                    return;
                }
            }
        }
    }

    fn renew(&mut self, floor: Generation) -> bool {
        let reason = match (self.next_generation)(floor) {
            Ok(next) if next > floor => {
                self.generation = next;
                return true;
            }
            Ok(next) => format!("{} is not above {}", next.0, floor.0),
            Err(error) => error.to_string(),
        };
        let what = IncidentKind::NoGeneration { reason };
        // The same trouble once a second would push everything else out of memory.
        if self.incidents.last().is_none_or(|last| last.what != what) {
            self.incident(what);
        }
        false
    }

    async fn live(&mut self, commands: &mut mpsc::Receiver<Command>) -> LifeEnd {
        let chitchat = match self.spawn().await {
            Ok(chitchat) => chitchat,
            Err(error) => return LifeEnd::Ended(format!("{error:#}")),
        };
        let changed = Arc::new(Notify::new());
        let tell = changed.clone();
        // Runs under chitchat's lock: it may only tell, never ask.
        let _listening = chitchat
            .with_chitchat(move |chitchat| {
                let tell = tell.clone();
                chitchat.subscribe_event("", move |_| tell.notify_one())
            })
            .await;
        let end = self.watch(&chitchat, commands, &changed).await;
        chitchat.abort();
        end
    }

    async fn watch(
        &mut self,
        chitchat: &ChitchatHandle,
        commands: &mut mpsc::Receiver<Command>,
        changed: &Notify,
    ) -> LifeEnd {
        let mut observer = Observer::default();
        let ended = chitchat.termination_watcher();
        tokio::pin!(ended);
        let mut ticks = tokio::time::interval(self.settings.interval / 2);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tick = 0_u64;
        loop {
            tokio::select! {
                end = &mut ended => return LifeEnd::Ended(match end {
                    Ok(()) => "it stopped".to_owned(),
                    Err(error) => error.to_string(),
                }),
                _ = ticks.tick() => {
                    tick += 1;
                    if tick % 2 == 1 {
                        self.greet_seeds(chitchat);
                    }
                }
                () = changed.notified() => tokio::time::sleep(BETWEEN_LOOKS).await,
                news = self.values.changed() => if news.is_err() {
                    return LifeEnd::Finished;
                },
                command = commands.recv() => match command {
                    Some(Command::Depart(done)) => {
                        self.departing = true;
                        self.say(chitchat).await;
                        tokio::time::sleep(self.settings.interval * 2).await;
                        // Whoever asked may not wait for it.
                        let _ = done.send(());
                        return LifeEnd::Finished;
                    }
                    #[cfg(test)]
                    Some(Command::Crash) => chitchat.abort(),
                    None => return LifeEnd::Finished,
                },
            }
            self.say(chitchat).await;
            if let Some(impostor) = self.look(chitchat, &mut observer).await {
                return LifeEnd::Taken(impostor);
            }
        }
    }

    async fn spawn(&mut self) -> anyhow::Result<ChitchatHandle> {
        let settings = &self.settings;
        let config = ChitchatConfig {
            chitchat_id: ChitchatId::new(self.name.as_str(), self.generation.0, self.advertise),
            cluster_id: self.cluster.as_str().to_owned(),
            gossip_interval: settings.interval,
            listen_addr: self.local,
            // Seeds are greeted from here, for life: chitchat reads its own once.
            seed_nodes: Vec::new(),
            failure_detector_config: FailureDetectorConfig::new(
                settings.phi,
                settings.window,
                settings.max_interval,
                settings.prior,
                settings.dead_grace,
            ),
            marked_for_deletion_grace_period: settings.dead_grace,
            catchup_callback: None,
            extra_liveness_predicate: None,
            protocol_version: ProtocolVersion::V1,
        };
        let transport = SealedTransport {
            network: self.network.clone(),
            local: self.local,
            generation: self.generation,
            counts: self.counts.clone(),
            codec: self.codec.clone(),
        };
        spawn_chitchat(config, self.words().into_iter().collect(), &transport).await
    }

    /// Everything this pilot says now.
    fn words(&self) -> Values {
        let mut words = self.values.borrow().clone();
        words.insert(KEYS.to_owned(), self.ring.borrow().published());
        if self.departing {
            words.insert(DEPARTING.to_owned(), "1".to_owned());
        }
        words
    }

    /// Says it, and takes back what it does not say: also what others may have put into its mouth.
    async fn say(&mut self, chitchat: &ChitchatHandle) {
        self.values.mark_unchanged();
        let words = self.words();
        chitchat
            .with_chitchat(|chitchat| {
                let own = chitchat.self_node_state();
                let gone: Vec<String> = own
                    .key_values()
                    .filter(|(key, _)| !words.contains_key(*key))
                    .map(|(key, _)| key.to_owned())
                    .collect();
                for key in gone {
                    own.delete(&key);
                }
                for (key, value) in &words {
                    own.set(key, value);
                }
            })
            .await;
    }

    /// Greets seeds that no live peer answers for, a few a round, in turn.
    fn greet_seeds(&mut self, chitchat: &ChitchatHandle) {
        let seeds = self.seeds.borrow().clone();
        let view = self.view.borrow().clone();
        let met: BTreeSet<SocketAddr> = view
            .peers
            .values()
            .filter(|peer| peer.liveness == Liveness::Live)
            .map(|peer| peer.address)
            .chain([self.advertise])
            .collect();
        let strangers: Vec<&SocketAddr> = seeds.iter().filter(|seed| !met.contains(seed)).collect();
        for at in 0..strangers.len().min(SEEDS_A_ROUND) {
            let seed = strangers[(self.next_seed + at) % strangers.len()];
            // An error means that the task has ended, which is seen where it is watched.
            let _ = chitchat.gossip(*seed);
        }
        self.next_seed = self.next_seed.wrapping_add(SEEDS_A_ROUND);
    }

    async fn look(&mut self, chitchat: &ChitchatHandle, observer: &mut Observer) -> Option<Generation> {
        let now = self.clock.boot();
        if let Some(gap) = self.wake.look(now) {
            self.incident(IncidentKind::Woken { gap });
        }
        let settings = self.settings;
        let seen = chitchat.with_chitchat(|chitchat| observer.look(now, chitchat, &settings)).await;
        let mut counters = self.network.counters();
        counters.undecodable = self.counts.undecodable.load(Ordering::Relaxed);
        counters.foreign = self.counts.foreign.load(Ordering::Relaxed);
        if counters.received != self.heard.0 {
            self.heard = (counters.received, now);
        }
        let before = self.view.borrow().clone();
        let is_live = |peer: Option<&PeerView>| peer.is_some_and(|peer| peer.liveness == Liveness::Live);
        let restored = before.peers.iter().all(|(name, peer)| !is_live(Some(peer)) || is_live(seen.peers.get(name)));
        let held = self.wake.holds(restored);
        self.view.send_replace(Arc::new(MembershipView {
            at: now,
            own: OwnView {
                name: self.name.clone(),
                generation: self.generation,
                address: self.advertise,
                values: Arc::new(self.words()),
            },
            peers: if held { before.peers.clone() } else { seen.peers },
            digest_bytes: seen.digest_bytes,
            lives: seen.lives,
            woken: held,
            lonely: now.saturating_sub(self.heard.1) > self.settings.interval * self.settings.lonely_after,
            restarts: self.restarts,
            incidents: self.incidents.clone(),
            counters,
        }));
        seen.impostor
    }

    fn incident(&mut self, what: IncidentKind) {
        tracing::warn!(incident = %what, generation = self.generation.0, "gossip");
        if self.incidents.len() >= MOST_INCIDENTS {
            self.incidents.remove(0);
        }
        self.incidents.push(Incident { at: self.clock.boot(), what });
    }
}
