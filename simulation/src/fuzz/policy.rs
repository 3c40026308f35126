//! The policy file.

use super::{MIB, Outcome, Target};
use policies::policy::{Policy, Preset};

pub(super) const TARGETS: &[Target] = &[Target {
    name: "policy",
    reads: "a policy file",
    run: policy,
    seeds: || {
        let mut seeds: Vec<Vec<u8>> = Preset::ALL.iter().map(|preset| preset.text().as_bytes().to_vec()).collect();
        seeds.push(Policy::default().to_yaml().into_bytes());
        seeds
    },
    base: 4 * MIB,
    per_byte: 512,
    gate: 350,
}];

fn policy(bytes: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Outcome::Refused;
    };
    match Policy::parse(text, "policy.yaml") {
        Ok(policy) => {
            let again = Policy::parse(&policy.to_yaml(), "again.yaml").expect("what it means can be read");
            assert_eq!((&again, again.hash()), (&policy, policy.hash()));
            assert!(policy.diff(&again).is_empty());
            assert!(!policy.explain().is_empty());
            Outcome::Read
        }
        Err(faults) => {
            assert!(faults.count() > 0);
            assert!(!faults.to_string().is_empty());
            Outcome::Refused
        }
    }
}
