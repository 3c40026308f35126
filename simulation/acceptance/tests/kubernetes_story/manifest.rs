//! The very manifest that the documentation offers, made small and quick for a test.

use serde_json::{Value, json};

/// As it is offered.
const OFFERED: &str = include_str!("../../../../docs/examples/cassandra-statefulset.yaml");

/// Images as the cluster at hand has them.
#[derive(Clone)]
pub(crate) struct Images {
    /// The pilot's.
    pub(crate) pilot: String,
    /// Cassandra's.
    pub(crate) cassandra: String,
}

/// The objects, with these images, little memory and short waits of the database.
pub(crate) fn objects(images: &Images) -> Result<Vec<Value>, String> {
    let mut objects = Vec::new();
    for text in OFFERED.split("\n---\n") {
        let mut object: Value = serde_saphyr::from_str(text).map_err(|error| format!("the manifest: {error}"))?;
        match object["kind"].as_str() {
            Some("StatefulSet") => shrink(&mut object, images)?,
            Some("ConfigMap") if object["metadata"]["name"] == "cassandra-settings" => hurry(&mut object)?,
            Some(_) => {}
            None => return Err("an object of the manifest has no kind".to_owned()),
        }
        objects.push(object);
    }
    objects.push(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": "cassandra-mesh-keys" },
        "stringData": { "first": format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>()) },
    }));
    Ok(objects)
}

fn shrink(set: &mut Value, images: &Images) -> Result<(), String> {
    let spec = &mut set["spec"];
    for kind in ["initContainers", "containers"] {
        let containers = spec["template"]["spec"][kind].as_array_mut().ok_or("the set has no containers")?;
        for container in containers {
            if container["name"] == "database" {
                container["image"] = json!(images.cassandra);
                container["resources"] =
                    json!({ "requests": { "cpu": "100m", "memory": "512Mi" }, "limits": { "memory": "1Gi" } });
            } else {
                container["image"] = json!(images.pilot);
            }
            if container["name"] == "pilot" {
                // Failed calls to the API are told at this level: the story reads them.
                let env = container["env"].as_array_mut().ok_or("the sidecar has no variables")?;
                env.push(json!({ "name": "PILOT_LOG", "value": "info,agent::runtime=debug,scylla=warn" }));
            }
        }
    }
    spec["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] = json!("1Gi");
    Ok(())
}

fn hurry(map: &mut Value) -> Result<(), String> {
    let text = map["data"]["driver.yaml"].as_str().ok_or("the settings have no driver.yaml")?;
    let mut settings: Value = serde_saphyr::from_str(text).map_err(|error| format!("driver.yaml: {error}"))?;
    settings["heap"] = json!("256M");
    settings["frugal"] = json!(true);
    settings["timing"] = json!("short");
    // JSON is YAML as well.
    map["data"]["driver.yaml"] = json!(settings.to_string());
    Ok(())
}
