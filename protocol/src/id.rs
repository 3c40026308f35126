//! Names and identities that must not be mixed up. Their texts are shared: they are copied from fact to fact all day.

use crate::shared::Shared;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty or too long.
    #[error("`{found}` has {length} characters but must have 1 to {most}: choose another name")]
    Length {
        /// What was given.
        found: String,
        /// Its length in characters.
        length: usize,
        /// The most that is allowed.
        most: usize,
    },
    /// A character outside of those Kubernetes allows in names.
    #[error("`{found}` contains `{character}`: use lower-case letters, digits, `-` and `.` only, as Kubernetes does")]
    Character {
        /// What was given.
        found: String,
        /// The first offending character.
        character: char,
    },
}

fn check_name(text: &str, most: usize) -> Result<(), NameError> {
    let length = text.chars().count();
    if length == 0 || length > most {
        return Err(NameError::Length { found: text.to_owned(), length, most });
    }
    match text.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-' || *c == '.')) {
        Some(character) => Err(NameError::Character { found: text.to_owned(), character }),
        None => Ok(()),
    }
}

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(Shared<str>);

        impl $name {
            /// Takes the text as it is.
            pub fn new(text: impl Into<String>) -> Self {
                Self(Shared::from(text.into()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_newtype! {
    /// One database cluster: minted when it is formed and stored on the Lease, in status, on every claim and volume.
    ClusterId
}
text_newtype! {
    /// The uid that Kubernetes gave an object: the same name with another uid is another object.
    Uid
}
text_newtype! {
    /// The database's own name for a member (Cassandra host id): never an address or an ordinal.
    DatabaseIdentity
}
text_newtype! {
    /// Names one multi-step change for good, whoever carries it on.
    OperationId
}

/// The name of a pilot's pod, valid as a Kubernetes name (1 to 63 of `a-z 0-9 - .`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct PilotName(Shared<str>);

impl PilotName {
    /// Checks and takes a pod name.
    ///
    /// # Errors
    /// When the text is no valid pod name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_name(text, 63)?;
        Ok(Self(Shared::from(text)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number behind the last dash, which a StatefulSet gives its pods; `None` where there is none.
    pub fn ordinal(&self) -> Option<u32> {
        let (_, digits) = self.0.rsplit_once('-')?;
        if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
            return None;
        }
        digits.parse().ok()
    }
}

impl fmt::Display for PilotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PilotName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Which life of a pilot: persisted, greater in each new life, never repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Generation(pub u64);

/// One life of the pilot of one pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct PilotId {
    /// The pod.
    pub name: PilotName,
    /// The life.
    pub generation: Generation,
}

impl fmt::Display for PilotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.generation.0)
    }
}

impl PilotId {
    /// Reads the form that `Display` writes: `pod/generation`.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, generation) = text.rsplit_once('/')?;
        Some(Self { name: PilotName::parse(name).ok()?, generation: Generation(generation.parse().ok()?) })
    }
}

/// An entry of the roster: another volume under the same name is another voter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Voter {
    /// The pod's name.
    pub name: PilotName,
    /// The uid of the claim that holds its volume.
    pub claim: Uid,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinal_is_read_only_from_a_set_like_name() {
        let ordinal = |t: &str| PilotName::parse(t).expect("valid").ordinal();
        assert_eq!(ordinal("cassandra-12"), Some(12));
        assert_eq!(ordinal("cassandra-0"), Some(0));
        assert_eq!(ordinal("cassandra-01"), None);
        assert_eq!(ordinal("cassandra"), None);
    }

    #[test]
    fn a_name_that_kubernetes_refuses_is_refused_here_too() {
        assert!(PilotName::parse("").is_err());
        assert!(PilotName::parse("Cassandra-0").is_err());
        assert!(PilotName::parse(&"a".repeat(64)).is_err());
    }

    #[test]
    fn a_pilot_id_reads_back_what_it_prints() {
        let id = PilotId { name: PilotName::parse("c-3").expect("valid"), generation: Generation(77) };
        assert_eq!(PilotId::parse(&id.to_string()), Some(id));
    }
}
