//! Runs the deterministic simulator: one seed, many seeds, or the planted bugs.

use clap::Parser;
use simulation::world::run::{Options, Planted, minimise, report, run};
use std::process::ExitCode;
use std::time::Instant;

/// Tries to break a mesh of pilots in simulated time, and tells how if it can.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
struct Arguments {
    /// Run this seed alone and tell its story.
    #[arg(long)]
    seed: Option<u64>,
    /// Run so many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Put bugs in on purpose and count the seeds until each is found.
    #[arg(long)]
    planted: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Runs spent on making a failing schedule smaller.
    #[arg(long, default_value_t = 60)]
    shrink: usize,
    /// Lines of the story told of a failure.
    #[arg(long, default_value_t = 40)]
    lines: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let failed = if arguments.planted {
        planted(&arguments)
    } else if let Some(seed) = arguments.seed {
        one(&arguments, seed)
    } else {
        many(&arguments)
    };
    if failed { ExitCode::from(1) } else { ExitCode::SUCCESS }
}

fn one(arguments: &Arguments, seed: u64) -> bool {
    let options = Options { aloud: !arguments.json, ..Options::swarm(seed) };
    let outcome = run(options.clone());
    let again = run(Options { aloud: false, ..options.clone() });
    if outcome.hash != again.hash {
        eprintln!("seed {seed}: S-DET is broken: two runs differ");
        return true;
    }
    tell(arguments, &options, &outcome);
    outcome.verdict.is_some()
}

fn many(arguments: &Arguments) -> bool {
    let began = Instant::now();
    let (mut failures, mut simulated, mut refused, mut changes, mut rescued) = (0u64, 0u64, 0u64, 0u64, 0u64);
    let mut excused = 0u64;
    for seed in arguments.from..arguments.from.saturating_add(arguments.seeds) {
        let options = Options::swarm(seed);
        let mut outcome = run(options.clone());
        simulated += outcome.simulated;
        refused += outcome.refused;
        changes += outcome.changes;
        rescued += u64::from(outcome.rescued);
        excused += u64::from(outcome.excused.is_some());
        // One in a hundred is run twice: the same seed must give the same run.
        if seed % 100 == 0 && run(options.clone()).hash != outcome.hash {
            outcome.verdict = Some((simulation::world::oracle::Rule::Deterministic, "two runs differ".to_owned()));
        }
        if outcome.verdict.is_some() {
            failures += 1;
            if arguments.shrink > 0 {
                let (smaller, outcome) = minimise(&options, arguments.shrink);
                tell(arguments, &smaller, &outcome);
            } else {
                tell(arguments, &options, &outcome);
            }
        } else if arguments.json {
            tell(arguments, &options, &outcome);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let days = simulated as f64 / 86_400_000.0;
    eprintln!(
        "{} seeds, {failures} failed, {days:.2} simulated days in {seconds:.1} s ({:.0} times real time), {changes} joins and leaves, {refused} writes of older epochs refused, {rescued} times a user had to give a quorum back, {excused} times data that nobody can name was left to a person",
        arguments.seeds,
        simulated as f64 / 1000.0 / seconds,
    );
    failures > 0
}

fn planted(arguments: &Arguments) -> bool {
    let mut missed = false;
    for bug in Planted::ALL {
        let found = (arguments.from..arguments.from + arguments.seeds.max(1000)).find_map(|seed| {
            let outcome = run(bug.options(seed));
            outcome.verdict.map(|(rule, why)| (seed, rule, why))
        });
        match found {
            Some((seed, rule, why)) => {
                println!("{bug:?}: found by seed {seed} after {} seeds, {rule}: {why}", seed - arguments.from + 1)
            }
            None => {
                println!("{bug:?}: not found");
                missed = true;
            }
        }
    }
    missed
}

fn tell(arguments: &Arguments, options: &Options, outcome: &simulation::world::run::Outcome) {
    if arguments.json {
        let line = serde_json::json!({
            "seed": outcome.seed,
            "failed": outcome.verdict.as_ref().map(|(rule, why)| serde_json::json!({"rule": rule.to_string(), "why": why})),
            "hash": format!("{:016x}", outcome.hash),
            "simulatedSeconds": outcome.simulated / 1000,
            "restedAfterSeconds": outcome.rested.map(|r| r / 1000),
            "members": outcome.members,
            "changes": outcome.changes,
            "refused": outcome.refused,
            "schedule": options.schedule.iter().map(|(at, action)| format!("{at} {action}")).collect::<Vec<_>>(),
        });
        println!("{line}");
    } else if outcome.verdict.is_some() {
        println!("{}", report(options, outcome, arguments.lines));
    } else {
        println!(
            "seed {}: at rest {} s after the last fault, {} members",
            outcome.seed,
            outcome.rested.unwrap_or(0) / 1000,
            outcome.members
        );
    }
}
