//! Changes inputs in the ways in which decoders are caught: small, deterministic, and without a view of the code. The
//! fuzzer has better ones; these are for the gate.

use crate::world::chance::Chance;

/// Numbers at the edges of their types.
const EDGES: [u64; 10] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX - 1, u64::MAX];
/// Words at the edges of texts.
const WORDS: [&str; 12] = [
    "18446744073709551615",
    "-9223372036854775809",
    "1e999",
    "null",
    "[[[[[[[[",
    "{\"a\":",
    "\"\\u0000\"",
    "\u{fffd}\u{202e}",
    "&a [*a,*a]",
    "\n",
    "",
    "0",
];
/// Longer inputs show nothing more.
const LONGEST: usize = 80_000;

/// One of these inputs, changed in up to six places.
pub fn mutated(chance: &mut Chance, corpus: &[Vec<u8>]) -> Vec<u8> {
    let pick = |chance: &mut Chance| corpus.get(below(chance, corpus.len())).cloned().unwrap_or_default();
    let mut bytes = pick(chance);
    for _ in 0..=chance.below(6) {
        let at = below(chance, bytes.len() + 1);
        match chance.below(10) {
            0 | 1 => flip(chance, &mut bytes),
            2 => bytes.insert(at, some_byte(chance)),
            3 => {
                let length = below(chance, 9).min(bytes.len() - at);
                bytes.drain(at..at + length);
            }
            4 => bytes.truncate(at),
            5 => {
                let width = [1, 2, 4, 8][below(chance, 4)];
                let edge = EDGES[below(chance, EDGES.len())].to_le_bytes();
                for (to, from) in bytes.iter_mut().skip(at).take(width).zip(edge) {
                    *to = from;
                }
            }
            6 => {
                let word = WORDS[below(chance, WORDS.len())];
                bytes.splice(at..at, word.bytes());
            }
            7 => {
                let length = below(chance, 65).min(bytes.len() - at);
                let piece = bytes[at..at + length].to_vec();
                for _ in 0..=chance.below(40) {
                    bytes.splice(at..at, piece.iter().copied());
                }
            }
            8 => {
                let other = pick(chance);
                let from = below(chance, other.len() + 1);
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
            _ => number(chance, &mut bytes),
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

fn below(chance: &mut Chance, end: usize) -> usize {
    // Below a `usize`, so it is one.
    chance.below(end as u64) as usize
}

fn some_byte(chance: &mut Chance) -> u8 {
    chance.next().to_le_bytes()[0]
}

fn flip(chance: &mut Chance, bytes: &mut [u8]) {
    let at = below(chance, bytes.len());
    let bit = chance.below(8);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << bit;
    }
}

/// Another number where a text has one.
fn number(chance: &mut Chance, bytes: &mut Vec<u8>) {
    let digits: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
    let Some(from) = digits.get(below(chance, digits.len())).copied() else {
        return;
    };
    let length = bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let edge = EDGES[below(chance, EDGES.len())].to_string();
    bytes.splice(from..from + length, edge.bytes());
}
