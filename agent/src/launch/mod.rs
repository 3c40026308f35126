//! The launcher: the entrypoint of the database container, and the only process that ever starts the database.
//!
//! It starts nothing until a permission for *its* pod lies on its disk; with one, it keeps the database running whether an
//! agent is there or not, and can alone finish a leave that was granted. All decisions are in [`machine`], which does no
//! IO and knows no clock; [`runtime`] carries them out.

pub mod accounts;
pub mod args;
mod children;
mod connection;
mod facts;
pub mod machine;
pub mod memory;
pub mod runtime;
mod store;
pub mod wire;

pub use args::LaunchArgs;
pub use runtime::{LaunchError, LaunchSettings, default_care, run, run_to_code};
