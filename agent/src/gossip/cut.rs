//! A cut made on purpose, to see what a mesh does about it.

use protocol::id::PilotName;
use std::collections::BTreeSet;

/// Whose traffic is dropped, both ways. Only a pilot that was started with cuts allowed obeys one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Cut {
    /// Nobody's: the mesh is whole.
    #[default]
    Nobody,
    /// That of these pilots.
    From(BTreeSet<PilotName>),
    /// Everybody's.
    All,
}

impl Cut {
    /// Whether traffic with this pilot is dropped.
    pub fn hides(&self, name: &str) -> bool {
        match self {
            Self::Nobody => false,
            Self::From(names) => names.iter().any(|cut| cut.as_str() == name),
            Self::All => true,
        }
    }

    /// Whether traffic with somebody whose name is not known is dropped: it might be one of those.
    pub fn hides_strangers(&self) -> bool {
        *self != Self::Nobody
    }
}

/// The pilot was not started with cuts allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cuts are not allowed on this pilot: they are for fault tests, start it with them allowed")]
pub struct CutsNotAllowed;
