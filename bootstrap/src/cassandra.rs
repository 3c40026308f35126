//! What is known of Cassandra before any of it runs.

/// What the pilot alone sets: who the member is, where it listens, where its data lies, through whom it finds the
/// others. In the user's own settings these are left out, and the rendered file names those that were.
pub const OWNED: [&str; 19] = [
    "broadcast_address",
    "broadcast_rpc_address",
    "cdc_raw_directory",
    "cluster_name",
    "commitlog_directory",
    "data_file_directories",
    "endpoint_snitch",
    "hints_directory",
    "initial_token",
    "listen_address",
    "listen_interface",
    "local_system_data_file_directory",
    "native_transport_port",
    "rpc_address",
    "rpc_interface",
    "saved_caches_directory",
    "seed_provider",
    "start_native_transport",
    "storage_port",
];
