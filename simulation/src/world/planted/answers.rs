//! Answers of the API as a pilot with a planted bug takes them.

use super::Planted;
use agent::kubernetes::call::{Answer, Call};
use protocol::id::Uid;

/// Who reads.
pub(crate) struct Reader<'a> {
    /// The uid of its pod.
    pub(crate) pod: &'a Uid,
    /// The size that it read first in this life.
    pub(crate) first_size: &'a mut Option<u32>,
    /// The cluster has been founded.
    pub(crate) founded: bool,
}

/// What this reader makes of an answer.
pub(crate) fn misread(planted: Option<Planted>, call: &Call, reader: &mut Reader<'_>, mut answer: Answer) -> Answer {
    let Some(planted) = planted else { return answer };
    match (planted, call, &mut answer) {
        (Planted::RetiredUnread, Call::GetRecord, Answer::Record(Some(facts))) => facts.record.retired.clear(),
        (Planted::FoundingByMajority, Call::GetSet, Answer::Set(Some(set))) if !reader.founded => {
            set.replicas = set.replicas / 2 + 1;
        }
        (Planted::SizeSeenOnce, Call::GetSet, Answer::Set(Some(set))) => {
            set.replicas = *reader.first_size.get_or_insert(set.replicas);
        }
        (Planted::DefaultsDiffer, Call::ListPods, Answer::Pods(pods)) => {
            for digest in pods.values_mut().flat_map(|pod| pod.template.containers.values_mut()) {
                digest.push_str("+defaults");
            }
        }
        (Planted::PodByName, Call::GetOwnPod, Answer::OwnPod(Some(pod))) => pod.uid = reader.pod.clone(),
        _ => {}
    }
    answer
}
