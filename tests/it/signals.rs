//! What is told to those who follow now, and never recorded: who is writing, and how far others have got.

use serde_json::{Value, json};

use crate::harness::{Client, TestServer, create_channel, follow, join, kick, post};
use crate::requests::Request;

#[tokio::test]
async fn writing_is_told_and_ends_by_a_message_a_word_a_kick_or_the_connection() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    ann.ask(follow("lobby", "now")).await;
    for ends in ["post", "word", "kick", "leave", "cut"] {
        let mut bob = server.client("bob").await;
        bob.try_ask(join("lobby")).await;
        bob.ask(typing("lobby", true)).await;
        assert_eq!(signal(&mut ann, "typing").await, ("bob".into(), json!(true)), "{ends}");
        // To say so again does not tell it again; what comes next is the end.
        bob.ask(typing("lobby", true)).await;
        match ends {
            "post" => drop(bob.ask(post("lobby", "there")).await),
            "word" => drop(bob.ask(typing("lobby", false)).await),
            "kick" => drop(ann.ask(kick(&json!("lobby"), "bob")).await),
            "leave" => drop(bob.ask(json!({ "type": "leave", "room": "lobby" })).await),
            _ => drop(bob),
        }
        assert_eq!(signal(&mut ann, "typing").await, ("bob".into(), json!(false)), "{ends}");
    }
}

#[tokio::test]
async fn writing_ends_by_itself_and_who_comes_late_hears_of_it() {
    let server = TestServer::start();
    let (mut ann, mut bob, mut cay) =
        (server.client("ann").await, server.client("bob").await, server.client("cay").await);
    ann.ask(create_channel("lobby")).await;
    for client in [&mut bob, &mut cay] {
        client.ask(join("lobby")).await;
    }
    bob.ask(typing("lobby", true)).await;
    ann.ask(follow("lobby", "now")).await;
    assert_eq!(signal(&mut ann, "typing").await, ("bob".into(), json!(true)));
    cay.ask(json!({ "type": "follow_all" })).await;
    assert_eq!(signal(&mut cay, "typing").await, ("bob".into(), json!(true)));
    assert_eq!(signal(&mut ann, "typing").await, ("bob".into(), json!(false)), "nothing more was heard of bob");
    assert_eq!(signal(&mut cay, "typing").await, ("bob".into(), json!(false)));
    // A request has no connection that could end.
    let answer = Request::new("PUT", "/v1/rooms/lobby/typing").token(&server.token("bob")).send(&server).await;
    assert_eq!(answer.status, 200);
    assert_eq!(signal(&mut ann, "typing").await, ("bob".into(), json!(true)));
}

#[tokio::test]
async fn a_read_of_the_room_takes_no_signal_away() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    ann.ask(follow("lobby", "now")).await;
    bob.ask(join("lobby")).await;
    for _ in 0..50 {
        bob.ask(typing("lobby", true)).await;
        // Under way together, on the connection that is told.
        let read = ann.send(json!({ "type": "history", "room": "lobby", "limit": 1 })).await;
        bob.ask(typing("lobby", false)).await;
        ann.reply(&read).await;
        while signal(&mut ann, "typing").await != ("bob".into(), json!(false)) {}
    }
}

#[tokio::test]
async fn only_who_may_post_is_writing_and_only_members_hear_of_it() {
    let server = TestServer::start();
    let (mut ann, mut bob, mut eve) =
        (server.client("ann").await, server.client("bob").await, server.client("eve").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    bob.ask(follow("lobby", "now")).await;
    assert_eq!(eve.refused(typing("lobby", true)).await, "not_member");
    assert_eq!(eve.refused(typing("nowhere", true)).await, "room_not_found");
    ann.ask(json!({ "type": "role", "room": "lobby", "user": "bob", "role": "viewer" })).await;
    assert_eq!(bob.refused(typing("lobby", true)).await, "forbidden");
    ann.ask(kick(&json!("lobby"), "bob")).await;
    assert_eq!(bob.refused(typing("lobby", true)).await, "not_member");
    ann.ask(typing("lobby", true)).await;
    ann.ask(post("lobby", "not for bob")).await;
    bob.hears_back().await;
    let heard = bob.take_aside();
    assert!(heard.iter().all(|frame| frame["type"] != "typing"), "{heard:?}");
    ann.ask(json!({ "type": "archive", "room": "lobby" })).await;
    assert_eq!(ann.refused(typing("lobby", true)).await, "room_archived");
}

#[tokio::test]
async fn how_far_somebody_has_got_is_told_to_the_others() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    ann.ask(follow("lobby", "now")).await;
    bob.ask(follow("lobby", "now")).await;
    let seq = ann.ask(post("lobby", "hi")).await["seq"].clone();
    bob.ask(json!({ "type": "inbox_update", "room": "lobby", "pinned": true })).await;
    bob.ask(json!({ "type": "inbox_update", "room": "lobby", "delivered_to": seq, "read_to": 3 })).await;
    let told = ann.notice("progress").await;
    assert_eq!((&told["user"], &told["delivered_to"], &told["read_to"]), (&json!("bob"), &seq, &json!(3)));
    bob.hears_back().await;
    assert!(bob.take_aside().iter().all(|frame| frame["type"] != "progress"), "one's own is in the inbox");
}

/// Who is said to do what.
async fn signal(client: &mut Client, kind: &str) -> (String, Value) {
    let told = client.notice(kind).await;
    (told["user"].as_str().unwrap().to_owned(), told[kind].clone())
}

fn typing(room: &str, typing: bool) -> Value {
    json!({ "type": "typing", "room": room, "typing": typing })
}
