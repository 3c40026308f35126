//! `pilot agent`: what it takes on its command line, checked before anything starts.

use super::settings::AgentSettings;
use crate::driver::Driver;
use crate::driver::cassandra::{Cassandra, Settings as CassandraSettings};
use protocol::id::{PilotName, Uid};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Which database is beside the pilot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DatabaseKind {
    /// Apache Cassandra 5.0.
    Cassandra,
}

/// The agent's arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct AgentArgs {
    /// The StatefulSet whose pods form the mesh.
    #[arg(long, env = "PILOT_SET")]
    pub set: String,
    /// Its namespace.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// The claim template whose volume holds the data.
    #[arg(long, env = "PILOT_CLAIM_TEMPLATE", default_value = "data")]
    pub claim_template: String,
    /// This pod's name.
    #[arg(long, env = "POD_NAME")]
    pub pod: String,
    /// This pod's uid.
    #[arg(long, env = "POD_UID")]
    pub pod_uid: String,
    /// This pod's address.
    #[arg(long, env = "POD_IP")]
    pub pod_ip: std::net::IpAddr,
    /// What separates this mesh from others with the same keys; default: NAMESPACE/SET.
    #[arg(long, env = "PILOT_MESH")]
    pub mesh: Option<String>,
    /// A folder on the member's volume for the pilot's memory.
    #[arg(long, env = "PILOT_STATE_DIR")]
    pub state_dir: PathBuf,
    /// The launcher's socket.
    #[arg(long, env = "PILOT_LAUNCHER_SOCKET")]
    pub launcher_socket: PathBuf,
    /// The policy file; without one the balanced preset is in force.
    #[arg(long, env = "PILOT_POLICY")]
    pub policy: Option<PathBuf>,
    /// The folder with the mesh keys (a mounted Secret).
    #[arg(long, env = "PILOT_KEYS")]
    pub keys: PathBuf,
    /// Where gossip listens (UDP).
    #[arg(long, env = "PILOT_GOSSIP_LISTEN")]
    pub gossip_listen: Option<SocketAddr>,
    /// Where streams listen (TCP).
    #[arg(long, env = "PILOT_STREAM_LISTEN")]
    pub stream_listen: Option<SocketAddr>,
    /// Where the endpoints listen (HTTP).
    #[arg(long, env = "PILOT_HTTP_LISTEN")]
    pub http_listen: Option<SocketAddr>,
    /// Where peers may be found at first, `host:port` of their gossip; may be repeated. A headless Service will do.
    #[arg(long = "seed", env = "PILOT_SEEDS", value_delimiter = ',')]
    pub seeds: Vec<String>,
    /// A file with such addresses, one a line, read again and again.
    #[arg(long, env = "PILOT_SEED_FILE")]
    pub seed_file: Option<PathBuf>,
    /// A kubeconfig; without one the pod's own service account is used.
    #[arg(long, env = "PILOT_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// The database.
    #[arg(long, env = "PILOT_DATABASE", value_enum, default_value = "cassandra")]
    pub database: DatabaseKind,
    /// The driver's settings as JSON: a file.
    #[arg(long, env = "PILOT_DATABASE_SETTINGS")]
    pub database_settings: PathBuf,
    /// The port of the database's clients.
    #[arg(long, env = "PILOT_CLIENT_PORT", default_value_t = 9042)]
    pub client_port: u16,
    /// The database cluster's own name; default: the set's.
    #[arg(long, env = "PILOT_CLUSTER_NAME")]
    pub cluster_name: Option<String>,
    /// The data centre of this member.
    #[arg(long, env = "PILOT_DATA_CENTER", default_value = "dc1")]
    pub data_center: String,
    /// The rack of this member.
    #[arg(long, env = "PILOT_RACK", default_value = "rack1")]
    pub rack: String,
    /// A file that names peers to be cut off. For fault tests only.
    #[arg(long, env = "PILOT_CUTS", hide = true)]
    pub cuts: Option<PathBuf>,
    /// Write logs as JSON lines.
    #[arg(long, env = "PILOT_JSON_LOGS")]
    pub json_logs: bool,
}

/// The default ports: gossip, streams, endpoints.
const PORTS: (u16, u16, u16) = (7300, 7301, 7302);

impl AgentArgs {
    /// Checks everything and builds the driver.
    ///
    /// # Errors
    /// All faults together, one a line.
    pub fn settings(self) -> Result<AgentSettings, String> {
        let mut faults = Vec::new();
        let pod = PilotName::parse(&self.pod).map_err(|e| faults.push(format!("--pod: {e}"))).ok();
        if let Some(pod) = &pod {
            let of_set = pod.as_str().strip_prefix(self.set.as_str()).is_some_and(|rest| rest.starts_with('-'));
            if !of_set || pod.ordinal().is_none() {
                faults.push(format!("--pod is {pod}, which is no pod of StatefulSet {}: give SET-ORDINAL", self.set));
            }
        }
        if self.pod_uid.is_empty() {
            faults.push("--pod-uid is empty: set POD_UID from metadata.uid".to_owned());
        }
        let driver: Option<Arc<dyn Driver>> = match std::fs::read(&self.database_settings) {
            Err(e) => {
                faults.push(format!("--database-settings {}: {e}", self.database_settings.display()));
                None
            }
            Ok(bytes) => match self.database {
                DatabaseKind::Cassandra => match serde_json::from_slice::<CassandraSettings>(&bytes) {
                    Ok(settings) => Some(Arc::new(Cassandra::new(settings))),
                    Err(e) => {
                        faults.push(format!("--database-settings {}: {e}", self.database_settings.display()));
                        None
                    }
                },
            },
        };
        let (Some(pod), Some(driver), true) = (pod, driver, faults.is_empty()) else {
            return Err(faults.join("\n"));
        };
        let any = |port| SocketAddr::new(self.pod_ip, port);
        Ok(AgentSettings {
            mesh: self.mesh.unwrap_or_else(|| format!("{}/{}", self.namespace, self.set)),
            cluster_name: self.cluster_name.unwrap_or_else(|| self.set.clone()),
            namespace: self.namespace,
            set: self.set,
            claim_template: self.claim_template,
            pod,
            pod_uid: Uid::new(self.pod_uid),
            address: self.pod_ip,
            state_dir: self.state_dir,
            launcher: self.launcher_socket,
            policy: self.policy,
            keys: self.keys,
            gossip: self.gossip_listen.unwrap_or_else(|| any(PORTS.0)),
            stream: self.stream_listen.unwrap_or_else(|| any(PORTS.1)),
            http: self.http_listen.unwrap_or_else(|| any(PORTS.2)),
            seeds: self.seeds,
            seed_file: self.seed_file,
            kubeconfig: self.kubeconfig,
            driver,
            client_port: self.client_port,
            data_center: self.data_center,
            rack: self.rack,
            cuts: self.cuts,
        })
    }
}
