//! The endpoints of a pilot: what it knows, why it acts, how it fares. Read-only, and served from memory alone, so that
//! they answer the same when the Kubernetes API, the coordinator or the database is away.
//!
//! The runtime fills a [`Board`]; every answer is read from it. Writes go through Kubernetes objects, never through here.
//!
//! Memory is bounded whoever asks and however slowly: at most [`MOST_CONNECTIONS`] connections with small buffers, one
//! rendered document shared by all readers, and readers that take nothing for [`STALL`] are dropped. When all places are
//! taken the oldest connection gives way, so that a probe is always answered.

mod board;
mod counters;
mod metrics;
mod page;
mod probe;
mod process;
mod reply;
mod routes;
mod server;
mod stall;
mod watch;

pub mod reference;

pub use board::{Board, Health};
pub use counters::Task;
pub use routes::answer;
pub use server::{Handle, MOST_CONNECTIONS, ServeError, serve};
pub use stall::STALL;
pub use watch::{HEARTBEAT, MOST_WATCHERS};

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod schema_tests;
#[cfg(test)]
mod tests;
