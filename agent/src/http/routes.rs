//! Which question gets which answer.

use super::board::Board;
use super::reply::{self, Body};
use super::watch::{HEARTBEAT, Lines, MOST_WATCHERS};
use super::{metrics, page, probe};
use http_body_util::BodyExt;
use hyper::{Method, Request, Response, StatusCode};
use probe::Probe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// What there is, for those who ask for something else.
const ROUTES: &str = "\
/             a page that shows the mesh live
/state        what this pilot knows, as JSON (?pretty)
/state/watch  the same on every change, one JSON document a line
/decisions    what was decided and why, as JSON (?pretty)
/metrics      OpenMetrics
/livez        whether this process lives (?verbose, ?exclude=<check>)
/readyz       whether its member serves (?verbose, ?exclude=<check>)
/startupz     whether it has begun (?verbose, ?exclude=<check>)";

/// The answer to one request, as a connection would get it.
pub fn answer<B>(board: &Board, request: &Request<B>) -> Response<Body> {
    Routes::new(board.clone(), HEARTBEAT).answer(request)
}

/// The answers, all of them from the board.
pub(super) struct Routes {
    board: Board,
    watchers: Arc<Semaphore>,
    heartbeat: Duration,
}

impl Routes {
    pub(super) fn new(board: Board, heartbeat: Duration) -> Self {
        Self { board, watchers: Arc::new(Semaphore::new(MOST_WATCHERS)), heartbeat }
    }

    pub(super) fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return reply::only_reading(request.method().as_str());
        }
        let query = request.uri().query().unwrap_or_default();
        match request.uri().path() {
            "/" => page::answer(),
            "/state" => self.state(pretty(query)),
            "/state/watch" => self.watch(request.method() == Method::HEAD),
            "/decisions" => json(&*self.board.decisions(), pretty(query)),
            "/metrics" => reply::full(StatusCode::OK, reply::METRICS, metrics::render(&self.board)),
            "/livez" => self.probe(Probe::Live, query),
            "/readyz" => self.probe(Probe::Ready, query),
            "/startupz" => self.probe(Probe::Started, query),
            _ => reply::text(StatusCode::NOT_FOUND, &format!("there is no such endpoint; there are\n{ROUTES}")),
        }
    }

    fn state(&self, pretty: bool) -> Response<Body> {
        match self.board.latest() {
            None => reply::text(StatusCode::SERVICE_UNAVAILABLE, "nothing is known yet: the pilot has just begun"),
            Some(published) if pretty => json(&published.document, true),
            Some(published) => match published.json() {
                Ok(line) => reply::full(StatusCode::OK, reply::JSON, line),
                Err(error) => unwritable(&error),
            },
        }
    }

    fn watch(&self, head: bool) -> Response<Body> {
        if head {
            return reply::full(StatusCode::OK, reply::LINES, "");
        }
        match self.watchers.clone().try_acquire_owned() {
            Ok(place) => {
                let lines = Lines::begin(&self.board, place, self.heartbeat);
                reply::streamed(StatusCode::OK, reply::LINES, lines.boxed_unsync())
            }
            Err(_) => reply::text(
                StatusCode::SERVICE_UNAVAILABLE,
                &format!("{MOST_WATCHERS} watch already, which is the most: ask for /state, or another pilot"),
            ),
        }
    }

    fn probe(&self, probe: Probe, query: &str) -> Response<Body> {
        let (status, text) = probe::answer(probe, &self.board, query);
        reply::text(status, &text)
    }
}

fn pretty(query: &str) -> bool {
    query.split('&').any(|pair| pair.split('=').next() == Some("pretty"))
}

fn json<T: serde::Serialize>(document: &T, pretty: bool) -> Response<Body> {
    let text = if pretty { serde_json::to_string_pretty(document) } else { serde_json::to_string(document) };
    match text {
        Ok(text) => reply::full(StatusCode::OK, reply::JSON, format!("{text}\n")),
        Err(error) => unwritable(&error.to_string()),
    }
}

fn unwritable(error: &str) -> Response<Body> {
    tracing::error!(%error, "a document cannot be written as JSON");
    reply::text(StatusCode::INTERNAL_SERVER_ERROR, "the document cannot be written as JSON: please report it")
}
