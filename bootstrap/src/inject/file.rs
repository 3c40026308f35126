//! Injection into a file: one StatefulSet of it is changed, all other documents pass as they were written.

use super::edit::Step;
use super::{Fault, INJECTED, Options, inject, remove};
use crate::manifest::print::{self, PrintError};
use crate::manifest::read::{self, Document};
use crate::manifest::tree::{Map, Value};
use policies::fault::{FaultKind, Faults, Position};
use policies::file::{Node, Written};

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// The set.
    pub set: String,
    /// The file as it was, its set laid out as in `after`: what differs between the two is what was done.
    pub before: String,
    /// The file as it shall be.
    pub after: String,
    /// The objects of it.
    pub objects: Vec<Map>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// Brings pilots into the one StatefulSet of a file, or the one that is named.
///
/// # Errors
/// With every reason why it cannot be done safely.
pub fn inject_file(text: &str, source: &str, options: &Options) -> Result<Done, Faults> {
    let documents = read::objects(text, source)?;
    let (number, object) = choose(&documents, options.set.as_deref()).map_err(|fault| faults(source, vec![fault]))?;
    let others: Vec<&Map> = documents.iter().filter_map(|document| document.object.as_ref()).collect();
    let place = |at: &[Step]| place(&documents[number], at);
    let done = inject(object, &others, &place, options).map_err(|found| faults(source, found))?;
    finish(&documents, number, done.object, done.notes).map_err(|error| faults(source, vec![super::unwritable(&error)]))
}

/// Takes pilots out of the StatefulSet of a file.
///
/// # Errors
/// When there is none, or what was replaced cannot be understood.
pub fn remove_file(text: &str, source: &str, set: Option<&str>) -> Result<Done, Faults> {
    let documents = read::objects(text, source)?;
    let (number, object) = choose(&documents, set).map_err(|fault| faults(source, vec![fault]))?;
    let place = |at: &[Step]| place(&documents[number], at);
    let mut done = remove(object, &place).map_err(|found| faults(source, found))?;
    if super::annotation(object).is_none() {
        done.notes
            .push(format!("the set has no annotation {INJECTED}: no pilots were injected, and nothing is changed"));
    }
    let policy =
        |object: &Map| object.get("spec").and_then(|spec| spec.text_at(&["podManagementPolicy"]).map(str::to_owned));
    let there = object.get("metadata").is_some_and(|metadata| metadata.at(&["uid"]).is_some());
    if there && policy(object) != policy(&done.object) {
        done.notes.push(format!(
            "spec.podManagementPolicy goes back, and Kubernetes changes it in no set that is there: `kubectl delete statefulset \
             {} --cascade=orphan` leaves pods and claims, then apply this",
            name(object)
        ));
    }
    finish(&documents, number, done.object, done.notes).map_err(|error| faults(source, vec![super::unwritable(&error)]))
}

fn faults(source: &str, found: Vec<Fault>) -> Faults {
    Faults::collect(source, found).unwrap_or(Faults { source: source.to_owned(), faults: Vec::new(), omitted: 0 })
}

fn is_set(object: &Map) -> bool {
    object.get("kind").and_then(Value::text) == Some("StatefulSet")
        && object.get("apiVersion").and_then(Value::text) == Some("apps/v1")
}

fn name(object: &Map) -> &str {
    object.get("metadata").and_then(Value::name).unwrap_or_default()
}

fn choose<'d>(documents: &'d [Document], wanted: Option<&str>) -> Result<(usize, &'d Map), Fault> {
    let sets: Vec<(usize, &Map)> = (0..)
        .zip(documents)
        .filter_map(|(number, document)| Some((number, document.object.as_ref()?)))
        .filter(|(_, object)| is_set(object))
        .collect();
    let names: Vec<&str> = sets.iter().map(|(_, set)| name(set)).collect();
    let fault = |kind, found: String, rule: &str, remedy: &str| Fault {
        at: Position::START,
        path: String::new(),
        kind,
        found,
        rule: rule.into(),
        remedy: remedy.into(),
    };
    let matching: Vec<&(usize, &Map)> =
        sets.iter().filter(|(_, set)| wanted.is_none_or(|wanted| name(set) == wanted)).collect();
    match (matching.as_slice(), wanted) {
        ([one], _) => Ok(**one),
        ([], Some(wanted)) => Err(fault(
            FaultKind::Missing,
            format!("one with the StatefulSets {}", if names.is_empty() { "none".into() } else { names.join(", ") }),
            &format!("have {wanted}"),
            "correct --set",
        )),
        ([], None) => Err(fault(
            FaultKind::Missing,
            "without a StatefulSet (apps/v1)".into(),
            "have the database's",
            "is it the right file?",
        )),
        (_, _) => Err(fault(
            FaultKind::Conflict,
            format!("one with the StatefulSets {}", names.join(", ")),
            "have one, or it must be said which",
            "name the database's with --set",
        )),
    }
}

fn finish(documents: &[Document], number: usize, object: Map, notes: Vec<String>) -> Result<Done, PrintError> {
    let set = name(&object).to_owned();
    let mut objects: Vec<Map> = documents.iter().filter_map(|document| document.object.clone()).collect();
    let before = documents[number].object.clone().unwrap_or_default();
    // Documents without an object are not among the objects.
    let index = documents[..number].iter().filter(|document| document.object.is_some()).count();
    objects[index] = object.clone();
    Ok(Done {
        set,
        before: whole(documents, number, &before)?,
        after: whole(documents, number, &object)?,
        objects,
        notes,
    })
}

/// The file, with this object in place of the document of that number.
fn whole(documents: &[Document], number: usize, object: &Map) -> Result<String, PrintError> {
    let mut out = String::new();
    for (this, document) in (0..).zip(documents) {
        if this > 0 {
            if !out.ends_with('\n') {
                out.push('\n');
            }
            out.push_str("---\n");
        }
        if this == number {
            out.push_str(&print::document(object)?);
        } else {
            out.push_str(&document.text);
        }
    }
    Ok(out)
}

/// Where something stands in the file: as near to it as there is anything.
fn place(document: &Document, at: &[Step]) -> Position {
    let mut position = Position { line: document.line, column: 1 };
    let Ok(root) = policies::file::read_object(&document.text) else { return position };
    let mut node: &Node = &root;
    for step in at {
        let next = match (step, &node.value) {
            (Step::Key(key), Written::Map(entries)) => {
                entries.iter().find(|entry| entry.name() == *key).map(|entry| &entry.value)
            }
            (Step::Item { key, is }, Written::List(items)) => {
                items.iter().find(|item| Value::from(*item).text_at(&[key]) == Some(is.as_str()))
            }
            (Step::Key(_) | Step::Item { .. }, _) => None,
        };
        match next {
            Some(next) => node = next,
            None => break,
        }
    }
    position.line = position.line.saturating_add(node.at.line).saturating_sub(1);
    position.column = node.at.column;
    position
}
