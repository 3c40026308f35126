//! The Role that is printed allows exactly the requests that are sent.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use super::call::{Call, EventContent, LeaseContent};
use super::translate::{HttpCall, Names, encode};
use bootstrap::rights::Access;
use policies::plan::ClaimMarks;
use policies::world::{ObjectRead, ResourceVersion, Target};
use protocol::epoch::Epoch;
use protocol::id::{ClusterId, PilotName, Uid};
use protocol::record::ClusterRecord;
use protocol::time::Millis;
use std::collections::BTreeSet;

fn names() -> Names {
    Names {
        namespace: "shop".into(),
        set: "orders".into(),
        claim_template: "data".into(),
        pod: PilotName::parse("orders-1").unwrap(),
    }
}

fn target(name: &str) -> Target {
    let read =
        ObjectRead { name: name.into(), uid: Uid::new("u"), version: ResourceVersion("7".into()), stamp: Epoch::NONE };
    read.target(Epoch(3)).unwrap()
}

fn lease() -> LeaseContent {
    LeaseContent { holder: None, epoch: Epoch(3), cluster: None, duration: Millis(10_000), transitions: 0 }
}

fn record() -> ClusterRecord {
    serde_json::from_value(serde_json::json!({
        "cluster": "c", "epoch": 3, "roster": [], "roster_revision": 0, "members": {}, "next_operation": 1,
    }))
    .expect("a record")
}

/// One of each. That none is left out is told by the test: every access is met.
fn calls() -> Vec<Call> {
    let marks = ClaimMarks { cluster: ClusterId::new("c"), identity: None, retired: false };
    let event = EventContent { reason: "Joined".into(), note: "n".into(), warning: false, unique: "3-1".into() };
    vec![
        Call::GetLease,
        Call::CreateLease(lease()),
        Call::ReplaceLease { uid: Uid::new("u"), version: ResourceVersion("7".into()), content: lease() },
        Call::GetRecord,
        Call::CreateRecord(Box::new(record())),
        Call::ReplaceRecord(target("orders-pilots"), Box::new(record())),
        Call::GetSet,
        Call::StampSet(target("orders")),
        Call::Scale(target("orders"), 3),
        Call::ListPods,
        Call::ListClaims,
        Call::MarkClaim(target("data-orders-1"), marks),
        Call::StampPod(target("orders-1")),
        Call::EvictPod(target("orders-1")),
        Call::GetOwnPod,
        Call::GetOwnClaim,
        Call::PostEvent(event),
    ]
}

/// A request as the API server's authoriser sees it: verb, group, resource with its subresource, object.
fn attributes(call: &HttpCall) -> (&'static str, String, String, Option<String>) {
    let parts: Vec<&str> = call.path.trim_start_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", "v1", "namespaces", "shop", rest @ ..] => ("", rest),
        ["apis", group, _, "namespaces", "shop", rest @ ..] => (*group, rest),
        other => panic!("not in the namespace: {other:?}"),
    };
    let (resource, object) = match rest {
        [kind] => ((*kind).to_owned(), None),
        [kind, name] => ((*kind).to_owned(), Some((*name).to_owned())),
        [kind, name, sub] => (format!("{kind}/{sub}"), Some((*name).to_owned())),
        other => panic!("{other:?}"),
    };
    let verb = match (call.method, &object) {
        ("GET", None) => "list",
        ("GET", Some(_)) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        other => panic!("{other:?}"),
    };
    (verb, group.to_owned(), resource, object)
}

#[test]
fn each_request_is_what_its_rule_allows() {
    for call in calls() {
        let right = call.access().right();
        let (verb, group, resource, object) = attributes(&encode(&names(), &call, "2026-01-01T00:00:00Z").unwrap());
        assert_eq!((verb, group.as_str(), resource.as_str()), (right.verb, right.rule.group(), right.rule.resource()));
        if let Some(only) = right.rule.object("orders") {
            assert_eq!(object.as_deref(), Some(only.as_str()), "{call:?}");
        }
    }
}

#[test]
fn every_access_that_the_role_allows_is_one_that_a_call_needs() {
    let needed: BTreeSet<Access> = calls().iter().map(Call::access).collect();
    assert_eq!(needed, Access::ALL.into_iter().collect());
}
