//! The shared log of revisions and the cursors that watches are.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Value, json};

use super::error::{ApiError, Reason};
use super::json::set;
use super::resource::KindId;
use super::selector::Selector;

/// What happened to an object, as a watch tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It appeared (or began to match the selector).
    Added,
    /// It changed.
    Modified,
    /// It went (or ceased to match the selector).
    Deleted,
    /// Nothing: how far the stream has come.
    Bookmark,
    /// The stream ends; the object is a `Status`.
    Error,
}

impl Change {
    /// As written in the stream.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
            Self::Bookmark => "BOOKMARK",
            Self::Error => "ERROR",
        }
    }
}

/// One line of a watch.
#[derive(Debug, Clone)]
pub struct WatchEvent {
    /// What happened.
    pub change: Change,
    /// The object after it (before it, for a deletion).
    pub object: Arc<Value>,
}

/// One committed change.
#[derive(Debug, Clone)]
pub(crate) struct Revision {
    pub(crate) revision: u64,
    pub(crate) kind: KindId,
    pub(crate) namespace: String,
    pub(crate) change: Change,
    pub(crate) object: Arc<Value>,
    pub(crate) previous: Option<Arc<Value>>,
}

/// All recent changes, oldest first. What was compacted answers 410.
#[derive(Debug, Clone)]
pub(crate) struct RevisionLog {
    entries: VecDeque<Revision>,
    kept: usize,
    compacted: u64,
}

impl RevisionLog {
    pub(crate) fn new(kept: usize) -> Self {
        Self { entries: VecDeque::new(), kept, compacted: 0 }
    }

    pub(crate) fn push(&mut self, entry: Revision) {
        self.entries.push_back(entry);
        while self.entries.len() > self.kept {
            if let Some(gone) = self.entries.pop_front() {
                self.compacted = gone.revision;
            }
        }
    }

    /// Forgets every change up to and including `revision`.
    pub(crate) fn compact(&mut self, revision: u64) {
        while self.entries.front().is_some_and(|entry| entry.revision <= revision) {
            self.entries.pop_front();
        }
        self.compacted = self.compacted.max(revision);
    }

    /// The changes after `revision`, newest first.
    ///
    /// # Errors
    /// 410 where they are not all remembered.
    pub(crate) fn back_to(&self, revision: u64) -> Result<impl Iterator<Item = &Revision>, ApiError> {
        self.since(revision).map(|changes| changes.collect::<Vec<_>>().into_iter().rev())
    }

    fn since(&self, revision: u64) -> Result<impl Iterator<Item = &Revision>, ApiError> {
        if revision < self.compacted {
            return Err(ApiError::new(
                Reason::Expired,
                format!("too old resource version: {revision} ({})", self.compacted),
            ));
        }
        let from = self.entries.partition_point(|entry| entry.revision <= revision);
        Ok(self.entries.range(from..))
    }
}

/// Where one watch stands in the log.
#[derive(Debug, Clone)]
pub struct WatchCursor {
    pub(crate) kind: KindId,
    pub(crate) namespace: Option<String>,
    pub(crate) selector: Selector,
    pub(crate) position: u64,
    /// Objects to tell first: those that existed when the watch began.
    pub(crate) initial: VecDeque<Arc<Value>>,
    /// Whether the end of the first objects is to be marked by a bookmark (`sendInitialEvents`).
    pub(crate) mark_initial_end: bool,
    /// Whether the client asked for bookmarks.
    pub(crate) bookmarks: bool,
    pub(crate) api_version: String,
    pub(crate) kind_name: String,
    /// Seconds after which the server ends the stream, where the client said so.
    pub timeout_seconds: Option<u64>,
    pub(crate) ended: bool,
}

impl WatchCursor {
    /// Whether the stream is over: nothing more will come.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The revision up to which everything was told.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The kind the watch is about.
    #[must_use]
    pub fn kind(&self) -> KindId {
        self.kind
    }

    /// A bookmark for the present position.
    #[must_use]
    pub fn bookmark(&self) -> WatchEvent {
        WatchEvent { change: Change::Bookmark, object: Arc::new(self.bookmark_object(false)) }
    }

    /// Whether the client asked for bookmarks.
    #[must_use]
    pub fn wants_bookmarks(&self) -> bool {
        self.bookmarks
    }

    fn bookmark_object(&self, initial_end: bool) -> Value {
        let mut object = json!({
            "kind": self.kind_name,
            "apiVersion": self.api_version,
            "metadata": {"resourceVersion": self.position.to_string(), "creationTimestamp": null},
        });
        if initial_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        object
    }

    /// Takes up to `limit` events from the log; `now` is the newest revision.
    pub(crate) fn poll(&mut self, log: &RevisionLog, now: u64, limit: usize) -> Vec<WatchEvent> {
        let mut events = Vec::new();
        if self.ended {
            return events;
        }
        while events.len() < limit {
            match self.initial.pop_front() {
                Some(object) => events.push(WatchEvent { change: Change::Added, object }),
                None => break,
            }
        }
        if events.len() < limit && self.initial.is_empty() && self.mark_initial_end {
            self.mark_initial_end = false;
            events.push(WatchEvent { change: Change::Bookmark, object: Arc::new(self.bookmark_object(true)) });
        }
        if self.position == now {
            return events;
        }
        let entries = match log.since(self.position) {
            Ok(entries) => entries,
            Err(gone) => {
                self.ended = true;
                events.push(WatchEvent { change: Change::Error, object: Arc::new(gone.to_status()) });
                return events;
            }
        };
        for entry in entries {
            if events.len() >= limit {
                return events;
            }
            self.position = entry.revision;
            events.extend(self.told(entry));
        }
        self.position = now;
        events
    }

    /// What a change looks like through this watch's selector.
    fn told(&self, entry: &Revision) -> Option<WatchEvent> {
        if entry.kind != self.kind || self.namespace.as_ref().is_some_and(|wanted| *wanted != entry.namespace) {
            return None;
        }
        let event = |change, object: &Arc<Value>| Some(WatchEvent { change, object: Arc::clone(object) });
        if self.selector.is_empty() {
            return event(entry.change, &entry.object);
        }
        let is = self.selector.matches(&entry.object);
        let was = entry.previous.as_ref().is_some_and(|previous| self.selector.matches(previous));
        match (entry.change, was, is) {
            (Change::Deleted, _, true) | (Change::Deleted, true, false) => event(Change::Deleted, &entry.object),
            (Change::Added | Change::Modified, false, true) => event(Change::Added, &entry.object),
            (Change::Added | Change::Modified, true, true) => event(Change::Modified, &entry.object),
            // What leaves is told as it was while it was inside, at the revision at which it left.
            (Change::Added | Change::Modified, true, false) => {
                let mut last = entry.previous.as_deref().unwrap_or(&entry.object).clone();
                set(&mut last, &["metadata", "resourceVersion"], entry.revision.to_string());
                event(Change::Deleted, &Arc::new(last))
            }
            (Change::Added | Change::Modified | Change::Deleted, false, false)
            | (Change::Bookmark | Change::Error, _, _) => None,
        }
    }
}
