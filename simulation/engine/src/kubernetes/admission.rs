//! What the server adds to an object before storing it: defaults, first status, protection.

use serde_json::{Value, json};

use super::json::{at, field, list, number, object, set, set_default, text};
use super::resource::KindId;

/// Fills in what a new object of this kind leaves out.
pub(crate) fn on_create(kind: KindId, value: &mut Value) {
    match kind {
        KindId::PODS => {
            default_pod_spec(field(value, "spec"));
            let class = quality_class(&value["spec"]);
            set(value, &["status"], json!({"phase": "Pending", "qosClass": class}));
        }
        KindId::STATEFUL_SETS => {
            default_stateful_set(value);
            set(value, &["status"], json!({"replicas": 0, "availableReplicas": 0}));
        }
        KindId::CLAIMS => {
            default_claim(value);
            set(value, &["status"], json!({"phase": "Pending"}));
            protect(value, "kubernetes.io/pvc-protection");
        }
        KindId::VOLUMES => {
            set_default(value, &["spec", "persistentVolumeReclaimPolicy"], "Retain");
            set(value, &["status"], json!({"phase": "Available"}));
        }
        KindId::NAMESPACES => {
            set(value, &["status"], json!({"phase": "Active"}));
            set_default(value, &["spec", "finalizers"], json!(["kubernetes"]));
            let name = super::json::name(value).to_owned();
            set(value, &["metadata", "labels", "kubernetes.io/metadata.name"], name);
        }
        KindId::BUDGETS => {
            set(
                value,
                &["status"],
                json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}),
            );
        }
        KindId::SECRETS => {
            set_default(value, &["type"], "Opaque");
            encode_string_data(value);
        }
        KindId::SERVICES => {
            set_default(value, &["spec", "type"], "ClusterIP");
            set_default(value, &["spec", "sessionAffinity"], "None");
            for port in value["spec"]["ports"].as_array_mut().into_iter().flatten() {
                set_default(port, &["protocol"], "TCP");
                let number = port["port"].clone();
                set_default(port, &["targetPort"], number);
            }
        }
        // The rest is stored as it came.
        _ => {}
    }
}

/// Fills in what a changed object leaves out; a replacement may have dropped defaulted fields.
pub(crate) fn on_update(kind: KindId, value: &mut Value) {
    match kind {
        KindId::PODS => default_pod_spec(field(value, "spec")),
        KindId::STATEFUL_SETS => default_stateful_set(value),
        KindId::CLAIMS => default_claim(value),
        KindId::SECRETS => {
            set_default(value, &["type"], "Opaque");
            encode_string_data(value);
        }
        _ => {}
    }
}

fn default_stateful_set(value: &mut Value) {
    set_default(value, &["spec", "replicas"], 1);
    set_default(value, &["spec", "podManagementPolicy"], "OrderedReady");
    set_default(value, &["spec", "revisionHistoryLimit"], 10);
    set_default(value, &["spec", "updateStrategy", "type"], "RollingUpdate");
    if text(value, &["spec", "updateStrategy", "type"]) == "RollingUpdate" {
        set_default(value, &["spec", "updateStrategy", "rollingUpdate", "partition"], 0);
    }
    set_default(value, &["spec", "persistentVolumeClaimRetentionPolicy", "whenDeleted"], "Retain");
    set_default(value, &["spec", "persistentVolumeClaimRetentionPolicy", "whenScaled"], "Retain");
    default_pod_spec(field(field(field(value, "spec"), "template"), "spec"));
    for claim in value["spec"]["volumeClaimTemplates"].as_array_mut().into_iter().flatten() {
        set_default(claim, &["apiVersion"], "v1");
        set_default(claim, &["kind"], "PersistentVolumeClaim");
        default_claim(claim);
        set_default(claim, &["status", "phase"], "Pending");
    }
}

fn default_claim(value: &mut Value) {
    set_default(value, &["spec", "volumeMode"], "Filesystem");
    set_default(value, &["spec", "accessModes"], json!(["ReadWriteOnce"]));
}

fn default_pod_spec(spec: &mut Value) {
    set_default(spec, &["restartPolicy"], "Always");
    set_default(spec, &["terminationGracePeriodSeconds"], 30);
    set_default(spec, &["dnsPolicy"], "ClusterFirst");
    set_default(spec, &["schedulerName"], "default-scheduler");
    set_default(spec, &["securityContext"], json!({}));
    for group in ["containers", "initContainers"] {
        for container in spec.get_mut(group).and_then(Value::as_array_mut).into_iter().flatten() {
            default_container(container);
        }
    }
}

fn default_container(container: &mut Value) {
    set_default(container, &["terminationMessagePath"], "/dev/termination-log");
    set_default(container, &["terminationMessagePolicy"], "File");
    set_default(container, &["resources"], json!({}));
    let image = text(container, &["image"]);
    let latest = image.ends_with(":latest") || !image.rsplit('/').next().is_some_and(|name| name.contains(':'));
    set_default(container, &["imagePullPolicy"], if latest { "Always" } else { "IfNotPresent" });
    for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        set_default(port, &["protocol"], "TCP");
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if at(container, &[probe]).is_some_and(Value::is_object) {
            let probe = field(container, probe);
            set_default(probe, &["timeoutSeconds"], 1);
            set_default(probe, &["periodSeconds"], 10);
            set_default(probe, &["successThreshold"], 1);
            set_default(probe, &["failureThreshold"], 3);
            if at(probe, &["httpGet"]).is_some() {
                set_default(probe, &["httpGet", "scheme"], "HTTP");
                set_default(probe, &["httpGet", "path"], "/");
            }
        }
    }
}

fn quality_class(spec: &Value) -> &'static str {
    let containers = list(spec, &["containers"]);
    let has = |container: &Value, which: &str| {
        at(container, &["resources", which]).and_then(Value::as_object).is_some_and(|map| !map.is_empty())
    };
    if containers.iter().all(|container| {
        has(container, "limits")
            && at(container, &["resources", "requests"])
                .is_none_or(|requests| Some(requests) == at(container, &["resources", "limits"]))
    }) {
        "Guaranteed"
    } else if containers.iter().any(|container| has(container, "limits") || has(container, "requests")) {
        "Burstable"
    } else {
        "BestEffort"
    }
}

fn protect(value: &mut Value, finalizer: &str) {
    let finalizers = field(field(value, "metadata"), "finalizers");
    match finalizers.as_array_mut() {
        Some(items) if items.iter().any(|item| item == finalizer) => {}
        Some(items) => items.push(Value::from(finalizer)),
        None => *finalizers = json!([finalizer]),
    }
}

/// `stringData` is written by people and stored as `data`.
fn encode_string_data(value: &mut Value) {
    let Some(Value::Object(plain)) = object(value).remove("stringData") else {
        return;
    };
    for (key, text) in plain {
        let encoded = base64(text.as_str().unwrap_or("").as_bytes());
        set(value, &["data", &key], encoded);
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            if index <= chunk.len() {
                text.push(char::from(ALPHABET[(word >> (18 - 6 * index) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// The grace a pod asks for itself.
pub(crate) fn grace_of(pod: &Value) -> i64 {
    number(pod, &["spec", "terminationGracePeriodSeconds"]).unwrap_or(30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn string_data_is_stored_encoded() {
        let mut secret = json!({"stringData": {"a": "hi", "b": "pilot"}});
        on_create(KindId::SECRETS, &mut secret);
        assert_eq!(secret["data"], json!({"a": "aGk=", "b": "cGlsb3Q="}));
        assert!(secret.get("stringData").is_none());
    }

    #[test]
    fn a_stateful_set_is_filled_in_as_a_real_server_does() {
        let mut set = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "x:1"}]}}}});
        on_create(KindId::STATEFUL_SETS, &mut set);
        assert_eq!(set["spec"]["replicas"], 1);
        assert_eq!(set["spec"]["updateStrategy"]["rollingUpdate"]["partition"], 0);
        assert_eq!(set["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"], "IfNotPresent");
    }
}
