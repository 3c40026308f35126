//! Writes the pilot's memory to its volume, in order, and says when it is there.

use crate::pilot::durable::Durable;
use crate::state_file::{Loaded, StateFile, StateFileError};
use protocol::id::Generation;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Why there is no memory.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The file.
    #[error(transparent)]
    File(#[from] StateFileError),
    /// Its folder.
    #[error("cannot make {path} for the pilot's memory ({source}): mount the member's volume, writable, above it")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its content.
    #[error("the pilot's memory cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Where the memory is kept.
pub trait Disk: Send + 'static {
    /// Puts these bytes in the place of those before, whole or not at all; on return they are there for good.
    ///
    /// # Errors
    /// When they may not be there.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StateFileError>;
}

impl Disk for StateFile {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StateFileError> {
        self.write(bytes)
    }
}

/// The memory as it was found.
#[derive(Debug)]
pub struct Memory<D = StateFile> {
    /// Writes it.
    pub disk: D,
    /// What it says, with the new generation in it, already on disk.
    pub durable: Durable,
    /// What is odd about it, if anything: then it may be older than what was promised.
    pub suspicion: Option<String>,
}

/// Opens the file of a pilot's memory.
///
/// # Errors
/// When another agent holds it, or it cannot be made or read.
pub fn open(path: &Path) -> Result<(StateFile, Loaded), MemoryError> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    Ok(StateFile::open(path)?)
}

/// Begins a new life in a memory.
///
/// The new generation is on disk before anything is said under it. `wall` is a lower bound for it, so that a volume
/// that lost its memory does not repeat a life: milliseconds of the wall clock, used for nothing else.
///
/// # Errors
/// When it cannot be written.
pub fn begin_life<D: Disk>(mut disk: D, loaded: Loaded, wall: u64) -> Result<Memory<D>, MemoryError> {
    let (bytes, mut suspicion) = match loaded {
        Loaded::Fresh => (None, None),
        Loaded::Good(bytes) => (Some(bytes), None),
        Loaded::GoodButSuspect { bytes, reason } => (Some(bytes), Some(reason)),
        Loaded::Damaged { reason } => (None, Some(reason)),
    };
    let mut durable = match bytes.map(|b| serde_json::from_slice::<Durable>(&b)) {
        Some(Ok(durable)) => durable,
        Some(Err(error)) => {
            suspicion = Some(format!("the memory is no JSON of ours: {error}"));
            Durable::default()
        }
        None => Durable::default(),
    };
    let before = durable.generation.map_or(0, |g| g.0);
    durable.generation = Some(Generation(before.saturating_add(1).max(wall)));
    disk.write(&serde_json::to_vec(&durable)?)?;
    Ok(Memory { disk, durable, suspicion })
}

/// A fresh volume has no folder for the pilot yet. Only the last one is made: where the volume itself is missing, memory
/// would go to a place that is forgotten with the container.
fn make_folder(folder: &Path) -> Result<(), MemoryError> {
    match std::fs::create_dir(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(MemoryError::Folder { path: folder.to_owned(), source }),
    }
}

/// What became of one writing.
#[derive(Debug)]
pub struct Written {
    /// Which.
    pub number: u64,
    /// Whether it is on disk.
    pub result: Result<(), String>,
}

/// Whoever writes the memory: what to write by number, and what became of it. Where one end is gone, so is the writer.
pub type Keeper = (mpsc::UnboundedSender<(u64, Box<Durable>)>, mpsc::UnboundedReceiver<Written>);

/// Writes in a thread of its own. Of several that wait, only the newest is written: it holds all the others.
pub fn keep(mut disk: impl Disk) -> Keeper {
    let (to, mut asked) = mpsc::unbounded_channel::<(u64, Box<Durable>)>();
    let (done, from) = mpsc::unbounded_channel();
    tokio::task::spawn_blocking(move || {
        while let Some(newest) = asked.blocking_recv() {
            if done.send(write_newest(&mut disk, newest, &mut asked)).is_err() {
                return;
            }
        }
    });
    (to, from)
}

/// Writes the newest of all that waits.
pub fn write_newest(
    disk: &mut impl Disk,
    mut newest: (u64, Box<Durable>),
    asked: &mut mpsc::UnboundedReceiver<(u64, Box<Durable>)>,
) -> Written {
    while let Ok(newer) = asked.try_recv() {
        newest = newer;
    }
    let (number, durable) = newest;
    let result = serde_json::to_vec(&durable)
        .map_err(|e| e.to_string())
        .and_then(|bytes| disk.write(&bytes).map_err(|e| e.to_string()));
    Written { number, result }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_volume_gets_the_pilots_folder_and_a_missing_volume_does_not() {
        let volume = tempfile::tempdir().unwrap();
        let path = volume.path().join("pilot").join("pilot.state");
        let life = |path: &Path| open(path).and_then(|(disk, loaded)| begin_life(disk, loaded, 7));
        let first = life(&path).unwrap().durable.generation;
        let second = life(&path).unwrap().durable.generation;
        assert!(second > first, "{first:?} then {second:?}");
        let missing = volume.path().join("not-mounted").join("pilot").join("pilot.state");
        assert!(matches!(life(&missing), Err(MemoryError::Folder { .. })));
    }
}
