//! The numbers of the gossip layer.

use std::time::Duration;

/// How gossip beats and when silence counts. The policy file fills this; the defaults are the shipped ones.
///
/// A peer counts as silent after `phi` × mean interval between its fresh beats: 2.5 to 5.5 s with these numbers for
/// 3 to 200 pilots.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GossipSettings {
    /// One round. Shorter notices sooner and costs traffic in proportion. Default: 500 ms.
    pub interval: Duration,
    /// Silence in units of the mean interval above which a peer counts as silent. Default: 10.
    ///
    /// This is silence ÷ mean, not its logarithm: 8 here is 2.3 times hastier than Cassandra's 8.
    pub phi: f64,
    /// The mean assumed of a peer not yet known, with the weight of five samples. Default: 1 s.
    ///
    /// Longer forgives young peers more, and notices their end later.
    pub prior: Duration,
    /// How many intervals the mean remembers, at 8 bytes a peer each. Default: 200.
    pub window: usize,
    /// Longer gaps are no sample. Default: 2 s, four rounds.
    ///
    /// Must stay below the time-out: otherwise the silence of a cut becomes a sample, and a small minority sees the
    /// others alive again for up to a minute.
    pub max_interval: Duration,
    /// How long the dead are remembered; half of it they are still named to others. Default: 15 min.
    ///
    /// Each remembered life costs its place in every digest, so hours of it bring a digest to its ceiling.
    pub dead_grace: Duration,
    /// Rounds without hearing anybody after which the pilot calls itself lonely. Default: 8.
    pub lonely_after: u32,
}

impl Default for GossipSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(500),
            phi: 10.0,
            prior: Duration::from_secs(1),
            window: 200,
            max_interval: Duration::from_secs(2),
            dead_grace: Duration::from_secs(15 * 60),
            lonely_after: 8,
        }
    }
}
