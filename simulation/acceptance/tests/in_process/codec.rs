//! Gossip's messages by number instead of in chitchat's own bytes, which it keeps to itself: its codec is a socket of the
//! loopback, and a run that waits for the kernel is not the same twice.

use agent::gossip::{ChitchatEnvelope, GossipCodec};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Messages under way that are kept; most of the older ones were lost.
const KEPT: usize = 4096;

/// All messages under way in one run.
#[derive(Default)]
pub(crate) struct Codec(Mutex<(u64, BTreeMap<u64, ChitchatEnvelope>)>);

impl GossipCodec for Codec {
    fn encode(&self, envelope: ChitchatEnvelope) -> Vec<u8> {
        // About as long as the true bytes, so that large ones are cut into several datagrams and joined again.
        let length = 16 + format!("{envelope:?}").len() / 4;
        let (next, kept) = &mut *super::world::lock(&self.0);
        *next += 1;
        kept.insert(*next, envelope);
        if kept.len() > KEPT {
            kept.pop_first();
        }
        let mut bytes = next.to_be_bytes().to_vec();
        bytes.resize(length, 0);
        bytes
    }

    fn decode(&self, message: &[u8]) -> Option<ChitchatEnvelope> {
        let number = u64::from_be_bytes(*message.first_chunk::<8>()?);
        super::world::lock(&self.0).1.remove(&number)
    }
}
