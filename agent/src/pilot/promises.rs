//! Who has promised a coordinator, and in which of its rounds.

use protocol::id::{PilotName, Uid, Voter};
use std::collections::BTreeMap;

/// What one pilot answered last.
#[derive(Debug, Clone)]
struct Answered {
    round: u64,
    /// The volume it promised on.
    claim: Option<Uid>,
}

/// The answers of all, and how many of those that count were given in which round: a coordinator of a thousand hears a
/// thousand promises a second, and asks after each whether they are a majority.
#[derive(Debug, Clone, Default)]
pub(crate) struct Promises {
    roster: Vec<Voter>,
    claims: BTreeMap<PilotName, Uid>,
    answers: BTreeMap<PilotName, Answered>,
    /// Voters that answered with the volume that counts, by the round of their answer.
    counted: BTreeMap<u64, usize>,
}

impl Promises {
    pub(crate) fn roster(&self) -> &[Voter] {
        &self.roster
    }

    /// From now on these count; whether they are others than before.
    pub(crate) fn count_for(&mut self, roster: Vec<Voter>) -> bool {
        if self.roster == roster {
            return false;
        }
        self.claims = roster.iter().map(|voter| (voter.name.clone(), voter.claim.clone())).collect();
        self.roster = roster;
        self.counted.clear();
        for (name, answer) in &self.answers {
            if counts(&self.claims, name, answer) {
                *self.counted.entry(answer.round).or_default() += 1;
            }
        }
        true
    }

    /// This pilot promised, in this round; an answer to an earlier one than its last is no news.
    pub(crate) fn hear(&mut self, who: &PilotName, round: u64, claim: Option<Uid>) {
        let before = self.answers.get(who);
        if before.is_some_and(|before| before.round >= round) {
            return;
        }
        if let Some(before) = before
            && counts(&self.claims, who, before)
            && let Some(there) = self.counted.get_mut(&before.round)
        {
            *there -= 1;
            if *there == 0 {
                self.counted.remove(&before.round);
            }
        }
        let answer = Answered { round, claim };
        if counts(&self.claims, who, &answer) {
            *self.counted.entry(round).or_default() += 1;
        }
        self.answers.insert(who.clone(), answer);
    }

    /// Whether this pilot has promised in this round or a later one, on whatever volume.
    pub(crate) fn has_answered_since(&self, who: &PilotName, round: u64) -> bool {
        self.answers.get(who).is_some_and(|answer| answer.round >= round)
    }

    /// Voters that promised in this round or a later one, with the volume that counts.
    pub(crate) fn since(&self, round: u64) -> usize {
        self.counted.range(round..).map(|(_, count)| count).sum()
    }

    pub(crate) fn are_a_majority_since(&self, round: u64) -> bool {
        !self.roster.is_empty() && self.since(round) * 2 > self.roster.len()
    }
}

fn counts(claims: &BTreeMap<PilotName, Uid>, who: &PilotName, answer: &Answered) -> bool {
    claims.get(who).is_some_and(|claim| answer.claim.as_ref() == Some(claim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(n: u8) -> PilotName {
        PilotName::parse(&format!("c-{n}")).expect("valid")
    }

    fn claim(n: u8) -> Uid {
        Uid::new(format!("claim-{n}"))
    }

    fn voters(of: &[(u8, u8)]) -> Vec<Voter> {
        let named: BTreeMap<u8, u8> = of.iter().copied().collect();
        named.into_iter().map(|(n, of)| Voter { name: name(n), claim: claim(of) }).collect()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Hear(u8, u64, Option<u8>),
        Count(Vec<(u8, u8)>),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let hear = (0..5_u8, 0..6_u64, proptest::option::of(0..3_u8)).prop_map(|(n, r, c)| Step::Hear(n, r, c));
        let count = proptest::collection::vec((0..5_u8, 0..3_u8), 0..5).prop_map(Step::Count);
        proptest::collection::vec(prop_oneof![4 => hear, 1 => count], 0..40)
    }

    proptest! {
        #[test]
        fn what_is_counted_as_it_comes_is_what_a_count_of_the_latest_answers_says(steps in steps()) {
            let mut promises = Promises::default();
            let mut roster = Vec::new();
            let mut answers: BTreeMap<PilotName, (u64, Option<Uid>)> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Hear(n, round, of) => {
                        promises.hear(&name(n), round, of.map(claim));
                        let last = answers.entry(name(n)).or_insert((round, of.map(claim)));
                        if last.0 < round {
                            *last = (round, of.map(claim));
                        }
                    }
                    Step::Count(of) => {
                        roster = voters(&of);
                        promises.count_for(roster.clone());
                    }
                }
                for since in 0..7 {
                    let said = |v: &&Voter| {
                        answers.get(&v.name).is_some_and(|(r, c)| *r >= since && c.as_ref() == Some(&v.claim))
                    };
                    let have = roster.iter().filter(said).count();
                    prop_assert_eq!(promises.since(since), have);
                    prop_assert_eq!(promises.are_a_majority_since(since), have * 2 > roster.len());
                }
            }
        }
    }
}
