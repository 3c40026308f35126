//! What has to be done around a member so that it can join and leave: by the driver of the pilot that joins, and by the
//! leave program. Each looks first and does one thing then, so that whatever was cut off is taken up where it stands.

use super::super::agents::{Life, database_program};
use super::super::database::{Seed, Stage, seed};
use super::super::planted::Planted;
use super::super::{Happening, World};
use super::calls::{Call, Failed, Request};
use super::{Configuration, quorum};
use agent::event::Event;
use agent::launch::machine::Job;
use protocol::id::{DatabaseIdentity, PilotName, Uid};
use protocol::launcher::{Ask, StartPermission};
use std::collections::BTreeSet;

/// Who is about what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Errand {
    /// The driver of a pilot that was told to start a new member.
    Join {
        /// The pilot.
        life: Life,
        /// The number of the act that waits for it.
        local: u64,
    },
    /// The driver of a pilot whose member is a learner.
    Promote {
        /// The pilot.
        life: Life,
    },
    /// The program that makes a member leave.
    Leave {
        /// Its pod.
        pod: PilotName,
        /// The launcher that runs it.
        launcher: u64,
        /// As which job.
        job: Job,
    },
}

/// Between two looks of a leave program.
const AGAIN: u64 = 500;

/// What a joiner's driver does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// It starts as this member.
    Start(DatabaseIdentity),
    /// It calls for this.
    Call(Call),
    /// It can do nothing.
    Refuse(String),
}

/// What the driver of the joiner in `pod` knows.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) pod: &'a PilotName,
    /// The members, as a quorum tells them; none where no quorum is reached.
    pub(super) list: Option<&'a Configuration>,
    /// Those that have been started.
    pub(super) started: &'a BTreeSet<DatabaseIdentity>,
    /// The member whose directory lies here.
    pub(super) holds: Option<&'a DatabaseIdentity>,
    /// The learner there is can be reached.
    pub(super) learner_is_heard: bool,
    /// Voters that are well.
    pub(super) healthy: usize,
}

/// Decides that. Pure.
pub(super) fn next(seen: &Seen<'_>) -> Next {
    if let Some(own) = seen.holds {
        return match seen.list {
            Some(list) if !list.has(own) => {
                Next::Refuse(format!("the directory here is of {own}, which is no member any more"))
            }
            // Without a quorum, too: it may be the voter that is missing.
            Some(_) | None => Next::Start(own.clone()),
        };
    }
    let Some(list) = seen.list else {
        return Next::Refuse("no member is reached that has a quorum".to_owned());
    };
    match list.at(seen.pod) {
        // It was added, and whoever did that did not hear of it, or was not there any more.
        Some((own, _)) if !seen.started.contains(own) => Next::Start(own.clone()),
        // A directory that is lost never comes back under its id. A learner counts for nothing; a voter is for a person.
        Some((own, member)) if !member.votes => Next::Call(Call::Remove(own.clone())),
        Some((own, _)) => Next::Refuse(format!("{own} is a voter at this address, and its directory is lost")),
        None => match list.learner() {
            Some((other, _)) if seen.learner_is_heard => Next::Refuse(format!("{other} is a learner still")),
            // One joins at a time, and that is this one: what is left of another's join was given up.
            Some((other, _)) => Next::Call(Call::Remove(other.clone())),
            None => {
                let voters = list.votes();
                // A single member that is well may always get a second one.
                let enough = voters == 1 || seen.healthy >= quorum(voters + 1);
                if enough {
                    Next::Call(Call::Add(seen.pod.clone()))
                } else {
                    Next::Refuse(format!(
                        "{} of {voters} voters are well: one more could cost the quorum",
                        seen.healthy
                    ))
                }
            }
        },
    }
}

impl World {
    /// Somebody is about to change the members of etcd.
    pub(crate) fn begin_errand(&mut self, errand: Errand) {
        let wait = self.etcd.chance.between(20, 300);
        self.after(wait, Happening::Errand(Box::new(errand)));
    }

    /// The pod it is done from, as long as whoever does it is there.
    pub(super) fn errand_from(&self, errand: &Errand) -> Option<PilotName> {
        match errand {
            Errand::Join { life, .. } | Errand::Promote { life } => Some(self.agents.get(life)?.name().clone()),
            Errand::Leave { pod, launcher, job } => {
                let running = self.pods.get(pod)?.launcher.as_ref()?;
                (running.life == *launcher && running.leave == Some(*job)).then(|| pod.clone())
            }
        }
    }

    /// Whoever does it looks, and does the next thing.
    pub(crate) fn run_errand(&mut self, errand: &Errand) {
        let Some(pod) = self.errand_from(errand) else { return };
        match errand {
            Errand::Join { life, local } => self.join_on(errand, *life, *local, &pod),
            Errand::Promote { .. } => {}
            Errand::Leave { .. } => self.leave_on(errand, &pod),
        }
    }

    /// The members whose pods these are, but for the own one.
    fn others_that_serve(&self, pod: &PilotName) -> Vec<Seed> {
        let serves = |stage| matches!(stage, Stage::Serving | Stage::Leaving(_));
        self.databases
            .processes
            .iter()
            .filter(|(name, p)| *name != pod && serves(p.stage))
            .filter_map(|(name, _)| Some((name.clone(), self.pods.get(name)?.uid().clone())))
            .collect()
    }

    fn join_on(&mut self, errand: &Errand, life: Life, local: u64, pod: &PilotName) {
        let Some(agent) = self.agents.get(&life) else { return };
        if agent.paused {
            self.after(AGAIN, Happening::Errand(Box::new(errand.clone())));
            return;
        }
        let told = agent.gossip.databases(true);
        let (own_pod, claim) = (agent.pod.clone(), agent.claim.clone());
        let seeds = told.iter().filter_map(|text| seed(text)).filter(|(name, _)| name != pod);
        let (through, leader) = self.reached_through(pod, seeds).unzip();
        let list = leader.and_then(|leader| self.configuration_of(&leader).cloned());
        let holds = self.volumes.get(&claim).and_then(|v| v.data.as_ref()).map(|d| d.identity.clone());
        if list.is_none() && holds.is_none() && self.options.planted == Some(Planted::BeginsNewAgain) {
            self.start_added(life, local, own_pod, vec!["new".to_owned()]);
            return;
        }
        let nobody = BTreeSet::new();
        let adopts = self.options.planted == Some(Planted::AdoptsStarted);
        let seen = Seen {
            pod,
            list: list.as_ref(),
            started: if adopts { &nobody } else { &self.etcd.started },
            holds: holds.as_ref(),
            learner_is_heard: list.as_ref().and_then(|l| l.learner()).is_some_and(|(i, _)| self.is_heard(i)),
            healthy: list.as_ref().map_or(0, |list| self.healthy(list)),
        };
        match next(&seen) {
            Next::Start(identity) => {
                let mut argv = vec!["added".to_owned(), identity.to_string()];
                argv.extend(told);
                self.start_added(life, local, own_pod, argv);
            }
            Next::Call(call) => match through {
                Some(through) => self.call_members(errand.clone(), call, through),
                None => self.end_join(life, local, Err("nobody is reached".to_owned())),
            },
            Next::Refuse(why) => self.end_join(life, local, Err(why)),
        }
    }

    fn start_added(&mut self, life: Life, local: u64, pod: Uid, argv: Vec<String>) {
        let permission = StartPermission { pod, identity: None };
        let ask = Ask::Start { program: database_program(argv), permission };
        self.after(2, Happening::Ask(life, Some(local), Box::new(ask)));
    }

    fn end_join(&mut self, life: Life, local: u64, result: Result<(), String>) {
        if let Err(why) = &result {
            self.tell(format!("the join of life {life} stands still: {why}"));
        }
        self.after(5, Happening::Hear(life, Box::new(Event::Local { id: local, result })));
    }

    /// A driver that sees its member to be a learner that has everything makes it a voter.
    pub(crate) fn promote_when_ready(&mut self, life: Life) {
        let Some(agent) = self.agents.get(&life).filter(|a| !a.paused) else { return };
        let pod = agent.name().clone();
        let Some(process) = self.databases.processes.get(&pod) else { return };
        let ready = matches!(process.stage, Stage::Joining(until) if self.now >= until);
        if !ready || !self.etcd.led.contains(&pod) || self.etcd.promoting.contains(&life) {
            return;
        }
        let identity = process.identity.clone();
        let others = self.others_that_serve(&pod);
        if let Some((through, _)) = self.reached_through(&pod, others) {
            self.etcd.promoting.insert(life);
            self.call_members(Errand::Promote { life }, Call::Promote(identity), through);
        }
    }

    /// The leave program: gone is who a quorum of the others does not list any more.
    fn leave_on(&mut self, errand: &Errand, pod: &PilotName) {
        let Some(claim) = self.pods.get(pod).map(|p| p.claim.clone()) else { return };
        let Some(identity) = self.volumes.get(&claim).and_then(|v| v.data.as_ref()).map(|d| d.identity.clone()) else {
            return;
        };
        let others = self.others_that_serve(pod);
        let Some((through, leader)) = self.reached_through(pod, others) else {
            self.leave_fails(pod, "no other member is reached that has a quorum");
            return;
        };
        let Some(list) = self.configuration_of(&leader).cloned() else { return };
        if !list.has(&identity) {
            self.tell(format!("the leave of {pod} is done: nobody lists {identity}"));
            self.end_leave(pod, 0);
            return;
        }
        let stay = list.without(&identity);
        let unasked = self.options.planted == Some(Planted::RemovesUnasked);
        if self.healthy(&stay) < quorum(stay.votes()) && !unasked {
            self.leave_fails(pod, "those that would stay are no quorum");
            return;
        }
        self.call_members(errand.clone(), Call::Remove(identity), through);
    }

    pub(super) fn leave_fails(&mut self, pod: &PilotName, why: &str) {
        self.tell(format!("the leave of {pod} fails: {why}"));
        if let Some(process) = self.databases.processes.get_mut(pod)
            && matches!(process.stage, Stage::Leaving(_))
        {
            process.stage = Stage::Serving;
        }
        self.end_leave(pod, 2);
    }

    /// What became of a call.
    pub(super) fn answered(&mut self, request: &Request, result: &Result<(), Failed>) {
        let Some(pod) = self.errand_from(&request.errand) else { return };
        match (&request.errand, result) {
            (Errand::Join { .. }, Ok(())) => self.begin_errand(request.errand.clone()),
            (Errand::Join { life, local }, Err(failed)) => {
                self.end_join(*life, *local, Err(format!("{} {}", request.call, failed.word())));
            }
            (Errand::Promote { life }, _) => {
                self.etcd.promoting.remove(life);
            }
            // Nobody knows whether it is done: it looks.
            (Errand::Leave { .. }, Ok(()) | Err(Failed::Unanswered)) => {
                self.after(AGAIN, Happening::Errand(Box::new(request.errand.clone())));
            }
            (Errand::Leave { .. }, Err(failed @ (Failed::Unreached | Failed::NoQuorum | Failed::Refused(_)))) => {
                self.leave_fails(&pod, failed.word());
            }
        }
    }
}

#[cfg(test)]
mod tests;
