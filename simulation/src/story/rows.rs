//! What a client wrote from the beginning, and what it and the audit log say at the end.

use super::{PATIENCE, Stage, StoryError, must, steps};
use crate::sandbox::client::{RowWriter, WriterSettings};
use std::path::Path;

/// Where the rows lie that only make a leave slow.
const BULK: &str = "bulk";

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
