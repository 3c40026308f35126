//! Each setting of `restart` changes what a launcher does: a policy as a file, the care it asks for, and what comes of it.

use agent::launch::accounts::Accounts;
use agent::launch::default_care;
use agent::launch::machine::{Client, Effect, End, Event, Job, Machine, MachineSettings, Signal};
use agent::launch::memory::Memory;
use policies::policy::Policy;
use protocol::id::Uid;
use protocol::launcher::{Ask, Care, DatabaseProgram, ProcessState, Program, Reply, StartPermission};
use protocol::time::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

const SECOND: u64 = 1_000;
const GRACE: u64 = 60 * SECOND;

/// A launcher with a running database, told to care for it as this policy says. Its disk keeps everything at once.
struct Launcher {
    machine: Machine,
    now: u64,
    database: Option<Job>,
    /// When the database was started, and when it was told to stop and killed.
    starts: Vec<u64>,
    stops: Vec<u64>,
    kills: Vec<u64>,
    replies: Vec<Reply>,
}

impl Launcher {
    /// `restart` is that section of a policy file.
    fn under(restart: &str) -> Self {
        let file = format!(
            "apiVersion: pilotmesh.io/v1alpha1\nkind: ClusterPolicy\nmetadata: {{ name: test }}\nspec:\n  restart: {restart}\n"
        );
        let policy = Policy::parse(&file, "test.yaml").expect("valid");
        let settings = MachineSettings {
            pod: Uid::new("pod"),
            life: 1,
            grace: Duration::from_millis(GRACE),
            reattach: Duration::from_secs(5),
            care: default_care(),
            command: Vec::new(),
            roots: Vec::new(),
            boot: "boot".to_owned(),
        };
        let now = SECOND;
        let (machine, effects) =
            Machine::new(settings, Timestamp::from_millis(now), Memory::default(), Accounts::default());
        let mut launcher =
            Self { machine, now, database: None, starts: vec![], stops: vec![], kills: vec![], replies: vec![] };
        launcher.carry_out(effects);
        launcher.ask(Ask::Care(Care::from(&policy.restart)));
        launcher.ask(Ask::Watch);
        let program = |name: &str| Program { argv: vec![name.to_owned()], env: BTreeMap::new() };
        let program = DatabaseProgram {
            files: BTreeMap::new(),
            run: program("run"),
            drain: program("drain"),
            leave: program("leave"),
        };
        launcher.ask(Ask::Start { program, permission: StartPermission { pod: Uid::new("pod"), identity: None } });
        assert!(launcher.database.is_some(), "{:?}", launcher.replies);
        launcher
    }

    fn event(&mut self, event: Event) {
        let effects = self.machine.handle(Timestamp::from_millis(self.now), event);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            let event = match effect {
                Effect::Remember { sequence, .. } => Event::Remembered { sequence, result: Ok(()) },
                Effect::StartDatabase { job, .. } => {
                    self.database = Some(job);
                    self.starts.push(self.now);
                    Event::Spawned { job, pid: 7 }
                }
                Effect::RunProgram { job, .. } => Event::Spawned { job, pid: 8 },
                Effect::Signal { job, signal } => {
                    if self.database == Some(job) {
                        match signal {
                            Signal::Stop => self.stops.push(self.now),
                            Signal::Kill => self.kills.push(self.now),
                        }
                    }
                    continue;
                }
                Effect::Reply { reply, .. } => {
                    self.replies.push(reply);
                    continue;
                }
                Effect::Account(_) | Effect::Changed { .. } | Effect::Note(_) | Effect::Exit(_) => continue,
            };
            effects.extend(self.machine.handle(Timestamp::from_millis(self.now), event));
        }
    }

    fn ask(&mut self, ask: Ask) {
        let before = self.replies.len();
        self.event(Event::Ask { client: Client(1), id: 1, ask });
        let refused = self.replies[before..].iter().find(|r| matches!(r, Reply::Refused(_)));
        assert_eq!(refused, None);
    }

    /// The database dies.
    fn crash(&mut self) {
        let job = self.database.take().expect("it runs");
        self.event(Event::Ended { job, end: End { code: Some(1), ..End::default() } });
    }

    /// Time goes by.
    fn pass(&mut self, millis: u64) {
        let end = self.now + millis;
        while let Some(wake) = self.machine.wake().map(|at| at.as_millis()).filter(|at| *at <= end) {
            assert!(wake > self.now || self.kills.len() + self.stops.len() < 100, "it wakes again and again");
            self.now = self.now.max(wake);
            self.event(Event::Tick);
        }
        self.now = end;
    }

    fn process(&self) -> ProcessState {
        self.machine.status(Timestamp::from_millis(self.now)).process
    }

    /// The pauses before each of so many starts after a crash, in seconds.
    fn pauses(&mut self, crashes: usize) -> Vec<u64> {
        let mut pauses = Vec::new();
        for _ in 0..crashes {
            let died = self.now;
            self.crash();
            self.pass(30 * SECOND);
            pauses.push((self.starts.last().expect("started") - died) / SECOND);
        }
        pauses
    }

    /// After so many crashes, with such pauses between them, it is called a crash loop.
    fn loops_after(&mut self, crashes: usize, between: u64) -> bool {
        for crash in 1..=crashes {
            self.crash();
            if crash < crashes {
                self.pass(between);
            }
        }
        match self.process() {
            ProcessState::Backoff { crash_loop, .. } => crash_loop,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_pauses_before_a_restart_begin_where_backoff_from_says_and_end_where_backoff_to_says() {
    let pauses = |from, to| {
        let restart = format!("{{ backoff: {{ from: {from}s, to: {to}s }} }}");
        Launcher::under(&restart).pauses(5)
    };
    assert_eq!(pauses(1, 8), [1, 2, 4, 8, 8]);
    assert_eq!(pauses(2, 8), [2, 4, 8, 8, 8], "from");
    assert_eq!(pauses(1, 16), [1, 2, 4, 8, 16], "to");
}

#[test]
fn as_many_ends_as_crash_loop_exits_says_are_a_crash_loop() {
    let loops = |exits| {
        let restart = format!("{{ crashLoop: {{ exits: {exits}, within: 10m }} }}");
        Launcher::under(&restart).loops_after(3, 20 * SECOND)
    };
    assert_eq!((loops(3), loops(4)), (true, false));
}

#[test]
fn ends_further_apart_than_crash_loop_within_says_are_no_crash_loop() {
    let loops = |within| {
        let restart = format!("{{ crashLoop: {{ exits: 3, within: {within} }} }}");
        Launcher::under(&restart).loops_after(3, 40 * SECOND)
    };
    assert_eq!((loops("10m"), loops("60s")), (true, false));
}

#[test]
fn a_database_that_does_not_stop_is_killed_after_the_stop_timeout() {
    let killed_after = |seconds| {
        let mut launcher = Launcher::under(&format!("{{ stopTimeout: {seconds}s }}"));
        launcher.ask(Ask::Stop);
        launcher.pass(50 * SECOND);
        assert_eq!((launcher.stops.len(), launcher.kills.len()), (1, 1));
        launcher.kills[0] - launcher.stops[0]
    };
    assert_eq!((killed_after(20), killed_after(35)), (20 * SECOND, 35 * SECOND));
}

#[test]
fn a_pod_that_ends_waits_for_a_word_until_the_time_to_drain_is_left() {
    let drains_after = |seconds| {
        let mut launcher = Launcher::under(&format!("{{ timeToDrain: {seconds}s }}"));
        launcher.event(Event::Terminate);
        let told = launcher.now;
        while !matches!(launcher.process(), ProcessState::Draining { .. }) {
            assert!(launcher.now < told + GRACE, "{:?}", launcher.process());
            launcher.pass(100);
        }
        launcher.now - told
    };
    assert_eq!((drains_after(20), drains_after(10)), (GRACE - 20 * SECOND, GRACE - 10 * SECOND));
}
