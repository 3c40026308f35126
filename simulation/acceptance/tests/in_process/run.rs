//! One run: pods come, agents live in them, faults come and go, and in the end the mesh is at rest.

use super::codec::Codec;
use super::driver::InProcess;
use super::faults::{ADAPTERS, Adapter, Faults, KINDS, Kind, impossible};
use super::kube::Kube;
use super::launcher;
use super::machine::Simulated;
use super::network::Net;
use super::world::{Asked, Life, World};
use agent::runtime::run as run_agent;
use agent::runtime::settings::AgentSettings;
use protocol::id::PilotName;
use protocol::report::Role;
use serde::{Deserialize, Serialize};
use simulation::world::cluster::{NAMESPACE, SET, TEMPLATE};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::sleep;

/// Between two looks of the kubelets.
const TICK: Duration = Duration::from_millis(100);
/// A mesh at rest stays so for this long.
const RESTS: u64 = 5_000;
/// So long after the last fault a mesh is at rest, for each of its members: one joins after the other, for up to a minute.
const HEALED_WITHIN: u64 = 100_000;

/// What befalls a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Nothing.
    Calm,
    /// What the seed draws.
    Drawn,
    /// Each kind at this adapter in turn, once the mesh is founded.
    Each(Adapter),
}

/// A run to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) size: u32,
    pub(crate) weather: Weather,
    /// Gossip's messages go through chitchat's own codec, which is a socket of the loopback: no run is the same twice.
    pub(crate) own_bytes: bool,
    /// Prints the trace.
    pub(crate) shown: bool,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The hash of the trace.
    pub(crate) hash: u64,
    /// Its lines.
    pub(crate) lines: u64,
    /// Simulated milliseconds.
    pub(crate) took: u64,
    /// What was broken.
    pub(crate) broken: Option<String>,
    /// How often each fault was reached: adapter and kind by their place.
    pub(crate) reached: Vec<(usize, usize, u64)>,
    /// With which words agents ended, and how often.
    pub(crate) ends: BTreeMap<String, u64>,
}

/// Words with which agents ended.
type Ends = Arc<Mutex<BTreeMap<String, u64>>>;

struct Run {
    world: Arc<World>,
    codec: Option<Arc<Codec>>,
    keys: PathBuf,
    size: u32,
    ends: Ends,
}

/// Makes a run.
pub(crate) async fn run(options: Options, keys: &Path) -> Outcome {
    let Options { seed, size, weather, own_bytes, shown } = options;
    let faults = match weather {
        Weather::Drawn => Faults::drawn(seed),
        Weather::Calm | Weather::Each(_) => Faults::none(seed),
    };
    let world = World::new(faults, Net::default(), Kube::new(seed, size), shown);
    let run = Run {
        world: world.clone(),
        codec: (!own_bytes).then(Arc::default),
        keys: keys.to_owned(),
        size,
        ends: Arc::default(),
    };
    let mut ticks = 0_u64;
    let mut broken = run.until_rest(&mut ticks).await.err();
    if let (Weather::Each(adapter), None) = (weather, &broken) {
        for kind in KINDS {
            if impossible(adapter, kind).is_some() {
                continue;
            }
            let mut pods = 0..size;
            while broken.is_none() && !world.faults().reached.contains_key(&(adapter, kind)) {
                let Some(ordinal) = pods.next() else { break };
                let now = world.now();
                world.tell(format_args!("--- {adapter}: {kind}"));
                world.faults().only(adapter, kind, now, now + 20_000);
                // A mesh at rest dials nobody, remembers nothing new and starts nothing.
                if !matches!(adapter, Adapter::Api | Adapter::GossipSend | Adapter::GossipReceive | Adapter::Names) {
                    run.replace_a_pod(kind, ordinal);
                }
                broken = run.until_rest(&mut ticks).await.err().map(|why| format!("{adapter}, {kind}: {why}"));
            }
            if broken.is_some() {
                break;
            }
        }
    }
    let (hash, lines) = world.hash();
    let place = |adapter: &Adapter, kind: &Kind| {
        let adapter = ADAPTERS.iter().position(|a| a == adapter);
        adapter.zip(KINDS.iter().position(|k| k == kind))
    };
    let reached = world.faults().reached.clone();
    let reached = reached.iter().filter_map(|((a, k), count)| place(a, k).map(|(a, k)| (a, k, *count))).collect();
    let ends = super::world::lock(&run.ends).clone();
    Outcome { hash, lines, took: world.now(), broken, reached, ends }
}

impl Run {
    /// Lets time go by until all faults are over and the mesh is at rest.
    async fn until_rest(&self, ticks: &mut u64) -> Result<(), String> {
        let mut since = None;
        loop {
            self.tick(*ticks);
            *ticks += 1;
            sleep(TICK).await;
            let now = self.world.now();
            let heals = self.world.faults().heals_at();
            let kube = self.world.kube();
            if let Some(why) = &kube.verdict {
                return Err(format!("{now} ms: {why}"));
            }
            drop(kube);
            self.judge_coordinators(*ticks)?;
            if now < heals {
                continue;
            }
            let kube = self.world.kube();
            match kube.at_rest(self.size as usize) {
                Ok(()) => {
                    if now >= since.get_or_insert(now).saturating_add(RESTS) {
                        return Ok(());
                    }
                }
                Err(why) => {
                    since = None;
                    if now > heals + HEALED_WITHIN * u64::from(self.size) {
                        return Err(format!(
                            "{now} ms: the last fault was at {heals} ms, and it is not at rest: {why}"
                        ));
                    }
                }
            }
        }
    }

    /// No two lives believe that they coordinate at one epoch.
    fn judge_coordinators(&self, ticks: u64) -> Result<(), String> {
        if !ticks.is_multiple_of(3) {
            return Ok(());
        }
        let mut leads: BTreeMap<u64, String> = BTreeMap::new();
        let kube = self.world.kube();
        for (name, pod) in &kube.pods {
            let state = pod.board.as_ref().and_then(|(life, board)| Some((life, board.state()?)));
            let Some((life, state)) = state else { continue };
            if let Role::Coordinator { epoch, .. } = state.me.role
                && let Some(other) = leads.insert(epoch.0, format!("{name}#{life}"))
            {
                return Err(format!("{name}#{life} and {other} both coordinate at epoch {epoch}"));
            }
        }
        Ok(())
    }

    /// What kubelets and controllers do each time they look.
    fn tick(&self, ticks: u64) {
        let now = self.world.now();
        let mut kube = self.world.kube();
        kube.cluster.reconcile(now);
        let seen = kube.cluster.pods();
        let there: BTreeSet<PilotName> = seen.iter().map(|pod| pod.name.clone()).collect();
        let gone: Vec<PilotName> = kube.pods.keys().filter(|name| !there.contains(*name)).cloned().collect();
        drop(kube);
        for name in gone {
            self.end_pod(&name);
        }
        for pod in seen {
            let mut kube = self.world.kube();
            if pod.ending.is_some() {
                drop(kube);
                self.end_pod(&pod.name);
                self.world.kube().cluster.finish_pod(now, &pod.name, &pod.uid);
                continue;
            }
            if !kube.pods.contains_key(&pod.name) {
                if let (Some(claim), true) = (&pod.claim, pod.bound && pod.pulled) {
                    let address = kube.make_pod(now, &pod.name, &pod.uid, claim);
                    drop(kube);
                    self.world.net().hosts.insert(address, 1);
                    self.world.tell(format_args!("pod {} is made at {address}", pod.name));
                }
                continue;
            }
            let Some(known) = kube.pods.get(&pod.name) else { continue };
            let agent = known.agent.is_none() && known.agent_again.is_some_and(|at| now >= at);
            let launcher = known.launcher.is_none() && known.launcher_again.is_some_and(|at| now >= at);
            kube.tell_status(now, &pod.name);
            drop(kube);
            if launcher {
                self.start_launcher(&pod.name);
            }
            if agent {
                self.start_agent(&pod.name);
            }
        }
        let lives: Vec<Arc<Life>> = self.world.kube().pods.values().filter_map(|pod| pod.agent.clone()).collect();
        let ends = self.world.faults().ends(now, lives.len());
        if let Some((which, killed)) = ends
            && let Some(life) = lives.get(which)
        {
            let how = if killed { "is killed" } else { "is told to end" };
            self.world.tell(format_args!("! {}#{} {how}", life.pod, life.number));
            if killed { life.kill() } else { life.tell_to_end() }
        }
        if ticks.is_multiple_of(5) {
            self.world.kube().turn_databases(now);
        }
    }

    /// A pod is deleted by a person: another one comes in its place, on its claim.
    fn replace_a_pod(&self, kind: Kind, next: u32) {
        let place = KINDS.iter().position(|k| *k == kind).unwrap_or(0);
        let ordinal = (u32::try_from(place).unwrap_or(0) + next) % self.size;
        let now = self.world.now();
        self.world.kube().cluster.delete_pod(now, &format!("{SET}-{ordinal}"));
    }

    fn end_pod(&self, name: &PilotName) {
        let Some(pod) = self.world.kube().pods.remove(name) else { return };
        self.world.tell(format_args!("pod {name} ends"));
        self.world.kube().databases.processes.remove(name);
        self.world.net().hosts.remove(&pod.address);
        if let Some(life) = pod.agent {
            life.end();
            self.world.net().forget(life.number);
            // Its own loop is told, and ends as it would; what it says meanwhile reaches nobody.
            life.tell_to_end();
        }
    }

    fn start_launcher(&self, name: &PilotName) {
        let mut kube = self.world.kube();
        let life = kube.fresh();
        let Some((uid, claim)) = kube.pods.get(name).map(|pod| (pod.uid.clone(), pod.claim.clone())) else { return };
        drop(kube);
        let door = launcher::start(&self.world, name, &uid, &claim, life);
        if let Some(pod) = self.world.kube().pods.get_mut(name) {
            pod.launcher = Some(door);
        }
    }

    fn start_agent(&self, name: &PilotName) {
        let mut kube = self.world.kube();
        let number = kube.fresh();
        let Some(pod) = kube.pods.get_mut(name) else { return };
        let life = Life::new(number, name.clone(), pod.uid.clone(), pod.claim.clone(), pod.address);
        pod.agent = Some(life.clone());
        drop(kube);
        self.world.tell(format_args!("agent {name}#{number} starts"));
        let machine = Simulated { world: self.world.clone(), life: life.clone(), codec: self.codec.clone() };
        let settings = self.settings(&life);
        let (world, ends) = (self.world.clone(), self.ends.clone());
        tokio::spawn(async move {
            // A task of its own, so that the end of it is told also where it panics.
            let process = tokio::spawn(run_agent(machine, settings));
            *super::world::lock(&life.process) = Some(process.abort_handle());
            let ended = process.await;
            let asked_to = life.asked.load(Ordering::Relaxed);
            life.end();
            world.net().forget(life.number);
            let word = match ended {
                Ok(Ok(())) if asked_to => "told to end".to_owned(),
                Ok(Ok(())) => {
                    let why = format!("{}#{} ended and said nothing of why", life.pod, life.number);
                    world.kube().broken(why);
                    return;
                }
                Ok(Err(error)) => error.to_string(),
                Err(killed) if killed.is_cancelled() => "killed".to_owned(),
                Err(panic) => match panic.try_into_panic() {
                    Ok(payload) if payload.is::<Asked>() => "its main task panicked, as asked".to_owned(),
                    Ok(_) | Err(_) => {
                        world.kube().broken(format!("the main task of {}#{} panicked", life.pod, life.number));
                        return;
                    }
                },
            };
            world.tell(format_args!("agent {}#{} ends: {word}", life.pod, life.number));
            *super::world::lock(&ends).entry(word).or_default() += 1;
            let again = world.now() + 1_000;
            let mut kube = world.kube();
            if let Some(pod) = kube.pods.get_mut(&life.pod)
                && pod.agent.as_ref().is_some_and(|agent| agent.number == life.number)
            {
                pod.agent = None;
                pod.agent_again = Some(again);
            }
        });
    }

    fn settings(&self, life: &Arc<Life>) -> AgentSettings {
        let at = |port| SocketAddr::new(life.address, port);
        AgentSettings {
            namespace: NAMESPACE.to_owned(),
            set: SET.to_owned(),
            claim_template: TEMPLATE.to_owned(),
            pod: life.pod.clone(),
            pod_uid: life.uid.clone(),
            address: life.address,
            mesh: format!("{NAMESPACE}/{SET}"),
            state_dir: PathBuf::from("/volume/pilot"),
            launcher: PathBuf::from("/run/launcher.sock"),
            policy: None,
            keys: self.keys.clone(),
            gossip: at(7302),
            stream: at(7301),
            http: at(7300),
            seeds: (0..self.size).map(|ordinal| format!("{SET}-{ordinal}.{SET}:7302")).collect(),
            seed_file: None,
            kubeconfig: None,
            driver: Arc::new(InProcess { world: self.world.clone(), life: life.clone() }),
            client_port: 9042,
            cluster_name: SET.to_owned(),
            data_center: "datacenter1".to_owned(),
            rack: "rack1".to_owned(),
            cuts: None,
        }
    }
}
