//! The deterministic simulator and the model of Kubernetes: what runs millions of times, optimised also where it is tested.
//!
//! A package of its own, so that what is built around it (sandbox, stories, benchmarks) need not be.

pub mod kubernetes;
pub mod world;
