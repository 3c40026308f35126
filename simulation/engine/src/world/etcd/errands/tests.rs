use super::super::super::etcd::Configuration;
use super::*;

fn pod(ordinal: u32) -> PilotName {
    PilotName::parse(&format!("db-{ordinal}")).expect("a name")
}

fn id(name: &str) -> DatabaseIdentity {
    DatabaseIdentity::new(name)
}

/// Three voters, all started.
fn three() -> (Configuration, BTreeSet<DatabaseIdentity>) {
    let configuration = (0..3).fold(Configuration::default(), |c, n| c.with(&id(&format!("m{n}")), &pod(n), true));
    let started = configuration.voters().cloned().collect();
    (configuration, started)
}

#[track_caller]
fn check(
    list: &Configuration,
    started: &BTreeSet<DatabaseIdentity>,
    holds: Option<&str>,
    (learner_is_heard, healthy): (bool, usize),
    expected: &Next,
) {
    let holds = holds.map(id);
    let seen = Seen { pod: &pod(3), list: Some(list), started, holds: holds.as_ref(), learner_is_heard, healthy };
    match (next(&seen), expected) {
        (Next::Refuse(_), Next::Refuse(_)) => {}
        (next, expected) => assert_eq!(next, *expected),
    }
}

#[test]
fn who_is_not_known_is_added_once_all_voters_are_well() {
    let (list, started) = three();
    check(&list, &started, None, (false, 3), &Next::Call(Call::Add(pod(3))));
    check(&list, &started, None, (false, 2), &Next::Refuse(String::new()));
    let one = Configuration::default().with(&id("m0"), &pod(0), true);
    check(&one, &started, None, (false, 1), &Next::Call(Call::Add(pod(3))));
}

#[test]
fn a_member_that_was_added_and_never_started_is_adopted() {
    let (list, started) = three();
    let list = list.with(&id("m7"), &pod(3), false);
    check(&list, &started, None, (false, 3), &Next::Start(id("m7")));
}

#[test]
fn a_directory_that_is_lost_never_comes_back_under_its_id() {
    let (list, mut started) = three();
    started.insert(id("m7"));
    let learner = list.with(&id("m7"), &pod(3), false);
    check(&learner, &started, None, (false, 3), &Next::Call(Call::Remove(id("m7"))));
    let voter = list.with(&id("m7"), &pod(3), true);
    check(&voter, &started, None, (false, 3), &Next::Refuse(String::new()));
}

#[test]
fn a_directory_is_started_as_who_it_is_of_unless_that_one_was_removed() {
    let (list, mut started) = three();
    started.insert(id("m7"));
    let learner = list.with(&id("m7"), &pod(3), false);
    check(&learner, &started, Some("m7"), (true, 3), &Next::Start(id("m7")));
    check(&list, &started, Some("m7"), (false, 3), &Next::Refuse(String::new()));
}

#[test]
fn what_is_left_of_a_join_that_was_given_up_is_removed_first_and_a_learner_that_lives_is_not() {
    let (list, started) = three();
    let other = list.with(&id("m7"), &pod(4), false);
    check(&other, &started, None, (false, 3), &Next::Call(Call::Remove(id("m7"))));
    check(&other, &started, None, (true, 3), &Next::Refuse(String::new()));
}

#[test]
fn without_a_quorum_a_directory_is_started_all_the_same_and_nobody_is_added() {
    let started = BTreeSet::new();
    let (own, own_pod) = (id("m7"), pod(3));
    let seen =
        |holds| Seen { pod: &own_pod, list: None, started: &started, holds, learner_is_heard: false, healthy: 0 };
    assert_eq!(next(&seen(Some(&own))), Next::Start(own.clone()));
    assert!(matches!(next(&seen(None)), Next::Refuse(_)));
}
