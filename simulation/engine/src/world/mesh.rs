//! Gossip and streams between pilots, as models of the real ones.

use super::agents::{Agent, Life, ROUND};
use super::{Happening, World, planted};
use agent::event::Event;
use protocol::database::DatabasePhase;
use protocol::id::{Generation, PilotId, PilotName};
use protocol::message::Message;
use protocol::report::Report;
use protocol::view::{Liveness, Peer, View};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// A pilot not heard for so long is silent, on the true clock: about what phi 10 makes of 500 ms rounds.
const SILENT: u64 = 4_500;
/// Nobody heard for so long is lonely.
const LONELY: u64 = 3_000;
/// A stream over which nothing can be said is given up after so long.
const GIVEN_UP: u64 = 5_000;

/// What one pilot has heard of another.
#[derive(Debug, Clone)]
struct Known {
    name: PilotName,
    generation: Generation,
    version: u64,
    report: Option<Arc<Report>>,
    beat: u64,
    heard: u64,
    /// A second, newer beat has been heard: as the real detector, the first says nothing of when it was.
    beats: bool,
    departed: bool,
    /// As what it was shown last, in this life.
    shown: Option<(Liveness, Option<Arc<Report>>)>,
}

impl Known {
    fn hear_beat(&mut self, now: u64, beat: u64) {
        if beat > self.beat {
            self.beat = beat;
            self.heard = now;
            self.beats = true;
        }
    }

    /// Shows it as it is now; whether that is anything else than before.
    fn show(&mut self, now: u64) -> bool {
        let liveness = self.liveness(now);
        let same = self.shown.as_ref().is_some_and(|(before, report)| *before == liveness && *report == self.report);
        if !same {
            self.shown = Some((liveness, self.report.clone()));
        }
        !same
    }

    fn is_shown_live(&self) -> bool {
        matches!(self.shown, Some((Liveness::Live, _)))
    }

    fn liveness(&self, now: u64) -> Liveness {
        if self.departed {
            Liveness::Departed
        } else if !self.beats || now > self.heard + SILENT {
            Liveness::Silent
        } else {
            Liveness::Live
        }
    }
}

/// One pilot's part in the gossip. Others are kept by their ordinal: in a mesh of a thousand each tells of a thousand, six
/// times a round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gossip {
    own: Option<Arc<Report>>,
    version: u64,
    beat: u64,
    known: Vec<Option<Known>>,
    /// Their places, in order of name.
    by_name: Vec<usize>,
    woken_until: u64,
    /// Whether it was lonely and woken when it was shown anything last.
    last: Option<(bool, bool)>,
}

fn place(name: &PilotName) -> usize {
    name.ordinal().and_then(|ordinal| usize::try_from(ordinal).ok()).unwrap_or(0)
}

/// Whom a teller knows, itself included and the hearer left out, each with its place.
fn told_of<'a>(
    own: &PilotName,
    teller: &'a Known,
    others: &'a [Option<Known>],
) -> impl Iterator<Item = (usize, &'a Known)> {
    let (own, itself) = (place(own), place(&teller.name));
    let others = others.iter().enumerate().filter_map(|(at, known)| Some((at, known.as_ref()?)));
    others.filter(move |(at, _)| *at != own && *at != itself).chain([(itself, teller)])
}

impl Gossip {
    pub(crate) fn publish(&mut self, report: Report) {
        self.own = Some(Arc::new(report));
        self.version += 1;
    }

    pub(crate) fn woke(&mut self, until: u64) {
        self.woken_until = until;
    }

    fn all(&self) -> impl Iterator<Item = &Known> {
        self.known.iter().flatten()
    }

    /// The pods whose databases it has heard of: all, or those that serve; in order of name.
    pub(crate) fn databases(&self, serving: bool) -> Vec<String> {
        let serves = |r: &Report| matches!(r.database.phase, DatabasePhase::Serving | DatabasePhase::Leaving);
        let wanted = |k: &&Known| k.report.as_ref().is_some_and(|r| !serving || serves(r));
        let mut named: Vec<&Known> = self.all().filter(wanted).collect();
        named.sort_by(|a, b| a.name.cmp(&b.name));
        named.into_iter().filter_map(|k| Some(format!("{}@{}", k.name, k.report.as_ref()?.about.pod))).collect()
    }

    pub(crate) fn knows(&self, name: &PilotName, generation: Generation) -> bool {
        let known = self.known.get(place(name)).and_then(Option::as_ref);
        known.is_some_and(|k| k.generation == generation && k.report.is_some())
    }

    /// What it says of itself.
    fn told(&self, id: &PilotId, departed: bool) -> Known {
        Known {
            name: id.name.clone(),
            generation: id.generation,
            version: self.version,
            report: self.own.clone(),
            beat: self.beat,
            heard: 0,
            beats: false,
            departed,
            shown: None,
        }
    }

    /// Hears what another says of itself and of the others.
    fn merge(&mut self, now: u64, own: &PilotName, teller: &Known, others: &[Option<Known>]) {
        for (at, theirs) in told_of(own, teller, others) {
            self.merge_one(now, at, theirs);
        }
    }

    fn merge_one(&mut self, now: u64, at: usize, theirs: &Known) {
        if self.known.len() <= at {
            self.known.resize(at + 1, None);
        }
        let Some(place) = self.known.get_mut(at) else { return };
        match place {
            Some(mine) if mine.generation == theirs.generation => {
                if theirs.version > mine.version {
                    mine.version = theirs.version;
                    mine.report.clone_from(&theirs.report);
                }
                mine.hear_beat(now, theirs.beat);
                mine.departed |= theirs.departed;
            }
            Some(mine) if mine.generation > theirs.generation => {}
            Some(_) | None => {
                let known = Known { heard: now, beats: false, shown: None, ..theirs.clone() };
                if place.replace(known).is_none() {
                    let known = &self.known;
                    let before = |other: &usize| {
                        known.get(*other).and_then(Option::as_ref).is_some_and(|k| k.name < theirs.name)
                    };
                    let index = self.by_name.partition_point(before);
                    self.by_name.insert(index, at);
                }
            }
        }
    }

    /// A digest arrives, and no answer goes back: only that these lives beat is learnt.
    fn merge_beats(&mut self, now: u64, own: &PilotName, teller: &Known, others: &[Option<Known>]) {
        for (at, theirs) in told_of(own, teller, others) {
            if let Some(Some(mine)) = self.known.get_mut(at)
                && mine.generation == theirs.generation
            {
                mine.hear_beat(now, theirs.beat);
            }
        }
    }

    /// What it sees now, if that is anything else than what it has seen last.
    fn view(&mut self, now: u64) -> Option<View> {
        let (mut lonely, mut changed) = (true, false);
        for known in self.known.iter_mut().flatten() {
            changed |= known.show(now);
            lonely &= now > known.heard + LONELY;
        }
        let lonely = lonely && self.all().next().is_some();
        let woken = now < self.woken_until;
        if self.last.replace((lonely, woken)) == Some((lonely, woken)) && !changed {
            return None;
        }
        let peer = |known: &Known| Peer {
            generation: known.generation,
            liveness: known.liveness(now),
            timeout: None,
            phi: None,
            report: known.report.clone(),
        };
        let in_order = self.by_name.iter().filter_map(|at| self.known.get(*at)?.as_ref());
        let peers: BTreeMap<PilotName, Peer> = in_order.map(|known| (known.name.clone(), peer(known))).collect();
        Some(View { peers, lonely, woken, ..View::default() })
    }

    /// Whom it does not hold live, as it has seen them last.
    fn not_live(&self) -> Vec<PilotId> {
        let lost = self.all().filter(|known| !known.is_shown_live());
        lost.map(|known| PilotId { name: known.name.clone(), generation: known.generation }).collect()
    }
}

/// A stream between two lives.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    /// What is on its way, from the smaller life and from the greater.
    ways: [VecDeque<Message>; 2],
    stands_still: Option<u64>,
}

fn key(a: Life, b: Life) -> (Life, Life) {
    (a.min(b), a.max(b))
}

impl World {
    /// One round of one pilot: it tells a few, is told by them, and looks at what it knows.
    pub(crate) fn gossip(&mut self, life: Life) {
        let Some(agent) = self.agents.get_mut(&life).filter(|a| !a.paused) else { return };
        agent.gossip.beat += 1;
        let name = agent.name().clone();
        let wait = self.clock(&name).wait(ROUND);
        self.after(wait, Happening::Gossip(life));
        let own = self.lives.binary_search(&life).unwrap_or(self.lives.len());
        for _ in 0..3 {
            // Any but itself.
            let Some(peer) = self.chances.gossip.index(self.lives.len() - 1) else { break };
            let peer = self.lives[if peer < own { peer } else { peer + 1 }];
            if self.chances.gossip.happens(self.options.loss) {
                continue;
            }
            self.exchange(life, peer);
        }
        let now = self.now;
        let Some(agent) = self.agents.get_mut(&life) else { return };
        let view = agent.gossip.view(now);
        for silent in agent.gossip.not_live() {
            self.held_silent.insert((name.clone(), silent), now);
        }
        if let Some(view) = view {
            let at = self.reads(&name);
            let view = planted::view_misread(self.options.planted, &name, view);
            self.hear(life, Event::View(Box::new(View { at, ..view })));
        }
    }

    fn exchange(&mut self, life: Life, peer: Life) {
        let (Some(a), Some(b)) = (self.agents.get(&life), self.agents.get(&peer)) else { return };
        // The digest goes there; what either lacks comes back and goes there once more.
        if b.paused || !self.arrives(a.name(), b.name()) {
            return;
        }
        let answered = self.arrives(b.name(), a.name());
        let (id_a, id_b) = (a.id.clone(), b.id.clone());
        let (own_a, own_b) = (a.gossip.told(&id_a, false), b.gossip.told(&id_b, false));
        let now = self.now;
        let Some(mut gossip) = self.agents.get_mut(&life).map(|a| std::mem::take(&mut a.gossip)) else { return };
        if let Some(b) = self.agents.get_mut(&peer) {
            if answered {
                b.gossip.merge(now, &id_b.name, &own_a, &gossip.known);
                // What the other has just been told is no news here.
                gossip.merge(now, &id_a.name, &own_b, &b.gossip.known);
            } else {
                b.gossip.merge_beats(now, &id_b.name, &own_a, &gossip.known);
            }
        }
        if let Some(a) = self.agents.get_mut(&life) {
            a.gossip = gossip;
        }
    }

    /// A pilot that ends in order says goodbye to whom it reaches.
    pub(crate) fn depart(&mut self, agent: &Agent) {
        let told = agent.gossip.told(&agent.id, true);
        let reached: Vec<Life> = self
            .agents
            .values()
            .filter(|a| !a.paused && a.name() != agent.name() && self.reaches(a.name(), agent.name()))
            .map(|a| a.life)
            .take(3)
            .collect();
        let now = self.now;
        for life in reached {
            if let Some(peer) = self.agents.get_mut(&life) {
                let name = peer.name().clone();
                peer.gossip.merge(now, &name, &told, &agent.gossip.known);
            }
        }
    }

    /// Makes the streams that are wanted, and gives up those over which nothing gets through.
    pub(crate) fn tend_streams(&mut self) {
        let mut wanted: Vec<(Life, Life)> = Vec::new();
        let mut by_name: BTreeMap<&PilotName, &Agent> = BTreeMap::new();
        for agent in self.agents.values().filter(|a| !a.paused) {
            by_name.entry(agent.name()).or_insert(agent);
        }
        for agent in self.agents.values().filter(|a| !a.paused) {
            for name in &agent.wanted {
                if let Some(peer) = by_name.get(name)
                    && agent.gossip.knows(name, peer.id.generation)
                    && self.streams_flow(agent.name(), name)
                    && !self.links.contains_key(&key(agent.life, peer.life))
                {
                    wanted.push((agent.life, peer.life));
                }
            }
        }
        for (a, b) in wanted {
            if self.links.insert(key(a, b), Link::default()).is_none() {
                self.stream_up(a, b);
                self.stream_up(b, a);
            }
        }
        let hindered = self.broken.hinders_streams(self.now)
            || self.nodes.any_is_lost(self.now)
            || self.agents.values().any(|agent| agent.paused);
        let still: BTreeSet<(Life, Life)> = self
            .links
            .keys()
            .filter(|_| hindered)
            .filter(|(a, b)| {
                let paused = |life| self.agents.get(life).is_some_and(|agent| agent.paused);
                // Whose process is gone may be behind a cut: nobody says then that it is.
                let (Some(one), Some(other)) = (self.oracle.lives.get(a), self.oracle.lives.get(b)) else {
                    return false;
                };
                paused(a) || paused(b) || !self.streams_flow(&one.name, &other.name)
            })
            .copied()
            .collect();
        let mut over = Vec::new();
        for (ends, link) in &mut self.links {
            if !still.contains(ends) {
                link.stands_still = None;
            } else if self.now > *link.stands_still.get_or_insert(self.now) + GIVEN_UP {
                over.push(*ends);
            }
        }
        for (a, b) in over {
            self.links.remove(&(a, b));
            self.stream_ended(a, b, false);
            self.stream_ended(b, a, false);
        }
    }

    fn stream_up(&mut self, to: Life, peer: Life) {
        let wait = self.chances.network.between(2, 30);
        if let Some(peer) = self.agents.get(&peer) {
            let event = Event::StreamUp(peer.id.clone());
            self.after(wait, Happening::Hear(to, Box::new(event)));
        }
    }

    fn stream_ended(&mut self, to: Life, peer: Life, process_ended: bool) {
        if let Some(peer) = self.oracle.lives.get(&peer).cloned() {
            self.hear(to, Event::StreamEnded { peer, process_ended });
        }
    }

    /// Says something over the stream to this pilot, if there is one.
    pub(crate) fn send(&mut self, from: Life, to: &PilotName, message: Message) {
        let Some(peer) = self.pods.get(to).and_then(|pod| pod.agent) else { return };
        let Some(link) = self.links.get_mut(&key(from, peer)) else { return };
        link.ways[usize::from(from > peer)].push_back(message);
        let wait = self.chances.network.between(1, self.options.latency);
        self.after(wait, Happening::Pump(from, peer));
    }

    /// The next message of a stream arrives; the order is kept.
    pub(crate) fn pump(&mut self, from: Life, to: Life) {
        let (Some(sender), Some(receiver)) = (self.sender(from, to), self.agents.get(&to)) else { return };
        if !self.streams_flow(&sender.name, receiver.name()) {
            self.after(200, Happening::Pump(from, to));
            return;
        }
        let Some(link) = self.links.get_mut(&key(from, to)) else { return };
        if let Some(message) = link.ways[usize::from(from > to)].pop_front() {
            // What crosses the wire is what the codec makes of it.
            let sent = planted::on_the_wire(self.options.planted, &message);
            let heard =
                protocol::codec::encode(sent.as_ref()).and_then(|bytes| protocol::codec::decode::<Message>(&bytes));
            match heard {
                Ok(heard) if heard != message => {
                    self.oracle.broken(super::oracle::Rule::Codec, format!("{message:?} arrived as {heard:?}"));
                }
                Ok(message) => self.hear(to, Event::Message(sender, message)),
                Err(error) => self.oracle.broken(super::oracle::Rule::Codec, format!("{message:?}: {error}")),
            }
        }
    }

    fn sender(&self, from: Life, _to: Life) -> Option<protocol::id::PilotId> {
        self.agents.get(&from).map(|a| a.id.clone()).or_else(|| self.oracle.lives.get(&from).cloned())
    }

    /// The process at the other end is gone: a new connection is refused, or nobody answers at all.
    pub(crate) fn hangup(&mut self, gone: Life, peer: Life) {
        let Some(id) = self.oracle.lives.get(&gone).cloned() else { return };
        let Some(agent) = self.agents.get(&peer) else {
            self.links.remove(&key(gone, peer));
            return;
        };
        if !self.reaches(agent.name(), &id.name) {
            let wait = self.chances.network.between(500, 1000);
            self.after(wait, Happening::Hangup(gone, peer));
            return;
        }
        if self.links.remove(&key(gone, peer)).is_none() {
            return;
        }
        let process_ended = self.pods.contains_key(&id.name);
        self.hear(peer, Event::StreamEnded { peer: id, process_ended });
    }
}
