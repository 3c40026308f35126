//! The kubelet as a pure state machine: pods and container events in, commands to a backend and pod status out.
//!
//! What it keeps from the real one, because a mesh depends on it:
//! - init containers run in order; a native sidecar (`restartPolicy: Always`) gates the next by its startup probe;
//! - a re-created pod gets a new address;
//! - containers restart with back-off, and in a terminating pod not at all;
//! - the main containers get SIGTERM first, native sidecars only when those have ended, last one first,
//!   all inside the grace period, then SIGKILL;
//! - a changed image restarts that container alone;
//! - the pod object goes when every container has ended.
//!
//! Left out: preStop hooks, image pulls, resource limits, ephemeral containers.

mod address;
mod container;
mod pod;
mod probe;
mod status;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::api::ModelApi;
use super::json::{text, uid};
use super::resource::KindId;
use super::time::ModelTime;

pub use address::{AddressPool, LoopbackPool};
pub use probe::ProbeKind;

use pod::PodRun;

/// Names one run of one container: answers to an earlier run are told apart from those to the present one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerRun {
    /// The pod's identity.
    pub pod_uid: String,
    /// The container's name in the pod.
    pub container: String,
    /// How often it was started before in this pod.
    pub restart: u32,
}

/// How a container is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// Asked.
    Term,
    /// Not asked.
    Kill,
}

/// What the kubelet wants of whoever runs containers.
#[derive(Debug, Clone)]
pub enum KubeletCommand {
    /// Start a container. Answer with `Started` or `StartFailed`.
    StartContainer {
        /// Which.
        run: ContainerRun,
        /// The pod as stored: command, environment, volumes are in there.
        pod: Arc<Value>,
        /// The pod's address.
        address: IpAddr,
    },
    /// Send a signal. A container already gone answers with its `Exited`.
    Signal {
        /// To which.
        run: ContainerRun,
        /// Which signal.
        signal: StopSignal,
    },
    /// Run a probe once. Answer with `Probed`.
    RunProbe {
        /// Of which container.
        run: ContainerRun,
        /// Which of its probes.
        kind: ProbeKind,
        /// The probe as written in the container.
        probe: Value,
        /// The pod's address.
        address: IpAddr,
        /// How long it may take.
        timeout: Duration,
    },
    /// The pod is over: everything of it but its claims may be removed.
    RemovePod {
        /// The pod's identity.
        pod_uid: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// What happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerEvent {
    /// It runs.
    Started {
        /// Which.
        run: ContainerRun,
        /// Its process.
        pid: u32,
    },
    /// It could not be started.
    StartFailed {
        /// Which.
        run: ContainerRun,
        /// Why.
        message: String,
    },
    /// It ended.
    Exited {
        /// Which.
        run: ContainerRun,
        /// Its exit code, where it ended by itself.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
    },
    /// A probe answered.
    Probed {
        /// Of which container.
        run: ContainerRun,
        /// Which of its probes.
        kind: ProbeKind,
        /// Whether it succeeded.
        success: bool,
    },
}

impl ContainerEvent {
    fn run(&self) -> &ContainerRun {
        match self {
            Self::Started { run, .. }
            | Self::StartFailed { run, .. }
            | Self::Exited { run, .. }
            | Self::Probed { run, .. } => run,
        }
    }
}

/// The timings of a kubelet; tests shorten them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KubeletSettings {
    /// The wait before the second restart; the first is at once. Doubles each time. Default: 10 s.
    pub backoff_from: Duration,
    /// The longest wait between restarts. Default: 5 min.
    pub backoff_to: Duration,
    /// What native sidecars get at the end of a grace period that is used up. Default: 2 s.
    pub minimum_grace: Duration,
}

impl Default for KubeletSettings {
    fn default() -> Self {
        Self {
            backoff_from: Duration::from_secs(10),
            backoff_to: Duration::from_secs(300),
            minimum_grace: Duration::from_secs(2),
        }
    }
}

/// One node's kubelet.
#[derive(Debug)]
pub struct Kubelet {
    node: String,
    user: String,
    settings: KubeletSettings,
    addresses: Box<dyn AddressPool>,
    pods: BTreeMap<String, PodRun>,
    seen: u64,
}

impl Kubelet {
    /// A kubelet that runs nothing yet; the node must be registered for pods to come.
    #[must_use]
    pub fn new(node: &str, settings: KubeletSettings, addresses: Box<dyn AddressPool>) -> Self {
        Self {
            node: node.to_owned(),
            user: format!("system:node:{node}"),
            settings,
            addresses,
            pods: BTreeMap::new(),
            seen: 0,
        }
    }

    /// Takes in what happened and what is wanted, and says what to do next.
    ///
    /// With the API away (an outage, or this node cut off) it goes on with the pods it knows.
    /// Idempotent: called again with nothing new it asks for nothing.
    pub fn step(&mut self, api: &mut ModelApi, now: ModelTime, events: Vec<ContainerEvent>) -> Vec<KubeletCommand> {
        let connected = !api.faults().outage() && !api.faults().is_cut(&self.user);
        if connected && api.store().changed(KindId::PODS) != self.seen {
            self.seen = api.store().changed(KindId::PODS);
            self.sync(api, now);
        }
        for event in events {
            // An event of a pod that is no more concerns nobody.
            if let Some(pod) = self.pods.get_mut(&event.run().pod_uid) {
                pod.take(now, &self.settings, event);
            }
        }
        let mut commands = Vec::new();
        let mut over = Vec::new();
        for (pod_uid, pod) in self.pods.iter_mut().filter(|(_, pod)| pod.is_due(now)) {
            pod.advance(now, &self.settings, &mut commands);
            if connected {
                pod.write_status(api, now, &self.user);
                pod.settled();
            }
            if pod.is_over() && (pod.is_vanished() || (connected && pod.delete_object(api, now, &self.user))) {
                over.push(pod_uid.clone());
            }
        }
        for pod_uid in over {
            if let Some(pod) = self.pods.remove(&pod_uid) {
                commands.push(pod.removal());
            }
        }
        commands
    }

    /// When to call [`Self::step`] next if nothing happens before: a back-off, a probe or a deadline is due.
    #[must_use]
    pub fn next_wake(&self) -> Option<ModelTime> {
        self.pods.values().filter_map(PodRun::next_wake).min()
    }

    /// The address of a pod by its identity.
    #[must_use]
    pub fn address(&self, pod_uid: &str) -> Option<IpAddr> {
        self.pods.get(pod_uid).map(PodRun::address)
    }

    /// The running containers of a pod and their processes.
    #[must_use]
    pub fn processes(&self, pod_uid: &str) -> BTreeMap<String, u32> {
        self.pods.get(pod_uid).map(PodRun::processes).unwrap_or_default()
    }

    /// How many addresses were handed out: a kubelet that must not repeat them continues from here.
    #[must_use]
    pub fn addresses_used(&self) -> u32 {
        self.addresses.used()
    }

    fn sync(&mut self, api: &ModelApi, now: ModelTime) {
        let mut present = BTreeMap::new();
        for pod in api.store().list(KindId::PODS, None).filter(|pod| text(pod, &["spec", "nodeName"]) == self.node) {
            present.insert(uid(pod).to_owned(), Arc::clone(pod));
        }
        for (pod_uid, run) in &mut self.pods {
            match present.remove(pod_uid) {
                Some(pod) => run.set_object(now, pod),
                None => run.vanish(),
            }
        }
        for (pod_uid, pod) in present {
            // A pod that ended for good is not started again by a kubelet that has forgotten it.
            if matches!(text(&pod, &["status", "phase"]), "Succeeded" | "Failed") && !super::json::is_terminating(&pod)
            {
                continue;
            }
            let address = self.addresses.next();
            self.pods.insert(pod_uid, PodRun::new(now, pod, address));
        }
    }
}
