//! The last decisions and their reasons, kept for people.

use policies::plan::{Reason, Verdict};
use protocol::epoch::Epoch;
use protocol::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// One decision: what a coordinator did, or why it did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// Its number within the pilot's life.
    pub number: u64,
    /// When it was first made, on the pilot's clock.
    pub at: Timestamp,
    /// The decider's epoch.
    pub epoch: Epoch,
    /// The reasons, the one for the act first.
    pub reasons: Vec<Reason>,
}

/// Decisions kept.
const KEPT: usize = 100;

/// The log: a decision that only repeats the one before is not entered again.
#[derive(Debug, Clone, Default)]
pub struct Log {
    next: u64,
    entries: VecDeque<Entry>,
    last: Vec<Reason>,
}

impl Log {
    /// Enters a decision, unless it repeats the last one. Returns what was entered.
    pub fn enter(&mut self, at: Timestamp, epoch: Epoch, mut reasons: Vec<Reason>) -> Option<Entry> {
        let shape = |reasons: &[Reason]| -> Vec<Reason> {
            reasons
                .iter()
                .map(|r| Reason {
                    // Progress figures change all the time and are no new decision.
                    fact: r.fact.chars().filter(|c| !c.is_ascii_digit()).collect(),
                    ..r.clone()
                })
                .collect()
        };
        reasons.sort_by_key(|r| match r.verdict {
            Verdict::Act | Verdict::Refuse => 0,
            Verdict::Done => 1,
            Verdict::Wait => 2,
        });
        let now = shape(&reasons);
        if now == self.last {
            return None;
        }
        self.last = now;
        if reasons.is_empty() {
            return None;
        }
        self.next += 1;
        let entry = Entry { number: self.next, at, epoch, reasons };
        self.entries.push_back(entry.clone());
        while self.entries.len() > KEPT {
            self.entries.pop_front();
        }
        Some(entry)
    }

    /// The last decisions, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }
}
