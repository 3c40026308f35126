//! Answers of the Kubernetes API.

use super::input::Input;
use super::keys::{cluster, life};
use super::{KIB, Outcome, Target};
use agent::kubernetes::call::{Answer, Call, EventContent, Failure, LeaseContent};
use agent::kubernetes::translate::{self, CLUSTER, EPOCH, IDENTITY, Names};
use policies::plan::ClaimMarks;
use policies::world::{ObjectRead, ResourceVersion, Target as WriteTarget};
use protocol::epoch::Epoch;
use protocol::id::{DatabaseIdentity, Uid, Voter};
use protocol::record::{ClusterRecord, MemberRecord};
use protocol::time::Millis;
use serde_json::{Value, json};

pub(super) const TARGETS: &[Target] = &[Target {
    name: "kubernetes-answer",
    reads: "an answer of the Kubernetes API",
    run: answer,
    seeds,
    base: 128 * KIB,
    per_byte: 160,
    gate: 2_500,
}];

fn names() -> Names {
    Names { namespace: "n".to_owned(), set: "c".to_owned(), claim_template: "data".to_owned(), pod: life(0).name }
}

/// Reads an answer.
pub(super) fn read(call: &Call, status: u16, body: &[u8]) -> Result<Answer, Failure> {
    translate::read(&names(), call, status, body)
}

/// The status of an answer: mostly a good one.
pub(super) fn status(byte: u8) -> u16 {
    const ODD: [u16; 12] = [404, 409, 410, 412, 422, 429, 403, 500, 503, 504, 301, 0];
    match byte {
        0..=127 => 200,
        other => ODD[usize::from(other) % ODD.len()],
    }
}

/// A Lease that was given back.
fn lease_content() -> LeaseContent {
    LeaseContent { holder: None, epoch: Epoch(2), cluster: Some(cluster()), duration: Millis(1_000), transitions: 3 }
}

fn target() -> WriteTarget {
    let read = ObjectRead {
        name: "c-pilots".to_owned(),
        uid: Uid::new("uid"),
        version: ResourceVersion("1".to_owned()),
        stamp: Epoch(1),
    };
    read.target(Epoch(2)).expect("the stamp is older")
}

fn calls() -> Vec<Call> {
    let marks = ClaimMarks { cluster: cluster(), identity: None, retired: false };
    vec![
        Call::GetLease,
        Call::GetRecord,
        Call::GetSet,
        Call::ListPods,
        Call::ListClaims,
        Call::GetOwnPod,
        Call::GetOwnClaim,
        Call::CreateLease(lease_content()),
        Call::ReplaceLease { uid: Uid::new("uid"), version: ResourceVersion("1".to_owned()), content: lease_content() },
        Call::CreateRecord(Box::new(record())),
        Call::ReplaceRecord(target(), Box::new(record())),
        Call::StampSet(target()),
        Call::Scale(target(), 3),
        Call::MarkClaim(target(), marks),
        Call::StampPod(target()),
        Call::EvictPod(target()),
        Call::PostEvent(EventContent {
            reason: "Word".to_owned(),
            note: "A sentence.".to_owned(),
            warning: false,
            unique: "1".to_owned(),
        }),
    ]
}

/// The kinds of calls that are answered alike.
pub(super) const KINDS: u8 = 9;

/// Which kind a call is of.
pub(super) fn kind(call: &Call) -> u8 {
    match call {
        Call::GetLease => 0,
        Call::GetRecord => 1,
        Call::GetSet => 2,
        Call::ListPods => 3,
        Call::ListClaims => 4,
        Call::GetOwnPod => 5,
        Call::GetOwnClaim => 6,
        Call::CreateLease(_) | Call::ReplaceLease { .. } => 7,
        Call::CreateRecord(_)
        | Call::ReplaceRecord(..)
        | Call::StampSet(_)
        | Call::Scale(..)
        | Call::MarkClaim(..)
        | Call::StampPod(_)
        | Call::EvictPod(_)
        | Call::PostEvent(_) => 8,
    }
}

fn record() -> ClusterRecord {
    let claim = |n: u32| Uid::new(format!("claim-{n}"));
    let member = |n: u32| MemberRecord { claim: claim(n), identity: DatabaseIdentity::new(format!("host-{n}")) };
    ClusterRecord {
        cluster: cluster(),
        epoch: Epoch(1),
        roster: (0..3).map(|n| Voter { name: life(n).name, claim: claim(n) }).collect(),
        roster_revision: 1,
        members: (0..3).map(|n| (life(n).name, member(n))).collect(),
        retired: Default::default(),
        intent: None,
        next_operation: 2,
        conditions: vec![],
    }
}

fn meta(name: &str, uid: &str, annotations: Value) -> Value {
    json!({ "name": name, "namespace": "n", "uid": uid, "resourceVersion": "1", "generation": 1, "annotations": annotations })
}

fn pod(n: u32, stamp: Value) -> Value {
    // The first is the pod of the tries.
    let uid = if n == 0 { "pod".to_owned() } else { format!("pod-{n}") };
    let mut meta = meta(&format!("c-{n}"), &uid, stamp);
    meta["labels"] = json!({ "controller-revision-hash": "c-1" });
    json!({
        "metadata": meta,
        "spec": { "containers": [{ "name": "database", "image": "cassandra:5", "volumeMounts": [
            { "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "name": "token" },
        ] }] },
        "status": { "phase": "Running" },
    })
}

fn claim(n: u32, stamp: Value) -> Value {
    let mut marks = stamp;
    // The last of them belongs to nobody yet.
    if n < 3 {
        marks[CLUSTER] = json!(cluster());
        marks[IDENTITY] = json!(format!("host-{n}"));
    }
    json!({ "metadata": meta(&format!("data-c-{n}"), &format!("claim-{n}"), marks) })
}

/// What has been written to the API.
pub(super) struct Written {
    /// The Lease.
    pub(super) lease: LeaseContent,
    /// The record.
    pub(super) record: ClusterRecord,
    /// The epoch that everything is stamped with.
    pub(super) stamp: Epoch,
}

impl Default for Written {
    fn default() -> Self {
        Self { lease: lease_content(), record: record(), stamp: Epoch(1) }
    }
}

/// What a healthy API answers to this.
pub(super) fn good(call: &Call) -> Vec<u8> {
    good_after(call, &Written::default())
}

/// The same after this was written.
pub(super) fn good_after(call: &Call, written: &Written) -> Vec<u8> {
    let stamp = || json!({ EPOCH: written.stamp.to_string() });
    let lease = |content: &LeaseContent| {
        json!({
            "metadata": meta("c-pilots", "lease", json!({ EPOCH: content.epoch.to_string(), CLUSTER: cluster() })),
            "spec": {
                "holderIdentity": content.holder.as_ref().map(ToString::to_string).unwrap_or_default(),
                "leaseDurationSeconds": content.duration.0 / 1000,
                "leaseTransitions": content.transitions,
            },
        })
    };
    let list = |items: Vec<Value>| json!({ "kind": "List", "items": items });
    let body = match call {
        Call::GetLease => lease(&written.lease),
        Call::CreateLease(content) | Call::ReplaceLease { content, .. } => lease(content),
        Call::GetRecord => json!({
            "metadata": meta("c-pilots", "record", stamp()),
            "data": { "record": serde_json::to_string(&written.record).expect("JSON") },
        }),
        // One more than there are.
        Call::GetSet => json!({
            "metadata": meta("c", "set", stamp()),
            "spec": { "replicas": 4, "template": pod(0, json!({})) },
            "status": { "updateRevision": "c-1", "observedGeneration": 1 },
        }),
        Call::ListPods => list((0..=3).map(|n| pod(n, stamp())).collect()),
        Call::ListClaims => list((0..=3).map(|n| claim(n, stamp())).collect()),
        Call::GetOwnPod => pod(0, stamp()),
        Call::GetOwnClaim => claim(0, stamp()),
        Call::CreateRecord(_)
        | Call::ReplaceRecord(..)
        | Call::StampSet(_)
        | Call::Scale(..)
        | Call::MarkClaim(..)
        | Call::StampPod(_)
        | Call::EvictPod(_)
        | Call::PostEvent(_) => json!({ "kind": "Status", "status": "Success" }),
    };
    body.to_string().into_bytes()
}

fn answer(bytes: &[u8]) -> Outcome {
    let mut input = Input(bytes);
    let calls = calls();
    let call = &calls[usize::from(input.byte()) % calls.len()];
    let answer = match read(call, status(input.byte()), input.0) {
        Ok(answer) => answer,
        Err(failure) => {
            assert!(!failure.to_string().is_empty());
            return Outcome::Refused;
        }
    };
    match &answer {
        Answer::Lease(Some(facts)) => {
            let epoch = facts.content.epoch;
            assert!(epoch.next() > epoch, "whoever takes the Lease needs a higher epoch than {epoch}");
            let (uid, version, content) = (facts.uid.clone(), facts.version.clone(), facts.content.clone());
            // A duration of nothing is written as the least there is.
            if content.duration.0 > 0 && content.duration.0 % 1000 == 0 {
                assert_eq!(written(&Call::ReplaceLease { uid, version, content }, &Call::GetLease), Ok(answer.clone()));
            }
        }
        Answer::Record(Some(facts)) => {
            if let Ok(target) = facts.object.target(facts.object.stamp) {
                let again = written(&Call::ReplaceRecord(target, Box::new(facts.record.clone())), &Call::GetRecord);
                let Ok(Answer::Record(Some(again))) = again else {
                    panic!("a record is read as it was written: {again:?}");
                };
                assert_eq!(again.record, facts.record);
            }
        }
        Answer::Lease(None)
        | Answer::Record(None)
        | Answer::Set(_)
        | Answer::Pods(_)
        | Answer::Claims(_)
        | Answer::OwnPod(_)
        | Answer::OwnClaim(_)
        | Answer::Written => {}
    }
    Outcome::Read
}

/// What is read of what a call writes.
fn written(write: &Call, get: &Call) -> Result<Answer, Failure> {
    let http = translate::encode(&names(), write, "2026-01-01T00:00:00.000000Z")?;
    let body = http.body.map(|body| body.to_string()).unwrap_or_default();
    read(get, 200, body.as_bytes())
}

fn seeds() -> Vec<Vec<u8>> {
    (0..).zip(calls()).map(|(number, call)| [vec![number, 0], good(&call)].concat()).collect()
}
