//! The garbage collector and the end of namespaces.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::api::{DeleteOptions, ModelApi};
use super::super::json::{is_terminating, list, name, namespace, set, text, uid};
use super::super::resource::KindId;
use super::super::time::ModelTime;

const USER: &str = "system:serviceaccount:kube-system:generic-garbage-collector";

pub(super) fn reconcile(api: &mut ModelApi, now: ModelTime) {
    empty_namespaces(api, now);
    let everything: Vec<(KindId, Arc<Value>)> = (0..api.resources().len())
        .map(KindId)
        .filter(|kind| api.resources()[kind.0].stored_as.is_none() && *kind != KindId::EVENTS)
        .flat_map(|kind| api.store().list(kind, None).map(move |object| (kind, Arc::clone(object))).collect::<Vec<_>>())
        .collect();
    let alive: BTreeSet<String> = everything.iter().map(|(_, object)| uid(object).to_owned()).collect();
    for (kind, object) in &everything {
        let owners = list(object, &["metadata", "ownerReferences"]);
        if !owners.is_empty()
            && !is_terminating(object)
            && owners.iter().all(|owner| !alive.contains(text(owner, &["uid"])))
        {
            delete(api, now, *kind, object);
        } else if !is_terminating(object) {
            // One owner that is left keeps it; those that are gone are forgotten.
            for gone in owners.iter().map(|owner| text(owner, &["uid"])).filter(|owner| !alive.contains(*owner)) {
                disown(api, now, *kind, object, gone);
            }
        }
    }
    for (kind, owner) in everything.iter().filter(|(_, object)| is_terminating(object)) {
        let waits_for = |finalizer: &str| list(owner, &["metadata", "finalizers"]).iter().any(|own| own == finalizer);
        let dependents = || everything.iter().filter(|(_, object)| depends(object, uid(owner)));
        if waits_for("orphan") {
            for (kind, dependent) in dependents() {
                disown(api, now, *kind, dependent, uid(owner));
            }
            drop_finalizer(api, now, *kind, owner, "orphan");
        }
        if waits_for("foregroundDeletion") {
            let mut blocking = false;
            for (kind, dependent) in dependents() {
                blocking |= api
                    .get(*kind, namespace(dependent), name(dependent))
                    .is_some_and(|found| uid(found) == uid(dependent));
                if !is_terminating(dependent) {
                    delete(api, now, *kind, dependent);
                }
            }
            if !blocking {
                drop_finalizer(api, now, *kind, owner, "foregroundDeletion");
            }
        }
    }
}

fn depends(object: &Value, owner: &str) -> bool {
    list(object, &["metadata", "ownerReferences"]).iter().any(|reference| text(reference, &["uid"]) == owner)
}

fn delete(api: &mut ModelApi, now: ModelTime, kind: KindId, object: &Value) {
    let options = DeleteOptions::of_uid(uid(object));
    // Gone already, or another by that name: neither is garbage.
    let _gone_already = api.delete(now, USER, kind, namespace(object), name(object), &options);
}

fn disown(api: &mut ModelApi, now: ModelTime, kind: KindId, object: &Value, owner: &str) {
    let Some(latest) = api.get(kind, namespace(object), name(object)).filter(|latest| uid(latest) == uid(object))
    else {
        return;
    };
    let mut changed = Value::clone(latest);
    let owners: Vec<Value> = list(latest, &["metadata", "ownerReferences"])
        .iter()
        .filter(|reference| text(reference, &["uid"]) != owner)
        .cloned()
        .collect();
    set(&mut changed, &["metadata", "ownerReferences"], owners);
    let _lost_race = api.update(now, USER, kind, changed);
}

fn drop_finalizer(api: &mut ModelApi, now: ModelTime, kind: KindId, object: &Value, finalizer: &str) {
    let Some(latest) = api.get(kind, namespace(object), name(object)) else {
        return;
    };
    let mut changed = Value::clone(latest);
    let finalizers: Vec<Value> =
        list(latest, &["metadata", "finalizers"]).iter().filter(|own| *own != finalizer).cloned().collect();
    set(&mut changed, &["metadata", "finalizers"], finalizers);
    let _lost_race = api.update(now, USER, kind, changed);
}

/// A namespace that is going deletes what is in it, and goes when it is empty.
fn empty_namespaces(api: &mut ModelApi, now: ModelTime) {
    let going: Vec<Arc<Value>> =
        api.store().list(KindId::NAMESPACES, None).filter(|place| is_terminating(place)).cloned().collect();
    for place in going {
        let content: Vec<(KindId, Arc<Value>)> = (0..api.resources().len())
            .map(KindId)
            .filter(|kind| api.resources()[kind.0].namespaced && api.resources()[kind.0].stored_as.is_none())
            .flat_map(|kind| {
                api.store()
                    .list(kind, Some(name(&place)))
                    .map(move |object| (kind, Arc::clone(object)))
                    .collect::<Vec<_>>()
            })
            .collect();
        if content.is_empty() {
            let mut changed = Value::clone(&place);
            set(&mut changed, &["spec", "finalizers"], json!([]));
            let _lost_race = api.update(now, USER, KindId::NAMESPACES, changed);
        }
        for (kind, object) in content.iter().filter(|(_, object)| !is_terminating(object)) {
            delete(api, now, *kind, object);
        }
    }
}
