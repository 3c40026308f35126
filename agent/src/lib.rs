//! Pilot mesh.

pub mod driver;
