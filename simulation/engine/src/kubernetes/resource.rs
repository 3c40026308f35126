//! The table of kinds the API serves. A custom resource is one more row.

use std::borrow::Cow;

use super::error::Subject;

/// Index of a kind in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KindId(pub(crate) usize);

/// One row: a kind and the rules by which the server treats it.
#[derive(Debug, Clone)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// Version served and stored.
    pub version: Cow<'static, str>,
    /// Such as `StatefulSet`.
    pub kind: Cow<'static, str>,
    /// Such as `statefulsets`.
    pub plural: Cow<'static, str>,
    /// Such as `sts`.
    pub short_names: Vec<Cow<'static, str>>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether status is written through a subresource of its own.
    pub status: bool,
    /// Whether there is a `/scale`.
    pub scale: bool,
    /// Whether the server counts changes of the specification in `metadata.generation`.
    pub generation: bool,
    /// Whether a replacement without resourceVersion overwrites silently (`AllowUnconditionalUpdate`).
    pub unconditional_update: bool,
    /// Whether a replacement creates what is absent (`AllowCreateOnUpdate`).
    pub create_on_update: bool,
    /// Whether deletion answers with the object instead of a `Status`.
    pub returns_deleted: bool,
    /// Whether this is a custom resource: no strategic merge, lists are atomic, status writes keep metadata.
    pub custom: bool,
    /// How many are kept before the oldest go; `None` keeps all. Real servers drop events after an hour.
    pub keep: Option<usize>,
    /// Another kind whose objects these really are.
    pub(crate) stored_as: Option<KindId>,
}

impl Resource {
    /// A custom resource with a status subresource, as `CustomResourceDefinition`s usually declare one.
    #[must_use]
    pub fn custom(group: &str, version: &str, kind: &str, plural: &str) -> Self {
        Self {
            group: Cow::Owned(group.to_owned()),
            version: Cow::Owned(version.to_owned()),
            kind: Cow::Owned(kind.to_owned()),
            plural: Cow::Owned(plural.to_owned()),
            status: true,
            generation: true,
            unconditional_update: false,
            custom: true,
            ..row("", "", "", "")
        }
    }

    /// `v1` or `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }

    pub(crate) fn subject(&self, name: &str) -> Subject {
        Subject { group: self.group.to_string(), resource: self.plural.to_string(), name: name.to_owned() }
    }

    /// The path of one object, or of the collection for an empty name.
    #[must_use]
    pub fn path(&self, namespace: &str, name: &str) -> String {
        let root = if self.group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{}", self.api_version()) };
        let place =
            if self.namespaced && !namespace.is_empty() { format!("/namespaces/{namespace}") } else { String::new() };
        let slash = if name.is_empty() { "" } else { "/" };
        format!("{root}{place}/{}{slash}{name}", self.plural)
    }
}

fn row(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Resource {
    Resource {
        group: Cow::Borrowed(group),
        version: Cow::Borrowed(version),
        kind: Cow::Borrowed(kind),
        plural: Cow::Borrowed(plural),
        short_names: Vec::new(),
        namespaced: true,
        status: false,
        scale: false,
        generation: false,
        unconditional_update: true,
        create_on_update: false,
        returns_deleted: false,
        custom: false,
        keep: None,
        stored_as: None,
    }
}

fn short(names: &[&'static str]) -> Vec<Cow<'static, str>> {
    names.iter().map(|name| Cow::Borrowed(*name)).collect()
}

macro_rules! kinds {
    ($($name:ident = $index:literal),* $(,)?) => {
        impl KindId { $(#[doc = concat!("Index of the row `", stringify!($name), "`.")]
            pub const $name: KindId = KindId($index);)* }
    };
}
kinds! {
    PODS = 0, SERVICES = 1, CONFIG_MAPS = 2, SECRETS = 3, CLAIMS = 4, VOLUMES = 5, SERVICE_ACCOUNTS = 6,
    NAMESPACES = 7, NODES = 8, EVENTS = 9, NEW_EVENTS = 10, STATEFUL_SETS = 11, REVISIONS = 12, LEASES = 13,
    BUDGETS = 14,
}

/// How many events are kept.
const EVENTS_KEPT: usize = 1000;

/// The kinds every model serves, at the indices of the constants above.
pub(crate) fn built_in() -> Vec<Resource> {
    vec![
        Resource {
            status: true,
            generation: true,
            returns_deleted: true,
            short_names: short(&["po"]),
            ..row("", "v1", "Pod", "pods")
        },
        Resource {
            status: true,
            returns_deleted: true,
            short_names: short(&["svc"]),
            ..row("", "v1", "Service", "services")
        },
        Resource { short_names: short(&["cm"]), ..row("", "v1", "ConfigMap", "configmaps") },
        row("", "v1", "Secret", "secrets"),
        Resource {
            status: true,
            returns_deleted: true,
            short_names: short(&["pvc"]),
            ..row("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
        },
        Resource {
            namespaced: false,
            status: true,
            returns_deleted: true,
            short_names: short(&["pv"]),
            ..row("", "v1", "PersistentVolume", "persistentvolumes")
        },
        Resource {
            returns_deleted: true,
            short_names: short(&["sa"]),
            ..row("", "v1", "ServiceAccount", "serviceaccounts")
        },
        Resource {
            namespaced: false,
            status: true,
            short_names: short(&["ns"]),
            ..row("", "v1", "Namespace", "namespaces")
        },
        Resource { namespaced: false, status: true, short_names: short(&["no"]), ..row("", "v1", "Node", "nodes") },
        Resource {
            create_on_update: true,
            short_names: short(&["ev"]),
            keep: Some(EVENTS_KEPT),
            ..row("", "v1", "Event", "events")
        },
        Resource {
            create_on_update: true,
            short_names: short(&["ev"]),
            stored_as: Some(KindId::EVENTS),
            ..row("events.k8s.io", "v1", "Event", "events")
        },
        Resource {
            status: true,
            scale: true,
            generation: true,
            short_names: short(&["sts"]),
            ..row("apps", "v1", "StatefulSet", "statefulsets")
        },
        row("apps", "v1", "ControllerRevision", "controllerrevisions"),
        Resource {
            unconditional_update: false,
            create_on_update: true,
            ..row("coordination.k8s.io", "v1", "Lease", "leases")
        },
        Resource {
            status: true,
            generation: true,
            unconditional_update: false,
            short_names: short(&["pdb"]),
            ..row("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constants_name_the_rows_they_say() {
        let table = built_in();
        for (id, plural) in [
            (KindId::PODS, "pods"),
            (KindId::SERVICES, "services"),
            (KindId::CONFIG_MAPS, "configmaps"),
            (KindId::SECRETS, "secrets"),
            (KindId::CLAIMS, "persistentvolumeclaims"),
            (KindId::VOLUMES, "persistentvolumes"),
            (KindId::SERVICE_ACCOUNTS, "serviceaccounts"),
            (KindId::NAMESPACES, "namespaces"),
            (KindId::NODES, "nodes"),
            (KindId::EVENTS, "events"),
            (KindId::NEW_EVENTS, "events"),
            (KindId::STATEFUL_SETS, "statefulsets"),
            (KindId::REVISIONS, "controllerrevisions"),
            (KindId::LEASES, "leases"),
            (KindId::BUDGETS, "poddisruptionbudgets"),
        ] {
            assert_eq!(table[id.0].plural, plural);
        }
    }
}
