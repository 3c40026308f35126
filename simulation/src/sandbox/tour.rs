//! The tour: a cluster is founded, grown, shrunk and hurt before the eyes of a newcomer, and the evidence is told.

use super::cli::called;
use super::home::{Home, Kind, Wish};
use super::running::{Plan, RunError, Running};
use super::show::events;
use super::show::tale::Tale;
use super::show::{Form, say};
use super::stop::Stop;
use crate::story::evidence::Evidence;
use crate::story::{StoryError, steps};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The API is away for so long: two leases of the balanced policy.
const OUTAGE: Duration = Duration::from_secs(20);
/// Streaming is bounded, so that a decommission lasts long enough to be looked into.
const STREAMING: u32 = 1;
/// Time to stream data away.
const GRACE: u64 = 120;

const CHAPTERS: [&str; 9] = [
    "found a cluster of three: one founds, the others join one by one",
    "write numbered rows at QUORUM, from here to the end",
    "scale out to four",
    "scale in to three: one member hands its data over and leaves",
    "kill -9 a database",
    "scale out to four again, on the volume that was left behind",
    "scale in, and kill -9 the coordinator inside the decommission",
    "stop the Kubernetes API for 20 s",
    "read every acknowledged row back",
];

/// How the tour is told.
pub struct TourOptions {
    /// Its folder; `None` is a fresh one, removed at the end.
    pub dir: Option<PathBuf>,
    /// Do not remove a fresh folder.
    pub keep: bool,
    /// For programs.
    pub json: bool,
    /// The database.
    pub database: Kind,
    /// The second octet of addresses.
    pub octet: Option<u8>,
}

/// Runs the tour to its end.
///
/// # Errors
/// When it cannot begin.
pub async fn run(options: TourOptions) -> Result<ExitCode, RunError> {
    let stop = Stop::listen().map_err(|source| RunError::System { doing: "handle signals", source })?;
    let form = Form::choose(options.json);
    // Removed when it is dropped, also when something fails.
    let mut temporary = None;
    let dir = match &options.dir {
        Some(dir) => dir.clone(),
        None => {
            let fresh = tempfile::Builder::new()
                .prefix("pilotmesh-tour-")
                .tempdir()
                .map_err(|source| RunError::System { doing: "make a temporary folder", source })?;
            let path = fresh.path().to_owned();
            temporary = Some(fresh);
            path
        }
    };
    let home = Home::take(&dir, Wish { database: Some(options.database), fresh: false, octet: options.octet })?;
    if home.returning {
        return Err(RunError::System {
            doing: "begin the tour",
            source: std::io::Error::other(format!(
                "{} holds a sandbox already, and the tour begins with an empty one: choose another folder with --dir, \
                 or go on with that one by `sandbox up`",
                dir.display()
            )),
        });
    }
    if form != Form::Json {
        tell(&introduction(options.database, &dir, options.dir.is_some() || options.keep));
    }
    let plan = Plan { home, replicas: 3, policy: None, grace: GRACE, streaming: Some(STREAMING) };
    let footer = "Ctrl-C or q ends the tour: databases drain, no process stays".to_owned();
    let mut running = Running::start(plan, form, Tale::new(&CHAPTERS), footer, stop.clone()).await?;
    let result = tokio::select! {
        result = story(&mut running) => result,
        () = stop.wanted(1) => Err(StoryError::Wrong("the tour was stopped before its end".to_owned())),
    };
    if let Err(error) = &result {
        running.stage.say(error.to_string());
    }
    running.tale.send_modify(|tale| tale.end(result.is_ok()));
    steps::judge_epochs(&mut running.stage);
    steps::judge_restarts(&mut running.stage, 1);
    let evidence = running.stage.evidence.clone();
    let (home, killed) = running.end(&stop).await;
    let fault = result.err().map(|e| e.to_string());
    let good = fault.is_none() && evidence.is_good() && killed.is_empty();
    match form {
        Form::Json => {
            tell(&[events::evidence(&evidence, fault.as_deref()).to_string()]);
            tell(&[serde_json::json!({ "event": "stopped" }).to_string()]);
        }
        Form::Screen | Form::Lines => tell(&conclusion(&evidence, fault.as_deref(), &killed, good)),
    }
    let kept = match temporary {
        Some(temporary) if options.keep => Some(temporary.keep()),
        Some(_removed) => None,
        None => Some(dir),
    };
    if let (Some(dir), true) = (kept, form != Form::Json) {
        tell(&where_it_lies(&dir));
    }
    drop(home);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn story(running: &mut Running) -> Result<(), StoryError> {
    let tale = running.tale.clone();
    let stage = &mut running.stage;
    let next = || {
        tale.send_modify(|tale| {
            tale.end(true);
            tale.begin();
        })
    };
    next();
    steps::form(stage, 3).await?;
    next();
    stage.say("the writer goes on until everything is over; rows are counted above");
    stage.start_writing();
    running.rows.send_replace(stage.writer.as_ref().map(crate::sandbox::client::RowWriter::count));
    steps::first_rows(stage).await?;
    next();
    steps::scale(stage, 4).await?;
    next();
    steps::scale(stage, 3).await?;
    next();
    let victim = stage.seen().pods.get(1).map(|p| p.name.clone()).unwrap_or_default();
    steps::kill_database(stage, &victim).await?;
    next();
    steps::scale(stage, 4).await?;
    next();
    steps::kill_coordinator_while_leaving(stage, 3).await?;
    next();
    steps::api_outage(stage, OUTAGE).await?;
    next();
    steps::settle_accounts(stage).await?;
    tale.send_modify(|tale| tale.end(true));
    Ok(())
}

fn tell(lines: &[String]) {
    if let Err(error) = say(lines) {
        tracing::warn!(%error, "nobody reads what is told");
    }
}

fn introduction(database: Kind, dir: &Path, kept: bool) -> Vec<String> {
    let what = match database {
        Kind::Cassandra => "real Apache Cassandra",
        Kind::Model => "the model database, a small store of our own",
    };
    let fate = if kept { "kept" } else { "removed at the end but for --keep" };
    let mut lines = vec![
        format!("The tour: {what} as processes of this machine,"),
        "a pilot beside each, and no Kubernetes but a small one of our own. In about five".to_owned(),
        "minutes it will:".to_owned(),
        String::new(),
    ];
    lines.extend(CHAPTERS.iter().enumerate().map(|(n, title)| format!("  {}. {title}", n + 1)));
    lines.push(String::new());
    lines.push("and then tell the evidence. Ctrl-C ends it at any time and leaves no process.".to_owned());
    lines.push(format!("Data and logs: {} ({fate})", dir.display()));
    lines.push(String::new());
    lines
}

fn conclusion(evidence: &Evidence, fault: Option<&str>, killed: &[String], good: bool) -> Vec<String> {
    let mut lines = vec![String::new(), evidence.render()];
    if let Some(fault) = fault {
        lines.push(format!("It did not come to its end: {fault}"));
    }
    for process in killed {
        lines.push(format!("This process did not end by itself and was killed: {process}"));
    }
    lines.push(if good {
        "Everything is as it must be.".to_owned()
    } else {
        "Something is not as it must be: lines marked with ! say what.".to_owned()
    });
    lines
}

fn where_it_lies(dir: &Path) -> Vec<String> {
    let dir = dir.display();
    vec![
        String::new(),
        format!("data      {dir}/volumes"),
        format!("logs      {dir}/logs"),
        format!("objects   {dir}/objects.json"),
        format!("again     {} up --dir {dir}", called()),
    ]
}
