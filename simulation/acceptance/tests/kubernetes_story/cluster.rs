//! A Kubernetes reached as people reach it: kubectl for what is done, its proxy for what is looked at.

use http_body_util::BodyExt;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// An answer that is larger than this is none of ours.
const LONGEST: usize = 16 << 20;

/// One namespace of a cluster. Dropping it ends the proxy; the namespace stays.
pub(crate) struct Cluster {
    /// Everything happens in it.
    pub(crate) namespace: String,
    proxy: Child,
    at: SocketAddr,
}

/// Runs kubectl, with what is to be written to it.
pub(crate) fn kubectl(arguments: &[&str], input: Option<&str>) -> Result<String, String> {
    let said = || format!("kubectl {}", arguments.join(" "));
    let mut child = Command::new("kubectl")
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", said()))?;
    if let (Some(mut to), Some(text)) = (child.stdin.take(), input) {
        to.write_all(text.as_bytes()).map_err(|error| format!("{}: {error}", said()))?;
    }
    let output = child.wait_with_output().map_err(|error| format!("{}: {error}", said()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{}: {} {}", said(), text(&output.stdout), text(&output.stderr)))
    }
}

impl Cluster {
    /// Makes the namespace, with the restricted Pod Security level enforced, and opens the proxy.
    pub(crate) fn open(namespace: &str) -> Result<Self, String> {
        let object = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": namespace, "labels": { "pod-security.kubernetes.io/enforce": "restricted" } },
        });
        kubectl(&["apply", "-f", "-"], Some(&object.to_string()))?;
        let mut proxy = Command::new("kubectl")
            .args(["proxy", "--port=0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("kubectl proxy: {error}"))?;
        let mut line = String::new();
        if let Some(from) = proxy.stdout.take() {
            BufReader::new(from).read_line(&mut line).map_err(|error| format!("kubectl proxy: {error}"))?;
        }
        let at = line.trim().rsplit(' ').next().and_then(|at| at.parse().ok());
        match at {
            Some(at) => Ok(Self { namespace: namespace.to_owned(), proxy, at }),
            None => {
                end(&mut proxy);
                Err(format!("kubectl proxy said {line:?} instead of where it serves"))
            }
        }
    }

    /// kubectl in the namespace.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut all = vec!["--namespace", self.namespace.as_str()];
        all.extend(arguments);
        kubectl(&all, None)
    }

    /// Applies an object.
    pub(crate) fn apply(&self, object: &Value) -> Result<String, String> {
        kubectl(&["--namespace", &self.namespace, "apply", "-f", "-"], Some(&object.to_string()))
    }

    /// Runs a program in a container of a pod.
    pub(crate) fn exec(&self, pod: &str, container: &str, program: &[&str]) -> Result<String, String> {
        let mut all = vec!["exec", pod, "-c", container, "--"];
        all.extend(program);
        self.kubectl(&all)
    }

    /// Reads objects, or a pilot's endpoint, through the API server; nothing where it is not there.
    pub(crate) async fn get(&self, path: &str) -> Option<Value> {
        serde_json::from_str(&get(self.at, path).await?).ok()
    }

    /// The endpoint of a pilot, whoever can reach the pod.
    pub(crate) async fn pilot(&self, pod: &str, endpoint: &str) -> Option<String> {
        get(self.at, &format!("/api/v1/namespaces/{}/pods/{pod}:7300/proxy{endpoint}", self.namespace)).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        end(&mut self.proxy);
    }
}

fn end(child: &mut Child) {
    if let Err(error) = child.kill().and_then(|()| child.wait().map(drop)) {
        eprintln!("kubectl proxy could not be ended: {error}");
    }
}

/// The body of a 200, within a few seconds.
async fn get(at: SocketAddr, path: &str) -> Option<String> {
    let work = async {
        let stream = tokio::net::TcpStream::connect(at).await.ok()?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let request = http::Request::builder()
            .uri(path)
            .header("host", at.to_string())
            .body(http_body_util::Empty::<hyper::body::Bytes>::new())
            .ok()?;
        let response = sender.send_request(request).await.ok()?;
        if response.status() != 200 {
            return None;
        }
        let bytes = http_body_util::Limited::new(response.into_body(), LONGEST).collect().await.ok()?.to_bytes();
        String::from_utf8(bytes.to_vec()).ok()
    };
    tokio::time::timeout(Duration::from_secs(5), work).await.ok()?
}
