//! The three patches that carry no ownership: JSON patch, merge patch, strategic merge patch.

use serde_json::{Map, Value};

use super::error::{ApiError, Reason};
use super::merge_keys::{element_key, is_set, merge_keys};

/// RFC 6902.
///
/// # Errors
/// 400 for an unreadable patch, 422 for a failed `test` or a path that is not there.
pub(crate) fn json_patch(value: &mut Value, patch: &Value) -> Result<(), ApiError> {
    let Some(operations) = patch.as_array() else {
        return Err(ApiError::bad_request("a JSON patch must be a list of operations"));
    };
    for operation in operations {
        let path = operation
            .get("path")
            .and_then(Value::as_str)
            .ok_or_else(|| ApiError::bad_request("a JSON patch operation must have a path"))?;
        let given = || operation.get("value").cloned().unwrap_or(Value::Null);
        let from = || {
            operation
                .get("from")
                .and_then(Value::as_str)
                .ok_or_else(|| ApiError::bad_request("a JSON patch move or copy must say from where"))
        };
        match operation.get("op").and_then(Value::as_str).unwrap_or("") {
            "add" => add(value, path, given())?,
            "remove" => {
                // Real servers do not mind that what is to go is not there, where its parent is a map.
                if value.pointer(path).is_some() || !is_in_a_map(value, path) {
                    take(value, path)?;
                }
            }
            "replace" => {
                match value.pointer_mut(path) {
                    Some(place) => *place = given(),
                    // Real servers do as if it had been there, where its parent is a map.
                    None => add(value, path, given())?,
                }
            }
            "move" => {
                let moved = take(value, from()?)?;
                add(value, path, moved)?;
            }
            "copy" => {
                let from = from()?;
                let copied = value
                    .pointer(from)
                    .cloned()
                    .ok_or_else(|| unprocessable(&format!("doc is missing path: {from}")))?;
                add(value, path, copied)?;
            }
            "test" => {
                let found = value.pointer(path).unwrap_or(&Value::Null);
                if *found != given() {
                    return Err(unprocessable(&format!("testing value {path} failed: test failed")));
                }
            }
            other => {
                return Err(unprocessable(&format!("unexpected kind of JSON patch operation: {other:?}")));
            }
        }
    }
    Ok(())
}

/// What real servers answer, and the cause, which they keep to themselves.
fn unprocessable(cause: &str) -> ApiError {
    ApiError::new(Reason::Invalid, format!("the server rejected our request due to an error in our request: {cause}"))
}

fn is_in_a_map(value: &Value, path: &str) -> bool {
    path.rsplit_once('/').and_then(|(parent, _)| value.pointer(parent)).is_some_and(Value::is_object)
}

fn split(path: &str) -> Result<(&str, String), ApiError> {
    let (parent, last) =
        path.rsplit_once('/').ok_or_else(|| ApiError::bad_request(format!("unreadable JSON pointer {path:?}")))?;
    Ok((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(value: &mut Value, path: &str, new: Value) -> Result<(), ApiError> {
    if path.is_empty() {
        *value = new;
        return Ok(());
    }
    let (parent, last) = split(path)?;
    let missing = || unprocessable(&format!("add operation does not apply: doc is missing path: {path}"));
    let place = value.pointer_mut(parent).ok_or_else(missing)?;
    if let Some(map) = place.as_object_mut() {
        map.insert(last, new);
        return Ok(());
    }
    let items = place.as_array_mut().ok_or_else(missing)?;
    if last == "-" {
        items.push(new);
        return Ok(());
    }
    let index: usize = last.parse().map_err(|_| missing())?;
    if index > items.len() {
        return Err(missing());
    }
    items.insert(index, new);
    Ok(())
}

fn take(value: &mut Value, path: &str) -> Result<Value, ApiError> {
    let (parent, last) = split(path)?;
    let missing = || unprocessable(&format!("remove operation does not apply: doc is missing path: {path}"));
    let place = value.pointer_mut(parent).ok_or_else(missing)?;
    if let Some(map) = place.as_object_mut() {
        return map.remove(&last).ok_or_else(missing);
    }
    let items = place.as_array_mut().ok_or_else(missing)?;
    let index: usize = last.parse().map_err(|_| missing())?;
    if index < items.len() { Ok(items.remove(index)) } else { Err(missing()) }
}

/// RFC 7386.
pub(crate) fn merge_patch(value: &mut Value, patch: &Value) {
    let Some(changes) = patch.as_object() else {
        value.clone_from(patch);
        return;
    };
    let map = super::json::object(value);
    for (key, change) in changes {
        if change.is_null() {
            map.remove(key);
        } else {
            merge_patch(map.entry(key.as_str()).or_insert(Value::Null), change);
        }
    }
}

/// Kubernetes' own patch for built-in types: well-known lists are merged by key, with directives.
pub(crate) fn strategic_merge_patch(value: &mut Value, patch: &Value) {
    let Some(changes) = patch.as_object() else {
        value.clone_from(patch);
        return;
    };
    match changes.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            let mut kept = changes.clone();
            kept.remove("$patch");
            *value = Value::Object(kept);
            return;
        }
        Some("delete") => {
            *value = Value::Object(Map::new());
            return;
        }
        Some(_) | None => {}
    }
    let map = super::json::object(value);
    if let Some(retained) = changes.get("$retainKeys").and_then(Value::as_array) {
        map.retain(|key, _| retained.iter().any(|kept| kept == key));
    }
    for (key, change) in changes {
        if let Some(field) = key.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(items), Some(gone)) = (map.get_mut(field).and_then(Value::as_array_mut), change.as_array()) {
                items.retain(|item| !gone.contains(item));
            }
        } else if key.starts_with('$') {
            // `$setElementOrder/…` is honoured below, when the list has its new elements.
        } else if change.is_null() {
            map.remove(key);
        } else if let Some(new) = change.as_array() {
            let place = map.entry(key.as_str()).or_insert_with(|| Value::Array(Vec::new()));
            merge_list(key, place, new);
        } else {
            strategic_merge_patch(map.entry(key.as_str()).or_insert(Value::Null), change);
        }
    }
    for (key, order) in changes {
        if let Some(field) = key.strip_prefix("$setElementOrder/")
            && let (Some(items), Some(order)) = (map.get_mut(field).and_then(Value::as_array_mut), order.as_array())
        {
            reorder(field, items, order);
        }
    }
}

fn merge_list(field: &str, place: &mut Value, new: &[Value]) {
    let replaces = new.iter().any(|item| item.get("$patch").and_then(Value::as_str) == Some("replace"));
    let plain: Vec<Value> = new.iter().filter(|item| item.get("$patch").is_none()).cloned().collect();
    if !replaces && is_set(field) {
        let items = super::json::list(place, &[]).to_vec();
        // What is new comes first, as real servers have it.
        let mut merged: Vec<Value> = plain.into_iter().filter(|item| !items.contains(item)).collect();
        merged.extend(items);
        *place = Value::Array(merged);
        return;
    }
    // Strategic merge goes by the first key alone: a container port is its number, whatever the protocol.
    let keys = if replaces { None } else { merge_keys(field, new).map(|keys| &keys[..1]) };
    let (Some(keys), Some(items)) = (keys, place.as_array_mut()) else {
        *place = Value::Array(plain);
        return;
    };
    let mut added = Vec::new();
    for change in new {
        let key = element_key(change, keys);
        let position = items.iter().position(|item| element_key(item, keys) == key);
        match (position, change.get("$patch").and_then(Value::as_str)) {
            (Some(position), Some("delete")) => {
                items.remove(position);
            }
            (None, Some("delete")) => {}
            (Some(position), _) => strategic_merge_patch(&mut items[position], change),
            (None, _) => added.push(change.clone()),
        }
    }
    // What is new comes first, as real servers have it.
    items.splice(0..0, added);
}

/// Elements named by `order` come first and in that order, the others keep theirs.
fn reorder(field: &str, items: &mut [Value], order: &[Value]) {
    let keys = merge_keys(field, order).map_or(&[][..], |keys| &keys[..1]);
    let rank = |item: &Value| {
        order
            .iter()
            .position(|wanted| {
                if keys.is_empty() { wanted == item } else { element_key(wanted, keys) == element_key(item, keys) }
            })
            .unwrap_or(order.len())
    };
    items.sort_by_key(rank);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_json_patch_adds_removes_replaces_moves_and_tests() {
        let mut value = json!({"a": {"b": [1, 3]}, "c~/d": 1});
        let patch = json!([
            {"op": "test", "path": "/a/b/1", "value": 3},
            {"op": "add", "path": "/a/b/1", "value": 2},
            {"op": "add", "path": "/a/b/-", "value": 4},
            {"op": "replace", "path": "/c~0~1d", "value": 2},
            {"op": "move", "from": "/c~0~1d", "path": "/e"},
            {"op": "remove", "path": "/a/b/0"},
        ]);
        json_patch(&mut value, &patch).expect("applies");
        assert_eq!(value, json!({"a": {"b": [2, 3, 4]}, "e": 2}));
    }

    #[test]
    fn a_failed_test_is_422() {
        let error = json_patch(&mut json!({"a": 1}), &json!([{"op": "test", "path": "/a", "value": 2}]));
        assert_eq!(error.expect_err("differs").reason.code(), 422);
        let error = json_patch(&mut json!({}), &json!([{"op": "replace", "path": "/a/b", "value": 2}]));
        assert_eq!(error.expect_err("absent").reason.code(), 422);
    }

    #[test]
    fn a_merge_patch_removes_by_null_and_replaces_lists() {
        let mut value = json!({"a": {"b": 1, "c": 2}, "l": [1, 2]});
        merge_patch(&mut value, &json!({"a": {"b": null, "d": {"e": null, "f": 1}}, "l": [3]}));
        assert_eq!(value, json!({"a": {"c": 2, "d": {"f": 1}}, "l": [3]}));
    }

    #[test]
    fn a_strategic_patch_merges_containers_by_name() {
        let mut value =
            json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]});
        strategic_merge_patch(
            &mut value,
            &json!({
                "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
                "containers": [
                    {"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}]},
                    {"name": "b", "$patch": "delete"},
                    {"name": "c"},
                ],
            }),
        );
        assert_eq!(
            value,
            json!({"containers": [
                {"name": "c"},
                {"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]},
            ]})
        );
    }
}
