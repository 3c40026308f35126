//! What is written and run to start one Cassandra: pure, from settings and context.

use super::settings::{Run, Settings, text};
use super::{java, tools, yaml};
use crate::driver::{RenderError, StartContext};
use protocol::launcher::{DatabaseProgram, Program};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Files, and the programs that start, drain and leave.
pub(super) fn program(settings: &Settings, context: &StartContext) -> Result<DatabaseProgram, RenderError> {
    check_name("the cluster's name", &context.cluster_name)?;
    check_name("the data centre", &context.data_center)?;
    check_name("the rack", &context.rack)?;
    if context.replaces == Some(context.address) {
        return Err(RenderError::SameAddress { address: context.address });
    }
    let mut files = BTreeMap::new();
    let mut write = |file: &str, content: String| {
        files.insert(text(&settings.rendered(file)), content);
    };
    write("cassandra.yaml", yaml::render(settings, context)?);
    write("cassandra-rackdc.properties", format!("dc={}\nrack={}\n", context.data_center, context.rack));
    let run = match &settings.run {
        Run::Jars { java, lib, jamm, server_archive, .. } => {
            write("logback.xml", LOGBACK.to_owned());
            write("logback-tools.xml", LOGBACK_TOOLS.to_owned());
            let mut options = java::server(settings, context.replaces);
            options.push(format!("-javaagent:{}", text(jamm)));
            if let Some(archive) = server_archive {
                options.push(format!("-XX:SharedArchiveFile={}", text(archive)));
                options.push("-Xshare:auto".to_owned());
            }
            options.push("-cp".to_owned());
            options.push(tools::class_path(lib));
            write("java.options", java::argument_file(&options));
            Program {
                argv: [
                    "sh",
                    "-c",
                    WITHOUT_LOCKED_MEMORY,
                    "cassandra",
                    &text(java),
                    &format!("@{}", text(&settings.rendered("java.options"))),
                    "org.apache.cassandra.service.CassandraDaemon",
                ]
                .map(str::to_owned)
                .to_vec(),
                env: BTreeMap::new(),
            }
        }
        Run::Image { conf } => image(settings, conf, context.replaces),
    };
    Ok(DatabaseProgram { files, run, drain: tools::drain(settings), leave: tools::leave(settings) })
}

/// As root Cassandra locks its whole heap into memory, which doubles what a small machine needs; as anybody else it
/// fails to and goes on.
const WITHOUT_LOCKED_MEMORY: &str = r#"
ulimit -l 64 2>/dev/null
if [ "$(id -u)" = 0 ]; then exec setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock -- "$@"; fi
exec "$@"
"#;

/// Lays what was rendered over a fresh copy of the image's own configuration, so that an upgraded image brings its own
/// options, and gives way to the server.
const OVER_THE_IMAGES_OWN: &str = r#"
set -e
stock=$1 rendered=$2 conf=$3
shift 3
mkdir -p "$CASSANDRA_LOG_DIR"
rm -rf "$conf"
mkdir -p "$conf"
cp -rL "$stock"/. "$conf"/
chmod -R u+w "$conf"
cp "$rendered"/* "$conf"/
export CASSANDRA_CONF="$conf"
exec "$@"
"#;

fn image(settings: &Settings, conf: &std::path::Path, replaces: Option<IpAddr>) -> Program {
    let mut env = BTreeMap::new();
    env.insert("JVM_EXTRA_OPTS".to_owned(), java::common(settings, replaces).join(" "));
    env.insert("JMX_PORT".to_owned(), settings.ports.jmx.to_string());
    env.insert("CASSANDRA_LOG_DIR".to_owned(), text(&settings.config.join("logs")));
    if let Some(heap) = &settings.heap {
        env.insert("MAX_HEAP_SIZE".to_owned(), heap.clone());
    }
    Program {
        argv: [
            "sh",
            "-c",
            OVER_THE_IMAGES_OWN,
            "cassandra",
            &text(conf),
            &text(&settings.config.join("rendered")),
            &text(&settings.image_conf()),
            "cassandra",
            "-f",
        ]
        .map(str::to_owned)
        .to_vec(),
        env,
    }
}

fn check_name(what: &'static str, name: &str) -> Result<(), RenderError> {
    let fits = (1..=64).contains(&name.chars().count())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.'));
    if fits { Ok(()) } else { Err(RenderError::Name { what, found: name.to_owned() }) }
}

const LOGBACK: &str = r#"<configuration>
  <appender name="STDOUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level [%thread] %date{ISO8601} %F:%L - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="STDOUT"/></root>
  <logger name="org.apache.cassandra.db.ColumnFamilyStore" level="WARN"/>
  <logger name="org.apache.cassandra.db.lifecycle.LogTransaction" level="WARN"/>
  <logger name="org.apache.cassandra.db.memtable.Flushing" level="WARN"/>
</configuration>
"#;

const LOGBACK_TOOLS: &str = r#"<configuration>
  <appender name="STDERR" class="ch.qos.logback.core.ConsoleAppender">
    <target>System.err</target>
    <encoder><pattern>%-5level %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="STDERR"/></root>
</configuration>
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::StartKind;
    use crate::driver::cassandra::settings::Timing;

    fn jars() -> Settings {
        let mut settings = Settings::new(
            Run::Jars {
                java: "java".into(),
                lib: "/cache/lib".into(),
                jamm: "/cache/lib/jamm.jar".into(),
                tool_archive: None,
                server_archive: None,
            },
            "/pods/c-0/data".into(),
            "/pods/c-0/run".into(),
        );
        settings.timing = Timing::Short;
        settings
    }

    fn context() -> StartContext {
        StartContext {
            kind: StartKind::Found,
            cluster_name: "orders".into(),
            address: "127.3.0.1".parse().expect("address"),
            seeds: Vec::new(),
            data_center: "dc1".into(),
            rack: "a".into(),
            replaces: None,
        }
    }

    #[test]
    fn equal_contexts_give_equal_programs() {
        assert_eq!(program(&jars(), &context()), program(&jars(), &context()));
    }

    #[test]
    fn a_name_that_would_break_out_of_a_file_is_refused() {
        let mut context = context();
        context.rack = "a\ndc=b".into();
        assert!(matches!(program(&jars(), &context), Err(RenderError::Name { what: "the rack", .. })));
    }

    #[test]
    fn nothing_a_member_runs_is_ever_forced() {
        let program = program(&jars(), &context()).expect("renders");
        for part in [&program.run, &program.drain, &program.leave] {
            assert!(!part.argv.iter().any(|a| a == "-f" || a == "--force"), "{part:?}");
        }
    }

    #[test]
    fn every_file_and_folder_of_a_stock_image_is_below_the_two_writable_ones() {
        let mut settings = jars();
        settings.run = Run::Image { conf: "/etc/cassandra".into() };
        let program = program(&settings, &context()).expect("renders");
        assert!(program.files.keys().all(|f| f.starts_with("/pods/c-0/run/rendered/")));
        assert_eq!(program.run.argv.last().map(String::as_str), Some("-f"));
        assert_eq!(program.drain.argv[0], "nodetool");
    }
}
