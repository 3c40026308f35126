//! Evictions and the budgets that stand in their way.

use serde_json::{Value, json};

use crate::run::{MERGE, Run, STRATEGIC, Script};
use crate::shapes::{FOREIGN, budget, placed_pod, ready_status, status_of};

pub(crate) const SCRIPTS: &[Script] = &[
    ("an eviction without a budget deletes the pod", free),
    ("an eviction spends the budget, and the next is refused", spent),
    ("an eviction is guarded by identity and revision", guarded),
    ("pods that do not run are evicted whatever the budget", not_running),
    ("a pod that is not ready goes when enough others are", unready),
    ("two budgets for one pod are an error", two),
    ("a budget counts pods by number and by share", counted),
    ("a budget of pods of nobody can only say how many must stay", loose),
];

fn eviction(name: &str, options: Value) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}, "deleteOptions": options})
}

fn evict(run: &mut Run<'_>, name: &str, why: &'static str, options: Value) {
    run.post(&format!("pods/{name}/eviction"), eviction(name, options)).why(why).go();
}

fn running(run: &mut Run<'_>, names: &[&str]) {
    for name in names {
        run.given("pods", placed_pod(name));
        run.patch(&format!("pods/{name}/status"), STRATEGIC, ready_status()).go();
    }
}

fn until_allowed(run: &mut Run<'_>, name: &str, allowed: i64) {
    run.until(
        &format!("poddisruptionbudgets/{name}"),
        &format!("it allows {allowed}"),
        &["/status/currentHealthy", "/status/desiredHealthy", "/status/expectedPods", "/status/observedGeneration"],
        |answer| {
            answer.body["status"]["observedGeneration"] == answer.body["metadata"]["generation"]
                && answer.body["status"]["disruptionsAllowed"] == allowed
        },
    );
}

fn clear(run: &mut Run<'_>) {
    run.delete("pods?gracePeriodSeconds=0", Value::Null).why("of all in the end").go();
}

fn free(run: &mut Run<'_>) {
    evict(run, "p", "of what is absent", json!({}));
    running(run, &["p", "q"]);
    evict(run, "p", "", json!({"gracePeriodSeconds": 300}));
    run.get("pods/p").go();
    evict(run, "p", "again", json!({}));
    run.post("pods/q/eviction", eviction("other", json!({}))).why("of another name in the body").go();
    run.post("pods/q/eviction?dryRun=All", eviction("q", json!({}))).go();
    run.get("pods/q").go();
    clear(run);
}

fn spent(run: &mut Run<'_>) {
    running(run, &["p", "q", "r"]);
    run.post("poddisruptionbudgets", budget("b", json!({"minAvailable": 2}))).go();
    until_allowed(run, "b", 1);
    evict(run, "p", "that is allowed", json!({"gracePeriodSeconds": 300}));
    evict(run, "q", "that is not", json!({"gracePeriodSeconds": 300}));
    run.get("pods/q").go();
    until_counted(run, "b", 2);
    evict(run, "q", "that is not, counted anew", json!({"gracePeriodSeconds": 300}));
    evict(run, "p", "of the one that goes", json!({}));
    run.delete("pods/q", json!({"gracePeriodSeconds": 300})).why("that asks nobody").go();
    run.post("pods/r/eviction?dryRun=All", eviction("r", json!({}))).go();
    clear(run);
}

fn guarded(run: &mut Run<'_>) {
    running(run, &["p", "q"]);
    let old = run.look("pods/p").body;
    run.patch("pods/p", MERGE, json!({"metadata": {"labels": {"c": "d"}}})).go();
    let newest = run.look("pods/p").body;
    evict(run, "p", "of another identity", json!({"preconditions": {"uid": FOREIGN}}));
    evict(
        run,
        "p",
        "at an old revision",
        json!({"preconditions": {"resourceVersion": old["metadata"]["resourceVersion"]}}),
    );
    run.get("pods/p").go();
    let both = json!({"preconditions": {"uid": newest["metadata"]["uid"], "resourceVersion": newest["metadata"]["resourceVersion"]}, "gracePeriodSeconds": 300});
    evict(run, "p", "of its identity at its revision", both);
    run.get("pods/p").why("that goes").go();
    run.post("poddisruptionbudgets", budget("b", json!({"maxUnavailable": 1}))).go();
    run.post("poddisruptionbudgets", budget("unused", json!({"maxUnavailable": 1}))).go();
    run.delete("poddisruptionbudgets/unused", json!({})).go();
    clear(run);
}

fn not_running(run: &mut Run<'_>) {
    for (name, phase) in [("failed", "Failed"), ("succeeded", "Succeeded"), ("running", "Running")] {
        run.given("pods", placed_pod(name));
        run.patch(&format!("pods/{name}/status"), STRATEGIC, status_of(phase, "True")).go();
    }
    run.given("pods", placed_pod("pending"));
    run.post("poddisruptionbudgets", budget("b", json!({"maxUnavailable": 0}))).go();
    run.until("poddisruptionbudgets/b", "it is counted", &["/status/disruptionsAllowed"], |answer| {
        answer.body["status"]["observedGeneration"] == 1
    });
    evict(run, "running", "that runs", json!({}));
    evict(run, "pending", "that waits", json!({"gracePeriodSeconds": 300}));
    run.get("pods/pending").go();
    evict(run, "failed", "that failed", json!({}));
    run.get("pods/failed").go();
    evict(run, "succeeded", "that succeeded", json!({}));
    run.get("pods/succeeded").go();
    run.delete("pods/running", json!({"gracePeriodSeconds": 300})).go();
    evict(run, "running", "that goes", json!({}));
    clear(run);
}

fn unready(run: &mut Run<'_>) {
    running(run, &["p", "q", "r"]);
    run.patch("pods/r/status", STRATEGIC, status_of("Running", "False")).why("not ready").go();
    run.post("poddisruptionbudgets", budget("b", json!({"minAvailable": 2}))).go();
    until_allowed(run, "b", 0);
    evict(run, "p", "that is ready", json!({}));
    evict(run, "r", "that is not ready, while enough are", json!({"gracePeriodSeconds": 300}));
    run.get("pods/r").go();
    run.patch("pods/q/status", STRATEGIC, status_of("Running", "False")).why("not ready").go();
    run.until("poddisruptionbudgets/b", "one is healthy", &["/status/disruptionsAllowed"], |answer| {
        answer.body["status"]["currentHealthy"] == 1
    });
    evict(run, "q", "that is not ready, while too few are", json!({}));
    run.patch("poddisruptionbudgets/b", MERGE, json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}})).go();
    run.until("poddisruptionbudgets/b", "it is counted anew", &[], |answer| {
        answer.body["status"]["observedGeneration"] == 2
    });
    evict(run, "q", "that is not ready, where that is always allowed", json!({"gracePeriodSeconds": 300}));
    clear(run);
}

fn two(run: &mut Run<'_>) {
    running(run, &["p"]);
    run.given("poddisruptionbudgets", budget("b", json!({"maxUnavailable": 1})));
    run.given("poddisruptionbudgets", budget("c", json!({"maxUnavailable": 1})));
    evict(run, "p", "", json!({}));
    run.get("pods/p").go();
    clear(run);
}

/// Until the controller has looked at the newest specification of a budget.
fn until_counted(run: &mut Run<'_>, name: &str, healthy: i64) {
    run.until(
        &format!("poddisruptionbudgets/{name}"),
        "it is counted",
        &["/status/currentHealthy", "/status/desiredHealthy", "/status/expectedPods", "/status/disruptionsAllowed"],
        |answer| {
            answer.body["status"]["observedGeneration"] == answer.body["metadata"]["generation"]
                && answer.body["status"]["currentHealthy"] == healthy
        },
    );
}

fn counted(run: &mut Run<'_>) {
    let mut set = crate::shapes::set("s", 3);
    set["spec"]["template"]["metadata"]["labels"] = json!({"app": "a", "of": "s"});
    set["spec"]["selector"]["matchLabels"] = json!({"of": "s"});
    run.given("statefulsets", set);
    run.until_names("pods", &["s-0", "s-1", "s-2"]);
    crate::sets::make_ready(run, &["s-0", "s-1", "s-2"]);
    run.given("poddisruptionbudgets", budget("b", json!({"minAvailable": 1})));
    until_counted(run, "b", 3);
    for (why, bound) in [
        ("to all", json!({"minAvailable": 3})),
        ("to more than all", json!({"minAvailable": 5})),
        ("to a share", json!({"minAvailable": "50%"})),
        ("to how many may be away", json!({"minAvailable": null, "maxUnavailable": 1})),
        ("to which share may be away", json!({"maxUnavailable": "34%"})),
    ] {
        run.patch("poddisruptionbudgets/b", MERGE, json!({"spec": bound})).why(why).go();
        until_counted(run, "b", 3);
    }
    run.patch("pods/s-2/status", STRATEGIC, status_of("Running", "False")).why("not ready").go();
    until_counted(run, "b", 2);
    crate::sets::scale(run, 4);
    run.until(
        "poddisruptionbudgets/b",
        "it expects four",
        &["/status/desiredHealthy", "/status/disruptionsAllowed"],
        |answer| answer.body["status"]["expectedPods"] == 4,
    );
    let mut nobody = budget("nobody", json!({"minAvailable": 1}));
    nobody["spec"]["selector"] = json!({"matchLabels": {"app": "nobody"}});
    run.given("poddisruptionbudgets", nobody);
    until_counted(run, "nobody", 0);
}

fn loose(run: &mut Run<'_>) {
    running(run, &["p", "q"]);
    run.given("poddisruptionbudgets", budget("number", json!({"minAvailable": 1})));
    until_allowed(run, "number", 1);
    run.given("poddisruptionbudgets", budget("away", json!({"maxUnavailable": 1})));
    run.until(
        "poddisruptionbudgets/away",
        "it is looked at",
        &[
            "/status/disruptionsAllowed",
            "/status/conditions/0/type",
            "/status/conditions/0/status",
            "/status/conditions/0/reason",
        ],
        |answer| answer.body["status"]["observedGeneration"] == 1 && answer.body["status"]["conditions"].is_array(),
    );
    clear(run);
}
