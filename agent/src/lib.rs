//! The pilot: a step machine that decides, and adapters that translate.

pub mod caught;
pub mod cli;
pub mod driver;
pub mod effect;
pub mod event;
#[cfg(test)]
mod golden;
pub mod gossip;
pub mod http;
pub mod keyring;
pub mod kubernetes;
pub mod launch;
pub mod launch_client;
pub mod machine;
pub mod pilot;
pub mod runtime;
pub mod state_file;
pub mod stream;
