//! Who founds a cluster and when nobody may: one world for each row of the table in `docs/formation.md`.

use bootstrap::formation::found;
use policies::plan::{Act, Plan, Rule, Verdict};
use policies::world::{
    ClaimFacts, ObjectRead, PilotFacts, PodFacts, RecordFacts, ResourceVersion, SetFacts, Template, World,
};
use protocol::database::{DatabasePhase, VolumeState};
use protocol::epoch::Epoch;
use protocol::id::{ClusterId, DatabaseIdentity, OperationId, PilotName, Uid, Voter};
use protocol::record::{ClusterRecord, IntentKind};
use protocol::report::{About, ApiReach, DatabaseReport, MeshReport, Report, Role};
use protocol::view::Liveness;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const EPOCH: Epoch = Epoch(5);

fn mint() -> ClusterId {
    ClusterId::new("minted")
}

fn name(ordinal: u32) -> PilotName {
    PilotName::parse(&format!("c-{ordinal}")).expect("valid")
}

fn claim(ordinal: u32) -> Uid {
    Uid::new(format!("claim-{ordinal}"))
}

fn voter(ordinal: u32) -> Voter {
    Voter { name: name(ordinal), claim: claim(ordinal) }
}

fn object(name: &str, uid: Uid) -> ObjectRead {
    ObjectRead { name: name.to_owned(), uid, version: ResourceVersion("7".to_owned()), stamp: Epoch::NONE }
}

fn pod_uid(ordinal: u32) -> Uid {
    Uid::new(format!("pod-{ordinal}"))
}

/// A held pilot with an empty volume that asks to start.
fn report(ordinal: u32) -> Report {
    Report {
        about: About {
            pod: pod_uid(ordinal),
            claim: Some(claim(ordinal)),
            cluster: None,
            stream: "127.0.0.1:1".parse().expect("valid"),
            http: "127.0.0.1:2".parse().expect("valid"),
            database: "127.0.0.1".parse().expect("valid"),
            client_port: 9042,
            policy: String::new(),
            version: String::new(),
        },
        database: DatabaseReport {
            phase: DatabasePhase::Held,
            identity: None,
            volume: Some(VolumeState::Empty),
            version: None,
            pid: None,
            schema_agreed: None,
            replication: None,
            streaming: None,
            load: None,
            disk: None,
            starts: 0,
            unintended_ends: 0,
            terminating: false,
            leave: None,
            wants_start: true,
        },
        ring: None,
        mesh: MeshReport {
            promise: None,
            role: Role::Follower,
            api: ApiReach::Untried,
            ended: vec![],
            silent: vec![],
            obeyed: None,
            keys: vec![],
        },
        operation: None,
        why: vec![],
    }
}

/// A set of `replicas` from ordinal `start` on, whose every declared member has answered that its volume is empty.
fn all_empty_from(start: u32, replicas: u32) -> World {
    let mut world = World {
        epoch: EPOCH,
        set: SetFacts {
            object: object("c", Uid::new("set")),
            replicas,
            start,
            revision: None,
            template: Template::default(),
        },
        pods: BTreeMap::new(),
        claims: BTreeMap::new(),
        record: None,
        pilots: BTreeMap::new(),
        lease_cluster: None,
        told_to_return: BTreeSet::new(),
        evictions_refused: BTreeMap::new(),
        patience: false,
        quiet_for: std::time::Duration::ZERO,
    };
    for ordinal in start..start + replicas {
        add(&mut world, ordinal);
    }
    world
}

fn all_empty(replicas: u32) -> World {
    all_empty_from(0, replicas)
}

fn add(world: &mut World, ordinal: u32) {
    let pod = PodFacts {
        object: object(name(ordinal).as_str(), pod_uid(ordinal)),
        terminating: false,
        revision: None,
        template: Template::default(),
        pending: false,
        untouched: false,
    };
    world.pods.insert(name(ordinal), pod);
    world.claims.insert(
        name(ordinal),
        ClaimFacts {
            object: object(&format!("data-c-{ordinal}"), claim(ordinal)),
            cluster: None,
            identity: None,
            retired: false,
            terminating: false,
            approved: None,
        },
    );
    let pilot = PilotFacts { liveness: Liveness::Live, report: Arc::new(report(ordinal)) };
    world.pilots.insert(name(ordinal), pilot);
}

fn claim_of(world: &mut World, ordinal: u32) -> &mut ClaimFacts {
    world.claims.get_mut(&name(ordinal)).expect("there")
}

fn report_of(world: &mut World, ordinal: u32) -> &mut Report {
    Arc::make_mut(&mut pilot(world, ordinal).report)
}

fn pilot(world: &mut World, ordinal: u32) -> &mut PilotFacts {
    world.pilots.get_mut(&name(ordinal)).expect("there")
}

fn plan(world: &World) -> Plan {
    found(world, &mint())
}

/// Nothing is founded, for this one reason.
#[track_caller]
fn nothing_but(world: &World, verdict: Verdict, subject: &str, fact: &str) {
    let plan = plan(world);
    assert_eq!(plan.act, None);
    match &plan.reasons[..] {
        [reason] => {
            assert_eq!((reason.verdict, reason.subject.as_str(), reason.rule), (verdict, subject, Rule::FoundOnce));
            assert!(reason.fact.contains(fact), "{:?} does not say {fact:?}", reason.fact);
        }
        others => panic!("not one reason: {others:?}"),
    }
}

fn founder(world: &World) -> Option<Voter> {
    match plan(world).act {
        Some(Act::CreateRecord(record)) => match record.intent.map(|i| i.kind) {
            Some(IntentKind::Form { founder }) => Some(founder),
            other => panic!("a record without the intent to form: {other:?}"),
        },
        None => None,
        Some(other) => panic!("another act than to make the record: {other:?}"),
    }
}

#[test]
fn a_cluster_with_a_record_is_never_founded_again_even_if_all_volumes_are_empty() {
    let mut world = all_empty(3);
    let record = ClusterRecord {
        cluster: ClusterId::new("k"),
        epoch: Epoch(1),
        roster: vec![voter(0)],
        roster_revision: 1,
        members: BTreeMap::new(),
        retired: BTreeMap::new(),
        intent: None,
        next_operation: 2,
        conditions: vec![],
    };
    world.record = Some(RecordFacts { object: object("c-pilots", Uid::new("record")), record });
    nothing_but(&world, Verdict::Refuse, "c", "a record exists");
}

#[test]
fn a_lease_that_names_a_cluster_without_its_record_refuses_and_says_to_restore_the_record() {
    let mut world = all_empty(3);
    world.lease_cluster = Some(ClusterId::new("of-before"));
    nothing_but(&world, Verdict::Refuse, "c", "cluster of-before and its record is missing: restore the record");
}

#[test]
fn a_claim_that_carries_an_identity_refuses_also_when_it_is_retired_or_of_no_declared_pod() {
    for retired in [false, true] {
        let mut world = all_empty(3);
        let marked = claim_of(&mut world, 1);
        (marked.identity, marked.retired) = (Some(DatabaseIdentity::new("host-1")), retired);
        nothing_but(&world, Verdict::Refuse, "c-1", "carries the identity host-1");
    }
    // What a larger set left behind.
    let mut world = all_empty(4);
    claim_of(&mut world, 3).identity = Some(DatabaseIdentity::new("host-3"));
    world.set.replicas = 3;
    nothing_but(&world, Verdict::Refuse, "c-3", "carries the identity host-3");
}

#[test]
fn a_claim_of_another_cluster_refuses() {
    let mut world = all_empty(3);
    claim_of(&mut world, 2).cluster = Some(ClusterId::new("another"));
    nothing_but(&world, Verdict::Refuse, "c-2", "belongs to cluster another");
}

#[test]
fn one_declared_volume_with_data_refuses_whatever_is_known_of_the_data() {
    let data = [
        (VolumeState::Holds(DatabaseIdentity::new("host-2")), "holds host-2"),
        (VolumeState::HoldsUnknown, "data of an unknown identity"),
        (VolumeState::Begun(OperationId::new("1-form-c-2")), "data of an unknown identity"),
    ];
    for (volume, fact) in data {
        let mut world = all_empty(3);
        report_of(&mut world, 2).database.volume = Some(volume);
        nothing_but(&world, Verdict::Refuse, "c-2", fact);
    }
}

#[test]
fn a_volume_that_could_not_be_looked_at_is_waited_for_and_is_not_empty() {
    for volume in [Some(VolumeState::Unreadable), None] {
        let mut world = all_empty(3);
        report_of(&mut world, 0).database.volume = volume;
        nothing_but(&world, Verdict::Wait, "c-0", "has not been looked at");
    }
}

#[test]
fn one_declared_member_that_has_not_answered_is_waited_for_though_all_others_have() {
    let silent: [fn(&mut World); 4] = [
        |w| pilot(w, 1).liveness = Liveness::Silent,
        |w| pilot(w, 1).liveness = Liveness::Departed,
        |w| drop(w.pilots.remove(&name(1))),
        // The one that answers lives in a pod that is no more.
        |w| report_of(w, 1).about.pod = Uid::new("pod of before"),
    ];
    for silence in silent {
        let mut world = all_empty(3);
        silence(&mut world);
        nothing_but(&world, Verdict::Wait, "c-1", "has not answered");
    }
}

#[test]
fn a_member_without_a_claim_or_with_another_one_than_the_api_shows_is_waited_for() {
    let mut world = all_empty(3);
    world.claims.remove(&name(1));
    nothing_but(&world, Verdict::Wait, "c-1", "has no claim yet");
    for said in [Some(Uid::new("claim of before")), None] {
        let mut world = all_empty(3);
        report_of(&mut world, 1).about.claim = said;
        nothing_but(&world, Verdict::Wait, "c-1", "do not agree about its claim");
    }
}

#[test]
fn an_empty_volume_whose_pilot_does_not_ask_to_start_yet_is_waited_for() {
    let mut world = all_empty(3);
    report_of(&mut world, 2).database.wants_start = false;
    nothing_but(&world, Verdict::Wait, "c-2", "has not asked to start yet");
}

#[test]
fn a_set_of_size_0_waits() {
    nothing_but(&all_empty(0), Verdict::Wait, "c", "its size is 0");
}

#[test]
fn everything_that_stands_in_the_way_is_said_at_once() {
    let mut world = all_empty(4);
    claim_of(&mut world, 0).cluster = Some(ClusterId::new("another"));
    pilot(&mut world, 1).liveness = Liveness::Silent;
    report_of(&mut world, 2).database.volume = Some(VolumeState::HoldsUnknown);
    let plan = plan(&world);
    assert_eq!(plan.act, None);
    let subjects: Vec<&str> = plan.reasons.iter().map(|r| r.subject.as_str()).collect();
    assert_eq!(subjects, ["c-0", "c-1", "c-2"]);
}

#[test]
fn when_all_are_empty_the_record_is_made_and_exactly_the_lowest_founds() {
    let world = all_empty(3);
    let plan = plan(&world);
    let Some(Act::CreateRecord(record)) = plan.act else { panic!("{plan:?}") };
    let intent = record.intent.as_ref().expect("to form");
    assert_eq!(intent.kind, IntentKind::Form { founder: voter(0) });
    assert_eq!((intent.operation.as_str(), intent.begun), ("1-form-c-0", EPOCH));
    assert_eq!((&record.cluster, record.epoch), (&mint(), EPOCH));
    // Who has not joined yet does not count: the others join one by one.
    assert_eq!(record.roster, [voter(0)]);
    assert!(record.members.is_empty() && record.retired.is_empty() && record.conditions.is_empty());
    assert!(matches!(&plan.reasons[..], [reason] if reason.verdict == Verdict::Act));
}

#[test]
fn the_lowest_is_the_lowest_number_also_beyond_ten_and_where_the_set_starts_elsewhere() {
    assert_eq!(founder(&all_empty_from(9, 3)), Some(voter(9)), "and not c-10, which sorts before it");
    assert_eq!(founder(&all_empty(1)), Some(voter(0)));
}

#[test]
fn a_pod_beyond_the_size_neither_founds_nor_is_waited_for() {
    let mut world = all_empty(4);
    world.set.replicas = 3;
    world.pilots.remove(&name(3));
    assert_eq!(founder(&world), Some(voter(0)));
    let mut world = all_empty_from(0, 4);
    (world.set.start, world.set.replicas) = (1, 3);
    assert_eq!(founder(&world), Some(voter(1)), "c-0 is not declared");
}
