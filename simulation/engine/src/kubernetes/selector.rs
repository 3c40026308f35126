//! Which objects a list or a watch is about.

use serde_json::Value;

use super::error::ApiError;
use super::json::{at, list, text};

/// Labels and fields an object must carry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldRequirement {
    path: Vec<String>,
    equal: bool,
    value: String,
}

impl Selector {
    /// Reads the `labelSelector` and `fieldSelector` of a query.
    ///
    /// # Errors
    /// 400 where either cannot be read.
    pub fn parse(labels: &str, fields: &str) -> Result<Self, ApiError> {
        let labels = split_outside_parentheses(labels)
            .into_iter()
            .map(|part| Requirement::parse(&part))
            .collect::<Result<_, _>>()?;
        let fields = fields
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(FieldRequirement::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    /// Reads a `metav1.LabelSelector` (`matchLabels`, `matchExpressions`) as sets and budgets carry it.
    #[must_use]
    pub fn from_label_selector(selector: &Value) -> Self {
        let mut labels: Vec<Requirement> = at(selector, &["matchLabels"])
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(key, value)| Requirement::In(key.clone(), vec![value.as_str().unwrap_or("").to_owned()]))
            .collect();
        for expression in list(selector, &["matchExpressions"]) {
            let key = text(expression, &["key"]).to_owned();
            let values: Vec<String> =
                list(expression, &["values"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
            labels.push(match text(expression, &["operator"]) {
                "In" => Requirement::In(key, values),
                "NotIn" => Requirement::NotIn(key, values),
                "Exists" => Requirement::Exists(key),
                "DoesNotExist" => Requirement::Absent(key),
                // An operator nobody knows selects nothing, as it would not have passed validation.
                _ => Requirement::In(key, Vec::new()),
            });
        }
        Self { labels, fields: Vec::new() }
    }

    /// Whether nothing is asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether `object` carries all that is asked.
    #[must_use]
    pub fn matches(&self, object: &Value) -> bool {
        let labels = at(object, &["metadata", "labels"]);
        self.labels.iter().all(|requirement| requirement.holds(labels))
            && self.fields.iter().all(|requirement| requirement.holds(object))
    }

    /// The paths of the fields asked for.
    pub(crate) fn fields(&self) -> impl Iterator<Item = String> + '_ {
        self.fields.iter().map(|field| field.path.join("."))
    }

    /// The one name the fields ask for, where they do: a shortcut for lookups.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.fields
            .iter()
            .find(|field| {
                field.equal && field.path.len() == 2 && field.path[0] == "metadata" && field.path[1] == "name"
            })
            .map(|field| field.value.as_str())
    }
}

impl Requirement {
    fn parse(part: &str) -> Result<Self, ApiError> {
        let read = Self::read(part)?;
        let (key, values) = match &read {
            Self::In(key, values) | Self::NotIn(key, values) => (key, values.as_slice()),
            Self::Exists(key) | Self::Absent(key) => (key, &[][..]),
        };
        if !is_qualified_name(key) || !values.iter().all(|value| is_label_value(value)) {
            return Err(ApiError::bad_request(format!("unable to parse requirement: {part}")));
        }
        Ok(read)
    }

    fn read(part: &str) -> Result<Self, ApiError> {
        if let Some(other) = Self::compared(part) {
            return Ok(other);
        }
        let unreadable = || ApiError::bad_request(format!("unable to parse requirement: {part}"));
        if let Some((key, values)) = part.split_once(" notin ") {
            return Ok(Self::NotIn(key.trim().to_owned(), set_of(values).ok_or_else(unreadable)?));
        }
        if let Some((key, values)) = part.split_once(" in ") {
            return Ok(Self::In(key.trim().to_owned(), set_of(values).ok_or_else(unreadable)?));
        }
        if let Some((key, value)) = part.split_once("!=") {
            return Ok(Self::NotIn(key.trim().to_owned(), vec![value.trim().to_owned()]));
        }
        if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            return Ok(Self::In(key.trim().to_owned(), vec![value.trim().to_owned()]));
        }
        if let Some(key) = part.strip_prefix('!') {
            return Ok(Self::Absent(key.trim().to_owned()));
        }
        if part.contains(char::is_whitespace) { Err(unreadable()) } else { Ok(Self::Exists(part.to_owned())) }
    }

    /// `key>1`: no label a mesh uses is a number, so such a requirement selects nothing here.
    fn compared(part: &str) -> Option<Self> {
        let (key, number) = part.split_once(['<', '>'])?;
        number.trim().parse::<i64>().ok().map(|_| Self::In(key.trim().to_owned(), Vec::new()))
    }

    fn holds(&self, labels: Option<&Value>) -> bool {
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
        match self {
            Self::In(key, values) => label(key).is_some_and(|value| values.iter().any(|wanted| wanted == value)),
            Self::NotIn(key, values) => label(key).is_none_or(|value| values.iter().all(|banned| banned != value)),
            Self::Exists(key) => label(key).is_some(),
            Self::Absent(key) => label(key).is_none(),
        }
    }
}

impl FieldRequirement {
    fn parse(part: &str) -> Result<Self, ApiError> {
        let (path, equal, value) = if let Some((path, value)) = part.split_once("!=") {
            (path, false, value)
        } else if let Some((path, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            (path, true, value)
        } else {
            return Err(ApiError::bad_request(format!("invalid selector: '{part}'; can't understand '{part}'")));
        };
        Ok(Self { path: path.split('.').map(str::to_owned).collect(), equal, value: value.to_owned() })
    }

    fn holds(&self, object: &Value) -> bool {
        let found = self.path.iter().try_fold(object, |value, key| value.get(key));
        let same = match found {
            Some(Value::String(text)) => *text == self.value,
            Some(Value::Bool(flag)) => flag.to_string() == self.value,
            Some(Value::Number(number)) => number.to_string() == self.value,
            Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => self.value.is_empty(),
        };
        same == self.equal
    }
}

/// `app` or `pilotmesh.io/member`: the key of a label, an annotation or a finalizer.
pub(crate) fn is_qualified_name(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let prefix_can_be = prefix.is_none_or(|prefix| {
        !prefix.is_empty()
            && prefix.len() <= 253
            && prefix.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
    });
    prefix_can_be && !name.is_empty() && is_label_value(name)
}

/// What the value of a label may be; nothing is one.
pub(crate) fn is_label_value(text: &str) -> bool {
    let is_end = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || (text.len() <= 63
            && text.chars().all(|c| is_end(c) || matches!(c, '-' | '_' | '.'))
            && text.starts_with(is_end)
            && text.ends_with(is_end))
}

fn set_of(text: &str) -> Option<Vec<String>> {
    let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?;
    Some(inner.split(',').map(|value| value.trim().to_owned()).collect())
}

fn split_outside_parentheses(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0_u32;
    for letter in text.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if letter == ',' && depth == 0 {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(letter);
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(labels: &str, fields: &str) -> bool {
        let pod =
            json!({"metadata": {"name": "a-0", "labels": {"app": "a", "tier": "db"}}, "spec": {"nodeName": "n1"}});
        Selector::parse(labels, fields).expect("readable").matches(&pod)
    }

    #[test]
    fn labels_select_by_equality_sets_and_presence() {
        assert!(check("app=a,tier==db", ""));
        assert!(check("app in (b, a),tier notin (web),!gone", ""));
        assert!(check("app", ""));
        assert!(!check("app!=a", ""));
        assert!(!check("gone", ""));
        assert!(check("gone!=x", ""), "an absent label differs from every value");
    }

    #[test]
    fn fields_select_by_any_path() {
        assert!(check("", "metadata.name=a-0"));
        assert!(check("", "spec.nodeName=n1,metadata.name!=b"));
        assert!(!check("", "spec.nodeName="));
    }

    #[test]
    fn an_unreadable_selector_is_refused() {
        assert_eq!(Selector::parse("a in b", "").expect_err("refused").reason.code(), 400);
        assert_eq!(Selector::parse("", "nonsense").expect_err("refused").reason.code(), 400);
    }
}
