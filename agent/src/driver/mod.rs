//! What the pilot must know of a database, and of nothing else: one trait, one folder per database.
//!
//! A driver translates. It renders what starts and ends a process, looks at it, and names what it sees in the words of
//! [`protocol::database`]; it contains no policy, and no decision is hidden in it. Whatever it cannot tell is said as
//! `Unknown` or `None`, never guessed.

pub mod cassandra;
pub mod model;

use protocol::database::{DatabaseState, VolumeState};
use protocol::id::DatabaseIdentity;
use protocol::launcher::{DatabaseProgram, ProcessState, Program, ToolOutcome};
use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A future that a trait object returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One database, as its pilot handles it.
pub trait Driver: Send + Sync {
    /// The database's name in settings, reports and metrics: `cassandra`.
    fn name(&self) -> &'static str;

    /// The files, arguments and variables that start the database, drain it and make it leave.
    ///
    /// Pure: equal contexts give equal programs, so that comparing two programs tells whether a restart would change
    /// anything.
    ///
    /// # Errors
    /// When the context breaks a rule of the database, or the user's own settings cannot be read.
    fn program(&self, context: &StartContext) -> Result<DatabaseProgram, RenderError>;

    /// What lies on the volume. Only meaningful while no process runs on it.
    ///
    /// `known` is the identity that this pilot has durably recorded for this volume. Where data is found, and the
    /// driver cannot read the identity out of it, `known` is what it is reported as; without it the data is
    /// [`VolumeState::HoldsUnknown`]. Blocks on the file system: call it from a blocking thread.
    fn volume(&self, known: Option<&DatabaseIdentity>) -> VolumeState;

    /// Moves all data of a retired identity into a folder named `label` beside it, on the same volume.
    ///
    /// Deletes nothing and overwrites nothing. Cut off at any point it is finished by calling it again with the same
    /// label; once finished, another call with that label does nothing, whatever was written since. Must not be called
    /// while a process runs on the data. Blocks on the file system.
    ///
    /// # Errors
    /// When the file system refuses; what was moved stays moved and the volume does not look empty.
    fn move_aside(&self, label: &str) -> Result<MovedAside, VolumeError>;

    /// One look at the database. Returns within `look.deadline`, also where the process answers nothing.
    ///
    /// Never an error: what could not be seen is unknown. Calls do not overlap: one owner asks again and again, and
    /// the driver may compare a look with the previous one.
    fn probe<'a>(&'a self, look: Look<'a>) -> BoxFuture<'a, DatabaseState>;

    /// Where a member that is down was reached last, as one of these members of its cluster knows it: what a start that
    /// [replaces](StartContext::replaces) it has to name. `None` where all of them were asked and none has it any more: the
    /// replacement has taken its part over already.
    ///
    /// # Errors
    /// When none has told it, and not all could be asked; with what was tried.
    fn last_address<'a>(
        &'a self,
        identity: &'a DatabaseIdentity,
        members: &'a [IpAddr],
    ) -> BoxFuture<'a, Result<Option<IpAddr>, String>>;

    /// The program that carries out one local step beside the running database.
    ///
    /// # Errors
    /// When this database has no such step, or its context breaks a rule.
    fn step(&self, step: &LocalStep) -> Result<Program, RenderError>;
}

/// How a start comes about. It decides through whom the process finds its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartKind {
    /// The first member of a new cluster.
    Found,
    /// A new member of a cluster that is there. Also a join that was cut off and goes on.
    Join,
    /// A member that has been one before comes back on its data.
    Return,
}

/// What must be known to render a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartContext {
    /// How it comes about.
    pub kind: StartKind,
    /// The database cluster's own name; never changed once it is formed.
    pub cluster_name: String,
    /// Where this process is reached by the other members and by clients.
    pub address: IpAddr,
    /// Where the current members are. Whether this process may be among them is the driver's business.
    pub seeds: Vec<IpAddr>,
    /// The data centre of this member.
    pub data_center: String,
    /// The rack (failure domain) of this member.
    pub rack: String,
    /// Where the member was whose part a joiner takes over, because that one's data is lost.
    pub replaces: Option<IpAddr>,
}

/// One look at a database: what the driver may use for it.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// What the launcher says the process does.
    pub process: &'a ProcessState,
    /// Where the process listens.
    pub address: IpAddr,
    /// Runs tools beside the process; a look may leave one running and read its answer in a later look.
    pub tools: &'a Arc<dyn ToolRunner>,
    /// The look ends after so long with what was seen until then.
    pub deadline: Duration,
}

/// A small step that concerns only this member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalStep {
    /// Takes note of the members' present addresses without a restart. The context is that of the running process
    /// with new `seeds`.
    ReloadSeeds(StartContext),
    /// Bounds the data this member sends to others when the ring changes; `None` lifts the bound.
    LimitStreaming {
        /// Mebibytes a second.
        mebibytes_per_second: Option<u32>,
    },
    /// Makes this member and the others that hold copies of its data agree about all of it; those that are down are left out.
    Repair,
    /// Prints the ring as this member sees it, for a person.
    Status,
}

/// Runs a tool where the database runs. Behind it is the launcher, or, in tests, the machine itself.
pub trait ToolRunner: Send + Sync {
    /// Runs it to its end, at most for `timeout`.
    ///
    /// # Errors
    /// When it is not known what the tool did.
    fn run<'a>(&'a self, program: &'a Program, timeout: Duration) -> BoxFuture<'a, Result<ToolOutcome, ToolError>>;
}

/// A tool's outcome is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// There is nobody to run it.
    #[error("`{program}` was not run: the launcher cannot be reached ({reason})")]
    NoLauncher {
        /// The program.
        program: String,
        /// What the connection said.
        reason: String,
    },
    /// The launcher refused.
    #[error("`{program}` was not run: the launcher refused it ({reason})")]
    Refused {
        /// The program.
        program: String,
        /// Its reason.
        reason: String,
    },
}

/// What [`Driver::move_aside`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MovedAside {
    /// There was no data.
    Nothing,
    /// It lies there now.
    Moved(PathBuf),
    /// An earlier call with the same label had moved it there; nothing was touched.
    Already(PathBuf),
}

/// Why nothing can be rendered. The found value, the rule, the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A join without anybody to join.
    #[error(
        "{address} is to join, but no current member other than itself is known: name at least one, or found a cluster"
    )]
    NobodyToJoin {
        /// Who wanted to join.
        address: IpAddr,
    },
    /// A replacement at the very address of whom it replaces.
    #[error(
        "{address} is the address of the member that is replaced, too, and its database would take over that one's retired \
         identity with it: delete this pod, so that it gets another address"
    )]
    SameAddress {
        /// Both.
        address: IpAddr,
    },
    /// An empty name, or one that the database cannot carry.
    #[error("{what} is `{found}` but must be 1 to 64 letters, digits, spaces, `-`, `_` or `.`: choose another name")]
    Name {
        /// Which name.
        what: &'static str,
        /// Its value.
        found: String,
    },
    /// The user's own settings file is no mapping.
    #[error(
        "the database settings given by the user cannot be read ({reason}): give a YAML mapping of setting to value"
    )]
    Overrides {
        /// What is wrong with it.
        reason: String,
    },
    /// The database has no such step.
    #[error("{driver} has no step `{step}`")]
    NoSuchStep {
        /// The driver.
        driver: &'static str,
        /// The step.
        step: &'static str,
    },
}

/// The file system refused.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The label cannot be a folder's name.
    #[error(
        "`{found}` cannot name a folder for retired data: use 1 to 100 letters, digits, `-`, `_` or `.`, not beginning with `.`"
    )]
    Label {
        /// The label.
        found: String,
    },
    /// Reading, making or moving failed.
    #[error("cannot {doing} {path}: {source}; mend the file system, then the step is taken up where it ended", path = path.display())]
    Io {
        /// What was being attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Both the live folder and the retired one hold the same part.
    #[error("{path} exists already, so the data beside it cannot be moved there: look at both, keep one", path = path.display())]
    Occupied {
        /// The target.
        path: PathBuf,
    },
}
