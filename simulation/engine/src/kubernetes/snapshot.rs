//! A model cluster's objects as they survive a restart of everything.
//!
//! Pods, nodes and events do not: after a restart no process of before runs. Claims, sets, Leases and the rest keep
//! their identities.

use serde_json::{Value, json};

use super::api::ModelApi;
use super::resource::KindId;

/// Kinds that end with the processes.
const GONE: &[&str] = &["pods", "nodes", "events"];

impl ModelApi {
    /// All objects that outlive a restart, in order of kind, namespace and name.
    #[must_use]
    pub fn snapshot(&self) -> Value {
        let mut kinds = serde_json::Map::new();
        for resource in self.resources() {
            let plural = resource.plural.as_ref();
            if GONE.contains(&plural) {
                continue;
            }
            let Some(kind) = self.kind(&resource.group, plural) else {
                continue;
            };
            let objects: Vec<&Value> = self.store().list(kind, None).map(AsRef::as_ref).collect();
            if !objects.is_empty() {
                kinds.insert(format!("{}/{plural}", resource.group), json!(objects));
            }
        }
        json!({
            "revision": self.store().revision(),
            "identities": self.store().identities_used(),
            "kinds": kinds,
        })
    }

    /// Puts a snapshot back into a fresh model.
    ///
    /// # Errors
    /// When it is none.
    pub fn restore(&mut self, snapshot: &Value) -> Result<(), String> {
        let revision = snapshot["revision"].as_u64().ok_or("it names no revision: it is no snapshot")?;
        let identities = snapshot["identities"].as_u64().ok_or("it counts no identities: it is no snapshot")?;
        let kinds = snapshot["kinds"].as_object().ok_or("it names no kinds: it is no snapshot")?;
        for (path, objects) in kinds {
            let (group, plural) = path.split_once('/').ok_or_else(|| format!("`{path}` names no kind"))?;
            let kind: KindId = self.kind(group, plural).ok_or_else(|| format!("kind `{path}` is not served"))?;
            for object in objects.as_array().into_iter().flatten() {
                let name = object["metadata"]["name"].as_str().ok_or("an object without a name")?.to_owned();
                let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
                self.store_mut().put_back(kind, &namespace, &name, object.clone());
            }
        }
        self.store_mut().resume_after(revision, identities);
        Ok(())
    }
}
