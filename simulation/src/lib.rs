//! The sandbox, its stories and benchmarks, and the simulator: where pilots are tried before anybody trusts them.

pub mod bench;
pub mod conformance;
pub mod fuzz;
pub mod model_database;
pub mod sandbox;
pub mod story;

pub use engine::{kubernetes, world};
