//! Asks the endpoints of a pilot.

use super::AskArgs;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// More than a mesh of a thousand has to say.
const LONGEST: usize = 64 * 1024 * 1024;

/// Gets a JSON document from one of a pilot's endpoints.
pub(super) async fn get(ask: &AskArgs, endpoint: &str) -> Result<Value, String> {
    let url = format!("{}{endpoint}", base(&ask.url));
    let asked = timeout(ask.timeout, request(&url)).await;
    let answer = asked.unwrap_or_else(|_| Err(format!("no answer within {}", humantime::format_duration(ask.timeout))));
    let bytes = answer.map_err(|why| {
        format!("cannot read {url}: {why}; name the endpoints of a running pilot with --url or PILOT_URL")
    })?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{url} gave no JSON ({error}): is a pilot listening there?"))
}

/// Reads a document that [`get`] gave.
pub(super) fn read<T: DeserializeOwned>(document: &Value) -> Result<T, String> {
    T::deserialize(document).map_err(|error| {
        format!("the document cannot be read ({error}): the pilot may be of another version; -o json shows it")
    })
}

/// The endpoints' common beginning, whichever of them was given. A path before it stays: a proxy may need it.
fn base(url: &str) -> String {
    let url = url.trim_end_matches('/');
    let url = url.strip_suffix("/state").or_else(|| url.strip_suffix("/decisions")).unwrap_or(url);
    let url = url.trim_end_matches('/');
    if url.contains("://") { url.to_owned() } else { format!("http://{url}") }
}

async fn request(url: &str) -> Result<Bytes, String> {
    let uri: Uri = url.parse().map_err(|error| format!("it is no URL: {error}"))?;
    if uri.scheme_str() != Some("http") {
        return Err("only http is spoken here".to_owned());
    }
    let authority = uri.authority().ok_or("it names no host")?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await.map_err(|e| e.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let asked = async {
        let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
            .header("host", authority.as_str())
            .header("accept", "application/json")
            .body(Empty::<Bytes>::new())
            .map_err(|e| e.to_string())?;
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST).collect().await.map_err(|e| e.to_string())?.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        let text = String::from_utf8_lossy(&body);
        let first: String =
            super::text::quiet(text.trim().lines().next().unwrap_or_default()).chars().take(200).collect();
        Err(format!("it answered {status}: {first}"))
    };
    tokio::pin!(asked);
    tokio::select! {
        answer = &mut asked => answer,
        ended = connection => match ended {
            // The connection may end together with the last of the answer.
            Ok(()) => asked.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::base;

    #[test]
    fn any_endpoint_of_a_pilot_names_the_pilot() {
        for url in ["http://a:1", "http://a:1/", "http://a:1/state", "http://a:1/state/", "a:1", "http://a:1/decisions"]
        {
            assert_eq!(base(url), "http://a:1", "{url}");
        }
        assert_eq!(base("http://a/pods/x:7300/proxy/state"), "http://a/pods/x:7300/proxy");
    }
}
