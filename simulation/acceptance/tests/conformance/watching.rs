//! Watches: from where they tell, what they tell, and how they end.

use serde_json::json;

use crate::run::{MERGE, Run, Script};
use crate::shapes::{lease, map};

pub(crate) const SCRIPTS: &[Script] = &[
    ("a watch tells every change since a revision", changes),
    ("a watch without a revision tells first what is there", initial),
    ("a watch through a selector tells of what enters and leaves it", selected),
    ("a watch from a revision that is forgotten is gone", forgotten),
    ("a watch ends when its time is up", timed),
];

fn revision(object: &serde_json::Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap_or("").to_owned()
}

fn changes(run: &mut Run<'_>) {
    let first = run.post("leases", lease("a", "1")).go();
    run.patch("leases/a", MERGE, json!({"spec": {"holderIdentity": "2"}})).go();
    run.given("leases", lease("b", "1"));
    run.patch("leases/a", MERGE, json!({})).why("of nothing").go();
    run.delete("leases/b", json!({})).go();
    run.given("leases", lease("b", "2"));
    let mut held = lease("c", "1");
    held["metadata"]["finalizers"] = json!(["conformance.test/one"]);
    run.given("leases", held);
    run.delete("leases/c", json!({})).go();
    run.patch("leases/c", MERGE, json!({"metadata": {"finalizers": null}})).go();
    let since = format!("leases?resourceVersion={}", revision(&first));
    const SEEN: &[&str] = &["/spec/holderIdentity", "/metadata/uid", "/metadata/finalizers", "/kind"];
    let events = run.watch(&since, 7, "", SEEN);
    let revisions: Vec<u64> = events.iter().filter_map(|event| revision(&event["object"]).parse().ok()).collect();
    run.note("each tells a higher revision than the one before", revisions.windows(2).all(|pair| pair[0] < pair[1]));
}

fn initial(run: &mut Run<'_>) {
    run.given("leases", lease("a", "1"));
    run.given("leases", lease("b", "1"));
    run.patch("leases/a", MERGE, json!({"spec": {"holderIdentity": "2"}})).go();
    run.watch("leases", 2, "from now", &["/spec/holderIdentity"]);
    run.watch("leases?resourceVersion=0", 2, "from anywhere", &["/spec/holderIdentity"]);
    run.watch(
        "leases?sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
        3,
        "with a mark at the end",
        &["/spec/holderIdentity", "/kind"],
    );
    run.watch("leases?sendInitialEvents=true", 1, "without a match", &[]);
    run.watch("leases?sendInitialEvents=true&resourceVersionMatch=NotOlderThan", 2, "without bookmarks", &[]);
}

fn selected(run: &mut Run<'_>) {
    let first = run.post("leases", lease("a", "1")).go();
    let label = |value: &str| json!({"metadata": {"labels": {"in": value}}});
    run.patch("leases/a", MERGE, label("yes")).why("in").go();
    run.patch("leases/a", MERGE, json!({"spec": {"holderIdentity": "2"}})).go();
    run.patch("leases/a", MERGE, label("no")).why("out").go();
    run.patch("leases/a", MERGE, json!({"spec": {"holderIdentity": "3"}})).why("outside").go();
    run.patch("leases/a", MERGE, label("yes")).why("in again").go();
    run.delete("leases/a", json!({})).go();
    let since = revision(&first);
    run.watch(
        &format!("leases?labelSelector=in%3Dyes&resourceVersion={since}"),
        5,
        "by label",
        &["/spec/holderIdentity", "/metadata/labels"],
    );
    run.given("leases", lease("b", "1"));
    run.watch(&format!("leases?fieldSelector=metadata.name%3Db&resourceVersion={since}"), 1, "by name", &[]);
    run.watch("leases?labelSelector=in%20x&resourceVersion=0", 1, "by nonsense", &[]);
}

fn forgotten(run: &mut Run<'_>) {
    run.given("configmaps", map("a", "1"));
    run.forget();
    run.watch("configmaps?resourceVersion=1", 1, "from long ago", &["/status"]);
    run.watch("configmaps?resourceVersion=nonsense", 1, "from nowhere", &[]);
}

fn timed(run: &mut Run<'_>) {
    let made = run.post("leases", lease("a", "1")).go();
    run.watch(&format!("leases?timeoutSeconds=1&resourceVersion={}", revision(&made)), 1, "", &[]);
}
