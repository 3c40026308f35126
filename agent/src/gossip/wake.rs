//! A woken process distrusts itself.

use std::time::Duration;

/// Time since the machine started, time asleep included. No wall clock: nothing can set it back.
pub fn boottime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Sees gaps in the process's own running.
///
/// After a stop every peer's silence equals the stop, so the failure detector calls everybody dead at once, for up to
/// a second. Until a full round has been heard again, what was seen before the stop is the better knowledge.
#[derive(Debug, Clone)]
pub struct WakeGuard {
    interval: Duration,
    last: Option<Duration>,
    woken: Option<Duration>,
}

impl WakeGuard {
    /// For gossip rounds of this length; more than two between looks are a gap.
    pub fn new(interval: Duration) -> Self {
        Self { interval, last: None, woken: None }
    }

    /// Takes a look at the clock; returns the gap if this look ended one.
    pub fn look(&mut self, now: Duration) -> Option<Duration> {
        let gap = self.last.map_or(Duration::ZERO, |last| now.saturating_sub(last));
        self.last = Some(now);
        if gap > self.interval * 2 {
            self.woken = Some(now);
            return Some(gap);
        }
        if self.woken.is_some_and(|woken| now.saturating_sub(woken) >= self.interval * 4) {
            self.woken = None;
        }
        None
    }

    /// Whether the view from before is to be held; `restored` says that everybody alive in it is alive again.
    ///
    /// For two rounds in any case (the rest of the one that was cut short, and a whole one), and for two more while
    /// somebody is missing: a peer taken for dead counts as alive only after its second fresh beat.
    pub fn holds(&self, restored: bool) -> bool {
        match (self.woken, self.last) {
            (Some(woken), Some(last)) => !restored || last.saturating_sub(woken) < self.interval * 2,
            (None, _) | (_, None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_holds_the_view_for_a_full_round_and_ordinary_ticks_do_not() {
        let at = Duration::from_millis;
        let mut guard = WakeGuard::new(at(500));
        for tick in 0..20 {
            assert_eq!(guard.look(at(tick * 500)), None);
            assert!(!guard.holds(false));
        }
        assert_eq!(guard.look(at(9_500 + 1_001)), Some(at(1_001)));
        assert!(guard.holds(true));
        assert_eq!(guard.look(at(11_000)), None);
        assert!(guard.holds(true));
        assert_eq!(guard.look(at(11_501)), None);
        assert!(!guard.holds(true) && guard.holds(false));
        assert_eq!(guard.look(at(12_000)), None);
        assert_eq!(guard.look(at(12_501)), None);
        assert!(!guard.holds(false));
    }

    #[test]
    fn the_clock_runs() {
        let before = boottime();
        assert!(before > Duration::ZERO && boottime() >= before);
    }
}
