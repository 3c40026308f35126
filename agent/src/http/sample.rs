//! A mesh in the middle of a join, as its coordinator sees it: what tests render.

use crate::pilot::decisions::Entry;
use crate::pilot::state::{
    CoordinatorState, DecisionsDocument, GossipState, MemberState, PolicyState, SelfState, StateDocument,
};
use policies::plan::{Reason, Rule, Verdict};
use protocol::database::{DatabasePhase, Disk, Progress, RingMember, RingStatus, VolumeState};
use protocol::epoch::Epoch;
use protocol::id::{ClusterId, DatabaseIdentity, Generation, OperationId, PilotId, PilotName, Uid, Voter};
use protocol::order::OrderName;
use protocol::promise::Promise;
use protocol::report::{About, ApiReach, Brief, DatabaseReport, MeshReport, OperationReport, Report, Role};
use protocol::time::{Millis, Timestamp};
use protocol::view::Liveness;
use std::sync::Arc;

pub(crate) fn name(ordinal: usize) -> PilotName {
    PilotName::parse(&format!("orders-{ordinal}")).unwrap()
}

fn identity(ordinal: usize) -> DatabaseIdentity {
    DatabaseIdentity::new(format!("{ordinal}f2b8c1e-77aa-4c55-9c1d-0a6a3f1e2d4c"))
}

fn promise() -> Promise {
    Promise { epoch: Epoch(7), holder: PilotId { name: name(1), generation: Generation(4) } }
}

fn operation() -> OperationReport {
    OperationReport {
        operation: OperationId::new("op-12"),
        kind: "join".into(),
        subject: "orders-3".into(),
        step: "waits for orders-3 to serve".into(),
    }
}

fn database(ordinal: usize) -> DatabaseReport {
    DatabaseReport {
        phase: DatabasePhase::Serving,
        identity: Some(identity(ordinal)),
        volume: Some(VolumeState::Holds(identity(ordinal))),
        version: Some("5.0.6".into()),
        pid: Some(4711),
        schema_agreed: Some(true),
        replication: Some(3),
        streaming: None,
        load: Some(1_288_490_189),
        disk: Some(Disk { used: 3_000_000_000, total: 10_000_000_000 }),
        starts: 1,
        unintended_ends: 0,
        terminating: false,
        leave: None,
        wants_start: false,
    }
}

pub(crate) fn report(ordinal: usize) -> Report {
    let leads = ordinal == 1;
    Report {
        about: About {
            pod: Uid::new(format!("{ordinal}0d00000-0000-4000-8000-000000000000")),
            claim: Some(Uid::new(format!("{ordinal}c000000-0000-4000-8000-000000000000"))),
            cluster: Some(ClusterId::new("c-5f3a")),
            stream: format!("10.0.0.{}:7301", ordinal + 1).parse().unwrap(),
            http: format!("10.0.0.{}:7300", ordinal + 1).parse().unwrap(),
            database: format!("10.0.0.{}", ordinal + 1).parse().unwrap(),
            client_port: 9042,
            policy: if ordinal == 2 { "000000000000".into() } else { "a1b2c3d4e5f6".into() },
            version: "0.1.0".into(),
        },
        database: database(ordinal),
        ring: Some(vec![RingMember { identity: identity(0), status: RingStatus::Normal, up: Some(true) }].into()),
        mesh: MeshReport {
            promise: Some(promise()),
            role: if leads { Role::Coordinator { epoch: Epoch(7), degraded: None } } else { Role::Follower },
            api: ApiReach::Reachable,
            ended: vec![],
            silent: vec![],
            obeyed: (ordinal == 3).then(|| (OperationId::new("op-12"), OrderName::Join)),
            keys: vec!["k1".into()],
        },
        operation: leads.then(operation),
        why: vec![],
    }
}

fn member(ordinal: usize) -> MemberState {
    MemberState {
        name: name(ordinal),
        generation: Generation(4),
        liveness: Liveness::Live,
        phi: (ordinal != 1).then_some(0.5),
        timeout: (ordinal != 1).then_some(Millis(5_000)),
        database: Some(database(ordinal)),
        report: Some(Arc::new(report(ordinal))),
    }
}

fn change(member: &mut MemberState, change: impl Fn(&mut DatabaseReport)) {
    member.database.iter_mut().for_each(&change);
    member.report.iter_mut().for_each(|report| change(&mut Arc::make_mut(report).database));
}

/// What `orders-1` knows: `orders-2` fell silent, `orders-3` joins, `orders-4` has never been readable.
pub(crate) fn state() -> StateDocument {
    let mut members: Vec<MemberState> = (0..5).map(member).collect();
    members[2].liveness = Liveness::Silent;
    members[2].phi = Some(11.25);
    change(&mut members[2], |d| (d.unintended_ends, d.starts) = (2, 3));
    change(&mut members[3], |d| {
        d.phase = DatabasePhase::Joining;
        d.identity = None;
        d.volume = Some(VolumeState::Empty);
        d.streaming = Some(Progress { done: 104_857_600, total: 419_430_400 });
        d.load = None;
    });
    members[4].report = None;
    members[4].database = None;
    StateDocument {
        version: 1,
        me: SelfState {
            name: name(1),
            generation: Generation(4),
            role: Role::Coordinator { epoch: Epoch(7), degraded: None },
            promise: Some(promise()),
            floor: Some(Epoch(7)),
            api: ApiReach::Reachable,
            now: Timestamp::from_millis(123_456),
            trouble: None,
            version: "0.1.0".into(),
        },
        coordinator: Some(CoordinatorState {
            pilot: name(1),
            generation: Generation(4),
            epoch: Epoch(7),
            degraded: None,
            promises: Some((3, 4)),
        }),
        members,
        operation: Some(operation()),
        policy: PolicyState { hash: "a1b2c3d4e5f6".into(), differing: vec![name(2)] },
        roster: (0..4)
            .map(|n| Voter { name: name(n), claim: Uid::new(format!("{n}c000000-0000-4000-8000-000000000000")) })
            .collect(),
        cluster: Some(ClusterId::new("c-5f3a")),
        gossip: GossipState { digest_bytes: 412, lonely: false, woken: false },
    }
}

pub(crate) fn entry(number: u64, at: u64) -> Entry {
    Entry {
        number,
        at: Timestamp::from_millis(at),
        epoch: Epoch(7),
        reasons: vec![
            Reason {
                verdict: Verdict::Act,
                subject: "orders-3".into(),
                rule: Rule::JoinByGrant,
                fact: "its volume is empty and nobody else joins".into(),
            },
            Reason {
                verdict: Verdict::Wait,
                subject: "orders-4".into(),
                rule: Rule::OneAtATime,
                fact: "op-12 is under way".into(),
            },
        ],
    }
}

pub(crate) fn decisions() -> DecisionsDocument {
    let mut second = entry(2, 121_456);
    second.reasons = vec![Reason {
        verdict: Verdict::Refuse,
        subject: "orders".into(),
        rule: Rule::ReplicasKeepHomes,
        fact: "size 2 is fewer than the 3 replicas of a keyspace".into(),
    }];
    DecisionsDocument {
        own: vec![entry(1, 60_000), second],
        heard: vec![Brief {
            epoch: Epoch(6),
            number: 9,
            text: "orders-2 done [JoinByGrant] it serves, as 3 of 3 peers see".into(),
        }],
    }
}
