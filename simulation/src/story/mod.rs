//! Stories: what is done to a running mesh, and what must come of it. The tour tells them, the tests demand them.

pub mod evidence;
pub mod observer;
pub mod shown;
pub mod steps;

use crate::sandbox::client::{Protocol, RowWriter, WriterSettings};
use crate::sandbox::engine::{Database, PodView, Sandbox, SandboxError};
use agent::pilot::state::StateDocument;
use evidence::Evidence;
use observer::Observer;
pub use observer::Snapshot;
use protocol::database::DatabasePhase;
use std::future::Future;
use std::time::{Duration, Instant};
use tokio::sync::watch;

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

/// A sandbox with a writer and somebody who watches.
pub struct Stage {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// Watches all pilots.
    pub observer: Observer,
    /// Writes numbered rows, once a story has started it.
    pub writer: Option<RowWriter>,
    /// What was seen, for the table.
    pub evidence: Evidence,
    /// What is done or waited for now, in a sentence: for those who watch.
    note: watch::Sender<String>,
}

impl Stage {
    /// Sets the stage around a running sandbox.
    pub fn new(sandbox: Sandbox) -> Self {
        let observer = Observer::start(sandbox.api().clone(), sandbox.contacts(), sandbox.pods_reader());
        Self { sandbox, observer, writer: None, evidence: Evidence::default(), note: watch::channel(String::new()).0 }
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

/// A pilot's own database phase in its own document.
pub fn own_phase(state: &StateDocument) -> Option<DatabasePhase> {
    let me = &state.me.name;
    state.members.iter().find(|m| &m.name == me)?.database.as_ref().map(|d| d.phase)
}
