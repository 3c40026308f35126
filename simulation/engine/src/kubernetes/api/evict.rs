//! Eviction: deletion that asks the disruption budgets first.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::error::{ApiError, Reason};
use super::super::json::{at, condition, is_terminating, name, number, set, text};
use super::super::request::Body;
use super::super::resource::KindId;
use super::super::selector::Selector;
use super::super::time::ModelTime;
use super::{Call, DeleteOptions, Granted, ModelApi};

impl ModelApi {
    pub(super) fn evict_call(&mut self, now: ModelTime, call: &Call) -> Granted {
        let subject = self.resources[KindId::PODS.0].subject(&call.name);
        let pod = self
            .store
            .get(KindId::PODS, &call.namespace, &call.name)
            .cloned()
            .ok_or_else(|| ApiError::not_found(&subject))?;
        let named = text(&call.body, &["metadata", "name"]);
        if !named.is_empty() && named != call.name {
            return Err(ApiError::bad_request(format!(
                "the name in the eviction ({named}) does not match the name on the URL ({})",
                call.name
            )));
        }
        let options = DeleteOptions::parse(call.body.get("deleteOptions").unwrap_or(&Value::Null))?;
        let phase = text(&pod, &["status", "phase"]);
        let skips = is_terminating(&pod) || matches!(phase, "Succeeded" | "Failed" | "Pending" | "");
        if !skips {
            self.spend_budget(now, call, &pod)?;
        }
        self.delete_call(now, call, &options)?;
        Ok((
            201,
            Body::Made(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})),
        ))
    }

    fn spend_budget(&mut self, now: ModelTime, call: &Call, pod: &Value) -> Result<(), ApiError> {
        let budgets: Vec<Arc<Value>> = self
            .store
            .list(KindId::BUDGETS, Some(&call.namespace))
            .filter(|budget| {
                let selector = at(budget, &["spec", "selector"]).unwrap_or(&Value::Null);
                Selector::from_label_selector(selector).matches(pod)
            })
            .cloned()
            .collect();
        let budget = match budgets.as_slice() {
            [] => return Ok(()),
            [budget] => budget,
            _ => {
                return Err(ApiError::new(
                    Reason::Unnamed,
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        };
        let healthy = number(budget, &["status", "currentHealthy"]).unwrap_or(0);
        let desired = number(budget, &["status", "desiredHealthy"]).unwrap_or(0);
        if condition(pod, "Ready") != "True" {
            let always = text(budget, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
            if always || (healthy >= desired && desired > 0) {
                return Ok(());
            }
        }
        let generation = number(budget, &["metadata", "generation"]).unwrap_or(0);
        if number(budget, &["status", "observedGeneration"]).unwrap_or(0) < generation {
            let mut error = refused(budget, "is still being processed by the server.".to_owned());
            error.details["retryAfterSeconds"] = json!(10);
            return Err(error);
        }
        let allowed = number(budget, &["status", "disruptionsAllowed"]).unwrap_or(0);
        if allowed <= 0 {
            return Err(refused(budget, format!("needs {desired} healthy pods and has {healthy} currently")));
        }
        if call.dry_run {
            return Ok(());
        }
        let mut spent = Value::clone(budget);
        set(&mut spent, &["status", "disruptionsAllowed"], allowed - 1);
        set(&mut spent, &["status", "disruptedPods", name(pod)], now.rfc3339());
        let stored = self.store.stored(KindId::BUDGETS, &call.namespace, name(budget));
        let ownership = stored.map(|stored| Arc::clone(&stored.ownership)).unwrap_or_default();
        self.store.replace(KindId::BUDGETS, &call.namespace, name(budget), spent, ownership);
        Ok(())
    }
}

fn refused(budget: &Value, why: String) -> ApiError {
    let mut error =
        ApiError::new(Reason::TooManyRequests, "Cannot evict pod as it would violate the pod's disruption budget.");
    error.details = json!({
        "causes": [{"reason": "DisruptionBudget", "message": format!("The disruption budget {} {why}", name(budget))}],
    });
    error
}
