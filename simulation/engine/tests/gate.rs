//! What every commit is tried with in simulated time: 500 seeds drawn from the commit, every plan of every workload, and
//! clusters of 50, 200 and 1,000 members. 2,000 seeds, the plans on etcd and a mass restart are in `cargo e2e --shard swarm`.

use std::process::Command;

#[test]
fn seeds_of_the_commit_all_plans_and_large_clusters_break_no_rule() {
    // As a process of its own, so that its progress is seen while the test runs.
    let ran =
        Command::new(env!("CARGO_BIN_EXE_simulate")).args(["--gate", "--quick"]).status().expect("simulate starts");
    assert!(
        ran.success(),
        "above is which seed or plan failed; `cargo run --release --bin simulate -- --seed N` replays it"
    );
}
