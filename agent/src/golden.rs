//! Pinned texts of tests, in `tests/golden`: a change of what people and tools see shows as a diff.

/// Compares with a committed file; writes it instead where that was asked for.
pub(crate) fn check(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("REGENERATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(committed, text, "{name} differs: regenerate it with REGENERATE=1 and look at the diff");
}
