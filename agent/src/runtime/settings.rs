//! What an agent is told when it is started.

use crate::driver::Driver;
use protocol::id::{PilotName, Uid};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// Everything an agent needs, checked.
pub struct AgentSettings {
    /// The namespace of the set.
    pub namespace: String,
    /// The StatefulSet.
    pub set: String,
    /// The claim template whose volume holds the data.
    pub claim_template: String,
    /// The own pod.
    pub pod: PilotName,
    /// The own pod's uid.
    pub pod_uid: Uid,
    /// The address that peers and clients use.
    pub address: IpAddr,
    /// What separates this mesh from others with the same keys: part of every seal.
    pub mesh: String,
    /// Where the memory is kept, on the member's volume.
    pub state_dir: PathBuf,
    /// The launcher's socket.
    pub launcher: PathBuf,
    /// The policy file; without one the balanced preset is in force.
    pub policy: Option<PathBuf>,
    /// The folder with the mesh keys.
    pub keys: PathBuf,
    /// Gossip (UDP).
    pub gossip: SocketAddr,
    /// Streams (TCP).
    pub stream: SocketAddr,
    /// Endpoints (HTTP).
    pub http: SocketAddr,
    /// Where peers may be found at first: `host:port`, resolved again and again.
    pub seeds: Vec<String>,
    /// A file with such addresses, one a line.
    pub seed_file: Option<PathBuf>,
    /// A kubeconfig; without one the pod's own service account is used.
    pub kubeconfig: Option<PathBuf>,
    /// The database's driver.
    pub driver: Arc<dyn Driver>,
    /// The port of the database's clients.
    pub client_port: u16,
    /// The database cluster's own name.
    pub cluster_name: String,
    /// The data centre of this member.
    pub data_center: String,
    /// The rack of this member.
    pub rack: String,
    /// A file that names peers to be cut off, for fault tests; absent in earnest.
    pub cuts: Option<PathBuf>,
}
