//! The task that owns every stream.

use super::connection::{self, End, Heard};
use super::event::{Evidence, StreamCounters, StreamEvent, ended};
use super::handshake::{self, Hello, Proven};
use super::probe::probe;
use super::settings::StreamSettings;
use super::traffic::Traffic;
use crate::caught::caught;
use crate::gossip::Cut;
use crate::keyring::{Fingerprint, SharedKeyRing};
use crate::machine::{ByteStream, Listener, Network};
use protocol::id::{ClusterId, PilotId, PilotName};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

/// Messages queued for one stream; more are dropped.
const QUEUE: usize = 64;
/// How often dialling and doubled streams are looked after.
const HOUSEKEEPING: Duration = Duration::from_millis(100);

/// What the handle asks.
pub(super) enum Command {
    Keep(BTreeMap<PilotName, SocketAddr>),
    Send { to: PilotName, bytes: Vec<u8> },
    Cut(Cut),
}

/// What the tasks of the hub come back with.
enum Done<S> {
    Accepted { from: IpAddr, proven: Option<Box<Proven<S>>> },
    Dialled { to: PilotName, proven: Option<Box<Proven<S>>> },
    Ended { id: u64, end: End },
    Probed { peer: PilotId, evidence: Evidence },
}

struct Stream {
    peer: Hello,
    dialled_by: PilotName,
    key: Fingerprint,
    since: Instant,
    /// `None` once the stream is being closed in order.
    queue: Option<mpsc::Sender<Vec<u8>>>,
    task: AbortHandle,
}

enum Standing {
    /// At least one stream stands.
    Up,
    /// The last one is gone; its address is being asked.
    Asking,
}

struct Peer {
    id: PilotId,
    standing: Standing,
}

struct Dial {
    next: Instant,
    pause: Duration,
    busy: bool,
}

pub(super) struct Hub<N: Network> {
    network: N,
    pub(super) listener: N::Listener,
    pub(super) own: Hello,
    pub(super) cluster: ClusterId,
    pub(super) ring: SharedKeyRing,
    pub(super) settings: StreamSettings,
    pub(super) events: mpsc::Sender<StreamEvent>,
    pub(super) facts: watch::Sender<StreamCounters>,
    state: State<N::Stream>,
}

struct State<S> {
    wanted: BTreeMap<PilotName, SocketAddr>,
    dials: BTreeMap<PilotName, Dial>,
    streams: BTreeMap<u64, Stream>,
    peers: BTreeMap<PilotName, Peer>,
    unproven: BTreeMap<IpAddr, usize>,
    tasks: JoinSet<Done<S>>,
    next_id: u64,
    cut: watch::Sender<Cut>,
    counters: StreamCounters,
    traffic: Arc<Traffic>,
}

impl<S: ByteStream> State<S> {
    fn new() -> Self {
        Self {
            wanted: BTreeMap::new(),
            dials: BTreeMap::new(),
            streams: BTreeMap::new(),
            peers: BTreeMap::new(),
            unproven: BTreeMap::new(),
            tasks: JoinSet::new(),
            next_id: 0,
            cut: watch::Sender::default(),
            counters: StreamCounters::default(),
            traffic: Arc::default(),
        }
    }
}

impl<N: Network> Hub<N> {
    #[expect(clippy::too_many_arguments, reason = "each is a thing of its own, and there is one caller")]
    pub(super) fn new(
        network: N,
        listener: N::Listener,
        own: Hello,
        cluster: ClusterId,
        ring: SharedKeyRing,
        settings: StreamSettings,
        events: mpsc::Sender<StreamEvent>,
        facts: watch::Sender<StreamCounters>,
    ) -> Self {
        Self { network, listener, own, cluster, ring, settings, events, facts, state: State::new() }
    }

    /// Runs until every handle is gone, or nobody listens to the events any more.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let (heard_tx, mut heard) = mpsc::channel(256);
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let news: Vec<StreamEvent> = tokio::select! {
                accepted = self.listener.accept() => {
                    match accepted {
                        Ok((stream, from)) => self.accept(stream, from.ip()),
                        // Out of file descriptors, or a connection that died in the queue: the next may do better.
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                    Vec::new()
                }
                Some(Heard { from, bytes }) = heard.recv() => {
                    self.state.counters.received += 1;
                    vec![StreamEvent::Message { peer: from.name, generation: from.generation, bytes }]
                }
                Some(done) = self.state.tasks.join_next() => match done {
                    Ok(Done::Accepted { from, proven }) => {
                        self.release(from);
                        self.admit(None, proven, &heard_tx)
                    }
                    Ok(Done::Dialled { to, proven }) => self.admit(Some(to), proven, &heard_tx),
                    Ok(Done::Ended { id, end }) => self.ended(id, end),
                    Ok(Done::Probed { peer, evidence }) => self.probed(&peer, evidence),
                    // Aborted by this hub, which has struck it off already, or ended by a panic.
                    Err(error) => self.vanished(error.id()),
                },
                command = commands.recv() => {
                    match command {
                        Some(Command::Keep(wanted)) => self.keep(wanted),
                        Some(Command::Send { to, bytes }) => self.send(&to, bytes),
                        Some(Command::Cut(cut)) => {
                            self.state.cut.send_replace(cut);
                        }
                        None => return,
                    }
                    Vec::new()
                }
                _ = housekeeping.tick() => {
                    self.keep_house();
                    Vec::new()
                }
            };
            self.state.counters.now_streams = self.state.streams.len() as u64;
            self.state.counters.now_unproven = self.state.unproven.values().sum::<usize>() as u64;
            self.state.traffic.write_into(&mut self.state.counters);
            self.facts.send_replace(self.state.counters);
            for event in news {
                if self.events.send(event).await.is_err() {
                    return;
                }
            }
        }
    }

    fn accept(&mut self, stream: N::Stream, from: IpAddr) {
        let state = &mut self.state;
        let all: usize = state.unproven.values().sum();
        let of_one = state.unproven.get(&from).copied().unwrap_or(0);
        if all >= self.settings.most_unproven || of_one >= self.settings.most_unproven_of_one {
            state.counters.turned_away += 1;
            return;
        }
        state.counters.accepted += 1;
        *state.unproven.entry(from).or_default() += 1;
        let (ring, cluster, own) = (self.ring.borrow().clone(), self.cluster.clone(), self.own.clone());
        let patience = self.settings.handshake;
        state.tasks.spawn(async move {
            let proving = async {
                stream.set_nodelay()?;
                handshake::accept(stream, &ring, &cluster, &own).await
            };
            let proven = within(patience, proving).await;
            Done::Accepted { from, proven }
        });
    }

    fn release(&mut self, from: IpAddr) {
        if let Some(count) = self.state.unproven.get_mut(&from) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.state.unproven.remove(&from);
            }
        }
    }

    /// Takes a proven connection among the streams. `dialled` names whom this pilot meant to reach.
    fn admit(
        &mut self,
        dialled: Option<PilotName>,
        proven: Option<Box<Proven<N::Stream>>>,
        heard: &mpsc::Sender<Heard>,
    ) -> Vec<StreamEvent> {
        if let Some(dial) = dialled.as_ref().and_then(|to| self.state.dials.get_mut(to)) {
            dial.busy = false;
            dial.next = Instant::now() + dial.pause;
            dial.pause = (dial.pause * 2).min(self.settings.redial_to);
        }
        let state = &mut self.state;
        let Some(proven) = proven else {
            match dialled {
                Some(_) => state.counters.dial_failed += 1,
                None => state.counters.unproven += 1,
            }
            return Vec::new();
        };
        let id = proven.peer.id.clone();
        if id.name == self.own.id.name || dialled.as_ref().is_some_and(|meant| *meant != id.name) {
            state.counters.wrong_peer += 1;
            return Vec::new();
        }
        if state.cut.borrow().hides(id.name.as_str()) {
            state.counters.cut += 1;
            return Vec::new();
        }
        // A key that was removed from the ring while the handshake ran opens nothing any more.
        if self.ring.borrow().find(proven.key).is_none() {
            state.counters.unproven += 1;
            return Vec::new();
        }
        if state.streams.len() >= self.settings.most_streams {
            state.counters.turned_away += 1;
            return Vec::new();
        }
        let mut news = Vec::new();
        let before = state.peers.get(&id.name).map(|peer| (peer.id.generation, matches!(peer.standing, Standing::Up)));
        match before {
            Some((generation, _)) if generation > id.generation => {
                state.counters.stale_generation += 1;
                return Vec::new();
            }
            Some((generation, _)) if generation < id.generation => {
                let old = PilotId { name: id.name.clone(), generation };
                self.drop_streams_of(&old);
                news.push(ended(&old, Evidence::Superseded));
            }
            // It came back before its address could be asked.
            Some((_, false)) => news.push(ended(&id, Evidence::Closed)),
            Some((_, true)) | None => {}
        }
        let is_up = matches!(before, Some((generation, true)) if generation == id.generation);
        let state = &mut self.state;
        if !is_up {
            state.peers.insert(id.name.clone(), Peer { id: id.clone(), standing: Standing::Up });
            news.push(StreamEvent::Up { peer: id.name.clone(), generation: id.generation });
        }
        if let Some(dial) = state.dials.get_mut(&id.name) {
            dial.pause = self.settings.redial_from;
        }
        let (queue, queued) = mpsc::channel(QUEUE);
        let number = state.next_id;
        state.next_id += 1;
        let (peer, key) = (proven.peer.clone(), proven.key);
        let (settings, cut, heard) = (self.settings, state.cut.subscribe(), heard.clone());
        let traffic = state.traffic.clone();
        let task = state.tasks.spawn(async move {
            let end = connection::run(*proven, settings, queued, cut, heard, traffic).await;
            Done::Ended { id: number, end }
        });
        state.streams.insert(
            number,
            Stream {
                dialled_by: if dialled.is_some() { self.own.id.name.clone() } else { id.name },
                peer,
                key,
                since: Instant::now(),
                queue: Some(queue),
                task,
            },
        );
        news
    }

    fn ended(&mut self, number: u64, end: End) -> Vec<StreamEvent> {
        let state = &mut self.state;
        let Some(stream) = state.streams.remove(&number) else {
            return Vec::new();
        };
        if end == End::Broken {
            state.counters.broken += 1;
        }
        let Hello { id, address } = stream.peer;
        if state.streams.values().any(|other| other.peer.id == id && other.queue.is_some()) {
            return Vec::new();
        }
        let Some(peer) = state.peers.get_mut(&id.name).filter(|peer| peer.id == id) else {
            return Vec::new();
        };
        match end {
            End::Silent => {
                state.peers.remove(&id.name);
                vec![ended(&id, Evidence::Silent)]
            }
            End::Closed | End::Broken => {
                peer.standing = Standing::Asking;
                let hidden = state.cut.borrow().hides(id.name.as_str());
                let network = self.network.clone();
                state.tasks.spawn(async move {
                    let evidence = match hidden {
                        true => Evidence::Unreachable,
                        // What could not be asked has shown nothing.
                        false => caught(probe(&network, address)).await.unwrap_or(Evidence::Unreachable),
                    };
                    Done::Probed { peer: id, evidence }
                });
                Vec::new()
            }
        }
    }

    fn probed(&mut self, id: &PilotId, evidence: Evidence) -> Vec<StreamEvent> {
        let asking = self
            .state
            .peers
            .get(&id.name)
            .is_some_and(|peer| peer.id == *id && matches!(peer.standing, Standing::Asking));
        if !asking {
            return Vec::new();
        }
        self.state.peers.remove(&id.name);
        vec![ended(id, evidence)]
    }

    fn keep(&mut self, wanted: BTreeMap<PilotName, SocketAddr>) {
        let now = Instant::now();
        let state = &mut self.state;
        for stream in state.streams.values_mut() {
            // What this pilot dialled and wants no more, it closes; what the other one dialled, that one wants.
            if stream.dialled_by == self.own.id.name && !wanted.contains_key(&stream.peer.id.name) {
                stream.queue = None;
            }
        }
        state.dials.retain(|name, _| wanted.contains_key(name));
        for (name, address) in &wanted {
            let moved = state.wanted.get(name).is_some_and(|before| before != address);
            let dial = state.dials.entry(name.clone()).or_insert_with(|| Dial {
                // The greater name lets the lesser dial first, so that two streams at once are rare.
                next: if self.own.id.name > *name { now + self.settings.redial_from } else { now },
                pause: self.settings.redial_from,
                busy: false,
            });
            if moved {
                dial.next = now;
                dial.pause = self.settings.redial_from;
            }
        }
        state.dials.remove(&self.own.id.name);
        state.wanted = wanted;
        self.dial();
    }

    fn dial(&mut self) {
        let now = Instant::now();
        let state = &mut self.state;
        for (name, dial) in &mut state.dials {
            let stands = state.streams.values().any(|s| s.peer.id.name == *name && s.queue.is_some());
            let Some(&address) = state.wanted.get(name) else {
                continue;
            };
            if stands || dial.busy || now < dial.next || state.cut.borrow().hides(name.as_str()) {
                continue;
            }
            dial.busy = true;
            let to = name.clone();
            let (ring, cluster, own) = (self.ring.borrow().clone(), self.cluster.clone(), self.own.clone());
            let (patience, network) = (self.settings.handshake, self.network.clone());
            state.tasks.spawn(async move {
                let proving = async {
                    let stream = network.connect(address).await?;
                    stream.set_nodelay()?;
                    handshake::dial(stream, &ring, &cluster, &own).await
                };
                let proven = within(patience, proving).await;
                Done::Dialled { to, proven }
            });
        }
    }

    /// Sends over the newest stream.
    fn send(&mut self, to: &PilotName, bytes: Vec<u8>) {
        let state = &mut self.state;
        let newest = state
            .streams
            .values()
            .rev()
            .filter(|stream| stream.peer.id.name == *to)
            .find_map(|stream| stream.queue.as_ref());
        match newest.map(|queue| queue.try_send(bytes)) {
            Some(Ok(())) => state.counters.sent += 1,
            Some(Err(mpsc::error::TrySendError::Full(_))) => state.counters.queue_full += 1,
            Some(Err(mpsc::error::TrySendError::Closed(_))) | None => state.counters.no_stream += 1,
        }
    }

    fn keep_house(&mut self) {
        let ring = self.ring.borrow().clone();
        for stream in self.state.streams.values_mut() {
            // A stream lives no longer than the key that proved it.
            if ring.find(stream.key).is_none() {
                stream.queue = None;
            }
        }
        self.close_doubled();
        self.dial();
    }

    fn vanished(&mut self, task: tokio::task::Id) -> Vec<StreamEvent> {
        let lost = self.state.streams.iter().find(|(_, stream)| stream.task.id() == task);
        match lost.map(|(number, _)| *number) {
            Some(number) => self.ended(number, End::Broken),
            None => Vec::new(),
        }
    }

    /// Of two streams with one pilot the one dialled by the greater name closes; both ends choose the same.
    fn close_doubled(&mut self) {
        let mut by_peer: BTreeMap<PilotId, Vec<u64>> = BTreeMap::new();
        for (number, stream) in &self.state.streams {
            if stream.queue.is_some() {
                by_peer.entry(stream.peer.id.clone()).or_default().push(*number);
            }
        }
        for (peer, numbers) in by_peer {
            let patience = self.settings.doubled;
            let settled = |number: &u64| self.state.streams.get(number).is_some_and(|s| s.since.elapsed() >= patience);
            if numbers.len() < 2 || !numbers.iter().all(settled) {
                continue;
            }
            let lesser = peer.name.min(self.own.id.name.clone());
            let by_lesser = |number: &&u64| self.state.streams.get(number).is_some_and(|s| s.dialled_by == lesser);
            let Some(stays) = numbers.iter().rev().find(by_lesser).or(numbers.last()).copied() else {
                continue;
            };
            for number in numbers.into_iter().filter(|number| *number != stays) {
                if let Some(stream) = self.state.streams.get_mut(&number) {
                    stream.queue = None;
                    self.state.counters.doubled += 1;
                }
            }
        }
    }

    fn drop_streams_of(&mut self, id: &PilotId) {
        self.state.streams.retain(|_, stream| {
            if stream.peer.id == *id {
                stream.task.abort();
            }
            stream.peer.id != *id
        });
    }
}

/// Always comes back: who waits for it dials nobody meanwhile, or holds a place of those not proven yet.
async fn within<S>(
    patience: Duration,
    proving: impl Future<Output = Result<Proven<S>, handshake::HandshakeError>>,
) -> Option<Box<Proven<S>>> {
    match tokio::time::timeout(patience, caught(proving)).await {
        Ok(Ok(Ok(proven))) => Some(Box::new(proven)),
        Ok(Err(panicked)) => {
            tracing::error!(%panicked, "no stream");
            None
        }
        Ok(Ok(Err(error))) => {
            // Strangers may cause as many of these as they like: counted, and told only to those who ask for it.
            tracing::trace!(%error, "no stream");
            None
        }
        Err(_) => None,
    }
}
