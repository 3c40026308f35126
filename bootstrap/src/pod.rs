//! The pilot's parts of a pod: the install container, the sidecar, the launcher, their volumes.
//!
//! Made here and nowhere else: a rendered cluster and an injected StatefulSet have the same.

use crate::manifest::tree::{Map, list, map};

/// The sidecar's name.
pub const PILOT: &str = "pilot";
/// The name of the container that brings the binary.
pub const INSTALL: &str = "pilot-install";
/// Volumes: the binary, sockets and rendered files, policy, driver settings, keys, the token.
pub const BIN: &str = "pilot-bin";
/// Sockets and rendered files.
pub const RUN: &str = "pilot-run";
/// The policy.
pub const POLICY: &str = "pilot-policy";
/// Settings of the database's driver.
pub const SETTINGS: &str = "pilot-settings";
/// The mesh keys.
pub const KEYS: &str = "pilot-keys";
/// The role by which the database is looked at.
pub const CREDENTIALS: &str = "pilot-credentials";
/// The token for the Kubernetes API.
pub const TOKEN: &str = "pilot-token";

/// Where the volumes are mounted.
pub const BIN_AT: &str = "/pilot-bin";
/// Where sockets and rendered files are.
pub const RUN_AT: &str = "/var/run/pilot";
/// Where the policy is.
pub const POLICY_AT: &str = "/etc/pilot/policy";
/// Where the driver's settings are.
pub const SETTINGS_AT: &str = "/etc/pilot/settings";
/// Where the mesh keys are.
pub const KEYS_AT: &str = "/etc/pilot/keys";
/// Where the role's name and password are.
pub const CREDENTIALS_AT: &str = "/etc/pilot/credentials";
/// Where every client of the Kubernetes API looks for its token.
pub const TOKEN_AT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The endpoints, for probes, people and metrics (TCP).
pub const HTTP_PORT: u16 = 7300;
/// Streams between pilots (TCP).
pub const STREAM_PORT: u16 = 7301;
/// Gossip between pilots (UDP).
pub const GOSSIP_PORT: u16 = 7302;

/// How the sidecar runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sidecar {
    /// An init container that stays: it starts before the database and ends after it.
    Native,
    /// A container like the database's: for clusters without native sidecars.
    Plain,
}

/// Everything the pilot's parts of a pod depend on.
#[derive(Debug, Clone, PartialEq)]
pub struct PilotParts {
    /// The StatefulSet.
    pub set: String,
    /// The pilot's image.
    pub image: String,
    /// When it is pulled, if not as Kubernetes does by itself.
    pub pull_policy: Option<String>,
    /// How the sidecar runs.
    pub sidecar: Sidecar,
    /// The headless Service of the set.
    pub service: String,
    /// The claim template of the data.
    pub claim_template: String,
    /// Where the data is mounted in the database's container, and so in the pilot's.
    pub data: String,
    /// The part of the volume that is mounted there.
    pub sub_path: Option<String>,
    /// The pod's grace period in seconds.
    pub grace: u64,
    /// The ConfigMap with `policy.yaml`.
    pub policy: String,
    /// The ConfigMap with `driver.yaml`; without one a stock image is driven.
    pub settings: Option<String>,
    /// The Secret with the mesh keys.
    pub keys: String,
    /// The Secret with the role by which the database is looked at, where it asks for one.
    pub credentials: Option<String>,
    /// What the database cluster is called, if not as the set.
    pub cluster_name: Option<String>,
    /// The data centre, if not the agent's default.
    pub data_center: Option<String>,
    /// The rack, if not the agent's default.
    pub rack: Option<String>,
    /// User and group, where they are not the pod's: the database's container's own.
    pub run_as: Map,
    /// Requests and limits of the sidecar.
    pub resources: Map,
}

/// What the sidecar gets where nothing else is asked: twice what fifty pilots were measured to need each.
pub fn resources() -> Map {
    map! {
        "requests": map! { "cpu": "20m", "memory": "32Mi" },
        "limits": map! { "memory": "128Mi" },
    }
}

/// What the restricted Pod Security level asks of a container, and a root file system that nobody writes to.
pub fn restricted() -> Map {
    map! {
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": map! { "drop": list!["ALL"] },
    }
}

/// A variable that Kubernetes fills in.
fn downward(name: &str, field: &str) -> Map {
    map! { "name": name, "valueFrom": map! { "fieldRef": map! { "fieldPath": field } } }
}

fn mount(name: &str, path: &str) -> Map {
    map! { "name": name, "mountPath": path }
}

fn reads(name: &str, path: &str) -> Map {
    map! { "name": name, "mountPath": path, "readOnly": true }
}

fn asks(path: &str) -> Map {
    map! { "path": path, "port": PILOT }
}

impl PilotParts {
    fn container(&self, name: &str) -> Map {
        map! { "name": name, "image": &self.image }.with("imagePullPolicy", self.pull_policy.as_ref())
    }

    fn security(&self) -> Map {
        let mut security = restricted();
        for entry in self.run_as.entries() {
            security.set(&entry.key, entry.value.clone());
        }
        security
    }

    /// The init container that hands the binary to the database's container.
    pub fn install(&self) -> Map {
        let mut container = self.container(INSTALL);
        container.set("args", list!["install", BIN_AT]);
        container.set(
            "resources",
            map! { "requests": map! { "cpu": "10m", "memory": "16Mi" }, "limits": map! { "memory": "64Mi" } },
        );
        container.set("securityContext", self.security());
        container.set("volumeMounts", list![mount(BIN, BIN_AT)]);
        container.about("Hands the pilot's binary to the database's container, whose image stays as it is.")
    }

    /// The sidecar: the pilot's agent.
    pub fn agent(&self) -> Map {
        let native = self.sidecar == Sidecar::Native;
        let mut container = self.container(PILOT).with("restartPolicy", native.then_some("Always"));
        container.set("args", self.agent_args());
        container.set(
            "env",
            list![
                downward("POD_NAME", "metadata.name"),
                downward("POD_NAMESPACE", "metadata.namespace"),
                downward("POD_UID", "metadata.uid"),
                downward("POD_IP", "status.podIP"),
            ],
        );
        container.set(
            "ports",
            list![
                map! { "name": PILOT, "containerPort": HTTP_PORT },
                map! { "name": "stream", "containerPort": STREAM_PORT },
                map! { "name": "gossip", "containerPort": GOSSIP_PORT, "protocol": "UDP" },
            ],
        );
        container
            .set("startupProbe", map! { "httpGet": asks("/startupz"), "periodSeconds": 1, "failureThreshold": 120 });
        container.set(
            "livenessProbe",
            map! { "httpGet": asks("/livez"), "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3 },
        );
        container.set("readinessProbe", map! { "httpGet": asks("/readyz"), "periodSeconds": 2, "failureThreshold": 2 });
        container.set("resources", self.resources.clone());
        container.set("securityContext", self.security());
        let mut mounts = vec![
            mount(&self.claim_template, &self.data).with("subPath", self.sub_path.as_ref()),
            mount(RUN, RUN_AT),
            reads(POLICY, POLICY_AT),
        ];
        mounts.extend(self.settings.as_ref().map(|_| reads(SETTINGS, SETTINGS_AT)));
        mounts.push(reads(KEYS, KEYS_AT));
        mounts.extend(self.credentials.as_ref().map(|_| reads(CREDENTIALS, CREDENTIALS_AT)));
        mounts.push(reads(TOKEN, TOKEN_AT));
        container.set("volumeMounts", mounts);
        container
            .note(
                "startupProbe",
                "This process alone: a probe that waited for the database would wait for ever, for its container starts later.",
            )
            .note("readinessProbe", "The database serves as a member.")
            .about(if native {
                "A native sidecar: starts before the database, ends after it."
            } else {
                "Beside the database. Where it ends first, the launcher goes on alone."
            })
    }

    fn agent_args(&self) -> Vec<String> {
        let mut args = vec![
            "agent".to_owned(),
            format!("--set={}", self.set),
            format!("--claim-template={}", self.claim_template),
            format!("--data-dir={}", self.data),
            format!("--state-dir={}/pilot", self.data),
            format!("--launcher-socket={RUN_AT}/launcher.sock"),
            format!("--policy={POLICY_AT}/policy.yaml"),
            format!("--keys={KEYS_AT}"),
            format!("--seed={}:{GOSSIP_PORT}", self.service),
            "--database=cassandra".to_owned(),
        ];
        if self.settings.is_some() {
            args.push(format!("--database-settings={SETTINGS_AT}/driver.yaml"));
        } else {
            args.push(format!("--config-dir={RUN_AT}/config"));
        }
        for (flag, value) in
            [("cluster-name", &self.cluster_name), ("data-center", &self.data_center), ("rack", &self.rack)]
        {
            args.extend(value.as_ref().map(|value| format!("--{flag}={value}")));
        }
        args
    }

    /// What the database's container runs instead of its image's entry point.
    pub fn launch_command(&self) -> Vec<String> {
        vec![format!("{BIN_AT}/pilot")]
    }

    /// With which arguments. The command that starts the database comes from the agent.
    pub fn launch_args(&self) -> Vec<String> {
        vec![
            "launch".to_owned(),
            format!("--socket={RUN_AT}/launcher.sock"),
            format!("--state-dir={}/launcher", self.data),
            format!("--grace={}s", self.grace),
            format!("--files-under={RUN_AT}"),
        ]
    }

    /// The variable that the launcher needs.
    pub fn launch_env(&self) -> Map {
        downward("POD_UID", "metadata.uid")
    }

    /// What the launcher mounts, beside the data.
    pub fn launch_mounts(&self) -> Vec<Map> {
        vec![reads(BIN, BIN_AT), mount(RUN, RUN_AT)]
    }

    /// The volumes of all these parts, but for the data's claim.
    pub fn volumes(&self) -> Vec<Map> {
        let config = |volume: &str, name: &str| map! { "name": volume, "configMap": map! { "name": name } };
        let mut volumes = vec![
            map! { "name": BIN, "emptyDir": map! {} },
            map! { "name": RUN, "emptyDir": map! {} },
            config(POLICY, &self.policy),
        ];
        volumes.extend(self.settings.as_ref().map(|name| config(SETTINGS, name)));
        // Read by owner and group only: 0440.
        let secret = |volume: &str, name: &str| map! { "name": volume, "secret": map! { "secretName": name, "defaultMode": 288 } };
        volumes.push(secret(KEYS, &self.keys));
        volumes.extend(self.credentials.as_ref().map(|name| secret(CREDENTIALS, name)));
        volumes.push(map! {
            "name": TOKEN,
            "projected": map! {
                "sources": list![
                    map! { "serviceAccountToken": map! { "path": "token", "expirationSeconds": 3607 } },
                    map! { "configMap": map! {
                        "name": "kube-root-ca.crt",
                        "items": list![map! { "key": "ca.crt", "path": "ca.crt" }],
                    } },
                    map! { "downwardAPI": map! { "items": list![map! {
                        "path": "namespace",
                        "fieldRef": map! { "fieldPath": "metadata.namespace" },
                    }] } },
                ],
            },
        });
        volumes
    }

    /// What is true of every set under the care of pilots: all pods at once, replaced by the coordinator, claims kept.
    pub fn set_rules() -> Map {
        map! {
            "podManagementPolicy": "Parallel",
            "updateStrategy": map! { "type": "OnDelete" },
            "persistentVolumeClaimRetentionPolicy": map! { "whenDeleted": "Retain", "whenScaled": "Retain" },
        }
        .note(
            "podManagementPolicy",
            "The pilots keep the order: all pods are made at once, and a database starts when it may.",
        )
    }
}
