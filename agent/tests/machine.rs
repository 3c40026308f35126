//! The step machine of one pilot, one story each: events in, effects out.

use agent::effect::{Effect, LocalAct, StartAs};
use agent::event::{CallId, Event};
use agent::kubernetes::call::{Answer, Call, Failure, LeaseContent, LeaseFacts};
use agent::pilot::durable::{Durable, Obeyed};
use agent::pilot::{Pilot, Rules, Setup};
use policies::decide::{Limits, Roll};
use policies::world::{ClaimFacts, ObjectRead, RecordFacts, ResourceVersion, SetFacts, Template};
use protocol::database::{DatabasePhase, DatabaseState, RingMember, RingStatus, VolumeState};
use protocol::epoch::Epoch;
use protocol::id::{ClusterId, DatabaseIdentity, Generation, OperationId, PilotId, PilotName, Uid, Voter};
use protocol::launcher::{LauncherStatus, LeaveState, ProcessState, StartPermission};
use protocol::message::Message;
use protocol::order::{Order, OrderKind, OrderName, Outcome};
use protocol::promise::{Promise, Refusal};
use protocol::record::{ClusterRecord, MemberRecord};
use protocol::time::{Millis, Timestamp};
use protocol::view::{Liveness, Peer, View};
use std::collections::BTreeMap;
use std::time::Duration;

const SECOND: u64 = 1_000;

/// No pause between operations: the tests are about other things.
const LIMITS: Limits = Limits {
    min: 1,
    max: 9,
    settle: Duration::ZERO,
    rollout: Roll { max_unavailable: 1, settle: Duration::ZERO, stop_after: 1 },
};

fn name(ordinal: u32) -> PilotName {
    PilotName::parse(&format!("c-{ordinal}")).expect("valid")
}

fn life(ordinal: u32) -> PilotId {
    PilotId { name: name(ordinal), generation: Generation(5) }
}

fn identity() -> DatabaseIdentity {
    DatabaseIdentity::new("host-0")
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn status(process: ProcessState) -> LauncherStatus {
    LauncherStatus {
        protocol: 1,
        revision: 1,
        life: 1,
        process,
        terminating: false,
        terminating_for: None,
        permission: None,
        leave: None,
        starts: 0,
        unintended_ends: 0,
        ends: vec![],
        resident: None,
        open_files: None,
        deadline_left: None,
        notices: vec![],
    }
}

fn rules() -> Rules {
    Rules {
        lease: Duration::from_secs(10),
        renew_every: Duration::from_secs(2),
        margin: Duration::from_secs(1),
        step: Duration::from_secs(1),
        limits: LIMITS,
        hash: "policy".to_owned(),
    }
}

fn running() -> LauncherStatus {
    status(ProcessState::Running { pid: 7, since: Millis(1) })
}

fn member() -> Durable {
    Durable { identity: Some(identity()), claim: Some(Uid::new("claim-0")), ..Durable::default() }
}

fn object(name: &str, uid: &str) -> ObjectRead {
    ObjectRead { name: name.to_owned(), uid: Uid::new(uid), version: ResourceVersion("1".to_owned()), stamp: Epoch(1) }
}

fn lease(version: u64, holder: Option<PilotId>, epoch: u64) -> LeaseFacts {
    LeaseFacts {
        uid: Uid::new("lease"),
        version: ResourceVersion(version.to_string()),
        content: LeaseContent {
            holder,
            epoch: Epoch(epoch),
            cluster: None,
            duration: Millis(10 * SECOND),
            transitions: 0,
        },
    }
}

/// One pilot, the API it reads, and all it wanted done.
struct Story {
    pilot: Pilot,
    now: u64,
    /// The Lease in the API.
    lease: Option<LeaseFacts>,
    members: Vec<u32>,
    /// The set is in the API.
    set: bool,
    /// The epoch of the record in the API.
    record_epoch: u64,
    /// Whether what is to be kept is kept.
    disk: bool,
    /// Acts wanted, each with its number.
    acts: Vec<(u64, LocalAct)>,
    sent: Vec<(PilotName, Message)>,
    calls: Vec<(CallId, Call)>,
    /// Calls that are left unanswered.
    held: fn(&Call) -> bool,
    /// Calls that the API says no to.
    refused: fn(&Call) -> bool,
    ended: bool,
}

impl Story {
    fn new(durable: Durable) -> Self {
        Self::under(rules(), durable)
    }

    /// A pilot under this policy.
    fn under(rules: Rules, durable: Durable) -> Self {
        let setup = Setup {
            id: life(0),
            pod: Uid::new("pod"),
            stream: "127.0.0.1:1".parse().expect("valid"),
            http: "127.0.0.1:2".parse().expect("valid"),
            database: "127.0.0.1".parse().expect("valid"),
            client_port: 9042,
            version: "test".to_owned(),
            rules,
            durable,
            mint: ClusterId::new("minted"),
            nonce: 1,
        };
        Self {
            pilot: Pilot::new(setup),
            now: SECOND,
            lease: None,
            members: vec![0],
            set: true,
            record_epoch: 1,
            disk: true,
            acts: vec![],
            sent: vec![],
            calls: vec![],
            held: |_| false,
            refused: |_| false,
            ended: false,
        }
    }

    /// A pilot beside a database that does this.
    fn beside(durable: Durable, status: LauncherStatus) -> Self {
        let mut story = Self::new(durable);
        story.tell(Event::Launcher(Some(Box::new(status))));
        story
    }

    fn record(&self) -> ClusterRecord {
        let claim = |n: u32| Uid::new(format!("claim-{n}"));
        ClusterRecord {
            cluster: ClusterId::new("k"),
            epoch: Epoch(self.record_epoch),
            roster: self.members.iter().map(|n| Voter { name: name(*n), claim: claim(*n) }).collect(),
            roster_revision: 1,
            members: self
                .members
                .iter()
                .map(|n| {
                    let identity = DatabaseIdentity::new(format!("host-{n}"));
                    (name(*n), MemberRecord { claim: claim(*n), identity })
                })
                .collect(),
            retired: BTreeMap::new(),
            intent: None,
            next_operation: 2,
            conditions: vec![],
        }
    }

    fn answer(&mut self, call: &Call) -> Option<Answer> {
        match call {
            Call::GetLease => Some(Answer::Lease(self.lease.clone())),
            Call::CreateLease(content) => {
                self.lease =
                    Some(LeaseFacts { content: content.clone(), ..lease(1, content.holder.clone(), content.epoch.0) });
                Some(Answer::Lease(self.lease.clone()))
            }
            Call::ReplaceLease { version, content, .. } => {
                let before = self.lease.as_ref().expect("there is one");
                if &before.version != version {
                    return None;
                }
                let next = before.version.0.parse::<u64>().expect("a number") + 1;
                self.lease = Some(LeaseFacts { content: content.clone(), ..lease(next, None, 0) });
                Some(Answer::Lease(self.lease.clone()))
            }
            Call::GetRecord => Some(Answer::Record(Some(Box::new(RecordFacts {
                object: object("record", "record"),
                record: self.record(),
            })))),
            Call::GetOwnClaim => Some(Answer::OwnClaim(Some(ClaimFacts {
                object: object("data-c-0", "claim-0"),
                cluster: None,
                identity: Some(identity()),
                retired: false,
                terminating: false,
                approved: None,
            }))),
            Call::GetSet => Some(Answer::Set(self.set.then(|| SetFacts {
                object: object("c", "set"),
                replicas: u32::try_from(self.members.len()).expect("few"),
                start: 0,
                revision: None,
                template: Template::default(),
            }))),
            Call::ListPods => Some(Answer::Pods(BTreeMap::new())),
            Call::ListClaims => Some(Answer::Claims(BTreeMap::new())),
            Call::CreateRecord(_)
            | Call::ReplaceRecord(..)
            | Call::StampSet(_)
            | Call::Scale(..)
            | Call::MarkClaim(..)
            | Call::StampPod(_)
            | Call::EvictPod(_)
            | Call::GetOwnPod
            | Call::PostEvent(_) => None,
        }
    }

    fn result(&mut self, call: &Call) -> Result<Answer, Failure> {
        if (self.refused)(call) {
            return Err(Failure::Refused { status: 403, message: "forbidden".to_owned() });
        }
        self.answer(call).ok_or_else(|| Failure::Conflict("it has changed".to_owned()))
    }

    /// One event, and all that follows from it at this instant: disk and API answer at once.
    fn tell(&mut self, event: Event) {
        let mut events = vec![event];
        let mut rounds = 0;
        while !events.is_empty() {
            rounds += 1;
            assert!(rounds < 1_000, "the machine never rests at this instant");
            let event = events.remove(0);
            for effect in self.pilot.handle(at(self.now), event) {
                match effect {
                    Effect::Keep(number, _) if self.disk => events.push(Event::Kept(number)),
                    Effect::Keep(number, _) => events.push(Event::NotKept(number, "the disk is full".to_owned())),
                    Effect::Api { id, call, .. } => {
                        self.calls.push((id, (*call).clone()));
                        if (self.held)(&call) {
                            continue;
                        }
                        let result = self.result(&call);
                        events.push(Event::Api { id, result });
                    }
                    Effect::Local(id, act) => self.acts.push((id, act)),
                    Effect::Send(to, message) => self.sent.push((to, message)),
                    Effect::Exit => self.ended = true,
                    Effect::Publish(_) | Effect::Streams(_) | Effect::Decided(_) => {}
                }
            }
        }
    }

    /// Time goes by.
    fn pass(&mut self, millis: u64) {
        let end = self.now + millis;
        while self.now < end {
            self.now = (self.now + 100).min(end);
            self.tell(Event::Tick);
        }
    }

    /// Likewise, while c-1 coordinates.
    fn pass_led(&mut self, seconds: u64) {
        for round in 0..seconds {
            let promise = Promise { epoch: Epoch(3), holder: life(1) };
            self.hears(1, Message::Ask { promise, round, cluster: None, roster: vec![] });
            self.pass(SECOND);
        }
    }

    fn launcher(&mut self, status: LauncherStatus) {
        self.tell(Event::Launcher(Some(Box::new(status))));
    }

    /// Everything asked of the launcher so far comes to this.
    fn acts_are(&mut self, result: Result<(), String>) -> Vec<LocalAct> {
        let acts = std::mem::take(&mut self.acts);
        for (id, _) in &acts {
            self.tell(Event::Local { id: *id, result: result.clone() });
        }
        acts.into_iter().map(|(_, act)| act).collect()
    }

    fn hears(&mut self, from: u32, message: Message) {
        self.tell(Event::Message(life(from), message));
    }

    /// The coordinator c-1 of epoch 3 orders this.
    fn is_ordered(&mut self, sequence: u64, operation: &str, kind: OrderKind) {
        self.hears(1, Message::Announce { epoch: Epoch(3), sequence });
        let nonce = self
            .sent
            .iter()
            .rev()
            .find_map(|(_, m)| match m {
                Message::Fetch { nonce, .. } => Some(*nonce),
                _ => None,
            })
            .expect("fetches the order");
        let order =
            Order { epoch: Epoch(3), sequence, operation: OperationId::new(operation), pod: Uid::new("pod"), kind };
        self.hears(1, Message::Deliver { nonce, valid_for: Millis(3 * SECOND), order });
    }

    fn said_obeyed(&self) -> bool {
        self.sent.iter().any(|(_, m)| matches!(m, Message::Outcome { outcome: Outcome::Obeyed, .. }))
    }

    fn reports_obeyed(&self) -> Option<(OperationId, OrderName)> {
        self.pilot.state(at(self.now)).members[0].report.as_ref().expect("its own").mesh.obeyed.clone()
    }

    fn wants_start(&self) -> bool {
        self.pilot.state(at(self.now)).members[0].database.as_ref().expect("its own").wants_start
    }

    fn count(&self, which: fn(&Call) -> bool) -> usize {
        self.calls.iter().filter(|(_, call)| which(call)).count()
    }

    /// The API answers, at last, all that was asked so far.
    fn answers_come(&mut self) {
        self.held = |_| false;
        for (id, call) in self.calls.clone() {
            let result = self.result(&call);
            self.tell(Event::Api { id, result });
        }
    }

    /// What is answered to this pilot that asks for a promise of this epoch.
    fn is_asked(&mut self, by: u32, epoch: u64) -> Message {
        let before = self.sent.len();
        let promise = Promise { epoch: Epoch(epoch), holder: life(by) };
        self.hears(by, Message::Ask { promise, round: epoch, cluster: None, roster: vec![] });
        match &self.sent[before..] {
            [(to, message)] if *to == name(by) => message.clone(),
            other => panic!("not one answer: {other:?}"),
        }
    }

    /// Lets the time go on until this holds, and tells how long it took.
    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> u64 {
        let from = self.now;
        while !holds(self) {
            assert!(self.now < from + 200 * SECOND, "never {what}");
            self.pass(100);
        }
        self.now - from
    }

    fn coordinates(&self) -> bool {
        self.pilot.believes_it_coordinates(at(self.now)).is_some()
    }

    /// How often it has written the Lease.
    fn lease_writes(&self) -> usize {
        self.count(|c| matches!(c, Call::CreateLease(_) | Call::ReplaceLease { .. }))
    }

    /// A coordinator of a roster of its own, at rest.
    fn coordinating() -> Self {
        Self::coordinating_under(rules())
    }

    fn coordinating_under(rules: Rules) -> Self {
        let mut story = Self::under(rules, member());
        story.launcher(running());
        story.tell(Event::View(Box::new(View::default())));
        story.pass(3 * SECOND);
        assert!(story.pilot.believes_it_coordinates(at(story.now)).is_some());
        story
    }
}

fn is_start(act: &LocalAct) -> bool {
    matches!(act, LocalAct::Start { .. })
}

fn holds() -> Event {
    Event::Volume(VolumeState::Holds(identity()))
}

#[test]
fn a_refused_start_is_tried_again_after_a_pause_that_grows() {
    let mut story = Story::beside(member(), status(ProcessState::Held));
    story.tell(holds());
    let mut tries = Vec::new();
    for _ in 0..300 {
        if story.acts_are(Err("no".to_owned())).iter().any(is_start) {
            tries.push(story.now);
        }
        story.pass(100);
    }
    let pauses: Vec<u64> = tries.windows(2).map(|w| w[1] - w[0]).collect();
    assert_eq!(pauses[..5], [500, 1_000, 2_000, 4_000, 8_000]);
}

#[test]
fn a_database_whose_join_broke_off_is_started_again_and_given_time_to_begin_anew() {
    let joining = Durable {
        identity: None,
        claim: Some(Uid::new("claim-0")),
        begun_under: Some(OperationId::new("2-join-c-0")),
        ..Durable::default()
    };
    let mut story = Story::beside(joining, running());
    let broke_off = || Event::Database(Box::new(DatabaseState::bare(DatabasePhase::JoinFailed)));
    let mut restarts = Vec::new();
    for _ in 0..800 {
        story.tell(broke_off());
        if story.acts_are(Ok(())).contains(&LocalAct::Restart) {
            restarts.push(story.now);
        }
        story.pass(100);
    }
    let pauses: Vec<u64> = restarts.windows(2).map(|w| w[1] - w[0]).collect();
    assert_eq!(pauses, [30_000, 30_000]);
    story.tell(Event::Database(Box::new(DatabaseState::bare(DatabasePhase::Joining))));
    story.pass(60 * SECOND);
    assert!(!story.acts_are(Ok(())).contains(&LocalAct::Restart), "one that streams is left alone");
}

#[test]
fn the_roster_is_told_until_it_is_known_and_again_on_a_new_stream_and_now_and_then() {
    let mut story = Story::under(rules(), member());
    story.members = vec![0, 1, 2];
    story.launcher(running());
    let report = story.pilot.state(at(story.now)).members[0].report.clone();
    let peer = Peer { generation: Generation(5), liveness: Liveness::Live, timeout: None, phi: None, report };
    let peers = BTreeMap::from([(name(1), peer.clone()), (name(2), peer)]);
    story.tell(Event::View(Box::new(View { peers, ..View::default() })));
    // The answers of c-1, second by second; whether c-1 and c-2 were told the roster in full.
    let told = |story: &mut Story, seconds: u64| {
        let mut told = Vec::new();
        for _ in 0..seconds * 10 {
            for (to, message) in std::mem::take(&mut story.sent) {
                if let Message::Ask { promise, round, roster, .. } = message {
                    told.push((to.clone(), !roster.is_empty()));
                    if to == name(1) {
                        let claim = Some(Uid::new("claim-1"));
                        story.hears(1, Message::Promised { epoch: promise.epoch, round, claim });
                    }
                }
            }
            story.pass(100);
        }
        let full = |who: u32| told.iter().filter(|(to, full)| *to == name(who) && *full).count();
        let all = told.iter().filter(|(to, _)| *to == name(1)).count();
        (all, full(1), full(2))
    };
    story.until("coordinates", Story::coordinates);
    told(&mut story, 4);
    let (all, known, silent) = told(&mut story, 32);
    assert!(all >= 30, "asked every second: {all}");
    assert!(known > 0 && known * 10 < all, "who has answered is told every sixteenth round: {known} of {all}");
    assert_eq!(silent, all, "who has not answered is told each time");
    story.tell(Event::StreamUp(life(1)));
    let (_, again, _) = told(&mut story, 2);
    assert!(again >= 1, "what was said on the stream before may be lost");
}

#[test]
fn a_member_whose_memory_was_lost_returns_by_the_records_word_for_its_claim() {
    let mut story = Story::beside(Durable::default(), status(ProcessState::Held));
    story.tell(Event::Volume(VolumeState::HoldsUnknown));
    story.pass(SECOND);
    assert!(story.acts_are(Ok(())).iter().any(is_start));
    assert_eq!(story.pilot.durable().identity, Some(identity()));
}

#[test]
fn a_member_whose_memory_was_lost_while_its_database_runs_is_that_member_again_and_obeys_its_leave() {
    let mut story = Story::beside(Durable::default(), running());
    let mut seen = DatabaseState::bare(DatabasePhase::Serving);
    seen.identity = Some(identity());
    story.tell(Event::Database(Box::new(seen)));
    story.pass(SECOND);
    story.acts_are(Ok(()));
    story.is_ordered(1, "2-leave-c-0", OrderKind::Leave { identity: identity() });
    assert!(story.acts_are(Ok(())).iter().any(|a| matches!(a, LocalAct::Leave { .. })));
}

#[test]
fn data_on_a_claim_that_the_record_does_not_name_is_adopted_by_nobody() {
    let mut story = Story::new(Durable::default());
    story.members = vec![1];
    story.launcher(status(ProcessState::Held));
    story.tell(Event::Volume(VolumeState::HoldsUnknown));
    story.pass(10 * SECOND);
    assert!(story.acts.is_empty());
    assert_eq!(story.pilot.durable().identity, None);
}

#[test]
fn what_could_not_be_kept_is_neither_answered_nor_reported_and_is_done_when_it_can_be_kept() {
    let mut story = Story::beside(member(), running());
    story.disk = false;
    for sequence in 0..2 {
        story.is_ordered(sequence, "2-leave-c-0", OrderKind::Leave { identity: identity() });
        assert!(!story.said_obeyed());
        assert_eq!(story.reports_obeyed(), None);
        assert!(story.acts.is_empty());
    }
    story.disk = true;
    story.is_ordered(2, "2-leave-c-0", OrderKind::Leave { identity: identity() });
    assert!(story.said_obeyed());
    assert!(story.acts.iter().any(|(_, a)| matches!(a, LocalAct::Leave { .. })));
}

#[test]
fn what_failed_to_be_kept_but_was_kept_by_a_later_writing_is_done() {
    let mut story = Story::beside(member(), running());
    story.pass(SECOND);
    let deliver = |story: &mut Story| {
        let out = story
            .pilot
            .handle(at(story.now), Event::Message(life(1), Message::Announce { epoch: Epoch(3), sequence: 1 }));
        let nonce = out
            .iter()
            .find_map(|e| match e {
                Effect::Send(_, Message::Fetch { nonce, .. }) => Some(*nonce),
                _ => None,
            })
            .expect("fetches");
        let order = Order {
            epoch: Epoch(3),
            sequence: 1,
            operation: OperationId::new("2-leave-c-0"),
            pod: Uid::new("pod"),
            kind: OrderKind::Leave { identity: identity() },
        };
        story.pilot.handle(
            at(story.now),
            Event::Message(life(1), Message::Deliver { nonce, valid_for: Millis(3 * SECOND), order }),
        )
    };
    let keeps = |out: &[Effect]| -> Vec<u64> {
        out.iter().filter_map(|e| if let Effect::Keep(number, _) = e { Some(*number) } else { None }).collect()
    };
    let first = keeps(&deliver(&mut story));
    let promise = Promise { epoch: Epoch(4), holder: life(2) };
    let ask = Message::Ask { promise, round: 1, cluster: None, roster: vec![] };
    let second = keeps(&story.pilot.handle(at(story.now), Event::Message(life(2), ask)));
    let out = story.pilot.handle(at(story.now), Event::NotKept(first[0], "full".to_owned()));
    assert!(!out.iter().any(|e| matches!(e, Effect::Local(..))));
    let out = story.pilot.handle(at(story.now), Event::Kept(second[0]));
    assert!(out.iter().any(|e| matches!(e, Effect::Local(_, LocalAct::Leave { .. }))));
    assert!(out.iter().any(|e| matches!(e, Effect::Send(_, Message::Promised { .. }))));
}

#[test]
fn a_member_that_left_in_the_life_it_returned_in_can_ask_to_join_anew() {
    let mut story = Story::beside(member(), status(ProcessState::Held));
    story.tell(holds());
    story.pass(SECOND);
    story.launcher(running());
    story.acts_are(Ok(()));
    story.is_ordered(1, "2-leave-c-0", OrderKind::EndAfterLeave);
    story.acts_are(Ok(()));
    story.launcher(status(ProcessState::Stopped));
    story.tell(holds());
    assert!(story.wants_start());
}

#[test]
fn a_follower_of_a_coordinator_that_came_back_does_not_poll_the_api() {
    let mut story = Story::beside(member(), running());
    story.tell(Event::View(Box::new(View::default())));
    story.hears(1, Message::Handover { epoch: Epoch(3), next: None });
    story.lease = Some(lease(1, Some(life(1)), 4));
    let before = story.calls.len();
    for round in 0..20 {
        let promise = Promise { epoch: Epoch(4), holder: life(1) };
        story.hears(1, Message::Ask { promise, round, cluster: None, roster: vec![] });
        story.pass(SECOND);
    }
    assert_eq!(story.calls.len(), before);
}

#[test]
fn a_leave_that_the_launcher_refused_is_asked_again_until_the_launcher_shows_it() {
    let mut story = Story::beside(member(), running());
    story.is_ordered(1, "2-leave-c-0", OrderKind::Leave { identity: identity() });
    assert_eq!(story.acts_are(Err("busy".to_owned())).len(), 1);
    assert!(story.acts.is_empty(), "not in the same instant");
    story.pass(SECOND);
    assert!(matches!(story.acts_are(Ok(()))[..], [LocalAct::Leave { .. }]));
    let mut shown = running();
    shown.leave = Some(LeaveState {
        operation: OperationId::new("2-leave-c-0"),
        tries: 1,
        running: true,
        last: None,
        done: false,
    });
    story.launcher(shown);
    story.pass(20 * SECOND);
    assert!(story.acts.is_empty());
}

#[test]
fn an_end_after_a_leave_that_an_earlier_life_did_not_bring_about_is_brought_about() {
    let mut durable = member();
    durable.left = true;
    durable.obey(Obeyed {
        operation: OperationId::new("2-leave-c-0"),
        order: OrderName::EndAfterLeave,
        pod: Uid::new("pod"),
        epoch: Epoch(1),
    });
    let mut story = Story::beside(durable, running());
    assert!(matches!(story.acts_are(Ok(()))[..], [LocalAct::EndAfterLeave { .. }]));
    story.launcher(status(ProcessState::Stopped));
    story.pass(20 * SECOND);
    assert!(story.acts.is_empty());
}

#[test]
fn a_drain_that_was_refused_is_asked_again_in_the_same_ending_and_not_in_a_later_life_of_the_container() {
    let mut ending = running();
    ending.terminating = true;
    let mut story = Story::beside(member(), ending.clone());
    story.is_ordered(1, "2-return-c-0", OrderKind::EndAndReturn);
    assert_eq!(story.acts_are(Err("busy".to_owned())), [LocalAct::DrainAndStop]);
    story.pass(SECOND);
    assert_eq!(story.acts_are(Err("busy".to_owned())), [LocalAct::DrainAndStop]);
    ending.life = 2;
    story.launcher(ending);
    story.pass_led(20);
    assert!(story.acts.is_empty(), "{:?}", story.acts);
    story.is_ordered(2, "2-return-c-0", OrderKind::EndAndReturn);
    assert_eq!(story.acts_are(Ok(())), [LocalAct::DrainAndStop]);
}

#[test]
fn an_ending_member_whose_set_was_deleted_drains_without_anybodys_word() {
    let mut ending = running();
    ending.terminating = true;
    let mut story = Story::beside(member(), running());
    story.launcher(ending.clone());
    story.pass_led(20);
    assert!(story.acts_are(Ok(())).iter().all(|act| *act != LocalAct::DrainAndStop), "its set is there: it waits");
    let before = story.count(|call| matches!(call, Call::GetSet));
    story.set = false;
    story.pass(10 * SECOND);
    assert_eq!(story.acts_are(Err("busy".to_owned())), [LocalAct::DrainAndStop]);
    story.pass(20 * SECOND);
    assert_eq!(story.acts_are(Ok(())), [LocalAct::DrainAndStop], "asked again, and once");
    assert!(story.count(|call| matches!(call, Call::GetSet)) - before <= 4, "it knows already");
}

#[test]
fn where_nobody_coordinates_an_ending_member_drains_if_its_set_asks_for_it_and_waits_if_not() {
    for (members, drains) in [(vec![0], true), (vec![], false)] {
        let mut ending = running();
        ending.terminating = true;
        let mut story = Story::beside(member(), running());
        story.members = members;
        story.launcher(ending);
        story.pass(20 * SECOND);
        assert_eq!(story.acts_are(Ok(())).contains(&LocalAct::DrainAndStop), drains);
    }
}

#[test]
fn a_pilot_whose_memory_is_of_a_member_before_this_one_ends_nobody_and_learns_who_runs() {
    let mut older = member();
    older.identity = Some(DatabaseIdentity::new("left-long-ago"));
    older.left = true;
    older.obey(Obeyed {
        operation: OperationId::new("1-leave-c-0"),
        order: OrderName::EndAfterLeave,
        pod: Uid::new("pod"),
        epoch: Epoch(1),
    });
    let mut status = running();
    status.permission = Some(StartPermission { pod: Uid::new("pod"), identity: Some(identity()) });
    let mut story = Story::beside(older, status);
    assert!(story.acts.is_empty(), "{:?}", story.acts);
    let mut state = DatabaseState::bare(DatabasePhase::Serving);
    state.identity = Some(identity());
    story.tell(Event::Database(Box::new(state)));
    story.pass(20 * SECOND);
    assert!(story.acts.is_empty(), "{:?}", story.acts);
    let durable = story.pilot.durable();
    assert_eq!((&durable.identity, durable.left), (&Some(identity()), false));
}

#[test]
fn an_ending_member_whose_set_was_deleted_finishes_the_leave_it_was_granted() {
    let mut ending = running();
    ending.terminating = true;
    let mut story = Story::beside(member(), running());
    story.is_ordered(1, "2-leave-c-0", OrderKind::Leave { identity: identity() });
    story.acts_are(Ok(()));
    story.set = false;
    story.launcher(ending);
    story.pass(20 * SECOND);
    assert!(story.acts_are(Ok(())).iter().all(|act| *act != LocalAct::DrainAndStop));
}

#[test]
fn one_that_has_left_and_whose_database_ended_by_itself_stays_until_it_is_told_that_others_know() {
    let mut left = status(ProcessState::Stopped);
    left.terminating = true;
    left.leave = Some(LeaveState {
        operation: OperationId::new("2-leave-c-0"),
        tries: 1,
        running: false,
        last: Some((Some(0), String::new())),
        done: true,
    });
    for set in [true, false] {
        let mut story = Story::beside(member(), running());
        story.is_ordered(1, "2-leave-c-0", OrderKind::Leave { identity: identity() });
        story.acts_are(Ok(()));
        story.launcher(left.clone());
        story.pass(2 * SECOND);
        assert!(story.acts_are(Ok(())).iter().all(|act| *act != LocalAct::DrainAndStop), "its voice may be needed");
        story.set = set;
        story.pass(10 * SECOND);
        let drains = story.acts_are(Ok(())).contains(&LocalAct::DrainAndStop);
        assert_eq!(drains, !set, "nobody is there to tell it only where its set is gone");
    }
}

#[test]
fn a_join_ordered_twice_while_it_is_under_way_starts_once() {
    let mut story = Story::new(Durable { claim: Some(Uid::new("claim-0")), ..Durable::default() });
    story.members = vec![1];
    story.launcher(status(ProcessState::Held));
    story.tell(Event::Volume(VolumeState::Empty));
    let join = OrderKind::Join { cluster: ClusterId::new("k"), move_aside: None };
    story.is_ordered(1, "2-join-c-0", join.clone());
    story.is_ordered(2, "2-join-c-0", join.clone());
    assert_eq!(story.acts_are(Err("nobody to join".to_owned())).len(), 1);
    assert!(!story.wants_start(), "the pause runs");
    story.pass(SECOND);
    assert!(story.wants_start());
    story.is_ordered(3, "2-join-c-0", join);
    assert_eq!(story.acts_are(Ok(())).len(), 1);
}

#[test]
fn a_replacement_is_a_joiner_that_names_whom_it_replaces_and_is_nobody_it_was_before() {
    // The database's folder was lost, and what its pilot remembers was not.
    let mut story = Story::beside(member(), status(ProcessState::Held));
    story.tell(Event::Volume(VolumeState::Empty));
    let replace = OrderKind::Replace { cluster: ClusterId::new("k"), identity: identity(), move_aside: None };
    story.is_ordered(1, "2-replace-c-0", replace);
    let acts = story.acts_are(Ok(()));
    let [LocalAct::Start { role: StartAs::Joiner, identity: None, replaces, .. }] = acts.as_slice() else {
        panic!("{acts:?}");
    };
    assert_eq!(replaces, &Some(identity()));
    assert_eq!(story.pilot.durable().identity, None);
    // The next one that joins on this volume replaces nobody.
    let mut next = Story::beside(story.pilot.durable().clone(), status(ProcessState::Held));
    next.tell(Event::Volume(VolumeState::Empty));
    next.is_ordered(2, "3-join-c-0", OrderKind::Join { cluster: ClusterId::new("k"), move_aside: None });
    let acts = next.acts_are(Ok(()));
    assert!(matches!(acts.as_slice(), [LocalAct::Start { role: StartAs::Joiner, replaces: None, .. }]), "{acts:?}");
}

#[test]
fn a_member_whose_database_may_come_up_refuses_to_end_for_good() {
    let told = |process: LauncherStatus, phase: DatabasePhase| {
        let mut story = Story::beside(member(), process);
        story.tell(Event::Database(Box::new(DatabaseState::bare(phase))));
        story.is_ordered(1, "2-leave-c-0", OrderKind::EndAfterLeave);
        story.acts_are(Ok(())).iter().any(|act| matches!(act, LocalAct::EndAfterLeave { .. }))
    };
    assert!(!told(running(), DatabasePhase::Starting));
    assert!(!told(running(), DatabasePhase::Serving));
    assert!(told(running(), DatabasePhase::Left));
    assert!(told(status(ProcessState::Held), DatabasePhase::Held));
}

#[test]
fn a_coordinator_that_promises_a_higher_epoch_says_that_it_steps_down() {
    let mut story = Story::coordinating();
    let promise = Promise { epoch: Epoch(9), holder: life(1) };
    story.hears(1, Message::Ask { promise, round: 1, cluster: None, roster: vec![] });
    assert_eq!(story.pilot.believes_it_coordinates(at(story.now)), None);
    let told = story.pilot.decisions().own;
    assert!(told.iter().flat_map(|e| &e.reasons).any(|r| r.fact.contains("steps down")), "{told:?}");
}

#[test]
fn the_lease_holds_for_what_was_written_and_not_for_what_the_policy_says_since() {
    let mut story = Story::coordinating();
    story.held = |call| matches!(call, Call::ReplaceLease { .. });
    let longer = Rules {
        lease: Duration::from_secs(60),
        renew_every: Duration::from_secs(2),
        margin: Duration::from_secs(1),
        step: Duration::from_secs(1),
        limits: LIMITS,
        hash: "longer".to_owned(),
    };
    story.tell(Event::Policy(Box::new(longer)));
    story.pass(12 * SECOND);
    assert_eq!(story.pilot.believes_it_coordinates(at(story.now)), None);
}

#[test]
fn a_lease_that_an_unanswered_try_of_long_before_may_have_taken_is_not_believed_in() {
    let mut story = Story::beside(member(), running());
    story.lease = Some(lease(1, None, 2));
    story.tell(Event::View(Box::new(View::default())));
    story.held = |call| matches!(call, Call::ReplaceLease { .. });
    let mut first = None;
    for _ in 0..15 {
        story.calls.clear();
        story.pass(SECOND);
        let tries: Vec<(CallId, Call)> = story.calls.drain(..).filter(|(_, call)| (story.held)(call)).collect();
        for (id, call) in tries {
            let Call::ReplaceLease { content, .. } = call else { continue };
            if first.is_none() {
                first = Some((story.now, content));
            } else if let Some((sent, content)) = &first
                && story.now > sent + 11 * SECOND
            {
                // Only now it is seen that one of them landed: the first, which has run out by now.
                story.lease = Some(LeaseFacts { content: content.clone(), ..lease(2, None, 0) });
            }
            story.tell(Event::Api { id, result: Err(Failure::Ambiguous("no answer in time".to_owned())) });
            assert_eq!(story.pilot.believes_it_coordinates(at(story.now)), None);
        }
    }
    let taken = story.lease.clone().and_then(|l| l.content.holder);
    assert_eq!(taken, Some(life(0)), "a try has landed");
    story.answers_come();
    story.pass(5 * SECOND);
    assert_eq!(story.pilot.believes_it_coordinates(at(story.now)), Some(Epoch(4)), "it takes it anew");
}

#[test]
fn a_lease_that_was_given_back_is_taken_with_patience_for_the_last_order_under_it() {
    let mut story = Story::beside(member(), running());
    let mut given_back = lease(1, None, 7);
    given_back.content.duration = Millis(SECOND);
    story.lease = Some(given_back);
    story.tell(Event::View(Box::new(View::default())));
    story.pass(2 * SECOND + 500);
    assert_eq!(story.pilot.believes_it_coordinates(at(story.now)), Some(Epoch(8)));
    assert_eq!(story.pilot.may_change_membership(at(story.now)), None);
    story.pass(3 * SECOND);
    assert_eq!(story.pilot.may_change_membership(at(story.now)), Some(Epoch(8)));
}

#[test]
fn who_hands_on_a_lease_that_it_took_with_patience_hands_on_the_patience() {
    let mut story = Story::beside(member(), running());
    story.lease = Some(lease(1, None, 7));
    story.tell(Event::View(Box::new(View::default())));
    story.pass(3 * SECOND);
    assert!(story.pilot.believes_it_coordinates(at(story.now)).is_some());
    story.tell(Event::Terminate);
    let given_back = &story.lease.as_ref().expect("there").content;
    assert_eq!((&given_back.holder, given_back.duration), (&None, Millis(10 * SECOND)));
}

#[test]
fn a_coordinator_that_is_told_to_end_gives_the_lease_back_and_never_stands_again() {
    let mut story = Story::coordinating();
    story.tell(Event::Terminate);
    assert!(story.ended);
    assert_eq!(story.lease.as_ref().expect("there").content.holder, None);
    story.pass(10 * SECOND);
    assert_eq!(story.lease.as_ref().expect("there").content.holder, None);
}

#[test]
fn a_renewal_on_its_way_is_waited_for_so_that_the_release_names_its_version() {
    let mut story = Story::coordinating();
    story.held = |call| matches!(call, Call::ReplaceLease { .. });
    let before = story.count(|c| matches!(c, Call::ReplaceLease { .. }));
    while story.count(|c| matches!(c, Call::ReplaceLease { .. })) == before {
        story.pass(100);
    }
    story.tell(Event::Terminate);
    assert!(!story.ended);
    story.held = |_| false;
    let (id, call) =
        story.calls.iter().rev().find(|(_, c)| matches!(c, Call::ReplaceLease { .. })).cloned().expect("sent");
    let answer = story.answer(&call).expect("done");
    story.tell(Event::Api { id, result: Ok(answer) });
    assert!(story.ended);
    assert_eq!(story.lease.as_ref().expect("there").content.holder, None);
}

#[test]
fn a_pilot_that_was_told_to_end_ends_also_when_the_api_never_answers() {
    let mut story = Story::coordinating();
    story.held = |_| true;
    story.tell(Event::Terminate);
    assert!(!story.ended);
    story.pass(4 * SECOND);
    assert!(story.ended);
}

#[test]
fn in_an_ending_pod_the_pilot_stays_until_the_launcher_has_gone() {
    let mut ending = running();
    ending.terminating = true;
    let mut story = Story::beside(member(), ending);
    story.tell(Event::Terminate);
    story.pass(60 * SECOND);
    assert!(!story.ended);
    story.tell(Event::Launcher(None));
    assert!(story.ended);
}

#[test]
fn a_terminating_pilot_does_not_stand_even_where_it_was_named() {
    let mut ending = running();
    ending.terminating = true;
    let mut story = Story::beside(member(), ending);
    story.lease = Some(lease(1, None, 3));
    story.tell(Event::View(Box::new(View::default())));
    story.hears(1, Message::Handover { epoch: Epoch(3), next: Some(life(0)) });
    story.pass(10 * SECOND);
    assert_eq!(story.lease.as_ref().expect("there").content.holder, None);
}

#[test]
fn a_coordinator_that_hears_nobody_says_so_and_acts_on_nothing() {
    for lonely in [false, true] {
        let mut story = Story::beside(member(), running());
        story.members = vec![0, 1, 2];
        story.tell(Event::View(Box::new(View { lonely, ..View::default() })));
        for _ in 0..60 {
            story.pass(100);
            let asked = story.sent.drain(..).filter_map(|(to, message)| match message {
                Message::Ask { promise, round, .. } => Some((to, promise.epoch, round)),
                _ => None,
            });
            for (to, epoch, round) in asked.collect::<Vec<_>>() {
                let ordinal = to.ordinal().expect("numbered");
                let claim = Some(Uid::new(format!("claim-{ordinal}")));
                story.hears(ordinal, Message::Promised { epoch, round, claim });
            }
        }
        let writes = story.count(|c| matches!(c, Call::ReplaceRecord(..)));
        assert_eq!(writes == 0, lonely, "{writes} writes, lonely: {lonely}");
        let coordinator = story.pilot.state(at(story.now)).coordinator.expect("it holds the Lease");
        assert_eq!(coordinator.degraded.is_some_and(|why| why.contains("no other pilot is heard")), lonely);
    }
}

#[test]
fn a_coordinator_whose_writes_come_to_nothing_tries_less_and_less_often() {
    let writes = |call: &Call| matches!(call, Call::ReplaceRecord(..) | Call::StampSet(_) | Call::MarkClaim(..));
    let refused = |call: &Call| call.is_write() && !matches!(call, Call::CreateLease(_) | Call::ReplaceLease { .. });
    // Within a minute: every two seconds where another was quicker, every ten where the API says no.
    for (no, most) in [((|_| false) as fn(&Call) -> bool, 33), (refused, 11)] {
        let mut story = Story::coordinating();
        story.refused = no;
        story.calls.clear();
        for _ in 0..600 {
            // What is heard of others hurries nobody.
            story.hears(1, Message::LookAtMe);
            story.pass(100);
        }
        let tried = story.count(writes);
        assert!((5..=most).contains(&tried), "{tried} writes in a minute");
    }
}

#[test]
fn a_candidate_whom_the_api_refuses_the_lease_tries_less_and_less_often() {
    let mut story = Story::beside(member(), running());
    story.refused = |call| matches!(call, Call::CreateLease(_));
    story.tell(Event::View(Box::new(View::default())));
    story.pass(63 * SECOND);
    let tried = story.lease_writes();
    assert!((20..=30).contains(&tried), "{tried} tries in a minute");
}

#[test]
fn what_another_told_of_an_ended_process_counts_for_ten_seconds_and_no_longer() {
    let mut story = Story::beside(member(), running());
    story.members = vec![0, 1, 2];
    story.tell(Event::View(Box::new(View::default())));
    let renewed = |story: &mut Story, seconds: u64| {
        for _ in 0..seconds {
            story.lease = Some(lease(story.now, Some(life(1)), 4));
            story.pass(SECOND);
        }
    };
    let coordinates = |story: &Story| story.pilot.believes_it_coordinates(at(story.now)).is_some();
    story.hears(2, Message::Ended { who: life(1) });
    renewed(&mut story, 12);
    story.tell(Event::StreamEnded { peer: life(1), process_ended: true });
    renewed(&mut story, 3);
    assert!(!coordinates(&story), "one witness of three, and hearsay of long ago");
    story.hears(2, Message::Ended { who: life(1) });
    story.pass(2 * SECOND);
    assert!(coordinates(&story));
}

#[test]
fn a_member_whose_api_is_away_returns_by_the_word_of_peers_in_the_pod_it_lived_in() {
    for (pod, returns) in [("pod", true), ("another pod", false)] {
        let durable = Durable {
            pod: Some(Uid::new(pod)),
            roster: (0..3).map(|n| Voter { name: name(n), claim: Uid::new(format!("claim-{n}")) }).collect(),
            ..member()
        };
        let mut story = Story::new(durable);
        story.held = |_| true;
        story.launcher(status(ProcessState::Held));
        story.tell(holds());
        let mut report = story.pilot.state(at(story.now)).members[0].report.as_deref().cloned().expect("its own");
        let line = RingMember { identity: identity(), status: RingStatus::Shutdown, up: Some(false) };
        report.ring = Some(vec![line].into());
        let peer = Peer {
            generation: Generation(5),
            liveness: Liveness::Live,
            timeout: None,
            phi: None,
            report: Some(std::sync::Arc::new(report)),
        };
        let peers = BTreeMap::from([(name(1), peer.clone()), (name(2), peer)]);
        story.tell(Event::View(Box::new(View { peers, ..View::default() })));
        assert_eq!(story.acts_are(Ok(())).iter().any(is_start), returns, "remembered {pod}");
    }
}

/// Memories that are older than what Lease or record say: gone, and restored from a copy.
fn older_memories() -> [Durable; 2] {
    let promise = Some(Promise { epoch: Epoch(3), holder: life(1) });
    [Durable::default(), Durable { promise, floor: Epoch(3), ..member() }]
}

#[test]
fn a_pilot_whose_memory_is_gone_or_older_promises_nothing_below_what_lease_or_record_say() {
    for durable in older_memories() {
        for (in_lease, in_record) in [(7, 1), (1, 7), (7, 7)] {
            let mut story = Story::new(durable.clone());
            story.lease = Some(lease(1, Some(life(1)), in_lease));
            story.record_epoch = in_record;
            story.held = |call| matches!(call, Call::GetLease | Call::GetRecord);
            story.launcher(running());
            story.pass(SECOND);
            for epoch in [2, 5, 8] {
                let unknown = Message::Refused { round: epoch, why: Refusal::FloorUnknown };
                assert_eq!(story.is_asked(2, epoch), unknown, "the floor is not read yet");
            }
            story.answers_come();
            for asked in [2, 5, 6] {
                let why = Refusal::BelowFloor { asked: Epoch(asked), floor: Epoch(7) };
                assert_eq!(story.is_asked(2, asked), Message::Refused { round: asked, why });
            }
            let claim = Some(Uid::new("claim-0"));
            assert_eq!(story.is_asked(2, 8), Message::Promised { epoch: Epoch(8), round: 8, claim });
            assert_eq!(story.pilot.durable().promise, Some(Promise { epoch: Epoch(8), holder: life(2) }));
        }
    }
}

#[test]
fn a_pilot_that_has_read_the_lease_alone_or_the_record_alone_promises_nothing_yet() {
    let unread: [fn(&Call) -> bool; 2] = [|c| matches!(c, Call::GetLease), |c| matches!(c, Call::GetRecord)];
    for held in unread {
        let mut story = Story::new(Durable::default());
        story.lease = Some(lease(1, Some(life(1)), 7));
        story.held = held;
        story.launcher(running());
        story.pass(5 * SECOND);
        assert_eq!(story.is_asked(2, 9), Message::Refused { round: 9, why: Refusal::FloorUnknown });
    }
}

#[test]
fn a_pilot_whose_memory_is_gone_or_older_obeys_no_order_below_what_the_lease_says() {
    for durable in older_memories() {
        let mut story = Story::new(Durable { promise: None, ..durable });
        story.lease = Some(lease(1, Some(life(2)), 7));
        story.held = |call| matches!(call, Call::GetLease | Call::GetRecord);
        story.launcher(running());
        story.is_ordered(1, "2-leave-c-0", OrderKind::Leave { identity: identity() });
        story.answers_come();
        story.is_ordered(2, "2-leave-c-0", OrderKind::Leave { identity: identity() });
        assert!(!story.said_obeyed());
        assert!(story.acts.is_empty());
        let refused = |m: &Message| matches!(m, Message::Outcome { outcome: Outcome::Refused(_), .. });
        assert_eq!(story.sent.iter().filter(|(_, m)| refused(m)).count(), 2);
    }
}

#[test]
fn f06_an_order_of_the_coordinators_life_before_is_refused_once_its_next_life_has_asked() {
    let mut story = Story::beside(member(), running());
    story.hears(1, Message::Announce { epoch: Epoch(3), sequence: 1 });
    let Some((_, Message::Fetch { nonce, .. })) = story.sent.last().cloned() else { panic!("{:?}", story.sent) };
    // The same pod in its next life, within the Lease of the one before.
    let again = PilotId { generation: Generation(6), ..life(1) };
    let promise = Promise { epoch: Epoch(4), holder: again.clone() };
    story.tell(Event::Message(again, Message::Ask { promise, round: 1, cluster: None, roster: vec![] }));
    let order = Order {
        epoch: Epoch(3),
        sequence: 1,
        operation: OperationId::new("2-leave-c-0"),
        pod: Uid::new("pod"),
        kind: OrderKind::Leave { identity: identity() },
    };
    story.hears(1, Message::Deliver { nonce, valid_for: Millis(3 * SECOND), order });
    let Some((_, Message::Outcome { outcome: Outcome::Refused(why), .. })) = story.sent.last() else {
        panic!("{:?}", story.sent)
    };
    assert!(why.contains("epoch 3 is lower than"), "{why}");
    assert!(story.acts.is_empty());
    // What is announced at the old epoch from now on is not even fetched.
    let before = story.sent.len();
    story.hears(1, Message::Announce { epoch: Epoch(3), sequence: 2 });
    assert_eq!(story.sent.len(), before);
}

#[test]
fn a_lease_is_renewed_as_often_as_renew_every_says() {
    let renewals = |seconds| {
        let mut story = Story::coordinating_under(Rules { renew_every: Duration::from_secs(seconds), ..rules() });
        let before = story.lease_writes();
        story.pass(60 * SECOND);
        story.lease_writes() - before
    };
    assert_eq!((renewals(2), renewals(4)), (30, 15));
}

#[test]
fn a_coordinator_that_cannot_renew_believes_for_the_lease_less_the_margin() {
    let believes = |lease, margin| {
        let mut story = Story::coordinating_under(Rules {
            lease: Duration::from_secs(lease),
            margin: Duration::from_secs(margin),
            ..rules()
        });
        let before = story.lease_writes();
        story.until("renewed", |s| s.lease_writes() > before);
        story.held = |call| matches!(call, Call::ReplaceLease { .. });
        story.until("let go", |s| !s.coordinates())
    };
    assert_eq!(believes(10, 1), 9 * SECOND);
    assert_eq!(believes(20, 1), 19 * SECOND, "the lease");
    assert_eq!(believes(10, 3), 7 * SECOND, "the margin");
}

#[test]
fn the_lease_of_one_who_is_gone_without_a_trace_is_taken_after_as_long_as_it_was_written_for() {
    let taken_after = |seconds| {
        let holder = Story::coordinating_under(Rules { lease: Duration::from_secs(seconds), ..rules() });
        let mut written = holder.lease.expect("written");
        written.content.holder = Some(life(1));
        let mut story = Story::beside(member(), running());
        story.members = vec![0, 1, 2];
        story.lease = Some(written);
        story.tell(Event::View(Box::new(View::default())));
        story.until("a candidate's first look", |s| s.count(|c| *c == Call::GetLease) == 2);
        story.until("taken", Story::coordinates)
    };
    assert_eq!((taken_after(10), taken_after(20)), (10 * SECOND, 20 * SECOND));
}

#[test]
fn the_second_candidate_tries_one_step_after_the_first_would_have() {
    let tries_after = |step, second: bool| {
        let mut story = Story::under(Rules { step: Duration::from_secs(step), ..rules() }, member());
        story.launcher(running());
        story.lease = Some(lease(1, None, 3));
        let report = story.pilot.state(at(story.now)).members[0].report.clone();
        // An older life goes first.
        let first = Peer { generation: Generation(4), liveness: Liveness::Live, timeout: None, phi: None, report };
        let peers = second.then_some((name(1), first)).into_iter().collect();
        story.tell(Event::View(Box::new(View { peers, ..View::default() })));
        story.until("taken", Story::coordinates)
    };
    for step in [1, 3] {
        assert_eq!(tries_after(step, true) - tries_after(step, false), step * SECOND);
    }
}

#[test]
fn a_pilot_whose_launcher_has_gone_with_its_ending_pod_does_not_stand_and_one_whose_launcher_is_only_away_does() {
    for ending in [true, false] {
        let mut last = running();
        last.terminating = ending;
        let mut story = Story::beside(member(), last);
        story.lease = Some(lease(1, None, 3));
        story.tell(Event::Launcher(None));
        story.tell(Event::View(Box::new(View::default())));
        story.pass(10 * SECOND);
        assert_eq!(story.lease.as_ref().expect("there").content.holder.is_none(), ending);
    }
}
