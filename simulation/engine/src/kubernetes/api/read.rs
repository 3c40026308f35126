//! Get, list and watch.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use super::super::error::{ApiError, Reason};
use super::super::events;
use super::super::request::{Body, Request};
use super::super::resource::{KindId, Resource};
use super::super::selector::Selector;
use super::super::time::ModelTime;
use super::super::watch::WatchCursor;
use super::route::Subresource;
use super::scale::scale_of;
use super::table::{table, wants_table};
use super::{Granted, ModelApi};

impl ModelApi {
    pub(super) fn read(
        &self,
        now: ModelTime,
        request: &Request,
        kind: KindId,
        namespace: Option<&str>,
        name: &str,
        subresource: Subresource,
    ) -> Granted {
        if !name.is_empty() {
            return self.read_one(now, request, kind, namespace.unwrap_or(""), name, subresource);
        }
        let parameters = request.parameters();
        let parameter = |name: &str| parameters.get(name).map_or("", String::as_str);
        let selector = Selector::parse(parameter("labelSelector"), parameter("fieldSelector"))?;
        check_fields(&self.resources[kind.0], &selector)?;
        if !matches!(parameter("watch"), "true" | "1") {
            return self.list_call(now, request, kind, namespace, &selector);
        }
        let initial = parameter("sendInitialEvents") == "true";
        if initial && parameter("resourceVersionMatch") != "NotOlderThan" {
            let why = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            return Err(ApiError::invalid_option("ListOptions", "resourceVersionMatch", why));
        }
        let version = Some(read_version(parameter("resourceVersion"))?).filter(|version| *version != 0);
        let mut cursor = self.watch(kind, namespace, selector, version.filter(|_| !initial));
        cursor.bookmarks = parameter("allowWatchBookmarks") == "true";
        cursor.mark_initial_end = initial && cursor.bookmarks;
        cursor.timeout_seconds = parameter("timeoutSeconds").parse().ok();
        Ok((200, Body::Watch(Box::new(cursor))))
    }

    fn read_one(
        &self,
        now: ModelTime,
        request: &Request,
        kind: KindId,
        namespace: &str,
        name: &str,
        subresource: Subresource,
    ) -> Granted {
        let row = &self.resources[kind.0];
        if subresource == Subresource::Eviction {
            return Err(ApiError::new(
                Reason::MethodNotAllowed,
                "the server does not allow this method on the requested resource",
            ));
        }
        let version = read_version(request.parameters().get("resourceVersion").map_or("", String::as_str))?;
        if version > self.store.revision() {
            return Err(ApiError::too_new(version, self.store.revision()));
        }
        let object = self
            .store
            .get(row.stored_as.unwrap_or(kind), namespace, name)
            .ok_or_else(|| ApiError::not_found(&row.subject(name)))?;
        if subresource == Subresource::Scale {
            return Ok((200, Body::Made(scale_of(object))));
        }
        let object = shown_as(row.stored_as, object);
        if wants_table(&request.accept) {
            return Ok((200, Body::Made(table(kind, &[object], self.store.revision(), now, request))));
        }
        Ok((200, Body::Object(object)))
    }

    /// A watch from `version`; without one (or at 0) it tells first what exists.
    #[must_use]
    pub fn watch(
        &self,
        kind: KindId,
        namespace: Option<&str>,
        selector: Selector,
        version: Option<u64>,
    ) -> WatchCursor {
        let row = &self.resources[kind.0];
        let stored = row.stored_as.unwrap_or(kind);
        let from = version.filter(|version| *version != 0);
        let initial: VecDeque<Arc<Value>> = match from {
            Some(_) => VecDeque::new(),
            None => self.store.list(stored, namespace).filter(|object| selector.matches(object)).cloned().collect(),
        };
        WatchCursor {
            kind: stored,
            namespace: namespace.map(str::to_owned),
            selector,
            position: from.unwrap_or(self.store.revision()).min(self.store.revision()),
            initial,
            mark_initial_end: false,
            bookmarks: false,
            api_version: row.api_version(),
            kind_name: row.kind.to_string(),
            timeout_seconds: None,
            ended: false,
        }
    }
}

/// The revision of a query; 0, which means any, where none is given.
fn read_version(text: &str) -> Result<u64, ApiError> {
    match text {
        "" => Ok(0),
        text => text
            .parse()
            .map_err(|_| ApiError::new(Reason::Unnamed, format!("the resourceVersion {text:?} is no number"))),
    }
}

/// Only some fields can be selected by, of some kinds.
pub(super) fn check_fields(row: &Resource, selector: &Selector) -> Result<(), ApiError> {
    const ALWAYS: [&str; 2] = ["metadata.name", "metadata.namespace"];
    let own: &[&str] = match (row.group.as_ref(), row.plural.as_ref()) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "secrets") => &["type"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("", "namespaces") => &["status.phase"],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "events") | ("events.k8s.io", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        _ => &[],
    };
    match selector.fields().find(|field| !ALWAYS.contains(&field.as_str()) && !own.contains(&field.as_str())) {
        Some(field) => Err(ApiError::bad_request(format!("field label not supported: {field}"))),
        None => Ok(()),
    }
}

fn shown_as(stored_as: Option<KindId>, object: &Arc<Value>) -> Arc<Value> {
    match stored_as {
        Some(_) => Arc::new(events::to_new(object)),
        None => Arc::clone(object),
    }
}
