//! The launcher's two files on the volume: its memory and its accounts.

use super::accounts::Accounts;
use super::memory::Memory;
use crate::state_file::{Loaded, StateFile, StateFileError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// A request fills one line at most, and memory holds little more than one request.
const MEMORY_CAPACITY: u32 = 2 << 20;
const ACCOUNTS_CAPACITY: u32 = 64 * 1024;
/// Damaged files kept aside for a person to look at; older ones are overwritten.
const KEPT_ASIDE: u32 = 3;

/// Both files, open and held alone.
pub(super) struct Store {
    memory: StateFile,
    accounts: StateFile,
}

/// What was in them.
pub(super) struct Found {
    pub(super) memory: Memory,
    pub(super) accounts: Accounts,
    /// What a person should know.
    pub(super) trouble: Vec<String>,
}

impl Store {
    pub(super) fn open(directory: &Path) -> Result<(Self, Found), StateFileError> {
        let mut trouble = Vec::new();
        let (memory_file, memory) = open(&directory.join("memory"), MEMORY_CAPACITY, &mut trouble)?;
        let (accounts_file, accounts) = open(&directory.join("accounts"), ACCOUNTS_CAPACITY, &mut trouble)?;
        let store = Self { memory: memory_file, accounts: accounts_file };
        let found = Found { memory, accounts, trouble };
        Ok((store, found))
    }

    pub(super) fn keep_memory(&mut self, memory: &Memory) -> Result<(), String> {
        keep(&mut self.memory, memory)
    }

    pub(super) fn keep_accounts(&mut self, accounts: &Accounts) -> Result<(), String> {
        keep(&mut self.accounts, accounts)
    }
}

fn keep(file: &mut StateFile, value: &impl Serialize) -> Result<(), String> {
    let bytes = serde_json::to_vec(value).map_err(|error| error.to_string())?;
    file.write(&bytes).map_err(|error| error.to_string())
}

/// Opens one file. What cannot be believed whole is moved aside and nothing of it is used: an older memory could hold a
/// permission that has been withdrawn since, and without one the launcher only waits.
fn open<T: DeserializeOwned + Default>(
    path: &Path,
    capacity: u32,
    trouble: &mut Vec<String>,
) -> Result<(StateFile, T), StateFileError> {
    let (file, loaded) = StateFile::open_sized(path, capacity)?;
    let reason = match loaded {
        Loaded::Fresh => return Ok((file, T::default())),
        Loaded::Good(bytes) => match serde_json::from_slice(&bytes) {
            Ok(value) => return Ok((file, value)),
            Err(error) => format!("its content is not understood: {error}"),
        },
        Loaded::GoodButSuspect { reason, .. } | Loaded::Damaged { reason } => reason,
    };
    let aside = free_name(path);
    // The lock on the damaged file is kept until it is out of the way.
    std::fs::rename(path, &aside).map_err(|source| StateFileError::Io {
        doing: "move aside the damaged",
        path: path.to_owned(),
        source,
    })?;
    drop(file);
    trouble.push(format!(
        "{} is damaged ({reason}): it was moved to {}, and nothing in it is believed",
        path.display(),
        aside.display()
    ));
    let (file, _) = StateFile::open_sized(path, capacity)?;
    Ok((file, T::default()))
}

fn free_name(path: &Path) -> PathBuf {
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{number}"));
        PathBuf::from(name)
    };
    (1..KEPT_ASIDE).map(name).find(|candidate| !candidate.exists()).unwrap_or_else(|| name(KEPT_ASIDE))
}
