//! What messages say after they have been edited, for who was not there.

use std::sync::Arc;

use chinwag::store::memory::MemoryStore;
use serde_json::{Value, json};

use crate::harness::{Client, Setup, TestServer, create_channel, join, post};

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
