//! Facts of the machine under the launcher: clock, start of the machine, memory and files of a process.

use protocol::time::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use std::path::{Path, PathBuf};

/// Now, on the clock that counts the time asleep.
pub(super) fn now() -> Timestamp {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let millis = u64::try_from(time.tv_nsec / 1_000_000).unwrap_or(0);
    Timestamp::from_millis(seconds.saturating_mul(1000).saturating_add(millis))
}

/// Names this start of the machine; empty where the kernel does not say.
pub(super) fn boot() -> String {
    read("/proc/sys/kernel/random/boot_id")
}

/// Names the space in which process ids mean something.
pub(super) fn pid_space() -> String {
    match std::fs::read_link("/proc/self/ns/pid") {
        Ok(link) => link.display().to_string(),
        Err(_) => String::new(),
    }
}

fn read(path: &str) -> String {
    match std::fs::read_to_string(path) {
        Ok(text) => text.trim().to_owned(),
        Err(_) => String::new(),
    }
}

/// When a process was started, in ticks of the kernel: tells it from a later one of the same number.
pub(super) fn started_at(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the start is the 20th field behind it.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Resident memory in bytes.
pub(super) fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Open files.
pub(super) fn open_files(pid: u32) -> Option<u64> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    u64::try_from(entries.count()).ok()
}

/// The file in which the kernel counts kills for lack of memory in our control group (version 2), if there is one.
pub(super) fn memory_events() -> Option<PathBuf> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let ours = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let path = Path::new("/sys/fs/cgroup").join(ours.trim_start_matches('/')).join("memory.events");
    path.exists().then_some(path)
}

/// Kills for lack of memory so far; `None` where that cannot be read.
pub(super) fn memory_kills(events: Option<&Path>) -> Option<u64> {
    let text = std::fs::read_to_string(events?).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_process_has_memory_files_and_a_start() {
        let pid = std::process::id();
        assert!(resident(pid).is_some_and(|bytes| bytes > 100_000));
        assert!(open_files(pid).is_some_and(|files| files >= 3));
        assert!(started_at(pid).is_some());
        assert!(!boot().is_empty());
    }

    #[test]
    fn kills_for_lack_of_memory_are_counted_where_they_can_be_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n").unwrap();
        assert_eq!(memory_kills(Some(file.path())), Some(2));
        assert_eq!(memory_kills(Some(Path::new("/nonexistent"))), None);
        assert_eq!(memory_kills(None), None);
    }
}
