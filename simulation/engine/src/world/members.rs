//! What is judged of members over a while: who has been away for how long, and whether a cluster at rest is left alone.

use super::World;
use super::database::Stage;
use super::marks;
use super::oracle::Rule;
use agent::kubernetes::call::Call;
use protocol::id::{PilotId, PilotName};
use std::collections::BTreeMap;

/// A member that does not serve is noticed within so long: its pilot's look, its report's way, and the coordinator's own
/// look at the world, each at its slowest.
const NOTICED: u64 = 30_000;
/// A cluster at rest is watched for so long.
const WATCHED: u64 = 60_000;

/// When a request was sent, and what held then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    at: u64,
    /// Of an eviction: so many other members had been away for longer than anybody may fail to notice.
    away: usize,
}

/// What is kept for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch {
    /// Members of the record whose database does not serve, and since when.
    away: BTreeMap<PilotName, u64>,
    /// The cluster is at rest since then, and nothing is to be done to it.
    quiet_since: Option<u64>,
}

impl World {
    /// Looks who is away.
    pub(crate) fn watch_members(&mut self) {
        let Some(record) = self.cluster.record() else {
            self.watch.away.clear();
            return;
        };
        let now = self.now;
        let serves = |name: &PilotName| {
            self.databases.processes.get(name).is_some_and(|p| !p.hangs(now) && p.stage == Stage::Serving)
        };
        let away: BTreeMap<PilotName, u64> = record
            .members
            .keys()
            .filter(|name| !serves(name))
            .map(|name| (name.clone(), self.watch.away.get(name).copied().unwrap_or(now)))
            .collect();
        self.watch.away = away;
    }

    /// What the sender of this request can know now: what is held on its way is judged by that.
    pub(crate) fn sent(&self, call: &Call) -> Sent {
        let Call::EvictPod(target) = call else { return Sent { at: self.now, away: 0 } };
        let long = |(name, since): &(&PilotName, &u64)| name.as_str() != target.name() && self.now > **since + NOTICED;
        Sent { at: self.now, away: self.watch.away.iter().filter(long).count() }
    }

    /// A write was answered: S-BUDGET, and S-QUIET.
    pub(crate) fn judge_disturbance(&mut self, from: &PilotId, call: &Call, sent: &Sent, answer: (u16, bool)) {
        let (status, committed) = answer;
        if let Call::EvictPod(target) = call {
            if status == 429 {
                self.marks.mark(marks::BUDGET_REFUSES);
            }
            let most = usize::try_from(self.options.rules.limits.rollout.max_unavailable).unwrap_or(1);
            // Who does not serve, or has never run, costs nothing.
            let serves = PilotName::parse(target.name())
                .is_ok_and(|name| self.databases.processes.get(&name).is_some_and(|p| p.stage == Stage::Serving));
            let away = sent.away;
            if committed && serves && away + 1 > most {
                let why = format!(
                    "{from} evicted {}, which served, while {away} others had been away for more than {NOTICED} ms",
                    target.name()
                );
                self.oracle.broken(Rule::Budget, why);
            }
            if committed && serves {
                self.judge_eviction_of_voter(target.name(), away);
            }
        }
        let renewal = matches!(call, Call::CreateLease(_) | Call::ReplaceLease { .. });
        // What somebody sent long ago, or is refused, disturbs nobody.
        if self.watch.quiet_since.is_some_and(|since| sent.at >= since) && committed && !renewal {
            let why = format!("{from} {} although the cluster is at rest", super::api::word(call));
            self.oracle.broken(Rule::Quiet, why);
        }
    }

    /// S-QUIET: watches a cluster at rest for a minute. It has to be left alone.
    pub fn judge_rest(&mut self) {
        let starts = self.database_starts();
        self.watch.quiet_since = Some(self.now);
        let end = self.now + WATCHED;
        self.run_until(end);
        self.watch.quiet_since = None;
        if self.database_starts() != starts {
            self.oracle.broken(Rule::Quiet, "a database was started although the cluster is at rest");
        }
    }
}
