//! A running sandbox: the model API served, its controllers and kubelet at work, pods as processes.

use super::layout::Layout;
use super::manifests::{self, NAMESPACE, PORTS, SET, Template};
use super::process::{self, Ended, Signal, Start};
use crate::kubernetes::kubelet::{
    ContainerEvent, ContainerRun, Kubelet, KubeletCommand, KubeletSettings, LoopbackPool, ProbeKind, StopSignal,
};
use crate::kubernetes::server::{self, ServerHandle};
use crate::kubernetes::{ModelApi, ModelTime, Request, controllers};
use agent::driver::cassandra::{Ports, Run, Settings as CassandraSettings, Timing};
use agent::driver::model::{Behaviour, Settings as ModelSettings};
use agent::pilot::state::{DecisionsDocument, StateDocument};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};

/// How often controllers and kubelet look, when nothing wakes them.
const BEAT: Duration = Duration::from_millis(50);
/// Objects are written to disk as often as this, where they changed.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// The only node.
const NODE: &str = "sandbox";
/// Every process of a sandbox carries its folder in this variable, databases and tools included.
pub const MARK: &str = "PILOTMESH_SANDBOX";
/// A model database whose streaming is bounded moves so many seconds' worth of bytes beyond its rows: a leave of a few
/// rows would be over before anybody could look into it.
const BALLAST_SECONDS: u64 = 8;

/// Which database a sandbox runs.
#[derive(Debug, Clone)]
pub enum Database {
    /// Real Cassandra, from these jars.
    Cassandra(super::distribution::CassandraHome),
    /// The small store of our own.
    Model,
}

/// What a sandbox is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its folder.
    pub layout: Layout,
    /// Pods at first; a folder that was used before keeps its own number.
    pub replicas: u32,
    /// The database.
    pub database: Database,
    /// The text of the policy file.
    pub policy: String,
    /// Short test-only waits of the database, or its own.
    pub stock_timing: bool,
    /// The pods' grace period in seconds.
    pub grace: u64,
    /// The second octet of the pods' addresses: sandboxes side by side need different ones.
    pub octet: u8,
    /// Limits the data a database streams, in MiB a second, so that a leave lasts long enough to be looked into.
    pub streaming: Option<u32>,
    /// Another build of the pilot; where none is given, the running program carries the pilot in itself.
    pub pilot: Option<PathBuf>,
}

/// Why a sandbox could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The file system.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io {
        /// What was being attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The API.
    #[error("the embedded API refused {what}: {why}")]
    Api {
        /// What.
        what: String,
        /// Why.
        why: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {within:?}: look at the logs in {logs}", logs = logs.display())]
    Late {
        /// What.
        what: String,
        /// The time given.
        within: Duration,
        /// Where to look.
        logs: PathBuf,
    },
    /// Sockets in the folder would have no valid address.
    #[error("the path of {dir} is {more} bytes too long for the sockets inside: choose a shorter one with --dir", dir = dir.display())]
    TooLong {
        /// The folder.
        dir: PathBuf,
        /// By so much.
        more: usize,
    },
}

fn io_error(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> SandboxError {
    let path = path.into();
    move |source| SandboxError::Io { doing, path, source }
}

/// One pod as the sandbox runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its address.
    pub address: IpAddr,
    /// Its containers' processes.
    pub processes: BTreeMap<String, u32>,
    /// It is ending.
    pub terminating: bool,
}

impl PodView {
    /// Where its state is read.
    pub fn state_url(&self) -> String {
        format!("http://{}:{}/state", self.address, PORTS.2)
    }
}

/// Reads the pods of a running sandbox.
#[derive(Clone)]
pub struct PodsReader {
    api: Arc<Mutex<ModelApi>>,
    inner: Arc<Mutex<Inner>>,
}

impl PodsReader {
    /// The pods, in order of ordinal.
    pub fn read(&self) -> Vec<PodView> {
        pods(&lock(&self.api), &lock(&self.inner))
    }
}

struct Inner {
    kubelet: Kubelet,
    /// Pods are made and unmade; not while everything is being shut down.
    controllers: bool,
    pids: BTreeMap<u32, ContainerRun>,
    written: u64,
    /// Containers are not started, so that a process that ended stays away for as long as somebody measures.
    holding: bool,
    /// Likewise for these pods alone.
    held_pods: BTreeSet<String>,
    /// What would have been started meanwhile.
    held: Vec<KubeletCommand>,
}

/// A running sandbox. Dropping it without [`Sandbox::shutdown`] ends its processes the hard way.
pub struct Sandbox {
    options: Arc<Options>,
    api: Arc<Mutex<ModelApi>>,
    inner: Arc<Mutex<Inner>>,
    server: Arc<ServerHandle>,
    task: tokio::task::JoinHandle<()>,
    contacts: watch::Sender<Vec<SocketAddr>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The wall clock: what a real API server would write into objects.
pub fn wall() -> ModelTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    ModelTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Sandbox {
    /// Starts a sandbox, or starts again the one that lies in its folder.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub async fn start(options: Options) -> Result<Self, SandboxError> {
        let layout = &options.layout;
        if let Some(more) = layout.too_long_by() {
            return Err(SandboxError::TooLong { dir: layout.root().to_owned(), more });
        }
        // Pods, and faults put on them, do not outlive the processes.
        for gone in [layout.root().join("pods"), layout.root().join("cuts")] {
            match std::fs::remove_dir_all(&gone) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error("remove", &gone)(error)),
            }
        }
        for folder in [layout.root().to_owned(), layout.keys(), layout.root().join("cuts"), layout.root().join("logs")]
        {
            std::fs::create_dir_all(&folder).map_err(io_error("make", &folder))?;
        }
        let key = layout.keys().join("first");
        if !key.exists() {
            let bytes: [u8; 32] = rand::random();
            std::fs::write(&key, bytes).map_err(io_error("write", &key))?;
        }
        std::fs::write(layout.policy(), &options.policy).map_err(io_error("write", layout.policy()))?;
        let mut api = ModelApi::new(rand::random());
        let restored = restore(&mut api, layout)?;
        let now = wall();
        controllers::register_node(&mut api, now, NODE, "zone-1")
            .map_err(|e| SandboxError::Api { what: "the node".into(), why: e.to_string() })?;
        let api = Arc::new(Mutex::new(api));
        let server = server::serve(api.clone(), SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .map_err(|e| SandboxError::Api { what: "its address".into(), why: e.to_string() })?;
        let server = Arc::new(server);
        let pool = LoopbackPool::new(options.octet, restored.addresses);
        let settings = KubeletSettings {
            backoff_from: Duration::from_secs(2),
            backoff_to: Duration::from_secs(30),
            ..KubeletSettings::default()
        };
        let inner = Arc::new(Mutex::new(Inner {
            kubelet: Kubelet::new(NODE, settings, Box::new(pool)),
            controllers: true,
            pids: BTreeMap::new(),
            written: 0,
            holding: false,
            held_pods: BTreeSet::new(),
            held: Vec::new(),
        }));
        let options = Arc::new(options);
        let (contacts, _) = watch::channel(Vec::new());
        let task = tokio::spawn(beat(options.clone(), api.clone(), inner.clone(), server.clone(), contacts.clone()));
        let sandbox = Self { options, api, inner, server, task, contacts };
        let admin = sandbox.server.kubeconfig_for("admin");
        let path = sandbox.options.layout.kubeconfig("admin");
        std::fs::write(&path, admin).map_err(io_error("write", &path))?;
        if !restored.found {
            let template = Template {
                database: match sandbox.options.database {
                    Database::Cassandra(_) => "cassandra",
                    Database::Model => "model",
                },
                replicas: sandbox.options.replicas,
                grace: sandbox.options.grace,
                json_logs: false,
                faults: true,
            };
            sandbox.create("/api/v1/namespaces/default/services", manifests::service())?;
            sandbox.create("/apis/apps/v1/namespaces/default/statefulsets", manifests::stateful_set(&template))?;
        }
        Ok(sandbox)
    }

    fn create(&self, path: &str, object: Value) -> Result<(), SandboxError> {
        self.ask(Request::post("admin", path, object)).map(|_| ())
    }

    /// Asks the embedded API directly, as its admin would.
    ///
    /// # Errors
    /// When it refuses.
    pub fn ask(&self, request: Request) -> Result<Value, SandboxError> {
        let what = format!("{} {}", request.method.as_str(), request.path);
        let response = lock(&self.api).handle(wall(), request);
        let body = serde_json::to_value(&response.body).unwrap_or(Value::Null);
        if (200..300).contains(&response.status) {
            Ok(body)
        } else {
            Err(SandboxError::Api { what, why: body["message"].as_str().unwrap_or("no reason").to_owned() })
        }
    }

    /// The embedded API.
    pub fn api(&self) -> &Arc<Mutex<ModelApi>> {
        &self.api
    }

    /// The server in front of it.
    pub fn server(&self) -> &ServerHandle {
        &self.server
    }

    /// Stops the API server: connections are closed, and controllers and kubelet are without it too.
    pub async fn stop_api(&self) {
        lock(&self.api).faults_mut().set_outage(true);
        self.server.stop().await;
    }

    /// Starts it again, with its objects.
    ///
    /// # Errors
    /// When its port was taken meanwhile.
    pub async fn start_api(&self) -> Result<(), SandboxError> {
        lock(&self.api).faults_mut().set_outage(false);
        self.server.start().await.map_err(|e| SandboxError::Api { what: "its port".into(), why: e.to_string() })
    }

    /// What it was started with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The database's clients find it here: renewed whenever a pod changes.
    pub fn contacts(&self) -> watch::Receiver<Vec<SocketAddr>> {
        self.contacts.subscribe()
    }

    /// The pods, in order of ordinal.
    pub fn pods(&self) -> Vec<PodView> {
        pods(&lock(&self.api), &lock(&self.inner))
    }

    /// Reads the pods for somebody who outlives this handle's borrow.
    pub fn pods_reader(&self) -> PodsReader {
        PodsReader { api: self.api.clone(), inner: self.inner.clone() }
    }

    /// One pod.
    pub fn pod(&self, name: &str) -> Option<PodView> {
        self.pods().into_iter().find(|p| p.name == name)
    }

    /// The size the set is told.
    pub fn replicas(&self) -> u32 {
        let set = self.ask(Request::get("admin", &format!("/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{SET}")));
        set.ok().and_then(|s| s["spec"]["replicas"].as_u64()).and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
    }

    /// Tells the set its size, as `kubectl scale` does.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn scale(&self, replicas: u32) -> Result<(), SandboxError> {
        let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{SET}/scale");
        let body = json!({ "spec": { "replicas": replicas } });
        self.ask(Request::patch("admin", &path, crate::kubernetes::PatchKind::Merge, body)).map(|_| ())
    }

    /// Changes what the database's container of the template is given, as `kubectl set env` does.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn set_database_env(&self, name: &str, value: &str) -> Result<(), SandboxError> {
        let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{SET}");
        let env = json!([{ "name": name, "value": value }]);
        let containers = json!([{ "name": "database", "env": env }]);
        let body = json!({ "spec": { "template": { "spec": { "containers": containers } } } });
        self.ask(Request::patch("admin", &path, crate::kubernetes::PatchKind::Strategic, body)).map(|_| ())
    }

    /// Deletes a pod, as `kubectl delete pod` does.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn delete_pod(&self, name: &str, grace: Option<u64>) -> Result<(), SandboxError> {
        let options = grace.map_or(Value::Null, |g| json!({ "gracePeriodSeconds": g }));
        self.ask(Request::delete("admin", &format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}"), options)).map(|_| ())
    }

    /// Sends a signal to a container's process. `false` where it does not run.
    pub fn signal(&self, pod: &str, container: &str, signal: Signal) -> bool {
        let pid = self.pod(pod).and_then(|p| p.processes.get(container).copied());
        if let Some(pid) = pid {
            process::signal(pid, signal);
        }
        pid.is_some()
    }

    /// Starts no container from now on, or starts what was held back: what ended stays away while somebody measures.
    pub fn hold_starts(&self, hold: bool) {
        lock(&self.inner).holding = hold;
    }

    /// Starts no container of these pods from now on, and what was held back of others: so that one may be alone.
    pub fn hold_pods(&self, names: &[String]) {
        lock(&self.inner).held_pods = names.iter().cloned().collect();
    }

    /// Cuts a pilot off from these peers, or heals it with an empty list.
    ///
    /// # Errors
    /// When the file that tells the pilot cannot be written.
    pub fn cut(&self, pod: &str, peers: &[String]) -> Result<(), SandboxError> {
        let path = self.options.layout.cuts(pod);
        std::fs::write(&path, peers.join("\n")).map_err(io_error("write", path))
    }

    /// Reads what a pilot knows.
    pub async fn state(&self, pod: &PodView) -> Option<StateDocument> {
        serde_json::from_str(&get(pod.address, "/state").await?).ok()
    }

    /// Reads what a pilot decided and heard of decisions.
    pub async fn decisions(&self, pod: &PodView) -> Option<DecisionsDocument> {
        serde_json::from_str(&get(pod.address, "/decisions").await?).ok()
    }

    /// Ends everything: databases drained, then pilots, then the API. The folder stays.
    pub async fn shutdown(self) {
        {
            let mut inner = lock(&self.inner);
            inner.controllers = false;
            inner.holding = false;
            inner.held_pods.clear();
        }
        // The kubelet has to see the deletions, and whoever stands still could not end.
        lock(&self.api).faults_mut().set_outage(false);
        let pods = self.pods();
        for pid in pods.iter().flat_map(|p| p.processes.values()) {
            process::signal(*pid, Signal::Continue);
        }
        for pod in &pods {
            // Deleting is what a node does that goes down in order; the volumes stay. First of all, because a database
            // that is drained in a pod that does not end is started again.
            if let Err(error) = self.delete_pod(&pod.name, Some(45)) {
                tracing::warn!(%error, pod = %pod.name, "the pod is not deleted, its processes will be killed");
            }
        }
        // The kubelet's signals have arrived by then.
        tokio::time::sleep(10 * BEAT).await;
        let mut drains = tokio::task::JoinSet::new();
        for pod in pods {
            let socket = self.options.layout.launcher_socket(&pod.uid);
            drains.spawn(async move {
                // With everybody ending nobody has to be asked whether to leave: this is what the answer would be.
                let (client, mut events) = agent::launch_client::LauncherClient::connect(&socket);
                // The launcher answers as soon as it is connected; where it is gone there is nothing to drain.
                let _ = tokio::time::timeout(Duration::from_secs(2), events.recv()).await;
                tokio::spawn(async move { while events.recv().await.is_some() {} });
                if let Err(error) = client.ask(protocol::launcher::Ask::DrainAndStop).await {
                    tracing::info!(%error, pod = %pod.name, "the launcher was not asked, it drains by itself");
                }
            });
        }
        drains.join_all().await;
        let end = tokio::time::Instant::now() + Duration::from_secs(60);
        while tokio::time::Instant::now() < end && !lock(&self.inner).pids.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.task.abort();
        let left: Vec<u32> = lock(&self.inner).pids.keys().copied().collect();
        for pid in left {
            process::signal(pid, Signal::Kill);
        }
        if let Err(error) = write_objects(&lock(&self.api), &lock(&self.inner), &self.options.layout) {
            tracing::error!(%error, "the objects were not kept");
        }
        self.server.stop().await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.task.abort();
        let left: Vec<u32> = lock(&self.inner).pids.keys().copied().collect();
        for pid in left {
            process::signal(pid, Signal::Term);
        }
    }
}

/// A GET over plain HTTP with a short patience; `None` for anything but a whole 200.
pub async fn get(address: IpAddr, path: &str) -> Option<String> {
    use http_body_util::BodyExt;
    let work = async {
        let stream = tokio::net::TcpStream::connect(SocketAddr::new(address, PORTS.2)).await.ok()?;
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
        tokio::spawn(connection);
        let request = http::Request::builder()
            .uri(path)
            .header("host", address.to_string())
            .body(http_body_util::Empty::<hyper::body::Bytes>::new())
            .ok()?;
        let response = sender.send_request(request).await.ok()?;
        if response.status() != 200 {
            return None;
        }
        let bytes = http_body_util::Limited::new(response.into_body(), 8 << 20).collect().await.ok()?.to_bytes();
        String::from_utf8(bytes.to_vec()).ok()
    };
    tokio::time::timeout(Duration::from_secs(2), work).await.ok()?
}

fn pods(api: &ModelApi, inner: &Inner) -> Vec<PodView> {
    let Some(kind) = api.kind("", "pods") else {
        return Vec::new();
    };
    let mut pods: Vec<PodView> = api
        .store()
        .list(kind, Some(NAMESPACE))
        .filter_map(|pod| {
            let uid = pod["metadata"]["uid"].as_str()?.to_owned();
            Some(PodView {
                name: pod["metadata"]["name"].as_str()?.to_owned(),
                address: inner.kubelet.address(&uid)?,
                processes: inner.kubelet.processes(&uid),
                terminating: pod["metadata"]["deletionTimestamp"].is_string(),
                uid,
            })
        })
        .collect();
    pods.sort_by_key(|p| (p.name.rsplit('-').next().and_then(|o| o.parse::<u32>().ok()), p.name.clone()));
    pods
}

/// The loop of a sandbox.
async fn beat(
    options: Arc<Options>,
    api: Arc<Mutex<ModelApi>>,
    inner: Arc<Mutex<Inner>>,
    server: Arc<ServerHandle>,
    contacts: watch::Sender<Vec<SocketAddr>>,
) {
    let (ended_to, mut ended) = mpsc::unbounded_channel::<Ended>();
    let (events_to, mut events) = mpsc::unbounded_channel::<ContainerEvent>();
    let mut tick = tokio::time::interval(BEAT);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last_write = tokio::time::Instant::now();
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            _ = tick.tick() => {}
            Some(event) = events.recv() => batch.push(event),
            Some(end) = ended.recv() => batch.extend(exited(&inner, end)),
        }
        while let Ok(event) = events.try_recv() {
            batch.push(event);
        }
        while let Ok(end) = ended.try_recv() {
            batch.extend(exited(&inner, end));
        }
        let now = wall();
        let (commands, seeds, known) = {
            let mut api = lock(&api);
            let mut inner = lock(&inner);
            if inner.controllers && !api.faults().outage() {
                for _ in 0..10 {
                    if !controllers::reconcile_all(&mut api, now) {
                        break;
                    }
                }
            }
            let mut commands = inner.kubelet.step(&mut api, now, batch);
            commands.append(&mut inner.held);
            let is_held = |c: &KubeletCommand| match c {
                KubeletCommand::StartContainer { pod, .. } => {
                    inner.holding || pod["metadata"]["name"].as_str().is_some_and(|n| inner.held_pods.contains(n))
                }
                KubeletCommand::Signal { .. } | KubeletCommand::RunProbe { .. } | KubeletCommand::RemovePod { .. } => {
                    false
                }
            };
            let (held, commands): (Vec<_>, Vec<_>) = commands.into_iter().partition(is_held);
            inner.held = held;
            let pods = pods(&api, &inner);
            let seeds: Vec<String> = pods.iter().map(|p| format!("{}:{}", p.address, PORTS.0)).collect();
            let known: Vec<SocketAddr> = pods.iter().map(|p| SocketAddr::new(p.address, 9042)).collect();
            if last_write.elapsed() >= WRITE_EVERY && api.store().revision() != inner.written {
                last_write = tokio::time::Instant::now();
                inner.written = api.store().revision();
                if let Err(error) = write_objects(&api, &inner, &options.layout) {
                    tracing::error!(%error, "the objects were not kept");
                }
            }
            (commands, seeds, known)
        };
        contacts.send_if_modified(|old| {
            let changed = *old != known;
            if changed {
                // As a headless Service would resolve.
                let path = options.layout.root().join("seeds");
                if let Err(error) = std::fs::write(&path, seeds.join("\n")) {
                    tracing::error!(%error, "the seeds were not written");
                }
                old.clone_from(&known);
            }
            changed
        });
        for command in commands {
            obey(&options, &inner, &server, command, &ended_to, &events_to);
        }
    }
}

fn exited(inner: &Mutex<Inner>, end: Ended) -> Option<ContainerEvent> {
    let run = lock(inner).pids.remove(&end.pid)?;
    Some(ContainerEvent::Exited { run, code: end.code, signal: end.signal })
}

fn obey(
    options: &Arc<Options>,
    inner: &Mutex<Inner>,
    server: &ServerHandle,
    command: KubeletCommand,
    ended: &mpsc::UnboundedSender<Ended>,
    events: &mpsc::UnboundedSender<ContainerEvent>,
) {
    match command {
        KubeletCommand::StartContainer { run, pod, address } => {
            let event = match launch(options, server, &run, &pod, address, ended) {
                Ok(pid) => {
                    lock(inner).pids.insert(pid, run.clone());
                    ContainerEvent::Started { run, pid }
                }
                Err(error) => ContainerEvent::StartFailed { run, message: error.to_string() },
            };
            // The loop that reads them is the one that sends.
            let _ = events.send(event);
        }
        KubeletCommand::Signal { run, signal } => {
            let pid = lock(inner).pids.iter().find(|(_, r)| **r == run).map(|(pid, _)| *pid);
            if let Some(pid) = pid {
                process::signal(
                    pid,
                    match signal {
                        StopSignal::Term => Signal::Term,
                        StopSignal::Kill => Signal::Kill,
                    },
                );
            }
        }
        KubeletCommand::RunProbe { run, kind, probe, address, timeout } => {
            let events = events.clone();
            tokio::spawn(async move {
                let path = probe["httpGet"]["path"].as_str().unwrap_or("/").to_owned();
                let success = tokio::time::timeout(timeout, get(address, &path)).await.ok().flatten().is_some();
                let kind: ProbeKind = kind;
                let _ = events.send(ContainerEvent::Probed { run, kind, success });
            });
        }
        KubeletCommand::RemovePod { pod_uid, name, .. } => {
            let folder = options.layout.pod(&pod_uid);
            if let Err(error) = std::fs::remove_dir_all(&folder) {
                tracing::debug!(%error, pod = %name, "nothing to remove of a pod");
            }
        }
    }
}

fn launch(
    options: &Options,
    server: &ServerHandle,
    run: &ContainerRun,
    pod: &Value,
    address: IpAddr,
    ended: &mpsc::UnboundedSender<Ended>,
) -> io::Result<u32> {
    let layout = &options.layout;
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let folder = layout.pod(&run.pod_uid);
    let shared = folder.join("shared");
    let volume = layout.volume(&format!("{}-{name}", manifests::CLAIM));
    let data = volume.join(match options.database {
        Database::Cassandra(_) => "cassandra",
        Database::Model => "model",
    });
    for path in [&shared, &volume, &volume.join("pilot"), &volume.join("launcher"), &data] {
        std::fs::create_dir_all(path)?;
    }
    let kubeconfig = layout.kubeconfig(name);
    std::fs::write(&kubeconfig, server.kubeconfig_for(name))?;
    let database = folder.join("database.json");
    std::fs::write(&database, database_settings(options, &volume, &shared, address)?)?;
    let text = |p: &std::path::Path| p.to_string_lossy().into_owned();
    let given = BTreeMap::from([
        (MARK.to_owned(), text(layout.root())),
        ("VOLUME_DATA".to_owned(), text(&volume)),
        ("VOLUME_SHARED".to_owned(), text(&shared)),
        ("SANDBOX_POLICY".to_owned(), text(&layout.policy())),
        ("SANDBOX_KEYS".to_owned(), text(&layout.keys())),
        ("SANDBOX_KUBECONFIG".to_owned(), text(&kubeconfig)),
        ("SANDBOX_SEEDS".to_owned(), text(&layout.root().join("seeds"))),
        ("SANDBOX_DATABASE".to_owned(), text(&database)),
        ("SANDBOX_CUTS".to_owned(), text(&layout.cuts(name))),
    ]);
    let spec = &pod["spec"];
    let container = ["initContainers", "containers"]
        .into_iter()
        .flat_map(|kind| spec[kind].as_array().into_iter().flatten())
        .find(|c| c["name"] == run.container.as_str())
        .ok_or_else(|| io::Error::other(format!("the pod has no container {}", run.container)))?;
    let (mut argv, env) = process::resolve(pod, container, &address.to_string(), &given);
    if argv.first().map(String::as_str) == Some("pilot") {
        match &options.pilot {
            Some(program) => argv[0] = text(program),
            // The sandbox carries the pilot in itself, so that one build is enough.
            None => drop(argv.splice(0..1, [text(&std::env::current_exe()?), "pilot".to_owned()])),
        }
    }
    process::start(
        Start {
            pod: run.pod_uid.clone(),
            container: run.container.clone(),
            argv,
            env,
            log: layout.log(name, &run.container),
        },
        ended.clone(),
    )
}

fn database_settings(
    options: &Options,
    volume: &std::path::Path,
    shared: &std::path::Path,
    address: IpAddr,
) -> io::Result<Vec<u8>> {
    match &options.database {
        Database::Cassandra(home) => {
            let run = Run::Jars {
                java: home.java.clone(),
                lib: home.lib.clone(),
                jamm: home.jamm.clone(),
                tool_archive: home.tool_archive.clone(),
                server_archive: None,
            };
            let mut settings = CassandraSettings::new(run, volume.join("cassandra"), shared.join("config"));
            // JMX listens on 127.0.0.1 whatever the pod's address is: each pod takes a port of its own.
            settings.ports = Ports { jmx: jmx_port(address), ..Ports::default() };
            settings.heap = Some("256M".to_owned());
            settings.frugal = true;
            settings.timing = if options.stock_timing { Timing::Stock } else { Timing::Short };
            if let Some(limit) = options.streaming {
                settings.overrides = Some(format!(
                    "stream_throughput_outbound: {limit}MiB/s\nentire_sstable_stream_throughput_outbound: {limit}MiB/s\n"
                ));
            }
            serde_json::to_vec(&settings).map_err(io::Error::other)
        }
        Database::Model => {
            let program = vec![std::env::current_exe()?.to_string_lossy().into_owned()];
            let mut settings = ModelSettings::new(program, volume.join("model"), shared.join("config"));
            let bound = options.streaming.map(|mebibytes| u64::from(mebibytes) << 20);
            settings.behaviour = Behaviour {
                stream_bytes_per_second: bound,
                ballast_bytes: bound.unwrap_or(0) * BALLAST_SECONDS,
                ..Behaviour::default()
            };
            serde_json::to_vec(&settings).map_err(io::Error::other)
        }
    }
}

fn jmx_port(address: IpAddr) -> u16 {
    let IpAddr::V4(v4) = address else {
        return 7199;
    };
    let [_, octet, high, low] = v4.octets();
    let number = u16::from(octet % 16) * 1024 + u16::from(high % 4) * 256 + u16::from(low);
    20_000 + number
}

/// What was found in the folder.
struct Restored {
    found: bool,
    addresses: u32,
}

fn restore(api: &mut ModelApi, layout: &Layout) -> Result<Restored, SandboxError> {
    let path = layout.objects();
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Restored { found: false, addresses: 0 }),
        Err(source) => return Err(SandboxError::Io { doing: "read", path, source }),
    };
    let kept: Value = serde_json::from_slice(&bytes).map_err(|e| SandboxError::Io {
        doing: "understand",
        path: path.clone(),
        source: io::Error::other(e),
    })?;
    api.restore(&kept["objects"]).map_err(|why| SandboxError::Api { what: "the objects kept".into(), why })?;
    Ok(Restored { found: true, addresses: kept["addresses"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0) })
}

fn write_objects(api: &ModelApi, inner: &Inner, layout: &Layout) -> io::Result<()> {
    let kept = json!({ "addresses": inner.kubelet.addresses_used(), "objects": api.snapshot() });
    let path = layout.objects();
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, serde_json::to_vec(&kept)?)?;
    std::fs::rename(fresh, path)
}
