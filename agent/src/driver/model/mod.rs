//! The model database: a small replicated store of this project's own, run as a real process by the sandbox.
//!
//! The process itself lives in the `simulation` crate; here is what a pilot must know of it, and the talk that both
//! share ([`wire`]).

mod settings;
mod volume;
pub mod wire;

pub use settings::{Behaviour, ProcessConfig, Settings};
pub use volume::{DATA, IDENTITY};

use crate::driver::{
    BoxFuture, Driver, LocalStep, Look, MovedAside, RenderError, StartContext, StartKind, VolumeError,
};
use protocol::database::{DatabasePhase, DatabaseState, Disk, RingMember, VolumeState};
use protocol::id::DatabaseIdentity;
use protocol::launcher::{DatabaseProgram, ProcessState, Program};
use settings::text;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use wire::{Answer, Mode, Operation, Status};

/// A process that answered is given so long to answer again before it counts as unresponsive.
pub const SILENCE_ALLOWED: Duration = Duration::from_secs(5);

/// The driver of one member.
pub struct Model {
    settings: Settings,
    memory: Mutex<Memory>,
}

/// What one look leaves for the next.
struct Memory {
    /// The process that the rest is about.
    pid: Option<u32>,
    stream: Option<(SocketAddr, TcpStream)>,
    answered: Option<Instant>,
    phase: DatabasePhase,
    identity: Option<DatabaseIdentity>,
}

impl Memory {
    fn of(pid: Option<u32>) -> Self {
        Self { pid, stream: None, answered: None, phase: DatabasePhase::Unknown, identity: None }
    }
}

/// What came of asking.
enum Heard {
    Said(Box<Status>),
    /// Nobody listens.
    Closed,
    /// Somebody does, and says nothing.
    Silent,
}

impl Model {
    /// A driver for one member.
    pub fn new(settings: Settings) -> Self {
        Self { settings, memory: Mutex::new(Memory::of(None)) }
    }

    fn command(&self, arguments: &[&str]) -> Program {
        let mut argv = self.settings.program.clone();
        argv.push("model-database".to_owned());
        argv.extend(arguments.iter().map(|a| (*a).to_owned()));
        argv.push("--config".to_owned());
        argv.push(text(&self.settings.file()));
        Program { argv, env: BTreeMap::new() }
    }

    async fn look(&self, look: Look<'_>) -> DatabaseState {
        let memory = &mut *self.memory.lock().await;
        let running = match look.process {
            ProcessState::Running { pid, .. } | ProcessState::Draining { pid } | ProcessState::Stopping { pid } => {
                Some(*pid)
            }
            ProcessState::Held | ProcessState::Backoff { .. } | ProcessState::Stopped => None,
        };
        if memory.pid != running {
            // Nothing of one process is believed of the next.
            *memory = Memory::of(running);
        }
        let heard = match running {
            Some(_) => hear(memory, SocketAddr::new(look.address, self.settings.port), look.deadline).await,
            None => Heard::Closed,
        };
        if let Heard::Said(status) = &heard {
            memory.answered = Some(Instant::now());
            memory.identity = Some(status.identity.clone());
        }
        let phase = phase(look.process, &heard, memory);
        memory.phase = phase;
        let mut state = DatabaseState::bare(phase);
        // The same process keeps its identity also while it answers nothing.
        state.identity.clone_from(&memory.identity);
        state.disk = disk(&self.settings.volume);
        if let Heard::Said(status) = heard {
            state.version = Some(status.version);
            state.replication = Some(status.replication);
            state.streaming = status.streaming;
            state.load = Some(status.load);
            // Once it has left or drained it hears no gossip: what it last saw of the ring is not what is.
            if !matches!(status.mode, Mode::Starting | Mode::Left | Mode::Drained) {
                // There is no schema to disagree about.
                state.schema_agreed = Some(true);
                state.ring = Some(RingMember::in_order(status.ring));
            }
        }
        state
    }
}

/// Where the member's life stands.
fn phase(process: &ProcessState, heard: &Heard, memory: &Memory) -> DatabasePhase {
    match process {
        ProcessState::Held => DatabasePhase::Held,
        ProcessState::Backoff { crash_loop: true, .. } => DatabasePhase::CrashLooping,
        ProcessState::Backoff { crash_loop: false, .. } => DatabasePhase::Restarting,
        ProcessState::Draining { .. } | ProcessState::Stopping { .. } => DatabasePhase::Draining,
        ProcessState::Stopped => DatabasePhase::Stopped,
        ProcessState::Running { .. } => match (heard, memory.answered) {
            (Heard::Said(status), _) => match status.mode {
                Mode::Starting => DatabasePhase::Starting,
                Mode::Joining => DatabasePhase::Joining,
                Mode::Normal => DatabasePhase::Serving,
                Mode::Leaving => DatabasePhase::Leaving,
                Mode::Left => DatabasePhase::Left,
                Mode::Draining | Mode::Drained => DatabasePhase::Draining,
            },
            (Heard::Closed | Heard::Silent, None) => DatabasePhase::Starting,
            (Heard::Closed | Heard::Silent, Some(at)) if at.elapsed() > SILENCE_ALLOWED => DatabasePhase::Unresponsive,
            (Heard::Silent, Some(_)) => memory.phase,
            // It listens from its start to its end, so it has ended and the launcher has not said so yet.
            (Heard::Closed, Some(_)) => DatabasePhase::Unknown,
        },
    }
}

async fn hear(memory: &mut Memory, address: SocketAddr, deadline: Duration) -> Heard {
    // The connection is put back only after a whole answer: one that was cut off would answer the next question late.
    let kept = memory.stream.take().filter(|(at, _)| *at == address).map(|(_, stream)| stream);
    let talk = async {
        if let Some(mut stream) = kept
            && let Ok(answer) = wire::ask_on(&mut stream, &Operation::Status).await
        {
            return Ok((stream, answer));
        }
        let mut stream = TcpStream::connect(address).await.map_err(|_| Heard::Closed)?;
        match wire::ask_on(&mut stream, &Operation::Status).await {
            Ok(answer) => Ok((stream, answer)),
            Err(error) => {
                tracing::debug!(%error, %address, "the database did not say how it is");
                Err(Heard::Silent)
            }
        }
    };
    match timeout(deadline, talk).await {
        Ok(Ok((stream, Answer::Status(status)))) => {
            memory.stream = Some((address, stream));
            Heard::Said(status)
        }
        Ok(Ok((_, Answer::Done | Answer::Refused(_)))) | Err(_) => Heard::Silent,
        Ok(Err(heard)) => heard,
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

/// A founder and a member of long standing may start alone; whoever joins must not find itself among the seeds.
fn seeds(context: &StartContext) -> Result<Vec<IpAddr>, RenderError> {
    let mut seeds: BTreeSet<IpAddr> = context.seeds.iter().copied().collect();
    match context.kind {
        StartKind::Found => seeds = BTreeSet::from([context.address]),
        StartKind::Join => {
            seeds.remove(&context.address);
            if seeds.is_empty() {
                return Err(RenderError::NobodyToJoin { address: context.address });
            }
        }
        StartKind::Return => {
            seeds.insert(context.address);
        }
    }
    Ok(seeds.into_iter().collect())
}

fn check_name(name: &str) -> Result<(), RenderError> {
    let fits = (1..=64).contains(&name.chars().count())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.'));
    if fits { Ok(()) } else { Err(RenderError::Name { what: "the cluster's name", found: name.to_owned() }) }
}

impl Driver for Model {
    fn name(&self) -> &'static str {
        "model"
    }

    fn program(&self, context: &StartContext) -> Result<DatabaseProgram, RenderError> {
        check_name(&context.cluster_name)?;
        let config = ProcessConfig {
            cluster: context.cluster_name.clone(),
            address: context.address,
            port: self.settings.port,
            seeds: seeds(context)?,
            volume: self.settings.volume.clone(),
            behaviour: self.settings.behaviour.clone(),
        };
        // Texts, numbers and paths only; a path that is no text is the one thing that cannot be written.
        let rendered = serde_json::to_string_pretty(&config)
            .map_err(|error| RenderError::Overrides { reason: error.to_string() })?;
        Ok(DatabaseProgram {
            files: BTreeMap::from([(text(&self.settings.file()), rendered)]),
            run: self.command(&["run"]),
            drain: self.command(&["drain"]),
            leave: self.command(&["leave"]),
        })
    }

    fn volume(&self, _known: Option<&DatabaseIdentity>) -> VolumeState {
        // The identity lies readable on the volume, so what is known otherwise adds nothing.
        volume::look(&self.settings.volume)
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
        _members: &'a [IpAddr],
    ) -> BoxFuture<'a, Result<Option<IpAddr>, String>> {
        Box::pin(async move { Err(format!("{identity} cannot be replaced: the model database has no replacement")) })
    }

    fn step(&self, step: &LocalStep) -> Result<Program, RenderError> {
        match step {
            LocalStep::ReloadSeeds(context) => {
                let mut program = self.command(&["seeds"]);
                program.argv.extend(seeds(context)?.iter().map(ToString::to_string));
                Ok(program)
            }
            LocalStep::LimitStreaming { mebibytes_per_second } => {
                let mut program = self.command(&["limit"]);
                // A bound of nothing would never end.
                if let Some(rate) = mebibytes_per_second {
                    program.argv.push(((u64::from(*rate) << 20).max(1 << 20)).to_string());
                }
                Ok(program)
            }
            LocalStep::Repair => Err(RenderError::NoSuchStep { driver: "model", step: "repair" }),
            LocalStep::Status => Ok(self.command(&["status"])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        Model::new(Settings::new(vec!["sandbox".into()], "/pods/c-0/data".into(), "/pods/c-0/run".into()))
    }

    fn context(kind: StartKind, seeds: &[&str]) -> StartContext {
        StartContext {
            kind,
            cluster_name: "orders".into(),
            address: "127.3.0.1".parse().expect("address"),
            seeds: seeds.iter().map(|s| s.parse().expect("address")).collect(),
            data_center: "dc1".into(),
            rack: "a".into(),
            replaces: None,
        }
    }

    fn seeds_of(kind: StartKind, seeds: &[&str]) -> Vec<String> {
        let program = model().program(&context(kind, seeds)).expect("renders");
        let (path, content) = program.files.first_key_value().expect("one file");
        assert_eq!(path, "/pods/c-0/run/model-database.json");
        let config: ProcessConfig = serde_json::from_str(content).expect("reads back");
        config.seeds.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_a_founder_and_a_returner_are_their_own_seeds() {
        assert_eq!(seeds_of(StartKind::Found, &["127.3.0.2"]), ["127.3.0.1"]);
        assert_eq!(seeds_of(StartKind::Join, &["127.3.0.2", "127.3.0.1"]), ["127.3.0.2"]);
        assert_eq!(seeds_of(StartKind::Return, &["127.3.0.2"]), ["127.3.0.1", "127.3.0.2"]);
        let alone = model().program(&context(StartKind::Join, &["127.3.0.1"]));
        assert!(matches!(alone, Err(RenderError::NobodyToJoin { .. })));
    }

    #[test]
    fn equal_contexts_give_equal_programs_and_every_act_names_the_same_file() {
        let context = context(StartKind::Return, &["127.3.0.3", "127.3.0.2", "127.3.0.3"]);
        let program = model().program(&context).expect("renders");
        assert_eq!(Ok(&program), model().program(&context).as_ref());
        for (act, name) in [(&program.run, "run"), (&program.drain, "drain"), (&program.leave, "leave")] {
            assert_eq!(act.argv, ["sandbox", "model-database", name, "--config", "/pods/c-0/run/model-database.json"]);
        }
    }
}
