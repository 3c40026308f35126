//! The command line of `bench`.

use super::figures::{Figure, load};
use super::mesh::{BenchError, Mesh};
use super::notice::{self, Fault};
use super::takeover::{self, Way};
use super::{idle, serf, table::table};
use crate::sandbox::multicall;
use crate::sandbox::stop::Stop;
use clap::{Parser, ValueEnum};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Measures meshes of real pilots over the model database: notice, take-over, memory, processor, traffic, API requests.
///
/// Progress goes to standard error, the table to standard output. The figures are those of this machine under its load,
/// which is told with each; those of a debug build say little.
#[derive(Debug, Parser)]
#[command(
    name = "bench",
    version,
    after_help = "\
Exit codes: 0 all was measured, whatever the figures; 1 something could not be measured; 2 the command line is wrong."
)]
struct Cli {
    /// Sizes of meshes, one after the other.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "3,9", value_parser = clap::value_parser!(u32).range(3..=50))]
    pilots: Vec<u32>,
    /// Tries of every fault.
    #[arg(long, value_name = "TIMES", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// The window in which nothing happens, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(5..=600))]
    idle: u32,
    /// A mesh is given up after so many minutes.
    #[arg(long, value_name = "MINUTES", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=600))]
    limit: u32,
    /// The program of serf (Debian package `serf`); found on the search path where it is not given.
    #[arg(long, value_name = "PATH")]
    serf: Option<PathBuf>,
    /// The build of the pilot to be measured, as it is deployed; where none is given, the pilot that this program
    /// carries in itself, whose pages in memory are those of the larger program.
    #[arg(long, value_name = "PATH")]
    pilot: Option<PathBuf>,
    /// How the figures are told.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs: one object.
    Json,
}

/// Runs the whole program; also as the pilot or the database, which the pods run from this very file.
pub fn main() -> ExitCode {
    if let Some(code) = multicall::run_as_pilot() {
        return code;
    }
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bench: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(run(&cli))
}

/// What came of everything.
#[derive(Default)]
struct Results {
    figures: Vec<Figure>,
    faults: Vec<String>,
    not_shown: Vec<String>,
}

async fn run(cli: &Cli) -> ExitCode {
    let stop = match Stop::listen() {
        Ok(stop) => stop,
        Err(error) => {
            eprintln!("bench: cannot handle signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut results = Results::default();
    for size in &cli.pilots {
        let size = usize::try_from(*size).unwrap_or(usize::MAX);
        if !stop.is_wanted() {
            pilots(cli, size, &stop, &mut results).await;
        }
    }
    beside(cli, &stop, &mut results).await;
    tell(cli, &results);
    if results.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn pilots(cli: &Cli, size: usize, stop: &Stop, results: &mut Results) {
    eprintln!("{size} pilots: the mesh forms (load {:.1})", load().unwrap_or(f64::NAN));
    let mesh = match Mesh::start(size, cli.pilot.as_ref()).await {
        Ok(mesh) => mesh,
        Err(error) => return results.faults.push(format!("{size} pilots: {error}")),
    };
    let limit = Duration::from_secs(u64::from(cli.limit) * 60);
    let measured = tokio::select! {
        measured = tokio::time::timeout(limit, measure(cli, &mesh, &mut results.figures)) => {
            measured.unwrap_or_else(|_| Err(BenchError::Ended(format!("not measured within {limit:?}: raise --limit"))))
        }
        () = stop.wanted(1) => Err(BenchError::Ended("stopped before the end".to_owned())),
    };
    if let Err(error) = measured {
        results.faults.push(format!("{size} pilots: {error}"));
    }
    for killed in mesh.end().await {
        results.faults.push(format!("{size} pilots: this process did not end by itself and was killed: {killed}"));
    }
}

/// Figures are kept as they come: what was measured before something went wrong is told all the same.
async fn measure(cli: &Cli, mesh: &Mesh, figures: &mut Vec<Figure>) -> Result<(), BenchError> {
    let repeat = usize::try_from(cli.repeat).unwrap_or(usize::MAX);
    eprintln!("{} pilots: {} s in which nothing happens", mesh.size, cli.idle);
    figures.extend(idle::measure(mesh, Duration::from_secs(u64::from(cli.idle))).await?);
    for fault in [Fault::Silent, Fault::Ended] {
        eprintln!("{} pilots: notice, {repeat} times", mesh.size);
        figures.extend(notice::measure(mesh, fault, repeat).await?);
    }
    for way in Way::ALL {
        eprintln!("{} pilots: take-over, {repeat} times", mesh.size);
        figures.push(takeover::measure(mesh, way, repeat).await?);
    }
    Ok(())
}

async fn beside(cli: &Cli, stop: &Stop, results: &mut Results) {
    let Some(program) = serf::find(cli.serf.as_deref()) else {
        return results
            .not_shown
            .push("serf beside the pilots: it is not installed (Debian package `serf`, or --serf PATH)".to_owned());
    };
    for size in &cli.pilots {
        let size = usize::try_from(*size).unwrap_or(usize::MAX);
        eprintln!("{size} agents of serf");
        let repeat = usize::try_from(cli.repeat).unwrap_or(usize::MAX);
        let window = Duration::from_secs(u64::from(cli.idle));
        let measured = tokio::select! {
            measured = serf::measure(&program, size, window, repeat) => measured,
            () = stop.wanted(1) => Err(BenchError::Ended("stopped before the end".to_owned())),
        };
        match measured {
            Ok(figures) => results.figures.extend(figures),
            Err(error) => results.faults.push(format!("serf: {error}")),
        }
    }
}

fn profile() -> &'static str {
    if cfg!(debug_assertions) { "dev" } else { "release" }
}

fn tell(cli: &Cli, results: &Results) {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    if cli.output == Output::Json {
        let figures: Vec<serde_json::Value> = results
            .figures
            .iter()
            .map(|f| json!({ "figure": f, "median": f.median(), "worst": f.worst(), "verdict": f.verdict() }))
            .collect();
        let told = json!({
            "profile": profile(), "cores": cores, "repeat": cli.repeat, "idleSeconds": cli.idle,
            "figures": figures, "faults": results.faults, "notShown": results.not_shown,
        });
        println!("{told}");
        return;
    }
    println!("profile {}, {cores} cores, every fault {} times, idle for {} s", profile(), cli.repeat, cli.idle);
    if profile() != "release" {
        println!("this is no release build: memory and processor time say little");
    }
    print!("{}", table(&results.figures));
    for fault in &results.faults {
        println!("NOT MEASURED: {fault}");
    }
    for missing in &results.not_shown {
        println!("NOT SHOWN: {missing}");
    }
    println!("not shown in all: {}", results.not_shown.len());
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
