//! The policy reference and the JSON schema, generated from the declarations of the settings.

use crate::policy::{API_VERSION, KIND, MAX_NAME_CHARS, RULES, UNSUPPORTED};
use crate::setting::{Kind, SECTIONS, Setting};
use serde_json::{Map, Value as Json, json};

/// How both files are made anew; said in them and by the test that finds them stale.
pub const REGENERATE: &str = "REGENERATE=1 cargo test -p policies --test reference";

/// Durations as a schema can check them; which length is allowed is checked at load.
const DURATION_PATTERN: &str = "^([0-9]+ *(ms|msec|s|sec|secs|m|min|mins|h|hr|hour|hours|d|day|days) *)+$";

/// The text of `docs/reference/policy.md`.
pub fn markdown() -> String {
    let mut page = format!(
        "<!-- Generated from policies/src/policy/sections.rs. Regenerate: {REGENERATE} -->\n\n\
         # Policy reference\n\n\
         A policy says how pilots may act on their own. It is a file, reloaded when it changes and checked as a whole before use: a \
         file with a fault is refused with every fault named, and the policy in force stays. Start from one of \
         `policies/presets/cautious.yaml`, `balanced.yaml` or `swift.yaml`; what a file leaves out has the default given here, \
         which is the balanced preset's value.\n\n\
         ```yaml\napiVersion: {API_VERSION}\nkind: {KIND}\nmetadata:\n  name: my-policy    \
         # up to {MAX_NAME_CHARS} lower-case letters, digits and dashes\nspec:\n  election:\n    lease: 15s\n```\n\n\
         Durations carry their unit (`500ms`, `10s`, `1m 30s`) and are whole milliseconds. For an editor that checks while you \
         type, see [policy.schema.json](policy.schema.json).\n\n\
         The policy's hash, which every pilot publishes, covers the meaning of all settings, defaults included, and neither the \
         name nor comments, order or notation.\n"
    );
    page.push_str("\n## At a glance\n\n| setting | type | default | least | most | takes effect |\n| --- | --- | --- | --- | --- | --- |\n");
    for setting in SECTIONS.iter().flat_map(|section| section.settings) {
        let (min, max) = setting.bounds();
        page.push_str(&format!(
            "| [`{}`](#{}) | {} | {} | {min} | {max} | {} |\n",
            short(setting.path),
            anchor(setting.path),
            setting.kind.name(),
            setting.default(),
            setting.applies(),
        ));
    }
    for section in SECTIONS {
        page.push_str(&format!("\n## {}\n\n{}\n", short(section.path), prose(section.about)));
        for setting in section.settings {
            let (min, max) = setting.bounds();
            page.push_str(&format!(
                "\n### {}\n\n{}, default **{}**, from {min} to {max}.\n\n{}\n",
                short(setting.path),
                setting.kind.name(),
                setting.default(),
                prose(setting.doc),
            ));
        }
    }
    page.push_str(
        "\n## Rules between settings\n\nEach of these is checked with the values in force, defaults included.\n\n",
    );
    for rule in RULES {
        let section =
            rule.settings.first().and_then(|path| short(path).split_once('.')).map_or("", |(section, _)| section);
        page.push_str(&format!("- {section}: {}.\n", rule.words));
    }
    page.push_str("\n## Not supported by this version\n\nThese names are refused, so that nothing is taken for granted that is not done.\n\n");
    for (path, purpose) in UNSUPPORTED {
        page.push_str(&format!("- `{}`: {purpose}\n", short(path)));
    }
    page
}

/// The text of `docs/reference/policy.schema.json`: for editors. What it cannot say, such as the bounds of durations and
/// the rules between settings, is checked at load.
pub fn schema() -> String {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": format!("Generated. Regenerate: {REGENERATE}"),
        "title": KIND,
        "description": "How pilots may act on their own.",
        "type": "object",
        "additionalProperties": false,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": { "const": API_VERSION },
            "kind": { "const": KIND },
            "metadata": {
                "type": "object",
                "additionalProperties": false,
                "required": ["name"],
                "properties": {
                    "name": { "type": "string", "maxLength": MAX_NAME_CHARS, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" },
                },
            },
            "spec": section_schema("spec"),
        },
    });
    format!("{schema:#}\n")
}

fn section_schema(path: &str) -> Json {
    let parent = |path: &'static str| path.rsplit_once('.').map_or("", |(parent, _)| parent);
    let name = |path: &'static str| path.rsplit('.').next().unwrap_or(path).to_owned();
    let mut properties = Map::new();
    let mut about = None;
    for section in SECTIONS {
        if section.path == path {
            about = Some(prose(section.about));
            properties.extend(section.settings.iter().map(|setting| (name(setting.path), setting_schema(setting))));
        } else if parent(section.path) == path {
            properties.insert(name(section.path), section_schema(section.path));
        }
    }
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if let (Some(about), Json::Object(schema)) = (about, &mut schema) {
        schema.insert("description".into(), about.into());
    }
    schema
}

fn setting_schema(setting: &Setting) -> Json {
    let description = prose(setting.doc);
    match &setting.kind {
        Kind::Duration(field) => {
            let (min, max) = setting.bounds();
            let text = json!({ "type": "string", "pattern": DURATION_PATTERN });
            // Nothing lasts 0 in every unit, so it may be written without one.
            let forms = if field.bounds.min.is_zero() { json!([text, { "const": 0 }]) } else { json!([text]) };
            json!({
                "anyOf": forms,
                "default": setting.default(),
                "description": format!("{description}\n\nFrom {min} to {max}."),
            })
        }
        Kind::Count(field) => json!({
            "type": "integer",
            "minimum": field.bounds.min,
            "maximum": field.bounds.max,
            "default": field.bounds.default,
            "description": description,
        }),
        Kind::Decimal(field) => json!({
            "type": "number",
            "minimum": field.bounds.min.as_f64(),
            "maximum": field.bounds.max.as_f64(),
            "default": field.bounds.default.as_f64(),
            "description": description,
        }),
    }
}

/// Doc comments as paragraphs: each line loses the space that follows its slashes.
fn prose(lines: &[&str]) -> String {
    lines.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// A path without `spec.`, as people say it.
fn short(path: &str) -> &str {
    path.strip_prefix("spec.").unwrap_or(path)
}

/// The anchor that Markdown renderers give to a heading of a setting.
fn anchor(path: &str) -> String {
    short(path).chars().filter(|c| *c != '.').flat_map(char::to_lowercase).collect()
}
