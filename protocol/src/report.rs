//! What a pilot says of itself, and how that becomes the small texts gossip carries.

mod among;
mod budget;

pub use among::{Identities, RingSet};

use crate::database::{DatabasePhase, Disk, Progress, RingMember, VolumeState};
use crate::epoch::Epoch;
use crate::id::{ClusterId, DatabaseIdentity, OperationId, PilotId, Uid};
use crate::keys;
use crate::order::OrderName;
use crate::promise::Promise;
use crate::shared::Shared;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Everything a pilot says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Who and where it is.
    pub about: About,
    /// Its database.
    pub database: DatabaseReport,
    /// The ring as its database sees it, in order of identity; `None` where it cannot be asked.
    pub ring: Option<Shared<[RingMember]>>,
    /// Its part in the mesh.
    pub mesh: MeshReport,
    /// The operation it coordinates, if it does.
    pub operation: Option<OperationReport>,
    /// Its last decisions in brief, newest last, if it coordinates.
    pub why: Vec<Brief>,
}

/// One decision in brief, so that every pilot can tell it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Brief {
    /// The decider's epoch.
    pub epoch: Epoch,
    /// Its number at the decider.
    pub number: u64,
    /// Verdict, subject, rule and fact in one line.
    pub text: String,
}

impl Brief {
    /// Briefs told at a time.
    pub const TOLD: usize = 4;
    /// Longest text in bytes; longer ones are cut at a character.
    pub const LONGEST: usize = 190;
}

/// Who and where a pilot is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// Its pod's uid.
    pub pod: Uid,
    /// The uid of its claim, once it knows it.
    pub claim: Option<Uid>,
    /// The cluster it belongs to, once it does.
    pub cluster: Option<ClusterId>,
    /// Where its stream listens.
    pub stream: SocketAddr,
    /// Where its state endpoint listens.
    pub http: SocketAddr,
    /// The address its database uses.
    pub database: IpAddr,
    /// The port of the database's clients.
    pub client_port: u16,
    /// The hash of the policy it runs.
    pub policy: String,
    /// Its own version.
    pub version: String,
}

/// The database beside a pilot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseReport {
    /// Where its life stands.
    pub phase: DatabasePhase,
    /// Its identity, once known.
    pub identity: Option<DatabaseIdentity>,
    /// What lies on the volume, as looked at before the last start.
    pub volume: Option<VolumeState>,
    /// Version that runs.
    pub version: Option<String>,
    /// Process id, for people on the same machine.
    pub pid: Option<u32>,
    /// All members it sees have one schema.
    pub schema_agreed: Option<bool>,
    /// Highest replication factor of any keyspace; `None` is unknown.
    pub replication: Option<u32>,
    /// Data it moves.
    pub streaming: Option<Progress>,
    /// Bytes it holds.
    pub load: Option<u64>,
    /// Its file system.
    pub disk: Option<Disk>,
    /// Starts in all.
    pub starts: u64,
    /// Ends nobody asked for.
    pub unintended_ends: u64,
    /// The launcher has been told to end: what the pilot asks the coordinator.
    pub terminating: bool,
    /// The leave its launcher carries out, and whether the leave program said it was done.
    pub leave: Option<(OperationId, bool)>,
    /// It waits for a coordinator's grant to start.
    pub wants_start: bool,
}

/// A pilot's part in the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshReport {
    /// The last promise it gave.
    pub promise: Option<Promise>,
    /// What it is.
    pub role: Role,
    /// Whether it reached the Kubernetes API when it last tried.
    pub api: ApiReach,
    /// The pilots whose process it holds ended.
    pub ended: Vec<PilotId>,
    /// The pilots it has not heard for longer than their timeout.
    pub silent: Vec<PilotId>,
    /// The last order it obeyed.
    pub obeyed: Option<(OperationId, OrderName)>,
    /// Key ids it can open, for rotation.
    pub keys: Vec<String>,
}

/// What a pilot is in the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It follows whoever coordinates.
    Follower,
    /// It holds the Lease.
    Coordinator {
        /// At this epoch.
        epoch: Epoch,
        /// Without a fresh majority or a valid Lease it decides nothing; the reason.
        degraded: Option<String>,
    },
}

/// Whether the Kubernetes API answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ApiReach {
    /// Not tried yet in this life.
    Untried,
    /// The last try was answered.
    Reachable,
    /// The last try was not.
    Unreachable,
}

/// The operation under way, as its coordinator tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationReport {
    /// Which.
    pub operation: OperationId,
    /// One word.
    pub kind: String,
    /// About whom.
    pub subject: String,
    /// What it does or waits for.
    pub step: String,
}

/// Why gossiped texts are no report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// A needed key is not there (yet).
    #[error("key `{0}` is missing: the peer has not told it yet")]
    Missing(&'static str),
    /// A value is not what its key says.
    #[error("key `{key}` holds what is no {key} report ({why}): the peer may be newer than this pilot")]
    Value {
        /// Which key.
        key: String,
        /// What the parser said.
        why: String,
    },
    /// Too large for gossip.
    #[error("the value of `{key}` has {length} bytes but may have {most}: it would never be sent", most = keys::LONGEST_VALUE)]
    TooLong {
        /// Which key.
        key: String,
        /// Its length.
        length: usize,
    },
}

impl Report {
    /// The texts that gossip carries.
    ///
    /// What would be too long is shortened where that fails closed: of the lives held ended or silent the most relevant
    /// stay (the last coordinator first), texts for people are cut, and a ring that does not fit is not told at all, so
    /// that its database counts as one that cannot be asked.
    ///
    /// # Errors
    /// When what must not be shortened would be too long to be gossiped.
    pub fn to_values(&self) -> Result<BTreeMap<String, String>, ReportError> {
        let mut values = BTreeMap::new();
        put(&mut values, keys::ABOUT, &self.about)?;
        put(&mut values, keys::DATABASE, &self.database)?;
        budget::put_shortened(&mut values, keys::MESH, self.mesh.clone(), budget::shorten_mesh)?;
        budget::put_shortened(&mut values, keys::OPERATION, self.operation.clone(), budget::shorten_operation)?;
        budget::put_shortened(&mut values, keys::WHY, self.why.clone(), budget::shorten_list)?;
        budget::put_ring(&mut values, self.ring.as_deref())?;
        Ok(values)
    }

    /// Reads what [`Report::to_values`] wrote. Keys it does not know are left alone.
    ///
    /// # Errors
    /// When a key is missing or its value cannot be read.
    pub fn from_values(values: &BTreeMap<String, String>) -> Result<Self, ReportError> {
        let lines: Option<usize> = get(values, keys::RING)?;
        let ring = match lines {
            None => None,
            Some(lines) => {
                let mut ring: Vec<RingMember> = Vec::new();
                for number in 0..keys::MOST_KEYS {
                    if ring.len() >= lines {
                        break;
                    }
                    let key = format!("{}.{number}", keys::RING);
                    let Some(text) = values.get(&key) else {
                        return Err(ReportError::Missing(keys::RING));
                    };
                    let chunk: Vec<String> = parse(&key, text)?;
                    ring.extend(chunk.iter().filter_map(|line| budget::read_line(line)));
                }
                (ring.len() == lines).then(|| RingMember::in_order(ring))
            }
        };
        Ok(Self {
            about: get(values, keys::ABOUT)?,
            database: get(values, keys::DATABASE)?,
            ring,
            mesh: get(values, keys::MESH)?,
            operation: get(values, keys::OPERATION)?,
            why: get(values, keys::WHY)?,
        })
    }
}

fn put<T: Serialize>(values: &mut BTreeMap<String, String>, key: &str, value: &T) -> Result<(), ReportError> {
    let text =
        serde_json::to_string(value).map_err(|e| ReportError::Value { key: key.to_owned(), why: e.to_string() })?;
    if key.len() + text.len() > keys::LONGEST_VALUE {
        return Err(ReportError::TooLong { key: key.to_owned(), length: key.len() + text.len() });
    }
    values.insert(key.to_owned(), text);
    Ok(())
}

fn get<T: serde::de::DeserializeOwned>(values: &BTreeMap<String, String>, key: &'static str) -> Result<T, ReportError> {
    parse(key, values.get(key).ok_or(ReportError::Missing(key))?)
}

fn parse<T: serde::de::DeserializeOwned>(key: &str, text: &str) -> Result<T, ReportError> {
    serde_json::from_str(text).map_err(|e| ReportError::Value { key: key.to_owned(), why: e.to_string() })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::database::RingStatus;
    use crate::id::{Generation, PilotName};

    pub(crate) fn sample(members: usize) -> Report {
        Report {
            about: About {
                pod: Uid::new("11111111-2222-3333-4444-555555555555"),
                claim: Some(Uid::new("11111111-2222-3333-4444-666666666666")),
                cluster: Some(ClusterId::new("c-1")),
                stream: "127.0.0.1:7301".parse().expect("valid"),
                http: "127.0.0.1:7300".parse().expect("valid"),
                database: "127.0.0.1".parse().expect("valid"),
                client_port: 9042,
                policy: "abc".into(),
                version: "0.1.0".into(),
            },
            database: DatabaseReport {
                phase: DatabasePhase::Serving,
                identity: Some(DatabaseIdentity::new("a".repeat(36))),
                volume: Some(VolumeState::Empty),
                version: Some("5.0.9".into()),
                pid: Some(1),
                schema_agreed: Some(true),
                replication: Some(3),
                streaming: None,
                load: Some(1),
                disk: None,
                starts: 1,
                unintended_ends: 0,
                terminating: false,
                leave: None,
                wants_start: false,
            },
            ring: Some(
                (0..members)
                    .map(|n| RingMember {
                        identity: DatabaseIdentity::new(format!("{n:036}")),
                        status: RingStatus::Normal,
                        up: Some(true),
                    })
                    .collect(),
            ),
            mesh: MeshReport {
                promise: Some(Promise {
                    epoch: Epoch(3),
                    holder: PilotId { name: PilotName::parse("c-0").expect("valid"), generation: Generation(5) },
                }),
                role: Role::Follower,
                api: ApiReach::Reachable,
                ended: vec![],
                silent: vec![],
                obeyed: None,
                keys: vec!["k1".into()],
            },
            operation: None,
            why: vec![],
        }
    }

    #[test]
    fn a_report_of_any_ring_size_reads_back_the_same() {
        for members in [0, 1, 9, 10, 11, 50] {
            let report = sample(members);
            let values = report.to_values().expect("fits");
            assert_eq!(Report::from_values(&values).expect("reads"), report);
        }
    }

    #[test]
    fn a_report_of_150_members_fits_what_gossip_carries() {
        let values = sample(150).to_values().expect("fits");
        let bytes: usize = values.iter().map(|(k, v)| k.len() + v.len()).sum();
        assert!(bytes <= keys::MOST_BYTES, "{bytes}");
        assert!(values.len() <= keys::MOST_KEYS);
        assert_eq!(Report::from_values(&values).expect("reads"), sample(150));
    }

    #[test]
    fn a_ring_that_does_not_fit_is_told_as_one_that_cannot_be_asked_and_the_rest_is_told_all_the_same() {
        let values = sample(400).to_values().expect("fits");
        let bytes: usize = values.iter().map(|(k, v)| k.len() + v.len()).sum();
        assert!(bytes <= keys::MOST_BYTES, "{bytes}");
        let read = Report::from_values(&values).expect("reads");
        assert_eq!(read, Report { ring: None, ..sample(400) });
    }

    #[test]
    fn a_ring_with_a_line_too_long_for_any_value_does_not_hold_the_report_back() {
        let mut report = sample(3);
        let mut ring = report.ring.as_deref().expect("there").to_vec();
        ring[0].identity = DatabaseIdentity::new("x".repeat(keys::LONGEST_VALUE));
        report.ring = Some(ring.into());
        let read = Report::from_values(&report.to_values().expect("fits")).expect("reads");
        assert_eq!(read, Report { ring: None, ..report });
    }

    #[test]
    fn every_status_and_liveness_of_a_ring_line_reads_back_the_same() {
        let mut report = sample(0);
        let all = [
            RingStatus::Joining,
            RingStatus::Normal,
            RingStatus::Leaving,
            RingStatus::Left,
            RingStatus::Shutdown,
            RingStatus::Unknown,
        ];
        report.ring = Some(
            all.into_iter()
                .flat_map(|status| {
                    [Some(true), Some(false), None].map(|up| RingMember {
                        identity: DatabaseIdentity::new("a \"quoted\" one"),
                        status,
                        up,
                    })
                })
                .collect(),
        );
        assert_eq!(Report::from_values(&report.to_values().expect("fits")).expect("reads"), report);
    }

    fn life(n: u64) -> PilotId {
        PilotId {
            name: PilotName::parse(&format!("cassandra-{n}")).expect("valid"),
            generation: Generation(1_764_000_000_000 + n),
        }
    }

    #[test]
    fn a_report_in_a_mass_failure_is_told_with_the_last_coordinator_among_the_lost() {
        let mut report = sample(30);
        report.mesh.promise = Some(Promise { epoch: Epoch(5), holder: life(17) });
        report.mesh.ended = (10..18).map(life).collect();
        report.mesh.silent = (20..28).map(life).collect();
        report.mesh.role = Role::Coordinator {
            epoch: Epoch(5),
            degraded: Some("2 of 30 pilots of the roster promised lately, more than half are needed".repeat(3)),
        };
        report.mesh.obeyed = Some((OperationId::new("12-end-and-return-cassandra-0"), OrderName::EndAndReturn));
        let values = report.to_values().expect("fits");
        assert!(values.iter().all(|(key, value)| key.len() + value.len() <= keys::LONGEST_VALUE));
        let read = Report::from_values(&values).expect("reads");
        assert!(read.mesh.ended.contains(&life(17)));
        assert_eq!(read.mesh.promise, report.mesh.promise);
    }

    #[test]
    fn long_texts_for_people_are_cut_and_hold_nothing_back() {
        let mut report = sample(3);
        report.operation = Some(OperationReport {
            operation: OperationId::new("1-join-c-3"),
            kind: "join".into(),
            subject: "c-3".into(),
            step: "\u{fffd}\"".repeat(900),
        });
        report.why =
            (0..4).map(|number| Brief { epoch: Epoch(1), number, text: "\"".repeat(Brief::LONGEST) }).collect();
        let values = report.to_values().expect("fits");
        assert!(values.iter().all(|(key, value)| key.len() + value.len() <= keys::LONGEST_VALUE));
        let read = Report::from_values(&values).expect("reads");
        assert_eq!(read.why.last(), report.why.last(), "the newest stays");
    }

    #[test]
    fn a_ring_that_has_only_arrived_in_part_is_no_ring() {
        let mut values = sample(25).to_values().expect("fits");
        values.remove("ring.1");
        assert!(Report::from_values(&values).is_err());
    }
}
