//! Apache Cassandra.
//!
//! Facts come by CQL from this node alone: who it is, the ring as its gossip shows it, replication, transfers. While
//! clients are locked out (starting, joining, drained, left) only Java's management interface answers; `nodetool` is
//! run for it, beside the looks, and seldom ([`MODE_EVERY`]). Acts (drain, leave) go through `nodetool` too.

mod cql;
mod credentials;
mod facts;
mod java;
mod render;
pub mod rows;
mod settings;
mod tools;
mod volume;
pub mod yaml;

pub use facts::{HEARTBEAT_MAY_REST, Heartbeats, Mode, SILENCE_ALLOWED, Seen, mode, see};
pub use settings::{Ports, Run, Settings, Timing};

use crate::driver::{
    BoxFuture, Driver, LocalStep, Look, MovedAside, RenderError, StartContext, ToolRunner, VolumeError,
};
use cql::{CqlError, Node};
use facts::{Door, Signs};
use protocol::database::{DatabasePhase, DatabaseState, Disk, VolumeState};
use protocol::id::DatabaseIdentity;
use protocol::launcher::{DatabaseProgram, ProcessState, Program};
use rows::Rows;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// `nodetool` costs about a second of processor time, so a mode that is known is asked again only after so long.
pub const MODE_EVERY: Duration = Duration::from_secs(10);

/// While nothing is known, or the process was seen to start, the next word is wanted sooner: a start is short, and
/// then it matters whether it joins.
const MODE_RETRY: Duration = Duration::from_secs(4);

/// The driver of one member's Cassandra.
pub struct Cassandra {
    settings: Settings,
    /// Clock of this driver: only differences of it are used.
    began: Instant,
    memory: AsyncMutex<Memory>,
    mode: Arc<Mutex<KnownMode>>,
}

/// What one look leaves for the next.
struct Memory {
    /// The process that the rest is about.
    pid: Option<u32>,
    node: Option<(SocketAddr, Node)>,
    heartbeats: Heartbeats,
    answered: Option<Instant>,
    opened: bool,
    phase: DatabasePhase,
    asking: Option<JoinHandle<()>>,
    asked: Option<Instant>,
    identity: Option<DatabaseIdentity>,
    version: Option<String>,
    /// Why the last session could not be had, as it was logged.
    complaint: Option<String>,
}

#[derive(Default)]
struct KnownMode {
    mode: Option<Mode>,
}

impl Memory {
    fn new() -> Self {
        Self {
            pid: None,
            node: None,
            heartbeats: Heartbeats::default(),
            answered: None,
            opened: false,
            phase: DatabasePhase::Unknown,
            asking: None,
            asked: None,
            identity: None,
            version: None,
            complaint: None,
        }
    }

    /// Nothing of one process is believed of the next.
    fn turn_to(&mut self, pid: Option<u32>) {
        if self.pid != pid {
            self.stop_asking();
            *self = Self {
                pid,
                // Who lives is told of others, and our own restart does not change it.
                heartbeats: std::mem::take(&mut self.heartbeats),
                ..Self::new()
            };
        }
    }

    /// Says why no session can be had, once for each reason: a look comes every second or so.
    fn complain(&mut self, error: &CqlError) {
        let complaint = error.to_string();
        if self.complaint.as_ref() != Some(&complaint) {
            tracing::warn!(%error, "the database takes connections but no session");
            self.complaint = Some(complaint);
        }
    }

    fn stop_asking(&mut self) {
        if let Some(asking) = self.asking.take() {
            asking.abort();
        }
        self.asked = None;
    }
}

impl Cassandra {
    /// A driver for one member.
    pub fn new(settings: Settings) -> Self {
        Self { settings, began: Instant::now(), memory: AsyncMutex::new(Memory::new()), mode: Arc::default() }
    }

    /// The settings of the user's that are left out because the pilot sets them, in order; for a line in the log.
    ///
    /// # Errors
    /// When what the user gave is no mapping.
    pub fn left_out(&self) -> Result<Vec<String>, RenderError> {
        yaml::left_out(&self.settings)
    }

    fn known_mode(&self) -> MutexGuard<'_, KnownMode> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(&self, look: Look<'_>) -> DatabaseState {
        let memory = &mut *self.memory.lock().await;
        let running = match look.process {
            ProcessState::Running { pid, .. } | ProcessState::Draining { pid } | ProcessState::Stopping { pid } => {
                Some(*pid)
            }
            ProcessState::Held | ProcessState::Backoff { .. } | ProcessState::Stopped => None,
        };
        memory.turn_to(running);
        let address = SocketAddr::new(look.address, self.settings.ports.native);
        let (door, rows) = match running {
            Some(_) => ask(memory, address, look.deadline, self.settings.credentials.as_deref()).await,
            None => (Door::Closed, None),
        };
        if rows.is_some() {
            memory.opened = true;
            memory.answered = Some(Instant::now());
            memory.stop_asking();
            self.known_mode().mode = None;
        }
        // A process that is stopped (SIGSTOP) leaves clients waiting; the tool would wait as well.
        if matches!(look.process, ProcessState::Running { .. }) && door == Door::Closed {
            self.ask_mode(memory, look.tools);
        }
        let mut state = DatabaseState::bare(DatabasePhase::Unknown);
        let seen = rows.as_ref().map(|rows| see(rows, self.began.elapsed(), &mut memory.heartbeats));
        let own = rows.as_ref().and_then(|r| r.local.host_id.as_deref());
        let own_status = seen
            .as_ref()
            .and_then(|seen| seen.ring.iter().find(|m| Some(m.identity.as_str()) == own).map(|m| m.status));
        state.phase = facts::phase(&Signs {
            process: look.process,
            door,
            bootstrapped: rows.as_ref().and_then(|r| r.local.bootstrapped.as_deref()),
            own_status,
            mode: self.known_mode().mode,
            has_answered: memory.opened,
            silent_for: memory.answered.map_or(Duration::ZERO, |at| at.elapsed()),
            previous: memory.phase,
        });
        memory.phase = state.phase;
        if let Some(rows) = &rows {
            memory.identity = own.map(DatabaseIdentity::new);
            memory.version.clone_from(&rows.local.version);
        }
        if let Some(seen) = seen {
            state.schema_agreed = seen.schema_agreed;
            state.replication = seen.replication;
            state.streaming = seen.streaming;
            state.load = seen.load;
            state.ring = Some(seen.ring.into());
        }
        // The same process keeps its identity and version also while it answers nothing.
        state.identity.clone_from(&memory.identity);
        state.version.clone_from(&memory.version);
        state.disk = disk(&self.settings.volume);
        state
    }

    /// Has the mode asked beside the looks; what comes of it is known to a later one.
    fn ask_mode(&self, memory: &mut Memory, tools: &Arc<dyn ToolRunner>) {
        if memory.asking.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let every = match self.known_mode().mode {
            None | Some(Mode::Starting) => MODE_RETRY,
            Some(
                Mode::Joining
                | Mode::JoiningFailed
                | Mode::Member
                | Mode::Leaving
                | Mode::Decommissioned
                | Mode::Drained
                | Mode::Other,
            ) => MODE_EVERY,
        };
        if memory.asked.is_some_and(|at| at.elapsed() < every) {
            return;
        }
        let first_wait = memory.asked.is_none() && !memory.opened;
        memory.asked = Some(Instant::now());
        if first_wait {
            // A process that has just been started has no management interface yet.
            return;
        }
        let tools = Arc::clone(tools);
        let known = Arc::clone(&self.mode);
        let program = tools::mode(&self.settings);
        memory.asking = Some(tokio::spawn(async move {
            let mode = match tools.run(&program, tools::LOOK_TIMEOUT).await {
                Ok(outcome) => facts::mode(&outcome.stdout),
                Err(error) => {
                    tracing::debug!(%error, "the operation mode could not be asked");
                    None
                }
            };
            known.lock().unwrap_or_else(PoisonError::into_inner).mode = mode;
        }));
    }
}

impl Drop for Cassandra {
    fn drop(&mut self) {
        self.memory.get_mut().stop_asking();
    }
}

/// So long one member is asked where another was.
const LAST_ADDRESS_WITHIN: Duration = Duration::from_secs(5);

/// Asks by CQL: whether the door is open, and what was said.
async fn ask(
    memory: &mut Memory,
    address: SocketAddr,
    deadline: Duration,
    credentials: Option<&Path>,
) -> (Door, Option<Rows>) {
    let ends = Instant::now() + deadline;
    let left = |share: u32| ends.saturating_duration_since(Instant::now()) / share;
    if memory.node.as_ref().is_some_and(|(at, _)| *at != address) {
        memory.node = None;
    }
    if memory.node.is_none() {
        // A refused connection is told at once, and without the library's retries.
        match timeout(left(3), TcpStream::connect(address)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return (Door::Closed, None),
            Err(_) => return (Door::Silent, None),
        }
        match timeout(left(2), Node::open(address, deadline, credentials)).await {
            Ok(Ok(node)) => {
                memory.node = Some((address, node));
                memory.complaint = None;
            }
            Ok(Err(error)) => {
                memory.complain(&error);
                return (Door::Silent, None);
            }
            Err(_) => return (Door::Silent, None),
        }
    }
    let Some((_, node)) = &memory.node else {
        return (Door::Silent, None);
    };
    match timeout(left(1), node.look()).await {
        Ok(Ok(rows)) => (Door::Open, Some(rows)),
        Ok(Err(error)) => {
            tracing::debug!(%error, %address, "the database stopped answering");
            memory.node = None;
            match timeout(left(1), TcpStream::connect(address)).await {
                Ok(Err(_)) => (Door::Closed, None),
                Ok(Ok(_)) | Err(_) => (Door::Silent, None),
            }
        }
        Err(_) => {
            memory.node = None;
            (Door::Silent, None)
        }
    }
}

fn disk(volume: &Path) -> Option<Disk> {
    let stat = rustix::fs::statvfs(volume).ok()?;
    let block = stat.f_frsize;
    Some(Disk {
        used: stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(block),
        total: stat.f_blocks.saturating_mul(block),
    })
}

impl Driver for Cassandra {
    fn name(&self) -> &'static str {
        "cassandra"
    }

    fn program(&self, context: &StartContext) -> Result<DatabaseProgram, RenderError> {
        render::program(&self.settings, context)
    }

    fn volume(&self, known: Option<&DatabaseIdentity>) -> VolumeState {
        volume::look(&self.settings.volume, known)
    }

    fn move_aside(&self, label: &str) -> Result<MovedAside, VolumeError> {
        volume::move_aside(&self.settings.volume, label)
    }

    fn probe<'a>(&'a self, look: Look<'a>) -> BoxFuture<'a, DatabaseState> {
        Box::pin(self.look(look))
    }

    fn last_address<'a>(
        &'a self,
        identity: &'a DatabaseIdentity,
        members: &'a [IpAddr],
    ) -> BoxFuture<'a, Result<Option<IpAddr>, String>> {
        Box::pin(async move {
            let mut unasked = Vec::new();
            for member in members {
                let at = SocketAddr::new(*member, self.settings.ports.native);
                let credentials = self.settings.credentials.as_deref();
                let asked =
                    async { Node::open(at, LAST_ADDRESS_WITHIN, credentials).await?.address_of(identity).await };
                match timeout(LAST_ADDRESS_WITHIN, asked).await {
                    Ok(Ok(Some(address))) => return Ok(Some(address)),
                    Ok(Ok(None)) => {}
                    Ok(Err(error)) => unasked.push(format!("{member}: {error}")),
                    Err(_) => unasked.push(format!("{member} has not answered in time")),
                }
            }
            if unasked.is_empty() && !members.is_empty() {
                return Ok(None);
            }
            Err(format!("where {identity} was cannot be told, so it cannot be replaced yet: [{}]", unasked.join(", ")))
        })
    }

    fn step(&self, step: &LocalStep) -> Result<Program, RenderError> {
        match step {
            LocalStep::ReloadSeeds(context) => {
                Ok(tools::reload_seeds(&self.settings, &yaml::render(&self.settings, context)?))
            }
            LocalStep::LimitStreaming { mebibytes_per_second } => {
                Ok(tools::limit_streaming(&self.settings, *mebibytes_per_second))
            }
            LocalStep::Repair => Ok(tools::nodetool(&self.settings, &["repair", "--full", "--force"])),
            LocalStep::Status => Ok(tools::nodetool(&self.settings, &["status"])),
        }
    }
}
