//! Clocks that pilots read: each begins elsewhere and runs a little fast or slow. Only the oracle knows the true time.

use protocol::time::Timestamp;

/// One machine's clocks.
#[derive(Debug, Clone)]
pub struct Clock {
    /// What it showed at the true time zero, in milliseconds.
    offset: u64,
    /// Millionths of true time that pass in one unit of true time.
    rate: u64,
    /// How far the wall clock is off, in milliseconds. Only planted bugs read it.
    wall: i64,
}

/// The wall clock at the beginning of every run, in milliseconds since the Unix epoch.
pub const WALL: u64 = 1_750_000_000_000;

impl Clock {
    /// A clock that starts at `offset` and runs at `rate` millionths.
    pub fn new(offset: u64, rate: u64) -> Self {
        Self { offset, rate, wall: 0 }
    }

    /// What a pilot reads at this true time.
    pub fn read(&self, now: u64) -> Timestamp {
        let own = u128::from(now) * u128::from(self.rate) / 1_000_000;
        Timestamp::from_millis(self.offset + u64::try_from(own).unwrap_or(u64::MAX))
    }

    /// How long a wait of `own` milliseconds of this clock really takes.
    pub fn wait(&self, own: u64) -> u64 {
        (own * 1_000_000).div_ceil(self.rate)
    }

    /// The wall clock, which may be wrong by any amount.
    pub fn wall(&self, now: u64) -> u64 {
        (WALL + now).saturating_add_signed(self.wall)
    }

    /// Somebody sets the wall clock.
    pub fn jump(&mut self, by: i64) {
        self.wall = self.wall.saturating_add(by);
    }
}
