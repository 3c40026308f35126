//! The documents as served are those of the schema, and the sample of them is pinned.

use super::reference;
use super::sample::{decisions, state};
use serde_json::{Value, json};

/// Checks what our schema uses of JSON Schema; the first fault with its place.
fn validate(root: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    if schema.is_boolean() {
        return Ok(());
    }
    let object = schema.as_object().ok_or_else(|| format!("{place}: no schema"))?;
    for (key, rule) in object {
        match key.as_str() {
            "$ref" => {
                let name = rule.as_str().and_then(|text| text.strip_prefix("#/$defs/")).unwrap();
                validate(root, &root["$defs"][name], value, place)?;
            }
            "type" => {
                let kind = match value {
                    Value::Null => "null",
                    Value::Bool(_) => "boolean",
                    Value::Number(n) if n.is_u64() || n.is_i64() => "integer",
                    Value::Number(_) => "number",
                    Value::String(_) => "string",
                    Value::Array(_) => "array",
                    Value::Object(_) => "object",
                };
                let fits = |one: &Value| one == kind || (one == "number" && kind == "integer");
                if !(fits(rule) || rule.as_array().is_some_and(|types| types.iter().any(fits))) {
                    return Err(format!("{place}: {kind} is not {rule}"));
                }
            }
            "required" => {
                for name in rule.as_array().unwrap() {
                    if value.is_object() && value.get(name.as_str().unwrap()).is_none() {
                        return Err(format!("{place}: {name} is missing"));
                    }
                }
            }
            "properties" => {
                for (name, inner) in rule.as_object().unwrap() {
                    if let Some(found) = value.get(name) {
                        validate(root, inner, found, &format!("{place}.{name}"))?;
                    }
                }
                // Nothing is served that the schema does not tell.
                for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
                    if rule.get(name).is_none() {
                        return Err(format!("{place}.{name} is not in the schema"));
                    }
                }
            }
            "items" => {
                for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                    validate(root, rule, item, &format!("{place}[{at}]"))?;
                }
            }
            "prefixItems" => {
                for (inner, item) in rule.as_array().unwrap().iter().zip(value.as_array().into_iter().flatten()) {
                    validate(root, inner, item, place)?;
                }
            }
            "anyOf" | "oneOf" => {
                let choices = rule.as_array().unwrap();
                if !choices.iter().any(|choice| validate(root, choice, value, place).is_ok()) {
                    return Err(format!("{place}: {value} is none of the choices"));
                }
            }
            "const" if rule != value => return Err(format!("{place}: {value} is not {rule}")),
            "enum" if !rule.as_array().unwrap().contains(value) => {
                return Err(format!("{place}: {value} is not of {rule}"));
            }
            "const"
            | "enum"
            | "minimum"
            | "maximum"
            | "minItems"
            | "maxItems"
            | "format"
            | "additionalProperties"
            | "title"
            | "description"
            | "$schema"
            | "$id"
            | "$defs" => {}
            other => panic!("{place}: `{other}` is not checked here: teach it"),
        }
    }
    Ok(())
}

#[test]
fn the_served_documents_are_those_of_the_schema() {
    let schema = reference::schema();
    let document = serde_json::to_value(state()).unwrap();
    assert_eq!(validate(&schema, &schema, &document, ""), Ok(()));
    let told = serde_json::to_value(decisions()).unwrap();
    assert_eq!(validate(&schema, &schema["$defs"]["DecisionsDocument"], &told, ""), Ok(()));
}

#[test]
fn the_schema_refuses_what_is_missing_or_of_another_type() {
    let schema = reference::schema();
    for (pointer, replacement) in [
        ("/policy", json!({})),
        ("/members/0/liveness", json!("asleep")),
        ("/members/0/database/phase", json!(7)),
        ("/coordinator", json!({ "pilot": "orders-1" })),
        ("/self", json!("orders-1")),
    ] {
        let mut document = serde_json::to_value(state()).unwrap();
        *document.pointer_mut(pointer).unwrap() = replacement;
        assert!(validate(&schema, &schema, &document, "").is_err(), "{pointer}");
    }
}

#[test]
fn the_fields_that_scripts_rely_on_stand_where_they_were_promised() {
    let document = serde_json::to_value(state()).unwrap();
    for (pointer, value) in [
        ("/self/name", json!("orders-1")),
        ("/coordinator/pilot", json!("orders-1")),
        ("/coordinator/epoch", json!(7)),
        ("/members/3/name", json!("orders-3")),
        ("/members/2/liveness", json!("silent")),
        ("/members/3/database/phase", json!("joining")),
        ("/members/3/database/identity", json!(null)),
        ("/members/0/database/identity", json!("0f2b8c1e-77aa-4c55-9c1d-0a6a3f1e2d4c")),
        ("/operation/kind", json!("join")),
        ("/policy/hash", json!("a1b2c3d4e5f6")),
    ] {
        assert_eq!(document.pointer(pointer), Some(&value), "{pointer}");
    }
    let mut quiet = state();
    (quiet.operation, quiet.coordinator) = (None, None);
    let document = serde_json::to_value(quiet).unwrap();
    assert_eq!((document.get("operation"), document.get("coordinator")), (Some(&Value::Null), Some(&Value::Null)));
}

#[test]
fn the_documents_are_the_pinned_ones() {
    crate::golden::check("state.json", &format!("{}\n", serde_json::to_string_pretty(&state()).unwrap()));
    crate::golden::check("decisions.json", &format!("{}\n", serde_json::to_string_pretty(&decisions()).unwrap()));
}
