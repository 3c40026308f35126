//! A sandbox for programs: one JSON object a line.

use super::scene::Scene;
use crate::sandbox::manifests::PORTS;
use crate::story::evidence::Evidence;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
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

/// Every pilot of a scene. A pilot that does not answer keeps the database it was last seen with.
pub fn pilots(scene: &Scene) -> Vec<PilotLine> {
    let line = |member: &super::scene::Member| PilotLine {
        name: member.pod.clone(),
        state_url: format!("http://{}:{}/state", member.address, PORTS.2),
        pid: member.pilot_pid,
        database_pid: member.database_pid,
        address: member.address.to_string(),
        client_port: member.client_port.unwrap_or(9042),
    };
    scene.members.iter().map(line).collect()
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
    use super::super::scene::tests::scene;
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
}
