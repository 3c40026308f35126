//! The newest state of each object that this pilot has been shown. A front end of the API that has lost touch with its
//! store shows older ones, and decides for whoever believes it. (S-CACHE)

use crate::kubernetes::call::{Answer, Failure};
use policies::world::{ObjectRead, ResourceVersion};
use protocol::id::Uid;
use std::collections::BTreeMap;

/// Versions seen, by the uid of their object. Of lists only what was in the last of them is kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Newest {
    lease: Option<(Uid, u64)>,
    record: BTreeMap<Uid, u64>,
    set: BTreeMap<Uid, u64>,
    pods: BTreeMap<Uid, u64>,
    claims: BTreeMap<Uid, u64>,
}

impl Newest {
    /// The Lease as it is known now: what a question that is sent now must be answered with at least.
    pub(crate) fn lease(&self) -> Option<(Uid, u64)> {
        self.lease.clone()
    }

    /// The answer; or that it cannot be used, where it shows an object as it was before something that was seen already.
    /// Of the Lease that is what was seen when the question was sent: a renewal may overtake it on the way.
    pub(crate) fn check(&mut self, answer: Answer, when_sent: &Option<(Uid, u64)>) -> Result<Answer, Failure> {
        match &answer {
            Answer::Lease(Some(lease)) => {
                if let Some(number) = number(&lease.version) {
                    let before = |known: &Option<(Uid, u64)>| {
                        known.as_ref().filter(|(uid, version)| *uid == lease.uid && *version > number).map(|(_, v)| *v)
                    };
                    if let Some(before) = before(when_sent) {
                        return Err(lags("the Lease", number, before));
                    }
                    if before(&self.lease).is_none() {
                        self.lease = Some((lease.uid.clone(), number));
                    }
                }
            }
            Answer::Record(Some(facts)) => take(&mut self.record, [of(&facts.object)])?,
            Answer::Set(Some(set)) => take(&mut self.set, [of(&set.object)])?,
            Answer::Pods(pods) => take(&mut self.pods, pods.values().map(|p| of(&p.object)))?,
            Answer::Claims(claims) => take(&mut self.claims, claims.values().map(|c| of(&c.object)))?,
            Answer::Lease(None)
            | Answer::Record(None)
            | Answer::Set(None)
            | Answer::OwnPod(_)
            | Answer::OwnClaim(_)
            | Answer::Written => {}
        }
        Ok(answer)
    }
}

fn of(object: &ObjectRead) -> (&str, &Uid, &ResourceVersion) {
    (&object.name, &object.uid, &object.version)
}

/// Versions that are no numbers cannot be compared; Kubernetes promises that they are, from 1.35 on.
fn number(version: &ResourceVersion) -> Option<u64> {
    version.0.parse().ok()
}

fn lags(name: &str, shown: u64, seen: u64) -> Failure {
    Failure::Unreadable(format!(
        "{name} is shown at version {shown} and was seen at {seen}: the server that answers lags behind"
    ))
}

/// Takes these in as what there is now; refuses all of them where one is older than what was seen.
fn take<'a>(
    seen: &mut BTreeMap<Uid, u64>,
    shown: impl IntoIterator<Item = (&'a str, &'a Uid, &'a ResourceVersion)>,
) -> Result<(), Failure> {
    let mut now = BTreeMap::new();
    for (name, uid, version) in shown {
        let Some(number) = number(version) else { continue };
        if let Some(before) = seen.get(uid).filter(|before| **before > number) {
            return Err(lags(name, number, *before));
        }
        now.insert(uid.clone(), number);
    }
    *seen = now;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::call::{LeaseContent, LeaseFacts};
    use protocol::epoch::Epoch;
    use protocol::time::Millis;

    fn lease(uid: &str, version: &str) -> Answer {
        let content =
            LeaseContent { holder: None, epoch: Epoch(1), cluster: None, duration: Millis(10_000), transitions: 0 };
        let version = ResourceVersion(version.to_owned());
        Answer::Lease(Some(LeaseFacts { uid: Uid::new(uid), version, content }))
    }

    #[test]
    fn an_object_shown_as_it_was_before_what_was_seen_is_refused() {
        let mut newest = Newest::default();
        let mut shown = |version| {
            let known = newest.lease();
            newest.check(lease("a", version), &known)
        };
        assert!(shown("9").is_ok());
        assert!(shown("9").is_ok());
        assert!(shown("10").is_ok());
        let failure = shown("9").expect_err("older");
        assert!(matches!(&failure, Failure::Unreadable(why) if why.contains("at version 9 and was seen at 10")));
        assert!(shown("11").is_ok(), "a refusal forgets nothing");
    }

    #[test]
    fn a_lease_read_before_a_renewal_and_heard_after_it_is_no_older_than_it_has_to_be() {
        let mut newest = Newest::default();
        assert!(newest.check(lease("a", "9"), &None).is_ok());
        let asked = newest.lease();
        assert!(newest.check(lease("a", "10"), &asked).is_ok(), "the renewal");
        assert!(newest.check(lease("a", "9"), &asked).is_ok(), "what was asked before it");
        let asked = newest.lease();
        assert!(newest.check(lease("a", "9"), &asked).is_err(), "what was asked after it");
    }

    #[test]
    fn another_object_of_the_name_and_versions_that_are_no_numbers_are_not_compared() {
        let mut newest = Newest::default();
        for (uid, version) in [("a", "9"), ("b", "3"), ("b", "opaque")] {
            let known = newest.lease();
            assert!(newest.check(lease(uid, version), &known).is_ok());
        }
    }
}
