//! Observe, decide, ask a fresh majority, act one step, observe again.

use super::pause::doubled;
use super::promises::Promises;
use super::{Pilot, Purpose};
use crate::effect::Effect;
use crate::kubernetes::call::{Answer, Call, EventContent, Failure, LeaseFacts};
use bootstrap::formation;
use policies::decide;
use policies::plan::{Act, Plan, Reason, Rule, Verdict};
use policies::world::{ClaimFacts, PilotFacts, PodFacts, RecordFacts, SetFacts, World};
use protocol::epoch::Epoch;
use protocol::id::{PilotId, PilotName, Uid, Voter};
use protocol::message::Message;
use protocol::order::{OrderKind, Outcome};
use protocol::promise::{Promise, Refusal};
use protocol::report::OperationReport;
use protocol::time::Timestamp;
use protocol::view::{Liveness, View};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Between two questions for promises when nothing is to be done.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// A majority must have answered within this, or the coordinator is degraded.
const FRESH: Duration = Duration::from_secs(3);
/// Between two looks at the world when nothing changes.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The same while something is under way.
const LOOK_OFTEN: Duration = Duration::from_secs(2);
/// Shortest time between two looks; doubled with each look or write in a row that came to nothing, up to `LOOK_OFTEN`,
/// and up to `LOOK_EVERY` where the API says no: a Role or a webhook does not change its mind within seconds.
const LOOK_AT_MOST: Duration = Duration::from_millis(250);
/// The same after a look that found nothing to do, whatever is heard of others meanwhile.
const LOOK_FOR_NEWS: Duration = Duration::from_millis(500);

/// Every so many rounds the roster is told in full, also to who knows it.
const TOLD_IN_FULL: u64 = 16;
/// Between two tries to tell a pilot to drain and return.
const TELL_AGAIN: Duration = Duration::from_secs(5);
/// The first pause after an eviction that a budget refused; doubled with each refusal in a row.
const EVICT_AGAIN: Duration = Duration::from_secs(30);
/// The longest pause between two tries to evict a pod.
const EVICT_AT_LEAST_EVERY: Duration = Duration::from_secs(600);

/// An eviction that was refused.
#[derive(Debug, Clone)]
struct RefusedEviction {
    refusals: u32,
    /// It is not asked for again before.
    until: Timestamp,
    why: String,
}

/// What a coordinator has.
#[derive(Debug, Clone)]
pub(crate) struct Leadership {
    pub(crate) epoch: Epoch,
    pub(crate) lease: LeaseFacts,
    /// It acts no more from here on.
    pub(crate) valid_until: Timestamp,
    pub(crate) renew_at: Timestamp,
    /// When the first of the renewals was sent whose fate is not known.
    pub(crate) unanswered: Option<Timestamp>,
    /// An order of the holder before may run until then.
    patience_until: Timestamp,
    pub(crate) round: u64,
    asked_at: Option<Timestamp>,
    promises: Promises,
    majority_at: Option<Timestamp>,
    began: Timestamp,
    refusals: BTreeMap<PilotName, String>,
    /// Whom it has told this roster on the stream that stands, and since which round: whoever has promised in that round
    /// or later knows it. To tell all of it to all of them each second would grow with the square of their number.
    told: BTreeMap<PilotName, u64>,
    step: Step,
    observing: u64,
    pub(crate) poked: bool,
    looked_at: Timestamp,
    /// Shortest time before the next look.
    rest: Duration,
    hurry: bool,
    pub(crate) operation: Option<OperationReport>,
    pub(crate) degraded: Option<String>,
    /// What the last look found that may be done without a majority, until it is done.
    harmless: Plan,
    /// Whom it told to drain and return, and when.
    told_to_return: BTreeMap<PilotName, Timestamp>,
    /// Evictions that were refused, by the pod's uid.
    evictions_refused: BTreeMap<Uid, RefusedEviction>,
    /// Since then it has seen no operation under way.
    quiet_since: Timestamp,
    /// Since then no look at the world has come to its end.
    blind_since: Option<Timestamp>,
}

/// Where a coordinator stands between looking and acting.
#[derive(Debug, Clone)]
enum Step {
    /// Nothing until something changes or the time has come.
    Idle,
    /// Reading the world.
    Looking(Look),
    /// Decided; waiting for promises younger than what was decided on.
    Asking { act: Box<Act>, reasons: Vec<Reason>, round: u64, since: Timestamp },
    /// Sent; waiting for the answer.
    Acting,
}

#[derive(Debug, Clone, Default)]
struct Look {
    /// The Lease shows the last renewal: the server that answers keeps up.
    keeps_up: bool,
    set: Option<SetFacts>,
    pods: Option<BTreeMap<PilotName, PodFacts>>,
    claims: Option<BTreeMap<PilotName, ClaimFacts>>,
    record: Option<Option<RecordFacts>>,
}

impl Leadership {
    pub(crate) fn begin(
        now: Timestamp,
        epoch: Epoch,
        lease: LeaseFacts,
        valid_until: Timestamp,
        renew_at: Timestamp,
        patience_until: Timestamp,
    ) -> Self {
        Self {
            epoch,
            lease,
            valid_until,
            renew_at,
            unanswered: None,
            patience_until,
            round: 0,
            asked_at: None,
            promises: Promises::default(),
            majority_at: None,
            began: now,
            refusals: BTreeMap::new(),
            told: BTreeMap::new(),
            step: Step::Idle,
            observing: 0,
            poked: true,
            looked_at: Timestamp::default(),
            rest: LOOK_AT_MOST,
            hurry: true,
            operation: None,
            degraded: None,
            harmless: Plan::default(),
            told_to_return: BTreeMap::new(),
            evictions_refused: BTreeMap::new(),
            quiet_since: now,
            blind_since: None,
        }
    }

    pub(crate) fn is_valid(&self, now: Timestamp) -> bool {
        now < self.valid_until
    }

    /// Whether an order of the holder before may still run.
    pub(crate) fn is_patient(&self, now: Timestamp) -> bool {
        now < self.patience_until
    }

    /// Nobody is heard although others count: whatever is believed of them is from before, and nothing is acted on.
    pub(crate) fn hears_nobody(&self, view: &View) -> bool {
        view.lonely && self.roster().len() > 1
    }

    /// Something came to nothing: the next look is put off, so that an API that says no is not asked many times a second.
    fn rest_longer(&mut self, failure: &Failure) {
        let longest = match failure {
            Failure::Refused { .. } => LOOK_EVERY,
            Failure::Conflict(_) | Failure::Ambiguous(_) | Failure::Unreadable(_) => LOOK_OFTEN,
        };
        self.rest = self.rest.saturating_mul(2).min(longest);
    }

    /// An order that is refused would be given again at the next look.
    pub(crate) fn order_came_to(&mut self, outcome: &Outcome) {
        self.rest = match outcome {
            Outcome::Obeyed => LOOK_AT_MOST,
            Outcome::Refused(_) => self.rest.saturating_mul(2).min(LOOK_OFTEN),
        };
    }

    /// Whether this pilot has said, since it was told of this roster, that it heard.
    fn knows_roster(&self, name: &PilotName) -> bool {
        self.told.get(name).is_some_and(|told| self.promises.has_answered_since(name, *told))
    }

    /// The stream to this pilot is another one, or gone: what was said over it may be lost.
    pub(crate) fn forget_told(&mut self, name: &PilotName) {
        self.told.remove(name);
    }

    pub(crate) fn has_majority_since(&self, round: u64) -> bool {
        self.promises.are_a_majority_since(round)
    }

    pub(crate) fn promises(&self) -> (usize, usize) {
        (self.promises.since(self.round.saturating_sub(2)), self.roster().len())
    }

    pub(crate) fn roster(&self) -> &[Voter] {
        self.promises.roster()
    }
}

impl Pilot {
    /// Whether this pilot believes that it may begin a change of membership now, and at which epoch: it coordinates, and
    /// whatever an earlier coordinator ordered has lapsed.
    pub fn may_change_membership(&self, now: Timestamp) -> Option<Epoch> {
        self.leadership.as_ref().filter(|l| l.is_valid(now) && now >= l.patience_until).map(|l| l.epoch)
    }

    /// Something changed that a coordinator should look at.
    pub(crate) fn poke(&mut self, now: Timestamp) {
        match &mut self.leadership {
            Some(leading) => leading.poked = true,
            None => {
                if let Some((id, _)) = self.coordinator(now)
                    && self.launcher.as_ref().is_some_and(|s| s.terminating)
                {
                    self.out.push(Effect::Send(id.name, Message::LookAtMe));
                }
            }
        }
    }

    pub(crate) fn coordinate(&mut self, now: Timestamp) {
        let Some(leading) = &self.leadership else {
            return;
        };
        if !leading.is_valid(now) || self.leaving {
            return;
        }
        self.ask_in_time(now);
        self.judge_majority(now);
        self.deliver_ready(now);
        let Some(leading) = &mut self.leadership else {
            return;
        };
        match &leading.step {
            Step::Idle => {
                let pause = if leading.hurry { LOOK_OFTEN } else { LOOK_EVERY };
                let waited = now.since(leading.looked_at);
                if waited >= leading.rest && (leading.poked || waited >= pause) {
                    self.look(now);
                }
            }
            Step::Asking { act, reasons, round, since } => {
                if leading.has_majority_since(*round) {
                    let (act, reasons, epoch) = (act.clone(), reasons.clone(), leading.epoch);
                    if self.act(now, *act) {
                        self.tell(now, epoch, reasons);
                    }
                } else if now.since(*since) > FRESH {
                    let (act, have, of) = (act.clone(), leading.promises.since(*round), leading.roster().len());
                    leading.step = Step::Idle;
                    leading.looked_at = now;
                    leading.poked = false;
                    leading.hurry = true;
                    let epoch = leading.epoch;
                    self.tell(now, epoch, vec![Reason {
                        verdict: Verdict::Refuse,
                        subject: act_word(&act),
                        rule: Rule::UnknownHolds,
                        fact: format!("{have} of {of} pilots of the roster promised, more than half are needed: nothing is done"),
                    }]);
                    // The majority may be in pods that nobody but this one can make anew.
                    self.act_alone(now);
                }
            }
            Step::Looking(_) => {
                if now.since(leading.looked_at) > FRESH {
                    leading.step = Step::Idle;
                }
            }
            Step::Acting => {}
        }
    }

    fn ask_in_time(&mut self, now: Timestamp) {
        let due = self.leadership.as_ref().is_some_and(|l| l.asked_at.is_none_or(|at| now.since(at) >= ASK_EVERY));
        if due {
            self.ask(now);
        }
    }

    /// Opens a new round of promises and returns its number.
    pub(crate) fn ask(&mut self, now: Timestamp) -> u64 {
        let cluster = self.durable.cluster.clone();
        let declared = self.durable.roster.clone();
        let id = self.setup.id.clone();
        let Some(leading) = &mut self.leadership else {
            return 0;
        };
        leading.round += 1;
        leading.asked_at = Some(now);
        let (round, epoch) = (leading.round, leading.epoch);
        let roster = if leading.roster().is_empty() { declared } else { leading.roster().to_vec() };
        let mut names: Vec<PilotName> = roster.iter().map(|v| v.name.clone()).collect();
        // Pilots that do not count yet are told too who coordinates.
        names.extend(self.view.peers.iter().filter(|(_, p)| p.liveness == Liveness::Live).map(|(n, _)| n.clone()));
        names.sort();
        names.dedup();
        let in_full = round % TOLD_IN_FULL == 1;
        for name in names.into_iter().filter(|n| *n != id.name) {
            let told = if !in_full && leading.knows_roster(&name) {
                Vec::new()
            } else {
                leading.told.entry(name.clone()).or_insert(round);
                roster.clone()
            };
            let promise = Promise { epoch, holder: id.clone() };
            let message = Message::Ask { promise, round, cluster: cluster.clone(), roster: told };
            self.out.push(Effect::Send(name, message));
        }
        self.promise_myself(epoch, round);
        round
    }

    pub(crate) fn promised(&mut self, now: Timestamp, who: &PilotName, epoch: Epoch, round: u64, claim: Option<Uid>) {
        let Some(leading) = &mut self.leadership else {
            return;
        };
        if epoch != leading.epoch || round > leading.round {
            return;
        }
        leading.promises.hear(who, round, claim);
        leading.refusals.remove(who);
        if leading.has_majority_since(leading.round.saturating_sub(1).max(1)) {
            leading.majority_at = Some(now);
        }
    }

    pub(crate) fn refused(&mut self, now: Timestamp, who: &PilotName, why: &Refusal) {
        let Some(leading) = &mut self.leadership else {
            return;
        };
        let higher = match why {
            Refusal::Lower { promised, .. } => Some(*promised),
            Refusal::BelowFloor { floor, .. } => Some(*floor),
            Refusal::Taken { epoch, .. } => Some(*epoch),
            Refusal::FloorUnknown => None,
        };
        leading.refusals.insert(who.clone(), why.to_string());
        if let Some(higher) = higher
            && higher >= leading.epoch
        {
            let why = format!("{who} refused its promise: {why}");
            self.raise_floor(higher);
            self.hand_over(now, &why);
        }
    }

    fn judge_majority(&mut self, now: Timestamp) {
        let lease = self.setup.rules.lease;
        let Some(leading) = &mut self.leadership else {
            return;
        };
        let since = leading.majority_at.unwrap_or(leading.began);
        if leading.roster().is_empty() {
            // Before the record is read nobody is counted yet.
            return;
        }
        let alone = leading.hears_nobody(&self.view);
        if now.since(since) <= FRESH && !alone {
            leading.degraded = None;
            return;
        }
        let (have, of) = leading.promises();
        let why = if alone {
            "no other pilot is heard: nothing is decided".to_owned()
        } else {
            format!(
                "{have} of {of} pilots of the roster promised lately, more than half are needed: nothing is decided"
            )
        };
        let news = leading.degraded.is_none();
        leading.degraded = Some(why.clone());
        let epoch = leading.epoch;
        let over = now.since(since) > lease.saturating_mul(2);
        if news {
            self.tell(
                now,
                epoch,
                vec![Reason {
                    verdict: Verdict::Refuse,
                    subject: self.own().to_string(),
                    rule: Rule::UnknownHolds,
                    fact: why,
                }],
            );
        }
        if over {
            self.hand_over(now, "a majority has not been heard for two Leases");
            self.election.give_others_time(now.plus(lease));
        }
    }

    fn look(&mut self, now: Timestamp) {
        let Some(leading) = &mut self.leadership else {
            return;
        };
        leading.observing += 1;
        leading.poked = false;
        leading.looked_at = now;
        leading.step = Step::Looking(Look::default());
        let number = leading.observing;
        // The Lease is the one object that this pilot itself changes all the time: a server that shows an older one than the
        // last renewal lags behind in everything.
        for call in [Call::GetLease, Call::GetSet, Call::ListPods, Call::ListClaims, Call::GetRecord] {
            self.call(now, Purpose::Observe(number), call);
        }
    }

    pub(crate) fn observed(&mut self, now: Timestamp, number: u64, result: Result<Answer, Failure>) {
        let Some(leading) = &mut self.leadership else {
            return;
        };
        let Step::Looking(look) = &mut leading.step else {
            return;
        };
        if number != leading.observing {
            return;
        }
        match result {
            Ok(Answer::Lease(lease)) => match lost(&self.setup.id, leading.epoch, lease.as_ref()) {
                None => look.keeps_up = true,
                Some(why) => {
                    self.step_down(now, why);
                    return;
                }
            },
            Ok(Answer::Set(Some(set))) => look.set = Some(set),
            Ok(Answer::Pods(pods)) => look.pods = Some(pods),
            Ok(Answer::Claims(claims)) => look.claims = Some(claims),
            Ok(Answer::Record(record)) => look.record = Some(record.map(|r| *r)),
            Ok(Answer::Set(None)) => {
                leading.step = Step::Idle;
                leading.hurry = false;
                let epoch = leading.epoch;
                self.tell(
                    now,
                    epoch,
                    vec![Reason {
                        verdict: Verdict::Wait,
                        subject: "set".to_owned(),
                        rule: Rule::UnknownHolds,
                        fact: "the StatefulSet does not exist: nothing is decided".to_owned(),
                    }],
                );
                return;
            }
            Ok(Answer::OwnPod(_) | Answer::OwnClaim(_) | Answer::Written) => {
                return;
            }
            Err(failure) => {
                leading.step = Step::Idle;
                leading.hurry = true;
                leading.rest_longer(&failure);
                let epoch = leading.epoch;
                let blind = now.since(*leading.blind_since.get_or_insert(now));
                self.tell(
                    now,
                    epoch,
                    vec![Reason {
                        verdict: Verdict::Wait,
                        subject: "api".to_owned(),
                        rule: Rule::UnknownHolds,
                        fact: format!("the world could not be read: {failure}"),
                    }],
                );
                let lease = self.setup.rules.lease;
                if blind > lease.saturating_mul(2) {
                    self.hand_over(now, "the world could not be read for two Leases");
                    self.election.give_others_time(now.plus(lease));
                }
                return;
            }
        }
        let Look { keeps_up: true, set: Some(set), pods: Some(pods), claims: Some(claims), record: Some(record) } =
            look.clone()
        else {
            return;
        };
        leading.blind_since = None;
        self.decide(now, set, pods, claims, record);
    }

    fn decide(
        &mut self,
        now: Timestamp,
        set: SetFacts,
        pods: BTreeMap<PilotName, PodFacts>,
        claims: BTreeMap<PilotName, ClaimFacts>,
        record: Option<RecordFacts>,
    ) {
        let own_report = Arc::new(self.report(now));
        let mut pilots: BTreeMap<PilotName, PilotFacts> = self
            .view
            .peers
            .iter()
            .filter_map(|(name, peer)| {
                let report = peer.report.clone()?;
                Some((name.clone(), PilotFacts { liveness: peer.liveness, report }))
            })
            .collect();
        pilots.insert(self.own().clone(), PilotFacts { liveness: Liveness::Live, report: own_report });
        let limits = self.setup.rules.limits;
        let mint = self.setup.mint.clone();
        let Some(leading) = &mut self.leadership else {
            return;
        };
        if record.as_ref().is_some_and(|facts| facts.record.intent.is_some()) {
            leading.quiet_since = now;
        }
        leading.evictions_refused.retain(|uid, _| pods.values().any(|pod| pod.object.uid == *uid));
        leading.told_to_return.retain(|_, at| now.since(*at) < TELL_AGAIN);
        let world = World {
            epoch: leading.epoch,
            set,
            pods,
            claims,
            record,
            pilots,
            lease_cluster: leading.lease.content.cluster.clone(),
            told_to_return: leading.told_to_return.keys().cloned().collect(),
            evictions_refused: leading
                .evictions_refused
                .iter()
                .filter(|(_, refused)| now < refused.until)
                .map(|(uid, refused)| (uid.clone(), refused.why.clone()))
                .collect(),
            patience: now < leading.patience_until,
            quiet_for: now.since(leading.quiet_since),
        };
        let roster = match &world.record {
            Some(facts) => facts.record.roster.clone(),
            None => world
                .set
                .declared()
                .into_iter()
                .filter_map(|name| {
                    let claim = world.claims.get(&name)?.object.uid.clone();
                    Some(Voter { name, claim })
                })
                .collect(),
        };
        if leading.promises.count_for(roster) {
            leading.told.clear();
        }
        let alone = leading.hears_nobody(&self.view);
        let plan = decide::without_majority(&world).and_then(|harmless| {
            leading.harmless = harmless;
            match &world.record {
                // What it knows of others is from before: nothing else is decided on it.
                _ if alone => Ok(Plan::default()),
                None if leading.harmless.act.is_some() => Ok(leading.harmless.clone()),
                None => Ok(formation::found(&world, &mint)),
                Some(facts) => decide::decide(limits, &world, facts),
            }
        });
        if let Some(facts) = &world.record {
            let cluster = facts.record.cluster.clone();
            if self.durable.roster != facts.record.roster {
                self.durable.roster.clone_from(&facts.record.roster);
            }
            if self.durable.cluster.is_none() && facts.record.members.contains_key(self.own()) {
                self.durable.cluster = Some(cluster);
            }
        }
        match plan {
            Err(outranked) => {
                self.raise_floor(outranked.found);
                self.step_down(now, &outranked.to_string());
            }
            Ok(_) if alone => {
                if !self.act_alone(now)
                    && let Some(leading) = &mut self.leadership
                {
                    leading.step = Step::Idle;
                }
            }
            Ok(plan) => self.follow(now, plan),
        }
    }

    /// What needs no majority, by the last look at the world, and once: tells whether anything was done.
    fn act_alone(&mut self, now: Timestamp) -> bool {
        let Some(leading) = self.leadership.as_mut().filter(|l| l.is_valid(now)) else {
            return false;
        };
        let Plan { act: Some(act), reasons, .. } = std::mem::take(&mut leading.harmless) else {
            return false;
        };
        let epoch = leading.epoch;
        self.carry_out(now, act);
        self.tell(now, epoch, reasons);
        true
    }

    fn follow(&mut self, now: Timestamp, plan: Plan) {
        let Some(leading) = &mut self.leadership else {
            return;
        };
        leading.operation = plan.operation;
        leading.hurry = leading.operation.is_some() || !plan.reasons.is_empty();
        let epoch = leading.epoch;
        match plan.act {
            // Why it acts is told when it does: a majority may not let it.
            Some(act) => {
                let round = self.ask(now);
                if let Some(leading) = &mut self.leadership {
                    leading.step = Step::Asking { act: Box::new(act), reasons: plan.reasons, round, since: now };
                }
            }
            None => {
                leading.step = Step::Idle;
                leading.rest = LOOK_FOR_NEWS;
                self.tell(now, epoch, plan.reasons);
            }
        }
    }

    /// The gate: Lease valid, promises of a majority younger than the inputs. Then one write, sent once. Tells whether it
    /// was passed.
    fn act(&mut self, now: Timestamp, act: Act) -> bool {
        let may = |leading: &Leadership| leading.is_valid(now) && !leading.hears_nobody(&self.view);
        if !self.leadership.as_ref().is_some_and(may) {
            return false;
        }
        self.carry_out(now, act);
        true
    }

    /// One write, sent once, or an order announced.
    fn carry_out(&mut self, now: Timestamp, act: Act) {
        let Some(leading) = &mut self.leadership else {
            return;
        };
        let call = match act {
            Act::CreateRecord(record) => Call::CreateRecord(record),
            Act::WriteRecord(target, record) => Call::ReplaceRecord(target, record),
            Act::StampSet(target) => Call::StampSet(target),
            Act::Scale(target, size) => Call::Scale(target, size),
            Act::MarkClaim(target, marks) => Call::MarkClaim(target, marks),
            Act::StampPod(target) => Call::StampPod(target),
            Act::Evict(target) => Call::EvictPod(target),
            Act::Order { to, pod, operation, kind } => {
                if kind == OrderKind::EndAndReturn {
                    leading.told_to_return.insert(to.clone(), now);
                }
                leading.step = Step::Idle;
                leading.looked_at = now;
                leading.poked = false;
                leading.hurry = true;
                self.announce(now, to, pod, operation, kind);
                return;
            }
        };
        leading.step = Step::Acting;
        self.call(now, Purpose::Act, call);
    }

    pub(crate) fn acted(&mut self, now: Timestamp, call: &Call, result: Result<Answer, Failure>) {
        let Some(leading) = &mut self.leadership else {
            return;
        };
        // Whatever came of it is read from the world: nothing is sent again because an answer was lost.
        leading.step = Step::Idle;
        leading.poked = true;
        leading.hurry = true;
        let epoch = leading.epoch;
        match (call, &result) {
            (_, Ok(_)) => leading.rest = LOOK_AT_MOST,
            // It has a pause of its own, which holds nothing else back.
            (Call::EvictPod(target), Err(Failure::Refused { message, .. })) => {
                let refused = leading.evictions_refused.entry(target.uid().clone()).or_insert(RefusedEviction {
                    refusals: 0,
                    until: now,
                    why: String::new(),
                });
                refused.until = now.plus(doubled(EVICT_AGAIN, refused.refusals, EVICT_AT_LEAST_EVERY));
                refused.refusals = refused.refusals.saturating_add(1);
                refused.why.clone_from(message);
            }
            (_, Err(failure)) => leading.rest_longer(failure),
        }
        if let Err(failure) = result {
            leading.looked_at = now;
            self.tell(
                now,
                epoch,
                vec![Reason {
                    verdict: Verdict::Wait,
                    subject: call_word(call).to_owned(),
                    rule: Rule::UnknownHolds,
                    fact: format!("{failure}: looking again"),
                }],
            );
        }
    }

    /// Enters a decision into the log, the story, and where people should see it, an event.
    pub(crate) fn tell(&mut self, now: Timestamp, epoch: Epoch, reasons: Vec<Reason>) {
        let Some(entry) = self.log.enter(now, epoch, reasons) else {
            return;
        };
        if self.leadership.is_some() {
            let notable = entry.reasons.iter().find(|r| match r.verdict {
                Verdict::Refuse => r.rule != Rule::UnknownHolds,
                Verdict::Act => !matches!(r.rule, Rule::StampFirst),
                Verdict::Done | Verdict::Wait => false,
            });
            if let Some(reason) = notable {
                let event = EventContent {
                    reason: reason.rule.word().to_owned(),
                    note: format!("{}: {}", reason.subject, reason.fact),
                    warning: reason.verdict == Verdict::Refuse,
                    unique: format!("{epoch}.{}.{}", self.setup.id.generation.0, entry.number),
                };
                self.call(now, Purpose::Tell, Call::PostEvent(event));
            }
        }
        self.out.push(Effect::Decided(Box::new(entry)));
    }
}

/// Why this Lease, as it was read, is not this pilot's at this epoch any more; `None` where it is.
pub(crate) fn lost(own: &PilotId, epoch: Epoch, lease: Option<&LeaseFacts>) -> Option<&'static str> {
    match lease {
        None => Some("the Lease was deleted"),
        Some(lease) if lease.content.holder.as_ref() == Some(own) && lease.content.epoch == epoch => None,
        Some(_) => Some("another holds the Lease"),
    }
}

fn act_word(act: &Act) -> String {
    match act {
        Act::CreateRecord(_) => "founding".to_owned(),
        Act::WriteRecord(..) => "record".to_owned(),
        Act::StampSet(_) => "stamp".to_owned(),
        Act::StampPod(target) | Act::Evict(target) => target.name().to_owned(),
        Act::Scale(_, size) => format!("size {size}"),
        Act::MarkClaim(target, _) => target.name().to_owned(),
        Act::Order { to, kind, .. } => format!("{} of {to}", kind.name()),
    }
}

fn call_word(call: &Call) -> &'static str {
    match call {
        Call::CreateRecord(_) | Call::ReplaceRecord(..) => "record",
        Call::StampSet(_) => "stamp",
        Call::Scale(..) => "size",
        Call::MarkClaim(..) => "claim",
        Call::StampPod(_) | Call::EvictPod(_) => "pod",
        Call::PostEvent(_) => "event",
        Call::CreateLease(_) | Call::ReplaceLease { .. } | Call::GetLease => "lease",
        Call::GetRecord | Call::GetSet | Call::ListPods | Call::ListClaims | Call::GetOwnPod | Call::GetOwnClaim => {
            "api"
        }
    }
}
