//! Who owns which field: the bookkeeping behind server-side apply.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::json::{at, object};
use super::merge_keys::{element_key, is_set, merge_keys};
use super::time::ModelTime;

/// Separates the steps of a path; cannot occur in a field name.
const STEP: char = '\u{1f}';

/// The step that stands for a list element itself, besides its fields.
const ELEMENT: &str = ".";

/// Paths of fields, each a joined sequence of steps such as `f:spec`, `k:{"name":"a"}`, `v:"x"`.
pub(crate) type FieldSet = BTreeSet<String>;

/// The owners of one object's fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ownership {
    entries: Vec<Entry>,
}

/// How an owner came to own: by declaring, or by changing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Apply,
    Update,
}

/// Who writes, and through what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manager {
    pub(crate) name: String,
    pub(crate) operation: Operation,
    pub(crate) subresource: String,
    pub(crate) api_version: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    manager: Manager,
    time: ModelTime,
    fields: FieldSet,
}

/// A field another manager owns and this one wanted to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldConflict {
    pub(crate) manager: String,
    pub(crate) field: String,
}

impl Ownership {
    /// A new object belongs to who made it.
    pub(crate) fn of_new(value: &Value, manager: Manager, now: ModelTime) -> Self {
        let mut fields = FieldSet::new();
        collect(value, &mut String::new(), &mut fields);
        Self { entries: vec![Entry { manager, time: now, fields }] }
    }

    /// Whether anybody ever applied: only then do the entries show in the object.
    pub(crate) fn has_applied(&self) -> bool {
        self.entries.iter().any(|entry| entry.manager.operation == Operation::Apply)
    }

    /// What is changed by an ordinary write changes hands.
    pub(crate) fn after_update(
        self: &Arc<Self>,
        old: &Value,
        new: &Value,
        manager: &Manager,
        now: ModelTime,
    ) -> Arc<Self> {
        let mut difference = Difference::default();
        difference.walk(old, new, &mut String::new());
        // The common case, a field changed again by its owner, is shared instead of copied.
        let settled = |entry: &Entry| {
            if entry.manager == *manager {
                difference.changed.is_subset(&entry.fields)
            } else {
                difference.changed.is_disjoint(&entry.fields)
            }
        };
        let is_known = difference.changed.is_empty() || self.entries.iter().any(|entry| entry.manager == *manager);
        if difference.removed.is_empty() && is_known && self.entries.iter().all(settled) {
            return Arc::clone(self);
        }
        let mut next = Self::clone(self);
        for entry in &mut next.entries {
            let own = entry.manager == *manager;
            entry
                .fields
                .retain(|path| !difference.removed.contains(path) && (own || !difference.changed.contains(path)));
        }
        if !difference.changed.is_empty() {
            match next.entries.iter_mut().find(|entry| entry.manager == *manager) {
                Some(entry) => {
                    entry.fields.append(&mut difference.changed);
                    entry.time = now;
                }
                None => next.entries.push(Entry { manager: manager.clone(), time: now, fields: difference.changed }),
            }
        }
        next.entries.retain(|entry| !entry.fields.is_empty());
        Arc::new(next)
    }

    /// Lays what `manager` declares over the live object.
    ///
    /// # Errors
    /// Every field that another manager owns with a different value, unless forced.
    pub(crate) fn apply(
        &self,
        live: &Value,
        declared: &Value,
        manager: &Manager,
        force: bool,
        now: ModelTime,
    ) -> Result<(Value, Self), Vec<FieldConflict>> {
        let mut wanted = FieldSet::new();
        collect(declared, &mut String::new(), &mut wanted);
        let mut merged = live.clone();
        overlay(&mut merged, declared, None);
        let mut difference = Difference::default();
        difference.walk(live, &merged, &mut String::new());

        let mut next = self.clone();
        let mut conflicts = Vec::new();
        for entry in next.entries.iter_mut().filter(|entry| entry.manager != *manager) {
            let lost: Vec<String> = entry
                .fields
                .iter()
                .filter(|path| difference.changed.contains(*path) || difference.removed.contains(*path))
                .cloned()
                .collect();
            for path in &lost {
                conflicts.push(FieldConflict { manager: entry.manager.shown(), field: shown(path) });
                entry.fields.remove(path);
            }
        }
        if !conflicts.is_empty() && !force {
            return Err(conflicts);
        }

        let before: FieldSet = next
            .entries
            .iter()
            .filter(|entry| entry.manager == *manager)
            .flat_map(|entry| entry.fields.iter().cloned())
            .collect();
        next.entries.retain(|entry| entry.manager != *manager);
        // Whole elements first: with its key gone an element could not be found any more.
        let mut dropped: Vec<&String> = before.difference(&wanted).collect();
        dropped.sort_by_key(|path| !path.ends_with(ELEMENT));
        for path in dropped {
            let prefix = path.strip_suffix(ELEMENT).unwrap_or(path);
            let is_needed = |owned: &String| owned == path || (path.ends_with(ELEMENT) && owned.starts_with(prefix));
            if !wanted.iter().any(is_needed) && !next.entries.iter().any(|entry| entry.fields.iter().any(is_needed)) {
                remove_path(&mut merged, path);
            }
        }
        if !wanted.is_empty() {
            next.entries.push(Entry { manager: manager.clone(), time: now, fields: wanted });
        }
        next.entries.retain(|entry| !entry.fields.is_empty());
        Ok((merged, next))
    }

    /// As `metadata.managedFields` shows it.
    pub(crate) fn to_managed_fields(&self) -> Value {
        self.entries
            .iter()
            .map(|entry| {
                let mut tree = json!({});
                for path in &entry.fields {
                    let mut place = &mut tree;
                    for step in path.split(STEP) {
                        place = object(place).entry(step).or_insert_with(|| json!({}));
                    }
                }
                let mut shown = json!({
                    "manager": entry.manager.name,
                    "operation": match entry.manager.operation {
                        Operation::Apply => "Apply",
                        Operation::Update => "Update",
                    },
                    "apiVersion": entry.manager.api_version,
                    "time": entry.time.rfc3339(),
                    "fieldsType": "FieldsV1",
                    "fieldsV1": tree,
                });
                if !entry.manager.subresource.is_empty() {
                    shown["subresource"] = Value::from(entry.manager.subresource.clone());
                }
                shown
            })
            .collect::<Vec<_>>()
            .into()
    }
}

impl Ownership {
    /// Whether both say the same of every manager; when it was last said, and in which order, is no difference.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        let owns = |entry: &Entry, of: &Self| {
            of.entries.iter().any(|own| own.manager == entry.manager && own.fields == entry.fields)
        };
        self.entries.len() == other.entries.len() && self.entries.iter().all(|entry| owns(entry, other))
    }
}

impl Manager {
    fn shown(&self) -> String {
        let mut shown = format!("\"{}\"", self.name);
        if !self.subresource.is_empty() {
            shown.push_str(&format!(" with subresource \"{}\"", self.subresource));
        }
        if self.operation == Operation::Update {
            shown.push_str(&format!(" using {}", self.api_version));
        }
        shown
    }
}

/// Paths whose value came or changed, and paths that went.
#[derive(Default)]
struct Difference {
    changed: FieldSet,
    removed: FieldSet,
}

impl Difference {
    /// Walks both at once, so that equal parts cost one comparison and no allocation.
    fn walk(&mut self, old: &Value, new: &Value, path: &mut String) {
        if old == new {
            return;
        }
        match (old, new) {
            (Value::Object(before), Value::Object(after)) => {
                for (key, value) in after {
                    if is_bookkeeping(path, key) {
                        continue;
                    }
                    let length = push(path, &format!("f:{key}"));
                    match before.get(key) {
                        Some(earlier) => self.walk(earlier, value, path),
                        None => collect(value, path, &mut self.changed),
                    }
                    path.truncate(length);
                }
                for (key, value) in before {
                    if !after.contains_key(key) && !is_bookkeeping(path, key) {
                        let length = push(path, &format!("f:{key}"));
                        collect(value, path, &mut self.removed);
                        path.truncate(length);
                    }
                }
            }
            (Value::Array(before), Value::Array(after)) if is_keyed(path, before) && is_keyed(path, after) => {
                let before = keyed(path, before);
                let after = keyed(path, after);
                for (key, value) in &after {
                    let length = push(path, key);
                    match before.iter().find(|(other, _)| other == key) {
                        Some((_, earlier)) => self.walk(earlier, value, path),
                        None => collect_element(value, path, &mut self.changed),
                    }
                    path.truncate(length);
                }
                for (key, value) in &before {
                    if !after.iter().any(|(other, _)| other == key) {
                        let length = push(path, key);
                        collect_element(value, path, &mut self.removed);
                        path.truncate(length);
                    }
                }
            }
            _ => {
                collect(new, path, &mut self.changed);
                let mut before = FieldSet::new();
                collect(old, path, &mut before);
                self.removed.extend(before.into_iter().filter(|gone| !self.changed.contains(gone)));
            }
        }
    }
}

/// Adds the paths of all leaves under `value`.
fn collect(value: &Value, path: &mut String, into: &mut FieldSet) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                if !is_bookkeeping(path, key) {
                    let length = push(path, &format!("f:{key}"));
                    collect(value, path, into);
                    path.truncate(length);
                }
            }
        }
        Value::Array(items) if !items.is_empty() && is_keyed(path, items) => {
            for (key, value) in keyed(path, items) {
                let length = push(path, &key);
                collect_element(value, path, into);
                path.truncate(length);
            }
        }
        Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            if !path.is_empty() {
                into.insert(path.clone());
            }
        }
    }
}

fn collect_element(value: &Value, path: &mut String, into: &mut FieldSet) {
    if value.is_object() {
        let length = push(path, ELEMENT);
        into.insert(path.clone());
        path.truncate(length);
        collect(value, path, into);
    } else {
        into.insert(path.clone());
    }
}

/// Fields that identify or are kept by the server belong to nobody.
fn is_bookkeeping(path: &str, key: &str) -> bool {
    match path {
        "" => matches!(key, "apiVersion" | "kind"),
        "f:metadata" => matches!(
            key,
            "name"
                | "namespace"
                | "uid"
                | "resourceVersion"
                | "creationTimestamp"
                | "generation"
                | "generateName"
                | "managedFields"
                | "deletionTimestamp"
                | "deletionGracePeriodSeconds"
                | "selfLink"
        ),
        _ => false,
    }
}

fn push(path: &mut String, step: &str) -> usize {
    let length = path.len();
    if length > 0 {
        path.push(STEP);
    }
    path.push_str(step);
    length
}

fn field_name(path: &str) -> &str {
    path.rsplit(STEP).next().and_then(|step| step.strip_prefix("f:")).unwrap_or("")
}

fn is_keyed(path: &str, items: &[Value]) -> bool {
    let field = field_name(path);
    is_set(field) || merge_keys(field, items).is_some()
}

fn keyed<'a>(path: &str, items: &'a [Value]) -> Vec<(String, &'a Value)> {
    let field = field_name(path);
    let keys = merge_keys(field, items);
    items
        .iter()
        .map(|item| match keys {
            Some(keys) => (format!("k:{}", element_key(item, keys)), item),
            None => (format!("v:{}", shown_value(item)), item),
        })
        .collect()
}

/// Lays declared values over live ones: objects by field, keyed lists by key, sets by union.
fn overlay(live: &mut Value, declared: &Value, field: Option<&str>) {
    match (live, declared) {
        (Value::Object(map), Value::Object(new)) => {
            for (key, value) in new {
                match map.get_mut(key) {
                    Some(place) => overlay(place, value, Some(key)),
                    None => {
                        map.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(items), Value::Array(new)) => {
            let field = field.unwrap_or("");
            if is_set(field) {
                for value in new {
                    if !items.contains(value) {
                        items.push(value.clone());
                    }
                }
            } else if let Some(keys) = merge_keys(field, new) {
                for value in new {
                    let key = element_key(value, keys);
                    match items.iter_mut().find(|item| element_key(item, keys) == key) {
                        Some(item) => overlay(item, value, None),
                        None => items.push(value.clone()),
                    }
                }
            } else {
                items.clone_from(new);
            }
        }
        (live, declared) => live.clone_from(declared),
    }
}

fn remove_path(value: &mut Value, path: &str) {
    let steps: Vec<&str> = path.split(STEP).collect();
    remove_steps(value, &steps, "");
}

/// Removes what the steps lead to; maps emptied by it go too.
fn remove_steps(value: &mut Value, steps: &[&str], field: &str) {
    let Some((first, rest)) = steps.split_first() else {
        return;
    };
    if let Some(key) = first.strip_prefix("f:") {
        let Some(map) = value.as_object_mut() else {
            return;
        };
        if rest.is_empty() {
            map.remove(key);
            return;
        }
        let emptied = map.get_mut(key).is_some_and(|inner| {
            remove_steps(inner, rest, key);
            inner.as_object().is_some_and(Map::is_empty) || inner.as_array().is_some_and(Vec::is_empty)
        });
        if emptied {
            map.remove(key);
        }
        return;
    }
    let Some(items) = value.as_array_mut() else {
        return;
    };
    let keys = merge_keys(field, items);
    let position = items.iter().position(|item| match keys {
        Some(keys) => first.strip_prefix("k:").is_some_and(|wanted| element_key(item, keys) == wanted),
        None => first.strip_prefix("v:").is_some_and(|wanted| shown_value(item).as_str() == wanted),
    });
    if let Some(position) = position {
        let is_key = |step: &str| keys.is_some_and(|keys| keys.iter().any(|key| step.strip_prefix("f:") == Some(key)));
        if rest.is_empty() || rest == [ELEMENT] {
            items.remove(position);
        } else if !matches!(rest, [only] if is_key(only)) {
            remove_steps(&mut items[position], rest, "");
        }
    }
}

/// A plain value as a step of a path carries it: its JSON.
fn shown_value(value: &Value) -> String {
    value.to_string()
}

/// A path as people read it: `.spec.template.spec.containers[name="a"].image`.
fn shown(path: &str) -> String {
    let mut text = String::new();
    for step in path.split(STEP) {
        if let Some(field) = step.strip_prefix("f:") {
            text.push('.');
            text.push_str(field);
        } else if let Some(key) = step.strip_prefix("k:") {
            let pairs = serde_json::from_str::<Map<String, Value>>(key).unwrap_or_default();
            let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            text.push_str(&format!("[{}]", pairs.join(",")));
        } else if let Some(value) = step.strip_prefix("v:") {
            text.push_str(&format!("[={value}]"));
        }
    }
    text
}

/// What a request declares, without what only identifies the object.
pub(crate) fn declared_part(body: &Value) -> Value {
    let mut declared = body.clone();
    if let Some(metadata) = declared.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| !is_bookkeeping("f:metadata", key));
    }
    if at(&declared, &["metadata"]).and_then(Value::as_object).is_some_and(Map::is_empty) {
        object(&mut declared).remove("metadata");
    }
    declared
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(name: &str, operation: Operation) -> Manager {
        Manager { name: name.to_owned(), operation, subresource: String::new(), api_version: "apps/v1".to_owned() }
    }

    fn containers(image: &str) -> Value {
        json!({"spec": {"replicas": 3, "containers": [{"name": "a", "image": image}]}})
    }

    #[test]
    fn an_apply_over_anothers_field_names_manager_and_field() {
        let live = containers("one");
        let owned = Ownership::of_new(&live, manager("helm", Operation::Update), ModelTime(0));
        let conflicts = owned
            .apply(&live, &containers("two"), &manager("pilot", Operation::Apply), false, ModelTime(1))
            .expect_err("helm owns the image");
        assert_eq!(
            conflicts,
            [FieldConflict {
                manager: "\"helm\" using apps/v1".to_owned(),
                field: ".spec.containers[name=\"a\"].image".to_owned()
            }]
        );
    }

    #[test]
    fn equal_values_are_shared_and_force_takes_over() {
        let live = containers("one");
        let owned = Ownership::of_new(&live, manager("helm", Operation::Apply), ModelTime(0));
        let pilot = manager("pilot", Operation::Apply);
        let (same, shared) = owned.apply(&live, &live, &pilot, false, ModelTime(1)).expect("no conflict");
        assert_eq!(same, live);
        assert_eq!(shared.entries.len(), 2);
        let (forced, _) = owned.apply(&live, &containers("two"), &pilot, true, ModelTime(1)).expect("forced");
        assert_eq!(forced, containers("two"));
    }

    #[test]
    fn what_is_no_longer_declared_goes_unless_another_owns_it() {
        let pilot = manager("pilot", Operation::Apply);
        let first = json!({"metadata": {"annotations": {"a": "1", "b": "2"}}});
        let owned = Ownership::of_new(&first, pilot.clone(), ModelTime(0));
        let second = json!({"metadata": {"annotations": {"a": "1"}}});
        let (merged, next) = owned.apply(&first, &second, &pilot, false, ModelTime(1)).expect("own fields");
        assert_eq!(merged, second);
        let (merged, _) = next.apply(&merged, &json!({}), &pilot, false, ModelTime(2)).expect("own fields");
        assert_eq!(merged, json!({}));
    }

    #[test]
    fn a_list_element_goes_with_its_last_owner() {
        let pilot = manager("pilot", Operation::Apply);
        let helm = manager("helm", Operation::Apply);
        let live = containers("one");
        let owned = Ownership::of_new(&live, helm.clone(), ModelTime(0));
        let mine = json!({"spec": {"containers": [{"name": "b", "image": "x"}]}});
        let (live, owned) = owned.apply(&live, &mine, &pilot, false, ModelTime(1)).expect("another element");
        assert_eq!(live["spec"]["containers"].as_array().expect("list").len(), 2);
        let (live, _) = owned.apply(&live, &json!({}), &pilot, false, ModelTime(2)).expect("own element");
        assert_eq!(live, containers("one"));
    }

    #[test]
    fn an_ordinary_update_takes_the_fields_it_changes() {
        let live = containers("one");
        let owned = Ownership::of_new(&live, manager("helm", Operation::Apply), ModelTime(0));
        let mut scaled = live.clone();
        scaled["spec"]["replicas"] = json!(4);
        let next = Arc::new(owned).after_update(&live, &scaled, &manager("hpa", Operation::Update), ModelTime(1));
        let conflicts = next
            .apply(&scaled, &live, &manager("helm", Operation::Apply), false, ModelTime(2))
            .expect_err("hpa owns the size now");
        assert_eq!(conflicts.len(), 1);
        assert_eq!(conflicts[0].field, ".spec.replicas");
    }
}
