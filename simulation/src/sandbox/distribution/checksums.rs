//! The committed list of what must have been fetched, bit by bit.

use super::FetchError;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// File names with their SHA-256, as `sha256sum` prints them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checksums(BTreeMap<String, String>);

impl Checksums {
    /// Reads the output of `sha256sum`.
    pub(super) fn parse(list: &str) -> Self {
        Self(
            list.lines()
                .filter_map(|line| line.split_once(char::is_whitespace))
                .map(|(sum, name)| (name.trim().trim_start_matches('*').to_owned(), sum.to_owned()))
                .collect(),
        )
    }

    /// The names, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// How many files.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a file of this name is listed.
    pub(super) fn lists(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// One sum over the list: another list has another.
    pub(super) fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for (name, sum) in &self.0 {
            hash.update(format!("{sum}  {name}\n"));
        }
        hex(&hash.finalize())
    }

    /// That the folder holds exactly what is listed.
    pub(super) fn verify(&self, folder: &Path) -> Result<(), FetchError> {
        let io = |source| FetchError::Io { doing: "read", path: folder.to_owned(), source };
        let mut wrong = Vec::new();
        for (name, expected) in &self.0 {
            match sum(&folder.join(name)) {
                Ok(found) if found == *expected => {}
                Ok(found) => wrong.push(format!("{name} has sha256 {found} but must have {expected}")),
                Err(e) if e.kind() == io::ErrorKind::NotFound => wrong.push(format!("{name} is missing")),
                Err(e) => return Err(io(e)),
            }
        }
        let listed: BTreeSet<&str> = self.names().collect();
        for entry in fs::read_dir(folder).map_err(io)? {
            let name = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
            if !listed.contains(name.as_str()) {
                wrong.push(format!("{name} is not listed"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(FetchError::Checksums { wrong }) }
    }
}

fn sum(file: &Path) -> io::Result<String> {
    let mut file = File::open(file)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn list() -> Checksums {
        Checksums::parse(&format!("{EMPTY}  a.jar\n{EMPTY}  b.jar\n"))
    }

    #[test]
    fn a_folder_with_exactly_the_listed_files_passes() {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join("a.jar"), "").expect("file");
        fs::write(folder.path().join("b.jar"), "").expect("file");
        list().verify(folder.path()).expect("passes");
    }

    #[test]
    fn everything_missing_changed_or_foreign_is_named_at_once() {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join("a.jar"), "changed").expect("file");
        fs::write(folder.path().join("c.jar"), "").expect("file");
        let Err(FetchError::Checksums { wrong }) = list().verify(folder.path()) else { panic!("must fail") };
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[0].starts_with("a.jar has sha256") && wrong[0].ends_with(EMPTY));
        assert_eq!(wrong[1], "b.jar is missing");
        assert_eq!(wrong[2], "c.jar is not listed");
    }

    #[test]
    fn another_list_has_another_fingerprint() {
        assert_ne!(list().fingerprint(), Checksums::parse(&format!("{EMPTY}  a.jar\n")).fingerprint());
    }
}
