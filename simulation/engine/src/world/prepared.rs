//! A cluster that has been there for long, with its power just back: pods, claims, a record, and on each volume what its
//! pilot and its database left there. To form hundreds of members one by one would take hours of simulated time.

use super::World;
use super::api::names;
use super::cluster::pod_name;
use super::database::Data;
use super::volumes::Volume;
use agent::kubernetes::call::Call;
use agent::kubernetes::translate::encode;
use agent::pilot::durable::Durable;
use protocol::epoch::Epoch;
use protocol::id::{ClusterId, DatabaseIdentity, PilotName, Voter};
use protocol::record::{ClusterRecord, MemberRecord};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    /// Puts it there.
    pub(crate) fn prepare(&mut self) {
        // The set makes its claims and pods; nobody has looked at them yet.
        self.cluster.reconcile(0);
        let cluster = ClusterId::new("prepared");
        let members: BTreeMap<PilotName, MemberRecord> = (0..self.options.members)
            .filter_map(pod_name)
            .filter_map(|name| {
                let claim = self.cluster.claim(&name)?;
                Some((name.clone(), MemberRecord { claim, identity: DatabaseIdentity::new(format!("h-{name}")) }))
            })
            .collect();
        let roster: Vec<Voter> =
            members.iter().map(|(name, member)| Voter { name: name.clone(), claim: member.claim.clone() }).collect();
        let identities: BTreeSet<DatabaseIdentity> = members.values().map(|m| m.identity.clone()).collect();
        for member in members.values() {
            let durable = Durable {
                claim: Some(member.claim.clone()),
                floor: Epoch(1),
                cluster: Some(cluster.clone()),
                identity: Some(member.identity.clone()),
                roster: roster.clone(),
                ..Durable::default()
            };
            let data = Data {
                bootstrapped: true,
                peers: identities.clone(),
                ..Data::new(member.identity.clone(), self.etcd.prepared_directory(self.options.database))
            };
            self.volumes.insert(member.claim.clone(), Volume::prepared(durable, data));
        }
        self.etcd.prepare(members.iter().map(|(name, member)| (name.clone(), member.identity.clone())));
        let record = ClusterRecord {
            cluster,
            epoch: Epoch(1),
            roster,
            roster_revision: 1,
            members,
            retired: BTreeMap::new(),
            intent: None,
            next_operation: 1,
            conditions: Vec::new(),
        };
        if let Some(first) = pod_name(0)
            && let Ok(http) = encode(&names(&first), &Call::CreateRecord(Box::new(record)), "")
        {
            let status = self.cluster.handle(0, "user", &http).status;
            self.tell(format!("{} members have been there before: {status}", self.options.members));
        }
    }
}
