//! Whether the process behind a closed stream has ended.

use super::event::Evidence;
use crate::machine::Network;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// How often it is asked: a dying process closes its sockets one after the other, its listener maybe last.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_millis(60);
const ANSWER: Duration = Duration::from_millis(500);

/// Asks the address of a stream that has just been closed.
pub(super) async fn probe(network: &impl Network, address: SocketAddr) -> Evidence {
    for _ in 0..TRIES {
        match tokio::time::timeout(ANSWER, network.connect(address)).await {
            Ok(Ok(_)) => tokio::time::sleep(PAUSE).await,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return Evidence::ProcessEnded,
            Ok(Err(_)) | Err(_) => return Evidence::Unreachable,
        }
    }
    Evidence::Closed
}
