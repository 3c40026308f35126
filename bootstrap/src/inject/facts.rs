//! What of a StatefulSet decides whether pilots may be brought into it, and every reason why not.

use super::Options;
use super::edit::{Step, find, keys, written};
use crate::manifest::tree::{Map, Value};
use crate::names;
use crate::pod;
use policies::fault::{Fault, FaultKind, Position, quoted};

/// User and group of the official Cassandra image.
const CASSANDRA_USER: i128 = 999;
/// Where Cassandra's data is, where nothing else is said.
const DATA_AT: &str = "/var/lib/cassandra";

/// A set into which pilots may be brought.
pub(super) struct Facts {
    /// Its name.
    pub(super) set: String,
    /// Its headless Service.
    pub(super) service: String,
    /// The database's container.
    pub(super) container: String,
    /// The claim template of its data.
    pub(super) claim_template: String,
    /// Where that is mounted.
    pub(super) data: String,
    /// Which part of the volume.
    pub(super) sub_path: Option<String>,
    /// User and group that the database's container and the pilot's get for themselves.
    pub(super) run_as: Map,
    /// The grace period that it has.
    pub(super) grace: Option<u64>,
    /// The account that it has, if one of its own.
    pub(super) account: Option<String>,
    /// Its pod has a group for its volumes.
    pub(super) has_group: bool,
}

/// Collects reasons.
pub(super) struct Judge<'a> {
    pub(super) set: &'a Value,
    /// The objects in the same file.
    pub(super) others: &'a [&'a Map],
    /// Where something of the set stands in the file.
    pub(super) place: &'a dyn Fn(&[Step]) -> Position,
    /// Pilots were injected before.
    pub(super) had_pilots: bool,
    pub(super) faults: Vec<Fault>,
}

/// Steps into the pod template's spec.
pub(super) fn in_pod(names: &[&str]) -> Vec<Step> {
    let mut steps = keys(&["spec", "template", "spec"]);
    steps.extend(keys(names));
    steps
}

/// Steps into a container.
pub(super) fn in_container(container: &str, names: &[&str]) -> Vec<Step> {
    let mut steps = in_pod(&["containers"]);
    steps.push(Step::named(container));
    steps.extend(keys(names));
    steps
}

/// What there must be, if there is anything.
enum Shape {
    Mapping,
    List,
}

/// The database of an image, as far as its name tells.
enum Image {
    Official,
    /// A Cassandra laid out in another way.
    Other,
    /// A Cassandra without a driver.
    Version(String),
    Unknown,
}

fn image(image: &str) -> Image {
    let image = image.split('@').next().unwrap_or(image);
    let (path, tag) = match image.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        Some(_) | None => (image, None),
    };
    if path.rsplit('/').next() != Some("cassandra") {
        return Image::Unknown;
    }
    if path.contains("bitnami") {
        return Image::Other;
    }
    match tag {
        Some(tag)
            if tag.starts_with(|c: char| c.is_ascii_digit())
                && tag != "5"
                && !tag.starts_with("5.0")
                && !tag.starts_with("5-") =>
        {
            Image::Version(tag.to_owned())
        }
        Some(_) | None => Image::Official,
    }
}

impl Judge<'_> {
    fn refuse(&mut self, at: &[Step], kind: FaultKind, found: &str, rule: &str, remedy: &str) {
        self.faults.push(Fault {
            at: (self.place)(at),
            path: written(at),
            kind,
            found: found.into(),
            rule: rule.into(),
            remedy: remedy.into(),
        });
    }

    fn conflict(&mut self, at: &[Step], found: &str, rule: &str, remedy: &str) {
        self.refuse(at, FaultKind::Conflict, found, rule, remedy);
    }

    fn missing(&mut self, at: &[Step], rule: &str, remedy: &str) {
        self.refuse(at, FaultKind::Missing, "missing", rule, remedy);
    }

    /// The facts; none where there is a reason against it, and then the reasons are collected.
    pub(super) fn judge(&mut self, options: &Options) -> Option<Facts> {
        self.shapes(&[
            (keys(&["metadata"]), Shape::Mapping),
            (keys(&["metadata", "annotations"]), Shape::Mapping),
            (keys(&["spec"]), Shape::Mapping),
            (keys(&["spec", "template"]), Shape::Mapping),
            (in_pod(&[]), Shape::Mapping),
            (in_pod(&["securityContext"]), Shape::Mapping),
            (in_pod(&["containers"]), Shape::List),
            (in_pod(&["initContainers"]), Shape::List),
            (in_pod(&["volumes"]), Shape::List),
        ]);
        self.running();
        self.foreign_names();
        self.network();
        self.retention();
        let set = self.name();
        let service = self.service();
        let container = self.container(options);
        let data = container.as_deref().and_then(|container| self.data(container, options));
        let run_as = container.as_deref().and_then(|container| self.run_as(container, options));
        if let Some(container) = &container {
            self.shapes(&[
                (in_container(container, &["securityContext"]), Shape::Mapping),
                (in_container(container, &["env"]), Shape::List),
                (in_container(container, &["volumeMounts"]), Shape::List),
            ]);
            self.in_the_way(container);
        }
        let grace = find(self.set, &in_pod(&["terminationGracePeriodSeconds"])).and_then(Value::whole);
        let account = find(self.set, &in_pod(&["serviceAccountName"])).and_then(Value::text);
        let facts = Facts {
            set: set?,
            service: service?,
            container: container?,
            claim_template: data.as_ref()?.0.clone(),
            data: data.as_ref()?.1.clone(),
            sub_path: data?.2,
            run_as: run_as?,
            grace: grace.and_then(|grace| u64::try_from(grace).ok()),
            account: account.filter(|account| !account.is_empty() && *account != "default").map(str::to_owned),
            has_group: find(self.set, &in_pod(&["securityContext", "fsGroup"])).is_some(),
        };
        self.faults.is_empty().then_some(facts)
    }

    /// Where something is put in, there is room for it: nothing yet, or a mapping or list as Kubernetes has it.
    fn shapes(&mut self, places: &[(Vec<Step>, Shape)]) {
        for (at, shape) in places {
            let rule = match (find(self.set, at), shape) {
                (None | Some(Value::Nothing | Value::Map(_)), Shape::Mapping) => continue,
                (None | Some(Value::Nothing | Value::List(_)), Shape::List) => continue,
                (Some(_), Shape::Mapping) => "be a mapping",
                (Some(_), Shape::List) => "be a list",
            };
            let found = "something else";
            self.refuse(at, FaultKind::WrongType, found, rule, "mend it: Kubernetes would not take it either");
        }
    }

    fn name(&mut self) -> Option<String> {
        let at = keys(&["metadata", "name"]);
        match find(self.set, &at).and_then(Value::text) {
            Some(name) if names::is_service(name) && name.len() <= names::MAX_SET_CHARS => Some(name.to_owned()),
            Some(name) => {
                let rule = format!(
                    "be 1 to {} lower-case letters, digits and dashes, beginning with a letter",
                    names::MAX_SET_CHARS
                );
                let found = quoted(name);
                self.refuse(&at, FaultKind::OutOfBounds, &found, &rule, "choose another name");
                None
            }
            None => {
                self.missing(&at, "be given: objects of the pilots are named after it", "name the set");
                None
            }
        }
    }

    /// A set that is in the cluster already.
    fn running(&mut self) {
        let at = keys(&["metadata", "uid"]);
        if self.had_pilots || find(self.set, &at).is_none() {
            return;
        }
        self.conflict(
            &at,
            "that of a set in the cluster",
            "be absent: pilots found a cluster on empty volumes only, and start no database on data of a cluster that they \
             did not found",
            "inject into the file of a new set, and bring the data over (a second data centre, or a backup)",
        );
        let at = keys(&["spec", "podManagementPolicy"]);
        if find(self.set, &at).and_then(Value::text) != Some("Parallel") {
            self.conflict(
                &at,
                "not Parallel in the cluster",
                "be Parallel, and Kubernetes changes it in no set that is there",
                "`kubectl delete statefulset NAME --cascade=orphan` leaves pods and claims, then apply the injected file",
            );
        }
    }

    /// Containers and volumes that have our names without being ours.
    fn foreign_names(&mut self) {
        for kind in ["initContainers", "containers"] {
            for name in [pod::PILOT, pod::INSTALL] {
                let mut at = in_pod(&[kind]);
                at.push(Step::named(name));
                if find(self.set, &at).is_some() {
                    self.conflict(&at, "a container of yours", "be absent: the pilot's has this name", "rename yours");
                }
            }
        }
        for name in [pod::BIN, pod::RUN, pod::POLICY, pod::SETTINGS, pod::KEYS, pod::TOKEN] {
            let mut at = in_pod(&["volumes"]);
            at.push(Step::named(name));
            if find(self.set, &at).is_some() {
                self.conflict(&at, "a volume of yours", "be absent: one of the pilot's has this name", "rename yours");
            }
        }
    }

    fn network(&mut self) {
        let at = in_pod(&["hostNetwork"]);
        if find(self.set, &at) == Some(&Value::Flag(true)) {
            let rule = format!(
                "be false: pilots of two sets on one node would take each other's ports ({}, {}, {})",
                pod::HTTP_PORT,
                pod::STREAM_PORT,
                pod::GOSSIP_PORT
            );
            self.conflict(&at, "true", &rule, "remove it");
        }
        for kind in ["initContainers", "containers"] {
            for container in self.set.list_at(&["spec", "template", "spec", kind]) {
                for port in container.list_at(&["ports"]) {
                    let number = port.at(&["containerPort"]).and_then(Value::whole);
                    let ours = [pod::HTTP_PORT, pod::STREAM_PORT, pod::GOSSIP_PORT];
                    if let Some(number) = number.filter(|number| ours.iter().any(|port| i128::from(*port) == *number)) {
                        let mut at = in_pod(&[kind]);
                        at.push(Step::named(container.name().unwrap_or_default()));
                        at.push(Step::key("ports"));
                        let found = number.to_string();
                        self.conflict(&at, &found, "be another port: the pilot listens there", "move yours");
                    }
                }
            }
        }
    }

    fn retention(&mut self) {
        for when in ["whenDeleted", "whenScaled"] {
            let at = keys(&["spec", "persistentVolumeClaimRetentionPolicy", when]);
            if find(self.set, &at).and_then(Value::text) == Some("Delete") {
                let remedy = "write Retain, and delete claims yourself when you are sure";
                self.conflict(&at, "Delete", "be Retain: a leave that is cut off is resumed on its data", remedy);
            }
        }
    }

    fn service(&mut self) -> Option<String> {
        let at = keys(&["spec", "serviceName"]);
        let Some(name) = find(self.set, &at).and_then(Value::text).filter(|name| !name.is_empty()) else {
            let remedy = "name a headless Service with publishNotReadyAddresses: true, and make it";
            self.missing(&at, "be given: pilots find each other through it", remedy);
            return None;
        };
        let name = name.to_owned();
        let is_it = |object: &&&Map| {
            object.get("kind").and_then(Value::text) == Some("Service")
                && object.get("metadata").and_then(Value::name) == Some(name.as_str())
        };
        if let Some(service) = self.others.iter().find(is_it) {
            let spec = service.get("spec");
            let says = |key: &str| spec.and_then(|spec| spec.at(&[key]));
            let headless = says("clusterIP").and_then(Value::text) == Some("None");
            if !headless || says("publishNotReadyAddresses") != Some(&Value::Flag(true)) {
                self.conflict(
                    &at,
                    &format!(
                        "the Service {name} of this file, which is not headless or hides members that are not ready"
                    ),
                    "be a Service with clusterIP: None and publishNotReadyAddresses: true: no pilot would find another \
                     before the first database serves",
                    "write both into it; clients that want ready members only need a second Service",
                );
            }
        }
        Some(name)
    }

    /// The database's container.
    fn container(&mut self, options: &Options) -> Option<String> {
        let at = in_pod(&["containers"]);
        let containers: Vec<(String, String)> = self
            .set
            .list_at(&["spec", "template", "spec", "containers"])
            .iter()
            .filter_map(|c| Some((c.name()?.to_owned(), c.text_at(&["image"]).unwrap_or_default().to_owned())))
            .collect();
        let names: Vec<&str> = containers.iter().map(|(name, _)| name.as_str()).collect();
        if containers.is_empty() {
            self.missing(&at, "have the database's container", "is this the right StatefulSet?");
            return None;
        }
        let chosen = match &options.container {
            Some(wanted) => match containers.iter().find(|(name, _)| name == wanted) {
                Some(found) => found.clone(),
                None => {
                    let rule = format!("have the container that --container names, {wanted}");
                    self.conflict(&at, &names.join(", "), &rule, "name one of these");
                    return None;
                }
            },
            None => {
                let cassandra = |(_, name): &&(String, String)| !matches!(image(name), Image::Unknown);
                let mut candidates: Vec<_> = containers.iter().filter(cassandra).collect();
                if let ([], [_]) = (candidates.as_slice(), containers.as_slice()) {
                    candidates = containers.iter().collect();
                }
                let [one] = candidates.as_slice() else {
                    let (found, rule) = if candidates.is_empty() {
                        (names.join(", "), "have one that runs a known database image")
                    } else {
                        let names: Vec<&str> = candidates.iter().map(|(name, _)| name.as_str()).collect();
                        (names.join(", "), "have one database only")
                    };
                    self.conflict(&at, &found, rule, "name the database's with --container");
                    return None;
                };
                (*one).clone()
            }
        };
        self.known(&chosen, options).then_some(chosen.0)
    }

    fn known(&mut self, (container, name): &(String, String), options: &Options) -> bool {
        let at = in_container(container, &["image"]);
        if options.known_layout {
            return true;
        }
        let found = quoted(name);
        let laid_out = "if it is laid out like the official image (`cassandra` and `nodetool` in PATH, /etc/cassandra), say so \
                        with --database cassandra";
        match image(name) {
            Image::Official => return true,
            Image::Version(tag) => {
                let found = quoted(&tag);
                self.conflict(&at, &found, "be Cassandra 5.0: other versions have no driver yet", "use a 5.0 image");
            }
            Image::Other => {
                let rule = "be laid out like the official image: this one keeps its configuration elsewhere";
                self.conflict(&at, &found, rule, "use cassandra:5.0");
            }
            Image::Unknown => self.conflict(&at, &found, "be a known database image: cassandra", laid_out),
        }
        false
    }

    /// Claim template, mount path and part of the volume.
    fn data(&mut self, container: &str, options: &Options) -> Option<(String, String, Option<String>)> {
        let templates: Vec<&str> = self
            .set
            .list_at(&["spec", "volumeClaimTemplates"])
            .iter()
            .filter_map(|template| template.text_at(&["metadata", "name"]))
            .collect();
        let mounts_at = in_container(container, &["volumeMounts"]);
        let none = Vec::new();
        let mounts = match find(self.set, &mounts_at) {
            Some(Value::List(mounts)) => mounts,
            Some(_) | None => &none,
        };
        let of_claims: Vec<&Value> = mounts
            .iter()
            .filter(|mount| mount.name().is_some_and(|name| templates.contains(&name)))
            .filter(|mount| options.claim_template.as_deref().is_none_or(|wanted| mount.name() == Some(wanted)))
            .collect();
        let usual: Vec<&Value> =
            of_claims.iter().filter(|mount| mount.text_at(&["mountPath"]) == Some(DATA_AT)).copied().collect();
        let chosen = match (of_claims.as_slice(), usual.as_slice()) {
            ([one], _) | (_, [one]) => one,
            ([], _) => {
                self.no_claim(container, mounts, options);
                return None;
            }
            (several, _) => {
                let names: Vec<&str> = several.iter().filter_map(|mount| mount.name()).collect();
                let remedy = "name the data's with --claim-template";
                self.conflict(&mounts_at, &names.join(", "), "have the data on one claim", remedy);
                return None;
            }
        };
        let path = chosen.text_at(&["mountPath"])?.trim_end_matches('/').to_owned();
        if chosen.at(&["subPathExpr"]).is_some() || chosen.at(&["readOnly"]) == Some(&Value::Flag(true)) {
            let rule =
                "be writable, and the whole volume or a fixed part of it: the pilot keeps its memory beside the data";
            self.conflict(&mounts_at, "read-only, or a part named by a variable", rule, "mount it plainly");
        }
        Some((chosen.name()?.to_owned(), path, chosen.text_at(&["subPath"]).map(str::to_owned)))
    }

    fn no_claim(&mut self, container: &str, mounts: &[Value], options: &Options) {
        let at = keys(&["spec", "volumeClaimTemplates"]);
        let remedy = format!("add a template, and mount it at {DATA_AT} in container {container}");
        let on = mounts.iter().find(|mount| mount.text_at(&["mountPath"]) == Some(DATA_AT)).and_then(Value::name);
        let volumes = self.set.list_at(&["spec", "template", "spec", "volumes"]);
        let volume = volumes.iter().find(|volume| on.is_some() && volume.name() == on);
        match (volume, &options.claim_template) {
            (Some(volume), _) if volume.at(&["emptyDir"]).is_some() => {
                let mut at = in_pod(&["volumes"]);
                at.push(Step::named(on.unwrap_or_default()));
                let rule = "be no emptyDir: its data is lost with the pod, and a member without its data is a dead one";
                self.conflict(&at, "where the data lies", rule, &remedy);
            }
            (_, Some(wanted)) => {
                let rule = "have the template of --claim-template, mounted in the database's container";
                self.conflict(&at, &format!("without {wanted}"), rule, "correct the name, or mount it");
            }
            (Some(_) | None, None) => {
                self.missing(&at, "give each member a claim of its own that holds its data", &remedy);
            }
        }
    }

    /// User and group of the database's container: Cassandra refuses to run as root, and the image's own entry point, which
    /// would change the user, is not run.
    fn run_as(&mut self, container: &str, options: &Options) -> Option<Map> {
        let mut own = Map::default();
        let mut user = None;
        for name in ["runAsUser", "runAsGroup"] {
            let of_container = find(self.set, &in_container(container, &["securityContext", name]));
            let of_pod = find(self.set, &in_pod(&["securityContext", name]));
            if let Some(value) = of_container {
                own.set(name, value.clone());
            }
            if name == "runAsUser" {
                user = of_container.or(of_pod).and_then(Value::whole);
            }
        }
        let at = in_container(container, &["securityContext", "runAsUser"]);
        match user {
            Some(0) => {
                self.conflict(
                    &at,
                    "0",
                    "be no root: Cassandra refuses to run as root",
                    "write the image's user; the official one is 999",
                );
                None
            }
            Some(_) => Some(own),
            None if options.known_layout => {
                let rule = "be given: the image's entry point, which would choose it, is not run";
                self.missing(&at, rule, "write the image's user; the official one is 999");
                None
            }
            None => {
                for name in ["runAsUser", "runAsGroup"] {
                    own.set(name, Value::Whole(CASSANDRA_USER));
                }
                Some(own)
            }
        }
    }

    /// What of the database's container stands where ours must.
    fn in_the_way(&mut self, container: &str) {
        for path in [pod::BIN_AT, pod::RUN_AT] {
            let mut at = in_container(container, &["volumeMounts"]);
            at.push(Step::item("mountPath", path));
            if find(self.set, &at).is_some() {
                self.conflict(&at, "a mount of yours", "be free: the pilot's volume is mounted there", "move yours");
            }
        }
        let mut at = in_container(container, &["env"]);
        at.push(Step::named("POD_UID"));
        if let Some(variable) = find(self.set, &at)
            && variable.text_at(&["valueFrom", "fieldRef", "fieldPath"]) != Some("metadata.uid")
        {
            let remedy = "take it from the downward API, or rename yours";
            self.conflict(&at, "something else", "be the pod's uid: the launcher goes by it", remedy);
        }
    }
}
