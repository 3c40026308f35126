//! The tools beside a running member.

use agent::driver::model::ProcessConfig;
use agent::driver::model::wire::{Answer, AskError, Mode, Operation, Status, ask};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::sleep;

/// An answer is waited for so long: every operation is answered at once, or after one round of calls to others.
const WITHIN: Duration = Duration::from_secs(10);

/// Between two looks at a leave.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) async fn drain(config: &ProcessConfig) -> Result<ExitCode, String> {
    done(config, Operation::Drain).await
}

pub(super) async fn limit(config: &ProcessConfig, bytes_per_second: Option<u64>) -> Result<ExitCode, String> {
    done(config, Operation::LimitStreaming { bytes_per_second }).await
}

pub(super) async fn seeds(config: &ProcessConfig, seeds: Vec<IpAddr>) -> Result<ExitCode, String> {
    done(config, Operation::Seeds(seeds)).await
}

pub(super) async fn status(config: &ProcessConfig) -> Result<ExitCode, String> {
    let status = look(config).await?;
    println!("{}", serde_json::to_string_pretty(&status).map_err(|e| e.to_string())?);
    Ok(ExitCode::SUCCESS)
}

/// Begins a leave, or takes up one that is under way, and waits for its end.
pub(super) async fn leave(config: &ProcessConfig) -> Result<ExitCode, String> {
    done(config, Operation::Leave).await?;
    loop {
        let status = look(config).await?;
        match status.mode {
            Mode::Left => return Ok(ExitCode::SUCCESS),
            Mode::Leaving => sleep(LOOK_EVERY).await,
            Mode::Starting | Mode::Joining | Mode::Normal | Mode::Draining | Mode::Drained => {
                return Err(status.leave_failure.unwrap_or_else(|| {
                    format!("it did not leave: it is {:?} again, and was probably restarted", status.mode)
                }));
            }
        }
    }
}

async fn done(config: &ProcessConfig, operation: Operation) -> Result<ExitCode, String> {
    match say(config, &operation).await? {
        Answer::Done => Ok(ExitCode::SUCCESS),
        Answer::Refused(why) => Err(why),
        Answer::Status(_) => Err("it answered another question".to_owned()),
    }
}

async fn look(config: &ProcessConfig) -> Result<Status, String> {
    match say(config, &Operation::Status).await? {
        Answer::Status(status) => Ok(*status),
        Answer::Refused(why) => Err(why),
        Answer::Done => Err("it answered another question".to_owned()),
    }
}

async fn say(config: &ProcessConfig, operation: &Operation) -> Result<Answer, String> {
    ask(config.listens(), operation, WITHIN).await.map_err(|e: AskError| e.to_string())
}
