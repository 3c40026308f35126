//! What must always hold, judged with the true time and all state. Names as in the design's list of invariants.

use super::agents::Life;
use super::bounds::Bounds;
use super::cluster::LeaseSeen;
use super::planted::Planted;
use super::{World, marks};
use agent::event::CallId;
use agent::kubernetes::call::Call;
use agent::kubernetes::translate::HttpCall;
use protocol::epoch::Epoch;
use protocol::id::{DatabaseIdentity, OperationId, PilotId, PilotName, Uid, Voter};
use protocol::record::{ClusterRecord, Intent, IntentKind};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The invariants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// S-FENCE: no write lands on an object with a higher stamp; all writes of an epoch come from one life.
    Fence,
    /// S-EPOCH: epochs never go back, those promised included, and each has one holder.
    Epoch,
    /// S-VALID: who believes that it coordinates holds an unexpired Lease; two never change membership at a time.
    Valid,
    /// S-CLAIM: nothing is scaled or evicted that does not carry the epoch of who does it.
    Claim,
    /// S-PRE: every write carries uid and resourceVersion.
    Pre,
    /// S-BOOT: one record, one founder.
    Boot,
    /// S-REUSE: no database starts on data of a retired identity.
    Reuse,
    /// S-APPROVE: a member is given up as lost only when a person approved just that, and when no volume holds what it owned.
    Approve,
    /// S-INTENT: a database joins or leaves only under its durable intent.
    Intent,
    /// C-ONE: never two joining or leaving.
    One,
    /// C-RF: no leave that takes data below its number of copies.
    Copies,
    /// C-SEED: who never was a full member does not name itself as a seed.
    Seed,
    /// S-BUDGET: no eviction takes away one member more than the policy allows, or than a user's budget does.
    Budget,
    /// C-DATA: every acknowledged row is read back.
    Data,
    /// C-DRAIN: a leave is over only when others hold what the leaver held.
    Left,
    /// S-LOCAL: no pilot stops a database whose pod is not told to end, and none starts in a pod without its pilot's word.
    Local,
    /// S-QUIET: a cluster at rest is left alone.
    Quiet,
    /// S-BOUND: no pilot asks the API more often than a client may, nor again and again for what comes to nothing.
    Bound,
    /// S-NORETRY: what was sent once is never sent again.
    NoRetry,
    /// D-QUORUM: no act of ours takes the healthy voters of etcd below the quorum that holds then.
    VoterQuorum,
    /// D-ONE: etcd's members change one at a time, and as learners first.
    LearnerFirst,
    /// D-ID: a member's identity ends with its directory.
    MemberIdentity,
    /// D-NEW: a new cluster is begun once.
    NewOnce,
    /// D-REG: what was acknowledged is read by whoever leads.
    Register,
    /// D-STOP: where a quorum is lost nothing is done that discards data.
    DataStays,
    /// What is said between pilots survives the codec.
    Codec,
    /// L-COORD: in the end one coordinator.
    Coordinator,
    /// L-ESR: in the end the size that is wanted, and rest.
    Rest,
    /// S-DET: the same seed gives the same run.
    Deterministic,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fence => "S-FENCE",
            Self::Epoch => "S-EPOCH",
            Self::Valid => "S-VALID",
            Self::Claim => "S-CLAIM",
            Self::Pre => "S-PRE",
            Self::Boot => "S-BOOT",
            Self::Reuse => "S-REUSE",
            Self::Approve => "S-APPROVE",
            Self::Intent => "S-INTENT",
            Self::One => "C-ONE",
            Self::Copies => "C-RF",
            Self::Seed => "C-SEED",
            Self::Budget => "S-BUDGET",
            Self::Data => "C-DATA",
            Self::Left => "C-DRAIN",
            Self::Local => "S-LOCAL",
            Self::Quiet => "S-QUIET",
            Self::Bound => "S-BOUND",
            Self::NoRetry => "S-NORETRY",
            Self::VoterQuorum => "D-QUORUM",
            Self::LearnerFirst => "D-ONE",
            Self::MemberIdentity => "D-ID",
            Self::NewOnce => "D-NEW",
            Self::Register => "D-REG",
            Self::DataStays => "D-STOP",
            Self::Codec => "CODEC",
            Self::Coordinator => "L-COORD",
            Self::Rest => "L-ESR",
            Self::Deterministic => "S-DET",
        })
    }
}

/// A write that reached the API.
pub(crate) struct Commit<'a> {
    pub(crate) now: u64,
    pub(crate) life: Life,
    pub(crate) id: CallId,
    pub(crate) from: &'a PilotId,
    pub(crate) call: &'a Call,
    pub(crate) http: &'a HttpCall,
    /// Uid and stamp of its object before.
    pub(crate) before: Option<(String, u64)>,
    /// Its object is a pod in which nothing has ever run: that needs no majority, so that where somebody took the Lease's
    /// memory away two lives may come to it at one epoch. Nothing can be lost with it.
    pub(crate) untouched: bool,
    pub(crate) committed: bool,
    /// The API said no.
    pub(crate) failed: bool,
}

/// The highest promise that was given from one claim.
#[derive(Debug, Clone)]
struct Word {
    epoch: Epoch,
    to: PilotName,
    /// Somebody has taken the Lease's memory away since it stood there.
    meddled: bool,
    /// The claim's own memory was lost since, or is older: the epoch of the record then.
    forgotten: Option<u64>,
}

/// A word of a pilot about another's silence is believed for so long: where a cut keeps a newer word from coming, the one
/// from before it stands as long as the cut does.
const EVIDENCE_HOLDS: u64 = 60_000;
/// So long before a write, in milliseconds, what it was decided on may have been read: a request and its answer.
const READ_BEFORE: u64 = 5_000;

/// The judge of one run: the first broken rule ends it.
#[derive(Debug, Clone)]
pub struct Oracle {
    /// What was broken first, and how.
    pub verdict: Option<(Rule, String)>,
    pub(crate) lives: BTreeMap<Life, PilotId>,
    planted: Option<Planted>,
    holders: BTreeMap<u64, Life>,
    /// Who wrote the Lease at which epoch, since nobody meddled with it.
    lease_holders: BTreeMap<u64, Life>,
    /// The last write of the Lease by each life: true time, and how long it holds.
    renewals: BTreeMap<Life, (u64, u64)>,
    /// By claim.
    words: BTreeMap<Uid, Word>,
    /// The set was made again: all lives up to this one are of the set before, and so are these objects.
    before: Option<(Life, BTreeSet<String>)>,
    highest: u64,
    record_epoch: u64,
    records: u32,
    founders: u32,
    /// Whoever a record has named as retired: nobody may forget it.
    retired: BTreeSet<DatabaseIdentity>,
    /// Operations that a person has approved.
    pub(crate) approved: BTreeSet<String>,
    /// Replacements that were judged as they began.
    replacements: BTreeSet<OperationId>,
    /// Writes refused because somebody of a higher epoch was there before.
    pub refused: u64,
    /// Writes of anything but the Lease that were committed.
    pub(crate) writes: u64,
    /// Changes of membership begun and ended.
    pub changes: u64,
    pub(crate) bounds: Bounds,
}

impl Oracle {
    pub(crate) fn new(planted: Option<Planted>) -> Self {
        Self {
            verdict: None,
            lives: BTreeMap::new(),
            planted,
            holders: BTreeMap::new(),
            lease_holders: BTreeMap::new(),
            renewals: BTreeMap::new(),
            words: BTreeMap::new(),
            before: None,
            highest: 0,
            record_epoch: 0,
            records: 0,
            founders: 0,
            retired: BTreeSet::new(),
            approved: BTreeSet::new(),
            replacements: BTreeSet::new(),
            refused: 0,
            writes: 0,
            changes: 0,
            bounds: Bounds::default(),
        }
    }

    /// A rule is broken.
    pub(crate) fn broken(&mut self, rule: Rule, how: impl Into<String>) {
        if self.verdict.is_none() {
            self.verdict = Some((rule, how.into()));
        }
    }

    /// Somebody took the Lease's memory away: a candidate that nobody told of an epoch may take it again. What then
    /// holds is that nobody but one life writes anything else at that epoch, which is judged all the same.
    pub(crate) fn lease_is_gone(&mut self) {
        self.lease_holders.clear();
        self.highest = 0;
        for word in self.words.values_mut() {
            word.meddled = true;
        }
    }

    /// What the pilot on this claim remembers is lost, or is older; the record that it can read stands at this epoch.
    pub(crate) fn forgets(&mut self, claim: &Uid, record: u64) {
        if let Some(word) = self.words.get_mut(claim) {
            let known = word.forgotten.get_or_insert(record);
            *known = record.min(*known);
        }
    }

    /// A promise is given from this claim: never lower than one before, nor of the same epoch to another. What was
    /// promised stood in the Lease before, so that also who has forgotten it reads it there; only where somebody took
    /// it out of the Lease the record alone knows, as far as the front end shows it that this pilot reads.
    pub(crate) fn judge_promise(&mut self, by: &PilotId, claim: &Uid, epoch: Epoch, to: &PilotName) {
        if let Some(word) = self.words.get(claim).cloned() {
            let lower = epoch < word.epoch || (epoch == word.epoch && *to != word.to);
            let unknown = word.meddled && word.forgotten.is_some_and(|record| epoch.0 >= record);
            if lower && !unknown {
                let why = format!(
                    "{by} promises epoch {epoch} to {to}; from its claim epoch {} was promised to {}",
                    word.epoch, word.to
                );
                self.broken(Rule::Epoch, why);
            }
            if !lower && epoch == word.epoch {
                return;
            }
        }
        // It may have been taken out between the answer and now.
        let meddled = epoch.0 > self.highest;
        let word = Word { epoch, to: to.clone(), meddled, forgotten: None };
        self.words.insert(claim.clone(), word);
    }

    /// A request is sent.
    pub(crate) fn judge_sent(&mut self, now: u64, life: Life, by: &PilotId) {
        if let Some(why) = self.bounds.sends(now, life) {
            self.broken(Rule::Bound, format!("{by} {why}"));
        }
    }

    /// Nothing is promised in a life that has not read Lease and record.
    pub(crate) fn judge_floor(&mut self, by: &PilotId, epoch: Epoch, read: bool) {
        // The pilot with the planted bug does this by construction; it has to be found by what comes of it.
        if !read && self.planted != Some(Planted::NoFloor) {
            self.broken(Rule::Epoch, format!("{by} promises epoch {epoch} before it has read Lease and record"));
        }
    }

    /// What the founder made is lost before anybody was a member: it founds again.
    pub(crate) fn founding_is_lost(&mut self) {
        self.founders = 0;
    }

    /// Another set of the same name: what held of the old one does not bind it. Only these claims are the old one's.
    pub(crate) fn new_set(&mut self, claims: Vec<String>) {
        self.before = self.lives.keys().max().map(|life| (*life, claims.into_iter().collect()));
        self.holders.clear();
        self.lease_is_gone();
        self.record_epoch = 0;
        self.records = 0;
        self.founders = 0;
    }

    pub(crate) fn judge_write(
        &mut self,
        commit: &Commit<'_>,
        lease: Option<&LeaseSeen>,
        record: Option<&ClusterRecord>,
    ) {
        let Commit { now, life, id, from, call, http, before, untouched, committed, failed } = commit;
        if self.bounds.arrives(*life, *id) {
            self.broken(Rule::NoRetry, format!("{from} sent one call twice: {}", super::api::word(call)));
        }
        if *failed && let Some(why) = self.bounds.fails(*now, *life) {
            self.broken(Rule::Bound, format!("{from} {why}; the last: {}", super::api::word(call)));
        }
        let epoch = match call {
            Call::CreateLease(content) | Call::ReplaceLease { content, .. } => content.epoch.0,
            Call::CreateRecord(record) => record.epoch.0,
            Call::ReplaceRecord(target, _)
            | Call::StampSet(target)
            | Call::Scale(target, _)
            | Call::MarkClaim(target, _)
            | Call::StampPod(target)
            | Call::EvictPod(target) => target.epoch().0,
            Call::GetLease
            | Call::GetRecord
            | Call::GetSet
            | Call::ListPods
            | Call::ListClaims
            | Call::GetOwnPod
            | Call::GetOwnClaim
            | Call::PostEvent(_) => return,
        };
        let creates = matches!(call, Call::CreateLease(_) | Call::CreateRecord(_));
        let evicts = matches!(call, Call::EvictPod(_));
        let meta =
            http.body.as_ref().map(|b| if evicts { &b["deleteOptions"]["preconditions"] } else { &b["metadata"] });
        let guarded = meta.is_some_and(|m| m["uid"].is_string() && m["resourceVersion"].is_string());
        // Some planted bugs break this by construction; they have to be found by what they do.
        if !creates && !guarded && !self.planted.is_some_and(Planted::writes_blindly) {
            self.broken(
                Rule::Pre,
                format!("{from} sent {} {} without uid and resourceVersion", http.method, http.path),
            );
        }
        if !committed {
            self.refused += u64::from(before.as_ref().is_some_and(|(_, stamp)| *stamp > epoch));
            return;
        }
        let what = super::api::word(call);
        if let Some((last, objects)) = &self.before
            && life <= last
            && before.as_ref().is_none_or(|(uid, _)| !objects.contains(uid))
        {
            let why = format!("{from} of a set that is no more {what} at epoch {epoch}");
            self.broken(Rule::Fence, why);
        }
        if let (Some(aimed), Some((uid, _))) = (aimed_at(call), before)
            && aimed.as_str() != uid
        {
            let why = format!("{from} {what} at epoch {epoch}: it was decided on {aimed} and has met {uid}");
            self.broken(Rule::Fence, why);
        }
        if let Some((_, stamp)) = before
            && *stamp > epoch
        {
            let why = format!("{from} {what} at epoch {epoch} on an object stamped {stamp}");
            let rule = if matches!(call, Call::ReplaceLease { .. }) { Rule::Epoch } else { Rule::Fence };
            self.broken(rule, why);
        }
        let destructive = matches!(call, Call::Scale(..) | Call::EvictPod(_));
        if let Some((_, stamp)) = before
            && destructive
            && *stamp < epoch
        {
            let why = format!("{from} {what} at epoch {epoch} on an object that still carries {stamp}");
            self.broken(Rule::Claim, why);
        }
        let lease_is_written = matches!(call, Call::CreateLease(_) | Call::ReplaceLease { .. });
        self.writes += u64::from(!lease_is_written);
        let holders = if lease_is_written { &mut self.lease_holders } else { &mut self.holders };
        let holder = if *untouched { *life } else { *holders.entry(epoch).or_insert(*life) };
        if holder != *life {
            let other = self.lives.get(&holder).map(ToString::to_string).unwrap_or_default();
            self.broken(Rule::Epoch, format!("{from} {what} at epoch {epoch}, which {other} has written at"));
        }
        match call {
            Call::CreateLease(content) | Call::ReplaceLease { content, .. } => {
                if content.holder.is_some() {
                    self.renewals.insert(*life, (*now, content.duration.0));
                }
                let stands = lease.map_or(0, |l| l.epoch);
                if stands < self.highest {
                    self.broken(
                        Rule::Epoch,
                        format!("the Lease went back from epoch {} to {stands} by {from}", self.highest),
                    );
                }
                self.highest = self.highest.max(stands);
            }
            Call::CreateRecord(_) => {
                self.records += 1;
                if self.records > 1 {
                    self.broken(Rule::Boot, format!("{from} made a second record"));
                }
            }
            Call::ReplaceRecord(..) => {
                let stands = record.map_or(0, |r| r.epoch.0);
                if stands < self.record_epoch {
                    self.broken(
                        Rule::Epoch,
                        format!("the record went back from epoch {} to {stands}", self.record_epoch),
                    );
                }
                self.record_epoch = stands;
                self.retired.extend(record.iter().flat_map(|r| r.retired.keys().cloned()));
            }
            Call::StampSet(_) | Call::Scale(..) | Call::MarkClaim(..) | Call::StampPod(_) | Call::EvictPod(_) => {}
            Call::GetLease
            | Call::GetRecord
            | Call::GetSet
            | Call::ListPods
            | Call::ListClaims
            | Call::GetOwnPod
            | Call::GetOwnClaim
            | Call::PostEvent(_) => {}
        }
    }

    /// A database is started on data.
    pub(crate) fn judge_start(
        &mut self,
        pod: &str,
        identity: Option<&str>,
        founder: bool,
        record: Option<&ClusterRecord>,
    ) {
        match identity {
            Some(identity) => {
                let retired = self.retired.iter().any(|i| i.as_str() == identity);
                if retired {
                    self.broken(Rule::Reuse, format!("{pod} starts on data of {identity}, which is retired"));
                }
            }
            None if founder => {
                self.founders += 1;
                if self.founders > 1 {
                    self.broken(Rule::Boot, format!("{pod} is started as a second founder"));
                }
                let named = record
                    .and_then(|r| r.intent.as_ref())
                    .is_some_and(|i| matches!(&i.kind, IntentKind::Form { founder } if founder.name.as_str() == pod));
                if !named {
                    self.broken(Rule::Intent, format!("{pod} founds without an intent that names it"));
                }
            }
            None => {
                if record.is_some_and(|r| r.members.keys().any(|name| name.as_str() == pod)) {
                    self.broken(Rule::Reuse, format!("{pod} starts empty although the record has it as a member"));
                }
                let named = record
                    .and_then(|r| r.intent.as_ref())
                    .is_some_and(|i| matches!(&i.kind, IntentKind::Join { joiner, .. } | IntentKind::Replace { joiner, .. } if joiner.name.as_str() == pod));
                if !named {
                    self.broken(Rule::Intent, format!("{pod} starts as a new member without an intent that names it"));
                }
            }
        }
    }

    /// A database begins to leave.
    pub(crate) fn judge_leave(&mut self, pod: &str, identity: &str, record: Option<&ClusterRecord>) {
        self.changes += 1;
        let named = record.and_then(|r| r.intent.as_ref()).is_some_and(|i| {
            matches!(&i.kind, IntentKind::Leave { leaver, identity: own, .. }
                if leaver.name.as_str() == pod && own.as_str() == identity)
        });
        if !named {
            self.broken(Rule::Intent, format!("{pod} leaves as {identity} without an intent that names it"));
        }
    }

    /// Databases that move their part just now.
    pub(crate) fn judge_moving(&mut self, moving: &[String]) {
        if moving.len() > 1 {
            self.broken(Rule::One, format!("{} join or leave at the same time", moving.join(" and ")));
        }
    }
}

/// The object that a write was decided on.
fn aimed_at(call: &Call) -> Option<&Uid> {
    match call {
        Call::ReplaceRecord(target, _)
        | Call::StampSet(target)
        | Call::Scale(target, _)
        | Call::MarkClaim(target, _)
        | Call::StampPod(target)
        | Call::EvictPod(target) => Some(target.uid()),
        Call::ReplaceLease { uid, .. } => Some(uid),
        Call::CreateLease(_)
        | Call::CreateRecord(_)
        | Call::GetLease
        | Call::GetRecord
        | Call::GetSet
        | Call::ListPods
        | Call::ListClaims
        | Call::GetOwnPod
        | Call::GetOwnClaim
        | Call::PostEvent(_) => None,
    }
}

impl World {
    /// S-APPROVE: as a replacement begins.
    pub(crate) fn judge_replacement(&mut self, by: &PilotId) {
        let Some(record) = self.cluster.record() else { return };
        let Some(Intent { operation, kind: IntentKind::Replace { joiner, identity, .. }, .. }) = &record.intent else {
            return;
        };
        if !self.oracle.replacements.insert(operation.clone()) {
            return;
        }
        let pod = &joiner.name;
        if !self.oracle.approved.contains(operation.as_str()) {
            self.oracle.broken(Rule::Approve, format!("{by} begins {operation}, which nobody has approved"));
        }
        let mut data = self.volumes.values().filter_map(|volume| volume.data.as_ref());
        if data.any(|data| data.identity == *identity && data.is_full_member()) {
            let why = format!("{by} gives {identity} up as lost, and the volume of {pod} holds what it owns");
            self.oracle.broken(Rule::Approve, why);
        }
    }

    /// S-VALID, for all pilots at once.
    pub(crate) fn judge_leaders(&mut self) {
        let mut able: Vec<(String, u64)> = Vec::new();
        let mut expired = None;
        // Nobody begins to believe it without having heard something.
        for agent in self.leading.iter().filter_map(|life| self.agents.get(life)).filter(|a| !a.paused) {
            let at = self.reads(agent.name());
            if agent.pilot.believes_it_coordinates(at).is_none() {
                continue;
            }
            let until = self.oracle.renewals.get(&agent.life).map_or(0, |(at, length)| at + length);
            if until <= self.now && self.options.honest_clocks() {
                expired = Some(format!("{} believes that it coordinates; its Lease ended at {until} ms", agent.id));
            }
            if let Some(epoch) = agent.pilot.may_change_membership(at) {
                able.push((agent.id.to_string(), epoch.0));
            }
        }
        if let Some(why) = expired {
            self.oracle.broken(Rule::Valid, why);
        }
        if able.len() > 1 && self.options.honest_clocks() {
            self.oracle.broken(Rule::Valid, format!("two may change membership at the same time: {able:?}"));
        }
    }

    /// The Lease has passed from this holder to a pilot: given back, run out, its process ended, or held silent by a
    /// majority of the roster. Nothing else gives the right.
    pub(crate) fn judge_taking(&mut self, by: &PilotId, holder: &str) {
        let of_holder = self.agents.values().find(|a| a.id.to_string() == holder && a.id != *by);
        let (Some(agent), Some(record)) = (of_holder, self.cluster.record()) else { return };
        let Some((renewed, length)) = self.oracle.renewals.get(&agent.life).copied() else { return };
        // The fastest clock that a run draws is the first to see it run out.
        let runs_out = renewed + length * 1_000_000 / self.options.rates.1.max(1_000_000);
        if self.now >= runs_out || !self.options.honest_clocks() {
            return;
        }
        self.marks.mark(marks::TAKEN_EARLY);
        let id = agent.id.clone();
        let witness = |name: &PilotName| {
            let seen = self.held_silent.get(&(name.clone(), id.clone())).copied();
            seen.is_some_and(|at| at + EVIDENCE_HOLDS >= renewed)
        };
        let count = |roster: &[Voter]| roster.iter().filter(|v| v.name != id.name && witness(&v.name)).count();
        let enough = |roster: &[Voter]| count(roster) * 2 > roster.len();
        // The roster it counts by is the one its front end shows, or showed when it was read: the record before the Lease.
        let (ordinal, read) = (by.name.ordinal().unwrap_or(0), self.now.saturating_sub(READ_BEFORE));
        let mut shown = [self.now, read].into_iter().filter_map(|at| self.broken.fronts.shown(at, ordinal)?.record());
        if !enough(&record.roster) && !shown.any(|shown| enough(&shown.roster)) {
            let why = format!(
                "{by} took the Lease of {holder}, renewed at {renewed} ms for {length} ms, while {} of {} pilots held \
                 that one silent",
                count(&record.roster),
                record.roster.len()
            );
            self.oracle.broken(Rule::Valid, why);
        }
    }
}
