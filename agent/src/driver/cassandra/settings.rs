//! What is fixed for one member's Cassandra, whatever start it is about to make.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One member's Cassandra: how it is run, where its data lies, what the user wants of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Where the program comes from.
    pub run: Run,
    /// The volume: data, commit log, hints and caches lie below it, each in a folder of its own.
    pub volume: PathBuf,
    /// A writable folder for rendered configuration, seen under the same path by the database's container.
    pub config: PathBuf,
    /// Where it listens. Every member of a cluster has the same `storage` port.
    #[serde(default)]
    pub ports: Ports,
    /// Least and greatest size of the Java heap, as `-Xmx` takes it (`256M`, `8G`); `None` lets the image choose.
    #[serde(default)]
    pub heap: Option<String>,
    /// Waits of the database itself.
    #[serde(default)]
    pub timing: Timing,
    /// Trades peak throughput for a quick start and little memory: serial collector, first compiler tier, small
    /// commit-log segments. Changes nothing of the meaning. For machines that run many members.
    #[serde(default)]
    pub frugal: bool,
    /// A folder with the files `username` and `password`, as a mounted Secret has them: Cassandra then asks its clients for a
    /// password, and the pilot looks at it as this role. Read anew for each connection, so that a changed Secret needs no restart.
    /// `None`: everybody may connect, as Cassandra's stock settings have it.
    #[serde(default)]
    pub credentials: Option<PathBuf>,
    /// The user's own `cassandra.yaml`: merged over ours, but for [`super::yaml::OWNED`].
    #[serde(default)]
    pub overrides: Option<String>,
    /// Further options for the Java machine, after all of ours: where two contradict, these win.
    #[serde(default)]
    pub jvm_options: Vec<String>,
}

/// Where the program comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Run {
    /// Bare jars and a Java machine.
    Jars {
        /// The `java` to run; found in `PATH` unless absolute.
        java: PathBuf,
        /// The folder of all jars.
        lib: PathBuf,
        /// The agent that measures objects in memory; one of them.
        jamm: PathBuf,
        /// An archive of loaded classes that shortens each start of a tool, if there is one.
        #[serde(default)]
        tool_archive: Option<PathBuf>,
        /// The same for the server.
        #[serde(default)]
        server_archive: Option<PathBuf>,
    },
    /// A stock image: `cassandra` and `nodetool` in `PATH`, its configuration to start from in a folder.
    Image {
        /// The image's own configuration.
        conf: PathBuf,
    },
}

/// Where it listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// For other members.
    pub storage: u16,
    /// For clients.
    pub native: u16,
    /// For tools, on 127.0.0.1 only: members that share a network namespace need different ones.
    pub jmx: u16,
}

impl Default for Ports {
    /// Cassandra's own: 7000, 9042, 7199.
    fn default() -> Self {
        Self { storage: 7000, native: 9042, jmx: 7199 }
    }
}

/// Waits of the database itself when the ring changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Timing {
    /// As Cassandra has them.
    #[default]
    Stock,
    /// **For tests only.** They shorten waits that protect data on a real network.
    Short,
}

impl Settings {
    /// Settings with Cassandra's own ports and waits, and nothing asked by the user.
    pub fn new(run: Run, volume: PathBuf, config: PathBuf) -> Self {
        Self {
            run,
            volume,
            config,
            ports: Ports::default(),
            heap: None,
            timing: Timing::Stock,
            frugal: false,
            credentials: None,
            overrides: None,
            jvm_options: Vec::new(),
        }
    }

    pub(super) fn folder(&self, part: &str) -> PathBuf {
        self.volume.join(part)
    }

    /// Where rendered files go: in an image they are laid over a copy of the image's own.
    pub(super) fn rendered(&self, file: &str) -> PathBuf {
        match &self.run {
            Run::Jars { .. } => self.config.join(file),
            Run::Image { .. } => self.config.join("rendered").join(file),
        }
    }

    /// The `cassandra.yaml` that the running process reads.
    pub(super) fn live_yaml(&self) -> PathBuf {
        match &self.run {
            Run::Jars { .. } => self.config.join("cassandra.yaml"),
            Run::Image { .. } => self.image_conf().join("cassandra.yaml"),
        }
    }

    pub(super) fn image_conf(&self) -> PathBuf {
        self.config.join("conf")
    }
}

/// A path as text for a file or an argument list; bytes that are no text are replaced, and the file is then not found.
pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_the_documented_example_are_understood() {
        let example = include_str!("../../../../docs/examples/cassandra-statefulset.yaml");
        let map = example.split("\n---\n").find(|object| object.contains("name: cassandra-settings")).unwrap();
        let map: serde_json::Value = serde_saphyr::from_str(map).unwrap();
        let settings: Settings = serde_saphyr::from_str(map["data"]["driver.yaml"].as_str().unwrap()).unwrap();
        assert_eq!(settings.run, Run::Image { conf: "/etc/cassandra".into() });
        assert_eq!(settings.volume, Path::new("/var/lib/cassandra"));
        assert_eq!(settings.timing, Timing::Stock);
        assert!(settings.overrides.is_some_and(|text| text.contains("concurrent_reads")));
    }
}
