//! What a pilot gives its word on, and what makes the word last.

use crate::epoch::Epoch;
use crate::id::PilotId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The word of one pilot: after it, nothing lower is promised or obeyed, and nobody else at the same epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Promise {
    /// The coordinator's time.
    pub epoch: Epoch,
    /// The one life of the one pilot that it was given to.
    pub holder: PilotId,
}

/// Why a promise was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// A higher epoch has the word already.
    #[error("epoch {asked} is lower than epoch {promised}, which has the promise: step down")]
    Lower {
        /// What was asked for.
        asked: Epoch,
        /// What has the word.
        promised: Epoch,
    },
    /// The same epoch was promised to another life.
    #[error("epoch {epoch} is promised to {holder}: take a higher epoch")]
    Taken {
        /// The epoch asked for.
        epoch: Epoch,
        /// Who has the word.
        holder: PilotId,
    },
    /// The epoch is lower than one this pilot read from the Lease or the record.
    #[error("epoch {asked} is lower than the floor {floor} read from the cluster: step down")]
    BelowFloor {
        /// What was asked for.
        asked: Epoch,
        /// The lowest that may be promised.
        floor: Epoch,
    },
    /// This pilot does not know yet what it may have promised in an earlier life.
    #[error("the floor is not known yet: it is read from the Lease and the record first")]
    FloorUnknown,
}

/// Whether `asked` may be promised, given the last promise and the floor. Pure: the caller persists before it answers.
///
/// # Errors
/// When the promise must be refused, with the reason.
pub fn may_promise(asked: &Promise, given: Option<&Promise>, floor: Option<Epoch>) -> Result<(), Refusal> {
    let floor = floor.ok_or(Refusal::FloorUnknown)?;
    if asked.epoch < floor {
        return Err(Refusal::BelowFloor { asked: asked.epoch, floor });
    }
    match given {
        Some(given) if asked.epoch < given.epoch => Err(Refusal::Lower { asked: asked.epoch, promised: given.epoch }),
        Some(given) if asked.epoch == given.epoch && asked.holder != given.holder => {
            Err(Refusal::Taken { epoch: asked.epoch, holder: given.holder.clone() })
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Generation, PilotName};

    fn promise(epoch: u64, name: &str, generation: u64) -> Promise {
        Promise {
            epoch: Epoch(epoch),
            holder: PilotId { name: PilotName::parse(name).expect("valid"), generation: Generation(generation) },
        }
    }

    #[test]
    fn the_same_epoch_is_never_promised_to_two_lives_of_one_pilot() {
        let given = promise(4, "c-0", 1);
        assert!(matches!(may_promise(&promise(4, "c-0", 2), Some(&given), Some(Epoch(0))), Err(Refusal::Taken { .. })));
    }

    #[test]
    fn nothing_is_promised_while_the_floor_is_unknown() {
        assert_eq!(may_promise(&promise(9, "c-0", 1), None, None), Err(Refusal::FloorUnknown));
    }

    #[test]
    fn nothing_below_the_floor_or_the_last_promise_is_promised() {
        let given = promise(4, "c-0", 1);
        assert!(may_promise(&promise(3, "c-1", 1), Some(&given), Some(Epoch(0))).is_err());
        assert!(may_promise(&promise(3, "c-1", 1), None, Some(Epoch(4))).is_err());
        assert!(may_promise(&promise(5, "c-1", 1), Some(&given), Some(Epoch(4))).is_ok());
        assert!(may_promise(&given, Some(&given), Some(Epoch(4))).is_ok());
    }
}
