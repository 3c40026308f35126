//! From a file as written to a policy as meant: typed reading that collects every fault.

use super::rules::RULES;
use super::{API_VERSION, KIND, Policy, UNSUPPORTED};
use crate::fault::{Fault, FaultKind, Faults, Position, quoted};
use crate::file::{self, Entry, Node, Written, path_of};
use crate::setting::{Bounds, Decimal, Field, Kind, SECTIONS, Setting, Value, all, find};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long the name of a policy may be: that of a Kubernetes label value.
pub const MAX_NAME_CHARS: usize = 63;

pub(super) fn parse(text: &str, source: &str) -> Result<Policy, Faults> {
    let mut reader =
        Reader { policy: Policy::default(), faults: Vec::new(), set: BTreeMap::new(), bad: BTreeSet::new() };
    match file::read(text) {
        Ok(root) => reader.document(&root),
        Err(fault) => reader.faults.push(fault),
    }
    let Reader { mut policy, faults, set, bad: _ } = reader;
    match Faults::collect(source, faults) {
        Some(faults) => Err(faults),
        None => {
            policy.written = set.into_keys().collect();
            Ok(policy)
        }
    }
}

/// The `spec` of a policy that is part of another document, with what is wrong with it.
///
/// The name is not part of it. Faults name the settings as a policy file would: from `spec` on.
pub(super) fn spec(node: &Node) -> (Policy, Vec<Fault>) {
    let mut reader =
        Reader { policy: Policy::default(), faults: Vec::new(), set: BTreeMap::new(), bad: BTreeSet::new() };
    reader.section(node, "spec");
    reader.rules();
    let Reader { mut policy, faults, set, bad: _ } = reader;
    policy.written = set.into_keys().collect();
    (policy, faults)
}

struct Reader {
    policy: Policy,
    faults: Vec<Fault>,
    /// Where each setting of the file stands.
    set: BTreeMap<&'static str, Position>,
    /// Settings with a fault of their own: no rule between settings is judged by them.
    bad: BTreeSet<&'static str>,
}

impl Reader {
    fn document(&mut self, root: &Node) {
        const NAMES: [&str; 4] = ["apiVersion", "kind", "metadata", "spec"];
        let Some(entries) = self.mapping(root, "") else { return };
        for entry in self.distinct(entries, "") {
            match entry.name().as_str() {
                "apiVersion" => self.fixed(entry, "apiVersion", API_VERSION),
                "kind" => self.fixed(entry, "kind", KIND),
                "metadata" => self.metadata(&entry.value),
                "spec" => self.section(&entry.value, "spec"),
                name => self.unknown(entry, "", name, &NAMES),
            }
        }
        let has = |name: &str| entries.iter().any(|entry| entry.name() == name);
        for (name, remedy) in [
            ("apiVersion", format!("add the line \"apiVersion: {API_VERSION}\"")),
            ("kind", format!("add the line \"kind: {KIND}\"")),
            ("metadata", "add the line \"metadata: { name: my-policy }\"".to_owned()),
            ("spec", "add the line \"spec: {}\"; what it does not set has its default".to_owned()),
        ] {
            if !has(name) {
                self.missing(root.at, name, remedy);
            }
        }
        self.rules();
    }

    fn metadata(&mut self, node: &Node) {
        let Some(entries) = self.mapping(node, "metadata") else { return };
        for entry in self.distinct(entries, "metadata") {
            match entry.name().as_str() {
                "name" => self.name(&entry.value),
                name => self.unknown(entry, "metadata", name, &["name"]),
            }
        }
        if !entries.iter().any(|entry| entry.name() == "name") {
            self.missing(node.at, "metadata.name", "add the line \"name: my-policy\"".into());
        }
    }

    fn name(&mut self, node: &Node) {
        const PATH: &str = "metadata.name";
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        match &node.value {
            Written::Text(name)
                if !name.is_empty()
                    && name.len() <= MAX_NAME_CHARS
                    && name.chars().all(allowed)
                    && !name.starts_with('-')
                    && !name.ends_with('-') =>
            {
                self.policy.name.clone_from(name);
            }
            Written::Text(name) => self.push(
                node.at,
                PATH,
                FaultKind::OutOfBounds,
                quoted(name),
                format!("be 1 to {MAX_NAME_CHARS} lower-case letters, digits and dashes, without a dash at either end"),
                "choose another name".into(),
            ),
            other @ (Written::Nothing
            | Written::Flag(_)
            | Written::Whole(_)
            | Written::Fraction(_)
            | Written::List(_)
            | Written::Map(_)) => {
                let remedy = "write a name, in quotes if it looks like a number";
                self.push(node.at, PATH, FaultKind::WrongType, other.describe(), "be text".into(), remedy.into());
            }
        }
    }

    fn fixed(&mut self, entry: &Entry, path: &str, only: &str) {
        if entry.value.value != Written::Text(only.to_owned()) {
            let found = entry.value.value.describe();
            let remedy = format!("write \"{path}: {only}\"");
            self.push(entry.value.at, path, FaultKind::OutOfBounds, found, format!("be {only}"), remedy);
        }
    }

    fn section(&mut self, node: &Node, path: &str) {
        let Some(entries) = self.mapping(node, path) else { return };
        for entry in self.distinct(entries, path) {
            let name = entry.name();
            let here = path_of(path, &name);
            if let Some(setting) = find(&here) {
                self.setting(setting, &entry.value);
            } else if is_section(&here) {
                self.section(&entry.value, &here);
            } else if let Some((_, purpose)) = UNSUPPORTED.iter().find(|(path, _)| *path == here) {
                self.push(
                    entry.key.at,
                    &here,
                    FaultKind::Unsupported,
                    "not supported by this version".into(),
                    "be absent".into(),
                    format!("remove it; a later version will read there {purpose}"),
                );
            } else {
                self.unknown(entry, path, &name, &names_in(path));
            }
        }
    }

    fn setting(&mut self, setting: &'static Setting, node: &Node) {
        self.set.insert(setting.path, node.at);
        let read = match &setting.kind {
            Kind::Duration(field) => duration(&node.value).and_then(|value| place(value, field, &mut self.policy)),
            Kind::Count(field) => count(&node.value).and_then(|value| place(value, field, &mut self.policy)),
            Kind::Decimal(field) => decimal(&node.value).and_then(|value| place(value, field, &mut self.policy)),
        };
        if let Err(Refusal { kind, rule, remedy }) = read {
            self.bad.insert(setting.path);
            self.push(node.at, setting.path, kind, node.value.describe(), rule, remedy);
        }
    }

    /// Judges the rules between settings, but not by a setting that has a fault of its own already.
    fn rules(&mut self) {
        for rule in RULES {
            if rule.settings.iter().any(|path| self.bad.contains(path)) {
                continue;
            }
            let (Some(must), Some(first)) = ((rule.broken)(&self.policy), rule.settings.first()) else { continue };
            let at = rule.settings.iter().find_map(|path| self.set.get(path).copied()).unwrap_or(Position::START);
            let value = find(first).map_or_else(String::new, |setting| setting.value(&self.policy).to_string());
            let found = if self.set.contains_key(first) { value } else { format!("{value} by default") };
            self.push(at, first, FaultKind::Conflict, found, must, rule.remedy.into());
        }
    }

    fn mapping<'n>(&mut self, node: &'n Node, path: &str) -> Option<&'n [Entry]> {
        match &node.value {
            Written::Map(entries) => Some(entries),
            other @ (Written::Nothing
            | Written::Flag(_)
            | Written::Whole(_)
            | Written::Fraction(_)
            | Written::Text(_)
            | Written::List(_)) => {
                let remedy = match (other, path) {
                    (Written::Nothing, "") => "begin with the preset that comes nearest".to_owned(),
                    (Written::Nothing, _) => "indent its settings below it, write {}, or remove it".to_owned(),
                    _ => "write its settings as \"name: value\", one a line, indented below it".to_owned(),
                };
                self.push(node.at, path, FaultKind::WrongType, other.describe(), "be a mapping".into(), remedy);
                None
            }
        }
    }

    /// The entries with the first of each name; each further one is a fault.
    fn distinct<'n>(&mut self, entries: &'n [Entry], path: &str) -> Vec<&'n Entry> {
        let mut first: BTreeMap<String, Position> = BTreeMap::new();
        let mut distinct = Vec::with_capacity(entries.len());
        for entry in entries {
            let name = entry.name();
            match first.get(&name) {
                None => {
                    first.insert(name, entry.key.at);
                    distinct.push(entry);
                }
                Some(at) => {
                    let found = format!("given again (first at line {})", at.line);
                    let remedy = "remove one of the two".into();
                    let here = path_of(path, &name);
                    self.push(entry.key.at, &here, FaultKind::Duplicate, found, "be given once".into(), remedy);
                }
            }
        }
        distinct
    }

    fn unknown(&mut self, entry: &Entry, path: &str, name: &str, names: &[&str]) {
        let remedy = match (nearest(name, names), elsewhere(name)) {
            (Some(near), _) => format!("did you mean {near}?"),
            (None, Some(place)) => format!("its place is {place}"),
            (None, None) => match nearest(name, &names_anywhere()).and_then(elsewhere) {
                Some(place) => format!("did you mean {place}?"),
                None => "remove it".to_owned(),
            },
        };
        let rule = format!("be one of {}", names.join(", "));
        self.push(entry.key.at, &path_of(path, name), FaultKind::Unknown, "not known".into(), rule, remedy);
    }

    fn missing(&mut self, at: Position, path: &str, remedy: String) {
        self.push(at, path, FaultKind::Missing, "missing".into(), "be given".into(), remedy);
    }

    fn push(&mut self, at: Position, path: &str, kind: FaultKind, found: String, rule: String, remedy: String) {
        self.faults.push(Fault { at, path: path.into(), kind, found, rule, remedy });
    }
}

/// Why a value is refused.
struct Refusal {
    kind: FaultKind,
    rule: String,
    remedy: String,
}

impl Refusal {
    fn wrong_type(rule: &str, remedy: &str) -> Self {
        Self { kind: FaultKind::WrongType, rule: rule.into(), remedy: remedy.into() }
    }
}

fn place<T: Copy + PartialOrd + Shown>(value: T, field: &Field<T>, policy: &mut Policy) -> Result<(), Refusal> {
    let Bounds { min, default, max } = field.bounds;
    if value < min || value > max {
        return Err(Refusal {
            kind: FaultKind::OutOfBounds,
            rule: format!("be between {} and {}", min.shown(), max.shown()),
            remedy: format!("{} it; the default is {}", if value < min { "raise" } else { "lower" }, default.shown()),
        });
    }
    *(field.slot)(policy) = value;
    Ok(())
}

/// How a setting's type is written in a file.
trait Shown {
    fn shown(self) -> Value;
}

impl Shown for Duration {
    fn shown(self) -> Value {
        Value::Duration(self)
    }
}

impl Shown for u32 {
    fn shown(self) -> Value {
        Value::Count(self)
    }
}

impl Shown for Decimal {
    fn shown(self) -> Value {
        Value::Decimal(self)
    }
}

fn duration(value: &Written) -> Result<Duration, Refusal> {
    const RULE: &str = "be a duration";
    match value {
        Written::Text(text) => {
            let unquoted = text.trim();
            if !unquoted.is_empty() && unquoted.chars().all(|c| c.is_ascii_digit()) {
                return Err(Refusal::wrong_type(
                    "be a duration with its unit",
                    "write a unit after it, for example 10s",
                ));
            }
            let duration = humantime::parse_duration(text).map_err(|_| {
                Refusal::wrong_type(RULE, "write a number and its unit, for example 500ms, 10s or 1m 30s")
            })?;
            if duration.subsec_nanos() % 1_000_000 == 0 {
                Ok(duration)
            } else {
                Err(Refusal::wrong_type("be in whole milliseconds", "round it to milliseconds"))
            }
        }
        Written::Whole(0) => Ok(Duration::ZERO),
        Written::Whole(number) if *number > 0 => {
            Err(Refusal::wrong_type("be a duration with its unit", &format!("write its unit, for example {number}s")))
        }
        Written::Whole(_)
        | Written::Fraction(_)
        | Written::Nothing
        | Written::Flag(_)
        | Written::List(_)
        | Written::Map(_) => {
            Err(Refusal::wrong_type(RULE, "write a number and its unit, for example 500ms, 10s or 1m 30s"))
        }
    }
}

fn count(value: &Written) -> Result<u32, Refusal> {
    const RULE: &str = "be a whole number";
    match value {
        Written::Whole(number) if *number < 0 => {
            Err(Refusal::wrong_type("be a whole number of 0 or more", "write it without a minus"))
        }
        // What is too large for the type is beyond every bound, and told as such.
        Written::Whole(number) => Ok(u32::try_from(*number).unwrap_or(u32::MAX)),
        Written::Fraction(number) if number.fract() == 0.0 && *number > f64::from(u32::MAX) => Ok(u32::MAX),
        Written::Text(text) if text.parse::<u32>().is_ok() => Err(Refusal::wrong_type(RULE, "remove the quotes")),
        Written::Fraction(_)
        | Written::Text(_)
        | Written::Nothing
        | Written::Flag(_)
        | Written::List(_)
        | Written::Map(_) => Err(Refusal::wrong_type(RULE, "write digits only, without unit or quotes")),
    }
}

fn decimal(value: &Written) -> Result<Decimal, Refusal> {
    const RULE: &str = "be a number with at most two decimals";
    match value {
        Written::Whole(number) if *number < 0 => {
            Err(Refusal::wrong_type("be a number of 0 or more", "write it without a minus"))
        }
        // What is too large for the type is beyond every bound, and told as such.
        Written::Whole(number) => Ok(Decimal::whole(u32::try_from(*number).unwrap_or(u32::MAX))),
        Written::Fraction(number) => match Decimal::from_f64(*number) {
            Some(decimal) => Ok(decimal),
            None => Err(Refusal::wrong_type(RULE, "round it to two decimals")),
        },
        Written::Text(text) if text.parse::<f64>().is_ok() => Err(Refusal::wrong_type(RULE, "remove the quotes")),
        Written::Text(_) | Written::Nothing | Written::Flag(_) | Written::List(_) | Written::Map(_) => {
            Err(Refusal::wrong_type(RULE, "write digits only, without unit or quotes"))
        }
    }
}

fn is_section(path: &str) -> bool {
    SECTIONS.iter().any(|section| section.path == path)
}

/// Where a file may have a section or a setting.
fn places() -> impl Iterator<Item = &'static str> {
    SECTIONS.iter().map(|section| section.path).chain(all().map(|setting| setting.path))
}

/// The names that mean something in any section.
fn names_anywhere() -> Vec<&'static str> {
    places().filter_map(|path| path.rsplit('.').next()).collect()
}

/// The names that mean something in a section.
fn names_in(section: &str) -> Vec<&'static str> {
    places()
        .filter_map(|path| path.rsplit_once('.').filter(|(parent, _)| *parent == section).map(|(_, name)| name))
        .collect()
}

/// Where else a name has its place, if it has one only.
fn elsewhere(name: &str) -> Option<&'static str> {
    let mut places = places().filter(|path| path.rsplit('.').next() == Some(name));
    match (places.next(), places.next()) {
        (Some(place), None) => Some(place),
        _ => None,
    }
}

/// The known name that was most probably meant: one slip of the hand for every three letters, case and dashes aside.
pub fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let plain = |name: &str| -> Vec<char> {
        name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).take(64).collect()
    };
    let meant = plain(name);
    names
        .iter()
        .map(|known| (slips(&meant, &plain(known)), *known))
        .filter(|(slips, known)| *slips <= known.len().div_ceil(3).min(3) && *slips < known.len())
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, known)| known)
}

/// How many letters must be put in, left out, changed or swapped with their neighbour to make one word of the other.
fn slips(a: &[char], b: &[char]) -> usize {
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, y) in b.iter().enumerate() {
            let changed = last[j] + usize::from(x != y);
            row[j + 1] = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                row[j + 1] = row[j + 1].min(before_last[j - 1] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_one_that_was_meant() {
        let names = names_in("spec.gossip");
        for (wrong, meant) in [
            ("intervall", Some("interval")),
            ("prior_interval", Some("priorInterval")),
            ("maxinterval", Some("maxInterval")),
            ("pih", Some("phi")),
            ("deadgrace", Some("deadGrace")),
            ("x", None),
            ("replicas", None),
        ] {
            assert_eq!(nearest(wrong, &names), meant, "{wrong}");
        }
    }

    #[test]
    fn slips_count_as_a_typist_would() {
        let count = |a: &str, b: &str| slips(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!(
            [count("", "ab"), count("phi", "phi"), count("pih", "phi"), count("kitten", "sitting")],
            [2, 0, 1, 3]
        );
    }

    #[test]
    fn a_section_knows_its_settings_and_the_sections_within_it() {
        assert_eq!(names_in("spec"), ["gossip", "election", "restart", "scale", "rollout"]);
        assert_eq!(names_in("spec.restart"), ["backoff", "crashLoop", "stopTimeout", "timeToDrain"]);
    }
}
