//! One member of the model database as a program of its own, for tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args: Vec<_> = std::env::args_os().skip(1).collect();
    // The driver names it in front of every command, because the sandbox carries it among others.
    if args.first().is_some_and(|first| first == "model-database") {
        args.remove(0);
    }
    simulation::model_database::run(args)
}
