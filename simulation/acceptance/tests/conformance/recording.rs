//! What the real one answered, as it is kept beside this file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The steps of one script and what was answered.
pub(crate) type Told = Vec<Step>;

/// One step: what was asked, and what of the answer matters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) step: String,
    pub(crate) answer: Value,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Recording {
    /// The version of the server that answered.
    pub(crate) server: String,
    pub(crate) scripts: BTreeMap<String, Told>,
}

impl Recording {
    fn path() -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/kubernetes.json"))
    }

    pub(crate) fn read() -> Self {
        let path = Self::path();
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}; record again", path.display()))
    }

    /// Writes it down; `only_some` keeps what was recorded of other scripts.
    pub(crate) fn write(mut self, only_some: bool) {
        if only_some {
            let mut scripts = Self::read().scripts;
            scripts.append(&mut self.scripts);
            self.scripts = scripts;
        }
        std::fs::write(Self::path(), self.text()).expect("the recording can be written");
    }

    /// One line for each step: a changed answer is a changed line.
    fn text(&self) -> String {
        let json = |value: &Value| value.to_string();
        let scripts: Vec<String> = self
            .scripts
            .iter()
            .map(|(name, told)| {
                let steps: Vec<String> = told
                    .iter()
                    .map(|step| {
                        format!("      {{\"step\": {}, \"answer\": {}}}", json(&step.step.clone().into()), step.answer)
                    })
                    .collect();
                format!("    {}: [\n{}\n    ]", json(&name.clone().into()), steps.join(",\n"))
            })
            .collect();
        let server = json(&self.server.clone().into());
        format!("{{\n  \"server\": {server},\n  \"scripts\": {{\n{}\n  }}\n}}\n", scripts.join(",\n"))
    }
}

/// A step of which two servers tell differently.
pub(crate) struct Difference {
    pub(crate) script: String,
    pub(crate) step: String,
    recorded: Option<Value>,
    found: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}, at {}", self.script, self.step)?;
        let empty = serde_json::Map::new();
        let (recorded, found) = (self.recorded.as_ref(), self.found.as_ref());
        if recorded.is_none() || found.is_none() {
            let word = |side: Option<&Value>| side.map_or("no such step".to_owned(), Value::to_string);
            return writeln!(formatter, "    recorded: {}\n    now:      {}", word(recorded), word(found));
        }
        let fields = |side: Option<&Value>| side.and_then(Value::as_object).unwrap_or(&empty).clone();
        let (recorded, found) = (fields(recorded), fields(found));
        let mut keys: Vec<&String> = recorded.keys().chain(found.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys.into_iter().filter(|key| recorded.get(*key) != found.get(*key)) {
            let word = |side: Option<&Value>| side.map_or("nothing".to_owned(), Value::to_string);
            writeln!(formatter, "    {key}: recorded {}, now {}", word(recorded.get(key)), word(found.get(key)))?;
        }
        Ok(())
    }
}

/// Where what was told now is not what was recorded; of scripts that were told.
pub(crate) fn differences(recording: &Recording, told: &BTreeMap<String, Told>) -> Vec<Difference> {
    let nothing = Told::new();
    let mut found = Vec::new();
    for (script, steps) in told {
        let recorded = recording.scripts.get(script).unwrap_or(&nothing);
        let labels = |told: &Told| told.iter().map(|step| step.step.clone()).collect::<Vec<_>>();
        let mut all = labels(recorded);
        all.extend(labels(steps).into_iter().filter(|label| recorded.iter().all(|step| step.step != *label)));
        for label in all {
            let of = |told: &Told| told.iter().find(|step| step.step == label).map(|step| step.answer.clone());
            let (before, now) = (of(recorded), of(steps));
            if before != now {
                found.push(Difference { script: script.clone(), step: label, recorded: before, found: now });
            }
        }
    }
    found
}
