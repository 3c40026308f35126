//! The datagram's clear header.
//!
//! ```text
//!  0  version            1 byte   1
//!  1  flags              1 byte   bit 0: sealed for one receiver
//!  2  key                4 bytes  fingerprint of the mesh key
//!  6  generation         8 bytes  the sender's life
//! 14  salt               8 bytes  random, new with each start of the sender
//! 22  counter            8 bytes  one more with each datagram; the nonce
//! 30  chunk number       1 byte   from 0
//! 31  chunks             1 byte   1 to 64
//! 32  length of name     1 byte   1 to 63
//! 33  name               the sender's
//!     ciphertext, tag    16 bytes of tag
//! ```
//! Numbers are big-endian. The name is in the clear because the receiver derives the sender's key from it.

use crate::keyring::Fingerprint;

/// The only version there is.
pub const VERSION: u8 = 1;
/// The longest datagram: one packet on every network that carries IPv6.
pub const LONGEST_DATAGRAM: usize = 1200;
/// The most chunks of a message.
pub const MOST_CHUNKS: u8 = 64;
/// The bytes of an AEAD tag.
pub const TAG: usize = 16;
/// The longest name of a pilot.
pub const LONGEST_NAME: usize = 63;
const BEFORE_NAME: usize = 33;
const FOR_ONE_RECEIVER: u8 = 1;

/// The header's fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header<'a> {
    /// Whether only the receiver the sender had in mind can open it.
    pub bound: bool,
    /// Which mesh key.
    pub key: Fingerprint,
    /// The sender's life.
    pub generation: u64,
    /// The sender's start.
    pub salt: [u8; 8],
    /// The number of the datagram.
    pub counter: u64,
    /// The number of the chunk.
    pub chunk: u8,
    /// How many chunks the message has.
    pub chunks: u8,
    /// The sender.
    pub name: &'a str,
}

impl<'a> Header<'a> {
    /// The bytes of the header.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LONGEST_DATAGRAM);
        out.push(VERSION);
        out.push(if self.bound { FOR_ONE_RECEIVER } else { 0 });
        out.extend(self.key.0);
        out.extend(self.generation.to_be_bytes());
        out.extend(self.salt);
        out.extend(self.counter.to_be_bytes());
        out.push(self.chunk);
        out.push(self.chunks);
        // A `PilotName` has at most 63 bytes.
        out.push(self.name.len().min(LONGEST_NAME) as u8);
        out.extend(self.name.bytes().take(LONGEST_NAME));
        out
    }

    /// Splits a datagram into header, header's length and nothing else; `None` if it is no frame of ours.
    pub fn parse(datagram: &'a [u8]) -> Option<(Self, usize)> {
        if datagram.len() > LONGEST_DATAGRAM || datagram.len() < BEFORE_NAME + 1 + TAG {
            return None;
        }
        let number =
            |at: usize| -> Option<u64> { Some(u64::from_be_bytes(datagram.get(at..at + 8)?.try_into().ok()?)) };
        let (version, flags) = (datagram[0], datagram[1]);
        let (chunk, chunks) = (datagram[30], datagram[31]);
        let length = BEFORE_NAME + usize::from(datagram[32]);
        let counter = number(22)?;
        if version != VERSION
            || flags & !FOR_ONE_RECEIVER != 0
            || chunk >= chunks
            || chunks > MOST_CHUNKS
            || counter < u64::from(chunk)
            || !(BEFORE_NAME + 1..=BEFORE_NAME + LONGEST_NAME).contains(&length)
            || datagram.len() < length + TAG
        {
            return None;
        }
        let header = Self {
            bound: flags & FOR_ONE_RECEIVER != 0,
            key: Fingerprint(datagram.get(2..6)?.try_into().ok()?),
            generation: number(6)?,
            salt: datagram.get(14..22)?.try_into().ok()?,
            counter,
            chunk,
            chunks,
            name: std::str::from_utf8(&datagram[BEFORE_NAME..length]).ok()?,
        };
        Some((header, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Header<'static> {
        Header {
            bound: true,
            key: Fingerprint([0xde, 0xad, 0xbe, 0xef]),
            generation: 7,
            salt: *b"saltsalt",
            counter: 0x0102,
            chunk: 1,
            chunks: 2,
            name: "cass-0",
        }
    }

    #[test]
    fn the_header_has_these_bytes() {
        let mut golden = vec![1, 1, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0, 0, 0, 0, 7];
        golden.extend(b"saltsalt");
        golden.extend([0, 0, 0, 0, 0, 0, 1, 2, 1, 2, 6]);
        golden.extend(b"cass-0");
        assert_eq!(sample().encode(), golden);
        golden.extend([0; TAG]);
        assert_eq!(Header::parse(&golden), Some((sample(), 39)));
    }

    #[test]
    fn headers_that_contradict_themselves_are_no_frames() {
        let mut good = sample().encode();
        good.extend([0; TAG]);
        for (at, value) in [(0, 0), (0, 2), (1, 2), (30, 2), (31, 0), (31, 65), (32, 0), (32, 64), (32, 255)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Header::parse(&bad), None, "byte {at} = {value}");
        }
        good.resize(LONGEST_DATAGRAM + 1, 0);
        assert_eq!(Header::parse(&good), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1300)) {
            let mut bytes = bytes;
            if bytes.len() > 34 { bytes[0] = VERSION; bytes[1] &= 1; }
            if let Some((header, length)) = Header::parse(&bytes) {
                prop_assert_eq!(&header.encode()[..], &bytes[..length]);
            }
        }
    }
}
