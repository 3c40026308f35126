//! The command line of `sandbox`.

use super::control::{self, Answer, Order};
use super::home::{Kind, default_dir};
use super::layout::Layout;
use super::tour::{self, TourOptions};
use super::up::{self, UpOptions};
use super::{multicall, running::RunError};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

/// Real pilots and real databases on this machine. Without a command: the tour, about five minutes, which ends by itself.
#[derive(Debug, Parser)]
#[command(
    name = "sandbox",
    version,
    after_help = "\
Exit codes: 0 all is well; 1 something is not as it must be, or was refused; 2 the command line is wrong."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The folder of everything. The tour: a fresh one, removed at the end. Else:
    /// ${XDG_STATE_HOME:-~/.local/state}/pilotmesh/sandbox.
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// One JSON object a line, for programs (the tour, `up` and `status`).
    #[arg(long, global = true)]
    json: bool,
    /// The tour only: keep its fresh folder.
    #[arg(long)]
    keep: bool,
    /// The tour only: which database.
    #[arg(long, value_enum)]
    database: Option<Kind>,
    /// The second octet of the pods' addresses, 127.OCTET.0.0/16, for running sandboxes side by side on purpose.
    #[arg(long, global = true, hide = true, value_parser = clap::value_parser!(u8).range(1..=254))]
    octet: Option<u8>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts a sandbox and stays, until Ctrl-C or SIGTERM; on the same folder the same cluster returns.
    Up {
        /// Members of a new sandbox (default 3); one that returns keeps its size.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
        replicas: Option<u32>,
        /// Which database: default cassandra, or what lies in the folder.
        #[arg(long, value_enum)]
        database: Option<Kind>,
        /// The policy file; the pilots read its copy in the folder again and again.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// Forget what lies in the folder.
        #[arg(long)]
        fresh: bool,
    },
    /// Writes the StatefulSet's size, as `kubectl scale` does.
    Scale {
        /// Pods.
        #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
        replicas: u32,
    },
    /// SIGKILL to a process.
    Kill {
        #[command(subcommand)]
        victim: Victim,
    },
    /// SIGSTOP to the agent of a pod: it stands still, its database does not.
    Pause {
        /// The pod.
        name: String,
    },
    /// SIGCONT to the agent of a pod.
    Resume {
        /// The pod.
        name: String,
    },
    /// Cuts a pod's agent off from all others: no gossip, no streams. It still reaches the Kubernetes API.
    Cut {
        /// The pod.
        name: String,
    },
    /// Ends every cut.
    Heal,
    /// Stops or starts the Kubernetes API.
    Api {
        /// Which.
        action: ApiAction,
    },
    /// Tells how things stand.
    Status,
}

#[derive(Debug, Subcommand)]
enum Victim {
    /// The agent that coordinates.
    Coordinator,
    /// The database of a pod.
    Database {
        /// The pod.
        name: String,
    },
    /// The agent of a pod.
    Pilot {
        /// The pod.
        name: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ApiAction {
    Stop,
    Start,
}

/// Runs the whole program; also as the pilot or the database, which the pods run from this very file.
pub fn main() -> ExitCode {
    if let Some(code) = multicall::run_as_pilot() {
        return code;
    }
    let cli = Cli::parse();
    if let (Some(_), true) = (&cli.command, cli.keep || cli.database.is_some()) {
        let sentence = "--keep and --database before a command are the tour's: `sandbox up` takes --database behind it";
        Cli::command().error(ErrorKind::ArgumentConflict, sentence).exit();
    }
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sandbox: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How this program was called: what a person would type again.
pub fn called() -> String {
    std::env::args().next().unwrap_or_else(|| "sandbox".to_owned())
}

fn run(cli: Cli) -> Result<ExitCode, String> {
    let Some(command) = cli.command else {
        let database = cli.database.unwrap_or(Kind::Cassandra);
        let options = TourOptions { dir: cli.dir, keep: cli.keep, json: cli.json, database, octet: cli.octet };
        return block(tour::run(options));
    };
    let flag = cli.dir.as_ref().map_or(String::new(), |dir| format!(" --dir {}", dir.display()));
    let dir = cli.dir.map_or_else(default_dir, Ok).map_err(|e| e.to_string())?;
    let order = match command {
        Command::Up { replicas, database, policy, fresh } => {
            let (json, octet) = (cli.json, cli.octet);
            return block(up::run(UpOptions { dir, flag, replicas, database, policy, fresh, json, octet }));
        }
        Command::Scale { replicas } => Order::Scale { replicas },
        Command::Kill { victim: Victim::Coordinator } => Order::KillCoordinator,
        Command::Kill { victim: Victim::Database { name } } => Order::KillDatabase { pod: name },
        Command::Kill { victim: Victim::Pilot { name } } => Order::KillPilot { pod: name },
        Command::Pause { name } => Order::Pause { pod: name },
        Command::Resume { name } => Order::Resume { pod: name },
        Command::Cut { name } => Order::Cut { pod: name },
        Command::Heal => Order::Heal,
        Command::Api { action: ApiAction::Stop } => Order::ApiStop,
        Command::Api { action: ApiAction::Start } => Order::ApiStart,
        Command::Status => Order::Status,
    };
    let layout = Layout::new(&dir);
    match control::ask(&dir, &layout.control(), &flag, &order).map_err(|e| e.to_string())? {
        Answer::Done(sentence) => println!("{sentence}"),
        Answer::Status { pilots, .. } if cli.json => {
            let event = super::show::events::processes("status", &dir, &layout.kubeconfig("admin"), &pilots);
            println!("{event}");
        }
        Answer::Status { text, .. } => println!("{text}"),
        Answer::Refused(why) => return Err(why),
    }
    Ok(ExitCode::SUCCESS)
}

fn block(work: impl Future<Output = Result<ExitCode, RunError>>) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(work).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
