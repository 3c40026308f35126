//! The generated reference of the state document is the one that is committed.

use agent::http::reference::{self, REGENERATE};
use std::path::Path;

/// Compares a generated text with the committed file; writes it instead where that was asked for.
fn check(name: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference").join(name);
    if std::env::var_os("REGENERATE").is_some() {
        std::fs::write(&path, generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "docs/reference/{name} is stale: regenerate it with `{REGENERATE}` and commit it");
}

#[test]
fn the_state_reference_is_not_stale() {
    check("state.md", &reference::markdown());
}

#[test]
fn the_state_schema_is_not_stale() {
    check("state.schema.json", &format!("{}\n", serde_json::to_string_pretty(&reference::schema()).unwrap()));
}

#[test]
fn every_type_that_the_page_links_to_is_told_on_it() {
    let page = reference::markdown();
    for link in page.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(page.to_lowercase().contains(&format!("\n## {link}\n")), "{link}");
    }
}

#[test]
fn every_rule_and_every_condition_is_told_in_the_operations_guide() {
    let page = include_str!("../../docs/operations.md");
    let told = |word: &str| page.lines().any(|line| line.starts_with(&format!("| `{word}` |")));
    for rule in policies::plan::Rule::ALL {
        assert!(told(rule.word()), "docs/operations.md does not tell the rule {}", rule.word());
    }
    for condition in [policies::decide::SIZE_REFUSED, policies::replace::DATA_LOST] {
        assert!(told(condition), "docs/operations.md does not tell the condition {condition}");
    }
}
