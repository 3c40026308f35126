//! What a mesh costs while nothing happens.

use super::figures::{Figure, Load, Subject};
use super::mesh::{BenchError, Mesh};
use super::metrics::Traffic;
use super::process::{self, Used};
use crate::sandbox::engine::{PodView, get};
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// After a mesh has come to rest it settles for so long before it counts as idle.
const SETTLE: Duration = Duration::from_secs(10);

struct Look {
    at: Instant,
    used: Option<Used>,
    traffic: Option<Traffic>,
}

async fn look(pod: &PodView) -> Look {
    let text = get(pod.address, "/metrics").await;
    let used = pod.processes.get("pilot").copied().and_then(process::look);
    Look { at: Instant::now(), used, traffic: text.as_deref().and_then(Traffic::read) }
}

/// Requests of each pilot so far.
fn requests(mesh: &Mesh) -> BTreeMap<String, u64> {
    // First: reading the pods takes the lock itself.
    let names: Vec<String> = mesh.sandbox.pods().into_iter().map(|p| p.name).collect();
    let api = mesh.sandbox.api().lock().unwrap_or_else(PoisonError::into_inner);
    names.into_iter().map(|name| (name.clone(), api.counters().total(&name))).collect()
}

/// Memory, processor, traffic and API requests over a window in which nothing happens; one sample a pilot.
pub(super) async fn measure(mesh: &Mesh, window: Duration) -> Result<Vec<Figure>, BenchError> {
    let rest = mesh.rest().await?;
    tokio::time::sleep(SETTLE).await;
    let load = Load::begin();
    let asked = requests(mesh);
    let mut before = Vec::new();
    for (_, pod) in &rest.pilots {
        before.push(look(pod).await);
    }
    let begun = Instant::now();
    tokio::time::sleep(window).await;
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    let mut after = Vec::new();
    for (_, pod) in &rest.pilots {
        after.push(look(pod).await);
    }
    let asked_since = requests(mesh);
    let load = load.end();

    let figure = |what: &str, unit: &'static str, aim: Option<f64>, samples: Vec<f64>| Figure {
        subject: Subject::Pilots,
        pilots: mesh.size,
        what: what.to_owned(),
        unit,
        given_up: 0,
        samples,
        aim,
        load,
    };
    let spans: Vec<(&Look, &Look, f64)> =
        before.iter().zip(&after).map(|(a, b)| (a, b, b.at.saturating_duration_since(a.at).as_secs_f64())).collect();
    let used = |of: fn(&Used) -> f64| after.iter().filter_map(|l| l.used.as_ref().map(of)).collect::<Vec<f64>>();
    let sent = |of: fn(&Traffic) -> f64| -> Vec<f64> {
        spans.iter().filter_map(|(a, b, s)| Some((of(&b.traffic?) - of(&a.traffic?)) / s)).collect()
    };
    let cpu = spans.iter().filter_map(|(a, b, s)| Some((b.used?.cpu - a.used?.cpu) / s * 100.0)).collect();
    let aim_bytes = match mesh.size {
        ..=9 => Some(3.5),
        10.. => None,
    };
    let of = |name: &String| {
        asked_since.get(name).copied().unwrap_or(0).saturating_sub(asked.get(name).copied().unwrap_or(0))
    };
    let a_minute = |number: u64| number as f64 / minutes;
    let coordinator = rest.coordinator.name.as_str().to_owned();
    let followers: Vec<f64> = asked_since.keys().filter(|n| **n != coordinator).map(|n| a_minute(of(n))).collect();
    Ok(vec![
        figure("agent's memory, resident", "MB", Some(16.0), used(|u| u.resident)),
        figure("agent's memory, its own alone", "MB", None, used(|u| u.own)),
        figure("agent's processor time", "% of a core", Some(0.5), cpu),
        figure("sent, gossip and streams", "kB/s", aim_bytes, sent(|t| (t.gossip + t.streams) / 1000.0)),
        figure("sent, gossip alone", "kB/s", None, sent(|t| t.gossip / 1000.0)),
        figure("sent, datagrams and frames", "1/s", None, sent(|t| t.packets)),
        figure("API requests of all pilots", "1/min", None, vec![a_minute(asked_since.keys().map(&of).sum())]),
        figure("API requests of the coordinator", "1/min", None, vec![a_minute(of(&coordinator))]),
        figure("API requests of a follower", "1/min", None, followers),
    ])
}
