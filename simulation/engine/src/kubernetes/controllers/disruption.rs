//! The disruption controller: how many pods of a budget may go now.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::api::ModelApi;
use super::super::json::{at, condition, is_terminating, list, name, namespace, number, set, text};
use super::super::resource::KindId;
use super::super::selector::Selector;
use super::super::time::ModelTime;

const USER: &str = "system:serviceaccount:kube-system:disruption-controller";

/// How long a granted eviction counts when its pod does not begin to go.
const GRANT_COUNTS: Duration = Duration::from_secs(120);

/// Counts every budget again. Returns whether granted evictions are outstanding: then time alone changes the count.
pub(super) fn reconcile(api: &mut ModelApi, now: ModelTime) -> bool {
    let mut outstanding = false;
    let budgets: Vec<Arc<Value>> = api.store().list(KindId::BUDGETS, None).cloned().collect();
    for budget in budgets {
        let selector = Selector::from_label_selector(at(&budget, &["spec", "selector"]).unwrap_or(&Value::Null));
        let pods: Vec<Arc<Value>> = api
            .store()
            .list(KindId::PODS, Some(namespace(&budget)))
            .filter(|pod| selector.matches(pod))
            .cloned()
            .collect();
        let disrupted = still_disrupted(&budget, &pods, now);
        outstanding |= !disrupted.is_empty();
        let healthy = pods
            .iter()
            .filter(|pod| {
                condition(pod, "Ready") == "True" && !is_terminating(pod) && !disrupted.contains_key(name(pod))
            })
            .count();
        let healthy = i64::try_from(healthy).unwrap_or(i64::MAX);
        let expected = expected_pods(api, &budget, &pods);
        let desired = desired_healthy(&budget, expected);
        let allowed = if expected == 0 { 0 } else { (healthy - desired).max(0) };
        let mut changed = Value::clone(&budget);
        let mut status = json!({
            "observedGeneration": at(&budget, &["metadata", "generation"]),
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "disruptionsAllowed": allowed,
            "expectedPods": expected,
        });
        if !disrupted.is_empty() {
            set(&mut status, &["disruptedPods"], disrupted);
        }
        set(&mut status, &["conditions"], json!([allowed_condition(&budget, allowed, now)]));
        set(&mut changed, &["status"], status);
        // Conditional on what was read; a lost race is met again in a later pass.
        let _lost_race = api.update_status(now, USER, KindId::BUDGETS, changed);
    }
    outstanding
}

/// Pods granted an eviction that have not begun to go yet.
fn still_disrupted(budget: &Value, pods: &[Arc<Value>], now: ModelTime) -> Map<String, Value> {
    at(budget, &["status", "disruptedPods"])
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(pod, _)| pods.iter().any(|other| name(other) == pod.as_str() && !is_terminating(other)))
        .filter(|(_, granted)| {
            granted.as_str().and_then(ModelTime::parse).is_some_and(|granted| now.since(granted) < GRANT_COUNTS)
        })
        .map(|(pod, granted)| (pod.clone(), granted.clone()))
        .collect()
}

/// What kubectl shows of a budget, besides the numbers.
fn allowed_condition(budget: &Value, allowed: i64, now: ModelTime) -> Value {
    const KIND: &str = "DisruptionAllowed";
    let (status, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let since = list(budget, &["status", "conditions"])
        .iter()
        .find(|old| text(old, &["type"]) == KIND && text(old, &["status"]) == status)
        .map_or_else(|| now.rfc3339(), |old| text(old, &["lastTransitionTime"]).to_owned());
    json!({
        "type": KIND,
        "status": status,
        "reason": reason,
        "message": "",
        "lastTransitionTime": since,
        "observedGeneration": at(budget, &["metadata", "generation"]),
    })
}

/// All pods where a number must stay; else the sizes of the sets behind them: pods of nobody have no size.
fn expected_pods(api: &ModelApi, budget: &Value, pods: &[Arc<Value>]) -> i64 {
    if number(budget, &["spec", "minAvailable"]).is_some() {
        return i64::try_from(pods.len()).unwrap_or(i64::MAX);
    }
    let mut owners: Vec<(&str, &str, &str)> = Vec::new();
    for pod in pods {
        let owner = list(pod, &["metadata", "ownerReferences"])
            .iter()
            .find(|owner| owner.get("controller") == Some(&Value::Bool(true)));
        if let Some(owner) = owner {
            owners.push((namespace(pod), text(owner, &["name"]), text(owner, &["uid"])));
        }
    }
    owners.sort_unstable();
    owners.dedup();
    owners
        .iter()
        .filter_map(|(place, owner, _)| api.get(KindId::STATEFUL_SETS, place, owner))
        .filter_map(|set| number(set, &["spec", "replicas"]))
        .sum()
}

fn desired_healthy(budget: &Value, expected: i64) -> i64 {
    let scaled = |value: &Value| match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            // Rounded up, for both fields, as the real controller does.
            Some((expected * percent + 99) / 100)
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    if let Some(value) = at(budget, &["spec", "maxUnavailable"]).and_then(scaled) {
        return (expected - value).max(0);
    }
    at(budget, &["spec", "minAvailable"]).and_then(scaled).unwrap_or(1)
}
