//! What users feel about messages.

use std::collections::BTreeSet;
use std::sync::Arc;

use chinwag::domain::{Emoji, RoomId, RoomKey, Seq, TenantId, UserId};
use chinwag::store::memory::MemoryStore;
use chinwag::store::rows::{self, Row};
use chinwag::store::{Commit, Put, Store};
use serde_json::{Value, json};

use crate::harness::{Client, Setup, TestServer, create_channel, follow, join, kick, post};

#[tokio::test]
async fn many_who_react_at_once_are_counted_once_each() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let message = ann.ask(post("lobby", "cake?")).await["record"].clone();
    ann.ask(follow("lobby", "now")).await;
    let reacting = (0..40).map(|n| {
        let (server, message) = (&server, message.clone());
        async move {
            let mut client = server.client(&format!("u{n:02}")).await;
            client.ask(join("lobby")).await;
            // Under way together, the same twice, and taken back by every second.
            let mut commands = vec![react(&message, "🍰"), react(&message, "🍰"), react(&message, "🎉")];
            if n % 2 == 1 {
                commands.push(json!({ "type": "unreact", "room": "lobby", "message": message, "emoji": "🍰" }));
            }
            let mut ids = Vec::new();
            for command in commands {
                ids.push(client.send(command).await);
            }
            for id in ids {
                assert_eq!(client.reply(&id).await["ok"], true);
            }
        }
    });
    futures_util::future::join_all(reacting).await;
    // In the order of the first ones; where all were taken back for a moment, others were first.
    let mut tallies = tallies(&mut ann).await;
    tallies.as_array_mut().unwrap().sort_by_key(|tally| tally["count"].as_u64());
    let tally = |emoji: &str, count: u64| json!({ "message": message, "emoji": emoji, "count": count, "mine": false });
    assert_eq!(tallies, json!([tally("🍰", 20), tally("🎉", 40)]));
    let (mut who, mut after) = (Vec::new(), Value::Null);
    loop {
        let mut ask = json!({ "type": "reactions", "room": "lobby", "message": message, "emoji": "🍰", "limit": 7 });
        if after != Value::Null {
            ask["after"] = after;
        }
        let page = ann.ask(ask).await;
        who.extend(page["users"].as_array().unwrap().clone());
        after = page["after"].clone();
        if after == Value::Null {
            break;
        }
    }
    let even: Vec<Value> = (0..40).step_by(2).map(|n| json!(format!("u{n:02}"))).collect();
    assert_eq!(who, even);
    // The last record of each tells the same.
    let head = ann.ask(json!({ "type": "room", "room": "lobby" })).await["head"].clone();
    let (mut latest, mut seq) = (std::collections::BTreeMap::new(), Value::Null);
    while seq != head {
        let record = ann.record().await;
        if record["event"] != "member_joined" {
            latest.insert(record["emoji"].as_str().unwrap().to_owned(), record["count"].as_u64().unwrap());
        }
        seq = record["seq"].clone();
    }
    assert_eq!(latest, [("🍰".to_owned(), 20), ("🎉".to_owned(), 40)].into());
}

#[tokio::test]
async fn what_somebody_feels_is_known_after_a_restart_and_after_an_edit() {
    let store = MemoryStore::new();
    let setup = || Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() };
    let message = {
        let mut server = TestServer::with(setup());
        let mut ann = server.client("ann").await;
        ann.ask(create_channel("lobby")).await;
        let message = ann.ask(post("lobby", "cake?")).await["record"].clone();
        ann.ask(react(&message, "🍰")).await;
        let edit = json!({ "type": "edit", "room": "lobby", "message": message, "content": { "text": "pie?" } });
        ann.ask(edit).await;
        server.stop();
        message
    };
    let server = TestServer::with(setup());
    let mut ann = server.client("ann").await;
    let again = ann.ask(react(&message, "🍰")).await;
    assert_eq!(again["seq"], 5, "nothing has changed");
    assert_eq!(tallies(&mut ann).await, json!([{ "message": message, "emoji": "🍰", "count": 1, "mine": true }]));
    ann.ask(json!({ "type": "unreact", "room": "lobby", "message": message, "emoji": "🍰" })).await;
    assert_eq!(tallies(&mut ann).await, Value::Null);
}

#[tokio::test]
async fn a_rare_reaction_among_many_is_found_by_pages_that_look_at_so_many() {
    let store = MemoryStore::new();
    let shared = Arc::new(store.in_epoch(MemoryStore::EPOCH));
    let server = TestServer::with(Setup { store: shared, ..Setup::default() });
    let (mut ann, mut zoe) = (server.client("ann").await, server.client("zoe").await);
    let room = ann.ask(create_channel("lobby")).await["room"].as_str().unwrap().parse().unwrap();
    zoe.ask(join("lobby")).await;
    let posted = ann.ask(post("lobby", "cake?")).await;
    let message = posted["record"].clone();
    zoe.ask(react(&message, "🍰")).await;
    // As if so many had joined and reacted.
    let stream = RoomKey { tenant: TenantId::default_tenant(), room: RoomId(room) }.stream();
    let other = BTreeSet::from([Emoji::new("+1").unwrap()]).encode();
    let puts = (0..1_500).map(|n| {
        let user = UserId::new(&format!("u{n:04}")).unwrap();
        let key = rows::reactions_of(Seq(posted["seq"].as_u64().unwrap()), &user);
        Put { under: stream.clone(), key, value: Some(other.clone()) }
    });
    let expected = store.head(&stream).await.unwrap();
    let (records, erase) = (Vec::new(), Vec::new());
    store
        .commit(Commit { stream: stream.clone(), expected, records, puts: puts.collect(), erase, trim: None })
        .await
        .unwrap();
    let mut who = json!({ "type": "reactions", "room": "lobby", "message": message, "emoji": "🍰" });
    who["after"] = json!("a");
    let page = ann.ask(who.clone()).await;
    assert_eq!((&page["users"], &page["count"], &page["after"]), (&json!([]), &json!(1), &json!("u0999")));
    who["after"] = page["after"].clone();
    let page = ann.ask(who).await;
    assert_eq!((&page["users"], &page["after"]), (&json!(["zoe"]), &Value::Null));
}

#[tokio::test]
async fn reactions_are_for_members_and_about_messages() {
    let server = TestServer::start();
    let (mut ann, mut bob, mut eve) =
        (server.client("ann").await, server.client("bob").await, server.client("eve").await);
    let room = ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    let posted = ann.ask(post("lobby", "cake?")).await;
    let message = posted["record"].clone();
    bob.ask(react(&message, "+1")).await;
    let who = |message: &Value| json!({ "type": "reactions", "room": "lobby", "message": message, "emoji": "+1" });
    assert_eq!(eve.refused(react(&message, "+1")).await, "not_member");
    assert_eq!(eve.refused(who(&message)).await, "not_member");
    ann.ask(kick(&json!("lobby"), "bob")).await;
    assert_eq!(bob.refused(react(&message, "+1")).await, "not_member");
    assert_eq!(bob.refused(who(&message)).await, "not_member");
    let history = ann.ask(json!({ "type": "history", "room": room["room"], "limit": 100 })).await;
    for record in history["records"].as_array().unwrap() {
        // What is no message has no reactions, and a joining neither.
        let expected = record["id"] == message;
        assert_eq!(ann.try_ask(react(&record["id"], "+1")).await["ok"], expected, "{record}");
    }
    assert_eq!(ann.refused(who(&json!("ffffffff-ffff-7fff-bfff-ffffffffffff"))).await, "message_not_found");
    let long = "x".repeat(65);
    for emoji in ["", " ", "a b", "a\nb", "\u{202e}", "+1\u{200b}", long.as_str()] {
        assert_eq!(ann.refused(react(&message, emoji)).await, "bad_request", "{emoji:?}");
    }
    ann.ask(react(&message, "👨‍👩‍👧‍👦")).await;
    ann.ask(json!({ "type": "archive", "room": "lobby" })).await;
    assert_eq!(ann.refused(react(&message, "🍰")).await, "room_archived");
}

fn react(message: &Value, emoji: &str) -> Value {
    json!({ "type": "react", "room": "lobby", "message": message, "emoji": emoji })
}

async fn tallies(client: &mut Client) -> Value {
    let mut ask = json!({ "type": "history", "room": "lobby", "limit": 100 });
    loop {
        let page = client.ask(ask.clone()).await;
        if page["reactions"] != Value::Null || page["before"] == Value::Null {
            return page["reactions"].clone();
        }
        ask["before"] = page["before"].clone();
    }
}
