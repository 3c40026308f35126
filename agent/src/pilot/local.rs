//! Care for the own member: what needs nobody, and the gate before its start.

use super::durable::Obeyed;
use super::pause::{Chore, Pauses};
use super::{CALL, Pilot, Purpose};
use crate::effect::{Effect, LocalAct, StartAs};
use crate::kubernetes::call::{Answer, Call, Failure};
use policies::plan::{Reason, Rule, Verdict};
use policies::world::SetFacts;
use protocol::database::{DatabasePhase, RingStatus, VolumeState};
use protocol::id::{DatabaseIdentity, OperationId};
use protocol::launcher::ProcessState;
use protocol::message::Message;
use protocol::order::OrderName;
use protocol::record::IntentKind;
use protocol::time::{Millis, Timestamp};
use std::time::Duration;

/// A returning member waits so long for the addresses of others before it starts with those it has.
const GATHER: Duration = Duration::from_secs(10);
/// An ending member that has heard nothing for so long asks whether its set is still there, and again after as long.
const UNANSWERED: Duration = Duration::from_secs(3);
/// Between two readings of what could not be read.
const AGAIN: Duration = Duration::from_secs(2);

/// What the set means for the ending pod of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SetSays {
    /// There is no set: nobody will decide for its pods, and nothing will leave.
    Gone,
    /// It asks for a pod of this name: the member is to return.
    Return,
    /// It asks for none: a coordinator decides whether the member leaves.
    Beyond,
}

/// What is under way for the own member.
#[derive(Debug, Clone, Default)]
pub(crate) struct Local {
    /// When this process was told to end.
    told_to_end: Option<Timestamp>,
    /// When the launcher was seen to end.
    ending_since: Option<Timestamp>,
    grace_asked: bool,
    /// Since when this member may start as it did before; none as soon as that holds no more.
    may_return: Option<Timestamp>,
    /// When the launcher of a crashed database was told the present addresses.
    refreshed: Option<Timestamp>,
    /// The start that was asked of the launcher last.
    started: Option<(StartAs, Option<DatabaseIdentity>)>,
    /// The join that begins when the old data has been moved aside.
    pub(crate) then_join: Option<OperationId>,
    told_coordinator: Option<Timestamp>,
    /// When it was asked last whether the set of the ending pod is still there.
    asked_for_set: Option<Timestamp>,
    /// What it was told then.
    set_says: Option<SetSays>,
    drained: bool,
    /// Acts under way.
    acts: Vec<(u64, LocalAct)>,
    /// What failed is tried again after these.
    pub(crate) pauses: Pauses,
    /// The life of the launcher in which it was ordered to drain and return.
    pub(crate) return_in: Option<u64>,
    /// What failed last, until it is done or seen to be done.
    pub(crate) trouble: Option<(Chore, String)>,
}

impl Local {
    pub(crate) fn began_to_end(&mut self, now: Timestamp) {
        self.ending_since = Some(now);
    }

    pub(crate) fn forget_looks(&mut self) {
        self.told_coordinator = None;
    }

    /// The identity here has left for good: whatever allowed it to start does not any more.
    pub(crate) fn has_left(&mut self) {
        self.may_return = None;
        self.pauses.forget(Chore::Start);
    }

    pub(crate) fn told_to_end(&mut self, now: Timestamp) {
        self.told_to_end.get_or_insert(now);
    }

    pub(crate) fn told_to_end_at(&self) -> Option<Timestamp> {
        self.told_to_end
    }
}

impl Pilot {
    /// Reads from the API what a new life must know before it promises or starts anything.
    pub(crate) fn learn(&mut self, now: Timestamp) {
        let holds_data = matches!(&self.volume, Some(VolumeState::Holds(_) | VolumeState::HoldsUnknown));
        let held_member = self.is_held() && (self.durable.identity.is_some() || holds_data);
        let done = self.learning.lease_read && self.learning.record.is_some() && self.learning.claim_read;
        // A held member asks again now and then: it may have become startable. So does one that runs and has lost its memory
        // while it joined: the record names it as soon as peers have confirmed it.
        let nameless = self.runs() && self.durable.identity.is_none() && self.database.identity.is_some();
        let unsure = nameless || self.memory_is_older();
        let wait = if done { Duration::from_secs(5) } else { AGAIN };
        if done && !(held_member && self.local.may_return.is_none()) && !unsure {
            return;
        }
        if self.learning.next.is_some_and(|n| now < n) || self.in_flight(|p| *p == Purpose::Learn) {
            return;
        }
        self.learning.next = Some(now.plus(wait));
        if !self.learning.lease_read {
            self.call(now, Purpose::Learn, Call::GetLease);
        }
        self.call(now, Purpose::Learn, Call::GetRecord);
        if !self.learning.claim_read {
            self.call(now, Purpose::Learn, Call::GetOwnClaim);
        }
    }

    pub(crate) fn learnt(&mut self, now: Timestamp, result: Result<Answer, Failure>) {
        match result {
            Ok(Answer::Lease(_)) => self.learning.lease_read = true,
            Ok(Answer::Record(record)) => {
                if let Some(facts) = &record {
                    let record = &facts.record;
                    if record.members.contains_key(self.own()) || self.durable.roster.is_empty() {
                        self.durable.roster = record.roster.clone();
                    }
                }
                self.learning.record = Some(record);
            }
            Ok(Answer::OwnClaim(Some(claim))) => {
                self.learning.claim_read = true;
                self.durable.claim = Some(claim.object.uid);
            }
            Ok(Answer::OwnClaim(None)) => {
                // The set makes it in a moment; without it this pilot counts for nothing.
                self.learning.next = Some(now.plus(Duration::from_millis(500)));
            }
            Ok(Answer::Set(_) | Answer::Pods(_) | Answer::Claims(_) | Answer::OwnPod(_) | Answer::Written) | Err(_) => {
            }
        }
        if !self.floor_known && self.learning.lease_read && self.learning.record.is_some() {
            self.floor_known = true;
            self.keep_then(Vec::new());
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        self.launcher.as_ref().is_some_and(|s| matches!(s.process, ProcessState::Held | ProcessState::Stopped))
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.launcher.as_ref().is_some_and(|s| s.terminating)
    }

    pub(crate) fn care(&mut self, now: Timestamp) {
        self.adopt_identity(now);
        self.learn_identity(now);
        if self.is_ending() {
            self.local.may_return = None;
            self.care_ending(now);
        } else {
            self.care_held(now);
            self.care_crashed(now);
            self.care_broken_join(now);
        }
        self.keep_at_orders(now);
    }

    /// A member whose memory was lost or damaged takes its identity from the record: that its claim is the one the record
    /// names proves that the data on it is this member's. The gate then applies to it as to any other.
    fn adopt_identity(&mut self, now: Timestamp) {
        let older = self.memory_is_older();
        let knows = self.durable.identity.is_some() && !older;
        if knows || !self.claim_is_known() || !self.local.pauses.over(Chore::Memory, now) {
            return;
        }
        let Some(Some(facts)) = &self.learning.record else {
            return;
        };
        let record = &facts.record;
        let Some(member) = record.members.get(self.own()) else {
            return;
        };
        if self.durable.claim.as_ref() != Some(&member.claim) || record.retired.contains_key(&member.identity) {
            return;
        }
        let identity = member.identity.clone();
        let lies_here = self.is_held()
            && match &self.volume {
                Some(VolumeState::HoldsUnknown | VolumeState::Begun(_)) => true,
                Some(VolumeState::Holds(found)) => *found == identity,
                Some(VolumeState::Empty | VolumeState::Unreadable) | None => false,
            };
        let runs_here = self.runs() && self.database.identity.as_ref() == Some(&identity);
        if !lies_here && !runs_here {
            return;
        }
        let (cluster, epoch) = (record.cluster.clone(), record.epoch);
        self.durable.cluster.get_or_insert(cluster);
        self.durable.identity = Some(identity.clone());
        if older {
            self.durable.left = false;
            self.durable.obeyed.clear();
        }
        if lies_here {
            self.volume = Some(VolumeState::Holds(identity.clone()));
        }
        let subject = self.own().to_string();
        self.tell(
            now,
            epoch,
            vec![Reason {
                verdict: Verdict::Done,
                subject,
                rule: Rule::PeersDecide,
                fact: format!("its memory did not say whose data lies here; the record names this claim: {identity}"),
            }],
        );
        self.keep_then(Vec::new());
    }

    /// Whether what it remembers is of a member that was here before the one the launcher may start, or that runs: an older
    /// copy of its memory was put back. What it obeyed then says nothing of this one.
    fn memory_is_older(&self) -> bool {
        let Some(remembered) = &self.durable.identity else {
            return false;
        };
        let permitted = self.launcher.as_ref().and_then(|s| s.permission.as_ref()?.identity.as_ref());
        let here = if self.runs() { self.database.identity.as_ref().or(permitted) } else { permitted };
        here.is_some_and(|here| here != remembered)
    }

    /// The order that this pod's member obeyed last: none where that was another's, see [`Self::memory_is_older`].
    fn last_obeyed(&self) -> Option<(OperationId, OrderName)> {
        if self.memory_is_older() { None } else { self.durable.last_obeyed(&self.setup.pod) }
    }

    pub(crate) fn runs(&self) -> bool {
        self.launcher.as_ref().is_some_and(|s| matches!(s.process, ProcessState::Running { .. }))
    }

    /// The own claim, from the API in this life; or as remembered, where the pod is the one remembered with it: a pod
    /// never changes its claim.
    pub(crate) fn claim_is_known(&self) -> bool {
        self.learning.claim_read || (self.durable.claim.is_some() && self.durable.pod.as_ref() == Some(&self.setup.pod))
    }

    /// An obeyed order whose act the launcher does not show was refused, or lost with an earlier life of this pilot: asked
    /// again, with a pause, until the launcher shows it.
    fn keep_at_orders(&mut self, now: Timestamp) {
        let Some(status) = &self.launcher else {
            return;
        };
        if !self.local.acts.is_empty() || self.leaving {
            return;
        }
        let runs_or_will = matches!(status.process, ProcessState::Running { .. } | ProcessState::Backoff { .. });
        let act = match self.last_obeyed() {
            Some((operation, OrderName::Leave)) => {
                let taken = status.leave.as_ref().is_some_and(|l| l.operation == operation);
                (!taken && !self.durable.left).then_some(LocalAct::Leave { operation })
            }
            Some((operation, OrderName::EndAfterLeave)) => {
                (runs_or_will || status.permission.is_some()).then_some(LocalAct::EndAfterLeave { operation })
            }
            Some((_, OrderName::EndAndReturn)) => {
                let still = status.terminating && self.local.return_in == Some(status.life);
                (still && runs_or_will).then_some(LocalAct::DrainAndStop)
            }
            // Whether a start is still wanted is for the coordinator to say again.
            Some((_, OrderName::Found | OrderName::Join)) | None => None,
        };
        if let Some(act) = act
            && self.local.pauses.over(Chore::from(&act), now)
        {
            let effect = self.local_effect(act);
            self.out.push(effect);
        }
    }

    /// Whether a start that was ordered before may be tried again: nothing is under way, and no pause runs.
    pub(crate) fn may_try_to_start(&self, now: Timestamp) -> bool {
        self.local.acts.is_empty()
            && self.local.pauses.over(Chore::Start, now)
            && self.local.pauses.over(Chore::MoveAside, now)
    }

    /// Likewise for draining.
    pub(crate) fn may_try_to_drain(&self, now: Timestamp) -> bool {
        self.local.acts.is_empty() && self.local.pauses.over(Chore::Drain, now)
    }

    /// The identity the database gave itself is remembered, and the permission on disk is made out to it.
    fn learn_identity(&mut self, now: Timestamp) {
        if !self.local.pauses.over(Chore::Memory, now) || !self.local.pauses.over(Chore::Start, now) {
            return;
        }
        let Some(identity) = self.database.identity.clone() else {
            return;
        };
        let running = self.runs();
        if self.durable.identity.is_none() && running && self.durable.begun_under.is_some() {
            self.durable.identity = Some(identity);
            self.keep_then(Vec::new());
        }
        let permitted =
            self.launcher.as_ref().and_then(|s| s.permission.as_ref()).map(|p| (p.pod.clone(), p.identity.clone()));
        // Done is what the launcher shows, also where the word that it was done got lost.
        if running
            && self.local.acts.is_empty()
            && permitted == Some((self.setup.pod.clone(), self.durable.identity.clone()))
            && self.local.trouble.as_ref().is_some_and(|(chore, _)| *chore == Chore::Start)
        {
            self.local.trouble = None;
        }
        // Not before it serves: a member that returns names itself as a seed, and one that crashed while it still joined
        // would then skip the streaming and own data that it does not have.
        let serves = matches!(self.database.phase, DatabasePhase::Serving | DatabasePhase::Leaving);
        if running
            && serves
            && self.durable.identity.is_some()
            && permitted == Some((self.setup.pod.clone(), None))
            && self.local.started != Some((StartAs::Returner, self.durable.identity.clone()))
            && !self.is_ending()
            && self.local.acts.is_empty()
        {
            let effects = self.start_effect(StartAs::Returner);
            self.keep_then(effects);
        }
    }

    /// The gate: a member that was one before may start again by the API's word, or that of a majority of peers.
    fn care_held(&mut self, now: Timestamp) {
        if !self.may_return() {
            self.local.may_return = None;
            return;
        }
        let since = *self.local.may_return.get_or_insert(now);
        if self.leaving || !self.may_try_to_start(now) || !self.local.pauses.over(Chore::Memory, now) {
            return;
        }
        let others = self.durable.roster.iter().filter(|v| v.name != *self.own()).count();
        let seen = self.view.live().count();
        if seen < others && now.since(since) < GATHER {
            return;
        }
        self.durable.pod = Some(self.setup.pod.clone());
        let effects = self.start_effect(StartAs::Returner);
        self.keep_then(effects);
    }

    /// The launcher starts a crashed database with the addresses it was given once, and all of them may be gone: it is
    /// told the present ones now and then. Where they are the same it changes nothing.
    fn care_crashed(&mut self, now: Timestamp) {
        let Some(status) = &self.launcher else { return };
        let Some(permission) = status.permission.as_ref().filter(|p| p.pod == self.setup.pod) else { return };
        let waits = matches!(status.process, ProcessState::Backoff { .. });
        let due = self.local.refreshed.is_none_or(|at| now.since(at) >= GATHER);
        if !waits
            || !due
            || status.leave.is_some()
            || self.leaving
            || self.database_left()
            || !self.may_try_to_start(now)
        {
            return;
        }
        let founds =
            |o: &Obeyed| o.order == OrderName::Found && Some(&o.operation) == self.durable.begun_under.as_ref();
        let role = match &permission.identity {
            Some(_) => StartAs::Returner,
            None if self.durable.obeyed.iter().any(founds) => StartAs::Founder,
            None => StartAs::Joiner,
        };
        self.local.refreshed = Some(now);
        let effects = self.start_effect(role);
        self.keep_then(effects);
    }

    /// A join whose streams broke off stands still for ever: the database says so and waits for somebody to start it again.
    /// It owns nothing yet, so nothing is lost by that, and it begins anew under the same grant.
    fn care_broken_join(&mut self, now: Timestamp) {
        if !self.runs()
            || self.database.phase != DatabasePhase::JoinFailed
            || self.leaving
            || !self.local.acts.is_empty()
            || !self.local.pauses.over(Chore::Restart, now)
        {
            return;
        }
        let effect = self.local_effect(LocalAct::Restart);
        self.out.push(effect);
    }

    /// Whether what lies here is a current member's, by the API's word or that of peers, and waits to be started.
    fn may_return(&self) -> bool {
        let Some(identity) = &self.durable.identity else {
            return false;
        };
        let lies_here = matches!(&self.volume, Some(VolumeState::Holds(found)) if found == identity);
        self.is_held()
            && lies_here
            && !self.database_left()
            && (self.api_says_current(identity) || self.peers_say_current(identity))
    }

    /// This member has left for good, or its leave program said so in this pod.
    fn database_left(&self) -> bool {
        let said = self.launcher.as_ref().and_then(|s| s.leave.as_ref()).filter(|l| l.done);
        self.durable.left
            || said.is_some_and(|l| self.durable.has_obeyed(&l.operation, OrderName::Leave, &self.setup.pod))
    }

    fn api_says_current(&self, identity: &DatabaseIdentity) -> bool {
        let Some(Some(facts)) = &self.learning.record else {
            return false;
        };
        let record = &facts.record;
        let current = record
            .members
            .get(self.own())
            .is_some_and(|m| m.identity == *identity && self.durable.claim.as_ref() == Some(&m.claim));
        // A granted leave may be over although nobody has written it down yet: then only peers know.
        let may_have_left = record.intent.as_ref().is_some_and(|intent| match &intent.kind {
            IntentKind::Leave { identity: leaver, granted, .. } => leaver == identity && *granted,
            IntentKind::Form { .. }
            | IntentKind::Join { .. }
            | IntentKind::Restart { .. }
            | IntentKind::Replace { .. } => false,
        });
        current && !may_have_left && !record.retired.contains_key(identity)
    }

    /// More than half of the roster's databases see this identity as a member that has not left.
    fn peers_say_current(&self, identity: &DatabaseIdentity) -> bool {
        let roster = &self.durable.roster;
        let says = |name: &protocol::id::PilotName| {
            self.view.live_report(name).is_some_and(|report| {
                report.ring.iter().flat_map(|ring| ring.iter()).any(|line| {
                    line.identity == *identity
                        && matches!(line.status, RingStatus::Normal | RingStatus::Leaving | RingStatus::Shutdown)
                })
            })
        };
        let count = roster.iter().filter(|v| says(&v.name)).count();
        !roster.is_empty() && count * 2 > roster.len() && self.claim_is_known()
    }

    /// The pod, or the database's container, is ending: the coordinator says whether for good.
    fn care_ending(&mut self, now: Timestamp) {
        if self.leadership.is_some() {
            self.hand_over(now, "its pod is ending");
        }
        if !self.local.grace_asked && self.local.pauses.over(Chore::Deadline, now) {
            self.local.grace_asked = true;
            self.call(now, Purpose::Grace, Call::GetOwnPod);
        }
        let (held, obeyed) = (self.is_held(), self.last_obeyed().map(|(_, order)| order));
        let leaves = matches!(obeyed, Some(OrderName::Leave | OrderName::EndAfterLeave));
        // Where nothing runs, nothing has to be drained; and a set deleted as a whole keeps its claims, for a set of
        // that name to come: no member of it leaves, and nobody is there who would say so. Where nobody coordinates, as
        // when all pods are deleted at once and none of their pilots stands, whom the set asks for needs no word to return.
        let returns = match self.local.set_says {
            Some(SetSays::Gone) => true,
            Some(SetSays::Return) => self.coordinator(now).is_none(),
            Some(SetSays::Beyond) | None => false,
        };
        // Who has left and stands is still a pilot of the roster: until the others have recorded that, its voice may be
        // the one they need.
        let unrecorded = held && obeyed == Some(OrderName::Leave) && self.database_left();
        let alone = match unrecorded {
            true => self.local.set_says == Some(SetSays::Gone),
            false => held || (returns && !leaves),
        };
        if alone && !self.local.drained && self.may_try_to_drain(now) {
            self.local.drained = true;
            let effect = self.local_effect(LocalAct::DrainAndStop);
            self.out.push(effect);
            return;
        }
        let due = self.local.told_coordinator.is_none_or(|at| now.since(at) >= CALL);
        if due && let Some((id, _)) = self.coordinator(now) {
            self.local.told_coordinator = Some(now);
            self.out.push(Effect::Send(id.name, Message::LookAtMe));
        }
        // A coordinator would have answered by now.
        let last = self.local.asked_for_set.or(self.local.ending_since);
        if !alone
            && (!leaves || unrecorded)
            && last.is_some_and(|at| now.since(at) >= UNANSWERED)
            && !self.in_flight(|p| *p == Purpose::Whole)
        {
            self.local.asked_for_set = Some(now);
            self.call(now, Purpose::Whole, Call::GetSet);
        }
    }

    pub(crate) fn set_known(&mut self, result: &Result<Answer, Failure>) {
        if let Ok(Answer::Set(set)) = result {
            let beyond = |set: &SetFacts| self.own().ordinal().is_none_or(|ordinal| set.is_beyond(ordinal));
            self.local.set_says = Some(match set {
                None => SetSays::Gone,
                Some(set) if beyond(set) => SetSays::Beyond,
                Some(_) => SetSays::Return,
            });
        }
    }

    pub(crate) fn grace_known(&mut self, now: Timestamp, result: Result<Answer, Failure>) {
        match result {
            Ok(Answer::OwnPod(Some(pod))) if pod.uid == self.setup.pod => {
                if let (Some(grace), Some(since)) = (pod.grace, self.local.ending_since) {
                    let before =
                        self.launcher.as_ref().and_then(|s| s.terminating_for).map_or(Duration::ZERO, Duration::from);
                    let gone = now.since(since) + before;
                    let left = Duration::from(grace).saturating_sub(gone);
                    let effect = self.local_effect(LocalAct::Deadline(Millis::from(left)));
                    self.out.push(effect);
                }
            }
            Err(Failure::Ambiguous(_)) => {
                self.local.pauses.failed(Chore::Deadline, now);
                self.local.grace_asked = false;
            }
            Ok(_) | Err(Failure::Conflict(_) | Failure::Refused { .. } | Failure::Unreadable(_)) => {}
        }
    }

    /// Asks the launcher to start, as this.
    pub(crate) fn start_effect(&mut self, role: StartAs) -> Vec<Effect> {
        // Only a permission made out to an identity says that it has served as that.
        let identity = match role {
            StartAs::Returner => self.durable.identity.clone(),
            StartAs::Founder | StartAs::Joiner => None,
        };
        self.durable.pod = Some(self.setup.pod.clone());
        self.local.started = Some((role, identity.clone()));
        let cluster = self.durable.cluster.clone();
        let replaces = match role {
            StartAs::Joiner => self.durable.replaces.clone(),
            StartAs::Founder | StartAs::Returner => None,
        };
        vec![self.local_effect(LocalAct::Start { role, identity, cluster, replaces })]
    }

    pub(crate) fn local_effect(&mut self, act: LocalAct) -> Effect {
        self.next_local += 1;
        self.local.acts.push((self.next_local, act.clone()));
        Effect::Local(self.next_local, act)
    }

    pub(crate) fn take_local(&mut self, now: Timestamp, id: u64, result: Result<(), String>) {
        let Some(at) = self.local.acts.iter().position(|(i, _)| *i == id) else {
            return;
        };
        let (_, act) = self.local.acts.remove(at);
        match (result, act) {
            (Err(why), act) => {
                self.local.trouble = Some((Chore::from(&act), format!("{}: {why}", act_word(&act))));
                self.local.pauses.failed(Chore::from(&act), now);
                match act {
                    LocalAct::MoveAside { .. } => self.local.then_join = None,
                    LocalAct::DrainAndStop => self.local.drained = false,
                    LocalAct::Start { .. } => self.local.started = None,
                    LocalAct::Deadline(_) => self.local.grace_asked = false,
                    LocalAct::Leave { .. } | LocalAct::EndAfterLeave { .. } | LocalAct::Restart => {}
                }
            }
            (Ok(()), LocalAct::MoveAside { .. }) => {
                self.local.trouble = None;
                self.local.pauses.forget(Chore::MoveAside);
                self.volume = Some(VolumeState::Empty);
                self.durable.identity = None;
                self.durable.left = false;
                if let Some(operation) = self.local.then_join.take() {
                    self.durable.begun_under = Some(operation);
                    let effects = self.start_effect(StartAs::Joiner);
                    self.keep_then(effects);
                }
            }
            (
                Ok(()),
                act @ (LocalAct::Start { .. }
                | LocalAct::Leave { .. }
                | LocalAct::EndAfterLeave { .. }
                | LocalAct::DrainAndStop
                | LocalAct::Restart
                | LocalAct::Deadline(_)),
            ) => {
                self.local.trouble = None;
                self.local.pauses.accepted(Chore::from(&act), now);
            }
        }
        self.poke(now);
    }

    /// Whether this member waits for a coordinator's grant.
    pub(crate) fn wants_start(&self, now: Timestamp) -> bool {
        if !self.is_held()
            || self.is_ending()
            || self.leaving
            || !self.may_try_to_start(now)
            || !self.learning.claim_read
        {
            return false;
        }
        if self.local.then_join.is_some() || self.may_return() {
            return false;
        }
        match (&self.volume, &self.durable.identity) {
            (Some(VolumeState::Empty), _) => true,
            // A member's data waits for the API's word or that of peers; a retired identity's asks to come in anew.
            (Some(VolumeState::Holds(_) | VolumeState::HoldsUnknown | VolumeState::Begun(_)), _) => {
                matches!(&self.learning.record, Some(Some(_)))
            }
            (Some(VolumeState::Unreadable) | None, _) => false,
        }
    }
}

fn act_word(act: &LocalAct) -> &'static str {
    match act {
        LocalAct::Start { .. } => "starting the database",
        LocalAct::Leave { .. } => "leaving",
        LocalAct::EndAfterLeave { .. } => "ending after the leave",
        LocalAct::DrainAndStop => "draining",
        LocalAct::Restart => "restarting the database",
        LocalAct::Deadline(_) => "telling the deadline",
        LocalAct::MoveAside { .. } => "moving old data aside",
    }
}
