//! What the members' databases say of each other. A member is never asked about itself.

use crate::world::World;
use protocol::database::{DatabasePhase, RingMember, RingStatus};
use protocol::id::{DatabaseIdentity, PilotName};
use protocol::record::ClusterRecord;
use std::collections::{BTreeMap, BTreeSet};

/// What peers say of one identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PeersSay {
    /// A majority of the members that can say something was asked, and all of them say: a full member, and up.
    Normal,
    /// A majority of the remaining members was asked, and all of them say: gone for good.
    Gone,
    /// Anything else: too few answers, or different ones; what was heard.
    Unsettled(String),
}

/// What a ring says of one identity. Rings are in order of identity: a thousand of them with a thousand lines each are
/// asked in every decision of a cluster of that size.
pub(crate) fn line_of<'a>(ring: &'a [RingMember], identity: &DatabaseIdentity) -> Option<&'a RingMember> {
    let at = ring.binary_search_by(|line| line.identity.cmp(identity)).ok()?;
    ring.get(at)
}

/// The rings of live current members, other than the one it is about.
fn rings<'a>(
    world: &'a World,
    record: &'a ClusterRecord,
    except: &'a PilotName,
) -> impl Iterator<Item = (&'a PilotName, &'a [RingMember])> {
    record.members.keys().filter(move |n| *n != except).filter_map(|name| {
        let report = world.live_report(name)?;
        Some((name, report.ring.as_deref()?))
    })
}

/// What the members other than `name` say of `identity`.
pub(crate) fn peers_say(
    world: &World,
    record: &ClusterRecord,
    name: &PilotName,
    identity: &DatabaseIdentity,
) -> PeersSay {
    let others: Vec<&PilotName> = record.members.keys().filter(|n| *n != name).collect();
    let mut normal = 0usize;
    let mut gone = 0usize;
    let mut asked = 0usize;
    let mut heard: BTreeSet<String> = BTreeSet::new();
    for (peer, ring) in rings(world, record, name) {
        asked += 1;
        match line_of(ring, identity) {
            Some(line) => match (line.status, line.up) {
                (RingStatus::Normal, Some(true)) => normal += 1,
                (RingStatus::Left, _) => gone += 1,
                (
                    RingStatus::Normal
                    | RingStatus::Joining
                    | RingStatus::Leaving
                    | RingStatus::Shutdown
                    | RingStatus::Unknown,
                    up,
                ) => {
                    let up = match up {
                        Some(true) => "up",
                        Some(false) => "down",
                        None => "not known to be up",
                    };
                    heard.insert(format!("{peer} sees it {} and {up}", word(line.status)));
                }
            },
            None if knows_the_others(ring, record, name) => gone += 1,
            None => {
                heard.insert(format!("{peer} does not see all members yet"));
            }
        }
    }
    // A member beyond the size that has no pod says something again only under its leave, which no join lets begin.
    let mute = others.iter().filter(|name| without_pod_beyond_the_size(world, name)).count();
    if normal > 0 && normal == asked && asked * 2 > others.len() - mute {
        return PeersSay::Normal;
    }
    let majority = others.len() / 2 + 1;
    if asked < majority {
        return PeersSay::Unsettled(format!(
            "{asked} of {} other members could be asked, {majority} are needed",
            others.len()
        ));
    }
    if gone == asked {
        PeersSay::Gone
    } else {
        if normal > 0 {
            heard.insert(format!("{normal} see it normal and up"));
        }
        if gone > 0 {
            heard.insert(format!("{gone} see it gone"));
        }
        PeersSay::Unsettled(heard.into_iter().collect::<Vec<_>>().join(", "))
    }
}

/// A member that no size asks for any more and whose pod is gone: its leave is unfinished.
pub(crate) fn without_pod_beyond_the_size(world: &World, name: &PilotName) -> bool {
    !world.pods.contains_key(name) && name.ordinal().is_some_and(|ordinal| world.set.is_beyond(ordinal))
}

/// Whether all members that could be asked, and at least a majority, see this identity as a full member, up or down.
pub(crate) fn peers_see_it_own_data(world: &World, record: &ClusterRecord, identity: &DatabaseIdentity) -> bool {
    let mut asked = 0usize;
    for name in record.members.keys() {
        let Some(ring) = world.live_report(name).and_then(|r| r.ring.as_ref()) else { continue };
        asked += 1;
        let owns = |m: &RingMember| matches!(m.status, RingStatus::Normal | RingStatus::Shutdown);
        if !line_of(ring, identity).is_some_and(owns) {
            return false;
        }
    }
    asked * 2 > record.members.len()
}

/// A ring that misses others too has only just been started: that it misses one says nothing of that one.
fn knows_the_others(ring: &[RingMember], record: &ClusterRecord, except: &PilotName) -> bool {
    record
        .members
        .iter()
        .filter(|(name, _)| *name != except)
        .all(|(_, member)| line_of(ring, &member.identity).is_some())
}

/// Identities that are in some ring as joining, normal or leaving, and that the record does not know.
pub(crate) fn strangers(world: &World, record: &ClusterRecord) -> BTreeSet<(DatabaseIdentity, RingStatus)> {
    let mut found = BTreeSet::new();
    let members: BTreeSet<&DatabaseIdentity> = record.members.values().map(|m| &m.identity).collect();
    for name in record.members.keys() {
        let Some(ring) = world.live_report(name).and_then(|r| r.ring.as_deref()) else {
            continue;
        };
        for line in ring {
            let known = members.contains(&line.identity) || record.retired.contains_key(&line.identity);
            if !known && line.status != RingStatus::Left {
                found.insert((line.identity.clone(), line.status));
            }
        }
    }
    found
}

/// Whether more than half of the members have told their ring: that none of them sees somebody says something only then.
pub(crate) fn most_have_told(world: &World, record: &ClusterRecord) -> bool {
    let told = |name: &&PilotName| world.live_report(name).is_some_and(|report| report.ring.is_some());
    record.members.keys().filter(told).count() * 2 > record.members.len()
}

/// Why not every member, but the one left out, serves and is seen up and normal by all others; `None` where all do.
pub(crate) fn not_all_serving(world: &World, record: &ClusterRecord, left_out: Option<&PilotName>) -> Option<String> {
    let counted = || record.members.iter().filter(|(n, _)| Some(*n) != left_out);
    for (name, _) in counted() {
        match world.live_report(name) {
            None => return Some(format!("the pilot of {name} has not been heard")),
            Some(report) if report.database.phase != DatabasePhase::Serving => {
                return Some(format!("{name} is {}", phase_word(report.database.phase)));
            }
            Some(report) => {
                let Some(ring) = &report.ring else {
                    return Some(format!("the database of {name} has not told its ring"));
                };
                for (other, member) in counted().filter(|(n, _)| *n != name) {
                    match line_of(ring, &member.identity) {
                        Some(l) if l.status == RingStatus::Normal && l.up == Some(true) => {}
                        Some(l) if l.status == RingStatus::Normal && l.up.is_none() => {
                            return Some(format!("{name} does not know yet whether {other} is up"));
                        }
                        Some(l) => {
                            let up = if l.up == Some(false) { ", down" } else { "" };
                            return Some(format!("{name} sees {other} {}{up}", word(l.status)));
                        }
                        None => return Some(format!("{name} does not see {other}")),
                    }
                }
            }
        }
    }
    None
}

/// Members, but the one left out, that do not serve, or that one which serves does not see up; with the reason.
pub(crate) fn away(world: &World, record: &ClusterRecord, left_out: &PilotName) -> BTreeMap<PilotName, String> {
    let counted = || record.members.iter().filter(|(n, _)| *n != left_out);
    let mut away = BTreeMap::new();
    for (name, _) in counted() {
        let why = match world.live_report(name) {
            None => format!("the pilot of {name} has not been heard"),
            Some(report) if report.database.phase != DatabasePhase::Serving => {
                format!("{name} is {}", phase_word(report.database.phase))
            }
            Some(report) => match &report.ring {
                None => format!("the database of {name} has not told its ring"),
                Some(ring) => {
                    for (other, member) in counted().filter(|(n, _)| *n != name) {
                        let up = |l: &&RingMember| l.status == RingStatus::Normal && l.up == Some(true);
                        if line_of(ring, &member.identity).filter(up).is_none() {
                            away.entry(other.clone()).or_insert_with(|| format!("{name} does not see {other} up"));
                        }
                    }
                    continue;
                }
            },
        };
        away.insert(name.clone(), why);
    }
    away
}

/// Why it is not certain that all members have one schema; `None` where it is.
pub(crate) fn schema_unsettled(world: &World, record: &ClusterRecord, left_out: Option<&PilotName>) -> Option<String> {
    record.members.keys().filter(|n| Some(*n) != left_out).find_map(|name| {
        match world.live_report(name).and_then(|r| r.database.schema_agreed) {
            Some(true) => None,
            Some(false) => Some(format!("{name} sees more than one schema version")),
            None => Some(format!("{name} has not told its schema version")),
        }
    })
}

/// The highest replication factor that any live member knows; `None` where none knows.
pub(crate) fn replication(world: &World, record: &ClusterRecord) -> Option<u32> {
    record.members.keys().filter_map(|name| world.live_report(name)?.database.replication).max()
}

fn word(status: RingStatus) -> &'static str {
    match status {
        RingStatus::Joining => "joining",
        RingStatus::Normal => "normal",
        RingStatus::Leaving => "leaving",
        RingStatus::Left => "left",
        RingStatus::Shutdown => "shut down",
        RingStatus::Unknown => "in a state it cannot name",
    }
}

/// A phase for people.
pub(crate) fn phase_word(phase: DatabasePhase) -> &'static str {
    match phase {
        DatabasePhase::Unknown => "not known yet",
        DatabasePhase::Held => "held",
        DatabasePhase::Starting => "starting",
        DatabasePhase::Joining => "joining",
        DatabasePhase::Serving => "serving",
        DatabasePhase::Leaving => "leaving",
        DatabasePhase::Left => "left",
        DatabasePhase::Draining => "draining",
        DatabasePhase::Unresponsive => "unresponsive",
        DatabasePhase::Restarting => "restarting",
        DatabasePhase::CrashLooping => "in a crash loop",
        DatabasePhase::Stopped => "stopped",
        DatabasePhase::JoinFailed => "cut off from what it was taking over",
    }
}
