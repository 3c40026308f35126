//! Real kubectl against the served model.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use simulation::kubernetes::controllers;
use simulation::kubernetes::server::{ServerHandle, real_now};

use crate::served::served;
use crate::support::stateful_set;

/// Finds a kubectl, and fetches one where there is none.
const FINDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.ci/kubectl");

/// Where a kubectl is, or why there is none.
fn program() -> Result<PathBuf, String> {
    let found = Command::new(FINDER).stdin(Stdio::null()).output().map_err(|error| format!("{FINDER}: {error}"))?;
    if found.status.success() {
        Ok(PathBuf::from(String::from_utf8_lossy(&found.stdout).trim()))
    } else {
        Err(String::from_utf8_lossy(&found.stderr).trim().to_owned())
    }
}

/// A kubectl that is one user of one server, with a home of its own.
struct Kubectl {
    program: PathBuf,
    home: tempfile::TempDir,
    config: PathBuf,
}

impl Kubectl {
    fn new(program: PathBuf, server: &ServerHandle, user: &str) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let config = home.path().join("kubeconfig");
        std::fs::write(&config, server.kubeconfig_for(user)).expect("written");
        Self { program, home, config }
    }

    fn run(&self, arguments: &[&str], input: Option<&Value>) -> Output {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env("HOME", self.home.path())
            .env("KUBECONFIG", &self.config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("piped");
        if let Some(input) = input {
            stdin.write_all(input.to_string().as_bytes()).expect("written");
        }
        drop(stdin);
        child.wait_with_output().expect("kubectl ends")
    }

    /// What it prints, which must succeed.
    fn says(&self, arguments: &[&str], input: Option<&Value>) -> String {
        let output = self.run(arguments, input);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "kubectl {arguments:?}\n{out}{err}");
        out.into_owned()
    }

    fn fails(&self, arguments: &[&str], input: Option<&Value>) -> String {
        let output = self.run(arguments, input);
        assert!(!output.status.success(), "kubectl {arguments:?} was to fail");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_gets_scales_patches_applies_and_deletes() {
    let program = match tokio::task::block_in_place(program) {
        Ok(program) => program,
        Err(why) => {
            // Not by a macro: what those print is kept back by the test runner as long as the test passes.
            let line = format!("NOT SHOWN: 1 test: kubectl against the model: {why}\n");
            std::io::stderr().write_all(line.as_bytes()).expect("told");
            return;
        }
    };
    let server = served().await;
    let kubectl = Kubectl::new(program, &server, "user");
    tokio::task::block_in_place(|| story(&server, &kubectl));
}

fn settle(server: &ServerHandle) {
    while controllers::reconcile_all(&mut server.api(), real_now()) {}
}

fn story(server: &ServerHandle, kubectl: &Kubectl) {
    let set = stateful_set("s", 3, |_| {});
    assert_eq!(kubectl.says(&["apply", "-f", "-"], Some(&set)).trim(), "statefulset.apps/s created");
    let revision = || kubectl.says(&["get", "sts", "s", "-o", "jsonpath={.metadata.resourceVersion}"], None);
    let before = revision();
    kubectl.says(&["apply", "-f", "-"], Some(&set));
    assert_eq!(revision(), before, "applied again it changes nothing");
    settle(server);

    let table = kubectl.says(&["get", "pods", "-o", "wide"], None);
    assert!(table.starts_with("NAME"), "{table}");
    assert_eq!(table.lines().count(), 4, "{table}");
    let table = kubectl.says(&["get", "sts,pvc,leases,cm"], None);
    assert!(table.contains("0/3") && table.contains("Bound"), "{table}");
    assert_eq!(kubectl.says(&["get", "sts", "s", "-o", "jsonpath={.spec.replicas}"], None), "3");
    kubectl.says(&["get", "pods", "-l", "app=s", "-o", "json"], None);

    kubectl.says(&["scale", "sts", "s", "--replicas=4"], None);
    settle(server);
    assert_eq!(kubectl.says(&["get", "pods", "-o", "name"], None).lines().count(), 4);
    assert!(kubectl.fails(&["scale", "sts", "s", "--replicas=5", "--current-replicas=9"], None).contains("replicas"));

    kubectl.says(
        &["patch", "sts", "s", "-p", r#"{"spec":{"template":{"spec":{"containers":[{"name":"db","image":"db:2"}]}}}}"#],
        None,
    );
    kubectl.says(
        &[
            "patch",
            "pod",
            "s-0",
            "--type=json",
            "-p",
            r#"[{"op":"replace","path":"/spec/containers/0/image","value":"db:3"}]"#,
        ],
        None,
    );
    kubectl.says(&["patch", "sts", "s", "--type=merge", "-p", r#"{"metadata":{"annotations":{"a":"b"}}}"#], None);
    kubectl.says(&["annotate", "sts", "s", "c=d"], None);
    kubectl.says(&["label", "pod", "s-0", "e=f"], None);
    let image = kubectl.says(&["get", "sts", "s", "-o", "jsonpath={.spec.template.spec.containers[0].image}"], None);
    assert_eq!(image, "db:2");

    let map =
        |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": value}});
    kubectl.says(&["apply", "--server-side", "--field-manager=helm", "-f", "-"], Some(&map("1")));
    let conflict = kubectl.fails(&["apply", "--server-side", "--field-manager=other", "-f", "-"], Some(&map("2")));
    assert!(conflict.contains("conflict with \"helm\": .data.k"), "{conflict}");
    kubectl.says(&["apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-"], Some(&map("2")));
    kubectl.says(&["wait", "--for=jsonpath={.data.k}=2", "cm/m", "--timeout=10s"], None);
    assert!(kubectl.fails(&["get", "cm", "absent"], None).contains("NotFound"));
    assert!(kubectl.says(&["describe", "sts", "s"], None).contains("Replicas:"));
    assert!(kubectl.says(&["describe", "pod", "s-1"], None).contains("Node:"));
    let mut another = map("1");
    another["metadata"]["name"] = json!("n");
    kubectl.says(&["create", "-f", "-"], Some(&another));
    kubectl.says(&["delete", "cm", "n"], None);
    kubectl.says(&["rollout", "restart", "sts/s"], None);
    kubectl.says(&["api-resources"], None);
    kubectl.says(&["version"], None);
    kubectl.says(&["get", "events"], None);

    kubectl.says(&["delete", "pod", "s-1", "--wait=false"], None);
    assert!(kubectl.says(&["get", "pod", "s-1"], None).contains("Terminating"));
    kubectl.says(&["delete", "pod", "s-1", "--grace-period=0", "--force"], None);
    settle(server);
    kubectl.says(&["delete", "sts", "s"], None);
    settle(server);
    assert!(kubectl.fails(&["get", "sts", "s"], None).contains("NotFound"));
    let writes = server.api().audit().of_user("user").filter(|entry| entry.committed.is_some()).count();
    assert!(writes > 10, "the audit log has what kubectl changed: {writes}");
}
