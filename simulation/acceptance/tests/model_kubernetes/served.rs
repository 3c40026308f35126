//! The model over HTTP: the real client library, and what goes wrong on the way.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use simulation::kubernetes::server::{ServerHandle, real_now, serve};
use simulation::kubernetes::{Matcher, Method, ModelApi, Request, controllers};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::{LEASES, stateful_set};

pub(crate) async fn served() -> ServerHandle {
    let mut api = ModelApi::new(1);
    controllers::register_node(&mut api, real_now(), "sandbox", "a").expect("a node");
    serve(Arc::new(Mutex::new(api)), "127.0.0.1:0".parse().expect("an address")).await.expect("a server")
}

pub(crate) async fn client(server: &ServerHandle, user: &str) -> kube::Client {
    let file: Kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig_for(user)).expect("a kubeconfig");
    let mut config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.expect("a config");
    config.default_retry = false;
    kube::Client::try_from(config).expect("a client")
}

fn code(error: kube::Error) -> u16 {
    let kube::Error::Api(status) = error else { panic!("not an answer of the API: {error}") };
    status.code
}

fn settle(server: &ServerHandle) {
    while controllers::reconcile_all(&mut server.api(), real_now()) {}
}

#[tokio::test]
async fn the_real_client_meets_the_preconditions_it_knows() {
    let server = served().await;
    let client = client(&server, "pilot-0").await;
    let leases: Api<Lease> = Api::default_namespaced(client.clone());
    let lease: Lease =
        serde_json::from_value(json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}})).expect("a lease");
    let old = leases.create(&PostParams::default(), &lease).await.expect("created");
    assert_eq!(code(leases.create(&PostParams::default(), &lease).await.expect_err("exists")), 409);
    let mut renewed = old.clone();
    renewed.spec.as_mut().expect("a spec").holder_identity = Some("b".to_owned());
    leases.replace("l", &PostParams::default(), &renewed).await.expect("renewed");
    assert_eq!(code(leases.replace("l", &PostParams::default(), &renewed).await.expect_err("stale")), 409);
    let wrong =
        DeleteParams::default().preconditions(Preconditions { uid: Some("other".to_owned()), resource_version: None });
    assert_eq!(code(leases.delete("l", &wrong).await.expect_err("another")), 409);
    assert_eq!(leases.get("l").await.expect("there").spec.expect("a spec").holder_identity.as_deref(), Some("b"));
    let version = client.apiserver_version().await.expect("a version");
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "33"));
    let total = server.api().counters().total("pilot-0");
    assert_eq!(total, 7, "every request of the user is counted");
    let audited = server.api().audit().of_user("pilot-0").map(|entry| (entry.method, entry.status)).collect::<Vec<_>>();
    assert_eq!(
        audited,
        [(Method::Post, 201), (Method::Post, 409), (Method::Put, 200), (Method::Put, 409), (Method::Delete, 409)]
    );
}

#[tokio::test]
async fn the_real_client_scales_applies_and_lists() {
    let server = served().await;
    let client = client(&server, "ann").await;
    let sets: Api<StatefulSet> = Api::default_namespaced(client.clone());
    let set: StatefulSet = serde_json::from_value(stateful_set("s", 2, |_| {})).expect("a set");
    sets.create(&PostParams::default(), &set).await.expect("created");
    settle(&server);
    let mut scale = sets.get_scale("s").await.expect("a scale");
    scale.spec.as_mut().expect("a spec").replicas = Some(3);
    sets.replace_scale("s", &PostParams::default(), &scale).await.expect("scaled");
    assert_eq!(code(sets.replace_scale("s", &PostParams::default(), &scale).await.expect_err("stale")), 409);
    settle(&server);
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let names: Vec<String> = pods
        .list(&ListParams::default().labels("app=s"))
        .await
        .expect("a list")
        .items
        .into_iter()
        .filter_map(|pod| pod.metadata.name)
        .collect();
    assert_eq!(names, ["s-0", "s-1", "s-2"]);
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let declared =
        |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": value}});
    maps.patch("m", &PatchParams::apply("helm"), &Patch::Apply(declared("1"))).await.expect("applied");
    let conflict =
        maps.patch("m", &PatchParams::apply("pilot"), &Patch::Apply(declared("2"))).await.expect_err("owned");
    assert!(conflict.to_string().contains("conflict with \"helm\""), "{conflict}");
    let forced =
        maps.patch("m", &PatchParams::apply("pilot").force(), &Patch::Apply(declared("2"))).await.expect("forced");
    assert_eq!(forced.data.expect("data")["k"], "2");
    let evicted = pods.evict("s-2", &Default::default()).await.expect("no budget stands in the way");
    assert!(evicted.is_success());
}

/// Reads a watch line by line, without a client library in between.
struct Watch {
    reader: BufReader<TcpStream>,
}

impl Watch {
    async fn open(server: &ServerHandle, user: &str, path: &str) -> Self {
        let mut socket = TcpStream::connect(server.address).await.expect("connected");
        let (_, token) = server.credentials_for(user);
        let head = format!("GET {path} HTTP/1.1\r\nHost: model\r\nAuthorization: Bearer {token}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.expect("sent");
        let mut reader = BufReader::new(socket);
        let mut line = String::new();
        // The head is there when the watch is established; only then may a test change anything.
        while line != "\r\n" {
            line.clear();
            assert!(reader.read_line(&mut line).await.expect("a head") > 0);
        }
        Self { reader }
    }

    /// The next event, or `None` at the end of the stream.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).await.unwrap_or(0) == 0 || line == "0\r\n" {
                return None;
            }
            if line.starts_with('{') {
                return Some(serde_json::from_str(&line).expect("an event"));
            }
        }
    }
}

#[tokio::test]
async fn a_watch_streams_changes_as_they_happen_and_ends_at_its_timeout() {
    let server = served().await;
    let mut watch =
        Watch::open(&server, "ann", &format!("{LEASES}?watch=true&resourceVersion=0&timeoutSeconds=1")).await;
    for holder in ["a", "b"] {
        let body = json!({"metadata": {"name": holder}, "spec": {"holderIdentity": holder}});
        let answer = server.api().handle(real_now(), Request::post("x", LEASES, body));
        assert_eq!(answer.status, 201);
        let event = watch.next().await.expect("an event");
        assert_eq!(
            (event["type"].clone(), event["object"]["metadata"]["name"].clone()),
            (json!("ADDED"), json!(holder))
        );
    }
    assert_eq!(watch.next().await, None, "the server ends it");
}

#[tokio::test]
async fn a_stopped_server_refuses_and_breaks_off_watches_and_keeps_its_objects() {
    let server = served().await;
    let client = client(&server, "ann").await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "m"}})).expect("a map");
    let made = maps.create(&PostParams::default(), &map).await.expect("created");
    let mut watch = Watch::open(&server, "ann", &format!("{LEASES}?watch=true")).await;
    server.stop().await;
    assert_eq!(watch.next().await, None);
    assert!(matches!(maps.get("m").await, Err(error) if !matches!(error, kube::Error::Api(_))));
    assert!(TcpStream::connect(server.address).await.is_err(), "the port is closed");
    server.start().await.expect("back on the same port");
    assert_eq!(maps.get("m").await.expect("kept").metadata.uid, made.metadata.uid);
}

#[tokio::test]
async fn a_held_request_is_executed_on_release_even_when_its_client_is_gone() {
    let server = served().await;
    let client = client(&server, "old").await;
    let leases: Api<Lease> = Api::default_namespaced(client);
    let lease: Lease =
        serde_json::from_value(json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "old"}})).expect("a lease");
    let mut read = leases.create(&PostParams::default(), &lease).await.expect("created");
    let hold = server.hold(Matcher::new("old", Method::Put, "/leases/l"));
    read.spec.as_mut().expect("a spec").renew_time = None;
    read.spec.as_mut().expect("a spec").lease_duration_seconds = Some(9);
    {
        let defaults = PostParams::default();
        let write = leases.replace("l", &defaults, &read);
        let gave_up = tokio::time::timeout(Duration::from_millis(300), write).await;
        assert!(gave_up.is_err(), "no answer while it is held");
    }
    hold.caught().await;
    let stamped = server.api().handle(
        real_now(),
        Request::patch(
            "new",
            &format!("{LEASES}/l"),
            simulation::kubernetes::PatchKind::Merge,
            json!({"metadata": {"annotations": {"pilotmesh.io/epoch": "2"}}}),
        ),
    );
    assert_eq!(stamped.status, 200);
    hold.release();
    let refused = async {
        loop {
            let last = server.api().audit().of_user("old").last().map(|entry| (entry.method, entry.status));
            if last == Some((Method::Put, 409)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), refused).await.expect("the late write met the newer stamp");
}

#[tokio::test]
async fn a_user_cut_off_hears_nothing_while_others_are_served() {
    let server = served().await;
    let (cut, other) = (client(&server, "cut").await, client(&server, "other").await);
    let mut watch = Watch::open(&server, "cut", &format!("{LEASES}?watch=true&resourceVersion=0")).await;
    server.cut("cut");
    let silent = tokio::time::timeout(Duration::from_millis(200), cut.apiserver_version()).await;
    assert!(silent.is_err());
    other.apiserver_version().await.expect("served");
    let body = json!({"metadata": {"name": "l"}, "spec": {}});
    server.api().handle(real_now(), Request::post("other", LEASES, body));
    assert!(tokio::time::timeout(Duration::from_millis(200), watch.next()).await.is_err());
    server.heal("cut");
    let event = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("told at last");
    assert_eq!(event.expect("an event")["object"]["metadata"]["name"], "l");
}

#[tokio::test]
async fn a_wrong_token_is_401_and_only_loopback_is_served() {
    let server = served().await;
    let mut socket = TcpStream::connect(server.address).await.expect("connected");
    socket.write_all(b"GET /api HTTP/1.1\r\nHost: m\r\nAuthorization: Bearer nonsense\r\n\r\n").await.expect("sent");
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).await.expect("an answer");
    assert!(line.starts_with("HTTP/1.1 401"), "{line}");
    let api = Arc::new(Mutex::new(ModelApi::new(1)));
    assert!(serve(api, "0.0.0.0:0".parse().expect("an address")).await.is_err());
}
