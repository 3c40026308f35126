//! What the Helm chart (`bootstrap/chart`) takes: the `spec` of a cluster document as its values.
//!
//! The schema of the values is made from the very types of the document, so that a name that `pilot render` refuses is
//! refused by Helm as well. What the templates make of the values is held against [`crate::cluster::render`] by a test.

use crate::cassandra::OWNED;
use crate::cluster::Spec;
use crate::cluster::schema::close;
use crate::names::MAX_SET_CHARS;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// The schema of the chart's values (JSON Schema draft 7: every Helm that there is reads it).
///
/// # Errors
/// Where a part of it is not where it is expected: a fault of this program.
pub fn values_schema() -> Result<Value, SchemaFault> {
    let mut schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<Spec>().to_value();
    close(&mut schema);
    let policy: Value = serde_json::from_str(&policies::reference::schema()).map_err(|_| SchemaFault("policy"))?;
    let policy = policy.pointer("/properties/spec").cloned().ok_or(SchemaFault("policy.properties.spec"))?;

    let words = part(&mut schema, "/definitions/Apart/oneOf")?.as_array_mut().ok_or(SchemaFault("Apart.oneOf"))?;
    // YAML as Helm reads it takes `off` without quotes for this.
    words.push(json!({ "const": false, "description": "The same as off." }));

    let root = schema.as_object_mut().ok_or(SchemaFault("the root"))?;
    root.insert("$comment".to_owned(), json!(format!("Generated. Regenerate: {}", crate::cluster::schema::REGENERATE)));
    root.insert("title".to_owned(), json!("Values of the chart pilotmesh-cassandra"));
    let properties = part(&mut schema, "/properties")?.as_object_mut().ok_or(SchemaFault("properties"))?;
    properties.insert("policy".to_owned(), policy);
    let limits = json!({
        "allOf": [
            { "$ref": "#/definitions/Resources" },
            { "required": ["limits"], "properties": { "limits": { "required": ["memory"] } } },
        ],
    });
    let about = properties.get("resources").and_then(|found| found.get("description")).cloned();
    properties.insert("resources".to_owned(), limits);
    if let (Some(about), Some(resources)) = (about, properties.get_mut("resources")) {
        resources["description"] = about;
    }
    properties.insert(
        "settings".to_owned(),
        json!({
            "description": "A cassandra.yaml of your own, merged over the pilot's. What the pilot alone sets is refused.",
            "type": "object",
            "propertyNames": { "not": { "enum": OWNED } },
        }),
    );
    properties.insert(
        "grace".to_owned(),
        json!({
            "description": "How long a pod may take to end: hours, minutes and seconds, from 60s to 24h. Default: 300s.",
            "type": "string",
            "pattern": "^(?:[0-9]{1,5}[hms])(?: ?[0-9]{1,5}[ms])?(?: ?[0-9]{1,5}s)?$",
        }),
    );
    properties.insert(
        "version".to_owned(),
        json!({
            "description": "The version of Cassandra: 5.0, or a patch of it such as 5.0.9, in quotes. Default: 5.0.",
            "type": "string",
            "pattern": r"^5\.0(\.[0-9]{1,5})?$",
        }),
    );
    properties.insert(
        "imagePullPolicy".to_owned(),
        json!({ "description": "When images are pulled.", "enum": ["Always", "IfNotPresent", "Never"] }),
    );
    properties.insert(
        "name".to_owned(),
        json!({
            "description": "The name of the set. Default: the release's name. Never change it: another name is another cluster.",
            "type": "string",
            "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$",
            "maxLength": MAX_SET_CHARS,
        }),
    );
    properties.insert(
        "networkPolicy".to_owned(),
        json!({ "description": "Whether a NetworkPolicy is made.", "type": "boolean" }),
    );
    // What Helm itself hands to a chart that another one contains.
    properties.insert("global".to_owned(), json!({ "description": "Not used.", "type": "object" }));
    Ok(schema)
}

/// A part of the schema is not where it is expected: a fault of this program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the schema of the values has no {0}: report this as a fault of pilot")]
pub struct SchemaFault(&'static str);

fn part<'s>(schema: &'s mut Value, pointer: &'static str) -> Result<&'s mut Value, SchemaFault> {
    schema.pointer_mut(pointer).ok_or(SchemaFault(pointer))
}
