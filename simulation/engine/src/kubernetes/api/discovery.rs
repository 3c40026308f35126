//! What clients ask before they know anything: version, groups, kinds, and as much OpenAPI as kubectl needs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::error::{ApiError, Reason};
use super::super::request::{Body, Request};
use super::super::resource::Resource;
use super::{Granted, ModelApi};

/// The version the model claims: the oldest that has everything it models.
const MINOR: &str = "33";

impl ModelApi {
    pub(super) fn discover(&self, request: &Request) -> Granted {
        let parts: Vec<&str> = request.path.split('/').filter(|part| !part.is_empty()).collect();
        let made = match parts.as_slice() {
            ["version"] => json!({
                "major": "1", "minor": MINOR, "gitVersion": format!("v1.{MINOR}.0"), "gitCommit": "", "gitTreeState": "clean",
                "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc", "platform": "linux/amd64",
            }),
            ["healthz" | "livez" | "readyz", ..] => Value::from("ok"),
            [] => json!({"paths": ["/api", "/apis", "/openapi/v3", "/version"]}),
            ["api"] => {
                json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
            }
            ["apis"] => {
                let groups: Vec<Value> =
                    self.groups().into_iter().map(|(group, versions)| api_group(group, &versions)).collect();
                json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
            }
            ["apis", group] => {
                let versions = self.groups().remove(*group).ok_or_else(unknown)?;
                let mut made = api_group(group, &versions);
                made["kind"] = json!("APIGroup");
                made["apiVersion"] = json!("v1");
                made
            }
            ["api", "v1"] => self.resource_list("", "v1"),
            ["apis", "authorization.k8s.io", "v1"] => json!({
                "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "authorization.k8s.io/v1",
                "resources": [{
                    "name": "selfsubjectaccessreviews", "singularName": "selfsubjectaccessreview", "namespaced": false,
                    "kind": "SelfSubjectAccessReview", "verbs": ["create"],
                }],
            }),
            ["apis", group, version]
                if self.groups().get(*group).is_some_and(|all| all.contains(&(*version).to_owned())) =>
            {
                self.resource_list(group, version)
            }
            ["openapi", "v3"] => {
                let paths: serde_json::Map<String, Value> = self
                    .groups()
                    .iter()
                    .flat_map(|(group, versions)| versions.iter().map(move |version| format!("apis/{group}/{version}")))
                    .chain(["api/v1".to_owned()])
                    .map(|path| {
                        let url = json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash=1")});
                        (path, url)
                    })
                    .collect();
                json!({"paths": paths})
            }
            ["openapi", "v3", "api", "v1"] => self.open_api("", "v1"),
            ["openapi", "v3", "apis", group, version] => self.open_api(group, version),
            _ => return Err(unknown()),
        };
        Ok((200, Body::Made(made)))
    }

    /// Groups but the core one, with their versions.
    fn groups(&self) -> BTreeMap<&str, Vec<String>> {
        let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::from([("authorization.k8s.io", vec!["v1".to_owned()])]);
        for row in self.resources.iter().filter(|row| !row.group.is_empty()) {
            let versions = groups.entry(&row.group).or_default();
            if !versions.iter().any(|version| *version == row.version) {
                versions.push(row.version.to_string());
            }
        }
        groups
    }

    fn resource_list(&self, group: &str, version: &str) -> Value {
        let mut resources = Vec::new();
        for row in self.served(group, version) {
            resources.push(json!({
                "name": row.plural, "singularName": row.kind.to_lowercase(), "namespaced": row.namespaced, "kind": row.kind,
                "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
                "shortNames": row.short_names,
            }));
            let mut sub = |name: &str, group: &str, version: &str, kind: &str, verbs: &[&str]| {
                resources.push(json!({
                    "name": format!("{}/{name}", row.plural), "singularName": "", "namespaced": row.namespaced,
                    "group": group, "version": version, "kind": kind, "verbs": verbs,
                }));
            };
            if row.status {
                sub("status", "", "", &row.kind, &["get", "patch", "update"]);
            }
            if row.scale {
                sub("scale", "autoscaling", "v1", "Scale", &["get", "patch", "update"]);
            }
            if row.plural == "pods" && row.group.is_empty() {
                sub("eviction", "policy", "v1", "Eviction", &["create"]);
            }
        }
        let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources})
    }

    fn served<'a>(&'a self, group: &'a str, version: &'a str) -> impl Iterator<Item = &'a Resource> + 'a {
        self.resources.iter().filter(move |row| row.group == group && row.version == version)
    }

    /// Names each kind's PATCH and the parameters by which kubectl learns that the server checks fields itself.
    fn open_api(&self, group: &str, version: &str) -> Value {
        let parameter =
            |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
        let mut paths = serde_json::Map::new();
        for row in self.served(group, version) {
            let place = if row.namespaced { "{namespace}" } else { "" };
            let identity = json!({"group": row.group, "version": row.version, "kind": row.kind});
            paths.insert(
                row.path(place, "{name}"),
                json!({"patch": {
                    "operationId": format!("patch{}", row.kind),
                    "x-kubernetes-action": "patch",
                    "x-kubernetes-group-version-kind": identity,
                    "parameters": [parameter("dryRun"), parameter("fieldManager"), parameter("fieldValidation"), parameter("force")],
                    "requestBody": {"content": {
                        "application/apply-patch+yaml": {},
                        "application/json-patch+json": {},
                        "application/merge-patch+json": {},
                        "application/strategic-merge-patch+json": {},
                    }},
                    "responses": {"200": {"description": "OK"}},
                }}),
            );
        }
        json!({
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": format!("v1.{MINOR}.0")},
            "paths": paths,
            "components": {"schemas": {}},
        })
    }
}

fn api_group(group: &str, versions: &[String]) -> Value {
    let version = |version: &String| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    json!({
        "name": group,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(version),
    })
}

fn unknown() -> ApiError {
    ApiError::new(Reason::NotFound, "the server could not find the requested resource")
}
