//! One run from its options to its outcome; many runs; and a failing one made small.

use super::database::Kind;
use super::marks::{self, Marks};
use super::oracle::Rule;
use super::planted::Planted;
use super::schedule::{Action, FAMILIES, OF_ETCD, Schedule, Whom, draw};
use super::{World, cluster};
use agent::pilot::Rules;
use policies::decide::Limits;
use policies::policy::Policy;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// From which everything is drawn.
    pub seed: u64,
    /// Pods at first.
    pub members: u32,
    /// What goes wrong, and when.
    pub schedule: Schedule,
    /// When the faults end.
    pub faults_end: u64,
    /// How long after it everything must have come to rest.
    pub patience: u64,
    /// A bug put in on purpose.
    pub planted: Option<Planted>,
    /// Tell the story as it happens.
    pub aloud: bool,
    /// The part of the policy that pilots act by.
    pub rules: Rules,
    /// The grace period of pods, in seconds.
    pub grace: u64,
    /// Slowest and fastest clock, in millionths of true time.
    pub rates: (u64, u64),
    /// Rounds of gossip lost, in a thousand.
    pub loss: u64,
    /// The longest way of a message, in milliseconds.
    pub latency: u64,
    /// A user's disruption budget: so many pods may be unavailable.
    pub budget: Option<u32>,
    /// When the faults end, all but a random core stays broken for a while.
    pub core: bool,
    /// The cluster is there already, all of it powered off: its pods, claims, record and data.
    pub prepared: bool,
    /// A person looks now and then, and approves what the record asks for. On a ring only: a lost member of etcd is replaced
    /// by nobody.
    pub approves: bool,
    /// The database of its members.
    pub database: Kind,
}

impl Options {
    /// A calm run: nothing goes wrong.
    pub fn calm(seed: u64, members: u32) -> Self {
        Self {
            seed,
            members,
            schedule: Vec::new(),
            faults_end: 0,
            patience: 600_000,
            planted: None,
            aloud: false,
            rules: Rules {
                lease: Duration::from_secs(10),
                renew_every: Duration::from_secs(2),
                margin: Duration::from_secs(1),
                step: Duration::from_secs(1),
                limits: Limits::from(&Policy::default()),
                hash: "model".to_owned(),
            },
            grace: 120,
            rates: (980_000, 1_020_000),
            loss: 0,
            latency: 20,
            budget: None,
            core: false,
            prepared: false,
            approves: false,
            database: Kind::Ring,
        }
    }

    /// A cluster of so many members that has been founded long ago and comes back after its power was cut.
    pub fn large(seed: u64, members: u32) -> Self {
        Self { prepared: true, patience: 1_800_000, ..Self::calm(seed, members) }
    }

    /// The same while things go wrong: a few at a time, as in clusters of that size.
    pub fn large_under_faults(seed: u64, members: u32, end: u64) -> Self {
        let families = ["kill", "pause", "cut", "fates", "held", "delete", "database", "memory"];
        let schedule = draw(seed, members, end, &families);
        Self { schedule, faults_end: end, ..Self::large(seed, members) }
    }

    /// A run of the swarm: everything is drawn from the seed.
    pub fn swarm(seed: u64) -> Self {
        Self::swarm_of(seed, &FAMILIES)
    }

    /// A run of the swarm whose faults go on for so long, in milliseconds.
    pub fn long(seed: u64, faults_end: u64) -> Self {
        let options = Self::swarm(seed);
        Self { schedule: draw(seed, options.members, faults_end, &FAMILIES), faults_end, ..options }
    }

    /// A run of the swarm on etcd: the faults of the same seed, and those that only etcd has.
    pub fn etcd(seed: u64) -> Self {
        let mut options = Self { database: Kind::Etcd, ..Self::swarm(seed) };
        options.schedule.extend(draw(seed, options.members, options.faults_end, &OF_ETCD));
        options.schedule.sort_by_key(|(at, _)| *at);
        options
    }

    /// A run of the swarm on either database: one in five is on etcd. What is drawn for the others does not change by it.
    pub fn either(seed: u64) -> Self {
        if super::chance::Chance::of(seed, "which database").happens(200) {
            Self::etcd(seed)
        } else {
            Self::swarm(seed)
        }
    }

    /// A run on a cluster that has been there for long, its power just back, and of which fewer members are wanted soon: faults
    /// are rarer than in a storm in which hardly anybody ever gets to leave, or is restarted.
    pub fn standing(seed: u64) -> Self {
        let mut chance = super::chance::Chance::of(seed, "standing");
        let mut options = Self { prepared: true, ..Self::either(seed) };
        let changes = |action: &Action| matches!(action, Action::Scale(_) | Action::Template(_));
        let kept = chance.between(100, 500);
        options.schedule.retain(|(_, action)| changes(action) || chance.happens(kept));
        let fewer = u32::try_from(chance.between(2, u64::from(options.members))).unwrap_or(3);
        options.schedule.push((chance.between(20_000, 120_000), Action::Scale(fewer)));
        options.schedule.sort_by_key(|(at, _)| *at);
        options
    }

    /// The same, and a member loses its disk instead of fewer being wanted; a person approves that it is replaced.
    pub fn losing(seed: u64) -> Self {
        let mut chance = super::chance::Chance::of(seed, "losing");
        let mut options = Self { approves: true, database: Kind::Ring, ..Self::standing(seed) };
        let of_ring = |action: &Action| !matches!(action, Action::CutMemberCall(_));
        options.schedule.retain(|(_, action)| of_ring(action) && chance.happens(700));
        let whose = u32::try_from(chance.below(u64::from(options.members))).unwrap_or(0);
        options.schedule.push((chance.between(20_000, 120_000), Action::LoseVolume(whose)));
        options.schedule.sort_by_key(|(at, _)| *at);
        options
    }

    /// A run as `simulate` draws it: three in ten on a cluster that has been there for long, one in ten on one that loses a
    /// member's disk; and half of all with a person who approves what is asked for.
    pub fn drawn(seed: u64) -> Self {
        let options = match super::chance::Chance::of(seed, "founded or not").below(1_000) {
            0..300 => Self::standing(seed),
            300..400 => return Self::losing(seed),
            _ => Self::either(seed),
        };
        Self { approves: super::chance::Chance::of(seed, "approves").happens(500), ..options }
    }

    /// A run in which a member of etcd is to leave and reaches nobody for a while, and two others are lost meanwhile: from
    /// then on its removal would cost the quorum.
    pub fn etcd_halved(seed: u64) -> Self {
        let mut chance = super::chance::Chance::of(seed, "halved");
        let mut options = Self { database: Kind::Etcd, ..Self::large(seed, 5) };
        let at = 120_000;
        let lost = at + chance.between(2_000, 30_000);
        options.schedule = vec![
            (at, Action::Scale(4)),
            (lost, Action::Cut(vec![4], 30_000)),
            (lost, Action::LoseNode(0, 120_000)),
            (lost, Action::LoseNode(1, 120_000)),
        ];
        options.grace = 600;
        options.faults_end = at + 180_000;
        options
    }

    /// The same with these families of faults only: what is drawn of each does not depend on the others.
    pub fn swarm_of(seed: u64, families: &[&str]) -> Self {
        let mut chance = super::chance::Chance::of(seed, "swarm");
        let mut members = u32::try_from(chance.between(3, 6)).unwrap_or(3);
        let mut larger = super::chance::Chance::of(seed, "larger");
        let whole = families.len() == FAMILIES.len();
        if whole && larger.happens(250) {
            members = u32::try_from(larger.between(7, 9)).unwrap_or(7);
        }
        let faults_end = chance.between(120, 420) * 1000;
        let mut options = Self::calm(seed, members);
        options.faults_end = faults_end;
        options.schedule = draw(seed, members, faults_end, families);
        options.patience = 900_000;
        options.loss = if chance.happens(500) { 0 } else { chance.between(1, 200) };
        options.latency = chance.between(2, 200);
        options.grace = *chance.pick(&[20, 60, 120, 600]).unwrap_or(&120);
        options.budget = chance.happens(500).then_some(1);
        options.core = whole && Self::drawn_core(seed);
        options
    }

    /// A run in which a template is changed, and some write of the roll comes late.
    pub fn rolled(seed: u64) -> Self {
        let mut chance = super::chance::Chance::of(seed, "rolled");
        let mut options = Self::calm(seed, 3);
        let at = 300_000 + chance.between(0, 20_000);
        options.schedule = vec![
            (300_000, Action::Template(1)),
            (at, Action::HoldWrite(Whom::Coordinator, chance.between(30_000, 120_000))),
            (at + chance.between(1_000, 20_000), Action::KillAgent(Whom::Coordinator)),
        ];
        options.faults_end = at + 130_000;
        options
    }

    /// A run in which a member is added, leaves, and is wanted once more, while a little goes wrong.
    pub fn grown_again(seed: u64) -> Self {
        let mut chance = super::chance::Chance::of(seed, "grown again");
        let mut options = Self::calm(seed, 3);
        options.schedule = vec![
            (300_000, Action::Scale(4)),
            (450_000, Action::Scale(3)),
            (650_000 + chance.between(0, 20_000), Action::Scale(4)),
            (660_000 + chance.between(0, 20_000), Action::KillAgent(Whom::Coordinator)),
        ];
        options.faults_end = 700_000;
        options
    }

    /// A run in which a coordinator that is cut off believes in its Lease while another has been promised a higher
    /// epoch; one who promised forgets it, and hears of both only the older one. Who that is is drawn: in most seeds
    /// nobody that matters.
    pub fn forgotten(seed: u64) -> Self {
        let mut chance = super::chance::Chance::of(seed, "forgotten");
        let mut options = Self::calm(seed, 5);
        options.rules.lease = Duration::from_secs(30);
        let old = u32::try_from(chance.below(5)).unwrap_or(0);
        let forgets = (old + u32::try_from(chance.between(1, 4)).unwrap_or(1)) % 5;
        let forget = if chance.happens(500) { Action::LoseMemory(forgets) } else { Action::RollBackMemory(forgets) };
        let at = 300_000;
        options.schedule = vec![
            (at, Action::CutApi(Whom::Ordinal(old), 60_000)),
            (at, Action::Cut(vec![old], 14_000)),
            (at + 10_000, forget),
            (at + 14_000, Action::Cut(vec![old, forgets], 30_000)),
        ];
        options.faults_end = at + 60_000;
        options
    }

    /// All clocks run well enough for the margins of the policy.
    pub(crate) fn honest_clocks(&self) -> bool {
        self.rates.0 >= 950_000 && self.rates.1 <= 1_050_000
    }
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What was broken, if anything, and how.
    pub verdict: Option<(Rule, String)>,
    /// The hash of everything that happened.
    pub hash: u64,
    /// Simulated milliseconds.
    pub simulated: u64,
    /// When the cluster came to rest after the faults, if it did.
    pub rested: Option<u64>,
    /// Members at the end.
    pub members: usize,
    /// Writes refused because a later coordinator was there before.
    pub refused: u64,
    /// The most requests that one pilot sent to the API within a minute.
    pub busiest: usize,
    /// Joins and leaves begun.
    pub changes: u64,
    /// A user had taken the quorum away and had to give it back.
    pub rescued: bool,
    /// Why it did not come to rest, where that is for a person to mend.
    pub excused: Option<String>,
    /// Rows acknowledged.
    pub rows: usize,
    /// Rare paths that were taken.
    pub marks: Marks,
    /// The last lines of the story.
    pub story: Vec<String>,
}

/// So long the cluster must stay at rest.
const STAYS: u64 = 20_000;

impl World {
    /// What keeps the cluster from rest, if anything.
    pub fn unrest(&self) -> Option<(Rule, String)> {
        if let Err(why) = self.sole_coordinator() {
            return Some(why);
        }
        let rest = |why: String| Some((Rule::Rest, why));
        let Some(replicas) = self.cluster.replicas() else {
            return rest("there is no set".to_owned());
        };
        let Some(record) = self.cluster.record() else {
            return rest("the cluster is not founded".to_owned());
        };
        if let Some(intent) = &record.intent {
            return rest(format!("{} is under way", intent.operation));
        }
        let wanted: BTreeSet<String> = (0..replicas).map(|n| format!("{}-{n}", cluster::SET)).collect();
        let members: BTreeSet<String> = record.members.keys().map(ToString::to_string).collect();
        if members != wanted {
            return rest(format!("members are {members:?}, wanted are {wanted:?}"));
        }
        let roster: BTreeSet<String> = record.roster.iter().map(|v| v.name.to_string()).collect();
        if roster != wanted {
            return rest(format!("the roster is {roster:?}, wanted are {wanted:?}"));
        }
        for (name, member) in &record.members {
            let serves = self
                .databases
                .processes
                .get(name)
                .is_some_and(|p| p.stage == super::database::Stage::Serving && p.identity == member.identity);
            if !serves {
                return rest(format!("{name} does not serve as {}", member.identity));
            }
        }
        if self.databases.serving() != members.len() {
            return rest(format!("{} databases serve, {} are members", self.databases.serving(), members.len()));
        }
        if self.cluster.pods().iter().any(|p| p.ending.is_some()) {
            return rest("a pod is ending".to_owned());
        }
        if let Some(why) = self.etcd_unrest(&record) {
            return rest(why);
        }
        if let Some(name) = self.cluster.outdated() {
            return rest(format!("the pod of {name} is of an older template"));
        }
        None
    }

    /// Lets the time go on until the cluster has been at rest for a while; false when it does not come to rest in time.
    pub fn settle(&mut self, within: u64) -> bool {
        let end = self.now() + within;
        let mut calm_since = None;
        let mut last = None;
        while self.oracle.verdict.is_none() {
            match self.unrest() {
                None => {
                    let since = *calm_since.get_or_insert(self.now());
                    if self.now() >= since + STAYS {
                        self.judge_rows();
                        return self.oracle.verdict.is_none();
                    }
                }
                Some(why) => {
                    calm_since = None;
                    last = Some(why);
                }
            }
            self.delete_pods_where_no_pilot_runs();
            if self.now() >= end {
                if let Some(why) = self.left_to_a_person() {
                    self.tell(format!("left to a person: {why}"));
                    self.excused = Some(why);
                    return false;
                }
                let (rule, why) = last.unwrap_or((Rule::Rest, "it rests now and then".to_owned()));
                self.oracle.broken(rule, format!("after {within} ms without faults: {why}"));
                return false;
            }
            let next = self.now() + 1_000;
            self.run_until(next);
        }
        false
    }

    /// A user who makes the set so small, while nobody can decide, that fewer than a majority of the roster have pods,
    /// has taken the quorum away. That is never healed automatically; here the user notices and raises the size again.
    pub fn answer_lost_quorum(&mut self) {
        self.delete_pods_where_no_pilot_runs();
        let (Some(replicas), Some(record)) = (self.cluster.replicas(), self.cluster.record()) else { return };
        let have = record.roster.iter().filter(|v| v.name.ordinal().is_some_and(|o| o < replicas)).count();
        let needed = record.roster.iter().filter_map(|v| v.name.ordinal()).max().map_or(0, |o| o + 1);
        if have * 2 <= record.roster.len() && needed > replicas {
            self.rescued = true;
            self.act(&super::schedule::Action::Scale(needed));
        }
    }

    /// Where every pod was made from a template whose image cannot be had no pilot runs that could make them anew: the user
    /// who has mended the template deletes them.
    fn delete_pods_where_no_pilot_runs(&mut self) {
        if !self.agents.is_empty() {
            return;
        }
        let stuck = self.cluster.pods();
        if stuck.iter().any(|pod| pod.pulled || pod.ending.is_some()) {
            return;
        }
        for ordinal in stuck.iter().filter_map(|pod| pod.name.ordinal()) {
            self.rescued = true;
            self.act(&super::schedule::Action::DeletePod(ordinal));
        }
    }

    /// Those of the run as a whole, too.
    fn all_marks(&self) -> Marks {
        let mut all = self.marks.clone();
        let flags = [
            (marks::OUTRANKED, self.oracle.refused > 0),
            (marks::RESCUED, self.rescued),
            (marks::TO_A_PERSON, self.excused.is_some()),
            (marks::NO_QUORUM, self.rows.refused > 0),
        ];
        for (path, taken) in flags {
            if taken {
                all.mark(path);
            }
        }
        all
    }

    /// What the run has come to.
    pub fn outcome(&self, rested: Option<u64>) -> Outcome {
        Outcome {
            seed: self.options.seed,
            verdict: self.oracle.verdict.clone(),
            hash: self.story.hash(),
            simulated: self.now(),
            rested,
            members: self.cluster.record().map_or(0, |r| r.members.len()),
            refused: self.oracle.refused,
            busiest: self.oracle.bounds.busiest,
            changes: self.oracle.changes,
            rescued: self.rescued,
            excused: self.excused.clone(),
            rows: self.rows.acknowledged(),
            marks: self.all_marks(),
            story: self.story.last(400),
        }
    }
}

/// Runs the faults, heals everything, and waits for rest.
pub fn run(options: Options) -> Outcome {
    let (faults_end, patience) = (options.faults_end, options.patience);
    let mut world = World::new(options);
    world.run_until(faults_end);
    let mut rested = None;
    if world.oracle.verdict.is_none() && world.options.core {
        world.judge_core();
    }
    if world.oracle.verdict.is_none() {
        world.heal();
        world.answer_lost_quorum();
        if world.settle(patience) {
            rested = Some(world.now().saturating_sub(faults_end + STAYS));
            world.judge_rest();
        }
    }
    world.outcome(rested)
}

/// The same failure with as few actions as leaving out single ones can find, within so many tries.
pub fn minimise(options: &Options, tries: usize) -> (Options, Outcome) {
    let mut best = options.clone();
    let mut outcome = run(best.clone());
    let Some((rule, _)) = outcome.verdict.clone() else {
        return (best, outcome);
    };
    let mut left = tries;
    let mut size = best.schedule.len().div_ceil(2);
    while size > 0 && left > 0 {
        let mut from = 0;
        while from < best.schedule.len() && left > 0 {
            let mut smaller = best.clone();
            let to = (from + size).min(smaller.schedule.len());
            smaller.schedule.drain(from..to);
            left -= 1;
            let again = run(smaller.clone());
            if again.verdict.as_ref().is_some_and(|(r, _)| *r == rule) {
                best = smaller;
                outcome = again;
            } else {
                from += size;
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    (best, outcome)
}

/// A failure as a person reads it.
pub fn report(options: &Options, outcome: &Outcome, lines: usize) -> String {
    let mut text = String::new();
    if let Some((rule, why)) = &outcome.verdict {
        let _ = writeln!(text, "seed {}: {rule} is broken: {why}", outcome.seed);
    }
    let _ = writeln!(text, "members {}, faults until {} ms, schedule:", options.members, options.faults_end);
    for (at, action) in &options.schedule {
        let _ = writeln!(text, "  {at:>8} ms  {action}");
    }
    let _ = writeln!(text, "the last of the story:");
    for line in outcome.story.iter().rev().take(lines).rev() {
        let _ = writeln!(text, "  {line}");
    }
    text
}
