//! Members that go: for good only by grant under an intent, else to return.

use crate::decide::{Limits, open, record_refusal, refusal_is_recorded, settling, write};
use crate::marks::{mark, without_voter};
use crate::peers::{PeersSay, not_all_serving, peers_say, phase_word, replication, schema_unsettled, strangers};
use crate::plan::{Act, ClaimMarks, Decision, Plan, Rule, Verdict};
use crate::replace;
use crate::world::{RecordFacts, World};
use protocol::database::DatabasePhase;
use protocol::id::{PilotName, Voter};
use protocol::order::{OrderKind, OrderName};
use protocol::record::{ClusterRecord, Intent, IntentKind, MemberRecord, Retirement};
use protocol::report::Report;

/// A terminating member that is still wanted is told at once to drain and return. Changes no membership.
pub(crate) fn let_the_wanted_return(plan: &Plan, world: &World, record: &ClusterRecord) -> Option<Plan> {
    let leaving = record.intent.as_ref().map(|i| match &i.kind {
        IntentKind::Leave { leaver, .. } => Some(&leaver.name),
        IntentKind::Form { .. } | IntentKind::Join { .. } | IntentKind::Restart { .. } | IntentKind::Replace { .. } => {
            None
        }
    });
    for name in world.set.declared() {
        if leaving.flatten() == Some(&name) || !world.pods.get(&name).is_some_and(|p| p.terminating) {
            continue;
        }
        let Some(report) = world.live_report(&name).filter(|r| r.database.terminating) else {
            continue;
        };
        // What it obeyed before may have been another ending of its container: what its database does counts.
        let on_its_way = match report.database.phase {
            DatabasePhase::Draining | DatabasePhase::Stopped | DatabasePhase::Held => true,
            DatabasePhase::Unknown
            | DatabasePhase::Starting
            | DatabasePhase::Joining
            | DatabasePhase::Serving
            | DatabasePhase::Leaving
            | DatabasePhase::Left
            | DatabasePhase::Unresponsive
            | DatabasePhase::Restarting
            | DatabasePhase::CrashLooping
            | DatabasePhase::JoinFailed => false,
        };
        if on_its_way || world.told_to_return.contains(&name) {
            continue;
        }
        let operation = record.name_operation("return", &name);
        return Some(plan.clone().act(
            Act::Order { to: name.clone(), pod: report.about.pod.clone(), operation, kind: OrderKind::EndAndReturn },
            &name,
            Rule::ReturnOnClaim,
            format!("its pod ends and the size {} still wants it: it drains and returns", world.set.replicas),
        ));
    }
    None
}

/// The member with the highest ordinal beyond this size.
fn beyond<'a>(world: &World, record: &'a ClusterRecord, size: u32) -> Option<(&'a PilotName, u32, &'a MemberRecord)> {
    record
        .members
        .iter()
        .filter_map(|(name, member)| Some((name, name.ordinal()?, member)))
        .filter(|(_, ordinal, _)| world.set.would_be_beyond(size, *ordinal))
        .max_by_key(|(_, ordinal, _)| *ordinal)
}

/// The least size allowed, where less is wanted. Nothing is said where replication is not known.
fn never_allowed(limits: Limits, world: &World, record: &ClusterRecord) -> Option<(Rule, u32)> {
    let factor = replication(world, record)?;
    let (rule, least) =
        if factor > limits.min { (Rule::ReplicasKeepHomes, factor) } else { (Rule::Bounds, limits.min) };
    (world.set.replicas < least).then_some((rule, least))
}

/// Why one member fewer is not allowed; `None` where it is.
fn too_few(limits: Limits, world: &World, record: &ClusterRecord) -> Option<(Rule, String)> {
    let size = u32::try_from(record.members.len()).unwrap_or(u32::MAX);
    let left = size.saturating_sub(1);
    if left < limits.min {
        return Some((Rule::Bounds, format!("{left} members would stay, the policy wants at least {}", limits.min)));
    }
    match replication(world, record) {
        Some(factor) if left < factor => Some((
            Rule::ReplicasKeepHomes,
            format!("{left} members would stay for a replication factor of {factor}: lower it first"),
        )),
        Some(_) => None,
        None => Some((Rule::UnknownHolds, "no member could tell its replication factors".to_owned())),
    }
}

/// Whether a member beyond the size may begin to leave.
pub(crate) fn begin(plan: Plan, limits: Limits, world: &World, facts: &RecordFacts) -> Decision {
    let record = &facts.record;
    let Some((name, ordinal, member)) = beyond(world, record, world.set.replicas) else {
        return Ok(plan);
    };
    // A size that will never be allowed is answered at once, not when the last allowed leave is over: until then the
    // pods beyond it would end one by one, and nobody would bring them back.
    let never = never_allowed(limits, world, record).map(|(rule, least)| {
        let why = format!("{} members are wanted, at least {least} are needed", world.set.replicas);
        (rule, why, least.min(world.set.size_including(ordinal)))
    });
    let refused = match never {
        Some(never) => Some(never),
        None => too_few(limits, world, record).map(|(rule, why)| (rule, why, world.set.size_including(ordinal))),
    };
    if let Some((rule, why, size)) = refused {
        if rule == Rule::UnknownHolds {
            return Ok(plan.wait(name, rule, why));
        }
        let message = format!("{name} stays: {why}");
        if !refusal_is_recorded(record, &message) {
            return write(plan, world, facts, |r| record_refusal(r, rule, &message), rule, message.clone());
        }
        let target = world.set.object.target(world.epoch)?;
        let mut plan =
            plan.act(Act::Scale(target, size), name, rule, format!("{message}; the size is raised back to {size}"));
        if let Some(reason) = plan.reasons.last_mut() {
            reason.verdict = Verdict::Refuse;
        }
        return Ok(plan);
    }
    if world.patience {
        return Ok(plan.wait_one_old_lease(name));
    }
    if let Some(why) = settling(limits.settle, world) {
        return Ok(plan.wait(name, Rule::Settle, why));
    }
    // Without its pod the leave can only begin with bringing it back, and others beyond the size with it: to wait for
    // them to serve would be to wait for ever. Before the leave is granted all of them are asked for again.
    if world.pods.contains_key(name) {
        if let Some(why) = not_all_serving(world, record, Some(name)) {
            return Ok(plan.wait(name, Rule::AllServing, why));
        }
        if let Some(why) = schema_unsettled(world, record, Some(name)) {
            return Ok(plan.wait(name, Rule::SchemaAgreed, why));
        }
    }
    if let Some((identity, _)) = strangers(world, record).into_iter().next() {
        return Ok(plan.wait(name, Rule::OneAtATime, format!("{identity} is in the ring and in no record")));
    }
    let kind = IntentKind::Leave {
        leaver: Voter { name: name.clone(), claim: member.claim.clone() },
        identity: member.identity.clone(),
        size_after: world.set.replicas,
        raised: false,
        raised_to: None,
        granted: false,
    };
    let fact = format!("{name} is beyond the size {}: it leaves for good", world.set.replicas);
    write(plan, world, facts, |r| open(r, world, kind), Rule::LeaveByGrant, fact)
}

/// A leave, until peers have confirmed it, the pod has ended and the size has fallen.
pub(crate) fn carry_on(plan: Plan, limits: Limits, world: &World, facts: &RecordFacts, intent: &Intent) -> Decision {
    let record = &facts.record;
    let IntentKind::Leave { leaver, identity, size_after, raised, granted, .. } = &intent.kind else {
        return Ok(plan);
    };
    let name = &leaver.name;
    if !record.members.contains_key(name) {
        return finish(plan, limits, world, facts, intent);
    }
    let report = world.live_report(name);
    let phase = report.map(|r| r.database.phase);
    let quiet = match phase {
        Some(phase) => matches!(phase, DatabasePhase::Left | DatabasePhase::Stopped | DatabasePhase::Held),
        None => !world.pods.contains_key(name),
    };
    let said = peers_say(world, record, name, identity);
    match &said {
        PeersSay::Gone if quiet => {
            let retirement =
                Retirement { name: name.clone(), claim: leaver.claim.clone(), operation: intent.operation.clone() };
            let fact = format!("peers see {identity} gone: {name} has left and its identity is retired");
            return write(
                plan,
                world,
                facts,
                |r| {
                    r.members.remove(name);
                    r.retired.insert(identity.clone(), retirement);
                    without_voter(r, name);
                },
                Rule::PeersDecide,
                fact,
            );
        }
        PeersSay::Gone if will_not_come_up(phase) => {
            if let Some(report) = report.filter(|r| !told_to_end(r, intent)) {
                let kind = OrderKind::EndAfterLeave;
                let pod = report.about.pod.clone();
                let act = Act::Order { to: name.clone(), pod, operation: intent.operation.clone(), kind };
                let fact =
                    "peers see it gone, and its database is started in vain: it ends before its identity is retired";
                return Ok(plan.act(act, name, Rule::PeersDecide, fact));
            }
        }
        PeersSay::Gone | PeersSay::Normal | PeersSay::Unsettled(_) => {}
    }
    let pod = world.pods.get(name);
    if pod.is_none() {
        return bring_back(plan, world, facts, intent);
    }
    let Some(report) = report else {
        return Ok(plan.wait(
            name,
            Rule::UnknownHolds,
            "the leaving pilot has not been heard; its launcher may still carry the leave out",
        ));
    };
    let obeyed = report.mesh.obeyed.as_ref() == Some(&(intent.operation.clone(), OrderName::Leave));
    // A report may lag behind what its pilot was told: one that leaves is under way, whoever told it.
    let leaving = report.database.phase == DatabasePhase::Leaving;
    if obeyed || (leaving && !granted) {
        let progress =
            report.database.streaming.map_or(String::new(), |p| format!(", {} of {} bytes", p.done, p.total));
        let heard = match said {
            PeersSay::Unsettled(heard) => format!("; {heard}"),
            PeersSay::Gone | PeersSay::Normal => String::new(),
        };
        return Ok(plan.wait(
            name,
            Rule::PeersDecide,
            format!("{name} is {}{progress}{heard}", phase_word(report.database.phase)),
        ));
    }
    if world.patience {
        return Ok(plan.wait_one_old_lease(name));
    }
    if let Some((rule, why)) = too_few(limits, world, record) {
        if rule == Rule::UnknownHolds || *granted {
            return Ok(plan.wait(name, rule, format!("it is not told to leave as long as this holds: {why}")));
        }
        // The facts changed before the grant: nothing irreversible has begun, so the intent is withdrawn.
        let message = format!("{name} stays: {why}");
        let change = |r: &mut ClusterRecord| {
            r.intent = None;
            // A size that was raised stays so: that is the answer to who wanted less.
            if *raised {
                record_refusal(r, rule, &message);
            }
        };
        return write(plan, world, facts, change, rule, message.clone());
    }
    if !granted
        && !raised
        && let Some(lost) = replace::lost(world, record)
    {
        let fact = format!("{name} leaves later: the data of {lost} is lost");
        return write(plan, world, facts, |r| r.intent = None, Rule::AllServing, fact);
    }
    let still_surplus = name.ordinal().is_some_and(|o| world.set.would_be_beyond(*size_after, o));
    if !granted && !raised && world.set.declared().contains(name) && still_surplus {
        return write(
            plan,
            world,
            facts,
            |r| r.intent = None,
            Rule::LeaveByGrant,
            format!("{name} is wanted again before its leave was granted: it stays"),
        );
    }
    if report.database.phase != DatabasePhase::Serving && !leaving {
        return Ok(plan.wait(
            name,
            Rule::UnfinishedLeave,
            format!("{name} is {}: it must serve before it can leave", phase_word(report.database.phase)),
        ));
    }
    if let Some(why) = not_all_serving(world, record, Some(name)) {
        return Ok(plan.wait(name, Rule::AllServing, why));
    }
    if !granted {
        return write(
            plan,
            world,
            facts,
            |r| {
                if let Some(Intent { kind: IntentKind::Leave { granted, .. }, .. }) = &mut r.intent {
                    *granted = true;
                }
            },
            Rule::LeaveByGrant,
            "enough members stay and all of them serve: the grant is recorded before it is told",
        );
    }
    Ok(plan.act(
        Act::Order {
            to: name.clone(),
            pod: report.about.pod.clone(),
            operation: intent.operation.clone(),
            kind: OrderKind::Leave { identity: identity.clone() },
        },
        name,
        Rule::LeaveByGrant,
        "its leave is granted, enough members stay and all of them serve: it may leave",
    ))
}

/// A database that has left refuses to start again: its launcher, which has not heard of that, tries and tries. One that starts
/// just now may come up as a member as well: it was killed while it announced that it had left.
fn will_not_come_up(phase: Option<DatabasePhase>) -> bool {
    matches!(phase, Some(DatabasePhase::Restarting | DatabasePhase::CrashLooping))
}

fn told_to_end(report: &Report, intent: &Intent) -> bool {
    report.mesh.obeyed.as_ref() == Some(&(intent.operation.clone(), OrderName::EndAfterLeave))
}

/// Its pod ended before it had left: the size is raised so that the pod returns on its claim and the leave goes on.
fn bring_back(plan: Plan, world: &World, facts: &RecordFacts, intent: &Intent) -> Decision {
    let IntentKind::Leave { leaver: Voter { name, .. }, size_after, raised, raised_to, .. } = &intent.kind else {
        return Ok(plan);
    };
    if world.set.declared().contains(name) {
        return Ok(plan.wait(name, Rule::UnfinishedLeave, "its pod is on its way back"));
    }
    let wanted = world.set.replicas;
    if !raised || raised_to.is_some() || *size_after != wanted {
        // Whatever size stands here now was set by a user: it is what the size falls to in the end.
        let fact = if *raised {
            format!("the size {wanted} is wanted when {name} has left")
        } else {
            format!("the pod of {name} ended before it had left: it is brought back")
        };
        return write(
            plan,
            world,
            facts,
            |r| {
                if let Some(Intent { kind: IntentKind::Leave { raised, raised_to, size_after, .. }, .. }) =
                    &mut r.intent
                {
                    *raised = true;
                    *raised_to = None;
                    *size_after = wanted;
                }
            },
            Rule::UnfinishedLeave,
            fact,
        );
    }
    let Some(ordinal) = name.ordinal() else {
        return Ok(plan.wait(name, Rule::UnknownHolds, "its name carries no ordinal"));
    };
    let size = world.set.size_including(ordinal);
    let target = world.set.object.target(world.epoch)?;
    Ok(plan.act(
        Act::Scale(target, size),
        name,
        Rule::UnfinishedLeave,
        format!("the size is raised to {size} until it has left"),
    ))
}

/// The leave of the member with the highest ordinal beyond what is wanted, while the size is raised to `to`.
pub(crate) fn under_a_raised_size(world: &World, record: &ClusterRecord, to: u32, after: u32) -> Option<IntentKind> {
    let (name, _, member) = beyond(world, record, after)?;
    Some(IntentKind::Leave {
        leaver: Voter { name: name.clone(), claim: member.claim.clone() },
        identity: member.identity.clone(),
        size_after: after,
        raised: true,
        raised_to: Some(to),
        granted: false,
    })
}

/// Peers have confirmed: mark the claim, end the pod, let the size fall, close the intent.
fn finish(plan: Plan, limits: Limits, world: &World, facts: &RecordFacts, intent: &Intent) -> Decision {
    let record = &facts.record;
    let IntentKind::Leave { leaver, identity, size_after, raised, raised_to, .. } = &intent.kind else {
        return Ok(plan);
    };
    let name = &leaver.name;
    if world.claims.get(name).is_some_and(|c| c.object.uid == leaver.claim) {
        let wanted = ClaimMarks { cluster: record.cluster.clone(), identity: Some(identity.clone()), retired: true };
        if let Some(plan) = mark(&plan, world, name, wanted)? {
            return Ok(plan);
        }
    }
    if let Some(report) = world.live_report(name) {
        let told = told_to_end(report, intent);
        // A database may end by itself once it has left; its launcher and pilot wait for this word in the pod of the leave,
        // which may come to end only when others beyond the size have left as well. In a later pod there is nothing to end.
        let ended = matches!(report.database.phase, DatabasePhase::Held | DatabasePhase::Stopped)
            && !report.database.terminating
            && report.mesh.obeyed.as_ref() != Some(&(intent.operation.clone(), OrderName::Leave));
        if !told && !ended {
            return Ok(plan.act(
                Act::Order {
                    to: name.clone(),
                    pod: report.about.pod.clone(),
                    operation: intent.operation.clone(),
                    kind: OrderKind::EndAfterLeave,
                },
                name,
                Rule::PeersDecide,
                "it has left: its process may end",
            ));
        }
    }
    let raised_to = raised_to.or_else(|| name.ordinal().map(|ordinal| world.set.size_including(ordinal)));
    if *raised && raised_to == Some(world.set.replicas) && *size_after < world.set.replicas {
        // With the size all pods beyond it end at once, and with them perhaps the majority: they leave before. One that may
        // not leave is answered as any other that a user wants gone.
        if let Some(kind) = under_a_raised_size(world, record, world.set.replicas, *size_after)
            && too_few(limits, world, record).is_none()
        {
            let next = &kind.subject().name;
            let fact = format!("{name} has left, and {next} leaves next: then the size may fall to {size_after}");
            return write(plan, world, facts, |r| open(r, world, kind), Rule::UnfinishedLeave, fact);
        }
        let target = world.set.object.target(world.epoch)?;
        return Ok(plan.act(
            Act::Scale(target, *size_after),
            name,
            Rule::UnfinishedLeave,
            format!("it has left: the size falls to {size_after}"),
        ));
    }
    match world.pods.get(name) {
        Some(pod) if pod.terminating => Ok(plan.wait(name, Rule::LeaveByGrant, "it has left; its pod is ending")),
        Some(_) if !world.set.declared().contains(name) => {
            Ok(plan.wait(name, Rule::LeaveByGrant, "it has left; its pod is about to be told"))
        }
        Some(_) | None => write(
            plan,
            world,
            facts,
            |r| r.intent = None,
            Rule::LeaveByGrant,
            format!("{name} has left and its pod has ended: {} is complete", intent.operation),
        ),
    }
}
