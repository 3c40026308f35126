//! A story as lines: one for each change.

use super::scene::{Scene, clock};
use super::tale::ChapterState;
use std::collections::BTreeSet;

/// What has changed from one moment to the next, a line each.
pub fn changes(before: &Scene, after: &Scene) -> Vec<String> {
    let mut lines = Vec::new();
    chapters(before, after, &mut lines);
    if before.note != after.note && !after.note.is_empty() {
        lines.push(format!("  {}", after.note));
    }
    if before.replicas != after.replicas && before.replicas > 0 {
        lines.push(format!("  size        {} -> {}", before.replicas, after.replicas));
    }
    if before.api != after.api && !before.members.is_empty() {
        lines.push(format!("  api         {}", if after.api { "answers again" } else { "answers nobody" }));
    }
    members(before, after, &mut lines);
    coordinator(before, after, &mut lines);
    let operation = |scene: &Scene| scene.operation.as_ref().map(|(name, step)| (name.clone(), without_digits(step)));
    if operation(before) != operation(after) {
        match (&before.operation, &after.operation) {
            (_, Some((name, step))) => lines.push(format!("  operation   {name}: {step}")),
            (Some((name, _)), None) => lines.push(format!("  operation   {name}: done")),
            (None, None) => {}
        }
    }
    let known: BTreeSet<_> = before.decisions.iter().map(|b| (b.epoch, b.number)).collect();
    for brief in after.decisions.iter().filter(|b| !known.contains(&(b.epoch, b.number))) {
        lines.push(format!("  decided     {}", brief.text));
    }
    lines.into_iter().map(|line| format!("{}  {line}", clock(after.elapsed))).collect()
}

fn chapters(before: &Scene, after: &Scene, lines: &mut Vec<String>) {
    let all = after.tale.chapters.len();
    for (number, chapter) in after.tale.chapters.iter().enumerate() {
        let old = before.tale.chapters.get(number).map(|c| c.state);
        if old == Some(chapter.state) {
            continue;
        }
        let rows = after.rows.map_or(String::new(), |rows| format!(", {rows} rows acknowledged so far"));
        match chapter.state {
            ChapterState::Next => {}
            ChapterState::Now { .. } => lines.push(format!("{}/{all}  {}", number + 1, chapter.title)),
            ChapterState::Done { took } => lines.push(format!("  done in {:.1} s{rows}", took.as_secs_f64())),
            ChapterState::Failed { took } => lines.push(format!("  FAILED after {:.1} s{rows}", took.as_secs_f64())),
        }
    }
}

fn members(before: &Scene, after: &Scene, lines: &mut Vec<String>) {
    for member in &after.members {
        let pod = &member.pod;
        let Some(old) = before.members.iter().find(|m| m.uid == member.uid) else {
            lines.push(format!("  {pod} is there, at {}", member.address));
            continue;
        };
        if member.ending && !old.ending {
            lines.push(format!("  {pod} is being deleted"));
        }
        if member.pilot != old.pilot {
            lines.push(format!("  {pod} pilot: {} -> {}", old.pilot.word(), member.pilot.word()));
        } else if member.pilot_pid != old.pilot_pid && member.pilot_pid.is_some() && old.pilot_pid.is_some() {
            lines.push(format!("  {pod} pilot: another process"));
        }
        if member.phase != old.phase && member.phase.is_some() {
            let from = old.phase.map_or("?", super::scene::phase_word);
            lines.push(format!("  {pod} database: {from} -> {}", member.phase.map_or("?", super::scene::phase_word)));
        }
        if let (Some(was), Some(is)) = (old.database_pid, member.database_pid)
            && was != is
        {
            lines.push(format!("  {pod} database: process {was} -> {is}"));
        }
    }
    for old in before.members.iter().filter(|old| after.members.iter().all(|m| m.uid != old.uid)) {
        lines.push(format!("  {} is gone", old.pod));
    }
}

fn coordinator(before: &Scene, after: &Scene, lines: &mut Vec<String>) {
    let who = |scene: &Scene| scene.coordinator.as_ref().map(|c| (c.pilot.clone(), c.epoch));
    match &after.coordinator {
        Some(now) if who(before) != who(after) => {
            lines.push(format!("  coordinator {} at epoch {}", now.pilot, now.epoch));
        }
        None if before.coordinator.is_some() => lines.push("  coordinator none".to_owned()),
        Some(_) | None => {}
    }
    let degraded = |scene: &Scene| scene.coordinator.as_ref().and_then(|c| c.degraded.clone());
    if let (Some(why), true) = (degraded(after), degraded(before).is_none()) {
        lines.push(format!("  coordinator decides nothing: {why}"));
    }
}

/// Progress alone is no change.
fn without_digits(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::scene::PilotSight;
    use super::super::scene::tests::scene;
    use super::super::tale::Tale;
    use super::*;
    use protocol::database::DatabasePhase;

    #[test]
    fn nothing_is_said_while_nothing_changes() {
        let mut later = scene(3);
        later.elapsed *= 2;
        later.rows = Some(99_999);
        assert_eq!(changes(&scene(3), &later), [] as [String; 0]);
    }

    #[test]
    fn progress_alone_is_no_change() {
        let (mut one, mut two) = (scene(3), scene(3));
        one.operation = Some(("5-leave-cassandra-2".to_owned(), "leaving, 1 of 9 bytes".to_owned()));
        two.operation = Some(("5-leave-cassandra-2".to_owned(), "leaving, 7 of 9 bytes".to_owned()));
        assert_eq!(changes(&one, &two), [] as [String; 0]);
        assert_eq!(changes(&two, &scene(3)), ["01:15    operation   5-leave-cassandra-2: done"]);
    }

    #[test]
    fn each_change_is_a_line_of_its_own() {
        let mut before = scene(3);
        before.tale = Tale::new(&["kill it"]);
        let mut after = before.clone();
        after.tale.begin();
        after.members[1].phase = Some(DatabasePhase::Restarting);
        after.members[1].database_pid = Some(4711);
        after.members[2].pilot = PilotSight::Silent;
        after.api = false;
        assert_eq!(
            changes(&before, &after),
            [
                "01:15  1/1  kill it",
                "01:15    api         answers nobody",
                "01:15    cassandra-1 database: serving -> restarting",
                "01:15    cassandra-1 database: process 2001 -> 4711",
                "01:15    cassandra-2 pilot: live -> silent",
            ]
        );
    }
}
