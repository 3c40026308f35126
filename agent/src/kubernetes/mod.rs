//! The Kubernetes API as a pilot uses it: calls with guards, and answers as facts.
//!
//! `call` says what may be asked, `translate` turns it into HTTP and back without deciding anything, so that the same
//! translation serves the real client and the simulator.

pub mod call;
pub mod translate;

#[cfg(test)]
mod rights_tests;
