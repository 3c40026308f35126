//! `docs/reference/state.md` and `state.schema.json`: generated from the very types that are served.

use crate::pilot::state::{DecisionsDocument, StateDocument};
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;

/// How the committed files are renewed.
pub const REGENERATE: &str = "REGENERATE=1 cargo test -p agent --test reference";

const INTRODUCTION: &str = "\
# The state of a mesh, as any pilot tells it

Generated from the types by `agent/src/http/reference.rs`; `state.schema.json` beside it is the same for machines (JSON Schema 2020-12).

Every pilot serves these on its HTTP port (7300 where nothing else is said), from memory, also when the Kubernetes API is away. All of
it is read-only: only `GET` and `HEAD` are served, and things are changed through Kubernetes objects.

| endpoint | what it gives |
| --- | --- |
| `/` | a page that shows the mesh live |
| `/state` | one [StateDocument](#statedocument); `?pretty` for people. 503 until the pilot has looked around |
| `/state/watch` | a StateDocument at once and on every change, one JSON document a line; an empty line after 10 s without one. Changes of `self.now`, `phi` and `timeout` alone are not told. A reader that is slow misses documents in between, never the last; one that takes nothing for 10 s is dropped. At most 48 watch a pilot, more are answered 503 |
| `/decisions` | one [DecisionsDocument](#decisionsdocument); `?pretty` for people |
| `/metrics` | OpenMetrics |
| `/livez` | 200 while this process lives; says nothing of peers, the API or the database. `?verbose`, `?exclude=<check>` |
| `/startupz` | 200 once the pilot has begun its work |
| `/readyz` | 200 while its member serves and does not drain; otherwise 503 with each check and its reason |

Within `version` 1 fields are added, never renamed or removed: readers leave alone what they do not know. `null` is *unknown* or *none*,
as the field says, and never zero.

For scripts: `.self.name`, `.coordinator.pilot`, `.coordinator.epoch`, `.members[].name`, `.members[].liveness`,
`.members[].database.phase`, `.members[].database.identity`, `.operation` and `.policy.hash` are there for good.
";

/// The schema of both documents: that of `/state`, and that of `/decisions` as `$defs/DecisionsDocument`.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let _: schemars::Schema = generator.subschema_for::<DecisionsDocument>();
    let mut schema = generator.into_root_schema_for::<StateDocument>().to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("$id".to_owned(), json!("https://pilotmesh.io/schemas/v1alpha1/state.schema.json"));
    }
    schema
}

/// The page for people.
pub fn markdown() -> String {
    let schema = schema();
    let mut page = INTRODUCTION.to_owned();
    let mut told = BTreeSet::new();
    tell(&mut page, &schema, "StateDocument", &schema, &mut told);
    tell(&mut page, &schema, "DecisionsDocument", &schema["$defs"]["DecisionsDocument"], &mut told);
    page
}

/// A type, then those that it names, each once.
fn tell(page: &mut String, root: &Value, name: &str, schema: &Value, told: &mut BTreeSet<String>) {
    if !told.insert(name.to_owned()) {
        return;
    }
    // Writing into a text cannot fail.
    let _ = write!(page, "\n## {name}\n\n{}\n", described(schema));
    if let Some(fields) = schema["properties"].as_object() {
        page.push_str("\n| field | type | meaning |\n| --- | --- | --- |\n");
        for (field, value) in fields {
            let _ = writeln!(page, "| `{field}` | {} | {} |", kind(value), described(value).replace('\n', " "));
        }
    } else if let Some(variants) = schema["oneOf"].as_array() {
        page.push_str("\n| value | meaning |\n| --- | --- |\n");
        for variant in variants {
            let _ = writeln!(page, "| {} | {} |", kind(variant), described(variant).replace('\n', " "));
        }
    } else {
        let _ = write!(page, "\nType: {}.\n", kind(schema));
    }
    let mut named = Vec::new();
    references(schema, name == "StateDocument", &mut named);
    for reference in named {
        tell(page, root, &reference, &root["$defs"][&reference], told);
    }
}

fn described(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

/// The names of the types in a schema, in order of appearance.
fn references(schema: &Value, root: bool, named: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(text) if key == "$ref" => named.extend(text.rsplit('/').next().map(str::to_owned)),
                    Some(_) | None if root && key == "$defs" => {}
                    Some(_) | None => references(value, false, named),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, false, named)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A type in words.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(constant) = schema["const"].as_str() {
        return format!("`\"{constant}\"`");
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        return choices.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    if let Some(items) = schema["prefixItems"].as_array() {
        let list = format!("list of {}", items.iter().map(kind).collect::<Vec<_>>().join(" and "));
        return or_null(schema, list);
    }
    match schema["type"].as_array() {
        Some(types) => types.iter().map(|one| simple(one.as_str(), schema)).collect::<Vec<_>>().join(" or "),
        None => simple(schema["type"].as_str(), schema),
    }
}

fn or_null(schema: &Value, kind: String) -> String {
    let null = schema["type"].as_array().is_some_and(|types| types.contains(&json!("null")));
    if null { format!("{kind} or null") } else { kind }
}

fn simple(name: Option<&str>, schema: &Value) -> String {
    match name {
        Some("array") => format!("list of {}", kind(&schema["items"])),
        Some("object") => match schema["properties"].as_object() {
            Some(fields) => {
                let inner: Vec<String> =
                    fields.iter().map(|(name, value)| format!("`\"{name}\"`: {}", kind(value))).collect();
                format!("object {{ {} }}", inner.join(", "))
            }
            None => "object".to_owned(),
        },
        Some(name) => name.to_owned(),
        None => "anything".to_owned(),
    }
}
