//! What the system says of this process.

use rustix::time::{ClockId, clock_gettime};
use std::fs;

/// Figures of this process; what cannot be read is left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ProcessFacts {
    /// Bytes of memory it holds.
    pub(super) resident: Option<u64>,
    /// Seconds of processor time it used.
    pub(super) cpu: f64,
    /// File descriptors it has open.
    pub(super) descriptors: Option<u64>,
}

/// Looks at `/proc/self`.
pub(super) fn look() -> ProcessFacts {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    ProcessFacts {
        resident: fs::read_to_string("/proc/self/status").ok().and_then(|text| resident(&text)),
        cpu: seconds(used.tv_sec, used.tv_nsec),
        descriptors: fs::read_dir("/proc/self/fd").ok().and_then(|entries| u64::try_from(entries.count()).ok()),
    }
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[allow(clippy::cast_precision_loss, reason = "seconds of processor time stay far below what a float holds exactly")]
fn seconds(whole: i64, nanos: i64) -> f64 {
    whole as f64 + nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(resident("Name:\tpilot\nVmRSS:\t    1200 kB\nThreads:\t3\n"), Some(1_228_800));
        assert_eq!(resident("Name:\tpilot\n"), None);
    }
}
