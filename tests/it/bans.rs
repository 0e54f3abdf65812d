//! Who may not come into a room.

use std::sync::Arc;
use std::time::Duration;

use chinwag::clock::{Clock, ManualClock, SystemClock};
use chinwag::store::memory::MemoryStore;
use serde_json::{Value, json};

use crate::harness::{Client, Setup, TestServer, create_channel, follow, join, post};

#[tokio::test]
async fn a_ban_outlasts_restarts_and_ends_by_itself() {
    let store = MemoryStore::new();
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let end = clock.now().0 + 60_000;
    let setup = || Setup {
        store: Arc::new(store.in_epoch(MemoryStore::EPOCH)),
        clock: Arc::clone(&clock) as _,
        ..Setup::default()
    };
    {
        let mut server = TestServer::with(setup());
        let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
        ann.ask(create_channel("lobby")).await;
        bob.ask(join("lobby")).await;
        bob.ask(follow("lobby", "now")).await;
        ann.ask(ban("bob", Some(end))).await;
        ann.ask(ban("zoe", None)).await;
        assert_eq!(bob.refused(post("lobby", "hi")).await, "not_member");
        assert_eq!(bob.refused(json!({ "type": "history", "room": "lobby" })).await, "not_member");
        let again = ann.ask(ban("zoe", None)).await;
        assert_eq!(again["seq"], 5, "nothing has changed");
        server.stop();
    }
    let server = TestServer::with(setup());
    let (mut ann, mut bob, mut zoe) =
        (server.client("ann").await, server.client("bob").await, server.client("zoe").await);
    clock.advance(Duration::from_secs(20));
    let refused = bob.try_ask(join("lobby")).await["error"].clone();
    assert_eq!((&refused["code"], &refused["retry"]), (&json!("banned"), &json!("later")));
    assert_eq!(refused["retry_after_ms"], 40_000);
    let refused = zoe.try_ask(join("lobby")).await["error"].clone();
    assert_eq!((&refused["code"], &refused["retry"]), (&json!("banned"), &json!("no")));
    assert_eq!(refused["retry_after_ms"], Value::Null);
    assert_eq!(ann.refused(json!({ "type": "invite", "room": "lobby", "user": "bob" })).await, "user_banned");
    assert_eq!(banned(&mut ann).await, ["bob", "zoe"]);
    clock.advance(Duration::from_secs(40));
    assert_eq!(banned(&mut ann).await, ["zoe"], "it has ended");
    bob.ask(join("lobby")).await;
    ann.ask(unban("zoe")).await;
    zoe.ask(join("lobby")).await;
    assert_eq!(banned(&mut ann).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_ban_withdraws_an_invitation_and_tells_a_stranger_nothing() {
    let store = MemoryStore::new();
    let setup = || Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() };
    let mut server = TestServer::with(setup());
    let (mut ann, mut bob, mut zoe) =
        (server.client("ann").await, server.client("bob").await, server.client("zoe").await);
    let group = ann.ask(json!({ "type": "create", "kind": "group", "members": [{ "user": "bob" }] })).await;
    let room = group["room"].clone();
    bob.notice("room_gained").await;
    for user in ["bob", "zoe"] {
        ann.ask(json!({ "type": "ban", "room": room, "user": user })).await;
    }
    assert_eq!(bob.notice("room_lost").await, json!({ "type": "room_lost", "room": room }));
    for client in [&mut bob, &mut zoe] {
        for kind in ["join", "room", "bans", "history", "leave"] {
            assert_eq!(client.refused(json!({ "type": kind, "room": room })).await, "room_not_found", "{kind}");
        }
        assert_eq!(client.ask(json!({ "type": "rooms" })).await["rooms"], json!([]));
    }
    zoe.ask(create_channel("attic")).await;
    assert_eq!(zoe.next_of(&["room_gained", "room_lost"]).await["type"], "room_gained", "the first that zoe hears of");
    server.stop();
    let server = TestServer::with(setup());
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    assert_eq!(bob.refused(json!({ "type": "join", "room": room })).await, "room_not_found");
    ann.ask(json!({ "type": "unban", "room": room, "user": "bob" })).await;
    assert_eq!(bob.refused(json!({ "type": "join", "room": room })).await, "room_not_found", "invited no more");
    ann.ask(json!({ "type": "invite", "room": room, "user": "bob" })).await;
    bob.ask(json!({ "type": "join", "room": room })).await;
}

#[tokio::test]
async fn the_list_of_bans_comes_by_pages_and_is_for_who_may_ban() {
    let server = TestServer::start();
    let (mut ann, mut bob, mut eve) =
        (server.client("ann").await, server.client("bob").await, server.client("eve").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    for n in 0..5 {
        ann.ask(ban(&format!("u{n}"), None)).await;
    }
    let (mut seen, mut ask) = (Vec::new(), json!({ "type": "bans", "room": "lobby", "limit": 2 }));
    loop {
        let page = ann.ask(ask.clone()).await;
        let bans = page["bans"].as_array().unwrap();
        assert!(bans.len() <= 2, "{page}");
        seen.extend(bans.iter().map(|ban| ban["user"].clone()));
        if page["after"] == Value::Null {
            break;
        }
        ask["after"] = page["after"].clone();
    }
    assert_eq!(seen, ["u0", "u1", "u2", "u3", "u4"]);
    let bans = json!({ "type": "bans", "room": "lobby" });
    assert_eq!(bob.refused(bans.clone()).await, "forbidden");
    assert_eq!(eve.refused(bans).await, "not_member");
    let pair = ann.ask(json!({ "type": "create", "kind": "direct", "members": [{ "user": "bob" }] })).await;
    assert_eq!(ann.refused(json!({ "type": "bans", "room": pair["room"] })).await, "kind_forbids");
    assert_eq!(ann.refused(ban("bob", Some(5))).await, "ends_too_soon");
    assert_eq!(ann.refused(ban("bob", Some(-5))).await, "ends_too_soon");
    for bad in [json!("tomorrow"), json!(1.5), json!(true), json!(u64::MAX)] {
        let ask = json!({ "type": "ban", "room": "lobby", "user": "bob", "until": bad });
        assert_eq!(ann.refused(ask).await, "bad_request", "{bad}");
    }
    assert_eq!(ann.refused(json!({ "type": "ban", "room": "lobby" })).await, "bad_request");
    assert_eq!(ann.refused(json!({ "type": "bans", "room": "lobby", "limit": 101 })).await, "bad_request");
}

fn ban(user: &str, until: Option<i64>) -> Value {
    json!({ "type": "ban", "room": "lobby", "user": user, "until": until })
}

fn unban(user: &str) -> Value {
    json!({ "type": "unban", "room": "lobby", "user": user })
}

/// Who is banned, as the list has it.
async fn banned(client: &mut Client) -> Vec<String> {
    let page = client.ask(json!({ "type": "bans", "room": "lobby" })).await;
    let bans = page["bans"].as_array().unwrap();
    bans.iter().map(|ban| ban["user"].as_str().unwrap().to_owned()).collect()
}
