//! How often the database started and died: kept on the volume, because a lack of memory may end the launcher with it.

use protocol::id::Uid;
use protocol::launcher::{Care, ProcessEnd};
use protocol::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// So many ends are kept.
const ENDS: usize = 10;

/// The accounts of starts and ends. They report and slow down; they never give or take a permission.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// Starts of the database in all.
    pub starts: u64,
    /// Ends that nobody asked for.
    pub unintended_ends: u64,
    /// The last ends, oldest first.
    pub ends: Vec<ProcessEnd>,
    /// Unintended ends in a row; one that follows a long run counts as the first.
    pub failures: u32,
    /// So many ends came so quickly that it is a crash loop, until one run is long again.
    pub looping: bool,
    /// When the last unintended ends were, on the clock of `boot`.
    pub recent: Vec<Timestamp>,
    /// The start of the machine that `recent` belongs to.
    pub boot: String,
    /// A run whose end has not been written down yet.
    pub open: Option<OpenRun>,
    /// The pod that `failures`, `looping` and `recent` belong to: a new one deserves a fresh start.
    pub pod: Option<Uid>,
}

/// A run whose end has not been written down yet: when the launcher finds one at its start, it died together with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRun {
    /// The pod it ran in.
    pub pod: Uid,
    /// The launcher was told to end meanwhile, so an end was no surprise.
    pub ending: bool,
}

impl Accounts {
    /// Takes over what an earlier life of the launcher wrote down.
    pub fn begin(&mut self, now: Timestamp, pod: &Uid, boot: &str, care: &Care) {
        if self.boot != boot {
            self.recent.clear();
            self.boot = boot.to_owned();
        }
        if self.pod.as_ref() != Some(pod) {
            self.pod = Some(pod.clone());
            self.forgive();
        }
        match self.open.take() {
            Some(run) if run.pod == *pod => self.ended(
                now,
                care,
                ProcessEnd { code: None, signal: None, unintended: !run.ending, out_of_memory: false, ran: Millis(0) },
            ),
            // Another pod ended with all that was in it: no fault of the database.
            Some(_) | None => {}
        }
    }

    /// The pause starts from its shortest again, and no crash loop is spoken of.
    pub fn forgive(&mut self) {
        self.failures = 0;
        self.looping = false;
        self.recent.clear();
    }

    /// The database is about to be started.
    pub fn starting(&mut self, pod: &Uid) {
        self.starts = self.starts.saturating_add(1);
        self.open = Some(OpenRun { pod: pod.clone(), ending: false });
    }

    /// The database has ended.
    pub fn ended(&mut self, now: Timestamp, care: &Care, end: ProcessEnd) {
        self.open = None;
        let window = Duration::from(care.crash_within);
        if end.ran > care.crash_within {
            self.failures = 0;
            self.looping = false;
        }
        if end.unintended {
            self.unintended_ends = self.unintended_ends.saturating_add(1);
            self.failures = self.failures.saturating_add(1);
            self.recent.retain(|at| now.since(*at) <= window);
            self.recent.push(now);
            let most = usize::try_from(care.crash_exits.max(1)).unwrap_or(usize::MAX);
            if self.recent.len() >= most {
                self.looping = true;
                // Enough to tell: what is older adds nothing.
                self.recent.drain(..self.recent.len() - most);
            }
        }
        self.ends.push(end);
        if self.ends.len() > ENDS {
            self.ends.drain(..self.ends.len() - ENDS);
        }
    }

    /// The pause before the next start.
    pub fn pause(&self, care: &Care) -> Duration {
        doubled(care, self.failures)
    }
}

/// The pause after so many failures: the first is `backoff_from`, each further twice as long, `backoff_to` at most.
pub fn doubled(care: &Care, failures: u32) -> Duration {
    let factor = 1_u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX);
    Duration::from_millis(care.backoff_from.0.saturating_mul(factor).min(care.backoff_to.0))
}
