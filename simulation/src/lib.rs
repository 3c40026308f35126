//! The deterministic simulator, the model Kubernetes, the sandbox: where pilots are tried before anybody trusts them.

pub mod bench;
pub mod conformance;
pub mod fuzz;
pub mod kubernetes;
pub mod model_database;
pub mod sandbox;
pub mod story;
pub mod world;
