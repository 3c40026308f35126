//! The log: who leads, what is committed, and who has how much of it.

use super::super::World;
use super::super::database::Stage;
use super::super::oracle::Rule;
use super::{Configuration, Directory, quorum};
use protocol::id::{DatabaseIdentity, PilotName, Uid};

/// A process that takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) pod: PilotName,
    pub(super) claim: Uid,
    pub(super) identity: DatabaseIdentity,
    pub(super) entries: u64,
}

impl World {
    /// What lies of the log on this volume.
    pub(super) fn directory_of(&self, claim: &Uid) -> Option<&Directory> {
        self.volumes.get(claim)?.data.as_ref()?.log.as_ref()
    }

    fn directory_mut(&mut self, claim: &Uid) -> Option<&mut Directory> {
        self.volumes.get_mut(claim)?.data.as_mut()?.log.as_mut()
    }

    /// All processes that speak with others, in order of their pods.
    pub(super) fn peers(&self) -> Vec<Peer> {
        let now = self.now;
        self.databases
            .processes
            .iter()
            .filter(|(_, p)| !p.hangs(now) && !matches!(p.stage, Stage::Starting(until) if now < until))
            .filter_map(|(pod, p)| {
                let directory = self.directory_of(&p.claim).filter(|d| self.etcd.cluster == Some(d.cluster))?;
                let (claim, identity) = (p.claim.clone(), p.identity.clone());
                Some(Peer { pod: pod.clone(), claim, identity, entries: directory.entries })
            })
            .collect()
    }

    /// Who leads: a voter, by its own log, that a majority of the voters of that same configuration vote for. They vote for
    /// nobody whose log is shorter than theirs.
    pub(super) fn leader(&self, peers: &[Peer]) -> Option<Peer> {
        let mut candidates: Vec<&Peer> = peers.iter().collect();
        candidates.sort_by(|a, b| b.entries.cmp(&a.entries).then(a.pod.cmp(&b.pod)));
        candidates.into_iter().find(|candidate| self.is_elected(candidate, peers)).cloned()
    }

    fn is_elected(&self, candidate: &Peer, peers: &[Peer]) -> bool {
        let Some(configuration) = self.etcd.configuration(candidate.entries) else { return false };
        if !configuration.is_voter(&candidate.identity) {
            return false;
        }
        let votes = |peer: &&Peer| {
            configuration.is_voter(&peer.identity)
                && peer.entries <= candidate.entries
                && self.reaches(&peer.pod, &candidate.pod)
        };
        peers.iter().filter(votes).count() >= quorum(configuration.votes())
    }

    /// The configuration that this one goes by.
    pub(super) fn configuration_of(&self, peer: &Peer) -> Option<&Configuration> {
        self.etcd.configuration(peer.entries)
    }

    /// Whether this process is led by that leader.
    pub(super) fn is_led(&self, peer: &Peer, leader: &Peer) -> bool {
        let member = self.configuration_of(leader).is_some_and(|c| c.has(&peer.identity));
        member && self.reaches(&peer.pod, &leader.pod)
    }

    /// The leader that the process in this pod hears, if any.
    pub(super) fn leader_of(&self, pod: &PilotName) -> Option<Peer> {
        let peers = self.peers();
        let leader = self.leader(&peers)?;
        peers.iter().find(|peer| peer.pod == *pod).filter(|peer| self.is_led(peer, &leader))?;
        Some(leader)
    }

    /// One more entry, a change of the configuration or a write, on a majority of the voters that it is to have; false where
    /// there is none. Who is not needed for it gets it now or a little later.
    pub(super) fn commit(&mut self, change: Option<Configuration>) -> bool {
        let peers = self.peers();
        let Some(leader) = self.leader(&peers) else { return false };
        let Some(configuration) = change.clone().or_else(|| self.configuration_of(&leader).cloned()) else {
            return false;
        };
        let mut voters: Vec<&Peer> =
            peers.iter().filter(|p| configuration.is_voter(&p.identity) && self.reaches(&p.pod, &leader.pod)).collect();
        let needed = quorum(configuration.votes());
        if voters.len() < needed {
            return false;
        }
        let entry = leader.entries + 1;
        let mut have = vec![leader.claim.clone()];
        voters.retain(|p| p.pod != leader.pod);
        let mut needed = needed - usize::from(configuration.is_voter(&leader.identity));
        while !voters.is_empty() {
            let at = usize::try_from(self.etcd.chance.below(voters.len() as u64)).unwrap_or(0);
            let voter = voters.swap_remove(at);
            if needed > 0 || self.etcd.chance.happens(500) {
                have.push(voter.claim.clone());
                needed = needed.saturating_sub(1);
            }
        }
        for claim in have {
            if let Some(directory) = self.directory_mut(&claim) {
                directory.entries = entry;
            }
        }
        self.etcd.committed = self.etcd.committed.max(entry);
        if let Some(configuration) = change {
            self.etcd.history.retain(|(from, _)| *from < entry);
            self.etcd.history.push((entry, configuration));
        }
        true
    }

    /// The leader sends what its followers lack; a learner has it when it has streamed everything.
    pub(super) fn replicate(&mut self) {
        let now = self.now;
        let peers = self.peers();
        let leader = self.leader(&peers);
        if let Some(leader) = &leader
            && leader.entries < self.etcd.committed
        {
            let why = format!(
                "{} leads with {} entries, and {} were acknowledged",
                leader.pod, leader.entries, self.etcd.committed
            );
            self.oracle.broken(Rule::Register, why);
        }
        self.etcd.led.clear();
        let mut there: Vec<DatabaseIdentity> = Vec::new();
        for peer in &peers {
            let Some(leader) = leader.as_ref().filter(|leader| self.is_led(peer, leader)) else { continue };
            self.etcd.led.insert(peer.pod.clone());
            there.push(peer.identity.clone());
            let votes = self.configuration_of(leader).is_some_and(|c| c.is_voter(&peer.identity));
            let streamed = self.databases.processes.get(&peer.pod).is_some_and(|p| match p.stage {
                Stage::Joining(until) => now >= until,
                Stage::JoinFailed | Stage::Starting(_) => false,
                Stage::Serving | Stage::Leaving(_) | Stage::Announcing(_) | Stage::Left | Stage::Draining => true,
            });
            let entries = leader.entries;
            if (votes || streamed)
                && peer.entries < entries
                && let Some(directory) = self.directory_mut(&peer.claim)
            {
                directory.entries = entries;
            }
        }
        let voters: Vec<DatabaseIdentity> =
            self.etcd.committed_configuration().map(|c| c.voters().cloned().collect()).unwrap_or_default();
        let before = std::mem::take(&mut self.etcd.away);
        for voter in voters.into_iter().filter(|voter| !there.contains(voter)) {
            let since = before.get(&voter).copied().unwrap_or(now);
            self.etcd.away.insert(voter, since);
        }
    }

    /// Whether the only member's directory lies on this volume, and no record knows of it yet: it will be founded again.
    pub(crate) fn etcd_is_lost_with(&self, claim: &Uid) -> bool {
        let lies_there = self.volumes.get(claim).and_then(|v| v.data.as_ref());
        lies_there.is_some_and(|data| self.etcd.is_voter(&data.identity))
            && self.cluster.record().is_none_or(|record| record.members.is_empty())
    }

    /// The client sets the register to the next number through some member.
    pub(crate) fn write_register(&mut self) {
        let led: Vec<PilotName> = self.etcd.led.iter().cloned().collect();
        let through = self.chances.rows.pick(&led).cloned();
        let reached = through.is_some_and(|pod| self.leader_of(&pod).is_some());
        let done = reached && self.commit(None);
        self.rows.registers(done);
    }

    /// D-REG: who leads has all that was acknowledged, and there is one who leads.
    pub(crate) fn judge_register(&mut self) {
        let leader = self.leader(&self.peers());
        let entries = leader.map_or(0, |leader| leader.entries);
        if entries < self.etcd.committed {
            let why = format!("{} entries were acknowledged, and whoever leads has {entries}", self.etcd.committed);
            self.oracle.broken(Rule::Register, why);
        }
    }

    /// A process is killed with everything that it had not written to its disk.
    pub(crate) fn etcd_is_killed(&mut self, pod: &PilotName) {
        if self.options.planted != Some(super::super::planted::Planted::NoSync) {
            return;
        }
        let Some(claim) = self.databases.processes.get(pod).map(|p| p.claim.clone()) else { return };
        if let Some(directory) = self.directory_mut(&claim) {
            directory.entries = directory.entries.saturating_sub(super::process::UNSYNCED).max(1);
        }
    }
}
