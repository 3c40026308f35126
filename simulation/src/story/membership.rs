//! Stories of members that join and leave in unusual ways.

use super::volumes::find;
use super::{PATIENCE, Snapshot, Stage, StoryError, audit, must, steps};
use crate::kubernetes::Request;
use crate::sandbox::manifests::NAMESPACE;
use crate::sandbox::process::{Signal, databases};
use policies::decide::SIZE_REFUSED;
use protocol::database::DatabasePhase;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The leaving pod's own agent is killed and, in an ending pod, not restarted: the launcher carries the leave on alone.
///
/// That it happened inside LEAVING is proven: peers see the member leaving also after the kill, or the story fails.
///
/// # Errors
/// When the leave does not end once, the agent is back, or a database is restarted.
pub async fn leave_without_own_agent(stage: &mut Stage) -> Result<(), StoryError> {
    steps::scale(stage, 4).await?;
    let pod = "cassandra-3";
    let before = stage.seen();
    let identity = before.identity(pod).ok_or_else(|| StoryError::Wrong(format!("{pod} has no identity")))?;
    let pid = before.database_pid(pod).ok_or_else(|| StoryError::Wrong(format!("{pod} runs no database")))?;
    let view = stage.pod(pod)?;
    let launcher = view.processes.get("database").copied().unwrap_or_default();
    let agent = view.processes.get("pilot").copied().unwrap_or_default();
    must(databases(launcher) == [pid], format!("the database {pid} is not the launcher's only one"))?;
    let pids = before.pids_but(pod);
    let since = audit::next(stage);
    let begun = Instant::now();
    stage.sandbox.scale(3)?;
    stage.until("the pod leaving", PATIENCE, |s| s.phase(pod) == Some(DatabasePhase::Leaving)).await?;
    must(stage.sandbox.signal(pod, "pilot", Signal::Kill), format!("{pod} runs no pilot"))?;
    let killed = Instant::now();
    stage
        .until("the agent's process gone", Duration::from_secs(10), |s| {
            s.pods.iter().any(|p| p.name == pod && p.processes.get("pilot") != Some(&agent))
        })
        .await?;
    let mut last_leaving = Duration::ZERO;
    let mut wrong: Option<String> = None;
    let seen = stage
        .until("three members", PATIENCE, |s| {
            // Looked at before the rings that tell of the same moment, so that the database may end in between.
            let running = databases(launcher);
            if s.peers_see_leaving(pod, &identity) {
                last_leaving = killed.elapsed();
            }
            if let Some(pod) = s.pods.iter().find(|p| p.name == pod) {
                if pod.processes.contains_key("pilot") || pod.uid != view.uid {
                    wrong.get_or_insert(format!("{} has an agent again, or is another pod", pod.name));
                }
                if running.iter().any(|p| *p != pid) {
                    wrong.get_or_insert(format!("the leaver's database was restarted: {pid} and then {running:?}"));
                }
            }
            s.is_settled(3)
        })
        .await?;
    must(wrong.is_none(), wrong.unwrap_or_default())?;
    must(
        last_leaving > steps::LOOKED_AGAIN,
        format!("{pod} was seen leaving {last_leaving:?} after its agent was killed: the kill proves nothing"),
    )?;
    seen.must_run(&pids, "while another member left")?;
    audit::must_leave_once(stage, since, &identity, before.record.as_ref())?;
    let made = audit::pods_made(stage, pod, since);
    must(made == 0, format!("{pod} was made again {made} times although its leave was to end in it"))?;
    stage.evidence.step(
        "kill -9 the leaving pod's own agent, not restarted",
        begun.elapsed(),
        None,
        format!(
            "still leaving {:.1} s after the kill; the launcher finished alone in the same database process, peers \
             confirmed, opened once and retired once, no other database restarted",
            last_leaving.as_secs_f64()
        ),
    );
    Ok(())
}

/// Out to four again on the claim that a leaver left behind.
///
/// # Errors
/// When the old identity comes back, or its data is gone.
pub async fn rejoin_on_kept_claim(stage: &mut Stage) -> Result<(), StoryError> {
    let retired: BTreeSet<String> = stage
        .seen()
        .record
        .iter()
        .flat_map(|r| r.retired.keys().map(ToString::to_string).collect::<Vec<_>>())
        .collect();
    steps::scale(stage, 4).await?;
    let seen = stage.seen();
    let now = seen.identity("cassandra-3").ok_or_else(|| StoryError::Wrong("cassandra-3 has no identity".into()))?;
    must(!retired.contains(&now), format!("cassandra-3 came back as the retired {now}"))?;
    let volume = stage.sandbox.options().layout.volume("data-cassandra-3");
    let kept = find(&volume, &|name| retired.iter().any(|r| name.contains(r.as_str())), 4);
    must(kept, format!("the data of {retired:?} does not lie aside in {}", volume.display()))?;
    stage.evidence.fact("kept claim used again", format!("new host id {now}, old data moved aside"), true);
    Ok(())
}

/// Told 3 -> 2 with RF 3: the size is raised back, the pod returns once as the same member, and everybody is told why.
///
/// # Errors
/// When anything else happens.
pub async fn refused_scale_in(stage: &mut Stage) -> Result<(), StoryError> {
    let before = stage.seen();
    let pod = "cassandra-2";
    let uid = stage.pod(pod)?.uid;
    let identity = before.identity(pod).ok_or_else(|| StoryError::Wrong(format!("{pod} has no identity")))?;
    let since = audit::next(stage);
    let begun = Instant::now();
    stage.sandbox.scale(2)?;
    stage.until("the size raised back", PATIENCE, |s| s.replicas == 3).await?;
    let raised = begun.elapsed();
    let mut left = false;
    let seen = stage
        .until("the pod back as the same member", PATIENCE, |s| {
            left |= s.peers_see_leaving(pod, &identity) || s.phase(pod) == Some(DatabasePhase::Leaving);
            s.is_settled(3) && s.pods.iter().any(|p| p.name == pod && p.uid != uid)
        })
        .await?;
    must(!left, format!("{pod} was seen leaving although its leave was refused"))?;
    must(seen.identity(pod).as_ref() == Some(&identity), "the pod came back as another member")?;
    let made = audit::pods_made(stage, pod, since);
    must(made == 1, format!("{pod} was to return once and was made {made} times"))?;
    let opened = audit::leaves_opened(&audit::record_writes(stage, since)?, &identity);
    must(opened == 0, format!("{opened} writes of the record opened a leave that was refused"))?;
    let next = |s: &Snapshot| s.record.as_ref().map(|r| r.next_operation);
    must(next(&seen) == next(&before), "an operation was begun although nothing was to be done")?;
    let record = seen.record.clone().ok_or_else(|| StoryError::Wrong("the record is gone".into()))?;
    must(!record.retired.keys().any(|i| i.as_str() == identity), "the member was retired")?;
    let condition = record.conditions.iter().find(|c| c.kind == SIZE_REFUSED && c.status);
    must(condition.is_some_and(|c| c.reason == "ReplicasKeepHomes"), format!("no condition tells why: {condition:?}"))?;
    must(seen.decisions.iter().any(|d| d.text.contains("ReplicasKeepHomes")), "no decision tells why")?;
    let events = stage.sandbox.ask(Request::get("admin", &format!("/api/v1/namespaces/{NAMESPACE}/events")))?;
    let told = events["items"].as_array().into_iter().flatten().any(|e| e["reason"] == "ReplicasKeepHomes");
    must(told, "no Event tells why")?;
    stage.evidence.step(
        "told 3 -> 2 with RF 3",
        begun.elapsed(),
        None,
        format!(
            "size raised back after {:.1} s; drained and returned once, same host id; condition, Event, decision",
            raised.as_secs_f64()
        ),
    );
    Ok(())
}

/// A leave that the grace period cuts off goes on when the pod is back.
///
/// # Errors
/// When it does not end, or ends twice.
pub async fn leave_cut_off(stage: &mut Stage) -> Result<(), StoryError> {
    let pod = "cassandra-3";
    let before = stage.until("four members", PATIENCE, |s| s.is_settled(4)).await?;
    let uid = stage.pod(pod)?.uid;
    let identity = before.identity(pod).ok_or_else(|| StoryError::Wrong(format!("{pod} has no identity")))?;
    let since = audit::next(stage);
    let begun = Instant::now();
    stage.sandbox.scale(3)?;
    stage.until("the pod leaving", PATIENCE, |s| s.phase(pod) == Some(DatabasePhase::Leaving)).await?;
    stage
        .until("the pod back on its claim, its leave not done", PATIENCE, |s| {
            s.replicas == 4 && s.pods.iter().any(|p| p.name == pod && p.uid != uid)
        })
        .await?;
    let cut = begun.elapsed();
    let seen = stage
        .until("three members, the leave completed", Duration::from_secs(600), |s| s.is_settled(3) && s.replicas == 3)
        .await?;
    let made = audit::pods_made(stage, pod, since);
    must(made == 1, format!("{pod} was to return once for its leave and was made {made} times"))?;
    audit::must_leave_once(stage, since, &identity, before.record.as_ref())?;
    seen.must_run(&before.pids_but(pod), "while another member left")?;
    stage.evidence.step(
        "4 -> 3 with a grace of 20 s and slow streaming",
        begun.elapsed(),
        None,
        format!("cut off and back once, after {:.0} s; opened once, retired once", cut.as_secs_f64()),
    );
    Ok(())
}
