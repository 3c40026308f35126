//! Volumes: binds claims at once, and lets go of claims nobody uses.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::api::{DeleteOptions, ModelApi};
use super::super::json::{is_terminating, list, name, namespace, set, text, uid};
use super::super::resource::KindId;
use super::super::time::ModelTime;

const USER: &str = "system:serviceaccount:kube-system:persistent-volume-binder";
const PROTECTION: &str = "kubernetes.io/pvc-protection";

pub(super) fn reconcile(api: &mut ModelApi, now: ModelTime) {
    let claims: Vec<Arc<Value>> = api.store().list(KindId::CLAIMS, None).cloned().collect();
    let used = claims_in_use(api);
    for claim in &claims {
        if is_terminating(claim) {
            release(api, now, claim, &used);
        } else if text(claim, &["spec", "volumeName"]).is_empty() {
            bind(api, now, claim);
        } else {
            grow(api, now, claim);
        }
    }
    drop_orphaned_volumes(api, now);
}

fn claims_in_use(api: &ModelApi) -> BTreeSet<(String, String)> {
    api.store()
        .list(KindId::PODS, None)
        .filter(|pod| !matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed"))
        .flat_map(|pod| {
            list(pod, &["spec", "volumes"]).iter().filter_map(|volume| {
                let claim = text(volume, &["persistentVolumeClaim", "claimName"]);
                (!claim.is_empty()).then(|| (namespace(pod).to_owned(), claim.to_owned()))
            })
        })
        .collect()
}

/// A claim that is going goes when no pod uses it: that is what its protection means.
fn release(api: &mut ModelApi, now: ModelTime, claim: &Value, used: &BTreeSet<(String, String)>) {
    if used.contains(&(namespace(claim).to_owned(), name(claim).to_owned())) {
        return;
    }
    let before = list(claim, &["metadata", "finalizers"]);
    let finalizers: Vec<Value> = before.iter().filter(|finalizer| **finalizer != PROTECTION).cloned().collect();
    if finalizers.len() != before.len() {
        let mut changed = claim.clone();
        set(&mut changed, &["metadata", "finalizers"], finalizers);
        // Conditional on what was read; a lost race is met again in a later pass.
        let _lost_race = api.update(now, USER, KindId::CLAIMS, changed);
    }
}

fn bind(api: &mut ModelApi, now: ModelTime, claim: &Value) {
    let volume_name = format!("pvc-{}", uid(claim));
    let size = claim["spec"]["resources"]["requests"]["storage"].clone();
    if api.get(KindId::VOLUMES, "", &volume_name).is_none() {
        let volume = json!({
            "metadata": {"name": volume_name},
            "spec": {
                "capacity": {"storage": size},
                "accessModes": claim["spec"]["accessModes"],
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": claim["spec"]["storageClassName"],
                "claimRef": {
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": name(claim),
                    "namespace": namespace(claim), "uid": uid(claim),
                },
            },
        });
        if let Ok(volume) = api.create(now, USER, KindId::VOLUMES, volume) {
            let mut bound = Value::clone(&volume);
            set(&mut bound, &["status", "phase"], "Bound");
            let _lost_race = api.update_status(now, USER, KindId::VOLUMES, bound);
        }
    }
    let mut changed = claim.clone();
    set(&mut changed, &["spec", "volumeName"], volume_name);
    set(&mut changed, &["metadata", "annotations", "pv.kubernetes.io/bind-completed"], "yes");
    let Ok(changed) = api.update(now, USER, KindId::CLAIMS, changed) else {
        return;
    };
    write_status(api, now, &changed);
}

/// A larger request is granted at once: the directory behind it has no size.
fn grow(api: &mut ModelApi, now: ModelTime, claim: &Value) {
    if claim["status"]["capacity"]["storage"] != claim["spec"]["resources"]["requests"]["storage"] {
        write_status(api, now, claim);
    }
}

fn write_status(api: &mut ModelApi, now: ModelTime, claim: &Value) {
    let mut bound = claim.clone();
    set(
        &mut bound,
        &["status"],
        json!({
            "phase": "Bound",
            "accessModes": claim["spec"]["accessModes"],
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
        }),
    );
    // Conditional on what was read; a lost race is met again in a later pass.
    let _lost_race = api.update_status(now, USER, KindId::CLAIMS, bound);
}

fn drop_orphaned_volumes(api: &mut ModelApi, now: ModelTime) {
    let orphaned: Vec<Arc<Value>> = api
        .store()
        .list(KindId::VOLUMES, None)
        .filter(|volume| text(volume, &["spec", "persistentVolumeReclaimPolicy"]) == "Delete")
        .filter(|volume| {
            let reference = &volume["spec"]["claimRef"];
            let claim = api.get(KindId::CLAIMS, text(reference, &["namespace"]), text(reference, &["name"]));
            !text(reference, &["uid"]).is_empty() && claim.is_none_or(|claim| uid(claim) != text(reference, &["uid"]))
        })
        .cloned()
        .collect();
    for volume in orphaned {
        let options = DeleteOptions::of_uid(uid(&volume));
        let _gone_already = api.delete(now, USER, KindId::VOLUMES, "", name(&volume), &options);
    }
}
