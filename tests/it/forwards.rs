//! What was said in one room and is posted in another.

use std::sync::Arc;
use std::time::Duration;

use chinwag::store::memory::MemoryStore;
use serde_json::{Value, json};

use crate::harness::{Client, Setup, TestServer, create_channel, follow, join, kick, post};

#[tokio::test]
async fn who_reads_what_was_forwarded_learns_who_said_it_first_and_not_where() {
    let server = TestServer::start();
    let (mut ann, mut bob, mut eve) =
        (server.client("ann").await, server.client("bob").await, server.client("eve").await);
    let attic = attic(&mut eve, &mut ann).await;
    let said = eve.ask(in_room(&attic, "secret")).await;
    let edit = json!({ "type": "edit", "room": attic, "message": said["record"], "content": { "text": "a secret" } });
    eve.ask(edit).await;
    for room in ["lobby", "square"] {
        ann.ask(create_channel(room)).await;
        bob.ask(join(room)).await;
        bob.ask(follow(room, "now")).await;
    }
    let copy = ann.ask(forward("lobby", &attic, &said["record"])).await;
    let shown = bob.record().await;
    assert_eq!(shown["content"], json!({ "text": "a secret" }), "as it is now");
    assert_eq!(shown["forwarded"], json!({ "by": "eve", "at": said["at"] }));
    // Of the copy of a copy, too.
    bob.ask(forward("square", &json!("lobby"), &copy["record"])).await;
    let again = bob.record().await;
    assert_eq!((&again["author"], &again["forwarded"]), (&json!("bob"), &shown["forwarded"]));
    for record in [shown, again] {
        let text = record.to_string();
        for secret in [&attic, &said["record"]] {
            assert!(!text.contains(secret.as_str().unwrap()), "{text}");
        }
    }
    // What becomes of the message afterwards does not touch the copies.
    eve.ask(json!({ "type": "delete", "room": attic, "message": said["record"] })).await;
    let page = bob.ask(json!({ "type": "history", "room": "square", "limit": 1 })).await;
    assert_eq!(page["records"][0]["content"], json!({ "text": "a secret" }));
}

#[tokio::test]
async fn what_somebody_else_has_said_is_not_edited_after_a_restart_either() {
    let store = MemoryStore::new();
    let setup = || Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() };
    let copies = {
        let mut server = TestServer::with(setup());
        let mut ann = server.client("ann").await;
        ann.ask(create_channel("lobby")).await;
        let said = ann.ask(post("lobby", "mine")).await["record"].clone();
        let mut copies = Vec::new();
        for _ in 0..2 {
            copies.push(ann.ask(forward("lobby", &json!("lobby"), &said)).await["record"].clone());
        }
        // One is known by its record then, and one by its row.
        ann.ask(json!({ "type": "react", "room": "lobby", "message": copies[0], "emoji": "+1" })).await;
        server.stop();
        copies
    };
    let server = TestServer::with(setup());
    let mut ann = server.client("ann").await;
    for message in &copies {
        let edit = json!({ "type": "edit", "room": "lobby", "message": message, "content": { "text": "x" } });
        assert_eq!(ann.refused(edit).await, "not_author");
    }
    let page = ann.ask(json!({ "type": "history", "room": "lobby" })).await;
    assert_eq!(page["records"][4]["forwarded"]["by"], "ann", "{page}");
    ann.ask(json!({ "type": "delete", "room": "lobby", "message": copies[1] })).await;
    let page = ann.ask(json!({ "type": "history", "room": "lobby" })).await;
    assert_eq!(
        (&page["records"][4]["event"], &page["records"][4]["forwarded"]),
        (&json!("message_erased"), &Value::Null)
    );
}

#[tokio::test]
async fn to_forward_again_with_the_same_client_id_is_safe_whatever_became_of_the_message() {
    let store = MemoryStore::new();
    let setup = || Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() };
    let mut server = TestServer::with(setup());
    let (mut ann, mut eve) = (server.client("ann").await, server.client("eve").await);
    let attic = attic(&mut eve, &mut ann).await;
    let said = eve.ask(in_room(&attic, "once")).await["record"].clone();
    let other = eve.ask(in_room(&attic, "once")).await["record"].clone();
    ann.ask(create_channel("lobby")).await;
    let mut first = forward("lobby", &attic, &said);
    first["client_id"] = json!("c-1");
    let posted = ann.ask(first.clone()).await;
    let same = |again: &Value| {
        assert_eq!((&again["duplicate"], &again["record"]), (&json!(true), &posted["record"]), "{again}");
    };
    same(&ann.ask(first.clone()).await);
    let edit = json!({ "type": "edit", "room": attic, "message": said, "content": { "text": "twice" } });
    eve.ask(edit).await;
    same(&ann.ask(first.clone()).await);
    eve.ask(json!({ "type": "delete", "room": attic, "message": said })).await;
    same(&ann.ask(first.clone()).await);
    eve.ask(kick(&attic, "ann")).await;
    same(&ann.ask(first.clone()).await);
    server.stop();
    let server = TestServer::with(setup());
    let (mut ann, mut eve) = (server.client("ann").await, server.client("eve").await);
    same(&ann.ask(first.clone()).await);
    eve.ask(json!({ "type": "invite", "room": attic, "user": "ann" })).await;
    ann.ask(json!({ "type": "join", "room": attic })).await;
    let mut from_elsewhere = first.clone();
    from_elsewhere["forward"]["message"] = other;
    let mut mentioning = first.clone();
    mentioning["mentions"] = json!(["ann"]);
    let mut own = post("lobby", "once");
    own["client_id"] = json!("c-1");
    for something_else in [from_elsewhere, mentioning, own] {
        assert_eq!(ann.refused(something_else.clone()).await, "client_id_reused", "{something_else}");
    }
}

#[tokio::test]
async fn what_may_not_be_read_is_not_told_from_what_is_not_there() {
    let server = TestServer::start();
    let (mut ann, mut bob, mut eve) =
        (server.client("ann").await, server.client("bob").await, server.client("eve").await);
    let attic = attic(&mut eve, &mut ann).await;
    let said = eve.ask(in_room(&attic, "secret")).await["record"].clone();
    let deleted = eve.ask(in_room(&attic, "gone")).await["record"].clone();
    eve.ask(json!({ "type": "delete", "room": attic, "message": deleted })).await;
    let joined = eve.ask(json!({ "type": "history", "room": attic })).await["records"][1]["id"].clone();
    ann.ask(create_channel("lobby")).await;
    let elsewhere = ann.ask(post("lobby", "hi")).await["record"].clone();
    bob.ask(join("lobby")).await;
    let mut theo = server.client_with(&server.token_in("theirs", "theo", Duration::from_secs(60)), None).await;
    theo.ask(create_channel("square")).await;
    let theirs = theo.ask(post("square", "theirs")).await;
    let nobody = json!("ffffffff-ffff-7fff-bfff-ffffffffffff");
    // Ann is a member of the attic, and bob is not.
    for (room, message) in
        [(&attic, &deleted), (&attic, &joined), (&attic, &elsewhere), (&attic, &nobody), (&json!("lobby"), &said)]
    {
        assert_eq!(ann.refused(forward("lobby", room, message)).await, "message_not_found", "{message}");
    }
    let mut answers = Vec::new();
    for (room, message) in [
        (&attic, &said),
        (&attic, &nobody),
        (&nobody, &said),
        (&json!("nowhere"), &said),
        (&json!(987_654_321), &said),
        (&theirs["room"], &theirs["record"]),
    ] {
        let mut answer = bob.try_ask(forward("lobby", room, message)).await;
        answer["id"].take();
        answers.push(answer);
    }
    assert_eq!(answers[0]["error"]["code"], "message_not_found");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    eve.ask(kick(&attic, "ann")).await;
    assert_eq!(ann.refused(forward("lobby", &attic, &said)).await, "message_not_found");
    // Into where the sender is nobody.
    assert_eq!(bob.refused(forward("nowhere", &json!("lobby"), &elsewhere)).await, "room_not_found");
    assert_eq!(eve.refused(forward("lobby", &attic, &said)).await, "not_member");
    hostile(&mut ann, &elsewhere).await;
    let page = ann.ask(json!({ "type": "history", "room": "lobby" })).await;
    assert_eq!(page["records"].as_array().unwrap().len(), 4, "nothing was posted: {page}");
}

async fn hostile(ann: &mut Client, message: &Value) {
    for forward in [
        json!("lobby"),
        json!(["lobby", message]),
        json!({ "room": "lobby" }),
        json!({ "message": message }),
        json!({ "room": "no room", "message": message }),
        json!({ "room": "lobby", "message": "x" }),
        Value::Null,
    ] {
        let ask = json!({ "type": "post", "room": "lobby", "forward": forward });
        assert_eq!(ann.refused(ask).await, "bad_request", "{forward}");
    }
    let mut both = forward("lobby", &json!("lobby"), message);
    both["content"] = json!({ "text": "look" });
    assert_eq!(ann.refused(both).await, "bad_request");
}

/// A room of the two that nobody else knows of.
async fn attic(owner: &mut Client, other: &mut Client) -> Value {
    let create = json!({ "type": "create", "kind": "group", "members": [{ "user": "ann" }] });
    let attic = owner.ask(create).await["room"].clone();
    other.ask(json!({ "type": "join", "room": attic })).await;
    attic
}

fn in_room(room: &Value, text: &str) -> Value {
    json!({ "type": "post", "room": room, "content": { "text": text } })
}

fn forward(into: &str, from: &Value, message: &Value) -> Value {
    json!({ "type": "post", "room": into, "forward": { "room": from, "message": message } })
}
