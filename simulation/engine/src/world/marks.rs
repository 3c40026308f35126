//! Rare paths, marked when they are taken: a simulator shows something of those only that it takes.

use super::plan::Step;
use super::schedule::FAMILIES;
use policies::plan::Rule;
use std::collections::BTreeMap;

/// Paths that runs of the swarm never take, each with the reason.
pub const NEVER: [(&str, &str); 2] = [
    ("rule Bounds", "the policy's bounds are wider than any size that is drawn: the decision tests hold it"),
    ("rule RetiredStaysOut", "it is told by the driver's refusal alone: the decision tests hold it"),
];

/// How often each path was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks(BTreeMap<String, u64>);

impl Marks {
    /// A path was taken.
    pub fn mark(&mut self, path: impl Into<String>) {
        *self.0.entry(path.into()).or_default() += 1;
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        for (path, count) in &other.0 {
            *self.0.entry(path.clone()).or_default() += count;
        }
    }

    /// How often this path was taken.
    pub fn count(&self, path: &str) -> u64 {
        self.0.get(path).copied().unwrap_or(0)
    }

    /// All paths that were taken, with how often.
    pub fn taken(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(path, count)| (path.as_str(), *count))
    }

    /// The paths that should be taken and were not.
    pub fn missing(&self) -> Vec<String> {
        let rules = Rule::ALL.into_iter().map(|rule| format!("rule {}", rule.word()));
        let steps = Step::ALL.into_iter().map(|step| format!("step {step:?}"));
        let faults = FAMILIES.into_iter().map(|family| format!("fault {family}"));
        let others = OTHERS.into_iter().map(str::to_owned);
        rules
            .chain(steps)
            .chain(faults)
            .chain(others)
            .filter(|path| self.count(path) == 0 && !NEVER.iter().any(|(never, _)| never == path))
            .collect()
    }
}

/// A write of an older epoch is refused.
pub(crate) const OUTRANKED: &str = "a write of an older epoch is refused";
/// A Lease is taken before it has run out.
pub(crate) const TAKEN_EARLY: &str = "a Lease is taken before it has run out";
/// A budget refuses an eviction.
pub(crate) const BUDGET_REFUSES: &str = "a budget refuses an eviction";
/// A join whose streams broke off comes to its end.
pub(crate) const JOINS_ANEW: &str = "a join whose streams broke off begins anew";
/// A leave whose streams broke off.
pub(crate) const LEAVE_FAILS: &str = "a leave's streams break off";
/// Data is moved aside.
pub(crate) const MOVED_ASIDE: &str = "old data is moved aside";
/// A user gives a quorum back.
pub(crate) const RESCUED: &str = "a user gives a quorum back";
/// A member waits for a person.
pub(crate) const TO_A_PERSON: &str = "something is left to a person";
/// A person approves that a lost member is replaced.
pub(crate) const APPROVED: &str = "a person approves a replacement";
/// A lost member has been replaced.
pub(crate) const REPLACED: &str = "a lost member is replaced";
/// A client finds no quorum.
pub(crate) const NO_QUORUM: &str = "a client finds no quorum";

/// All but a core is broken for good.
pub(crate) const CORE: &str = "all but a core is broken for good";

/// No operation is under way.
pub(crate) const AT_REST: &str = "rest";
/// What may be under way.
const DURING: [&str; 7] = [AT_REST, "founding", "form", "join", "leave", "restart", "replace"];

/// A kind of fault while something is under way.
pub(crate) fn during(family: &str, what: &str) -> String {
    format!("{family} during {what}")
}

impl Marks {
    /// How often each kind of fault met each kind of operation, as a table; and the pairs that never met.
    pub fn matrix(&self) -> (String, Vec<String>) {
        let mut text = format!("{:<10}", "fault");
        for what in DURING {
            text.push_str(&format!("{what:>10}"));
        }
        text.push('\n');
        let mut holes = Vec::new();
        for family in FAMILIES {
            text.push_str(&format!("{family:<10}"));
            for what in DURING {
                let count = self.count(&during(family, what));
                if count == 0 {
                    holes.push(during(family, what));
                }
                text.push_str(&format!("{count:>10}"));
            }
            text.push('\n');
        }
        (text, holes)
    }
}

const OTHERS: [&str; 12] = [
    CORE,
    OUTRANKED,
    TAKEN_EARLY,
    BUDGET_REFUSES,
    JOINS_ANEW,
    LEAVE_FAILS,
    MOVED_ASIDE,
    RESCUED,
    TO_A_PERSON,
    APPROVED,
    REPLACED,
    NO_QUORUM,
];
