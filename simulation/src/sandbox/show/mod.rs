//! What a person or a program sees of a running sandbox: a live screen, lines, or JSON.

pub mod events;
pub mod lines;
pub mod scene;
pub mod screen;
pub mod tale;
mod terminal;

use super::client::RowCount;
use super::stop::Stop;
use crate::story::Snapshot;
use events::PilotLine;
use scene::Scene;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tale::Tale;
use terminal::Screen;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// The screen is drawn as often as this: a clock runs on it.
const FRAME: Duration = Duration::from_millis(250);

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A live screen.
    Screen,
    /// A line for each change.
    Lines,
    /// JSON objects for programs.
    Json,
}

impl Form {
    /// The form for this standard output.
    pub fn choose(json: bool) -> Self {
        let dumb = std::env::var("TERM").map_or(true, |term| term.is_empty() || term == "dumb");
        if json {
            Self::Json
        } else if io::stdout().is_terminal() && !dumb {
            Self::Screen
        } else {
            Self::Lines
        }
    }
}

/// Where everything that is shown comes from.
pub struct Sources {
    /// What the observer sees.
    pub snapshots: watch::Receiver<Snapshot>,
    /// What is done now.
    pub notes: watch::Receiver<String>,
    /// The story.
    pub tale: watch::Receiver<Tale>,
    /// The writer, once there is one.
    pub rows: watch::Receiver<Option<RowCount>>,
    /// What runs.
    pub title: String,
    /// What helps a person go on.
    pub footer: String,
    /// The folder.
    pub dir: PathBuf,
    /// The kubeconfig.
    pub kubeconfig: PathBuf,
}

/// Shows until it is told to end.
pub struct Show {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Show {
    /// Begins to show. A terminal that cannot be taken gets lines.
    pub fn start(form: Form, sources: Sources, stop: Stop) -> Self {
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(run(form, sources, stop, ended));
        Self { end, task }
    }

    /// Shows what is left and gives the terminal back.
    pub async fn end(self) {
        // Where it has ended by itself there is nothing left to show.
        let _ = self.end.send(());
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the show ended badly");
        }
    }
}

enum Stage {
    Screen(Box<Screen>),
    Lines(Scene),
    Json(Json),
}

async fn run(form: Form, mut sources: Sources, stop: Stop, mut ended: oneshot::Receiver<()>) {
    let begun = Instant::now();
    let mut stage = match form {
        Form::Screen => match Screen::take(stop) {
            Ok(screen) => Stage::Screen(Box::new(screen)),
            Err(error) => {
                tracing::warn!(%error, "the terminal cannot be taken: lines instead");
                Stage::Lines(Scene::default())
            }
        },
        Form::Lines => Stage::Lines(Scene::default()),
        Form::Json => Stage::Json(Json::default()),
    };
    let mut frame = tokio::time::interval(FRAME);
    frame.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let last = tokio::select! {
            _ = frame.tick() => false,
            _ = &mut ended => true,
        };
        let seen = sources.snapshots.borrow_and_update().clone();
        let mut scene = Scene::of(&seen);
        scene.title.clone_from(&sources.title);
        scene.footer.clone_from(&sources.footer);
        scene.elapsed = begun.elapsed();
        scene.tale = sources.tale.borrow().clone();
        scene.note = sources.notes.borrow().clone();
        scene.rows = sources.rows.borrow().as_ref().map(RowCount::acknowledged);
        let shown = match &mut stage {
            Stage::Screen(screen) => screen.draw(&scene),
            Stage::Lines(before) => {
                let lines = lines::changes(before, &scene);
                *before = scene;
                say(&lines)
            }
            Stage::Json(json) => say(&json.look(&seen, &scene, &sources)),
        };
        if let Err(error) = shown {
            // The reader went away; the sandbox goes on, and is ended by a signal.
            tracing::warn!(%error, "nobody can be shown anything any more");
            return;
        }
        if last {
            return;
        }
    }
}

/// Writes lines to the standard output at once.
///
/// # Errors
/// When nobody reads it any more.
pub fn say(lines: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

/// What a program was told last.
#[derive(Default)]
struct Json {
    told: Option<Vec<PilotLine>>,
    heard: events::Databases,
}

impl Json {
    fn look(&mut self, seen: &Snapshot, scene: &Scene, sources: &Sources) -> Vec<String> {
        let mut scene = scene.clone();
        self.heard.complete(&mut scene.members);
        let now = events::pilots(&scene);
        let event = match &self.told {
            None if seen.is_settled(usize::try_from(seen.replicas).unwrap_or(0)) => "ready",
            Some(told) if *told != now => "changed",
            Some(_) | None => return Vec::new(),
        };
        let line = events::processes(event, &sources.dir, &sources.kubeconfig, &now).to_string();
        self.told = Some(now);
        vec![line]
    }
}
