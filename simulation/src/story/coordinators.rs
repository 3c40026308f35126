//! Stories of coordinators that are killed, stopped or cut off.

use super::{PATIENCE, Stage, StoryError, audit, must, steps};
use crate::kubernetes::{Matcher, Method};
use crate::sandbox::manifests::SET;
use crate::sandbox::process::Signal;
use policies::plan::Verdict;
use protocol::epoch::Epoch;
use protocol::report::Role;
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// The coordinator's agent is killed while nothing is under way.
///
/// # Errors
/// When nobody takes over or a database notices.
pub async fn kill_idle_coordinator(stage: &mut Stage) -> Result<(), StoryError> {
    let before = stage.until("three members", PATIENCE, |s| s.is_settled(3) && s.coordinator().is_some()).await?;
    steps::kill_coordinator(stage, "kill -9 an idle coordinator").await?;
    let after = stage.until("three members", PATIENCE, |s| s.is_settled(3)).await?;
    after.must_run(&before.pids_but(""), "when the coordinator was killed")
}

/// The coordinator is stopped with a write held inside the API until the next one has stamped; it wakes, and the write
/// is refused.
///
/// # Errors
/// When the write lands.
pub async fn late_write_is_refused(stage: &mut Stage) -> Result<(), StoryError> {
    let before =
        stage.until("a coordinator of three", PATIENCE, |s| s.is_settled(3) && s.coordinator().is_some()).await?;
    let (old, epoch) = before.coordinator().ok_or_else(|| StoryError::Wrong("nobody coordinates".into()))?;
    // Its next governed write: the record, for the intent that a larger size brings.
    let held = stage.sandbox.server().hold(Matcher::new(&old, Method::Put, "/configmaps/"));
    stage.sandbox.scale(4)?;
    tokio::time::timeout(PATIENCE, held.caught())
        .await
        .map_err(|_| StoryError::Wrong("the coordinator wrote nothing that could be held".into()))?;
    must(stage.sandbox.signal(&old, "pilot", Signal::Stop), format!("{old} runs no pilot"))?;
    let begun = Instant::now();
    let next = stage
        .until("the next coordinator's stamp", PATIENCE, |s| s.record.as_ref().is_some_and(|r| r.epoch > epoch))
        .await;
    let took = begun.elapsed();
    // Nothing of it was refused before: only what the API takes from now on can be the held write.
    let released = audit::next(stage);
    held.release();
    stage.sandbox.signal(&old, "pilot", Signal::Continue);
    let new = next?.record.map(|r| r.epoch).unwrap_or_default();
    let refused = {
        let path = format!("/configmaps/{SET}-pilots");
        let api = stage.sandbox.api().clone();
        let (old, epoch) = (old.clone(), epoch.to_string());
        let looked = move || {
            let api = api.lock().unwrap_or_else(PoisonError::into_inner);
            api.audit()
                .of_user(&old)
                .filter(|e| {
                    e.sequence >= released
                        && e.path.contains(&path)
                        && e.sent_annotations.get("pilotmesh.io/epoch") == Some(&epoch)
                })
                .any(|e| e.status == 409)
        };
        stage
            .until_true("the held write in the audit log", Duration::from_secs(60), move || {
                let seen = looked();
                async move { seen }
            })
            .await
    };
    refused?;
    stage.until("four members by the next coordinator", PATIENCE, |s| s.is_settled(4)).await?;
    stage.evidence.step(
        "coordinator stopped (SIGSTOP) with a write held in the API",
        took,
        None,
        format!("epoch {epoch} -> {new} stamped; the held write refused with 409 when released"),
    );
    steps::scale(stage, 3).await
}

/// A size is asked for as the coordinator loses its peers and keeps API and Lease: it refuses and says why; the majority
/// takes over, and acts while the old one is still cut off.
///
/// # Errors
/// When the minority acts or does not say why it refuses, or the majority does not act.
pub async fn minority_refuses(stage: &mut Stage) -> Result<(), StoryError> {
    let before =
        stage.until("a coordinator of three", PATIENCE, |s| s.is_settled(3) && s.coordinator().is_some()).await?;
    let (old, epoch) = before.coordinator().ok_or_else(|| StoryError::Wrong("nobody coordinates".into()))?;
    let others: Vec<String> = before.pods.iter().map(|p| p.name.clone()).filter(|n| *n != old).collect();
    let last = stage.last_decisions().await?;
    let result = cut_off_with_a_size_pending(stage, &old, epoch, &others, &last).await;
    for name in others.iter().chain(std::iter::once(&old)) {
        stage.sandbox.cut(name, &[])?;
    }
    let minority = result?;
    stage.until("four members after the cut is healed", PATIENCE, |s| s.is_settled(4)).await?;
    stage.evidence.step(
        "coordinator cut off with a minority, API and Lease kept",
        minority.took,
        None,
        format!(
            "refused after {:.1} s: \"{}\"; epoch {epoch} wrote nothing more; the majority opened the join at epoch {} \
             with it still cut off",
            minority.refused.as_secs_f64(),
            minority.why,
            minority.epoch
        ),
    );
    steps::scale(stage, 3).await
}

/// What came of a cut-off coordinator.
struct Minority {
    why: String,
    refused: Duration,
    took: Duration,
    epoch: Epoch,
}

/// How often a pilot has said that it obeys another cut.
fn cuts_obeyed(stage: &Stage, pod: &str) -> usize {
    let log = stage.sandbox.options().layout.log(pod, "pilot");
    std::fs::read_to_string(log).unwrap_or_default().matches("peers are cut off").count()
}

async fn cut_off_with_a_size_pending(
    stage: &Stage,
    old: &str,
    epoch: Epoch,
    others: &[String],
    last: &BTreeMap<String, u64>,
) -> Result<Minority, StoryError> {
    // The pod that a larger size brings is on nobody's side: it counts for no majority.
    let cuts_before = cuts_obeyed(stage, old);
    stage.sandbox.cut(old, others)?;
    for other in others {
        stage.sandbox.cut(other, &[old.to_owned()])?;
    }
    // A pilot looks for cuts once a second. At once afterwards the size is asked for: the coordinator does not miss its
    // majority yet.
    stage.until_true("the cut in force", PATIENCE, || async { cuts_obeyed(stage, old) > cuts_before }).await?;
    let cut_at = audit::next(stage);
    stage.sandbox.scale(4)?;
    let begun = Instant::now();
    let why = loop {
        let decided = stage.decided_after(last).await?;
        let names_it = |fact: &str| fact.contains("promised") || fact.contains("no other pilot is heard");
        let said = decided
            .iter()
            .filter(|(who, entry)| who == old && entry.epoch == epoch)
            .flat_map(|(_, entry)| &entry.reasons)
            .find(|r| matches!(r.verdict, Verdict::Refuse | Verdict::Wait) && names_it(&r.fact));
        let degraded = stage.seen().states.get(old).and_then(|state| match &state.me.role {
            Role::Coordinator { degraded, .. } => degraded.clone().filter(|why| names_it(why)),
            Role::Follower => None,
        });
        if let Some(why) = degraded.or(said.map(|r| r.fact.clone())) {
            break why;
        }
        must(begun.elapsed() < PATIENCE, format!("{old} did not say that it misses a majority: {decided:?}"))?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let refused = begun.elapsed();
    let seen = stage
        .until("the majority's record with the pending join", PATIENCE, |s| {
            s.record.as_ref().is_some_and(|r| r.epoch > epoch && audit::opens_join(r, "cassandra-3"))
        })
        .await?;
    let took = begun.elapsed();
    let by_old: Vec<String> = audit::entries(stage, cut_at)
        .iter()
        .filter(|e| e.user == old && e.status < 300 && e.resource != "leases" && e.resource != "events")
        .map(|e| format!("{} {}", e.method.as_str(), e.path))
        .collect();
    must(by_old.is_empty(), format!("the cut-off {old} wrote: {}", by_old.join(", ")))?;
    Ok(Minority { why, refused, took, epoch: seen.record.map(|r| r.epoch).unwrap_or_default() })
}
