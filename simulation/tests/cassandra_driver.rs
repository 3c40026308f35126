//! The driver and the real Cassandra, without pilots.

use agent::driver::cassandra::{Cassandra, Ports, Run, Settings, Timing};
use agent::driver::{BoxFuture, StartContext, StartKind};
use scylla::client::session_builder::SessionBuilder;
use simulation::conformance::driver::{Rig, every_driver};
use simulation::sandbox::direct::Member;
use simulation::sandbox::distribution::{CassandraHome, Progress, ensure_cassandra};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

struct RealCassandra {
    home: CassandraHome,
    folder: PathBuf,
    /// Loopback addresses of this run only, so that two runs do not meet.
    network: [u8; 2],
}

impl RealCassandra {
    fn address(&self, index: usize) -> IpAddr {
        let [a, b] = self.network;
        IpAddr::from([127, a, b, u8::try_from(index + 1).expect("few members")])
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its number").port()
}

impl Rig for RealCassandra {
    fn member(&mut self, index: usize, kind: StartKind, seeds: &[&StartContext]) -> Member {
        let base = self.folder.join(format!("c-{index}"));
        let (volume, config) = (base.join("volume"), base.join("run"));
        std::fs::create_dir_all(&volume).expect("volume");
        std::fs::create_dir_all(&config).expect("config");
        let mut settings = Settings::new(
            Run::Jars {
                java: self.home.java.clone(),
                lib: self.home.lib.clone(),
                jamm: self.home.jamm.clone(),
                tool_archive: self.home.tool_archive.clone(),
                server_archive: None,
            },
            volume,
            config,
        );
        settings.ports = Ports { jmx: free_port(), ..Ports::default() };
        settings.heap = Some("256M".into());
        settings.timing = Timing::Short;
        settings.frugal = true;
        let context = StartContext {
            kind,
            cluster_name: "conformance".into(),
            address: self.address(index),
            seeds: seeds.iter().map(|c| c.address).collect(),
            data_center: "dc1".into(),
            rack: "r1".into(),
        };
        Member::new(Arc::new(Cassandra::new(settings)), context, base.join("cassandra.log"))
    }

    fn lower_replication<'a>(&'a mut self, through: &'a StartContext) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let session = SessionBuilder::new()
                .known_node_addr(SocketAddr::new(through.address, Ports::default().native))
                .build()
                .await
                .map_err(|e| e.to_string())?;
            for keyspace in ["system_distributed", "system_traces", "system_auth"] {
                let statement = format!(
                    "ALTER KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
                );
                session.query_unpaged(statement, &[]).await.map_err(|e| e.to_string())?;
            }
            Ok(())
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cassandra_driver_does_what_every_driver_must() {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).with_test_writer().init();
    let home = tokio::task::spawn_blocking(|| ensure_cassandra(Progress::Shown))
        .await
        .expect("fetching does not panic")
        .expect("Cassandra is at hand");
    let folder = tempfile::Builder::new().prefix("cassandra-driver-").tempdir().expect("folder");
    let pid = std::process::id();
    let network = [64 + u8::try_from(pid % 128).expect("small"), u8::try_from(pid / 128 % 256).expect("small")];
    let mut rig = RealCassandra { home, folder: folder.path().to_owned(), network };
    match every_driver(&mut rig).await {
        Ok(timings) => {
            for (step, took) in timings {
                println!("{:7.1} s  {step}", took.as_secs_f64());
            }
        }
        Err(broken) => {
            let kept = folder.keep();
            panic!("{broken}\n(kept: {})", kept.display());
        }
    }
}
