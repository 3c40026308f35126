//! The story of a member whose volume is lost.

use super::volumes::tables;
use super::{PATIENCE, Stage, StoryError, audit, must};
use crate::kubernetes::{PatchKind, Request};
use crate::sandbox::client::RowWriter;
use crate::sandbox::engine::PodView;
use crate::sandbox::manifests::NAMESPACE;
use crate::sandbox::process::{self, Signal};
use agent::driver::cassandra::Cassandra;
use agent::driver::{Driver, LocalStep};
use agent::launch_client::LauncherClient;
use policies::replace::{APPROVE, DATA_LOST};
use protocol::database::DatabasePhase;
use protocol::launcher::{Ask, Reply};
use protocol::time::Millis;
use serde_json::json;
use std::time::{Duration, Instant};

/// So long nothing may be started on the empty volume before it is approved.
const HELD_FOR: Duration = Duration::from_secs(10);

/// The volume and the claim of a member are lost; what the record says is done, and a new member takes its part over.
///
/// # Errors
/// When anything starts before it is approved, or another member is touched, or the lost one does not stay out.
pub async fn lost_volume(stage: &mut Stage) -> Result<(), StoryError> {
    let pod = "cassandra-2";
    let before = stage.until("three members", PATIENCE, |s| s.is_settled(3)).await?;
    let lost = before.identity(pod).ok_or_else(|| StoryError::Wrong(format!("{pod} has no identity")))?;
    let pids = before.pids_but(pod);
    let since = audit::next(stage);
    let at = stage.writer.as_ref().map(RowWriter::elapsed).unwrap_or_default();
    let path = format!("/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims/data-{pod}");
    let volume = stage.sandbox.options().layout.volume(&format!("data-{pod}"));
    let view = stage.pod(pod)?;
    let database = before.database_pid(pod);
    stage.sandbox.hold_pods(&[pod.to_owned()]);
    for pid in view.processes.values().copied().chain(database) {
        process::signal(pid, Signal::Kill);
    }
    stage.sandbox.ask(Request::delete("admin", &path, json!(null)))?;
    stage.sandbox.delete_pod(pod, Some(0))?;
    stage
        .until("the pod's processes gone", PATIENCE, |s| {
            s.pods.iter().all(|p| p.name != pod || (p.uid != view.uid && p.processes.is_empty()))
        })
        .await?;
    std::fs::remove_dir_all(&volume).map_err(|e| StoryError::Wrong(format!("{} stays: {e}", volume.display())))?;
    stage.sandbox.hold_pods(&[]);
    let begun = Instant::now();
    let told = |s: &super::Snapshot| {
        let record = s.record.as_ref()?;
        record.conditions.iter().find(|c| c.kind == DATA_LOST).map(|c| c.message.clone())
    };
    let seen = stage.until("the loss told in the record", PATIENCE, |s| told(s).is_some()).await?;
    let message = told(&seen).unwrap_or_default();
    let after = begun.elapsed();
    stage.say(message.clone());
    stage
        .watch_for(HELD_FOR, |s| {
            let held = s.phase(pod).is_none_or(|p| matches!(p, DatabasePhase::Held | DatabasePhase::Unknown));
            must(held, format!("{pod} is {:?} on an empty volume, and nobody has approved it", s.phase(pod)))
        })
        .await?;
    // As a person would: with the words that the record itself says.
    let operation = message
        .split([' ', ','])
        .find_map(|word| word.strip_prefix(APPROVE)?.strip_prefix('='))
        .ok_or_else(|| StoryError::Wrong(format!("it is not said how this is approved: {message}")))?
        .to_owned();
    let repairing = Instant::now();
    for other in seen.pods.iter().filter(|p| p.name != pod) {
        repair(stage, other).await?;
    }
    let repaired = repairing.elapsed();
    let approved = Instant::now();
    let body = json!({ "metadata": { "annotations": { APPROVE: operation } } });
    stage.sandbox.ask(Request::patch("admin", &path, PatchKind::Merge, body))?;
    let seen = stage
        .until("three members again, one of them new", PATIENCE, |s| {
            s.is_settled(3) && s.identity(pod).is_some_and(|new| new != lost)
        })
        .await?;
    let took = approved.elapsed();
    seen.must_run(&pids, "while another member was replaced")?;
    let record = seen.record.as_ref().ok_or_else(|| StoryError::Wrong("the record is gone".to_owned()))?;
    let retired = record.retired.iter().find(|(identity, _)| identity.as_str() == lost);
    must(
        retired.is_some_and(|(_, retirement)| retirement.operation.as_str() == operation),
        format!("{lost} is not retired by {operation}: {:?}", record.retired),
    )?;
    must(record.conditions.iter().all(|c| c.kind != DATA_LOST), "the loss is told still")?;
    let writes = audit::record_writes(stage, since)?;
    must(audit::retirements(&writes, &lost) == 1, format!("{lost} was not retired once"))?;
    must(!tables(&volume.join("cassandra")).is_empty(), format!("{pod} holds no row of the client"))?;
    stage.excuse_since(at, PATIENCE).await?;
    stage.evidence.step(
        "a member's volume and claim lost, its replacement approved",
        took,
        Some(repaired),
        format!(
            "the others repaired before; told {:.1} s after its pod was back, nothing started before the approval; another host id, the lost one \
             retired and in no ring, no other database restarted",
            after.as_secs_f64()
        ),
    );
    Ok(())
}

/// A repair of one member, by its own launcher, as `kubectl exec … nodetool repair` is elsewhere. It fails as long as the database
/// takes the lost one to be up, which is about twenty seconds, and is tried again.
async fn repair(stage: &Stage, pod: &PodView) -> Result<(), StoryError> {
    let layout = &stage.sandbox.options().layout;
    let wrong = |why: String| StoryError::Wrong(format!("{} is not repaired: {why}", pod.name));
    let settings = std::fs::read(layout.pod(&pod.uid).join("database.json")).map_err(|e| wrong(e.to_string()))?;
    let settings = serde_json::from_slice(&settings).map_err(|e| wrong(e.to_string()))?;
    let program = Cassandra::new(settings).step(&LocalStep::Repair).map_err(|e| wrong(e.to_string()))?;
    let (client, mut events) = LauncherClient::connect(layout.launcher_socket(&pod.uid));
    // It answers as soon as it is connected.
    let _ = tokio::time::timeout(Duration::from_secs(10), events.recv()).await;
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    let timeout = Millis::from(PATIENCE);
    let begun = Instant::now();
    loop {
        let asked = client.ask(Ask::Tool { program: program.clone(), timeout }).await;
        match asked {
            Ok(Reply::Tool(outcome)) if outcome.code == Some(0) => return Ok(()),
            other if begun.elapsed() > PATIENCE => return Err(wrong(format!("{other:?}"))),
            _ => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}
