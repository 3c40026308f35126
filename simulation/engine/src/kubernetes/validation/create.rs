//! What a new object must be.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::error::Fault;
use super::super::json::{at, list, number, text};
use super::super::resource::KindId;
use super::super::selector::{Selector, is_label_value, is_qualified_name};
use super::is_subdomain;

/// All that is wrong with an object of a kind, however it came to be.
pub(super) fn faults_of(kind: KindId, value: &Value) -> Vec<Fault> {
    let mut faults = Faults::default();
    metadata(value, &mut faults);
    match kind {
        KindId::PODS => pod(&value["spec"], "spec", &mut faults),
        KindId::STATEFUL_SETS => stateful_set(value, &mut faults),
        KindId::CLAIMS => {
            if text(value, &["spec", "resources", "requests", "storage"]).is_empty() {
                faults.required("spec.resources[storage]");
            }
            if list(value, &["spec", "accessModes"]).is_empty() {
                faults.required("spec.accessModes");
            }
        }
        KindId::BUDGETS => budget(value, &mut faults),
        KindId::LEASES => {
            if number(value, &["spec", "leaseDurationSeconds"]).is_some_and(|seconds| seconds <= 0) {
                faults.invalid("spec.leaseDurationSeconds", "must be greater than 0");
            }
        }
        KindId::CONFIG_MAPS | KindId::SECRETS => {
            for key in at(value, &["data"]).and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key) {
                let may_be = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
                if key.is_empty() || !key.chars().all(may_be) {
                    faults.invalid(
                        &format!("data[{key}]"),
                        "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
                    );
                }
            }
        }
        _ => {}
    }
    faults.0
}

#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn push(&mut self, field: &str, why: String) {
        self.0.push(Fault { field: field.to_owned(), why });
    }

    fn required(&mut self, field: &str) {
        self.push(field, "Required value".to_owned());
    }

    fn invalid(&mut self, field: &str, rule: &str) {
        self.push(field, format!("Invalid value: {rule}"));
    }

    fn unsupported(&mut self, field: &str, found: &str, allowed: &[&str]) {
        self.push(field, format!("Unsupported value: {found:?}: supported values: {allowed:?}"));
    }
}

fn metadata(value: &Value, faults: &mut Faults) {
    let metadata = &value["metadata"];
    let named = text(metadata, &["name"]);
    if named.is_empty() {
        faults.push("metadata.name", "Required value: name or generateName is required".to_owned());
    } else if !is_subdomain(named) {
        faults.invalid(
            "metadata.name",
            &format!("{named:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"),
        );
    }
    let pairs = |key: &str| at(metadata, &[key]).and_then(Value::as_object).into_iter().flatten();
    let is_label =
        |(key, value): (&String, &Value)| is_qualified_name(key) && is_label_value(value.as_str().unwrap_or(""));
    if !pairs("labels").all(is_label) {
        faults.invalid(
            "metadata.labels",
            "keys are qualified names, values at most 63 letters, digits, '-', '_' and '.'",
        );
    }
    if !pairs("annotations").all(|(key, _)| is_qualified_name(key)) {
        faults.invalid("metadata.annotations", "keys are qualified names");
    }
    for (index, finalizer) in list(metadata, &["finalizers"]).iter().enumerate() {
        const OWN: [&str; 3] = ["orphan", "foregroundDeletion", "kubernetes"];
        let named = finalizer.as_str().unwrap_or("");
        if !is_qualified_name(named) || (!named.contains('/') && !OWN.contains(&named)) {
            faults.invalid(
                &format!("metadata.finalizers[{index}]"),
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
    }
    for (index, owner) in list(metadata, &["ownerReferences"]).iter().enumerate() {
        for key in ["apiVersion", "kind", "name", "uid"] {
            if text(owner, &[key]).is_empty() {
                faults.required(&format!("metadata.ownerReferences[{index}].{key}"));
            }
        }
    }
}

fn pod(spec: &Value, path: &str, faults: &mut Faults) {
    if list(spec, &["containers"]).is_empty() {
        faults.required(&format!("{path}.containers"));
    }
    let policy = text(spec, &["restartPolicy"]);
    const POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];
    if !POLICIES.contains(&policy) {
        faults.unsupported(&format!("{path}.restartPolicy"), policy, &POLICIES);
    }
    let volumes: BTreeSet<&str> = list(spec, &["volumes"]).iter().map(|volume| text(volume, &["name"])).collect();
    let mut names = BTreeSet::new();
    for group in ["initContainers", "containers"] {
        for (index, container) in list(spec, &[group]).iter().enumerate() {
            let place = format!("{path}.{group}[{index}]");
            let named = text(container, &["name"]);
            if named.is_empty() {
                faults.required(&format!("{place}.name"));
            } else if !is_subdomain(named) || named.contains('.') || named.len() > 63 {
                faults.invalid(&format!("{place}.name"), "a lowercase RFC 1123 label");
            } else if !names.insert(named) {
                faults.push(&format!("{place}.name"), format!("Duplicate value: {named:?}"));
            }
            if text(container, &["image"]).is_empty() {
                faults.required(&format!("{place}.image"));
            }
            // In a template the claims of the set are volumes too: only the pod made of it is looked at.
            for (mount, wanted) in list(container, &["volumeMounts"]).iter().enumerate().filter(|_| path == "spec") {
                let wanted = text(wanted, &["name"]);
                if !volumes.contains(wanted) {
                    faults.push(&format!("{place}.volumeMounts[{mount}].name"), format!("Not found: {wanted:?}"));
                }
            }
        }
    }
}

fn stateful_set(value: &Value, faults: &mut Faults) {
    let spec = &value["spec"];
    match at(spec, &["selector"]) {
        None => {
            faults.required("spec.selector");
            faults.invalid("spec.template.metadata.labels", "`selector` does not match template `labels`");
        }
        Some(selector) if Selector::from_label_selector(selector).is_empty() => {
            faults.invalid("spec.selector", "empty selector is invalid for statefulset");
        }
        Some(_) => template_labels(value, faults),
    }
    let policy = text(spec, &["podManagementPolicy"]);
    if !["OrderedReady", "Parallel"].contains(&policy) {
        faults.invalid("spec.podManagementPolicy", "must be 'OrderedReady' or 'Parallel'");
    }
    if !["RollingUpdate", "OnDelete"].contains(&text(spec, &["updateStrategy", "type"])) {
        faults.invalid("spec.updateStrategy", "must be 'RollingUpdate' or 'OnDelete'");
    }
    pod(&spec["template"]["spec"], "spec.template.spec", faults);
    changeable(value, faults);
    let restart = text(spec, &["template", "spec", "restartPolicy"]);
    if ["OnFailure", "Never"].contains(&restart) {
        faults.unsupported("spec.template.spec.restartPolicy", restart, &["Always"]);
    }
}

/// A template whose pods would not be the set's own.
pub(super) fn template_faults(value: &Value) -> Vec<Fault> {
    let mut faults = Faults::default();
    template_labels(value, &mut faults);
    changeable(value, &mut faults);
    faults.0
}

fn template_labels(value: &Value, faults: &mut Faults) {
    let selector = Selector::from_label_selector(&value["spec"]["selector"]);
    if !selector.matches(&value["spec"]["template"]) {
        faults.invalid("spec.template.metadata.labels", "`selector` does not match template `labels`");
    }
}

fn changeable(value: &Value, faults: &mut Faults) {
    for (field, path) in [("spec.replicas", &["replicas"][..]), ("spec.ordinals.start", &["ordinals", "start"])] {
        if let Some(found) = number(&value["spec"], path).filter(|found| *found < 0) {
            faults.invalid(field, &format!("{found}: must be greater than or equal to 0"));
        }
    }
}

fn budget(value: &Value, faults: &mut Faults) {
    let spec = &value["spec"];
    if at(spec, &["minAvailable"]).is_some() && at(spec, &["maxUnavailable"]).is_some() {
        faults.invalid("spec", "minAvailable and maxUnavailable cannot be both set");
    }
    for key in ["minAvailable", "maxUnavailable"] {
        let is_share = |text: &str| text.strip_suffix('%').is_some_and(|share| share.parse::<u32>().is_ok());
        let can_be = match spec.get(key) {
            None => true,
            Some(Value::Number(found)) => found.as_u64().is_some(),
            Some(Value::String(found)) => is_share(found),
            Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => false,
        };
        if !can_be {
            faults.invalid(&format!("spec.{key}"), "must be a number that is not negative, or a share such as \"50%\"");
        }
    }
}
