//! `pilot image`: the pilot's image as an archive, without an engine.

use super::install::own_program;
use super::{Done, say};
use bootstrap::image::{Name, archive};
use clap::Args;
use std::path::PathBuf;

/// `pilot image`.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// Registry, path and tag: `registry.example/pilot:0.1.0`.
    pub name: String,
    /// The archive that is written.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// The static program that the image is to hold. Without it, this very program.
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
}

pub(super) fn run(args: &ImageArgs) -> Done {
    let name = Name::parse(&args.name).map_err(|fault| fault.to_string())?;
    let program = match &args.program {
        Some(path) => path.clone(),
        None => own_program()?,
    };
    let bytes = std::fs::read(&program).map_err(|error| format!("cannot read {}: {error}", program.display()))?;
    let archive = archive(&bytes, &name).map_err(|fault| format!("{}: {fault}", program.display()))?;
    // Whole or not at all.
    let mut fresh = args.output.clone().into_os_string();
    fresh.push(".new");
    let written = std::fs::write(&fresh, &archive).and_then(|()| std::fs::rename(&fresh, &args.output));
    written.map_err(|error| format!("cannot write {}: {error}; give a writable folder", args.output.display()))?;
    say(&format!("{name} is in {}, {} bytes\n", args.output.display(), archive.len()))
}
