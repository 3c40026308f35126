//! The object store: one global revision, one log, and the bookkeeping no client can forge.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::error::ApiError;
use super::json::{at, object, remove, set};
use super::ownership::Ownership;
use super::resource::KindId;
use super::time::{IdentitySource, ModelTime};
use super::watch::{Change, Revision, RevisionLog};

/// How many changes a watch may lag behind before it is answered 410.
const REVISIONS_KEPT: usize = 20_000;

/// An object and what the server knows besides.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) object: Arc<Value>,
    pub(crate) ownership: Arc<Ownership>,
}

/// Called with each new revision; what a server waits on. A copy of the store has none.
#[derive(Default)]
struct Hook(Option<Box<dyn Fn(u64) + Send + Sync>>);

impl Clone for Hook {
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(if self.0.is_some() { "Hook(set)" } else { "Hook(none)" })
    }
}

/// All objects. Ordered maps throughout: what is listed never depends on a hash.
#[derive(Debug, Clone)]
pub struct Store {
    revision: u64,
    identities: IdentitySource,
    kinds: Vec<BTreeMap<String, BTreeMap<String, Stored>>>,
    changed: Vec<u64>,
    garbage_hints: u64,
    log: RevisionLog,
    show_managed_fields: bool,
    hook: Hook,
}

impl Store {
    pub(crate) fn new(seed: u64, kinds: usize) -> Self {
        Self {
            // Revision 0 means "any" in requests, so real servers never hand it out.
            revision: 1,
            identities: IdentitySource::new(seed),
            kinds: vec![BTreeMap::new(); kinds],
            changed: vec![0; kinds],
            garbage_hints: 0,
            log: RevisionLog::new(REVISIONS_KEPT),
            show_managed_fields: false,
            hook: Hook::default(),
        }
    }

    pub(crate) fn add_kind(&mut self) {
        self.kinds.push(BTreeMap::new());
        self.changed.push(0);
    }

    /// Writes `metadata.managedFields` into every object, not only into those changed by server-side apply.
    pub(crate) fn show_managed_fields(&mut self) {
        self.show_managed_fields = true;
    }

    /// Calls `hook` with every new revision, in the middle of the change: it may only take note.
    pub(crate) fn on_change(&mut self, hook: Box<dyn Fn(u64) + Send + Sync>) {
        self.hook = Hook(Some(hook));
    }

    fn tell(&self) {
        if let Hook(Some(hook)) = &self.hook {
            hook(self.revision);
        }
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The revision at which an object of this kind last changed; 0 where none ever did.
    #[must_use]
    pub fn changed(&self, kind: KindId) -> u64 {
        self.changed[kind.0]
    }

    /// Grows whenever there may be something to collect: a removal, or a call of [`Self::hint_garbage`].
    pub(crate) fn garbage_hints(&self) -> u64 {
        self.garbage_hints
    }

    pub(crate) fn hint_garbage(&mut self) {
        self.garbage_hints += 1;
    }

    pub(crate) fn identities(&mut self) -> &mut IdentitySource {
        &mut self.identities
    }

    pub(crate) fn log(&self) -> &RevisionLog {
        &self.log
    }

    /// Forgets changes up to `revision`, so that watches from before it are answered 410.
    pub fn compact(&mut self, revision: u64) {
        self.log.compact(revision.min(self.revision));
    }

    pub(crate) fn stored(&self, kind: KindId, namespace: &str, name: &str) -> Option<&Stored> {
        self.kinds[kind.0].get(namespace)?.get(name)
    }

    /// One object.
    #[must_use]
    pub fn get(&self, kind: KindId, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.stored(kind, namespace, name).map(|stored| &stored.object)
    }

    /// The objects of a kind, of one namespace or of all, by namespace and name.
    pub fn list<'a>(&'a self, kind: KindId, namespace: Option<&str>) -> Box<dyn Iterator<Item = &'a Arc<Value>> + 'a> {
        let all = &self.kinds[kind.0];
        match namespace {
            Some(namespace) => {
                Box::new(all.get(namespace).into_iter().flat_map(BTreeMap::values).map(|stored| &stored.object))
            }
            None => Box::new(all.values().flat_map(BTreeMap::values).map(|stored| &stored.object)),
        }
    }

    /// The objects of a kind as they were at a revision, by namespace and name.
    ///
    /// # Errors
    /// 410 where the changes since are not all remembered.
    pub(crate) fn list_at(
        &self,
        kind: KindId,
        namespace: Option<&str>,
        revision: u64,
    ) -> Result<Vec<Arc<Value>>, ApiError> {
        let key = |object: &Value| (super::json::namespace(object).to_owned(), super::json::name(object).to_owned());
        let mut objects: BTreeMap<(String, String), Arc<Value>> =
            self.list(kind, namespace).map(|object| (key(object), Arc::clone(object))).collect();
        let is_meant =
            |entry: &&Revision| entry.kind == kind && namespace.is_none_or(|namespace| namespace == entry.namespace);
        for entry in self.log.back_to(revision)?.filter(is_meant) {
            match &entry.previous {
                Some(previous) => objects.insert(key(&entry.object), Arc::clone(previous)),
                None => objects.remove(&key(&entry.object)),
            };
        }
        Ok(objects.into_values().collect())
    }

    /// How many objects of a kind there are.
    pub(crate) fn count(&self, kind: KindId) -> usize {
        self.kinds[kind.0].values().map(BTreeMap::len).sum()
    }

    /// Stores a new object: identity, creation time and first revision are given here, whatever it carried.
    pub(crate) fn insert(
        &mut self,
        kind: KindId,
        namespace: &str,
        name: &str,
        mut value: Value,
        ownership: Arc<Ownership>,
        now: ModelTime,
    ) -> Arc<Value> {
        let uid = self.identities.uid();
        set(&mut value, &["metadata", "uid"], uid);
        set(&mut value, &["metadata", "creationTimestamp"], now.rfc3339());
        self.commit(kind, namespace, name, Change::Added, value, ownership)
    }

    /// Stores a changed object under the next revision. The caller has kept what may not change.
    pub(crate) fn replace(
        &mut self,
        kind: KindId,
        namespace: &str,
        name: &str,
        value: Value,
        ownership: Arc<Ownership>,
    ) -> Arc<Value> {
        self.commit(kind, namespace, name, Change::Modified, value, ownership)
    }

    /// Removes an object; the answer carries the revision of its removal.
    pub(crate) fn remove(&mut self, kind: KindId, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let objects = self.kinds[kind.0].get_mut(namespace)?;
        let previous = objects.remove(name)?.object;
        if objects.is_empty() {
            self.kinds[kind.0].remove(namespace);
        }
        self.revision += 1;
        self.garbage_hints += 1;
        self.changed[kind.0] = self.revision;
        let mut last = Value::clone(&previous);
        set(&mut last, &["metadata", "resourceVersion"], self.revision.to_string());
        let last = Arc::new(last);
        self.log.push(Revision {
            revision: self.revision,
            kind,
            namespace: namespace.to_owned(),
            change: Change::Deleted,
            object: Arc::clone(&last),
            previous: Some(previous),
        });
        self.tell();
        Some(last)
    }

    fn commit(
        &mut self,
        kind: KindId,
        namespace: &str,
        name: &str,
        change: Change,
        mut value: Value,
        ownership: Arc<Ownership>,
    ) -> Arc<Value> {
        self.revision += 1;
        self.changed[kind.0] = self.revision;
        set(&mut value, &["metadata", "resourceVersion"], self.revision.to_string());
        if self.show_managed_fields || ownership.has_applied() {
            set(&mut value, &["metadata", "managedFields"], ownership.to_managed_fields());
        }
        let value = Arc::new(value);
        let stored = Stored { object: Arc::clone(&value), ownership };
        let previous = self.kinds[kind.0].entry(namespace.to_owned()).or_default().insert(name.to_owned(), stored);
        self.log.push(Revision {
            revision: self.revision,
            kind,
            namespace: namespace.to_owned(),
            change,
            object: Arc::clone(&value),
            previous: previous.map(|stored| stored.object),
        });
        self.tell();
        value
    }
}

/// Whether two objects say the same, bookkeeping aside: then nothing is written and the revision stays.
pub(crate) fn says_the_same(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return old == new;
    };
    let keys_of = |map: &serde_json::Map<String, Value>| map.iter().filter(|(_, value)| !value.is_null()).count();
    keys_of(old) == keys_of(new)
        && new.iter().filter(|(_, value)| !value.is_null()).all(|(key, value)| match (key.as_str(), old.get(key)) {
            ("metadata", Some(before)) => metadata_says_the_same(before, value),
            (_, before) => before == Some(value),
        })
}

fn metadata_says_the_same(old: &Value, new: &Value) -> bool {
    const BOOKKEEPING: [&str; 2] = ["resourceVersion", "managedFields"];
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return old == new;
    };
    let told = |map: &serde_json::Map<String, Value>| {
        map.iter().filter(|(key, _)| !BOOKKEEPING.contains(&key.as_str())).count()
    };
    told(old) == told(new)
        && new
            .iter()
            .filter(|(key, _)| !BOOKKEEPING.contains(&key.as_str()))
            .all(|(key, value)| old.get(key) == Some(value))
}

/// Whether anything but metadata and status differs: what `metadata.generation` counts.
pub(crate) fn specification_differs(old: &Value, new: &Value) -> bool {
    let told =
        |value: &Value| value.as_object().map_or(0, |map| map.keys().filter(|key| is_specification(key)).count());
    told(old) != told(new)
        || new
            .as_object()
            .into_iter()
            .flatten()
            .any(|(key, value)| is_specification(key) && old.get(key) != Some(value))
}

fn is_specification(key: &str) -> bool {
    !matches!(key, "metadata" | "status" | "apiVersion" | "kind")
}

/// Carries over from the stored object what no request may change.
pub(crate) fn keep_immutable_metadata(old: &Value, new: &mut Value) {
    const KEPT: [&str; 7] = [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ];
    for key in KEPT {
        match at(old, &["metadata", key]) {
            Some(value) => set(new, &["metadata", key], value.clone()),
            None => {
                remove(new, &["metadata", key]);
            }
        }
    }
    for key in ["generateName", "selfLink"] {
        if let Some(value) = at(old, &["metadata", key]) {
            set(new, &["metadata", key], value.clone());
        }
    }
    for key in ["apiVersion", "kind"] {
        if let Some(value) = old.get(key) {
            object(new).insert(key.to_owned(), value.clone());
        }
    }
}

impl Store {
    /// Puts an object back as it was, with its identity and revision; only for a store that is being restored.
    ///
    /// Who owned which field is not kept: the first apply afterwards shares instead of conflicting.
    pub(crate) fn put_back(&mut self, kind: KindId, namespace: &str, name: &str, object: Value) {
        let stored = Stored { object: Arc::new(object), ownership: Arc::default() };
        self.kinds[kind.0].entry(namespace.to_owned()).or_default().insert(name.to_owned(), stored);
    }

    /// Goes on after a store that had come to `revision` and had handed out `identities`: nothing of it is repeated,
    /// and watches from before are answered 410.
    pub(crate) fn resume_after(&mut self, revision: u64, identities: u64) {
        self.revision = self.revision.max(revision) + 1;
        self.changed.fill(self.revision);
        self.garbage_hints += 1;
        self.identities.skip_to(identities);
        self.log.compact(self.revision);
        self.tell();
    }

    /// How many identities were handed out.
    pub(crate) fn identities_used(&self) -> u64 {
        self.identities.count()
    }
}
