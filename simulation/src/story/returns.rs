//! Stories of all members going at once, and coming back.

use super::{PATIENCE, Snapshot, Stage, StoryError, audit, must};
use crate::sandbox::client::RowWriter;
use crate::sandbox::process::{self, Signal, runs};
use protocol::database::DatabasePhase;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Everything at once: every process of every pod is killed and the pods deleted.
///
/// # Errors
/// When another cluster comes of it.
pub async fn all_pods_killed(stage: &mut Stage) -> Result<(), StoryError> {
    let before = stage.until("three members", PATIENCE, |s| s.is_settled(3)).await?;
    let since = audit::next(stage);
    let at = stage.writer.as_ref().map(RowWriter::elapsed).unwrap_or_default();
    let row = stage.writer.as_ref().map_or(0, RowWriter::tried);
    let begun = Instant::now();
    for pod in &before.pods {
        for pid in pod.processes.values() {
            process::signal(*pid, Signal::Kill);
        }
        // After its launcher: this is the end of a pod, not of a database in a pod that lives.
        if let Some(pid) = before.database_pid(&pod.name) {
            process::signal(pid, Signal::Kill);
        }
        stage.sandbox.delete_pod(&pod.name, Some(0))?;
    }
    let seen = stage
        .until("the same three members", PATIENCE, |s| {
            s.is_settled(3) && s.pods.iter().all(|p| before.pods.iter().all(|old| old.uid != p.uid))
        })
        .await?;
    let took = begun.elapsed();
    must_be_the_same(&before, &seen)?;
    let asked = audit::foundings(stage, since);
    must(asked == 0, format!("founding was asked of the API {asked} times"))?;
    stage.excuse_since(at, PATIENCE).await?;
    stage.evidence.step(
        "all pods killed at once",
        took,
        None,
        format!(
            "at row {row} or shortly before; same cluster, same host ids, new addresses, no second founding; rows \
             acknowledged again"
        ),
    );
    Ok(())
}

/// The same cluster and the same members, all of them at new addresses.
fn must_be_the_same(before: &Snapshot, seen: &Snapshot) -> Result<(), StoryError> {
    for pod in &before.pods {
        let name = &pod.name;
        let (old, new) = (before.identity(name), seen.identity(name));
        must(old.is_some() && new == old, format!("{name} was {old:?} and came back as {new:?}"))?;
    }
    let addresses: BTreeSet<_> = before.pods.iter().map(|p| p.address).collect();
    must(seen.pods.iter().all(|p| !addresses.contains(&p.address)), "an address was used again")?;
    let cluster = |s: &Snapshot| s.record.as_ref().map(|r| r.cluster.clone());
    must(cluster(before).is_some() && cluster(seen) == cluster(before), "another cluster was founded")
}

/// Grace for a stop of all: with nobody left to ask, pilots wait for their answer until the time to drain has come.
const STOP_ALL_GRACE: u64 = 25;

/// The founder's pod is replaced; then all are stopped, and one that did not found is started alone: it starts.
///
/// # Errors
/// When the founder comes back as another one, or the one alone does not start, or not as who it was.
pub async fn one_alone_starts(stage: &mut Stage) -> Result<(), StoryError> {
    let founder = "cassandra-0";
    let alone = "cassandra-1";
    let before = stage.until("three members", PATIENCE, |s| s.is_settled(3)).await?;
    let old = stage.pod(founder)?;
    let begun = Instant::now();
    stage.sandbox.delete_pod(founder, None)?;
    let seen = stage
        .until("the founder back", PATIENCE, |s| {
            s.is_settled(3) && s.pods.iter().any(|p| p.name == founder && p.uid != old.uid)
        })
        .await?;
    must(seen.identity(founder) == before.identity(founder), "the founder came back as another member")?;
    must(stage.pod(founder)?.address != old.address, "the founder came back at its old address")?;
    seen.must_run(&before.pids_but(founder), "while the founder was replaced")?;
    stage.evidence.step("the founder's pod replaced", begun.elapsed(), None, "same host id, new address");

    let before = seen;
    let since = audit::next(stage);
    let at = stage.writer.as_ref().map(RowWriter::elapsed).unwrap_or_default();
    let begun = Instant::now();
    let names: Vec<String> = before.pods.iter().map(|p| p.name.clone()).collect();
    let others: Vec<String> = names.iter().filter(|n| *n != alone).cloned().collect();
    stage.sandbox.hold_pods(&names);
    let result = start_alone(stage, &before, &names, alone, &others).await;
    stage.sandbox.hold_pods(&[]);
    let took = result?;
    let seen = stage.until("the others back", PATIENCE, |s| s.is_settled(3)).await?;
    must_be_the_same(&before, &seen)?;
    let asked = audit::foundings(stage, since);
    must(asked == 0, format!("founding was asked of the API {asked} times"))?;
    stage.excuse_since(at, PATIENCE).await?;
    stage.evidence.step(
        "all stopped, one alone started, then the others",
        begun.elapsed(),
        Some(took),
        format!("{alone} served alone with the same host id, no founding; same members and cluster afterwards"),
    );
    Ok(())
}

async fn start_alone(
    stage: &Stage,
    before: &Snapshot,
    names: &[String],
    alone: &str,
    others: &[String],
) -> Result<Duration, StoryError> {
    for name in names {
        stage.sandbox.delete_pod(name, Some(STOP_ALL_GRACE))?;
    }
    stage
        .until("all pods made anew and nothing running", PATIENCE, |s| {
            s.pods.len() == names.len()
                && s.pods.iter().all(|p| p.processes.is_empty() && before.pods.iter().all(|old| old.uid != p.uid))
        })
        .await?;
    let left: Vec<u32> = names.iter().filter_map(|n| before.database_pid(n)).filter(|pid| runs(*pid)).collect();
    must(left.is_empty(), format!("databases still run although all were stopped: {left:?}"))?;
    stage.say(format!("all are stopped; {alone} is started alone"));
    let begun = Instant::now();
    stage.sandbox.hold_pods(others);
    let seen =
        stage.until("one member serving alone", PATIENCE, |s| s.phase(alone) == Some(DatabasePhase::Serving)).await?;
    must(
        seen.pods.iter().filter(|p| p.name != alone).all(|p| p.processes.is_empty()),
        format!("{alone} was not alone when it served"),
    )?;
    must(seen.identity(alone) == before.identity(alone), format!("{alone} started alone as another member"))?;
    Ok(begun.elapsed())
}
