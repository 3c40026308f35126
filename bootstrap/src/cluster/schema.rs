//! The schema of the cluster document for editors and other programs, generated from the very types.

use super::{API_VERSION, CassandraCluster, KIND};
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// How the committed files are renewed.
pub const REGENERATE: &str = "REGENERATE=1 cargo test -p bootstrap";

/// The schema (JSON Schema 2020-12). Names that it does not have are refused.
pub fn schema() -> Value {
    let mut schema =
        SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<CassandraCluster>().to_value();
    close(&mut schema);
    if let Some(root) = schema.as_object_mut() {
        root.insert("$id".to_owned(), json!("https://pilotmesh.io/schemas/v1alpha1/cassandracluster.schema.json"));
    }
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.insert("apiVersion".to_owned(), json!({ "const": API_VERSION }));
        properties.insert("kind".to_owned(), json!({ "const": KIND }));
    }
    schema["required"] = json!(["apiVersion", "kind", "metadata", "spec"]);
    schema
}

/// An object whose names are listed has no others.
pub(crate) fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.contains_key("properties") {
                object.insert("additionalProperties".to_owned(), json!(false));
            }
            object.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

const INTRODUCTION: &str = "\
# The cluster document, setting by setting

Generated from the types by `bootstrap/src/cluster/schema.rs`; `cassandracluster.schema.json` beside it is the same for
machines (JSON Schema 2020-12). `pilot render` makes every object of it: [install.md](../install.md).

A setting that stands here in **bold** must be given. One that does not stand here is refused. `apiVersion` is
`pilotmesh.io/v1alpha1`, `kind` is `CassandraCluster`.

| setting | what it is |
| --- | --- |
";

/// The page for people: every setting with what it means, in the order of the document.
pub fn markdown() -> String {
    let schema = schema();
    let mut page = INTRODUCTION.to_owned();
    for section in ["metadata", "spec"] {
        rows(&mut page, &schema, &schema["properties"][section], section);
    }
    page
}

/// The settings below a place, each with those below it after it.
fn rows(page: &mut String, root: &Value, schema: &Value, path: &str) {
    let schema = resolved(root, schema);
    let needed = |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    let Some(properties) = schema["properties"].as_object() else { return };
    for (name, property) in properties {
        let here = format!("{path}.{name}");
        let shown = if needed(name) { format!("**`{here}`**") } else { format!("`{here}`") };
        let words = words(resolved(root, property));
        let about = property["description"].as_str().unwrap_or_default().replace('\n', " ");
        page.push_str(&format!("| {shown} | {about}{words} |\n"));
        rows(page, root, property, &here);
    }
}

/// The schema that a reference means, also where it may be absent.
fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let reference =
        schema["$ref"].as_str().or_else(|| schema["anyOf"].as_array()?.iter().find_map(|one| one["$ref"].as_str()));
    match reference.and_then(|reference| reference.rsplit('/').next()) {
        Some(name) => &root["$defs"][name],
        None => schema,
    }
}

/// What each word means, where a setting is one of some words.
fn words(schema: &Value) -> String {
    let mut out = String::new();
    for one in schema["oneOf"].as_array().into_iter().flatten() {
        if let (Some(word), Some(about)) = (one["const"].as_str(), one["description"].as_str()) {
            out.push_str(&format!(" `{word}`: {}", about.replace('\n', " ")));
        }
    }
    out
}
