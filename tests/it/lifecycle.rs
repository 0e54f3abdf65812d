//! From the first word to the last: greetings, heartbeats, tokens that end, rooms that sleep, and a server that stops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chinwag::actors::Limits;
use chinwag::clock::{Clock, ManualClock, SystemClock};
use chinwag::domain::{RoomId, RoomKey, Seq, TenantId, Timestamp};
use chinwag::store::Store;
use chinwag::store::memory::MemoryStore;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{
    Setup, TestServer, create_channel, eventually, follow, handshake, join, masked, patiently, post, raw_close,
    raw_frame,
};

const TEXT: u8 = 0x81;

#[tokio::test]
async fn a_server_that_takes_commands_is_ready_and_says_why_when_it_does_not() {
    let store = MemoryStore::new();
    let server = TestServer::with(Setup { store: Arc::new(store.clone()), ..Setup::default() });
    assert_eq!(server.get("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(server.get("/readyz").await.0, 200);
    store.faults().fill();
    assert_eq!(problem(server.get("/readyz").await), (503, "storage_full".to_owned()));
    store.faults().break_down("the disk is gone");
    let (status, body) = server.get("/readyz").await;
    assert!(!body.contains("disk"), "what is wrong with the storage is no stranger's business: {body}");
    assert_eq!(problem((status, body)), (503, "unavailable".to_owned()));
    assert_eq!(server.get("/healthz").await.0, 200);
    store.faults().clear();
    assert_eq!(server.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn a_full_server_still_lets_its_history_be_read() {
    let store = MemoryStore::new();
    let server = TestServer::with(Setup { store: Arc::new(store.clone()), ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    store.faults().fill();
    assert_eq!(ann.refused(post("lobby", "hi")).await, "storage_full");
    let mut again = server.client("ann").await;
    again.ask(follow("lobby", "start")).await;
    assert_eq!(again.seqs_until(2).await, [1, 2]);
    store.faults().clear();
    ann.ask(post("lobby", "hi")).await;
}

#[tokio::test]
async fn the_first_frame_is_a_greeting() {
    let server = TestServer::start();
    for (token, authenticated) in [(Some(server.token("ann")), true), (None, false)] {
        let mut socket = server.raw_socket(token.as_deref()).await;
        let (first, payload) = raw_frame(&mut socket).await.unwrap();
        let hello: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!((first, &hello["type"], &hello["protocol"]), (TEXT, &json!("hello"), &json!("chinwag.v1")));
        assert_eq!(hello["authenticated"], authenticated);
        assert_eq!(hello["heartbeat_ms"], 25_000);
    }
}

#[tokio::test]
async fn a_close_is_answered_and_the_connection_ends() {
    let server = TestServer::start();
    for payload in [&1000_u16.to_be_bytes()[..], &[], &4999_u16.to_be_bytes(), b"\x03\xe9going away"] {
        let mut socket = server.raw_socket(Some(&server.token("ann"))).await;
        socket.write_all(&masked(0x88, payload)).await.unwrap();
        assert_eq!(raw_close(&mut socket).await, Some(1000), "{payload:?}");
        assert_eq!(raw_frame(&mut socket).await, None);
    }
}

#[tokio::test]
async fn who_does_not_answer_heartbeats_is_closed_and_who_does_stays() {
    let heartbeat = Duration::from_millis(400);
    let limits = Limits { heartbeat, sweep: Duration::from_millis(20), ..Limits::lifted() };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let mut live = server.client("ann").await;
    live.ask(create_channel("lobby")).await;
    let opened = Instant::now();
    let mut dead = server.raw_socket(Some(&server.token("bob"))).await;
    // A library answers pings while it is asked for what comes next.
    let code = tokio::select! {
        code = raw_close(&mut dead) => code,
        never = live.record() => panic!("nobody follows, but this came: {never}"),
    };
    assert_eq!(code, Some(4409));
    assert!(opened.elapsed() >= 2 * heartbeat, "{:?}", opened.elapsed());
    assert!(opened.elapsed() < 2 * heartbeat + Duration::from_secs(2), "{:?}", opened.elapsed());
    let longer = tokio::time::timeout(4 * heartbeat, live.record()).await;
    assert!(longer.is_err(), "nothing comes, not even a close");
    live.ask(post("lobby", "still here")).await;
}

#[tokio::test]
async fn a_connection_ends_with_its_token() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = TestServer::with(Setup { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Setup::default() });
    let mut long = server.client("ann").await;
    long.ask(create_channel("lobby")).await;
    let token = server.token_in("default", "bob", Duration::from_secs(60));
    let mut short = server.client_with(&token, None).await;
    let mut late = server.open(None, None).await;
    late.ask(json!({ "type": "auth", "token": token })).await;
    // Clocks may be five seconds apart.
    clock.advance(Duration::from_secs(60));
    short.ask(join("lobby")).await;
    // A clock that is set says nothing of how long a token has lived.
    let before = clock.now();
    for hours in [24, -24] {
        clock.set(Timestamp(before.0 + hours * 3_600_000));
        tokio::time::sleep(Duration::from_millis(200)).await;
        short.ask(json!({ "type": "rooms" })).await;
    }
    clock.set(before);
    late.ask(json!({ "type": "rooms" })).await;
    clock.advance(Duration::from_secs(6));
    assert_eq!(short.closed().await, Some(4403));
    assert_eq!(late.closed().await, Some(4403));
    long.ask(post("lobby", "still here")).await;
    let (status, body) = server.exchange(&handshake(&format!("Authorization: Bearer {token}\r\n"))).await;
    assert_eq!(problem((status, body)), (401, "token_expired".to_owned()));
}

#[tokio::test]
async fn a_room_sleeps_until_somebody_speaks_and_readers_do_not_wake_it() {
    let limits = Limits { room_idle: Duration::from_millis(500), ..Limits::lifted() };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    ann.ask(follow("lobby", "now")).await;
    assert_eq!(server.registry.rooms_awake(), 1);
    eventually("the room's sleep", || server.registry.rooms_awake() == 0).await;

    let mut again = server.client("ann").await;
    again.ask(follow("lobby", "start")).await;
    assert_eq!(again.seqs_until(2).await, [1, 2]);
    let page = again.ask(json!({ "type": "history", "room": "lobby" })).await;
    assert_eq!(page["records"].as_array().unwrap().len(), 2);
    again.ask(json!({ "type": "rooms" })).await;
    assert_eq!(server.registry.rooms_awake(), 0);

    again.ask(post("lobby", "good morning")).await;
    assert_eq!(server.registry.rooms_awake(), 1);
    // Those who followed it in its sleep hear it, and once.
    for client in [&mut ann, &mut again] {
        assert_eq!(client.seqs_until(3).await, [3]);
    }
    eventually("the room's sleep", || server.registry.rooms_awake() == 0).await;
}

#[tokio::test]
async fn a_stop_answers_what_is_under_way_and_tells_everybody_to_come_back() {
    let store = MemoryStore::new();
    let mut server = TestServer::with(Setup { store: Arc::new(store.clone()), ..Setup::default() });
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    let room = ann.ask(create_channel("lobby")).await["room"].as_str().unwrap().to_owned();
    bob.ask(join("lobby")).await;
    bob.ask(follow("lobby", "now")).await;
    let mut stranger = server.open(None, None).await;
    // Connections that were accepted in time, and make their request too late.
    let (mut probe, mut latecomer) = (server.raw("").await, server.raw("").await);
    let mut packed = server.client_with(&server.token("eve"), Some("chinwag.v1.msgpack")).await;

    store.faults().hold();
    let mut posts = Vec::new();
    for n in 0..20 {
        posts.push(ann.send(post("lobby", &n.to_string())).await);
    }
    eventually("a commit", || store.faults().held() > 0).await;
    let began = Instant::now();
    let stopped = server.begin_stop();
    let registry = Arc::clone(&server.registry);
    eventually("the draining", || registry.unready().is_some()).await;

    assert_eq!(bob.refused(post("lobby", "too late")).await, "shutting_down");
    assert_eq!(bob.refused(create_channel("another")).await, "shutting_down");
    let ready = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(problem(answered(&mut probe, ready).await), (503, "shutting_down".to_owned()));
    assert_eq!(problem(answered(&mut latecomer, &handshake("")).await), (503, "shutting_down".to_owned()));

    // Those that had not been looked at yet may be refused, but every one is answered.
    store.faults().release();
    let mut acknowledged = Vec::new();
    for id in posts {
        let reply = ann.reply(&id).await;
        match reply["seq"].as_u64() {
            Some(seq) => acknowledged.push(seq),
            None => assert_eq!(reply["error"]["code"], "shutting_down"),
        }
    }
    assert!(!acknowledged.is_empty());
    let mut times = Vec::new();
    for client in [&mut ann, &mut bob, &mut packed, &mut stranger] {
        times.push(client.notice("restarting").await["retry_after_ms"].as_u64().expect("a time to come back"));
        assert_eq!(client.closed().await, Some(1012));
    }
    assert!(times.iter().all(|time| (1_000..6_000).contains(time)), "{times:?}");
    assert!(times.iter().any(|time| *time != times[0]), "not all at once: {times:?}");
    patiently(tokio::task::spawn_blocking(|| stopped.join())).await.unwrap().expect("it stops in order");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    let room = RoomId(room.parse().unwrap());
    let stream = RoomKey { tenant: TenantId::default_tenant(), room }.stream();
    let log = store.in_epoch(MemoryStore::EPOCH).read(&stream, Seq::ZERO, 100).await.unwrap();
    let logged: Vec<u64> = log.records.iter().map(|record| record.position.seq.0).collect();
    assert!(acknowledged.iter().all(|seq| logged.contains(seq)), "{acknowledged:?} in {logged:?}");
    let heard = bob.take_aside();
    assert!(heard.iter().filter_map(|value| value["seq"].as_u64()).all(|seq| logged.contains(&seq)));
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_a_stop_up_for_seconds_at_most() {
    let mut server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let stalled = stalled(&server, "ann", "lobby").await;
    let text = "x".repeat(16 * 1024);
    for _ in 0..200 {
        ann.ask(post("lobby", &text)).await;
    }
    let began = Instant::now();
    let stopped = server.begin_stop();
    assert_eq!(ann.closed().await, Some(1012));
    assert!(began.elapsed() < Duration::from_secs(2), "others do not wait for it: {:?}", began.elapsed());
    patiently(tokio::task::spawn_blocking(|| stopped.join())).await.unwrap().expect("it stops in order");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    drop(stalled);
}

/// A client that follows `room` through small buffers and has stopped reading.
async fn stalled(server: &TestServer, user: &str, room: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    let token = server.token(user);
    stream.write_all(handshake(&format!("Authorization: Bearer {token}\r\n")).as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(patiently(stream.read_u8()).await.expect("an answer"));
    }
    let command = json!({ "id": "1", "type": "follow", "room": room, "from": "start" });
    stream.write_all(&masked(TEXT, command.to_string().as_bytes())).await.unwrap();
    loop {
        let (_, payload) = raw_frame(&mut stream).await.expect("the connection is open");
        if payload.windows(7).any(|part| part == b"\"reply\"") {
            return stream;
        }
    }
}

/// The status and body with which a request on a connection is answered.
async fn answered(stream: &mut TcpStream, request: &str) -> (u16, String) {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    patiently(stream.read_to_end(&mut answer)).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    (head[9..12].parse().unwrap(), body.to_owned())
}

/// The status and code of a problem document.
fn problem((status, body): (u16, String)) -> (u16, String) {
    let problem: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
    assert_eq!(problem["status"], status);
    (status, problem["code"].as_str().expect("every problem has a code").to_owned())
}
