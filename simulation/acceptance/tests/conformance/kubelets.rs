//! The kubelet: what it says of pods, when it starts and ends containers, and in which order.

use serde_json::{Value, json};

use crate::containers::Behaviour;
use crate::run::{MERGE, Run, STRATEGIC, Script};
use crate::target::Answer;

pub(crate) const SCRIPTS: &[Script] = &[
    ("a pod is scheduled, runs and is ready", runs),
    ("a pod is ready when its probe succeeds", probed),
    ("a pod is ready when its gates are open", gated),
    ("a container that fails is started again and again with a pause", fails),
    ("a pod that does not restart ends as its containers do", ends),
    ("containers that prepare run one after the other before the rest", prepares),
    ("a sidecar starts before and ends after the main container", sidecar),
    ("a pod that is deleted ends well and goes", goes),
    ("a container that does not listen is killed", deaf),
    ("a pod of a set that is deleted comes back when it is gone", comes_back),
    ("a pod that no node can take waits and says so", unschedulable),
];

/// Everything of a pod's status that does not change from run to run.
const STATUS: &[&str] = &[
    "/status/phase",
    "/status/qosClass",
    "/status/containerStatuses/*/name",
    "/status/containerStatuses/*/ready",
    "/status/containerStatuses/*/started",
    "/status/containerStatuses/*/restartCount",
    "/status/containerStatuses/*/lastState",
];

fn pod(name: &str, change: impl FnOnce(&mut Value), containers: &[Value]) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "a"}},
        "spec": {"terminationGracePeriodSeconds": 20, "containers": containers},
    });
    change(&mut pod);
    pod
}

fn condition(body: &Value, kind: &str) -> Value {
    body["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == kind)
        .map_or(Value::Null, |condition| condition["status"].clone())
}

fn is(answer: &Answer, kind: &str, status: &str) -> bool {
    condition(&answer.body, kind) == status
}

/// The last word of a kubelet on a pod that something else still holds.
fn grace_is_over(answer: &Answer) -> bool {
    answer.body["metadata"]["deletionGracePeriodSeconds"] == 0
}

/// The conditions every kubelet tells.
fn conditions(run: &mut Run<'_>, pod: &Value) {
    let told: Vec<String> = ["PodScheduled", "Initialized", "ContainersReady", "Ready"]
        .iter()
        .map(|kind| format!("{kind}={}", condition(pod, kind).as_str().unwrap_or("absent")))
        .collect();
    run.note("the conditions", told.join(" "));
}

fn runs(run: &mut Run<'_>) {
    let image = run.image();
    run.post("pods", pod("p", |_| {}, &[Behaviour::Serves.container("db", &image)]))
        .see(&["/status/phase", "/spec/restartPolicy", "/spec/dnsPolicy"])
        .go();
    let ready = run.until("pods/p", "it is ready", STATUS, |answer| is(answer, "Ready", "True"));
    conditions(run, &ready);
    run.note("it has a node", ready["spec"]["nodeName"].is_string());
    run.note(
        "it has an address",
        ready["status"]["podIP"].is_string() && ready["status"]["podIPs"][0]["ip"] == ready["status"]["podIP"],
    );
    run.note("it tells when it began", ready["status"]["startTime"].is_string());
    run.note(
        "its container tells when it began",
        ready["status"]["containerStatuses"][0]["state"]["running"]["startedAt"].is_string(),
    );
    run.note(
        "it observes its generation",
        ready["status"]["observedGeneration"] == ready["metadata"]["generation"]
            && ready["metadata"]["generation"].is_number(),
    );
    run.delete("pods/p", json!({"gracePeriodSeconds": 0})).go();
}

fn probed(run: &mut Run<'_>) {
    let image = run.image();
    let probed = |command: &str| {
        let mut container = Behaviour::Serves.container("db", &image);
        container["readinessProbe"] = json!({"exec": {"command": [command]}, "periodSeconds": 1});
        container
    };
    run.given("pods", pod("good", |_| {}, &[probed("true")]));
    run.given("pods", pod("bad", |_| {}, &[probed("false")]));
    run.until("pods/good", "it is ready", STATUS, |answer| is(answer, "Ready", "True"));
    let bad = run.until("pods/bad", "it runs", STATUS, |answer| {
        answer.body["status"]["containerStatuses"][0]["state"]["running"].is_object()
    });
    conditions(run, &bad);
    let mut gate = Behaviour::Serves.container("db", &image);
    gate["startupProbe"] = json!({"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 600});
    gate["readinessProbe"] = json!({"exec": {"command": ["true"]}, "periodSeconds": 1});
    run.given("pods", pod("starting", |_| {}, &[gate]));
    let starting = run.until("pods/starting", "it runs", STATUS, |answer| {
        answer.body["status"]["containerStatuses"][0]["state"]["running"].is_object()
    });
    conditions(run, &starting);
    run.delete("pods?gracePeriodSeconds=0", Value::Null).go();
}

fn gated(run: &mut Run<'_>) {
    let image = run.image();
    let gate = |pod: &mut Value| pod["spec"]["readinessGates"] = json!([{"conditionType": "conformance.test/gate"}]);
    run.given("pods", pod("p", gate, &[Behaviour::Serves.container("db", &image)]));
    let closed =
        run.until("pods/p", "its containers are ready", STATUS, |answer| is(answer, "ContainersReady", "True"));
    conditions(run, &closed);
    let say = |status: &str| json!({"status": {"conditions": [{"type": "conformance.test/gate", "status": status}]}});
    run.patch("pods/p/status", STRATEGIC, say("True")).why("that opens the gate").go();
    let open = run.until("pods/p", "it is ready", STATUS, |answer| is(answer, "Ready", "True"));
    conditions(run, &open);
    run.patch("pods/p/status", STRATEGIC, say("False")).why("that closes the gate").go();
    run.until("pods/p", "it is not ready", STATUS, |answer| is(answer, "Ready", "False"));
    run.delete("pods/p", json!({"gracePeriodSeconds": 0})).go();
}

fn fails(run: &mut Run<'_>) {
    let image = run.image();
    run.given("pods", pod("p", |_| {}, &[Behaviour::Fails.container("db", &image)]));
    let status = |answer: &Answer| answer.body["status"]["containerStatuses"][0].clone();
    const FAILED: &[&str] = &[
        "/status/phase",
        "/status/containerStatuses/0/ready",
        "/status/containerStatuses/0/lastState/terminated/exitCode",
        "/status/containerStatuses/0/lastState/terminated/reason",
    ];
    // Twice, as the first restart comes at once.
    let told = run.until("pods/p", "it waits to be started a third time", FAILED, |answer| {
        let status = status(answer);
        status["state"]["waiting"]["reason"] == "CrashLoopBackOff" && status["restartCount"].as_i64() >= Some(1)
    });
    conditions(run, &told);
    run.until("pods/p", "it was started again", &["/status/phase"], |answer| {
        status(answer)["restartCount"].as_i64() >= Some(2)
    });
    run.delete("pods/p", json!({"gracePeriodSeconds": 0})).go();
}

fn ends(run: &mut Run<'_>) {
    let image = run.image();
    for (name, policy, behaviour, phase) in [
        ("well", "Never", Behaviour::Ends, "Succeeded"),
        ("badly", "Never", Behaviour::Fails, "Failed"),
        ("enough", "OnFailure", Behaviour::Ends, "Succeeded"),
    ] {
        let never = |pod: &mut Value| pod["spec"]["restartPolicy"] = json!(policy);
        run.given("pods", pod(name, never, &[behaviour.container("db", &image)]));
        const ENDED: &[&str] = &[
            "/status/phase",
            "/status/containerStatuses/0/ready",
            "/status/containerStatuses/0/restartCount",
            "/status/containerStatuses/0/state/terminated/exitCode",
            "/status/containerStatuses/0/state/terminated/reason",
        ];
        let told =
            run.until(&format!("pods/{name}"), "it has ended", ENDED, |answer| answer.body["status"]["phase"] == phase);
        conditions(run, &told);
        run.delete(&format!("pods/{name}"), json!({})).go();
        run.get(&format!("pods/{name}")).go();
    }
}

fn prepares(run: &mut Run<'_>) {
    let image = run.image();
    let prepare = |second: Behaviour| {
        let init = json!([Behaviour::Ends.container("one", &image), second.container("two", &image)]);
        move |pod: &mut Value| pod["spec"]["initContainers"] = init
    };
    run.given("pods", pod("p", prepare(Behaviour::Ends), &[Behaviour::Serves.container("db", &image)]));
    const INIT: &[&str] = &[
        "/status/phase",
        "/status/initContainerStatuses/*/name",
        "/status/initContainerStatuses/*/ready",
        "/status/initContainerStatuses/*/started",
        "/status/containerStatuses/*/ready",
    ];
    run.until("pods/p", "it is ready", INIT, |answer| is(answer, "Ready", "True"));
    run.given("pods", pod("q", prepare(Behaviour::Serves), &[Behaviour::Serves.container("db", &image)]));
    let held = run.until("pods/q", "the second prepares", INIT, |answer| {
        answer.body["status"]["initContainerStatuses"][1]["state"]["running"].is_object()
    });
    conditions(run, &held);
    run.note("the main container waits", held["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].clone());
    run.delete("pods?gracePeriodSeconds=0", Value::Null).go();
}

/// When a container began or ended; second resolution.
fn moment(status: &Value, key: &str) -> String {
    status["state"]["terminated"][key].as_str().unwrap_or("never").to_owned()
}

fn sidecar(run: &mut Run<'_>) {
    let image = run.image();
    let mut side = Behaviour::Serves.container("side", &image);
    side["restartPolicy"] = json!("Always");
    let with = |pod: &mut Value| {
        pod["spec"]["initContainers"] = json!([side]);
        pod["metadata"]["finalizers"] = json!(["conformance.test/kept"]);
    };
    run.given("pods", pod("p", with, &[Behaviour::TakesItsTime.container("db", &image)]));
    const BOTH: &[&str] = &[
        "/status/phase",
        "/status/initContainerStatuses/*/ready",
        "/status/initContainerStatuses/*/started",
        "/status/containerStatuses/*/ready",
    ];
    run.until("pods/p", "it is ready", BOTH, |answer| is(answer, "Ready", "True"));
    run.delete("pods/p", json!({})).go();
    const CODES: &[&str] = &[
        "/status/phase",
        "/status/initContainerStatuses/0/state/terminated/exitCode",
        "/status/containerStatuses/0/state/terminated/exitCode",
    ];
    let over = run.until("pods/p", "both have ended", CODES, |answer| {
        let ended = |group: &str| answer.body["status"][group][0]["state"]["terminated"].is_object();
        ended("initContainerStatuses") && ended("containerStatuses") && grace_is_over(answer)
    });
    let (side, main) = (&over["status"]["initContainerStatuses"][0], &over["status"]["containerStatuses"][0]);
    run.note("the sidecar began no later", moment(side, "startedAt") <= moment(main, "startedAt"));
    run.note("the sidecar ended no earlier", moment(side, "finishedAt") >= moment(main, "finishedAt"));
    run.patch("pods/p", MERGE, json!({"metadata": {"finalizers": null}})).go();
    run.until_gone("pods/p");
}

fn goes(run: &mut Run<'_>) {
    let image = run.image();
    run.given("pods", pod("p", |_| {}, &[Behaviour::Serves.container("db", &image)]));
    run.until("pods/p", "it is ready", &[], |answer| is(answer, "Ready", "True"));
    run.delete("pods/p", json!({})).go();
    run.until_gone("pods/p");
}

fn deaf(run: &mut Run<'_>) {
    let image = run.image();
    let with = |pod: &mut Value| pod["metadata"]["finalizers"] = json!(["conformance.test/kept"]);
    run.given("pods", pod("p", with, &[Behaviour::Deaf.container("db", &image)]));
    run.until("pods/p", "it is ready", &[], |answer| is(answer, "Ready", "True"));
    run.delete("pods/p", json!({"gracePeriodSeconds": 2})).go();
    const KILLED: &[&str] = &[
        "/status/phase",
        "/status/containerStatuses/0/state/terminated/exitCode",
        "/status/containerStatuses/0/state/terminated/reason",
    ];
    run.until("pods/p", "it has ended", KILLED, |answer| {
        answer.body["status"]["containerStatuses"][0]["state"]["terminated"].is_object() && grace_is_over(answer)
    });
    run.patch("pods/p", MERGE, json!({"metadata": {"finalizers": null}})).go();
    run.until_gone("pods/p");
}

fn comes_back(run: &mut Run<'_>) {
    let image = run.image();
    let mut set = crate::shapes::set("s", 1);
    set["spec"]["template"]["spec"] = json!({
        "terminationGracePeriodSeconds": 20,
        "containers": [Behaviour::TakesItsTime.container("db", &image)],
    });
    run.given("statefulsets", set);
    let old =
        run.until("pods/s-0", "it is ready", &["/metadata/labels/statefulset.kubernetes.io~1pod-name"], |answer| {
            is(answer, "Ready", "True")
        });
    run.delete("pods/s-0", json!({})).go();
    let uid = old["metadata"]["uid"].clone();
    let later = run.until("pods/s-0", "another is ready", STATUS, move |answer| {
        answer.body["metadata"]["uid"] != uid && is(answer, "Ready", "True")
    });
    run.note("it has another address", later["status"]["podIP"] != old["status"]["podIP"]);
    run.note("it has the same claim", later["spec"]["volumes"][0] == old["spec"]["volumes"][0]);
    run.until("persistentvolumeclaims/data-s-0", "it is bound", &["/status/phase"], |answer| {
        answer.body["status"]["phase"] == "Bound"
    });
    run.until("statefulsets/s", "it counts it", &["/status/readyReplicas", "/status/availableReplicas"], |answer| {
        answer.body["status"]["readyReplicas"] == 1
    });
    run.delete("statefulsets/s", json!({})).go();
    run.until_names("pods", &[]);
}

fn unschedulable(run: &mut Run<'_>) {
    run.given("pods", crate::shapes::waiting_pod("p"));
    let told = run.until("pods/p", "the scheduler has looked", &["/status/phase", "/spec/nodeName"], |answer| {
        is(answer, "PodScheduled", "False")
    });
    run.note("why", told["status"]["conditions"][0]["reason"].clone());
    conditions(run, &told);
    run.delete("pods/p", json!({})).go();
}
