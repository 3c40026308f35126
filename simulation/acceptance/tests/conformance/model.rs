//! The model as a target: virtual time, every controller, two nodes whose containers do what their environment says.

use std::time::Duration;

use serde_json::{Value, json};
use simulation::kubernetes::kubelet::{
    ContainerEvent, ContainerRun, Kubelet, KubeletCommand, KubeletSettings, LoopbackPool, StopSignal,
};
use simulation::kubernetes::{Body, Method, ModelApi, ModelTime, Request, WatchEvent, controllers};

use crate::containers::Behaviour;
use crate::target::{Answer, LOOK_EVERY, PATIENCE, Sent, Target};

const USER: &str = "conformance";

pub(crate) struct ModelTarget {
    api: ModelApi,
    now: ModelTime,
    nodes: Vec<Node>,
}

/// A kubelet and its containers.
struct Node {
    kubelet: Kubelet,
    running: Vec<Running>,
    happened: Vec<ContainerEvent>,
}

struct Running {
    run: ContainerRun,
    behaviour: Behaviour,
    /// When it ends by itself, and how.
    ends: Option<(ModelTime, i32)>,
}

impl ModelTarget {
    pub(crate) fn new() -> Self {
        let mut api = ModelApi::new(1);
        // As a real server does, and the served model too.
        api.show_managed_fields();
        let now = ModelTime(1_800_000_000_000);
        let mut nodes = Vec::new();
        for number in 1..=2_u8 {
            let name = format!("n{number}");
            controllers::register_node(&mut api, now, &name, "a").expect("a node");
            let kubelet = Kubelet::new(&name, KubeletSettings::default(), Box::new(LoopbackPool::new(20 + number, 0)));
            nodes.push(Node { kubelet, running: Vec::new(), happened: Vec::new() });
        }
        let mut target = Self { api, now, nodes };
        target.settle();
        target
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            let mut more = controllers::reconcile_all(&mut self.api, self.now);
            for node in &mut self.nodes {
                let before = self.api.store().revision();
                node.end_what_is_due(self.now);
                node.step(&mut self.api, self.now);
                more |= self.api.store().revision() != before || !node.happened.is_empty();
            }
            if !more {
                return;
            }
        }
        panic!("the model never came to rest");
    }
}

impl Node {
    fn end_what_is_due(&mut self, now: ModelTime) {
        let due = |one: &Running| one.ends.filter(|(at, _)| *at <= now).map(|(_, code)| code);
        for one in &self.running {
            if let Some(code) = due(one) {
                self.happened.push(ContainerEvent::Exited { run: one.run.clone(), code: Some(code), signal: None });
            }
        }
        self.running.retain(|one| due(one).is_none());
    }

    fn step(&mut self, api: &mut ModelApi, now: ModelTime) {
        let happened = std::mem::take(&mut self.happened);
        for command in self.kubelet.step(api, now, happened) {
            match command {
                KubeletCommand::StartContainer { run, pod, .. } => {
                    let behaviour = Behaviour::of(&pod, &run.container);
                    let ends = behaviour.ends_by_itself().map(|code| (now, code));
                    self.running.push(Running { run: run.clone(), behaviour, ends });
                    self.happened.push(ContainerEvent::Started { run, pid: 1 });
                }
                KubeletCommand::Signal { run, signal } => {
                    for one in self.running.iter_mut().filter(|one| one.run == run) {
                        match signal {
                            StopSignal::Term => {
                                let takes = one.behaviour.takes_to_end();
                                one.ends = one.ends.or(takes.map(|takes| (now.after(takes), 0)));
                            }
                            StopSignal::Kill => one.ends = Some((now, 137)),
                        }
                    }
                }
                KubeletCommand::RunProbe { run, kind, probe, .. } => {
                    let success = probe["exec"]["command"] == json!(["true"]);
                    self.happened.push(ContainerEvent::Probed { run, kind, success });
                }
                KubeletCommand::RemovePod { .. } => {}
            }
        }
    }
}

impl Target for ModelTarget {
    fn prepare(&mut self, namespace: &str) {
        let body = json!({"metadata": {"name": namespace}});
        let answer = self.api.handle(self.now, Request::post(USER, "/api/v1/namespaces", body));
        assert_eq!(answer.status, 201, "{}", answer.value());
        self.settle();
    }

    fn send(&mut self, sent: Sent) -> Answer {
        let method = Method::parse(sent.method).expect("a method");
        let mut request = Request::new(USER, method, &sent.path);
        request.content_type = sent.content_type;
        request.body = sent.body;
        let response = self.api.handle(self.now, request);
        Answer { code: response.status, body: response.value() }
    }

    fn watch(&mut self, path: &str, count: usize) -> (u16, Vec<Value>) {
        let response = self.api.handle(self.now, Request::get(USER, path));
        let Body::Watch(mut cursor) = response.body else {
            return (response.status, vec![json!({"type": "ANSWER", "object": response.value()})]);
        };
        let mut events: Vec<WatchEvent> = Vec::new();
        let mut waited = Duration::ZERO;
        let limit = cursor.timeout_seconds.map_or(PATIENCE, Duration::from_secs);
        while events.len() < count && waited < limit && !cursor.has_ended() {
            let drawn = self.api.poll_watch(&mut cursor, count - events.len());
            if drawn.is_empty() {
                waited += self.pause();
            }
            events.extend(drawn);
        }
        let told = |event: &WatchEvent| json!({"type": event.change.word(), "object": *event.object});
        (response.status, events.iter().map(told).collect())
    }

    fn pause(&mut self) -> Duration {
        self.settle();
        self.now = self.now.after(LOOK_EVERY);
        self.settle();
        LOOK_EVERY
    }

    fn forget(&mut self) {
        let newest = self.api.store().revision();
        self.api.compact(newest);
    }

    fn image(&self) -> String {
        "busybox:1.36".to_owned()
    }
}
