//! Stretches without an acknowledgement.

use std::time::Duration;

/// A stretch in which nothing was acknowledged, on the writer's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last acknowledgement before it.
    pub from: Duration,
    /// The first one after it, or the end of writing.
    pub to: Duration,
}

/// Finds gaps of at least `window` between acknowledgements in order of time, and up to `end`.
pub(super) fn find(at: &[Duration], end: Duration, window: Duration) -> Vec<Gap> {
    let to = at.iter().skip(1).copied().chain(std::iter::once(end));
    at.iter()
        .zip(to)
        .map(|(from, to)| Gap { from: *from, to })
        .filter(|gap| gap.to.saturating_sub(gap.from) >= window)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn gaps_between_and_after_acknowledgements_are_found() {
        let gap = |from, to| Gap { from: s(from), to: s(to) };
        assert_eq!(find(&[s(1), s(2), s(8), s(9)], s(20), s(5)), [gap(2, 8), gap(9, 20)]);
        assert_eq!(find(&[s(1), s(2), s(6)], s(7), s(5)), []);
    }

    #[test]
    fn before_the_first_acknowledgement_nothing_is_missed() {
        assert_eq!(find(&[], s(100), s(5)), []);
        assert_eq!(find(&[s(50)], s(51), s(5)), []);
    }
}
