//! A request and its answer as plain values: what crosses the wire, without the wire.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use super::watch::WatchCursor;

/// The HTTP methods the API knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Read, list or watch.
    Get,
    /// Create, or act on a subresource.
    Post,
    /// Replace.
    Put,
    /// Change in part; the content type says how.
    Patch,
    /// Delete.
    Delete,
}

impl Method {
    /// As written on the request line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Reads a request line's method; `None` for those the API does not know.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "GET" | "HEAD" => Some(Self::Get),
            "POST" => Some(Self::Post),
            "PUT" => Some(Self::Put),
            "PATCH" => Some(Self::Patch),
            "DELETE" => Some(Self::Delete),
            _ => None,
        }
    }

    /// Whether requests of this method can change anything.
    #[must_use]
    pub fn is_mutating(self) -> bool {
        self != Self::Get
    }
}

/// One request, with who sends it.
#[derive(Debug, Clone)]
pub struct Request {
    /// What to do.
    pub method: Method,
    /// Path without the query, such as `/api/v1/namespaces/default/pods/a-0`.
    pub path: String,
    /// Query as written after the `?`; empty without one.
    pub query: String,
    /// Which patch a PATCH body is; ignored for other methods.
    pub content_type: String,
    /// What the client would like to read; decides only between objects and tables.
    pub accept: String,
    /// Who asks; the audit log and the faults go by it.
    pub user: String,
    /// The first word of the client's user agent: the field manager of those who name none.
    pub agent: String,
    /// The decoded body; `null` without one.
    pub body: Value,
}

impl Request {
    /// A request without query and body.
    #[must_use]
    pub fn new(user: &str, method: Method, path: &str) -> Self {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        Self {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            content_type: "application/json".to_owned(),
            accept: "application/json".to_owned(),
            user: user.to_owned(),
            agent: String::new(),
            body: Value::Null,
        }
    }

    /// A read of one object or list; the path may carry a query.
    #[must_use]
    pub fn get(user: &str, path: &str) -> Self {
        Self::new(user, Method::Get, path)
    }

    /// A create, or a POST to a subresource.
    #[must_use]
    pub fn post(user: &str, path: &str, body: Value) -> Self {
        Self { body, ..Self::new(user, Method::Post, path) }
    }

    /// A full replacement.
    #[must_use]
    pub fn put(user: &str, path: &str, body: Value) -> Self {
        Self { body, ..Self::new(user, Method::Put, path) }
    }

    /// A patch of the given type.
    #[must_use]
    pub fn patch(user: &str, path: &str, kind: PatchKind, body: Value) -> Self {
        Self { body, content_type: kind.content_type().to_owned(), ..Self::new(user, Method::Patch, path) }
    }

    /// A deletion with `DeleteOptions`, or `null` for the defaults.
    #[must_use]
    pub fn delete(user: &str, path: &str, options: Value) -> Self {
        Self { body: options, ..Self::new(user, Method::Delete, path) }
    }

    /// The query, decoded. Of a repeated name the last counts.
    #[must_use]
    pub fn parameters(&self) -> BTreeMap<String, String> {
        self.query
            .split('&')
            .filter(|part| !part.is_empty())
            .map(|part| {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                (percent_decoded(name), percent_decoded(value))
            })
            .collect()
    }

    /// Whether this asks for a stream of changes.
    #[must_use]
    pub fn is_watch(&self) -> bool {
        self.method == Method::Get
            && self.parameters().get("watch").is_some_and(|value| value == "true" || value == "1")
    }
}

/// The four ways to change a part of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902: a list of operations, `test` among them.
    Json,
    /// RFC 7386: an object laid over the old one; lists are replaced.
    Merge,
    /// Kubernetes' own: as merge, but well-known lists are merged by key.
    Strategic,
    /// Server-side apply: the fields this manager wants, with ownership of each.
    Apply,
}

impl PatchKind {
    /// The content type that names it.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }

    /// Reads a content type, parameters ignored.
    #[must_use]
    pub fn parse(content_type: &str) -> Option<Self> {
        [Self::Json, Self::Merge, Self::Strategic, Self::Apply]
            .into_iter()
            .find(|kind| content_type.split(';').next().is_some_and(|essence| essence.trim() == kind.content_type()))
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// What it says.
    pub body: Body,
}

impl Response {
    /// The body as one value: a copy, for tests and for callers that change it.
    #[must_use]
    pub fn value(&self) -> Value {
        self.body.to_value()
    }

    /// Whether the request was granted.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The body of an answer. Objects are shared with the store, so that reads copy nothing.
#[derive(Debug, Clone)]
pub enum Body {
    /// One stored object.
    Object(Arc<Value>),
    /// A list of stored objects.
    List {
        /// Such as `PodList`.
        kind: String,
        /// Of the list and its items.
        api_version: String,
        /// The store's revision when it was read.
        revision: u64,
        /// Where it goes on, where this is not all of it.
        page: Option<Page>,
        /// The objects, by namespace and name.
        items: Vec<Arc<Value>>,
    },
    /// Anything made for this answer: a `Status`, a `Scale`, discovery.
    Made(Value),
    /// A watch began: the caller draws events with `ModelApi::poll_watch`.
    Watch(Box<WatchCursor>),
}

impl Body {
    /// The body as one value. A watch is `null`: it has events, no body.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Object(object) => Value::clone(object),
            Self::List { kind, api_version, revision, page, items } => {
                let mut list = serde_json::json!({
                    "kind": kind,
                    "apiVersion": api_version,
                    "metadata": list_metadata(*revision, page.as_ref()),
                });
                // Within `json!` all of them would be copied twice.
                list["items"] = items.iter().map(|item| Value::clone(item)).collect();
                list
            }
            Self::Made(value) => value.clone(),
            Self::Watch(_) => Value::Null,
        }
    }

    /// The single object, where the body is one.
    #[must_use]
    pub fn object(&self) -> Option<&Value> {
        match self {
            Self::Object(object) => Some(object),
            Self::Made(value) => Some(value),
            Self::List { .. } | Self::Watch(_) => None,
        }
    }
}

/// Where a list that came in part goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// What to send as `continue`.
    pub token: String,
    /// How many are left; not told where a selector was asked for.
    pub remaining: Option<usize>,
}

fn list_metadata(revision: u64, page: Option<&Page>) -> Value {
    let mut metadata = serde_json::json!({"resourceVersion": revision.to_string()});
    if let Some(page) = page {
        metadata["continue"] = Value::from(page.token.clone());
        if let Some(remaining) = page.remaining {
            metadata["remainingItemCount"] = Value::from(remaining);
        }
    }
    metadata
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Object(object) => object.serialize(serializer),
            Self::List { kind, api_version, revision, page, items } => {
                let mut map = serializer.serialize_map(Some(4))?;
                map.serialize_entry("kind", kind)?;
                map.serialize_entry("apiVersion", api_version)?;
                map.serialize_entry("metadata", &list_metadata(*revision, page.as_ref()))?;
                map.serialize_entry("items", &items.iter().map(AsRef::as_ref).collect::<Vec<&Value>>())?;
                map.end()
            }
            Self::Made(value) => value.serialize(serializer),
            Self::Watch(_) => serializer.serialize_unit(),
        }
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut ahead = rest.clone();
                let digits = ahead.next().zip(ahead.next());
                let decoded = digits.and_then(|(high, low)| {
                    let value = char::from(high).to_digit(16)? * 16 + char::from(low).to_digit(16)?;
                    u8::try_from(value).ok()
                });
                match decoded {
                    Some(value) => {
                        bytes.push(value);
                        rest = ahead;
                    }
                    // A stray percent sign stands for itself: refusing it would teach nothing.
                    None => bytes.push(byte),
                }
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
