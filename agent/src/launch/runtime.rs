//! Carries out what the machine decides: processes, files, the socket, signals and the clock.

use super::children::{Children, Reaped, group_lives, signal_group};
use super::connection::{Connection, FromClient};
use super::facts;
use super::machine::{Client, Effect, End, Event, Job, Machine, MachineSettings, Purpose, Signal};
use super::store::{Found, Store};
use super::wire::{Heard, say};
use crate::state_file::StateFileError;
use protocol::id::Uid;
use protocol::launcher::{Care, LauncherStatus, Line, ProcessState, Reply};
use protocol::time::{Millis, Timestamp};
use rustix::process::getpid;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// How often a dying process group is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A process group that is still there so long after it was killed waits for a disk or the kernel.
const GROUP_STUCK: Duration = Duration::from_secs(10);
/// For the last lines to reach the agents.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The longest sleep, so that a machine that was asleep itself notices soon.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// What a launcher is told at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchSettings {
    /// Where agents are served.
    pub socket: PathBuf,
    /// Where memory and accounts are kept, on the database's volume.
    pub state_dir: PathBuf,
    /// The pod it runs in: permissions for another are worthless.
    pub pod_uid: Uid,
    /// The pod's grace period, counted from the stop signal unless the agent knows better. Default: 60 s.
    pub grace: Duration,
    /// So long without any agent, a terminating launcher drains and stops without a word. Default: 5 s.
    pub reattach: Duration,
    /// How a dying database is treated before an agent has said so.
    pub care: Care,
    /// The database's command where the agent names none.
    pub command: Vec<String>,
    /// Folders in which the agent may have files written.
    pub roots: Vec<PathBuf>,
    /// Where kills for lack of memory are counted; found by itself where the kernel has control groups of version 2.
    pub memory_events: Option<PathBuf>,
    /// Takes in orphans, as PID 1 must. Off where others in the same process wait for children of their own.
    pub adopt_orphans: bool,
}

impl LaunchSettings {
    /// Settings with the defaults named at each field.
    pub fn new(socket: PathBuf, state_dir: PathBuf, pod_uid: Uid) -> Self {
        Self {
            socket,
            state_dir,
            pod_uid,
            grace: Duration::from_secs(60),
            reattach: Duration::from_secs(5),
            care: default_care(),
            command: Vec::new(),
            roots: Vec::new(),
            memory_events: facts::memory_events(),
            adopt_orphans: true,
        }
    }
}

/// How a dying database is treated before an agent has said so: pauses of 1 s to 5 min, five ends within 10 min are a
/// crash loop, 20 s from the stop signal to the kill, 30 s of the grace period kept for drain and stop.
pub fn default_care() -> Care {
    Care {
        backoff_from: Millis(1_000),
        backoff_to: Millis(300_000),
        crash_exits: 5,
        crash_within: Millis(600_000),
        stop_timeout: Millis(20_000),
        time_to_drain: Millis(30_000),
    }
}

/// Why the launcher could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Its files could not be opened.
    #[error(transparent)]
    State(#[from] StateFileError),
    /// The system refused something it cannot do without.
    #[error("could not {doing}: {source}")]
    Io {
        /// What was being attempted.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// No random numbers.
    #[error("the system gives no random numbers: the launcher cannot name this life of its own")]
    Random,
}

fn attempt(doing: impl Into<String>) -> impl FnOnce(io::Error) -> LaunchError {
    let doing = doing.into();
    move |source| LaunchError::Io { doing, source }
}

/// Runs the launcher to its end, and gives back its exit code: 0 after an orderly end, the database's own where it ended
/// unasked while the launcher was told to end.
///
/// # Errors
/// When its files, its socket or its signals cannot be had; nothing was started then.
pub async fn run(settings: LaunchSettings) -> Result<ExitCode, LaunchError> {
    run_to_code(settings).await.map(ExitCode::from)
}

/// As [`run`], for those who need the exit code as a number.
///
/// # Errors
/// As [`run`].
pub async fn run_to_code(settings: LaunchSettings) -> Result<u8, LaunchError> {
    std::fs::create_dir_all(&settings.state_dir).map_err(attempt(format!("make {}", settings.state_dir.display())))?;
    // The files are locked: from here on no other launcher uses this volume, nor this socket.
    let (store, found) = Store::open(&settings.state_dir)?;
    if settings.adopt_orphans {
        rustix::process::set_child_subreaper(Some(getpid()))
            .map_err(|error| attempt("become the one that orphans are given to")(error.into()))?;
    }
    let mut terminate = signal(SignalKind::terminate()).map_err(attempt("hear SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(attempt("hear SIGINT"))?;
    let mut child = signal(SignalKind::child()).map_err(attempt("hear SIGCHLD"))?;
    let survivor = end_survivor(&settings).await;
    let listener = listen(&settings.socket).map_err(attempt(format!("listen on {}", settings.socket.display())))?;
    let (to, mut from_clients) = mpsc::channel(256);
    let (to_ended, mut from_ended) = mpsc::channel(16);
    let (mut launcher, first) = Launcher::new(&settings, store, found, to_ended)?;
    launcher.perform(first);
    if let Some(trouble) = survivor {
        launcher.handle(Event::Trouble(trouble));
    }
    tracing::info!(pod = %settings.pod_uid, socket = %settings.socket.display(), "launcher started");
    while launcher.exit.is_none() {
        let sleep = launcher.sleep();
        tokio::select! {
            biased;
            _ = terminate.recv() => launcher.terminate("SIGTERM"),
            _ = interrupt.recv() => launcher.terminate("SIGINT"),
            _ = child.recv() => launcher.reap(),
            Some((job, end)) = from_ended.recv() => launcher.handle(Event::Ended { job, end }),
            Some(said) = from_clients.recv() => launcher.hear(said),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => launcher.connect(stream, to.clone()),
                Err(error) => {
                    // Out of file descriptors, most likely: not to spin on it is all that can be done.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            },
            () = tokio::time::sleep(sleep) => launcher.look(),
        }
    }
    let code = launcher.end().await;
    if let Err(error) = std::fs::remove_file(&settings.socket) {
        tracing::warn!(%error, "the socket could not be removed");
    }
    Ok(code)
}

struct Launcher {
    machine: Machine,
    store: Store,
    children: Children,
    connections: BTreeMap<Client, Connection>,
    next_client: u64,
    /// Databases that have ended, but not yet all of their process group.
    dying: Vec<Dying>,
    to_ended: mpsc::Sender<(Job, End)>,
    roots: Vec<PathBuf>,
    survivor_file: PathBuf,
    memory_events: Option<PathBuf>,
    memory_kills: Option<u64>,
    exit: Option<u8>,
}

struct Dying {
    job: Job,
    pid: u32,
    end: End,
    since: Timestamp,
}

impl Launcher {
    fn new(
        settings: &LaunchSettings,
        store: Store,
        found: Found,
        to_ended: mpsc::Sender<(Job, End)>,
    ) -> Result<(Self, Vec<Effect>), LaunchError> {
        let (mut machine, mut effects) = Machine::new(
            MachineSettings {
                pod: settings.pod_uid.clone(),
                life: random()?,
                grace: settings.grace,
                reattach: settings.reattach,
                care: settings.care.clone(),
                command: settings.command.clone(),
                roots: settings.roots.clone(),
                boot: facts::boot(),
            },
            facts::now(),
            found.memory,
            found.accounts,
        );
        for trouble in found.trouble {
            effects.extend(machine.handle(facts::now(), Event::Trouble(trouble)));
        }
        let launcher = Self {
            machine,
            store,
            children: Children::new(settings.adopt_orphans),
            connections: BTreeMap::new(),
            next_client: 1,
            dying: Vec::new(),
            to_ended,
            roots: settings.roots.clone(),
            survivor_file: survivor_file(&settings.state_dir),
            memory_events: settings.memory_events.clone(),
            memory_kills: None,
            exit: None,
        };
        Ok((launcher, effects))
    }

    fn handle(&mut self, event: Event) {
        let effects = self.machine.handle(facts::now(), event);
        self.perform(effects);
    }

    /// Carries effects out, in order, and what follows from them after them.
    fn perform(&mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            if let Some(event) = self.carry_out(effect) {
                effects.extend(self.machine.handle(facts::now(), event));
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Remember { sequence, memory } => {
                Some(Event::Remembered { sequence, result: self.store.keep_memory(&memory) })
            }
            Effect::Account(accounts) => match self.store.keep_accounts(&accounts) {
                Ok(()) => None,
                Err(why) => {
                    Some(Event::Trouble(format!("starts and ends of the database could not be written down ({why})")))
                }
            },
            Effect::StartDatabase { job, files, program } => {
                self.memory_kills = facts::memory_kills(self.memory_events.as_deref());
                let started = write_files(&self.roots, &files).and_then(|()| self.children.spawn(job, &program, false));
                Some(match started {
                    Ok(pid) => {
                        tracing::info!(pid, program = told(&program.argv), "database started");
                        if let Err(error) = Survivor::of(pid).write(&self.survivor_file) {
                            tracing::warn!(%error, "the database's process could not be written down");
                        }
                        Event::Spawned { job, pid }
                    }
                    Err(error) => Event::NotSpawned { job, why: error.to_string() },
                })
            }
            Effect::RunProgram { job, purpose, program } => Some(match self.children.spawn(job, &program, true) {
                Ok(pid) => {
                    match purpose {
                        Purpose::Drain | Purpose::Leave => {
                            tracing::info!(pid, ?purpose, program = told(&program.argv), "program started");
                        }
                        Purpose::Tool => {
                            tracing::debug!(pid, program = ?program.argv, "tool started");
                        }
                    }
                    Event::Spawned { job, pid }
                }
                Err(error) => Event::NotSpawned { job, why: error.to_string() },
            }),
            Effect::Signal { job, signal } => match self.children.signal(job, signal) {
                Ok(()) => None,
                Err(error) => Some(Event::Trouble(format!("a process could not be signalled: {error}"))),
            },
            Effect::Reply { client, id, reply } => {
                let reply = match reply {
                    Reply::Status(status) => Reply::Status(with_facts(status)),
                    other @ (Reply::Accepted | Reply::Refused(_) | Reply::Unsupported | Reply::Tool(_)) => other,
                };
                self.send(&[client], &Line::Reply { id, reply })
            }
            Effect::Changed { clients, status } => self.send(&clients, &Line::Changed(with_facts(*status))),
            Effect::Note(text) => {
                tracing::warn!("{text}");
                None
            }
            Effect::Exit(code) => {
                self.exit = Some(code);
                None
            }
        }
    }

    /// Sends a line. An agent that does not take it is cut off, which its own connection then reports.
    fn send(&mut self, clients: &[Client], line: &Line) -> Option<Event> {
        let bytes = match say(line) {
            Ok(bytes) => bytes,
            Err(error) => {
                return Some(Event::Trouble(format!("a line could not be written: {error}")));
            }
        };
        let mut gone = None;
        for client in clients {
            let taken = match self.connections.get(client) {
                Some(connection) => connection.send(bytes.clone()),
                None => true,
            };
            if !taken && let Some(connection) = self.connections.remove(client) {
                tracing::warn!(client = client.0, "an agent does not read: it is cut off");
                connection.close().abort();
                gone = Some(Event::Gone(*client));
            }
        }
        // At most one in practice; were there more, the next line meets the others again.
        gone
    }

    fn connect(&mut self, stream: tokio::net::UnixStream, to: mpsc::Sender<FromClient>) {
        let client = Client(self.next_client);
        self.next_client += 1;
        self.connections.insert(client, Connection::serve(client, stream, to));
    }

    fn hear(&mut self, said: FromClient) {
        match said {
            FromClient::Heard(client, Heard::Ask { id, ask }) => {
                self.handle(Event::Ask { client, id, ask });
            }
            FromClient::Heard(client, Heard::Answer { id, reply }) => {
                if let Some(event) = self.send(&[client], &Line::Reply { id, reply }) {
                    self.handle(event);
                }
            }
            // The connection itself turns garbage into its own end.
            FromClient::Heard(_, Heard::Garbage(_)) => {}
            FromClient::Closed(client, why) => {
                if let Some(why) = why {
                    tracing::warn!(client = client.0, why, "an agent's connection was closed");
                }
                if let Some(connection) = self.connections.remove(&client) {
                    connection.close();
                }
                self.handle(Event::Gone(client));
            }
        }
    }

    fn terminate(&mut self, signal: &str) {
        tracing::info!(signal, "told to end");
        self.handle(Event::Terminate);
    }

    fn reap(&mut self) {
        match self.children.reap() {
            Ok(reaped) => {
                for one in reaped {
                    self.reaped(one);
                }
            }
            Err(error) => self.handle(Event::Trouble(format!("ended processes could not be taken in: {error}"))),
        }
        self.look_at_dying();
    }

    fn reaped(&mut self, one: Reaped) {
        let Reaped { job, pid, code, signal, output } = one;
        match output {
            Some(output) => {
                let to = self.to_ended.clone();
                tokio::spawn(async move {
                    let end = output.into_end(code, signal).await;
                    // Where the launcher has ended nobody is left to be told.
                    let _ = to.send((job, end)).await;
                });
            }
            None => {
                let kills = facts::memory_kills(self.memory_events.as_deref());
                let end = End {
                    code,
                    signal,
                    out_of_memory: kills > self.memory_kills && self.memory_kills.is_some(),
                    ..End::default()
                };
                tracing::info!(pid, ?code, ?signal, oom = end.out_of_memory, "database ended");
                self.dying.push(Dying { job, pid, end, since: facts::now() });
            }
        }
    }

    /// A database has ended when nothing of its group is left: a child of it may still hold files and ports.
    fn look_at_dying(&mut self) {
        let now = facts::now();
        let (still, ended): (Vec<_>, Vec<_>) = std::mem::take(&mut self.dying)
            .into_iter()
            .partition(|one| group_lives(one.pid) && now.since(one.since) < GROUP_STUCK);
        self.dying = still;
        for one in ended {
            if group_lives(one.pid) {
                self.handle(Event::Trouble(format!(
                    "processes of the database's group {} do not end although they were killed",
                    one.pid
                )));
            }
            match std::fs::remove_file(&self.survivor_file) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(%error, "the record of the database's process could not be removed");
                }
            }
            self.handle(Event::Ended { job: one.job, end: one.end });
        }
    }

    fn look(&mut self) {
        if !self.dying.is_empty() {
            self.reap();
        }
        if self.machine.wake().is_some_and(|wake| wake <= facts::now()) {
            self.handle(Event::Tick);
        }
    }

    fn sleep(&self) -> Duration {
        let wake = match self.machine.wake() {
            // A millisecond more, as the clock is read in whole ones.
            Some(wake) => wake.since(facts::now()) + Duration::from_millis(1),
            None => LONGEST_SLEEP,
        };
        let most = match self.dying.is_empty() {
            true => LONGEST_SLEEP,
            false => LOOK_AGAIN,
        };
        wake.min(most)
    }

    /// Kills what is left, lets the last words out, and ends.
    async fn end(self) -> u8 {
        if let Err(error) = self.children.kill_all() {
            tracing::warn!(%error, "what is left could not be killed");
        }
        let writers: Vec<_> = self.connections.into_values().map(Connection::close).collect();
        let all = async {
            for writer in writers {
                // One that was cut off has nothing more to say.
                let _ = writer.await;
            }
        };
        if tokio::time::timeout(LAST_WORDS, all).await.is_err() {
            tracing::warn!("an agent did not take the last words");
        }
        let code = self.exit.unwrap_or(0);
        tracing::info!(code, "launcher ends");
        code
    }
}

fn with_facts(mut status: LauncherStatus) -> LauncherStatus {
    let pid = match status.process {
        ProcessState::Running { pid, .. } | ProcessState::Draining { pid } | ProcessState::Stopping { pid } => pid,
        ProcessState::Held | ProcessState::Backoff { .. } | ProcessState::Stopped => return status,
    };
    status.resident = facts::resident(pid);
    status.open_files = facts::open_files(pid);
    status
}

fn random() -> Result<u64, LaunchError> {
    let bytes: ring::rand::Random<[u8; 8]> =
        ring::rand::generate(&ring::rand::SystemRandom::new()).map_err(|_| LaunchError::Random)?;
    Ok(u64::from_le_bytes(bytes.expose()))
}

/// Listens under another name first, so that the socket is never there with other rights than 0660, and an old one of an
/// earlier life is replaced at once.
fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let fresh = PathBuf::from(name);
    match std::fs::remove_file(&fresh) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o660))?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}

/// Writes the database's files, each whole or not at all. The machine has checked the names; here links are followed.
fn write_files(roots: &[PathBuf], files: &BTreeMap<String, String>) -> io::Result<()> {
    for (path, content) in files {
        write_file(roots, Path::new(path), content)
            .map_err(|error| io::Error::new(error.kind(), format!("{path} could not be written: {error}")))?;
    }
    Ok(())
}

fn write_file(roots: &[PathBuf], path: &Path, content: &str) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it names no file"));
    };
    std::fs::create_dir_all(parent)?;
    let real = parent.canonicalize()?;
    let inside = roots.iter().any(|root| root.canonicalize().is_ok_and(|root| real.starts_with(root)));
    if !inside {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("a link leads to {}, outside of the folders allowed", real.display()),
        ));
    }
    let target = real.join(name);
    if std::fs::read(&target).is_ok_and(|there| there == content.as_bytes()) {
        return Ok(());
    }
    let mut fresh = target.as_os_str().to_owned();
    fresh.push(".pilot-new");
    std::fs::write(&fresh, content)?;
    std::fs::rename(&fresh, &target)
}

/// The database process as an earlier life of the launcher wrote it down: outside of a container it outlives a launcher
/// that was killed, and two databases must never run on one volume.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Survivor {
    boot: String,
    pid_space: String,
    pid: u32,
    started: Option<u64>,
}

/// A command on one line: a script or a whole file among its arguments says nothing to somebody who reads a log.
fn told(argv: &[String]) -> String {
    let words = argv.iter().map(|word| if word.contains('\n') { "…" } else { word.as_str() });
    words.collect::<Vec<_>>().join(" ")
}

fn survivor_file(state_dir: &Path) -> PathBuf {
    state_dir.join("running")
}

impl Survivor {
    fn of(pid: u32) -> Self {
        Self { boot: facts::boot(), pid_space: facts::pid_space(), pid, started: facts::started_at(pid) }
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, serde_json::to_vec(self)?)
    }
}

/// Ends a database of an earlier life of the launcher, where one still runs, and says what it did.
async fn end_survivor(settings: &LaunchSettings) -> Option<String> {
    let bytes = std::fs::read(survivor_file(&settings.state_dir)).ok()?;
    let survivor: Survivor = serde_json::from_slice(&bytes).ok()?;
    let pid = survivor.pid;
    if survivor.started.is_none() || survivor != Survivor::of(pid) {
        return None;
    }
    let ends = |signal: Signal, within: Duration| async move {
        if let Err(error) = signal_group(pid, signal) {
            tracing::warn!(%error, pid, "the database of an earlier launcher could not be signalled");
        }
        let ended = async {
            while group_lives(pid) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(within, ended).await.is_ok()
    };
    let stopped = ends(Signal::Stop, settings.care.stop_timeout.into()).await || ends(Signal::Kill, GROUP_STUCK).await;
    Some(match stopped {
        true => format!("the database of an earlier launcher still ran as process {pid}: it was stopped"),
        false => format!("the database of an earlier launcher still runs as process {pid} and cannot be killed"),
    })
}
