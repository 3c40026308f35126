//! Everything: the gate and what takes longer, in shards that can be resumed.
//!
//! A shard that passed on this commit is not run again (its mark lies in `target/e2e/COMMIT`), unless `--fresh`.
//! A shard that says `NOT SHOWN` has not passed and is not marked, whatever it ended with: that line, at the beginning
//! of a line on either of its outputs, is how every test of this workspace tells what this machine cannot show.

use clap::Parser;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How such a line begins.
const NOT_SHOWN: &str = "NOT SHOWN: ";
/// A shard that has ended has said its last word by then, unless something it started still holds its outputs.
const LAST_WORD: Duration = Duration::from_secs(10);

/// Runs all shards, or some.
#[derive(Parser)]
#[command(
    name = "cargo e2e",
    after_help = "\
KUBECONFIG names the cluster of the shard `kubernetes`; it also needs PILOT_E2E_PILOT_IMAGE, and to show all of it
PILOT_E2E_KILL_CONTAINER (see simulation/acceptance/tests/kubernetes_story/main.rs); conformance takes CONFORMANCE_IMAGE
(see simulation/acceptance/tests/conformance/main.rs).

Exit codes: 0 nothing failed, though the last line may say that something was NOT SHOWN; 1 a shard failed; 2 the command
line is wrong."
)]
struct Line {
    /// Lists the shards and what they show.
    #[arg(long)]
    list: bool,
    /// Runs only these shards; may be repeated.
    #[arg(long = "shard", value_name = "NAME")]
    shards: Vec<String>,
    /// Runs shards again that passed on this commit already.
    #[arg(long)]
    fresh: bool,
}

struct Shard {
    name: &'static str,
    shows: &'static str,
    env: &'static [(&'static str, &'static str)],
    argv: &'static [&'static str],
}

/// What has come of a shard.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// What it ran passed, but this is what it said it could not show.
    NotShown(Vec<String>),
}

const SHARDS: &[Shard] = &[
    Shard {
        name: "units",
        shows: "every crate's own tests",
        env: &[],
        argv: &["cargo", "test", "--workspace", "--lib", "--bins"],
    },
    Shard {
        name: "documentation",
        shows: "what the documentation of the code says compiles and holds",
        env: &[],
        argv: &["cargo", "test", "--workspace", "--doc"],
    },
    Shard {
        name: "crates",
        shows: "policies, bootstrap and agent from outside: launcher, memory, decisions, the Helm chart",
        env: &[("PILOT_FETCH_HELM", "1")],
        argv: &["cargo", "test", "-p", "policies", "-p", "bootstrap", "-p", "agent", "--test", "*"],
    },
    Shard {
        name: "model-kubernetes",
        shows: "the embedded API against real clients and kubectl, and against what a real Kubernetes answered",
        env: &[],
        // The shard `kubernetes` runs what is left out here.
        argv: &[
            "cargo",
            "test",
            "-p",
            "acceptance",
            "--test",
            "model_kubernetes",
            "--test",
            "conformance",
            "--",
            "--skip",
            "a_real_cluster_answers_as_recorded",
        ],
    },
    Shard {
        name: "model-database",
        shows: "the model database, and the conformance suite of drivers on it",
        env: &[],
        argv: &["cargo", "test", "-p", "simulation", "--test", "model_database"],
    },
    Shard {
        name: "sandbox-cli",
        shows: "the program sandbox as its users meet it, on the model database",
        env: &[],
        argv: &["cargo", "test", "-p", "simulation", "--test", "sandbox_cli"],
    },
    Shard {
        name: "decoders",
        shows: "every decoder of foreign bytes, on kept inputs and changed ones",
        env: &[],
        argv: &["cargo", "test", "-p", "simulation", "--test", "decoders"],
    },
    Shard {
        name: "fuzz",
        shows: "every decoder of foreign bytes under a fuzzer that sees the code, 15 s each",
        env: &[],
        argv: &["cargo", "run", "-p", "simulation", "--bin", "fuzz"],
    },
    Shard {
        name: "scenarios",
        shows: "the simulator's named scenarios, and what every commit is tried with",
        env: &[],
        argv: &["cargo", "test", "-p", "engine", "--test", "scenarios", "--test", "gate"],
    },
    Shard {
        name: "in-process",
        shows: "the real asynchronous agent on a model machine: every await of every adapter late, wrong or the last",
        env: &[],
        argv: &["cargo", "test", "-p", "acceptance", "--test", "in_process"],
    },
    Shard {
        name: "swarm",
        shows: "2,000 seeds of the commit, all plans on both model databases, and large clusters in the simulator, in release",
        env: &[],
        argv: &["cargo", "run", "--release", "-p", "engine", "--bin", "simulate", "--", "--gate"],
    },
    Shard {
        name: "fresh-seeds",
        shows: "a quarter of an hour of seeds that nobody has run before",
        env: &[],
        argv: &["cargo", "run", "--release", "-p", "engine", "--bin", "simulate", "--", "--hours", "0.25", "--fresh"],
    },
    Shard {
        name: "planted",
        shows: "the planted bugs are found",
        env: &[],
        argv: &["cargo", "run", "--release", "-p", "engine", "--bin", "simulate", "--", "--planted"],
    },
    Shard {
        name: "cassandra-driver",
        shows: "the driver on real Cassandra",
        env: &[],
        argv: &["cargo", "test", "-p", "acceptance", "--test", "cassandra_driver"],
    },
    Shard {
        name: "stories-first",
        shows: "the first mesh on real Cassandra, short waits",
        env: &[("PILOT_STORIES", "first")],
        argv: &["cargo", "test", "-p", "acceptance", "--test", "stories"],
    },
    Shard {
        name: "stories-slow",
        shows: "a leave cut off by a short grace, slow streaming",
        env: &[("PILOT_STORIES", "slow")],
        argv: &["cargo", "test", "-p", "acceptance", "--test", "stories"],
    },
    Shard {
        name: "stories-stock",
        shows: "the first mesh with Cassandra's own waits",
        env: &[("PILOT_STORIES", "first"), ("PILOT_STOCK_TIMING", "1")],
        argv: &["cargo", "test", "-p", "acceptance", "--test", "stories"],
    },
    Shard {
        name: "tour",
        shows: "the README's main command",
        env: &[],
        argv: &["cargo", "run", "--release", "--bin", "sandbox"],
    },
    Shard {
        name: "kubernetes",
        shows: "conformance and the stories on a real Kubernetes, with kubectl and Helm: KUBECONFIG's, or one at hand",
        env: &[],
        argv: &[".ci/kubernetes"],
    },
];

fn main() -> ExitCode {
    let line = Line::parse();
    if line.list {
        for shard in SHARDS {
            println!("{:<18} {}", shard.name, shard.shows);
        }
        return ExitCode::SUCCESS;
    }
    let unknown: Vec<&String> = line.shards.iter().filter(|n| SHARDS.iter().all(|s| s.name != n.as_str())).collect();
    if !unknown.is_empty() {
        eprintln!("no such shard: {unknown:?}; `cargo e2e --list` tells their names");
        return ExitCode::from(2);
    }
    let (Some(root), Some(marks)) = (root(), marks()) else {
        eprintln!("the commit cannot be told (`git rev-parse HEAD` failed): shards are marked by it");
        return ExitCode::FAILURE;
    };
    let (mut passed, mut failed, mut not_shown) = (0u32, 0u32, Vec::new());
    for shard in SHARDS {
        if !line.shards.is_empty() && !line.shards.iter().any(|n| n == shard.name) {
            continue;
        }
        let mark = marks.join(shard.name);
        if mark.exists() && !line.fresh {
            println!("{}: passed before on this commit", shard.name);
            passed += 1;
            continue;
        }
        println!("{}: {}", shard.name, shard.shows);
        let begun = Instant::now();
        let outcome = run(shard, &root, std::io::stdout(), std::io::stderr());
        let after = format!("after {:.0} s", begun.elapsed().as_secs_f64());
        match outcome {
            Outcome::Passed => {
                println!("{}: passed {after}", shard.name);
                passed += 1;
                keep(&marks, &mark, shard.name);
            }
            Outcome::Failed => {
                println!("{}: FAILED {after}", shard.name);
                failed += 1;
            }
            Outcome::NotShown(what) => {
                println!("{}: NOT SHOWN, all or in part, {after}", shard.name);
                not_shown.push((shard.name, what));
            }
        }
    }
    println!();
    for (name, what) in &not_shown {
        for line in what {
            println!("{name}: {line}");
        }
    }
    println!("{passed} shards passed, {failed} failed, NOT SHOWN: {}", not_shown.len());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Remembers that a shard passed, if the commit is still the one that it was begun on.
fn keep(begun_on: &Path, mark: &Path, name: &str) {
    if marks().as_deref() != Some(begun_on) {
        println!("{name}: not marked, as the working tree has changed meanwhile");
    } else if let Err(error) = std::fs::create_dir_all(begun_on).and_then(|()| std::fs::write(mark, "")) {
        eprintln!("{name}: cannot be marked: {error}");
    }
}

/// Runs a shard, passes on what it says, and hears what it could not show.
fn run(shard: &Shard, root: &Path, out: impl Write + Send + 'static, err: impl Write + Send + 'static) -> Outcome {
    let Some((program, arguments)) = shard.argv.split_first() else {
        return Outcome::Failed;
    };
    let mut command = Command::new(if program.contains('/') { root.join(program) } else { PathBuf::from(program) });
    command.args(arguments).current_dir(root);
    // What cargo tells this very program of its package. Build scripts are run anew wherever it changes, and so half of
    // everything would be built twice: once for whoever calls cargo, once for this.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|of| name.to_string_lossy().starts_with(of)) {
            command.env_remove(name);
        }
    }
    command.envs(shard.env.iter().copied());
    let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("{}: cannot start {program}: {error}", shard.name);
            return Outcome::Failed;
        }
    };
    let (heard, lines) = channel();
    if let Some(from) = child.stdout.take() {
        pass_on(from, out, heard.clone());
    }
    if let Some(from) = child.stderr.take() {
        pass_on(from, err, heard);
    }
    let status = child.wait();
    let mut not_shown: Vec<String> = Vec::new();
    loop {
        match lines.recv_timeout(LAST_WORD) {
            Ok(line) => not_shown.push(line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                eprintln!("{}: something that it started has not ended with it", shard.name);
                return Outcome::Failed;
            }
        }
    }
    match status {
        Ok(status) if status.success() && not_shown.is_empty() => Outcome::Passed,
        Ok(status) if status.success() => Outcome::NotShown(not_shown),
        Ok(_) => Outcome::Failed,
        Err(error) => {
            eprintln!("{}: how it ended cannot be told: {error}", shard.name);
            Outcome::Failed
        }
    }
}

/// Copies until the other end is closed, and tells of each line that says that something is not shown.
fn pass_on(from: impl Read + Send + 'static, mut to: impl Write + Send + 'static, heard: Sender<String>) {
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            // Where nobody reads this any more, the shard still must be heard to its end.
            let _ = to.write_all(&line).and_then(|()| to.flush());
            let text = String::from_utf8_lossy(&line);
            if is_not_shown(&text) && heard.send(text.trim_end().to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
}

/// Whether this line tells of something that no shard shows. One that says by which variable it would be shown is
/// about another shard, if there is one that sets it so.
fn is_not_shown(line: &str) -> bool {
    let elsewhere = |(name, value): &(&str, &str)| line.contains(&format!("({name}={value} shows"));
    line.starts_with(NOT_SHOWN) && !SHARDS.iter().flat_map(|shard| shard.env).any(elsewhere)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The working tree.
fn root() -> Option<PathBuf> {
    git(&["rev-parse", "--show-toplevel"]).map(PathBuf::from)
}

/// Where this commit's marks lie. Uncommitted changes get a place of their own that is never believed again.
fn marks() -> Option<PathBuf> {
    let commit = git(&["rev-parse", "HEAD"])?;
    let clean = git(&["status", "--porcelain"])?.is_empty();
    let name = if clean { commit } else { format!("{commit}-changed-{}", std::process::id()) };
    Some(root()?.join("target").join("e2e").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::collections::BTreeSet;

    fn shard(script: &'static [&'static str]) -> Shard {
        Shard { name: "a", shows: "b", env: &[], argv: script }
    }

    fn outcome(script: &'static [&'static str]) -> Outcome {
        // Not passed on: what these say would be taken for the word of whoever runs this test.
        run(&shard(script), Path::new("/"), std::io::sink(), std::io::sink())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Line::command().debug_assert();
    }

    #[test]
    fn what_says_not_shown_has_not_passed_although_it_ends_well() {
        let line = || vec!["NOT SHOWN: 1 test: flight: no wings".to_owned()];
        assert_eq!(outcome(&["sh", "-c", "echo test a ... ok; echo NOT SHOWN is a word here"]), Outcome::Passed);
        assert_eq!(outcome(&["sh", "-c", "echo 'NOT SHOWN: 1 test: flight: no wings'"]), Outcome::NotShown(line()));
        assert_eq!(
            outcome(&["sh", "-c", "echo 'NOT SHOWN: 1 test: flight: no wings' >&2; echo ok"]),
            Outcome::NotShown(line())
        );
        assert_eq!(outcome(&["sh", "-c", "echo 'NOT SHOWN: 1 test: flight'; exit 1"]), Outcome::Failed);
        assert_eq!(outcome(&["/nonexistent"]), Outcome::Failed);
    }

    #[test]
    fn what_another_shard_shows_is_shown() {
        assert!(!is_not_shown("NOT SHOWN: 5 stories on the slow mesh (PILOT_STORIES=slow shows them)\n"));
        assert!(is_not_shown("NOT SHOWN: 5 stories on the moon (PILOT_STORIES=moon shows them)\n"));
    }

    #[test]
    fn every_shard_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = SHARDS.iter().map(|shard| shard.name).collect();
        assert_eq!(names.len(), SHARDS.len());
    }

    /// The integration tests that this shard runs, as package and name.
    fn runs(shard: &Shard) -> Vec<(&str, &str)> {
        // That script runs two tests of cargo's, whatever else it prepares.
        if shard.argv == [".ci/kubernetes"] {
            return vec![("acceptance", "conformance"), ("acceptance", "kubernetes_story")];
        }
        let after = |flag: &str| {
            let flag = flag.to_owned();
            shard.argv.windows(2).filter(move |pair| pair[0] == flag).map(|pair| pair[1])
        };
        after("-p").flat_map(|package| after("--test").map(move |test| (package, test))).collect()
    }

    #[test]
    fn no_test_of_the_workspace_is_left_out_of_the_shards() {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let told = Command::new(cargo)
            .args(["metadata", "--no-deps", "--offline", "--format-version=1", "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .output()
            .expect("cargo starts");
        let told: serde_json::Value = serde_json::from_slice(&told.stdout).expect("cargo metadata prints JSON");
        let mut seen = 0;
        for package in told["packages"].as_array().expect("packages") {
            for target in package["targets"].as_array().expect("targets") {
                let (package, name) = (package["name"].as_str().expect("text"), target["name"].as_str().expect("text"));
                let kinds: Vec<&str> =
                    target["kind"].as_array().expect("kinds").iter().filter_map(|kind| kind.as_str()).collect();
                match kinds.as_slice() {
                    // `units` and `documentation` run these, of all packages.
                    ["lib" | "bin"] => {}
                    ["test"] => {
                        seen += 1;
                        let covered =
                            SHARDS.iter().flat_map(runs).any(|ran| ran == (package, name) || ran == (package, "*"));
                        assert!(covered, "no shard runs the test {name} of {package}");
                    }
                    other => panic!("no shard is known to run targets of kind {other:?}: {name} of {package}"),
                }
            }
        }
        assert!(seen > 5, "cargo metadata told of {seen} tests");
        let all = |flags: &[&str]| SHARDS.iter().any(|shard| shard.argv == [&["cargo", "test"], flags].concat());
        assert!(all(&["--workspace", "--lib", "--bins"]) && all(&["--workspace", "--doc"]));
    }
}
