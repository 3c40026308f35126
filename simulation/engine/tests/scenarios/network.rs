//! Networks that part, lose and stand still.

use crate::support::{at_rest, epoch, founded, pass, sound, until, world};
use engine::world::World;
use engine::world::run::Options;
use engine::world::schedule::{Action, Whom};

fn ordinal_of_the_coordinator(world: &World) -> u32 {
    let lease = world.kubernetes().lease().expect("there is one");
    protocol::id::PilotId::parse(&lease.holder).and_then(|id| id.name.ordinal()).expect("a pilot of the set")
}

#[test]
fn f08_a_coordinator_without_the_api_makes_room_for_one_that_has_it() {
    let mut world = founded(160, 5);
    let (before, starts) = (epoch(&world), world.database_starts());
    world.act(&Action::CutApi(Whom::Coordinator, 120_000));
    until(&mut world, 40_000, "another coordinates", |w| epoch(w) > before);
    at_rest(&mut world, 200_000);
    assert_eq!(world.database_starts(), starts);
}

#[test]
fn f09_a_coordinator_that_hears_nobody_holds_nobody_for_dead() {
    let mut world = founded(161, 5);
    let members = world.kubernetes().record().map(|r| r.members.clone());
    let starts = world.database_starts();
    let alone = ordinal_of_the_coordinator(&world);
    world.act(&Action::Cut(vec![alone], 120_000));
    world.act(&Action::Scale(6));
    pass(&mut world, 120_000);
    at_rest(&mut world, 600_000);
    for (name, member) in members.unwrap_or_default() {
        let now = world.kubernetes().record().and_then(|r| r.members.get(&name).cloned());
        assert_eq!(now, Some(member), "{name} is who it was");
    }
    for (name, count) in starts {
        assert_eq!(world.database_starts().get(&name), Some(&count), "{name} was not restarted");
    }
}

#[test]
fn f12_of_two_halves_at_most_one_acts() {
    for side in [vec![0, 1], vec![3, 4], vec![0, 1, 2]] {
        let mut world = founded(162, 5);
        let starts = world.database_starts();
        world.act(&Action::Cut(side, 90_000));
        world.act(&Action::Scale(6));
        let then = world.now() + 90_000;
        world.run_until(then);
        // S-VALID and C-ONE are judged at every step.
        sound(&world);
        at_rest(&mut world, 600_000);
        for (name, count) in starts {
            assert_eq!(world.database_starts().get(&name), Some(&count), "{name} was not restarted");
        }
    }
}

#[test]
fn f13_one_way_cuts_that_come_and_go_do_not_pass_the_lease_to_and_fro() {
    let mut world = founded(163, 5);
    let before = epoch(&world);
    let victim = (ordinal_of_the_coordinator(&world) + 1) % 5;
    // Somebody who is heard and hears nothing, for half of the time, ten minutes long.
    for _ in 0..30 {
        world.act(&Action::Deaf(victim, 10_000));
        pass(&mut world, 20_000);
    }
    assert!(epoch(&world) <= before + 2, "from epoch {before} to {} within ten minutes", epoch(&world));
    at_rest(&mut world, 200_000);
}

#[test]
fn f14_loss_and_delay_restart_nobody_and_change_no_member() {
    let mut world = world(Options { loss: 200, latency: 300, ..Options::calm(164, 5) });
    at_rest(&mut world, 900_000);
    let (starts, members) = (world.database_starts(), world.identities());
    pass(&mut world, 600_000);
    assert_eq!(world.database_starts(), starts);
    assert_eq!(world.identities(), members);
}

#[test]
fn f15_links_that_stop_one_by_one_and_heal_in_another_order_leave_a_cluster_at_rest() {
    let mut world = founded(165, 5);
    let starts = world.database_starts();
    for (a, b, length) in [(0, 1, 90), (2, 3, 20), (1, 4, 60), (0, 4, 40), (3, 4, 70), (1, 2, 30), (0, 2, 50)] {
        world.act(&Action::Clog(a, b, length * 1_000));
        pass(&mut world, 5_000);
    }
    at_rest(&mut world, 400_000);
    assert_eq!(world.database_starts(), starts);
}
