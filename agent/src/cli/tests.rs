//! What people see, pinned; and commands against a served pilot.

use super::paint::Paint;
use super::{AgentArgs, AskArgs, Cli, Command, DatabaseKind, fetch, policy, status, why};
use crate::golden::check as golden;
use crate::http::sample::{decisions, name, state};
use crate::http::{Board, Health, serve};
use crate::pilot::state::StateDocument;
use clap::{CommandFactory, Parser};
use std::time::Duration;

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_status_screen_is_the_pinned_one() {
    golden("status.txt", &status::render(&state(), Paint::Plain, false));
    golden("status-wide.txt", &status::render(&state(), Paint::Plain, true));
}

#[test]
fn a_status_without_coordinator_says_so_and_ends_with_three() {
    let mut state = state();
    assert_eq!(status::code(&state), 0);
    state.coordinator.as_mut().unwrap().degraded = Some("2 of 4 promises, 3 are needed".into());
    state.gossip.lonely = true;
    state.me.trouble = Some("disk full\u{1b}[2J".into());
    assert_eq!(status::code(&state), 3);
    let degraded = status::render(&state, Paint::Plain, false);
    state.coordinator = None;
    state.cluster = None;
    state.operation = None;
    state.members.clear();
    assert_eq!(status::code(&state), 3);
    golden("status-degraded.txt", &format!("{degraded}\n---\n{}", status::render(&state, Paint::Plain, false)));
}

#[test]
fn colours_change_nothing_but_the_colour() {
    let coloured = status::render(&state(), Paint::Colours, false);
    assert!(coloured.contains("\u{1b}[32mserving\u{1b}[0m"));
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    plain.push_str(rest);
    assert_eq!(plain, status::render(&state(), Paint::Plain, false));
}

#[test]
fn reasons_are_told_newest_first_and_in_words() {
    golden("why.txt", &why::render(&state(), &decisions(), None, 10, Paint::Plain));
    golden("why-orders-3.txt", &why::render(&state(), &decisions(), Some("orders-3"), 10, Paint::Plain));
    let one = why::render(&state(), &decisions(), None, 1, Paint::Plain);
    assert!(one.contains("refuses  orders: size 2") && !one.contains("#1"), "{one}");
}

#[test]
fn who_remembers_nothing_says_whom_to_ask() {
    let mut follower = state();
    follower.me.name = name(0);
    let told = why::render(&follower, &decisions(), Some("orders-9"), 10, Paint::Plain);
    assert_eq!(
        told,
        "orders-0 remembers no decision about orders-9: ask the coordinator, orders-1 at http://10.0.0.2:7300, which remembers more\n"
    );
}

#[test]
fn a_setting_is_explained_with_its_meaning() {
    let balanced = policies::policy::Policy::default();
    let one: Vec<_> = balanced.explain().into_iter().filter(|e| e.path.ends_with("election.lease")).collect();
    let told = policy::explanation(&one, true, Paint::Plain);
    assert!(told.starts_with("SETTING") && told.lines().count() > 3, "{told}");
}

#[tokio::test]
async fn a_served_state_is_fetched_whole_and_a_missing_pilot_is_told_with_the_remedy() {
    let board = Board::new();
    board.set(state(), decisions(), Health { alive: Ok(()), started: true, ready: vec![] });
    let handle = serve("127.0.0.1:0".parse().unwrap(), board).await.unwrap();
    let ask = AskArgs { url: format!("http://{}/state", handle.address()), timeout: Duration::from_secs(20) };
    let found = fetch::get(&ask, "/state").await.unwrap();
    assert_eq!(fetch::read::<StateDocument>(&found).unwrap(), state());
    let error = fetch::get(&ask, "/nothing").await.unwrap_err();
    assert!(error.contains("404"), "{error}");
    drop(handle);
    let error = fetch::get(&AskArgs { url: "http://127.0.0.1:1".into(), ..ask.clone() }, "/state").await.unwrap_err();
    assert!(error.contains("127.0.0.1:1/state") && error.contains("PILOT_URL"), "{error}");
    let error = fetch::get(&AskArgs { url: "https://a".into(), ..ask }, "/state").await.unwrap_err();
    assert!(error.contains("only http"), "{error}");
}

fn agent(line: &[&str]) -> AgentArgs {
    match Cli::try_parse_from(["pilot", "agent"].iter().chain(line)).unwrap().command {
        Command::Agent(args) => *args,
        other => panic!("{other:?}"),
    }
}

const RIGHT: [&str; 12] = [
    "--set",
    "orders",
    "--namespace",
    "shop",
    "--pod",
    "orders-2",
    "--pod-uid",
    "u-2",
    "--pod-ip",
    "10.0.0.3",
    "--keys",
    "/keys",
];

#[test]
fn right_arguments_are_taken_with_their_defaults() {
    let args = agent(&[&RIGHT[..], &["--seed", "pilots:7302", "--seed", "[::1]:9"]].concat()).check().unwrap();
    assert_eq!(args.mesh, "shop/orders");
    assert_eq!(args.state_dir.to_str(), Some("/var/lib/cassandra/pilot"));
    assert_eq!(args.http.to_string(), "0.0.0.0:7300");
    assert_eq!(args.stream.to_string(), "0.0.0.0:7301");
    assert_eq!(args.gossip.to_string(), "0.0.0.0:7302");
    assert_eq!(args.seeds, ["pilots:7302", "[::1]:9"]);
    assert_eq!((args.claim_template.as_str(), args.cluster_name.as_str()), ("data", "orders"));
    assert_eq!((args.database, args.client_port), (DatabaseKind::Cassandra, 9042));
}

#[test]
fn a_pod_of_the_other_address_family_listens_on_that_family() {
    let mut args = agent(&RIGHT);
    args.pod_ip = Some("fd00::3".into());
    assert_eq!(args.check().unwrap().http.to_string(), "[::]:7300");
}

#[test]
fn all_faults_of_the_arguments_are_named_together() {
    let args = AgentArgs {
        set: Some("Orders".into()),
        pod: Some("orders-x".into()),
        pod_ip: Some("0.0.0.0".into()),
        launcher_socket: format!("/{}", "s".repeat(120)),
        data_dir: "/data".into(),
        http_listen: Some("0.0.0.0:7301".into()),
        gossip_listen: Some("7302".into()),
        seeds: vec!["pilots".into(), "a:b:1".into()],
        claim_template: "data".into(),
        database: "mysql".into(),
        config_dir: "/c".into(),
        data_center: "dc\n1".into(),
        rack: String::new(),
        client_port: "0".into(),
        ..AgentArgs::default()
    };
    golden("agent-faults.txt", &format!("{}\n", args.check().unwrap_err()));
}

#[test]
fn a_pod_of_another_set_is_refused() {
    for pod in ["orders-a-1", "orders", "order-1", "orders-01"] {
        let mut args = agent(&RIGHT);
        args.pod = Some(pod.into());
        let faults = args.check().unwrap_err().to_string();
        assert!(faults.contains("must be a pod of --set"), "{pod}: {faults}");
    }
}
