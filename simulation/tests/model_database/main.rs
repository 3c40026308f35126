//! The model database as real processes on addresses of this machine, run through its driver.

mod conformance;
mod ring;

use agent::driver::model::Behaviour;
use agent::driver::{Driver, LocalStep, MovedAside, StartKind};
use protocol::database::{DatabasePhase, RingStatus, VolumeState};
use ring::{Member, Writer, address, agreed, missing, quick, ring, table, until};
use simulation::sandbox::client::{Protocol, RowWriter, WriterSettings};
use std::net::SocketAddr;
use std::process::Output;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Joins and leaves take so long that a test can look into them.
fn slow() -> Behaviour {
    Behaviour { ballast_bytes: 1 << 40, stream_bytes_per_second: Some(1 << 20), ..quick() }
}

#[tokio::test]
async fn every_acknowledged_row_outlives_growing_shrinking_and_the_loss_of_any_one_member() {
    let mut members = ring(3, &quick()).await;
    let writer = Writer::start(&[&members[0], &members[1], &members[2]]).await;
    writer.writes(300).await;
    let mut fourth = Member::new(quick());
    fourth.start(StartKind::Join, &[members[0].address]);
    fourth.serves().await;
    members.push(fourth);
    writer.writes(100).await;
    agreed(&members).await;
    let left = members[1].leave().await;
    assert!(left.status.success(), "{}", said(&left));
    let gone = members.remove(1);
    assert_eq!(gone.look().await.phase, DatabasePhase::Left);
    writer.writes(100).await;
    let id = gone.identity().await;
    for member in &members {
        until("it has left for all", async || member.sees(&id).await == Some((RingStatus::Left, Some(false)))).await;
    }
    members[0].kill();
    writer.writes(100).await;
    let seed = members[1].address;
    members[0].start_elsewhere(StartKind::Return, &[seed]);
    members[0].serves().await;
    agreed(&members).await;
    let acknowledged = writer.stop().await;
    for lost in 0..members.len() {
        members[lost].kill();
        let rest: Vec<&Member> = members.iter().enumerate().filter(|(n, _)| *n != lost).map(|(_, m)| m).collect();
        assert_eq!(missing(&rest, &acknowledged).await, [] as [u64; 0], "without member {lost}");
        let seed = rest[0].address;
        members[lost].start(StartKind::Return, &[seed]);
        members[lost].serves().await;
        agreed(&members).await;
    }
}

#[tokio::test]
async fn a_join_and_a_leave_give_each_replica_to_be_every_row_it_lacks() {
    const ROWS: u64 = 200;
    let mut members = ring(2, &quick()).await;
    let rows = table(&[&members[0], &members[1]]).await;
    for number in 0..ROWS {
        rows.write(number).await.expect("acknowledged");
    }
    // With as many members as copies everybody holds everything.
    for size in [3, 4] {
        let mut next = Member::new(quick());
        next.start(StartKind::Join, &[members[0].address]);
        next.serves().await;
        members.push(next);
        agreed(&members).await;
        let held = members[size - 1].rows().await;
        assert!(if size == 3 { held == ROWS } else { (1..ROWS).contains(&held) }, "{held} rows in member {size}");
    }
    let left = members[0].leave().await;
    assert!(left.status.success(), "{}", said(&left));
    for member in &members[1..] {
        assert_eq!(member.rows().await, ROWS);
    }
}

#[tokio::test]
async fn a_killed_member_is_down_after_silence_and_comes_back_as_itself_at_another_address() {
    let mut members = ring(3, &quick()).await;
    let id = members[2].identity().await;
    members[2].kill();
    until("it is down", async || members[0].sees(&id).await == Some((RingStatus::Normal, Some(false)))).await;
    let seed = members[0].address;
    members[2].start_elsewhere(StartKind::Return, &[seed]);
    members[2].serves().await;
    assert_eq!(members[2].identity().await, id);
    agreed(&members).await;
}

#[tokio::test]
async fn a_member_that_is_stopped_says_so_before_it_ends() {
    let mut members = ring(3, &Behaviour { silence_ms: 600_000, ..quick() }).await;
    let id = members[2].identity().await;
    let drained = members[2].drain().await;
    assert!(drained.status.success(), "{}", said(&drained));
    assert_eq!(members[0].sees(&id).await, Some((RingStatus::Shutdown, Some(false))));
    assert_eq!(members[2].look().await.phase, DatabasePhase::Draining);
    assert!(members[2].drain().await.status.success(), "a second drain has nothing to do");
    members[2].signal("-TERM");
    assert_eq!(members[2].ended().await.0.code(), Some(143));
    let id = members[1].identity().await;
    members[1].signal("-TERM");
    assert_eq!(members[1].ended().await.0.code(), Some(143));
    assert_eq!(members[0].sees(&id).await, Some((RingStatus::Shutdown, Some(false))));
}

#[tokio::test]
async fn a_leave_that_would_cost_a_copy_is_refused_and_changes_nothing() {
    let mut members = ring(3, &quick()).await;
    let refused = members[2].leave().await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("not enough live nodes"), "{}", said(&refused));
    agreed(&members).await;
    let mut fourth = Member::new(quick());
    fourth.start(StartKind::Join, &[members[0].address]);
    fourth.serves().await;
    members.push(fourth);
    agreed(&members).await;
    let id = members[0].identity().await;
    members[0].kill();
    until("it is down", async || members[3].sees(&id).await == Some((RingStatus::Normal, Some(false)))).await;
    let refused = members[3].leave().await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("is not up"), "{}", said(&refused));
}

#[tokio::test]
async fn a_leave_cut_off_is_forgotten_and_once_done_the_data_starts_no_more_until_moved_aside() {
    let mut members = ring(4, &quick()).await;
    let writer = Writer::start(&[&members[0], &members[1]]).await;
    writer.writes(100).await;
    let id = members[3].identity().await;
    // The same data under slow moves.
    members[3].kill();
    let mut leaver = members.pop().expect("four");
    leaver.behave(slow());
    leaver.start(StartKind::Return, &[members[0].address]);
    leaver.serves().await;
    let all = [&members[0], &members[1], &members[2], &leaver];
    for member in all {
        until("it is up again", async || member.sees(&id).await == Some((RingStatus::Normal, Some(true)))).await;
        for other in all {
            let other = other.identity().await;
            until("all are up", async || member.sees(&other).await == Some((RingStatus::Normal, Some(true)))).await;
        }
    }
    let leave = leaver.begin_leave();
    until("peers see it leave", async || members[0].sees(&id).await == Some((RingStatus::Leaving, Some(true)))).await;
    until("bytes move", async || leaver.look().await.streaming.is_some_and(|p| p.done > 0 && p.done < p.total)).await;
    assert_eq!(leaver.look().await.phase, DatabasePhase::Leaving);
    writer.writes(50).await;
    leaver.kill();
    assert_eq!(leave.await.expect("joins").status.code(), Some(1));
    until("it is leaving and down", async || members[0].sees(&id).await == Some((RingStatus::Leaving, Some(false))))
        .await;

    leaver.start_elsewhere(StartKind::Return, &[members[0].address]);
    leaver.serves().await;
    until("it is a member", async || members[0].sees(&id).await == Some((RingStatus::Normal, Some(true)))).await;
    for member in &members {
        let other = member.identity().await;
        until("all are up", async || leaver.sees(&other).await == Some((RingStatus::Normal, Some(true)))).await;
    }
    let leave = leaver.begin_leave();
    until("it leaves again", async || leaver.look().await.phase == DatabasePhase::Leaving).await;
    assert!(leaver.step(&LocalStep::LimitStreaming { mebibytes_per_second: None }).status.success());
    let left = leave.await.expect("joins");
    assert!(left.status.success(), "{}", said(&left));
    assert!(leaver.leave().await.status.success(), "a second leave has nothing to do");
    leaver.kill();

    leaver.start(StartKind::Return, &[members[0].address]);
    let (status, why) = leaver.ended().await;
    assert_eq!(status.code(), Some(1));
    assert!(why.contains("will not start on this data again"), "{why}");
    assert_eq!(leaver.driver.volume(None), VolumeState::Holds(id.clone()));
    assert!(matches!(leaver.driver.move_aside(id.as_str()), Ok(MovedAside::Moved(_))));
    assert_eq!(leaver.driver.volume(None), VolumeState::Empty);
    leaver.behave(quick());
    leaver.start(StartKind::Join, &[members[0].address]);
    leaver.serves().await;
    assert_ne!(leaver.identity().await, id);
    let acknowledged = writer.stop().await;
    members.push(leaver);
    assert_eq!(missing(&members.iter().collect::<Vec<_>>(), &acknowledged).await, [] as [u64; 0]);
}

#[tokio::test]
async fn a_join_cut_off_takes_no_part_in_writes_and_begins_anew_with_the_same_identity() {
    let members = ring(3, &quick()).await;
    let writer = Writer::start(&[&members[0], &members[1]]).await;
    writer.writes(50).await;
    let mut joiner = Member::new(slow());
    joiner.start(StartKind::Join, &[members[0].address]);
    until("it joins", async || {
        let look = joiner.look().await;
        look.phase == DatabasePhase::Joining && look.streaming.is_some_and(|p| p.done > 0)
    })
    .await;
    let id = joiner.identity().await;
    let mut second = Member::new(quick());
    second.start(StartKind::Join, &[members[0].address]);
    let (status, why) = second.ended().await;
    assert_eq!(status.code(), Some(1));
    assert!(why.contains("one at a time"), "{why}");
    joiner.kill();
    writer.writes(50).await;
    joiner.behave(quick());
    joiner.start(StartKind::Join, &[members[0].address]);
    joiner.serves().await;
    assert_eq!(joiner.identity().await, id);
    let acknowledged = writer.stop().await;
    assert_eq!(missing(&[&joiner], &acknowledged).await, [] as [u64; 0]);
}

#[tokio::test]
async fn who_finds_no_seed_ends_but_a_member_of_long_standing_that_is_its_own_seed_starts_alone() {
    let mut members = ring(3, &quick()).await;
    let ids = [members[0].identity().await, members[1].identity().await];
    members.iter_mut().for_each(Member::kill);
    let nobody = members[0].address;
    // As a joiner it is not among its own seeds.
    members[1].start(StartKind::Join, &[nobody]);
    let (status, why) = members[1].ended().await;
    assert_eq!(status.code(), Some(1));
    assert!(why.contains("none of the seeds"), "{why}");
    members[1].start(StartKind::Return, &[nobody]);
    members[1].serves().await;
    assert_eq!(members[1].identity().await, ids[1]);
    until("the others are down", async || members[1].sees(&ids[0]).await == Some((RingStatus::Normal, Some(false))))
        .await;
    assert!(table(&[&members[1]]).await.write(1).await.is_err(), "one of three is no quorum");
    members[0].start_elsewhere(StartKind::Return, &[nobody]);
    until("it found the other by what it remembers", async || {
        members[1].sees(&ids[0]).await == Some((RingStatus::Normal, Some(true)))
    })
    .await;
    until("a quorum writes", async || table(&[&members[1]]).await.write(2).await.is_ok()).await;

    let mut newcomer = Member::new(quick());
    newcomer.start(StartKind::Join, &[nobody]);
    let (status, why) = newcomer.ended().await;
    assert_eq!(status.code(), Some(1), "{why}");
    assert!(why.contains("none of the seeds"), "{why}");
}

#[tokio::test]
async fn members_that_all_start_elsewhere_at_once_find_each_other_by_their_seeds() {
    let mut members = ring(2, &quick()).await;
    let ids = [members[0].identity().await, members[1].identity().await];
    members.iter_mut().for_each(Member::kill);
    // The other is not there yet when each of them starts: both remember addresses that nobody has any more.
    let late = address();
    members[0].start_elsewhere(StartKind::Return, &[late]);
    members[0].serves().await;
    members[1].address = late;
    members[1].start(StartKind::Return, &[]);
    for (member, other) in [(0, 1), (1, 0)] {
        until("it sees the other", async || {
            members[member].sees(&ids[other]).await == Some((RingStatus::Normal, Some(true)))
        })
        .await;
    }
}

#[tokio::test]
async fn a_stopped_process_costs_no_quorum_and_wakes_as_a_member() {
    let members = ring(3, &quick()).await;
    let id = members[2].identity().await;
    let writer = Writer::start(&[&members[0], &members[1]]).await;
    members[2].signal("-STOP");
    until("it is down", async || members[0].sees(&id).await == Some((RingStatus::Normal, Some(false)))).await;
    writer.writes(50).await;
    members[2].signal("-CONT");
    agreed(&members).await;
    let acknowledged = writer.stop().await;
    let reader = table(&[&members[2]]).await;
    for number in acknowledged.iter().take(50) {
        assert_eq!(reader.read(*number).await, Ok(true), "row {number}");
    }
}

#[tokio::test]
async fn the_sandboxs_writer_counts_the_models_acknowledgements_too() {
    let members = ring(3, &quick()).await;
    let contacts = members.iter().map(|m| SocketAddr::from((m.address, 9042))).collect();
    let (_keep, contacts) = tokio::sync::watch::channel(contacts);
    let settings = WriterSettings { protocol: Protocol::Model, ..WriterSettings::default() };
    let mut writer = RowWriter::start(contacts, settings);
    until("rows are acknowledged", async || writer.acknowledged() >= 200).await;
    writer.stop().await;
    let read = writer.read_back().await.expect("reads");
    assert_eq!((read.acknowledged, read.missing), (writer.acknowledged(), Vec::new()));
}
