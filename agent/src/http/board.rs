//! What the runtime has to say to readers: the latest of everything, and counts.

use super::counters::{Counters, Task};
use crate::gossip::GossipCounters;
use crate::kubernetes::call::Call;
use crate::pilot::decisions::Entry;
use crate::pilot::state::{DecisionsDocument, MemberState, SelfState, StateDocument};
use crate::stream::StreamCounters;
use hyper::body::Bytes;
use protocol::order::OrderName;
use protocol::time::Timestamp;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;
use tokio::sync::watch;

/// How this process fares. Peers, the Kubernetes API and the database belong into `ready` only, never into `alive`: a
/// partition must not restart anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// This process can go on; or why it cannot and must be started anew.
    pub alive: Result<(), String>,
    /// It has begun its work.
    pub started: bool,
    /// What must hold for its member to be given traffic, by name.
    pub ready: Vec<(String, Result<(), String>)>,
}

impl Health {
    /// Before the runtime has said anything.
    fn unsaid() -> Self {
        Self {
            alive: Ok(()),
            started: false,
            ready: vec![("pilot".to_owned(), Err("it has not looked around yet".to_owned()))],
        }
    }
}

/// A state document, rendered once for however many readers, and only if there is one.
pub(super) struct Published {
    /// The document.
    pub(super) document: StateDocument,
    json: OnceLock<Result<Bytes, String>>,
}

impl Published {
    /// The document as one line of JSON.
    pub(super) fn json(&self) -> Result<Bytes, String> {
        self.json
            .get_or_init(|| match serde_json::to_vec(&self.document) {
                Ok(mut line) => {
                    line.push(b'\n');
                    Ok(Bytes::from(line))
                }
                Err(error) => Err(error.to_string()),
            })
            .clone()
    }
}

/// All that is not the state document.
struct Rest {
    decisions: Arc<DecisionsDocument>,
    health: Health,
    gossip: Option<GossipCounters>,
    streams: Option<StreamCounters>,
    beat: Option<Instant>,
}

struct Shared {
    /// The latest document, for whoever asks now.
    latest: Mutex<Option<Arc<Published>>>,
    /// The latest document that differs from the one before in more than clocks: what watchers are told.
    changed: watch::Sender<Option<Arc<Published>>>,
    rest: Mutex<Rest>,
    counters: Mutex<Counters>,
}

/// The board: a cheap handle, filled by the runtime and read by the endpoints.
#[derive(Clone)]
pub struct Board(Arc<Shared>);

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

impl Board {
    /// An empty board: not started, not ready, nothing known.
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            latest: Mutex::new(None),
            changed: watch::Sender::new(None),
            rest: Mutex::new(Rest {
                decisions: Arc::new(DecisionsDocument { own: vec![], heard: vec![] }),
                health: Health::unsaid(),
                gossip: None,
                streams: None,
                beat: None,
            }),
            counters: Mutex::new(Counters::default()),
        }))
    }

    /// Says what is known now. Called again and again: a runtime that stops saying anything counts as stuck.
    pub fn set(&self, state: StateDocument, decisions: DecisionsDocument, health: Health) {
        let published = Arc::new(Published { document: state, json: OnceLock::new() });
        *lock(&self.0.latest) = Some(published.clone());
        {
            let mut rest = lock(&self.0.rest);
            if *rest.decisions != decisions {
                rest.decisions = Arc::new(decisions);
            }
            rest.health = health;
            rest.beat = Some(Instant::now());
        }
        self.0.changed.send_if_modified(|shown| {
            let same = shown.as_ref().is_some_and(|shown| differ_in_clocks_only(&shown.document, &published.document));
            if !same {
                *shown = Some(published);
            }
            !same
        });
    }

    /// Says what the gossip layer counted.
    pub fn set_gossip(&self, counters: GossipCounters) {
        lock(&self.0.rest).gossip = Some(counters);
    }

    /// Says what the streams counted.
    pub fn set_streams(&self, counters: StreamCounters) {
        lock(&self.0.rest).streams = Some(counters);
    }

    /// Counts a call to the Kubernetes API that came to an end.
    pub fn count_call(&self, call: &Call, answered: bool) {
        lock(&self.0.counters).call(call, answered);
    }

    /// Counts a decision that was entered in the log, by each of its reasons.
    pub fn count_decision(&self, entry: &Entry) {
        lock(&self.0.counters).decision(entry);
    }

    /// Counts an order that this pilot gave as coordinator.
    pub fn count_order_given(&self, order: OrderName) {
        lock(&self.0.counters).given(order);
    }

    /// Counts an order that this pilot was given, and whether it obeyed.
    pub fn count_order_taken(&self, order: OrderName, obeyed: bool) {
        lock(&self.0.counters).taken(order, obeyed);
    }

    /// Counts a task of this process that ended unasked and was started again.
    pub fn count_restart(&self, task: Task) {
        lock(&self.0.counters).restart(task);
    }

    /// The latest state that was said; none before the first.
    pub fn state(&self) -> Option<StateDocument> {
        self.latest().map(|published| published.document.clone())
    }

    pub(super) fn latest(&self) -> Option<Arc<Published>> {
        lock(&self.0.latest).clone()
    }

    pub(super) fn changes(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.0.changed.subscribe()
    }

    pub(super) fn decisions(&self) -> Arc<DecisionsDocument> {
        lock(&self.0.rest).decisions.clone()
    }

    pub(super) fn health(&self) -> Health {
        lock(&self.0.rest).health.clone()
    }

    pub(super) fn gossip(&self) -> Option<GossipCounters> {
        lock(&self.0.rest).gossip
    }

    pub(super) fn streams(&self) -> Option<StreamCounters> {
        lock(&self.0.rest).streams
    }

    /// When the runtime spoke last.
    pub(super) fn beat(&self) -> Option<Instant> {
        lock(&self.0.rest).beat
    }

    pub(super) fn counters(&self) -> Counters {
        lock(&self.0.counters).clone()
    }
}

/// What is behind these locks is whole at every moment, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether two documents tell the same but for figures that change with every look at a clock.
fn differ_in_clocks_only(a: &StateDocument, b: &StateDocument) -> bool {
    let StateDocument { version, me, coordinator, members, operation, policy, roster, cluster, gossip } = a;
    let still = |me: &SelfState| SelfState { now: Timestamp::default(), ..me.clone() };
    *version == b.version
        && still(me) == still(&b.me)
        && *coordinator == b.coordinator
        && members.len() == b.members.len()
        && members.iter().zip(&b.members).all(|(a, b)| {
            let MemberState { name, generation, liveness, phi: _, timeout: _, database, report } = a;
            *name == b.name
                && *generation == b.generation
                && *liveness == b.liveness
                && *database == b.database
                && *report == b.report
        })
        && *operation == b.operation
        && *policy == b.policy
        && *roster == b.roster
        && *cluster == b.cluster
        && *gossip == b.gossip
}
