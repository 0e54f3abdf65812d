//! A user's inbox: what is unread, and what a room is to its user, on all devices.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chinwag::store::CommitError;
use chinwag::store::memory::{Fault, MemoryStore};
use serde_json::{Value, json};

use crate::harness::{Client, Setup, TestServer, create_channel, follow, join, kick, patiently, post};
use crate::requests::Request;

#[tokio::test]
async fn what_is_unread_follows_from_what_was_read_on_any_device() {
    let server = TestServer::start();
    let (mut ann, mut bob, mut phone) =
        (server.client("ann").await, server.client("bob").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    ann.ask(post("lobby", "before anybody came")).await;
    bob.ask(join("lobby")).await;
    assert_eq!(room(&mut bob, "lobby").await["unread"], 0, "it was said before bob came");
    ann.ask(post("lobby", "one")).await;
    let two = ann.ask(post("lobby", "two")).await;
    ann.ask(mention("lobby", "@bob three", "bob")).await;
    bob.ask(post("lobby", "my own")).await;
    let seen = room(&mut bob, "lobby").await;
    assert_eq!((&seen["unread"], &seen["mentions"], &seen["read_to"]), (&json!(3), &json!(1), &json!(0)));
    assert_eq!((&seen["last"]["text"], &seen["last"]["author"]), (&json!("my own"), &json!("bob")));
    let seen = room(&mut ann, "lobby").await;
    assert_eq!((&seen["unread"], &seen["mentions"]), (&json!(1), &json!(0)));

    let answer = bob.ask(update("lobby", json!({ "read_to": two["seq"] }))).await;
    assert_eq!((&answer["unread"], &answer["mentions"], &answer["read_to"]), (&json!(1), &json!(1), &two["seq"]));
    let told = phone.notice("inbox_updated").await;
    assert_eq!((&told["read_to"], &told["cursor"]), (&two["seq"], &answer["cursor"]));
    // What the phone says late does not take it back.
    let late = phone.ask(update("lobby", json!({ "read_to": 3 }))).await;
    assert_eq!((&late["read_to"], &late["cursor"]), (&two["seq"], &answer["cursor"]));
    ann.ask(json!({ "type": "delete", "room": "lobby", "message": two["record"] })).await;
    ann.ask(post("lobby", "four")).await;
    let three = ann.ask(post("lobby", "five")).await;
    ann.ask(json!({ "type": "delete", "room": "lobby", "message": three["record"] })).await;
    let inbox = bob.ask(json!({ "type": "inbox" })).await;
    assert_eq!((&inbox["unread"], &inbox["mentions"]), (&json!(2), &json!(1)), "{inbox}");
    assert_eq!(inbox["rooms"][0]["last"]["text"], "four");
}

#[tokio::test]
async fn an_edit_changes_who_is_mentioned() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    let message = ann.ask(post("lobby", "hello")).await["record"].clone();
    assert_eq!(room(&mut bob, "lobby").await["mentions"], 0);
    let edit = |text: &str, mentions: Value| {
        let content = json!({ "text": text });
        json!({ "type": "edit", "room": "lobby", "message": message, "content": content, "mentions": mentions })
    };
    ann.ask(edit("hello @bob", json!(["bob"]))).await;
    let seen = room(&mut bob, "lobby").await;
    assert_eq!((&seen["mentions"], &seen["last"]["text"]), (&json!(1), &json!("hello @bob")));
    ann.ask(edit("hello", json!([]))).await;
    assert_eq!(room(&mut bob, "lobby").await["mentions"], 0);
}

#[tokio::test]
async fn rooms_come_by_their_latest_message_and_pages_leave_none_out() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let mut names: Vec<String> = (0..25).map(|n| format!("room{n:02}")).collect();
    for name in &names {
        ann.ask(create_channel(name)).await;
    }
    for name in &names {
        ann.ask(post(name, "hi")).await;
    }
    // Behind all others, and before all others.
    let last = ann.ask(post("room24", "the last")).await["at"].clone();
    while ann.ask(post("room03", "again")).await["at"] == last {}
    names.retain(|name| name != "room03");
    names.push("room03".into());
    names.reverse();
    let (mut seen, mut after) = (Vec::new(), Value::Null);
    loop {
        let mut ask = json!({ "type": "inbox", "limit": 7 });
        if after != Value::Null {
            ask["after"] = after;
        }
        let page = ann.ask(ask).await;
        seen.extend(page["rooms"].as_array().unwrap().iter().map(|room| room["alias"].as_str().unwrap().to_owned()));
        after = page["after"].clone();
        if after == Value::Null {
            break;
        }
    }
    // What was said in the same millisecond is in no order that matters.
    assert_eq!(seen[0], "room03");
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    assert_eq!(sorted(seen), sorted(names));
    let all = ann.ask(json!({ "type": "inbox", "limit": 5000 })).await;
    let at = |room: &Value| room["last"]["at"].as_i64().unwrap();
    assert!(all["rooms"].as_array().unwrap().is_sorted_by(|a, b| at(a) >= at(b)));
    for limit in [0, 5001] {
        assert_eq!(ann.refused(json!({ "type": "inbox", "limit": limit })).await, "bad_request");
    }
    assert_eq!(ann.refused(json!({ "type": "inbox", "after": "zz" })).await, "bad_request");
}

#[tokio::test]
async fn what_is_put_away_muted_or_begun_is_so_on_every_device_and_after_a_restart() {
    let store = MemoryStore::new();
    let setup = || Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() };
    let cursor = {
        let mut server = TestServer::with(setup());
        let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
        for name in ["lobby", "attic", "cellar"] {
            ann.ask(create_channel(name)).await;
            bob.ask(join(name)).await;
            ann.ask(post(name, "hi")).await;
        }
        let before = bob.ask(json!({ "type": "inbox" })).await;
        assert_eq!(before["unread"], 3);
        bob.ask(update("attic", json!({ "archived": true }))).await;
        bob.ask(update("cellar", json!({ "muted_until": 9_007_199_254_740_991_i64, "pinned": true }))).await;
        bob.ask(update("lobby", json!({ "draft": "what I was about" }))).await;
        bob.ask(update("lobby", json!({ "draft": "what I was about to say" }))).await;
        server.stop();
        before["cursor"].clone()
    };
    let server = TestServer::with(setup());
    let mut bob = server.client("bob").await;
    let inbox = bob.ask(json!({ "type": "inbox" })).await;
    assert_eq!((&inbox["unread"], inbox["rooms"].as_array().unwrap().len()), (&json!(1), 2), "{inbox}");
    let rooms: BTreeMap<&str, &Value> =
        inbox["rooms"].as_array().unwrap().iter().map(|room| (room["alias"].as_str().unwrap(), room)).collect();
    assert_eq!(rooms["lobby"]["draft"], "what I was about to say");
    assert_eq!(rooms["cellar"]["pinned"], true);
    assert_eq!(rooms["cellar"]["muted_until"], 9_007_199_254_740_991_i64);
    let away = bob.ask(json!({ "type": "inbox", "archived": true })).await;
    assert_eq!(away["rooms"][0]["alias"], "attic");
    // Each room once, as it is now, in the order of the last changes.
    let changes = bob.ask(json!({ "type": "inbox_changes", "since": cursor })).await;
    let of = |changes: &Value| -> Vec<Value> {
        changes["changes"].as_array().unwrap().iter().map(|change| change["room"].clone()).collect()
    };
    let room_of = |name: &str| inbox["rooms"].as_array().unwrap().iter().find(|room| room["alias"] == name).unwrap();
    let expected =
        vec![away["rooms"][0]["room"].clone(), room_of("cellar")["room"].clone(), room_of("lobby")["room"].clone()];
    assert_eq!((of(&changes), &changes["complete"]), (expected.clone(), &json!(true)));
    assert_eq!(changes["cursor"], inbox["cursor"]);
    // By pages the same.
    let (mut paged, mut since) = (Vec::new(), cursor);
    loop {
        let page = bob.ask(json!({ "type": "inbox_changes", "since": since, "limit": 1 })).await;
        paged.extend(of(&page));
        since = page["cursor"].clone();
        if page["complete"] == true {
            break;
        }
    }
    assert_eq!((paged, &since), (expected, &inbox["cursor"]));
    // Null takes away.
    bob.ask(update("lobby", json!({ "draft": null }))).await;
    bob.ask(update("cellar", json!({ "muted_until": null, "pinned": false }))).await;
    let lobby = room(&mut bob, "lobby").await;
    let cellar = room(&mut bob, "cellar").await;
    assert_eq!(
        (&lobby["draft"], &cellar["muted_until"], &cellar["pinned"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn bad_updates_are_refused_and_change_nothing() {
    let server = TestServer::start();
    let (mut ann, mut eve) = (server.client("ann").await, server.client("eve").await);
    ann.ask(create_channel("lobby")).await;
    let head = ann.ask(post("lobby", "hi")).await["seq"].as_u64().unwrap();
    for (members, code) in [
        (json!({ "read_to": head + 1 }), "not_there_yet"),
        (json!({ "delivered_to": u64::MAX }), "not_there_yet"),
        (json!({ "read_to": -1 }), "bad_request"),
        (json!({ "read_to": "3" }), "bad_request"),
        (json!({}), "bad_request"),
        (json!({ "pinned": "yes" }), "bad_request"),
        (json!({ "muted_until": "tomorrow" }), "bad_request"),
        (json!({ "draft": "x".repeat(8 * 1024 + 1) }), "content_size"),
    ] {
        assert_eq!(ann.refused(update("lobby", members.clone())).await, code, "{members}");
    }
    assert_eq!(eve.refused(update("lobby", json!({ "pinned": true }))).await, "not_member");
    assert_eq!(eve.refused(update("nowhere", json!({ "pinned": true }))).await, "room_not_found");
    assert_eq!(eve.ask(json!({ "type": "inbox" })).await["rooms"], json!([]));
    let mine = ann.ask(json!({ "type": "inbox" })).await["cursor"].clone();
    assert_eq!(eve.refused(json!({ "type": "inbox_changes", "since": mine })).await, "cursor_foreign");
    assert_eq!(eve.refused(json!({ "type": "inbox_changes", "since": "x" })).await, "cursor_invalid");
    let changes = ann.ask(json!({ "type": "inbox_changes", "since": mine })).await;
    assert_eq!(changes["changes"], json!([]));
}

#[tokio::test]
async fn how_many_have_read_a_message_is_told_with_who_they_are() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    for n in 0..12 {
        let mut client = server.client(&format!("u{n:02}")).await;
        client.ask(join("lobby")).await;
    }
    let message = ann.ask(post("lobby", "who is there?")).await;
    let later = ann.ask(post("lobby", "nobody?")).await;
    for n in 0..9_u64 {
        let mut client = server.client(&format!("u{n:02}")).await;
        let what = match n % 3 {
            0 => json!({ "read_to": later["seq"] }),
            1 => json!({ "delivered_to": message["seq"] }),
            _ => json!({ "read_to": message["seq"].as_u64().unwrap() - 1 }),
        };
        client.ask(update("lobby", what)).await;
    }
    let readers = |message: &Value, after: Value| {
        let mut ask = json!({ "type": "readers", "room": "lobby", "message": message["record"], "limit": 5 });
        if after != Value::Null {
            ask["after"] = after;
        }
        ask
    };
    let (mut users, mut after) = (Vec::new(), Value::Null);
    loop {
        let page = ann.ask(readers(&message, after)).await;
        assert_eq!((&page["members"], &page["delivered"], &page["read"]), (&json!(12), &json!(6), &json!(3)));
        users.extend(page["users"].as_array().unwrap().clone());
        after = page["after"].clone();
        if after == Value::Null {
            break;
        }
    }
    let names: Vec<_> = users.iter().map(|user| user["user"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, (0..12).map(|n| format!("u{n:02}")).collect::<Vec<_>>());
    assert_eq!(users[3], json!({ "user": "u03", "delivered_to": later["seq"], "read_to": later["seq"] }));
    assert_eq!(users[11], json!({ "user": "u11", "delivered_to": 0, "read_to": 0 }));
    ann.ask(kick(&json!("lobby"), "u00")).await;
    let page = ann.ask(readers(&message, Value::Null)).await;
    assert_eq!((&page["members"], &page["read"]), (&json!(11), &json!(2)));
    let mut eve = server.client("eve").await;
    assert_eq!(eve.refused(readers(&message, Value::Null)).await, "not_member");
    let none = json!({ "record": "ffffffff-ffff-7fff-bfff-ffffffffffff" });
    assert_eq!(ann.refused(readers(&none, Value::Null)).await, "message_not_found");
    ann.ask(json!({ "type": "delete", "room": "lobby", "message": message["record"] })).await;
    assert_eq!(ann.refused(readers(&message, Value::Null)).await, "message_deleted");
}

#[tokio::test]
async fn many_marks_at_once_lose_none_and_every_device_hears_the_last() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    for n in 0..8 {
        ann.ask(create_channel(&format!("room{n}"))).await;
        bob.ask(join(&format!("room{n}"))).await;
        for _ in 0..20 {
            ann.ask(post(&format!("room{n}"), "hi")).await;
        }
    }
    let mut watch = server.client("bob").await;
    let since = watch.ask(json!({ "type": "inbox" })).await["cursor"].clone();
    let token = server.token("bob");
    let marks = (0..8).flat_map(|n| (1..=20).map(move |seq| (n, seq))).map(|(n, seq)| {
        let (server, token) = (&server, token.clone());
        async move {
            let request = Request::new("PATCH", &format!("/v1/rooms/room{n}/inbox")).token(&token);
            let answer = request.json(&json!({ "read_to": seq + 2 })).send(server).await;
            assert_eq!(answer.status, 200, "{}", answer.json());
        }
    });
    // As many as a user may have connections.
    let mut marks: Vec<_> = marks.collect();
    while !marks.is_empty() {
        let some = marks.split_off(marks.len().saturating_sub(8));
        futures_util::future::join_all(some).await;
    }
    let changes = watch.ask(json!({ "type": "inbox_changes", "since": since, "limit": 100 })).await;
    let read: Vec<_> = changes["changes"].as_array().unwrap().iter().map(|change| change["read_to"].clone()).collect();
    assert_eq!(read, vec![json!(22); 8]);
    let mut heard = BTreeMap::new();
    patiently(async {
        while heard.len() < 8 || heard.values().any(|read| *read != json!(22)) {
            let told = watch.notice("inbox_updated").await;
            let before = heard.insert(told["room"].clone().to_string(), told["read_to"].clone());
            assert!(before.is_none_or(|before| before.as_u64() < told["read_to"].as_u64()));
        }
    })
    .await;
}

#[tokio::test]
async fn a_message_to_ten_thousand_members_is_one_commit_of_nothing_but_itself() {
    let store = MemoryStore::new();
    let (commits, puts) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let server = TestServer::with(Setup { store: Arc::new(store.clone()), ..Setup::default() });
    let mut ann = server.client("ann").await;
    let members: Vec<_> = (1..10_000).map(|n| json!({ "user": format!("u{n}") })).collect();
    let body = json!({ "kind": "canvas", "alias": "lobby", "members": members });
    let made = Request::new("POST", "/v1/rooms").token(&server.token("ann")).json(&body).send(&server).await;
    assert_eq!(made.status, 201);
    let (calls, rows) = (Arc::clone(&commits), Arc::clone(&puts));
    store.faults().when(Fault::Fail(CommitError::Failed), move |commit| {
        calls.fetch_add(1, Ordering::SeqCst);
        rows.fetch_add(commit.puts.len(), Ordering::SeqCst);
        false
    });
    ann.ask(post("lobby", "hello all of you")).await;
    let counted = (commits.load(Ordering::SeqCst), puts.load(Ordering::SeqCst));
    assert_eq!(counted, (1, 0), "commits, and rows in them");
    let mut one = server.client("u7").await;
    assert_eq!(room(&mut one, "lobby").await["unread"], 1);
}

#[tokio::test]
async fn who_was_kicked_is_shown_nothing_more_of_the_room() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    bob.ask(follow("lobby", "now")).await;
    ann.ask(post("lobby", "secret")).await;
    assert_eq!(room(&mut bob, "lobby").await["last"]["text"], "secret");
    ann.ask(kick(&json!("lobby"), "bob")).await;
    assert_eq!(bob.ask(json!({ "type": "inbox" })).await["rooms"], json!([]));
    assert_eq!(bob.refused(update("lobby", json!({ "read_to": 1 }))).await, "not_member");
    // What was read of it counts again for who comes back.
    bob.ask(join("lobby")).await;
    assert_eq!(room(&mut bob, "lobby").await["unread"], 0);
}

#[tokio::test]
async fn who_reads_in_private_is_not_told_of_but_to_his_own_devices() {
    let store = MemoryStore::new();
    let setup = || Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() };
    let readers = |message: &Value| json!({ "type": "readers", "room": "lobby", "message": message });
    let message = {
        let mut server = TestServer::with(setup());
        let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
        let mut phone = server.client("bob").await;
        ann.ask(create_channel("lobby")).await;
        bob.ask(join("lobby")).await;
        ann.ask(follow("lobby", "now")).await;
        let message = ann.ask(post("lobby", "hi")).await;
        bob.ask(update("lobby", json!({ "read_to": 2 }))).await;
        assert_eq!(ann.notice("progress").await["read_to"], 2);
        assert_eq!(bob.ask(json!({ "type": "settings" })).await["private_reading"], false);
        bob.ask(json!({ "type": "settings_update", "private_reading": true })).await;
        let read = bob.ask(update("lobby", json!({ "read_to": message["seq"] }))).await;
        assert_eq!((&read["unread"], &read["read_to"]), (&json!(0), &message["seq"]));
        while phone.notice("inbox_updated").await["read_to"] != message["seq"] {}
        let told = ann.notice("progress").await;
        assert_eq!((&told["delivered_to"], &told["read_to"]), (&message["seq"], &json!(2)));
        server.stop();
        message["record"].clone()
    };
    let server = TestServer::with(setup());
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    assert_eq!(bob.ask(json!({ "type": "settings" })).await["private_reading"], true);
    let seen = ann.ask(readers(&message)).await;
    assert_eq!((&seen["delivered"], &seen["read"], &seen["users"][0]["read_to"]), (&json!(1), &json!(0), &json!(2)));
    // From the next word on others know again.
    bob.ask(json!({ "type": "settings_update", "private_reading": false })).await;
    let later = ann.ask(post("lobby", "still there?")).await;
    bob.ask(update("lobby", json!({ "read_to": later["seq"] }))).await;
    assert_eq!(ann.ask(readers(&message)).await["read"], 1);
    assert_eq!(bob.refused(json!({ "type": "settings_update" })).await, "bad_request");
}

#[tokio::test]
async fn a_message_is_hidden_from_one_user_on_all_devices_and_from_nobody_else() {
    let store = MemoryStore::new();
    let setup = || Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() };
    let hide = |message: &Value, kind: &str| json!({ "type": kind, "room": "lobby", "message": message });
    let history = json!({ "type": "history", "room": "lobby" });
    let [first, last] = {
        let mut server = TestServer::with(setup());
        let (mut ann, mut bob, mut eve) =
            (server.client("ann").await, server.client("bob").await, server.client("eve").await);
        let mut phone = server.client("bob").await;
        ann.ask(create_channel("lobby")).await;
        bob.ask(join("lobby")).await;
        let first = ann.ask(post("lobby", "first")).await["record"].clone();
        let last = ann.ask(post("lobby", "last")).await["record"].clone();
        bob.ask(hide(&last, "hide")).await;
        let told = phone.notice("message_hidden").await;
        assert_eq!((&told["message"], &told["hidden"]), (&last, &json!(true)));
        bob.ask(hide(&first, "hide")).await;
        assert_eq!(eve.refused(hide(&first, "hide")).await, "not_member");
        assert_eq!(
            bob.refused(hide(&json!("ffffffff-ffff-7fff-bfff-ffffffffffff"), "hide")).await,
            "message_not_found"
        );
        server.stop();
        [first, last]
    };
    let server = TestServer::with(setup());
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    assert_eq!(bob.ask(history.clone()).await["hidden"], json!([first, last]));
    assert_eq!(ann.ask(history.clone()).await["hidden"], Value::Null);
    assert_eq!(room(&mut bob, "lobby").await["last"], Value::Null);
    assert_eq!(room(&mut ann, "lobby").await["last"]["text"], "last");
    let page = bob.ask(json!({ "type": "hidden", "room": "lobby", "limit": 1 })).await;
    assert_eq!((&page["messages"], &page["after"]), (&json!([first]), &first));
    let rest = bob.ask(json!({ "type": "hidden", "room": "lobby", "after": first })).await;
    assert_eq!((&rest["messages"], &rest["after"]), (&json!([last]), &Value::Null));
    bob.ask(hide(&last, "unhide")).await;
    assert_eq!(bob.ask(history).await["hidden"], json!([first]));
    assert_eq!(room(&mut bob, "lobby").await["last"]["text"], "last");
}

fn with(mut members: Value, kind: &str) -> Value {
    members["type"] = json!(kind);
    members
}

fn update(room: &str, mut members: Value) -> Value {
    members["room"] = json!(room);
    with(members, "inbox_update")
}

fn mention(room: &str, text: &str, user: &str) -> Value {
    json!({ "type": "post", "room": room, "content": { "text": text }, "mentions": [user] })
}

/// A room in the list of a user's rooms.
async fn room(client: &mut Client, alias: &str) -> Value {
    let inbox = client.ask(json!({ "type": "inbox" })).await;
    inbox["rooms"].as_array().unwrap().iter().find(|room| room["alias"] == alias).unwrap().clone()
}
