//! Puts messages of several datagrams together again, within bounds.

use std::time::{Duration, Instant};

/// The most incomplete messages of one sender; the oldest gives way.
const MOST_PARTIALS: usize = 4;
/// How long a message waits for its missing pieces.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Partial {
    base: u64,
    parts: Vec<Option<Vec<u8>>>,
    missing: usize,
    bytes: usize,
    started: Instant,
}

/// The incomplete messages of one sender.
#[derive(Debug, Default)]
pub struct Reassembly {
    partials: Vec<Partial>,
}

/// What became of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub enum Joined {
    /// The message is whole.
    Whole(Vec<u8>),
    /// Others are missing.
    Waiting,
    /// It contradicts the chunks before it.
    Refused,
}

impl Reassembly {
    /// Adds a genuine chunk, number `chunk` of `chunks`, of the message that began with counter `base`.
    pub fn add(&mut self, now: Instant, base: u64, chunk: u8, chunks: u8, part: Vec<u8>) -> Joined {
        if chunks == 1 {
            return Joined::Whole(part);
        }
        let at = match self.partials.iter().position(|partial| partial.base == base) {
            Some(at) => at,
            None => {
                if self.partials.len() >= MOST_PARTIALS {
                    self.partials.remove(0);
                }
                self.partials.push(Partial {
                    base,
                    parts: vec![None; usize::from(chunks)],
                    missing: usize::from(chunks),
                    bytes: 0,
                    started: now,
                });
                self.partials.len() - 1
            }
        };
        let partial = &mut self.partials[at];
        if partial.parts.len() != usize::from(chunks) {
            return Joined::Refused;
        }
        match partial.parts.get_mut(usize::from(chunk)) {
            Some(slot @ None) => {
                partial.bytes += part.len();
                partial.missing -= 1;
                *slot = Some(part);
            }
            Some(Some(_)) | None => return Joined::Refused,
        }
        if partial.missing > 0 {
            return Joined::Waiting;
        }
        let whole = self.partials.remove(at);
        Joined::Whole(whole.parts.into_iter().flatten().flatten().collect())
    }

    /// Gives up what waited too long; returns how many messages.
    pub fn expire(&mut self, now: Instant) -> usize {
        let before = self.partials.len();
        self.partials.retain(|partial| now.saturating_duration_since(partial.started) < PATIENCE);
        before - self.partials.len()
    }

    /// The bytes held.
    pub fn bytes(&self) -> usize {
        self.partials.iter().map(|partial| partial.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_in_any_order_make_the_message_and_the_fifth_unfinished_one_drops_the_first() {
        let now = Instant::now();
        let mut joining = Reassembly::default();
        assert_eq!(joining.add(now, 0, 1, 2, vec![2]), Joined::Waiting);
        assert_eq!(joining.add(now, 0, 1, 2, vec![2]), Joined::Refused);
        assert_eq!(joining.add(now, 0, 0, 3, vec![1]), Joined::Refused);
        assert_eq!(joining.add(now, 0, 0, 2, vec![1]), Joined::Whole(vec![1, 2]));
        for base in 10..15 {
            assert_eq!(joining.add(now, base, 0, 2, vec![0; 1000]), Joined::Waiting);
        }
        assert_eq!(joining.bytes(), 4000);
        assert_eq!(joining.expire(now + PATIENCE), 4);
        assert_eq!(joining.bytes(), 0);
    }
}
