use super::*;
use proptest::prelude::*;
use protocol::id::{DatabaseIdentity, OperationId};

/// A launcher's surroundings, in which every rule that must always hold is checked at each step.
struct World {
    machine: Machine,
    now: Timestamp,
    /// What is durable.
    disk: Memory,
    accounts: Accounts,
    /// The next writes of memory fail.
    full: bool,
    /// The next start fails.
    unstartable: bool,
    database: Option<Job>,
    programs: BTreeMap<Job, Purpose>,
    killed: BTreeSet<Job>,
    stopped: bool,
    terminated_at: Option<u64>,
    replies: Vec<(u64, Reply)>,
    started: Vec<u64>,
    exit: Option<u8>,
    next_ask: u64,
}

const GRACE: u64 = 60_000;
const DRAIN: u64 = 20_000;

fn settings(pod: &str) -> MachineSettings {
    MachineSettings {
        pod: Uid::new(pod),
        life: 1,
        grace: Duration::from_millis(GRACE),
        reattach: Duration::from_millis(5_000),
        care: Care {
            backoff_from: Millis(1_000),
            backoff_to: Millis(8_000),
            crash_exits: 3,
            crash_within: Millis(30_000),
            stop_timeout: Millis(10_000),
            time_to_drain: Millis(DRAIN),
        },
        command: Vec::new(),
        roots: Vec::new(),
        boot: "boot".to_owned(),
    }
}

fn program(name: &str) -> Program {
    Program { argv: vec![name.to_owned()], env: BTreeMap::new() }
}

fn database(name: &str) -> DatabaseProgram {
    DatabaseProgram { files: BTreeMap::new(), run: program(name), drain: program("drain"), leave: program("leave") }
}

fn start(pod: &str, identity: Option<&str>) -> Ask {
    Ask::Start {
        program: database("run"),
        permission: StartPermission { pod: Uid::new(pod), identity: identity.map(DatabaseIdentity::new) },
    }
}

fn leave(name: &str) -> Ask {
    Ask::Leave { operation: OperationId::new(name) }
}

impl World {
    fn new() -> Self {
        Self::with(Memory::default(), Accounts::default(), "pod", 1_000)
    }

    fn with(disk: Memory, accounts: Accounts, pod: &str, now: u64) -> Self {
        let now = Timestamp::from_millis(now);
        let (machine, effects) = Machine::new(settings(pod), now, disk.clone(), accounts.clone());
        let mut world = Self {
            machine,
            now,
            disk,
            accounts,
            full: false,
            unstartable: false,
            database: None,
            programs: BTreeMap::new(),
            killed: BTreeSet::new(),
            stopped: false,
            terminated_at: None,
            replies: Vec::new(),
            started: Vec::new(),
            exit: None,
            next_ask: 1,
        };
        world.carry_out(effects);
        world
    }

    /// The launcher alone dies, and another begins on the same volume.
    fn reborn(self, pod: &str) -> Self {
        Self::with(self.disk, self.accounts, pod, self.now.as_millis())
    }

    fn event(&mut self, event: Event) {
        let effects = self.machine.handle(self.now, event);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        let mut count = 0;
        while let Some(effect) = effects.pop_front() {
            count += 1;
            assert!(count < 1_000, "{effect:?}, and so on for ever");
            assert!(self.exit.is_none(), "{effect:?} after the end");
            if let Some(event) = self.one(effect) {
                effects.extend(self.machine.handle(self.now, event));
            }
        }
        if let Some(wake) = self.machine.wake() {
            assert!(self.exit.is_some() || wake > self.now, "it would wake at once for ever");
        }
    }

    fn one(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Remember { sequence, memory } => {
                let result = if self.full {
                    Err("no space".to_owned())
                } else {
                    self.disk = *memory;
                    Ok(())
                };
                Some(Event::Remembered { sequence, result })
            }
            Effect::Account(accounts) => {
                self.accounts = *accounts;
                None
            }
            Effect::StartDatabase { job, .. } => {
                assert_eq!(self.database, None, "two databases on one volume");
                let given = self.disk.permission.as_ref().expect("started without a permission on disk");
                assert_eq!(given.pod, self.machine.settings.pod, "started with another pod's permission");
                if let Some(identity) = &given.identity {
                    assert!(!self.disk.left.contains(identity), "started what has left");
                }
                if self.terminated_at.is_some() {
                    let granted = self.disk.leave.as_ref().is_some_and(|leave| !leave.done);
                    assert!(granted, "started again in a terminating launcher without a leave to finish");
                }
                self.started.push(self.now.as_millis());
                if self.unstartable {
                    return Some(Event::NotSpawned { job, why: "no such file".to_owned() });
                }
                self.database = Some(job);
                self.stopped = false;
                Some(Event::Spawned { job, pid: 7 })
            }
            Effect::RunProgram { job, purpose, .. } => {
                match purpose {
                    Purpose::Drain => assert!(self.database.is_some(), "drains nothing"),
                    Purpose::Leave => {
                        assert!(self.database.is_some(), "only a running database can leave");
                        let granted = self
                            .disk
                            .leave
                            .as_ref()
                            .is_some_and(|leave| !leave.done && leave.pod == self.machine.settings.pod);
                        assert!(granted, "leaves without a grant on disk");
                        let running = self.programs.values().any(|other| *other == Purpose::Leave);
                        assert!(!running, "leaves twice at a time");
                    }
                    Purpose::Tool => {}
                }
                self.programs.insert(job, purpose);
                Some(Event::Spawned { job, pid: 8 })
            }
            Effect::Signal { job, signal } => {
                if Some(job) == self.database {
                    self.stopped = true;
                }
                if signal == Signal::Kill {
                    self.killed.insert(job);
                }
                None
            }
            Effect::Reply { id, reply, .. } => {
                self.replies.push((id, reply));
                None
            }
            Effect::Changed { .. } | Effect::Note(_) => None,
            Effect::Exit(code) => {
                assert_eq!(self.database, None, "ended before its database");
                assert!(self.terminated_at.is_some(), "ended although nobody asked");
                self.exit = Some(code);
                None
            }
        }
    }

    fn ask(&mut self, ask: Ask) -> Option<Reply> {
        let id = self.next_ask;
        self.next_ask += 1;
        self.event(Event::Ask { client: Client(1), id, ask });
        let found = self.replies.iter().find(|(found, _)| *found == id);
        found.map(|(_, reply)| reply.clone())
    }

    fn accepted(&mut self, ask: Ask) {
        assert_eq!(self.ask(ask), Some(Reply::Accepted));
    }

    fn refused(&mut self, ask: Ask) -> String {
        match self.ask(ask) {
            Some(Reply::Refused(why)) => why,
            other => panic!("{other:?} instead of a refusal"),
        }
    }

    fn terminate(&mut self) {
        self.terminated_at.get_or_insert(self.now.as_millis());
        self.event(Event::Terminate);
    }

    fn database_ends(&mut self, code: Option<i32>, signal: Option<i32>) {
        if let Some(job) = self.database.take() {
            self.event(Event::Ended { job, end: End { code, signal, ..End::default() } });
        }
    }

    fn program_ends(&mut self, purpose: Purpose, code: i32) {
        let found = self.programs.iter().find(|(_, other)| **other == purpose).map(|(job, _)| *job);
        if let Some(job) = found {
            self.programs.remove(&job);
            self.event(Event::Ended { job, end: End { code: Some(code), ..End::default() } });
        }
    }

    /// Lets so much time pass, with every wake-up that is asked for; what is killed ends, and with `obeys` the database
    /// follows a stop signal and a drain succeeds.
    fn pass(&mut self, millis: u64, obeys: bool) {
        let until = self.now.plus(Duration::from_millis(millis));
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 1_000, "it does not come to rest");
            let killed: Vec<Job> = std::mem::take(&mut self.killed).into_iter().collect();
            for job in killed {
                if self.database == Some(job) {
                    self.database_ends(None, Some(9));
                } else if self.programs.remove(&job).is_some() {
                    let end = End { signal: Some(9), ..End::default() };
                    self.event(Event::Ended { job, end });
                }
            }
            if obeys {
                self.program_ends(Purpose::Drain, 0);
                if self.stopped {
                    self.database_ends(Some(0), None);
                }
            }
            if !self.killed.is_empty() || self.exit.is_some() {
                if self.exit.is_some() {
                    self.now = until;
                    return;
                }
                continue;
            }
            match self.machine.wake() {
                Some(wake) if wake <= until => {
                    self.now = wake;
                    self.event(Event::Tick);
                }
                Some(_) | None => {
                    self.now = until;
                    return;
                }
            }
        }
    }

    fn process(&self) -> ProcessState {
        self.machine.status(self.now).process
    }

    fn since_termination(&self) -> u64 {
        self.now.as_millis() - self.terminated_at.unwrap()
    }
}

#[test]
fn a_permission_that_could_not_be_kept_is_refused_and_starts_nothing() {
    let mut world = World::new();
    world.full = true;
    assert!(world.refused(start("pod", None)).contains("no space"));
    assert!(world.started.is_empty());
    world.full = false;
    world.accepted(start("pod", None));
    assert_eq!(world.started.len(), 1);
}

#[test]
fn a_stop_that_could_not_be_kept_is_refused_and_what_is_in_force_is_written_again() {
    let mut world = World::new();
    world.accepted(start("pod", None));
    world.full = true;
    world.refused(Ask::Stop);
    assert!(world.database.is_some() && !world.stopped);
    world.full = false;
    world.disk = Memory::default();
    world.pass(2_000, true);
    assert!(world.disk.permission.is_some());
}

#[test]
fn the_pause_doubles_up_to_its_end_and_a_long_run_resets_it() {
    let mut world = World::new();
    world.accepted(start("pod", None));
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let died = world.now.as_millis();
        world.database_ends(Some(1), None);
        world.pass(10_000, true);
        pauses.push(world.started.last().unwrap() - died);
    }
    assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
    assert!(world.accounts.looping);
    world.pass(31_000, true);
    let died = world.now.as_millis();
    world.database_ends(Some(1), None);
    let status = world.process();
    assert!(matches!(status, ProcessState::Backoff { failures: 1, crash_loop: false, .. }), "{status:?}");
    world.pass(10_000, true);
    assert_eq!(world.started.last().unwrap() - died, 1_000);
    assert_eq!(world.accounts.unintended_ends, 7);
}

#[test]
fn an_agent_that_comes_back_again_and_again_does_not_shorten_the_pause() {
    let mut world = World::new();
    world.accepted(start("pod", None));
    for _ in 0..4 {
        world.database_ends(Some(1), None);
        let starts = world.started.len();
        world.accepted(start("pod", None));
        assert_eq!(world.started.len(), starts);
        world.pass(10_000, true);
    }
    world.database_ends(Some(1), None);
    let starts = world.started.len();
    let mut other = database("repaired");
    other.drain.argv.clear();
    world.accepted(Ask::Start { program: other, permission: StartPermission { pod: Uid::new("pod"), identity: None } });
    assert_eq!(world.started.len(), starts + 1, "another program is tried at once");
}

#[test]
fn a_database_that_died_with_its_launcher_is_a_crash_and_in_another_pod_is_none() {
    let mut world = World::new();
    world.accepted(start("pod", None));
    let mut world = world.reborn("pod");
    assert!(matches!(world.process(), ProcessState::Backoff { failures: 1, .. }));
    world.pass(2_000, true);
    assert_eq!((world.accounts.starts, world.accounts.unintended_ends), (2, 1));
    let world = world.reborn("pod-2");
    assert_eq!(world.process(), ProcessState::Held);
    assert_eq!(world.accounts.unintended_ends, 1);
}

#[test]
fn a_launcher_killed_while_it_was_ending_is_no_crash() {
    let mut world = World::new();
    world.accepted(start("pod", None));
    world.ask(Ask::Watch);
    world.terminate();
    let world = world.reborn("pod");
    assert_eq!(world.accounts.unintended_ends, 0);
}

#[test]
fn a_word_is_waited_for_until_drain_and_stop_need_the_time_and_less_with_nobody_there() {
    let mut world = World::new();
    world.accepted(start("pod", None));
    world.ask(Ask::Watch);
    world.terminate();
    world.pass(GRACE - DRAIN - 1, true);
    assert!(matches!(world.process(), ProcessState::Running { .. }));
    world.pass(1, false);
    assert!(matches!(world.process(), ProcessState::Draining { .. }));
    world.pass(DRAIN, true);
    assert_eq!(world.exit, Some(0));

    let mut world = World::new();
    world.accepted(start("pod", None));
    world.pass(100_000, true);
    world.terminate();
    world.pass(4_999, true);
    assert_eq!(world.exit, None);
    world.pass(1, true);
    assert_eq!(world.exit, Some(0));
}

#[test]
fn a_database_that_neither_drains_nor_stops_is_killed_before_the_deadline() {
    let mut world = World::new();
    world.accepted(start("pod", None));
    world.ask(Ask::Watch);
    world.terminate();
    while world.exit.is_none() {
        world.pass(100, false);
        assert!(world.since_termination() < GRACE);
    }
    assert_eq!(world.exit, Some(0));
    assert_eq!(world.accounts.unintended_ends, 0);
}

#[test]
fn a_short_grace_period_still_leaves_half_of_it_for_a_word() {
    let mut world = World::new();
    world.accepted(start("pod", None));
    world.ask(Ask::Watch);
    world.accepted(Ask::Deadline { left: Millis(10_000) });
    world.terminate();
    world.pass(4_900, true);
    assert!(matches!(world.process(), ProcessState::Running { .. }));
    world.accepted(leave("op"));
    assert!(world.programs.values().any(|purpose| *purpose == Purpose::Leave));
    assert!(world.refused(start("pod", None)).contains("told to end"));
}

#[test]
fn a_leave_that_runs_goes_on_past_the_deadline_and_one_that_fails_gives_way() {
    let mut world = World::new();
    world.accepted(start("pod", None));
    world.accepted(leave("op"));
    world.terminate();
    world.pass(2 * GRACE, true);
    assert!(world.programs.values().any(|purpose| *purpose == Purpose::Leave));
    assert!(matches!(world.process(), ProcessState::Running { .. }));
    world.program_ends(Purpose::Leave, 1);
    world.pass(20_000, true);
    assert_eq!(world.exit, Some(0));
    assert!(world.disk.leave.is_some_and(|leave| !leave.done), "the next pod takes it up");
}

#[test]
fn one_that_has_left_stays_for_its_peers_word_and_ends_alone_without_an_agent() {
    let mut world = World::new();
    world.accepted(start("pod", Some("me")));
    world.ask(Ask::Watch);
    world.accepted(leave("op"));
    world.terminate();
    world.program_ends(Purpose::Leave, 0);
    world.pass(20_000, true);
    assert!(matches!(world.process(), ProcessState::Running { .. }));
    assert!(world.refused(Ask::EndAfterLeave { operation: OperationId::new("another") }).contains("op"));
    world.event(Event::Gone(Client(1)));
    world.pass(5_000, true);
    assert_eq!(world.exit, Some(0));
    assert!(world.disk.leave.as_ref().is_some_and(|leave| leave.done));
    // Only its own container had ended: it is not started on this data again.
    let world = world.reborn("pod");
    assert_eq!(world.database, None);
}

#[test]
fn a_leave_program_that_succeeds_after_its_database_ended_has_succeeded() {
    let mut world = World::new();
    world.accepted(start("pod", Some("me")));
    world.accepted(leave("op"));
    world.terminate();
    world.database_ends(Some(0), None);
    world.pass(1_500, true);
    assert_eq!(world.started.len(), 1, "it waits for the leave program's word");
    world.program_ends(Purpose::Leave, 0);
    world.pass(5_000, true);
    assert_eq!(world.exit, Some(0));
    assert_eq!(world.started.len(), 1);
}

#[test]
fn one_that_has_left_stays_for_its_peers_word_also_where_its_database_ended_by_itself() {
    let ended = |by_the_end: fn(&mut World)| {
        let mut world = World::new();
        world.accepted(start("pod", Some("me")));
        world.ask(Ask::Watch);
        world.accepted(leave("op"));
        world.terminate();
        world.database_ends(Some(0), None);
        world.program_ends(Purpose::Leave, 0);
        world.pass(20_000, true);
        assert_eq!((world.process(), world.exit), (ProcessState::Stopped, None));
        by_the_end(&mut world);
        assert_eq!(world.exit, Some(0));
        assert_eq!(world.started.len(), 1);
    };
    ended(|world| world.accepted(Ask::EndAfterLeave { operation: OperationId::new("op") }));
    ended(|world| world.accepted(Ask::DrainAndStop));
    ended(|world| {
        world.event(Event::Gone(Client(1)));
        world.pass(5_000, true);
    });
    ended(|world| world.pass(GRACE, true));
}

#[test]
fn repeating_a_leave_neither_shortens_the_pause_nor_counts_again() {
    let mut world = World::new();
    world.accepted(start("pod", None));
    world.accepted(leave("op"));
    world.program_ends(Purpose::Leave, 1);
    for _ in 0..5 {
        world.accepted(leave("op"));
    }
    assert!(world.programs.is_empty());
    world.pass(1_000, true);
    assert_eq!(world.machine.status(world.now).leave.map(|leave| leave.tries), Some(2));
}

#[test]
fn a_grant_to_leave_ends_with_the_permission_it_was_given_beside() {
    let mut world = World::new();
    world.accepted(start("pod", Some("me")));
    world.accepted(leave("op"));
    world.program_ends(Purpose::Leave, 1);
    world.accepted(Ask::DrainAndStop);
    world.pass(20_000, true);
    world.accepted(start("pod", Some("me")));
    world.pass(20_000, true);
    assert!(matches!(world.process(), ProcessState::Running { .. }));
    assert!(world.programs.is_empty(), "it leaves again and nobody has granted it anew");
    world.accepted(leave("op"));
    assert_eq!(world.programs.values().collect::<Vec<_>>(), [&Purpose::Leave]);
}

#[test]
fn a_member_that_begins_anew_in_a_pod_does_not_leave_by_the_grant_of_the_one_before() {
    for identity in [None, Some("another")] {
        let mut world = World::new();
        world.accepted(start("pod", Some("me")));
        world.accepted(leave("op"));
        world.program_ends(Purpose::Leave, 1);
        world.database_ends(Some(1), None);
        world.accepted(start("pod", identity));
        world.pass(20_000, true);
        assert!(matches!(world.process(), ProcessState::Running { .. }));
        assert!(world.programs.is_empty(), "{identity:?} leaves by the grant of the one before");
    }
    // Its own grant outlives a crash.
    let mut world = World::new();
    world.accepted(start("pod", Some("me")));
    world.accepted(leave("op"));
    world.program_ends(Purpose::Leave, 1);
    world.database_ends(Some(1), None);
    world.accepted(start("pod", Some("me")));
    world.pass(20_000, true);
    assert_eq!(world.programs.values().collect::<Vec<_>>(), [&Purpose::Leave]);
}

#[test]
fn a_database_that_cannot_be_started_waits_like_one_that_died() {
    let mut world = World::new();
    world.unstartable = true;
    world.accepted(start("pod", None));
    assert!(matches!(world.process(), ProcessState::Backoff { failures: 1, .. }));
    let status = world.machine.status(world.now);
    assert!(status.notices.iter().any(|notice| notice.contains("no such file")));
    world.unstartable = false;
    world.pass(1_000, true);
    assert!(matches!(world.process(), ProcessState::Running { .. }));
}

#[test]
fn more_tools_than_may_run_are_refused() {
    let mut world = World::new();
    let tool = || Ask::Tool { program: program("tool"), timeout: Millis(1_000) };
    for _ in 0..TOOLS {
        assert_eq!(world.ask(tool()), None);
    }
    assert!(world.refused(tool()).contains("8 tools"));
    world.pass(1_000, true);
    let timed_out = |reply: &Reply| matches!(reply, Reply::Tool(tool) if tool.timed_out);
    assert_eq!(world.replies.iter().filter(|(_, reply)| timed_out(reply)).count(), TOOLS);
}

#[derive(Debug, Clone)]
enum Step {
    Ask(Ask),
    Gone,
    Terminate,
    Pass(u64, bool),
    DatabaseEnds(i32),
    ProgramEnds(Purpose, i32),
    Full(bool),
    Unstartable(bool),
    Reborn(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let name = prop_oneof![Just("a"), Just("b")];
    let end = name.clone().prop_map(|name| Ask::EndAfterLeave { operation: OperationId::new(name) });
    let ask = prop_oneof![
        2 => Just(Ask::Watch),
        4 => Just(start("pod", Some("me"))),
        1 => Just(start("pod", None)),
        1 => Just(start("other", Some("me"))),
        1 => Just(Ask::Stop),
        1 => Just(Ask::DrainAndStop),
        1 => Just(Ask::Restart),
        2 => name.prop_map(leave),
        1 => end,
        1 => (0_u64..90_000).prop_map(|left| Ask::Deadline { left: Millis(left) }),
        1 => Just(Ask::Tool { program: program("tool"), timeout: Millis(3_000) }),
    ];
    let purpose = prop_oneof![Just(Purpose::Drain), Just(Purpose::Leave), Just(Purpose::Tool)];
    prop_oneof![
        8 => ask.prop_map(Step::Ask),
        1 => Just(Step::Gone),
        1 => Just(Step::Terminate),
        4 => (1_u64..20_000, any::<bool>()).prop_map(|(millis, obeys)| Step::Pass(millis, obeys)),
        2 => (0_i32..2).prop_map(Step::DatabaseEnds),
        3 => (purpose, 0_i32..2).prop_map(|(purpose, code)| Step::ProgramEnds(purpose, code)),
        1 => any::<bool>().prop_map(Step::Full),
        1 => any::<bool>().prop_map(Step::Unstartable),
        1 => any::<bool>().prop_map(Step::Reborn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, rng_seed: proptest::test_runner::RngSeed::Fixed(3), failure_persistence: None, ..ProptestConfig::default() })]

    /// The rules themselves are in [`World::one`] and [`World::carry_out`].
    #[test]
    fn whatever_happens_no_rule_is_broken_and_told_to_end_it_ends(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Ask(ask) => {
                    let tool = matches!(ask, Ask::Tool { .. });
                    let reply = world.ask(ask);
                    prop_assert!(reply.is_some() || tool || world.exit.is_some(), "no answer");
                }
                Step::Gone => world.event(Event::Gone(Client(1))),
                Step::Terminate => world.terminate(),
                Step::Pass(millis, obeys) => world.pass(millis, obeys),
                Step::DatabaseEnds(code) => world.database_ends(Some(code), None),
                Step::ProgramEnds(purpose, code) => world.program_ends(purpose, code),
                Step::Full(full) => world.full = full,
                Step::Unstartable(unstartable) => world.unstartable = unstartable,
                // The launcher's death is its database's.
                Step::Reborn(same) => world = world.reborn(if same { "pod" } else { "other" }),
            }
            if world.exit.is_some() {
                world = world.reborn("pod");
            }
        }
        world.full = false;
        world.unstartable = false;
        world.terminate();
        // A leave may go on for ever; one that ends, either way, lets the launcher end.
        for _ in 0..10 {
            world.program_ends(Purpose::Leave, 1);
            world.pass(GRACE / 2, true);
        }
        prop_assert!(world.exit.is_some(), "never ended: {:?}", world.process());
        prop_assert!(world.accounts.open.is_none());
    }
}

#[test]
fn with_no_time_left_for_another_try_a_crash_ends_the_launcher_and_the_leave_waits_for_the_next_pod() {
    let mut world = World::new();
    world.accepted(start("pod", None));
    world.accepted(leave("op"));
    world.ask(Ask::Watch);
    world.terminate();
    world.pass(GRACE - DRAIN - 500, true);
    world.program_ends(Purpose::Leave, 1);
    world.unstartable = true;
    world.database_ends(None, Some(9));
    world.pass(1, true);
    assert_eq!(world.exit, Some(128 + 9));
    assert_eq!(world.started.len(), 1, "never without its pause");
    assert!(world.disk.leave.is_some_and(|leave| !leave.done));
}
