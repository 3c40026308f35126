//! The objects of a sandbox: what a user would write, with local processes in place of images.

use serde_json::{Value, json};

/// The namespace of everything in a sandbox.
pub const NAMESPACE: &str = "default";
/// The set.
pub const SET: &str = "cassandra";
/// The claim template.
pub const CLAIM: &str = "data";
/// Gossip, streams, endpoints.
pub const PORTS: (u16, u16, u16) = (7302, 7301, 7300);

/// What a pod template of a sandbox says.
#[derive(Debug, Clone)]
pub struct Template {
    /// `cassandra` or `model`.
    pub database: &'static str,
    /// Pods.
    pub replicas: u32,
    /// The pods' grace period in seconds.
    pub grace: u64,
    /// The agents write JSON lines.
    pub json_logs: bool,
    /// Lets a fault test cut pilots off.
    pub faults: bool,
}

/// The set with launcher and sidecar. Paths come from the kubelet's backend: `$(VOLUME_DATA)`, `$(VOLUME_SHARED)`.
pub fn stateful_set(template: &Template) -> Value {
    let (gossip, stream, http) = PORTS;
    let identity = json!([
        { "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
        { "name": "POD_UID", "valueFrom": { "fieldRef": { "fieldPath": "metadata.uid" } } },
        { "name": "POD_IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
        { "name": "PILOT_LOG", "value": "info,scylla=warn" },
    ]);
    let mut agent = vec![
        "agent".to_owned(),
        format!("--set={SET}"),
        format!("--namespace={NAMESPACE}"),
        "--state-dir=$(VOLUME_DATA)/pilot".to_owned(),
        "--launcher-socket=$(VOLUME_SHARED)/launcher.sock".to_owned(),
        "--policy=$(SANDBOX_POLICY)".to_owned(),
        "--keys=$(SANDBOX_KEYS)".to_owned(),
        "--kubeconfig=$(SANDBOX_KUBECONFIG)".to_owned(),
        format!("--gossip-listen=$(POD_IP):{gossip}"),
        format!("--stream-listen=$(POD_IP):{stream}"),
        format!("--http-listen=$(POD_IP):{http}"),
        "--seed-file=$(SANDBOX_SEEDS)".to_owned(),
        format!("--database={}", template.database),
        "--database-settings=$(SANDBOX_DATABASE)".to_owned(),
        format!("--claim-template={CLAIM}"),
    ];
    if template.faults {
        agent.push("--cuts=$(SANDBOX_CUTS)".to_owned());
    }
    if template.json_logs {
        agent.push("--json-logs".to_owned());
    }
    let mounts = json!([
        { "name": "data", "mountPath": "/var/lib/pilot" },
        { "name": "shared", "mountPath": "/var/run/pilot" },
    ]);
    let labels = json!({ "app.kubernetes.io/name": SET, "app.kubernetes.io/managed-by": "sandbox" });
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": { "name": SET, "namespace": NAMESPACE, "labels": labels },
        "spec": {
            "serviceName": SET,
            "replicas": template.replicas,
            "podManagementPolicy": "Parallel",
            "updateStrategy": { "type": "OnDelete" },
            "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Retain", "whenScaled": "Retain" },
            "selector": { "matchLabels": { "app.kubernetes.io/name": SET } },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "terminationGracePeriodSeconds": template.grace,
                    "initContainers": [{
                        "name": "pilot",
                        "image": "pilot:local",
                        "restartPolicy": "Always",
                        "command": ["pilot"],
                        "args": agent,
                        "env": identity,
                        "volumeMounts": mounts,
                        "ports": [
                            { "name": "gossip", "containerPort": gossip, "protocol": "UDP" },
                            { "name": "stream", "containerPort": stream },
                            { "name": "pilot", "containerPort": http },
                        ],
                        "readinessProbe": { "httpGet": { "path": "/readyz", "port": http }, "periodSeconds": 2, "failureThreshold": 2 },
                    }],
                    "containers": [{
                        "name": "database",
                        "image": format!("{}:local", template.database),
                        "command": ["pilot"],
                        "args": [
                            "launch",
                            "--socket=$(VOLUME_SHARED)/launcher.sock",
                            "--state-dir=$(VOLUME_DATA)/launcher",
                            format!("--grace={}s", template.grace),
                            "--files-under=$(VOLUME_SHARED)",
                        ],
                        "env": identity,
                        "volumeMounts": mounts,
                        "ports": [{ "name": "cql", "containerPort": 9042 }],
                    }],
                    "volumes": [{ "name": "shared", "emptyDir": {} }],
                },
            },
            "volumeClaimTemplates": [{
                "metadata": { "name": CLAIM },
                "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
            }],
        },
    })
}

/// The headless Service of the set.
pub fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": SET, "namespace": NAMESPACE },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": { "app.kubernetes.io/name": SET },
            "ports": [{ "name": "cql", "port": 9042 }],
        },
    })
}
