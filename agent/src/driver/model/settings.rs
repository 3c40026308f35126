//! What is fixed for one member, and what its process is told at a start.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One member's model database: how it is run, where its data lies, how it behaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// What stands before `model-database` in every command: the program, and arguments of its own if it wants some.
    pub program: Vec<String>,
    /// The volume. All data lies in one folder of it, [`super::DATA`].
    pub volume: PathBuf,
    /// A writable folder for the rendered configuration, seen under the same path by the database's container.
    pub config: PathBuf,
    /// Where every member listens, for members, clients and tools alike.
    #[serde(default = "port")]
    pub port: u16,
    /// How it behaves.
    #[serde(default)]
    pub behaviour: Behaviour,
}

impl Settings {
    /// Settings with the usual port and behaviour.
    pub fn new(program: Vec<String>, volume: PathBuf, config: PathBuf) -> Self {
        Self { program, volume, config, port: port(), behaviour: Behaviour::default() }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.config.join("model-database.json")
    }
}

fn port() -> u16 {
    9042
}

/// How a member of the model database behaves. All members of a cluster must have the same `replication`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Behaviour {
    /// Copies of each row; written and read at a quorum of them. At least 1. Default: 3.
    pub replication: u32,
    /// Bytes a second that a join or a leave moves; `None` is without a bound. Can be changed while it runs.
    pub stream_bytes_per_second: Option<u64>,
    /// So many bytes more than there are rows are moved by each join and leave: they take their time under the bound and
    /// are not sent. Makes a join or leave of little data as long as one of much. Default: 0.
    pub ballast_bytes: u64,
    /// Every write waits for the disk. Without it an acknowledged row survives the end of the process, not of the
    /// machine. Default: off, as in Cassandra's periodic commit log.
    pub fsync: bool,
    /// Between two rounds of gossip. Default: 500 ms.
    pub gossip_ms: u64,
    /// A member that was not heard of for so long is down. At least four rounds of gossip. Default: 4 s.
    pub silence_ms: u64,
    /// A start that reaches none of its seeds ends after so long. Default: 5 s (30 s in Cassandra).
    pub seed_wait_ms: u64,
    /// A request to replicas is given up after so long. Default: 1 s.
    pub request_ms: u64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            replication: 3,
            stream_bytes_per_second: None,
            ballast_bytes: 0,
            fsync: false,
            gossip_ms: 500,
            silence_ms: 4_000,
            seed_wait_ms: 5_000,
            request_ms: 1_000,
        }
    }
}

/// The file that a process is started with: written by the driver, read by the process and its tools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessConfig {
    /// The cluster's name: members of another cluster are not spoken to.
    pub cluster: String,
    /// The own address, changed by any restart.
    pub address: IpAddr,
    /// The port of every member.
    pub port: u16,
    /// Through whom the cluster is found. The own address among them founds a cluster on an empty volume, and lets a
    /// member of one start alone.
    pub seeds: Vec<IpAddr>,
    /// The volume.
    pub volume: PathBuf,
    /// How it behaves.
    pub behaviour: Behaviour,
}

impl ProcessConfig {
    /// Where it listens.
    pub fn listens(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// See [`Behaviour::gossip_ms`].
    pub fn gossip(&self) -> Duration {
        Duration::from_millis(self.behaviour.gossip_ms.max(1))
    }

    /// See [`Behaviour::silence_ms`].
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.behaviour.silence_ms)
    }

    /// See [`Behaviour::seed_wait_ms`].
    pub fn seed_wait(&self) -> Duration {
        Duration::from_millis(self.behaviour.seed_wait_ms)
    }

    /// See [`Behaviour::request_ms`].
    pub fn request(&self) -> Duration {
        Duration::from_millis(self.behaviour.request_ms)
    }
}

/// A path as text for an argument list; bytes that are no text are replaced, and the file is then not found.
pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
