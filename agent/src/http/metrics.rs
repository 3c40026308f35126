//! `/metrics`: OpenMetrics text, from the state document and the counts.
//!
//! Names are `pilot_<noun>_<unit>`, counters end in `_total`, units are base units. Labels come from enums of ours only:
//! the number of series does not grow with members, names or time.

mod encode;

use super::board::Board;
use super::counters::Counters;
use super::process::{self, ProcessFacts};
use crate::gossip::GossipCounters;
use crate::pilot::state::StateDocument;
use crate::stream::StreamCounters;
use encode::{Kind, Metrics};
use policies::plan::Verdict;
use protocol::database::DatabasePhase;
use protocol::report::{ApiReach, DatabaseReport, Role};
use protocol::view::Liveness;

/// All figures as they are now.
pub(super) fn render(board: &Board) -> String {
    let latest = board.latest();
    let mut metrics = Metrics::default();
    if let Some(published) = &latest {
        mesh(&mut metrics, &published.document);
    }
    happened(&mut metrics, &board.counters());
    if let Some(gossip) = board.gossip() {
        datagrams(&mut metrics, &gossip);
    }
    if let Some(counted) = board.streams() {
        streams(&mut metrics, &counted);
    }
    own_process(&mut metrics, process::look());
    metrics.end()
}

fn mesh(metrics: &mut Metrics, state: &StateDocument) {
    metrics.family("pilot_build", Kind::Info, "", "The version of this pilot.").sample(
        "_info",
        &[("version", &state.me.version)],
        1,
    );
    let leads = matches!(state.me.role, Role::Coordinator { .. });
    metrics
        .family("pilot_role", Kind::StateSet, "", "What this pilot is in the mesh.")
        .sample("", &[("pilot_role", "coordinator")], flag(leads))
        .sample("", &[("pilot_role", "follower")], flag(!leads));

    let mut family = metrics.family(
        "pilot_coordinator_epoch",
        Kind::Gauge,
        "",
        "The epoch of the coordinator that this pilot knows of; absent without one.",
    );
    if let Some(coordinator) = &state.coordinator {
        family.sample("", &[], coordinator.epoch.0);
    }
    let degraded = state.coordinator.as_ref().is_some_and(|c| c.degraded.is_some());
    metrics.family("pilot_coordinator_known", Kind::Gauge, "", "1 where this pilot knows of a coordinator.").sample(
        "",
        &[],
        flag(state.coordinator.is_some()),
    );
    metrics
        .family(
            "pilot_coordinator_degraded",
            Kind::Gauge,
            "",
            "1 where the coordinator decides nothing, for want of a majority or of the API.",
        )
        .sample("", &[], flag(degraded));
    let mut family = metrics.family(
        "pilot_promise_epoch",
        Kind::Gauge,
        "",
        "The epoch of the last promise this pilot gave; absent before the first.",
    );
    if let Some(promise) = &state.me.promise {
        family.sample("", &[], promise.epoch.0);
    }
    if let Some((fresh, of)) = state.coordinator.as_ref().and_then(|c| c.promises) {
        metrics
            .family(
                "pilot_promises_fresh",
                Kind::Gauge,
                "",
                "Pilots whose promise the coordinator holds; only the coordinator knows.",
            )
            .sample("", &[], count(fresh));
        metrics
            .family(
                "pilot_promises_roster",
                Kind::Gauge,
                "",
                "Pilots whose promise the coordinator asks for; only the coordinator knows.",
            )
            .sample("", &[], count(of));
    }
    metrics
        .family("pilot_roster_voters", Kind::Gauge, "", "Pilots that count for quorum, as this pilot was told last.")
        .sample("", &[], count(state.roster.len()));
    metrics.family("pilot_operation_running", Kind::Gauge, "", "1 while an operation is under way.").sample(
        "",
        &[],
        flag(state.operation.is_some()),
    );
    let mut family = metrics.family(
        "pilot_api_reachable",
        Kind::Gauge,
        "",
        "1 where the Kubernetes API answered last, 0 where it did not; absent before the first try.",
    );
    match state.me.api {
        ApiReach::Untried => {}
        ApiReach::Reachable => _ = family.sample("", &[], 1),
        ApiReach::Unreachable => _ = family.sample("", &[], 0),
    }

    let mut family =
        metrics.family("pilot_pilots", Kind::Gauge, "", "Pilots this one knows, itself included, by liveness.");
    for (liveness, word) in LIVENESS {
        let number = state.members.iter().filter(|m| m.liveness == liveness).count();
        family.sample("", &[("liveness", word)], count(number));
    }
    let mut family = metrics.family(
        "pilot_members",
        Kind::Gauge,
        "",
        "Members this pilot knows, its own included, by the phase their own pilots told last.",
    );
    for (phase, word) in PHASES {
        let told = |d: &Option<DatabaseReport>| d.as_ref().map_or(DatabasePhase::Unknown, |d| d.phase);
        let number = state.members.iter().filter(|m| told(&m.database) == phase).count();
        family.sample("", &[("phase", word)], count(number));
    }
    metrics
        .family("pilot_policy_differing_pilots", Kind::Gauge, "", "Pilots that run another policy than this one.")
        .sample("", &[], count(state.policy.differing.len()));
    metrics
        .family("pilot_gossip_digest_bytes", Kind::Gauge, "bytes", "Size of the digest that names every pilot.")
        .sample("", &[], count(state.gossip.digest_bytes));
    metrics
        .family("pilot_gossip_lonely", Kind::Gauge, "", "1 where this pilot hears nobody although there are others.")
        .sample("", &[], flag(state.gossip.lonely));

    if let Some(own) = state.members.iter().find(|m| m.name == state.me.name).and_then(|m| m.database.as_ref()) {
        database(metrics, own);
    }
}

fn database(metrics: &mut Metrics, own: &DatabaseReport) {
    metrics.family("pilot_database_starts", Kind::Counter, "", "Starts of the own database process.").sample(
        "_total",
        &[],
        own.starts,
    );
    metrics
        .family(
            "pilot_database_unintended_ends",
            Kind::Counter,
            "",
            "Ends of the own database process that nobody asked for.",
        )
        .sample("_total", &[], own.unintended_ends);
    for (name, help, value) in [
        ("pilot_database_load_bytes", "Data the own member holds.", own.load),
        (
            "pilot_database_disk_used_bytes",
            "Bytes in use on the file system of the own data.",
            own.disk.map(|d| d.used),
        ),
        ("pilot_database_disk_size_bytes", "Size of the file system of the own data.", own.disk.map(|d| d.total)),
        ("pilot_database_streamed_bytes", "Data moved by the stream under way.", own.streaming.map(|s| s.done)),
        (
            "pilot_database_to_stream_bytes",
            "Data the stream under way has to move in all.",
            own.streaming.map(|s| s.total),
        ),
    ] {
        // Unknown is not zero: it is absent.
        let mut family = metrics.family(name, Kind::Gauge, "bytes", help);
        if let Some(value) = value {
            family.sample("", &[], value);
        }
    }
}

fn happened(metrics: &mut Metrics, counters: &Counters) {
    let mut family = metrics.family(
        "pilot_decisions",
        Kind::Counter,
        "",
        "Reasons in the decisions of this pilot as coordinator, by verdict and rule.",
    );
    for ((verdict, rule), number) in &counters.decisions {
        family.sample("_total", &[("verdict", verdict_word(*verdict)), ("rule", rule.word())], *number);
    }
    let mut family = metrics.family("pilot_api_requests", Kind::Counter, "", "Requests to the Kubernetes API.");
    for ((verb, answered), number) in &counters.calls {
        let outcome = if *answered { "answered" } else { "failed" };
        family.sample("_total", &[("verb", verb), ("outcome", outcome)], *number);
    }
    let mut family = metrics.family("pilot_orders_given", Kind::Counter, "", "Orders this pilot gave as coordinator.");
    for (order, number) in &counters.given {
        family.sample("_total", &[("order", &order.to_string())], *number);
    }
    let mut family = metrics.family("pilot_orders_taken", Kind::Counter, "", "Orders this pilot was given.");
    for ((order, obeyed), number) in &counters.taken {
        let outcome = if *obeyed { "obeyed" } else { "refused" };
        family.sample("_total", &[("order", &order.to_string()), ("outcome", outcome)], *number);
    }
    let mut family = metrics.family(
        "pilot_task_restarts",
        Kind::Counter,
        "",
        "Tasks of this pilot that ended unasked and were started again.",
    );
    for (task, number) in &counters.restarts {
        family.sample("_total", &[("task", task.word())], *number);
    }
}

fn datagrams(metrics: &mut Metrics, gossip: &GossipCounters) {
    metrics
        .family("pilot_gossip_datagrams", Kind::Counter, "", "Genuine gossip datagrams.")
        .sample("_total", &[("direction", "received")], gossip.received)
        .sample("_total", &[("direction", "sent")], gossip.sent);
    metrics
        .family("pilot_gossip_traffic_bytes", Kind::Counter, "bytes", "Bytes of genuine gossip datagrams.")
        .sample("_total", &[("direction", "received")], gossip.received_bytes)
        .sample("_total", &[("direction", "sent")], gossip.sent_bytes);
    let mut family = metrics.family(
        "pilot_gossip_dropped_datagrams",
        Kind::Counter,
        "",
        "Gossip datagrams that changed nothing, by reason.",
    );
    for (reason, number) in [
        ("malformed", gossip.malformed),
        ("unknown-key", gossip.unknown_key),
        ("forged", gossip.forged),
        ("replayed", gossip.replayed),
        ("stale-generation", gossip.stale_generation),
        ("twin", gossip.twin),
        ("reflected", gossip.reflected),
        ("over-budget", gossip.over_budget),
        ("incomplete", gossip.incomplete),
        ("inbox-full", gossip.inbox_full),
        ("send-failed", gossip.send_failed),
        ("receive-failed", gossip.receive_failed),
        ("cut", gossip.cut),
        ("undecodable", gossip.undecodable),
        ("foreign", gossip.foreign),
    ] {
        family.sample("_total", &[("reason", reason)], number);
    }
}

fn streams(metrics: &mut Metrics, counted: &StreamCounters) {
    metrics
        .family("pilot_stream_frames", Kind::Counter, "", "Frames on proven streams between pilots, pings included.")
        .sample("_total", &[("direction", "received")], counted.received_frames)
        .sample("_total", &[("direction", "sent")], counted.sent_frames);
    metrics
        .family("pilot_stream_traffic_bytes", Kind::Counter, "bytes", "Bytes of frames on proven streams.")
        .sample("_total", &[("direction", "received")], counted.received_bytes)
        .sample("_total", &[("direction", "sent")], counted.sent_bytes);
}

fn own_process(metrics: &mut Metrics, facts: ProcessFacts) {
    if let Some(resident) = facts.resident {
        metrics.family("process_resident_memory_bytes", Kind::Gauge, "bytes", "Memory this process holds.").sample(
            "",
            &[],
            resident,
        );
    }
    metrics.family("process_cpu_seconds", Kind::Counter, "seconds", "Processor time this process used.").sample(
        "_total",
        &[],
        facts.cpu,
    );
    if let Some(descriptors) = facts.descriptors {
        metrics.family("process_open_fds", Kind::Gauge, "", "File descriptors this process has open.").sample(
            "",
            &[],
            descriptors,
        );
    }
}

const LIVENESS: [(Liveness, &str); 3] =
    [(Liveness::Live, "live"), (Liveness::Silent, "silent"), (Liveness::Departed, "departed")];

const PHASES: [(DatabasePhase, &str); 13] = [
    (DatabasePhase::Unknown, "unknown"),
    (DatabasePhase::Held, "held"),
    (DatabasePhase::Starting, "starting"),
    (DatabasePhase::Joining, "joining"),
    (DatabasePhase::Serving, "serving"),
    (DatabasePhase::Leaving, "leaving"),
    (DatabasePhase::Left, "left"),
    (DatabasePhase::Draining, "draining"),
    (DatabasePhase::Unresponsive, "unresponsive"),
    (DatabasePhase::Restarting, "restarting"),
    (DatabasePhase::CrashLooping, "crash-looping"),
    (DatabasePhase::Stopped, "stopped"),
    (DatabasePhase::JoinFailed, "join-failed"),
];

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Act => "act",
        Verdict::Wait => "wait",
        Verdict::Refuse => "refuse",
        Verdict::Done => "done",
    }
}

fn flag(holds: bool) -> u64 {
    u64::from(holds)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
