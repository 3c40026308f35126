//! Calls into HTTP and answers into facts. Decides nothing.

use crate::kubernetes::call::{Answer, Call, EventContent, Failure, LeaseContent, LeaseFacts, OwnPod};
use policies::replace::APPROVE;
use policies::world::{ClaimFacts, ObjectRead, PodFacts, RecordFacts, ResourceVersion, SetFacts, Target, Template};
use protocol::epoch::Epoch;
use protocol::id::{ClusterId, DatabaseIdentity, OperationId, PilotId, PilotName, Uid};
use protocol::record::ClusterRecord;
use protocol::time::Millis;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The annotation that carries the epoch of the last coordinator that wrote an object.
pub const EPOCH: &str = "pilotmesh.io/epoch";
/// The annotation that names the cluster.
pub const CLUSTER: &str = "pilotmesh.io/cluster";
/// The annotation of a claim that names the identity whose data it holds.
pub const IDENTITY: &str = "pilotmesh.io/identity";
/// The annotation of a claim that says that this identity is retired.
pub const RETIRED: &str = "pilotmesh.io/retired";
/// The field manager and reporting controller of everything a coordinator writes.
pub const MANAGER: &str = "pilotmesh.io/coordinator";

/// Where a cluster's objects are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The namespace.
    pub namespace: String,
    /// The StatefulSet.
    pub set: String,
    /// The claim template whose volume holds the data.
    pub claim_template: String,
    /// The pilot's own pod.
    pub pod: PilotName,
}

impl Names {
    /// The Lease of the cluster.
    pub fn lease(&self) -> String {
        bootstrap::names::lease(&self.set)
    }

    /// The ConfigMap that holds the record.
    pub fn record(&self) -> String {
        bootstrap::names::record(&self.set)
    }

    /// The claim of this pod.
    pub fn claim(&self, pod: &PilotName) -> String {
        format!("{}-{pod}", self.claim_template)
    }
}

/// One HTTP request, without host or credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCall {
    /// `GET`, `POST`, `PUT` or `PATCH`.
    pub method: &'static str,
    /// Path and query.
    pub path: String,
    /// What the body is.
    pub content_type: &'static str,
    /// The body.
    pub body: Option<Value>,
}

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";

fn get(path: String) -> HttpCall {
    HttpCall { method: "GET", path, content_type: JSON, body: None }
}

fn send(method: &'static str, path: String, content_type: &'static str, body: Value) -> HttpCall {
    HttpCall { method, path, content_type, body: Some(body) }
}

/// The HTTP request of a call. `wall` is the wall clock as RFC 3339 with microseconds: for people, in no decision.
///
/// # Errors
/// When the record cannot be written as JSON.
pub fn encode(names: &Names, call: &Call, wall: &str) -> Result<HttpCall, Failure> {
    let ns = &names.namespace;
    let core = |kind: &str| format!("/api/v1/namespaces/{ns}/{kind}");
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{ns}/leases");
    let set = format!("/apis/apps/v1/namespaces/{ns}/statefulsets/{}", names.set);
    Ok(match call {
        Call::GetLease => get(format!("{leases}/{}", names.lease())),
        Call::CreateLease(content) => send("POST", leases, JSON, lease_body(names, content, None, wall)),
        Call::ReplaceLease { uid, version, content } => send(
            "PUT",
            format!("{leases}/{}", names.lease()),
            JSON,
            lease_body(names, content, Some((uid, version)), wall),
        ),
        Call::GetRecord => get(format!("{}/{}", core("configmaps"), names.record())),
        Call::CreateRecord(record) => send("POST", core("configmaps"), JSON, record_body(names, record, None)?),
        Call::ReplaceRecord(target, record) => send(
            "PUT",
            format!("{}/{}", core("configmaps"), target.name()),
            JSON,
            record_body(names, record, Some(target))?,
        ),
        Call::GetSet => get(set),
        Call::StampSet(target) => send("PATCH", set, MERGE, json!({ "metadata": guard(target, &[]) })),
        Call::Scale(target, replicas) => send(
            "PUT",
            format!("{set}/scale"),
            JSON,
            json!({
                "apiVersion": "autoscaling/v1",
                "kind": "Scale",
                "metadata": {
                    "name": target.name(),
                    "namespace": ns,
                    "uid": target.uid(),
                    "resourceVersion": target.version().0,
                },
                "spec": { "replicas": replicas },
            }),
        ),
        Call::ListPods => get(core("pods")),
        Call::ListClaims => get(core("persistentvolumeclaims")),
        Call::MarkClaim(target, marks) => {
            let identity = marks.identity.as_ref().map(|i| i.as_str().to_owned());
            let retired = marks.retired.then(|| "true".to_owned());
            let marks = [(CLUSTER, Some(marks.cluster.as_str().to_owned())), (IDENTITY, identity), (RETIRED, retired)];
            send(
                "PATCH",
                format!("{}/{}", core("persistentvolumeclaims"), target.name()),
                MERGE,
                json!({ "metadata": guard(target, &marks) }),
            )
        }
        Call::StampPod(target) => send(
            "PATCH",
            format!("{}/{}", core("pods"), target.name()),
            MERGE,
            json!({ "metadata": guard(target, &[]) }),
        ),
        Call::EvictPod(target) => send(
            "POST",
            format!("{}/{}/eviction", core("pods"), target.name()),
            JSON,
            json!({
                "apiVersion": "policy/v1",
                "kind": "Eviction",
                "metadata": { "name": target.name(), "namespace": ns },
                "deleteOptions": {
                    "preconditions": { "uid": target.uid(), "resourceVersion": target.version().0 },
                },
            }),
        ),
        Call::GetOwnPod => get(format!("{}/{}", core("pods"), names.pod)),
        Call::GetOwnClaim => get(format!("{}/{}", core("persistentvolumeclaims"), names.claim(&names.pod))),
        Call::PostEvent(event) => {
            send("POST", format!("/apis/events.k8s.io/v1/namespaces/{ns}/events"), JSON, event_body(names, event, wall))
        }
    })
}

/// Metadata of a merge patch that only lands on what was read: uid, version, the epoch, and these annotations.
fn guard(target: &Target, annotations: &[(&str, Option<String>)]) -> Value {
    let mut map = serde_json::Map::new();
    map.insert(EPOCH.to_owned(), json!(target.epoch().to_string()));
    for (key, value) in annotations {
        map.insert((*key).to_owned(), json!(value));
    }
    json!({ "uid": target.uid(), "resourceVersion": target.version().0, "annotations": map })
}

fn lease_body(names: &Names, content: &LeaseContent, read: Option<(&Uid, &ResourceVersion)>, wall: &str) -> Value {
    let mut annotations = serde_json::Map::new();
    annotations.insert(EPOCH.to_owned(), json!(content.epoch.to_string()));
    if let Some(cluster) = &content.cluster {
        annotations.insert(CLUSTER.to_owned(), json!(cluster));
    }
    let mut metadata = json!({
        "name": names.lease(),
        "namespace": names.namespace,
        "labels": labels(names),
        "annotations": annotations,
    });
    if let Some((uid, version)) = read {
        metadata["uid"] = json!(uid);
        metadata["resourceVersion"] = json!(version.0);
    }
    let seconds = content.duration.0.div_ceil(1000).max(1);
    let holder = content.holder.as_ref().map(ToString::to_string).unwrap_or_default();
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": seconds,
            "leaseTransitions": content.transitions,
            "renewTime": wall,
        },
    })
}

fn labels(names: &Names) -> Value {
    json!({ "app.kubernetes.io/managed-by": "pilotmesh", "pilotmesh.io/set": names.set })
}

fn record_body(names: &Names, record: &ClusterRecord, target: Option<&Target>) -> Result<Value, Failure> {
    let text =
        serde_json::to_string_pretty(record).map_err(|e| unreadable(format!("the record cannot be written: {e}")))?;
    let mut metadata = json!({
        "name": names.record(),
        "namespace": names.namespace,
        "labels": labels(names),
        "annotations": { EPOCH: record.epoch.to_string(), CLUSTER: record.cluster },
    });
    if let Some(target) = target {
        metadata["uid"] = json!(target.uid());
        metadata["resourceVersion"] = json!(target.version().0);
    }
    Ok(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "record": text } }))
}

fn event_body(names: &Names, event: &EventContent, wall: &str) -> Value {
    let note: String = event.note.chars().take(1000).collect();
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "name": format!("{}.{}", names.set, event.unique), "namespace": names.namespace },
        "eventTime": wall,
        "reportingController": MANAGER,
        "reportingInstance": names.pod,
        "action": event.reason,
        "reason": event.reason,
        "type": if event.warning { "Warning" } else { "Normal" },
        "note": note,
        "regarding": {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "name": names.set,
            "namespace": names.namespace,
        },
    })
}

/// The facts of an answer as its bytes came.
///
/// # Errors
/// As [`decode`], and when an answer that says it is good is no JSON.
pub fn read(names: &Names, call: &Call, status: u16, body: &[u8]) -> Result<Answer, Failure> {
    let value = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(_) if body.is_empty() => Value::Null,
        // A proxy's page instead of the API's answer: the status alone has to do.
        Err(_) if !(200..300).contains(&status) => Value::Null,
        Err(error) => return Err(unreadable(format!("the answer: {error}"))),
    };
    decode(names, call, status, &value)
}

/// The facts of an answer.
///
/// # Errors
/// When the API refused, the answer leaves open what happened, or it cannot be read.
pub fn decode(names: &Names, call: &Call, status: u16, body: &Value) -> Result<Answer, Failure> {
    let message = || body["message"].as_str().unwrap_or("no message").to_owned();
    match status {
        200..=299 => {}
        404 => match call {
            Call::GetLease => return Ok(Answer::Lease(None)),
            Call::GetRecord => return Ok(Answer::Record(None)),
            Call::GetSet => return Ok(Answer::Set(None)),
            Call::GetOwnPod => return Ok(Answer::OwnPod(None)),
            Call::GetOwnClaim => return Ok(Answer::OwnClaim(None)),
            Call::ReplaceLease { .. }
            | Call::ReplaceRecord(..)
            | Call::StampSet(_)
            | Call::Scale(..)
            | Call::MarkClaim(..)
            | Call::StampPod(_)
            | Call::EvictPod(_) => return Err(Failure::Conflict(message())),
            Call::CreateLease(_) | Call::CreateRecord(_) | Call::ListPods | Call::ListClaims | Call::PostEvent(_) => {
                return Err(Failure::Refused { status, message: message() });
            }
        },
        409 | 412 | 422 => return Err(Failure::Conflict(message())),
        // A budget refuses the eviction: that is an answer.
        429 if matches!(call, Call::EvictPod(_)) => return Err(Failure::Refused { status, message: message() }),
        408 | 429 | 500..=599 => {
            return Err(Failure::Ambiguous(format!("{status}: {}", message())));
        }
        _ => {
            return Err(Failure::Refused { status, message: message() });
        }
    }
    match call {
        Call::GetLease | Call::CreateLease(_) | Call::ReplaceLease { .. } => Ok(Answer::Lease(Some(lease(body)?))),
        Call::GetRecord => Ok(Answer::Record(Some(Box::new(record(body)?)))),
        Call::GetSet => Ok(Answer::Set(Some(set(body)?))),
        Call::ListPods | Call::ListClaims => {
            let items = body["items"].as_array().ok_or_else(|| unreadable("a list without items"))?;
            decode_items(names, call, items)
        }
        Call::GetOwnPod => {
            let deleted = body["metadata"]["deletionTimestamp"].is_string();
            let grace = body["metadata"]["deletionGracePeriodSeconds"].as_u64();
            Ok(Answer::OwnPod(Some(OwnPod {
                uid: object(body)?.uid,
                grace: grace.filter(|_| deleted).map(|s| Millis(s.saturating_mul(1000))),
            })))
        }
        Call::GetOwnClaim => Ok(Answer::OwnClaim(Some(claim(body)?))),
        Call::CreateRecord(_)
        | Call::ReplaceRecord(..)
        | Call::StampSet(_)
        | Call::Scale(..)
        | Call::MarkClaim(..)
        | Call::StampPod(_)
        | Call::EvictPod(_)
        | Call::PostEvent(_) => Ok(Answer::Written),
    }
}

impl Names {
    fn pod_of(&self, name: &str) -> Option<PilotName> {
        let ordinal = name.strip_prefix(self.set.as_str())?.strip_prefix('-')?;
        let pod = PilotName::parse(name).ok()?;
        (pod.ordinal().map(|o| o.to_string()).as_deref() == Some(ordinal)).then_some(pod)
    }

    fn pod_of_claim(&self, name: &str) -> Option<PilotName> {
        self.pod_of(name.strip_prefix(self.claim_template.as_str())?.strip_prefix('-')?)
    }
}

/// The facts of a list, from what is in it.
///
/// # Errors
/// When an item cannot be read, or a list was not what was asked for.
pub fn decode_items<'a>(
    names: &Names,
    call: &Call,
    items: impl IntoIterator<Item = &'a Value>,
) -> Result<Answer, Failure> {
    match call {
        Call::ListPods => list(items, |name| names.pod_of(name), pod).map(Answer::Pods),
        Call::ListClaims => list(items, |name| names.pod_of_claim(name), claim).map(Answer::Claims),
        Call::GetLease
        | Call::CreateLease(_)
        | Call::ReplaceLease { .. }
        | Call::GetRecord
        | Call::CreateRecord(_)
        | Call::ReplaceRecord(..)
        | Call::GetSet
        | Call::StampSet(_)
        | Call::Scale(..)
        | Call::GetOwnPod
        | Call::GetOwnClaim
        | Call::MarkClaim(..)
        | Call::StampPod(_)
        | Call::EvictPod(_)
        | Call::PostEvent(_) => Err(unreadable("a list where none was asked for")),
    }
}

fn list<'a, T>(
    items: impl IntoIterator<Item = &'a Value>,
    whose: impl Fn(&str) -> Option<PilotName>,
    read: impl Fn(&Value) -> Result<T, Failure>,
) -> Result<BTreeMap<PilotName, T>, Failure> {
    let mut facts = BTreeMap::new();
    for item in items {
        let name = item["metadata"]["name"].as_str().unwrap_or_default();
        if let Some(pod) = whose(name) {
            facts.insert(pod, read(item)?);
        }
    }
    Ok(facts)
}

fn unreadable(what: impl Into<String>) -> Failure {
    Failure::Unreadable(what.into())
}

fn text<'a>(value: &'a Value, what: &str) -> Result<&'a str, Failure> {
    value.as_str().ok_or_else(|| unreadable(format!("{what} is missing")))
}

fn annotation<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value["metadata"]["annotations"].get(key)?.as_str()
}

/// Where counting ends. No mesh has counted so far, and one more would be none at all: the same epoch for two holders of
/// the Lease, the name of an operation for a second one.
const LAST_COUNT: u64 = u64::MAX / 2;

/// The epoch stamped on an object. A stamp that is no number is refused: it must not read as "none".
fn stamp(value: &Value) -> Result<Epoch, Failure> {
    match annotation(value, EPOCH) {
        None => Ok(Epoch::NONE),
        Some(text) => match text.parse() {
            Ok(epoch) if epoch <= LAST_COUNT => Ok(Epoch(epoch)),
            Ok(_) | Err(_) => {
                let most = format!("not a number up to {LAST_COUNT}");
                Err(unreadable(format!("annotation {EPOCH} is `{text}`, {most}: restore or remove it")))
            }
        },
    }
}

fn object(value: &Value) -> Result<ObjectRead, Failure> {
    let meta = &value["metadata"];
    Ok(ObjectRead {
        name: text(&meta["name"], "metadata.name")?.to_owned(),
        uid: Uid::new(text(&meta["uid"], "metadata.uid")?),
        version: ResourceVersion(text(&meta["resourceVersion"], "metadata.resourceVersion")?.to_owned()),
        stamp: stamp(value)?,
    })
}

fn lease(body: &Value) -> Result<LeaseFacts, Failure> {
    let read = object(body)?;
    let spec = &body["spec"];
    let holder = match spec["holderIdentity"].as_str().unwrap_or_default() {
        "" => None,
        text => Some(PilotId::parse(text).ok_or_else(|| {
            unreadable(format!(
                "the Lease is held by `{text}`, which is no pilot: delete the Lease if that is a mistake"
            ))
        })?),
    };
    Ok(LeaseFacts {
        uid: read.uid,
        version: read.version,
        content: LeaseContent {
            holder,
            epoch: read.stamp,
            cluster: annotation(body, CLUSTER).map(ClusterId::new),
            duration: Millis(spec["leaseDurationSeconds"].as_u64().unwrap_or(0).saturating_mul(1000)),
            transitions: spec["leaseTransitions"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        },
    })
}

fn record(body: &Value) -> Result<RecordFacts, Failure> {
    let object = object(body)?;
    let text = text(&body["data"]["record"], "data.record")?;
    let record: ClusterRecord =
        serde_json::from_str(text).map_err(|e| unreadable(format!("the record in ConfigMap {}: {e}", object.name)))?;
    for (what, count) in [
        ("epoch", record.epoch.0),
        ("next_operation", record.next_operation),
        ("roster_revision", record.roster_revision),
    ] {
        if count > LAST_COUNT {
            return Err(unreadable(format!(
                "the record in ConfigMap {}: {what} is {count} but must be at most {LAST_COUNT}: restore it",
                object.name
            )));
        }
    }
    Ok(RecordFacts { object, record })
}

fn set(body: &Value) -> Result<SetFacts, Failure> {
    let count = |value: &Value, default: u32| match value {
        Value::Null => Ok(default),
        other => other
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .ok_or_else(|| unreadable(format!("`{other}` is no count"))),
    };
    Ok(SetFacts {
        object: object(body)?,
        replicas: count(&body["spec"]["replicas"], 1)?,
        start: count(&body["spec"]["ordinals"]["start"], 0)?,
        // Of a controller that has not looked at the latest change the revision is that of an earlier template.
        revision: body["status"]["updateRevision"]
            .as_str()
            .filter(|_| body["status"]["observedGeneration"] == body["metadata"]["generation"])
            .map(str::to_owned),
        template: template(&body["spec"]["template"]),
    })
}

fn pod(body: &Value) -> Result<PodFacts, Failure> {
    Ok(PodFacts {
        object: object(body)?,
        terminating: body["metadata"]["deletionTimestamp"].is_string(),
        revision: body["metadata"]["labels"]["controller-revision-hash"].as_str().map(str::to_owned),
        template: template(body),
        pending: body["status"]["phase"] == "Pending",
        untouched: untouched(&body["status"]),
    })
}

/// Whether the kubelet has started none of the containers yet. Sidecars are init containers and have a list of their own.
fn untouched(status: &Value) -> bool {
    let never_started = |container: &Value| {
        container["restartCount"].as_u64().unwrap_or(0) == 0
            && container["lastState"].as_object().is_none_or(serde_json::Map::is_empty)
            && ["running", "terminated"].iter().all(|state| container["state"].get(state).is_none_or(Value::is_null))
    };
    status["phase"] == "Pending" && status["containerStatuses"].as_array().into_iter().flatten().all(never_started)
}

/// Where admission mounts the token of the service account, in pods and not in their template.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What a restart can change, of a pod or of a template of pods.
fn template(pod: &Value) -> Template {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten().filter_map(|container| {
        let name = container["name"].as_str()?.to_owned();
        let container = without_token(container);
        let digest = Sha256::digest(container.to_string());
        Some((name, digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()))
    });
    Template {
        containers: containers.collect(),
        restarted: annotation(pod, "kubectl.kubernetes.io/restartedAt").map(str::to_owned),
    }
}

/// The container as its template has it.
fn without_token(container: &Value) -> Cow<'_, Value> {
    let is_token = |mount: &Value| mount["mountPath"] == TOKEN;
    let mounts = container["volumeMounts"].as_array();
    if mounts.is_none_or(|mounts| !mounts.is_empty() && !mounts.iter().any(is_token)) {
        return Cow::Borrowed(container);
    }
    let mut container = container.clone();
    if let Some(mounts) = container["volumeMounts"].as_array_mut() {
        mounts.retain(|mount| !is_token(mount));
    }
    if container["volumeMounts"].as_array().is_some_and(Vec::is_empty)
        && let Some(fields) = container.as_object_mut()
    {
        fields.remove("volumeMounts");
    }
    Cow::Owned(container)
}

fn claim(body: &Value) -> Result<ClaimFacts, Failure> {
    Ok(ClaimFacts {
        object: object(body)?,
        cluster: annotation(body, CLUSTER).map(ClusterId::new),
        identity: annotation(body, IDENTITY).map(DatabaseIdentity::new),
        retired: annotation(body, RETIRED) == Some("true"),
        terminating: body["metadata"]["deletionTimestamp"].is_string(),
        approved: annotation(body, APPROVE).map(OperationId::new),
    })
}
