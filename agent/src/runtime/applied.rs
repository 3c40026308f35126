//! What a policy's settings are called in the code that goes by them.

use crate::gossip::GossipSettings;
use crate::pilot::Rules;
use policies::decide::Limits;
use policies::policy::Policy;

/// What the pilot's step machine goes by.
pub(super) fn rules(policy: &Policy) -> Rules {
    Rules {
        lease: policy.election.lease,
        renew_every: policy.election.renew_every,
        margin: policy.election.margin,
        step: policy.election.step,
        limits: Limits::from(policy),
        hash: policy.hash().to_string(),
    }
}

/// What gossip goes by; what the policy does not name has the default.
pub(super) fn gossip_settings(policy: &Policy) -> GossipSettings {
    GossipSettings {
        interval: policy.gossip.interval,
        phi: policy.gossip.phi.as_f64(),
        prior: policy.gossip.prior_interval,
        window: usize::try_from(policy.gossip.window).unwrap_or(usize::MAX),
        max_interval: policy.gossip.max_interval,
        dead_grace: policy.gossip.dead_grace,
        ..GossipSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policies::decide::Roll;
    use std::time::Duration;

    /// Every setting has a value that no other has, and none its default.
    const EVERY_SETTING: &str = "
apiVersion: pilotmesh.io/v1alpha1
kind: ClusterPolicy
metadata: { name: test }
spec:
  gossip: { interval: 700ms, phi: 9, priorInterval: 1400ms, window: 150, maxInterval: 2600ms, deadGrace: 13m }
  election: { lease: 11s, renewEvery: 2s, step: 1700ms, margin: 1300ms }
  scale: { bounds: { min: 4, max: 17 }, settle: 41s }
  rollout: { maxUnavailable: 1, settle: 43s, stopAfter: 2 }
";

    #[test]
    fn each_setting_of_a_policy_reaches_the_code_that_goes_by_it() {
        let policy = Policy::parse(EVERY_SETTING, "test.yaml").expect("valid");
        let milliseconds = Duration::from_millis;
        let seconds = Duration::from_secs;
        assert_eq!(
            rules(&policy),
            Rules {
                lease: seconds(11),
                renew_every: seconds(2),
                margin: milliseconds(1300),
                step: milliseconds(1700),
                limits: Limits {
                    min: 4,
                    max: 17,
                    settle: seconds(41),
                    rollout: Roll { max_unavailable: 1, settle: seconds(43), stop_after: 2 },
                },
                hash: policy.hash().to_string(),
            }
        );
        assert_eq!(
            gossip_settings(&policy),
            GossipSettings {
                interval: milliseconds(700),
                phi: 9.0,
                prior: milliseconds(1400),
                window: 150,
                max_interval: milliseconds(2600),
                dead_grace: seconds(13 * 60),
                ..GossipSettings::default()
            }
        );
    }
}
