//! The tour, and a sandbox to play with.

use std::process::ExitCode;

fn main() -> ExitCode {
    simulation::sandbox::cli::main()
}
