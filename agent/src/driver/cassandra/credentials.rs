//! As whom the pilot asks its database: read from mounted files, anew for each connection.

use std::io;
use std::path::{Path, PathBuf};

/// The longest name or password, in bytes: more is a wrong file.
const LONGEST: u64 = 1024;

/// A role and its password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: String,
}

// A password is never logged, by nobody's mistake.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Why they cannot be had. The found value, the rule, the remedy.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialsError {
    #[error("cannot read {path}: {source}; the Secret needs the entries `username` and `password`", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{path} is empty or longer than {LONGEST} bytes, or no text, and must be one line: mend the Secret",
        path = path.display()
    )]
    Content { path: PathBuf },
}

impl Credentials {
    /// The files `username` and `password` of this folder, as a Secret of the type `kubernetes.io/basic-auth` is mounted. A line's
    /// end after them does not count.
    pub(super) fn read(folder: &Path) -> Result<Self, CredentialsError> {
        Ok(Self { username: line(&folder.join("username"))?, password: line(&folder.join("password"))? })
    }
}

fn line(path: &Path) -> Result<String, CredentialsError> {
    let read = |source| CredentialsError::Read { path: path.to_owned(), source };
    let content = || CredentialsError::Content { path: path.to_owned() };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(read)?;
    // A file that is a device never ends.
    io::Read::read_to_end(&mut io::Read::take(file, LONGEST + 1), &mut bytes).map_err(read)?;
    let text = String::from_utf8(bytes).map_err(|_| content())?;
    let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    let fits = !line.is_empty() && u64::try_from(line.len()).is_ok_and(|length| length <= LONGEST);
    if fits && !line.contains(['\n', '\0']) { Ok(line.to_owned()) } else { Err(content()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(username: &[u8], password: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("username"), username).unwrap();
        std::fs::write(folder.path().join("password"), password).unwrap();
        folder
    }

    #[test]
    fn the_end_of_a_line_does_not_count_and_spaces_do() {
        let read = Credentials::read(folder(b"pilot\n", b" a b\r\n").path()).unwrap();
        assert_eq!((read.username.as_str(), read.password.as_str()), ("pilot", " a b"));
        assert!(!format!("{read:?}").contains("a b"));
    }

    #[test]
    fn what_is_missing_empty_too_long_or_no_line_is_named_and_never_shown() {
        let long = vec![b'x'; 2000];
        for bad in [b"".as_slice(), b"\n", b"a\nsecret\n", b"\xff\xfe", &long] {
            let error = Credentials::read(folder(b"pilot", bad).path()).unwrap_err().to_string();
            assert!(error.contains("password") && !error.contains("secret"), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert!(Credentials::read(folder.path()).unwrap_err().to_string().contains("username"));
    }
}
