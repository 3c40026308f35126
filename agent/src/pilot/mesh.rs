//! Streams, promises, and the evidence that a process ended.

use super::Pilot;
use crate::effect::Effect;
use policies::election::{candidates, holds_silent};
use protocol::epoch::Epoch;
use protocol::id::{PilotId, PilotName};
use protocol::message::Message;
use protocol::promise::{Promise, may_promise};
use protocol::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A coordinator that asks is believed for so long after its last question.
const HEARD: Duration = Duration::from_secs(4);
/// Ended lives remembered.
const ENDED: usize = 64;

/// What is known of the others' processes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mesh {
    /// Lives whose process this pilot found ended.
    pub(crate) ended: BTreeSet<PilotId>,
    /// Who told that a life has ended.
    pub(crate) told: BTreeMap<PilotId, BTreeSet<PilotName>>,
    /// The coordinator that asked last, and when.
    pub(crate) asked_by: Option<(Promise, Timestamp)>,
    /// The streams wanted last.
    streams: BTreeSet<PilotName>,
    /// A coordinator said goodbye and named this pilot.
    pub(crate) named: bool,
}

impl Mesh {
    pub(crate) fn forget_who_spoke(&mut self) {
        self.asked_by = None;
    }
}

impl Pilot {
    /// The coordinator this pilot believes in, if it has heard of one that can be alive.
    pub(crate) fn coordinator(&self, now: Timestamp) -> Option<(PilotId, Epoch)> {
        if let Some(leading) = &self.leadership {
            return Some((self.setup.id.clone(), leading.epoch));
        }
        let asked = self
            .mesh
            .asked_by
            .as_ref()
            .filter(|(_, at)| now.since(*at) < HEARD)
            .map(|(p, _)| (p.holder.clone(), p.epoch));
        let told = self.view.coordinator().filter(|(_, epoch)| *epoch >= self.durable.floor);
        asked
            .into_iter()
            .chain(told)
            .filter(|(id, _)| !self.mesh.ended.contains(id) && id != &self.setup.id)
            .filter(|(id, _)| !self.superseded(id))
            .max_by_key(|(_, epoch)| *epoch)
    }

    /// A newer life of the same pilot is known.
    fn superseded(&self, id: &PilotId) -> bool {
        self.view.peers.get(&id.name).is_some_and(|p| p.generation > id.generation)
            || (id.name == self.setup.id.name && id.generation < self.setup.id.generation)
    }

    pub(crate) fn stream_up(&mut self, peer: &PilotId) {
        self.mesh.ended.remove(peer);
    }

    pub(crate) fn stream_ended(&mut self, now: Timestamp, peer: &PilotId, process_ended: bool) {
        if !process_ended {
            return;
        }
        if self.mesh.ended.len() >= ENDED {
            self.mesh.ended.pop_first();
        }
        self.mesh.ended.insert(peer.clone());
        // Whoever is first in line should not wait for gossip to bring the evidence together.
        let id = self.setup.id.clone();
        let line = candidates(&id, &self.report(now), &self.view);
        for next in line.into_iter().filter(|c| *c != id && !self.mesh.ended.contains(c)).take(2) {
            self.out.push(Effect::Send(next.name, Message::Ended { who: peer.clone() }));
        }
        self.poke(now);
    }

    /// The lives this pilot holds silent.
    pub(crate) fn silent(&self) -> Vec<PilotId> {
        self.view
            .peers
            .iter()
            .map(|(name, peer)| PilotId { name: name.clone(), generation: peer.generation })
            .filter(|id| holds_silent(id, &self.view))
            .take(8)
            .collect()
    }

    pub(crate) fn take_message(&mut self, now: Timestamp, from: &PilotId, message: Message) {
        match message {
            Message::Ask { promise, round, cluster, roster } => {
                if promise.holder != *from {
                    return;
                }
                if let Some(cluster) = &cluster
                    && self.durable.cluster.as_ref().is_some_and(|own| own != cluster)
                {
                    return;
                }
                let answer = self.promise(&promise, round);
                if answer {
                    self.mesh.asked_by = Some((promise, now));
                    self.mesh.named = false;
                    if !roster.is_empty() {
                        self.durable.roster = roster;
                    }
                }
            }
            Message::Promised { epoch, round, claim } => self.promised(now, &from.name, epoch, round, claim),
            Message::Refused { round: _, why } => self.refused(now, &from.name, &why),
            Message::Announce { epoch, sequence } => self.announced(now, from, epoch, sequence),
            Message::Fetch { epoch, sequence, nonce } => self.fetched(now, from, epoch, sequence, nonce),
            Message::Deliver { nonce, valid_for, order } => self.delivered(now, from, nonce, valid_for, order),
            Message::Outcome { epoch, sequence, outcome } => self.outcome(now, epoch, sequence, &outcome),
            Message::Ended { who } => {
                if self.mesh.told.len() >= ENDED {
                    self.mesh.told.pop_first();
                }
                self.mesh.told.entry(who).or_default().insert(from.name.clone());
            }
            Message::Handover { epoch, next } => {
                let current = self.mesh.asked_by.as_ref().is_some_and(|(p, _)| p.holder == *from && p.epoch <= epoch);
                if current {
                    self.mesh.asked_by = None;
                }
                self.election.handed_over(from);
                self.mesh.named = next.as_ref() == Some(&self.setup.id);
            }
            Message::LookAtMe => self.poke(now),
        }
    }

    /// Gives or refuses a promise. Given ones are answered only when they are on disk.
    fn promise(&mut self, asked: &Promise, round: u64) -> bool {
        let to = asked.holder.name.clone();
        let floor = self.floor_known.then_some(self.durable.floor);
        if let Err(why) = may_promise(asked, self.durable.promise.as_ref(), floor) {
            self.out.push(Effect::Send(to, Message::Refused { round, why }));
            return false;
        }
        let answer =
            Effect::Send(to, Message::Promised { epoch: asked.epoch, round, claim: self.durable.claim.clone() });
        if self.kept_promise.as_ref() == Some(asked) {
            self.out.push(answer);
        } else if let Some(waiting) = self.waiting_for_disk.values_mut().find(|w| w.promise.as_ref() == Some(asked)) {
            waiting.effects.push(answer);
        } else {
            self.durable.promise = Some(asked.clone());
            self.raise_floor(asked.epoch);
            self.keep_then(vec![answer]);
        }
        if asked.holder != self.setup.id && self.leadership.as_ref().is_some_and(|l| l.epoch < asked.epoch) {
            self.leadership = None;
        }
        true
    }

    /// The coordinator's own promise, by the same rule and through the same disk.
    pub(crate) fn promise_myself(&mut self, epoch: Epoch, round: u64) {
        let promise = Promise { epoch, holder: self.setup.id.clone() };
        let before = self.out.len();
        self.promise(&promise, round);
        let mut own = Vec::new();
        let mut index = before;
        while index < self.out.len() {
            match &self.out[index] {
                Effect::Send(name, _) if *name == self.setup.id.name => own.push(self.out.remove(index)),
                _ => index += 1,
            }
        }
        for effect in own {
            if let Effect::Send(_, message) = effect {
                self.own_promise(&message);
            }
        }
    }

    pub(crate) fn own_promise(&mut self, message: &Message) {
        if let Message::Promised { epoch, round, claim } = message {
            let name = self.setup.id.name.clone();
            let now = self.last_event.unwrap_or_default();
            self.promised(now, &name, *epoch, *round, claim.clone());
        }
    }

    /// A coordinator keeps streams to all that count; others to it and to the next in line.
    pub(crate) fn keep_streams(&mut self) {
        let own = self.setup.id.clone();
        let now = self.last_event.unwrap_or_default();
        let mut wanted: BTreeSet<PilotName> = BTreeSet::new();
        if self.leadership.is_some() {
            wanted.extend(self.durable.roster.iter().map(|v| v.name.clone()));
            wanted.extend(self.view.peers.keys().cloned());
        } else {
            let coordinator = self.coordinator(now).map(|(id, _)| id);
            let line = candidates(&own, &self.report(now), &self.view);
            let next = line.into_iter().find(|c| *c != own && Some(c) != coordinator.as_ref());
            wanted.extend(coordinator.map(|id| id.name));
            wanted.extend(next.map(|id| id.name));
        }
        wanted.remove(&own.name);
        if wanted != self.mesh.streams {
            self.mesh.streams = wanted.clone();
            self.out.push(Effect::Streams(wanted));
        }
    }
}
