//! Subresources, and what is not served.

use serde_json::{Value, json};

use crate::run::{MERGE, Run, Script};
use crate::shapes::{FOREIGN, map, set, unguarded};

pub(crate) const SCRIPTS: &[Script] = &[
    ("a size is written by the scale subresource, guarded or not", scale),
    ("a size that cannot be is refused", bad_scale),
    ("what is absent is not found", not_found),
    ("what a resource cannot do is not allowed", not_allowed),
];

const SIZE: &[&str] = &["/spec", "/status/replicas", "/status/selector"];

/// Until the controller has said all it has to say of an empty set: then nobody else moves its revision.
fn quiet(run: &mut Run<'_>) -> Value {
    run.until("statefulsets/s", "its controller has seen it", &["/status/observedGeneration"], |answer| {
        answer.body["status"]["observedGeneration"] == answer.body["metadata"]["generation"]
            && !answer.body["status"]["updateRevision"].is_null()
    })
}

fn scale(run: &mut Run<'_>) {
    run.given("statefulsets", set("s", 0));
    quiet(run);
    let old = run.get("statefulsets/s/scale").see(SIZE).go();
    let mut wanted = unguarded(&old);
    wanted["spec"]["replicas"] = json!(1);
    run.put("statefulsets/s/scale", wanted.clone()).why("unguarded").see(SIZE).go();
    let mut stale = old.clone();
    stale["spec"]["replicas"] = json!(2);
    run.put("statefulsets/s/scale", stale).why("at an old revision").go();
    let mut foreign = wanted.clone();
    foreign["metadata"]["uid"] = json!(FOREIGN);
    run.put("statefulsets/s/scale", foreign).why("of another identity").go();
    run.patch(
        "statefulsets/s/scale",
        MERGE,
        json!({"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}, "spec": {"replicas": 4}}),
    )
    .why("at an old revision")
    .go();
    run.patch("statefulsets/s/scale", MERGE, json!({"spec": {"replicas": 0}})).why("unguarded").see(&["/spec"]).go();
    run.get("statefulsets/s").see(&["/spec/replicas"]).go();
    run.until_names("pods", &[]);
    let newest = run.get("statefulsets/s/scale").why("in the end").see(&["/spec"]).go();
    run.note("it is the set's identity", newest["metadata"]["uid"] == old["metadata"]["uid"]);
}

fn bad_scale(run: &mut Run<'_>) {
    run.given("statefulsets", set("s", 0));
    let old = run.look("statefulsets/s/scale").body;
    let with = |replicas: Value| {
        let mut scale = unguarded(&old);
        scale["spec"] = json!({"replicas": replicas});
        scale
    };
    run.put("statefulsets/s/scale", with(json!(-1))).why("of a negative size").go();
    run.put("statefulsets/s/scale", with(json!("three"))).why("of no number").go();
    let mut other = with(json!(1));
    other["metadata"]["name"] = json!("other");
    run.put("statefulsets/s/scale", other).why("of another name").go();
    run.put("statefulsets/absent/scale", with(json!(1))).why("with another name").go();
    let mut absent = with(json!(1));
    absent["metadata"]["name"] = json!("absent");
    run.put("statefulsets/absent/scale", absent).go();
    run.get("statefulsets/absent/scale").go();
    run.post("statefulsets/s/scale", with(json!(1))).go();
    run.get("statefulsets/s").see(&["/spec/replicas"]).go();
}

fn not_found(run: &mut Run<'_>) {
    for path in ["configmaps/a", "pods/a", "statefulsets/a", "leases/a", "poddisruptionbudgets/a"] {
        run.get(path).see(&["/details/name", "/details/kind", "/details/group"]).go();
    }
    run.patch("configmaps/a", MERGE, json!({})).go();
    run.get("/api/v1/namespaces/NAMESPACE/gadgets").go();
    run.get("/apis/gadgets.test/v1/gadgets").go();
    run.get("/api/v2/pods").go();
    run.get("/apis/apps/v0/namespaces/NAMESPACE/statefulsets").go();
    run.given("configmaps", map("a", "1"));
    run.get("configmaps/a/scale").go();
    run.get("configmaps/a/nonsense").go();
    run.get("/api/v1/namespaces/absent/configmaps").go();
    run.get("/api/v1/namespaces/absent/configmaps/a").go();
    run.delete("/api/v1/namespaces/NAMESPACE/gadgets/a", json!({})).go();
}

fn not_allowed(run: &mut Run<'_>) {
    run.given("configmaps", map("a", "1"));
    run.given("statefulsets", set("s", 0));
    run.post("configmaps/a", map("a", "1")).go();
    run.put("configmaps", map("a", "1")).go();
    run.delete("statefulsets/s/status", json!({})).go();
    run.delete("statefulsets/s/scale", json!({})).go();
    run.get("pods/absent/eviction").go();
}
