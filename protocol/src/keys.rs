//! The gossip keys: each has one owner, one meaning and one type.

/// Who and where the pilot is: [`crate::report::About`] as JSON.
pub const ABOUT: &str = "about";
/// Its database: [`crate::report::DatabaseReport`] as JSON.
pub const DATABASE: &str = "database";
/// Number of ring lines, or `null`; the lines follow in `ring.0`, `ring.1`, …
pub const RING: &str = "ring";
/// The ring where its lines do not fit: [`crate::report::RingSet`] as JSON; `ring` is `null` then.
pub const RING_SET: &str = "ring.set";
/// Its part in the mesh: [`crate::report::MeshReport`] as JSON.
pub const MESH: &str = "mesh";
/// The operation it coordinates: [`crate::report::OperationReport`] as JSON, or `null`.
pub const OPERATION: &str = "operation";
/// Its last decisions in brief: a list of [`crate::report::Brief`] as JSON.
pub const WHY: &str = "why";

/// Longest key and value together, in bytes. A value that fits no datagram is never sent, and everything after it waits behind it.
pub const LONGEST_VALUE: usize = 1024;
/// Most keys of one pilot.
pub const MOST_KEYS: usize = 64;
/// Most bytes of keys and values of one pilot.
pub const MOST_BYTES: usize = 8 * 1024;
