use super::*;

const SILENCE: Duration = Duration::from_secs(4);

fn name(name: &str) -> DatabaseIdentity {
    DatabaseIdentity::new(name)
}

fn entry(id: &str, status: RingStatus) -> Entry {
    let address = "127.0.0.1:1".parse().expect("address");
    Entry { id: name(id), address, generation: 1, version: 1, beat: 1, status }
}

fn ring(members: &[(&str, RingStatus)]) -> Ring {
    let mut ring = Ring::new(name("watcher"), SILENCE);
    ring.merge(members.iter().map(|(id, status)| entry(id, *status)).collect(), Duration::ZERO);
    ring
}

const N: RingStatus = RingStatus::Normal;

#[test]
fn a_leave_makes_its_heirs_pending_and_moves_nothing_else() {
    let before = ring(&[("a", N), ("b", N), ("c", N), ("d", N), ("e", N)]);
    let during = ring(&[("a", N), ("b", N), ("c", N), ("d", N), ("e", RingStatus::Leaving)]);
    let after = ring(&[("a", N), ("b", N), ("c", N), ("d", N), ("e", RingStatus::Left)]);
    let mut moved = 0;
    for key in (0..500).map(|n| format!("rows/{n}")) {
        let (old, now, new) = (before.place(&key, 3), during.place(&key, 3), after.place(&key, 3));
        assert_eq!(old.natural, now.natural);
        let gained: Vec<_> = new.natural.iter().filter(|id| !old.natural.contains(id)).cloned().collect();
        assert_eq!(now.pending, gained);
        assert_eq!(gained.len(), usize::from(old.natural.contains(&name("e"))));
        moved += gained.len();
    }
    assert!((200..400).contains(&moved), "{moved} of 500 rows had a copy on one of five");
}

#[test]
fn a_joining_member_is_pending_until_it_was_silent_too_long_and_then_never_again_in_this_life() {
    let mut ring = ring(&[("a", N), ("b", N), ("j", RingStatus::Joining)]);
    assert_eq!(ring.place("x", 3).pending, [name("j")]);
    assert!(ring.unbroken(&name("j"), 1));
    let late = SILENCE + Duration::from_millis(1);
    ring.judge(late);
    assert_eq!(ring.place("x", 3).pending, []);
    ring.merge(vec![Entry { beat: 2, ..entry("j", RingStatus::Joining) }], late);
    assert!(!ring.unbroken(&name("j"), 1), "what it missed it has missed");
    ring.merge(vec![Entry { generation: 2, ..entry("j", RingStatus::Joining) }], late);
    assert!(ring.unbroken(&name("j"), 2));
}

#[test]
fn who_has_left_never_comes_back() {
    let mut ring = ring(&[("a", RingStatus::Left)]);
    ring.merge(vec![Entry { generation: 9, ..entry("a", N) }], Duration::ZERO);
    assert_eq!(ring.shown(Duration::ZERO)[0].status, RingStatus::Left);
}

#[test]
fn the_digest_tells_rings_apart_that_place_rows_differently_and_no_others() {
    let normal = ring(&[("a", N), ("b", N)]);
    assert_eq!(normal.digest(), ring(&[("a", RingStatus::Shutdown), ("b", N), ("c", RingStatus::Left)]).digest());
    for other in [
        ring(&[("a", N)]),
        ring(&[("a", N), ("b", RingStatus::Leaving)]),
        ring(&[("a", N), ("b", N), ("c", RingStatus::Joining)]),
    ] {
        assert_ne!(normal.digest(), other.digest());
    }
}

#[test]
fn a_member_is_unknown_at_first_then_up_while_it_grows_and_down_after_silence() {
    let mut ring = ring(&[("a", N)]);
    assert_eq!(ring.up(&name("a"), Duration::ZERO), None);
    ring.merge(vec![Entry { beat: 2, ..entry("a", N) }], Duration::from_secs(1));
    assert_eq!(ring.up(&name("a"), Duration::from_secs(5)), Some(true));
    ring.merge(vec![Entry { beat: 2, ..entry("a", N) }], Duration::from_secs(5));
    assert_eq!(ring.up(&name("a"), Duration::from_millis(5001)), Some(false));
}
