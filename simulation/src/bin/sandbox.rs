//! The tour, and a sandbox to play with.

use agent::launch::args::LaunchArgs;
use agent::runtime::args::AgentArgs;
use clap::{Parser, Subcommand};
use simulation::sandbox::distribution::{Progress, ensure_cassandra};
use simulation::sandbox::engine::{Database, Options, Sandbox};
use simulation::sandbox::layout::Layout;
use simulation::story::{Stage, steps};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
#[command(version, about = "Real pilots and real databases on this machine")]
struct Line {
    #[command(subcommand)]
    command: Option<Command>,
    /// Keep everything in this folder.
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// What the pods run: the pilot itself.
    #[command(hide = true)]
    Pilot {
        #[command(subcommand)]
        part: Part,
    },
}

#[derive(Subcommand)]
enum Part {
    Agent(AgentArgs),
    Launch(LaunchArgs),
}

fn main() -> ExitCode {
    let line = Line::parse();
    match line.command {
        Some(Command::Pilot { part }) => pilot(part),
        None => tour(line.dir),
    }
}

fn pilot(part: Part) -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_ansi(false)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match part {
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
    }
}

fn tour(dir: Option<PathBuf>) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async move {
        let home = match ensure_cassandra(Progress::Shown) {
            Ok(home) => home,
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        };
        let dir = dir.unwrap_or_else(|| PathBuf::from("/tmp/sandbox"));
        let options = Options {
            layout: Layout::new(dir),
            replicas: 3,
            database: Database::Cassandra(home),
            policy: "apiVersion: pilotmesh.io/v1alpha1\nkind: ClusterPolicy\nmetadata: { name: tour }\nspec: {}\n"
                .into(),
            stock_timing: false,
            grace: 120,
            octet: 42,
            streaming: None,
        };
        let sandbox = match Sandbox::start(options).await {
            Ok(sandbox) => sandbox,
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        };
        let mut stage = Stage::new(sandbox);
        let result = async {
            steps::form(&mut stage, 3).await?;
            eprintln!("formed");
            stage.start_writing();
            steps::scale(&mut stage, 4).await?;
            eprintln!("4");
            steps::scale(&mut stage, 3).await?;
            steps::kill_database(&mut stage, "cassandra-1").await?;
            steps::scale(&mut stage, 4).await?;
            steps::kill_coordinator_while_leaving(&mut stage, 3).await?;
            steps::api_outage(&mut stage, Duration::from_secs(20)).await?;
            steps::settle_accounts(&mut stage).await
        }
        .await;
        steps::judge_epochs(&mut stage);
        steps::judge_restarts(&mut stage, 1);
        println!("{}", stage.evidence.render());
        if let Err(error) = &result {
            println!("{error}");
        }
        let good = result.is_ok() && stage.evidence.is_good();
        stage.sandbox.shutdown().await;
        if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    })
}
