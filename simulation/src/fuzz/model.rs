//! The talk with the model database.

use super::stream::finish;
use super::{KIB, Outcome, Target};
use agent::driver::model::wire::{Answer, Mode, Status, ToolReply, read_frame, write_frame};
use protocol::database::{Progress, RingMember, RingStatus};
use protocol::id::DatabaseIdentity;

pub(super) const TARGETS: &[Target] = &[Target {
    name: "model-frame",
    reads: "an answer of the model database",
    run: frame,
    seeds,
    base: 64 * KIB,
    per_byte: 64,
    gate: 3_000,
}];

fn frame(bytes: &[u8]) -> Outcome {
    let mut rest = bytes;
    let Ok(Some(reply)) = finish(read_frame::<ToolReply>(&mut rest)) else {
        return Outcome::Refused;
    };
    let again = finish(read_frame::<ToolReply>(&mut written(&reply).as_slice()));
    assert_eq!(again.expect("is read").as_ref(), Some(&reply));
    Outcome::Read
}

fn written(reply: &ToolReply) -> Vec<u8> {
    let mut out = Vec::new();
    finish(write_frame(&mut out, reply)).expect("is short");
    out
}

fn seeds() -> Vec<Vec<u8>> {
    let identity = DatabaseIdentity::new("m-1");
    let status = Status {
        mode: Mode::Leaving,
        identity: identity.clone(),
        generation: 3,
        version: "1".to_owned(),
        ring: vec![RingMember { identity, status: RingStatus::Leaving, up: Some(true) }],
        replication: 3,
        streaming: Some(Progress { done: 1, total: 2 }),
        rows: 9,
        load: 99,
        leave_failure: None,
    };
    [Answer::Status(Box::new(status)), Answer::Done, Answer::Refused("no".to_owned())]
        .map(|answer| written(&ToolReply::Tool(answer)))
        .to_vec()
}
