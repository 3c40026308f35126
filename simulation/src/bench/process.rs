//! What the system says of a process.

use std::fs;

/// Ticks of `/proc/<pid>/stat` in a second: `USER_HZ`, 100 on every Linux that Rust's targets name.
const TICKS: f64 = 100.0;

/// What a process has used and holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Used {
    /// Seconds of processor time.
    pub(super) cpu: f64,
    /// Megabytes resident, code included.
    pub(super) resident: f64,
    /// Megabytes of them that are its own alone.
    pub(super) own: f64,
}

/// Looks at a process; `None` once it has ended.
pub(super) fn look(pid: u32) -> Option<Used> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(Used { cpu: cpu(&stat)?, resident: megabytes(&status, "VmRSS:")?, own: megabytes(&status, "RssAnon:")? })
}

fn cpu(stat: &str) -> Option<f64> {
    // The name in parentheses may hold anything, parentheses included.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS)
}

fn megabytes(status: &str, field: &str) -> Option<f64> {
    let kibibytes: f64 =
        status.lines().find_map(|l| l.strip_prefix(field))?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_past_a_name_with_parentheses() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 100 0 0";
        assert_eq!(cpu(stat), Some(3.0));
    }

    #[test]
    fn memory_is_read_in_megabytes() {
        assert_eq!(megabytes("VmRSS:\t   10000 kB\nRssAnon:\t 1000 kB\n", "RssAnon:"), Some(1.024));
    }
}
