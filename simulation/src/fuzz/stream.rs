//! Streams: the handshake as a stranger and as a holder of the key may send it, and the frames behind it.

use super::input::{Input, chunk};
use super::keys::{cluster, life, ring};
use super::{KIB, MIB, Outcome, Target};
use agent::stream::foreign::{Talk, prove, read_hello, write_hello};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex, join, sink};
use tokio::runtime::Runtime;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "stream-handshake",
        reads: "the first bytes of a connection, of anybody",
        run: handshake,
        // What both begin with; nobody can go on without the other end's secret.
        seeds: || vec![],
        base: 64 * KIB,
        per_byte: 4,
        gate: 60,
    },
    Target {
        name: "stream-hello",
        reads: "who a pilot says it is",
        run: hello,
        seeds: || vec![write_hello(&life(1), ADDRESS), write_hello(&life(2), SocketAddr::from(([0xfd00; 8], 1)))],
        base: KIB,
        per_byte: 4,
        gate: 3_000,
    },
    Target {
        name: "stream-frames",
        reads: "frames of a proven pilot",
        run: frames,
        seeds: frames_of_a_pilot,
        base: MIB,
        per_byte: 32,
        gate: 60,
    },
];

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7301);
/// More than all frames of one input.
const PIPE: usize = 16 << 20;

thread_local! {
    /// Nothing here waits for a clock or a socket.
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
}

/// Runs to its end what never waits for the world.
pub(super) fn finish<T>(what: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(what))
}

fn handshake(bytes: &[u8]) -> Outcome {
    let mut input = Input(bytes);
    let dials = input.byte() % 2 == 1;
    let other = join(input.0, sink());
    let talk = finish(prove(other, dials, ring(), &cluster(), (&life(0), ADDRESS)));
    assert!(talk.is_none(), "nobody proves anything without the secret of the other end");
    Outcome::Refused
}

fn hello(bytes: &[u8]) -> Outcome {
    let Some((id, address)) = read_hello(bytes) else {
        return Outcome::Refused;
    };
    assert_eq!(write_hello(&id, address), bytes);
    Outcome::Read
}

async fn proven() -> (Talk<DuplexStream>, Talk<DuplexStream>) {
    let (one, other) = duplex(PIPE);
    let (cluster, from, to) = (cluster(), life(1), life(0));
    let dialler = prove(one, true, ring(), &cluster, (&from, ADDRESS));
    let accepter = prove(other, false, ring(), &cluster, (&to, ADDRESS));
    let (dialler, accepter) = tokio::join!(dialler, accepter);
    (dialler.expect("holds the key"), accepter.expect("holds the key"))
}

fn frames(bytes: &[u8]) -> Outcome {
    let mut input = Input(bytes);
    finish(async {
        let (mut from, mut to) = proven().await;
        assert_eq!(to.peer(), (&life(1), ADDRESS));
        let mut messages = Vec::new();
        let mut is_whole = true;
        while !input.is_empty() {
            let op = input.byte() % 4;
            let content = input.chunk();
            let sent = match op {
                // A frame as a pilot makes it, though of any kind.
                0 | 1 => match from.seal(content) {
                    Ok(frame) => {
                        is_whole &= matches!(content.first(), Some(0 | 1)) && content.len() <= 1 + 60 * 1024;
                        if is_whole && content.first() == Some(&1) {
                            messages.push(content[1..].to_vec());
                        }
                        frame
                    }
                    Err(_) => continue,
                },
                // A frame that nobody sealed.
                2 => {
                    is_whole = false;
                    let mut frame = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
                    frame.extend(content);
                    frame
                }
                // Bytes.
                _ => {
                    is_whole &= content.is_empty();
                    content.to_vec()
                }
            };
            from.stream().write_all(&sent).await.expect("room");
        }
        drop(from);
        let mut heard = Vec::new();
        while let Some(message) = to.hear().await {
            heard.extend(message);
        }
        assert_eq!(heard, messages, "what was sealed before the first fault is heard, and nothing else");
        is_whole.into()
    })
}

fn frames_of_a_pilot() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for content in [b"\x01hello".as_slice(), b"\x00", b"\x01"] {
        out.push(0);
        chunk(&mut out, content);
    }
    vec![out]
}
