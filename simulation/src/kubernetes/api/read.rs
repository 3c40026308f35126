//! Get, list and watch.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use super::super::error::{ApiError, Reason};
use super::super::events;
use super::super::request::{Body, Request};
use super::super::resource::KindId;
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
        let version = match parameter("resourceVersion") {
            "" => None,
            text => Some(text.parse::<u64>().map_err(|_| {
                ApiError::bad_request(format!("Invalid value: {text:?}: resource version must be a number"))
            })?),
        };
        if matches!(parameter("watch"), "true" | "1") {
            let initial = parameter("sendInitialEvents") == "true";
            let mut cursor = self.watch(kind, namespace, selector, version.filter(|_| !initial));
            cursor.mark_initial_end = initial;
            cursor.bookmarks = parameter("allowWatchBookmarks") == "true";
            cursor.timeout_seconds = parameter("timeoutSeconds").parse().ok();
            return Ok((200, Body::Watch(Box::new(cursor))));
        }
        if version.is_some_and(|version| version > self.store.revision()) {
            let mut error = ApiError::new(
                Reason::ServiceUnavailable,
                format!(
                    "Timeout: Too large resource version: {}, current: {}",
                    version.unwrap_or_default(),
                    self.store.revision()
                ),
            );
            error.details = serde_json::json!({
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            });
            return Err(error);
        }
        let row = &self.resources[kind.0];
        let items = self.select(kind, namespace, &selector);
        if wants_table(&request.accept) {
            let made = table(kind, &items, self.store.revision(), now, request);
            return Ok((200, Body::Made(made)));
        }
        Ok((
            200,
            Body::List {
                kind: format!("{}List", row.kind),
                api_version: row.api_version(),
                revision: self.store.revision(),
                items,
            },
        ))
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
        let object = self
            .store
            .get(row.stored_as.unwrap_or(kind), namespace, name)
            .ok_or_else(|| ApiError::not_found(&row.subject(name)))?;
        match subresource {
            Subresource::Main | Subresource::Status => {}
            Subresource::Scale => return Ok((200, Body::Made(scale_of(object)))),
            Subresource::Eviction => {
                return Err(ApiError::new(
                    Reason::MethodNotAllowed,
                    "the server does not allow this method on the requested resource",
                ));
            }
        }
        let object = shown_as(row.stored_as, object);
        if wants_table(&request.accept) {
            return Ok((200, Body::Made(table(kind, &[object], self.store.revision(), now, request))));
        }
        Ok((200, Body::Object(object)))
    }

    fn select(&self, kind: KindId, namespace: Option<&str>, selector: &Selector) -> Vec<Arc<Value>> {
        let stored_as = self.resources[kind.0].stored_as;
        let stored = stored_as.unwrap_or(kind);
        if let (Some(namespace), Some(name)) = (namespace, selector.name()) {
            return self
                .store
                .get(stored, namespace, name)
                .into_iter()
                .filter(|object| selector.matches(object))
                .map(|object| shown_as(stored_as, object))
                .collect();
        }
        self.store
            .list(stored, namespace)
            .filter(|object| selector.is_empty() || selector.matches(object))
            .map(|object| shown_as(stored_as, object))
            .collect()
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

fn shown_as(stored_as: Option<KindId>, object: &Arc<Value>) -> Arc<Value> {
    match stored_as {
        Some(_) => Arc::new(events::to_new(object)),
        None => Arc::clone(object),
    }
}
