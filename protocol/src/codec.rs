//! The one place where structures become bytes and back: a version byte, bincode, a size limit, nothing behind.
//!
//! bincode has no names in it, so a struct is never changed: a new form is a new variant, read everywhere before
//! anyone sends it. The golden vectors in the tests hold the bytes fast.

use serde::{Serialize, de::DeserializeOwned};

/// First byte of everything encoded here.
pub const VERSION: u8 = 1;

/// The longest message either way, in bytes, its version byte included.
pub const LONGEST: usize = 60 * 1024;

/// Why bytes are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Nothing there.
    #[error("no bytes at all: the peer sent an empty message")]
    Empty,
    /// Another version.
    #[error("version {found} is not {VERSION}: the peer is newer, upgrade this pilot too")]
    Version {
        /// The first byte.
        found: u8,
    },
    /// Over the limit.
    #[error("{length} bytes are more than {LONGEST}: refused before decoding")]
    TooLong {
        /// How many.
        length: usize,
    },
    /// Not what was expected.
    #[error("cannot decode: {0}")]
    Decode(String),
    /// Cannot be written.
    #[error("cannot encode: {0}")]
    Encode(String),
    /// Bytes behind the end.
    #[error("{left} bytes behind the end: refused whole")]
    Trailing {
        /// How many.
        left: usize,
    },
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<LONGEST>()
}

/// Encodes a value.
///
/// # Errors
/// When it is too long or cannot be written.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![VERSION];
    let body = bincode::serde::encode_to_vec(value, config()).map_err(|e| CodecError::Encode(e.to_string()))?;
    bytes.extend(body);
    if bytes.len() > LONGEST {
        return Err(CodecError::TooLong { length: bytes.len() });
    }
    Ok(bytes)
}

/// Decodes a value; the bytes may come from anybody.
///
/// # Errors
/// When they are not exactly one value of this version.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > LONGEST {
        return Err(CodecError::TooLong { length: bytes.len() });
    }
    let (version, body) = bytes.split_first().ok_or(CodecError::Empty)?;
    if *version != VERSION {
        return Err(CodecError::Version { found: *version });
    }
    let (value, used) =
        bincode::serde::decode_from_slice(body, config()).map_err(|e| CodecError::Decode(e.to_string()))?;
    if used != body.len() {
        return Err(CodecError::Trailing { left: body.len() - used });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::Epoch;
    use crate::id::{ClusterId, DatabaseIdentity, Generation, OperationId, PilotId, PilotName, Uid, Voter};
    use crate::message::Message;
    use crate::order::{OldData, Order, OrderKind, Outcome};
    use crate::promise::{Promise, Refusal};
    use crate::time::Millis;
    use proptest::prelude::*;

    fn ask() -> Message {
        let holder = PilotId { name: PilotName::parse("c-0").expect("valid"), generation: Generation(300) };
        Message::Ask {
            promise: Promise { epoch: Epoch(7), holder },
            round: 2,
            cluster: None,
            roster: vec![Voter { name: PilotName::parse("c-0").expect("valid"), claim: Uid::new("u") }],
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn the_bytes_of_an_ask_never_change() {
        let bytes = encode(&ask()).expect("encodes");
        assert_eq!(hex(&bytes), "01000703632d30fb2c01020001".to_owned() + "03632d300175");
        assert_eq!(decode::<Message>(&bytes).expect("decodes"), ask());
    }

    fn c0() -> PilotId {
        PilotId { name: PilotName::parse("c-0").expect("valid"), generation: Generation(300) }
    }

    /// The bytes of this message, which are also read back as it.
    #[track_caller]
    fn golden(message: &Message, bytes: &str) {
        let encoded = encode(message).expect("encodes");
        assert_eq!(hex(&encoded), bytes, "{message:?}");
        assert_eq!(&decode::<Message>(&encoded).expect("decodes"), message);
    }

    #[test]
    fn the_bytes_of_a_message_never_change() {
        let (epoch, round, sequence) = (Epoch(7), 2, 1);
        let roster = vec![Voter { name: c0().name, claim: Uid::new("u") }];
        let promise = Promise { epoch, holder: c0() };
        let cluster = Some(ClusterId::new("k"));
        golden(&Message::Ask { promise, round, cluster, roster }, "01000703632d30fb2c010201016b0103632d300175");
        golden(&Message::Promised { epoch, round, claim: None }, "0101070200");
        golden(&Message::Promised { epoch, round, claim: Some(Uid::new("u")) }, "01010702010175");
        golden(&Message::Announce { epoch, sequence }, "01030701");
        golden(&Message::Fetch { epoch, sequence, nonce: 70_000 }, "01040701fc70110100");
        golden(&Message::Outcome { epoch, sequence, outcome: Outcome::Obeyed }, "0106070100");
        golden(&Message::Outcome { epoch, sequence, outcome: Outcome::Refused("no".to_owned()) }, "0106070101026e6f");
        golden(&Message::Ended { who: c0() }, "010703632d30fb2c01");
        golden(&Message::Handover { epoch, next: None }, "01080700");
        golden(&Message::Handover { epoch, next: Some(c0()) }, "0108070103632d30fb2c01");
        golden(&Message::LookAtMe, "0109");
    }

    #[test]
    fn the_bytes_of_a_refusal_never_change() {
        let refused = |why| Message::Refused { round: 2, why };
        golden(&refused(Refusal::Lower { asked: Epoch(6), promised: Epoch(7) }), "010202000607");
        golden(&refused(Refusal::Taken { epoch: Epoch(7), holder: c0() }), "010202010703632d30fb2c01");
        golden(&refused(Refusal::BelowFloor { asked: Epoch(6), floor: Epoch(7) }), "010202020607");
        golden(&refused(Refusal::FloorUnknown), "01020203");
    }

    #[test]
    fn the_bytes_of_an_order_never_change() {
        let deliver = |kind| Message::Deliver {
            nonce: 9,
            valid_for: Millis(3000),
            order: Order { epoch: Epoch(7), sequence: 1, operation: OperationId::new("1-x"), pod: Uid::new("p"), kind },
        };
        let cluster = ClusterId::new("k");
        let identity = DatabaseIdentity::new("i");
        let join = |move_aside| OrderKind::Join { cluster: cluster.clone(), move_aside };
        golden(&deliver(OrderKind::Found { cluster: cluster.clone() }), "010509fbb80b070103312d78017000016b");
        golden(&deliver(join(None)), "010509fbb80b070103312d78017001016b00");
        golden(&deliver(join(Some(OldData::Of(identity.clone())))), "010509fbb80b070103312d78017001016b01000169");
        golden(
            &deliver(join(Some(OldData::BegunUnder(OperationId::new("o"))))),
            "010509fbb80b070103312d78017001016b0101016f",
        );
        golden(&deliver(OrderKind::Leave { identity }), "010509fbb80b070103312d780170020169");
        golden(&deliver(OrderKind::EndAfterLeave), "010509fbb80b070103312d78017003");
        golden(&deliver(OrderKind::EndAndReturn), "010509fbb80b070103312d78017004");
    }

    #[test]
    fn bytes_behind_the_end_are_refused() {
        let mut bytes = encode(&ask()).expect("encodes");
        bytes.push(0);
        assert_eq!(decode::<Message>(&bytes), Err(CodecError::Trailing { left: 1 }));
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let mut bytes = encode(&ask()).expect("encodes");
        bytes[0] = 2;
        assert_eq!(decode::<Message>(&bytes), Err(CodecError::Version { found: 2 }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            drop(decode::<Message>(&bytes));
            let mut versioned = vec![VERSION];
            versioned.extend(&bytes);
            drop(decode::<Message>(&versioned));
        }

        #[test]
        fn a_cut_message_is_refused(cut in 0usize..20) {
            let bytes = encode(&ask()).expect("encodes");
            prop_assume!(cut < bytes.len());
            prop_assert!(decode::<Message>(&bytes[..cut]).is_err());
        }
    }
}
