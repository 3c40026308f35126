//! Brings pilots into a StatefulSet that somebody has already, and takes them out again.
//!
//! What is replaced is kept in an annotation of the set, so that taking them out gives back what was there. Injecting is
//! taking out what an earlier injection put in, then putting in what this version puts in: twice is the same as once.

mod database;
pub mod edit;
mod facts;
mod file;

pub use file::{Done, inject_file, remove_file};

use crate::manifest::print::PrintError;
use crate::manifest::tree::{Map, Value};
use crate::names;
use crate::pod::{self, PilotParts, Sidecar};
use edit::{Editor, Step, find, keys, record, recorded, undo};
use facts::{Facts, Judge, in_container, in_pod};
use policies::fault::{Fault, FaultKind, Position};
use serde::Serialize;

/// The annotation of the set that keeps what was replaced.
pub const INJECTED: &str = "pilotmesh.io/injected";

/// The shortest grace period that leaves time to stream data away, in seconds; more is left as it is.
pub const GRACE: u64 = 300;

/// What of the injection is for the user to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The pilot's image.
    pub image: String,
    /// When it is pulled.
    pub pull_policy: Option<String>,
    /// Which StatefulSet, where the file has several.
    pub set: Option<String>,
    /// The database's container, where it is not plain which one it is.
    pub container: Option<String>,
    /// The claim template of the data, likewise.
    pub claim_template: Option<String>,
    /// The image is laid out like the official one, whatever its name.
    pub known_layout: bool,
    /// How the sidecar runs.
    pub sidecar: Sidecar,
    /// The ConfigMap with the policy; default: the set's name and `-policy`.
    pub policy: Option<String>,
    /// The ConfigMap with the driver's settings; none drives a stock image.
    pub settings: Option<String>,
    /// The Secret with the mesh keys; default: the set's name and `-mesh-keys`.
    pub keys: Option<String>,
}

/// A set with pilots.
#[derive(Debug, Clone, PartialEq)]
pub struct Injected {
    /// The set.
    pub object: Map,
    /// What of the user's own is no longer used, and what else to know.
    pub notes: Vec<String>,
}

/// A set without pilots.
#[derive(Debug, Clone, PartialEq)]
pub struct Removed {
    /// The set.
    pub object: Map,
    /// What could not be put back, because its place is gone.
    pub notes: Vec<String>,
}

/// Variables that have no effect under a pilot: most of them the official image's entry point writes into
/// `cassandra.yaml`. With what takes their place.
const DEAD_VARIABLES: [(&str, &str); 10] = [
    ("CASSANDRA_SEEDS", "the pilots know the members"),
    ("CASSANDRA_BROADCAST_ADDRESS", "the pilot takes the pod's address"),
    ("CASSANDRA_BROADCAST_RPC_ADDRESS", "the pilot takes the pod's address"),
    ("CASSANDRA_LISTEN_ADDRESS", "the pilot takes the pod's address"),
    ("CASSANDRA_RPC_ADDRESS", "the pilot takes the pod's address"),
    ("CASSANDRA_START_RPC", "it has no meaning since Cassandra 4"),
    ("CASSANDRA_ENDPOINT_SNITCH", "the pilot sets GossipingPropertyFileSnitch"),
    ("CASSANDRA_NUM_TOKENS", "write num_tokens into `overrides` of the driver's settings (--settings-configmap)"),
    ("JVM_EXTRA_OPTS", "write it into jvm_options of the driver's settings (--settings-configmap)"),
    (
        "CASSANDRA_CONF",
        "the pilot starts from /etc/cassandra, or from what run.image.conf of the driver's settings says",
    ),
];

/// Brings pilots into a set. `others` are the objects in the same file, `place` tells where something stands in it.
///
/// # Errors
/// With every reason why it cannot be done safely.
pub fn inject(
    object: &Map,
    others: &[&Map],
    place: &dyn Fn(&[Step]) -> Position,
    options: &Options,
) -> Result<Injected, Vec<Fault>> {
    let had_pilots = annotation(object).is_some();
    let Removed { object, mut notes } = remove(object, place)?;
    let root = Value::Map(object);
    let mut judge = Judge { set: &root, others, place, faults: Vec::new(), had_pilots };
    let facts = judge.judge(options);
    let Some(facts) = facts else { return Err(judge.faults) };
    let Value::Map(object) = root else { return Err(Vec::new()) };
    let mut work = Work { editor: Editor::new(object), notes: Vec::new(), container: facts.container.clone() };
    work.bring(&facts, options, had_pilots);
    notes.extend(work.notes);
    let (mut object, log) = work.editor.finish();
    if let Some(annotations) = object
        .get_mut("metadata")
        .and_then(Value::map_mut)
        .and_then(|m| m.get_mut("annotations"))
        .and_then(Value::map_mut)
    {
        annotations.set(INJECTED, json(&record(&log)).map_err(|error| vec![unwritable(&error)])?);
    }
    Ok(Injected { object, notes })
}

/// Takes pilots out of a set again; a set without any is given back as it is.
///
/// # Errors
/// When the annotation that keeps what was replaced cannot be understood.
pub fn remove(object: &Map, place: &dyn Fn(&[Step]) -> Position) -> Result<Removed, Vec<Fault>> {
    let Some(kept) = annotation(object) else {
        return Ok(Removed { object: object.clone(), notes: Vec::new() });
    };
    // JSON is YAML as well.
    let log = policies::file::read_object(kept).ok().and_then(|node| recorded(&Value::from(&node)));
    let Some(log) = log else {
        let at = keys(&["metadata", "annotations", INJECTED]);
        return Err(vec![Fault {
            at: place(&at),
            path: edit::written(&at),
            kind: FaultKind::WrongType,
            found: "not readable".into(),
            rule: "be what `pilot inject` wrote there".into(),
            remedy: "restore it from your file's history: it holds what was replaced".into(),
        }]);
    };
    let mut object = object.clone();
    if let Some(annotations) = object
        .get_mut("metadata")
        .and_then(Value::map_mut)
        .and_then(|m| m.get_mut("annotations"))
        .and_then(Value::map_mut)
    {
        annotations.remove(INJECTED);
    }
    let (object, lost) = undo(object, &log);
    let notes =
        lost.into_iter().map(|path| format!("{path} is gone, so what it was before could not be put back")).collect();
    Ok(Removed { object, notes })
}

fn annotation(object: &Map) -> Option<&str> {
    object.get("metadata")?.text_at(&["annotations", INJECTED])
}

fn json(value: &impl Serialize) -> Result<String, PrintError> {
    // With a line's end: so that it is printed as it is, not as one text in quotes with every quote of it escaped.
    serde_json::to_string(value).map(|text| format!("{text}\n")).map_err(|error| PrintError::new(&error))
}

fn unwritable(error: &PrintError) -> Fault {
    Fault {
        at: Position::START,
        path: String::new(),
        kind: FaultKind::Syntax,
        found: format!("not to be written ({error})"),
        rule: "be a Kubernetes object".into(),
        remedy: "report this as a fault of pilot, with the file".into(),
    }
}

struct Work {
    editor: Editor,
    notes: Vec<String>,
    container: String,
}

impl Work {
    fn bring(&mut self, facts: &Facts, options: &Options, had_pilots: bool) {
        let parts = self.parts(facts, options);
        self.editor.make(&keys(&["metadata", "annotations"]), &Value::Map(Map::default()));
        let manages = keys(&["spec", "podManagementPolicy"]);
        if !had_pilots && find(self.editor.root(), &manages).and_then(Value::text) != Some("Parallel") {
            self.notes.push(format!(
                "spec.podManagementPolicy becomes Parallel. Kubernetes changes it in no set that is there: if {} is, \
                 `kubectl delete statefulset {0} --cascade=orphan` first; but see that its volumes are empty, for pilots start \
                 no database on data of a cluster that they did not found",
                facts.set
            ));
        }
        for entry in PilotParts::set_rules().entries() {
            self.editor.set(&keys(&["spec", &entry.key]), entry.value.clone());
        }
        self.pod(facts, &parts);
        self.database(facts, &parts);
        let list = match options.sidecar {
            Sidecar::Native => "initContainers",
            Sidecar::Plain => "containers",
        };
        self.editor.append(&in_pod(&["initContainers"]), "name", parts.install());
        self.editor.append(&in_pod(&[list]), "name", parts.agent());
        for volume in parts.volumes() {
            self.editor.append(&in_pod(&["volumes"]), "name", volume);
        }
    }

    fn parts(&mut self, facts: &Facts, options: &Options) -> PilotParts {
        PilotParts {
            set: facts.set.clone(),
            image: options.image.clone(),
            pull_policy: options.pull_policy.clone(),
            sidecar: options.sidecar,
            service: facts.service.clone(),
            claim_template: facts.claim_template.clone(),
            data: facts.data.clone(),
            sub_path: facts.sub_path.clone(),
            grace: facts.grace.unwrap_or_default().max(GRACE),
            policy: options.policy.clone().unwrap_or_else(|| names::policy(&facts.set)),
            settings: options.settings.clone(),
            keys: options.keys.clone().unwrap_or_else(|| names::keys(&facts.set)),
            credentials: None,
            cluster_name: self.taken_over("CASSANDRA_CLUSTER_NAME", "--cluster-name"),
            data_center: self.taken_over("CASSANDRA_DC", "--data-center"),
            rack: self.taken_over("CASSANDRA_RACK", "--rack"),
            run_as: facts.run_as.clone(),
            resources: pod::resources(),
        }
    }

    /// The value of a variable by which the image's entry point would have gone: it becomes an argument of the pilot.
    fn taken_over(&mut self, variable: &str, argument: &str) -> Option<String> {
        let mut at = in_container(&self.container, &["env"]);
        at.push(Step::named(variable));
        let found = find(self.editor.root(), &at)?;
        match found.text_at(&["value"]) {
            Some(value) => Some(value.to_owned()),
            None => {
                self.notes.push(format!(
                    "variable {variable} is no plain value and has no effect: give the pilot {argument} yourself"
                ));
                None
            }
        }
    }

    fn pod(&mut self, facts: &Facts, parts: &PilotParts) {
        match &facts.account {
            Some(account) => self.notes.push(format!(
                "the pods keep their account {account}: give it the pilots' rights with `pilot rbac {} --service-account {account}`",
                facts.set
            )),
            None => {
                self.editor.set(&in_pod(&["serviceAccountName"]), names::account(&facts.set));
                self.editor.set(&in_pod(&["automountServiceAccountToken"]), false);
            }
        }
        self.editor.set(&in_pod(&["terminationGracePeriodSeconds"]), parts.grace);
        if let Some(group) = &facts.volume_group {
            self.editor.set(&in_pod(&["securityContext", "fsGroup"]), group.clone());
            self.editor.set(&in_pod(&["securityContext", "fsGroupChangePolicy"]), "OnRootMismatch");
        }
    }

    fn database(&mut self, facts: &Facts, parts: &PilotParts) {
        let container = facts.container.as_str();
        for what in ["command", "args"] {
            if let Some(Value::List(words)) = find(self.editor.root(), &in_container(container, &[what])) {
                let words: Vec<&str> = words.iter().filter_map(Value::text).collect();
                let shown: String = words.join(" ").chars().take(80).filter(|c| !c.is_control()).collect();
                self.notes.push(format!(
                    "{what} of container {container} (`{shown}`) is not run: the launcher starts `cassandra -f` when the pilot says \
                     that it may. What it set belongs into the driver's settings (--settings-configmap)"
                ));
            }
        }
        self.editor.set(&in_container(container, &["command"]), parts.launch_command());
        self.editor.set(&in_container(container, &["args"]), parts.launch_args());
        for (what, why) in [
            ("startupProbe", "a member that waits or joins is not to be killed"),
            ("livenessProbe", "the launcher restarts a database that crashed, and nothing is killed for being slow"),
            ("readinessProbe", "the pilot's says whether its database serves"),
            ("lifecycle", "the launcher drains, or lets the member leave, when the pod ends"),
        ] {
            if self.editor.remove(&in_container(container, &[what])).is_some() {
                self.notes.push(format!("{what} of container {container} is taken out: {why}"));
            }
        }
        for (variable, instead) in DEAD_VARIABLES {
            let mut at = in_container(container, &["env"]);
            at.push(Step::named(variable));
            if find(self.editor.root(), &at).is_some() {
                self.notes.push(format!("variable {variable} has no effect: {instead}"));
            }
        }
        let mut heap = in_container(container, &["env"]);
        heap.push(Step::named("MAX_HEAP_SIZE"));
        if parts.settings.is_none() && find(self.editor.root(), &heap).is_none() {
            self.notes.push(format!(
                "nothing says how large the heap of container {container} is, so Cassandra goes by the memory of the whole node: \
                 set variable MAX_HEAP_SIZE, or heap in the driver's settings (--settings-configmap)"
            ));
        }
        let mut uid = in_container(container, &["env"]);
        uid.push(Step::named("POD_UID"));
        if find(self.editor.root(), &uid).is_none() {
            self.editor.append(&in_container(container, &["env"]), "name", parts.launch_env());
        }
        for entry in facts.run_as.entries() {
            self.editor.set(&in_container(container, &["securityContext", &entry.key]), entry.value.clone());
        }
        for mount in parts.launch_mounts() {
            self.editor.append(&in_container(container, &["volumeMounts"]), "mountPath", mount);
        }
    }
}
