//! What all streams of a pilot carry, frame by frame: proven connections only, without handshakes and TCP's own part.

use super::event::StreamCounters;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counted by every connection, read by the hub. The figures are for people: no order among them is needed.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    sent_frames: AtomicU64,
    sent_bytes: AtomicU64,
    received_frames: AtomicU64,
    received_bytes: AtomicU64,
}

impl Traffic {
    pub(super) fn sent(&self, bytes: usize) {
        self.sent_frames.fetch_add(1, Ordering::Relaxed);
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received_frames.fetch_add(1, Ordering::Relaxed);
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn write_into(&self, counters: &mut StreamCounters) {
        counters.sent_frames = self.sent_frames.load(Ordering::Relaxed);
        counters.sent_bytes = self.sent_bytes.load(Ordering::Relaxed);
        counters.received_frames = self.received_frames.load(Ordering::Relaxed);
        counters.received_bytes = self.received_bytes.load(Ordering::Relaxed);
    }
}
