//! What all pilots of a run share: time, the trace, the faults, and who is where.

use super::faults::{Adapter, Faults, Kind};
use super::kube::Kube;
use super::network::Net;
use protocol::id::{PilotName, Uid};
use std::collections::hash_map::DefaultHasher;
use std::fmt::Arguments;
use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// One run.
pub(crate) struct World {
    start: Instant,
    trace: Mutex<Trace>,
    faults: Mutex<Faults>,
    net: Mutex<Net>,
    kube: Mutex<Kube>,
}

struct Trace {
    hasher: DefaultHasher,
    lines: u64,
    shown: bool,
}

/// A lock; who panicked under it was made to panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(crate) fn new(faults: Faults, net: Net, kube: Kube, shown: bool) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            // Its keys are fixed: the same words have the same hash in every process.
            trace: Mutex::new(Trace { hasher: DefaultHasher::new(), lines: 0, shown }),
            faults: Mutex::new(faults),
            net: Mutex::new(net),
            kube: Mutex::new(kube),
        })
    }

    /// Milliseconds since the run began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    pub(crate) fn net(&self) -> MutexGuard<'_, Net> {
        lock(&self.net)
    }

    pub(crate) fn kube(&self) -> MutexGuard<'_, Kube> {
        lock(&self.kube)
    }

    /// Something happened: two runs are the same where all of this is the same.
    pub(crate) fn tell(&self, what: Arguments<'_>) {
        let line = format!("{:>7} {what}", self.now());
        let mut trace = lock(&self.trace);
        trace.hasher.write(line.as_bytes());
        trace.lines += 1;
        if trace.shown {
            println!("{line}");
        }
    }

    /// The hash of everything that was told, and how much that was.
    pub(crate) fn hash(&self) -> (u64, u64) {
        let trace = lock(&self.trace);
        (trace.hasher.finish(), trace.lines)
    }

    /// What befalls this await, if anything.
    pub(crate) fn strike(&self, adapter: Adapter, who: &Life) -> Option<Kind> {
        let kind = self.faults().strike(self.now(), adapter)?;
        self.tell(format_args!("! {adapter}, {kind}: {}#{}", who.pod, who.number));
        if kind == Kind::End {
            // Told by the hook as what it is: a panic that was asked for.
            std::panic::panic_any(Asked);
        }
        Some(kind)
    }

    /// A wait that is longer than it should be.
    pub(crate) fn stall(&self) -> Duration {
        Duration::from_millis(self.faults().stall())
    }

    /// A wait as usual.
    pub(crate) fn delay(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.faults().delay(from, to))
    }
}

/// What a panic carries that was asked for.
pub(crate) struct Asked;

/// One process of an agent.
pub(crate) struct Life {
    pub(crate) number: u64,
    pub(crate) pod: PilotName,
    pub(crate) uid: Uid,
    pub(crate) claim: Uid,
    pub(crate) address: IpAddr,
    over: AtomicBool,
    /// It was told to end, so that it may.
    pub(crate) asked: AtomicBool,
    /// Kills it.
    pub(crate) process: Mutex<Option<AbortHandle>>,
    pub(crate) terminate: mpsc::Sender<()>,
    pub(crate) told: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Life {
    pub(crate) fn new(number: u64, pod: PilotName, uid: Uid, claim: Uid, address: IpAddr) -> Arc<Self> {
        let (terminate, told) = mpsc::channel(1);
        let told = Mutex::new(Some(told));
        let (over, asked, process) = (AtomicBool::new(false), AtomicBool::new(false), Mutex::new(None));
        Arc::new(Self { number, pod, uid, claim, address, over, asked, process, terminate, told })
    }

    /// Tells it to end.
    pub(crate) fn tell_to_end(&self) {
        self.asked.store(true, Ordering::Relaxed);
        // One word is enough.
        let _ = self.terminate.try_send(());
    }

    /// Kills it: every await of its main task is the last one, wherever it stands.
    pub(crate) fn kill(&self) {
        if let Some(process) = &*lock(&self.process) {
            process.abort();
        }
    }

    /// The process is no more: nothing that it left behind reaches anybody.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}
