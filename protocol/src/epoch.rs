//! The number that orders coordinators for good.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which coordinator's time a write or order belongs to. Zero is before the first coordinator.
///
/// A new coordinator takes one more than every epoch it can find; nobody obeys or promises a lower one again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Before the first coordinator.
    pub const NONE: Self = Self(0);

    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
