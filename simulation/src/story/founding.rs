//! Stories of founding: it waits for every declared member, and never happens twice.

use super::{PATIENCE, Snapshot, Stage, StoryError, audit, must};
use crate::kubernetes::Request;
use crate::sandbox::manifests::{NAMESPACE, SET};
use crate::sandbox::process::Signal;
use agent::kubernetes::translate;
use policies::plan::{Rule, Verdict};
use protocol::database::VolumeState;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// So long nothing may be founded although a majority is ready: many times what a founding takes that may be.
const HELD_BACK: Duration = Duration::from_secs(15);

/// One declared member does not answer, all others are ready: nothing is founded until it does.
///
/// # Errors
/// When something is founded all the same, or it is not said for whom it waits.
pub async fn founding_waits(stage: &mut Stage) -> Result<(), StoryError> {
    let last = "cassandra-2";
    stage
        .until_true("the pilot of the last pod", PATIENCE, || async {
            stage.sandbox.pod(last).is_some_and(|p| p.processes.contains_key("pilot"))
        })
        .await?;
    must(stage.sandbox.signal(last, "pilot", Signal::Stop), "the pilot of cassandra-2 does not run")?;
    let result = founding_is_held_back(stage, last).await;
    stage.sandbox.signal(last, "pilot", Signal::Continue);
    result?;
    stage.evidence.fact(
        "founding while a declared member is silent",
        format!("{} s with all others ready: refused, and said for whom it waits", HELD_BACK.as_secs()),
        true,
    );
    Ok(())
}

async fn founding_is_held_back(stage: &Stage, silent: &str) -> Result<(), StoryError> {
    let is_ready = |seen: &Snapshot, name: &str| {
        let own = seen.states.get(name).and_then(|s| s.members.iter().find(|m| m.name == s.me.name));
        own.and_then(|m| m.database.as_ref()).is_some_and(|d| d.volume == Some(VolumeState::Empty) && d.wants_start)
    };
    let ready = ["cassandra-0", "cassandra-1"];
    stage
        .until("two members with empty volumes that want to start", PATIENCE, |seen| {
            ready.iter().all(|name| is_ready(seen, name))
        })
        .await?;
    // What the decision rests on has to be gossiped first; from then on the time counts.
    let only_the_silent = || async {
        let decided = stage.decided_after(&BTreeMap::new()).await.unwrap_or_default();
        let newest = decided.into_iter().max_by_key(|(_, entry)| (entry.epoch, entry.number));
        newest.is_some_and(|(_, entry)| {
            entry.reasons.iter().all(|r| r.rule == Rule::FoundOnce && r.verdict == Verdict::Wait && r.subject == silent)
        })
    };
    let what = format!("a last decision that waits for {silent} alone");
    stage.until_true(&what, PATIENCE, only_the_silent).await?;
    stage
        .watch_for(HELD_BACK, |seen| {
            must(seen.record.is_none(), format!("a cluster was founded although {silent} had not answered"))
        })
        .await?;
    let asked = audit::foundings(stage, 0);
    must(asked == 0, format!("founding was asked of the API {asked} times although {silent} had not answered"))?;
    stage.until_true(&what, Duration::from_secs(5), only_the_silent).await?;
    let seen = stage.seen();
    must(ready.iter().all(|name| is_ready(&seen, name)), "the other two did not stay ready: nothing was shown")
}

/// So long nothing may be founded a second time.
const NOT_AGAIN: Duration = Duration::from_secs(20);

/// Lease and record are deleted while claims carry identities: nothing is founded, and it is said whose data lies there.
/// Databases serve on. The mesh has no record afterwards: no other story can follow.
///
/// # Errors
/// When a second cluster is founded, or it is not said why not.
pub async fn second_founding_refused(stage: &mut Stage) -> Result<(), StoryError> {
    let before =
        stage.until("a coordinator of three", PATIENCE, |s| s.is_settled(3) && s.coordinator().is_some()).await?;
    let identities: BTreeSet<String> = before.pods.iter().filter_map(|p| before.identity(&p.name)).collect();
    let claims = format!("/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims");
    stage
        .until_true("claims that carry the identities", PATIENCE, || async {
            let listed = stage.sandbox.ask(Request::get("admin", &claims)).unwrap_or_default();
            let marked: BTreeSet<String> = listed["items"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|c| c["metadata"]["annotations"][translate::IDENTITY].as_str().map(str::to_owned))
                .collect();
            identities.is_subset(&marked)
        })
        .await?;
    let last = stage.last_decisions().await?;
    let since = audit::next(stage);
    let begun = Instant::now();
    for path in [
        format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{SET}-pilots"),
        format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{SET}-pilots"),
    ] {
        stage.sandbox.ask(Request::delete("admin", &path, serde_json::Value::Null))?;
    }
    let mut why = String::new();
    while why.is_empty() {
        let decided = stage.decided_after(&last).await?;
        let reasons = decided.iter().flat_map(|(_, entry)| &entry.reasons);
        let refuses = reasons.filter(|r| r.rule == Rule::FoundOnce && r.verdict == Verdict::Refuse);
        why = refuses
            .filter(|r| r.fact.contains("claim") && identities.iter().any(|i| r.fact.contains(i)))
            .map(|r| format!("{} {}", r.subject, r.fact))
            .next()
            .unwrap_or_default();
        must(begun.elapsed() < PATIENCE, format!("nobody said which identity forbids to found: {decided:?}"))?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let told = begun.elapsed();
    let pids = before.pids_but("");
    stage
        .watch_for(NOT_AGAIN, |seen| {
            must(seen.record.is_none(), "a second cluster was founded although claims carry identities")?;
            seen.must_run(&pids, "when the record was gone")
        })
        .await?;
    let asked = audit::foundings(stage, since);
    must(asked == 0, format!("a second founding was asked of the API {asked} times"))?;
    stage.evidence.fact(
        "Lease and record deleted, claims with identities",
        format!("no second founding in {} s; said after {:.1} s: {why}", NOT_AGAIN.as_secs(), told.as_secs_f64()),
        true,
    );
    Ok(())
}
