//! What the named runs share.

use engine::world::World;
use engine::world::run::Options;

pub(crate) fn world(options: Options) -> World {
    World::new(Options { aloud: std::env::var_os("ALOUD").is_some(), ..options })
}

#[track_caller]
pub(crate) fn sound(world: &World) {
    assert!(world.oracle.verdict.is_none(), "{:?}\n{}", world.oracle.verdict, world.story.last(60).join("\n"));
}

/// Lets so many milliseconds pass.
#[track_caller]
pub(crate) fn pass(world: &mut World, time: u64) {
    let then = world.now() + time;
    world.run_until(then);
    sound(world);
}

#[track_caller]
pub(crate) fn at_rest(world: &mut World, within: u64) {
    let rests = world.settle(within);
    sound(world);
    assert!(rests, "left to a person\n{}", world.story.last(60).join("\n"));
}

#[track_caller]
pub(crate) fn until(world: &mut World, within: u64, what: &str, holds: impl Fn(&World) -> bool) {
    let held = world.run_while_not(within, holds);
    sound(world);
    assert!(held, "{what} within {within} ms\n{}", world.story.last(60).join("\n"));
}

/// A founded cluster at rest.
pub(crate) fn founded(seed: u64, members: u32) -> World {
    let mut world = world(Options::calm(seed, members));
    at_rest(&mut world, 400_000);
    world
}

pub(crate) fn size(world: &World) -> usize {
    world.kubernetes().record().map_or(0, |r| r.members.len())
}

pub(crate) fn epoch(world: &World) -> u64 {
    world.coordinators().last().map_or(0, |(_, epoch)| *epoch)
}
