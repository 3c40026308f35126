//! Every decoder of foreign bytes, on the inputs that are kept and on changed ones: none panics, none holds more memory
//! than it may, and each reads back what it wrote. Real fuzzing, which sees the code, is `cargo e2e --shard fuzz`.

use simulation::fuzz::{Outcome, Target, mutate, targets};
use simulation::world::chance::Chance;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The kept inputs of a target, in order of name.
fn kept(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = target.corpus();
    if (target.seeds)().is_empty() && !folder.exists() {
        // No input can be kept of it, and no folder is kept that holds nothing.
        return Vec::new();
    }
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{} cannot be read: {e}", folder.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read(&path).expect("a file"))
        })
        .collect();
    inputs.sort();
    inputs
}

/// Tries one input.
fn try_one(target: &Target, bytes: &[u8]) -> Result<Outcome, String> {
    let mut outcome = Err(String::new());
    let held = allocation_counter::measure(|| {
        outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))).map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
        });
    });
    let most = target.most(bytes.len());
    match outcome {
        Ok(_) if held.bytes_max > most => {
            Err(format!("{} bytes of memory for {} of input, more than {most}", held.bytes_max, bytes.len()))
        }
        outcome => outcome,
    }
}

/// Does this for every target, on as many threads as there are processors, and tells of all faults together.
fn for_every_target(what: impl Fn(&Target) -> Vec<String> + Sync) {
    let all = targets();
    let next = AtomicUsize::new(0);
    let faults = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(target) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // What is made once, and the memory for it, is not the first input's.
                    (target.run)(&[]);
                    (target.seeds)().iter().for_each(|seed| {
                        (target.run)(seed);
                    });
                    let found = what(target);
                    faults.lock().expect("nobody panics with it").extend(found);
                }
            });
        }
    });
    let faults = faults.into_inner().expect("nobody panics with it");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_kept_input_is_still_decoded_or_refused_as_it_must_be() {
    for_every_target(|target| {
        let kept = kept(target);
        assert!(kept.iter().any(|(name, _)| name.starts_with("seed-")) || (target.seeds)().is_empty());
        kept.iter()
            .filter_map(|(name, bytes)| match try_one(target, bytes) {
                Ok(Outcome::Refused) if name.starts_with("seed-") => {
                    Some(format!("{}: {name} was once written by us and is refused", target.name))
                }
                Ok(_) => None,
                Err(fault) => Some(format!("{}: {name}: {fault}", target.name)),
            })
            .collect()
    });
}

#[test]
fn no_changed_input_makes_a_decoder_panic_or_hold_more_memory_than_it_may() {
    for_every_target(|target| {
        let corpus: Vec<Vec<u8>> = kept(target).into_iter().map(|(_, bytes)| bytes).collect();
        let mut chance = Chance::of(1, target.name);
        for number in 0..target.gate {
            let bytes = mutate::mutated(&mut chance, &corpus);
            if let Err(fault) = try_one(target, &bytes) {
                let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}", target.name));
                std::fs::write(&file, &bytes).expect("is kept");
                // One is enough: others of the same target are most often the same.
                return vec![format!(
                    "{}: changed input {number}: {fault}\n  kept as {}: move it to {}, mend the decoder",
                    target.name,
                    file.display(),
                    target.corpus().display(),
                )];
            }
        }
        vec![]
    });
}

#[test]
fn every_folder_of_kept_inputs_belongs_to_a_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for entry in std::fs::read_dir(&corpus).expect("is there") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(simulation::fuzz::find(&name).is_some(), "{name} is no target");
    }
}

/// The names that each package without a registry depends on, as a lock file tells them.
fn dependencies(lock: &str) -> BTreeMap<String, BTreeSet<String>> {
    let value = |line: &str, key: &str| Some(line.strip_prefix(key)?.trim_matches('"').to_owned());
    lock.split("[[package]]")
        .filter(|package| !package.contains("\nsource = "))
        .filter_map(|package| {
            let name = package.lines().find_map(|line| value(line, "name = "))?;
            let words = package.lines().filter_map(|line| line.strip_prefix(" \"")?.split(['"', ' ']).next());
            Some((name, words.map(str::to_owned).collect()))
        })
        .collect()
}

#[test]
fn the_fuzzers_lock_file_knows_what_the_packages_depend_on() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| dependencies(&std::fs::read_to_string(root.join(path)).expect("a lock file"));
    let (workspace, fuzzer) = (read("../Cargo.lock"), read("fuzz/Cargo.lock"));
    assert!(fuzzer.contains_key("simulation"), "{:?}", fuzzer.keys());
    for (package, known) in fuzzer.iter().filter(|(package, _)| *package != "fuzz") {
        let wanted = workspace.get(package).unwrap_or_else(|| panic!("{package} is no package of the workspace"));
        let unknown: Vec<&String> = known.difference(wanted).collect();
        assert!(unknown.is_empty(), "{package} does not depend on {unknown:?} any more: {HOW}");
        let for_tests = |name: &str| TESTS_ONLY.contains(&(package.as_str(), name));
        let missing: Vec<&String> = wanted.difference(known).filter(|name| !for_tests(name)).collect();
        assert!(missing.is_empty(), "{package} depends on {missing:?}: {HOW}");
    }
}

const HOW: &str = "`cargo metadata --manifest-path simulation/fuzz/Cargo.toml` writes it anew";
/// What a package needs for its tests alone.
const TESTS_ONLY: [(&str, &str); 7] = [
    ("protocol", "proptest"),
    ("policies", "proptest"),
    ("bootstrap", "proptest"),
    ("bootstrap", "similar"),
    ("agent", "proptest"),
    ("agent", "tempfile"),
    ("simulation", "allocation-counter"),
];
