//! What is done with Helm, and what must come of it.

use crate::story::{Outcome, PATIENCE, Story, Told, must};
use crate::watch::{SET, Seen};
use scylla::client::session_builder::SessionBuilder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// The chart.
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bootstrap/chart");
/// The Secret with the pilots' role.
const ROLE: &str = "pilot-role";
/// The release, and so the set.
const RELEASE: &str = SET;

fn program() -> String {
    std::env::var("PILOT_E2E_HELM").unwrap_or_else(|_| "helm".to_owned())
}

/// Runs Helm, with what is to be written to it.
fn helm(arguments: &[&str], input: &str) -> Result<String, String> {
    let said = || format!("helm {}", arguments.join(" "));
    let mut child = Command::new(program())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", said()))?;
    if let Some(mut to) = child.stdin.take() {
        to.write_all(input.as_bytes()).map_err(|error| format!("{}: {error}", said()))?;
    }
    let output = child.wait_with_output().map_err(|error| format!("{}: {error}", said()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{}: {} {}", said(), text(&output.stdout), text(&output.stderr)))
    }
}

/// What these stories need.
pub(crate) fn needs() -> Result<(), String> {
    must(Path::new(CHART).is_dir(), format!("the chart is not at {CHART}"))?;
    helm(&["version", "--short"], "").map(|_| ()).map_err(|error| format!("needs Helm (.ci/helm builds one): {error}"))
}

impl Story {
    /// As a person would, with little memory and short waits of the database.
    fn values(&self, most: u32) -> String {
        json!({
            "members": 3,
            "image": self.images.cassandra,
            "imagePullPolicy": "IfNotPresent",
            "pilot": { "image": self.images.pilot },
            "storage": { "size": "1Gi" },
            "resources": { "requests": { "cpu": "100m", "memory": "512Mi" }, "limits": { "memory": "1Gi" } },
            "heap": "256M",
            "jvmOptions": [
                "-XX:-UseG1GC", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-AlwaysPreTouch",
                "-Dcassandra.ring_delay_ms=6000", "-Dcassandra.superuser_setup_delay_ms=0",
                "-Dcassandra.skip_wait_for_gossip_to_settle=0", "-Dcassandra.shutdown_announce_in_ms=100",
                "-Dcassandra.broadcast_interval_ms=1000",
            ],
            "settings": { "commitlog_segment_size": "4MiB" },
            "dataCenter": "dc1",
            "authentication": { "secret": ROLE },
            // Pods that end together take all of it.
            "grace": "60s",
            "policy": { "scale": { "bounds": { "min": 3, "max": most } } },
        })
        .to_string()
    }

    fn helm(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut all = arguments.to_vec();
        all.extend(["--namespace", &self.cluster.namespace]);
        helm(&all, input)
    }

    /// From nothing to three members.
    pub(crate) async fn install(&mut self) -> Outcome {
        let begun = Instant::now();
        self.put_role("cassandra", "cassandra")?;
        self.role = Some(("cassandra".to_owned(), "cassandra".to_owned()));
        self.helm(&["install", RELEASE, CHART, "--values", "-"], &self.values(12))?;
        self.formed("helm install, with passwords", begun).await
    }

    /// Writes the role's name and password into the Secret.
    fn put_role(&self, name: &str, password: &str) -> Result<(), String> {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": ROLE },
            "type": "kubernetes.io/basic-auth",
            "stringData": { "username": name, "password": password },
        });
        self.cluster.apply(&object).map(|_| ())
    }

    /// What the page of security tells to do once the cluster has formed.
    pub(crate) async fn roles(&mut self) -> Outcome {
        let contacts = self.watcher.contacts().borrow().clone();
        if self.writer.is_none() {
            return Ok(Told::NotShown("pod addresses cannot be reached from here: run it where they can".to_owned()));
        }
        let begun = Instant::now();
        let nobody = SessionBuilder::new().known_nodes_addr(&contacts).build().await;
        must(nobody.is_err(), "somebody may connect without a password")?;
        let session = SessionBuilder::new()
            .known_nodes_addr(&contacts)
            .user("cassandra", "cassandra")
            .build()
            .await
            .map_err(|error| error.to_string())?;
        for statement in [
            "ALTER KEYSPACE system_auth WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 3}",
            "CREATE ROLE pilot WITH PASSWORD = 'narrow' AND LOGIN = true",
            "GRANT SELECT ON KEYSPACE system_views TO pilot",
        ] {
            session.query_unpaged(statement, &[]).await.map_err(|error| format!("{statement}: {error}"))?;
        }
        for pod in self.watcher.now().pods.keys() {
            self.cluster.exec(pod, "database", &["nodetool", "repair", "system_auth"])?;
        }
        self.put_role("pilot", "narrow")?;
        self.evidence.step(
            "a role of the pilots' own, every member with a copy of the roles",
            begun.elapsed(),
            None,
            "nobody connects without a password; later pods are looked at as that role",
        );
        Ok(Told::Shown)
    }

    /// The chart's own test.
    pub(crate) async fn helm_test(&mut self) -> Outcome {
        let begun = Instant::now();
        self.helm(&["test", RELEASE], "")?;
        self.evidence.step("helm test", begun.elapsed(), None, "a pilot answers, and somebody coordinates");
        Ok(Told::Shown)
    }

    async fn secret(&self) -> Result<Value, String> {
        let ns = &self.cluster.namespace;
        Ok(self.object(&format!("/api/v1/namespaces/{ns}/secrets/{SET}-mesh-keys")).await?["data"].clone())
    }

    /// Waits until all four pilots run one policy, other than this hash or the same; the size is four all the while.
    async fn policy(&self, what: &str, is_it: impl Fn(&str) -> bool) -> Result<Seen, String> {
        let mut other = None;
        let seen = self
            .watcher
            .until(what, PATIENCE, |seen| {
                if seen.mesh.api && seen.mesh.replicas != 4 {
                    other = Some(seen.mesh.replicas);
                }
                let hash = seen.mesh.states.values().next().map(|state| state.policy.hash.clone()).unwrap_or_default();
                seen.mesh.is_settled(4) && seen.mesh.states.values().all(|s| s.policy.hash == hash) && is_it(&hash)
            })
            .await?;
        match other {
            None => Ok(seen),
            Some(size) => Err(format!("the set had size {size} meanwhile, not 4")),
        }
    }

    fn hash(seen: &Seen) -> Result<String, String> {
        let first = seen.mesh.states.values().next().ok_or("no pilot answers")?;
        Ok(first.policy.hash.clone())
    }

    /// Another policy.
    pub(crate) async fn upgrade(&mut self) -> Outcome {
        let before = self.policy("one policy", |_| true).await?;
        let (old, keys) = (Self::hash(&before)?, self.secret().await?);
        let begun = Instant::now();
        self.helm(&["upgrade", RELEASE, CHART, "--values", "-"], &self.values(11))?;
        let seen = self.policy("the new policy everywhere", |hash| hash != old).await?;
        self.same_pods(&before, &seen)?;
        must(self.secret().await? == keys, "the keys were changed")?;
        self.nodetool_shows(4)?;
        self.evidence.step(
            "helm upgrade, another policy",
            begun.elapsed(),
            None,
            "in force in four pilots; size 4 all the while; no pod and no database restarted; same keys",
        );
        Ok(Told::Shown)
    }

    /// Back to the revision that was made when the set had three.
    pub(crate) async fn rollback(&mut self) -> Outcome {
        let before = self.policy("one policy", |_| true).await?;
        let (new, keys) = (Self::hash(&before)?, self.secret().await?);
        let begun = Instant::now();
        self.helm(&["rollback", RELEASE, "1"], "")?;
        let seen = self.policy("the old policy everywhere", |hash| hash != new).await?;
        self.same_pods(&before, &seen)?;
        must(self.secret().await? == keys, "the keys were changed")?;
        self.nodetool_shows(4)?;
        self.evidence.step(
            "helm rollback to revision 1",
            begun.elapsed(),
            None,
            "the first policy in force in four pilots; size 4 all the while; no pod and no database restarted; same keys",
        );
        Ok(Told::Shown)
    }

    fn same_pods(&self, before: &Seen, after: &Seen) -> Result<(), String> {
        let uids = |seen: &Seen| -> BTreeMap<String, Value> {
            seen.pods.iter().map(|(name, pod)| (name.clone(), pod["metadata"]["uid"].clone())).collect()
        };
        must(uids(before) == uids(after), "pods were made anew")?;
        self.unchanged(before, after)
    }

    /// The uids of what must outlive the release.
    async fn kept(&self) -> Result<BTreeMap<String, Value>, String> {
        let ns = &self.cluster.namespace;
        let mut paths = vec![
            format!("/api/v1/namespaces/{ns}/secrets/{SET}-mesh-keys"),
            format!("/api/v1/namespaces/{ns}/configmaps/{SET}-pilots"),
            format!("/apis/coordination.k8s.io/v1/namespaces/{ns}/leases/{SET}-pilots"),
        ];
        paths.extend((0..4).map(|n| format!("/api/v1/namespaces/{ns}/persistentvolumeclaims/data-{SET}-{n}")));
        let mut kept = BTreeMap::new();
        for path in paths {
            let object = self.object(&path).await?;
            kept.insert(path, object["metadata"]["uid"].clone());
        }
        Ok(kept)
    }

    /// The end of the release, not of the data.
    pub(crate) async fn uninstall(&mut self) -> Outcome {
        let before = self.kept().await?;
        let begun = Instant::now();
        self.helm(&["uninstall", RELEASE], "")?;
        self.watcher.until("all pods gone", PATIENCE, |seen| seen.mesh.api && seen.pods.is_empty()).await?;
        must(self.kept().await? == before, "something that must be kept is another one now")?;
        let left = self.cluster.kubectl(&[
            "get",
            "statefulset,service,poddisruptionbudget,networkpolicy,role,job",
            "-o",
            "name",
        ])?;
        must(left.is_empty(), format!("the release has left {left}"))?;
        self.evidence.step(
            "helm uninstall",
            begun.elapsed(),
            None,
            "four claims, the keys, the Lease and the record are there, the same objects; nothing else",
        );
        Ok(Told::Shown)
    }

    /// The same words again, which say three.
    pub(crate) async fn install_again(&mut self) -> Outcome {
        let (kept, keys) = (self.kept().await?, self.secret().await?);
        let ns = self.cluster.namespace.clone();
        let members = |record: &Value| -> Result<Value, String> {
            let text = record["data"]["record"].as_str().ok_or("no record")?;
            let record: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
            Ok(json!([record["cluster"], record["members"], record["retired"]]))
        };
        let path = format!("/api/v1/namespaces/{ns}/configmaps/{SET}-pilots");
        let before = members(&self.object(&path).await?)?;
        let begun = Instant::now();
        self.helm(&["install", RELEASE, CHART, "--values", "-"], &self.values(12))?;
        self.watcher.until("the four members back", PATIENCE, |seen| seen.mesh.is_settled(4)).await?;
        let took = begun.elapsed();
        let after = members(&self.object(&path).await?)?;
        must(before == after, format!("the record says other members: {before} before, {after} now"))?;
        must(self.kept().await? == kept && self.secret().await? == keys, "claims, keys, Lease or record are others")?;
        self.nodetool_shows(4)?;
        let Some(writer) = &self.writer else {
            return Ok(Told::NotShown("no rows were written".to_owned()));
        };
        let back = writer.read_back().await.map_err(|error| error.to_string())?;
        must(back.missing.is_empty(), format!("{} acknowledged rows are missing", back.missing.len()))?;
        self.evidence.step(
            "helm install again, members: 3",
            took,
            None,
            format!(
                "size 4 by the record; the same cluster and four host ids; all {} rows read back",
                back.acknowledged
            ),
        );
        Ok(Told::Shown)
    }
}
