//! The driver of the model database in process.

use super::faults::{Adapter, Kind};
use super::world::{Life, World};
use agent::driver::{
    BoxFuture, Driver, LocalStep, Look, MovedAside, RenderError, StartContext, StartKind, VolumeError,
};
use protocol::database::{DatabasePhase, DatabaseState, VolumeState};
use protocol::id::DatabaseIdentity;
use protocol::launcher::{DatabaseProgram, Program};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::time::sleep;

/// One member's driver.
pub(crate) struct InProcess {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
}

impl Driver for InProcess {
    fn name(&self) -> &'static str {
        "model"
    }

    fn program(&self, context: &StartContext) -> Result<DatabaseProgram, RenderError> {
        let nobody = RenderError::NobodyToJoin { address: context.address };
        match self.world.strike(Adapter::Program, &self.life) {
            Some(Kind::Error) => return Err(nobody),
            Some(Kind::Stall | Kind::LostReply | Kind::Cut | Kind::End) | None => {}
        }
        let word = match context.kind {
            StartKind::Found => "founder",
            StartKind::Join if context.seeds.is_empty() => return Err(nobody),
            StartKind::Join => "joiner",
            StartKind::Return => "returner",
        };
        let argv = std::iter::once(word.to_owned()).chain(context.seeds.iter().map(ToString::to_string)).collect();
        let program = |argv: Vec<String>| Program { argv, env: BTreeMap::new() };
        Ok(DatabaseProgram {
            files: BTreeMap::new(),
            run: program(argv),
            drain: program(vec!["drain".to_owned()]),
            leave: program(vec!["leave".to_owned()]),
        })
    }

    fn volume(&self, known: Option<&DatabaseIdentity>) -> VolumeState {
        let mut kube = self.world.kube();
        match (kube.volume(&self.life.claim).data.is_some(), known) {
            (false, _) => VolumeState::Empty,
            (true, Some(known)) => VolumeState::Holds(known.clone()),
            (true, None) => VolumeState::HoldsUnknown,
        }
    }

    fn move_aside(&self, label: &str) -> Result<MovedAside, VolumeError> {
        let mut kube = self.world.kube();
        let volume = kube.volume(&self.life.claim);
        Ok(match volume.data.take() {
            Some(data) => {
                volume.aside.push(data);
                MovedAside::Moved(PathBuf::from(label))
            }
            None => MovedAside::Nothing,
        })
    }

    fn probe<'a>(&'a self, look: Look<'a>) -> BoxFuture<'a, DatabaseState> {
        Box::pin(async move {
            match self.world.strike(Adapter::Look, &self.life) {
                // As the trait has it: within its deadline, with what was seen.
                Some(Kind::Stall) => {
                    sleep(self.world.stall().min(look.deadline)).await;
                    return DatabaseState::bare(DatabasePhase::Unknown);
                }
                Some(Kind::Error | Kind::LostReply | Kind::Cut | Kind::End) | None => {
                    sleep(self.world.delay(1, 20)).await;
                }
            }
            let seen = self.world.kube().look(self.world.now(), &self.life);
            self.world.tell(format_args!("{}#{} sees {:?}", self.life.pod, self.life.number, seen.phase));
            seen
        })
    }

    fn last_address<'a>(
        &'a self,
        identity: &'a DatabaseIdentity,
        _members: &'a [IpAddr],
    ) -> BoxFuture<'a, Result<Option<IpAddr>, String>> {
        Box::pin(async move { Err(format!("{identity} cannot be replaced here")) })
    }

    fn step(&self, _step: &LocalStep) -> Result<Program, RenderError> {
        Err(RenderError::NoSuchStep { driver: "model", step: "any" })
    }
}
