//! What hostile clients cost the process: measured on the process itself, so the tests take turns and nothing else runs
//! beside them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use harness::{TestServer, announced, create_channel, masked, patiently, post, raw_close, resident_bytes};

#[path = "it/harness.rs"]
#[allow(dead_code, reason = "shared with tests that use all of it")]
mod harness;

static TURN: Mutex<()> = Mutex::new(());

const MIB: u64 = 1024 * 1024;

/// More than the allocator moves by itself, and less than anything that was kept.
const GROWTH_BYTES_MAX: usize = 4 * 1024 * 1024;

#[test]
fn what_is_announced_and_streamed_is_not_kept() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    block_on(async {
        let server = TestServer::start();
        let mut bystander = server.client("ann").await;
        bystander.ask(create_channel("lobby")).await;
        for warm in [true, false] {
            let before = resident_bytes();
            for token in [None, Some(server.token("eve"))] {
                for begun in [announced(0x82, 1024 * MIB), announced(0x01, 1024 * MIB), announced(0x82, 1 << 62)] {
                    let mut bad = server.raw_socket(token.as_deref()).await;
                    bad.write_all(&begun).await.unwrap();
                    let began = Instant::now();
                    assert_eq!(raw_close(&mut bad).await, Some(1009), "nothing but the header has been sent");
                    assert!(began.elapsed() < Duration::from_secs(1));
                    let chunk = vec![0x5a; 64 * 1024];
                    let mut sent = 0;
                    while sent < 200 * MIB && patiently(bad.write_all(&chunk)).await.is_ok() {
                        sent += chunk.len() as u64;
                    }
                }
            }
            let upload = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", 1024 * MIB);
            let mut bad = server.raw(&upload).await;
            let chunk = vec![0x5a; 64 * 1024];
            let mut sent = 0;
            while sent < 200 * MIB && patiently(bad.write_all(&chunk)).await.is_ok() {
                sent += chunk.len() as u64;
            }
            let growth = resident_bytes().saturating_sub(before);
            // The first round pays for what every process needs.
            assert!(warm || growth <= GROWTH_BYTES_MAX, "it grew by {growth} bytes");
            bystander.ask(post("lobby", "unharmed")).await;
        }
    });
}

#[test]
fn one_announcement_of_a_gibibyte_costs_less_than_a_mebibyte() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    block_on(async {
        let server = TestServer::start();
        for round in 0..3 {
            let before = resident_bytes();
            let mut bad = server.raw_socket(None).await;
            bad.write_all(&announced(0x82, 1024 * MIB)).await.unwrap();
            assert_eq!(raw_close(&mut bad).await, Some(1009));
            let chunk = vec![0x5a; 64 * 1024];
            let mut sent = 0;
            while sent < 200 * MIB && patiently(bad.write_all(&chunk)).await.is_ok() {
                sent += chunk.len() as u64;
            }
            let growth = resident_bytes().saturating_sub(before);
            // The first pays for what every process needs.
            assert!(round == 0 || growth as u64 <= MIB, "it grew by {growth} bytes");
        }
    });
}

#[test]
fn lengths_that_messagepack_announces_are_not_believed() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let markers: [&[u8]; 12] = [
        b"\xc4\xff",
        b"\xc5\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc8\xff\xff\x01",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\xd9\xff",
        b"\xda\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xdc\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xde\xff\xff",
        b"\xdf\xff\xff\xff\xff",
    ];
    let places: [&[u8]; 3] = [b"", b"\x81\xa2id", b"\x84\xa2id\xa17\xa4type\xa4post\xa4room\x01\xa7content\x81\xa1a"];
    block_on(async {
        let server = TestServer::start();
        let mut bystander = server.client("ann").await;
        bystander.ask(create_channel("lobby")).await;
        for warm in [true, false] {
            let before = resident_bytes();
            for token in [None, Some(server.token("eve"))] {
                for (marker, place) in markers.iter().flat_map(|marker| places.map(|place| (marker, place))) {
                    let mut bad = server.packed_socket(token.as_deref()).await;
                    // As often as it is borne.
                    bad.write_all(&masked(0x82, &[place, marker].concat()).repeat(16)).await.unwrap();
                    assert_eq!(raw_close(&mut bad).await, Some(4400), "{place:02x?} {marker:02x?}");
                }
            }
            let growth = resident_bytes().saturating_sub(before);
            assert!(warm || growth as u64 <= MIB, "it grew by {growth} bytes");
            bystander.ask(post("lobby", "unharmed")).await;
        }
    });
}

#[test]
fn the_server_rests_after_errors() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    block_on(async {
        let server = TestServer::start();
        let mut bystander = server.client("ann").await;
        bystander.ask(create_channel("lobby")).await;
        let mut bad = Vec::new();
        let errors =
            [masked(0xc1, b"{}"), vec![0x81, 0x02, b'{', b'}'], announced(0x81, 1 << 40), masked(0x81, &[0xff])];
        for error in errors.iter().cycle().take(50) {
            let mut socket = server.raw_socket(Some(&server.token("eve"))).await;
            socket.write_all(error).await.unwrap();
            // Half of them do not even read why they are closed.
            if bad.len() % 2 == 0 {
                raw_close(&mut socket).await.expect("it is told why");
            }
            bad.push(socket);
        }
        // The sockets of these tests stay open on their side.
        let before = cpu_ticks();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let spent = cpu_ticks() - before;
        // A thread that spins spends fifty of the hundred ticks of a second.
        assert!(spent <= 10, "{spent} ticks");
        bystander.ask(post("lobby", "unharmed")).await;
        for mut socket in bad {
            let mut rest = Vec::new();
            let _ = patiently(socket.read_to_end(&mut rest)).await;
        }
        bystander.ask(json!({ "type": "rooms" })).await;
    });
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(test);
}

/// proc(5): fields 14 and 15 of `stat` are the time in user and kernel mode, in ticks; the name before them may hold
/// anything.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("proc is mounted");
    let fields = stat.rsplit_once(") ").expect("stat has a name").1;
    fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks are a number")).sum()
}
