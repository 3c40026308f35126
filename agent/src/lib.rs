//! Pilot mesh.
