//! The mesh's keys, from a directory of mounted files.
//!
//! One file is one key: the file's name is the key's id, its content at least 32 bytes of secret, raw or in base64.
//! A file named `primary` holds the id of the key to send with; without it the highest id sends. Everything the ring
//! holds is accepted, so a key is rotated in three steps (add, promote, remove) and no pilot is ever shut out.
//!
//! A Kubernetes Secret mount swaps a symbolic link (`..data`) when it changes, so a ring is re-read by polling its
//! content: watching files for events misses that swap on some volumes. A directory that cannot be read, or that
//! holds a fault, leaves the ring of before in force.

use ring::hkdf;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The fewest bytes of a key.
const SHORTEST: usize = 32;
/// The most bytes of a key file: a key is no document.
const LONGEST_FILE: u64 = 4096;
/// The most keys of a ring: a rotation needs two, and each costs a look-up.
const MOST_KEYS: usize = 16;
/// The file that names the sending key.
const PRIMARY: &str = "primary";

/// What a derived key is for: one purpose's key is of no use for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Seals gossip datagrams of one life of one pilot.
    Gossip,
    /// Proves a stream's ends to each other.
    Stream,
    /// Tells keys apart on the wire and at the endpoint; reveals nothing of the key.
    Fingerprint,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Gossip => b"pilotmesh gossip 1",
            Self::Stream => b"pilotmesh stream 1",
            Self::Fingerprint => b"pilotmesh fingerprint 1",
        }
    }
}

/// A key's short name on the wire: derived from its id *and* its secret, so two pilots that hold different secrets
/// under one id see an unknown key, not a forgery, and what a pilot publishes of its ring can be believed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 4]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// 32 derived secret bytes; never printed.
pub struct Derived([u8; 32]);

impl Derived {
    /// The bytes, for the cipher that uses them.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Derived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Derived(secret)")
    }
}

/// One key of the ring; its secret is reached only by deriving from it.
#[derive(Clone)]
pub struct MeshKey {
    id: String,
    secret: hkdf::Prk,
    fingerprint: Fingerprint,
}

impl MeshKey {
    fn new(id: &str, secret: &[u8]) -> Self {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, b"pilotmesh key 1").extract(secret);
        let mut key = Self { id: id.to_owned(), secret, fingerprint: Fingerprint([0; 4]) };
        let Derived(bytes) = key.derive(Purpose::Fingerprint, &[id.as_bytes()]);
        key.fingerprint = Fingerprint([bytes[0], bytes[1], bytes[2], bytes[3]]);
        key
    }

    /// Its id: the name of its file.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its short name on the wire.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Derives a key for a purpose within a context (HKDF-SHA256). Each part of the context goes in with its length,
    /// so that no two contexts read alike.
    pub fn derive(&self, purpose: Purpose, context: &[&[u8]]) -> Derived {
        let mut info = Vec::with_capacity(128);
        for part in std::iter::once(purpose.label()).chain(context.iter().copied()) {
            info.extend_from_slice(&(part.len() as u64).to_be_bytes());
            info.extend_from_slice(part);
        }
        let mut out = [0; 32];
        let info = [info.as_slice()];
        let filled = self.secret.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut out));
        // HKDF refuses only outputs above 255 blocks; this one is a single block.
        debug_assert!(filled.is_ok());
        Derived(out)
    }
}

impl fmt::Debug for MeshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeshKey({} {})", self.id, self.fingerprint)
    }
}

/// Why a ring could not be read.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingError {
    /// The directory, or a file in it, could not be read.
    #[error("cannot read key ring {path}: {source}; mount the Secret with the mesh keys there")]
    Read {
        /// What was being read.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// There is no key.
    #[error(
        "key ring {path} holds no key: add a file with at least 32 random bytes, such as `openssl rand -base64 32`"
    )]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// A key is too short to be a key.
    #[error(
        "key `{id}` has {length} bytes but must have at least 32: replace it with the output of `openssl rand -base64 32`"
    )]
    Short {
        /// The key's id.
        id: String,
        /// The length found.
        length: usize,
    },
    /// A file is no key.
    #[error("key file `{id}` has {length} bytes but must have at most 4096: mount only mesh keys in the ring")]
    Long {
        /// The file's name.
        id: String,
        /// The length found.
        length: u64,
    },
    /// There are more keys than a rotation needs.
    #[error("key ring {path} holds more than 16 keys: remove those no longer sent with")]
    Many {
        /// The directory.
        path: PathBuf,
    },
    /// `primary` names a key that is not there.
    #[error("file `primary` names key `{named}`, but the ring holds {held}: add that key first, or name one of these")]
    UnknownPrimary {
        /// The name in the file.
        named: String,
        /// The ids there are.
        held: String,
    },
    /// A name that is no text.
    #[error("key ring {path} holds a file whose name is not UTF-8: rename it")]
    Name {
        /// The directory.
        path: PathBuf,
    },
    /// The directory changed each time it was read.
    #[error("key ring {path} changed while it was read, five times in a row: retry when its writer is done")]
    Unsteady {
        /// The directory.
        path: PathBuf,
    },
    /// Two keys share a fingerprint (one chance in four billion).
    #[error("keys `{one}` and `{other}` share the fingerprint {fingerprint}: rename one of them")]
    Collision {
        /// One of them.
        one: String,
        /// The other.
        other: String,
        /// What they share.
        fingerprint: Fingerprint,
    },
}

/// The keys accepted, and the one to send with.
#[derive(Debug, Clone)]
pub struct KeyRing {
    keys: BTreeMap<Fingerprint, MeshKey>,
    primary: Fingerprint,
}

impl KeyRing {
    /// Reads the ring of a directory. Hidden entries (as Kubernetes' `..data`) and directories are passed over.
    ///
    /// # Errors
    /// When there is no key, a key is unfit, or the directory cannot be read.
    pub fn load(directory: &Path) -> Result<Self, KeyRingError> {
        Self::from_files(directory, &steady(directory)?)
    }

    /// A ring of these keys (id and secret), sending with `primary`.
    ///
    /// # Errors
    /// As [`KeyRing::load`].
    pub fn of(keys: &[(&str, &[u8])], primary: &str) -> Result<Self, KeyRingError> {
        let mut files: Files = keys.iter().map(|(id, secret)| ((*id).to_owned(), secret.to_vec())).collect();
        files.insert(PRIMARY.to_owned(), primary.as_bytes().to_vec());
        Self::from_files(Path::new("(given)"), &files)
    }

    fn from_files(directory: &Path, files: &Files) -> Result<Self, KeyRingError> {
        let mut keys: BTreeMap<Fingerprint, MeshKey> = BTreeMap::new();
        let mut ids = Vec::new();
        for (id, content) in files.iter().filter(|(id, _)| id.as_str() != PRIMARY) {
            let secret = secret_of(content);
            if secret.len() < SHORTEST {
                return Err(KeyRingError::Short { id: id.clone(), length: secret.len() });
            }
            let key = MeshKey::new(id, &secret);
            ids.push((rank(id), key.fingerprint));
            if let Some(other) = keys.insert(key.fingerprint, key) {
                return Err(KeyRingError::Collision {
                    one: id.clone(),
                    fingerprint: other.fingerprint,
                    other: other.id,
                });
            }
        }
        let primary = match files.get(PRIMARY) {
            Some(named) => {
                let named = String::from_utf8_lossy(named).trim().to_owned();
                let found = keys.values().find(|key| key.id == named);
                found.map(MeshKey::fingerprint).ok_or_else(|| {
                    let held: Vec<_> = files.keys().filter(|id| *id != PRIMARY).cloned().collect();
                    KeyRingError::UnknownPrimary {
                        named,
                        held: if held.is_empty() { "none".to_owned() } else { held.join(", ") },
                    }
                })?
            }
            None => ids
                .iter()
                .max()
                .map(|(_, fingerprint)| *fingerprint)
                .ok_or_else(|| KeyRingError::Empty { path: directory.to_owned() })?,
        };
        Ok(Self { keys, primary })
    }

    /// The key to send with.
    pub fn primary(&self) -> &MeshKey {
        // The constructor lets no ring through whose primary is not among its keys.
        &self.keys[&self.primary]
    }

    /// The key of this wire name, if the ring holds it.
    pub fn find(&self, fingerprint: Fingerprint) -> Option<&MeshKey> {
        self.keys.get(&fingerprint)
    }

    /// What a pilot publishes of its ring: the fingerprints it accepts. A key may be promoted once every pilot
    /// publishes it, and removed once none sends with it.
    pub fn published(&self) -> String {
        let all: Vec<_> = self.keys.keys().map(Fingerprint::to_string).collect();
        all.join(",")
    }

    fn same_as(&self, other: &Self) -> bool {
        self.primary == other.primary && self.keys.keys().eq(other.keys.keys())
    }
}

/// How a ring is shared: the newest one, and word of a change.
pub type SharedKeyRing = watch::Receiver<Arc<KeyRing>>;

/// Follows a directory for life; the reading ends when this is dropped.
#[derive(Debug)]
pub struct KeyRingWatch {
    ring: SharedKeyRing,
    fault: watch::Receiver<Option<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl KeyRingWatch {
    /// Reads the ring once, then again every `every`.
    ///
    /// # Errors
    /// When the first reading fails: a pilot without keys must not start.
    pub fn start(directory: PathBuf, every: Duration) -> Result<Self, KeyRingError> {
        let (ring_tx, ring) = watch::channel(Arc::new(KeyRing::load(&directory)?));
        let (fault_tx, fault) = watch::channel(None);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(every);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while !ring_tx.is_closed() {
                ticks.tick().await;
                let fault = match KeyRing::load(&directory) {
                    Ok(new) => {
                        let changed = ring_tx.send_if_modified(|old| {
                            let changed = !old.same_as(&new);
                            if changed {
                                *old = Arc::new(new);
                            }
                            changed
                        });
                        if changed {
                            let ring = ring_tx.borrow();
                            tracing::info!(keys = %ring.published(), primary = %ring.primary.to_string(), "key ring changed");
                        }
                        None
                    }
                    Err(error) => Some(error.to_string()),
                };
                fault_tx.send_if_modified(|old| {
                    let changed = *old != fault;
                    if let (true, Some(fault)) = (changed, &fault) {
                        tracing::warn!(%fault, "key ring refused, the one of before stays in force");
                    }
                    *old = fault;
                    changed
                });
            }
        });
        Ok(Self { ring, fault, task })
    }

    /// The ring, newest at any time.
    pub fn ring(&self) -> SharedKeyRing {
        self.ring.clone()
    }

    /// What is wrong with the directory now, if anything: the ring of before stays in force.
    pub fn fault(&self) -> Option<String> {
        self.fault.borrow().clone()
    }
}

impl Drop for KeyRingWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Files = BTreeMap<String, Vec<u8>>;

/// Reads until two readings agree: between them no swap of the mount can have mixed old files with new.
fn steady(directory: &Path) -> Result<Files, KeyRingError> {
    let mut before = read(directory)?;
    for _ in 0..5 {
        let after = read(directory)?;
        if before == after {
            return Ok(after);
        }
        before = after;
    }
    Err(KeyRingError::Unsteady { path: directory.to_owned() })
}

fn read(directory: &Path) -> Result<Files, KeyRingError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| KeyRingError::Read { path, source }
    };
    let mut files = Files::new();
    for entry in std::fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        let Some(id) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(KeyRingError::Name { path: directory.to_owned() });
        };
        if id.starts_with('.') {
            continue;
        }
        // Follows links: in a Secret mount every key is one.
        let facts = std::fs::metadata(&path).map_err(failed(&path))?;
        if facts.is_dir() {
            continue;
        }
        if facts.len() > LONGEST_FILE {
            return Err(KeyRingError::Long { id: id.to_owned(), length: facts.len() });
        }
        // Not every file is as long as it says: a device says nothing and never ends.
        let mut content = Vec::new();
        let file = std::fs::File::open(&path).map_err(failed(&path))?;
        let length = file.take(LONGEST_FILE + 1).read_to_end(&mut content).map_err(failed(&path))?;
        if length as u64 > LONGEST_FILE {
            return Err(KeyRingError::Long { id: id.to_owned(), length: length as u64 });
        }
        files.insert(id.to_owned(), content);
        if files.len() > MOST_KEYS + 1 {
            return Err(KeyRingError::Many { path: directory.to_owned() });
        }
    }
    Ok(files)
}

/// Ids that are all digits compare as numbers and come after the others: key 10 is newer than key 9.
fn rank(id: &str) -> (bool, usize, String) {
    let digits = id.bytes().all(|byte| byte.is_ascii_digit());
    let text = if digits { id.trim_start_matches('0') } else { id };
    (digits, if digits { text.len() } else { 0 }, text.to_owned())
}

/// The content decoded, if it is base64 of a whole key; otherwise as it is.
fn secret_of(content: &[u8]) -> Vec<u8> {
    match base64(content.trim_ascii()) {
        Some(decoded) if decoded.len() >= SHORTEST => decoded,
        Some(_) | None => content.to_vec(),
    }
}

/// Standard base64 with padding; line breaks are allowed, as tools make them.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.iter().copied().filter(|b| *b != b'\n' && *b != b'\r').collect();
    if digits.is_empty() || !digits.len().is_multiple_of(4) {
        return None;
    }
    let padding = digits.iter().rev().take_while(|b| **b == b'=').count();
    if padding > 2 {
        return None;
    }
    let mut bits = 0_u32;
    let mut out = Vec::with_capacity(digits.len() / 4 * 3);
    for (at, digit) in digits[..digits.len() - padding].iter().enumerate() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        match at % 4 {
            1 => out.push((bits >> 4) as u8),
            2 => out.push((bits >> 2) as u8),
            3 => out.push(bits as u8),
            _ => {}
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &[u8] = &[0x41; 32];
    const B: &[u8] = &[0xb2; 40];

    #[test]
    fn a_file_that_never_ends_is_no_key_whatever_length_it_claims() {
        let mount = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink("/dev/zero", mount.path().join("one")).expect("a link");
        assert!(matches!(KeyRing::load(mount.path()), Err(KeyRingError::Long { .. })));
    }

    #[test]
    fn a_secret_mount_with_its_data_link_is_read_and_re_read_when_the_link_swaps() {
        let mount = tempfile::tempdir().expect("a directory");
        let version = |name: &str, files: &[(&str, &[u8])]| {
            let dir = mount.path().join(name);
            std::fs::create_dir(&dir).expect("a version");
            for (id, content) in files {
                std::fs::write(dir.join(id), content).expect("a key");
            }
        };
        version("..1", &[("one", A)]);
        version("..2", &[("one", A), ("two", B), ("primary", b"two\n")]);
        let link = |to: &str| {
            let fresh = mount.path().join("..fresh");
            std::os::unix::fs::symlink(to, &fresh).expect("a link");
            std::fs::rename(fresh, mount.path().join("..data")).expect("a swap");
        };
        link("..1");
        for id in ["one", "two", "primary"] {
            let at = mount.path().join(id);
            if id == "one" {
                std::os::unix::fs::symlink(format!("..data/{id}"), at).expect("a link");
            }
        }
        let first = KeyRing::load(mount.path()).expect("a ring");
        assert_eq!(first.primary().id(), "one");
        link("..2");
        for id in ["two", "primary"] {
            std::os::unix::fs::symlink(format!("..data/{id}"), mount.path().join(id)).expect("a link");
        }
        let second = KeyRing::load(mount.path()).expect("a ring");
        assert_eq!(second.primary().id(), "two");
        assert!(second.find(first.primary().fingerprint()).is_some());
        assert!(!first.same_as(&second));
    }

    #[test]
    fn base64_and_raw_give_the_same_key() {
        // What `openssl rand -base64 32` prints for 32 times 0x41.
        let text = b"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n";
        let raw = KeyRing::of(&[("k", A)], "k").expect("a ring");
        let coded = KeyRing::of(&[("k", text)], "k").expect("a ring");
        assert!(raw.same_as(&coded));
    }

    #[test]
    fn another_secret_under_the_same_id_is_another_fingerprint() {
        let one = KeyRing::of(&[("k", A)], "k").expect("a ring");
        let other = KeyRing::of(&[("k", B)], "k").expect("a ring");
        assert_ne!(one.primary().fingerprint(), other.primary().fingerprint());
    }

    #[test]
    fn without_a_primary_the_highest_id_sends_and_ten_is_above_nine() {
        let files: Files = [("9", A), ("10", B)].map(|(id, secret)| (id.to_owned(), secret.to_vec())).into();
        let ring = KeyRing::from_files(Path::new("x"), &files).expect("a ring");
        assert_eq!(ring.primary().id(), "10");
    }

    #[test]
    fn faults_name_what_was_found_and_what_to_do() {
        let short = KeyRing::of(&[("k", b"too short")], "k").expect_err("short");
        assert!(short.to_string().contains("9 bytes") && short.to_string().contains("openssl"));
        let unknown = KeyRing::of(&[("k", A)], "z").expect_err("unknown");
        assert!(unknown.to_string().contains("`z`") && unknown.to_string().contains("holds k"));
        let empty = tempfile::tempdir().expect("a directory");
        assert!(matches!(KeyRing::load(empty.path()), Err(KeyRingError::Empty { .. })));
    }

    #[test]
    fn nothing_printed_contains_a_secret() {
        let ring = KeyRing::of(&[("k", b"correct horse battery staple 4711")], "k").expect("a ring");
        let printed = format!("{ring:?} {:?}", ring.primary().derive(Purpose::Gossip, &[]));
        assert!(!printed.contains("horse") && !printed.contains("99, 111"));
    }

    #[test]
    fn contexts_that_only_read_alike_derive_different_keys() {
        let ring = KeyRing::of(&[("k", A)], "k").expect("a ring");
        let key = ring.primary();
        let bytes = |purpose, parts: &[&[u8]]| *key.derive(purpose, parts).bytes();
        assert_ne!(bytes(Purpose::Gossip, &[b"ab", b"c"]), bytes(Purpose::Gossip, &[b"a", b"bc"]));
        assert_ne!(bytes(Purpose::Gossip, &[b"a"]), bytes(Purpose::Stream, &[b"a"]));
    }

    #[tokio::test]
    async fn a_fault_in_the_directory_leaves_the_ring_in_force_and_is_told() {
        let mount = tempfile::tempdir().expect("a directory");
        std::fs::write(mount.path().join("one"), A).expect("a key");
        let watch = KeyRingWatch::start(mount.path().to_owned(), Duration::from_millis(10)).expect("a ring");
        std::fs::write(mount.path().join("two"), b"short").expect("a key");
        let mut faults = watch.fault.clone();
        let fault = faults.wait_for(Option::is_some);
        tokio::time::timeout(Duration::from_secs(20), fault).await.expect("in time").expect("told");
        assert_eq!(watch.ring().borrow().primary().id(), "one");
        std::fs::write(mount.path().join("two"), B).expect("a key");
        let mut ring = watch.ring();
        let promoted = ring.wait_for(|ring| ring.primary().id() == "two");
        tokio::time::timeout(Duration::from_secs(20), promoted).await.expect("in time").expect("read");
    }

    #[tokio::test]
    async fn f28_a_ring_whose_secret_is_gone_stays_in_force_is_told_and_is_the_same_when_it_is_back() {
        let mount = tempfile::tempdir().expect("a directory");
        let keys = mount.path().join("keys");
        std::fs::create_dir(&keys).expect("a directory");
        std::fs::write(keys.join("one"), A).expect("a key");
        let watch = KeyRingWatch::start(keys.clone(), Duration::from_millis(10)).expect("a ring");
        let before = watch.ring().borrow().clone();
        let mut faults = watch.fault.clone();
        for (gone, missing) in [(keys.join("one"), "the key"), (keys.clone(), "the directory")] {
            if gone.is_dir() { std::fs::remove_dir(&gone) } else { std::fs::remove_file(&gone) }.expect("removed");
            let fault = faults.wait_for(Option::is_some);
            tokio::time::timeout(Duration::from_secs(20), fault).await.expect("in time").expect("told");
            assert!(watch.ring().borrow().same_as(&before), "without {missing}");
        }
        std::fs::create_dir(&keys).expect("a directory");
        std::fs::write(keys.join("one"), A).expect("a key");
        let mended = faults.wait_for(Option::is_none);
        tokio::time::timeout(Duration::from_secs(20), mended).await.expect("in time").expect("told");
        assert!(watch.ring().borrow().same_as(&before));
    }
}
