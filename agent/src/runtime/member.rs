//! The own member: looks at it, and carries out what the machine asks of it.

use crate::caught::caught;
use crate::driver::{Driver, Look, StartContext, StartKind, ToolError, ToolRunner};
use crate::effect::{LocalAct, StartAs};
use crate::event::Event;
use crate::http::{Board, Task};
use crate::launch_client::LauncherClient;
use crate::machine::Machine;
use protocol::database::{DatabasePhase, DatabaseState};
use protocol::id::{ClusterId, DatabaseIdentity, Uid};
use protocol::launcher::{Ask, ProcessState, Program, Reply, StartPermission, ToolOutcome};
use protocol::time::Millis;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Between two looks at a running database.
const LOOK_EVERY: Duration = Duration::from_millis(1000);
/// A look ends after so long with what was seen.
const LOOK_WITHIN: Duration = Duration::from_secs(8);
/// Between two looks at the volume of a database that does not run.
const VOLUME_EVERY: Duration = Duration::from_secs(2);

/// Runs tools through the launcher.
pub struct ThroughLauncher(pub LauncherClient);

impl ToolRunner for ThroughLauncher {
    fn run<'a>(
        &'a self,
        program: &'a Program,
        timeout: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<ToolOutcome, ToolError>> + Send + 'a>> {
        Box::pin(async move {
            let name = program.argv.first().cloned().unwrap_or_default();
            let ask = Ask::Tool { program: program.clone(), timeout: Millis::from(timeout) };
            match self.0.ask(ask).await {
                Ok(Reply::Tool(outcome)) => Ok(outcome),
                Ok(Reply::Refused(reason)) => Err(ToolError::Refused { program: name, reason }),
                Ok(Reply::Unsupported) => {
                    Err(ToolError::Refused { program: name, reason: "it is older than this agent".to_owned() })
                }
                Ok(Reply::Status(_) | Reply::Accepted) => {
                    Err(ToolError::Refused { program: name, reason: "it gave another answer".to_owned() })
                }
                Err(error) => Err(ToolError::NoLauncher { program: name, reason: error.to_string() }),
            }
        })
    }
}

/// What the looking task must know.
#[derive(Debug, Clone, PartialEq)]
pub struct Watched {
    /// What the process does; none while the launcher is not connected.
    pub process: Option<ProcessState>,
    /// The identity remembered for the volume.
    pub identity: Option<DatabaseIdentity>,
}

/// Looks for life: a look that panics is one that saw nothing, and the next one may do better.
pub async fn keep_looking(
    machine: impl Machine,
    driver: Arc<dyn Driver>,
    address: IpAddr,
    launcher: LauncherClient,
    watched: watch::Receiver<Watched>,
    events: mpsc::Sender<Event>,
    board: Board,
) {
    loop {
        let looking = look(machine.clone(), driver.clone(), address, launcher.clone(), watched.clone(), events.clone());
        let Err(panicked) = caught(looking).await else { return };
        tracing::error!(%panicked, "looking at the database");
        board.count_restart(Task::Database);
        let unknown = DatabaseState::bare(DatabasePhase::Unknown);
        if events.send(Event::Database(Box::new(unknown))).await.is_err() {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Looks again and again, and tells what it saw.
pub async fn look(
    machine: impl Machine,
    driver: Arc<dyn Driver>,
    address: IpAddr,
    launcher: LauncherClient,
    mut watched: watch::Receiver<Watched>,
    events: mpsc::Sender<Event>,
) {
    let tools: Arc<dyn ToolRunner> = Arc::new(ThroughLauncher(launcher));
    loop {
        let now = watched.borrow_and_update().clone();
        let pause = match &now.process {
            Some(
                process
                @ (ProcessState::Running { .. } | ProcessState::Draining { .. } | ProcessState::Stopping { .. }),
            ) => {
                let look = Look { process, address, tools: &tools, deadline: LOOK_WITHIN };
                let state = driver.probe(look).await;
                if events.send(Event::Database(Box::new(state))).await.is_err() {
                    return;
                }
                LOOK_EVERY
            }
            Some(ProcessState::Held | ProcessState::Stopped | ProcessState::Backoff { .. }) => {
                let held = !matches!(&now.process, Some(ProcessState::Backoff { .. }));
                let bare = DatabaseState::bare(DatabasePhase::Stopped);
                if events.send(Event::Database(Box::new(bare))).await.is_err() {
                    return;
                }
                if held {
                    let driver = driver.clone();
                    let known = now.identity.clone();
                    match machine.beside(move || driver.volume(known.as_ref())).await {
                        Ok(volume) => {
                            if events.send(Event::Volume(volume)).await.is_err() {
                                return;
                            }
                        }
                        Err(error) => tracing::error!(%error, "looking at the volume failed"),
                    }
                }
                VOLUME_EVERY
            }
            None => VOLUME_EVERY,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = watched.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Where the members are, for a start.
#[derive(Debug, Clone)]
pub struct Place {
    /// What people call the database cluster; its name is this and part of the cluster's id.
    pub cluster_name: String,
    /// The own address.
    pub address: IpAddr,
    /// The data centre.
    pub data_center: String,
    /// The rack.
    pub rack: String,
    /// The own pod.
    pub pod: Uid,
}

/// The name that members of one database cluster know each other by.
///
/// A database takes whoever answers at a member's old address for that member, as long as the cluster's name is the same.
/// Pods' addresses are used again, also by another cluster of the same set name in another namespace: two such clusters
/// once became one ring. So the name carries the cluster's own id; ten digits keep it within what databases take.
fn database_cluster_name(called: &str, cluster: &ClusterId) -> String {
    let id: String = cluster.as_str().chars().take(10).collect();
    format!("{called}-{id}")
}

/// Carries out one act.
///
/// # Errors
/// When it was not done; what the launcher or the volume said.
pub async fn act(
    machine: &impl Machine,
    act: LocalAct,
    place: &Place,
    seeds: Vec<IpAddr>,
    driver: Arc<dyn Driver>,
    launcher: &LauncherClient,
) -> Result<(), String> {
    let ask = match act {
        LocalAct::Start { role, identity, cluster, replaces } => {
            let cluster = cluster.ok_or("to which cluster this member belongs is not known yet")?;
            let kind = match role {
                StartAs::Founder => StartKind::Found,
                StartAs::Joiner => StartKind::Join,
                StartAs::Returner => StartKind::Return,
            };
            let replaces = match replaces {
                Some(lost) => driver.last_address(&lost, &seeds).await?,
                None => None,
            };
            let context = StartContext {
                kind,
                replaces,
                cluster_name: database_cluster_name(&place.cluster_name, &cluster),
                address: place.address,
                seeds,
                data_center: place.data_center.clone(),
                rack: place.rack.clone(),
            };
            let program = driver.program(&context).map_err(|e| e.to_string())?;
            Ask::Start { program, permission: StartPermission { pod: place.pod.clone(), identity } }
        }
        LocalAct::Leave { operation } => Ask::Leave { operation },
        LocalAct::EndAfterLeave { operation } => Ask::EndAfterLeave { operation },
        LocalAct::DrainAndStop => Ask::DrainAndStop,
        LocalAct::Restart => Ask::Restart,
        LocalAct::Deadline(left) => Ask::Deadline { left },
        LocalAct::MoveAside { data, operation } => {
            let label = format!("{operation}-{data}");
            let label: String = label.chars().take(100).collect();
            return match machine.beside(move || driver.move_aside(&label)).await {
                Ok(Ok(moved)) => {
                    tracing::info!(?moved, "old data was moved aside");
                    Ok(())
                }
                Ok(Err(error)) => Err(error.to_string()),
                Err(error) => Err(error),
            };
        }
    };
    match launcher.ask(ask).await {
        Ok(Reply::Accepted | Reply::Status(_) | Reply::Tool(_)) => Ok(()),
        Ok(Reply::Refused(why)) => Err(why),
        Ok(Reply::Unsupported) => Err("the launcher is older than this request".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clusters_of_one_set_name_never_have_one_name_for_their_databases() {
        let of = |id: &str| database_cluster_name("cassandra", &ClusterId::new(id));
        assert_ne!(of("a24d82afb3fc969e"), of("809b4deec6948a98"));
        assert_eq!(of("a24d82afb3fc969e"), of("a24d82afb3fc969e"));
    }
}
