//! What a setting is: one declaration gives the field, its documentation, its bounds, and how a file sets it.
//!
//! Parsing, comparing, hashing, explaining and the reference all walk [`SECTIONS`]; a setting that is declared is
//! therefore read, hashed and documented, and none can be forgotten in one of them.

use crate::policy::{self, Policy};
use serde::{Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// Every section of a policy, in the order of the reference.
pub const SECTIONS: &[&Section] = &[
    &policy::Gossip::SECTION,
    &policy::Election::SECTION,
    &policy::Restart::SECTION,
    &policy::Backoff::SECTION,
    &policy::CrashLoop::SECTION,
    &policy::Scale::SECTION,
    &policy::ScaleBounds::SECTION,
    &policy::Rollout::SECTION,
];

/// Every setting, in the order of the reference.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(|section| section.settings)
}

/// The setting at a path such as `spec.election.lease`.
pub fn find(path: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.path == path)
}

/// A group of settings that stand together in the file.
#[derive(Debug)]
pub struct Section {
    /// Its place in the file: `spec.restart.backoff`.
    pub path: &'static str,
    /// What it is for.
    pub about: &'static [&'static str],
    /// Its own settings; those of sections within it are theirs.
    pub settings: &'static [Setting],
}

/// One setting: where it stands in the file, what it may be, and where it lands in a [`Policy`].
#[derive(Debug)]
pub struct Setting {
    /// Its place in the file: `spec.election.lease`.
    pub path: &'static str,
    /// Its documentation: what it means, what raising it costs, and where its number comes from.
    pub doc: &'static [&'static str],
    /// Its type, bounds and default.
    pub kind: Kind,
}

impl Setting {
    /// Its name within its section: `lease`.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// What it is in a policy.
    pub fn value(&self, policy: &Policy) -> Value {
        match &self.kind {
            Kind::Duration(field) => Value::Duration((field.get)(policy)),
            Kind::Count(field) => Value::Count((field.get)(policy)),
            Kind::Decimal(field) => Value::Decimal((field.get)(policy)),
        }
    }

    /// What it is where the file does not say.
    pub fn default(&self) -> Value {
        match &self.kind {
            Kind::Duration(field) => Value::Duration(field.bounds.default),
            Kind::Count(field) => Value::Count(field.bounds.default),
            Kind::Decimal(field) => Value::Decimal(field.bounds.default),
        }
    }

    /// The least and the most it may be.
    pub fn bounds(&self) -> (Value, Value) {
        match &self.kind {
            Kind::Duration(field) => (Value::Duration(field.bounds.min), Value::Duration(field.bounds.max)),
            Kind::Count(field) => (Value::Count(field.bounds.min), Value::Count(field.bounds.max)),
            Kind::Decimal(field) => (Value::Decimal(field.bounds.min), Value::Decimal(field.bounds.max)),
        }
    }

    /// When a changed value takes effect.
    pub fn applies(&self) -> Applies {
        if self.path.starts_with(policy::Gossip::SECTION.path) { Applies::GossipRestart } else { Applies::AtOnce }
    }
}

/// When a changed setting takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Applies {
    /// With the next decision.
    AtOnce,
    /// When this pilot's gossip starts anew: the gossip library takes its settings at its start and never again.
    GossipRestart,
}

impl fmt::Display for Applies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtOnce => "with the next decision",
            Self::GossipRestart => "when the pilot's gossip starts anew",
        })
    }
}

/// The type of a setting.
#[derive(Debug)]
pub enum Kind {
    /// A length of time, written with its unit: `500ms`, `10s`, `1m 30s`.
    Duration(Field<Duration>),
    /// A whole number.
    Count(Field<u32>),
    /// A number with up to two decimals.
    Decimal(Field<Decimal>),
}

impl Kind {
    /// The type's name in the reference.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Duration(_) => "duration",
            Self::Count(_) => "whole number",
            Self::Decimal(_) => "number",
        }
    }
}

/// Bounds of a setting, and the way to it in a [`Policy`].
#[derive(Debug)]
pub struct Field<T: 'static> {
    /// Least, usual and greatest value.
    pub bounds: Bounds<T>,
    pub(crate) get: fn(&Policy) -> T,
    pub(crate) slot: fn(&mut Policy) -> &mut T,
}

/// What a setting may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds<T> {
    /// The least it may be.
    pub min: T,
    /// What it is where the file does not say.
    pub default: T,
    /// The most it may be.
    pub max: T,
}

/// A number with two decimals, kept exactly: equal numbers compare and hash as equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(u32);

impl Decimal {
    /// A whole number.
    pub const fn whole(number: u32) -> Self {
        Self(number.saturating_mul(100))
    }

    /// So many hundredths.
    pub const fn from_hundredths(hundredths: u32) -> Self {
        Self(hundredths)
    }

    /// How many hundredths it is.
    pub const fn hundredths(self) -> u32 {
        self.0
    }

    /// The nearest float, for libraries that want one.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// So many times a length of time.
    pub fn times(self, duration: Duration) -> Duration {
        duration.saturating_mul(self.0) / 100
    }

    /// The decimal that this float was written as; none where it is negative, too large, or has more than two decimals.
    pub fn from_f64(number: f64) -> Option<Self> {
        let hundredths = number * 100.0;
        let rounded = hundredths.round();
        let exact = (hundredths - rounded).abs() < 1e-6;
        // The range makes the cast lossless.
        (exact && (0.0..=1e9).contains(&rounded)).then_some(Self(rounded as u32))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole}"),
            (whole, part) if part % 10 == 0 => write!(f, "{whole}.{}", part / 10),
            (whole, part) => write!(f, "{whole}.{part:02}"),
        }
    }
}

/// A setting's value, whichever its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// A length of time.
    Duration(Duration),
    /// A whole number.
    Count(u32),
    /// A number with two decimals.
    Decimal(Decimal),
}

/// As it would be written in a file.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duration(duration) => humantime::format_duration(*duration).fmt(f),
            Self::Count(number) => number.fmt(f),
            Self::Decimal(number) => number.fmt(f),
        }
    }
}

/// As it would be written in a file.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Declares a section: its struct, its defaults, and its entry in [`SECTIONS`], from one text.
///
/// ```text
/// section! {
///     /// What the section is for.
///     Name at "spec.name" in (policy => policy.name), with { inner: Inner }
///     /// What the setting means.
///     "camelCase" field: Duration = BOUNDS,
/// }
/// ```
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $name:ident at $path:literal in ($policy:ident => $place:expr), with { $($sub:ident: $Sub:ident),* }
        $(
            $(#[doc = $doc:literal])+
            $key:literal $field:ident: $kind:ident = $bounds:ident,
        )*
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $(
                $(#[doc = $doc])+
                #[doc = ""]
                #[doc = concat!(" Bounds and default: [`", stringify!($bounds), "`].")]
                pub $field: section!(@type $kind),
            )*
            $(
                #[doc = concat!("See [`", stringify!($Sub), "`].")]
                pub $sub: $Sub,
            )*
        }

        impl $name {
            /// This section as the file and the reference know it.
            pub const SECTION: Section = Section {
                path: $path,
                about: &[$($about),+],
                settings: &[$(
                    Setting {
                        path: concat!($path, ".", $key),
                        doc: &[$($doc),+],
                        kind: Kind::$kind(Field {
                            bounds: $bounds,
                            get: |$policy| $place.$field,
                            slot: |$policy| &mut $place.$field,
                        }),
                    },
                )*],
            };
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($field: $bounds.default,)*
                    $($sub: $Sub::default(),)*
                }
            }
        }
    };
    (@type Duration) => { Duration };
    (@type Count) => { u32 };
    (@type Decimal) => { Decimal };
}
pub(crate) use section;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_exact_to_two_places() {
        for (float, shown) in [(10.0, "10"), (8.5, "8.5"), (8.05, "8.05"), (0.1, "0.1"), (29.99, "29.99")] {
            assert_eq!(Decimal::from_f64(float).map(|d| d.to_string()), Some(shown.to_owned()));
        }
        for none in [8.001, -1.0, 1e12, f64::NAN, f64::INFINITY] {
            assert_eq!(Decimal::from_f64(none), None);
        }
        assert_eq!(Decimal::from_hundredths(250).times(Duration::from_secs(2)), Duration::from_secs(5));
    }

    #[test]
    fn every_setting_says_what_it_means_what_it_costs_and_where_its_number_comes_from() {
        for setting in all() {
            let doc = setting.doc.join("\n");
            assert!(doc.contains("\n Raising it"), "{} does not say what raising it costs", setting.path);
            assert!(doc.contains("\n Source: "), "{} does not say where its number comes from", setting.path);
        }
    }

    #[test]
    fn every_default_is_within_its_bounds_and_every_path_is_its_own() {
        let mut paths: Vec<&str> = all().map(|setting| setting.path).collect();
        for setting in all() {
            let (min, max) = setting.bounds();
            assert!(min <= setting.default() && setting.default() <= max, "{}", setting.path);
        }
        paths.sort_unstable();
        let count = paths.len();
        paths.dedup();
        assert_eq!(paths.len(), count);
    }

    #[test]
    fn each_setting_has_a_slot_of_its_own_and_is_part_of_the_hash() {
        for setting in all() {
            let mut policy = Policy::default();
            let (_, max) = setting.bounds();
            match &setting.kind {
                Kind::Duration(field) => *(field.slot)(&mut policy) = field.bounds.max,
                Kind::Count(field) => *(field.slot)(&mut policy) = field.bounds.max,
                Kind::Decimal(field) => *(field.slot)(&mut policy) = field.bounds.max,
            }
            assert_eq!(setting.value(&policy), max, "{}", setting.path);
            let changed: Vec<&str> = all().filter(|s| s.value(&policy) != s.default()).map(|s| s.path).collect();
            assert_eq!(changed, [setting.path]);
            assert_ne!(policy.hash(), Policy::default().hash());
        }
    }
}
