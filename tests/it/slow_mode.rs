//! Rooms in which members wait from one message to the next.

use std::sync::Arc;
use std::time::Duration;

use chinwag::clock::{Clock, ManualClock, SystemClock};
use chinwag::store::memory::MemoryStore;
use serde_json::{Value, json};

use crate::harness::{Setup, TestServer, create_channel, join, post};

#[tokio::test]
async fn slow_mode_outlasts_a_restart_and_does_not_hinder_repetitions() {
    let store = MemoryStore::new();
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let setup = || Setup {
        store: Arc::new(store.in_epoch(MemoryStore::EPOCH)),
        clock: Arc::clone(&clock) as _,
        ..Setup::default()
    };
    let mut first = post("lobby", "first");
    first["client_id"] = json!("c-1");
    {
        let mut server = TestServer::with(setup());
        let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
        ann.ask(create_channel("lobby")).await;
        bob.ask(join("lobby")).await;
        ann.ask(slow(json!(60_000))).await;
        bob.ask(first.clone()).await;
        server.stop();
    }
    clock.advance(Duration::from_secs(20));
    let server = TestServer::with(setup());
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    let refused = bob.try_ask(post("lobby", "second")).await["error"].clone();
    assert_eq!((&refused["code"], &refused["retry"]), (&json!("slow_mode"), &json!("later")));
    assert_eq!(refused["retry_after_ms"], 40_000);
    assert_eq!(bob.ask(first).await["duplicate"], true);
    ann.ask(post("lobby", "one")).await;
    ann.ask(post("lobby", "two")).await;
    clock.advance(Duration::from_secs(40));
    bob.ask(post("lobby", "second")).await;
    assert_eq!(bob.refused(post("lobby", "third")).await, "slow_mode");
    ann.ask(slow(json!(0))).await;
    bob.ask(post("lobby", "third")).await;
    assert_eq!(ann.ask(json!({ "type": "room", "room": "lobby" })).await["slow_mode_ms"], 0);
}

#[tokio::test]
async fn slow_mode_is_at_most_six_hours() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    for bad in [json!(21_600_001), json!(-1), json!(1.5), json!("1s"), json!(u64::MAX), Value::Null] {
        assert_eq!(ann.refused(slow(bad.clone())).await, "bad_request", "{bad}");
    }
    ann.ask(slow(json!(21_600_000))).await;
    assert_eq!(ann.ask(json!({ "type": "room", "room": "lobby" })).await["slow_mode_ms"], 21_600_000);
}

fn slow(time: Value) -> Value {
    json!({ "type": "update", "room": "lobby", "slow_mode_ms": time })
}
