//! One member: its state, and how it speaks to others.

use super::disk::{Disk, Notes, Stage};
use super::message::{PeerAsk, PeerCall, PeerReply, Reply, Request};
use super::ring::{Entry, Ring, status_of};
use agent::driver::model::ProcessConfig;
use agent::driver::model::wire::{Mode, Status, read_frame, write_frame};
use protocol::database::Progress;
use protocol::id::DatabaseIdentity;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Connections kept to one peer for the next request.
const KEPT: usize = 4;

/// One member. Lives on one thread; no borrow is held across an await.
pub(super) struct Node {
    pub(super) config: ProcessConfig,
    pub(super) id: DatabaseIdentity,
    began: Instant,
    pub(super) mode: Cell<Mode>,
    stage: Cell<Stage>,
    generation: Cell<u64>,
    version: Cell<u64>,
    beat: Cell<u64>,
    pub(super) ring: RefCell<Ring>,
    pub(super) disk: RefCell<Disk>,
    pub(super) seeds: RefCell<Vec<IpAddr>>,
    /// Copies of each row: as configured, or lowered since.
    pub(super) replication: Cell<u32>,
    /// Bytes a second that a move may take.
    pub(super) rate: Cell<Option<u64>>,
    pub(super) progress: Cell<Option<Progress>>,
    pub(super) leave_failure: RefCell<Option<String>>,
    links: RefCell<BTreeMap<SocketAddr, Vec<TcpStream>>>,
}

impl Node {
    pub(super) fn new(config: ProcessConfig, id: DatabaseIdentity, disk: Disk, notes: Option<Notes>) -> Rc<Self> {
        let mut ring = Ring::new(id.clone(), config.silence());
        let (stage, generation, known, lowered) =
            notes.map_or((Stage::New, 0, Vec::new(), None), |n| (n.stage, n.generation, n.ring, n.replication));
        ring.merge(known, Duration::ZERO);
        let replication = lowered.unwrap_or(config.behaviour.replication);
        Rc::new(Self {
            id,
            began: Instant::now(),
            mode: Cell::new(Mode::Starting),
            stage: Cell::new(stage),
            generation: Cell::new(generation),
            version: Cell::new(0),
            beat: Cell::new(0),
            ring: RefCell::new(ring),
            disk: RefCell::new(disk),
            seeds: RefCell::new(config.seeds.clone()),
            replication: Cell::new(replication),
            rate: Cell::new(config.behaviour.stream_bytes_per_second),
            progress: Cell::new(None),
            leave_failure: RefCell::new(None),
            links: RefCell::new(BTreeMap::new()),
            config,
        })
    }

    /// This process's clock.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.get()
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Begins a life greater than all that others have heard of.
    pub(super) fn begin_life(&self, heard_of: u64) -> io::Result<()> {
        self.generation.set(self.generation.get().max(heard_of) + 1);
        self.note()
    }

    pub(super) fn set_stage(&self, stage: Stage) -> io::Result<()> {
        self.stage.set(stage);
        self.note()
    }

    /// Does something else from now on, and is something else in the ring; others are told by gossip.
    pub(super) fn turn(&self, mode: Mode) {
        tracing::info!(?mode, "the member does something else");
        self.mode.set(mode);
        self.version.set(self.version.get() + 1);
        self.speak();
    }

    /// Grows the own heartbeat.
    pub(super) fn beat(&self) {
        self.beat.set(self.beat.get() + 1);
        self.speak();
    }

    fn speak(&self) {
        let Some(status) = status_of(self.mode.get()) else { return };
        let entry = Entry {
            id: self.id.clone(),
            address: self.config.listens(),
            generation: self.generation.get(),
            version: self.version.get(),
            beat: self.beat.get(),
            status,
        };
        self.ring.borrow_mut().speak(entry, self.now());
    }

    /// Writes down what must survive the process.
    pub(super) fn note(&self) -> io::Result<()> {
        let ring = self.ring.borrow().entries().into_iter().filter(|e| e.id != self.id).collect();
        let cluster = self.config.cluster.clone();
        let lowered = self.replication.get() != self.config.behaviour.replication;
        let notes = Notes {
            cluster,
            stage: self.stage.get(),
            generation: self.generation.get(),
            replication: lowered.then(|| self.replication.get()),
            ring,
        };
        self.disk.borrow().note(&notes)
    }

    pub(super) fn merge(&self, entries: Vec<Entry>) {
        let changed = self.ring.borrow_mut().merge(entries, self.now());
        if changed && let Err(error) = self.note() {
            tracing::error!(%error, "what is known of the ring was not written down: a start alone would know less");
        }
    }

    pub(super) fn status(&self) -> Status {
        let (rows, load) = self.disk.borrow().load();
        Status {
            mode: self.mode.get(),
            identity: self.id.clone(),
            generation: self.generation.get(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ring: self.ring.borrow().shown(self.now()),
            replication: self.replication.get(),
            streaming: self.progress.get(),
            rows,
            load,
            leave_failure: self.leave_failure.borrow().clone(),
        }
    }

    /// See [`Ring::digest`]; members that keep other numbers of copies are another ring too.
    pub(super) fn digest(&self) -> u64 {
        self.ring.borrow().digest().wrapping_add(u64::from(self.replication.get()))
    }

    /// Keeps fewer copies from now on. Rows that the replicas left over lack are not there any more for readers, as in
    /// Cassandra before a repair.
    pub(super) fn lower_replication(&self, copies: u32) -> Result<(), String> {
        let now = self.replication.get();
        if copies == 0 || copies > now {
            return Err(format!("{copies} copies are asked for but it must be 1 to {now}: more would need a repair"));
        }
        self.replication.set(copies);
        self.note().map_err(|e| format!("it could not be written down: {e}"))
    }

    /// Whether it lives, as far as we heard: unknown is not up.
    pub(super) fn up(&self, id: &DatabaseIdentity) -> bool {
        self.ring.borrow().up(id, self.now()) == Some(true)
    }

    /// Asks one peer.
    pub(super) async fn ask(&self, peer: &DatabaseIdentity, ask: PeerAsk) -> Result<PeerReply, String> {
        let address = self.ring.borrow().entry(peer).map(|e| e.address);
        let Some(address) = address else { return Err(format!("{peer} is not known")) };
        let reply = self.call(address, Some(peer.clone()), ask).await.map_err(|e| format!("{peer}: {e}"))?;
        self.ring.borrow_mut().heard(peer, self.now());
        Ok(reply)
    }

    /// Asks whoever listens there.
    pub(super) async fn call(
        &self,
        address: SocketAddr,
        to: Option<DatabaseIdentity>,
        ask: PeerAsk,
    ) -> Result<PeerReply, String> {
        let request = Request::Peer(PeerCall { cluster: self.config.cluster.clone(), to, ask });
        match timeout(self.config.request(), self.talk(address, &request)).await {
            Ok(Ok(Reply::Peer(PeerReply::Refused(why)))) => Err(why),
            Ok(Ok(Reply::Peer(reply))) => Ok(reply),
            Ok(Ok(Reply::Tool(_) | Reply::Client(_))) => Err("answered something else".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("did not answer in time".to_owned()),
        }
    }

    async fn talk(&self, address: SocketAddr, request: &Request) -> io::Result<Reply> {
        let kept = self.links.borrow_mut().get_mut(&address).and_then(Vec::pop);
        let exchange = async |mut stream: TcpStream| {
            write_frame(&mut stream, request).await?;
            let reply = read_frame(&mut stream).await?.ok_or(ErrorKind::UnexpectedEof)?;
            io::Result::Ok((stream, reply))
        };
        let first = match kept {
            // The peer may have been restarted since; every request may be repeated.
            Some(stream) => exchange(stream).await.ok(),
            None => None,
        };
        let (stream, reply) = match first {
            Some(done) => done,
            None => {
                self.links.borrow_mut().remove(&address);
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                exchange(stream).await?
            }
        };
        let mut links = self.links.borrow_mut();
        let kept = links.entry(address).or_default();
        if kept.len() < KEPT {
            kept.push(stream);
        }
        Ok(reply)
    }

    /// A seed to gossip with in this round, as long as fewer members are up than are named as seeds. Like Cassandra: after
    /// all have got other addresses at once, who remembers only the old ones finds nobody in another way.
    pub(super) fn seed_to_ask(&self, round: u64) -> Option<SocketAddr> {
        let seeds = self.seeds.borrow();
        let others: Vec<_> = seeds.iter().filter(|seed| **seed != self.config.address).collect();
        let up = self.ring.borrow().others().iter().filter(|id| self.up(id)).count();
        let turn = usize::try_from(round.checked_rem(u64::try_from(others.len()).ok()?)?).ok()?;
        (up < others.len()).then(|| SocketAddr::new(*others[turn], self.config.port))
    }

    /// Gossip with one peer, both ways.
    pub(super) async fn gossip(&self, peer: &DatabaseIdentity) -> Result<(), String> {
        let entries = self.ring.borrow().entries();
        let reply = self.ask(peer, PeerAsk::Gossip(entries)).await?;
        self.hear(reply)
    }

    /// The same with whoever listens there.
    pub(super) async fn gossip_with_seed(&self, seed: SocketAddr) -> Result<(), String> {
        let entries = self.ring.borrow().entries();
        let reply = self.call(seed, None, PeerAsk::Gossip(entries)).await?;
        self.hear(reply)
    }

    fn hear(&self, reply: PeerReply) -> Result<(), String> {
        match reply {
            PeerReply::Gossip(entries) => {
                self.merge(entries);
                Ok(())
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Gossip with all of these at once; those that did not answer, and why.
    pub(super) async fn tell(self: &Rc<Self>, peers: Vec<DatabaseIdentity>) -> BTreeMap<DatabaseIdentity, String> {
        let mut tasks = JoinSet::new();
        for peer in peers {
            let node = Rc::clone(self);
            tasks.spawn_local(async move { node.gossip(&peer).await.map_err(|error| (peer, error)) });
        }
        // A task that panicked is a fault of ours and ends the process with its message.
        tasks.join_all().await.into_iter().filter_map(Result::err).collect()
    }
}

/// An answer to another question.
pub(super) fn unexpected(reply: &PeerReply) -> String {
    match reply {
        PeerReply::OtherRing => "knows another ring".to_owned(),
        PeerReply::Refused(why) => why.clone(),
        PeerReply::Gossip(_) | PeerReply::Done | PeerReply::Row(_) | PeerReply::Keys(_) | PeerReply::Page { .. } => {
            "answered another question".to_owned()
        }
    }
}
