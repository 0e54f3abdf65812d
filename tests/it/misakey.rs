//! Misakey's boxes: over the sockets that its clients open, and over the same rooms as the native protocol.

use std::sync::Arc;
use std::time::Duration;

use chinwag::actors::Limits;
use chinwag::domain::Timestamp;
use chinwag::store::memory::MemoryStore;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::harness::{
    Client, Setup, TestServer, follow, handshake, kick, masked, patiently, post, raw_close, raw_frame,
};

/// What a socket hears.
#[derive(PartialEq, Debug)]
enum Heard {
    Event(Value),
    /// The code of the close frame.
    Closed(Option<u16>),
    /// The connection ended without one.
    Dropped,
}

/// A client of one box.
struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    async fn open(server: &TestServer, user: &str, room: &str) -> Self {
        Self::open_with(server, user, room, "").await
    }

    async fn open_with(server: &TestServer, user: &str, room: &str, query: &str) -> Self {
        let path = format!("ws://{}/misakey/boxes/{room}/events/ws{query}", server.address);
        let mut request = path.into_client_request().unwrap();
        if !query.contains("access_token") && !query.contains("ticket") {
            let token = format!("Bearer {}", server.token(user));
            request.headers_mut().insert("Authorization", token.parse().unwrap());
        }
        let stream = TcpStream::connect(server.address).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.expect("the handshake is right");
        Self(socket)
    }

    async fn hears(&mut self) -> Heard {
        loop {
            match patiently(self.0.next()).await {
                Some(Ok(Message::Text(text))) => return Heard::Event(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => return Heard::Closed(frame.map(|frame| frame.code.into())),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("{other:?}"),
                Some(Err(_)) | None => return Heard::Dropped,
            }
        }
    }

    async fn event(&mut self) -> Value {
        match self.hears().await {
            Heard::Event(event) => event,
            other => panic!("{other:?}"),
        }
    }
}

/// A box of `olga`, whose client this is, and its id; the others are in it.
async fn a_box(server: &TestServer, others: &[&str]) -> (Client, String) {
    let mut olga = server.client("olga@example.org").await;
    let created = olga.ask(json!({"type": "create", "kind": "box", "name": "Papers"})).await;
    let room = created["room"].as_str().unwrap().to_owned();
    for user in others {
        olga.ask(json!({"type": "invite", "room": room, "user": user})).await;
        let mut client = server.client(user).await;
        client.ask(json!({"type": "join", "room": room})).await;
    }
    (olga, room)
}

fn sender(user: &str) -> Value {
    json!({"display_name": user, "avatar_url": null, "identifier": {"value": user, "kind": "email"}})
}

fn sealed(text: &str) -> Value {
    json!({"encrypted": text, "public_key": "key"})
}

fn message(room: &str, text: &str) -> Value {
    json!({"type": "post", "room": room, "content": sealed(text)})
}

#[tokio::test]
async fn each_event_has_the_six_members_of_the_original_in_their_order() {
    let server = TestServer::start();
    let (mut olga, room) = a_box(&server, &["ann"]).await;
    let mut ann = Socket::open(&server, "ann", &room).await;
    let posted = olga.ask(message(&room, "c2VjcmV0")).await;
    let Some(Ok(Message::Text(text))) = patiently(ann.0.next()).await else { panic!("an event comes") };
    let at = &text[text.find("\"server_event_created_at\":\"").unwrap() + 27..][..24];
    assert!(at.starts_with("20") && at.ends_with('Z') && at.as_bytes()[10] == b'T', "{at}");
    let expected = format!(
        r#"{{"id":{},"type":"msg.text","content":{{"encrypted":"c2VjcmV0","public_key":"key","last_edited_at":null,"deleted":null}},"server_event_created_at":"{at}","referrer_id":null,"sender":{}}}"#,
        posted["record"],
        r#"{"display_name":"olga@example.org","avatar_url":null,"identifier":{"value":"olga@example.org","kind":"email"}}"#,
    );
    assert_eq!(text.as_str(), expected);
}

#[tokio::test]
async fn what_happens_in_a_box_reaches_sockets_and_native_clients_in_the_same_order_in_their_own_shapes() {
    let server = TestServer::start();
    let (mut olga, room) = a_box(&server, &["ann"]).await;
    let mut ann = Socket::open(&server, "ann", &room).await;
    olga.ask(follow(&room, "now")).await;
    let posted = olga.ask(message(&room, "one")).await["record"].clone();
    olga.ask(json!({"type": "edit", "room": room, "message": posted, "content": sealed("two")})).await;
    olga.ask(post(&room, "in the clear")).await;
    olga.ask(json!({"type": "post", "room": room, "content": {"color": "red"}})).await;
    olga.ask(json!({"type": "react", "room": room, "message": posted, "emoji": "+1"})).await;
    olga.ask(json!({"type": "delete", "room": room, "message": posted})).await;
    olga.ask(json!({"type": "invite", "room": room, "user": "bob"})).await;
    let mut bob = server.client("bob").await;
    bob.ask(json!({"type": "join", "room": room})).await;
    bob.ask(json!({"type": "leave", "room": room})).await;
    olga.ask(json!({"type": "archive", "room": room})).await;

    let text = |encrypted: &str, key: &str| json!({"encrypted": encrypted, "public_key": key, "last_edited_at": null, "deleted": null});
    let edit = json!({"new_encrypted": "two", "new_public_key": "key"});
    let expected = [
        ("msg.text", text("one", "key"), "olga@example.org", json!(null)),
        ("msg.edit", edit, "olga@example.org", posted.clone()),
        // In base64, with no key.
        ("msg.text", text("aW4gdGhlIGNsZWFy", ""), "olga@example.org", json!(null)),
        ("msg.text", text("eyJjb2xvciI6InJlZCJ9", ""), "olga@example.org", json!(null)),
        ("msg.delete", json!(null), "olga@example.org", posted.clone()),
        ("member.join", json!(null), "bob", json!(null)),
        ("member.leave", json!(null), "bob", json!("the join")),
        ("state.lifecycle", json!({"state": "closed"}), "olga@example.org", json!(null)),
    ];
    let mut joined = Value::Null;
    for (kind, content, by, referrer) in expected {
        let event = ann.event().await;
        assert_eq!((&event["type"], &event["content"]), (&json!(kind), &content), "{event}");
        assert_eq!(event["sender"], sender(by));
        let referrer = if referrer == "the join" { joined.clone() } else { referrer };
        assert_eq!(event["referrer_id"], referrer);
        if kind == "member.join" {
            joined = event["id"].clone();
        }
    }
    let mut heard = Vec::new();
    while heard.last() != Some(&json!("room_archived")) {
        heard.push(olga.record().await["event"].clone());
    }
    let expected = [
        "message_posted",
        "message_edited",
        "message_posted",
        "message_posted",
        "reaction_added",
        "message_deleted",
        "member_invited",
        "member_joined",
        "member_left",
        "room_archived",
    ];
    assert_eq!(heard, expected.map(|event| json!(event)));
}

#[tokio::test]
async fn who_is_kicked_hears_so_is_closed_with_1000_and_hears_nothing_more() {
    let server = TestServer::start();
    let (mut olga, room) = a_box(&server, &["ann", "bob"]).await;
    let (mut ann, mut bob) = (Socket::open(&server, "ann", &room).await, Socket::open(&server, "bob", &room).await);
    // Somebody who reads all the time, as clients do.
    let ann = tokio::spawn(async move {
        let mut heard = Vec::new();
        loop {
            heard.push(ann.hears().await);
            if !matches!(heard.last(), Some(Heard::Event(_))) {
                return heard;
            }
        }
    });
    olga.ask(message(&room, "before")).await;
    olga.ask(kick(&json!(room), "ann")).await;
    olga.ask(message(&room, "behind")).await;
    let heard = patiently(ann).await.unwrap();
    let [Heard::Event(before), Heard::Event(kicked), Heard::Closed(Some(1000))] = &heard[..] else {
        panic!("{heard:?}")
    };
    assert_eq!(before["content"]["encrypted"], "before");
    assert_eq!((&kicked["type"], &kicked["sender"]), (&json!("member.kick"), &sender("ann")));
    assert_eq!(kicked["content"], json!({"kicker": sender("olga@example.org")}));
    assert!(kicked["referrer_id"].is_string());
    for expected in ["msg.text", "member.kick", "msg.text"] {
        assert_eq!(bob.event().await["type"], expected);
    }
}

#[tokio::test]
async fn who_leaves_is_closed_with_1000_behind_the_event() {
    let server = TestServer::start();
    let (_olga, room) = a_box(&server, &["ann"]).await;
    let mut socket = Socket::open(&server, "ann", &room).await;
    let mut ann = server.client("ann").await;
    let leave = tokio::spawn({
        let leave = json!({"type": "leave", "room": room});
        async move { ann.ask(leave).await }
    });
    assert_eq!(socket.event().await["type"], "member.leave");
    assert_eq!(socket.hears().await, Heard::Closed(Some(1000)));
    leave.await.unwrap();
}

#[tokio::test]
async fn who_does_not_show_that_it_has_the_last_event_is_cut_when_it_is_kicked() {
    let server = TestServer::start();
    let (mut olga, room) = a_box(&server, &["ann"]).await;
    let mut ann = raw(&server, "ann", &room).await;
    olga.ask(kick(&json!(room), "ann")).await;
    assert_eq!(raw_close(&mut ann).await, None, "what it has not taken is thrown away");
}

#[tokio::test]
async fn a_server_that_stops_drops_the_connection_without_a_word_and_the_client_goes_on_where_it_was() {
    let store = MemoryStore::new();
    let setup = || Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() };
    let mut server = TestServer::with(setup());
    let (mut olga, room) = a_box(&server, &["ann"]).await;
    let mut ann = Socket::open(&server, "ann", &room).await;
    olga.ask(message(&room, "one")).await;
    let one = ann.event().await;
    olga.ask(message(&room, "two")).await;
    ann.event().await;
    let stopping = server.begin_stop();
    assert_eq!(ann.hears().await, Heard::Dropped);
    stopping.join().unwrap();

    let server = TestServer::with(setup());
    let since = one["id"].as_str().unwrap();
    let mut ann = Socket::open_with(&server, "ann", &room, &format!("?since={since}")).await;
    assert_eq!(ann.event().await["content"]["encrypted"], "two");
    let mut olga = server.client("olga@example.org").await;
    olga.ask(message(&room, "three")).await;
    assert_eq!(ann.event().await["content"]["encrypted"], "three");
}

#[tokio::test]
async fn what_a_client_says_is_passed_over_up_to_8192_bytes() {
    let server = TestServer::start();
    let (mut olga, room) = a_box(&server, &["ann"]).await;
    let mut ann = Socket::open(&server, "ann", &room).await;
    for said in [Message::text("not JSON"), Message::binary(vec![0; 8192]), Message::text("{}")] {
        ann.0.send(said).await.unwrap();
    }
    ann.0.flush().await.unwrap();
    olga.ask(message(&room, "one")).await;
    assert_eq!(ann.event().await["content"]["encrypted"], "one");
    ann.0.send(Message::binary(vec![0; 8193])).await.unwrap();
    assert_eq!(ann.hears().await, Heard::Closed(Some(1009)));
}

#[tokio::test]
async fn a_missing_pong_and_a_client_that_does_not_read_end_the_connection_without_a_close_frame() {
    let limits = Limits { sweep: Duration::from_millis(20), heartbeat: Duration::from_millis(100), ..Limits::lifted() };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let (_olga, room) = a_box(&server, &["ann"]).await;
    let mut silent = raw(&server, "ann", &room).await;
    let mut last = 0;
    while let Some((first, _)) = raw_frame(&mut silent).await {
        assert_eq!(first, 0x89, "pings and nothing else");
        last = first;
    }
    assert_eq!(last, 0x89, "it has been pinged");
    // One that answers stays.
    let mut alive = raw(&server, "ann", &room).await;
    for _ in 0..5 {
        let (first, payload) = raw_frame(&mut alive).await.expect("it is open");
        assert_eq!(first, 0x89);
        alive.write_all(&masked(0x8a, &payload)).await.unwrap();
    }

    let limits =
        Limits { sweep: Duration::from_millis(20), slow_consumer: Duration::from_millis(200), ..Limits::lifted() };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let (mut olga, room) = a_box(&server, &["ann"]).await;
    let mut slow = raw(&server, "ann", &room).await;
    let large = "x".repeat(24 * 1024);
    while server.connections().await > 1 {
        olga.ask(message(&room, &large)).await;
    }
    assert_eq!(raw_close(&mut slow).await, None);
}

#[tokio::test]
async fn a_socket_is_opened_with_a_token_in_a_header_or_in_the_address_or_with_a_ticket() {
    let server = TestServer::start();
    let (mut olga, room) = a_box(&server, &["ann"]).await;
    let token = server.token("ann");
    let request = format!(
        "POST /v1/tickets HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    let (status, body) = server.exchange(&request).await;
    assert_eq!(status, 201, "{body}");
    let ticket: Value = serde_json::from_str(&body).unwrap();
    let ticket = format!("?ticket={}", ticket["ticket"].as_str().unwrap());
    for query in ["", &format!("?access_token={token}"), &ticket] {
        let mut ann = Socket::open_with(&server, "ann", &room, query).await;
        olga.ask(message(&room, "hello")).await;
        assert_eq!(ann.event().await["content"]["encrypted"], "hello", "{query}");
    }
    let (status, body) = refused(&server, &room, &ticket, None).await;
    assert_eq!((status, &body["code"]), (401, &json!("unauthorized")), "a ticket is good once: {body}");
}

#[tokio::test]
async fn who_may_not_listen_is_told_so_before_the_connection_is_one() {
    let server = TestServer::start();
    let (mut olga, room) = a_box(&server, &["ann"]).await;
    let channel = olga.ask(json!({"type": "create", "kind": "channel", "alias": "harbour"})).await;
    let channel = channel["room"].as_str().unwrap().to_owned();
    let nowhere = "7eea6625-54c1-41eb-8296-d6c19976ae8a";
    let (ann, eve, owner) = (server.token("ann"), server.token("eve"), server.token("olga@example.org"));
    let expired = server.token_of("default", "ann", Timestamp(1_000_000), Duration::from_secs(60));
    let cases: [(&str, &str, Option<&str>, u16, Value); 7] = [
        ("7", "", Some(&ann), 400, json!({"code": "bad_request", "origin": "path", "details": {"id": "malformed"}})),
        (
            &room,
            "",
            None,
            401,
            json!({"code": "unauthorized", "origin": "headers", "details": {"Authorization": "required"}}),
        ),
        (
            &room,
            "",
            Some(&expired),
            401,
            json!({"code": "unauthorized", "origin": "headers", "details": {"Authorization": "expired"}}),
        ),
        (
            &room,
            "",
            Some(&eve),
            403,
            json!({"code": "forbidden", "origin": "not_defined", "details": {"reason": "no_access"}}),
        ),
        (
            nowhere,
            "",
            Some(&eve),
            403,
            json!({"code": "forbidden", "origin": "not_defined", "details": {"reason": "no_access"}}),
        ),
        (
            &channel,
            "",
            Some(&owner),
            403,
            json!({"code": "forbidden", "origin": "not_defined", "details": {"reason": "no_access"}}),
        ),
        (
            &room,
            "?since=7eea6625-54c1-41eb-8296-d6c19976ae8a",
            Some(&ann),
            400,
            json!({"code": "bad_request", "origin": "query", "details": {"since": "invalid"}}),
        ),
    ];
    for (room, query, token, status, expected) in cases {
        let (found, mut body) = refused(&server, room, query, token).await;
        assert!(body["desc"].as_str().is_some_and(|desc| !desc.is_empty()), "{body}");
        body.as_object_mut().unwrap().remove("desc");
        assert_eq!((found, body), (status, expected), "{room}{query}");
    }
    let _open = Socket::open(&server, "ann", &room).await;
    olga.ask(json!({"type": "archive", "room": room})).await;
    let (status, body) = refused(&server, &room, "", Some(&ann)).await;
    assert_eq!((status, &body["details"]["reason"]), (403, &json!("closed")));
    let _owner = Socket::open(&server, "olga@example.org", &room).await;
}

/// What a handshake is answered.
async fn refused(server: &TestServer, room: &str, query: &str, token: Option<&str>) -> (u16, Value) {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = handshake(&authorization).replace("/v1/ws", &format!("/misakey/boxes/{room}/events/ws{query}"));
    let mut stream = server.raw(&request).await;
    let mut bytes = vec![0; 16 * 1024];
    let count = patiently(stream.read(&mut bytes)).await.unwrap();
    let answer = String::from_utf8_lossy(&bytes[..count]).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap_or_else(|_| Value::from(body)))
}

/// A bare socket of a box, on which nobody answers anything.
async fn raw(server: &TestServer, user: &str, room: &str) -> TcpStream {
    let authorization = format!("Authorization: Bearer {}\r\n", server.token(user));
    let request = handshake(&authorization).replace("/v1/ws", &format!("/misakey/boxes/{room}/events/ws"));
    let mut stream = server.raw(&request).await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream
}
