//! Where pods live: an address for each, never given twice.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr};

/// Hands out pod addresses.
pub trait AddressPool: Debug + Send {
    /// An address nobody had before.
    fn next(&mut self) -> IpAddr;

    /// How many were handed out.
    fn used(&self) -> u32;
}

/// Loopback addresses `127.N.x.y`, a second octet for each node.
#[derive(Debug, Clone)]
pub struct LoopbackPool {
    octet: u8,
    used: u32,
}

impl LoopbackPool {
    /// Addresses `127.octet.0.2` and up, skipping the first `used`: a sandbox started again continues there.
    #[must_use]
    pub fn new(octet: u8, used: u32) -> Self {
        Self { octet, used }
    }
}

impl AddressPool for LoopbackPool {
    fn next(&mut self) -> IpAddr {
        // 65,000 pods; a sandbox that outlives them begins anew, when the first are long gone.
        let index = self.used % 65_000 + 2;
        self.used += 1;
        let [_, _, high, low] = index.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(127, self.octet, high, low))
    }

    fn used(&self) -> u32 {
        self.used
    }
}
