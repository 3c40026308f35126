//! The liveness phase: a random core of the cluster is whole, and everything else is broken for good (the second phase of
//! TigerBeetle's VOPR). What a majority can do it has to do, whatever the rest looks like: one coordinator, that stays; its
//! members serve; and who can do nothing more does not busy the API.

use super::agents::Life;
use super::chance::Chance;
use super::cluster::pod_name;
use super::database::Stage;
use super::oracle::Rule;
use super::pods::Pod;
use super::run::Options;
use super::schedule::{Action, Whom};
use super::{World, marks};
use protocol::id::PilotName;
use protocol::record::ClusterRecord;
use std::collections::BTreeSet;

/// Longer than any run.
const FOR_GOOD: u64 = 1_000 * 60 * 60 * 24 * 365;
/// Requests that were sent before may be on their way for so long.
const IN_FLIGHT: u64 = 120_000;
/// After that the core has so long to find its coordinator and to bring its members up: two Leases of the longest kind,
/// and the longest pause of a launcher before it starts a database again.
const WITHIN: u64 = 60_000 + 300_000;
/// Then it is watched for so long.
const WATCHED: u64 = 120_000;
/// Who takes over from a coordinator whose pod is restarted has so long for it.
const HANDS_OVER: u64 = 30_000;
/// So many writes it may need meanwhile, renewals of the Lease aside: what one operation takes.
const WRITES: u64 = 30;

/// How a pod outside of the core is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ruin {
    /// Its node is lost.
    Node,
    /// Its pilot is stopped, its database serves.
    Pilot,
    /// Its database is stopped, its pilot goes on.
    Database,
    /// It reaches nobody.
    Alone,
    /// It reaches the API and no other pod.
    ApiOnly,
    /// It reaches the other pods and not the API.
    NoApi,
    /// It hears no other pod, and all hear it.
    Deaf,
}

impl Ruin {
    const ALL: [Self; 7] =
        [Self::Node, Self::Pilot, Self::Database, Self::Alone, Self::ApiOnly, Self::NoApi, Self::Deaf];
}

/// Who is whole, and what was drawn for the others.
#[derive(Debug, Clone)]
struct Core {
    whole: BTreeSet<u32>,
    ruined: Vec<(u32, Ruin)>,
}

impl Core {
    /// A majority of who counts, at least; whoever else is wanted is in it or not.
    fn draw(seed: u64, voters: &[u32], wanted: u32) -> Self {
        let mut chance = Chance::of(seed, "core");
        let mut left: Vec<u32> = voters.to_vec();
        let fewest = voters.len() / 2 + 1;
        let many = usize::try_from(chance.between(fewest as u64, voters.len() as u64)).unwrap_or(fewest);
        let mut whole = BTreeSet::new();
        while whole.len() < many && !left.is_empty() {
            let at = usize::try_from(chance.below(left.len() as u64)).unwrap_or(0);
            whole.insert(left.swap_remove(at));
        }
        for other in (0..wanted).filter(|ordinal| !voters.contains(ordinal)) {
            if chance.happens(500) {
                whole.insert(other);
            } else {
                left.push(other);
            }
        }
        left.sort_unstable();
        let ruined = left.into_iter().filter_map(|ordinal| Some((ordinal, *chance.pick(&Ruin::ALL)?))).collect();
        Self { whole, ruined }
    }

    fn names(&self) -> impl Iterator<Item = PilotName> {
        self.whole.iter().copied().filter_map(pod_name)
    }
}

impl Options {
    /// Whether a run of the swarm has the phase: half of them, so that a fault which needs healing to show is not hidden.
    pub(super) fn drawn_core(seed: u64) -> bool {
        Chance::of(seed, "whether there is a core").happens(500)
    }
}

impl World {
    /// Breaks all but a core for good, and judges what the core has to do. Nothing is done where the voters that have
    /// pods are no majority: that is for a user to mend.
    pub fn judge_core(&mut self) {
        self.heal();
        self.answer_lost_quorum();
        let replicas = self.cluster.replicas().unwrap_or(0);
        let voters = self.voters();
        // A pod whose image cannot be had is whole only when somebody has made it anew.
        let stuck: BTreeSet<u32> =
            self.cluster.pods().iter().filter(|pod| !pod.pulled).filter_map(|pod| pod.name.ordinal()).collect();
        let present: Vec<u32> =
            voters.iter().copied().filter(|ordinal| *ordinal < replicas && !stuck.contains(ordinal)).collect();
        if present.len() * 2 <= voters.len() {
            return;
        }
        let core = Core::draw(self.options.seed, &present, replicas);
        if !self.can_decide(&core) {
            return;
        }
        self.tell(format!("whole from now on: {:?}; for good: {:?}", core.whole, core.ruined));
        self.marks.mark(marks::CORE);
        for (ordinal, ruin) in &core.ruined {
            self.ruin(*ordinal, *ruin);
        }
        self.run_until(self.now + IN_FLIGHT);
        let until = self.now + WITHIN;
        while let Some((rule, why)) = self.lacking(&core) {
            if self.oracle.verdict.is_some() {
                return;
            }
            if self.now >= until {
                let since = IN_FLIGHT + WITHIN;
                let why = format!("{since} ms after all but {:?} broke for good: {why}", core.whole);
                self.oracle.broken(rule, why);
                return;
            }
            self.run_until(self.now + 1_000);
        }
        self.watch_core(&core);
    }

    /// The ordinals of the pilots that count; before there is a record, of all that are declared.
    fn voters(&self) -> Vec<u32> {
        match self.cluster.record() {
            Some(record) => record.roster.iter().filter_map(|v| v.name.ordinal()).collect(),
            None => (0..self.cluster.replicas().unwrap_or(0)).collect(),
        }
    }

    fn ruin(&mut self, ordinal: u32, ruin: Ruin) {
        match ruin {
            Ruin::Node => self.act(&Action::LoseNode(ordinal, FOR_GOOD)),
            Ruin::Pilot => self.act(&Action::Pause(Whom::Ordinal(ordinal), FOR_GOOD)),
            Ruin::Database => self.act(&Action::HangDatabase(ordinal, FOR_GOOD)),
            Ruin::Alone => {
                self.act(&Action::Cut(vec![ordinal], FOR_GOOD));
                self.broken.api_cuts.insert(ordinal, self.now + FOR_GOOD);
            }
            Ruin::ApiOnly => self.act(&Action::Cut(vec![ordinal], FOR_GOOD)),
            Ruin::NoApi => {
                self.broken.api_cuts.insert(ordinal, self.now + FOR_GOOD);
            }
            Ruin::Deaf => self.act(&Action::Deaf(ordinal, FOR_GOOD)),
        }
    }

    /// What the core lacks, if anything.
    fn lacking(&self, core: &Core) -> Option<(Rule, String)> {
        if self.left_to_a_person().is_some() || !self.can_decide(core) {
            return None;
        }
        let (life, epoch) = match self.sole_coordinator() {
            Ok(one) => one,
            Err(why) => return Some(why),
        };
        let leader = self.agents.get(&life)?.name();
        let alone = |name: &PilotName| !self.reaches(leader, name);
        if core.names().filter(|name| name != leader).all(|name| alone(&name)) && core.whole.len() > 1 {
            return Some((Rule::Coordinator, format!("{leader} leads at epoch {epoch} and reaches nobody")));
        }
        let record = self.cluster.record()?;
        let down = core.names().find(|name| self.has_to_serve(&record, name) && !self.serves(name))?;
        Some((Rule::Rest, format!("{down} is a member, is whole, and does not serve")))
    }

    /// Whether the core is a majority still: who joins or leaves meanwhile changes what one is, and a pilot that started
    /// while it did not reach the API can promise nothing.
    fn can_decide(&self, core: &Core) -> bool {
        let voters = self.voters();
        voters.iter().filter(|ordinal| core.whole.contains(ordinal)).count() * 2 > voters.len()
    }

    /// A member that nobody restarts or lets leave just now, and that is wanted.
    fn has_to_serve(&self, record: &ClusterRecord, name: &PilotName) -> bool {
        let subject = record.intent.as_ref().map(|intent| &intent.kind.subject().name);
        let wanted = name.ordinal().zip(self.cluster.replicas()).is_some_and(|(ordinal, size)| ordinal < size);
        record.members.contains_key(name) && subject != Some(name) && wanted
    }

    fn serves(&self, name: &PilotName) -> bool {
        self.databases.processes.get(name).is_some_and(|p| p.stage == Stage::Serving)
    }

    /// A core that has what it needs keeps it, with at most one change of coordinator that nothing explains, and writes
    /// little.
    fn watch_core(&mut self, core: &Core) {
        let writes = self.oracle.writes;
        let mut leader: Option<(Life, u64)> = None;
        let mut unexplained = Vec::new();
        let end = self.now + WATCHED;
        while self.oracle.verdict.is_none() && self.now < end {
            if let Some(now) = self.coordinators().last().copied()
                && leader != Some(now)
            {
                // One whose pod is restarted hands over.
                if let Some((life, epoch)) = leader.replace(now)
                    && let Some(agent) = self.agents.get(&life)
                    && !self.pods.get(agent.name()).is_some_and(Pod::is_ending)
                {
                    unexplained.push(epoch);
                }
            }
            self.run_until(self.now + 1_000);
        }
        if unexplained.len() > 1 && self.can_decide(core) {
            let why = format!(
                "the coordinators of epochs {unexplained:?} ended within {WATCHED} ms, and nothing disturbs the core"
            );
            self.oracle.broken(Rule::Coordinator, why);
        }
        let written = self.oracle.writes - writes;
        // Just then one may be handing over.
        let until = self.now + HANDS_OVER;
        while let Some((rule, why)) = self.lacking(core) {
            if self.oracle.verdict.is_some() || self.now >= until {
                self.oracle.broken(rule, format!("{WATCHED} ms after the core had all it needs: {why}"));
                return;
            }
            self.run_until(self.now + 1_000);
        }
        if written > WRITES {
            let why = format!("{written} writes within {WATCHED} ms, by a mesh that can do next to nothing");
            self.oracle.broken(Rule::Quiet, why);
        }
    }
}
