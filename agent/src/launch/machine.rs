//! The launcher's decisions: events in, effects out. No IO, no clock, no randomness.
//!
//! An event changes facts; [`Machine::settle`] then looks at all facts together and derives what is to be done next, so
//! that the order in which things become known does not matter. Whoever runs the machine carries its effects out in
//! order, answers [`Effect::Remember`], [`Effect::StartDatabase`] and [`Effect::RunProgram`] with their events, and calls
//! [`Event::Tick`] at [`Machine::wake`].
//!
//! The rules in short:
//! - The database runs only with a permission for this pod in memory that is *durable*; every word that changes memory is
//!   acted upon and answered after it was made durable, and refused when that fails.
//! - Told to end (`terminating`), it waits for the agent's word until so much is left as drain and stop need, or until no
//!   agent has been there for `reattach`; then it drains and stops.
//! - A granted leave goes on until it is done or the launcher is killed; one that has *failed* and waits for its next try
//!   gives way to drain and stop when their time has come.
//! - A terminating launcher does not start the database again, but for a granted leave that is not done: only a running
//!   database can leave, and a leave cut off by a crash can be asked for again. Not enough time: it ends, and the leave
//!   is taken up by the next pod.
//! - Where the leave program has said `done`, an ended database stays ended; a terminating launcher then waits for its
//!   agent's word as if it ran.

use super::accounts::{Accounts, doubled};
use super::memory::{LeaveMemory, Memory};
use protocol::id::Uid;
use protocol::launcher::{
    Ask, Care, DatabaseProgram, LAUNCHER_PROTOCOL, LauncherStatus, LeaveState, ProcessEnd, ProcessState, Program,
    Reply, StartPermission, ToolOutcome,
};
use protocol::time::{Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Tools that may run at a time; more are refused, so that a mad agent cannot fill the container with processes.
const TOOLS: usize = 8;
/// Notices kept for the status.
const NOTICES: usize = 5;
/// So much of a leave program's output is kept, in characters.
const LEAVE_OUTPUT: usize = 2000;
/// A memory that could not be written is tried again after so long.
const SAVE_AGAIN: Duration = Duration::from_secs(1);
/// A kill comes at least so long before the pod's own end, so that the end can still be written down.
const BEFORE_END: Duration = Duration::from_millis(500);

/// One connection to the launcher's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client(pub u64);

/// One process that the launcher has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Job(pub u64);

/// What a job that is not the database is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Makes the database flush before it stops.
    Drain,
    /// Makes it leave its cluster.
    Leave,
    /// Something an agent wants to know or do.
    Tool,
}

/// The signals the machine sends, to the whole process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Please end (SIGTERM).
    Stop,
    /// End (SIGKILL).
    Kill,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct End {
    /// Exit code, if it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel's count of kills for lack of memory has grown since it was started.
    pub out_of_memory: bool,
    /// The end of its output; empty for the database, whose output is passed through.
    pub stdout: String,
    /// The end of its complaints; empty for the database.
    pub stderr: String,
}

/// What can happen to a launcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An agent asks.
    Ask {
        /// Over which connection.
        client: Client,
        /// The number that the reply repeats.
        id: u64,
        /// What is asked.
        ask: Ask,
    },
    /// A connection has closed.
    Gone(Client),
    /// The stop signal has reached the launcher.
    Terminate,
    /// The answer to [`Effect::Remember`]; after `Ok` it is durable.
    Remembered {
        /// Which one.
        sequence: u64,
        /// Why it was not kept.
        result: Result<(), String>,
    },
    /// A process runs.
    Spawned {
        /// Which.
        job: Job,
        /// Its process id.
        pid: u32,
    },
    /// A process could not be started.
    NotSpawned {
        /// Which.
        job: Job,
        /// Why.
        why: String,
    },
    /// A process has ended, and nothing of its group is left.
    Ended {
        /// Which.
        job: Job,
        /// How.
        end: End,
    },
    /// Something a person should know.
    Trouble(String),
    /// Time has passed.
    Tick,
}

/// What the launcher is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Keep this for good, then say [`Event::Remembered`].
    Remember {
        /// Repeated in the answer.
        sequence: u64,
        /// What to keep.
        memory: Box<Memory>,
    },
    /// Keep the accounts; where that fails say [`Event::Trouble`]. Nothing waits for it.
    Account(Box<Accounts>),
    /// Write these files, then start the database in a process group of its own, its output passed through.
    StartDatabase {
        /// Its name.
        job: Job,
        /// Absolute path to content.
        files: BTreeMap<String, String>,
        /// What to run.
        program: Program,
    },
    /// Run a program beside it, its output kept.
    RunProgram {
        /// Its name.
        job: Job,
        /// What for.
        purpose: Purpose,
        /// What to run.
        program: Program,
    },
    /// Send a signal to the whole group of a process that has not ended.
    Signal {
        /// Which.
        job: Job,
        /// What.
        signal: Signal,
    },
    /// Answer an agent; nothing where it is gone.
    Reply {
        /// Over which connection.
        client: Client,
        /// The request's number.
        id: u64,
        /// The answer.
        reply: Reply,
    },
    /// Tell those who watch.
    Changed {
        /// Whom.
        clients: Vec<Client>,
        /// The state now.
        status: Box<LauncherStatus>,
    },
    /// Tell a person.
    Note(String),
    /// Kill what is left and end with this exit code.
    Exit(u8),
}

/// What does not change in a launcher's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSettings {
    /// The pod it runs in.
    pub pod: Uid,
    /// A number drawn at its start.
    pub life: u64,
    /// The pod's grace period, from the stop signal on, unless an agent knows better.
    pub grace: Duration,
    /// So long without any agent, a terminating launcher no longer waits for a word.
    pub reattach: Duration,
    /// How a dying database is treated before an agent has said so.
    pub care: Care,
    /// The database's command where an agent names none.
    pub command: Vec<String>,
    /// Folders in which a [`DatabaseProgram`] may write files.
    pub roots: Vec<PathBuf>,
    /// This start of the machine; times of another one mean nothing.
    pub boot: String,
}

/// What the database shall do, by the last word or the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Run,
    Stop { drain: bool },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Process {
    Held,
    /// Its start was ordered; no answer yet.
    Starting {
        job: Job,
        since: Timestamp,
    },
    Running(Alive),
    Backoff {
        since: Timestamp,
        until: Timestamp,
    },
    Draining {
        alive: Alive,
        drain: Job,
        give_up: Timestamp,
    },
    Stopping {
        alive: Alive,
        kill_at: Timestamp,
        killed: bool,
    },
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Alive {
    job: Job,
    pid: u32,
    since: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Terminating {
    since: Timestamp,
    deadline: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tool {
    client: Client,
    id: u64,
    kill_at: Timestamp,
    killed: bool,
}

/// A change of memory that waits until it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    sequence: u64,
    client: Client,
    id: u64,
    edit: Edit,
}

/// The words that change memory.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Edit {
    Care(Care),
    Start { program: DatabaseProgram, permission: StartPermission },
    Stop { drain: bool },
    Leave(LeaveMemory),
    Left(LeaveMemory),
}

/// The launcher. See the module's text.
#[derive(Debug, Clone)]
pub struct Machine {
    settings: MachineSettings,
    memory: Memory,
    accounts: Accounts,
    process: Process,
    wish: Wish,
    restart: bool,
    terminating: Option<Terminating>,
    /// Told by an agent, also before the stop signal came.
    deadline: Option<Timestamp>,
    watchers: BTreeSet<Client>,
    /// Since when nobody watches.
    alone_since: Timestamp,
    leave_job: Option<Job>,
    /// The leave program was told to end because the database under it has ended.
    leave_killed: bool,
    leave_next: Timestamp,
    leave_failures: u32,
    tools: BTreeMap<Job, Tool>,
    waiting: Option<Waiting>,
    queue: VecDeque<(Client, u64, Ask)>,
    next_job: u64,
    next_save: u64,
    /// A change that nobody waits for has not been kept yet: try (again) then.
    unsaved: Option<Timestamp>,
    saving: Option<u64>,
    /// The exit code of a database that ended unasked while the launcher was terminating.
    crashed: Option<u8>,
    notices: VecDeque<String>,
    revision: u64,
    told: Option<LauncherStatus>,
    wake: Option<Timestamp>,
    exited: bool,
    out: Vec<Effect>,
}

impl Machine {
    /// A launcher at its start, with what it has found on its disk.
    pub fn new(
        settings: MachineSettings,
        now: Timestamp,
        memory: Memory,
        mut accounts: Accounts,
    ) -> (Self, Vec<Effect>) {
        let before = accounts.unintended_ends;
        let care = memory.care.clone().unwrap_or_else(|| settings.care.clone());
        let found = accounts.clone();
        accounts.begin(now, &settings.pod, &settings.boot, &care);
        // The database died together with its launcher: that is a crash like any other.
        let process = match accounts.unintended_ends > before {
            true => Process::Backoff { since: now, until: now.plus(accounts.pause(&care)) },
            false => Process::Held,
        };
        let changed = accounts != found;
        let mut machine = Self {
            settings,
            memory,
            accounts,
            process,
            wish: Wish::Run,
            restart: false,
            terminating: None,
            deadline: None,
            watchers: BTreeSet::new(),
            alone_since: now,
            leave_job: None,
            leave_killed: false,
            leave_next: now,
            leave_failures: 0,
            tools: BTreeMap::new(),
            waiting: None,
            queue: VecDeque::new(),
            next_job: 1,
            next_save: 1,
            unsaved: None,
            saving: None,
            crashed: None,
            notices: VecDeque::new(),
            revision: 0,
            told: None,
            wake: None,
            exited: false,
            out: Vec::new(),
        };
        if changed {
            machine.account();
        }
        if !machine.permitted() {
            machine.process = Process::Held;
        }
        let effects = machine.finish(now);
        (machine, effects)
    }

    /// Something has happened.
    pub fn handle(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        if self.exited {
            return Vec::new();
        }
        match event {
            Event::Ask { client, id, ask } => self.queue.push_back((client, id, ask)),
            Event::Gone(client) => {
                self.watchers.remove(&client);
                self.queue.retain(|(asker, _, _)| *asker != client);
                if self.watchers.is_empty() {
                    self.alone_since = now;
                }
            }
            Event::Terminate => self.terminate(now),
            Event::Remembered { sequence, result } => self.remembered(now, sequence, result),
            Event::Spawned { job, pid } => self.spawned(job, pid),
            Event::NotSpawned { job, why } => self.not_spawned(now, job, &why),
            Event::Ended { job, end } => self.ended(now, job, end),
            Event::Trouble(text) => self.note(text),
            Event::Tick => {}
        }
        self.finish(now)
    }

    /// When [`Event::Tick`] is due, if nothing happens before.
    pub fn wake(&self) -> Option<Timestamp> {
        self.wake
    }

    /// What it knows, as it would be said now.
    pub fn status(&self, now: Timestamp) -> LauncherStatus {
        let ours = |leave: &&LeaveMemory| leave.pod == self.settings.pod;
        LauncherStatus {
            protocol: LAUNCHER_PROTOCOL,
            revision: self.revision,
            life: self.settings.life,
            process: self.process_state(now),
            terminating: self.terminating.is_some(),
            terminating_for: self.terminating.map(|t| now.since(t.since).into()),
            permission: self.memory.permission.clone(),
            leave: self.memory.leave.as_ref().filter(ours).map(|leave| LeaveState {
                operation: leave.operation.clone(),
                tries: leave.tries,
                running: self.leave_job.is_some(),
                last: leave.last.clone(),
                done: leave.done,
            }),
            starts: self.accounts.starts,
            unintended_ends: self.accounts.unintended_ends,
            ends: self.accounts.ends.clone(),
            resident: None,
            open_files: None,
            deadline_left: self.terminating.map(|t| t.deadline.since(now).into()),
            notices: self.notices.iter().cloned().collect(),
        }
    }

    fn process_state(&self, now: Timestamp) -> ProcessState {
        match &self.process {
            // Nobody sees `Starting`: its answer comes before anything else is said.
            Process::Held | Process::Starting { .. } => ProcessState::Held,
            Process::Running(alive) => ProcessState::Running { pid: alive.pid, since: now.since(alive.since).into() },
            Process::Backoff { until, .. } => ProcessState::Backoff {
                failures: self.accounts.failures,
                crash_loop: self.accounts.looping,
                left: until.since(now).into(),
            },
            Process::Draining { alive, .. } => ProcessState::Draining { pid: alive.pid },
            Process::Stopping { alive, .. } => ProcessState::Stopping { pid: alive.pid },
            Process::Stopped => ProcessState::Stopped,
        }
    }

    // ---- what happened ----

    fn terminate(&mut self, now: Timestamp) {
        if self.terminating.is_some() {
            return;
        }
        let deadline = match self.deadline {
            Some(told) if told > now => told,
            Some(_) | None => now.plus(self.settings.grace),
        };
        self.terminating = Some(Terminating { since: now, deadline });
        self.restart = false;
        if let Some(run) = &mut self.accounts.open {
            run.ending = true;
            self.account();
        }
    }

    fn remembered(&mut self, now: Timestamp, sequence: u64, result: Result<(), String>) {
        if let Some(waiting) = self.waiting.take_if(|waiting| waiting.sequence == sequence) {
            match result {
                Ok(()) => {
                    self.apply(now, waiting.edit);
                    self.reply(waiting.client, waiting.id, Reply::Accepted);
                }
                Err(why) => {
                    let text = format!("the launcher's volume did not keep it ({why}): nothing was changed, try again");
                    self.note(text.clone());
                    // What is on disk now is not known: the state in force is written again.
                    self.unsaved = Some(now.plus(SAVE_AGAIN));
                    self.reply(waiting.client, waiting.id, Reply::Refused(text));
                }
            }
        } else if self.saving == Some(sequence) {
            self.saving = None;
            if let Err(why) = result {
                self.note(format!(
                    "the launcher's volume does not keep its memory ({why}): it goes on and tries again"
                ));
                self.unsaved = Some(now.plus(SAVE_AGAIN));
            }
        }
    }

    fn spawned(&mut self, job: Job, pid: u32) {
        if let Process::Starting { job: starting, since } = self.process
            && starting == job
        {
            self.process = Process::Running(Alive { job, pid, since });
        }
    }

    fn not_spawned(&mut self, now: Timestamp, job: Job, why: &str) {
        if let Process::Starting { job: starting, .. } = self.process
            && starting == job
        {
            self.note(format!("the database could not be started: {why}"));
        }
        let end = End { stderr: why.to_owned(), ..End::default() };
        self.ended(now, job, end);
    }

    fn ended(&mut self, now: Timestamp, job: Job, end: End) {
        if let Some(tool) = self.tools.remove(&job) {
            let outcome =
                ToolOutcome { code: end.code, stdout: end.stdout, stderr: end.stderr, timed_out: tool.killed };
            self.reply(tool.client, tool.id, Reply::Tool(outcome));
        } else if self.leave_job == Some(job) {
            self.leave_ended(now, &end);
        } else {
            match self.process.clone() {
                Process::Draining { alive, drain, .. } if drain == job => {
                    if end.code != Some(0) {
                        self.note(format!(
                            "drain did not succeed ({}): the database is stopped without it",
                            describe(&end)
                        ));
                    }
                    self.begin_stop(now, alive);
                }
                Process::Starting { job: ours, since } if ours == job => {
                    self.database_ended(now, since, &end, false);
                }
                Process::Running(alive) if alive.job == job => {
                    self.database_ended(now, alive.since, &end, false);
                }
                Process::Draining { alive, drain, .. } if alive.job == job => {
                    self.signal(drain, Signal::Kill);
                    self.database_ended(now, alive.since, &end, true);
                }
                Process::Stopping { alive, .. } if alive.job == job => {
                    self.database_ended(now, alive.since, &end, true);
                }
                // A drain that outlived its database.
                Process::Held
                | Process::Starting { .. }
                | Process::Running(_)
                | Process::Backoff { .. }
                | Process::Draining { .. }
                | Process::Stopping { .. }
                | Process::Stopped => {}
            }
        }
    }

    fn leave_ended(&mut self, now: Timestamp, end: &End) {
        self.leave_job = None;
        self.leave_killed = false;
        let done = end.code == Some(0);
        if let Some(leave) = &mut self.memory.leave {
            let printed = [end.stdout.trim_end(), end.stderr.trim_end()].join("\n");
            leave.last = Some((end.code, tail(printed.trim(), LEAVE_OUTPUT)));
            // What its peers said holds, however the program ends.
            leave.done |= done;
            if !leave.done && self.memory.permission.is_none() {
                self.memory.leave = None;
            }
        }
        if done {
            self.leave_failures = 0;
            // Whatever became of the database under it: this is an orderly end.
            self.crashed = None;
        } else {
            self.leave_failures = self.leave_failures.saturating_add(1);
            self.leave_next = now.plus(doubled(self.care(), self.leave_failures));
        }
        self.unsaved = Some(now);
    }

    fn database_ended(&mut self, now: Timestamp, since: Timestamp, end: &End, asked: bool) {
        // One that has left may end by itself.
        let unintended = !asked && !self.left();
        let care = self.care().clone();
        self.accounts.ended(
            now,
            &care,
            ProcessEnd {
                code: end.code,
                signal: end.signal,
                unintended,
                out_of_memory: end.out_of_memory,
                ran: now.since(since).into(),
            },
        );
        self.account();
        if unintended && self.terminating.is_some() {
            self.crashed = Some(exit_code(end));
        }
        self.process = if unintended {
            Process::Backoff { since: now, until: now.plus(self.accounts.pause(&care)) }
        } else {
            Process::Stopped
        };
        // A restart has ended what it was to end.
        self.restart = false;
    }

    // ---- what is asked ----

    /// Nothing is answered while something that it depends on is not known.
    fn busy(&self) -> bool {
        self.waiting.is_some() || matches!(self.process, Process::Starting { .. })
    }

    fn ask(&mut self, now: Timestamp, client: Client, id: u64, ask: Ask) {
        match self.consider(now, client, id, ask) {
            Ok(Answer::Now(reply)) => self.reply(client, id, reply),
            Ok(Answer::Later) => {}
            Ok(Answer::After(edit)) => {
                let next = self.edited(&edit);
                if next == self.memory {
                    self.apply(now, edit);
                    self.reply(client, id, Reply::Accepted);
                } else {
                    let sequence = self.remember(next);
                    self.waiting = Some(Waiting { sequence, client, id, edit });
                }
            }
            Err(why) => self.reply(client, id, Reply::Refused(why)),
        }
    }

    fn consider(&mut self, now: Timestamp, client: Client, id: u64, ask: Ask) -> Result<Answer, String> {
        match ask {
            Ask::Watch => {
                self.watchers.insert(client);
                Ok(Answer::Now(Reply::Status(self.status(now))))
            }
            Ask::Care(care) => {
                if care.backoff_from > care.backoff_to || care.crash_exits == 0 {
                    return Err(format!(
                        "back-off from {} ms to {} ms with {} exits cannot be: from must not exceed to, and exits be at least 1",
                        care.backoff_from.0, care.backoff_to.0, care.crash_exits
                    ));
                }
                Ok(Answer::After(Edit::Care(care)))
            }
            Ask::Start { program, permission } => self.consider_start(program, permission).map(Answer::After),
            Ask::Stop => Ok(Answer::After(Edit::Stop { drain: false })),
            Ask::DrainAndStop if self.terminating.is_some() => {
                // The permission stays: should only this container end, its next start needs nobody.
                self.wish = Wish::Stop { drain: true };
                Ok(Answer::Now(Reply::Accepted))
            }
            Ask::DrainAndStop => Ok(Answer::After(Edit::Stop { drain: true })),
            Ask::Leave { operation } => {
                let earlier = self.memory.leave.as_ref().filter(|leave| leave.operation == operation);
                let next = match earlier {
                    Some(leave) => LeaveMemory {
                        pod: self.settings.pod.clone(),
                        // Told again in another pod: peers did not believe what was said in the earlier one.
                        done: leave.done && leave.pod == self.settings.pod,
                        ..leave.clone()
                    },
                    None => LeaveMemory {
                        operation,
                        pod: self.settings.pod.clone(),
                        tries: u32::from(self.leave_job.is_some()),
                        last: None,
                        done: false,
                    },
                };
                if self.memory.leave.as_ref() != Some(&next) {
                    self.check_leave()?;
                }
                Ok(Answer::After(Edit::Leave(next)))
            }
            Ask::EndAfterLeave { operation } => match self.our_leave() {
                Some(leave) if leave.operation != operation => Err(format!(
                    "the end after leave {operation} was asked for, but the leave granted here is {}: nothing was changed",
                    leave.operation
                )),
                Some(_) | None => Ok(Answer::After(Edit::Left(LeaveMemory {
                    operation,
                    pod: self.settings.pod.clone(),
                    tries: self.memory.leave.as_ref().map_or(0, |leave| leave.tries),
                    last: self.memory.leave.as_ref().and_then(|leave| leave.last.clone()),
                    done: true,
                }))),
            },
            Ask::Deadline { left } => {
                let deadline = now.plus(left.into());
                self.deadline = Some(deadline);
                if let Some(terminating) = &mut self.terminating {
                    terminating.deadline = deadline;
                }
                Ok(Answer::Now(Reply::Accepted))
            }
            Ask::Tool { program, timeout } => {
                if program.argv.is_empty() {
                    return Err("the tool has an empty command, but needs at least a program: name one".to_owned());
                }
                if self.tools.len() >= TOOLS {
                    return Err(format!("{TOOLS} tools run already, which is the most: ask again when one has ended"));
                }
                let job = self.job();
                self.tools.insert(job, Tool { client, id, kill_at: now.plus(timeout.into()), killed: false });
                self.out.push(Effect::RunProgram { job, purpose: Purpose::Tool, program });
                Ok(Answer::Later)
            }
            Ask::Restart => {
                self.check_restart()?;
                match &mut self.process {
                    Process::Running(_) => self.restart = true,
                    Process::Backoff { until, .. } => *until = now,
                    // It is about to be started, or was asked to end: what follows is a start already.
                    Process::Held
                    | Process::Starting { .. }
                    | Process::Draining { .. }
                    | Process::Stopping { .. }
                    | Process::Stopped => {}
                }
                Ok(Answer::Now(Reply::Accepted))
            }
        }
    }

    fn consider_start(&self, program: DatabaseProgram, permission: StartPermission) -> Result<Edit, String> {
        if permission.pod != self.settings.pod {
            return Err(format!(
                "the permission is for pod {}, but this is pod {}: ask for one for this pod",
                permission.pod, self.settings.pod
            ));
        }
        if self.terminating.is_some() {
            return Err("this launcher was told to end, and starts nothing any more: wait for the next pod".to_owned());
        }
        if let Some(identity) = &permission.identity
            && self.memory.left.contains(identity)
        {
            return Err(format!(
                "{identity} has left its cluster for good, as its peers confirmed: move its data aside and start a new member"
            ));
        }
        if program.run.argv.is_empty() && self.settings.command.is_empty() {
            return Err("no command is given for the database, neither here nor to the launcher: name one".to_owned());
        }
        for path in program.files.keys() {
            self.check_file(Path::new(path))?;
        }
        Ok(Edit::Start { program, permission })
    }

    fn check_file(&self, path: &Path) -> Result<(), String> {
        let plain = path.is_absolute()
            && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        let inside = self.settings.roots.iter().any(|root| path.starts_with(root) && path != root);
        if plain && inside {
            return Ok(());
        }
        let roots: Vec<String> = self.settings.roots.iter().map(|root| root.display().to_string()).collect();
        Err(format!(
            "{} is not a plain path under one of [{}]: the launcher writes nowhere else; name the folder at its start",
            path.display(),
            roots.join(", ")
        ))
    }

    fn check_leave(&self) -> Result<(), String> {
        if !self.permitted() {
            return Err(
                "the database has no permission to run in this pod, and only a running one can leave: start it first"
                    .to_owned(),
            );
        }
        match &self.memory.program {
            Some(program) if !program.leave.argv.is_empty() => {}
            Some(_) | None => {
                return Err("no program is known that makes this database leave: start it with one first".to_owned());
            }
        }
        match self.wish {
            Wish::Run => Ok(()),
            Wish::Stop { .. } => {
                Err("the database drains or stops already: the leave comes too late, grant it to the next pod"
                    .to_owned())
            }
        }
    }

    fn check_restart(&self) -> Result<(), String> {
        if self.terminating.is_some() {
            return Err("this launcher was told to end, and starts nothing any more".to_owned());
        }
        if !self.permitted() || self.wish != Wish::Run {
            return Err("the database has no permission to run: start it instead".to_owned());
        }
        if self.leave_job.is_some() || self.left() {
            return Err("the database leaves its cluster or has left it: a restart would undo that".to_owned());
        }
        Ok(())
    }

    /// What memory becomes by this word.
    fn edited(&self, edit: &Edit) -> Memory {
        let mut memory = self.memory.clone();
        match edit {
            Edit::Care(care) => memory.care = Some(care.clone()),
            Edit::Start { program, permission } => {
                // A database that runs goes on leaving; one that has ended after its leave is asked for anew.
                let ended = matches!(self.process, Process::Held | Process::Stopped | Process::Backoff { .. });
                // A grant is for one member: whoever comes to be another here, or is not one yet, was granted nothing.
                let earlier = memory.permission.as_ref().and_then(|given| given.identity.as_ref());
                let another = permission.identity.is_none()
                    || earlier.is_some_and(|earlier| permission.identity.as_ref() != Some(earlier));
                if ended && (self.left() || another) {
                    memory.leave = None;
                }
                memory.program = Some(program.clone());
                memory.permission = Some(permission.clone());
            }
            Edit::Stop { .. } => {
                memory.permission = None;
                // What was granted to it and is not done is taken back with it: told to run again, it is granted anew. A
                // program that runs may still say that it is done.
                memory.leave = memory.leave.filter(|leave| leave.done || self.leave_job.is_some());
            }
            Edit::Leave(leave) => memory.leave = Some(leave.clone()),
            Edit::Left(leave) => {
                if let Some(identity) = memory.permission.take().and_then(|given| given.identity)
                    && !memory.left.contains(&identity)
                {
                    memory.left.push(identity);
                }
                memory.leave = Some(leave.clone());
            }
        }
        memory
    }

    /// The word is durable: it holds.
    fn apply(&mut self, now: Timestamp, edit: Edit) {
        let next = self.edited(&edit);
        match edit {
            Edit::Care(_) => {}
            Edit::Start { .. } => {
                let other = next.program != self.memory.program;
                if other && let Process::Backoff { until, .. } = &mut self.process {
                    // Another program may well be the remedy; were it not, the next pause is the longer one.
                    *until = now;
                }
                if self.wish != Wish::Run {
                    self.accounts.forgive();
                }
                self.wish = Wish::Run;
            }
            Edit::Stop { drain } => self.wish = Wish::Stop { drain },
            // Said again, it must not shorten the pause after a failure.
            Edit::Leave(_) if next.leave == self.memory.leave => {}
            Edit::Leave(_) => {
                self.leave_next = now;
                self.leave_failures = 0;
            }
            Edit::Left(_) => self.wish = Wish::Stop { drain: false },
        }
        self.memory = next;
    }

    // ---- what follows ----

    fn finish(&mut self, now: Timestamp) -> Vec<Effect> {
        self.wake = None;
        self.settle(now);
        while !self.busy() && !self.exited {
            let Some((client, id, ask)) = self.queue.pop_front() else {
                break;
            };
            self.ask(now, client, id, ask);
            self.settle(now);
        }
        self.tell(now);
        std::mem::take(&mut self.out)
    }

    /// Derives from all facts what is to be done next. Repeating it changes nothing.
    fn settle(&mut self, now: Timestamp) {
        self.settle_memory(now);
        self.settle_tools(now);
        // Each round does one step; each step leads on, so this ends.
        while !self.exited && self.settle_process(now) {}
    }

    fn settle_memory(&mut self, now: Timestamp) {
        if self.saving.is_none()
            && self.waiting.is_none()
            && let Some(at) = self.unsaved
            && self.due(now, at)
        {
            self.unsaved = None;
            let sequence = self.remember(self.memory.clone());
            self.saving = Some(sequence);
        }
    }

    fn settle_tools(&mut self, now: Timestamp) {
        let running: Vec<(Job, Timestamp)> =
            self.tools.iter().filter(|(_, tool)| !tool.killed).map(|(job, tool)| (*job, tool.kill_at)).collect();
        for (job, kill_at) in running {
            if self.due(now, kill_at) {
                self.signal(job, Signal::Kill);
                if let Some(tool) = self.tools.get_mut(&job) {
                    tool.killed = true;
                }
            }
        }
    }

    /// One step of the database; whether there was one.
    fn settle_process(&mut self, now: Timestamp) -> bool {
        match self.process.clone() {
            Process::Starting { .. } => false,
            Process::Held | Process::Stopped => {
                if self.may_start(now) {
                    self.start(now);
                    return true;
                }
                self.settle_end(now);
                false
            }
            Process::Backoff { since, until } => self.settle_backoff(now, since, until),
            Process::Running(alive) => self.settle_running(now, alive),
            Process::Draining { alive, drain, give_up } => {
                let skip = self.wish == Wish::Stop { drain: false };
                if skip || self.due(now, give_up) {
                    self.signal(drain, Signal::Kill);
                    if !skip {
                        self.note("drain has not ended in its time: the database is stopped without it".to_owned());
                    }
                    self.begin_stop(now, alive);
                    return true;
                }
                false
            }
            Process::Stopping { alive, kill_at, killed: false } => {
                if self.due(now, kill_at) {
                    self.signal(alive.job, Signal::Kill);
                    self.note("the database has not ended after the stop signal: it was killed".to_owned());
                    self.process = Process::Stopping { alive, kill_at, killed: true };
                    return true;
                }
                false
            }
            Process::Stopping { killed: true, .. } => false,
        }
    }

    fn settle_backoff(&mut self, now: Timestamp, since: Timestamp, until: Timestamp) -> bool {
        // The leave program may still say that it has left, whatever became of the database under it.
        if let Some(job) = self.leave_job {
            if !self.leave_killed && self.due(now, since.plus(self.care().stop_timeout.into())) {
                self.signal(job, Signal::Kill);
                self.leave_killed = true;
            }
            return false;
        }
        if !self.may_start(now) {
            if self.terminating.is_some() && !self.left() {
                // Too late for another try, also in a moment when no pause is left to be waited for.
                self.wish = Wish::Stop { drain: false };
            }
            self.process = if self.wish == Wish::Run && self.memory.permission.is_none() {
                Process::Held
            } else {
                Process::Stopped
            };
            return true;
        }
        if self.due(now, until) {
            self.start(now);
            return true;
        }
        if let Some(terminating) = self.terminating {
            // Wakes up to notice that the time is over.
            self.due(now, terminating.deadline);
        }
        false
    }

    fn settle_running(&mut self, now: Timestamp, alive: Alive) -> bool {
        if let Wish::Stop { drain } = self.wish {
            if let Some(job) = self.leave_job
                && !self.left()
                && !self.leave_killed
            {
                self.signal(job, Signal::Kill);
                self.leave_killed = true;
            }
            if drain {
                self.begin_drain(now, alive);
            } else {
                self.begin_stop(now, alive);
            }
            return true;
        }
        if self.restart {
            self.begin_stop(now, alive);
            return true;
        }
        let leaving = self.leaving();
        if let Some(terminating) = self.terminating
            && let Some(wish) = self.end_of_waiting(now, terminating, leaving)
        {
            self.wish = wish;
            return true;
        }
        if leaving && self.leave_job.is_none() && self.due(now, self.leave_next) {
            self.try_leave(now);
            return true;
        }
        false
    }

    /// Whether a terminating launcher waits no longer, and what it does then.
    fn end_of_waiting(&mut self, now: Timestamp, terminating: Terminating, leaving: bool) -> Option<Wish> {
        let drain_time = self.time_to_drain(terminating);
        let stop_time = Duration::from(self.care().stop_timeout).min(drain_time);
        let drain_by = terminating.deadline.minus(drain_time);
        let stop_by = terminating.deadline.minus(stop_time);
        let nobody = match self.watchers.is_empty() {
            true => {
                let from = self.alone_since.max(terminating.since);
                self.due(now, from.plus(self.settings.reattach))
            }
            false => false,
        };
        if self.left() {
            return (nobody || self.due(now, stop_by)).then_some(Wish::Stop { drain: false });
        }
        if leaving {
            // One that runs goes on until it is done or killed; one that has failed gives way.
            return (self.leave_job.is_none() && self.due(now, drain_by)).then_some(Wish::Stop { drain: true });
        }
        (nobody || self.due(now, drain_by)).then_some(Wish::Stop { drain: true })
    }

    /// Nothing runs and nothing will. One that has left and whose database has ended by itself waits as if it ran: until the
    /// others have recorded that it left, its pilot's voice may be the one they need, and ends with this.
    fn settle_end(&mut self, now: Timestamp) {
        let Some(terminating) = self.terminating else {
            return;
        };
        let waits = self.left() && self.wish == Wish::Run && self.end_of_waiting(now, terminating, false).is_none();
        if !waits && self.leave_job.is_none() && self.waiting.is_none() && self.saving.is_none() {
            self.exited = true;
        }
    }

    fn start(&mut self, now: Timestamp) {
        let Some(program) = self.memory.program.clone() else {
            return;
        };
        let mut run = program.run;
        if run.argv.is_empty() {
            run.argv.clone_from(&self.settings.command);
        }
        let job = self.job();
        self.accounts.starting(&self.settings.pod);
        if let Some(open) = &mut self.accounts.open {
            open.ending = self.terminating.is_some();
        }
        self.account();
        self.crashed = None;
        self.process = Process::Starting { job, since: now };
        self.out.push(Effect::StartDatabase { job, files: program.files, program: run });
    }

    fn begin_drain(&mut self, now: Timestamp, alive: Alive) {
        let program = self.memory.program.as_ref().map(|program| program.drain.clone());
        let Some(program) = program.filter(|program| !program.argv.is_empty()) else {
            self.begin_stop(now, alive);
            return;
        };
        let drain_time: Duration = self.care().time_to_drain.into();
        let stop_time = Duration::from(self.care().stop_timeout).min(drain_time / 2);
        let mut give_up = now.plus(drain_time.saturating_sub(stop_time));
        if let Some(terminating) = self.terminating {
            give_up = give_up.min(terminating.deadline.minus(stop_time));
        }
        let drain = self.job();
        self.out.push(Effect::RunProgram { job: drain, purpose: Purpose::Drain, program });
        self.process = Process::Draining { alive, drain, give_up: give_up.max(now) };
    }

    fn begin_stop(&mut self, now: Timestamp, alive: Alive) {
        let mut kill_at = now.plus(self.care().stop_timeout.into());
        if let Some(terminating) = self.terminating {
            let last = terminating.deadline.minus(BEFORE_END);
            // A deadline that has passed was wrong, as the launcher still lives: then the stop has its full time.
            if last > now {
                kill_at = kill_at.min(last);
            }
        }
        self.signal(alive.job, Signal::Stop);
        self.process = Process::Stopping { alive, kill_at, killed: false };
    }

    fn try_leave(&mut self, now: Timestamp) {
        let Some(program) = self.memory.program.as_ref().map(|program| program.leave.clone()) else {
            return;
        };
        let Some(leave) = &mut self.memory.leave else {
            return;
        };
        leave.tries = leave.tries.saturating_add(1);
        let job = self.job();
        self.leave_job = Some(job);
        // The grant is durable already; a count that is lost costs nothing.
        self.unsaved = Some(now);
        self.settle_memory(now);
        self.out.push(Effect::RunProgram { job, purpose: Purpose::Leave, program });
    }

    // ---- what is the case ----

    fn care(&self) -> &Care {
        self.memory.care.as_ref().unwrap_or(&self.settings.care)
    }

    /// What is kept for drain and stop; half of a grace period at most, so that a short one leaves time for a word.
    fn time_to_drain(&self, terminating: Terminating) -> Duration {
        let whole = terminating.deadline.since(terminating.since);
        Duration::from(self.care().time_to_drain).min(whole / 2)
    }

    /// A permission for this pod is on disk.
    fn permitted(&self) -> bool {
        self.memory.program.is_some()
            && self.memory.permission.as_ref().is_some_and(|given| given.pod == self.settings.pod)
    }

    fn our_leave(&self) -> Option<&LeaveMemory> {
        self.memory.leave.as_ref().filter(|leave| leave.pod == self.settings.pod)
    }

    /// A leave was granted to this pod and is not done.
    fn leaving(&self) -> bool {
        self.permitted() && self.our_leave().is_some_and(|leave| !leave.done)
    }

    /// The leave program has said so, in this pod.
    fn left(&self) -> bool {
        self.our_leave().is_some_and(|leave| leave.done)
    }

    fn may_start(&self, now: Timestamp) -> bool {
        if !self.permitted() || self.wish != Wish::Run || self.left() {
            return false;
        }
        match self.terminating {
            None => true,
            Some(terminating) => {
                let at = match self.process {
                    Process::Backoff { until, .. } => until.max(now),
                    Process::Held
                    | Process::Starting { .. }
                    | Process::Running(_)
                    | Process::Draining { .. }
                    | Process::Stopping { .. }
                    | Process::Stopped => now,
                };
                self.leaving() && at < terminating.deadline.minus(self.time_to_drain(terminating))
            }
        }
    }

    // ---- small things ----

    /// Whether this moment has come; where it has not, the machine is woken then.
    fn due(&mut self, now: Timestamp, at: Timestamp) -> bool {
        if now >= at {
            return true;
        }
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
        false
    }

    fn job(&mut self) -> Job {
        let job = Job(self.next_job);
        self.next_job += 1;
        job
    }

    fn remember(&mut self, memory: Memory) -> u64 {
        let sequence = self.next_save;
        self.next_save += 1;
        self.out.push(Effect::Remember { sequence, memory: Box::new(memory) });
        sequence
    }

    fn account(&mut self) {
        self.out.push(Effect::Account(Box::new(self.accounts.clone())));
    }

    fn signal(&mut self, job: Job, signal: Signal) {
        self.out.push(Effect::Signal { job, signal });
    }

    fn reply(&mut self, client: Client, id: u64, reply: Reply) {
        self.out.push(Effect::Reply { client, id, reply });
    }

    fn note(&mut self, text: String) {
        self.out.push(Effect::Note(text.clone()));
        if self.notices.back() != Some(&text) {
            self.notices.push_back(text);
        }
        if self.notices.len() > NOTICES {
            self.notices.pop_front();
        }
    }

    /// Tells those who watch where something but the time has changed, and last of all ends.
    fn tell(&mut self, now: Timestamp) {
        if !matches!(self.process, Process::Starting { .. }) {
            let status = self.status(now);
            let timeless = timeless(status);
            if self.told.as_ref() != Some(&timeless) {
                self.revision += 1;
                self.told = Some(LauncherStatus { revision: self.revision, ..timeless });
                if !self.watchers.is_empty() {
                    self.out.push(Effect::Changed {
                        clients: self.watchers.iter().copied().collect(),
                        status: Box::new(self.status(now)),
                    });
                }
            }
        }
        if self.exited {
            self.out.push(Effect::Exit(self.crashed.unwrap_or(0)));
        }
    }
}

enum Answer {
    Now(Reply),
    /// When a tool has ended.
    Later,
    /// When this is durable.
    After(Edit),
}

/// The status without what changes by itself.
fn timeless(status: LauncherStatus) -> LauncherStatus {
    let process = match status.process {
        ProcessState::Running { pid, .. } => ProcessState::Running { pid, since: Millis(0) },
        ProcessState::Backoff { failures, crash_loop, .. } => {
            ProcessState::Backoff { failures, crash_loop, left: Millis(0) }
        }
        same @ (ProcessState::Held
        | ProcessState::Draining { .. }
        | ProcessState::Stopping { .. }
        | ProcessState::Stopped) => same,
    };
    LauncherStatus { process, terminating_for: None, deadline_left: None, ..status }
}

/// What a shell would say of such an end.
fn exit_code(end: &End) -> u8 {
    let code = match (end.code, end.signal) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    u8::try_from(code).unwrap_or(1)
}

fn describe(end: &End) -> String {
    let how = match (end.code, end.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "not started".to_owned(),
    };
    match end.stderr.trim() {
        "" => how,
        complaint => format!("{how}: {}", tail(complaint, 200)),
    }
}

/// The last so many characters.
fn tail(text: &str, most: usize) -> String {
    let skip = text.chars().count().saturating_sub(most);
    text.chars().skip(skip).collect()
}

#[cfg(test)]
mod tests;
