//! The machine of production: the system's own sockets, clocks, files and signals.

use super::network::Sockets;
use super::{Clock, Machine, SharedClock, Signals};
use crate::gossip::{GossipCodec, boottime};
use crate::http::{Board, Handle, ServeError};
use crate::runtime::api::{self, ApiError};
use crate::runtime::keeper::{self, Keeper, MemoryError};
use crate::state_file::{Loaded, StateFile};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The machine of production.
#[derive(Debug, Clone, Copy, Default)]
pub struct Host;

impl Clock for Host {
    fn boot(&self) -> Duration {
        boottime()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

impl Machine for Host {
    type Network = Sockets;
    type Launcher = UnixStream;
    type Disk = StateFile;
    type Endpoints = Handle;
    type Signals = UnixSignals;

    fn clock(&self) -> SharedClock {
        Arc::new(*self)
    }

    fn network(&self) -> Sockets {
        Sockets
    }

    fn gossip_codec(&self) -> Option<Arc<dyn GossipCodec>> {
        None
    }

    async fn resolve(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host(name).await?.collect())
    }

    async fn launcher(&self, socket: &Path) -> io::Result<UnixStream> {
        UnixStream::connect(socket).await
    }

    fn memory(&self, path: &Path) -> Result<(StateFile, Loaded), MemoryError> {
        keeper::open(path)
    }

    fn keep(&self, disk: StateFile) -> Keeper {
        keeper::keep(disk)
    }

    async fn beside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())
    }

    async fn api(&self, kubeconfig: Option<&Path>) -> Result<kube::Client, ApiError> {
        api::client(kubeconfig).await
    }

    async fn serve(&self, listen: SocketAddr, board: Board) -> Result<(SocketAddr, Handle), ServeError> {
        let handle = crate::http::serve(listen, board).await?;
        Ok((handle.address(), handle))
    }

    fn signals(&self) -> io::Result<UnixSignals> {
        Ok(UnixSignals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct UnixSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals for UnixSignals {
    async fn told_to_end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
