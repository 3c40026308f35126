//! Watches a pilot's `/state/watch`.

use crate::sandbox::manifests::PORTS;
use agent::pilot::state::StateDocument;
use http_body_util::BodyExt;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// A watch lasts at most one line of so many bytes: nothing a mesh of ours tells comes near.
const LONGEST: usize = 16 << 20;

/// Calls `look` with every document until it says that it has seen enough.
///
/// # Errors
/// When the pilot cannot be reached, ends, or tells what is no document.
pub(super) async fn watch(address: IpAddr, mut look: impl FnMut(&StateDocument) -> bool) -> io::Result<()> {
    let stream = tokio::net::TcpStream::connect(SocketAddr::new(address, PORTS.2)).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let told = async {
        let request = http::Request::builder()
            .uri("/state/watch")
            .header("host", address.to_string())
            .body(http_body_util::Empty::<hyper::body::Bytes>::new())
            .map_err(io::Error::other)?;
        let mut body = sender.send_request(request).await.map_err(io::Error::other)?.into_body();
        let mut line: Vec<u8> = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(io::Error::other)?.into_data() else {
                continue;
            };
            for byte in data {
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                // An empty line only says that the pilot is still there.
                if !line.is_empty() && look(&serde_json::from_slice(&line).map_err(io::Error::other)?) {
                    return Ok(());
                }
                line.clear();
            }
            if line.len() > LONGEST {
                return Err(io::Error::other(format!("a line of the watch is longer than {LONGEST} bytes")));
            }
        }
        Err(io::Error::from(io::ErrorKind::UnexpectedEof))
    }
    .await;
    connection.abort();
    told
}
