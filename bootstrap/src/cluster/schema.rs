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
fn close(schema: &mut Value) {
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
