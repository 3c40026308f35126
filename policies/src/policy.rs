//! The policy as meant: how pilots may act, typed and valid.
//!
//! A [`Policy`] comes from [`Policy::parse`], which reports every fault of a file together, from a [`Preset`], or from
//! [`Policy::default`], which is the balanced preset.

mod read;
mod rules;
mod sections;

pub use read::{MAX_NAME_CHARS, nearest};
pub use rules::{RULES, Rule};
pub use sections::*;

use crate::fault::Faults;
use crate::setting::{Applies, SECTIONS, Value, all};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt;

/// The `apiVersion` of a policy file.
pub const API_VERSION: &str = "pilotmesh.io/v1alpha1";

/// The `kind` of a policy file.
pub const KIND: &str = "ClusterPolicy";

/// Names that the design knows and this version does not build yet, with what they will be for: refused, never ignored.
pub const UNSUPPORTED: &[(&str, &str)] = &[
    ("spec.replace", "when a dead member may be replaced"),
    ("spec.backup", "when backups are taken and where they go"),
    ("spec.restore", "how a cluster is restored"),
    ("spec.repair", "when data is compared and repaired"),
    ("spec.cleanup", "when data a member no longer owns is removed"),
    ("spec.upgrade", "how database versions are changed"),
    ("spec.volumes", "when volumes grow"),
    ("spec.windows", "at which hours what is allowed"),
    ("spec.scale.cooldown", "the pause between changes of size that rules ask for"),
    ("spec.scale.rules", "conditions on which the size changes by itself"),
];

/// How pilots may act.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What its author calls it. It changes nothing that a pilot does and so is not part of the hash.
    pub name: String,
    /// How pilots hear of each other.
    pub gossip: Gossip,
    /// Who coordinates.
    pub election: Election,
    /// What a pilot does about its own database's process.
    pub restart: Restart,
    /// How far and how quickly the size may change.
    pub scale: Scale,
    /// How members are restarted to a changed template.
    pub rollout: Rollout,
    /// Which settings the file gave, as opposed to those that have their default.
    written: BTreeSet<&'static str>,
}

/// The balanced preset.
impl Default for Policy {
    fn default() -> Self {
        Self {
            name: Preset::Balanced.name().to_owned(),
            gossip: Gossip::default(),
            election: Election::default(),
            restart: Restart::default(),
            scale: Scale::default(),
            rollout: Rollout::default(),
            written: BTreeSet::new(),
        }
    }
}

/// Equal in name and meaning, whether a value was written or is the default.
impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        let Self { name, gossip, election, restart, scale, rollout, written: _ } = self;
        *name == other.name
            && *gossip == other.gossip
            && *election == other.election
            && *restart == other.restart
            && *scale == other.scale
            && *rollout == other.rollout
    }
}

impl Eq for Policy {}

impl Policy {
    /// Reads a policy file; `source` is what to call it in faults.
    ///
    /// What the file does not set has its default. Fails with *all* faults of the file, each with its place, in the order
    /// of the file; where the text is not YAML at all, with that one.
    pub fn parse(text: &str, source: &str) -> Result<Self, Faults> {
        read::parse(text, source)
    }

    /// Reads the `spec` of a policy that stands in another document: the policy, and all that is wrong with it.
    ///
    /// With any fault the policy is not to be used. Faults are named from `spec` on, as in a file of its own.
    pub fn parse_spec(node: &crate::file::Node) -> (Self, Vec<crate::fault::Fault>) {
        read::spec(node)
    }

    /// What a changed file does to a policy in force: a new policy and what it changes, or faults, and then the old one
    /// stays in force.
    pub fn parse_reload(&self, text: &str, source: &str) -> Result<Reload, Faults> {
        let policy = Self::parse(text, source)?;
        let changes = self.diff(&policy);
        Ok(Reload { policy, changes })
    }

    /// A short name for what the policy means: equal for files that differ in comments, order, notation or name only.
    ///
    /// Defaults are part of it, so a file that leaves a setting out gets another hash when a version changes that default.
    pub fn hash(&self) -> PolicyHash {
        let mut sha = Sha256::new();
        for setting in all() {
            let value = match setting.value(self) {
                Value::Duration(duration) => duration.as_millis().to_string(),
                Value::Count(number) => number.to_string(),
                Value::Decimal(number) => number.to_string(),
            };
            sha.update(setting.path);
            sha.update("=");
            sha.update(value);
            sha.update("\n");
        }
        let hex = sha.finalize().iter().take(6).fold(String::with_capacity(12), |mut hex, byte| {
            for nibble in [byte >> 4, byte & 0xf] {
                hex.extend(char::from_digit(nibble.into(), 16));
            }
            hex
        });
        PolicyHash(hex)
    }

    /// What would change if `other` took this policy's place.
    pub fn diff(&self, other: &Self) -> Vec<Change> {
        all()
            .filter_map(|setting| {
                let (from, to) = (setting.value(self), setting.value(other));
                (from != to).then(|| Change { path: setting.path, from, to, applies: setting.applies() })
            })
            .collect()
    }

    /// Every setting with its value, its default, and whether the file set it.
    pub fn explain(&self) -> Vec<Explained> {
        all()
            .map(|setting| Explained {
                path: setting.path,
                value: setting.value(self),
                default: setting.default(),
                written: self.written.contains(setting.path),
                applies: setting.applies(),
                doc: setting.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n"),
            })
            .collect()
    }

    /// The policy as a file that sets everything: it parses to an equal policy.
    pub fn to_yaml(&self) -> String {
        let mut yaml =
            format!("apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata:\n  name: \"{}\"\nspec:\n", self.name);
        for section in SECTIONS {
            let depth = section.path.matches('.').count();
            let name = section.path.rsplit('.').next().unwrap_or(section.path);
            push_line(&mut yaml, depth, name, "");
            for setting in section.settings {
                push_line(&mut yaml, depth + 1, setting.name(), &format!(" {}", setting.value(self)));
            }
        }
        yaml
    }
}

fn push_line(yaml: &mut String, depth: usize, name: &str, value: &str) {
    for _ in 0..depth {
        yaml.push_str("  ");
    }
    yaml.push_str(name);
    yaml.push(':');
    yaml.push_str(value);
    yaml.push('\n');
}

/// Twelve hexadecimal digits that name what a policy means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct PolicyHash(String);

impl PolicyHash {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One setting that differs between two policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Which setting.
    pub path: &'static str,
    /// What it was.
    pub from: Value,
    /// What it becomes.
    pub to: Value,
    /// When.
    pub applies: Applies,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {} to {}, {}", self.path, self.from, self.to, self.applies)
    }
}

/// A policy that may take the place of the one in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reload {
    /// The new policy.
    pub policy: Policy,
    /// What it changes; nothing where the file only reads differently.
    pub changes: Vec<Change>,
}

/// One setting as it is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Which setting.
    pub path: &'static str,
    /// What it is.
    pub value: Value,
    /// What it is where the file does not say.
    pub default: Value,
    /// Whether the file says.
    pub written: bool,
    /// When a change takes effect.
    pub applies: Applies,
    /// What it means, what raising it costs, and where the number comes from.
    pub doc: String,
}

/// The policies that we ship for users to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preset {
    /// For data that matters more than minutes, and networks that are not to be trusted.
    Cautious,
    /// The defaults.
    Balanced,
    /// For quick and quiet networks, and for trying things out.
    Swift,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cautious, Self::Balanced, Self::Swift];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cautious => "cautious",
            Self::Balanced => "balanced",
            Self::Swift => "swift",
        }
    }

    /// Its file, with the reasoning for each number.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Cautious => include_str!("../presets/cautious.yaml"),
            Self::Balanced => include_str!("../presets/balanced.yaml"),
            Self::Swift => include_str!("../presets/swift.yaml"),
        }
    }

    /// The preset read. A preset with a fault is a fault of ours; tests read all of them.
    pub fn policy(self) -> Result<Policy, Faults> {
        Policy::parse(self.text(), &format!("{}.yaml", self.name()))
    }
}
