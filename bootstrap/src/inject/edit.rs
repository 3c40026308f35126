//! Changes of a tree that can be taken back: each remembers what was there before.

use crate::manifest::tree::{Map, Value, map};

/// One step into a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a list: the item in which this name has this text.
    Item {
        /// The name that tells items apart: `name`, or `mountPath`.
        key: String,
        /// Its text.
        is: String,
    },
}

impl Step {
    /// Into a mapping.
    pub fn key(key: &str) -> Self {
        Self::Key(key.to_owned())
    }

    /// To the item with this name.
    pub fn named(name: &str) -> Self {
        Self::item("name", name)
    }

    /// To the item in which this name has this text.
    pub fn item(key: &str, is: &str) -> Self {
        Self::Item { key: key.to_owned(), is: is.to_owned() }
    }
}

/// Steps as people write them: `spec.template.spec.containers[database].args`.
pub fn written(steps: &[Step]) -> String {
    let mut out = String::new();
    for step in steps {
        match step {
            Step::Key(key) if out.is_empty() => out.push_str(key),
            Step::Key(key) => {
                out.push('.');
                out.push_str(key);
            }
            Step::Item { is, .. } => out.push_str(&format!("[{is}]")),
        }
    }
    out
}

/// Steps that are all names of mappings.
pub fn keys(names: &[&str]) -> Vec<Step> {
    names.iter().map(|name| Step::key(name)).collect()
}

/// What was there before a change.
#[derive(Debug, Clone, PartialEq)]
enum Before {
    /// Nothing.
    Absent,
    /// Nothing; it was made to hold what was put into it, and goes when it is empty again.
    Made,
    /// This, in this place among its neighbours.
    Was {
        /// The place.
        place: usize,
        /// The value.
        value: Value,
    },
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    at: Vec<Step>,
    before: Before,
}

/// A tree under change.
pub struct Editor {
    root: Value,
    log: Vec<Change>,
}

impl Editor {
    /// Begins with nothing changed.
    pub fn new(object: Map) -> Self {
        Self { root: Value::Map(object), log: Vec::new() }
    }

    /// The tree as it stands.
    pub fn root(&self) -> &Value {
        &self.root
    }

    /// Ends: the tree, and the changes in their order.
    pub fn finish(self) -> (Map, Vec<Change>) {
        match self.root {
            Value::Map(map) => (map, self.log),
            Value::Nothing
            | Value::Flag(_)
            | Value::Whole(_)
            | Value::Fraction(_)
            | Value::Text(_)
            | Value::List(_) => (Map::default(), self.log),
        }
    }

    /// Gives a name its value. Mappings on the way are made. Does nothing where an item on the way is missing.
    pub fn set(&mut self, at: &[Step], value: impl Into<Value>) {
        let value = value.into();
        let Some((Step::Key(key), parent)) = at.split_last() else { return };
        if find(&self.root, at) == Some(&value) {
            return;
        }
        self.make(parent, &Value::Map(Map::default()));
        let Some(map) = find_mut(&mut self.root, parent).and_then(Value::map_mut) else { return };
        let place = map.place(key).unwrap_or_default();
        let before = match map.set(key, value) {
            Some(value) => Before::Was { place, value },
            None => Before::Absent,
        };
        self.log.push(Change { at: at.to_vec(), before });
    }

    /// Takes a name away. What it had is given back.
    pub fn remove(&mut self, at: &[Step]) -> Option<Value> {
        let (Step::Key(key), parent) = at.split_last()? else { return None };
        let map = find_mut(&mut self.root, parent)?.map_mut()?;
        let place = map.place(key)?;
        let value = map.remove(key)?;
        self.log.push(Change { at: at.to_vec(), before: Before::Was { place, value: value.clone() } });
        Some(value)
    }

    /// Puts an item at the end of a list, which is made where there is none. `key` tells its items apart.
    pub fn append(&mut self, at: &[Step], key: &str, item: Map) {
        let Some(is) = item.get(key).and_then(Value::text).map(str::to_owned) else { return };
        self.make(at, &Value::List(Vec::new()));
        if let Some(Value::List(items)) = find_mut(&mut self.root, at) {
            items.push(Value::Map(item));
            let mut at = at.to_vec();
            at.push(Step::item(key, &is));
            self.log.push(Change { at, before: Before::Absent });
        }
    }

    /// Makes what is missing on the way to here; the last of it is `empty`.
    pub fn make(&mut self, at: &[Step], empty: &Value) {
        for depth in 1..=at.len() {
            let (here, Some((Step::Key(key), parent))) = (&at[..depth], at[..depth].split_last()) else { continue };
            let fresh = if depth == at.len() { empty.clone() } else { Value::Map(Map::default()) };
            let before = match find(&self.root, here) {
                None => Before::Made,
                Some(Value::Nothing) => {
                    let place = find(&self.root, parent).and_then(Value::map).and_then(|map| map.place(key));
                    Before::Was { place: place.unwrap_or_default(), value: Value::Nothing }
                }
                Some(_) => continue,
            };
            let Some(map) = find_mut(&mut self.root, parent).and_then(Value::map_mut) else { return };
            map.set(key, fresh);
            self.log.push(Change { at: here.to_vec(), before });
        }
    }
}

/// What lies at the end of these steps.
pub fn find<'v>(root: &'v Value, at: &[Step]) -> Option<&'v Value> {
    at.iter().try_fold(root, |value, step| match (step, value) {
        (Step::Key(key), Value::Map(map)) => map.get(key),
        (Step::Item { key, is }, Value::List(items)) => {
            items.iter().find(|item| item.text_at(&[key]) == Some(is.as_str()))
        }
        (Step::Key(_) | Step::Item { .. }, _) => None,
    })
}

fn find_mut<'v>(root: &'v mut Value, at: &[Step]) -> Option<&'v mut Value> {
    at.iter().try_fold(root, |value, step| match (step, value) {
        (Step::Key(key), Value::Map(map)) => map.get_mut(key),
        (Step::Item { key, is }, Value::List(items)) => {
            items.iter_mut().find(|item| item.text_at(&[key]) == Some(is.as_str()))
        }
        (Step::Key(_) | Step::Item { .. }, _) => None,
    })
}

/// Takes changes back, the last one first. What cannot be put back, because its place is gone, is told.
pub fn undo(object: Map, log: &[Change]) -> (Map, Vec<String>) {
    let mut root = Value::Map(object);
    let mut lost = Vec::new();
    for Change { at, before } in log.iter().rev() {
        let Some((last, parent)) = at.split_last() else { continue };
        let holder = find_mut(&mut root, parent);
        match (last, holder, before) {
            (Step::Key(key), Some(Value::Map(map)), Before::Was { place, value }) => match map.get_mut(key) {
                Some(now) => *now = value.clone(),
                None => map.insert(*place, key, value.clone()),
            },
            (Step::Key(key), Some(Value::Map(map)), Before::Absent) => {
                map.remove(key);
            }
            (Step::Key(key), Some(Value::Map(map)), Before::Made) => {
                let empty = match map.get(key) {
                    Some(Value::Map(inner)) => inner.is_empty(),
                    Some(Value::List(items)) => items.is_empty(),
                    Some(_) | None => false,
                };
                if empty {
                    map.remove(key);
                }
            }
            (Step::Item { key, is }, Some(Value::List(items)), _) => {
                items.retain(|item| item.text_at(&[key]) != Some(is.as_str()));
            }
            (_, _, Before::Was { .. }) => lost.push(written(at)),
            (_, _, Before::Absent | Before::Made) => {}
        }
    }
    match root {
        Value::Map(map) => (map, lost),
        Value::Nothing | Value::Flag(_) | Value::Whole(_) | Value::Fraction(_) | Value::Text(_) | Value::List(_) => {
            (Map::default(), lost)
        }
    }
}

/// The form in which changes are kept in the annotation.
pub fn record(log: &[Change]) -> Value {
    let change = |Change { at, before }: &Change| {
        let step = |step: &Step| match step {
            Step::Key(key) => Value::from(key),
            Step::Item { key, is } => {
                let mut item = Map::default();
                item.set(key, is);
                Value::Map(item)
            }
        };
        let at: Vec<Value> = at.iter().map(step).collect();
        match before {
            Before::Absent => map! { "at": at },
            Before::Made => map! { "at": at, "made": true },
            Before::Was { place, value } => {
                map! { "at": at, "place": u64::try_from(*place).unwrap_or_default(), "was": value.clone() }
            }
        }
    };
    Value::from(map! { "version": 1, "changes": log.iter().map(change).collect::<Vec<_>>() })
}

/// Changes from that form; none where it is none of ours.
pub fn recorded(value: &Value) -> Option<Vec<Change>> {
    if value.at(&["version"])?.whole()? != 1 {
        return None;
    }
    let Value::List(changes) = value.at(&["changes"])? else { return None };
    changes
        .iter()
        .map(|change| {
            let steps = |step: &Value| match step {
                Value::Text(key) => Some(Step::Key(key.clone())),
                Value::Map(map) => match map.entries() {
                    [one] => Some(Step::item(&one.key, one.value.text()?)),
                    _ => None,
                },
                Value::Nothing | Value::Flag(_) | Value::Whole(_) | Value::Fraction(_) | Value::List(_) => None,
            };
            let at: Vec<Step> = change.list_at(&["at"]).iter().map(steps).collect::<Option<_>>()?;
            let before = match (change.at(&["was"]), change.at(&["made"])) {
                (Some(value), None) => {
                    let place = usize::try_from(change.at(&["place"])?.whole()?).ok()?;
                    Before::Was { place, value: value.clone() }
                }
                (None, Some(Value::Flag(true))) => Before::Made,
                (None, None) => Before::Absent,
                (_, Some(_)) => return None,
            };
            (!at.is_empty()).then_some(Change { at, before })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tree::list;

    #[test]
    fn changes_are_taken_back_to_the_letter_also_from_their_record() {
        let before = map! {
            "a": 1, "gone": map! { "x": list!["y"] }, "z": Value::Nothing,
            "list": list![map! { "name": "n", "args": list!["old"] }],
        };
        let mut editor = Editor::new(before.clone());
        editor.set(&keys(&["a"]), 2);
        editor.set(&keys(&["new", "deep", "value"]), "v");
        editor.remove(&keys(&["gone"]));
        editor.append(&keys(&["list"]), "name", map! { "name": "m" });
        editor.append(&keys(&["z"]), "name", map! { "name": "m" });
        editor.set(&[Step::key("list"), Step::named("n"), Step::key("args")], list!["new"]);
        editor.set(&keys(&["new", "deep", "value"]), "w");
        let (after, log) = editor.finish();
        assert_eq!(Value::from(after.clone()).at(&["new", "deep", "value"]).and_then(Value::text), Some("w"));
        assert_eq!(recorded(&record(&log)).as_ref(), Some(&log));
        assert_eq!(undo(after, &log), (before, Vec::new()));
    }

    #[test]
    fn what_somebody_added_since_stays_and_what_has_lost_its_place_is_told() {
        let mut editor = Editor::new(map! { "list": list![map! { "name": "n", "args": 1 }] });
        editor.append(&keys(&["more"]), "name", map! { "name": "ours" });
        editor.set(&[Step::key("list"), Step::named("n"), Step::key("args")], 2);
        let (mut after, log) = editor.finish();
        after.set("more", list![map! { "name": "ours" }, map! { "name": "theirs" }]);
        after.set("list", list![map! { "name": "renamed", "args": 2 }]);
        let (undone, lost) = undo(after, &log);
        assert_eq!(lost, ["list[n].args"]);
        assert_eq!(undone.get("more"), Some(&list![map! { "name": "theirs" }]));
    }
}
