//! Streams, promises, and the evidence that a process ended.

use super::Pilot;
use crate::effect::Effect;
use policies::election::{candidates, holds_silent, next_candidate};
use protocol::epoch::Epoch;
use protocol::id::{PilotId, PilotName, Voter};
use protocol::message::Message;
use protocol::promise::{Promise, may_promise};
use protocol::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A coordinator that asks is believed for so long after its last question.
const HEARD: Duration = Duration::from_secs(4);
/// Ended lives remembered; the oldest news goes first.
const ENDED: usize = 64;
/// What another pilot told of an ended process counts for so long: afterwards its report says so, or nobody does.
const TOLD: Duration = Duration::from_secs(10);
/// Lives that a report names as ended, and as many as silent.
const NAMED: usize = 8;

/// What is known of the others' processes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mesh {
    /// Lives whose process this pilot found ended, and when.
    ended: BTreeMap<PilotId, Timestamp>,
    /// Who told that a life has ended, and when.
    told: BTreeMap<PilotId, BTreeMap<PilotName, Timestamp>>,
    /// The coordinator that asked last, and when.
    pub(crate) asked_by: Option<(Promise, Timestamp)>,
    /// Whom the view names as coordinator, at which epoch, and since when nothing but the view has said so: where only
    /// heartbeats come through from somebody, what it reported last stands as long as they do.
    named_since: Option<(PilotId, Epoch, Timestamp)>,
    /// The streams wanted last.
    streams: BTreeSet<PilotName>,
    /// What that was found from: among a thousand it is too much to be found again at each event.
    streams_for: Option<StreamsFor>,
    /// A coordinator said goodbye and named this pilot.
    pub(crate) named: bool,
}

#[derive(Debug, Clone)]
struct StreamsFor {
    /// The number of the view.
    view: u64,
    whom: Whom,
}

/// Whom a pilot keeps streams to, but for the next in line.
#[derive(Debug, Clone)]
enum Whom {
    /// It coordinates: to all that are seen, and to this roster.
    All(Vec<Voter>),
    /// To the one it follows.
    Coordinator(Option<PilotId>),
}

impl Mesh {
    pub(crate) fn forget_who_spoke(&mut self) {
        self.asked_by = None;
        self.named_since = None;
    }

    /// The view names this coordinator.
    pub(crate) fn names(&mut self, now: Timestamp, id: PilotId, epoch: Epoch) {
        if self.named_since.as_ref().is_none_or(|(named, of, _)| (named, *of) != (&id, epoch)) {
            self.named_since = Some((id, epoch, now));
        }
    }

    /// It coordinates, by its own question or by a Lease that it was seen to renew.
    pub(crate) fn proves(&mut self, now: Timestamp, id: &PilotId, epoch: Epoch) {
        self.named_since = Some((id.clone(), epoch, now));
    }

    /// Whether the view's word for it may still be taken.
    fn may_be_believed(&self, now: Timestamp, id: &PilotId, epoch: Epoch, within: Duration) -> bool {
        self.named_since
            .as_ref()
            .is_none_or(|(named, of, since)| (named, *of) != (id, epoch) || now.since(*since) < within)
    }

    /// Whether this pilot found the process of that life ended.
    pub(crate) fn found_ended(&self, id: &PilotId) -> bool {
        self.ended.contains_key(id)
    }

    fn find_ended(&mut self, now: Timestamp, id: &PilotId) {
        self.ended.insert(id.clone(), now);
        if self.ended.len() > ENDED
            && let Some(oldest) = self.ended.iter().min_by_key(|(_, at)| **at).map(|(id, _)| id.clone())
        {
            self.ended.remove(&oldest);
        }
    }

    fn hear_ended(&mut self, now: Timestamp, from: &PilotName, who: PilotId) {
        self.told.retain(|_, by| {
            by.retain(|_, at| now.since(*at) < TOLD);
            !by.is_empty()
        });
        let newest = |by: &BTreeMap<PilotName, Timestamp>| by.values().max().copied().unwrap_or_default();
        if self.told.len() >= ENDED
            && !self.told.contains_key(&who)
            && let Some(oldest) = self.told.iter().min_by_key(|(_, by)| newest(by)).map(|(id, _)| id.clone())
        {
            self.told.remove(&oldest);
        }
        self.told.entry(who).or_default().insert(from.clone(), now);
    }

    /// Who told lately that this life has ended.
    pub(crate) fn told_ended(&self, now: Timestamp, id: &PilotId) -> BTreeSet<PilotName> {
        let by = self.told.get(id).into_iter().flatten();
        by.filter(|(_, at)| now.since(**at) < TOLD).map(|(name, _)| name.clone()).collect()
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
        // It asks everybody it hears, every second or so: of whom this pilot is not asked it reads in the Lease.
        let within = self.setup.rules.lease.saturating_mul(2);
        let told = self
            .glance
            .coordinator
            .clone()
            .filter(|(_, epoch)| *epoch >= self.durable.floor)
            .filter(|(id, epoch)| self.mesh.may_be_believed(now, id, *epoch, within));
        asked
            .into_iter()
            .chain(told)
            .filter(|(id, _)| !self.mesh.found_ended(id) && id != &self.setup.id)
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
        if let Some(leading) = &mut self.leadership {
            leading.forget_told(&peer.name);
        }
    }

    pub(crate) fn stream_ended(&mut self, now: Timestamp, peer: &PilotId, process_ended: bool) {
        if let Some(leading) = &mut self.leadership {
            leading.forget_told(&peer.name);
        }
        if !process_ended {
            return;
        }
        self.mesh.find_ended(now, peer);
        // Whoever is first in line should not wait for gossip to bring the evidence together.
        let id = self.setup.id.clone();
        let line = candidates(&self.standing(), &self.view);
        for next in line.into_iter().filter(|c| *c != id && !self.mesh.found_ended(c)).take(2) {
            self.out.push(Effect::Send(next.name, Message::Ended { who: peer.clone() }));
        }
        self.poke(now);
    }

    /// The lives this pilot holds silent.
    pub(crate) fn silent(&self) -> Vec<PilotId> {
        let mut silent: Vec<PilotId> =
            self.glance.not_live.iter().filter(|id| holds_silent(id, &self.view)).cloned().collect();
        silent.sort_by_key(|id| !self.was_asked_by(id));
        silent.truncate(NAMED);
        silent
    }

    /// The lives whose process this pilot found ended: the last coordinator first, then the latest news.
    pub(crate) fn ended(&self) -> Vec<PilotId> {
        let mut ended: Vec<(&PilotId, &Timestamp)> = self.mesh.ended.iter().collect();
        ended.sort_by_key(|(id, at)| (!self.was_asked_by(id), std::cmp::Reverse(**at)));
        ended.into_iter().take(NAMED).map(|(id, _)| id.clone()).collect()
    }

    /// Whether this is the life that has this pilot's promise: the one whose end others wait to hear of.
    fn was_asked_by(&self, id: &PilotId) -> bool {
        self.durable.promise.as_ref().is_some_and(|p| p.holder == *id)
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
                self.mesh.proves(now, from, promise.epoch);
                let answer = self.promise(&promise, round);
                if answer {
                    self.election.asked_again(from, promise.epoch);
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
            Message::Ended { who } => self.mesh.hear_ended(now, &from.name, who),
            Message::Handover { epoch, next } => {
                let current = self.mesh.asked_by.as_ref().is_some_and(|(p, _)| p.holder == *from && p.epoch <= epoch);
                if current {
                    self.mesh.asked_by = None;
                }
                self.election.handed_over(from, epoch);
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
        if self.on_disk.promise.as_ref() == Some(asked) {
            self.out.push(answer);
        } else if let Some(waiting) =
            self.waiting_for_disk.values_mut().find(|w| w.durable.promise.as_ref() == Some(asked))
        {
            waiting.effects.push(answer);
        } else {
            self.durable.promise = Some(asked.clone());
            self.raise_floor(asked.epoch);
            self.keep_then(vec![answer]);
        }
        if asked.holder != self.setup.id && self.leadership.as_ref().is_some_and(|l| l.epoch < asked.epoch) {
            let now = self.last_event.unwrap_or_default();
            self.step_down(now, &format!("{} asks at epoch {}", asked.holder, asked.epoch));
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
        let now = self.last_event.unwrap_or_default();
        let coordinator = match &self.leadership {
            Some(_) => None,
            None => self.coordinator(now).map(|(id, _)| id),
        };
        let same = self.mesh.streams_for.as_ref().is_some_and(|of| {
            of.view == self.glance.number
                && match &of.whom {
                    Whom::All(roster) => self.leadership.is_some() && *roster == self.durable.roster,
                    Whom::Coordinator(of) => self.leadership.is_none() && *of == coordinator,
                }
        });
        if same {
            return;
        }
        let mut wanted: BTreeSet<PilotName> = BTreeSet::new();
        let whom = if self.leadership.is_some() {
            wanted.extend(self.durable.roster.iter().map(|v| v.name.clone()));
            wanted.extend(self.view.peers.keys().cloned());
            Whom::All(self.durable.roster.clone())
        } else {
            let next = next_candidate(&self.standing(), &self.view, coordinator.as_ref());
            wanted.extend(coordinator.iter().map(|id| id.name.clone()));
            wanted.extend(next.map(|id| id.name));
            Whom::Coordinator(coordinator)
        };
        self.mesh.streams_for = Some(StreamsFor { view: self.glance.number, whom });
        wanted.remove(self.own());
        if wanted != self.mesh.streams {
            self.mesh.streams = wanted.clone();
            self.out.push(Effect::Streams(wanted));
        }
    }
}
