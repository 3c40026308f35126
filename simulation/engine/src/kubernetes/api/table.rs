//! Tables: what `kubectl get` prints, rendered by the server.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::json::{at, condition, is_terminating, list, name, number, text};
use super::super::request::Request;
use super::super::resource::KindId;
use super::super::time::ModelTime;

/// Whether the client prefers a table to objects.
pub(crate) fn wants_table(accept: &str) -> bool {
    accept.split(',').next().is_some_and(|first| first.contains("as=Table"))
}

type Cell = fn(&Value, ModelTime) -> Value;

struct Column {
    name: &'static str,
    wide: bool,
    cell: Cell,
}

const fn column(name: &'static str, cell: Cell) -> Column {
    Column { name, wide: false, cell }
}

const fn wide(name: &'static str, cell: Cell) -> Column {
    Column { name, wide: true, cell }
}

/// The table of some objects of a kind.
pub(crate) fn table(kind: KindId, items: &[Arc<Value>], revision: u64, now: ModelTime, request: &Request) -> Value {
    let columns = columns_of(kind);
    let whole = request.parameters().get("includeObject").is_some_and(|value| value == "Object");
    let definitions: Vec<Value> = columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "type": "string",
                "format": if column.name == "Name" { "name" } else { "" },
                "description": "",
                "priority": i32::from(column.wide),
            })
        })
        .collect();
    let rows: Vec<Value> = items
        .iter()
        .map(|item| {
            let cells: Vec<Value> = columns.iter().map(|column| (column.cell)(item, now)).collect();
            let object = if whole {
                Value::clone(item)
            } else {
                json!({
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": item["metadata"],
                })
            };
            json!({"cells": cells, "object": object})
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": revision.to_string()},
        "columnDefinitions": definitions,
        "rows": rows,
    })
}

fn columns_of(kind: KindId) -> Vec<Column> {
    let mut columns = vec![column("Name", |object, _| json!(name(object)))];
    match kind {
        KindId::PODS => columns.extend([
            column("Ready", |pod, _| json!(ready_of_pod(pod))),
            column("Status", |pod, _| json!(status_of_pod(pod))),
            column("Restarts", |pod, _| json!(restarts_of_pod(pod).to_string())),
        ]),
        KindId::STATEFUL_SETS => columns.push(column("Ready", |set, _| {
            let ready = number(set, &["status", "readyReplicas"]).unwrap_or(0);
            json!(format!("{ready}/{}", number(set, &["spec", "replicas"]).unwrap_or(0)))
        })),
        KindId::LEASES => columns.push(column("Holder", |lease, _| json!(text(lease, &["spec", "holderIdentity"])))),
        KindId::CONFIG_MAPS | KindId::SECRETS => columns.push(column("Data", |map, _| {
            json!(at(map, &["data"]).and_then(Value::as_object).map_or(0, serde_json::Map::len).to_string())
        })),
        KindId::CLAIMS => columns.extend([
            column("Status", |claim, _| {
                json!(if is_terminating(claim) { "Terminating" } else { text(claim, &["status", "phase"]) })
            }),
            column("Volume", |claim, _| json!(text(claim, &["spec", "volumeName"]))),
            column("Capacity", |claim, _| json!(text(claim, &["status", "capacity", "storage"]))),
            column("Access Modes", |claim, _| {
                json!(if list(claim, &["spec", "accessModes"]).iter().any(|mode| mode == "ReadWriteOnce") {
                    "RWO"
                } else {
                    ""
                })
            }),
            column("StorageClass", |claim, _| json!(text(claim, &["spec", "storageClassName"]))),
        ]),
        KindId::BUDGETS => columns.extend([
            column("Min Available", |budget, _| json!(shown(at(budget, &["spec", "minAvailable"])))),
            column("Max Unavailable", |budget, _| json!(shown(at(budget, &["spec", "maxUnavailable"])))),
            column("Allowed Disruptions", |budget, _| {
                json!(number(budget, &["status", "disruptionsAllowed"]).unwrap_or(0).to_string())
            }),
        ]),
        KindId::NODES => columns.push(column("Status", |node, _| {
            let ready = if condition(node, "Ready") == "True" { "Ready" } else { "NotReady" };
            let cordoned = at(node, &["spec", "unschedulable"]) == Some(&Value::Bool(true));
            json!(if cordoned { format!("{ready},SchedulingDisabled") } else { ready.to_owned() })
        })),
        KindId::NAMESPACES => {
            columns.push(column("Status", |namespace, _| json!(text(namespace, &["status", "phase"]))))
        }
        KindId::SERVICES => columns.extend([
            column("Type", |service, _| json!(text(service, &["spec", "type"]))),
            column("Cluster-IP", |service, _| json!(text(service, &["spec", "clusterIP"]))),
        ]),
        KindId::EVENTS | KindId::NEW_EVENTS => {
            return vec![
                column("Last Seen", |event, now| {
                    let last = [["lastTimestamp"], ["deprecatedLastTimestamp"], ["eventTime"]]
                        .into_iter()
                        .find_map(|path| ModelTime::parse(text(event, &path)));
                    json!(last.map_or_else(|| age(event, now), |last| short(now.since(last))))
                }),
                column("Type", |event, _| json!(text(event, &["type"]))),
                column("Reason", |event, _| json!(text(event, &["reason"]))),
                column("Object", |event, _| {
                    let about = event.get("involvedObject").or_else(|| event.get("regarding")).unwrap_or(&Value::Null);
                    json!(format!("{}/{}", text(about, &["kind"]).to_lowercase(), text(about, &["name"])))
                }),
                column("Message", |event, _| {
                    json!(event.get("message").or_else(|| event.get("note")).and_then(Value::as_str).unwrap_or(""))
                }),
            ];
        }
        // Other kinds show their name and age.
        _ => {}
    }
    columns.push(column("Age", |object, now| json!(age(object, now))));
    match kind {
        KindId::PODS => columns.extend([
            wide("IP", |pod, _| json!(text(pod, &["status", "podIP"]))),
            wide("Node", |pod, _| json!(text(pod, &["spec", "nodeName"]))),
        ]),
        KindId::STATEFUL_SETS => columns.extend([
            wide("Containers", |set, _| json!(joined(set, "name"))),
            wide("Images", |set, _| json!(joined(set, "image"))),
        ]),
        _ => {}
    }
    columns
}

fn joined(set: &Value, field: &str) -> String {
    let containers = list(set, &["spec", "template", "spec", "containers"]);
    containers.iter().map(|container| text(container, &[field])).collect::<Vec<_>>().join(",")
}

fn shown(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => "N/A".to_owned(),
    }
}

fn ready_of_pod(pod: &Value) -> String {
    let sidecars = list(pod, &["spec", "initContainers"])
        .iter()
        .filter(|container| text(container, &["restartPolicy"]) == "Always")
        .map(|container| text(container, &["name"]))
        .collect::<Vec<_>>();
    let all = list(pod, &["spec", "containers"]).len() + sidecars.len();
    let is_ready = |status: &&Value| status.get("ready") == Some(&Value::Bool(true));
    let ready = list(pod, &["status", "containerStatuses"]).iter().filter(is_ready).count()
        + list(pod, &["status", "initContainerStatuses"])
            .iter()
            .filter(|status| sidecars.contains(&text(status, &["name"])))
            .filter(is_ready)
            .count();
    format!("{ready}/{all}")
}

fn restarts_of_pod(pod: &Value) -> i64 {
    ["containerStatuses", "initContainerStatuses"]
        .iter()
        .flat_map(|group| list(pod, &["status", group]))
        .map(|status| number(status, &["restartCount"]).unwrap_or(0))
        .sum()
}

fn status_of_pod(pod: &Value) -> String {
    if is_terminating(pod) {
        return "Terminating".to_owned();
    }
    let waiting = ["initContainerStatuses", "containerStatuses"]
        .iter()
        .flat_map(|group| list(pod, &["status", group]))
        .map(|status| text(status, &["state", "waiting", "reason"]))
        .find(|reason| !reason.is_empty() && *reason != "PodInitializing");
    waiting.unwrap_or_else(|| text(pod, &["status", "phase"])).to_owned()
}

fn age(object: &Value, now: ModelTime) -> String {
    ModelTime::parse(text(object, &["metadata", "creationTimestamp"]))
        .map_or_else(|| "<unknown>".to_owned(), |born| short(now.since(born)))
}

/// As kubectl shortens durations: two units where the first is small.
fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        format!("{minutes}m{}s", seconds % 60)
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 48 {
        format!("{hours}h")
    } else {
        format!("{days}d")
    }
}
