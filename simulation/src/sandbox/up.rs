//! A sandbox that stays up, and does what it is told through its socket.

use super::cli::called;
use super::control::{self, Answer, Asked, Order};
use super::home::{Home, Kind, Wish};
use super::layout::Layout;
use super::process::{self, Signal};
use super::running::{Plan, RunError, Running, read_policy};
use super::show::scene::Scene;
use super::show::tale::Tale;
use super::show::{Form, events, say, screen};
use super::stop::Stop;
use crate::story::Stage;
use std::path::PathBuf;
use std::process::ExitCode;

/// Time to stream data away.
const GRACE: u64 = 120;
/// Members of a new sandbox.
const REPLICAS: u32 = 3;
/// The width of the status that is printed.
const WIDTH: usize = 120;

/// What is run.
pub struct UpOptions {
    /// The folder.
    pub dir: PathBuf,
    /// What must be added to commands for this folder: ` --dir DIR`, or nothing.
    pub flag: String,
    /// Members of a new sandbox; one that returns keeps its size.
    pub replicas: Option<u32>,
    /// The database.
    pub database: Option<Kind>,
    /// The policy file.
    pub policy: Option<PathBuf>,
    /// Forget what lies there.
    pub fresh: bool,
    /// For programs.
    pub json: bool,
    /// The second octet of addresses.
    pub octet: Option<u8>,
}

/// Runs until it is told to end.
///
/// # Errors
/// When it cannot begin.
pub async fn run(options: UpOptions) -> Result<ExitCode, RunError> {
    let stop = Stop::listen().map_err(|source| RunError::System { doing: "handle signals", source })?;
    let form = Form::choose(options.json);
    let policy = options.policy.as_deref().map(read_policy).transpose()?;
    let wish = Wish { database: options.database, fresh: options.fresh, octet: options.octet };
    let dir = options.dir.clone();
    // Waits for what a killed one left.
    let home = tokio::task::spawn_blocking(move || Home::take(&dir, wish))
        .await
        .map_err(|error| RunError::System { doing: "take the folder", source: std::io::Error::other(error) })??;
    let layout = home.layout.clone();
    if form != Form::Json {
        tell(&introduction(&home, &options));
    }
    let plan = Plan { home, replicas: options.replicas.unwrap_or(REPLICAS), policy, grace: GRACE, streaming: None };
    let footer = format!("Ctrl-C or q drains and ends · KUBECONFIG={}", layout.kubeconfig("admin").display());
    let mut running = Running::start(plan, form, Tale::default(), footer, stop.clone()).await?;
    let orders = control::listen(&layout.control());
    let fault = match orders {
        Ok(orders) => {
            obey_all(&mut running.stage, orders, &stop).await;
            None
        }
        Err(source) => Some(RunError::System { doing: "listen for commands", source }),
    };
    let (home, killed) = running.end(&stop).await;
    // Nobody listens there any more; where it cannot be removed the next start does.
    let _ = std::fs::remove_file(layout.control());
    match form {
        Form::Json => tell(&[serde_json::json!({ "event": "stopped" }).to_string()]),
        Form::Screen | Form::Lines => tell(&farewell(&killed, &options)),
    }
    drop(home);
    match fault {
        Some(fault) => Err(fault),
        None if killed.is_empty() => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::FAILURE),
    }
}

async fn obey_all(stage: &mut Stage, mut orders: tokio::sync::mpsc::Receiver<Asked>, stop: &Stop) {
    loop {
        let (order, answer) = tokio::select! {
            () = stop.wanted(1) => return,
            asked = orders.recv() => match asked {
                Some(asked) => asked,
                None => return,
            },
        };
        let told = obey(stage, order).await.unwrap_or_else(Answer::Refused);
        // Who asked may have gone.
        let _ = answer.send(told);
    }
}

async fn obey(stage: &mut Stage, order: Order) -> Result<Answer, String> {
    let sandbox = &stage.sandbox;
    let done = match order {
        Order::Scale { replicas } => {
            if !sandbox.server().is_running() {
                return Err(
                    "the Kubernetes API is stopped, and a size is written there: `sandbox api start`".to_owned()
                );
            }
            let before = sandbox.replicas();
            sandbox.scale(replicas).map_err(|e| e.to_string())?;
            format!(
                "the StatefulSet was told {before} and is told {replicas} now; whether it comes to that is the coordinator's word"
            )
        }
        Order::KillCoordinator => {
            let Some((pod, epoch)) = stage.seen().coordinator() else {
                return Err("nobody coordinates just now: try again in a moment".to_owned());
            };
            signal(stage, &pod, Signal::Kill)?;
            format!("killed the agent of {pod}, coordinator at epoch {epoch}")
        }
        Order::KillDatabase { pod } => {
            known(stage, &pod)?;
            let Some(pid) = stage.seen().database_pid(&pod) else {
                return Err(format!("{pod} runs no database just now, or its agent does not answer"));
            };
            process::signal(pid, Signal::Kill);
            format!("killed process {pid}, the database of {pod}")
        }
        Order::KillPilot { pod } => {
            let pid = signal(stage, &pod, Signal::Kill)?;
            format!("killed process {pid}, the agent of {pod}")
        }
        Order::Pause { pod } => {
            let pid = signal(stage, &pod, Signal::Stop)?;
            format!("process {pid}, the agent of {pod}, stands still: `sandbox resume {pod}` lets it go on")
        }
        Order::Resume { pod } => {
            let pid = signal(stage, &pod, Signal::Continue)?;
            format!("process {pid}, the agent of {pod}, goes on")
        }
        Order::Cut { pod } => {
            known(stage, &pod)?;
            sandbox.cut(&pod, &["all".to_owned()]).map_err(|e| e.to_string())?;
            format!("{pod} hears no pilot and is heard by none; it still reaches the API. `sandbox heal` ends that")
        }
        Order::Heal => {
            let folder = sandbox.options().layout.root().join("cuts");
            let cut = std::fs::read_dir(&folder).map_err(|e| e.to_string())?;
            for pod in cut.flatten().filter_map(|e| e.file_name().into_string().ok()) {
                sandbox.cut(&pod, &[]).map_err(|e| e.to_string())?;
            }
            "nobody is cut off any more".to_owned()
        }
        Order::ApiStop => {
            sandbox.stop_api().await;
            "the Kubernetes API answers nobody: `sandbox api start` ends that".to_owned()
        }
        Order::ApiStart => {
            sandbox.start_api().await.map_err(|e| e.to_string())?;
            "the Kubernetes API answers".to_owned()
        }
        Order::Status => {
            let scene = Scene::of(&stage.seen());
            return Ok(Answer::Status { text: screen::text(&scene, WIDTH), pilots: events::pilots(&scene) });
        }
    };
    stage.say(&done);
    Ok(Answer::Done(done))
}

/// Sends a signal to a pod's agent.
fn signal(stage: &Stage, pod: &str, signal: Signal) -> Result<u32, String> {
    known(stage, pod)?;
    let pid = stage.sandbox.pod(pod).and_then(|p| p.processes.get("pilot").copied());
    let pid = pid.ok_or_else(|| format!("the agent of {pod} does not run just now: try again in a moment"))?;
    process::signal(pid, signal);
    Ok(pid)
}

/// Refuses names of pods that are not there.
fn known(stage: &Stage, pod: &str) -> Result<(), String> {
    let pods = stage.sandbox.pods();
    if pods.iter().any(|p| p.name == pod) {
        return Ok(());
    }
    let names: Vec<&str> = pods.iter().map(|p| p.name.as_str()).collect();
    Err(format!("there is no pod {pod}: there are {}", names.join(", ")))
}

fn tell(lines: &[String]) {
    if let Err(error) = say(lines) {
        tracing::warn!(%error, "nobody reads what is told");
    }
}

fn introduction(home: &Home, options: &UpOptions) -> Vec<String> {
    let layout: &Layout = &home.layout;
    let flag = &options.flag;
    let mut lines = vec![match home.returning {
        true => format!("The {} sandbox in {} returns.", home.made.database.word(), layout.root().display()),
        false => format!("A new {} sandbox in {}.", home.made.database.word(), layout.root().display()),
    }];
    if let (true, Some(asked)) = (home.returning, options.replicas) {
        lines.push(format!(
            "  It keeps its size, whatever --replicas says: `{} scale {asked}{flag}` changes it.",
            called()
        ));
    }
    let logs = layout.root().join("logs");
    lines.extend([
        String::new(),
        format!("  export KUBECONFIG={}", layout.kubeconfig("admin").display()),
        "  kubectl get pods,pvc,lease,configmap".to_owned(),
        "  kubectl scale statefulset cassandra --replicas=4".to_owned(),
        format!("  {} status{flag}", called()),
        format!("  {} --help     # also: scale, kill, pause, cut, heal, api", called()),
        "  curl -s http://ADDRESS:7300/state     # an address from the status".to_owned(),
        String::new(),
        format!("Logs: {}", logs.display()),
        "Ctrl-C or SIGTERM drains and leaves no process.".to_owned(),
        String::new(),
    ]);
    lines
}

fn farewell(killed: &[String], options: &UpOptions) -> Vec<String> {
    let mut lines: Vec<String> =
        killed.iter().map(|p| format!("this process did not end by itself and was killed: {p}")).collect();
    lines.push(format!("Nothing runs any more. The same cluster again: {} up{}", called(), options.flag));
    lines
}
