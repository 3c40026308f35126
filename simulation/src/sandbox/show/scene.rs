//! Everything that is shown of one moment, in the words it is shown in.

use super::tale::Tale;
use crate::story::Snapshot;
use agent::pilot::state::{MemberState, StateDocument};
use protocol::database::DatabasePhase;
use protocol::report::Brief;
use protocol::view::Liveness;
use std::net::IpAddr;
use std::time::Duration;

/// One moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scene {
    /// What runs.
    pub title: String,
    /// Since the start.
    pub elapsed: Duration,
    /// The members, in order.
    pub members: Vec<Member>,
    /// Who coordinates.
    pub coordinator: Option<Coordinator>,
    /// The operation under way: its name, and its step.
    pub operation: Option<(String, String)>,
    /// The size the set is told.
    pub replicas: u32,
    /// The API serves.
    pub api: bool,
    /// The last decisions, oldest first.
    pub decisions: Vec<Brief>,
    /// Rows acknowledged, where somebody writes.
    pub rows: Option<u64>,
    /// The story, where one is told.
    pub tale: Tale,
    /// What is done or waited for now.
    pub note: String,
    /// What helps a person go on.
    pub footer: String,
}

/// Who coordinates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordinator {
    /// Which pilot.
    pub pilot: String,
    /// At which epoch.
    pub epoch: u64,
    /// How many of how many promised lately.
    pub promises: Option<(usize, usize)>,
    /// Why it decides nothing, if so.
    pub degraded: Option<String>,
}

/// What is known of a pilot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PilotSight {
    /// Its endpoint answers.
    Live,
    /// Its endpoint answers, and none of its peers hears it: it is cut off.
    Unheard,
    /// It does not answer, and its peers do not hear it.
    Silent,
    /// It has a process, and nobody has heard of it yet.
    Starting,
    /// It does not answer.
    NoAnswer,
    /// It has no process.
    Ended,
}

impl PilotSight {
    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Unheard => "unheard",
            Self::Silent => "silent",
            Self::Starting => "starting",
            Self::NoAnswer => "no answer",
            Self::Ended => "ended",
        }
    }
}

/// One pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its name.
    pub pod: String,
    /// Its uid: another pod of the same name has another.
    pub uid: String,
    /// Its address.
    pub address: IpAddr,
    /// It is being deleted.
    pub ending: bool,
    /// Its pilot.
    pub pilot: PilotSight,
    /// The pilot's process.
    pub pilot_pid: Option<u32>,
    /// Its database, by its own pilot; by a peer where that one is silent.
    pub phase: Option<DatabasePhase>,
    /// Data moved, of all, in percent.
    pub percent: Option<u64>,
    /// The database's identity.
    pub identity: Option<String>,
    /// The database's process, by its own pilot.
    pub database_pid: Option<u32>,
    /// How often it was started.
    pub starts: Option<u64>,
    /// It coordinates.
    pub coordinates: bool,
    /// The port of the database's clients.
    pub client_port: Option<u16>,
}

/// One word for a phase.
pub fn phase_word(phase: DatabasePhase) -> &'static str {
    match phase {
        DatabasePhase::Unknown => "unknown",
        DatabasePhase::Held => "held",
        DatabasePhase::Starting => "starting",
        DatabasePhase::Joining => "joining",
        DatabasePhase::Serving => "serving",
        DatabasePhase::Leaving => "leaving",
        DatabasePhase::Left => "left",
        DatabasePhase::Draining => "draining",
        DatabasePhase::Unresponsive => "unresponsive",
        DatabasePhase::Restarting => "restarting",
        DatabasePhase::CrashLooping => "crash loop",
        DatabasePhase::Stopped => "stopped",
        DatabasePhase::JoinFailed => "join failed",
    }
}

impl Member {
    /// Its database in a word or two.
    pub fn database(&self) -> String {
        let word = self.phase.map_or("?", phase_word);
        match self.percent {
            Some(percent) => format!("{word} {percent}%"),
            None => word.to_owned(),
        }
    }
}

impl Scene {
    /// What a snapshot shows.
    pub fn of(seen: &Snapshot) -> Self {
        let leading = seen.coordinator();
        let coordinator = leading.as_ref().map(|(name, epoch)| {
            let told = seen.states.get(name).and_then(|s| s.coordinator.as_ref()).filter(|c| c.epoch == *epoch);
            Coordinator {
                pilot: name.clone(),
                epoch: epoch.0,
                promises: told.and_then(|c| c.promises),
                degraded: told.and_then(|c| c.degraded.clone()),
            }
        });
        // Others may still speak of the one before.
        let by_leader = leading.as_ref().and_then(|(name, _)| seen.states.get(name)?.operation.clone());
        let operation = by_leader.map(|o| (o.operation.to_string(), readable_bytes(&o.step))).or_else(|| {
            let intent = seen.record.as_ref()?.intent.as_ref()?;
            let step = if leading.is_some() { "recorded, and about to be taken up" } else { "waits for a coordinator" };
            Some((intent.operation.to_string(), step.to_owned()))
        });
        let members = seen
            .pods
            .iter()
            .map(|pod| {
                let own = seen.states.get(&pod.name);
                let by_peers: Vec<&MemberState> = seen
                    .states
                    .iter()
                    .filter(|(name, _)| **name != pod.name)
                    .filter_map(|(_, state)| state.members.iter().find(|m| m.name.as_str() == pod.name))
                    // What a peer remembers may be of the pod before.
                    .filter(|m| m.report.as_ref().is_some_and(|r| r.about.pod.as_str() == pod.uid))
                    .collect();
                let pilot_pid = pod.processes.get("pilot").copied();
                let pilot = match (own, pilot_pid) {
                    // Before anybody leads, all are still looking for each other.
                    (Some(_), _)
                        if leading.is_some()
                            && !by_peers.is_empty()
                            && by_peers.iter().all(|m| m.liveness != Liveness::Live) =>
                    {
                        PilotSight::Unheard
                    }
                    (Some(_), _) => PilotSight::Live,
                    (None, None) => PilotSight::Ended,
                    (None, Some(_)) if by_peers.is_empty() => PilotSight::Starting,
                    (None, Some(_)) if by_peers.iter().any(|m| m.liveness != Liveness::Live) => PilotSight::Silent,
                    (None, Some(_)) => PilotSight::NoAnswer,
                };
                let told = own.and_then(own_member).or_else(|| by_peers.first().copied());
                let database = told.and_then(|m| m.database.as_ref());
                let moving = database.and_then(|d| d.streaming).filter(|p| p.total > 0);
                Member {
                    pod: pod.name.clone(),
                    uid: pod.uid.clone(),
                    address: pod.address,
                    ending: pod.terminating,
                    pilot,
                    pilot_pid,
                    phase: database.map(|d| d.phase),
                    percent: moving.map(|p| p.done.min(p.total) * 100 / p.total),
                    identity: database.and_then(|d| d.identity.as_ref()).map(ToString::to_string),
                    database_pid: database.and_then(|d| d.pid),
                    starts: database.map(|d| d.starts),
                    coordinates: coordinator.as_ref().is_some_and(|c| c.pilot == pod.name),
                    client_port: told.and_then(|m| m.report.as_ref()).map(|r| r.about.client_port),
                }
            })
            .collect();
        Self {
            members,
            coordinator,
            operation,
            replicas: seen.replicas,
            api: seen.api,
            decisions: seen.decisions.clone(),
            ..Self::default()
        }
    }
}

/// `1048576 of 9437184 bytes` becomes `1.0 of 9.0 MiB`.
fn readable_bytes(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let mut out: Vec<String> = Vec::with_capacity(words.len());
    let mut at = 0;
    while let Some(word) = words.get(at) {
        if let [done, "of", total, unit, ..] = &words[at..]
            && let (Ok(done), Ok(total), Some(rest)) =
                (done.parse::<u32>(), total.parse::<u32>(), unit.strip_prefix("bytes"))
            && total >= 1 << 20
        {
            let mebibytes = |bytes: u32| f64::from(bytes) / f64::from(1 << 20);
            out.push(format!("{:.1} of {:.1} MiB{rest}", mebibytes(done), mebibytes(total)));
            at += 4;
        } else {
            out.push((*word).to_owned());
            at += 1;
        }
    }
    out.join(" ")
}

fn own_member(state: &StateDocument) -> Option<&MemberState> {
    state.members.iter().find(|m| m.name == state.me.name)
}

/// A duration as people read it at a glance.
pub fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use protocol::epoch::Epoch;
    use std::net::Ipv4Addr;

    #[test]
    fn bytes_are_told_as_people_read_them() {
        let step = "cassandra-3 is leaving, 1048576 of 9437184 bytes; cassandra-0 sees it";
        assert_eq!(readable_bytes(step), "cassandra-3 is leaving, 1.0 of 9.0 MiB; cassandra-0 sees it");
        assert_eq!(readable_bytes("0 of 0 bytes"), "0 of 0 bytes");
    }

    /// A pod as it is most of the time.
    pub(crate) fn member(ordinal: u8) -> Member {
        Member {
            pod: format!("cassandra-{ordinal}"),
            uid: format!("uid-{ordinal}"),
            address: IpAddr::V4(Ipv4Addr::new(127, 64, 0, ordinal + 2)),
            ending: false,
            pilot: PilotSight::Live,
            pilot_pid: Some(1000 + u32::from(ordinal)),
            phase: Some(DatabasePhase::Serving),
            percent: None,
            identity: Some(format!("{ordinal}aaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee")),
            database_pid: Some(2000 + u32::from(ordinal)),
            starts: Some(1),
            coordinates: ordinal == 0,
            client_port: Some(9042),
        }
    }

    /// A quiet cluster of so many.
    pub(crate) fn scene(members: u8) -> Scene {
        Scene {
            title: "Apache Cassandra 5.0.9".to_owned(),
            elapsed: Duration::from_secs(75),
            members: (0..members).map(member).collect(),
            coordinator: Some(Coordinator {
                pilot: "cassandra-0".to_owned(),
                epoch: 3,
                promises: Some((usize::from(members), usize::from(members))),
                degraded: None,
            }),
            replicas: u32::from(members),
            api: true,
            decisions: (0..9)
                .map(|n| Brief { epoch: Epoch(3), number: n, text: format!("decision {n} {}", "because ".repeat(20)) })
                .collect(),
            rows: Some(12_345),
            ..Scene::default()
        }
    }
}
