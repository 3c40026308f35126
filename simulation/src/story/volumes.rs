//! What lies on a volume.

use crate::sandbox::client::WriterSettings;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The files of a folder and what is in them.
pub(super) fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|file| Some((file.file_name().to_string_lossy().into_owned(), std::fs::read(file.path()).ok()?)))
        .collect()
}

/// The folders of the writer's tables on a volume that hold anything.
pub(super) fn tables(volume: &Path) -> BTreeSet<String> {
    let keyspace = volume.join("data").join(WriterSettings::default().keyspace);
    std::fs::read_dir(keyspace)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|table| std::fs::read_dir(table.path()).is_ok_and(|mut files| files.next().is_some()))
        .map(|table| table.file_name().to_string_lossy().into_owned())
        .collect()
}

pub(super) fn find(folder: &Path, is: &dyn Fn(&str) -> bool, depth: u32) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        is(&entry.file_name().to_string_lossy())
            || (depth > 0 && entry.path().is_dir() && find(&entry.path(), is, depth - 1))
    })
}
