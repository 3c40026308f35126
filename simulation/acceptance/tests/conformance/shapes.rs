//! The objects scripts are about.

use serde_json::{Value, json};

/// An identity nobody has.
pub(crate) const FOREIGN: &str = "00000000-0000-4000-8000-000000000000";

pub(crate) fn map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}})
}

pub(crate) fn lease(name: &str, holder: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15},
    })
}

pub(crate) fn claim(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        // No class: no default one is filled in, and no volume is made for it.
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}, "storageClassName": ""},
    })
}

/// A pod that no node takes: only scripts say how it is.
pub(crate) fn waiting_pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "a"}},
        "spec": {"nodeSelector": {"conformance": "nowhere"}, "containers": [{"name": "a", "image": "nothing:1"}]},
    })
}

/// A pod given to a node that is not there: nobody says how it is, and it gets its grace.
pub(crate) fn placed_pod(name: &str) -> Value {
    let mut pod = waiting_pod(name);
    pod["spec"] = json!({"nodeName": "nowhere", "containers": [{"name": "a", "image": "nothing:1"}]});
    pod
}

/// What a kubelet says of a pod that serves.
pub(crate) fn ready_status() -> Value {
    status_of("Running", "True")
}

pub(crate) fn status_of(phase: &str, ready: &str) -> Value {
    json!({"status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}})
}

/// A set in the shape a mesh uses, with pods that no node takes.
pub(crate) fn set(name: &str, replicas: u32) -> Value {
    json!({
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
                "spec": {
                    "nodeSelector": {"conformance": "nowhere"},
                    "containers": [{"name": "db", "image": "nothing:1"}],
                },
            },
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
            }],
        },
    })
}

pub(crate) fn budget(name: &str, spec: Value) -> Value {
    let mut budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": spec,
    });
    budget["spec"]["selector"] = json!({"matchLabels": {"app": "a"}});
    budget
}

/// The object with its revision and uid taken out: as a person writes it.
pub(crate) fn unguarded(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("uid");
        metadata.remove("resourceVersion");
    }
    object
}
