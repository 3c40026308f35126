//! What containers of scripts do: the same in a real shell and in the model.

use std::time::Duration;

use serde_json::{Value, json};

/// The variable that says it.
const VARIABLE: &str = "BEHAVIOUR";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Runs until it is asked to end, and ends well at once.
    Serves,
    /// Runs until it is asked to end, and then takes three seconds.
    TakesItsTime,
    /// Runs, and does not listen.
    Deaf,
    /// Ends well at once.
    Ends,
    /// Ends badly at once.
    Fails,
}

impl Behaviour {
    const ALL: [Self; 5] = [Self::Serves, Self::TakesItsTime, Self::Deaf, Self::Ends, Self::Fails];

    fn word(self) -> &'static str {
        match self {
            Self::Serves => "serves",
            Self::TakesItsTime => "takes-its-time",
            Self::Deaf => "deaf",
            Self::Ends => "ends",
            Self::Fails => "fails",
        }
    }

    fn shell(self) -> &'static str {
        match self {
            Self::Serves => "trap 'exit 0' TERM; sleep 3600 & wait",
            Self::TakesItsTime => "trap 'sleep 3; exit 0' TERM; sleep 3600 & wait",
            Self::Deaf => "trap '' TERM; sleep 3600",
            Self::Ends => "exit 0",
            Self::Fails => "exit 3",
        }
    }

    /// The exit code of what does not run on.
    pub(crate) fn ends_by_itself(self) -> Option<i32> {
        match self {
            Self::Ends => Some(0),
            Self::Fails => Some(3),
            Self::Serves | Self::TakesItsTime | Self::Deaf => None,
        }
    }

    /// From SIGTERM to the end; `None` where it is not heard.
    pub(crate) fn takes_to_end(self) -> Option<Duration> {
        match self {
            Self::TakesItsTime => Some(Duration::from_secs(3)),
            Self::Serves | Self::Ends | Self::Fails => Some(Duration::ZERO),
            Self::Deaf => None,
        }
    }

    /// A container that behaves so.
    pub(crate) fn container(self, name: &str, image: &str) -> Value {
        json!({
            "name": name,
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", self.shell()],
            "env": [{"name": VARIABLE, "value": self.word()}],
        })
    }

    /// How a container of a pod behaves.
    pub(crate) fn of(pod: &Value, container: &str) -> Self {
        let word = ["containers", "initContainers"]
            .iter()
            .flat_map(|group| pod["spec"][group].as_array().into_iter().flatten())
            .find(|spec| spec["name"] == container)
            .and_then(|spec| spec["env"].as_array()?.iter().find(|entry| entry["name"] == VARIABLE)?["value"].as_str());
        Self::ALL.into_iter().find(|one| Some(one.word()) == word).unwrap_or(Self::Serves)
    }
}
