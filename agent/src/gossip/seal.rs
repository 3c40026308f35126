//! Seals messages into datagrams, and opens none that is not genuine.
//!
//! Each life of each pilot has its own key: HKDF of the mesh key over cluster, name, generation and a salt drawn at
//! the start. The nonce is the datagram's counter. So no nonce is ever used twice under one key, not even when a
//! generation is repeated after a volume was put back from an old copy.
//!
//! The associated data is the clear header, the cluster and, where the sender knows whom it writes to, the receiver's
//! name: a datagram sealed for one pilot is worthless at another, as when an address has a new owner.
//!
//! There is no time stamp: clocks of machines differ, and no decision here may read one. What a stamp would add is
//! small: a *freshly started* receiver can be shown old datagrams of its peers. They carry old versions of values and
//! heartbeats, and the first genuine exchange overrides them.

use super::counters::GossipCounters;
use super::frame::{self, Header, LONGEST_DATAGRAM, MOST_CHUNKS, TAG};
use super::reassembly::{Joined, Reassembly};
use super::replay::ReplayWindow;
use crate::keyring::{Fingerprint, KeyRing, MeshKey, Purpose};
use protocol::id::{ClusterId, Generation, PilotName};
use ring::aead;
use ring::rand::SecureRandom;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// The most senders held; the one not heard for the longest gives way.
pub const MOST_SENDERS: usize = 2048;
/// The most bytes of incomplete messages of all senders together.
pub const MOST_WAITING: usize = 4 << 20;
/// The bytes of failed authentication paid for in a second; beyond them strangers are dropped unread.
pub const FORGERY_BUDGET: usize = 1 << 20;
/// The most addresses remembered as written to.
const MOST_EXPECTED: usize = 1024;
/// How long an answer is expected from an address.
const EXPECTED_FOR: Duration = Duration::from_secs(10);

/// Why a message could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No randomness for the salt.
    #[error("the system gives no random bytes: it cannot keep secrets, restart it")]
    Random,
    /// The cipher refused.
    #[error("the cipher refused a message of {0} bytes: this is a bug, report it")]
    Cipher(usize),
    /// Too long for 64 datagrams.
    #[error("a gossip message of {0} bytes fits no 64 datagrams: too many pilots are remembered, lower dead_grace")]
    TooLong(usize),
}

fn cipher(key: &MeshKey, cluster: &str, name: &str, generation: u64, salt: &[u8; 8]) -> Option<aead::LessSafeKey> {
    let context: [&[u8]; 4] = [cluster.as_bytes(), name.as_bytes(), &generation.to_be_bytes(), salt];
    let derived = key.derive(Purpose::Gossip, &context);
    aead::UnboundKey::new(&aead::CHACHA20_POLY1305, derived.bytes()).ok().map(aead::LessSafeKey::new)
}

fn nonce(counter: u64) -> aead::Nonce {
    let mut bytes = [0; aead::NONCE_LEN];
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    aead::Nonce::assume_unique_for_key(bytes)
}

fn associated(header: &[u8], cluster: &str, receiver: Option<&str>) -> Vec<u8> {
    let mut out = header.to_vec();
    for text in [cluster, receiver.unwrap_or("")] {
        out.extend((text.len() as u64).to_be_bytes());
        out.extend(text.as_bytes());
    }
    out
}

/// Seals what one life of one pilot says.
pub struct Sealer {
    cluster: ClusterId,
    name: PilotName,
    generation: Generation,
    address: Vec<u8>,
    salt: [u8; 8],
    counter: u64,
    cached: Option<(Fingerprint, aead::LessSafeKey)>,
}

impl Sealer {
    /// A sealer for this life, which peers reach at `address`.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new(
        cluster: ClusterId,
        name: PilotName,
        generation: Generation,
        address: SocketAddr,
    ) -> Result<Self, SealError> {
        let mut salt = [0; 8];
        ring::rand::SystemRandom::new().fill(&mut salt).map_err(|_| SealError::Random)?;
        Ok(Self { cluster, name, generation, address: encode_address(address), salt, counter: 0, cached: None })
    }

    /// The datagrams of a message, for `receiver` alone where its name is known.
    ///
    /// # Errors
    /// When the message is too long.
    pub fn seal(&mut self, ring: &KeyRing, receiver: Option<&str>, message: &[u8]) -> Result<Vec<Vec<u8>>, SealError> {
        let key = ring.primary();
        let fingerprint = key.fingerprint();
        let cipher = match self.cached.take() {
            Some((of, cipher)) if of == fingerprint => cipher,
            Some(_) | None => cipher(key, self.cluster.as_str(), self.name.as_str(), self.generation.0, &self.salt)
                .ok_or(SealError::Cipher(message.len()))?,
        };
        let overhead = 33 + self.name.as_str().len() + self.address.len() + TAG;
        let parts: Vec<&[u8]> =
            if message.is_empty() { vec![message] } else { message.chunks(LONGEST_DATAGRAM - overhead).collect() };
        let chunks = u8::try_from(parts.len())
            .ok()
            .filter(|chunks| *chunks <= MOST_CHUNKS)
            .ok_or(SealError::TooLong(message.len()))?;
        let mut datagrams = Vec::with_capacity(parts.len());
        for (chunk, part) in (0..chunks).zip(parts) {
            let mut datagram = Header {
                bound: receiver.is_some(),
                key: fingerprint,
                generation: self.generation.0,
                salt: self.salt,
                counter: self.counter,
                chunk,
                chunks,
                name: self.name.as_str(),
            }
            .encode();
            let mut body = self.address.clone();
            body.extend(part);
            let aad = associated(&datagram, self.cluster.as_str(), receiver);
            cipher
                .seal_in_place_append_tag(nonce(self.counter), aead::Aad::from(aad), &mut body)
                .map_err(|_| SealError::Cipher(message.len()))?;
            self.counter += 1;
            datagram.extend(body);
            datagrams.push(datagram);
        }
        self.cached = Some((fingerprint, cipher));
        Ok(datagrams)
    }
}

struct Sender {
    generation: u64,
    salt: [u8; 8],
    ciphers: Vec<(Fingerprint, aead::LessSafeKey)>,
    window: ReplayWindow,
    reassembly: Reassembly,
    address: SocketAddr,
    heard: Instant,
}

/// A genuine message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Who sent it.
    pub name: String,
    /// In which life.
    pub generation: u64,
    /// Where it says it is reached: an answer goes there, not to wherever the datagram seemed to come from.
    pub address: SocketAddr,
    /// The message; `None` while pieces are missing.
    pub message: Option<Vec<u8>>,
}

/// Opens genuine datagrams, and remembers of each sender what guards against replays.
///
/// Nothing is kept, decoded or answered for a datagram that is not genuine.
pub struct Opener {
    cluster: ClusterId,
    name: PilotName,
    generation: Generation,
    senders: BTreeMap<String, Sender>,
    /// Addresses by what their owners said, genuinely.
    book: BTreeMap<SocketAddr, String>,
    expected: BTreeMap<SocketAddr, Instant>,
    budget: usize,
    refilled: Option<Instant>,
    /// What was counted.
    pub counters: GossipCounters,
}

impl Opener {
    /// An opener for what is sent to this pilot.
    pub fn new(cluster: ClusterId, name: PilotName, generation: Generation) -> Self {
        Self {
            cluster,
            name,
            generation,
            senders: BTreeMap::new(),
            book: BTreeMap::new(),
            expected: BTreeMap::new(),
            budget: FORGERY_BUDGET,
            refilled: None,
            counters: GossipCounters::default(),
        }
    }

    /// The pilot lives on under another generation.
    pub fn renew(&mut self, generation: Generation) {
        self.generation = generation;
    }

    /// Who is reached at this address, as far as is known.
    pub fn name_at(&self, address: SocketAddr) -> Option<&str> {
        self.book.get(&address).map(String::as_str)
    }

    /// Something was sent there: what comes back is not a stranger's.
    pub fn expect(&mut self, now: Instant, address: SocketAddr) {
        if self.expected.len() >= MOST_EXPECTED && !self.expected.contains_key(&address) {
            self.expected.retain(|_, sent| now.saturating_duration_since(*sent) < EXPECTED_FOR);
        }
        if self.expected.len() < MOST_EXPECTED || self.expected.contains_key(&address) {
            self.expected.insert(address, now);
        }
    }

    /// Opens a datagram that came from `source`; `None` for whatever is not genuine, new and of the newest life.
    pub fn open(&mut self, now: Instant, ring: &KeyRing, source: SocketAddr, datagram: &[u8]) -> Option<Opened> {
        self.refill(now);
        let Some((header, length)) = Header::parse(datagram) else {
            self.counters.malformed += 1;
            return None;
        };
        let Some(key) = ring.find(header.key) else {
            self.counters.unknown_key += 1;
            return None;
        };
        if header.name == self.name.as_str() && header.generation <= self.generation.0 {
            self.counters.reflected += 1;
            return None;
        }
        let known = self.senders.get(header.name);
        // Cheap refusals first; they tell a forger nothing that is not in the clear anyway.
        if let Some(known) = known {
            if header.generation < known.generation {
                self.counters.stale_generation += 1;
                return None;
            }
            let same = header.generation == known.generation && header.salt == known.salt;
            if same && !known.window.is_fresh(header.counter) {
                self.counters.replayed += 1;
                return None;
            }
        }
        if self.budget == 0 && self.is_stranger(now, source) {
            self.counters.over_budget += 1;
            return None;
        }
        let cached = known
            .filter(|known| known.generation == header.generation && known.salt == header.salt)
            .and_then(|known| known.ciphers.iter().find(|(of, _)| *of == header.key));
        let fresh;
        let opening = match cached {
            Some((_, opening)) => opening,
            None => {
                fresh = cipher(key, self.cluster.as_str(), header.name, header.generation, &header.salt)?;
                &fresh
            }
        };
        let receiver = header.bound.then_some(self.name.as_str());
        let aad = associated(datagram.get(..length)?, self.cluster.as_str(), receiver);
        let mut body = datagram.get(length..)?.to_vec();
        let opened = opening
            .open_in_place(nonce(header.counter), aead::Aad::from(aad), &mut body)
            .ok()
            .and_then(|plain| decode_address(plain));
        let Some((address, part)) = opened else {
            self.budget = self.budget.saturating_sub(datagram.len());
            self.counters.forged += 1;
            return None;
        };
        // Genuine from here on.
        let part = part.to_vec();
        self.take(now, &header, address, key, datagram.len(), part)
    }

    fn take(
        &mut self,
        now: Instant,
        header: &Header<'_>,
        address: SocketAddr,
        key: &MeshKey,
        bytes: usize,
        part: Vec<u8>,
    ) -> Option<Opened> {
        let renewed = match self.senders.get(header.name) {
            Some(known) if known.generation == header.generation => {
                if known.salt != header.salt {
                    // Two processes claim one life; the first heard keeps it, and the count tells.
                    self.counters.twin += 1;
                    return None;
                }
                false
            }
            Some(_) | None => true,
        };
        if renewed {
            self.make_room(header.name);
            self.senders.insert(
                header.name.to_owned(),
                Sender {
                    generation: header.generation,
                    salt: header.salt,
                    ciphers: Vec::new(),
                    window: ReplayWindow::default(),
                    reassembly: Reassembly::default(),
                    address,
                    heard: now,
                },
            );
        }
        let waiting: usize = self.senders.values().map(|sender| sender.reassembly.bytes()).sum();
        let sender = self.senders.get_mut(header.name)?;
        if !sender.window.take(header.counter) {
            self.counters.replayed += 1;
            return None;
        }
        if !sender.ciphers.iter().any(|(of, _)| *of == header.key) {
            // Two keys are in use at most, while one is promoted.
            sender.ciphers.truncate(1);
            let cipher = cipher(key, self.cluster.as_str(), header.name, header.generation, &header.salt)?;
            sender.ciphers.insert(0, (header.key, cipher));
        }
        sender.heard = now;
        let before = std::mem::replace(&mut sender.address, address);
        if before != address && self.book.get(&before).is_some_and(|name| name == header.name) {
            self.book.remove(&before);
        }
        self.book.insert(address, header.name.to_owned());
        self.counters.received += 1;
        self.counters.received_bytes += bytes as u64;
        let mut opened = Opened { name: header.name.to_owned(), generation: header.generation, address, message: None };
        if header.chunks > 1 && waiting + part.len() > MOST_WAITING {
            self.counters.incomplete += 1;
            return Some(opened);
        }
        let base = header.counter - u64::from(header.chunk);
        match sender.reassembly.add(now, base, header.chunk, header.chunks, part) {
            Joined::Whole(message) => opened.message = Some(message),
            Joined::Waiting => {}
            Joined::Refused => self.counters.incomplete += 1,
        }
        Some(opened)
    }

    /// Gives up what waited too long. To be called about once a second.
    pub fn sweep(&mut self, now: Instant) {
        for sender in self.senders.values_mut() {
            self.counters.incomplete += sender.reassembly.expire(now) as u64;
        }
        self.expected.retain(|_, sent| now.saturating_duration_since(*sent) < EXPECTED_FOR);
        self.counters.senders = self.senders.len() as u64;
        self.counters.waiting_bytes = self.senders.values().map(|s| s.reassembly.bytes() as u64).sum();
    }

    /// Addresses held of any kind.
    pub fn addresses(&self) -> usize {
        self.book.len() + self.expected.len()
    }

    fn is_stranger(&self, now: Instant, source: SocketAddr) -> bool {
        let answers = |sent: &Instant| now.saturating_duration_since(*sent) < EXPECTED_FOR;
        let is_expected = self.expected.get(&source).is_some_and(answers);
        !is_expected && !self.book.contains_key(&source)
    }

    fn refill(&mut self, now: Instant) {
        let since = self.refilled.map(|at| now.saturating_duration_since(at));
        if since.is_none_or(|since| since >= Duration::from_secs(1)) {
            self.budget = FORGERY_BUDGET;
            self.refilled = Some(now);
        }
    }

    fn make_room(&mut self, newcomer: &str) {
        if self.senders.len() < MOST_SENDERS || self.senders.contains_key(newcomer) {
            return;
        }
        let oldest = self.senders.iter().min_by_key(|(_, sender)| sender.heard);
        if let Some((name, address)) = oldest.map(|(name, sender)| (name.clone(), sender.address)) {
            self.senders.remove(&name);
            self.book.remove(&address);
        }
    }
}

/// An address as it begins a sealed message: 4 or 6, the address, the port.
pub fn encode_address(address: SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(19);
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend(ip.octets());
        }
    }
    out.extend(address.port().to_be_bytes());
    out
}

/// Reads what [`encode_address`] wrote, and what is behind it.
pub fn decode_address(bytes: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (family, rest) = bytes.split_first()?;
    let (ip, rest): (IpAddr, &[u8]) = match family {
        4 => {
            let (ip, rest) = rest.split_first_chunk::<4>()?;
            (Ipv4Addr::from(*ip).into(), rest)
        }
        6 => {
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            (Ipv6Addr::from(*ip).into(), rest)
        }
        _ => return None,
    };
    let (port, rest) = rest.split_first_chunk::<2>()?;
    Some((SocketAddr::new(ip, u16::from_be_bytes(*port)), rest))
}

const _: () = assert!(
    (LONGEST_DATAGRAM - 33 - frame::LONGEST_NAME - 19 - TAG) * MOST_CHUNKS as usize >= 65_507,
    "64 chunks carry whatever fits a UDP datagram"
);

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(secret: u8) -> KeyRing {
        KeyRing::of(&[("k", &[secret; 32])], "k").expect("a ring")
    }

    fn name(text: &str) -> PilotName {
        PilotName::parse(text).expect("a name")
    }

    fn at(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn sealer(cluster: &str, from: &str, generation: u64) -> Sealer {
        Sealer::new(ClusterId::new(cluster), name(from), Generation(generation), at(9)).expect("random")
    }

    fn opener() -> Opener {
        Opener::new(ClusterId::new("c"), name("b"), Generation(1))
    }

    fn try_open(opener: &mut Opener, datagram: &[u8]) -> Option<Opened> {
        opener.open(Instant::now(), &ring(1), at(1), datagram)
    }

    #[test]
    fn a_message_of_any_size_arrives_whole_and_in_small_datagrams() {
        for size in [0, 1, 1100, 1200, 65_507] {
            let message: Vec<u8> = (0..size).map(|i: u32| i as u8).collect();
            let datagrams = sealer("c", "a", 1).seal(&ring(1), Some("b"), &message).expect("sealed");
            assert!(datagrams.iter().all(|d| d.len() <= LONGEST_DATAGRAM));
            let mut opener = opener();
            let whole: Vec<_> =
                datagrams.iter().rev().filter_map(|d| try_open(&mut opener, d).expect("genuine").message).collect();
            assert_eq!(whole, vec![message]);
        }
    }

    #[test]
    fn no_bit_of_a_datagram_can_be_flipped_and_no_byte_cut_off() {
        let datagram = sealer("c", "a", 1).seal(&ring(1), None, b"hello").expect("sealed").remove(0);
        let mut opener = opener();
        for bit in 0..datagram.len() * 8 {
            let mut flipped = datagram.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(try_open(&mut opener, &flipped), None, "bit {bit}");
        }
        for length in 0..datagram.len() {
            assert_eq!(try_open(&mut opener, &datagram[..length]), None, "length {length}");
        }
        assert_eq!(opener.senders.len() + opener.addresses(), 0);
        assert!(try_open(&mut opener, &datagram).is_some());
    }

    #[test]
    fn another_key_cluster_or_receiver_opens_nothing() {
        let mut opener = opener();
        let mut refused = |mut sealer: Sealer, key: u8, receiver| {
            let datagram = sealer.seal(&ring(key), receiver, b"x").expect("sealed").remove(0);
            try_open(&mut opener, &datagram).is_none()
        };
        assert!(refused(sealer("c", "a", 1), 2, None));
        assert!(refused(sealer("other", "a", 1), 1, None));
        assert!(refused(sealer("c", "a", 1), 1, Some("c")));
        assert!(refused(sealer("c", "b", 1), 1, None), "own words come back");
        assert!(!refused(sealer("c", "a", 1), 1, Some("b")));
        assert_eq!(opener.counters.unknown_key, 1);
        assert_eq!(opener.counters.forged, 2);
        assert_eq!(opener.counters.reflected, 1);
    }

    #[test]
    fn a_replay_an_earlier_life_and_a_twin_are_refused() {
        let mut opener = opener();
        let mut first = sealer("c", "a", 5);
        let one = first.seal(&ring(1), None, b"x").expect("sealed").remove(0);
        let two = first.seal(&ring(1), None, b"y").expect("sealed").remove(0);
        assert!(try_open(&mut opener, &two).is_some());
        assert!(try_open(&mut opener, &one).is_some(), "late is not replayed");
        assert!(try_open(&mut opener, &one).is_none());
        let twin = sealer("c", "a", 5).seal(&ring(1), None, b"z").expect("sealed").remove(0);
        assert!(try_open(&mut opener, &twin).is_none());
        let newer = sealer("c", "a", 6).seal(&ring(1), None, b"z").expect("sealed").remove(0);
        assert!(try_open(&mut opener, &newer).is_some());
        let late = first.seal(&ring(1), None, b"x").expect("sealed").remove(0);
        assert!(try_open(&mut opener, &late).is_none());
        let counted = opener.counters;
        assert_eq!((counted.replayed, counted.twin, counted.stale_generation), (1, 1, 1));
    }

    #[test]
    fn unfinished_messages_and_forgeries_hold_bounded_memory_and_leave_peers_heard() {
        let mut opener = opener();
        let now = Instant::now();
        for sender in 0..300 {
            let mut sealer = sealer("c", &format!("a-{sender}"), 1);
            for _ in 0..6 {
                let datagrams = sealer.seal(&ring(1), None, &[7; 60_000]).expect("sealed");
                for datagram in datagrams.iter().take(20) {
                    opener.open(now, &ring(1), at(1), datagram);
                }
            }
        }
        opener.sweep(now);
        assert!(opener.counters.waiting_bytes <= MOST_WAITING as u64);
        assert!(opener.counters.incomplete > 0);
        let mut peer = sealer("c", "peer", 1);
        let mut word = |opener: &mut Opener, source| {
            let datagram = peer.seal(&ring(1), None, b"x").expect("sealed").remove(0);
            opener.open(now, &ring(1), source, &datagram).is_some()
        };
        assert!(word(&mut opener, at(9)));
        let mut forged = sealer("c", "peer", 1).seal(&ring(1), None, &[0; 1000]).expect("sealed").remove(0);
        for i in 0..5000_u32 {
            forged[100] = forged[100].wrapping_add(1);
            let changed = i.to_be_bytes();
            forged[110..114].copy_from_slice(&changed);
            assert_eq!(opener.open(now, &ring(1), at(66), &forged), None);
        }
        assert!(opener.counters.over_budget > 0);
        assert!(opener.counters.forged < 1200, "{}", opener.counters.forged);
        assert!(word(&mut opener, at(9)), "a known peer is heard through the flood");
        opener.sweep(now + Duration::from_secs(3));
        assert_eq!(opener.counters.waiting_bytes, 0);
    }
}
