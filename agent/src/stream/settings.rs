//! The numbers of streams.

use std::time::Duration;

/// The longest message either way, in bytes; the codec of messages has the same limit.
pub const LONGEST_MESSAGE: usize = 60 * 1024;

/// How streams beat, and when silence ends one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSettings {
    /// How long a new connection may take to prove itself. Default: 2 s.
    pub handshake: Duration,
    /// How often something is said at least. Default: 1 s.
    pub ping: Duration,
    /// How long nothing may be heard. Default: 3 s, three pings.
    pub silence: Duration,
    /// The first pause before dialling again; it doubles. Default: 200 ms.
    pub redial_from: Duration,
    /// The longest pause before dialling again. Default: 2 s.
    pub redial_to: Duration,
    /// How long two streams between the same pilots are tolerated. Default: 2 s.
    pub doubled: Duration,
    /// The most connections that have not proved themselves yet; more are closed unread. Default: 256.
    pub most_unproven: usize,
    /// Of these, the most from one address. Default: 64.
    pub most_unproven_of_one: usize,
    /// The most streams. Default: 1,024.
    pub most_streams: usize,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(2),
            ping: Duration::from_secs(1),
            silence: Duration::from_secs(3),
            redial_from: Duration::from_millis(200),
            redial_to: Duration::from_secs(2),
            doubled: Duration::from_secs(2),
            most_unproven: 256,
            most_unproven_of_one: 64,
            most_streams: 1024,
        }
    }
}
