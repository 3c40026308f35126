//! Taking, renewing and giving back the Lease.

use super::coordinator::{Leadership, lost};
use super::pause::doubled;
use super::{CALL, FRESH_ORDER, LISTEN, Pilot, Purpose};
use crate::effect::Effect;
use crate::kubernetes::call::{Answer, Call, Failure, LeaseContent, LeaseFacts};
use policies::election::{TakeOver, candidates, majority_holds_it_lost, next_candidate};
use policies::plan::{Reason, Rule, Verdict};
use policies::world::ResourceVersion;
use protocol::epoch::Epoch;
use protocol::id::{PilotId, PilotName};
use protocol::message::Message;
use protocol::record::ClusterRecord;
use protocol::time::{Millis, Timestamp};
use std::time::Duration;

/// The duration of a Lease that its holder gave back (as client-go writes it): whoever emptied a Lease in another way
/// leaves a holder behind that may still believe in it.
const RELEASED: Millis = Millis(1000);

/// The pause after a try to take the Lease that was not let through, as when another was quicker.
const AGAIN: Duration = Duration::from_millis(300);
/// It is doubled with each further one in a row, up to this: where a Role forbids it, or a front end that lags shows a
/// Lease of before, no try will do.
const AGAIN_AT_LEAST_EVERY: Duration = Duration::from_millis(2400);

/// What a candidate knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Election {
    /// Since when nobody is known to coordinate.
    nobody_since: Option<Timestamp>,
    /// Not before this.
    next_try: Timestamp,
    /// Tries to take the Lease in a row that the API did not let through.
    failures: u32,
    /// The Lease as last seen, and since when it has not changed.
    seen: Option<(LeaseFacts, Timestamp)>,
    lease_answer: Option<Option<LeaseFacts>>,
    record_answer: Option<Option<ClusterRecord>>,
    /// When a try to take the Lease at this epoch was first sent that nobody has answered.
    unanswered: Option<(Epoch, Timestamp)>,
    /// The coordinator that said goodbye, and the epoch it gave up.
    left: Option<(PilotId, Epoch)>,
    /// Leadership given up, and the Lease that is still to be released.
    parting: Option<Parting>,
    /// Hold back after waking or giving up.
    hold_until: Timestamp,
}

/// A Lease that is given back as soon as nothing is on its way that was sent under it.
#[derive(Debug, Clone)]
struct Parting {
    epoch: Epoch,
    lease: LeaseFacts,
    next: Option<PilotId>,
    /// No order of an earlier holder may run any more.
    orderly: bool,
    until: Timestamp,
}

/// A pilot that was told to end does so within this, unless the database beside it is ending too.
const END_WITHIN: Duration = PART_WITHIN.saturating_add(CALL);

/// What is on its way when leadership is given up is waited for so long.
const PART_WITHIN: Duration = Duration::from_millis(1500);

impl Election {
    pub(crate) fn woke(&mut self, now: Timestamp) {
        self.nobody_since = None;
        self.seen = None;
        self.hold_until = now.plus(Duration::from_secs(2));
    }

    /// This pilot could lead nobody: it stands back so that others may try.
    pub(crate) fn give_others_time(&mut self, until: Timestamp) {
        self.hold_until = self.hold_until.max(until);
    }

    /// A try to take the Lease came to nothing: the next one waits, the longer the more of them did.
    fn came_to_nothing(&mut self, now: Timestamp) {
        self.next_try = now.plus(doubled(AGAIN, self.failures, AGAIN_AT_LEAST_EVERY));
        self.failures = self.failures.saturating_add(1);
    }

    pub(crate) fn handed_over(&mut self, by: &PilotId, epoch: Epoch) {
        self.left = Some((by.clone(), epoch));
    }

    /// Whether this coordinator said goodbye from this epoch, or from a later one.
    fn has_left(&self, id: &PilotId, epoch: Epoch) -> bool {
        self.left.as_ref().is_some_and(|(left, given_up)| left == id && epoch <= *given_up)
    }

    /// Who asks at a newer epoch than the one it gave up coordinates again.
    pub(crate) fn asked_again(&mut self, by: &PilotId, epoch: Epoch) {
        if self.left.as_ref().is_some_and(|(left, given_up)| left == by && epoch > *given_up) {
            self.left = None;
        }
    }
}

impl Pilot {
    pub(crate) fn elect(&mut self, now: Timestamp) {
        if self.leadership.is_some() {
            self.hold_the_lease(now);
            return;
        }
        if self.election.parting.is_some() {
            self.part(now);
            return;
        }
        if self.in_flight(|p| matches!(p, Purpose::Take { .. } | Purpose::TookIt { .. } | Purpose::Candidacy)) {
            return;
        }
        let listening = self.started.is_none_or(|s| now.since(s) < LISTEN) || self.glance.number == 0;
        if self.leaving
            || self.pod_ends
            || listening
            || self.view.woken
            || !self.floor_known
            || now < self.election.hold_until
        {
            return;
        }
        if let Some((id, epoch)) = self.coordinator(now)
            && !self.election.has_left(&id, epoch)
        {
            self.election.failures = 0;
            self.election.nobody_since = None;
            return;
        }
        let since = *self.election.nobody_since.get_or_insert(now);
        let id = self.setup.id.clone();
        let line = candidates(&self.standing(), &self.view);
        let place = if self.mesh.named {
            Some(0)
        } else {
            line.iter().filter(|c| !self.mesh.found_ended(c)).position(|c| *c == id)
        };
        let Some(place) = place.and_then(|p| u32::try_from(p).ok()) else {
            return;
        };
        let wait = self.setup.rules.step.saturating_mul(place);
        if now < since.plus(wait) || now < self.election.next_try {
            return;
        }
        let pause = if self.hears_a_majority() { Duration::from_millis(500) } else { self.setup.rules.renew_every };
        self.election.next_try = now.plus(pause);
        self.election.lease_answer = None;
        self.election.record_answer = None;
        self.call(now, Purpose::Candidacy, Call::GetLease);
        self.call(now, Purpose::Candidacy, Call::GetRecord);
    }

    /// Whether more than half of the roster it knows is heard, itself included; so it is where nobody counts yet.
    fn hears_a_majority(&self) -> bool {
        let roster = &self.durable.roster;
        let heard = |name: &PilotName| name == self.own() || self.view.hears(name);
        roster.iter().filter(|voter| heard(&voter.name)).count() * 2 > roster.len() || roster.is_empty()
    }

    /// So long a Lease must have been there to be taken before this pilot takes it. Who hears no majority could lead
    /// nobody, and would keep it from those who could: they go first, also where they have to see it run out.
    fn handicap(&self) -> Duration {
        if self.hears_a_majority() {
            return Duration::ZERO;
        }
        let all = self.durable.roster.len().max(self.view.peers.len().saturating_add(1));
        let all = u32::try_from(all).unwrap_or(u32::MAX);
        self.setup.rules.lease.saturating_add(self.setup.rules.step.saturating_mul(all))
    }

    pub(crate) fn candidacy_answer(&mut self, now: Timestamp, result: Result<Answer, Failure>) {
        match result {
            Ok(Answer::Lease(lease)) => {
                if let Some(facts) = &lease {
                    let unchanged = self
                        .election
                        .seen
                        .as_ref()
                        .is_some_and(|(s, _)| s.version == facts.version && s.uid == facts.uid);
                    if !unchanged {
                        let before = self.election.seen.replace((facts.clone(), now)).map(|(seen, _)| seen.content);
                        if let Some(holder) = &facts.content.holder
                            && before
                                .is_some_and(|b| b.holder == facts.content.holder && b.epoch == facts.content.epoch)
                        {
                            // It renews: it only is not heard here.
                            self.mesh.proves(now, holder, facts.content.epoch);
                        }
                    }
                }
                self.election.lease_answer = Some(lease);
            }
            Ok(Answer::Record(record)) => self.election.record_answer = Some(record.map(|r| r.record)),
            Ok(
                Answer::Set(_)
                | Answer::Pods(_)
                | Answer::Claims(_)
                | Answer::OwnPod(_)
                | Answer::OwnClaim(_)
                | Answer::Written,
            )
            | Err(_) => {
                self.election.next_try = now.plus(Duration::from_secs(1));
                return;
            }
        }
        if self.leadership.is_some() {
            return;
        }
        let (Some(lease), Some(record)) = (self.election.lease_answer.clone(), self.election.record_answer.clone())
        else {
            return;
        };
        self.election.lease_answer = None;
        self.election.record_answer = None;
        self.stand(now, lease, record.as_ref());
    }

    /// Takes the Lease if it may be taken.
    fn stand(&mut self, now: Timestamp, lease: Option<LeaseFacts>, record: Option<&ClusterRecord>) {
        let highest = self
            .durable
            .floor
            .max(self.durable.promise.as_ref().map_or(Epoch::NONE, |p| p.epoch))
            .max(record.map_or(Epoch::NONE, |r| r.epoch));
        let cluster = record.map(|r| r.cluster.clone());
        let duration = Millis::from(self.setup.rules.lease);
        let Some(lease) = lease else {
            let epoch = highest.next();
            // A Lease that somebody deleted may have had a holder that still believes in it, and whose orders still run.
            // Only where no epoch was ever heard of is this the first of all.
            let patience = (record.is_some() || highest > Epoch::NONE).then_some(self.setup.rules.lease);
            let content =
                LeaseContent { holder: Some(self.setup.id.clone()), epoch, cluster, duration, transitions: 0 };
            self.call(now, Purpose::Take { patience, epoch }, Call::CreateLease(content));
            return;
        };
        let Some((take, holder)) = self.may_take(now, &lease, record) else {
            return;
        };
        let old = Duration::from(lease.content.duration).max(self.setup.rules.lease);
        let patience = match (take, &holder) {
            // Nobody holds it because its holder gave it back and acts no more; but an order that it gave just before may
            // still be begun.
            (TakeOver::Free, None) if lease.content.duration == RELEASED => Some(FRESH_ORDER),
            // Nobody holds it because somebody emptied it: its holder may not have noticed yet.
            (TakeOver::Free, None) => Some(old),
            (TakeOver::Free | TakeOver::Expired, Some(holder)) if *holder != self.setup.id => None,
            (TakeOver::Free, Some(_)) | (TakeOver::Expired | TakeOver::Early, _) => Some(old),
        };
        let epoch = highest.max(lease.content.epoch).next();
        let content = LeaseContent {
            holder: Some(self.setup.id.clone()),
            epoch,
            cluster: cluster.or(lease.content.cluster),
            duration,
            transitions: lease.content.transitions.saturating_add(1),
        };
        self.call(
            now,
            Purpose::Take { patience, epoch },
            Call::ReplaceLease { uid: lease.uid, version: lease.version, content },
        );
    }

    fn may_take(
        &self,
        now: Timestamp,
        lease: &LeaseFacts,
        record: Option<&ClusterRecord>,
    ) -> Option<(TakeOver, Option<PilotId>)> {
        let since = self.election.seen.as_ref().map(|(_, since)| *since)?;
        let unchanged = now.since(since);
        let handicap = self.handicap();
        // Given back, or this very life's, which lost sight of it.
        let Some(holder) = lease.content.holder.as_ref().filter(|holder| **holder != self.setup.id) else {
            return (unchanged >= handicap).then(|| (TakeOver::Free, lease.content.holder.clone()));
        };
        let wait = Duration::from(lease.content.duration).max(self.setup.rules.step);
        if unchanged >= wait.saturating_add(handicap) {
            return Some((TakeOver::Expired, Some(holder.clone())));
        }
        let roster = record.map_or(self.durable.roster.as_slice(), |r| r.roster.as_slice());
        let told = self.mesh.told_ended(now, holder);
        let ended = self.mesh.found_ended(holder).then(|| holder.clone()).into_iter().collect();
        let lost = majority_holds_it_lost(holder, roster, &self.setup.id.name, &ended, &told, &self.view);
        lost.then(|| (TakeOver::Early, Some(holder.clone())))
    }

    pub(crate) fn take_result(
        &mut self,
        now: Timestamp,
        sent: Timestamp,
        patience: Option<Duration>,
        epoch: Epoch,
        result: Result<Answer, Failure>,
    ) {
        match result {
            Ok(Answer::Lease(Some(lease))) => self.lead(now, sent, patience, epoch, lease),
            Err(Failure::Ambiguous(_)) => {
                // Which of several tries at one epoch landed cannot be told: validity counts from the first of them.
                let first = match self.election.unanswered {
                    Some((of, first)) if of == epoch => first,
                    Some(_) | None => sent,
                };
                self.election.unanswered = Some((epoch, first));
                self.call(now, Purpose::TookIt { sent: first, patience, epoch }, Call::GetLease);
            }
            Ok(_) | Err(Failure::Conflict(_) | Failure::Refused { .. } | Failure::Unreadable(_)) => {
                self.election.came_to_nothing(now);
            }
        }
    }

    /// Nobody said whether the Lease was taken: it was, if it names this life at this epoch.
    pub(crate) fn took_it(
        &mut self,
        now: Timestamp,
        sent: Timestamp,
        patience: Option<Duration>,
        epoch: Epoch,
        result: Result<Answer, Failure>,
    ) {
        if let Ok(Answer::Lease(Some(lease))) = result
            && lease.content.holder.as_ref() == Some(&self.setup.id)
            && lease.content.epoch == epoch
        {
            self.lead(now, sent, patience, epoch, lease);
            return;
        }
        self.election.came_to_nothing(now);
    }

    fn lead(&mut self, now: Timestamp, sent: Timestamp, patience: Option<Duration>, epoch: Epoch, lease: LeaseFacts) {
        let rules = &self.setup.rules;
        if self.leaving || self.pod_ends {
            // It came too late: given back at once, so that nobody waits for it.
            self.give_back(now, &lease, patience.is_none());
            return;
        }
        // It holds for what was written, whatever the policy says meanwhile.
        let until = sent.plus(lease.content.duration.into()).minus(rules.margin);
        if epoch < self.durable.floor || until <= now {
            return;
        }
        let old = patience.map_or(Duration::ZERO, |p| p);
        self.leadership = Some(Leadership::begin(now, epoch, lease, until, now.plus(rules.renew_every), now.plus(old)));
        self.raise_floor(epoch);
        self.election.failures = 0;
        self.election.nobody_since = None;
        self.election.left = None;
        self.mesh.named = false;
        let name = self.setup.id.to_string();
        self.tell(
            now,
            epoch,
            vec![Reason {
                verdict: Verdict::Done,
                subject: name,
                rule: Rule::StampFirst,
                fact: format!("holds the Lease at epoch {epoch}"),
            }],
        );
    }

    /// Renews in time, and lets go in time.
    fn hold_the_lease(&mut self, now: Timestamp) {
        let Some(leading) = &self.leadership else {
            return;
        };
        if now >= leading.valid_until {
            self.step_down(now, "the Lease could not be renewed in time");
            return;
        }
        if self.leaving || now < leading.renew_at {
            return;
        }
        if self.in_flight(|p| matches!(p, Purpose::Renew | Purpose::Renewed { .. } | Purpose::Release)) {
            return;
        }
        let mut content = leading.lease.content.clone();
        content.duration = Millis::from(self.setup.rules.lease);
        if content.cluster.is_none() {
            content.cluster = self.durable.cluster.clone();
        }
        let call =
            Call::ReplaceLease { uid: leading.lease.uid.clone(), version: leading.lease.version.clone(), content };
        self.call(now, Purpose::Renew, call);
    }

    pub(crate) fn renew_result(&mut self, now: Timestamp, sent: Timestamp, result: Result<Answer, Failure>) {
        match result {
            Ok(Answer::Lease(Some(lease))) => self.renewed_as(now, sent, lease),
            Ok(_) | Err(Failure::Refused { .. } | Failure::Unreadable(_)) => self.renew_again(now),
            // A conflict may be our own write of before, whose answer was lost: read and compare.
            Err(Failure::Ambiguous(_) | Failure::Conflict(_)) => {
                // Which of several unanswered renewals landed cannot be told: validity counts from the first of them.
                let first = match &mut self.leadership {
                    Some(leading) => *leading.unanswered.get_or_insert(sent),
                    None => sent,
                };
                self.call(now, Purpose::Renewed { sent: first }, Call::GetLease);
            }
        }
    }

    pub(crate) fn renewed(&mut self, now: Timestamp, sent: Timestamp, result: Result<Answer, Failure>) {
        match result {
            Ok(Answer::Lease(lease)) => {
                let Some(leading) = &self.leadership else {
                    return;
                };
                let why = lost(&self.setup.id, leading.epoch, lease.as_ref());
                match (why, lease) {
                    (Some(why), _) => self.step_down(now, why),
                    (None, Some(lease)) if lease.version != leading.lease.version => self.renewed_as(now, sent, lease),
                    // The renewal was not done (yet): the same content is sent again with a new time.
                    (None, _) => self.renew_again(now),
                }
            }
            Ok(_) | Err(_) => self.renew_again(now),
        }
    }

    fn renewed_as(&mut self, now: Timestamp, sent: Timestamp, lease: LeaseFacts) {
        let until = sent.plus(lease.content.duration.into()).minus(self.setup.rules.margin);
        let next = sent.plus(self.setup.rules.renew_every).max(now);
        if let Some(leading) = &mut self.leadership {
            leading.lease = lease;
            leading.unanswered = None;
            leading.valid_until = leading.valid_until.max(until);
            leading.renew_at = next;
        }
    }

    fn renew_again(&mut self, now: Timestamp) {
        if let Some(leading) = &mut self.leadership {
            leading.renew_at = now.plus(Duration::from_millis(500));
        }
    }

    /// Lets go in memory. What is written in the Lease stays for others to outlive.
    pub(crate) fn step_down(&mut self, now: Timestamp, why: &str) {
        let Some(leading) = self.leadership.take() else {
            return;
        };
        self.pending.retain(|_, p| {
            !matches!(p.purpose, Purpose::Renew | Purpose::Renewed { .. } | Purpose::Observe(_) | Purpose::Act)
        });
        self.election.hold_until = now.plus(Duration::from_secs(2));
        self.election.nobody_since = None;
        let name = self.setup.id.to_string();
        self.tell(
            now,
            leading.epoch,
            vec![Reason {
                verdict: Verdict::Done,
                subject: name,
                rule: Rule::StampFirst,
                fact: format!("steps down from epoch {}: {why}", leading.epoch),
            }],
        );
    }

    /// Gives the Lease back, so that others need not wait: acts no more from here on.
    pub(crate) fn hand_over(&mut self, now: Timestamp, why: &str) {
        let Some(leading) = self.leadership.clone() else {
            return;
        };
        let next = next_candidate(&self.standing(), &self.view, None);
        // What was sent and not answered yet is waited for: an act may still be done under this Lease, and a renewal
        // changes the version that the release must name.
        for pending in self.pending.values_mut() {
            match pending.purpose {
                Purpose::Act => pending.purpose = Purpose::LastAct,
                Purpose::Renew | Purpose::Renewed { .. } => pending.purpose = Purpose::LastRenew,
                Purpose::Learn
                | Purpose::Candidacy
                | Purpose::Take { .. }
                | Purpose::TookIt { .. }
                | Purpose::Release
                | Purpose::Observe(_)
                | Purpose::LastAct
                | Purpose::LastRenew
                | Purpose::Grace
                | Purpose::Whole
                | Purpose::Tell => {}
            }
        }
        self.step_down(now, why);
        if self.view.lonely {
            return;
        }
        let orderly = !leading.is_patient(now);
        let Leadership { epoch, lease, .. } = leading;
        self.election.parting = Some(Parting { epoch, lease, next, orderly, until: now.plus(PART_WITHIN) });
        self.part(now);
    }

    /// Releases the Lease once nothing is on its way any more. An act that stays unanswered keeps it from being released:
    /// it lapses by itself, and whoever takes it over before waits as after any other end.
    fn part(&mut self, now: Timestamp) {
        let Some(Parting { epoch, lease, next, orderly, until }) = self.election.parting.clone() else {
            return;
        };
        let acting = self.in_flight(|p| *p == Purpose::LastAct);
        let renewing = self.in_flight(|p| *p == Purpose::LastRenew);
        if (acting || renewing) && now < until {
            return;
        }
        self.election.parting = None;
        if acting {
            return;
        }
        self.give_back(now, &lease, orderly);
        let names: Vec<_> = self.view.peers.keys().cloned().collect();
        for name in names {
            self.out.push(Effect::Send(name, Message::Handover { epoch, next: next.clone() }));
        }
    }

    /// Writes the Lease as nobody's. It is marked as given back only where nothing that was begun before may still run:
    /// whoever took it while an order of the holder before could run, and hands it on, hands on that patience too.
    fn give_back(&mut self, now: Timestamp, lease: &LeaseFacts, orderly: bool) {
        let mut content = lease.content.clone();
        content.holder = None;
        if orderly {
            content.duration = RELEASED;
        }
        let version: ResourceVersion = lease.version.clone();
        self.call(now, Purpose::Release, Call::ReplaceLease { uid: lease.uid.clone(), version, content });
    }

    /// The renewal that was on its way when leadership was given up: its version is the one to release.
    pub(crate) fn last_renewed(&mut self, result: Result<Answer, Failure>) {
        if let (Some(parting), Ok(Answer::Lease(Some(lease)))) = (&mut self.election.parting, result)
            && lease.content.holder.as_ref() == Some(&self.setup.id)
            && lease.content.epoch == parting.epoch
        {
            parting.lease = lease;
        }
    }

    /// This process was told to end: never the database. A coordinator gives its Lease back first.
    pub(crate) fn terminate(&mut self, now: Timestamp) {
        self.leaving = true;
        if self.leadership.is_some() {
            self.hand_over(now, "this process was told to end");
        }
        self.local.told_to_end(now);
    }

    /// Ends when there is nothing more to do: in an ending pod when the launcher has gone, and nowhere before the Lease is
    /// given back, or cannot be.
    pub(crate) fn end_in_time(&mut self, now: Timestamp) {
        let Some(told) = self.local.told_to_end_at() else {
            return;
        };
        if self.is_ending() {
            return;
        }
        let busy = self.election.parting.is_some()
            || self.in_flight(|p| matches!(p, Purpose::Release | Purpose::Take { .. } | Purpose::TookIt { .. }));
        if !busy || now.since(told) >= END_WITHIN {
            self.out.push(Effect::Exit);
        }
    }
}
