//! The scheduler: puts waiting pods on the node with the fewest, names breaking ties.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::api::ModelApi;
use super::super::json::{at, condition, is_terminating, list, name, set, text};
use super::super::resource::KindId;
use super::super::time::ModelTime;

const USER: &str = "system:kube-scheduler";

pub(super) fn reconcile(api: &mut ModelApi, now: ModelTime) {
    let waiting: Vec<Arc<Value>> = api
        .store()
        .list(KindId::PODS, None)
        .filter(|pod| text(pod, &["spec", "nodeName"]).is_empty() && !is_terminating(pod))
        .cloned()
        .collect();
    if waiting.is_empty() {
        return;
    }
    let nodes: Vec<Arc<Value>> = api.store().list(KindId::NODES, None).cloned().collect();
    let mut load: BTreeMap<String, usize> = nodes.iter().map(|node| (name(node).to_owned(), 0)).collect();
    for pod in api.store().list(KindId::PODS, None) {
        if let Some(count) = load.get_mut(text(pod, &["spec", "nodeName"])) {
            *count += 1;
        }
    }
    for pod in waiting {
        let chosen = nodes
            .iter()
            .filter(|node| fits(node, &pod))
            .min_by_key(|node| (load.get(name(node)).copied().unwrap_or(0), name(node).to_owned()));
        match chosen {
            Some(node) => {
                *load.entry(name(node).to_owned()).or_default() += 1;
                bind(api, now, &pod, name(node));
            }
            None => report_unschedulable(api, now, &pod, nodes.len()),
        }
    }
}

fn fits(node: &Value, pod: &Value) -> bool {
    let selected = at(pod, &["spec", "nodeSelector"])
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .all(|(key, value)| at(node, &["metadata", "labels", key]) == Some(value));
    let cordoned = at(node, &["spec", "unschedulable"]) == Some(&Value::Bool(true));
    let tolerated = list(node, &["spec", "taints"])
        .iter()
        .filter(|taint| matches!(text(taint, &["effect"]), "NoSchedule" | "NoExecute"))
        .all(|taint| list(pod, &["spec", "tolerations"]).iter().any(|toleration| tolerates(toleration, taint)));
    selected && !cordoned && tolerated && condition(node, "Ready") == "True"
}

fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let field = |value, key: &'static str| text(value, &[key]).to_owned();
    let key = field(toleration, "key");
    let effect = field(toleration, "effect");
    let same_key = key == field(taint, "key") || (key.is_empty() && field(toleration, "operator") == "Exists");
    let same_value = field(toleration, "operator") == "Exists" || field(toleration, "value") == field(taint, "value");
    same_key && same_value && (effect.is_empty() || effect == field(taint, "effect"))
}

fn bind(api: &mut ModelApi, now: ModelTime, pod: &Value, node: &str) {
    let mut bound = pod.clone();
    set(&mut bound, &["spec", "nodeName"], node);
    // Conditional on what was read; a lost race is met again in a later pass.
    if let Ok(bound) = api.update(now, USER, KindId::PODS, bound) {
        write_condition(api, now, &bound, json!({"type": "PodScheduled", "status": "True"}));
    }
}

fn report_unschedulable(api: &mut ModelApi, now: ModelTime, pod: &Value, nodes: usize) {
    let message = format!("0/{nodes} nodes are available");
    let unschedulable =
        json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message});
    write_condition(api, now, pod, unschedulable);
}

fn write_condition(api: &mut ModelApi, now: ModelTime, pod: &Value, mut new: Value) {
    let mut conditions = list(pod, &["status", "conditions"]).to_vec();
    let old = conditions.iter().position(|condition| text(condition, &["type"]) == text(&new, &["type"]));
    if old.is_some_and(|old| ["status", "reason", "message"].iter().all(|key| conditions[old].get(key) == new.get(key)))
    {
        return;
    }
    set(&mut new, &["lastTransitionTime"], now.rfc3339());
    match old {
        Some(old) => conditions[old] = new,
        None => conditions.push(new),
    }
    let mut changed = pod.clone();
    set(&mut changed, &["status", "conditions"], conditions);
    let _lost_race = api.update_status(now, USER, KindId::PODS, changed);
}
