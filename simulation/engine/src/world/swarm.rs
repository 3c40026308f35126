//! Many seeds on all cores: each run is alone, so that their order and number change nothing of any of them.

use super::oracle::Rule;
use super::run::{Options, Outcome, run};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;

/// What becomes of a run, besides its outcome.
#[derive(Debug)]
pub struct Ran {
    /// What it was made of.
    pub options: Options,
    /// What it came to.
    pub outcome: Outcome,
}

/// One in so many runs is run twice: the same seed must give the same run.
const TWICE: u64 = 100;

/// Runs seeds from the first on, on so many threads, until `tell` says that it is enough or there are no more; tells each
/// as it ends, in any order.
pub fn swarm(
    seeds: std::ops::Range<u64>,
    threads: usize,
    make: impl Fn(u64) -> Options + Sync,
    tell: impl FnMut(Ran) -> bool,
) {
    let run_one = |seed| {
        let options = make(seed);
        let mut outcome = run(options.clone());
        if seed % TWICE == 0 && run(options.clone()).hash != outcome.hash {
            outcome.verdict = Some((Rule::Deterministic, "two runs differ".to_owned()));
        }
        Ran { options, outcome }
    };
    numbers(seeds, threads, run_one, tell);
}

/// The same for a list of anything that can be run.
pub fn spread<T: Sync, R: Send>(work: &[T], threads: usize, run: impl Fn(&T) -> R + Sync, mut tell: impl FnMut(&T, R)) {
    let item = |number: u64| usize::try_from(number).ok().and_then(|number| work.get(number));
    let run_one = |number| item(number).map(|work| (work, run(work)));
    numbers(0..work.len() as u64, threads, run_one, |ran| {
        if let Some((work, result)) = ran {
            tell(work, result);
        }
        true
    });
}

/// Runs these numbers in order on so many threads; tells each result as it comes, and begins no more once that is enough.
fn numbers<R: Send>(
    numbers: std::ops::Range<u64>,
    threads: usize,
    run: impl Fn(u64) -> R + Sync,
    mut tell: impl FnMut(R) -> bool,
) {
    let next = AtomicU64::new(numbers.start);
    let enough = AtomicBool::new(false);
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (next, enough, run, sender) = (&next, &enough, &run, sender.clone());
            let end = numbers.end;
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end || enough.load(Ordering::Relaxed) || sender.send(run(number)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for result in receiver {
            if !tell(result) {
                enough.store(true, Ordering::Relaxed);
            }
        }
    });
}

/// As many threads as this machine runs at once.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
