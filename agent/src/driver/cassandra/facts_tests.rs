use super::*;
use crate::driver::cassandra::rows::Local;
use protocol::time::Millis;

const OWN: &str = "aaaa";
const OTHER: &str = "bbbb";

fn gossip(last: u8, host_id: Option<&str>, status: Option<&str>, generation: i32, heartbeat: i32) -> Gossip {
    Gossip {
        address: IpAddr::from([127, 0, 0, last]),
        generation,
        heartbeat,
        host_id: host_id.map(str::to_owned),
        status: status.map(str::to_owned),
        schema: Some("s1".into()),
        load: Some("121973.0".into()),
    }
}

fn peer(last: u8, host_id: &str) -> Peer {
    Peer { address: IpAddr::from([127, 0, 0, last]), host_id: Some(host_id.into()), schema: Some("s1".into()) }
}

fn rows(gossip: Vec<Gossip>, peers: Vec<Peer>) -> Rows {
    Rows {
        local: Local {
            host_id: Some(OWN.into()),
            bootstrapped: Some("COMPLETED".into()),
            version: Some("5.0.9".into()),
            schema: Some("s1".into()),
        },
        peers,
        gossip,
        keyspaces: Vec::new(),
        streams: Vec::new(),
    }
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn line(ring: &[RingMember], identity: &str) -> (RingStatus, Option<bool>) {
    let member = ring.iter().find(|m| m.identity.as_str() == identity).expect("in the ring");
    (member.status, member.up)
}

#[test]
fn the_words_seen_on_a_real_ring_are_understood_and_others_are_unknown() {
    for (text, expected) in [
        ("NORMAL,-1413585245277965001", RingStatus::Normal),
        ("BOOT,-1", RingStatus::Joining),
        ("BOOT_REPLACE,127.0.0.3:7000", RingStatus::Joining),
        ("LEAVING,-1374102907714395399", RingStatus::Leaving),
        ("LEFT,-1374102907714395399,1795742481119", RingStatus::Left),
        ("removed,aaaa,1795742481119", RingStatus::Left),
        ("shutdown,true", RingStatus::Shutdown),
        ("hibernate,true", RingStatus::Shutdown),
        ("", RingStatus::Unknown),
        ("normal", RingStatus::Unknown),
    ] {
        assert_eq!(status(text), expected, "{text}");
    }
}

#[test]
fn the_first_look_tells_of_nobody_else_whether_it_lives() {
    let mut heartbeats = Heartbeats::default();
    let first = rows(
        vec![gossip(1, Some(OWN), Some("NORMAL,1"), 1, 5), gossip(2, Some(OTHER), Some("NORMAL,2"), 1, 5)],
        vec![peer(2, OTHER)],
    );
    let ring = ring(&first, seconds(0), &mut heartbeats);
    assert_eq!(line(&ring, OWN), (RingStatus::Normal, Some(true)));
    assert_eq!(line(&ring, OTHER), (RingStatus::Normal, None));
}

#[test]
fn a_heartbeat_that_grows_is_life_and_one_that_rests_too_long_is_not() {
    let mut heartbeats = Heartbeats::default();
    let mut look = |at: u64, generation, heartbeat| {
        let rows = rows(vec![gossip(2, Some(OTHER), Some("NORMAL,2"), generation, heartbeat)], Vec::new());
        line(&ring(&rows, seconds(at), &mut heartbeats), OTHER).1
    };
    assert_eq!(look(0, 1, 5), None);
    assert_eq!(look(1, 1, 6), Some(true));
    assert_eq!(look(4, 1, 6), Some(true), "a few seconds without news are ordinary");
    assert_eq!(look(12, 1, 6), Some(false));
    assert_eq!(look(13, 2, 1), Some(true), "a new generation begins to count anew");
}

#[test]
fn one_that_never_moved_is_called_down_only_after_a_while() {
    let mut heartbeats = Heartbeats::default();
    let rows = rows(vec![gossip(2, Some(OTHER), Some("NORMAL,2"), 1, 5)], Vec::new());
    assert_eq!(line(&ring(&rows, seconds(0), &mut heartbeats), OTHER).1, None);
    assert_eq!(line(&ring(&rows, seconds(9), &mut heartbeats), OTHER).1, None);
    assert_eq!(line(&ring(&rows, seconds(11), &mut heartbeats), OTHER).1, Some(false));
}

#[test]
fn one_that_said_it_stops_is_down_at_once() {
    let mut heartbeats = Heartbeats::default();
    let up = rows(vec![gossip(2, Some(OTHER), Some("NORMAL,2"), 1, 5)], Vec::new());
    let stopped = rows(vec![gossip(2, Some(OTHER), Some("shutdown,true"), 1, i32::MAX)], Vec::new());
    ring(&up, seconds(0), &mut heartbeats);
    assert_eq!(line(&ring(&stopped, seconds(1), &mut heartbeats), OTHER), (RingStatus::Shutdown, Some(false)));
}

#[test]
fn a_member_under_two_addresses_is_one_member_in_its_latest_life() {
    let both = rows(
        vec![gossip(2, Some(OTHER), Some("NORMAL,2"), 1, 900), gossip(3, Some(OTHER), Some("LEAVING,2"), 2, 1)],
        Vec::new(),
    );
    let ring = ring(&both, seconds(0), &mut Heartbeats::default());
    assert_eq!(ring.len(), 1);
    assert_eq!(line(&ring, OTHER).0, RingStatus::Leaving);
}

#[test]
fn a_member_held_at_an_address_it_has_left_is_not_up_however_its_heart_beats() {
    let look = |beat: i32, held_at: u8| {
        let gossip =
            vec![gossip(2, Some(OTHER), Some("NORMAL,2"), 1, 900), gossip(3, Some(OTHER), Some("NORMAL,2"), 2, beat)];
        rows(gossip, vec![peer(held_at, OTHER)])
    };
    for (held_at, up) in [(3, true), (2, false)] {
        let mut heartbeats = Heartbeats::default();
        ring(&look(1, held_at), seconds(0), &mut heartbeats);
        let seen = ring(&look(2, held_at), seconds(1), &mut heartbeats);
        assert_eq!(line(&seen, OTHER), (RingStatus::Normal, Some(up)));
    }
}

#[test]
fn a_member_that_our_database_knows_in_an_older_life_only_is_not_up_though_its_heart_beat_a_moment_ago() {
    let alive = |beat: i32| rows(vec![gossip(3, Some(OTHER), Some("NORMAL,2"), 2, beat)], vec![peer(3, OTHER)]);
    // After a start of its own it has heard of the old address last, and holds the new one off.
    let older = rows(vec![gossip(2, Some(OTHER), Some("NORMAL,2"), 1, 900)], vec![peer(2, OTHER)]);
    let mut heartbeats = Heartbeats::default();
    ring(&alive(1), seconds(0), &mut heartbeats);
    assert_eq!(line(&ring(&alive(2), seconds(1), &mut heartbeats), OTHER).1, Some(true));
    assert_eq!(line(&ring(&older, seconds(7), &mut heartbeats), OTHER), (RingStatus::Normal, Some(false)));
    assert_eq!(line(&ring(&alive(60), seconds(70), &mut heartbeats), OTHER).1, Some(true));
}

#[test]
fn an_owner_that_gossip_does_not_know_stays_a_member() {
    let without_row = rows(vec![gossip(1, Some(OWN), Some("NORMAL,1"), 1, 5)], vec![peer(2, OTHER)]);
    let without_status =
        rows(vec![gossip(1, Some(OWN), Some("NORMAL,1"), 1, 5), gossip(2, None, None, 0, 0)], vec![peer(2, OTHER)]);
    for rows in [without_row, without_status] {
        let ring = ring(&rows, seconds(0), &mut Heartbeats::default());
        assert_eq!(line(&ring, OTHER), (RingStatus::Normal, None));
    }
}

#[test]
fn one_that_gossips_without_a_place_in_the_ring_is_about_to_join() {
    let rows = rows(vec![gossip(2, Some(OTHER), None, 1, 1)], Vec::new());
    let ring = ring(&rows, seconds(0), &mut Heartbeats::default());
    assert_eq!(line(&ring, OTHER).0, RingStatus::Joining);
}

#[test]
fn a_different_schema_of_a_living_member_is_disagreement() {
    let mut other = gossip(2, Some(OTHER), Some("NORMAL,2"), 1, 5);
    other.schema = Some("s2".into());
    let mut rows = rows(vec![gossip(1, Some(OWN), Some("NORMAL,1"), 1, 5), other], Vec::new());
    let seen = ring(&rows, seconds(0), &mut Heartbeats::default());
    assert_eq!(schema_agreed(&rows, &seen), Some(false));
    rows.gossip[1].status = Some("LEFT,2,9".into());
    let seen = ring(&rows, seconds(0), &mut Heartbeats::default());
    assert_eq!(schema_agreed(&rows, &seen), Some(true));
    rows.local.schema = None;
    assert_eq!(schema_agreed(&rows, &seen), None);
}

fn keyspace(pairs: &[(&str, &str)]) -> Keyspace {
    Keyspace { replication: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect() }
}

#[test]
fn the_highest_replication_counts_the_databases_own_keyspaces_too() {
    let local = keyspace(&[("class", "org.apache.cassandra.locator.LocalStrategy")]);
    let simple =
        |rf: &str| keyspace(&[("class", "org.apache.cassandra.locator.SimpleStrategy"), ("replication_factor", rf)]);
    let network =
        keyspace(&[("class", "org.apache.cassandra.locator.NetworkTopologyStrategy"), ("dc1", "2"), ("dc2", "5/2")]);
    assert_eq!(replication(&[local.clone(), simple("2"), simple("3")]), Some(3));
    assert_eq!(replication(&[simple("3"), network]), Some(5));
    assert_eq!(replication(&[local]), None);
}

#[test]
fn a_strategy_that_is_not_known_makes_replication_unknown_rather_than_low() {
    let known = keyspace(&[("class", "SimpleStrategy"), ("replication_factor", "3")]);
    let foreign = keyspace(&[("class", "com.example.Everywhere")]);
    let broken = keyspace(&[("class", "SimpleStrategy"), ("replication_factor", "many")]);
    assert_eq!(replication(&[known.clone(), foreign]), None);
    assert_eq!(replication(&[known, broken]), None);
}

#[test]
fn only_transfers_under_way_are_progress() {
    let stream = |status: &str, done, total| Stream { status: Some(status.into()), done, total };
    assert_eq!(streaming(&[stream("success", 5, 5), stream("failed", 1, 5)]), None);
    assert_eq!(
        streaming(&[stream("success", 5, 5), stream("start", 1, 5), stream("init", 0, 7)]),
        Some(Progress { done: 1, total: 12 })
    );
}

#[test]
fn the_own_load_is_read_from_its_fraction() {
    assert_eq!(load(&rows(vec![gossip(1, Some(OWN), Some("NORMAL,1"), 1, 5)], Vec::new())), Some(121_973));
}

#[test]
fn the_mode_is_found_in_what_netstats_prints() {
    assert_eq!(mode("Mode: NORMAL\nNot sending any streams.\n"), Some(Mode::Member));
    assert_eq!(mode("WARN something\nMode: DECOMMISSION_FAILED\n"), Some(Mode::Member));
    assert_eq!(mode("Mode: DECOMMISSIONED\n"), Some(Mode::Decommissioned));
    assert_eq!(mode("Mode: DRAINED\n"), Some(Mode::Drained));
    assert_eq!(mode("Mode: SINGING\n"), Some(Mode::Other));
    assert_eq!(mode("nodetool: Failed to connect\n"), None);
}

fn running() -> ProcessState {
    ProcessState::Running { pid: 7, since: Millis(5) }
}

fn signs(process: &ProcessState, door: Door) -> Signs<'_> {
    Signs {
        process,
        door,
        bootstrapped: None,
        own_status: None,
        mode: None,
        has_answered: false,
        silent_for: Duration::ZERO,
        previous: DatabasePhase::Unknown,
    }
}

#[test]
fn a_member_serves_only_when_it_is_bootstrapped_and_normal() {
    let process = running();
    let mut signs = signs(&process, Door::Open);
    signs.bootstrapped = Some("COMPLETED");
    signs.own_status = Some(RingStatus::Normal);
    assert_eq!(phase(&signs), DatabasePhase::Serving);
    signs.own_status = None;
    assert_eq!(phase(&signs), DatabasePhase::Starting);
    signs.own_status = Some(RingStatus::Leaving);
    assert_eq!(phase(&signs), DatabasePhase::Leaving);
    signs.bootstrapped = Some("IN_PROGRESS");
    assert_eq!(phase(&signs), DatabasePhase::Joining);
    signs.bootstrapped = Some("DECOMMISSIONED");
    assert_eq!(phase(&signs), DatabasePhase::Left);
}

#[test]
fn behind_a_closed_door_the_mode_decides() {
    let process = running();
    let mut signs = signs(&process, Door::Closed);
    assert_eq!(phase(&signs), DatabasePhase::Starting);
    signs.has_answered = true;
    signs.previous = DatabasePhase::Serving;
    assert_eq!(phase(&signs), DatabasePhase::Unknown, "the mode has not been asked yet");
    for (mode, expected) in [
        (Mode::Joining, DatabasePhase::Joining),
        (Mode::JoiningFailed, DatabasePhase::JoinFailed),
        (Mode::Leaving, DatabasePhase::Leaving),
        (Mode::Decommissioned, DatabasePhase::Left),
        (Mode::Drained, DatabasePhase::Draining),
        (Mode::Member, DatabasePhase::Unresponsive),
        (Mode::Other, DatabasePhase::Unknown),
    ] {
        signs.mode = Some(mode);
        assert_eq!(phase(&signs), expected);
    }
}

#[test]
fn a_pause_keeps_the_phase_and_a_long_silence_does_not() {
    let process = running();
    let mut signs = signs(&process, Door::Silent);
    signs.has_answered = true;
    signs.previous = DatabasePhase::Serving;
    signs.silent_for = seconds(3);
    assert_eq!(phase(&signs), DatabasePhase::Serving);
    signs.silent_for = seconds(11);
    assert_eq!(phase(&signs), DatabasePhase::Unresponsive);
}

#[test]
fn a_start_that_takes_long_is_never_called_unresponsive() {
    let process = running();
    let mut signs = signs(&process, Door::Silent);
    signs.silent_for = seconds(10_000);
    assert_eq!(phase(&signs), DatabasePhase::Starting);
}

#[test]
fn without_a_process_only_the_launcher_is_believed() {
    let back = |crash_loop| ProcessState::Backoff { failures: 5, crash_loop, left: Millis(1) };
    for (process, expected) in [
        (ProcessState::Held, DatabasePhase::Held),
        (back(false), DatabasePhase::Restarting),
        (back(true), DatabasePhase::CrashLooping),
        (ProcessState::Draining { pid: 7 }, DatabasePhase::Draining),
        (ProcessState::Stopping { pid: 7 }, DatabasePhase::Draining),
        (ProcessState::Stopped, DatabasePhase::Stopped),
    ] {
        assert_eq!(phase(&signs(&process, Door::Closed)), expected);
    }
}
