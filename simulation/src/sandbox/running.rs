//! From a folder to a running sandbox that is shown, and to its orderly end: what the tour and `up` share.

use super::client::RowCount;
use super::distribution::{CassandraHome, FetchError, Progress, ensure_cassandra};
use super::engine::{Database, Options, Sandbox, SandboxError};
use super::home::{Home, HomeError, Kind, processes_of};
use super::process::{self, Signal};
use super::show::tale::Tale;
use super::show::{Form, Show, Sources};
use super::stop::Stop;
use crate::story::Stage;
use policies::policy::Policy;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;

/// What is in force where no policy file is given.
pub const POLICY: &str = "\
# The balanced preset as it is. Edit this file: pilots read it again by themselves.
apiVersion: pilotmesh.io/v1alpha1
kind: ClusterPolicy
metadata: { name: sandbox }
spec: {}
";

/// Processes that outlive the end are given so long before they are killed.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// Why a sandbox could not be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Cassandra.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The folder.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The engine.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The policy file.
    #[error("{0}")]
    Policy(String),
    /// Anything the system refused.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was being attempted.
        doing: &'static str,
        /// What it said.
        source: std::io::Error,
    },
}

/// What a sandbox is run with.
pub struct Plan {
    /// Its folder, ours.
    pub home: Home,
    /// Pods at first.
    pub replicas: u32,
    /// The policy file's text; `None` keeps what lies there.
    pub policy: Option<String>,
    /// The pods' grace period in seconds.
    pub grace: u64,
    /// Bounds streaming, in MiB a second.
    pub streaming: Option<u32>,
}

/// A sandbox that runs and is shown.
pub struct Running {
    /// The stage around it.
    pub stage: Stage,
    /// Tells the show of the writer.
    pub rows: watch::Sender<Option<RowCount>>,
    /// Tells the show of the story.
    pub tale: watch::Sender<Tale>,
    show: Show,
    home: Home,
}

/// Reads a policy file and names all its faults.
///
/// # Errors
/// When it cannot be read, or is none.
pub fn read_policy(path: &Path) -> Result<String, RunError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| RunError::Policy(format!("cannot read the policy {}: {error}", path.display())))?;
    Policy::parse(&text, &path.display().to_string()).map_err(|faults| RunError::Policy(faults.to_string()))?;
    Ok(text)
}

/// The database, fetched where it must be.
async fn database(kind: Kind, progress: Progress) -> Result<Database, RunError> {
    match kind {
        Kind::Model => Ok(Database::Model),
        Kind::Cassandra => {
            let fetched: Result<CassandraHome, FetchError> =
                tokio::task::spawn_blocking(move || ensure_cassandra(progress)).await.map_err(|error| {
                    RunError::System { doing: "fetch Cassandra", source: std::io::Error::other(error) }
                })?;
            Ok(Database::Cassandra(fetched?))
        }
    }
}

/// The sandbox's own words go to a file: the terminal is taken.
fn log_to(path: &Path) -> Result<(), RunError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|source| RunError::System { doing: "make the folder of logs", source })?;
    }
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|source| RunError::System { doing: "open the sandbox's log", source })?;
    let begun = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new("info,scylla=off"))
        .with_writer(std::sync::Mutex::new(file))
        .with_ansi(false)
        .try_init();
    begun.map_err(|error| RunError::System { doing: "write logs", source: std::io::Error::other(error) })
}

/// What people call a database.
pub fn title(database: &Database) -> String {
    match database {
        Database::Cassandra(home) => format!("Apache Cassandra {}", home.version),
        Database::Model => "model database".to_owned(),
    }
}

impl Running {
    /// Starts everything.
    ///
    /// # Errors
    /// When Cassandra cannot be had, or the folder not be used.
    pub async fn start(plan: Plan, form: Form, tale: Tale, footer: String, stop: Stop) -> Result<Self, RunError> {
        let Plan { home, replicas, policy, grace, streaming } = plan;
        let progress = if form == Form::Json { Progress::Silent } else { Progress::Shown };
        let database = database(home.made.database, progress).await?;
        log_to(&home.layout.own_log())?;
        let kept = std::fs::read_to_string(home.layout.policy()).ok();
        let policy = policy.or(kept).unwrap_or_else(|| POLICY.to_owned());
        let title = title(&database);
        let options = Options {
            layout: home.layout.clone(),
            replicas,
            database,
            policy,
            pilot: None,
            stock_timing: false,
            grace,
            octet: home.made.octet,
            streaming,
        };
        let stage = Stage::new(Sandbox::start(options).await?);
        let (rows, rows_seen) = watch::channel(None);
        let (tale, tale_seen) = watch::channel(tale);
        let sources = Sources {
            snapshots: stage.observer.changes(),
            notes: stage.notes(),
            tale: tale_seen,
            rows: rows_seen,
            title,
            footer,
            dir: home.layout.root().to_owned(),
            kubeconfig: home.layout.kubeconfig("admin"),
        };
        let show = Show::start(form, sources, stop);
        Ok(Self { stage, rows, tale, show, home })
    }

    /// Ends everything in order: databases drained, pilots, API. Whatever is left then is killed and named; asked a
    /// second time, everything is killed at once. Returns the folder, still ours, and what had to be killed.
    pub async fn end(self, stop: &Stop) -> (Home, Vec<String>) {
        let Self { mut stage, show, home, .. } = self;
        stage.say("ending: databases drain, then pilots end (once more, and they are killed)");
        if let Some(writer) = stage.writer.take() {
            drop(writer);
        }
        let dir: PathBuf = home.layout.root().to_owned();
        let hurry = async {
            stop.wanted(2).await;
            kill(&dir);
        };
        let Stage { sandbox, .. } = stage;
        let shutdown = sandbox.shutdown();
        tokio::pin!(shutdown);
        tokio::select! {
            () = &mut shutdown => {}
            () = hurry => shutdown.await,
        }
        show.end().await;
        let begun = tokio::time::Instant::now();
        let mut named = Vec::new();
        loop {
            let left = processes_of(&dir);
            if left.is_empty() {
                return (home, named);
            }
            if begun.elapsed() > LAST_PATIENCE {
                named = left.iter().map(|p| format!("{} {}", p.pid, p.command)).collect();
                kill(&dir);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn kill(dir: &Path) {
    for left in processes_of(dir) {
        process::signal(left.pid, Signal::Kill);
    }
}
