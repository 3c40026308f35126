//! What survives a member's process: its identity, what it knows of the ring, and the log of its rows.

use super::ring::Entry;
use agent::driver::model::{DATA, IDENTITY};
use protocol::id::DatabaseIdentity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};

/// How far the life on this volume has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Stage {
    /// It never was a member.
    New,
    /// It is or was one.
    Member,
    /// It has left.
    Left,
}

/// The member's own notes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notes {
    pub(super) cluster: String,
    pub(super) stage: Stage,
    pub(super) generation: u64,
    /// Where it was changed since the configuration was rendered.
    #[serde(default)]
    pub(super) replication: Option<u32>,
    pub(super) ring: Vec<Entry>,
}

/// One row. Of two with the same key the later stamp wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) key: String,
    pub(super) value: String,
    /// Microseconds of the coordinator's wall clock, as in Cassandra.
    pub(super) stamp: u64,
}

impl Row {
    pub(super) fn bytes(&self) -> u64 {
        u64::try_from(self.key.len() + self.value.len()).unwrap_or(u64::MAX)
    }
}

/// The volume of one running member.
pub(super) struct Disk {
    folder: PathBuf,
    fsync: bool,
    log: File,
    rows: BTreeMap<String, (u64, String)>,
    bytes: u64,
}

/// The volume cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiskError {
    #[error("cannot use {}: {source}; mend the file system and start again", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is damaged ({what}): restore the volume, or replace the member", path.display())]
    Damaged { path: PathBuf, what: String },
}

impl Disk {
    /// Opens the volume, minting an identity where there is none.
    pub(super) fn open(volume: &Path, fsync: bool) -> Result<(Self, DatabaseIdentity, Option<Notes>), DiskError> {
        let folder = volume.join(DATA);
        let at = |source| DiskError::Io { path: folder.clone(), source };
        fs::create_dir_all(&folder).map_err(at)?;
        let identity = identity(&folder)?;
        let path = folder.join("notes.json");
        let notes = match fs::read(&path) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).map_err(|e| damaged(&path, e.to_string()))?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(at(error)),
        };
        let path = folder.join("rows.log");
        let log = OpenOptions::new().create(true).append(true).read(true).open(&path).map_err(at)?;
        let mut disk = Self { folder: folder.clone(), fsync, log, rows: BTreeMap::new(), bytes: 0 };
        disk.replay(&path)?;
        Ok((disk, identity, notes))
    }

    fn replay(&mut self, path: &Path) -> Result<(), DiskError> {
        let at = |source| DiskError::Io { path: path.to_owned(), source };
        let mut reader = BufReader::new(File::open(path).map_err(at)?);
        let mut good: u64 = 0;
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line).map_err(at)?;
            if length == 0 {
                return Ok(());
            }
            if line.last() != Some(&b'\n') {
                // The process ended in the middle of a write, which then was not acknowledged.
                return self.log.set_len(good).map_err(at);
            }
            let row: Row = serde_json::from_slice(&line).map_err(|e| damaged(path, format!("at byte {good}: {e}")))?;
            self.insert(row);
            good += u64::try_from(length).unwrap_or(u64::MAX);
        }
    }

    fn insert(&mut self, row: Row) {
        let bytes = row.bytes();
        let key_bytes = u64::try_from(row.key.len()).unwrap_or(u64::MAX);
        if let Some((_, old)) = self.rows.insert(row.key, (row.stamp, row.value)) {
            self.bytes -= key_bytes + u64::try_from(old.len()).unwrap_or(u64::MAX);
        }
        self.bytes += bytes;
    }

    /// Keeps the rows that are newer than what is there; returns when they are in the log.
    pub(super) fn put(&mut self, rows: Vec<Row>) -> io::Result<()> {
        let newer: Vec<Row> = rows
            .into_iter()
            .filter(|row| self.rows.get(&row.key).is_none_or(|(stamp, _)| *stamp < row.stamp))
            .collect();
        if newer.is_empty() {
            return Ok(());
        }
        let mut lines = Vec::new();
        for row in &newer {
            serde_json::to_writer(&mut lines, row)?;
            lines.push(b'\n');
        }
        let before = self.log.metadata()?.len();
        if let Err(error) = self.log.write_all(&lines) {
            // Half a line in the middle of the log would be damage.
            self.log.set_len(before)?;
            return Err(error);
        }
        if self.fsync {
            self.log.sync_data()?;
        }
        newer.into_iter().for_each(|row| self.insert(row));
        Ok(())
    }

    pub(super) fn get(&self, key: &str) -> Option<Row> {
        self.rows.get(key).map(|(stamp, value)| Row { key: key.to_owned(), value: value.clone(), stamp: *stamp })
    }

    /// Rows behind `after`, in order.
    pub(super) fn rows<'a>(&'a self, after: Option<&'a str>) -> impl Iterator<Item = (&'a str, u64)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.rows
            .range::<str, _>((from, Bound::Unbounded))
            .map(|(key, (_, value))| (key.as_str(), u64::try_from(key.len() + value.len()).unwrap_or(u64::MAX)))
    }

    /// How many rows, and bytes of them.
    pub(super) fn load(&self) -> (u64, u64) {
        (u64::try_from(self.rows.len()).unwrap_or(u64::MAX), self.bytes)
    }

    pub(super) fn note(&self, notes: &Notes) -> io::Result<()> {
        replace(&self.folder, "notes.json", &serde_json::to_vec(notes)?)
    }
}

fn identity(folder: &Path) -> Result<DatabaseIdentity, DiskError> {
    let path = folder.join(IDENTITY);
    let at = |source| DiskError::Io { path: path.clone(), source };
    match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(DatabaseIdentity::new(text.trim())),
        Ok(_) => return Err(damaged(&path, "it is empty".to_owned())),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(at(error)),
        Err(_) => {}
    }
    if fs::read_dir(folder).map_err(at)?.next().is_some() {
        return Err(damaged(&path, "it is missing beside other files".to_owned()));
    }
    // The kernel's own random uuid.
    let minted = fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(at)?;
    replace(folder, IDENTITY, minted.as_bytes()).map_err(at)?;
    Ok(DatabaseIdentity::new(minted.trim()))
}

fn damaged(path: &Path, what: String) -> DiskError {
    DiskError::Damaged { path: path.to_owned(), what }
}

/// Replaces a file whole or not at all. The unfinished one lies beside the folder, so that it is never taken for data.
fn replace(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let unfinished = folder.with_extension("unfinished");
    let mut file = File::create(&unfinished)?;
    file.write_all(content)?;
    file.sync_data()?;
    fs::rename(&unfinished, folder.join(name))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, value: &str, stamp: u64) -> Row {
        Row { key: key.into(), value: value.into(), stamp }
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_the_identity_stays() {
        let volume = tempfile::tempdir().expect("folder");
        let (mut disk, identity, _) = Disk::open(volume.path(), false).expect("opens");
        disk.put(vec![row("a", "1", 1), row("b", "2", 1)]).expect("written");
        drop(disk);
        let log = volume.path().join(DATA).join("rows.log");
        let mut file = OpenOptions::new().append(true).open(&log).expect("opens");
        file.write_all(b"{\"key\":\"c\",\"val").expect("written");
        let (mut disk, again, _) = Disk::open(volume.path(), false).expect("opens");
        assert_eq!(identity, again);
        disk.put(vec![row("d", "4", 1)]).expect("written");
        let (disk, _, _) = Disk::open(volume.path(), false).expect("opens");
        assert_eq!(disk.rows(None).map(|(key, _)| key).collect::<Vec<_>>(), ["a", "b", "d"]);
    }

    #[test]
    fn damage_in_the_middle_of_the_log_is_refused_not_skipped() {
        let volume = tempfile::tempdir().expect("folder");
        drop(Disk::open(volume.path(), false).expect("opens"));
        fs::write(volume.path().join(DATA).join("rows.log"), b"{\"key\":\n{}\n").expect("written");
        assert!(matches!(Disk::open(volume.path(), false), Err(DiskError::Damaged { .. })));
    }

    #[test]
    fn the_later_stamp_wins_whatever_comes_first() {
        let volume = tempfile::tempdir().expect("folder");
        let (mut disk, _, _) = Disk::open(volume.path(), false).expect("opens");
        disk.put(vec![row("a", "new", 2)]).expect("written");
        disk.put(vec![row("a", "old", 1)]).expect("written");
        assert_eq!(disk.get("a"), Some(row("a", "new", 2)));
        assert_eq!(disk.load(), (1, 4));
    }

    #[test]
    fn other_files_without_an_identity_are_no_new_volume() {
        let volume = tempfile::tempdir().expect("folder");
        drop(Disk::open(volume.path(), false).expect("opens"));
        fs::remove_file(volume.path().join(DATA).join(IDENTITY)).expect("removed");
        assert!(matches!(Disk::open(volume.path(), false), Err(DiskError::Damaged { .. })));
    }
}
