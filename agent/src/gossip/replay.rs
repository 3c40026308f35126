//! Which counters of a sender were seen already.

/// How far behind the highest counter a datagram may arrive.
const REACH: u64 = 1024;
const WORDS: usize = (REACH / 64) as usize;

/// A sliding window over the counters of one life of one sender: each is taken once, and none from far behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayWindow {
    /// One above the highest counter taken; 0 while none was.
    next: u64,
    /// A ring of bits: counter c lives at c mod 1024.
    seen: [u64; WORDS],
}

impl ReplayWindow {
    /// Whether this counter could still be taken. Changes nothing: the datagram is not yet proven genuine.
    pub fn is_fresh(&self, counter: u64) -> bool {
        // The last number there is has none above it to be remembered by: it would stay fresh for ever.
        if counter == u64::MAX {
            return false;
        }
        if counter >= self.next {
            return true;
        }
        self.next - counter <= REACH && self.seen[Self::word(counter)] & Self::bit(counter) == 0
    }

    /// Takes a counter of a datagram proven genuine; false if it was taken before or is too old.
    pub fn take(&mut self, counter: u64) -> bool {
        if !self.is_fresh(counter) {
            return false;
        }
        if counter >= self.next {
            let skipped = counter - self.next;
            if skipped >= REACH {
                self.seen = [0; WORDS];
            } else {
                for passed in self.next..counter {
                    self.seen[Self::word(passed)] &= !Self::bit(passed);
                }
            }
            self.next = counter + 1;
        }
        self.seen[Self::word(counter)] |= Self::bit(counter);
        true
    }

    fn word(counter: u64) -> usize {
        (counter % REACH / 64) as usize
    }

    fn bit(counter: u64) -> u64 {
        1 << (counter % 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_late_datagram_is_taken_once_and_one_from_far_behind_never() {
        let mut window = ReplayWindow::default();
        assert!(window.take(2000));
        assert!(window.take(977));
        assert!(!window.take(977));
        assert!(!window.take(976));
        assert!(window.take(1999));
        assert!(!window.take(2000));
    }

    #[test]
    fn the_last_counter_there_is_is_never_taken_as_it_could_be_taken_again() {
        let mut window = ReplayWindow::default();
        assert!(window.take(u64::MAX - 1));
        assert!(!window.take(u64::MAX - 1));
        assert!(!window.take(u64::MAX));
    }

    proptest! {
        #[test]
        fn no_counter_is_ever_taken_twice_and_none_in_reach_is_refused(
            steps in proptest::collection::vec(0_u64..3000, 1..400)
        ) {
            let mut window = ReplayWindow::default();
            let mut taken = BTreeSet::new();
            let mut highest = 0;
            for counter in steps {
                let expected = !taken.contains(&counter) && (taken.is_empty() || counter + REACH > highest);
                prop_assert_eq!(window.take(counter), expected, "counter {} highest {}", counter, highest);
                if expected {
                    taken.insert(counter);
                    highest = highest.max(counter);
                }
            }
        }
    }
}
