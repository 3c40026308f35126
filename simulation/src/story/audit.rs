//! The API's audit log, read as evidence: in which order what was written, and by which epoch.

use super::{Stage, StoryError, must};
use crate::kubernetes::{AuditEntry, Method, ModelTime};
use crate::sandbox::engine::wall;
use protocol::record::{ClusterRecord, IntentKind};
use std::collections::BTreeMap;
use std::sync::PoisonError;

/// Ticks of `/proc/<pid>/stat` in a second: `USER_HZ`, 100 on every Linux that Rust's targets name.
const TICKS: f64 = 100.0;
/// A moment that the system tells in ticks is off by so much at most, two of them being compared.
pub const TICK_MILLIS: u64 = 20;

/// One write of the record that the API took.
#[derive(Debug, Clone)]
pub struct RecordWrite {
    /// Where it stands in the log.
    pub sequence: u64,
    /// When it was done, on the API's clock.
    pub time: ModelTime,
    /// What was written.
    pub record: ClusterRecord,
}

/// What a story looks into: the log from this moment on begins with this number.
pub fn next(stage: &Stage) -> u64 {
    stage.sandbox.api().lock().unwrap_or_else(PoisonError::into_inner).audit().count()
}

/// The entries from `since` on.
pub fn entries(stage: &Stage, since: u64) -> Vec<AuditEntry> {
    let api = stage.sandbox.api().lock().unwrap_or_else(PoisonError::into_inner);
    api.audit().entries().filter(|e| e.sequence >= since).cloned().collect()
}

/// The writes of the record, from `since` on, that were done.
///
/// # Errors
/// When one of them is no record.
pub fn record_writes(stage: &Stage, since: u64) -> Result<Vec<RecordWrite>, StoryError> {
    entries(stage, since)
        .into_iter()
        .filter(|e| e.resource == "configmaps" && e.status < 300)
        .filter_map(|e| Some((e.sequence, e.time, e.sent_record?)))
        .map(|(sequence, time, text)| {
            let record = serde_json::from_str(&text).map_err(|error| {
                StoryError::Wrong(format!("write {sequence} of the record cannot be read: {error}"))
            })?;
            Ok(RecordWrite { sequence, time, record })
        })
        .collect()
}

/// How often a record was asked to be made, granted or not: founding asks for it, and nothing else.
pub fn foundings(stage: &Stage, since: u64) -> usize {
    entries(stage, since).iter().filter(|e| e.resource == "configmaps" && e.method == Method::Post).count()
}

/// How often the pod was made.
pub fn pods_made(stage: &Stage, pod: &str, since: u64) -> usize {
    let made = |e: &&AuditEntry| e.resource == "pods" && e.subresource.is_empty() && e.method == Method::Post;
    entries(stage, since).iter().filter(made).filter(|e| e.name == pod && e.status < 300).count()
}

/// When the pod was gone: its node says so last, after every container has ended.
pub fn pod_gone(stage: &Stage, pod: &str, since: u64) -> Option<u64> {
    entries(stage, since)
        .iter()
        .filter(|e| e.resource == "pods" && e.method == Method::Delete && e.user.starts_with("system:node:"))
        .filter(|e| e.name == pod && e.status < 300)
        .map(|e| e.sequence)
        .next_back()
}

/// The first write that carries the intent of this pod's join.
pub fn join_opened<'a>(writes: &'a [RecordWrite], pod: &str) -> Option<&'a RecordWrite> {
    writes.iter().find(|w| opens_join(&w.record, pod))
}

/// Whether the record carries the intent of this pod's join.
pub fn opens_join(record: &ClusterRecord, pod: &str) -> bool {
    record.intent.as_ref().is_some_and(|i| match &i.kind {
        IntentKind::Join { joiner, .. } | IntentKind::Replace { joiner, .. } => joiner.name.as_str() == pod,
        IntentKind::Form { .. } | IntentKind::Leave { .. } | IntentKind::Restart { .. } => false,
    })
}

/// The first write that names this identity as retired.
pub fn retired_by<'a>(writes: &'a [RecordWrite], identity: &str) -> Option<&'a RecordWrite> {
    writes.iter().find(|w| is_retired(&w.record, identity))
}

fn is_retired(record: &ClusterRecord, identity: &str) -> bool {
    record.retired.keys().any(|i| i.as_str() == identity)
}

/// How many of these writes open a leave of this identity: one that carries on what stands there already does not.
pub fn leaves_opened(writes: &[RecordWrite], identity: &str) -> usize {
    count_changes(writes, |record| {
        record.intent.as_ref().and_then(|i| match &i.kind {
            IntentKind::Leave { identity: leaver, .. } => {
                (leaver.as_str() == identity).then(|| i.operation.to_string())
            }
            IntentKind::Form { .. }
            | IntentKind::Join { .. }
            | IntentKind::Restart { .. }
            | IntentKind::Replace { .. } => None,
        })
    })
}

/// How many of these writes retire this identity: one that finds it retired already does not.
pub fn retirements(writes: &[RecordWrite], identity: &str) -> usize {
    count_changes(writes, |record| is_retired(record, identity).then_some(()))
}

/// How many writes bring in something that was not so, or was another one, in the write before.
fn count_changes<T: PartialEq>(writes: &[RecordWrite], of: impl Fn(&ClusterRecord) -> Option<T>) -> usize {
    let mut before = None;
    let mut changes = 0;
    for write in writes {
        let now = of(&write.record);
        if now.is_some() && now != before {
            changes += 1;
        }
        before = now;
    }
    changes
}

/// One leave of this identity, and nothing besides: opened once, retired once, one operation's number used.
///
/// # Errors
/// When it was opened, retired or numbered more than once, or never.
pub fn must_leave_once(
    stage: &Stage,
    since: u64,
    identity: &str,
    before: Option<&ClusterRecord>,
) -> Result<(), StoryError> {
    let writes = record_writes(stage, since)?;
    let opened = leaves_opened(&writes, identity);
    must(opened == 1, format!("{opened} writes of the record opened a leave of {identity}"))?;
    let retired = retirements(&writes, identity);
    must(retired == 1, format!("{retired} writes of the record retired {identity}"))?;
    let from = before.map(|r| r.next_operation);
    let to = writes.last().map(|w| w.record.next_operation);
    must(
        from.is_some() && from.map(|n| n + 1) == to,
        format!("one operation was to be begun, and the next one's number went from {from:?} to {to:?}"),
    )
}

/// What the log says of epochs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Epochs {
    /// Writes of older epochs that were refused.
    pub refused: usize,
    /// Writes of older epochs that were done after a newer epoch's first stamp of the same object.
    pub late: Vec<String>,
}

/// Judges every governed object by itself: a stamp fences the object that carries it. The set and its size are one
/// object. A write of a size carries no stamp and counts as one of the highest epoch that its writer held until then.
pub fn judge_epochs<'a>(entries: impl Iterator<Item = &'a AuditEntry>) -> Epochs {
    let mut epochs = Epochs::default();
    let mut highest: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    let mut held: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in entries {
        let sent = entry.sent_annotations.get(agent::kubernetes::translate::EPOCH).and_then(|e| e.parse::<u64>().ok());
        let is_lease = entry.resource == "leases";
        // A Lease that was asked for in vain was never held.
        if let Some(epoch) = sent.filter(|_| !is_lease || entry.status < 300) {
            let held = held.entry(&entry.user).or_default();
            *held = (*held).max(epoch);
        }
        if is_lease {
            continue;
        }
        let is_size = entry.resource == "statefulsets" && entry.subresource == "scale";
        let by_writer = held.get(entry.user.as_str()).copied().filter(|_| is_size);
        let Some(epoch) = sent.or(by_writer) else {
            continue;
        };
        let top = highest.entry((&entry.resource, &entry.namespace, &entry.name)).or_default();
        if entry.status < 300 {
            if epoch < *top {
                epochs.late.push(format!(
                    "{} {} by {} at epoch {epoch} after a stamp of {top}",
                    entry.method.as_str(),
                    entry.path,
                    entry.user
                ));
            }
            *top = (*top).max(epoch);
        } else if entry.status == 409 && epoch < *top {
            epochs.refused += 1;
        }
    }
    epochs
}

/// When a process was started, on the API's clock; `None` once it has ended.
pub fn started(pid: u32) -> Option<ModelTime> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let up: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let age = (up - start_tick(&stat)? / TICKS).max(0.0);
    Some(ModelTime(wall().0.saturating_sub(std::time::Duration::from_secs_f64(age).as_millis().try_into().ok()?)))
}

fn start_tick(stat: &str) -> Option<f64> {
    // The name in parentheses may hold anything, parentheses included.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(user: &str, path: &str, epoch: Option<u64>, status: u16) -> AuditEntry {
        let parts: Vec<&str> = path.split('/').collect();
        AuditEntry {
            sequence: 0,
            time: ModelTime(0),
            user: user.to_owned(),
            method: Method::Put,
            path: path.to_owned(),
            resource: parts[0].to_owned(),
            namespace: "default".to_owned(),
            name: parts[1].to_owned(),
            subresource: parts.get(2).copied().unwrap_or_default().to_owned(),
            sent_resource_version: None,
            sent_uid: None,
            sent_annotations: epoch.map(|e| ("pilotmesh.io/epoch".to_owned(), e.to_string())).into_iter().collect(),
            object_annotations: BTreeMap::new(),
            sent_record: None,
            status,
            committed: None,
        }
    }

    #[test]
    fn a_size_told_by_an_older_coordinator_after_the_newer_one_stamped_the_set_is_late() {
        let log = [
            entry("a", "leases/l", Some(1), 200),
            entry("b", "leases/l", Some(2), 200),
            entry("b", "statefulsets/s", Some(2), 200),
            entry("a", "statefulsets/s/scale", None, 200),
        ];
        assert_eq!(judge_epochs(log.iter()).late.len(), 1);
    }

    #[test]
    fn a_size_told_by_a_user_or_by_the_coordinator_of_the_day_is_not_late() {
        let log = [
            entry("a", "leases/l", Some(1), 200),
            entry("b", "leases/l", Some(2), 409),
            entry("admin", "statefulsets/s/scale", None, 200),
            entry("a", "statefulsets/s", Some(1), 200),
            entry("a", "statefulsets/s/scale", None, 200),
        ];
        assert_eq!(judge_epochs(log.iter()), Epochs::default());
    }

    #[test]
    fn an_object_is_fenced_by_its_own_stamp_and_not_by_that_of_another() {
        let claim = "persistentvolumeclaims/data-0";
        let mut log = vec![entry("b", "configmaps/r", Some(2), 200), entry("a", claim, Some(1), 200)];
        assert_eq!(judge_epochs(log.iter()), Epochs::default());
        log.push(entry("b", claim, Some(2), 200));
        log.push(entry("a", claim, Some(1), 409));
        assert_eq!(judge_epochs(log.iter()), Epochs { refused: 1, late: vec![] });
        log.push(entry("a", claim, Some(1), 200));
        assert_eq!(judge_epochs(log.iter()).late.len(), 1);
    }

    fn write(next: u64, intent: Option<&str>, retired: bool) -> RecordWrite {
        let intent = intent.map(|operation| {
            serde_json::json!({ "operation": operation, "begun": 1, "kind": { "leave": {
                "leaver": { "name": "c-3", "claim": "u" }, "identity": "i", "size_after": 3 } } })
        });
        let retired = if retired {
            serde_json::json!({ "i": { "name": "c-3", "claim": "u", "operation": "1-leave-c-3" } })
        } else {
            serde_json::json!({})
        };
        let record = serde_json::json!({ "cluster": "c", "epoch": 1, "roster": [], "roster_revision": 1, "members": {},
            "retired": retired, "intent": intent, "next_operation": next });
        RecordWrite { sequence: next, time: ModelTime(0), record: serde_json::from_value(record).expect("a record") }
    }

    #[test]
    fn a_leave_that_is_carried_on_was_opened_once_and_one_that_is_begun_anew_twice() {
        let mut writes = vec![
            write(2, Some("1-leave-c-3"), false),
            write(2, Some("1-leave-c-3"), false),
            write(2, Some("1-leave-c-3"), true),
            write(2, None, true),
        ];
        assert_eq!((leaves_opened(&writes, "i"), retirements(&writes, "i")), (1, 1));
        assert_eq!(retired_by(&writes, "i").map(|w| w.record.intent.is_some()), Some(true));
        writes.push(write(3, Some("2-leave-c-3"), false));
        writes.push(write(3, None, true));
        assert_eq!((leaves_opened(&writes, "i"), retirements(&writes, "i")), (2, 2));
        assert_eq!((leaves_opened(&writes, "another"), retirements(&writes, "another")), (0, 0));
    }

    #[test]
    fn the_start_of_a_process_is_told_on_the_clock_of_the_api() {
        let own = started(std::process::id()).expect("this process runs");
        let age = wall().0.saturating_sub(own.0);
        assert!(age < 3_600_000, "this process would be {age} ms old");
        assert_eq!(started(u32::MAX), None);
    }
}
