//! The stories that must be shown, beyond the steps of the tour.

use super::{Snapshot, Stage, StoryError, must, steps};
use crate::kubernetes::{Matcher, Method, Request};
use crate::sandbox::client::{RowWriter, WriterSettings};
use crate::sandbox::manifests::{NAMESPACE, SET};
use crate::sandbox::process::{self, Signal};
use policies::decide::SIZE_REFUSED;
use protocol::database::DatabasePhase;
use protocol::report::Role;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(300);

fn says(seen: &Snapshot, words: &[&str]) -> bool {
    seen.decisions.iter().any(|d| words.iter().all(|w| d.text.contains(w)))
}

/// One declared member does not answer: nothing is founded until it does.
///
/// # Errors
/// When something is founded all the same.
pub async fn founding_waits(stage: &mut Stage) -> Result<(), StoryError> {
    let last = "cassandra-2";
    stage
        .until_true("the pilot of the last pod", PATIENCE, || async {
            stage.sandbox.pod(last).is_some_and(|p| p.processes.contains_key("pilot"))
        })
        .await?;
    must(stage.sandbox.signal(last, "pilot", Signal::Stop), "the pilot of cassandra-2 does not run")?;
    let waited = stage
        .until("the word that cassandra-2 has not answered", PATIENCE, |seen| {
            says(seen, &["cassandra-2", "FoundOnce"]) && !seen.states.is_empty()
        })
        .await;
    let founded = stage.seen().record.is_some();
    stage.sandbox.signal(last, "pilot", Signal::Continue);
    waited?;
    must(!founded, "a cluster was founded although a declared member had not answered")?;
    stage.evidence.fact("founding while a declared member is silent", "refused, and said for whom it waits", true);
    Ok(())
}

/// The leaving pod's own agent is killed and, in an ending pod, not restarted: the launcher carries the leave on alone.
///
/// # Errors
/// When the leave does not end once.
pub async fn leave_without_own_agent(stage: &mut Stage) -> Result<(), StoryError> {
    steps::scale(stage, 4).await?;
    let pod = "cassandra-3";
    let before = stage.seen();
    let identity = before.identity(pod);
    let pids: BTreeMap<String, Option<u32>> =
        before.pods.iter().filter(|p| p.name != pod).map(|p| (p.name.clone(), before.database_pid(&p.name))).collect();
    let begun = Instant::now();
    stage.sandbox.scale(3)?;
    stage.until("the pod leaving", PATIENCE, |s| s.phase(pod) == Some(DatabasePhase::Leaving)).await?;
    must(stage.sandbox.signal(pod, "pilot", Signal::Kill), format!("{pod} runs no pilot"))?;
    let seen = stage.until("three members", PATIENCE, |s| s.is_settled(3)).await?;
    let retired = seen.record.iter().flat_map(|r| r.retired.keys()).filter(|i| Some(i.to_string()) == identity).count();
    must(retired == 1, format!("{identity:?} is retired {retired} times"))?;
    for (name, pid) in pids {
        must(seen.database_pid(&name) == pid, format!("the database of {name} was restarted"))?;
    }
    stage.evidence.step(
        "kill -9 the leaving pod's own agent, not restarted",
        begun.elapsed(),
        None,
        "the launcher finished alone, peers confirmed, no other database restarted",
    );
    Ok(())
}

/// The API is stopped while a member joins: the join goes on in the database and ends in the record when it is back.
///
/// # Errors
/// When it does not end, or a database is restarted.
pub async fn outage_in_mid_join(stage: &mut Stage) -> Result<(), StoryError> {
    let before = stage.until("three members", PATIENCE, |s| s.is_settled(3) && s.coordinator().is_some()).await?;
    let pids: BTreeMap<String, Option<u32>> =
        before.pods.iter().map(|p| (p.name.clone(), before.database_pid(&p.name))).collect();
    let begun = Instant::now();
    stage.sandbox.scale(4)?;
    stage
        .until("the new member starting", PATIENCE, |s| {
            matches!(s.phase("cassandra-3"), Some(DatabasePhase::Starting | DatabasePhase::Joining))
        })
        .await?;
    stage.sandbox.stop_api().await;
    tokio::time::sleep(Duration::from_secs(25)).await;
    stage.sandbox.start_api().await?;
    let seen = stage.until("four members", PATIENCE, |s| s.is_settled(4)).await?;
    for (name, pid) in pids {
        must(seen.database_pid(&name) == pid, format!("the database of {name} was restarted"))?;
    }
    stage.evidence.step(
        "API server away for 25 s in mid-join",
        begun.elapsed(),
        None,
        "the join ended, no database restarted",
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

/// Writes large rows until a leave has something to stream.
///
/// # Errors
/// When they are not acknowledged in time.
pub async fn write_much(stage: &mut Stage) -> Result<(), StoryError> {
    let settings = WriterSettings { row_bytes: 16_000, rows_per_second: 250, ..WriterSettings::default() };
    stage.writer = Some(RowWriter::start(stage.sandbox.contacts(), settings));
    stage
        .until_true("6000 large rows", PATIENCE, || async {
            stage.writer.as_ref().is_some_and(|w| w.acknowledged() > 6000)
        })
        .await
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
    let begun = Instant::now();
    let launcher = stage.pod(pod)?.processes.get("database").copied().unwrap_or_default();
    let back = stage
        .until_true("a new database process under the same launcher", PATIENCE, || async {
            children(launcher).into_iter().any(|child| child != pid)
        })
        .await;
    let took = begun.elapsed();
    stage.sandbox.signal(pod, "pilot", Signal::Continue);
    back?;
    stage.until("three members again", PATIENCE, |s| s.is_settled(before.pods.len())).await?;
    stage.evidence.step("kill -9 a database whose agent stands still", took, None, "back by its launcher alone");
    Ok(())
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
    let identity = before.identity(pod);
    let begun = Instant::now();
    stage.sandbox.scale(2)?;
    stage.until("the size raised back", PATIENCE, |s| s.replicas == 3).await?;
    let raised = begun.elapsed();
    let seen = stage
        .until("the pod back as the same member", PATIENCE, |s| {
            s.is_settled(3) && s.pods.iter().any(|p| p.name == pod && p.uid != uid)
        })
        .await?;
    must(seen.identity(pod) == identity, "the pod came back as another member")?;
    let record = seen.record.clone().ok_or_else(|| StoryError::Wrong("the record is gone".into()))?;
    must(!record.retired.keys().any(|i| Some(i.to_string()) == identity), "the member was retired")?;
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
    let pids: BTreeMap<String, Option<u32>> =
        before.pods.iter().map(|p| (p.name.clone(), before.database_pid(&p.name))).collect();
    steps::kill_coordinator(stage, "kill -9 an idle coordinator").await?;
    let after = stage.until("three members", PATIENCE, |s| s.is_settled(3)).await?;
    for (name, pid) in pids {
        must(after.database_pid(&name) == pid, format!("the database of {name} was restarted"))?;
    }
    Ok(())
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
                .filter(|e| e.path.contains(&path) && e.sent_annotations.get("pilotmesh.io/epoch") == Some(&epoch))
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

/// The coordinator keeps API and Lease and loses its peers: it refuses and says why; the majority takes over and acts.
///
/// # Errors
/// When the minority acts.
pub async fn minority_refuses(stage: &mut Stage) -> Result<(), StoryError> {
    let before =
        stage.until("a coordinator of three", PATIENCE, |s| s.is_settled(3) && s.coordinator().is_some()).await?;
    let (old, epoch) = before.coordinator().ok_or_else(|| StoryError::Wrong("nobody coordinates".into()))?;
    let others: Vec<String> = before.pods.iter().map(|p| p.name.clone()).filter(|n| *n != old).collect();
    stage.sandbox.cut(&old, &others)?;
    for other in &others {
        stage.sandbox.cut(other, std::slice::from_ref(&old))?;
    }
    let result = async {
        let begun = Instant::now();
        stage
            .until("the cut coordinator's refusal, and why", Duration::from_secs(60), |s| {
                s.states.get(&old).is_some_and(|state| {
                    matches!(&state.me.role, Role::Coordinator { degraded: Some(why), .. } if why.contains("promised"))
                }) || s.states.get(&old).is_some_and(|state| state.me.role == Role::Follower)
            })
            .await?;
        stage.sandbox.scale(4)?;
        let seen = stage
            .until("a coordinator of the majority", PATIENCE, |s| s.record.as_ref().is_some_and(|r| r.epoch > epoch))
            .await?;
        let took = begun.elapsed();
        let by_old = {
            let api = stage.sandbox.api().lock().unwrap_or_else(PoisonError::into_inner);
            api.audit()
                .of_user(&old)
                .filter(|e| e.status < 300 && e.resource != "leases" && e.resource != "events")
                .filter(|e| {
                    e.time
                        >= crate::kubernetes::ModelTime(
                            crate::sandbox::engine::wall()
                                .0
                                .saturating_sub(u64::try_from(took.as_millis()).unwrap_or(0)),
                        )
                })
                .count()
        };
        must(by_old == 0, format!("the cut-off {old} committed {by_old} writes"))?;
        Ok::<_, StoryError>((took, seen.record.map(|r| r.epoch).unwrap_or_default()))
    }
    .await;
    for name in others.iter().chain(std::iter::once(&old)) {
        stage.sandbox.cut(name, &[])?;
    }
    let (took, new) = result?;
    stage.until("four members after the cut is healed", PATIENCE, |s| s.is_settled(4)).await?;
    stage.evidence.step(
        "coordinator cut off with a minority, API and Lease kept",
        took,
        None,
        format!("epoch {epoch} decided nothing more; the majority leads at epoch {new}"),
    );
    steps::scale(stage, 3).await
}

/// Five quick deaths: slowed down, told, and the volume untouched.
///
/// # Errors
/// When it is not told, or the member does not come back.
pub async fn crash_loop(stage: &mut Stage) -> Result<(), StoryError> {
    let pod = "cassandra-0";
    let identity = stage.seen().identity(pod);
    let before = stage.seen().unintended_ends().get(pod).copied().unwrap_or(0);
    let begun = Instant::now();
    let mut last = 0u32;
    for death in 1..=5u64 {
        let seen = stage
            .until("a new database process", PATIENCE, |s| {
                s.database_pid(pod).is_some_and(|p| p != last)
                    && s.unintended_ends().get(pod).copied().unwrap_or(0) >= before + death - 1
            })
            .await?;
        last = seen.database_pid(pod).unwrap_or_default();
        process::signal(last, Signal::Kill);
    }
    let told =
        stage.until("the crash loop told", PATIENCE, |s| s.phase(pod) == Some(DatabasePhase::CrashLooping)).await?;
    let ends = told.unintended_ends().get(pod).copied().unwrap_or(0) - before;
    let seen = stage.until("the member back", PATIENCE, |s| s.is_settled(3)).await?;
    must(seen.identity(pod) == identity, "the member came back as another one")?;
    stage.evidence.step(
        "five quick deaths of one database",
        begun.elapsed(),
        None,
        format!("{ends} ends counted, crash loop told, slowed down, back with the same host id"),
    );
    Ok(())
}

/// Everything at once: every process of every pod is killed and the pods deleted.
///
/// # Errors
/// When another cluster comes of it.
pub async fn all_pods_killed(stage: &mut Stage) -> Result<(), StoryError> {
    let before = stage.until("three members", PATIENCE, |s| s.is_settled(3)).await?;
    let ids: BTreeMap<String, Option<String>> =
        before.pods.iter().map(|p| (p.name.clone(), before.identity(&p.name))).collect();
    let cluster = before.record.as_ref().map(|r| r.cluster.clone());
    let begun = Instant::now();
    for pod in &before.pods {
        if let Some(pid) = before.database_pid(&pod.name) {
            process::signal(pid, Signal::Kill);
        }
        for pid in pod.processes.values() {
            process::signal(*pid, Signal::Kill);
        }
        stage.sandbox.delete_pod(&pod.name, Some(0))?;
    }
    let old: BTreeSet<String> = before.pods.iter().map(|p| p.uid.clone()).collect();
    let seen = stage
        .until("the same three members", PATIENCE, |s| s.is_settled(3) && s.pods.iter().all(|p| !old.contains(&p.uid)))
        .await?;
    for (name, id) in &ids {
        must(seen.identity(name) == *id, format!("{name} came back as another member"))?;
    }
    let addresses: BTreeSet<_> = before.pods.iter().map(|p| p.address).collect();
    must(seen.pods.iter().all(|p| !addresses.contains(&p.address)), "an address was used again")?;
    must(seen.record.map(|r| r.cluster) == cluster, "another cluster was founded")?;
    stage.evidence.step("all pods killed at once", begun.elapsed(), None, "same cluster, same host ids, new addresses");
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
    let identity = before.identity(pod);
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
    let record = seen.record.clone().ok_or_else(|| StoryError::Wrong("the record is gone".into()))?;
    let retired = record.retired.iter().filter(|(i, _)| Some(i.to_string()) == identity).count();
    must(retired == 1, format!("{identity:?} is retired {retired} times"))?;
    stage.evidence.step(
        "4 -> 3 with a grace of 20 s and slow streaming",
        begun.elapsed(),
        None,
        format!("cut off and back after {:.0} s, resumed, completed once", cut.as_secs_f64()),
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
