//! Members that come, go and are restarted.

use crate::support::{at_rest, epoch, founded, pass, size, sound, until, world};
use engine::world::World;
use engine::world::cluster::NO_IMAGE;
use engine::world::run::Options;
use engine::world::schedule::{Action, Whom};
use std::collections::BTreeMap;

#[test]
fn a_cluster_forms_grows_and_shrinks_and_takes_a_kept_claim_again() {
    let mut world = founded(1, 3);
    assert_eq!(size(&world), 3);
    for size_wanted in [5, 3, 4] {
        world.act(&Action::Scale(size_wanted));
        at_rest(&mut world, 600_000);
        assert_eq!(size(&world), size_wanted as usize);
    }
    assert_eq!(world.kubernetes().record().map_or(0, |r| r.retired.len()), 2);
}

#[test]
fn a_changed_template_rolls_every_member_once_and_one_at_a_time() {
    let mut world = founded(12, 3);
    let (starts, members) = (world.database_starts(), world.kubernetes().record().map(|r| r.members.clone()));
    world.act(&Action::Template(1));
    until(&mut world, 60_000, "a restart begins", |w| w.kubernetes().record().is_some_and(|r| r.intent.is_some()));
    // Whoever coordinates, the roll goes on.
    world.act(&Action::KillAgent(Whom::Coordinator));
    at_rest(&mut world, 900_000);
    let once_more: BTreeMap<String, u64> = starts.into_iter().map(|(name, count)| (name, count + 1)).collect();
    assert_eq!(world.database_starts(), once_more);
    assert_eq!(
        world.kubernetes().record().map(|r| r.members.clone()),
        members,
        "the same members with the same identities"
    );
    assert_eq!(world.kubernetes().outdated(), None);
}

#[test]
fn a_size_below_the_number_of_copies_is_raised_back_and_nothing_leaves() {
    let mut world = founded(2, 3);
    let before = world.kubernetes().record().map(|r| r.members.clone());
    world.act(&Action::Scale(2));
    at_rest(&mut world, 400_000);
    assert_eq!(world.kubernetes().replicas(), Some(3));
    assert_eq!(world.kubernetes().record().map(|r| r.members.clone()), before);
}

#[test]
fn a_leave_cut_off_by_the_grace_period_is_brought_back_and_completed_once() {
    let mut world = world(Options { grace: 6, ..Options::calm(3, 4) });
    at_rest(&mut world, 500_000);
    world.act(&Action::Scale(3));
    at_rest(&mut world, 900_000);
    assert_eq!(size(&world), 3);
    assert_eq!(world.kubernetes().record().map_or(0, |r| r.retired.len()), 1);
}

#[test]
fn f25_a_size_that_was_asked_for_and_taken_back_before_anybody_saw_it_leaves_everything_as_it_was() {
    for sizes in [[5, 3], [4, 3]] {
        let mut world = founded(130, 3);
        let (starts, members) = (world.database_starts(), world.identities());
        for size in sizes {
            world.act(&Action::Scale(size));
        }
        at_rest(&mut world, 400_000);
        assert_eq!(world.identities(), members);
        assert_eq!(world.database_starts(), starts, "nobody was restarted");
    }
}

#[test]
fn f26_of_members_with_one_and_two_digits_the_highest_number_leaves() {
    let mut world = world(Options::large(131, 12));
    at_rest(&mut world, 600_000);
    world.act(&Action::Scale(11));
    until(&mut world, 300_000, "somebody leaves", |w| (0..12).any(|n| w.leaves(&format!("db-{n}"))));
    assert!(world.leaves("db-11"), "and not db-9, which sorts last");
    at_rest(&mut world, 600_000);
    assert_eq!(size(&world), 11);
}

#[test]
fn f27_a_size_taken_back_while_a_member_leaves_ends_with_all_of_them_at_whatever_moment() {
    for after in [0, 1_000, 5_000, 15_000, 40_000, 70_000] {
        let mut world = founded(132, 4);
        world.act(&Action::Scale(3));
        until(&mut world, 120_000, "it leaves", |w| w.leaves("db-3"));
        let then = world.now() + after;
        world.run_until(then);
        world.act(&Action::Scale(4));
        at_rest(&mut world, 900_000);
        assert_eq!(size(&world), 4, "after {after} ms");
    }
}

#[test]
fn f32_a_template_put_back_in_the_middle_of_a_roll_restarts_nobody_more_than_twice() {
    for restarted in 1..=3 {
        let mut world = founded(133, 4);
        let before = world.database_starts();
        world.act(&Action::Template(1));
        until(&mut world, 900_000, "some are restarted", |w| {
            let now = w.database_starts();
            before.iter().filter(|(name, starts)| now.get(*name).is_some_and(|n| n > starts)).count() >= restarted
        });
        world.act(&Action::Template(0));
        at_rest(&mut world, 900_000);
        for (name, starts) in world.database_starts() {
            assert!(starts <= before[&name] + 2, "{name} was restarted {} times", starts - before[&name]);
        }
        assert_eq!(world.kubernetes().outdated(), None);
    }
}

#[test]
fn f33_the_same_size_reached_on_other_ways_ends_the_same_and_then_nothing_happens() {
    for way in [vec![4], vec![5, 4], vec![3, 5, 3, 4], vec![6, 4]] {
        let mut world = founded(134, 3);
        for size in &way {
            world.act(&Action::Scale(*size));
            let then = world.now() + 45_000;
            world.run_until(then);
        }
        at_rest(&mut world, 1_800_000);
        assert_eq!(size(&world), 4, "{way:?}");
        world.judge_rest();
        sound(&world);
    }
}

#[test]
fn f44_evictions_that_a_budget_refuses_hold_up_nothing_else_and_are_not_asked_for_in_a_storm() {
    let mut world = founded(135, 3);
    let (before, starts) = (epoch(&world), world.database_starts());
    world.act(&Action::Budget(0));
    world.act(&Action::Template(1));
    until(&mut world, 120_000, "an eviction is refused", |w| refusals(w) > 0);
    world.act(&Action::Scale(4));
    until(&mut world, 400_000, "a member joins all the same", |w| size(w) == 4);
    pass(&mut world, 600_000);
    assert!(refusals(&world) <= 8, "{} evictions were asked for in a quarter of an hour", refusals(&world));
    assert_eq!(epoch(&world), before, "it goes on leading");
    for (name, starts) in starts {
        assert_eq!(world.database_starts().get(&name), Some(&starts), "nobody was restarted");
    }
    world.act(&Action::Budget(1));
    at_rest(&mut world, 2_400_000);
    assert_eq!(world.kubernetes().outdated(), None);
}

fn refusals(world: &World) -> u64 {
    world.marks.count("a budget refuses an eviction")
}

#[test]
fn f46_a_roll_of_six_with_a_crash_at_each_step_loses_no_row_and_ends() {
    let mut world = world(Options::large(136, 6));
    at_rest(&mut world, 600_000);
    world.act(&Action::Template(1));
    for step in 0..6 {
        until(&mut world, 900_000, "the next is restarted", |w| w.marks.count("step PodEvicted") > step);
        world.act(&Action::KillDatabase(u32::try_from(step).expect("few") % 6));
    }
    at_rest(&mut world, 1_800_000);
    assert_eq!(world.kubernetes().outdated(), None);
    assert!(world.rows() > 100, "rows were written meanwhile: {}", world.rows());
}

#[test]
fn f47_two_leave_although_streams_fail_and_a_pod_ends_while_it_leaves() {
    let mut world = world(Options::large(137, 6));
    at_rest(&mut world, 600_000);
    world.act(&Action::Scale(4));
    until(&mut world, 300_000, "the first leaves", |w| w.leaves("db-5"));
    world.act(&Action::FailMove(5));
    until(&mut world, 600_000, "it leaves again", |w| w.leaves("db-5"));
    world.act(&Action::DeletePod(5));
    until(&mut world, 900_000, "the second leaves", |w| w.leaves("db-4"));
    world.act(&Action::KillDatabase(4));
    at_rest(&mut world, 1_800_000);
    assert_eq!(size(&world), 4);
    assert_eq!(world.kubernetes().record().map_or(0, |r| r.retired.len()), 2);
}

#[test]
fn a_join_whose_streams_break_off_begins_anew_and_ends() {
    let mut world = founded(138, 3);
    world.act(&Action::Scale(4));
    for _ in 0..2 {
        until(&mut world, 120_000, "it joins", |w| w.joins("db-3"));
        world.act(&Action::FailMove(3));
        let then = world.now() + 5_000;
        world.run_until(then);
    }
    at_rest(&mut world, 600_000);
    assert_eq!(size(&world), 4);
}

#[test]
fn f31_a_template_whose_image_cannot_be_had_costs_one_member_at_most_and_the_next_template_heals_it() {
    for next in [0, 1] {
        let mut world = founded(139, 4);
        let starts = world.database_starts();
        world.act(&Action::Template(NO_IMAGE));
        world.act(&Action::Scale(5));
        pass(&mut world, 600_000);
        let now = world.database_starts();
        let touched = starts.iter().filter(|(name, starts)| now.get(*name) != Some(*starts)).count();
        assert!(touched <= 1, "one has gone and waits for its image; nobody else is touched");
        assert!(world.kubernetes().record().is_some_and(|r| r.members.len() == 4));
        world.act(&Action::Template(next));
        at_rest(&mut world, 1_800_000);
        assert_eq!(size(&world), 5);
        assert_eq!(world.kubernetes().outdated(), None);
    }
}

#[test]
fn f31_where_the_majority_is_in_pods_that_never_ran_a_mended_template_heals_it_without_a_person() {
    for members in [2, 3] {
        let mut world = founded(145, members);
        world.act(&Action::Template(NO_IMAGE));
        for ordinal in 1..members {
            world.act(&Action::DeletePod(ordinal));
        }
        pass(&mut world, 300_000);
        world.act(&Action::Template(1));
        at_rest(&mut world, 900_000);
        assert_eq!(size(&world), members as usize);
        assert!(!world.rescued());
    }
}
