//! Stories: what is done to a running mesh, and what must come of it. The tour tells them, the tests demand them.

pub mod audit;
pub mod coordinators;
pub mod deaths;
pub mod evidence;
pub mod founding;
pub mod membership;
pub mod observer;
pub mod outages;
pub mod replacement;
pub mod returns;
pub mod roll;
pub mod rows;
pub mod steps;
mod volumes;

use crate::sandbox::client::{Protocol, RowWriter, WriterSettings};
use crate::sandbox::engine::{Database, PodView, Sandbox, SandboxError};
use agent::pilot::decisions::Entry;
use agent::pilot::state::{DecisionsDocument, StateDocument};
use evidence::Evidence;
use observer::Observer;
pub use observer::Snapshot;
use policies::plan::Verdict;
use protocol::database::DatabasePhase;
use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A machine under load takes its time: nothing is judged by the clock, but nothing waits for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// Why a story did not end as it must.
#[derive(Debug, thiserror::Error)]
pub enum StoryError {
    /// The sandbox.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// Something that must come did not.
    #[error("waited {waited:?} for {what}; last seen: {seen}")]
    Late {
        /// What.
        what: String,
        /// How long.
        waited: Duration,
        /// What was seen instead.
        seen: String,
    },
    /// Something happened that must not.
    #[error("{0}")]
    Wrong(String),
}

/// Fails with this sentence unless it holds.
///
/// # Errors
/// When it does not.
pub fn must(holds: bool, sentence: impl Into<String>) -> Result<(), StoryError> {
    if holds { Ok(()) } else { Err(StoryError::Wrong(sentence.into())) }
}

/// How often a pilot that must answer is asked: a busy machine may miss a moment.
const PATIENT: u32 = 5;

/// A sandbox with a writer and somebody who watches.
pub struct Stage {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// Watches all pilots.
    pub observer: Observer,
    /// Writes numbered rows, once a story has started it.
    pub writer: Option<RowWriter>,
    /// Has written rows that are only much, and are read back like the others.
    pub bulk: Option<RowWriter>,
    /// What was seen, for the table.
    pub evidence: Evidence,
    /// Databases that a story killed: no other end may be counted that nobody asked for.
    pub killed: u64,
    /// Stretches on the writer's clock in which no row could be acknowledged, because a story had stopped too many.
    pub excused: Vec<(Duration, Duration)>,
    /// What is done or waited for now, in a sentence: for those who watch.
    note: watch::Sender<String>,
}

impl Stage {
    /// Sets the stage around a running sandbox.
    pub fn new(sandbox: Sandbox) -> Self {
        let observer = Observer::start(sandbox.api().clone(), sandbox.contacts(), sandbox.pods_reader());
        Self {
            sandbox,
            observer,
            writer: None,
            bulk: None,
            evidence: Evidence::default(),
            killed: 0,
            excused: Vec::new(),
            note: watch::channel(String::new()).0,
        }
    }

    /// Begins to write rows at QUORUM, and goes on to the end.
    pub fn start_writing(&mut self) {
        if self.writer.is_none() {
            let protocol = match self.sandbox.options().database {
                Database::Cassandra(_) => Protocol::Cql,
                Database::Model => Protocol::Model,
            };
            let settings = WriterSettings { protocol, ..WriterSettings::default() };
            self.writer = Some(RowWriter::start(self.sandbox.contacts(), settings));
        }
    }

    /// Tells those who watch what is done or waited for now.
    pub fn say(&self, sentence: impl Into<String>) {
        self.note.send_replace(sentence.into());
    }

    /// What is done or waited for now.
    pub fn notes(&self) -> watch::Receiver<String> {
        self.note.subscribe()
    }

    /// What is seen now.
    pub fn seen(&self) -> Snapshot {
        self.observer.now()
    }

    /// Waits until a snapshot satisfies this.
    ///
    /// # Errors
    /// When it does not in time; with what was seen last.
    pub async fn until(
        &self,
        what: &str,
        within: Duration,
        mut holds: impl FnMut(&Snapshot) -> bool,
    ) -> Result<Snapshot, StoryError> {
        let begun = Instant::now();
        let mut changes = self.observer.changes();
        loop {
            let now = changes.borrow_and_update().clone();
            if holds(&now) {
                return Ok(now);
            }
            let left = within.saturating_sub(begun.elapsed());
            if left.is_zero() || tokio::time::timeout(left, changes.changed()).await.is_err() {
                let late = StoryError::Late { what: what.to_owned(), waited: begun.elapsed(), seen: now.describe() };
                return if holds(&self.seen()) { Ok(self.seen()) } else { Err(late) };
            }
        }
    }

    /// Looks on for so long and judges every look.
    ///
    /// # Errors
    /// The first judgement that is one.
    pub async fn watch_for(
        &self,
        how_long: Duration,
        mut judge: impl FnMut(&Snapshot) -> Result<(), StoryError>,
    ) -> Result<(), StoryError> {
        let ends = Instant::now() + how_long;
        let mut changes = self.observer.changes();
        loop {
            let now = changes.borrow_and_update().clone();
            judge(&now)?;
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() || tokio::time::timeout(left, changes.changed()).await.is_err() {
                return judge(&self.seen());
            }
        }
    }

    /// Waits for fresh acknowledgements, and excuses that there was none since `from` on the writer's clock.
    ///
    /// # Errors
    /// When none come.
    pub async fn excuse_since(&mut self, from: Duration, within: Duration) -> Result<(), StoryError> {
        let Some(writer) = &self.writer else {
            return Ok(());
        };
        let before = writer.acknowledged();
        self.until_true("fresh acknowledgements", within, || async { writer.acknowledged() > before + 20 }).await?;
        let to = writer.elapsed();
        self.excused.push((from, to));
        Ok(())
    }

    /// The number of the last decision of every pilot: what it decides later has a higher one.
    ///
    /// # Errors
    /// When a pilot does not answer.
    pub async fn last_decisions(&self) -> Result<BTreeMap<String, u64>, StoryError> {
        let mut last = BTreeMap::new();
        for pod in self.sandbox.pods() {
            let document = self.decisions(&pod, PATIENT).await?;
            last.insert(pod.name, document.own.iter().map(|e| e.number).max().unwrap_or(0));
        }
        Ok(last)
    }

    /// What pilots decided themselves after these numbers, with who did. Pilots that are not named count from their start.
    ///
    /// # Errors
    /// When one of the named pilots does not answer.
    pub async fn decided_after(&self, last: &BTreeMap<String, u64>) -> Result<Vec<(String, Entry)>, StoryError> {
        let mut decided = Vec::new();
        for pod in self.sandbox.pods() {
            let is_named = last.contains_key(&pod.name);
            let document = match self.decisions(&pod, if is_named { PATIENT } else { 1 }).await {
                Ok(document) => document,
                Err(error) if is_named => return Err(error),
                Err(_not_up_yet) => continue,
            };
            let after = last.get(&pod.name).copied().unwrap_or(0);
            decided.extend(document.own.into_iter().filter(|e| e.number > after).map(|e| (pod.name.clone(), e)));
        }
        Ok(decided)
    }

    async fn decisions(&self, pod: &PodView, tries: u32) -> Result<DecisionsDocument, StoryError> {
        for _ in 0..tries {
            if let Some(document) = self.sandbox.decisions(pod).await {
                return Ok(document);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Err(StoryError::Wrong(format!("the pilot of {} does not tell its decisions", pod.name)))
    }

    /// Waits until something asynchronous holds, asking again and again.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn until_true<F, Fut>(&self, what: &str, within: Duration, mut holds: F) -> Result<(), StoryError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = bool>,
    {
        let begun = Instant::now();
        while !holds().await {
            if begun.elapsed() > within {
                let seen = self.seen().describe();
                return Err(StoryError::Late { what: what.to_owned(), waited: begun.elapsed(), seen });
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        Ok(())
    }

    /// A pod by name.
    ///
    /// # Errors
    /// When there is none.
    pub fn pod(&self, name: &str) -> Result<PodView, StoryError> {
        self.sandbox.pod(name).ok_or_else(|| StoryError::Wrong(format!("there is no pod {name}")))
    }
}

/// What these decisions did, one line for each act.
pub fn acts(decided: &[(String, Entry)]) -> Vec<String> {
    decided
        .iter()
        .flat_map(|(who, entry)| entry.reasons.iter().map(move |reason| (who, entry, reason)))
        .filter(|(_, _, reason)| reason.verdict == Verdict::Act)
        .map(|(who, entry, reason)| {
            format!("{who} at epoch {}, number {}: {} {}", entry.epoch, entry.number, reason.subject, reason.fact)
        })
        .collect()
}

/// A pilot's own database phase in its own document.
pub fn own_phase(state: &StateDocument) -> Option<DatabasePhase> {
    let me = &state.me.name;
    state.members.iter().find(|m| &m.name == me)?.database.as_ref().map(|d| d.phase)
}
