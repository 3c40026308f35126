//! Policy files as users meet them: presets, faults with their places, reload.

use policies::fault::{FaultKind, Faults};
use policies::policy::{Policy, Preset, RULES};
use policies::setting::{Decimal, Kind, all};
use proptest::prelude::*;
use std::time::Duration;

const HEAD: &str = "apiVersion: pilotmesh.io/v1alpha1\nkind: ClusterPolicy\nmetadata: { name: test }\n";

/// A file with this `spec`, which begins on line 5.
fn file(spec: &str) -> String {
    format!("{HEAD}spec:\n{spec}")
}

fn parse(spec: &str) -> Result<Policy, Faults> {
    Policy::parse(&file(spec), "policy.yaml")
}

fn faults(text: &str) -> Faults {
    Policy::parse(text, "policy.yaml").expect_err("this file has faults")
}

/// The only fault of a `spec`, as a user reads it, with its place.
fn fault(spec: &str) -> String {
    let faults = faults(&file(spec));
    assert_eq!(faults.count(), 1, "{faults}");
    format!("{}: {}", faults.faults[0].at, faults.faults[0])
}

#[test]
fn every_preset_is_valid_sets_everything_and_bears_its_name() {
    for preset in Preset::ALL {
        let policy = preset.policy().unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(policy.name, preset.name());
        let unset: Vec<_> = policy.explain().into_iter().filter(|s| !s.written).map(|s| s.path).collect();
        assert!(unset.is_empty(), "{} leaves {unset:?} out", preset.name());
    }
}

#[test]
fn every_number_of_a_preset_has_its_reason_above_it() {
    for preset in Preset::ALL {
        let lines: Vec<&str> = preset.text().lines().collect();
        for (above, line) in lines.iter().zip(lines.iter().skip(1)) {
            let gives_value = line.trim_start().split_once(": ").is_some_and(|(name, _)| !name.starts_with('#'));
            if line.starts_with("    ") && gives_value {
                assert!(above.trim_start().starts_with('#'), "{}: no reason above {line:?}", preset.name());
            }
        }
    }
}

#[test]
fn the_balanced_preset_is_the_default() {
    assert_eq!(Preset::Balanced.policy().unwrap(), Policy::default());
    assert_eq!(parse("  {}\n").unwrap().diff(&Policy::default()), []);
}

#[test]
fn the_presets_differ_from_each_other() {
    let hashes: Vec<_> = Preset::ALL.iter().map(|preset| preset.policy().unwrap().hash()).collect();
    assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
}

#[test]
fn six_faults_in_one_file_are_named_at_once() {
    let text = "\
apiVersion: pilotmesh.io/v1alpha1
kind: ClusterPolicy
metadata:
  name: orders
spec:
  gossip: { intervall: 500ms, phi: 99 }
  election:
    lease: 10
    step: 1s
    step: 2s
  scale:
    bounds: { min: 9, max: 3 }
  backup: { schedule: \"0 3 * * *\" }
";
    assert_eq!(
        faults(text).to_string(),
        "\
6 faults in policy.yaml
policy.yaml:6:13: spec.gossip.intervall is not known but must be one of interval, phi, priorInterval, window, maxInterval, deadGrace: did you mean interval?
policy.yaml:6:36: spec.gossip.phi is 99 but must be between 5 and 30: lower it; the default is 10
policy.yaml:8:12: spec.election.lease is 10 but must be a duration with its unit: write its unit, for example 10s
policy.yaml:10:5: spec.election.step is given again (first at line 9) but must be given once: remove one of the two
policy.yaml:12:20: spec.scale.bounds.min is 9 but must be at most spec.scale.bounds.max (3): lower min or raise max
policy.yaml:13:3: spec.backup is not supported by this version and must be absent: remove it; a later version will read there when backups are taken and where they go"
    );
}

#[test]
fn sections_of_the_design_that_are_not_built_are_refused_by_name_and_the_rest_is_read() {
    let spec = r#"
  gossip:    { interval: 500ms, phi: 10 }
  election:  { lease: 10s, renewEvery: 2s }
  restart:   { backoff: { from: 1s, to: 5m }, crashLoop: { exits: 5, within: 10m } }
  replace:   { after: 15m, atMost: { times: 1, per: 1d }, requires: intact-redundancy }
  scale:
    bounds:   { min: 3, max: 12 }
    cooldown: 30m
    rules:
      - { name: disk-is-filling, when: "cluster.disk.usedRatio > 0.75", for: 15m, add: 1 }
  rollout:   { maxUnavailable: 1, settle: 30s, stopAfter: 1 }
  backup:    { schedule: "0 3 * * *", keep: 7, to: "s3://backups/orders" }
  windows:   [ { cron: "0 1 * * 6", for: 4h, allow: [upgrade, replace] } ]
"#;
    let faults = faults(&file(spec));
    let refused: Vec<_> = faults.faults.iter().map(|fault| (fault.kind, fault.path.as_str())).collect();
    assert_eq!(
        refused,
        ["spec.replace", "spec.scale.cooldown", "spec.scale.rules", "spec.backup", "spec.windows"]
            .map(|path| (FaultKind::Unsupported, path))
    );
}

#[test]
fn a_wrong_type_says_what_to_write() {
    for (spec, said) in [
        (
            "  election: { lease: ten }\n",
            "5:22: spec.election.lease is \"ten\" but must be a duration: write a number and its unit, for example 500ms, 10s or 1m 30s",
        ),
        (
            "  election: { lease: \"10\" }\n",
            "5:22: spec.election.lease is \"10\" but must be a duration with its unit: write a unit after it, for example 10s",
        ),
        (
            "  election: { margin: 1500us }\n",
            "5:23: spec.election.margin is \"1500us\" but must be in whole milliseconds: round it to milliseconds",
        ),
        (
            "  election: { lease: true }\n",
            "5:22: spec.election.lease is true but must be a duration: write a number and its unit, for example 500ms, 10s or 1m 30s",
        ),
        (
            "  gossip: { window: \"200\" }\n",
            "5:21: spec.gossip.window is \"200\" but must be a whole number: remove the quotes",
        ),
        (
            "  gossip: { window: 200.5 }\n",
            "5:21: spec.gossip.window is 200.5 but must be a whole number: write digits only, without unit or quotes",
        ),
        (
            "  gossip: { window: -3 }\n",
            "5:21: spec.gossip.window is -3 but must be a whole number of 0 or more: write it without a minus",
        ),
        (
            "  gossip: { window: 99999999999999999999 }\n",
            "5:21: spec.gossip.window is 100000000000000000000 but must be between 20 and 1000: lower it; the default is 200",
        ),
        (
            "  gossip: { phi: 8.125 }\n",
            "5:18: spec.gossip.phi is 8.125 but must be a number with at most two decimals: round it to two decimals",
        ),
        (
            "  gossip: [a, b]\n",
            "5:11: spec.gossip is a list of 2 but must be a mapping: write its settings as \"name: value\", one a line, indented below it",
        ),
        (
            "  rollout: { stopAfter: yes }\n",
            "5:25: spec.rollout.stopAfter is \"yes\" but must be a whole number: write digits only, without unit or quotes",
        ),
    ] {
        assert_eq!(fault(spec), said);
    }
}

#[test]
fn an_empty_section_is_a_fault_and_not_a_default() {
    let said = fault("  gossip:\n  scale: {}\n");
    assert!(said.contains("spec.gossip is empty but must be a mapping"), "{said}");
    assert!(said.starts_with("5:"), "{said}");
}

#[test]
fn a_name_in_the_wrong_place_is_told_its_place() {
    let said = fault("  gossip: { stopAfter: 2 }\n");
    assert!(said.ends_with("its place is spec.rollout.stopAfter"), "{said}");
    let text = format!("{HEAD}gossip: {{}}\nspec: {{}}\n");
    assert!(faults(&text).to_string().ends_with("its place is spec.gossip"));
    let text = format!("{HEAD}electoin: {{}}\nspec: {{}}\n");
    assert!(faults(&text).to_string().ends_with("did you mean spec.election?"));
}

#[test]
fn merge_keys_are_unknown_names() {
    assert!(fault("  gossip: &g { phi: 11 }\n  election: { <<: {} }\n").contains("spec.election.<< is not known"));
}

#[test]
fn each_rule_between_settings_refuses_what_breaks_it() {
    for (spec, path, said) in [
        (
            "  gossip: { interval: 2s, maxInterval: 8s, phi: 20 }\n",
            "spec.gossip.priorInterval",
            "is 1s by default but must be at least spec.gossip.interval (2s)",
        ),
        (
            "  gossip: { maxInterval: 900ms }\n",
            "spec.gossip.maxInterval",
            "is 900ms but must be at least twice spec.gossip.interval (1s)",
        ),
        (
            "  gossip: { maxInterval: 2100ms }\n",
            "spec.gossip.maxInterval",
            "must be below the shortest silence that means down (2s 100ms:",
        ),
        (
            "  gossip: { deadGrace: 1m, phi: 30, priorInterval: 1s }\n",
            "spec.gossip.deadGrace",
            "is 1m but must exceed twice the silence that means down for a young pilot (1m)",
        ),
        (
            "  election: { lease: 10500ms }\n",
            "spec.election.lease",
            "is 10s 500ms but must be in whole seconds: round it up",
        ),
        (
            "  election: { lease: 5s }\n",
            "spec.election.lease",
            "is 5s but must exceed twice spec.election.renewEvery plus spec.election.margin (5s): raise the lease, or lower renewEvery or the margin",
        ),
        ("  election: { renewEvery: 5s }\n", "spec.election.lease", "is 10s by default but must exceed"),
        ("  election: { step: 10s }\n", "spec.election.step", "is 10s but must be below spec.election.lease (10s)"),
        (
            "  restart: { backoff: { from: 1m, to: 30s } }\n",
            "spec.restart.backoff.from",
            "is 1m but must be at most spec.restart.backoff.to (30s)",
        ),
        (
            "  restart: { crashLoop: { within: 15s } }\n",
            "spec.restart.crashLoop.within",
            "is 15s but must exceed the pauses between 5 exits (15s)",
        ),
        (
            "  scale: { bounds: { min: 51 } }\n",
            "spec.scale.bounds.min",
            "is 51 but must be at most spec.scale.bounds.max (50)",
        ),
    ] {
        let read = fault(spec);
        assert!(read.starts_with("5:") && read.contains(path) && read.contains(said), "{read}");
    }
    assert_eq!(RULES.len(), 10, "a new rule wants its line above");
}

#[test]
fn a_setting_with_a_fault_of_its_own_is_not_judged_by_a_rule_as_well() {
    assert!(fault("  election: { lease: 1s }\n").contains("must be between 2s and 1m"));
}

#[test]
fn a_fault_of_a_default_is_shown_where_the_file_caused_it() {
    let faults = faults(&file("  election:\n    # long\n    renewEvery: 5s\n"));
    assert_eq!((faults.faults[0].at.line, faults.faults[0].at.column), (7, 17));
}

#[test]
fn a_file_without_its_head_is_told_all_that_it_lacks() {
    let faults = faults("spec: {}\n");
    let missing: Vec<_> = faults.faults.iter().map(|fault| (fault.kind, fault.path.as_str())).collect();
    assert_eq!(missing, ["apiVersion", "kind", "metadata"].map(|path| (FaultKind::Missing, path)));
}

#[test]
fn an_empty_file_and_two_documents_are_refused() {
    for text in ["", "# nothing\n", "---\n"] {
        assert!(faults(text).to_string().contains("the file is empty but must be a mapping"), "{}", faults(text));
    }
    let two = format!("{}---\n{}", file("  {}\n"), file("  {}\n"));
    assert!(
        faults(&two).to_string().contains("the file is more than one YAML document but must be one"),
        "{}",
        faults(&two)
    );
}

#[test]
fn another_version_kind_or_name_is_refused() {
    let text = "apiVersion: pilotmesh.io/v2\nkind: Policy\nmetadata: { name: \"Not good\", labels: {} }\nspec: {}\n";
    let faults = faults(text);
    let told: Vec<_> = faults.faults.iter().map(|f| (f.path.as_str(), f.at.line, f.at.column)).collect();
    assert_eq!(told, [("apiVersion", 1, 13), ("kind", 2, 7), ("metadata.name", 3, 19), ("metadata.labels", 3, 31)]);
}

#[test]
fn comments_order_notation_and_name_do_not_change_the_hash_and_a_value_does() {
    let one = parse("  election: { lease: 60s, margin: 1s }\n  gossip: { phi: 10.0 }\n").unwrap();
    let other = Policy::parse(
        "spec:\n  gossip:\n    phi: 10 # ten\n  election: { lease: \"1m\" }\nkind: ClusterPolicy\nmetadata: {name: x}\napiVersion: pilotmesh.io/v1alpha1\n",
        "other",
    )
    .unwrap();
    assert_eq!(one.hash(), other.hash());
    assert_ne!(one.hash(), Policy::default().hash());
}

#[test]
fn the_hash_of_the_defaults_is_pinned() {
    // Pilots of two versions compare hashes: a change here is a change of meaning, to be told in the release notes.
    assert_eq!(Policy::default().hash().as_str(), "f409d3a6506f");
}

#[test]
fn a_reload_gives_the_changes_or_the_faults_and_never_half_a_policy() {
    let old = Policy::default();
    let reload = old.parse_reload(&file("  election: { lease: 20s }\n  gossip: { phi: 12 }\n"), "policy.yaml").unwrap();
    let told: Vec<String> = reload.changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "spec.gossip.phi from 10 to 12, when the pilot's gossip starts anew",
            "spec.election.lease from 10s to 20s, with the next decision",
        ]
    );
    assert_eq!(reload.policy.election.lease, Duration::from_secs(20));
    assert!(old.parse_reload(&file("  election: { lease: 20s, margin: 1h }\n"), "policy.yaml").is_err());
    assert_eq!(old, Policy::default());
}

#[test]
fn explain_tells_what_the_file_set_and_what_is_a_default() {
    let policy = parse("  election: { lease: 10s }\n").unwrap();
    let written: Vec<_> = policy.explain().into_iter().filter(|setting| setting.written).collect();
    assert_eq!(written.len(), 1);
    assert_eq!((written[0].path, written[0].value == written[0].default), ("spec.election.lease", true));
    assert!(written[0].doc.contains("Raising it"));
    assert_eq!(policy.explain().len(), all().count());
}

#[test]
fn the_largest_and_smallest_of_each_setting_are_accepted_and_what_is_beyond_is_not() {
    for setting in all() {
        let (min, max) = setting.bounds();
        let beyond = match &setting.kind {
            Kind::Duration(field) => {
                humantime::format_duration(field.bounds.max + Duration::from_millis(1)).to_string()
            }
            Kind::Count(field) => (field.bounds.max + 1).to_string(),
            Kind::Decimal(field) => Decimal::from_hundredths(field.bounds.max.hundredths() + 1).to_string(),
        };
        let out_of_bounds = |value: &str| {
            let spec = setting.path.split('.').skip(1).map(|name| format!("{name}: ")).collect::<Vec<_>>().join("{ ");
            let closing = " }".repeat(setting.path.matches('.').count() - 1);
            match parse(&format!("  {spec}{value}{closing}\n")) {
                Ok(_) => false,
                Err(faults) => {
                    faults.faults.iter().any(|fault| fault.path == setting.path && fault.kind == FaultKind::OutOfBounds)
                }
            }
        };
        assert!(!out_of_bounds(&min.to_string()) && !out_of_bounds(&max.to_string()), "{}", setting.path);
        assert!(out_of_bounds(&beyond), "{} accepts {beyond}", setting.path);
    }
}

proptest! {
    #[test]
    fn f30_no_text_makes_the_reader_panic(text in "(?s).{0,400}") {
        let _ = Policy::parse(&text, "any");
    }

    #[test]
    fn f30_no_mangled_preset_makes_the_reader_panic_and_every_fault_lies_in_the_file(
        at in 0_usize..4_000, drop in 0_usize..40, put in "[-a-z0-9:{}\\[\\]&*<!|>'\"%@# \n\t]{0,12}"
    ) {
        let text: Vec<char> = Preset::Swift.text().chars().collect();
        let at = at.min(text.len());
        let end = (at + drop).min(text.len());
        let mangled: String = text[..at].iter().copied().chain(put.chars()).chain(text[end..].iter().copied()).collect();
        if let Err(faults) = Policy::parse(&mangled, "mangled") {
            let lines = mangled.split('\n').count() as u64;
            prop_assert!(faults.count() > 0);
            for pair in faults.faults.windows(2) {
                prop_assert!(pair[0].at <= pair[1].at);
            }
            for fault in &faults.faults {
                prop_assert!((1..=lines + 1).contains(&fault.at.line), "{} of {lines} lines: {fault}", fault.at);
            }
        }
    }

    #[test]
    fn the_canonical_form_parses_to_an_equal_policy(
        lease in 6_u64..60, margin in 100_u64..2_000, phi in 900_u32..3_000, settle in 0_u64..3_600_000,
        min in 1_u32..20, more in 0_u32..20, exits in 2_u32..7, timeout in 1_000_u64..3_600_000,
    ) {
        let mut policy = Policy::default();
        policy.gossip.phi = Decimal::from_hundredths(phi);
        policy.gossip.max_interval = Duration::from_millis(1_500);
        policy.election.lease = Duration::from_secs(lease);
        policy.election.margin = Duration::from_millis(margin);
        policy.election.renew_every = Duration::from_millis(1_999);
        policy.rollout.settle = Duration::from_millis(settle);
        policy.restart.crash_loop.exits = exits;
        policy.restart.stop_timeout = Duration::from_millis(timeout);
        policy.scale.bounds.min = min;
        policy.scale.bounds.max = min + more;
        let read = Policy::parse(&policy.to_yaml(), "canonical");
        prop_assert_eq!(read.as_ref().ok(), Some(&policy), "{:?}", read);
        prop_assert_eq!(read.map(|read| read.hash()).ok(), Some(policy.hash()));
    }
}
