//! What lies on the volume. All data lies in one folder, so that moving it aside is one rename: done or not done.

use crate::driver::{MovedAside, VolumeError};
use protocol::database::VolumeState;
use protocol::id::DatabaseIdentity;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The folder of all data, below the volume.
pub const DATA: &str = "model";

/// The file in it that holds the identity, minted at the first start.
pub const IDENTITY: &str = "identity";

/// Below it each retired identity has a folder.
const RETIRED: &str = "retired";

pub(super) fn look(volume: &Path) -> VolumeState {
    match identity(volume) {
        Ok(None) => VolumeState::Empty,
        Ok(Some(Some(identity))) => VolumeState::Holds(identity),
        Ok(Some(None)) => VolumeState::HoldsUnknown,
        Err(_) => VolumeState::Unreadable,
    }
}

/// Whether there is data, and whose.
fn identity(volume: &Path) -> io::Result<Option<Option<DatabaseIdentity>>> {
    if !volume.try_exists()? {
        // A volume that is not there is not an empty volume: it may not have been mounted yet.
        return Err(ErrorKind::NotFound.into());
    }
    let data = volume.join(DATA);
    match fs::read_dir(&data) {
        Ok(mut entries) => {
            if entries.next().is_none() {
                return Ok(None);
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    match fs::read_to_string(data.join(IDENTITY)) {
        Ok(text) if !text.trim().is_empty() => Ok(Some(Some(DatabaseIdentity::new(text.trim())))),
        Ok(_) => Ok(Some(None)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some(None)),
        Err(error) => Err(error),
    }
}

pub(super) fn move_aside(volume: &Path, label: &str) -> Result<MovedAside, VolumeError> {
    let fits = (1..=100).contains(&label.len())
        && !label.starts_with('.')
        && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !fits {
        return Err(VolumeError::Label { found: label.to_owned() });
    }
    let data = volume.join(DATA);
    let retired = volume.join(RETIRED);
    let target = retired.join(label);
    if exists(&target)? {
        return Ok(MovedAside::Already(target));
    }
    match look(volume) {
        VolumeState::Empty => return Ok(MovedAside::Nothing),
        VolumeState::Holds(_) | VolumeState::HoldsUnknown | VolumeState::Begun(_) | VolumeState::Unreadable => {}
    }
    fs::create_dir_all(&retired).map_err(|e| failed("make", &retired, e))?;
    fs::rename(&data, &target).map_err(|e| failed("move", &data, e))?;
    sync(&retired)?;
    sync(volume)?;
    Ok(MovedAside::Moved(target))
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

    fn volume_with(identity: Option<&str>) -> tempfile::TempDir {
        let volume = tempfile::tempdir().expect("folder");
        fs::create_dir(volume.path().join(DATA)).expect("folder");
        fs::write(volume.path().join(DATA).join("rows.log"), "x").expect("written");
        if let Some(identity) = identity {
            fs::write(volume.path().join(DATA).join(IDENTITY), identity).expect("written");
        }
        volume
    }

    #[test]
    fn data_is_told_with_its_own_identity_and_damage_is_never_taken_for_empty() {
        let held = VolumeState::Holds(DatabaseIdentity::new("abc"));
        assert_eq!(look(volume_with(Some("abc\n")).path()), held);
        assert_eq!(look(volume_with(None).path()), VolumeState::HoldsUnknown);
        assert_eq!(look(volume_with(Some(" ")).path()), VolumeState::HoldsUnknown);
        assert_eq!(look(tempfile::tempdir().expect("folder").path()), VolumeState::Empty);
        assert_eq!(look(Path::new("/nowhere/at/all")), VolumeState::Unreadable);
    }

    #[test]
    fn moving_aside_twice_never_touches_the_next_identitys_data() {
        let volume = volume_with(Some("abc"));
        let target = volume.path().join("retired/one");
        assert_eq!(move_aside(volume.path(), "one").expect("moves"), MovedAside::Moved(target.clone()));
        assert_eq!(look(volume.path()), VolumeState::Empty);
        assert_eq!(move_aside(volume.path(), "two").expect("looks"), MovedAside::Nothing);
        fs::create_dir(volume.path().join(DATA)).expect("folder");
        fs::write(volume.path().join(DATA).join(IDENTITY), "def").expect("written");
        assert_eq!(move_aside(volume.path(), "one").expect("looks"), MovedAside::Already(target));
        assert_eq!(look(volume.path()), VolumeState::Holds(DatabaseIdentity::new("def")));
    }

    #[test]
    fn a_label_cannot_lead_out_of_the_volume() {
        let volume = volume_with(None);
        for label in ["", "..", "a/b", ".hidden"] {
            assert!(matches!(move_aside(volume.path(), label), Err(VolumeError::Label { .. })));
        }
    }
}
