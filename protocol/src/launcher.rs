//! The talk between an agent and the launcher of its database container: JSON lines over a Unix socket.
//!
//! **Frozen.** A launcher may be many versions older than its agent, because upgrading the agent never restarts the
//! database. Fields may be added with a default; none is removed, renamed or given a new meaning. A launcher ignores
//! fields it does not know and answers [`Reply::Unsupported`] to requests it does not know.

use crate::id::{DatabaseIdentity, OperationId, Uid};
use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of this talk.
pub const LAUNCHER_PROTOCOL: u32 = 1;

/// The longest line either side accepts, in bytes.
pub const LONGEST_LINE: usize = 1 << 20;

/// How to run a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The program and its arguments; empty only where [`DatabaseProgram`] gives that a meaning.
    pub argv: Vec<String>,
    /// Variables added to the launcher's own environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// Everything the launcher needs to run and end the database without its agent. Kept on its disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseProgram {
    /// Files written before each start: absolute path to content.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Starts the database in the foreground. With an empty `argv`: the command the launcher was given.
    pub run: Program,
    /// Makes the database take no more writes and flush; ends by itself. With an empty `argv`: the stop signal suffices.
    pub drain: Program,
    /// Makes the database leave its cluster for good; ends by itself, with 0 only when it has left. With an empty `argv`:
    /// a leave is refused.
    pub leave: Program,
}

/// Permission to start, kept on the launcher's disk: as long as it lies there for this pod, a crashed database is
/// started again without asking anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartPermission {
    /// The pod it was given to: worthless to any other.
    pub pod: Uid,
    /// The identity whose data may be started; `None` for the first start of a new member.
    pub identity: Option<DatabaseIdentity>,
}

/// How a dying database is treated. Kept on the launcher's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Care {
    /// First pause before starting a crashed database again; doubled each time.
    pub backoff_from: Millis,
    /// Longest such pause.
    pub backoff_to: Millis,
    /// So many unintended ends within `crash_within` are a crash loop.
    pub crash_exits: u32,
    /// See `crash_exits`. A run longer than this also resets the pause.
    pub crash_within: Millis,
    /// From the stop signal to the kill signal.
    pub stop_timeout: Millis,
    /// Before the end of the pod's grace period, so much is kept for drain and stop when no answer came.
    pub time_to_drain: Millis,
}

/// What an agent asks. Each line carries a number that its reply repeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Repeated in the reply.
    pub id: u64,
    /// What is asked.
    pub ask: Ask,
}

/// The requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// The state now; afterwards every change is pushed as [`Line::Changed`].
    Watch,
    /// Replaces how a dying database is treated.
    Care(Care),
    /// Starts the database, or only renews the permission where it runs already.
    Start {
        /// What to run.
        program: DatabaseProgram,
        /// Why it may.
        permission: StartPermission,
    },
    /// Withdraws the permission and stops the database (stop signal, then kill). The launcher stays.
    Stop,
    /// Drains, stops and, in a terminating pod, ends: the member means to return. Withdraws the permission, but in a
    /// terminating launcher: should only this container have ended, it comes back by itself.
    DrainAndStop,
    /// The member may leave its cluster: runs `leave`, also alone, again after a failure or a restart, until it has left.
    /// Repeating it with the same operation changes nothing, but that in a new pod it takes up a leave begun before.
    Leave {
        /// Whose leave it is.
        operation: OperationId,
    },
    /// Peers have confirmed that it left: stop, and in a terminating pod end. Withdraws the permission for good: no later
    /// permission for the identity that left is taken.
    EndAfterLeave {
        /// Whose leave it was.
        operation: OperationId,
    },
    /// The pod's grace period ends so much after this was sent.
    Deadline {
        /// From now.
        left: Millis,
    },
    /// Runs a tool beside the database and returns what it printed.
    Tool {
        /// What to run.
        program: Program,
        /// It is killed after so long.
        timeout: Millis,
    },
    /// Sends a stop signal, runs nothing, starts it again at once: the database is restarted where it stands. Ends a
    /// pause after a crash. Refused without a permission, in a terminating launcher and while `leave` runs.
    Restart,
}

/// What a launcher says: one a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// The answer to the request of this number.
    Reply {
        /// The request's number.
        id: u64,
        /// The answer.
        reply: Reply,
    },
    /// Something changed.
    Changed(LauncherStatus),
}

/// The answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The state, now.
    Status(LauncherStatus),
    /// Taken; what comes of it is pushed.
    Accepted,
    /// Refused, and why: nothing was changed.
    Refused(String),
    /// This launcher is older than the request.
    Unsupported,
    /// What a tool did.
    Tool(ToolOutcome),
}

/// What a tool did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolOutcome {
    /// Exit code; `None` where a signal ended it or it could not be started.
    pub code: Option<i32>,
    /// The last 64 kB of its output.
    pub stdout: String,
    /// The last 64 kB of its complaints.
    pub stderr: String,
    /// It was killed because its time was over.
    pub timed_out: bool,
}

/// What the launcher knows of its database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LauncherStatus {
    /// See [`LAUNCHER_PROTOCOL`].
    pub protocol: u32,
    /// Counts changes: a greater one is newer, within one life of the launcher.
    pub revision: u64,
    /// A number drawn at each start of the launcher.
    pub life: u64,
    /// What the process does.
    pub process: ProcessState,
    /// The stop signal has reached the launcher: the pod, or at least this container, is ending.
    pub terminating: bool,
    /// Milliseconds since `terminating` began, when this was said.
    #[serde(default)]
    pub terminating_for: Option<Millis>,
    /// The permission on disk.
    pub permission: Option<StartPermission>,
    /// The leave it carries out or has carried out.
    pub leave: Option<LeaveState>,
    /// Starts of the database in all, kept on the volume.
    pub starts: u64,
    /// Ends that nobody asked for, kept on the volume.
    pub unintended_ends: u64,
    /// The last ends, oldest first, at most ten.
    pub ends: Vec<ProcessEnd>,
    /// Resident memory of the database in bytes, if it runs.
    #[serde(default)]
    pub resident: Option<u64>,
    /// Its open files.
    #[serde(default)]
    pub open_files: Option<u64>,
    /// Until the pod's grace period ends, when this was said; `None` where it does not end.
    #[serde(default)]
    pub deadline_left: Option<Millis>,
    /// What a person should know (a damaged file, a program that does not start), oldest first, at most five.
    #[serde(default)]
    pub notices: Vec<String>,
}

/// What the database process does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessState {
    /// Not started: no permission.
    Held,
    /// Runs.
    Running {
        /// Process id, in the launcher's namespace.
        pid: u32,
        /// Since so long, when this was said.
        since: Millis,
    },
    /// Died, or could not be started, and waits to be started again.
    Backoff {
        /// Unintended ends in a row.
        failures: u32,
        /// It is a crash loop by [`Care`].
        crash_loop: bool,
        /// Started again in so long, when this was said.
        left: Millis,
    },
    /// Drains before it stops.
    Draining {
        /// Process id.
        pid: u32,
    },
    /// Was told to stop and has not ended yet.
    Stopping {
        /// Process id.
        pid: u32,
    },
    /// Ended as asked; will not be started again without a new permission.
    Stopped,
}

/// How a leave goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaveState {
    /// Whose leave it is.
    pub operation: OperationId,
    /// Times the leave program was started.
    pub tries: u32,
    /// It runs now.
    pub running: bool,
    /// Its last end: exit code and the end of what it printed.
    pub last: Option<(Option<i32>, String)>,
    /// The program said that it has left. Peers are asked before anybody believes it.
    pub done: bool,
}

/// One end of the database process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessEnd {
    /// Exit code, if it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Nobody had asked for it.
    pub unintended: bool,
    /// The kernel's count of kills for lack of memory had grown.
    pub out_of_memory: bool,
    /// It had run for so long.
    pub ran: Millis,
}
