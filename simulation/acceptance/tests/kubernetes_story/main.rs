//! Stories on a real Kubernetes: what the documentation offers, real kubectl and Helm, a real Cassandra.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `KUBECONFIG` | the cluster; a namespace of its own is made in it and removed again |
//! | `PILOT_E2E_PILOT_IMAGE` | the pilot's image, as the cluster pulls it or has it |
//! | `PILOT_E2E_CASSANDRA_IMAGE` | Cassandra's; default `cassandra:5.0` |
//! | `PILOT_E2E_LOAD_IMAGES` | a command that brings the images to the cluster, run first |
//! | `PILOT_E2E_KILL_CONTAINER` | a command that kills a container; gets node and container id |
//! | `PILOT_E2E_HELM` | a Helm; default `helm` |
//! | `PILOT_E2E_KEEP` | the namespaces are left behind |
//!
//! There are two lines of stories, each in a namespace of its own: `manifest`, with the manifest of the documentation, and
//! `helm`, with the chart. The stories of a line build on each other, so this program runs them itself, in order, and prints
//! what the test runner prints. A word after `--` runs only the lines whose name has it. What cannot be shown here says
//! `NOT SHOWN`.

#![allow(missing_docs, reason = "a program, not a library")]

mod cluster;
mod helm;
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

/// Stories that build on each other, in one namespace.
struct Line {
    name: &'static str,
    parts: &'static [Part],
    /// What it needs beside the cluster and the images.
    needs: fn() -> Result<(), String>,
}

const LINES: &[Line] = &[
    Line { name: "manifest", parts: MANIFEST, needs: || Ok(()) },
    Line { name: "helm", parts: HELM, needs: helm::needs },
];

const HELM: &[Part] = &[
    ("helm_install_forms_three_members_in_a_restricted_namespace", |s| Box::pin(s.install())),
    ("rows_are_written_from_here_on", |s| Box::pin(s.write())),
    ("pilots_get_a_role_of_their_own_as_the_security_page_says", |s| Box::pin(s.roles())),
    ("helm_test_hears_a_pilot_and_its_coordinator", |s| Box::pin(s.helm_test())),
    ("a_fourth_member_joins_by_kubectl_scale", |s| Box::pin(s.scale(4))),
    ("helm_upgrade_changes_the_policy_and_no_size_and_no_pod", |s| Box::pin(s.upgrade())),
    ("helm_rollback_to_the_revision_of_three_takes_the_policy_back_and_no_member", |s| Box::pin(s.rollback())),
    ("every_acknowledged_row_is_read_back", |s| Box::pin(s.all_rows())),
    ("helm_uninstall_leaves_claims_keys_lease_and_record", |s| Box::pin(s.uninstall())),
    ("installed_again_for_three_the_same_four_members_return_with_every_row", |s| Box::pin(s.install_again())),
];

const MANIFEST: &[Part] = &[
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
    ("a_deleted_claim_is_told_and_its_member_replaced_once_the_claim_is_annotated", |s| Box::pin(s.lost_claim())),
    ("nothing_a_pilot_asked_for_was_forbidden", |s| Box::pin(s.nothing_forbidden())),
    ("every_acknowledged_row_is_read_back", |s| Box::pin(s.all_rows())),
];

fn main() -> ExitCode {
    let begun = Instant::now();
    let word = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let lines: Vec<&Line> = LINES.iter().filter(|line| line.name.contains(&word)).collect();
    let mut sum = Sum::default();
    match needs() {
        Err(missing) => {
            for line in lines {
                line.not_shown(&missing, &mut sum);
            }
        }
        Ok(images) => match tokio::runtime::Runtime::new() {
            Ok(runtime) => runtime.block_on(async {
                for line in lines {
                    match (line.needs)() {
                        Ok(()) => tell(line, &images, &mut sum).await,
                        Err(missing) => line.not_shown(&missing, &mut sum),
                    }
                }
            }),
            Err(error) => {
                eprintln!("no runtime: {error}");
                return ExitCode::FAILURE;
            }
        },
    }
    println!(
        "test result: {}. {} passed; {} failed; {} ignored; 0 measured; 0 filtered out; finished in {:.2}s\n",
        if sum.failed == 0 { "ok" } else { "FAILED" },
        sum.passed,
        sum.failed,
        sum.not_shown,
        begun.elapsed().as_secs_f64()
    );
    if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What has come of the stories.
#[derive(Default)]
struct Sum {
    passed: usize,
    failed: usize,
    not_shown: usize,
}

impl Line {
    /// None of its stories can be shown here.
    fn not_shown(&self, missing: &str, sum: &mut Sum) {
        let count = self.parts.len();
        println!("\nrunning 0 of {count} stories on Kubernetes, {}", self.name);
        println!("NOT SHOWN: {count} stories of a real Kubernetes, {}: {missing}", self.name);
        sum.not_shown += count;
    }

    /// None of its stories can be begun.
    fn failed(&self, error: &str, sum: &mut Sum) {
        println!("{}: {error}", self.name);
        sum.failed += self.parts.len();
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

async fn tell(line: &Line, images: &Images, sum: &mut Sum) {
    if let Ok(command) = std::env::var("PILOT_E2E_LOAD_IMAGES") {
        match Command::new("sh").args(["-c", &command]).status() {
            Ok(status) if status.success() => {}
            Ok(status) => return line.failed(&format!("PILOT_E2E_LOAD_IMAGES: {command}: {status}"), sum),
            Err(error) => return line.failed(&format!("PILOT_E2E_LOAD_IMAGES: {command}: {error}"), sum),
        }
    }
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let namespace = format!("pilot-{}-{seconds}", line.name);
    let cluster = match Cluster::open(&namespace) {
        Ok(cluster) => cluster,
        Err(error) => return line.failed(&error, sum),
    };
    println!("\nrunning {} stories on Kubernetes, {}, in namespace {namespace}", line.parts.len(), line.name);
    let mut story = Story::begin(cluster, images.clone());
    let (mut failed, mut not_shown) = (0, 0);
    for (name, part) in line.parts {
        let shown = format!("test kubernetes::{}::{name} ...", line.name);
        if failed > 0 {
            failed += 1;
            println!("{shown} FAILED (an earlier story failed, this one was not begun)");
            continue;
        }
        let at = Instant::now();
        let outcome = part(&mut story).await;
        story.part_ended(name);
        match outcome {
            Ok(Told::Shown) => {
                sum.passed += 1;
                println!("{shown} ok ({:.0} s)", at.elapsed().as_secs_f64());
            }
            Ok(Told::NotShown(why)) => {
                not_shown += 1;
                println!("{shown} NOT SHOWN: {why}");
            }
            Err(error) => {
                failed += 1;
                println!("{shown} FAILED ({:.0} s)\n    {error}", at.elapsed().as_secs_f64());
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
        println!("NOT SHOWN: {not_shown} of {} stories of a real Kubernetes, {}", line.parts.len(), line.name);
    }
    sum.failed += failed;
    sum.not_shown += not_shown;
}
