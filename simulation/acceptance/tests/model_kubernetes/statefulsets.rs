//! The life of a StatefulSet: order, names, claims, revisions, ownership.

use serde_json::json;
use simulation::kubernetes::PatchKind;

use crate::support::{CLAIMS, Cluster, PODS, SETS, reason, stateful_set, uid};

const BOTH: [&str; 2] = ["Retain", "Delete"];

#[test]
fn a_parallel_set_creates_all_pods_and_claims_at_once() {
    let mut cluster = Cluster::with_node();
    cluster.create(SETS, stateful_set("s", 3, |_| {}));
    cluster.settle();
    assert_eq!(cluster.names(PODS), ["s-0", "s-1", "s-2"]);
    assert_eq!(cluster.names(CLAIMS), ["data-s-0", "data-s-1", "data-s-2"]);
    let pod = cluster.read(&format!("{PODS}/s-1"));
    let labels = &pod["metadata"]["labels"];
    assert_eq!(labels["statefulset.kubernetes.io/pod-name"], "s-1");
    assert_eq!(labels["apps.kubernetes.io/pod-index"], "1");
    let set = cluster.read(&format!("{SETS}/s"));
    assert_eq!(labels["controller-revision-hash"], set["status"]["updateRevision"]);
    assert_eq!(pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"], "data-s-1");
    assert_eq!(pod["spec"]["nodeName"], "sandbox");
    assert_eq!((set["status"]["replicas"].clone(), set["status"]["observedGeneration"].clone()), (json!(3), json!(1)));
    let claim = cluster.read(&format!("{CLAIMS}/data-s-0"));
    assert_eq!(claim["status"]["phase"], "Bound");
    assert_eq!(claim["metadata"]["labels"]["app"], "s");
}

#[test]
fn an_ordered_set_waits_for_each_pod_and_starts_where_told() {
    let mut cluster = Cluster::with_node();
    cluster.create(
        SETS,
        stateful_set("s", 3, |set| {
            set["spec"]["podManagementPolicy"] = json!("OrderedReady");
            set["spec"]["ordinals"] = json!({"start": 5});
        }),
    );
    cluster.settle();
    assert_eq!(cluster.names(PODS), ["s-5"]);
    cluster.make_ready("s-5");
    cluster.settle();
    assert_eq!(cluster.names(PODS), ["s-5", "s-6"]);
    cluster.make_ready("s-6");
    cluster.settle();
    cluster.make_ready("s-7");
    cluster.settle();
    assert_eq!(cluster.read(&format!("{SETS}/s"))["status"]["readyReplicas"], 3);
    cluster.patch(&format!("{SETS}/s/scale"), PatchKind::Merge, json!({"spec": {"replicas": 1}}));
    cluster.settle();
    let going = |cluster: &mut Cluster, pod: &str| {
        cluster.read(&format!("{PODS}/{pod}"))["metadata"]["deletionTimestamp"].is_string()
    };
    assert!(going(&mut cluster, "s-7"), "the highest ordinal goes first");
    assert!(!going(&mut cluster, "s-6"), "and the next waits for it");
    cluster.finish_deletion("s-7");
    cluster.settle();
    assert!(going(&mut cluster, "s-6"));
}

#[test]
fn a_deleted_pod_ends_gracefully_and_returns_under_its_name_only_when_the_old_object_is_gone() {
    let mut cluster = Cluster::with_node();
    cluster.create(SETS, stateful_set("s", 1, |_| {}));
    cluster.settle();
    cluster.make_ready("s-0");
    let first = cluster.read(&format!("{PODS}/s-0"));
    let claim = cluster.read(&format!("{CLAIMS}/data-s-0"));
    cluster.delete(&format!("{PODS}/s-0"), json!({}));
    cluster.settle();
    assert_eq!(uid(&cluster.read(&format!("{PODS}/s-0"))), uid(&first), "terminating, not replaced");
    let status = cluster.read(&format!("{SETS}/s"))["status"].clone();
    assert_eq!((status["readyReplicas"].clone(), status["currentReplicas"].clone()), (json!(1), json!(null)));
    cluster.finish_deletion("s-0");
    cluster.settle();
    assert_ne!(uid(&cluster.read(&format!("{PODS}/s-0"))), uid(&first));
    assert_eq!(uid(&cluster.read(&format!("{CLAIMS}/data-s-0"))), uid(&claim), "on its old claim");
}

#[test]
fn a_deletion_cannot_be_withdrawn_by_raising_the_size() {
    let mut cluster = Cluster::with_node();
    cluster.create(SETS, stateful_set("s", 3, |_| {}));
    cluster.settle();
    let before = cluster.read(&format!("{PODS}/s-2"));
    cluster.patch(&format!("{SETS}/s/scale"), PatchKind::Merge, json!({"spec": {"replicas": 2}}));
    cluster.settle();
    cluster.patch(&format!("{SETS}/s/scale"), PatchKind::Merge, json!({"spec": {"replicas": 3}}));
    cluster.settle();
    let going = cluster.read(&format!("{PODS}/s-2"));
    assert_eq!(uid(&going), uid(&before));
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    cluster.finish_deletion("s-2");
    cluster.settle();
    assert_ne!(uid(&cluster.read(&format!("{PODS}/s-2"))), uid(&before));
}

#[test]
fn on_delete_never_rolls_and_its_current_revision_stays_until_all_are_new() {
    let mut cluster = Cluster::with_node();
    cluster.create(SETS, stateful_set("s", 2, |_| {}));
    cluster.settle();
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "db", "image": "db:2"}]}}}});
    cluster.patch(&format!("{SETS}/s"), PatchKind::Strategic, image);
    for pod in ["s-0", "s-1"] {
        cluster.make_ready(pod);
    }
    cluster.settle();
    let status = cluster.read(&format!("{SETS}/s"))["status"].clone();
    assert_ne!(status["currentRevision"], status["updateRevision"]);
    assert_eq!((status["updatedReplicas"].clone(), status["currentReplicas"].clone()), (json!(null), json!(2)));
    assert_eq!(cluster.read(&format!("{PODS}/s-0"))["spec"]["containers"][0]["image"], "db:1");
    cluster.delete(&format!("{PODS}/s-0"), json!({}));
    cluster.finish_deletion("s-0");
    cluster.settle();
    assert_eq!(cluster.read(&format!("{PODS}/s-0"))["spec"]["containers"][0]["image"], "db:2");
    let revert = json!({"spec": {"template": {"spec": {"containers": [{"name": "db", "image": "db:1"}]}}}});
    cluster.patch(&format!("{SETS}/s"), PatchKind::Strategic, revert);
    cluster.settle();
    let reverted = cluster.read(&format!("{SETS}/s"))["status"].clone();
    assert_eq!(reverted["updateRevision"], status["currentRevision"], "the same template is the same revision");
}

#[test]
fn a_rolling_update_goes_from_the_highest_ordinal_to_the_partition_and_waits_for_each() {
    let mut cluster = Cluster::with_node();
    cluster.create(
        SETS,
        stateful_set("s", 3, |set| {
            set["spec"]["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}});
        }),
    );
    cluster.settle();
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "db", "image": "db:2"}]}}}});
    cluster.patch(&format!("{SETS}/s"), PatchKind::Strategic, image);
    for pod in ["s-0", "s-1", "s-2"] {
        cluster.make_ready(pod);
    }
    let going = |cluster: &mut Cluster| -> Vec<String> {
        let pods = cluster.read(PODS);
        let items = pods["items"].as_array().expect("items").clone();
        items
            .iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_string())
            .map(|pod| pod["metadata"]["name"].as_str().expect("name").to_owned())
            .collect()
    };
    cluster.settle();
    assert_eq!(going(&mut cluster), ["s-2"]);
    cluster.finish_deletion("s-2");
    cluster.settle();
    assert_eq!(going(&mut cluster), Vec::<String>::new(), "waits until the new one is ready");
    cluster.make_ready("s-2");
    cluster.settle();
    assert_eq!(going(&mut cluster), ["s-1"]);
    cluster.finish_deletion("s-1");
    cluster.settle();
    cluster.make_ready("s-1");
    cluster.settle();
    assert_eq!(going(&mut cluster), Vec::<String>::new(), "below the partition nothing rolls");
    cluster.delete(&format!("{PODS}/s-0"), json!({}));
    cluster.finish_deletion("s-0");
    cluster.settle();
    assert_eq!(cluster.read(&format!("{PODS}/s-0"))["spec"]["containers"][0]["image"], "db:1");
}

#[test]
fn claims_follow_the_retention_policy() {
    for scaled in BOTH {
        for deleted in BOTH {
            let mut cluster = Cluster::with_node();
            cluster.create(
                SETS,
                stateful_set("s", 2, |set| {
                    set["spec"]["persistentVolumeClaimRetentionPolicy"] =
                        json!({"whenScaled": scaled, "whenDeleted": deleted});
                }),
            );
            cluster.settle();
            cluster.patch(&format!("{SETS}/s/scale"), PatchKind::Merge, json!({"spec": {"replicas": 1}}));
            cluster.settle();
            cluster.finish_deletion("s-1");
            cluster.settle();
            let left = if scaled == "Delete" { vec!["data-s-0"] } else { vec!["data-s-0", "data-s-1"] };
            assert_eq!(cluster.names(CLAIMS), left, "whenScaled {scaled}");
            cluster.delete(&format!("{SETS}/s"), json!({}));
            cluster.settle();
            cluster.finish_deletion("s-0");
            cluster.settle();
            assert_eq!(cluster.names(PODS), Vec::<String>::new());
            let expected = match (scaled, deleted) {
                ("Retain", "Delete") => Vec::new(),
                ("Delete", "Delete") => Vec::new(),
                _ => left,
            };
            assert_eq!(cluster.names(CLAIMS), expected, "whenScaled {scaled}, whenDeleted {deleted}");
        }
    }
}

#[test]
fn a_claim_in_use_waits_for_its_pod_and_its_volume_goes_with_it() {
    let mut cluster = Cluster::with_node();
    cluster.create(SETS, stateful_set("s", 1, |_| {}));
    cluster.settle();
    assert_eq!(cluster.names("/api/v1/persistentvolumes").len(), 1);
    cluster.delete(&format!("{CLAIMS}/data-s-0"), json!({}));
    cluster.settle();
    assert!(cluster.read(&format!("{CLAIMS}/data-s-0"))["metadata"]["deletionTimestamp"].is_string());
    cluster.patch(&format!("{SETS}/s/scale"), PatchKind::Merge, json!({"spec": {"replicas": 0}}));
    cluster.settle();
    cluster.finish_deletion("s-0");
    cluster.settle();
    assert_eq!(cluster.names(CLAIMS), Vec::<String>::new());
    assert_eq!(cluster.names("/api/v1/persistentvolumes"), Vec::<String>::new());
}

#[test]
fn dependents_are_orphaned_or_go_first_as_asked() {
    let mut cluster = Cluster::with_node();
    cluster.create(SETS, stateful_set("s", 1, |_| {}));
    cluster.settle();
    cluster.delete(&format!("{SETS}/s"), json!({"propagationPolicy": "Orphan"}));
    cluster.settle();
    assert_eq!(cluster.get(&format!("{SETS}/s")).status, 404);
    let pod = cluster.read(&format!("{PODS}/s-0"));
    assert!(pod["metadata"]["deletionTimestamp"].is_null());
    cluster.create(SETS, stateful_set("t", 1, |_| {}));
    cluster.settle();
    cluster.delete(&format!("{SETS}/t"), json!({"propagationPolicy": "Foreground"}));
    cluster.settle();
    assert_eq!(cluster.get(&format!("{SETS}/t")).status, 200, "it waits for its pod");
    assert!(cluster.read(&format!("{PODS}/t-0"))["metadata"]["deletionTimestamp"].is_string());
    cluster.finish_deletion("t-0");
    cluster.settle();
    assert_eq!(cluster.get(&format!("{SETS}/t")).status, 404);
}

#[test]
fn what_may_not_change_is_refused() {
    let mut cluster = Cluster::with_node();
    cluster.create(SETS, stateful_set("s", 1, |_| {}));
    cluster.settle();
    let renamed = json!({"spec": {"serviceName": "other"}});
    let answer = cluster.patch(&format!("{SETS}/s"), PatchKind::Merge, renamed);
    assert_eq!((answer.status, reason(&answer).as_str()), (422, "Invalid"));
    let env = json!({"spec": {"containers": [{"name": "db", "env": [{"name": "A", "value": "1"}]}]}});
    assert_eq!(cluster.patch(&format!("{PODS}/s-0"), PatchKind::Strategic, env).status, 422);
    let image = json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "db:9"}]);
    assert_eq!(cluster.patch(&format!("{PODS}/s-0"), PatchKind::Json, image).status, 200);
    let smaller = json!({"spec": {"resources": {"requests": {"storage": "1Mi"}}}});
    assert_eq!(cluster.patch(&format!("{CLAIMS}/data-s-0"), PatchKind::Merge, smaller).status, 422);
    let larger = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    assert_eq!(cluster.patch(&format!("{CLAIMS}/data-s-0"), PatchKind::Merge, larger).status, 200);
    cluster.settle();
    assert_eq!(cluster.read(&format!("{CLAIMS}/data-s-0"))["status"]["capacity"]["storage"], "2Gi");
}

#[test]
fn a_restored_cluster_keeps_claims_and_sets_and_never_repeats_identities_or_revisions() {
    let mut cluster = Cluster::with_node();
    cluster.create(SETS, stateful_set("s", 2, |_| {}));
    cluster.settle();
    let claim = cluster.read(&format!("{CLAIMS}/data-s-0"));
    let pods = cluster.read(PODS);
    let snapshot = cluster.api.snapshot();
    let mut again = Cluster::new();
    again.api.restore(&snapshot).expect("a snapshot");
    again.settle();
    assert_eq!(again.read(&format!("{CLAIMS}/data-s-0")), claim);
    let anew = again.read(PODS);
    for index in 0..2 {
        let (old, new) = (&pods["items"][index], &anew["items"][index]);
        assert_eq!(old["metadata"]["name"], new["metadata"]["name"]);
        assert_ne!(uid(old), uid(new), "the processes ended, so the pods are others");
        let number = |pod: &serde_json::Value| crate::support::revision(pod).parse::<u64>().expect("a number");
        assert!(number(new) > number(old), "revisions never go back");
    }
    let answer = again.get(&format!(
        "{PODS}?watch=true&resourceVersion={}",
        pods["metadata"]["resourceVersion"].as_str().expect("a revision")
    ));
    let simulation::kubernetes::Body::Watch(mut cursor) = answer.body else { panic!("a watch") };
    assert_eq!(again.api.poll_watch(&mut cursor, 1)[0].object["code"], 410);
    assert!(again.api.restore(&json!({})).is_err());
}

#[test]
fn with_the_server_away_no_controller_acts() {
    let mut cluster = Cluster::with_node();
    cluster.create(SETS, stateful_set("s", 1, |_| {}));
    cluster.api.faults_mut().set_outage(true);
    cluster.settle();
    assert_eq!(cluster.names(PODS), Vec::<String>::new());
    cluster.api.faults_mut().set_outage(false);
    cluster.settle();
    assert_eq!(cluster.names(PODS), ["s-0"]);
}

#[test]
fn pods_of_a_set_deleted_alone_are_adopted_by_the_next_of_its_name() {
    let mut cluster = Cluster::with_node();
    cluster.create(SETS, stateful_set("s", 2, |_| {}));
    cluster.settle();
    let pod = cluster.read(&format!("{PODS}/s-0"));
    cluster.delete(&format!("{SETS}/s"), json!({"propagationPolicy": "Orphan"}));
    cluster.settle();
    assert!(cluster.read(&format!("{PODS}/s-0"))["metadata"]["ownerReferences"].is_null());
    let next = cluster.create(SETS, stateful_set("s", 2, |_| {}));
    cluster.settle();
    let adopted = cluster.read(&format!("{PODS}/s-0"));
    assert_eq!(uid(&adopted), uid(&pod));
    assert_eq!(adopted["metadata"]["ownerReferences"][0]["uid"], uid(&next));
    let relabelled = json!({"metadata": {"labels": {"app": "other"}}});
    cluster.patch(&format!("{PODS}/s-1"), PatchKind::Merge, relabelled);
    cluster.settle();
    assert!(cluster.read(&format!("{PODS}/s-1"))["metadata"]["ownerReferences"].is_null(), "let go");
}

#[test]
fn a_pod_is_available_when_it_has_been_ready_for_as_long_as_the_set_asks() {
    let mut cluster = Cluster::with_node();
    cluster.create(SETS, stateful_set("s", 1, |set| set["spec"]["minReadySeconds"] = json!(30)));
    cluster.settle();
    let since = cluster.now.rfc3339();
    let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": since}]);
    cluster.set_pod_status("s-0", json!({"phase": "Running", "conditions": ready}));
    cluster.settle();
    let available = |cluster: &mut Cluster| cluster.read(&format!("{SETS}/s"))["status"]["availableReplicas"].clone();
    assert_eq!(available(&mut cluster), 0);
    cluster.now = cluster.now.after(std::time::Duration::from_secs(30));
    cluster.settle();
    assert_eq!(available(&mut cluster), 1);
}

#[test]
#[ignore = "a measurement: run it with --release and --nocapture"]
fn how_fast_the_model_answers() {
    const ROUNDS: u32 = 100_000;
    let mut cluster = Cluster::with_node();
    cluster.create(SETS, stateful_set("s", 9, |_| {}));
    cluster.settle();
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    let mut lease = cluster.put(path, json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}})).value();
    let begin = std::time::Instant::now();
    for round in 0..ROUNDS {
        lease["spec"]["leaseTransitions"] = json!(round);
        lease = cluster.put(path, lease).value();
        assert!(!simulation::kubernetes::controllers::reconcile_all(&mut cluster.api, cluster.now));
    }
    println!("renewal and a pass of the controllers: {:?}", begin.elapsed() / ROUNDS);
    let begin = std::time::Instant::now();
    for _ in 0..ROUNDS {
        assert_eq!(cluster.get(PODS).status, 200);
    }
    println!("list of nine pods: {:?}", begin.elapsed() / ROUNDS);
}
