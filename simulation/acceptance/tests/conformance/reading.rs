//! Get and list: selectors, pages, and how old an answer may be.

use serde_json::{Value, json};

use crate::run::{MERGE, Run, STRATEGIC, Script};
use crate::shapes::{map, placed_pod, ready_status, waiting_pod};

pub(crate) const SCRIPTS: &[Script] = &[
    ("lists are selected by labels", labels),
    ("lists are selected by some fields", fields),
    ("lists come in pages", pages),
    ("lists and objects are read at a revision", revisions),
    ("a page goes on in the list it began, whatever happens meanwhile", stable_pages),
];

fn labels(run: &mut Run<'_>) {
    for (name, labels) in [
        ("a", json!({"app": "x", "tier": "db"})),
        ("b", json!({"app": "y"})),
        ("c", json!({"tier": "web"})),
        ("d", json!({})),
    ] {
        let mut object = map(name, "1");
        object["metadata"]["labels"] = labels;
        run.given("secrets", json!({"metadata": object["metadata"]}));
    }
    for selector in [
        "app=x",
        "app==x",
        "app!=x",
        "app",
        "!app",
        "app in (x,y)",
        "app notin (x)",
        "app=x,tier=db",
        "app=x,tier=web",
        "tier in (db, web),app",
        "app in x",
        "app=x y",
        "=x",
        "app=",
        "app>1",
    ] {
        let encoded = selector.replace(' ', "%20").replace('=', "%3D").replace('>', "%3E").replace('!', "%21");
        run.get(&format!("secrets?labelSelector={encoded}")).go();
    }
}

fn fields(run: &mut Run<'_>) {
    for name in ["p", "q"] {
        run.given("pods", placed_pod(name));
    }
    run.given("pods", waiting_pod("r"));
    run.patch("pods/q/status", STRATEGIC, ready_status()).go();
    run.given("leases", json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "x"}}));
    for query in [
        "pods?fieldSelector=metadata.name%3Dp",
        "pods?fieldSelector=metadata.name!%3Dp",
        "pods?fieldSelector=spec.nodeName%3Dnowhere",
        "pods?fieldSelector=spec.nodeName%3D",
        "pods?fieldSelector=status.phase%3DRunning",
        "pods?fieldSelector=status.phase%3DPending,spec.nodeName%3Dnowhere",
        "pods?fieldSelector=spec.restartPolicy%3DAlways",
        "pods?fieldSelector=spec.hostname%3Dp",
        "pods?fieldSelector=metadata.labels%3Da",
        "pods?fieldSelector=nonsense",
        "pods?fieldSelector=metadata.name%3Dp&labelSelector=app%3Dother",
        "leases?fieldSelector=metadata.name%3Dl",
        "leases?fieldSelector=spec.holderIdentity%3Dx",
        "leases?fieldSelector=metadata.namespace%3Dother",
        "statefulsets?fieldSelector=spec.replicas%3D1",
    ] {
        run.get(query).go();
    }
    run.delete("pods?gracePeriodSeconds=0", Value::Null).go();
}

fn pages(run: &mut Run<'_>) {
    for name in ["a", "b", "c", "d", "e"] {
        run.given("leases", json!({"metadata": {"name": name}, "spec": {}}));
    }
    const REST: &[&str] = &["/metadata/remainingItemCount"];
    let first = run.get("leases?limit=2").see(REST).go();
    let token = |list: &Value| list["metadata"]["continue"].as_str().unwrap_or("").to_owned();
    let second = run.get(&format!("leases?limit=2&continue={}", token(&first))).see(REST).go();
    run.get(&format!("leases?limit=2&continue={}", token(&second))).why("third").see(REST).go();
    run.get(&format!("leases?continue={}", token(&first))).why("without a limit").see(REST).go();
    run.get("leases?limit=5").see(REST).go();
    run.get("leases?limit=0").see(REST).go();
    run.get("leases?limit=2&fieldSelector=metadata.name!%3Da").see(REST).go();
    run.get("leases?limit=2&resourceVersion=0").see(&[]).go();
    run.get("leases?limit=2&continue=nonsense").go();
    run.get("leases?limit=-1").go();
    run.get(&format!("leases?limit=2&resourceVersion=1&continue={}", token(&first))).why("and a revision").go();
}

fn stable_pages(run: &mut Run<'_>) {
    for name in ["a", "b", "c"] {
        run.given("leases", json!({"metadata": {"name": name}, "spec": {}}));
    }
    let first = run.get("leases?limit=1").go();
    run.delete("leases/b", json!({})).go();
    run.given("leases", json!({"metadata": {"name": "d"}, "spec": {}}));
    run.patch("leases/c", MERGE, json!({"spec": {"holderIdentity": "late"}})).go();
    let token = first["metadata"]["continue"].as_str().unwrap_or("").to_owned();
    let rest = run.get(&format!("leases?continue={token}")).see(&["/items/*/spec/holderIdentity"]).go();
    run.note(
        "it tells the revision of the first page",
        rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"],
    );
    run.get("leases").go();
}

fn revisions(run: &mut Run<'_>) {
    run.forget();
    let old = run.post("configmaps", map("a", "1")).go();
    let new = run.patch("configmaps/a", MERGE, json!({"data": {"key": "2"}})).go();
    let of = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap_or("").to_owned();
    let far = "999999999999";
    const KEY: &[&str] = &["/data/key"];
    run.get(&format!("configmaps/a?resourceVersion={}", of(&new))).why("of now").see(KEY).go();
    run.get(&format!("configmaps/a?resourceVersion={}", of(&old))).why("of before").see(KEY).go();
    run.get(&format!("configmaps/a?resourceVersion={far}")).why("not reached yet").go();
    run.get("configmaps/a?resourceVersion=nonsense").go();
    const KEYS: &[&str] = &["/items/*/data/key"];
    let named = "fieldSelector=metadata.name%3Da";
    run.get(&format!("configmaps?{named}&resourceVersion={}", of(&new))).why("of now").see(KEYS).go();
    run.get(&format!("configmaps?{named}&resourceVersion={}&resourceVersionMatch=NotOlderThan", of(&old)))
        .why("of before or later")
        .see(KEYS)
        .go();
    run.get(&format!("configmaps?{named}&resourceVersion={}&resourceVersionMatch=Exact", of(&old)))
        .why("of just before")
        .see(KEYS)
        .go();
    run.get(&format!("configmaps?{named}&resourceVersion={}&resourceVersionMatch=Exact", of(&new)))
        .why("of just now")
        .see(KEYS)
        .go();
    run.get(&format!("configmaps?{named}&resourceVersionMatch=Exact")).why("of just nothing").go();
    run.get(&format!("configmaps?{named}&resourceVersion=0&resourceVersionMatch=Exact")).why("of just zero").go();
    run.get(&format!("configmaps?{named}&resourceVersion=1&resourceVersionMatch=Sideways")).go();
    run.get(&format!("configmaps?{named}&resourceVersion=1&resourceVersionMatch=NotOlderThan")).see(KEYS).go();
    run.get(&format!("configmaps?{named}&resourceVersion={far}&resourceVersionMatch=NotOlderThan"))
        .why("not reached yet")
        .go();
    run.get(&format!("configmaps?{named}&resourceVersion=nonsense")).go();
    let list = run.get(&format!("configmaps?{named}")).see(KEYS).go();
    run.note(
        "a list's revision is no older than its objects'",
        of(&list).parse::<u64>().ok() >= of(&new).parse::<u64>().ok(),
    );
}
