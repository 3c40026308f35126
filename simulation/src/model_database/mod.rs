//! A small replicated store of our own, as a process: fifty members fit on two cores, and a ring forms in a second.
//!
//! It behaves to its pilot and its clients as Cassandra was seen to behave:
//! - The identity is minted at the first start and kept on the volume; addresses may change with every start.
//! - The ring spreads by gossip between the processes; who is not heard of for some seconds is down. Who stops in an
//!   orderly way says so first. As long as fewer are up than there are seeds, a seed is asked in every round.
//! - A founder starts only with itself among its seeds. Others need a seed that answers, or end. A member of long
//!   standing with itself among its seeds starts alone.
//! - A joining member takes its rows over before it counts; the bytes are bounded and counted. One joins or leaves at a
//!   time. Cut off, a join begins anew at the next start; a leave is forgotten, and the member is a member again.
//! - A leave that would leave fewer members than copies is refused. Who has left serves nothing, lives until it is
//!   stopped, and does not start on that data again.
//! - Rows are acknowledged when a quorum of replicas has them in its log, and by every replica to be of a move under
//!   way. Reads ask a quorum and repair what is behind.
//!
//! Stricter than Cassandra, so that an acknowledged row that is lost is never the model's fault: a replica refuses a
//! request that was sent by another ring than its own, both then gossip, and the request is repeated. A join takes
//! from every living member, a leave wants every other member up.
//!
//! Not modelled: tokens and racks (rows are spread by rendezvous hashing), schema, deletes, hints and repair (a replica
//! that was down catches up by reads and moves only), compaction (the log only grows), removal and replacement of dead
//! members, authentication. A founder whose seeds know of a cluster is refused, where Cassandra would let it in without
//! data. Without `fsync` an acknowledged row survives the process and not the machine.

mod client;
mod coordinate;
mod disk;
mod message;
mod movement;
mod node;
mod ring;
mod serve;
mod start;
mod tool;

pub use client::Table;

use agent::driver::model::ProcessConfig;
use clap::{Parser, Subcommand};
use node::Node;
use start::StartError;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

/// What a process that was told to stop ends with, as a shell counts SIGTERM and as Cassandra ends.
const STOPPED: u8 = 143;

/// One member of the model database, or a tool beside it.
#[derive(Debug, Parser)]
#[command(name = "model-database")]
struct Arguments {
    /// The member's configuration, as its driver renders it.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the member; also without any command.
    Run,
    /// Has it take no more requests; ends when it is so.
    Drain,
    /// Has it hand its rows over and leave; ends when it has left.
    Leave,
    /// Prints what it sees, as JSON.
    Status,
    /// Bounds what a join or leave moves, in bytes a second; without a number there is no bound.
    Limit {
        /// Bytes a second.
        bytes_per_second: Option<u64>,
    },
    /// Tells it where the members are now.
    Seeds {
        /// Their addresses.
        seeds: Vec<IpAddr>,
    },
}

/// Runs what the arguments behind `model-database` say.
///
/// Ends with 0 when it is done, 143 when the member was told to stop, 1 when it failed and said why, 2 when the
/// arguments or the configuration are wrong.
pub fn run(args: impl IntoIterator<Item = impl Into<OsString>>) -> ExitCode {
    let name = std::iter::once(OsString::from("model-database"));
    let arguments = match Arguments::try_parse_from(name.chain(args.into_iter().map(Into::into))) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and usage; a closed terminal is no reason to panic.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let config = match arguments.config.as_deref().map(read).unwrap_or_else(|| Err(NO_CONFIG.to_owned())) {
        Ok(config) => config,
        Err(why) => {
            eprintln!("model-database: {why}");
            return ExitCode::from(2);
        }
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("model-database: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let local = LocalSet::new();
    let ended = match arguments.command.unwrap_or(Command::Run) {
        Command::Run => local.block_on(&runtime, member(config)).map_err(|e| e.to_string()),
        Command::Drain => runtime.block_on(tool::drain(&config)),
        Command::Leave => runtime.block_on(tool::leave(&config)),
        Command::Status => runtime.block_on(tool::status(&config)),
        Command::Limit { bytes_per_second } => runtime.block_on(tool::limit(&config, bytes_per_second)),
        Command::Seeds { seeds } => runtime.block_on(tool::seeds(&config, seeds)),
    };
    ended.unwrap_or_else(|why| {
        eprintln!("model-database: {why}");
        ExitCode::FAILURE
    })
}

const NO_CONFIG: &str = "no configuration was given: name the file that the driver rendered with --config";

fn read(path: &Path) -> Result<ProcessConfig, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("cannot understand {}: {e}", path.display()))
}

/// Runs a member to its end.
async fn member(config: ProcessConfig) -> Result<ExitCode, StartError> {
    let mut stop = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (node, listener) = start::open(config).await?;
    tokio::task::spawn_local(serve::serve(Rc::clone(&node), listener));
    tokio::task::spawn_local(movement::keep_gossiping(Rc::clone(&node)));
    tokio::select! {
        result = live(&node) => result?,
        _ = stop.recv() => {}
        _ = interrupt.recv() => {}
    }
    movement::say_goodbye(&node).await;
    Ok(ExitCode::from(STOPPED))
}

/// Becomes a member and then only ends when it is told to.
async fn live(node: &Rc<Node>) -> Result<(), StartError> {
    start::become_member(node).await?;
    std::future::pending().await
}
