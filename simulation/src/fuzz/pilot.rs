//! What a pilot makes of bytes that were read: messages, answers of the API and its own memory move a whole step
//! machine, in which nothing may panic or go round for ever.

use super::gossip::sample;
use super::input::{Input, chunk, chunks};
use super::keys::{cluster, life};
use super::{MIB, Outcome, Target, kubernetes, messages};
use agent::effect::Effect;
use agent::event::Event;
use agent::kubernetes::call::Call;
use agent::pilot::durable::{Durable, Obeyed};
use agent::pilot::{Pilot, Rules, Setup};
use policies::decide::Limits;
use policies::policy::Policy;
use protocol::codec::{decode, encode};
use protocol::database::{DatabasePhase, DatabaseState, VolumeState};
use protocol::epoch::Epoch;
use protocol::id::{ClusterId, DatabaseIdentity, Generation, OperationId, Uid};
use protocol::launcher::{LauncherStatus, ProcessState};
use protocol::message::Message;
use protocol::order::OrderName;
use protocol::promise::Promise;
use protocol::report::Report;
use protocol::time::{Millis, Timestamp};
use protocol::view::{Liveness, Peer, View};
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "pilot-messages",
        reads: "messages of proven pilots, and lives by them",
        run: hears,
        seeds: heard,
        base: 4 * MIB,
        per_byte: 256,
        gate: 60,
    },
    Target {
        name: "pilot-answers",
        reads: "answers of the API, and decides by them",
        run: asks,
        seeds: answers,
        base: 4 * MIB,
        per_byte: 256,
        gate: 60,
    },
    Target {
        name: "pilot-memory",
        reads: "its memory, and begins a life with it",
        run: remembers,
        seeds: || vec![serde_json::to_vec(&member()).expect("JSON"), b"{}".to_vec()],
        base: 4 * MIB,
        per_byte: 256,
        gate: 60,
    },
];

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7301);

/// So often half a second goes by: long enough to be elected, to look around and to decide.
const PASSES: u32 = 18;

/// One pilot, and what the world around it answers.
struct Story {
    pilot: Pilot,
    now: u64,
    /// What it has written to the API.
    written: kubernetes::Written,
    /// Other answers, by kind of call, each a status and a body: the last of a kind is given again and again, until
    /// something of that kind is written.
    answers: BTreeMap<u8, VecDeque<(u16, Vec<u8>)>>,
    /// It has begun an operation.
    begun: bool,
}

impl Story {
    fn new(durable: Durable) -> Self {
        let policy = Policy::default();
        let setup = Setup {
            id: life(0),
            pod: Uid::new("pod"),
            stream: ADDRESS,
            http: ADDRESS,
            database: ADDRESS.ip(),
            client_port: 9042,
            version: "test".to_owned(),
            rules: Rules {
                lease: policy.election.lease,
                renew_every: policy.election.renew_every,
                margin: policy.election.margin,
                step: policy.election.step,
                limits: Limits { settle: Duration::ZERO, ..Limits::from(&policy) },
                hash: policy.hash().to_string(),
            },
            durable,
            mint: ClusterId::new("minted"),
            nonce: 1,
        };
        let mut story = Self {
            pilot: Pilot::new(setup),
            now: 10_000,
            answers: BTreeMap::new(),
            written: kubernetes::Written::default(),
            begun: false,
        };
        let sees = DatabaseState {
            identity: Some(DatabaseIdentity::new("host-0")),
            ring: sample(0).ring,
            schema_agreed: Some(true),
            replication: Some(3),
            ..DatabaseState::bare(DatabasePhase::Serving)
        };
        story.tell(Event::Launcher(Some(Box::new(running()))));
        story.tell(Event::Database(Box::new(sees)));
        story.tell(Event::Volume(VolumeState::Holds(DatabaseIdentity::new("host-0"))));
        story.look();
        story
    }

    /// All the others live; the last of them would like to join.
    fn look(&mut self) {
        let peer = |n| Peer {
            generation: Generation(5),
            liveness: Liveness::Live,
            timeout: Some(Millis(5_000)),
            phi: Some(0.5),
            report: Some(Arc::new(if n < 3 { sample(n) } else { newcomer() })),
        };
        let peers = (1..=3).map(|n| (life(n).name, peer(n))).collect();
        let view = View { at: Timestamp::from_millis(self.now), peers, woken: false, lonely: false, digest_bytes: 99 };
        self.tell(Event::View(Box::new(view)));
    }

    /// One event, and all that follows from it at this instant: disk, API and the own database answer at once.
    fn tell(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        let mut rounds = 0;
        while let Some(event) = events.pop_front() {
            rounds += 1;
            assert!(rounds < 2_000, "the pilot never rests at this instant");
            for effect in self.pilot.handle(Timestamp::from_millis(self.now), event) {
                match effect {
                    Effect::Keep(number, durable) => {
                        let bytes = serde_json::to_vec(&durable).expect("a memory can be written");
                        assert_eq!(serde_json::from_slice::<Durable>(&bytes).as_ref().ok(), Some(&*durable));
                        events.push_back(Event::Kept(number));
                    }
                    Effect::Api { id, call, .. } => {
                        let result = self.answer(&call);
                        events.push_back(Event::Api { id, result });
                    }
                    Effect::Local(id, _) => events.push_back(Event::Local { id, result: Ok(()) }),
                    Effect::Send(to, message) => {
                        let bytes = encode(&message).expect("what a pilot says is not too long");
                        assert_eq!(decode::<Message>(&bytes).as_ref(), Ok(&message));
                        if let Message::Ask { promise, round, .. } = message {
                            events.extend((1..3).filter(|n| life(*n).name == to).map(|n| {
                                let claim = Some(Uid::new(format!("claim-{n}")));
                                Event::Message(life(n), Message::Promised { epoch: promise.epoch, round, claim })
                            }));
                        }
                    }
                    Effect::Publish(report) => drop(report.to_values()),
                    Effect::Streams(_) | Effect::Decided(_) | Effect::Exit => {}
                }
            }
        }
    }

    fn answer(&mut self, call: &Call) -> Result<agent::kubernetes::call::Answer, agent::kubernetes::call::Failure> {
        let of_kind = self.answers.entry(kubernetes::kind(call)).or_default();
        let answer = if of_kind.len() > 1 { of_kind.pop_front() } else { of_kind.front().cloned() };
        match answer {
            Some((status, body)) => kubernetes::read(call, status, &body),
            None => {
                self.write(call);
                kubernetes::read(call, 200, &kubernetes::good_after(call, &self.written))
            }
        }
    }

    fn write(&mut self, call: &Call) {
        let changed = match call {
            Call::CreateRecord(record) | Call::ReplaceRecord(_, record) => {
                self.begun |= record.intent.is_some();
                self.written.record.clone_from(record);
                Call::GetRecord
            }
            Call::StampSet(target) | Call::Scale(target, _) => {
                self.written.stamp = target.epoch();
                Call::GetSet
            }
            Call::MarkClaim(..) => Call::ListClaims,
            Call::StampPod(_) | Call::EvictPod(_) => Call::ListPods,
            Call::CreateLease(content) | Call::ReplaceLease { content, .. } => {
                self.written.lease.clone_from(content);
                Call::GetLease
            }
            Call::GetLease
            | Call::GetRecord
            | Call::GetSet
            | Call::ListPods
            | Call::ListClaims
            | Call::GetOwnPod
            | Call::GetOwnClaim
            | Call::PostEvent(_) => return,
        };
        self.answers.remove(&kubernetes::kind(&changed));
    }

    fn pass(&mut self) {
        self.now += 500;
        self.look();
        self.tell(Event::Tick);
    }

    /// The endpoints show it too.
    fn end(self) {
        let state = self.pilot.state(Timestamp::from_millis(self.now));
        assert!(!serde_json::to_vec(&state).expect("JSON").is_empty());
    }
}

/// What a pilot says that waits to be let in.
fn newcomer() -> Report {
    let mut report = sample(3);
    report.about.cluster = None;
    report.database.phase = DatabasePhase::Held;
    report.database.identity = None;
    report.database.volume = Some(VolumeState::Empty);
    report.database.wants_start = true;
    report.ring = None;
    report
}

fn running() -> LauncherStatus {
    LauncherStatus {
        protocol: 1,
        revision: 1,
        life: 1,
        process: ProcessState::Running { pid: 7, since: Millis(60_000) },
        terminating: false,
        terminating_for: None,
        permission: None,
        leave: None,
        starts: 1,
        unintended_ends: 0,
        ends: vec![],
        resident: None,
        open_files: None,
        deadline_left: None,
        notices: vec![],
    }
}

fn member() -> Durable {
    Durable {
        generation: Some(Generation(5)),
        pod: Some(Uid::new("pod")),
        claim: Some(Uid::new("claim-0")),
        promise: Some(Promise { epoch: Epoch(2), holder: life(1) }),
        floor: Epoch(2),
        cluster: Some(cluster()),
        identity: Some(DatabaseIdentity::new("host-0")),
        begun_under: Some(OperationId::new("1-join-c-0")),
        obeyed: vec![Obeyed {
            operation: OperationId::new("1-join-c-0"),
            order: OrderName::Join,
            pod: Uid::new("pod"),
            epoch: Epoch(2),
        }],
        ..Durable::default()
    }
}

fn hears(bytes: &[u8]) -> Outcome {
    let mut input = Input(bytes);
    let mut story = Story::new(member());
    for _ in 0..8 {
        story.pass();
    }
    let mut read = false;
    for _ in 0..24 {
        if input.is_empty() {
            break;
        }
        let from = life(1 + u32::from(input.byte() % 2));
        if let Ok(message) = decode::<Message>(input.chunk()) {
            read = true;
            story.tell(Event::Message(from, message));
        }
        story.pass();
    }
    story.end();
    read.into()
}

fn heard() -> Vec<Vec<u8>> {
    let all: Vec<Vec<u8>> = messages::all().iter().map(|message| encode(message).expect("short")).collect();
    let mut seeds: Vec<Vec<u8>> = all.iter().map(|message| said([message.as_slice()])).collect();
    // An order, from its announcement to its end.
    for message in messages::all() {
        if let Message::Deliver { valid_for, order, .. } = message {
            let announce = encode(&Message::Announce { epoch: order.epoch, sequence: order.sequence }).expect("short");
            let deliver = encode(&Message::Deliver { nonce: 2, valid_for, order }).expect("short");
            seeds.push(said([announce.as_slice(), &deliver]));
        }
    }
    seeds
}

fn said<'a>(messages: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for message in messages {
        out.push(0);
        chunk(&mut out, message);
    }
    out
}

fn asks(bytes: &[u8]) -> Outcome {
    let mut input = Input(bytes);
    let mut story = Story::new(member());
    while !input.is_empty() {
        let kind = input.byte() % kubernetes::KINDS;
        let status = kubernetes::status(input.byte());
        let body = input.chunk().to_vec();
        story.answers.entry(kind).or_default().push_back((status, body));
    }
    for _ in 0..PASSES {
        story.pass();
    }
    story.end();
    Outcome::Read
}

/// What the API says to a pilot that is to coordinate.
fn answers() -> Vec<Vec<u8>> {
    let calls = [
        Call::GetLease,
        Call::GetRecord,
        Call::GetOwnClaim,
        Call::GetOwnPod,
        Call::GetSet,
        Call::ListPods,
        Call::ListClaims,
    ];
    let one = |call: &Call| [vec![kubernetes::kind(call), 0], chunks([kubernetes::good(call).as_slice()])].concat();
    let mut seeds: Vec<Vec<u8>> = calls.iter().map(one).collect();
    seeds.push(calls.iter().flat_map(one).collect());
    seeds
}

fn remembers(bytes: &[u8]) -> Outcome {
    let Ok(durable) = serde_json::from_slice::<Durable>(bytes) else {
        return Outcome::Refused;
    };
    let written = serde_json::to_vec(&durable).expect("JSON");
    assert_eq!(serde_json::from_slice::<Durable>(&written).ok().as_ref(), Some(&durable));
    let mut story = Story::new(durable);
    for message in messages::all() {
        story.pass();
        story.tell(Event::Message(life(1), message));
    }
    story.end();
    Outcome::Read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pilot_of_these_tries_comes_to_coordinate_and_begins_an_operation() {
        let mut story = Story::new(member());
        for _ in 0..PASSES {
            story.pass();
        }
        assert!(story.begun, "{:#?}", story.pilot.state(Timestamp::from_millis(story.now)));
    }
}
