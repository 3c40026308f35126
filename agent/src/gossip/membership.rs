//! What the rest of the pilot sees of gossip, whoever provides it.

use super::counters::GossipCounters;
use protocol::id::{Generation, PilotName};
use protocol::keys;
use protocol::view::Liveness;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The key a pilot sets to `1` when it goes for good: peers treat it as gone at once. Gossip's own.
pub const DEPARTING: &str = "departing";
/// The key under which a pilot publishes the mesh keys it accepts, as fingerprints. Gossip's own.
pub const KEYS: &str = "keys";

/// Values by key.
pub type Values = BTreeMap<String, String>;

/// Knowledge of the mesh: what this pilot says, and what it knows of all. Never authority.
pub trait Membership {
    /// Replaces everything this pilot says.
    ///
    /// # Errors
    /// When it is more than gossip can carry; then what it said before stands, whole.
    fn publish(&mut self, values: &Values) -> Result<(), PublishError>;

    /// What is known now.
    fn view(&self) -> Arc<MembershipView>;

    /// Where peers may be found: from DNS, EndpointSlices, a file of known peers. Replaces the addresses of before;
    /// to be told again for life, since every address changes one day.
    fn seeds(&mut self, addresses: &[SocketAddr]);
}

/// Why values were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Too many keys.
    #[error("{found} gossip keys are more than {}: say less, or join some in one value", keys::MOST_KEYS)]
    Keys {
        /// How many.
        found: usize,
    },
    /// One key or value is too long.
    #[error("gossip key `{key}` with its value has {found} bytes but may have {}: shorten it", keys::LONGEST_VALUE)]
    Value {
        /// Which.
        key: String,
        /// How long key and value are together.
        found: usize,
    },
    /// All together are too long.
    #[error("all gossip values together have {found} bytes but may have {}: say less", keys::MOST_BYTES)]
    Bytes {
        /// How many.
        found: usize,
    },
    /// A key of gossip itself.
    #[error("gossip key `{key}` is set by the gossip layer itself: choose another name")]
    Reserved {
        /// Which.
        key: String,
    },
}

/// Checks values against what gossip can carry. One that fits no datagram would never be sent, silently, and every
/// later one would wait behind it; so nothing is truncated and nothing is tried.
///
/// # Errors
/// As found.
pub fn check_values(values: &Values) -> Result<(), PublishError> {
    if values.len() > keys::MOST_KEYS {
        return Err(PublishError::Keys { found: values.len() });
    }
    let mut bytes = 0;
    for (key, value) in values {
        if key == DEPARTING || key == KEYS {
            return Err(PublishError::Reserved { key: key.clone() });
        }
        let found = key.len() + value.len();
        if found > keys::LONGEST_VALUE {
            return Err(PublishError::Value { key: key.clone(), found });
        }
        bytes += found;
    }
    if bytes > keys::MOST_BYTES {
        return Err(PublishError::Bytes { found: bytes });
    }
    Ok(())
}

/// What one pilot knows of the mesh at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct MembershipView {
    /// The moment, since the machine's start (`CLOCK_BOOTTIME`).
    pub at: Duration,
    /// The pilot itself.
    pub own: OwnView,
    /// The others by name, each in its newest life only.
    pub peers: BTreeMap<PilotName, PeerView>,
    /// The bytes of a digest that names every life known, before compression.
    pub digest_bytes: usize,
    /// The lives known, those being forgotten included.
    pub lives: usize,
    /// The process was asleep: peers are as they were before, until a full round has been heard again.
    pub woken: bool,
    /// Nothing genuine was heard for several rounds.
    pub lonely: bool,
    /// How often the gossip task was restarted.
    pub restarts: u64,
    /// What went wrong lately, oldest first; at most 16.
    pub incidents: Vec<Incident>,
    /// What was counted.
    pub counters: GossipCounters,
}

/// The pilot itself, as it stands in gossip.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnView {
    /// Its name.
    pub name: PilotName,
    /// Its life in gossip: higher than at its start where gossip had to be restarted.
    pub generation: Generation,
    /// Where peers reach it.
    pub address: SocketAddr,
    /// What it says.
    pub values: Arc<Values>,
}

/// One peer in its newest life.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerView {
    /// That life.
    pub generation: Generation,
    /// Where it says it is reached.
    pub address: SocketAddr,
    /// Whether it lives, as seen from here.
    pub liveness: Liveness,
    /// Whether it was live here at least once. One only heard of through others is neither alive nor dead.
    pub met: bool,
    /// How many beats it has sent.
    pub heartbeat: u64,
    /// Since when no fresh beat of it was seen, to within half a round.
    pub silence: Duration,
    /// The silence at which it counts as silent, while it is known well enough to say.
    pub timeout: Option<Duration>,
    /// Silence in units of its mean interval.
    pub phi: Option<f64>,
    /// What it says.
    pub values: Arc<Values>,
}

/// Something about gossip that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// When, since the machine's start.
    pub at: Duration,
    /// What.
    pub what: IncidentKind,
}

/// What may go wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IncidentKind {
    /// The gossip task ended and was started again under a new generation.
    TaskEnded {
        /// Why it ended.
        reason: String,
    },
    /// Another process speaks under this pilot's name, in this or a higher life; gossip restarts above it.
    NameTaken {
        /// The life it claims.
        generation: Generation,
    },
    /// No new generation could be persisted; gossip stays down until one can.
    NoGeneration {
        /// Why.
        reason: String,
    },
    /// The process was asleep.
    Woken {
        /// For how long.
        gap: Duration,
    },
}

impl std::fmt::Display for IncidentKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TaskEnded { reason } => write!(f, "the gossip task ended ({reason}) and was restarted"),
            Self::NameTaken { generation } => {
                write!(f, "another process gossips under this name in life {}", generation.0)
            }
            Self::NoGeneration { reason } => write!(f, "no new generation could be persisted: {reason}"),
            Self::Woken { gap } => write!(f, "the process was asleep for {} ms", gap.as_millis()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gossip_cannot_carry_is_refused_and_named() {
        let check =
            |pairs: &[(String, usize)]| check_values(&pairs.iter().map(|(k, n)| (k.clone(), "x".repeat(*n))).collect());
        let many = |n: usize, bytes| (0..n).map(|i| (format!("{i:03}"), bytes)).collect::<Vec<_>>();
        assert_eq!(check(&many(64, 100)), Ok(()));
        assert_eq!(check(&many(65, 1)), Err(PublishError::Keys { found: 65 }));
        assert_eq!(check(&many(1, 1021)), Ok(()));
        assert!(matches!(check(&many(1, 1022)), Err(PublishError::Value { found: 1025, .. })));
        assert_eq!(check(&many(9, 1000)), Err(PublishError::Bytes { found: 9027 }));
        assert!(matches!(check(&[(DEPARTING.to_owned(), 1)]), Err(PublishError::Reserved { .. })));
    }
}
