//! All that can wake a pilot. A closed list: what is not here cannot move it.

use crate::kubernetes::call::{Answer, Failure};
use protocol::database::{DatabaseState, VolumeState};
use protocol::id::PilotId;
use protocol::launcher::LauncherStatus;
use protocol::message::Message;
use protocol::view::View;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Time went by; several times a second.
    Tick,
    /// A new look at the mesh.
    View(Box<View>),
    /// A stream to a peer stands.
    StreamUp(PilotId),
    /// A stream to a peer ended; whether its process was found ended too.
    StreamEnded {
        /// Whose.
        peer: PilotId,
        /// The connection closed and a new one was refused.
        process_ended: bool,
    },
    /// A peer said something. The stream has proved who it is.
    Message(PilotId, Message),
    /// A call came back.
    Api {
        /// Which.
        id: CallId,
        /// What it came to.
        result: Result<Answer, Failure>,
    },
    /// What was to be kept is on disk: everything up to this number.
    Kept(u64),
    /// It could not be written.
    NotKept(u64, String),
    /// The launcher told its state; `None`: there is no talking to it.
    Launcher(Option<Box<LauncherStatus>>),
    /// A look at the database.
    Database(Box<DatabaseState>),
    /// A look at the volume.
    Volume(VolumeState),
    /// A local act is done, or was refused.
    Local {
        /// Which.
        id: u64,
        /// What it came to.
        result: Result<(), String>,
    },
    /// The policy was replaced by a checked one.
    Policy(Box<crate::pilot::Rules>),
    /// This process was told to end.
    Terminate,
}

/// Names one call of one pilot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);
