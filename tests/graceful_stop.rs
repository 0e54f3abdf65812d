//! A stop of the real server with a thousand connections, a tenth of them stalled, and publishing under way.

#[path = "support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use support::broker::{self, Broker};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

const CONNECTIONS: usize = 1_000;
const STALLED: usize = CONNECTIONS / 10;
const PUBLISHERS: usize = 20;

/// From the signal to the end of the process.
const STOP_MAX: Duration = Duration::from_secs(10);

/// How long anything else may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

type Socket = WebSocketStream<TcpStream>;

#[tokio::test]
async fn a_thousand_connections_are_told_when_to_come_back_and_nothing_acknowledged_is_lost() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    raise_file_limit();
    let (mut server, address) = start(&data);
    let token = broker::token(&data, "ann").unwrap();
    let mut ann = connect(address, &token, None).await;
    for alias in ["lobby", "backlog"] {
        ask(&mut ann, json!({ "type": "create", "kind": "channel", "alias": alias })).await;
    }
    // More than the buffers of both kernels hold for one connection.
    let long = "x".repeat(30 * 1024);
    for _ in 0..40 {
        ask(&mut ann, json!({ "type": "post", "room": "backlog", "content": { "text": long } })).await;
    }

    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let mut socket = connect(address, &token, Some(4 * 1024)).await;
        send(&mut socket, json!({ "type": "follow", "id": "f", "room": "backlog", "from": "start" })).await;
        stalled.push(socket);
    }
    let mut listening = Vec::new();
    for _ in 0..CONNECTIONS - STALLED - PUBLISHERS {
        let mut socket = connect(address, &token, None).await;
        ask(&mut socket, json!({ "type": "follow", "room": "lobby", "from": "now" })).await;
        listening.push(tokio::spawn(farewell(socket)));
    }
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let mut publishing = Vec::new();
    for publisher in 0..PUBLISHERS {
        let socket = connect(address, &token, None).await;
        publishing.push(tokio::spawn(publish(socket, publisher, Arc::clone(&acknowledged))));
    }
    support::eventually("publishing", PATIENCE, || acknowledged.load(Ordering::Relaxed) > 100).await.unwrap();

    let began = Instant::now();
    server.terminate().unwrap();
    let status = tokio::task::spawn_blocking(move || server.wait());
    let mut times = Vec::new();
    for (at, listener) in listening.into_iter().enumerate() {
        let (time, code) = tokio::time::timeout(PATIENCE, listener).await.unwrap().unwrap();
        assert_eq!(code, Some(1012), "connection {at}");
        times.push(time.unwrap_or_else(|| panic!("connection {at} was not told when to come back")));
    }
    let mut promised: HashMap<String, u64> = HashMap::new();
    for publisher in publishing {
        promised.extend(tokio::time::timeout(PATIENCE, publisher).await.unwrap().unwrap());
    }
    let status = status.await.unwrap();
    let took = began.elapsed();
    println!("stopped in {took:?}: {} acknowledged, {} told", promised.len(), times.len());
    assert!(status.success(), "{status}");
    assert!(took < STOP_MAX, "{took:?}");
    let (soonest, latest) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!(latest - soonest > 2_000, "they would all come at once: {soonest} to {latest} ms");
    drop(stalled);

    let (_server, address) = start(&data);
    let mut ann = connect(address, &token, None).await;
    let head =
        ask(&mut ann, json!({ "type": "follow", "room": "lobby", "from": "start" })).await["head"].as_u64().unwrap();
    let mut found: HashMap<String, u64> = HashMap::new();
    let mut at = 0;
    while at < head {
        let record = next(&mut ann).await.unwrap();
        if record["type"] == "record" {
            at = record["seq"].as_u64().unwrap();
            if let Some(client_id) = record["client_id"].as_str() {
                assert_eq!(found.insert(client_id.to_owned(), at), None, "{client_id} is there twice");
            }
        }
    }
    for (client_id, seq) in &promised {
        assert_eq!(found.get(client_id), Some(seq), "{client_id} was acknowledged");
    }
}

#[tokio::test]
async fn who_is_there_at_the_stop_was_last_seen_then() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let (mut server, address) = start(&data);
    let token = |user| broker::token(&data, user).unwrap();
    let (ann, bob) = (token("ann"), token("bob"));
    let mut first = connect(address, &ann, None).await;
    ask(&mut first, json!({ "type": "create", "kind": "channel", "alias": "lobby" })).await;
    let mut second = connect(address, &bob, None).await;
    ask(&mut second, json!({ "type": "join", "room": "lobby" })).await;
    for socket in [&mut first, &mut second] {
        ask(socket, json!({ "type": "presence", "presence": "online" })).await;
    }
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let before = now();
    server.terminate().unwrap();
    drop((first, second));
    assert!(server.wait().success());
    let after = now();

    let (_server, address) = start(&data);
    let mut first = connect(address, &ann, None).await;
    let there = ask(&mut first, json!({ "type": "presences", "room": "lobby" })).await;
    for user in there["users"].as_array().unwrap() {
        assert_eq!(user["presence"], "offline", "{there}");
        let seen = u128::from(user["last_seen"].as_u64().unwrap_or_else(|| panic!("{there}")));
        assert!((before..=after).contains(&seen), "{there}");
    }
}

fn start(data: &Path) -> (Broker, SocketAddr) {
    let mut server = Broker::start(data, 0);
    let (port, _) = server.ready().unwrap();
    (server, ([127, 0, 0, 1], port).into())
}

async fn connect(address: SocketAddr, token: &str, receive_bytes: Option<u32>) -> Socket {
    let socket = TcpSocket::new_v4().unwrap();
    if let Some(bytes) = receive_bytes {
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    let mut request = format!("ws://{address}/v1/ws").into_client_request().unwrap();
    request.headers_mut().insert("Authorization", format!("Bearer {token}").parse().unwrap());
    let open = async {
        let stream = socket.connect(address).await.unwrap();
        let (mut socket, _) = client_async(request, stream).await.unwrap();
        assert_eq!(next(&mut socket).await.unwrap()["type"], "hello");
        socket
    };
    tokio::time::timeout(PATIENCE, open).await.unwrap()
}

async fn send(socket: &mut Socket, command: Value) {
    socket.send(Message::text(command.to_string())).await.unwrap();
}

async fn ask(socket: &mut Socket, mut command: Value) -> Value {
    command["id"] = json!("asked");
    send(socket, command).await;
    loop {
        let value = next(socket).await.unwrap();
        if value["id"] == "asked" && value["type"] == "reply" {
            assert_eq!(value["ok"], true, "{value}");
            return value;
        }
    }
}

/// The next message; the close code, where there is none any more.
async fn next(socket: &mut Socket) -> Result<Value, Option<u16>> {
    loop {
        match tokio::time::timeout(PATIENCE, socket.next()).await.expect("something comes") {
            Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(frame))) => return Err(frame.map(|frame| frame.code.into())),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Err(None),
        }
    }
}

/// Reads until the end; returns when to come back, and the close code.
async fn farewell(mut socket: Socket) -> (Option<u64>, Option<u16>) {
    let mut time = None;
    loop {
        match next(&mut socket).await {
            Ok(value) if value["type"] == "restarting" => time = value["retry_after_ms"].as_u64(),
            Ok(_) => {}
            Err(code) => return (time, code),
        }
    }
}

/// Publishes for as long as that is taken; returns what was acknowledged.
async fn publish(mut socket: Socket, publisher: usize, count: Arc<AtomicUsize>) -> HashMap<String, u64> {
    let mut acknowledged = HashMap::new();
    for number in 0.. {
        let client_id = format!("{publisher}-{number}");
        let content = json!({ "text": client_id });
        let post =
            json!({ "type": "post", "id": client_id, "room": "lobby", "client_id": client_id, "content": content });
        if socket.send(Message::text(post.to_string())).await.is_err() {
            return acknowledged;
        }
        loop {
            let Ok(value) = next(&mut socket).await else { return acknowledged };
            if value["id"] != *client_id {
                continue;
            }
            match value["seq"].as_u64() {
                Some(seq) => drop(acknowledged.insert(client_id.clone(), seq)),
                None => assert_eq!(value["error"]["code"], "shutting_down", "{value}"),
            }
            count.fetch_add(1, Ordering::Relaxed);
            break;
        }
    }
    acknowledged
}

/// Each connection is a file here, too.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}
