//! Many seeds on all cores: each run is alone, so that their order and number change nothing of any of them.

use super::run::{Options, Outcome, run};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::channel;

/// What becomes of a run, besides its outcome.
#[derive(Debug)]
pub struct Ran {
    /// What it was made of.
    pub options: Options,
    /// What it came to.
    pub outcome: Outcome,
    /// It was run twice, and the two differed.
    pub differed: bool,
}

/// One in so many runs is run twice: the same seed must give the same run.
const TWICE: u64 = 100;

/// Runs seeds from the first on, on so many threads, until `enough` says so or there are no more; tells each as it ends,
/// in any order.
pub fn swarm(
    seeds: std::ops::Range<u64>,
    threads: usize,
    make: impl Fn(u64) -> Options + Sync,
    mut tell: impl FnMut(Ran) -> bool,
) {
    let next = AtomicU64::new(seeds.start);
    let enough = AtomicBool::new(false);
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (next, enough, make, sender) = (&next, &enough, &make, sender.clone());
            let end = seeds.end;
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || enough.load(Ordering::Relaxed) {
                        return;
                    }
                    let options = make(seed);
                    let outcome = run(options.clone());
                    let differed = seed % TWICE == 0 && run(options.clone()).hash != outcome.hash;
                    if sender.send(Ran { options, outcome, differed }).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for ran in receiver {
            if !tell(ran) {
                enough.store(true, Ordering::Relaxed);
            }
        }
    });
}

/// As many threads as this machine runs at once.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The same for anything that can be run by its number; tells each outcome as it ends, in any order.
pub fn spread<T: Sync, R: Send>(work: &[T], threads: usize, run: impl Fn(&T) -> R + Sync, mut tell: impl FnMut(&T, R)) {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (next, run, sender) = (&next, &run, sender.clone());
            scope.spawn(move || {
                while let Some((number, item)) = {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    work.get(number).map(|item| (number, item))
                } {
                    if sender.send((number, run(item))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (number, result) in receiver {
            if let Some(item) = work.get(number) {
                tell(item, result);
            }
        }
    });
}
