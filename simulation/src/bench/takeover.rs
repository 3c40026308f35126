//! From the coordinator's end to the next coordinator's first stamped write, as the API's audit log tells it.

use super::figures::{Figure, Load, Subject};
use super::mesh::{BenchError, Mesh};
use crate::sandbox::engine::wall;
use crate::sandbox::process::Signal;
use protocol::epoch::Epoch;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// A take-over that has not come within this is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks into the audit log: its entries carry their own times.
const LOOK: Duration = Duration::from_millis(50);
/// The annotation that carries a coordinator's epoch.
const EPOCH: &str = "pilotmesh.io/epoch";

/// How the coordinator goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// SIGKILL to its agent.
    Ended,
    /// SIGSTOP to its agent.
    Silent,
    /// SIGTERM to its agent.
    Orderly,
}

impl Way {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Ended, Self::Silent, Self::Orderly];

    fn figure(self) -> (&'static str, f64, Signal) {
        match self {
            Self::Ended => ("coordinator SIGKILL to the next stamp", 2.0, Signal::Kill),
            Self::Silent => ("coordinator SIGSTOP to the next stamp", 8.0, Signal::Stop),
            Self::Orderly => ("coordinator SIGTERM to the next stamp", 1.0, Signal::Term),
        }
    }
}

/// The take-overs after one end of the coordinator after another.
pub(super) async fn measure(mesh: &Mesh, way: Way, repeat: usize) -> Result<Figure, BenchError> {
    let (what, aim, signal) = way.figure();
    let load = Load::begin();
    let mut figure = Figure {
        subject: Subject::Pilots,
        pilots: mesh.size,
        what: what.to_owned(),
        unit: "s",
        samples: Vec::new(),
        given_up: 0,
        aim: Some(aim),
        load,
    };
    for _ in 0..repeat {
        let rest = mesh.rest().await?;
        eprintln!("  {way:?}: {}, coordinator at epoch {}", rest.coordinator, rest.epoch);
        let name = rest.coordinator.name.as_str();
        mesh.sandbox.hold_starts(true);
        let begun = wall().0;
        let sent = mesh.signal(name, signal);
        let stamped = stamped_after(mesh, rest.epoch).await;
        mesh.sandbox.hold_starts(false);
        sent?;
        if way == Way::Silent {
            mesh.signal(name, Signal::Continue)?;
        }
        match stamped {
            Some(at) => figure.samples.push(Duration::from_millis(at.saturating_sub(begun)).as_secs_f64()),
            None => figure.given_up += 1,
        }
    }
    figure.load = load.end();
    Ok(figure)
}

/// When the first write of a higher epoch was committed on anything but the Lease: taking the Lease is a claim, the
/// stamp is what fences the one before.
async fn stamped_after(mesh: &Mesh, epoch: Epoch) -> Option<u64> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let found = {
            let api = mesh.sandbox.api().lock().unwrap_or_else(PoisonError::into_inner);
            api.audit()
                .entries()
                .rev()
                // Epochs only rise: the entries of the new one are the newest.
                .take(2000)
                .filter(|e| e.status < 300 && e.committed.is_some() && e.resource != "leases")
                .filter(|e| {
                    let sent = e.sent_annotations.get(EPOCH).and_then(|sent| sent.parse::<u64>().ok());
                    sent.is_some_and(|sent| sent > epoch.0)
                })
                .map(|e| e.time.0)
                .min()
        };
        if found.is_some() {
            return found;
        }
        tokio::time::sleep(LOOK).await;
    }
    None
}
