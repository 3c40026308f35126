//! A policy file as written: a tree of what a person typed, each name and value with its place.
//!
//! Nothing is judged here but whether the text is one YAML document. Duplicated names, unknown names and wrong types are
//! all kept, so that whoever reads the tree can report every fault together instead of the first.

use crate::fault::{Fault, FaultKind, Position, quiet, quiet_up_to, quoted};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy, Spanned};
use std::fmt;

/// How large a policy file may be. The largest preset, comments and all, is a tenth of it.
pub const MAX_BYTES: usize = 64 * 1024;

/// How deep a policy file may be nested. The deepest setting is at five.
pub const MAX_DEPTH: usize = 16;

/// How large a Kubernetes object may be: etcd takes no request beyond 1.5 MiB, and YAML is longer than what it keeps.
pub const MAX_OBJECT_BYTES: usize = 4 * 1024 * 1024;

/// How deep a Kubernetes object may be nested. A pod template with affinities is at 16, managed fields deeper.
pub const MAX_OBJECT_DEPTH: usize = 64;

/// A value as written, with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it begins; an alias is where it is used.
    pub at: Position,
    /// What it is.
    pub value: Written,
}

/// What a value is, before anybody asks what it should be.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// Nothing: `key:` alone, or `null`.
    Nothing,
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Whole(i128),
    /// A number with a fraction.
    Fraction(f64),
    /// Any other scalar, and everything in quotes.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file and with duplicates.
    Map(Vec<Entry>),
}

/// One name of a mapping and what it is given.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The name as written.
    pub key: Node,
    /// The value given to it.
    pub value: Node,
}

impl Entry {
    /// The name as text; a name that is no text is described, and so matches no setting.
    pub fn name(&self) -> String {
        match &self.key.value {
            Written::Text(text) => text.clone(),
            Written::Nothing
            | Written::Flag(_)
            | Written::Whole(_)
            | Written::Fraction(_)
            | Written::List(_)
            | Written::Map(_) => self.key.value.describe(),
        }
    }
}

impl Written {
    /// What was found, in the words of a fault.
    pub fn describe(&self) -> String {
        match self {
            Self::Nothing => "empty".into(),
            Self::Flag(flag) => flag.to_string(),
            Self::Whole(number) => number.to_string(),
            Self::Fraction(number) => number.to_string(),
            Self::Text(text) => quoted(text),
            Self::List(items) => format!("a list of {}", items.len()),
            Self::Map(_) => "a mapping".into(),
        }
    }
}

/// Reads one YAML document into a tree.
///
/// Fails with a single fault: where the text is not YAML there is no tree in which to look for others. Anchors and aliases
/// are followed within limits; merge keys (`<<`) are ordinary names and so come out as unknown ones.
pub fn read(text: &str) -> Result<Node, Fault> {
    if text.len() > MAX_BYTES {
        let remedy = "a policy is a page of settings: remove what is none";
        return Err(too_long(text, MAX_BYTES, remedy));
    }
    let budget = serde_saphyr::budget! {
        max_depth: MAX_DEPTH,
        max_nodes: 10_000,
        max_events: 40_000,
        max_aliases: 100,
        max_anchors: 100,
        flow_nesting_limit: MAX_DEPTH,
    };
    let options = serde_saphyr::options! {
        budget: budget,
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        reject_unsupported_tags: true,
        with_snippet: false,
        emit_comments: false,
    };
    serde_saphyr::from_str_with_options::<Node>(text, options).map_err(|error| explain(&error))
}

/// Reads one Kubernetes object into a tree, as kubectl would read it: `yes` is true, `0440` is octal, merge keys are
/// merged and aliases followed, all within limits.
///
/// # Errors
/// With a single fault, as [`read`].
pub fn read_object(text: &str) -> Result<Node, Fault> {
    if text.len() > MAX_OBJECT_BYTES {
        let remedy = "Kubernetes takes no larger object: is this one?";
        return Err(too_long(text, MAX_OBJECT_BYTES, remedy));
    }
    let budget = serde_saphyr::budget! {
        max_depth: MAX_OBJECT_DEPTH,
        max_nodes: 100_000,
        max_events: 400_000,
        max_aliases: 1_000,
        max_anchors: 1_000,
        flow_nesting_limit: MAX_OBJECT_DEPTH,
    };
    let options = serde_saphyr::options! {
        budget: budget,
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Merge,
        strict_booleans: false,
        legacy_octal_numbers: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        reject_unsupported_tags: true,
        with_snippet: false,
        emit_comments: false,
    };
    serde_saphyr::from_str_with_options::<Node>(text, options).map_err(|error| explain(&error))
}

fn too_long(text: &str, most: usize, remedy: &str) -> Fault {
    syntax(Position::START, format!("{} bytes long", text.len()), format!("be no longer than {most} bytes"), remedy)
}

/// The parser's error in our words; what it says is kept, since it knows best what it met.
fn explain(error: &serde_saphyr::Error) -> Fault {
    let at = error.location().map_or(Position::START, position);
    let error = error.without_snippet();
    if matches!(error, serde_saphyr::Error::MultipleDocuments { .. }) {
        return syntax(
            at,
            "more than one YAML document".into(),
            "be one".into(),
            "keep one policy in it: remove the \"---\" before this place and what follows",
        );
    }
    let said = error.render_with_options(serde_saphyr::render_options! {
        snippets: serde_saphyr::SnippetMode::Off,
    });
    let first = said.lines().next().unwrap_or_default();
    let reason = match first.rfind(" at line ") {
        Some(end) => first.get(..end).unwrap_or(first),
        None => first,
    };
    let reason = quiet_up_to(160, reason);
    syntax(
        at,
        format!("not readable as YAML ({})", reason.trim_end_matches(['.', ':', ' '])),
        "be one YAML document".into(),
        "mend the text at this place; other faults show once it can be read",
    )
}

fn syntax(at: Position, found: String, rule: String, remedy: &str) -> Fault {
    Fault { at, path: String::new(), kind: FaultKind::Syntax, found, rule, remedy: remedy.into() }
}

fn position(location: serde_saphyr::Location) -> Position {
    Position { line: location.line().max(1), column: location.column().max(1) }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Written>::deserialize(deserializer)?;
        Ok(Self { at: position(spanned.referenced), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WrittenVisitor)
    }
}

struct WrittenVisitor;

impl<'de> Visitor<'de> for WrittenVisitor {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Written, E> {
        Ok(Written::Nothing)
    }

    fn visit_none<E>(self) -> Result<Written, E> {
        Ok(Written::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Written, D::Error> {
        Written::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Written, E> {
        Ok(Written::Flag(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Written, E> {
        Ok(Written::Whole(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Written, E> {
        Ok(Written::Whole(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Written, E> {
        Ok(Written::Whole(value))
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Written, E> {
        i128::try_from(value).map(Written::Whole).map_err(|_| E::custom(format!("{value} is too large a number")))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Written, E> {
        Ok(Written::Fraction(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Written, E> {
        Ok(Written::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Written, E> {
        Ok(Written::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Written, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = items.next_element::<Node>()? {
            list.push(node);
        }
        Ok(Written::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Written, A::Error> {
        let mut map = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Node, Node>()? {
            map.push(Entry { key, value });
        }
        Ok(Written::Map(map))
    }

    fn visit_bytes<E: serde::de::Error>(self, value: &[u8]) -> Result<Written, E> {
        Err(E::custom(format!("{} bytes of binary data", value.len())))
    }
}

/// The name in a path: as it is where it is plain, quiet and in quotes where it is not.
pub fn path_of(section: &str, name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '<'));
    let name = if plain { quiet(name) } else { quoted(name) };
    if section.is_empty() { name } else { format!("{section}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(node: &Node) -> &[Entry] {
        let Written::Map(entries) = &node.value else { panic!("a mapping was expected, not {:?}", node.value) };
        entries
    }

    fn at(line: u64, column: u64) -> Position {
        Position { line, column }
    }

    #[test]
    fn every_name_and_value_has_its_place() {
        let tree = read("a: 1\nb:\n  cé: \"x\"   # why\n  d: [1.5, true]\n").unwrap();
        let top = entries(&tree);
        assert_eq!((top[0].key.at, top[0].value.at), (at(1, 1), at(1, 4)));
        assert_eq!((top[1].key.at, top[1].name()), (at(2, 1), "b".into()));
        let b = entries(&top[1].value);
        assert_eq!((b[0].key.at, b[0].value.at), (at(3, 3), at(3, 7)));
        assert_eq!((b[1].key.at, b[1].value.at), (at(4, 3), at(4, 6)));
        let Written::List(items) = &b[1].value.value else { panic!() };
        assert_eq!((items[0].at, items[1].at), (at(4, 7), at(4, 12)));
        assert_eq!(items[0].value, Written::Fraction(1.5));
        assert_eq!(items[1].value, Written::Flag(true));
    }

    #[test]
    fn duplicates_and_merge_keys_are_kept_for_whoever_judges() {
        let tree = read("a: 1\na: 2\n<<: {a: 3}\n").unwrap();
        let names: Vec<String> = entries(&tree).iter().map(Entry::name).collect();
        assert_eq!(names, ["a", "a", "<<"]);
    }

    #[test]
    fn nothing_is_guessed_about_a_scalar() {
        let tree = read("[yes, 0755, 1_000, .nan, ~, '5', 5, -5, 5s]").unwrap();
        let Written::List(items) = tree.value else { panic!() };
        let text = |s: &str| Written::Text(s.into());
        let values: Vec<Written> = items.into_iter().map(|item| item.value).collect();
        assert_eq!(
            values,
            [
                text("yes"),
                text("0755"),
                text("1_000"),
                text(".nan"),
                Written::Nothing,
                text("5"),
                Written::Whole(5),
                Written::Whole(-5),
                text("5s"),
            ]
        );
    }

    #[test]
    fn an_alias_is_where_it_is_used() {
        let tree = read("a: &x 5s\nb: *x\n").unwrap();
        let b = &entries(&tree)[1].value;
        assert_eq!((b.at, &b.value), (at(2, 4), &Written::Text("5s".into())));
    }

    #[test]
    fn text_that_is_no_yaml_is_one_fault_with_its_place() {
        let fault = read("spec:\n  gossip: { interval: 5s\n  phi: 3\n").unwrap_err();
        assert_eq!(fault.kind, FaultKind::Syntax);
        assert!(fault.at.line >= 2, "{fault:?}");
        assert!(!fault.found.contains(" at line "), "{fault}");
    }

    #[test]
    fn a_second_document_is_refused() {
        let fault = read("a: 1\n---\nb: 2\n").unwrap_err();
        assert_eq!((fault.at.line, fault.found.as_str()), (3, "more than one YAML document"));
    }

    #[test]
    fn deep_and_large_texts_are_refused_without_harm() {
        for text in ["[".repeat(20_000), "a: {".repeat(10_000), "- ".repeat(20_000), "x".repeat(MAX_BYTES + 1)] {
            assert_eq!(read(&text).unwrap_err().kind, FaultKind::Syntax);
        }
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e]\n";
        assert_eq!(read(bomb).unwrap_err().kind, FaultKind::Syntax);
    }
}
