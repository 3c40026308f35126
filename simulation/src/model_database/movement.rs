//! Joining, leaving, draining: what changes who holds what.
//!
//! Both moves go the same way. The member says what it is about to do; every living member must have heard it, so that
//! from then on a quorum takes a write only together with the replicas to be. Then the rows written before are moved.
//! Then the member says that it is done.

use super::disk::{Row, Stage};
use super::message::{PeerAsk, PeerReply};
use super::node::{Node, unexpected};
use super::ring::quorum;
use super::serve::BATCH_BYTES;
use super::start::StartError;
use agent::driver::model::wire::Mode;
use protocol::database::Progress;
use protocol::id::DatabaseIdentity;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::sleep;

/// The bound on a move is kept in steps of so long.
const STEP: Duration = Duration::from_millis(100);

/// A batch is sent so often before a move fails.
const TRIES: u32 = 5;

/// Gossips until the member has left.
pub(super) async fn keep_gossiping(node: Rc<Node>) {
    for round in 0.. {
        sleep(node.config.gossip()).await;
        match node.mode.get() {
            Mode::Starting | Mode::Drained => continue,
            Mode::Left => return,
            Mode::Joining | Mode::Normal | Mode::Leaving | Mode::Draining => {}
        }
        node.beat();
        let now = node.now();
        node.ring.borrow_mut().judge(now);
        let mut partners = node.ring.borrow().partners(round, now);
        if partners.is_empty() {
            partners = node.ring.borrow().others();
        }
        if let Some(seed) = node.seed_to_ask(round) {
            let node = Rc::clone(&node);
            tokio::task::spawn_local(async move {
                if let Err(why) = node.gossip_with_seed(seed).await {
                    tracing::trace!(why, "no gossip with a seed");
                }
            });
        }
        for partner in partners {
            let node = Rc::clone(&node);
            // Not waited for: a silent partner must not slow the heartbeat.
            tokio::task::spawn_local(async move {
                if let Err(why) = node.gossip(&partner).await {
                    tracing::trace!(why, "no gossip");
                }
            });
        }
    }
}

/// Takes over this member's part of the rows.
pub(super) async fn join(node: &Rc<Node>) -> Result<(), StartError> {
    if let Some(other) = in_motion(node) {
        return Err(StartError::InMotion(other));
    }
    node.turn(Mode::Joining);
    let sources = announce_join(node).await.map_err(StartError::Join)?;
    if let Some(other) = in_motion(node) {
        return Err(StartError::InMotion(other));
    }
    node.progress.set(Some(Progress::default()));
    for (n, source) in sources.iter().enumerate() {
        fetch_from(node, source, n == 0).await.map_err(StartError::Join)?;
    }
    pass_ballast(node).await;
    for member in living(node) {
        let ask = PeerAsk::Unbroken { joiner: node.id.clone(), generation: node.generation() };
        node.ask(&member, ask).await.map_err(StartError::Join)?;
    }
    node.set_stage(Stage::Member)?;
    node.progress.set(None);
    node.turn(Mode::Normal);
    for (peer, why) in node.tell(living(node)).await {
        tracing::info!(%peer, why, "a member was not told at once that the join is done");
    }
    Ok(())
}

fn in_motion(node: &Node) -> Option<DatabaseIdentity> {
    node.ring.borrow().in_motion(node.now())
}

/// Other members that are not known to be down.
fn living(node: &Node) -> Vec<DatabaseIdentity> {
    let ring = node.ring.borrow();
    ring.other_members().into_iter().filter(|id| ring.up(id, node.now()) != Some(false)).collect()
}

/// Returns the members that know of us: all of them, but so few that no quorum is among the others.
async fn announce_join(node: &Rc<Node>) -> Result<Vec<DatabaseIdentity>, String> {
    let spare = quorum(node.replication.get()).saturating_sub(1);
    // Members whose heartbeat was never seen to grow are given the time to show it, or to be found silent.
    let mut left = node.config.silence() + node.config.request();
    loop {
        let members = node.ring.borrow().other_members();
        let deaf = node.tell(members.clone()).await;
        let heard: Vec<_> = members.iter().filter(|m| !deaf.contains_key(*m)).cloned().collect();
        let living = living(node);
        if !heard.is_empty() && deaf.len() <= spare && living.iter().all(|m| heard.contains(m)) {
            return Ok(heard);
        }
        let Some(rest) = left.checked_sub(node.config.gossip()) else {
            return Err(format!("of {} members these do not answer: {deaf:?}", members.len()));
        };
        left = rest;
        sleep(node.config.gossip()).await;
    }
}

async fn fetch_from(node: &Rc<Node>, source: &DatabaseIdentity, first: bool) -> Result<(), String> {
    let mut after = None;
    loop {
        let ask = PeerAsk::Fetch { joiner: node.id.clone(), after: after.clone() };
        let reply = tried(node, source, &ask).await?;
        let PeerReply::Page { rows, left } = reply else {
            return Err(format!("{source}: {}", unexpected(&reply)));
        };
        let bytes: u64 = rows.iter().map(Row::bytes).sum();
        let done = node.progress.get().map_or(0, |p| p.done);
        // Ballast comes last; it counts from the beginning, so that the share done never falls by it.
        let ballast = if first || done > 0 { node.config.behaviour.ballast_bytes } else { 0 };
        node.progress.set(Some(Progress { done, total: done + bytes + left + ballast }));
        after = rows.last().map(|row| row.key.clone());
        node.disk.borrow_mut().put(rows).map_err(|e| format!("cannot write the log: {e}"))?;
        pace(node, bytes).await;
        if left == 0 || after.is_none() {
            return Ok(());
        }
    }
}

/// Asks again a few times: a peer may be restarted meanwhile.
async fn tried(node: &Rc<Node>, peer: &DatabaseIdentity, ask: &PeerAsk) -> Result<PeerReply, String> {
    let mut last = String::new();
    for _ in 0..TRIES {
        match node.ask(peer, ask.clone()).await {
            Ok(reply) => return Ok(reply),
            Err(why) => last = why,
        }
        sleep(node.config.gossip()).await;
    }
    Err(last)
}

/// Lets the time pass that these bytes take.
async fn pace(node: &Node, mut bytes: u64) {
    while bytes > 0 {
        let step = match node.rate.get() {
            Some(rate) => (rate / 10).clamp(1, bytes),
            None => bytes,
        };
        if node.rate.get().is_some() {
            sleep(STEP).await;
        }
        bytes -= step;
        if let Some(progress) = node.progress.get() {
            let done = progress.done + step;
            node.progress.set(Some(Progress { done, total: progress.total.max(done) }));
        }
    }
}

async fn pass_ballast(node: &Node) {
    let ballast = node.config.behaviour.ballast_bytes;
    let done = node.progress.get().map_or(0, |p| p.done);
    node.progress.set(Some(Progress { done, total: done + ballast }));
    pace(node, ballast).await;
}

/// Takes no more requests, and says so to the others. A second time nothing is left to do.
pub(super) async fn drain(node: &Rc<Node>) -> Result<(), String> {
    match node.mode.get() {
        Mode::Drained | Mode::Left | Mode::Draining => return Ok(()),
        Mode::Starting | Mode::Joining => return Err("it is no member yet: stop it instead".to_owned()),
        Mode::Normal | Mode::Leaving => {}
    }
    node.turn(Mode::Draining);
    for (peer, why) in node.tell(living(node)).await {
        tracing::info!(%peer, why, "a member was not told of the drain");
    }
    node.mode.set(Mode::Drained);
    Ok(())
}

/// Begins to leave, unless a row would lose a copy.
pub(super) fn begin_leave(node: &Rc<Node>) -> Result<(), String> {
    match node.mode.get() {
        Mode::Leaving | Mode::Left => return Ok(()),
        Mode::Starting | Mode::Joining => return Err("it is no member yet: there is nothing to hand over".to_owned()),
        Mode::Draining | Mode::Drained => return Err("it is drained: start it again, then let it leave".to_owned()),
        Mode::Normal => {}
    }
    may_leave(node)?;
    node.leave_failure.replace(None);
    node.turn(Mode::Leaving);
    let node = Rc::clone(node);
    tokio::task::spawn_local(async move {
        if let Err(why) = leave(&node).await {
            tracing::warn!(why, "the leave was given up");
            node.leave_failure.replace(Some(why));
            node.progress.set(None);
            if node.mode.get() == Mode::Leaving {
                node.turn(Mode::Normal);
                node.tell(living(&node)).await;
            }
        }
    });
    Ok(())
}

fn may_leave(node: &Node) -> Result<(), String> {
    let ring = node.ring.borrow();
    let others = ring.other_members();
    let replication = usize::try_from(node.replication.get()).unwrap_or(usize::MAX);
    if others.len() < replication {
        return Err(format!(
            "not enough live nodes: {} others are members but each row has {replication} copies, so one would be lost; \
             add a member first",
            others.len()
        ));
    }
    if let Some(down) = others.iter().find(|id| ring.up(id, node.now()) != Some(true)) {
        return Err(format!("{down} is not up, and may have to take rows over: bring it back first"));
    }
    match ring.in_motion(node.now()) {
        Some(other) => Err(StartError::InMotion(other).to_string()),
        None => Ok(()),
    }
}

async fn leave(node: &Rc<Node>) -> Result<(), String> {
    let others = node.ring.borrow().other_members();
    let deaf = node.tell(others).await;
    if let Some((peer, why)) = deaf.first_key_value() {
        return Err(format!("{peer} could not be told: {why}"));
    }
    may_leave(node)?;
    let (heirs, bytes) = inheritance(node);
    let total = bytes + node.config.behaviour.ballast_bytes;
    node.progress.set(Some(Progress { done: 0, total }));
    for (heir, keys) in heirs {
        let mut batch = Vec::new();
        let mut size = 0;
        for key in keys {
            let row = node.disk.borrow().get(&key);
            size += row.as_ref().map_or(0, Row::bytes);
            batch.extend(row);
            if size >= BATCH_BYTES {
                hand_over(node, &heir, std::mem::take(&mut batch), size).await?;
                size = 0;
            }
        }
        hand_over(node, &heir, batch, size).await?;
    }
    pace(node, node.config.behaviour.ballast_bytes).await;
    may_leave(node)?;
    if node.mode.get() != Mode::Leaving {
        return Err("it was drained in the middle".to_owned());
    }
    // From here on nobody sends us anything; at least one must know before we do ourselves.
    node.turn(Mode::Left);
    let others = node.ring.borrow().other_members();
    loop {
        let deaf = node.tell(others.clone()).await;
        if deaf.len() < others.len() {
            break;
        }
        sleep(node.config.gossip()).await;
    }
    node.progress.set(None);
    node.set_stage(Stage::Left).map_err(|e| format!("it has left but cannot write that down: {e}"))
}

/// Who takes which of our rows over, and bytes of them all.
fn inheritance(node: &Node) -> (BTreeMap<DatabaseIdentity, Vec<String>>, u64) {
    let (ring, disk) = (node.ring.borrow(), node.disk.borrow());
    let mut heirs: BTreeMap<DatabaseIdentity, Vec<String>> = BTreeMap::new();
    let mut total = 0;
    for (key, bytes) in disk.rows(None) {
        let place = ring.place(key, node.replication.get());
        // Rows kept from an earlier ring are not ours to hand over, but the replicas to be of others' rows may miss them.
        for heir in place.pending {
            total += bytes;
            heirs.entry(heir).or_default().push(key.to_owned());
        }
    }
    (heirs, total)
}

async fn hand_over(node: &Rc<Node>, heir: &DatabaseIdentity, rows: Vec<Row>, bytes: u64) -> Result<(), String> {
    if rows.is_empty() {
        return Ok(());
    }
    for _ in 0..TRIES {
        let ring = node.digest();
        let reply = tried(node, heir, &PeerAsk::Put { ring, rows: rows.clone() }).await?;
        if let PeerReply::Done = reply {
            pace(node, bytes).await;
            return Ok(());
        }
        if let PeerReply::OtherRing = reply {
            node.gossip(heir).await?;
        } else {
            return Err(format!("{heir}: {}", unexpected(&reply)));
        }
    }
    Err(format!("{heir} knows another ring again and again"))
}

/// Tells the others that this member stops and means to return, as far as it is one.
pub(super) async fn say_goodbye(node: &Rc<Node>) {
    match node.mode.get() {
        Mode::Normal | Mode::Leaving => {
            if let Err(why) = drain(node).await {
                tracing::warn!(why, "not drained before the end");
            }
        }
        Mode::Starting | Mode::Joining | Mode::Left | Mode::Draining | Mode::Drained => {}
    }
}
