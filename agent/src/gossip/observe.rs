//! From chitchat's state to a view: the newest life of each name.

use super::membership::{DEPARTING, PeerView, Values};
use super::settings::GossipSettings;
use chitchat::{Chitchat, ChitchatId};
use protocol::id::{Generation, PilotName};
use protocol::view::Liveness;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

struct Track {
    heartbeat: u64,
    changed: Duration,
    met: bool,
    version: u64,
    values: Arc<Values>,
}

/// Remembers of each life when it beat last; chitchat knows, but does not tell.
#[derive(Default)]
pub(super) struct Observer {
    tracks: BTreeMap<ChitchatId, Track>,
}

/// What one look shows.
pub(super) struct Seen {
    pub(super) peers: BTreeMap<PilotName, PeerView>,
    pub(super) digest_bytes: usize,
    pub(super) lives: usize,
    /// The highest other life, or the same at another address, under the pilot's own name.
    pub(super) impostor: Option<Generation>,
}

impl Observer {
    pub(super) fn look(&mut self, now: Duration, chitchat: &Chitchat, settings: &GossipSettings) -> Seen {
        let own = chitchat.self_chitchat_id();
        let live: BTreeSet<&ChitchatId> = chitchat.live_nodes().collect();
        let mut seen = Seen { peers: BTreeMap::new(), digest_bytes: 0, lives: 0, impostor: None };
        for (id, state) in chitchat.node_states() {
            // Heartbeat, two versions, generation, lengths, name and address, as the uncompressed digest has them.
            let address = if id.gossip_advertise_addr.is_ipv4() { 41 } else { 53 };
            seen.digest_bytes += address + id.node_id.len();
            seen.lives += 1;
            if id.node_id == own.node_id {
                if id.generation_id >= own.generation_id && id != own {
                    seen.impostor = seen.impostor.max(Some(Generation(id.generation_id)));
                }
                continue;
            }
            // A name that is no pilot's cannot have come from a pilot.
            let Ok(name) = PilotName::parse(&id.node_id) else {
                continue;
            };
            let heartbeat = u64::from(state.heartbeat());
            let is_live = live.contains(id);
            let track = self.tracks.entry(id.clone()).or_insert_with(|| Track {
                heartbeat,
                changed: now,
                met: false,
                version: 0,
                values: Arc::default(),
            });
            if track.heartbeat != heartbeat {
                track.heartbeat = heartbeat;
                track.changed = now;
            }
            track.met |= is_live;
            if track.version != state.max_version() || track.values.len() != state.num_key_values() {
                track.version = state.max_version();
                track.values =
                    Arc::new(state.key_values().map(|(key, value)| (key.to_owned(), value.to_owned())).collect());
            }
            let departed = track.values.get(DEPARTING).is_some_and(|value| value == "1");
            let silence = now.saturating_sub(track.changed);
            let timeout = chitchat.failure_detection_timeout(id);
            let peer = PeerView {
                generation: Generation(id.generation_id),
                address: id.gossip_advertise_addr,
                liveness: match (departed, is_live) {
                    (true, _) => Liveness::Departed,
                    (false, true) => Liveness::Live,
                    (false, false) => Liveness::Silent,
                },
                met: track.met,
                heartbeat,
                silence,
                timeout,
                phi: timeout.map(|timeout| settings.phi * silence.as_secs_f64() / timeout.as_secs_f64().max(1e-9)),
                values: track.values.clone(),
            };
            match seen.peers.get(&name) {
                Some(other) if !is_newer(&peer, other) => {}
                Some(_) | None => {
                    seen.peers.insert(name, peer);
                }
            }
        }
        let states = chitchat.node_states();
        self.tracks.retain(|id, _| states.contains_key(id));
        seen
    }
}

/// Of two lives the higher; of two addresses of one life (it moved without telling) the one heard last.
fn is_newer(one: &PeerView, other: &PeerView) -> bool {
    (one.generation, one.liveness == Liveness::Live, other.silence)
        > (other.generation, other.liveness == Liveness::Live, one.silence)
}
