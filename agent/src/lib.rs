//! Pilot mesh.

pub mod state_file;
