//! The launcher as users meet it: a real process with a real database process under it, killed and damaged.

mod bench;

use bench::{Bench, be_a_launcher, care, exists, leave, pid, shell, signal, start, wait_for};
use protocol::id::{DatabaseIdentity, OperationId, Uid};
use protocol::launcher::{Ask, Care, LONGEST_LINE, ProcessState, Program, Reply, StartPermission, ToolOutcome};
use protocol::time::Millis;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
#[ignore = "stands for the launcher's binary, run by the tests here"]
fn stands_for_the_launcher() {
    be_a_launcher();
}

/// What is done on a pod's volume by others, and must not matter to a database.
fn flip(path: &Path, at: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nothing_starts_before_a_permission_and_then_it_runs() {
    let bench = Bench::new();
    let _launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    assert_eq!(agent.last.process, ProcessState::Held);
    assert_eq!(agent.last.permission, None);
    agent.start(bench.database(), "pod-1").await;
    let pid = agent.running().await;
    bench.wait_for_log(&["start"]);
    assert_eq!(pid, bench.database_pid());
    let Reply::Status(status) = agent.ask(Ask::Watch).await else {
        panic!("no status");
    };
    assert!(status.resident.is_some_and(|bytes| bytes > 0));
    assert!(status.open_files.is_some_and(|files| files >= 3));
    assert_eq!(status.starts, 1);
    let mode = std::fs::metadata(bench.path("sock")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o660);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_permission_for_another_pod_is_worthless() {
    let bench = Bench::new();
    let mut launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    let why = agent.refused(start(bench.database(), "pod-2")).await;
    assert!(why.contains("pod-1") && why.contains("pod-2"), "{why}");
    agent.start(bench.database(), "pod-1").await;
    agent.running().await;
    bench.wait_for_log(&["start"]);
    drop(agent);
    launcher.signal("TERM");
    assert_eq!(launcher.wait().code(), Some(0));

    let _next = bench.launch("pod-2");
    let mut agent = bench.agent().await;
    assert_eq!(agent.last.process, ProcessState::Held);
    assert!(agent.last.permission.is_some(), "it lies there, and is worthless");
    agent.start(bench.database(), "pod-2").await;
    agent.running().await;
    assert_eq!(agent.last.starts, 2, "the accounts go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_killed_database_comes_back_with_no_agent_there() {
    let bench = Bench::new();
    let mut launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    agent.start(bench.database(), "pod-1").await;
    agent.running().await;
    drop(agent);
    bench.wait_for_log(&["start"]);
    signal(bench.database_pid(), "KILL");
    bench.wait_for_log(&["start", "start"]);
    let survivor = bench.database_pid();

    // The launcher too: what it left running is stopped before another is started.
    launcher.kill();
    let _launcher = bench.launch("pod-1");
    bench.wait_for_log(&["start", "start", "stop", "start"]);
    assert!(!exists(survivor), "two databases on one volume");
    let mut agent = bench.agent().await;
    agent.running().await;
    assert_eq!(agent.last.starts, 3);
    assert_eq!(agent.last.unintended_ends, 2);
    assert_eq!(agent.last.ends[0].signal, Some(9));
    assert!(agent.last.notices[0].contains("earlier launcher"), "{:?}", agent.last.notices);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn five_quick_deaths_are_slowed_down_and_reported_as_a_crash_loop() {
    let bench = Bench::new();
    let mut launcher = bench.launch("pod-1");
    std::fs::write(bench.path("data"), "rows").unwrap();
    let mut agent = bench.agent().await;
    let mut program = bench.database();
    program.run = shell(&format!("echo start >> {}; exit 3", bench.path("log").display()));
    agent.start(program, "pod-1").await;
    let status = agent
        .until("a crash loop", |status| matches!(status.process, ProcessState::Backoff { crash_loop: true, .. }))
        .await;
    assert_eq!(status.unintended_ends, 5);
    assert!(status.ends.iter().all(|end| end.code == Some(3) && end.unintended));
    // It goes on trying, slowly, and still says so.
    let status = agent
        .until("a seventh start", |status| matches!(status.process, ProcessState::Backoff { failures: 7, .. }))
        .await;
    assert!(matches!(status.process, ProcessState::Backoff { crash_loop: true, .. }));
    assert_eq!(std::fs::read_to_string(bench.path("data")).unwrap(), "rows");

    // A new life of the launcher has not forgotten it.
    launcher.kill();
    let _launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    let status =
        agent.until("a crash loop again", |status| matches!(status.process, ProcessState::Backoff { .. })).await;
    assert!(matches!(status.process, ProcessState::Backoff { crash_loop: true, .. }));
    // Another program may be the remedy: it is tried at once.
    agent.start(bench.database(), "pod-1").await;
    agent.running().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn told_to_end_with_no_agent_it_drains_and_stops_long_before_the_deadline() {
    let bench = Bench::new();
    let mut launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    agent.start(bench.database(), "pod-1").await;
    agent.running().await;
    bench.wait_for_log(&["start"]);
    drop(agent);
    let began = Instant::now();
    launcher.signal("TERM");
    assert_eq!(launcher.wait().code(), Some(0));
    assert!(began.elapsed() < bench.grace / 2);
    assert_eq!(bench.log(), ["start", "drain", "stop"]);
    assert!(!bench.path("sock").exists());
    // Should only this container have ended, its next start needs nobody.
    let _launcher = bench.launch("pod-1");
    bench.wait_for_log(&["start", "drain", "stop", "start"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_agent_that_says_nothing_is_waited_for_until_drain_and_stop_need_the_time() {
    let bench = Bench::new();
    let mut launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    agent.accepted(Ask::Care(Care { time_to_drain: Millis(1_000), ..care() })).await;
    agent.start(bench.database(), "pod-1").await;
    agent.running().await;
    bench.wait_for_log(&["start"]);
    launcher.signal("TERM");
    agent.until("terminating", |status| status.terminating).await;
    // A second signal changes nothing.
    launcher.signal("TERM");
    let began = Instant::now();
    agent.accepted(Ask::Deadline { left: Millis(3_000) }).await;
    assert!(agent.refused(start(bench.database(), "pod-1")).await.contains("told to end"));
    agent.until("draining", |status| !matches!(status.process, ProcessState::Running { .. })).await;
    assert!(began.elapsed() >= Duration::from_millis(1_500), "{:?}", began.elapsed());
    assert_eq!(launcher.wait().code(), Some(0));
    assert_eq!(bench.log(), ["start", "drain", "stop"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn told_by_its_agent_it_drains_at_once() {
    let bench = Bench::new();
    let mut launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    agent.start(bench.database(), "pod-1").await;
    agent.running().await;
    bench.wait_for_log(&["start"]);
    launcher.signal("INT");
    agent.until("terminating", |status| status.terminating).await;
    agent.accepted(Ask::DrainAndStop).await;
    agent.lost().await;
    assert_eq!(agent.last.process, ProcessState::Stopped);
    assert!(agent.last.ends.iter().all(|end| !end.unintended));
    assert_eq!(launcher.wait().code(), Some(0));
    assert_eq!(bench.log(), ["start", "drain", "stop"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_granted_leave_is_finished_alone() {
    let bench = Bench::new();
    let mut launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    agent.start(bench.database(), "pod-1").await;
    agent.running().await;
    bench.wait_for_log(&["start"]);
    launcher.signal("TERM");
    agent.until("terminating", |status| status.terminating).await;
    agent.accepted(leave("op-1")).await;
    bench.wait_for_log(&["start", "leave"]);
    drop(agent);
    std::fs::write(bench.path("go"), "0").unwrap();
    assert_eq!(launcher.wait().code(), Some(0));
    assert_eq!(bench.log(), ["start", "leave", "left", "stop"], "nothing is drained that has left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_leave_that_fails_is_tried_again_and_survives_the_launcher_and_its_database() {
    let bench = Bench::new();
    let mut launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    agent.start(bench.database(), "pod-1").await;
    agent.running().await;
    std::fs::write(bench.path("go"), "2").unwrap();
    agent.accepted(leave("op-1")).await;
    let status =
        agent.until("a second try", |status| status.leave.as_ref().is_some_and(|leave| leave.tries >= 2)).await;
    assert_eq!(status.leave.as_ref().and_then(|leave| leave.last.as_ref()).map(|last| last.0), Some(Some(2)));
    std::fs::remove_file(bench.path("go")).unwrap();
    agent.until("a try that waits", |status| status.leave.as_ref().is_some_and(|leave| leave.running)).await;
    // Repeating it changes nothing.
    agent.accepted(leave("op-1")).await;

    launcher.kill();
    let launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    agent.running().await;
    let status =
        agent.until("the leave taken up", |status| status.leave.as_ref().is_some_and(|leave| leave.running)).await;
    assert!(status.leave.is_some_and(|leave| leave.tries >= 3 && !leave.done));

    // A crash of the database in a terminating launcher: it is started again, because only a running one can leave.
    launcher.signal("TERM");
    agent.until("terminating", |status| status.terminating).await;
    let before = agent.last.starts;
    wait_for("the leave program", || bench.log().iter().filter(|line| *line == "leave").count() >= 3);
    std::fs::write(bench.path("go"), "1").unwrap();
    signal(bench.database_pid(), "KILL");
    agent.until("started again", |status| status.starts > before && pid(status).is_some()).await;
    std::fs::write(bench.path("go"), "0").unwrap();
    agent.until("left", |status| status.leave.as_ref().is_some_and(|leave| leave.done)).await;
    assert!(pid(&agent.last).is_some(), "it stays until peers have confirmed");
    agent.accepted(Ask::EndAfterLeave { operation: OperationId::new("op-1") }).await;
    agent.lost().await;
    assert!(agent.last.permission.is_none());
    let mut launcher = launcher;
    assert_eq!(launcher.wait().code(), Some(0));

    // What has left is never started again.
    let _launcher = bench.launch("pod-2");
    let mut agent = bench.agent().await;
    assert_eq!(agent.last.process, ProcessState::Held);
    assert!(agent.refused(start(bench.database(), "pod-2")).await.contains("host-1"));
    agent
        .accepted(Ask::Start {
            program: bench.database(),
            permission: StartPermission { pod: Uid::new("pod-2"), identity: None },
        })
        .await;
    agent.running().await;
    assert_eq!(agent.last.leave, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_new_pod_takes_up_a_leave_only_when_told_again() {
    let bench = Bench::new();
    let mut launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    agent.start(bench.database(), "pod-1").await;
    agent.running().await;
    agent.accepted(leave("op-1")).await;
    agent.until("leaving", |status| status.leave.is_some()).await;
    launcher.kill();

    let _launcher = bench.launch("pod-2");
    let mut agent = bench.agent().await;
    agent.start(bench.database(), "pod-2").await;
    agent.running().await;
    assert_eq!(agent.last.leave, None);
    agent.accepted(leave("op-1")).await;
    let status = agent.until("leaving", |status| status.leave.as_ref().is_some_and(|leave| leave.running)).await;
    assert!(status.leave.is_some_and(|leave| leave.tries >= 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_agent_that_comes_back_finds_the_same_process() {
    let bench = Bench::new();
    let _launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    agent.start(bench.database(), "pod-1").await;
    let before = agent.running().await;
    let life = agent.last.life;
    drop(agent);
    for _ in 0..3 {
        let mut agent = bench.agent().await;
        // As an agent does that does not know whether it has said so before.
        agent.start(bench.database(), "pod-1").await;
        assert_eq!(agent.running().await, before);
        assert_eq!(agent.last.life, life);
        assert_eq!(agent.last.starts, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_finds_its_launcher_again() {
    let bench = Bench::new();
    let mut launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    let life = agent.last.life;
    launcher.kill();
    agent.lost().await;
    assert!(agent.client.ask(Ask::Stop).await.is_err());
    let _launcher = bench.launch("pod-1");
    agent.until("a new life", |status| status.life != life).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn orphans_are_taken_in_and_reaped() {
    let bench = Bench::new();
    let launcher = bench.launch("pod-1");
    let agent = bench.agent().await;
    let file = bench.path("orphan");
    // A session of its own, so that it outlives the group of the tool that started it.
    let script = format!(
        "setsid sh -c 'echo $$ > {0}.new; mv {0}.new {0}; while [ ! -e {0}.end ]; do sleep 0.02; done' >/dev/null 2>&1 </dev/null & while [ ! -e {0} ]; do sleep 0.02; done",
        file.display()
    );
    agent.ask(Ask::Tool { program: shell(&script), timeout: Millis(30_000) }).await;
    let orphan: u32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    wait_for("its adoption", || {
        let stat = std::fs::read_to_string(format!("/proc/{orphan}/stat")).unwrap();
        let parent = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(1).unwrap();
        parent == launcher.pid().to_string()
    });
    std::fs::write(bench.path("orphan.end"), "").unwrap();
    wait_for("its burial", || !exists(orphan));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn as_the_first_process_of_a_container_it_ends_on_a_signal_and_leaves_nobody() {
    let mut bench = Bench::new();
    bench.pid_one = true;
    let can = std::process::Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "true"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        // Not by a macro: what those print is kept back by the test runner as long as the test passes.
        let line =
            b"NOT SHOWN: 1 test: the launcher as PID 1: a space of process ids cannot be made here (needs root)\n";
        std::io::stderr().write_all(line).unwrap();
        return;
    }
    let mut launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    agent.start(bench.database(), "pod-1").await;
    agent.running().await;
    bench.wait_for_log(&["start"]);
    let outcome = agent
        .ask(Ask::Tool { program: shell("tr '\\0' ' ' < /proc/1/cmdline; kill -TERM 1"), timeout: Millis(30_000) })
        .await;
    assert!(matches!(&outcome, Reply::Tool(tool) if tool.stdout.contains("stands_for_the_launcher")), "{outcome:?}");
    agent.until("terminating", |status| status.terminating).await;
    agent.accepted(Ask::DrainAndStop).await;
    assert_eq!(launcher.wait().code(), Some(0));
    assert_eq!(bench.log(), ["start", "drain", "stop"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_database_that_does_not_stop_is_killed_with_all_its_children() {
    let bench = Bench::new();
    let _launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    agent.accepted(Ask::Care(Care { stop_timeout: Millis(200), ..care() })).await;
    let mut program = bench.database();
    let dir = bench.dir.path().display();
    program.run = shell(&format!(
        "trap '' TERM; sh -c 'echo $$ > {dir}/child; while :; do sleep 1000; done' & echo $$ > {dir}/pid; while :; do sleep 1000; done"
    ));
    agent.start(program, "pod-1").await;
    agent.running().await;
    wait_for("both", || {
        ["pid", "child"]
            .iter()
            .all(|name| std::fs::read_to_string(bench.path(name)).is_ok_and(|text| text.ends_with('\n')))
    });
    let child: u32 = std::fs::read_to_string(bench.path("child")).unwrap().trim().parse().unwrap();
    agent.accepted(Ask::Stop).await;
    let status = agent.until("stopped", |status| status.process == ProcessState::Stopped).await;
    let end = status.ends.last().unwrap();
    assert_eq!((end.signal, end.unintended), (Some(9), false));
    assert!(!exists(child) && !exists(bench.database_pid()));
    assert_eq!(status.unintended_ends, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stopped_database_stays_stopped_until_it_is_permitted_again() {
    let bench = Bench::new();
    let mut launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    agent.start(bench.database(), "pod-1").await;
    agent.running().await;
    bench.wait_for_log(&["start"]);
    agent.accepted(Ask::Stop).await;
    agent.until("stopped", |status| status.process == ProcessState::Stopped).await;
    assert!(agent.refused(Ask::Restart).await.contains("permission"));
    launcher.kill();
    let _launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    assert_eq!(agent.last.process, ProcessState::Held);
    assert_eq!(agent.last.permission, None);
    agent.start(bench.database(), "pod-1").await;
    agent.running().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_restart_is_an_intended_end() {
    let bench = Bench::new();
    let _launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    agent.start(bench.database(), "pod-1").await;
    let before = agent.running().await;
    bench.wait_for_log(&["start"]);
    agent.accepted(Ask::Restart).await;
    agent.until("another process", |status| pid(status).is_some_and(|now| now != before)).await;
    bench.wait_for_log(&["start", "stop", "start"]);
    assert_eq!(agent.last.unintended_ends, 0);
    assert_eq!(agent.last.starts, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_kill_for_lack_of_memory_is_told_from_other_kills() {
    let bench = Bench::new();
    let _launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    agent.start(bench.database(), "pod-1").await;
    let first = agent.running().await;
    std::fs::write(bench.path("memory.events"), "oom 1\noom_kill 1\n").unwrap();
    signal(first, "KILL");
    let second = agent.until("again", |status| pid(status).is_some_and(|now| now != first)).await;
    assert!(second.ends.last().is_some_and(|end| end.out_of_memory));
    signal(pid(&second).unwrap(), "KILL");
    let third = agent.until("again", |status| status.starts == 3).await;
    assert!(third.ends.last().is_some_and(|end| !end.out_of_memory));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn damaged_accounts_are_moved_aside_and_damaged_memory_permits_nothing() {
    let bench = Bench::new();
    let mut launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    agent.start(bench.database(), "pod-1").await;
    agent.running().await;
    drop(agent);
    launcher.signal("TERM");
    launcher.wait();
    let headers = [4096, 4096 + 4096 + 64 * 1024];
    for at in headers {
        flip(&bench.path("state/accounts"), at + 9);
    }
    let mut launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    agent.running().await;
    assert_eq!(agent.last.starts, 1);
    assert!(agent.last.notices[0].contains("accounts"), "{:?}", agent.last.notices);
    assert!(bench.path("state/accounts.damaged-1").exists());
    drop(agent);
    launcher.signal("TERM");
    launcher.wait();

    flip(&bench.path("state/memory"), 4096 + 9);
    let _launcher = bench.launch("pod-1");
    let agent = bench.agent().await;
    assert_eq!(agent.last.process, ProcessState::Held);
    assert_eq!(agent.last.permission, None);
    assert!(agent.last.notices[0].contains("memory"), "{:?}", agent.last.notices);
    assert_eq!(agent.last.starts, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn f20_a_second_launcher_on_the_same_volume_is_refused() {
    let bench = Bench::new();
    let first = bench.launch("pod-1");
    let mut second = bench.spawn("pod-1");
    assert_eq!(second.wait().code(), Some(70));
    let error = std::fs::read_to_string(bench.path("error")).unwrap();
    assert!(error.contains(&format!("process {}", first.pid())), "{error}");
    bench.agent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn tools_report_what_they_print_and_are_killed_in_time() {
    let bench = Bench::new();
    let _launcher = bench.launch("pod-1");
    let agent = bench.agent().await;
    let tool = |script: &str, timeout| Ask::Tool { program: shell(script), timeout: Millis(timeout) };
    assert_eq!(
        agent.ask(tool("echo out; echo err >&2; exit 4", 30_000)).await,
        Reply::Tool(ToolOutcome {
            code: Some(4),
            stdout: "out\n".to_owned(),
            stderr: "err\n".to_owned(),
            timed_out: false,
        })
    );
    let Reply::Tool(outcome) = agent.ask(tool("echo begun; sleep 1000", 300)).await else {
        panic!("no outcome");
    };
    assert_eq!((outcome.code, outcome.timed_out, outcome.stdout.as_str()), (None, true, "begun\n"));
    let Reply::Tool(outcome) = agent.ask(tool("yes | head -c 300000; echo end", 30_000)).await else {
        panic!("no outcome");
    };
    assert!(outcome.stdout.len() <= 64 * 1024 && outcome.stdout.ends_with("end\n"));
    let missing = Ask::Tool {
        program: Program { argv: vec!["/nonexistent/tool".to_owned()], env: Default::default() },
        timeout: Millis(1_000),
    };
    let Reply::Tool(outcome) = agent.ask(missing).await else {
        panic!("no outcome");
    };
    assert!(outcome.code.is_none() && outcome.stderr.contains("/nonexistent/tool"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn files_are_written_before_each_start_and_only_where_allowed() {
    let bench = Bench::new();
    let _launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    let inside = bench.path("conf/sub/database.yaml");
    let mut program = bench.database();
    program.files.insert(inside.display().to_string(), "one".to_owned());
    agent.start(program.clone(), "pod-1").await;
    let first = agent.running().await;
    assert_eq!(std::fs::read_to_string(&inside).unwrap(), "one");
    std::fs::write(&inside, "changed by hand").unwrap();
    signal(first, "KILL");
    agent.until("again", |status| pid(status).is_some_and(|now| now != first)).await;
    assert_eq!(std::fs::read_to_string(&inside).unwrap(), "one");

    for outside in [bench.path("data"), bench.path("conf/../data"), "conf/x".into()] {
        let mut program = bench.database();
        program.files.insert(outside.display().to_string(), "two".to_owned());
        let why = agent.refused(start(program, "pod-1")).await;
        assert!(why.contains("conf"), "{why}");
    }
    // A link out of the folder is found when it is written.
    std::os::unix::fs::symlink(bench.dir.path(), bench.path("conf/link")).unwrap();
    let mut program = bench.database();
    program.files.insert(bench.path("conf/link/data").display().to_string(), "three".to_owned());
    agent.accepted(Ask::Stop).await;
    agent.start(program, "pod-1").await;
    let status = agent
        .until("refused by the file system", |status| matches!(status.process, ProcessState::Backoff { .. }))
        .await;
    assert!(status.notices.iter().any(|notice| notice.contains("link")), "{:?}", status.notices);
    assert!(!bench.path("data").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn garbage_closes_only_its_own_connection() {
    let bench = Bench::new();
    let _launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    let connect = || {
        let stream = UnixStream::connect(bench.path("sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    };
    for garbage in [b"GET / HTTP/1.1\n".to_vec(), b"{}\n".to_vec(), vec![b' '; LONGEST_LINE + 2], vec![0xff, b'\n']] {
        let mut stream = connect();
        // The launcher may close before all is written.
        let _ = stream.write_all(&garbage);
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty()),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    // A word of a later version is answered, and the connection goes on.
    let stream = connect();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut ask = |line: &str| {
        (&stream).write_all(line.as_bytes()).unwrap();
        lines.next().unwrap().unwrap()
    };
    assert_eq!(ask("{\"id\":5,\"ask\":{\"dance\":{}}}\n"), r#"{"reply":{"id":5,"reply":"unsupported"}}"#);
    assert!(ask("{\"id\":6,\"ask\":\"watch\"}\n").contains("\"protocol\":1"));
    agent.start(bench.database(), "pod-1").await;
    agent.running().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_database_that_crashes_while_the_launcher_ends_gives_its_own_exit_code() {
    let bench = Bench::new();
    let mut launcher = bench.launch("pod-1");
    let mut agent = bench.agent().await;
    agent
        .accepted(Ask::Start {
            program: bench.database(),
            permission: StartPermission { pod: Uid::new("pod-1"), identity: Some(DatabaseIdentity::new("host-1")) },
        })
        .await;
    let database = agent.running().await;
    launcher.signal("TERM");
    agent.until("terminating", |status| status.terminating).await;
    signal(database, "KILL");
    assert_eq!(launcher.wait().code(), Some(128 + 9));
}
