//! The file that holds a memory, as a broken disk or a stranger may leave it.

use super::input::{Input, chunk};
use super::{KIB, Outcome, Target};
use agent::state_file::{Loaded, StateFile};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use tempfile::TempDir;

pub(super) const TARGETS: &[Target] = &[Target {
    name: "state-file",
    reads: "the file that holds a memory",
    run: state_file,
    seeds,
    base: 256 * KIB,
    per_byte: 16,
    gate: 300,
}];

const CAPACITY: u32 = 4096;
const BLOCK: u64 = 4096;
const SLOT: u64 = 2 * BLOCK;
const SIZE: u64 = BLOCK + 2 * SLOT;

/// What is wrong with one part, bit by bit; 0 is a file as we write it.
const NO_CHECKSUM: u8 = 1;
const NO_CONTENT_CHECKSUM: u8 = 2;
const ANOTHER_INODE: u8 = 4;
/// A slot never written to; a file that ends with what was written to it.
const EMPTY: u8 = 8;
const RAW: u8 = 16;

thread_local! {
    static FILE: (TempDir, PathBuf) = {
        // In memory, where there is such a place: what is tried is no disk.
        let memory = PathBuf::from("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder");
        let path = folder.path().join("state");
        drop(StateFile::open_sized(&path, CAPACITY).expect("makes it"));
        (folder, path)
    };
}

fn state_file(bytes: &[u8]) -> Outcome {
    FILE.with(|(_, path)| {
        let file = File::options().write(true).open(path).expect("opens");
        file.set_len(0).expect("empties");
        let inode = file.metadata().expect("is there").ino();
        for (at, part) in parts(Input(bytes), inode) {
            file.write_all_at(&part, at).expect("writes");
        }
        if bytes.first().is_none_or(|flaws| flaws & EMPTY == 0) {
            file.set_len(SIZE).expect("fills");
        }
        drop(file);
        let (mut opened, loaded) = StateFile::open_sized(path, CAPACITY).expect("opens whatever lies there");
        opened.write(b"from now on this").expect("is written");
        opened.write(b"and then this").expect("is written");
        drop(opened);
        let (_, then) = StateFile::open_sized(path, CAPACITY).expect("opens");
        assert_eq!(then, Loaded::Good(b"and then this".to_vec()), "after {loaded:?}");
        matches!(loaded, Loaded::Good(_)).into()
    })
}

/// The pieces of a file, by where they are.
fn parts(mut input: Input<'_>, inode: u64) -> Vec<(u64, Vec<u8>)> {
    let mut parts = Vec::new();
    let flaws = input.byte();
    let mut home = b"pilotst1".to_vec();
    let capacity = if flaws & RAW == 0 { CAPACITY } else { input.u32() };
    home.extend(capacity.to_le_bytes());
    home.extend(if flaws & ANOTHER_INODE == 0 { inode } else { input.u64() }.to_le_bytes());
    parts.push((0, sealed(home, flaws)));
    for slot in [BLOCK, BLOCK + SLOT] {
        let flaws = input.byte();
        if flaws & EMPTY != 0 {
            continue;
        }
        let sequence = input.u64();
        let content = input.chunk();
        let content = content.get(..content.len().min(BLOCK as usize)).unwrap_or_default();
        let length = if flaws & RAW == 0 { content.len() as u32 } else { input.u32() };
        let mut header = b"pilotsl1".to_vec();
        header.extend(sequence.to_le_bytes());
        header.extend(length.to_le_bytes());
        let checksum: [u8; 32] = Sha256::digest(content).into();
        header.extend(if flaws & NO_CONTENT_CHECKSUM == 0 { checksum } else { [7; 32] });
        parts.push((slot, sealed(header, flaws)));
        parts.push((slot + BLOCK, content.to_vec()));
    }
    // Whatever else lies there.
    while !input.is_empty() {
        let at = u64::from(input.u32()) % (SIZE + 64);
        parts.push((at, input.chunk().to_vec()));
    }
    parts
}

fn sealed(mut body: Vec<u8>, flaws: u8) -> Vec<u8> {
    let checksum: [u8; 32] = Sha256::digest(&body).into();
    body.extend(if flaws & NO_CHECKSUM == 0 { checksum } else { [9; 32] });
    body
}

fn seeds() -> Vec<Vec<u8>> {
    let file = |slots: &[(u64, &[u8])]| {
        let mut out = vec![0];
        for (sequence, content) in slots {
            out.push(0);
            out.extend(sequence.to_le_bytes());
            chunk(&mut out, content);
        }
        if slots.len() == 1 {
            out.push(EMPTY);
        }
        out
    };
    vec![file(&[(1, b"first")]), file(&[(7, b"newest"), (6, b"before")]), file(&[(6, b""), (7, &[7; 4096])])]
}
