//! Real pilots and real databases as processes of this machine.

pub mod cli;
pub mod client;
pub mod control;
pub mod direct;
pub mod distribution;
pub mod engine;
pub mod home;
pub mod layout;
pub mod manifests;
pub mod multicall;
pub mod process;
pub mod running;
pub mod show;
pub mod stop;
pub mod tour;
pub mod up;
