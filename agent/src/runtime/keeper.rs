//! Writes the pilot's memory to its volume, in order, and says when it is there.

use crate::pilot::durable::Durable;
use crate::state_file::{Loaded, StateFile, StateFileError};
use protocol::id::Generation;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
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

/// The memory as it was found.
#[derive(Debug)]
pub struct Memory {
    /// Writes it; shared with whoever must persist a generation.
    pub file: Arc<Mutex<StateFile>>,
    /// What it says, with the new generation in it, already on disk.
    pub durable: Durable,
    /// What is odd about it, if anything: then it may be older than what was promised.
    pub suspicion: Option<String>,
}

/// Opens the memory and begins a new life in it.
///
/// The new generation is on disk before anything is said under it. `wall` is a lower bound for it, so that a volume
/// that lost its memory does not repeat a life: milliseconds of the wall clock, used for nothing else.
///
/// # Errors
/// When another agent holds it, or it cannot be written.
pub fn begin_life(path: &Path, wall: u64) -> Result<Memory, MemoryError> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    let (mut file, loaded) = StateFile::open(path)?;
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
    file.write(&serde_json::to_vec(&durable)?)?;
    Ok(Memory { file: Arc::new(Mutex::new(file)), durable, suspicion })
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

/// Writes in a thread of its own. Of several that wait, only the newest is written: it holds all the others.
pub fn keep(
    file: Arc<Mutex<StateFile>>,
) -> (mpsc::UnboundedSender<(u64, Box<Durable>)>, mpsc::UnboundedReceiver<Written>) {
    let (to, mut asked) = mpsc::unbounded_channel::<(u64, Box<Durable>)>();
    let (done, from) = mpsc::unbounded_channel();
    tokio::task::spawn_blocking(move || {
        while let Some(mut newest) = asked.blocking_recv() {
            while let Ok(newer) = asked.try_recv() {
                newest = newer;
            }
            let (number, durable) = newest;
            let result = serde_json::to_vec(&durable).map_err(|e| e.to_string()).and_then(|bytes| match file.lock() {
                Ok(mut file) => file.write(&bytes).map_err(|e| e.to_string()),
                Err(_) => Err("the writer of the memory has panicked: restart this pilot".to_owned()),
            });
            if done.send(Written { number, result }).is_err() {
                return;
            }
        }
    });
    (to, from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_volume_gets_the_pilots_folder_and_a_missing_volume_does_not() {
        let volume = tempfile::tempdir().unwrap();
        let path = volume.path().join("pilot").join("pilot.state");
        let first = begin_life(&path, 7).unwrap().durable.generation;
        let second = begin_life(&path, 7).unwrap().durable.generation;
        assert!(second > first, "{first:?} then {second:?}");
        let missing = volume.path().join("not-mounted").join("pilot").join("pilot.state");
        assert!(matches!(begin_life(&missing, 7), Err(MemoryError::Folder { .. })));
    }
}
