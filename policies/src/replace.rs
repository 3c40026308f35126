//! A member whose data is lost: a new one takes its part over, under the same name and only with a person's approval.
//!
//! That the volume is empty says that the data is lost, and nothing of the process that wrote it: on a node that nobody
//! reaches it may still run, and a replaced member that comes back takes its part from its replacement. Nothing in the mesh
//! can prove that it will not, so a person says so, on the very claim that the new member gets.
//!
//! The person repairs the others before. A row acknowledged by a quorum may lie on the lost member and on one other alone, while a
//! third was away and the hint for it was lost with the disk; the replacement takes each part from *one* of the others, and
//! where that is the third, a quorum misses the row. (Seen on a real Kubernetes: 114 of 18,917 rows.)

use crate::decide::{open, write};
use crate::marks::without_voter;
use crate::peers::{line_of, not_all_serving, replication, schema_unsettled, strangers};
use crate::plan::{Decision, Plan, Rule, Verdict};
use crate::world::{ClaimFacts, RecordFacts, World};
use protocol::database::VolumeState;
use protocol::id::{PilotName, Voter};
use protocol::record::{ClusterRecord, Condition, IntentKind, MemberRecord, Retirement};

/// The type of the condition that says that a member's data is lost, and how its replacement is approved.
pub const DATA_LOST: &str = "DataLost";
/// The annotation of a claim by which a person approves an operation that is about it. Its value is the operation's name, which
/// no other operation of this cluster ever has: an approval that comes too late approves nothing.
pub const APPROVE: &str = "pilotmesh.io/approve";

/// Whether the replacement of a member whose data is lost may begin. Tells also of those that cannot be judged yet.
pub(crate) fn begin(mut plan: Plan, world: &World, facts: &RecordFacts) -> Decision {
    let record = &facts.record;
    let mut lost = Vec::new();
    for (name, member) in wanted(world, record) {
        match loss(world, name, member) {
            Loss::None => {}
            Loss::Unknown(why) => plan.note(Verdict::Refuse, name, Rule::UnknownHolds, why),
            Loss::Lost(claim) => lost.push((name, member, claim)),
        }
    }
    let Some((name, member, claim)) = lost.first().copied() else {
        return no_more(plan, world, facts);
    };
    let operation = record.name_operation("replace", name);
    let identity = &member.identity;
    let approved = claim.approved.as_ref() == Some(&operation);
    let how = format!(
        "{name} is a member as {identity}, and its volume is empty: its data is lost here. Repair all others first, so that \
         each has what the lost one alone shared with one of them. Once it is certain that the old process never runs again, \
         annotate the claim {} with {APPROVE}={operation}, and a new member takes its part over",
        claim.object.name
    );
    if lost.len() > 1 {
        let names: Vec<&str> = lost.iter().map(|(name, ..)| name.as_str()).collect();
        let why = format!(
            "the data of {} is lost: what had no copy elsewhere is gone, and nothing is replaced before all but one of \
             them have their data back",
            names.join(" and ")
        );
        return tell(plan, world, facts, name, &why);
    }
    if !approved {
        return tell(plan, world, facts, name, &how);
    }
    match replication(world, record) {
        Some(copies) if copies > 1 => {}
        Some(_) => {
            let why = "no data has a second copy, so there is nothing to take over from";
            return Ok(plan.wait(name, Rule::ReplicasKeepHomes, why));
        }
        None => {
            return Ok(plan.wait(name, Rule::UnknownHolds, "no member could tell its replication factors"));
        }
    }
    if let Some(why) = not_all_serving(world, record, Some(name)) {
        return Ok(plan.wait(name, Rule::AllServing, format!("its redundancy is not intact: {why}")));
    }
    if let Some(why) = schema_unsettled(world, record, Some(name)) {
        return Ok(plan.wait(name, Rule::SchemaAgreed, why));
    }
    if let Some(why) = not_seen_down(world, record, name, member) {
        return Ok(plan.wait(name, Rule::PeersDecide, why));
    }
    if let Some((stranger, _)) = strangers(world, record).into_iter().next() {
        return Ok(plan.wait(name, Rule::OneAtATime, format!("{stranger} is in the ring and in no record")));
    }
    if world.patience {
        return Ok(plan.wait_one_old_lease(name));
    }
    let joiner = Voter { name: name.clone(), claim: claim.object.uid.clone() };
    let kind = IntentKind::Replace { joiner: joiner.clone(), identity: identity.clone(), raised: None };
    let retirement = Retirement { name: name.clone(), claim: member.claim.clone(), operation };
    let fact = format!("all others serve and see {identity} down, and its replacement is approved: it is retired");
    write(
        plan,
        world,
        facts,
        |r| {
            r.members.remove(name);
            r.retired.insert(identity.clone(), retirement);
            // On the claim it had it is the voter that it was. One on another claim counts when it has joined: to take the
            // one out and the other in at once would give two majorities that do not meet.
            if joiner.claim != member.claim {
                without_voter(r, name);
            }
            open(r, world, kind);
        },
        Rule::ReplaceByApproval,
        fact,
    )
}

/// What is known of a member's data.
enum Loss<'a> {
    /// Nothing says that it is lost.
    None,
    /// It lies on another claim than the pod has, or is not there, and more is to be known first.
    Unknown(String),
    /// The pilot on this claim finds nothing there.
    Lost(&'a ClaimFacts),
}

fn loss<'a>(world: &'a World, name: &PilotName, member: &MemberRecord) -> Loss<'a> {
    let Some(claim) = world.claims.get(name).filter(|claim| !claim.terminating) else {
        return Loss::None;
    };
    let other = claim.object.uid != member.claim;
    let report = world.live_report(name).filter(|r| r.about.claim.as_ref() == Some(&claim.object.uid));
    let ends = world.pods.get(name).is_none_or(|pod| pod.terminating);
    let found = report.filter(|r| r.database.wants_start && !ends).and_then(|r| r.database.volume.as_ref());
    match found {
        Some(VolumeState::Empty) => Loss::Lost(claim),
        Some(VolumeState::Holds(_) | VolumeState::HoldsUnknown | VolumeState::Begun(_) | VolumeState::Unreadable)
        | None
            if other =>
        {
            Loss::Unknown(format!(
                "its claim is another one than the one that holds {}, and what lies there is not known",
                member.identity
            ))
        }
        Some(VolumeState::Holds(_) | VolumeState::HoldsUnknown | VolumeState::Begun(_) | VolumeState::Unreadable)
        | None => Loss::None,
    }
}

/// A member whose data is lost: what waits for all to serve would wait for ever, and gives way where nothing has begun.
pub(crate) fn lost<'a>(world: &World, record: &'a ClusterRecord) -> Option<&'a PilotName> {
    let lost = |(name, member): &(&PilotName, &MemberRecord)| matches!(loss(world, name, member), Loss::Lost(_));
    wanted(world, record).find(lost).map(|(name, _)| name)
}

/// The members that the size asks for, by their ordinals: a thousand of them are looked through in every decision.
fn wanted<'a>(world: &World, record: &'a ClusterRecord) -> impl Iterator<Item = (&'a PilotName, &'a MemberRecord)> {
    let asked = |name: &PilotName| name.ordinal().is_some_and(|n| n >= world.set.start && !world.set.is_beyond(n));
    record.members.iter().filter(move |(name, _)| asked(name))
}

/// Why it is not certain that all others see this member down.
fn not_seen_down(world: &World, record: &ClusterRecord, name: &PilotName, member: &MemberRecord) -> Option<String> {
    record.members.keys().filter(|other| *other != name).find_map(|other| {
        let ring = world.live_report(other).and_then(|r| r.ring.as_deref());
        let Some(line) = ring.and_then(|ring| line_of(ring, &member.identity)) else {
            return Some(format!("{other} does not see {}", member.identity));
        };
        match line.up {
            Some(false) => None,
            Some(true) => Some(format!("{other} sees {} up", member.identity)),
            None => Some(format!("{other} does not know yet whether {} is up", member.identity)),
        }
    })
}

/// The condition says what is lost and what to do about it.
fn tell(mut plan: Plan, world: &World, facts: &RecordFacts, name: &PilotName, message: &str) -> Decision {
    if said(&facts.record) == Some(message) {
        plan.note(Verdict::Refuse, name, Rule::ReplaceByApproval, message);
        return Ok(plan);
    }
    let condition = Condition {
        kind: DATA_LOST.to_owned(),
        status: true,
        reason: Rule::ReplaceByApproval.word().to_owned(),
        message: message.to_owned(),
    };
    let change = |r: &mut ClusterRecord| {
        r.conditions.retain(|c| c.kind != DATA_LOST);
        r.conditions.push(condition);
    };
    write(plan, world, facts, change, Rule::ReplaceByApproval, message)
}

/// The condition goes when all members serve: that one was not heard for a moment brings no data back.
fn no_more(plan: Plan, world: &World, facts: &RecordFacts) -> Decision {
    if said(&facts.record).is_none() || not_all_serving(world, &facts.record, None).is_some() {
        return Ok(plan);
    }
    let change = |r: &mut ClusterRecord| r.conditions.retain(|c| c.kind != DATA_LOST);
    write(plan, world, facts, change, Rule::ReplaceByApproval, "all members serve: no data is lost any more")
}

fn said(record: &ClusterRecord) -> Option<&str> {
    record.conditions.iter().find(|c| c.kind == DATA_LOST).map(|c| c.message.as_str())
}
