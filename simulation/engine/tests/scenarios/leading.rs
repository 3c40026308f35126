//! Who leads, and what a late word of a former coordinator is worth.

use crate::support::{at_rest, epoch, founded, size, sound, until, world};
use engine::world::World;
use engine::world::oracle::Rule;
use engine::world::run::{Options, run};
use engine::world::schedule::{Action, Whom};
use protocol::id::PilotId;

#[test]
fn f01_a_killed_coordinator_is_replaced_and_no_database_restarts() {
    let mut world = founded(4, 5);
    let (starts, before) = (world.database_starts(), epoch(&world));
    world.act(&Action::KillAgent(Whom::Coordinator));
    until(&mut world, 20_000, "another coordinates", |w| epoch(w) > before);
    at_rest(&mut world, 120_000);
    assert_eq!(world.database_starts(), starts);
}

#[test]
fn f02_a_coordinator_stopped_in_the_middle_of_a_join_writes_nothing_when_it_goes_on() {
    let mut world = founded(5, 3);
    world.act(&Action::Scale(5));
    until(&mut world, 60_000, "a join begins", |w| w.kubernetes().record().is_some_and(|r| r.intent.is_some()));
    let before = epoch(&world);
    world.act(&Action::HoldWrite(Whom::Coordinator, 75_000));
    until(&mut world, 120_000, "a write of it is on its way", |w| w.writes_held() == 1);
    assert!(world.kubernetes().record().is_some_and(|r| r.intent.is_some()), "in the middle of the join");
    world.act(&Action::Pause(Whom::Coordinator, 60_000));
    until(&mut world, 40_000, "another coordinates", |w| epoch(w) > before);
    at_rest(&mut world, 600_000);
    assert_eq!(size(&world), 5);
    assert_eq!(world.held_answers(), [409], "what it had sent before it was stopped");
}

#[test]
fn f03_a_write_that_arrives_two_minutes_late_is_refused_by_the_stamp() {
    let mut refused = 0;
    for seed in 0..4 {
        let mut world = founded(60 + seed, 5);
        // Its next write is the intent of the join: it is held, and its sender ends.
        world.act(&Action::HoldWrite(Whom::Coordinator, 120_000));
        world.act(&Action::Scale(6));
        let next = world.now() + 5_000;
        world.run_until(next);
        world.act(&Action::KillAgent(Whom::Coordinator));
        let next = world.now() + 40_000;
        world.run_until(next);
        world.act(&Action::KillAgent(Whom::Coordinator));
        at_rest(&mut world, 400_000);
        let next = world.now() + 60_000;
        world.run_until(next);
        sound(&world);
        refused += world.oracle.refused;
    }
    assert!(refused > 0, "no late write met a stamp: the runs show nothing");
}

#[test]
fn f04_a_coordinator_whose_renewals_hang_steps_down_in_time() {
    let mut world = founded(7, 3);
    let before = epoch(&world);
    world.act(&Action::CutApi(Whom::Coordinator, 60_000));
    until(&mut world, 10_500, "it steps down", |w| w.coordinators().iter().all(|(_, e)| *e != before));
    until(&mut world, 30_000, "another coordinates", |w| epoch(w) > before);
    at_rest(&mut world, 200_000);
}

#[test]
fn f05_a_deleted_or_emptied_lease_leads_to_a_higher_epoch_only() {
    for action in [Action::DeleteLease, Action::EmptyLease] {
        let mut world = founded(8, 3);
        let before = epoch(&world);
        world.act(&action);
        until(&mut world, 60_000, "a higher epoch", |w| epoch(w) > before);
        at_rest(&mut world, 200_000);
    }
}

#[test]
fn f06_a_coordinator_restarted_within_its_lease_takes_a_new_epoch() {
    let mut world = founded(9, 3);
    let before = epoch(&world);
    for _ in 0..3 {
        world.act(&Action::KillAgent(Whom::Coordinator));
        let next = world.now() + 4_000;
        world.run_until(next);
    }
    until(&mut world, 60_000, "a higher epoch", |w| epoch(w) > before);
    at_rest(&mut world, 200_000);
}

#[test]
fn f07_clocks_that_run_apart_and_wall_clocks_that_jump_take_no_lease_early() {
    let mut calm = founded(10, 5);
    let before = epoch(&calm);
    for ordinal in 0..5 {
        calm.act(&Action::WallJump(ordinal, if ordinal % 2 == 0 { 600_000 } else { -600_000 }));
    }
    let next = calm.now() + 300_000;
    calm.run_until(next);
    sound(&calm);
    assert_eq!(epoch(&calm), before, "nobody had a reason to take the Lease");
    // At rates far beyond the margins fencing still holds.
    for seed in 0..4 {
        let options = Options { rates: (600_000, 1_600_000), ..Options::swarm(seed) };
        let outcome = run(Options { patience: 1_800_000, ..options });
        let fenced = !matches!(outcome.verdict, Some((Rule::Fence | Rule::Epoch | Rule::One | Rule::Boot, _)));
        assert!(fenced, "{:?}\n{}", outcome.verdict, outcome.story.join("\n"));
    }
}

#[test]
fn f21_a_set_made_again_under_the_same_name_is_another_cluster_and_the_old_pilots_touch_nothing() {
    for seed in 0..4 {
        let mut world = founded(110 + seed, 3);
        let before = world.kubernetes().record().map(|r| r.cluster.clone());
        // Its next write is the intent of the join.
        world.act(&Action::HoldWrite(Whom::Coordinator, 300_000));
        world.act(&Action::Scale(4));
        until(&mut world, 60_000, "a write of it is on its way", |w| w.writes_held() == 1);
        world.act(&Action::Recreate(3));
        until(&mut world, 600_000, "the new set is founded", |w| {
            w.kubernetes().record().is_some_and(|r| Some(&r.cluster) != before.as_ref())
        });
        until(&mut world, 300_000, "the late write arrives", |w| w.held_answers().len() == 1);
        at_rest(&mut world, 600_000);
        assert_eq!(world.held_answers(), [409], "the record has another uid");
        assert_eq!(size(&world), 3);
    }
}

/// The ordinal of the pod whose pilot holds the Lease.
fn holder(world: &World) -> u32 {
    let lease = world.kubernetes().lease().expect("there is one");
    PilotId::parse(&lease.holder).and_then(|id| id.name.ordinal()).expect("a pilot of the set")
}

#[test]
fn who_has_forgotten_its_promise_refuses_the_coordinator_of_before_who_still_believes_in_its_lease() {
    for forget in [Action::LoseMemory, Action::RollBackMemory] {
        let mut calm = Options::calm(12, 5);
        calm.rules.lease = std::time::Duration::from_secs(30);
        let mut world = world(calm);
        at_rest(&mut world, 600_000);
        let (before, old) = (epoch(&world), holder(&world));
        world.act(&Action::CutApi(Whom::Ordinal(old), 60_000));
        world.act(&Action::Cut(vec![old], 14_000));
        until(&mut world, 12_000, "another coordinates", |w| epoch(w) > before);
        let forgets = (0..5).find(|o| *o != old && *o != holder(&world)).expect("five");
        let next = world.now() + 2_000;
        world.run_until(next);
        world.act(&forget(forgets));
        world.act(&Action::Cut(vec![old, forgets], 60_000));
        let both = |w: &World| w.coordinators().iter().any(|(_, e)| *e == before);
        assert!(both(&world), "the old one believes in its Lease");
        until(&mut world, 20_000, "the old one is told of the new one", |w| !both(w));
        at_rest(&mut world, 300_000);
    }
}
