//! Server-side apply: who owns which field.

use serde_json::{Value, json};

use crate::run::{APPLY, MERGE, Run, Script};
use crate::shapes::{FOREIGN, map, placed_pod, set, unguarded};

pub(crate) const SCRIPTS: &[Script] = &[
    ("applied fields have an owner, and another's field conflicts", owners),
    ("a field that is no longer applied goes with its last owner", dropped),
    ("an ordinary write takes the fields it changes", taken),
    ("an apply is guarded by revision and identity", guarded),
    ("an apply of a part of a list leaves the rest", lists),
    ("an apply that says the same writes nothing", same),
    ("the status is owned apart", status),
];

const OWNERS: &[&str] = &["/metadata/managedFields", "/data"];

fn data(pairs: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": pairs})
}

fn owners(run: &mut Run<'_>) {
    run.apply("configmaps/a", "helm", data(json!({"one": "1"}))).see(OWNERS).go();
    run.apply("configmaps/a", "pilot", data(json!({"one": "2", "two": "2"}))).why("of another's field").go();
    run.apply("configmaps/a", "pilot", data(json!({"one": "1", "two": "2"})))
        .why("of another's field with its value")
        .see(OWNERS)
        .go();
    run.apply("configmaps/a", "pilot", data(json!({"one": "2"}))).why("of a shared field").go();
    run.apply("configmaps/a?force=true", "pilot", data(json!({"one": "2", "two": "2"}))).see(OWNERS).go();
    run.apply("configmaps/a", "helm", data(json!({"one": "1"}))).why("of what was taken").go();
    run.patch("configmaps/a", APPLY, data(json!({"one": "1"}))).why("without a manager").go();
    run.apply("configmaps/b", "pilot", data(json!({}))).why("with another name in the body").go();
    run.patch("configmaps/a?fieldManager=pilot&force=true", MERGE, json!({"data": {"one": "3"}}))
        .why("that forces")
        .go();
}

fn dropped(run: &mut Run<'_>) {
    run.apply("configmaps/a", "pilot", data(json!({"one": "1", "two": "2", "three": "3"}))).see(OWNERS).go();
    run.apply("configmaps/a", "helm", data(json!({"two": "2"}))).why("of a shared field").see(OWNERS).go();
    run.apply("configmaps/a", "pilot", data(json!({"one": "1"}))).why("without two fields").see(OWNERS).go();
    run.apply("configmaps/a", "helm", data(json!({}))).why("without anything").see(OWNERS).go();
    let mut annotated = data(json!({"one": "1"}));
    annotated["metadata"]["annotations"] = json!({"a": "1"});
    run.apply("configmaps/a", "pilot", annotated).why("with an annotation").see(&["/metadata/annotations"]).go();
    run.apply("configmaps/a", "pilot", data(json!({"one": "1"})))
        .why("without an annotation")
        .see(&["/metadata/annotations", "/data"])
        .go();
}

fn taken(run: &mut Run<'_>) {
    run.apply("configmaps/a", "helm", data(json!({"one": "1", "two": "2"}))).go();
    run.patch("configmaps/a?fieldManager=person", MERGE, json!({"data": {"one": "9"}})).see(OWNERS).go();
    run.apply("configmaps/a", "helm", data(json!({"one": "1", "two": "2"}))).why("of what was changed").go();
    run.apply("configmaps/a", "helm", data(json!({"two": "2"}))).why("of the rest").see(OWNERS).go();
    run.patch("configmaps/a?fieldManager=person", MERGE, json!({"data": {"two": null}}))
        .why("that removes")
        .see(OWNERS)
        .go();
    run.apply("configmaps/a", "helm", data(json!({"two": "2"}))).why("of what was removed").see(OWNERS).go();
}

fn guarded(run: &mut Run<'_>) {
    let first = run.apply("configmaps/a", "pilot", map("a", "1")).go();
    run.apply("configmaps/a", "pilot", map("a", "2")).go();
    let with = |metadata: Value| {
        let mut object = map("a", "3");
        for (key, value) in metadata.as_object().expect("an object") {
            object["metadata"][key] = value.clone();
        }
        object
    };
    let revision = first["metadata"]["resourceVersion"].clone();
    let uid = first["metadata"]["uid"].clone();
    run.apply("configmaps/a", "pilot", with(json!({"resourceVersion": revision}))).why("at an old revision").go();
    run.apply("configmaps/a?force=true", "pilot", with(json!({"resourceVersion": revision})))
        .why("at an old revision")
        .go();
    run.apply("configmaps/a", "pilot", with(json!({"uid": FOREIGN}))).why("of another identity").go();
    run.apply("configmaps/a", "pilot", with(json!({"managedFields": []}))).why("with managed fields").go();
    let mut whole = unguarded(&first);
    whole["data"]["key"] = json!("3");
    run.apply("configmaps/a", "pilot", whole).why("of a whole answer").go();
    run.delete("configmaps/a", json!({})).go();
    run.apply("configmaps/a", "pilot", with(json!({"resourceVersion": revision, "uid": uid})))
        .why("of what is gone, with identity and revision")
        .go();
    run.apply("configmaps/a", "pilot", with(json!({"uid": uid}))).why("of what is gone, with its identity").go();
    run.apply("configmaps/a", "pilot", with(json!({"resourceVersion": revision})))
        .why("of what is gone, with its revision")
        .go();
}

fn lists(run: &mut Run<'_>) {
    run.given("statefulsets?fieldManager=helm", set("s", 0));
    const SEEN: &[&str] =
        &["/spec/template/spec/containers/*/name", "/spec/template/spec/containers/*/image", "/spec/replicas"];
    let containers = |containers: Value| {
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"},
            "spec": {"template": {"spec": {"containers": containers}}},
        })
    };
    run.apply("statefulsets/s", "pilot", containers(json!([{"name": "side", "image": "side:1"}])))
        .why("of a new element")
        .see(SEEN)
        .go();
    run.apply("statefulsets/s", "pilot", containers(json!([{"name": "db", "image": "other:1"}])))
        .why("of another's element")
        .go();
    run.apply("statefulsets/s", "pilot", containers(json!([]))).why("of none").see(SEEN).go();
    let size = |replicas: u32| {
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"}, "spec": {"replicas": replicas},
        })
    };
    run.apply("statefulsets/s", "pilot", size(1)).why("of another's size").go();
    run.patch("statefulsets/s/scale?fieldManager=scaler", MERGE, json!({"spec": {"replicas": 1}})).go();
    run.apply("statefulsets/s", "pilot", size(0)).why("of a scaled size").go();
}

fn same(run: &mut Run<'_>) {
    run.apply("configmaps/a", "pilot", data(json!({"one": "1"}))).go();
    run.apply("configmaps/a", "pilot", data(json!({"one": "1"}))).why("again").go();
    run.apply("configmaps/a", "helm", data(json!({"one": "1"}))).why("by another").go();
    run.apply("configmaps/a", "helm", data(json!({"one": "1"}))).why("by another, again").go();
    run.apply("configmaps/a?dryRun=All", "helm", data(json!({"one": "1", "two": "2"}))).see(&["/data"]).go();
    run.get("configmaps/a").see(&["/data"]).go();
}

fn status(run: &mut Run<'_>) {
    run.given("pods?fieldManager=person", placed_pod("p"));
    let phase = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "status": {"message": "hello"}});
    const SEEN: &[&str] = &["/status/message", "/metadata/managedFields"];
    run.apply("pods/p/status", "pilot", phase.clone()).see(SEEN).go();
    run.apply("pods/p", "pilot", phase).why("of a status to the main resource").see(SEEN).go();
    run.patch("pods/p/status?fieldManager=other", MERGE, json!({"status": {"message": "bye"}})).see(SEEN).go();
    run.apply(
        "pods/absent/status",
        "pilot",
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "absent"}}),
    )
    .go();
    run.delete("pods/p", json!({"gracePeriodSeconds": 0})).go();
}
