//! A real cluster as a target: plain HTTPS as the kubeconfig says, and real time.

use std::time::{Duration, Instant, SystemTime};

use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::KubeConfigOptions;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::target::{Answer, LOOK_EVERY, PATIENCE, Sent, Target};

/// The cluster `KUBECONFIG` names.
pub(crate) struct RealCluster {
    runtime: Runtime,
    client: kube::Client,
    began: u64,
}

pub(crate) struct RealTarget<'a> {
    cluster: &'a RealCluster,
}

impl RealCluster {
    pub(crate) fn connect() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let client = runtime.block_on(async {
            let mut config =
                kube::Config::from_kubeconfig(&KubeConfigOptions::default()).await.expect("KUBECONFIG can be read");
            // A retry would turn the very answers that are looked for into waiting.
            config.default_retry = false;
            kube::Client::try_from(config).expect("a client of KUBECONFIG's cluster")
        });
        let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { runtime, client, began }
    }

    pub(crate) fn target(&self) -> RealTarget<'_> {
        RealTarget { cluster: self }
    }

    /// A name no other run and no other script has.
    pub(crate) fn namespace(&self, number: usize) -> String {
        format!("conformance-{:x}-{number}", self.began)
    }

    pub(crate) fn version(&self) -> String {
        let sent = request("GET", "/version", "", &Value::Null);
        let answer = self.runtime.block_on(self.ask(sent));
        answer.body["gitVersion"].as_str().expect("the server tells its version").to_owned()
    }

    /// What is left of a script goes by itself: nobody waits for it.
    pub(crate) fn remove(&self, namespace: &str) {
        let path = format!("/api/v1/namespaces/{namespace}");
        let answer = self.runtime.block_on(self.ask(request("DELETE", &path, "application/json", &Value::Null)));
        assert!(answer.code < 300, "namespace {namespace} is left behind: {}", answer.body);
    }

    async fn ask(&self, request: http::Request<Body>) -> Answer {
        let path = request.uri().clone();
        let whole = async {
            let response = self.client.send(request).await.unwrap_or_else(|error| panic!("{path}: {error}"));
            let code = response.status().as_u16();
            let bytes =
                response.into_body().collect().await.unwrap_or_else(|error| panic!("{path}: {error}")).to_bytes();
            let body = serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).trim().to_owned()));
            Answer { code, body }
        };
        tokio::time::timeout(PATIENCE, whole).await.unwrap_or_else(|_| panic!("{path}: no answer within {PATIENCE:?}"))
    }

    async fn follow(&self, path: &str, count: usize) -> (u16, Vec<Value>) {
        let response = self.client.send(request("GET", path, "", &Value::Null)).await.expect("the watch begins");
        let code = response.status().as_u16();
        let mut body = response.into_body();
        let (mut text, mut events) = (Vec::new(), Vec::new());
        while events.len() < count {
            let Ok(Some(frame)) = tokio::time::timeout(PATIENCE, body.frame()).await else { break };
            let Ok(data) = frame.expect("the watch goes on").into_data() else { continue };
            text.extend_from_slice(&data);
            if code != 200 {
                continue;
            }
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                events.push(serde_json::from_slice(&line).expect("an event is JSON"));
            }
        }
        events.truncate(count);
        if code == 200 {
            return (code, events);
        }
        let told: Value = serde_json::from_slice(&text).expect("a refusal is JSON");
        (code, vec![json!({"type": "ANSWER", "object": told})])
    }
}

fn request(method: &str, path: &str, content_type: &str, body: &Value) -> http::Request<Body> {
    let mut builder = http::Request::builder().method(method).uri(path).header("user-agent", "conformance");
    if !content_type.is_empty() {
        builder = builder.header("content-type", content_type);
    }
    let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).expect("JSON can be written") };
    builder.body(Body::from(bytes)).expect("a request")
}

impl Target for RealTarget<'_> {
    fn prepare(&mut self, namespace: &str) {
        let send = |method, path: &str, body| {
            let answer = self.cluster.ask(request(method, path, "application/json", &body));
            self.cluster.runtime.block_on(answer)
        };
        let answer = send("POST", "/api/v1/namespaces", json!({"metadata": {"name": namespace}}));
        assert_eq!(answer.code, 201, "{}", answer.body);
        // Pods are refused before it is there.
        let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
        let begun = Instant::now();
        while send("GET", &account, Value::Null).code != 200 {
            assert!(begun.elapsed() < PATIENCE, "{account} is never made");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn send(&mut self, sent: Sent) -> Answer {
        let request = request(sent.method, &sent.path, &sent.content_type, &sent.body);
        self.cluster.runtime.block_on(self.cluster.ask(request))
    }

    fn watch(&mut self, path: &str, count: usize) -> (u16, Vec<Value>) {
        self.cluster.runtime.block_on(self.cluster.follow(path, count))
    }

    fn pause(&mut self) -> Duration {
        let begun = Instant::now();
        std::thread::sleep(LOOK_EVERY);
        begun.elapsed()
    }

    fn forget(&mut self) {}

    fn image(&self) -> String {
        std::env::var("CONFORMANCE_IMAGE").expect("CONFORMANCE_IMAGE was looked at before")
    }
}
