//! From what is known to the one thing to do now. Pure: the same world gives the same plan, whoever asks.
//!
//! Level-triggered: nothing is remembered but the record, so a new coordinator carries on where the last one ended.

use crate::join::Joining;
use crate::plan::{Act, Decision, Plan, Rule};
use crate::policy::Policy;
use crate::world::{RecordFacts, World};
use crate::{join, leave, marks, replace, restart};
use humantime::format_duration;
use protocol::record::{ClusterRecord, Condition, Intent, IntentKind};
use protocol::report::OperationReport;
use std::time::Duration;

/// What the policy allows a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Fewest members.
    pub min: u32,
    /// Most members.
    pub max: u32,
    /// The pause after an operation before a member may join or leave.
    pub settle: Duration,
    /// How members are restarted.
    pub rollout: Roll,
}

/// How members are restarted to a changed template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roll {
    /// So many may be unavailable, the one restarted included.
    pub max_unavailable: u32,
    /// The pause after an operation before the next restart.
    pub settle: Duration,
    /// After so many that did not come back the roll stops.
    pub stop_after: u32,
}

impl From<&Policy> for Limits {
    fn from(policy: &Policy) -> Self {
        Self {
            min: policy.scale.bounds.min,
            max: policy.scale.bounds.max,
            settle: policy.scale.settle,
            rollout: Roll {
                max_unavailable: policy.rollout.max_unavailable,
                settle: policy.rollout.settle,
                stop_after: policy.rollout.stop_after,
            },
        }
    }
}

/// The type of the condition that says a size was asked for and is not carried out.
pub const SIZE_REFUSED: &str = "SizeRefused";

/// Decides the next step of a cluster that has a record. (Founding is decided elsewhere, once.)
///
/// # Errors
/// When an object carries a higher epoch: the decider is not the coordinator any more.
pub fn decide(limits: Limits, world: &World, facts: &RecordFacts) -> Decision {
    let plan = Plan::default();
    let record = &facts.record;
    if record.epoch < world.epoch {
        return write(plan, world, facts, |_| {}, Rule::StampFirst, "the record carries an older epoch");
    }
    let set = world.set.object.target(world.epoch)?;
    if world.set.object.stamp < world.epoch {
        let subject = world.set.object.name.clone();
        return Ok(plan.act(Act::StampSet(set), subject, Rule::StampFirst, "the set carries an older epoch"));
    }
    match &record.intent {
        Some(intent) => carry_on(plan, limits, world, facts, intent),
        None => begin(plan, limits, world, facts),
    }
}

/// What may be done although no majority of the roster answers, or there is no record yet: nothing but making pods anew in
/// which nothing has ever run.
///
/// # Errors
/// As [`decide`].
pub fn without_majority(world: &World) -> Decision {
    Ok(restart::make_anew_what_never_ran(&Plan::default(), world)?.unwrap_or_default())
}

fn carry_on(mut plan: Plan, limits: Limits, world: &World, facts: &RecordFacts, intent: &Intent) -> Decision {
    plan.operation = Some(OperationReport {
        operation: intent.operation.clone(),
        kind: intent.kind.word().to_owned(),
        subject: intent.kind.subject().name.to_string(),
        step: String::new(),
    });
    if let Some(plan) = leave::let_the_wanted_return(&plan, world, &facts.record) {
        return Ok(plan);
    }
    if let Some(plan) = restart::make_anew_what_never_ran(&plan, world)? {
        return Ok(plan);
    }
    if let Some(plan) = marks::stamp(&plan, world, &facts.record, intent)? {
        return Ok(plan);
    }
    let mut plan = match &intent.kind {
        IntentKind::Form { founder } => join::carry_on_forming(plan, world, facts, intent, founder),
        IntentKind::Join { joiner, move_aside, raised } => {
            let joining = Joining { joiner, move_aside: move_aside.as_ref(), raised: *raised, replaces: None };
            join::carry_on(plan, world, facts, intent, joining)
        }
        IntentKind::Replace { joiner, identity, raised } => {
            let joining = Joining { joiner, move_aside: None, raised: *raised, replaces: Some(identity) };
            join::carry_on(plan, world, facts, intent, joining)
        }
        IntentKind::Leave { .. } => leave::carry_on(plan, limits, world, facts, intent),
        IntentKind::Restart { member, pod } => restart::carry_on(plan, limits, world, facts, member, pod),
    }?;
    if let (Some(operation), Some(reason)) = (&mut plan.operation, plan.reasons.last()) {
        operation.step = reason.fact.chars().take(200).collect();
    }
    Ok(plan)
}

fn begin(plan: Plan, limits: Limits, world: &World, facts: &RecordFacts) -> Decision {
    if let Some(plan) = leave::let_the_wanted_return(&plan, world, &facts.record) {
        return Ok(plan);
    }
    if let Some(plan) = restart::make_anew_what_never_ran(&plan, world)? {
        return Ok(plan);
    }
    if let Some(plan) = marks::next(&plan, world, &facts.record)? {
        return Ok(plan);
    }
    let plan = replace::begin(plan, world, facts)?;
    if plan.act.is_some() || plan.holds_others_up {
        return Ok(plan);
    }
    let plan = leave::begin(plan, limits, world, facts)?;
    if plan.act.is_some() || plan.holds_others_up {
        return Ok(plan);
    }
    let plan = join::begin(plan, limits, world, facts)?;
    if plan.act.is_some() || plan.holds_others_up {
        return Ok(plan);
    }
    restart::begin(plan, limits, world, facts)
}

/// Why the next member may not join or leave yet, after the operation before; `None` where it may.
pub(crate) fn settling(settle: Duration, world: &World) -> Option<String> {
    (world.quiet_for < settle).then(|| format!("{} pass after an operation before the next", format_duration(settle)))
}

/// A plan that writes the record after `change`.
pub(crate) fn write(
    plan: Plan,
    world: &World,
    facts: &RecordFacts,
    change: impl FnOnce(&mut ClusterRecord),
    rule: Rule,
    fact: impl Into<String>,
) -> Decision {
    let target = facts.object.target(world.epoch)?;
    let mut record = facts.record.clone();
    record.epoch = world.epoch;
    change(&mut record);
    let subject = record.cluster.to_string();
    Ok(plan.act(Act::WriteRecord(target, Box::new(record)), subject, rule, fact))
}

/// Opens an intent under the next operation's name.
pub(crate) fn open(record: &mut ClusterRecord, world: &World, kind: IntentKind) {
    let operation = record.name_operation(kind.word(), &kind.subject().name);
    record.next_operation += 1;
    record.intent = Some(Intent { operation, begun: world.epoch, kind });
    record.conditions.retain(|c| c.kind != SIZE_REFUSED && c.kind != replace::DATA_LOST);
}

/// Whether the record says already that this size was refused for this reason.
pub(crate) fn refusal_is_recorded(record: &ClusterRecord, message: &str) -> bool {
    record.conditions.iter().any(|c| c.kind == SIZE_REFUSED && c.status && c.message == message)
}

/// Records that a size was refused.
pub(crate) fn record_refusal(record: &mut ClusterRecord, rule: Rule, message: &str) {
    record.conditions.retain(|c| c.kind != SIZE_REFUSED);
    record.conditions.push(Condition {
        kind: SIZE_REFUSED.to_owned(),
        status: true,
        reason: rule.word().to_owned(),
        message: message.to_owned(),
    });
}
