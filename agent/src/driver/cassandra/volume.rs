//! What lies on the volume, and moving a retired identity's data out of the way.

use super::yaml::DATA_FOLDERS;
use crate::driver::{MovedAside, VolumeError};
use protocol::database::VolumeState;
use protocol::id::DatabaseIdentity;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Below it each retired identity has a folder.
const RETIRED: &str = "retired";

/// Marks a folder whose move is not finished.
const UNFINISHED: &str = ".moving";

/// What lies there. Cassandra keeps its host id inside of its own tables, so data is reported as `known` or as unknown.
pub(super) fn look(volume: &Path, known: Option<&DatabaseIdentity>) -> VolumeState {
    match holds_data(volume) {
        Ok(false) => VolumeState::Empty,
        Ok(true) => match known {
            Some(identity) => VolumeState::Holds(identity.clone()),
            None => VolumeState::HoldsUnknown,
        },
        Err(_) => VolumeState::Unreadable,
    }
}

/// Moves the folders of data to `retired/<label>`.
///
/// The target is made under an unfinished name, filled folder by folder (each a rename: done or not), and renamed at
/// the end. While the unfinished folder is there the volume is not empty, and the same label takes it up again.
pub(super) fn move_aside(volume: &Path, label: &str) -> Result<MovedAside, VolumeError> {
    check_label(label)?;
    let retired = volume.join(RETIRED);
    let target = retired.join(label);
    let unfinished = retired.join(format!("{label}{UNFINISHED}"));
    if exists(&target)? {
        return Ok(MovedAside::Already(target));
    }
    let begun = exists(&unfinished)?;
    if !begun {
        if !any_folder_with_data(volume).map_err(|e| failed("look into", volume, e))? {
            return Ok(MovedAside::Nothing);
        }
        fs::create_dir_all(&unfinished).map_err(|e| failed("make", &unfinished, e))?;
        sync(&retired)?;
        sync(volume)?;
    }
    for folder in DATA_FOLDERS {
        let from = volume.join(folder);
        let to = unfinished.join(folder);
        if !exists(&from)? {
            continue;
        }
        // A rename onto a folder that holds something would fail; onto an empty one it would hide what happened.
        if exists(&to)? {
            return Err(VolumeError::Occupied { path: to });
        }
        fs::rename(&from, &to).map_err(|e| failed("move", &from, e))?;
    }
    sync(&unfinished)?;
    sync(volume)?;
    fs::rename(&unfinished, &target).map_err(|e| failed("finish the move to", &target, e))?;
    sync(&retired)?;
    Ok(MovedAside::Moved(target))
}

fn holds_data(volume: &Path) -> io::Result<bool> {
    if !volume.try_exists()? {
        // A volume that is not there is not an empty volume: it may not have been mounted yet.
        return Err(io::Error::from(ErrorKind::NotFound));
    }
    Ok(any_folder_with_data(volume)? || any_unfinished_move(volume)?)
}

fn any_folder_with_data(volume: &Path) -> io::Result<bool> {
    for folder in DATA_FOLDERS {
        if any_file(&volume.join(folder))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn any_unfinished_move(volume: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(volume.join(RETIRED)) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    for entry in entries {
        if entry?.file_name().to_string_lossy().ends_with(UNFINISHED) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether anything but folders lies below; a folder that is not there holds nothing.
fn any_file(folder: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || any_file(&entry.path())? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn check_label(label: &str) -> Result<(), VolumeError> {
    let fits = (1..=100).contains(&label.len())
        && !label.starts_with('.')
        && !label.ends_with(UNFINISHED)
        && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if fits { Ok(()) } else { Err(VolumeError::Label { found: label.to_owned() }) }
}

fn exists(path: &Path) -> Result<bool, VolumeError> {
    path.try_exists().map_err(|e| failed("look at", path, e))
}

/// A rename is only durable once the folder it happened in is.
fn sync(folder: &Path) -> Result<(), VolumeError> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| failed("make durable", folder, e))
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> VolumeError {
    VolumeError::Io { doing, path: PathBuf::from(path), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Volume(tempfile::TempDir);

    impl Volume {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("folder"))
        }

        fn path(&self) -> &Path {
            self.0.path()
        }

        fn write(&self, file: &str) {
            let path = self.path().join(file);
            fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs::write(path, file).expect("file");
        }

        fn has(&self, file: &str) -> bool {
            self.path().join(file).exists()
        }
    }

    #[test]
    fn empty_folders_and_foreign_files_are_no_data() {
        let volume = Volume::new();
        fs::create_dir_all(volume.path().join("data/system")).expect("folder");
        volume.write("pilot/state");
        volume.write("lost+found/x");
        assert_eq!(look(volume.path(), None), VolumeState::Empty);
    }

    #[test]
    fn a_single_commit_log_is_data() {
        let volume = Volume::new();
        volume.write("commitlog/CommitLog-8-1.log");
        assert_eq!(look(volume.path(), None), VolumeState::HoldsUnknown);
        let known = DatabaseIdentity::new("abc");
        assert_eq!(look(volume.path(), Some(&known)), VolumeState::Holds(known.clone()));
    }

    #[test]
    fn a_volume_that_is_not_there_or_no_folder_is_not_called_empty() {
        let volume = Volume::new();
        assert_eq!(look(&volume.path().join("missing"), None), VolumeState::Unreadable);
        volume.write("data");
        assert_eq!(look(volume.path(), None), VolumeState::Unreadable);
    }

    #[test]
    fn data_moved_aside_is_whole_and_the_volume_empty() {
        let volume = Volume::new();
        volume.write("data/system/local/x.db");
        volume.write("commitlog/c.log");
        volume.write("pilot/state");
        let moved = move_aside(volume.path(), "abc").expect("moves");
        assert_eq!(moved, MovedAside::Moved(volume.path().join("retired/abc")));
        assert_eq!(look(volume.path(), None), VolumeState::Empty);
        assert!(volume.has("retired/abc/data/system/local/x.db"));
        assert!(volume.has("retired/abc/commitlog/c.log"));
        assert!(volume.has("pilot/state"));
    }

    #[test]
    fn asking_again_never_touches_the_next_identitys_data() {
        let volume = Volume::new();
        volume.write("data/old.db");
        move_aside(volume.path(), "abc").expect("moves");
        volume.write("data/new.db");
        let again = move_aside(volume.path(), "abc").expect("does nothing");
        assert_eq!(again, MovedAside::Already(volume.path().join("retired/abc")));
        assert!(volume.has("data/new.db"));
    }

    #[test]
    fn a_move_cut_off_between_two_folders_is_not_empty_and_is_finished_by_the_next_call() {
        let volume = Volume::new();
        volume.write("retired/abc.moving/data/old.db");
        assert_eq!(look(volume.path(), None), VolumeState::HoldsUnknown);
        volume.write("commitlog/c.log");
        move_aside(volume.path(), "abc").expect("finishes");
        assert!(volume.has("retired/abc/data/old.db"));
        assert!(volume.has("retired/abc/commitlog/c.log"));
        assert_eq!(look(volume.path(), None), VolumeState::Empty);
    }

    #[test]
    fn a_folder_that_is_there_already_is_not_overwritten() {
        let volume = Volume::new();
        volume.write("retired/abc.moving/data/old.db");
        volume.write("data/other.db");
        assert!(matches!(move_aside(volume.path(), "abc"), Err(VolumeError::Occupied { .. })));
        assert!(volume.has("data/other.db") && volume.has("retired/abc.moving/data/old.db"));
    }

    #[test]
    fn a_label_cannot_lead_out_of_the_volume() {
        let volume = Volume::new();
        for label in ["", "..", "a/b", ".hidden", "x.moving"] {
            assert!(matches!(move_aside(volume.path(), label), Err(VolumeError::Label { .. })));
        }
    }

    #[test]
    fn nothing_is_made_where_there_is_nothing_to_move() {
        let volume = Volume::new();
        assert_eq!(move_aside(volume.path(), "abc").expect("looks"), MovedAside::Nothing);
        assert!(!volume.has("retired"));
    }
}
