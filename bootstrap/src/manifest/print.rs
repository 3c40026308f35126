//! Trees as text: YAML for people, JSON for programs.

use super::tree::{Entry, Map, Value};
use serde::ser::{Serialize, Serializer};

/// A tree could not be written. Only a fault of ours, or a text that no YAML can carry, leads here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the object cannot be written: {0}")]
pub struct PrintError(String);

impl PrintError {
    /// With what the writer said.
    pub(crate) fn new(said: &impl std::fmt::Display) -> Self {
        Self(said.to_string())
    }
}

/// Objects as one text: YAML documents in their order, their comments above what they are about.
///
/// # Errors
/// When a value cannot be written as YAML.
pub fn yaml(objects: &[Map]) -> Result<String, PrintError> {
    let mut out = String::new();
    for (number, object) in objects.iter().enumerate() {
        if number > 0 {
            out.push_str("---\n");
        }
        out.push_str(&document(object)?);
    }
    Ok(out)
}

/// One object as YAML, without a line that begins the document.
///
/// The lines are laid out here, because comments have a place of their own above what they are about; how a scalar is
/// quoted, the library knows.
///
/// # Errors
/// When a value cannot be written as YAML.
pub fn document(object: &Map) -> Result<String, PrintError> {
    let mut out = String::new();
    comment(&mut out, 0, object.why.as_deref());
    if object.is_empty() {
        out.push_str("{}\n");
    }
    mapping(&mut out, 0, object)?;
    Ok(out)
}

fn comment(out: &mut String, depth: usize, why: Option<&str>) {
    for line in why.into_iter().flat_map(str::lines) {
        indent(out, depth);
        out.push_str(if line.is_empty() { "#" } else { "# " });
        out.push_str(line);
        out.push('\n');
    }
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

/// The entries of a mapping, one below the other. Where the line is begun already, the first goes on with it.
fn mapping(out: &mut String, depth: usize, map: &Map) -> Result<(), PrintError> {
    for entry in map.entries() {
        comment(out, depth, entry.why.as_deref());
        if let Value::Map(inner) = &entry.value {
            comment(out, depth, inner.why.as_deref());
        }
        if out.is_empty() || out.ends_with('\n') {
            indent(out, depth);
        }
        out.push_str(&scalar(&entry.key)?);
        out.push(':');
        value(out, depth + 1, &entry.value)?;
    }
    Ok(())
}

/// What stands behind a colon: on the same line where it is short, below and deeper where it is not.
fn value(out: &mut String, depth: usize, value: &Value) -> Result<(), PrintError> {
    match value {
        Value::Map(map) if !map.is_empty() => {
            out.push('\n');
            mapping(out, depth, map)
        }
        Value::List(items) if !items.is_empty() => {
            out.push('\n');
            list(out, depth, items)
        }
        Value::Text(text) if is_block(text) => {
            out.push_str(if text.ends_with('\n') { " |\n" } else { " |-\n" });
            for line in text.lines() {
                if !line.is_empty() {
                    indent(out, depth);
                }
                out.push_str(line);
                out.push('\n');
            }
            Ok(())
        }
        Value::Map(_)
        | Value::List(_)
        | Value::Nothing
        | Value::Flag(_)
        | Value::Whole(_)
        | Value::Fraction(_)
        | Value::Text(_) => {
            out.push(' ');
            out.push_str(&scalar(value)?);
            out.push('\n');
            Ok(())
        }
    }
}

fn list(out: &mut String, depth: usize, items: &[Value]) -> Result<(), PrintError> {
    for item in items {
        if let Value::Map(map) = item {
            comment(out, depth, map.why.as_deref());
        }
        indent(out, depth);
        out.push('-');
        match item {
            // The first name stands beside the dash, unless a comment of its own stands above it.
            Value::Map(map) if map.entries().first().is_some_and(uncommented) => {
                out.push(' ');
                mapping(out, depth + 1, map)?;
            }
            Value::Map(_)
            | Value::List(_)
            | Value::Nothing
            | Value::Flag(_)
            | Value::Whole(_)
            | Value::Fraction(_)
            | Value::Text(_) => value(out, depth + 1, item)?,
        }
    }
    Ok(())
}

fn uncommented(entry: &Entry) -> bool {
    entry.why.is_none() && entry.value.map().is_none_or(|map| map.why.is_none())
}

/// Whether a text is written as it is, line by line: what YAML would not give back exactly like that is quoted instead.
fn is_block(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let plain = |c: char| {
        matches!(c, '\n' | '\t') || (!c.is_control() && !matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}'))
    };
    text.contains('\n')
        && !body.ends_with('\n')
        && !body.is_empty()
        && !body.starts_with([' ', '\t', '\n'])
        && body.chars().all(plain)
}

/// On one line.
fn scalar<T: Serialize>(value: &T) -> Result<String, PrintError> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let text = serde_saphyr::to_string_with_options(value, options).map_err(|error| PrintError(error.to_string()))?;
    let text = text.trim_end_matches('\n');
    if text.contains('\n') {
        return serde_json::to_string(value).map_err(|error| PrintError(error.to_string()));
    }
    Ok(text.to_owned())
}

/// Objects as one JSON document: the object, or a list of them as Kubernetes has lists.
///
/// # Errors
/// When a value cannot be written as JSON.
pub fn json(objects: &[Map]) -> Result<String, PrintError> {
    let written = match objects {
        [one] => serde_json::to_string_pretty(one),
        several => serde_json::to_string_pretty(&Value::from(super::tree::map! {
            "apiVersion": "v1",
            "kind": "List",
            "items": several.to_vec(),
        })),
    };
    written.map(|text| format!("{text}\n")).map_err(|error| PrintError(error.to_string()))
}

/// Without comments: JSON has none.
impl Serialize for Map {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.entries().iter().map(|entry| (&entry.key, &entry.value)))
    }
}

/// Without comments: JSON has none.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nothing => serializer.serialize_unit(),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Whole(number) => match i64::try_from(*number) {
                Ok(number) => serializer.serialize_i64(number),
                Err(_) => serializer.serialize_i128(*number),
            },
            Self::Fraction(number) => serializer.serialize_f64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(map) => map.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::objects;
    use super::super::tree::{list, map};
    use super::*;

    fn object() -> Map {
        map! {
            "kind": "Thing",
            "rules": list![
                map! { "verbs": list!["get", "list"], "names": list!["a"] }.about("Why the first.\nIn two lines."),
                map! { "verbs": list!["patch"] }.about("Why the second."),
            ],
            "spec": map! { "policy": "Parallel", "empty": map! {}, "none": list![] }.note("policy", "All at once."),
            "text": "one\ntwo\n",
            "long": "a ".repeat(90).trim(),
        }
        .about("What it is.\n\nAnd more.")
    }

    #[test]
    fn comments_stand_above_what_they_are_about() {
        let text = document(&object()).unwrap();
        assert_eq!(
            text,
            format!(
                "# What it is.
#
# And more.
kind: Thing
rules:
  # Why the first.
  # In two lines.
  - verbs:
      - get
      - list
    names:
      - a
  # Why the second.
  - verbs:
      - patch
spec:
  # All at once.
  policy: Parallel
  empty: {{}}
  none: []
text: |
  one
  two
long: {}
",
                "a ".repeat(90).trim()
            )
        );
    }

    #[test]
    fn what_is_printed_is_read_back_the_same() {
        for text in [
            "yes", "0440", "null", "", " a", "a: b", "# no", "1e3", "~", "on", "12:30:45", "a\tb", "0x1F", "\u{7f}",
            "- a",
        ] {
            let one = map! { "kind": "X", "text": text, "number": 288, "list": list![text, map! { "a": text }] };
            let again = objects(&document(&one).unwrap(), "x").unwrap();
            assert_eq!(again[0].object.as_ref(), Some(&one), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_back_the_same(text in r#"[a-z0-9:#'"\\ \n\t{}&*!|>%@`,?-]{0,24}|\PC{0,12}|[ \n\r\u{85}\u{2028}x]{0,8}"#) {
            let one = map! { "kind": "X", "text": text.clone(), "list": list![text.clone()] };
            let again = objects(&document(&one).unwrap(), "x").unwrap();
            proptest::prop_assert_eq!(again[0].object.as_ref(), Some(&one));
        }
    }

    #[test]
    fn several_objects_are_a_list_in_json_and_documents_in_yaml() {
        let two = [map! { "kind": "A" }, map! { "kind": "B" }];
        assert_eq!(yaml(&two).unwrap(), "kind: A\n---\nkind: B\n");
        let list: serde_json::Value = serde_json::from_str(&json(&two).unwrap()).unwrap();
        assert_eq!(list["items"][1]["kind"], "B");
    }
}
