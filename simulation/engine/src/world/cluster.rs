//! The model Kubernetes as the world meets it: requests of pilots, its own controllers, and what a kubelet reads.

use super::clock::WALL;
use crate::kubernetes::{DeleteOptions, KindId, Method, ModelApi, ModelTime, Request, Response, controllers};
use agent::kubernetes::translate::{EPOCH, HttpCall};
use protocol::id::{PilotName, Uid};
use protocol::record::ClusterRecord;
use serde_json::{Value, json};
use std::sync::Arc;

/// The namespace of every run.
pub const NAMESPACE: &str = "default";
/// The StatefulSet of every run.
pub const SET: &str = "db";
/// The claim template that holds the data.
pub const TEMPLATE: &str = "data";

/// The pod of this ordinal.
pub(crate) fn pod_name(ordinal: u32) -> Option<PilotName> {
    PilotName::parse(&format!("{SET}-{ordinal}")).ok()
}

/// The version of the template whose image cannot be had.
pub const NO_IMAGE: u32 = 99;

fn image(version: u32) -> String {
    format!("model:{version}")
}

/// One pod as its kubelet sees it.
#[derive(Debug, Clone)]
pub struct PodSeen {
    /// Its name.
    pub name: PilotName,
    /// Its uid.
    pub uid: Uid,
    /// The claim it mounts.
    pub claim: Option<Uid>,
    /// It is bound to a node.
    pub bound: bool,
    /// Its image can be had.
    pub pulled: bool,
    /// It has been told to end, and may take so many milliseconds.
    pub ending: Option<u64>,
}

/// The Lease, as the oracle reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseSeen {
    /// Its uid.
    pub uid: String,
    /// Who holds it; empty for nobody.
    pub holder: String,
    /// Its stamp.
    pub epoch: u64,
}

/// A Kubernetes of one node per pod, more or less.
#[derive(Debug, Clone)]
pub struct Cluster {
    api: ModelApi,
    /// The record as it was read last, with the object that held it.
    read: Option<(Arc<Value>, Option<Arc<ClusterRecord>>)>,
}

fn time(now: u64) -> ModelTime {
    ModelTime(WALL + now)
}

impl Cluster {
    /// A cluster whose set is told to have so many pods, each with this grace.
    pub fn new(seed: u64, replicas: u32, grace: u64, budget: Option<u32>) -> Self {
        let mut cluster = Self { api: ModelApi::new(seed), read: None };
        for node in ["node-a", "node-b", "node-c"] {
            // Cannot fail: the names are valid and the store is empty.
            let _ready = controllers::register_node(&mut cluster.api, time(0), node, node);
        }
        cluster.make_set(0, replicas, grace);
        if let Some(most) = budget {
            cluster.make_budget(0, most);
        }
        cluster
    }

    /// A user lets so many pods be unavailable.
    pub fn make_budget(&mut self, now: u64, most: u32) {
        let budget = json!({
            "metadata": {"name": SET, "namespace": NAMESPACE},
            "spec": {"maxUnavailable": most, "selector": {"matchLabels": {"app": SET}}},
        });
        let _exists_already = self.api.create(time(now), "user", KindId::BUDGETS, budget);
    }

    /// A user changes the budget.
    pub fn change_budget(&mut self, now: u64, most: u32) {
        self.delete_budget(now);
        self.make_budget(now, most);
    }

    /// A user takes the budget away.
    pub fn delete_budget(&mut self, now: u64) {
        let _gone = self.api.delete(time(now), "user", KindId::BUDGETS, NAMESPACE, SET, &DeleteOptions::default());
    }

    /// Makes the set. Nothing happens where there is one.
    pub fn make_set(&mut self, now: u64, replicas: u32, grace: u64) {
        let set = json!({
            "metadata": {"name": SET, "namespace": NAMESPACE},
            "spec": {
                "serviceName": SET,
                "replicas": replicas,
                "podManagementPolicy": "Parallel",
                "updateStrategy": {"type": "OnDelete"},
                "selector": {"matchLabels": {"app": SET}},
                "template": {
                    "metadata": {"labels": {"app": SET}},
                    "spec": {
                        "terminationGracePeriodSeconds": grace,
                        "containers": [{"name": "database", "image": "model"}],
                    },
                },
                "volumeClaimTemplates": [{
                    "metadata": {"name": TEMPLATE},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
                }],
            },
        });
        let _exists_already = self.api.create(time(now), "user", KindId::STATEFUL_SETS, set);
    }

    /// Answers a request.
    pub fn handle(&mut self, now: u64, user: &str, call: &HttpCall) -> Response {
        let method = Method::parse(call.method).unwrap_or(Method::Get);
        let mut request = Request::new(user, method, &call.path);
        request.content_type = call.content_type.to_owned();
        request.agent = "pilot".to_owned();
        request.body = call.body.clone().unwrap_or(Value::Null);
        let response = self.api.handle(time(now), request);
        self.read_record();
        response
    }

    /// How often anything was written.
    pub fn revision(&self) -> u64 {
        self.api.store().revision()
    }

    /// Lets the controllers work until they have nothing left to do.
    pub fn reconcile(&mut self, now: u64) {
        for _ in 0..5 {
            if !controllers::reconcile_all(&mut self.api, time(now)) {
                break;
            }
        }
        self.api.audit_mut().clear();
        let revision = self.api.store().revision();
        self.api.compact(revision);
    }

    /// The pods of the set.
    pub fn pods(&self) -> Vec<PodSeen> {
        self.api
            .store()
            .list(KindId::PODS, Some(NAMESPACE))
            .filter_map(|pod| {
                let meta = &pod["metadata"];
                let name = PilotName::parse(meta["name"].as_str()?).ok()?;
                let grace = meta["deletionGracePeriodSeconds"].as_u64().unwrap_or(30);
                Some(PodSeen {
                    uid: Uid::new(meta["uid"].as_str()?),
                    claim: self.claim(&name),
                    bound: pod["spec"]["nodeName"].is_string(),
                    pulled: pod["spec"]["containers"][0]["image"] != image(NO_IMAGE),
                    ending: meta["deletionTimestamp"].is_string().then_some(grace * 1000),
                    name,
                })
            })
            .collect()
    }

    /// The uid of a pod's claim.
    pub fn claim(&self, pod: &PilotName) -> Option<Uid> {
        let claim = self.api.get(KindId::CLAIMS, NAMESPACE, &format!("{TEMPLATE}-{pod}"))?;
        claim["metadata"]["uid"].as_str().map(Uid::new)
    }

    /// The uids of all claims there are.
    pub fn claims(&self) -> Vec<String> {
        let claims = self.api.store().list(KindId::CLAIMS, Some(NAMESPACE));
        claims.filter_map(|c| c["metadata"]["uid"].as_str().map(str::to_owned)).collect()
    }

    /// The kubelet tells of a pod: whether its containers have run, and whether it is ready.
    pub fn set_status(&mut self, now: u64, name: &PilotName, uid: &Uid, running: bool, ready: bool) {
        let Some(pod) = self.object(KindId::PODS, name.as_str()).filter(|p| p["metadata"]["uid"] == uid.as_str())
        else {
            return;
        };
        let mut pod = Value::clone(&pod);
        pod["status"]["phase"] = json!(if running { "Running" } else { "Pending" });
        pod["status"]["conditions"] = json!([{"type": "Ready", "status": if ready { "True" } else { "False" }}]);
        let _changed_meanwhile = self.api.update_status(time(now), "kubelet", KindId::PODS, pod);
    }

    /// Whether no container of this pod has ever run.
    pub fn never_ran(&self, name: &str) -> bool {
        self.object(KindId::PODS, name).is_some_and(|pod| pod["status"]["phase"] != "Running")
    }

    /// The node controller tells of a pod whose node is not heard of.
    pub fn hold_unready(&mut self, now: u64, name: &PilotName, uid: &Uid) {
        let Some(pod) = self.object(KindId::PODS, name.as_str()).filter(|p| p["metadata"]["uid"] == uid.as_str())
        else {
            return;
        };
        let mut pod = Value::clone(&pod);
        pod["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}]);
        let _changed_meanwhile = self.api.update_status(time(now), "node-controller", KindId::PODS, pod);
    }

    /// The kubelet has ended everything in the pod: the object goes.
    pub fn finish_pod(&mut self, now: u64, name: &PilotName, uid: &Uid) {
        let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::of_uid(uid.as_str()) };
        let _gone = self.api.delete(time(now), "kubelet", KindId::PODS, NAMESPACE, name.as_str(), &options);
    }

    /// A user deletes a pod.
    pub fn delete_pod(&mut self, now: u64, name: &str) {
        let _gone = self.api.delete(time(now), "user", KindId::PODS, NAMESPACE, name, &DeleteOptions::default());
    }

    /// A user sets the size, as `kubectl scale` does.
    pub fn scale(&mut self, now: u64, replicas: u32) {
        let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{SET}/scale");
        let body = json!({"spec": {"replicas": replicas}});
        let request = Request::patch("user", &path, crate::kubernetes::PatchKind::Merge, body);
        self.api.handle(time(now), request);
    }

    /// A user changes the pod template.
    pub fn change_template(&mut self, now: u64, version: u32) {
        let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{SET}");
        let containers = json!([{"name": "database", "image": image(version)}]);
        let body = json!({"spec": {"template": {"spec": {"containers": containers}}}});
        let request = Request::patch("user", &path, crate::kubernetes::PatchKind::Merge, body);
        self.api.handle(time(now), request);
    }

    /// Whether the set's template names an image that cannot be had.
    pub fn has_no_image(&self) -> bool {
        let set = self.object(KindId::STATEFUL_SETS, SET);
        set.is_some_and(|set| set["spec"]["template"]["spec"]["containers"][0]["image"] == image(NO_IMAGE))
    }

    /// A pod that was made from another template than the set has now.
    pub fn outdated(&self) -> Option<PilotName> {
        let set = self.object(KindId::STATEFUL_SETS, SET)?;
        let wanted = set["status"]["updateRevision"].as_str()?;
        let outdated = |pod: &&Arc<Value>| pod["metadata"]["labels"]["controller-revision-hash"] != wanted;
        let pod = self.api.store().list(KindId::PODS, Some(NAMESPACE)).find(outdated)?;
        PilotName::parse(pod["metadata"]["name"].as_str()?).ok()
    }

    /// Somebody deletes the Lease.
    pub fn delete_lease(&mut self, now: u64) {
        let name = format!("{SET}-pilots");
        let _gone = self.api.delete(time(now), "user", KindId::LEASES, NAMESPACE, &name, &DeleteOptions::default());
    }

    /// Somebody empties the Lease: no holder, no annotations, no times.
    pub fn empty_lease(&mut self, now: u64) {
        if let Some(lease) = self.object(KindId::LEASES, &format!("{SET}-pilots")) {
            let mut lease = Value::clone(&lease);
            lease["spec"] = json!({});
            lease["metadata"]["annotations"] = json!({});
            let _changed_meanwhile = self.api.update(time(now), "user", KindId::LEASES, lease);
        }
    }

    /// A person annotates a claim.
    pub fn annotate_claim(&mut self, now: u64, claim: &str, key: &str, value: &str) {
        if let Some(object) = self.api.store().get(KindId::CLAIMS, NAMESPACE, claim) {
            let mut object = Value::clone(object);
            object["metadata"]["annotations"][key] = json!(value);
            let _changed_meanwhile = self.api.update(time(now), "user", KindId::CLAIMS, object);
        }
    }

    /// Somebody takes every annotation off the set, its pods and its claims.
    pub fn strip(&mut self, now: u64) {
        for kind in [KindId::STATEFUL_SETS, KindId::PODS, KindId::CLAIMS] {
            let objects: Vec<Arc<Value>> = self.api.store().list(kind, Some(NAMESPACE)).cloned().collect();
            for object in objects {
                let mut object = Value::clone(&object);
                object["metadata"]["annotations"] = json!({});
                let _changed_meanwhile = self.api.update(time(now), "user", kind, object);
            }
        }
    }

    /// A user deletes everything of the set, claims included.
    pub fn delete_all(&mut self, now: u64) {
        let options = DeleteOptions::default();
        let pilots = format!("{SET}-pilots");
        let _gone = self.api.delete(time(now), "user", KindId::STATEFUL_SETS, NAMESPACE, SET, &options);
        let _gone = self.api.delete(time(now), "user", KindId::LEASES, NAMESPACE, &pilots, &options);
        let _gone = self.api.delete(time(now), "user", KindId::CONFIG_MAPS, NAMESPACE, &pilots, &options);
        let claims: Vec<String> = self
            .api
            .store()
            .list(KindId::CLAIMS, Some(NAMESPACE))
            .filter_map(|c| c["metadata"]["name"].as_str().map(str::to_owned))
            .collect();
        for claim in claims {
            let _gone = self.api.delete(time(now), "user", KindId::CLAIMS, NAMESPACE, &claim, &options);
        }
    }

    /// The size the set is told to have; nothing where there is no set.
    pub fn replicas(&self) -> Option<u32> {
        let set = self.object(KindId::STATEFUL_SETS, SET)?;
        u32::try_from(set["spec"]["replicas"].as_u64().unwrap_or(1)).ok()
    }

    /// The record as it stands.
    pub fn record(&self) -> Option<Arc<ClusterRecord>> {
        let map = self.object(KindId::CONFIG_MAPS, &format!("{SET}-pilots"))?;
        match &self.read {
            Some((of, record)) if Arc::ptr_eq(of, &map) => record.clone(),
            Some(_) | None => record_in(&map),
        }
    }

    /// Many ask for the record, and few change it.
    fn read_record(&mut self) {
        let Some(map) = self.object(KindId::CONFIG_MAPS, &format!("{SET}-pilots")) else {
            self.read = None;
            return;
        };
        if !self.read.as_ref().is_some_and(|(of, _)| Arc::ptr_eq(of, &map)) {
            let record = record_in(&map);
            self.read = Some((map, record));
        }
    }

    /// The Lease as it stands.
    pub fn lease(&self) -> Option<LeaseSeen> {
        let lease = self.object(KindId::LEASES, &format!("{SET}-pilots"))?;
        Some(LeaseSeen {
            uid: lease["metadata"]["uid"].as_str()?.to_owned(),
            holder: lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned(),
            epoch: stamp(&lease),
        })
    }

    /// The uid and stamp of the object that a request is about.
    pub fn target(&self, path: &str) -> Option<(String, u64)> {
        let name = path.trim_end_matches("/scale").trim_end_matches("/eviction").rsplit('/').next()?;
        let kind = [
            ("/statefulsets/", KindId::STATEFUL_SETS),
            ("/configmaps/", KindId::CONFIG_MAPS),
            ("/persistentvolumeclaims/", KindId::CLAIMS),
            ("/leases/", KindId::LEASES),
            ("/pods/", KindId::PODS),
        ]
        .into_iter()
        .find(|(part, _)| path.contains(part))?
        .1;
        let object = self.object(kind, name)?;
        Some((object["metadata"]["uid"].as_str()?.to_owned(), stamp(&object)))
    }

    fn object(&self, kind: KindId, name: &str) -> Option<Arc<Value>> {
        self.api.get(kind, NAMESPACE, name).cloned()
    }
}

fn record_in(map: &Value) -> Option<Arc<ClusterRecord>> {
    serde_json::from_str(map["data"]["record"].as_str()?).ok().map(Arc::new)
}

fn stamp(object: &Value) -> u64 {
    object["metadata"]["annotations"][EPOCH].as_str().and_then(|s| s.parse().ok()).unwrap_or(0)
}
