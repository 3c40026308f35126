//! The Role is narrow, and every rule says which feature needs it.

use bootstrap::labels::Labels;
use bootstrap::manifest::{Value, print};
use bootstrap::rbac::{self, Subject};
use bootstrap::rights::{Access, rules};
use std::collections::BTreeSet;

mod support;
use support::golden;

fn subject() -> Subject {
    Subject { set: "orders".into(), namespace: Some("shop".into()), account: None }
}

#[test]
fn the_printed_rights_are_the_pinned_ones() {
    let objects = rbac::objects(&subject(), &Labels::cassandra("orders"));
    golden("rbac.yaml", &print::yaml(&objects).unwrap());
}

#[test]
fn an_account_that_is_there_gets_the_rights_and_none_is_made() {
    let subject = Subject { account: Some("db".into()), namespace: None, ..subject() };
    let objects = rbac::objects(&subject, &Labels::cassandra("orders"));
    let kinds: Vec<&str> = objects.iter().filter_map(|o| o.get("kind")?.text()).collect();
    assert_eq!(kinds, ["Role", "RoleBinding"]);
    let binding = Value::from(objects[1].clone());
    assert_eq!(binding.list_at(&["subjects"])[0].name(), Some("db"));
    assert_eq!(binding.at(&["subjects"]).map(|_| binding.at(&["metadata", "namespace"])), Some(None));
}

#[test]
fn every_access_is_listed_once_and_no_rule_allows_more_than_they_need() {
    let all: BTreeSet<Access> = Access::ALL.into_iter().collect();
    assert_eq!(all.len(), Access::ALL.len());
    let allowed: usize = rules().iter().map(|(_, verbs)| verbs.len()).sum();
    assert_eq!(allowed, Access::ALL.len(), "a verb of a rule that no access needs, or two accesses for one verb");
}

#[test]
fn nothing_can_be_deleted_watched_or_escalated_and_no_secret_is_read() {
    for (rule, verbs) in rules() {
        assert!(!rule.why().is_empty());
        for verb in verbs {
            assert!(["get", "list", "create", "update", "patch"].contains(&verb), "{verb} on {}", rule.resource());
        }
        assert!(!["secrets", "nodes", "pods/exec", "serviceaccounts"].contains(&rule.resource()));
    }
}
