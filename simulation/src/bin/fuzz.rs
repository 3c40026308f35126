//! Coverage-guided fuzzing of every decoder of foreign bytes: builds the fuzzer in `simulation/fuzz` and runs it for each.

use clap::Parser;
use simulation::fuzz::{Target, targets};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Fuzzes all decoders, or some.
#[derive(Parser)]
#[command(
    name = "fuzz",
    after_help = "\
Exit codes: 0 nothing was found; 1 something was, or it could not be run; 2 the command line is wrong.
It needs a C++ compiler, for libFuzzer, and the stable Rust compiler."
)]
struct Line {
    /// Lists the decoders and whose bytes they read.
    #[arg(long)]
    list: bool,
    /// Runs only these; may be repeated.
    #[arg(long = "target", value_name = "NAME")]
    targets: Vec<String>,
    /// How long each is run, in seconds.
    #[arg(long, env = "PILOT_FUZZ_SECONDS", default_value_t = 15, value_name = "SECONDS")]
    seconds: u64,
    /// The same in minutes.
    #[arg(long, conflicts_with = "seconds", value_name = "MINUTES")]
    minutes: Option<u64>,
    /// Where inputs that showed new ways through the code are kept between runs.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/fuzz-corpus"), value_name = "FOLDER")]
    corpus: PathBuf,
    /// Runs nothing: writes the inputs made of real encodings to the corpus that the gate reads.
    #[arg(long)]
    write_seeds: bool,
}

/// What one run showed.
struct Ran {
    executions: String,
    /// Edges of the code that were taken.
    covered: String,
    /// Inputs kept.
    inputs: usize,
    passed: bool,
}

fn main() -> ExitCode {
    let line = Line::parse();
    let all = targets();
    if line.list {
        for target in &all {
            println!("{:<18} {}", target.name, target.reads);
        }
        return ExitCode::SUCCESS;
    }
    let unknown: Vec<&String> = line.targets.iter().filter(|n| all.iter().all(|t| t.name != n.as_str())).collect();
    if !unknown.is_empty() {
        eprintln!("no such decoder: {unknown:?}; --list tells their names");
        return ExitCode::from(2);
    }
    let wanted = all.iter().filter(|t| line.targets.is_empty() || line.targets.iter().any(|n| n == t.name));
    let done = if line.write_seeds { write_seeds(wanted) } else { run_all(&line, wanted) };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn write_seeds<'a>(wanted: impl Iterator<Item = &'a Target>) -> Result<bool, String> {
    for target in wanted {
        let folder = target.corpus();
        let failed = |error: std::io::Error| format!("{} cannot be written: {error}", folder.display());
        std::fs::create_dir_all(&folder).map_err(failed)?;
        for (number, bytes) in (target.seeds)().into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:02}")), bytes).map_err(failed)?;
        }
    }
    Ok(true)
}

fn run_all<'a>(line: &Line, wanted: impl Iterator<Item = &'a Target>) -> Result<bool, String> {
    let seconds = line.minutes.map_or(line.seconds, |minutes| minutes.saturating_mul(60));
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| OsString::from("c++"));
    if Command::new(&compiler).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        println!(
            "NOT SHOWN: fuzzing of decoders: there is no C++ compiler `{}`, which libFuzzer needs",
            compiler.display()
        );
        return Ok(true);
    }
    let program = build()?;
    let mut found = 0;
    println!("{:<18} {:>12} {:>8} {:>8}  {} s each", "DECODER", "EXECUTIONS", "COVERED", "INPUTS", seconds);
    for target in wanted {
        let ran = run(&program, target, &line.corpus.join(target.name), seconds)?;
        let Ran { executions, covered, inputs, passed } = ran;
        let word = if passed { "" } else { "  FOUND" };
        println!("{:<18} {executions:>12} {covered:>8} {inputs:>8}{word}", target.name);
        found += u32::from(!passed);
    }
    println!("{found} decoders with a finding");
    Ok(found == 0)
}

/// Builds the fuzzer and tells where it is.
fn build() -> Result<PathBuf, String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");
    let failed = |why: String| format!("the fuzzer in {folder} cannot be built ({why}): it needs a C++ compiler");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    for (name, _) in std::env::vars_os() {
        let name_of = name.to_string_lossy();
        // Flags of the caller's would take the place of the instrumentation; what cargo tells this very program of its
        // package would have half of everything built again.
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"]
            .iter()
            .any(|of| name_of.starts_with(of))
        {
            command.env_remove(&name);
        }
    }
    let output = command
        .args(["build", "--release", "--locked", "--message-format=json-render-diagnostics"])
        .current_dir(folder)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    let told = String::from_utf8_lossy(&output.stdout);
    told.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .ok_or_else(|| failed("cargo names no program".to_owned()))
}

/// Runs one decoder for so long. The first finding ends it.
fn run(program: &Path, target: &Target, corpus: &Path, seconds: u64) -> Result<Ran, String> {
    let failed = |doing: &str, error: std::io::Error| format!("{}: cannot {doing}: {error}", target.name);
    std::fs::create_dir_all(corpus).map_err(|e| failed("make the folder of inputs", e))?;
    let findings = corpus.with_extension("found");
    std::fs::create_dir_all(&findings).map_err(|e| failed("make the folder of findings", e))?;
    let mut command = Command::new(program);
    command
        .env("PILOT_FUZZ_TARGET", target.name)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", findings.display()))
        // Ten seconds for one input are a finding too; so is memory that the count of allocations does not see.
        .args(["-timeout=10", "-rss_limit_mb=1024", "-max_len=70000", "-print_final_stats=1"])
        .arg(corpus);
    if target.corpus().exists() {
        command.arg(target.corpus());
    }
    let output = command.output().map_err(|e| failed("start the fuzzer", e))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let executions = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let covered = said.lines().rev().find_map(|line| line.split(" cov: ").nth(1)?.split(' ').next());
    if !output.status.success() {
        eprintln!("{said}");
        let file = said.lines().rev().find_map(|line| line.split("Test unit written to ").nth(1));
        eprintln!(
            "{name}: found; keep the input in {kept}, mend the decoder, and see it again by\n  \
             PILOT_FUZZ_TARGET={name} {program} {file}",
            name = target.name,
            kept = target.corpus().display(),
            program = program.display(),
            file = file.unwrap_or("<input>"),
        );
    }
    Ok(Ran {
        executions: executions.unwrap_or("?").trim().to_owned(),
        covered: covered.unwrap_or("?").to_owned(),
        inputs: std::fs::read_dir(corpus).map_err(|e| failed("count the inputs", e))?.count(),
        passed: output.status.success(),
    })
}
