//! One test for each row of the table of preconditions: what guards a write, and what a mismatch is answered.

use serde_json::{Value, json};
use simulation::kubernetes::PatchKind;

use crate::support::{BUDGETS, Cluster, LEASES, MAPS, PODS, SETS, reason, revision, stateful_set, uid};

fn lease(name: &str, holder: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15}})
}

fn map(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"key": value}})
}

#[test]
fn a_second_create_of_the_same_name_is_409_already_exists() {
    let mut cluster = Cluster::new();
    let first = cluster.create(MAPS, map("a", "1"));
    assert!(!uid(&first).is_empty());
    let again = cluster.send(simulation::kubernetes::Request::post("ann", MAPS, map("a", "2")));
    assert_eq!((again.status, reason(&again).as_str()), (409, "AlreadyExists"));
    assert_eq!(again.value()["message"], "configmaps \"a\" already exists");
    assert_eq!(cluster.read(&format!("{MAPS}/a"))["data"]["key"], "1");
}

#[test]
fn generated_names_differ_each_time() {
    let mut cluster = Cluster::new();
    let body = json!({"metadata": {"generateName": "a-"}});
    let one = cluster.create(MAPS, body.clone());
    let two = cluster.create(MAPS, body);
    assert_ne!(one["metadata"]["name"], two["metadata"]["name"]);
}

#[test]
fn an_update_with_an_old_revision_is_409_and_changes_nothing() {
    let mut cluster = Cluster::new();
    let old = cluster.create(LEASES, lease("l", "a"));
    let mut renewed = old.clone();
    renewed["spec"]["holderIdentity"] = json!("b");
    assert_eq!(cluster.put(&format!("{LEASES}/l"), renewed).status, 200);
    let mut late = old;
    late["spec"]["holderIdentity"] = json!("c");
    let answer = cluster.put(&format!("{LEASES}/l"), late);
    assert_eq!((answer.status, reason(&answer).as_str()), (409, "Conflict"));
    assert_eq!(cluster.read(&format!("{LEASES}/l"))["spec"]["holderIdentity"], "b");
}

#[test]
fn an_update_with_another_uid_is_409() {
    let mut cluster = Cluster::new();
    let mut object = cluster.create(MAPS, map("a", "1"));
    object["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000000");
    let answer = cluster.put(&format!("{MAPS}/a"), object);
    assert_eq!((answer.status, reason(&answer).as_str()), (409, "Conflict"));
}

#[test]
fn leases_and_budgets_demand_a_revision_and_the_rest_is_overwritten_silently() {
    let mut cluster = Cluster::new();
    cluster.create(LEASES, lease("l", "a"));
    let answer = cluster.put(&format!("{LEASES}/l"), lease("l", "b"));
    assert_eq!((answer.status, reason(&answer).as_str()), (422, "Invalid"));
    let budget = json!({"metadata": {"name": "b"}, "spec": {"maxUnavailable": 1, "selector": {}}});
    cluster.create(BUDGETS, budget.clone());
    assert_eq!(cluster.put(&format!("{BUDGETS}/b"), budget).status, 422);
    cluster.create(SETS, stateful_set("s", 1, |_| {}));
    assert_eq!(cluster.put(&format!("{SETS}/s"), stateful_set("s", 2, |_| {})).status, 200);
    assert_eq!(cluster.read(&format!("{SETS}/s"))["spec"]["replicas"], 2);
}

#[test]
fn a_put_of_an_absent_lease_creates_it_whatever_revision_it_names_unless_a_uid_is_sent() {
    let mut cluster = Cluster::new();
    let old = cluster.create(LEASES, lease("l", "a"));
    assert_eq!(cluster.delete(&format!("{LEASES}/l"), json!({})).status, 200);
    let answer = cluster.put(&format!("{LEASES}/l"), old.clone());
    assert_eq!((answer.status, reason(&answer).as_str()), (409, "Conflict"), "the uid guards");
    let mut unguarded = old.clone();
    unguarded["metadata"].as_object_mut().expect("metadata").remove("uid");
    let answer = cluster.put(&format!("{LEASES}/l"), unguarded);
    assert_eq!(answer.status, 201);
    assert_ne!(uid(&answer.value()), uid(&old));
}

#[test]
fn an_absent_object_is_404_for_update_patch_and_delete() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.put(&format!("{MAPS}/a"), map("a", "1")).status, 404);
    assert_eq!(cluster.patch(&format!("{MAPS}/a"), PatchKind::Merge, json!({})).status, 404);
    let answer = cluster.delete(&format!("{MAPS}/a"), json!({}));
    assert_eq!((answer.status, reason(&answer).as_str()), (404, "NotFound"));
}

#[test]
fn an_update_that_says_the_same_keeps_the_revision() {
    let mut cluster = Cluster::new();
    let object = cluster.create(MAPS, map("a", "1"));
    let answer = cluster.put(&format!("{MAPS}/a"), map("a", "1"));
    assert_eq!(revision(&answer.value()), revision(&object));
    assert!(cluster.api.audit().entries().last().expect("audited").committed.is_none());
}

#[test]
fn the_status_subresource_ignores_the_spec_and_the_main_one_ignores_the_status() {
    let mut cluster = Cluster::new();
    let set = cluster.create(SETS, stateful_set("s", 1, |_| {}));
    let mut both = set.clone();
    both["spec"]["replicas"] = json!(5);
    both["status"]["readyReplicas"] = json!(7);
    let answer = cluster.put(&format!("{SETS}/s/status"), both).value();
    assert_eq!((answer["spec"]["replicas"].clone(), answer["status"]["readyReplicas"].clone()), (json!(1), json!(7)));
    assert_eq!(answer["metadata"]["generation"], 1);
    let mut both = answer;
    both["spec"]["replicas"] = json!(5);
    both["status"]["readyReplicas"] = json!(0);
    let answer = cluster.put(&format!("{SETS}/s"), both).value();
    assert_eq!((answer["spec"]["replicas"].clone(), answer["status"]["readyReplicas"].clone()), (json!(5), json!(7)));
    assert_eq!(answer["metadata"]["generation"], 2, "the generation counts changes of the spec");
}

#[test]
fn an_annotation_does_not_raise_the_generation() {
    let mut cluster = Cluster::new();
    cluster.create(SETS, stateful_set("s", 1, |_| {}));
    let stamp = json!({"metadata": {"annotations": {"pilotmesh.io/epoch": "7"}}});
    let answer = cluster.patch(&format!("{SETS}/s"), PatchKind::Merge, stamp).value();
    assert_eq!(answer["metadata"]["generation"], 1);
    let entry = cluster.api.audit().entries().last().expect("audited").clone();
    assert_eq!(entry.sent_annotations["pilotmesh.io/epoch"], "7");
    assert_eq!(entry.object_annotations["pilotmesh.io/epoch"], "7");
    assert_eq!(entry.committed.map(|revision| revision.to_string()), Some(revision(&answer)));
}

#[test]
fn a_merge_patch_is_guarded_only_by_the_revision_in_its_body() {
    let mut cluster = Cluster::new();
    let object = cluster.create(LEASES, lease("l", "a"));
    let take = |holder: &str| json!({"spec": {"holderIdentity": holder}});
    assert_eq!(cluster.patch(&format!("{LEASES}/l"), PatchKind::Merge, take("b")).status, 200, "it always lands");
    let mut guarded = take("c");
    guarded["metadata"] = json!({"resourceVersion": revision(&object)});
    assert_eq!(cluster.patch(&format!("{LEASES}/l"), PatchKind::Merge, guarded.clone()).status, 409);
    assert_eq!(cluster.patch(&format!("{LEASES}/l"), PatchKind::Strategic, guarded).status, 409);
    let foreign = json!({"metadata": {"uid": "other"}});
    assert_eq!(cluster.patch(&format!("{LEASES}/l"), PatchKind::Merge, foreign).status, 422, "a uid is immutable");
}

#[test]
fn a_json_patch_whose_test_fails_is_422() {
    let mut cluster = Cluster::new();
    let object = cluster.create(MAPS, map("a", "1"));
    let guarded = |revision: &str| {
        json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": revision},
            {"op": "replace", "path": "/data/key", "value": "2"},
        ])
    };
    let path = format!("{MAPS}/a");
    assert_eq!(cluster.patch(&path, PatchKind::Json, guarded(&revision(&object))).status, 200);
    let answer = cluster.patch(&path, PatchKind::Json, guarded(&revision(&object)));
    assert_eq!((answer.status, reason(&answer).as_str()), (422, "Invalid"));
    let entry = cluster.api.audit().entries().last().expect("audited");
    assert_eq!(entry.sent_resource_version.as_deref(), Some(revision(&object).as_str()));
}

#[test]
fn server_side_apply_conflicts_by_field_revision_and_identity() {
    let mut cluster = Cluster::new();
    let path = format!("{MAPS}/a");
    let first = cluster.apply(&path, "helm", map("a", "1"));
    assert_eq!(first.status, 201, "apply creates what is absent");
    let first = first.value();
    let answer = cluster.apply(&path, "pilot", map("a", "2"));
    assert_eq!((answer.status, reason(&answer).as_str()), (409, "Conflict"));
    assert_eq!(answer.value()["message"], "Apply failed with 1 conflict: conflict with \"helm\": .data.key");
    assert_eq!(cluster.apply(&path, "pilot&force=true", map("a", "2")).status, 200);
    let mut stale = map("a", "2");
    stale["metadata"]["resourceVersion"] = json!(revision(&first));
    assert_eq!(cluster.apply(&path, "pilot", stale).status, 409);
    let mut foreign = map("a", "2");
    foreign["metadata"]["uid"] = json!("other");
    assert_eq!(cluster.apply(&path, "pilot", foreign).status, 422);
    assert_eq!(cluster.patch(&path, PatchKind::Apply, map("a", "2")).status, 422, "a manager must be named");
}

#[test]
fn apply_with_only_a_revision_creates_an_absent_object_anew_and_a_uid_prevents_it() {
    let mut cluster = Cluster::new();
    let path = format!("{MAPS}/a");
    let first = cluster.apply(&path, "pilot", map("a", "1")).value();
    cluster.delete(&path, json!({}));
    let mut guarded = map("a", "1");
    guarded["metadata"]["resourceVersion"] = json!(revision(&first));
    guarded["metadata"]["uid"] = json!(uid(&first));
    assert_eq!(cluster.apply(&path, "pilot", guarded.clone()).status, 409);
    guarded["metadata"].as_object_mut().expect("metadata").remove("uid");
    let anew = cluster.apply(&path, "pilot", guarded);
    assert_eq!(anew.status, 201);
    assert_ne!(uid(&anew.value()), uid(&first));
}

#[test]
fn a_delete_honours_its_preconditions() {
    let mut cluster = Cluster::new();
    let object = cluster.create(MAPS, map("a", "1"));
    let path = format!("{MAPS}/a");
    assert_eq!(cluster.delete(&path, json!({"preconditions": {"uid": "other"}})).status, 409);
    assert_eq!(cluster.delete(&path, json!({"preconditions": {"resourceVersion": "1"}})).status, 409);
    let exact = json!({"preconditions": {"uid": uid(&object), "resourceVersion": revision(&object)}});
    assert_eq!(cluster.delete(&path, exact.clone()).status, 200);
    assert_eq!(cluster.delete(&path, exact).status, 404);
}

#[test]
fn the_first_delete_of_a_held_object_moves_its_revision_so_a_repeat_must_go_by_uid() {
    let mut cluster = Cluster::new();
    let mut held = map("a", "1");
    held["metadata"]["finalizers"] = json!(["pilotmesh.io/hold"]);
    let object = cluster.create(MAPS, held);
    let path = format!("{MAPS}/a");
    let exact = json!({"preconditions": {"resourceVersion": revision(&object)}});
    assert_eq!(cluster.delete(&path, exact.clone()).status, 200);
    let going = cluster.read(&path);
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    assert_ne!(revision(&going), revision(&object));
    assert_eq!(cluster.delete(&path, exact).status, 409);
    assert_eq!(cluster.delete(&path, json!({"preconditions": {"uid": uid(&object)}})).status, 200);
    let added = json!({"metadata": {"finalizers": ["pilotmesh.io/hold", "other.io/hold"]}});
    assert_eq!(cluster.patch(&path, PatchKind::Merge, added).status, 422, "nothing may hold it anew");
    let released = json!({"metadata": {"finalizers": null}});
    assert_eq!(cluster.patch(&path, PatchKind::Merge, released).status, 200);
    assert_eq!(cluster.get(&path).status, 404, "the last finalizer gone, the object goes");
}

#[test]
fn a_pods_grace_only_shrinks() {
    let mut cluster = Cluster::new();
    let body = json!({
        "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 60, "containers": [{"name": "c", "image": "i:1"}]},
    });
    cluster.create(PODS, body);
    let path = format!("{PODS}/p");
    let going = cluster.delete(&path, json!({})).value();
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 60);
    let deadline = going["metadata"]["deletionTimestamp"].clone();
    cluster.now = cluster.now.after(std::time::Duration::from_secs(5));
    let longer = cluster.delete(&path, json!({"gracePeriodSeconds": 600})).value();
    assert_eq!(longer["metadata"]["deletionTimestamp"], deadline);
    let shorter = cluster.delete(&path, json!({"gracePeriodSeconds": 20})).value();
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 20);
    assert!(shorter["metadata"]["deletionTimestamp"].as_str() < deadline.as_str());
    assert_eq!(cluster.delete(&path, json!({"gracePeriodSeconds": 0})).status, 200);
    assert_eq!(cluster.get(&path).status, 404);
}

#[test]
fn an_eviction_spends_the_budget_and_is_429_when_it_is_spent() {
    let mut cluster = Cluster::with_node();
    cluster.create(SETS, stateful_set("s", 3, |_| {}));
    let budget = json!({
        "metadata": {"name": "b"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "s"}}},
    });
    cluster.create(BUDGETS, budget);
    let evict = |cluster: &mut Cluster, pod: &str, options: Value| {
        let body = json!({"metadata": {"name": pod}, "deleteOptions": options});
        cluster.send(simulation::kubernetes::Request::post("ann", &format!("{PODS}/{pod}/eviction"), body))
    };
    cluster.settle();
    for pod in ["s-0", "s-1", "s-2"] {
        cluster.make_ready(pod);
    }
    cluster.settle();
    let wrong = evict(&mut cluster, "s-0", json!({"preconditions": {"uid": "other"}}));
    assert_eq!(wrong.status, 409);
    // The refused eviction has spent the budget all the same, until the controller gives it up.
    cluster.settle();
    assert_eq!(evict(&mut cluster, "s-0", json!({})).status, 429);
    cluster.now = cluster.now.after(std::time::Duration::from_secs(120));
    cluster.settle();
    assert_eq!(evict(&mut cluster, "s-0", json!({})).status, 201);
    let spent = evict(&mut cluster, "s-1", json!({}));
    assert_eq!((spent.status, reason(&spent).as_str()), (429, "TooManyRequests"));
    assert!(cluster.read(&format!("{PODS}/s-0"))["metadata"]["deletionTimestamp"].is_string());
    assert!(cluster.read(&format!("{PODS}/s-1"))["metadata"]["deletionTimestamp"].is_null());
}

#[test]
fn a_budget_not_yet_observed_refuses_with_429_and_two_budgets_with_500() {
    let mut cluster = Cluster::with_node();
    cluster.create(SETS, stateful_set("s", 1, |_| {}));
    cluster.settle();
    cluster.make_ready("s-0");
    let budget = |name: &str| json!({"metadata": {"name": name}, "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "s"}}}});
    cluster.create(BUDGETS, budget("one"));
    let evict = simulation::kubernetes::Request::post(
        "ann",
        &format!("{PODS}/s-0/eviction"),
        json!({"metadata": {"name": "s-0"}}),
    );
    assert_eq!(cluster.send(evict.clone()).status, 429);
    cluster.create(BUDGETS, budget("two"));
    cluster.settle();
    assert_eq!(cluster.send(evict).status, 500);
}

#[test]
fn a_scale_is_conditional_only_where_it_carries_a_revision() {
    let mut cluster = Cluster::new();
    let set = cluster.create(SETS, stateful_set("s", 3, |_| {}));
    let path = format!("{SETS}/s/scale");
    let mut scale = cluster.read(&path);
    assert_eq!((scale["spec"]["replicas"].clone(), scale["status"]["selector"].clone()), (json!(3), json!("app=s")));
    scale["spec"]["replicas"] = json!(4);
    assert_eq!(cluster.put(&path, scale.clone()).status, 200);
    scale["spec"]["replicas"] = json!(5);
    assert_eq!(cluster.put(&path, scale.clone()).status, 409, "the revision has moved");
    scale["metadata"] = json!({"name": "s", "uid": "other"});
    assert_eq!(cluster.put(&path, scale.clone()).status, 409, "another identity");
    scale["metadata"] = json!({"name": "s"});
    assert_eq!(cluster.put(&path, scale).status, 200, "without either it lands");
    let after = cluster.read(&format!("{SETS}/s"));
    assert_eq!((after["spec"]["replicas"].clone(), after["metadata"]["generation"].clone()), (json!(5), json!(3)));
    assert_eq!(uid(&after), uid(&set));
    let patched = cluster.patch(&path, PatchKind::Merge, json!({"spec": {"replicas": 2}}));
    assert_eq!(patched.value()["spec"]["replicas"], 2);
}

#[test]
fn a_list_or_watch_from_the_future_waits_and_one_from_a_compacted_past_is_410() {
    let mut cluster = Cluster::new();
    let first = cluster.create(MAPS, map("a", "1"));
    cluster.create(MAPS, map("b", "1"));
    assert_eq!(cluster.get(&format!("{MAPS}?resourceVersion=999999")).status, 504);
    cluster.api.compact(u64::MAX);
    cluster.create(MAPS, map("c", "1"));
    let answer = cluster.get(&format!("{MAPS}?watch=true&resourceVersion={}", revision(&first)));
    let simulation::kubernetes::Body::Watch(mut cursor) = answer.body else { panic!("a watch") };
    let events = cluster.api.poll_watch(&mut cursor, 10);
    assert_eq!(events[0].change.word(), "ERROR");
    assert_eq!((events[0].object["code"].clone(), events[0].object["reason"].clone()), (json!(410), json!("Expired")));
    assert!(cursor.has_ended());
}

#[test]
fn a_watch_tells_what_enters_and_leaves_its_selector() {
    let mut cluster = Cluster::new();
    let labelled = |value: &str| json!({"metadata": {"name": "a", "labels": {"tier": value}}});
    cluster.create(MAPS, labelled("db"));
    let answer = cluster.get(&format!("{MAPS}?watch=true&labelSelector=tier%3Ddb&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"));
    let simulation::kubernetes::Body::Watch(mut cursor) = answer.body else { panic!("a watch") };
    let words = |cluster: &Cluster, cursor: &mut simulation::kubernetes::WatchCursor| -> Vec<&'static str> {
        cluster.api.poll_watch(cursor, 10).iter().map(|event| event.change.word()).collect()
    };
    assert_eq!(words(&cluster, &mut cursor), ["ADDED", "BOOKMARK"]);
    cluster.put(&format!("{MAPS}/a"), labelled("web"));
    assert_eq!(words(&cluster, &mut cursor), ["DELETED"]);
    cluster.put(&format!("{MAPS}/a"), labelled("db"));
    cluster.patch(&format!("{MAPS}/a"), PatchKind::Merge, json!({"data": {"x": "y"}}));
    cluster.delete(&format!("{MAPS}/a"), json!({}));
    assert_eq!(words(&cluster, &mut cursor), ["ADDED", "MODIFIED", "DELETED"]);
    assert!(words(&cluster, &mut cursor).is_empty());
}

#[test]
fn the_same_requests_give_the_same_answers() {
    let run = || {
        let mut cluster = Cluster::with_node();
        cluster.create(SETS, stateful_set("s", 3, |_| {}));
        cluster.settle();
        cluster.read("/api/v1/pods").to_string()
    };
    assert_eq!(run(), run());
}

#[test]
fn events_are_one_under_two_names() {
    let mut cluster = Cluster::new();
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    cluster.create(
        path,
        json!({
            "metadata": {"name": "e"}, "reason": "Joined", "note": "a-1 joined", "type": "Normal",
            "regarding": {"kind": "StatefulSet", "name": "a"},
        }),
    );
    let core = cluster.read("/api/v1/namespaces/default/events/e");
    assert_eq!((core["message"].clone(), core["involvedObject"]["name"].clone()), (json!("a-1 joined"), json!("a")));
    assert_eq!(cluster.read(&format!("{path}/e"))["note"], "a-1 joined");
    for index in 0..1200 {
        cluster.create(path, json!({"metadata": {"name": format!("n-{index}")}}));
    }
    assert!(cluster.names(path).len() <= 1100);
}

#[test]
fn pages_go_on_in_the_list_they_began_and_an_exact_revision_is_told_as_it_was() {
    let mut cluster = Cluster::new();
    for name in ["a", "b", "c"] {
        cluster.create(MAPS, map(name, "1"));
    }
    let first = cluster.read(&format!("{MAPS}?limit=1"));
    assert_eq!(first["metadata"]["remainingItemCount"], 2);
    cluster.delete(&format!("{MAPS}/b"), json!({}));
    cluster.put(&format!("{MAPS}/c"), map("c", "2"));
    cluster.create(MAPS, map("d", "1"));
    let token = first["metadata"]["continue"].as_str().expect("more to come").to_owned();
    let rest = cluster.read(&format!("{MAPS}?continue={token}"));
    let told: Vec<(&Value, &Value)> = rest["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| (&item["metadata"]["name"], &item["data"]["key"]))
        .collect();
    assert_eq!(told, [(&json!("b"), &json!("1")), (&json!("c"), &json!("1"))]);
    let then = format!("resourceVersion={}&resourceVersionMatch=Exact", revision(&first));
    assert_eq!(cluster.names(&format!("{MAPS}?{then}")), ["a", "b", "c"]);
    cluster.api.compact(u64::MAX);
    assert_eq!(cluster.get(&format!("{MAPS}?continue={token}")).status, 410);
}

#[test]
fn a_body_of_a_deletion_hides_its_query() {
    let mut cluster = Cluster::new();
    cluster.create(MAPS, map("a", "1"));
    assert_eq!(cluster.delete(&format!("{MAPS}/a?dryRun=All"), Value::Null).status, 200);
    assert_eq!(cluster.get(&format!("{MAPS}/a")).status, 200);
    assert_eq!(cluster.delete(&format!("{MAPS}/a?dryRun=All"), json!({})).status, 200);
    assert_eq!(cluster.get(&format!("{MAPS}/a")).status, 404);
}

#[test]
fn the_last_finalizer_takes_the_object_along_without_a_change_of_its_own() {
    let mut cluster = Cluster::new();
    let mut held = map("a", "1");
    held["metadata"]["finalizers"] = json!(["conformance.test/one"]);
    cluster.create(MAPS, held);
    let going = cluster.delete(&format!("{MAPS}/a"), json!({})).value();
    let answer = cluster.get(&format!("{MAPS}?watch=true&resourceVersion={}", revision(&going)));
    let simulation::kubernetes::Body::Watch(mut cursor) = answer.body else { panic!("a watch") };
    cluster.patch(&format!("{MAPS}/a"), PatchKind::Merge, json!({"metadata": {"finalizers": null}}));
    let events: Vec<&str> = cluster.api.poll_watch(&mut cursor, 10).iter().map(|event| event.change.word()).collect();
    assert_eq!(events, ["DELETED"]);
}
