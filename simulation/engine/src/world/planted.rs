//! Bugs that are put in on purpose, so that it is seen that the simulator finds such. Each is what an adapter or a
//! library might really do wrong; a switch at run time puts it in, in one build.

mod answers;

pub(crate) use answers::{Kept, Reader, again, misread};

use super::agents::Agent;
use super::run::Options;
use super::schedule::Action;
use agent::effect::StartAs;
use agent::kubernetes::call::{Answer, Call, Failure};
use agent::kubernetes::translate::{EPOCH, HttpCall};
use agent::launch::memory::Memory;
use protocol::database::{DatabasePhase, DatabaseState, RingMember, RingStatus};
use protocol::id::{PilotId, PilotName, Uid};
use protocol::message::Message;
use protocol::promise::Refusal;
use protocol::view::{Liveness, View};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// A Lease is judged expired by its `renewTime` and the reader's wall clock, as published libraries do.
    WallClock,
    /// The Lease is renewed by a merge patch without resourceVersion, as a published library does.
    BlindRenewal,
    /// A pilot promises by what it remembers, whatever Lease and record say.
    NoFloor,
    /// A promise is said when its writing has begun, not when it is on disk.
    PromiseBeforeDisk,
    /// The record is written by a merge patch without uid and resourceVersion.
    BlindRecord,
    /// A pod is evicted by its name only.
    BlindEviction,
    /// Another's Lease is taken to last a second, whatever it says.
    ShortLease,
    /// What one pilot holds silent counts as if all others did.
    SilentByOne,
    /// A read that failed is taken for one that found nothing.
    ErrorIsAbsence,
    /// A database whose pod ends beyond the size leaves by itself, without a grant.
    LeaveUnasked,
    /// Data of a member that has left is taken for no data.
    RetiredIsEmpty,
    /// What a cache that stands still shows is given the version of now.
    StaleAsFresh,
    /// A driver leaves out of the ring who hands its part over: to its reader that one is gone.
    LeavingIsGone,
    /// A driver says that one copy of the data is kept, whatever the keyspaces say.
    CopiesUnread,
    /// Who has never been a full member names itself as a seed.
    SeedsItself,
    /// The stamp on the set is never read.
    StampUnread,
    /// A cluster is founded when a majority of the declared members is there and empty.
    FoundingByMajority,
    /// Of the set's size the first that a process sees is kept: what was changed since is never seen.
    SizeSeenOnce,
    /// A member whose report came is taken to serve.
    AwayUnseen,
    /// Each reading of another's Lease is taken for a new renewal of it.
    LeaseAlwaysNew,
    /// Who takes a Lease over before it has run out does not wait for its end before it changes membership.
    StepInsideOldLease,
    /// The record is written by its resourceVersion only: of a record made anew it may be the same.
    UidLeftOut,
    /// What a process wrote is read from its own cache before it has arrived.
    IntentBeforeRecord,
    /// Something is done in the order in which a process's memory happens to lie.
    HashOrder,
    /// The launcher's permission to start holds in whatever pod it finds itself.
    PermissionForAnyPod,
    /// A field of a message is lost on the wire.
    FieldLost,
    /// A pilot whom the API refuses stops its database.
    StopsWithoutApi,
    /// A pod is taken to carry the epoch of the Lease, whatever it carries.
    StampAssumed,
    /// Old data is said to have been moved aside, and lies where it lay.
    NotMovedAside,
    /// A client sends a write again by itself when no answer came, as many do by default.
    ClientRetries,
    /// A write that the API refused is said to have been done.
    RefusedIsDone,
    /// A driver says that its member serves, and all in its ring, as soon as they answer: who joins still does that.
    JoiningIsServing,
    /// The last Event is posted again and again, as a broadcaster might that does not know its own.
    EventsAgain,
    /// Who removes a member of etcd does not ask whether those that stay are a quorum.
    RemovesUnasked,
    /// A member of etcd is added as a voter, not as a learner.
    AddsVoters,
    /// A driver of etcd takes whatever member has its address for its own, also where that one's directory is lost.
    AdoptsStarted,
    /// A joiner of etcd that reaches nobody is started with a new cluster's state.
    BeginsNewAgain,
    /// What etcd says to have written is not on its disk yet (`--unsafe-no-fsync`).
    NoSync,
    /// A member of etcd that finds no quorum is started with `--force-new-cluster`.
    ForcesNew,
    /// Whatever may be approved is taken to be approved.
    ApprovalAssumed,
    /// A driver says that a volume is empty without having looked, as one does whose mount comes late.
    EmptyUnlooked,
    /// A replacement is approved before the others have been repaired.
    ApprovedUnrepaired,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 42] = [
        Self::WallClock,
        Self::BlindRenewal,
        Self::NoFloor,
        Self::PromiseBeforeDisk,
        Self::BlindRecord,
        Self::BlindEviction,
        Self::ShortLease,
        Self::SilentByOne,
        Self::ErrorIsAbsence,
        Self::LeaveUnasked,
        Self::RetiredIsEmpty,
        Self::StaleAsFresh,
        Self::LeavingIsGone,
        Self::CopiesUnread,
        Self::SeedsItself,
        Self::StampUnread,
        Self::FoundingByMajority,
        Self::SizeSeenOnce,
        Self::AwayUnseen,
        Self::LeaseAlwaysNew,
        Self::StepInsideOldLease,
        Self::UidLeftOut,
        Self::IntentBeforeRecord,
        Self::HashOrder,
        Self::PermissionForAnyPod,
        Self::FieldLost,
        Self::StopsWithoutApi,
        Self::StampAssumed,
        Self::NotMovedAside,
        Self::ClientRetries,
        Self::RefusedIsDone,
        Self::JoiningIsServing,
        Self::EventsAgain,
        Self::RemovesUnasked,
        Self::AddsVoters,
        Self::AdoptsStarted,
        Self::BeginsNewAgain,
        Self::NoSync,
        Self::ForcesNew,
        Self::ApprovalAssumed,
        Self::EmptyUnlooked,
        Self::ApprovedUnrepaired,
    ];

    /// A run in which the bug can show.
    pub fn options(self, seed: u64) -> Options {
        let options = match self {
            // Somebody must lose its memory within the seconds in which two epochs have a coordinator each, and hear
            // only the older one: too narrow for the swarm, so the runs are drawn around it.
            Self::NoFloor => Options::forgotten(seed),
            // Likewise: just the eviction has to be the write that is late.
            Self::BlindEviction => Options::rolled(seed),
            // A member leaves, and its claim is used again.
            Self::NotMovedAside => Options::grown_again(seed),
            // A declared member must be away while the cluster is founded.
            Self::FoundingByMajority => {
                let mut options = Options::swarm(seed);
                options.schedule.push((0, Action::LoseNode(2, 90_000)));
                options
            }
            Self::ApprovedUnrepaired => Options::losing(seed),
            // A disk is lost, and nobody approves anything.
            Self::ApprovalAssumed => Options { approves: false, ..Options::losing(seed) },
            // No disk is lost, and a person believes what he reads.
            Self::EmptyUnlooked => {
                let mut options = Options::losing(seed);
                options.schedule.retain(|(_, action)| !matches!(action, Action::LoseVolume(_) | Action::Scale(_)));
                options
            }
            // Two voters must be away while a third is about to be removed.
            Self::RemovesUnasked => Options::etcd_halved(seed),
            Self::AddsVoters | Self::AdoptsStarted | Self::BeginsNewAgain | Self::NoSync | Self::ForcesNew => {
                Options::etcd(seed)
            }
            Self::WallClock
            | Self::BlindRenewal
            | Self::PromiseBeforeDisk
            | Self::BlindRecord
            | Self::ShortLease
            | Self::SilentByOne
            | Self::ErrorIsAbsence
            | Self::LeaveUnasked
            | Self::RetiredIsEmpty
            | Self::StaleAsFresh
            | Self::LeavingIsGone
            | Self::CopiesUnread
            | Self::SeedsItself
            | Self::StampUnread
            | Self::SizeSeenOnce
            | Self::AwayUnseen
            | Self::LeaseAlwaysNew
            | Self::StepInsideOldLease
            | Self::UidLeftOut
            | Self::IntentBeforeRecord
            | Self::HashOrder
            | Self::PermissionForAnyPod
            | Self::FieldLost
            | Self::StopsWithoutApi
            | Self::StampAssumed
            | Self::ClientRetries
            | Self::RefusedIsDone
            | Self::JoiningIsServing
            | Self::EventsAgain => Options::swarm(seed),
        };
        Options { planted: Some(self), ..options }
    }

    /// Its writes lack uid and resourceVersion by construction.
    pub(crate) fn writes_blindly(self) -> bool {
        matches!(self, Self::BlindRenewal | Self::BlindRecord | Self::BlindEviction)
    }
}

/// As what a database is started; who returns names itself among the seeds.
pub(crate) fn role(planted: Option<Planted>, role: StartAs) -> StartAs {
    match role {
        StartAs::Joiner if planted == Some(Planted::SeedsItself) => StartAs::Returner,
        StartAs::Founder | StartAs::Joiner | StartAs::Returner => role,
    }
}

/// A launcher's memory as it takes it in this pod.
pub(crate) fn permission(planted: Option<Planted>, pod: &Uid, mut memory: Memory) -> Memory {
    if planted == Some(Planted::PermissionForAnyPod)
        && let Some(permission) = &mut memory.permission
    {
        permission.pod = pod.clone();
    }
    memory
}

/// What a driver makes of a database.
pub(crate) fn misread_database(planted: Option<Planted>, mut state: DatabaseState) -> DatabaseState {
    if planted == Some(Planted::LeavingIsGone)
        && let Some(ring) = &state.ring
    {
        state.ring = Some(ring.iter().filter(|line| line.status != RingStatus::Leaving).cloned().collect());
    }
    if planted == Some(Planted::JoiningIsServing) {
        if state.phase == DatabasePhase::Joining {
            state.phase = DatabasePhase::Serving;
        }
        let normal = |mut line: RingMember| {
            if line.status == RingStatus::Joining {
                line.status = RingStatus::Normal;
            }
            line
        };
        state.ring = state.ring.map(|ring| ring.iter().cloned().map(normal).collect());
    }
    if planted == Some(Planted::CopiesUnread) {
        state.replication = state.replication.map(|_| 1);
    }
    state
}

/// What was read long ago, with the versions of now.
pub(crate) fn as_if_fresh(mut stale: Value, fresh: &Value) -> Value {
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    if let Some(items) = stale["items"].as_array_mut() {
        let fresh = fresh["items"].as_array().map_or(&[][..], Vec::as_slice);
        for item in items {
            if let Some(now) = fresh.iter().find(|now| now["metadata"]["name"] == item["metadata"]["name"]) {
                item["metadata"]["resourceVersion"] = version(now);
            }
        }
    } else if stale["metadata"].is_object() && fresh["metadata"]["resourceVersion"].is_string() {
        stale["metadata"]["resourceVersion"] = version(fresh);
    }
    stale
}

/// A set whose stamp nobody reads.
pub(crate) fn stamp_unread(planted: Option<Planted>, call: &Call, mut body: Value) -> Value {
    if planted == Some(Planted::StampUnread)
        && *call == Call::GetSet
        && let Some(annotations) = body["metadata"]["annotations"].as_object_mut()
    {
        annotations.remove(EPOCH);
    }
    body
}

/// What arrives of a message.
pub(crate) fn on_the_wire(planted: Option<Planted>, message: &Message) -> Cow<'_, Message> {
    match (planted, message) {
        (Some(Planted::FieldLost), Message::Promised { epoch, round, .. }) => {
            Cow::Owned(Message::Promised { epoch: *epoch, round: *round, claim: None })
        }
        _ => Cow::Borrowed(message),
    }
}

/// Something that depends on where this process's memory lies, or on what it has done before: not on the seed.
pub(crate) fn happens_to_be(planted: Option<Planted>) -> u64 {
    static BEFORE: AtomicU64 = AtomicU64::new(0);
    match planted {
        Some(Planted::HashOrder) => BEFORE.fetch_add(1, Ordering::Relaxed) % 3,
        Some(_) | None => 0,
    }
}

/// Pods that all carry this epoch.
pub(crate) fn stamp_assumed(planted: Option<Planted>, call: &Call, epoch: u64, mut body: Value) -> Value {
    if planted == Some(Planted::StampAssumed)
        && *call == Call::ListPods
        && let Some(items) = body["items"].as_array_mut()
    {
        for annotations in items.iter_mut().filter_map(|item| item["metadata"].as_object_mut()) {
            annotations.entry("annotations").or_insert_with(|| json!({}))[EPOCH] = json!(epoch.to_string());
        }
    }
    body
}

/// What it does not remember to have promised to a higher epoch, it promises.
pub(crate) fn no_floor(planted: Option<Planted>, agent: &Agent, message: Message) -> Message {
    match (planted, &message, &agent.asked) {
        (
            Some(Planted::NoFloor),
            Message::Refused { round, why: Refusal::FloorUnknown | Refusal::BelowFloor { .. } },
            Some(asked),
        ) => Message::Promised { epoch: asked.epoch, round: *round, claim: Some(agent.claim.clone()) },
        _ => message,
    }
}

/// Requests without the preconditions that fence them.
pub(crate) fn blind(planted: Option<Planted>, call: &Call, http: HttpCall) -> HttpCall {
    let Some(mut body) = http.body.clone() else { return http };
    let renewal = matches!(call, Call::ReplaceLease { content, .. } if content.holder.is_some());
    match (planted, call) {
        (Some(Planted::BlindRenewal), Call::ReplaceLease { .. }) if renewal => {}
        (Some(Planted::BlindRecord), Call::ReplaceRecord(..)) => {}
        (Some(Planted::UidLeftOut), Call::ReplaceRecord(..)) => {
            if let Some(meta) = body["metadata"].as_object_mut() {
                meta.remove("uid");
            }
            return HttpCall { body: Some(body), ..http };
        }
        (Some(Planted::BlindEviction), Call::EvictPod(_)) => {
            if let Some(options) = body["deleteOptions"].as_object_mut() {
                options.remove("preconditions");
            }
            return HttpCall { body: Some(body), ..http };
        }
        _ => return http,
    }
    for key in ["uid", "resourceVersion"] {
        if let Some(meta) = body["metadata"].as_object_mut() {
            meta.remove(key);
        }
    }
    HttpCall { method: "PATCH", content_type: "application/merge-patch+json", body: Some(body), ..http }
}

/// A Lease of another pilot as a reader with one of these bugs takes it; whether most hold its holder silent.
pub(crate) fn lease_misread(
    planted: Option<Planted>,
    call: &Call,
    reader: &str,
    wall: u64,
    silent: bool,
    mut body: Value,
) -> Value {
    if *call != Call::GetLease || !body["spec"].is_object() || body["spec"]["holderIdentity"] == reader {
        return body;
    }
    let spec = &body["spec"];
    let renewed = spec["renewTime"].as_str().and_then(crate::kubernetes::ModelTime::parse).map_or(0, |t| t.0);
    let length = spec["leaseDurationSeconds"].as_u64().unwrap_or(0) * 1000;
    if planted == Some(Planted::WallClock) && renewed + length < wall {
        // To this reader it is as free as one given back.
        body["spec"]["holderIdentity"] = json!("");
        body["spec"]["leaseDurationSeconds"] = json!(1);
    }
    if planted == Some(Planted::ShortLease) || (planted == Some(Planted::StepInsideOldLease) && silent) {
        body["spec"]["leaseDurationSeconds"] = json!(1);
    }
    if planted == Some(Planted::LeaseAlwaysNew) {
        body["metadata"]["resourceVersion"] = json!(format!("{wall}"));
    }
    body
}

/// What this pilot makes of what it knows of the others.
pub(crate) fn view_misread(planted: Option<Planted>, own: &PilotName, mut view: View) -> View {
    match planted {
        Some(Planted::SilentByOne) => all_name_whom_one_misses(own, view),
        Some(Planted::AwayUnseen) => {
            for report in view.peers.values_mut().filter_map(|peer| peer.report.as_mut()) {
                if !matches!(report.database.phase, DatabasePhase::Serving | DatabasePhase::Leaving) {
                    Arc::make_mut(report).database.phase = DatabasePhase::Serving;
                }
            }
            view
        }
        Some(_) | None => view,
    }
}

/// Whom this pilot does not hear, every other report seems to name as silent.
fn all_name_whom_one_misses(own: &PilotName, mut view: View) -> View {
    let silent: Vec<PilotId> = view
        .peers
        .iter()
        .filter(|(name, peer)| *name != own && peer.liveness == Liveness::Silent)
        .map(|(name, peer)| PilotId { name: name.clone(), generation: peer.generation })
        .collect();
    for peer in view.peers.values_mut() {
        if let Some(report) = &mut peer.report {
            Arc::make_mut(report).mesh.silent.clone_from(&silent);
        }
    }
    view
}

/// A server's bad moment as an answer.
pub(crate) fn error_is_absence(planted: Option<Planted>, call: &Call, failure: Failure) -> Result<Answer, Failure> {
    match (planted, call) {
        (Some(Planted::ErrorIsAbsence), Call::GetLease) => Ok(Answer::Lease(None)),
        (Some(Planted::ErrorIsAbsence), Call::GetRecord) => Ok(Answer::Record(None)),
        (Some(Planted::ErrorIsAbsence), Call::GetSet) => Ok(Answer::Set(None)),
        (Some(Planted::ErrorIsAbsence), Call::ListPods) => Ok(Answer::Pods(BTreeMap::new())),
        (Some(Planted::ErrorIsAbsence), Call::ListClaims) => Ok(Answer::Claims(BTreeMap::new())),
        _ => Err(failure),
    }
}
