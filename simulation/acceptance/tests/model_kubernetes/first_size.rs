//! `pilot first-size` against the API: a set that was made without a size.

use crate::served::{client, served};
use crate::support::stateful_set;
use agent::cli::first_size::give;
use serde_json::{Value, json};

const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";

async fn post(client: &kube::Client, path: &str, object: &Value) {
    let request = http::Request::post(path).header("content-type", "application/json");
    client.request::<Value>(request.body(object.to_string().into_bytes()).expect("a request")).await.expect("made");
}

async fn set(client: &kube::Client) -> Value {
    let request = http::Request::get(format!("{SETS}/s")).body(Vec::new()).expect("a request");
    client.request(request).await.expect("the set")
}

#[tokio::test]
async fn a_set_made_without_a_size_gets_its_first_one_once() {
    let server = served().await;
    let client = client(&server, "user").await;
    let said = give(&client, "default", "s", 3).await.expect_err("there is none");
    assert!(said.contains("there is no StatefulSet s in namespace default"), "{said}");

    let made = stateful_set("s", 1, |set| {
        set["spec"].as_object_mut().expect("a mapping").remove("replicas");
    });
    post(&client, SETS, &made).await;
    assert_eq!(set(&client).await["spec"]["replicas"], 1, "as Kubernetes makes it");
    let said = give(&client, "default", "s", 3).await.expect("given");
    assert!(said.contains("1 -> 3"), "{said}");
    let now = set(&client).await;
    assert_eq!(now["spec"]["replicas"], 3);
    assert_eq!(now["metadata"]["annotations"]["pilotmesh.io/first-size"], "3");

    // Scaled by a person; run again it leaves that alone.
    let scale = json!({"spec": {"replicas": 5}}).to_string().into_bytes();
    let request = http::Request::patch(format!("{SETS}/s")).header("content-type", "application/merge-patch+json");
    client.request::<Value>(request.body(scale).expect("a request")).await.expect("scaled");
    let said = give(&client, "default", "s", 3).await.expect("nothing to do");
    assert!(said.contains("nothing is changed"), "{said}");
    assert_eq!(set(&client).await["spec"]["replicas"], 5);
}
