//! Create and replace: names, revisions, identities, generations.

use serde_json::{Value, json};

use crate::run::{MERGE, Run, Script};
use crate::shapes::{FOREIGN, budget, claim, lease, map, placed_pod, set, unguarded};

pub(crate) const SCRIPTS: &[Script] = &[
    ("an object of a name is made once", once),
    ("a generated name is a new one each time", generated),
    ("names and places in path and body must agree", agreement),
    ("a replacement at an old revision conflicts and changes nothing", old_revision),
    ("a replacement without a revision overwrites some kinds and is refused for others", no_revision),
    ("a replacement that names another identity conflicts", other_uid),
    ("a replacement of what is absent makes a Lease and nothing else", absent),
    ("a change that says the same writes nothing", unchanged),
    ("the generation counts changes of the specification alone", generation),
    ("status and specification are written apart", apart),
    ("what the server gives cannot be given by a client", bookkeeping),
    ("what is tried only is not done", dry_run),
    ("a Lease is taken by one of two who saw the same revision", race),
    ("null is the same as absent", nulls),
];

fn once(run: &mut Run<'_>) {
    run.get("configmaps/a").go();
    run.post("configmaps", map("a", "1")).see(&["/data"]).go();
    run.post("configmaps", map("a", "2")).go();
    run.get("configmaps/a").see(&["/data"]).go();
    run.post("statefulsets", set("s", 0)).see(&["/spec/replicas", "/status"]).go();
    run.post("statefulsets", set("s", 0)).go();
}

fn generated(run: &mut Run<'_>) {
    let body = json!({"metadata": {"generateName": "a-"}});
    let one = run.post("configmaps", body.clone()).see(&["/metadata/generateName"]).go();
    let two = run.post("configmaps", body).go();
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or("").to_owned();
    run.note(
        "both begin with what was asked and are five letters longer",
        [&one, &two].iter().all(|one| name(one).starts_with("a-") && name(one).len() == 7),
    );
    run.note("the names differ", name(&one) != name(&two));
}

fn agreement(run: &mut Run<'_>) {
    run.post("configmaps", json!({"data": {}})).why("without a name").go();
    run.post("configmaps", map("Not_A_Name", "1")).why("with a name that cannot be one").go();
    let mut elsewhere = map("a", "1");
    elsewhere["metadata"]["namespace"] = json!("default");
    run.post("configmaps", elsewhere).why("with another namespace in the body").go();
    run.post("/api/v1/namespaces/absent/configmaps", map("a", "1")).why("in a namespace that is not there").go();
    run.given("configmaps", map("a", "1"));
    run.put("configmaps/a", map("b", "1")).why("with another name in the body").go();
    run.post("configmaps", lease("a", "x")).why("with another kind in the body").go();
    run.post("configmaps", json!({"apiVersion": "v2", "kind": "ConfigMap", "metadata": {"name": "b"}}))
        .why("with a version that is not served")
        .go();
    run.post("configmaps", json!([])).why("with a list for a body").go();
}

fn old_revision(run: &mut Run<'_>) {
    let old = run.post("leases", lease("l", "a")).go();
    let mut renewed = old.clone();
    renewed["spec"]["holderIdentity"] = json!("b");
    run.put("leases/l", renewed.clone()).see(&["/spec/holderIdentity"]).go();
    renewed["spec"]["holderIdentity"] = json!("c");
    run.put("leases/l", renewed).why("at the revision of before").go();
    let mut nonsense = old;
    nonsense["metadata"]["resourceVersion"] = json!("not a number");
    run.put("leases/l", nonsense).why("at a revision that is no number").go();
    run.get("leases/l").see(&["/spec/holderIdentity"]).go();
}

fn no_revision(run: &mut Run<'_>) {
    for (path, body) in [
        ("configmaps", map("a", "1")),
        ("secrets", json!({"metadata": {"name": "a"}, "data": {"key": "MQ=="}})),
        ("persistentvolumeclaims", claim("a")),
        ("statefulsets", set("a", 0)),
        ("leases", lease("a", "x")),
        ("poddisruptionbudgets", budget("a", json!({"maxUnavailable": 1}))),
        ("serviceaccounts", json!({"metadata": {"name": "a"}})),
        ("services", json!({"metadata": {"name": "a"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}})),
    ] {
        run.given(path, body.clone());
        run.put(&format!("{path}/a"), body).go();
    }
}

fn other_uid(run: &mut Run<'_>) {
    let object = run.post("configmaps", map("a", "1")).go();
    let mut foreign = unguarded(&object);
    foreign["metadata"]["uid"] = json!(FOREIGN);
    foreign["data"]["key"] = json!("2");
    run.put("configmaps/a", foreign.clone()).why("of another identity").go();
    foreign["metadata"]["uid"] = object["metadata"]["uid"].clone();
    run.put("configmaps/a", foreign).why("of its own identity").see(&["/data"]).go();
    // The same name in another life.
    run.delete("configmaps/a", json!({})).go();
    run.given("configmaps", map("a", "3"));
    run.put("configmaps/a", object).why("with all of its former life").go();
    run.get("configmaps/a").see(&["/data"]).go();
}

fn absent(run: &mut Run<'_>) {
    run.put("configmaps/a", map("a", "1")).go();
    run.put("statefulsets/a", set("a", 0)).go();
    run.put("poddisruptionbudgets/a", budget("a", json!({"maxUnavailable": 1}))).go();
    let old = run.put("leases/l", lease("l", "a")).go();
    run.delete("leases/l", json!({})).go();
    run.put("leases/l", old.clone()).why("with identity and revision of before").go();
    let mut no_uid = old;
    if let Some(metadata) = no_uid["metadata"].as_object_mut() {
        metadata.remove("uid");
    }
    run.put("leases/l", no_uid).why("with only the revision of before").go();
}

fn unchanged(run: &mut Run<'_>) {
    run.post("configmaps", map("a", "1")).go();
    run.put("configmaps/a", map("a", "1")).go();
    run.patch("configmaps/a", MERGE, json!({})).go();
    run.patch("configmaps/a", MERGE, json!({"data": {"key": "1"}})).why("to what it is").go();
    run.patch("configmaps/a", MERGE, json!({"metadata": {"labels": {"a": "b"}}})).go();
    run.patch("configmaps/a", MERGE, json!({"metadata": {"labels": {"a": null}}})).why("back").go();
    run.patch("configmaps/a", MERGE, json!({"metadata": {"annotations": {}}})).why("to an empty map").go();
}

fn generation(run: &mut Run<'_>) {
    run.post("statefulsets", set("s", 0)).go();
    run.patch("statefulsets/s", MERGE, json!({"metadata": {"annotations": {"epoch": "7"}}}))
        .why("of an annotation")
        .go();
    run.patch("statefulsets/s", MERGE, json!({"metadata": {"labels": {"a": "b"}}})).why("of a label").go();
    run.patch("statefulsets/s", MERGE, json!({"spec": {"minReadySeconds": 1}})).why("of the specification").go();
    run.patch("statefulsets/s", MERGE, json!({"spec": {"minReadySeconds": 1}})).why("of nothing").go();
    run.post("poddisruptionbudgets", budget("b", json!({"maxUnavailable": 1}))).go();
    run.patch("poddisruptionbudgets/b", MERGE, json!({"spec": {"maxUnavailable": 2}})).go();
    run.post("pods", placed_pod("p")).go();
    run.patch("pods/p", MERGE, json!({"metadata": {"labels": {"b": "c"}}})).why("of a label").go();
    run.patch("pods/p", MERGE, json!({"spec": {"activeDeadlineSeconds": 100}})).why("of the specification").go();
    run.delete("pods/p", json!({"gracePeriodSeconds": 5})).go();
    run.delete("pods/p", json!({"gracePeriodSeconds": 0})).why("now").go();
    run.post("persistentvolumeclaims", claim("c")).go();
    run.post("configmaps", map("m", "1")).go();
    run.post("services", json!({"metadata": {"name": "v"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}}))
        .go();
}

fn apart(run: &mut Run<'_>) {
    let pod = run.post("pods", placed_pod("p")).see(&["/status/phase", "/status/qosClass"]).go();
    let mut both = unguarded(&pod);
    both["spec"]["activeDeadlineSeconds"] = json!(100);
    both["status"]["phase"] = json!("Running");
    both["metadata"]["labels"]["tier"] = json!("status");
    run.put("pods/p/status", both.clone())
        .see(&["/spec/activeDeadlineSeconds", "/status/phase", "/metadata/labels"])
        .go();
    both["status"]["phase"] = json!("Failed");
    both["metadata"]["labels"]["tier"] = json!("main");
    run.put("pods/p", both).see(&["/spec/activeDeadlineSeconds", "/status/phase", "/metadata/labels"]).go();
    run.patch("pods/p", MERGE, json!({"status": {"phase": "Failed"}})).see(&["/status/phase"]).go();
    run.patch("pods/p/status", MERGE, json!({"spec": {"activeDeadlineSeconds": 50}}))
        .see(&["/spec/activeDeadlineSeconds"])
        .go();
    run.get("pods/p/status").see(&["/status/phase"]).go();
    run.delete("pods/p", json!({"gracePeriodSeconds": 0})).go();
    run.post("statefulsets", set("s", 0)).go();
    run.patch("statefulsets/s/status", MERGE, json!({"spec": {"replicas": 5}})).see(&["/spec/replicas"]).go();
    run.get("configmaps/a/status").go();
}

fn bookkeeping(run: &mut Run<'_>) {
    let mut forged = map("a", "1");
    forged["metadata"]["uid"] = json!(FOREIGN);
    forged["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    forged["metadata"]["generation"] = json!(7);
    forged["metadata"]["deletionTimestamp"] = json!("2001-01-01T00:00:00Z");
    let made = run.post("configmaps", forged.clone()).go();
    run.note("the identity is the server's", made["metadata"]["uid"] != FOREIGN);
    run.note("the time is the server's", made["metadata"]["creationTimestamp"] != "2001-01-01T00:00:00Z");
    forged["metadata"]["resourceVersion"] = json!("5");
    run.post("configmaps", forged).why("with a revision").go();
    run.patch(
        "configmaps/a",
        MERGE,
        json!({"metadata": {"generation": 9, "creationTimestamp": "2001-01-01T00:00:00Z"}}),
    )
    .go();
    run.patch("configmaps/a", MERGE, json!({"metadata": {"deletionTimestamp": "2001-01-01T00:00:00Z"}}))
        .why("to be deleted")
        .go();
    run.patch("configmaps/a", MERGE, json!({"metadata": {"name": "b"}})).why("of the name").go();
    run.patch("configmaps/a", MERGE, json!({"kind": "Secret"})).why("of the kind").go();
}

fn dry_run(run: &mut Run<'_>) {
    run.post("configmaps?dryRun=All", map("a", "1")).see(&["/data"]).go();
    run.get("configmaps/a").go();
    run.given("configmaps", map("a", "1"));
    run.patch("configmaps/a?dryRun=All", MERGE, json!({"data": {"key": "2"}})).see(&["/data"]).go();
    run.delete("configmaps/a?dryRun=All", Value::Null).go();
    run.delete("configmaps/a", json!({"dryRun": ["All"]})).why("in the body").go();
    run.delete("configmaps/a?dryRun=Some", Value::Null).go();
    run.post("configmaps?dryRun=Some", map("b", "1")).go();
    run.get("configmaps/a").see(&["/data"]).go();
    run.delete("configmaps/a?dryRun=All", json!({})).why("with a body, which hides the query").go();
    run.get("configmaps/a").go();
}

fn race(run: &mut Run<'_>) {
    let seen = run.post("leases", lease("l", "")).see(&["/spec"]).go();
    let take = |holder: &str| {
        let mut taken = seen.clone();
        taken["spec"]["holderIdentity"] = json!(holder);
        taken["spec"]["renewTime"] = json!("2026-01-01T00:00:00.000001Z");
        taken
    };
    run.put("leases/l", take("a")).see(&["/spec/holderIdentity"]).go();
    run.put("leases/l", take("b")).why("by the second").go();
    run.put("leases/l", take("a")).why("by the first again").go();
    run.get("leases/l").see(&["/spec/holderIdentity"]).go();
}

fn nulls(run: &mut Run<'_>) {
    let mut body = map("a", "1");
    body["metadata"]["annotations"] = json!(null);
    body["binaryData"] = json!(null);
    run.post("configmaps", body).see(&["/metadata/annotations", "/binaryData"]).go();
    let mut lease = lease("l", "a");
    lease["spec"]["holderIdentity"] = json!(null);
    run.post("leases", lease).see(&["/spec/holderIdentity"]).go();
}
