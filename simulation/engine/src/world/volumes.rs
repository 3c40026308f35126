//! Volumes: what outlives pods, and how it is lost.

use super::agents::Life;
use super::database::{Data, Kind, Stage};
use super::planted::Planted;
use super::{World, marks};
use agent::event::Event;
use agent::launch::accounts::Accounts;
use agent::launch::memory::Memory;
use agent::pilot::durable::Durable;
use policies::replace::{APPROVE, DATA_LOST};
use protocol::database::VolumeState;
use protocol::id::{DatabaseIdentity, PilotName, Uid};
use protocol::record::IntentKind;
use std::collections::VecDeque;

/// What outlives pods.
#[derive(Debug, Clone, Default)]
pub(crate) struct Volume {
    pub(crate) durable: Option<Durable>,
    /// What the pilot remembered at some times before, oldest first: somebody may have kept a copy.
    copies: VecDeque<Durable>,
    /// It has been lost, or replaced by such a copy.
    pub(crate) forgot: bool,
    /// All that was on it has been lost.
    pub(crate) lost: bool,
    pub(super) launcher: Memory,
    pub(super) accounts: Accounts,
    pub(crate) data: Option<Data>,
    aside: Vec<Data>,
}

/// Copies of a pilot's memory that somebody may bring back.
const COPIES: usize = 32;

impl Volume {
    /// The pilot's memory is written, and somebody copies it.
    pub(crate) fn remember(&mut self, durable: Durable) {
        self.copies.push_back(durable.clone());
        if self.copies.len() > COPIES {
            self.copies.pop_front();
        }
        self.durable = Some(durable);
    }

    /// What lies there of a member that was one before.
    pub(crate) fn prepared(durable: Durable, data: Data) -> Self {
        Self { durable: Some(durable), data: Some(data), ..Self::default() }
    }

    pub(crate) fn starts(&self) -> u64 {
        self.accounts.starts
    }
}

impl World {
    /// The pilot's process is killed and what it remembers is lost, or is as it was at some time before.
    pub(crate) fn ruin_memory(&mut self, ordinal: u32, older: bool) {
        let Some(name) = super::cluster::pod_name(ordinal) else { return };
        let Some(pod) = self.pods.get(&name) else { return };
        let claim = pod.claim.clone();
        if let Some(agent) = pod.agent {
            self.end_agent(agent, false);
        }
        let record = self.record_shown_to(&name);
        let Some(volume) = self.volumes.get_mut(&claim) else { return };
        if older {
            let many = u64::try_from(volume.copies.len()).unwrap_or(0);
            if many == 0 {
                return;
            }
            let which = usize::try_from(self.chances.memory.below(many)).unwrap_or(0);
            volume.copies.truncate(which + 1);
            volume.durable = volume.copies.back().cloned();
        } else {
            volume.copies.clear();
            volume.durable = None;
        }
        volume.forgot = true;
        let promise = volume.durable.as_ref().and_then(|d| d.promise.as_ref());
        let promise = promise.map_or_else(|| "no promise".to_owned(), |p| format!("epoch {}", p.epoch));
        self.tell(format!("{name} has forgotten: it remembers {promise}"));
        self.oracle.forgets(&claim, record);
    }

    /// The epoch of the record that this pod can read, through whichever front end it has.
    fn record_shown_to(&self, name: &PilotName) -> u64 {
        let still = name.ordinal().and_then(|ordinal| self.broken.fronts.shown(self.now, ordinal));
        still.unwrap_or(&self.cluster).record().map_or(0, |r| r.epoch.0)
    }

    /// The node's disk with this pod's volume is lost: everything of the pod ends, and its claim is bound to an empty one.
    pub(crate) fn lose_volume(&mut self, ordinal: u32) {
        let Some(name) = super::cluster::pod_name(ordinal) else { return };
        let Some(claim) = self.pods.get(&name).map(|p| p.claim.clone()) else { return };
        let record = self.record_shown_to(&name);
        self.rows_are_lost_with(&claim);
        if self.etcd_is_lost_with(&claim) {
            self.etcd.is_gone();
        }
        let owned = self.volumes.get(&claim).and_then(|v| v.data.as_ref());
        let owned = owned.filter(|d| d.bootstrapped || self.etcd.is_voter(&d.identity));
        self.lost_identities.extend(owned.map(|d| d.identity.clone()));
        self.kill_pod(&name);
        self.cluster.delete_pod(self.now, name.as_str());
        self.volumes.insert(claim.clone(), Volume { lost: true, forgot: true, ..Volume::default() });
        self.tell(format!("the disk of {name} is lost"));
        self.oracle.forgets(&claim, record);
        if self.cluster.record().is_none_or(|r| r.members.is_empty()) {
            // Whoever founded has to do it again: nobody else has joined.
            self.oracle.founding_is_lost();
        }
    }

    /// A person reads what the record says of lost data, and does as it is told there: the others are repaired first.
    pub(crate) fn approve(&mut self) {
        let Some(record) = self.cluster.record() else { return };
        let Some(condition) = record.conditions.iter().find(|c| c.kind == DATA_LOST) else { return };
        let words: Vec<&str> = condition.message.split([' ', ',']).collect();
        let pod = words.first().and_then(|name| PilotName::parse(name).ok());
        let lost = pod.and_then(|pod| Some(self.pods.get(&pod)?.claim.clone()));
        let claim = words.windows(2).find(|pair| pair[0] == "claim").map(|pair| pair[1]);
        let operation = words.iter().find_map(|word| word.strip_prefix(APPROVE)?.strip_prefix('='));
        let (Some(lost), Some(claim), Some(operation), Kind::Ring) = (lost, claim, operation, self.options.database)
        else {
            return;
        };
        let repairs = self.options.planted != Some(Planted::ApprovedUnrepaired);
        let known = self.oracle.approved.contains(operation);
        if known || !repairs || self.repair_all_but(&lost) {
            self.cluster.annotate_claim(self.now, claim, APPROVE, operation);
            self.tell(format!("a person approves {operation}"));
            self.oracle.approved.insert(operation.to_owned());
            self.marks.mark(marks::APPROVED);
        }
    }

    /// What a driver sees of a volume without a running database: the identity is only what the pilot remembers.
    pub(crate) fn volume_state(&self, claim: &Uid, known: Option<DatabaseIdentity>) -> VolumeState {
        let unseen = |d: &&Data| match self.options.planted {
            Some(Planted::RetiredIsEmpty) => d.decommissioned,
            // Of one member: of several nobody would be replaced.
            Some(Planted::EmptyUnlooked) => d.identity.as_str().ends_with("db-1"),
            Some(_) | None => false,
        };
        match (self.volumes.get(claim).and_then(|v| v.data.as_ref()).filter(|d| !unseen(d)), known) {
            (None, _) => VolumeState::Empty,
            (Some(_), Some(known)) => VolumeState::Holds(known),
            (Some(_), None) => VolumeState::HoldsUnknown,
        }
    }

    /// Who forgot, while it founded or joined, whose data it holds, in a pod that cannot start it any more: nobody can
    /// name that data, so nobody may start, move or overwrite it, and the operation stands until a person has looked.
    pub(crate) fn left_to_a_person(&self) -> Option<String> {
        let record = self.cluster.record()?;
        let forgotten = |name: &PilotName, claim: &Uid| {
            let volume = self.volumes.get(claim).filter(|v| v.forgot)?;
            let data = volume.data.as_ref()?;
            let pilot = &self.agents.values().find(|a| a.claim == *claim)?.pilot;
            let nameless = pilot.durable().identity.is_none() && pilot.durable().begun_under.is_none();
            let runs = self.databases.processes.contains_key(name);
            (nameless && !runs).then(|| format!("{name} has forgotten that its data is of {}", data.identity))
        };
        let lost = record.members.iter().find(|(_, member)| {
            self.volumes
                .get(&member.claim)
                .is_some_and(|v| v.lost && v.data.as_ref().is_none_or(|d| d.identity != member.identity))
        });
        if let Some((name, member)) = lost {
            return Some(format!("the disk of {name} with the data of {} is lost", member.identity));
        }
        let stranger = self.databases.processes.values().find_map(|p| {
            let mut lost = self.lost_identities.iter();
            let known = |i: &DatabaseIdentity| {
                record.retired.contains_key(i) || record.members.values().any(|m| m.identity == *i)
            };
            lost.find(|i| p.knows(i) && !known(i))
        });
        if let Some(identity) = stranger {
            // It owned data when its disk was lost, and the record had not come to know it: somebody has to remove it.
            return Some(format!("{identity} is in the ring, and its disk is lost"));
        }
        let has_left = self.databases.processes.iter().find(|(name, process)| {
            process.stage == Stage::Left
                && !record.members.contains_key(*name)
                && self.volumes.get(&process.claim).is_some_and(|volume| volume.forgot)
        });
        if let Some((name, _)) = has_left {
            // It runs in a pod that is wanted again, and nobody knows any more under which operation it left.
            return Some(format!("{name} has left, and its pilot has forgotten it"));
        }
        match record.intent.as_ref().map(|i| &i.kind) {
            Some(IntentKind::Form { founder }) => forgotten(&founder.name, &founder.claim),
            Some(IntentKind::Join { joiner, .. } | IntentKind::Replace { joiner, .. }) => {
                forgotten(&joiner.name, &joiner.claim)
            }
            Some(IntentKind::Leave { .. } | IntentKind::Restart { .. }) => None,
            // Its join was given up meanwhile: nothing says under which operation that data was begun.
            None => self
                .pods
                .iter()
                .filter(|(name, _)| !record.members.contains_key(*name))
                .find_map(|(name, pod)| forgotten(name, &pod.claim)),
        }
    }

    pub(crate) fn move_aside(&mut self, agent: Life, local: u64) {
        let Some((name, claim)) = self.agents.get(&agent).map(|a| (a.name().clone(), a.claim.clone())) else { return };
        let runs = self.databases.processes.contains_key(&name);
        match self.options.database {
            Kind::Ring => self.judge_owned_rows_aside(&name, &claim, runs),
            Kind::Etcd => self.judge_moving_aside(&name, &claim, runs),
        }
        let result = match self.volumes.get_mut(&claim) {
            Some(_) if runs => Err("the database runs".to_owned()),
            Some(volume) => {
                if self.options.planted != Some(Planted::NotMovedAside) {
                    volume.aside.extend(volume.data.take());
                }
                self.marks.mark(marks::MOVED_ASIDE);
                Ok(())
            }
            None => Err("there is no volume".to_owned()),
        };
        self.tell(format!("the data of {name} is moved aside: {result:?}"));
        self.hear(agent, Event::Local { id: local, result });
    }
}
