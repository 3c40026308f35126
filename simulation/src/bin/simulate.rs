//! Runs the deterministic simulator: one seed, many seeds, or the planted bugs.

use clap::Parser;
use serde_json::json;
use simulation::world::plan::{Plan, Step};
use simulation::world::run::{Options, Planted, minimise, report, run};
use std::collections::{BTreeMap, BTreeSet};
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
    /// After each write of each workload, each thing that can go wrong or that a user may ask for instead.
    #[arg(long)]
    plans: bool,
    /// Of the plans only those whose text has this in it, such as `Grow, after step 3`.
    #[arg(long, requires = "plans")]
    only: Option<String>,
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
    } else if arguments.plans {
        plans(&arguments)
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

fn plans(arguments: &Arguments) -> bool {
    let seed = arguments.seed.unwrap_or(arguments.from);
    let all = match Plan::all(seed) {
        Ok(all) => all,
        Err(why) => {
            eprintln!("{why}");
            return true;
        }
    };
    let asked = |plan: &Plan| arguments.only.as_ref().is_none_or(|only| plan.to_string().contains(only));
    let chosen: Vec<Plan> = all.into_iter().filter(asked).collect();
    let began = Instant::now();
    let (mut failed, mut excused) = (0u64, 0u64);
    let mut matrix: BTreeMap<(Step, &str), u64> = BTreeMap::new();
    for (number, plan) in chosen.iter().enumerate() {
        let aloud = chosen.len() == 1 && !arguments.json;
        let outcome = Plan { aloud, ..plan.clone() }.run(seed);
        *matrix.entry((plan.step, plan.action.family())).or_default() += 1;
        excused += u64::from(outcome.excused.is_some());
        if arguments.json {
            let failed = outcome.verdict.as_ref().map(|(rule, why)| json!({"rule": rule.to_string(), "why": why}));
            println!("{}", json!({"plan": plan.to_string(), "seed": seed, "failed": failed}));
        } else if let Some((rule, why)) = &outcome.verdict {
            println!("{plan}\n  {rule} is broken: {why}");
            for line in outcome.story.iter().rev().take(arguments.lines).rev() {
                println!("  {line}");
            }
        }
        failed += u64::from(outcome.verdict.is_some());
        if number % 100 == 99 {
            eprintln!(
                "{} of {} plans, {failed} failed, {:.0} s",
                number + 1,
                chosen.len(),
                began.elapsed().as_secs_f64()
            );
        }
    }
    if !arguments.json {
        print_matrix(&matrix);
    }
    eprintln!(
        "{} plans from seed {seed}, {failed} failed, {excused} left to a person, {:.0} s",
        chosen.len(),
        began.elapsed().as_secs_f64()
    );
    failed > 0
}

/// How many plans put each kind of fault right after each kind of step.
fn print_matrix(matrix: &BTreeMap<(Step, &str), u64>) {
    let families: BTreeSet<&str> = matrix.keys().map(|(_, family)| *family).collect();
    let head: String = families.iter().map(|f| format!("{f:>9}")).collect();
    println!("{:<14}{head}", "after");
    let mut holes = Vec::new();
    for step in Step::ALL {
        let line: String = families
            .iter()
            .map(|family| {
                let count = matrix.get(&(step, *family)).copied().unwrap_or(0);
                if count == 0 {
                    holes.push(format!("{family} after {step:?}"));
                }
                format!("{count:>9}")
            })
            .collect();
        println!("{:<14}{line}", format!("{step:?}"));
    }
    println!("holes: {}", if holes.is_empty() { "none".to_owned() } else { holes.join(", ") });
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
        let line = json!({
            "seed": outcome.seed,
            "failed": outcome.verdict.as_ref().map(|(rule, why)| json!({"rule": rule.to_string(), "why": why})),
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
