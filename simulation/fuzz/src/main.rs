//! libFuzzer over one decoder: the one that `PILOT_FUZZ_TARGET` names. `cargo run -p simulation --bin fuzz` runs it for
//! each of them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use simulation::fuzz::{Outcome, Target, find};
use std::sync::OnceLock;

/// The variable that names the decoder.
const NAME: &str = "PILOT_FUZZ_TARGET";

static TARGET: OnceLock<Target> = OnceLock::new();

fn named() -> Target {
    let name = std::env::var(NAME).unwrap_or_default();
    let target =
        find(&name).unwrap_or_else(|| panic!("{NAME} is `{name}`, which is no decoder: choose one of `--list`"));
    // What is made once, and the memory for it, is not the first input's.
    for seed in (target.seeds)() {
        assert_eq!((target.run)(&seed), Outcome::Read, "an input made of a real encoding is read");
    }
    (target.run)(&[]);
    target
}

fuzz_target!(|data: &[u8]| {
    let target = TARGET.get_or_init(named);
    let held = allocation_counter::measure(|| {
        (target.run)(data);
    });
    let most = target.most(data.len());
    assert!(held.bytes_max <= most, "{} bytes of memory for {} of input, more than {most}", held.bytes_max, data.len());
});
