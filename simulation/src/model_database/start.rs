//! From the start of the process until it serves.

use super::disk::{Disk, DiskError, Notes, Stage};
use super::message::{PeerAsk, PeerReply};
use super::movement;
use super::node::Node;
use super::ring::Entry;
use agent::driver::model::ProcessConfig;
use agent::driver::model::wire::Mode;
use protocol::database::RingStatus;
use protocol::id::DatabaseIdentity;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

/// Why a process ends without having been told to.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("cannot listen on {address}: {source}; free the address or choose another")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("replication is 0 but must be at least 1: a row without a copy is lost")]
    Replication,
    #[error("the volume belongs to the cluster `{found}`, not `{wanted}`: use another volume")]
    OtherCluster { found: String, wanted: String },
    #[error(
        "{id} has left its cluster and will not start on this data again: move the data aside to join as a new member"
    )]
    HasLeft { id: DatabaseIdentity },
    #[error(
        "none of the seeds {seeds:?} answered ({last}): name one that is up, or name this member itself to start alone"
    )]
    NoSeed { seeds: Vec<IpAddr>, last: String },
    #[error("a founder with an empty volume found members of this cluster at its seeds: join through them instead")]
    Founded,
    #[error("{0} joins or leaves: one at a time, try again when it is done")]
    InMotion(DatabaseIdentity),
    #[error("the join was not done: {0}; start again to try again")]
    Join(String),
    #[error("cannot write to the volume: {0}")]
    Note(#[from] io::Error),
}

/// Opens the volume and the port. From then on the process says what it does.
pub(super) async fn open(config: ProcessConfig) -> Result<(Rc<Node>, TcpListener), StartError> {
    if config.behaviour.replication == 0 {
        return Err(StartError::Replication);
    }
    let (disk, id, notes) = Disk::open(&config.volume, config.behaviour.fsync)?;
    if let Some(Notes { cluster, stage, .. }) = &notes {
        if *cluster != config.cluster {
            return Err(StartError::OtherCluster { found: cluster.clone(), wanted: config.cluster });
        }
        if *stage == Stage::Left {
            return Err(StartError::HasLeft { id });
        }
    }
    let address = config.listens();
    let listener = TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })?;
    Ok((Node::new(config, id, disk, notes), listener))
}

/// Becomes a member, as founder, by joining, or by coming back.
pub(super) async fn become_member(node: &Rc<Node>) -> Result<(), StartError> {
    let known = look_around(node).await?;
    let own = known.iter().find(|entry| entry.id == node.id);
    if own.is_some_and(|entry| entry.status == RingStatus::Left) {
        node.set_stage(Stage::Left)?;
        return Err(StartError::HasLeft { id: node.id.clone() });
    }
    let members = known.iter().any(|entry| entry.id != node.id && entry.status != RingStatus::Left);
    node.begin_life(own.map_or(0, |entry| entry.generation))?;
    node.merge(known);
    match (node.stage(), own_seed(node)) {
        (Stage::Left, _) => Err(StartError::HasLeft { id: node.id.clone() }),
        (Stage::New, true) if members => Err(StartError::Founded),
        (Stage::New, true) | (Stage::Member, _) => {
            node.set_stage(Stage::Member)?;
            node.turn(Mode::Normal);
            let others = node.ring.borrow().others();
            // Whoever is down hears of us later.
            for (peer, why) in node.tell(others).await {
                tracing::info!(%peer, why, "a member was not told of this start");
            }
            Ok(())
        }
        (Stage::New, false) => movement::join(node).await,
    }
}

fn own_seed(node: &Node) -> bool {
    node.seeds.borrow().contains(&node.config.address)
}

/// What the seeds know, without a word about ourselves: they may know that we have left.
async fn look_around(node: &Rc<Node>) -> Result<Vec<Entry>, StartError> {
    let ends = Instant::now() + node.config.seed_wait();
    loop {
        let mut last = "nobody but this member is named".to_owned();
        let seeds = node.seeds.borrow().clone();
        for seed in seeds.iter().filter(|seed| **seed != node.config.address) {
            let address = SocketAddr::new(*seed, node.config.port);
            match node.call(address, None, PeerAsk::Gossip(Vec::new())).await {
                Ok(PeerReply::Gossip(entries)) => return Ok(entries),
                Ok(other) => last = super::node::unexpected(&other),
                Err(why) => last = why,
            }
        }
        if own_seed(node) {
            return Ok(Vec::new());
        }
        if Instant::now() >= ends {
            return Err(StartError::NoSeed { seeds, last });
        }
        sleep(node.config.gossip()).await;
    }
}
