//! Members whose pods follow a changed template: one operation at a time, within what may be unavailable.
//!
//! A pod is evicted, never deleted: users' budgets are asked. Its member drains, ends and returns on its claim, as after
//! any other end of a pod. Where it does not come back the operation stays open, and so does the roll, until the template
//! is mended or reverted: then the pod is outdated again, and is made anew.

use crate::decide::{Limits, open, settling, write};
use crate::peers::{PeersSay, away, peers_say, phase_word, replication};
use crate::plan::{Act, Decision, Plan, Rule, Verdict};
use crate::replace;
use crate::world::{Outranked, PodFacts, RecordFacts, World};
use protocol::database::DatabasePhase;
use protocol::id::{PilotName, Uid, Voter};
use protocol::record::{ClusterRecord, IntentKind};
use std::cmp::Reverse;

/// Whether some member's pod has to be made anew, and whose is the next.
pub(crate) fn begin(mut plan: Plan, limits: Limits, world: &World, facts: &RecordFacts) -> Decision {
    let record = &facts.record;
    let outdated = record.members.keys().filter_map(|name| {
        let pod = world.pods.get(name).filter(|p| !p.terminating && world.is_outdated(p))?;
        world.set.declared().contains(name).then_some((name, pod))
    });
    // One that is broken costs nothing to make anew. Otherwise the highest ordinal first, as Kubernetes rolls.
    let next = outdated.min_by_key(|(name, pod)| (!is_broken(world, name, pod), Reverse(name.ordinal())));
    let Some((name, pod)) = next else {
        return Ok(plan);
    };
    if let Some(why) = world.evictions_refused.get(&pod.object.uid) {
        return Ok(plan.wait(name, Rule::RollInBudget, put_off(why)));
    }
    if !is_broken(world, name, pod) {
        let broken = broken_on_the_present_template(world, record);
        if broken.len() >= usize::try_from(limits.rollout.stop_after).unwrap_or(usize::MAX) {
            let names = broken.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let fact =
                format!("{names} did not come back on this template: the roll stops until it is mended or reverted");
            plan.note(Verdict::Refuse, name, Rule::RollStops, fact);
            return Ok(plan);
        }
        if let Some(why) = settling(limits.rollout.settle, world) {
            return Ok(plan.wait(name, Rule::Settle, why));
        }
        if let Some(why) = over_budget(limits, world, record, name) {
            return Ok(plan.wait(name, Rule::RollInBudget, why));
        }
    }
    if world.patience {
        return Ok(plan.wait_one_old_lease(name));
    }
    let Some(member) = record.members.get(name) else {
        return Ok(plan);
    };
    let kind = IntentKind::Restart {
        member: Voter { name: name.clone(), claim: member.claim.clone() },
        pod: pod.object.uid.clone(),
    };
    let fact = format!("the pod of {name} was made from an older template: it is made anew");
    write(plan, world, facts, |r| open(r, world, kind), Rule::RollInBudget, fact)
}

/// A pod that has never run, of a template that the set no longer has: what kept it from running may have been mended
/// since, and nobody but us makes it anew. Nothing runs in it, so nothing is lost with it, whatever is under way; and as
/// the write names the version that was read, it is still so when it is done. This alone is done without a majority of the
/// roster too: where the majority is in such pods, nobody else could ever heal the cluster.
pub(crate) fn make_anew_what_never_ran(plan: &Plan, world: &World) -> Result<Option<Plan>, Outranked> {
    for name in world.set.declared() {
        let Some(pod) = world.pods.get(&name).filter(|p| !p.terminating && p.untouched && world.is_outdated(p)) else {
            continue;
        };
        if world.evictions_refused.contains_key(&pod.object.uid) {
            continue;
        }
        let target = pod.object.target(world.epoch)?;
        let plan = plan.clone();
        if pod.object.stamp < world.epoch {
            return Ok(Some(plan.act(Act::StampPod(target), name, Rule::StampFirst, "its pod carries an older epoch")));
        }
        let fact = "its pod has never run and the template has changed since: it is made anew";
        return Ok(Some(plan.act(Act::Evict(target), name, Rule::RollInBudget, fact)));
    }
    Ok(None)
}

/// A restart, until the member serves in a new pod and its peers see that.
pub(crate) fn carry_on(
    plan: Plan,
    limits: Limits,
    world: &World,
    facts: &RecordFacts,
    member: &Voter,
    old: &Uid,
) -> Decision {
    let record = &facts.record;
    let name = &member.name;
    let end = |plan: Plan, rule: Rule, fact: String| write(plan, world, facts, |r| r.intent = None, rule, fact);
    let wanted = world.set.declared().contains(name);
    let Some(pod) = world.pods.get(name) else {
        if !wanted {
            return end(plan, Rule::RollInBudget, format!("{name} is beyond the size now: it is not restarted"));
        }
        return Ok(plan.wait(name, Rule::RollInBudget, "its new pod is on its way"));
    };
    if pod.object.uid == *old {
        if pod.terminating {
            if !wanted {
                return end(plan, Rule::RollInBudget, format!("{name} is beyond the size now: it is not restarted"));
            }
            return Ok(plan.wait(name, Rule::RollInBudget, "its old pod is ending"));
        }
        if world.set.revision.is_none() {
            return Ok(plan.wait(
                name,
                Rule::UnknownHolds,
                "the set's controller has not looked at the latest template",
            ));
        }
        if !world.is_outdated(pod) {
            return end(plan, Rule::RollInBudget, format!("the template is again the one that the pod of {name} has"));
        }
        if let Some(why) = world.evictions_refused.get(&pod.object.uid) {
            // Nothing has begun. Under an open operation nothing else would: no join, no leave, no other restart.
            return end(plan, Rule::RollInBudget, format!("the restart of {name} is put off: {}", put_off(why)));
        }
        if pod.object.stamp < world.epoch {
            let target = pod.object.target(world.epoch)?;
            return Ok(plan.act(Act::StampPod(target), name, Rule::StampFirst, "its pod carries an older epoch"));
        }
        if !is_broken(world, name, pod)
            && let Some(why) = over_budget(limits, world, record, name)
        {
            // Nothing has begun, and who is away may need an operation of its own.
            return end(plan, Rule::RollInBudget, format!("the restart of {name} is put off: {why}"));
        }
        let target = pod.object.target(world.epoch)?;
        return Ok(plan.act(
            Act::Evict(target),
            name,
            Rule::RollInBudget,
            "its pod is evicted: the template has changed",
        ));
    }
    if !pod.terminating && world.is_outdated(pod) && is_broken(world, name, pod) {
        let uid = pod.object.uid.clone();
        let fact = format!("{name} did not come back, and the template has changed since: its pod is made anew");
        return write(
            plan,
            world,
            facts,
            |r| {
                if let Some(IntentKind::Restart { pod, .. }) = r.intent.as_mut().map(|i| &mut i.kind) {
                    *pod = uid;
                }
            },
            Rule::RollInBudget,
            fact,
        );
    }
    let phase = world.live_report(name).map(|r| r.database.phase);
    let serves = phase == Some(DatabasePhase::Serving);
    let identity = record.members.get(name).map(|m| &m.identity);
    let heard = match identity.map(|identity| peers_say(world, record, name, identity)) {
        // It has no peers to ask.
        _ if record.members.len() == 1 => String::new(),
        Some(PeersSay::Normal) => String::new(),
        Some(PeersSay::Unsettled(heard)) => format!(": {heard}"),
        Some(PeersSay::Gone) | None => ": its peers do not see it".to_owned(),
    };
    if serves && heard.is_empty() {
        return end(plan, Rule::PeersDecide, format!("{name} serves in its new pod, and its peers see it"));
    }
    if replace::lost(world, record) == Some(name) {
        return end(plan, Rule::ReplaceByApproval, format!("{name} has lost its data, and cannot come back"));
    }
    let broken = broken_on_the_present_template(world, record);
    if broken.contains(&name) {
        if broken.len() < usize::try_from(limits.rollout.stop_after).unwrap_or(usize::MAX) {
            let fact = format!(
                "{name} did not come back; the policy lets the roll go on until {} have not",
                limits.rollout.stop_after
            );
            return end(plan, Rule::RollStops, fact);
        }
        let fact = format!("{name} does not come back on this template: the roll stops until it is mended or reverted");
        let mut plan = plan;
        plan.note(Verdict::Refuse, name, Rule::RollStops, fact);
        return Ok(plan);
    }
    let now = phase.map_or("not heard", phase_word);
    Ok(plan.wait(name, Rule::PeersDecide, format!("{name} is {now} in its new pod{heard}")))
}

fn put_off(why: &str) -> String {
    format!("its eviction was refused ({why}); it is asked for again after a pause")
}

/// Nothing is lost with this pod: its database ends again and again, or not all of its containers have ever run.
fn is_broken(world: &World, name: &PilotName, pod: &PodFacts) -> bool {
    let phase = world.live_report(name).map(|r| r.database.phase);
    phase == Some(DatabasePhase::CrashLooping) || (pod.pending && phase != Some(DatabasePhase::Serving))
}

/// Members that crash in pods of the set's present template.
fn broken_on_the_present_template<'a>(world: &World, record: &'a ClusterRecord) -> Vec<&'a PilotName> {
    let crashes = |name: &&PilotName| {
        world.pods.get(*name).is_some_and(|pod| !world.is_outdated(pod))
            && world.live_report(name).map(|r| r.database.phase) == Some(DatabasePhase::CrashLooping)
    };
    record.members.keys().filter(crashes).collect()
}

/// Why one more member may not be unavailable now; `None` where it may.
///
/// The policy's number counts those that are away already. What replication tolerates is a second limit as soon as
/// somebody is away: a quorum of each range has to stay.
fn over_budget(limits: Limits, world: &World, record: &ClusterRecord, name: &PilotName) -> Option<String> {
    let away = away(world, record, name);
    let (lost, why) = away.iter().next()?;
    let with_it = u32::try_from(away.len()).unwrap_or(u32::MAX).saturating_add(1);
    if with_it > limits.rollout.max_unavailable {
        return Some(format!("{why}; {} may be unavailable, this one included", limits.rollout.max_unavailable));
    }
    let tolerated = replication(world, record).map_or(0, |factor| factor.saturating_sub(1) / 2);
    (with_it > tolerated)
        .then(|| format!("{lost} is away ({why}), and replication tolerates {tolerated}, this one included"))
}
