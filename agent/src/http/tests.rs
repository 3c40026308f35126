//! Over real sockets, with readers and senders as they come.

use super::sample::{decisions, entry, state};
use super::server::{Waits, serve_with};
use super::*;
use crate::pilot::state::{DecisionsDocument, StateDocument};
use protocol::database::DatabasePhase;
use protocol::time::Timestamp;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

fn health() -> Health {
    Health { alive: Ok(()), started: true, ready: vec![("database".into(), Ok(())), ("launcher".into(), Ok(()))] }
}

fn filled() -> Board {
    let board = Board::new();
    board.set(state(), decisions(), health());
    board
}

async fn served(board: &Board) -> Handle {
    serve("127.0.0.1:0".parse().unwrap(), board.clone()).await.unwrap()
}

/// One request on its own connection; everything that comes back until the server closes.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    ask(address, "GET", path).await
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let answer =
        exchange(address, &format!("{method} {path} HTTP/1.1\r\nhost: pilot\r\nconnection: close\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Begins a watch and gives its lines.
async fn watch(address: SocketAddr) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /state/watch HTTP/1.1\r\nhost: pilot\r\n\r\n").await.unwrap();
    BufReader::new(stream)
}

/// The next line of a watch that is neither header nor chunk size: a document, or an empty heartbeat.
async fn next_document(lines: &mut BufReader<TcpStream>) -> StateDocument {
    loop {
        let mut line = String::new();
        assert_ne!(timeout(PATIENCE, lines.read_line(&mut line)).await.unwrap().unwrap(), 0, "the watch ended");
        if line.starts_with('{') {
            return serde_json::from_str(&line).unwrap();
        }
    }
}

async fn until_connections(handle: &Handle, most: usize) {
    timeout(PATIENCE, async {
        while handle.connections() > most {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_state_and_decisions_are_those_of_the_board() {
    let handle = served(&filled()).await;
    let (status, body) = get(handle.address(), "/state").await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<StateDocument>(&body).unwrap(), state());
    let (_, body) = get(handle.address(), "/state?pretty").await;
    assert_eq!(serde_json::from_str::<StateDocument>(&body).unwrap(), state());
    let (status, body) = get(handle.address(), "/decisions").await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<DecisionsDocument>(&body).unwrap(), decisions());
}

#[tokio::test]
async fn before_the_first_word_the_pilot_is_alive_but_neither_started_nor_ready() {
    let board = Board::new();
    let handle = served(&board).await;
    let status = async |path| get(handle.address(), path).await.0;
    assert_eq!(status("/livez").await, 200);
    assert_eq!(status("/startupz").await, 503);
    assert_eq!(status("/readyz").await, 503);
    assert_eq!(status("/state").await, 503);
    assert_eq!(status("/decisions").await, 200);
    assert_eq!(status("/metrics").await, 200);
    board.set(state(), decisions(), health());
    assert_eq!(status("/startupz").await, 200);
    assert_eq!(status("/readyz").await, 200);
}

#[tokio::test]
async fn a_member_that_does_not_serve_is_alive_and_not_ready_and_says_why() {
    let board = filled();
    let ready = vec![("database".to_owned(), Err("the database drains".to_owned()))];
    board.set(state(), decisions(), Health { ready, ..health() });
    let handle = served(&board).await;
    assert_eq!(get(handle.address(), "/livez").await, (200, "ok\n".into()));
    let (status, text) = get(handle.address(), "/readyz").await;
    assert_eq!((status, text.contains("[-]database failed: the database drains")), (503, true));
    assert_eq!(get(handle.address(), "/readyz?exclude=database").await.0, 200);
    board.set(state(), decisions(), Health { alive: Err("its memory cannot be written".into()), ..health() });
    assert_eq!(get(handle.address(), "/livez").await.0, 503);
}

#[tokio::test]
async fn whatever_is_not_read_here_is_refused_with_what_there_is() {
    let handle = served(&filled()).await;
    let (status, text) = get(handle.address(), "/status").await;
    assert_eq!((status, text.contains("/state/watch")), (404, true));
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "FOO"] {
        assert_eq!(ask(handle.address(), method, "/state").await.0, 405, "{method}");
    }
    let answer = exchange(handle.address(), "POST /state HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.to_ascii_lowercase().contains("allow: get, head"), "{answer}");
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let handle = served(&filled()).await;
    for path in ["/state", "/metrics", "/", "/readyz", "/state/watch"] {
        assert_eq!(ask(handle.address(), "HEAD", path).await, (200, String::new()), "{path}");
    }
}

#[tokio::test]
async fn the_page_may_only_run_its_own_script_and_ask_its_own_pilot() {
    let handle = served(&filled()).await;
    let answer = exchange(handle.address(), "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    let policy = answer.lines().find(|line| line.to_ascii_lowercase().starts_with("content-security-policy")).unwrap();
    assert!(policy.contains("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(policy.contains("connect-src 'self'") && !policy.contains("unsafe"), "{policy}");
}

#[tokio::test]
async fn a_watcher_is_told_the_state_at_once_and_then_each_change_but_not_each_tick() {
    let board = filled();
    let handle = served(&board).await;
    let mut lines = watch(handle.address()).await;
    assert_eq!(next_document(&mut lines).await, state());

    let mut ticked = state();
    ticked.me.now = Timestamp::from_millis(999_999);
    ticked.members[0].phi = Some(3.0);
    board.set(ticked.clone(), decisions(), health());
    assert_eq!(
        serde_json::from_str::<StateDocument>(&get(handle.address(), "/state").await.1).unwrap(),
        ticked,
        "who asks is told the clock as well"
    );
    let mut changed = ticked;
    changed.members[3].database.as_mut().unwrap().phase = DatabasePhase::Serving;
    board.set(changed.clone(), decisions(), health());
    assert_eq!(next_document(&mut lines).await, changed, "the tick alone was not told");
}

#[tokio::test]
async fn a_watch_begun_before_anything_is_known_is_told_the_first_state() {
    let board = Board::new();
    let handle = served(&board).await;
    let mut lines = watch(handle.address()).await;
    // The heading of the answer shows that the watch has begun.
    let mut heading = String::new();
    timeout(PATIENCE, lines.read_line(&mut heading)).await.unwrap().unwrap();
    assert!(heading.contains("200"), "{heading}");
    board.set(state(), decisions(), health());
    assert_eq!(next_document(&mut lines).await, state());
}

#[tokio::test]
async fn a_watch_without_changes_shows_that_the_pilot_is_there() {
    let waits = Waits { heartbeat: Duration::from_millis(20), ..Waits::default() };
    let handle = serve_with("127.0.0.1:0".parse().unwrap(), filled(), waits).unwrap();
    let mut lines = watch(handle.address()).await;
    next_document(&mut lines).await;
    // A chunk of one byte, which is the empty line, and again.
    let mut heartbeats = 0;
    while heartbeats < 3 {
        let mut line = String::new();
        assert_ne!(timeout(PATIENCE, lines.read_line(&mut line)).await.unwrap().unwrap(), 0);
        assert!(!line.starts_with('{'), "nothing has changed: {line}");
        heartbeats += u32::from(line == "1\r\n");
    }
}

#[tokio::test]
async fn watchers_are_counted_and_places_come_back() {
    let handle = served(&filled()).await;
    let mut watchers = Vec::new();
    for _ in 0..MOST_WATCHERS {
        let mut lines = watch(handle.address()).await;
        next_document(&mut lines).await;
        watchers.push(lines);
    }
    let (status, text) = get(handle.address(), "/state/watch").await;
    assert_eq!((status, text.contains("48")), (503, true));
    assert_eq!(get(handle.address(), "/livez").await.0, 200);
    drop(watchers);
    until_connections(&handle, 0).await;
    let mut lines = watch(handle.address()).await;
    next_document(&mut lines).await;
}

/// A document of several megabytes.
fn large() -> StateDocument {
    let mut large = state();
    let other = large.members[0].clone();
    large.members.resize(4000, other);
    large
}

#[tokio::test]
async fn a_reader_that_stops_reading_is_dropped() {
    let board = filled();
    board.set(large(), decisions(), health());
    let waits = Waits { stall: Duration::from_millis(200), ..Waits::default() };
    let handle = serve_with("127.0.0.1:0".parse().unwrap(), board, waits).unwrap();
    for path in ["/state", "/state/watch"] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(handle.address()).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
        let mut first = [0_u8; 15];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK", "{path}");
        until_connections(&handle, 0).await;
        let mut rest = Vec::new();
        // A reset or an end, but not the whole.
        _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.len() < 2_000_000, "{path}: {}", rest.len());
    }
    assert_eq!(get(handle.address(), "/livez").await.0, 200);
}

#[tokio::test]
async fn a_large_state_reaches_a_reader_that_reads() {
    let board = filled();
    board.set(large(), decisions(), health());
    let handle = served(&board).await;
    let (status, body) = get(handle.address(), "/state").await;
    assert_eq!((status, serde_json::from_str::<StateDocument>(&body).unwrap().members.len()), (200, 4000));
}

#[tokio::test]
async fn a_sender_that_never_ends_its_request_is_dropped() {
    let waits = Waits { header: Duration::from_millis(100), ..Waits::default() };
    let handle = serve_with("127.0.0.1:0".parse().unwrap(), filled(), waits).unwrap();
    for begun in ["", "GET /state HT", "GET /state HTTP/1.1\r\nhost: a\r\n"] {
        let answer = exchange(handle.address(), begun).await;
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    // A kept connection that is not used again ends as well.
    let answer = exchange(handle.address(), "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(answer.contains("200 OK"));
}

#[tokio::test]
async fn hostile_requests_change_nothing() {
    let handle = served(&filled()).await;
    let huge = format!("GET /state HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(1_000_000));
    let many = format!("GET /state HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(2_000));
    let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(100_000));
    let garbage = "\u{0}\u{1}\u{2}\r\n\r\n".repeat(50);
    let smuggled = "GET /state HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n";
    let tls = "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}";
    for request in [huge.as_str(), &many, &long, &garbage, smuggled, tls] {
        let mut stream = TcpStream::connect(handle.address()).await.unwrap();
        // The server may close while we still send.
        _ = stream.write_all(request.as_bytes()).await;
        _ = stream.shutdown().await;
        let mut answer = Vec::new();
        _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
        assert!(!answer.starts_with(b"HTTP/1.1 200") || request == smuggled, "{}", String::from_utf8_lossy(&answer));
        assert_eq!(get(handle.address(), "/livez").await.0, 200);
    }
    until_connections(&handle, 0).await;
}

#[tokio::test]
async fn when_all_places_are_taken_the_oldest_gives_way_so_that_probes_are_answered() {
    let handle = served(&filled()).await;
    let mut idle = Vec::new();
    for _ in 0..MOST_CONNECTIONS {
        idle.push(TcpStream::connect(handle.address()).await.unwrap());
    }
    assert_eq!(get(handle.address(), "/livez").await.0, 200);
    let mut oldest = idle.remove(0);
    let mut nothing = Vec::new();
    _ = timeout(Duration::from_secs(5), oldest.read_to_end(&mut nothing)).await.expect("the oldest was closed");
    assert!(handle.connections() <= MOST_CONNECTIONS);
}

#[tokio::test]
async fn endpoints_end_with_their_handle() {
    let handle = served(&filled()).await;
    let address = handle.address();
    let mut lines = watch(address).await;
    next_document(&mut lines).await;
    drop(handle);
    let mut rest = Vec::new();
    _ = timeout(PATIENCE, lines.read_to_end(&mut rest)).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_port_in_use_is_told_with_the_address() {
    let handle = served(&filled()).await;
    let error = serve(handle.address(), Board::new()).await.unwrap_err().to_string();
    assert!(error.contains(&handle.address().to_string()) && error.contains("choose another"), "{error}");
}

#[tokio::test]
async fn metrics_are_whole_and_their_series_do_not_grow_with_the_mesh() {
    use crate::kubernetes::call::Call;
    use protocol::order::OrderName;
    let board = filled();
    board.count_decision(&entry(1, 0));
    board.count_decision(&entry(2, 0));
    board.count_call(&Call::GetLease, true);
    board.count_call(&Call::ListPods, false);
    board.count_order_given(OrderName::Join);
    board.count_order_taken(OrderName::Leave, false);
    board.count_restart(Task::Gossip);
    board.set_gossip(crate::gossip::GossipCounters { forged: 3, ..Default::default() });
    let handle = served(&board).await;
    let (_, text) = get(handle.address(), "/metrics").await;
    for line in [
        "pilot_build_info{version=\"0.1.0\"} 1",
        "pilot_role{pilot_role=\"coordinator\"} 1",
        "pilot_coordinator_epoch 7",
        "pilot_promise_epoch 7",
        "pilot_promises_fresh 3",
        "pilot_roster_voters 4",
        "pilot_operation_running 1",
        "pilot_pilots{liveness=\"silent\"} 1",
        "pilot_members{phase=\"joining\"} 1",
        "pilot_members{phase=\"unknown\"} 1",
        "pilot_members{phase=\"crash-looping\"} 0",
        "pilot_gossip_digest_bytes 412",
        "pilot_database_starts_total 1",
        "pilot_database_unintended_ends_total 0",
        "pilot_decisions_total{verdict=\"act\",rule=\"JoinByGrant\"} 2",
        "pilot_decisions_total{verdict=\"wait\",rule=\"OneAtATime\"} 2",
        "pilot_api_requests_total{verb=\"get\",outcome=\"answered\"} 1",
        "pilot_api_requests_total{verb=\"list\",outcome=\"failed\"} 1",
        "pilot_orders_given_total{order=\"join\"} 1",
        "pilot_orders_taken_total{order=\"leave\",outcome=\"refused\"} 1",
        "pilot_task_restarts_total{task=\"gossip\"} 1",
        "pilot_gossip_dropped_datagrams_total{reason=\"forged\"} 3",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    let names: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).collect();
    let mut once = names.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), names.len(), "no family is told twice");

    board.set(large(), decisions(), health());
    let (_, grown) = get(handle.address(), "/metrics").await;
    assert_eq!(grown.lines().count(), text.lines().count());
}
