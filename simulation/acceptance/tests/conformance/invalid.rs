//! What is refused in an object, and how that is said.

use serde_json::{Value, json};

use crate::run::{MERGE, Run, STRATEGIC, Script};
use crate::shapes::{budget, claim, lease, map, placed_pod, set, waiting_pod};

pub(crate) const SCRIPTS: &[Script] = &[
    ("sets that cannot be are refused", sets),
    ("of a set only some fields may change", changed_sets),
    ("pods that cannot be are refused", pods),
    ("of a pod hardly anything may change", changed_pods),
    ("other objects that cannot be are refused", others),
    ("what is declared immutable stays", immutable),
    ("a claim does not shrink", claims),
];

fn changed(mut object: Value, pointer: &str, value: Value) -> Value {
    *object.pointer_mut(pointer).expect("a field") = value;
    object
}

fn sets(run: &mut Run<'_>) {
    run.post("statefulsets", changed(set("a", 1), "/spec/selector", json!({}))).why("with an empty selector").go();
    run.post("statefulsets", changed(set("a", 1), "/spec/selector", json!(null))).why("without a selector").go();
    run.post("statefulsets", changed(set("a", 1), "/spec/selector/matchLabels/app", json!("b")))
        .why("whose selector does not match its template")
        .go();
    run.post("statefulsets", changed(set("a", 1), "/spec/replicas", json!(-1))).why("of a negative size").go();
    run.post("statefulsets", changed(set("a", 1), "/spec/podManagementPolicy", json!("Random")))
        .why("of an unknown policy")
        .go();
    run.post("statefulsets", changed(set("a", 1), "/spec/updateStrategy/type", json!("Random")))
        .why("of an unknown strategy")
        .go();
    run.post("statefulsets", changed(set("a", 1), "/spec/template/spec/containers", json!([])))
        .why("without containers")
        .go();
    run.post("statefulsets", changed(set("a", 1), "/spec/replicas", json!("three")))
        .why("of a size that is no number")
        .go();
    let mut no_restart = set("a", 1);
    no_restart["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    run.post("statefulsets", no_restart).why("whose pods do not restart").go();
    let mut start = set("a", 1);
    start["spec"]["ordinals"] = json!({"start": -1});
    run.post("statefulsets", start).why("that starts below zero").go();
    run.get("statefulsets").go();
}

fn changed_sets(run: &mut Run<'_>) {
    run.given("statefulsets", set("s", 0));
    for (why, change) in [
        ("of the service", json!({"spec": {"serviceName": "other"}})),
        ("of the policy", json!({"spec": {"podManagementPolicy": "OrderedReady"}})),
        ("of the selector", json!({"spec": {"selector": {"matchLabels": {"app": "other"}}}})),
        ("of the claim templates", json!({"spec": {"volumeClaimTemplates": []}})),
        ("to a negative size", json!({"spec": {"replicas": -1}})),
        ("of the size", json!({"spec": {"replicas": 0}})),
        ("of the template", json!({"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}})),
        ("of the template's labels", json!({"spec": {"template": {"metadata": {"labels": {"app": "other"}}}}})),
        ("of the strategy", json!({"spec": {"updateStrategy": {"type": "RollingUpdate"}}})),
        ("of the retention", json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}})),
        ("of the start", json!({"spec": {"ordinals": {"start": 3}}})),
        ("of the kept revisions", json!({"spec": {"revisionHistoryLimit": 3}})),
    ] {
        run.patch("statefulsets/s", MERGE, change).why(why).go();
    }
}

fn pods(run: &mut Run<'_>) {
    run.post("pods", changed(waiting_pod("a"), "/spec/containers", json!([]))).why("without containers").go();
    run.post("pods", changed(waiting_pod("a"), "/spec/containers/0/image", json!(""))).why("without an image").go();
    run.post("pods", changed(waiting_pod("a"), "/spec/containers/0/name", json!("Not_A_Name")))
        .why("whose container's name cannot be one")
        .go();
    let twice = json!([{"name": "a", "image": "a:1"}, {"name": "a", "image": "a:1"}]);
    run.post("pods", changed(waiting_pod("a"), "/spec/containers", twice)).why("with two containers of one name").go();
    let mut restart = waiting_pod("a");
    restart["spec"]["restartPolicy"] = json!("Sometimes");
    run.post("pods", restart).why("of an unknown restart policy").go();
    let mut mounts = waiting_pod("a");
    mounts["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "absent", "mountPath": "/a"}]);
    run.post("pods", mounts).why("that mounts a volume it does not have").go();
    run.post("pods", changed(waiting_pod("a"), "/metadata/labels/app", json!("not a label!")))
        .why("with a label that cannot be one")
        .go();
    run.get("pods").go();
}

fn changed_pods(run: &mut Run<'_>) {
    run.given("pods", placed_pod("p"));
    for (why, change) in [
        ("of a command", json!({"spec": {"containers": [{"name": "a", "image": "nothing:1", "command": ["x"]}]}})),
        ("of an image", json!({"spec": {"containers": [{"name": "a", "image": "nothing:2"}]}})),
        ("of the node", json!({"spec": {"nodeName": "elsewhere"}})),
        ("of the grace", json!({"spec": {"terminationGracePeriodSeconds": 5}})),
        ("of the restart policy", json!({"spec": {"restartPolicy": "Never"}})),
        ("of a label", json!({"metadata": {"labels": {"c": "d"}}})),
    ] {
        run.patch("pods/p", STRATEGIC, change).why(why).go();
    }
    run.delete("pods/p", json!({"gracePeriodSeconds": 0})).go();
}

fn others(run: &mut Run<'_>) {
    run.post("leases", changed(lease("a", "x"), "/spec/leaseDurationSeconds", json!(0))).why("of no duration").go();
    run.post("leases", changed(lease("a", "x"), "/spec/leaseDurationSeconds", json!(-1)))
        .why("of a negative duration")
        .go();
    run.post("poddisruptionbudgets", budget("a", json!({"maxUnavailable": 1, "minAvailable": 1})))
        .why("with both bounds")
        .go();
    run.post("poddisruptionbudgets", budget("a", json!({"maxUnavailable": -1}))).why("of a negative bound").go();
    run.post("poddisruptionbudgets", budget("a", json!({"maxUnavailable": "lots"})))
        .why("of a bound that is none")
        .go();
    let mut no_storage = claim("a");
    no_storage["spec"]["resources"] = json!({});
    run.post("persistentvolumeclaims", no_storage).why("of no size").go();
    let mut no_modes = claim("a");
    no_modes["spec"]["accessModes"] = json!([]);
    run.post("persistentvolumeclaims", no_modes).why("without a mode").go();
    let mut key = map("a", "1");
    key["data"] = json!({"not a key": "1"});
    run.post("configmaps", key).why("with a key that cannot be one").go();
    let mut number = map("a", "1");
    number["data"]["key"] = json!(1);
    run.post("configmaps", number).why("with a number for a text").go();
    run.post("secrets", json!({"metadata": {"name": "a"}, "data": {"key": "not base64!"}}))
        .why("that is not base64")
        .go();
    let mut finalizer = map("a", "1");
    finalizer["metadata"]["finalizers"] = json!(["plain"]);
    run.post("configmaps", finalizer).why("with a finalizer without a domain").go();
    let mut annotation = map("a", "1");
    annotation["metadata"]["annotations"] = json!({"not a key!": "1"});
    run.post("configmaps", annotation).why("with an annotation that cannot be one").go();
    let mut owner = map("a", "1");
    owner["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "b"}]);
    run.post("configmaps", owner).why("with an owner without identity").go();
}

fn immutable(run: &mut Run<'_>) {
    let mut object = map("a", "1");
    object["immutable"] = json!(true);
    run.post("configmaps", object).go();
    run.patch("configmaps/a", MERGE, json!({"data": {"key": "2"}})).why("of the data").go();
    run.patch("configmaps/a", MERGE, json!({"immutable": false})).why("of that").go();
    run.patch("configmaps/a", MERGE, json!({"metadata": {"labels": {"a": "b"}}})).why("of a label").go();
    run.post("secrets", json!({"metadata": {"name": "a"}, "stringData": {"key": "1"}, "immutable": true}))
        .see(&["/data", "/stringData", "/type"])
        .go();
    run.patch("secrets/a", MERGE, json!({"stringData": {"key": "2"}})).go();
    run.patch("secrets/a", MERGE, json!({"type": "other"})).why("of the type").go();
}

fn claims(run: &mut Run<'_>) {
    run.post("persistentvolumeclaims", claim("c")).see(&["/status/phase", "/spec/volumeMode"]).go();
    run.patch("persistentvolumeclaims/c", MERGE, json!({"spec": {"resources": {"requests": {"storage": "1Ki"}}}}))
        .why("to less")
        .go();
    run.patch("persistentvolumeclaims/c", MERGE, json!({"spec": {"accessModes": ["ReadWriteMany"]}}))
        .why("of the mode")
        .go();
    run.patch("persistentvolumeclaims/c", MERGE, json!({"metadata": {"annotations": {"a": "b"}}}))
        .why("of an annotation")
        .go();
}
