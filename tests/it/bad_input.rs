//! What clients get for input that is wrong, hostile or cut short; and that nobody else notices.

use std::time::{Duration, Instant};

use chinwag::actors::Limits;
use chinwag::clock::{Clock, SystemClock};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{
    Client, Setup, TestServer, announced, create_channel, follow, handshake, join, masked, patiently, post, raw_close,
    raw_frame,
};

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const PING: u8 = 0x89;

// Tokens.

#[tokio::test]
async fn a_token_that_is_no_good_opens_no_connection() {
    let server = TestServer::start();
    let mut bystander = Bystander::on(&server).await;
    assert_eq!(answer(&server, &bearer(&signed(7, claims()))).await.status, 101, "a good one does");
    for (what, token, code) in bad_tokens() {
        let answer = answer(&server, &bearer(&token)).await;
        assert_eq!((answer.status, answer.code.as_deref()), (401, Some(code)), "{what}");
        assert!(answer.head.to_lowercase().contains("www-authenticate: bearer"), "{what}: {}", answer.head);
    }
    bystander.still_talks().await;
}

#[tokio::test]
async fn a_token_that_is_no_good_ends_the_connection_it_is_sent_on() {
    let server = TestServer::start();
    let mut bystander = Bystander::on(&server).await;
    for (what, token, code) in bad_tokens() {
        let mut stranger = server.open(None, None).await;
        assert_eq!(stranger.refused(json!({ "type": "auth", "token": token })).await, code, "{what}");
        assert_eq!(stranger.closed().await, Some(4401), "{what}");
    }
    bystander.still_talks().await;
}

#[tokio::test]
async fn every_command_of_a_stranger_is_refused_and_auth_still_works() {
    let server = TestServer::start();
    let mut stranger = server.open(None, None).await;
    let commands = [
        create_channel("lobby"),
        join("lobby"),
        post("lobby", "hi"),
        follow("lobby", "start"),
        json!({ "type": "rooms" }),
        json!({ "type": "history", "room": "lobby", "limit": "not even a number" }),
    ];
    for command in commands.iter().cycle().take(40) {
        assert_eq!(stranger.refused(command.clone()).await, "unauthenticated");
    }
    stranger.ask(json!({ "type": "auth", "token": server.token("ann") })).await;
    stranger.ask(create_channel("lobby")).await;
}

#[tokio::test]
async fn a_stranger_is_closed_in_time_whatever_it_sends() {
    let limits =
        Limits { auth_timeout: Duration::from_millis(600), sweep: Duration::from_millis(20), ..Limits::lifted() };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let commands = masked(TEXT, br#"{"id":"1","type":"rooms"}"#);
    for (what, sent) in [("nothing", Vec::new()), ("pings", masked(PING, b"")), ("commands", commands)] {
        let opened = Instant::now();
        let mut stranger = server.raw_socket(None).await;
        let code = insisting(&mut stranger, &sent, Duration::from_millis(100)).await;
        assert_eq!(code, Some(4401), "{what}");
        assert!(opened.elapsed() >= Duration::from_millis(600), "{what}");
        assert!(opened.elapsed() < Duration::from_secs(5), "{what}");
    }
}

#[tokio::test]
async fn a_stranger_may_send_little_more_than_a_token() {
    let server = TestServer::start();
    let mut stranger = server.open(None, None).await;
    let padding = "x".repeat(4 * 1024);
    stranger.send(json!({ "type": "auth", "token": server.token("ann"), "padding": padding })).await;
    assert_eq!(stranger.closed().await, Some(1009));
}

// Rooms, ids and cursors.

#[tokio::test]
async fn a_room_that_is_not_there_cannot_be_used() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    for room in [json!("nowhere"), json!(77), json!("77"), json!("0192f0c1-2345-7abc-8def-0123456789ab")] {
        for kind in ["join", "leave", "archive", "follow", "history"] {
            assert_eq!(ann.refused(json!({ "type": kind, "room": room })).await, "room_not_found", "{kind} {room}");
        }
        let post = json!({ "type": "post", "room": room, "content": { "text": "hi" } });
        assert_eq!(ann.refused(post).await, "room_not_found", "{room}");
        ann.refused(json!({ "type": "unfollow", "room": room })).await;
    }
}

#[tokio::test]
async fn who_is_no_member_hears_of_a_channel_and_not_of_a_group() {
    let server = TestServer::start();
    let (mut ann, mut eve) = (server.client("ann").await, server.client("eve").await);
    let channel = ann.ask(create_channel("lobby")).await["room"].clone();
    let group = ann.ask(json!({ "type": "create", "kind": "group" })).await["room"].clone();
    for (room, code) in [(channel, "not_member"), (group, "room_not_found")] {
        for kind in ["follow", "history", "archive"] {
            assert_eq!(eve.refused(json!({ "type": kind, "room": room })).await, code, "{kind}");
        }
        let post = json!({ "type": "post", "room": room, "content": { "text": "hi" } });
        assert_eq!(eve.refused(post).await, code);
    }
    assert!(eve.take_aside().is_empty());
}

#[tokio::test]
async fn ids_and_limits_out_of_bounds_are_refused_by_name() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let room = ann.ask(create_channel("lobby")).await["room"].clone();
    let long = "x".repeat(300);
    let mut bad = Vec::new();
    for user in ["", &long, "a\u{0}b", "a\nb", "a b", "é"] {
        bad.push(json!({ "type": "invite", "room": room, "user": user }));
        bad.push(json!({ "type": "kick", "room": room, "user": user }));
    }
    for alias in ["", &long, "a\u{1b}[2J", "17", "0192f0c1-2345-7abc-8def-0123456789ab"] {
        bad.push(create_channel(alias));
    }
    for client_id in ["", &long, "a\u{7}", "a b"] {
        let mut post = post("lobby", "hi");
        post["client_id"] = json!(client_id);
        bad.push(post);
    }
    for limit in [json!(0), json!(101), json!(u64::MAX), json!(-1), json!(1e300), json!(1.5), json!("1")] {
        bad.push(json!({ "type": "history", "room": room, "limit": limit }));
        bad.push(json!({ "type": "rooms", "limit": limit }));
    }
    for room in [json!(-1), json!(1.5), json!(true), json!([]), json!({})] {
        bad.push(join("lobby"));
        bad.last_mut().unwrap()["room"] = room;
    }
    bad.push(json!({ "type": "update", "room": room }));
    bad.push(json!({ "type": "role", "room": room, "user": "bob", "role": "emperor" }));
    bad.push(json!({ "type": "create", "kind": "ballroom" }));
    for command in bad {
        assert_eq!(ann.refused(command.clone()).await, "bad_request", "{command}");
    }
    ann.ask(post("lobby", "still here")).await;
}

#[tokio::test]
async fn a_cursor_that_is_not_of_this_room_is_refused() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let token = server.token_in("other", "ann", Duration::from_secs(60));
    let mut other = server.client_with(&token, None).await;
    let ours = ann.ask(create_channel("lobby")).await["cursor"].clone();
    let garden = ann.ask(create_channel("garden")).await["cursor"].clone();
    let theirs = other.ask(create_channel("lobby")).await["cursor"].clone();
    let ours = ours.as_str().unwrap();
    let mut bad = vec![(garden.as_str().unwrap().to_owned(), "cursor_foreign")];
    bad.push((theirs.as_str().unwrap().to_owned(), "cursor_foreign"));
    for index in 0..ours.len() {
        let mut mangled = ours.as_bytes().to_vec();
        mangled[index] = if mangled[index] == b'A' { b'B' } else { b'A' };
        bad.push((String::from_utf8(mangled).unwrap(), "cursor_invalid"));
        bad.push((ours[..index].to_owned(), "cursor_invalid"));
    }
    for text in [format!("{ours}A"), format!(" {ours}"), "é".into(), "\u{0}".into(), "x".repeat(5_000)] {
        bad.push((text, "cursor_invalid"));
    }
    for (cursor, code) in bad {
        assert_eq!(ann.refused(follow("lobby", &cursor)).await, code, "{cursor:?}");
        let history = json!({ "type": "history", "room": "lobby", "before": cursor });
        assert_eq!(ann.refused(history).await, code, "{cursor:?}");
    }
    ann.ask(follow("lobby", ours)).await;
}

// Frames that say nothing.

#[tokio::test]
async fn what_is_no_command_is_refused_without_an_id_and_the_sixteenth_ends_the_connection() {
    let server = TestServer::start();
    let mut bystander = Bystander::on(&server).await;
    let texts = ["", "{", "null", "[]", "17", "\"hi\"", "{}", "{\"id\":1}", "{\"id\":\"\",\"type\":\"rooms\"}", "}{"];
    let json = texts.map(Message::text).to_vec();
    let packed: [&[u8]; 8] =
        [b"", b"\x81", b"\xc0", b"\x90", b"\x80", b"\xc1", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xffab"];
    let msgpack = packed.map(|bytes| Message::binary(bytes.to_vec())).to_vec();
    for (subprotocol, frames) in [("chinwag.v1.json", json), ("chinwag.v1.msgpack", msgpack)] {
        let mut ann = server.client_with(&server.token("ann"), Some(subprotocol)).await;
        for frame in frames.iter().cycle().take(15) {
            send(&mut ann, frame.clone()).await;
            let reply = ann.next().await;
            assert_eq!((&reply["type"], &reply["id"]), (&json!("reply"), &Value::Null), "{frame:?}");
            assert_eq!(reply["error"]["code"], "bad_request", "{frame:?}");
        }
        ann.ask(json!({ "type": "rooms" })).await;
        send(&mut ann, frames[0].clone()).await;
        assert_eq!(ann.closed().await, Some(4400));
    }
    bystander.still_talks().await;
}

#[tokio::test]
async fn a_command_with_an_id_is_refused_under_it_as_often_as_it_comes() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let big = "x".repeat(32 * 1024 + 1);
    for _ in 0..10 {
        assert_eq!(ann.refused(json!({ "type": "dance" })).await, "unknown_command");
        assert_eq!(ann.refused(json!({ "room": "lobby" })).await, "bad_request");
        assert_eq!(ann.refused(json!({ "type": "join", "room": ["lobby"] })).await, "bad_request");
        assert_eq!(ann.refused(json!({ "type": "post", "room": "lobby", "content": "hi" })).await, "bad_request");
        assert_eq!(ann.refused(json!({ "type": "post", "room": "lobby", "content": {} })).await, "content_size");
        assert_eq!(ann.refused(post("lobby", &big)).await, "content_size");
    }
    ann.ask(post("lobby", &big[1..])).await;
}

#[tokio::test]
async fn a_member_that_comes_twice_is_refused() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    ann.take_aside();
    let twice = [
        (r#"{"id":"a","id":"b","type":"rooms"}"#, Value::Null),
        (r#"{"id":"a","type":"rooms","type":"join"}"#, Value::Null),
        (r#"{"id":"a","type":"join","room":"lobby","room":"garden"}"#, json!("a")),
        (r#"{"id":"a","type":"post","room":"lobby","content":{"text":"1"},"content":{"text":"2"}}"#, json!("a")),
        (r#"{"id":"a","type":"post","room":"lobby","content":{"text":"1","text":"2"}}"#, json!("a")),
    ];
    for (text, id) in twice {
        send(&mut ann, Message::text(text)).await;
        let reply = ann.notice("reply").await;
        assert_eq!((&reply["id"], &reply["error"]["code"]), (&id, &json!("bad_request")), "{text}");
    }
}

#[tokio::test]
async fn what_is_nested_too_deep_is_refused_and_the_stack_holds() {
    let server = TestServer::start();
    let mut bystander = Bystander::on(&server).await;
    let mut ann = server.client("ann").await;
    let mut packed = server.client_with(&server.token("ann"), Some("chinwag.v1.msgpack")).await;
    for depth in [33, 1_000, 60_000] {
        send(&mut ann, Message::text(format!(r#"{{"id":"1","a":{}"#, "[".repeat(depth)))).await;
        assert_eq!(ann.next().await["error"]["code"], "too_deep", "{depth}");
        // {"a": [[[...
        send(&mut packed, Message::binary([&b"\x81\xa1a"[..], &b"\x91".repeat(depth)].concat())).await;
        assert_eq!(packed.next().await["error"]["code"], "too_deep", "{depth}");
    }
    for client in [&mut ann, &mut packed] {
        client.ask(json!({ "type": "rooms" })).await;
    }
    bystander.still_talks().await;
}

// Frames that are none, and what they are closed with.

#[tokio::test]
async fn a_frame_against_the_protocol_ends_the_connection_with_its_reason() {
    let server = TestServer::start();
    let mut bystander = Bystander::on(&server).await;
    let command = br#"{"id":"1","type":"rooms"}"#;
    let length = u8::try_from(command.len()).expect("a short command");
    let unmasked = [&[TEXT, length][..], command].concat();
    let cases = [
        ("unmasked", unmasked, 1002),
        ("compressed", masked(0xc1, command), 1002),
        ("second reserved bit", masked(0xa1, command), 1002),
        ("third reserved bit", masked(0x91, command), 1002),
        ("reserved opcode", masked(0x83, command), 1002),
        ("reserved control opcode", masked(0x8b, b""), 1002),
        ("fragmented ping", masked(0x09, b""), 1002),
        ("long ping", masked(PING, &[0; 126]), 1002),
        ("continues nothing", masked(0x80, b""), 1002),
        ("text inside a message", [masked(0x01, b"{"), masked(TEXT, b"{}")].concat(), 1002),
        ("length longer than needed", vec![TEXT, 0xfe, 0, 5, 0, 0, 0, 0], 1002),
        ("length with the top bit", [&[TEXT, 0xff][..], &[0xff; 8]].concat(), 1002),
        ("one byte of a close", masked(0x88, &[3]), 1002),
        ("close that nobody may send", masked(0x88, &1006_u16.to_be_bytes()), 1002),
        ("binary to JSON", masked(BINARY, command), 1003),
        ("text that is not UTF-8", masked(TEXT, &[0xff]), 1007),
        ("reason that is not UTF-8", masked(0x88, &[3, 0xe8, 0xff]), 1007),
        ("too big", announced(TEXT, 64 * 1024 + 1), 1009),
        ("far too big", announced(TEXT, 1 << 62), 1009),
    ];
    for (what, sent, code) in cases {
        let mut bad = server.raw_socket(Some(&server.token("eve"))).await;
        bad.write_all(&sent).await.unwrap();
        // Whatever comes behind it is not looked at.
        let _ = bad.write_all(&masked(TEXT, br#"{"id":"late","type":"rooms"}"#)).await;
        assert_eq!(raw_close(&mut bad).await, Some(code), "{what}");
        assert_eq!(raw_frame(&mut bad).await, None, "{what}");
    }
    let mut packed = server.client_with(&server.token("eve"), Some("chinwag.v1.msgpack")).await;
    send(&mut packed, Message::text("{}")).await;
    assert_eq!(packed.closed().await, Some(1003));
    bystander.still_talks().await;
}

#[tokio::test]
async fn a_frame_of_the_largest_size_is_taken() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let mut command = json!({ "id": "1", "type": "rooms", "padding": "" });
    let without = command.to_string().len();
    command["padding"] = json!("x".repeat(64 * 1024 - without));
    send(&mut ann, Message::text(command.to_string())).await;
    assert_eq!(ann.reply("1").await["ok"], true);
}

#[tokio::test]
async fn a_message_may_come_in_fragments_split_anywhere() {
    let server = TestServer::start();
    let mut ann = server.raw_socket(Some(&server.token("ann"))).await;
    let command = r#"{"id":"é€😀","type":"rooms"}"#.as_bytes();
    // One byte a fragment, with pings between them, and 64 fragments in all.
    let mut fragments = Vec::new();
    for (index, byte) in command.iter().enumerate() {
        fragments.extend(masked(if index == 0 { 0x01 } else { 0x00 }, &[*byte]));
        if index % 8 == 0 {
            fragments.extend(masked(PING, b"beat"));
        }
    }
    fragments.extend(masked(0x00, b"").repeat(64 - command.len() - 1));
    fragments.extend(masked(0x80, b""));
    for byte in fragments {
        ann.write_all(&[byte]).await.unwrap();
    }
    loop {
        let (first, payload) = raw_frame(&mut ann).await.expect("the connection is open");
        if first == TEXT && payload.windows(5).any(|part| part == b"reply") {
            let reply: Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!((&reply["id"], &reply["ok"]), (&json!("é€😀"), &json!(true)));
            break;
        }
    }
}

#[tokio::test]
async fn too_many_fragments_or_too_much_in_them_ends_the_connection() {
    let server = TestServer::start();
    let mut bystander = Bystander::on(&server).await;
    let large = vec![b' '; 60 * 1024];
    let cases = [
        ("65 fragments", [masked(0x01, b"x"), masked(0x00, b"x").repeat(64)].concat(), 1009),
        ("a million empty ones", [masked(0x01, b""), masked(0x00, b"").repeat(100_000)].concat(), 1009),
        ("256 KiB", [masked(0x01, &large), masked(0x00, &large).repeat(4)].concat(), 1009),
        ("half a character at the end", [masked(0x01, &[0xc3]), masked(0x80, b"")].concat(), 1007),
        ("a character of two halves", [masked(0x01, &[0xc3]), masked(0x80, b"x")].concat(), 1007),
    ];
    for (what, sent, code) in cases {
        let mut bad = server.raw_socket(Some(&server.token("eve"))).await;
        let (mut from, mut to) = bad.split();
        let read = async {
            let mut all = Vec::new();
            let _ = from.read_to_end(&mut all).await;
            all
        };
        // The server may have closed before it has all.
        let (_, all) = patiently(async { tokio::join!(to.write_all(&sent), read) }).await;
        let close = all.windows(2).rposition(|bytes| bytes[0] == 0x88).map(|at| [all[at + 2], all[at + 3]]);
        assert_eq!(close.map(u16::from_be_bytes), Some(code), "{what}");
    }
    bystander.still_talks().await;
}

#[tokio::test]
async fn a_frame_that_does_not_come_to_its_end_is_waited_for_only_so_long() {
    let limits =
        Limits { frame_deadline: Duration::from_millis(600), sweep: Duration::from_millis(20), ..Limits::lifted() };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let mut bystander = Bystander::on(&server).await;
    let cases = [
        ("a header cut short", vec![TEXT], Vec::new()),
        ("a payload that never comes", announced(TEXT, 1_000), Vec::new()),
        ("a payload dripping in", masked(TEXT, &[b' '; 1_000])[..12].to_vec(), vec![b' ']),
        ("fragments dripping in", masked(0x01, b" "), masked(0x00, b" ")),
        ("a message with pings inside", masked(0x01, b" "), masked(PING, b"")),
    ];
    for (what, begun, insisted) in cases {
        let mut bad = server.raw_socket(Some(&server.token("eve"))).await;
        bad.write_all(&begun).await.unwrap();
        let begun = Instant::now();
        assert_eq!(insisting(&mut bad, &insisted, Duration::from_millis(100)).await, Some(4400), "{what}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}");
    }
    bystander.still_talks().await;
}

#[tokio::test]
async fn a_flood_of_control_frames_ends_the_connection() {
    let server = TestServer::start();
    let mut bystander = Bystander::on(&server).await;
    for first in [PING, 0x8a] {
        let mut bad = server.raw_socket(Some(&server.token("eve"))).await;
        bad.write_all(&masked(first, b"").repeat(20)).await.unwrap();
        bad.write_all(&masked(TEXT, br#"{"id":"fine","type":"rooms"}"#)).await.unwrap();
        let mut answered = false;
        while !answered {
            let (kind, payload) = raw_frame(&mut bad).await.expect("the connection is open");
            assert_ne!(kind, 0x88, "twenty are allowed");
            answered = payload.windows(4).any(|part| part == b"fine");
        }
        bad.write_all(&masked(first, b"").repeat(1_000)).await.unwrap();
        assert_eq!(raw_close(&mut bad).await, Some(1002));
    }
    bystander.still_talks().await;
}

#[tokio::test]
async fn answering_the_servers_pings_is_no_flood() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    for n in 0..60 {
        ann.ask(create_channel(&format!("room-{n}"))).await;
        bob.ask(join(&format!("room-{n}"))).await;
    }
    // Each leave is proved by a ping and its pong.
    let mut leaves = Vec::new();
    for n in 0..60 {
        leaves.push(bob.send(json!({ "type": "leave", "room": format!("room-{n}") })).await);
    }
    for id in leaves {
        assert_eq!(bob.reply(&id).await["ok"], true);
    }
    bob.ask(json!({ "type": "rooms" })).await;
}

// Handshakes and requests.

#[tokio::test]
async fn a_handshake_that_is_not_one_of_the_rfc_is_refused() {
    let server = TestServer::start();
    let mut bystander = Bystander::on(&server).await;
    let good = handshake("");
    let from = |origin: &str| handshake(&format!("Origin: {origin}\r\n"));
    let cases = [
        (good.clone(), 101, None),
        (from("http://localhost"), 101, None),
        (from("https://LOCALHOST"), 101, None),
        (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400, Some("bad_handshake")),
        (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "!"), 400, Some("bad_handshake")),
        (good.replace("Version: 13", "Version: 8"), 426, Some("upgrade_required")),
        (good.replace("Sec-WebSocket-Version: 13\r\n", ""), 426, Some("upgrade_required")),
        (good.replace("Upgrade: websocket\r\n", ""), 426, Some("upgrade_required")),
        (good.replace("Upgrade: websocket", "Upgrade: websockets"), 426, Some("upgrade_required")),
        (good.replace("Connection: Upgrade", "Connection: close"), 400, Some("bad_handshake")),
        (good.replace("GET", "POST"), 405, Some("method_not_allowed")),
        (good.replace("HTTP/1.1", "HTTP/1.0"), 400, Some("bad_handshake")),
        (handshake("Content-Length: 4\r\n"), 400, Some("bad_handshake")),
        (handshake("Transfer-Encoding: chunked\r\n"), 400, Some("bad_handshake")),
        (handshake("Host: localhost\r\n"), 400, None),
        (good.replace("Host: localhost\r\n", ""), 400, None),
        (handshake("Sec-WebSocket-Version: 8\r\n"), 400, Some("bad_handshake")),
        (handshake("Sec-WebSocket-Protocol: graphql-ws\r\n"), 400, Some("subprotocol_unknown")),
        (from("https://evil.example"), 403, Some("origin_refused")),
        (from("null"), 403, Some("origin_refused")),
        (from("http://sub.localhost"), 403, Some("origin_refused")),
        (from("http://localhost:8443"), 403, Some("origin_refused")),
        (from("http://localhost.evil.example"), 403, Some("origin_refused")),
        (from("http://localhost@evil.example"), 403, Some("origin_refused")),
        (from(""), 403, Some("origin_refused")),
    ];
    for (request, status, code) in cases {
        let answer = answer(&server, &request).await;
        assert_eq!((answer.status, answer.code.as_deref()), (status, code), "{request}");
        let head = answer.head.to_lowercase();
        assert!(status != 426 || head.contains("sec-websocket-version: 13"), "{head}");
        assert!(status != 405 || head.contains("allow: get"), "{head}");
        assert!(!head.contains("sec-websocket-extensions"), "{head}");
    }
    let deflate = answer(&server, &handshake("Sec-WebSocket-Extensions: permessage-deflate\r\n")).await;
    assert_eq!(deflate.status, 101);
    assert!(!deflate.head.to_lowercase().contains("sec-websocket-extensions"), "compression is not negotiated");
    bystander.still_talks().await;
}

#[tokio::test]
async fn an_address_that_is_none_is_answered_with_a_problem() {
    let server = TestServer::start();
    let long = format!("/{}", "x".repeat(5_000));
    for path in ["/nowhere", "/v1/", "/v1/ws/", "//v1/ws", "/../etc/passwd", "/%00", &long] {
        let (status, body) = server.get(path).await;
        let problem: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
        assert_eq!((status, &problem["code"]), (404, &json!("route_not_found")), "{path}");
        assert!(body.len() < 1_000, "{path}");
    }
    for path in ["/healthz", "/readyz", "/"] {
        let answer = answer(&server, &format!("DELETE {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert_eq!((answer.status, answer.code.as_deref()), (405, Some("method_not_allowed")), "{path}");
    }
}

#[tokio::test]
async fn thousands_of_headers_and_kilobytes_of_spaces_are_refused_at_once() {
    let server = TestServer::start();
    let mut bystander = Bystander::on(&server).await;
    let spaces = handshake(&format!("Sec-WebSocket-Protocol: a{}b\r\n", " ".repeat(32 * 1024)));
    let commas = handshake(&format!("Sec-WebSocket-Protocol: a{}b\r\n", ",".repeat(32 * 1024)));
    let headers = handshake(&"X-More: 1\r\n".repeat(2_000));
    let endless = handshake(&format!("X-Long: {}\r\n", "x".repeat(1024 * 1024)));
    for (what, request) in [("spaces", spaces), ("commas", commas), ("headers", headers), ("endless", endless)] {
        let began = Instant::now();
        let answer = answer(&server, &request).await;
        assert!(matches!(answer.status, 400 | 431), "{what}: {}", answer.head);
        assert!(began.elapsed() < Duration::from_secs(2), "{what}");
    }
    bystander.still_talks().await;
}

#[tokio::test]
async fn a_request_that_two_servers_could_read_differently_is_refused() {
    let server = TestServer::start();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let bad = [
        "Host: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Host: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        "Host: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "Host: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Host: localhost\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "Host: localhost\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        "Host: localhost\r\nContent-Length: +4\r\n\r\nabcd",
        "Host: localhost\r\nContent-Length: 4, 4\r\n\r\nabcd",
        "Host: localhost\r\nContent-Length: -1\r\n\r\n",
        "Host: localhost\r\nX: a\0b\r\n\r\n",
        "Host: localhost\r\n folded: x\r\n\r\n",
        "\r\n",
        "Host: localhost\r\nHost: evil.example\r\n\r\n",
    ];
    for rest in bad {
        let mut stream = server.raw(&format!("POST / HTTP/1.1\r\n{rest}{smuggled}")).await;
        let mut all = Vec::new();
        // The server may reset what it has not read.
        let _ = patiently(stream.read_to_end(&mut all)).await;
        let all = String::from_utf8_lossy(&all);
        assert_eq!(all.matches("HTTP/1.").count(), 1, "{rest:?} was answered {all}");
        assert!(all.starts_with("HTTP/1.1 400"), "{rest:?} was answered {all}");
    }
}

#[tokio::test]
async fn a_request_that_drips_in_is_given_up() {
    let server = &TestServer::start();
    let mut bystander = Bystander::on(server).await;
    // The second begins when the first has been answered on the same connection.
    let first = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // Behind an answer a pause of ten seconds is allowed, and nobody sees when it ends and the head begins.
    let drips = [("", 8), (first, 17)].map(|(before, most)| async move {
        let began = Instant::now();
        let mut stream = server.raw(&format!("{before}GET /healthz HTTP/1.1\r\nHo")).await;
        let (mut from, mut to) = stream.split();
        let mut all = Vec::new();
        let drip = async {
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                if to.write_all(b"s").await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        patiently(async {
            tokio::select! {
                _ = from.read_to_end(&mut all) => {}
                () = drip => {}
            }
        })
        .await;
        assert!(began.elapsed() < Duration::from_secs(most), "{:?}", began.elapsed());
        String::from_utf8_lossy(&all).into_owned()
    });
    let [alone, behind] = drips;
    let (alone, behind) = tokio::join!(alone, behind);
    assert!(alone.is_empty() || alone.starts_with("HTTP/1.1 408"), "{alone}");
    assert!(behind.starts_with("HTTP/1.1 200"), "{behind}");
    bystander.still_talks().await;
}

#[tokio::test]
async fn a_head_that_comes_in_too_many_pieces_ends_its_connection() {
    let server = &TestServer::start();
    let mut bystander = Bystander::on(server).await;
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n";
    // The second behind an answer on the same connection.
    for before in ["", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        // A slow line is no harm, and each head is counted for itself.
        let mut stream = server.raw(before).await;
        stream.set_nodelay(true).unwrap();
        for _ in 0..2 {
            for byte in request.bytes().chain(*b"\r\n") {
                stream.write_all(&[byte]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        let began = Instant::now();
        let mut dripped = 0;
        while stream.write_all(b"x").await.is_ok() {
            dripped += 1;
            assert!(dripped < 200 && began.elapsed() < Duration::from_secs(4), "it is still there");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(dripped >= 60, "cut after {dripped} bytes");
    }
    bystander.still_talks().await;
}

#[tokio::test]
async fn a_request_whose_body_does_not_end_is_given_up() {
    let server = &TestServer::start();
    let requests = [
        "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n".to_owned(),
        "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1073741824\r\n\r\n".to_owned(),
        handshake("Transfer-Encoding: chunked\r\n"),
    ];
    let ends = requests.map(|request| async move {
        let mut stream = server.raw(&request).await;
        let mut all = Vec::new();
        let _ = patiently(stream.read_to_end(&mut all)).await;
        assert!(all.starts_with(b"HTTP/1.1 4"), "{request}");
    });
    futures_util::future::join_all(ends).await;
}

/// Somebody who talks in a room of its own all the while.
struct Bystander {
    client: Client,
    last: u64,
}

impl Bystander {
    async fn on(server: &TestServer) -> Self {
        let mut client = server.client("bystander").await;
        let last = client.ask(create_channel("bystanders")).await["seq"].as_u64().unwrap();
        client.ask(follow("bystanders", "now")).await;
        Self { client, last }
    }

    async fn still_talks(&mut self) {
        self.client.ask(post("bystanders", "hi")).await;
        assert!(self.client.record().await["seq"].as_u64().unwrap() > self.last);
    }
}

/// What a handshake or request is answered.
struct Answer {
    status: u16,
    head: String,
    code: Option<String>,
}

/// Sends a request and reads its answer, not until the end of the connection.
async fn answer(server: &TestServer, request: &str) -> Answer {
    let mut stream = server.raw("").await;
    let (mut from, mut to) = stream.split();
    let read = async {
        let mut all = Vec::new();
        loop {
            if whole(&all) {
                return all;
            }
            match from.read_buf(&mut all).await {
                Ok(0) | Err(_) => return all,
                Ok(_) => {}
            }
        }
    };
    // Who sends too much may be answered before it has sent all.
    let (_, all) = patiently(async { tokio::join!(to.write_all(request.as_bytes()), read) }).await;
    let all = String::from_utf8_lossy(&all).into_owned();
    let (head, body) = all.split_once("\r\n\r\n").unwrap_or((&all, ""));
    let problem = serde_json::from_str::<Value>(body).ok();
    let code = problem.and_then(|problem| problem["code"].as_str().map(str::to_owned));
    let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), code }
}

/// Whether an answer is there with as much body as it announces.
fn whole(answer: &[u8]) -> bool {
    let answer = String::from_utf8_lossy(answer).to_lowercase();
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let announced = head.split_once("content-length: ").and_then(|(_, rest)| rest.lines().next()?.parse().ok());
    body.len() >= announced.unwrap_or(0)
}

/// Sends the same again and again until the server closes; returns the code.
async fn insisting(stream: &mut TcpStream, sent: &[u8], every: Duration) -> Option<u16> {
    let mut again = tokio::time::interval(every);
    let ends = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(Instant::now() < ends, "it is closed in time");
        let mut first = [0];
        tokio::select! {
            biased;
            peeked = stream.peek(&mut first) => {
                peeked.ok()?;
                let (kind, payload) = raw_frame(stream).await?;
                if kind == 0x88 {
                    return Some(u16::from_be_bytes(*payload.first_chunk()?));
                }
            }
            // The server may have closed.
            _ = again.tick() => drop(stream.write_all(sent).await),
        }
    }
}

async fn send(client: &mut Client, message: Message) {
    use futures_util::SinkExt;
    patiently(client.sink.send(message)).await.expect("the connection is open");
}

fn bearer(token: &str) -> String {
    handshake(&format!("Authorization: Bearer {token}\r\n"))
}

fn bad_tokens() -> Vec<(&'static str, String, &'static str)> {
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        signed(7, claims)
    };
    let now = SystemClock.now().0 / 1000;
    let mut expired = claims();
    (expired["iat"], expired["exp"]) = (json!(now - 120), json!(now - 60));
    let good = signed(7, claims());
    let (unsigned, _) = good.rsplit_once('.').unwrap();
    vec![
        ("no token", "nonsense".to_owned(), "token_invalid"),
        ("expired", signed(7, expired), "token_expired"),
        ("signed with another secret", signed(8, claims()), "token_invalid"),
        ("for somebody else", with("aud", json!("elsewhere")), "token_invalid"),
        ("from somebody else", with("iss", json!("elsewhere")), "token_invalid"),
        ("for ever", with("exp", json!(now + 10_000_000)), "token_invalid"),
        ("to come", with("nbf", json!(now + 30)), "token_invalid"),
        ("with another time", with("exp", json!("later")), "token_invalid"),
        ("of no user", with("sub", json!("a b")), "token_invalid"),
        ("without its signature", format!("{unsigned}."), "token_invalid"),
        (
            "unsigned",
            format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", unsigned.split_once('.').unwrap().1),
            "token_invalid",
        ),
        ("mangled", good.replace('.', ".x"), "token_invalid"),
    ]
}

fn claims() -> Value {
    let now = SystemClock.now().0 / 1000;
    json!({ "iss": "chinwag", "aud": "chinwag", "sub": "eve", "iat": now, "exp": now + 60 })
}

/// A token of any claims; the servers of tests know the secret 7.
fn signed(secret: u8, claims: Value) -> String {
    let key = EncodingKey::from_secret(&[secret; 32]);
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).expect("claims are JSON")
}
