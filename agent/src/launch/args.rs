//! The command line of the launcher.

use super::runtime::LaunchSettings;
use protocol::id::Uid;
use std::path::PathBuf;
use std::time::Duration;

/// Runs a database under the care of its pilot: the entrypoint of the database container.
///
/// Starts nothing until the pilot's agent has brought a permission for this pod.
#[derive(Debug, Clone, clap::Args)]
pub struct LaunchArgs {
    /// The socket on which the agent is served, in a volume that both containers mount.
    #[arg(long, env = "PILOT_LAUNCHER_SOCKET", default_value = "/var/run/pilot/launcher.sock")]
    pub socket: PathBuf,
    /// Where permission, leave and crash accounts are kept, on the database's volume.
    #[arg(long, env = "PILOT_LAUNCHER_STATE", default_value = "/var/lib/pilot/launcher")]
    pub state_dir: PathBuf,
    /// The uid of this pod (downward API, `metadata.uid`).
    #[arg(long, env = "POD_UID")]
    pub pod_uid: String,
    /// The pod's grace period, counted from the stop signal; the agent refines it.
    #[arg(long, env = "PILOT_GRACE", default_value = "60s", value_parser = humantime::parse_duration)]
    pub grace: Duration,
    /// So long without any agent, a terminating launcher drains and stops without a word.
    #[arg(long, env = "PILOT_REATTACH", default_value = "5s", value_parser = humantime::parse_duration)]
    pub reattach: Duration,
    /// A folder in which the agent may have files written before each start; may be repeated.
    #[arg(long = "files-under", env = "PILOT_FILES_UNDER", value_delimiter = ':')]
    pub files_under: Vec<PathBuf>,
    /// The database's command, used where the agent names none.
    #[arg(last = true)]
    pub command: Vec<String>,
}

impl LaunchArgs {
    /// What the launcher is to do.
    pub fn settings(self) -> LaunchSettings {
        LaunchSettings {
            grace: self.grace,
            reattach: self.reattach,
            roots: self.files_under,
            command: self.command,
            ..LaunchSettings::new(self.socket, self.state_dir, Uid::new(self.pod_uid))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        launch: LaunchArgs,
    }

    #[test]
    fn the_command_stands_behind_two_dashes_and_keeps_its_own_flags() {
        let line = Line::try_parse_from([
            "launch",
            "--pod-uid",
            "u",
            "--grace",
            "2m",
            "--files-under",
            "/etc/a:/etc/b",
            "--",
            "cassandra",
            "-f",
        ])
        .map_err(|error| error.to_string())
        .unwrap();
        let settings = line.launch.settings();
        assert_eq!(settings.command, ["cassandra", "-f"]);
        assert_eq!(settings.grace, Duration::from_secs(120));
        assert_eq!(settings.roots.len(), 2);
    }
}
