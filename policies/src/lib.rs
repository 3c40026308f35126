//! How pilots may act: the policy file as written and as meant, and the pure decision core.
//!
//! Nothing here does IO, reads a clock or draws a random number.

pub mod fault;
pub mod file;
pub mod policy;
pub mod reference;
pub mod setting;
