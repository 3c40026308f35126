//! The rights of a set's pilots as Kubernetes objects.

use crate::labels::Labels;
use crate::manifest::tree::{Map, list, map};
use crate::names;
use crate::rights::rules;

/// Whose rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The StatefulSet.
    pub set: String,
    /// Its namespace; none leaves it to whoever applies the objects.
    pub namespace: Option<String>,
    /// An account that is there already and gets the rights; none makes one of its own.
    pub account: Option<String>,
}

/// The account, where it is to be made, its Role, and what binds them.
pub fn objects(subject: &Subject, labels: &Labels) -> Vec<Map> {
    let name = names::account(&subject.set);
    let account = subject.account.as_ref().unwrap_or(&name);
    let metadata =
        || map! { "name": &name }.with("namespace", subject.namespace.as_ref()).with("labels", Some(labels.object()));
    let mut objects = Vec::new();
    if subject.account.is_none() {
        objects.push(
            map! {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": metadata(),
                "automountServiceAccountToken": false,
            }
            .note(
                "automountServiceAccountToken",
                "The pilot's container mounts a token of its own; the database has none.",
            ),
        );
    }
    objects.push(map! {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": metadata(),
        "rules": role(&subject.set),
    });
    objects.push(map! {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata(),
        "roleRef": map! { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": &name },
        "subjects": list![map! { "kind": "ServiceAccount", "name": account }.with("namespace", subject.namespace.as_ref())],
    });
    objects
}

fn role(set: &str) -> Vec<Map> {
    let rule = |(rule, verbs): (crate::rights::Rule, Vec<&'static str>)| {
        map! { "apiGroups": list![rule.group()], "resources": list![rule.resource()] }
            .with("resourceNames", rule.object(set).map(|name| list![name]))
            .with("verbs", Some(verbs))
            .about(rule.why())
    };
    rules().into_iter().map(rule).collect()
}
