//! Events exist once and are served under two groups; the fields are named differently in each.

use serde_json::{Map, Value};

/// (core/v1, events.k8s.io/v1)
const NAMES: [(&str, &str); 8] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("reportingInstance", "reportingInstance"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// As stored: core/v1. Works on whole objects and on merge patches.
pub(crate) fn to_core(value: &Value) -> Value {
    renamed(value, "v1", |name| NAMES.iter().find(|(_, new)| *new == name).map(|(core, _)| *core))
}

/// As events.k8s.io/v1 shows it.
pub(crate) fn to_new(value: &Value) -> Value {
    renamed(value, "events.k8s.io/v1", |name| NAMES.iter().find(|(core, _)| *core == name).map(|(_, new)| *new))
}

fn renamed(value: &Value, api_version: &str, name_of: impl Fn(&str) -> Option<&'static str>) -> Value {
    let Some(map) = value.as_object() else {
        return value.clone();
    };
    map.iter()
        .map(|(key, value)| {
            if key == "apiVersion" {
                (key.clone(), Value::from(api_version))
            } else {
                (name_of(key).map_or_else(|| key.clone(), str::to_owned), value.clone())
            }
        })
        .collect::<Map<_, _>>()
        .into()
}
