//! What the server refuses in an object: what it must be, and fields that may not change.

mod create;

use serde_json::Value;

use super::error::{ApiError, Fault};
use super::json::{at, name, text};
use super::resource::{KindId, Resource};

/// Checks that values are of the types their fields have; of those fields that a mesh uses.
///
/// # Errors
/// 400, as for a body that cannot be read.
pub(crate) fn types(kind: KindId, value: &Value) -> Result<(), ApiError> {
    let unreadable =
        |field: &str, wanted: &str| Err(ApiError::bad_request(format!("{field} cannot be read: it must be {wanted}")));
    match kind {
        KindId::STATEFUL_SETS if at(value, &["spec", "replicas"]).is_some_and(|size| !size.is_i64()) => {
            unreadable("spec.replicas", "a whole number")
        }
        KindId::CONFIG_MAPS | KindId::SECRETS => {
            let values = || at(value, &["data"]).and_then(Value::as_object).into_iter().flatten();
            if let Some((key, _)) = values().find(|(_, value)| !value.is_string()) {
                return unreadable(&format!("data[{key}]"), "a text");
            }
            let is_base64 = |text: &str| {
                let digits = text.trim_end_matches('=');
                text.len().is_multiple_of(4)
                    && text.len() - digits.len() <= 2
                    && digits.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/'))
            };
            match values().find(|(_, value)| kind == KindId::SECRETS && !is_base64(value.as_str().unwrap_or(""))) {
                Some((key, _)) => unreadable(&format!("data[{key}]"), "base64"),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Checks a new object.
///
/// # Errors
/// 422 naming every field that is wrong.
pub(crate) fn on_create(kind: KindId, resource: &Resource, value: &Value) -> Result<(), ApiError> {
    refuse(resource, name(value), &create::faults_of(kind, value))
}

fn refuse(resource: &Resource, name: &str, faults: &[Fault]) -> Result<(), ApiError> {
    if faults.is_empty() { Ok(()) } else { Err(ApiError::invalid_in(&resource.kind, &resource.subject(name), faults)) }
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
            const FIXED: [&str; 4] = ["serviceName", "podManagementPolicy", "selector", "volumeClaimTemplates"];
            let mut faults: Vec<Fault> = FIXED
                .iter()
                .filter(|field| old["spec"].get(**field) != new["spec"].get(**field))
                .map(|field| Fault {
                    field: format!("spec.{field}"),
                    why: "Invalid value: field is immutable".to_owned(),
                })
                .collect();
            faults.extend(create::template_faults(new));
            refuse(resource, name(old), &faults)
        }
        KindId::PODS if pod_changed(&old["spec"], &new["spec"]) => forbidden(
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
            // Until it is bound nothing changes, then only the size, and upwards.
            let bound = text(old, &["status", "phase"]) == "Bound";
            if before != after || (small != large && !bound) {
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
        KindId::CONFIG_MAPS | KindId::SECRETS if old.get("immutable") == Some(&Value::Bool(true)) => {
            const WHY: &str = "Forbidden: field is immutable when `immutable` is set";
            let data = (old.get("data") != new.get("data")).then_some("data");
            let itself = (new.get("immutable") != Some(&Value::Bool(true))).then_some("immutable");
            let fault = |field: &str| Fault { field: field.to_owned(), why: WHY.to_owned() };
            let mut faults: Vec<Fault> = data.into_iter().chain(itself).map(fault).collect();
            faults.extend(secret_type(kind, old, new));
            refuse(resource, name(old), &faults)
        }
        KindId::SECRETS => {
            let faults: Vec<Fault> = secret_type(kind, old, new).into_iter().collect();
            refuse(resource, name(old), &faults)
        }
        _ => Ok(()),
    }
}

/// What a secret is for never changes.
fn secret_type(kind: KindId, old: &Value, new: &Value) -> Option<Fault> {
    (kind == KindId::SECRETS && old.get("type") != new.get("type"))
        .then(|| Fault { field: "type".to_owned(), why: "Invalid value: field is immutable".to_owned() })
}

fn without(spec: &Value, fields: &[&str]) -> Value {
    let mut rest = spec.clone();
    if let Some(map) = rest.as_object_mut() {
        map.retain(|key, _| !fields.contains(&key.as_str()));
    }
    rest
}

fn pod_changed(old: &Value, new: &Value) -> bool {
    let (mut before, mut after) = (pod_with_images_aside(old), pod_with_images_aside(new));
    // The scheduler's binding is a write of its own on a real server; here it is an update.
    if text(&before, &["nodeName"]).is_empty() {
        for spec in [&mut before, &mut after] {
            super::json::remove(spec, &["nodeName"]);
        }
    }
    before != after
}

fn pod_with_images_aside(spec: &Value) -> Value {
    let mut rest = without(spec, &["activeDeadlineSeconds", "tolerations"]);
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
