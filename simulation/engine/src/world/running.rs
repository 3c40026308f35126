//! The databases' processes: how each starts, goes on, leaves and ends.

use super::database::{BrokenOff, Databases, Kind, Process, Seed, Stage, Start, Turn, seed};
use super::volumes::Volume;
use super::{Happening, World, marks};
use agent::launch::machine::{self, End, Job};
use protocol::id::{DatabaseIdentity, PilotName};
use protocol::launcher::Program;
use std::collections::BTreeMap;

impl World {
    pub(super) fn start_database(&mut self, name: &PilotName, program: &Program) {
        let Some(claim) = self.pods.get(name).map(|p| p.claim.clone()) else { return };
        let mut words = program.argv.iter();
        let start = match words.next().map(String::as_str) {
            Some("founder" | "new") => Start::Founder,
            Some("added") => {
                let identity = DatabaseIdentity::new(words.next().cloned().unwrap_or_default());
                Start::Added(identity, words.filter_map(|w| seed(w)).collect())
            }
            Some("replacer") => {
                let lost = DatabaseIdentity::new(words.next().cloned().unwrap_or_default());
                Start::Replacer(lost, words.filter_map(|w| seed(w)).collect())
            }
            Some("joiner") => Start::Joiner(words.filter_map(|w| seed(w)).collect()),
            Some(_) | None => Start::Returner(words.filter_map(|w| seed(w)).collect()),
        };
        if self.pods.get(name).is_some_and(|pod| !self.permitted.contains(&pod.uid)) {
            let why = format!("a database starts in the pod {name}, whose pilot has not said that it may");
            self.oracle.broken(super::oracle::Rule::Local, why);
        }
        let founds = program.argv.first().is_some_and(|word| word == "founder");
        let record = self.cluster.record();
        let Some(volume) = self.volumes.get_mut(&claim) else { return };
        if self.options.database == Kind::Ring
            && matches!(start, Start::Returner(_))
            && !volume.data.as_ref().is_some_and(|d| d.bootstrapped)
        {
            let why = format!("{name} names itself as a seed and has never been a full member");
            self.oracle.broken(super::oracle::Rule::Seed, why);
        }
        let identity = volume.data.as_ref().map(|d| d.identity.to_string());
        self.oracle.judge_start(name.as_str(), identity.as_deref(), founds, record.as_deref());
        match self.options.database {
            Kind::Ring => self.databases.start(self.now, name, &claim, &mut volume.data, start),
            Kind::Etcd => self.start_etcd(name, &claim, start),
        }
        let identity = self.databases.processes.get(name).map(|p| p.identity.to_string()).unwrap_or_default();
        self.tell(format!("database {name} starts as {identity}"));
    }

    pub(super) fn begin_leave(&mut self, name: &PilotName, life: u64, job: Job) {
        let record = self.cluster.record();
        let identity = self.databases.processes.get(name).map(|p| p.identity.to_string()).unwrap_or_default();
        if let Some(launcher) = self.launcher(name, life) {
            launcher.leave = Some(job);
        }
        let stage = self.databases.processes.get(name).map(|p| p.stage);
        match stage {
            // The database goes on by itself; the program waits for it.
            Some(Stage::Leaving(_) | Stage::Announcing(_)) => match self.options.database {
                Kind::Ring => {}
                // Nothing goes on without its program: this one takes up where the one before was ended.
                Kind::Etcd => self.begin_errand(super::etcd::Errand::Leave { pod: name.clone(), launcher: life, job }),
            },
            Some(Stage::Serving) => {
                self.oracle.judge_leave(name.as_str(), &identity, record.as_deref());
                self.databases.leave(self.now, name);
                match self.options.database {
                    Kind::Ring => {}
                    Kind::Etcd => {
                        self.begin_errand(super::etcd::Errand::Leave { pod: name.clone(), launcher: life, job })
                    }
                }
                self.tell(format!("database {name} begins to leave as {identity}"));
                self.judge_moving();
            }
            Some(Stage::Starting(_) | Stage::Joining(_) | Stage::JoinFailed | Stage::Left | Stage::Draining) | None => {
                let code = i32::from(stage != Some(Stage::Left));
                self.after(300, Happening::Launcher(name.clone(), life, Box::new(ended(job, code))));
            }
        }
    }

    /// The bug of a hook that decommissions whatever ends beyond the size.
    pub(super) fn leave_unasked(&mut self, name: &PilotName) {
        let beyond = name.ordinal().zip(self.cluster.replicas()).is_some_and(|(ordinal, size)| ordinal >= size);
        let identity = self.databases.processes.get(name).map(|p| p.identity.to_string()).unwrap_or_default();
        if beyond && self.databases.leave(self.now, name) {
            let record = self.cluster.record();
            self.oracle.judge_leave(name.as_str(), &identity, record.as_deref());
        }
    }

    pub(crate) fn judge_moving(&mut self) {
        let moving = |p: &Process| matches!(p.stage, Stage::Joining(_) | Stage::Leaving(_));
        let moving: Vec<String> =
            self.databases.processes.iter().filter(|(_, p)| moving(p)).map(|(n, _)| n.to_string()).collect();
        self.oracle.judge_moving(&moving);
    }

    /// The databases gossip and go on.
    pub(crate) fn turn_databases(&mut self) {
        self.watch_members();
        match self.options.database {
            Kind::Ring => self.turn_ring(),
            Kind::Etcd => self.turn_etcd(),
        }
    }

    fn turn_ring(&mut self) {
        let mut databases = std::mem::replace(&mut self.databases, Databases::new(0));
        databases.gossip(self.now, |a, b| self.reaches(a, b));
        let names: Vec<PilotName> = databases.processes.keys().cloned().collect();
        let mut turns = Vec::new();
        for name in names {
            let claim = databases.processes.get(&name).map(|p| p.claim.clone());
            let Some(mut data) = claim.as_ref().and_then(|c| self.volumes.get_mut(c)).map(|v| v.data.take()) else {
                continue;
            };
            let reaches =
                |(peer, uid): &Seed| self.reaches(&name, peer) && self.pods.get(peer).is_some_and(|p| p.uid == *uid);
            let together = databases.processes.get(&name).is_some_and(|own| match own.stage {
                Stage::Joining(_) => self.all_sources_serve(&databases, &name, own),
                Stage::Leaving(_) => databases
                    .processes
                    .iter()
                    .filter(|(_, p)| p.stage == Stage::Serving)
                    .all(|(peer, _)| self.reaches(&name, peer)),
                Stage::Starting(_)
                | Stage::JoinFailed
                | Stage::Serving
                | Stage::Announcing(_)
                | Stage::Left
                | Stage::Draining => true,
            });
            let turn = databases.turn(self.now, &name, &mut data, reaches, together);
            if let Some(volume) = claim.and_then(|c| self.volumes.get_mut(&c)) {
                volume.data = data;
            }
            turns.extend(turn.map(|t| (name, t)));
        }
        self.databases = databases;
        for (name, turn) in turns {
            self.tell(format!("database {name}: {turn:?}"));
            match turn {
                Turn::Exit(code) => self.kill_database(&name, Some(code)),
                Turn::Joining => {
                    self.oracle.changes += 1;
                    self.judge_moving();
                }
                Turn::Serving => self.owns_its_part(&name),
                Turn::Joined => {
                    if let Some(identity) = self.databases.processes.get(&name).map(|p| p.identity.clone()) {
                        let process = self.databases.processes.get(&name);
                        let replaces =
                            process.filter(|p| matches!(p.start, Start::Replacer(..))).map(|p| p.claim.clone());
                        self.rows_arrive(&identity, replaces.is_some());
                        if let Some(claim) = replaces {
                            self.rows_are_safe_again(&claim);
                            self.marks.mark(marks::REPLACED);
                        }
                        if self.broken_joins.remove(&identity) {
                            self.marks.mark(marks::JOINS_ANEW);
                        }
                    }
                }
                Turn::HandsOver if self.hand_rows_over(&name) => self.databases.announce(self.now, &name),
                Turn::HandsOver => self.break_off(&name),
                Turn::Left => {
                    // Who has lost its disk since was a member when the leave was granted.
                    let stays = |volume: &&Volume| match &volume.data {
                        Some(data) => data.is_full_member(),
                        None => volume.lost,
                    };
                    let stay = self.volumes.values().filter(stays).count();
                    if stay < super::database::REPLICATION as usize {
                        self.oracle.broken(super::oracle::Rule::Copies, format!("{name} left and {stay} members stay"));
                    }
                    self.end_leave(&name, 0);
                }
            }
        }
    }

    /// Whether all whom a joiner knows as full members serve where it reaches them: it takes over from all of them.
    fn all_sources_serve(&self, databases: &Databases, name: &PilotName, joiner: &Process) -> bool {
        let serving: BTreeMap<&DatabaseIdentity, &PilotName> = databases
            .processes
            .iter()
            .filter(|(_, p)| p.stage == Stage::Serving)
            .map(|(pod, p)| (&p.identity, pod))
            .collect();
        joiner.sources().all(|source| serving.get(source).is_some_and(|peer| self.reaches(name, peer)))
    }

    /// What the database of this pod streams breaks off.
    pub(crate) fn break_off(&mut self, name: &PilotName) {
        let Some(broken) = self.databases.break_off(self.now, name) else { return };
        self.tell(format!("database {name}: its streams break off ({broken:?})"));
        match broken {
            BrokenOff::Join => {
                self.broken_joins.extend(self.databases.processes.get(name).map(|p| p.identity.clone()));
            }
            BrokenOff::Leave => {
                self.marks.mark(marks::LEAVE_FAILS);
                self.end_leave(name, 2);
            }
        }
    }

    /// The leave program of this pod ends, where one runs.
    pub(crate) fn end_leave(&mut self, name: &PilotName, code: i32) {
        if let Some(launcher) = self.pods.get_mut(name).and_then(|p| p.launcher.as_mut())
            && let Some(job) = launcher.leave.take()
        {
            let life = launcher.life;
            self.launcher_event(name, life, ended(job, code));
        }
    }

    /// The database's process ends by itself, or is killed.
    pub(crate) fn kill_database(&mut self, name: &PilotName, code: Option<i32>) {
        if code.is_none() {
            self.etcd_is_killed(name);
        }
        if self.databases.processes.remove(name).is_none() {
            return;
        }
        let Some(launcher) = self.pods.get_mut(name).and_then(|p| p.launcher.as_mut()) else { return };
        let life = launcher.life;
        let leave = match self.options.database {
            Kind::Ring => launcher.leave.take(),
            // It speaks with the others, not with the process that has ended.
            Kind::Etcd => None,
        };
        if let Some(job) = launcher.database {
            let end = End { code, signal: code.is_none().then_some(9), ..End::default() };
            self.launcher_event(name, life, machine::Event::Ended { job, end });
        }
        if let Some(job) = leave {
            self.after(100, Happening::Launcher(name.clone(), life, Box::new(ended(job, 1))));
        }
    }
}

/// The end of a job that was not killed.
pub(super) fn ended(job: Job, code: i32) -> machine::Event {
    machine::Event::Ended { job, end: End { code: Some(code), ..End::default() } }
}
