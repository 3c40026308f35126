//! Options of the Java machine.

use super::settings::{Settings, Timing, text};
use std::net::IpAddr;

/// Packages that Cassandra 5.0 needs exported to it on Java 17.
const EXPORTS: [&str; 9] = [
    "java.base/java.lang.ref",
    "java.base/jdk.internal.misc",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.attach/sun.tools.attach",
    "jdk.compiler/com.sun.tools.javac.file",
    "jdk.unsupported/sun.misc",
];

/// Packages that Cassandra 5.0 needs opened to it on Java 17.
const OPENS: [&str; 14] = [
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.lang.reflect",
    "java.base/java.util",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "jdk.compiler/com.sun.tools.javac",
    "jdk.management/com.sun.management.internal",
];

/// The Java wait in milliseconds by which Cassandra lets a change of the ring spread, under [`Timing::Short`].
///
/// Stock is 30 s. A joining node must hear of a seed within it, or it ends with "unable to contact any seeds"; gossip
/// ticks once a second and picks a random member, so that one second is too short about every other time with three
/// members, and six fail about once in ten thousand joins.
const SHORT_RING_DELAY: u32 = 6000;

/// What opens the Java machine's modules, for server and tools.
pub(super) fn modules() -> Vec<String> {
    let mut options =
        vec!["-Djdk.attach.allowAttachSelf=true".to_owned(), "-Dio.netty.tryReflectionSetAccessible=true".to_owned()];
    options.extend(EXPORTS.iter().map(|p| format!("--add-exports={p}=ALL-UNNAMED")));
    options.extend(OPENS.iter().map(|p| format!("--add-opens={p}=ALL-UNNAMED")));
    options
}

/// What every server gets, wherever its program comes from; the user's own come last.
pub(super) fn common(settings: &Settings, replaces: Option<IpAddr>) -> Vec<String> {
    let mut options = Vec::new();
    if let Some(address) = replaces {
        // Counts for nothing once it is a member: a start after a crash says it again and changes nothing.
        options.push(format!("-Dcassandra.replace_address_first_boot={address}"));
    }
    if settings.frugal {
        for option in [
            // An image may have chosen another collector; two of them are refused.
            "-XX:-UseG1GC",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:-AlwaysPreTouch",
            "-Xss384k",
            // Measures one row in so many instead of the first ones exactly: only a figure changes.
            "-Dcassandra.memtable_row_overhead_computation_step=1000",
        ] {
            options.push(option.to_owned());
        }
    }
    match settings.timing {
        Timing::Stock => {}
        Timing::Short => {
            options.push(format!("-Dcassandra.ring_delay_ms={SHORT_RING_DELAY}"));
            for option in [
                "-Dcassandra.superuser_setup_delay_ms=0",
                "-Dcassandra.skip_wait_for_gossip_to_settle=0",
                "-Dcassandra.shutdown_announce_in_ms=100",
                // A replacement waits for one of these before it takes over, so that it would hear of whom it replaces
                // if that one lived. Stock is 60 s.
                "-Dcassandra.broadcast_interval_ms=1000",
            ] {
                options.push(option.to_owned());
            }
        }
    }
    options.extend(settings.jvm_options.iter().cloned());
    options
}

/// Everything a server from bare jars gets.
pub(super) fn server(settings: &Settings, replaces: Option<IpAddr>) -> Vec<String> {
    let mut options = Vec::new();
    if let Some(heap) = &settings.heap {
        options.push(format!("-Xms{heap}"));
        options.push(format!("-Xmx{heap}"));
    }
    options.push("-XX:+ExitOnOutOfMemoryError".to_owned());
    options.push("-XX:+PerfDisableSharedMem".to_owned());
    options.push("-Djava.net.preferIPv4Stack=true".to_owned());
    options.extend(modules());
    options.push(format!("-Dcassandra.config=file://{}", text(&settings.rendered("cassandra.yaml"))));
    options.push(format!(
        "-Dcassandra-rackdc.properties=file://{}",
        text(&settings.rendered("cassandra-rackdc.properties"))
    ));
    options.push(format!("-Dcassandra.storagedir={}", text(&settings.volume)));
    options.push(format!("-Dcassandra.logdir={}", text(&settings.config)));
    options.push(format!("-Dlogback.configurationFile={}", text(&settings.rendered("logback.xml"))));
    options.push("-Dcassandra-foreground=yes".to_owned());
    options.push(format!("-Dcassandra.jmx.local.port={}", settings.ports.jmx));
    options.extend(common(settings, replaces));
    options
}

/// Options as a file that `java @file` reads: one a line, quoted.
pub(super) fn argument_file(options: &[String]) -> String {
    let mut file = String::new();
    for option in options {
        file.push('"');
        for character in option.chars() {
            if matches!(character, '"' | '\\') {
                file.push('\\');
            }
            file.push(character);
        }
        file.push_str("\"\n");
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::cassandra::settings::Run;

    #[test]
    fn waits_are_shortened_only_where_it_is_asked_for() {
        let mut settings = Settings::new(Run::Image { conf: "/c".into() }, "/v".into(), "/r".into());
        settings.frugal = true;
        assert!(!server(&settings, None).iter().any(|o| o.contains("ring_delay")));
        settings.timing = Timing::Short;
        assert!(server(&settings, None).iter().any(|o| o.contains("ring_delay_ms=6000")));
    }

    #[test]
    fn an_option_with_a_quote_or_a_backslash_survives_the_file() {
        assert_eq!(argument_file(&[r#"-Da="b\c""#.to_owned()]), "\"-Da=\\\"b\\\\c\\\"\"\n");
    }
}
