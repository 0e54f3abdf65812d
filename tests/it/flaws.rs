//! Flaws that other servers have had: each is tried on ours, over real sockets, and nobody else may notice.

use std::time::{Duration, Instant};

use chinwag::actors::Limits;
use chinwag::wire::Dialect;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{
    Client, Setup, TestServer, announced, create_channel, follow, handshake, join, masked, patiently, post, raw_close,
    raw_frame,
};

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const PING: u8 = 0x89;

/// What one frame may cost, as it ships; not optimised, five times that.
const DECODING: Duration = Duration::from_millis(if cfg!(debug_assertions) { 50 } else { 10 });

#[tokio::test]
async fn malformed_packets_of_every_kind_end_no_process_and_no_other_connection() {
    let server = TestServer::start();
    let mut others = Others::on(&server).await;
    let token = server.token("eve");
    let valid: Vec<Vec<u8>> = [
        post("lobby", "hello"),
        json!({ "type": "create", "kind": "group", "members": [{ "user": "bob", "role": "admin" }] }),
        json!({ "type": "follow", "room": 7, "from": "start" }),
        json!({ "type": "auth", "token": "a.b.c" }),
    ]
    .into_iter()
    .map(|mut command| {
        command["id"] = json!("1");
        command.to_string().into_bytes()
    })
    .collect();
    let mut packets = Vec::new();
    for packet in &valid {
        packets.push(masked(TEXT, packet));
        for at in (0..packet.len()).step_by(3) {
            packets.push(masked(TEXT, &packet[..at]));
            for byte in [0, b'"', b'}', 0x7f, 0xc3, 0xff] {
                let mut bad = packet.clone();
                bad[at] = byte;
                packets.push(masked(TEXT, &bad));
            }
            // And the frame itself cut short, or with another header.
            let mut bad = masked(TEXT, packet);
            bad[at % 6] ^= 1 << (at % 8);
            packets.push(bad);
        }
        packets.push(masked(BINARY, packet));
    }
    let mut sockets = 0;
    for token in [None, Some(token.as_str())] {
        let mut left = packets.iter();
        while left.len() > 0 {
            // Until this one is closed, then the next takes what is left.
            let mut socket = server.raw_socket(token).await;
            sockets += 1;
            let batch: Vec<u8> = left.by_ref().take(24).flatten().copied().collect();
            let _ = socket.write_all(&batch).await;
            let _ = socket.write_all(&masked(0x88, b"")).await;
            let (mut from, _to) = socket.split();
            let mut all = Vec::new();
            // A packet that swallows what comes behind it leaves the connection open: that is for the sweep.
            let _ = tokio::time::timeout(Duration::from_millis(200), from.read_to_end(&mut all)).await;
        }
        others.still_talk().await;
    }
    assert!(sockets > 40, "{sockets}");
}

#[tokio::test]
async fn kilobytes_of_spaces_in_the_sub_protocols_cost_no_time() {
    let server = TestServer::start();
    let took = |filler: u8| {
        let server = &server;
        async move {
            let filling = String::from_utf8(vec![filler; 32 * 1024]).unwrap();
            let request = handshake(&format!("Sec-WebSocket-Protocol: a{filling}b\r\n"));
            let mut best = Duration::MAX;
            for _ in 0..15 {
                let mut stream = server.raw("").await;
                let began = Instant::now();
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut status = [0; 12];
                patiently(stream.read_exact(&mut status)).await.unwrap();
                best = best.min(began.elapsed());
                assert_eq!(&status, b"HTTP/1.1 400");
            }
            best
        }
    };
    for filler in [b' ', b',', b'\t'] {
        // Of the best try, because other things run on the machine.
        let took = took(filler).await;
        assert!(took < Duration::from_millis(5), "{filler}: {took:?}");
    }
}

#[tokio::test]
async fn a_million_empty_fragments_are_closed_at_the_sixty_fifth() {
    let server = TestServer::start();
    let mut others = Others::on(&server).await;
    let mut bad = server.raw_socket(Some(&server.token("eve"))).await;
    bad.write_all(&[masked(0x01, b""), masked(0x00, b"").repeat(63)].concat()).await.unwrap();
    bad.write_all(&masked(PING, b"still there")).await.unwrap();
    loop {
        let (kind, payload) = raw_frame(&mut bad).await.expect("sixty-four are taken");
        if kind == 0x8a {
            assert_eq!(payload, b"still there");
            break;
        }
    }
    bad.write_all(&masked(0x00, b"")).await.unwrap();
    assert_eq!(raw_close(&mut bad).await, Some(1009));
    let mut sent = 0;
    let more = masked(0x00, b"").repeat(10_000);
    while sent < 1_000_000 && patiently(bad.write_all(&more)).await.is_ok() {
        sent += 10_000;
    }
    others.still_talk().await;
}

#[tokio::test]
async fn a_request_whose_lines_or_host_are_in_doubt_is_not_passed_on() {
    let server = TestServer::start();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let good = handshake("");
    let bad = [
        // A line may end with LF alone (RFC 9112, section 2.2), and it is one request all the same.
        ("bare LF between headers", good.replacen("\r\n", "\n", 2), 101),
        ("bare CR", good.replacen("\r\nHost", "\rHost", 1), 400),
        ("no host", good.replacen("Host: localhost\r\n", "", 1), 400),
        ("two hosts", good.replacen("Host: localhost\r\n", "Host: localhost\r\nHost: localhost\r\n", 1), 400),
        ("two lengths", good.replacen("\r\n\r\n", "\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 1), 400),
        (
            "length and chunks",
            good.replacen("\r\n\r\n", "\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 1),
            400,
        ),
    ];
    for (what, request, expected) in bad {
        let mut stream = server.raw(&format!("{request}{smuggled}")).await;
        let mut all = Vec::new();
        let _ = tokio::time::timeout(Duration::from_millis(500), stream.read_to_end(&mut all)).await;
        let all = String::from_utf8_lossy(&all);
        let status = all.get(9..12).and_then(|status| status.parse::<u16>().ok()).unwrap_or(0);
        assert_eq!(all.matches("HTTP/1.").count(), 1, "{what} was answered {all}");
        assert_eq!(status, expected, "{what} was answered {all}");
    }
}

#[test]
fn no_frame_within_its_limits_takes_long_to_decode() {
    let fill = |open: &str, unit: &str, close: &str| {
        let count = (64 * 1024 - open.len() - close.len()) / unit.len();
        let mut frame = format!("{open}{}", unit.repeat(count));
        frame.truncate(frame.trim_end_matches(',').len());
        frame + close
    };
    let post = r#"{"id":"1","type":"post","room":"lobby","content":"#;
    let nested = format!("{}{}", r#"{"a":["#.repeat(15), "]}".repeat(15));
    let frames = [
        fill(&format!("{post}{{\"text\":\""), r"\u00e9", "\"}}"),
        fill(&format!("{post}{{\"text\":\""), r"\\", "\"}}"),
        fill(&format!("{post}{{\"a\":["), "1e-300,", "]}}"),
        fill(&format!("{post}{{\"a\":["), "0.1234567890123456789,", "]}}"),
        fill(&format!("{post}{{\"a\":["), "[],", "]}}"),
        fill(&format!("{post}{{\"a\":["), &format!("{nested},"), "]}}"),
        fill(&format!("{post}{{\"a\":["), r#"{"k":0},"#, "]}}"),
        fill(&format!("{post}{{"), r#""a":0,"#, "}}"),
        fill(r#"{"id":"1","type":"create","kind":"group","members":["#, r#"{"user":"a"},"#, "]}"),
        fill(r#"{"id":"1","#, r#""b":[],"#, "}"),
        fill("", "[", ""),
        fill("", " ", ""),
        fill("{\"id\":\"", "x", "\"}"),
    ];
    for frame in frames {
        assert!(frame.len() <= 64 * 1024);
        let packed = serde_json::from_str::<serde_json::Value>(&frame).ok();
        let packed = packed.and_then(|value| rmp_serde::to_vec_named(&value).ok()).unwrap_or_default();
        for (dialect, bytes) in [(Dialect::NativeJson, frame.as_bytes()), (Dialect::NativeMsgpack, &packed)] {
            for decode in [Dialect::decode, Dialect::decode_before_auth] {
                let took = (0..5).map(|_| {
                    let began = Instant::now();
                    let _ = std::hint::black_box(decode(dialect, bytes));
                    began.elapsed()
                });
                let took = took.min().unwrap();
                assert!(took < DECODING, "{dialect:?}: {took:?} for {frame:.80}");
            }
        }
    }
}

#[tokio::test]
async fn a_stranger_that_drips_bytes_or_half_a_handshake_is_gone_in_time() {
    let limits =
        Limits { auth_timeout: Duration::from_millis(600), sweep: Duration::from_millis(20), ..Limits::lifted() };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    // A frame of which a byte comes now and then, a message of fragments, and a frame that says nothing at all.
    let begun = announced(TEXT, 4_000);
    let drips: [(&str, Vec<u8>, &[u8]); 3] = [
        ("a dripped frame", [begun, vec![0; 4]].concat(), b"x"),
        ("fragments", masked(0x01, b"{"), &masked(0x00, b" ")),
        ("pings and pongs", masked(0x8a, b""), &masked(PING, b"")),
    ];
    for (what, first, drip) in drips {
        let opened = Instant::now();
        let mut stranger = server.raw_socket(None).await;
        stranger.write_all(&first).await.unwrap();
        assert_eq!(dripping(&mut stranger, drip, Duration::from_millis(75)).await, Some(4401), "{what}");
        assert!(opened.elapsed() >= Duration::from_millis(600), "{what}");
        assert!(opened.elapsed() < Duration::from_secs(5), "{what}");
    }
    // Half a handshake, of which more comes all the while, has five seconds.
    let opened = Instant::now();
    let mut stranger = server.raw("GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nX-Long: ").await;
    let mut again = tokio::time::interval(Duration::from_millis(100));
    let mut answer = Vec::new();
    loop {
        assert!(opened.elapsed() < Duration::from_secs(10), "it is still open");
        tokio::select! {
            read = stranger.read_buf(&mut answer) => match read {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            },
            _ = again.tick() => drop(stranger.write_all(b"x").await),
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
}

/// Sends the same again and again until the server closes; returns the code.
async fn dripping(stream: &mut TcpStream, drip: &[u8], every: Duration) -> Option<u16> {
    let (mut from, mut to) = stream.split();
    let drip = async {
        loop {
            tokio::time::sleep(every).await;
            if to.write_all(drip).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut all = Vec::new();
    patiently(async {
        tokio::select! {
            _ = from.read_to_end(&mut all) => {}
            () = drip => {}
        }
    })
    .await;
    // The close frame is the last thing that is sent, with its code before its name.
    let at = all.windows(2).rposition(|bytes| bytes[0] == 0x88)?;
    Some(u16::from_be_bytes([*all.get(at + 2)?, *all.get(at + 3)?]))
}

/// Two who talk to each other all the while.
struct Others {
    talker: Client,
    reader: Client,
}

impl Others {
    async fn on(server: &TestServer) -> Self {
        let (mut talker, mut reader) = (server.client("ann").await, server.client("bob").await);
        talker.ask(create_channel("others")).await;
        reader.ask(join("others")).await;
        reader.ask(follow("others", "now")).await;
        Self { talker, reader }
    }

    async fn still_talk(&mut self) {
        let seq = self.talker.ask(post("others", "hi")).await["seq"].clone();
        assert_eq!(self.reader.record().await["seq"], seq);
    }
}
