//! What is enumerated or drawn instead of named, seeds that once showed a bug, and bugs that are planted.

use engine::world::database::Kind;
use engine::world::plan::Plan;
use engine::world::planted::Planted;
use engine::world::run::{Options, minimise, report, run};
use engine::world::schedule::{Action, Whom};

/// Carries out every plan with this action, whatever it is right after.
fn after_every_write(action: &Action) {
    let reached = Plan::all(0, Kind::Ring).expect("every workload ends well when nothing goes wrong");
    let mut count = 0;
    for from in &reached {
        for plan in from.plans().into_iter().filter(|plan| plan.action == *action) {
            count += 1;
            let outcome = plan.run(from);
            assert!(outcome.verdict.is_none(), "{plan}\n{:?}\n{}", outcome.verdict, outcome.story.join("\n"));
            assert!(outcome.excused.is_none(), "{plan}: {:?}", outcome.excused);
        }
    }
    assert!(count >= 50, "{count} writes in all workloads");
}

#[test]
fn f17_f18_f19_a_coordinator_killed_after_any_of_its_writes_is_carried_on_by_the_next() {
    after_every_write(&Action::KillAgent(Whom::Writer));
}

#[test]
fn f19_reads_that_stand_still_from_any_write_on_undo_nothing_and_make_nothing_again() {
    after_every_write(&Action::StaleReads(Whom::Writer, 60_000));
}

#[test]
fn f53_whatever_write_is_done_and_its_answer_lost_is_found_done_and_not_done_twice() {
    after_every_write(&Action::LoseReply(Whom::Writer));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [0, 7] {
        assert_eq!(run(Options::swarm(seed)).hash, run(Options::swarm(seed)).hash);
    }
}

#[test]
fn a_swarm_of_faults_breaks_no_rule() {
    for seed in 1_000..1_020 {
        let options = Options::swarm(seed);
        let outcome = run(options.clone());
        if outcome.verdict.is_some() {
            let (smaller, outcome) = minimise(&options, 10);
            panic!("{}", report(&smaller, &outcome, 60));
        }
    }
}

/// Seeds that once showed a bug, with what was wrong then. They stay.
const MENDED: [(u64, &str); 14] = [
    (1003, "a Lease that somebody emptied was taken like one given back: two might change membership"),
    (1015, "the roster counted pilots that had never joined; data of a join given up half-way blocked its ordinal"),
    (1033, "a member that had left was started again and again, and its leave never ended"),
    (1037, "an epoch that somebody erased from the Lease was taken a second time"),
    (2000, "of a size that is not allowed a part was carried out, and the rest was down meanwhile"),
    (2011, "a pod made again started an identity in the moment it was retired"),
    (3095, "a joiner that came to own data as its pod was scaled away was waited for for ever"),
    (3096, "two members beyond the size, both without pods, waited for each other to serve"),
    (3113, "as 3095, with a short grace"),
    (20123, "a coordinator's life that had not been heard of was held silent by the silence of the one before"),
    (20154, "as 20123, by a pilot that had only just started"),
    (5345, "data of a join given up before its identity was heard blocked its ordinal for ever"),
    (440, "data of a join given up on a claim that a member had left before blocked its ordinal for ever"),
    (20535, "a restart not begun waited for a member beyond the size that had no pod, and kept it from leaving"),
];

/// The families of faults that were drawn when the first of them were found: such a run is the one of then.
const FIRST: [&str; 11] =
    ["kill", "pause", "cut", "outage", "fates", "held", "lease", "wall", "scale", "delete", "database"];
/// Likewise later.
const SECOND: [&str; 13] = [
    "kill", "pause", "cut", "outage", "fates", "held", "lease", "wall", "scale", "delete", "database", "memory",
    "template",
];

#[test]
fn seeds_that_once_showed_a_bug_show_none() {
    for (seed, bug) in MENDED {
        let families = if (1_000..20_000).contains(&seed) { &FIRST[..] } else { &SECOND[..] };
        let options = Options { budget: None, ..Options::swarm_of(seed, families) };
        let outcome = run(options.clone());
        assert!(outcome.verdict.is_none(), "{bug}\n{}", report(&options, &outcome, 60));
    }
}

/// Seeds of later runs, as `simulate` drew them then, with what was wrong.
const MENDED_SINCE: [(u64, &str); 5] = [
    (
        3_051_690_345,
        "the judge's: who forgot a promise, the Lease deleted since, was held to a record that its front end did not show yet",
    ),
    (
        3_364_978_812,
        "a size raised for one that left fell when it had left, and took the pods of three of five with it",
    ),
    (
        3_656_970_575,
        "a joiner took data from a member whose pod was scaled away: the join waited for it, its leave for the join",
    ),
    (
        4_133_399_345,
        "the judge's: who read the record of a front end that lagged, and the Lease when it did no more, counted by the older roster",
    ),
    (
        1_795_848_150_000_636,
        "the judge's: a joiner that was ended before anybody heard that it had joined was counted among the copies",
    ),
];

/// Likewise of clusters that had been there for long.
const MENDED_STANDING: [(u64, &str); 3] = [
    (
        1_795_849_568_000_139,
        "the model's: a leaver handed its part over although another had lost its disk, which it could not write to",
    ),
    (
        1_795_869_570_000_597,
        "a leaver that came up again was told to end and to return: its peers held gone who served for a moment",
    ),
    (
        1_795_849_625_000_544,
        "killed while it announced that it had left, it was told to end for good as it came up again",
    ),
];

#[test]
fn seeds_that_showed_a_bug_since_show_none() {
    let since = MENDED_SINCE.map(|(seed, fault)| (Options::either(seed), fault));
    let standing = MENDED_STANDING.map(|(seed, fault)| (Options::standing(seed), fault));
    for (options, fault) in since.into_iter().chain(standing) {
        let outcome = run(options.clone());
        assert!(outcome.verdict.is_none(), "{fault}\n{}", report(&options, &outcome, 60));
    }
}

/// Those that take more than a few runs are the shard's: `simulate --planted`.
#[test]
fn planted_bugs_are_found() {
    let slow = [
        Planted::ErrorIsAbsence,
        Planted::RetiredIsEmpty,
        Planted::BlindEviction,
        Planted::LeavingIsGone,
        Planted::SilentByOne,
        Planted::CopiesUnread,
    ];
    let mut unfound = Vec::new();
    for bug in Planted::ALL.into_iter().filter(|bug| !slow.contains(bug)) {
        let shows = |seed: &u64| {
            let outcome = run(bug.options(*seed));
            // Only a second run shows that the first was not made of its seed alone.
            outcome.verdict.is_some() || (bug == Planted::HashOrder && run(bug.options(*seed)).hash != outcome.hash)
        };
        if !(0..30).any(|seed| shows(&seed)) {
            unfound.push(bug);
        }
    }
    assert!(unfound.is_empty(), "{unfound:?} were not found in 30 seeds");
}
