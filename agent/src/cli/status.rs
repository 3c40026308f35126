//! `pilot status`: one screen.

use super::paint::{Paint, Tone};
use super::table::{self, Cell};
use super::text::{bytes, quiet};
use super::{DEGRADED, Done, Output, StatusArgs, document, fetch, say};
use crate::pilot::state::{MemberState, StateDocument};
use protocol::database::DatabasePhase;
use protocol::id::PilotName;
use protocol::report::{ApiReach, DatabaseReport, Role};
use protocol::view::Liveness;
use std::fmt::Write;

pub(super) async fn run(args: StatusArgs) -> Done {
    let found = fetch::get(&args.ask, "/state").await?;
    let state: StateDocument = match args.output {
        // Whatever a newer pilot says is passed on; only its health must be understood.
        Output::Json | Output::Yaml => {
            say(&document(&found, args.output)?)?;
            fetch::read(&found)?
        }
        Output::Text | Output::Wide => {
            let state = fetch::read(&found)?;
            say(&render(&state, Paint::for_stdout(), args.output == Output::Wide))?;
            state
        }
    };
    Ok(code(&state))
}

/// Zero where somebody coordinates and decides.
pub(super) fn code(state: &StateDocument) -> u8 {
    match &state.coordinator {
        Some(coordinator) if coordinator.degraded.is_none() => 0,
        Some(_) | None => DEGRADED,
    }
}

/// The whole screen.
pub(super) fn render(state: &StateDocument, paint: Paint, wide: bool) -> String {
    let mut out = header(state, paint);
    out.push('\n');
    out.push_str(&members(state, paint, wide));
    out
}

fn header(state: &StateDocument, paint: Paint) -> String {
    let mut out = String::new();
    let mut line = |name: &str, tone: Tone, text: String| {
        // Writing into a text cannot fail.
        let _ = writeln!(out, "{}{}", paint.tone(Tone::Dim, &format!("{name:<13}")), paint.tone(tone, &quiet(&text)));
    };
    match &state.cluster {
        Some(cluster) => line("cluster", Tone::Plain, cluster.to_string()),
        None => line("cluster", Tone::Busy, "not formed yet, as far as this pilot knows".to_owned()),
    }
    match &state.coordinator {
        None => line("coordinator", Tone::Bad, "none known".to_owned()),
        Some(coordinator) => {
            let promises = match coordinator.promises {
                Some((fresh, of)) => format!(", {fresh} of {of} promises"),
                None => String::new(),
            };
            line("coordinator", Tone::Plain, format!("{} at epoch {}{promises}", coordinator.pilot, coordinator.epoch));
            if let Some(reason) = &coordinator.degraded {
                line("degraded", Tone::Bad, reason.clone());
            }
        }
    }
    match &state.operation {
        None => line("operation", Tone::Plain, "none".to_owned()),
        Some(o) => line("operation", Tone::Busy, format!("{} {}: {} ({})", o.kind, o.subject, o.step, o.operation)),
    }
    let differing = names(&state.policy.differing);
    if differing.is_empty() {
        line("policy", Tone::Plain, state.policy.hash.clone());
    } else {
        line("policy", Tone::Busy, format!("{}, another one on {differing}", state.policy.hash));
    }
    let me = &state.me;
    let role = match me.role {
        Role::Coordinator { epoch, .. } => format!("coordinator at epoch {epoch}"),
        Role::Follower => "follower".to_owned(),
    };
    let (api, tone) = match me.api {
        ApiReach::Untried => ("not tried yet", Tone::Busy),
        ApiReach::Reachable => ("reachable", Tone::Plain),
        ApiReach::Unreachable => ("unreachable", Tone::Bad),
    };
    line("told by", tone, format!("{}, {role}, version {}, Kubernetes API {api}", me.name, me.version));
    if let Some(trouble) = &me.trouble {
        line("trouble", Tone::Bad, trouble.clone());
    }
    if state.gossip.lonely {
        line(
            "gossip",
            Tone::Bad,
            format!("{} hears nobody although there are others: it may be the one cut off", me.name),
        );
    }
    if state.gossip.woken {
        line("gossip", Tone::Busy, format!("{} was asleep: what it says of others is from before", me.name));
    }
    out
}

fn members(state: &StateDocument, paint: Paint, wide: bool) -> String {
    let mut heading = vec!["NAME", "PILOT", "PHASE", "IDENTITY", "VERSION", "LOAD", "STARTS", "UNINTENDED", "PROMISE"];
    if wide {
        heading.extend(["GENERATION", "PHI", "TIMEOUT", "DISK", "STREAMED", "CLIENTS", "API", "POLICY"]);
    }
    heading.push("NOTES");
    let rows: Vec<Vec<Cell>> = state
        .members
        .iter()
        .map(|member| {
            let mut row = narrow(member, wide);
            if wide {
                row.extend(further(member));
            }
            row.push(Cell::new(Tone::Dim, quiet(&notes(state, member).join("; "))));
            row
        })
        .collect();
    if rows.is_empty() {
        return "no members are known\n".to_owned();
    }
    table::render(paint, &heading, &rows)
}

/// Unknown is a state of its own: neither none nor zero.
const UNKNOWN: &str = "unknown";

fn unknown() -> Cell {
    Cell::new(Tone::Busy, UNKNOWN)
}

fn known<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> Cell {
    value.map_or_else(unknown, |value| Cell::plain(quiet(&show(value))))
}

fn narrow(member: &MemberState, wide: bool) -> Vec<Cell> {
    let database = member.database.as_ref();
    let (liveness, tone) = match member.liveness {
        Liveness::Live => ("live", Tone::Good),
        Liveness::Silent => ("silent", Tone::Bad),
        Liveness::Departed => ("departed", Tone::Dim),
    };
    let (phase, phase_tone) = phase(database.map_or(DatabasePhase::Unknown, |d| d.phase));
    vec![
        Cell::plain(member.name.to_string()),
        Cell::new(tone, liveness),
        Cell::new(phase_tone, phase),
        match database.map(|d| &d.identity) {
            None => unknown(),
            Some(None) => Cell::new(Tone::Dim, "none yet"),
            Some(Some(identity)) => {
                let shown = if wide { usize::MAX } else { 8 };
                Cell::plain(quiet(&identity.as_str().chars().take(shown).collect::<String>()))
            }
        },
        known(database.and_then(|d| d.version.clone()), |version| version),
        known(database.and_then(|d| d.load), bytes),
        known(database, |d| d.starts.to_string()),
        match database.map(|d| d.unintended_ends) {
            None => unknown(),
            Some(0) => Cell::plain("0"),
            Some(ends) => Cell::new(Tone::Busy, ends.to_string()),
        },
        match member.report.as_ref().map(|r| &r.mesh.promise) {
            None => unknown(),
            Some(None) => Cell::new(Tone::Dim, "none yet"),
            Some(Some(promise)) => Cell::plain(format!("{} {}", promise.epoch, promise.holder.name)),
        },
    ]
}

fn further(member: &MemberState) -> Vec<Cell> {
    let database = member.database.as_ref();
    let about = member.report.as_ref().map(|r| &r.about);
    let own = member.phi.is_none() && member.timeout.is_none();
    let figure = |text: Option<String>| match text {
        Some(text) => Cell::plain(text),
        None => Cell::new(Tone::Dim, if own { "-" } else { UNKNOWN }),
    };
    vec![
        Cell::plain(member.generation.0.to_string()),
        figure(member.phi.map(|phi| format!("{phi:.1}"))),
        figure(member.timeout.map(|timeout| format!("{} ms", timeout.0))),
        known(database.and_then(|d| d.disk), |disk| format!("{} of {}", bytes(disk.used), bytes(disk.total))),
        match database.and_then(|d| d.streaming) {
            Some(progress) => Cell::plain(format!("{} of {}", bytes(progress.done), bytes(progress.total))),
            None => Cell::new(Tone::Dim, "-"),
        },
        known(about, |about| std::net::SocketAddr::new(about.database, about.client_port).to_string()),
        known(member.report.as_ref(), |report| {
            match report.mesh.api {
                ApiReach::Untried => "untried",
                ApiReach::Reachable => "reachable",
                ApiReach::Unreachable => "unreachable",
            }
            .to_owned()
        }),
        known(about, |about| about.policy.clone()),
    ]
}

fn phase(phase: DatabasePhase) -> (&'static str, Tone) {
    match phase {
        DatabasePhase::Unknown => (UNKNOWN, Tone::Busy),
        DatabasePhase::Held => ("held", Tone::Busy),
        DatabasePhase::Starting => ("starting", Tone::Busy),
        DatabasePhase::Joining => ("joining", Tone::Busy),
        DatabasePhase::Serving => ("serving", Tone::Good),
        DatabasePhase::Leaving => ("leaving", Tone::Busy),
        DatabasePhase::Left => ("left", Tone::Dim),
        DatabasePhase::Draining => ("draining", Tone::Busy),
        DatabasePhase::Unresponsive => ("unresponsive", Tone::Bad),
        DatabasePhase::Restarting => ("restarting", Tone::Busy),
        DatabasePhase::CrashLooping => ("crash-looping", Tone::Bad),
        DatabasePhase::Stopped => ("stopped", Tone::Dim),
        DatabasePhase::JoinFailed => ("join failed", Tone::Bad),
    }
}

/// The word for a phase.
pub(super) fn phase_word(database: Option<&DatabaseReport>) -> &'static str {
    phase(database.map_or(DatabasePhase::Unknown, |d| d.phase)).0
}

/// What is to be said of a member beyond its figures.
pub(super) fn notes(state: &StateDocument, member: &MemberState) -> Vec<String> {
    let mut notes = Vec::new();
    let coordinator = state.coordinator.as_ref();
    let coordinates = coordinator.is_some_and(|c| c.pilot == member.name);
    if coordinates {
        notes.push("coordinator".to_owned());
    }
    if member.liveness != Liveness::Live && member.report.is_some() {
        notes.push("not heard: this is what it said last".to_owned());
    }
    if let Some(database) = &member.database {
        if database.terminating {
            notes.push("terminating".to_owned());
        }
        if database.wants_start {
            notes.push("waits for a grant to start".to_owned());
        }
        match &database.leave {
            Some((operation, false)) => notes.push(format!("leaves under {operation}")),
            Some((operation, true)) => notes.push(format!("says it has left under {operation}")),
            None => {}
        }
        if let Some(progress) = &database.streaming {
            notes.push(format!("streams {} of {}", bytes(progress.done), bytes(progress.total)));
        }
        if database.schema_agreed == Some(false) {
            notes.push("schema not agreed".to_owned());
        }
    }
    let votes = state.roster.iter().any(|voter| voter.name == member.name);
    if !votes && !state.roster.is_empty() {
        notes.push("not in the roster".to_owned());
    }
    let Some(report) = &member.report else {
        notes.push("its report has not been readable yet".to_owned());
        return notes;
    };
    match &report.mesh.role {
        Role::Coordinator { epoch, .. } if !coordinates => {
            notes.push(format!("still claims to coordinate at epoch {epoch}"))
        }
        Role::Coordinator { .. } | Role::Follower => {}
    }
    if report.mesh.api == ApiReach::Unreachable {
        notes.push("API unreachable".to_owned());
    }
    if state.policy.differing.contains(&member.name) {
        notes.push(format!("policy {}", report.about.policy));
    }
    if !report.mesh.silent.is_empty() {
        notes.push(format!("does not hear {}", ids(&report.mesh.silent)));
    }
    if !report.mesh.ended.is_empty() {
        notes.push(format!("holds ended {}", ids(&report.mesh.ended)));
    }
    notes
}

fn names(names: &[PilotName]) -> String {
    names.iter().map(PilotName::as_str).collect::<Vec<_>>().join(", ")
}

fn ids(ids: &[protocol::id::PilotId]) -> String {
    ids.iter().map(|id| id.name.as_str()).collect::<Vec<_>>().join(", ")
}
