//! Pods: what their kubelet does with them.

use super::agents::Life;
use super::cluster::PodSeen;
use super::database::Stage;
use super::launchers::Launcher;
use super::planted::Planted;
use super::{Happening, World};
use agent::event::Event;
use agent::launch::machine::{self, Client};
use protocol::id::{PilotName, Uid};

/// A pod as its kubelet has it.
#[derive(Clone)]
pub(crate) struct Pod {
    pub(super) uid: Uid,
    pub(crate) claim: Uid,
    pub(crate) agent: Option<Life>,
    agent_again: Option<u64>,
    pub(crate) launcher: Option<Launcher>,
    pub(super) launcher_again: Option<u64>,
    /// Killed then, whatever it does.
    pub(crate) dies: Option<u64>,
    agent_told: bool,
    /// All of its containers have run.
    running: bool,
    ready: bool,
}

impl Pod {
    pub(crate) fn uid(&self) -> &Uid {
        &self.uid
    }

    /// It has been told to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.dies.is_some()
    }
}

impl World {
    /// What a kubelet does each time it looks.
    pub(crate) fn kubelet(&mut self) {
        let seen = self.cluster.pods();
        let gone: Vec<PilotName> = self
            .pods
            .iter()
            .filter(|(name, pod)| !seen.iter().any(|s| s.name == **name && s.uid == pod.uid))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.kill_pod(&name);
        }
        for pod in seen {
            self.tend_pod(&pod);
        }
    }

    fn tend_pod(&mut self, seen: &PodSeen) {
        let name = &seen.name;
        if self.tend_pod_of_lost_node(seen) {
            return;
        }
        if !self.pods.contains_key(name) {
            if let (Some(claim), true, None) = (&seen.claim, seen.bound && seen.pulled, seen.ending) {
                let begins = self.now + self.chances.kubelet.between(300, 2_500);
                let pod = Pod {
                    uid: seen.uid.clone(),
                    claim: claim.clone(),
                    agent: None,
                    agent_again: Some(begins),
                    launcher: None,
                    launcher_again: Some(begins + 400),
                    dies: None,
                    agent_told: false,
                    running: false,
                    ready: false,
                };
                self.tell(format!("pod {name} is made on claim {}", short(claim.as_str())));
                self.volumes.entry(claim.clone()).or_default();
                self.pods.insert(name.clone(), pod);
            } else if seen.ending.is_some() {
                self.cluster.finish_pod(self.now, name, &seen.uid);
            }
            return;
        }
        let now = self.now;
        let Some(pod) = self.pods.get_mut(name) else { return };
        let (uid, claim) = (pod.uid.clone(), pod.claim.clone());
        if let Some(grace) = seen.ending {
            if pod.dies.is_none() {
                pod.dies = Some(now + grace);
                let launcher = pod.launcher.as_ref().map(|l| l.life);
                self.tell(format!("pod {name} is told to end within {grace} ms"));
                if let Some(life) = launcher {
                    self.launcher_event(name, life, machine::Event::Terminate);
                }
                if self.options.planted == Some(Planted::LeaveUnasked) {
                    self.leave_unasked(name);
                }
                return;
            }
            if pod.dies.is_some_and(|at| now >= at) {
                self.tell(format!("pod {name} has had its time and is killed"));
                self.kill_pod(name);
                self.cluster.finish_pod(now, name, &uid);
                return;
            }
            if pod.launcher.is_none() {
                match pod.agent {
                    Some(agent) if !pod.agent_told => {
                        // The sidecar is told only after the containers have ended.
                        pod.agent_told = true;
                        self.after(5, Happening::Hear(agent, Box::new(Event::Terminate)));
                    }
                    Some(_) => {}
                    None => {
                        self.tell(format!("pod {name} has ended"));
                        self.pods.remove(name);
                        self.cluster.finish_pod(now, name, &uid);
                    }
                }
            }
            return;
        }
        if pod.agent.is_none() && pod.agent_again.is_some_and(|at| now >= at) {
            let life = self.start_agent(name, &uid, &claim);
            if let Some(pod) = self.pods.get_mut(name) {
                pod.agent = Some(life);
            }
        }
        let Some(pod) = self.pods.get_mut(name) else { return };
        if pod.launcher.is_none() && pod.launcher_again.is_some_and(|at| now >= at) {
            self.start_launcher(name);
        }
        let serves = self
            .databases
            .processes
            .get(name)
            .is_some_and(|p| !p.hangs(now) && matches!(p.stage, Stage::Serving | Stage::Leaving(_)));
        let Some(pod) = self.pods.get_mut(name) else { return };
        // As the sidecar's probe says it: its member serves.
        let ready = serves && pod.agent.is_some() && pod.launcher.is_some();
        let runs = pod.launcher.is_some() && pod.agent.is_some();
        if (runs && !pod.running) || ready != pod.ready {
            pod.running |= runs;
            pod.ready = ready;
            let running = pod.running;
            self.cluster.set_status(now, name, &uid, running, ready);
        }
    }

    /// Everything in the pod is killed.
    pub(crate) fn kill_pod(&mut self, name: &PilotName) {
        self.etcd_is_killed(name);
        self.databases.processes.remove(name);
        if let Some(pod) = self.pods.remove(name)
            && let Some(agent) = pod.agent
        {
            self.end_agent(agent, false);
        }
    }

    /// An agent's process is no more: its container starts again, unless the pod ends.
    pub(crate) fn agent_ended(&mut self, name: &PilotName, life: Life) {
        let again = self.now + self.chances.kubelet.between(800, 6_000);
        let Some(pod) = self.pods.get_mut(name).filter(|p| p.agent == Some(life)) else { return };
        pod.agent = None;
        pod.agent_again = Some(again);
        if let Some(launcher) = pod.launcher.as_ref().map(|l| l.life) {
            self.launcher_event(name, launcher, machine::Event::Gone(Client(life)));
        }
    }
}

fn short(uid: &str) -> &str {
    uid.get(..8).unwrap_or(uid)
}
