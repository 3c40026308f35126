//! The cluster document as meant. The comments here are the reference that people read.

use super::Quantity;
use crate::manifest::Map;
use schemars::JsonSchema;

/// One Cassandra cluster, all in one namespace, under the care of its pilots.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
pub struct CassandraCluster {
    /// What it is called, and where it is.
    pub metadata: Metadata,
    /// What it shall be.
    pub spec: Spec,
}

/// What the cluster is called, and where it is.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
pub struct Metadata {
    /// The name of the set, and the beginning of the names of all other objects. At most 52 lower-case letters, digits
    /// and dashes, beginning with a letter. Never change it: another name is another cluster.
    #[schemars(length(min = 1, max = 52), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The namespace of all objects. Without it, they go where `kubectl apply` is told to put them.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// What the cluster shall be.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub struct Spec {
    /// How many members there are when the cluster is founded. Afterwards `kubectl scale` changes it; a later `kubectl
    /// apply` of what was rendered writes it back. Must lie within the policy's `scale.bounds`. 1 to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub members: u32,
    /// The version of Cassandra: `5.0`, or a patch of it such as `5.0.9`. Default: `5.0`.
    pub version: Option<String>,
    /// The database's image, unchanged from the database's own project or laid out like it: `cassandra` and `nodetool` in
    /// `PATH`, its configuration in `/etc/cassandra`, user and group 999. Default: `cassandra:` and the version.
    pub image: Option<String>,
    /// When images are pulled: `Always`, `IfNotPresent` or `Never`. Default: as Kubernetes does by itself.
    pub image_pull_policy: Option<String>,
    /// Secrets to pull images with.
    pub image_pull_secrets: Option<Vec<String>>,
    /// The pilots.
    pub pilot: Pilot,
    /// The volume of each member. Kubernetes changes none of it once the set is there.
    pub storage: Storage,
    /// What each database may use. `limits.memory` must be given: the heap goes by it.
    pub resources: Resources,
    /// Least and greatest size of the Java heap, in `M` or `G` as the Java machine takes it (`4G`: 4 GiB); at most three quarters of the memory limit. Default,
    /// of the memory limit: a half up to 1 GiB, or a quarter up to 8 GiB, whichever is more. That is the rule of
    /// Cassandra's own start script up to 4.0; the script itself would go by the memory of the whole node.
    #[schemars(with = "Option<String>", regex(pattern = r"^[0-9]{1,6}[MG]$"))]
    pub heap: Option<Quantity>,
    /// Further options of the Java machine, after all of the pilot's.
    pub jvm_options: Option<Vec<String>>,
    /// A `cassandra.yaml` of your own, merged over the pilot's. What the pilot alone sets (addresses, seeds, folders,
    /// cluster name, snitch) is left out, and the rendered file names it.
    pub settings: Option<Map>,
    /// That clients are asked for a password. Without it, whoever may connect may do everything, as Cassandra's stock settings
    /// have it.
    pub authentication: Option<Authentication>,
    /// The data centre of all members. Default: `datacenter1`.
    pub data_center: Option<String>,
    /// The rack of all members. Default: `rack1`.
    pub rack: Option<String>,
    /// How long a pod may take to end, so that its member can stream its data away. A leave that is cut off is resumed:
    /// this is convenience, not correctness. 60 s to 24 h, in whole seconds. Default: `300s`.
    pub grace: Option<Seconds>,
    /// How members are spread over nodes and zones.
    pub spread: Option<Spread>,
    /// What pilots may do on their own: the `spec` of a policy (docs/reference/policy.md). Default: the balanced policy.
    pub policy: Option<Map>,
    /// The keys of the mesh.
    pub keys: Option<Keys>,
    /// Who may connect. Without it, everybody in the namespace may.
    pub network: Option<Network>,
    /// Which nodes members may run on, and with which priority.
    pub pod: Option<Pod>,
}

/// The pilots.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
pub struct Pilot {
    /// The pilot's image. None is published: docs/kubernetes.md tells how to make it.
    pub image: String,
    /// What each pilot may use. Default: 20m and 32Mi requested, 128Mi at most.
    pub resources: Option<Resources>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
pub struct Storage {
    /// Its size: data, commit log and hints are on it. At least 1Gi.
    pub size: Quantity,
    /// The StorageClass. Default: the cluster's default.
    pub class: Option<String>,
}

/// Requests and limits.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema)]
pub struct Resources {
    /// What is set aside.
    pub requests: Option<Amounts>,
    /// What may be used at most.
    pub limits: Option<Amounts>,
}

/// Amounts of what a container uses.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema)]
pub struct Amounts {
    /// Processors.
    pub cpu: Option<Quantity>,
    /// Memory in bytes.
    pub memory: Option<Quantity>,
}

/// A length of time in whole seconds, written with its unit: `300s`, `5m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(transparent)]
pub struct Seconds(#[schemars(with = "String")] pub u64);

/// How strictly members are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub enum Apart {
    /// As far as there is room elsewhere.
    Preferred,
    /// A pod that has no such place waits.
    Required,
    /// Not at all.
    Off,
}

/// How members are spread. Racks are not set by it: all members are in one rack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema)]
pub struct Spread {
    /// Over nodes. Default: `preferred`.
    pub nodes: Option<Apart>,
    /// Over zones. Default: `preferred`.
    pub zones: Option<Apart>,
}

/// Clients are asked for a password: `PasswordAuthenticator` and `CassandraAuthorizer`, unless `settings` says otherwise.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
pub struct Authentication {
    /// The Secret with the entries `username` and `password` of the role by which pilots look at their databases. It is never
    /// rendered: make it yourself. A new cluster knows only the role `cassandra` with the password `cassandra`:
    /// docs/security.md tells what to do then.
    pub secret: String,
}

/// The keys that seal what pilots tell each other.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
pub struct Keys {
    /// The Secret, one key in each of its entries. It is never rendered: make it yourself. Where the section is absent, the
    /// cluster's name and `-mesh-keys`.
    pub secret: String,
}

/// Who may connect.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
pub struct Network {
    /// Who may connect to the database.
    pub clients: Clients,
}

/// Who may connect to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub enum Clients {
    /// Pods of the same namespace.
    Namespace,
    /// Everybody who can reach the pods.
    Anybody,
    /// Pods of the same namespace with the label `pilotmesh.io/client-of: NAME`.
    Labelled,
}

/// Where pods run.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub struct Pod {
    /// Labels of the nodes that are taken into account.
    pub node_selector: Option<Map>,
    /// Taints of nodes that are borne, as Kubernetes writes them.
    pub tolerations: Option<Vec<Map>>,
    /// The PriorityClass.
    pub priority_class: Option<String>,
}
