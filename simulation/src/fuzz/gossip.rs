//! Gossip: datagrams of anybody, messages of whoever holds the key, and reports.

use super::input::{Input, chunks};
use super::keys::{cluster, life, ring};
use super::{KIB, MIB, Outcome, Target};
use agent::gossip::ReplayWindow;
use agent::gossip::frame::Header;
use agent::gossip::reassembly::{Joined, Reassembly};
use agent::gossip::seal::{Opener, Sealer, decode_address, encode_address};
use protocol::database::{DatabasePhase, RingMember, RingStatus};
use protocol::id::{DatabaseIdentity, Generation, Uid};
use protocol::report::{About, ApiReach, DatabaseReport, Identities, MeshReport, Report, RingSet, Role};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "gossip-datagram",
        reads: "a datagram of anybody, header and seal",
        run: datagram,
        seeds: sealed,
        base: 16 * KIB,
        per_byte: 8,
        gate: 4_000,
    },
    Target {
        name: "gossip-exchange",
        reads: "datagrams of a pilot: late, lost, repeated, changed on their way",
        run: exchange,
        seeds: || vec![vec![2, 9, 0, 200, 40, 1, 0, 1, 1, 2, 3, 4], vec![0, 1, 0, 0], vec![1, 0xff, 0xff, 3, 0, 1, 2]],
        base: MIB,
        per_byte: 64,
        gate: 150,
    },
    Target {
        name: "gossip-chunks",
        reads: "pieces of messages of whoever holds the key",
        run: pieces,
        seeds: || vec![vec![7, 0, 0, 2, 1, 0, b'a', 7, 0, 1, 2, 1, 0, b'b']],
        base: 64 * KIB,
        per_byte: 256,
        gate: 3_000,
    },
    Target {
        name: "gossip-replay",
        reads: "the counters of datagrams",
        run: replay,
        seeds: || vec![vec![1, 5, 1, 1, 2, 3, 3, 0, 0, 16, 0, 0, 0, 0, 0, 0, 2, 200, 3]],
        base: 64 * KIB,
        per_byte: 64,
        gate: 3_000,
    },
    Target {
        name: "gossip-address",
        reads: "where a pilot says it is reached",
        run: address,
        seeds: || {
            ["10.0.0.1:7300", "[fd00::1]:7300"].iter().filter_map(|a| Some(encode_address(a.parse().ok()?))).collect()
        },
        base: KIB,
        per_byte: 2,
        gate: 2_000,
    },
    Target {
        name: "gossip-report",
        reads: "what a pilot says of itself",
        run: report,
        seeds: reports,
        base: 64 * KIB,
        per_byte: 64,
        gate: 3_000,
    },
];

const SOURCE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7300);

fn sealer() -> Sealer {
    let own = life(1);
    Sealer::new(cluster(), own.name, own.generation, SOURCE).expect("randomness")
}

fn opener() -> Opener {
    Opener::new(cluster(), life(0).name, Generation(5))
}

fn sealed() -> Vec<Vec<u8>> {
    let whole = sealer().seal(ring(), Some("c-0"), b"hello").expect("short");
    let mut parts = sealer().seal(ring(), None, &[7; 2500]).expect("short");
    parts.extend(whole);
    parts
}

fn datagram(bytes: &[u8]) -> Outcome {
    let parsed = Header::parse(bytes);
    if let Some((header, length)) = &parsed {
        assert_eq!(header.encode(), bytes[..*length], "a header is written as it was read");
    }
    let mut opener = opener();
    let opened = opener.open(Instant::now(), ring(), SOURCE, bytes);
    if let Some(opened) = &opened {
        let again = opener.open(Instant::now(), ring(), SOURCE, bytes);
        assert_eq!(again, None, "{opened:?} is opened once");
    } else {
        assert_eq!(opener.addresses(), 0, "nothing is remembered of what is not genuine");
    }
    opened.is_some().into()
}

fn exchange(bytes: &[u8]) -> Outcome {
    let mut input = Input(bytes);
    let (mut sealer, mut opener) = (sealer(), opener());
    let (mut datagrams, mut messages) = (Vec::new(), Vec::new());
    for number in 0..=input.byte() % 4 {
        let length = usize::from(u16::from_le_bytes([input.byte(), input.byte()]));
        let message = vec![number; length];
        let receiver = (length % 2 == 0).then_some("c-0");
        datagrams.extend(sealer.seal(ring(), receiver, &message).expect("fits 64 datagrams"));
        messages.push(message);
    }
    let mut whole = BTreeMap::new();
    let now = Instant::now();
    while !input.is_empty() && !datagrams.is_empty() {
        let op = input.byte();
        let mut datagram = datagrams[usize::from(op) % datagrams.len()].clone();
        let is_changed = op >= 192;
        if is_changed {
            let at = usize::from(input.byte()) * 5 % datagram.len();
            datagram[at] ^= input.byte() | 1;
        }
        if let Some(opened) = opener.open(now, ring(), SOURCE, &datagram) {
            assert!(!is_changed, "a changed datagram is not genuine");
            assert_eq!((opened.name.as_str(), opened.address), ("c-1", SOURCE));
            if let Some(message) = opened.message {
                assert!(messages.contains(&message), "a message comes as it was sent");
                *whole.entry(message).or_insert(0) += 1;
            }
        }
    }
    for (message, times) in &whole {
        let sent = messages.iter().filter(|sent| *sent == message).count();
        assert!(*times <= sent, "a message sent {sent} times came {times} times");
    }
    opener.sweep(now);
    Outcome::Read
}

fn pieces(bytes: &[u8]) -> Outcome {
    let mut input = Input(bytes);
    let mut joining = Reassembly::default();
    let now = Instant::now();
    let mut given = 0;
    while !input.is_empty() {
        let base = u64::from(input.byte() % 8);
        let (chunk, chunks) = (input.byte(), input.byte());
        let part = input.chunk().to_vec();
        // What a header's reader lets through.
        if chunk >= chunks || chunks > agent::gossip::frame::MOST_CHUNKS {
            continue;
        }
        given += part.len();
        match joining.add(now, base, chunk, chunks, part) {
            Joined::Whole(message) => assert!(message.len() <= given),
            Joined::Waiting | Joined::Refused => {}
        }
        assert!(joining.bytes() <= given, "no more is held than was given");
    }
    Outcome::Read
}

fn replay(bytes: &[u8]) -> Outcome {
    let mut input = Input(bytes);
    let mut window = ReplayWindow::default();
    let mut taken = BTreeSet::new();
    let mut last = 0_u64;
    while !input.is_empty() {
        last = match input.byte() % 4 {
            0 => input.u64(),
            1 => last.wrapping_add(input.byte().into()),
            2 => last.wrapping_sub(input.byte().into()),
            _ => last,
        };
        let fresh = window.is_fresh(last);
        assert_eq!(window.take(last), fresh, "{last} is taken if it is fresh");
        if fresh {
            assert!(taken.insert(last), "{last} is taken once");
        }
    }
    Outcome::Read
}

fn address(bytes: &[u8]) -> Outcome {
    let Some((address, rest)) = decode_address(bytes) else {
        return Outcome::Refused;
    };
    assert_eq!([encode_address(address).as_slice(), rest].concat(), bytes);
    Outcome::Read
}

fn report(bytes: &[u8]) -> Outcome {
    let mut input = Input(bytes);
    let mut values = BTreeMap::new();
    while !input.is_empty() {
        values.insert(input.text(), input.text());
    }
    if let Some(set) = RingSet::read(&values)
        && let Some(ring) = set.resolve(&Identities::default())
    {
        assert!(ring.is_sorted_by(|a, b| a.identity <= b.identity), "readers look identities up");
    }
    let Ok(report) = Report::from_values(&values) else {
        return Outcome::Refused;
    };
    let Ok(told) = report.to_values() else {
        let other = Report { ring: None, ..report };
        assert!(other.to_values().is_err(), "a ring never holds back what else there is to say");
        return Outcome::Read;
    };
    // What is too long is shortened, and then stays as it is.
    let read = Report::from_values(&told).expect("what is told can be read");
    assert_eq!(read.to_values().expect("it was told before"), told);
    assert_eq!((&read.about, &read.database), (&report.about, &report.database));
    Outcome::Read
}

/// What a pilot of this number says of itself.
pub(super) fn sample(number: u32) -> Report {
    let member = |n: u32| RingMember {
        identity: DatabaseIdentity::new(format!("host-{n}")),
        status: RingStatus::Normal,
        up: Some(true),
    };
    Report {
        about: About {
            pod: Uid::new(format!("pod-{number}")),
            claim: Some(Uid::new(format!("claim-{number}"))),
            cluster: Some(cluster()),
            stream: SOURCE,
            http: SOURCE,
            database: SOURCE.ip(),
            client_port: 9042,
            policy: "policy".to_owned(),
            version: "test".to_owned(),
        },
        database: DatabaseReport {
            phase: DatabasePhase::Serving,
            identity: Some(DatabaseIdentity::new(format!("host-{number}"))),
            volume: None,
            version: Some("5.0.9".to_owned()),
            pid: Some(7),
            schema_agreed: Some(true),
            replication: Some(3),
            streaming: None,
            load: Some(1 << 20),
            disk: None,
            starts: 1,
            unintended_ends: 0,
            terminating: false,
            leave: None,
            wants_start: false,
        },
        ring: Some((0..3).map(member).collect()),
        mesh: MeshReport {
            promise: None,
            role: Role::Follower,
            api: ApiReach::Reachable,
            ended: vec![],
            silent: vec![life(2)],
            obeyed: None,
            keys: vec![],
        },
        operation: None,
        why: vec![],
    }
}

fn reports() -> Vec<Vec<u8>> {
    let values = sample(1).to_values().expect("fits");
    vec![chunks(values.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]))]
}
