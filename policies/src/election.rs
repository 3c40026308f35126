//! Who tries for the Lease, when, and what makes a lost coordinator certain. Pure.

use protocol::database::DatabasePhase;
use protocol::id::{Generation, PilotId, PilotName, Voter};
use protocol::report::ApiReach;
use protocol::view::{Liveness, View};
use std::collections::BTreeSet;

/// What ranks one candidate; smaller goes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rank<'a> {
    api: u8,
    serving: bool,
    generation: Generation,
    name: &'a PilotName,
}

impl Rank<'_> {
    fn id(&self) -> PilotId {
        PilotId { name: self.name.clone(), generation: self.generation }
    }
}

fn rank(name: &PilotName, generation: Generation, api: ApiReach, phase: DatabasePhase) -> Rank<'_> {
    Rank {
        api: match api {
            ApiReach::Reachable => 0,
            ApiReach::Untried => 1,
            ApiReach::Unreachable => 2,
        },
        serving: phase != DatabasePhase::Serving,
        generation,
        name,
    }
}

/// What a pilot knows of itself that ranks it among the others.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// This life.
    pub id: &'a PilotId,
    /// Its pod is ending: it does not stand.
    pub terminating: bool,
    /// Whether it reached the API at its last try.
    pub api: ApiReach,
    /// Where its database stands.
    pub phase: DatabasePhase,
}

fn ranks<'a>(own: &Standing<'a>, view: &'a View) -> impl Iterator<Item = Rank<'a>> {
    let itself = (!own.terminating).then(|| rank(&own.id.name, own.id.generation, own.api, own.phase));
    view.live()
        .filter(|(_, _, report)| !report.database.terminating)
        .map(|(name, peer, report)| rank(name, peer.generation, report.mesh.api, report.database.phase))
        .chain(itself)
}

/// The live pilots in the order in which they try for the Lease: API reachable, database serving, oldest life, name.
///
/// Everybody who sees the same ranks the same; a difference only means that two try, and compare-and-set decides.
/// A terminating pilot does not stand.
pub fn candidates(own: &Standing<'_>, view: &View) -> Vec<PilotId> {
    let mut ranked: Vec<Rank<'_>> = ranks(own, view).collect();
    ranked.sort();
    ranked.iter().map(Rank::id).collect()
}

/// The first of them but for itself and one more.
pub fn next_candidate(own: &Standing<'_>, view: &View, but: Option<&PilotId>) -> Option<PilotId> {
    let is = |rank: &Rank<'_>, id: &PilotId| *rank.name == id.name && rank.generation == id.generation;
    ranks(own, view).filter(|r| !is(r, own.id) && !but.is_some_and(|but| is(r, but))).min().map(|first| first.id())
}

/// How the Lease may be taken from its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeOver {
    /// Nobody holds it.
    Free,
    /// It has not changed for its whole duration, by our own clock.
    Expired,
    /// A majority of the roster holds the holder's process ended or silent: its promises and stamps fence it.
    Early,
}

/// Whether more than half of the roster holds this coordinator ended or silent. `own` counts by its own view.
pub fn majority_holds_it_lost(
    holder: &PilotId,
    roster: &[Voter],
    own: &PilotName,
    own_ended: &BTreeSet<PilotId>,
    told: &BTreeSet<PilotName>,
    view: &View,
) -> bool {
    let agrees = |voter: &Voter| {
        if voter.name == holder.name {
            // Another life of the same pod knows that the one before has ended: two agents never run on one volume.
            return voter.name == *own
                || view
                    .peers
                    .get(&voter.name)
                    .is_some_and(|p| p.generation > holder.generation && p.liveness == Liveness::Live);
        }
        if voter.name == *own {
            return own_ended.contains(holder) || holds_silent(holder, view);
        }
        told.contains(&voter.name)
            || view
                .live_report(&voter.name)
                .is_some_and(|report| report.mesh.ended.contains(holder) || report.mesh.silent.contains(holder))
    };
    let count = roster.iter().filter(|v| agrees(v)).count();
    !roster.is_empty() && count * 2 > roster.len()
}

/// Whether this view holds that life silent or over.
pub fn holds_silent(id: &PilotId, view: &View) -> bool {
    if view.woken || view.lonely {
        return false;
    }
    match view.peers.get(&id.name) {
        // Of a life that was never heard of nothing is known, whatever became of the one before it.
        Some(peer) if peer.generation < id.generation => false,
        Some(peer) => peer.generation > id.generation || peer.liveness != Liveness::Live,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::Uid;
    use protocol::view::Peer;
    use std::collections::BTreeMap;

    fn id(name: &str, generation: u64) -> PilotId {
        PilotId { name: PilotName::parse(name).expect("valid"), generation: Generation(generation) }
    }

    fn voters(names: &[&str]) -> Vec<Voter> {
        names.iter().map(|n| Voter { name: PilotName::parse(n).expect("valid"), claim: Uid::new(*n) }).collect()
    }

    #[test]
    fn one_witness_of_three_is_no_majority() {
        let holder = id("c-0", 1);
        let own = id("c-1", 1);
        let view = View { peers: BTreeMap::new(), ..View::default() };
        let ended = BTreeSet::from([holder.clone()]);
        let roster = voters(&["c-0", "c-1", "c-2"]);
        assert!(!majority_holds_it_lost(&holder, &roster, &own.name, &ended, &BTreeSet::new(), &view));
        let told = BTreeSet::from([PilotName::parse("c-2").expect("valid")]);
        assert!(majority_holds_it_lost(&holder, &roster, &own.name, &ended, &told, &view));
    }

    #[test]
    fn a_life_is_held_silent_by_its_own_silence_or_a_later_one_and_never_by_that_of_the_one_before() {
        let peer =
            Peer { generation: Generation(5), liveness: Liveness::Silent, timeout: None, phi: None, report: None };
        let view = View { peers: BTreeMap::from([(id("c-0", 5).name, peer)]), ..View::default() };
        let held = |generation| holds_silent(&id("c-0", generation), &view);
        assert_eq!([held(4), held(5), held(6)], [true, true, false]);
    }

    #[test]
    fn a_woken_pilot_holds_nobody_silent() {
        let view = View { woken: true, ..View::default() };
        assert!(!holds_silent(&id("c-0", 1), &view));
    }
}
