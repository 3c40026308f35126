//! Many members. Larger clusters run in release: `simulate --gate`.

use crate::support::{at_rest, epoch, pass, world};
use engine::world::mass::MassRestart;
use engine::world::run::Options;
use engine::world::schedule::{Action, Whom};

#[test]
fn thirty_members_whose_power_was_cut_come_back_under_one_coordinator_and_bear_its_death() {
    let mut world = world(Options::large(170, 30));
    at_rest(&mut world, 600_000);
    let (before, starts) = (epoch(&world), world.database_starts());
    assert!(starts.values().all(|count| *count == 1), "each was started once");
    world.act(&Action::KillAgent(Whom::Coordinator));
    pass(&mut world, 10_000);
    assert!(epoch(&world) > before, "another coordinates");
    at_rest(&mut world, 120_000);
    assert_eq!(world.database_starts(), starts);
}

/// A thousand are restarted so by `simulate --gate`.
#[test]
fn f54_ten_of_a_hundred_pilots_restarted_at_once_cost_the_api_little_and_are_known_again_in_seconds() {
    let came = MassRestart::of(171, 100).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!((came.restarted, came.coordinators), (10, 1));
    println!("{came:?}");
}
