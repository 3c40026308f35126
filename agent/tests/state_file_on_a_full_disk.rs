//! The state file on a file system that has no byte left: a small tmpfs of its own, so it needs root.

use agent::state_file::{Loaded, StateFile};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One test at a time: a program that one starts holds, until it has become that program, every file that the other has
/// open, and with it the lock on a state file that was closed meanwhile.
static ALONE: Mutex<()> = Mutex::new(());

/// Unmounts on the way out, whatever happened.
struct Mounted {
    directory: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Mounted {
    fn new() -> Option<Self> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "pilot-test"]).arg(directory.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { directory, _alone: alone }),
            Ok(_) | Err(_) => None,
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.directory.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

/// Not by a macro: what those print is kept back by the test runner as long as the test passes.
fn not_shown() {
    let line = b"NOT SHOWN: 1 test: a full disk: a tmpfs cannot be mounted here (needs root)\n";
    std::io::stderr().write_all(line).unwrap();
}

fn fill(directory: &Path) {
    let mut filler = std::fs::File::create(directory.join("filler")).unwrap();
    while filler.write_all(&[7; 4096]).is_ok() {}
    while filler.write_all(&[7]).is_ok() {}
}

#[test]
fn a_full_disk_costs_no_promise() {
    let Some(mounted) = Mounted::new() else {
        return not_shown();
    };
    let path = mounted.directory.path().join("state");
    let (mut file, loaded) = StateFile::open(&path).unwrap();
    assert_eq!(loaded, Loaded::Fresh);
    fill(mounted.directory.path());
    for round in 0..5 {
        file.write(format!("promise {round}").repeat(3000).as_bytes()).unwrap();
    }
    drop(file);
    let (file, loaded) = StateFile::open(&path).unwrap();
    assert_eq!(loaded, Loaded::Good("promise 4".repeat(3000).into_bytes()));
    drop(file);
}

#[test]
fn a_file_that_cannot_be_made_for_lack_of_room_is_refused_and_leaves_nothing_half_made() {
    let Some(mounted) = Mounted::new() else {
        return not_shown();
    };
    fill(mounted.directory.path());
    let path = mounted.directory.path().join("state");
    assert!(StateFile::open(&path).is_err());
    let names: Vec<_> =
        std::fs::read_dir(mounted.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["filler"]);
}
