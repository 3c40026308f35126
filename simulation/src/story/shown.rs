//! The stories that must be shown, beyond the steps of the tour.

use super::{Snapshot, Stage, StoryError, audit, must, steps};
use crate::kubernetes::{Matcher, Method, Request};
use crate::sandbox::client::{RowWriter, WriterSettings};
use crate::sandbox::engine::wall;
use crate::sandbox::manifests::{CLAIM, NAMESPACE, SET};
use crate::sandbox::process::{self, Signal};
use agent::kubernetes::translate;
use policies::decide::SIZE_REFUSED;
use policies::plan::{Rule, Verdict};
use protocol::database::{DatabasePhase, VolumeState};
use protocol::epoch::Epoch;
use protocol::report::Role;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(300);

fn says(seen: &Snapshot, words: &[&str]) -> bool {
    seen.decisions.iter().any(|d| words.iter().all(|w| d.text.contains(w)))
}

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

/// How long the API stays away: as long as the issue says where time is no matter, else shorter.
fn outage(short: u64) -> Duration {
    let long =
        std::env::var("PILOT_STORIES_LONG").is_ok_and(|v| v == "1") || std::env::var_os("PILOT_STOCK_TIMING").is_some();
    Duration::from_secs(if long { 120 } else { short })
}

/// The API is stopped while nothing is under way.
///
/// # Errors
/// When a database is restarted, anything is decided, or there is not one coordinator afterwards.
pub async fn outage_idle(stage: &mut Stage) -> Result<(), StoryError> {
    steps::api_outage(stage, outage(30)).await
}

/// The API is stopped while a member joins: the join goes on in the database and ends in the record when it is back.
///
/// # Errors
/// When it does not end, a database is restarted, or anything is decided meanwhile.
pub async fn outage_in_mid_join(stage: &mut Stage) -> Result<(), StoryError> {
    let joiner = "cassandra-3";
    let before = stage.until("three members", PATIENCE, |s| s.is_settled(3) && s.coordinator().is_some()).await?;
    let begun = Instant::now();
    stage.sandbox.scale(4)?;
    let joins = |phase| matches!(phase, Some(DatabasePhase::Starting | DatabasePhase::Joining));
    stage
        .until("the new member starting", PATIENCE, |s| joins(s.phase(joiner)) && s.database_pid(joiner).is_some())
        .await?;
    stage.sandbox.stop_api().await;
    let how_long = outage(25);
    let looked = async {
        // Asked now: what was seen last may be of a moment before.
        let state = stage.sandbox.state(&stage.pod(joiner)?).await;
        let phase = state.as_ref().and_then(super::own_phase);
        must(joins(phase), format!("{joiner} was {phase:?} when the API had stopped: not in the middle of its join"))?;
        let mut pids = before.pids_but(joiner);
        pids.insert(joiner.to_owned(), stage.seen().database_pid(joiner));
        let rows = steps::look_on_without_api(stage, how_long, &pids).await?;
        let serving = stage
            .until("the new member serving without the API", PATIENCE, |s| {
                s.phase(joiner) == Some(DatabasePhase::Serving)
            })
            .await?;
        serving.must_run(&pids, "while the API was away")?;
        let writes = audit::record_writes(stage, 0)?;
        let known = writes.last().is_some_and(|w| w.record.members.keys().any(|n| n.as_str() == joiner));
        must(!known, format!("{joiner} was a member by the record before the API was back"))?;
        Ok::<_, StoryError>((rows, pids))
    }
    .await;
    stage.sandbox.start_api().await?;
    let (rows, pids) = looked?;
    let seen = stage
        .until("four members and one coordinator", PATIENCE, |s| s.is_settled(4) && steps::has_one_coordinator(s))
        .await?;
    seen.must_run(&pids, "when the API returned")?;
    stage.evidence.step(
        &format!("API server away for {} s in mid-join", how_long.as_secs()),
        begun.elapsed(),
        None,
        format!(
            "the joiner served without it; {rows} rows acknowledged, no act, no database restarted; afterwards one \
             coordinator, and the join ended"
        ),
    );
    steps::scale(stage, 3).await
}

/// Only one pilot reaches the API, then only another one: each time the one that can leads.
///
/// # Errors
/// When anybody else does, or nobody.
pub async fn who_reaches_the_api_leads(stage: &mut Stage) -> Result<(), StoryError> {
    let before =
        stage.until("a coordinator of three", PATIENCE, |s| s.is_settled(3) && s.coordinator().is_some()).await?;
    let names: Vec<String> = before.pods.iter().map(|p| p.name.clone()).collect();
    let (now, _) = before.coordinator().ok_or_else(|| StoryError::Wrong("nobody coordinates".into()))?;
    let others: Vec<String> = names.iter().filter(|n| **n != now).cloned().collect();
    let begun = Instant::now();
    let mut result = Ok(());
    for able in &others {
        for name in &names {
            if name == able {
                stage.sandbox.server().heal(name);
            } else {
                stage.sandbox.server().cut(name);
            }
        }
        let leads = stage
            .until(&format!("{able}, the only one that reaches the API, leading"), PATIENCE, |s| {
                s.coordinator().is_some_and(|(n, _)| n == *able)
                    && s.states.values().filter(|state| matches!(state.me.role, Role::Coordinator { .. })).count() == 1
            })
            .await;
        if let Err(error) = leads {
            result = Err(error);
            break;
        }
    }
    for name in &names {
        stage.sandbox.server().heal(name);
    }
    result?;
    stage.until("three members", PATIENCE, |s| s.is_settled(3)).await?;
    stage.evidence.step(
        "only one pilot reaches the API, then only another",
        begun.elapsed(),
        None,
        format!("{} led, each when only it could", others.join(" and ")),
    );
    Ok(())
}

/// Begins to write.
///
/// # Errors
/// Never.
pub async fn write(stage: &mut Stage) -> Result<(), StoryError> {
    stage.start_writing();
    stage
        .until_true("the first acknowledged rows", PATIENCE, || async {
            stage.writer.as_ref().is_some_and(|w| w.acknowledged() > 20)
        })
        .await
}

/// Where the rows lie that only make a leave slow.
const BULK: &str = "bulk";

/// Writes large rows until a leave has something to stream, and from then on small ones as everywhere.
///
/// # Errors
/// When they are not acknowledged in time.
pub async fn write_much(stage: &mut Stage) -> Result<(), StoryError> {
    let settings = WriterSettings {
        keyspace: BULK.to_owned(),
        row_bytes: 16_000,
        rows_per_second: 250,
        ..WriterSettings::default()
    };
    let mut bulk = RowWriter::start(stage.sandbox.contacts(), settings);
    let written = bulk.count();
    stage.until_true("the first large rows", PATIENCE, || async { written.acknowledged() > 0 }).await?;
    keep_as_large_as_it_is(stage, BULK).await?;
    stage.until_true("6000 large rows", PATIENCE, || async { written.acknowledged() > 6000 }).await?;
    bulk.stop().await;
    stage.bulk = Some(bulk);
    write(stage).await
}

/// The large rows are all alike: compressed, they would be streamed in a moment.
async fn keep_as_large_as_it_is(stage: &Stage, keyspace: &str) -> Result<(), StoryError> {
    let contacts = stage.sandbox.contacts().borrow().clone();
    let fault =
        |error: String| StoryError::Wrong(format!("the rows of {keyspace} cannot be left as they are: {error}"));
    let session = scylla::client::session_builder::SessionBuilder::new()
        .known_nodes_addr(contacts)
        .build()
        .await
        .map_err(|error| fault(error.to_string()))?;
    session
        .query_unpaged(format!("ALTER TABLE {keyspace}.rows WITH compression = {{'enabled': 'false'}}"), &[])
        .await
        .map(drop)
        .map_err(|error| fault(error.to_string()))
}

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

/// The databases among the processes that a launcher has started: the rest are tools.
fn databases(launcher: u32) -> Vec<u32> {
    let is_database = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains("CassandraDaemon"))
    };
    children(launcher).into_iter().filter(is_database).collect()
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|p| p.parse().ok())
        .chain(
            // Threads of the launcher start children too.
            std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().flat_map(|task| {
                let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
                text.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<u32>>()
            }),
        )
        .collect::<BTreeSet<u32>>()
        .into_iter()
        .collect()
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

fn find(folder: &Path, is: &dyn Fn(&str) -> bool, depth: u32) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        is(&entry.file_name().to_string_lossy())
            || (depth > 0 && entry.path().is_dir() && find(&entry.path(), is, depth - 1))
    })
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
    must(says(&seen, &["ReplicasKeepHomes"]), "no decision tells why")?;
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

/// The files of a folder and what is in them.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|file| Some((file.file_name().to_string_lossy().into_owned(), std::fs::read(file.path()).ok()?)))
        .collect()
}

/// The folders of the writer's tables on a volume that hold anything.
fn tables(volume: &Path) -> BTreeSet<String> {
    let keyspace = volume.join("data").join(WriterSettings::default().keyspace);
    std::fs::read_dir(keyspace)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|table| std::fs::read_dir(table.path()).is_ok_and(|mut files| files.next().is_some()))
        .map(|table| table.file_name().to_string_lossy().into_owned())
        .collect()
}

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

/// Whether a process runs: one that has ended and was not waited for does not.
fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z')))
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

/// Reads every acknowledged row back.
///
/// # Errors
/// When one is missing, or a 5-second window had none acknowledged.
pub async fn all_rows(stage: &mut Stage) -> Result<(), StoryError> {
    steps::settle_accounts(stage).await?;
    must(stage.evidence.is_good(), "the accounts are not settled: see the table")
}

/// Judges the audit log.
///
/// # Errors
/// When an older epoch committed after a newer stamp.
pub async fn epochs(stage: &mut Stage) -> Result<(), StoryError> {
    steps::judge_epochs(stage);
    must(stage.evidence.is_good(), "an older epoch committed after a newer stamp: see the table")
}

/// Judges what ended without anybody having asked for it, beside what stories killed.
///
/// # Errors
/// When more databases ended than were killed, or fewer were counted.
pub async fn restarts(stage: &mut Stage) -> Result<(), StoryError> {
    let seen = stage.until("three members", PATIENCE, |s| s.is_settled(3)).await?;
    let ends: u64 = seen.unintended_ends().values().sum();
    let killed = stage.killed;
    steps::judge_restarts(stage, killed);
    must(ends == killed, format!("{killed} databases were killed, and {ends} ends that nobody asked for were counted"))
}

/// Prints the ends of all logs, for whoever looks into a failure.
pub fn print_logs(root: &Path) {
    let mut files: Vec<_> =
        std::fs::read_dir(root.join("logs")).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        println!("---- {}", file.display());
        for line in lines.iter().rev().take(25).rev() {
            println!("{}", line.chars().take(260).collect::<String>());
        }
    }
}
