//! A database process run directly from what its driver renders: no launcher, no pilot. For conformance and benches.

use agent::driver::{BoxFuture, Driver, Look, RenderError, StartContext, ToolError, ToolRunner};
use protocol::database::{DatabasePhase, DatabaseState};
use protocol::launcher::{DatabaseProgram, ProcessState, Program, ToolOutcome};
use protocol::time::Millis;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// Runs tools on this machine.
#[derive(Debug, Default)]
pub struct LocalTools;

impl ToolRunner for LocalTools {
    fn run<'a>(&'a self, program: &'a Program, limit: Duration) -> BoxFuture<'a, Result<ToolOutcome, ToolError>> {
        Box::pin(async move {
            let not_run = |reason: String| ToolError::Refused { program: program.argv.join(" "), reason };
            let mut command = command(program).map_err(&not_run)?;
            command.stdin(Stdio::null()).kill_on_drop(true);
            match timeout(limit, command.output()).await {
                Ok(Ok(output)) => Ok(ToolOutcome {
                    code: output.status.code(),
                    stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                    stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
                    timed_out: false,
                }),
                Ok(Err(error)) => Err(not_run(error.to_string())),
                Err(_) => Ok(ToolOutcome { code: None, stdout: String::new(), stderr: String::new(), timed_out: true }),
            }
        })
    }
}

/// One member: its driver, and its process while it runs.
pub struct Member {
    driver: Arc<dyn Driver>,
    context: StartContext,
    tools: Arc<dyn ToolRunner>,
    log: PathBuf,
    running: Option<(Child, Instant)>,
    program: Option<DatabaseProgram>,
}

/// A member could not be run.
#[derive(Debug, thiserror::Error)]
pub enum DirectError {
    /// Nothing to run.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The machine refused.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io {
        /// What was being attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A tool's outcome is not known.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The wait was in vain.
    #[error("{what} did not come about within {} s; last seen: {seen}; its log is {log}", within.as_secs(), log = log.display())]
    Waited {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        within: Duration,
        /// The last look.
        seen: String,
        /// The process's output.
        log: PathBuf,
    },
    /// The process ended while something else was expected.
    #[error("the process ended ({status}) while {what} was awaited; its log is {log}", log = log.display())]
    Ended {
        /// What was waited for.
        what: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The process's output.
        log: PathBuf,
    },
    /// There is no process.
    #[error("the member's process does not run")]
    NotRunning,
}

/// How long one look may take.
const LOOK: Duration = Duration::from_secs(2);

impl Member {
    /// A member that does not run yet. Its output is appended to `log`.
    pub fn new(driver: Arc<dyn Driver>, context: StartContext, log: PathBuf) -> Self {
        Self { driver, context, tools: Arc::new(LocalTools), log, running: None, program: None }
    }

    /// Its driver.
    pub fn driver(&self) -> &dyn Driver {
        self.driver.as_ref()
    }

    /// What its next start is rendered from.
    pub fn context_mut(&mut self) -> &mut StartContext {
        &mut self.context
    }

    /// What its last start was rendered from.
    pub fn context(&self) -> &StartContext {
        &self.context
    }

    /// Writes the files and starts the process.
    ///
    /// # Errors
    /// When nothing can be rendered, written or started.
    pub fn start(&mut self) -> Result<(), DirectError> {
        let program = self.driver.program(&self.context)?;
        for (path, content) in &program.files {
            let path = Path::new(path);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(|e| failed("make", folder, e))?;
            }
            fs::write(path, content).map_err(|e| failed("write", path, e))?;
        }
        let log =
            File::options().create(true).append(true).open(&self.log).map_err(|e| failed("open", &self.log, e))?;
        let errors = log.try_clone().map_err(|e| failed("open", &self.log, e))?;
        let mut command = command(&program.run)
            .map_err(|reason| failed("run", &self.log, io::Error::new(io::ErrorKind::InvalidInput, reason)))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| failed("run the database for", &self.log, e))?;
        self.running = Some((child, Instant::now()));
        self.program = Some(program);
        Ok(())
    }

    /// One look, as a pilot's.
    pub async fn look(&mut self) -> DatabaseState {
        let process = self.process();
        self.driver
            .probe(Look { process: &process, address: self.context.address, tools: &self.tools, deadline: LOOK })
            .await
    }

    /// Looks about twice a second until `wanted` holds.
    ///
    /// # Errors
    /// When it does not within `within`, or the process ends before.
    pub async fn wait(
        &mut self,
        what: &'static str,
        within: Duration,
        wanted: impl Fn(&DatabaseState) -> bool,
    ) -> Result<DatabaseState, DirectError> {
        let began = Instant::now();
        let expects_process = self.running.is_some();
        loop {
            let state = self.look().await;
            if wanted(&state) {
                return Ok(state);
            }
            if let Some(status) = self.ended().filter(|_| expects_process) {
                return Err(DirectError::Ended { what, status, log: self.log.clone() });
            }
            if began.elapsed() > within {
                return Err(DirectError::Waited { what, within, seen: format!("{state:?}"), log: self.log.clone() });
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Waits for a phase.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub async fn wait_for(&mut self, phase: DatabasePhase, within: Duration) -> Result<DatabaseState, DirectError> {
        self.wait("the phase", within, |state| state.phase == phase).await
    }

    /// Runs a tool beside it.
    ///
    /// # Errors
    /// When its outcome is not known.
    pub async fn tool(&self, program: &Program, limit: Duration) -> Result<ToolOutcome, DirectError> {
        Ok(self.tools.run(program, limit).await?)
    }

    /// Runs the drain program of the last start.
    ///
    /// # Errors
    /// When it was never started, or the outcome is not known.
    pub async fn drain(&self, limit: Duration) -> Result<ToolOutcome, DirectError> {
        let program = self.program.as_ref().ok_or(DirectError::NotRunning)?;
        self.tool(&program.drain, limit).await
    }

    /// Runs the leave program of the last start.
    ///
    /// # Errors
    /// When it was never started, or the outcome is not known.
    pub async fn leave(&self, limit: Duration) -> Result<ToolOutcome, DirectError> {
        let program = self.program.as_ref().ok_or(DirectError::NotRunning)?;
        self.tool(&program.leave, limit).await
    }

    /// Runs the leave program of the last start until the database is leaving: then the program is killed, however long
    /// it took to begin.
    ///
    /// # Errors
    /// When it was never started, the leave is over before that is seen, or it does not come to it within `within`.
    pub async fn leave_cut_off(&mut self, within: Duration) -> Result<DatabaseState, DirectError> {
        let program = self.program.as_ref().ok_or(DirectError::NotRunning)?.leave.clone();
        let (tools, log) = (self.tools.clone(), self.log.clone());
        tokio::select! {
            outcome = tools.run(&program, within) => {
                let seen = format!("{outcome:?}");
                Err(DirectError::Waited { what: "a leave that still runs", within, seen, log })
            }
            state = self.wait_for(DatabasePhase::Leaving, within) => state,
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When there is no process.
    pub fn signal(&self, signal: Signal) -> Result<(), DirectError> {
        let (child, _) = self.running.as_ref().ok_or(DirectError::NotRunning)?;
        let pid =
            child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw).ok_or(DirectError::NotRunning)?;
        kill_process(pid, signal).map_err(|e| failed("signal the process of", &self.log, e.into()))
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Errors
    /// When there is no process, or it has not ended after a minute.
    pub async fn end(&mut self, signal: Signal) -> Result<ExitStatus, DirectError> {
        self.signal(signal)?;
        self.ending(Duration::from_secs(60)).await
    }

    /// Waits for the process to end.
    ///
    /// # Errors
    /// When there is none, or it does not within `within`.
    pub async fn ending(&mut self, within: Duration) -> Result<ExitStatus, DirectError> {
        let (child, _) = self.running.as_mut().ok_or(DirectError::NotRunning)?;
        match timeout(within, child.wait()).await {
            Ok(status) => {
                let status = status.map_err(|e| failed("wait for the process of", &self.log, e))?;
                self.running = None;
                Ok(status)
            }
            Err(_) => Err(DirectError::Waited {
                what: "the end of the process",
                within,
                seen: "it runs".to_owned(),
                log: self.log.clone(),
            }),
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.running.as_mut().and_then(|(child, _)| child.try_wait().ok().flatten())
    }

    fn process(&mut self) -> ProcessState {
        if self.ended().is_some() {
            return ProcessState::Stopped;
        }
        match self.running.as_ref().and_then(|(child, since)| child.id().map(|pid| (pid, since))) {
            Some((pid, since)) => ProcessState::Running { pid, since: Millis::from(since.elapsed()) },
            None => ProcessState::Stopped,
        }
    }
}

fn command(program: &Program) -> Result<Command, String> {
    let (name, arguments) = program.argv.split_first().ok_or("there is nothing to run")?;
    let mut command = Command::new(name);
    command.args(arguments).envs(&program.env);
    Ok(command)
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> DirectError {
    DirectError::Io { doing, path: path.to_owned(), source }
}
