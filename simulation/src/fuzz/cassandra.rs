//! What Cassandra answers, what its tool prints, and the settings a user gives it.

use super::input::{Input, chunk};
use super::{KIB, MIB, Outcome, Target};
use agent::driver::cassandra::rows::{Gossip, Keyspace, Local, Peer, Rows, Stream};
use agent::driver::cassandra::{Cassandra, Heartbeats, Run, Settings, mode, see};
use agent::driver::{Driver, StartContext, StartKind};
use serde_json::{Map, Value};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "cassandra-rows",
        reads: "the rows of Cassandra's own tables",
        run: rows,
        seeds: looks,
        base: 64 * KIB,
        per_byte: 512,
        gate: 3_000,
    },
    Target {
        name: "cassandra-mode",
        reads: "what nodetool prints",
        run: |bytes| mode(&String::from_utf8_lossy(bytes)).is_some().into(),
        seeds: || vec![b"Mode: NORMAL\nNot sending any streams.\n".to_vec(), b"x\nMode: DECOMMISSIONED".to_vec()],
        base: KIB,
        per_byte: 8,
        gate: 3_000,
    },
    Target {
        name: "cassandra-settings",
        reads: "the cassandra.yaml of a user",
        run: settings,
        seeds: || {
            [
                "num_tokens: 16\ncommitlog_sync: periodic\n",
                "cluster_name: mine\nseed_provider: []\nmemtable: {a: [1, b]}\n",
                "# none\n",
            ]
            .map(|text| text.as_bytes().to_vec())
            .to_vec()
        },
        base: 4 * MIB,
        per_byte: 1024,
        gate: 150,
    },
];

fn address(input: &mut Input<'_>) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, input.byte() % 8).into()
}

fn take(input: &mut Input<'_>) -> Rows {
    let mut rows = Rows::default();
    // The end of one look.
    while !input.is_empty() {
        match input.byte() % 8 {
            0 => break,
            1 => {
                rows.local = Local {
                    host_id: input.some_text(),
                    bootstrapped: input.some_text(),
                    version: input.some_text(),
                    schema: input.some_text(),
                };
            }
            2 | 3 => {
                rows.peers.push(Peer { address: address(input), host_id: input.some_text(), schema: input.some_text() })
            }
            4 | 5 => rows.gossip.push(Gossip {
                address: address(input),
                generation: input.u32().cast_signed(),
                heartbeat: input.u32().cast_signed(),
                host_id: input.some_text(),
                status: input.some_text(),
                schema: input.some_text(),
                load: input.some_text(),
            }),
            6 => {
                let pairs = input.byte() % 4;
                let replication = (0..pairs).map(|_| (input.text(), input.text())).collect();
                rows.keyspaces.push(Keyspace { replication });
            }
            _ => rows.streams.push(Stream {
                status: input.some_text(),
                done: input.u64().cast_signed(),
                total: input.u64().cast_signed(),
            }),
        }
    }
    rows
}

fn rows(bytes: &[u8]) -> Outcome {
    let mut input = Input(bytes);
    let mut heartbeats = Heartbeats::default();
    let mut now = Duration::ZERO;
    let mut read = false;
    while !input.is_empty() {
        let rows = take(&mut input);
        let seen = see(&rows, now, &mut heartbeats);
        let identities: Vec<_> = seen.ring.iter().map(|member| &member.identity).collect();
        assert!(identities.windows(2).all(|pair| pair[0] < pair[1]), "each member once, in order: {identities:?}");
        assert!(seen.ring.len() <= rows.gossip.len() + rows.peers.len());
        read |= !seen.ring.is_empty();
        now += Duration::from_secs(4);
    }
    read.into()
}

fn looks() -> Vec<Vec<u8>> {
    let texts = |out: &mut Vec<u8>, texts: &[&str]| texts.iter().for_each(|text| chunk(out, text.as_bytes()));
    let mut out = Vec::new();
    for look in 1..=2_u32 {
        out.push(1);
        texts(&mut out, &["a", "COMPLETED", "5.0.9", "s1"]);
        out.extend([2, 2]);
        texts(&mut out, &["b", "s1"]);
        for (last, host) in [(1, "a"), (2, "b")] {
            out.extend([4, last]);
            out.extend(9_u32.to_le_bytes());
            out.extend(look.to_le_bytes());
            texts(&mut out, &[host, "NORMAL,-9", "s1", "121973.5"]);
        }
        out.extend([6, 2]);
        texts(&mut out, &["class", "org.apache.cassandra.locator.SimpleStrategy", "replication_factor", "3/1"]);
        out.push(7);
        texts(&mut out, &["start"]);
        out.extend(5_u64.to_le_bytes());
        out.extend(9_u64.to_le_bytes());
        out.push(0);
    }
    vec![out]
}

fn settings(bytes: &[u8]) -> Outcome {
    let run = Run::Image { conf: PathBuf::from("/etc/cassandra") };
    let mut settings = Settings::new(run, PathBuf::from("/data"), PathBuf::from("/config"));
    settings.overrides = Some(String::from_utf8_lossy(bytes).into_owned());
    let driver = Cassandra::new(settings);
    let context = StartContext {
        kind: StartKind::Return,
        cluster_name: "ours".to_owned(),
        address: Ipv4Addr::new(10, 0, 0, 2).into(),
        seeds: vec![Ipv4Addr::new(10, 0, 0, 1).into()],
        data_center: "dc1".to_owned(),
        rack: "rack1".to_owned(),
        replaces: None,
    };
    let (left_out, program) = (driver.left_out(), driver.program(&context));
    let Ok(program) = program else {
        return Outcome::Refused;
    };
    assert!(left_out.is_ok());
    let file = program.files.get("/config/rendered/cassandra.yaml").expect("is rendered");
    let read: Map<String, Value> = serde_saphyr::from_str(file).expect("is YAML");
    let is = |key: &str, value: &str| assert_eq!(read.get(key).and_then(Value::as_str), Some(value), "{key}");
    is("cluster_name", "ours");
    is("listen_address", "10.0.0.2");
    assert_eq!(read.get("data_file_directories"), Some(&serde_json::json!(["/data/data"])));
    assert!(!read.contains_key("initial_token"), "is the pilot's");
    Outcome::Read
}
