//! What must be shown on real Cassandra: one mesh, story after story, a client writing at QUORUM all the while.
//!
//! The stories build on each other, so this program runs them itself, in order, and prints what the test runner prints.
//! Without a word the gate's mesh is told; `PILOT_STORIES=slow` tells the other one, `PILOT_STORIES=all` both. What is
//! left out is printed as `NOT SHOWN`, with a count.

use simulation::sandbox::distribution::{Progress, ensure_cassandra};
use simulation::sandbox::engine::{Database, Options, Sandbox};
use simulation::sandbox::layout::Layout;
use simulation::story::{
    Stage, StoryError, coordinators, deaths, founding, membership, outages, replacement, returns, roll, rows, steps,
};
use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Instant;

type Told<'a> = Pin<Box<dyn Future<Output = Result<(), StoryError>> + 'a>>;
type Story = (&'static str, for<'a> fn(&'a mut Stage) -> Told<'a>);

/// The policy of the gate: quick to drain, short pauses, everything else balanced.
const POLICY: &str = "apiVersion: pilotmesh.io/v1alpha1\nkind: ClusterPolicy\nmetadata: { name: gate }\nspec:\n  restart: { timeToDrain: 10s, stopTimeout: 30s }\n  scale: { settle: 1s }\n  rollout: { settle: 2s }\n";

/// One mesh from nothing, through everything that may befall it.
const FIRST: &[Story] = &[
    ("nobody_founds_while_one_declared_member_has_not_answered", |s| Box::pin(founding::founding_waits(s))),
    ("three_members_form_one_after_the_other", |s| Box::pin(steps::form(s, 3))),
    ("rows_are_written_from_here_to_the_end", |s| Box::pin(rows::write(s))),
    ("a_member_whose_volume_is_lost_is_replaced_once_a_person_approves_it", |s| Box::pin(replacement::lost_volume(s))),
    ("a_killed_database_is_back_locally_at_once", |s| Box::pin(steps::kill_database(s, "cassandra-1"))),
    ("a_killed_database_is_back_also_without_api_and_without_its_agent", |s| Box::pin(deaths::kill_database_alone(s))),
    ("a_fourth_member_joins_by_grant", |s| Box::pin(steps::scale(s, 4))),
    ("the_fourth_leaves_confirmed_by_peers_before_its_pod_ends", |s| Box::pin(steps::scale(s, 3))),
    ("the_kept_claim_takes_a_new_identity_and_its_old_data_is_moved_aside", |s| {
        Box::pin(membership::rejoin_on_kept_claim(s))
    }),
    ("the_coordinator_killed_inside_a_leave_is_replaced_and_the_leave_ends_once", |s| {
        Box::pin(steps::kill_coordinator_while_leaving(s, 3))
    }),
    ("the_leaving_pods_own_agent_killed_leaves_the_rest_to_its_launcher", |s| {
        Box::pin(membership::leave_without_own_agent(s))
    }),
    ("a_scale_in_below_the_replication_factor_is_undone_and_said", |s| Box::pin(membership::refused_scale_in(s))),
    ("an_idle_coordinator_killed_is_replaced_and_no_database_notices", |s| {
        Box::pin(coordinators::kill_idle_coordinator(s))
    }),
    ("a_write_of_a_stopped_coordinator_is_refused_when_it_wakes", |s| Box::pin(coordinators::late_write_is_refused(s))),
    ("a_coordinator_cut_off_with_a_minority_refuses_and_the_majority_acts", |s| {
        Box::pin(coordinators::minority_refuses(s))
    }),
    ("without_the_api_everything_serves_and_nothing_is_decided", |s| Box::pin(outages::outage_idle(s))),
    ("a_join_goes_on_while_the_api_is_away_and_ends_when_it_is_back", |s| Box::pin(outages::outage_in_mid_join(s))),
    ("who_alone_reaches_the_api_leads", |s| Box::pin(outages::who_reaches_the_api_leads(s))),
    ("all_pods_killed_at_once_return_as_the_same_members_at_new_addresses", |s| Box::pin(returns::all_pods_killed(s))),
    ("the_founder_replaced_and_all_stopped_one_alone_starts", |s| Box::pin(returns::one_alone_starts(s))),
    ("a_changed_template_rolls_one_member_at_a_time", |s| Box::pin(roll::roll(s))),
    ("a_crash_loop_is_slowed_down_and_told_and_the_volume_stays", |s| Box::pin(deaths::crash_loop(s))),
    ("no_older_epoch_committed_after_a_newer_stamp", |s| Box::pin(rows::epochs(s))),
    ("no_database_ended_that_nobody_killed", |s| Box::pin(rows::restarts(s))),
    // It leaves a mesh without a record: only what needs none comes after it.
    ("nothing_is_founded_again_where_a_claim_carries_an_identity", |s| Box::pin(founding::second_founding_refused(s))),
    ("every_acknowledged_row_is_read_back", |s| Box::pin(rows::all_rows(s))),
];

/// A mesh whose databases stream slowly and whose pods get little time.
const SLOW: &[Story] = &[
    ("three_members_form_one_after_the_other", |s| Box::pin(steps::form(s, 3))),
    ("a_fourth_member_joins_by_grant", |s| Box::pin(steps::scale(s, 4))),
    ("data_enough_for_a_slow_leave_is_written", |s| Box::pin(rows::write_much(s))),
    ("a_leave_cut_off_by_a_short_grace_is_resumed_after_the_pod_is_back_and_ends_once", |s| {
        Box::pin(membership::leave_cut_off(s))
    }),
    ("every_acknowledged_row_is_read_back", |s| Box::pin(rows::all_rows(s))),
    ("no_older_epoch_committed_after_a_newer_stamp", |s| Box::pin(rows::epochs(s))),
    ("no_database_ended_that_nobody_killed", |s| Box::pin(rows::restarts(s))),
];

fn main() -> ExitCode {
    if let Some(code) = simulation::sandbox::multicall::run_as_pilot() {
        return code;
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(run())
}

async fn run() -> ExitCode {
    let only = std::env::var("PILOT_STORIES").unwrap_or_else(|_| "first".to_owned());
    let begun = Instant::now();
    let home = match ensure_cassandra(Progress::Shown) {
        Ok(home) => home,
        Err(error) => {
            eprintln!("{error}");
            println!("test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out");
            return ExitCode::FAILURE;
        }
    };
    let mut passed = 0u32;
    let mut failed = 0u32;
    let mut left_out = 0u32;
    for (stage_name, stories, octet, grace, streaming) in
        [("first", FIRST, 51u8, 90u64, None), ("slow", SLOW, 52, 20, Some(1u32))]
    {
        if stage_name != only && only != "all" {
            println!(
                "NOT SHOWN: {} stories on the {stage_name} mesh (PILOT_STORIES={stage_name} shows them)",
                stories.len()
            );
            left_out += u32::try_from(stories.len()).unwrap_or(0);
            continue;
        }
        println!("\nrunning {} stories on the {stage_name} mesh", stories.len());
        let folder = match tempfile::tempdir() {
            Ok(folder) => folder,
            Err(error) => {
                eprintln!("no folder: {error}");
                return ExitCode::FAILURE;
            }
        };
        let options = Options {
            layout: Layout::new(folder.path().join("sandbox")),
            replicas: 3,
            database: Database::Cassandra(home.clone()),
            policy: POLICY.to_owned(),
            pilot: None,
            stock_timing: std::env::var_os("PILOT_STOCK_TIMING").is_some(),
            grace,
            octet,
            streaming,
        };
        let sandbox = match Sandbox::start(options).await {
            Ok(sandbox) => sandbox,
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        };
        let mut stage = Stage::new(sandbox);
        let mut broken = false;
        for (name, story) in stories {
            if broken {
                println!("test {stage_name}::{name} ... FAILED (an earlier story failed, this one was not begun)");
                failed += 1;
                continue;
            }
            let at = Instant::now();
            match story(&mut stage).await {
                Ok(()) => {
                    passed += 1;
                    println!("test {stage_name}::{name} ... ok ({:.0} s)", at.elapsed().as_secs_f64());
                }
                Err(error) => {
                    failed += 1;
                    broken = true;
                    println!("test {stage_name}::{name} ... FAILED ({:.0} s)\n    {error}", at.elapsed().as_secs_f64());
                }
            }
        }
        println!("\n{}", stage.evidence.render());
        if broken {
            rows::print_logs(stage.sandbox.options().layout.root());
        }
        stage.sandbox.shutdown().await;
    }
    println!(
        "test result: {}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {left_out} filtered out; finished in {:.2}s\n",
        if failed == 0 { "ok" } else { "FAILED" },
        begun.elapsed().as_secs_f64()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
