//! The state endpoint's document: everything this pilot knows, as people and tools read it.
//!
//! Fields are added, never renamed or removed, within `version`.

use super::Pilot;
use super::decisions::Entry;
use protocol::epoch::Epoch;
use protocol::id::{ClusterId, Generation, PilotName, Voter};
use protocol::promise::Promise;
use protocol::report::{ApiReach, Brief, DatabaseReport, OperationReport, Report, Role};
use protocol::time::{Millis, Timestamp};
use protocol::view::Liveness;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The document behind `/state`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateDocument {
    /// The form of this document: `1`.
    pub version: u32,
    /// The answering pilot.
    #[serde(rename = "self")]
    pub me: SelfState,
    /// Who coordinates, as far as this pilot has heard.
    pub coordinator: Option<CoordinatorState>,
    /// Every pilot it knows, itself included, in order of name.
    pub members: Vec<MemberState>,
    /// The operation under way.
    pub operation: Option<OperationReport>,
    /// The policy it runs.
    pub policy: PolicyState,
    /// The pilots that count for quorum, as it was told last.
    pub roster: Vec<Voter>,
    /// The cluster, once formed.
    pub cluster: Option<ClusterId>,
    /// The mesh's own figures.
    pub gossip: GossipState,
}

/// The answering pilot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelfState {
    /// Its pod.
    pub name: PilotName,
    /// Its life.
    pub generation: Generation,
    /// Its part.
    pub role: Role,
    /// The last promise it gave.
    pub promise: Option<Promise>,
    /// The lowest epoch it would promise; none while it does not know.
    pub floor: Option<Epoch>,
    /// Whether it reaches the Kubernetes API.
    pub api: ApiReach,
    /// Milliseconds on its own clock.
    pub now: Timestamp,
    /// Its last trouble with its own member, if any.
    pub trouble: Option<String>,
    /// Its version.
    pub version: String,
}

/// Who coordinates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CoordinatorState {
    /// Which pilot.
    pub pilot: PilotName,
    /// Which life.
    pub generation: Generation,
    /// Its epoch.
    pub epoch: Epoch,
    /// Why it decides nothing, if so.
    pub degraded: Option<String>,
    /// How many of how many promised lately; only the coordinator knows.
    pub promises: Option<(usize, usize)>,
}

/// One pilot and its member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberState {
    /// Its pod.
    pub name: PilotName,
    /// Its newest life.
    pub generation: Generation,
    /// Whether the pilot lives.
    pub liveness: Liveness,
    /// Silence divided by mean silence.
    pub phi: Option<f64>,
    /// How long it may be silent.
    pub timeout: Option<Millis>,
    /// Its database, as it said last.
    pub database: Option<DatabaseReport>,
    /// The rest of what it said last.
    pub report: Option<Arc<Report>>,
}

/// The policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyState {
    /// Its hash.
    pub hash: String,
    /// Pilots that run another one.
    pub differing: Vec<PilotName>,
}

/// Figures of the mesh.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GossipState {
    /// Bytes of the digest that names everybody.
    pub digest_bytes: usize,
    /// Nobody was heard lately although there are others.
    pub lonely: bool,
    /// The process was asleep and has not heard a full round since.
    pub woken: bool,
}

/// The document behind `/decisions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionsDocument {
    /// This pilot's own decisions, oldest first.
    pub own: Vec<Entry>,
    /// What it heard of others' decisions, oldest first.
    pub heard: Vec<Brief>,
}

impl Pilot {
    /// What this pilot knows now.
    pub fn state(&self, now: Timestamp) -> StateDocument {
        let own = Arc::new(self.report(now));
        let id = &self.setup.id;
        let mut members: Vec<MemberState> = self
            .view
            .peers
            .iter()
            .map(|(name, peer)| MemberState {
                name: name.clone(),
                generation: peer.generation,
                liveness: peer.liveness,
                phi: peer.phi,
                timeout: peer.timeout,
                database: peer.report.as_ref().map(|r| r.database.clone()),
                report: peer.report.clone(),
            })
            .collect();
        members.push(MemberState {
            name: id.name.clone(),
            generation: id.generation,
            liveness: Liveness::Live,
            phi: None,
            timeout: None,
            database: Some(own.database.clone()),
            report: Some(Arc::clone(&own)),
        });
        members.sort_by_key(|m| (m.name.ordinal(), m.name.clone()));
        let coordinator = self.coordinator(now).map(|(who, epoch)| {
            let mine = self.leadership.as_ref().filter(|_| who == *id);
            let told = self.view.peers.get(&who.name).and_then(|p| p.report.as_ref());
            let degraded = match mine {
                Some(leading) => leading.degraded.clone(),
                None => told.and_then(|r| match &r.mesh.role {
                    Role::Coordinator { degraded, .. } => degraded.clone(),
                    Role::Follower => None,
                }),
            };
            CoordinatorState {
                promises: mine.map(super::coordinator::Leadership::promises),
                pilot: who.name,
                generation: who.generation,
                epoch,
                degraded,
            }
        });
        let operation = own.operation.clone().or_else(|| {
            let name = &coordinator.as_ref()?.pilot;
            self.view.peers.get(name)?.report.as_ref()?.operation.clone()
        });
        let hash = self.setup.rules.hash.clone();
        StateDocument {
            version: 1,
            me: SelfState {
                name: id.name.clone(),
                generation: id.generation,
                role: own.mesh.role.clone(),
                promise: self.durable.promise.clone(),
                floor: self.floor_known.then_some(self.durable.floor),
                api: self.api,
                now,
                trouble: self.local.trouble.as_ref().map(|(_, why)| why).or(self.disk_trouble.as_ref()).cloned(),
                version: self.setup.version.clone(),
            },
            coordinator,
            operation,
            policy: PolicyState {
                differing: members
                    .iter()
                    .filter(|m| m.report.as_ref().is_some_and(|r| r.about.policy != hash))
                    .map(|m| m.name.clone())
                    .collect(),
                hash,
            },
            roster: match &self.leadership {
                Some(leading) if !leading.roster().is_empty() => leading.roster().to_vec(),
                Some(_) | None => self.durable.roster.clone(),
            },
            cluster: self.durable.cluster.clone(),
            members,
            gossip: GossipState {
                digest_bytes: self.view.digest_bytes,
                lonely: self.view.lonely,
                woken: self.view.woken,
            },
        }
    }

    /// What was decided lately, here and elsewhere.
    pub fn decisions(&self) -> DecisionsDocument {
        DecisionsDocument { own: self.log.entries().cloned().collect(), heard: self.heard.iter().cloned().collect() }
    }
}
