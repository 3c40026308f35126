//! Looks at every pilot's state endpoint, again and again.

use super::{StoryError, must, own_phase};
use crate::kubernetes::ModelApi;
use crate::sandbox::engine::{PodView, PodsReader, get};
use crate::sandbox::process::runs;
use agent::pilot::state::StateDocument;
use protocol::database::{DatabasePhase, RingStatus};
use protocol::epoch::Epoch;
use protocol::record::ClusterRecord;
use protocol::report::Brief;
use protocol::report::Role;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks, for each [`MESH`] pods: every document tells of all pilots, so the work grows with the square.
const EVERY: Duration = Duration::from_millis(250);
/// See [`EVERY`].
const MESH: usize = 6;

/// Everything seen at about one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The pods, in order.
    pub pods: Vec<PodView>,
    /// What their pilots say, by pod name; those that answered.
    pub states: BTreeMap<String, StateDocument>,
    /// The record, if there is one.
    pub record: Option<ClusterRecord>,
    /// The size the set is told.
    pub replicas: u32,
    /// The API serves.
    pub api: bool,
    /// The decisions heard last, oldest first.
    pub decisions: Vec<Brief>,
}

impl Snapshot {
    /// The pilot that coordinates by its own word, at the highest epoch.
    pub fn coordinator(&self) -> Option<(String, Epoch)> {
        self.states
            .iter()
            .filter_map(|(name, state)| match &state.me.role {
                Role::Coordinator { epoch, .. } => Some((name.clone(), *epoch)),
                Role::Follower => None,
            })
            .max_by_key(|(_, epoch)| *epoch)
    }

    /// The phase of a pod's database, by its own pilot.
    pub fn phase(&self, pod: &str) -> Option<DatabasePhase> {
        own_phase(self.states.get(pod)?)
    }

    /// The identity of a pod's database, by its own pilot.
    pub fn identity(&self, pod: &str) -> Option<String> {
        let state = self.states.get(pod)?;
        let me = state.members.iter().find(|m| m.name == state.me.name)?;
        me.database.as_ref()?.identity.as_ref().map(ToString::to_string)
    }

    /// The process of a pod's database.
    pub fn database_pid(&self, pod: &str) -> Option<u32> {
        let state = self.states.get(pod)?;
        let me = state.members.iter().find(|m| m.name == state.me.name)?;
        me.database.as_ref()?.pid
    }

    /// The processes of these pods' databases are the ones they were; a pilot that did not answer says nothing of it.
    ///
    /// # Errors
    /// When one is another process, or none.
    pub fn must_run(&self, pids: &BTreeMap<String, Option<u32>>, when: &str) -> Result<(), StoryError> {
        for (name, pid) in pids.iter().filter(|(name, _)| self.states.contains_key(*name)) {
            let now = self.database_pid(name);
            must(
                now == *pid,
                format!("the database of {name} was restarted {when}: process {pid:?} and then {now:?}"),
            )?;
        }
        Ok(())
    }

    /// The processes of all pods' databases, but that of one.
    pub fn pids_but(&self, pod: &str) -> BTreeMap<String, Option<u32>> {
        self.pods.iter().filter(|p| p.name != pod).map(|p| (p.name.clone(), self.database_pid(&p.name))).collect()
    }

    /// Whether any other member's ring shows this identity as leaving.
    pub fn peers_see_leaving(&self, leaver: &str, identity: &str) -> bool {
        self.states.iter().filter(|(name, _)| *name != leaver).any(|(_, state)| {
            let own = state.members.iter().find(|m| m.name == state.me.name);
            let ring = own.and_then(|m| m.report.as_ref()).and_then(|r| r.ring.as_ref());
            ring.into_iter()
                .flat_map(|ring| ring.iter())
                .any(|l| l.status == RingStatus::Leaving && l.identity.as_str() == identity)
        })
    }

    /// Exactly so many pods, each serving in a process that runs, each seen normal and up by every other, and no
    /// operation under way. (A pilot that stood still may tell of a process that has ended.)
    pub fn is_settled(&self, members: usize) -> bool {
        let Some(record) = &self.record else {
            return false;
        };
        if record.members.len() != members || record.intent.is_some() || self.pods.len() != members {
            return false;
        }
        self.pods.iter().all(|pod| {
            let Some(state) = self.states.get(&pod.name) else {
                return false;
            };
            let own = state.members.iter().find(|m| m.name == state.me.name);
            let ring = own.and_then(|m| m.report.as_ref()).and_then(|r| r.ring.as_ref());
            !pod.terminating
                && own_phase(state) == Some(DatabasePhase::Serving)
                && self.database_pid(&pod.name).is_some_and(runs)
                && ring.is_some_and(|ring| {
                    record.members.values().all(|member| {
                        ring.iter().any(|l| {
                            l.identity == member.identity && l.status == RingStatus::Normal && l.up == Some(true)
                        })
                    })
                })
        })
    }

    /// Ends of databases that nobody had asked for, over all pods.
    pub fn unintended_ends(&self) -> BTreeMap<String, u64> {
        self.states
            .iter()
            .filter_map(|(name, state)| {
                let me = state.members.iter().find(|m| m.name == state.me.name)?;
                Some((name.clone(), me.database.as_ref()?.unintended_ends))
            })
            .collect()
    }

    /// One line for a failed story.
    pub fn describe(&self) -> String {
        let pods: Vec<String> = self
            .pods
            .iter()
            .map(|p| {
                let phase = self.phase(&p.name).map_or("no answer".to_owned(), |p| format!("{p:?}"));
                format!("{}{}={phase}", p.name, if p.terminating { "(ending)" } else { "" })
            })
            .collect();
        let operation = self.record.as_ref().and_then(|r| r.intent.as_ref()).map(|i| i.operation.to_string());
        let last: Vec<&str> = self.decisions.iter().rev().take(4).map(|b| b.text.as_str()).collect();
        format!(
            "size {}, {}, coordinator {:?}, operation {operation:?}, decisions {last:?}",
            self.replicas,
            pods.join(" "),
            self.coordinator()
        )
    }
}

/// Watches until it is dropped.
pub struct Observer {
    seen: watch::Receiver<Snapshot>,
    task: tokio::task::JoinHandle<()>,
}

impl Observer {
    /// Begins to look.
    pub fn start(api: Arc<Mutex<ModelApi>>, _contacts: watch::Receiver<Vec<SocketAddr>>, pods: PodsReader) -> Self {
        let (to, seen) = watch::channel(Snapshot::default());
        let task = tokio::spawn(async move {
            let mut heard: BTreeMap<(Epoch, u64), Brief> = BTreeMap::new();
            loop {
                let pods = pods.read();
                let mut looks = tokio::task::JoinSet::new();
                for pod in &pods {
                    let (name, address) = (pod.name.clone(), pod.address);
                    looks.spawn(async move {
                        let text = get(address, "/state").await?;
                        serde_json::from_str::<StateDocument>(&text).ok().map(|state| (name, state))
                    });
                }
                let states: BTreeMap<String, StateDocument> = looks.join_all().await.into_iter().flatten().collect();
                for state in states.values() {
                    for report in state.members.iter().filter_map(|m| m.report.as_ref()) {
                        heard.extend(report.why.iter().map(|b| ((b.epoch, b.number), b.clone())));
                    }
                }
                while heard.len() > 500 {
                    heard.pop_first();
                }
                let (record, replicas, serving) = {
                    let api = api.lock().unwrap_or_else(PoisonError::into_inner);
                    read_objects(&api)
                };
                let pause = EVERY * u32::try_from(pods.len() / MESH).unwrap_or(0).max(1);
                let snapshot = Snapshot {
                    pods,
                    states,
                    record,
                    replicas,
                    api: serving,
                    decisions: heard.values().cloned().collect(),
                };
                if to.send(snapshot).is_err() {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
        });
        Self { seen, task }
    }

    /// What was seen last.
    pub fn now(&self) -> Snapshot {
        self.seen.borrow().clone()
    }

    /// Every new look.
    pub fn changes(&self) -> watch::Receiver<Snapshot> {
        self.seen.clone()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn read_objects(api: &ModelApi) -> (Option<ClusterRecord>, u32, bool) {
    use crate::sandbox::manifests::{NAMESPACE, SET};
    let record = api
        .kind("", "configmaps")
        .and_then(|kind| api.get(kind, NAMESPACE, &format!("{SET}-pilots")))
        .and_then(|o| serde_json::from_str(o["data"]["record"].as_str()?).ok());
    let replicas = api
        .kind("apps", "statefulsets")
        .and_then(|kind| api.get(kind, NAMESPACE, SET))
        .and_then(|o| o["spec"]["replicas"].as_u64())
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or(0);
    (record, replicas, !api.faults().outage())
}
