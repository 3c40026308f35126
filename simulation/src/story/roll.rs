//! A changed template: every member's pod is made anew, one at a time, and nobody's data moves.

use super::{PATIENCE, Stage, StoryError, audit, must};
use crate::kubernetes::Method;
use protocol::database::DatabasePhase;
use protocol::record::IntentKind;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// A user changes what the database's container is given. Each pod is evicted once, with all other members serving, and its
/// member returns with its identity.
///
/// # Errors
/// When it does not come to that.
pub async fn roll(stage: &mut Stage) -> Result<(), StoryError> {
    let before = stage.until("a settled mesh", PATIENCE, |seen| seen.is_settled(seen.pods.len())).await?;
    let members = before.pods.len();
    let uids: BTreeMap<String, String> = before.pods.iter().map(|p| (p.name.clone(), p.uid.to_string())).collect();
    let since = audit::next(stage);
    let begun = Instant::now();
    stage.say("the template of the pods is changed, as by `kubectl set env`; members follow one at a time");
    stage.sandbox.set_database_env("STORY", "rolled")?;
    let mut at_once = 0usize;
    let after = stage
        .until("every pod made anew", PATIENCE, |seen| {
            let away = seen
                .pods
                .iter()
                .filter(|p| p.terminating || seen.phase(&p.name).is_some_and(|ph| ph != DatabasePhase::Serving))
                .count();
            at_once = at_once.max(away);
            let anew = seen.pods.iter().all(|p| uids.get(&p.name).is_some_and(|old| *old != p.uid.to_string()));
            anew && seen.is_settled(members)
        })
        .await?;
    must(at_once <= 1, format!("{at_once} members were away at once"))?;
    for pod in &before.pods {
        must(
            before.identity(&pod.name) == after.identity(&pod.name),
            format!("{} came back as {:?}", pod.name, after.identity(&pod.name)),
        )?;
    }
    let writes = audit::record_writes(stage, since)?;
    let restarts: BTreeSet<String> = writes
        .iter()
        .filter_map(|w| w.record.intent.as_ref())
        .filter(|i| matches!(i.kind, IntentKind::Restart { .. }))
        .map(|i| i.operation.to_string())
        .collect();
    must(restarts.len() == members, format!("{members} restarts were to be recorded, there were {restarts:?}"))?;
    let evicted: Vec<String> = audit::entries(stage, since)
        .into_iter()
        .filter(|e| e.subresource == "eviction" && e.method == Method::Post && e.status < 300)
        .map(|e| e.name)
        .collect();
    let once: BTreeSet<&String> = evicted.iter().collect();
    must(
        once.len() == members && evicted.len() == members,
        format!("each of {members} pods was to be evicted once, evicted were {evicted:?}"),
    )?;
    stage.evidence.step(
        "roll to a changed template",
        begun.elapsed(),
        None,
        format!("{members} pods evicted, one away at a time, the same identities"),
    );
    Ok(())
}
