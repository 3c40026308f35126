//! What is rendered of a cluster document, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use bootstrap::cluster::{CassandraCluster, render, schema};
use bootstrap::manifest::{Map, Value, print};
use std::path::Path;

mod support;
use support::{golden, pinned};

const EXAMPLE: &str = include_str!("../../docs/examples/cassandra.yaml");

const EVERYTHING: &str = include_str!("golden/everything.yaml");

fn rendered(text: &str) -> Vec<Map> {
    let cluster = CassandraCluster::parse(text, "cluster.yaml").unwrap_or_else(|faults| panic!("{faults}"));
    render(&cluster).unwrap()
}

fn faults(text: &str) -> String {
    CassandraCluster::parse(text, "cluster.yaml").unwrap_err().to_string()
}

fn object(objects: &[Map], kind: &str, name: &str) -> Value {
    let is_it = |object: &&Map| {
        object.get("kind").and_then(Value::text) == Some(kind)
            && object.get("metadata").and_then(Value::name) == Some(name)
    };
    Value::from(objects.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}")).clone())
}

#[test]
fn the_documented_manifest_is_what_the_documented_document_renders() {
    let text = print::yaml(&rendered(EXAMPLE)).unwrap();
    pinned(Path::new("../docs/examples/cassandra-statefulset.yaml"), &text);
}

#[test]
fn a_document_that_says_everything_renders_to_the_pinned_objects() {
    golden("everything.rendered.yaml", &print::yaml(&rendered(EVERYTHING)).unwrap());
}

#[test]
fn equal_documents_render_equally_and_every_object_is_in_the_namespace() {
    let objects = rendered(EVERYTHING);
    assert_eq!(objects, rendered(EVERYTHING));
    for object in &objects {
        let object = Value::from(object.clone());
        assert_eq!(object.text_at(&["metadata", "namespace"]), Some("shop"), "{object:?}");
    }
}

#[test]
fn no_object_is_of_the_whole_cluster() {
    let namespaced = [
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "ConfigMap",
        "Service",
        "PodDisruptionBudget",
        "NetworkPolicy",
        "StatefulSet",
    ];
    for object in rendered(EVERYTHING) {
        let kind = object.get("kind").and_then(Value::text).unwrap_or_default();
        assert!(namespaced.contains(&kind), "{kind}");
    }
}

#[test]
fn every_container_passes_the_restricted_level() {
    let set = object(&rendered(EXAMPLE), "StatefulSet", "cassandra");
    let pod = set.at(&["spec", "template", "spec"]).unwrap();
    assert_eq!(pod.at(&["securityContext", "runAsNonRoot"]), Some(&Value::Flag(true)));
    assert_eq!(pod.text_at(&["securityContext", "seccompProfile", "type"]), Some("RuntimeDefault"));
    let containers: Vec<&Value> = pod.list_at(&["initContainers"]).iter().chain(pod.list_at(&["containers"])).collect();
    assert_eq!(containers.len(), 3);
    for container in containers {
        let security = container.at(&["securityContext"]).unwrap();
        assert_eq!(security.at(&["allowPrivilegeEscalation"]), Some(&Value::Flag(false)));
        assert_eq!(security.at(&["readOnlyRootFilesystem"]), Some(&Value::Flag(true)));
        assert_eq!(security.list_at(&["capabilities", "drop"]), [Value::from("ALL")]);
    }
}

#[test]
fn the_policy_of_the_document_is_one_that_pilots_take() {
    for document in [EXAMPLE, EVERYTHING] {
        let objects = rendered(document);
        let map = objects.iter().find(|object| {
            let name = object.get("metadata").and_then(Value::name).unwrap_or_default();
            object.get("kind").and_then(Value::text) == Some("ConfigMap") && name.ends_with("-policy")
        });
        let map = Value::from(map.unwrap().clone());
        let policy = map.text_at(&["data", "policy.yaml"]).unwrap();
        let policy = policies::policy::Policy::parse(policy, "policy.yaml").unwrap();
        assert_eq!(policy.scale.bounds.min, 3);
    }
}

#[test]
fn all_faults_of_a_document_are_told_together_with_their_lines() {
    golden("faults.txt", &format!("{}\n", faults(include_str!("golden/faults.yaml"))));
}

#[test]
fn a_document_of_the_least_is_enough() {
    let least = "apiVersion: pilotmesh.io/v1alpha1\nkind: CassandraCluster\nmetadata: {name: a}\nspec:\n  members: 1\n  pilot: {image: p}\n  storage: {size: 1Gi}\n  resources: {limits: {memory: 1Gi}}\n";
    let objects = rendered(least);
    let settings = object(&objects, "ConfigMap", "a-settings");
    assert!(settings.text_at(&["data", "driver.yaml"]).unwrap().contains("heap: 512M"), "half of the limit");
    assert!(objects.iter().all(|object| object.get("metadata").unwrap().at(&["namespace"]).is_none()));
    for (from, to, told) in [
        ("members: 1", "members: 51", "spec.members is 51 but must lie within the policy's scale.bounds (1 to 50)"),
        ("{memory: 1Gi}", "{cpu: 1}", "spec.resources.limits.memory is missing"),
        (
            "members: 1",
            "members: 1\n  heap: 1G",
            "spec.heap is 1G but must be at most three quarters of the memory limit (1Gi)",
        ),
        (
            "members: 1",
            "members: 1\n  settings: {rpc_address: x}",
            "spec.settings.rpc_address is set by the pilot alone and must be absent",
        ),
        ("members: 1", "members: 1\n  memebers: 2", "spec.memebers is not known but must be one of members, version"),
        ("members: 1", "members: 1\n  version: 5.0", "spec.version is 5 but must be text"),
        ("members: 1", "members: 1\n  version: \"4.1\"", "other versions have no driver yet"),
    ] {
        let told_now = faults(&least.replace(from, to));
        assert!(told_now.contains(told), "{told_now}");
    }
}

#[test]
fn the_committed_schema_is_that_of_the_types() {
    let text = serde_json::to_string_pretty(&schema::schema()).unwrap();
    pinned(Path::new("../docs/reference/cassandracluster.schema.json"), &format!("{text}\n"));
}

#[test]
fn the_committed_reference_names_every_setting() {
    let page = schema::markdown();
    let schema = schema::schema();
    let mut all = Vec::new();
    names(&schema, &schema, "", &mut all);
    for path in all.iter().filter(|path| path.contains('.')) {
        assert!(page.contains(&format!("`{path}`")), "{path}");
    }
    pinned(Path::new("../docs/reference/cassandracluster.md"), &page);
}

/// Every name of the schema, by the place it has in a document.
fn names(root: &serde_json::Value, schema: &serde_json::Value, path: &str, all: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        names(root, &root["$defs"][name], path, all);
    }
    for one in schema["anyOf"].as_array().into_iter().flatten() {
        names(root, one, path, all);
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let here = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        names(root, inner, &here, all);
        all.push(here);
    }
}

#[test]
fn what_the_schema_names_is_read_and_what_it_does_not_name_is_refused() {
    let schema = schema::schema();
    let mut all = Vec::new();
    names(&schema, &schema, "", &mut all);
    assert!(all.len() > 40, "{all:?}");
    // A document of every name, each given something that is never right: the reader knows the name, and faults the value.
    for path in &all {
        let mut text = String::new();
        let parts: Vec<&str> = path.split('.').collect();
        for (depth, part) in parts.iter().enumerate() {
            text.push_str(&format!("{}{part}:", "  ".repeat(depth)));
            text.push_str(if depth + 1 == parts.len() { " ~\n" } else { "\n" });
        }
        let told = faults(&text);
        assert!(!told.contains(&format!("{path} is not known")), "{path} is in the schema only:\n{told}");
        assert!(told.contains(&format!("{path} is empty")), "{path}:\n{told}");
    }
}

#[test]
fn every_field_of_the_document_that_says_everything_changes_what_is_rendered() {
    let whole = rendered(EVERYTHING);
    let lines: Vec<&str> = EVERYTHING.lines().collect();
    let mut tried = 0;
    for (number, line) in lines.iter().enumerate() {
        if !line.contains("# may be left out") {
            continue;
        }
        let rest: Vec<&str> =
            lines.iter().enumerate().filter(|(other, _)| *other != number).map(|(_, line)| *line).collect();
        assert_ne!(rendered(&rest.join("\n")), whole, "{line} has no effect");
        tried += 1;
    }
    assert!(tried > 15, "{tried}");
}
