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
    generation: Generation,
    version: u64,
    report: Option<Arc<Report>>,
    beat: u64,
    heard: u64,
    /// A second, newer beat has been heard: as the real detector, the first says nothing of when it was.
    beats: bool,
    departed: bool,
}

/// One pilot's part in the gossip.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gossip {
    own: Option<Arc<Report>>,
    version: u64,
    beat: u64,
    known: BTreeMap<PilotName, Known>,
    woken_until: u64,
    last: Option<View>,
}

impl Gossip {
    pub(crate) fn publish(&mut self, report: Report) {
        self.own = Some(Arc::new(report));
        self.version += 1;
    }

    pub(crate) fn woke(&mut self, until: u64) {
        self.woken_until = until;
    }

    /// The pods whose databases it has heard of: all, or those that serve.
    pub(crate) fn databases(&self, serving: bool) -> Vec<String> {
        let serves = |r: &Report| matches!(r.database.phase, DatabasePhase::Serving | DatabasePhase::Leaving);
        let wanted = |k: &Known| k.report.as_ref().is_some_and(|r| !serving || serves(r));
        self.known
            .iter()
            .filter(|(_, k)| wanted(k))
            .filter_map(|(name, k)| Some(format!("{name}@{}", k.report.as_ref()?.about.pod)))
            .collect()
    }

    pub(crate) fn knows(&self, name: &PilotName, generation: Generation) -> bool {
        self.known.get(name).is_some_and(|k| k.generation == generation && k.report.is_some())
    }

    fn told(&self, agent: &Agent, departed: bool) -> BTreeMap<PilotName, Known> {
        let mut told = self.known.clone();
        let own = Known {
            generation: agent.id.generation,
            version: self.version,
            report: self.own.clone(),
            beat: self.beat,
            heard: 0,
            beats: false,
            departed,
        };
        told.insert(agent.name().clone(), own);
        told
    }

    fn merge(&mut self, now: u64, own: &PilotName, told: &BTreeMap<PilotName, Known>) {
        for (name, theirs) in told.iter().filter(|(n, _)| *n != own) {
            match self.known.get_mut(name) {
                Some(mine) if mine.generation == theirs.generation => {
                    if theirs.version > mine.version {
                        mine.version = theirs.version;
                        mine.report.clone_from(&theirs.report);
                    }
                    if theirs.beat > mine.beat {
                        mine.beat = theirs.beat;
                        mine.heard = now;
                        mine.beats = true;
                    }
                    mine.departed |= theirs.departed;
                }
                Some(mine) if mine.generation > theirs.generation => {}
                Some(_) | None => {
                    self.known.insert(name.clone(), Known { heard: now, beats: false, ..theirs.clone() });
                }
            }
        }
    }

    /// A digest arrives, and no answer goes back: only that these lives beat is learnt.
    fn merge_beats(&mut self, now: u64, own: &PilotName, told: &BTreeMap<PilotName, Known>) {
        for (name, theirs) in told.iter().filter(|(n, _)| *n != own) {
            if let Some(mine) = self.known.get_mut(name)
                && mine.generation == theirs.generation
                && theirs.beat > mine.beat
            {
                mine.beat = theirs.beat;
                mine.heard = now;
                mine.beats = true;
            }
        }
    }

    fn view(&self, now: u64) -> View {
        let peers: BTreeMap<PilotName, Peer> = self
            .known
            .iter()
            .map(|(name, k)| {
                let liveness = if k.departed {
                    Liveness::Departed
                } else if !k.beats || now > k.heard + SILENT {
                    Liveness::Silent
                } else {
                    Liveness::Live
                };
                let report = k.report.clone();
                (name.clone(), Peer { generation: k.generation, liveness, timeout: None, phi: None, report })
            })
            .collect();
        let lonely = !peers.is_empty() && self.known.values().all(|k| now > k.heard + LONELY);
        View { peers, lonely, woken: now < self.woken_until, ..View::default() }
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
        let others: Vec<Life> = self.agents.keys().copied().filter(|l| *l != life).collect();
        for _ in 0..3 {
            let Some(peer) = self.chances.gossip.pick(&others).copied() else { break };
            if self.chances.gossip.happens(self.options.loss) {
                continue;
            }
            self.exchange(life, peer);
        }
        let now = self.now;
        let Some(agent) = self.agents.get_mut(&life) else { return };
        let view = agent.gossip.view(now);
        for (peer, seen) in view.peers.iter().filter(|(_, p)| p.liveness != Liveness::Live) {
            let silent = PilotId { name: peer.clone(), generation: seen.generation };
            self.held_silent.insert((name.clone(), silent), now);
        }
        if agent.gossip.last.as_ref() != Some(&view) {
            agent.gossip.last = Some(view.clone());
            let at = self.reads(&name);
            let view = planted::silent_by_one(self.options.planted, &name, view);
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
        let (from_a, from_b) = (a.gossip.told(a, false), b.gossip.told(b, false));
        let (name_a, name_b) = (a.name().clone(), b.name().clone());
        let now = self.now;
        if answered && let Some(a) = self.agents.get_mut(&life) {
            a.gossip.merge(now, &name_a, &from_b);
        }
        if let Some(b) = self.agents.get_mut(&peer) {
            if answered {
                b.gossip.merge(now, &name_b, &from_a);
            } else {
                b.gossip.merge_beats(now, &name_b, &from_a);
            }
        }
    }

    /// A pilot that ends in order says goodbye to whom it reaches.
    pub(crate) fn depart(&mut self, agent: &Agent) {
        let told = agent.gossip.told(agent, true);
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
                peer.gossip.merge(now, &name, &told);
            }
        }
    }

    /// Makes the streams that are wanted, and gives up those over which nothing gets through.
    pub(crate) fn tend_streams(&mut self) {
        let mut wanted: Vec<(Life, Life)> = Vec::new();
        for agent in self.agents.values().filter(|a| !a.paused) {
            for name in &agent.wanted {
                let peer = self.agents.values().find(|p| p.name() == name && !p.paused);
                if let Some(peer) = peer
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
        let still: BTreeSet<(Life, Life)> = self
            .links
            .keys()
            .filter(|(a, b)| match (self.agents.get(a), self.agents.get(b)) {
                (Some(one), Some(other)) => one.paused || other.paused || !self.streams_flow(one.name(), other.name()),
                (None, _) | (_, None) => false,
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
        if let Some(peer) = self.agents.get(&peer) {
            let event = Event::StreamEnded { peer: peer.id.clone(), process_ended };
            self.hear(to, event);
        }
    }

    /// Says something over the stream to this pilot, if there is one.
    pub(crate) fn send(&mut self, from: Life, to: &PilotName, message: Message) {
        let peer = self.agents.values().filter(|a| a.name() == to).map(|a| a.life).next_back();
        let Some(peer) = peer else { return };
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
            let heard = protocol::codec::encode(&message).and_then(|bytes| protocol::codec::decode::<Message>(&bytes));
            match heard {
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
