//! Create, replace and patch: one path to the store, with every precondition on it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::admission;
use super::super::error::{ApiError, Reason, Subject};
use super::super::json::{at, is_terminating, list, name, number, object, set, text};
use super::super::ownership::{FieldConflict, Manager, Operation, Ownership, declared_part};
use super::super::patch::{json_patch, merge_patch, strategic_merge_patch};
use super::super::request::{Body, PatchKind};
use super::super::resource::{KindId, Resource};
use super::super::store::{keep_immutable_metadata, says_the_same, specification_differs};
use super::super::time::ModelTime;
use super::super::validation;
use super::{Call, Granted, ModelApi, Subresource};

impl ModelApi {
    pub(super) fn create_call(&mut self, now: ModelTime, call: Call) -> Granted {
        if !text(&call.body, &["metadata", "resourceVersion"]).is_empty() {
            return Err(ApiError::new(Reason::Unnamed, "resourceVersion should not be set on objects to be created"));
        }
        let manager = self.manager(&call, Operation::Update);
        self.create_object(now, call, manager)
    }

    /// Stores a new object, however it was asked for.
    fn create_object(&mut self, now: ModelTime, call: Call, manager: Manager) -> Granted {
        let row = &self.resources[call.kind.0];
        let mut value = call.body;
        check_kind(&value, row)?;
        drop_nulls(&mut value);
        set(&mut value, &["apiVersion"], row.api_version());
        set(&mut value, &["kind"], row.kind.to_string());
        check_identity(&value, &call.namespace, &call.name, row.namespaced)?;
        if row.namespaced {
            let place = self.store.get(KindId::NAMESPACES, "", &call.namespace);
            let namespaces = &self.resources[KindId::NAMESPACES.0];
            let place = place.ok_or_else(|| ApiError::not_found(&namespaces.subject(&call.namespace)))?;
            if is_terminating(place) {
                let mut error = ApiError::new(
                    Reason::Forbidden,
                    format!(
                        "{} is forbidden: unable to create new content in namespace {} because it is being terminated",
                        row.plural, call.namespace
                    ),
                );
                error.details = json!({
                    "causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}],
                });
                return Err(error);
            }
            set(&mut value, &["metadata", "namespace"], call.namespace.clone());
        }
        if name(&value).is_empty() {
            let prefix = text(&value, &["metadata", "generateName"]).to_owned();
            if !prefix.is_empty() {
                let suffix = self.store.identities().suffix();
                set(&mut value, &["metadata", "name"], format!("{prefix}{suffix}"));
            } else if !call.name.is_empty() {
                set(&mut value, &["metadata", "name"], call.name.clone());
            }
        }
        let metadata = super::super::json::field(&mut value, "metadata");
        for key in [
            "resourceVersion",
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "managedFields",
            "selfLink",
        ] {
            object(metadata).remove(key);
        }
        drop_empty_metadata(&mut value);
        let row = &self.resources[call.kind.0];
        if row.status && row.custom {
            object(&mut value).remove("status");
        }
        validation::types(call.kind, &value)?;
        let declared = declared_part(&value);
        admission::on_create(call.kind, &mut value);
        if row.generation {
            set(&mut value, &["metadata", "generation"], 1);
        }
        validation::on_create(call.kind, row, &value)?;
        let name = name(&value).to_owned();
        if self.store.get(call.kind, &call.namespace, &name).is_some() {
            return Err(ApiError::already_exists(&row.subject(&name)));
        }
        if call.dry_run {
            set(&mut value, &["metadata", "uid"], self.store.identities().uid());
            set(&mut value, &["metadata", "creationTimestamp"], now.rfc3339());
            return Ok((201, Body::Made(value)));
        }
        // Defaults belong to nobody when declared by apply, and to the creator otherwise.
        let owned = if manager.operation == Operation::Apply { &declared } else { &value };
        let ownership = Arc::new(Ownership::of_new(owned, manager, now));
        let keep = row.keep;
        // An owner that is already gone makes the new object garbage.
        if !list(&value, &["metadata", "ownerReferences"]).is_empty() {
            self.store.hint_garbage();
        }
        let stored = self.store.insert(call.kind, &call.namespace, &name, value, ownership, now);
        if let Some(keep) = keep {
            self.drop_oldest(call.kind, keep);
        }
        Ok((201, Body::Object(stored)))
    }

    /// Events are many and short-lived: a real server forgets them after an hour.
    fn drop_oldest(&mut self, kind: KindId, keep: usize) {
        // A tenth at once, so that the search for the oldest is not made for every event.
        if self.store.count(kind) <= keep + keep / 10 {
            return;
        }
        let mut by_age: Vec<(u64, String, String)> = self
            .store
            .list(kind, None)
            .map(|event| {
                let revision = text(event, &["metadata", "resourceVersion"]).parse().unwrap_or(0);
                (revision, super::super::json::namespace(event).to_owned(), name(event).to_owned())
            })
            .collect();
        by_age.sort();
        let surplus = by_age.len() - keep;
        for (_, namespace, name) in by_age.into_iter().take(surplus) {
            self.store.remove(kind, &namespace, &name);
        }
    }

    pub(super) fn update_call(&mut self, now: ModelTime, mut call: Call) -> Granted {
        let row = &self.resources[call.kind.0];
        let subject = row.subject(&call.name);
        let Some(stored) = self.store.stored(call.kind, &call.namespace, &call.name).cloned() else {
            if !row.create_on_update || call.subresource != Subresource::Main {
                return Err(ApiError::not_found(&subject));
            }
            // An identity can only match something that is there; a revision is not looked at.
            let uid = text(&call.body, &["metadata", "uid"]);
            if !uid.is_empty() {
                return Err(ApiError::uid_precondition(&subject, uid, ""));
            }
            let manager = self.manager(&call, Operation::Update);
            return self.create_object(now, call, manager);
        };
        let mut new = std::mem::take(&mut call.body);
        check_kind(&new, row)?;
        drop_nulls(&mut new);
        check_identity(&new, &call.namespace, &call.name, row.namespaced)?;
        let wanted = text(&new, &["metadata", "resourceVersion"]);
        if wanted.parse::<u64>().is_err() && !wanted.is_empty() {
            return Err(ApiError::new(Reason::Unnamed, format!("the resourceVersion {wanted:?} is no number")));
        }
        let uid = text(&new, &["metadata", "uid"]);
        let found = super::super::json::uid(&stored.object);
        if !uid.is_empty() && uid != found {
            return Err(ApiError::uid_precondition(&subject, uid, found));
        }
        if text(&new, &["metadata", "resourceVersion"]).is_empty() && !row.unconditional_update {
            return Err(ApiError::invalid(
                &row.kind,
                &subject,
                "metadata.resourceVersion",
                "Invalid value: 0x0: must be specified for an update",
            ));
        }
        check_revision(&subject, &stored.object, &new)?;
        self.commit(now, &call, &stored.object, &stored.ownership, new, None)
    }

    pub(super) fn patch_call(&mut self, now: ModelTime, call: Call, kind: PatchKind) -> Granted {
        let row = &self.resources[call.kind.0];
        let subject = row.subject(&call.name);
        let custom = row.custom;
        let stored = self.store.stored(call.kind, &call.namespace, &call.name).cloned();
        if kind == PatchKind::Apply {
            return self.apply_call(now, call, stored.map(|stored| (stored.object, stored.ownership)));
        }
        let Some(stored) = stored else {
            return Err(ApiError::not_found(&subject));
        };
        let mut new = Value::clone(&stored.object);
        match kind {
            PatchKind::Json => json_patch(&mut new, &call.body)?,
            PatchKind::Merge => merge_patch(&mut new, &call.body),
            PatchKind::Strategic if custom => {
                return Err(ApiError::new(
                    Reason::UnsupportedMediaType,
                    "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
                ));
            }
            PatchKind::Strategic => strategic_merge_patch(&mut new, &call.body),
            PatchKind::Apply => {
                return Err(ApiError::new(Reason::InternalError, "apply is handled apart"));
            }
        }
        drop_nulls(&mut new);
        check_identity(&new, &call.namespace, &call.name, row.namespaced)?;
        if new.get("kind") != stored.object.get("kind") {
            let why = "Invalid value: a patch cannot change the kind of an object";
            return Err(ApiError::invalid(&row.kind, &subject, "patch", why));
        }
        check_revision(&subject, &stored.object, &new)?;
        check_patched_uid(&row.kind, &subject, &stored.object, &new)?;
        self.commit(now, &call, &stored.object, &stored.ownership, new, None)
    }

    /// Server-side apply.
    fn apply_call(&mut self, now: ModelTime, call: Call, stored: Option<(Arc<Value>, Arc<Ownership>)>) -> Granted {
        let row = &self.resources[call.kind.0];
        let subject = row.subject(&call.name);
        let manager = self.manager(&call, Operation::Apply);
        let mut body = call.body.clone();
        drop_nulls(&mut body);
        check_identity(&body, &call.namespace, &call.name, row.namespaced)?;
        if at(&body, &["metadata", "managedFields"]).is_some() {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        let Some((live, ownership)) = stored else {
            if call.subresource != Subresource::Main {
                return Err(ApiError::not_found(&subject));
            }
            // An identity can only match something that is there; a stale revision creates it anew.
            let uid = text(&body, &["metadata", "uid"]);
            if !uid.is_empty() {
                return Err(ApiError::uid_precondition(&subject, uid, ""));
            }
            return self.create_object(now, Call { body, ..call }, manager);
        };
        check_revision(&subject, &live, &body)?;
        check_patched_uid(&row.kind, &subject, &live, &body)?;
        let declared = match call.subresource {
            Subresource::Status => {
                json!({"status": body.get("status").cloned().unwrap_or(Value::Null)})
            }
            Subresource::Main | Subresource::Scale | Subresource::Eviction => {
                let mut declared = declared_part(&body);
                if row.status {
                    object(&mut declared).remove("status");
                }
                declared
            }
        };
        let (merged, next) = ownership
            .apply(&live, &declared, &manager, call.force, now)
            .map_err(|conflicts| apply_conflict(&conflicts))?;
        self.commit(now, &call, &live, &ownership, merged, Some(next))
    }

    /// The common end of every change of an existing object.
    fn commit(
        &mut self,
        now: ModelTime,
        call: &Call,
        old: &Arc<Value>,
        ownership: &Arc<Ownership>,
        mut new: Value,
        applied: Option<Ownership>,
    ) -> Granted {
        let row = &self.resources[call.kind.0];
        match call.subresource {
            Subresource::Main if row.status => keep_field(old, &mut new, "status"),
            Subresource::Status => {
                let status = new.get("status").cloned();
                let metadata = new.get("metadata").cloned();
                new = Value::clone(old);
                if let Some(status) = status {
                    set(&mut new, &["status"], status);
                }
                if !row.custom {
                    for key in ["labels", "annotations"] {
                        if let Some(value) = metadata.as_ref().and_then(|metadata| metadata.get(key)) {
                            set(&mut new, &["metadata", key], value.clone());
                        }
                    }
                }
            }
            Subresource::Main | Subresource::Scale | Subresource::Eviction => {}
        }
        check_deletion(&row.kind, &row.subject(&call.name), old, &new)?;
        keep_immutable_metadata(old, &mut new);
        drop_empty_metadata(&mut new);
        if call.subresource != Subresource::Status {
            validation::types(call.kind, &new)?;
        }
        admission::on_update(call.kind, &mut new);
        validation::on_update(call.kind, row, old, &new)?;
        let terminating = is_terminating(old);
        if terminating
            && list(&new, &["metadata", "finalizers"])
                .iter()
                .any(|added| !list(old, &["metadata", "finalizers"]).contains(added))
        {
            return Err(ApiError::invalid(
                &row.kind,
                &row.subject(&call.name),
                "metadata.finalizers",
                "Forbidden: no new finalizers can be added if the object is being deleted",
            ));
        }
        if says_the_same(old, &new) && applied.as_ref().is_none_or(|applied| applied.says_the_same(ownership)) {
            return Ok((200, Body::Object(Arc::clone(old))));
        }
        if row.generation && specification_differs(old, &new) && !is_binding(call.kind, old, &new) {
            let generation = number(old, &["metadata", "generation"]).unwrap_or(0) + 1;
            set(&mut new, &["metadata", "generation"], generation);
        }
        if call.dry_run {
            return Ok((200, Body::Made(new)));
        }
        // What held it is gone: the answer shows that, nobody else ever sees it, and no revision is spent on it.
        if terminating && super::delete::may_go(call.kind, &new) {
            self.store.remove(call.kind, &call.namespace, &call.name);
            set(&mut new, &["metadata", "resourceVersion"], text(old, &["metadata", "resourceVersion"]));
            return Ok((200, Body::Object(Arc::new(new))));
        }
        let ownership = applied.map(Arc::new).unwrap_or_else(|| {
            let manager = self.manager(call, Operation::Update);
            ownership.after_update(old, &new, &manager, now)
        });
        let stored = self.store.replace(call.kind, &call.namespace, &call.name, new, ownership);
        Ok((200, Body::Object(stored)))
    }

    fn manager(&self, call: &Call, operation: Operation) -> Manager {
        Manager {
            name: call.manager.clone(),
            operation,
            subresource: call.subresource.word().to_owned(),
            api_version: self.resources[call.kind.0].api_version(),
        }
    }
}

fn keep_field(old: &Value, new: &mut Value, key: &str) {
    match old.get(key) {
        Some(value) => {
            object(new).insert(key.to_owned(), value.clone());
        }
        None => {
            object(new).remove(key);
        }
    }
}

/// A body need not say what it is, but must not say that it is something else.
fn check_kind(value: &Value, row: &Resource) -> Result<(), ApiError> {
    let (api_version, kind) = (text(value, &["apiVersion"]), text(value, &["kind"]));
    if !value.is_object() {
        return Err(ApiError::bad_request("the body of the request must be an object"));
    }
    if (!kind.is_empty() && kind != row.kind) || (!api_version.is_empty() && api_version != row.api_version()) {
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized: {api_version} {kind} in place of {} {}",
            row.api_version(),
            row.kind
        )));
    }
    Ok(())
}

/// Only a deletion marks an object as deleted.
fn check_deletion(kind: &str, subject: &Subject, old: &Value, new: &Value) -> Result<(), ApiError> {
    let wanted = text(new, &["metadata", "deletionTimestamp"]);
    if wanted.is_empty() || wanted == text(old, &["metadata", "deletionTimestamp"]) {
        return Ok(());
    }
    let why = format!("Invalid value: {wanted:?}: field is immutable");
    Err(ApiError::invalid(kind, subject, "metadata.deletionTimestamp", &why))
}

/// The scheduler's choice is a write of its own on a real server, which is no change of what was asked for.
fn is_binding(kind: KindId, old: &Value, new: &Value) -> bool {
    kind == KindId::PODS && text(old, &["spec", "nodeName"]).is_empty() && !text(new, &["spec", "nodeName"]).is_empty()
}

/// A typed server leaves out empty lists and maps of the metadata.
fn drop_empty_metadata(value: &mut Value) {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|_, part| match part {
            Value::Array(items) => !items.is_empty(),
            Value::Object(map) => !map.is_empty(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        });
    }
}

fn check_identity(value: &Value, namespace: &str, wanted: &str, namespaced: bool) -> Result<(), ApiError> {
    if !value.is_object() {
        return Err(ApiError::bad_request("the body of the request must be an object"));
    }
    let given = name(value);
    if !wanted.is_empty() && !given.is_empty() && given != wanted {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({wanted})"
        )));
    }
    let place = super::super::json::namespace(value);
    if namespaced && !place.is_empty() && place != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

fn check_revision(subject: &Subject, old: &Value, new: &Value) -> Result<(), ApiError> {
    let wanted = text(new, &["metadata", "resourceVersion"]);
    if wanted.is_empty() || wanted == text(old, &["metadata", "resourceVersion"]) {
        Ok(())
    } else {
        Err(ApiError::stale(subject))
    }
}

/// A patch that names another identity is told that identities do not change.
fn check_patched_uid(kind: &str, subject: &Subject, old: &Value, new: &Value) -> Result<(), ApiError> {
    let wanted = text(new, &["metadata", "uid"]);
    if wanted.is_empty() || wanted == text(old, &["metadata", "uid"]) {
        Ok(())
    } else {
        Err(ApiError::invalid(kind, subject, "metadata.uid", &format!("Invalid value: {wanted:?}: field is immutable")))
    }
}

fn apply_conflict(conflicts: &[FieldConflict]) -> ApiError {
    let mut managers: Vec<&str> = conflicts.iter().map(|conflict| conflict.manager.as_str()).collect();
    managers.dedup();
    let message = if let [only] = conflicts {
        format!("Apply failed with 1 conflict: conflict with {}: {}", only.manager, only.field)
    } else {
        let parts: Vec<String> = managers
            .iter()
            .map(|manager| {
                let fields: Vec<String> = conflicts
                    .iter()
                    .filter(|conflict| conflict.manager == *manager)
                    .map(|conflict| format!("\n- {}", conflict.field))
                    .collect();
                format!("conflicts with {manager}:{}", fields.concat())
            })
            .collect();
        format!("Apply failed with {} conflicts: {}", conflicts.len(), parts.join("\n"))
    };
    let mut error = ApiError::new(Reason::Conflict, message);
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|conflict| {
            json!({
                "reason": "FieldManagerConflict",
                "message": format!("conflict with {}", conflict.manager),
                "field": conflict.field,
            })
        })
        .collect();
    error.details = json!({"causes": causes});
    error
}

/// A typed server never stores a null.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
