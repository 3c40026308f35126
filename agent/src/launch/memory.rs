//! What the launcher must not forget: what it may run, for whom, and whether it is leaving.

use protocol::id::{DatabaseIdentity, OperationId, Uid};
use protocol::launcher::{Care, DatabaseProgram, StartPermission};
use serde::{Deserialize, Serialize};

/// Everything the launcher keeps on its disk to act alone. An empty one starts nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// What to run.
    #[serde(default)]
    pub program: Option<DatabaseProgram>,
    /// Why it may; worthless to any pod but the one it names.
    #[serde(default)]
    pub permission: Option<StartPermission>,
    /// How a dying database is treated, where an agent has said so.
    #[serde(default)]
    pub care: Option<Care>,
    /// The leave that was granted.
    #[serde(default)]
    pub leave: Option<LeaveMemory>,
    /// Identities whose leave peers have confirmed: never started again.
    #[serde(default)]
    pub left: Vec<DatabaseIdentity>,
}

/// A leave that was granted, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaveMemory {
    /// Whose leave it is.
    pub operation: OperationId,
    /// The pod it was granted to. Another pod goes on with it only when it is told so again.
    pub pod: Uid,
    /// Times the leave program was started.
    pub tries: u32,
    /// Its last end: exit code and the end of what it printed.
    pub last: Option<(Option<i32>, String)>,
    /// The program said that it has left.
    pub done: bool,
}
