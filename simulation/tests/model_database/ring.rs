//! Members as real processes, started as a launcher would start them: what the driver renders, nothing else.

use agent::driver::model::wire::{Answer, Operation, ask};
use agent::driver::model::{Behaviour, Model, Settings};
use agent::driver::{Driver, Look, StartContext, StartKind, ToolError, ToolRunner};
use protocol::database::{DatabasePhase, DatabaseState, RingMember, RingStatus};
use protocol::id::DatabaseIdentity;
use protocol::launcher::{DatabaseProgram, ProcessState, Program, ToolOutcome};
use protocol::time::Millis;
use simulation::model_database::Table;
use std::collections::BTreeSet;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Far longer than anything takes; only what fails takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A free address of this machine that no other test of this run uses.
pub(crate) fn address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let third = u8::try_from(std::process::id() % 200).expect("below 200") + 50;
    loop {
        let fourth = NEXT.fetch_add(1, Ordering::Relaxed);
        assert_ne!(fourth, 0, "all addresses of 127.77.{third}.0 were taken");
        let address = Ipv4Addr::new(127, 77, third, fourth);
        if TcpListener::bind((address, 9042)).is_ok() {
            return address;
        }
    }
}

/// Quick gossip, so that tests need not wait.
pub(crate) fn quick() -> Behaviour {
    Behaviour { gossip_ms: 100, silence_ms: 1_500, seed_wait_ms: 1_000, request_ms: 1_000, ..Behaviour::default() }
}

/// Until something is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let ends = Instant::now() + PATIENCE;
    while !so().await {
        assert!(Instant::now() < ends, "waited in vain until {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

struct NoTools;

impl ToolRunner for NoTools {
    fn run<'a>(
        &'a self,
        program: &'a Program,
        _timeout: Duration,
    ) -> agent::driver::BoxFuture<'a, Result<ToolOutcome, ToolError>> {
        panic!("the driver asked for {program:?}")
    }
}

/// One member: a volume and, most of the time, a process on it.
pub(crate) struct Member {
    pub(crate) driver: Model,
    pub(crate) address: Ipv4Addr,
    folder: TempDir,
    child: Option<Child>,
    program: Option<DatabaseProgram>,
}

impl Member {
    pub(crate) fn new(behaviour: Behaviour) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let part = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).expect("folder");
            path
        };
        let driver = driver(part("volume"), part("config"), behaviour);
        Self { driver, address: address(), folder, child: None, program: None }
    }

    /// Behaves so from the next start on.
    pub(crate) fn behave(&mut self, behaviour: Behaviour) {
        let part = |name: &str| self.folder.path().join(name);
        self.driver = driver(part("volume"), part("config"), behaviour);
    }

    /// Starts it through these.
    pub(crate) fn start(&mut self, kind: StartKind, seeds: &[Ipv4Addr]) {
        assert!(self.child.is_none(), "one process a volume");
        let context = StartContext {
            kind,
            cluster_name: "orders".into(),
            address: IpAddr::V4(self.address),
            seeds: seeds.iter().copied().map(IpAddr::V4).collect(),
            data_center: "dc1".into(),
            rack: "a".into(),
            replaces: None,
        };
        let program = self.driver.program(&context).expect("renders");
        for (path, content) in &program.files {
            std::fs::write(path, content).expect("written");
        }
        self.child = Some(command(&program.run).stderr(Stdio::piped()).spawn().expect("starts"));
        self.program = Some(program);
    }

    /// As a re-created pod: the same volume at another address.
    pub(crate) fn start_elsewhere(&mut self, kind: StartKind, seeds: &[Ipv4Addr]) {
        self.address = address();
        self.start(kind, seeds);
    }

    pub(crate) async fn serves(&self) {
        until("it serves", async || self.look().await.phase == DatabasePhase::Serving).await;
    }

    pub(crate) async fn look(&self) -> DatabaseState {
        let pid = self.child.as_ref().expect("runs").id();
        let process = ProcessState::Running { pid, since: Millis(0) };
        let tools: Arc<dyn ToolRunner> = Arc::new(NoTools);
        let deadline = Duration::from_secs(2);
        self.driver.probe(Look { process: &process, address: IpAddr::V4(self.address), tools: &tools, deadline }).await
    }

    pub(crate) async fn identity(&self) -> DatabaseIdentity {
        self.look().await.identity.expect("has one")
    }

    /// How many rows lie in it.
    pub(crate) async fn rows(&self) -> u64 {
        let address = SocketAddr::from((self.address, 9042));
        match ask(address, &Operation::Status, Duration::from_secs(10)).await.expect("answers") {
            Answer::Status(status) => status.rows,
            other => panic!("{other:?}"),
        }
    }

    /// What this member sees of another.
    pub(crate) async fn sees(&self, id: &DatabaseIdentity) -> Option<(RingStatus, Option<bool>)> {
        let ring = self.look().await.ring?;
        ring.into_iter().find(|m| m.identity == *id).map(|m| (m.status, m.up))
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("runs").id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("runs").success());
    }

    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("runs");
        child.kill().expect("killed");
        child.wait().expect("reaped");
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> (ExitStatus, String) {
        let child = self.child.take().expect("runs");
        let ended = tokio::task::spawn_blocking(move || child.wait_with_output());
        let output = tokio::time::timeout(PATIENCE, ended).await.expect("ends").expect("joins").expect("reaped");
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Begins to run the rendered `leave`.
    pub(crate) fn begin_leave(&self) -> JoinHandle<Output> {
        let mut leave = command(&self.program.as_ref().expect("started").leave);
        tokio::task::spawn_blocking(move || leave.output().expect("runs"))
    }

    pub(crate) async fn leave(&self) -> Output {
        self.begin_leave().await.expect("joins")
    }

    pub(crate) async fn drain(&self) -> Output {
        let mut drain = command(&self.program.as_ref().expect("started").drain);
        tokio::task::spawn_blocking(move || drain.output().expect("runs")).await.expect("joins")
    }

    /// Runs a local step.
    pub(crate) fn step(&self, step: &agent::driver::LocalStep) -> Output {
        command(&self.driver.step(step).expect("has it")).output().expect("runs")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

pub(crate) fn driver(volume: PathBuf, config: PathBuf, behaviour: Behaviour) -> Model {
    let program = vec![env!("CARGO_BIN_EXE_model-database").to_owned()];
    Model::new(Settings { behaviour, ..Settings::new(program, volume, config) })
}

fn command(program: &Program) -> Command {
    let mut command = Command::new(&program.argv[0]);
    command.args(&program.argv[1..]).envs(&program.env);
    command
}

/// A founder and others that joined one after the other; all see all as up and normal.
pub(crate) async fn ring(size: usize, behaviour: &Behaviour) -> Vec<Member> {
    let mut members = vec![Member::new(behaviour.clone())];
    members[0].start(StartKind::Found, &[]);
    members[0].serves().await;
    while members.len() < size {
        let mut next = Member::new(behaviour.clone());
        next.start(StartKind::Join, &[members[0].address]);
        next.serves().await;
        members.push(next);
    }
    agreed(&members).await;
    members
}

/// Until every one of these sees exactly these as normal and up.
pub(crate) async fn agreed(members: &[Member]) {
    let mut all = BTreeSet::new();
    for member in members {
        all.insert(member.identity().await);
    }
    for member in members {
        until("all see all", async || {
            let ring = member.look().await.ring.unwrap_or_default();
            let normal = |m: &&RingMember| m.status == RingStatus::Normal && m.up == Some(true);
            let gone = |m: &RingMember| m.status == RingStatus::Left;
            ring.iter().all(|m| normal(&m) || gone(m))
                && ring.iter().filter(normal).map(|m| m.identity.clone()).collect::<BTreeSet<_>>() == all
        })
        .await;
    }
}

pub(crate) async fn table(members: &[&Member]) -> Table {
    let contacts: Vec<SocketAddr> = members.iter().map(|m| SocketAddr::from((m.address, 9042))).collect();
    Table::connect(&contacts, "tour", 40, Duration::from_secs(6)).await.expect("connects")
}

/// Writes rows one after the other until it is told to stop.
pub(crate) struct Writer {
    acknowledged: Arc<Mutex<BTreeSet<u64>>>,
    stopped: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Writer {
    pub(crate) async fn start(members: &[&Member]) -> Self {
        let table = table(members).await;
        let acknowledged: Arc<Mutex<BTreeSet<u64>>> = Arc::default();
        let stopped: Arc<AtomicBool> = Arc::default();
        let task = tokio::spawn({
            let (acknowledged, stopped) = (Arc::clone(&acknowledged), Arc::clone(&stopped));
            async move {
                let mut number = 0;
                while !stopped.load(Ordering::Relaxed) {
                    if table.write(number).await.is_ok() {
                        acknowledged.lock().expect("no panic").insert(number);
                    }
                    number += 1;
                }
            }
        });
        Self { acknowledged, stopped, task }
    }

    pub(crate) fn count(&self) -> usize {
        self.acknowledged.lock().expect("no panic").len()
    }

    /// Until so many more rows were acknowledged.
    pub(crate) async fn writes(&self, more: usize) {
        let wanted = self.count() + more;
        until("rows are acknowledged", async || self.count() >= wanted).await;
    }

    /// The rows acknowledged in all.
    pub(crate) async fn stop(self) -> BTreeSet<u64> {
        self.stopped.store(true, Ordering::Relaxed);
        self.task.await.expect("joins");
        self.acknowledged.lock().expect("no panic").clone()
    }
}

/// Until all rows could be read; then the acknowledged ones that are not there.
pub(crate) async fn missing(members: &[&Member], acknowledged: &BTreeSet<u64>) -> Vec<u64> {
    let table = table(members).await;
    let ends = Instant::now() + PATIENCE;
    loop {
        match table.read_all().await {
            Ok(found) => return acknowledged.difference(&found).copied().collect(),
            Err(why) => assert!(Instant::now() < ends, "the rows could not be read: {why}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}
