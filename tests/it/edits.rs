//! What messages say after they have been edited, for who was not there.

use std::sync::Arc;

use chinwag::store::memory::MemoryStore;
use serde_json::{Value, json};

use crate::harness::{Client, Setup, TestServer, create_channel, join, kick, post};

#[tokio::test]
async fn who_comes_later_reads_what_a_message_says_now_wherever_its_edit_is() {
    let store = MemoryStore::new();
    let setup = || Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() };
    let (posted, before) = {
        let mut server = TestServer::with(setup());
        let mut ann = server.client("ann").await;
        ann.ask(create_channel("lobby")).await;
        let posted = ann.ask(post("lobby", "frist")).await;
        let before = ann.ask(post("lobby", "something else")).await["cursor"].clone();
        ann.ask(edit(&posted["record"], "fisrt")).await;
        for n in 0..10 {
            ann.ask(post("lobby", &n.to_string())).await;
        }
        let mut last = edit(&posted["record"], "first");
        last["mentions"] = json!(["ann"]);
        ann.ask(last).await;
        server.stop();
        (posted, before)
    };
    let server = TestServer::with(setup());
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    bob.ask(join("lobby")).await;
    let page = bob.ask(json!({ "type": "history", "room": "lobby", "before": before, "limit": 1 })).await;
    assert_eq!(page["records"][0]["content"]["text"], "frist", "the log is as it was recorded");
    let now = &page["edited"][0];
    assert_eq!(page["edited"].as_array().unwrap().len(), 1);
    assert_eq!((&now["message"], &now["seq"]), (&posted["record"], &json!(16)));
    assert_eq!((&now["content"], &now["mentions"]), (&json!({ "text": "first" }), &json!(["ann"])));
    // The same where the edit is on the page, and nothing where there is none.
    let page = bob.ask(json!({ "type": "history", "room": "lobby", "limit": 100 })).await;
    assert_eq!(page["edited"], json!([now]));
    let page = bob.ask(json!({ "type": "history", "room": "lobby", "limit": 2 })).await;
    assert_eq!(page["edited"], Value::Null, "an edit is no message");
    ann.ask(json!({ "type": "delete", "room": "lobby", "message": posted["record"] })).await;
    let page = bob.ask(json!({ "type": "history", "room": "lobby", "limit": 100 })).await;
    assert_eq!(page["edited"], Value::Null, "{page}");
    assert!(!page.to_string().contains("first"), "{page}");
}

#[tokio::test]
async fn threads_and_pins_say_it_too() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let root = ann.ask(post("lobby", "root")).await["record"].clone();
    let mut answer = post("lobby", "yse");
    answer["reply_to"] = root.clone();
    let answer = ann.ask(answer).await["record"].clone();
    ann.ask(edit(&answer, "yes")).await;
    ann.ask(json!({ "type": "react", "room": "lobby", "message": answer, "emoji": "+1" })).await;
    ann.ask(json!({ "type": "pin", "room": "lobby", "message": answer })).await;
    for ask in [json!({ "type": "thread", "message": root }), json!({ "type": "pins" })] {
        let mut ask = ask;
        ask["room"] = json!("lobby");
        let page = ann.ask(ask).await;
        assert_eq!(page["records"].as_array().unwrap().len(), 1);
        assert_eq!(page["edited"][0]["message"], answer, "{page}");
        assert_eq!(page["edited"][0]["content"]["text"], "yes", "{page}");
        assert_eq!(page["reactions"][0]["count"], 1, "{page}");
    }
}

#[tokio::test]
async fn an_answer_with_long_edits_of_short_messages_ends_before_it_is_too_large() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let root = ann.ask(post("lobby", "root")).await["record"].clone();
    let mut messages = Vec::new();
    for _ in 0..20 {
        let mut answer = post("lobby", "x");
        answer["reply_to"] = root.clone();
        let message = ann.ask(answer).await["record"].clone();
        ann.ask(json!({ "type": "pin", "room": "lobby", "message": message })).await;
        messages.push(message);
    }
    let before = ann.ask(post("lobby", "here")).await["cursor"].clone();
    for message in &messages {
        ann.ask(edit(message, &"y".repeat(30_000))).await;
    }
    let history = json!({ "type": "history", "room": "lobby", "before": before });
    let thread = json!({ "type": "thread", "room": "lobby", "message": root });
    let pins = json!({ "type": "pins", "room": "lobby" });
    for (ask, on) in [(history, "before"), (thread, "after"), (pins, "before")] {
        let mut seen = by_pages(&mut ann, ask.clone(), on).await;
        seen.sort_by_key(Value::to_string);
        let mut all = messages.clone();
        all.sort_by_key(Value::to_string);
        assert_eq!(seen, all, "{ask}");
    }
}

#[tokio::test]
async fn what_messages_said_before_is_shown_where_the_room_has_it_so_and_after_a_restart() {
    let store = MemoryStore::new();
    let setup = || Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() };
    let message = {
        let mut server = TestServer::with(setup());
        let mut ann = server.client("ann").await;
        ann.ask(create_channel("lobby")).await;
        let message = ann.ask(post("lobby", "0")).await["record"].clone();
        for n in 1..5 {
            ann.ask(edit(&message, &n.to_string())).await;
        }
        assert_eq!(ann.refused(edits(&message)).await, "edits_hidden", "to its author, who owns the room");
        ann.ask(show_edits(true)).await;
        server.stop();
        message
    };
    let server = TestServer::with(setup());
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    assert_eq!(bob.refused(edits(&message)).await, "not_member");
    bob.ask(join("lobby")).await;
    assert_eq!(versions(&mut bob, edits(&message)).await, ["0", "1", "2", "3", "4"]);
    assert_eq!(bob.ask(json!({ "type": "room", "room": "lobby" })).await["edit_history"], true);
    assert_eq!(bob.refused(show_edits(false)).await, "forbidden");
    ann.ask(show_edits(false)).await;
    assert_eq!(bob.refused(edits(&message)).await, "edits_hidden");
    ann.ask(show_edits(true)).await;
    ann.ask(kick(&json!("lobby"), "bob")).await;
    assert_eq!(bob.refused(edits(&message)).await, "not_member");
    ann.ask(json!({ "type": "delete", "room": "lobby", "message": message })).await;
    assert_eq!(ann.refused(edits(&message)).await, "message_deleted");
}

#[tokio::test]
async fn long_versions_come_by_pages_and_what_is_no_message_has_none() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    ann.ask(show_edits(true)).await;
    let message = ann.ask(post("lobby", "0")).await["record"].clone();
    let unedited = ann.ask(post("lobby", "once")).await["record"].clone();
    let long = |n: usize| format!("{n} {}", "x".repeat(30_000));
    for n in 1..12 {
        ann.ask(edit(&message, &long(n))).await;
    }
    let expected: Vec<_> = (0..12).map(|n| if n == 0 { "0".to_owned() } else { long(n) }).collect();
    assert_eq!(versions(&mut ann, edits(&message)).await, expected);
    let mut by_two = edits(&message);
    by_two["limit"] = json!(2);
    assert_eq!(versions(&mut ann, by_two).await, expected);
    assert_eq!(versions(&mut ann, edits(&unedited)).await, ["once"]);
    let history = ann.ask(json!({ "type": "history", "room": "lobby", "limit": 4, "before": null })).await;
    let an_edit = history["records"][3]["id"].clone();
    for message in [&an_edit, &json!("00000000-0000-7000-8000-000000000000")] {
        assert_eq!(ann.refused(edits(message)).await, "message_not_found", "{message}");
    }
    assert_eq!(ann.refused(edits(&json!("x"))).await, "bad_request");
    let mut ask = edits(&message);
    ask["after"] = json!("x");
    assert_eq!(ann.refused(ask).await, "cursor_invalid");
    for update in [json!({}), json!({ "edit_history": null }), json!({ "edit_history": "yes" }), json!({ "name": 7 })] {
        let mut update = update;
        update["type"] = json!("update");
        update["room"] = json!("lobby");
        assert_eq!(ann.refused(update.clone()).await, "bad_request", "{update}");
    }
}

/// What a message has said, read page by page, none of them too large.
async fn versions(client: &mut Client, mut ask: Value) -> Vec<String> {
    let mut said = Vec::new();
    loop {
        let page = client.ask(ask.clone()).await;
        let versions = page["versions"].as_array().unwrap();
        let text = |version: &Value| version["content"]["text"].as_str().unwrap().to_owned();
        assert!(versions.iter().map(|version| text(version).len()).sum::<usize>() <= 150_000);
        said.extend(versions.iter().map(text));
        if page["after"] == Value::Null {
            return said;
        }
        ask["after"] = page["after"].clone();
    }
}

fn edits(message: &Value) -> Value {
    json!({ "type": "edits", "room": "lobby", "message": message })
}

fn show_edits(shown: bool) -> Value {
    json!({ "type": "update", "room": "lobby", "edit_history": shown })
}

/// The messages that the pages say to have been edited, each page with no more than an answer may hold.
async fn by_pages(client: &mut Client, mut ask: Value, on: &str) -> Vec<Value> {
    let mut seen = Vec::new();
    loop {
        let page = client.ask(ask.clone()).await;
        let edited = page["edited"].as_array().cloned().unwrap_or_default();
        assert!(edited.len() <= 8, "{} of 30,000 bytes in one answer", edited.len());
        seen.extend(edited.iter().map(|edited| edited["message"].clone()));
        if page[on] == Value::Null {
            return seen;
        }
        ask[on] = page[on].clone();
    }
}

fn edit(message: &Value, text: &str) -> Value {
    json!({ "type": "edit", "room": "lobby", "message": message, "content": { "text": text } })
}
