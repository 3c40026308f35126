//! Accepts connections, within bounds.

use super::board::Board;
use super::routes::Routes;
use super::stall::{STALL, Stalling};
use super::watch::HEARTBEAT;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

/// At most so many connections at a time. One more, and the oldest gives way.
pub const MOST_CONNECTIONS: usize = 64;
/// The request line and all headers together.
const HEADER_BYTES: usize = 8 * 1024;
/// What is held for one connection beside the shared documents.
const BUFFER_BYTES: usize = 16 * 1024;
/// What the kernel may hold for one connection; it takes twice that.
const SOCKET_BYTES: u32 = 64 * 1024;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;
/// The pause after the system refused a connection, for want of descriptors for instance.
const REFUSED: Duration = Duration::from_millis(100);

/// How long others may keep us waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    /// A request must have come whole within this; it also ends connections that are kept and not used.
    pub(super) header: Duration,
    /// A reader must take something within this.
    pub(super) stall: Duration,
    /// A watcher is told something within this.
    pub(super) heartbeat: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self { header: Duration::from_secs(10), stall: STALL, heartbeat: HEARTBEAT }
    }
}

/// Why the endpoints cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve endpoints on {listen}/tcp: {source}; free the port or choose another")]
pub struct ServeError {
    /// Where.
    pub listen: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// Running endpoints; they end when this is dropped.
pub struct Handle {
    address: SocketAddr,
    task: JoinHandle<()>,
    routes: Arc<Routes>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Handle {
    /// Where they listen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        // The listener and this handle each hold the routes once, every connection once more.
        Arc::strong_count(&self.routes).saturating_sub(2)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves the endpoints until the handle is dropped; port 0 takes a free one.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(listen: SocketAddr, board: Board) -> Result<Handle, ServeError> {
    serve_with(listen, board, Waits::default())
}

pub(super) fn serve_with(listen: SocketAddr, board: Board, waits: Waits) -> Result<Handle, ServeError> {
    let failed = |source| ServeError { listen, source };
    let listener = bind(listen).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let routes = Arc::new(Routes::new(board, waits.heartbeat));
    let task = tokio::spawn(accept(listener, routes.clone(), waits));
    Ok(Handle { address, task, routes })
}

fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it: without a bound the kernel would keep megabytes for a reader that does not read.
    socket.set_send_buffer_size(SOCKET_BYTES)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, routes: Arc<Routes>, waits: Waits) {
    // Dropped with this task, and all connections with it.
    let mut open = JoinSet::new();
    let mut places: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    places.retain(|place| !place.is_finished());
                    while places.len() >= MOST_CONNECTIONS && let Some(oldest) = places.pop_front() {
                        oldest.abort();
                    }
                    places.push_back(open.spawn(connection(stream, routes.clone(), waits)));
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection to the endpoints was not accepted");
                    tokio::time::sleep(REFUSED).await;
                }
            },
            Some(ended) = open.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!(%error, "a connection to the endpoints panicked");
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, routes: Arc<Routes>, waits: Waits) {
    // Lines of a watch are small and wanted at once.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection to the endpoints was gone at once");
        return;
    }
    let service = service_fn(move |request| {
        let response = routes.answer(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(waits.header)
        .max_header_size(HEADER_BYTES)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(Stalling::new(stream, waits.stall)), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the endpoints ended");
    }
}
