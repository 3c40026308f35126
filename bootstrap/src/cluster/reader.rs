//! Typed reading of a document's tree that collects every fault and goes on.

use super::Quantity;
use crate::manifest::Map;
use policies::fault::{Fault, FaultKind, Position, quoted};
use policies::file::{Entry, Node, Written, path_of};
use policies::policy::nearest;
use std::collections::BTreeMap;

/// Collects faults.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) faults: Vec<Fault>,
}

/// A mapping of the document with the names it may have, each read at most once.
pub(super) struct Section<'n> {
    at: Position,
    path: String,
    entries: BTreeMap<String, &'n Entry>,
}

/// A value of the document with its name.
pub(super) struct Found<'n> {
    pub(super) path: String,
    pub(super) node: &'n Node,
}

impl<'n> Section<'n> {
    /// What a name is given; none where it is not there.
    pub(super) fn get(&self, name: &str) -> Option<Found<'n>> {
        let entry = self.entries.get(name)?;
        Some(Found { path: path_of(&self.path, name), node: &entry.value })
    }
}

impl Reader {
    pub(super) fn fault(&mut self, at: Position, path: &str, kind: FaultKind, found: String, rule: &str, remedy: &str) {
        self.faults.push(Fault { at, path: path.into(), kind, found, rule: rule.into(), remedy: remedy.into() });
    }

    fn wrong_type(&mut self, found: &Found<'_>, rule: &str, remedy: &str) {
        self.fault(found.node.at, &found.path, FaultKind::WrongType, found.node.value.describe(), rule, remedy);
    }

    /// A value beyond its bounds.
    pub(super) fn beyond(&mut self, found: &Found<'_>, rule: &str, remedy: &str) {
        self.fault(found.node.at, &found.path, FaultKind::OutOfBounds, found.node.value.describe(), rule, remedy);
    }

    /// A mapping; every name that it may not have, and every name given twice, is a fault.
    pub(super) fn section<'n>(&mut self, found: &Found<'n>, names: &[&str]) -> Option<Section<'n>> {
        let Written::Map(entries) = &found.node.value else {
            let list = names.join(", ");
            self.wrong_type(found, &format!("be a mapping of {list}"), "write its settings below it, one a line");
            return None;
        };
        let mut distinct: BTreeMap<String, &Entry> = BTreeMap::new();
        for entry in entries {
            let name = entry.name();
            let path = path_of(&found.path, &name);
            if !names.contains(&name.as_str()) {
                let remedy = match nearest(&name, names) {
                    Some(near) => format!("did you mean {near}?"),
                    None => "remove it".to_owned(),
                };
                let rule = format!("be one of {}", names.join(", "));
                self.fault(entry.key.at, &path, FaultKind::Unknown, "not known".into(), &rule, &remedy);
            } else if let Some(first) = distinct.get(&name) {
                let said = format!("given again (first at line {})", first.key.at.line);
                self.fault(entry.key.at, &path, FaultKind::Duplicate, said, "be given once", "remove one of the two");
            } else {
                distinct.insert(name, entry);
            }
        }
        Some(Section { at: found.node.at, path: found.path.clone(), entries: distinct })
    }

    /// What a name is given; that it is not there is a fault.
    pub(super) fn needed<'n>(&mut self, section: &Section<'n>, name: &str, remedy: &str) -> Option<Found<'n>> {
        let found = section.get(name);
        if found.is_none() {
            let path = path_of(&section.path, name);
            self.fault(section.at, &path, FaultKind::Missing, "missing".into(), "be given", remedy);
        }
        found
    }

    pub(super) fn text(&mut self, found: &Found<'_>) -> Option<String> {
        match &found.node.value {
            Written::Text(text) if text.chars().any(char::is_control) || text.trim() != text || text.is_empty() => {
                self.beyond(found, "be one line of printable characters", "remove what does not print");
                None
            }
            Written::Text(text) => Some(text.clone()),
            Written::Nothing
            | Written::Flag(_)
            | Written::Whole(_)
            | Written::Fraction(_)
            | Written::List(_)
            | Written::Map(_) => {
                self.wrong_type(found, "be text", "write a text, in quotes if it looks like a number");
                None
            }
        }
    }

    /// A text that keeps a rule.
    pub(super) fn text_like(
        &mut self,
        found: &Found<'_>,
        keeps: impl Fn(&str) -> bool,
        rule: &str,
        remedy: &str,
    ) -> Option<String> {
        let text = self.text(found)?;
        if keeps(&text) {
            return Some(text);
        }
        self.beyond(found, rule, remedy);
        None
    }

    pub(super) fn texts(&mut self, found: &Found<'_>) -> Option<Vec<String>> {
        let Written::List(items) = &found.node.value else {
            self.wrong_type(found, "be a list of texts", "write one a line, with a dash before it");
            return None;
        };
        let read =
            |(number, node): (usize, &Node)| self.text(&Found { path: format!("{}.{number}", found.path), node });
        Some(items.iter().enumerate().filter_map(read).collect())
    }

    pub(super) fn count(&mut self, found: &Found<'_>, least: u32, most: u32) -> Option<u32> {
        let rule = format!("be a whole number from {least} to {most}");
        match &found.node.value {
            Written::Whole(number) => {
                let fits = u32::try_from(*number).ok().filter(|number| (least..=most).contains(number));
                if fits.is_none() {
                    self.beyond(found, &rule, "choose one within");
                }
                fits
            }
            Written::Nothing
            | Written::Flag(_)
            | Written::Fraction(_)
            | Written::Text(_)
            | Written::List(_)
            | Written::Map(_) => {
                self.wrong_type(found, &rule, "write digits only, without unit or quotes");
                None
            }
        }
    }

    pub(super) fn quantity(&mut self, found: &Found<'_>, example: &str) -> Option<Quantity> {
        let text = match &found.node.value {
            Written::Text(text) => text.clone(),
            Written::Whole(number) => number.to_string(),
            Written::Fraction(number) => number.to_string(),
            Written::Nothing | Written::Flag(_) | Written::List(_) | Written::Map(_) => String::new(),
        };
        let read = Quantity::parse(&text).filter(|quantity| !quantity.is_zero());
        if read.is_none() {
            self.wrong_type(
                found,
                "be an amount above 0, as Kubernetes writes it",
                &format!("write {example} for instance"),
            );
        }
        read
    }

    /// One of some words.
    pub(super) fn one_of<T: Copy>(&mut self, found: &Found<'_>, words: &[(&str, T)]) -> Option<T> {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let rule = format!("be one of {}", known.join(", "));
        let Written::Text(text) = &found.node.value else {
            // `off` and `no` are texts here, but people who know YAML 1.1 may well have met them as false.
            self.wrong_type(found, &rule, "write one of these words");
            return None;
        };
        match words.iter().find(|(word, _)| word == text) {
            Some((_, value)) => Some(*value),
            None => {
                let remedy = match nearest(text, &known) {
                    Some(near) => format!("did you mean {near}?"),
                    None => "write one of these words".to_owned(),
                };
                self.fault(found.node.at, &found.path, FaultKind::Unknown, quoted(text), &rule, &remedy);
                None
            }
        }
    }

    /// Any mapping: its names are judged by whoever it is for.
    pub(super) fn map(&mut self, found: &Found<'_>, what: &str) -> Option<Map> {
        let crate::manifest::Value::Map(map) = crate::manifest::Value::from(found.node) else {
            self.wrong_type(found, &format!("be a mapping: {what}"), "write \"name: value\", one a line");
            return None;
        };
        self.duplicates(found);
        Some(map)
    }

    fn duplicates(&mut self, found: &Found<'_>) {
        let Written::Map(entries) = &found.node.value else { return };
        let mut first: BTreeMap<String, Position> = BTreeMap::new();
        for entry in entries {
            let name = entry.name();
            let path = path_of(&found.path, &name);
            match first.get(&name) {
                Some(at) => {
                    let said = format!("given again (first at line {})", at.line);
                    self.fault(
                        entry.key.at,
                        &path,
                        FaultKind::Duplicate,
                        said,
                        "be given once",
                        "remove one of the two",
                    );
                }
                None => {
                    first.insert(name, entry.key.at);
                }
            }
            self.duplicates(&Found { path, node: &entry.value });
        }
    }
}
