//! From arguments as written to arguments as meant: checked once, all faults together.

use super::AgentArgs;
use crate::driver::Driver;
use crate::runtime::settings::AgentSettings;
use protocol::id::{PilotName, Uid};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// Ports where none are given.
const HTTP_PORT: u16 = 7300;
const STREAM_PORT: u16 = 7301;
const GOSSIP_PORT: u16 = 7302;
/// The longest path of a Unix socket, without its closing zero.
const LONGEST_SOCKET: usize = 107;
/// The longest mesh name in bytes: a namespace, a slash and a name fit.
const LONGEST_MESH: usize = 200;

/// Which database is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseKind {
    /// Apache Cassandra.
    Cassandra,
    /// A small replicated store of our own, for trying things out with many pilots.
    Model,
}

/// All that is wrong with the arguments, in the order of the help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ArgFaults(pub Vec<String>);

impl fmt::Display for ArgFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.0.len() == 1 { "fault" } else { "faults" };
        write!(f, "{} {noun} in the arguments", self.0.len())?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

/// Arguments as meant: valid as far as can be told without looking at files.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of `AgentArgs` and `AgentSettings`, where they are told")]
pub struct CheckedArgs {
    pub set: String,
    pub namespace: String,
    pub pod: PilotName,
    pub pod_uid: Uid,
    pub pod_ip: IpAddr,
    pub mesh: String,
    pub data_dir: PathBuf,
    pub state_dir: PathBuf,
    pub launcher_socket: PathBuf,
    pub policy: Option<PathBuf>,
    pub keys: PathBuf,
    pub gossip: SocketAddr,
    pub stream: SocketAddr,
    pub http: SocketAddr,
    pub seeds: Vec<String>,
    pub seed_file: Option<PathBuf>,
    pub claim_template: String,
    pub database: DatabaseKind,
    pub database_settings: Option<PathBuf>,
    pub config_dir: PathBuf,
    pub cluster_name: String,
    pub data_center: String,
    pub rack: String,
    pub client_port: u16,
    pub kubeconfig: Option<PathBuf>,
    pub json_logs: bool,
    pub cuts: Option<PathBuf>,
}

impl CheckedArgs {
    /// What the runtime is told.
    pub fn settings(self, driver: Arc<dyn Driver>) -> AgentSettings {
        AgentSettings {
            namespace: self.namespace,
            set: self.set,
            claim_template: self.claim_template,
            pod: self.pod,
            pod_uid: self.pod_uid,
            address: self.pod_ip,
            mesh: self.mesh,
            state_dir: self.state_dir,
            launcher: self.launcher_socket,
            policy: self.policy,
            keys: self.keys,
            gossip: self.gossip,
            stream: self.stream,
            http: self.http,
            seeds: self.seeds,
            seed_file: self.seed_file,
            kubeconfig: self.kubeconfig,
            driver,
            client_port: self.client_port,
            cluster_name: self.cluster_name,
            data_center: self.data_center,
            rack: self.rack,
            cuts: self.cuts,
        }
    }
}

/// Collects faults while going on.
#[derive(Default)]
struct Door {
    faults: Vec<String>,
}

impl Door {
    fn fault(&mut self, fault: impl Into<String>) {
        self.faults.push(fault.into());
    }

    /// An argument that has no default.
    fn needed<'a>(&mut self, flag: &str, from: &str, value: Option<&'a String>) -> Option<&'a str> {
        match value.map(|text| text.trim()) {
            Some(text) if !text.is_empty() => Some(text),
            Some(_) | None => {
                self.fault(format!("{flag} is missing but must be given: {from}"));
                None
            }
        }
    }

    /// A name as Kubernetes allows it.
    fn name(&mut self, flag: &str, text: &str) -> Option<PilotName> {
        PilotName::parse(text).map_err(|error| self.fault(format!("{flag}: {error}"))).ok()
    }

    fn text(&mut self, flag: &str, text: &str) -> String {
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            self.fault(format!("{flag} is {text:?} but must be a text of printable characters: give one"));
        }
        text.to_owned()
    }

    fn path(&mut self, flag: &str, text: &str) -> PathBuf {
        if text.trim().is_empty() {
            self.fault(format!("{flag} is empty but must be a path: give one, or leave the flag out"));
        }
        PathBuf::from(text)
    }

    fn listen(&mut self, flag: &str, text: Option<&String>, all: IpAddr, port: u16) -> SocketAddr {
        let default = SocketAddr::new(all, port);
        match text.map(|text| (text, text.parse::<SocketAddr>())) {
            None => default,
            Some((_, Ok(address))) => address,
            Some((text, Err(_))) => {
                self.fault(format!(
                    "{flag} is `{text}` but must be an address and a port: write {default} for instance"
                ));
                default
            }
        }
    }

    fn seed(&mut self, text: &str) -> String {
        let right = text.rsplit_once(':').is_some_and(|(host, port)| {
            let bracketed = host.starts_with('[') && host.ends_with(']');
            let plain = !host.is_empty() && !host.contains([':', '/', ' ', '[', ']']);
            (plain || bracketed) && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !right {
            self.fault(format!(
                "--seed is `{text}` but must be a host and a port: write pilots.default.svc:{GOSSIP_PORT} for instance"
            ));
        }
        text.to_owned()
    }
}

impl AgentArgs {
    /// Checks the arguments.
    ///
    /// # Errors
    /// With every fault of them together.
    pub fn check(self) -> Result<CheckedArgs, ArgFaults> {
        let mut door = Door::default();
        let downward = |field: &str| format!("set it from the downward API, {field}");

        let set = door.needed("--set", "name the StatefulSet", self.set.as_ref());
        let set = set.and_then(|text| door.name("--set", text));
        let namespace = door.needed("--namespace", &downward("metadata.namespace"), self.namespace.as_ref());
        let namespace = namespace.and_then(|text| door.name("--namespace", text));
        let pod = door.needed("--pod", &downward("metadata.name"), self.pod.as_ref());
        let pod = pod.and_then(|text| door.name("--pod", text));
        if let (Some(set), Some(pod)) = (&set, &pod) {
            let of_set = pod.ordinal().is_some_and(|ordinal| pod.as_str() == format!("{set}-{ordinal}"));
            if !of_set {
                door.fault(format!(
                    "--pod is `{pod}` but must be a pod of --set: `{set}`, a dash and an ordinal; correct the one or the other"
                ));
            }
        }
        let pod_uid = door.needed("--pod-uid", &downward("metadata.uid"), self.pod_uid.as_ref()).map(Uid::new);
        let pod_ip = door.needed("--pod-ip", &downward("status.podIP"), self.pod_ip.as_ref());
        let pod_ip = pod_ip.and_then(|text| match text.parse::<IpAddr>() {
            Ok(address) if !address.is_unspecified() && !address.is_multicast() => Some(address),
            Ok(_) | Err(_) => {
                door.fault(format!(
                    "--pod-ip is `{text}` but must be an address that peers can reach: use status.podIP"
                ));
                None
            }
        });

        let mesh = match (&self.mesh, &namespace, &set) {
            (Some(mesh), _, _) => door.text("--mesh", mesh),
            (None, Some(namespace), Some(set)) => format!("{namespace}/{set}"),
            (None, _, _) => String::new(),
        };
        if mesh.len() > LONGEST_MESH {
            door.fault(format!("--mesh has {} bytes but may have {LONGEST_MESH}: choose a shorter one", mesh.len()));
        }

        let data_dir = door.path("--data-dir", &self.data_dir);
        let state_dir = match &self.state_dir {
            Some(text) => door.path("--state-dir", text),
            None => data_dir.join("pilot"),
        };
        let launcher_socket = door.path("--launcher-socket", &self.launcher_socket);
        if self.launcher_socket.len() > LONGEST_SOCKET {
            door.fault(format!(
                "--launcher-socket has {} bytes but a socket's path may have {LONGEST_SOCKET}: choose a shorter one",
                self.launcher_socket.len()
            ));
        }
        let policy = self.policy.as_ref().map(|text| door.path("--policy", text));
        let keys =
            door.needed("--keys", "name the folder where the secret with the mesh keys is mounted", self.keys.as_ref());
        let keys = keys.map(PathBuf::from);

        let all = match pod_ip {
            Some(IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            Some(IpAddr::V4(_)) | None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let gossip = door.listen("--gossip-listen", self.gossip_listen.as_ref(), all, GOSSIP_PORT);
        let stream = door.listen("--stream-listen", self.stream_listen.as_ref(), all, STREAM_PORT);
        let http = door.listen("--http-listen", self.http_listen.as_ref(), all, HTTP_PORT);
        let same_place = stream.ip() == http.ip() || stream.ip().is_unspecified() || http.ip().is_unspecified();
        if stream.port() == http.port() && stream.port() != 0 && same_place {
            door.fault(format!(
                "--stream-listen is {stream} but --http-listen {http} takes that port: choose another for one"
            ));
        }
        let seeds = self.seeds.iter().filter(|text| !text.is_empty()).map(|text| door.seed(text)).collect();

        let seed_file = self.seed_file.as_ref().map(|text| door.path("--seed-file", text));

        if let Some(name) = door.name("--claim-template", &self.claim_template)
            && name.as_str().contains('.')
        {
            door.fault(format!(
                "--claim-template is `{name}` but must have no dot, as Kubernetes demands: rename the template"
            ));
        }
        let database = match self.database.as_str() {
            "cassandra" => DatabaseKind::Cassandra,
            "model" => DatabaseKind::Model,
            other => {
                door.fault(format!("--database is `{other}` but must be `cassandra` or `model`: choose one of them"));
                DatabaseKind::Cassandra
            }
        };
        let database_settings = self.database_settings.as_ref().map(|text| door.path("--database-settings", text));
        let config_dir = door.path("--config-dir", &self.config_dir);
        let cluster_name = match (&self.cluster_name, &set) {
            (Some(text), _) => door.text("--cluster-name", text),
            (None, set) => set.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
        let data_center = door.text("--data-center", &self.data_center);
        let rack = door.text("--rack", &self.rack);
        let client_port = match self.client_port.parse::<u16>() {
            Ok(port) if port > 0 => port,
            Ok(_) | Err(_) => {
                door.fault(format!(
                    "--client-port is `{}` but must be 1 to 65535: give the database's port",
                    self.client_port
                ));
                0
            }
        };
        let kubeconfig = self.kubeconfig.as_ref().map(|text| door.path("--kubeconfig", text));
        let cuts = self.cuts.as_ref().map(|text| door.path("--cuts", text));

        match (set, namespace, pod, pod_uid, pod_ip, keys) {
            (Some(set), Some(namespace), Some(pod), Some(pod_uid), Some(pod_ip), Some(keys))
                if door.faults.is_empty() =>
            {
                Ok(CheckedArgs {
                    set: set.to_string(),
                    namespace: namespace.to_string(),
                    pod,
                    pod_uid,
                    pod_ip,
                    mesh,
                    data_dir,
                    state_dir,
                    launcher_socket,
                    policy,
                    keys,
                    gossip,
                    stream,
                    http,
                    seeds,
                    seed_file,
                    claim_template: self.claim_template,
                    database,
                    database_settings,
                    config_dir,
                    cluster_name,
                    data_center,
                    rack,
                    client_port,
                    kubeconfig,
                    json_logs: self.json_logs,
                    cuts,
                })
            }
            _ => Err(ArgFaults(door.faults)),
        }
    }
}
