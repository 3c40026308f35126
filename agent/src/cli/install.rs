//! `pilot install`: brings this very file where the database's container finds it.
//!
//! The pilot's image holds nothing but the pilot: no shell, no `cp`. So the init container that hands the binary over
//! runs the binary itself.

use super::{Done, say};
use std::path::{Path, PathBuf};

/// The file's name in the folder.
const NAME: &str = "pilot";

/// Where the running program lies.
pub(super) fn own_program() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("cannot tell where this program is: {error}"))
}

/// Copies the running program to `folder/pilot`, whole or not at all.
pub(super) fn run(folder: &Path) -> Done {
    let own = own_program()?;
    let target = folder.join(NAME);
    let fresh = folder.join(format!(".{NAME}.new"));
    let copied = std::fs::copy(&own, &fresh).and_then(|_| std::fs::rename(&fresh, &target));
    copied.map_err(|error| {
        format!("cannot copy {} to {}: {error}; give a writable folder", own.display(), target.display())
    })?;
    say(&format!("{} {} is ready\n", target.display(), env!("CARGO_PKG_VERSION")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_installed_file_is_this_program_and_can_be_run_by_anybody_it_could_be_before() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(run(folder.path()), Ok(0));
        // Again, as when an init container is run anew.
        assert_eq!(run(folder.path()), Ok(0));
        let own = std::env::current_exe().unwrap();
        let installed = folder.path().join(NAME);
        assert_eq!(std::fs::metadata(&installed).unwrap().len(), std::fs::metadata(&own).unwrap().len());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&installed), mode(&own));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let refused = run(Path::new("/nowhere/at/all"));
        assert!(refused.as_ref().is_err_and(|error| error.contains("/nowhere/at/all/pilot")), "{refused:?}");
    }
}
