//! Pilots brought into a StatefulSet that is there, and taken out again.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use bootstrap::inject::{INJECTED, Options, inject_file, remove_file};
use bootstrap::manifest::tree::Map;
use bootstrap::manifest::{Value, read};
use bootstrap::pod::Sidecar;
use proptest::prelude::*;

mod support;
use support::golden;

const BEFORE: &str = include_str!("../../docs/examples/orders.yaml");

fn options() -> Options {
    Options {
        image: "registry.example/pilot:0.1.0".into(),
        pull_policy: None,
        set: None,
        container: None,
        claim_template: None,
        known_layout: false,
        sidecar: Sidecar::Native,
        policy: None,
        settings: None,
        keys: None,
    }
}

fn injected(text: &str, options: &Options) -> String {
    inject_file(text, "orders.yaml", options).unwrap_or_else(|faults| panic!("{faults}")).after
}

fn refused(text: &str, options: &Options) -> String {
    inject_file(text, "orders.yaml", options).unwrap_err().to_string()
}

fn set(text: &str) -> Value {
    let is_set = |object: &Map| object.get("kind").and_then(Value::text) == Some("StatefulSet");
    let documents = read::objects(text, "orders.yaml").unwrap();
    Value::from(documents.into_iter().filter_map(|document| document.object).find(is_set).unwrap())
}

#[test]
fn an_injected_file_is_the_pinned_one_and_its_notes_tell_what_is_no_longer_used() {
    let done = inject_file(BEFORE, "orders.yaml", &options()).unwrap();
    golden("injected.yaml", &done.after);
    golden("injected.notes.txt", &format!("{}\n", done.notes.join("\n")));
}

#[test]
fn other_documents_pass_as_they_were_written() {
    let after = injected(BEFORE, &options());
    let parts: Vec<&str> = BEFORE.split("---\n").collect();
    assert!(after.starts_with(parts[0]) && after.ends_with(parts[2]), "{after}");
}

#[test]
fn injecting_twice_is_injecting_once_and_removing_gives_back_what_was_there() {
    let before = inject_file(BEFORE, "orders.yaml", &options()).unwrap().before;
    let once = injected(BEFORE, &options());
    assert_eq!(injected(&once, &options()), once);
    let back = remove_file(&once, "orders.yaml", None).unwrap();
    assert_eq!((back.after, back.notes), (before, vec![]));
    assert_eq!(set(&remove_file(&once, "orders.yaml", None).unwrap().after), set(BEFORE));
}

#[test]
fn another_image_and_another_form_of_sidecar_take_the_place_of_the_earlier_ones() {
    let newer = Options { image: "registry.example/pilot:0.2.0".into(), sidecar: Sidecar::Plain, ..options() };
    let again = injected(&injected(BEFORE, &options()), &newer);
    assert_eq!(again, injected(BEFORE, &newer));
    assert!(!again.contains("pilot:0.1.0"));
    let set = set(&again);
    let names = |kind: &str| -> Vec<String> {
        let containers = set.list_at(&["spec", "template", "spec", kind]);
        containers.iter().filter_map(|container| container.name().map(str::to_owned)).collect()
    };
    assert_eq!(names("containers"), ["exporter", "cassandra", "pilot"]);
    assert_eq!(names("initContainers"), ["tune", "pilot-install"]);
}

#[test]
fn what_somebody_changed_since_stays_when_the_pilots_are_taken_out() {
    let once = injected(BEFORE, &options());
    let changed = once.replace("replicas: 3", "replicas: 7").replace("cassandra:5.0.6", "cassandra:5.0.9");
    let back = set(&remove_file(&changed, "orders.yaml", None).unwrap().after);
    let wanted = set(&BEFORE.replace("replicas: 3", "replicas: 7").replace("cassandra:5.0.6", "cassandra:5.0.9"));
    assert_eq!(back, wanted);
}

#[test]
fn a_file_without_pilots_is_given_back_with_a_word() {
    let back = remove_file(BEFORE, "orders.yaml", None).unwrap();
    assert_eq!(back.before, back.after);
    assert!(back.notes[0].contains(INJECTED));
}

#[test]
fn an_annotation_that_is_not_ours_is_never_guessed_at() {
    for (from, to) in [("\"version\":1", "\"version\":9"), ("\"changes\":[", "\"changes\":[7,")] {
        let broken = injected(BEFORE, &options()).replace(from, to);
        assert!(broken.contains(to), "{broken}");
        for told in [refused(&broken, &options()), remove_file(&broken, "f", None).unwrap_err().to_string()] {
            assert!(told.contains("metadata.annotations.pilotmesh.io/injected is not readable"), "{told}");
        }
    }
}

/// One thing changed in the file, and what is said to it.
fn refusal(from: &str, to: &str, told: &str) {
    let text = BEFORE.replace(from, to);
    assert_ne!(text, BEFORE, "{from} is not in the file");
    let now = refused(&text, &options());
    assert!(now.starts_with("1 fault in orders.yaml\n") && now.contains(told), "{now}\n is not\n{told}");
}

#[test]
fn each_thing_that_is_not_safe_is_refused_with_its_place_and_the_remedy() {
    refusal(
        "      terminationGracePeriodSeconds",
        "      hostNetwork: true\n      terminationGracePeriodSeconds",
        "orders.yaml:28:20: spec.template.spec.hostNetwork is true but must be false",
    );
    refusal("name: exporter", "name: pilot", "containers[pilot] is a container of yours but must be absent");
    refusal("name: tune", "name: pilot-install", "initContainers[pilot-install] is a container of yours");
    refusal(
        "- { name: logs, emptyDir: {} }",
        "- { name: logs, emptyDir: {} }\n        - { name: pilot-run, emptyDir: {} }",
        "volumes[pilot-run] is a volume of yours",
    );
    refusal("mountPath: /var/log/cassandra", "mountPath: /var/run/pilot", "is a mount of yours but must be free");
    refusal("image: cassandra:5.0.6", "image: cassandra:4.1", "is \"4.1\" but must be Cassandra 5.0");
    refusal("image: cassandra:5.0.6", "image: bitnami/cassandra:5.0", "must be laid out like the official image");
    refusal(
        "image: cassandra:5.0.6",
        "image: shop/db:1",
        "exporter, cassandra but must have one that runs a known database image: name the database's with --container",
    );
    refusal(
        "image: registry.example/exporter:2",
        "image: cassandra:5.0",
        "exporter, cassandra but must have one database only",
    );
    refusal(
        "- { name: data, mountPath: /var/lib/cassandra }",
        "- { name: logs, mountPath: /var/lib/cassandra }",
        "volumes[logs] is where the data lies but must be no emptyDir",
    );
    refusal(
        "- { name: data, mountPath: /var/lib/cassandra }",
        "- { name: x, mountPath: /data }",
        "spec.volumeClaimTemplates is missing but must give each member a claim",
    );
    refusal(
        "  replicas: 3",
        "  persistentVolumeClaimRetentionPolicy: { whenScaled: Delete }\n  replicas: 3",
        "whenScaled is Delete but must be Retain",
    );
    refusal(
        "  serviceName: orders\n",
        "",
        "spec.serviceName is missing but must be given: pilots find each other through it",
    );
    refusal(
        "  publishNotReadyAddresses: true\n",
        "",
        "spec.serviceName is the Service orders of this file, which is not headless or hides members",
    );
    refusal(
        "- { name: cql, containerPort: 9042 }",
        "- { name: cql, containerPort: 7301 }",
        "ports is 7301 but must be another port",
    );
    refusal(
        "            - { name: MAX_HEAP_SIZE, value: 2G }",
        "            - { name: POD_UID, value: x }",
        "env[POD_UID] is something else but must be the pod's uid",
    );
    refusal(
        "          ports:\n",
        "          securityContext: { runAsUser: 0 }\n          ports:\n",
        "runAsUser is 0 but must be no root",
    );
    refusal("  name: orders\n  labels", "  name: 5orders\n  labels", "metadata.name is \"5orders\" but must be");
    refusal(
        "  labels: { app: orders }\nspec:\n  serviceName",
        "  annotations: none\nspec:\n  serviceName",
        "metadata.annotations is something else but must be a mapping",
    );
    refusal("kind: StatefulSet", "kind: Deployment", "the file is without a StatefulSet");
    refusal(
        "- { name: data, mountPath: /var/lib/cassandra }",
        "- { name: data, mountPath: /var/lib/cassandra, readOnly: true }",
        "must be writable",
    );
}

#[test]
fn all_reasons_are_told_together() {
    let text = BEFORE
        .replace("      terminationGracePeriodSeconds", "      hostNetwork: true\n      terminationGracePeriodSeconds")
        .replace("name: exporter", "name: pilot")
        .replace("  serviceName: orders\n", "")
        .replace("  name: orders\n  labels", "  name: orders\n  uid: 1b9c\n  labels");
    let told = refused(&text, &options());
    assert!(told.starts_with("5 faults in orders.yaml\n"), "{told}");
    for part in ["hostNetwork", "containers[pilot]", "serviceName", "metadata.uid", "--cascade=orphan"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn a_set_that_runs_with_its_pilots_gets_newer_ones() {
    let live =
        injected(BEFORE, &options()).replace("  name: orders\n  labels", "  name: orders\n  uid: 1b9c\n  labels");
    let newer = Options { image: "registry.example/pilot:0.2.0".into(), ..options() };
    let done = inject_file(&live, "orders.yaml", &newer).unwrap();
    assert!(done.after.contains("pilot:0.2.0"));
    assert!(!done.notes.join("\n").contains("podManagementPolicy"), "{:?}", done.notes);
    let back = remove_file(&live, "orders.yaml", None).unwrap();
    assert!(back.notes.join("\n").contains("--cascade=orphan"), "{:?}", back.notes);
}

#[test]
fn what_is_not_plain_can_be_said() {
    let unknown =
        BEFORE.replace("image: cassandra:5.0.6", "image: shop/db:1\n          securityContext: { runAsUser: 1001 }");
    let said = Options { container: Some("cassandra".into()), known_layout: true, ..options() };
    let set = set(&injected(&unknown, &said));
    let containers = set.list_at(&["spec", "template", "spec", "initContainers"]);
    let pilot = containers.iter().find(|container| container.name() == Some("pilot")).unwrap();
    assert_eq!(pilot.at(&["securityContext", "runAsUser"]), Some(&Value::Whole(1001)), "the database's user");
    let group = set.at(&["spec", "template", "spec", "securityContext", "fsGroup"]);
    assert_eq!(group, Some(&Value::Whole(1001)), "the Secret with the keys is readable by this group only");
    let told = refused(&unknown.replace("{ runAsUser: 1001 }", "{}"), &said);
    assert!(told.contains("runAsUser is missing but must be given"), "{told}");
    let told = refused(BEFORE, &Options { container: Some("db".into()), ..options() });
    assert!(told.contains("name one of these"), "{told}");
    let told = refused(BEFORE, &Options { claim_template: Some("logs".into()), ..options() });
    assert!(told.contains("without logs but must have the template of --claim-template"), "{told}");
    let told = refused(BEFORE, &Options { set: Some("other".into()), ..options() });
    assert!(told.contains("must have other: correct --set"), "{told}");
}

/// Anything that may stand somewhere in a set without being our business.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nothing),
        any::<bool>().prop_map(Value::Flag),
        any::<i64>().prop_map(|number| Value::Whole(number.into())),
        "[ -~\n]{0,12}".prop_map(Value::Text),
        (0..1000_i32).prop_map(|number| Value::Fraction(f64::from(number) + 0.5)),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::btree_map("[a-zA-Z./-]{1,8}", inner, 0..4).prop_map(|entries| {
                let mut map = Map::default();
                for (key, value) in entries {
                    map.set(&key, value);
                }
                Value::Map(map)
            }),
        ]
    })
}

/// Puts something at one of the places where an injection works.
fn disturbed(place: usize, value: Value) -> String {
    let documents = read::objects(BEFORE, "orders.yaml").unwrap();
    let mut set = documents[1].object.clone().unwrap();
    fn inner<'m>(value: &'m mut Map, path: &[&str]) -> &'m mut Map {
        path.iter().fold(value, |map, key| match map.get_mut(key) {
            Some(Value::Map(inner)) => inner,
            Some(Value::List(items)) => items[1].map_mut().unwrap(),
            other => panic!("{key}: {other:?}"),
        })
    }
    let pod = ["spec", "template", "spec"];
    let (map, key): (&mut Map, &str) = match place {
        0 => (inner(&mut set, &["metadata"]), "annotations"),
        1 => (inner(&mut set, &["spec"]), "updateStrategy"),
        2 => (inner(&mut set, &["spec"]), "podManagementPolicy"),
        3 => (inner(&mut set, &pod), "affinity"),
        4 => (inner(&mut set, &pod), "terminationGracePeriodSeconds"),
        5 => (inner(&mut set, &[&pod[..], &["containers"]].concat()), "livenessProbe"),
        6 => (inner(&mut set, &[&pod[..], &["containers"]].concat()), "args"),
        7 => (inner(&mut set, &[&pod[..], &["containers"]].concat()), "command"),
        8 => (inner(&mut set, &pod), "initContainers"),
        9 => (inner(&mut set, &pod), "automountServiceAccountToken"),
        10 => (inner(&mut set, &[&pod[..], &["containers"]].concat()), "lifecycle"),
        _ => (inner(&mut set, &pod), "volumes"),
    };
    map.set(key, value);
    bootstrap::manifest::print::document(&set).unwrap()
}

/// A few seconds' worth; `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever stands there: it is refused, or it comes back as it was, and injecting again changes nothing.
    #[test]
    fn what_is_injected_can_be_taken_out_to_the_letter(place in 0..12_usize, value in anything()) {
        let before = disturbed(place, value);
        if let Ok(done) = inject_file(&before, "f", &options()) {
            prop_assert_eq!(&injected(&done.after, &options()), &done.after);
            let back = remove_file(&done.after, "f", None).unwrap();
            prop_assert_eq!(&back.after, &done.before);
            prop_assert_eq!(&set(&back.after), &set(&before));
        }
    }
}
