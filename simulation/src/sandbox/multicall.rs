//! A program that runs a sandbox carries the pilot and the model database in itself: its pods run the very same file.

use std::process::ExitCode;

/// Runs as what the first argument names: `pilot` or `model-database`; nothing otherwise. To be called first thing in
/// `main`.
pub fn run_as_pilot() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let program = arguments.next()?;
    match arguments.next()?.to_str()? {
        "pilot" => Some(agent::cli::run_from(std::iter::once(program).chain(arguments))),
        "model-database" => Some(crate::model_database::run(arguments)),
        _ => None,
    }
}
