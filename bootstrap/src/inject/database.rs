//! Which container of a set is the database, on which claim its data is, and as whom it runs.

use super::Options;
use super::edit::{Step, find, keys};
use super::facts::{Judge, in_container, in_pod};
use crate::manifest::tree::{Map, Value};
use policies::fault::quoted;

/// User and group of the official Cassandra image.
const CASSANDRA_USER: i128 = 999;
/// Where Cassandra's data is, where nothing else is said.
const DATA_AT: &str = "/var/lib/cassandra";

/// The database of an image, as far as its name tells.
enum Image {
    Official,
    /// A Cassandra laid out in another way.
    Other,
    /// A Cassandra without a driver.
    Version(String),
    Unknown,
}

fn image(image: &str) -> Image {
    let image = image.split('@').next().unwrap_or(image);
    let (path, tag) = match image.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        Some(_) | None => (image, None),
    };
    if path.rsplit('/').next() != Some("cassandra") {
        return Image::Unknown;
    }
    if path.contains("bitnami") {
        return Image::Other;
    }
    match tag {
        Some(tag)
            if tag.starts_with(|c: char| c.is_ascii_digit())
                && tag != "5"
                && !tag.starts_with("5.0")
                && !tag.starts_with("5-") =>
        {
            Image::Version(tag.to_owned())
        }
        Some(_) | None => Image::Official,
    }
}

impl Judge<'_> {
    /// The database's container.
    pub(super) fn container(&mut self, options: &Options) -> Option<String> {
        let at = in_pod(&["containers"]);
        let containers: Vec<(String, String)> = self
            .set
            .list_at(&["spec", "template", "spec", "containers"])
            .iter()
            .filter_map(|c| Some((c.name()?.to_owned(), c.text_at(&["image"]).unwrap_or_default().to_owned())))
            .collect();
        let names: Vec<&str> = containers.iter().map(|(name, _)| name.as_str()).collect();
        if containers.is_empty() {
            self.missing(&at, "have the database's container", "is this the right StatefulSet?");
            return None;
        }
        let chosen = match &options.container {
            Some(wanted) => match containers.iter().find(|(name, _)| name == wanted) {
                Some(found) => found.clone(),
                None => {
                    let rule = format!("have the container that --container names, {wanted}");
                    self.conflict(&at, &names.join(", "), &rule, "name one of these");
                    return None;
                }
            },
            None => {
                let cassandra = |(_, name): &&(String, String)| !matches!(image(name), Image::Unknown);
                let mut candidates: Vec<_> = containers.iter().filter(cassandra).collect();
                if let ([], [_]) = (candidates.as_slice(), containers.as_slice()) {
                    candidates = containers.iter().collect();
                }
                let [one] = candidates.as_slice() else {
                    let (found, rule) = if candidates.is_empty() {
                        (names.join(", "), "have one that runs a known database image")
                    } else {
                        let names: Vec<&str> = candidates.iter().map(|(name, _)| name.as_str()).collect();
                        (names.join(", "), "have one database only")
                    };
                    self.conflict(&at, &found, rule, "name the database's with --container");
                    return None;
                };
                (*one).clone()
            }
        };
        self.known(&chosen, options).then_some(chosen.0)
    }

    fn known(&mut self, (container, name): &(String, String), options: &Options) -> bool {
        let at = in_container(container, &["image"]);
        if options.known_layout {
            return true;
        }
        let found = quoted(name);
        let laid_out = "if it is laid out like the official image (`cassandra` and `nodetool` in PATH, /etc/cassandra), say so \
                        with --database cassandra";
        match image(name) {
            Image::Official => return true,
            Image::Version(tag) => {
                let found = quoted(&tag);
                self.conflict(&at, &found, "be Cassandra 5.0: other versions have no driver yet", "use a 5.0 image");
            }
            Image::Other => {
                let rule = "be laid out like the official image: this one keeps its configuration elsewhere";
                self.conflict(&at, &found, rule, "use cassandra:5.0");
            }
            Image::Unknown => self.conflict(&at, &found, "be a known database image: cassandra", laid_out),
        }
        false
    }

    /// Claim template, mount path and part of the volume.
    pub(super) fn data(&mut self, container: &str, options: &Options) -> Option<(String, String, Option<String>)> {
        let templates: Vec<&str> = self
            .set
            .list_at(&["spec", "volumeClaimTemplates"])
            .iter()
            .filter_map(|template| template.text_at(&["metadata", "name"]))
            .collect();
        let mounts_at = in_container(container, &["volumeMounts"]);
        let none = Vec::new();
        let mounts = match find(self.set, &mounts_at) {
            Some(Value::List(mounts)) => mounts,
            Some(_) | None => &none,
        };
        let of_claims: Vec<&Value> = mounts
            .iter()
            .filter(|mount| mount.name().is_some_and(|name| templates.contains(&name)))
            .filter(|mount| options.claim_template.as_deref().is_none_or(|wanted| mount.name() == Some(wanted)))
            .collect();
        let usual: Vec<&Value> =
            of_claims.iter().filter(|mount| mount.text_at(&["mountPath"]) == Some(DATA_AT)).copied().collect();
        let chosen = match (of_claims.as_slice(), usual.as_slice()) {
            ([one], _) | (_, [one]) => one,
            ([], _) => {
                self.no_claim(container, mounts, options);
                return None;
            }
            (several, _) => {
                let names: Vec<&str> = several.iter().filter_map(|mount| mount.name()).collect();
                let remedy = "name the data's with --claim-template";
                self.conflict(&mounts_at, &names.join(", "), "have the data on one claim", remedy);
                return None;
            }
        };
        let path = chosen.text_at(&["mountPath"])?.trim_end_matches('/').to_owned();
        if chosen.at(&["subPathExpr"]).is_some() || chosen.at(&["readOnly"]) == Some(&Value::Flag(true)) {
            let rule =
                "be writable, and the whole volume or a fixed part of it: the pilot keeps its memory beside the data";
            self.conflict(&mounts_at, "read-only, or a part named by a variable", rule, "mount it plainly");
        }
        Some((chosen.name()?.to_owned(), path, chosen.text_at(&["subPath"]).map(str::to_owned)))
    }

    fn no_claim(&mut self, container: &str, mounts: &[Value], options: &Options) {
        let at = keys(&["spec", "volumeClaimTemplates"]);
        let remedy = format!("add a template, and mount it at {DATA_AT} in container {container}");
        let on = mounts.iter().find(|mount| mount.text_at(&["mountPath"]) == Some(DATA_AT)).and_then(Value::name);
        let volumes = self.set.list_at(&["spec", "template", "spec", "volumes"]);
        let volume = volumes.iter().find(|volume| on.is_some() && volume.name() == on);
        match (volume, &options.claim_template) {
            (Some(volume), _) if volume.at(&["emptyDir"]).is_some() => {
                let mut at = in_pod(&["volumes"]);
                at.push(Step::named(on.unwrap_or_default()));
                let rule = "be no emptyDir: its data is lost with the pod, and a member without its data is a dead one";
                self.conflict(&at, "where the data lies", rule, &remedy);
            }
            (_, Some(wanted)) => {
                let rule = "have the template of --claim-template, mounted in the database's container";
                self.conflict(&at, &format!("without {wanted}"), rule, "correct the name, or mount it");
            }
            (Some(_) | None, None) => {
                self.missing(&at, "give each member a claim of its own that holds its data", &remedy);
            }
        }
    }

    /// User and group that the database's container needs beside what it has, and the group of its volumes where the pod
    /// names none. Cassandra refuses to run as root, and the image's own entry point, which would change the user, is not run.
    pub(super) fn run_as(&mut self, container: &str, options: &Options) -> Option<(Map, Option<Value>)> {
        let mut own = Map::default();
        let effective = |name: &str| {
            let of_container = find(self.set, &in_container(container, &["securityContext", name]));
            (of_container, of_container.or_else(|| find(self.set, &in_pod(&["securityContext", name]))))
        };
        let ((own_user, user), (own_group, group)) = (effective("runAsUser"), effective("runAsGroup"));
        own = own.with("runAsUser", own_user.cloned()).with("runAsGroup", own_group.cloned());
        let fs_group = in_pod(&["securityContext", "fsGroup"]);
        let for_volumes = |group: Option<&Value>| match find(self.set, &fs_group) {
            Some(_) => None,
            None => group.cloned(),
        };
        let at = in_container(container, &["securityContext", "runAsUser"]);
        match user.map(Value::whole) {
            Some(Some(0)) => {
                let remedy = "write the image's user; the official one is 999";
                self.conflict(&at, "0", "be no root: Cassandra refuses to run as root", remedy);
                None
            }
            Some(_) => {
                let group = for_volumes(group.or(user));
                Some((own, group))
            }
            None if options.known_layout => {
                let rule = "be given: the image's entry point, which would choose it, is not run";
                self.missing(&at, rule, "write the image's user; the official one is 999");
                None
            }
            None => {
                let user = Value::Whole(CASSANDRA_USER);
                let group = group.unwrap_or(&user);
                let volumes = for_volumes(Some(group));
                let own = own.with("runAsUser", Some(user.clone())).with("runAsGroup", Some(group.clone()));
                Some((own, volumes))
            }
        }
    }
}
