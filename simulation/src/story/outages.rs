//! Stories of an API that is away, for all or for some.

use super::{PATIENCE, Stage, StoryError, audit, must, steps};
use protocol::database::DatabasePhase;
use protocol::report::Role;
use std::time::{Duration, Instant};

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
