//! `pilot agent`: its arguments, checked at the door, and its start.

mod check;

pub use check::{ArgFaults, CheckedArgs, DatabaseKind};

use crate::driver::Driver;
use crate::driver::cassandra::{Cassandra, Ports, Run, Settings};
use crate::driver::model::Model;
use crate::machine::Host;
use crate::runtime;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// The sidecar's arguments, as written. Every one may come from the environment instead.
///
/// All are texts here, so that [`AgentArgs::check`] can name every fault at once.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AgentArgs {
    /// The StatefulSet that this pod belongs to.
    #[arg(long, env = "PILOT_SET", value_name = "NAME")]
    pub set: Option<String>,
    /// The namespace of the set (downward API, `metadata.namespace`).
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// This pod (downward API, `metadata.name`): the set's name, a dash and an ordinal.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod: Option<String>,
    /// The uid of this pod (downward API, `metadata.uid`).
    #[arg(long, env = "POD_UID", value_name = "UID")]
    pub pod_uid: Option<String>,
    /// The address of this pod (downward API, `status.podIP`): what peers and clients of the database use.
    #[arg(long, env = "POD_IP", value_name = "ADDRESS")]
    pub pod_ip: Option<String>,
    /// Separates this mesh from others that have the same keys: part of every seal, the same for all pilots.
    /// Default: the namespace, a slash and the set.
    #[arg(long, visible_alias = "cluster-mesh-id", env = "PILOT_MESH", value_name = "TEXT")]
    pub mesh: Option<String>,
    /// The volume of the member's data.
    #[arg(long, env = "PILOT_DATA_DIR", value_name = "DIR", default_value = "/var/lib/cassandra")]
    pub data_dir: String,
    /// Where the pilot remembers its promises, on the member's volume: they must last exactly as long as the data.
    /// Default: `pilot` in the data folder.
    #[arg(long, env = "PILOT_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<String>,
    /// The launcher's socket, in a folder that both containers mount.
    #[arg(long, env = "PILOT_LAUNCHER_SOCKET", value_name = "PATH", default_value = "/var/run/pilot/launcher.sock")]
    pub launcher_socket: String,
    /// The policy file, reloaded on change. Without one the balanced preset is in force.
    #[arg(long, env = "PILOT_POLICY", value_name = "FILE")]
    pub policy: Option<String>,
    /// The folder with the mesh keys (a mounted secret).
    #[arg(long, env = "PILOT_KEYS", value_name = "DIR")]
    pub keys: Option<String>,
    /// Where gossip listens (UDP). Default: port 7302 on all addresses.
    #[arg(long, env = "PILOT_GOSSIP_LISTEN", value_name = "ADDRESS:PORT")]
    pub gossip_listen: Option<String>,
    /// Where streams between pilots listen (TCP). Default: port 7301 on all addresses.
    #[arg(long, env = "PILOT_STREAM_LISTEN", value_name = "ADDRESS:PORT")]
    pub stream_listen: Option<String>,
    /// Where the endpoints listen (TCP). Default: port 7300 on all addresses; the kubelet asks the pod's address.
    #[arg(long, env = "PILOT_HTTP_LISTEN", value_name = "ADDRESS:PORT")]
    pub http_listen: Option<String>,
    /// Where peers may be found at first, a headless Service for instance; resolved again and again. May be repeated.
    #[arg(long = "seed", env = "PILOT_SEEDS", value_name = "HOST:PORT", value_delimiter = ',')]
    pub seeds: Vec<String>,
    /// A file with further such places, one a line, read again and again: for where there is no name service.
    #[arg(long, env = "PILOT_SEED_FILE", value_name = "FILE")]
    pub seed_file: Option<String>,
    /// The claim template whose volume holds the data.
    #[arg(long, env = "PILOT_CLAIM_TEMPLATE", value_name = "NAME", default_value = "data")]
    pub claim_template: String,
    /// Which database: `cassandra`, or `model`, a small store of our own for trying things out.
    #[arg(long, env = "PILOT_DATABASE", value_name = "KIND", default_value = "cassandra")]
    pub database: String,
    /// Settings of the database's driver as YAML. Without it a stock image is driven, its configuration in
    /// `/etc/cassandra`.
    #[arg(long, env = "PILOT_DATABASE_SETTINGS", value_name = "FILE")]
    pub database_settings: Option<String>,
    /// A writable folder for rendered configuration, under the same path in both containers.
    #[arg(long, env = "PILOT_CONFIG_DIR", value_name = "DIR", default_value = "/var/run/pilot/config")]
    pub config_dir: String,
    /// What the database cluster is called, never changed once it is formed: its name is this with the beginning of the
    /// cluster's id, so that no two clusters ever take each other for one. Default: the set's name.
    #[arg(long, env = "PILOT_CLUSTER_NAME", value_name = "TEXT")]
    pub cluster_name: Option<String>,
    /// The data centre of this member.
    #[arg(long, env = "PILOT_DATA_CENTER", value_name = "TEXT", default_value = "datacenter1")]
    pub data_center: String,
    /// The rack (failure domain) of this member.
    #[arg(long, env = "PILOT_RACK", value_name = "TEXT", default_value = "rack1")]
    pub rack: String,
    /// The port of the database's clients.
    #[arg(long, env = "PILOT_CLIENT_PORT", value_name = "PORT", default_value = "9042")]
    pub client_port: String,
    /// A kubeconfig. Without one the pod's own service account is used.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<String>,
    /// Writes logs as JSON, one object a line.
    #[arg(long, env = "PILOT_JSON_LOGS")]
    pub json_logs: bool,
    /// A file that names peers to be cut off, for fault tests only.
    #[arg(long, env = "PILOT_CUTS", value_name = "FILE", hide = true)]
    pub cuts: Option<String>,
}

/// Runs the agent to its end.
pub(super) fn run(args: AgentArgs) -> ExitCode {
    let args = match args.check() {
        Ok(args) => args,
        Err(faults) => return super::fail(&faults, super::USAGE),
    };
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::fail(&error, super::FAILED),
    }
}

fn start(args: CheckedArgs) -> Result<(), String> {
    super::logs(args.json_logs)?;
    let driver = driver(&args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // A pilot waits more than it works; the second thread answers probes while the first is busy.
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(runtime::run(Host, args.settings(driver))).map_err(|error| error.to_string())
}

fn driver(args: &CheckedArgs) -> Result<Arc<dyn Driver>, String> {
    match (args.database, &args.database_settings) {
        (DatabaseKind::Cassandra, Some(path)) => Ok(Arc::new(Cassandra::new(read(path)?))),
        (DatabaseKind::Cassandra, None) => {
            let settings = stock_cassandra(args.data_dir.clone(), args.config_dir.clone(), args.client_port);
            Ok(Arc::new(Cassandra::new(settings)))
        }
        (DatabaseKind::Model, Some(path)) => Ok(Arc::new(Model::new(read(path)?))),
        (DatabaseKind::Model, None) => {
            Err("--database is `model` but its program is not known: name it in a file and give that by --database-settings"
                .to_owned())
        }
    }
}

/// Settings of a driver from a file.
fn read<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    serde_saphyr::from_str(&text)
        .map_err(|error| format!("{} holds no settings of the driver: {error}", path.display()))
}

/// An image as the database's own project publishes it.
fn stock_cassandra(volume: PathBuf, config: PathBuf, client_port: u16) -> Settings {
    let ports = Ports { native: client_port, ..Ports::default() };
    Settings { ports, ..Settings::new(Run::Image { conf: PathBuf::from("/etc/cassandra") }, volume, config) }
}
