//! The talk between an agent and its launcher, both ends of it, and the launcher's memory.

use super::input::{Input, chunks};
use super::stream::finish;
use super::{KIB, MIB, Outcome, Target};
use agent::launch::accounts::Accounts;
use agent::launch::machine::{Client, Effect, End, Event, Machine, MachineSettings, Signal};
use agent::launch::memory::{LeaveMemory, Memory};
use agent::launch::wire::{Heard, hear, say};
use agent::launch_client::next_line;
use protocol::id::{DatabaseIdentity, OperationId, Uid};
use protocol::launcher::{
    Ask, Care, DatabaseProgram, LauncherStatus, LeaveState, Line, ProcessEnd, ProcessState, Program, Reply, Request,
    StartPermission, ToolOutcome,
};
use protocol::time::{Millis, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "launcher-line",
        reads: "a line of an agent",
        run: line,
        seeds: lines,
        base: 64 * KIB,
        per_byte: 128,
        gate: 4_000,
    },
    Target {
        name: "launcher-asks",
        reads: "lines of an agent, and does what they ask",
        run: asks,
        seeds: || vec![lines().join(&b'\n')],
        base: MIB,
        per_byte: 512,
        gate: 600,
    },
    Target {
        name: "launcher-memory",
        reads: "its memory and accounts, and begins a life with them",
        run: remembers,
        seeds: memories,
        base: MIB,
        per_byte: 512,
        gate: 600,
    },
    Target {
        name: "launcher-words",
        reads: "lines of a launcher, at its agent",
        run: words,
        seeds: said,
        base: 64 * KIB,
        per_byte: 64,
        gate: 2_000,
    },
];

fn line(bytes: &[u8]) -> Outcome {
    match hear(bytes) {
        Heard::Ask { id, ask } => {
            let written = serde_json::to_vec(&Request { id, ask: ask.clone() }).expect("JSON");
            assert_eq!(hear(&written), Heard::Ask { id, ask });
            Outcome::Read
        }
        Heard::Answer { id, reply } => {
            assert!(say(&Line::Reply { id, reply }).expect("JSON").ends_with(b"\n"));
            Outcome::Refused
        }
        Heard::Garbage(why) => {
            assert!(!why.is_empty());
            Outcome::Refused
        }
    }
}

/// A launcher whose processes start at once and end when they are told to.
struct Story {
    machine: Machine,
    now: u64,
    judges_files: bool,
}

impl Story {
    fn new(memory: Memory, accounts: Accounts) -> Self {
        let judges_files = memory.program.is_none();
        let settings = MachineSettings {
            pod: Uid::new("pod"),
            life: 1,
            grace: Duration::from_secs(60),
            reattach: Duration::from_secs(5),
            care: care(),
            command: vec!["run".to_owned()],
            roots: vec![PathBuf::from("/config")],
            boot: "boot".to_owned(),
        };
        let now = 100_000;
        let (machine, effects) = Machine::new(settings, Timestamp::from_millis(now), memory, accounts);
        let mut story = Self { machine, now, judges_files };
        story.carry_out(effects);
        story
    }

    fn tell(&mut self, event: Event) {
        let effects = self.machine.handle(Timestamp::from_millis(self.now), event);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut waiting = VecDeque::from(effects);
        let mut rounds = 0;
        while let Some(effect) = waiting.pop_front() {
            rounds += 1;
            assert!(rounds < 2_000, "the launcher never rests at this instant");
            let event = match effect {
                Effect::Remember { sequence, memory } => {
                    let bytes = serde_json::to_vec(&memory).expect("JSON");
                    assert_eq!(serde_json::from_slice::<Memory>(&bytes).ok().as_ref(), Some(&*memory));
                    Event::Remembered { sequence, result: Ok(()) }
                }
                Effect::StartDatabase { job, files, .. } => {
                    // What lies on the own disk was asked for once, and is not judged again.
                    let is_inside = |file: &String| file.starts_with("/config/");
                    assert!(!self.judges_files || files.keys().all(is_inside), "{files:?}");
                    Event::Spawned { job, pid: 7 }
                }
                Effect::RunProgram { job, .. } => Event::Ended { job, end: End { code: Some(1), ..End::default() } },
                Effect::Signal { job, signal: Signal::Kill } => {
                    Event::Ended { job, end: End { signal: Some(9), ..End::default() } }
                }
                Effect::Reply { id, reply, .. } => {
                    say(&Line::Reply { id, reply }).expect("JSON");
                    continue;
                }
                Effect::Changed { status, .. } => {
                    say(&Line::Changed(*status)).expect("JSON");
                    continue;
                }
                Effect::Account(_)
                | Effect::Signal { signal: Signal::Stop, .. }
                | Effect::Note(_)
                | Effect::Exit(_) => continue,
            };
            waiting.extend(self.machine.handle(Timestamp::from_millis(self.now), event));
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now += millis;
        self.tell(Event::Tick);
    }
}

fn asks(bytes: &[u8]) -> Outcome {
    let mut story = Story::new(Memory::default(), Accounts::default());
    let mut read = false;
    for (number, line) in (0..48).zip(bytes.split(|byte| *byte == b'\n')) {
        if let Heard::Ask { id, ask } = hear(line) {
            read = true;
            story.tell(Event::Ask { client: Client(1), id, ask });
        }
        if number == 24 {
            story.tell(Event::Terminate);
        }
        story.pass(700);
    }
    read.into()
}

fn remembers(bytes: &[u8]) -> Outcome {
    let mut input = Input(bytes);
    let Ok(memory) = serde_json::from_slice::<Memory>(input.chunk()) else {
        return Outcome::Refused;
    };
    let Ok(accounts) = serde_json::from_slice::<Accounts>(input.chunk()) else {
        return Outcome::Refused;
    };
    let mut story = Story::new(memory, accounts);
    for (id, ask) in (0..).zip(all()) {
        story.pass(700);
        story.tell(Event::Ask { client: Client(1), id, ask });
    }
    story.tell(Event::Terminate);
    for _ in 0..20 {
        story.pass(5_000);
    }
    Outcome::Read
}

fn words(bytes: &[u8]) -> Outcome {
    let mut read = tokio::io::BufReader::new(bytes);
    let mut heard = 0;
    // No more than there are line ends.
    while let Ok(Some(line)) = finish(next_line(&mut read)) {
        heard += 1;
        assert!(heard <= bytes.len());
        let said = say(&line).expect("JSON");
        assert_eq!(finish(next_line(&mut said.as_slice())).ok(), Some(Some(line)));
    }
    (heard > 0).into()
}

fn care() -> Care {
    Care {
        backoff_from: Millis(1_000),
        backoff_to: Millis(8_000),
        crash_exits: 3,
        crash_within: Millis(30_000),
        stop_timeout: Millis(10_000),
        time_to_drain: Millis(20_000),
    }
}

fn program(name: &str) -> Program {
    Program { argv: vec![name.to_owned()], env: BTreeMap::from([("A".to_owned(), "b".to_owned())]) }
}

fn database() -> DatabaseProgram {
    DatabaseProgram {
        files: BTreeMap::from([("/config/cassandra.yaml".to_owned(), "a: 1\n".to_owned())]),
        run: program("run"),
        drain: program("drain"),
        leave: program("leave"),
    }
}

fn permission() -> StartPermission {
    StartPermission { pod: Uid::new("pod"), identity: Some(DatabaseIdentity::new("host-0")) }
}

fn all() -> Vec<Ask> {
    let operation = OperationId::new("3-leave-c-0");
    vec![
        Ask::Watch,
        Ask::Care(care()),
        Ask::Start { program: database(), permission: permission() },
        Ask::Tool { program: program("tool"), timeout: Millis(1_000) },
        Ask::Restart,
        Ask::Deadline { left: Millis(30_000) },
        Ask::Leave { operation: operation.clone() },
        Ask::EndAfterLeave { operation },
        Ask::DrainAndStop,
        Ask::Stop,
    ]
}

fn lines() -> Vec<Vec<u8>> {
    (1..).zip(all()).map(|(id, ask)| serde_json::to_vec(&Request { id, ask }).expect("JSON")).collect()
}

fn memories() -> Vec<Vec<u8>> {
    let memory = Memory {
        program: Some(database()),
        permission: Some(permission()),
        care: Some(care()),
        leave: Some(LeaveMemory {
            operation: OperationId::new("3-leave-c-0"),
            pod: Uid::new("pod"),
            tries: 2,
            last: Some((Some(1), "no".to_owned())),
            done: false,
        }),
        left: vec![DatabaseIdentity::new("host-9")],
    };
    let mut accounts = Accounts::default();
    accounts.begin(Timestamp::from_millis(5), &Uid::new("pod"), "boot", &care());
    accounts.starting(&Uid::new("pod"));
    let bytes = |memory: &Memory, accounts: &Accounts| {
        let (memory, accounts) =
            (serde_json::to_vec(memory).expect("JSON"), serde_json::to_vec(accounts).expect("JSON"));
        chunks([memory.as_slice(), &accounts])
    };
    vec![bytes(&memory, &accounts), bytes(&Memory { leave: None, ..memory }, &Accounts::default())]
}

fn said() -> Vec<Vec<u8>> {
    let status = LauncherStatus {
        protocol: 1,
        revision: 3,
        life: 9,
        process: ProcessState::Backoff { failures: 1, crash_loop: false, left: Millis(10) },
        terminating: true,
        terminating_for: Some(Millis(5)),
        permission: Some(permission()),
        leave: Some(LeaveState {
            operation: OperationId::new("3-leave-c-0"),
            tries: 1,
            running: false,
            last: Some((None, "no".to_owned())),
            done: false,
        }),
        starts: 2,
        unintended_ends: 1,
        ends: vec![ProcessEnd { code: Some(1), signal: None, unintended: true, out_of_memory: false, ran: Millis(7) }],
        resident: Some(1),
        open_files: Some(3),
        deadline_left: None,
        notices: vec!["a notice".to_owned()],
    };
    let tool = ToolOutcome { code: Some(0), stdout: "out".to_owned(), stderr: String::new(), timed_out: false };
    [
        Line::Reply { id: 1, reply: Reply::Status(status.clone()) },
        Line::Reply { id: 2, reply: Reply::Accepted },
        Line::Reply { id: 3, reply: Reply::Refused("no".to_owned()) },
        Line::Reply { id: 4, reply: Reply::Unsupported },
        Line::Reply { id: 5, reply: Reply::Tool(tool) },
        Line::Changed(status),
    ]
    .iter()
    .map(|line| say(line).expect("JSON"))
    .collect()
}
