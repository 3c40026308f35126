//! Stories of databases that die: once, with nobody there to help, and again and again.

use super::volumes::{contents, find, tables};
use super::{PATIENCE, Snapshot, Stage, StoryError, audit, must, steps};
use crate::sandbox::engine::wall;
use crate::sandbox::manifests::CLAIM;
use crate::sandbox::process::{self, Signal, databases};
use protocol::database::DatabasePhase;
use std::time::{Duration, Instant};

/// A database killed while the API is away, and one whose agent stands still: both are back by their launchers alone.
///
/// # Errors
/// When one is not.
pub async fn kill_database_alone(stage: &mut Stage) -> Result<(), StoryError> {
    let before = stage.seen();
    stage.sandbox.stop_api().await;
    let result = steps::kill_database(stage, "cassandra-2").await;
    stage.sandbox.start_api().await?;
    result?;
    stage.until("one mesh again", PATIENCE, |s| s.is_settled(before.pods.len()) && s.coordinator().is_some()).await?;

    let pod = "cassandra-1";
    let pid = stage.seen().database_pid(pod).ok_or_else(|| StoryError::Wrong(format!("{pod} runs no database")))?;
    must(stage.sandbox.signal(pod, "pilot", Signal::Stop), format!("{pod} runs no pilot"))?;
    process::signal(pid, Signal::Kill);
    stage.killed += 1;
    let begun = Instant::now();
    let launcher = stage.pod(pod)?.processes.get("database").copied().unwrap_or_default();
    let back = stage
        .until_true("a new database process under the same launcher", steps::RESTARTED_WITHIN, || async {
            databases(launcher).into_iter().any(|child| child != pid)
        })
        .await;
    let took = begun.elapsed();
    stage.sandbox.signal(pod, "pilot", Signal::Continue);
    back?;
    let again = |s: &Snapshot| s.is_settled(before.pods.len()) && s.database_pid(pod) != Some(pid);
    stage.until("three members again", PATIENCE, again).await?;
    stage.evidence.step("kill -9 a database whose agent stands still", took, None, "back by its launcher alone");
    Ok(())
}

/// Between an end and the next start there must be at least so many milliseconds after the first, second, ... quick
/// death; a clock that ticks may take some of it away. A launcher that is told another program meanwhile starts that at
/// once, for it may be the remedy: so it is with the first death, where peers have new addresses since the last start.
const PAUSES: [u64; 4] = [1000, 2000, 4000, 8000];

/// Five quick deaths: slowed down, told, and the volume untouched.
///
/// # Errors
/// When it is not slowed down or not told, or the member does not come back with what it had.
pub async fn crash_loop(stage: &mut Stage) -> Result<(), StoryError> {
    let pod = "cassandra-0";
    let identity = stage.seen().identity(pod).ok_or_else(|| StoryError::Wrong(format!("{pod} has no identity")))?;
    let volume = stage.sandbox.options().layout.volume(&format!("{CLAIM}-{pod}")).join("cassandra");
    let rows = tables(&volume);
    let config = stage.sandbox.options().layout.pod(&stage.pod(pod)?.uid).join("shared").join("config");
    let program = contents(&config);
    let mut told_another = false;
    let before = stage.seen().unintended_ends().get(pod).copied().unwrap_or(0);
    let begun = Instant::now();
    let mut last = 0u32;
    let mut killed_at: Option<u64> = None;
    let mut pauses: Vec<u64> = Vec::new();
    for death in 1..=5u64 {
        let seen = stage
            .until("a new database process", PATIENCE, |s| {
                s.database_pid(pod).is_some_and(|p| p != last)
                    && s.unintended_ends().get(pod).copied().unwrap_or(0) >= before + death - 1
            })
            .await?;
        last = seen.database_pid(pod).unwrap_or_default();
        if let Some(killed_at) = killed_at {
            let started = audit::started(last)
                .ok_or_else(|| StoryError::Wrong(format!("the database {last} ended before it was killed")))?;
            pauses.push(started.0.saturating_sub(killed_at));
            told_another |= death == 2 && contents(&config) != program;
        }
        killed_at = Some(wall().0);
        process::signal(last, Signal::Kill);
        stage.killed += 1;
    }
    for (measured, least) in pauses.iter().zip(PAUSES).skip(usize::from(told_another)) {
        must(
            *measured + audit::TICK_MILLIS >= least,
            format!("pauses of {pauses:?} ms between death and next start, where at least {PAUSES:?} are due"),
        )?;
    }
    must(pauses.len() == PAUSES.len(), format!("{} pauses were measured", pauses.len()))?;
    let told =
        stage.until("the crash loop told", PATIENCE, |s| s.phase(pod) == Some(DatabasePhase::CrashLooping)).await?;
    let ends = told.unintended_ends().get(pod).copied().unwrap_or(0) - before;
    must(ends == 5, format!("{ends} ends were counted, five databases were killed"))?;
    must(told.identity(pod).as_ref() == Some(&identity), "in its crash loop the member is another one")?;
    // Nothing is moved aside, and nothing of the rows is gone, while nobody knows why it dies.
    let kept = tables(&volume);
    must(!kept.is_empty() && rows.is_subset(&kept), format!("of the tables {rows:?} only {kept:?} are left"))?;
    must(!find(&volume, &|name| name.contains(&identity), 3), format!("data of {identity} was moved aside"))?;
    let seen = stage.until("the member back", PATIENCE, |s| s.is_settled(3)).await?;
    must(seen.identity(pod).as_ref() == Some(&identity), "the member came back as another one")?;
    stage.evidence.step(
        "five quick deaths of one database",
        begun.elapsed(),
        None,
        format!(
            "{ends} ends counted, pauses of {} s, crash loop told, volume untouched, back with the same host id",
            pauses
                .iter()
                .map(|p| format!("{:.1}", Duration::from_millis(*p).as_secs_f64()))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    );
    Ok(())
}
