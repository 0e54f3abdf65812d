//! Who users are to each other.

use std::sync::Arc;

use chinwag::store::memory::MemoryStore;
use serde_json::{Value, json};

use crate::harness::{Client, Setup, TestServer, create_channel, follow, join, post};

async fn shown(client: &mut Client, user: &str) -> Value {
    client.ask(json!({ "type": "users", "users": [user] })).await["users"][0].clone()
}

#[tokio::test]
async fn a_change_is_told_once_however_many_rooms_are_shared_and_to_nobody_else() {
    let server = TestServer::start();
    let mut people = Vec::new();
    for user in ["ann", "bob", "zoe"] {
        people.push(server.client(user).await);
    }
    let [ann, bob, zoe] = &mut people[..] else { unreachable!() };
    for room in 0..20 {
        ann.ask(create_channel(&format!("room-{room}"))).await;
        bob.ask(join(&format!("room-{room}"))).await;
        bob.ask(follow(&format!("room-{room}"), "now")).await;
    }
    zoe.ask(create_channel("hers")).await;
    zoe.ask(follow("hers", "now")).await;
    let mut worldly = server.client("bob").await;
    worldly.ask(json!({ "type": "follow_all", "from": "now" })).await;
    let mut again = server.client("ann").await;
    again.hears_back().await;
    ann.ask(json!({ "type": "profile_update", "name": "Ann", "telephone": "+4930123456" })).await;
    for client in [&mut *bob, &mut worldly] {
        let told = client.notice("user_updated").await;
        assert_eq!((&told["name"], &told["telephone"]), (&json!("Ann"), &Value::Null));
    }
    assert_eq!(again.notice("user_updated").await["telephone"], "+4930123456", "one's own");
    // What is as it was asked to be changes nothing, and whatever would have come has come with what is said next.
    ann.ask(json!({ "type": "profile_update", "name": "Ann" })).await;
    ann.ask(post("room-0", "hi")).await;
    for client in [bob, &mut worldly] {
        client.record().await;
        client.hears_back().await;
        let more = client.take_aside();
        assert!(!more.iter().any(|notice| notice["type"] == "user_updated"), "{more:?}");
    }
    zoe.hears_back().await;
    let more = zoe.take_aside();
    assert!(!more.iter().any(|notice| notice["type"] == "user_updated"), "{more:?}");
}

#[tokio::test]
async fn how_somebody_can_be_reached_is_shown_to_whom_the_user_allows() {
    let store = MemoryStore::new();
    let setup = || Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() };
    {
        let mut server = TestServer::with(setup());
        let mut ann = server.client("ann").await;
        ann.ask(json!({ "type": "profile_update", "name": "Ann", "email": "ann@example.org" })).await;
        ann.ask(json!({ "type": "settings_update", "contacts": "owners" })).await;
        server.stop();
    }
    let server = TestServer::with(setup());
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    assert_eq!(shown(&mut ann, "ann").await["email"], "ann@example.org", "to the user itself");
    assert_eq!(shown(&mut bob, "ann").await["email"], Value::Null);
    bob.ask(json!({ "type": "create", "kind": "canvas", "members": [{ "user": "ann" }] })).await;
    assert_eq!(shown(&mut bob, "ann").await["email"], Value::Null, "nobody asked her");
    bob.ask(create_channel("his")).await;
    assert_eq!(shown(&mut bob, "ann").await["email"], Value::Null);
    ann.ask(join("his")).await;
    let hash = 2 * 32;
    let now = shown(&mut bob, "ann").await;
    assert_eq!((&now["email"], now["email_hash"].as_str().unwrap().len()), (&json!("ann@example.org"), hash));
    let mut cas = server.client("cas").await;
    cas.ask(join("his")).await;
    assert_eq!(shown(&mut cas, "ann").await["email"], Value::Null, "no owner");
    ann.ask(json!({ "type": "leave", "room": "his" })).await;
    assert_eq!(shown(&mut bob, "ann").await["email"], Value::Null);
    ann.ask(json!({ "type": "settings_update", "contacts": "everybody" })).await;
    assert_eq!(shown(&mut cas, "ann").await["email"], "ann@example.org");
    let other = server.token_in("other", "cas", std::time::Duration::from_secs(60));
    let mut other = server.client_with(&other, Some("chinwag.v1.json")).await;
    assert_eq!(shown(&mut other, "ann").await, json!({ "user": "ann", "name": null }), "another tenant's");
}

#[tokio::test]
async fn many_changes_are_told_together() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    bob.ask(follow("lobby", "now")).await;
    for n in 0..50 {
        ann.ask(json!({ "type": "profile_update", "name": format!("Ann {n}") })).await;
    }
    let mut told = vec![bob.notice("user_updated").await["name"].clone()];
    while told.last() != Some(&json!("Ann 49")) {
        told.push(bob.notice("user_updated").await["name"].clone());
    }
    assert!(told.len() <= 4, "{told:?}");
}

#[tokio::test]
async fn what_is_no_profile_is_refused() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let large = json!({ "x": "a".repeat(5_000) });
    for bad in [
        json!({}),
        json!({ "name": "a\u{202e}b" }),
        json!({ "name": "a".repeat(201) }),
        json!({ "email": "ann" }),
        json!({ "telephone": "030 123" }),
        json!({ "avatar": "data:text/html,x" }),
        json!({ "avatar": "/v1/files/../me" }),
        json!({ "fields": large }),
        json!({ "fields": "x" }),
    ] {
        let mut ask = json!({ "type": "profile_update" });
        ask.as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
        assert_eq!(ann.refused(ask).await, "bad_request", "{bad}");
    }
    let many: Vec<String> = (0..101).map(|n| format!("u{n}")).collect();
    for bad in [json!([]), json!(many), json!(["a b"]), json!("ann,,bob")] {
        assert_eq!(ann.refused(json!({ "type": "users", "users": bad })).await, "bad_request", "{bad}");
    }
}
