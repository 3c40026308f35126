//! Pilot mesh.

pub mod conformance;
pub mod sandbox;
