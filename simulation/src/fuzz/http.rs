//! The endpoints: which request gets which answer. What HTTP itself is, hyper reads.

use super::input::{Input, chunks};
use super::{MIB, Outcome, Target};
use agent::http::{Board, answer};
use hyper::{Request, StatusCode};

pub(super) const TARGETS: &[Target] = &[Target {
    name: "http-request",
    reads: "a request to a pilot's endpoints",
    run: request,
    seeds: || {
        ["/", "/state?pretty", "/decisions", "/metrics", "/livez?verbose&exclude=loop", "/startupz?exclude=", "/readyz"]
            .map(|path| chunks([b"GET".as_slice(), path.as_bytes()]))
            .to_vec()
    },
    base: MIB,
    per_byte: 64,
    gate: 1_500,
}];

fn request(bytes: &[u8]) -> Outcome {
    let mut input = Input(bytes);
    let (method, path) = (input.chunk(), input.chunk());
    let Ok(request) = Request::builder().method(method).uri(path).body(()) else {
        return Outcome::Refused;
    };
    let path = request.uri().path().to_owned();
    if path == "/state/watch" {
        // It tells the time of its heartbeats, which only a server has.
        return Outcome::Refused;
    }
    let response = answer(&Board::new(), &request);
    let known = ["/", "/state", "/decisions", "/metrics", "/livez", "/readyz", "/startupz"].contains(&path.as_str());
    let reads = ["GET", "HEAD"].contains(&request.method().as_str());
    assert_eq!(response.status() == StatusCode::METHOD_NOT_ALLOWED, !reads);
    assert_eq!(response.status() == StatusCode::NOT_FOUND, reads && !known, "{path}");
    (reads && known).into()
}
