//! The model's driver in the story that every driver must pass.

use crate::ring::{address, driver, quick};
use agent::driver::model::Behaviour;
use agent::driver::model::wire::{Answer, Operation, ask};
use agent::driver::{BoxFuture, StartContext, StartKind};
use simulation::conformance::driver::{Rig, every_driver};
use simulation::sandbox::direct::Member;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

struct Processes {
    folder: TempDir,
    addresses: Vec<IpAddr>,
}

impl Rig for Processes {
    fn member(&mut self, index: usize, kind: StartKind, seeds: &[&StartContext]) -> Member {
        let base = self.folder.path().join(format!("m-{index}"));
        let (volume, config) = (base.join("volume"), base.join("run"));
        std::fs::create_dir_all(&volume).expect("volume");
        let context = StartContext {
            kind,
            cluster_name: "conformance".into(),
            address: IpAddr::V4(address()),
            seeds: seeds.iter().map(|c| c.address).collect(),
            data_center: "dc1".into(),
            rack: "r1".into(),
            replaces: None,
        };
        self.addresses.push(context.address);
        let behaviour = Behaviour { replication: 2, ..quick() };
        Member::new(Arc::new(driver(volume, config, behaviour)), context, base.join("log"))
    }

    fn lower_replication<'a>(&'a mut self, _through: &'a StartContext) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async {
            for address in &self.addresses {
                let operation = Operation::LowerReplication(1);
                match ask(SocketAddr::new(*address, 9042), &operation, Duration::from_secs(10)).await {
                    Ok(Answer::Done) => {}
                    Ok(answer) => return Err(format!("{answer:?}")),
                    Err(error) => return Err(error.to_string()),
                }
            }
            Ok(())
        })
    }
}

#[tokio::test]
async fn the_models_driver_does_what_every_driver_must() {
    let mut rig = Processes { folder: tempfile::tempdir().expect("folder"), addresses: Vec::new() };
    match every_driver(&mut rig).await {
        Ok(timings) => println!("{timings:?}"),
        Err(broken) => panic!("{broken}"),
    }
}
