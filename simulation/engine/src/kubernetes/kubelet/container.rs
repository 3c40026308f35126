//! One container of one pod: its runs, its back-off, its probes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::super::json::text;
use super::super::time::ModelTime;
use super::probe::{ProbeKind, ProbeState};
use super::{KubeletSettings, StopSignal};

/// What part a container plays in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Runs to its end before the next starts.
    Init,
    /// A native sidecar: starts in order, runs beside the main containers, ends after them.
    Sidecar,
    /// What the pod is for.
    Main,
}

/// Where a container stands. Each state holds only what is true in it.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// Not started in this pod yet.
    Waiting,
    /// Asked of the backend.
    Starting,
    Running {
        since: ModelTime,
        pid: u32,
        probes: BTreeMap<ProbeKind, ProbeState>,
        stop: Option<Stop>,
    },
    Ended(End),
}

/// A running container that was asked to end.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    pub(super) sent: StopSignal,
    /// When it will be killed; `None` where the pod's own deadline decides.
    pub(super) kill_at: Option<ModelTime>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) at: ModelTime,
    pub(super) since: ModelTime,
    pub(super) code: i32,
    pub(super) signal: Option<i32>,
    pub(super) message: String,
    /// Whether the next run starts at once: the kubelet itself ended this one for a new image.
    pub(super) replaced: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) state: State,
    pub(super) restarts: u32,
    /// The image of the present (or last) run.
    pub(super) image: String,
    pub(super) last_end: Option<End>,
    backoff: Duration,
}

impl Container {
    pub(super) fn new(spec: &Value, role: Role) -> Self {
        Self {
            name: text(spec, &["name"]).to_owned(),
            role,
            state: State::Waiting,
            restarts: 0,
            image: String::new(),
            last_end: None,
            backoff: Duration::ZERO,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. } | State::Starting)
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    pub(super) fn has_succeeded(&self) -> bool {
        matches!(&self.state, State::Ended(end) if end.code == 0 && end.signal.is_none())
    }

    /// The process of the present run.
    pub(super) fn pid(&self) -> Option<u32> {
        match &self.state {
            State::Running { pid, .. } => Some(*pid),
            State::Waiting | State::Starting | State::Ended(_) => None,
        }
    }

    /// Running, and its startup probe (if any) has succeeded.
    pub(super) fn has_started(&self) -> bool {
        match &self.state {
            State::Running { probes, .. } => {
                probes.get(&ProbeKind::Startup).is_none_or(|probe| probe.verdict() == Some(true))
            }
            State::Waiting | State::Starting | State::Ended(_) => false,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        match &self.state {
            State::Running { probes, .. } => {
                // What prepares is ready when it has ended.
                self.role != Role::Init
                    && self.has_started()
                    && probes.get(&ProbeKind::Readiness).is_none_or(|probe| probe.verdict() == Some(true))
            }
            State::Ended(_) => self.role == Role::Init && self.has_succeeded(),
            State::Waiting | State::Starting => false,
        }
    }

    /// The moment an ended container may run again.
    pub(super) fn restart_at(&self) -> Option<ModelTime> {
        match &self.state {
            State::Ended(end) if end.replaced => Some(end.at),
            State::Ended(end) => Some(end.at.after(self.backoff)),
            State::Waiting | State::Starting | State::Running { .. } => None,
        }
    }

    /// Marks the next run as asked for; returns its number.
    pub(super) fn begin(&mut self, spec: &Value, settings: &KubeletSettings) -> u32 {
        if let State::Ended(end) = std::mem::replace(&mut self.state, State::Starting) {
            self.restarts += 1;
            // What the kubelet itself ended did not fail.
            self.backoff = if end.replaced {
                Duration::ZERO
            } else if self.backoff.is_zero() {
                settings.backoff_from
            } else {
                (self.backoff * 2).min(settings.backoff_to)
            };
            self.last_end = Some(end);
        }
        text(spec, &["image"]).clone_into(&mut self.image);
        self.restarts
    }

    pub(super) fn started(&mut self, now: ModelTime, spec: &Value, pid: u32) {
        if !matches!(self.state, State::Starting) {
            return;
        }
        let probes =
            ProbeKind::ALL.into_iter().filter_map(|kind| Some((kind, ProbeState::new(now, kind.of(spec)?)))).collect();
        self.state = State::Running { since: now, pid, probes, stop: None };
    }

    pub(super) fn ended(
        &mut self,
        now: ModelTime,
        settings: &KubeletSettings,
        spec: Option<&Value>,
        code: i32,
        signal: Option<i32>,
        message: String,
    ) {
        let since = match &self.state {
            State::Running { since, .. } => *since,
            State::Starting => now,
            State::Waiting | State::Ended(_) => return,
        };
        if now.since(since) >= settings.backoff_to * 2 {
            // It ran long enough to be trusted again.
            self.backoff = Duration::ZERO;
        }
        let replaced = spec.is_some_and(|spec| text(spec, &["image"]) != self.image);
        self.state = State::Ended(End { at: now, since, code, signal, message, replaced });
    }
}
