//! Members who may read and not write.

use std::sync::Arc;
use std::time::Duration;

use chinwag::clock::{Clock, ManualClock, SystemClock};
use chinwag::store::memory::MemoryStore;
use serde_json::{Value, json};

use crate::harness::{Setup, TestServer, create_channel, follow, join, post};

#[tokio::test]
async fn a_mute_outlasts_restarts_and_the_membership_and_ends_by_itself() {
    let store = MemoryStore::new();
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let end = clock.now().0 + 60_000;
    let setup = || Setup {
        store: Arc::new(store.in_epoch(MemoryStore::EPOCH)),
        clock: Arc::clone(&clock) as _,
        ..Setup::default()
    };
    let message = {
        let mut server = TestServer::with(setup());
        let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
        ann.ask(create_channel("lobby")).await;
        bob.ask(join("lobby")).await;
        let message = bob.ask(post("lobby", "hi")).await["record"].clone();
        ann.ask(mute("bob", json!(end))).await;
        server.stop();
        message
    };
    let server = TestServer::with(setup());
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    clock.advance(Duration::from_secs(20));
    let edit = json!({ "type": "edit", "room": "lobby", "message": message, "content": { "text": "ho" } });
    let react = json!({ "type": "react", "room": "lobby", "message": message, "emoji": "+1" });
    let forward = json!({ "type": "post", "room": "lobby", "forward": { "room": "lobby", "message": message } });
    let typing = json!({ "type": "typing", "room": "lobby" });
    let wait = async |client: &mut crate::harness::Client, ask: &Value| {
        let error = client.try_ask(ask.clone()).await["error"].clone();
        (error["code"].clone(), error["retry_after_ms"].clone())
    };
    for ask in [&post("lobby", "ho"), &edit, &react, &forward, &typing] {
        assert_eq!(wait(&mut bob, ask).await, (json!("muted"), json!(40_000)), "{ask}");
    }
    bob.ask(json!({ "type": "history", "room": "lobby" })).await;
    bob.ask(json!({ "type": "leave", "room": "lobby" })).await;
    bob.ask(join("lobby")).await;
    for ask in [&post("lobby", "ho"), &typing] {
        assert_eq!(wait(&mut bob, ask).await, (json!("muted"), json!(40_000)), "{ask}");
    }
    clock.advance(Duration::from_secs(40));
    for ask in [post("lobby", "ho"), edit, react, forward, typing] {
        bob.ask(ask).await;
    }
    ann.ask(mute("bob", Value::Null)).await;
    let refused = bob.try_ask(post("lobby", "ho")).await["error"].clone();
    assert_eq!((&refused["code"], &refused["retry"]), (&json!("muted"), &json!("no")));
    ann.ask(json!({ "type": "unmute", "room": "lobby", "user": "bob" })).await;
    bob.ask(post("lobby", "ho")).await;
}

#[tokio::test]
async fn who_is_muted_is_not_writing_any_more() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    ann.ask(follow("lobby", "now")).await;
    bob.ask(json!({ "type": "typing", "room": "lobby" })).await;
    assert_eq!(ann.notice("typing").await["typing"], true);
    let muted = tokio::time::Instant::now();
    ann.ask(mute("bob", Value::Null)).await;
    assert_eq!(ann.notice("typing").await["typing"], false);
    assert!(muted.elapsed() < Duration::from_secs(4), "it did not wait for the six seconds of every typing");
}

#[tokio::test]
async fn what_is_no_mute_is_refused() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    for bad in [json!("tomorrow"), json!(1.5), json!(true), json!(u64::MAX)] {
        assert_eq!(ann.refused(mute("bob", bad.clone())).await, "bad_request", "{bad}");
    }
    assert_eq!(ann.refused(mute("bob", json!(-5))).await, "ends_too_soon");
    assert_eq!(ann.refused(mute("zoe", Value::Null)).await, "no_such_member");
    assert_eq!(ann.refused(json!({ "type": "mute", "room": "lobby" })).await, "bad_request");
    let pair = ann.ask(json!({ "type": "create", "kind": "direct", "members": [{ "user": "bob" }] })).await;
    assert_eq!(ann.refused(json!({ "type": "mute", "room": pair["room"], "user": "bob" })).await, "kind_forbids");
}

#[tokio::test]
async fn the_list_of_mutes_is_for_who_may_mute_and_says_who_has_left_too() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = TestServer::with(Setup { clock: Arc::clone(&clock) as _, ..Setup::default() });
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    let end = clock.now().0 + 60_000;
    bob.ask(join("lobby")).await;
    for user in ["u0", "u1", "u2", "u3"] {
        server.client(user).await.ask(join("lobby")).await;
        ann.ask(mute(user, if user == "u1" { json!(end) } else { Value::Null })).await;
    }
    server.client("u3").await.ask(json!({ "type": "leave", "room": "lobby" })).await;
    let list = json!({ "type": "mutes", "room": "lobby", "limit": 3 });
    let page = ann.ask(list.clone()).await;
    let muted = |page: &Value| -> Vec<Value> {
        page["mutes"].as_array().unwrap().iter().map(|mute| mute["user"].clone()).collect()
    };
    assert_eq!((muted(&page), &page["after"]), (vec![json!("u0"), json!("u1"), json!("u2")], &json!("u2")));
    assert_eq!((&page["mutes"][1]["by"], &page["mutes"][1]["until"]), (&json!("ann"), &json!(end)));
    let page = ann.ask(json!({ "type": "mutes", "room": "lobby", "after": "u2" })).await;
    assert_eq!((muted(&page), &page["after"]), (vec![json!("u3")], &Value::Null));
    assert_eq!(bob.refused(list.clone()).await, "forbidden");
    let members = json!({ "type": "members", "room": "lobby", "after": "bob" });
    let muted_of = |page: &Value| -> Vec<Value> {
        page["members"].as_array().unwrap().iter().map(|member| member["muted"].clone()).collect()
    };
    let [end, good] = [json!({ "until": end }), json!({ "until": null })];
    assert_eq!(muted_of(&bob.ask(members.clone()).await), [good.clone(), end, good.clone()]);
    clock.advance(Duration::from_secs(60));
    assert_eq!(muted_of(&bob.ask(members).await), [good.clone(), Value::Null, good]);
    assert_eq!(muted(&ann.ask(list).await), ["u0", "u2", "u3"]);
}

fn mute(user: &str, until: Value) -> Value {
    json!({ "type": "mute", "room": "lobby", "user": user, "until": until })
}
