//! The mesh keys, and what the other targets have in common.

use super::input::{Input, chunks};
use super::{KIB, Outcome, Target};
use agent::keyring::KeyRing;
use protocol::id::{ClusterId, Generation, PilotId, PilotName};
use std::sync::LazyLock;

pub(super) const TARGETS: &[Target] = &[Target {
    name: "keys",
    reads: "the files of a key ring",
    run: keys,
    seeds,
    base: 64 * KIB,
    per_byte: 64,
    gate: 400,
}];

static RING: LazyLock<KeyRing> =
    LazyLock::new(|| KeyRing::of(&[("1", b"a key of 32 bytes, of no use at all")], "1").expect("a key"));

/// The ring of all tries.
pub(super) fn ring() -> &'static KeyRing {
    &RING
}

/// The cluster of all tries.
pub(super) fn cluster() -> ClusterId {
    ClusterId::new("k")
}

/// The pilot `c-0`, `c-1` and so on, in its fifth life.
pub(super) fn life(ordinal: u32) -> PilotId {
    PilotId { name: PilotName::parse(&format!("c-{ordinal}")).expect("a name"), generation: Generation(5) }
}

fn keys(bytes: &[u8]) -> Outcome {
    let mut input = Input(bytes);
    let primary = input.text();
    let mut files = Vec::new();
    while !input.is_empty() && files.len() < 17 {
        files.push((input.text(), input.chunk()));
    }
    let given: Vec<(&str, &[u8])> = files.iter().map(|(id, secret)| (id.as_str(), *secret)).collect();
    match KeyRing::of(&given, &primary) {
        Ok(ring) => {
            let first = ring.primary().fingerprint();
            assert_eq!(ring.primary().id(), primary.trim());
            assert!(ring.find(first).is_some());
            assert!(ring.published().contains(&first.to_string()));
            Outcome::Read
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Outcome::Refused
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let base64 = b"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n";
    vec![chunks([b"2".as_slice(), b"1", &[7; 32], b"2", base64])]
}
