//! What tests of this crate share.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::path::Path;

/// Compares with a committed file of `tests/golden`; writes it instead where that was asked for.
#[allow(dead_code, reason = "not every test has a pinned text")]
pub(crate) fn golden(name: &str, text: &str) {
    pinned(&Path::new("tests/golden").join(name), text);
}

/// Compares with a committed file, its path relative to the crate.
pub(crate) fn pinned(path: &Path, text: &str) {
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("REGENERATE").is_some() {
        std::fs::write(&whole, text).unwrap();
    }
    let committed = std::fs::read_to_string(&whole).unwrap_or_default();
    assert!(
        committed == text,
        "{} differs from what is made now: REGENERATE=1 writes it, then look at the diff\n{}",
        path.display(),
        similar::TextDiff::from_lines(&committed, text).unified_diff()
    );
}
