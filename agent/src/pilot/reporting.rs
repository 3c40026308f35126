//! What this pilot says of itself.

use super::Pilot;
use crate::effect::Effect;
use policies::election::Standing;
use policies::plan::Verdict;
use protocol::database::{DatabasePhase, VolumeState};
use protocol::launcher::ProcessState;
use protocol::report::{About, Brief, DatabaseReport, MeshReport, Report, Role};
use protocol::time::Timestamp;
use std::time::Duration;

/// Shortest time between two publications: gossip carries no more anyway.
const PUBLISH_AT_MOST: Duration = Duration::from_millis(100);

impl Pilot {
    /// Where the database stands, by the launcher and by itself.
    fn phase(&self) -> DatabasePhase {
        let launcher = self.launcher.as_ref();
        let leaves = launcher.is_some_and(|s| s.leave.as_ref().is_some_and(|l| l.running));
        phase(launcher.map(|s| &s.process), self.database.phase, leaves)
    }

    /// What ranks it among the others.
    pub(crate) fn standing(&self) -> Standing<'_> {
        Standing {
            id: &self.setup.id,
            terminating: self.launcher.as_ref().is_some_and(|s| s.terminating),
            api: self.api,
            phase: self.phase(),
        }
    }

    /// The report of this moment.
    pub(crate) fn report(&self, now: Timestamp) -> Report {
        let launcher = self.launcher.as_ref();
        let pod = &self.setup.pod;
        let process = launcher.map(|s| &s.process);
        let phase = self.phase();
        let coordinating = self.leadership.as_ref().filter(|l| l.is_valid(now) && !self.leaving);
        Report {
            about: About {
                pod: pod.clone(),
                claim: self.durable.claim.clone().filter(|_| self.claim_is_known()),
                cluster: self.durable.cluster.clone(),
                stream: self.setup.stream,
                http: self.setup.http,
                database: self.setup.database,
                client_port: self.setup.client_port,
                policy: self.setup.rules.hash.clone(),
                version: self.setup.version.clone(),
            },
            database: DatabaseReport {
                phase,
                identity: self.database.identity.clone().or_else(|| self.durable.identity.clone()),
                volume: self.volume_told(),
                version: self.database.version.clone(),
                pid: match process {
                    Some(
                        ProcessState::Running { pid, .. }
                        | ProcessState::Draining { pid }
                        | ProcessState::Stopping { pid },
                    ) => Some(*pid),
                    Some(ProcessState::Held | ProcessState::Backoff { .. } | ProcessState::Stopped) | None => None,
                },
                schema_agreed: self.database.schema_agreed,
                replication: self.database.replication,
                streaming: self.database.streaming,
                load: self.database.load,
                disk: self.database.disk,
                starts: launcher.map_or(0, |s| s.starts),
                unintended_ends: launcher.map_or(0, |s| s.unintended_ends),
                terminating: launcher.is_some_and(|s| s.terminating),
                leave: launcher.and_then(|s| s.leave.as_ref()).map(|l| (l.operation.clone(), l.done)),
                wants_start: self.wants_start(now),
            },
            ring: self.database.ring.clone(),
            mesh: MeshReport {
                promise: self.durable.promise.clone(),
                role: match coordinating {
                    Some(leading) => Role::Coordinator { epoch: leading.epoch, degraded: leading.degraded.clone() },
                    None => Role::Follower,
                },
                api: self.api,
                ended: self.ended(),
                silent: self.silent(),
                obeyed: self.durable.last_obeyed(pod),
                keys: Vec::new(),
            },
            operation: coordinating.and_then(|l| l.operation.clone()),
            why: if coordinating.is_some() { self.briefs() } else { Vec::new() },
        }
    }

    fn briefs(&self) -> Vec<Brief> {
        let mut briefs: Vec<Brief> = self
            .log
            .entries()
            .rev()
            .take(Brief::TOLD)
            .filter_map(|entry| {
                let reason = entry.reasons.first()?;
                let verdict = match reason.verdict {
                    Verdict::Act => "acts",
                    Verdict::Wait => "waits",
                    Verdict::Refuse => "refuses",
                    Verdict::Done => "done",
                };
                let mut text = format!("{} {verdict} [{}] {}", reason.subject, reason.rule.word(), reason.fact);
                while text.len() > Brief::LONGEST {
                    text.pop();
                }
                Some(Brief { epoch: entry.epoch, number: entry.number, text })
            })
            .collect();
        briefs.reverse();
        briefs
    }

    pub(crate) fn publish(&mut self, now: Timestamp) {
        if now.since(self.published_at) < PUBLISH_AT_MOST {
            return;
        }
        let report = self.report(now);
        if self.published.as_ref() == Some(&report) {
            return;
        }
        self.published = Some(report.clone());
        self.published_at = now;
        self.out.push(Effect::Publish(Box::new(report)));
    }

    /// What lies on the volume; of data whose identity nobody knows, under which operation it was begun here.
    fn volume_told(&self) -> Option<VolumeState> {
        match (&self.volume, &self.durable.begun_under, &self.durable.identity) {
            (Some(VolumeState::HoldsUnknown), Some(operation), None) => Some(VolumeState::Begun(operation.clone())),
            (volume, _, _) => volume.clone(),
        }
    }
}

/// The launcher knows the process, the driver what it does: the phase is both together.
fn phase(process: Option<&ProcessState>, seen: DatabasePhase, leaving: bool) -> DatabasePhase {
    match process {
        None => match seen {
            DatabasePhase::Serving
            | DatabasePhase::Leaving
            | DatabasePhase::Left
            | DatabasePhase::Joining
            | DatabasePhase::JoinFailed => seen,
            DatabasePhase::Unknown
            | DatabasePhase::Held
            | DatabasePhase::Starting
            | DatabasePhase::Draining
            | DatabasePhase::Unresponsive
            | DatabasePhase::Restarting
            | DatabasePhase::CrashLooping
            | DatabasePhase::Stopped => DatabasePhase::Unknown,
        },
        Some(ProcessState::Held) => DatabasePhase::Held,
        Some(ProcessState::Stopped) => DatabasePhase::Stopped,
        Some(ProcessState::Backoff { crash_loop: true, .. }) => DatabasePhase::CrashLooping,
        Some(ProcessState::Backoff { .. }) => DatabasePhase::Restarting,
        Some(ProcessState::Draining { .. } | ProcessState::Stopping { .. }) => DatabasePhase::Draining,
        Some(ProcessState::Running { .. }) => match seen {
            // Its last step closes the clients' door, and then tells the others for a while that it has left.
            DatabasePhase::Serving | DatabasePhase::Starting | DatabasePhase::Unknown if leaving => {
                DatabasePhase::Leaving
            }
            DatabasePhase::Held | DatabasePhase::Stopped | DatabasePhase::Restarting | DatabasePhase::CrashLooping => {
                DatabasePhase::Starting
            }
            DatabasePhase::Unknown
            | DatabasePhase::Starting
            | DatabasePhase::Joining
            | DatabasePhase::Serving
            | DatabasePhase::Leaving
            | DatabasePhase::Left
            | DatabasePhase::Draining
            | DatabasePhase::Unresponsive
            | DatabasePhase::JoinFailed => seen,
        },
    }
}
