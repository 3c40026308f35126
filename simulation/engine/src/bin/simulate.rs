//! Runs the deterministic simulator: one seed, many seeds, or the planted bugs.

use clap::Parser;
use engine::world::World;
use engine::world::database::Kind;
use engine::world::marks::{Marks, NEVER};
use engine::world::mass::MassRestart;
use engine::world::oracle::Rule;
use engine::world::plan::{Plan, Reached, Step};
use engine::world::planted::Planted;
use engine::world::run::{Options, Outcome, minimise, report, run};
use engine::world::swarm::{Ran, spread, swarm, threads};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Tries to break a mesh of pilots in simulated time, and tells how if it can.
#[derive(Debug, Clone, Parser)]
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
    /// Let the faults of each run go on for so many simulated minutes, instead of for as many as are drawn.
    #[arg(long)]
    minutes: Option<u64>,
    /// Run seeds for so many hours, however many that are, and tell what was covered.
    #[arg(long, conflicts_with_all = ["seed", "planted", "plans"])]
    hours: Option<f64>,
    /// Time the simulator at 5, 100 and 1,000 members.
    #[arg(long, conflicts_with_all = ["seed", "planted", "plans", "hours"])]
    bench: bool,
    /// Run etcd in all of the seeds, instead of in one of five; or the plans on it, instead of on a ring.
    #[arg(long, conflicts_with_all = ["planted", "bench", "minutes"])]
    etcd: bool,
    /// 2,000 seeds drawn from the commit, all plans on a ring and on etcd, and large clusters.
    #[arg(long, conflicts_with_all = ["seed", "planted", "plans", "hours", "bench"])]
    gate: bool,
    /// Of `--gate` what every `cargo test` runs: 500 of the seeds, and all but the plans on etcd and the restart of a tenth of
    /// 1,000 at once.
    #[arg(long, requires = "gate")]
    quick: bool,
    /// Run so many at a time; by default as many as this machine has cores.
    #[arg(long)]
    threads: Option<usize>,
    /// Begin with a seed that is told by the clock instead of `--from`.
    #[arg(long)]
    fresh: bool,
    /// Put bugs in on purpose and count the seeds until each is found.
    #[arg(long)]
    planted: bool,
    /// After each write of each workload, each thing that can go wrong or that a user may ask for instead.
    #[arg(long)]
    plans: bool,
    /// Of the plans or planted bugs only those whose text has this in it, such as `Grow, after step 3` or `BlindRecord`;
    /// with `--bench` only this many members.
    #[arg(long)]
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

impl Arguments {
    fn asks_for(&self, text: &str) -> bool {
        self.only.as_ref().is_none_or(|only| text.contains(only))
    }

    fn options(&self, seed: u64) -> Options {
        match self.minutes {
            Some(minutes) => Options::long(seed, minutes.saturating_mul(60_000)),
            None if self.etcd => Options::etcd(seed),
            None => Options::drawn(seed),
        }
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if arguments.fresh {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        arguments.from = now.map_or(0, |now| now.as_secs()) * 1_000_000;
        eprintln!("seeds from {}", arguments.from);
    }
    let failed = if arguments.planted {
        planted(&arguments)
    } else if arguments.plans {
        plans(&arguments)
    } else if arguments.bench {
        bench(&arguments)
    } else if arguments.gate {
        gate(&arguments)
    } else if let Some(seed) = arguments.seed {
        one(&arguments, seed)
    } else {
        many(&arguments)
    };
    if failed { ExitCode::from(1) } else { ExitCode::SUCCESS }
}

fn one(arguments: &Arguments, seed: u64) -> bool {
    let options = Options { aloud: !arguments.json, ..arguments.options(seed) };
    let outcome = run(options.clone());
    let again = run(Options { aloud: false, ..options.clone() });
    if outcome.hash != again.hash {
        eprintln!("seed {seed}: S-DET is broken: two runs differ");
        return true;
    }
    tell(arguments, &options, &outcome);
    outcome.verdict.is_some()
}

/// What many runs come to together.
#[derive(Default)]
struct Sums {
    seeds: u64,
    failures: u64,
    simulated: u64,
    refused: u64,
    busiest: usize,
    changes: u64,
    rescued: u64,
    excused: u64,
    rows: usize,
    marks: Marks,
}

impl Sums {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.failures += u64::from(outcome.verdict.is_some());
        self.simulated += outcome.simulated;
        self.refused += outcome.refused;
        self.busiest = self.busiest.max(outcome.busiest);
        self.changes += outcome.changes;
        self.rescued += u64::from(outcome.rescued);
        self.excused += u64::from(outcome.excused.is_some());
        self.rows += outcome.rows;
        self.marks.add(&outcome.marks);
    }

    fn line(&self, seconds: f64) -> String {
        let days = self.simulated as f64 / 86_400_000.0;
        format!(
            "{} seeds, {} failed, {days:.2} simulated days ({:.3} years) in {seconds:.1} s ({:.1} seeds a second, {:.0} times real time), {} joins and leaves, {} rows acknowledged, {} writes of older epochs refused, at most {} requests of one pilot in a minute, {} times a user had to give a quorum back, {} times something was left to a person",
            self.seeds,
            self.failures,
            days / 365.25,
            self.seeds as f64 / seconds,
            self.simulated as f64 / 1000.0 / seconds,
            self.changes,
            self.rows,
            self.refused,
            self.busiest,
            self.rescued,
            self.excused,
        )
    }

    fn coverage(&self) {
        let (matrix, holes) = self.marks.matrix();
        println!("how often each kind of fault met each kind of operation:\n{matrix}");
        println!("never met: {}", if holes.is_empty() { "none".to_owned() } else { holes.join(", ") });
        println!("rare paths, how often each was taken:");
        for (path, count) in self.marks.taken().filter(|(path, _)| !path.contains(" during ")) {
            println!("  {count:>9}  {path}");
        }
        let missing = self.marks.missing();
        println!("never taken: {}", if missing.is_empty() { "none".to_owned() } else { missing.join(", ") });
        for (path, why) in NEVER {
            println!("not expected: {path} ({why})");
        }
    }
}

fn many(arguments: &Arguments) -> bool {
    let began = Instant::now();
    let end = arguments.hours.map(|hours| Duration::from_secs_f64(hours * 3600.0));
    let seeds = match end {
        Some(_) => arguments.from..u64::MAX,
        None => arguments.from..arguments.from.saturating_add(arguments.seeds),
    };
    let mut sums = Sums::default();
    let mut told = began;
    let mut failed: Vec<Options> = Vec::new();
    swarm(
        seeds,
        arguments.threads.unwrap_or_else(threads),
        |seed| arguments.options(seed),
        |ran| {
            let Ran { options, outcome } = ran;
            sums.add(&outcome);
            if let Some((rule, why)) = &outcome.verdict {
                eprintln!("seed {} failed: {rule}: {why}", outcome.seed);
                failed.push(options);
            } else if arguments.json {
                tell(arguments, &options, &outcome);
            }
            if told.elapsed() >= Duration::from_secs(60) {
                told = Instant::now();
                eprintln!("{}", sums.line(began.elapsed().as_secs_f64()));
            }
            end.is_none_or(|end| began.elapsed() < end)
        },
    );
    let seconds = began.elapsed().as_secs_f64();
    failed.sort_by_key(|options| options.seed);
    for options in &failed {
        // To make a schedule smaller takes many runs: the first few will do.
        let (smaller, outcome) = if arguments.shrink > 0 && options.seed <= failed[failed.len().min(10) - 1].seed {
            minimise(options, arguments.shrink)
        } else {
            (options.clone(), run(options.clone()))
        };
        tell(arguments, &smaller, &outcome);
    }
    if !arguments.json {
        sums.coverage();
    }
    eprintln!("{}", sums.line(seconds));
    sums.failures > 0
}

/// Simulated seconds per second at several sizes, of clusters that come back and then rest.
fn bench(arguments: &Arguments) -> bool {
    for (members, seconds) in [(5, 600u64), (100, 120), (1_000, 60)] {
        if arguments.only.as_ref().is_some_and(|only| *only != members.to_string()) {
            continue;
        }
        let mut world = World::new(Options::large(1, members));
        let began = Instant::now();
        for at in 1..=seconds {
            world.run_until(at * 1_000);
            if members >= 1_000 && at % 10 == 0 {
                eprintln!(
                    "{members:>5} members: {at} of {seconds} simulated seconds after {:.1} s",
                    began.elapsed().as_secs_f64()
                );
            }
        }
        let took = began.elapsed().as_secs_f64();
        if let Some((rule, why)) = &world.oracle.verdict {
            println!("{members} members: {rule} is broken: {why}");
            return true;
        }
        let memory = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown").trim().to_owned();
        println!(
            "{members:>5} members: {seconds} simulated seconds in {took:.1} s, {:.1} a second; peak memory {peak}",
            seconds as f64 / took
        );
    }
    false
}

/// What a commit is tried with. All of it runs, also where a part has failed.
fn gate(arguments: &Arguments) -> bool {
    let from = seed_of_commit();
    eprintln!("seeds from {from}, which is the commit's");
    let seeds = Arguments { from, seeds: if arguments.quick { 500 } else { 2_000 }, ..arguments.clone() };
    let mut failed = many(&seeds);
    failed |= plans(&Arguments { from: 0, ..arguments.clone() });
    if !arguments.quick {
        failed |= plans(&Arguments { from: 0, etcd: true, ..arguments.clone() });
    }
    // The longest first: the others fill up the other core meanwhile.
    let large: Vec<(u32, u64, u64)> =
        [(1_000, from, 60), (200, from, 150)].into_iter().chain((0..10).map(|n| (50, from + n, 240))).collect();
    let run = |(members, seed, seconds): &(u32, u64, u64)| {
        let mut world = World::new(Options::large_under_faults(*seed, *members, seconds * 1_000));
        world.run_until(seconds * 1_000);
        world.oracle.verdict
    };
    spread(&large, arguments.threads.unwrap_or_else(threads), run, |(members, seed, seconds), verdict| match verdict {
        None => eprintln!("{members} members, seed {seed}: {seconds} simulated seconds, no rule is broken"),
        Some((rule, why)) => {
            failed = true;
            println!("{members} members, seed {seed}: {rule} is broken: {why}");
        }
    });
    if !arguments.quick {
        match MassRestart::of(from, 1_000) {
            Ok(came) => eprintln!("a tenth of 1,000 pilots restarted at once: {came:?}"),
            Err(why) => {
                failed = true;
                println!("a tenth of 1,000 pilots restarted at once: {why}");
            }
        }
    }
    failed
}

/// A number that is the same for the same commit, and another for each other.
fn seed_of_commit() -> u64 {
    let head = std::process::Command::new("git").args(["rev-parse", "--short=8", "HEAD"]).output();
    let head = head.ok().and_then(|out| String::from_utf8(out.stdout).ok()).unwrap_or_default();
    u64::from_str_radix(head.trim(), 16).unwrap_or(0)
}

fn plans(arguments: &Arguments) -> bool {
    let seed = arguments.seed.unwrap_or(arguments.from);
    let database = if arguments.etcd { Kind::Etcd } else { Kind::Ring };
    let reached = match Plan::all(seed, database) {
        Ok(reached) => reached,
        Err(why) => {
            eprintln!("{why}");
            return true;
        }
    };
    let asked = |plan: &Plan| arguments.asks_for(&plan.to_string());
    let chosen: Vec<(&Reached, Plan)> = reached
        .iter()
        .flat_map(|from| from.plans().into_iter().map(move |plan| (from, plan)))
        .filter(|(_, plan)| asked(plan))
        .collect();
    let began = Instant::now();
    let (mut done, mut failed, mut excused) = (0u64, 0u64, 0u64);
    let mut told = began;
    let mut matrix: BTreeMap<(Step, &str), u64> = BTreeMap::new();
    let run = |(from, plan): &(&Reached, Plan)| plan.run(from);
    spread(&chosen, arguments.threads.unwrap_or_else(threads), run, |(_, plan), outcome| {
        done += 1;
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
        } else if chosen.len() == 1 {
            for line in &outcome.story {
                println!("  {line}");
            }
        }
        failed += u64::from(outcome.verdict.is_some());
        if told.elapsed() >= Duration::from_secs(30) {
            told = Instant::now();
            eprintln!("{done} of {} plans, {failed} failed, {:.0} s", chosen.len(), began.elapsed().as_secs_f64());
        }
    });
    if !arguments.json {
        print_matrix(&matrix);
    }
    eprintln!(
        "{} plans on {database:?} from seed {seed}, {failed} failed, {excused} left to a person, {:.0} s",
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
    let threads = arguments.threads.unwrap_or_else(threads);
    for bug in Planted::ALL.into_iter().filter(|bug| arguments.asks_for(&format!("{bug:?}"))) {
        // The first seed that finds it, whichever ends first.
        let mut found: Option<(u64, Rule, String)> = None;
        let end = arguments.from + arguments.seeds.max(20_000);
        swarm(
            arguments.from..end,
            threads,
            |seed| bug.options(seed),
            |ran| {
                if let Some((rule, why)) = ran.outcome.verdict {
                    let seed = ran.outcome.seed;
                    if found.as_ref().is_none_or(|(first, ..)| seed < *first) {
                        found = Some((seed, rule, why));
                    }
                }
                found.is_none()
            },
        );
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

fn tell(arguments: &Arguments, options: &Options, outcome: &Outcome) {
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
            "busiest": outcome.busiest,
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
