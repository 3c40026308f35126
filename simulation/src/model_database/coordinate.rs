//! What a member does for a client: asks the replicas of a row and waits for a quorum.

use super::disk::Row;
use super::message::{PeerAsk, PeerReply};
use super::node::{Node, unexpected};
use super::ring::{Place, quorum};
use super::serve::answer;
use protocol::id::DatabaseIdentity;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Keeps a row on a quorum of its replicas and on every replica to be.
pub(super) async fn write(node: &Rc<Node>, key: String, value: String) -> Result<(), String> {
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros());
    let row = Row { key, value, stamp: u64::try_from(stamp).unwrap_or(u64::MAX) };
    within(node, async || {
        loop {
            match write_once(node, &row).await {
                Err(Failure::OtherRing) => {}
                Err(Failure::For(why)) => return Err(why),
                Ok(()) => return Ok(()),
            }
        }
    })
    .await
}

/// The newest value that a quorum of replicas has; those that were behind have it too then.
pub(super) async fn read(node: &Rc<Node>, key: &str) -> Result<Option<String>, String> {
    within(node, async || {
        loop {
            match read_once(node, key).await {
                Err(Failure::OtherRing) => {}
                Err(Failure::For(why)) => return Err(why),
                Ok(value) => return Ok(value),
            }
        }
    })
    .await
}

/// The keys of one part of all rows. So many members must answer that of every row a quorum has.
pub(super) async fn list(node: &Rc<Node>, prefix: &str, part: u64, parts: u64) -> Result<Vec<String>, String> {
    within(node, async || {
        loop {
            match list_once(node, prefix, part, parts).await {
                Err(Failure::OtherRing) => {}
                Err(Failure::For(why)) => return Err(why),
                Ok(keys) => return Ok(keys),
            }
        }
    })
    .await
}

enum Failure {
    /// A replica knew another ring than we did. We know it too by now: the same again may succeed.
    OtherRing,
    For(String),
}

async fn within<T>(node: &Node, work: impl AsyncFnOnce() -> Result<T, String>) -> Result<T, String> {
    timeout(2 * node.config.request(), work())
        .await
        .unwrap_or_else(|_| Err("too few replicas answered in time".to_owned()))
}

type Answers = JoinSet<(DatabaseIdentity, Result<PeerReply, Failure>)>;

/// Asks all of these at once, ourselves without a detour.
fn ask_all<'a>(
    node: &Rc<Node>,
    peers: impl Iterator<Item = &'a DatabaseIdentity>,
    ask: impl Fn() -> PeerAsk,
) -> Answers {
    let mut answers = JoinSet::new();
    for peer in peers.cloned() {
        let (node, ask) = (Rc::clone(node), ask());
        answers.spawn_local(async move {
            let reply = if peer == node.id { Ok(answer(&node, ask)) } else { node.ask(&peer, ask).await };
            let reply = match reply {
                Ok(PeerReply::OtherRing) => match node.gossip(&peer).await {
                    Ok(()) => Err(Failure::OtherRing),
                    Err(why) => Err(Failure::For(why)),
                },
                Ok(reply) => Ok(reply),
                Err(why) => Err(Failure::For(why)),
            };
            (peer, reply)
        });
    }
    answers
}

fn place(node: &Node, key: &str) -> (u64, Place) {
    let mut ring = node.ring.borrow_mut();
    ring.judge(node.now());
    let place = ring.place(key, node.replication.get());
    drop(ring);
    (node.digest(), place)
}

/// Replicas that may answer; an error where they are too few for a quorum.
fn available(node: &Node, place: &Place) -> Result<Vec<DatabaseIdentity>, Failure> {
    let up: Vec<_> = place.natural.iter().filter(|id| node.up(id)).cloned().collect();
    let wanted = quorum(node.replication.get());
    if up.len() < wanted {
        return Err(Failure::For(format!("{} replicas are up but a quorum is {wanted}", up.len())));
    }
    Ok(up)
}

/// What failed decides: another ring is worth another try.
fn worst(failures: Vec<Failure>) -> Failure {
    if failures.iter().any(|f| matches!(f, Failure::OtherRing)) {
        return Failure::OtherRing;
    }
    let why: Vec<String> = failures
        .into_iter()
        .filter_map(|failure| match failure {
            Failure::For(why) => Some(why),
            Failure::OtherRing => None,
        })
        .collect();
    Failure::For(format!("too few replicas answered: {}", why.join("; ")))
}

async fn write_once(node: &Rc<Node>, row: &Row) -> Result<(), Failure> {
    let (ring, place) = place(node, &row.key);
    let up = available(node, &place)?;
    let mut answers = ask_all(node, up.iter().chain(&place.pending), || PeerAsk::Put { ring, rows: vec![row.clone()] });
    let mut missing = quorum(node.replication.get());
    let mut pending: BTreeSet<_> = place.pending.iter().collect();
    let mut failures = Vec::new();
    while let Some(answer) = answers.join_next().await {
        match answer.map_err(|e| Failure::For(e.to_string()))? {
            (peer, Ok(PeerReply::Done)) => {
                if !pending.remove(&peer) {
                    missing = missing.saturating_sub(1);
                }
            }
            (_, Ok(other)) => failures.push(Failure::For(unexpected(&other))),
            (_, Err(failure)) => failures.push(failure),
        }
        if missing == 0 && pending.is_empty() {
            // The others get it all the same.
            answers.detach_all();
            return Ok(());
        }
    }
    Err(worst(failures))
}

async fn read_once(node: &Rc<Node>, key: &str) -> Result<Option<String>, Failure> {
    let (ring, place) = place(node, key);
    let up = available(node, &place)?;
    let mut answers = ask_all(node, up.iter(), || PeerAsk::Get { ring, key: key.to_owned() });
    let wanted = quorum(node.replication.get());
    let (mut said, mut failures) = (Vec::new(), Vec::new());
    while said.len() < wanted
        && let Some(answer) = answers.join_next().await
    {
        match answer.map_err(|e| Failure::For(e.to_string()))? {
            (peer, Ok(PeerReply::Row(row))) => said.push((peer, row)),
            (_, Ok(other)) => failures.push(Failure::For(unexpected(&other))),
            (_, Err(failure)) => failures.push(failure),
        }
    }
    if said.len() < wanted {
        return Err(worst(failures));
    }
    let newest = said.iter().filter_map(|(_, row)| row.clone()).max_by_key(|row| row.stamp);
    let Some(newest) = newest else { return Ok(None) };
    // Read repair, before the answer: what was read once is read ever after.
    let behind: Vec<_> = said.iter().filter(|(_, row)| row.as_ref() != Some(&newest)).map(|(peer, _)| peer).collect();
    let mut repairs = ask_all(node, behind.into_iter(), || PeerAsk::Put { ring, rows: vec![newest.clone()] });
    while let Some(repaired) = repairs.join_next().await {
        match repaired.map_err(|e| Failure::For(e.to_string()))? {
            (_, Ok(PeerReply::Done)) => {}
            (_, Ok(other)) => return Err(Failure::For(unexpected(&other))),
            (_, Err(failure)) => return Err(failure),
        }
    }
    Ok(Some(newest.value))
}

async fn list_once(node: &Rc<Node>, prefix: &str, part: u64, parts: u64) -> Result<Vec<String>, Failure> {
    let ring = node.digest();
    let mut members = node.ring.borrow().other_members();
    members.push(node.id.clone());
    let replication = node.replication.get();
    let spare = usize::try_from(replication).unwrap_or(usize::MAX).saturating_sub(quorum(replication));
    let wanted = members.len().saturating_sub(spare).max(1);
    let up = members.iter().filter(|id| node.up(id));
    let mut answers = ask_all(node, up, || PeerAsk::List { ring, prefix: prefix.to_owned(), part, parts });
    let (mut said, mut keys, mut failures) = (0, BTreeSet::new(), Vec::new());
    while let Some(answer) = answers.join_next().await {
        match answer.map_err(|e| Failure::For(e.to_string()))? {
            (_, Ok(PeerReply::Keys(some))) => {
                said += 1;
                keys.extend(some);
            }
            (_, Ok(other)) => failures.push(Failure::For(unexpected(&other))),
            (_, Err(failure)) => failures.push(failure),
        }
    }
    if said < wanted { Err(worst(failures)) } else { Ok(keys.into_iter().collect()) }
}
