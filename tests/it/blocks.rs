//! Users who want to hear nothing from each other.

use std::sync::Arc;

use bytes::Bytes;
use chinwag::domain::{StreamId, TenantId, UserId};
use chinwag::store::memory::MemoryStore;
use chinwag::store::{Commit, Put, Store, rows};
use serde_json::{Value, json};

use crate::harness::{Setup, TestServer, post};

fn direct(other: &str) -> Value {
    json!({ "type": "create", "kind": "direct", "members": [{ "user": other }] })
}

fn block(user: &str) -> Value {
    json!({ "type": "block", "user": user })
}

#[tokio::test]
async fn nothing_more_is_said_between_two_of_whom_one_has_blocked_the_other_also_after_a_restart() {
    let store = MemoryStore::new();
    let setup = || Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() };
    let room = {
        let mut server = TestServer::with(setup());
        let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
        let mut again = server.client("ann").await;
        again.hears_back().await;
        let room = ann.ask(direct("bob")).await["room"].as_str().unwrap().to_owned();
        bob.ask(post(&room, "hi")).await;
        ann.ask(block("bob")).await;
        assert_eq!(again.notice("user_blocked").await["user"], "bob");
        server.stop();
        room
    };
    let server = TestServer::with(setup());
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    let typing = json!({ "type": "typing", "room": room });
    let group = json!({ "type": "create", "kind": "group", "members": [{ "user": "ann" }] });
    for ask in [post(&room, "ho"), typing.clone(), direct("ann"), group.clone()] {
        assert_eq!(bob.refused(ask.clone()).await, "blocked", "{ask}");
    }
    bob.ask(json!({ "type": "create", "kind": "channel", "alias": "his" })).await;
    let invite = json!({ "type": "invite", "room": "his", "user": "ann" });
    assert_eq!(bob.refused(invite.clone()).await, "blocked");
    assert_eq!(ann.refused(post(&room, "ho")).await, "blocked");
    assert_eq!(bob.ask(json!({ "type": "history", "room": room })).await["records"].as_array().unwrap().len(), 5);
    ann.ask(json!({ "type": "unblock", "user": "bob" })).await;
    for ask in [post(&room, "ho"), typing, direct("ann"), group, invite] {
        bob.ask(ask).await;
    }
    assert_eq!(ann.ask(json!({ "type": "blocks" })).await["users"], json!([]));
}

#[tokio::test]
async fn two_of_whom_one_has_blocked_the_other_learn_no_more_of_whether_the_other_is_there_and_how_far() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    let room = ann.ask(direct("bob")).await["room"].as_str().unwrap().to_owned();
    for client in [&mut ann, &mut bob] {
        client.ask(json!({ "type": "follow", "room": room })).await;
        client.ask(json!({ "type": "presence", "presence": "online" })).await;
    }
    let first = ann.ask(post(&room, "one")).await;
    let second = ann.ask(post(&room, "two")).await["seq"].as_u64().unwrap();
    let read = |to: u64| json!({ "type": "inbox_update", "room": room, "read_to": to });
    bob.ask(read(second - 1)).await;
    assert_eq!(ann.notice("progress").await["read_to"], second - 1);
    ann.ask(block("bob")).await;
    bob.ask(read(second)).await;
    ann.take_aside();

    let there = json!({ "type": "presences", "room": room });
    for (client, other) in [(&mut ann, "bob"), (&mut bob, "ann")] {
        let told = client.ask(there.clone()).await;
        let users = told["users"].as_array().unwrap();
        let of = users.iter().find(|user| user["user"] == other).unwrap();
        assert_eq!(of, &json!({ "user": other, "presence": "offline" }), "{told}");
        assert_eq!(told["online"], 1, "one self: {told}");
    }
    let readers = json!({ "type": "readers", "room": room, "message": first["record"] });
    assert_eq!(ann.ask(readers).await["users"][0]["read_to"], second - 1);
    ann.hears_back().await;
    assert!(ann.take_aside().iter().all(|frame| frame["type"] != "progress"), "told before, and not again");

    ann.ask(json!({ "type": "unblock", "user": "bob" })).await;
    let third = ann.ask(post(&room, "three")).await["seq"].as_u64().unwrap();
    bob.ask(read(third)).await;
    assert_eq!(ann.notice("progress").await["read_to"], third);
    assert_eq!(ann.ask(there).await["online"], 2);
}

#[tokio::test]
async fn who_was_blocked_before_there_was_a_room_makes_none() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(block("bob")).await;
    assert_eq!(bob.refused(direct("ann")).await, "blocked");
    assert_eq!(ann.refused(direct("bob")).await, "blocked");
    assert_eq!(ann.refused(block("ann")).await, "bad_request");
    let page = ann.ask(json!({ "type": "blocks", "limit": 1 })).await;
    assert_eq!((&page["users"], &page["after"]), (&json!(["bob"]), &Value::Null));
}

/// As after a kill between the two.
#[tokio::test]
async fn a_room_that_was_not_told_goes_by_the_lists_of_the_two_when_it_wakes() {
    let store = MemoryStore::new();
    let setup = || Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() };
    let room = {
        let mut server = TestServer::with(setup());
        let room = server.client("ann").await.ask(direct("bob")).await["room"].as_str().unwrap().to_owned();
        server.stop();
        room
    };
    let ann = StreamId::User(TenantId::default_tenant(), UserId::new("ann").unwrap());
    let put = Put { under: ann.clone(), key: rows::block(&UserId::new("bob").unwrap()), value: Some(Bytes::new()) };
    let store = Arc::new(store.in_epoch(MemoryStore::EPOCH));
    let head = store.head(&ann).await.unwrap();
    let commit =
        Commit { stream: ann, expected: head, records: Vec::new(), puts: vec![put], erase: Vec::new(), trim: None };
    store.commit(commit).await.unwrap();
    let server = TestServer::with(setup());
    let mut bob = server.client("bob").await;
    assert_eq!(bob.refused(post(&room, "hi")).await, "blocked");
}

/// Whichever of the two comes first, and from however many devices: in the end the room is as the list says.
#[tokio::test]
async fn a_block_and_a_room_that_are_made_at_the_same_time_meet() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let mut again = server.client("ann").await;
    for round in 0..40 {
        let name = format!("bob-{round}");
        let mut bob = server.client(&name).await;
        let made = bob.try_ask(direct("ann"));
        let blocked = ann.ask(block(&name));
        let (made, _) = tokio::join!(made, blocked);
        if made["ok"] == true {
            assert_eq!(bob.refused(post(made["room"].as_str().unwrap(), "hi")).await, "blocked", "round {round}");
        }
        let (one, two) = (block(&name), json!({ "type": "unblock", "user": name }));
        tokio::join!(ann.ask(one), again.ask(two));
        let listed = ann.ask(json!({ "type": "blocks" })).await["users"].to_string().contains(&format!("{name}\""));
        if made["ok"] == true {
            let said = bob.try_ask(post(made["room"].as_str().unwrap(), "hi")).await["ok"].clone();
            assert_eq!(said, !listed, "round {round}");
        }
    }
}

#[tokio::test]
async fn a_user_blocks_so_many_and_no_more() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    for n in 0..1_000 {
        let answer = ann.try_ask(block(&format!("u{n}"))).await;
        if answer["ok"] != true {
            assert_eq!(answer["error"]["code"], "rate_limited", "{answer}");
            tokio::time::sleep(std::time::Duration::from_millis(1_000)).await;
            ann.ask(block(&format!("u{n}"))).await;
        }
    }
    tokio::time::sleep(std::time::Duration::from_millis(1_000)).await;
    assert_eq!(ann.refused(block("one-more")).await, "too_many_blocks");
    ann.ask(block("u7")).await;
    ann.ask(json!({ "type": "unblock", "user": "u7" })).await;
    ann.ask(block("one-more")).await;
}
