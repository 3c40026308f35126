//! What pilots may do, and what a coordinator decides: pure functions of facts and time.
//!
//! This crate reads no clock, draws no random number, opens no file and no socket. What it may not name, it cannot do.

pub mod decide;
pub mod election;
pub mod fault;
pub mod file;
mod join;
mod leave;
mod marks;
mod peers;
pub mod plan;
pub mod policy;
pub mod reference;
pub mod replace;
mod restart;
pub mod setting;
pub mod world;
