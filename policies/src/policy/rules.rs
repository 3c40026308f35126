//! Rules between settings: each is fine alone, together they contradict each other.

use super::Policy;
use crate::setting::Decimal;
use std::time::Duration;

/// The shortest usual interval between signs of life of one peer, in gossip intervals: that of a mesh of three.
///
/// Larger meshes hear of each other through more neighbours' digests and come to 0.57 (9 pilots) and 0.71 (200 and more).
const SHORTEST_MEAN: Decimal = Decimal::from_hundredths(42);

/// A rule between settings.
#[derive(Debug)]
pub struct Rule {
    /// The settings it speaks of; the first one is where a fault is shown unless the file sets only another.
    pub settings: &'static [&'static str],
    /// The rule in words, for the reference.
    pub words: &'static str,
    /// What to do where it is broken.
    pub remedy: &'static str,
    /// What the first setting must do, in numbers; none where the rule is kept.
    pub(crate) broken: fn(&Policy) -> Option<String>,
}

/// All rules between settings.
pub const RULES: &[Rule] = &[
    Rule {
        settings: &["spec.gossip.priorInterval", "spec.gossip.interval"],
        words: "`priorInterval` is at least `interval`: a newcomer must be able to speak before it counts as down",
        remedy: "raise priorInterval, twice the interval is usual, or lower the interval",
        broken: |p| {
            (p.gossip.prior_interval < p.gossip.interval)
                .then(|| format!("be at least spec.gossip.interval ({})", shown(p.gossip.interval)))
        },
    },
    Rule {
        settings: &["spec.gossip.maxInterval", "spec.gossip.interval"],
        words: "`maxInterval` is at least twice `interval`: otherwise a single lost exchange leaves no sample",
        remedy: "raise maxInterval, four intervals are usual, or lower the interval",
        broken: |p| {
            let least = p.gossip.interval.saturating_mul(2);
            (p.gossip.max_interval < least)
                .then(|| format!("be at least twice spec.gossip.interval ({})", shown(least)))
        },
    },
    Rule {
        settings: &["spec.gossip.maxInterval", "spec.gossip.phi", "spec.gossip.interval"],
        words: "`maxInterval` is below the shortest silence that means down, 0.42 × `phi` × `interval`: \
                otherwise the silence of the dead counts as their rhythm, and a cut-off minority revives them",
        remedy: "lower maxInterval, or raise phi or the interval",
        broken: |p| {
            let timeout = p.gossip.shortest_timeout();
            (p.gossip.max_interval >= timeout).then(|| {
                format!(
                    "be below the shortest silence that means down ({}: 0.42 × spec.gossip.phi {} × spec.gossip.interval {})",
                    shown(timeout),
                    p.gossip.phi,
                    shown(p.gossip.interval)
                )
            })
        },
    },
    Rule {
        settings: &["spec.gossip.deadGrace", "spec.gossip.phi", "spec.gossip.priorInterval"],
        words: "half of `deadGrace` exceeds `phi` × `priorInterval`: a dead pilot is spoken of until all have noticed",
        remedy: "raise deadGrace, or lower phi or priorInterval",
        broken: |p| {
            let young = p.gossip.phi.times(p.gossip.prior_interval).saturating_mul(2);
            (p.gossip.dead_grace <= young)
                .then(|| format!("exceed twice the silence that means down for a young pilot ({})", shown(young)))
        },
    },
    Rule {
        settings: &["spec.election.lease"],
        words: "`lease` is in whole seconds: Kubernetes keeps it as `leaseDurationSeconds`",
        remedy: "round it up",
        broken: |p| (p.election.lease.subsec_nanos() != 0).then(|| "be in whole seconds".to_owned()),
    },
    Rule {
        settings: &["spec.election.lease", "spec.election.renewEvery", "spec.election.margin"],
        words: "`lease` exceeds twice `renewEvery` plus `margin`: one lost renewal must not depose a coordinator",
        remedy: "raise the lease, or lower renewEvery or the margin",
        broken: |p| {
            let needed = p.election.renew_every.saturating_mul(2).saturating_add(p.election.margin);
            (p.election.lease <= needed)
                .then(|| format!("exceed twice spec.election.renewEvery plus spec.election.margin ({})", shown(needed)))
        },
    },
    Rule {
        settings: &["spec.election.step", "spec.election.lease"],
        words: "`step` is below `lease`: the second candidate must not wait a whole lease for the first",
        remedy: "lower the step or raise the lease",
        broken: |p| {
            (p.election.step >= p.election.lease)
                .then(|| format!("be below spec.election.lease ({})", shown(p.election.lease)))
        },
    },
    Rule {
        settings: &["spec.restart.backoff.from", "spec.restart.backoff.to"],
        words: "`backoff.from` is at most `backoff.to`",
        remedy: "lower from or raise to",
        broken: |p| {
            let backoff = &p.restart.backoff;
            (backoff.from > backoff.to).then(|| format!("be at most spec.restart.backoff.to ({})", shown(backoff.to)))
        },
    },
    Rule {
        settings: &[
            "spec.restart.crashLoop.within",
            "spec.restart.crashLoop.exits",
            "spec.restart.backoff.from",
            "spec.restart.backoff.to",
        ],
        words: "`crashLoop.within` exceeds the pauses between so many `exits`: otherwise no crash loop is ever reported",
        remedy: "raise within, or lower exits or the back-off",
        broken: |p| {
            let pauses = (1..p.restart.crash_loop.exits)
                .map(|crashes| p.restart.backoff.pause(crashes))
                .fold(Duration::ZERO, Duration::saturating_add);
            (p.restart.crash_loop.within <= pauses)
                .then(|| format!("exceed the pauses between {} exits ({})", p.restart.crash_loop.exits, shown(pauses)))
        },
    },
    Rule {
        settings: &["spec.scale.bounds.min", "spec.scale.bounds.max"],
        words: "`bounds.min` is at most `bounds.max`",
        remedy: "lower min or raise max",
        broken: |p| {
            let bounds = &p.scale.bounds;
            (bounds.min > bounds.max).then(|| format!("be at most spec.scale.bounds.max ({})", bounds.max))
        },
    },
];

impl super::Gossip {
    /// The shortest silence after which a long known peer counts as down: that of a mesh of three, with nothing lost.
    pub fn shortest_timeout(&self) -> Duration {
        SHORTEST_MEAN.times(self.phi.times(self.interval))
    }
}

fn shown(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
