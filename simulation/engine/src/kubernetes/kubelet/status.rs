//! What a kubelet writes of a pod.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::api::ModelApi;
use super::super::json::{list, name, namespace, set, text, uid};
use super::super::resource::KindId;
use super::super::time::ModelTime;
use super::container::{Container, End, Role, State};
use super::pod::PodRun;

impl PodRun {
    /// Writes the status where it differs from what is stored.
    pub(super) fn write_status(&mut self, api: &mut ModelApi, now: ModelTime, user: &str) {
        let stored = api.get(KindId::PODS, namespace(&self.object), name(&self.object));
        let Some(stored) = stored.filter(|stored| uid(stored) == uid(&self.object)) else {
            return;
        };
        let mut changed = Value::clone(stored);
        for (key, value) in [
            ("observedGeneration", stored["metadata"]["generation"].clone()),
            ("phase", json!(self.phase())),
            ("hostIP", json!("127.0.0.1")),
            ("podIP", json!(self.address.to_string())),
            ("podIPs", json!([{"ip": self.address.to_string()}])),
            ("startTime", json!(self.began.rfc3339())),
            ("initContainerStatuses", self.statuses(|role| role != Role::Main)),
            ("containerStatuses", self.statuses(|role| role == Role::Main)),
            ("conditions", self.conditions(stored, now)),
        ] {
            set(&mut changed, &["status", key], value);
        }
        if changed["status"] == stored["status"] {
            return;
        }
        // Conditional on what was read a moment ago, in the same step: nothing can have come between.
        if let Ok(written) = api.update_status(now, user, KindId::PODS, changed) {
            self.object = Arc::clone(&written);
        }
    }

    fn phase(&self) -> &'static str {
        let mains = || self.containers.iter().enumerate().filter(|(_, own)| own.role == Role::Main);
        let ended_for_good =
            |index: usize, own: &Container| own.has_ended() && (self.is_ending() || !self.restarts(index));
        if self.containers.iter().enumerate().any(|(index, own)| {
            own.role == Role::Init && own.has_ended() && !own.has_succeeded() && !self.restarts(index)
        }) {
            return "Failed";
        }
        if mains().any(|(_, own)| matches!(own.state, State::Waiting)) {
            return "Pending";
        }
        if mains().all(|(index, own)| ended_for_good(index, own)) && !self.containers.iter().any(Container::is_running)
        {
            return if mains().all(|(_, own)| own.has_succeeded()) { "Succeeded" } else { "Failed" };
        }
        "Running"
    }

    fn conditions(&self, stored: &Value, now: ModelTime) -> Value {
        let mut conditions = list(stored, &["status", "conditions"]).to_vec();
        let initialised = self.containers.iter().all(|own| match own.role {
            Role::Init => own.has_succeeded(),
            Role::Sidecar => own.has_started(),
            Role::Main => true,
        });
        let containers_ready =
            self.containers.iter().filter(|own| own.role != Role::Init).all(Container::is_ready) && initialised;
        let gates_open = list(stored, &["spec", "readinessGates"])
            .iter()
            .all(|gate| super::super::json::condition(stored, text(gate, &["conditionType"])) == "True");
        let mut say = |kind: &str, holds: bool| {
            let status = if holds { "True" } else { "False" };
            let old = conditions.iter_mut().find(|condition| text(condition, &["type"]) == kind);
            match old {
                Some(old) if text(old, &["status"]) == status => {}
                Some(old) => *old = json!({"type": kind, "status": status, "lastTransitionTime": now.rfc3339()}),
                None => conditions.push(json!({"type": kind, "status": status, "lastTransitionTime": now.rfc3339()})),
            }
        };
        say("PodScheduled", true);
        say("Initialized", initialised);
        say("ContainersReady", containers_ready);
        say("Ready", containers_ready && gates_open);
        Value::from(conditions)
    }

    fn statuses(&self, wanted: impl Fn(Role) -> bool) -> Value {
        self.containers.iter().filter(|own| wanted(own.role)).map(|own| self.status_of(own)).collect::<Vec<_>>().into()
    }

    fn status_of(&self, own: &Container) -> Value {
        let id = |restart: u32| format!("model://{}/{}/{restart}", uid(&self.object), own.name);
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        let terminated = |end: &End, restart: u32| {
            let mut terminated = json!({
                "exitCode": end.code,
                "reason": if end.code == 0 { "Completed" } else { "Error" },
                "startedAt": end.since.rfc3339(),
                "finishedAt": end.at.rfc3339(),
                "containerID": id(restart),
            });
            if let Some(signal) = end.signal {
                terminated["signal"] = json!(signal);
            }
            if !end.message.is_empty() {
                terminated["message"] = json!(end.message);
                terminated["reason"] = json!("StartError");
            }
            json!({"terminated": terminated})
        };
        let restarts_again = own.role == Role::Sidecar || text(&self.object, &["spec", "restartPolicy"]) == "Always";
        let (state, last) = match &own.state {
            State::Waiting => (waiting("PodInitializing"), None),
            State::Starting => (waiting("ContainerCreating"), own.last_end.as_ref()),
            State::Running { since, .. } => (json!({"running": {"startedAt": since.rfc3339()}}), own.last_end.as_ref()),
            State::Ended(end) if own.role != Role::Init && restarts_again && !self.is_ending() => {
                (waiting("CrashLoopBackOff"), Some(end))
            }
            State::Ended(end) => (terminated(end, own.restarts), own.last_end.as_ref()),
        };
        let last_restart = if own.has_ended() { own.restarts } else { own.restarts.saturating_sub(1) };
        let mut status = json!({
            "name": own.name,
            "image": own.image,
            "imageID": own.image,
            "restartCount": own.restarts,
            "ready": own.is_ready(),
            "started": own.has_started(),
            "state": state,
            "lastState": last.map_or_else(|| json!({}), |end| terminated(end, last_restart)),
        });
        if !matches!(own.state, State::Waiting) {
            status["containerID"] = json!(id(own.restarts));
        }
        status
    }
}
