//! Pilot mesh.

pub mod gossip;
pub mod keyring;
pub mod stream;
