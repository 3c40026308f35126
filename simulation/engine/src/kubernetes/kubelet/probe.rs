//! Probes: when each is due, and what a row of answers means.

use std::time::Duration;

use serde_json::Value;

use super::super::json::{at, number};
use super::super::time::ModelTime;

/// The three probes a container may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    /// Gates the others, and what comes after a native sidecar.
    Startup,
    /// Restarts the container.
    Liveness,
    /// Says whether it serves.
    Readiness,
}

impl ProbeKind {
    pub(super) const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    fn field(self) -> &'static str {
        match self {
            Self::Startup => "startupProbe",
            Self::Liveness => "livenessProbe",
            Self::Readiness => "readinessProbe",
        }
    }

    /// The probe as written in a container; `None` without one.
    pub(super) fn of(self, container: &Value) -> Option<&Value> {
        at(container, &[self.field()]).filter(|probe| probe.is_object())
    }
}

/// How one probe of one run stands.
#[derive(Debug, Clone)]
pub(super) struct ProbeState {
    due: ModelTime,
    running: bool,
    successes: i64,
    failures: i64,
    verdict: Option<bool>,
}

impl ProbeState {
    pub(super) fn new(started: ModelTime, probe: &Value) -> Self {
        Self {
            due: started.after(seconds(probe, "initialDelaySeconds", 0)),
            running: false,
            successes: 0,
            failures: 0,
            verdict: None,
        }
    }

    /// What enough answers in a row have said; `None` before.
    pub(super) fn verdict(&self) -> Option<bool> {
        self.verdict
    }

    /// Whether it is to be run now; marks it running.
    pub(super) fn begin(&mut self, now: ModelTime) -> bool {
        let begins = !self.running && self.due <= now;
        self.running |= begins;
        begins
    }

    pub(super) fn due(&self) -> Option<ModelTime> {
        (!self.running).then_some(self.due)
    }

    pub(super) fn answer(&mut self, now: ModelTime, probe: &Value, success: bool) {
        self.running = false;
        self.due = now.after(seconds(probe, "periodSeconds", 10));
        if success {
            self.failures = 0;
            self.successes += 1;
            if self.successes >= number(probe, &["successThreshold"]).unwrap_or(1) {
                self.verdict = Some(true);
            }
        } else {
            self.successes = 0;
            self.failures += 1;
            if self.failures >= number(probe, &["failureThreshold"]).unwrap_or(3) {
                self.verdict = Some(false);
            }
        }
    }
}

pub(super) fn timeout(probe: &Value) -> Duration {
    seconds(probe, "timeoutSeconds", 1)
}

fn seconds(probe: &Value, field: &str, default: u64) -> Duration {
    let seconds = number(probe, &[field]).and_then(|seconds| u64::try_from(seconds).ok());
    Duration::from_secs(seconds.unwrap_or(default))
}
