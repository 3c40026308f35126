//! What is done to the cluster, and what must come of it.

use crate::cluster::Cluster;
use crate::manifest::{Images, objects};
use crate::watch::{SET, Seen, Watcher};
use policies::replace::{APPROVE, DATA_LOST};
use protocol::record::ClusterRecord;
use serde_json::Value;
use simulation::sandbox::client::{RowWriter, WriterSettings};
use simulation::story::evidence::Evidence;
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Nothing is judged by the clock, but nothing waits for ever: a busy machine takes its time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);
/// A stretch without an acknowledged row that a user would notice.
const GAP: Duration = Duration::from_secs(5);

/// What a story has come to.
pub(crate) enum Told {
    /// It is as it must be.
    Shown,
    /// It could not be shown here, and why.
    NotShown(String),
}

/// How a story ends; the error is one sentence.
pub(crate) type Outcome = Result<Told, String>;

/// The cluster with somebody who watches and somebody who writes.
pub(crate) struct Story {
    /// Where it happens.
    pub(crate) cluster: Arc<Cluster>,
    /// What was seen, for the table.
    pub(crate) evidence: Evidence,
    /// What it is made of.
    pub(crate) images: Images,
    /// Who looks.
    pub(crate) watcher: Watcher,
    /// Who writes, once begun.
    pub(crate) writer: Option<RowWriter>,
    /// As which role it writes, with its password, where the database asks for one.
    pub(crate) role: Option<(String, String)>,
    /// When each part ended on the writer's clock, and the machine's load then: a gap is told with where it fell.
    ended: Vec<(&'static str, Duration, String)>,
}

pub(crate) fn must(holds: bool, sentence: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(sentence.into()) }
}

impl Story {
    /// Sets the stage.
    pub(crate) fn begin(cluster: Cluster, images: Images) -> Self {
        let cluster = Arc::new(cluster);
        let watcher = Watcher::start(Arc::clone(&cluster));
        Self { cluster, evidence: Evidence::default(), images, watcher, writer: None, role: None, ended: Vec::new() }
    }

    /// A part has ended: later, gaps in the writing are told by it.
    pub(crate) fn part_ended(&mut self, name: &'static str) {
        if let Some(writer) = &self.writer {
            let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
            let load = load.split(' ').next().unwrap_or_default().to_owned();
            self.ended.push((name, writer.elapsed(), load));
        }
    }

    /// In which part this moment fell, and the load at that part's end.
    fn part_at(&self, at: Duration) -> String {
        match self.ended.iter().find(|(_, end, _)| *end >= at) {
            Some((name, _, load)) => format!("{name}, load {load}"),
            None => "the last part".to_owned(),
        }
    }

    /// From nothing to three members, by the manifest of the documentation.
    pub(crate) async fn form(&mut self) -> Outcome {
        for object in objects(&self.images)? {
            self.cluster.apply(&object)?;
        }
        self.formed("apply the manifest", Instant::now()).await
    }

    /// Three members come of what was done, one after the other.
    pub(crate) async fn formed(&mut self, done: &str, begun: Instant) -> Outcome {
        let mut at_once = 0usize;
        self.watcher
            .until("three members", PATIENCE, |seen| {
                use protocol::database::DatabasePhase::{Joining, Starting};
                let moving = seen.pods.keys().filter(|p| matches!(seen.mesh.phase(p), Some(Starting | Joining)));
                at_once = at_once.max(moving.count());
                seen.mesh.is_settled(3)
            })
            .await?;
        must(at_once <= 1, format!("{at_once} members were starting or joining at once"))?;
        self.nodetool_shows(3)?;
        self.cluster.kubectl(&[
            "wait",
            "--for=condition=Ready",
            "pod",
            "-l",
            "app.kubernetes.io/name=cassandra",
            "--timeout=60s",
        ])?;
        self.evidence.step(
            done,
            begun.elapsed(),
            None,
            "restricted namespace; one founder, two joined one by one; 3 x Normal by every pilot, 3 x UN by nodetool",
        );
        Ok(Told::Shown)
    }

    /// A client at QUORUM, from here to the end, where pods can be reached from here.
    pub(crate) async fn write(&mut self) -> Outcome {
        let contacts = self.watcher.contacts();
        let first = contacts.borrow().first().copied();
        let reached = match first {
            Some(at) => matches!(
                tokio::time::timeout(Duration::from_secs(3), tokio::net::TcpStream::connect(at)).await,
                Ok(Ok(_))
            ),
            None => false,
        };
        if !reached {
            return Ok(Told::NotShown("pod addresses cannot be reached from here: run it where they can".to_owned()));
        }
        let settings = WriterSettings { rows_per_second: 50, role: self.role.clone(), ..WriterSettings::default() };
        let writer = RowWriter::start(contacts, settings);
        let begun = Instant::now();
        while writer.acknowledged() == 0 {
            must(begun.elapsed() < PATIENCE, "no row was ever acknowledged")?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.writer = Some(writer);
        Ok(Told::Shown)
    }

    /// The rules of the Role are enough, and no more than what they say.
    pub(crate) async fn rights(&mut self) -> Outcome {
        let account = format!("system:serviceaccount:{}:cassandra-pilot", self.cluster.namespace);
        for (verb, what, allowed) in [
            ("list", "pods", true),
            ("patch", "statefulsets.apps/cassandra", true),
            ("patch", "statefulsets.apps/other", false),
            ("patch", "pods", true),
            ("create", "pods --subresource=eviction", true),
            ("delete", "pods", false),
            ("create", "pods --subresource=exec", false),
            ("delete", "persistentvolumeclaims", false),
            ("get", "secrets", false),
            ("get", "configmaps/cassandra-pilots", true),
            ("get", "configmaps/cassandra-policy", false),
            ("update", "leases.coordination.k8s.io/cassandra-pilots", true),
            ("delete", "leases.coordination.k8s.io/cassandra-pilots", false),
            ("list", "nodes", false),
        ] {
            // `kubectl auth can-i` ends with 1 where the answer is no.
            let mut question = vec!["auth", "can-i", verb];
            question.extend(what.split(' '));
            question.extend(["--as", &account]);
            let said = match self.cluster.kubectl(&question) {
                Ok(said) => said,
                Err(said) => said,
            };
            let yes = said.lines().any(|line| line.trim() == "yes");
            must(yes == allowed, format!("{verb} {what}: expected allowed={allowed}, kubectl says {said}"))?;
        }
        let ns = &self.cluster.namespace;
        let lease = self.object(&format!("/apis/coordination.k8s.io/v1/namespaces/{ns}/leases/{SET}-pilots")).await?;
        must(lease["spec"]["holderIdentity"].as_str().is_some_and(|h| !h.is_empty()), "nobody holds the Lease")?;
        let set = self.object(&format!("/apis/apps/v1/namespaces/{ns}/statefulsets/{SET}")).await?;
        must(set["metadata"]["annotations"]["pilotmesh.io/epoch"].is_string(), "the set carries no epoch")?;
        for pod in ["cassandra-0", "cassandra-1", "cassandra-2"] {
            let marked = self
                .watcher
                .until(&format!("{pod}'s identity"), PATIENCE, |seen| seen.mesh.identity(pod).is_some())
                .await?
                .mesh
                .identity(pod);
            let claim = self.claim(pod).await?;
            must(
                claim["metadata"]["annotations"]["pilotmesh.io/identity"].as_str() == marked.as_deref(),
                format!("the claim of {pod} is not marked with {marked:?}"),
            )?;
        }
        let events = self.object(&format!("/apis/events.k8s.io/v1/namespaces/{ns}/events")).await?;
        let ours = events["items"].as_array().into_iter().flatten();
        let ours = ours.filter(|e| e["reportingController"] == "pilotmesh.io/coordinator").count();
        must(ours > 0, "the coordinator has posted no Event")?;
        self.evidence.fact(
            "the narrow Role is enough",
            format!("Lease, record, stamps, marks on claims and {ours} Events written by it"),
            true,
        );
        Ok(Told::Shown)
    }

    /// Another size by `kubectl scale`.
    pub(crate) async fn scale(&mut self, members: usize) -> Outcome {
        let before = self.watcher.now();
        let leaver = format!("{SET}-{members}");
        let old = before.mesh.identity(&leaver);
        let begun = Instant::now();
        self.cluster.kubectl(&["scale", "statefulset", SET, &format!("--replicas={members}")])?;
        let seen = self
            .watcher
            .until(&format!("{members} members"), PATIENCE, |seen| {
                seen.mesh.is_settled(members) && seen.pods.len() == members
            })
            .await?;
        self.unchanged(&before, &seen)?;
        self.nodetool_shows(members)?;
        let out = before.pods.len() < members;
        let evidence = if out {
            format!("joined by grant; {members} x UN; other databases not restarted")
        } else {
            let old = old.ok_or_else(|| format!("{leaver} had no identity before"))?;
            let record = seen.mesh.record.as_ref();
            let retired = record.is_some_and(|r| r.retired.keys().any(|i| i.as_str() == old));
            must(retired, format!("{old} is not retired in the record"))?;
            let claim = self.claim(&leaver).await?;
            let marks = &claim["metadata"]["annotations"];
            must(
                marks["pilotmesh.io/retired"] == "true"
                    && marks["pilotmesh.io/identity"].as_str() == Some(old.as_str()),
                format!("the claim of {leaver} is kept, but not marked as that of retired {old}: {marks}"),
            )?;
            format!("{leaver} decommissioned; {old} retired in the record, its claim kept and marked; {members} x UN")
        };
        let word = if out { "out" } else { "in" };
        self.evidence.step(
            &format!("kubectl scale {word} {} -> {members}", before.pods.len()),
            begun.elapsed(),
            None,
            evidence,
        );
        Ok(Told::Shown)
    }

    /// A size that the policy forbids is undone.
    pub(crate) async fn refused_scale_in(&mut self) -> Outcome {
        let before = self.watcher.now();
        let pod = format!("{SET}-2");
        let begun = Instant::now();
        self.cluster.kubectl(&["scale", "statefulset", SET, "--replicas=2"])?;
        let uid = uid(&before, &pod);
        let seen = self
            .watcher
            .until("the third member back", PATIENCE, |seen| {
                seen.mesh.replicas == 3 && uid != self::uid(seen, &pod) && seen.mesh.is_settled(3)
            })
            .await?;
        must(seen.mesh.identity(&pod) == before.mesh.identity(&pod), format!("{pod} came back as somebody else"))?;
        self.unchanged_but(&before, &seen, &pod)?;
        self.evidence.step(
            "kubectl scale 3 -> 2, which is refused",
            begun.elapsed(),
            None,
            format!("size raised back to 3; {pod} drained and returned on its claim, same host id"),
        );
        Ok(Told::Shown)
    }

    /// A pod deleted by a person.
    pub(crate) async fn delete_pod(&mut self) -> Outcome {
        let pod = format!("{SET}-1");
        let before = self.watcher.now();
        let begun = Instant::now();
        self.cluster.kubectl(&["delete", "pod", &pod, "--wait=true"])?;
        let gone = begun.elapsed();
        let old = uid(&before, &pod);
        let seen = self
            .watcher
            .until(&format!("{pod} back"), PATIENCE, |seen| uid(seen, &pod) != old && seen.mesh.is_settled(3))
            .await?;
        let identity = before.mesh.identity(&pod);
        must(identity.is_some() && seen.mesh.identity(&pod) == identity, format!("{pod} came back as somebody else"))?;
        let address = |seen: &Seen| seen.mesh.pods.iter().find(|p| p.name == pod).map(|p| p.address.to_string());
        let (from, to) = (address(&before).unwrap_or_default(), address(&seen).unwrap_or_default());
        must(from != to, format!("{pod} has the same address {to} as before: nothing was shown"))?;
        self.unchanged_but(&before, &seen, &pod)?;
        self.nodetool_shows(3)?;
        self.evidence.step(
            &format!("kubectl delete pod {pod}"),
            begun.elapsed(),
            Some(gone),
            format!("same host id, {from} -> {to}; 3 x UN; other databases not restarted"),
        );
        Ok(Told::Shown)
    }

    /// A claim deleted, and its data with it: what the record says is done.
    pub(crate) async fn lost_claim(&mut self) -> Outcome {
        let pod = format!("{SET}-2");
        let claim = format!("data-{pod}");
        let before = self.watcher.until("a settled mesh", PATIENCE, |seen| seen.mesh.is_settled(3)).await?;
        let lost = before.mesh.identity(&pod).ok_or_else(|| format!("{pod} has no identity"))?;
        // It goes with the pod that uses it.
        self.cluster.kubectl(&["delete", "pvc", &claim, "--wait=false"])?;
        self.cluster.kubectl(&["delete", "pod", &pod, "--wait=true"])?;
        let gone = Instant::now();
        let told = |seen: &Seen| {
            let record = seen.mesh.record.as_ref()?;
            record.conditions.iter().find(|c| c.kind == DATA_LOST).map(|c| c.message.clone())
        };
        let seen = self.watcher.until("the loss told in the record", PATIENCE, |seen| told(seen).is_some()).await?;
        let after = gone.elapsed();
        let message = told(&seen).unwrap_or_default();
        let word = message
            .split([' ', ','])
            .find(|word| word.starts_with(APPROVE))
            .ok_or_else(|| format!("it is not said how this is approved: {message}"))?;
        let events = self.cluster.kubectl(&["get", "events", "-o", "jsonpath={.items[*].note}{.items[*].message}"])?;
        must(events.contains(word), format!("no event says {word}: {events}"))?;
        let repairing = Instant::now();
        for other in seen.pods.keys().filter(|other| **other != pod) {
            // It fails as long as the database takes the lost one to be up.
            while let Err(why) = self.cluster.exec(other, "database", &["nodetool", "repair", "--full", "--force"]) {
                must(repairing.elapsed() < PATIENCE, why)?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        let repaired = repairing.elapsed();
        let begun = Instant::now();
        self.cluster.kubectl(&["annotate", "pvc", &claim, word])?;
        let seen = self
            .watcher
            .until("three members again, one of them new", PATIENCE, |seen| {
                seen.mesh.is_settled(3) && seen.mesh.identity(&pod).is_some_and(|new| new != lost)
            })
            .await?;
        let retired = |record: &ClusterRecord| record.retired.keys().any(|identity| identity.as_str() == lost);
        must(seen.mesh.record.as_ref().is_some_and(retired), format!("{lost} is not retired in the record"))?;
        self.unchanged_but(&before, &seen, &pod)?;
        self.nodetool_shows(3)?;
        self.evidence.step(
            &format!("kubectl delete pvc {claim}, and its pod; the replacement approved by kubectl annotate"),
            begun.elapsed(),
            Some(repaired),
            format!(
                "the others repaired before; told in record and event {:.1} s after the pod was gone; another host id, the lost one retired and in no \
                 ring; 3 x UN; other databases not restarted",
                after.as_secs_f64()
            ),
        );
        Ok(Told::Shown)
    }

    /// A person asks for a restart of everything, as with any StatefulSet.
    pub(crate) async fn roll(&mut self) -> Outcome {
        use protocol::database::DatabasePhase::Serving;
        let before = self.watcher.until("a settled mesh", PATIENCE, |seen| seen.mesh.is_settled(3)).await?;
        let begun = Instant::now();
        self.cluster.kubectl(&["rollout", "restart", &format!("statefulset/{SET}")])?;
        let mut at_once = 0usize;
        let seen = self
            .watcher
            .until("every pod made anew", PATIENCE, |seen| {
                let away = seen.pods.iter().filter(|(name, pod)| {
                    let ends = pod["metadata"]["deletionTimestamp"].is_string();
                    ends || seen.mesh.phase(name).is_some_and(|phase| phase != Serving)
                });
                at_once = at_once.max(away.count());
                before.pods.keys().all(|pod| uid(seen, pod).is_some_and(|now| Some(now) != uid(&before, pod)))
                    && seen.mesh.is_settled(3)
            })
            .await?;
        must(at_once <= 1, format!("{at_once} members were away at once"))?;
        for pod in before.pods.keys() {
            must(seen.mesh.identity(pod) == before.mesh.identity(pod), format!("{pod} came back as somebody else"))?;
        }
        self.nodetool_shows(3)?;
        self.evidence.step(
            "kubectl rollout restart",
            begun.elapsed(),
            None,
            "each pod evicted and made anew, one away at a time, same host ids; 3 x UN",
        );
        Ok(Told::Shown)
    }

    /// The coordinator's container killed from outside, as a kernel or a node would.
    pub(crate) async fn kill_coordinator(&mut self) -> Outcome {
        let Ok(hook) = std::env::var("PILOT_E2E_KILL_CONTAINER") else {
            return Ok(Told::NotShown(
                "a container is killed by its node's runtime: set PILOT_E2E_KILL_CONTAINER to a command that takes node and container id"
                    .to_owned(),
            ));
        };
        let before = self.watcher.until("a coordinator", PATIENCE, |seen| seen.mesh.coordinator().is_some()).await?;
        let (pod, epoch) = before.mesh.coordinator().ok_or("nobody coordinates")?;
        let node = before.pods.get(&pod).and_then(|p| p["spec"]["nodeName"].as_str()).unwrap_or_default().to_owned();
        let agent = before.container(&pod, "pilot").ok_or_else(|| format!("{pod} has no container of the pilot"))?;
        let begun = Instant::now();
        let status = Command::new("sh")
            .args(["-c", &format!("{hook} \"$0\" \"$1\""), &node, &agent.id])
            .status()
            .map_err(|error| format!("{hook}: {error}"))?;
        must(status.success(), format!("{hook} {node} {} ended with {status}", agent.id))?;
        let seen = self
            .watcher
            .until("the next coordinator", PATIENCE, |seen| seen.mesh.coordinator().is_some_and(|(_, e)| e > epoch))
            .await?;
        let took = begun.elapsed();
        let (next, higher) = seen.mesh.coordinator().ok_or("the next coordinator is gone again")?;
        let seen = self
            .watcher
            .until("the killed agent back beside its database", PATIENCE, |seen| {
                seen.container(&pod, "pilot").is_some_and(|c| c.restarts > agent.restarts) && seen.mesh.is_settled(3)
            })
            .await?;
        self.unchanged(&before, &seen)?;
        self.evidence.step(
            "SIGKILL to the coordinator's container",
            took,
            None,
            format!(
                "{pod} at epoch {epoch} -> {next} at epoch {higher}; all database containers the same, none restarted"
            ),
        );
        Ok(Told::Shown)
    }

    /// Everything acknowledged is there.
    pub(crate) async fn all_rows(&mut self) -> Outcome {
        let Some(writer) = &mut self.writer else {
            return Ok(Told::NotShown("no rows were written".to_owned()));
        };
        writer.stop().await;
        let back = writer.read_back().await.map_err(|error| error.to_string())?;
        let gaps = writer.gaps(GAP);
        let longest = gaps.iter().map(|g| g.to.saturating_sub(g.from).as_secs_f64()).fold(0.0, f64::max);
        self.evidence.fact(
            "rows acknowledged at QUORUM and read back",
            format!("{} acknowledged, {} missing", back.acknowledged, back.missing.len()),
            back.missing.is_empty(),
        );
        self.evidence.fact(
            "5-second windows without an acknowledgement",
            if gaps.is_empty() { "0".to_owned() } else { format!("{} (longest {longest:.1} s)", gaps.len()) },
            gaps.is_empty(),
        );
        must(back.missing.is_empty(), format!("{} acknowledged rows are missing", back.missing.len()))?;
        let places: Vec<String> = gaps
            .iter()
            .map(|gap| {
                let (from, to) = (gap.from.as_secs_f64(), gap.to.as_secs_f64());
                format!("{:.1} s from {from:.1} s on, in {}", to - from, self.part_at(gap.from))
            })
            .collect();
        must(gaps.is_empty(), format!("no row was acknowledged for {}", places.join("; ")))?;
        Ok(Told::Shown)
    }

    /// No call of any pilot was forbidden.
    pub(crate) async fn nothing_forbidden(&mut self) -> Outcome {
        for pod in self.watcher.now().pods.keys() {
            let log = self.cluster.kubectl(&["logs", pod, "-c", "pilot"])?;
            if let Some(line) = log.lines().find(|line| line.contains("refused with 403") || line.contains("orbidden"))
            {
                return Err(format!("{pod} was forbidden something: {line}"));
            }
        }
        Ok(Told::Shown)
    }

    /// What helps to understand a failure.
    pub(crate) async fn tell_all(&self) {
        let show = |arguments: &[&str]| match self.cluster.kubectl(arguments) {
            Ok(text) | Err(text) => println!("---- kubectl {}\n{text}", arguments.join(" ")),
        };
        show(&["get", "pods,pvc,lease,statefulset,pdb", "-o", "wide"]);
        show(&["get", "events", "--sort-by=.lastTimestamp"]);
        show(&["get", "configmap", "cassandra-pilots", "-o", "jsonpath={.data.record}"]);
        for pod in self.watcher.now().pods.keys() {
            show(&["logs", pod, "-c", "pilot", "--tail=60"]);
            show(&["logs", pod, "-c", "database", "--tail=40"]);
        }
    }

    pub(crate) fn nodetool_shows(&self, members: usize) -> Result<(), String> {
        let text = self.cluster.exec(&format!("{SET}-0"), "database", &["nodetool", "status"])?;
        let lines: Vec<&str> = text.lines().filter(|l| l.as_bytes().get(2) == Some(&b' ')).collect();
        let up = lines.iter().filter(|l| l.starts_with("UN ")).count();
        let down = text.lines().filter(|l| l.starts_with('D') && l.as_bytes().get(2) == Some(&b' ')).count();
        must(
            up == members && down == 0,
            format!("nodetool shows {up} x UN and {down} down, not {members} x UN:\n{text}"),
        )
    }

    /// Databases of pods that are the same pods run in the same containers.
    pub(crate) fn unchanged(&self, before: &Seen, after: &Seen) -> Result<(), String> {
        self.unchanged_but(before, after, "")
    }

    fn unchanged_but(&self, before: &Seen, after: &Seen, but: &str) -> Result<(), String> {
        let now: BTreeMap<_, _> = after.databases();
        for (pod, container) in before.databases() {
            if pod != but && now.contains_key(&pod) {
                must(
                    now.get(&pod) == Some(&container),
                    format!("the database of {pod} was restarted: {container:?} before, {:?} now", now.get(&pod)),
                )?;
            }
        }
        Ok(())
    }

    pub(crate) async fn object(&self, path: &str) -> Result<Value, String> {
        self.cluster.get(path).await.ok_or_else(|| format!("nothing at {path}"))
    }

    pub(crate) async fn claim(&self, pod: &str) -> Result<Value, String> {
        let ns = &self.cluster.namespace;
        self.object(&format!("/api/v1/namespaces/{ns}/persistentvolumeclaims/data-{pod}")).await
    }
}

fn uid(seen: &Seen, pod: &str) -> Option<String> {
    seen.pods.get(pod)?["metadata"]["uid"].as_str().map(ToOwned::to_owned)
}
