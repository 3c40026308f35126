//! The deterministic simulator, the model Kubernetes, the sandbox: where pilots are tried before anybody trusts them.

pub mod model_database;
pub mod conformance;
pub mod kubernetes;
pub mod sandbox;
pub mod story;
pub mod world;
