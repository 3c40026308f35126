//! Pilot mesh.

pub mod sandbox;
