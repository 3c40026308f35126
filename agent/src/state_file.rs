//! One small file on the volume that keeps what must never be forgotten, also on a full disk.
//!
//! The file has a fixed size and is allocated when it is made: one block that says what it is, and two slots. A write
//! goes to the older slot, its content first, made durable, then its header, made durable: only then is it acknowledged.
//! What follows from that, when the file is opened again:
//!
//! - A slot whose *content* does not match its header, while the header is older than the other slot's, is a write that
//!   was cut off before its header was written: it was never acknowledged, and the other slot is the truth.
//! - Anything else that does not match may hide a newer, acknowledged write. The older slot is then given back as
//!   [`Loaded::GoodButSuspect`]: what it says did hold once, but the caller must promise nothing on its word alone.
//! - A copy put back (another inode than the file was made with) is suspect as well. A copy written *into* the old file,
//!   or a volume restored whole, cannot be told from here: the caller's floor outside of the volume covers that.
//!
//! On file systems that never overwrite in place (btrfs, zfs) a full disk may still refuse a write; it is then reported,
//! not acknowledged.

use rustix::fs::{FallocateFlags, FlockOperation};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The most that [`StateFile::open`] keeps in one slot, in bytes.
pub const DEFAULT_CAPACITY: u32 = 64 * 1024;

const BLOCK: u64 = 4096;
const MAGIC: &[u8; 8] = b"pilotst1";
const SLOT_MAGIC: &[u8; 8] = b"pilotsl1";
/// Where in the first block the present holder's name is; not covered by the checksum, as it decides nothing.
const HOLDER_AT: u64 = 1024;
const HOLDER_LENGTH: usize = 256;
/// No file of ours is written to so often: one that says so is numbered anew, before numbers end.
const LAST_SEQUENCE: u64 = u64::MAX / 2;

/// Why the state file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// Another process has it open.
    #[error(
        "{path} is held by {holder}, but only one pilot may use a volume: end that one, or give this one a volume of its own"
    )]
    Held {
        /// The file.
        path: PathBuf,
        /// What the holder wrote about itself.
        holder: String,
    },
    /// What was to be kept is larger than a slot.
    #[error(
        "{found} bytes were to be kept, but {path} has room for {most}: this is a fault of the pilot, nothing was written"
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes to be written.
        found: usize,
        /// Bytes a slot holds.
        most: u32,
    },
    /// The file system refused.
    #[error("could not {doing} {path}: {source}")]
    Io {
        /// What was being attempted.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What lay in the file when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// Never written to.
    Fresh,
    /// The last acknowledged write.
    Good(Vec<u8>),
    /// A write that held once; a newer one may be lost. A later [`StateFile::write`] clears the suspicion, so a caller
    /// that writes before it has read its floor must write down that it is still suspicious.
    GoodButSuspect {
        /// What the older slot holds.
        bytes: Vec<u8>,
        /// What does not match.
        reason: String,
    },
    /// Nothing in it can be believed. The file stays as it is until something is written.
    Damaged {
        /// What does not match.
        reason: String,
    },
}

/// An open state file, held alone. Dropping it lets another process have it.
#[derive(Debug)]
pub struct StateFile {
    file: File,
    path: PathBuf,
    capacity: u32,
    /// The slot that the next write goes to.
    next_slot: u64,
    next_sequence: u64,
    /// The first block does not describe this file: it is written again with the next write.
    rehome: bool,
    /// Neither slot can be believed, or numbered further: the next write goes to both, so that nothing is left to be
    /// suspected.
    ruined: bool,
}

impl StateFile {
    /// Opens the file, or makes it, with [`DEFAULT_CAPACITY`].
    ///
    /// # Errors
    /// When another process holds it, or the file system refuses.
    pub fn open(path: &Path) -> Result<(Self, Loaded), StateFileError> {
        Self::open_sized(path, DEFAULT_CAPACITY)
    }

    /// Opens the file, or makes it with slots of `capacity` bytes. Blocks while it reads and writes.
    ///
    /// # Errors
    /// When another process holds it, or the file system refuses.
    pub fn open_sized(path: &Path, capacity: u32) -> Result<(Self, Loaded), StateFileError> {
        let fail = |doing, source| StateFileError::Io { doing, path: path.to_owned(), source };
        let open = || OpenOptions::new().read(true).write(true).open(path);
        let file = match open() {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(path, capacity).map_err(|e| fail("make", e))?;
                open().map_err(|e| fail("open", e))?
            }
            Err(error) => return Err(fail("open", error)),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(StateFileError::Held { path: path.to_owned(), holder: read_holder(&file) });
            }
            Err(error) => return Err(fail("lock", error.into())),
        }
        let mut this = Self {
            file,
            path: path.to_owned(),
            capacity,
            next_slot: 0,
            next_sequence: 1,
            rehome: false,
            ruined: false,
        };
        this.write_holder().map_err(|e| fail("write to", e))?;
        let loaded = this.load().map_err(|e| fail("read", e))?;
        this.ruined |= matches!(loaded, Loaded::Damaged { .. });
        Ok((this, loaded))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps these bytes for good. When this returns `Ok` they survive a crash and a power cut; when it fails they may or
    /// may not be there, and nothing that depends on them may be answered.
    ///
    /// # Errors
    /// When the bytes do not fit, or the file system refuses.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StateFileError> {
        let path = self.path.clone();
        let fail = |doing, source| StateFileError::Io { doing, path: path.clone(), source };
        let length = match u32::try_from(bytes.len()) {
            Ok(length) if length <= self.capacity => length,
            Ok(_) | Err(_) => {
                return Err(StateFileError::TooLarge {
                    path: self.path.clone(),
                    found: bytes.len(),
                    most: self.capacity,
                });
            }
        };
        if self.rehome {
            self.write_home().map_err(|e| fail("renew", e))?;
            self.rehome = false;
        }
        self.write_slot(bytes, length).map_err(|e| fail("write to", e))?;
        if self.ruined {
            self.write_slot(bytes, length).map_err(|e| fail("write to", e))?;
            self.ruined = false;
        }
        Ok(())
    }

    fn write_slot(&mut self, bytes: &[u8], length: u32) -> io::Result<()> {
        let at = slot_at(self.next_slot, self.capacity);
        let header = SlotHeader { sequence: self.next_sequence, length, checksum: Sha256::digest(bytes).into() };
        self.file.write_all_at(bytes, at + BLOCK)?;
        self.file.sync_data()?;
        self.file.write_all_at(&header.encode(), at)?;
        self.file.sync_data()?;
        self.next_slot = 1 - self.next_slot;
        self.next_sequence += 1;
        Ok(())
    }

    fn load(&mut self) -> io::Result<Loaded> {
        let metadata = self.file.metadata()?;
        let expected = file_size(self.capacity);
        if metadata.len() != expected {
            self.rehome = true;
            return Ok(Loaded::Damaged {
                reason: format!("the file has {} bytes but must have {expected}", metadata.len()),
            });
        }
        let mut home = [0; HOME_LENGTH];
        self.file.read_exact_at(&mut home, 0)?;
        let mut suspicion = None;
        match Home::decode(&home) {
            Some(found) if found.capacity != self.capacity => {
                self.rehome = true;
                return Ok(Loaded::Damaged {
                    reason: format!("its slots hold {} bytes but must hold {}", found.capacity, self.capacity),
                });
            }
            Some(found) if found.inode != metadata.ino() => {
                self.rehome = true;
                suspicion = Some(format!(
                    "the file was made as inode {} and is now {}: it is a copy, perhaps an old one",
                    found.inode,
                    metadata.ino()
                ));
            }
            Some(_) => {}
            None => {
                self.rehome = true;
                suspicion = Some("the first block does not match its checksum".to_owned());
            }
        }
        let slots = [self.read_slot(0)?, self.read_slot(1)?];
        let verdict = judge(slots);
        self.next_slot = verdict.next_slot;
        self.next_sequence = verdict.next_sequence;
        if self.next_sequence > LAST_SEQUENCE {
            // Both slots get a new number with the next write; cut off between the two, it is suspect.
            self.next_sequence = 1;
            self.ruined = true;
        }
        Ok(match (verdict.loaded, suspicion) {
            (loaded, None) => loaded,
            // Never written to and yet not as it was made: somebody may have wiped what was there.
            (Loaded::Fresh, Some(reason)) => Loaded::Damaged { reason },
            (Loaded::Good(bytes) | Loaded::GoodButSuspect { bytes, .. }, Some(reason)) => {
                Loaded::GoodButSuspect { bytes, reason }
            }
            (Loaded::Damaged { reason }, Some(_)) => Loaded::Damaged { reason },
        })
    }

    fn read_slot(&self, slot: u64) -> io::Result<Slot> {
        let at = slot_at(slot, self.capacity);
        let mut block = [0; SLOT_HEADER_LENGTH];
        self.file.read_exact_at(&mut block, at)?;
        let Some(header) = SlotHeader::decode(&block) else {
            return Ok(if block.iter().all(|byte| *byte == 0) { Slot::Unwritten } else { Slot::Unreadable });
        };
        if header.length > self.capacity {
            return Ok(Slot::Unreadable);
        }
        let mut bytes = vec![0; header.length as usize];
        self.file.read_exact_at(&mut bytes, at + BLOCK)?;
        let checksum: [u8; 32] = Sha256::digest(&bytes).into();
        Ok(if checksum == header.checksum {
            Slot::Whole { sequence: header.sequence, bytes }
        } else {
            Slot::Mismatch { sequence: header.sequence }
        })
    }

    /// Makes a truncated, copied or foreign file ours: full size, allocated, described.
    fn write_home(&self) -> io::Result<()> {
        self.file.set_len(file_size(self.capacity))?;
        rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, file_size(self.capacity))?;
        let home = Home { capacity: self.capacity, inode: self.file.metadata()?.ino() };
        self.file.write_all_at(&home.encode(), 0)?;
        self.file.sync_all()
    }

    fn write_holder(&self) -> io::Result<()> {
        if self.file.metadata()?.len() < HOLDER_AT + HOLDER_LENGTH as u64 {
            return Ok(());
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
        let text = format!("process {} on {}", std::process::id(), host.trim_end());
        let mut block = [0; HOLDER_LENGTH];
        for (to, from) in block.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        self.file.write_all_at(&block, HOLDER_AT)
    }
}

fn read_holder(file: &File) -> String {
    let mut block = [0; HOLDER_LENGTH];
    match file.read_exact_at(&mut block, HOLDER_AT) {
        Ok(()) => {
            let text: Vec<u8> = block.iter().copied().take_while(|b| *b != 0).collect();
            match text.is_empty() {
                true => "a process that did not say its name".to_owned(),
                false => String::from_utf8_lossy(&text).into_owned(),
            }
        }
        Err(error) => format!("a process whose name could not be read ({error})"),
    }
}

/// Makes the file under another name and links it into place whole, so that nobody ever sees half of one.
fn make(path: &Path, capacity: u32) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let temporary = PathBuf::from(name);
    let written = (|| {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&temporary)?;
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, file_size(capacity))?;
        let home = Home { capacity, inode: file.metadata()?.ino() };
        file.write_all_at(&home.encode(), 0)?;
        file.sync_all()?;
        match std::fs::hard_link(&temporary, path) {
            // Somebody else was quicker; the lock decides who may use it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    })();
    let removed = std::fs::remove_file(&temporary);
    written.and(removed)?;
    File::open(directory)?.sync_all()
}

/// What was found in one slot.
#[derive(Debug)]
enum Slot {
    Unwritten,
    Whole {
        sequence: u64,
        bytes: Vec<u8>,
    },
    /// The header holds, the content is not the one it speaks of.
    Mismatch {
        sequence: u64,
    },
    /// Not even the header holds.
    Unreadable,
}

struct Verdict {
    loaded: Loaded,
    next_slot: u64,
    next_sequence: u64,
}

/// Decides which slot is the truth. See the module's text for the reasoning.
fn judge([first, second]: [Slot; 2]) -> Verdict {
    let good = |slot: u64, sequence: u64, loaded| Verdict {
        loaded,
        next_slot: 1 - slot,
        next_sequence: sequence.saturating_add(1),
    };
    let beside = |slot: u64, sequence: u64, bytes: Vec<u8>, other: &Slot| {
        let name = ["first", "second"][(1 - slot) as usize];
        let reason = match other {
            Slot::Unwritten if sequence == 1 => None,
            Slot::Unwritten => Some(format!("the {name} slot was written once and is empty")),
            Slot::Mismatch { sequence: other } if *other < sequence => None,
            Slot::Mismatch { .. } => {
                Some(format!("the content of the newest write, in the {name} slot, does not match its checksum"))
            }
            Slot::Unreadable => Some(format!("the header of the {name} slot does not match its checksum")),
            Slot::Whole { .. } => None,
        };
        let loaded = match reason {
            None => Loaded::Good(bytes),
            Some(reason) => Loaded::GoodButSuspect { bytes, reason },
        };
        good(slot, sequence, loaded)
    };
    match (first, second) {
        (Slot::Unwritten, Slot::Unwritten) => Verdict { loaded: Loaded::Fresh, next_slot: 0, next_sequence: 1 },
        (Slot::Whole { sequence: a, bytes: first }, Slot::Whole { sequence: b, bytes: second }) => {
            if a.abs_diff(b) != 1 {
                let (slot, sequence, bytes) = if a > b { (0, a, first) } else { (1, b, second) };
                return good(
                    slot,
                    sequence,
                    Loaded::GoodButSuspect {
                        bytes,
                        reason: format!("the slots are numbered {a} and {b}, but one must follow the other"),
                    },
                );
            }
            if a > b { good(0, a, Loaded::Good(first)) } else { good(1, b, Loaded::Good(second)) }
        }
        (Slot::Whole { sequence, bytes }, other) => beside(0, sequence, bytes, &other),
        (other, Slot::Whole { sequence, bytes }) => beside(1, sequence, bytes, &other),
        (first, second) => {
            let known = |slot: &Slot| match slot {
                Slot::Whole { sequence, .. } | Slot::Mismatch { sequence } => *sequence,
                Slot::Unwritten | Slot::Unreadable => 0,
            };
            // The very first write, cut off before its header: nothing was ever acknowledged, and the header is empty,
            // so that case is `Unwritten` above. What remains here has been acknowledged once.
            Verdict {
                loaded: Loaded::Damaged { reason: "neither slot matches its checksum".to_owned() },
                next_slot: 0,
                next_sequence: known(&first).max(known(&second)).saturating_add(1),
            }
        }
    }
}

fn slot_at(slot: u64, capacity: u32) -> u64 {
    BLOCK + slot * slot_size(capacity)
}

fn slot_size(capacity: u32) -> u64 {
    BLOCK + u64::from(capacity).next_multiple_of(BLOCK)
}

fn file_size(capacity: u32) -> u64 {
    BLOCK + 2 * slot_size(capacity)
}

const HOME_LENGTH: usize = 8 + 4 + 8 + 32;

/// The first block: what this file is.
struct Home {
    capacity: u32,
    inode: u64,
}

impl Home {
    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(self.capacity.to_le_bytes());
        out.extend(self.inode.to_le_bytes());
        sealed(out)
    }

    fn decode(bytes: &[u8; HOME_LENGTH]) -> Option<Self> {
        let body = unsealed(bytes)?.strip_prefix(MAGIC)?;
        let (capacity, inode) = body.split_first_chunk::<4>()?;
        Some(Self { capacity: u32::from_le_bytes(*capacity), inode: u64::from_le_bytes(inode.try_into().ok()?) })
    }
}

const SLOT_HEADER_LENGTH: usize = 8 + 8 + 4 + 32 + 32;

struct SlotHeader {
    sequence: u64,
    length: u32,
    checksum: [u8; 32],
}

impl SlotHeader {
    fn encode(&self) -> Vec<u8> {
        let mut out = SLOT_MAGIC.to_vec();
        out.extend(self.sequence.to_le_bytes());
        out.extend(self.length.to_le_bytes());
        out.extend(self.checksum);
        sealed(out)
    }

    fn decode(bytes: &[u8; SLOT_HEADER_LENGTH]) -> Option<Self> {
        let body = unsealed(bytes)?.strip_prefix(SLOT_MAGIC)?;
        let (sequence, body) = body.split_first_chunk::<8>()?;
        let (length, checksum) = body.split_first_chunk::<4>()?;
        Some(Self {
            sequence: u64::from_le_bytes(*sequence),
            length: u32::from_le_bytes(*length),
            checksum: checksum.try_into().ok()?,
        })
    }
}

fn sealed(mut body: Vec<u8>) -> Vec<u8> {
    let checksum = Sha256::digest(&body);
    body.extend(checksum);
    body
}

fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    let (body, checksum) = bytes.split_last_chunk::<32>()?;
    let expected: [u8; 32] = Sha256::digest(body).into();
    (expected == *checksum).then_some(body)
}

#[cfg(test)]
mod tests;
