//! Real pilots and real databases as processes of this machine.

pub mod client;
pub mod direct;
pub mod distribution;
pub mod engine;
pub mod layout;
pub mod manifests;
pub mod multicall;
pub mod process;
