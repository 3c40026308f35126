//! Every decoder of foreign bytes as one function with a name, so that the gate and the fuzzer try the same.
//!
//! What each must keep, whatever the bytes: it does not panic, it never holds more memory than [`Target::most`] at a
//! time, and what it wrote itself it reads back the same. `docs/fuzzing.md` tells how they are run.

mod cassandra;
mod gossip;
mod http;
mod input;
mod keys;
mod kubernetes;
mod launcher;
mod messages;
mod model;
pub mod mutate;
mod pilot;
mod policy;
mod state_file;
mod stream;

use std::path::PathBuf;

/// What became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It meant something.
    Read,
    /// It was refused.
    Refused,
}

impl From<bool> for Outcome {
    fn from(read: bool) -> Self {
        if read { Self::Read } else { Self::Refused }
    }
}

/// One decoder.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, on the command line and of its folder of kept inputs.
    pub name: &'static str,
    /// Whose bytes it reads.
    pub reads: &'static str,
    /// Tries it; panics where something does not hold.
    pub run: fn(&[u8]) -> Outcome,
    /// Inputs made of real encodings, to begin with. All of them mean something.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Bytes of memory that it may hold whatever the input.
    pub base: u64,
    /// Bytes of memory that it may hold for each byte of the input.
    pub per_byte: u64,
    /// How often the gate tries it on changed inputs, by what it costs.
    pub gate: u32,
}

impl Target {
    /// The most bytes of memory that may be held at a time for an input of this length.
    pub fn most(&self, length: usize) -> u64 {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        self.base.saturating_add(self.per_byte.saturating_mul(length))
    }

    /// The folder of its kept inputs. Those whose name begins with `seed-` mean something and always will.
    pub fn corpus(&self) -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus")).join(self.name)
    }
}

/// All of them.
pub fn targets() -> Vec<Target> {
    [
        gossip::TARGETS,
        stream::TARGETS,
        messages::TARGETS,
        pilot::TARGETS,
        launcher::TARGETS,
        policy::TARGETS,
        kubernetes::TARGETS,
        state_file::TARGETS,
        keys::TARGETS,
        cassandra::TARGETS,
        model::TARGETS,
        http::TARGETS,
    ]
    .concat()
}

/// The one of this name.
pub fn find(name: &str) -> Option<Target> {
    targets().into_iter().find(|target| target.name == name)
}

/// A thousand bytes, roughly.
const KIB: u64 = 1024;
/// A million bytes, roughly.
const MIB: u64 = 1024 * KIB;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_target_has_a_name_of_its_own_and_inputs_that_mean_something() {
        let names: BTreeSet<&str> = targets().iter().map(|target| target.name).collect();
        assert_eq!(names.len(), targets().len());
        for target in targets() {
            let seeds = (target.seeds)();
            // Nobody can go on with a handshake without the other end's secret.
            assert!(!seeds.is_empty() || target.name == "stream-handshake", "{} has none", target.name);
            for (number, seed) in seeds.iter().enumerate() {
                assert_eq!((target.run)(seed), Outcome::Read, "{}: number {number}", target.name);
            }
        }
    }
}
