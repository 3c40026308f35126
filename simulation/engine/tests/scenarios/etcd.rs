//! Members of etcd: one configuration of voters, changed by calls that may be cut off anywhere.

use crate::support::{at_rest, pass, size, sound, until, world};
use engine::world::World;
use engine::world::database::Kind;
use engine::world::etcd::{CutCall, MemberCallKind, Moment, What};
use engine::world::oracle::Rule;
use engine::world::planted::Planted;
use engine::world::run::{Options, minimise, report, run};
use engine::world::schedule::{Action, Whom};
use std::collections::{BTreeMap, BTreeSet};

fn etcd(options: Options) -> Options {
    Options { database: Kind::Etcd, ..options }
}

/// A cluster that has been founded long ago, at rest.
fn of(seed: u64, members: u32) -> World {
    let mut world = world(etcd(Options::large(seed, members)));
    at_rest(&mut world, 600_000);
    world
}

/// All members vote, each has a pod of its own, and they are those of the record.
#[track_caller]
fn all_vote(world: &World, members: usize) {
    let found = world.members_of_etcd();
    assert!(found.iter().all(|(_, _, votes)| *votes), "{found:?}");
    let pods: BTreeSet<&String> = found.iter().map(|(pod, _, _)| pod).collect();
    assert_eq!((found.len(), pods.len(), size(world)), (members, members, members), "{found:?}");
}

fn ids(world: &World) -> BTreeMap<String, String> {
    world.members_of_etcd().into_iter().map(|(pod, identity, _)| (pod, identity)).collect()
}

#[test]
fn a_cluster_of_etcd_forms_grows_and_shrinks_and_takes_a_kept_claim_again_under_a_new_id() {
    let mut world = world(etcd(Options::calm(1, 3)));
    at_rest(&mut world, 400_000);
    all_vote(&world, 3);
    let mut seen: BTreeSet<String> = ids(&world).into_values().collect();
    for wanted in [5, 3, 4] {
        world.act(&Action::Scale(wanted));
        at_rest(&mut world, 600_000);
        all_vote(&world, wanted as usize);
        seen.extend(ids(&world).into_values());
    }
    assert_eq!(seen.len(), 6, "an id is never used again");
    assert_eq!(world.kubernetes().record().map_or(0, |r| r.retired.len()), 2);
    assert!(world.rows() > 100, "{} writes were acknowledged meanwhile", world.rows());
}

#[test]
fn a_changed_template_rolls_the_members_of_etcd_one_at_a_time() {
    let mut world = of(2, 3);
    let members = ids(&world);
    world.act(&Action::Template(1));
    at_rest(&mut world, 900_000);
    assert_eq!(world.kubernetes().outdated(), None);
    assert_eq!(ids(&world), members);
}

/// 3 -> 5 -> 3, and the next call of this kind is cut.
fn there_and_back_with(cut: CutCall) {
    let mut world = of(500, 3);
    let members = ids(&world);
    let cut_at = |world: &World| world.marks.count(&format!("{:?} is cut, {:?}", cut.kind, cut.moment));
    world.act(&Action::CutMemberCall(cut));
    for wanted in [5, 3] {
        world.act(&Action::Scale(wanted));
        at_rest(&mut world, 1_800_000);
        all_vote(&world, wanted as usize);
    }
    assert_eq!(cut_at(&world), 1, "{cut:?}");
    assert_eq!(ids(&world), members, "{cut:?}: those that were not asked to leave are who they were");
}

fn at_each_moment(kind: MemberCallKind) {
    for moment in Moment::ALL {
        for what in What::all(60_000) {
            there_and_back_with(CutCall { kind, moment, what });
        }
    }
}

#[test]
fn f50_whoever_adds_a_member_may_be_cut_off_at_any_moment_and_no_member_is_added_twice() {
    at_each_moment(MemberCallKind::Add);
}

#[test]
fn f50_whoever_promotes_a_learner_may_be_cut_off_at_any_moment_and_it_comes_to_vote() {
    at_each_moment(MemberCallKind::Promote);
}

#[test]
fn f50_whoever_removes_a_member_may_be_cut_off_at_any_moment_and_it_is_removed_once() {
    at_each_moment(MemberCallKind::Remove);
}

#[test]
fn f50_a_member_cut_off_during_its_own_removal_and_back_later_is_stopped_and_its_directory_put_aside() {
    for (moment, length) in [(Moment::Unsent, 90_000), (Moment::Applied, 90_000), (Moment::Applied, 400_000)] {
        let mut world = of(501, 5);
        let before = ids(&world);
        let cut = CutCall { kind: MemberCallKind::Remove, moment, what: What::CutOff(length) };
        world.act(&Action::CutMemberCall(cut));
        world.act(&Action::Scale(4));
        at_rest(&mut world, 1_800_000);
        all_vote(&world, 4);
        assert!(!world.database_runs("db-4"), "the process of who was removed is stopped");
        world.act(&Action::Scale(5));
        at_rest(&mut world, 1_800_000);
        all_vote(&world, 5);
        assert_eq!(world.marks.count("old data is moved aside"), 1, "its directory is put aside");
        assert_ne!(ids(&world).get("db-4"), before.get("db-4"), "and it comes back as somebody else");
    }
}

#[test]
fn f39_of_three_voters_two_lose_their_volumes_and_nothing_is_done_that_discards_data() {
    let mut world = of(502, 3);
    let (members, record) = (ids(&world), world.kubernetes().record().map(|r| r.members.clone()));
    world.act(&Action::LoseVolume(0));
    world.act(&Action::LoseVolume(1));
    world.act(&Action::KillAgent(Whom::Coordinator));
    pass(&mut world, 1_800_000);
    assert!(world.waits_for_a_person().is_some());
    let starts = world.database_starts();
    assert_eq!((starts.get("db-0"), starts.get("db-1")), (Some(&0), Some(&0)), "nothing is started empty");
    assert_eq!(ids(&world), members, "nobody is thrown out, and nobody else is added");
    assert_eq!(world.kubernetes().record().map(|r| r.members.clone()), record);
    assert_eq!(world.identities().get("db-2"), members.get("db-2"), "what is left of the data lies where it lay");
}

#[test]
fn a_voter_whose_volume_is_lost_while_the_others_are_a_quorum_waits_for_a_person() {
    let mut world = of(503, 3);
    let members = ids(&world);
    world.act(&Action::LoseVolume(1));
    pass(&mut world, 900_000);
    assert!(world.waits_for_a_person().is_some_and(|why| why.contains("db-1")));
    assert_eq!(ids(&world), members);
}

#[test]
fn while_two_of_five_are_lost_a_third_that_is_to_leave_is_not_removed() {
    let options = Options::etcd_halved(504);
    let mut world = world(Options { schedule: Vec::new(), ..options });
    at_rest(&mut world, 600_000);
    world.act(&Action::Scale(4));
    until(&mut world, 300_000, "it leaves", |w| w.leaves("db-4"));
    world.act(&Action::Cut(vec![4], 30_000));
    world.act(&Action::LoseNode(0, 120_000));
    world.act(&Action::LoseNode(1, 120_000));
    pass(&mut world, 110_000);
    assert_eq!(world.members_of_etcd().len(), 5);
    at_rest(&mut world, 1_800_000);
    all_vote(&world, 4);
}

#[test]
fn a_voter_that_no_record_knows_yet_may_start_again_also_where_it_is_what_the_quorum_lacks() {
    let mut world = of(505, 1);
    let cut = CutCall { kind: MemberCallKind::Promote, moment: Moment::Answered, what: What::Deletion };
    world.act(&Action::CutMemberCall(cut));
    world.act(&Action::Scale(2));
    until(&mut world, 300_000, "it is promoted", |w| w.marks.count("Promote is cut, Answered") == 1);
    // Nobody can write down that it is a member, and of two voters none runs.
    world.act(&Action::ApiOutage(90_000));
    world.act(&Action::DeletePod(0));
    pass(&mut world, 90_000);
    at_rest(&mut world, 900_000);
    all_vote(&world, 2);
}

#[test]
fn a_swarm_of_faults_on_etcd_breaks_no_rule() {
    for seed in 1_000..1_020 {
        let options = Options::etcd(seed);
        let outcome = run(options.clone());
        if outcome.verdict.is_some() {
            let (smaller, outcome) = minimise(&options, 10);
            panic!("{}", report(&smaller, &outcome, 60));
        }
    }
}

/// Seeds that once showed a bug on etcd, with what was wrong then.
const MENDED: [(u64, &str); 4] = [
    (
        1_795_786_039_000_090,
        "of several tries to take the Lease that nobody had answered the first had landed, and its time was counted from the last",
    ),
    (
        3_617_824_471,
        "one of two left, its database ended by itself and its pod with it, before the other had recorded the leave",
    ),
    (3_656_970_752, "a joiner whose pod was ending got a vote, and half of the voters had no pod"),
    (
        1_795_848_150_001_216,
        "one that had left under a raised size, and whose database ended by itself, waited in its pod for a word",
    ),
];

#[test]
fn seeds_that_once_showed_a_bug_on_etcd_show_none() {
    for (seed, bug) in MENDED {
        let options = Options::etcd(seed);
        let outcome = run(options.clone());
        assert!(outcome.verdict.is_none(), "{bug}\n{}", report(&options, &outcome, 60));
    }
}

#[test]
fn the_same_seed_gives_the_same_run_on_etcd() {
    let hash = |seed| run(Options::etcd(seed)).hash;
    assert_eq!(hash(7), hash(7));
    sound(&World::new(Options::etcd(7)));
}

#[test]
fn each_bug_that_is_planted_for_etcd_is_found_by_the_rule_that_it_breaks() {
    let bugs = [
        (Planted::RemovesUnasked, Rule::VoterQuorum),
        (Planted::AddsVoters, Rule::LearnerFirst),
        (Planted::AdoptsStarted, Rule::MemberIdentity),
        (Planted::BeginsNewAgain, Rule::NewOnce),
        (Planted::NoSync, Rule::Register),
        (Planted::ForcesNew, Rule::DataStays),
    ];
    for (bug, rule) in bugs {
        let breaks = |seed: u64| run(bug.options(seed)).verdict.map(|(broken, _)| broken);
        let found = (0..30).find(|seed| breaks(*seed) == Some(rule));
        println!("{bug:?}: {found:?}, {rule}");
        assert!(found.is_some(), "{bug:?} was not found as {rule} in 30 seeds");
    }
}
