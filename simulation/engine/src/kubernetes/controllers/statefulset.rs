//! The StatefulSet controller: names, order, claims, revisions.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::api::{DeleteOptions, ModelApi};
use super::super::json::{at, condition, is_terminating, list, name, namespace, number, set, text, uid};
use super::super::resource::KindId;
use super::super::selector::Selector;
use super::super::time::ModelTime;

const USER: &str = "system:serviceaccount:kube-system:statefulset-controller";
const REVISION_LABEL: &str = "controller-revision-hash";

/// Returns whether some pod is ready that time alone will make available.
pub(super) fn reconcile(api: &mut ModelApi, now: ModelTime) -> bool {
    let mut waits = false;
    let sets: Vec<Arc<Value>> = api.store().list(KindId::STATEFUL_SETS, None).cloned().collect();
    for set in sets {
        // A set that is going leaves its pods to the garbage collector.
        if !is_terminating(&set) {
            waits |= number(&set, &["spec", "minReadySeconds"]).is_some_and(|seconds| seconds > 0)
                && number(&set, &["status", "availableReplicas"]) < number(&set, &["status", "readyReplicas"]);
            SetPass::new(api, now, set).run();
        }
    }
    waits
}

/// One pass over one set.
struct SetPass<'a> {
    api: &'a mut ModelApi,
    now: ModelTime,
    set: Arc<Value>,
    update: Revision,
    current: Revision,
    collisions: i64,
    counts: Counts,
}

/// A template under the name pods carry.
#[derive(Clone)]
struct Revision {
    name: String,
    template: Value,
}

#[derive(Default)]
struct Counts {
    replicas: i64,
    ready: i64,
    available: i64,
    current: i64,
    updated: i64,
}

/// A place in the set: its ordinal and the pod that holds it, if any.
type Place = (i64, Option<Arc<Value>>);

impl<'a> SetPass<'a> {
    fn new(api: &'a mut ModelApi, now: ModelTime, set: Arc<Value>) -> Self {
        let update = Revision::of(&set);
        Self { api, now, current: update.clone(), update, collisions: 0, counts: Counts::default(), set }
    }

    fn run(mut self) {
        self.adopt_revisions();
        self.record_revisions();
        self.claim_pods();
        let pods = self.own_pods();
        let start = number(&self.set, &["spec", "ordinals", "start"]).unwrap_or(0);
        let end = start + number(&self.set, &["spec", "replicas"]).unwrap_or(1);
        for pod in pods.values() {
            self.count(pod);
        }
        let places: Vec<Place> = (start..end).map(|ordinal| (ordinal, pods.get(&ordinal).cloned())).collect();
        let condemned: Vec<(i64, Arc<Value>)> =
            pods.into_iter().rev().filter(|(ordinal, _)| !(start..end).contains(ordinal)).collect();
        self.keep_claim_owners(&places, &condemned);
        if self.fill(&places) && self.shrink(&places, &condemned) {
            self.roll(&places);
        }
        self.write_status();
    }

    fn is_parallel(&self) -> bool {
        text(&self.set, &["spec", "podManagementPolicy"]) == "Parallel"
    }

    /// Ready for as long as the set asks.
    fn is_available(&self, pod: &Value) -> bool {
        let seconds = number(&self.set, &["spec", "minReadySeconds"]).unwrap_or(0);
        let Some(wanted) = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0) else {
            return is_ready(pod);
        };
        let since = list(pod, &["status", "conditions"])
            .iter()
            .find(|condition| text(condition, &["type"]) == "Ready")
            .and_then(|condition| ModelTime::parse(text(condition, &["lastTransitionTime"])));
        is_ready(pod) && since.is_some_and(|since| self.now.since(since).as_secs() >= wanted)
    }

    fn selects(&self, object: &Value) -> bool {
        Selector::from_label_selector(&self.set["spec"]["selector"]).matches(object)
    }

    /// Adopts pods of its names and labels that are nobody's, and lets go of its own whose labels are no longer its.
    fn claim_pods(&mut self) {
        let owner = uid(&self.set).to_owned();
        let prefix = format!("{}-", name(&self.set));
        let pods: Vec<Arc<Value>> = self.api.store().list(KindId::PODS, Some(namespace(&self.set))).cloned().collect();
        for pod in pods.iter().filter(|pod| !is_terminating(pod)) {
            let is_named = name(pod).strip_prefix(&prefix).is_some_and(|rest| rest.parse::<i64>().is_ok());
            if is_controlled_by(pod, &owner) {
                if !self.selects(pod) {
                    self.write_owners(KindId::PODS, pod, |own| text(own, &["uid"]) != owner, None);
                }
            } else if is_named && !is_controlled(pod) && self.selects(pod) {
                self.adopt(KindId::PODS, pod);
            }
        }
    }

    /// Adopts what a set of its name left of revisions.
    fn adopt_revisions(&mut self) {
        let left: Vec<Arc<Value>> = self
            .api
            .store()
            .list(KindId::REVISIONS, Some(namespace(&self.set)))
            .filter(|revision| !is_controlled(revision) && !is_terminating(revision) && self.selects(revision))
            .cloned()
            .collect();
        for revision in &left {
            self.adopt(KindId::REVISIONS, revision);
        }
    }

    fn adopt(&mut self, kind: KindId, object: &Arc<Value>) {
        let owner = owner_of(&self.set, "apps/v1", "StatefulSet", true);
        self.write_owners(kind, object, |_| true, Some(owner));
    }

    fn write_owners(&mut self, kind: KindId, object: &Value, keep: impl Fn(&Value) -> bool, new: Option<Value>) {
        let mut owners: Vec<Value> =
            list(object, &["metadata", "ownerReferences"]).iter().filter(|own| keep(own)).cloned().collect();
        owners.extend(new);
        let mut changed = object.clone();
        set_owners(&mut changed, owners);
        // Conditional on what was read; a lost race is met again in a later pass.
        let _lost_race = self.api.update(self.now, USER, kind, changed);
    }

    /// The pods this set controls, by ordinal.
    fn own_pods(&self) -> BTreeMap<i64, Arc<Value>> {
        let prefix = format!("{}-", name(&self.set));
        self.api
            .store()
            .list(KindId::PODS, Some(namespace(&self.set)))
            .filter(|pod| is_controlled_by(pod, uid(&self.set)))
            .filter_map(|pod| {
                let ordinal: i64 = name(pod).strip_prefix(&prefix)?.parse().ok()?;
                Some((ordinal, Arc::clone(pod)))
            })
            .collect()
    }

    /// Creates what is missing and removes what ended. False where an ordered set has to wait.
    fn fill(&mut self, places: &[Place]) -> bool {
        let start = places.first().map_or(0, |(ordinal, _)| *ordinal);
        for (ordinal, pod) in places {
            match pod {
                None => {
                    if !self.create_pod(*ordinal, start) || !self.is_parallel() {
                        return false;
                    }
                }
                Some(pod) if matches!(text(pod, &["status", "phase"]), "Failed" | "Succeeded") => {
                    // Its successor takes the name when the object is gone, never before.
                    self.delete_pod(pod);
                    if !self.is_parallel() {
                        return false;
                    }
                }
                Some(pod) => {
                    self.create_claims(*ordinal);
                    if !self.is_parallel() && (is_terminating(pod) || !self.is_available(pod)) {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Deletes pods beyond the size, highest ordinal first. False where it has to wait.
    fn shrink(&mut self, places: &[Place], condemned: &[(i64, Arc<Value>)]) -> bool {
        let sound = |pod: &Value| self.is_available(pod) && !is_terminating(pod);
        let first_unsound = places
            .iter()
            .filter_map(|(ordinal, pod)| Some((*ordinal, pod.as_ref()?)))
            .chain(condemned.iter().rev().map(|(ordinal, pod)| (*ordinal, pod)))
            .find(|(_, pod)| !sound(pod))
            .map(|(ordinal, _)| ordinal);
        for (ordinal, pod) in condemned {
            if is_terminating(pod) {
                if self.is_parallel() {
                    continue;
                }
                return false;
            }
            if !self.is_parallel() && !self.is_available(pod) && first_unsound != Some(*ordinal) {
                return false;
            }
            self.delete_pod(pod);
            if !self.is_parallel() {
                return false;
            }
        }
        true
    }

    /// Deletes one outdated pod, from the highest ordinal down to the partition.
    fn roll(&mut self, places: &[Place]) {
        if text(&self.set, &["spec", "updateStrategy", "type"]) != "RollingUpdate" {
            return;
        }
        let start = places.first().map_or(0, |(ordinal, _)| *ordinal);
        let partition = number(&self.set, &["spec", "updateStrategy", "rollingUpdate", "partition"]).unwrap_or(0);
        for (ordinal, pod) in places.iter().rev().take_while(|(ordinal, _)| *ordinal >= start + partition) {
            let Some(pod) = pod else { return };
            if text(pod, &["metadata", "labels", REVISION_LABEL]) != self.update.name && !is_terminating(pod) {
                debug_assert!(*ordinal >= start);
                self.delete_pod(pod);
                return;
            }
            if !self.is_available(pod) || is_terminating(pod) {
                return;
            }
        }
    }

    fn create_pod(&mut self, ordinal: i64, start: i64) -> bool {
        if !self.create_claims(ordinal) {
            return false;
        }
        let revision = if self.wants_current(ordinal, start) { &self.current } else { &self.update };
        let pod = pod_of(&self.set, revision, ordinal);
        // A name still taken is met again in a later pass, like any failed create.
        match self.api.create(self.now, USER, KindId::PODS, pod) {
            Ok(pod) => {
                self.count(&pod);
                true
            }
            Err(_taken) => false,
        }
    }

    /// Whether a missing pod is to be made from the old template: below the partition of a rolling update.
    fn wants_current(&self, ordinal: i64, start: i64) -> bool {
        text(&self.set, &["spec", "updateStrategy", "type"]) == "RollingUpdate"
            && match number(&self.set, &["spec", "updateStrategy", "rollingUpdate", "partition"]) {
                Some(partition) => ordinal < start + partition,
                None => ordinal < start + number(&self.set, &["status", "currentReplicas"]).unwrap_or(0),
            }
    }

    /// Makes the claims of an ordinal that are not there. False where one is still going.
    fn create_claims(&mut self, ordinal: i64) -> bool {
        let set = Arc::clone(&self.set);
        let mut complete = true;
        for template in list(&set, &["spec", "volumeClaimTemplates"]) {
            let claim_name = claim_name(&set, template, ordinal);
            match self.api.get(KindId::CLAIMS, namespace(&set), &claim_name) {
                Some(claim) if is_terminating(claim) => complete = false,
                Some(_) => {}
                None => {
                    let claim = claim_of(&set, template, &claim_name);
                    complete &= self.api.create(self.now, USER, KindId::CLAIMS, claim).is_ok();
                }
            }
        }
        complete
    }

    fn delete_pod(&mut self, pod: &Value) {
        if !is_terminating(pod) {
            let options = DeleteOptions::of_uid(uid(pod));
            // Gone or another by now: the next pass sees what is there.
            let _gone_already = self.api.delete(self.now, USER, KindId::PODS, namespace(pod), name(pod), &options);
        }
    }

    /// Hangs claims on the set or on a condemned pod, as the retention policy says.
    fn keep_claim_owners(&mut self, places: &[Place], condemned: &[(i64, Arc<Value>)]) {
        let set = Arc::clone(&self.set);
        let policy = |when: &str| text(&set, &["spec", "persistentVolumeClaimRetentionPolicy", when]) == "Delete";
        let (deleted, scaled) = (policy("whenDeleted"), policy("whenScaled"));
        let with_set = |owned: bool| owned.then(|| owner_of(&set, "apps/v1", "StatefulSet", true));
        for (ordinal, _) in places {
            self.set_claim_owner(*ordinal, with_set(deleted));
        }
        for (ordinal, pod) in condemned {
            let owner = if scaled { Some(owner_of(pod, "v1", "Pod", true)) } else { with_set(deleted) };
            self.set_claim_owner(*ordinal, owner);
        }
    }

    fn set_claim_owner(&mut self, ordinal: i64, owner: Option<Value>) {
        let set = Arc::clone(&self.set);
        for template in list(&set, &["spec", "volumeClaimTemplates"]) {
            let claim_name = claim_name(&set, template, ordinal);
            let Some(claim) = self.api.get(KindId::CLAIMS, namespace(&set), &claim_name) else {
                continue;
            };
            let is_ours = |owner: &Value| {
                (text(owner, &["kind"]) == "StatefulSet" && text(owner, &["name"]) == name(&set))
                    || (text(owner, &["kind"]) == "Pod"
                        && text(owner, &["name"]) == format!("{}-{ordinal}", name(&set)))
            };
            let before = list(claim, &["metadata", "ownerReferences"]);
            let mut owners: Vec<Value> = before.iter().filter(|owner| !is_ours(owner)).cloned().collect();
            owners.extend(owner.clone());
            if owners == before {
                continue;
            }
            let mut changed = Value::clone(claim);
            set_owners(&mut changed, owners);
            // Conditional on what was read; a lost race is met again in a later pass.
            let _lost_race = self.api.update(self.now, USER, KindId::CLAIMS, changed);
        }
    }

    /// Makes sure the template in force has its revision object, and finds the one pods started from.
    fn record_revisions(&mut self) {
        let place = namespace(&self.set).to_owned();
        if self.api.get(KindId::REVISIONS, &place, &self.update.name).is_none() {
            let number = 1 + self
                .api
                .store()
                .list(KindId::REVISIONS, Some(&place))
                .filter(|revision| is_controlled_by(revision, uid(&self.set)))
                .filter_map(|revision| number(revision, &["revision"]))
                .max()
                .unwrap_or(0);
            let object = json!({
                "metadata": {
                    "name": self.update.name,
                    "namespace": place,
                    "labels": self.set["spec"]["template"]["metadata"]["labels"],
                    "ownerReferences": [owner_of(&self.set, "apps/v1", "StatefulSet", true)],
                },
                "data": {"spec": {"template": self.update.template}},
                "revision": number,
            });
            self.collisions += i64::from(self.api.create(self.now, USER, KindId::REVISIONS, object).is_err());
        }
        let current = text(&self.set, &["status", "currentRevision"]);
        if let Some(revision) = self.api.get(KindId::REVISIONS, &place, current) {
            let template = at(revision, &["data", "spec", "template"]).cloned().unwrap_or(Value::Null);
            self.current = Revision { name: current.to_owned(), template };
        }
    }

    fn count(&mut self, pod: &Value) {
        self.counts.replicas += 1;
        // A pod that goes counts as ready for as long as it is, and to no revision any more.
        self.counts.ready += i64::from(is_ready(pod));
        self.counts.available += i64::from(self.is_available(pod));
        if !is_terminating(pod) {
            let revision = text(pod, &["metadata", "labels", REVISION_LABEL]);
            self.counts.current += i64::from(revision == self.current.name);
            self.counts.updated += i64::from(revision == self.update.name);
        }
    }

    fn write_status(self) {
        let Some(latest) = self.api.get(KindId::STATEFUL_SETS, namespace(&self.set), name(&self.set)) else {
            return;
        };
        if uid(latest) != uid(&self.set) {
            return;
        }
        let Counts { replicas, ready, available, mut current, updated } = self.counts;
        let mut current_revision = self.current.name;
        // Whatever the strategy: under OnDelete too the change is over when all pods are new and ready.
        if updated == replicas && ready == replicas {
            current = updated;
            current_revision.clone_from(&self.update.name);
        }
        let mut changed = Value::clone(latest);
        let mut status = json!({
            "observedGeneration": at(&self.set, &["metadata", "generation"]),
            "replicas": replicas,
            "availableReplicas": available,
            "currentRevision": current_revision,
            "updateRevision": self.update.name,
            "collisionCount": self.collisions,
        });
        // The other counts are left out where there is nothing to count.
        for (key, count) in [("readyReplicas", ready), ("currentReplicas", current), ("updatedReplicas", updated)] {
            if count > 0 {
                set(&mut status, &[key], count);
            }
        }
        set(&mut changed, &["status"], status);
        // Conditional on what was read; a lost race is met again in a later pass.
        let _lost_race = self.api.update_status(self.now, USER, KindId::STATEFUL_SETS, changed);
    }
}

impl Revision {
    fn of(set: &Value) -> Self {
        let template = at(set, &["spec", "template"]).cloned().unwrap_or(Value::Null);
        let digest = Sha256::digest(template.to_string().as_bytes());
        let hash: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
        Self { name: format!("{}-{hash}", name(set)), template }
    }
}

/// Running, with all containers ready: what the controller waits for and counts.
fn is_ready(pod: &Value) -> bool {
    text(pod, &["status", "phase"]) == "Running" && condition(pod, "Ready") == "True"
}

fn is_controlled(object: &Value) -> bool {
    list(object, &["metadata", "ownerReferences"])
        .iter()
        .any(|reference| reference.get("controller") == Some(&Value::Bool(true)))
}

fn is_controlled_by(object: &Value, owner: &str) -> bool {
    list(object, &["metadata", "ownerReferences"])
        .iter()
        .any(|reference| text(reference, &["uid"]) == owner && reference.get("controller") == Some(&Value::Bool(true)))
}

fn owner_of(object: &Value, api_version: &str, kind: &str, controls: bool) -> Value {
    let mut owner = json!({"apiVersion": api_version, "kind": kind, "name": name(object), "uid": uid(object)});
    if controls {
        owner["controller"] = Value::Bool(true);
        owner["blockOwnerDeletion"] = Value::Bool(true);
    }
    owner
}

fn set_owners(object: &mut Value, owners: Vec<Value>) {
    if owners.is_empty() {
        super::super::json::remove(object, &["metadata", "ownerReferences"]);
    } else {
        set(object, &["metadata", "ownerReferences"], owners);
    }
}

fn claim_name(set: &Value, template: &Value, ordinal: i64) -> String {
    format!("{}-{}-{ordinal}", name(template), name(set))
}

fn claim_of(set: &Value, template: &Value, claim_name: &str) -> Value {
    let mut labels = at(set, &["spec", "selector", "matchLabels"]).cloned().unwrap_or_else(|| json!({}));
    if let Some(own) = at(template, &["metadata", "labels"]).and_then(Value::as_object) {
        for (key, value) in own {
            labels[key] = value.clone();
        }
    }
    let mut claim = json!({
        "metadata": {"name": claim_name, "namespace": namespace(set), "labels": labels},
        "spec": template["spec"],
    });
    if let Some(annotations) = at(template, &["metadata", "annotations"]) {
        set_annotations(&mut claim, annotations);
    }
    claim
}

fn set_annotations(object: &mut Value, annotations: &Value) {
    set(object, &["metadata", "annotations"], annotations.clone());
}

fn pod_of(owner: &Value, revision: &Revision, ordinal: i64) -> Value {
    let pod_name = format!("{}-{ordinal}", name(owner));
    let mut pod = json!({
        "metadata": {
            "name": pod_name,
            "generateName": format!("{}-", name(owner)),
            "namespace": namespace(owner),
            "ownerReferences": [owner_of(owner, "apps/v1", "StatefulSet", true)],
        },
        "spec": revision.template["spec"],
    });
    let mut labels = at(&revision.template, &["metadata", "labels"]).cloned().unwrap_or_else(|| json!({}));
    labels["statefulset.kubernetes.io/pod-name"] = Value::from(pod_name.clone());
    labels["apps.kubernetes.io/pod-index"] = Value::from(ordinal.to_string());
    labels[REVISION_LABEL] = Value::from(revision.name.clone());
    set(&mut pod, &["metadata", "labels"], labels);
    if let Some(annotations) = at(&revision.template, &["metadata", "annotations"]) {
        set_annotations(&mut pod, annotations);
    }
    set(&mut pod, &["spec", "hostname"], pod_name);
    if !text(owner, &["spec", "serviceName"]).is_empty() {
        set(&mut pod, &["spec", "subdomain"], text(owner, &["spec", "serviceName"]));
    }
    let templates = list(owner, &["spec", "volumeClaimTemplates"]);
    if !templates.is_empty() {
        let mut volumes: Vec<Value> = templates
            .iter()
            .map(|template| {
                let claim = claim_name(owner, template, ordinal);
                json!({"name": name(template), "persistentVolumeClaim": {"claimName": claim}})
            })
            .collect();
        let own = list(&pod, &["spec", "volumes"]);
        volumes.extend(
            own.iter()
                .filter(|volume| !templates.iter().any(|template| name(template) == text(volume, &["name"])))
                .cloned(),
        );
        set(&mut pod, &["spec", "volumes"], volumes);
    }
    pod
}
