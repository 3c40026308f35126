//! Messages between pilots, behind the seal of a stream.

use super::keys::{cluster, life};
use super::{MIB, Outcome, Target};
use protocol::codec::{decode, encode};
use protocol::epoch::Epoch;
use protocol::id::{DatabaseIdentity, OperationId, Uid, Voter};
use protocol::message::Message;
use protocol::order::{OldData, Order, OrderKind, Outcome as Verdict};
use protocol::promise::{Promise, Refusal};
use protocol::time::Millis;

pub(super) const TARGETS: &[Target] = &[Target {
    name: "message",
    reads: "a message of a proven pilot",
    run: message,
    seeds: || all().iter().map(|message| encode(message).expect("short")).collect(),
    base: 2 * MIB,
    per_byte: 64,
    gate: 6_000,
}];

fn message(bytes: &[u8]) -> Outcome {
    let Ok(message) = decode::<Message>(bytes) else {
        return Outcome::Refused;
    };
    let encoded = encode(&message).expect("what was read is not too long");
    assert_eq!(decode::<Message>(&encoded).as_ref(), Ok(&message));
    assert!(encoded.len() <= bytes.len(), "it is never longer than what was read");
    Outcome::Read
}

/// One of each kind.
pub(super) fn all() -> Vec<Message> {
    let epoch = Epoch(3);
    let promise = Promise { epoch, holder: life(1) };
    let roster = (0..3).map(|n| Voter { name: life(n).name, claim: Uid::new(format!("claim-{n}")) }).collect();
    let order = |sequence, kind| Order {
        epoch,
        sequence,
        operation: OperationId::new("2-join-c-0"),
        pod: Uid::new("pod"),
        kind,
    };
    let identity = DatabaseIdentity::new("host-0");
    let kinds = [
        OrderKind::Found { cluster: cluster() },
        OrderKind::Join { cluster: cluster(), move_aside: Some(OldData::Of(identity.clone())) },
        OrderKind::Join { cluster: cluster(), move_aside: Some(OldData::BegunUnder(OperationId::new("1-join-c-0"))) },
        OrderKind::Leave { identity },
        OrderKind::EndAfterLeave,
        OrderKind::EndAndReturn,
    ];
    let mut all = vec![
        Message::Ask { promise, round: 1, cluster: Some(cluster()), roster },
        Message::Promised { epoch, round: 1, claim: Some(Uid::new("claim-1")) },
        Message::Refused { round: 1, why: Refusal::Lower { asked: epoch, promised: Epoch(4) } },
        Message::Refused { round: 1, why: Refusal::Taken { epoch, holder: life(2) } },
        Message::Refused { round: 1, why: Refusal::BelowFloor { asked: epoch, floor: Epoch(9) } },
        Message::Refused { round: 1, why: Refusal::FloorUnknown },
        Message::Outcome { epoch, sequence: 1, outcome: Verdict::Obeyed },
        Message::Outcome { epoch, sequence: 1, outcome: Verdict::Refused("no".to_owned()) },
        Message::Ended { who: life(2) },
        Message::Handover { epoch, next: Some(life(0)) },
        Message::LookAtMe,
        Message::Announce { epoch, sequence: 1 },
        Message::Fetch { epoch, sequence: 1, nonce: 70_000 },
    ];
    // The pilot of the tries counts its nonces from 1.
    all.extend((2..).zip(kinds).map(|(nonce, kind)| Message::Deliver {
        nonce,
        valid_for: Millis(3_000),
        order: order(1, kind),
    }));
    all
}
