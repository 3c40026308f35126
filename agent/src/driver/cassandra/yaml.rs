//! `cassandra.yaml`: ours, the user's merged over it, and the seeds.

use super::settings::{Settings, Timing, text};
use crate::driver::{RenderError, StartContext, StartKind};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;

pub use bootstrap::cassandra::OWNED;

/// The folders of the volume that hold what belongs to one identity.
pub(super) const DATA_FOLDERS: [&str; 5] = ["data", "commitlog", "saved_caches", "hints", "cdc_raw"];

/// Through whom the process finds its cluster (C-SEED).
///
/// A process that names itself as a seed never streams data when it joins: it would own a part of the ring and hold
/// nothing of it. So a joining one names the others only. One that has its data names itself too, for with all others
/// down it would otherwise end with "unable to gossip with any peers". The founder has nobody else.
pub(super) fn seeds(context: &StartContext) -> Result<Vec<IpAddr>, RenderError> {
    let others: BTreeSet<IpAddr> = context.seeds.iter().copied().filter(|seed| *seed != context.address).collect();
    match context.kind {
        StartKind::Found => Ok(vec![context.address]),
        StartKind::Join if others.is_empty() => Err(RenderError::NobodyToJoin { address: context.address }),
        StartKind::Join => Ok(others.into_iter().collect()),
        StartKind::Return => Ok(others.into_iter().chain(std::iter::once(context.address)).collect()),
    }
}

/// The settings of the user's that are left out, in order.
///
/// # Errors
/// When what the user gave is no mapping.
pub(super) fn left_out(settings: &Settings) -> Result<Vec<String>, RenderError> {
    Ok(user_settings(settings)?.keys().filter(|key| OWNED.contains(&key.as_str())).cloned().collect())
}

/// The whole file.
pub(super) fn render(settings: &Settings, context: &StartContext) -> Result<String, RenderError> {
    let mut all = ours(settings, context)?;
    for (key, value) in user_settings(settings)? {
        if !OWNED.contains(&key.as_str()) {
            all.insert(key, value);
        }
    }
    // Cassandra does not start without the pause that its other ways to sync need: the stock ones.
    for (way, setting, pause) in
        [("periodic", "commitlog_sync_period", "10s"), ("group", "commitlog_sync_group_window", "10ms")]
    {
        if all.get("commitlog_sync").and_then(Value::as_str) == Some(way) {
            all.entry(setting).or_insert_with(|| json!(pause));
        }
    }
    let mut file = String::from(
        "# Rendered by the pilot before each start: changes here are lost. Settings of your own belong into the\n\
         # settings file given to the pilot, which is merged over these.\n",
    );
    let left_out = left_out(settings)?;
    if !left_out.is_empty() {
        file.push_str(&format!(
            "# Left out of the settings you gave, because the pilot sets them: {}\n",
            left_out.join(", ")
        ));
    }
    let body =
        serde_saphyr::to_string(&Value::Object(all)).map_err(|e| RenderError::Overrides { reason: e.to_string() })?;
    file.push_str(&body);
    Ok(file)
}

fn user_settings(settings: &Settings) -> Result<Map<String, Value>, RenderError> {
    let Some(given) = &settings.overrides else {
        return Ok(Map::new());
    };
    if given.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Map::new());
    }
    serde_saphyr::from_str::<Map<String, Value>>(given).map_err(|e| RenderError::Overrides { reason: e.to_string() })
}

fn ours(settings: &Settings, context: &StartContext) -> Result<Map<String, Value>, RenderError> {
    let seeds = seeds(context)?
        .iter()
        .map(|seed| match seed {
            IpAddr::V4(v4) => format!("{v4}:{}", settings.ports.storage),
            IpAddr::V6(v6) => format!("[{v6}]:{}", settings.ports.storage),
        })
        .collect::<Vec<_>>()
        .join(",");
    let address = context.address.to_string();
    let folder = |part: &str| text(&settings.folder(part));
    let mut map = Map::new();
    let mut set = |key: &str, value: Value| {
        map.insert(key.to_owned(), value);
    };
    set("cluster_name", json!(context.cluster_name));
    set(
        "seed_provider",
        json!([{
            "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
            "parameters": [{ "seeds": seeds }],
        }]),
    );
    for key in ["listen_address", "broadcast_address", "rpc_address", "broadcast_rpc_address"] {
        set(key, json!(address));
    }
    set("storage_port", json!(settings.ports.storage));
    set("native_transport_port", json!(settings.ports.native));
    set("start_native_transport", json!(true));
    set("endpoint_snitch", json!("GossipingPropertyFileSnitch"));
    set("data_file_directories", json!([folder("data")]));
    for part in ["commitlog", "saved_caches", "hints", "cdc_raw"] {
        set(&format!("{part}_directory"), json!(folder(part)));
    }
    // What Cassandra's own file sets and its code does not default to.
    set("num_tokens", json!(16));
    set("partitioner", json!("org.apache.cassandra.dht.Murmur3Partitioner"));
    // A write is on disk before it is acknowledged. With `periodic`, the stock value, all replicas killed at once lose what
    // they acknowledged last.
    set("commitlog_sync", json!("batch"));
    set("disk_failure_policy", json!("stop"));
    set("commit_failure_policy", json!("stop"));
    set("auto_snapshot", json!(true));
    if settings.credentials.is_some() {
        set("authenticator", json!({ "class_name": "PasswordAuthenticator" }));
        set("authorizer", json!({ "class_name": "CassandraAuthorizer" }));
    }
    if settings.frugal {
        set("commitlog_segment_size", json!("4MiB"));
    }
    match settings.timing {
        // Spreads tokens evenly for three replicas, which costs a longer wait when joining.
        Timing::Stock => set("allocate_tokens_for_local_replication_factor", json!(3)),
        Timing::Short => {}
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::cassandra::settings::Run;

    fn settings(overrides: Option<&str>) -> Settings {
        let mut settings = Settings::new(
            Run::Image { conf: "/etc/cassandra".into() },
            "/var/lib/cassandra".into(),
            "/run/pilot/cassandra".into(),
        );
        settings.overrides = overrides.map(str::to_owned);
        settings
    }

    fn context(kind: StartKind, seeds: &[&str]) -> StartContext {
        StartContext {
            kind,
            cluster_name: "orders".into(),
            address: "10.0.0.2".parse().expect("address"),
            seeds: seeds.iter().map(|s| s.parse().expect("address")).collect(),
            data_center: "dc1".into(),
            rack: "a".into(),
            replaces: None,
        }
    }

    fn addresses(seeds: &[IpAddr]) -> Vec<String> {
        seeds.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_founder_knows_only_itself_whoever_else_is_named() {
        let found = seeds(&context(StartKind::Found, &["10.0.0.9"])).expect("seeds");
        assert_eq!(addresses(&found), ["10.0.0.2"]);
    }

    #[test]
    fn a_joining_member_never_names_itself() {
        let found = seeds(&context(StartKind::Join, &["10.0.0.2", "10.0.0.3"])).expect("seeds");
        assert_eq!(addresses(&found), ["10.0.0.3"]);
    }

    #[test]
    fn nobody_joins_through_itself_alone() {
        for known in [&["10.0.0.2"][..], &[]] {
            assert!(matches!(seeds(&context(StartKind::Join, known)), Err(RenderError::NobodyToJoin { .. })));
        }
    }

    #[test]
    fn a_returning_member_can_start_alone() {
        let found = seeds(&context(StartKind::Return, &["10.0.0.3", "10.0.0.1"])).expect("seeds");
        assert_eq!(addresses(&found), ["10.0.0.1", "10.0.0.3", "10.0.0.2"]);
        let alone = seeds(&context(StartKind::Return, &[])).expect("seeds");
        assert_eq!(addresses(&alone), ["10.0.0.2"]);
    }

    #[test]
    fn a_setting_of_the_user_wins_unless_the_pilot_owns_it() {
        let settings =
            settings(Some("num_tokens: 4\nconcurrent_reads: 7\nlisten_address: 1.2.3.4\ncluster_name: other\n"));
        let file = render(&settings, &context(StartKind::Found, &[])).expect("renders");
        let read: Map<String, Value> = serde_saphyr::from_str(&file).expect("yaml");
        assert_eq!(read["num_tokens"], json!(4));
        assert_eq!(read["concurrent_reads"], json!(7));
        assert_eq!(read["listen_address"], json!("10.0.0.2"));
        assert_eq!(read["cluster_name"], json!("orders"));
        assert!(file.contains("because the pilot sets them: cluster_name, listen_address"), "{file}");
    }

    #[test]
    fn a_write_is_on_disk_before_it_is_acknowledged_unless_the_user_wants_it_otherwise() {
        let sync = |overrides: &str| {
            let file = render(&settings(Some(overrides)), &context(StartKind::Found, &[])).expect("renders");
            let read: Map<String, Value> = serde_saphyr::from_str(&file).expect("yaml");
            (read.get("commitlog_sync").cloned(), read.get("commitlog_sync_period").cloned())
        };
        assert_eq!(sync(""), (Some(json!("batch")), None));
        assert_eq!(sync("commitlog_sync: periodic\n"), (Some(json!("periodic")), Some(json!("10s"))));
        let own = sync("commitlog_sync: periodic\ncommitlog_sync_period: 1s\n");
        assert_eq!(own, (Some(json!("periodic")), Some(json!("1s"))));
    }

    #[test]
    fn settings_that_are_no_mapping_are_refused_with_the_reason() {
        let refused = render(&settings(Some("- a\n- b\n")), &context(StartKind::Found, &[]));
        assert!(matches!(refused, Err(RenderError::Overrides { .. })), "{refused:?}");
    }

    #[test]
    fn a_settings_file_of_comments_changes_nothing() {
        let bare = render(&settings(None), &context(StartKind::Found, &[]));
        let commented = render(&settings(Some("# nothing yet\n\n")), &context(StartKind::Found, &[]));
        assert_eq!(bare, commented);
    }

    #[test]
    fn every_folder_of_data_is_below_the_volume_where_it_is_looked_for() {
        let file = render(&settings(None), &context(StartKind::Found, &[])).expect("renders");
        for folder in DATA_FOLDERS {
            assert!(file.contains(&format!("/var/lib/cassandra/{folder}")), "{folder} in {file}");
        }
    }
}
