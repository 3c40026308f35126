//! From the rows Cassandra shows to the words of the mesh. Pure: time comes in as an argument.

use super::rows::{Gossip, Keyspace, Peer, Rows, Stream};
use protocol::database::{DatabasePhase, Progress, RingMember, RingStatus};
use protocol::id::DatabaseIdentity;
use protocol::launcher::ProcessState;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// The words Cassandra gossips, as in its `VersionedValue`, before the first comma.
fn status(text: &str) -> RingStatus {
    let word = text.split(',').next().unwrap_or_default();
    match word {
        "BOOT" | "BOOT_REPLACE" => RingStatus::Joining,
        // One that moves its tokens owns data all the while.
        "NORMAL" | "MOVING" => RingStatus::Normal,
        "LEAVING" | "removing" => RingStatus::Leaving,
        "LEFT" | "removed" => RingStatus::Left,
        "shutdown" | "hibernate" => RingStatus::Shutdown,
        _ => RingStatus::Unknown,
    }
}

/// What the rows of one look say, as far as rows tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The ring, in order of identity.
    pub ring: Vec<RingMember>,
    /// Whether everybody in the ring has the same schema; `None` where this member's own is not told.
    pub schema_agreed: Option<bool>,
    /// The highest replication factor of any keyspace; `None` is unknown.
    pub replication: Option<u32>,
    /// The transfers under way, as one.
    pub streaming: Option<Progress>,
    /// The load this member reports, in bytes.
    pub load: Option<u64>,
}

/// Reads the rows of one look. `now` is any clock of the looking process that does not go back.
pub fn see(rows: &Rows, now: Duration, heartbeats: &mut Heartbeats) -> Seen {
    let ring = ring(rows, now, heartbeats);
    Seen {
        schema_agreed: schema_agreed(rows, &ring),
        replication: replication(&rows.keyspaces),
        streaming: streaming(&rows.streams),
        load: load(rows),
        ring,
    }
}

/// Who is alive, told from heartbeats that grow: Cassandra shows them, but not its own verdict.
#[derive(Debug, Clone, Default)]
pub struct Heartbeats {
    seen: BTreeMap<DatabaseIdentity, Heartbeat>,
}

#[derive(Debug, Clone)]
struct Heartbeat {
    at: (i32, i32),
    first_seen: Duration,
    grew: Option<Duration>,
}

/// A member is held alive for so long after its heartbeat was last seen to grow. Every member's grows once a second and
/// travels by random gossip, so that a few seconds without news are ordinary; Cassandra's own verdict takes about 20 s.
pub const HEARTBEAT_MAY_REST: Duration = Duration::from_secs(10);

impl Heartbeats {
    /// Takes one look in. `now` is any clock of the looking process that does not go back.
    fn observe(&mut self, now: Duration, identity: &DatabaseIdentity, at: (i32, i32)) -> Option<bool> {
        let beat = self.seen.entry(identity.clone()).or_insert(Heartbeat { at, first_seen: now, grew: None });
        // A restart of the member raises its generation and begins the heartbeat anew: tuples compare as they should.
        if at > beat.at {
            beat.at = at;
            beat.grew = Some(now);
        }
        if at.0 < beat.at.0 {
            // Our own database was started anew, and has heard of an older life only: it looks for that member where it
            // no longer lives. That its heart beat before our database's end says nothing of now.
            return Some(false);
        }
        match beat.grew {
            Some(grew) => Some(now.saturating_sub(grew) <= HEARTBEAT_MAY_REST),
            None if now.saturating_sub(beat.first_seen) > HEARTBEAT_MAY_REST => Some(false),
            None => None,
        }
    }

    fn keep_only(&mut self, known: &BTreeSet<DatabaseIdentity>) {
        self.seen.retain(|identity, _| known.contains(identity));
    }
}

/// The ring as these rows show it, in order of identity.
fn ring(rows: &Rows, now: Duration, heartbeats: &mut Heartbeats) -> Vec<RingMember> {
    let own = rows.local.host_id.as_deref();
    let peer_at: BTreeMap<IpAddr, &Peer> = rows.peers.iter().map(|p| (p.address, p)).collect();
    // A member that came back under another address is for a while in gossip twice: its latest life counts.
    let mut latest: BTreeMap<DatabaseIdentity, &Gossip> = BTreeMap::new();
    for row in &rows.gossip {
        let host_id = row.host_id.as_deref().or_else(|| peer_at.get(&row.address).and_then(|p| p.host_id.as_deref()));
        let Some(identity) = host_id.map(DatabaseIdentity::new) else {
            continue;
        };
        let newer = latest
            .get(&identity)
            .is_none_or(|known| (row.generation, row.heartbeat) > (known.generation, known.heartbeat));
        if newer {
            latest.insert(identity, row);
        }
    }
    let owners: BTreeSet<DatabaseIdentity> =
        rows.peers.iter().filter_map(|p| p.host_id.as_deref()).map(DatabaseIdentity::new).collect();
    // Two members that change addresses within a minute: one that starts hears of the other's old address from its peers'
    // gossip, and may take that for the newer one. Whatever it then sends to that member goes nowhere.
    let held_elsewhere = |identity: &DatabaseIdentity, at: IpAddr| {
        let held = || rows.peers.iter().filter(|p| p.host_id.as_deref() == Some(identity.as_str()));
        held().next().is_some() && held().all(|p| p.address != at)
    };
    let mut ring: BTreeMap<DatabaseIdentity, RingMember> = BTreeMap::new();
    for (identity, row) in &latest {
        let grows = heartbeats.observe(now, identity, (row.generation, row.heartbeat));
        let status = match row.status.as_deref() {
            Some(text) => status(text),
            // Gossip knows no status of it yet: after our own restart its place in the ring is known from the peers
            // table only; without one it is about to join.
            None if owners.contains(identity) => RingStatus::Normal,
            None => RingStatus::Joining,
        };
        let up = if own == Some(identity.as_str()) {
            Some(true)
        } else if matches!(status, RingStatus::Shutdown) || held_elsewhere(identity, row.address) {
            // It said so itself, or lives where this database does not look for it.
            Some(false)
        } else {
            grows
        };
        ring.insert(identity.clone(), RingMember { identity: identity.clone(), status, up });
    }
    // Owners that gossip does not mention: still members, and nothing was heard of them.
    for identity in &owners {
        ring.entry(identity.clone()).or_insert_with(|| RingMember {
            identity: identity.clone(),
            status: RingStatus::Normal,
            up: heartbeats.observe(now, identity, (0, 0)),
        });
    }
    heartbeats.keep_only(&ring.keys().cloned().collect());
    ring.into_values().collect()
}

/// Whether everybody in the ring has our schema. Members that left or said that they stop are not counted.
fn schema_agreed(rows: &Rows, ring: &[RingMember]) -> Option<bool> {
    let own = rows.local.schema.as_deref()?;
    let counted: BTreeSet<&str> = ring
        .iter()
        .filter(|m| !matches!(m.status, RingStatus::Left | RingStatus::Shutdown) && m.up != Some(false))
        .map(|m| m.identity.as_str())
        .collect();
    let agreed = rows
        .gossip
        .iter()
        .filter(|g| g.host_id.as_deref().is_some_and(|id| counted.contains(id)))
        .all(|g| g.schema.as_deref().is_none_or(|schema| schema == own));
    Some(agreed)
}

/// The highest replication factor of any keyspace, the database's own included: it refuses to let a member leave when
/// `system_distributed` (3) would lose a replica. With several data centres, the highest of any one of them.
fn replication(keyspaces: &[Keyspace]) -> Option<u32> {
    let mut highest = None;
    for keyspace in keyspaces {
        let class = keyspace.replication.get("class")?;
        match class.rsplit('.').next()? {
            "LocalStrategy" => {}
            "SimpleStrategy" => {
                highest = highest.max(Some(factor(keyspace.replication.get("replication_factor")?)?));
            }
            "NetworkTopologyStrategy" => {
                for (key, value) in &keyspace.replication {
                    if key != "class" {
                        highest = highest.max(Some(factor(value)?));
                    }
                }
            }
            // A strategy we do not know: nothing may be concluded.
            _ => return None,
        }
    }
    highest
}

/// `3`, or `3/1` where one of three replicas is transient.
fn factor(text: &str) -> Option<u32> {
    text.split('/').next()?.trim().parse().ok()
}

/// The transfers under way, as one.
fn streaming(streams: &[Stream]) -> Option<Progress> {
    let mut sum = None;
    for stream in streams {
        let ended = stream.status.as_deref().is_some_and(|s| {
            s.eq_ignore_ascii_case("success") || s.eq_ignore_ascii_case("failure") || s.eq_ignore_ascii_case("failed")
        });
        if !ended {
            let sum: &mut Progress = sum.get_or_insert_default();
            sum.done = sum.done.saturating_add(u64::try_from(stream.done).unwrap_or(0));
            sum.total = sum.total.saturating_add(u64::try_from(stream.total).unwrap_or(0));
        }
    }
    sum
}

/// What this member reports as its load.
fn load(rows: &Rows) -> Option<u64> {
    let own = rows.local.host_id.as_deref()?;
    let row = rows.gossip.iter().find(|g| g.host_id.as_deref() == Some(own))?;
    // A decimal fraction of bytes; whole ones are as good.
    row.load.as_deref()?.split('.').next()?.parse().ok()
}

/// The operation mode, known only to Java's management interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Not in the ring yet.
    Starting,
    /// Takes data over.
    Joining,
    /// Took data over and was cut off: it stays so until it is started again.
    JoiningFailed,
    /// A member, whether or not it serves clients; also after a leave that was refused or failed.
    Member,
    /// Hands data over.
    Leaving,
    /// Has left.
    Decommissioned,
    /// Takes no more writes.
    Drained,
    /// A word that is not known.
    Other,
}

/// Reads the mode from what `nodetool netstats` printed.
pub fn mode(printed: &str) -> Option<Mode> {
    let word = printed.lines().find_map(|line| line.strip_prefix("Mode: "))?.trim();
    Some(match word {
        "STARTING" => Mode::Starting,
        "JOINING" => Mode::Joining,
        "JOINING_FAILED" => Mode::JoiningFailed,
        // DECOMMISSION_FAILED stays until a restart or a success, while the member serves as before.
        "NORMAL" | "MOVING" | "DECOMMISSION_FAILED" | "MOVE_FAILED" => Mode::Member,
        "LEAVING" => Mode::Leaving,
        "DECOMMISSIONED" => Mode::Decommissioned,
        "DRAINING" | "DRAINED" => Mode::Drained,
        _ => Mode::Other,
    })
}

/// What the clients' port did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// It answered.
    Open,
    /// Nobody listens.
    Closed,
    /// Somebody listens, or did, and does not answer.
    Silent,
}

/// All that a phase is told from.
#[derive(Debug, Clone)]
pub(super) struct Signs<'a> {
    pub(super) process: &'a ProcessState,
    pub(super) door: Door,
    /// `system.local.bootstrapped`, where the door is open.
    pub(super) bootstrapped: Option<&'a str>,
    /// Our own line of the ring, where the door is open.
    pub(super) own_status: Option<RingStatus>,
    /// The mode, asked since the door closed.
    pub(super) mode: Option<Mode>,
    /// This process has answered before.
    pub(super) has_answered: bool,
    /// Since so long it has not.
    pub(super) silent_for: Duration,
    /// The phase of the previous look at the same process.
    pub(super) previous: DatabasePhase,
}

/// A process that answered is given so long to answer again: pauses of the collector are no deaths.
pub const SILENCE_ALLOWED: Duration = Duration::from_secs(10);

/// Where the member's life stands.
pub(super) fn phase(signs: &Signs<'_>) -> DatabasePhase {
    match signs.process {
        ProcessState::Held => DatabasePhase::Held,
        ProcessState::Backoff { crash_loop: true, .. } => DatabasePhase::CrashLooping,
        ProcessState::Backoff { crash_loop: false, .. } => DatabasePhase::Restarting,
        ProcessState::Draining { .. } | ProcessState::Stopping { .. } => DatabasePhase::Draining,
        ProcessState::Stopped => DatabasePhase::Stopped,
        ProcessState::Running { .. } => match signs.door {
            Door::Open => open(signs),
            Door::Closed => closed(signs),
            Door::Silent if !signs.has_answered => DatabasePhase::Starting,
            Door::Silent if signs.silent_for <= SILENCE_ALLOWED => signs.previous,
            Door::Silent => DatabasePhase::Unresponsive,
        },
    }
}

fn open(signs: &Signs<'_>) -> DatabasePhase {
    match signs.bootstrapped {
        Some("DECOMMISSIONED") => return DatabasePhase::Left,
        Some("COMPLETED") => {}
        Some("IN_PROGRESS") => return DatabasePhase::Joining,
        Some(_) | None => return DatabasePhase::Starting,
    }
    match signs.own_status {
        Some(RingStatus::Normal) => DatabasePhase::Serving,
        Some(RingStatus::Joining) => DatabasePhase::Joining,
        Some(RingStatus::Leaving) => DatabasePhase::Leaving,
        Some(RingStatus::Left) => DatabasePhase::Left,
        Some(RingStatus::Shutdown) => DatabasePhase::Draining,
        Some(RingStatus::Unknown) => DatabasePhase::Unknown,
        None => DatabasePhase::Starting,
    }
}

fn closed(signs: &Signs<'_>) -> DatabasePhase {
    match signs.mode {
        Some(Mode::Starting) => DatabasePhase::Starting,
        Some(Mode::Joining) => DatabasePhase::Joining,
        Some(Mode::JoiningFailed) => DatabasePhase::JoinFailed,
        Some(Mode::Leaving) => DatabasePhase::Leaving,
        Some(Mode::Decommissioned) => DatabasePhase::Left,
        Some(Mode::Drained) => DatabasePhase::Draining,
        // It opens the door a moment after it becomes a member; one that closed it again has a fault, a full disk say.
        Some(Mode::Member) if signs.has_answered => DatabasePhase::Unresponsive,
        Some(Mode::Member) => DatabasePhase::Starting,
        Some(Mode::Other) => DatabasePhase::Unknown,
        None if !signs.has_answered => DatabasePhase::Starting,
        // A leave ends by closing the door: nothing else is to be thought of it until the mode is known.
        None if signs.previous == DatabasePhase::Leaving => DatabasePhase::Leaving,
        None if signs.silent_for > SILENCE_ALLOWED => DatabasePhase::Unresponsive,
        None => DatabasePhase::Unknown,
    }
}

#[cfg(test)]
#[path = "facts_tests.rs"]
mod tests;
