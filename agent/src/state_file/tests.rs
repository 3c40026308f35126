use super::*;
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    (directory, path)
}

/// A file into which these were written, one after the other.
fn written(path: &Path, contents: &[&str]) {
    let (mut file, _) = StateFile::open(path).unwrap();
    for content in contents {
        file.write(content.as_bytes()).unwrap();
    }
}

fn load(path: &Path) -> Loaded {
    StateFile::open(path).unwrap().1
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn good(text: &str) -> Loaded {
    Loaded::Good(text.as_bytes().to_vec())
}

/// Never `Good`, and if it gives anything back at all then this.
fn is_suspect(found: &Loaded, text: &str) -> bool {
    matches!(found, Loaded::GoodButSuspect { bytes, .. } if bytes == text.as_bytes())
}

const FIRST: u64 = BLOCK;
fn second() -> u64 {
    slot_at(1, DEFAULT_CAPACITY)
}

#[test]
fn a_new_file_is_fresh_and_the_last_write_is_read_back() {
    let (_keep, path) = place();
    assert_eq!(load(&path), Loaded::Fresh);
    assert_eq!(load(&path), Loaded::Fresh);
    for round in 0..7 {
        let text = format!("epoch {round}");
        written(&path, &[&text]);
        assert_eq!(load(&path), good(&text));
    }
    written(&path, &[""]);
    assert_eq!(load(&path), good(""));
}

#[test]
fn a_second_pilot_is_refused_and_told_who_holds_the_volume() {
    let (_keep, path) = place();
    let held = StateFile::open(&path).unwrap();
    let error = StateFile::open(&path).unwrap_err().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    drop(held);
    assert_eq!(load(&path), Loaded::Fresh);
}

#[test]
fn a_bit_flipped_in_the_newest_content_gives_the_older_one_as_suspect() {
    let (_keep, path) = place();
    written(&path, &["one", "two"]);
    flip(&path, second() + BLOCK + 1);
    assert!(is_suspect(&load(&path), "one"), "{:?}", load(&path));
}

#[test]
fn a_bit_flipped_in_the_newest_header_gives_the_older_one_as_suspect() {
    let (_keep, path) = place();
    for bit in 0..SLOT_HEADER_LENGTH as u64 {
        let (_keep_too, path_too) = place();
        written(&path_too, &["one", "two", "three"]);
        flip(&path_too, FIRST + bit);
        assert!(is_suspect(&load(&path_too), "two"), "bit {bit}");
    }
    written(&path, &["one"]);
    flip(&path, FIRST + 9);
    assert!(matches!(load(&path), Loaded::Damaged { .. }));
}

#[test]
fn a_write_cut_off_before_its_header_was_never_acknowledged_and_raises_no_suspicion() {
    let (_keep, path) = place();
    written(&path, &["one", "two"]);
    // The third write would go to the first slot; power was cut after half of its content.
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"th", FIRST + BLOCK).unwrap();
    assert_eq!(load(&path), good("two"));
    written(&path, &["three"]);
    assert_eq!(load(&path), good("three"));
}

#[test]
fn a_truncated_file_is_damaged_until_it_is_written_again() {
    for length in [0, 100, BLOCK, second() + 10] {
        let (_keep, path) = place();
        written(&path, &["one", "two"]);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(length).unwrap();
        drop(file);
        assert!(matches!(load(&path), Loaded::Damaged { .. }), "{length}");
        written(&path, &["floor"]);
        assert_eq!(load(&path), good("floor"), "{length}");
    }
}

#[test]
fn a_ruined_file_leaves_no_suspicion_once_written() {
    let (_keep, path) = place();
    written(&path, &["one", "two"]);
    flip(&path, FIRST + 9);
    flip(&path, second() + 9);
    assert!(matches!(load(&path), Loaded::Damaged { .. }));
    written(&path, &["floor"]);
    assert_eq!(load(&path), good("floor"));
}

#[test]
fn a_write_after_a_suspicion_clears_it() {
    let (_keep, path) = place();
    written(&path, &["one", "two"]);
    flip(&path, second() + BLOCK);
    assert!(is_suspect(&load(&path), "one"));
    written(&path, &["floor"]);
    assert_eq!(load(&path), good("floor"));
}

#[test]
fn an_old_copy_put_back_is_suspect() {
    let (keep, path) = place();
    written(&path, &["old"]);
    let copy = keep.path().join("copy");
    std::fs::copy(&path, &copy).unwrap();
    written(&path, &["new"]);
    std::fs::rename(&copy, &path).unwrap();
    assert!(is_suspect(&load(&path), "old"), "{:?}", load(&path));
    written(&path, &["floor"]);
    assert_eq!(load(&path), good("floor"));
}

#[test]
fn a_wiped_file_is_not_taken_for_a_fresh_one() {
    let (_keep, path) = place();
    written(&path, &["one", "two"]);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(0).unwrap();
    file.set_len(file_size(DEFAULT_CAPACITY)).unwrap();
    drop(file);
    assert!(matches!(load(&path), Loaded::Damaged { .. }));
}

#[test]
fn a_file_whose_numbers_end_is_numbered_anew_and_loses_no_write() {
    for last in [LAST_SEQUENCE - 1, LAST_SEQUENCE, u64::MAX - 1, u64::MAX] {
        let (_keep, path) = place();
        written(&path, &["one"]);
        let header = SlotHeader { sequence: last, length: 3, checksum: Sha256::digest(b"one").into() };
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&header.encode(), FIRST).unwrap();
        drop(file);
        for text in ["two", "three", "four"] {
            written(&path, &[text]);
            assert_eq!(load(&path), good(text), "after number {last}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let (_keep, path) = place();
    written(&path, &["one"]);
    let (mut file, _) = StateFile::open(&path).unwrap();
    let error = file.write(&vec![1; DEFAULT_CAPACITY as usize + 1]).unwrap_err();
    assert!(matches!(error, StateFileError::TooLarge { .. }));
    drop(file);
    assert_eq!(load(&path), good("one"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 64, rng_seed: proptest::test_runner::RngSeed::Fixed(3), failure_persistence: None, ..Default::default() })]
    #[test]
    fn any_one_damaged_byte_of_a_slot_never_rolls_back_unnoticed(writes in 1_usize..5, at in 0_u64..200, high in 0_u64..2) {
        let (_keep, path) = place();
        let contents: Vec<String> = (0..writes).map(|n| format!("{n}").repeat(20)).collect();
        written(&path, &contents.iter().map(String::as_str).collect::<Vec<_>>());
        let newest = (writes as u64 - 1) % 2;
        // Either the newest slot's header or its content.
        flip(&path, slot_at(newest, DEFAULT_CAPACITY) + high * BLOCK + at % (if high == 0 { SLOT_HEADER_LENGTH as u64 } else { 20 }));
        let damaged = matches!(load(&path), Loaded::GoodButSuspect { .. } | Loaded::Damaged { .. });
        proptest::prop_assert!(damaged);
    }
}
