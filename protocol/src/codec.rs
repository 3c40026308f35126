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
    use crate::id::{Generation, OperationId, PilotId, PilotName, Uid, Voter};
    use crate::message::Message;
    use crate::order::{Order, OrderKind};
    use crate::promise::Promise;
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

    #[test]
    fn the_bytes_of_an_order_never_change() {
        let message = Message::Deliver {
            nonce: 9,
            valid_for: Millis(3000),
            order: Order {
                epoch: Epoch(7),
                sequence: 1,
                operation: OperationId::new("1-x"),
                pod: Uid::new("p"),
                kind: OrderKind::EndAndReturn,
            },
        };
        let bytes = encode(&message).expect("encodes");
        assert_eq!(hex(&bytes), "010509fbb80b070103312d78017004");
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
