//! What one pilot may ask of the API in a time: S-BOUND and S-NORETRY.

use super::agents::Life;
use agent::event::CallId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Writes of one life that come to nothing, in any `WINDOW`, at most. A coordinator that loses its Lease to a broken API
/// has tried to renew it twice a second until then, and stands again every 2.4 s.
const FAILED: usize = 90;
/// Requests of one life in any `WINDOW`, at most: 25 a second. A coordinator with much to do, as where 200 claims are to be
/// marked, looks four times a second with five reads each, writes as often, and renews besides.
const SENT: usize = 1_500;
/// In milliseconds.
const WINDOW: u64 = 60_000;

/// What each life has asked for lately.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bounds {
    lives: BTreeMap<Life, Asked>,
    /// The most that one life sent in any `WINDOW`.
    pub(crate) busiest: usize,
}

#[derive(Debug, Clone, Default)]
struct Asked {
    sent: VecDeque<u64>,
    failed: VecDeque<u64>,
    /// Writes that have reached the API.
    arrived: BTreeSet<CallId>,
}

impl Bounds {
    /// A request is sent; tells by how many it is too many.
    pub(crate) fn sends(&mut self, now: u64, life: Life) -> Option<String> {
        let many = count(&mut self.lives.entry(life).or_default().sent, now);
        self.busiest = self.busiest.max(many);
        (many > SENT).then(|| format!("sent {many} requests within a minute"))
    }

    /// A write came to nothing.
    pub(crate) fn fails(&mut self, now: u64, life: Life) -> Option<String> {
        let many = count(&mut self.lives.entry(life).or_default().failed, now);
        (many > FAILED).then(|| format!("sent {many} writes within a minute that came to nothing"))
    }

    /// A write has arrived; tells whether it had done so before.
    pub(crate) fn arrives(&mut self, life: Life, id: CallId) -> bool {
        !self.lives.entry(life).or_default().arrived.insert(id)
    }

    /// This life is over: it sends nothing more. What it sent may still arrive, and must not twice.
    pub(crate) fn ended(&mut self, life: Life) {
        if let Some(asked) = self.lives.get_mut(&life) {
            asked.sent.clear();
            asked.failed.clear();
        }
    }
}

/// Enters this moment and tells how many there are within the last `WINDOW`.
fn count(times: &mut VecDeque<u64>, now: u64) -> usize {
    times.push_back(now);
    while times.front().is_some_and(|at| at + WINDOW < now) {
        times.pop_front();
    }
    times.len()
}
