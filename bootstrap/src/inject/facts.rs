//! What of a StatefulSet decides whether pilots may be brought into it, and every reason why not.

use super::Options;
use super::edit::{Step, find, keys, written};
use crate::manifest::tree::{Map, Value};
use crate::names;
use crate::pod;
use policies::fault::{Fault, FaultKind, Position, quoted};

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
    /// The group that its volumes get, where its pod names none: the Secret with the keys is readable by it only.
    pub(super) volume_group: Option<Value>,
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

impl Judge<'_> {
    pub(super) fn refuse(&mut self, at: &[Step], kind: FaultKind, found: &str, rule: &str, remedy: &str) {
        self.faults.push(Fault {
            at: (self.place)(at),
            path: written(at),
            kind,
            found: found.into(),
            rule: rule.into(),
            remedy: remedy.into(),
        });
    }

    pub(super) fn conflict(&mut self, at: &[Step], found: &str, rule: &str, remedy: &str) {
        self.refuse(at, FaultKind::Conflict, found, rule, remedy);
    }

    pub(super) fn missing(&mut self, at: &[Step], rule: &str, remedy: &str) {
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
            run_as: run_as.as_ref()?.0.clone(),
            grace: grace.and_then(|grace| u64::try_from(grace).ok()),
            account: account.filter(|account| !account.is_empty() && *account != "default").map(str::to_owned),
            volume_group: run_as?.1,
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
