//! One story on a real Kubernetes: the manifest of the documentation, real kubectl, a real Cassandra.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `KUBECONFIG` | the cluster; a namespace of its own is made in it and removed again |
//! | `PILOT_E2E_PILOT_IMAGE` | the pilot's image, as the cluster pulls it or has it |
//! | `PILOT_E2E_CASSANDRA_IMAGE` | Cassandra's; default `cassandra:5.0` |
//! | `PILOT_E2E_LOAD_IMAGES` | a command that brings the images to the cluster, run first |
//! | `PILOT_E2E_KILL_CONTAINER` | a command that kills a container; gets node and container id |
//! | `PILOT_E2E_KEEP` | the namespace is left behind |
//!
//! The stories build on each other, so this program runs them itself, in order, and prints what the test runner prints.
//! What cannot be shown here says `NOT SHOWN`.

#![allow(missing_docs, reason = "a program, not a library")]

mod cluster;
mod manifest;
mod story;
mod watch;

use cluster::{Cluster, kubectl};
use manifest::Images;
use std::future::Future;
use std::pin::Pin;
use std::process::{Command, ExitCode};
use std::time::{Instant, SystemTime};
use story::{Outcome, Story, Told};

type Telling<'a> = Pin<Box<dyn Future<Output = Outcome> + 'a>>;
type Part = (&'static str, for<'a> fn(&'a mut Story) -> Telling<'a>);

const PARTS: &[Part] = &[
    ("three_members_form_one_after_the_other_in_a_restricted_namespace", |s| Box::pin(s.form())),
    ("rows_are_written_from_here_to_the_end", |s| Box::pin(s.write())),
    ("the_narrow_role_is_enough_and_allows_nothing_else", |s| Box::pin(s.rights())),
    ("a_fourth_member_joins_by_kubectl_scale", |s| Box::pin(s.scale(4))),
    ("the_fourth_leaves_by_kubectl_scale_its_identity_retired_and_its_claim_marked", |s| Box::pin(s.scale(3))),
    ("a_deleted_pod_returns_as_the_same_member_at_a_new_address", |s| Box::pin(s.delete_pod())),
    ("the_coordinators_container_killed_is_replaced_at_a_higher_epoch_and_no_database_notices", |s| {
        Box::pin(s.kill_coordinator())
    }),
    ("rollout_restart_makes_every_pod_anew_one_at_a_time", |s| Box::pin(s.roll())),
    ("a_scale_in_below_the_bounds_is_undone_and_the_member_returns", |s| Box::pin(s.refused_scale_in())),
    ("nothing_a_pilot_asked_for_was_forbidden", |s| Box::pin(s.nothing_forbidden())),
    ("every_acknowledged_row_is_read_back", |s| Box::pin(s.all_rows())),
];

fn main() -> ExitCode {
    match needs() {
        Err(missing) => {
            println!(
                "\nrunning 0 of {} stories on Kubernetes\nNOT SHOWN: {} stories of a real Kubernetes: {missing}",
                PARTS.len(),
                PARTS.len()
            );
            result(0, 0, PARTS.len(), Instant::now());
            ExitCode::SUCCESS
        }
        Ok(images) => match tokio::runtime::Runtime::new() {
            Ok(runtime) => runtime.block_on(tell(images)),
            Err(error) => {
                eprintln!("no runtime: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

/// What must be at hand, or the way to it.
fn needs() -> Result<Images, String> {
    let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if named("KUBECONFIG").is_none() {
        return Err("needs a Kubernetes: set KUBECONFIG".to_owned());
    }
    // No cluster that merely happens to be configured is touched.
    let pilot = named("PILOT_E2E_PILOT_IMAGE")
        .ok_or("needs an image of the pilot: set PILOT_E2E_PILOT_IMAGE (docs/kubernetes.md tells how to make one)")?;
    kubectl(&["version", "--request-timeout=10s"], None)
        .map_err(|error| format!("needs kubectl and a cluster that answers: {error}"))?;
    Ok(Images { pilot, cassandra: named("PILOT_E2E_CASSANDRA_IMAGE").unwrap_or_else(|| "cassandra:5.0".to_owned()) })
}

async fn tell(images: Images) -> ExitCode {
    let begun = Instant::now();
    if let Ok(command) = std::env::var("PILOT_E2E_LOAD_IMAGES") {
        match Command::new("sh").args(["-c", &command]).status() {
            Ok(status) if status.success() => {}
            Ok(status) => return fail(&format!("PILOT_E2E_LOAD_IMAGES: {command}: {status}")),
            Err(error) => return fail(&format!("PILOT_E2E_LOAD_IMAGES: {command}: {error}")),
        }
    }
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let namespace = format!("pilot-story-{seconds}");
    let cluster = match Cluster::open(&namespace) {
        Ok(cluster) => cluster,
        Err(error) => return fail(&error),
    };
    println!("\nrunning {} stories on Kubernetes, in namespace {namespace}", PARTS.len());
    let mut story = Story::begin(cluster, images);
    let (mut passed, mut failed, mut not_shown) = (0, 0, 0);
    for (name, part) in PARTS {
        if failed > 0 {
            failed += 1;
            println!("test kubernetes::{name} ... FAILED (an earlier story failed, this one was not begun)");
            continue;
        }
        let at = Instant::now();
        let outcome = part(&mut story).await;
        story.part_ended(name);
        match outcome {
            Ok(Told::Shown) => {
                passed += 1;
                println!("test kubernetes::{name} ... ok ({:.0} s)", at.elapsed().as_secs_f64());
            }
            Ok(Told::NotShown(why)) => {
                not_shown += 1;
                println!("test kubernetes::{name} ... NOT SHOWN: {why}");
            }
            Err(error) => {
                failed += 1;
                println!("test kubernetes::{name} ... FAILED ({:.0} s)\n    {error}", at.elapsed().as_secs_f64());
            }
        }
    }
    println!("\n{}", story.evidence.render());
    if failed > 0 {
        story.tell_all().await;
    }
    drop(story);
    if std::env::var_os("PILOT_E2E_KEEP").is_none() {
        // Pods are not waited for as long as they may drain: nothing in them is needed any more.
        for arguments in [
            &["--namespace", &namespace, "delete", "statefulset,pod", "--all", "--grace-period=1", "--timeout=120s"][..],
            &["delete", "namespace", &namespace, "--timeout=180s"][..],
        ] {
            if let Err(error) = kubectl(arguments, None) {
                println!("namespace {namespace} was not removed: {error}");
            }
        }
    }
    if not_shown > 0 {
        println!("NOT SHOWN: {not_shown} of {} stories of a real Kubernetes", PARTS.len());
    }
    result(passed, failed, not_shown, begun);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn result(passed: usize, failed: usize, not_shown: usize, begun: Instant) {
    println!(
        "test result: {}. {passed} passed; {failed} failed; {not_shown} ignored; 0 measured; 0 filtered out; finished in {:.2}s\n",
        if failed == 0 { "ok" } else { "FAILED" },
        begun.elapsed().as_secs_f64()
    );
}

fn fail(error: &str) -> ExitCode {
    println!("{error}");
    result(0, PARTS.len(), 0, Instant::now());
    ExitCode::FAILURE
}
