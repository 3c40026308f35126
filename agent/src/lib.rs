//! Pilot mesh.

pub mod launch;
pub mod launch_client;
pub mod state_file;
