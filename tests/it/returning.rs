//! Followers that come back together: what they have missed is read once for all of them, and each gets what is its own.

use serde_json::{Value, json};

use crate::harness::{Client, Setup, TestServer, create_channel, follow, join, kick, post};
use crate::review::{Gated, Shut, gated};

#[tokio::test]
async fn who_comes_back_at_once_shares_the_pages() {
    const POSTS: u64 = 298;
    let (server, store, mut ann) = lobby().await;
    server.client("bob").await.ask(join("lobby")).await;
    for n in 0..POSTS {
        ann.ask(post("lobby", &n.to_string())).await;
    }
    let last = POSTS + 3;
    let mut followers = Vec::new();
    store.shut(Shut::Pages);
    for _ in 0..20 {
        let mut bob = server.client("bob").await;
        bob.ask(follow("lobby", "start")).await;
        followers.push(bob);
    }
    store.open();
    for bob in &mut followers {
        assert!(bob.seqs_until(last).await.into_iter().eq(1..=last));
    }
    // The pages are still there for who comes a little later, also from the middle of one.
    let mut late = server.client("bob").await;
    late.ask(follow("lobby", "start")).await;
    assert!(late.seqs_until(last).await.into_iter().eq(1..=last));
    let old = ann.ask(json!({ "type": "history", "room": "lobby", "limit": 100 })).await;
    let cursor = old["records"][3]["cursor"].as_str().unwrap();
    let mut middle = server.client("bob").await;
    middle.ask(follow("lobby", cursor)).await;
    let first = old["records"][4]["seq"].as_u64().unwrap();
    assert!(middle.seqs_until(last).await.into_iter().eq(first..=last));
    assert_eq!(server.registry.metrics().page_reads.get(), 2, "256 records, and the rest");
}

#[tokio::test]
async fn who_joins_a_read_that_began_before_it_came_misses_nothing() {
    let (server, store, mut ann) = lobby().await;
    let mut live = server.client("ann").await;
    live.ask(follow("lobby", "now")).await;
    store.shut(Shut::Pages);
    let mut early = server.client("ann").await;
    early.ask(follow("lobby", "start")).await;
    ann.ask(post("lobby", "while the page is read")).await;
    live.record().await;
    // All of the thread's followers have been told of it, and nothing comes after it.
    let mut late = server.client("ann").await;
    late.ask(follow("lobby", "start")).await;
    store.open();
    assert_eq!(early.seqs_until(3).await, [1, 2, 3]);
    assert_eq!(late.seqs_until(3).await, [1, 2, 3]);
}

#[tokio::test]
async fn who_is_kicked_while_a_shared_page_is_read_gets_none_of_it_and_the_others_all() {
    let (server, store, mut ann) = lobby().await;
    let (mut bob, mut carol) = (server.client("bob").await, server.client("carol").await);
    for client in [&mut bob, &mut carol] {
        client.ask(join("lobby")).await;
    }
    store.shut(Shut::Pages);
    for client in [&mut bob, &mut carol] {
        client.ask(follow("lobby", "start")).await;
    }
    let kicked = ann.send(kick(&json!("lobby"), "bob")).await;
    assert_eq!(bob.notice("removed").await["reason"], "kicked");
    ann.reply(&kicked).await;
    ann.ask(post("lobby", "without bob")).await;
    store.open();
    assert_eq!(carol.seqs_until(6).await, [1, 2, 3, 4, 5, 6]);
    bob.hears_back().await;
    assert_eq!(bob.take_aside().iter().filter(|frame| frame["type"] == "record").count(), 0);
}

#[tokio::test]
async fn a_shared_page_ends_for_its_reader_where_its_membership_does() {
    let (server, _, mut ann) = lobby().await;
    let mut bob = server.client("bob").await;
    bob.ask(join("lobby")).await;
    let id = ann.send(kick(&json!("lobby"), "bob")).await;
    bob.hears_back().await;
    ann.reply(&id).await;
    ann.ask(post("lobby", "without bob")).await;
    bob.ask(join("lobby")).await;
    // The one has been a member all the time; the other's removal lies before its membership of now.
    for user in ["ann", "bob", "ann", "bob"] {
        let mut reader = server.client(user).await;
        reader.ask(follow("lobby", "start")).await;
        assert_eq!(reader.seqs_until(6).await, [1, 2, 3, 4, 5, 6], "{user}");
        reader.hears_back().await;
        assert!(reader.take_aside().iter().all(|frame| frame["type"] != "removed"), "{user}");
    }
    assert_eq!(server.registry.metrics().page_reads.get(), 1);
}

#[tokio::test]
async fn what_has_been_erased_is_not_in_a_page_that_was_shared_before() {
    let (server, _, mut ann) = lobby().await;
    let said = ann.ask(post("lobby", "the secret")).await;
    let texts = |frames: &[Value]| serde_json::to_string(frames).unwrap();
    for erased in [false, true] {
        if erased {
            ann.ask(json!({ "type": "delete", "room": "lobby", "message": said["record"] })).await;
        }
        for _ in 0..2 {
            let mut reader = server.client("ann").await;
            reader.ask(follow("lobby", "start")).await;
            let mut records = Vec::new();
            for _ in 0..3 + u64::from(erased) {
                records.push(reader.record().await);
            }
            assert_eq!(texts(&records).contains("the secret"), !erased);
        }
    }
}

/// A channel with two records, on a server with one thread for connections, and ann, who made it.
async fn lobby() -> (TestServer, Gated, Client) {
    let (server, store) = gated(Setup { workers: 1, ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    (server, store, ann)
}
