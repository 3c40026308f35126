//! A program that runs a sandbox carries the pilot in itself: its pods run the very same file.

use agent::launch::args::LaunchArgs;
use agent::runtime::args::AgentArgs;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// The sidecar.
    Agent(AgentArgs),
    /// The database container's entry point.
    Launch(LaunchArgs),
}

/// Runs as the pilot where the first argument is `pilot`; nothing otherwise. To be called first thing in `main`.
pub fn run_as_pilot() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let program = arguments.next()?;
    if arguments.next()? != "pilot" {
        return None;
    }
    let line = Line::parse_from(std::iter::once(program).chain(arguments));
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).with_ansi(false).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return Some(ExitCode::FAILURE);
        }
    };
    Some(match line.part {
        Part::Agent(args) => match args.settings() {
            Err(faults) => {
                eprintln!("{faults}");
                ExitCode::from(2)
            }
            Ok(settings) => match runtime.block_on(agent::runtime::run(settings)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!(%error, "the agent ends");
                    ExitCode::FAILURE
                }
            },
        },
        Part::Launch(args) => match runtime.block_on(agent::launch::run(args.settings())) {
            Ok(code) => code,
            Err(error) => {
                tracing::error!(%error, "the launcher ends");
                ExitCode::FAILURE
            }
        },
    })
}
