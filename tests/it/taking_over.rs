//! Where a connection leaves HTTP: what came too early, and what comes behind.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{TestServer, create_channel, handshake, masked, patiently, raw_frame};

#[tokio::test]
async fn frames_that_come_with_the_handshake_are_read_and_so_are_those_behind_them() {
    let server = TestServer::start();
    let bearer = format!("Authorization: Bearer {}\r\n", server.token("ann"));
    let ask = |id: &str| masked(0x81, json!({"id": id, "type": "rooms"}).to_string().as_bytes());
    let (second, split) = (ask("second"), 9);
    let early = [handshake(&bearer).as_bytes(), &ask("first"), &second[..split]].concat();
    let mut stream = server.raw_bytes(&early).await;
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    stream.write_all(&[&second[split..], &ask("third")].concat()).await.unwrap();
    let mut answered = Vec::new();
    while answered.len() < 3 {
        let (_, payload) = patiently(raw_frame(&mut stream)).await.expect("it goes on");
        let message: Value = serde_json::from_slice(&payload).unwrap();
        if message["type"] == "reply" {
            answered.push(message["id"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(answered, ["first", "second", "third"]);
}

#[tokio::test]
async fn who_sends_a_lot_before_the_handshake_is_answered_is_not_misread() {
    let server = TestServer::start();
    let bearer = format!("Authorization: Bearer {}\r\n", server.token("ann"));
    let frame = masked(0x81, json!({"id": "a", "type": "rooms"}).to_string().as_bytes());
    let early = [handshake(&bearer).into_bytes(), frame.repeat(4000)].concat();
    let mut stream = server.raw_bytes(&early).await;
    // It is answered in part at most, and then ended; nothing is taken for what it is not.
    let mut answers = Vec::new();
    let _ = patiently(stream.read_to_end(&mut answers)).await;
    assert!(!String::from_utf8_lossy(&answers).contains("invalid_json"));
}

#[tokio::test]
async fn what_is_asked_behind_a_stream_is_neither_carried_out_nor_answered_within_it() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let token = server.token("ann");
    let request = |line: &str, more: &str, body: &str| {
        format!("{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{more}\r\n{body}")
    };
    let post = r#"{"content":{"text":"smuggled"}}"#;
    let requests = [
        request("GET /v1/rooms/lobby/events", "Accept: text/event-stream\r\n", ""),
        request(
            "POST /v1/rooms/lobby/messages",
            &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", post.len()),
            post,
        ),
        request("GET /healthz", "", ""),
    ];
    let mut stream = server.raw_bytes(requests.concat().as_bytes()).await;
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200 "));
    ann.ask(json!({"type": "post", "room": "lobby", "content": {"text": "seen"}})).await;
    let mut text = String::new();
    while !text.contains("seen") {
        let mut bytes = [0; 4096];
        let read = patiently(stream.read(&mut bytes)).await.unwrap();
        assert!(read > 0, "it ended with {text}");
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    assert!(!text.contains("HTTP/1.1") && !text.contains("smuggled"), "{text}");
    let page = ann.ask(json!({"type": "history", "room": "lobby"})).await;
    assert_eq!(page["records"].as_array().unwrap().len(), 3, "created, joined, seen: {page}");
}

#[tokio::test]
async fn a_stream_ends_with_its_connection_and_has_no_length() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let token = server.token("ann");
    let request = format!(
        "GET /v1/rooms/lobby/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Accept: text/event-stream\r\n\r\n"
    );
    let mut stream = server.raw(&request).await;
    let head = head(&mut stream).await.to_lowercase();
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    assert!(!head.contains("transfer-encoding") && !head.contains("content-length"), "{head}");
    let mut first = [0; 1];
    patiently(stream.read_exact(&mut first)).await.unwrap();
    assert!(first[0].is_ascii_lowercase() || first[0] == b':', "the first line of an event follows: {first:?}");
    assert_eq!(server.connections().await, 2);
    drop(stream);
    crate::harness::eventually("it is noticed at once", || server.registry.connections().open() == 1).await;
}

async fn head(stream: &mut tokio::net::TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(patiently(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn who_says_something_behind_a_stream_is_noticed_to_be_gone_all_the_same() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let request = format!(
        "GET /v1/rooms/lobby/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Accept: text/event-stream\r\n\r\n",
        server.token("ann")
    );
    let mut stream = server.raw(&request).await;
    head(&mut stream).await;
    assert_eq!(server.connections().await, 2);
    stream.write_all(b"and something behind it").await.unwrap();
    drop(stream);
    let began = std::time::Instant::now();
    crate::harness::eventually("it is gone", || server.registry.connections().open() == 1).await;
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "before any comment would have told");
}
