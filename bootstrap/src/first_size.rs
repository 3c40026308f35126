//! The first size of a set that was made without one.
//!
//! A tool that keeps every field it has ever written writes the size back with each of its changes, and so undoes what
//! people and autoscalers did. So a chart leaves the size out; Kubernetes then makes the set with one pod, and this rule
//! says, once for each set, how many it shall have. Pure.

use protocol::record::ClusterRecord;
use std::fmt;

/// The annotation of a set that tells its first size: the rule has been applied.
pub const FIRST_SIZE: &str = "pilotmesh.io/first-size";

/// The set as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSeen {
    /// How many pods it is told to have.
    pub replicas: u32,
    /// The ordinal of its first pod.
    pub start: u32,
    /// When it was made, as the API wrote it.
    pub made: String,
    /// What [`FIRST_SIZE`] says on it.
    pub marked: Option<String>,
}

/// The record of the cluster, where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSeen {
    /// When it was made, as the API wrote it.
    pub made: String,
    /// What it says.
    pub record: ClusterRecord,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstSize {
    /// It was given before.
    Given(String),
    /// This is the size, and why. Never fewer than there are.
    Give(u32, Why),
}

/// Where a first size comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No cluster was here before.
    Asked,
    /// The record is older than the set: its members come back.
    Recorded,
    /// Somebody has asked for as many already, or more.
    Already,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "no cluster was here before: as many as were asked for",
            Self::Recorded => "the record is older than the set: its members come back",
            Self::Already => "as many were asked for already",
        })
    }
}

/// How many pods a set shall have that has just been made.
pub fn first_size(set: &SetSeen, record: Option<&RecordSeen>, members: u32) -> FirstSize {
    if let Some(marked) = &set.marked {
        return FirstSize::Given(marked.clone());
    }
    // A record that is younger was made by the pilots of this very set, perhaps while it had but one pod.
    let before = record.filter(|record| record.made < set.made);
    let highest = before.and_then(|before| before.record.members.keys().filter_map(|pod| pod.ordinal()).max());
    let recorded = highest.and_then(|ordinal| ordinal.checked_sub(set.start)).map(|below| below.saturating_add(1));
    let (size, why) = recorded.map_or((members, Why::Asked), |size| (size, Why::Recorded));
    if size <= set.replicas { FirstSize::Give(set.replicas, Why::Already) } else { FirstSize::Give(size, why) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::epoch::Epoch;
    use protocol::id::{ClusterId, DatabaseIdentity, PilotName, Uid};
    use protocol::record::MemberRecord;

    fn set(replicas: u32) -> SetSeen {
        SetSeen { replicas, start: 0, made: "2026-01-02T00:00:00Z".into(), marked: None }
    }

    fn record(made: &str, ordinals: &[u32]) -> RecordSeen {
        let member = |ordinal: &u32| {
            let member =
                MemberRecord { claim: Uid::new("claim"), identity: DatabaseIdentity::new(format!("host-{ordinal}")) };
            (PilotName::parse(&format!("s-{ordinal}")).unwrap(), member)
        };
        RecordSeen {
            made: made.to_owned(),
            record: ClusterRecord {
                cluster: ClusterId::new("c"),
                epoch: Epoch(1),
                roster: Vec::new(),
                roster_revision: 1,
                members: ordinals.iter().map(member).collect(),
                retired: Default::default(),
                intent: None,
                next_operation: 1,
                conditions: Vec::new(),
            },
        }
    }

    #[test]
    fn a_new_cluster_gets_what_was_asked_for_and_one_that_was_here_before_its_members() {
        assert_eq!(first_size(&set(1), None, 3), FirstSize::Give(3, Why::Asked));
        let before = |ordinals: &[u32]| record("2026-01-01T00:00:00Z", ordinals);
        assert_eq!(first_size(&set(1), Some(&before(&[0, 1, 2, 3])), 3), FirstSize::Give(4, Why::Recorded));
        assert_eq!(first_size(&set(1), Some(&before(&[0, 1])), 3), FirstSize::Give(2, Why::Recorded));
        assert_eq!(first_size(&set(1), Some(&before(&[1])), 3), FirstSize::Give(2, Why::Recorded), "up to the highest");
        assert_eq!(first_size(&set(1), Some(&before(&[])), 3), FirstSize::Give(3, Why::Asked), "founding was cut off");
        let later = SetSeen { start: 5, ..set(1) };
        assert_eq!(first_size(&later, Some(&before(&[5, 6])), 3), FirstSize::Give(2, Why::Recorded));
    }

    #[test]
    fn a_record_that_the_sets_own_pilots_made_meanwhile_does_not_count() {
        let meanwhile = record("2026-01-02T00:00:05Z", &[0]);
        assert_eq!(first_size(&set(1), Some(&meanwhile), 3), FirstSize::Give(3, Why::Asked));
    }

    #[test]
    fn it_is_given_once_and_never_makes_the_set_smaller() {
        let given = SetSeen { marked: Some("3".into()), ..set(1) };
        assert_eq!(first_size(&given, None, 3), FirstSize::Given("3".into()));
        assert_eq!(first_size(&set(5), None, 3), FirstSize::Give(5, Why::Already));
    }
}
