//! Who is there, as the live connections say.

use std::sync::Arc;

use chinwag::store::memory::MemoryStore;
use serde_json::{Value, json};

use crate::harness::{Client, Setup, TestServer, create_channel, follow, join, kick, post};
use crate::requests::Request;

#[tokio::test]
async fn a_user_is_there_as_long_as_one_connection_says_so() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let (mut phone, mut desk) = (server.client("bob").await, server.client("bob").await);
    desk.ask(join("lobby")).await;
    ann.ask(follow("lobby", "now")).await;
    let expected = json!([{ "user": "ann", "presence": "offline" }, { "user": "bob", "presence": "offline" }]);
    assert_eq!(who(&mut ann).await["users"], expected, "who says nothing does not count");
    phone.ask(presence("away")).await;
    assert_eq!(told(&mut ann).await, "away");
    desk.ask(presence("online")).await;
    assert_eq!(told(&mut ann).await, "online");
    let there = who(&mut ann).await;
    assert_eq!((&there["members"], &there["online"], &there["away"]), (&json!(2), &json!(1), &json!(0)));
    drop(desk);
    assert_eq!(told(&mut ann).await, "away");
    phone.ask(presence("offline")).await;
    let mut back = server.client("bob").await;
    // Away for a moment is not gone.
    back.ask(presence("away")).await;
    back.ask(presence("online")).await;
    assert_eq!(told(&mut ann).await, "online");
    drop(back);
    let gone = ann.notice("presence").await;
    assert_eq!((&gone["user"], &gone["presence"]), (&json!("bob"), &json!("offline")));
    assert!(gone["last_seen"].as_i64().unwrap() > 1_700_000_000_000);
}

#[tokio::test]
async fn nobody_is_left_over_after_a_crash_but_when_somebody_was_seen_is_known() {
    let store = MemoryStore::new();
    let setup = || Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() };
    let seen = {
        let mut server = TestServer::with(setup());
        let mut ann = server.client("ann").await;
        ann.ask(create_channel("lobby")).await;
        ann.ask(follow("lobby", "now")).await;
        let (mut bob, mut cay) = (server.client("bob").await, server.client("cay").await);
        for client in [&mut bob, &mut cay] {
            client.ask(join("lobby")).await;
            client.ask(presence("online")).await;
            assert_eq!(told(&mut ann).await, "online");
        }
        drop(bob);
        let gone = ann.notice("presence").await;
        server.stop();
        gone["last_seen"].clone()
    };
    let server = TestServer::with(setup());
    let mut ann = server.client("ann").await;
    let there = who(&mut ann).await;
    assert_eq!((&there["online"], &there["away"]), (&json!(0), &json!(0)));
    let users = there["users"].as_array().unwrap();
    assert_eq!(users[1], json!({ "user": "bob", "presence": "offline", "last_seen": seen }));
}

#[tokio::test]
async fn who_is_invisible_is_offline_to_others_on_every_device_until_it_decides_otherwise() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    ann.ask(follow("lobby", "now")).await;
    bob.ask(join("lobby")).await;
    bob.ask(presence("online")).await;
    assert_eq!(told(&mut ann).await, "online");
    let hide = |hidden: bool| json!({ "type": "settings_update", "invisible": hidden });
    assert_eq!(bob.ask(hide(true)).await["invisible"], true);
    let gone = ann.notice("presence").await;
    assert_eq!(gone["presence"], "offline");
    let mut phone = server.client("bob").await;
    for client in [&mut phone, &mut bob] {
        client.ask(presence("online")).await;
    }
    let posted = ann.ask(post("lobby", "hi")).await;
    let mark = |seq: &Value| json!({ "type": "inbox_update", "room": "lobby", "read_to": seq });
    bob.ask(mark(&posted["seq"])).await;
    bob.ask(json!({ "type": "typing", "room": "lobby" })).await;
    let there = who(&mut ann).await;
    assert_eq!(there["online"], 0, "{there}");
    assert_eq!(there["users"][1]["last_seen"], gone["last_seen"], "{there}");
    let readers = ann.ask(json!({ "type": "readers", "room": "lobby", "message": posted["record"] })).await;
    assert_eq!(readers["users"], json!([{ "user": "bob", "delivered_to": 0, "read_to": 0 }]));
    ann.hears_back().await;
    let gives_away = |frame: &Value| ["presence", "progress", "typing"].iter().any(|kind| frame["type"] == *kind);
    assert!(!ann.take_aside().iter().any(gives_away));
    bob.ask(hide(false)).await;
    assert_eq!(told(&mut ann).await, "online");
    let posted = ann.ask(post("lobby", "there you are")).await;
    bob.ask(mark(&posted["seq"])).await;
    assert_eq!(ann.notice("progress").await["read_to"], posted["seq"]);
}

#[tokio::test]
async fn a_request_says_so_for_a_while_and_strangers_are_told_nothing() {
    let server = TestServer::start();
    let (mut ann, mut eve) = (server.client("ann").await, server.client("eve").await);
    ann.ask(create_channel("lobby")).await;
    let mut bob = server.client("bob").await;
    bob.ask(join("lobby")).await;
    bob.ask(follow("lobby", "now")).await;
    let say = |word: &str| {
        Request::new("PUT", "/v1/me/presence").token(&server.token("ann")).json(&json!({ "presence": word }))
    };
    let answer = say("online").send(&server).await;
    assert_eq!((answer.status, &answer.json()["presence"]), (200, &json!("online")));
    assert_eq!(told(&mut bob).await, "online");
    assert_eq!(eve.refused(json!({ "type": "presences", "room": "lobby" })).await, "not_member");
    assert_eq!(say("busy").send(&server).await.code(), "bad_request");
    assert_eq!(eve.refused(json!({ "type": "presence" })).await, "bad_request");
    ann.ask(kick(&json!("lobby"), "bob")).await;
    assert_eq!(bob.refused(json!({ "type": "presences", "room": "lobby" })).await, "not_member");
    assert_eq!(say("away").send(&server).await.status, 200);
    bob.hears_back().await;
    assert!(bob.take_aside().iter().all(|frame| frame["type"] != "presence"));
}

#[tokio::test]
async fn of_a_large_room_only_how_many_are_there_is_told() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let members: Vec<_> = (0..1_000).map(|n| json!({ "user": format!("u{n:04}") })).collect();
    let body = json!({ "kind": "canvas", "alias": "lobby", "members": members });
    let made = Request::new("POST", "/v1/rooms").token(&server.token("ann")).json(&body).send(&server).await;
    assert_eq!(made.status, 201);
    ann.ask(presence("online")).await;
    let there = who(&mut ann).await;
    assert_eq!((&there["members"], &there["online"], &there["users"]), (&json!(1001), &json!(1), &Value::Null));
    ann.ask(kick(&json!("lobby"), "u0000")).await;
    let first = who(&mut ann).await;
    assert_eq!((first["users"].as_array().unwrap().len(), &first["after"]), (100, &json!("u0099")));
    let next = ann.ask(json!({ "type": "presences", "room": "lobby", "after": "u0099", "limit": 1 })).await;
    assert_eq!(next["users"], json!([{ "user": "u0100", "presence": "offline" }]));
}

fn presence(word: &str) -> Value {
    json!({ "type": "presence", "presence": word })
}

async fn who(client: &mut Client) -> Value {
    client.ask(json!({ "type": "presences", "room": "lobby" })).await
}

async fn told(client: &mut Client) -> String {
    client.notice("presence").await["presence"].as_str().unwrap().to_owned()
}
