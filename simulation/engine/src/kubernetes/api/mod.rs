//! The API server as a pure function of its state, a moment and a request.

mod delete;
mod discovery;
mod evict;
mod list;
mod read;
mod route;
mod scale;
mod table;
mod write;

use std::sync::Arc;

use serde_json::{Value, json};

use super::audit::{Audit, AuditEntry, Counters, annotations_of, sent};
use super::controllers::Memory;
use super::error::{ApiError, Reason};
use super::events;
use super::faults::Faults;
use super::json::{name, namespace};
use super::request::{Body, Method, PatchKind, Request, Response};
use super::resource::{KindId, Resource, built_in};
use super::store::Store;
use super::time::ModelTime;
use super::watch::{Change, WatchCursor, WatchEvent};

pub use delete::{DeleteOptions, Propagation};
use route::Route;
pub(crate) use route::Subresource;

/// The model API server: state, and [`ModelApi::handle`].
///
/// Reads no clock and does no IO. Equal seeds and equal requests give equal answers.
#[derive(Debug, Clone)]
pub struct ModelApi {
    resources: Vec<Resource>,
    store: Store,
    audit: Audit,
    counters: Counters,
    faults: Faults,
    pub(crate) memory: Memory,
}

/// One write, understood: what the controllers call directly and requests are translated into.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) user: String,
    /// The field manager, for ownership.
    pub(crate) manager: String,
    pub(crate) kind: KindId,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) subresource: Subresource,
    pub(crate) verb: Verb,
    pub(crate) body: Value,
    pub(crate) dry_run: bool,
    pub(crate) force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Create,
    Update,
    Patch(PatchKind),
    Delete,
}

impl Verb {
    fn method(self) -> Method {
        match self {
            Self::Create => Method::Post,
            Self::Update => Method::Put,
            Self::Patch(_) => Method::Patch,
            Self::Delete => Method::Delete,
        }
    }
}

/// A granted request.
pub(crate) type Granted = Result<(u16, Body), ApiError>;

impl ModelApi {
    /// An empty server with the namespaces `default` and `kube-system`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let resources = built_in();
        let store = Store::new(seed, resources.len());
        let mut api = Self {
            resources,
            store,
            audit: Audit::default(),
            counters: Counters::default(),
            faults: Faults::default(),
            memory: Memory::default(),
        };
        for namespace in ["default", "kube-system"] {
            let object = json!({"metadata": {"name": namespace}});
            // Cannot fail: the store is empty and the names are valid.
            let _created = api.create(ModelTime(0), "system:apiserver", KindId::NAMESPACES, object);
        }
        api
    }

    /// Serves one more kind.
    pub fn register(&mut self, resource: Resource) -> KindId {
        self.resources.push(resource);
        self.store.add_kind();
        KindId(self.resources.len() - 1)
    }

    /// The kinds served.
    #[must_use]
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// The index of a kind by group and plural name.
    #[must_use]
    pub fn kind(&self, group: &str, plural: &str) -> Option<KindId> {
        self.resources.iter().position(|row| row.group == group && row.plural == plural).map(KindId)
    }

    /// Shows `metadata.managedFields` in all objects, as a real server does; costs time, so off by default.
    pub fn show_managed_fields(&mut self) {
        self.store.show_managed_fields();
    }

    /// Calls `hook` with every new revision, in the middle of the change: it may only take note.
    pub fn on_change(&mut self, hook: Box<dyn Fn(u64) + Send + Sync>) {
        self.store.on_change(hook);
    }

    /// An event as the watching client asked to see it: the object, or one row of a table.
    #[must_use]
    pub fn shown(&self, cursor: &WatchCursor, event: &WatchEvent, request: &Request, now: ModelTime) -> Arc<Value> {
        match event.change {
            Change::Added | Change::Modified | Change::Deleted if table::wants_table(&request.accept) => {
                let one = std::slice::from_ref(&event.object);
                Arc::new(table::table(cursor.kind(), one, cursor.position(), now, request))
            }
            Change::Added | Change::Modified | Change::Deleted | Change::Bookmark | Change::Error => {
                Arc::clone(&event.object)
            }
        }
    }

    /// All objects, for reading: the oracle's view, never a pilot's.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Forgets changes up to `revision`: older watches are answered 410.
    pub fn compact(&mut self, revision: u64) {
        self.store.compact(revision);
    }

    /// Who asked for what.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The audit log, to clear it.
    pub fn audit_mut(&mut self) -> &mut Audit {
        &mut self.audit
    }

    /// How many requests each user sent.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The faults in force; applied by whoever carries the requests.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The faults, to change them or to ask for a verdict.
    pub fn faults_mut(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// Answers one request. Always answers: faults are applied by the caller.
    pub fn handle(&mut self, now: ModelTime, request: Request) -> Response {
        self.counters.count(&request.user, now);
        let answer = match route::route(&self.resources, &request.path) {
            Ok(Route::Resource { kind, namespace, name, subresource }) => match request.method {
                Method::Get => self.read(now, &request, kind, namespace.as_deref(), &name, subresource),
                Method::Post | Method::Put | Method::Patch | Method::Delete => {
                    self.write_request(now, request, kind, namespace.unwrap_or_default(), name, subresource)
                }
            },
            Ok(Route::AccessReview) => Ok((201, Body::Made(allowed(request.body)))),
            Ok(Route::Other) if request.method == Method::Get => self.discover(&request),
            Ok(Route::Other) => {
                Err(ApiError::new(Reason::NotFound, "the server could not find the requested resource"))
            }
            Err(error) => Err(error),
        };
        match answer {
            Ok((status, body)) => Response { status, body },
            Err(error) => Response { status: error.reason.code(), body: Body::Made(error.to_status()) },
        }
    }

    /// Draws up to `limit` events of a watch; an empty answer means nothing new.
    pub fn poll_watch(&self, cursor: &mut WatchCursor, limit: usize) -> Vec<WatchEvent> {
        let mut events = cursor.poll(self.store.log(), self.store.revision(), limit);
        if cursor.api_version == "events.k8s.io/v1" {
            for event in &mut events {
                event.object = Arc::new(events::to_new(&event.object));
            }
        }
        events
    }

    /// A stored object.
    #[must_use]
    pub fn get(&self, kind: KindId, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.store.get(kind, namespace, name)
    }

    /// Creates an object as a component of the cluster would.
    ///
    /// # Errors
    /// Whatever the server refuses.
    pub fn create(&mut self, now: ModelTime, user: &str, kind: KindId, object: Value) -> Result<Arc<Value>, ApiError> {
        let call = Call::of_object(user, kind, Verb::Create, object);
        self.object_of(now, call)
    }

    /// Replaces an object; conditional where it carries a resourceVersion.
    ///
    /// # Errors
    /// Whatever the server refuses.
    pub fn update(&mut self, now: ModelTime, user: &str, kind: KindId, object: Value) -> Result<Arc<Value>, ApiError> {
        let call = Call::of_object(user, kind, Verb::Update, object);
        self.object_of(now, call)
    }

    /// Replaces an object's status.
    ///
    /// # Errors
    /// Whatever the server refuses.
    pub fn update_status(
        &mut self,
        now: ModelTime,
        user: &str,
        kind: KindId,
        object: Value,
    ) -> Result<Arc<Value>, ApiError> {
        let mut call = Call::of_object(user, kind, Verb::Update, object);
        call.subresource = Subresource::Status;
        self.object_of(now, call)
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// Whatever the server refuses.
    pub fn delete(
        &mut self,
        now: ModelTime,
        user: &str,
        kind: KindId,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<(), ApiError> {
        let call = Call::new(user, kind, namespace, name, Verb::Delete, options.to_body());
        self.execute(now, call).map(|_| ())
    }

    fn object_of(&mut self, now: ModelTime, call: Call) -> Result<Arc<Value>, ApiError> {
        match self.execute(now, call)? {
            (_, Body::Object(object)) => Ok(object),
            (_, Body::Made(object)) => Ok(Arc::new(object)),
            (_, Body::List { .. } | Body::Watch(_)) => {
                Err(ApiError::new(Reason::InternalError, "a write was answered with a list"))
            }
        }
    }

    fn write_request(
        &mut self,
        now: ModelTime,
        request: Request,
        kind: KindId,
        namespace: String,
        name: String,
        subresource: Subresource,
    ) -> Granted {
        let mut parameters = request.parameters();
        let verb = match request.method {
            Method::Post => Verb::Create,
            Method::Put => Verb::Update,
            Method::Patch => Verb::Patch(PatchKind::parse(&request.content_type).ok_or_else(|| {
                ApiError::new(
                    Reason::UnsupportedMediaType,
                    format!("the body of the request was in an unknown format: {:?}", request.content_type),
                )
            })?),
            Method::Delete => Verb::Delete,
            Method::Get => {
                return Err(ApiError::new(Reason::MethodNotAllowed, "a read is not a write"));
            }
        };
        let applies = verb == Verb::Patch(PatchKind::Apply);
        let manager = match parameters.remove("fieldManager").filter(|manager| !manager.is_empty()) {
            Some(manager) => manager,
            None if applies => {
                return Err(ApiError::invalid_option(
                    "PatchOptions",
                    "fieldManager",
                    "Required value: is required for apply patch",
                ));
            }
            None if request.agent.is_empty() => "unknown".to_owned(),
            None => request.agent,
        };
        let mut body = request.body;
        // Deletion reads its options from the body, or where there is none from the query.
        let hides_query = verb == Verb::Delete && !body.is_null();
        if verb == Verb::Delete && !hides_query {
            if let Some(grace) = parameters.get("gracePeriodSeconds").and_then(|text| text.parse::<i64>().ok()) {
                super::json::set_default(&mut body, &["gracePeriodSeconds"], grace);
            }
            if let Some(policy) = parameters.get("propagationPolicy") {
                super::json::set_default(&mut body, &["propagationPolicy"], policy.clone());
            }
        }
        let dry_run = match parameters.get("dryRun").filter(|_| !hides_query).map(String::as_str) {
            Some("All") => true,
            Some(other) => {
                let why = format!("Unsupported value: {other:?}: supported values: \"All\"");
                return Err(ApiError::invalid_option("Options", "dryRun", &why));
            }
            None => body.get("dryRun").is_some_and(|value| *value == json!(["All"])),
        };
        let force = parameters.get("force").is_some_and(|value| value == "true");
        if force && !applies {
            let why = "Forbidden: may not be specified for non-apply patch";
            return Err(ApiError::invalid_option("PatchOptions", "force", why));
        }
        if name.is_empty() && verb == Verb::Delete {
            let labels = parameters.get("labelSelector").map_or("", String::as_str);
            let fields = parameters.get("fieldSelector").map_or("", String::as_str);
            return self.delete_collection(now, &request.user, kind, &namespace, labels, fields, &body);
        }
        if name.is_empty() != (verb == Verb::Create && subresource == Subresource::Main) {
            return Err(ApiError::new(
                Reason::MethodNotAllowed,
                "the server does not allow this method on the requested resource",
            ));
        }
        self.execute(
            now,
            Call { user: request.user, manager, kind, namespace, name, subresource, verb, body, dry_run, force },
        )
    }

    /// Executes and audits one write.
    pub(crate) fn execute(&mut self, now: ModelTime, mut call: Call) -> Granted {
        let before = self.store.revision();
        let requested = call.kind;
        let row = &self.resources[requested.0];
        let subresource = call.subresource.word();
        let slash = if subresource.is_empty() { "" } else { "/" };
        let target =
            if call.verb == Verb::Create && call.subresource == Subresource::Main { "" } else { call.name.as_str() };
        let (annotations, revision, uid) = sent(&call.body);
        let mut entry = AuditEntry {
            sequence: 0,
            time: now,
            user: call.user.clone(),
            method: call.verb.method(),
            path: format!("{}{slash}{subresource}", row.path(&call.namespace, target)),
            resource: row.plural.to_string(),
            namespace: call.namespace.clone(),
            name: if call.name.is_empty() { name(&call.body).to_owned() } else { call.name.clone() },
            subresource: subresource.to_owned(),
            sent_resource_version: revision,
            sent_uid: uid,
            sent_annotations: annotations,
            object_annotations: std::collections::BTreeMap::new(),
            sent_record: call.body["data"]["record"].as_str().map(str::to_owned),
            status: 0,
            committed: None,
        };
        let stored_as = row.stored_as;
        if let Some(kind) = stored_as {
            call.kind = kind;
            call.body = events::to_core(&call.body);
        }
        let earlier = self.store.get(call.kind, &entry.namespace, &entry.name).cloned();
        let kind = call.kind;
        let mut granted = self.dispatch(now, call);
        if stored_as.is_some()
            && let Ok((_, body)) = &mut granted
            && let Some(object) = body.object()
        {
            *body = Body::Made(events::to_new(object));
        }
        if let Ok((_, Body::Object(object))) = &granted {
            name(object).clone_into(&mut entry.name);
        }
        entry.status = match &granted {
            Ok((status, _)) => *status,
            Err(error) => error.reason.code(),
        };
        entry.committed = Some(self.store.revision()).filter(|revision| *revision != before);
        let after = self.store.get(kind, &entry.namespace, &entry.name).cloned().or(earlier);
        entry.object_annotations = after.as_deref().map(annotations_of).unwrap_or_default();
        self.audit.push(entry);
        granted
    }

    fn dispatch(&mut self, now: ModelTime, call: Call) -> Granted {
        match (call.subresource, call.verb) {
            (Subresource::Main, Verb::Create) => self.create_call(now, call),
            (Subresource::Main | Subresource::Status, Verb::Update) => self.update_call(now, call),
            (Subresource::Main | Subresource::Status, Verb::Patch(kind)) => self.patch_call(now, call, kind),
            (Subresource::Main, Verb::Delete) => {
                let options = DeleteOptions::parse(&call.body)?;
                self.delete_call(now, &call, &options)
            }
            (Subresource::Scale, Verb::Update) => self.scale_call(now, call, None),
            (Subresource::Scale, Verb::Patch(kind)) => self.scale_call(now, call, Some(kind)),
            (Subresource::Eviction, Verb::Create) => self.evict_call(now, &call),
            (Subresource::Status, Verb::Create | Verb::Delete)
            | (Subresource::Scale, Verb::Create | Verb::Delete)
            | (Subresource::Eviction, Verb::Update | Verb::Patch(_) | Verb::Delete) => Err(ApiError::new(
                Reason::MethodNotAllowed,
                "the server does not allow this method on the requested resource",
            )),
        }
    }
}

impl Call {
    /// A write of a whole object, to where the object itself says.
    fn of_object(user: &str, kind: KindId, verb: Verb, object: Value) -> Self {
        let (namespace, name) = (namespace(&object).to_owned(), name(&object).to_owned());
        Self::new(user, kind, &namespace, &name, verb, object)
    }

    pub(crate) fn new(user: &str, kind: KindId, namespace: &str, name: &str, verb: Verb, body: Value) -> Self {
        Self {
            user: user.to_owned(),
            manager: user.rsplit(':').next().unwrap_or(user).to_owned(),
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: Subresource::Main,
            verb,
            body,
            dry_run: false,
            force: false,
        }
    }
}

/// Everything is allowed here: authorisation is proven on a real cluster.
fn allowed(mut review: Value) -> Value {
    super::json::set(&mut review, &["status"], json!({"allowed": true}));
    super::json::set_default(&mut review, &["apiVersion"], "authorization.k8s.io/v1");
    super::json::set_default(&mut review, &["kind"], "SelfSubjectAccessReview");
    review
}
