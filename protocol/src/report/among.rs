//! The ring of a large cluster in few bytes: most of it are pilots' own databases, seen normal and up, and each pilot says
//! whose its database is. Of those one bit each is enough; a hash of the whole tells whether who reads knows the same.

use super::budget::{bytes, read_line, write_line};
use super::{Report, ReportError, put};
use crate::database::{RingMember, RingStatus};
use crate::id::{DatabaseIdentity, PilotName};
use crate::keys;
use crate::shared::Shared;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which identity the database of each pilot of one set has, as the pilots say it; the last one said where one is silent
/// about it now.
#[derive(Debug, Clone, Default)]
pub struct Identities {
    of: BTreeMap<u32, DatabaseIdentity>,
    by: BTreeMap<DatabaseIdentity, u32>,
    revision: u64,
}

impl Identities {
    /// A pilot says whose its database is. One without an ordinal is left aside.
    pub fn note(&mut self, pilot: &PilotName, identity: &DatabaseIdentity) {
        let Some(ordinal) = pilot.ordinal().filter(|ordinal| *ordinal <= MOST_ORDINAL) else { return };
        if self.of.get(&ordinal) == Some(identity) {
            return;
        }
        if let Some(before) = self.of.insert(ordinal, identity.clone()) {
            self.by.remove(&before);
        }
        self.by.insert(identity.clone(), ordinal);
        self.revision += 1;
    }

    /// Changes with every change of what is known.
    pub fn revision(&self) -> u64 {
        self.revision
    }
}

/// The highest ordinal that has a bit: as many as fit one value beside the rest of it.
const MOST_ORDINAL: u32 = 3_000;

/// A ring as it is told where its lines do not fit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RingSet {
    /// A bit for each ordinal from 0, four to a hexadecimal digit, the lowest ordinal in the highest bit: its database is
    /// seen normal and up.
    bits: String,
    /// Everything else, a line each.
    lines: Vec<String>,
    /// Of all lines in order, so that a reader who knows other identities notices.
    hash: String,
}

impl RingSet {
    fn of(ring: &[RingMember], known: &Identities) -> Self {
        let mut digits: Vec<u8> = Vec::new();
        let mut lines = Vec::new();
        for line in ring {
            let whole = line.status == RingStatus::Normal && line.up == Some(true);
            let ordinal = known.by.get(&line.identity).and_then(|o| usize::try_from(*o).ok()).filter(|_| whole);
            match ordinal {
                Some(ordinal) => {
                    let at = ordinal / 4;
                    if digits.len() <= at {
                        digits.resize(at + 1, 0);
                    }
                    if let Some(digit) = digits.get_mut(at) {
                        *digit |= 8 >> (ordinal % 4);
                    }
                }
                None => lines.push(write_line(line)),
            }
        }
        let bits = digits.iter().filter_map(|digit| char::from_digit(u32::from(*digit), 16)).collect();
        Self { bits, lines, hash: hash(ring) }
    }

    /// What was told, if it was told so.
    pub fn read(values: &BTreeMap<String, String>) -> Option<Self> {
        serde_json::from_str(values.get(keys::RING_SET)?).ok()
    }

    /// The ring; nothing where this reader knows other identities than who told it, or too few.
    pub fn resolve(&self, known: &Identities) -> Option<Shared<[RingMember]>> {
        let mut ring: Vec<RingMember> = self.lines.iter().map(|line| read_line(line)).collect::<Option<_>>()?;
        for (at, digit) in (0u32..).zip(self.bits.chars()) {
            let digit = digit.to_digit(16)?;
            for bit in (0..4).filter(|bit| digit & (8 >> bit) != 0) {
                let identity = known.of.get(&(at * 4 + bit))?.clone();
                ring.push(RingMember { identity, status: RingStatus::Normal, up: Some(true) });
            }
        }
        let ring = RingMember::in_order(ring);
        (hash(&ring) == self.hash).then_some(ring)
    }
}

/// FNV-1a, 64 bits: gossip is authenticated, so that it guards against differences and not against enemies.
fn hash(ring: &[RingMember]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for line in ring {
        for byte in write_line(line).bytes().chain([b'\n']) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

impl Report {
    /// As [`Report::to_values`]; a ring whose lines do not fit is told as a set of these identities, if that fits. An older
    /// pilot reads such a ring as one that cannot be asked.
    ///
    /// # Errors
    /// As [`Report::to_values`].
    pub fn to_values_among(&self, known: &Identities) -> Result<BTreeMap<String, String>, ReportError> {
        let mut values = self.to_values()?;
        let (Some(ring), Some("null")) = (&self.ring, values.get(keys::RING).map(String::as_str)) else {
            return Ok(values);
        };
        match put(&mut values, keys::RING_SET, &RingSet::of(ring, known)) {
            Err(ReportError::TooLong { .. }) => {}
            result => result?,
        }
        if bytes(&values) > keys::MOST_BYTES || values.len() > keys::MOST_KEYS {
            values.remove(keys::RING_SET);
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    fn identities(members: usize) -> Identities {
        let mut known = Identities::default();
        for n in 0..members {
            let name = PilotName::parse(&format!("c-{n}")).expect("valid");
            known.note(&name, &DatabaseIdentity::new(format!("{n:036}")));
        }
        known
    }

    fn told(report: &Report, known: &Identities) -> BTreeMap<String, String> {
        let values = report.to_values_among(known).expect("fits");
        assert!(values.iter().all(|(key, value)| key.len() + value.len() <= keys::LONGEST_VALUE));
        values
    }

    #[test]
    fn f54_the_ring_of_a_thousand_members_is_told_in_one_value_and_reads_back_the_same() {
        let mut report = sample(1_000);
        let mut ring = report.ring.as_deref().expect("there").to_vec();
        ring[7].up = Some(false);
        ring[500].status = RingStatus::Leaving;
        ring[999].up = None;
        report.ring = Some(ring.into());
        let known = identities(1_000);
        let values = told(&report, &known);
        let read = RingSet::read(&values).expect("told").resolve(&known);
        assert_eq!(read.as_deref(), report.ring.as_deref());
        assert_eq!(Report::from_values(&values).expect("reads"), Report { ring: None, ..report }, "to an older pilot");
    }

    #[test]
    fn who_knows_other_identities_or_fewer_than_the_teller_reads_no_ring() {
        let report = sample(400);
        let values = told(&report, &identities(400));
        let set = RingSet::read(&values).expect("told");
        assert!(set.resolve(&identities(399)).is_none());
        let mut other = identities(400);
        other.note(&PilotName::parse("c-5").expect("valid"), &DatabaseIdentity::new("another"));
        assert!(set.resolve(&other).is_none());
        assert!(set.resolve(&identities(500)).is_some(), "more are no harm");
    }

    #[test]
    fn a_small_ring_is_told_in_lines_as_before() {
        let values = told(&sample(50), &identities(50));
        assert!(!values.contains_key(keys::RING_SET));
        assert_eq!(Report::from_values(&values).expect("reads"), sample(50));
    }

    #[test]
    fn too_many_that_are_no_pilots_own_are_not_told_at_all() {
        let values = told(&sample(400), &identities(300));
        assert!(!values.contains_key(keys::RING_SET));
        assert_eq!(Report::from_values(&values).expect("reads"), Report { ring: None, ..sample(400) });
    }
}
