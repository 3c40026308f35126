//! The command line of `pilot`: one binary for the agent, the launcher, and reading what a mesh knows.
//!
//! Exit codes: 0 all is well; 1 it failed; 2 the command line is wrong; 3 the pilot answered, but nobody coordinates or
//! the coordinator decides nothing. `pilot launch` ends with the database's own code.

pub mod agent;
pub mod deploy;
mod fetch;
pub mod first_size;
mod image;
mod install;
mod paint;
mod policy;
mod status;
mod table;
mod text;
mod why;

pub use agent::{AgentArgs, ArgFaults, CheckedArgs, DatabaseKind};

use crate::launch::LaunchArgs;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::fmt::Display;
use std::process::ExitCode;

/// It failed.
const FAILED: u8 = 1;
/// The command line is wrong; clap ends with the same.
const USAGE: u8 = 2;
/// A pilot answered, but nobody coordinates or the coordinator decides nothing.
const DEGRADED: u8 = 3;

/// Pilots beside the processes of one database cluster: they found it, grow and shrink it, and keep it whole.
#[derive(Debug, Parser)]
#[command(
    name = "pilot",
    version,
    arg_required_else_help = true,
    after_help = "\
Exit codes: 0 all is well; 1 it failed; 2 the command line is wrong; 3 the pilot answered, but nobody coordinates or the
coordinator decides nothing. `pilot launch` ends with the database's own code."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `pilot` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the agent: the sidecar beside one database.
    Agent(Box<AgentArgs>),
    /// Runs a database under the care of its pilot: the entrypoint of the database container.
    Launch(LaunchArgs),
    /// Copies this program into a folder: what an init container runs, so that the database's container has a launcher.
    Install {
        /// The folder; the file is called `pilot` there.
        folder: std::path::PathBuf,
    },
    /// Writes the pilot's image, as an archive that container runtimes import.
    Image(image::ImageArgs),
    /// Gives a StatefulSet that was made without a size its first one, once: what the Helm chart's Job runs.
    FirstSize(first_size::FirstSizeArgs),
    /// Prints every object of a cluster, from its document: ready for `kubectl apply`.
    Render(deploy::RenderArgs),
    /// Brings pilots into a StatefulSet that is there already, or takes them out again.
    Inject(Box<deploy::InjectArgs>),
    /// Prints account, Role and RoleBinding of a set's pilots, each rule with what needs it.
    Rbac(deploy::RbacArgs),
    /// Shows what a pilot knows of its mesh, on one screen.
    Status(StatusArgs),
    /// Tells the last decisions with their reasons, newest first.
    Why(WhyArgs),
    /// Checks, explains and compares policy files.
    Policy {
        /// What to do with them.
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Tells the version.
    Version(VersionArgs),
}

/// Which pilot to ask.
#[derive(Debug, Clone, Args)]
pub struct AskArgs {
    /// The endpoints of any pilot of the mesh.
    #[arg(long, env = "PILOT_URL", default_value = "http://127.0.0.1:7300")]
    pub url: String,
    /// How long to wait for its answer.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    pub timeout: std::time::Duration,
}

/// The form of what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For people with wide screens.
    Wide,
    /// The document as the pilot gave it.
    Json,
    /// The same as YAML.
    Yaml,
}

/// `pilot status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Which pilot.
    #[command(flatten)]
    pub ask: AskArgs,
    /// The form.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// `pilot why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// Only what is about this pod, set or cluster.
    pub subject: Option<String>,
    /// Which pilot; the coordinator remembers most.
    #[command(flatten)]
    pub ask: AskArgs,
    /// At most so many decisions.
    #[arg(short = 'n', long, default_value_t = 10)]
    pub last: usize,
    /// The form.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// `pilot policy`. A FILE may be `-` for the standard input, or `preset:cautious`, `preset:balanced`, `preset:swift`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Names every fault of each file; ends with 1 where there is any.
    Check {
        /// Policy files.
        #[arg(required = true)]
        files: Vec<String>,
        /// The form.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Tells every setting as it would be in force, or one with its meaning.
    Explain {
        /// A policy file.
        file: String,
        /// One setting, `election.lease` for instance.
        setting: Option<String>,
        /// The form.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Tells what would change if the second file took the place of the first.
    Diff {
        /// The policy in force.
        from: String,
        /// The policy to be.
        to: String,
        /// The form.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

/// `pilot version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// The form.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// What a command comes to: what it wrote is on the standard output already, a failure is yet to be told.
type Done = Result<u8, String>;

/// Runs the whole program.
pub fn main() -> ExitCode {
    run_from(std::env::args_os())
}

/// Runs what these arguments say, the program's name first: for a binary that carries the pilot among other things.
pub fn run_from(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> ExitCode {
    let done = match Cli::parse_from(args).command {
        Command::Agent(args) => return agent::run(*args),
        Command::Launch(args) => launch(args),
        Command::Install { folder } => install::run(&folder),
        Command::Image(args) => image::run(&args),
        Command::FirstSize(args) => blocking(first_size::run(args)),
        Command::Render(args) => deploy::tell(deploy::run_render(args)),
        Command::Inject(args) => deploy::tell(deploy::run_inject(&args)),
        Command::Rbac(args) => deploy::tell(deploy::rbac(args)),
        Command::Status(args) => blocking(status::run(args)),
        Command::Why(args) => blocking(why::run(args)),
        Command::Policy { command } => policy::run(command),
        Command::Version(args) => version(args.output),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error, FAILED),
    }
}

fn fail(error: &dyn Display, code: u8) -> ExitCode {
    eprintln!("pilot: {error}");
    ExitCode::from(code)
}

/// One thread is enough for all but the agent.
fn blocking(work: impl Future<Output = Done>) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot start: {error}"))?.block_on(work)
}

fn launch(args: LaunchArgs) -> Done {
    logs(false)?;
    blocking(async { crate::launch::run_to_code(args.settings()).await.map_err(|error| error.to_string()) })
}

fn version(output: Output) -> Done {
    let version = env!("CARGO_PKG_VERSION");
    match output {
        Output::Text | Output::Wide => say(&format!("pilot {version}\n")),
        Output::Json | Output::Yaml => say(&document(&serde_json::json!({ "version": version }), output)?),
    }
}

/// Logs go to the standard error; `PILOT_LOG` filters them as `RUST_LOG` does elsewhere. Without it `info`, but for the
/// database's client, which tells every connection.
fn logs(json: bool) -> Result<(), String> {
    let text = std::env::var("PILOT_LOG").unwrap_or_else(|_| "info,scylla=warn".to_owned());
    let filter = tracing_subscriber::EnvFilter::try_new(&text).map_err(|error| {
        format!("PILOT_LOG is `{text}` but must be a filter such as `info,agent::gossip=debug`: {error}")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let begun = if json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(paint::Paint::for_stderr().colours()).try_init()
    };
    begun.map_err(|error| format!("cannot write logs: {error}"))
}

/// Writes to the standard output. A reader that has seen enough, `head` for instance, is no failure.
fn say(text: &str) -> Done {
    use std::io::{ErrorKind, Write};
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(0),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        Err(error) => Err(format!("cannot write to the standard output: {error}")),
    }
}

/// A document for machines, ending in a newline.
fn document<T: serde::Serialize>(document: &T, output: Output) -> Result<String, String> {
    let text = match output {
        Output::Yaml => serde_saphyr::to_string(document).map_err(|error| error.to_string()),
        Output::Json | Output::Text | Output::Wide => {
            serde_json::to_string_pretty(document).map_err(|error| error.to_string())
        }
    };
    let text = text.map_err(|error| format!("cannot write the document: {error}"))?;
    Ok(format!("{}\n", text.trim_end()))
}

#[cfg(test)]
mod tests;
