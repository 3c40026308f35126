//! A mesh to be measured: a sandbox of pilots over the model database, in a folder of its own.

use crate::sandbox::engine::{Database, Options, PodView, Sandbox, SandboxError};
use crate::sandbox::home::{Home, HomeError, Kind, Wish, processes_of};
use crate::sandbox::process::{self, Signal};
use crate::story::observer::Observer;
use crate::story::{Snapshot, StoryError};
use protocol::epoch::Epoch;
use protocol::id::PilotId;
use protocol::view::Liveness;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A mesh comes to rest within this, and so much more for each pilot, which join one after the other; or the measurement
/// is given up.
const PATIENCE: Duration = Duration::from_secs(300);
/// See [`PATIENCE`].
const PATIENCE_EACH: Duration = Duration::from_secs(20);
/// The balanced preset, but for the pause after each join: forming is not what is measured.
const POLICY: &str = "\
apiVersion: pilotmesh.io/v1alpha1
kind: ClusterPolicy
metadata: { name: bench }
spec:
  scale: { bounds: { min: 3, max: 100 }, settle: 0s }
";
/// Quiet after a mesh has come to rest: detectors see regular rounds again before the next fault.
const QUIET: Duration = Duration::from_secs(5);
/// Processes that outlive the end are given so long before they are killed.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// Why a mesh could not be measured.
#[derive(Debug, thiserror::Error)]
pub(super) enum BenchError {
    /// The folder.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The sandbox.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// It did not come to rest.
    #[error(transparent)]
    Story(#[from] StoryError),
    /// Anything the system refused.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was being attempted.
        doing: &'static str,
        /// What it said.
        source: std::io::Error,
    },
    /// Measuring took too long, or was stopped.
    #[error("{0}")]
    Ended(String),
}

/// A mesh of pilots. Nobody looks at it unless somebody measures: looking costs the pilots time.
pub(super) struct Mesh {
    /// The sandbox.
    pub(super) sandbox: Sandbox,
    /// Its pilots.
    pub(super) size: usize,
    home: Home,
    folder: tempfile::TempDir,
}

/// A mesh at rest.
pub(super) struct Rest {
    /// Who coordinates.
    pub(super) coordinator: PilotId,
    /// At which epoch.
    pub(super) epoch: Epoch,
    /// All pilots in their present lives, in order of ordinal.
    pub(super) pilots: Vec<(PilotId, PodView)>,
}

impl Mesh {
    /// Starts the pilots, of this build where one is named; they form the mesh by themselves.
    pub(super) async fn start(size: usize, pilot: Option<&PathBuf>) -> Result<Self, BenchError> {
        let folder = tempfile::Builder::new()
            .prefix("pilotmesh-bench-")
            .tempdir()
            .map_err(|source| BenchError::System { doing: "make a temporary folder", source })?;
        let home = Home::take(folder.path(), Wish { database: Some(Kind::Model), ..Wish::default() })?;
        let options = Options {
            layout: home.layout.clone(),
            replicas: u32::try_from(size).unwrap_or(u32::MAX),
            database: Database::Model,
            policy: POLICY.to_owned(),
            pilot: pilot.cloned(),
            stock_timing: false,
            grace: 60,
            octet: home.made.octet,
            streaming: None,
        };
        Ok(Self { sandbox: Sandbox::start(options).await?, size, home, folder })
    }

    /// Waits until every member serves, every pilot holds every other live, and all name one coordinator; and then
    /// for some quiet.
    pub(super) async fn rest(&self) -> Result<Rest, BenchError> {
        let sandbox = &self.sandbox;
        let observer = Observer::start(sandbox.api().clone(), sandbox.contacts(), sandbox.pods_reader());
        let mut looks = observer.changes();
        let begun = Instant::now();
        let patience = PATIENCE + PATIENCE_EACH * u32::try_from(self.size).unwrap_or(u32::MAX);
        loop {
            let seen = looks.borrow_and_update().clone();
            if let Some(rest) = at_rest(&seen, self.size) {
                drop(observer);
                tokio::time::sleep(QUIET).await;
                return Ok(rest);
            }
            let waited = begun.elapsed();
            let left = patience.saturating_sub(waited);
            if left.is_zero() || tokio::time::timeout(left, looks.changed()).await.is_err() {
                let what = format!("a mesh of {} at rest", self.size);
                return Err(StoryError::Late { what, waited, seen: seen.describe() }.into());
            }
        }
    }

    /// Sends a signal to a pilot's agent.
    pub(super) fn signal(&self, pod: &str, signal: Signal) -> Result<(), BenchError> {
        if self.sandbox.signal(pod, "pilot", signal) {
            return Ok(());
        }
        Err(StoryError::Wrong(format!("{pod} runs no pilot")).into())
    }

    /// Ends every process. Returns those that had to be killed.
    pub(super) async fn end(self) -> Vec<String> {
        let Self { sandbox, home, folder, .. } = self;
        sandbox.shutdown().await;
        let begun = Instant::now();
        let mut killed = Vec::new();
        loop {
            let left = processes_of(home.layout.root());
            if left.is_empty() {
                break;
            }
            if begun.elapsed() > LAST_PATIENCE {
                killed = left.iter().map(|p| format!("{} {}", p.pid, p.command)).collect();
                left.iter().for_each(|p| process::signal(p.pid, Signal::Kill));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        drop(home);
        if let Err(error) = folder.close() {
            eprintln!("bench: the temporary folder stays behind: {error}");
        }
        killed
    }
}

fn at_rest(seen: &Snapshot, size: usize) -> Option<Rest> {
    if !seen.is_settled(size) || seen.states.len() != size {
        return None;
    }
    let (name, epoch) = seen.coordinator()?;
    let all_agree = seen.states.values().all(|state| {
        let follows = state
            .coordinator
            .as_ref()
            .is_some_and(|c| c.pilot.as_str() == name && c.epoch == epoch && c.degraded.is_none());
        follows && state.members.len() == size && state.members.iter().all(|m| is_current(seen, m))
    });
    if !all_agree {
        return None;
    }
    let life =
        |pod: &str| seen.states.get(pod).map(|s| PilotId { name: s.me.name.clone(), generation: s.me.generation });
    Some(Rest {
        coordinator: life(&name)?,
        epoch,
        pilots: seen.pods.iter().map(|p| Some((life(&p.name)?, p.clone()))).collect::<Option<_>>()?,
    })
}

/// This member is live, in the life that its own pilot tells.
fn is_current(seen: &Snapshot, member: &agent::pilot::state::MemberState) -> bool {
    let own = seen.states.get(member.name.as_str());
    member.liveness == Liveness::Live && own.is_some_and(|s| s.me.generation == member.generation)
}
