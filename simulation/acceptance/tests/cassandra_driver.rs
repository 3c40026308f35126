//! The driver and the real Cassandra, without pilots.

use agent::driver::cassandra::{Cassandra, Ports, Run, Settings, Timing};
use agent::driver::{BoxFuture, LocalStep, StartContext, StartKind};
use protocol::database::{DatabasePhase, DatabaseState, RingStatus};
use rustix::process::Signal;
use scylla::client::session_builder::SessionBuilder;
use simulation::conformance::driver::{Rig, every_driver};
use simulation::sandbox::client::{RowWriter, WriterSettings};
use simulation::sandbox::direct::Member;
use simulation::sandbox::distribution::{CassandraHome, Progress, ensure_cassandra};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

struct RealCassandra {
    /// The folder with the role's name and password, where clients are asked for them.
    credentials: Option<PathBuf>,
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
        settings.credentials.clone_from(&self.credentials);
        let context = StartContext {
            kind,
            cluster_name: "conformance".into(),
            address: self.address(index),
            seeds: seeds.iter().map(|c| c.address).collect(),
            data_center: "dc1".into(),
            rack: "r1".into(),
            replaces: None,
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

/// Two clusters at once would take the machine's two cores from each other.
static ONE_CLUSTER: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const BOOT: Duration = Duration::from_secs(180);
const NEWS: Duration = Duration::from_secs(60);

async fn rig(folder: &Folder, story: u8) -> RealCassandra {
    let home = tokio::task::spawn_blocking(|| ensure_cassandra(Progress::Shown))
        .await
        .expect("fetching does not panic")
        .expect("Cassandra is at hand");
    let pid = std::process::id();
    let network = [16 + 8 * story + u8::try_from(pid % 8).expect("small"), u8::try_from(pid / 8 % 256).expect("small")];
    RealCassandra { credentials: None, home, folder: folder.path().to_owned(), network }
}

/// The folder of one run. One that failed is left to be looked at.
struct Folder(Option<TempDir>);

impl Folder {
    fn path(&self) -> &Path {
        self.0.as_ref().expect("until it is dropped").path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(folder) = self.0.take().filter(|_| std::thread::panicking()) {
            println!("kept: {}", folder.keep().display());
        }
    }
}

fn folder() -> Folder {
    Folder(Some(tempfile::Builder::new().prefix("cassandra-driver-").tempdir().expect("folder")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cassandra_driver_does_what_every_driver_must() {
    let _alone = ONE_CLUSTER.lock().await;
    let folder = folder();
    let mut rig = rig(&folder, 0).await;
    match every_driver(&mut rig).await {
        Ok(timings) => {
            for (step, took) in timings {
                println!("{:7.1} s  {step}", took.as_secs_f64());
            }
        }
        Err(broken) => panic!("{broken}"),
    }
}

/// Rows written at QUORUM all the while: through the death of a member, its return under another address, and a leave
/// that is cut off by the leaver's death and taken up again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_rows_survive_a_death_a_move_and_a_leave_that_was_cut_off() {
    let _alone = ONE_CLUSTER.lock().await;
    let folder = folder();
    let mut rig = rig(&folder, 1).await;
    let began = Instant::now();
    let said = |what: &str| println!("{:7.1} s  {what}", began.elapsed().as_secs_f64());

    let mut first = rig.member(0, StartKind::Found, &[]);
    first.start().expect("starts");
    first.wait_for(DatabasePhase::Serving, BOOT).await.expect("founds");
    let mut second = rig.member(1, StartKind::Join, &[first.context()]);
    second.start().expect("starts");
    let seen = second.wait_for(DatabasePhase::Joining, BOOT).await.expect("joining is told from starting");
    assert_eq!(seen.ring, None, "while clients are locked out nothing is known of the ring");
    second.wait_for(DatabasePhase::Serving, BOOT).await.expect("joins");
    let mut third = rig.member(2, StartKind::Join, &[first.context(), second.context()]);
    third.start().expect("starts");
    let state = third.wait_for(DatabasePhase::Serving, BOOT).await.expect("joins");
    let third_id = state.identity.expect("an identity");
    said("three members");

    let native = Ports::default().native;
    let at = |members: [&Member; 3]| members.map(|m| SocketAddr::new(m.context().address, native)).to_vec();
    let (tell, contacts) = watch::channel(at([&first, &second, &third]));
    let mut writer = RowWriter::start(contacts, WriterSettings::default());
    while writer.acknowledged() < 500 {
        assert!(writer.elapsed() < NEWS, "the first rows took too long");
        sleep(Duration::from_millis(100)).await;
    }
    said("rows are written");

    third.end(Signal::KILL).await.expect("killed");
    let moved = rig.address(9);
    third.context_mut().kind = StartKind::Return;
    third.context_mut().address = moved;
    third.start().expect("starts");
    let state = third.wait_for(DatabasePhase::Serving, BOOT).await.expect("returns");
    assert_eq!(state.identity.as_ref(), Some(&third_id), "the same host id under another address");
    let _ = tell.send(at([&first, &second, &third]));
    let one_line = |state: &DatabaseState| {
        let ring = state.ring.as_deref().unwrap_or_default();
        ring.len() == 3 && ring.iter().all(|m| m.status == RingStatus::Normal && m.up == Some(true))
    };
    first.wait("three members, all alive", NEWS, one_line).await.expect("seen by its peer");
    said("a killed member is back under another address");

    // So that one of three may leave.
    let session = SessionBuilder::new()
        .known_node_addr(SocketAddr::new(first.context().address, native))
        .build()
        .await
        .expect("a session");
    for keyspace in ["tour", "system_distributed"] {
        let statement = format!(
            "ALTER KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 2}}"
        );
        session.query_unpaged(statement, &[]).await.expect("altered");
    }
    drop(session);
    let seeds = LocalStep::ReloadSeeds(first.context().clone());
    let reload = first.driver().step(&seeds).expect("a program");
    let outcome = first.tool(&reload, NEWS).await.expect("run");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let slow = second.driver().step(&LocalStep::LimitStreaming { mebibytes_per_second: Some(1) }).expect("a program");
    let outcome = second.tool(&slow, NEWS).await.expect("run");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    said("seeds reloaded, streaming bounded");

    let state = second.leave_cut_off(BOOT).await.expect("inside of the leave");
    let second_id = state.identity.expect("an identity");
    second.end(Signal::KILL).await.expect("killed");
    said("killed while leaving");
    second.context_mut().kind = StartKind::Return;
    second.start().expect("starts");
    second.wait_for(DatabasePhase::Serving, BOOT).await.expect("is a member again");
    // Not before it sees all: started so soon after the third one moved, it may have heard of the old address last.
    second.wait("three members, all alive", BOOT, one_line).await.expect("it finds the third where it is");
    said("back, and it sees all");
    let outcome = second.leave(BOOT).await.expect("run");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    second.wait_for(DatabasePhase::Left, NEWS).await.expect("left");
    let gone = |state: &DatabaseState| {
        state.ring.iter().flat_map(|ring| ring.iter()).any(|m| m.identity == second_id && m.status == RingStatus::Left)
    };
    third.wait("the left one as left", NEWS, gone).await.expect("seen by its peer");
    said("left at the second try");

    second.end(Signal::TERM).await.expect("ends");
    second.start().expect("starts");
    let status = second.ending(BOOT).await.expect("one that left ends by itself");
    assert!(!status.success(), "{status:?}");
    said("one that left does not come back");

    writer.stop().await;
    let _ = tell.send(at([&first, &third, &third]));
    let read = writer.read_back().await.expect("reads");
    println!(
        "{} tried, {} acknowledged, {} found, gaps of 5 s: {:?}",
        writer.tried(),
        read.acknowledged,
        read.found,
        writer.gaps(Duration::from_secs(5))
    );
    assert_eq!(read.missing, Vec::<u64>::new());
    println!("resident memory of this test: {}", resident());
    for member in [&mut first, &mut third] {
        member.end(Signal::TERM).await.expect("ends");
    }
}

/// With passwords on: what the driver sees as the stock superuser, as a role of its own with the rights that the documentation
/// names, after that role's password has changed, and with a wrong one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_asks_for_a_password_is_looked_at_as_the_mounted_role() {
    let _alone = ONE_CLUSTER.lock().await;
    let folder = folder();
    let secret = folder.path().join("secret");
    std::fs::create_dir_all(&secret).expect("folder");
    let mounted = |username: &str, password: &str| {
        std::fs::write(secret.join("username"), username).expect("written");
        std::fs::write(secret.join("password"), password).expect("written");
    };
    mounted("cassandra", "cassandra");
    let mut rig = rig(&folder, 2).await;
    rig.credentials = Some(secret.clone());
    let mut first = rig.member(0, StartKind::Found, &[]);
    first.start().expect("starts");
    let founded = first.wait_for(DatabasePhase::Serving, BOOT).await.expect("founds");
    let at = SocketAddr::new(first.context().address, Ports::default().native);
    let nobody = SessionBuilder::new().known_node_addr(at).build().await;
    assert!(nobody.is_err(), "somebody may connect without a password");
    let superuser =
        SessionBuilder::new().known_node_addr(at).user("cassandra", "cassandra").build().await.expect("a session");
    for statement in
        ["CREATE ROLE pilot WITH PASSWORD = 'first' AND LOGIN = true", "GRANT SELECT ON KEYSPACE system_views TO pilot"]
    {
        superuser.query_unpaged(statement, &[]).await.expect("the superuser may");
    }
    mounted("pilot", "first\n");
    let mut second = rig.member(1, StartKind::Join, &[first.context()]);
    second.start().expect("starts");
    let joined = second.wait_for(DatabasePhase::Serving, BOOT).await.expect("joins");
    assert_eq!(joined.ring.as_deref().map(<[_]>::len), Some(2), "{joined:?}");
    assert!(joined.schema_agreed.is_some() && joined.replication.is_some(), "{joined:?}");
    superuser.query_unpaged("ALTER ROLE pilot WITH PASSWORD = 'second'", &[]).await.expect("the superuser may");
    mounted("pilot", "second");
    // A driver of a later life of the pilot, at the same database.
    let later = rig.member(1, StartKind::Return, &[first.context()]);
    let lost = founded.identity.expect("an identity");
    // Cassandra keeps what it knows of a role for two seconds.
    let changed = Instant::now();
    let known = loop {
        match later.driver().last_address(&lost, &[second.context().address]).await {
            Ok(known) => break known,
            Err(why) => assert!(changed.elapsed() < NEWS, "{why}"),
        }
        sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(known, Some(first.context().address));
    mounted("pilot", "wrong");
    let refused = later.driver().last_address(&lost, &[second.context().address]).await.expect_err("refused");
    assert!(!refused.contains("wrong"), "{refused}");
    for member in [&mut first, &mut second] {
        member.end(Signal::TERM).await.expect("ends");
    }
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default().to_owned()
}
