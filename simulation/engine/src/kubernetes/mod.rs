//! A model of Kubernetes: the API server, the controllers and the kubelet, as far as a database mesh meets them.
//!
//! One implementation serves two masters. The simulator calls [`ModelApi::handle`], [`controllers::reconcile_all`]
//! and the kubelet as pure functions of state and time, millions of times. The sandbox serves the same over HTTP on
//! loopback to real clients, with pods as local processes.
//!
//! What is modelled follows what real servers were seen to do; where a rule is in doubt, the conformance suite
//! against a real cluster decides. What is left out on purpose: authorisation (everything is allowed), admission
//! webhooks, quota, and every kind a mesh does not touch.

mod admission;
mod api;
mod audit;
pub mod controllers;
mod error;
mod events;
mod faults;
mod json;
pub mod kubelet;
mod merge_keys;
mod ownership;
mod patch;
mod request;
mod resource;
mod selector;
pub mod server;
mod snapshot;
mod store;
mod time;
mod validation;
mod watch;

pub use api::{DeleteOptions, ModelApi, Propagation};
pub use audit::{Audit, AuditEntry, Counters};
pub use error::{ApiError, Reason};
pub use faults::{Fate, Faults, Matcher, RuleId, Verdict};
pub use request::{Body, Method, Page, PatchKind, Request, Response};
pub use resource::{KindId, Resource};
pub use selector::Selector;
pub use store::Store;
pub use time::{IdentitySource, ModelTime};
pub use watch::{Change, WatchCursor, WatchEvent};
