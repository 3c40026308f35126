//! Deletion: preconditions, grace that only shrinks, finalizers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::admission::grace_of;
use super::super::error::ApiError;
use super::super::json::{at, is_terminating, list, name, number, set, text, uid};
use super::super::request::Body;
use super::super::resource::KindId;
use super::super::selector::Selector;
use super::super::time::ModelTime;
use super::{Call, Granted, ModelApi, Verb};

/// What becomes of an object's dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Propagation {
    /// The object goes at once, the garbage collector follows.
    #[default]
    Background,
    /// The dependents go first.
    Foreground,
    /// The dependents stay, without this owner.
    Orphan,
}

/// Under which conditions, and how, to delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Only the object of this identity.
    pub uid: Option<String>,
    /// Only at this revision.
    pub resource_version: Option<String>,
    /// Seconds a pod may take to end; the pod's own wish where absent.
    pub grace_period_seconds: Option<i64>,
    /// What becomes of dependents.
    pub propagation: Propagation,
}

impl DeleteOptions {
    /// Only the object of this identity.
    #[must_use]
    pub fn of_uid(uid: &str) -> Self {
        Self { uid: Some(uid.to_owned()), ..Self::default() }
    }

    pub(crate) fn parse(body: &Value) -> Result<Self, ApiError> {
        let precondition =
            |key: &str| Some(text(body, &["preconditions", key])).filter(|text| !text.is_empty()).map(str::to_owned);
        let propagation = match (text(body, &["propagationPolicy"]), at(body, &["orphanDependents"])) {
            ("Foreground", _) => Propagation::Foreground,
            ("Orphan", _) | ("", Some(Value::Bool(true))) => Propagation::Orphan,
            ("Background" | "", _) => Propagation::Background,
            (other, _) => {
                let why = format!(
                    "Unsupported value: {other:?}: supported values: \"Background\", \"Foreground\", \"Orphan\""
                );
                return Err(ApiError::invalid_option("DeleteOptions", "propagationPolicy", &why));
            }
        };
        Ok(Self {
            uid: precondition("uid"),
            resource_version: precondition("resourceVersion"),
            grace_period_seconds: number(body, &["gracePeriodSeconds"]),
            propagation,
        })
    }

    pub(crate) fn to_body(&self) -> Value {
        let mut body = json!({});
        if let Some(uid) = &self.uid {
            set(&mut body, &["preconditions", "uid"], uid.clone());
        }
        if let Some(revision) = &self.resource_version {
            set(&mut body, &["preconditions", "resourceVersion"], revision.clone());
        }
        if let Some(grace) = self.grace_period_seconds {
            set(&mut body, &["gracePeriodSeconds"], grace);
        }
        match self.propagation {
            Propagation::Background => {}
            Propagation::Foreground => set(&mut body, &["propagationPolicy"], "Foreground"),
            Propagation::Orphan => set(&mut body, &["propagationPolicy"], "Orphan"),
        }
        body
    }
}

/// Whether nothing holds a terminating object any more.
pub(crate) fn may_go(kind: KindId, object: &Value) -> bool {
    is_terminating(object)
        && number(object, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0) == 0
        && list(object, &["metadata", "finalizers"]).is_empty()
        && (kind != KindId::NAMESPACES || list(object, &["spec", "finalizers"]).is_empty())
}

impl ModelApi {
    pub(super) fn delete_call(&mut self, now: ModelTime, call: &Call, options: &DeleteOptions) -> Granted {
        let row = &self.resources[call.kind.0];
        let subject = row.subject(&call.name);
        let stored = self
            .store
            .stored(call.kind, &call.namespace, &call.name)
            .cloned()
            .ok_or_else(|| ApiError::not_found(&subject))?;
        let old = stored.object;
        if let Some(wanted) = &options.uid
            && wanted != uid(&old)
        {
            return Err(ApiError::uid_precondition(&subject, wanted, uid(&old)));
        }
        let revision = text(&old, &["metadata", "resourceVersion"]);
        if let Some(wanted) = &options.resource_version
            && wanted != revision
        {
            return Err(ApiError::revision_precondition(&subject, wanted, revision));
        }
        let grace = self.grace(call.kind, &old, options);
        let mut new = Value::clone(&old);
        if is_terminating(&old) {
            let Some(grace) = shorter_grace(&old, options) else {
                return Ok((200, Body::Object(old)));
            };
            // The deadline moves back by what was taken off the grace, so it still counts from the first request.
            let before = number(&old, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0);
            let deadline = ModelTime::parse(text(&old, &["metadata", "deletionTimestamp"])).unwrap_or(now);
            let taken = u64::try_from(before - grace).unwrap_or(0).saturating_mul(1000);
            mark(&mut new, ModelTime(deadline.0.saturating_sub(taken)), grace);
        } else {
            add_propagation_finalizer(&mut new, options.propagation);
            if options.propagation != Propagation::Background && !call.dry_run {
                self.store.hint_garbage();
            }
            let seconds = u64::try_from(grace).unwrap_or(0);
            mark(&mut new, now.after(Duration::from_secs(seconds)), grace);
            if call.kind == KindId::NAMESPACES {
                super::super::json::remove(&mut new, &["metadata", "deletionGracePeriodSeconds"]);
            }
            if row.generation {
                let generation = number(&old, &["metadata", "generation"]).unwrap_or(0) + 1;
                set(&mut new, &["metadata", "generation"], generation);
            }
            if call.kind == KindId::NAMESPACES {
                set(&mut new, &["status", "phase"], "Terminating");
            }
        }
        if may_go(call.kind, &new) {
            if !call.dry_run {
                self.store.remove(call.kind, &call.namespace, &call.name);
            }
            // Only what can be given a grace is marked before it goes.
            let last = if call.kind == KindId::PODS { Arc::new(new) } else { old };
            return Ok((200, self.removed(call.kind, &call.name, last)));
        }
        if call.dry_run {
            return Ok((200, Body::Made(new)));
        }
        let ownership = Arc::clone(&stored.ownership);
        let stored = self.store.replace(call.kind, &call.namespace, &call.name, new, ownership);
        Ok((200, Body::Object(stored)))
    }

    /// What a deletion that is done answers: of some kinds the object with its marks, of the rest a word.
    fn removed(&self, kind: KindId, name: &str, last: Arc<Value>) -> Body {
        let row = &self.resources[kind.0];
        if row.returns_deleted {
            return Body::Object(last);
        }
        let mut details = json!({"name": name, "kind": row.plural, "uid": uid(&last)});
        if !row.group.is_empty() {
            set(&mut details, &["group"], row.group.to_string());
        }
        Body::Made(json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
        }))
    }

    /// Seconds between this deletion and the end; only pods on a node that still run get any.
    fn grace(&self, kind: KindId, old: &Value, options: &DeleteOptions) -> i64 {
        if kind != KindId::PODS {
            return 0;
        }
        let ended = matches!(text(old, &["status", "phase"]), "Succeeded" | "Failed");
        if text(old, &["spec", "nodeName"]).is_empty() || ended {
            return 0;
        }
        options.grace_period_seconds.map_or_else(|| grace_of(old), shortest_if_negative)
    }

    #[allow(clippy::too_many_arguments, reason = "one request, spelled out")]
    pub(super) fn delete_collection(
        &mut self,
        now: ModelTime,
        user: &str,
        kind: KindId,
        namespace: &str,
        labels: &str,
        fields: &str,
        options: &Value,
    ) -> Granted {
        let selector = Selector::parse(labels, fields)?;
        let place = Some(namespace).filter(|namespace| !namespace.is_empty());
        let stored = self.resources[kind.0].stored_as.unwrap_or(kind);
        super::read::check_fields(&self.resources[stored.0], &selector)?;
        let items: Vec<Arc<Value>> =
            self.store.list(stored, place).filter(|object| selector.matches(object)).cloned().collect();
        for target in &items {
            let place = super::super::json::namespace(target);
            self.execute(now, Call::new(user, stored, place, name(target), Verb::Delete, options.clone()))?;
        }
        let row = &self.resources[stored.0];
        Ok((
            200,
            Body::List {
                kind: format!("{}List", row.kind),
                api_version: row.api_version(),
                revision: self.store.revision(),
                page: None,
                items,
            },
        ))
    }
}

/// The new grace of an object already terminating, where it is shorter than the one in force.
fn shorter_grace(old: &Value, options: &DeleteOptions) -> Option<i64> {
    let before = number(old, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0);
    let wanted = shortest_if_negative(options.grace_period_seconds?);
    (wanted < before).then_some(wanted)
}

/// A grace below nothing is the shortest there is, not none.
fn shortest_if_negative(grace: i64) -> i64 {
    if grace < 0 { 1 } else { grace }
}

fn mark(value: &mut Value, deadline: ModelTime, grace: i64) {
    set(value, &["metadata", "deletionTimestamp"], deadline.rfc3339());
    set(value, &["metadata", "deletionGracePeriodSeconds"], grace);
}

fn add_propagation_finalizer(value: &mut Value, propagation: Propagation) {
    let finalizer = match propagation {
        Propagation::Background => return,
        Propagation::Foreground => "foregroundDeletion",
        Propagation::Orphan => "orphan",
    };
    let mut finalizers = list(value, &["metadata", "finalizers"]).to_vec();
    finalizers.push(Value::from(finalizer));
    set(value, &["metadata", "finalizers"], finalizers);
}
