//! Pilot mesh.

pub mod kubernetes;
