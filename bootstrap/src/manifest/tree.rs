//! A Kubernetes object as a person wrote it, or as a person shall read it: names in order, comments beside them.
//!
//! Typed objects of a client library would lose both, and every field that the library's version does not know.

use policies::file::{Node, Written};

/// A value of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`.
    Nothing,
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Whole(i128),
    /// A number with a fraction.
    Fraction(f64),
    /// A text.
    Text(String),
    /// A sequence.
    List(Vec<Value>),
    /// A mapping.
    Map(Map),
}

/// A mapping in the order in which it was written. Names are unique.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Map {
    /// A comment to be printed above the whole of it; read documents have none.
    pub why: Option<String>,
    entries: Vec<Entry>,
}

/// One name of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The name.
    pub key: String,
    /// A comment to be printed above it.
    pub why: Option<String>,
    /// What it is given.
    pub value: Value,
}

/// A mapping from names to what becomes a [`Value`], in this order.
macro_rules! map {
    ($($key:literal: $value:expr),* $(,)?) => {{
        #[allow(unused_mut, reason = "an empty mapping is one, too")]
        let mut map = $crate::manifest::Map::default();
        $(map.set($key, $value);)*
        map
    }};
}
pub(crate) use map;

/// A list of what becomes a [`Value`].
macro_rules! list {
    ($($value:expr),* $(,)?) => {
        $crate::manifest::Value::List(vec![$($crate::manifest::Value::from($value)),*])
    };
}
pub(crate) use list;

impl Map {
    /// Names and values in their order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// There is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What a name is given.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// What a name is given, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.value)
    }

    /// Where a name stands.
    pub fn place(&self, key: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.key == key)
    }

    /// Gives a name its value, in its place where it has one, else at the end. What it had before comes back.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> Option<Value> {
        let value = value.into();
        match self.get_mut(key) {
            Some(old) => Some(std::mem::replace(old, value)),
            None => {
                self.entries.push(Entry { key: key.to_owned(), why: None, value });
                None
            }
        }
    }

    /// Puts a new name at a place; at the end where that is nearer.
    pub fn insert(&mut self, place: usize, key: &str, value: Value) {
        let place = place.min(self.entries.len());
        self.entries.insert(place, Entry { key: key.to_owned(), why: None, value });
    }

    /// Takes a name away.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.place(key).map(|place| self.entries.remove(place).value)
    }

    /// With a comment above a name that it has.
    #[must_use]
    pub fn note(mut self, key: &str, why: &str) -> Self {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.key == key) {
            entry.why = Some(why.to_owned());
        }
        self
    }

    /// With a comment above the whole.
    #[must_use]
    pub fn about(mut self, why: &str) -> Self {
        self.why = Some(why.to_owned());
        self
    }

    /// With another name, where there is a value for it.
    #[must_use]
    pub fn with(mut self, key: &str, value: Option<impl Into<Value>>) -> Self {
        if let Some(value) = value {
            self.set(key, value);
        }
        self
    }
}

impl Value {
    /// What lies along these names; nothing where one of them is not there.
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(self, |value, key| value.map()?.get(key))
    }

    /// A text along these names.
    pub fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path)?.text()
    }

    /// The items of the list along these names; none where there is no list.
    pub fn list_at(&self, path: &[&str]) -> &[Value] {
        match self.at(path) {
            Some(Self::List(items)) => items,
            Some(_) | None => &[],
        }
    }

    /// The mapping that this is.
    pub fn map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            Self::Nothing | Self::Flag(_) | Self::Whole(_) | Self::Fraction(_) | Self::Text(_) | Self::List(_) => None,
        }
    }

    /// The mapping that this is, to be changed.
    pub fn map_mut(&mut self) -> Option<&mut Map> {
        match self {
            Self::Map(map) => Some(map),
            Self::Nothing | Self::Flag(_) | Self::Whole(_) | Self::Fraction(_) | Self::Text(_) | Self::List(_) => None,
        }
    }

    /// The text that this is.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Nothing | Self::Flag(_) | Self::Whole(_) | Self::Fraction(_) | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// The whole number that this is.
    pub fn whole(&self) -> Option<i128> {
        match self {
            Self::Whole(number) => Some(*number),
            Self::Nothing | Self::Flag(_) | Self::Text(_) | Self::Fraction(_) | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// The name of a list's item: what `name` says in it.
    pub fn name(&self) -> Option<&str> {
        self.text_at(&["name"])
    }
}

impl From<&Node> for Value {
    fn from(node: &Node) -> Self {
        match &node.value {
            Written::Nothing => Self::Nothing,
            Written::Flag(flag) => Self::Flag(*flag),
            Written::Whole(number) => Self::Whole(*number),
            Written::Fraction(number) => Self::Fraction(*number),
            Written::Text(text) => Self::Text(text.clone()),
            Written::List(items) => Self::List(items.iter().map(Self::from).collect()),
            Written::Map(entries) => {
                let mut map = Map::default();
                for entry in entries {
                    map.set(&entry.name(), Self::from(&entry.value));
                }
                Self::Map(map)
            }
        }
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Whole(number.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Whole(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Whole(number.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Whole(number.into())
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

/// Any mapping: its names are somebody else's.
impl schemars::JsonSchema for Map {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Map".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "object" })
    }
}
