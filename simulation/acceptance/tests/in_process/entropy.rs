//! Randomness from the seed, beneath everything: gossip's choice of peers, the order of hash maps, nonces, Noise's keys
//! and tokio's choice among ready branches all begin with what the system's `getrandom` gives.
//!
//! Only the salt of gossip's seals comes from elsewhere (ring asks the kernel itself): it is in no trace.

#![allow(unsafe_code, reason = "a function of the C library is replaced, for this test program alone")]

use std::ffi::{c_uint, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

static STATE: AtomicU64 = AtomicU64::new(0);

/// From now on the same numbers for the same seed. To be called before anything random is asked for.
pub(crate) fn sow(seed: u64) {
    STATE.store(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), Ordering::Relaxed);
}

/// The next number.
fn next() -> u64 {
    let mut z = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// In place of the C library's.
///
/// # Safety
/// As there: `buffer` must have room for `length` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    // SAFETY: the caller gives a buffer of that length.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for part in bytes.chunks_mut(8) {
        let word = next().to_ne_bytes();
        part.copy_from_slice(&word[..part.len()]);
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}
