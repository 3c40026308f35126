//! Measures a mesh of pilots over the model database.

use std::process::ExitCode;

fn main() -> ExitCode {
    simulation::bench::cli::main()
}
