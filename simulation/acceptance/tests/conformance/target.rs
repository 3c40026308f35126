//! Where a script is run: anything that answers as an API server does, with controllers and kubelets behind it.

use std::time::Duration;

use serde_json::Value;

/// How long a wait may last, on the clock of whoever is asked.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks of a wait.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// One request as it crosses the wire.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// `GET`, `POST`, `PUT`, `PATCH`, `DELETE`.
    pub(crate) method: &'static str,
    /// With the query.
    pub(crate) path: String,
    pub(crate) content_type: String,
    /// `null` without one.
    pub(crate) body: Value,
}

/// One answer as it came.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Value,
}

/// An API server and what lives behind it.
pub(crate) trait Target {
    /// Makes a namespace in which pods can be made.
    fn prepare(&mut self, namespace: &str);

    fn send(&mut self, request: Sent) -> Answer;

    /// The first events of a watch, up to `count`, and the code it began with. Fewer where it ended before.
    fn watch(&mut self, path: &str, count: usize) -> (u16, Vec<Value>);

    /// Lets everybody else act for a moment. Returns how much time went by.
    fn pause(&mut self) -> Duration;

    /// Makes sure that what happened long ago is forgotten, as it is on a server that has run for a while.
    fn forget(&mut self);

    /// Which image containers run.
    fn image(&self) -> String;
}
