//! From the end or the silence of one pilot to the notice of the last of the others.

use super::figures::{Figure, Load, Subject};
use super::mesh::{BenchError, Mesh};
use super::watching::watch;
use crate::sandbox::process::Signal;
use agent::pilot::state::StateDocument;
use protocol::id::PilotId;
use protocol::view::Liveness;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A notice that has not come within this is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// All watches stand within this.
const STANDING: Duration = Duration::from_secs(20);

/// What is done to the pilot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// SIGSTOP: it says nothing any more, its connections stand.
    Silent,
    /// SIGKILL, and it is not started again while it is measured.
    Ended,
}

/// What an observer has come to know, each the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// Its watch stands.
    Watching,
    /// It knows of evidence against that life, its own or another's.
    Evidence,
    /// It does not hold the pilot live itself.
    Detected,
}

/// The notices of one fault after another; each on a pilot by lot.
pub(super) async fn measure(mesh: &Mesh, fault: Fault, repeat: usize) -> Result<Vec<Figure>, BenchError> {
    let figure = |what: &str, aim: Option<f64>| Figure {
        subject: Subject::Pilots,
        pilots: mesh.size,
        what: what.to_owned(),
        unit: "s",
        samples: Vec::new(),
        given_up: 0,
        aim,
        load: Load::begin(),
    };
    let mut figures = match fault {
        Fault::Silent => vec![(Sign::Detected, figure("SIGSTOP to the last notice", Some(6.0)))],
        Fault::Ended => vec![
            (Sign::Evidence, figure("SIGKILL to the last one told", Some(1.0))),
            (Sign::Detected, figure("SIGKILL to the last own detector", None)),
        ],
    };
    for _ in 0..repeat {
        let noticed = once(mesh, fault).await?;
        for (sign, figure) in &mut figures {
            let last = match sign {
                Sign::Watching => None,
                Sign::Evidence => noticed.evidence,
                Sign::Detected => noticed.detected,
            };
            match last {
                Some(after) => figure.samples.push(after.as_secs_f64()),
                None => figure.given_up += 1,
            }
        }
    }
    Ok(figures.into_iter().map(|(_, f)| Figure { load: f.load.end(), ..f }).collect())
}

/// When the last observer noticed; `None` where not all did.
struct Noticed {
    evidence: Option<Duration>,
    detected: Option<Duration>,
}

async fn once(mesh: &Mesh, fault: Fault) -> Result<Noticed, BenchError> {
    let rest = mesh.rest().await?;
    let lot = rand::random::<u64>() % u64::try_from(rest.pilots.len()).unwrap_or(1);
    let Some((victim, _)) = usize::try_from(lot).ok().and_then(|lot| rest.pilots.get(lot)) else {
        return Err(BenchError::Ended("there is no pilot to be stopped".to_owned()));
    };
    let (signs, mut seen) = mpsc::unbounded_channel::<(Sign, Instant)>();
    let mut watches = tokio::task::JoinSet::new();
    let others = rest.pilots.len() - 1;
    for (_, pod) in rest.pilots.iter().filter(|(id, _)| id != victim) {
        let (address, victim, signs) = (pod.address, victim.clone(), signs.clone());
        watches.spawn(async move {
            let mut told = Vec::new();
            let mut tell = |sign: Sign| {
                if !told.contains(&sign) {
                    told.push(sign);
                    // Who measures has given up waiting where nobody listens.
                    let _ = signs.send((sign, Instant::now()));
                }
                told.len() == 3
            };
            watch(address, |state| {
                tell(Sign::Watching);
                let detected = holds_lost(state, &victim);
                if detected || has_evidence(state, &victim) {
                    tell(Sign::Evidence);
                }
                detected && tell(Sign::Detected)
            })
            .await
        });
    }
    drop(signs);
    let standing = async {
        for _ in 0..others {
            if seen.recv().await.is_none() {
                return false;
            }
        }
        true
    };
    if !tokio::time::timeout(STANDING, standing).await.unwrap_or(false) {
        return Err(BenchError::Ended(format!("the pilots could not all be watched within {STANDING:?}")));
    }
    eprintln!("  {fault:?}: {victim}{}", if *victim == rest.coordinator { ", the coordinator" } else { "" });
    mesh.sandbox.hold_starts(true);
    let begun = Instant::now();
    let sent = mesh.signal(
        victim.name.as_str(),
        match fault {
            Fault::Silent => Signal::Stop,
            Fault::Ended => Signal::Kill,
        },
    );
    let (mut evidence, mut detected) = (Vec::new(), Vec::new());
    let collecting = async {
        while let Some((sign, at)) = seen.recv().await {
            match sign {
                Sign::Watching => {}
                Sign::Evidence => evidence.push(at.saturating_duration_since(begun)),
                Sign::Detected => detected.push(at.saturating_duration_since(begun)),
            }
        }
    };
    // Whoever has not noticed by then is counted below.
    let _ = tokio::time::timeout(PATIENCE, collecting).await;
    watches.shutdown().await;
    mesh.sandbox.hold_starts(false);
    sent?;
    if fault == Fault::Silent {
        mesh.signal(victim.name.as_str(), Signal::Continue)?;
    }
    let last = |all: Vec<Duration>| if all.len() == others { all.into_iter().max() } else { None };
    Ok(Noticed { evidence: last(evidence), detected: last(detected) })
}

/// The answering pilot's own detector, or its own end of a stream, holds that life lost.
fn holds_lost(state: &StateDocument, victim: &PilotId) -> bool {
    let silent = state
        .members
        .iter()
        .any(|m| m.name == victim.name && (m.generation > victim.generation || m.liveness != Liveness::Live));
    let own = state.members.iter().find(|m| m.name == state.me.name).and_then(|m| m.report.as_ref());
    silent || own.is_some_and(|r| r.mesh.ended.contains(victim) || r.mesh.silent.contains(victim))
}

/// The answering pilot knows somebody's word that this life ended or is silent.
fn has_evidence(state: &StateDocument, victim: &PilotId) -> bool {
    let words = state.members.iter().filter(|m| m.name != victim.name).filter_map(|m| m.report.as_ref());
    words.into_iter().any(|r| r.mesh.ended.contains(victim) || r.mesh.silent.contains(victim))
}
