//! The steps stories are made of: do something, wait for what must come, note what was seen.

use super::{Stage, StoryError, must};
use crate::sandbox::process::Signal;
use protocol::database::{DatabasePhase, RingStatus};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A machine under load takes its time: nothing is judged by the clock, but nothing waits for ever.
const PATIENCE: Duration = Duration::from_secs(600);

/// From empty to three members, one after the other.
///
/// # Errors
/// When it does not come to that.
pub async fn form(stage: &mut Stage, members: usize) -> Result<(), StoryError> {
    let begun = Instant::now();
    let mut joining_at_once = 0usize;
    let mut moving = Moving::default();
    stage.say("one founds once all say their volumes are empty; each join is granted");
    stage
        .until(&format!("{members} members"), PATIENCE, |seen| {
            let now_moving = seen
                .pods
                .iter()
                .filter(|p| matches!(seen.phase(&p.name), Some(DatabasePhase::Starting | DatabasePhase::Joining)))
                .count();
            joining_at_once = joining_at_once.max(now_moving);
            moving.look(now_moving > 0);
            seen.is_settled(members)
        })
        .await?;
    must(joining_at_once <= 1, format!("{joining_at_once} members were starting or joining at once"))?;
    stage.evidence.step(
        &format!("form {members} members"),
        begun.elapsed(),
        Some(moving.total()),
        format!("one founder, {} joined, never two at once", members.saturating_sub(1)),
    );
    Ok(())
}

/// Waits until the writer has its first rows acknowledged.
///
/// # Errors
/// When none are.
pub async fn first_rows(stage: &mut Stage) -> Result<(), StoryError> {
    stage
        .until_true("the first acknowledged rows", PATIENCE, || async {
            stage.writer.as_ref().is_none_or(|w| w.acknowledged() > 20)
        })
        .await
}

/// Changes the size and waits until the ring has it.
///
/// # Errors
/// When it does not come to that.
pub async fn scale(stage: &mut Stage, members: u32) -> Result<(), StoryError> {
    let before = stage.seen();
    let from = before.replicas;
    let begun = Instant::now();
    stage.say(format!("the StatefulSet is told {members}, as by `kubectl scale`; the mesh does the rest"));
    stage.sandbox.scale(members)?;
    let mut moving = Moving::default();
    stage
        .until(&format!("{members} members"), PATIENCE, |seen| {
            let now = seen.pods.iter().any(|p| {
                matches!(
                    seen.phase(&p.name),
                    Some(
                        DatabasePhase::Starting
                            | DatabasePhase::Joining
                            | DatabasePhase::Leaving
                            | DatabasePhase::Draining
                    )
                )
            });
            moving.look(now);
            seen.is_settled(usize::try_from(members).unwrap_or(0))
        })
        .await?;
    let after = stage.seen();
    let kept = same_processes(&before.pods.iter().map(|p| p.name.clone()).collect::<Vec<_>>(), &before, &after);
    let word = if members > from { "scale out" } else { "scale in" };
    stage.evidence.step(
        &format!("{word} {from} -> {members}"),
        begun.elapsed(),
        Some(moving.total()),
        format!("members seen normal and up by all; other databases not restarted: {kept}"),
    );
    Ok(())
}

/// Adds up the time in which a database itself was at work: starting, streaming, stopping.
#[derive(Default)]
struct Moving {
    since: Option<Instant>,
    before: Duration,
}

impl Moving {
    fn look(&mut self, moving: bool) {
        match (moving, self.since) {
            (true, None) => self.since = Some(Instant::now()),
            (false, Some(at)) => {
                self.before += at.elapsed();
                self.since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    fn total(&self) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |at| at.elapsed())
    }
}

fn same_processes(names: &[String], before: &super::Snapshot, after: &super::Snapshot) -> bool {
    names
        .iter()
        .filter(|n| after.pods.iter().any(|p| &p.name == *n))
        .all(|n| before.database_pid(n) == after.database_pid(n))
}

/// Kills a database and waits until its launcher has it back.
///
/// # Errors
/// When it does not come back.
pub async fn kill_database(stage: &mut Stage, pod: &str) -> Result<(), StoryError> {
    let before = stage.seen();
    let pid = before.database_pid(pod).ok_or_else(|| StoryError::Wrong(format!("{pod} runs no database")))?;
    let identity = before.identity(pod);
    let begun = Instant::now();
    stage.say(format!("SIGKILL to the database of {pod}, process {pid}; its launcher restarts it"));
    crate::sandbox::process::signal(pid, Signal::Kill);
    let members = before.pods.len();
    let mut restarted: Option<Duration> = None;
    let seen = stage
        .until(&format!("{pod} serving again"), PATIENCE, |seen| {
            let new = seen.database_pid(pod).filter(|p| *p != pid);
            if new.is_some() && restarted.is_none() {
                restarted = Some(begun.elapsed());
            }
            new.is_some() && seen.is_settled(members)
        })
        .await?;
    must(seen.identity(pod) == identity, format!("{pod} came back as another identity"))?;
    stage.evidence.step(
        &format!("kill -9 the database of {pod}"),
        begun.elapsed(),
        Some(begun.elapsed().saturating_sub(restarted.unwrap_or_default())),
        format!(
            "process back after {:.1} s by its launcher, same host id",
            restarted.unwrap_or_default().as_secs_f64()
        ),
    );
    Ok(())
}

/// Kills the coordinator's agent and waits for the next one. Returns how long that took.
///
/// # Errors
/// When nobody takes over, at a higher epoch, or a database is restarted.
pub async fn kill_coordinator(stage: &mut Stage, label: &str) -> Result<Duration, StoryError> {
    kill_coordinator_watching(stage, label, |_| {}).await
}

async fn kill_coordinator_watching(
    stage: &mut Stage,
    label: &str,
    mut watch: impl FnMut(&super::Snapshot),
) -> Result<Duration, StoryError> {
    let before = stage.until("a coordinator", PATIENCE, |seen| seen.coordinator().is_some()).await?;
    let Some((name, epoch)) = before.coordinator() else {
        return Err(StoryError::Wrong("nobody coordinates".to_owned()));
    };
    let begun = Instant::now();
    stage.say(format!("SIGKILL to {name}, coordinator at epoch {epoch}; another takes over"));
    must(stage.sandbox.signal(&name, "pilot", Signal::Kill), format!("{name} runs no pilot"))?;
    let seen = stage
        .until("the next coordinator", Duration::from_secs(60), |seen| {
            watch(seen);
            seen.coordinator().is_some_and(|(_, e)| e > epoch)
        })
        .await?;
    let took = begun.elapsed();
    let Some((next, new)) = seen.coordinator() else {
        return Err(StoryError::Wrong("the next coordinator is gone again".to_owned()));
    };
    stage.evidence.step(label, took, None, format!("{name} at epoch {epoch} -> {next} at epoch {new}"));
    Ok(took)
}

/// A ring is looked at about once a second: what is seen so long after a moment was so after that moment.
const LOOKED_AGAIN: Duration = Duration::from_millis(1500);

/// Whether the leaver itself or any peer sees it leaving.
fn is_leaving(seen: &super::Snapshot, leaver: &str, identity: Option<&str>) -> bool {
    let by_peers = seen.states.values().any(|state| {
        let own = state.members.iter().find(|m| m.name == state.me.name);
        let ring = own.and_then(|m| m.report.as_ref()).and_then(|r| r.ring.as_ref());
        ring.into_iter()
            .flatten()
            .any(|line| line.status == RingStatus::Leaving && Some(line.identity.to_string().as_str()) == identity)
    });
    by_peers || seen.phase(leaver) == Some(DatabasePhase::Leaving)
}

/// Scales in and kills the coordinator while the member is leaving.
///
/// That it happened inside LEAVING is proven: the ring is seen leaving also after the kill, or the step fails.
///
/// # Errors
/// When the leave does not complete once, at a higher epoch, with no other database restarted.
pub async fn kill_coordinator_while_leaving(stage: &mut Stage, members: u32) -> Result<(), StoryError> {
    let before = stage.seen();
    let leaver = before.pods.last().map(|p| p.name.clone()).unwrap_or_default();
    let old = before.identity(&leaver);
    let pids: BTreeMap<String, Option<u32>> = before
        .pods
        .iter()
        .filter(|p| p.name != leaver)
        .map(|p| (p.name.clone(), before.database_pid(&p.name)))
        .collect();
    let begun = Instant::now();
    stage.say(format!("once {leaver} is leaving, the coordinator will be killed"));
    stage.sandbox.scale(members)?;
    stage
        .until(&format!("{leaver} leaving"), PATIENCE, |seen| seen.phase(&leaver) == Some(DatabasePhase::Leaving))
        .await?;
    let killed = Instant::now();
    let mut last_leaving = Duration::ZERO;
    let mut look = |seen: &super::Snapshot| {
        if is_leaving(seen, &leaver, old.as_deref()) {
            last_leaving = killed.elapsed();
        }
    };
    kill_coordinator_watching(stage, "kill -9 the coordinator inside the decommission", &mut look).await?;
    stage.say(format!("the next coordinator carries on until peers confirm that {leaver} left"));
    let seen = stage
        .until(&format!("{members} members"), PATIENCE, |seen| {
            look(seen);
            seen.is_settled(usize::try_from(members).unwrap_or(0))
        })
        .await?;
    must(
        last_leaving > LOOKED_AGAIN,
        format!("{leaver} was not seen leaving after the coordinator was killed: the kill proves nothing"),
    )?;
    for (name, pid) in &pids {
        must(seen.database_pid(name) == *pid, format!("the database of {name} was restarted"))?;
    }
    let retired = seen.record.as_ref().is_some_and(|r| r.retired.keys().any(|i| Some(i.to_string()) == old));
    must(retired, format!("{old:?} is not retired"))?;
    stage.evidence.step(
        &format!("scale in to {members} across that change"),
        begun.elapsed(),
        None,
        format!(
            "still leaving {:.1} s after the kill; completed once, identity retired, no other database restarted",
            last_leaving.as_secs_f64()
        ),
    );
    Ok(())
}

/// Stops the API for a while: databases serve, nobody restarts, nothing is decided; afterwards one coordinator.
///
/// # Errors
/// When anything else happens.
pub async fn api_outage(stage: &mut Stage, how_long: Duration) -> Result<(), StoryError> {
    let before = stage.seen();
    let names: Vec<String> = before.pods.iter().map(|p| p.name.clone()).collect();
    let rows = stage.writer.as_ref().map_or(0, |w| w.acknowledged());
    stage.say("databases must serve, nobody may restart, nothing may be decided");
    stage.sandbox.stop_api().await;
    tokio::time::sleep(how_long).await;
    let during = stage.seen();
    must(same_processes(&names, &before, &during), "a database was restarted while the API was away")?;
    let written = stage.writer.as_ref().map_or(0, |w| w.acknowledged()).saturating_sub(rows);
    must(stage.writer.is_none() || written > 0, "no row was acknowledged while the API was away")?;
    let begun = Instant::now();
    stage.say("the API answers again: one coordinator must come of it");
    stage.sandbox.start_api().await?;
    let seen = stage
        .until("one coordinator again", PATIENCE, |seen| {
            let count = seen
                .states
                .values()
                .filter(|s| matches!(s.me.role, protocol::report::Role::Coordinator { .. }))
                .count();
            count == 1 && seen.is_settled(names.len())
        })
        .await?;
    must(same_processes(&names, &before, &seen), "a database was restarted when the API returned")?;
    stage.evidence.step(
        &format!("API server away for {} s", how_long.as_secs()),
        begun.elapsed(),
        None,
        format!("{written} rows acknowledged meanwhile, no database restarted; one coordinator again after its return"),
    );
    Ok(())
}

/// Stops the writer, reads everything back, and notes the totals.
///
/// # Errors
/// When an acknowledged row is missing, or nothing was acknowledged for too long.
pub async fn settle_accounts(stage: &mut Stage) -> Result<(), StoryError> {
    let Some(writer) = &mut stage.writer else {
        return Ok(());
    };
    stage.note.send_replace("the writer has stopped; every acknowledged row is read at QUORUM".to_owned());
    writer.stop().await;
    let acknowledged = writer.acknowledged();
    let back = writer.read_back().await.map_err(|e| StoryError::Wrong(e.to_string()))?;
    let missing = back.missing.len();
    stage.evidence.fact(
        "rows acknowledged at QUORUM and read back",
        format!("{acknowledged} acknowledged, {missing} missing"),
        missing == 0 && acknowledged > 0,
    );
    let gaps = writer.gaps(Duration::from_secs(5));
    let told: Vec<String> = gaps
        .iter()
        .map(|g| format!("{:.1} s from {:.0} s on", g.to.saturating_sub(g.from).as_secs_f64(), g.from.as_secs_f64()))
        .collect();
    stage.evidence.fact(
        "5-second windows without an acknowledgement",
        if gaps.is_empty() {
            "0".to_owned()
        } else {
            format!("{}: {} after the first row", gaps.len(), told.join(", "))
        },
        gaps.is_empty(),
    );
    Ok(())
}

/// Counts, in the API's audit log, writes of older epochs that were refused and such that were committed after a
/// newer stamp.
pub fn judge_epochs(stage: &mut Stage) {
    let api = stage.sandbox.api().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut highest: BTreeMap<String, u64> = BTreeMap::new();
    let mut refused = 0usize;
    let mut committed_late = 0usize;
    for entry in api.audit().entries() {
        let epoch = entry.sent_annotations.get("pilotmesh.io/epoch").and_then(|e| e.parse::<u64>().ok());
        let Some(epoch) = epoch else {
            continue;
        };
        let top = highest.entry(entry.path.clone()).or_default();
        if entry.status < 300 {
            if epoch < *top {
                committed_late += 1;
            }
            *top = (*top).max(epoch);
        } else if entry.status == 409 && epoch < *top {
            refused += 1;
        }
    }
    drop(api);
    stage.evidence.fact(
        "writes of older epochs",
        format!("{refused} refused, {committed_late} committed after a newer stamp"),
        committed_late == 0,
    );
}

/// Notes how many databases ended although nobody had asked for it, beyond those that the story killed.
pub fn judge_restarts(stage: &mut Stage, killed: u64) {
    let ends: u64 = stage.seen().unintended_ends().values().sum();
    let more = ends.saturating_sub(killed);
    stage.evidence.fact(
        "restarts of databases that nobody intended",
        format!("{more} (killed on purpose: {killed})"),
        more == 0,
    );
}
