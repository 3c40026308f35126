//! The binary `pilot`.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent::cli::main()
}
