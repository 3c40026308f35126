//! The real asynchronous agent in process: real chitchat, real streams, the real Kubernetes client, the real loop, on one
//! thread with a paused clock; the machine under it (network, disk, launcher, database, API server) is a model.
//!
//! What the simulator cannot reach is here: every await of every adapter may be late, fail, be done and say otherwise,
//! break off, or be the last of its task. Each run is a process of its own, so that one seed gives one trace: hash maps
//! and tokio count from the beginning of a process.
//!
//! `cargo test -p acceptance --test in_process -- --seed 7 --drawn` tells the story of one run.

mod api;
mod codec;
mod driver;
mod entropy;
mod faults;
mod kube;
mod launcher;
mod machine;
mod network;
mod run;
mod world;

use faults::{ADAPTERS, KINDS, impossible};
use run::{Options, Outcome, Weather};
use std::collections::{BTreeMap, VecDeque};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::Instant;

/// Seeds of faults that every commit is tried with.
const SEEDS: u64 = 20;

/// What is not reached here, and why.
const HOLES: &[&str] = &[
    "restarts of a watch: a pilot asks the API again and again and holds no watch",
    "faults inside of chitchat's own codec: it is a socket of the loopback that chitchat opens itself",
    "the endpoints, the policy file and the key folder: nothing is decided from a connection or a look at them",
    "leaves and rolling restarts: the simulator has them, over the same machine",
];

type Test = (&'static str, fn() -> Result<(), String>);

const TESTS: &[Test] = &[
    ("three_agents_found_one_cluster_and_follow_one_coordinator", || calm(3)),
    ("five_agents_found_one_cluster_and_follow_one_coordinator", || calm(5)),
    ("one_seed_leaves_one_trace", one_seed_leaves_one_trace),
    ("whatever_befalls_an_await_the_mesh_is_at_rest_again_when_it_is_over", drawn),
    ("the_same_holds_where_gossip_speaks_in_chitchats_own_bytes", own_bytes),
    ("every_kind_of_fault_at_every_adapter_is_reached_and_healed", matrix),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(options) = told(&arguments) {
        return child(options);
    }
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, _) in TESTS {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let filter: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let chosen: Vec<&Test> =
        TESTS.iter().filter(|(name, _)| filter.is_empty() || filter.iter().any(|part| name.contains(*part))).collect();
    println!("\nrunning {} tests", chosen.len());
    let mut failed = 0;
    for (name, test) in &chosen {
        let began = Instant::now();
        match test() {
            Ok(()) => println!("test {name} ... ok ({:.1} s)", began.elapsed().as_secs_f64()),
            Err(why) => {
                failed += 1;
                println!("test {name} ... FAILED\n{why}");
            }
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    let (passed, left_out) = (chosen.len() - failed, TESTS.len() - chosen.len());
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {left_out} filtered out\n"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The run that the arguments ask for, if they ask for one.
fn told(arguments: &[String]) -> Option<Options> {
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).and_then(|text| text.parse::<u64>().ok())
    };
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let weather = match value("--each").and_then(|at| ADAPTERS.get(usize::try_from(at).ok()?).copied()) {
        Some(adapter) => Weather::Each(adapter),
        None if has("--drawn") => Weather::Drawn,
        None => Weather::Calm,
    };
    let size = u32::try_from(value("--size").unwrap_or(3)).unwrap_or(3);
    let own_bytes = has("--own-bytes");
    Some(Options { seed: value("--seed")?, size, weather, own_bytes, shown: !has("--quiet") })
}

/// One run, alone in its process; the last line is what came of it.
fn child(options: Options) -> ExitCode {
    entropy::sow(options.seed);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.payload().is::<world::Asked>() {
            usual(panic);
        }
    }));
    let keys = match keys() {
        Ok(keys) => keys,
        Err(error) => {
            eprintln!("no folder for keys: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    if options.own_bytes {
        builder.enable_io();
    }
    // Without that there are no sockets: whatever would wait for the system fails at once.
    let runtime = match builder.build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run::run(options, keys.path()));
    match serde_json::to_string(&outcome) {
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("{error}"),
    }
    if outcome.broken.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn keys() -> std::io::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("k1"), [7_u8; 32])?;
    Ok(folder)
}

/// A run in a process of its own.
fn ran(arguments: &[String]) -> Result<Outcome, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program).args(arguments).arg("--quiet").output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().last().unwrap_or_default();
    let outcome: Outcome =
        serde_json::from_str(last).map_err(|error| format!("{}: {error}: {text}{complaints}", arguments.join(" ")))?;
    match &outcome.broken {
        Some(why) => Err(format!("{}: {why}\n{complaints}", arguments.join(" "))),
        None => Ok(outcome),
    }
}

/// Runs at a time as many as this machine has cores, in order.
fn all_of(runs: Vec<Vec<String>>) -> Vec<Result<Outcome, String>> {
    let many = std::thread::available_parallelism().map_or(1, usize::from);
    let waiting = Mutex::new(runs.into_iter().enumerate().collect::<VecDeque<_>>());
    let done = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..many {
            scope.spawn(|| {
                while let Some((at, run)) = { world::lock(&waiting).pop_front() } {
                    let outcome = ran(&run);
                    world::lock(&done).insert(at, outcome);
                }
            });
        }
    });
    done.into_inner().unwrap_or_default().into_values().collect()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn calm(size: u32) -> Result<(), String> {
    let outcome = ran(&words(&format!("--seed 1 --size {size}")))?;
    println!("  at rest after {} simulated ms, {} lines of trace", outcome.took, outcome.lines);
    match outcome.ends.is_empty() {
        true => Ok(()),
        false => Err(format!("agents ended in calm weather: {:?}", outcome.ends)),
    }
}

fn one_seed_leaves_one_trace() -> Result<(), String> {
    let kinds = ["--seed 1", "--seed 3 --drawn", "--seed 4 --drawn --size 4"];
    let runs = kinds.iter().chain(&kinds).map(|text| words(text)).collect();
    let outcomes = all_of(runs).into_iter().collect::<Result<Vec<Outcome>, String>>()?;
    let (first, second) = outcomes.split_at(kinds.len());
    for ((kind, a), b) in kinds.iter().zip(first).zip(second) {
        if (a.hash, a.lines) != (b.hash, b.lines) {
            return Err(format!("{kind}: {:x} of {} lines, then {:x} of {}", a.hash, a.lines, b.hash, b.lines));
        }
    }
    match first.iter().zip(&first[1..]).all(|(a, b)| a.hash != b.hash) {
        true => Ok(()),
        false => Err("different seeds leave the same trace: nothing is drawn from them".to_owned()),
    }
}

fn drawn() -> Result<(), String> {
    let runs = (0..SEEDS).map(|seed| words(&format!("--seed {} --drawn", 100 + seed))).collect();
    judge(all_of(runs), false)
}

/// Its codec is a socket of the loopback, so these leave no trace that could be compared.
fn own_bytes() -> Result<(), String> {
    let runs = (0..3).map(|seed| words(&format!("--seed {} --own-bytes --drawn", 200 + seed))).collect();
    judge(all_of(runs), false)
}

fn matrix() -> Result<(), String> {
    let runs = (0..ADAPTERS.len()).map(|at| words(&format!("--seed {at} --each {at}"))).collect();
    judge(all_of(runs), true)
}

/// Nothing was broken; prints what was reached, and with which words agents ended.
fn judge(outcomes: Vec<Result<Outcome, String>>, all_reached: bool) -> Result<(), String> {
    let mut reached: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    let mut ends: BTreeMap<String, u64> = BTreeMap::new();
    let mut failures = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(outcome) => {
                for (adapter, kind, count) in outcome.reached {
                    *reached.entry((adapter, kind)).or_default() += count;
                }
                for (word, count) in outcome.ends {
                    *ends.entry(word).or_default() += count;
                }
            }
            Err(why) => failures.push(why),
        }
    }
    println!("  {:<18}{}", "", KINDS.iter().map(|kind| format!("{kind:>12}")).collect::<String>());
    let mut holes = Vec::new();
    for (at, adapter) in ADAPTERS.iter().enumerate() {
        let cell = |place: usize, kind: &faults::Kind| match impossible(*adapter, *kind) {
            Some(_) => "-".to_owned(),
            None => reached.get(&(at, place)).map_or("never".to_owned(), u64::to_string),
        };
        let cells: Vec<String> = KINDS.iter().enumerate().map(|(place, kind)| cell(place, kind)).collect();
        println!("  {adapter:<18}{}", cells.iter().map(|cell| format!("{cell:>12}")).collect::<String>());
        holes.extend(cells.iter().zip(KINDS).filter(|(c, _)| *c == "never").map(|(_, k)| format!("{adapter}, {k}")));
    }
    for (word, count) in &ends {
        println!("  {count} times an agent ended: {word}");
    }
    if all_reached {
        for adapter in ADAPTERS {
            for kind in KINDS {
                if let Some(why) = impossible(adapter, kind) {
                    println!("  left out: {adapter}, {kind}: {why}");
                }
            }
        }
        for hole in HOLES {
            println!("  left out: {hole}");
        }
        failures.extend(holes.iter().map(|hole| format!("never reached: {hole}")));
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(failures.join("\n")),
    }
}
