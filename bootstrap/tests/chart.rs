//! The Helm chart: with a real Helm it makes what `pilot render` makes of the same words, and refuses what that refuses.
//!
//! Where there is no Helm these tests say `NOT SHOWN`. `PILOT_FETCH_HELM=1` has one built (`.ci/helm`).

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use bootstrap::chart::values_schema;
use bootstrap::cluster::{CassandraCluster, render};
use bootstrap::manifest::print;
use bootstrap::rights::rules;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

mod support;
use support::pinned;

const EXAMPLE: &str = include_str!("../../docs/examples/cassandra.yaml");
const EVERYTHING: &str = include_str!("golden/everything.yaml");
const LEAST: &str = "apiVersion: pilotmesh.io/v1alpha1\nkind: CassandraCluster\nmetadata: {name: a}\nspec:\n  members: 1\n  pilot: {image: p}\n  storage: {size: 1Gi}\n  resources: {limits: {memory: 1Gi}}\n";
const NAMESPACE: &str = "shop";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where Helm is, or why there is none.
static HELM: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    let mut finder = Command::new(root().join(".ci/helm"));
    if std::env::var_os("PILOT_FETCH_HELM").is_none() {
        finder.arg("present");
    }
    let output = finder.output().map_err(|error| format!(".ci/helm: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout).into()) } else { Err(text(&output.stderr)) }
});

/// Helm; without one it is said, past the test runner, that this test shows nothing.
fn helm(what: &str) -> Option<Command> {
    match &*HELM {
        Ok(program) => Some(Command::new(program)),
        Err(why) => {
            // Not by a macro: what those print is kept back by the test runner as long as the test passes.
            let line = format!("NOT SHOWN: 1 test: the Helm chart, {what}: {why}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            None
        }
    }
}

/// What `helm template` makes of these values, or what it says against them.
fn template(mut helm: Command, release: &str, values: &str) -> Result<String, String> {
    let home = std::env::temp_dir().join("pilotmesh-chart-test");
    let mut child = helm
        .args(["template", release, "chart", "--namespace", NAMESPACE, "--kube-version", "1.37.0", "--values", "-"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("HELM_CACHE_HOME", home.join("cache"))
        .env("HELM_CONFIG_HOME", home.join("config"))
        .env("HELM_DATA_HOME", home.join("data"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(values.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn objects(text: &str) -> Vec<Value> {
    let documents = text.split("\n---\n").map(|text| text.trim_start_matches("---\n"));
    let has_words = |text: &&str| text.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#'));
    documents
        .filter(has_words)
        .map(|text| serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}")))
        .collect()
}

/// Objects by kind and name. What a ConfigMap holds as text is told as what the text says.
fn named(objects: impl IntoIterator<Item = Value>) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for mut object in objects {
        if object["kind"] == "ConfigMap" {
            for text in object["data"].as_object_mut().unwrap().values_mut() {
                *text = serde_saphyr::from_str(text.as_str().unwrap()).unwrap();
                if let Some(overrides) = text.get_mut("overrides") {
                    *overrides = serde_saphyr::from_str(overrides.as_str().unwrap()).unwrap();
                }
            }
        }
        let name = format!("{} {}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        assert!(all.insert(name.clone(), object).is_none(), "{name} twice");
    }
    all
}

fn is_hook(object: &Value) -> bool {
    object["metadata"]["annotations"]["helm.sh/hook"].is_string()
}

/// The values of a document: its `spec`, word for word.
fn values(document: &str) -> String {
    let document = bootstrap::manifest::read::objects(document, "document").unwrap().remove(0);
    match document.object.unwrap().get("spec") {
        Some(bootstrap::manifest::Value::Map(spec)) => print::document(spec).unwrap(),
        other => panic!("the spec is no mapping: {other:?}"),
    }
}

/// Helm's objects and the program's, of the same words, are the same but for what this tells.
fn same(helm: Command, document: &str) {
    let mut cluster = CassandraCluster::parse(document, "document").unwrap_or_else(|faults| panic!("{faults}"));
    cluster.metadata.namespace = Some(NAMESPACE.to_owned());
    let rendered = named(objects(&print::yaml(&render(&cluster).unwrap()).unwrap()));
    let text = template(helm, &cluster.metadata.name, &values(document)).unwrap_or_else(|e| panic!("{e}\n{document}"));
    let mut made = named(objects(&text).into_iter().filter(|object| !is_hook(object)));
    for (name, object) in &mut made {
        let labels = object["metadata"]["labels"].as_object_mut().unwrap();
        assert_eq!(labels.remove("app.kubernetes.io/managed-by"), Some(json!("Helm")), "{name}");
        assert_eq!(labels.remove("helm.sh/chart"), Some(json!("pilotmesh-cassandra-0.1.0")), "{name}");
        if object["kind"] == "StatefulSet" {
            assert_eq!(object["spec"].get("replicas"), None, "Helm would write it back");
            object["spec"]["replicas"] = json!(cluster.spec.members);
        }
    }
    assert_eq!(made.keys().collect::<Vec<_>>(), rendered.keys().collect::<Vec<_>>());
    for (name, object) in &rendered {
        let text = |object: &Value| serde_json::to_string_pretty(object).unwrap();
        let (here, there) = (text(object), text(&made[name]));
        let diff = similar::TextDiff::from_lines(&here, &there);
        assert!(here == there, "{name}: pilot render - helm +\n{}\nof\n{document}", diff.unified_diff());
    }
}

#[test]
fn the_chart_makes_what_pilot_render_makes_of_the_same_words() {
    const WHAT: &str = "it makes what `pilot render` makes";
    let Some(helm) = helm(WHAT) else { return };
    let again = || Command::new(helm.get_program());
    same(again(), EXAMPLE);
    same(again(), LEAST);
    same(again(), EVERYTHING);
    // Each setting left out, so that each default is met.
    let lines: Vec<&str> = EVERYTHING.lines().collect();
    let mut tried = 0;
    for number in (0..lines.len()).filter(|number| lines[*number].contains("# may be left out")) {
        let rest: Vec<&str> = lines.iter().enumerate().filter(|(n, _)| *n != number).map(|(_, line)| *line).collect();
        same(again(), &rest.join("\n"));
        tried += 1;
    }
    assert!(tried > 15, "{tried}");
    // What the templates reckon themselves.
    for further in [
        "grace: 1h30m",
        "grace: 90s",
        "grace: 24h",
        "spread: {nodes: off, zones: off}",
        "spread: {zones: required}",
        "network: {clients: anybody}",
        "network: {clients: namespace}",
        "settings: {}",
        "settings: {a: 1048576, b: \"off\", c: 0.1, d: true, e: [1, {f: g}], h: \"1e3\"}",
        "policy: {}",
        "policy: {restart: {backoff: {from: 2s, to: 1m}}}",
        "heap: 700M",
        "pilot: {image: p, resources: {}}",
        "pilot: {image: p, resources: {limits: {cpu: 1.5}}}",
        "pilot: {image: p, resources: {requests: {}}}",
    ] {
        let rest =
            if further.starts_with("pilot") { LEAST.replace("  pilot: {image: p}\n", "") } else { LEAST.to_owned() };
        same(again(), &format!("{rest}  {further}\n"));
    }
    for memory in ["1Gi", "1500M", "2Gi", "1.5Gi", "8Gi", "7G", "32Gi", "0.25Ti", "256Gi", "900000000"] {
        same(again(), &LEAST.replace("memory: 1Gi", &format!("memory: {memory}")));
    }
    // As people write it, which is not a text to Helm.
    let off = template(again(), "a", &format!("{}spread: {{nodes: off, zones: off}}\n", values(LEAST))).unwrap();
    assert!(!off.contains("topologySpreadConstraints"));
}

#[test]
fn what_is_misspelt_or_out_of_bounds_is_refused_by_name() {
    let Some(helm) = helm("it refuses what is misspelt") else { return };
    let least = values(LEAST);
    for (values, told) in [
        (format!("{least}memebers: 3\n"), "memebers"),
        (format!("{least}spread: {{nods: off}}\n"), "nods"),
        (format!("{least}spread: {{nodes: sometimes}}\n"), "/spread/nodes"),
        (format!("{least}policy: {{scale: {{bound: {{min: 3}}}}}}\n"), "bound"),
        (format!("{least}policy: {{replace: {{after: 15m}}}}\n"), "replace"),
        (format!("{least}settings: {{rpc_address: x}}\n"), "rpc_address"),
        (format!("{least}keys: {{}}\n"), "secret"),
        (format!("{least}version: 5.0\n"), "/version"),
        (format!("{least}version: \"4.1\"\n"), "/version"),
        (format!("{least}network: {{clients: all}}\n"), "/network/clients"),
        (format!("{least}heap: 1G\n"), "heap is 1G but must be at most three quarters of the memory limit (1Gi)"),
        (format!("{least}grace: 59s\n"), "grace is 59s but must be from 60s to 24h"),
        (format!("{least}grace: 25h\n"), "grace is 25h but must be from 60s to 24h"),
        (
            format!("{least}policy: {{scale: {{bounds: {{min: 3}}}}}}\n"),
            "members is 1 but must lie within policy.scale.bounds (3 to 50)",
        ),
        (least.replace("members: 1", "members: 51"), "members is 51 but must lie within policy.scale.bounds (1 to 50)"),
        (least.replace("image: p", "{}"), "/pilot"),
        (least.replace("size: 1Gi", "class: fast"), "size"),
        (least.replace("memory: 1Gi", "cpu: 1"), "memory"),
        (format!("{least}name: Orders\n"), "/name"),
    ] {
        let said = template(Command::new(helm.get_program()), "a", &values).expect_err(&values);
        assert!(said.contains(told), "{values}\n{said}");
    }
    let long = "a".repeat(53);
    let said = template(Command::new(helm.get_program()), &long, &least).expect_err("too long");
    assert!(said.contains(&format!("the name is \"{long}\" but must be 1 to 52")), "{said}");
    // Nothing but what is told to be missing.
    let said = template(Command::new(helm.get_program()), "a", "").expect_err("no image");
    for needed in ["image", "size", "limits"] {
        assert!(said.contains(needed), "{needed}: {said}");
    }
}

#[test]
fn the_key_is_no_part_of_the_release_and_none_is_made_where_the_values_name_one() {
    let Some(helm) = helm("the key of the mesh") else { return };
    let made = |values: &str| objects(&template(Command::new(helm.get_program()), "a", values).unwrap());
    let secrets = |objects: Vec<Value>| objects.into_iter().filter(|o| o["kind"] == "Secret").collect::<Vec<_>>();
    let least = values(LEAST);
    let [secret] = &secrets(made(&least))[..] else { panic!("one Secret") };
    assert_eq!(secret["metadata"]["name"], "a-mesh-keys");
    let notes = &secret["metadata"]["annotations"];
    assert_eq!(notes["helm.sh/hook"], "pre-install,pre-upgrade");
    assert_eq!(notes["helm.sh/resource-policy"], "keep");
    // Helm's default deletes the old one first.
    assert_eq!(notes["helm.sh/hook-delete-policy"], "hook-failed");
    let key = secret["stringData"]["first"].as_str().unwrap();
    assert!(key.len() == 44 && key.ends_with('='), "32 bytes: {key}");
    assert_ne!(secrets(made(&least))[0]["stringData"]["first"], key, "each key is another");
    assert_eq!(secrets(made(&format!("{least}keys: {{secret: mine}}\n"))), [] as [Value; 0]);
}

#[test]
fn every_object_is_in_the_namespace_and_every_container_passes_the_restricted_level() {
    let Some(helm) = helm("namespaced and restricted") else { return };
    let text = template(helm, "a", &values(LEAST)).unwrap();
    let mut containers = 0;
    for object in objects(&text) {
        assert_eq!(object["metadata"]["namespace"], NAMESPACE, "{object}");
        let kind = object["kind"].as_str().unwrap();
        assert!(!kind.starts_with("Cluster") && !["CustomResourceDefinition", "Namespace"].contains(&kind), "{kind}");
        let pod = match kind {
            "Pod" => &object["spec"],
            "StatefulSet" | "Job" => &object["spec"]["template"]["spec"],
            _ => continue,
        };
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{kind}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{kind}");
        let of = |name: &str| pod[name].as_array().cloned().unwrap_or_default();
        for container in of("initContainers").into_iter().chain(of("containers")) {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
            containers += 1;
        }
        if kind != "StatefulSet" {
            let labels = if kind == "Pod" { &object["metadata"] } else { &object["spec"]["template"]["metadata"] };
            assert_eq!(labels["labels"].get("app.kubernetes.io/instance"), None, "{kind} would count as a member");
        }
    }
    assert_eq!(containers, 5, "three of a member, the first size, the test");
    for (rule, _) in rules() {
        for line in rule.why().lines() {
            assert!(text.contains(&format!("  # {line}\n")), "the Role does not tell: {line}");
        }
    }
}

#[test]
fn the_committed_schema_of_the_values_is_that_of_the_types() {
    let text = serde_json::to_string_pretty(&values_schema().unwrap()).unwrap();
    pinned(Path::new("chart/values.schema.json"), &format!("{text}\n"));
}

#[test]
fn the_values_file_tells_every_value() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("chart/values.yaml")).unwrap();
    let schema = values_schema().unwrap();
    for name in schema["properties"].as_object().unwrap().keys().filter(|name| *name != "global") {
        let told = |line: &str| line.strip_prefix("# ").unwrap_or(line).starts_with(&format!("{name}:"));
        assert!(text.lines().any(told), "{name} is not told");
    }
    // With the marks of comments taken away, it is a document that is read, but for its members and their bounds.
    let whole: Vec<&str> =
        text.lines().map(|line| line.strip_prefix("# ").filter(|l| is_value(l)).unwrap_or(line)).collect();
    let values: Value = serde_saphyr::from_str(&whole.join("\n")).unwrap();
    for name in values.as_object().unwrap().keys() {
        assert!(schema["properties"].get(name).is_some(), "{name} is no value");
    }
}

/// A commented line that gives something a value.
fn is_value(line: &str) -> bool {
    let name = |line: &str| {
        line.split_once(':').is_some_and(|(name, rest)| {
            name.trim_start().chars().all(|c| c.is_ascii_alphanumeric())
                && !name.trim().is_empty()
                && (rest.is_empty() || rest.starts_with(' '))
        })
    };
    let first = line.trim_start().chars().next();
    name(line) && first.is_some_and(|c| c.is_ascii_lowercase())
}
