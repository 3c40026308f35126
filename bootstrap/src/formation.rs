//! Founding is decided once, by everybody who was declared, and never again.
//!
//! The first coordinator may make the record only when **every** declared member has answered that its volume is
//! empty, and no claim of the set carries an identity. A majority is not enough: the one that did not answer may hold
//! the data.

use policies::plan::{Act, Plan, Reason, Rule, Verdict};
use policies::world::World;
use protocol::database::VolumeState;
use protocol::id::{ClusterId, OperationId, PilotName, Voter};
use protocol::record::{ClusterRecord, Intent, IntentKind};
use std::collections::BTreeMap;

/// Decides whether the cluster may be founded now. `mint` is the name it gets if it is.
pub fn found(world: &World, mint: &ClusterId) -> Plan {
    let mut plan = Plan::default();
    let set = &world.set.object.name;
    if let Some(cluster) = &world.lease_cluster {
        note(
            &mut plan,
            Verdict::Refuse,
            set,
            format!(
                "the Lease belongs to cluster {cluster} and its record is missing: restore the record, nothing is founded"
            ),
        );
        return plan;
    }
    if world.record.is_some() {
        note(&mut plan, Verdict::Refuse, set, "a record exists: the cluster has been founded".to_owned());
        return plan;
    }
    for (name, claim) in &world.claims {
        if let Some(identity) = &claim.identity {
            note(
                &mut plan,
                Verdict::Refuse,
                name.as_str(),
                format!("its claim carries the identity {identity}: a cluster was here, nothing is founded"),
            );
        } else if let Some(cluster) = &claim.cluster {
            note(
                &mut plan,
                Verdict::Refuse,
                name.as_str(),
                format!("its claim belongs to cluster {cluster}: nothing is founded"),
            );
        }
    }
    let declared = world.set.declared();
    if declared.is_empty() {
        note(&mut plan, Verdict::Wait, set, "its size is 0: there is nobody to found".to_owned());
    }
    let mut answered = Vec::new();
    for name in &declared {
        match answer(world, name) {
            Ok(voter) => answered.push(voter),
            Err((verdict, fact)) => note(&mut plan, verdict, name.as_str(), fact),
        }
    }
    let Some(founder) = answered.first().cloned().filter(|_| plan.reasons.is_empty()) else {
        return plan;
    };
    let fact = format!(
        "all {} declared members answered that their volumes are empty: {} founds cluster {mint}",
        declared.len(),
        founder.name
    );
    note(&mut plan, Verdict::Act, set, fact);
    plan.act = Some(Act::CreateRecord(Box::new(ClusterRecord {
        cluster: mint.clone(),
        epoch: world.epoch,
        // Who never becomes a member must not count: a user may make the set smaller before they have joined, and then
        // those that stay would never be a majority again.
        roster: vec![founder.clone()],
        roster_revision: 1,
        members: BTreeMap::new(),
        retired: BTreeMap::new(),
        intent: Some(Intent {
            operation: OperationId::new(format!("1-form-{}", founder.name)),
            begun: world.epoch,
            kind: IntentKind::Form { founder },
        }),
        next_operation: 2,
        conditions: Vec::new(),
    })));
    plan
}

/// What one declared member answers: its voter entry, or why founding must wait or is refused.
fn answer(world: &World, name: &PilotName) -> Result<Voter, (Verdict, String)> {
    let wait = |fact: &str| Err((Verdict::Wait, fact.to_owned()));
    let Some(report) = world.live_report(name) else {
        return wait("it is declared and has not answered");
    };
    let Some(claim) = world.claims.get(name) else {
        return wait("it has no claim yet");
    };
    if report.about.claim.as_ref() != Some(&claim.object.uid) {
        return wait("its pilot and the API do not agree about its claim yet");
    }
    match &report.database.volume {
        Some(VolumeState::Empty) if report.database.wants_start => {
            Ok(Voter { name: name.clone(), claim: claim.object.uid.clone() })
        }
        Some(VolumeState::Empty) => wait("its volume is empty and it has not asked to start yet"),
        Some(VolumeState::Holds(identity)) => {
            Err((Verdict::Refuse, format!("its volume holds {identity}: nothing is founded beside existing data")))
        }
        Some(VolumeState::HoldsUnknown | VolumeState::Begun(_)) => Err((
            Verdict::Refuse,
            "its volume holds data of an unknown identity: nothing is founded beside existing data".to_owned(),
        )),
        Some(VolumeState::Unreadable) | None => wait("its volume has not been looked at"),
    }
}

fn note(plan: &mut Plan, verdict: Verdict, subject: &str, fact: String) {
    plan.reasons.push(Reason { verdict, subject: subject.to_owned(), rule: Rule::FoundOnce, fact });
}
