//! Looks at the cluster again and again: its objects, and what every pilot says.

use crate::cluster::Cluster;
use agent::pilot::state::StateDocument;
use serde_json::Value;
use simulation::sandbox::engine::PodView;
use simulation::story::observer::Snapshot;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);

/// The set of the manifest.
pub(crate) const SET: &str = "cassandra";

/// All that was seen at about one moment.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// Pods, record, and every pilot's word, as stories in the sandbox see them.
    pub(crate) mesh: Snapshot,
    /// The pods as objects, by name.
    pub(crate) pods: BTreeMap<String, Value>,
}

/// What Kubernetes tells of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    /// The runtime's name for it, without the runtime's own.
    pub(crate) id: String,
    /// How often it was started again.
    pub(crate) restarts: u64,
}

impl Seen {
    /// A container of a pod.
    pub(crate) fn container(&self, pod: &str, name: &str) -> Option<Container> {
        let status = &self.pods.get(pod)?["status"];
        ["containerStatuses", "initContainerStatuses"]
            .into_iter()
            .flat_map(|kind| status[kind].as_array().into_iter().flatten())
            .find(|c| c["name"] == name)
            .and_then(|c| {
                let id = c["containerID"].as_str()?;
                Some(Container {
                    id: id.split_once("://").map_or(id, |(_, id)| id).to_owned(),
                    restarts: c["restartCount"].as_u64()?,
                })
            })
    }

    /// The database's container of every pod.
    pub(crate) fn databases(&self) -> BTreeMap<String, Option<Container>> {
        self.pods.keys().map(|pod| (pod.clone(), self.container(pod, "database"))).collect()
    }

    /// Where clients reach the members.
    fn contacts(&self) -> Vec<SocketAddr> {
        self.mesh.pods.iter().map(|p| SocketAddr::new(p.address, 9042)).collect()
    }
}

/// Watches until it is dropped.
pub(crate) struct Watcher {
    seen: watch::Receiver<Seen>,
    contacts: watch::Receiver<Vec<SocketAddr>>,
    task: tokio::task::JoinHandle<()>,
}

impl Watcher {
    /// Begins to look.
    pub(crate) fn start(cluster: Arc<Cluster>) -> Self {
        let (to, seen) = watch::channel(Seen::default());
        let (at, contacts) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            loop {
                let seen = look(&cluster).await;
                let known = seen.contacts();
                at.send_if_modified(|old| {
                    let changed = *old != known;
                    old.clone_from(&known);
                    changed
                });
                if to.send(seen).is_err() {
                    return;
                }
                tokio::time::sleep(EVERY).await;
            }
        });
        Self { seen, contacts, task }
    }

    /// What was seen last.
    pub(crate) fn now(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Where clients reach the members, as it changes.
    pub(crate) fn contacts(&self) -> watch::Receiver<Vec<SocketAddr>> {
        self.contacts.clone()
    }

    /// Waits until a look satisfies this; else says what was seen last.
    pub(crate) async fn until(
        &self,
        what: &str,
        within: Duration,
        mut holds: impl FnMut(&Seen) -> bool,
    ) -> Result<Seen, String> {
        let begun = Instant::now();
        let mut looks = self.seen.clone();
        loop {
            let now = looks.borrow_and_update().clone();
            if holds(&now) {
                return Ok(now);
            }
            let left = within.saturating_sub(begun.elapsed());
            if left.is_zero() || tokio::time::timeout(left, looks.changed()).await.is_err() {
                let seen = now.mesh.describe();
                return Err(format!("waited {:.0} s for {what}; last seen: {seen}", begun.elapsed().as_secs_f64()));
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look(cluster: &Arc<Cluster>) -> Seen {
    let ns = &cluster.namespace;
    let list = cluster.get(&format!("/api/v1/namespaces/{ns}/pods?labelSelector=app.kubernetes.io/name={SET}")).await;
    let record = cluster.get(&format!("/api/v1/namespaces/{ns}/configmaps/{SET}-pilots")).await;
    let set = cluster.get(&format!("/apis/apps/v1/namespaces/{ns}/statefulsets/{SET}")).await;
    let api = list.is_some();
    let pods: BTreeMap<String, Value> = list
        .and_then(|mut list| list["items"].as_array_mut().map(std::mem::take))
        .unwrap_or_default()
        .into_iter()
        .filter_map(|pod| Some((pod["metadata"]["name"].as_str()?.to_owned(), pod)))
        .collect();
    let mut looks = tokio::task::JoinSet::new();
    for pod in pods.keys() {
        let (cluster, pod) = (Arc::clone(cluster), pod.clone());
        looks.spawn(async move {
            let text = cluster.pilot(&pod, "/state").await?;
            serde_json::from_str::<StateDocument>(&text).ok().map(|state| (pod, state))
        });
    }
    let states = looks.join_all().await.into_iter().flatten().collect();
    let views = pods.iter().filter_map(|(name, pod)| {
        Some(PodView {
            name: name.clone(),
            uid: pod["metadata"]["uid"].as_str()?.to_owned(),
            address: pod["status"]["podIP"].as_str()?.parse().ok()?,
            processes: BTreeMap::new(),
            terminating: pod["metadata"]["deletionTimestamp"].is_string(),
        })
    });
    let mesh = Snapshot {
        pods: views.collect(),
        states,
        record: record.and_then(|o| serde_json::from_str(o["data"]["record"].as_str()?).ok()),
        replicas: set.and_then(|o| u32::try_from(o["spec"]["replicas"].as_u64()?).ok()).unwrap_or(0),
        api,
        decisions: Vec::new(),
    };
    Seen { mesh, pods }
}
