//! Every object of a cluster, from its document: ready for `kubectl apply`.

use super::quantity::Quantity;
use super::spec::{Amounts, Apart, CassandraCluster, Clients, Resources, Seconds, Spec};
use crate::labels::Labels;
use crate::manifest::print::{self, PrintError};
use crate::manifest::tree::{Map, Value, list, map};
use crate::pod::{self, GOSSIP_PORT, HTTP_PORT, PilotParts, STREAM_PORT, Sidecar};
use crate::rbac::{self, Subject};
use crate::{cluster, names};

/// The claim template of the data.
const DATA: &str = "data";
/// The database's container.
const DATABASE: &str = "database";
/// Where the data is mounted.
const DATA_AT: &str = "/var/lib/cassandra";
/// For clients of the database.
const CQL_PORT: u16 = 9042;
/// For the members of the database among themselves.
const INTRA_PORT: u16 = 7000;
/// User and group of the official image.
const CASSANDRA_USER: u32 = 999;
/// The grace period where the document does not say: a leave on little data, and the policy's time to drain many times.
const GRACE: Seconds = Seconds(300);
/// The label that pods carry which may connect under `clients: labelled`.
const CLIENT_OF: &str = "pilotmesh.io/client-of";

/// The objects, in the order in which they are applied.
///
/// # Errors
/// When policy or settings cannot be written as YAML.
pub fn render(cluster: &CassandraCluster) -> Result<Vec<Map>, PrintError> {
    let render = Render { cluster, labels: Labels::cassandra(&cluster.metadata.name) };
    let subject =
        Subject { set: cluster.metadata.name.clone(), namespace: cluster.metadata.namespace.clone(), account: None };
    let mut objects = rbac::objects(&subject, &render.labels);
    objects.push(render.policy()?);
    objects.push(render.settings()?);
    objects.push(render.members_service());
    objects.push(render.client_service());
    objects.push(render.budget());
    objects.push(render.network());
    objects.push(render.set());
    if let Some(first) = objects.first_mut() {
        first.why = Some(format!(
            "A Cassandra cluster under the care of its pilots, made by `pilot render`: change its document, not this.\n\n\
             Before it is applied, two images must be at hand and a Secret must exist, which is of your own making:\n  \
             kubectl create secret generic {} --from-literal=first=\"$(openssl rand -base64 32)\"",
            render.keys()
        ));
    }
    Ok(objects)
}

struct Render<'a> {
    cluster: &'a CassandraCluster,
    labels: Labels,
}

impl Render<'_> {
    fn spec(&self) -> &Spec {
        &self.cluster.spec
    }

    fn name(&self) -> &str {
        &self.cluster.metadata.name
    }

    fn keys(&self) -> String {
        self.spec().keys.as_ref().map_or_else(|| names::keys(self.name()), |keys| keys.secret.clone())
    }

    fn grace(&self) -> u64 {
        self.spec().grace.unwrap_or(GRACE).0
    }

    fn object(&self, api: &str, kind: &str, name: &str) -> Map {
        let metadata = map! { "name": name }
            .with("namespace", self.cluster.metadata.namespace.as_ref())
            .with("labels", Some(self.labels.object()));
        map! { "apiVersion": api, "kind": kind, "metadata": metadata }
    }

    fn policy(&self) -> Result<Map, PrintError> {
        let spec = self.spec().policy.clone().unwrap_or_default();
        let policy = map! {
            "apiVersion": cluster::API_VERSION,
            "kind": "ClusterPolicy",
            "metadata": map! { "name": self.name() },
            "spec": spec,
        };
        let object = self.object("v1", "ConfigMap", &names::policy(self.name()));
        Ok(object.with("data", Some(map! { "policy.yaml": print::document(&policy)? })).about(
            "What pilots may do on their own. A change is taken over without a restart, within a minute or so (the kubelet's pace).",
        ))
    }

    fn settings(&self) -> Result<Map, PrintError> {
        let mut driver = map! {
            "run": map! { "image": map! { "conf": "/etc/cassandra" } },
            "volume": DATA_AT,
            "config": format!("{}/config", pod::RUN_AT),
        };
        if let Some(heap) = self.heap() {
            driver.set("heap", heap);
        }
        if self.spec().authentication.is_some() {
            driver.set("credentials", pod::CREDENTIALS_AT);
        }
        if let Some(settings) = self.spec().settings.as_ref().filter(|settings| !settings.is_empty()) {
            driver.set("overrides", print::document(settings)?);
        }
        if let Some(options) = &self.spec().jvm_options {
            driver.set("jvm_options", options.clone());
        }
        let object = self.object("v1", "ConfigMap", &names::settings(self.name()));
        Ok(object.with("data", Some(map! { "driver.yaml": print::document(&driver)? })).about(
            "How Cassandra is run. `overrides` is merged over the cassandra.yaml that the pilot renders; a change is read when a\n\
             pilot starts and takes effect at the database's next start.",
        ))
    }

    /// What the document says, or a part of the memory limit.
    fn heap(&self) -> Option<String> {
        let spec = self.spec();
        let limit = || spec.resources.limits.as_ref()?.memory.as_ref();
        spec.heap.as_ref().map(Quantity::to_string).or_else(|| limit().map(usual_heap))
    }

    fn members_service(&self) -> Map {
        self.object("v1", "Service", &names::members(self.name()))
            .with(
                "spec",
                Some(map! {
                    "clusterIP": "None",
                    "publishNotReadyAddresses": true,
                    "selector": self.labels.selector(),
                    "ports": list![
                        map! { "name": "cql", "port": CQL_PORT },
                        map! { "name": "pilot", "port": HTTP_PORT },
                    ],
                }),
            )
            .about("Members one by one: pilots find each other through it before any of them is ready.")
    }

    fn client_service(&self) -> Map {
        self.object("v1", "Service", self.name())
            .with(
                "spec",
                Some(map! {
                    "selector": self.labels.selector(),
                    "ports": list![map! { "name": "cql", "port": CQL_PORT, "targetPort": "cql" }],
                }),
            )
            .about("Clients connect here, to members that serve.")
    }

    fn budget(&self) -> Map {
        self.object("policy/v1", "PodDisruptionBudget", self.name())
            .with(
                "spec",
                Some(map! {
                    "maxUnavailable": 1,
                    "unhealthyPodEvictionPolicy": "AlwaysAllow",
                    "selector": map! { "matchLabels": self.labels.selector() },
                }),
            )
            .about("One member at a time may be evicted; one that does not serve anyway may always be.")
    }

    fn network(&self) -> Map {
        let tcp = |port: u16| map! { "port": port, "protocol": "TCP" };
        let own = map! { "podSelector": map! { "matchLabels": self.labels.selector() } };
        let clients = match self.spec().network.as_ref().map(|network| network.clients) {
            None | Some(Clients::Namespace) => {
                map! { "from": list![map! { "podSelector": map! {} }], "ports": list![tcp(CQL_PORT)] }
            }
            Some(Clients::Anybody) => map! { "ports": list![tcp(CQL_PORT)] },
            Some(Clients::Labelled) => {
                let mut labels = Map::default();
                labels.set(CLIENT_OF, self.name());
                map! {
                    "from": list![map! { "podSelector": map! { "matchLabels": labels } }],
                    "ports": list![tcp(CQL_PORT)],
                }
            }
        };
        self.object("networking.k8s.io/v1", "NetworkPolicy", self.name()).with(
            "spec",
            Some(map! {
                "podSelector": map! { "matchLabels": self.labels.selector() },
                "policyTypes": list!["Ingress"],
                "ingress": list![
                    map! {
                        "from": list![own],
                        "ports": list![
                            tcp(INTRA_PORT),
                            tcp(CQL_PORT),
                            tcp(STREAM_PORT),
                            map! { "port": GOSSIP_PORT, "protocol": "UDP" },
                        ],
                    }
                    .about("Members among themselves: the database, and streams and gossip of their pilots."),
                    clients.about("Clients of the database."),
                    map! { "ports": list![tcp(HTTP_PORT)] }
                        .about("Probes, metrics and what pilots know: whoever reads it can change nothing by it."),
                ],
            }),
        )
    }

    fn parts(&self) -> PilotParts {
        let spec = self.spec();
        PilotParts {
            set: self.name().to_owned(),
            image: spec.pilot.image.clone(),
            pull_policy: spec.image_pull_policy.clone(),
            sidecar: Sidecar::Native,
            service: names::members(self.name()),
            claim_template: DATA.to_owned(),
            data: DATA_AT.to_owned(),
            sub_path: None,
            grace: self.grace(),
            policy: names::policy(self.name()),
            settings: Some(names::settings(self.name())),
            keys: self.keys(),
            credentials: spec.authentication.as_ref().map(|authentication| authentication.secret.clone()),
            cluster_name: None,
            data_center: spec.data_center.clone(),
            rack: spec.rack.clone(),
            run_as: Map::default(),
            resources: spec.pilot.resources.as_ref().map_or_else(pod::resources, resources),
        }
    }

    fn set(&self) -> Map {
        let spec = self.spec();
        let parts = self.parts();
        let mut set = map! { "serviceName": names::members(self.name()), "replicas": spec.members };
        for entry in PilotParts::set_rules().entries() {
            set.set(&entry.key, entry.value.clone());
        }
        set.set("selector", map! { "matchLabels": self.labels.selector() });
        set.set("template", map! { "metadata": map! { "labels": self.labels.object() }, "spec": self.pod(&parts) });
        let claim = map! {
            "accessModes": list!["ReadWriteOnce"],
        }
        .with("storageClassName", spec.storage.class.as_ref())
        .with("resources", Some(map! { "requests": map! { "storage": spec.storage.size.as_str() } }));
        set.set("volumeClaimTemplates", list![map! { "metadata": map! { "name": DATA }, "spec": claim }]);
        let set = set.note(
            "podManagementPolicy",
            "The pilots keep the order: all pods are made at once, and a database starts when it may.",
        );
        let mut object = self.object("apps/v1", "StatefulSet", self.name()).with("spec", Some(set));
        let version = spec.version.as_deref().unwrap_or("5.0");
        if let Some(labels) = object.get_mut("metadata").and_then(Value::map_mut).and_then(|m| m.get_mut("labels"))
            && let Some(labels) = labels.map_mut()
        {
            labels.set("app.kubernetes.io/version", version);
        }
        object
    }

    fn pod(&self, parts: &PilotParts) -> Map {
        let spec = self.spec();
        let pull = |names: &Vec<String>| names.iter().map(|name| map! { "name": name }).collect::<Vec<_>>();
        let where_to = spec.pod.clone().unwrap_or_default();
        let mut volumes = parts.volumes();
        volumes.push(map! { "name": "tmp", "emptyDir": map! {} });
        map! {
            "serviceAccountName": names::account(self.name()),
            "enableServiceLinks": false,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": self.grace(),
            "securityContext": map! {
                "runAsNonRoot": true,
                "runAsUser": CASSANDRA_USER,
                "runAsGroup": CASSANDRA_USER,
                "fsGroup": CASSANDRA_USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": map! { "type": "RuntimeDefault" },
            },
        }
        .note(
            "terminationGracePeriodSeconds",
            "Time to stream data away when the set is scaled in. Convenience, not correctness: a leave that is cut off is\n\
             resumed. The launcher is told the same (--grace).",
        )
        .with("imagePullSecrets", spec.image_pull_secrets.as_ref().map(pull))
        .with("priorityClassName", where_to.priority_class)
        .with("nodeSelector", where_to.node_selector)
        .with("tolerations", where_to.tolerations)
        .with("topologySpreadConstraints", self.spread())
        .with("initContainers", Some(list![parts.install(), parts.agent()]))
        .with("containers", Some(list![self.database(parts)]))
        .with("volumes", Some(volumes))
    }

    fn spread(&self) -> Option<Vec<Map>> {
        let spread = self.spec().spread.unwrap_or_default();
        let one = |apart: Option<Apart>, key: &str| {
            let unsatisfiable = match apart.unwrap_or(Apart::Preferred) {
                Apart::Preferred => "ScheduleAnyway",
                Apart::Required => "DoNotSchedule",
                Apart::Off => return None,
            };
            Some(map! {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": unsatisfiable,
                "labelSelector": map! { "matchLabels": self.labels.selector() },
            })
        };
        let all: Vec<Map> =
            [one(spread.zones, "topology.kubernetes.io/zone"), one(spread.nodes, "kubernetes.io/hostname")]
                .into_iter()
                .flatten()
                .collect();
        (!all.is_empty()).then_some(all)
    }

    fn database(&self, parts: &PilotParts) -> Map {
        let spec = self.spec();
        let version = spec.version.as_deref().unwrap_or("5.0");
        let image = spec.image.clone().unwrap_or_else(|| format!("cassandra:{version}"));
        let mut mounts = parts.launch_mounts();
        mounts.push(map! { "name": DATA, "mountPath": DATA_AT });
        mounts.push(map! { "name": "tmp", "mountPath": "/tmp" });
        map! { "name": DATABASE, "image": image }
            .with("imagePullPolicy", spec.image_pull_policy.as_ref())
            .with("command", Some(parts.launch_command()))
            .with("args", Some(parts.launch_args()))
            .with("env", Some(list![parts.launch_env()]))
            .with(
                "ports",
                Some(list![
                    map! { "name": "cql", "containerPort": CQL_PORT },
                    map! { "name": "intra", "containerPort": INTRA_PORT },
                ]),
            )
            .with("resources", Some(resources(&spec.resources)))
            .with("securityContext", Some(pod::restricted()))
            .with("volumeMounts", Some(mounts))
            .about(
                "A stock image. Its process number one is the launcher; it starts the database when the pilot says that it may.\n\
                 No probes: a member that waits or joins is not to be killed, and the launcher restarts a database that crashed.",
            )
    }
}

fn resources(resources: &Resources) -> Map {
    let amounts = |amounts: &Amounts| {
        Map::default()
            .with("cpu", amounts.cpu.as_ref().map(Quantity::as_str))
            .with("memory", amounts.memory.as_ref().map(Quantity::as_str))
    };
    Map::default()
        .with("requests", resources.requests.as_ref().map(amounts))
        .with("limits", resources.limits.as_ref().map(amounts))
}

/// The heap for a memory limit: a half up to 1 GiB, or a quarter up to 8 GiB, whichever is more.
fn usual_heap(limit: &Quantity) -> String {
    let mebibytes = limit.units() >> 20;
    let heap = (mebibytes / 2).min(1 << 10).max((mebibytes / 4).min(8 << 10)).max(1);
    if heap.is_multiple_of(1024) { format!("{}G", heap / 1024) } else { format!("{heap}M") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_goes_by_the_memory_limit() {
        for (limit, heap) in [
            ("1Gi", "512M"),
            ("2Gi", "1G"),
            ("4Gi", "1G"),
            ("8Gi", "2G"),
            ("32Gi", "8G"),
            ("256Gi", "8G"),
            ("1M", "1M"),
        ] {
            assert_eq!(usual_heap(&Quantity::parse(limit).unwrap()), heap, "{limit}");
        }
    }
}
