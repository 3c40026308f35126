//! A launcher as a process of its own, with a shell script for a database.

use agent::launch::{LaunchSettings, run_to_code};
use agent::launch_client::{LauncherClient, LauncherEvent};
use protocol::id::{DatabaseIdentity, OperationId, Uid};
use protocol::launcher::{Ask, Care, DatabaseProgram, LauncherStatus, ProcessState, Program, Reply, StartPermission};
use protocol::time::Millis;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Nothing here takes so long; only a fault does, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that stands for the pod and its volume.
pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) grace: Duration,
    pub(crate) pid_one: bool,
}

/// A running launcher; killed when dropped, with its database.
pub(crate) struct Running {
    child: Child,
    dir: PathBuf,
}

pub(crate) struct Agent {
    pub(crate) client: LauncherClient,
    events: mpsc::Receiver<LauncherEvent>,
    pub(crate) last: LauncherStatus,
}

/// Called by the test executable that stands for the launcher's binary.
pub(crate) fn be_a_launcher() {
    let Ok(dir) = std::env::var("LAUNCHER_TEST_DIR").map(PathBuf::from) else {
        return;
    };
    let of = |name: &str| std::env::var(name).unwrap();
    let settings = LaunchSettings {
        grace: Duration::from_millis(of("LAUNCHER_TEST_GRACE").parse().unwrap()),
        reattach: Duration::from_millis(300),
        care: care(),
        command: vec!["false".to_owned()],
        roots: vec![dir.join("conf")],
        memory_events: Some(dir.join("memory.events")),
        ..LaunchSettings::new(dir.join("sock"), dir.join("state"), Uid::new(of("LAUNCHER_TEST_POD")))
    };
    let code = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(run_to_code(settings))
        .map_err(|error| error.to_string());
    match code {
        Ok(code) => std::process::exit(code.into()),
        Err(error) => {
            std::fs::write(dir.join("error"), error).unwrap();
            std::process::exit(70);
        }
    }
}

pub(crate) fn care() -> Care {
    Care {
        backoff_from: Millis(10),
        backoff_to: Millis(100),
        crash_exits: 5,
        crash_within: Millis(60_000),
        stop_timeout: Millis(10_000),
        time_to_drain: Millis(15_000),
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap(), grace: Duration::from_secs(60), pid_one: false };
        std::fs::write(bench.path("memory.events"), "oom_kill 0\n").unwrap();
        std::fs::create_dir(bench.path("conf")).unwrap();
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts a launcher in the pod of this uid, and waits until it listens.
    pub(crate) fn launch(&self, pod: &str) -> Running {
        match std::fs::remove_file(self.path("sock")) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
        let running = self.spawn(pod);
        wait_for("the socket", || self.path("sock").exists());
        running
    }

    pub(crate) fn spawn(&self, pod: &str) -> Running {
        let this = std::env::current_exe().unwrap();
        let mut command = match self.pid_one {
            false => Command::new(this),
            true => {
                let mut command = Command::new("unshare");
                command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).arg(this);
                command
            }
        };
        let child = command
            .args(["--exact", "stands_for_the_launcher", "--ignored", "--nocapture"])
            .env("LAUNCHER_TEST_DIR", self.dir.path())
            .env("LAUNCHER_TEST_POD", pod)
            .env("LAUNCHER_TEST_GRACE", self.grace.as_millis().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Running { child, dir: self.dir.path().to_owned() }
    }

    /// A database that writes a line when it starts and when it is told to stop. Its leave waits until the file `go`
    /// has its exit code, and reads it once: a file just made, or just removed, is no code.
    /// It ends with its folder, so that no test leaves it behind.
    pub(crate) fn database(&self) -> DatabaseProgram {
        let dir = self.dir.path().display();
        DatabaseProgram {
            files: Default::default(),
            run: shell(&format!(
                "exec 2>/dev/null; trap 'echo stop >> {dir}/log; exit 0' TERM; echo $$ > {dir}/pid; echo start >> {dir}/log; while :; do sleep 1000 & wait $!; done"
            )),
            drain: shell(&format!("echo drain >> {dir}/log")),
            leave: shell(&format!(
                "exec 2>/dev/null; echo leave >> {dir}/log; while code=$(cat {dir}/go); [ -z \"$code\" ]; do [ -d {dir} ] || exit 9; sleep 0.02; done; echo left >> {dir}/log; exit $code"
            )),
        }
    }

    /// All that was logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        match std::fs::read_to_string(self.path("log")) {
            Ok(text) => text.lines().map(str::to_owned).collect(),
            Err(_) => Vec::new(),
        }
    }

    pub(crate) fn wait_for_log(&self, expected: &[&str]) {
        wait_for(&format!("{expected:?} in the log, which has {:?}", self.log()), || self.log() == expected);
    }

    pub(crate) fn database_pid(&self) -> u32 {
        std::fs::read_to_string(self.path("pid")).unwrap().trim().parse().unwrap()
    }

    pub(crate) async fn agent(&self) -> Agent {
        let (client, mut events) = LauncherClient::connect(self.path("sock"));
        let first = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap();
        let Some(LauncherEvent::Connected(last)) = first else {
            panic!("{first:?} instead of a connection");
        };
        Agent { client, events, last }
    }
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the launcher's end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.signal("KILL");
        assert_eq!(self.wait().signal(), Some(9));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            signal(self.child.id(), "KILL");
            let _ = self.child.wait();
        }
        // What the launcher wrote down of its database, so that a failed test leaves no process behind.
        let Ok(bytes) = std::fs::read(self.dir.join("state/running")) else {
            return;
        };
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if let Some(pid) = value["pid"].as_u64().filter(|pid| *pid > 1)
            && std::fs::read_link("/proc/self/ns/pid").is_ok_and(|space| value["pid_space"].as_str() == space.to_str())
        {
            let _ = Command::new("kill").args(["-KILL", "--", &format!("-{pid}")]).stderr(Stdio::null()).status();
        }
    }
}

impl Agent {
    pub(crate) async fn ask(&self, ask: Ask) -> Reply {
        self.client.ask(ask).await.unwrap()
    }

    pub(crate) async fn accepted(&self, ask: Ask) {
        assert_eq!(self.ask(ask).await, Reply::Accepted);
    }

    pub(crate) async fn refused(&self, ask: Ask) -> String {
        match self.ask(ask).await {
            Reply::Refused(why) => why,
            other @ (Reply::Accepted | Reply::Status(_) | Reply::Unsupported | Reply::Tool(_)) => {
                panic!("{other:?} instead of a refusal")
            }
        }
    }

    pub(crate) async fn start(&self, program: DatabaseProgram, pod: &str) {
        self.accepted(start(program, pod)).await;
    }

    /// Waits until the state is so.
    pub(crate) async fn until(&mut self, what: &str, is: impl Fn(&LauncherStatus) -> bool) -> LauncherStatus {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !is(&self.last) {
            match tokio::time::timeout_at(deadline, self.events.recv()).await {
                Ok(Some(LauncherEvent::Connected(status) | LauncherEvent::Changed(status))) => {
                    self.last = status;
                }
                Ok(Some(LauncherEvent::Lost)) => {}
                Ok(None) | Err(_) => panic!("never {what}: {:#?}", self.last),
            }
        }
        self.last.clone()
    }

    pub(crate) async fn running(&mut self) -> u32 {
        let status = self.until("running", |status| pid(status).is_some()).await;
        pid(&status).unwrap()
    }

    pub(crate) async fn lost(&mut self) {
        loop {
            match tokio::time::timeout(PATIENCE, self.events.recv()).await.unwrap() {
                Some(LauncherEvent::Lost) => return,
                Some(LauncherEvent::Connected(status) | LauncherEvent::Changed(status)) => {
                    self.last = status;
                }
                None => panic!("the client has ended"),
            }
        }
    }
}

pub(crate) fn start(program: DatabaseProgram, pod: &str) -> Ask {
    Ask::Start {
        program,
        permission: StartPermission { pod: Uid::new(pod), identity: Some(DatabaseIdentity::new("host-1")) },
    }
}

pub(crate) fn leave(operation: &str) -> Ask {
    Ask::Leave { operation: OperationId::new(operation) }
}

/// The process id of a database that runs.
pub(crate) fn pid(status: &LauncherStatus) -> Option<u32> {
    match status.process {
        ProcessState::Running { pid, .. } => Some(pid),
        ProcessState::Held
        | ProcessState::Backoff { .. }
        | ProcessState::Draining { .. }
        | ProcessState::Stopping { .. }
        | ProcessState::Stopped => None,
    }
}

pub(crate) fn shell(script: &str) -> Program {
    Program { argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(), env: Default::default() }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
    assert!(status.success(), "{name} to {pid}");
}

/// Whether there is such a process, a zombie included.
pub(crate) fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Waits for something that announces itself in no other way than by being so.
pub(crate) fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < PATIENCE, "still waiting for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
