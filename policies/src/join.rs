//! New members: one at a time, by grant, confirmed by those who are members already.

use crate::decide::{Limits, open, record_refusal, refusal_is_recorded, settling, write};
use crate::leave::under_a_raised_size;
use crate::marks::{with_voter, without_voter};
use crate::peers::{
    PeersSay, line_of, most_have_told, not_all_serving, peers_say, peers_see_it_own_data, phase_word, schema_unsettled,
    strangers, without_pod_beyond_the_size,
};
use crate::plan::{Act, Decision, Plan, Rule, Verdict};
use crate::replace;
use crate::world::{Outranked, RecordFacts, World};
use protocol::database::{DatabasePhase, RingStatus, VolumeState};
use protocol::id::{DatabaseIdentity, OperationId, PilotName, Uid, Voter};
use protocol::order::{OldData, OrderKind, OrderName};
use protocol::record::{ClusterRecord, Intent, IntentKind, MemberRecord, Raised};
use protocol::report::Report;

/// The founder's start, until it serves: then it is the first member.
pub(crate) fn carry_on_forming(
    plan: Plan,
    world: &World,
    facts: &RecordFacts,
    intent: &Intent,
    founder: &Voter,
) -> Decision {
    let record = &facts.record;
    let Some(report) = world.live_report(&founder.name) else {
        return Ok(plan.wait(
            &founder.name,
            Rule::FoundOnce,
            "the founder's pilot has not been heard; nobody else may found",
        ));
    };
    if report.about.claim.as_ref() != Some(&founder.claim) {
        return Ok(plan.wait(
            &founder.name,
            Rule::FoundOnce,
            "the founder's volume is another one than the founding named: an approval would have to name it",
        ));
    }
    if let (DatabasePhase::Serving, Some(identity)) = (report.database.phase, &report.database.identity) {
        let member = MemberRecord { claim: founder.claim.clone(), identity: identity.clone() };
        let fact = format!("{} serves as {identity}: the cluster is founded", founder.name);
        return write(
            plan,
            world,
            facts,
            |r| {
                r.members.insert(founder.name.clone(), member);
                r.intent = None;
            },
            Rule::FoundOnce,
            fact,
        );
    }
    let kind = OrderKind::Found { cluster: record.cluster.clone() };
    Ok(order_start(plan, intent, &founder.name, report, kind, Rule::FoundOnce))
}

/// What a join and a replacement have in common: somebody starts as a new member.
#[derive(Clone, Copy)]
pub(crate) struct Joining<'a> {
    /// Who.
    pub(crate) joiner: &'a Voter,
    /// This lies on its claim and is moved aside first.
    pub(crate) move_aside: Option<&'a OldData>,
    /// The size was raised for it.
    pub(crate) raised: Option<Raised>,
    /// Whose part it takes over, where that one's data is lost. That it is not wanted any more, or on another claim, gives no
    /// such join up: the lost member would stay in the ring for ever.
    pub(crate) replaces: Option<&'a DatabaseIdentity>,
}

/// A new member's start, until those who are members see it normal and up.
pub(crate) fn carry_on(
    plan: Plan,
    world: &World,
    facts: &RecordFacts,
    intent: &Intent,
    joining: Joining<'_>,
) -> Decision {
    let record = &facts.record;
    let Joining { joiner, move_aside, raised, replaces } = joining;
    let report = world.live_report(&joiner.name).filter(|r| r.about.claim.as_ref() == Some(&joiner.claim));
    let known = report.and_then(|r| r.database.identity.clone());
    let strange = strangers(world, record);
    let candidate = known.clone().filter(|i| !record.retired.contains_key(i)).or_else(|| {
        let normal: Vec<_> = strange.iter().filter(|(_, s)| *s == RingStatus::Normal).collect();
        match normal.as_slice() {
            [(identity, _)] => Some(identity.clone()),
            [] | [_, ..] => None,
        }
    });
    if let Some(identity) = &candidate {
        match peers_say(world, record, &joiner.name, identity) {
            PeersSay::Normal => {
                let fact = format!("{} is seen normal and up as {identity}", joiner.name);
                let member = MemberRecord { claim: joiner.claim.clone(), identity: identity.clone() };
                let ends = world.pods.get(&joiner.name).is_none_or(|pod| pod.terminating);
                return write(
                    plan,
                    world,
                    facts,
                    |r| {
                        r.members.insert(joiner.name.clone(), member);
                        // A pilot that is silent, or about to go, could be one voter too many: it counts when it is heard
                        // in a pod that stays.
                        if report.is_some() && !ends {
                            with_voter(r, joiner);
                        }
                        close(r, world, raised);
                    },
                    Rule::PeersDecide,
                    fact,
                );
            }
            PeersSay::Gone | PeersSay::Unsettled(_) => {}
        }
    }
    let Some(report) = report else {
        let pod = world.pods.get(&joiner.name);
        let wanted = world.set.declared().contains(&joiner.name);
        let unseen = strange.is_empty() && most_have_told(world, record);
        if pod.is_none() && !wanted && replaces.is_some() && unseen {
            let Some(ordinal) = joiner.name.ordinal() else {
                return Ok(plan.wait(&joiner.name, Rule::UnknownHolds, "its name carries no ordinal"));
            };
            let size = world.set.size_including(ordinal);
            let target = world.set.object.target(world.epoch)?;
            let fact =
                format!("{} is being replaced: the size is raised back to {size} until that is done", joiner.name);
            return Ok(plan.act(Act::Scale(target, size), &joiner.name, Rule::ReplaceByApproval, fact));
        }
        if pod.is_none() && !wanted && unseen {
            return write(
                plan,
                world,
                facts,
                |r| close(r, world, raised),
                Rule::JoinByGrant,
                format!("{} is not wanted any more and no member sees it", joiner.name),
            );
        }
        if pod.is_none()
            && !wanted
            && let [(identity, _)] = strange.iter().collect::<Vec<_>>().as_slice()
            && peers_see_it_own_data(world, record, identity)
        {
            // It came to own data as its pod ended: it is a member with no pod, and has to leave like one. Its pilot
            // counts for nothing until it has been heard.
            let member = MemberRecord { claim: joiner.claim.clone(), identity: identity.clone() };
            let fact =
                format!("{} is not wanted any more, and members see {identity} own data: it has to leave", joiner.name);
            return write(
                plan,
                world,
                facts,
                |r| {
                    r.members.insert(joiner.name.clone(), member);
                    close(r, world, raised);
                },
                Rule::PeersDecide,
                fact,
            );
        }
        let claim = world.claims.get(&joiner.name).map(|c| &c.object.uid).filter(|uid| **uid != joiner.claim);
        if let (Some(claim), Some(identity), true) = (claim, replaces, unseen) {
            let joiner = Voter { name: joiner.name.clone(), claim: claim.clone() };
            let fact = format!("the claim of {} is another one now: {identity} is replaced there", joiner.name);
            let change = |r: &mut ClusterRecord| {
                without_voter(r, &joiner.name);
                if let Some(intent) = &mut r.intent {
                    intent.kind = IntentKind::Replace { joiner, identity: identity.clone(), raised };
                }
            };
            return write(plan, world, facts, change, Rule::ReplaceByApproval, fact);
        }
        if claim.is_some() && unseen {
            return write(
                plan,
                world,
                facts,
                |r| close(r, world, raised),
                Rule::JoinByGrant,
                format!("the claim of {} is another one now and no member sees the old", joiner.name),
            );
        }
        return Ok(plan.wait(&joiner.name, Rule::JoinByGrant, "the joining pilot has not been heard"));
    };
    if report.database.phase == DatabasePhase::Serving || !report.database.wants_start {
        if report.database.phase != DatabasePhase::Serving
            && let Some(plan) = bring_back(&plan, world, facts, joiner, raised)?
        {
            return Ok(plan);
        }
        let heard = match candidate.as_ref().map(|i| peers_say(world, record, &joiner.name, i)) {
            Some(PeersSay::Unsettled(heard)) => format!(": {heard}"),
            Some(PeersSay::Gone | PeersSay::Normal) | None => String::new(),
        };
        let progress =
            report.database.streaming.map_or(String::new(), |p| format!(", {} of {} bytes", p.done, p.total));
        return Ok(plan.wait(
            &joiner.name,
            Rule::PeersDecide,
            format!("{} is {}{progress}{heard}", joiner.name, phase_word(report.database.phase)),
        ));
    }
    if let Some(why) = not_all_serving(world, record, None) {
        let begun_by_nobody = strange.is_empty()
            && replaces.is_none()
            && !matches!(report.database.volume, Some(VolumeState::HoldsUnknown | VolumeState::Unreadable) | None);
        if begun_by_nobody && let Some(lost) = replace::lost(world, record) {
            let fact = format!("{} joins later: the data of {lost} is lost", joiner.name);
            return write(plan, world, facts, |r| close(r, world, raised), Rule::JoinByGrant, fact);
        }
        if begun_by_nobody
            && let Some(gone) = record.members.keys().find(|name| without_pod_beyond_the_size(world, name))
        {
            // Nothing has begun, and that one serves again only under a leave, which no other operation lets begin.
            let fact = format!("{} joins later: {gone} is beyond the size, and has to leave first", joiner.name);
            return write(plan, world, facts, |r| close(r, world, raised), Rule::JoinByGrant, fact);
        }
        if let Some(plan) = bring_back(&plan, world, facts, joiner, raised)? {
            return Ok(plan);
        }
        return Ok(plan.wait(&joiner.name, Rule::AllServing, why));
    }
    let move_aside = match &report.database.volume {
        // Its pilot has lost its memory. When the intent was written nothing lay on this claim that was not to be moved
        // aside, so this is what the join itself began; and as nobody unknown is in the ring, nothing depends on it.
        Some(VolumeState::HoldsUnknown) if strange.is_empty() => Some(OldData::BegunUnder(intent.operation.clone())),
        // Likewise where an older copy of its memory was put back, which names somebody from before.
        Some(VolumeState::Holds(identity))
            if strange.is_empty()
                && (record.retired.contains_key(identity) || never_was_a_member(world, record, report, identity)) =>
        {
            Some(OldData::Of(identity.clone()))
        }
        Some(VolumeState::HoldsUnknown) => {
            let why = "its volume holds data of an unknown identity, and an unknown identity is in the ring";
            return Ok(plan.wait(&joiner.name, Rule::UnknownDataStays, why));
        }
        Some(VolumeState::Empty | VolumeState::Holds(_) | VolumeState::Begun(_) | VolumeState::Unreadable) | None => {
            move_aside.cloned()
        }
    };
    let cluster = record.cluster.clone();
    let (kind, rule) = match replaces {
        None => (OrderKind::Join { cluster, move_aside }, Rule::JoinByGrant),
        Some(identity) => {
            (OrderKind::Replace { cluster, identity: identity.clone(), move_aside }, Rule::ReplaceByApproval)
        }
    };
    Ok(order_start(plan, intent, &joiner.name, report, kind, rule))
}

/// A joiner takes its data from all members. One whose pod was scaled away meanwhile serves again only in a pod, and cannot
/// leave before the join is over: its pod is brought back for so long.
fn bring_back(
    plan: &Plan,
    world: &World,
    facts: &RecordFacts,
    joiner: &Voter,
    raised: Option<Raised>,
) -> Result<Option<Plan>, Outranked> {
    let stays =
        world.set.declared().contains(&joiner.name) && world.pods.get(&joiner.name).is_some_and(|pod| !pod.terminating);
    let missing = facts.record.members.keys().filter(|name| without_pod_beyond_the_size(world, name));
    let Some((ordinal, missing)) = missing.filter_map(|name| Some((name.ordinal()?, name))).max().filter(|_| stays)
    else {
        return Ok(None);
    };
    let needed = Raised { to: world.set.size_including(ordinal), after: world.set.replicas };
    let Raised { to, after } = needed;
    if raised != Some(needed) {
        // Whatever size stands here now was set by a user: it is what the size falls to in the end.
        let fact = format!("{} takes data from {missing}, whose pod has ended: it is brought back", joiner.name);
        let change = |r: &mut ClusterRecord| {
            if let Some(IntentKind::Join { raised, .. } | IntentKind::Replace { raised, .. }) =
                r.intent.as_mut().map(|intent| &mut intent.kind)
            {
                *raised = Some(needed);
            }
        };
        return write(plan.clone(), world, facts, change, Rule::UnfinishedLeave, fact).map(Some);
    }
    let target = world.set.object.target(world.epoch)?;
    let fact =
        format!("the size is raised to {to} until {} has joined, and {missing} has left: then {after}", joiner.name);
    Ok(Some(plan.clone().act(Act::Scale(target, to), missing, Rule::UnfinishedLeave, fact)))
}

/// The join is over. Where the size was raised for it, those beyond what is wanted leave now, and the size falls after the
/// last of them.
fn close(record: &mut ClusterRecord, world: &World, raised: Option<Raised>) {
    record.intent = None;
    let Some(Raised { to, after }) = raised.filter(|raised| raised.to == world.set.replicas) else {
        return;
    };
    if let Some(kind) = under_a_raised_size(world, record, to, after) {
        open(record, world, kind);
    }
}

fn order_start(plan: Plan, intent: &Intent, name: &PilotName, report: &Report, kind: OrderKind, rule: Rule) -> Plan {
    let word = kind.name();
    // That it obeyed once says nothing of what became of it: as long as it asks to start, it is told again.
    if !report.database.wants_start {
        return plan.wait(name, rule, format!("{name} is {}", phase_word(report.database.phase)));
    }
    let fact = match word {
        OrderName::Found => "every declared volume is empty: it starts as the first member",
        OrderName::Join | OrderName::Leave | OrderName::EndAfterLeave | OrderName::EndAndReturn => {
            "all members serve and agree: it may start as a new member"
        }
    };
    plan.act(
        Act::Order { to: name.clone(), pod: report.about.pod.clone(), operation: intent.operation.clone(), kind },
        name,
        rule,
        fact,
    )
}

/// Why a member that is held cannot start as who it was.
fn cannot_return(world: &World, name: &PilotName, member: &MemberRecord) -> Option<(Rule, String)> {
    let database = &world.live_report(name)?.database;
    if !database.wants_start {
        return None;
    }
    match database.volume.as_ref()? {
        VolumeState::Holds(found) if *found != member.identity => Some((
            Rule::UnknownDataStays,
            format!("its volume holds {found} although it is a member as {}", member.identity),
        )),
        VolumeState::Empty
        | VolumeState::Holds(_)
        | VolumeState::HoldsUnknown
        | VolumeState::Begun(_)
        | VolumeState::Unreadable => None,
    }
}

/// Data of this very cluster whose identity is no member's under any name, and which no member sees in the ring. That
/// all members are asked is certain only together with the check that all of them serve, before the join begins.
fn never_was_a_member(world: &World, record: &ClusterRecord, report: &Report, identity: &DatabaseIdentity) -> bool {
    report.about.cluster.as_ref() == Some(&record.cluster)
        && !record.members.values().any(|m| m.identity == *identity)
        && record.members.keys().all(|member| {
            world
                .live_report(member)
                .and_then(|r| r.ring.as_ref())
                .is_some_and(|ring| line_of(ring, identity).is_none())
        })
}

/// The identity as which this pilot's database serves although its join was given up: nobody had seen it come to own its
/// part, because it was cut off or ended in that moment. Whoever owns data is a member, and leaves like one.
fn owns_data_already(
    world: &World,
    record: &ClusterRecord,
    name: &PilotName,
    report: &Report,
) -> Option<DatabaseIdentity> {
    let identity = report.database.identity.as_ref().filter(|_| report.database.phase == DatabasePhase::Serving)?;
    let ours = report.about.cluster.as_ref() == Some(&record.cluster) && !record.retired.contains_key(identity);
    let seen = ours && peers_say(world, record, name, identity) == PeersSay::Normal;
    seen.then(|| identity.clone())
}

/// Whether what lies on this claim was begun by this very cluster and never became, or was, a member's. A member that
/// left it before the operation began had its data moved aside by that.
fn was_given_up(record: &ClusterRecord, report: &Report, claim: &Uid, begun: &OperationId) -> bool {
    let begun = ClusterRecord::operation_number(begun);
    report.about.cluster.as_ref() == Some(&record.cluster)
        && !record.members.values().any(|m| m.claim == *claim)
        && record
            .retired
            .values()
            .filter(|r| r.claim == *claim)
            .all(|r| matches!((ClusterRecord::operation_number(&r.operation), begun), (Some(left), Some(begun)) if left < begun))
}

/// Whether a new member may begin to join, and which.
pub(crate) fn begin(mut plan: Plan, limits: Limits, world: &World, facts: &RecordFacts) -> Decision {
    let record = &facts.record;
    let declared = world.set.declared();
    if let Some(stale) = record.roster.iter().find(|v| {
        !record.members.contains_key(&v.name) && !declared.contains(&v.name) && !world.pods.contains_key(&v.name)
    }) {
        let name = stale.name.clone();
        let fact = format!("{name} never joined and is not wanted any more");
        return write(plan, world, facts, |r| without_voter(r, &name), Rule::OneAtATime, fact);
    }
    for name in &declared {
        if let Some(member) = record.members.get(name) {
            let voter = Voter { name: name.clone(), claim: member.claim.clone() };
            let heard = world.live_report(name).is_some_and(|r| r.about.claim.as_ref() == Some(&voter.claim));
            if heard && !record.roster.contains(&voter) {
                let fact = format!("{name} is a member and is heard again: it counts");
                return write(plan, world, facts, |r| with_voter(r, &voter), Rule::OneAtATime, fact);
            }
            if let Some((rule, why)) = cannot_return(world, name, member) {
                plan.note(Verdict::Refuse, name, rule, why);
            }
            continue;
        }
        let Some(report) = world.live_report(name) else {
            plan.note(Verdict::Wait, name, Rule::JoinByGrant, "its pilot has not been heard");
            continue;
        };
        let Some(claim) = report
            .about
            .claim
            .clone()
            .filter(|c| world.claims.get(name).is_some_and(|facts| &facts.object.uid == c && !facts.terminating))
        else {
            plan.note(
                Verdict::Wait,
                name,
                Rule::UnknownHolds,
                "its pilot and the API do not agree about its claim yet",
            );
            continue;
        };
        if world.pods.get(name).is_some_and(|p| p.terminating) {
            plan.note(Verdict::Wait, name, Rule::JoinByGrant, "its pod is ending");
            continue;
        }
        if let Some(identity) = owns_data_already(world, record, name, report) {
            let member = MemberRecord { claim: claim.clone(), identity: identity.clone() };
            let voter = Voter { name: name.clone(), claim };
            let fact = format!("{name} serves as {identity}, and members see it own data: it is one of them");
            return write(
                plan,
                world,
                facts,
                |r| {
                    r.members.insert(name.clone(), member);
                    with_voter(r, &voter);
                },
                Rule::PeersDecide,
                fact,
            );
        }
        if !report.database.wants_start {
            plan.note(
                Verdict::Wait,
                name,
                Rule::JoinByGrant,
                format!("it is {} and has not asked to start", phase_word(report.database.phase)),
            );
            continue;
        }
        let move_aside = match &report.database.volume {
            Some(VolumeState::Empty) => None,
            Some(VolumeState::Holds(identity)) if record.retired.contains_key(identity) => {
                Some(OldData::Of(identity.clone()))
            }
            // Begun under an operation of this cluster that was given up before it was a member: nothing is lost with it.
            Some(VolumeState::Holds(identity)) if never_was_a_member(world, record, report, identity) => {
                Some(OldData::Of(identity.clone()))
            }
            // Likewise, and nobody ever heard its identity. Who in the ring is nobody's stops every join further down.
            Some(VolumeState::Begun(operation)) if was_given_up(record, report, &claim, operation) => {
                Some(OldData::BegunUnder(operation.clone()))
            }
            Some(VolumeState::Holds(identity)) => {
                plan.note(
                    Verdict::Refuse,
                    name,
                    Rule::UnknownDataStays,
                    format!("its volume holds {identity}, which is neither a member under this name nor retired"),
                );
                continue;
            }
            Some(VolumeState::HoldsUnknown | VolumeState::Begun(_)) => {
                plan.note(
                    Verdict::Refuse,
                    name,
                    Rule::UnknownDataStays,
                    "its volume holds data whose identity is not known",
                );
                continue;
            }
            Some(VolumeState::Unreadable) | None => {
                plan.note(Verdict::Wait, name, Rule::UnknownHolds, "its volume has not been looked at");
                continue;
            }
        };
        let size = u32::try_from(record.members.len()).unwrap_or(u32::MAX);
        if size >= limits.max {
            let message = format!(
                "{} members are wanted, the policy allows {}: {name} stays held",
                world.set.replicas, limits.max
            );
            if !refusal_is_recorded(record, &message) {
                return write(
                    plan,
                    world,
                    facts,
                    |r| record_refusal(r, Rule::Bounds, &message),
                    Rule::Bounds,
                    message.clone(),
                );
            }
            plan.note(Verdict::Refuse, name, Rule::Bounds, message);
            continue;
        }
        if world.patience {
            return Ok(plan.wait_one_old_lease(name));
        }
        if let Some(why) = settling(limits.settle, world) {
            return Ok(plan.wait(name, Rule::Settle, why));
        }
        if let Some(why) = not_all_serving(world, record, None) {
            return Ok(plan.wait(name, Rule::AllServing, why));
        }
        if let Some(why) = schema_unsettled(world, record, None) {
            return Ok(plan.wait(name, Rule::SchemaAgreed, why));
        }
        if let Some((identity, _)) = strangers(world, record).into_iter().next() {
            return Ok(plan.wait(name, Rule::OneAtATime, format!("{identity} is in the ring and in no record")));
        }
        let joiner = Voter { name: name.clone(), claim };
        let fact = format!("{name} asks to start and {} members are wanted: it joins", world.set.replicas);
        return write(
            plan,
            world,
            facts,
            |r| open(r, world, IntentKind::Join { joiner, move_aside, raised: None }),
            Rule::JoinByGrant,
            fact,
        );
    }
    Ok(plan)
}
