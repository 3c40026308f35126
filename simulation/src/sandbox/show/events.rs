//! A sandbox for programs: one JSON object a line.

use super::scene::{Member, Scene};
use crate::sandbox::manifests::PORTS;
use crate::story::evidence::Evidence;
use protocol::database::DatabasePhase;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// One pilot, as programs find it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PilotLine {
    /// Its pod.
    pub name: String,
    /// Where its state is read.
    pub state_url: String,
    /// Its process; none while it has none.
    pub pid: Option<u32>,
    /// Its database's process; none while it has none.
    pub database_pid: Option<u32>,
    /// Its pod's address.
    pub address: String,
    /// The port of the database's clients.
    pub client_port: u16,
}

/// Every pilot of a scene.
pub fn pilots(scene: &Scene) -> Vec<PilotLine> {
    let line = |member: &Member| PilotLine {
        name: member.pod.clone(),
        state_url: format!("http://{}:{}/state", member.address, PORTS.2),
        pid: member.pilot_pid,
        database_pid: member.database_pid,
        address: member.address.to_string(),
        client_port: member.client_port.unwrap_or(9042),
    };
    scene.members.iter().map(line).collect()
}

/// The databases' processes by pod uid, as last heard: a pilot that does not answer for a moment ends no process, nor does one
/// that has just been started and has not heard its launcher yet.
#[derive(Debug, Default)]
pub struct Databases(BTreeMap<String, u32>);

impl Databases {
    /// Takes what these members say, and fills in what they do not know.
    pub fn complete(&mut self, members: &mut [Member]) {
        for member in &mut *members {
            match member.database_pid {
                Some(pid) => drop(self.0.insert(member.uid.clone(), pid)),
                None if member.phase.is_some_and(runs_nothing) => drop(self.0.remove(&member.uid)),
                None => member.database_pid = self.0.get(&member.uid).copied(),
            }
        }
        self.0.retain(|uid, _| members.iter().any(|m| &m.uid == uid));
    }
}

/// Whether who says this knows that no process runs, and not only does not know of one.
fn runs_nothing(phase: DatabasePhase) -> bool {
    match phase {
        DatabasePhase::Held | DatabasePhase::Restarting | DatabasePhase::CrashLooping | DatabasePhase::Stopped => true,
        DatabasePhase::Unknown
        | DatabasePhase::Starting
        | DatabasePhase::Joining
        | DatabasePhase::Serving
        | DatabasePhase::Leaving
        | DatabasePhase::Left
        | DatabasePhase::Draining
        | DatabasePhase::Unresponsive
        | DatabasePhase::JoinFailed => false,
    }
}

/// `ready`, and `changed` in the same shape.
pub fn processes(event: &str, dir: &Path, kubeconfig: &Path, pilots: &[PilotLine]) -> Value {
    json!({ "event": event, "kubeconfig": kubeconfig, "dir": dir, "pilots": pilots })
}

/// `evidence`: times in seconds.
pub fn evidence(evidence: &Evidence, fault: Option<&str>) -> Value {
    let rows: Vec<Value> = evidence
        .rows
        .iter()
        .map(|row| {
            json!({
                "step": row.step,
                "seconds": row.took.map(|d| d.as_secs_f64()),
                "databaseSeconds": row.database.map(|d| d.as_secs_f64()),
                "seen": row.seen,
                "good": row.good,
            })
        })
        .collect();
    json!({ "event": "evidence", "good": evidence.is_good() && fault.is_none(), "fault": fault, "rows": rows })
}

#[cfg(test)]
mod tests {
    use super::super::scene::tests::{member, scene};
    use super::*;

    #[test]
    fn ready_has_the_promised_shape() {
        let line = processes("ready", Path::new("/d"), Path::new("/d/k"), &pilots(&scene(1)));
        let expected = json!({
            "event": "ready", "kubeconfig": "/d/k", "dir": "/d",
            "pilots": [{
                "name": "cassandra-0", "stateUrl": "http://127.64.0.2:7300/state", "pid": 1000, "databasePid": 2000,
                "address": "127.64.0.2", "clientPort": 9042,
            }],
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn a_pilot_that_has_not_heard_its_launcher_yet_ends_no_database_and_one_that_knows_does() {
        let mut heard = Databases::default();
        let mut told = |phase, pid| {
            let mut members = [Member { phase, database_pid: pid, ..member(0) }];
            heard.complete(&mut members);
            members[0].database_pid
        };
        assert_eq!(told(Some(DatabasePhase::Unknown), None), None, "nobody has heard of one");
        assert_eq!(told(Some(DatabasePhase::Serving), Some(7)), Some(7));
        assert_eq!(told(None, None), Some(7), "its pilot does not answer");
        assert_eq!(told(Some(DatabasePhase::Unknown), None), Some(7), "its pilot has just been started");
        assert_eq!(
            told(Some(DatabasePhase::Serving), None),
            Some(7),
            "it asked the database before its launcher answered"
        );
        assert_eq!(told(Some(DatabasePhase::Restarting), None), None, "it died");
        assert_eq!(told(Some(DatabasePhase::Starting), Some(8)), Some(8));
        let mut made_again = [Member { uid: "another".to_owned(), phase: None, database_pid: None, ..member(0) }];
        heard.complete(&mut made_again);
        assert_eq!(made_again[0].database_pid, None, "another pod of this name has another process");
    }
}
