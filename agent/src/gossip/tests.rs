//! The whole of gossip over real sockets on the loopback.

use super::seal::Sealer;
use super::*;
use crate::keyring::{KeyRing, SharedKeyRing};
use protocol::id::{ClusterId, Generation, PilotName};
use protocol::view::Liveness;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::watch;

const DEADLINE: Duration = Duration::from_secs(40);
const OLD: &[u8] = &[1; 32];
const NEW: &[u8] = &[2; 32];

fn quick() -> GossipSettings {
    GossipSettings {
        interval: Duration::from_millis(100),
        prior: Duration::from_millis(300),
        max_interval: Duration::from_secs(1),
        ..GossipSettings::default()
    }
}

fn ring(keys: &[(&str, &[u8])], primary: &str) -> Arc<KeyRing> {
    Arc::new(KeyRing::of(keys, primary).expect("a ring"))
}

fn name(text: &str) -> PilotName {
    PilotName::parse(text).expect("a name")
}

struct Node {
    gossip: ChitchatMembership,
    ring: watch::Sender<Arc<KeyRing>>,
    address: SocketAddr,
}

async fn node_of(
    cluster: &str,
    who: &str,
    generation: u64,
    listen: SocketAddr,
    secret: Arc<KeyRing>,
    seeds: &[SocketAddr],
) -> Node {
    node_with(quick(), cluster, who, generation, listen, secret, seeds).await
}

async fn node_with(
    settings: GossipSettings,
    cluster: &str,
    who: &str,
    generation: u64,
    listen: SocketAddr,
    secret: Arc<KeyRing>,
    seeds: &[SocketAddr],
) -> Node {
    let (ring, shared): (_, SharedKeyRing) = watch::channel(secret);
    let gossip = ChitchatMembership::start(GossipStart {
        settings,
        name: name(who),
        generation: Generation(generation),
        listen,
        advertise: ([127, 0, 0, 1], 0).into(),
        cluster: ClusterId::new(cluster),
        ring: shared,
        seeds: seeds.to_vec(),
        next_generation: Box::new(|floor| Ok(Generation(floor.0 + 1))),
        allow_cuts: true,
    })
    .await
    .expect("gossip starts");
    let address = gossip.view().own.address;
    Node { gossip, ring, address }
}

async fn node(who: &str, generation: u64, seeds: &[SocketAddr]) -> Node {
    node_of("c", who, generation, ([127, 0, 0, 1], 0).into(), ring(&[("k", OLD)], "k"), seeds).await
}

impl Node {
    async fn until(&self, what: &str, mut is: impl FnMut(&MembershipView) -> bool) -> Arc<MembershipView> {
        let mut changes = self.gossip.changes();
        let wait = changes.wait_for(|view| is(view));
        match tokio::time::timeout(DEADLINE, wait).await {
            Ok(view) => view.expect("gossip runs").clone(),
            Err(_) => panic!("never {what}: {:#?}", self.gossip.view()),
        }
    }

    async fn until_live(&self, names: &[&str]) -> Arc<MembershipView> {
        self.until(&format!("{names:?} live"), |view| live(view) == names).await
    }

    fn say(&mut self, key: &str, value: &str) {
        let values = [(key.to_owned(), value.to_owned())].into();
        self.gossip.publish(&values).expect("small");
    }

    async fn until_said(&self, by: &str, key: &str, value: &str) {
        let what = format!("{by} says {key}={value}");
        self.until(&what, |view| {
            view.peers.get(&name(by)).and_then(|peer| peer.values.get(key)).is_some_and(|said| said == value)
        })
        .await;
    }
}

fn live(view: &MembershipView) -> Vec<&str> {
    view.peers.iter().filter(|(_, peer)| peer.liveness == Liveness::Live).map(|(name, _)| name.as_str()).collect()
}

async fn three() -> (Node, Node, Node) {
    let a = node("a", 1, &[]).await;
    let b = node("b", 1, &[a.address]).await;
    let c = node("c", 1, &[a.address]).await;
    a.until_live(&["b", "c"]).await;
    b.until_live(&["a", "c"]).await;
    c.until_live(&["a", "b"]).await;
    (a, b, c)
}

#[tokio::test]
async fn three_pilots_with_one_key_hear_each_other_and_a_wrong_key_or_cluster_is_invisible() {
    let (mut a, b, c) = three().await;
    a.say("about", "hello");
    b.until_said("a", "about", "hello").await;
    c.until_said("a", "about", "hello").await;
    let free = ([127, 0, 0, 1], 0).into();
    let seeds = [a.address, b.address, c.address];
    let wrong = node_of("c", "x", 1, free, ring(&[("k", NEW)], "k"), &seeds).await;
    let other = node_of("d", "y", 1, free, ring(&[("k", OLD)], "k"), &seeds).await;
    let seen = a
        .until("the strangers' datagrams refused", |view| view.counters.unknown_key > 5 && view.counters.forged > 5)
        .await;
    assert_eq!(live(&seen), ["b", "c"]);
    assert_eq!(seen.peers.len(), 2);
    for stranger in [&wrong, &other] {
        let lonely = stranger.until("lonely", |view| view.lonely).await;
        assert!(lonely.peers.is_empty());
    }
    assert!(!a.gossip.view().lonely);
}

#[tokio::test]
async fn a_value_of_the_greatest_size_arrives_and_too_much_is_refused_whole() {
    let (mut a, b, _c) = three().await;
    let mut values: Values = (0..8).map(|i| (format!("key-{i}"), "v".repeat(1000))).collect();
    a.gossip.publish(&values).expect("8 kB are allowed");
    b.until_said("a", "key-7", &"v".repeat(1000)).await;
    values.insert("one-more".to_owned(), "v".repeat(1000));
    assert!(a.gossip.publish(&values).is_err());
    a.say("key-0", "short");
    b.until_said("a", "key-0", "short").await;
    let seen = b.until("the taken back values gone", |view| view.peers[&name("a")].values.len() == 2).await;
    assert!(seen.peers[&name("a")].values.contains_key(KEYS));
}

/// What `knowledge` of chitchat makes a forger send: a SYN-ACK with a delta, a heartbeat at its end, a digest full of
/// names, a compressed bomb. Their exact bytes do not matter: nothing unsealed is ever decoded.
fn attacks() -> Vec<Vec<u8>> {
    let magic = 45_139_u16.to_le_bytes();
    let mut syn_ack = magic.to_vec();
    syn_ack.extend([0, 1, 1, 0, 1, 0, b'a', 1, 0, 0, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1, 1, 1]);
    syn_ack.extend([0xff; 8]);
    syn_ack.extend([0; 16]);
    let mut many = magic.to_vec();
    many.extend([0, 1, 0x87, 2]);
    many.extend(std::iter::repeat_n(b'x', 60_000));
    let mut bomb = magic.to_vec();
    bomb.extend([1, 0, 0x28, 0xb5, 0x2f, 0xfd]);
    bomb.extend(std::iter::repeat_n(0xff, 56_000));
    vec![Vec::new(), vec![1], syn_ack, many, bomb, vec![1; 1200], vec![0xff; 1200]]
}

#[tokio::test]
async fn forged_replayed_cut_off_flipped_and_flooding_datagrams_change_nothing() {
    let (mut a, b, c) = three().await;
    a.say("about", "truth");
    b.until_said("a", "about", "truth").await;
    let before = b.gossip.view();
    let attacker = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let hit = async |datagram: &[u8]| {
        // The system may refuse one when its buffers are full: the attacker's loss.
        let _ = attacker.send_to(datagram, b.address).await;
    };
    for attack in attacks() {
        hit(&attack).await;
    }
    // Sealed by somebody who knows everything but the key.
    let stranger = ring(&[("k", NEW)], "k");
    let known = ring(&[("k", OLD)], "k");
    let mut forger = Sealer::new(ClusterId::new("c"), name("a"), Generation(9), a.address).expect("random");
    for forged in forger.seal(&stranger, None, &attacks()[2]).expect("sealed") {
        hit(&forged).await;
        let mut renamed = forged.clone();
        renamed[2..6].copy_from_slice(&known.primary().fingerprint().0);
        hit(&renamed).await;
        for length in 0..renamed.len() {
            hit(&renamed[..length]).await;
        }
    }
    // Genuine ones, flipped, and then replayed: an insider that has only just left, on the wire.
    let mut insider = Sealer::new(ClusterId::new("c"), name("z"), Generation(1), attacker.local_addr().expect("bound"))
        .expect("random");
    let genuine = insider.seal(&known, Some("b"), b"no gossip message").expect("sealed").remove(0);
    for bit in 0..genuine.len() * 8 {
        let mut flipped = genuine.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        hit(&flipped).await;
        if bit % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for _ in 0..50 {
        hit(&genuine).await;
    }
    b.until("the replays refused", |view| view.counters.replayed >= 20 && view.counters.undecodable >= 1).await;
    for i in 0..10_000_u32 {
        let mut noise = genuine.clone();
        noise[30..34].copy_from_slice(&i.to_be_bytes());
        noise.resize(1200, i as u8);
        hit(&noise).await;
        if i % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    // Gossip goes on: a new word still arrives, from the same lives, in the same task.
    a.say("about", "still truth");
    b.until_said("a", "about", "still truth").await;
    let after = b.until("quiet again", |view| live(view) == ["a", "c"]).await;
    assert_eq!(after.restarts, 0);
    assert_eq!(after.own.generation, before.own.generation);
    assert_eq!(after.lives, 3, "no life was invented");
    assert_eq!(after.peers[&name("a")].generation, Generation(1));
    assert!(after.counters.senders <= 3 && after.counters.waiting_bytes <= seal::MOST_WAITING as u64);
    assert!(after.counters.malformed > 0 && after.counters.unknown_key > 0 && after.counters.forged > 0);
    assert_eq!(live(&c.gossip.view()), ["a", "b"]);
}

#[tokio::test]
async fn a_restarted_pilot_is_seen_in_its_newest_life_only() {
    let (a, b, c) = three().await;
    drop(c);
    let again = node("c", 2, &[a.address]).await;
    let seen = a
        .until("c live in its second life", |view| {
            // At no moment is there more than one c, and never does an older life come back.
            assert!(view.peers.len() <= 2);
            let c = &view.peers[&name("c")];
            c.generation == Generation(2) && c.liveness == Liveness::Live
        })
        .await;
    assert_eq!(seen.peers[&name("c")].address, again.address);
    b.until("c live in its second life", |view| {
        let c = &view.peers[&name("c")];
        c.generation == Generation(2) && c.liveness == Liveness::Live
    })
    .await;
}

#[tokio::test]
async fn a_departing_pilot_is_gone_at_once_and_a_dropped_one_falls_silent() {
    let (a, b, c) = three().await;
    tokio::join!(c.gossip.depart(), async {
        let seen = a.until("c departed", |view| view.peers[&name("c")].liveness == Liveness::Departed).await;
        let c = &seen.peers[&name("c")];
        assert!(c.timeout.is_some_and(|timeout| c.silence < timeout), "by its word, not by its silence");
    });
    drop(b.gossip);
    let seen = a.until("b silent", |view| view.peers[&name("b")].liveness == Liveness::Silent).await;
    assert!(seen.peers[&name("b")].met);
    a.until("lonely", |view| view.lonely).await;
}

#[tokio::test]
async fn a_gossip_task_that_ends_is_restarted_under_a_higher_life() {
    let (a, b, _c) = three().await;
    b.gossip.crash().await;
    let seen = b.until("restarted", |view| view.restarts == 1 && live(view) == ["a", "c"]).await;
    assert_eq!(seen.own.generation, Generation(2));
    assert!(matches!(seen.incidents[..], [Incident { what: IncidentKind::TaskEnded { .. }, .. }]));
    a.until("b live in its second life", |view| {
        let b = &view.peers[&name("b")];
        b.generation == Generation(2) && b.liveness == Liveness::Live
    })
    .await;
}

#[tokio::test]
async fn a_key_is_rotated_in_three_steps_and_the_mesh_lives_through_each() {
    let (mut a, mut b, c) = three().await;
    let both = [("k", OLD), ("n", NEW)];
    let steps = [ring(&both, "k"), ring(&both, "n"), ring(&both[1..], "n")];
    for (step, ring) in steps.into_iter().enumerate() {
        // One after the other, as mounts change: in between the rings differ.
        let rings = [a.ring.clone(), b.ring.clone(), c.ring.clone()];
        for (turn, held) in rings.into_iter().enumerate() {
            held.send_replace(ring.clone());
            let word = format!("{step}-{turn}");
            a.say("step", &word);
            b.until_said("a", "step", &word).await;
            b.say("echo", &word);
            c.until_said("b", "echo", &word).await;
        }
        for (seer, seen) in [(&a, "b"), (&b, "c"), (&c, "a")] {
            seer.until_said(seen, KEYS, &ring.published()).await;
        }
    }
    assert_eq!(live(&a.gossip.view()), ["b", "c"]);
    assert_eq!(a.gossip.view().restarts, 0);
}

#[tokio::test]
async fn a_cut_hides_both_ways_and_its_healing_brings_everybody_back() {
    let (a, b, c) = three().await;
    let others = [name("a"), name("b")].into();
    c.gossip.cut(Cut::From(others)).await.expect("allowed");
    a.until("c silent", |view| view.peers[&name("c")].liveness == Liveness::Silent).await;
    b.until_live(&["a"]).await;
    c.until_live(&[]).await;
    c.gossip.cut(Cut::Nobody).await.expect("allowed");
    a.until_live(&["b", "c"]).await;
    c.until_live(&["a", "b"]).await;
}

#[tokio::test]
async fn a_pilot_alone_finds_the_others_when_seeds_come_later() {
    let a = node("a", 1, &[]).await;
    let mut b = node("b", 1, &[]).await;
    b.until("lonely", |view| view.lonely).await;
    b.gossip.seeds(&[b.address, a.address]);
    b.until_live(&["a"]).await;
    a.until_live(&["b"]).await;
}

#[tokio::test]
async fn a_pilot_that_meets_its_own_name_in_a_higher_life_climbs_above_it() {
    let (a, _b, c) = three().await;
    let twin = node("c", 7, &[a.address]).await;
    let seen = c.until("above its double", |view| view.own.generation > Generation(7)).await;
    assert!(seen.incidents.iter().any(|incident| matches!(incident.what, IncidentKind::NameTaken { .. })));
    drop(twin);
}

#[tokio::test]
async fn a_pilot_that_was_asleep_holds_its_view_until_it_has_heard_everybody_again() {
    let (a, _b, _c) = three().await;
    let mut changes = a.gossip.changes();
    // The whole runtime stands still, far beyond every time-out, as under SIGSTOP.
    std::thread::sleep(Duration::from_secs(6));
    let mut woken = false;
    let watching = async {
        loop {
            changes.changed().await.expect("gossip runs");
            let view = changes.borrow_and_update().clone();
            assert_eq!(live(&view), ["b", "c"], "{view:#?}");
            if woken && !view.woken {
                return view;
            }
            woken |= view.woken;
        }
    };
    let view = tokio::time::timeout(DEADLINE, watching).await.expect("in time");
    assert!(
        view.incidents
            .iter()
            .any(|incident| { matches!(incident.what, IncidentKind::Woken { gap } if gap >= Duration::from_secs(6)) })
    );
    assert_eq!(view.restarts, 0);
}

async fn node_under(settings: GossipSettings, who: &str, seeds: &[SocketAddr]) -> Node {
    node_with(settings, "c", who, 1, ([127, 0, 0, 1], 0).into(), ring(&[("k", OLD)], "k"), seeds).await
}

/// Two pilots that watch a third, each by its own settings; the third is `c`.
async fn two_watchers(one: GossipSettings, other: GossipSettings) -> (Node, Node, Node) {
    let c = node("c", 1, &[]).await;
    let a = node_under(one, "a", &[c.address]).await;
    let b = node_under(other, "b", &[c.address]).await;
    a.until_live(&["b", "c"]).await;
    b.until_live(&["a", "c"]).await;
    (a, b, c)
}

/// After how much silence `c` counts as down, by this view.
fn timeout_of_c(view: &MembershipView) -> Duration {
    view.peers.get(&name("c")).and_then(|c| c.timeout).expect("it is heard")
}

// The time-out is phi times the mean of at most `window` samples, none of them above `max_interval`, and of five more
// of `prior`. The numbers below are chosen so that whatever the samples are, the two watchers cannot agree.

#[tokio::test]
async fn the_silence_that_counts_as_down_grows_with_phi() {
    let slow = GossipSettings { prior: Duration::from_secs(1), window: 20, ..quick() };
    let (a, b, _c) = two_watchers(GossipSettings { phi: 5.0, ..slow }, GossipSettings { phi: 30.0, ..slow }).await;
    // The mean is at most 1 s, and at least 5 s / 25.
    assert!(timeout_of_c(&a.gossip.view()) <= Duration::from_secs(5));
    assert!(timeout_of_c(&b.gossip.view()) >= Duration::from_secs(6));
}

#[tokio::test]
async fn of_a_young_peer_more_silence_is_borne_the_longer_the_prior_interval() {
    let few = GossipSettings { window: 20, ..quick() };
    let prior = |millis| GossipSettings { prior: Duration::from_millis(millis), ..few };
    let (a, b, _c) = two_watchers(prior(300), prior(10_000)).await;
    // The mean is at most 1 s with the one, and at least 50 s / 25 with the other.
    assert!(timeout_of_c(&a.gossip.view()) <= Duration::from_secs(10));
    assert!(timeout_of_c(&b.gossip.view()) >= Duration::from_secs(20));
}

#[tokio::test]
async fn a_longer_window_lets_what_was_measured_outweigh_what_was_assumed() {
    let long = GossipSettings { prior: Duration::from_secs(10), max_interval: Duration::from_millis(200), ..quick() };
    let window = |window| GossipSettings { window, ..long };
    let (a, b, _c) = two_watchers(window(20), window(200)).await;
    // With 20 samples the mean stays at 50 s / 25 or above; with 57 and more it is below 1.1 s.
    let low = Duration::from_secs(11);
    b.until("a mean of what was measured", |view| timeout_of_c(view) < low).await;
    assert!(timeout_of_c(&a.gossip.view()) >= Duration::from_secs(20));
}

#[tokio::test]
async fn a_gap_longer_than_max_interval_is_no_sample_of_the_usual_interval() {
    let calm = GossipSettings { phi: 30.0, prior: Duration::from_secs(10), window: 20, ..quick() };
    let most = |millis| GossipSettings { max_interval: Duration::from_millis(millis), ..calm };
    let (a, b, c) = two_watchers(most(200), most(60_000)).await;
    let mean = |view: &MembershipView| timeout_of_c(view) / 30;
    // 20 samples of at most 200 ms: the mean is 54 s / 25 at most, for good.
    let usual = Duration::from_millis(2_160);
    a.until("twenty samples", |view| mean(view) <= usual).await;
    b.until("twenty samples", |view| mean(view) <= usual).await;
    let others = [name("a"), name("b")].into();
    c.gossip.cut(Cut::From(others)).await.expect("allowed");
    let silent = |view: &MembershipView| view.peers[&name("c")].silence >= Duration::from_secs(10);
    b.until("ten seconds of silence", silent).await;
    a.until("ten seconds of silence", silent).await;
    let beats = |node: &Node| node.gossip.view().peers[&name("c")].heartbeat;
    let (at_a, at_b) = (beats(&a), beats(&b));
    assert_eq!(live(&a.gossip.view()), ["b", "c"], "not for down: the time-out is 30 times 2 s");
    c.gossip.cut(Cut::Nobody).await.expect("allowed");
    // One sample of 10 s among the 20: 60 s / 25 at least.
    b.until("the gap as a sample", |view| mean(view) >= Duration::from_millis(2_400)).await;
    assert!(beats(&b) > at_b);
    let heard = a.until("c again", |view| view.peers[&name("c")].heartbeat > at_a).await;
    assert!(mean(&heard) <= usual, "{:?}", mean(&heard));
}

#[tokio::test]
async fn the_dead_are_forgotten_after_dead_grace() {
    let grace = |seconds| GossipSettings { dead_grace: Duration::from_secs(seconds), ..quick() };
    let (quick, slow) = (grace(1), grace(600));
    let (a, b) = (node_under(quick, "a", &[]).await, node_under(slow, "b", &[]).await);
    // Two meshes: what one forgets the other would tell it again.
    let (c, d) = (node_under(quick, "c", &[a.address]).await, node_under(slow, "d", &[b.address]).await);
    a.until_live(&["c"]).await;
    b.until_live(&["d"]).await;
    drop((c, d));
    b.until("d silent", |view| live(view).is_empty()).await;
    a.until("c forgotten", |view| view.lives == 1 && view.peers.is_empty()).await;
    assert_eq!(b.gossip.view().lives, 2);
}

#[tokio::test]
async fn pilots_exchange_as_often_as_interval_says() {
    let interval = |millis| GossipSettings {
        interval: Duration::from_millis(millis),
        prior: Duration::from_secs(3),
        max_interval: Duration::from_secs(10),
        ..quick()
    };
    let (quick, slow) = (interval(100), interval(1_000));
    let (a, b) = (node_under(quick, "a", &[]).await, node_under(slow, "b", &[]).await);
    let (c, d) = (node_under(quick, "c", &[a.address]).await, node_under(slow, "d", &[b.address]).await);
    a.until_live(&["c"]).await;
    b.until_live(&["d"]).await;
    // Both beat on the same clock of one runtime, the one ten times for each beat of the other.
    let beats = |node: &Node, of: &str| node.gossip.view().peers[&name(of)].heartbeat;
    let (at_a, at_b) = (beats(&a, "c"), beats(&b, "d"));
    b.until("some rounds", |view| view.peers[&name("d")].heartbeat >= at_b + 20).await;
    let (often, seldom) = (beats(&a, "c") - at_a, beats(&b, "d") - at_b);
    assert!(often > 3 * seldom, "{often} beats and {seldom}");
    drop((c, d));
}
