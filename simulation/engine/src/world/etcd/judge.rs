//! What must always hold of etcd's members, besides what holds of every database.

use super::super::World;
use super::super::database::{Kind, Stage};
use super::super::oracle::Rule;
use super::calls::Call;
use super::{Configuration, quorum};
use protocol::id::{DatabaseIdentity, PilotName, Uid};
use protocol::record::ClusterRecord;

/// Whoever decides may not have noticed yet that a voter is away which is so for less than this.
const NOTICED: u64 = 15_000;
/// A process whose member was removed may be started by its launcher until somebody has heard of that.
const HEARD: u64 = 60_000;

impl World {
    /// D-QUORUM and D-ONE, before a change of the members is carried out.
    pub(super) fn judge_change(&mut self, call: &Call, before: &Configuration, after: &Configuration) {
        let well =
            |identity: &&DatabaseIdentity| self.etcd.away.get(*identity).is_none_or(|since| self.now < since + NOTICED);
        let healthy = after.voters().filter(well).count();
        let voters = after.votes();
        // What takes place for a learner changes no quorum, until it is promoted: that is when one more is needed.
        let needed = match call {
            Call::Add(_) if before.votes() > 1 => quorum(before.votes() + 1),
            Call::Add(_) => 1,
            Call::Promote(_) | Call::Remove(_) => quorum(voters),
        };
        if healthy < needed {
            let why = format!("{call} while {healthy} of {voters} voters are well and {needed} are needed");
            self.oracle.broken(Rule::VoterQuorum, why);
        }
        let joins = before.learner().filter(|(identity, _)| self.is_heard(identity));
        let another = match call {
            Call::Add(pod) => {
                if after.at(pod).is_some_and(|(_, member)| member.votes) {
                    self.oracle.broken(Rule::LearnerFirst, format!("{pod} is added as a voter"));
                }
                joins.is_some()
            }
            Call::Remove(identity) => before.is_voter(identity) && joins.is_some(),
            Call::Promote(_) => false,
        };
        if let (Some((learner, _)), true) = (joins, another) {
            self.oracle.broken(Rule::LearnerFirst, format!("{call} while {learner} is a learner"));
        }
    }

    /// D-QUORUM: a member that serves is evicted while so many others have been away for longer than anybody may fail to
    /// notice. Of one or two voters none can be spared, and they are restarted all the same.
    pub(crate) fn judge_eviction_of_voter(&mut self, pod: &str, away: usize) {
        let voters = self.etcd.committed_configuration().map_or(0, Configuration::votes);
        if voters > 2 && voters.saturating_sub(away + 1) < quorum(voters) {
            let why = format!("{pod} is evicted while {away} of {voters} voters were away");
            self.oracle.broken(Rule::VoterQuorum, why);
        }
    }

    /// D-ID: a process that has no directory takes a member for its own.
    pub(super) fn judge_adoption(&mut self, pod: &PilotName, identity: &DatabaseIdentity) {
        if self.etcd.started.contains(identity) {
            let why = format!("{pod} starts with an empty directory as {identity}, which has been started before");
            self.oracle.broken(Rule::MemberIdentity, why);
        }
    }

    /// D-ID: a process is started on a directory.
    pub(super) fn judge_directory(&mut self, pod: &PilotName, claim: &Uid) {
        let Some(data) = self.volumes.get(claim).and_then(|v| v.data.as_ref()) else { return };
        let in_record = |record: &ClusterRecord| record.members.values().any(|m| m.identity == data.identity);
        let long = self.etcd.removed.get(&data.identity).filter(|since| self.now > **since + HEARD);
        if let Some(since) = long
            && self.etcd.led.iter().any(|peer| self.reaches(pod, peer))
            && self.cluster.record().is_none_or(|record| !in_record(&record))
        {
            let why = format!("{pod} starts on the directory of {}, removed at {since} ms", data.identity);
            self.oracle.broken(Rule::MemberIdentity, why);
        }
    }

    /// D-NEW.
    pub(super) fn judge_new_cluster(&mut self, pod: &PilotName) {
        if self.etcd.cluster.is_some() {
            self.oracle.broken(Rule::NewOnce, format!("{pod} begins a second cluster"));
        }
    }

    /// D-STOP: a voter's directory is never put aside.
    pub(crate) fn judge_moving_aside(&mut self, pod: &PilotName, claim: &Uid, runs: bool) {
        let Some(data) = self.volumes.get(claim).and_then(|v| v.data.as_ref()) else { return };
        if !runs && data.log.is_some() && self.etcd.is_voter(&data.identity) {
            let why = format!("the directory of {} at {pod} is put aside, which is a voter", data.identity);
            self.oracle.broken(Rule::DataStays, why);
        }
    }

    /// What keeps the members of etcd from being those of the record, if anything.
    pub(crate) fn etcd_unrest(&self, record: &ClusterRecord) -> Option<String> {
        match self.options.database {
            Kind::Ring => return None,
            Kind::Etcd => {}
        }
        let configuration = self.etcd.committed_configuration()?;
        let lacking = record.members.values().find(|m| !configuration.is_voter(&m.identity));
        if let Some(member) = lacking {
            return Some(format!("{} is no voter", member.identity));
        }
        let strange = configuration.voters().find(|i| !record.members.values().any(|m| m.identity == **i));
        if let Some(identity) = strange {
            return Some(format!("{identity} is a voter and in no record"));
        }
        let learns = self.databases.processes.iter().find(|(_, p)| matches!(p.stage, Stage::Joining(_)));
        learns.map(|(pod, _)| format!("{pod} is a learner"))
    }

    /// The members of etcd as they are, each with its pod and whether it counts.
    pub fn members_of_etcd(&self) -> Vec<(String, String, bool)> {
        let members = self.etcd.committed_configuration().into_iter().flat_map(Configuration::members);
        members.map(|(identity, member)| (member.pod.to_string(), identity.to_string(), member.votes)).collect()
    }
}
