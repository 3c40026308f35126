//! The form of every answer.

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use std::convert::Infallible;

/// The body of any answer.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Text for people.
pub(super) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// One JSON document.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// JSON documents, one a line.
pub(super) const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");
/// OpenMetrics.
pub(super) const METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
/// The page.
pub(super) const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// An answer with a body of known length.
pub(super) fn full(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Body> {
    streamed(status, kind, Full::new(body.into()).boxed_unsync())
}

/// An answer whose body comes in pieces.
pub(super) fn streamed(status: StatusCode, kind: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    // What was true a second ago is not the state.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response
}

/// A text, its newline added.
pub(super) fn text(status: StatusCode, text: &str) -> Response<Body> {
    full(status, TEXT, format!("{text}\n"))
}

/// Only reading is possible here.
pub(super) fn only_reading(method: &str) -> Response<Body> {
    let mut response = text(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!(
            "{method} is not served: these endpoints only tell; use GET or HEAD, and change things through Kubernetes objects"
        ),
    );
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}
