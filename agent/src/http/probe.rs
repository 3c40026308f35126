//! `/livez`, `/readyz` and `/startupz`, in the form that Kubernetes' own components answer.

use super::board::{Board, Health};
use hyper::StatusCode;
use std::time::{Duration, Instant};

/// A runtime that has said nothing for so long is stuck. It speaks every second.
const STUCK: Duration = Duration::from_secs(30);

/// Which probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// Whether this process should be started anew: nothing but this process.
    Live,
    /// Whether its member should be given traffic.
    Ready,
    /// Whether it has begun.
    Started,
}

impl Probe {
    fn name(self) -> &'static str {
        match self {
            Self::Live => "livez",
            Self::Ready => "readyz",
            Self::Started => "startupz",
        }
    }

    fn checks(self, health: Health, silent: Option<Duration>) -> Vec<(String, Result<(), String>)> {
        match self {
            Self::Live => {
                let speaks = match silent {
                    Some(silent) if silent > STUCK => {
                        Err(format!("the main loop has said nothing for {} s", silent.as_secs()))
                    }
                    // A start may take its time; it is the startup probe's business.
                    Some(_) | None => Ok(()),
                };
                vec![("process".to_owned(), health.alive), ("loop".to_owned(), speaks)]
            }
            Self::Ready => health.ready,
            Self::Started => {
                let started = if health.started { Ok(()) } else { Err("the pilot has not begun its work".to_owned()) };
                vec![("started".to_owned(), started)]
            }
        }
    }
}

/// Answers a probe; `query` may hold `verbose` and `exclude=<check>`, repeatedly.
pub(super) fn answer(probe: Probe, board: &Board, query: &str) -> (StatusCode, String) {
    let silent = board.beat().map(|beat| Instant::now().saturating_duration_since(beat));
    judge(probe.name(), &probe.checks(board.health(), silent), query)
}

fn judge(name: &str, checks: &[(String, Result<(), String>)], query: &str) -> (StatusCode, String) {
    let parameters = || query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let verbose = parameters().any(|(key, _)| key == "verbose");
    let excluded: Vec<&str> = parameters().filter(|(key, _)| *key == "exclude").map(|(_, check)| check).collect();
    let mut lines = Vec::new();
    let mut failed = false;
    for (check, result) in checks {
        if excluded.contains(&check.as_str()) {
            lines.push(format!("[+]{check} excluded: ok"));
            continue;
        }
        match result {
            Ok(()) => lines.push(format!("[+]{check} ok")),
            Err(reason) => {
                failed = true;
                lines.push(format!("[-]{check} failed: {reason}"));
            }
        }
    }
    let unknown = excluded.iter().filter(|name| !checks.iter().any(|(check, _)| check == *name)).count();
    if unknown > 0 {
        let known: Vec<&str> = checks.iter().map(|(check, _)| check.as_str()).collect();
        lines.push(format!("warn: {unknown} excluded checks are unknown: there are {}", known.join(", ")));
    }
    match (failed, verbose) {
        (true, _) => {
            lines.push(format!("{name} check failed"));
            (StatusCode::SERVICE_UNAVAILABLE, lines.join("\n"))
        }
        (false, true) => {
            lines.push(format!("{name} check passed"));
            (StatusCode::OK, lines.join("\n"))
        }
        (false, false) => (StatusCode::OK, "ok".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str) -> (StatusCode, String) {
        judge("readyz", &[("database".into(), Err("it joins".into())), ("launcher".into(), Ok(()))], query)
    }

    #[test]
    fn a_failed_check_is_told_with_its_reason_also_without_verbose() {
        assert_eq!(
            check(""),
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "[-]database failed: it joins\n[+]launcher ok\nreadyz check failed".into()
            )
        );
    }

    #[test]
    fn an_excluded_check_does_not_count_and_an_unknown_one_is_told() {
        assert_eq!(check("exclude=database"), (StatusCode::OK, "ok".into()));
        let (status, text) = check("verbose&exclude=database&exclude=disk");
        assert_eq!(status, StatusCode::OK);
        assert_eq!(
            text,
            "[+]database excluded: ok\n[+]launcher ok\nwarn: 1 excluded checks are unknown: there are database, launcher\nreadyz check passed"
        );
    }

    #[test]
    fn a_loop_that_has_fallen_silent_is_not_alive_and_one_that_has_not_begun_is() {
        let live = |silent| {
            judge("livez", &Probe::Live.checks(Health { alive: Ok(()), started: true, ready: vec![] }, silent), "").0
        };
        assert_eq!(live(None), StatusCode::OK);
        assert_eq!(live(Some(STUCK)), StatusCode::OK);
        assert_eq!(live(Some(STUCK + Duration::from_secs(1))), StatusCode::SERVICE_UNAVAILABLE);
    }
}
