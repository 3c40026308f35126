//! What was refused is tried again after a pause that grows, never in the same instant.

use crate::effect::LocalAct;
use protocol::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// The first pause; doubled with each failure in a row.
const FIRST: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(10);
/// What was accepted shows in the launcher's status within this; only then it is worth asking again.
const SHOWS: Duration = Duration::from_secs(1);
/// A database that was restarted because its join broke off comes up and begins anew within this, or not at all.
const JOINS_ANEW: Duration = Duration::from_secs(30);

/// The pause after one more failure than these in a row.
pub(crate) fn doubled(first: Duration, failures: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << failures.min(10)).min(longest)
}

/// What a pilot does again by itself when it has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Chore {
    /// Starting the database.
    Start,
    /// Leaving.
    Leave,
    /// Ending after a leave.
    EndAfterLeave,
    /// Draining.
    Drain,
    /// Restarting where it stands.
    Restart,
    /// Finding and telling the deadline.
    Deadline,
    /// Moving old data aside.
    MoveAside,
    /// Writing the memory.
    Memory,
}

impl From<&LocalAct> for Chore {
    fn from(act: &LocalAct) -> Self {
        match act {
            LocalAct::Start { .. } => Self::Start,
            LocalAct::Leave { .. } => Self::Leave,
            LocalAct::EndAfterLeave { .. } => Self::EndAfterLeave,
            LocalAct::DrainAndStop => Self::Drain,
            LocalAct::Restart => Self::Restart,
            LocalAct::Deadline(_) => Self::Deadline,
            LocalAct::MoveAside { .. } => Self::MoveAside,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Pause {
    failures: u32,
    until: Timestamp,
}

/// The pauses under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pauses(BTreeMap<Chore, Pause>);

impl Pauses {
    /// Whether this may be tried now.
    pub(crate) fn over(&self, chore: Chore, now: Timestamp) -> bool {
        self.0.get(&chore).is_none_or(|p| now >= p.until)
    }

    /// It failed.
    pub(crate) fn failed(&mut self, chore: Chore, now: Timestamp) {
        let pause = self.0.entry(chore).or_default();
        let long = doubled(FIRST, pause.failures, LONGEST);
        pause.failures = pause.failures.saturating_add(1);
        pause.until = now.plus(long);
    }

    /// It was accepted; what comes of it has still to be seen.
    pub(crate) fn accepted(&mut self, chore: Chore, now: Timestamp) {
        let pause = match chore {
            Chore::Restart => JOINS_ANEW,
            Chore::Start
            | Chore::Leave
            | Chore::EndAfterLeave
            | Chore::Drain
            | Chore::Deadline
            | Chore::MoveAside
            | Chore::Memory => SHOWS,
        };
        self.0.insert(chore, Pause { failures: 0, until: now.plus(pause) });
    }

    /// Nothing is held against it any more.
    pub(crate) fn forget(&mut self, chore: Chore) {
        self.0.remove(&chore);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_half_a_second_to_ten_and_end_with_success() {
        let mut pauses = Pauses::default();
        let mut now = Timestamp::from_millis(1_000);
        let mut waits = Vec::new();
        for _ in 0..7 {
            pauses.failed(Chore::Start, now);
            let mut waited = 0;
            while !pauses.over(Chore::Start, now) {
                now = now.plus(Duration::from_millis(100));
                waited += 100;
            }
            waits.push(waited);
        }
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        assert!(pauses.over(Chore::Leave, now));
        pauses.forget(Chore::Start);
        pauses.failed(Chore::Start, now);
        assert!(pauses.over(Chore::Start, now.plus(Duration::from_millis(500))));
    }
}
