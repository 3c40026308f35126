//! The generated reference is the one that is committed.

use policies::reference::{self, REGENERATE};
use std::path::{Path, PathBuf};

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference").join(name)
}

/// Compares a generated text with the committed file; writes it instead where that was asked for.
#[allow(clippy::disallowed_methods, reason = "a test may read and write files; the crate may not")]
fn check(name: &str, generated: &str) {
    let path = docs(name);
    if std::env::var_os("REGENERATE").is_some() {
        let written = std::fs::create_dir_all(docs("")).and_then(|()| std::fs::write(&path, generated));
        assert!(written.is_ok(), "cannot write {}: {written:?}", path.display());
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "docs/reference/{name} is stale: regenerate it with `{REGENERATE}` and commit it");
}

#[test]
fn the_policy_reference_is_not_stale() {
    check("policy.md", &reference::markdown());
}

#[test]
fn the_policy_schema_is_not_stale() {
    check("policy.schema.json", &reference::schema());
}

#[test]
fn the_reference_names_every_setting_and_the_schema_knows_its_place() {
    let page = reference::markdown();
    let schema: serde_json::Value = serde_json::from_str(&reference::schema()).unwrap();
    for setting in policies::setting::all() {
        let heading = format!("\n### {}\n", setting.path.trim_start_matches("spec."));
        assert_eq!(page.matches(&heading).count(), 1, "{}", setting.path);
        let pointer = format!("/properties/{}", setting.path.replace('.', "/properties/"));
        assert!(schema.pointer(&pointer).is_some(), "{pointer}");
    }
}
