//! One pod on its node: the order in which its containers start and end.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::super::api::{DeleteOptions, ModelApi};
use super::super::json::{is_terminating, list, name, namespace, number, text, uid};
use super::super::resource::KindId;
use super::super::time::ModelTime;
use super::container::{Container, Role, State, Stop};
use super::probe::{ProbeKind, timeout};
use super::{ContainerEvent, ContainerRun, KubeletCommand, KubeletSettings, StopSignal};

#[derive(Debug)]
pub(super) struct PodRun {
    pub(super) object: Arc<Value>,
    pub(super) address: IpAddr,
    pub(super) began: ModelTime,
    /// In the order of the specification: init containers and sidecars, then the main ones.
    pub(super) containers: Vec<Container>,
    deadline: Option<ModelTime>,
    vanished: bool,
    /// Something happened since the last completed step.
    dirty: bool,
}

impl PodRun {
    pub(super) fn new(now: ModelTime, object: Arc<Value>, address: IpAddr) -> Self {
        let init = list(&object, &["spec", "initContainers"]).iter().map(|spec| {
            let sidecar = text(spec, &["restartPolicy"]) == "Always";
            Container::new(spec, if sidecar { Role::Sidecar } else { Role::Init })
        });
        let main = list(&object, &["spec", "containers"]).iter().map(|spec| Container::new(spec, Role::Main));
        let containers = init.chain(main).collect();
        let mut run = Self {
            address,
            began: now,
            containers,
            deadline: None,
            vanished: false,
            dirty: true,
            object: Arc::clone(&object),
        };
        run.set_object(now, object);
        run
    }

    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// The running containers and their processes.
    pub(super) fn processes(&self) -> BTreeMap<String, u32> {
        self.containers.iter().filter_map(|own| Some((own.name.clone(), own.pid()?))).collect()
    }

    /// Takes the pod as stored now. A deadline, once set, only comes nearer.
    pub(super) fn set_object(&mut self, now: ModelTime, object: Arc<Value>) {
        self.dirty |= !Arc::ptr_eq(&self.object, &object);
        if is_terminating(&object) {
            let grace = number(&object, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0);
            let wanted = now.after(Duration::from_secs(u64::try_from(grace).unwrap_or(0)));
            let shrunk =
                number(&self.object, &["metadata", "deletionGracePeriodSeconds"]).is_none_or(|old| grace < old);
            if self.deadline.is_none() || shrunk {
                self.deadline = Some(self.deadline.map_or(wanted, |deadline| deadline.min(wanted)));
            }
        }
        self.object = object;
    }

    /// The object is gone without us: somebody deleted it by force.
    pub(super) fn vanish(&mut self) {
        self.vanished = true;
        self.dirty = true;
    }

    pub(super) fn is_vanished(&self) -> bool {
        self.vanished
    }

    pub(super) fn is_ending(&self) -> bool {
        self.vanished || self.deadline.is_some()
    }

    /// Whether there is anything to do: most pods of a large cluster have nothing.
    pub(super) fn is_due(&self, now: ModelTime) -> bool {
        self.dirty || self.next_wake().is_some_and(|wake| wake <= now)
    }

    /// Everything that happened has been acted upon and written.
    pub(super) fn settled(&mut self) {
        self.dirty = false;
    }

    /// Whether the pod is ending and nothing of it runs any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_ending() && !self.containers.iter().any(Container::is_running)
    }

    pub(super) fn removal(&self) -> KubeletCommand {
        KubeletCommand::RemovePod {
            pod_uid: uid(&self.object).to_owned(),
            namespace: namespace(&self.object).to_owned(),
            name: name(&self.object).to_owned(),
        }
    }

    /// Removes the object of a pod that is over. True when it is gone.
    pub(super) fn delete_object(&self, api: &mut ModelApi, now: ModelTime, user: &str) -> bool {
        let (place, name) = (namespace(&self.object), name(&self.object));
        let is_ours =
            |api: &ModelApi| api.get(KindId::PODS, place, name).is_some_and(|pod| uid(pod) == uid(&self.object));
        if is_ours(api) {
            let options = DeleteOptions {
                uid: Some(uid(&self.object).to_owned()),
                grace_period_seconds: Some(0),
                ..DeleteOptions::default()
            };
            // Held by a finalizer it stays, and is asked again when that changes.
            let _held = api.delete(now, user, KindId::PODS, place, name, &options);
        }
        !is_ours(api)
    }

    fn run_of(&self, index: usize) -> ContainerRun {
        let container = &self.containers[index];
        ContainerRun {
            pod_uid: uid(&self.object).to_owned(),
            container: container.name.clone(),
            restart: container.restarts,
        }
    }

    pub(super) fn take(&mut self, now: ModelTime, settings: &KubeletSettings, event: ContainerEvent) {
        let run = event.run();
        let Some(index) =
            self.containers.iter().position(|own| own.name == run.container && own.restarts == run.restart)
        else {
            return;
        };
        let object = Arc::clone(&self.object);
        let spec = spec_of(&object, &run.container).unwrap_or(&Value::Null);
        self.dirty = true;
        let container = &mut self.containers[index];
        match event {
            ContainerEvent::Started { pid, .. } => container.started(now, spec, pid),
            ContainerEvent::StartFailed { message, .. } => container.ended(now, settings, None, 128, None, message),
            ContainerEvent::Exited { code, signal, .. } => {
                // As a runtime reports it: 128 and the signal's number.
                let code = code.unwrap_or_else(|| 128 + signal.unwrap_or(0));
                container.ended(now, settings, Some(spec), code, signal, String::new());
            }
            ContainerEvent::Probed { kind, success, .. } => {
                if let (State::Running { probes, .. }, Some(probe)) = (&mut container.state, kind.of(spec))
                    && let Some(state) = probes.get_mut(&kind)
                {
                    state.answer(now, probe, success);
                }
            }
        }
    }

    pub(super) fn advance(&mut self, now: ModelTime, settings: &KubeletSettings, commands: &mut Vec<KubeletCommand>) {
        if self.is_ending() {
            self.end(now, settings, commands);
        } else {
            self.run(now, settings, commands);
        }
        self.probe(now, commands);
    }

    /// Starts what may start, restarts what ended, replaces what changed.
    fn run(&mut self, now: ModelTime, settings: &KubeletSettings, commands: &mut Vec<KubeletCommand>) {
        // Once a main container has started, initialisation is over and is never repeated in this pod.
        let initialised =
            self.containers.iter().any(|own| own.role == Role::Main && !matches!(own.state, State::Waiting));
        let mut may_start = true;
        let object = Arc::clone(&self.object);
        for index in 0..self.containers.len() {
            let Some(spec) = spec_of(&object, &self.containers[index].name) else {
                continue;
            };
            let role = self.containers[index].role;
            if role == Role::Main {
                if !may_start {
                    break;
                }
                self.keep_running(now, index, spec, settings, commands);
                continue;
            }
            if role == Role::Init && (initialised || self.containers[index].has_succeeded()) {
                continue;
            }
            if may_start || initialised || !matches!(self.containers[index].state, State::Waiting) {
                self.keep_running(now, index, spec, settings, commands);
            }
            may_start &= initialised || (role == Role::Sidecar && self.containers[index].has_started());
        }
    }

    fn keep_running(
        &mut self,
        now: ModelTime,
        index: usize,
        spec: &Value,
        settings: &KubeletSettings,
        commands: &mut Vec<KubeletCommand>,
    ) {
        let grace = Duration::from_secs(
            number(&self.object, &["spec", "terminationGracePeriodSeconds"])
                .and_then(|grace| u64::try_from(grace).ok())
                .unwrap_or(30),
        );
        let restarts = self.restarts(index);
        let container = &mut self.containers[index];
        let starts = match &mut container.state {
            State::Waiting => true,
            State::Starting => false,
            State::Ended(_) => restarts && container.restart_at().is_some_and(|at| at <= now),
            State::Running { probes, stop, .. } => {
                let unwell = [ProbeKind::Startup, ProbeKind::Liveness]
                    .iter()
                    .any(|kind| probes.get(kind).is_some_and(|probe| probe.verdict() == Some(false)));
                let signal = match stop {
                    None if unwell || text(spec, &["image"]) != container.image => {
                        *stop = Some(Stop { sent: StopSignal::Term, kill_at: Some(now.after(grace)) });
                        Some(StopSignal::Term)
                    }
                    Some(stop) if stop.sent == StopSignal::Term && stop.kill_at.is_some_and(|at| at <= now) => {
                        stop.sent = StopSignal::Kill;
                        Some(StopSignal::Kill)
                    }
                    None | Some(_) => None,
                };
                if let Some(signal) = signal {
                    let run = self.run_of(index);
                    commands.push(KubeletCommand::Signal { run, signal });
                }
                false
            }
        };
        if starts {
            self.containers[index].begin(spec, settings);
            commands.push(KubeletCommand::StartContainer {
                run: self.run_of(index),
                pod: Arc::clone(&self.object),
                address: self.address,
            });
        }
    }

    /// Whether a container that ended is started again in this pod.
    pub(super) fn restarts(&self, index: usize) -> bool {
        let container = &self.containers[index];
        match (container.role, text(&self.object, &["spec", "restartPolicy"])) {
            (Role::Sidecar, _) | (Role::Main, "Always" | "") => true,
            (Role::Init, "Never") | (Role::Main, "Never") => false,
            (Role::Init | Role::Main, _) => !container.has_succeeded(),
        }
    }

    /// Ends a pod: the main containers first, then the sidecars from the last to the first. Nothing restarts.
    fn end(&mut self, now: ModelTime, settings: &KubeletSettings, commands: &mut Vec<KubeletCommand>) {
        let forced = self.vanished;
        let deadline = self.deadline.unwrap_or(now);
        let overdue = forced || deadline <= now;
        let mut others_ended = true;
        for index in (0..self.containers.len()).rev() {
            let is_sidecar = self.containers[index].role == Role::Sidecar;
            if is_sidecar && !others_ended && !forced {
                continue;
            }
            let State::Running { stop, .. } = &mut self.containers[index].state else {
                // A start that is still under way has to be seen before it can be ended.
                others_ended &= !matches!(self.containers[index].state, State::Starting);
                continue;
            };
            let signal = match stop {
                None if forced || (overdue && !is_sidecar) => {
                    *stop = Some(Stop { sent: StopSignal::Kill, kill_at: None });
                    Some(StopSignal::Kill)
                }
                None => {
                    // Sidecars are asked late and still get a moment of their own.
                    let kill_at = is_sidecar.then(|| deadline.max(now.after(settings.minimum_grace)));
                    *stop = Some(Stop { sent: StopSignal::Term, kill_at });
                    Some(StopSignal::Term)
                }
                Some(stop) if stop.sent == StopSignal::Term && (forced || stop.kill_at.unwrap_or(deadline) <= now) => {
                    stop.sent = StopSignal::Kill;
                    Some(StopSignal::Kill)
                }
                Some(_) => None,
            };
            others_ended = false;
            if let Some(signal) = signal {
                let run = self.run_of(index);
                commands.push(KubeletCommand::Signal { run, signal });
            }
        }
    }

    fn probe(&mut self, now: ModelTime, commands: &mut Vec<KubeletCommand>) {
        let ending = self.is_ending();
        let object = Arc::clone(&self.object);
        for index in 0..self.containers.len() {
            let Some(spec) = spec_of(&object, &self.containers[index].name) else {
                continue;
            };
            for kind in due_probes(&self.containers[index], ending) {
                let run = self.run_of(index);
                let (State::Running { probes, .. }, Some(probe)) = (&mut self.containers[index].state, kind.of(spec))
                else {
                    continue;
                };
                if probes.get_mut(&kind).is_some_and(|state| state.begin(now)) {
                    let (probe, timeout) = (probe.clone(), timeout(probe));
                    commands.push(KubeletCommand::RunProbe { run, kind, probe, address: self.address, timeout });
                }
            }
        }
    }

    pub(super) fn next_wake(&self) -> Option<ModelTime> {
        let ending = self.is_ending();
        let mut wakes = Vec::new();
        if self.containers.iter().any(Container::is_running) {
            wakes.extend(self.deadline);
        }
        for (index, container) in self.containers.iter().enumerate() {
            if let State::Running { probes, stop, .. } = &container.state {
                wakes.extend(due_probes(container, ending).filter_map(|kind| probes.get(&kind)?.due()));
                wakes.extend(stop.as_ref().filter(|stop| stop.sent == StopSignal::Term).and_then(|stop| stop.kill_at));
            } else if !ending && self.restarts(index) && !(container.role == Role::Init && container.has_succeeded()) {
                wakes.extend(container.restart_at());
            }
        }
        wakes.into_iter().min()
    }
}

fn spec_of<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    ["initContainers", "containers"]
        .iter()
        .flat_map(|group| list(pod, &["spec", group]))
        .find(|spec| text(spec, &["name"]) == container)
}

/// The probes that run at this stage: startup alone until it succeeded, in an ending pod readiness alone.
fn due_probes(container: &Container, ending: bool) -> impl Iterator<Item = ProbeKind> + use<> {
    let started = container.has_started();
    ProbeKind::ALL.into_iter().filter(move |kind| match kind {
        ProbeKind::Startup => !started && !ending,
        ProbeKind::Liveness => started && !ending,
        ProbeKind::Readiness => started,
    })
}
