//! Rows that a client writes at QUORUM throughout, and where their copies are: what was acknowledged must survive.
//!
//! Each row has its copies on the members that rank highest for it by a hash (rendezvous hashing, Thaler and
//! Ravishankar 1998), so that a join displaces just one copy of a row, and a leave makes just one new one, as in a ring
//! of tokens. Who joins streams each row from the member whose copy it displaces (Cassandra's *consistent range
//! movement*); who leaves hands each row to the member that holds its copy from then on.

use super::database::{Kind, REPLICATION, Stage};
use super::oracle::Rule;
use super::{Happening, World};
use protocol::id::{DatabaseIdentity, PilotName, Uid};
use std::collections::{BTreeMap, BTreeSet};

/// Between two rows.
const EVERY: u64 = 1_000;

/// Rows between two looks of a person who approves.
const LOOKS: u32 = 20;

/// A full member, by what lies on the volumes: the truth, whoever knows it.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) claim: Uid,
    pub(crate) identity: DatabaseIdentity,
    /// Its pod, where its process runs and can be written to and read from.
    pub(crate) serves_in: Option<PilotName>,
}

/// The client.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    next: u32,
    /// Those whose writing was acknowledged, and which nobody's lost disk has touched since.
    acknowledged: BTreeSet<u32>,
    /// Those that a lost disk touched, by its claim: they are judged again when its member has been replaced.
    endangered: BTreeMap<Uid, BTreeSet<u32>>,
    /// Claims of a set that was deleted: what lies there is another cluster's.
    gone: BTreeSet<Uid>,
    /// So many writes were refused for want of a quorum.
    pub(crate) refused: u64,
}

impl Rows {
    /// The next write of a register that is never made smaller; `done` says whether it was acknowledged.
    pub(crate) fn registers(&mut self, done: bool) {
        let row = self.next;
        self.next += 1;
        if done {
            self.acknowledged.insert(row);
        } else {
            self.refused += 1;
        }
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }
}

fn weight(row: u32, identity: &DatabaseIdentity) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ u64::from(row).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in identity.as_str().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The last bytes alone would order alike for all rows.
    hash ^= hash >> 29;
    hash.wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (hash >> 32)
}

/// Which of these hold the copies of a row.
fn homes<'a>(row: u32, members: impl Iterator<Item = &'a DatabaseIdentity>) -> Vec<&'a DatabaseIdentity> {
    let mut ranked: Vec<(u64, &DatabaseIdentity)> = members.map(|identity| (weight(row, identity), identity)).collect();
    ranked.sort();
    ranked.into_iter().rev().take(REPLICATION as usize).map(|(_, identity)| identity).collect()
}

impl World {
    /// All full members. Who took its part over, and was ended before anybody heard of that, is none as long as it is down: no
    /// ring has it, so others take from, and hand to, the members that would hold its part without it.
    pub(crate) fn full_members(&self) -> Vec<Member> {
        let members = self.who_took_a_part_over();
        let runs = |claim: &Uid| self.databases.processes.values().any(|process| process.claim == *claim);
        let counts = |member: &&Member| !self.is_unheard_of(&members, member) || runs(&member.claim);
        members.iter().filter(counts).cloned().collect()
    }

    /// Whether there are others, and none of them has heard that this one is a member.
    fn is_unheard_of(&self, members: &[Member], member: &Member) -> bool {
        let others = || members.iter().filter(|other| other.claim != member.claim);
        others().next().is_some() && !others().any(|other| self.knows_of(&other.claim, &member.identity))
    }

    /// Whether it has written down that this one is a member like itself.
    fn knows_of(&self, claim: &Uid, identity: &DatabaseIdentity) -> bool {
        self.volumes.get(claim).and_then(|v| v.data.as_ref()).is_some_and(|data| data.peers.contains(identity))
    }

    fn who_took_a_part_over(&self) -> Vec<Member> {
        let serving: BTreeMap<&Uid, &PilotName> = self
            .databases
            .processes
            .iter()
            .filter(|(_, p)| !p.hangs(self.now) && matches!(p.stage, Stage::Serving | Stage::Leaving(_)))
            .map(|(name, p)| (&p.claim, name))
            .collect();
        self.volumes
            .iter()
            .filter(|(claim, _)| !self.rows.gone.contains(*claim))
            .filter_map(|(claim, volume)| {
                let data = volume.data.as_ref().filter(|d| d.is_full_member())?;
                let serves_in = serving.get(claim).copied().cloned();
                Some(Member { claim: claim.clone(), identity: data.identity.clone(), serves_in })
            })
            .collect()
    }

    /// The rows that each full member holds.
    fn rows_held(&self) -> BTreeMap<&DatabaseIdentity, &BTreeSet<u32>> {
        let data = self.volumes.values().filter_map(|v| v.data.as_ref());
        data.filter(|d| d.is_full_member()).map(|d| (&d.identity, &d.rows)).collect()
    }

    /// The client writes the next row through some member, and again in a moment.
    pub(crate) fn write_row(&mut self) {
        self.after(EVERY, Happening::Row);
        if self.options.approves && self.rows.next.is_multiple_of(LOOKS) {
            self.approve();
        }
        match self.options.database {
            Kind::Ring => self.write_row_to_ring(),
            Kind::Etcd => self.write_register(),
        }
    }

    fn write_row_to_ring(&mut self) {
        let members = self.full_members();
        let row = self.rows.next;
        self.rows.next += 1;
        let serving: Vec<&PilotName> = members.iter().filter_map(|m| m.serves_in.as_ref()).collect();
        let Some(through) = self.chances.rows.pick(&serving).copied() else { return };
        let homes = homes(row, members.iter().map(|m| &m.identity));
        let reached: Vec<Uid> = members
            .iter()
            .filter(|m| homes.contains(&&m.identity))
            .filter(|m| m.serves_in.as_ref().is_some_and(|pod| self.reaches(through, pod)))
            .map(|m| m.claim.clone())
            .collect();
        if reached.len() * 2 <= homes.len() {
            self.rows.refused += 1;
            return;
        }
        for claim in reached {
            if let Some(data) = self.volumes.get_mut(&claim).and_then(|v| v.data.as_mut()) {
                data.rows.insert(row);
            }
        }
        self.rows.acknowledged.insert(row);
    }

    /// A member has taken its part over: from whoever held it before.
    pub(crate) fn rows_arrive(&mut self, joined: &DatabaseIdentity, replaces: bool) {
        let members = self.full_members();
        let holds = self.rows_held();
        let mut rows = BTreeSet::new();
        for row in 0..self.rows.next {
            let after = homes(row, members.iter().map(|m| &m.identity));
            if !after.contains(&joined) {
                continue;
            }
            let before = homes(row, members.iter().map(|m| &m.identity).filter(|i| *i != joined));
            let displaced: Vec<&&DatabaseIdentity> = before.iter().filter(|i| !after.contains(i)).collect();
            // Where it displaces nobody it is one more copy, and any of the others will do. A replacement takes what it takes
            // over from one of those that hold a copy, whichever that is.
            let sources: Vec<&&DatabaseIdentity> = match displaced.is_empty() {
                true if replaces => before.iter().take(1).collect(),
                true => before.iter().collect(),
                false => displaced,
            };
            if sources.into_iter().any(|i| holds.get(*i).is_some_and(|rows| rows.contains(&row))) {
                rows.insert(row);
            }
        }
        if let Some(data) = self.volumes.values_mut().filter_map(|v| v.data.as_mut()).find(|d| d.identity == *joined) {
            data.rows.extend(rows);
        }
    }

    /// A member that leaves hands over what it holds. False where somebody who is to take something cannot be written to:
    /// then nothing has left, and the leave has failed.
    pub(crate) fn hand_rows_over(&mut self, leaver: &PilotName) -> bool {
        let Some(claim) = self.databases.processes.get(leaver).map(|p| p.claim.clone()) else { return false };
        let members = self.full_members();
        let Some(own) = members.iter().find(|m| m.claim == claim) else { return false };
        let others: Vec<&Member> = members.iter().filter(|m| m.claim != claim).collect();
        let away = |m: &&Member| m.serves_in.as_ref().is_none_or(|pod| !self.reaches(leaver, pod));
        // Who has lost its disk is a member to the leaver still, and cannot be written to.
        let lost =
            |identity: &DatabaseIdentity| *identity != own.identity && !members.iter().any(|m| m.identity == *identity);
        let known = self.volumes.get(&claim).and_then(|v| v.data.as_ref()).map(|d| &d.peers);
        if others.iter().any(away) || known.is_some_and(|peers| peers.iter().any(lost)) {
            return false;
        }
        let Some(rows) = self.volumes.get(&claim).and_then(|v| v.data.as_ref()).map(|d| d.rows.clone()) else {
            return false;
        };
        let mut given: BTreeMap<Uid, Vec<u32>> = BTreeMap::new();
        for row in rows {
            let before = homes(row, members.iter().map(|m| &m.identity));
            if !before.contains(&&own.identity) {
                continue;
            }
            let after = homes(row, others.iter().map(|m| &m.identity));
            for member in others.iter().filter(|m| after.contains(&&m.identity) && !before.contains(&&m.identity)) {
                given.entry(member.claim.clone()).or_default().push(row);
            }
        }
        for (claim, rows) in given {
            if let Some(data) = self.volumes.get_mut(&claim).and_then(|v| v.data.as_mut()) {
                data.rows.extend(rows);
            }
        }
        self.has_handed_over(&claim, true);
        true
    }

    /// Whether others hold this member's part, who has not written that down yet: it may be killed before it has.
    fn has_handed_over(&mut self, claim: &Uid, handed_over: bool) {
        if let Some(data) = self.volumes.get_mut(claim).and_then(|v| v.data.as_mut()) {
            data.handed_over = handed_over;
        }
    }

    /// A member serves: whatever it handed over before, it owns its part. One of which nobody had heard lacks what was written
    /// while it was down: it is taken to be repaired at once, which is its user's to do.
    pub(crate) fn owns_its_part(&mut self, pod: &PilotName) {
        let Some(claim) = self.databases.processes.get(pod).map(|p| p.claim.clone()) else { return };
        self.has_handed_over(&claim, false);
        let members = self.who_took_a_part_over();
        if let Some(own) = members.iter().find(|m| m.claim == claim).filter(|own| self.is_unheard_of(&members, own)) {
            self.rows_arrive(&own.identity, false);
        }
    }

    /// Data is about to be moved aside: nobody's who owns a part. As a member to others of its cluster, that is: who took a
    /// part over and was killed before anybody heard of it owns nothing.
    pub(crate) fn judge_owned_rows_aside(&mut self, pod: &PilotName, claim: &Uid, runs: bool) {
        let Some(data) = self.volumes.get(claim).and_then(|v| v.data.as_ref()) else { return };
        if runs || !data.is_full_member() || self.rows.gone.contains(claim) {
            return;
        }
        let mut others = self.volumes.keys().filter(|other| *other != claim && !self.rows.gone.contains(*other));
        if others.any(|other| self.knows_of(other, &data.identity)) {
            let why = format!("{pod} moves the data of {} aside, which still owns its part", data.identity);
            self.oracle.broken(Rule::Data, why);
        }
    }

    /// A member's disk is lost, which nobody but its user can help: what had only a majority of copies is in danger by
    /// that alone, and is not judged until that member has been replaced.
    pub(crate) fn rows_are_lost_with(&mut self, claim: &Uid) {
        if let Some(data) = self.volumes.get(claim).and_then(|v| v.data.as_ref()) {
            let touched: BTreeSet<u32> = self.rows.acknowledged.intersection(&data.rows).copied().collect();
            self.rows.acknowledged.retain(|row| !touched.contains(row));
            self.rows.endangered.entry(claim.clone()).or_default().extend(touched);
        }
    }

    /// A person repairs all full members but this one: whatever one of them holds, all of its homes have. False where one of
    /// them is away.
    pub(crate) fn repair_all_but(&mut self, lost: &Uid) -> bool {
        let mut members = self.full_members();
        members.retain(|member| member.claim != *lost);
        if members.iter().any(|member| member.serves_in.is_none()) {
            return false;
        }
        let holds = self.rows_held();
        let held = members.iter().filter_map(|member| holds.get(&member.identity));
        let held: BTreeSet<u32> = held.flat_map(|rows| rows.iter().copied()).collect();
        for row in held {
            let homes = homes(row, members.iter().map(|m| &m.identity));
            for member in members.iter().filter(|m| homes.contains(&&m.identity)) {
                if let Some(data) = self.volumes.get_mut(&member.claim).and_then(|v| v.data.as_mut()) {
                    data.rows.insert(row);
                }
            }
        }
        true
    }

    /// The member on this claim has been replaced: what its disk held and somebody else too is read at QUORUM again.
    pub(crate) fn rows_are_safe_again(&mut self, claim: &Uid) {
        let endangered = self.rows.endangered.remove(claim).unwrap_or_default();
        let held: BTreeSet<u32> = self.rows_held().into_values().flatten().copied().collect();
        self.rows.acknowledged.extend(endangered.intersection(&held));
    }

    /// The set was made again: its rows are another cluster's.
    pub(crate) fn rows_of_another_cluster(&mut self) {
        self.rows.gone.extend(self.volumes.keys().cloned());
        self.rows.acknowledged.clear();
        self.rows.endangered.clear();
    }

    /// C-DATA: what was acknowledged is read at QUORUM, whichever members answer.
    pub(crate) fn judge_rows(&mut self) {
        match self.options.database {
            Kind::Ring => self.judge_rows_of_ring(),
            Kind::Etcd => self.judge_register(),
        }
    }

    fn judge_rows_of_ring(&mut self) {
        let members = self.full_members();
        let holds = self.rows_held();
        let missing: Vec<u32> = self
            .rows
            .acknowledged
            .iter()
            .copied()
            .filter(|row| {
                let homes = homes(*row, members.iter().map(|m| &m.identity));
                let copies = homes.iter().filter(|i| holds.get(**i).is_some_and(|rows| rows.contains(row))).count();
                let lacking = homes.len() - copies;
                // Some majority that answers has no copy.
                lacking * 2 > homes.len() || copies == 0
            })
            .collect();
        if let Some(first) = missing.first() {
            let of = self.rows.acknowledged.len();
            let homes = homes(*first, members.iter().map(|m| &m.identity));
            let held: Vec<String> =
                holds.iter().filter(|(_, rows)| rows.contains(first)).map(|(i, _)| i.to_string()).collect();
            let homes: Vec<String> = homes.iter().map(ToString::to_string).collect();
            let why = format!(
                "of {of} acknowledged rows {} cannot be read at QUORUM; row {first} belongs on {} and is held by {}; all are {missing:?}",
                missing.len(),
                homes.join(", "),
                held.join(", ")
            );
            self.oracle.broken(Rule::Data, why);
        }
    }
}
