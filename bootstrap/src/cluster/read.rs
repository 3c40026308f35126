//! From a cluster document as written to one as meant: typed reading that collects every fault.

use super::reader::{Found, Reader, Section};
use super::spec::{
    Amounts, Apart, Authentication, CassandraCluster, Clients, Keys, Metadata, Network, Pilot, Pod, Resources, Seconds,
    Spec, Spread, Storage,
};
use super::{API_VERSION, KIND, Quantity};
use crate::cassandra::OWNED;
use crate::manifest::Map;
use crate::names::{MAX_SET_CHARS, is_label, is_service};
use policies::fault::{FaultKind, Faults, Position};
use policies::file::{Node, Written};
use policies::policy::Policy;

/// The versions whose driver there is.
const VERSION: &str = "5.0";

pub(super) fn parse(text: &str, source: &str) -> Result<CassandraCluster, Faults> {
    let mut reader = Reader::default();
    let cluster = match policies::file::read(text) {
        Ok(root) => reader.document(&root),
        Err(fault) => {
            reader.faults.push(fault);
            None
        }
    };
    match (Faults::collect(source, reader.faults), cluster) {
        (None, Some(cluster)) => Ok(cluster),
        (Some(faults), _) => Err(faults),
        // Nothing was read and nothing was found to be wrong with it: a fault of ours, told as one of the file.
        (None, None) => {
            let mut reader = Reader::default();
            reader.fault(
                Position::START,
                "",
                FaultKind::Missing,
                "not understood".into(),
                "be a cluster document",
                "report this as a fault of pilot, with the file",
            );
            Err(Faults { source: source.to_owned(), faults: reader.faults, omitted: 0 })
        }
    }
}

impl Reader {
    fn document(&mut self, root: &Node) -> Option<CassandraCluster> {
        let root = Found { path: String::new(), node: root };
        let top = self.section(&root, &["apiVersion", "kind", "metadata", "spec"])?;
        for (name, only) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            if let Some(found) = self.needed(&top, name, &format!("add the line \"{name}: {only}\"")) {
                let rule = format!("be {only}");
                self.text_like(&found, |text| text == only, &rule, &format!("write \"{name}: {only}\""));
            }
        }
        let metadata = self.needed(&top, "metadata", "add the line \"metadata: { name: orders }\"");
        let metadata = metadata.and_then(|found| self.metadata(&found));
        let spec = self.needed(&top, "spec", "add the section \"spec:\" with members, pilot, storage and resources");
        let spec = spec.and_then(|found| self.spec(&found));
        Some(CassandraCluster { metadata: metadata?, spec: spec? })
    }

    fn metadata(&mut self, found: &Found<'_>) -> Option<Metadata> {
        let section = self.section(found, &["name", "namespace"])?;
        let name = self.needed(&section, "name", "add the line \"name: orders\"").and_then(|found| {
            let rule = format!(
                "be 1 to {MAX_SET_CHARS} lower-case letters, digits and dashes, beginning with a letter and not ending with a dash"
            );
            self.text_like(&found, |name| is_service(name) && name.len() <= MAX_SET_CHARS, &rule, "choose another name")
        });
        let namespace = section.get("namespace").map(|found| {
            let rule = "be 1 to 63 lower-case letters, digits and dashes, without a dash at either end";
            self.text_like(&found, is_label, rule, "give the namespace's name")
        });
        Some(Metadata { name: name?, namespace: all(namespace)? })
    }

    fn spec(&mut self, found: &Found<'_>) -> Option<Spec> {
        const NAMES: [&str; 20] = [
            "members",
            "version",
            "image",
            "imagePullPolicy",
            "imagePullSecrets",
            "pilot",
            "storage",
            "resources",
            "heap",
            "jvmOptions",
            "settings",
            "authentication",
            "dataCenter",
            "rack",
            "grace",
            "spread",
            "policy",
            "keys",
            "network",
            "pod",
        ];
        let s = self.section(found, &NAMES)?;
        let members = self.needed(&s, "members", "add the line \"members: 3\"");
        let members = members.and_then(|found| self.count(&found, 1, 1000));
        let version = s.get("version").map(|found| {
            self.text_like(
                &found,
                |version| {
                    version == VERSION || version.strip_prefix("5.0.").is_some_and(|patch| patch.parse::<u16>().is_ok())
                },
                "be 5.0, or a patch of it such as \"5.0.9\"",
                "choose one of these; other versions have no driver yet",
            )
        });
        let image = s.get("image").map(|found| self.image(&found));
        let image_pull_policy = s.get("imagePullPolicy").map(|found| {
            let words = [("Always", "Always"), ("IfNotPresent", "IfNotPresent"), ("Never", "Never")];
            self.one_of(&found, &words).map(str::to_owned)
        });
        let image_pull_secrets = s.get("imagePullSecrets").map(|found| self.texts(&found));
        let pilot = self.needed(&s, "pilot", "add the line \"pilot: { image: registry.example/pilot:0.1.0 }\"");
        let pilot = pilot.and_then(|found| self.pilot(&found));
        let storage = self.needed(&s, "storage", "add the line \"storage: { size: 100Gi }\"");
        let storage = storage.and_then(|found| self.storage(&found));
        let limits = "add the line \"resources: { limits: { memory: 8Gi } }\"";
        let resources = self.needed(&s, "resources", limits).and_then(|found| {
            let resources = self.resources(&found)?;
            if resources.limits.as_ref().is_none_or(|limits| limits.memory.is_none()) {
                self.fault(
                    found.node.at,
                    "spec.resources.limits.memory",
                    FaultKind::Missing,
                    "missing".into(),
                    "be given: the Java heap goes by it",
                    limits,
                );
            }
            Some(resources)
        });
        let heap = s.get("heap").map(|found| self.heap(&found, resources.as_ref()));
        let jvm_options = s.get("jvmOptions").map(|found| self.texts(&found));
        let settings = s.get("settings").map(|found| self.settings(&found));
        let authentication = s.get("authentication").map(|found| self.authentication(&found));
        let data_center = s.get("dataCenter").map(|found| self.place(&found));
        let rack = s.get("rack").map(|found| self.place(&found));
        let grace = s.get("grace").map(|found| self.grace(&found));
        let spread = s.get("spread").map(|found| self.spread(&found));
        let policy = s.get("policy").map(|found| self.policy(&found));
        self.bounds(&s, members, &policy);
        let keys = s.get("keys").map(|found| self.keys(&found));
        let network = s.get("network").map(|found| self.network(&found));
        let pod = s.get("pod").map(|found| self.pod(&found));
        Some(Spec {
            members: members?,
            version: all(version)?,
            image: all(image)?,
            image_pull_policy: all(image_pull_policy)?,
            image_pull_secrets: all(image_pull_secrets)?,
            pilot: pilot?,
            storage: storage?,
            resources: resources?,
            heap: all(heap)?,
            jvm_options: all(jvm_options)?,
            settings: all(settings)?,
            authentication: all(authentication)?,
            data_center: all(data_center)?,
            rack: all(rack)?,
            grace: all(grace)?,
            spread: all(spread)?,
            policy: all(policy)?.map(|(map, _)| map),
            keys: all(keys)?,
            network: all(network)?,
            pod: all(pod)?,
        })
    }

    fn image(&mut self, found: &Found<'_>) -> Option<String> {
        let allowed = |image: &str| {
            image.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@".contains(c))
                && image.starts_with(|c: char| c.is_ascii_alphanumeric())
        };
        let rule = "be an image's name: registry, path, and a tag or digest";
        self.text_like(found, allowed, rule, "write registry.example/name:tag for instance")
    }

    fn pilot(&mut self, found: &Found<'_>) -> Option<Pilot> {
        let s = self.section(found, &["image", "resources"])?;
        let image = self.needed(&s, "image", "add the line \"image: registry.example/pilot:0.1.0\"");
        let image = image.and_then(|found| self.image(&found));
        let resources = s.get("resources").map(|found| self.resources(&found));
        Some(Pilot { image: image?, resources: all(resources)? })
    }

    fn storage(&mut self, found: &Found<'_>) -> Option<Storage> {
        let s = self.section(found, &["size", "class"])?;
        let size = self.needed(&s, "size", "add the line \"size: 100Gi\"").and_then(|found| {
            let size = self.quantity(&found, "100Gi")?;
            if size.units() < 1 << 30 {
                self.beyond(&found, "be at least 1Gi: commit log and hints alone take as much", "raise it");
            }
            Some(size)
        });
        let class = s.get("class").map(|found| {
            let rule = "be the name of a StorageClass";
            self.text_like(&found, |name| name.split('.').all(is_label), rule, "`kubectl get storageclass` names them")
        });
        Some(Storage { size: size?, class: all(class)? })
    }

    fn resources(&mut self, found: &Found<'_>) -> Option<Resources> {
        let s = self.section(found, &["requests", "limits"])?;
        let requests = s.get("requests").map(|found| self.amounts(&found));
        let limits = s.get("limits").map(|found| self.amounts(&found));
        let resources = Resources { requests: all(requests)?, limits: all(limits)? };
        if let (Some(requests), Some(limits)) = (&resources.requests, &resources.limits) {
            for (name, request, limit) in
                [("cpu", &requests.cpu, &limits.cpu), ("memory", &requests.memory, &limits.memory)]
            {
                if let (Some(request), Some(limit)) = (request, limit)
                    && request.exceeds(limit)
                {
                    let path = format!("{}.requests.{name}", found.path);
                    let rule = format!("be no more than the limit ({limit})");
                    let (kind, remedy) = (FaultKind::Conflict, "lower it, or raise the limit");
                    self.fault(found.node.at, &path, kind, request.to_string(), &rule, remedy);
                }
            }
        }
        Some(resources)
    }

    fn amounts(&mut self, found: &Found<'_>) -> Option<Amounts> {
        let s = self.section(found, &["cpu", "memory"])?;
        let cpu = s.get("cpu").map(|found| self.quantity(&found, "500m"));
        let memory = s.get("memory").map(|found| self.quantity(&found, "8Gi"));
        Some(Amounts { cpu: all(cpu)?, memory: all(memory)? })
    }

    /// As the Java machine takes it: a whole number with one letter.
    fn heap(&mut self, found: &Found<'_>, resources: Option<&Resources>) -> Option<Quantity> {
        let rule = "be a whole number of mebibytes or gibibytes, as the Java machine takes it: 512M or 4G";
        let text = self.text_like(
            found,
            |text| {
                let number = text.strip_suffix(['M', 'G']).unwrap_or_default();
                number.len() <= 6 && number.parse::<u32>().is_ok_and(|number| number > 0)
            },
            rule,
            "write 4G for instance",
        )?;
        // The Java machine's `M` is a mebibyte.
        let heap = Quantity::parse(&format!("{text}i"))?;
        let limit = resources.and_then(|r| r.limits.as_ref()).and_then(|limits| limits.memory.as_ref());
        if let Some(limit) = limit
            && heap.units().saturating_mul(4) > limit.units().saturating_mul(3)
        {
            let rule = format!(
                "be at most three quarters of the memory limit ({limit}): Cassandra needs memory beside its heap"
            );
            self.fault(
                found.node.at,
                &found.path,
                FaultKind::Conflict,
                text.clone(),
                &rule,
                "lower it, or raise the limit",
            );
        }
        Quantity::parse(&text)
    }

    fn settings(&mut self, found: &Found<'_>) -> Option<Map> {
        let map = self.map(found, "settings of cassandra.yaml")?;
        let Written::Map(entries) = &found.node.value else { return Some(map) };
        for entry in entries {
            let name = entry.name();
            if OWNED.contains(&name.as_str()) {
                let path = format!("{}.{name}", found.path);
                self.fault(
                    entry.key.at,
                    &path,
                    FaultKind::Unsupported,
                    "set by the pilot alone".into(),
                    "be absent",
                    "remove it: the pilot knows addresses, seeds, folders and names of each member",
                );
            }
        }
        Some(map)
    }

    /// A data centre or a rack.
    fn place(&mut self, found: &Found<'_>) -> Option<String> {
        let rule = "be 1 to 64 letters, digits, `-`, `_` or `.`";
        let keeps = |text: &str| {
            text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        self.text_like(found, keeps, rule, "choose another name")
    }

    fn grace(&mut self, found: &Found<'_>) -> Option<Seconds> {
        let rule = "be a duration in whole seconds from 60s to 24h";
        let text = self.text_like(found, |_| true, rule, "write 300s for instance")?;
        let seconds = humantime::parse_duration(&text).ok().filter(|d| d.subsec_nanos() == 0).map(|d| d.as_secs());
        match seconds.filter(|seconds| (60..=86_400).contains(seconds)) {
            Some(seconds) => Some(Seconds(seconds)),
            None => {
                self.beyond(found, rule, "write 300s for instance");
                None
            }
        }
    }

    fn spread(&mut self, found: &Found<'_>) -> Option<Spread> {
        let s = self.section(found, &["nodes", "zones"])?;
        let words = [("preferred", Apart::Preferred), ("required", Apart::Required), ("off", Apart::Off)];
        let nodes = s.get("nodes").map(|found| self.one_of(&found, &words));
        let zones = s.get("zones").map(|found| self.one_of(&found, &words));
        Some(Spread { nodes: all(nodes)?, zones: all(zones)? })
    }

    /// As a policy file would be read; faults are named from here.
    fn policy(&mut self, found: &Found<'_>) -> Option<(Map, Policy)> {
        let (policy, faults) = Policy::parse_spec(found.node);
        let clean = faults.is_empty();
        self.faults.extend(faults.into_iter().map(|mut fault| {
            fault.path = format!("spec.policy{}", fault.path.strip_prefix("spec").unwrap_or(&fault.path));
            fault
        }));
        let crate::manifest::Value::Map(map) = crate::manifest::Value::from(found.node) else { return None };
        clean.then_some((map, policy))
    }

    /// The size that is asked for, and the sizes that the policy allows.
    fn bounds(&mut self, section: &Section<'_>, members: Option<u32>, policy: &Option<Option<(Map, Policy)>>) {
        let defaults = Policy::default();
        let policy = match policy {
            None => &defaults,
            Some(Some((_, policy))) => policy,
            Some(None) => return,
        };
        let (Some(members), Some(found)) = (members, section.get("members")) else { return };
        let bounds = &policy.scale.bounds;
        if members < bounds.min || members > bounds.max {
            let rule = format!("lie within the policy's scale.bounds ({} to {})", bounds.min, bounds.max);
            let (kind, remedy) = (FaultKind::Conflict, "change it, or spec.policy.scale.bounds");
            self.fault(found.node.at, &found.path, kind, members.to_string(), &rule, remedy);
        }
    }

    fn keys(&mut self, found: &Found<'_>) -> Option<Keys> {
        Some(Keys { secret: self.secret(found)? })
    }

    fn authentication(&mut self, found: &Found<'_>) -> Option<Authentication> {
        Some(Authentication { secret: self.secret(found)? })
    }

    /// A section that names a Secret and nothing else.
    fn secret(&mut self, found: &Found<'_>) -> Option<String> {
        let s = self.section(found, &["secret"])?;
        self.needed(&s, "secret", "name the Secret, or remove the section").and_then(|found| {
            let rule = "be the name of a Secret";
            self.text_like(&found, |name| name.split('.').all(is_label), rule, "give its name")
        })
    }

    fn network(&mut self, found: &Found<'_>) -> Option<Network> {
        let s = self.section(found, &["clients"])?;
        let words = [("namespace", Clients::Namespace), ("anybody", Clients::Anybody), ("labelled", Clients::Labelled)];
        let clients = self.needed(&s, "clients", "write who may connect, or remove the section");
        let clients = clients.and_then(|found| self.one_of(&found, &words));
        Some(Network { clients: clients? })
    }

    fn pod(&mut self, found: &Found<'_>) -> Option<Pod> {
        let s = self.section(found, &["nodeSelector", "tolerations", "priorityClass"])?;
        let node_selector = s.get("nodeSelector").map(|found| {
            let map = self.map(&found, "labels of nodes")?;
            if map.entries().iter().any(|entry| entry.value.text().is_none()) {
                self.beyond(&found, "have texts as values", "put numbers, true and false in quotes");
            }
            Some(map)
        });
        let tolerations = s.get("tolerations").map(|found| self.tolerations(&found));
        let priority_class = s.get("priorityClass").map(|found| {
            let rule = "be the name of a PriorityClass";
            self.text_like(&found, |name| name.split('.').all(is_label), rule, "give its name")
        });
        Some(Pod {
            node_selector: all(node_selector)?,
            tolerations: all(tolerations)?,
            priority_class: all(priority_class)?,
        })
    }

    fn tolerations(&mut self, found: &Found<'_>) -> Option<Vec<Map>> {
        let Written::List(items) = &found.node.value else {
            self.beyond(found, "be a list of tolerations", "write each with a dash before it");
            return None;
        };
        let mut read = Vec::new();
        for (number, node) in items.iter().enumerate() {
            let item = Found { path: format!("{}.{number}", found.path), node };
            let names = ["key", "operator", "value", "effect", "tolerationSeconds"];
            if self.section(&item, &names).is_some()
                && let crate::manifest::Value::Map(map) = crate::manifest::Value::from(node)
            {
                read.push(map);
            }
        }
        Some(read)
    }
}

/// A name that is not there is none; one that is there and has a fault makes the whole fail, whose fault is told already.
fn all<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(Some(value)) => Some(Some(value)),
        Some(None) => None,
    }
}
