//! Databases and their disks that fail.

use crate::support::{at_rest, epoch, founded, pass, size, until, world};
use engine::world::run::Options;
use engine::world::schedule::{Action, Whom};

#[test]
fn f34_a_database_killed_five_times_in_a_row_comes_back_with_its_data_and_its_identity() {
    let mut world = founded(140, 3);
    let members = world.identities();
    for _ in 0..5 {
        world.act(&Action::KillDatabase(1));
        let then = world.now() + 12_000;
        world.run_until(then);
    }
    at_rest(&mut world, 900_000);
    assert_eq!(world.identities(), members);
}

#[test]
fn f35_a_database_that_hangs_holds_up_every_change_until_it_answers_again() {
    let mut world = founded(141, 4);
    let starts = world.database_starts();
    world.act(&Action::HangDatabase(2, 120_000));
    let then = world.now() + 15_000;
    world.run_until(then);
    world.act(&Action::Template(1));
    world.act(&Action::Scale(3));
    pass(&mut world, 90_000);
    assert_eq!(world.database_starts(), starts, "nobody else is restarted meanwhile");
    assert!(world.kubernetes().record().is_some_and(|r| r.members.len() == 4), "and nobody leaves");
    at_rest(&mut world, 1_800_000);
    assert_eq!(size(&world), 3);
}

#[test]
fn f36_a_pilot_that_hangs_costs_its_database_nothing() {
    let mut world = founded(142, 3);
    let starts = world.database_starts();
    world.act(&Action::Pause(Whom::Coordinator, 120_000));
    at_rest(&mut world, 400_000);
    assert_eq!(world.database_starts(), starts);
}

#[test]
fn f38_a_member_whose_disk_is_lost_is_never_started_empty_and_waits_for_a_person() {
    let mut world = founded(143, 3);
    let before = world.kubernetes().record().map(|r| r.members.clone());
    world.act(&Action::LoseVolume(1));
    pass(&mut world, 900_000);
    assert!(world.waits_for_a_person().is_some_and(|why| why.contains("db-1")));
    assert_eq!(world.kubernetes().record().map(|r| r.members.clone()), before);
    assert_eq!(world.database_starts().get("db-1"), Some(&0), "nothing is started on its empty disk");
}

#[test]
fn f38_a_member_whose_disk_is_lost_is_replaced_once_a_person_approves_it() {
    for seed in 0..5 {
        let mut world = founded(1_430 + seed, 3);
        let before = world.identities();
        world.act(&Action::LoseVolume(1));
        pass(&mut world, 120_000);
        assert_eq!(world.database_starts().get("db-1"), Some(&0), "not before");
        world.act(&Action::Approve);
        at_rest(&mut world, 900_000);
        let record = world.kubernetes().record().unwrap();
        assert_eq!(record.members.len(), 3);
        assert!(record.conditions.iter().all(|c| c.kind != "DataLost"), "{:?}", record.conditions);
        let after = world.identities();
        let differ: Vec<_> = before.iter().filter(|(name, identity)| after.get(*name) != Some(*identity)).collect();
        assert_eq!(differ.len(), 1, "{before:?} {after:?}");
        assert!(record.retired.keys().any(|identity| before.values().any(|i| i == identity.as_str())));
        // It goes on like any other cluster.
        world.act(&Action::Scale(4));
        at_rest(&mut world, 900_000);
        assert_eq!(size(&world), 4);
    }
}

#[test]
fn f39_of_two_lost_disks_neither_is_started_empty() {
    let mut world = founded(144, 3);
    world.act(&Action::LoseVolume(0));
    world.act(&Action::LoseVolume(1));
    pass(&mut world, 900_000);
    assert!(world.waits_for_a_person().is_some());
    let starts = world.database_starts();
    assert_eq!((starts.get("db-0"), starts.get("db-1")), (Some(&0), Some(&0)));
}

#[test]
fn f40_all_pods_deleted_at_once_come_back_as_who_they_were_and_nobody_founds_again() {
    for seed in 0..3 {
        let mut world = founded(145 + seed, 3);
        let members = world.identities();
        for ordinal in 0..3 {
            world.act(&Action::DeletePod(ordinal));
        }
        let then = world.now() + 30_000;
        world.run_until(then);
        at_rest(&mut world, 900_000);
        assert_eq!(world.identities(), members);
    }
}

#[test]
fn f41_while_three_of_five_are_down_nobody_is_restarted_or_sent_away() {
    let mut world = world(Options::large(150, 5));
    at_rest(&mut world, 600_000);
    world.act(&Action::Template(1));
    until(&mut world, 200_000, "the roll begins", |w| w.kubernetes().record().is_some_and(|r| r.intent.is_some()));
    for ordinal in 0..3 {
        world.act(&Action::DeletePod(ordinal));
    }
    // S-BUDGET is judged with every eviction.
    at_rest(&mut world, 2_400_000);
    assert_eq!(world.kubernetes().outdated(), None);
}

#[test]
fn f56_a_memory_lost_or_replaced_by_an_older_copy_costs_no_epoch_and_no_member() {
    for ruin in [Action::LoseMemory, Action::RollBackMemory] {
        let mut world = founded(151, 5);
        let (members, before) = (world.identities(), epoch(&world));
        for ordinal in 0..5 {
            world.act(&ruin(ordinal));
            let then = world.now() + 20_000;
            world.run_until(then);
        }
        at_rest(&mut world, 600_000);
        assert_eq!(world.identities(), members);
        assert!(epoch(&world) >= before);
    }
}

#[test]
fn f10_while_the_api_is_away_for_half_an_hour_databases_are_cared_for_and_nothing_is_decided() {
    let mut world = founded(152, 3);
    let (starts, members) = (world.database_starts(), world.kubernetes().record().map(|r| r.members.clone()));
    world.act(&Action::ApiOutage(1_800_000));
    let then = world.now() + 60_000;
    world.run_until(then);
    world.act(&Action::KillDatabase(1));
    pass(&mut world, 1_700_000);
    let mut expected = starts;
    *expected.entry("db-1".to_owned()).or_default() += 1;
    assert_eq!(world.database_starts(), expected, "the one that died, and no other");
    at_rest(&mut world, 400_000);
    assert_eq!(world.kubernetes().record().map(|r| r.members.clone()), members);
    assert_eq!(world.database_starts(), expected);
}
