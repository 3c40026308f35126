//! What the tests share: a model with short ways to ask it.

use serde_json::{Value, json};
use simulation::kubernetes::{ModelApi, ModelTime, PatchKind, Request, Response, controllers};

pub(crate) const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
pub(crate) const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

/// The model and its clock.
pub(crate) struct Cluster {
    pub(crate) api: ModelApi,
    pub(crate) now: ModelTime,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let now = ModelTime(1_800_000_000_000);
        Self { api: ModelApi::new(1), now }
    }

    /// With one ready node.
    pub(crate) fn with_node() -> Self {
        let mut cluster = Self::new();
        controllers::register_node(&mut cluster.api, cluster.now, "sandbox", "a").expect("a node");
        cluster
    }

    pub(crate) fn send(&mut self, request: Request) -> Response {
        self.api.handle(self.now, request)
    }

    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send(Request::get("ann", path))
    }

    /// What is there, which must be.
    pub(crate) fn read(&mut self, path: &str) -> Value {
        let response = self.get(path);
        assert_eq!(response.status, 200, "{path}: {}", response.value());
        response.value()
    }

    pub(crate) fn create(&mut self, path: &str, body: Value) -> Value {
        let response = self.send(Request::post("ann", path, body));
        assert_eq!(response.status, 201, "{path}: {}", response.value());
        response.value()
    }

    pub(crate) fn put(&mut self, path: &str, body: Value) -> Response {
        self.send(Request::put("ann", path, body))
    }

    pub(crate) fn patch(&mut self, path: &str, kind: PatchKind, body: Value) -> Response {
        self.send(Request::patch("ann", path, kind, body))
    }

    pub(crate) fn apply(&mut self, path: &str, manager: &str, body: Value) -> Response {
        self.send(Request::patch("ann", &format!("{path}?fieldManager={manager}"), PatchKind::Apply, body))
    }

    pub(crate) fn delete(&mut self, path: &str, options: Value) -> Response {
        self.send(Request::delete("ann", path, options))
    }

    /// Runs the controllers until they have nothing to do.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100 {
            if !controllers::reconcile_all(&mut self.api, self.now) {
                return;
            }
        }
        panic!("the controllers never came to rest");
    }

    /// Names in a collection.
    pub(crate) fn names(&mut self, path: &str) -> Vec<String> {
        let list = self.read(path);
        list["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|item| item["metadata"]["name"].as_str().expect("name").to_owned())
            .collect()
    }

    /// Says what a kubelet would of a healthy pod.
    pub(crate) fn make_ready(&mut self, pod: &str) {
        self.set_pod_status(pod, json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}));
    }

    pub(crate) fn set_pod_status(&mut self, pod: &str, status: Value) {
        let response = self.patch(&format!("{PODS}/{pod}/status"), PatchKind::Merge, json!({"status": status}));
        assert_eq!(response.status, 200, "{}", response.value());
    }

    /// Says what a kubelet says when all containers of a deleted pod have ended.
    pub(crate) fn finish_deletion(&mut self, pod: &str) {
        let response = self.delete(&format!("{PODS}/{pod}"), json!({"gracePeriodSeconds": 0}));
        assert_eq!(response.status, 200, "{}", response.value());
    }
}

pub(crate) fn revision(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().expect("a revision").to_owned()
}

pub(crate) fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().expect("a uid").to_owned()
}

pub(crate) fn reason(response: &Response) -> String {
    response.value()["reason"].as_str().unwrap_or("").to_owned()
}

/// A set in the shape a mesh uses; `change` edits it before it is created.
pub(crate) fn stateful_set(name: &str, replicas: u32, change: impl FnOnce(&mut Value)) -> Value {
    let mut set = json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "serviceName": name,
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "OnDelete"},
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "db", "image": "db:1"}]},
            },
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }],
        },
    });
    change(&mut set);
    set
}
