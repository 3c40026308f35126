//! What of an answer matters: everything that two servers must have in common, nothing that only one run has.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::target::Answer;

/// Kinds that nobody but the script writes to: their revisions count its own writes.
const QUIET: [&str; 3] = ["ConfigMap", "Secret", "Lease"];

/// Names for what differs from run to run, in the order in which it appears: `uid 1`, `revision 2`.
pub(crate) struct Names {
    namespace: String,
    given: BTreeMap<(&'static str, String), usize>,
}

impl Names {
    pub(crate) fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), given: BTreeMap::new() }
    }

    fn of(&mut self, sort: &'static str, value: &str) -> Value {
        let next = 1 + self.given.keys().filter(|(other, _)| *other == sort).count();
        let number = *self.given.entry((sort, value.to_owned())).or_insert(next);
        Value::String(format!("{sort} {number}"))
    }

    /// A part of an answer, freed of what only this run has.
    pub(crate) fn part(&mut self, key: &str, value: &Value) -> Value {
        match value {
            Value::String(text) => self.text(key, text),
            Value::Array(items) => items.iter().map(|item| self.part(key, item)).collect::<Vec<_>>().into(),
            Value::Object(map) => {
                map.iter().map(|(key, value)| (key.clone(), self.part(key, value))).collect::<Map<_, _>>().into()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    fn text(&mut self, key: &str, text: &str) -> Value {
        let is_time =
            text.len() >= 20 && text.as_bytes()[4] == b'-' && text.as_bytes()[10] == b'T' && text.ends_with('Z');
        match key {
            _ if text == ABSENT => json!(ABSENT),
            "uid" => self.of("uid", text),
            "resourceVersion" => self.of("revision", text),
            "controller-revision-hash" | "currentRevision" | "updateRevision" => self.of("template", text),
            _ if is_time => json!("a time"),
            _ => Value::String(text.replace(&self.namespace, "NAMESPACE")),
        }
    }

    /// What every answer is looked at for.
    pub(crate) fn answer(&mut self, answer: &Answer) -> Map<String, Value> {
        let mut seen = Map::new();
        seen.insert("code".to_owned(), json!(answer.code));
        let body = &answer.body;
        if body["kind"] == "Status" {
            seen.append(&mut self.status(body));
        } else if let Some(items) = body["items"].as_array() {
            if body["kind"] == "ControllerRevisionList" {
                // Their names are digests, and listed by them.
                seen.insert("count".to_owned(), json!(items.len()));
            } else {
                let names: Vec<Value> = items.iter().map(|item| item["metadata"]["name"].clone()).collect();
                seen.insert("names".to_owned(), json!(names));
            }
            if body["metadata"]["continue"].as_str().is_some_and(|text| !text.is_empty()) {
                seen.insert("continues".to_owned(), json!(true));
            }
        } else if body["metadata"].is_object() {
            seen.append(&mut self.object(body));
        }
        seen
    }

    fn status(&mut self, body: &Value) -> Map<String, Value> {
        let mut seen = Map::new();
        seen.insert("status".to_owned(), body["status"].clone());
        if body["status"] == "Success" {
            if let Some(uid) = body["details"]["uid"].as_str() {
                seen.insert("uid".to_owned(), self.of("uid", uid));
            }
            return seen;
        }
        seen.insert("reason".to_owned(), body["reason"].clone());
        let mut causes: Vec<String> = body["details"]["causes"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|cause| {
                let word = |key: &str| cause[key].as_str().unwrap_or("").to_owned();
                format!("{} {}", word("reason"), word("field")).trim().to_owned()
            })
            .collect();
        causes.sort();
        if !causes.is_empty() {
            seen.insert("causes".to_owned(), json!(causes));
        }
        seen
    }

    fn object(&mut self, body: &Value) -> Map<String, Value> {
        let metadata = &body["metadata"];
        let mut seen = Map::new();
        seen.insert("kind".to_owned(), body["kind"].clone());
        if let Some(uid) = metadata["uid"].as_str() {
            seen.insert("uid".to_owned(), self.of("uid", uid));
        }
        if QUIET.iter().any(|kind| body["kind"] == *kind)
            && let Some(revision) = metadata["resourceVersion"].as_str()
        {
            seen.insert("revision".to_owned(), self.of("revision", revision));
        }
        for (key, as_key) in
            [("generation", "generation"), ("finalizers", "finalizers"), ("deletionGracePeriodSeconds", "grace")]
        {
            if !metadata[key].is_null() {
                seen.insert(as_key.to_owned(), metadata[key].clone());
            }
        }
        if !metadata["deletionTimestamp"].is_null() {
            seen.insert("deleting".to_owned(), json!(true));
        }
        seen
    }
}

/// What stands for a value that is not there.
const ABSENT: &str = "absent";

/// The values under a pointer in which `*` stands for every element; `"absent"` where there is none.
pub(crate) fn looked_up(value: &Value, pointer: &str) -> Value {
    if pointer == "/metadata/managedFields" {
        return owners(value);
    }
    match pointer.split_once("/*") {
        Some((list, rest)) => match value.pointer(list).and_then(Value::as_array) {
            Some(items) => items.iter().map(|item| looked_up(item, rest)).collect::<Vec<_>>().into(),
            None => json!(ABSENT),
        },
        None => value.pointer(pointer).cloned().unwrap_or(json!(ABSENT)),
    }
}

/// Who owns what, as `manager operation subresource: keys of the data`; sorted, as a real server sorts by the clock.
fn owners(value: &Value) -> Value {
    let mut owners: Vec<String> = value["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| {
            let word = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
            let data: Vec<&str> = entry["fieldsV1"]["f:data"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, _)| key.as_str())
                .filter(|key| *key != ".")
                .collect();
            format!("{} {} {}: {}", word("manager"), word("operation"), word("subresource"), data.join(" "))
        })
        .collect();
    owners.sort();
    json!(owners)
}
