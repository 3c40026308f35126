//! A pod's launcher: the machine of production over the frozen talk, and the model database in place of processes.

use super::kube::ended;
use super::network::Stream;
use super::world::World;
use agent::launch::default_care;
use agent::launch::machine::{Client, Effect, Event, Machine, MachineSettings, Purpose, Signal};
use agent::launch::wire::{Heard, hear, say};
use protocol::id::{PilotName, Uid};
use protocol::launcher::Line;
use protocol::time::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::sleep;

/// What reaches a launcher.
pub(crate) enum Told {
    /// Something of its machine.
    Event(Event),
    /// An agent connects.
    Connect(Stream),
    /// A line of an agent.
    Line(Client, Vec<u8>),
}

/// Where a launcher is reached.
#[derive(Clone)]
pub(crate) struct Door(mpsc::UnboundedSender<Told>);

impl Door {
    pub(crate) fn connect(&self, stream: Stream) -> Result<(), ()> {
        self.0.send(Told::Connect(stream)).map_err(|_| ())
    }

    pub(crate) fn tell(&self, told: Told) {
        // One that has ended needs no word.
        let _ = self.0.send(told);
    }
}

/// Starts the launcher of a pod.
pub(crate) fn start(world: &Arc<World>, name: &PilotName, uid: &Uid, claim: &Uid, life: u64) -> Door {
    let (to, from) = mpsc::unbounded_channel();
    let door = Door(to);
    let offset = super::machine::offset(name);
    let (memory, accounts) = {
        let mut kube = world.kube();
        let volume = kube.volume(claim);
        (volume.launcher.clone(), volume.accounts.clone())
    };
    let settings = MachineSettings {
        pod: uid.clone(),
        life,
        grace: Duration::from_secs(60),
        reattach: Duration::from_secs(30),
        care: default_care(),
        command: vec!["database".to_owned()],
        roots: Vec::new(),
        boot: "model".to_owned(),
    };
    let at = Timestamp::from_millis(offset + world.now());
    let (machine, first) = Machine::new(settings, at, memory, accounts);
    let launcher = Launcher {
        world: world.clone(),
        door: door.clone(),
        name: name.clone(),
        claim: claim.clone(),
        offset,
        machine,
        clients: BTreeMap::new(),
        next: 0,
        pid: 100,
        over: false,
    };
    tokio::spawn(launcher.run(first, from));
    door
}

struct Launcher {
    world: Arc<World>,
    door: Door,
    name: PilotName,
    claim: Uid,
    offset: u64,
    machine: Machine,
    clients: BTreeMap<Client, mpsc::UnboundedSender<Vec<u8>>>,
    next: u64,
    pid: u32,
    over: bool,
}

impl Launcher {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.offset + self.world.now())
    }

    async fn run(mut self, first: Vec<Effect>, mut from: mpsc::UnboundedReceiver<Told>) {
        self.perform(first);
        while !self.over {
            let wait = self.machine.wake().map_or(Duration::from_secs(1), |wake| wake.since(self.now()));
            tokio::select! {
                biased;
                told = from.recv() => match told {
                    Some(Told::Event(event)) => self.handle(event),
                    Some(Told::Connect(stream)) => self.connect(stream),
                    Some(Told::Line(client, line)) => match hear(&line) {
                        Heard::Ask { id, ask } => self.handle(Event::Ask { client, id, ask }),
                        Heard::Answer { id, reply } => self.send(&[client], &Line::Reply { id, reply }),
                        Heard::Garbage(_) => {
                            // As the true one: the connection is not worth keeping.
                            self.clients.remove(&client);
                            self.handle(Event::Gone(client));
                        }
                    },
                    None => return,
                },
                () = sleep(wait.max(Duration::from_millis(1))) => self.handle(Event::Tick),
            }
        }
    }

    fn connect(&mut self, stream: Stream) {
        self.next += 1;
        let client = Client(self.next);
        let (lines, mut waiting) = mpsc::unbounded_channel::<Vec<u8>>();
        self.clients.insert(client, lines);
        let (read, mut write) = tokio::io::split(stream);
        tokio::spawn(async move {
            while let Some(line) = waiting.recv().await {
                if write.write_all(&line).await.is_err() {
                    return;
                }
            }
            // The other end may be gone as well.
            let _ = write.shutdown().await;
        });
        let door = self.door.clone();
        tokio::spawn(async move {
            let mut read = BufReader::new(read);
            loop {
                let mut line = Vec::new();
                match read.read_until(b'\n', &mut line).await {
                    Ok(1..) if line.pop() == Some(b'\n') => door.tell(Told::Line(client, line)),
                    Ok(_) | Err(_) => break,
                }
            }
            door.tell(Told::Event(Event::Gone(client)));
        });
    }

    fn handle(&mut self, event: Event) {
        if let Event::Gone(client) = &event {
            self.clients.remove(client);
        }
        let effects = self.machine.handle(self.now(), event);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            if let Some(event) = self.carry_out(effect) {
                effects.extend(self.machine.handle(self.now(), event));
            }
        }
    }

    fn spawned(&mut self, job: agent::launch::machine::Job) -> Option<Event> {
        self.pid += 1;
        Some(Event::Spawned { job, pid: self.pid })
    }

    fn later(&self, wait: Duration, event: Event) {
        let door = self.door.clone();
        tokio::spawn(async move {
            sleep(wait).await;
            door.tell(Told::Event(event));
        });
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        let now = self.world.now();
        match effect {
            Effect::Remember { sequence, memory } => {
                self.world.kube().volume(&self.claim).launcher = *memory;
                Some(Event::Remembered { sequence, result: Ok(()) })
            }
            Effect::Account(accounts) => {
                self.world.kube().volume(&self.claim).accounts = *accounts;
                None
            }
            Effect::StartDatabase { job, program, .. } => {
                self.world.tell(format_args!("launcher of {} starts {:?}", self.name, program.argv));
                let mut kube = self.world.kube();
                if let Some(pod) = kube.pods.get_mut(&self.name) {
                    pod.database = Some(job);
                }
                kube.start_database(now, &self.name, &program.argv);
                drop(kube);
                self.spawned(job)
            }
            Effect::RunProgram { job, purpose, .. } => {
                self.world.tell(format_args!("launcher of {} runs {purpose:?}", self.name));
                match purpose {
                    Purpose::Drain => {
                        self.world.kube().databases.drain(now, &self.name);
                        self.later(Duration::from_millis(800), ended(job, 0));
                    }
                    Purpose::Leave => self.world.kube().begin_leave(now, &self.name, job),
                    Purpose::Tool => self.later(Duration::from_millis(50), ended(job, 0)),
                }
                self.spawned(job)
            }
            Effect::Signal { job, signal } => {
                let code = if signal == Signal::Stop { 143 } else { 137 };
                let mut kube = self.world.kube();
                if kube.pods.get(&self.name).is_some_and(|pod| pod.database == Some(job)) {
                    kube.database_ends(&self.name, code);
                } else {
                    self.later(Duration::from_millis(5), ended(job, code));
                }
                None
            }
            Effect::Reply { client, id, reply } => {
                self.send(&[client], &Line::Reply { id, reply });
                None
            }
            Effect::Changed { clients, status } => {
                self.send(&clients, &Line::Changed(*status));
                None
            }
            Effect::Note(text) => {
                self.world.tell(format_args!("launcher of {}: {text}", self.name));
                None
            }
            Effect::Exit(code) => {
                self.world.tell(format_args!("launcher of {} ends with {code}", self.name));
                let mut kube = self.world.kube();
                kube.databases.processes.remove(&self.name);
                if let Some(pod) = kube.pods.get_mut(&self.name) {
                    pod.launcher = None;
                    pod.launcher_again = Some(now + 1_000);
                }
                self.over = true;
                None
            }
        }
    }

    fn send(&mut self, clients: &[Client], line: &Line) {
        let Ok(bytes) = say(line) else {
            self.world.kube().broken("a line of the launcher is no JSON".to_owned());
            return;
        };
        for client in clients {
            if let Some(lines) = self.clients.get(client) {
                // Its reader tells when it is gone.
                let _ = lines.send(bytes.clone());
            }
        }
    }
}
