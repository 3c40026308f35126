//! `pilot render`, `pilot inject`, `pilot rbac`: what brings pilots into people's manifests. Nothing here talks to a
//! cluster: files go in, objects come out, and `kubectl apply` is yours.

use super::{Done, say};
use bootstrap::cluster::{self, CassandraCluster};
use bootstrap::inject::{Options, inject_file, remove_file};
use bootstrap::labels::Labels;
use bootstrap::manifest::{Map, print};
use bootstrap::pod::Sidecar;
use bootstrap::rbac::{self, Subject};
use clap::{Args, ValueEnum};
use std::io::Read;

/// Larger files are no manifests.
const LONGEST: u64 = 32 * 1024 * 1024;

/// The form of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// YAML documents.
    Yaml,
    /// One JSON document; a list where there are several objects.
    Json,
}

/// `pilot rbac`.
#[derive(Debug, Args)]
pub struct RbacArgs {
    /// The StatefulSet.
    pub set: String,
    /// Its namespace. Without it, the objects go where `kubectl apply` is told to put them.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// An account that is there already and gets the rights. Without it one is made.
    #[arg(long, value_name = "NAME")]
    pub service_account: Option<String>,
    /// The form.
    #[arg(short, long, value_enum, default_value_t = Form::Yaml)]
    pub output: Form,
}

/// `pilot render`.
#[derive(Debug, Args)]
pub struct RenderArgs {
    /// The cluster document; `-` for the standard input.
    #[arg(short, long, value_name = "FILE", required_unless_present = "schema")]
    pub file: Option<String>,
    /// Prints the document's JSON schema instead.
    #[arg(long, conflicts_with = "file")]
    pub schema: bool,
    /// The form.
    #[arg(short, long, value_enum, default_value_t = Form::Yaml)]
    pub output: Form,
}

/// `pilot inject`.
#[derive(Debug, Args)]
pub struct InjectArgs {
    /// A file with the StatefulSet, other objects beside it pass as they are; `-` for the standard input.
    #[arg(short, long, value_name = "FILE")]
    pub file: String,
    /// The pilot's image.
    #[arg(long, env = "PILOT_IMAGE", value_name = "IMAGE", required_unless_present = "remove")]
    pub image: Option<String>,
    /// Takes the pilots out again: gives back what was there before.
    #[arg(long)]
    pub remove: bool,
    /// Shows what would change, as a unified diff, and changes nothing.
    #[arg(long)]
    pub diff: bool,
    /// Which StatefulSet, where the file has several.
    #[arg(long, value_name = "NAME")]
    pub set: Option<String>,
    /// The database's container, where it is not plain which one it is.
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    /// The claim template of the data, where the database mounts several.
    #[arg(long, value_name = "NAME")]
    pub claim_template: Option<String>,
    /// Says that the database's image is laid out like the official one of this database, whatever its name.
    #[arg(long, value_parser = ["cassandra"])]
    pub database: Option<String>,
    /// The pilot as an ordinary container: for clusters without native sidecars.
    #[arg(long)]
    pub plain_container: bool,
    /// The ConfigMap with `policy.yaml`. Default: the set's name and `-policy`.
    #[arg(long, value_name = "NAME")]
    pub policy_configmap: Option<String>,
    /// The ConfigMap with `driver.yaml`, the settings of the database's driver. Without it a stock image is driven.
    #[arg(long, value_name = "NAME")]
    pub settings_configmap: Option<String>,
    /// The Secret with the mesh keys. Default: the set's name and `-mesh-keys`.
    #[arg(long, value_name = "NAME")]
    pub keys_secret: Option<String>,
    /// When the pilot's image is pulled.
    #[arg(long, value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: Option<String>,
    /// The form.
    #[arg(short, long, value_enum, default_value_t = Form::Yaml, conflicts_with = "diff")]
    pub output: Form,
}

/// What a command has to tell: the objects on the standard output, remarks on the standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// For the standard output.
    pub out: String,
    /// For the standard error, one a line.
    pub remarks: Vec<String>,
}

/// Tells what came of a command.
pub(super) fn tell(told: Result<Told, String>) -> Done {
    let Told { out, remarks } = told?;
    say(&out)?;
    remarks.iter().for_each(|remark| eprintln!("pilot: {remark}"));
    Ok(0)
}

/// Where the text comes from; the text and what to call it.
pub(super) fn read(file: &str) -> Result<(String, String), String> {
    let failed = |error: std::io::Error| format!("cannot read {file}: {error}");
    let mut text = String::new();
    if file == "-" {
        std::io::stdin().lock().take(LONGEST).read_to_string(&mut text).map_err(failed)?;
        return Ok((text, "standard input".to_owned()));
    }
    std::fs::File::open(file).map_err(failed)?.take(LONGEST).read_to_string(&mut text).map_err(failed)?;
    Ok((text, file.to_owned()))
}

fn objects(objects: &[Map], form: Form) -> Result<String, String> {
    match form {
        Form::Yaml => print::yaml(objects),
        Form::Json => print::json(objects),
    }
    .map_err(|error| error.to_string())
}

/// Rights of a set's pilots.
///
/// # Errors
/// When a name is none that Kubernetes takes.
pub fn rbac(args: RbacArgs) -> Result<Told, String> {
    let rule = "must be lower-case letters, digits and dashes, without a dash at either end: correct it";
    let label = bootstrap::names::is_label;
    let mut faults = Vec::new();
    if !bootstrap::names::is_service(&args.set) || args.set.len() > bootstrap::names::MAX_SET_CHARS {
        let most = bootstrap::names::MAX_SET_CHARS;
        faults.push(format!("SET is `{}` but {rule}, at most {most} and beginning with a letter", args.set));
    }
    for (flag, name) in [("--namespace", &args.namespace), ("--service-account", &args.service_account)] {
        if let Some(name) = name.as_ref().filter(|name| !name.split('.').all(label)) {
            faults.push(format!("{flag} is `{name}` but {rule}"));
        }
    }
    if !faults.is_empty() {
        return Err(faults.join("\n  "));
    }
    let labels = Labels::cassandra(&args.set);
    let subject = Subject { set: args.set, namespace: args.namespace, account: args.service_account };
    Ok(Told { out: objects(&rbac::objects(&subject, &labels), args.output)?, remarks: Vec::new() })
}

/// All objects of a cluster, from the text of its document.
///
/// # Errors
/// With every fault of the document.
pub fn render(text: &str, source: &str, form: Form) -> Result<Told, String> {
    let cluster = CassandraCluster::parse(text, source).map_err(|faults| faults.to_string())?;
    let rendered = cluster::render(&cluster).map_err(|error| error.to_string())?;
    Ok(Told { out: objects(&rendered, form)?, remarks: Vec::new() })
}

pub(super) fn run_render(args: RenderArgs) -> Result<Told, String> {
    match args.file {
        Some(file) => {
            let (text, source) = read(&file)?;
            render(&text, &source, args.output)
        }
        None => {
            let schema = cluster::schema::schema();
            let text = serde_json::to_string_pretty(&schema).map_err(|error| error.to_string())?;
            Ok(Told { out: format!("{text}\n"), remarks: Vec::new() })
        }
    }
}

/// A file with pilots, or without them again.
///
/// # Errors
/// With every reason why it cannot be done safely.
pub fn inject(args: &InjectArgs, text: &str, source: &str) -> Result<Told, String> {
    let done = if args.remove {
        remove_file(text, source, args.set.as_deref())
    } else {
        inject_file(text, source, &options(args))
    };
    let done = done.map_err(|faults| faults.to_string())?;
    let mut remarks = done.notes;
    if !args.remove {
        let set = &done.set;
        let keys = args.keys_secret.clone().unwrap_or_else(|| bootstrap::names::keys(set));
        let policy = args.policy_configmap.clone().unwrap_or_else(|| bootstrap::names::policy(set));
        remarks.push(format!(
            "before the set is applied its namespace needs: the rights (`pilot rbac {set} | kubectl apply -f -`), the Secret \
             {keys} (`kubectl create secret generic {keys} --from-literal=first=\"$(openssl rand -base64 32)\"`) and the \
             ConfigMap {policy} (`kubectl create configmap {policy} --from-file=policy.yaml`)"
        ));
    }
    let out = if args.diff {
        let name = if args.remove { "without pilots" } else { "with pilots" };
        let diff = similar::TextDiff::from_lines(&done.before, &done.after);
        diff.unified_diff().context_radius(3).header(source, &format!("{source} {name}")).to_string()
    } else {
        match args.output {
            Form::Yaml => done.after,
            Form::Json => objects(&done.objects, Form::Json)?,
        }
    };
    Ok(Told { out, remarks })
}

pub(super) fn run_inject(args: &InjectArgs) -> Result<Told, String> {
    let (text, source) = read(&args.file)?;
    inject(args, &text, &source)
}

fn options(args: &InjectArgs) -> Options {
    Options {
        image: args.image.clone().unwrap_or_default(),
        pull_policy: args.image_pull_policy.clone(),
        set: args.set.clone(),
        container: args.container.clone(),
        claim_template: args.claim_template.clone(),
        known_layout: args.database.is_some(),
        sidecar: if args.plain_container { Sidecar::Plain } else { Sidecar::Native },
        policy: args.policy_configmap.clone(),
        settings: args.settings_configmap.clone(),
        keys: args.keys_secret.clone(),
    }
}
