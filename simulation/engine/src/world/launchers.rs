//! The launchers: the production's own machine, its jobs, and what its clients ask of it.

use super::agents::Life;
use super::running::ended;
use super::{Happening, World, planted};
use agent::event::Event;
use agent::launch::default_care;
use agent::launch::machine::{self, Client, Effect, Job, Machine, MachineSettings, Purpose, Signal};
use agent::launch::memory::Memory;
use protocol::id::PilotName;
use protocol::launcher::{Ask, Reply};
use std::collections::BTreeMap;
use std::time::Duration;

/// A launcher's process.
#[derive(Clone)]
pub(crate) struct Launcher {
    pub(crate) life: u64,
    machine: Machine,
    pub(super) database: Option<Job>,
    pub(crate) leave: Option<Job>,
    asks: BTreeMap<u64, (Life, Option<u64>)>,
    told: u64,
}

impl World {
    pub(super) fn start_launcher(&mut self, name: &PilotName) {
        let life = self.fresh();
        let at = self.reads(name);
        let grace = self.options.grace;
        let Some(pod) = self.pods.get_mut(name) else { return };
        let Some(volume) = self.volumes.get(&pod.claim) else { return };
        let settings = MachineSettings {
            pod: pod.uid.clone(),
            life,
            grace: Duration::from_secs(grace),
            reattach: Duration::from_secs(30),
            care: default_care(),
            command: vec!["database".to_owned()],
            roots: Vec::new(),
            boot: "model".to_owned(),
        };
        let memory = planted::permission(self.options.planted, &pod.uid, volume.launcher.clone());
        let (machine, effects) = Machine::new(settings, at, memory, volume.accounts.clone());
        pod.launcher = Some(Launcher { life, machine, database: None, leave: None, asks: BTreeMap::new(), told: 0 });
        let agent = pod.agent;
        self.launcher_effects(name, life, effects);
        self.launcher_wakes(name, life);
        if let Some(agent) = agent {
            self.after(20, Happening::Ask(agent, None, Box::new(Ask::Watch)));
        }
    }

    pub(crate) fn launcher_event(&mut self, name: &PilotName, life: u64, event: machine::Event) {
        let at = self.reads(name);
        let Some(launcher) = self.launcher(name, life) else { return };
        let over = matches!(&event, machine::Event::Ended { job, .. } if launcher.database == Some(*job));
        if over {
            launcher.database = None;
        }
        let effects = launcher.machine.handle(at, event);
        if over {
            self.databases.processes.remove(name);
        }
        self.launcher_effects(name, life, effects);
        self.launcher_wakes(name, life);
    }

    pub(super) fn launcher(&mut self, name: &PilotName, life: u64) -> Option<&mut Launcher> {
        self.pods.get_mut(name)?.launcher.as_mut().filter(|l| l.life == life)
    }

    fn launcher_wakes(&mut self, name: &PilotName, life: u64) {
        let clock = self.clock(name);
        let at = self.reads(name);
        let Some(launcher) = self.launcher(name, life) else { return };
        if let Some(wake) = launcher.machine.wake() {
            let wait = u64::try_from(wake.since(at).as_millis()).unwrap_or(u64::MAX);
            self.after(
                clock.wait(wait).max(1),
                Happening::Launcher(name.clone(), life, Box::new(machine::Event::Tick)),
            );
        }
    }

    pub(crate) fn launcher_on_disk(&mut self, name: &PilotName, life: u64, sequence: u64, memory: Memory) {
        let Some(pod) = self.pods.get(name).filter(|p| p.launcher.as_ref().is_some_and(|l| l.life == life)) else {
            return;
        };
        if let Some(volume) = self.volumes.get_mut(&pod.claim) {
            volume.launcher = memory;
        }
        self.launcher_event(name, life, machine::Event::Remembered { sequence, result: Ok(()) });
    }

    fn launcher_effects(&mut self, name: &PilotName, life: u64, effects: Vec<Effect>) {
        for effect in effects {
            self.launcher_effect(name, life, effect);
        }
    }

    fn launcher_effect(&mut self, name: &PilotName, life: u64, effect: Effect) {
        let at_once = |event| Happening::Launcher(name.clone(), life, Box::new(event));
        match effect {
            Effect::Remember { sequence, memory } => {
                let wait = self.chances.disk.between(1, 12);
                self.after(wait, Happening::LauncherDisk(name.clone(), life, sequence, memory));
            }
            Effect::Account(accounts) => {
                if let Some(volume) = self.pods.get(name).and_then(|p| self.volumes.get_mut(&p.claim)) {
                    volume.accounts = *accounts;
                }
            }
            Effect::StartDatabase { job, program, .. } => {
                if let Some(launcher) = self.launcher(name, life) {
                    launcher.database = Some(job);
                }
                self.start_database(name, &program);
                let pid = u32::try_from(self.fresh()).unwrap_or(0);
                self.after(0, at_once(machine::Event::Spawned { job, pid }));
            }
            Effect::RunProgram { job, purpose, .. } => {
                self.after(0, at_once(machine::Event::Spawned { job, pid: 1 }));
                match purpose {
                    Purpose::Drain => {
                        self.databases.drain(self.now, name);
                        let wait = self.chances.disk.between(300, 3_000);
                        self.after(wait, at_once(ended(job, 0)));
                    }
                    Purpose::Leave => self.begin_leave(name, life, job),
                    Purpose::Tool => self.after(50, at_once(ended(job, 0))),
                }
            }
            Effect::Signal { job, signal } => {
                let Some(launcher) = self.launcher(name, life) else { return };
                if launcher.database == Some(job) {
                    let wait = match signal {
                        Signal::Stop => self.chances.disk.between(200, 2_000),
                        Signal::Kill => 1,
                    };
                    // It says no more; its end is heard when it has ended.
                    self.after(wait, at_once(ended(job, if signal == Signal::Stop { 143 } else { 137 })));
                } else {
                    if launcher.leave == Some(job) {
                        launcher.leave = None;
                    }
                    self.after(5, at_once(ended(job, 137)));
                }
            }
            Effect::Reply { client, id, reply } => self.launcher_replies(name, life, client, id, reply),
            Effect::Changed { clients, status } => {
                for client in clients {
                    self.after(1, Happening::Hear(client.0, Box::new(Event::Launcher(Some(status.clone())))));
                }
            }
            Effect::Note(text) => self.tell(format!("launcher of {name}: {text}")),
            Effect::Exit(code) => {
                self.tell(format!("launcher of {name} ends with {code}"));
                self.databases.processes.remove(name);
                let again = self.now + 1_000;
                if let Some(pod) = self.pods.get_mut(name) {
                    pod.launcher = None;
                    pod.launcher_again = Some(again);
                    if let Some(agent) = pod.agent {
                        self.after(2, Happening::Hear(agent, Box::new(Event::Launcher(None))));
                    }
                }
            }
        }
    }

    fn launcher_replies(&mut self, name: &PilotName, life: u64, client: Client, id: u64, reply: Reply) {
        let Some(launcher) = self.launcher(name, life) else { return };
        let Some((agent, local)) = launcher.asks.remove(&id) else { return };
        if agent != client.0 {
            return;
        }
        let event = match (reply, local) {
            (Reply::Status(status), None) => Event::Launcher(Some(Box::new(status))),
            (_, None) => return,
            (Reply::Refused(why), Some(id)) => Event::Local { id, result: Err(why) },
            (Reply::Unsupported, Some(id)) => Event::Local { id, result: Err("unsupported".to_owned()) },
            (Reply::Status(_) | Reply::Accepted | Reply::Tool(_), Some(id)) => Event::Local { id, result: Ok(()) },
        };
        self.after(1, Happening::Hear(agent, Box::new(event)));
    }

    pub(crate) fn ask_launcher(&mut self, agent: Life, local: Option<u64>, ask: Ask) {
        let Some(name) = self.agents.get(&agent).map(|a| a.name().clone()) else { return };
        let Some(launcher) = self.pods.get_mut(&name).and_then(|p| p.launcher.as_mut()) else {
            if let Some(id) = local {
                self.hear(agent, Event::Local { id, result: Err("the launcher is not there".to_owned()) });
            }
            return;
        };
        launcher.told += 1;
        let (id, life) = (launcher.told, launcher.life);
        launcher.asks.insert(id, (agent, local));
        self.launcher_event(&name, life, machine::Event::Ask { client: Client(agent), id, ask });
    }
}
