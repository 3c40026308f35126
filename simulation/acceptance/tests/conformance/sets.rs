//! The StatefulSet controller: names, order, claims, owners. No kubelet takes part: the scripts say which pod is ready.

use serde_json::{Value, json};

use crate::run::{MERGE, Run, STRATEGIC, Script};
use crate::shapes::{ready_status, set, status_of, waiting_pod};
use crate::target::Answer;

pub(crate) const SCRIPTS: &[Script] = &[
    ("a parallel set makes all its pods and claims at once", parallel),
    ("an ordered set makes a pod when the one before is ready", ordered),
    ("a set that shrinks deletes the highest and keeps their claims", shrinks),
    ("an ordered set shrinks one by one and only while the rest is ready", ordered_shrinks),
    ("a set starts where its ordinals start", starts),
    ("claims go with their pods where that is wanted", retention_scaled),
    ("claims go with the set where that is wanted", retention_deleted),
    ("claims stay where a set is deleted otherwise", retained),
    ("a deleted pod is made again, another one with the same claim", again),
    ("a set deleted alone leaves its pods, and one of its name adopts them", adopted),
    ("a pod that fails is replaced", failed),
    ("a name taken by a stranger is waited for", stranger),
    ("a claim that is there already is used as it is", foreign_claim),
    ("a pod whose labels are changed is let go", released),
    ("a set counts what it has", counts),
    ("a pod that goes is counted differently by each count", going),
    ("a set deleted in the foreground goes after its pods", foreground),
];

/// What a pod of a set is like.
const POD: &[&str] = &[
    "/metadata/labels",
    "/metadata/generateName",
    "/metadata/ownerReferences/*/kind",
    "/metadata/ownerReferences/*/name",
    "/metadata/ownerReferences/*/uid",
    "/metadata/ownerReferences/*/controller",
    "/metadata/ownerReferences/*/blockOwnerDeletion",
    "/spec/hostname",
    "/spec/subdomain",
    "/spec/volumes/0",
    "/status/phase",
];

/// Until the controller has seen the newest specification.
pub(crate) fn seen(answer: &Answer) -> bool {
    answer.body["status"]["observedGeneration"] == answer.body["metadata"]["generation"]
}

pub(crate) fn make_ready(run: &mut Run<'_>, pods: &[&str]) {
    for pod in pods {
        run.patch(&format!("pods/{pod}/status"), STRATEGIC, ready_status()).go();
    }
}

pub(crate) fn scale(run: &mut Run<'_>, replicas: u32) {
    run.patch("statefulsets/s", MERGE, json!({"spec": {"replicas": replicas}})).why("of the size").go();
}

fn ordered_set(replicas: u32) -> Value {
    let mut object = set("s", replicas);
    object["spec"]["podManagementPolicy"] = json!("OrderedReady");
    object
}

fn parallel(run: &mut Run<'_>) {
    run.post("statefulsets", set("s", 3))
        .see(&["/spec/persistentVolumeClaimRetentionPolicy", "/spec/revisionHistoryLimit"])
        .go();
    run.until_names("pods", &["s-0", "s-1", "s-2"]);
    run.get("pods/s-1").see(POD).go();
    run.until_names("persistentvolumeclaims", &["data-s-0", "data-s-1", "data-s-2"]);
    run.get("persistentvolumeclaims/data-s-1")
        .see(&[
            "/metadata/labels",
            "/metadata/ownerReferences",
            "/spec/resources",
            "/spec/accessModes",
            "/spec/volumeMode",
        ])
        .go();
    run.until(
        "controllerrevisions",
        "there is one",
        &["/items/*/revision", "/items/*/metadata/ownerReferences/0/kind"],
        |answer| answer.body["items"].as_array().is_some_and(|items| items.len() == 1),
    );
}

fn ordered(run: &mut Run<'_>) {
    run.post("statefulsets", ordered_set(2)).go();
    run.until_names("pods", &["s-0"]);
    // That it looks again without making a second one is seen by what it says of a newer specification.
    scale(run, 3);
    run.until("statefulsets/s", "that is seen", &["/status/replicas", "/status/readyReplicas"], seen);
    run.get("pods").go();
    make_ready(run, &["s-0"]);
    run.until_names("pods", &["s-0", "s-1"]);
    run.patch("pods/s-0/status", STRATEGIC, status_of("Running", "False")).why("not ready").go();
    make_ready(run, &["s-1"]);
    scale(run, 4);
    run.until("statefulsets/s", "that is seen", &["/status/replicas", "/status/readyReplicas"], |answer| {
        seen(answer) && answer.body["status"]["readyReplicas"] == 1
    });
    run.get("pods").go();
    make_ready(run, &["s-0"]);
    run.until_names("pods", &["s-0", "s-1", "s-2"]);
    make_ready(run, &["s-2"]);
    run.until_names("pods", &["s-0", "s-1", "s-2", "s-3"]);
}

fn shrinks(run: &mut Run<'_>) {
    run.given("statefulsets", set("s", 3));
    run.until_names("pods", &["s-0", "s-1", "s-2"]);
    let claim = run.get("persistentvolumeclaims/data-s-2").go();
    run.get("pods/s-0").go();
    scale(run, 1);
    run.until_names("pods", &["s-0"]);
    run.get("pods/s-0").go();
    run.get("persistentvolumeclaims").go();
    scale(run, 3);
    run.until_names("pods", &["s-0", "s-1", "s-2"]);
    let later = run.get("persistentvolumeclaims/data-s-2").go();
    run.note("the claim is the same", claim["metadata"]["uid"] == later["metadata"]["uid"]);
    scale(run, 0);
    run.until_names("pods", &[]);
    run.get("persistentvolumeclaims").go();
}

fn ordered_shrinks(run: &mut Run<'_>) {
    run.given("statefulsets", ordered_set(3));
    for (index, pod) in ["s-0", "s-1", "s-2"].iter().enumerate() {
        run.until(&format!("pods/{pod}"), "it is made", &[], |answer| answer.code == 200);
        make_ready(run, &[pod]);
        run.until("statefulsets/s", "it is ready", &[], move |answer| {
            answer.body["status"]["readyReplicas"] == index + 1
        });
    }
    run.patch("pods/s-0/status", STRATEGIC, status_of("Running", "False")).why("not ready").go();
    run.until("statefulsets/s", "two are ready", &[], |answer| answer.body["status"]["readyReplicas"] == 2);
    scale(run, 1);
    run.until("statefulsets/s", "that is seen", &["/status/replicas"], seen);
    run.get("pods").go();
    make_ready(run, &["s-0"]);
    run.until_names("pods", &["s-0"]);
}

fn starts(run: &mut Run<'_>) {
    let mut object = set("s", 2);
    object["spec"]["ordinals"] = json!({"start": 5});
    run.post("statefulsets", object).go();
    run.until_names("pods", &["s-5", "s-6"]);
    run.get("pods/s-5").see(&["/metadata/labels", "/spec/hostname"]).go();
    scale(run, 1);
    run.until_names("pods", &["s-5"]);
    run.patch("statefulsets/s", MERGE, json!({"spec": {"ordinals": {"start": 4}, "replicas": 2}}))
        .why("of the start")
        .go();
    run.until_names("pods", &["s-4", "s-5"]);
    run.patch("statefulsets/s", MERGE, json!({"spec": {"ordinals": null}})).why("of the start back").go();
    run.until_names("pods", &["s-0", "s-1"]);
    run.until_names("persistentvolumeclaims", &["data-s-0", "data-s-1", "data-s-4", "data-s-5", "data-s-6"]);
}

fn retention(scaled: &str, deleted: &str, replicas: u32) -> Value {
    let mut object = set("s", replicas);
    object["spec"]["persistentVolumeClaimRetentionPolicy"] = json!({"whenScaled": scaled, "whenDeleted": deleted});
    object
}

const OWNERS: &[&str] = &[
    "/metadata/ownerReferences/*/kind",
    "/metadata/ownerReferences/*/name",
    "/metadata/ownerReferences/*/uid",
    "/metadata/ownerReferences/*/controller",
    "/metadata/ownerReferences/*/blockOwnerDeletion",
];

fn retention_scaled(run: &mut Run<'_>) {
    run.given("statefulsets", retention("Delete", "Retain", 2));
    run.until_names("pods", &["s-0", "s-1"]);
    run.get("persistentvolumeclaims/data-s-1").see(OWNERS).go();
    scale(run, 1);
    run.until_names("pods", &["s-0"]);
    run.until_gone("persistentvolumeclaims/data-s-1");
    run.get("persistentvolumeclaims/data-s-0").see(OWNERS).go();
    run.delete("statefulsets/s", json!({})).go();
    run.until_names("pods", &[]);
    run.get("persistentvolumeclaims/data-s-0").go();
}

fn retention_deleted(run: &mut Run<'_>) {
    run.given("statefulsets", retention("Retain", "Delete", 2));
    run.until_names("pods", &["s-0", "s-1"]);
    run.until("persistentvolumeclaims/data-s-1", "it is owned", OWNERS, |answer| {
        answer.body["metadata"]["ownerReferences"].is_array()
    });
    run.until("persistentvolumeclaims/data-s-0", "it is owned", &[], |answer| {
        answer.body["metadata"]["ownerReferences"].is_array()
    });
    scale(run, 1);
    run.until_names("pods", &["s-0"]);
    run.get("persistentvolumeclaims/data-s-1").why("after its pod").see(OWNERS).go();
    run.delete("statefulsets/s", json!({})).go();
    run.until_names("persistentvolumeclaims", &[]);
    run.until_names("pods", &[]);
}

fn retained(run: &mut Run<'_>) {
    run.given("statefulsets", set("s", 2));
    run.until_names("pods", &["s-0", "s-1"]);
    run.delete("statefulsets/s", json!({})).go();
    run.get("statefulsets/s").go();
    run.until_names("pods", &[]);
    run.until_names("controllerrevisions", &[]);
    run.get("persistentvolumeclaims").go();
    run.get("persistentvolumeclaims/data-s-0").see(OWNERS).go();
    run.given("statefulsets", set("s", 1));
    run.until_names("pods", &["s-0"]);
    run.get("persistentvolumeclaims/data-s-0").why("of the next set").see(OWNERS).go();
}

fn again(run: &mut Run<'_>) {
    run.given("statefulsets", set("s", 2));
    run.until_names("pods", &["s-0", "s-1"]);
    let old = run.get("pods/s-0").go();
    run.get("persistentvolumeclaims/data-s-0").go();
    run.delete("pods/s-0", json!({})).go();
    let old_uid = old["metadata"]["uid"].clone();
    run.until("pods/s-0", "another is there", POD, move |answer| {
        answer.code == 200 && answer.body["metadata"]["uid"] != old_uid
    });
    run.get("persistentvolumeclaims/data-s-0").go();
    run.delete("persistentvolumeclaims/data-s-1", json!({})).go();
    run.delete("pods/s-1", json!({})).go();
    run.until("pods/s-1", "it is there with a claim that stays", &[], |answer| answer.code == 200);
}

fn adopted(run: &mut Run<'_>) {
    run.given("statefulsets", set("s", 2));
    run.until_names("pods", &["s-0", "s-1"]);
    make_ready(run, &["s-0", "s-1"]);
    run.get("pods/s-0").see(OWNERS).go();
    run.until("statefulsets/s", "both are ready", &[], |answer| answer.body["status"]["readyReplicas"] == 2);
    run.delete("statefulsets/s", json!({"propagationPolicy": "Orphan"})).go();
    run.until_gone("statefulsets/s");
    run.until("pods/s-0", "it is nobody's", OWNERS, |answer| answer.body["metadata"]["ownerReferences"].is_null());
    run.until("pods/s-1", "it is nobody's", OWNERS, |answer| answer.body["metadata"]["ownerReferences"].is_null());
    let mut changed = set("s", 2);
    changed["spec"]["template"]["metadata"]["annotations"] = json!({"changed": "yes"});
    run.post("statefulsets", changed).go();
    run.until("pods/s-0", "it is the next set's", OWNERS, |answer| {
        answer.body["metadata"]["ownerReferences"].is_array()
    });
    run.until("pods/s-1", "it is the next set's", OWNERS, |answer| {
        answer.body["metadata"]["ownerReferences"].is_array()
    });
    run.until(
        "statefulsets/s",
        "it counts both",
        &["/status/replicas", "/status/readyReplicas", "/status/updatedReplicas", "/status/currentReplicas"],
        |answer| answer.body["status"]["readyReplicas"] == 2,
    );
    run.get("pods").go();
}

fn failed(run: &mut Run<'_>) {
    run.given("statefulsets", set("s", 1));
    run.until_names("pods", &["s-0"]);
    let old = run.get("pods/s-0").go()["metadata"]["uid"].clone();
    run.patch("pods/s-0/status", STRATEGIC, status_of("Failed", "False")).go();
    run.until("pods/s-0", "another is there", &["/status/phase"], move |answer| {
        answer.code == 200 && answer.body["metadata"]["uid"] != old
    });
}

fn stranger(run: &mut Run<'_>) {
    let mut pod = waiting_pod("s-0");
    pod["metadata"]["labels"] = json!({"app": "stranger"});
    run.post("pods", pod).go();
    run.post("statefulsets", set("s", 2)).go();
    // A parallel set goes on with the others or does not; what it says of its size tells that it has tried.
    run.until("statefulsets/s", "it was looked at", &["/status/replicas"], |answer| {
        !answer.body["status"]["updateRevision"].is_null() || seen(answer)
    });
    run.get("pods/s-0").see(&["/metadata/labels/app", "/metadata/ownerReferences"]).go();
    run.delete("pods/s-0", json!({})).go();
    run.until("pods/s-0", "it is the set's", &["/metadata/labels/app"], |answer| {
        answer.body["metadata"]["ownerReferences"].is_array()
    });
    run.until_names("pods", &["s-0", "s-1"]);
}

fn foreign_claim(run: &mut Run<'_>) {
    let mut claim = crate::shapes::claim("data-s-0");
    claim["spec"]["resources"]["requests"]["storage"] = json!("5Mi");
    claim["metadata"]["labels"] = json!({"made": "before"});
    run.post("persistentvolumeclaims", claim).go();
    run.given("statefulsets", set("s", 1));
    run.until_names("pods", &["s-0"]);
    run.get("persistentvolumeclaims/data-s-0")
        .see(&["/metadata/labels", "/spec/resources", "/metadata/ownerReferences"])
        .go();
}

fn released(run: &mut Run<'_>) {
    run.given("statefulsets", set("s", 2));
    run.until_names("pods", &["s-0", "s-1"]);
    run.patch("pods/s-1", MERGE, json!({"metadata": {"labels": {"app": "other"}}})).go();
    run.until("pods/s-1", "it is nobody's", OWNERS, |answer| answer.body["metadata"]["ownerReferences"].is_null());
    run.patch("pods/s-1", MERGE, json!({"metadata": {"labels": {"app": "s"}}})).why("back").go();
    run.until("pods/s-1", "it is the set's again", OWNERS, |answer| {
        answer.body["metadata"]["ownerReferences"].is_array()
    });
    run.get("pods").go();
}

fn counts(run: &mut Run<'_>) {
    const STATUS: &[&str] = &["/status"];
    run.post("statefulsets", set("s", 0)).see(STATUS).go();
    run.until("statefulsets/s", "it is seen", STATUS, |answer| {
        seen(answer) && !answer.body["status"]["updateRevision"].is_null()
    });
    scale(run, 2);
    run.until("statefulsets/s", "two are there", STATUS, |answer| {
        seen(answer) && answer.body["status"]["replicas"] == 2
    });
    make_ready(run, &["s-0"]);
    run.until("statefulsets/s", "one is ready", STATUS, |answer| answer.body["status"]["readyReplicas"] == 1);
    run.get("statefulsets/s/scale").see(&["/spec", "/status"]).go();
    run.patch("statefulsets/s", MERGE, json!({"spec": {"minReadySeconds": 3600}})).go();
    run.until("statefulsets/s", "nobody is available", STATUS, |answer| {
        seen(answer) && answer.body["status"]["availableReplicas"] == 0
    });
}

fn going(run: &mut Run<'_>) {
    let mut object = set("s", 2);
    // On a node that is not there: so a deletion has its grace, and nobody else says anything.
    object["spec"]["template"]["spec"] = json!({
        "nodeName": "nowhere",
        "terminationGracePeriodSeconds": 300,
        "containers": [{"name": "db", "image": "nothing:1"}],
    });
    run.given("statefulsets", object);
    run.until_names("pods", &["s-0", "s-1"]);
    make_ready(run, &["s-0", "s-1"]);
    run.until("statefulsets/s", "both are ready", &["/status"], |answer| answer.body["status"]["readyReplicas"] == 2);
    run.delete("pods/s-1", json!({})).go();
    run.until("statefulsets/s", "one goes", &["/status"], |answer| answer.body["status"]["currentReplicas"] == 1);
    scale(run, 1);
    run.until("statefulsets/s", "that is seen", &["/status"], seen);
    run.delete("pods/s-1", json!({"gracePeriodSeconds": 0})).go();
    run.until("statefulsets/s", "it is gone", &["/status"], |answer| answer.body["status"]["replicas"] == 1);
    run.delete("statefulsets/s", json!({"propagationPolicy": "Orphan"})).go();
    run.until_gone("statefulsets/s");
    run.delete("pods?gracePeriodSeconds=0", Value::Null).go();
}

fn foreground(run: &mut Run<'_>) {
    run.given("statefulsets", set("s", 2));
    run.until_names("pods", &["s-0", "s-1"]);
    run.patch("pods/s-0", MERGE, json!({"metadata": {"finalizers": ["conformance.test/one"]}})).go();
    run.delete("statefulsets/s", json!({"propagationPolicy": "Foreground"})).go();
    run.until("pods/s-0", "it goes", &[], |answer| !answer.body["metadata"]["deletionTimestamp"].is_null());
    run.until_gone("pods/s-1");
    run.get("statefulsets/s").go();
    run.patch("pods/s-0", MERGE, json!({"metadata": {"finalizers": null}})).go();
    run.until_gone("statefulsets/s");
    run.get("pods").go();
}
