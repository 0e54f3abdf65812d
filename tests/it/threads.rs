//! Messages that answer one another, and how a thread is found again.

use std::sync::Arc;

use chinwag::store::memory::MemoryStore;
use serde_json::{Value, json};

use crate::harness::{Client, Setup, TestServer, create_channel, follow, join, kick, post};
use crate::tenants::Counting;

#[tokio::test]
async fn a_long_thread_is_read_by_pages_without_what_lies_between() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let root = ann.ask(post("lobby", "root")).await["record"].clone();
    let mut expected = Vec::new();
    let mut last = root.clone();
    for n in 0..120 {
        // Each second one answers the answer before it.
        let to = if n % 2 == 0 { &root } else { &last };
        let answered = ann.ask(answer(&format!("answer {n}"), to)).await;
        last = answered["record"].clone();
        expected.push(answered["seq"].clone());
        ann.ask(post("lobby", "something else")).await;
    }
    let (mut found, mut after, mut pages) = (Vec::new(), Value::Null, 0);
    loop {
        let mut ask = thread(&root);
        if after != Value::Null {
            ask["after"] = after;
        }
        let page = ann.ask(ask).await;
        assert_eq!(page["thread"], root);
        for record in page["records"].as_array().unwrap() {
            assert_eq!(record["reply_to"]["thread"], root);
            found.push(record["seq"].clone());
        }
        pages += 1;
        after = page["after"].clone();
        if after == Value::Null {
            break;
        }
    }
    assert_eq!((found, pages), (expected, 3), "50 a page");
}

#[tokio::test]
async fn a_page_of_a_thread_is_one_read_of_its_records() {
    let store = Arc::new(Counting::default());
    let server = TestServer::with(Setup { store: store.clone(), ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let root = ann.ask(post("lobby", "root")).await["record"].clone();
    for n in 0..20 {
        ann.ask(answer(&format!("answer {n}"), &root)).await;
    }
    store.take();
    assert_eq!(ann.ask(thread(&root)).await["records"].as_array().unwrap().len(), 20);
    let records = store.take().into_iter().filter(|read| ["read", "read_back", "records_at"].contains(read));
    assert_eq!(records.collect::<Vec<_>>(), ["records_at"; 2], "the root, and the page");
}

#[tokio::test]
async fn a_page_of_long_answers_ends_before_it_is_too_large() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let root = ann.ask(post("lobby", "root")).await["record"].clone();
    for _ in 0..12 {
        ann.ask(answer(&"x".repeat(30_000), &root)).await;
    }
    let mut seen = 0;
    let mut ask = thread(&root);
    loop {
        let page = ann.ask(ask.clone()).await;
        let records = page["records"].as_array().unwrap().len();
        assert!((1..=5).contains(&records), "{records} in a page");
        seen += records;
        if page["after"] == Value::Null {
            break;
        }
        ask["after"] = page["after"].clone();
    }
    assert_eq!(seen, 12);
}

#[tokio::test]
async fn what_answers_what_is_known_after_a_restart() {
    let store = MemoryStore::new();
    let setup = || Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() };
    let (root, second) = {
        let mut server = TestServer::with(setup());
        let mut ann = server.client("ann").await;
        ann.ask(create_channel("lobby")).await;
        let root = ann.ask(post("lobby", "root")).await["record"].clone();
        let second = ann.ask(answer("an answer", &root)).await["record"].clone();
        // What has been edited is known by a row, not by its record.
        ann.ask(json!({ "type": "edit", "room": "lobby", "message": second, "content": { "text": "edited" } })).await;
        server.stop();
        (root, second)
    };
    let server = TestServer::with(setup());
    let mut ann = server.client("ann").await;
    ann.ask(follow("lobby", "now")).await;
    ann.ask(answer("an answer to the answer", &second)).await;
    let record = ann.record().await;
    assert_eq!(record["reply_to"], json!({ "message": second, "by": "ann", "thread": root }));
    assert_eq!(ann.ask(thread(&root)).await["records"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_same_client_id_with_another_answer_or_other_mentions_is_something_else() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    let root = ann.ask(post("lobby", "root")).await["record"].clone();
    let mut first = answer("yes", &root);
    first["client_id"] = json!("c-1");
    first["mentions"] = json!(["bob", "ann"]);
    let posted = ann.ask(first.clone()).await;
    let mut again = first.clone();
    again["mentions"] = json!(["ann", "bob", "ann"]);
    let repeated = ann.ask(again).await;
    assert_eq!((&repeated["duplicate"], &repeated["record"]), (&json!(true), &posted["record"]));
    for (member, other) in [("reply_to", posted["record"].clone()), ("mentions", json!(["bob"]))] {
        let mut changed = first.clone();
        changed[member] = other;
        assert_eq!(ann.refused(changed).await, "client_id_reused", "{member}");
    }
}

#[tokio::test]
async fn a_thread_is_for_members_and_begins_with_a_record_of_the_room() {
    let server = TestServer::start();
    let (mut ann, mut bob, mut eve) =
        (server.client("ann").await, server.client("bob").await, server.client("eve").await);
    ann.ask(create_channel("lobby")).await;
    ann.ask(create_channel("attic")).await;
    bob.ask(join("lobby")).await;
    let root = ann.ask(post("lobby", "root")).await["record"].clone();
    let elsewhere = ann.ask(post("attic", "root")).await["record"].clone();
    ann.ask(answer("yes", &root)).await;
    assert_eq!(bob.ask(thread(&root)).await["records"].as_array().unwrap().len(), 1);
    assert_eq!(eve.refused(thread(&root)).await, "not_member");
    ann.ask(kick(&json!("lobby"), "bob")).await;
    assert_eq!(bob.refused(thread(&root)).await, "not_member");
    let group = ann.ask(json!({ "type": "create", "kind": "group" })).await["room"].clone();
    let mut in_group = thread(&root);
    in_group["room"] = group;
    assert_eq!(eve.refused(in_group.clone()).await, "room_not_found");
    assert_eq!(ann.refused(in_group).await, "message_not_found");
    for message in
        [&elsewhere, &json!("00000000-0000-7000-8000-000000000000"), &json!("ffffffff-ffff-7fff-bfff-ffffffffffff")]
    {
        assert_eq!(ann.refused(thread(message)).await, "message_not_found", "{message}");
        assert_eq!(ann.refused(answer("yes", message)).await, "message_not_found", "{message}");
    }
    assert_eq!(ann.refused(thread(&json!("lobby"))).await, "bad_request");
    for (after, code) in [("x", "cursor_invalid"), ("", "cursor_invalid")] {
        let mut ask = thread(&root);
        ask["after"] = json!(after);
        assert_eq!(ann.refused(ask).await, code, "{after}");
    }
    hostile_mentions(&mut ann).await;
}

async fn hostile_mentions(ann: &mut Client) {
    for mentions in [json!("ann"), json!([1]), json!([["ann"]]), json!(["a b"]), json!([""]), json!({ "ann": true })] {
        let mut ask = post("lobby", "hi");
        ask["mentions"] = mentions.clone();
        assert_eq!(ann.refused(ask).await, "bad_request", "{mentions}");
    }
    let mut many = post("lobby", "hi");
    many["mentions"] = json!(vec!["ann"; 101]);
    assert_eq!(ann.refused(many.clone()).await, "bad_request");
    many["mentions"] = json!(vec!["ann"; 100]);
    assert_eq!(ann.ask(many).await["ok"], true);
}

fn answer(text: &str, to: &Value) -> Value {
    let mut answer = post("lobby", text);
    answer["reply_to"] = to.clone();
    answer
}

fn thread(root: &Value) -> Value {
    json!({ "type": "thread", "room": "lobby", "message": root })
}
