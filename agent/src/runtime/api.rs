//! Sends calls to the Kubernetes API, once each, in time.

use crate::kubernetes::call::{Answer, Call, Failure};
use crate::kubernetes::translate::{Names, encode, read};
use crate::machine::SharedClock;
use http_body_util::BodyExt;
use kube::client::Body;
use std::path::Path;
use std::time::Duration;

/// The longest answer that is read, in bytes: a set of a thousand pods has about 10 MB.
const LONGEST: usize = 32 << 20;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The kubeconfig is of no use.
    #[error("the kubeconfig {path} cannot be used ({reason}): give one that `kubectl --kubeconfig` accepts")]
    Kubeconfig {
        /// Which.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The pod's own account is not there.
    #[error(
        "the pod's service account cannot be used ({0}): mount its token (automountServiceAccountToken), or give --kubeconfig"
    )]
    InCluster(String),
    /// The client cannot be built.
    #[error("the client of the Kubernetes API cannot be built: {0}")]
    Client(String),
}

/// A client of the Kubernetes API. Connects to nothing yet: only reads where the API is and who we are.
///
/// # Errors
/// When that cannot be read.
pub async fn client(kubeconfig: Option<&Path>) -> Result<kube::Client, ApiError> {
    let mut config = match kubeconfig {
        Some(path) => {
            let fail = |reason: String| ApiError::Kubeconfig { path: path.display().to_string(), reason };
            let file = kube::config::Kubeconfig::read_from(path).map_err(|e| fail(e.to_string()))?;
            kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default())
                .await
                .map_err(|e| fail(e.to_string()))?
        }
        None => kube::Config::incluster().map_err(|e| ApiError::InCluster(e.to_string()))?,
    };
    // kube would send a refused write again by itself, for minutes; a coordinator must know what it has sent.
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(2));
    config.read_timeout = Some(Duration::from_secs(5));
    config.write_timeout = Some(Duration::from_secs(5));
    kube::Client::try_from(config).map_err(|e| ApiError::Client(e.to_string()))
}

/// Speaks with the Kubernetes API, and never sends anything twice.
#[derive(Clone)]
pub struct Api {
    client: kube::Client,
    names: Names,
    clock: SharedClock,
}

impl Api {
    /// Speaks through a client.
    pub fn new(client: kube::Client, names: Names, clock: SharedClock) -> Self {
        Self { client, names, clock }
    }

    /// Sends a call once. No answer in time is a failure that says nothing of what was done.
    ///
    /// # Errors
    /// As [`Failure`] tells them apart.
    pub async fn send(&self, call: &Call, within: Duration) -> Result<Answer, Failure> {
        match tokio::time::timeout(within, self.exchange(call)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Ambiguous(format!("no answer within {within:?}"))),
        }
    }

    async fn exchange(&self, call: &Call) -> Result<Answer, Failure> {
        let wall = humantime::format_rfc3339_micros(self.clock.wall()).to_string();
        let http = encode(&self.names, call, &wall)?;
        let unreadable = |what: &str, e: &dyn std::fmt::Display| Failure::Unreadable(format!("{what}: {e}"));
        let bytes = match &http.body {
            Some(body) => serde_json::to_vec(body).map_err(|e| unreadable("the request", &e))?,
            None => Vec::new(),
        };
        let request = http::Request::builder()
            .method(http.method)
            .uri(&http.path)
            .header("content-type", http.content_type)
            .header("accept", "application/json")
            .body(Body::from(bytes))
            .map_err(|e| unreadable("the request", &e))?;
        let response = self.client.send(request).await.map_err(|e| Failure::Ambiguous(e.to_string()))?;
        let status = response.status().as_u16();
        let body = http_body_util::Limited::new(response.into_body(), LONGEST)
            .collect()
            .await
            .map_err(|e| Failure::Ambiguous(format!("the answer broke off: {e}")))?
            .to_bytes();
        read(&self.names, call, status, &body)
    }
}
