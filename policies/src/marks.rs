//! Claims say whose data they hold, and the roster says whom to count: both follow the record.

use crate::plan::{Act, ClaimMarks, Plan, Rule};
use crate::world::{Outranked, World};
use protocol::id::{PilotName, Voter};
use protocol::record::{ClusterRecord, Intent};

/// The next mark that is missing, if any.
pub(crate) fn next(plan: &Plan, world: &World, record: &ClusterRecord) -> Result<Option<Plan>, Outranked> {
    for (name, member) in &record.members {
        let Some(claim) = world.claims.get(name) else {
            continue;
        };
        if claim.object.uid != member.claim {
            continue;
        }
        let wanted =
            ClaimMarks { cluster: record.cluster.clone(), identity: Some(member.identity.clone()), retired: false };
        if let Some(plan) = mark(plan, world, name, wanted)? {
            return Ok(Some(plan));
        }
    }
    Ok(None)
}

/// Writes our epoch on the claim that an operation is about, with the marks it has, before anything else is done to it.
///
/// A mark of an earlier coordinator may be held somewhere on its way to the API. It names the resource version it was
/// decided on, so it is refused when the claim has changed since: by that write, or by ours. Marking a claim that is
/// marked rightly already would change nothing and refuse nothing; hence this write of the stamp alone.
pub(crate) fn stamp(
    plan: &Plan,
    world: &World,
    record: &ClusterRecord,
    intent: &Intent,
) -> Result<Option<Plan>, Outranked> {
    let subject = intent.kind.subject();
    let Some(claim) = world.claims.get(&subject.name) else {
        return Ok(None);
    };
    if claim.terminating || claim.object.uid != subject.claim || claim.object.stamp >= world.epoch {
        return Ok(None);
    }
    let target = claim.object.target(world.epoch)?;
    let marks =
        ClaimMarks { cluster: record.cluster.clone(), identity: claim.identity.clone(), retired: claim.retired };
    let fact = "its claim carries an older epoch";
    Ok(Some(plan.clone().act(Act::MarkClaim(target, marks), &subject.name, Rule::StampFirst, fact)))
}

/// Marks the claim of this pod unless it is marked so already.
pub(crate) fn mark(
    plan: &Plan,
    world: &World,
    name: &PilotName,
    wanted: ClaimMarks,
) -> Result<Option<Plan>, Outranked> {
    let Some(claim) = world.claims.get(name).filter(|c| !c.terminating) else {
        return Ok(None);
    };
    if claim.cluster.as_ref() == Some(&wanted.cluster)
        && claim.identity == wanted.identity
        && claim.retired == wanted.retired
    {
        return Ok(None);
    }
    let target = claim.object.target(world.epoch)?;
    let fact = match (&wanted.identity, wanted.retired) {
        (Some(identity), false) => format!("its claim holds {identity}"),
        (Some(identity), true) => format!("its claim holds the retired {identity}"),
        (None, _) => "its claim holds nothing".to_owned(),
    };
    Ok(Some(plan.clone().act(Act::MarkClaim(target, wanted), name, Rule::PeersDecide, fact)))
}

/// The roster with this voter, in order of name.
pub(crate) fn with_voter(record: &mut ClusterRecord, voter: &Voter) {
    if record.roster.contains(voter) {
        return;
    }
    record.roster.retain(|v| v.name != voter.name);
    record.roster.push(voter.clone());
    record.roster.sort();
    record.roster_revision += 1;
}

/// The roster without anyone of this name.
pub(crate) fn without_voter(record: &mut ClusterRecord, name: &PilotName) {
    let before = record.roster.len();
    record.roster.retain(|v| &v.name != name);
    if record.roster.len() != before {
        record.roster_revision += 1;
    }
}
