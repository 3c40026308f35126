//! The whole of streams over real sockets on the loopback.

use super::frame::Kind;
use super::handshake::Proven;
use super::*;
use crate::keyring::{KeyRing, SharedKeyRing};
use protocol::id::Generation;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const DEADLINE: Duration = Duration::from_secs(40);
const OLD: &[u8] = &[1; 32];
const NEW: &[u8] = &[2; 32];

fn name(text: &str) -> PilotName {
    PilotName::parse(text).expect("a name")
}

fn ring(keys: &[(&str, &[u8])], primary: &str) -> Arc<KeyRing> {
    Arc::new(KeyRing::of(keys, primary).expect("a ring"))
}

struct Node {
    handle: StreamsHandle,
    events: mpsc::Receiver<StreamEvent>,
    ring: watch::Sender<Arc<KeyRing>>,
}

async fn node_with(who: &str, generation: u64, cluster: &str, secret: Arc<KeyRing>, settings: StreamSettings) -> Node {
    let (ring, shared): (_, SharedKeyRing) = watch::channel(secret);
    let (handle, events) = Streams::start(StreamStart {
        settings,
        own: PilotId { name: name(who), generation: Generation(generation) },
        listen: ([127, 0, 0, 1], 0).into(),
        advertise: ([127, 0, 0, 1], 0).into(),
        cluster: ClusterId::new(cluster),
        ring: shared,
        allow_cuts: true,
    })
    .await
    .expect("streams start");
    Node { handle, events, ring }
}

async fn node(who: &str, generation: u64) -> Node {
    node_with(who, generation, "c", ring(&[("k", OLD)], "k"), StreamSettings::default()).await
}

impl Node {
    fn keep(&self, peers: &[(&str, SocketAddr)]) {
        let peers = peers.iter().map(|(who, at)| (name(who), *at)).collect();
        self.handle.keep(peers).expect("room");
    }

    async fn next(&mut self) -> StreamEvent {
        match tokio::time::timeout(DEADLINE, self.events.recv()).await {
            Ok(event) => event.expect("streams run"),
            Err(_) => panic!("nothing happened: {:?}", self.handle.counters()),
        }
    }

    async fn until(&self, what: &str, is: impl Fn(&StreamCounters) -> bool) {
        let mut facts = self.handle.facts.clone();
        let wait = facts.wait_for(|counters| is(counters));
        if tokio::time::timeout(DEADLINE, wait).await.is_err() {
            panic!("never {what}: {:?}", self.handle.counters());
        }
    }

    fn send(&self, to: &str, text: &str) {
        self.handle.send(&name(to), text.as_bytes().to_vec()).expect("room");
    }
}

fn up(peer: &str, generation: u64) -> StreamEvent {
    StreamEvent::Up { peer: name(peer), generation: Generation(generation) }
}

fn said(peer: &str, generation: u64, text: &str) -> StreamEvent {
    StreamEvent::Message { peer: name(peer), generation: Generation(generation), bytes: text.as_bytes().to_vec() }
}

fn over(peer: &str, generation: u64, evidence: Evidence) -> StreamEvent {
    StreamEvent::Ended { peer: name(peer), generation: Generation(generation), evidence }
}

async fn pair() -> (Node, Node) {
    let mut a = node("a", 1).await;
    let mut b = node("b", 1).await;
    a.keep(&[("b", b.handle.address())]);
    assert_eq!(a.next().await, up("b", 1));
    assert_eq!(b.next().await, up("a", 1));
    (a, b)
}

#[tokio::test]
async fn messages_pass_both_ways_over_one_stream_whoever_dialled_it() {
    let (mut a, mut b) = pair().await;
    a.send("b", "ping");
    assert_eq!(b.next().await, said("a", 1, "ping"));
    b.send("a", "pong");
    assert_eq!(a.next().await, said("b", 1, "pong"));
    let longest = "x".repeat(LONGEST_MESSAGE);
    b.send("a", &longest);
    assert_eq!(a.next().await, said("b", 1, &longest));
    let refused = a.handle.send(&name("b"), vec![0; LONGEST_MESSAGE + 1]);
    assert_eq!(refused, Err(SendRefused::TooLong { found: LONGEST_MESSAGE + 1 }));
    a.send("nobody", "hello?");
    a.until("counted", |counters| counters.no_stream == 1).await;
}

#[tokio::test]
async fn another_key_or_cluster_gets_no_stream() {
    let mut a = node("a", 1).await;
    let same_id_other_secret = node_with("b", 1, "c", ring(&[("k", NEW)], "k"), StreamSettings::default()).await;
    let other_cluster = node_with("d", 1, "other", ring(&[("k", OLD)], "k"), StreamSettings::default()).await;
    for stranger in [&same_id_other_secret, &other_cluster] {
        stranger.keep(&[("a", a.handle.address())]);
        stranger.until("refused twice", |counters| counters.dial_failed >= 2).await;
    }
    a.until("counted", |counters| counters.unproven >= 4).await;
    assert!(a.events.try_recv().is_err());
}

#[tokio::test]
async fn the_end_of_a_process_is_told_by_its_refusing_address() {
    let (mut a, b) = pair().await;
    drop(b);
    assert_eq!(a.next().await, over("b", 1, Evidence::ProcessEnded));
}

#[tokio::test]
async fn a_cut_peer_is_silent_on_both_sides_and_comes_back() {
    let (mut a, mut b) = pair().await;
    a.handle.cut(Cut::From([name("b")].into())).await.expect("allowed");
    a.send("b", "lost");
    // Whoever notices the silence first closes; the other sees that. Nobody takes it for the end of a process.
    let end = b.next().await;
    assert!(end == over("a", 1, Evidence::Silent) || end == over("a", 1, Evidence::Closed), "{end:?}");
    // `a` does not ask an address that it is cut off from.
    let end = a.next().await;
    assert!(end == over("b", 1, Evidence::Silent) || end == over("b", 1, Evidence::Unreachable), "{end:?}");
    a.handle.cut(Cut::Nobody).await.expect("allowed");
    assert_eq!(a.next().await, up("b", 1));
    assert_eq!(b.next().await, up("a", 1));
}

#[tokio::test]
async fn a_new_life_of_a_peer_ends_the_old_one_and_an_older_one_is_refused() {
    let (mut a, b) = pair().await;
    let b2 = node("b", 2).await;
    b2.keep(&[("a", a.handle.address())]);
    assert_eq!(a.next().await, over("b", 1, Evidence::Superseded));
    assert_eq!(a.next().await, up("b", 2));
    b.keep(&[("a", a.handle.address())]);
    a.until("the older life refused", |counters| counters.stale_generation >= 1).await;
    a.send("b", "to the new one");
    let mut b2 = b2;
    assert_eq!(b2.next().await, up("a", 1));
    assert_eq!(b2.next().await, said("a", 1, "to the new one"));
}

#[tokio::test]
async fn of_two_streams_of_a_pair_one_stays_and_nothing_ends() {
    let settings =
        StreamSettings { doubled: Duration::from_millis(300), handshake: DEADLINE, ..StreamSettings::default() };
    let secret = ring(&[("k", OLD)], "k");
    let mut a = node_with("a", 1, "c", secret.clone(), settings).await;
    let mut b = node_with("b", 1, "c", secret, settings).await;
    // What `a` dials is held up on its way until what `b` dials stands.
    let (gate, open) = tokio::sync::oneshot::channel();
    let (relay, mut said_by_a) = tapped(b.handle.address(), open).await;
    a.keep(&[("b", relay.address)]);
    relay.dialled.await.expect("a dials");
    b.keep(&[("a", a.handle.address())]);
    assert_eq!(a.next().await, up("b", 1));
    assert_eq!(b.next().await, up("a", 1));
    gate.send(()).expect("the relay waits");
    // Both would close the same one; whoever comes to it first spares the other the trouble.
    let (mut facts_of_a, mut facts_of_b) = (a.handle.facts.clone(), b.handle.facts.clone());
    let one_left = async {
        loop {
            let (a, b) = (*facts_of_a.borrow_and_update(), *facts_of_b.borrow_and_update());
            if a.doubled + b.doubled > 0 && a.now_streams == 1 && b.now_streams == 1 {
                return;
            }
            tokio::select! {
                changed = facts_of_a.changed() => changed.expect("streams run"),
                changed = facts_of_b.changed() => changed.expect("streams run"),
            }
        }
    };
    tokio::time::timeout(DEADLINE, one_left).await.expect("two streams stay");
    a.send("b", "still there");
    assert_eq!(b.next().await, said("a", 1, "still there"));
    b.send("a", "here too");
    assert_eq!(a.next().await, said("b", 1, "here too"));
    // What the lesser name dialled is what stays: its end takes the stream away.
    assert!(!said_by_a.is_finished());
    drop(a);
    tokio::time::timeout(DEADLINE, &mut said_by_a).await.expect("in time").expect("relayed");
}

struct Relay {
    address: SocketAddr,
    dialled: tokio::sync::oneshot::Receiver<()>,
}

/// Relays one connection to `to` and keeps what the dialler said.
async fn tapped(to: SocketAddr, gate: tokio::sync::oneshot::Receiver<()>) -> (Relay, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (is_dialled, dialled) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let (mut dialler, _) = listener.accept().await.expect("a dialler");
        is_dialled.send(()).expect("somebody waits");
        gate.await.expect("opened");
        let mut pilot = TcpStream::connect(to).await.expect("the pilot");
        let mut said = Vec::new();
        let (mut up, mut down) = ([0; 4096], [0; 4096]);
        loop {
            tokio::select! {
                read = dialler.read(&mut up) => match read {
                    Ok(n) if n > 0 => {
                        said.extend(&up[..n]);
                        if pilot.write_all(&up[..n]).await.is_err() { return said; }
                    }
                    Ok(_) | Err(_) => return said,
                },
                read = pilot.read(&mut down) => match read {
                    Ok(n) if n > 0 => if dialler.write_all(&down[..n]).await.is_err() { return said; },
                    Ok(_) | Err(_) => return said,
                },
            }
        }
    });
    (Relay { address, dialled }, task)
}

#[tokio::test]
async fn a_recorded_stream_played_again_gets_no_stream() {
    let mut a = node("a", 1).await;
    let mut b = node("b", 1).await;
    let (gate, open) = tokio::sync::oneshot::channel();
    gate.send(()).expect("open from the start");
    let (relay, recording) = tapped(b.handle.address(), open).await;
    a.keep(&[("b", relay.address)]);
    assert_eq!(a.next().await, up("b", 1));
    assert_eq!(b.next().await, up("a", 1));
    a.send("b", "once");
    assert_eq!(b.next().await, said("a", 1, "once"));
    drop(a);
    let recorded = tokio::time::timeout(DEADLINE, recording).await.expect("in time").expect("recorded");
    assert_eq!(b.next().await, over("a", 1, Evidence::ProcessEnded));
    for _ in 0..3 {
        let before = b.handle.counters().unproven;
        let mut replay = TcpStream::connect(b.handle.address()).await.expect("accepted");
        replay.write_all(&recorded).await.expect("written");
        b.until("the replay refused", |counters| counters.unproven > before).await;
    }
    assert!(b.events.try_recv().is_err());
}

/// A proven connection in the test's own hands, of a pilot at whose address nobody listens.
async fn proven(who: &str, to: SocketAddr) -> Proven<TcpStream> {
    let stream = TcpStream::connect(to).await.expect("accepted");
    let own = Hello { id: PilotId { name: name(who), generation: Generation(1) }, address: ([127, 0, 0, 1], 1).into() };
    let proven = handshake::dial(stream, &ring(&[("k", OLD)], "k"), &ClusterId::new("c"), &own).await;
    proven.unwrap_or_else(|error| panic!("{error}"))
}

/// What a pilot of this mesh says first to whoever it dials.
async fn first_words() -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let a = node("a", 1).await;
    a.keep(&[("b", listener.local_addr().expect("bound"))]);
    let (mut dialler, _) = listener.accept().await.expect("a dials");
    let mut head = [0; 7];
    dialler.read_exact(&mut head).await.expect("version, fingerprint and length");
    let mut rest = vec![0; usize::from(u16::from_be_bytes([head[5], head[6]]))];
    dialler.read_exact(&mut rest).await.expect("the message");
    [head.as_slice(), &rest].concat()
}

/// Says no more, and waits until the other end has let go of the connection too.
async fn cut_off(mut raw: TcpStream) {
    raw.shutdown().await.expect("half closed");
    let gone = async {
        let mut heard = [0; 4096];
        // A reset is an end as well.
        while raw.read(&mut heard).await.is_ok_and(|n| n > 0) {}
    };
    tokio::time::timeout(DEADLINE, gone).await.expect("the other end still holds the connection");
}

#[tokio::test]
async fn a_handshake_cut_off_anywhere_changes_nothing_and_leaves_nothing_behind() {
    let mut b = node("b", 1).await;
    let words = first_words().await;
    let cuts = [0, 1, 4, 5, 6, 7, words.len() / 2, words.len() - 1, words.len()];
    for (already, cut) in (0_u64..).zip(cuts) {
        let mut raw = TcpStream::connect(b.handle.address()).await.expect("accepted");
        raw.write_all(&words[..cut]).await.expect("written");
        cut_off(raw).await;
        b.until("counted", |counters| counters.unproven == already + 1 && counters.now_unproven == 0).await;
    }
    assert_eq!(b.handle.counters().now_streams, 0);
    assert!(b.events.try_recv().is_err());
    let mut a = node("a", 2).await;
    a.keep(&[("b", b.handle.address())]);
    assert_eq!(a.next().await, up("b", 1));
    assert_eq!(b.next().await, up("a", 2));
}

#[tokio::test]
async fn a_stream_cut_off_inside_of_a_frame_ends_and_the_part_is_never_heard() {
    let mut b = node("b", 1).await;
    let length = {
        let mut sample = proven("z", b.handle.address()).await;
        assert_eq!(b.next().await, up("z", 1));
        let length = sample.wire.sealing.seal(Kind::Message, b"in part").expect("sealed").len();
        cut_off(sample.stream).await;
        assert_eq!(b.next().await, over("z", 1, Evidence::ProcessEnded));
        length
    };
    for (already, cut) in (0_u64..).zip([1, 2, 3, length / 2, length - 1]) {
        let mut a = proven("a", b.handle.address()).await;
        assert_eq!(b.next().await, up("a", 1));
        let whole = a.wire.sealing.seal(Kind::Message, b"whole").expect("sealed");
        let part = a.wire.sealing.seal(Kind::Message, b"in part").expect("sealed");
        a.stream.write_all(&[whole.as_slice(), &part[..cut]].concat()).await.expect("written");
        assert_eq!(b.next().await, said("a", 1, "whole"));
        cut_off(a.stream).await;
        assert_eq!(b.next().await, over("a", 1, Evidence::ProcessEnded));
        let counters = b.handle.counters();
        assert_eq!((counters.received, counters.now_streams, counters.broken), (already + 1, 0, 0));
    }
}

#[tokio::test]
async fn a_frame_that_is_never_finished_is_silence() {
    let settings = StreamSettings { silence: Duration::from_millis(300), ..StreamSettings::default() };
    let mut b = node_with("b", 1, "c", ring(&[("k", OLD)], "k"), settings).await;
    let mut a = proven("a", b.handle.address()).await;
    assert_eq!(b.next().await, up("a", 1));
    let frame = a.wire.sealing.seal(Kind::Message, &[7; 5000]).expect("sealed");
    let (mut reading, mut writing) = a.stream.split();
    // Byte by byte, so that there is always something new; whole it would be after ten minutes.
    let drip = async {
        for byte in &frame {
            if writing.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(120)).await;
        }
    };
    let end = async {
        let end = b.next().await;
        let mut heard = [0; 4096];
        while reading.read(&mut heard).await.is_ok_and(|n| n > 0) {}
        end
    };
    let ended = tokio::select! {
        ended = end => ended,
        () = async { drip.await; std::future::pending().await } => unreachable!("it waits"),
    };
    assert_eq!(ended, over("a", 1, Evidence::Silent));
    assert_eq!((b.handle.counters().received, b.handle.counters().now_streams), (0, 0));
}

#[tokio::test]
async fn a_flood_by_a_proven_pilot_is_held_up_at_its_source_and_starves_nobody() {
    /// Events that wait for whoever hears them, and one in the hand of the hub.
    const HELD: u64 = 1024 + 1;
    const WEIGHT: usize = 512;
    // All of it shares one thread with the flood: on a busy machine nobody may be taken for silent because of that.
    let settings = StreamSettings { silence: DEADLINE, ..StreamSettings::default() };
    let patient = |who| node_with(who, 1, "c", ring(&[("k", OLD)], "k"), settings);
    let (mut a, mut b) = (patient("a").await, patient("b").await);
    a.keep(&[("b", b.handle.address())]);
    assert_eq!(a.next().await, up("b", 1));
    assert_eq!(b.next().await, up("a", 1));
    let mut flooder = proven("f", b.handle.address()).await;
    assert_eq!(b.next().await, up("f", 1));
    let flood = tokio::spawn(async move {
        loop {
            let frame = flooder.wire.sealing.seal(Kind::Message, &[7; WEIGHT]).expect("sealed");
            if flooder.stream.write_all(&frame).await.is_err() {
                return;
            }
        }
    });
    b.until("full", |counters| counters.received >= HELD).await;
    // So heavy that no pings can be taken for it.
    let before = a.handle.counters().sent_bytes;
    let heavy = "x".repeat(WEIGHT);
    a.send("b", &heavy);
    a.until("said", |counters| counters.sent_bytes >= before + WEIGHT as u64).await;
    assert_eq!(b.handle.counters().received, HELD, "while nobody hears, nothing more is taken in");

    let mut waited = 0;
    while b.next().await != said("a", 1, &heavy) {
        waited += 1;
    }
    assert!(waited < 3 * HELD, "{waited} messages of the flood came first");

    // The flood goes on, and so does everything else.
    let mut c = patient("c").await;
    c.keep(&[("b", b.handle.address())]);
    b.send("a", "answer");
    let (mut c_is_up, mut floods) = (false, 0_u64);
    while !(c_is_up && floods >= 256) {
        let event = b.next().await;
        if matches!(&event, StreamEvent::Message { peer, .. } if *peer == name("f")) {
            floods += 1;
        } else {
            assert_eq!(event, up("c", 1));
            c_is_up = true;
        }
    }
    assert_eq!(a.next().await, said("b", 1, "answer"));
    assert_eq!(c.next().await, up("b", 1));
    assert!(!flood.is_finished());
    flood.abort();
    while b.next().await != over("f", 1, Evidence::ProcessEnded) {}
    b.until("two streams", |counters| counters.now_streams == 2).await;
}

#[tokio::test]
async fn too_long_a_frame_and_an_altered_one_end_the_stream() {
    for breaking in [vec![0xff, 0xff, 1, 2, 3], vec![0, 0], [vec![0, 40], vec![7; 40]].concat()] {
        let mut b = node("b", 1).await;
        let mut raw = proven("a", b.handle.address()).await.stream;
        assert_eq!(b.next().await, up("a", 1));
        raw.write_all(&breaking).await.expect("written");
        assert!(matches!(b.next().await, StreamEvent::Ended { .. }));
        assert_eq!(b.handle.counters().broken, 1);
        assert_eq!(b.handle.counters().now_streams, 0);
    }
}

#[tokio::test]
async fn a_flood_of_strangers_is_bounded_and_a_stream_passes_through_it() {
    let settings = StreamSettings {
        most_unproven: 24,
        most_unproven_of_one: 16,
        handshake: Duration::from_millis(500),
        ..StreamSettings::default()
    };
    let mut b = node_with("b", 1, "c", ring(&[("k", OLD)], "k"), settings).await;
    let mut a = node("a", 1).await;
    let to = b.handle.address();
    a.keep(&[("b", to)]);
    assert_eq!(a.next().await, up("b", 1));
    assert_eq!(b.next().await, up("a", 1));
    let mut held = Vec::new();
    for i in 0..300_u32 {
        let Ok(mut stranger) = TcpStream::connect(to).await else { continue };
        let garbage: Vec<u8> = (0..200).map(|at| (i * 31 + at * 7) as u8).collect();
        // Some say nothing at all, and hold on; the other end may close at any moment.
        if i % 2 == 0 {
            let _ = stranger.write_all(&garbage).await;
        }
        held.push(stranger);
        assert!(b.handle.counters().now_unproven <= 16);
    }
    b.until("most turned away or refused", |counters| counters.turned_away > 0 && counters.unproven > 0).await;
    a.send("b", "through");
    assert_eq!(b.next().await, said("a", 1, "through"));
    b.until("all given up", |counters| counters.now_unproven == 0).await;
    assert_eq!(b.handle.counters().now_streams, 1);
}

#[tokio::test]
async fn a_stream_lives_no_longer_than_its_key_and_rotation_interrupts_nobody() {
    let (mut a, mut b) = pair().await;
    let both = ring(&[("k", OLD), ("n", NEW)], "n");
    a.ring.send_replace(both.clone());
    b.ring.send_replace(both);
    let new = ring(&[("n", NEW)], "n");
    a.ring.send_replace(new.clone());
    b.ring.send_replace(new);
    // Whatever is told of the old stream, in the end there is one under the new key.
    a.until("a second stream", |counters| counters.now_streams >= 1).await;
    let arrived = async {
        loop {
            if a.handle.counters().now_streams >= 1 {
                a.send("b", "under the new key");
            }
            tokio::select! {
                event = b.next() => if event == said("a", 1, "under the new key") { break },
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
        }
    };
    tokio::time::timeout(DEADLINE, arrived).await.expect("in time");
    a.until("a fresh connection", |counters| counters.now_streams >= 1).await;
    b.until("dialled anew", |counters| counters.accepted >= 2).await;
    let _ = a.events.try_recv();
}
