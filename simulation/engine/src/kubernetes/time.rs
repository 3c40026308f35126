//! Time and identities as the model hands them out: never read from a clock, never drawn at random.

use std::time::{Duration, UNIX_EPOCH};

/// A moment of the API server's own clock, in milliseconds since the Unix epoch.
///
/// The sandbox passes real time, the simulator its virtual time; the model itself reads no clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ModelTime(pub u64);

impl ModelTime {
    /// The moment `delay` later.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero where it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// RFC 3339 with whole seconds, as `metav1.Time` is written.
    #[must_use]
    pub fn rfc3339(self) -> String {
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(self.0)).to_string()
    }

    /// RFC 3339 with microseconds, as `metav1.MicroTime` is written.
    #[must_use]
    pub fn rfc3339_micro(self) -> String {
        humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::from_millis(self.0)).to_string()
    }

    /// Reads what [`Self::rfc3339`] or [`Self::rfc3339_micro`] wrote; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let moment = humantime::parse_rfc3339_weak(text).ok()?;
        let since = moment.duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(since.as_millis()).ok().map(Self)
    }
}

/// Hands out identities shaped like UUIDs, the same ones for the same seed and order of requests.
#[derive(Debug, Clone)]
pub struct IdentitySource {
    seed: u64,
    count: u64,
}

impl IdentitySource {
    /// A source of its own for each `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, count: 0 }
    }

    /// How much was drawn so far.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Never repeats what was drawn before `count`.
    pub(crate) fn skip_to(&mut self, count: u64) {
        self.count = self.count.max(count);
    }

    /// The next identity, shaped like a version 4 UUID.
    pub fn uid(&mut self) -> String {
        let high = self.next();
        let low = self.next();
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            0x8000 | ((low >> 48) & 0x3fff),
            low & 0xffff_ffff_ffff
        )
    }

    /// Five letters and digits without vowels, as `generateName` appends them.
    pub fn suffix(&mut self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut value = self.next();
        (0..5)
            .map(|_| {
                let letter = ALPHABET[usize::try_from(value % 27).unwrap_or(0)];
                value /= 27;
                char::from(letter)
            })
            .collect()
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        // Two rounds of splitmix64: neighbouring seeds must not share a sequence.
        mix(mix(self.seed) ^ self.count)
    }
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_repeat_for_a_seed_and_differ_between_seeds() {
        let mut one = IdentitySource::new(7);
        let mut same = IdentitySource::new(7);
        let mut other = IdentitySource::new(8);
        let first = one.uid();
        assert_eq!(first, same.uid());
        assert_ne!(first, other.uid());
        assert_ne!(first, one.uid());
        assert_eq!(first.len(), 36);
    }

    #[test]
    fn a_moment_survives_being_written_and_read() {
        let moment = ModelTime(1_700_000_123_000);
        assert_eq!(ModelTime::parse(&moment.rfc3339()), Some(moment));
        assert_eq!(ModelTime::parse(&moment.rfc3339_micro()), Some(moment));
        assert_eq!(ModelTime::parse("yesterday"), None);
    }
}
