//! What the server refuses in an object: names, and fields that may not change.

use serde_json::Value;

use super::error::ApiError;
use super::json::{at, list, name, number, text};
use super::resource::{KindId, Resource};

/// Checks a new object.
///
/// # Errors
/// 422 naming the field.
pub(crate) fn on_create(kind: KindId, resource: &Resource, value: &Value) -> Result<(), ApiError> {
    let name = name(value);
    let invalid =
        |field: &str, why: String| Err(ApiError::invalid(&resource.kind, &resource.subject(name), field, &why));
    if !is_subdomain(name) {
        return invalid(
            "metadata.name",
            format!(
                "Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
            ),
        );
    }
    match kind {
        KindId::PODS if list(value, &["spec", "containers"]).is_empty() => {
            invalid("spec.containers", "Required value".to_owned())
        }
        KindId::STATEFUL_SETS => {
            let selector = super::selector::Selector::from_label_selector(
                at(value, &["spec", "selector"]).unwrap_or(&Value::Null),
            );
            if selector.is_empty() {
                return invalid("spec.selector", "Required value".to_owned());
            }
            if !selector.matches(&value["spec"]["template"]) {
                return invalid(
                    "spec.template.metadata.labels",
                    "Invalid value: `selector` does not match template `labels`".to_owned(),
                );
            }
            check_replicas(resource, value)
        }
        KindId::CLAIMS if text(value, &["spec", "resources", "requests", "storage"]).is_empty() => {
            invalid("spec.resources[storage]", "Required value".to_owned())
        }
        _ => Ok(()),
    }
}

/// Checks a change.
///
/// # Errors
/// 422 naming the field that may not change.
pub(crate) fn on_update(kind: KindId, resource: &Resource, old: &Value, new: &Value) -> Result<(), ApiError> {
    let subject = resource.subject(name(old));
    let forbidden = |field: &str, why: &str| Err(ApiError::invalid(&resource.kind, &subject, field, why));
    match kind {
        KindId::STATEFUL_SETS => {
            const MAY_CHANGE: [&str; 7] = [
                "replicas",
                "ordinals",
                "template",
                "updateStrategy",
                "revisionHistoryLimit",
                "persistentVolumeClaimRetentionPolicy",
                "minReadySeconds",
            ];
            if without(&old["spec"], &MAY_CHANGE) != without(&new["spec"], &MAY_CHANGE) {
                return forbidden(
                    "spec",
                    "Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
                );
            }
            check_replicas(resource, new)
        }
        KindId::PODS if pod_with_images_aside(&old["spec"]) != pod_with_images_aside(&new["spec"]) => forbidden(
            "spec",
            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        ),
        KindId::CLAIMS => {
            let mut before = without(&old["spec"], &["volumeName"]);
            let mut after = without(&new["spec"], &["volumeName"]);
            let asked = |spec: &mut Value| {
                super::json::remove(spec, &["resources", "requests", "storage"])
                    .and_then(|size| quantity(size.as_str().unwrap_or("")))
            };
            let (small, large) = (asked(&mut before), asked(&mut after));
            if before != after {
                return forbidden(
                    "spec",
                    "Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
                );
            }
            if large < small {
                return forbidden(
                    "spec.resources.requests.storage",
                    "Forbidden: field can not be less than previous value",
                );
            }
            Ok(())
        }
        KindId::CONFIG_MAPS | KindId::SECRETS
            if old.get("immutable") == Some(&Value::Bool(true))
                && (old.get("data") != new.get("data") || new.get("immutable") != Some(&Value::Bool(true))) =>
        {
            forbidden("data", "Forbidden: field is immutable when `immutable` is set")
        }
        _ => Ok(()),
    }
}

fn check_replicas(resource: &Resource, value: &Value) -> Result<(), ApiError> {
    match number(value, &["spec", "replicas"]) {
        Some(replicas) if replicas < 0 => Err(ApiError::invalid(
            &resource.kind,
            &resource.subject(name(value)),
            "spec.replicas",
            &format!("Invalid value: {replicas}: must be greater than or equal to 0"),
        )),
        Some(_) | None => Ok(()),
    }
}

fn without(spec: &Value, fields: &[&str]) -> Value {
    let mut rest = spec.clone();
    if let Some(map) = rest.as_object_mut() {
        map.retain(|key, _| !fields.contains(&key.as_str()));
    }
    rest
}

fn pod_with_images_aside(spec: &Value) -> Value {
    // The scheduler's binding is a write of its own on a real server; here it is an update.
    let mut rest = without(spec, &["activeDeadlineSeconds", "tolerations", "nodeName"]);
    for group in ["containers", "initContainers"] {
        for container in rest.get_mut(group).and_then(Value::as_array_mut).into_iter().flatten() {
            super::json::remove(container, &["image"]);
        }
    }
    rest
}

/// A quantity in bytes, rounded down; `None` where unreadable.
pub(crate) fn quantity(text: &str) -> Option<u128> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let number: u128 = text[..digits].parse().ok()?;
    let factor: u128 = match &text[digits..] {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn is_subdomain(name: &str) -> bool {
    let is_end = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    !name.is_empty()
        && name.len() <= 253
        && name.chars().all(|letter| is_end(letter) || letter == '-' || letter == '.')
        && name.starts_with(is_end)
        && name.ends_with(is_end)
}
