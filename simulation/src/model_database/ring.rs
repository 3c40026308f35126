//! Who is in the ring and who holds which row. Pure: time comes in as an argument.

use agent::driver::model::wire::Mode;
use protocol::database::{RingMember, RingStatus};
use protocol::id::DatabaseIdentity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// What one member says of itself; others pass it on unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) id: DatabaseIdentity,
    /// Where it is now: any restart may change it.
    pub(super) address: SocketAddr,
    /// Counts its starts.
    pub(super) generation: u64,
    /// Counts its words about itself within a start.
    pub(super) version: u64,
    /// Grows as long as it lives.
    pub(super) beat: u64,
    pub(super) status: RingStatus,
}

/// Generation, version and beat: which of two words of one member is the later.
pub(super) type Age = (u64, u64, u64);

impl Entry {
    pub(super) fn age(&self) -> Age {
        (self.generation, self.version, self.beat)
    }
}

/// An entry and what we think of its owner.
#[derive(Debug, Clone)]
struct Known {
    entry: Entry,
    /// When it was first heard of, or when its last life began, on our clock.
    first: Duration,
    /// When it last grew.
    grew: Option<Duration>,
    /// This life of a joining member was silent too long once: writes may have passed it by.
    lapsed: bool,
}

/// A member that was silent while joining is shown no more after so many times the usual silence.
const FORGOTTEN_AFTER: u32 = 8;

/// All entries.
#[derive(Debug, Clone)]
pub(super) struct Ring {
    own: DatabaseIdentity,
    silence: Duration,
    known: BTreeMap<DatabaseIdentity, Known>,
}

/// Whom a row concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Its replicas: a quorum of them is asked.
    pub(super) natural: Vec<DatabaseIdentity>,
    /// Replicas to be, because somebody joins or leaves: every one of them must have each new write too.
    pub(super) pending: Vec<DatabaseIdentity>,
}

impl Ring {
    pub(super) fn new(own: DatabaseIdentity, silence: Duration) -> Self {
        Self { own, silence, known: BTreeMap::new() }
    }

    /// Takes the newer of each entry. True where something other than a heartbeat changed.
    pub(super) fn merge(&mut self, entries: Vec<Entry>, now: Duration) -> bool {
        let mut changed = false;
        for entry in entries {
            if entry.id != self.own {
                changed |= self.take(entry, now);
            }
        }
        changed
    }

    /// Sets our own entry.
    pub(super) fn speak(&mut self, entry: Entry, now: Duration) {
        self.take(entry, now);
    }

    fn take(&mut self, entry: Entry, now: Duration) -> bool {
        let Some(known) = self.known.get_mut(&entry.id) else {
            self.known.insert(entry.id.clone(), Known { entry, first: now, grew: None, lapsed: false });
            return true;
        };
        // Whoever has left has left for good, whatever an old copy of its volume says.
        if known.entry.status == RingStatus::Left || entry.age() <= known.entry.age() {
            return false;
        }
        let changed = (entry.status, entry.address) != (known.entry.status, known.entry.address);
        if entry.generation > known.entry.generation {
            known.first = now;
            known.lapsed = false;
        }
        known.entry = entry;
        known.grew = Some(now);
        changed
    }

    /// It answered us itself.
    pub(super) fn heard(&mut self, id: &DatabaseIdentity, now: Duration) {
        if let Some(known) = self.known.get_mut(id) {
            known.grew = Some(now);
        }
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.known.values().map(|k| k.entry.clone()).collect()
    }

    /// What somebody who knows `known` does not know.
    pub(super) fn news_to(&self, known: &[(DatabaseIdentity, Age)]) -> Vec<Entry> {
        let known: BTreeMap<_, _> = known.iter().map(|(id, age)| (id, *age)).collect();
        let news = |e: &&Entry| known.get(&e.id).is_none_or(|age| *age < e.age());
        self.known.values().map(|k| &k.entry).filter(news).cloned().collect()
    }

    pub(super) fn entry(&self, id: &DatabaseIdentity) -> Option<&Entry> {
        self.known.get(id).map(|k| &k.entry)
    }

    /// Everybody else that has not left, in order.
    pub(super) fn others(&self) -> Vec<DatabaseIdentity> {
        self.known.values().filter(|k| k.entry.id != self.own && k.entry.status != RingStatus::Left).map(id).collect()
    }

    /// Others that hold or will hold rows; up or not.
    pub(super) fn other_members(&self) -> Vec<DatabaseIdentity> {
        self.known.values().filter(|k| k.entry.id != self.own && owns(k.entry.status)).map(id).collect()
    }

    /// Whom to talk to in one round: the one we heard of longest ago among those that may live, and one in turn.
    pub(super) fn partners(&self, round: u64, now: Duration) -> Vec<DatabaseIdentity> {
        let others = self.others();
        let stalest = self
            .known
            .values()
            .filter(|k| others.contains(&k.entry.id) && self.up_of(k, now) != Some(false))
            .min_by_key(|k| k.grew)
            .map(id);
        let length = u64::try_from(others.len()).unwrap_or(u64::MAX);
        let turn = round.checked_rem(length).and_then(|turn| usize::try_from(turn).ok());
        let mut partners: Vec<_> = stalest.into_iter().chain(turn.map(|turn| others[turn].clone())).collect();
        partners.dedup();
        partners
    }

    /// Whether it lives, as far as we heard.
    pub(super) fn up(&self, id: &DatabaseIdentity, now: Duration) -> Option<bool> {
        self.known.get(id).and_then(|k| self.up_of(k, now))
    }

    fn up_of(&self, known: &Known, now: Duration) -> Option<bool> {
        if known.entry.id == self.own {
            return Some(true);
        }
        if matches!(known.entry.status, RingStatus::Shutdown | RingStatus::Left) {
            return Some(false);
        }
        match known.grew {
            Some(grew) => Some(now.saturating_sub(grew) <= self.silence),
            None if now.saturating_sub(known.first) <= self.silence => None,
            None => Some(false),
        }
    }

    /// Notes which joining members were silent too long.
    pub(super) fn judge(&mut self, now: Duration) {
        let silent: Vec<_> = self
            .known
            .values()
            .filter(|k| k.entry.status == RingStatus::Joining && self.up_of(k, now) == Some(false))
            .map(id)
            .collect();
        for id in silent {
            if let Some(known) = self.known.get_mut(&id) {
                known.lapsed = true;
            }
        }
    }

    /// Whether this life of a joining member was given every write since it was announced.
    pub(super) fn unbroken(&self, id: &DatabaseIdentity, generation: u64) -> bool {
        self.known
            .get(id)
            .is_some_and(|k| k.entry.status == RingStatus::Joining && k.entry.generation == generation && !k.lapsed)
    }

    /// Somebody else whose joining or leaving forbids to begin another.
    pub(super) fn in_motion(&self, now: Duration) -> Option<DatabaseIdentity> {
        self.known
            .values()
            .filter(|k| k.entry.id != self.own)
            .find(|k| match k.entry.status {
                RingStatus::Joining => !k.lapsed && self.up_of(k, now) != Some(false),
                RingStatus::Leaving => true,
                RingStatus::Normal | RingStatus::Left | RingStatus::Shutdown | RingStatus::Unknown => false,
            })
            .map(id)
    }

    /// A number that is equal where the same members hold rows and join or leave: replicas refuse what was sent by
    /// another ring than theirs.
    pub(super) fn digest(&self) -> u64 {
        let mut digest = 0;
        for Known { entry, .. } in self.known.values() {
            let class = match entry.status {
                RingStatus::Normal | RingStatus::Shutdown => 1,
                RingStatus::Joining => 2,
                RingStatus::Leaving => 3,
                RingStatus::Left | RingStatus::Unknown => continue,
            };
            digest = mix(digest ^ hash(entry.id.as_str()).wrapping_add(class));
        }
        digest
    }

    /// Who holds a row: of all owners the `replication` with the highest score for it, so that a change of the ring
    /// moves only what it must.
    pub(super) fn place(&self, key: &str, replication: u32) -> Place {
        let natural = self.highest(key, replication, |k| owns(k.entry.status));
        let future = self.highest(key, replication, |k| match k.entry.status {
            RingStatus::Normal | RingStatus::Shutdown => true,
            RingStatus::Joining => !k.lapsed,
            RingStatus::Leaving | RingStatus::Left | RingStatus::Unknown => false,
        });
        let pending = future.into_iter().filter(|id| !natural.contains(id)).collect();
        Place { natural, pending }
    }

    fn highest(&self, key: &str, replication: u32, counts: impl Fn(&Known) -> bool) -> Vec<DatabaseIdentity> {
        let key = hash(key);
        let mut scored: Vec<(u64, &DatabaseIdentity)> = self
            .known
            .values()
            .filter(|k| counts(k))
            .map(|k| (mix(key ^ hash(k.entry.id.as_str())), &k.entry.id))
            .collect();
        scored.sort_unstable_by(|a, b| b.cmp(a));
        let most = usize::try_from(replication).unwrap_or(usize::MAX);
        scored.into_iter().take(most).map(|(_, id)| id.clone()).collect()
    }

    /// The ring for a person or a pilot.
    pub(super) fn shown(&self, now: Duration) -> Vec<RingMember> {
        let forgotten = |k: &Known| {
            let heard = k.grew.unwrap_or(k.first);
            k.entry.status == RingStatus::Joining
                && k.entry.id != self.own
                && now.saturating_sub(heard) > self.silence * FORGOTTEN_AFTER
        };
        self.known
            .values()
            .filter(|k| !forgotten(k))
            .map(|k| RingMember { identity: id(k), status: k.entry.status, up: self.up_of(k, now) })
            .collect()
    }
}

/// What a member is in the ring while it does this; `None` where it says nothing of itself.
pub(super) fn status_of(mode: Mode) -> Option<RingStatus> {
    match mode {
        Mode::Starting => None,
        Mode::Joining => Some(RingStatus::Joining),
        Mode::Normal => Some(RingStatus::Normal),
        Mode::Leaving => Some(RingStatus::Leaving),
        Mode::Left => Some(RingStatus::Left),
        Mode::Draining | Mode::Drained => Some(RingStatus::Shutdown),
    }
}

/// Replicas of which more than half are asked.
pub(super) fn quorum(replication: u32) -> usize {
    usize::try_from(replication / 2 + 1).unwrap_or(usize::MAX)
}

fn owns(status: RingStatus) -> bool {
    matches!(status, RingStatus::Normal | RingStatus::Shutdown | RingStatus::Leaving)
}

fn id(known: &Known) -> DatabaseIdentity {
    known.entry.id.clone()
}

/// FNV-1a, then mixed: the same on every machine and in every version.
pub(super) fn hash(text: &str) -> u64 {
    let fnv =
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    mix(fnv)
}

/// The finalizer of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
