//! The steps stories are made of: do something, wait for what must come, note what was seen.

use super::{PATIENCE, Stage, StoryError, audit, must};
use crate::kubernetes::ModelTime;
use crate::sandbox::client::Gap;
use crate::sandbox::process::Signal;
use protocol::database::DatabasePhase;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

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
/// That the mesh did it, and in this order, is read from the audit log: a newcomer's database starts after the record
/// carries its join, and a leaver's pod is gone after the record has its identity retired.
///
/// # Errors
/// When it does not come to that, or another database is restarted.
pub async fn scale(stage: &mut Stage, members: u32) -> Result<(), StoryError> {
    let before = stage.until("a settled mesh", PATIENCE, |seen| seen.is_settled(seen.pods.len())).await?;
    let from = before.replicas;
    let since = audit::next(stage);
    let begun = Instant::now();
    stage.say(format!("the StatefulSet is told {members}, as by `kubectl scale`; the mesh does the rest"));
    stage.sandbox.scale(members)?;
    let mut moving = Moving::default();
    let mut started: BTreeMap<String, Option<ModelTime>> = BTreeMap::new();
    let after = stage
        .until(&format!("{members} members"), PATIENCE, |seen| {
            for pod in seen.pods.iter().filter(|p| before.database_pid(&p.name).is_none()) {
                if let Some(pid) = seen.database_pid(&pod.name) {
                    started.entry(pod.name.clone()).or_insert_with(|| audit::started(pid));
                }
            }
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
    let stayed = before.pods.iter().filter(|p| after.pods.iter().any(|now| now.name == p.name));
    let pids = stayed.map(|p| (p.name.clone(), before.database_pid(&p.name))).collect();
    after.must_run(&pids, "while the size changed")?;
    let writes = audit::record_writes(stage, since)?;
    let mut order: Vec<String> = Vec::new();
    for pod in after.pods.iter().filter(|p| before.database_pid(&p.name).is_none()) {
        must(started.contains_key(&pod.name), format!("the first database of {} was not seen", pod.name))?;
    }
    for (name, at) in &started {
        let at = at.ok_or_else(|| StoryError::Wrong(format!("the first database of {name} was gone at once")))?;
        let join = audit::join_opened(&writes, name)
            .ok_or_else(|| StoryError::Wrong(format!("no write of the record opened the join of {name}")))?;
        must(
            join.time.0 <= at.0 + audit::TICK_MILLIS,
            format!("{name} started {} ms before its join was recorded", join.time.0.saturating_sub(at.0)),
        )?;
        order.push(format!("{name} started {} ms after its join was recorded", at.0.saturating_sub(join.time.0)));
    }
    for pod in before.pods.iter().filter(|p| !after.pods.iter().any(|now| now.name == p.name)) {
        let name = &pod.name;
        let identity =
            before.identity(name).ok_or_else(|| StoryError::Wrong(format!("{name} left and had no identity")))?;
        audit::must_leave_once(stage, since, &identity, before.record.as_ref())?;
        let retired = audit::retired_by(&writes, &identity).map(|w| w.sequence);
        let gone = audit::pod_gone(stage, name, since);
        must(
            retired.is_some() && gone.is_some() && retired < gone,
            format!(
                "{name}: {identity} was to be retired (write {retired:?}) before its pod was gone (write {gone:?})"
            ),
        )?;
        order.push(format!("{name} was confirmed gone and retired before its pod ended"));
    }
    let word = if members > from { "scale out" } else { "scale in" };
    stage.evidence.step(
        &format!("{word} {from} -> {members}"),
        begun.elapsed(),
        Some(moving.total()),
        format!("members seen normal and up by all; {}; no other database restarted", order.join("; ")),
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

/// A launcher starts a database that died so soon again, on a loaded machine too: the first pause is a second.
pub(super) const RESTARTED_WITHIN: Duration = Duration::from_secs(15);

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
    stage.killed += 1;
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
    must(
        restarted.is_some_and(|after| after <= RESTARTED_WITHIN),
        format!("the database of {pod} was started again after {restarted:?}, within {RESTARTED_WITHIN:?} is at once"),
    )?;
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
pub(super) const LOOKED_AGAIN: Duration = Duration::from_millis(1500);

/// Scales in and kills the coordinator while the member is leaving.
///
/// That it happened inside LEAVING is proven: the ring is seen leaving also after the kill, or the step fails.
///
/// # Errors
/// When the leave does not complete once, at a higher epoch, with no other database restarted.
pub async fn kill_coordinator_while_leaving(stage: &mut Stage, members: u32) -> Result<(), StoryError> {
    let before = stage.seen();
    let leaver = before.pods.last().map(|p| p.name.clone()).unwrap_or_default();
    let old = before.identity(&leaver).ok_or_else(|| StoryError::Wrong(format!("{leaver} has no identity")))?;
    let pids = before.pids_but(&leaver);
    let since = audit::next(stage);
    let begun = Instant::now();
    stage.say(format!("once {leaver} is leaving, the coordinator will be killed"));
    stage.sandbox.scale(members)?;
    stage
        .until(&format!("{leaver} leaving"), PATIENCE, |seen| seen.phase(&leaver) == Some(DatabasePhase::Leaving))
        .await?;
    let killed = Instant::now();
    let mut last_leaving = Duration::ZERO;
    let mut look = |seen: &super::Snapshot| {
        if seen.peers_see_leaving(&leaver, &old) || seen.phase(&leaver) == Some(DatabasePhase::Leaving) {
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
    seen.must_run(&pids, "while the coordinator changed")?;
    audit::must_leave_once(stage, since, &old, before.record.as_ref())?;
    stage.evidence.step(
        &format!("scale in to {members} across that change"),
        begun.elapsed(),
        None,
        format!(
            "still leaving {:.1} s after the kill; opened once, retired once, no other database restarted",
            last_leaving.as_secs_f64()
        ),
    );
    Ok(())
}

/// What is answered already when the API stops may still be decided on for so long.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Looks on while the API is away: no database becomes another process, rows are acknowledged, nobody acts. Returns how
/// many rows.
///
/// # Errors
/// When anything else happens.
pub async fn look_on_without_api(
    stage: &Stage,
    how_long: Duration,
    pids: &BTreeMap<String, Option<u32>>,
) -> Result<u64, StoryError> {
    tokio::time::sleep(LAST_ANSWERS).await;
    stage.until("a look at the mesh without the API", PATIENCE, |seen| !seen.api).await?;
    let rows = stage.writer.as_ref().map_or(0, |w| w.acknowledged());
    let last = stage.last_decisions().await?;
    stage
        .watch_for(how_long, |seen| {
            must(!seen.api, "the API answered although it was stopped")?;
            seen.must_run(pids, "while the API was away")
        })
        .await?;
    let acts = super::acts(&stage.decided_after(&last).await?);
    must(acts.is_empty(), format!("there were acts while the API was away: {}", acts.join("; ")))?;
    let written = stage.writer.as_ref().map_or(0, |w| w.acknowledged()).saturating_sub(rows);
    must(stage.writer.is_none() || written > 0, "no row was acknowledged while the API was away")?;
    Ok(written)
}

/// Exactly one pilot coordinates by its own word.
pub(super) fn has_one_coordinator(seen: &super::Snapshot) -> bool {
    let leads =
        |s: &&agent::pilot::state::StateDocument| matches!(s.me.role, protocol::report::Role::Coordinator { .. });
    seen.states.values().filter(leads).count() == 1
}

/// Stops the API for a while: databases serve, nobody restarts, nothing is decided; afterwards one coordinator.
///
/// # Errors
/// When anything else happens.
pub async fn api_outage(stage: &mut Stage, how_long: Duration) -> Result<(), StoryError> {
    let before = stage.until("a settled mesh", PATIENCE, |seen| seen.is_settled(seen.pods.len())).await?;
    let pids = before.pids_but("");
    stage.say("databases must serve, nobody may restart, nothing may be decided");
    stage.sandbox.stop_api().await;
    let looked = look_on_without_api(stage, how_long, &pids).await;
    let begun = Instant::now();
    stage.say("the API answers again: one coordinator must come of it");
    stage.sandbox.start_api().await?;
    let written = looked?;
    let seen = stage
        .until("one coordinator again", PATIENCE, |seen| has_one_coordinator(seen) && seen.is_settled(pids.len()))
        .await?;
    seen.must_run(&pids, "when the API returned")?;
    stage.evidence.step(
        &format!("API server away for {} s", how_long.as_secs()),
        begun.elapsed(),
        None,
        format!(
            "{written} rows acknowledged meanwhile, no act, no database restarted; one coordinator again afterwards"
        ),
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
    if let Some(bulk) = &stage.bulk {
        let back = bulk.read_back().await.map_err(|e| StoryError::Wrong(e.to_string()))?;
        stage.evidence.fact(
            "large rows acknowledged at QUORUM and read back",
            format!("{} acknowledged, {} missing", back.acknowledged, back.missing.len()),
            back.missing.is_empty(),
        );
    }
    let back = writer.read_back().await.map_err(|e| StoryError::Wrong(e.to_string()))?;
    let missing = back.missing.len();
    let mut seen = format!("{acknowledged} acknowledged, {missing} missing");
    if let (Some(first), Some(last)) = (back.missing.first(), back.missing.last()) {
        seen.push_str(&format!(", numbers {first} to {last}"));
    }
    stage.evidence.fact("rows acknowledged at QUORUM and read back", seen, missing == 0 && acknowledged > 0);
    let window = Duration::from_secs(5);
    let gaps: Vec<Gap> = writer.gaps(window).iter().flat_map(|g| unexcused(*g, &stage.excused, window)).collect();
    let told: Vec<String> = gaps
        .iter()
        .map(|g| format!("{:.1} s from {:.0} s on", g.to.saturating_sub(g.from).as_secs_f64(), g.from.as_secs_f64()))
        .collect();
    let beside = match stage.excused.len() {
        0 => String::new(),
        n => format!(", beside {n} stretches in which too many were stopped on purpose"),
    };
    stage.evidence.fact(
        "5-second windows without an acknowledgement",
        if gaps.is_empty() {
            format!("0{beside}")
        } else {
            format!("{}: {} after the first row{beside}", gaps.len(), told.join(", "))
        },
        gaps.is_empty(),
    );
    Ok(())
}

/// What of a gap lies outside of the stretches in which nothing could be acknowledged, and is long enough to count.
fn unexcused(gap: Gap, excused: &[(Duration, Duration)], window: Duration) -> Vec<Gap> {
    let mut left = vec![gap];
    for (from, to) in excused {
        left = left
            .into_iter()
            .flat_map(|gap| {
                [Gap { from: gap.from, to: gap.to.min(*from) }, Gap { from: gap.from.max(*to), to: gap.to }]
            })
            .filter(|gap| gap.to.saturating_sub(gap.from) >= window)
            .collect();
    }
    left
}

/// Counts, in the API's audit log, writes of older epochs that were refused and such that were committed after a
/// newer stamp of the same object.
pub fn judge_epochs(stage: &mut Stage) {
    let epochs = {
        let api = stage.sandbox.api().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        audit::judge_epochs(api.audit().entries())
    };
    let mut seen = format!("{} refused, {} committed after a newer stamp", epochs.refused, epochs.late.len());
    if !epochs.late.is_empty() {
        seen.push_str(&format!(": {}", epochs.late.join("; ")));
    }
    stage.evidence.fact("writes of older epochs", seen, epochs.late.is_empty());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_outside_of_an_excused_stretch_is_a_gap() {
        let s = Duration::from_secs;
        let gap = |from, to| Gap { from: s(from), to: s(to) };
        let excused = [(s(100), s(150))];
        assert_eq!(unexcused(gap(99, 149), &excused, s(5)), []);
        assert_eq!(unexcused(gap(90, 149), &excused, s(5)), [gap(90, 100)]);
        assert_eq!(unexcused(gap(120, 160), &excused, s(5)), [gap(150, 160)]);
        assert_eq!(unexcused(gap(10, 16), &excused, s(5)), [gap(10, 16)]);
        assert_eq!(unexcused(gap(10, 16), &[], s(5)), [gap(10, 16)]);
        assert_eq!(unexcused(gap(90, 160), &excused, s(5)), [gap(90, 100), gap(150, 160)]);
    }
}
