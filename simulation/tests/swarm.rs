//! The gate's part of the simulator, in release: 2,000 seeds drawn from the commit, every enumerated plan, and large
//! clusters. Built and run as a person would, by `cargo run`: unoptimised it would take an hour.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    // As the test harness does: `cargo test -- --list` and filters for other tests run nothing here.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "--list") {
        println!("the_swarm_the_plans_and_large_clusters_break_no_rule: test");
        return ExitCode::SUCCESS;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let run = Command::new(cargo)
        .args(["run", "--release", "--quiet", "--package", "simulation", "--bin", "simulate", "--", "--gate"])
        .status();
    match run {
        Ok(status) if status.success() => {
            println!("test the_swarm_the_plans_and_large_clusters_break_no_rule ... ok");
            ExitCode::SUCCESS
        }
        Ok(status) => {
            println!("test the_swarm_the_plans_and_large_clusters_break_no_rule ... FAILED");
            eprintln!("simulate ended with {status}: it has told which seed or plan broke which rule");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("simulate could not be run with cargo ({error}): is cargo on the PATH?");
            ExitCode::FAILURE
        }
    }
}
