//! Which lists are merged by key, as the built-in types declare it (`+listMapKey`, `patchMergeKey`).

use serde_json::{Map, Value};

/// The keys that identify an element of the list under `field`; `None` where the list is replaced whole.
pub(crate) fn merge_keys(field: &str, items: &[Value]) -> Option<&'static [&'static str]> {
    let keys: &'static [&'static str] = match field {
        "containers" | "initContainers" | "ephemeralContainers" | "volumes" | "env" | "imagePullSecrets" => &["name"],
        "volumeMounts" => &["mountPath"],
        "volumeDevices" => &["devicePath"],
        "ports" => {
            if items.iter().any(|item| item.get("containerPort").is_some()) {
                &["containerPort", "protocol"]
            } else {
                &["port", "protocol"]
            }
        }
        "conditions" => &["type"],
        "ownerReferences" => &["uid"],
        "hostAliases" | "podIPs" => &["ip"],
        "taints" => &["key", "effect"],
        "topologySpreadConstraints" => &["topologyKey", "whenUnsatisfiable"],
        _ => return None,
    };
    // Elements without the key (a custom resource using the same field name) make the list atomic.
    items.iter().all(|item| item.get(keys[0]).is_some()).then_some(keys)
}

/// Whether the list under `field` is a set of plain values.
pub(crate) fn is_set(field: &str) -> bool {
    field == "finalizers"
}

/// The identity of one element, as canonical JSON.
pub(crate) fn element_key(item: &Value, keys: &[&str]) -> String {
    let mut key = Map::new();
    for name in keys {
        match item.get(*name) {
            Some(value) => {
                key.insert((*name).to_owned(), value.clone());
            }
            None if *name == "protocol" => {
                key.insert((*name).to_owned(), Value::from("TCP"));
            }
            None => {}
        }
    }
    Value::Object(key).to_string()
}
