//! Deletion: preconditions, finalizers, grace, dependents.

use serde_json::{Value, json};

use crate::run::{MERGE, Run, Script};
use crate::shapes::{FOREIGN, budget, claim, lease, map, placed_pod, set, status_of, waiting_pod};

pub(crate) const SCRIPTS: &[Script] = &[
    ("a deletion is guarded by identity and revision", guarded),
    ("a deletion answers with the object or with a word, by kind", answers),
    ("a finalizer holds an object that is deleted", finalizer),
    ("an object that is deleted takes no new finalizer", no_new_finalizer),
    ("the first deletion moves the revision, so only the identity guards a second", repeated),
    ("the grace of a pod only shrinks", grace),
    ("a pod on no node goes at once", no_node),
    ("a pod that has ended goes at once", ended),
    ("a pod held by a finalizer stays after its grace", held_pod),
    ("dependents of a deleted owner go after it", background),
    ("dependents go first when asked", foreground),
    ("dependents stay without their owner when asked", orphan),
    ("an object whose owner never was goes", never_owned),
    ("a collection is deleted by labels", collection),
    ("a claim that a pod uses waits for it", claim_in_use),
    ("a namespace that goes takes everything along and nothing new", namespace),
];

fn guarded(run: &mut Run<'_>) {
    run.delete("configmaps/a", json!({})).why("of what is absent").go();
    run.delete("configmaps/a", json!({"preconditions": {"uid": FOREIGN}})).why("of what is absent, by identity").go();
    let old = run.post("configmaps", map("a", "1")).go();
    let newer = run.patch("configmaps/a", MERGE, json!({"data": {"key": "2"}})).go();
    let preconditions =
        |uid: &Value, revision: &Value| json!({"preconditions": {"uid": uid, "resourceVersion": revision}});
    let (uid, stale, fresh) =
        (&old["metadata"]["uid"], &old["metadata"]["resourceVersion"], &newer["metadata"]["resourceVersion"]);
    run.delete("configmaps/a", json!({"preconditions": {"uid": FOREIGN}})).why("of another identity").go();
    run.delete("configmaps/a", json!({"preconditions": {"resourceVersion": stale}})).why("at an old revision").go();
    run.delete("configmaps/a", preconditions(uid, stale)).why("of its identity at an old revision").go();
    run.delete("configmaps/a", preconditions(&json!(FOREIGN), fresh))
        .why("of another identity at the newest revision")
        .go();
    run.get("configmaps/a").go();
    run.delete("configmaps/a", preconditions(uid, fresh)).why("of its identity at the newest revision").go();
    run.delete("configmaps/a", preconditions(uid, fresh)).why("again").go();
    run.delete("configmaps/a", json!({"propagationPolicy": "Sideways"})).why("of an unknown propagation").go();
}

fn answers(run: &mut Run<'_>) {
    for (path, body) in [
        ("configmaps", map("a", "1")),
        ("secrets", json!({"metadata": {"name": "a"}})),
        ("leases", lease("a", "x")),
        ("statefulsets", set("a", 0)),
        ("poddisruptionbudgets", budget("a", json!({"maxUnavailable": 1}))),
        ("serviceaccounts", json!({"metadata": {"name": "a"}})),
        ("services", json!({"metadata": {"name": "a"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}})),
        ("pods", waiting_pod("a")),
    ] {
        run.given(path, body);
        run.delete(&format!("{path}/a"), json!({}))
            .see(&["/kind", "/details/kind", "/details/name", "/details/group"])
            .go();
    }
}

fn held(name: &str) -> Value {
    let mut object = map(name, "1");
    object["metadata"]["finalizers"] = json!(["conformance.test/one", "conformance.test/two"]);
    object
}

fn finalizer(run: &mut Run<'_>) {
    run.post("configmaps", held("a")).go();
    run.delete("configmaps/a", json!({})).go();
    run.get("configmaps/a").go();
    run.delete("configmaps/a", json!({})).why("again").go();
    run.post("configmaps", map("a", "2")).why("of the same name").go();
    run.patch("configmaps/a", MERGE, json!({"data": {"key": "2"}})).see(&["/data"]).go();
    run.patch("configmaps/a", MERGE, json!({"metadata": {"finalizers": ["conformance.test/two"]}}))
        .why("without one")
        .go();
    run.get("configmaps/a").go();
    run.patch("configmaps/a", MERGE, json!({"metadata": {"finalizers": null}})).why("without the last").go();
    run.get("configmaps/a").go();
    run.post("configmaps", map("a", "3")).why("in another life").go();
    let mut set = set("s", 0);
    set["metadata"]["finalizers"] = json!(["conformance.test/one"]);
    run.post("statefulsets", set).go();
    run.delete("statefulsets/s", json!({})).go();
    run.patch("statefulsets/s", MERGE, json!({"metadata": {"finalizers": []}})).why("without the last").go();
    run.get("statefulsets/s").go();
}

fn no_new_finalizer(run: &mut Run<'_>) {
    run.given("configmaps", held("a"));
    run.delete("configmaps/a", json!({})).go();
    let finalizers = |own: &[&str]| json!({"metadata": {"finalizers": own}});
    run.patch(
        "configmaps/a",
        MERGE,
        finalizers(&["conformance.test/one", "conformance.test/two", "conformance.test/three"]),
    )
    .why("with one more")
    .go();
    run.patch("configmaps/a", MERGE, finalizers(&["conformance.test/three"])).why("with another").go();
    run.patch("configmaps/a", MERGE, finalizers(&["conformance.test/two", "conformance.test/one"]))
        .why("in another order")
        .go();
    run.patch("configmaps/a", MERGE, json!({"metadata": {"deletionTimestamp": null}}))
        .why("that takes the deletion back")
        .go();
    run.patch("configmaps/a", MERGE, finalizers(&[])).why("with none").go();
    run.get("configmaps/a").go();
}

fn repeated(run: &mut Run<'_>) {
    let made = run.post("configmaps", held("a")).go();
    let both = json!({"preconditions": {"uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"]}});
    run.delete("configmaps/a", both.clone()).go();
    run.delete("configmaps/a", both).why("again, with both").go();
    run.delete("configmaps/a", json!({"preconditions": {"uid": made["metadata"]["uid"]}}))
        .why("again, by identity")
        .go();
    run.patch("configmaps/a", MERGE, json!({"metadata": {"finalizers": []}})).go();
}

fn grace(run: &mut Run<'_>) {
    run.post("pods", placed_pod("p")).see(&["/spec/terminationGracePeriodSeconds", "/status/phase"]).go();
    run.delete("pods/p", json!({"gracePeriodSeconds": 300})).go();
    run.delete("pods/p", json!({"gracePeriodSeconds": 600})).why("with more").go();
    run.delete("pods/p", json!({"gracePeriodSeconds": 100})).why("with less").go();
    run.delete("pods/p", json!({})).why("with its own wish").go();
    run.get("pods/p").go();
    run.delete("pods/p?gracePeriodSeconds=20", json!({})).why("with a body, which hides the query").go();
    run.delete("pods/p?gracePeriodSeconds=20", Value::Null).go();
    run.patch("pods/p", MERGE, json!({"metadata": {"labels": {"c": "d"}}})).go();
    run.delete("pods/p", json!({"gracePeriodSeconds": 0})).why("now").go();
    run.get("pods/p").go();
    run.given("pods", placed_pod("q"));
    run.delete("pods/q", json!({})).why("with its own wish").go();
    run.delete("pods/q", json!({"gracePeriodSeconds": -1})).why("of a negative grace").go();
    run.delete("pods/q", json!({"gracePeriodSeconds": 0})).why("now").go();
    run.get("pods/q").go();
    run.given("configmaps", map("a", "1"));
    run.delete("configmaps/a", json!({"gracePeriodSeconds": 300})).why("of what has no grace").go();
    run.get("configmaps/a").go();
}

fn no_node(run: &mut Run<'_>) {
    run.post("pods", waiting_pod("p")).go();
    run.delete("pods/p", json!({"gracePeriodSeconds": 300})).go();
    run.get("pods/p").go();
}

fn ended(run: &mut Run<'_>) {
    for (name, phase) in [("p", "Failed"), ("q", "Succeeded"), ("r", "Running")] {
        run.given("pods", placed_pod(name));
        run.patch(&format!("pods/{name}/status"), MERGE, status_of(phase, "False")).see(&["/status/phase"]).go();
        run.delete(&format!("pods/{name}"), json!({"gracePeriodSeconds": 300})).go();
        run.get(&format!("pods/{name}")).go();
    }
    run.delete("pods/r", json!({"gracePeriodSeconds": 0})).go();
}

fn held_pod(run: &mut Run<'_>) {
    let mut pod = placed_pod("p");
    pod["metadata"]["finalizers"] = json!(["conformance.test/one"]);
    run.post("pods", pod).go();
    run.delete("pods/p", json!({"gracePeriodSeconds": 300})).go();
    run.delete("pods/p", json!({"gracePeriodSeconds": 0})).why("now").go();
    run.get("pods/p").go();
    run.patch("pods/p", MERGE, json!({"metadata": {"finalizers": null}})).go();
    run.get("pods/p").go();
}

fn owned(name: &str, owner: &Value, blocks: bool) -> Value {
    let mut object = map(name, "1");
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
        "blockOwnerDeletion": blocks,
    }]);
    object
}

fn background(run: &mut Run<'_>) {
    let owner = run.post("configmaps", map("owner", "1")).go();
    let other = run.post("configmaps", map("other", "1")).go();
    run.given("configmaps", owned("one", &owner, false));
    let mut shared = owned("shared", &owner, false);
    let second = owned("x", &other, false)["metadata"]["ownerReferences"][0].clone();
    shared["metadata"]["ownerReferences"].as_array_mut().expect("a list").push(second);
    run.given("configmaps", shared);
    run.delete("configmaps/owner", json!({"propagationPolicy": "Background"})).go();
    run.get("configmaps/owner").go();
    run.until_gone("configmaps/one");
    run.until("configmaps/shared", "it has one owner", &["/metadata/ownerReferences/*/name"], |answer| {
        answer.body["metadata"]["ownerReferences"].as_array().is_some_and(|owners| owners.len() == 1)
    });
}

fn foreground(run: &mut Run<'_>) {
    let owner = run.post("configmaps", map("owner", "1")).go();
    let mut dependent = owned("one", &owner, true);
    dependent["metadata"]["finalizers"] = json!(["conformance.test/one"]);
    run.given("configmaps", dependent);
    run.delete("configmaps/owner", json!({"propagationPolicy": "Foreground"})).go();
    run.until("configmaps/one", "it goes", &[], |answer| !answer.body["metadata"]["deletionTimestamp"].is_null());
    run.get("configmaps/owner").go();
    run.patch("configmaps/one", MERGE, json!({"metadata": {"finalizers": null}})).go();
    run.until_gone("configmaps/owner");
    run.get("configmaps/one").go();
}

fn orphan(run: &mut Run<'_>) {
    let owner = run.post("configmaps", map("owner", "1")).go();
    run.given("configmaps", owned("one", &owner, false));
    run.delete("configmaps/owner", json!({"propagationPolicy": "Orphan"})).go();
    run.until_gone("configmaps/owner");
    run.get("configmaps/one").see(&["/metadata/ownerReferences"]).go();
}

fn never_owned(run: &mut Run<'_>) {
    let owner = json!({"metadata": {"name": "never", "uid": FOREIGN}});
    run.post("configmaps", owned("one", &owner, false)).see(&["/metadata/ownerReferences/0/name"]).go();
    run.until_gone("configmaps/one");
}

fn collection(run: &mut Run<'_>) {
    for (name, label) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let mut object = lease(name, "1");
        object["metadata"]["labels"] = json!({"l": label});
        run.given("leases", object);
    }
    run.delete("leases?labelSelector=l%3Dx", json!({})).see(&["/kind"]).go();
    run.get("leases").go();
    run.delete("leases?labelSelector=l%3Dz", json!({})).see(&["/kind"]).go();
    run.delete("leases", json!({})).go();
    run.get("leases").go();
}

fn claim_in_use(run: &mut Run<'_>) {
    run.given("persistentvolumeclaims", claim("c"));
    let mut pod = placed_pod("p");
    pod["spec"]["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "c"}}]);
    run.given("pods", pod);
    run.delete("persistentvolumeclaims/c", json!({})).go();
    // Somebody else's claim, made and deleted after it, goes: so the first was looked at.
    run.given("persistentvolumeclaims", claim("other"));
    run.delete("persistentvolumeclaims/other", json!({})).go();
    run.until_gone("persistentvolumeclaims/other");
    run.get("persistentvolumeclaims/c").go();
    run.delete("pods/p", json!({"gracePeriodSeconds": 0})).go();
    run.until_gone("persistentvolumeclaims/c");
}

fn namespace(run: &mut Run<'_>) {
    let place = format!("{}-x", run.namespace());
    run.post("/api/v1/namespaces", json!({"metadata": {"name": place}}))
        .see(&["/status/phase", "/spec/finalizers", "/metadata/labels"])
        .go();
    let mut object = map("a", "1");
    object["metadata"]["finalizers"] = json!(["conformance.test/one"]);
    run.given("/api/v1/namespaces/NAMESPACE-x/configmaps", object);
    run.given("/api/v1/namespaces/NAMESPACE-x/secrets", json!({"metadata": {"name": "a"}}));
    run.delete("/api/v1/namespaces/NAMESPACE-x", json!({})).see(&["/status/phase"]).go();
    run.post("/api/v1/namespaces/NAMESPACE-x/secrets", json!({"metadata": {"name": "b"}})).go();
    run.until_gone("/api/v1/namespaces/NAMESPACE-x/secrets/a");
    run.until("/api/v1/namespaces/NAMESPACE-x/configmaps/a", "it goes", &[], |answer| {
        !answer.body["metadata"]["deletionTimestamp"].is_null()
    });
    run.get("/api/v1/namespaces/NAMESPACE-x").see(&["/status/phase"]).go();
    run.patch("/api/v1/namespaces/NAMESPACE-x/configmaps/a", MERGE, json!({"metadata": {"finalizers": null}})).go();
    // The namespace itself is not waited for: how soon its controller looks again is its own affair.
    run.until_gone("/api/v1/namespaces/NAMESPACE-x/configmaps/a");
}
