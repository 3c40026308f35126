//! Everything: the gate and what takes longer, in shards that can be resumed.
//!
//! A shard that passed on this commit is not run again (its mark lies in `target/e2e/COMMIT`), unless `--fresh`.
//! What cannot run here is told as `NOT SHOWN` and counts as not shown.

use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Runs all shards, or some.
#[derive(Parser)]
struct Line {
    /// Lists the shards and what they show.
    #[arg(long)]
    list: bool,
    /// Runs only these shards; may be repeated.
    #[arg(long = "shard")]
    shards: Vec<String>,
    /// Runs shards again that passed on this commit already.
    #[arg(long)]
    fresh: bool,
}

/// What a shard needs of the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// A cluster that `KUBECONFIG` names.
    Kubernetes,
}

struct Shard {
    name: &'static str,
    shows: &'static str,
    needs: Needs,
    env: &'static [(&'static str, &'static str)],
    argv: &'static [&'static str],
}

const SHARDS: &[Shard] = &[
    Shard {
        name: "units",
        shows: "every crate's own tests",
        needs: Needs::Nothing,
        env: &[],
        argv: &["cargo", "test", "--workspace", "--lib", "--bins"],
    },
    Shard {
        name: "crates",
        shows: "protocol, policies, bootstrap and agent from outside",
        needs: Needs::Nothing,
        env: &[],
        argv: &["cargo", "test", "-p", "protocol", "-p", "policies", "-p", "bootstrap", "-p", "agent"],
    },
    Shard {
        name: "model-kubernetes",
        shows: "the embedded API against real clients and kubectl",
        needs: Needs::Nothing,
        env: &[],
        argv: &["cargo", "test", "-p", "simulation", "--test", "model_kubernetes"],
    },
    Shard {
        name: "scenarios",
        shows: "the simulator's named scenarios",
        needs: Needs::Nothing,
        env: &[],
        argv: &["cargo", "test", "-p", "simulation", "--test", "scenarios"],
    },
    Shard {
        name: "swarm",
        shows: "2,000 seeds of the simulator, in release",
        needs: Needs::Nothing,
        env: &[],
        argv: &["cargo", "run", "--release", "-p", "simulation", "--bin", "simulate", "--", "--seeds", "2000"],
    },
    Shard {
        name: "planted",
        shows: "the planted bugs are found",
        needs: Needs::Nothing,
        env: &[],
        argv: &["cargo", "run", "--release", "-p", "simulation", "--bin", "simulate", "--", "--planted"],
    },
    Shard {
        name: "cassandra-driver",
        shows: "the driver on real Cassandra",
        needs: Needs::Nothing,
        env: &[],
        argv: &["cargo", "test", "-p", "simulation", "--test", "cassandra_driver"],
    },
    Shard {
        name: "stories-first",
        shows: "the first mesh on real Cassandra, short waits",
        needs: Needs::Nothing,
        env: &[("PILOT_STORIES", "first")],
        argv: &["cargo", "test", "-p", "simulation", "--test", "stories"],
    },
    Shard {
        name: "stories-slow",
        shows: "a leave cut off by a short grace, slow streaming",
        needs: Needs::Nothing,
        env: &[("PILOT_STORIES", "slow")],
        argv: &["cargo", "test", "-p", "simulation", "--test", "stories"],
    },
    Shard {
        name: "stories-stock",
        shows: "the first mesh with Cassandra's own waits",
        needs: Needs::Nothing,
        env: &[("PILOT_STORIES", "first"), ("PILOT_STOCK_TIMING", "1")],
        argv: &["cargo", "test", "-p", "simulation", "--test", "stories"],
    },
    Shard {
        name: "tour",
        shows: "the README's main command",
        needs: Needs::Nothing,
        env: &[],
        argv: &["cargo", "run", "--release", "--bin", "sandbox"],
    },
    Shard {
        name: "kubernetes",
        shows: "the story on a real Kubernetes",
        needs: Needs::Kubernetes,
        env: &[],
        argv: &["cargo", "test", "-p", "simulation", "--test", "kubernetes_story"],
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
    let Some(marks) = marks() else {
        eprintln!("the commit cannot be told (`git rev-parse HEAD` failed): shards are marked by it");
        return ExitCode::FAILURE;
    };
    let (mut passed, mut failed, mut not_shown) = (0u32, 0u32, 0u32);
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
        if shard.needs == Needs::Kubernetes && std::env::var_os("KUBECONFIG").is_none() {
            println!("NOT SHOWN: {}: {} (set KUBECONFIG to a cluster)", shard.name, shard.shows);
            not_shown += 1;
            continue;
        }
        println!("{}: {}", shard.name, shard.shows);
        let begun = Instant::now();
        if run(shard) {
            println!("{}: passed after {:.0} s", shard.name, begun.elapsed().as_secs_f64());
            if let Err(error) = std::fs::create_dir_all(&marks).and_then(|()| std::fs::write(&mark, "")) {
                eprintln!("{}: cannot be marked: {error}", shard.name);
            }
            passed += 1;
        } else {
            println!("{}: FAILED after {:.0} s", shard.name, begun.elapsed().as_secs_f64());
            failed += 1;
        }
    }
    println!("{passed} passed, {failed} failed, {not_shown} not shown");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(shard: &Shard) -> bool {
    let Some((program, arguments)) = shard.argv.split_first() else {
        return false;
    };
    let mut command = Command::new(program);
    command.args(arguments).envs(shard.env.iter().copied());
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("{}: cannot start {program}: {error}", shard.name);
            false
        }
    }
}

/// Where this commit's marks lie. Uncommitted changes get a place of their own that is never believed again.
fn marks() -> Option<PathBuf> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let root = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?);
    let clean = git(&["status", "--porcelain"])?.is_empty();
    let name = if clean { commit } else { format!("{commit}-changed-{}", std::process::id()) };
    Some(Path::new(&root).join("target").join("e2e").join(name))
}
