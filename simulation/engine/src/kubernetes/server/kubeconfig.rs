//! A kubeconfig for one user.

/// The file as kubectl and client libraries read it. JSON is YAML, and needs no quoting rules of its own.
pub(super) fn kubeconfig(server: &str, user: &str, token: &str) -> String {
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "model", "cluster": {"server": server}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "model", "context": {"cluster": "model", "user": user, "namespace": "default"}}],
        "current-context": "model",
    });
    format!("{config:#}\n")
}
