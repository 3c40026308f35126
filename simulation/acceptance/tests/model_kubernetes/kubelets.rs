//! The order in which a kubelet starts and ends containers, and what it never does.

use std::time::Duration;

use serde_json::{Value, json};
use simulation::kubernetes::PatchKind;
use simulation::kubernetes::kubelet::{
    ContainerEvent, ContainerRun, Kubelet, KubeletCommand, KubeletSettings, LoopbackPool, ProbeKind, StopSignal,
};

use crate::support::{Cluster, PODS, SETS, stateful_set};

/// A node whose containers do what the test says.
struct Node {
    cluster: Cluster,
    kubelet: Kubelet,
    /// What was asked, as short words: `start db`, `term db`, `kill db`, `probe agent Startup`, `remove s-0`.
    asked: Vec<String>,
    runs: Vec<ContainerRun>,
}

impl Node {
    fn new(change: impl FnOnce(&mut Value)) -> Self {
        let mut cluster = Cluster::with_node();
        cluster.create(
            SETS,
            stateful_set("s", 1, |set| {
                set["spec"]["template"]["spec"] = json!({
                    "terminationGracePeriodSeconds": 60,
                    "initContainers": [
                        {"name": "copy", "image": "pilot:1"},
                        {"name": "agent", "image": "pilot:1", "restartPolicy": "Always"},
                    ],
                    "containers": [{"name": "db", "image": "db:1"}],
                });
                change(set);
            }),
        );
        cluster.settle();
        let kubelet = Kubelet::new("sandbox", KubeletSettings::default(), Box::new(LoopbackPool::new(20, 0)));
        let mut node = Self { cluster, kubelet, asked: Vec::new(), runs: Vec::new() };
        node.step(Vec::new());
        node
    }

    fn step(&mut self, events: Vec<ContainerEvent>) {
        for command in self.kubelet.step(&mut self.cluster.api, self.cluster.now, events) {
            self.asked.push(match command {
                KubeletCommand::StartContainer { run, .. } => {
                    let word = format!("start {}", run.container);
                    self.runs.retain(|own| own.container != run.container);
                    self.runs.push(run);
                    word
                }
                KubeletCommand::Signal { run, signal: StopSignal::Term } => format!("term {}", run.container),
                KubeletCommand::Signal { run, signal: StopSignal::Kill } => format!("kill {}", run.container),
                KubeletCommand::RunProbe { run, kind, .. } => {
                    format!("probe {} {kind:?}", run.container)
                }
                KubeletCommand::RemovePod { name, .. } => format!("remove {name}"),
            });
        }
        self.cluster.settle();
    }

    fn run(&self, container: &str) -> ContainerRun {
        self.runs.iter().find(|run| run.container == container).expect("was started").clone()
    }

    fn starts(&mut self, container: &str) {
        let run = self.run(container);
        self.step(vec![ContainerEvent::Started { run, pid: 1 }]);
    }

    fn exits(&mut self, container: &str, code: i32) {
        let run = self.run(container);
        self.step(vec![ContainerEvent::Exited { run, code: Some(code), signal: None }]);
    }

    fn probed(&mut self, container: &str, kind: ProbeKind, success: bool) {
        let run = self.run(container);
        self.step(vec![ContainerEvent::Probed { run, kind, success }]);
    }

    fn pass(&mut self, seconds: u64) {
        self.cluster.now = self.cluster.now.after(Duration::from_secs(seconds));
        self.step(Vec::new());
    }

    fn asked(&mut self) -> Vec<String> {
        std::mem::take(&mut self.asked)
    }

    fn pod(&mut self) -> Value {
        self.cluster.read(&format!("{PODS}/s-0"))
    }

    fn up(change: impl FnOnce(&mut Value)) -> Self {
        let mut node = Self::new(change);
        node.starts("copy");
        node.exits("copy", 0);
        node.starts("agent");
        node.starts("db");
        node.asked();
        node
    }

    fn delete(&mut self) {
        self.cluster.delete(&format!("{PODS}/s-0"), json!({}));
        self.step(Vec::new());
    }
}

fn condition(pod: &Value, kind: &str) -> String {
    let conditions = pod["status"]["conditions"].as_array().expect("conditions");
    let found = conditions.iter().find(|condition| condition["type"] == kind).expect("is there");
    found["status"].as_str().expect("a status").to_owned()
}

#[test]
fn containers_start_in_order_and_the_pod_becomes_ready() {
    let mut node = Node::new(|_| {});
    assert_eq!(node.asked(), ["start copy"]);
    node.starts("copy");
    assert_eq!(node.asked(), Vec::<String>::new());
    node.exits("copy", 0);
    assert_eq!(node.asked(), ["start agent"]);
    assert_eq!(node.pod()["status"]["phase"], "Pending");
    node.starts("agent");
    assert_eq!(node.asked(), ["start db"]);
    node.starts("db");
    let pod = node.pod();
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(pod["status"]["podIP"], "127.20.0.2");
    assert_eq!(condition(&pod, "Ready"), "True");
    assert_eq!(node.cluster.read(&format!("{SETS}/s"))["status"]["readyReplicas"], 1);
    node.step(Vec::new());
    assert_eq!(node.asked(), Vec::<String>::new(), "with nothing new there is nothing to do");
}

#[test]
fn a_sidecars_startup_probe_gates_the_main_containers_and_its_readiness_the_pod() {
    let mut node = Node::new(|set| {
        set["spec"]["template"]["spec"]["initContainers"][1]["startupProbe"] =
            json!({"httpGet": {"port": 1}, "periodSeconds": 1});
        set["spec"]["template"]["spec"]["initContainers"][1]["readinessProbe"] =
            json!({"httpGet": {"port": 1}, "periodSeconds": 5});
    });
    node.starts("copy");
    node.exits("copy", 0);
    node.starts("agent");
    assert_eq!(node.asked(), ["start copy", "start agent", "probe agent Startup"]);
    node.probed("agent", ProbeKind::Startup, false);
    node.pass(1);
    assert_eq!(node.asked(), ["probe agent Startup"]);
    node.probed("agent", ProbeKind::Startup, true);
    assert_eq!(node.asked(), ["start db", "probe agent Readiness"]);
    node.starts("db");
    assert_eq!(condition(&node.pod(), "Ready"), "False");
    node.probed("agent", ProbeKind::Readiness, true);
    assert_eq!(condition(&node.pod(), "Ready"), "True");
}

#[test]
fn an_ending_pod_ends_its_main_containers_first_and_sidecars_after_them() {
    let mut node = Node::up(|_| {});
    node.delete();
    assert_eq!(node.asked(), ["term db"]);
    node.pass(30);
    assert_eq!(node.asked(), Vec::<String>::new(), "the sidecar goes on while the database drains");
    node.exits("db", 0);
    assert_eq!(node.asked(), ["term agent"]);
    let old = node.pod();
    node.exits("agent", 0);
    assert_eq!(node.asked(), ["remove s-0"]);
    node.step(Vec::new());
    assert_eq!(node.asked(), ["start copy"], "the set made its successor");
    let new = node.pod();
    assert_ne!(new["metadata"]["uid"], old["metadata"]["uid"]);
    assert_eq!(new["status"]["podIP"], "127.20.0.3", "with an address of its own");
}

#[test]
fn nothing_restarts_in_an_ending_pod() {
    let mut node = Node::up(|_| {});
    node.delete();
    node.asked();
    node.exits("agent", 137);
    node.pass(20);
    assert_eq!(node.asked(), Vec::<String>::new(), "a dead sidecar stays dead");
    node.exits("db", 0);
    assert_eq!(node.asked(), ["remove s-0"]);
}

#[test]
fn the_grace_used_up_kills_and_the_sidecar_gets_a_last_moment() {
    let mut node = Node::up(|_| {});
    node.delete();
    node.pass(59);
    assert_eq!(node.asked(), ["term db"]);
    node.pass(1);
    assert_eq!(node.asked(), ["kill db"]);
    node.exits("db", 137);
    assert_eq!(node.asked(), ["term agent"]);
    node.pass(2);
    assert_eq!(node.asked(), ["kill agent"]);
}

#[test]
fn a_shorter_grace_brings_the_end_nearer_and_a_longer_one_does_not_move_it() {
    let mut node = Node::up(|_| {});
    node.delete();
    let path = format!("{PODS}/s-0");
    node.cluster.delete(&path, json!({"gracePeriodSeconds": 600}));
    node.cluster.delete(&path, json!({"gracePeriodSeconds": 5}));
    node.step(Vec::new());
    node.asked();
    node.pass(5);
    assert_eq!(node.asked(), ["kill db"]);
}

#[test]
fn a_pod_deleted_by_force_is_killed_at_once() {
    let mut node = Node::up(|_| {});
    node.cluster.delete(&format!("{PODS}/s-0"), json!({"gracePeriodSeconds": 0}));
    node.step(Vec::new());
    let mut asked = node.asked();
    asked.sort();
    assert_eq!(asked, ["kill agent", "kill db"]);
}

#[test]
fn a_crashing_container_restarts_at_once_then_with_doubling_back_off() {
    let mut node = Node::up(|_| {});
    let mut waits = Vec::new();
    for _ in 0..8 {
        node.exits("db", 1);
        let mut waited = 0;
        while !node.asked().contains(&"start db".to_owned()) {
            assert_eq!(node.pod()["status"]["containerStatuses"][0]["state"]["waiting"]["reason"], "CrashLoopBackOff");
            let wake = node.kubelet.next_wake().expect("a restart is due");
            waited += wake.since(node.cluster.now).as_secs();
            node.cluster.now = wake;
            node.step(Vec::new());
        }
        waits.push(waited);
        node.starts("db");
    }
    assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(node.pod()["status"]["containerStatuses"][0]["restartCount"], 8);
    node.pass(601);
    node.exits("db", 1);
    assert_eq!(node.asked(), ["start db"], "having run ten minutes it is trusted again");
}

#[test]
fn a_new_image_restarts_that_container_alone() {
    let mut node = Node::up(|_| {});
    let image = json!([{"op": "replace", "path": "/spec/initContainers/1/image", "value": "pilot:2"}]);
    assert_eq!(node.cluster.patch(&format!("{PODS}/s-0"), PatchKind::Json, image).status, 200);
    node.step(Vec::new());
    assert_eq!(node.asked(), ["term agent"]);
    node.exits("agent", 0);
    assert_eq!(node.asked(), ["start agent"], "at once, and no other container");
    node.starts("agent");
    let status = node.pod()["status"].clone();
    assert_eq!(status["initContainerStatuses"][1]["image"], "pilot:2");
    assert_eq!(status["initContainerStatuses"][1]["restartCount"], 1);
    assert_eq!(status["containerStatuses"][0]["restartCount"], 0);
}

#[test]
fn a_failed_liveness_probe_restarts_and_an_earlier_runs_answer_is_ignored() {
    let mut node = Node::up(|set| {
        set["spec"]["template"]["spec"]["containers"][0]["livenessProbe"] =
            json!({"httpGet": {"port": 1}, "failureThreshold": 1});
    });
    let first = node.run("db");
    node.probed("db", ProbeKind::Liveness, false);
    assert_eq!(node.asked(), ["term db"]);
    node.exits("db", 143);
    node.starts("db");
    node.step(vec![ContainerEvent::Exited { run: first, code: Some(0), signal: None }]);
    assert_eq!(node.pod()["status"]["containerStatuses"][0]["restartCount"], 1);
}

#[test]
fn with_the_api_away_containers_are_cared_for_and_deletions_wait() {
    let mut node = Node::up(|_| {});
    node.cluster.delete(&format!("{PODS}/s-0"), json!({}));
    node.cluster.api.faults_mut().set_outage(true);
    node.exits("db", 1);
    assert_eq!(node.asked(), ["start db"], "restarted: the deletion is not known here");
    node.starts("db");
    node.cluster.api.faults_mut().set_outage(false);
    node.step(Vec::new());
    assert_eq!(node.asked(), ["term db"]);
}
