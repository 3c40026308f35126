//! The sections of a policy: what each setting means, what it may be, and why it is what it is.

use crate::setting::{Bounds, Decimal, Field, Kind, Section, Setting, section};
use protocol::launcher::Care;
use std::time::Duration;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

const fn hours(hours: u64) -> Duration {
    minutes(hours * 60)
}

/// Bounds of [`Gossip::interval`]. Below the least, nine pilots exchange more than 180 packets a second each.
pub const GOSSIP_INTERVAL: Bounds<Duration> = Bounds { min: ms(100), default: ms(500), max: s(5) };
/// Bounds of [`Gossip::phi`]. Below the least, a collection pause of a pilot's neighbour looks like a death.
pub const GOSSIP_PHI: Bounds<Decimal> =
    Bounds { min: Decimal::whole(5), default: Decimal::whole(10), max: Decimal::whole(30) };
/// Bounds of [`Gossip::prior_interval`].
pub const GOSSIP_PRIOR_INTERVAL: Bounds<Duration> = Bounds { min: ms(100), default: s(1), max: s(10) };
/// Bounds of [`Gossip::window`]. At the most, a thousand peers cost 8 MB.
pub const GOSSIP_WINDOW: Bounds<u32> = Bounds { min: 20, default: 200, max: 1_000 };
/// Bounds of [`Gossip::max_interval`].
pub const GOSSIP_MAX_INTERVAL: Bounds<Duration> = Bounds { min: ms(200), default: s(2), max: s(20) };
/// Bounds of [`Gossip::dead_grace`]. Beyond the most, rolling restarts of a large mesh fill the digest with the dead.
pub const GOSSIP_DEAD_GRACE: Bounds<Duration> = Bounds { min: minutes(1), default: minutes(15), max: hours(1) };

section! {
    /// How pilots hear of each other, and after how much silence one counts as down. Gossip is knowledge only: nothing
    /// destructive follows from it alone.
    Gossip at "spec.gossip" in (p => p.gossip), with {}

    /// How often a pilot exchanges what it knows with three others.
    ///
    /// Raising it costs time until a silent pilot is noticed, in proportion; it saves packets and processor in proportion too.
    ///
    /// Source: measured with chitchat 0.13: at 500ms and phi 10 a killed pilot is noticed by the last observer in 2.5–5.5s for 3 to 200 pilots.
    "interval" interval: Duration = GOSSIP_INTERVAL,

    /// How many times its usual interval between signs of life a pilot may be silent before it counts as down.
    ///
    /// Raising it costs time until a silent pilot is noticed, in proportion; lowering it takes pauses for deaths. Cassandra's `phi_convict_threshold` is another scale: it divides by ln 10, so that its 8 is about 18 here.
    ///
    /// Source: measured: at 10, no false death in five minutes at up to 70 % loss, and none from stalls of 2s.
    "phi" phi: Decimal = GOSSIP_PHI,

    /// The interval between signs of life that is assumed of a pilot not yet known; it weighs as much as five measured ones.
    ///
    /// Raising it costs time until a young pilot's silence is noticed; it must not be below `interval`, or a newcomer is down before it could speak twice.
    ///
    /// Source: measured: at 1s a pilot of about eight seconds of age is noticed in 3.2–6.5s; the library's 5s makes that 11–19s.
    "priorInterval" prior_interval: Duration = GOSSIP_PRIOR_INTERVAL,

    /// How many of the last intervals between signs of life are remembered of each peer.
    ///
    /// Raising it costs eight bytes a peer and makes the mean follow a changed network later.
    ///
    /// Source: arithmetic: 200 intervals are 100s of history and 1.6 MB for a thousand peers; the library's 1,000 are 8 MB.
    "window" window: Count = GOSSIP_WINDOW,

    /// Silences longer than this are no sample of the usual interval.
    ///
    /// Raising it costs safety of judgement: above the silence that means death, a cut-off minority keeps reviving the dead and believes in a quorum for up to a minute. Lowering it below two intervals leaves too few samples on a lossy network.
    ///
    /// Source: measured at 50 pilots cut 5|45: with 10s the minority sees a quorum for 53s, with 2s for 6s. Rule of thumb: four intervals.
    "maxInterval" max_interval: Duration = GOSSIP_MAX_INTERVAL,

    /// How long a dead generation of a pilot is remembered; after half of it the pilot is no longer spoken of.
    ///
    /// Raising it costs datagram size: each restart leaves an entry in every digest for half of this time.
    ///
    /// Source: Quickwit met the limit of a datagram at 500 entries and went from 2h to 15m (quickwit issue 6653).
    "deadGrace" dead_grace: Duration = GOSSIP_DEAD_GRACE,
}

/// Bounds of [`Election::lease`]. Kubernetes keeps it in whole seconds.
pub const ELECTION_LEASE: Bounds<Duration> = Bounds { min: s(2), default: s(10), max: s(60) };
/// Bounds of [`Election::renew_every`].
pub const ELECTION_RENEW_EVERY: Bounds<Duration> = Bounds { min: ms(200), default: s(2), max: s(20) };
/// Bounds of [`Election::step`].
pub const ELECTION_STEP: Bounds<Duration> = Bounds { min: ms(100), default: s(1), max: s(15) };
/// Bounds of [`Election::margin`].
pub const ELECTION_MARGIN: Bounds<Duration> = Bounds { min: ms(100), default: s(1), max: s(10) };

section! {
    /// Who coordinates, for how long it may without being heard of, and when another may take its place.
    Election at "spec.election" in (p => p.election), with {}

    /// How long the coordinator's Lease is valid, counted by its holder from the sending of the last acknowledged renewal, and by the others from when they saw it renewed. Whole seconds.
    ///
    /// Raising it costs time without a coordinator when one falls silent while the mesh has no majority to say so; it rides out longer outages of the API server. Steps that destroy wait one whole old lease after an early takeover.
    ///
    /// Source: client-go's default of 15s takes 16s, at worst 20s, from kill to takeover (measured); 10s keeps four renewals in it.
    "lease" lease: Duration = ELECTION_LEASE,

    /// How often the coordinator renews its Lease.
    ///
    /// Raising it costs renewals that may fail before the Lease is lost; it saves requests: 2s are 30 a minute, whatever the size of the mesh.
    ///
    /// Source: client-go's retry period of 2s; operators measured beside it renew 30 times a minute as well.
    "renewEvery" renew_every: Duration = ELECTION_RENEW_EVERY,

    /// How much later each next candidate tries: the candidate of rank k waits k steps.
    ///
    /// Raising it costs time when the first candidates are unable; lowering it below the time of a request makes candidates meet, which costs requests and is otherwise harmless: the Lease is taken by compare-and-set.
    ///
    /// Source: a change reaches nine pilots in 0.4–1.4s at a gossip interval of 1s (measured), half of that at 500ms.
    "step" step: Duration = ELECTION_STEP,

    /// How much before the end of its Lease the coordinator stops acting.
    ///
    /// Raising it costs time in which the Lease is of use; it covers the drift between two machines' clocks over one lease and the flight of a write. Epochs and stamps stop what still slips through.
    ///
    /// Source: client-go steps down 5s before the end of 15s; clocks that drift by 1 % differ by 0.1s over 10s, the rest is for the write in flight.
    "margin" margin: Duration = ELECTION_MARGIN,
}

impl Election {
    /// How long after sending an acknowledged renewal the coordinator may act.
    pub fn acting(&self) -> Duration {
        self.lease.saturating_sub(self.margin)
    }
}

/// Bounds of [`Restart::stop_timeout`].
pub const RESTART_STOP_TIMEOUT: Bounds<Duration> = Bounds { min: s(1), default: s(60), max: hours(1) };
/// Bounds of [`Restart::time_to_drain`].
pub const RESTART_TIME_TO_DRAIN: Bounds<Duration> = Bounds { min: s(1), default: s(30), max: minutes(10) };

section! {
    /// What a pilot does about its own database's process, alone and without asking.
    Restart at "spec.restart" in (p => p.restart), with { backoff: Backoff, crash_loop: CrashLoop }

    /// How long a database that was told to stop may take before it is killed.
    ///
    /// Raising it costs time when a database hangs; lowering it kills one that is still writing. Within a pod's deletion the grace period ends earlier if it is shorter.
    ///
    /// Source: a Cassandra ends 3s after SIGTERM on little data (measured); twenty times that for a full memtable on a slow disk.
    "stopTimeout" stop_timeout: Duration = RESTART_STOP_TIMEOUT,

    /// How much of a terminating pod's grace is kept for drain and stop: without a grant to leave by then, the database drains and ends.
    ///
    /// Raising it costs time in which a leave can still be granted: a pod whose grace period is no longer than this drains at once. Kubernetes' default grace is 30s.
    ///
    /// Source: drain takes 3–5s and the stop 3s on little data (measured); three times that and more.
    "timeToDrain" time_to_drain: Duration = RESTART_TIME_TO_DRAIN,
}

/// What the launcher is told, and keeps on its disk for when the agent is away.
impl From<&Restart> for Care {
    fn from(restart: &Restart) -> Self {
        Self {
            backoff_from: restart.backoff.from.into(),
            backoff_to: restart.backoff.to.into(),
            crash_exits: restart.crash_loop.exits,
            crash_within: restart.crash_loop.within.into(),
            stop_timeout: restart.stop_timeout.into(),
            time_to_drain: restart.time_to_drain.into(),
        }
    }
}

/// Bounds of [`Backoff::from`].
pub const BACKOFF_FROM: Bounds<Duration> = Bounds { min: ms(100), default: s(1), max: minutes(1) };
/// Bounds of [`Backoff::to`].
pub const BACKOFF_TO: Bounds<Duration> = Bounds { min: s(1), default: minutes(5), max: hours(1) };

section! {
    /// The pause before a crashed database is started again: doubled with each crash, back to the first after a run longer than `crashLoop.within`.
    Backoff at "spec.restart.backoff" in (p => p.restart.backoff), with {}

    /// The first pause.
    ///
    /// Raising it costs availability after a single crash.
    ///
    /// Source: short beside the 10–18s that a Cassandra takes to start (measured); long enough for a port to be free again.
    "from" from: Duration = BACKOFF_FROM,

    /// The longest pause.
    ///
    /// Raising it costs availability once the cause of many crashes is gone; lowering it costs processor and log while it is not.
    ///
    /// Source: the kubelet's own longest pause in CrashLoopBackOff is 5m.
    "to" to: Duration = BACKOFF_TO,
}

impl Backoff {
    /// The pause after so many crashes in a row; none after none.
    pub fn pause(&self, crashes: u32) -> Duration {
        match crashes.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => self.from.saturating_mul(2_u32.checked_pow(doublings).unwrap_or(u32::MAX)).min(self.to),
        }
    }
}

/// Bounds of [`CrashLoop::exits`].
pub const CRASH_LOOP_EXITS: Bounds<u32> = Bounds { min: 2, default: 5, max: 50 };
/// Bounds of [`CrashLoop::within`].
pub const CRASH_LOOP_WITHIN: Bounds<Duration> = Bounds { min: s(10), default: minutes(10), max: hours(24) };

section! {
    /// When crashes are called a crash loop and reported as one. The volume is never touched, and restarting goes on.
    CrashLoop at "spec.restart.crashLoop" in (p => p.restart.crash_loop), with {}

    /// So many unintended ends within `within` are a crash loop.
    ///
    /// Raising it costs time until a human hears of it; lowering it calls a bad minute a crash loop.
    ///
    /// Source: five deaths with doubled pauses from 1s are 15s of pauses and five boots of 10–31s (measured): under three minutes, well before anybody would notice by chance.
    "exits" exits: Count = CRASH_LOOP_EXITS,

    /// The time in which the ends are counted; a run longer than this also resets the pause.
    ///
    /// Raising it costs false reports of crashes that have nothing to do with each other.
    ///
    /// Source: the kubelet forgets a container's crashes after 10m of running.
    "within" within: Duration = CRASH_LOOP_WITHIN,
}

/// Bounds of [`Scale::settle`].
pub const SCALE_SETTLE: Bounds<Duration> = Bounds { min: s(0), default: s(5), max: hours(1) };

section! {
    /// How far and how quickly the number of members may change.
    Scale at "spec.scale" in (p => p.scale), with { bounds: ScaleBounds }

    /// How long the coordinator waits after an operation before a member may join or leave. A new coordinator waits as long.
    ///
    /// Raising it costs time when several members are added, also while a cluster forms; lowering it lets the next one start while caches, hints and clients still follow the change before.
    ///
    /// Source: every member must see every other one up before an operation ends and again before the next begins, and a Cassandra waits its `ring_delay_ms` of 30s within each; five seconds are five rounds of its gossip on top.
    "settle" settle: Duration = SCALE_SETTLE,
}

/// Bounds of [`ScaleBounds::min`].
pub const SCALE_MIN: Bounds<u32> = Bounds { min: 1, default: 1, max: 1_000 };
/// Bounds of [`ScaleBounds::max`].
pub const SCALE_MAX: Bounds<u32> = Bounds { min: 1, default: 50, max: 1_000 };

section! {
    /// Between which sizes the coordinator follows what is asked. A size beyond them changes nothing and is reported.
    ScaleBounds at "spec.scale.bounds" in (p => p.scale.bounds), with {}

    /// The fewest members.
    ///
    /// Raising it costs the freedom to shrink; what the data's replication needs is held by the database's own rules in any case.
    ///
    /// Source: one, so that a cluster for trying things out is possible; use three where losing one must not lose the quorum.
    "min" min: Count = SCALE_MIN,

    /// The most members.
    ///
    /// Raising it costs protection from a slip of the hand or a runaway autoscaler.
    ///
    /// Source: a guard, not a limit: gossip is measured with 50 pilots on two cores and calculated for 1,000.
    "max" max: Count = SCALE_MAX,
}

/// Bounds of [`Rollout::max_unavailable`].
pub const ROLLOUT_MAX_UNAVAILABLE: Bounds<u32> = Bounds { min: 1, default: 1, max: 10 };
/// Bounds of [`Rollout::settle`].
pub const ROLLOUT_SETTLE: Bounds<Duration> = Bounds { min: s(0), default: s(30), max: hours(1) };
/// Bounds of [`Rollout::stop_after`].
pub const ROLLOUT_STOP_AFTER: Bounds<u32> = Bounds { min: 1, default: 1, max: 10 };

section! {
    /// How members are restarted to a changed template.
    Rollout at "spec.rollout" in (p => p.rollout), with {}

    /// How many members may be unavailable, lost ones included, with the next restart counted in.
    ///
    /// Raising it costs redundancy while a roll goes on. What the database tolerates now is a second limit, and the lower one holds.
    ///
    /// Source: a replication factor of three keeps its quorum with one away; so do PodDisruptionBudgets of the databases' operators.
    "maxUnavailable" max_unavailable: Count = ROLLOUT_MAX_UNAVAILABLE,

    /// How long a restarted member must serve, as its peers see it, before the next is restarted.
    ///
    /// Raising it costs time for each member of a roll; lowering it lets a fault that shows only after a while reach more members.
    ///
    /// Source: Cassandra's peers may take 18–36s to see a killed node as down (measured); within 30s most have seen a member that did not stay.
    "settle" settle: Duration = ROLLOUT_SETTLE,

    /// After so many members that did not come back the roll stops, until the template is mended or reverted.
    ///
    /// Raising it costs one more broken member for each; it helps only where members break for reasons of their own.
    ///
    /// Source: the first broken member says all that a second could, and a quorum of three has no second to give.
    "stopAfter" stop_after: Count = ROLLOUT_STOP_AFTER,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launcher_is_told_every_setting_of_restart() {
        let restart = Restart {
            stop_timeout: s(1),
            time_to_drain: s(2),
            backoff: Backoff { from: s(3), to: s(4) },
            crash_loop: CrashLoop { exits: 5, within: s(6) },
        };
        let Care { backoff_from, backoff_to, crash_exits, crash_within, stop_timeout, time_to_drain } =
            Care::from(&restart);
        assert_eq!(
            [stop_timeout.0, time_to_drain.0, backoff_from.0, backoff_to.0, crash_exits.into(), crash_within.0],
            [1_000, 2_000, 3_000, 4_000, 5, 6_000]
        );
    }

    #[test]
    fn a_pause_doubles_up_to_the_longest() {
        let backoff = Backoff { from: s(1), to: s(10) };
        let pauses: Vec<u64> = (0..7).map(|crashes| backoff.pause(crashes).as_secs()).collect();
        assert_eq!(pauses, [0, 1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.pause(u32::MAX), s(10));
    }
}
