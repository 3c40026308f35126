//! The acts that only Java's management interface offers, as programs run beside the database.

use super::java;
use super::settings::{Run, Settings, text};
use protocol::launcher::Program;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long one look by `nodetool` may take: about a second on an idle machine, several on a busy one.
pub(super) const LOOK_TIMEOUT: Duration = Duration::from_secs(20);

/// `nodetool` with these arguments.
pub(super) fn nodetool(settings: &Settings, arguments: &[&str]) -> Program {
    let mut argv = command(settings);
    argv.extend(arguments.iter().map(|a| (*a).to_owned()));
    program(argv)
}

/// Prints the operation mode first and cheaply, also while clients are locked out.
pub(super) fn mode(settings: &Settings) -> Program {
    nodetool(settings, &["netstats"])
}

/// Flushes and takes no more writes. A second drain succeeds at once.
pub(super) fn drain(settings: &Settings) -> Program {
    nodetool(settings, &["drain"])
}

/// Hands all data over and leaves the ring.
///
/// Ends with 0 only where the database itself then says `DECOMMISSIONED`. Cut off and run again it waits for the leave
/// that is under way inside of the database (which refuses to be asked twice), and where it has been done before it
/// succeeds at once. Never forced: where the database refuses, a replica would be lost.
pub(super) fn leave(settings: &Settings) -> Program {
    const SCRIPT: &str = r#"
mode() { "$@" netstats 2>/dev/null | sed -n 's/^Mode: //p'; }
rc=0
now=$(mode "$@")
case "$now" in
  LEAVING|DECOMMISSIONED) ;;
  *) "$@" decommission; rc=$?; now=$(mode "$@") ;;
esac
while [ "$now" = LEAVING ]; do sleep 1; now=$(mode "$@"); done
if [ "$now" = DECOMMISSIONED ]; then exit 0; fi
echo "the database did not leave: decommission ended with $rc, mode is ${now:-unknown}" >&2
if [ "$rc" = 0 ]; then exit 1; fi
exit "$rc"
"#;
    let mut argv = vec!["sh".to_owned(), "-c".to_owned(), SCRIPT.to_owned(), "leave".to_owned()];
    argv.extend(command(settings));
    program(argv)
}

/// Replaces the running process's `cassandra.yaml` and makes it read the seeds anew.
pub(super) fn reload_seeds(settings: &Settings, yaml: &str) -> Program {
    const SCRIPT: &str = r#"
file=$1 content=$2
shift 2
printf '%s' "$content" > "$file.new" && mv "$file.new" "$file" && exec "$@" reloadseeds
"#;
    let mut argv = vec![
        "sh".to_owned(),
        "-c".to_owned(),
        SCRIPT.to_owned(),
        "reload-seeds".to_owned(),
        text(&settings.live_yaml()),
        yaml.to_owned(),
    ];
    argv.extend(command(settings));
    program(argv)
}

/// Bounds what is sent to others when the ring changes. Cassandra's word for no bound is 0.
pub(super) fn limit_streaming(settings: &Settings, mebibytes_per_second: Option<u32>) -> Program {
    let rate = mebibytes_per_second.map_or(0, |rate| rate.max(1));
    nodetool(settings, &["setstreamthroughput", "-m", &rate.to_string()])
}

fn command(settings: &Settings) -> Vec<String> {
    let port = settings.ports.jmx.to_string();
    match &settings.run {
        Run::Jars { java, lib, tool_archive, .. } => {
            let mut argv = vec![text(java), "-Xmx64M".to_owned()];
            argv.push("-XX:+UseSerialGC".to_owned());
            argv.push("-XX:TieredStopAtLevel=1".to_owned());
            if let Some(archive) = tool_archive {
                argv.push(format!("-XX:SharedArchiveFile={}", text(archive)));
                // A missing or outdated archive costs time, not the call.
                argv.push("-Xshare:auto".to_owned());
                argv.push("-Xlog:disable".to_owned());
            }
            argv.extend(java::modules());
            argv.push(format!("-Dcassandra.storagedir={}", text(&settings.config)));
            argv.push(format!("-Dlogback.configurationFile={}", text(&settings.rendered("logback-tools.xml"))));
            argv.push("-cp".to_owned());
            argv.push(class_path(lib));
            for argument in ["org.apache.cassandra.tools.NodeTool", "-h", "127.0.0.1", "-p", &port] {
                argv.push(argument.to_owned());
            }
            argv
        }
        Run::Image { .. } => vec!["nodetool".to_owned(), "-p".to_owned(), port],
    }
}

/// All jars of a folder, as the Java machine expands it.
pub(super) fn class_path(lib: &std::path::Path) -> String {
    format!("{}/*", text(lib))
}

fn program(argv: Vec<String>) -> Program {
    Program { argv, env: BTreeMap::new() }
}
