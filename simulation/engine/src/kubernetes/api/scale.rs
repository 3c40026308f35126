//! The scale subresource: the size of a set, seen as an object of its own.

use serde_json::{Value, json};

use super::super::error::{ApiError, Reason};
use super::super::json::{at, number, set, text};
use super::super::patch::{json_patch, merge_patch};
use super::super::request::{Body, PatchKind};
use super::super::time::ModelTime;
use super::{Call, Granted, ModelApi, Subresource, Verb};

/// The `Scale` of a set.
pub(crate) fn scale_of(object: &Value) -> Value {
    let labels = at(object, &["spec", "selector", "matchLabels"]).and_then(Value::as_object);
    let selector: Vec<String> =
        labels.into_iter().flatten().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or(""))).collect();
    let metadata = &object["metadata"];
    // A size of nothing is left out, as everywhere where a zero is the default.
    let replicas = number(object, &["spec", "replicas"]).unwrap_or(0);
    let spec = if replicas == 0 { json!({}) } else { json!({"replicas": replicas}) };
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": spec,
        "status": {
            "replicas": number(object, &["status", "replicas"]).unwrap_or(0),
            "selector": selector.join(","),
        },
    })
}

impl ModelApi {
    /// Writes a size: conditional where the `Scale` carries a resourceVersion or uid.
    pub(super) fn scale_call(&mut self, now: ModelTime, mut call: Call, patch: Option<PatchKind>) -> Granted {
        let wrong_name = || ApiError::new(Reason::BadRequest, "the name of the Scale must be that of the set");
        if patch.is_none() && text(&call.body, &["metadata", "name"]) != call.name {
            return Err(wrong_name());
        }
        let subject = self.resources[call.kind.0].subject(&call.name);
        let stored = self
            .store
            .get(call.kind, &call.namespace, &call.name)
            .cloned()
            .ok_or_else(|| ApiError::not_found(&subject))?;
        let before = scale_of(&stored);
        let after = match patch {
            None => call.body,
            Some(kind) => {
                let mut after = before.clone();
                match kind {
                    PatchKind::Json => json_patch(&mut after, &call.body)?,
                    PatchKind::Merge | PatchKind::Strategic | PatchKind::Apply => merge_patch(&mut after, &call.body),
                }
                after
            }
        };
        let wanted = at(&after, &["spec", "replicas"]);
        if wanted.is_some_and(|wanted| !wanted.is_i64() && !wanted.is_null()) {
            return Err(ApiError::bad_request("spec.replicas of a Scale must be a whole number"));
        }
        let replicas = number(&after, &["spec", "replicas"]).unwrap_or(0);
        if text(&after, &["metadata", "name"]) != call.name {
            return Err(wrong_name());
        }
        let mut whole = Value::clone(&stored);
        set(&mut whole, &["spec", "replicas"], replicas);
        for key in ["resourceVersion", "uid"] {
            match text(&after, &["metadata", key]) {
                "" => {
                    super::super::json::remove(&mut whole, &["metadata", key]);
                }
                value => set(&mut whole, &["metadata", key], value),
            }
        }
        call.body = whole;
        call.verb = Verb::Update;
        call.subresource = Subresource::Scale;
        match self.update_call(now, call)? {
            (status, Body::Object(object)) => Ok((status, Body::Made(scale_of(&object)))),
            other => Ok(other),
        }
    }
}
