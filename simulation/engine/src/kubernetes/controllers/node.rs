//! Nodes exist because somebody registers them.

use serde_json::{Value, json};

use super::super::api::ModelApi;
use super::super::error::ApiError;
use super::super::json::set;
use super::super::resource::KindId;
use super::super::time::ModelTime;

/// Registers a ready node, as its kubelet does; a node that is there already becomes ready again.
///
/// # Errors
/// Whatever the server refuses, such as a name that cannot be one.
pub fn register_node(api: &mut ModelApi, now: ModelTime, node: &str, zone: &str) -> Result<(), ApiError> {
    let user = format!("system:node:{node}");
    if api.get(KindId::NODES, "", node).is_none() {
        let object = json!({
            "metadata": {
                "name": node,
                "labels": {"kubernetes.io/hostname": node, "topology.kubernetes.io/zone": zone, "kubernetes.io/os": "linux"},
            },
            "spec": {},
        });
        api.create(now, &user, KindId::NODES, object)?;
    }
    set_ready(api, now, node, true)
}

/// Says of a node whether it is ready.
///
/// # Errors
/// Whatever the server refuses; in particular a node that is not there.
pub fn set_ready(api: &mut ModelApi, now: ModelTime, node: &str, ready: bool) -> Result<(), ApiError> {
    let user = format!("system:node:{node}");
    let mut object = api
        .get(KindId::NODES, "", node)
        .map(|node| Value::clone(node))
        .unwrap_or_else(|| json!({"metadata": {"name": node}}));
    let status = if ready { "True" } else { "Unknown" };
    if super::super::json::condition(&object, "Ready") != status {
        set(
            &mut object,
            &["status"],
            json!({
                "conditions": [{"type": "Ready", "status": status, "lastTransitionTime": now.rfc3339()}],
                "nodeInfo": {"kubeletVersion": "v1.33.0", "operatingSystem": "linux"},
            }),
        );
        api.update_status(now, &user, KindId::NODES, object)?;
    }
    Ok(())
}
