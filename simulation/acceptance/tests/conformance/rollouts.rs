//! How a changed template reaches the pods.

use serde_json::{Value, json};

use crate::run::{MERGE, Run, Script};
use crate::sets::{make_ready, scale, seen};
use crate::shapes::set;

pub(crate) const SCRIPTS: &[Script] = &[
    ("on delete, pods keep their template until they are deleted", on_delete),
    ("a rolling update replaces from the highest down, one that is ready at a time", rolling),
    ("a partition holds a rolling update back", partition),
    ("a template changed back has its old name again", back),
    ("a rolling update does not go past a pod that is not ready", stuck),
];

const STATUS: &[&str] = &[
    "/status/currentRevision",
    "/status/updateRevision",
    "/status/currentReplicas",
    "/status/updatedReplicas",
    "/status/replicas",
];
const HASH: &[&str] = &["/metadata/labels/controller-revision-hash", "/metadata/annotations"];

fn template(version: &str) -> Value {
    json!({"spec": {"template": {"metadata": {"annotations": {"version": version}}}}})
}

fn change(run: &mut Run<'_>, version: &str) {
    run.patch("statefulsets/s", MERGE, template(version)).why("of the template").go();
}

fn formed(run: &mut Run<'_>, strategy: Value) {
    let mut object = set("s", 3);
    object["spec"]["updateStrategy"] = strategy;
    run.given("statefulsets", object);
    run.until_names("pods", &["s-0", "s-1", "s-2"]);
    make_ready(run, &["s-0", "s-1", "s-2"]);
    run.until("statefulsets/s", "all are ready", STATUS, |answer| {
        seen(answer) && answer.body["status"]["readyReplicas"] == 3
    });
}

/// Until a pod is another one than before; then it is made ready.
fn replaced(run: &mut Run<'_>, pod: &str, old: &Value) {
    let old = old["metadata"]["uid"].clone();
    run.until(&format!("pods/{pod}"), "another is there", HASH, move |answer| {
        answer.code == 200 && answer.body["metadata"]["uid"] != old
    });
}

fn on_delete(run: &mut Run<'_>) {
    formed(run, json!({"type": "OnDelete"}));
    change(run, "2");
    run.until("statefulsets/s", "that is seen", STATUS, seen);
    run.get("pods/s-1").see(HASH).go();
    let old = run.look("pods/s-1").body;
    run.delete("pods/s-1", json!({})).go();
    replaced(run, "s-1", &old);
    make_ready(run, &["s-1"]);
    run.until("statefulsets/s", "one is new and all are ready", STATUS, |answer| {
        answer.body["status"]["updatedReplicas"] == 1 && answer.body["status"]["readyReplicas"] == 3
    });
    scale(run, 4);
    run.until("pods/s-3", "it is made", HASH, |answer| answer.code == 200);
    scale(run, 3);
    run.until_names("pods", &["s-0", "s-1", "s-2"]);
    for pod in ["s-0", "s-2"] {
        let old = run.look(&format!("pods/{pod}")).body;
        run.delete(&format!("pods/{pod}"), json!({})).go();
        replaced(run, pod, &old);
        make_ready(run, &[pod]);
    }
    run.until("statefulsets/s", "all are new and ready", STATUS, |answer| {
        answer.body["status"]["updatedReplicas"] == 3 && answer.body["status"]["readyReplicas"] == 3
    });
    let list = run.get("controllerrevisions").go();
    let mut numbers: Vec<i64> =
        list["items"].as_array().into_iter().flatten().filter_map(|item| item["revision"].as_i64()).collect();
    numbers.sort_unstable();
    run.note("they are numbered", numbers);
}

fn rolling(run: &mut Run<'_>) {
    formed(run, json!({"type": "RollingUpdate"}));
    let old: Vec<Value> = ["s-0", "s-1", "s-2"].iter().map(|pod| run.look(&format!("pods/{pod}")).body).collect();
    run.get("pods/s-0").see(HASH).go();
    change(run, "2");
    replaced(run, "s-2", &old[2]);
    run.get("pods/s-1").see(HASH).go();
    make_ready(run, &["s-2"]);
    replaced(run, "s-1", &old[1]);
    run.get("pods/s-0").see(HASH).go();
    make_ready(run, &["s-1"]);
    replaced(run, "s-0", &old[0]);
    make_ready(run, &["s-0"]);
    run.until("statefulsets/s", "all are new and it is over", STATUS, |answer| {
        answer.body["status"]["readyReplicas"] == 3
            && answer.body["status"]["currentRevision"] == answer.body["status"]["updateRevision"]
    });
}

fn partition(run: &mut Run<'_>) {
    formed(run, json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}));
    let old: Vec<Value> = ["s-0", "s-1", "s-2"].iter().map(|pod| run.look(&format!("pods/{pod}")).body).collect();
    change(run, "2");
    replaced(run, "s-2", &old[2]);
    make_ready(run, &["s-2"]);
    run.until("statefulsets/s", "one is new and all are ready", STATUS, |answer| {
        answer.body["status"]["updatedReplicas"] == 1 && answer.body["status"]["readyReplicas"] == 3
    });
    run.get("pods/s-1").see(HASH).go();
    // Below the partition a pod is made from the old template.
    run.delete("pods/s-0", json!({})).go();
    replaced(run, "s-0", &old[0]);
    make_ready(run, &["s-0"]);
    run.patch("statefulsets/s", MERGE, json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 1}}}}))
        .why("of the partition")
        .go();
    replaced(run, "s-1", &old[1]);
    make_ready(run, &["s-1"]);
    run.until("statefulsets/s", "two are new and all are ready", STATUS, |answer| {
        answer.body["status"]["updatedReplicas"] == 2 && answer.body["status"]["readyReplicas"] == 3
    });
    run.get("pods/s-0").see(HASH).go();
}

fn back(run: &mut Run<'_>) {
    formed(run, json!({"type": "OnDelete"}));
    change(run, "2");
    run.until("statefulsets/s", "that is seen", STATUS, seen);
    run.patch("statefulsets/s", MERGE, json!({"spec": {"template": {"metadata": {"annotations": null}}}}))
        .why("of the template back")
        .go();
    run.until("statefulsets/s", "that is seen", STATUS, seen);
    run.get("controllerrevisions").see(&[]).go();
    run.patch("statefulsets/s", MERGE, json!({"metadata": {"labels": {"a": "b"}}})).why("of a label").go();
    run.patch("statefulsets/s", MERGE, json!({"spec": {"minReadySeconds": 0, "revisionHistoryLimit": 5}}))
        .why("of something else")
        .go();
    run.until("statefulsets/s", "that is seen", STATUS, seen);
}

fn stuck(run: &mut Run<'_>) {
    formed(run, json!({"type": "RollingUpdate"}));
    let old: Vec<Value> = ["s-0", "s-1", "s-2"].iter().map(|pod| run.look(&format!("pods/{pod}")).body).collect();
    change(run, "broken");
    replaced(run, "s-2", &old[2]);
    change(run, "mended");
    // A parallel set replaces what is not ready; an ordered one waits for it.
    let broken = run.look("pods/s-2").body;
    run.until("statefulsets/s", "that is seen", &["/status/updateRevision", "/status/replicas"], |answer| seen(answer));
    run.until("pods/s-2", "another is there", HASH, move |answer| {
        answer.code == 200 && answer.body["metadata"]["annotations"]["version"] == "mended"
    });
    let is_another = run_uid(run, "s-2") != broken["metadata"]["uid"];
    run.note("it is another pod", is_another);
    run.get("pods/s-1").see(HASH).go();
}

fn run_uid(run: &mut Run<'_>, pod: &str) -> Value {
    run.look(&format!("pods/{pod}")).body["metadata"]["uid"].clone()
}
