//! Gossip's view in the words of the protocol.

use crate::gossip::MembershipView;
use protocol::report::Report;
use protocol::time::{Millis, Timestamp};
use protocol::view::{Peer, View};

/// Reads the reports out of a membership view. A report that cannot be read leaves the peer without one.
pub fn translate(view: &MembershipView) -> View {
    let peers = view
        .peers
        .iter()
        .map(|(name, peer)| {
            let report = match Report::from_values(&peer.values) {
                Ok(report) => Some(report),
                Err(error) => {
                    tracing::trace!(peer = %name, %error, "no report yet");
                    None
                }
            };
            let peer = Peer {
                generation: peer.generation,
                liveness: peer.liveness,
                timeout: peer.timeout.map(Millis::from),
                phi: peer.phi.filter(|p| p.is_finite()),
                report,
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
