//! Gossip's view in the words of the protocol.

use crate::gossip::{MembershipView, Values};
use protocol::database::RingMember;
use protocol::id::PilotName;
use protocol::report::{Identities, Report, ReportError, RingSet};
use protocol::shared::Shared;
use protocol::time::{Millis, Timestamp};
use protocol::view::{Peer, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Reports read out of what peers say, kept as long as a peer says the same: in a quiet mesh a round reads nothing anew.
#[derive(Debug, Default)]
pub struct Reports {
    read: BTreeMap<PilotName, Read>,
    identities: Identities,
    /// Rings that were told as sets, by how they were told: in a quiet mesh all of them are told alike, and are held once.
    rings: BTreeMap<RingSet, Option<Shared<[RingMember]>>>,
    /// What was known when they were resolved.
    resolved_at: u64,
}

#[derive(Debug)]
struct Read {
    said: Arc<Values>,
    report: Option<Arc<Report>>,
    /// The ring is told as a set.
    set: Option<RingSet>,
}

impl Reports {
    /// Reads the reports out of a membership view. A report that cannot be read leaves the peer without one.
    pub fn translate(&mut self, view: &MembershipView) -> View {
        self.read.retain(|name, _| view.peers.contains_key(name));
        for (name, peer) in &view.peers {
            self.take(name, &peer.values);
        }
        self.resolve();
        let peers = view
            .peers
            .iter()
            .map(|(name, peer)| {
                let peer = Peer {
                    generation: peer.generation,
                    liveness: peer.liveness,
                    timeout: peer.timeout.map(Millis::from),
                    phi: peer.phi.filter(|p| p.is_finite()),
                    report: self.read.get(name).and_then(|read| read.report.clone()),
                };
                (name.clone(), peer)
            })
            .collect();
        View {
            at: Timestamp::from_millis(u64::try_from(view.at.as_millis()).unwrap_or(u64::MAX)),
            peers,
            woken: view.woken,
            lonely: view.lonely,
            digest_bytes: view.digest_bytes,
        }
    }

    /// What this pilot says of itself as gossip carries it, and whose its own database is.
    ///
    /// # Errors
    /// As [`Report::to_values`].
    pub fn tell(&mut self, own: &PilotName, report: &Report) -> Result<BTreeMap<String, String>, ReportError> {
        if let Some(identity) = &report.database.identity {
            self.identities.note(own, identity);
        }
        report.to_values_among(&self.identities)
    }

    fn take(&mut self, name: &PilotName, values: &Arc<Values>) {
        if self.read.get(name).is_some_and(|read| Arc::ptr_eq(&read.said, values) || read.said == *values) {
            return;
        }
        let report = match Report::from_values(values) {
            Ok(report) => Some(Arc::new(report)),
            Err(error) => {
                tracing::trace!(peer = %name, %error, "no report yet");
                None
            }
        };
        if let Some(identity) = report.as_ref().and_then(|report| report.database.identity.as_ref()) {
            self.identities.note(name, identity);
        }
        let set = report.as_ref().filter(|report| report.ring.is_none()).and_then(|_| RingSet::read(values));
        self.read.insert(name.clone(), Read { said: Arc::clone(values), report, set });
    }

    /// Finds the rings that are told as sets: those that are new, and all of them where other identities are known now.
    fn resolve(&mut self) {
        if self.resolved_at != self.identities.revision() {
            self.resolved_at = self.identities.revision();
            self.rings.clear();
        }
        let told: BTreeSet<&RingSet> = self.read.values().filter_map(|read| read.set.as_ref()).collect();
        self.rings.retain(|set, _| told.contains(set));
        for read in self.read.values_mut() {
            let (Some(set), Some(report)) = (&read.set, &mut read.report) else { continue };
            let ring = match self.rings.get(set) {
                Some(ring) => ring.clone(),
                None => {
                    let ring = set.resolve(&self.identities);
                    self.rings.insert(set.clone(), ring.clone());
                    ring
                }
            };
            if report.ring != ring {
                Arc::make_mut(report).ring = ring;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::{GossipCounters, OwnView, PeerView};
    use crate::http::sample::report;
    use protocol::database::RingStatus;
    use protocol::id::{DatabaseIdentity, Generation};
    use protocol::view::Liveness;
    use std::time::Duration;

    fn name(ordinal: u32) -> PilotName {
        PilotName::parse(&format!("c-{ordinal}")).expect("valid")
    }

    fn identity(ordinal: u32) -> DatabaseIdentity {
        DatabaseIdentity::new(format!("{ordinal:036}"))
    }

    /// What each of so many pilots says; they see all of them normal and up.
    fn said(members: u32) -> BTreeMap<PilotName, BTreeMap<String, String>> {
        let whole = |n| RingMember { identity: identity(n), status: RingStatus::Normal, up: Some(true) };
        let ring: Shared<[RingMember]> = (0..members).map(whole).collect();
        let mut reports = Reports::default();
        (0..members).for_each(|n| reports.identities.note(&name(n), &identity(n)));
        (0..members)
            .map(|n| {
                let mut report = report(0);
                report.database.identity = Some(identity(n));
                report.ring = Some(ring.clone());
                (name(n), reports.tell(&name(n), &report).expect("fits"))
            })
            .collect()
    }

    fn view(said: &BTreeMap<PilotName, BTreeMap<String, String>>, own: &PilotName) -> MembershipView {
        let address = "127.0.0.1:7000".parse().expect("valid");
        let peer = |values: &BTreeMap<String, String>| PeerView {
            generation: Generation(1),
            address,
            liveness: Liveness::Live,
            met: true,
            heartbeat: 1,
            silence: Duration::ZERO,
            timeout: None,
            phi: None,
            values: Arc::new(values.clone()),
        };
        MembershipView {
            at: Duration::ZERO,
            own: OwnView { name: own.clone(), generation: Generation(1), address, values: Arc::default() },
            peers: said.iter().filter(|(name, _)| *name != own).map(|(name, v)| (name.clone(), peer(v))).collect(),
            digest_bytes: 0,
            lives: 0,
            woken: false,
            lonely: false,
            restarts: 0,
            incidents: Vec::new(),
            counters: GossipCounters::default(),
        }
    }

    #[test]
    fn f54_rings_of_a_thousand_that_are_told_alike_are_held_once() {
        let said = said(1_000);
        let mut reports = Reports::default();
        reports.identities.note(&name(0), &identity(0));
        let view = reports.translate(&view(&said, &name(0)));
        let rings: Vec<&Shared<[RingMember]>> = view
            .peers
            .values()
            .map(|peer| peer.report.as_ref().and_then(|report| report.ring.as_ref()).expect("a ring"))
            .collect();
        assert_eq!((rings.len(), rings[0].len()), (999, 1_000));
        assert!(rings.iter().all(|ring| ring.is_same(rings[0])));
    }

    #[test]
    fn a_ring_is_known_once_every_pilot_has_said_whose_its_database_is() {
        let mut said = said(300);
        let late = said.remove(&name(7)).expect("there");
        let mut reports = Reports::default();
        reports.identities.note(&name(0), &identity(0));
        let ring = |view: &View| view.peers[&name(1)].report.as_ref().and_then(|r| r.ring.clone());
        assert_eq!(ring(&reports.translate(&view(&said, &name(0)))), None);
        said.insert(name(7), late);
        assert_eq!(ring(&reports.translate(&view(&said, &name(0)))).map(|ring| ring.len()), Some(300));
        // It is away for a while: what it said last still stands.
        said.remove(&name(7));
        assert_eq!(ring(&reports.translate(&view(&said, &name(0)))).map(|ring| ring.len()), Some(300));
    }
}
