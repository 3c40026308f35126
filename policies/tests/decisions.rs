//! What a coordinator decides in the situations an operator would name, one world and one plan each.

use policies::decide::{Limits, Roll, SIZE_REFUSED, decide};
use policies::plan::{Act, ClaimMarks, Plan, Rule, Verdict};
use policies::world::{
    ClaimFacts, ObjectRead, PilotFacts, PodFacts, RecordFacts, ResourceVersion, SetFacts, Template, World,
};
use protocol::database::{DatabasePhase, RingMember, RingStatus, VolumeState};
use protocol::epoch::Epoch;
use protocol::id::{ClusterId, DatabaseIdentity, OperationId, PilotName, Uid, Voter};
use protocol::order::{OldData, OrderKind, OrderName};
use protocol::record::{ClusterRecord, Intent, IntentKind, MemberRecord, Raised, Retirement};
use protocol::report::{About, ApiReach, DatabaseReport, MeshReport, Report, Role};
use protocol::view::Liveness;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const LIMITS: Limits = Limits {
    min: 1,
    max: 100,
    settle: Duration::from_secs(5),
    rollout: Roll { max_unavailable: 1, settle: Duration::from_secs(30), stop_after: 1 },
};
const EPOCH: Epoch = Epoch(5);

fn name(ordinal: u32) -> PilotName {
    PilotName::parse(&format!("c-{ordinal}")).expect("valid")
}

fn identity(ordinal: u32) -> DatabaseIdentity {
    DatabaseIdentity::new(format!("host-{ordinal}"))
}

fn claim(ordinal: u32) -> Uid {
    Uid::new(format!("claim-{ordinal}"))
}

fn voter(ordinal: u32) -> Voter {
    Voter { name: name(ordinal), claim: claim(ordinal) }
}

fn template(image: &str) -> Template {
    Template { containers: BTreeMap::from([("database".to_owned(), image.to_owned())]), restarted: None }
}

fn object(name: &str) -> ObjectRead {
    ObjectRead {
        name: name.to_owned(),
        uid: Uid::new(format!("uid-{name}")),
        version: ResourceVersion("7".to_owned()),
        stamp: EPOCH,
    }
}

fn report(ordinal: u32, ring: Vec<RingMember>) -> Report {
    Report {
        about: About {
            pod: Uid::new(format!("uid-c-{ordinal}")),
            claim: Some(claim(ordinal)),
            cluster: Some(ClusterId::new("k")),
            stream: "127.0.0.1:1".parse().expect("valid"),
            http: "127.0.0.1:2".parse().expect("valid"),
            database: "127.0.0.1".parse().expect("valid"),
            client_port: 9042,
            policy: String::new(),
            version: String::new(),
        },
        database: DatabaseReport {
            phase: DatabasePhase::Serving,
            identity: Some(identity(ordinal)),
            volume: None,
            version: None,
            pid: None,
            schema_agreed: Some(true),
            replication: Some(3),
            streaming: None,
            load: None,
            disk: None,
            starts: 1,
            unintended_ends: 0,
            terminating: false,
            leave: None,
            wants_start: false,
        },
        ring: Some(ring.into()),
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

fn ring(members: &[u32]) -> Vec<RingMember> {
    let whole = |n: &u32| RingMember { identity: identity(*n), status: RingStatus::Normal, up: Some(true) };
    let mut ring: Vec<RingMember> = members.iter().map(whole).collect();
    ring.sort_by(|a, b| a.identity.cmp(&b.identity));
    ring
}

/// Changes what one member sees of another.
fn sees(world: &mut World, ordinal: u32, other: u32, change: impl FnOnce(&mut RingMember)) {
    let ring = pilot(world, ordinal).ring.as_mut().expect("told");
    let mut lines = ring.to_vec();
    change(lines.iter_mut().find(|line| line.identity == identity(other)).expect("seen"));
    *ring = lines.into();
}

/// A healthy cluster of these members, with a set of `replicas`.
fn healthy(members: &[u32], replicas: u32) -> World {
    let record = ClusterRecord {
        cluster: ClusterId::new("k"),
        epoch: EPOCH,
        roster: members.iter().map(|n| voter(*n)).collect(),
        roster_revision: 1,
        members: members
            .iter()
            .map(|n| (name(*n), MemberRecord { claim: claim(*n), identity: identity(*n) }))
            .collect(),
        retired: BTreeMap::new(),
        intent: None,
        next_operation: 9,
        conditions: vec![],
    };
    let mut world = World {
        epoch: EPOCH,
        set: SetFacts {
            object: object("c"),
            replicas,
            start: 0,
            revision: Some("new".into()),
            template: template("new"),
        },
        pods: BTreeMap::new(),
        claims: BTreeMap::new(),
        record: Some(RecordFacts { object: object("c-pilots"), record }),
        pilots: BTreeMap::new(),
        lease_cluster: Some(ClusterId::new("k")),
        told_to_return: BTreeSet::new(),
        evictions_refused: BTreeMap::new(),
        patience: false,
        quiet_for: Duration::from_secs(3600),
    };
    for n in members {
        add(&mut world, *n, report(*n, ring(members)));
        if let Some(claim) = world.claims.get_mut(&name(*n)) {
            claim.cluster = Some(ClusterId::new("k"));
            claim.identity = Some(identity(*n));
        }
    }
    world
}

fn add(world: &mut World, ordinal: u32, report: Report) {
    let pod = PodFacts {
        object: object(&format!("c-{ordinal}")),
        terminating: false,
        revision: Some("new".into()),
        template: template("new"),
        pending: false,
        untouched: false,
    };
    world.pods.insert(name(ordinal), pod);
    let mut read = object(&format!("data-c-{ordinal}"));
    read.uid = claim(ordinal);
    world.claims.insert(
        name(ordinal),
        ClaimFacts { object: read, cluster: None, identity: None, retired: false, terminating: false, approved: None },
    );
    world.pilots.insert(name(ordinal), PilotFacts { liveness: Liveness::Live, report: Arc::new(report) });
}

fn newcomer(world: &mut World, ordinal: u32, volume: VolumeState) {
    let mut new = report(ordinal, vec![]);
    new.ring = None;
    new.database.phase = DatabasePhase::Held;
    new.database.identity = None;
    new.database.volume = Some(volume);
    new.database.wants_start = true;
    add(world, ordinal, new);
}

fn pilot(world: &mut World, ordinal: u32) -> &mut Report {
    Arc::make_mut(&mut world.pilots.get_mut(&name(ordinal)).expect("there").report)
}

fn record(world: &mut World) -> &mut ClusterRecord {
    &mut world.record.as_mut().expect("there").record
}

fn plan(world: &World) -> Plan {
    decide(LIMITS, world, world.record.as_ref().expect("there")).expect("coordinates")
}

fn intent_of(plan: &Plan) -> Option<IntentKind> {
    match &plan.act {
        Some(Act::WriteRecord(_, record)) => record.intent.as_ref().map(|i| i.kind.clone()),
        Some(
            Act::CreateRecord(_)
            | Act::StampSet(_)
            | Act::Scale(..)
            | Act::MarkClaim(..)
            | Act::StampPod(_)
            | Act::Evict(_)
            | Act::Order { .. },
        )
        | None => None,
    }
}

fn waits_for(plan: &Plan, rule: Rule) -> bool {
    plan.act.is_none() && plan.reasons.iter().any(|r| r.verdict == Verdict::Wait && r.rule == rule)
}

/// Every member says that there is one copy of everything: any size is enough.
fn one_copy(world: &mut World) {
    for pilot in world.pilots.values_mut() {
        Arc::make_mut(&mut pilot.report).database.replication = Some(1);
    }
}

/// The identity of this ordinal has been retired by this operation.
fn retired(world: &mut World, ordinal: u32, operation: &str) {
    let (name, claim) = (name(ordinal), claim(ordinal));
    let retirement = Retirement { name, claim, operation: OperationId::new(operation) };
    record(world).retired.insert(identity(ordinal), retirement);
}

/// It has left: nobody counts it, and its pilot and its claim are gone.
fn gone(world: &mut World, ordinal: u32) {
    let record = record(world);
    record.members.remove(&name(ordinal));
    record.roster.retain(|voter| voter.name != name(ordinal));
    world.claims.remove(&name(ordinal));
    world.pilots.remove(&name(ordinal));
}

fn leaving(world: &mut World, ordinal: u32, size_after: u32, raised: bool) {
    record(world).intent = Some(Intent {
        operation: OperationId::new("9-leave"),
        begun: EPOCH,
        kind: IntentKind::Leave {
            leaver: voter(ordinal),
            identity: identity(ordinal),
            size_after,
            raised,
            raised_to: None,
            granted: false,
        },
    });
}

fn joining(world: &mut World, ordinal: u32) {
    record(world).intent = Some(Intent {
        operation: OperationId::new("9-join"),
        begun: EPOCH,
        kind: IntentKind::Join { joiner: voter(ordinal), move_aside: None, raised: None },
    });
}

/// Takes the record that a plan writes as written.
fn written(world: &mut World) {
    match plan(world).act {
        Some(Act::WriteRecord(_, written)) => *record(world) = *written,
        other => panic!("the record is not written: {other:?}"),
    }
}

#[test]
fn a_healthy_cluster_of_the_wanted_size_is_left_alone() {
    let plan = plan(&healthy(&[0, 1, 2], 3));
    assert_eq!(plan, Plan::default());
}

#[test]
fn a_new_pod_joins_under_an_intent_when_all_members_serve() {
    let mut world = healthy(&[0, 1, 2], 4);
    newcomer(&mut world, 3, VolumeState::Empty);
    assert_eq!(intent_of(&plan(&world)), Some(IntentKind::Join { joiner: voter(3), move_aside: None, raised: None }));
}

#[test]
fn of_two_new_pods_only_the_lower_one_joins() {
    let mut world = healthy(&[0, 1, 2], 5);
    newcomer(&mut world, 4, VolumeState::Empty);
    newcomer(&mut world, 3, VolumeState::Empty);
    assert_eq!(intent_of(&plan(&world)), Some(IntentKind::Join { joiner: voter(3), move_aside: None, raised: None }));
}

#[test]
fn nobody_joins_while_a_member_is_seen_down() {
    let mut world = healthy(&[0, 1, 2], 4);
    newcomer(&mut world, 3, VolumeState::Empty);
    sees(&mut world, 0, 2, |line| line.up = Some(false));
    assert!(waits_for(&plan(&world), Rule::AllServing));
}

#[test]
fn nobody_joins_while_it_is_not_known_whether_a_member_is_up() {
    let mut world = healthy(&[0, 1, 2], 4);
    newcomer(&mut world, 3, VolumeState::Empty);
    sees(&mut world, 0, 2, |line| line.up = None);
    assert!(waits_for(&plan(&world), Rule::AllServing));
}

#[test]
fn nobody_joins_while_schemas_differ_or_are_unknown() {
    for agreed in [Some(false), None] {
        let mut world = healthy(&[0, 1, 2], 4);
        newcomer(&mut world, 3, VolumeState::Empty);
        pilot(&mut world, 1).database.schema_agreed = agreed;
        assert!(waits_for(&plan(&world), Rule::SchemaAgreed));
    }
}

#[test]
fn nobody_joins_beside_a_stranger_in_the_ring() {
    let mut world = healthy(&[0, 1, 2], 4);
    newcomer(&mut world, 3, VolumeState::Empty);
    for n in 0..3 {
        pilot(&mut world, n).ring = Some(ring(&[0, 1, 2, 9]).into());
        sees(&mut world, n, 9, |line| line.status = RingStatus::Joining);
    }
    assert!(waits_for(&plan(&world), Rule::OneAtATime));
}

#[test]
fn data_of_a_retired_identity_is_moved_aside_before_its_claim_is_used_again() {
    let mut world = healthy(&[0, 1, 2], 4);
    newcomer(&mut world, 3, VolumeState::Holds(identity(3)));
    retired(&mut world, 3, "4-leave");
    assert_eq!(
        intent_of(&plan(&world)),
        Some(IntentKind::Join { joiner: voter(3), move_aside: Some(OldData::Of(identity(3))), raised: None })
    );
}

/// The plan under other limits.
fn plan_under(limits: Limits, world: &World) -> Plan {
    decide(limits, world, world.record.as_ref().expect("a record")).expect("not outranked")
}

/// The pods of these members were made from an older template.
fn outdated(world: &mut World, members: &[u32]) {
    for n in members {
        let pod = world.pods.get_mut(&name(*n)).expect("a pod");
        pod.revision = Some("old".into());
        pod.template = template("old");
    }
}

/// The record as a plan writes it.
fn rewritten(plan: &Plan) -> Option<&ClusterRecord> {
    match &plan.act {
        Some(Act::WriteRecord(_, record)) => Some(record),
        other => {
            assert!(other.is_none(), "no other act is expected: {other:?}");
            None
        }
    }
}

#[test]
fn nothing_joins_or_leaves_before_the_pause_after_an_operation_is_over() {
    let mut grow = healthy(&[0, 1, 2], 4);
    newcomer(&mut grow, 3, VolumeState::Empty);
    let shrink = healthy(&[0, 1, 2, 3], 3);
    for mut world in [grow, shrink] {
        world.quiet_for = Duration::from_secs(4);
        assert!(waits_for(&plan(&world), Rule::Settle));
        let quick = Limits { settle: Duration::from_secs(3), ..LIMITS };
        assert!(intent_of(&plan_under(quick, &world)).is_some());
    }
}

#[test]
fn pods_of_an_older_template_are_made_anew_the_highest_ordinal_first() {
    let mut world = healthy(&[0, 1, 2], 3);
    assert_eq!(plan(&world).act, None, "all are of the present template");
    outdated(&mut world, &[0, 2]);
    let kind = IntentKind::Restart { member: voter(2), pod: Uid::new("uid-c-2") };
    assert_eq!(intent_of(&plan(&world)), Some(kind));
}

#[test]
fn a_pod_that_only_its_revision_or_only_its_content_tells_apart_is_left_alone() {
    let mut world = healthy(&[0, 1, 2], 3);
    outdated(&mut world, &[0, 1]);
    // A sidecar was changed in place: the containers say the same.
    world.pods.get_mut(&name(0)).expect("a pod").template = template("new");
    // The API server changes each pod as it is made: another one would differ too.
    world.pods.get_mut(&name(1)).expect("a pod").revision = Some("new".into());
    assert_eq!(plan(&world).act, None);
    // The set's controller has not looked at the change yet.
    outdated(&mut world, &[0]);
    world.set.revision = None;
    assert_eq!(plan(&world).act, None);
}

#[test]
fn the_next_restart_waits_for_the_rollouts_pause() {
    let mut world = healthy(&[0, 1, 2], 3);
    outdated(&mut world, &[1]);
    world.quiet_for = Duration::from_secs(20);
    assert!(waits_for(&plan(&world), Rule::Settle));
    let quick = Limits { rollout: Roll { settle: Duration::from_secs(10), ..LIMITS.rollout }, ..LIMITS };
    assert!(intent_of(&plan_under(quick, &world)).is_some());
}

#[test]
fn a_restart_begins_within_what_may_be_unavailable_and_what_replication_tolerates() {
    let mut world = healthy(&[0, 1, 2, 3, 4], 5);
    outdated(&mut world, &[4]);
    pilot(&mut world, 0).database.phase = DatabasePhase::Restarting;
    assert!(waits_for(&plan(&world), Rule::RollInBudget));
    let two = Limits { rollout: Roll { max_unavailable: 2, ..LIMITS.rollout }, ..LIMITS };
    assert!(waits_for(&plan_under(two, &world), Rule::RollInBudget), "three copies keep a quorum with one away");
    for n in 0..5 {
        pilot(&mut world, n).database.replication = Some(5);
    }
    assert!(intent_of(&plan_under(two, &world)).is_some(), "five copies keep one with two away");
}

/// A restart of member 2 under way.
fn restarting(world: &mut World) {
    let kind = IntentKind::Restart { member: voter(2), pod: Uid::new("uid-c-2") };
    record(world).intent = Some(Intent { operation: OperationId::new("8-restart-c-2"), begun: EPOCH, kind });
}

/// Its new pod, with this phase of its database.
fn in_a_new_pod(world: &mut World, ordinal: u32, phase: DatabasePhase) {
    world.pods.get_mut(&name(ordinal)).expect("a pod").object.uid = Uid::new("anew");
    pilot(world, ordinal).about.pod = Uid::new("anew");
    pilot(world, ordinal).database.phase = phase;
}

#[test]
fn a_pod_is_stamped_then_evicted_and_the_restart_ends_when_peers_see_the_member_again() {
    let mut world = healthy(&[0, 1, 2], 3);
    outdated(&mut world, &[2]);
    restarting(&mut world);
    world.pods.get_mut(&name(2)).expect("a pod").object.stamp = Epoch(4);
    assert!(matches!(plan(&world).act, Some(Act::StampPod(_))));
    world.pods.get_mut(&name(2)).expect("a pod").object.stamp = EPOCH;
    assert!(matches!(plan(&world).act, Some(Act::Evict(target)) if target.name() == "c-2"));
    world.pods.get_mut(&name(2)).expect("a pod").terminating = true;
    assert_eq!(plan(&world).act, None);

    let mut world = healthy(&[0, 1, 2], 3);
    restarting(&mut world);
    in_a_new_pod(&mut world, 2, DatabasePhase::Starting);
    assert!(waits_for(&plan(&world), Rule::PeersDecide));
    in_a_new_pod(&mut world, 2, DatabasePhase::Serving);
    sees(&mut world, 0, 2, |line| line.up = Some(false));
    assert!(waits_for(&plan(&world), Rule::PeersDecide));
    sees(&mut world, 0, 2, |line| line.up = Some(true));
    assert!(rewritten(&plan(&world)).is_some_and(|r| r.intent.is_none()));
}

#[test]
fn a_restart_that_has_not_begun_makes_room_when_somebody_is_away() {
    let mut world = healthy(&[0, 1, 2, 3], 3);
    outdated(&mut world, &[2]);
    restarting(&mut world);
    world.pods.remove(&name(3));
    assert!(rewritten(&plan(&world)).is_some_and(|r| r.intent.is_none()));
}

#[test]
fn an_eviction_that_a_budget_refused_is_put_off_and_holds_up_nothing_else() {
    let mut world = healthy(&[0, 1, 2], 4);
    outdated(&mut world, &[2]);
    restarting(&mut world);
    world.evictions_refused.insert(Uid::new("uid-c-2"), "the budget needs 3 healthy pods".to_owned());
    assert!(rewritten(&plan(&world)).is_some_and(|r| r.intent.is_none()), "nothing has begun, so the operation ends");
    record(&mut world).intent = None;
    newcomer(&mut world, 3, VolumeState::Empty);
    assert!(matches!(intent_of(&plan(&world)), Some(IntentKind::Join { .. })), "a join has its turn meanwhile");
    world.pods.remove(&name(3));
    world.set.replicas = 3;
    assert!(waits_for(&plan(&world), Rule::RollInBudget));
    world.evictions_refused.clear();
    assert!(matches!(intent_of(&plan(&world)), Some(IntentKind::Restart { .. })), "after the pause it is asked again");
}

#[test]
fn a_new_pod_that_has_never_run_holds_up_no_restart_and_is_made_anew_when_the_template_is_mended() {
    let mut world = healthy(&[0, 1, 2], 4);
    newcomer(&mut world, 3, VolumeState::Empty);
    world.pilots.remove(&name(3));
    world.pods.get_mut(&name(3)).expect("a pod").untouched = true;
    outdated(&mut world, &[2]);
    assert!(matches!(intent_of(&plan(&world)), Some(IntentKind::Restart { .. })), "a restart has its turn");
    outdated(&mut world, &[3]);
    world.pods.get_mut(&name(3)).expect("a pod").object.stamp = Epoch(4);
    assert!(matches!(plan(&world).act, Some(Act::StampPod(target)) if target.name() == "c-3"));
    world.pods.get_mut(&name(3)).expect("a pod").object.stamp = EPOCH;
    assert!(matches!(plan(&world).act, Some(Act::Evict(target)) if target.name() == "c-3"));
    world.pods.get_mut(&name(3)).expect("a pod").untouched = false;
    assert!(!matches!(plan(&world).act, Some(Act::Evict(_))), "one that runs is left alone");
}

#[test]
fn a_template_put_back_before_the_eviction_leaves_the_pod_alone() {
    let mut world = healthy(&[0, 1, 2], 3);
    restarting(&mut world);
    assert!(rewritten(&plan(&world)).is_some_and(|r| r.intent.is_none()));
}

#[test]
fn a_roll_stops_at_a_member_that_does_not_come_back_and_goes_on_when_the_template_is_mended() {
    let mut world = healthy(&[0, 1, 2], 3);
    outdated(&mut world, &[0, 1]);
    restarting(&mut world);
    in_a_new_pod(&mut world, 2, DatabasePhase::CrashLooping);
    let stopped = plan(&world);
    assert_eq!(stopped.act, None);
    assert!(stopped.reasons.iter().any(|r| r.verdict == Verdict::Refuse && r.rule == Rule::RollStops));
    // The policy bears one: the operation ends, and what is unavailable decides about the next.
    let bears = Limits { rollout: Roll { stop_after: 2, ..LIMITS.rollout }, ..LIMITS };
    assert!(rewritten(&plan_under(bears, &world)).is_some_and(|r| r.intent.is_none()));
    // Mended: the broken pod is of an older template again, and is made anew whoever else is away.
    outdated(&mut world, &[2]);
    let again = rewritten(&plan(&world)).and_then(|r| r.intent.clone()).map(|i| i.kind);
    assert_eq!(again, Some(IntentKind::Restart { member: voter(2), pod: Uid::new("anew") }));
}

#[test]
fn a_member_scaled_away_while_it_restarts_is_free_to_leave() {
    let mut world = healthy(&[0, 1, 2, 3], 3);
    let kind = IntentKind::Restart { member: voter(3), pod: Uid::new("uid-c-3") };
    record(&mut world).intent = Some(Intent { operation: OperationId::new("8-restart-c-3"), begun: EPOCH, kind });
    world.pods.get_mut(&name(3)).expect("a pod").terminating = true;
    assert!(rewritten(&plan(&world)).is_some_and(|r| r.intent.is_none()));
}

#[test]
fn data_that_nobody_knows_is_never_started_or_moved() {
    for volume in [VolumeState::HoldsUnknown, VolumeState::Holds(identity(42))] {
        let mut world = healthy(&[0, 1, 2], 4);
        newcomer(&mut world, 3, volume);
        pilot(&mut world, 3).about.cluster = Some(protocol::id::ClusterId::new("another"));
        let plan = plan(&world);
        assert_eq!(plan.act, None);
        assert!(plan.reasons.iter().any(|r| r.rule == Rule::UnknownDataStays && r.verdict == Verdict::Refuse));
    }
}

#[test]
fn data_whose_identity_was_never_heard_is_moved_aside_if_this_clusters_join_began_it() {
    let begun = OperationId::new("3-join-c-3");
    let healthy_with = |volume: VolumeState| {
        let mut world = healthy(&[0, 1, 2], 4);
        newcomer(&mut world, 3, volume);
        world
    };
    let mut world = healthy_with(VolumeState::Begun(begun.clone()));
    let joins =
        Some(IntentKind::Join { joiner: voter(3), move_aside: Some(OldData::BegunUnder(begun.clone())), raised: None });
    assert_eq!(intent_of(&plan(&world)), joins);
    // A member had left that claim before: its data was moved aside when the join began.
    let before = Retirement { name: name(3), claim: claim(3), operation: OperationId::new("2-leave") };
    record(&mut world).retired.insert(identity(13), before);
    assert_eq!(intent_of(&plan(&world)), joins);
    // Its claim holds, or held, a member's data after all.
    retired(&mut world, 3, "4-leave");
    assert_eq!(plan(&world).act, None);
    // Another cluster began it.
    let mut world = healthy_with(VolumeState::Begun(begun));
    pilot(&mut world, 3).about.cluster = Some(protocol::id::ClusterId::new("another"));
    assert_eq!(plan(&world).act, None);
}

#[test]
fn what_a_join_began_is_moved_aside_when_its_pilot_has_lost_its_memory_and_nobody_unknown_is_in_the_ring() {
    let mut world = healthy(&[0, 1, 2], 4);
    newcomer(&mut world, 3, VolumeState::HoldsUnknown);
    let operation = OperationId::new("8-join-c-3");
    let kind = IntentKind::Join { joiner: voter(3), move_aside: None, raised: None };
    record(&mut world).intent = Some(Intent { operation: operation.clone(), begun: EPOCH, kind });
    let ordered = |world: &World| match plan(world).act {
        Some(Act::Order { kind: OrderKind::Join { move_aside, .. }, .. }) => move_aside,
        other => {
            assert_eq!(other, None);
            None
        }
    };
    assert_eq!(ordered(&world), Some(OldData::BegunUnder(operation)));
    // An older copy of its memory names somebody from before.
    pilot(&mut world, 3).database.volume = Some(VolumeState::Holds(identity(42)));
    assert_eq!(ordered(&world), Some(OldData::Of(identity(42))));
    pilot(&mut world, 3).database.volume = Some(VolumeState::HoldsUnknown);
    // Somebody unknown is in the ring: that may be whose data it is.
    for n in 0..3 {
        pilot(&mut world, n).ring = Some(ring(&[0, 1, 2, 42]).into());
        sees(&mut world, n, 42, |line| line.up = Some(false));
    }
    assert_eq!(ordered(&world), None);
}

#[test]
fn data_of_a_join_that_was_given_up_is_moved_aside_but_not_while_a_member_sees_its_identity() {
    let mut world = healthy(&[0, 1, 2], 4);
    newcomer(&mut world, 3, VolumeState::Holds(identity(42)));
    assert_eq!(
        intent_of(&plan(&world)),
        Some(IntentKind::Join { joiner: voter(3), move_aside: Some(OldData::Of(identity(42))), raised: None })
    );
    pilot(&mut world, 1).ring = Some(ring(&[0, 1, 2, 42]).into());
    assert_eq!(plan(&world).act, None);
}

#[test]
fn a_size_that_will_never_be_allowed_is_answered_at_once_with_the_least_that_is() {
    let mut world = healthy(&[0, 1, 2, 3, 4], 1);
    written(&mut world);
    let plan = plan(&world);
    assert!(matches!(plan.act, Some(Act::Scale(_, 3))), "{plan:?}");
}

#[test]
fn a_new_coordinator_waits_one_old_lease_before_it_changes_membership() {
    let mut world = healthy(&[0, 1, 2], 4);
    newcomer(&mut world, 3, VolumeState::Empty);
    world.patience = true;
    assert!(waits_for(&plan(&world), Rule::OneOldLease));
}

#[test]
fn a_joiner_becomes_a_member_only_when_peers_see_it_normal_and_up() {
    let mut world = healthy(&[0, 1, 2], 4);
    add(&mut world, 3, report(3, ring(&[0, 1, 2, 3])));
    joining(&mut world, 3);
    assert!(waits_for(&plan(&world), Rule::PeersDecide));
    for n in 0..3 {
        pilot(&mut world, n).ring = Some(ring(&[0, 1, 2, 3]).into());
    }
    match plan(&world).act {
        Some(Act::WriteRecord(_, record)) => {
            assert!(record.members.contains_key(&name(3)));
            assert!(record.roster.contains(&voter(3)));
            assert_eq!(record.intent, None);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_joiner_that_peers_see_while_its_pilot_is_silent_becomes_a_member_and_counts_only_when_it_is_heard() {
    let mut world = healthy(&[0, 1, 2], 4);
    add(&mut world, 3, report(3, ring(&[0, 1, 2, 3])));
    for n in 0..3 {
        pilot(&mut world, n).ring = Some(ring(&[0, 1, 2, 3]).into());
    }
    joining(&mut world, 3);
    let heard = world.pilots.remove(&name(3)).expect("there");
    written(&mut world);
    assert!(record(&mut world).members.contains_key(&name(3)), "peers see it own data");
    assert!(!record(&mut world).roster.contains(&voter(3)), "who is silent would make a majority harder to reach");
    assert_eq!(record(&mut world).intent, None);

    world.pilots.insert(name(3), heard);
    let claim = world.claims.get_mut(&name(3)).expect("there");
    (claim.cluster, claim.identity) = (Some(ClusterId::new("k")), Some(identity(3)));
    written(&mut world);
    assert!(record(&mut world).roster.contains(&voter(3)));
}

#[test]
fn a_joiner_whose_pod_ends_becomes_a_member_that_does_not_count() {
    let mut world = healthy(&[0, 1, 2], 3);
    add(&mut world, 3, report(3, ring(&[0, 1, 2, 3])));
    world.pods.get_mut(&name(3)).expect("there").terminating = true;
    for n in 0..3 {
        pilot(&mut world, n).ring = Some(ring(&[0, 1, 2, 3]).into());
    }
    joining(&mut world, 3);
    written(&mut world);
    assert!(record(&mut world).members.contains_key(&name(3)));
    assert!(!record(&mut world).roster.contains(&voter(3)), "its pilot is about to go");
}

#[test]
fn a_member_beyond_the_size_that_has_no_pod_is_not_waited_for_to_confirm_a_join() {
    let mut world = healthy(&[0, 6], 2);
    add(&mut world, 1, report(1, ring(&[0, 1, 6])));
    pilot(&mut world, 0).ring = Some(ring(&[0, 1, 6]).into());
    joining(&mut world, 1);
    world.pilots.remove(&name(6));
    assert!(waits_for(&plan(&world), Rule::PeersDecide), "its pod is there, and may speak again");
    world.pods.remove(&name(6));
    written(&mut world);
    assert!(record(&mut world).members.contains_key(&name(1)));
}

#[test]
fn a_join_of_a_pod_that_is_gone_is_given_up_only_when_most_members_have_told_that_they_do_not_see_it() {
    let mut world = healthy(&[0, 1, 2], 3);
    joining(&mut world, 3);
    let mut silent = world.clone();
    for n in 0..2 {
        pilot(&mut silent, n).ring = None;
    }
    assert!(waits_for(&plan(&silent), Rule::JoinByGrant), "one of three has told its ring");
    written(&mut world);
    assert_eq!(record(&mut world).intent, None);
}

#[test]
fn whoever_serves_although_its_join_was_given_up_is_recorded_as_the_member_that_its_peers_see() {
    let mut world = healthy(&[0, 1, 2], 4);
    add(&mut world, 3, report(3, ring(&[0, 1, 2, 3])));
    for n in 0..3 {
        pilot(&mut world, n).ring = Some(ring(&[0, 1, 2, 3]).into());
    }
    let mut another = world.clone();
    pilot(&mut another, 3).about.cluster = Some(ClusterId::new("another"));
    assert_eq!(plan(&another).act, None, "it is of another cluster");
    let mut unseen = world.clone();
    sees(&mut unseen, 1, 3, |line| line.up = Some(false));
    assert_eq!(plan(&unseen).act, None, "one of them does not see it up");
    written(&mut world);
    assert_eq!(record(&mut world).members.get(&name(3)).map(|m| m.identity.clone()), Some(identity(3)));
    assert!(record(&mut world).roster.contains(&voter(3)));
}

#[test]
fn a_joiner_whose_start_failed_is_ordered_again() {
    let mut world = healthy(&[0, 1, 2], 4);
    newcomer(&mut world, 3, VolumeState::Empty);
    joining(&mut world, 3);
    pilot(&mut world, 3).mesh.obeyed = Some((OperationId::new("9-join"), OrderName::Join));
    assert!(matches!(plan(&world).act, Some(Act::Order { kind: OrderKind::Join { .. }, .. })));
    pilot(&mut world, 3).database.wants_start = false;
    assert!(plan(&world).act.is_none(), "while it tries, it is not told again");
}

#[test]
fn a_join_that_has_not_begun_makes_room_for_a_member_that_was_scaled_away_and_has_to_leave() {
    let mut world = healthy(&[0, 2, 3, 4], 4);
    newcomer(&mut world, 1, VolumeState::Empty);
    joining(&mut world, 1);
    for ordinal in [0, 2, 3] {
        sees(&mut world, ordinal, 4, |line| (line.status, line.up) = (RingStatus::Shutdown, Some(false)));
    }
    assert!(waits_for(&plan(&world), Rule::AllServing), "as long as it has a pod it may serve again");
    world.pods.remove(&name(4));
    world.pilots.remove(&name(4));
    assert_eq!(rewritten(&plan(&world)).map(|r| r.intent.is_none()), Some(true));
    written(&mut world);
    assert!(matches!(intent_of(&plan(&world)), Some(IntentKind::Leave { .. })), "{:?}", plan(&world));
    written(&mut world);

    // What nobody knows on its volume can be moved aside only under the operation that began it.
    joining(&mut world, 1);
    pilot(&mut world, 1).database.volume = Some(VolumeState::HoldsUnknown);
    assert_eq!(raised_for(&rewritten(&plan(&world)).expect("a record")), Some(Raised { to: 5, after: 4 }));
}

fn raised_for(record: &ClusterRecord) -> Option<Raised> {
    match &record.intent.as_ref()?.kind {
        IntentKind::Join { raised, .. } | IntentKind::Replace { raised, .. } => *raised,
        IntentKind::Form { .. } | IntentKind::Leave { .. } | IntentKind::Restart { .. } => None,
    }
}

/// Member 1 joins again, and takes its data from 0, 2 and 4; the pod of 4 was scaled away meanwhile.
fn joining_without_a_source() -> World {
    let mut world = healthy(&[0, 2, 4], 3);
    one_copy(&mut world);
    add(&mut world, 1, report(1, vec![]));
    joining(&mut world, 1);
    let joiner = pilot(&mut world, 1);
    (joiner.database.phase, joiner.database.replication) = (DatabasePhase::Joining, None);
    for ordinal in [0, 2] {
        pilot(&mut world, ordinal).ring = Some(ring(&[0, 1, 2, 4]).into());
        sees(&mut world, ordinal, 1, |line| line.status = RingStatus::Joining);
        sees(&mut world, ordinal, 4, |line| (line.status, line.up) = (RingStatus::Shutdown, Some(false)));
    }
    world
}

#[test]
fn a_joiner_gets_a_member_back_that_was_scaled_away_under_it_and_that_one_leaves_when_it_has_joined() {
    let mut world = joining_without_a_source();
    assert!(waits_for(&plan(&world), Rule::PeersDecide), "as long as it has a pod it may serve again");
    world.pods.remove(&name(4));
    written(&mut world);
    assert_eq!(raised_for(record(&mut world)), Some(Raised { to: 5, after: 3 }), "a coordinator may end any time");
    assert!(matches!(plan(&world).act, Some(Act::Scale(_, 5))), "{:?}", plan(&world));

    world.set.replicas = 5;
    add(&mut world, 4, report(4, ring(&[0, 1, 2, 4])));
    for ordinal in [0, 2, 4] {
        pilot(&mut world, ordinal).ring = Some(ring(&[0, 1, 2, 4]).into());
    }
    pilot(&mut world, 1).database.phase = DatabasePhase::Serving;
    written(&mut world);
    assert!(record(&mut world).members.contains_key(&name(1)));
    assert_eq!(
        record(&mut world).intent.as_ref().map(|i| i.kind.clone()),
        Some(IntentKind::Leave {
            leaver: voter(4),
            identity: identity(4),
            size_after: 3,
            raised: true,
            raised_to: Some(5),
            granted: false,
        })
    );
}

#[test]
fn what_a_user_sets_while_the_size_is_raised_for_a_join_is_what_counts() {
    let mut world = joining_without_a_source();
    world.pods.remove(&name(4));
    written(&mut world);
    let raised = world.clone();

    world.set.replicas = 2;
    written(&mut world);
    assert_eq!(raised_for(record(&mut world)), Some(Raised { to: 5, after: 2 }), "less is wanted: it falls to that");

    let mut world = raised;
    world.set.replicas = 6;
    for ordinal in [0, 2] {
        pilot(&mut world, ordinal).ring = Some(ring(&[0, 1, 2, 4]).into());
    }
    written(&mut world);
    assert_eq!(record(&mut world).intent, None, "more is wanted: nobody leaves");
}

#[test]
fn for_a_joiner_that_is_not_wanted_any_more_no_size_is_raised() {
    let mut world = joining_without_a_source();
    world.pods.remove(&name(4));
    world.set.replicas = 1;
    assert_eq!(plan(&world).act, None);
    world.set.replicas = 3;
    world.pods.get_mut(&name(1)).expect("there").terminating = true;
    assert!(!matches!(plan(&world).act, Some(Act::WriteRecord(..) | Act::Scale(..))), "{:?}", plan(&world));
}

#[test]
fn a_member_beyond_the_size_leaves_under_an_intent() {
    let world = healthy(&[0, 1, 2, 3], 3);
    assert_eq!(
        intent_of(&plan(&world)),
        Some(IntentKind::Leave {
            leaver: voter(3),
            identity: identity(3),
            size_after: 3,
            raised: false,
            raised_to: None,
            granted: false,
        })
    );
}

#[test]
fn of_several_surplus_members_the_highest_ordinal_leaves_first_also_beyond_nine() {
    let members: Vec<u32> = (0..12).collect();
    let world = healthy(&members, 9);
    match intent_of(&plan(&world)) {
        Some(IntentKind::Leave { leaver, .. }) => assert_eq!(leaver, voter(11)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_scale_in_below_the_replication_factor_is_recorded_then_undone_and_nobody_leaves() {
    let mut world = healthy(&[0, 1, 2], 2);
    let Some(Act::WriteRecord(_, written)) = plan(&world).act else {
        panic!("the refusal is recorded first");
    };
    assert!(written.conditions.iter().any(|c| c.kind == SIZE_REFUSED && c.status));
    assert_eq!(written.intent, None);
    *record(&mut world) = *written;
    let plan = plan(&world);
    assert!(matches!(plan.act, Some(Act::Scale(_, 3))));
    assert!(plan.reasons.iter().any(|r| r.verdict == Verdict::Refuse && r.rule == Rule::ReplicasKeepHomes));
}

#[test]
fn an_unknown_replication_factor_holds_a_scale_in() {
    let mut world = healthy(&[0, 1, 2, 3], 3);
    for n in 0..4 {
        pilot(&mut world, n).database.replication = None;
    }
    assert!(waits_for(&plan(&world), Rule::UnknownHolds));
}

#[test]
fn a_terminating_member_that_is_wanted_is_told_to_return() {
    let mut world = healthy(&[0, 1, 2], 3);
    world.pods.get_mut(&name(1)).expect("there").terminating = true;
    pilot(&mut world, 1).database.terminating = true;
    match plan(&world).act {
        Some(Act::Order { to, kind: OrderKind::EndAndReturn, .. }) => assert_eq!(to, name(1)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_terminating_member_that_does_not_hear_holds_back_neither_the_next_nor_other_decisions() {
    let mut world = healthy(&[0, 1, 2], 3);
    for n in [0, 1] {
        world.pods.get_mut(&name(n)).expect("there").terminating = true;
        pilot(&mut world, n).database.terminating = true;
    }
    let told = |world: &World| match plan(world).act {
        Some(Act::Order { to, kind: OrderKind::EndAndReturn, .. }) => Some(to),
        Some(_) | None => None,
    };
    assert_eq!(told(&world), Some(name(0)));
    world.told_to_return.insert(name(0));
    assert_eq!(told(&world), Some(name(1)));
    world.told_to_return.insert(name(1));
    world.claims.get_mut(&name(2)).expect("there").identity = None;
    assert!(matches!(plan(&world).act, Some(Act::MarkClaim(..))));
}

#[test]
fn a_member_that_obeyed_an_earlier_ending_is_told_again_in_the_next() {
    let mut world = healthy(&[0, 1, 2], 3);
    world.pods.get_mut(&name(1)).expect("there").terminating = true;
    pilot(&mut world, 1).database.terminating = true;
    pilot(&mut world, 1).mesh.obeyed = Some((OperationId::new("9-return"), OrderName::EndAndReturn));
    assert!(matches!(plan(&world).act, Some(Act::Order { kind: OrderKind::EndAndReturn, .. })));
    pilot(&mut world, 1).database.phase = DatabasePhase::Draining;
    assert!(!matches!(plan(&world).act, Some(Act::Order { .. })));
}

#[test]
fn a_claim_touched_by_an_operation_carries_our_epoch_before_anything_is_aimed_at_it() {
    let mut world = healthy(&[0, 1, 2, 3], 3);
    leaving(&mut world, 3, 3, false);
    let claim = world.claims.get_mut(&name(3)).expect("there");
    claim.object.stamp = Epoch(4);
    let (cluster, identity) = (ClusterId::new("k"), claim.identity.clone());
    match plan(&world).act {
        Some(Act::MarkClaim(_, marks)) => assert_eq!(marks, ClaimMarks { cluster, identity, retired: false }),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_leave_is_granted_once_and_then_only_watched() {
    let mut world = healthy(&[0, 1, 2, 3], 3);
    leaving(&mut world, 3, 3, false);
    written(&mut world);
    assert!(matches!(
        record(&mut world).intent.as_ref().map(|i| &i.kind),
        Some(IntentKind::Leave { granted: true, .. })
    ));
    assert!(matches!(plan(&world).act, Some(Act::Order { kind: OrderKind::Leave { .. }, .. })));
    pilot(&mut world, 3).mesh.obeyed = Some((OperationId::new("9-leave"), OrderName::Leave));
    pilot(&mut world, 3).database.phase = DatabasePhase::Leaving;
    assert!(waits_for(&plan(&world), Rule::PeersDecide));
}

#[test]
fn no_leave_is_withdrawn_while_an_order_of_an_earlier_coordinator_may_run() {
    let mut world = healthy(&[0, 1, 2, 3], 4);
    leaving(&mut world, 3, 3, false);
    world.patience = true;
    assert!(waits_for(&plan(&world), Rule::OneOldLease));
}

#[test]
fn no_leave_is_withdrawn_while_it_streams_and_the_report_of_its_order_lags() {
    let mut world = healthy(&[0, 1, 2, 3], 4);
    leaving(&mut world, 3, 3, false);
    pilot(&mut world, 3).database.phase = DatabasePhase::Leaving;
    assert!(waits_for(&plan(&world), Rule::PeersDecide));
}

#[test]
fn a_granted_leave_is_never_withdrawn_whatever_is_wanted_since() {
    let mut world = healthy(&[0, 1, 2, 3], 3);
    leaving(&mut world, 3, 3, false);
    written(&mut world);
    world.set.replicas = 4;
    assert!(matches!(plan(&world).act, Some(Act::Order { kind: OrderKind::Leave { .. }, .. })));
    for n in 0..4 {
        pilot(&mut world, n).database.replication = Some(4);
    }
    assert!(waits_for(&plan(&world), Rule::ReplicasKeepHomes));
}

#[test]
fn a_member_seen_gone_that_cannot_start_any_more_is_told_to_end_and_then_retired() {
    for phase in [DatabasePhase::CrashLooping, DatabasePhase::Restarting] {
        let mut world = healthy(&[0, 1, 2, 3], 4);
        leaving(&mut world, 3, 3, true);
        for n in 0..3 {
            pilot(&mut world, n).ring = Some(ring(&[0, 1, 2]).into());
        }
        pilot(&mut world, 3).database.phase = phase;
        pilot(&mut world, 3).ring = None;
        let mut starts = world.clone();
        pilot(&mut starts, 3).database.phase = DatabasePhase::Starting;
        assert_eq!(plan(&starts).act, None, "it may come up as a member");
        assert!(matches!(plan(&world).act, Some(Act::Order { kind: OrderKind::EndAfterLeave, .. })));
        pilot(&mut world, 3).database.phase = DatabasePhase::Stopped;
        written(&mut world);
        assert!(record(&mut world).retired.contains_key(&identity(3)));
    }
}

#[test]
fn a_user_who_wants_fewer_during_a_raised_leave_keeps_that_wish() {
    let mut world = healthy(&[0, 1, 2, 3, 4], 3);
    one_copy(&mut world);
    leaving(&mut world, 4, 4, true);
    world.pods.remove(&name(4));
    written(&mut world);
    assert!(matches!(
        record(&mut world).intent.as_ref().map(|i| &i.kind),
        Some(IntentKind::Leave { size_after: 3, raised: true, .. })
    ));
    assert!(matches!(plan(&world).act, Some(Act::Scale(_, 5))));
}

#[test]
fn a_leave_is_done_when_peers_say_so_and_not_when_the_leaver_says_so() {
    let mut world = healthy(&[0, 1, 2, 3], 3);
    leaving(&mut world, 3, 3, false);
    pilot(&mut world, 3).mesh.obeyed = Some((OperationId::new("9-leave"), OrderName::Leave));
    pilot(&mut world, 3).database.phase = DatabasePhase::Left;
    assert!(waits_for(&plan(&world), Rule::PeersDecide));
    for n in 0..3 {
        pilot(&mut world, n).ring = Some(ring(&[0, 1, 2]).into());
    }
    match plan(&world).act {
        Some(Act::WriteRecord(_, record)) => {
            assert!(record.retired.contains_key(&identity(3)));
            assert!(!record.members.contains_key(&name(3)));
            assert!(record.intent.is_some(), "the pod and the size still have to follow");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_leave_that_was_cut_off_brings_the_pod_back_before_the_size_falls() {
    let mut world = healthy(&[0, 1, 2, 3], 3);
    leaving(&mut world, 3, 3, false);
    world.pods.remove(&name(3));
    match plan(&world).act {
        Some(Act::WriteRecord(_, written)) => *record(&mut world) = *written,
        other => panic!("{other:?}"),
    }
    assert!(matches!(plan(&world).act, Some(Act::Scale(_, 4))));
}

#[test]
fn the_size_falls_back_only_when_the_coordinator_had_raised_it() {
    for (raised, falls) in [(true, true), (false, false)] {
        let mut world = healthy(&[0, 1, 2], 4);
        leaving(&mut world, 3, 3, raised);
        retired(&mut world, 3, "9-leave");
        let plan = plan(&world);
        assert_eq!(matches!(plan.act, Some(Act::Scale(_, 3))), falls, "{plan:?}");
    }
}

#[test]
fn a_size_that_was_raised_falls_when_all_beyond_it_have_left_one_after_the_other() {
    // With the size all pods beyond it would end at once: three of the five that count.
    let mut world = healthy(&[0, 1, 3, 4, 6], 8);
    one_copy(&mut world);
    leaving(&mut world, 7, 3, true);
    retired(&mut world, 7, "9-leave");
    for ordinal in [6, 4, 3] {
        written(&mut world);
        match record(&mut world).intent.clone().map(|i| i.kind) {
            Some(IntentKind::Leave {
                leaver, size_after: 3, raised: true, raised_to: Some(8), granted: false, ..
            }) => {
                assert_eq!(leaver, voter(ordinal));
            }
            other => panic!("{other:?}"),
        }
        let operation = record(&mut world).intent.as_ref().map(|i| i.operation.to_string()).expect("it leaves");
        retired(&mut world, ordinal, &operation);
        gone(&mut world, ordinal);
    }
    assert!(matches!(plan(&world).act, Some(Act::Scale(_, 3))), "{:?}", plan(&world));
    world.set.replicas = 9;
    assert!(!matches!(plan(&world).act, Some(Act::Scale(..))), "that is a user's");
}

#[test]
fn one_whose_database_ended_by_itself_after_its_leave_is_told_to_end_before_the_next_leaves() {
    // Its pod ends much later, when the size falls, and nobody would have a word for it then.
    let mut world = healthy(&[0, 1, 2, 3, 4], 5);
    leaving(&mut world, 4, 3, true);
    world.claims.remove(&name(4));
    record(&mut world).members.remove(&name(4));
    let operation = OperationId::new("9-leave");
    let left = pilot(&mut world, 4);
    (left.database.phase, left.mesh.obeyed) = (DatabasePhase::Stopped, Some((operation.clone(), OrderName::Leave)));
    retired(&mut world, 4, "9-leave");
    assert!(matches!(plan(&world).act, Some(Act::Order { kind: OrderKind::EndAfterLeave, .. })), "{:?}", plan(&world));
    pilot(&mut world, 4).mesh.obeyed = Some((operation, OrderName::EndAfterLeave));
    assert!(matches!(intent_of(&plan(&world)), Some(IntentKind::Leave { leaver, .. }) if leaver == voter(3)));
}

#[test]
fn a_size_that_a_user_sets_again_while_it_is_raised_is_raised_for_the_leaver_and_falls_back() {
    // As who applies a manifest again and again does. Its pod has ended, and the size is raised less than before.
    let mut world = healthy(&[0, 1, 2, 4], 3);
    leaving(&mut world, 4, 3, true);
    if let Some(Intent { kind: IntentKind::Leave { raised_to, .. }, .. }) = &mut record(&mut world).intent {
        *raised_to = Some(8);
    }
    world.pods.remove(&name(4));
    written(&mut world);
    assert!(matches!(plan(&world).act, Some(Act::Scale(_, 5))), "{:?}", plan(&world));
    world.set.replicas = 5;
    gone(&mut world, 4);
    assert!(matches!(plan(&world).act, Some(Act::Scale(_, 3))), "{:?}", plan(&world));
}

#[test]
fn a_member_that_is_wanted_again_before_its_grant_stays() {
    let mut world = healthy(&[0, 1, 2, 3], 4);
    leaving(&mut world, 3, 3, false);
    match plan(&world).act {
        Some(Act::WriteRecord(_, record)) => assert_eq!(record.intent, None),
        other => panic!("{other:?}"),
    }
}

#[test]
fn whoever_finds_a_higher_stamp_is_not_the_coordinator() {
    let mut world = healthy(&[0, 1, 2], 3);
    world.set.object.stamp = Epoch(6);
    assert!(decide(LIMITS, &world, world.record.as_ref().expect("there")).is_err());
}

#[test]
fn the_epoch_is_stamped_on_the_record_and_then_on_the_set_before_anything_else() {
    let mut world = healthy(&[0, 1, 2], 2);
    world.epoch = Epoch(6);
    match plan(&world).act {
        Some(Act::WriteRecord(_, written)) => {
            assert_eq!(written.epoch, Epoch(6));
            *record(&mut world) = *written;
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(plan(&world).act, Some(Act::StampSet(_))));
}

#[test]
fn another_claim_under_a_members_name_is_refused_by_name() {
    let mut world = healthy(&[0, 1, 2], 3);
    world.claims.get_mut(&name(2)).expect("there").object.uid = Uid::new("another");
    let plan = plan(&world);
    assert_eq!(plan.act, None);
    assert!(plan.reasons.iter().any(|r| r.verdict == Verdict::Refuse && r.subject == "c-2"));
}

/// What is decided until nothing more is, or the size is set: each record that is written counts as written.
fn plan_within(limits: Limits, world: &mut World) -> Plan {
    for _ in 0..5 {
        let plan = decide(limits, world, world.record.as_ref().expect("there")).expect("coordinates");
        match plan.act {
            Some(Act::WriteRecord(_, written)) if written.intent.is_none() => *record(world) = *written,
            _ => return plan,
        }
    }
    panic!("the record is written again and again")
}

#[test]
fn a_joiner_beyond_the_most_members_stays_held_with_the_rule_on_record_and_one_below_it_joins() {
    for (max, joins) in [(3, false), (4, true)] {
        let mut world = healthy(&[0, 1, 2], 4);
        newcomer(&mut world, 3, VolumeState::Empty);
        let plan = plan_within(Limits { min: 1, max, ..LIMITS }, &mut world);
        assert_eq!(intent_of(&plan).is_some(), joins, "at most {max}: {plan:?}");
        let said = plan.reasons.iter().any(|r| r.verdict == Verdict::Refuse && r.rule == Rule::Bounds);
        assert_eq!(said, !joins);
        let condition = record(&mut world).conditions.iter().find(|c| c.kind == SIZE_REFUSED).cloned();
        assert_eq!(condition.is_some_and(|c| c.reason == Rule::Bounds.word()), !joins);
    }
}

#[test]
fn a_size_below_the_fewest_members_is_raised_back_with_the_rule_on_record_and_one_at_it_is_followed() {
    for (min, leaves) in [(5, false), (4, true)] {
        let mut world = healthy(&[0, 1, 2, 3, 4], 4);
        let plan = plan_within(Limits { min, max: 100, ..LIMITS }, &mut world);
        assert_eq!(matches!(intent_of(&plan), Some(IntentKind::Leave { .. })), leaves, "at least {min}: {plan:?}");
        assert_eq!(matches!(plan.act, Some(Act::Scale(_, 5))), !leaves, "at least {min}: {plan:?}");
        let condition = record(&mut world).conditions.iter().find(|c| c.kind == SIZE_REFUSED).cloned();
        assert_eq!(condition.is_some_and(|c| c.reason == Rule::Bounds.word()), !leaves);
    }
}

/// Member 2 of three is there again on an empty volume, and the others see it down.
fn with_a_lost_disk() -> World {
    let mut world = healthy(&[0, 1, 2], 3);
    newcomer(&mut world, 2, VolumeState::Empty);
    marked(&mut world, 2);
    for other in [0, 1] {
        sees(&mut world, other, 2, |line| line.up = Some(false));
    }
    world
}

/// The claim carries what was written on it when its member joined.
fn marked(world: &mut World, ordinal: u32) {
    let claim = world.claims.get_mut(&name(ordinal)).expect("there");
    claim.cluster = Some(ClusterId::new("k"));
    claim.identity = Some(identity(ordinal));
}

fn approve(world: &mut World, operation: &str) {
    world.claims.get_mut(&name(2)).expect("there").approved = Some(OperationId::new(operation));
}

fn replacement() -> IntentKind {
    IntentKind::Replace { joiner: voter(2), identity: identity(2), raised: None }
}

#[test]
fn a_lost_disk_is_told_in_the_record_with_what_a_person_may_do_and_nothing_else_is_done() {
    let mut world = with_a_lost_disk();
    written(&mut world);
    let condition = record(&mut world).conditions.first().cloned().expect("told");
    assert_eq!(condition.kind, "DataLost");
    assert!(condition.message.contains("data-c-2 with pilotmesh.io/approve=9-replace-c-2"), "{}", condition.message);
    assert_eq!(plan(&world).act, None, "it is told once");
    assert_eq!(intent_of(&plan(&world)), None);
}

#[test]
fn an_approval_names_the_operation_and_another_one_approves_nothing() {
    let mut world = with_a_lost_disk();
    written(&mut world);
    for other in ["8-replace-c-2", "9-replace-c-1", "9-join-c-2", "true", ""] {
        approve(&mut world, other);
        assert_eq!(plan(&world).act, None, "{other}");
    }
    approve(&mut world, "9-replace-c-2");
    assert_eq!(intent_of(&plan(&world)), Some(replacement()));
}

#[test]
fn a_replacement_retires_the_lost_identity_in_the_write_that_opens_it() {
    let mut world = with_a_lost_disk();
    approve(&mut world, "9-replace-c-2");
    written(&mut world);
    let record = record(&mut world);
    assert!(!record.members.contains_key(&name(2)));
    let retired = record.retired.get(&identity(2)).expect("retired");
    assert_eq!((&retired.claim, retired.operation.as_str()), (&claim(2), "9-replace-c-2"));
    assert_eq!(record.roster, [voter(0), voter(1), voter(2)], "on its claim it is the voter it was");
    assert!(record.conditions.is_empty());
}

#[test]
fn a_replacement_on_another_claim_is_no_voter_before_it_has_joined() {
    let mut world = with_a_lost_disk();
    let other = Uid::new("another");
    world.claims.get_mut(&name(2)).expect("there").object.uid = other.clone();
    assert_eq!(plan(&world).act, None, "what lies on the other claim is not known yet");
    pilot(&mut world, 2).about.claim = Some(other.clone());
    approve(&mut world, "9-replace-c-2");
    written(&mut world);
    assert_eq!(record(&mut world).roster, [voter(0), voter(1)]);
    assert_eq!(record(&mut world).retired.get(&identity(2)).map(|r| r.claim.clone()), Some(claim(2)));
    let subject = record(&mut world).intent.as_ref().map(|i| i.kind.subject().clone());
    assert_eq!(subject, Some(Voter { name: name(2), claim: other }));
}

#[test]
fn nothing_is_replaced_while_anything_else_is_not_as_it_should_be() {
    let refuses = |rule: Rule, change: fn(&mut World)| {
        let mut world = with_a_lost_disk();
        approve(&mut world, "9-replace-c-2");
        change(&mut world);
        assert!(waits_for(&plan(&world), rule), "{rule:?}: {:?}", plan(&world));
    };
    refuses(Rule::AllServing, |world| pilot(world, 1).database.phase = DatabasePhase::Starting);
    refuses(Rule::AllServing, |world| sees(world, 0, 1, |line| line.up = Some(false)));
    refuses(Rule::SchemaAgreed, |world| pilot(world, 1).database.schema_agreed = None);
    refuses(Rule::PeersDecide, |world| sees(world, 0, 2, |line| line.up = Some(true)));
    refuses(Rule::PeersDecide, |world| sees(world, 0, 2, |line| line.up = None));
    refuses(Rule::ReplicasKeepHomes, one_copy);
    refuses(Rule::UnknownHolds, |world| {
        for ordinal in 0..3 {
            pilot(world, ordinal).database.replication = None;
        }
    });
    refuses(Rule::OneOldLease, |world| world.patience = true);
    refuses(Rule::OneAtATime, |world| {
        let mut lines = pilot(world, 0).ring.as_ref().expect("told").to_vec();
        lines.push(RingMember { identity: identity(7), status: RingStatus::Joining, up: Some(true) });
        pilot(world, 0).ring = Some(lines.into());
    });
}

#[test]
fn of_two_lost_disks_none_is_replaced_whatever_is_approved() {
    let mut world = with_a_lost_disk();
    newcomer(&mut world, 1, VolumeState::Empty);
    marked(&mut world, 1);
    approve(&mut world, "9-replace-c-2");
    written(&mut world);
    let message = record(&mut world).conditions.first().map(|c| c.message.clone()).expect("told");
    assert!(message.contains("c-1 and c-2"), "{message}");
    assert_eq!(plan(&world).act, None);
}

fn replacing() -> World {
    let mut world = with_a_lost_disk();
    approve(&mut world, "9-replace-c-2");
    written(&mut world);
    world
}

#[test]
fn a_replacement_is_told_whose_part_it_takes_over_and_is_a_member_when_its_peers_see_it() {
    let mut world = replacing();
    let Some(Act::Order { to, kind, .. }) = plan(&world).act else { panic!("{:?}", plan(&world)) };
    let cluster = ClusterId::new("k");
    assert_eq!((to, kind), (name(2), OrderKind::Replace { cluster, identity: identity(2), move_aside: None }));
    pilot(&mut world, 2).database.wants_start = false;
    pilot(&mut world, 2).database.phase = DatabasePhase::Serving;
    pilot(&mut world, 2).database.identity = Some(identity(5));
    pilot(&mut world, 2).ring = Some(ring(&[0, 1, 5]).into());
    assert_eq!(plan(&world).act, None, "it says so itself, and its peers do not");
    for other in [0, 1] {
        pilot(&mut world, other).ring = Some(ring(&[0, 1, 5]).into());
    }
    written(&mut world);
    let record = record(&mut world);
    assert_eq!(record.members.get(&name(2)).map(|m| m.identity.clone()), Some(identity(5)));
    assert_eq!((&record.intent, record.roster.len()), (&None, 3));
}

#[test]
fn a_replacement_is_not_given_up_because_its_pod_is_scaled_away_or_its_claim_is_another_one() {
    let mut world = replacing();
    world.set.replicas = 2;
    let pod = world.pods.remove(&name(2));
    assert!(matches!(&plan(&world).act, Some(Act::Scale(_, 3))), "{:?}", plan(&world));
    world.set.replicas = 3;
    world.pods.extend(pod.map(|pod| (name(2), pod)));
    let other = Uid::new("another");
    world.claims.get_mut(&name(2)).expect("there").object.uid = other.clone();
    pilot(&mut world, 2).about.claim = Some(other.clone());
    written(&mut world);
    let again =
        IntentKind::Replace { joiner: Voter { name: name(2), claim: other }, identity: identity(2), raised: None };
    assert_eq!(record(&mut world).intent.as_ref().map(|i| i.kind.clone()), Some(again));
}

#[test]
fn what_has_not_begun_gives_way_to_a_member_whose_data_is_lost() {
    let mut world = with_a_lost_disk();
    world.set.replicas = 4;
    newcomer(&mut world, 3, VolumeState::Empty);
    joining(&mut world, 3);
    assert_eq!(rewritten(&plan(&world)).map(|r| r.intent.is_none()), Some(true));

    let mut world = healthy(&[0, 1, 2, 3], 3);
    newcomer(&mut world, 2, VolumeState::Empty);
    leaving(&mut world, 3, 3, false);
    assert_eq!(rewritten(&plan(&world)).map(|r| r.intent.is_none()), Some(true));

    let mut world = with_a_lost_disk();
    let pod = Uid::new("the old one");
    let kind = IntentKind::Restart { member: voter(2), pod };
    record(&mut world).intent = Some(Intent { operation: OperationId::new("9-restart"), begun: EPOCH, kind });
    assert_eq!(rewritten(&plan(&world)).map(|r| r.intent.is_none()), Some(true));
}
