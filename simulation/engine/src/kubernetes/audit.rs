//! What was asked of the API, by whom, and what came of it: the evidence tests read.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use super::json::{at, text};
use super::request::Method;
use super::time::ModelTime;

/// Annotations under this prefix are copied into the audit log.
const PREFIX: &str = "pilotmesh.io/";

/// How many entries are kept; the oldest go first.
const KEPT: usize = 200_000;

/// All mutating requests, oldest first, those of the model's own controllers included.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    entries: VecDeque<AuditEntry>,
    count: u64,
}

/// One mutating request.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// Position among all requests ever audited.
    pub sequence: u64,
    /// When it was executed (not when it was sent).
    pub time: ModelTime,
    /// Who asked.
    pub user: String,
    /// What was asked.
    pub method: Method,
    /// Of what.
    pub path: String,
    /// Plural name of the kind.
    pub resource: String,
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Name; for a create, the name given to the object.
    pub name: String,
    /// `status`, `scale`, `eviction`, or empty.
    pub subresource: String,
    /// The revision the request was conditional on, in whatever way its verb allows.
    pub sent_resource_version: Option<String>,
    /// The identity the request was conditional on.
    pub sent_uid: Option<String>,
    /// Our annotations as sent in the body.
    pub sent_annotations: BTreeMap<String, String>,
    /// Our annotations as the object carried them afterwards (at the end, for a deletion).
    pub object_annotations: BTreeMap<String, String>,
    /// The cluster's record as sent, where the request carried one: who reads the log needs the steps in between too.
    pub sent_record: Option<String>,
    /// HTTP status of the answer.
    pub status: u16,
    /// The store's revision right after, where the request changed anything.
    pub committed: Option<u64>,
}

impl Audit {
    /// The entries, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &AuditEntry> {
        self.entries.iter()
    }

    /// How many requests were audited in all, forgotten ones included.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The requests of one user.
    pub fn of_user<'a>(&'a self, user: &'a str) -> impl Iterator<Item = &'a AuditEntry> {
        self.entries.iter().filter(move |entry| entry.user == user)
    }

    /// Forgets all entries; a long simulation checks and clears as it goes.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    pub(crate) fn push(&mut self, mut entry: AuditEntry) {
        entry.sequence = self.count;
        self.count += 1;
        self.entries.push_back(entry);
        if self.entries.len() > KEPT {
            self.entries.pop_front();
        }
    }
}

/// Our annotations on an object.
pub(crate) fn annotations_of(object: &Value) -> BTreeMap<String, String> {
    at(object, &["metadata", "annotations"])
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(PREFIX))
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// What a body asks for and is conditional on: annotations, resourceVersion, uid.
pub(crate) fn sent(body: &Value) -> (BTreeMap<String, String>, Option<String>, Option<String>) {
    let mut annotations = annotations_of(body);
    let own = |key| Some(text(body, &["metadata", key])).filter(|text| !text.is_empty());
    let precondition = |path: &[&str]| Some(text(body, path)).filter(|text| !text.is_empty()).map(str::to_owned);
    let mut revision = own("resourceVersion")
        .map(str::to_owned)
        .or_else(|| precondition(&["preconditions", "resourceVersion"]))
        .or_else(|| precondition(&["deleteOptions", "preconditions", "resourceVersion"]));
    let mut uid = own("uid")
        .map(str::to_owned)
        .or_else(|| precondition(&["preconditions", "uid"]))
        .or_else(|| precondition(&["deleteOptions", "preconditions", "uid"]));
    for operation in body.as_array().into_iter().flatten() {
        let value = text(operation, &["value"]);
        match (text(operation, &["op"]), text(operation, &["path"])) {
            ("test" | "replace", "/metadata/resourceVersion") => revision = Some(value.to_owned()),
            ("test", "/metadata/uid") => uid = Some(value.to_owned()),
            ("add" | "replace", "/metadata/annotations") => {
                let set = operation.get("value").cloned().unwrap_or(Value::Null);
                annotations.extend(annotations_of(&serde_json::json!({"metadata": {"annotations": set}})));
            }
            ("add" | "replace", path) => {
                if let Some(key) = path.strip_prefix("/metadata/annotations/") {
                    let key = key.replace("~1", "/").replace("~0", "~");
                    if key.starts_with(PREFIX) {
                        annotations.insert(key, value.to_owned());
                    }
                }
            }
            (_, _) => {}
        }
    }
    (annotations, revision, uid)
}

/// How many requests each user sent in each minute: reads and watches count too.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    by_user: BTreeMap<String, BTreeMap<u64, u64>>,
}

impl Counters {
    pub(crate) fn count(&mut self, user: &str, now: ModelTime) {
        let minute = now.0 / 60_000;
        match self.by_user.get_mut(user) {
            Some(minutes) => *minutes.entry(minute).or_default() += 1,
            None => {
                self.by_user.insert(user.to_owned(), BTreeMap::from([(minute, 1)]));
            }
        }
    }

    /// Requests of a user in all.
    #[must_use]
    pub fn total(&self, user: &str) -> u64 {
        self.by_user.get(user).map_or(0, |minutes| minutes.values().sum())
    }

    /// Requests of a user in the minute that holds `moment`.
    #[must_use]
    pub fn in_minute(&self, user: &str, moment: ModelTime) -> u64 {
        self.by_user.get(user).and_then(|minutes| minutes.get(&(moment.0 / 60_000))).copied().unwrap_or(0)
    }

    /// All users, with their requests by minute since the Unix epoch.
    #[must_use]
    pub fn by_user(&self) -> &BTreeMap<String, BTreeMap<u64, u64>> {
        &self.by_user
    }
}
