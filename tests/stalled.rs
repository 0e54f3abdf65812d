//! Clients that stop reading. In a process of its own, because it measures the memory of all of it.

#[path = "it/harness.rs"]
#[allow(dead_code, reason = "shared with the other tests of the server")]
mod harness;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chinwag::actors::Limits;
use chinwag::store::sled::{Options, SledStore};
use harness::{Client, Setup, TestServer, create_channel, follow, join, patiently, post, resident_bytes};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const STALLED: usize = 100;
const MESSAGES: usize = 10_000;
/// Longer than the talk takes, so that it is the bound of the outbox that is seen and not the end of the connections.
const SLOW_CONSUMER: Duration = Duration::from_secs(5);

#[tokio::test]
async fn clients_that_never_read_cost_bounded_memory_delay_nobody_are_closed_in_time_and_resume_whole() {
    let limits = Limits {
        slow_consumer: SLOW_CONSUMER,
        sweep: Duration::from_millis(50),
        // The readers are read by hand here, and do not answer pings all the time.
        heartbeat: Duration::from_secs(600),
        ..Limits::lifted()
    };
    // The log that ships, as it is measured: what it keeps in memory is bounded by itself.
    let home = tempfile::tempdir().unwrap();
    let store = SledStore::open(&home.path().join("data"), Options::default()).unwrap();
    let server = TestServer::with(Setup { store: Arc::new(store), limits, ..Setup::default() });
    let (mut ann, mut reader) = (server.client("ann").await, server.client("reader").await);
    ann.ask(create_channel("lobby")).await;
    reader.ask(join("lobby")).await;
    reader.ask(follow("lobby", "now")).await;
    let alone = talk(&mut ann, &mut reader, MESSAGES / 5).await;

    let mut stalled = Vec::new();
    for n in 0..STALLED {
        let user = format!("user-{n}");
        server.client(&user).await.ask(join("lobby")).await;
        stalled.push((stall(&server, &user).await, user));
    }
    reader.take_aside();

    let (before, began) = (resident_bytes(), Instant::now());
    let among = talk(&mut ann, &mut reader, MESSAGES).await;
    let grown = resident_bytes().saturating_sub(before);
    let took = began.elapsed();

    // 256 KiB of outbox and a few buffers each, and what the log keeps at hand of what was written.
    let logged = MESSAGES * 2_000;
    let bound = STALLED * 400 * 1024 + logged;
    println!(
        "{STALLED} stalled: {} KiB more, {took:?}; p50 {:?} alone, {:?} among them",
        grown / 1024,
        alone.0,
        among.0
    );
    println!("p99 {:?} alone, {:?} among them", alone.1, among.1);
    assert!(grown < bound, "{grown} bytes more, {bound} at most");
    assert!(among.0 < alone.0 * 3 + Duration::from_millis(2), "the others wait: {:?}, {:?} before", among.0, alone.0);

    patiently(async {
        while server.connections().await > 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for (socket, _) in &mut stalled {
        let mut got = Vec::new();
        // However much it was sent, it ends; with an error, because what was not read has been thrown away.
        let _ = patiently(socket.read_to_end(&mut got)).await;
        assert!(got.len() < MESSAGES * 1_000, "it was not stalled: {} bytes", got.len());
    }
    let head = ann.ask(post("lobby", "the end")).await["seq"].as_u64().unwrap();
    for (_, user) in stalled.iter().take(5) {
        let mut back = server.client(user).await;
        back.ask(follow("lobby", "start")).await;
        assert_eq!(back.seqs_until(head).await, (1..=head).collect::<Vec<_>>());
    }
}

/// Posts messages one by one and waits for each to arrive at the reader. Returns the median and the 99th percentile of
/// the time from the one to the other.
async fn talk(ann: &mut Client, reader: &mut Client, messages: usize) -> (Duration, Duration) {
    let text = "x".repeat(1_000);
    let mut times = Vec::with_capacity(messages);
    for _ in 0..messages {
        let began = Instant::now();
        ann.send(post("lobby", &text)).await;
        while reader.record().await["event"] != "message_posted" {}
        times.push(began.elapsed());
        ann.next_of(&["reply"]).await;
    }
    times.sort_unstable();
    (times[messages / 2], times[messages * 99 / 100])
}

/// A connection that follows the room and reads nothing from then on.
async fn stall(server: &TestServer, user: &str) -> TcpStream {
    let mut socket = server.raw_socket(Some(&server.token(user))).await;
    let command = json!({ "type": "follow", "id": "1", "room": "lobby", "from": "now" }).to_string();
    let length = u8::try_from(command.len()).expect("a short command");
    let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
    frame.extend_from_slice(command.as_bytes());
    socket.write_all(&frame).await.unwrap();
    // Its follow has been answered when the answer lies there; it is not taken.
    let mut seen = [0; 4096];
    patiently(async {
        loop {
            let length = socket.peek(&mut seen).await.unwrap();
            if String::from_utf8_lossy(&seen[..length]).contains("\"head\"") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    socket
}
