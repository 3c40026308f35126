//! The program `sandbox` as its users meet it: real pilots as processes, over the model database.

use serde_json::Value;
use simulation::sandbox::home::processes_of;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(240);

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox"));
    command.stdin(Stdio::null()).env_remove("XDG_STATE_HOME");
    command
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    program().arg("--dir").arg(dir).args(arguments).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running `sandbox up --json`, or the tour.
struct Up {
    child: Child,
    events: Receiver<Value>,
    dir: PathBuf,
}

impl Up {
    fn start(dir: &Path, more: &[&str]) -> Self {
        let child = program()
            .args(["up", "--json", "--dir"])
            .arg(dir)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        Self::listen(child, dir)
    }

    /// Takes what it tells, line by line.
    fn listen(mut child: Child, dir: &Path) -> Self {
        let out = child.stdout.take().expect("a pipe");
        let (to, events) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("`{line}` is no JSON: {e}"));
                if to.send(event).is_err() {
                    return;
                }
            }
        });
        // As the program does it: processes carry the absolute path.
        Self { child, events, dir: std::path::absolute(dir).expect("a path") }
    }

    /// The next event that satisfies this.
    fn event(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        let mut last = Value::Null;
        loop {
            match self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(event) if holds(&event) => return event,
                Ok(event) => last = event,
                Err(RecvTimeoutError::Timeout) => panic!("no {what} in time; the last event was {last}"),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended before {what}; the last event was {last}"),
            }
        }
    }

    fn ready(&self) -> Value {
        self.event("ready", |e| e["event"] == "ready")
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(sent.success(), "process {pid} is gone");
    }

    /// Ends it in order, and demands that nothing stays.
    fn stop(mut self, signal: &str) {
        self.signal(signal);
        let stopped = self.event("stopped", |e| e["event"] == "stopped");
        assert_eq!(stopped, serde_json::json!({ "event": "stopped" }));
        let ended = self.child.wait().expect("it ends");
        assert_eq!(ended.code(), Some(0));
        assert_eq!(processes_of(&self.dir), [], "processes stayed behind");
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            // A test has failed: nothing may stay behind, and nothing needs order.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        for left in processes_of(&self.dir) {
            let _ = Command::new("kill").args(["-9", &left.pid.to_string()]).status();
        }
    }
}

fn pilots(event: &Value) -> Vec<&Value> {
    event["pilots"].as_array().map(|a| a.iter().collect()).unwrap_or_default()
}

fn get(url: &str) -> Option<Value> {
    let (host, path) = url.strip_prefix("http://")?.split_once('/')?;
    let mut stream = TcpStream::connect(host).ok()?;
    // A pilot that stands still accepts and says nothing.
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let body = answer.split_once("\r\n\r\n")?.1;
    let (from, to) = (body.find('{')?, body.rfind('}')?);
    serde_json::from_str(&body[from..=to]).ok()
}

/// The database identities by pod, as the pilots' own state endpoints tell them.
fn identities(event: &Value) -> BTreeMap<String, String> {
    pilots(event)
        .into_iter()
        .map(|pilot| {
            let name = pilot["name"].as_str().expect("a name").to_owned();
            let state = get(pilot["stateUrl"].as_str().expect("a URL")).expect("a state");
            let members = state["members"].as_array().expect("members").clone();
            let own = members.iter().find(|m| m["name"] == name.as_str()).expect("itself").clone();
            (name, own["database"]["identity"].as_str().expect("an identity").to_owned())
        })
        .collect()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn status(dir: &Path) -> Value {
    let told = run(dir, &["status", "--json"]);
    serde_json::from_slice(&told.stdout)
        .unwrap_or_else(|e| panic!("{e}: {} {}", text(&told.stdout), text(&told.stderr)))
}

/// Who coordinates and at which epoch, if all of these say the same.
fn coordinator_by<'a>(asked: impl IntoIterator<Item = &'a Value>) -> Option<(String, u64)> {
    let mut said = asked.into_iter().map(|pilot| {
        let coordinator = get(pilot["stateUrl"].as_str()?)?["coordinator"].clone();
        Some((coordinator["pilot"].as_str()?.to_owned(), coordinator["epoch"].as_u64()?))
    });
    let first = said.next()??;
    said.all(|other| other.as_ref() == Some(&first)).then_some(first)
}

/// Waits until all of these follow one coordinator above this epoch.
fn coordinator_above(event: &Value, epoch: u64, but: &str) -> (String, u64) {
    let mut found = None;
    wait_until(&format!("a coordinator above epoch {epoch}, followed by all but {but:?}"), || {
        found = coordinator_by(pilots(event).into_iter().filter(|p| p["name"] != but)).filter(|(_, e)| *e > epoch);
        found.is_some()
    });
    found.expect("found")
}

fn pilot<'a>(event: &'a Value, name: &str) -> &'a Value {
    pilots(event).into_iter().find(|p| p["name"] == name).unwrap_or_else(|| panic!("no {name} in {event}"))
}

/// What a pilot says of itself and all others.
fn state(event: &Value, name: &str) -> Option<Value> {
    get(pilot(event, name)["stateUrl"].as_str()?)
}

/// How the others see this one.
fn liveness(event: &Value, of: &str) -> Vec<String> {
    let others = pilots(event).into_iter().filter(|p| p["name"] != of);
    others
        .filter_map(|p| {
            let state = get(p["stateUrl"].as_str()?)?;
            let member = state["members"].as_array()?.iter().find(|m| m["name"] == of)?.clone();
            Some(member["liveness"].as_str()?.to_owned())
        })
        .collect()
}

/// Gives an order that is obeyed, and returns what it says.
fn obeyed(dir: &Path, order: &[&str]) -> String {
    let told = run(dir, order);
    assert_eq!(told.status.code(), Some(0), "{order:?}: {}", text(&told.stderr));
    text(&told.stdout)
}

/// The letter of a process's state: `T` stands still.
fn process_state(pid: &Value) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The keys of an object, in the order of the alphabet.
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn a_sandbox_takes_orders_leaves_no_process_and_returns_as_the_same_cluster() {
    let folder = folder();
    let dir = folder.path();
    let up = Up::start(dir, &["--database", "model", "--replicas", "3"]);
    let ready = up.ready();
    assert_eq!(pilots(&ready).len(), 3);
    assert_eq!(ready["dir"].as_str().map(Path::new), Some(dir));
    assert!(Path::new(ready["kubeconfig"].as_str().expect("a path")).is_file());
    for pilot in pilots(&ready) {
        for pid in ["pid", "databasePid"] {
            let pid = pilot[pid].as_u64().unwrap_or_else(|| panic!("{pid} is missing in {pilot}"));
            assert!(Path::new(&format!("/proc/{pid}")).exists());
        }
        assert_eq!(pilot["clientPort"], 9042);
    }
    let first = identities(&ready);

    let scaled = run(dir, &["scale", "4"]);
    assert!(scaled.status.success(), "{}", text(&scaled.stderr));
    let grown = up.event("a fourth database", |e| {
        e["event"] == "changed" && pilots(e).len() == 4 && pilots(e).iter().all(|p| p["databasePid"].is_u64())
    });
    assert_eq!(pilots(&grown)[3]["name"], "cassandra-3");
    wait_until("four that serve", || {
        text(&run(dir, &["status"]).stdout).matches(" serving ").count() == 4 && pilots(&status(dir)).len() == 4
    });
    wait_until("the end of the join", || text(&run(dir, &["status"]).stdout).contains("operation    none"));

    let victim = pilots(&grown)[1]["pid"].clone();
    assert!(run(dir, &["kill", "pilot", "cassandra-1"]).status.success());
    let restarted = up.event("another pilot", |e| {
        e["event"] == "changed" && pilots(e).get(1).is_some_and(|p| p["pid"].is_u64() && p["pid"] != victim)
    });
    assert_eq!(pilots(&restarted)[1]["databasePid"], pilots(&grown)[1]["databasePid"], "its database noticed");

    let wrong = run(dir, &["kill", "pilot", "cassandra-9"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        text(&wrong.stderr).contains("there is no pod cassandra-9: there are cassandra-0, "),
        "{}",
        text(&wrong.stderr)
    );

    assert!(run(dir, &["api", "stop"]).status.success());
    let refused = run(dir, &["scale", "3"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("`sandbox api start`"), "{}", text(&refused.stderr));
    assert!(run(dir, &["api", "start"]).status.success());

    let second = run(dir, &["up", "--database", "model"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("a sandbox runs in"), "{}", text(&second.stderr));

    up.stop("-TERM");

    let again = Up::start(dir, &[]);
    let returned = again.ready();
    assert_eq!(pilots(&returned).len(), 4, "it keeps its size");
    let mut now = identities(&returned);
    now.remove("cassandra-3");
    assert_eq!(now, first);
    let address = |event: &Value| pilots(event)[0]["address"].clone();
    assert_ne!(address(&returned), address(&ready), "a pod that is made again has a new address");
    again.stop("-INT");
}

#[test]
fn what_can_be_broken_by_hand_is_mended_by_the_mesh_and_no_database_notices() {
    let folder = folder();
    let dir = folder.path();
    let up = Up::start(dir, &["--database", "model", "--replicas", "3"]);
    let ready = up.ready();
    let identity = identities(&ready);
    let databases = |event: &Value| -> BTreeMap<String, Value> {
        pilots(event).into_iter().map(|p| (p["name"].to_string(), p["databasePid"].clone())).collect()
    };
    let (first, epoch) = coordinator_above(&ready, 0, "");

    let said = obeyed(dir, &["kill", "coordinator"]);
    assert_eq!(said, format!("killed the agent of {first}, coordinator at epoch {epoch}\n"));
    // Also the killed one is back and follows.
    let (second, epoch) = coordinator_above(&ready, epoch, "");
    let mut after = Value::Null;
    wait_until("the killed agent beside the same database", || {
        after = status(dir);
        let (now, before) = (&pilot(&after, &first)["pid"], &pilot(&ready, &first)["pid"]);
        now.is_u64() && now != before && databases(&after) == databases(&ready)
    });

    let said = obeyed(dir, &["pause", &second]);
    let agent = pilot(&after, &second)["pid"].clone();
    assert!(said.starts_with(&format!("process {agent}, the agent of {second}, stands still")), "{said}");
    assert_eq!(process_state(&agent), Some('T'));
    let (third, epoch) = coordinator_above(&ready, epoch, &second);
    assert_ne!(third, second);
    obeyed(dir, &["resume", &second]);
    // It has slept through the takeover, and steps down by itself.
    coordinator_above(&ready, epoch - 1, "");
    assert_eq!(pilot(&status(dir), &second)["pid"], agent, "it was started anew");

    let (lonely, epoch) = coordinator_above(&ready, epoch - 1, "");
    let said = obeyed(dir, &["cut", &lonely]);
    assert!(said.starts_with(&format!("{lonely} hears no pilot and is heard by none")), "{said}");
    wait_until("its silence", || liveness(&ready, &lonely) == ["silent", "silent"]);
    let (fourth, epoch) = coordinator_above(&ready, epoch, &lonely);
    assert_ne!(fourth, lonely);
    assert_eq!(state(&ready, &lonely).expect("it still answers")["self"]["api"], "reachable");
    assert_eq!(obeyed(dir, &["heal"]), "nobody is cut off any more\n");
    wait_until("its return", || liveness(&ready, &lonely) == ["live", "live"]);
    let (_, epoch) = coordinator_above(&ready, epoch - 1, "");

    obeyed(dir, &["api", "stop"]);
    let unreachable = || {
        pilots(&ready).iter().any(|p| {
            state(&ready, p["name"].as_str().expect("text")).is_some_and(|s| s["self"]["api"] == "unreachable")
        })
    };
    wait_until("a pilot that misses the API", unreachable);
    wait_until("the databases of the beginning", || databases(&status(dir)) == databases(&ready));
    let victim = pilot(&ready, "cassandra-2")["databasePid"].clone();
    assert_eq!(
        obeyed(dir, &["kill", "database", "cassandra-2"]),
        format!("killed process {victim}, the database of cassandra-2\n")
    );
    let serves_anew = || {
        let now = status(dir);
        let pid = pilot(&now, "cassandra-2")["databasePid"].clone();
        let told = state(&now, "cassandra-2").unwrap_or_default();
        let own = told["members"].as_array().into_iter().flatten().find(|m| m["name"] == "cassandra-2").cloned();
        pid.is_u64() && pid != victim && own.is_some_and(|m| m["database"]["phase"] == "serving")
    };
    wait_until("the killed database, without the API", serves_anew);
    assert_eq!(identities(&status(dir)), identity);
    obeyed(dir, &["api", "start"]);
    wait_until("a coordinator that reaches the API", || {
        coordinator_by(pilots(&ready)).is_some_and(|(name, e)| {
            e >= epoch && state(&ready, &name).is_some_and(|s| s["self"]["api"] == "reachable")
        })
    });
    up.stop("-TERM");
}

fn policy_hash(text: &str) -> String {
    policies::policy::Policy::parse(text, "policy.yaml").expect("a policy without faults").hash().to_string()
}

/// Replaced in one piece, as a mount does it.
fn replace_policy(dir: &Path, text: &str) {
    let new = dir.join("policy.yaml.new");
    std::fs::write(&new, text).expect("written");
    std::fs::rename(&new, dir.join("policy.yaml")).expect("replaced");
}

#[test]
fn six_faults_written_into_the_policy_of_a_running_mesh_are_all_told_and_the_old_one_stays_in_force() {
    const HEAD: &str = "apiVersion: pilotmesh.io/v1alpha1\nkind: ClusterPolicy\nmetadata: { name: play }\nspec:\n";
    let good = format!("{HEAD}  scale: {{ bounds: {{ min: 2, max: 7 }} }}\n");
    let better = format!("{HEAD}  scale: {{ bounds: {{ min: 2, max: 8 }} }}\n");
    let faulty = format!(
        "{HEAD}  gossip: {{ intervall: 500ms, phi: 99 }}\n  election:\n    lease: 10\n    step: 1s\n    step: 2s\n  \
         scale: {{ bounds: {{ min: 9, max: 3 }} }}\n  backup: {{ schedule: never }}\n"
    );
    let names = ["gossip.intervall", "gossip.phi", "election.lease", "election.step", "scale.bounds.min", "backup"];
    let folder = folder();
    let file = folder.path().join("given.yaml");
    std::fs::write(&file, &good).expect("written");
    let dir = folder.path().join("sandbox");
    let up = Up::start(&dir, &["--database", "model", "--replicas", "3", "--policy", file.to_str().expect("text")]);
    let ready = up.ready();
    let hashes = || -> Vec<Option<String>> {
        pilots(&ready)
            .into_iter()
            .map(|p| Some(get(p["stateUrl"].as_str()?)?["policy"]["hash"].as_str()?.to_owned()))
            .collect()
    };
    let all = |text: &str| vec![Some(policy_hash(text)); 3];
    assert_eq!(hashes(), all(&good), "what --policy named is in force");

    replace_policy(&dir, &faulty);
    for pilot in pilots(&ready) {
        let log = dir.join(format!("logs/{}-pilot.log", pilot["name"].as_str().expect("a name")));
        let told = || {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            log.split_once("the changed policy file is refused").map(|(_, told)| told.to_owned())
        };
        wait_until("six faults in the log of a pilot", || told().is_some_and(|t| t.contains("spec.backup")));
        let told = told().expect("told");
        assert!(told.contains("6 faults in"), "{told}");
        for name in names {
            assert!(told.contains(&format!("spec.{name} is ")), "{name} is not named: {told}");
        }
    }
    assert_eq!(hashes(), all(&good), "a file with faults changes nothing");

    replace_policy(&dir, &better);
    wait_until("the next good policy", || hashes() == all(&better));
    up.stop("-TERM");
}

#[test]
fn a_tour_that_is_stopped_tells_its_evidence_in_the_promised_shape_and_does_not_call_itself_good() {
    let folder = folder();
    let dir = folder.path().join("sandbox");
    let child = program()
        .args(["--json", "--database", "model", "--dir"])
        .arg(&dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut tour = Up::listen(child, &dir);
    tour.ready();
    tour.signal("-INT");
    let evidence = tour.event("evidence", |e| e["event"] == "evidence");
    assert_eq!(keys(&evidence), ["event", "fault", "good", "rows"]);
    assert_eq!(evidence["good"], false);
    assert_eq!(evidence["fault"], "the tour was stopped before its end");
    let rows = evidence["rows"].as_array().expect("rows");
    assert!(!rows.is_empty(), "what was seen until then is told");
    for row in rows {
        assert_eq!(keys(row), ["databaseSeconds", "good", "seconds", "seen", "step"], "{row}");
        assert!(row["step"].is_string() && row["seen"].is_string() && row["good"].is_boolean(), "{row}");
        for time in ["seconds", "databaseSeconds"] {
            assert!(row[time].is_null() || row[time].as_f64().is_some_and(|s| s >= 0.0), "{time}: {row}");
        }
    }
    let stopped = tour.event("stopped", |e| e["event"] == "stopped");
    assert_eq!(stopped, serde_json::json!({ "event": "stopped" }));
    assert_eq!(tour.child.wait().expect("it ends").code(), Some(1));
    assert_eq!(processes_of(&tour.dir), [], "processes stayed behind");
}

#[test]
fn after_a_sandbox_was_killed_the_same_cluster_returns() {
    let folder = folder();
    let dir = folder.path();
    let mut up = Up::start(dir, &["--database", "model", "--replicas", "3"]);
    let first = identities(&up.ready());
    // The objects are written once a second.
    wait_until("the cluster on disk", || {
        std::fs::read_to_string(dir.join("objects.json"))
            .is_ok_and(|objects| first.values().all(|id| objects.contains(id)))
    });
    up.child.kill().expect("killed");
    up.child.wait().expect("ended");
    let again = Up::start(dir, &[]);
    assert_eq!(identities(&again.ready()), first);
    again.stop("-TERM");
}

#[test]
fn an_order_to_nobody_says_how_to_start_somebody() {
    let folder = folder();
    for order in [&["scale", "3"][..], &["kill", "coordinator"], &["status"], &["heal"]] {
        let told = run(folder.path(), order);
        assert_eq!(told.status.code(), Some(1));
        let expected = format!(
            "sandbox: no sandbox runs in {dir}: start one with `sandbox up --dir {dir}`\n",
            dir = folder.path().display()
        );
        assert_eq!(text(&told.stderr), expected);
    }
}

#[test]
fn a_wrong_command_line_ends_with_2_and_runs_nothing() {
    let folder = folder();
    for wrong in [
        &["fly"][..],
        &["scale"],
        &["scale", "many"],
        &["kill"],
        &["api", "pause"],
        &["up", "--replicas", "0"],
        &["--keep", "up"],
    ] {
        let told = run(folder.path(), wrong);
        assert_eq!(told.status.code(), Some(2), "{wrong:?}: {}", text(&told.stderr));
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 0);
}

#[test]
fn every_fault_of_a_policy_file_is_named_before_anything_starts() {
    let folder = folder();
    let policy = folder.path().join("policy.yaml");
    let faulty = "apiVersion: pilotmesh.io/v1alpha1\nkind: ClusterPolicy\nmetadata: { name: x }\nspec:\n  gossip: { phi: many }\n  \
                  election: { leese: 10s }\n";
    std::fs::write(&policy, faulty).expect("written");
    let dir = folder.path().join("sandbox");
    let told = run(&dir, &["up", "--database", "model", "--policy", policy.to_str().expect("text")]);
    assert_eq!(told.status.code(), Some(1));
    let said = text(&told.stderr);
    assert!(said.contains("phi") && said.contains("leese"), "{said}");
    assert!(!dir.exists());
}

#[test]
fn a_folder_that_is_no_sandbox_is_never_emptied() {
    let folder = folder();
    std::fs::write(folder.path().join("thesis.txt"), "years").expect("written");
    let told = run(folder.path(), &["up", "--database", "model", "--fresh"]);
    assert_eq!(told.status.code(), Some(1));
    assert!(text(&told.stderr).contains("no sandbox.json"), "{}", text(&told.stderr));
    assert!(folder.path().join("thesis.txt").exists());
}

#[test]
fn a_path_too_long_for_sockets_is_refused_with_the_number_of_bytes() {
    let folder = folder();
    let dir = folder.path().join("x".repeat(100));
    let told = run(&dir, &["up", "--database", "model"]);
    assert_eq!(told.status.code(), Some(1));
    assert!(text(&told.stderr).contains("bytes too long for the sockets inside"), "{}", text(&told.stderr));
}
