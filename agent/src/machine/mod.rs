//! What a pilot takes from the machine it runs on: time, sockets, names, disk, the launcher, the API, the word to end.
//!
//! [`Host`] is the machine of production. A simulation gives another one to the very same loop, so that every await of
//! every adapter can be made late, wrong or the last. Nothing here decides anything.

mod host;
mod network;

pub use host::Host;
pub use network::{ByteStream, Datagrams, Listener, Network, Sockets};

use crate::gossip::GossipCodec;
use crate::http::{Board, ServeError};
use crate::runtime::api::ApiError;
use crate::runtime::keeper::{Disk, Keeper, MemoryError};
use crate::state_file::Loaded;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What time it is.
pub trait Clock: Send + Sync {
    /// Time since the machine started, time asleep included. Nothing can set it back.
    fn boot(&self) -> Duration;

    /// The wall clock, for people and as a lower bound of a new life's number: never for a decision.
    fn wall(&self) -> SystemTime;
}

/// A clock that all tasks of a pilot read.
pub type SharedClock = Arc<dyn Clock>;

/// The machine that one pilot runs on. Cheap to clone.
pub trait Machine: Clone + Send + Sync + 'static {
    /// Datagrams and connections between pilots.
    type Network: Network;
    /// A connection to the launcher.
    type Launcher: ByteStream;
    /// Where the memory is kept.
    type Disk: Disk;
    /// The endpoints; they end when this is dropped.
    type Endpoints: Send + 'static;
    /// The word to end.
    type Signals: Signals;

    /// The clock.
    fn clock(&self) -> SharedClock;

    /// The network.
    fn network(&self) -> Self::Network;

    /// Makes gossip's messages into bytes; without one it is chitchat itself, over the loopback.
    fn gossip_codec(&self) -> Option<Arc<dyn GossipCodec>>;

    /// The addresses of `host:port`.
    fn resolve(&self, name: &str) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    /// Connects to the launcher's socket.
    fn launcher(&self, socket: &Path) -> impl Future<Output = io::Result<Self::Launcher>> + Send;

    /// Opens the pilot's memory, and gives what it holds.
    ///
    /// # Errors
    /// When another agent holds it, or it cannot be read or made.
    fn memory(&self, path: &Path) -> Result<(Self::Disk, Loaded), MemoryError>;

    /// Writes to the memory, beside the loop.
    fn keep(&self, disk: Self::Disk) -> Keeper;

    /// Does work that blocks, beside the loop.
    ///
    /// # Errors
    /// When the work panicked.
    fn beside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, String>> + Send;

    /// A client of the Kubernetes API that sends nothing twice by itself.
    ///
    /// # Errors
    /// When it is not known where the API is, or who we are.
    fn api(&self, kubeconfig: Option<&Path>) -> impl Future<Output = Result<kube::Client, ApiError>> + Send;

    /// Serves the endpoints, and says where.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    fn serve(
        &self,
        listen: SocketAddr,
        board: Board,
    ) -> impl Future<Output = Result<(SocketAddr, Self::Endpoints), ServeError>> + Send;

    /// Hears the word to end from now on.
    ///
    /// # Errors
    /// When the system lets nobody hear it.
    fn signals(&self) -> io::Result<Self::Signals>;
}

/// The word to end.
pub trait Signals: Send + 'static {
    /// Waits until this process is told to end. Cancel-safe.
    fn told_to_end(&mut self) -> impl Future<Output = ()> + Send;
}
