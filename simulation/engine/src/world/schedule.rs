//! Faults as a list of timed actions drawn from a seed: a failing run shrinks by leaving actions out.

use super::chance::Chance;
use super::cluster::NO_IMAGE;
use super::etcd::{CutCall, MemberCallKind, Moment, What};
use super::front::Door;
use std::fmt;

/// Whom a fault meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whom {
    /// The pod of this ordinal.
    Ordinal(u32),
    /// Whoever believes that it coordinates then; the pod of ordinal 0 where nobody does.
    Coordinator,
    /// Whoever's write was committed last, renewals of the Lease aside.
    Writer,
}

/// One thing that goes wrong, or that a user does. Lengths are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The agent's process is killed; its container is started again.
    KillAgent(Whom),
    /// The agent's process is stopped (SIGSTOP) and goes on later.
    Pause(Whom, u64),
    /// These pods hear nothing of the others, nor their databases of theirs.
    Cut(Vec<u32>, u64),
    /// This pod's agent does not reach the API.
    CutApi(Whom, u64),
    /// Nobody reaches the API.
    ApiOutage(u64),
    /// Requests fare badly, so many in a thousand.
    ApiFates(u64, u64),
    /// The next write of this pilot, but to the Lease, reaches the API only so much later.
    HoldWrite(Whom, u64),
    /// Somebody deletes the Lease.
    DeleteLease,
    /// Somebody empties the Lease.
    EmptyLease,
    /// Somebody sets the wall clock of a pod's machine.
    WallJump(u32, i64),
    /// A user sets the size.
    Scale(u32),
    /// A user deletes a pod.
    DeletePod(u32),
    /// The database process is killed.
    KillDatabase(u32),
    /// A user changes the pod template, to this version of it.
    Template(u32),
    /// The agent's process is killed, and what it remembers on its volume is gone.
    LoseMemory(u32),
    /// The agent's process is killed, and what it remembers is replaced by an older copy of it.
    RollBackMemory(u32),
    /// This pod hears nothing of the others, while they hear it.
    Deaf(u32, u64),
    /// What these two pods say over their stream stands still; gossip goes on.
    Clog(u32, u32, u64),
    /// The next write of this pilot, but to the Lease, is done, and the answer is lost.
    LoseReply(Whom),
    /// The database process is stopped (SIGSTOP) and goes on later.
    HangDatabase(u32, u64),
    /// What the database streams for its join or leave breaks off.
    FailMove(u32),
    /// The disk with this pod's volume is lost; the claim stays.
    LoseVolume(u32),
    /// A person approves what the record asks for.
    Approve,
    /// What this pilot reads of the API stands still: the front end that it reads through has lost touch.
    StaleReads(Whom, u64),
    /// The API's own store has no quorum: everybody reads what was so then, and nothing can be written.
    NoStoreQuorum(u64),
    /// Writes to such objects are refused: by an admission webhook, a quota, a Role that was changed.
    Refuse(Door, u64),
    /// The power of a pod's node is cut, and comes back later.
    LoseNode(u32, u64),
    /// Somebody takes every annotation off the set, its pods and its claims.
    Strip,
    /// A user lets so many pods be unavailable.
    Budget(u32),
    /// A user deletes the set with everything under that name, and makes another one of the same name.
    Recreate(u32),
    /// The next call of this kind that changes the members of etcd is cut there.
    CutMemberCall(CutCall),
}

impl Action {
    /// The family it belongs to: whole families are left out of half of the runs.
    pub fn family(&self) -> &'static str {
        match self {
            Self::KillAgent(_) => "kill",
            Self::Pause(..) => "pause",
            Self::Cut(..) | Self::CutApi(..) => "cut",
            Self::Deaf(..) => "deaf",
            Self::Clog(..) => "clog",
            Self::LoseReply(_) => "reply",
            Self::HangDatabase(..) => "hang",
            Self::FailMove(_) => "move",
            Self::LoseVolume(_) => "disk",
            Self::Approve => "approval",
            Self::ApiOutage(_) => "outage",
            Self::ApiFates(..) => "fates",
            Self::HoldWrite(..) => "held",
            Self::DeleteLease | Self::EmptyLease => "lease",
            Self::WallJump(..) => "wall",
            Self::Scale(_) => "scale",
            Self::DeletePod(_) => "delete",
            Self::KillDatabase(_) => "database",
            Self::Template(NO_IMAGE) => "image",
            Self::Template(_) => "template",
            Self::LoseMemory(_) | Self::RollBackMemory(_) => "memory",
            Self::StaleReads(..) => "stale",
            Self::NoStoreQuorum(_) => "store",
            Self::Refuse(..) => "refuse",
            Self::LoseNode(..) => "node",
            Self::Strip => "strip",
            Self::Budget(_) => "budget",
            Self::Recreate(_) => "recreate",
            Self::CutMemberCall(_) => "call",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Timed actions, in order of time.
pub type Schedule = Vec<(u64, Action)>;

/// What is drawn. Each family from a generator of its own: one more changes nothing of the others.
pub const FAMILIES: [&str; 25] = [
    "kill", "pause", "cut", "outage", "fates", "held", "lease", "wall", "scale", "delete", "database", "memory",
    "template", "deaf", "clog", "reply", "hang", "move", "disk", "image", "stale", "store", "refuse", "strip", "node",
];

/// What is drawn besides them where the database is etcd.
pub const OF_ETCD: [&str; 1] = ["call"];

/// Draws a schedule of these families for a run of `members` pods whose faults end at `end`.
pub fn draw(seed: u64, members: u32, end: u64, families: &[&str]) -> Schedule {
    let mut schedule: Schedule = Vec::new();
    let many = u64::from(members);
    for family in families.iter().copied() {
        let mut chance = Chance::of(seed, family);
        // A lost disk ends in most runs with a member that waits for a person: it is rarer than the others.
        if chance.happens(if family == "disk" { 900 } else { 500 }) {
            continue;
        }
        // The mean pause between two of a kind, drawn as well, so that quiet and wild runs both come up.
        let mean = chance.between(20_000, 120_000);
        let mut at = chance.between(5_000, 60_000);
        while at < end {
            let whom = |chance: &mut Chance| {
                if chance.happens(500) {
                    Whom::Coordinator
                } else {
                    Whom::Ordinal(u32::try_from(chance.below(many)).unwrap_or(0))
                }
            };
            let ordinal = |chance: &mut Chance| u32::try_from(chance.below(many)).unwrap_or(0);
            let action = match family {
                "kill" => Action::KillAgent(whom(&mut chance)),
                "pause" => Action::Pause(whom(&mut chance), chance.between(500, 40_000)),
                "cut" if chance.happens(300) => Action::CutApi(whom(&mut chance), chance.between(3_000, 60_000)),
                "cut" => {
                    let side = (0..members).filter(|_| chance.happens(400)).collect();
                    Action::Cut(side, chance.between(1_000, 60_000))
                }
                "outage" => Action::ApiOutage(chance.between(1_000, 60_000)),
                "fates" => Action::ApiFates(chance.between(10, 300), chance.between(5_000, 90_000)),
                "held" => Action::HoldWrite(whom(&mut chance), chance.between(2_500, 120_000)),
                "lease" if chance.happens(500) => Action::DeleteLease,
                "lease" => Action::EmptyLease,
                "wall" => {
                    let by = i64::try_from(chance.below(1_200_000)).unwrap_or(0) - 600_000;
                    Action::WallJump(ordinal(&mut chance), by)
                }
                "scale" => Action::Scale(u32::try_from(chance.between(2, many + 2)).unwrap_or(3)),
                "delete" => Action::DeletePod(ordinal(&mut chance)),
                "template" => Action::Template(u32::try_from(chance.below(3)).unwrap_or(0)),
                "memory" if chance.happens(500) => Action::LoseMemory(ordinal(&mut chance)),
                "memory" => Action::RollBackMemory(ordinal(&mut chance)),
                "deaf" => Action::Deaf(ordinal(&mut chance), chance.between(1_000, 60_000)),
                "clog" => Action::Clog(ordinal(&mut chance), ordinal(&mut chance), chance.between(1_000, 60_000)),
                "reply" => Action::LoseReply(whom(&mut chance)),
                "hang" => Action::HangDatabase(ordinal(&mut chance), chance.between(2_000, 60_000)),
                "move" => Action::FailMove(ordinal(&mut chance)),
                "disk" => Action::LoseVolume(ordinal(&mut chance)),
                "image" => Action::Template(if chance.happens(500) { NO_IMAGE } else { 0 }),
                "stale" => Action::StaleReads(whom(&mut chance), chance.between(5_000, 120_000)),
                "store" => Action::NoStoreQuorum(chance.between(5_000, 60_000)),
                "refuse" => {
                    let door = *chance.pick(&Door::ALL).unwrap_or(&Door::Record);
                    Action::Refuse(door, chance.between(5_000, 60_000))
                }
                "strip" => Action::Strip,
                "call" => Action::CutMemberCall(CutCall {
                    kind: *chance.pick(&MemberCallKind::ALL).unwrap_or(&MemberCallKind::Add),
                    moment: *chance.pick(&Moment::ALL).unwrap_or(&Moment::Applied),
                    what: What::draw(&mut chance),
                }),
                "node" => Action::LoseNode(ordinal(&mut chance), chance.between(5_000, 500_000)),
                _ => Action::KillDatabase(ordinal(&mut chance)),
            };
            schedule.push((at, action));
            if family == "disk" {
                // One: with a second one lost data would be the user's to find.
                break;
            }
            at += chance.between(mean / 2, mean * 2);
        }
    }
    schedule.sort_by_key(|(at, _)| *at);
    schedule
}
