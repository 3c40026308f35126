//! Gossip's view in the words of the protocol.

use crate::gossip::{MembershipView, Values};
use protocol::id::PilotName;
use protocol::report::Report;
use protocol::time::{Millis, Timestamp};
use protocol::view::{Peer, View};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reports read out of what peers say, kept as long as a peer says the same: in a quiet mesh a round reads nothing anew.
#[derive(Debug, Default)]
pub struct Reports(BTreeMap<PilotName, (Arc<Values>, Option<Arc<Report>>)>);

impl Reports {
    /// Reads the reports out of a membership view. A report that cannot be read leaves the peer without one.
    pub fn translate(&mut self, view: &MembershipView) -> View {
        self.0.retain(|name, _| view.peers.contains_key(name));
        let peers = view
            .peers
            .iter()
            .map(|(name, peer)| {
                let peer = Peer {
                    generation: peer.generation,
                    liveness: peer.liveness,
                    timeout: peer.timeout.map(Millis::from),
                    phi: peer.phi.filter(|p| p.is_finite()),
                    report: self.report(name, &peer.values),
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

    fn report(&mut self, name: &PilotName, values: &Arc<Values>) -> Option<Arc<Report>> {
        if let Some((said, report)) = self.0.get(name)
            && (Arc::ptr_eq(said, values) || said == values)
        {
            return report.clone();
        }
        let report = match Report::from_values(values) {
            Ok(report) => Some(Arc::new(report)),
            Err(error) => {
                tracing::trace!(peer = %name, %error, "no report yet");
                None
            }
        };
        self.0.insert(name.clone(), (Arc::clone(values), report.clone()));
        report
    }
}
