//! Rooms whose members read from their own joins on.

use serde_json::{Value, json};

use crate::harness::{Client, TestServer, create_channel, follow, join, post};

/// Where `bob` has joined at 7 a room of which nothing before may be read, and what was said before.
struct Lobby {
    server: TestServer,
    ann: Client,
    bob: Client,
    /// The message at 3, which is pinned, has been reacted to and edited, and has an answer at 8.
    old: Value,
}

impl Lobby {
    async fn open() -> Self {
        let server = TestServer::start();
        let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
        ann.ask(create_channel("lobby")).await;
        let old = ann.ask(post("lobby", "before")).await["record"].clone();
        ann.ask(json!({ "type": "pin", "room": "lobby", "message": old })).await;
        ann.ask(json!({ "type": "react", "room": "lobby", "message": old, "emoji": "+1" })).await;
        ann.ask(json!({ "type": "update", "room": "lobby", "history": "join", "edit_history": true })).await;
        assert_eq!(bob.ask(join("lobby")).await["seq"], 7);
        let answer = json!({ "type": "post", "room": "lobby", "content": { "text": "so?" }, "reply_to": old });
        assert_eq!(ann.ask(answer).await["seq"], 8);
        Self { server, ann, bob, old }
    }

    async fn let_all(&mut self) {
        self.ann.ask(json!({ "type": "update", "room": "lobby", "history": "all" })).await;
    }
}

fn seqs(page: &Value) -> Vec<u64> {
    page["records"].as_array().unwrap().iter().map(|record| record["seq"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn nothing_from_before_the_join_is_read_in_any_way_until_the_room_says_so() {
    let mut lobby = Lobby::open().await;
    let about = |kind: &str| json!({ "type": kind, "room": "lobby", "message": lobby.old });
    let all = [
        about("edits"),
        about("readers"),
        about("hide"),
        json!({ "type": "reactions", "room": "lobby", "message": lobby.old, "emoji": "+1" }),
        json!({ "type": "react", "room": "lobby", "message": lobby.old, "emoji": "+1" }),
        json!({ "type": "post", "room": "lobby", "forward": { "room": "lobby", "message": lobby.old } }),
    ];
    for ask in &all {
        assert_eq!(lobby.bob.refused(ask.clone()).await, "message_not_found", "{ask}");
    }
    let page = lobby.bob.ask(json!({ "type": "history", "room": "lobby" })).await;
    assert_eq!((seqs(&page), &page["before"]), (vec![7, 8], &Value::Null));
    let page = lobby.bob.ask(json!({ "type": "history", "room": "lobby", "limit": 1 })).await;
    let page = json!({ "type": "history", "room": "lobby", "before": page["before"], "limit": 1 });
    let page = lobby.bob.ask(page).await;
    assert_eq!((seqs(&page), &page["before"]), (vec![7], &Value::Null));
    assert_eq!(seqs(&lobby.bob.ask(json!({ "type": "pins", "room": "lobby" })).await), Vec::<u64>::new());
    assert_eq!(seqs(&lobby.bob.ask(about("thread")).await), [8]);
    let inbox = lobby.bob.ask(json!({ "type": "inbox" })).await;
    assert_eq!((&inbox["rooms"][0]["last"]["seq"], &inbox["unread"]), (&json!(8), &json!(1)));

    lobby.let_all().await;
    for ask in all {
        lobby.bob.ask(ask).await;
    }
    assert_eq!(seqs(&lobby.bob.ask(json!({ "type": "pins", "room": "lobby" })).await), [3]);
}

#[tokio::test]
async fn a_room_in_which_nothing_was_said_since_has_no_last_message_for_who_joined_late() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    ann.ask(post("lobby", "before")).await;
    ann.ask(json!({ "type": "update", "room": "lobby", "history": "join" })).await;
    bob.ask(join("lobby")).await;
    assert_eq!(bob.ask(json!({ "type": "inbox" })).await["rooms"][0]["last"], Value::Null);
    ann.ask(json!({ "type": "update", "room": "lobby", "history": "all" })).await;
    assert_eq!(bob.ask(json!({ "type": "inbox" })).await["rooms"][0]["last"]["text"], "before");
}

#[tokio::test]
async fn who_follows_from_before_the_join_begins_with_it_and_is_told_what_is_passed_over() {
    let mut lobby = Lobby::open().await;
    let followed = lobby.bob.ask(follow("lobby", "start")).await;
    let gap = lobby.bob.notice("gap").await;
    assert_eq!((&gap["from"], &gap["to"], &gap["reason"]), (&json!(1), &json!(6), &json!("not_member")));
    assert_eq!(lobby.bob.seqs_until(8).await, [7, 8]);
    // The cursor in between is one like any other.
    let cursor = followed["cursor"].as_str().unwrap();
    assert_eq!(lobby.bob.ask(follow("lobby", cursor)).await["cursor"], cursor);
    assert_eq!(lobby.bob.seqs_until(8).await, [7, 8]);

    let token = lobby.server.token("bob");
    let get = |query: &str, accept: &str| {
        let head = format!("Host: localhost\r\nAuthorization: Bearer {token}\r\nAccept: {accept}\r\nConnection: close");
        format!("GET /v1/rooms/alias:lobby/events?{query} HTTP/1.1\r\n{head}\r\n\r\n")
    };
    let (status, page) = lobby.server.exchange(&get("after=start", "*/*")).await;
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!((status, seqs(&page)), (200, vec![7, 8]));
    assert_eq!(page["gap"], json!({ "from": 1, "to": 6, "reason": "not_member" }));
    let (_, page) = lobby.server.exchange(&get(&format!("after={cursor}"), "*/*")).await;
    assert_eq!(serde_json::from_str::<Value>(&page).unwrap()["gap"], Value::Null);

    lobby.let_all().await;
    assert_eq!(lobby.bob.seqs_until(9).await, [9]);
    lobby.bob.ask(follow("lobby", "start")).await;
    assert_eq!(lobby.bob.seqs_until(9).await, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
}
