//! What holds of the real thing must hold of its model: one script for both.

pub mod driver;
