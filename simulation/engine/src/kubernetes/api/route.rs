//! Where a path leads.

use super::super::error::{ApiError, Reason};
use super::super::resource::{KindId, Resource};

/// What of an object a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subresource {
    Main,
    Status,
    Scale,
    Eviction,
}

impl Subresource {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Eviction => "eviction",
        }
    }
}

/// A path, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// A collection (empty name) or an object.
    Resource {
        kind: KindId,
        /// `None` for all namespaces, or a cluster-scoped kind.
        namespace: Option<String>,
        name: String,
        subresource: Subresource,
    },
    /// Reviews are answered without being stored.
    AccessReview,
    /// Not about objects: discovery, version, health.
    Other,
}

/// Understands a path.
///
/// # Errors
/// 404 for kinds and subresources that are not served.
pub(crate) fn route(resources: &[Resource], path: &str) -> Result<Route, ApiError> {
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (group, version) = match parts.as_slice() {
        ["api", version, _, ..] => ("", *version),
        ["apis", group, version, _, ..] => (*group, *version),
        _ => return Ok(Route::Other),
    };
    parts.drain(..if group.is_empty() { 2 } else { 3 });
    if group == "authorization.k8s.io" {
        return match parts.as_slice() {
            ["selfsubjectaccessreviews" | "selfsubjectrulesreviews"] => Ok(Route::AccessReview),
            _ => Err(unknown()),
        };
    }
    // `namespaces/x` is itself an object; anything longer names a place.
    let mut namespace = None;
    if let ["namespaces", place, third, ..] = parts.as_slice()
        && !(parts.len() == 3 && matches!(*third, "status" | "finalize"))
    {
        namespace = Some((*place).to_owned());
        parts.drain(..2);
    }
    let (plural, name, subresource) = match parts.as_slice() {
        [plural] => (*plural, "", ""),
        [plural, name] => (*plural, *name, ""),
        [plural, name, subresource] => (*plural, *name, *subresource),
        _ => return Err(unknown()),
    };
    let (index, resource) = resources
        .iter()
        .enumerate()
        .find(|(_, resource)| resource.plural == plural && resource.group == group && resource.version == version)
        .ok_or_else(unknown)?;
    let kind = KindId(index);
    let subresource = match subresource {
        "" => Subresource::Main,
        "status" if resource.status => Subresource::Status,
        "scale" if resource.scale => Subresource::Scale,
        "eviction" if kind == KindId::PODS => Subresource::Eviction,
        _ => return Err(unknown()),
    };
    if resource.namespaced != namespace.is_some() && (!name.is_empty() || !resource.namespaced) {
        return Err(unknown());
    }
    Ok(Route::Resource { kind, namespace, name: name.to_owned(), subresource })
}

fn unknown() -> ApiError {
    ApiError::new(Reason::NotFound, "the server could not find the requested resource")
}

#[cfg(test)]
mod tests {
    use super::super::super::resource::built_in;
    use super::*;

    fn check(path: &str) -> Option<(KindId, Option<String>, String, Subresource)> {
        match route(&built_in(), path).ok()? {
            Route::Resource { kind, namespace, name, subresource } => Some((kind, namespace, name, subresource)),
            Route::AccessReview | Route::Other => None,
        }
    }

    #[test]
    fn paths_lead_to_collections_objects_and_subresources() {
        let place = || Some("d".to_owned());
        assert_eq!(check("/api/v1/pods"), Some((KindId::PODS, None, String::new(), Subresource::Main)));
        assert_eq!(
            check("/api/v1/namespaces/d/pods/a-0/eviction"),
            Some((KindId::PODS, place(), "a-0".to_owned(), Subresource::Eviction))
        );
        assert_eq!(
            check("/apis/apps/v1/namespaces/d/statefulsets/a/scale"),
            Some((KindId::STATEFUL_SETS, place(), "a".to_owned(), Subresource::Scale))
        );
        assert_eq!(check("/api/v1/namespaces/d"), Some((KindId::NAMESPACES, None, "d".to_owned(), Subresource::Main)));
        assert_eq!(check("/api/v1/nodes/n"), Some((KindId::NODES, None, "n".to_owned(), Subresource::Main)));
        assert_eq!(check("/api/v1/pods/a-0"), None, "an object of a namespaced kind has a namespace");
        assert_eq!(check("/api/v1/namespaces/d/unknown"), None);
    }
}
