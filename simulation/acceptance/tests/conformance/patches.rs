//! The patches that carry no ownership.

use serde_json::{Value, json};

use crate::run::{JSON_PATCH, MERGE, Run, STRATEGIC, Script};
use crate::shapes::{FOREIGN, lease, map, set};

pub(crate) const SCRIPTS: &[Script] = &[
    ("a merge patch is guarded by what its body names alone", guarded),
    ("a merge patch removes by null and replaces lists", merged),
    ("a JSON patch whose test fails is refused as invalid", tested),
    ("a JSON patch that cannot be read or does not apply is refused", misapplied),
    ("a strategic patch merges lists by key", strategic),
    ("a patch of an unknown kind is refused", unknown),
];

fn guarded(run: &mut Run<'_>) {
    let old = run.post("leases", lease("l", "a")).go();
    let take = |holder: &str, metadata: Value| json!({"metadata": metadata, "spec": {"holderIdentity": holder}});
    run.patch("leases/l", MERGE, take("b", json!({}))).why("unguarded").see(&["/spec/holderIdentity"]).go();
    let revision = json!({"resourceVersion": old["metadata"]["resourceVersion"]});
    run.patch("leases/l", MERGE, take("c", revision.clone())).why("at an old revision").go();
    run.patch("leases/l", STRATEGIC, take("c", revision)).why("strategic, at an old revision").go();
    let newest = run.look("leases/l").body["metadata"]["resourceVersion"].clone();
    run.patch("leases/l", MERGE, take("d", json!({"resourceVersion": newest}))).why("at the newest revision").go();
    run.patch("leases/l", MERGE, take("e", json!({"uid": FOREIGN}))).why("of another identity").go();
    run.patch("leases/l", MERGE, take("e", json!({"uid": old["metadata"]["uid"]}))).why("of its identity").go();
    run.patch(
        "leases/l",
        MERGE,
        take("f", json!({"uid": FOREIGN, "resourceVersion": old["metadata"]["resourceVersion"]})),
    )
    .why("of another identity at an old revision")
    .go();
    run.patch("leases/absent", MERGE, take("g", json!({}))).go();
    run.get("leases/l").see(&["/spec/holderIdentity"]).go();
}

fn merged(run: &mut Run<'_>) {
    let mut object = map("a", "1");
    object["data"]["other"] = json!("2");
    object["metadata"]["finalizers"] = json!(["conformance.test/one", "conformance.test/two"]);
    run.post("configmaps", object).go();
    run.patch("configmaps/a", MERGE, json!({"data": {"other": null, "third": "3"}})).see(&["/data"]).go();
    run.patch("configmaps/a", MERGE, json!({"metadata": {"finalizers": ["conformance.test/three"]}}))
        .why("of a list")
        .go();
    run.patch("configmaps/a", MERGE, json!({"data": null})).why("of everything").see(&["/data"]).go();
    run.patch("configmaps/a", MERGE, json!([1])).why("that is a list").go();
    run.patch("configmaps/a", MERGE, json!({"metadata": {"finalizers": null}})).why("of the last").go();
}

fn tested(run: &mut Run<'_>) {
    let old = run.post("configmaps", map("a", "1")).go();
    let change = |path: &str, value: &Value| {
        json!([
            {"op": "test", "path": path, "value": value},
            {"op": "replace", "path": "/data/key", "value": "2"},
        ])
    };
    let revision = &old["metadata"]["resourceVersion"];
    run.patch("configmaps/a", JSON_PATCH, change("/metadata/resourceVersion", revision)).see(&["/data"]).go();
    run.patch("configmaps/a", JSON_PATCH, change("/metadata/resourceVersion", revision)).why("at an old revision").go();
    run.patch("configmaps/a", JSON_PATCH, change("/metadata/uid", &json!(FOREIGN))).why("of another identity").go();
    run.patch("configmaps/a", JSON_PATCH, change("/metadata/annotations/epoch", &json!("7")))
        .why("of an annotation that is absent")
        .go();
    let replaced = json!([{"op": "replace", "path": "/metadata/resourceVersion", "value": revision}, {"op": "replace", "path": "/data/key", "value": "9"}]);
    run.patch("configmaps/a", JSON_PATCH, replaced).why("that sets an old revision").go();
}

fn misapplied(run: &mut Run<'_>) {
    let mut object = map("a", "1");
    object["metadata"]["finalizers"] = json!(["conformance.test/one"]);
    run.post("configmaps", object).go();
    for (why, patch) in [
        ("that replaces what is absent", json!([{"op": "replace", "path": "/data/absent", "value": "1"}])),
        ("that removes what is absent", json!([{"op": "remove", "path": "/data/absent"}])),
        ("that adds below what is absent", json!([{"op": "add", "path": "/absent/deeper/key", "value": "1"}])),
        ("of an unknown operation", json!([{"op": "burn", "path": "/data/key"}])),
        ("that is an object", json!({"data": {"key": "2"}})),
        (
            "that adds to a list",
            json!([{"op": "add", "path": "/metadata/finalizers/-", "value": "conformance.test/two"}]),
        ),
        (
            "that adds to a list beyond its end",
            json!([{"op": "add", "path": "/metadata/finalizers/9", "value": "conformance.test/x"}]),
        ),
        (
            "that copies and moves",
            json!([{"op": "copy", "from": "/data/key", "path": "/data/two"}, {"op": "move", "from": "/data/key", "path": "/data/three"}]),
        ),
        ("that removes a list", json!([{"op": "remove", "path": "/metadata/finalizers"}])),
    ] {
        run.patch("configmaps/a", JSON_PATCH, patch).why(why).see(&["/data"]).go();
    }
}

fn strategic(run: &mut Run<'_>) {
    run.given("statefulsets", set("s", 0));
    let template = |spec: Value| json!({"spec": {"template": {"spec": spec}}});
    const NAMES: &[&str] = &[
        "/spec/template/spec/containers/*/name",
        "/spec/template/spec/containers/*/image",
        "/spec/template/spec/nodeSelector",
    ];
    let add = template(json!({"containers": [{"name": "side", "image": "side:1"}]}));
    run.patch("statefulsets/s", STRATEGIC, add).why("that adds a container").see(NAMES).go();
    let change = template(json!({"containers": [{"name": "db", "image": "nothing:2"}]}));
    run.patch("statefulsets/s", STRATEGIC, change).why("of one container").see(NAMES).go();
    let remove = template(json!({"containers": [{"name": "side", "$patch": "delete"}]}));
    run.patch("statefulsets/s", STRATEGIC, remove).why("that deletes a container").see(NAMES).go();
    let replace = template(json!({"nodeSelector": {"$patch": "replace", "other": "where"}}));
    run.patch("statefulsets/s", STRATEGIC, replace).why("that replaces a map").see(NAMES).go();
    let null = template(json!({"nodeSelector": null}));
    run.patch("statefulsets/s", STRATEGIC, null).why("that removes a map").see(NAMES).go();
    run.given("configmaps", map("a", "1"));
    let finalizers = |own: Value| json!({"metadata": {"finalizers": own}});
    run.patch("configmaps/a", STRATEGIC, finalizers(json!(["conformance.test/one"]))).why("of a finalizer").go();
    run.patch("configmaps/a", STRATEGIC, finalizers(json!(["conformance.test/two"]))).why("of a second finalizer").go();
    let gone = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["conformance.test/one"]}});
    run.patch("configmaps/a", STRATEGIC, gone).why("that deletes one finalizer").go();
    run.patch("configmaps/a", MERGE, finalizers(json!(null))).go();
}

fn unknown(run: &mut Run<'_>) {
    run.given("configmaps", map("a", "1"));
    run.patch("configmaps/a", "application/json", json!({"data": {"key": "2"}})).why("as plain JSON").go();
    run.patch("configmaps/a", "text/plain", json!({"data": {"key": "2"}})).why("as text").go();
    run.patch("configmaps/a", "application/merge-patch+json; charset=utf-8", json!({"data": {"key": "2"}}))
        .why("with a parameter")
        .see(&["/data"])
        .go();
    run.patch("configmaps", MERGE, json!({"data": {"key": "2"}})).why("of a collection").go();
}
