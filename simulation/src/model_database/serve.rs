//! What a member answers.

use super::coordinate;
use super::disk::Row;
use super::message::{ClientAsk, ClientReply, PeerAsk, PeerCall, PeerReply, Reply, Request};
use super::movement;
use super::node::Node;
use super::ring::hash;
use agent::driver::model::wire::{Answer, Mode, Operation, read_frame, write_frame};
use std::io;
use std::rc::Rc;
use tokio::net::{TcpListener, TcpStream};

/// Bytes of rows in one page or batch.
pub(super) const BATCH_BYTES: u64 = 64 << 10;

/// Takes connections until the process ends.
pub(super) async fn serve(node: Rc<Node>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let node = Rc::clone(&node);
                tokio::task::spawn_local(async move {
                    if let Err(error) = talk(&node, stream).await {
                        tracing::debug!(%error, "a connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(node.config.gossip()).await;
            }
        }
    }
}

async fn talk(node: &Rc<Node>, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    while let Some(request) = read_frame(&mut stream).await? {
        let reply = match request {
            Request::Tool(operation) => Reply::Tool(tool(node, operation).await),
            Request::Client(ask) => Reply::Client(client(node, ask).await),
            Request::Peer(call) => Reply::Peer(peer(node, call)),
        };
        write_frame(&mut stream, &reply).await?;
    }
    Ok(())
}

async fn tool(node: &Rc<Node>, operation: Operation) -> Answer {
    match operation {
        Operation::Status => Answer::Status(Box::new(node.status())),
        Operation::Drain => match movement::drain(node).await {
            Ok(()) => Answer::Done,
            Err(why) => Answer::Refused(why),
        },
        Operation::Leave => match movement::begin_leave(node) {
            Ok(()) => Answer::Done,
            Err(why) => Answer::Refused(why),
        },
        Operation::LimitStreaming { bytes_per_second } => {
            node.rate.set(bytes_per_second.map(|rate| rate.max(1)));
            Answer::Done
        }
        Operation::LowerReplication(copies) => match node.lower_replication(copies) {
            Ok(()) => Answer::Done,
            Err(why) => Answer::Refused(why),
        },
        Operation::Seeds(seeds) => {
            node.seeds.replace(seeds);
            Answer::Done
        }
    }
}

async fn client(node: &Rc<Node>, ask: ClientAsk) -> ClientReply {
    if !matches!(node.mode.get(), Mode::Normal | Mode::Leaving) {
        return ClientReply::Failed(format!("{} serves no clients: ask another member", node.id));
    }
    let done = match ask {
        ClientAsk::Write { key, value } => coordinate::write(node, key, value).await.map(|()| ClientReply::Done),
        ClientAsk::Read { key } => coordinate::read(node, &key).await.map(ClientReply::Value),
        ClientAsk::List { prefix, part, parts } => {
            coordinate::list(node, &prefix, part, parts).await.map(ClientReply::Keys)
        }
    };
    done.unwrap_or_else(ClientReply::Failed)
}

fn peer(node: &Node, call: PeerCall) -> PeerReply {
    let refuse = |why: String| PeerReply::Refused(why);
    if call.cluster != node.config.cluster {
        return refuse(format!("belongs to the cluster `{}`, not `{}`", node.config.cluster, call.cluster));
    }
    if call.to.as_ref().is_some_and(|to| *to != node.id) {
        return refuse(format!("is {}, another member", node.id));
    }
    answer(node, call.ask)
}

/// Answers a member, ourselves included.
pub(super) fn answer(node: &Node, ask: PeerAsk) -> PeerReply {
    let mode = node.mode.get();
    let may_hold = matches!(mode, Mode::Joining | Mode::Normal | Mode::Leaving);
    let holds = matches!(mode, Mode::Normal | Mode::Leaving);
    let refuse = || PeerReply::Refused(format!("does not serve: it is {mode:?}"));
    let same = |ring: u64| ring == node.digest();
    match ask {
        // Whoever starts does not know its own next word yet; whoever has left has nothing to do with the ring.
        PeerAsk::Gossip(_) if matches!(mode, Mode::Starting | Mode::Left) => refuse(),
        PeerAsk::Gossip(entries) => {
            let known: Vec<_> = entries.iter().map(|e| (e.id.clone(), e.age())).collect();
            node.merge(entries);
            PeerReply::Gossip(node.ring.borrow().news_to(&known))
        }
        PeerAsk::Put { .. } if !may_hold => refuse(),
        PeerAsk::Put { ring, .. } if !same(ring) => PeerReply::OtherRing,
        PeerAsk::Put { rows, .. } => match node.disk.borrow_mut().put(rows) {
            Ok(()) => PeerReply::Done,
            Err(error) => PeerReply::Refused(format!("cannot write its log: {error}")),
        },
        PeerAsk::Get { .. } | PeerAsk::List { .. } | PeerAsk::Fetch { .. } | PeerAsk::Unbroken { .. } if !holds => {
            refuse()
        }
        PeerAsk::Get { ring, .. } | PeerAsk::List { ring, .. } if !same(ring) => PeerReply::OtherRing,
        PeerAsk::Get { key, .. } => PeerReply::Row(node.disk.borrow().get(&key)),
        PeerAsk::List { prefix, part, parts, .. } => {
            let disk = node.disk.borrow();
            let keys = disk.rows(None).map(|(key, _)| key);
            let wanted = |key: &&str| key.starts_with(&prefix) && hash(key).checked_rem(parts) == Some(part);
            PeerReply::Keys(keys.filter(wanted).map(str::to_owned).collect())
        }
        PeerAsk::Fetch { joiner, after } => {
            let ring = node.ring.borrow();
            let disk = node.disk.borrow();
            let replication = node.replication.get();
            let (mut rows, mut taken, mut left): (Vec<Row>, u64, u64) = (Vec::new(), 0, 0);
            for (key, bytes) in disk.rows(after.as_deref()) {
                if !ring.place(key, replication).pending.contains(&joiner) {
                    continue;
                }
                if taken < BATCH_BYTES && left == 0 {
                    taken += bytes;
                    rows.extend(disk.get(key));
                } else {
                    left += bytes;
                }
            }
            PeerReply::Page { rows, left }
        }
        PeerAsk::Unbroken { joiner, generation } => {
            let mut ring = node.ring.borrow_mut();
            ring.judge(node.now());
            if ring.unbroken(&joiner, generation) {
                PeerReply::Done
            } else {
                PeerReply::Refused("held the joining member for dead meanwhile, so that it missed writes".to_owned())
            }
        }
    }
}
