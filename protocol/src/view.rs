//! What one pilot knows of all.

use crate::id::{Generation, PilotId, PilotName};
use crate::report::{Report, Role};
use crate::time::{Millis, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How sure a pilot is that a peer's process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Liveness {
    /// Heard within its timeout.
    Live,
    /// Not heard for longer than its timeout: neither alive nor dead.
    Silent,
    /// It said goodbye.
    Departed,
}

/// One peer, in its newest life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its newest life.
    pub generation: Generation,
    /// Whether it lives.
    pub liveness: Liveness,
    /// The time it may be silent before it counts as silent, as the detector has it now.
    pub timeout: Option<Millis>,
    /// Silence divided by the mean silence; grows until `Silent`.
    pub phi: Option<f64>,
    /// What it said last, where that could be read. Shared: a view of hundreds is taken every round, and little of it
    /// changes.
    pub report: Option<Arc<Report>>,
}

/// What one pilot knows of all: merged from reports and liveness. A hint, never authority.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct View {
    /// When it was taken, on this pilot's clock.
    pub at: Timestamp,
    /// The others, by name: the newest life of each only. The pilot itself is not among them.
    pub peers: BTreeMap<PilotName, Peer>,
    /// The process was asleep: what it holds of others is from before, and must be earned anew.
    pub woken: bool,
    /// Nobody was heard for several rounds although there are others.
    pub lonely: bool,
    /// Bytes of the digest that names everybody.
    pub digest_bytes: usize,
}

impl View {
    /// The live peers with a readable report.
    pub fn live(&self) -> impl Iterator<Item = (&PilotName, &Peer, &Report)> {
        self.peers.iter().filter_map(|(name, peer)| {
            let report = peer.report.as_deref()?;
            (peer.liveness == Liveness::Live).then_some((name, peer, report))
        })
    }

    /// What this peer says, in whatever life, if it is live and that can be read.
    pub fn live_report(&self, name: &PilotName) -> Option<&Report> {
        self.peers.get(name).filter(|peer| peer.liveness == Liveness::Live)?.report.as_deref()
    }

    /// Whether this peer, in whatever life, is live and its report is readable.
    pub fn hears(&self, name: &PilotName) -> bool {
        self.live_report(name).is_some()
    }

    /// Whether this life of this peer is live.
    pub fn is_live(&self, id: &PilotId) -> bool {
        self.peers.get(&id.name).is_some_and(|p| p.generation == id.generation && p.liveness == Liveness::Live)
    }

    /// The live peer that says it coordinates, at the highest epoch.
    pub fn coordinator(&self) -> Option<(PilotId, crate::epoch::Epoch)> {
        self.live()
            .filter_map(|(name, peer, report)| match &report.mesh.role {
                Role::Coordinator { epoch, .. } => {
                    Some((PilotId { name: name.clone(), generation: peer.generation }, *epoch))
                }
                Role::Follower => None,
            })
            .max_by_key(|(_, epoch)| *epoch)
    }
}
