//! Answers of the API as a pilot with a planted bug takes them.

use super::Planted;
use agent::kubernetes::call::{Answer, Call, EventContent, Failure};
use protocol::id::OperationId;
use protocol::record::ClusterRecord;

/// Who reads.
pub(crate) struct Reader<'a> {
    /// What a reader with a planted bug keeps.
    pub(crate) kept: &'a mut Kept,
    /// The cluster has been founded.
    pub(crate) founded: bool,
    /// The number of its next operation.
    pub(crate) next: u64,
}

/// What a process with a planted bug keeps of what it read and wrote.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    /// The size of the set that it read first.
    size: Option<u32>,
    /// The record that it wrote last, whether that has arrived or not.
    pub(crate) record: Option<ClusterRecord>,
    /// The Event that it posted last.
    pub(crate) event: Option<EventContent>,
}

/// What is posted once more at this time, if anything.
pub(crate) fn again(planted: Option<Planted>, kept: &Kept, now: u64) -> Option<Call> {
    let event = kept.event.clone().filter(|_| planted == Some(Planted::EventsAgain) && now % 2_000 < 200)?;
    Some(Call::PostEvent(EventContent { unique: format!("again.{now}"), ..event }))
}

/// What this reader makes of an answer.
pub(crate) fn misread(
    planted: Option<Planted>,
    call: &Call,
    reader: &mut Reader<'_>,
    mut result: Result<Answer, Failure>,
) -> Result<Answer, Failure> {
    let Some(planted) = planted else { return result };
    match (planted, call, &mut result) {
        (Planted::RefusedIsDone, _, Err(Failure::Refused { .. })) if call.is_write() => return Ok(Answer::Written),
        (Planted::FoundingByMajority, Call::GetSet, Ok(Answer::Set(Some(set)))) if !reader.founded => {
            set.replicas = set.replicas / 2 + 1;
        }
        (Planted::SizeSeenOnce, Call::GetSet, Ok(Answer::Set(Some(set)))) => {
            set.replicas = *reader.kept.size.get_or_insert(set.replicas);
        }
        (Planted::IntentBeforeRecord, Call::GetRecord, Ok(Answer::Record(Some(facts)))) => {
            if let Some(written) = &reader.kept.record {
                facts.record = written.clone();
            }
        }
        (Planted::ApprovalAssumed, Call::ListClaims, Ok(Answer::Claims(claims))) => {
            for (pod, claim) in claims {
                claim.approved = Some(OperationId::new(format!("{}-replace-{pod}", reader.next)));
            }
        }
        _ => {}
    }
    result
}
