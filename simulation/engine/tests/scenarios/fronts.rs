//! An API whose front ends lag, refuse or cannot write, and people who take away what we wrote on objects.

use crate::support::{at_rest, epoch, founded, pass, size, until};
use engine::world::World;
use engine::world::front::Door;
use engine::world::schedule::{Action, Whom};
use std::collections::BTreeMap;

/// Who is a member under which identity.
fn members(world: &World) -> BTreeMap<String, String> {
    let record = world.kubernetes().record().expect("founded");
    record.members.iter().map(|(name, member)| (name.to_string(), member.identity.to_string())).collect()
}

#[test]
fn f11_while_the_store_of_the_api_has_no_quorum_nothing_is_decided_from_what_is_cached() {
    let mut world = founded(300, 3);
    let (starts, before) = (world.database_starts(), members(&world));
    world.act(&Action::Scale(4));
    world.act(&Action::NoStoreQuorum(180_000));
    let revision = world.kubernetes().revision();
    let end = world.now() + 170_000;
    // The set's controller writes the new pod past the front ends; no pilot may go on from there.
    pass(&mut world, 170_000);
    assert!(world.now() >= end);
    assert_eq!(members(&world), before);
    assert!(world.kubernetes().revision() >= revision);
    let now = world.database_starts();
    assert!(starts.iter().all(|(name, count)| now.get(name) == Some(count)), "no database was started again");
    at_rest(&mut world, 600_000);
    assert_eq!(size(&world), 4);
}

#[test]
fn f22_a_size_that_a_stale_front_end_still_shows_sends_nobody_away() {
    for seed in 310..314 {
        let mut world = founded(seed, 4);
        let before = members(&world);
        // The coordinator goes on to see three where four are wanted again.
        world.act(&Action::Scale(3));
        world.act(&Action::StaleReads(Whom::Coordinator, 120_000));
        world.act(&Action::Scale(4));
        pass(&mut world, 120_000);
        at_rest(&mut world, 600_000);
        assert_eq!(members(&world), before, "seed {seed}");
    }
}

#[test]
fn f23_a_count_that_was_raised_is_not_lowered_by_who_still_reads_the_one_before() {
    let mut world = founded(320, 3);
    world.act(&Action::StaleReads(Whom::Coordinator, 200_000));
    world.act(&Action::Scale(5));
    pass(&mut world, 200_000);
    at_rest(&mut world, 900_000);
    assert_eq!(size(&world), 5);
}

#[test]
fn f24_an_ending_that_the_coordinator_never_saw_changes_nothing_of_how_it_ends() {
    let mut world = founded(330, 3);
    let before = members(&world);
    world.act(&Action::StaleReads(Whom::Coordinator, 90_000));
    for ordinal in 0..3 {
        world.act(&Action::DeletePod(ordinal));
        pass(&mut world, 30_000);
    }
    at_rest(&mut world, 600_000);
    assert_eq!(members(&world), before);
}

#[test]
fn f51_whatever_the_api_refuses_in_the_middle_of_a_change_the_change_is_carried_on_afterwards() {
    for (number, door) in Door::ALL.into_iter().enumerate() {
        let mut world = founded(340 + number as u64, 3);
        let before = members(&world);
        world.act(&Action::Scale(4));
        until(&mut world, 60_000, "the pod is there", |w| w.kubernetes().pods().len() == 4);
        world.act(&Action::Refuse(door, 120_000));
        pass(&mut world, 120_000);
        at_rest(&mut world, 600_000);
        assert_eq!(size(&world), 4, "{door:?}");
        world.act(&Action::Refuse(door, 120_000));
        world.act(&Action::Scale(3));
        pass(&mut world, 120_000);
        at_rest(&mut world, 900_000);
        assert_eq!(members(&world), before, "{door:?}");
    }
}

#[test]
fn f52_a_coordinator_whose_reads_stand_still_for_twenty_minutes_notices_and_makes_room() {
    let mut world = founded(350, 3);
    let (starts, before) = (world.database_starts(), members(&world));
    world.act(&Action::StaleReads(Whom::Coordinator, 1_200_000));
    pass(&mut world, 60_000);
    world.act(&Action::Scale(4));
    until(&mut world, 120_000, "the fourth is a member", |w| size(w) == 4);
    at_rest(&mut world, 600_000);
    let (now, then) = (members(&world), world.database_starts());
    assert!(before.iter().all(|(name, identity)| now.get(name) == Some(identity)));
    assert!(starts.iter().all(|(name, count)| then.get(name) == Some(count)), "no database was started again");
}

#[test]
fn f55_annotations_that_somebody_takes_away_cost_no_member_and_come_back() {
    let mut world = founded(360, 3);
    let (starts, before, led) = (world.database_starts(), members(&world), epoch(&world));
    world.act(&Action::Strip);
    pass(&mut world, 60_000);
    at_rest(&mut world, 300_000);
    assert_eq!((world.database_starts(), members(&world)), (starts, before.clone()));
    // An older coordinator's write that is on its way meets another version of the object.
    world.act(&Action::Scale(4));
    world.act(&Action::HoldWrite(Whom::Coordinator, 90_000));
    until(&mut world, 60_000, "a write of it is on its way", |w| w.writes_held() == 1);
    world.act(&Action::KillAgent(Whom::Coordinator));
    world.act(&Action::Strip);
    until(&mut world, 60_000, "another leads", |w| epoch(w) > led);
    at_rest(&mut world, 600_000);
    assert_eq!(size(&world), 4);
    assert!(
        members(&world).iter().filter(|(name, _)| before.contains_key(*name)).all(|(n, i)| before.get(n) == Some(i))
    );
}
