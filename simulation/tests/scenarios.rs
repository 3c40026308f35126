//! Named runs of the simulator: what must hold, as sentences.

use simulation::world::World;
use simulation::world::run::Options;
use simulation::world::schedule::Action;

fn at_rest(world: &mut World, within: u64) {
    let rested = world.settle(within);
    assert!(rested, "{:?}\n{}", world.oracle.verdict, world.story.last(60).join("\n"));
}

#[test]
fn a_cluster_forms_grows_and_shrinks() {
    let mut world = World::new(Options::calm(1, 3));
    at_rest(&mut world, 300_000);
    world.act(&Action::Scale(5));
    at_rest(&mut world, 400_000);
    world.act(&Action::Scale(3));
    at_rest(&mut world, 600_000);
    world.act(&Action::Scale(4));
    at_rest(&mut world, 400_000);
}
