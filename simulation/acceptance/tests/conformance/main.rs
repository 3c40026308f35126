//! One suite of scripts for the model Kubernetes and for a real one: what the real one answered is recorded beside this
//! file, and the model must answer the same.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `KUBECONFIG` | a real cluster; namespaces of their own are made in it and removed again |
//! | `CONFORMANCE_RECORD` | what the real one answers is written down instead of compared |
//! | `CONFORMANCE_ONLY` | only scripts whose name contains this text; nothing is written down then |
//! | `CONFORMANCE_IMAGE` | an image with a shell, `sleep` and `true`, as the cluster pulls it or has it, such as `busybox:1.36` |
//!
//! `docs/conformance.md` tells what is compared, and how to add a script.

mod apply;
mod containers;
mod deletion;
mod eviction;
mod invalid;
mod known;
mod kubelets;
mod model;
mod normal;
mod patches;
mod reading;
mod real;
mod recording;
mod rollouts;
mod run;
mod sets;
mod shapes;
mod subresources;
mod target;
mod watching;
mod writes;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::ModelTarget;
use real::RealCluster;
use recording::{Recording, Told, differences};
use run::{Run, Script};

/// How many scripts run at once on a real cluster: most of their time they wait.
const AT_ONCE: usize = 4;

/// All scripts, theme by theme.
fn scripts() -> Vec<Script> {
    let only = std::env::var("CONFORMANCE_ONLY").unwrap_or_default();
    [
        writes::SCRIPTS,
        invalid::SCRIPTS,
        patches::SCRIPTS,
        apply::SCRIPTS,
        deletion::SCRIPTS,
        subresources::SCRIPTS,
        eviction::SCRIPTS,
        reading::SCRIPTS,
        watching::SCRIPTS,
        sets::SCRIPTS,
        rollouts::SCRIPTS,
        kubelets::SCRIPTS,
    ]
    .concat()
    .into_iter()
    .filter(|(name, _)| name.contains(&only))
    .collect()
}

#[test]
fn every_script_has_a_name_of_its_own_and_each_recorded_one_is_there() {
    if std::env::var_os("CONFORMANCE_ONLY").is_some() {
        return;
    }
    let names: Vec<&str> = scripts().iter().map(|(name, _)| *name).collect();
    let mut own = names.clone();
    own.sort_unstable();
    own.dedup();
    assert_eq!(own.len(), names.len(), "two scripts share a name");
    let recording = Recording::read();
    let recorded: Vec<&str> = recording.scripts.keys().map(String::as_str).collect();
    assert_eq!(own, recorded, "record again: see docs/conformance.md");
}

#[test]
fn the_model_answers_as_the_real_one_did() {
    let recording = Recording::read();
    let scripts = scripts();
    let told: BTreeMap<String, Told> = scripts
        .iter()
        .map(|(name, script)| {
            let mut target = ModelTarget::new();
            ((*name).to_owned(), Run::tell(&mut target, "conformance-0", script))
        })
        .collect();
    let steps: usize = told.values().map(Vec::len).sum();
    let found = differences(&recording, &told);
    println!(
        "{} scripts of {steps} answers, compared with Kubernetes {}; known differences: {}",
        scripts.len(),
        recording.server,
        known::KNOWN.len()
    );
    for (script, step, why) in known::KNOWN {
        println!("known difference: {script}, at {step}: {why}");
    }
    let is_known = |script: &str, step: &str| known::KNOWN.iter().any(|(a, b, _)| *a == script && *b == step);
    let news: Vec<String> =
        found.iter().filter(|one| !is_known(&one.script, &one.step)).map(ToString::to_string).collect();
    assert!(news.is_empty(), "the model differs from the real one in {} answers:\n\n{}", news.len(), news.join("\n"));
    for (script, step, _) in known::KNOWN.iter().filter(|(script, _, _)| told.contains_key(*script)) {
        assert!(
            found.iter().any(|one| one.script == *script && one.step == *step),
            "{script}, at {step}: model and real one agree by now. Take it out of known.rs"
        );
    }
}

#[test]
fn a_real_cluster_answers_as_recorded() {
    let records = std::env::var_os("CONFORMANCE_RECORD").is_some();
    // No cluster that merely happens to be configured is touched: the image is asked for, too.
    let missing = ["KUBECONFIG", "CONFORMANCE_IMAGE"]
        .into_iter()
        .find(|name| std::env::var_os(name).is_none_or(|value| value.is_empty()));
    if let Some(missing) = missing {
        assert!(!records, "CONFORMANCE_RECORD needs a Kubernetes and an image: set {missing}");
        not_shown(&format!("1 test: the scripts of conformance on a real Kubernetes: set {missing}"));
        return;
    }
    let cluster = RealCluster::connect();
    let scripts = scripts();
    let next = AtomicUsize::new(0);
    let told = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some((name, script)) = scripts.get(number) else { break };
                    let namespace = cluster.namespace(number);
                    let begun = std::time::Instant::now();
                    let answers = Run::tell(&mut cluster.target(), &namespace, script);
                    println!("{name}: {} answers in {:.1} s", answers.len(), begun.elapsed().as_secs_f64());
                    told.lock().expect("nobody panics here").insert((*name).to_owned(), answers);
                    cluster.remove(&namespace);
                }
            });
        }
    });
    let told = told.into_inner().expect("nobody panics here");
    if records {
        Recording { server: cluster.version(), scripts: told }.write(std::env::var_os("CONFORMANCE_ONLY").is_some());
        return;
    }
    let recording = Recording::read();
    let found: Vec<String> = differences(&recording, &told).iter().map(ToString::to_string).collect();
    assert!(
        found.is_empty(),
        "Kubernetes {} differs from the recording of {} in {} answers:\n\n{}",
        cluster.version(),
        recording.server,
        found.len(),
        found.join("\n")
    );
}

/// Loudly: the test runner keeps what a passing test prints to itself, and this must be read.
#[allow(clippy::explicit_write, reason = "`println!` and `eprintln!` are captured, the stream itself is not")]
fn not_shown(what: &str) {
    use std::io::Write;
    writeln!(std::io::stderr(), "NOT SHOWN: {what}").expect("stderr is open");
}
