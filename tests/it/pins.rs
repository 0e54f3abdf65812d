//! Messages that stand above the others of their room.

use std::sync::Arc;

use chinwag::store::memory::MemoryStore;
use serde_json::{Value, json};

use crate::harness::{Client, Setup, TestServer, create_channel, join, kick, post};

#[tokio::test]
async fn pins_outlast_a_restart_and_go_with_their_message() {
    let store = MemoryStore::new();
    let setup = || Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() };
    let (first, second) = {
        let mut server = TestServer::with(setup());
        let mut ann = server.client("ann").await;
        ann.ask(create_channel("lobby")).await;
        let first = ann.ask(post("lobby", "first")).await["record"].clone();
        let second = ann.ask(post("lobby", "second")).await["record"].clone();
        // In the other order.
        ann.ask(pin(&second)).await;
        ann.ask(pin(&first)).await;
        server.stop();
        (first, second)
    };
    let mut server = TestServer::with(setup());
    let mut ann = server.client("ann").await;
    assert_eq!(pinned(&mut ann).await, [first.clone(), second.clone()]);
    let again = ann.ask(pin(&second)).await;
    assert_eq!(again["seq"], 6, "nothing has changed");
    ann.ask(json!({ "type": "delete", "room": "lobby", "message": first })).await;
    assert_eq!(pinned(&mut ann).await, std::slice::from_ref(&second));
    server.stop();
    // The room that wakes knows of no more pins than the list shows.
    let server = TestServer::with(setup());
    let mut ann = server.client("ann").await;
    assert_eq!(pinned(&mut ann).await, std::slice::from_ref(&second));
    for n in 0..50 {
        let message = ann.ask(post("lobby", &n.to_string())).await["record"].clone();
        let answer = ann.try_ask(pin(&message)).await;
        assert_eq!(answer["ok"], n < 49, "{answer}");
        if n == 49 {
            assert_eq!(answer["error"]["code"], "too_many_pins");
        }
    }
    assert_eq!(pinned(&mut ann).await.len(), 50);
}

#[tokio::test]
async fn a_page_of_long_pinned_messages_ends_before_it_is_too_large() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let mut expected = Vec::new();
    for _ in 0..12 {
        let message = ann.ask(post("lobby", &"x".repeat(30_000))).await["record"].clone();
        ann.ask(pin(&message)).await;
        expected.insert(0, message);
    }
    let (mut seen, mut ask) = (Vec::new(), pins());
    loop {
        let page = ann.ask(ask.clone()).await;
        let records = page["records"].as_array().unwrap();
        assert!((1..=5).contains(&records.len()), "{} in a page", records.len());
        seen.extend(records.iter().map(|record| record["id"].clone()));
        if page["before"] == Value::Null {
            break;
        }
        ask["before"] = page["before"].clone();
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn who_may_not_is_refused_and_what_is_no_message_is_not_pinned() {
    let server = TestServer::start();
    let (mut ann, mut bob, mut eve) =
        (server.client("ann").await, server.client("bob").await, server.client("eve").await);
    let room = ann.ask(create_channel("lobby")).await["room"].clone();
    ann.ask(create_channel("attic")).await;
    let elsewhere = ann.ask(post("attic", "hi")).await["record"].clone();
    bob.ask(join("lobby")).await;
    let message = bob.ask(post("lobby", "hi")).await["record"].clone();
    assert_eq!(bob.refused(pin(&message)).await, "forbidden");
    assert_eq!(eve.refused(pin(&message)).await, "not_member");
    assert_eq!(eve.refused(pins()).await, "not_member");
    let canvas =
        ann.ask(json!({ "type": "create", "kind": "canvas", "members": [{ "user": "eve", "role": "viewer" }] }));
    let canvas = canvas.await["room"].clone();
    let drawn = ann.ask(json!({ "type": "post", "room": canvas, "content": { "text": "o" } })).await["record"].clone();
    assert_eq!(eve.refused(json!({ "type": "pin", "room": canvas, "message": drawn })).await, "forbidden");
    assert_eq!(eve.ask(json!({ "type": "pins", "room": canvas })).await["pins"], json!([]), "viewers read them");
    assert_eq!(bob.refused(json!({ "type": "pins", "room": canvas })).await, "room_not_found");

    let history = ann.ask(json!({ "type": "history", "room": room, "limit": 100 })).await;
    for record in history["records"].as_array().unwrap() {
        let expected = record["id"] == message;
        assert_eq!(ann.try_ask(pin(&record["id"])).await["ok"], expected, "{record}");
    }
    for message in
        [&elsewhere, &json!("00000000-0000-7000-8000-000000000000"), &json!("ffffffff-ffff-7fff-bfff-ffffffffffff")]
    {
        assert_eq!(ann.refused(pin(message)).await, "message_not_found", "{message}");
        assert_eq!(ann.refused(unpin(message)).await, "message_not_found", "{message}");
    }
    assert_eq!(ann.refused(pin(&json!("lobby"))).await, "bad_request");
    for (before, code) in [("x", "cursor_invalid"), ("", "cursor_invalid")] {
        let mut ask = pins();
        ask["before"] = json!(before);
        assert_eq!(ann.refused(ask).await, code, "{before}");
    }
    ann.ask(kick(&json!("lobby"), "bob")).await;
    assert_eq!(bob.refused(pins()).await, "not_member");
    ann.ask(json!({ "type": "archive", "room": "lobby" })).await;
    assert_eq!(ann.refused(unpin(&message)).await, "room_archived");
    assert_eq!(pinned(&mut ann).await, [message], "it can be read");
}

fn pin(message: &Value) -> Value {
    json!({ "type": "pin", "room": "lobby", "message": message })
}

fn unpin(message: &Value) -> Value {
    json!({ "type": "unpin", "room": "lobby", "message": message })
}

fn pins() -> Value {
    json!({ "type": "pins", "room": "lobby" })
}

/// The messages that are pinned, as the list has them, of which each record is that of its pin.
async fn pinned(client: &mut Client) -> Vec<Value> {
    let page = client.ask(pins()).await;
    let messages = |list: &str, id: &str| -> Vec<Value> {
        page[list].as_array().unwrap().iter().map(|item| item[id].clone()).collect()
    };
    let (pins, records) = (messages("pins", "message"), messages("records", "id"));
    assert_eq!(pins, records);
    pins
}
