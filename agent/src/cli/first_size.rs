//! `pilot first-size`: gives a set that was made without a size its first one. The rule is
//! [`bootstrap::first_size`]; here it is only carried out.

use super::{Done, say};
use crate::runtime::api;
use bootstrap::first_size::{FIRST_SIZE, FirstSize, RecordSeen, SetSeen, first_size};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// Others write on a set that was just made, its controller first: so often it is read anew.
const TRIES: u32 = 20;
/// Before it is read anew.
const PAUSE: Duration = Duration::from_millis(250);

/// `pilot first-size`.
#[derive(Debug, Args)]
pub struct FirstSizeArgs {
    /// The StatefulSet.
    pub set: String,
    /// How many members a cluster gets that was not here before.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub members: u32,
    /// Its namespace.
    #[arg(short, long, env = "POD_NAMESPACE", value_name = "NAME")]
    pub namespace: String,
    /// How to reach the Kubernetes API from outside of a pod.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

pub(super) async fn run(args: FirstSizeArgs) -> Done {
    let client = api::client(args.kubeconfig.as_deref()).await.map_err(|error| error.to_string())?;
    say(&format!("{}\n", give(&client, &args.namespace, &args.set, args.members).await?))
}

/// Gives the first size where none was given yet, and tells what was done.
///
/// # Errors
/// When the set is not there, the API refuses, or others write on the set all the time.
pub async fn give(client: &kube::Client, namespace: &str, set: &str, members: u32) -> Result<String, String> {
    let path = format!("/apis/apps/v1/namespaces/{namespace}/statefulsets/{set}");
    let record = format!("/api/v1/namespaces/{namespace}/configmaps/{}", bootstrap::names::record(set));
    for _ in 0..TRIES {
        let found = read(client, &path).await?;
        let found = found.ok_or_else(|| {
            format!("there is no StatefulSet {set} in namespace {namespace}: it must be made before it gets a size")
        })?;
        let record = read(client, &record).await?.as_ref().map(record_seen).transpose()?;
        let seen = set_seen(&found)?;
        let (size, why) = match first_size(&seen, record.as_ref(), members) {
            FirstSize::Given(size) => {
                return Ok(format!("{set} was given its first size before, {size}: nothing is changed"));
            }
            FirstSize::Give(size, why) => (size, why),
        };
        // Size and mark in one write, and only on what was read.
        let patch = json!({
            "metadata": {
                "uid": found["metadata"]["uid"],
                "resourceVersion": found["metadata"]["resourceVersion"],
                "annotations": { FIRST_SIZE: size.to_string() },
            },
            "spec": { "replicas": size },
        });
        if write(client, &path, &patch).await? {
            return Ok(format!("{set} has its first size, {} -> {size}: {why}", seen.replicas));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(format!("{set} was changed by others {TRIES} times while its size was to be given: try again"))
}

/// An object; nothing where there is none.
async fn read(client: &kube::Client, path: &str) -> Result<Option<Value>, String> {
    let request = http::Request::get(path).body(Vec::new()).map_err(|error| format!("GET {path}: {error}"))?;
    match client.request::<Value>(request).await {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(format!("GET {path}: {error}")),
    }
}

/// Whether the object was still as it had been read.
async fn write(client: &kube::Client, path: &str, patch: &Value) -> Result<bool, String> {
    let request = http::Request::patch(format!("{path}?fieldManager=pilotmesh.io/first-size"))
        .header("content-type", "application/merge-patch+json")
        .body(patch.to_string().into_bytes())
        .map_err(|error| format!("PATCH {path}: {error}"))?;
    match client.request::<Value>(request).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(format!("PATCH {path}: {error}")),
    }
}

fn text(object: &Value, pointer: &str) -> Result<String, String> {
    let found = object.pointer(pointer).and_then(Value::as_str);
    found.map(ToOwned::to_owned).ok_or_else(|| format!("an object of the Kubernetes API has no {pointer}"))
}

fn set_seen(object: &Value) -> Result<SetSeen, String> {
    let count = |pointer: &str| object.pointer(pointer).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    Ok(SetSeen {
        replicas: count("/spec/replicas").ok_or("the StatefulSet has no spec.replicas")?,
        start: count("/spec/ordinals/start").unwrap_or(0),
        made: text(object, "/metadata/creationTimestamp")?,
        marked: object["metadata"]["annotations"][FIRST_SIZE].as_str().map(ToOwned::to_owned),
    })
}

fn record_seen(object: &Value) -> Result<RecordSeen, String> {
    let record = serde_json::from_str(&text(object, "/data/record")?);
    Ok(RecordSeen {
        made: text(object, "/metadata/creationTimestamp")?,
        record: record.map_err(|error| format!("the record cannot be read: {error}"))?,
    })
}
