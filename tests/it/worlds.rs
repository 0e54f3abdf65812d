//! A user's whole world on one connection: all rooms, those of later too, under one cursor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chinwag::domain::world::EXCEPTIONS_MAX;
use chinwag::domain::{Epoch, Event, Position, Record, RoomEvent, RoomId, RoomKey, Seq, TenantId};
use chinwag::store::memory::MemoryStore;
use chinwag::store::{Commit, Store};
use chinwag::wire::world_cursor;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Client, Setup, TestServer, create_channel, follow, join, kick, patiently, post};
use crate::review::{Shut, gated};
use crate::support::listeners::{Events, Http};

const WORLD: &str = "/v1/events";

#[tokio::test]
async fn rooms_that_are_gained_come_by_themselves_and_those_that_are_lost_end() {
    let server = TestServer::start();
    let (mut ann, mut bob, mut desk) =
        (server.client("ann").await, server.client("bob").await, server.client("bob").await);
    for room in ["green", "blue"] {
        ann.ask(create_channel(room)).await;
        ann.ask(post(room, "before bob")).await;
    }
    bob.ask(join("green")).await;
    let reply = desk.ask(follow_all("now")).await;
    assert_eq!(reply["rooms"], 1);
    ann.ask(post("green", "to whoever is there")).await;
    assert_eq!(desk.record().await["content"]["text"], "to whoever is there");

    bob.ask(join("blue")).await;
    ann.ask(post("blue", "welcome")).await;
    assert_eq!(desk.notice("room_gained").await["standing"], "member");
    assert_eq!(desk.record().await["event"], "member_joined", "a room begins with the membership");
    assert_eq!(desk.record().await["content"]["text"], "welcome");

    bob.ask(json!({ "type": "leave", "room": "blue" })).await;
    ann.ask(post("blue", "without bob")).await;
    assert_eq!(desk.record().await["event"], "member_left");
    assert_eq!(desk.notice("removed").await["reason"], "left");
    desk.notice("room_lost").await;

    bob.ask(join("blue")).await;
    ann.ask(post("blue", "welcome back")).await;
    assert_eq!(desk.record().await["event"], "member_joined");
    assert_eq!(desk.record().await["content"]["text"], "welcome back");
    ann.ask(post("green", "and here")).await;
    assert_eq!(desk.record().await["content"]["text"], "and here");
    assert!(desk.take_aside().iter().all(|frame| frame["type"] != "gap"), "who saw it live has been told");
}

#[tokio::test]
async fn the_cursor_of_every_record_goes_on_right_behind_it_in_either_notation() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let rooms = ["red", "green", "blue"];
    for room in rooms {
        ann.ask(create_channel(room)).await;
    }
    let mut packed = server.client_with(&server.token("ann"), Some("chinwag.v1.msgpack")).await;
    ann.ask(follow_all("start")).await;
    packed.ask(follow_all("start")).await;
    for n in 0..12 {
        ann.ask(post(rooms[n % 3], &n.to_string())).await;
    }
    let mut seen = Vec::new();
    for client in [&mut ann, &mut packed] {
        for _ in 0..15 {
            seen.push(client.record().await);
        }
    }
    let all: Vec<_> = seen[..15].to_vec();
    let key = |record: &Value| (record["room"].to_string(), record["seq"].as_u64().unwrap());
    assert_eq!(sorted(seen[15..].iter().map(key)), sorted(all.iter().map(key)));
    for (n, record) in all.iter().enumerate() {
        let mut again = server.client("ann").await;
        again.ask(follow_all(record["world"].as_str().expect("a record tells its place in the world"))).await;
        let mut rest = Vec::new();
        for _ in n + 1..15 {
            rest.push(key(&again.record().await));
        }
        assert_eq!(sorted(rest.into_iter()), sorted(all[n + 1..].iter().map(key)), "after record {n}");
        ann.hears_back().await;
        assert!(again.take_aside().iter().all(|frame| frame["type"] != "record"));
    }
}

#[tokio::test]
async fn a_stream_that_has_shown_nothing_is_resumed_on_another_server_over_the_same_log() {
    let store = MemoryStore::new();
    let mut server = TestServer::with(Setup { store: Arc::new(store.clone()), ..Setup::default() });
    {
        let mut ann = server.client("ann").await;
        ann.ask(create_channel("lobby")).await;
        ann.ask(post("lobby", "before")).await;
    }
    let mut events = Events::open(server.address, &server.token("ann"), WORLD, None).await.unwrap();
    let hello = events.next().await.unwrap();
    assert_eq!((&*hello.name, hello.json()["rooms"].as_u64()), ("hello", Some(1)));
    assert_eq!(hello.json()["cursor"].as_str(), hello.id.as_deref());
    server.stop();

    let again = Arc::new(store.in_epoch(MemoryStore::EPOCH));
    let server = TestServer::with(Setup { store: again, ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(post("lobby", "while away")).await;
    let mut events = Events::open(server.address, &server.token("ann"), WORLD, hello.id.as_deref()).await.unwrap();
    assert_eq!(events.next().await.unwrap().id, hello.id, "it stands where it stood");
    ann.ask(post("lobby", "since")).await;
    for expected in ["while away", "since"] {
        let event = events.next().await.unwrap();
        assert_eq!((&*event.name, &event.json()["content"]["text"]), ("record", &json!(expected)));
        assert_ne!(event.id.as_deref(), event.json()["cursor"].as_str(), "its id is the place in the world");
    }
}

#[tokio::test]
async fn a_stream_of_a_world_is_told_of_invitations_and_of_rooms_gained() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let room = ann.ask(json!({ "type": "create", "kind": "group" })).await["room"].clone();
    let mut events = Events::open(server.address, &server.token("bob"), WORLD, None).await.unwrap();
    assert_eq!(events.next().await.unwrap().name, "hello");
    ann.ask(json!({ "type": "invite", "room": room, "user": "bob" })).await;
    let invited = events.next().await.unwrap();
    assert_eq!((&*invited.name, &invited.json()["standing"]), ("room_gained", &json!("invited")));
    server.client("bob").await.ask(json!({ "type": "join", "room": room })).await;
    let mut told = Vec::new();
    while told.len() < 2 {
        told.push(events.next().await.unwrap().name);
    }
    told.sort();
    assert_eq!(told, ["record", "room_gained"]);
}

#[tokio::test]
async fn whoever_comes_back_at_random_has_every_record_of_every_room_once_and_in_order() {
    const ROOMS: usize = 300;
    const POSTS: usize = 3_000;
    let store = MemoryStore::new();
    let server = TestServer::with(Setup { store: Arc::new(store.clone()), ..Setup::default() });
    let mut ann = server.client("ann").await;
    let rooms = create_rooms(&mut ann, ROOMS).await;

    let publishing = tokio::spawn(async move {
        let mut random = Random(7);
        let mut sent = Vec::new();
        for n in 0..POSTS {
            // Now everywhere, now in a few rooms.
            let among = if n / 500 % 2 == 0 { ROOMS } else { 5 };
            sent.push(ann.send(post(&rooms[random.below(among)], "a word")).await);
            if sent.len() > 40 {
                ann.reply(&sent.remove(0)).await;
            }
        }
        for id in sent {
            assert_eq!(ann.reply(&id).await["ok"], true);
        }
        rooms
    });
    let total = ROOMS + POSTS;
    let token = server.token("ann");
    let reading = (1..=3).map(|seed| come_and_go(&server, &token, seed, total));
    let lists = patiently(futures_util::future::join_all(reading)).await;
    let rooms = patiently(publishing).await.unwrap();
    for room in &rooms {
        // The room's first record comes before the membership of who made it.
        let log = store.read(&key(room).stream(), Seq(1), POSTS).await.unwrap();
        let expected: Vec<u64> = log.records.iter().map(|record| record.position.seq.0).collect();
        for list in &lists {
            assert_eq!(list.get(room), Some(&expected), "{room}");
        }
    }
}

/// Reads a world by many connections, each for a random while, until `total` records have come.
async fn come_and_go(server: &TestServer, token: &str, seed: u64, total: usize) -> BTreeMap<String, Vec<u64>> {
    let mut random = Random(seed);
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let (mut count, mut cursor) = (0, None::<String>);
    while count < total {
        let path = if cursor.is_none() { "/v1/events?after=start" } else { WORLD };
        let mut events = Events::open(server.address, token, path, cursor.as_deref()).await.expect("it is ours");
        let mut left = 1 + random.below(400);
        while left > 0 && count < total {
            let event = events.next().await.expect("the stream goes on");
            cursor = event.id.clone().or(cursor);
            assert!(cursor.as_ref().is_some_and(|cursor| cursor.len() <= world_cursor::TEXT_BYTES_MAX));
            if event.name == "record" {
                let record = event.json();
                let room = record["room"].as_str().unwrap().to_owned();
                seen.entry(room).or_default().push(record["seq"].as_u64().unwrap());
                (left, count) = (left - 1, count + 1);
            }
        }
    }
    seen
}

#[tokio::test]
async fn a_world_that_is_not_read_goes_on_where_it_was() {
    // So few that all may be exceptions, and so many that there have to be passes.
    for rooms in [40, 100] {
        lag_and_come_back(rooms, 1_200).await;
    }
}

/// A stream is not read while there is much talk, then for a while, and then another one goes on.
async fn lag_and_come_back(rooms: usize, posts: usize) {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let rooms = create_rooms(&mut ann, rooms).await;
    let token = server.token("ann");
    let mut events = Events::open_narrow(server.address, &token, WORLD).await;
    events.next().await.expect("a stream begins with a word");
    let filler = "x".repeat(2_000);
    for n in 0..posts {
        ann.ask(post(&rooms[n * 7 % rooms.len()], &filler)).await;
    }
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for count in 1..=posts {
        let event = events.next().await.expect("the stream goes on");
        let record = event.json();
        seen.entry(record["room"].to_string()).or_default().push(record["seq"].as_u64().unwrap());
        if count == posts / 2 {
            events = Events::open(server.address, &token, WORLD, event.id.as_deref()).await.unwrap();
            events.next().await.expect("a stream begins with a word");
        }
    }
    assert_eq!(seen.len(), rooms.len());
    for (room, seqs) in seen {
        assert_eq!(seqs, (3..3 + seqs.len() as u64).collect::<Vec<_>>(), "{room}");
    }
}

#[tokio::test]
async fn nothing_is_handed_over_between_the_mark_of_a_pass_and_its_beginning() {
    let (server, gate) = gated(Setup::default());
    let (mut ann, mut listener) = (server.client("ann").await, server.client("ann").await);
    let rooms = create_rooms(&mut ann, EXCEPTIONS_MAX + 1).await;
    // What room is meant is looked up now, so that nothing of it is read later.
    ann.ask(post(&rooms[EXCEPTIONS_MAX], "a word")).await;
    listener.ask(follow_all("now")).await;
    for room in &rooms[..EXCEPTIONS_MAX] {
        ann.ask(post(room, "an exception")).await;
        listener.record().await;
    }
    let ids: Vec<_> = rooms.iter().map(String::as_str).collect();
    gate.shut(Shut::Everything);
    ann.ask(post(ids[EXCEPTIONS_MAX], "one too many")).await;
    for _ in 0..3 {
        listener.hears_back().await;
    }
    for room in &ids[..EXCEPTIONS_MAX] {
        ann.ask(post(room, "meanwhile")).await;
    }
    listener.hears_back().await;
    gate.open();
    for _ in 0..=EXCEPTIONS_MAX {
        listener.record().await;
    }
    ann.ask(post(ids[0], "first behind")).await;
    let cursor = listener.record().await["world"].as_str().unwrap().to_owned();
    let mut again = server.client("ann").await;
    again.ask(follow_all(&cursor)).await;
    ann.ask(post(ids[0], "second behind")).await;
    assert_eq!(again.record().await["content"]["text"], "second behind");
}

#[tokio::test]
async fn a_pass_reads_what_no_publication_has_told_of_yet() {
    let store = MemoryStore::new();
    let server = TestServer::with(Setup { store: Arc::new(store.clone()), ..Setup::default() });
    let (mut ann, mut listener) = (server.client("ann").await, server.client("ann").await);
    let rooms = create_rooms(&mut ann, EXCEPTIONS_MAX + 2).await;
    let (quiet, others) = rooms.split_first().unwrap();
    listener.ask(follow_all("now")).await;
    // Committed, and its publication is still to come.
    let stream = key(quiet).stream();
    let page = store.read(&stream, Seq(1), 1).await.unwrap();
    let (last, head) = (page.records[0].clone(), page.records[0].position);
    let next = Position { seq: head.seq.next(), ..head };
    let record = Record { position: next, event: Event::Room(RoomEvent::RoomArchived), ..last };
    let commit =
        Commit { stream, expected: Some(head), records: vec![record], puts: Vec::new(), erase: Vec::new(), trim: None };
    store.commit(commit).await.unwrap();
    for room in others {
        ann.ask(post(room, "a word")).await;
    }
    let mut told = BTreeSet::new();
    while told.len() < rooms.len() {
        told.insert(listener.record().await["room"].to_string());
    }
}

#[tokio::test]
async fn a_kick_is_a_barrier_in_a_world_too() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    for room in ["green", "blue"] {
        ann.ask(create_channel(room)).await;
        bob.ask(join(room)).await;
    }
    bob.ask(follow_all("now")).await;
    let mut stream = Events::open(server.address, &server.token("bob"), WORLD, None).await.unwrap();
    let hello = stream.next().await.unwrap();
    let kicked = ann.send(kick(&json!("green"), "bob")).await;
    let after = ann.send(post("green", "without bob")).await;
    assert_eq!(ann.reply(&kicked).await["ok"], true);
    ann.reply(&after).await;
    ann.ask(post("blue", "with bob")).await;
    assert_eq!(bob.record().await["event"], "member_kicked");
    assert_eq!(bob.record().await["content"]["text"], "with bob");
    assert_eq!(bob.notice("removed").await["reason"], "kicked");
    let mut text = String::new();
    while let Some(event) = stream.next().await {
        text.push_str(&event.data);
    }
    assert!(!text.contains("without bob"), "a stream ends with a removal");
    let mut stream = Events::open(server.address, &server.token("bob"), WORLD, hello.id.as_deref()).await.unwrap();
    assert_eq!(stream.next().await.unwrap().json()["rooms"], 1);
    assert_eq!(stream.next().await.unwrap().json()["content"]["text"], "with bob", "it goes on with what is left");
}

#[tokio::test]
async fn who_comes_back_into_a_room_is_told_what_is_passed_over() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    let cursor = bob.ask(follow_all("now")).await["cursor"].as_str().unwrap().to_owned();
    bob.ask(json!({ "type": "unfollow_all" })).await;
    let left = bob.ask(json!({ "type": "leave", "room": "lobby" })).await["seq"].as_u64().unwrap();
    ann.ask(post("lobby", "without bob")).await;
    let joined = bob.ask(join("lobby")).await["seq"].as_u64().unwrap();
    bob.ask(follow_all(&cursor)).await;
    let gap = bob.notice("gap").await;
    assert_eq!((&gap["from"], &gap["to"]), (&json!(left), &json!(joined - 1)));
    assert_eq!(gap["reason"], "not_member");
    assert_eq!(bob.record().await["seq"], joined);
    assert!(bob.take_aside().iter().all(|frame| frame["type"] != "record"));
}

#[tokio::test]
async fn only_ones_own_cursor_of_everything_is_taken() {
    let store = MemoryStore::new();
    let server = TestServer::with(Setup { store: Arc::new(store.clone()), ..Setup::default() });
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    let of_room = ann.ask(create_channel("lobby")).await["cursor"].as_str().unwrap().to_owned();
    let world = ann.ask(follow_all("now")).await["cursor"].as_str().unwrap().to_owned();
    ann.ask(json!({ "type": "unfollow_all" })).await;
    assert_eq!(bob.refused(follow_all(&world)).await, "cursor_invalid");
    let elsewhere = server.token_in("elsewhere", "ann", Duration::from_secs(60));
    let mut stranger = server.client_with(&elsewhere, None).await;
    assert_eq!(stranger.refused(follow_all(&world)).await, "cursor_invalid");
    assert_eq!(ann.refused(follow_all(&of_room)).await, "cursor_foreign");
    assert_eq!(ann.refused(follow_all("nonsense")).await, "cursor_invalid");
    assert_eq!(ann.refused(follow("lobby", &world)).await, "cursor_foreign");
    for (user, cursor, code) in [("bob", &world, "cursor_invalid"), ("ann", &of_room, "cursor_foreign")] {
        let refused = Events::open(server.address, &server.token(user), WORLD, Some(cursor)).await;
        let Err(refused) = refused else { panic!("{user} is let in") };
        assert_eq!(refused.refusal(), (400, code.to_owned()));
    }
    drop((ann, bob, stranger, server));

    let lossy = Arc::new(store.in_epoch(Epoch(MemoryStore::EPOCH.0 + (1 << 32))));
    let server = TestServer::with(Setup { store: lossy, ..Setup::default() });
    let mut ann = server.client("ann").await;
    assert_eq!(ann.refused(follow_all(&world)).await, "epoch_changed");
}

#[tokio::test]
async fn a_connection_follows_rooms_or_everything_and_not_both() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    ann.ask(follow("lobby", "now")).await;
    assert_eq!(ann.refused(follow_all("now")).await, "follow_mixed");
    ann.ask(json!({ "type": "unfollow", "room": "lobby" })).await;
    let first = ann.ask(follow_all("now")).await["cursor"].as_str().unwrap().to_owned();
    assert_eq!(ann.refused(follow("lobby", "now")).await, "follow_mixed");
    ann.ask(post("lobby", "once")).await;
    // A second one takes the place of the first.
    ann.ask(follow_all(&first)).await;
    ann.ask(json!({ "type": "unfollow_all" })).await;
    assert_eq!(ann.refused(json!({ "type": "unfollow_all" })).await, "not_following");
    ann.take_aside();
    ann.ask(post("lobby", "to nobody")).await;
    ann.ask(follow("lobby", "now")).await;
    assert!(ann.take_aside().iter().all(|frame| frame["type"] != "record"), "what was ended has ended");
}

#[tokio::test]
async fn a_cursor_stays_short_however_many_rooms_are_spoken_in() {
    const ROOMS: usize = 200;
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let rooms = create_rooms(&mut ann, ROOMS).await;
    let mut listener = server.client("ann").await;
    let start = listener.ask(follow_all("now")).await["cursor"].as_str().unwrap().len();
    assert!(start < 60);
    let mut lengths = Vec::new();
    for room in &rooms {
        ann.ask(post(room, "a word")).await;
        let record = listener.record().await;
        assert_eq!(record["room"].as_str(), Some(&**room));
        lengths.push(record["world"].as_str().unwrap().len());
    }
    assert!(lengths.iter().all(|length| *length <= world_cursor::TEXT_BYTES_MAX));
    assert!(lengths.windows(2).filter(|pair| pair[1] < pair[0]).count() >= 2, "it begins anew: {lengths:?}");
}

#[tokio::test]
async fn a_world_is_read_page_by_page_and_the_pages_join_a_stream() {
    const ROOMS: usize = 70;
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let rooms = create_rooms(&mut ann, ROOMS).await;
    for n in 0..200 {
        ann.ask(post(&rooms[n * 11 % ROOMS], &n.to_string())).await;
    }
    let mut http = Http::connect(server.address, &server.token("ann")).await.unwrap();
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let (mut path, mut pages) = ("/v1/events?limit=7".to_owned(), 0);
    let cursor = loop {
        let page = http.get(&path).await.ok();
        let records = page["records"].as_array().unwrap();
        assert!(records.len() <= 7);
        for record in records {
            assert!(record.get("world").is_none(), "one cursor is enough for a page");
            seen.entry(record["room"].to_string()).or_default().push(record["seq"].as_u64().unwrap());
        }
        let cursor = page["cursor"].as_str().unwrap().to_owned();
        pages += 1;
        if pages == 20 {
            // What comes while pages are read comes with them.
            ann.ask(post(&rooms[0], "late")).await;
            ann.ask(post(&rooms[ROOMS - 1], "late")).await;
        }
        if page["complete"] == true {
            break cursor;
        }
        path = format!("/v1/events?limit=7&after={cursor}");
    };
    assert_eq!(seen.values().map(Vec::len).sum::<usize>(), ROOMS + 202);
    for (room, seqs) in &seen {
        assert_eq!(*seqs, (2..2 + seqs.len() as u64).collect::<Vec<_>>(), "{room}");
    }
    ann.ask(post(&rooms[3], "behind the pages")).await;
    let mut events = Events::open(server.address, &server.token("ann"), WORLD, Some(&cursor)).await.unwrap();
    events.next().await.unwrap();
    assert_eq!(events.next().await.unwrap().json()["content"]["text"], "behind the pages");
}

#[tokio::test]
async fn a_page_waits_for_the_first_word_in_any_room_and_in_one_that_is_new() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("green")).await;
    ann.ask(create_channel("blue")).await;
    bob.ask(join("green")).await;
    let mut http = Http::connect(server.address, &server.token("bob")).await.unwrap();
    let empty = http.get("/v1/events?after=now&wait=10ms").await.ok();
    assert_eq!((&empty["records"], &empty["complete"]), (&json!([]), &json!(true)));
    let mut cursor = empty["cursor"].as_str().unwrap().to_owned();
    for (n, expected) in ["message_posted", "member_joined", "member_kicked"].into_iter().enumerate() {
        let began = Instant::now();
        http.send(&format!("/v1/events?after={cursor}&wait=20s"), "").await.unwrap();
        match n {
            0 => drop(ann.ask(post("green", "to bob")).await),
            1 => drop(bob.ask(join("blue")).await),
            _ => {
                ann.ask(kick(&json!("green"), "bob")).await;
                ann.ask(post("green", "without bob")).await;
                // Who is removed has its request cut, or an answer from before.
                let text = patiently(http.answer()).await.map(|answer| answer.body).unwrap_or_default();
                assert!(!text.contains("without bob"), "{text}");
                return;
            }
        }
        let page = patiently(http.answer()).await.unwrap().ok();
        assert_eq!(page["records"][0]["event"], expected);
        assert!(began.elapsed() < Duration::from_secs(10));
        cursor = page["cursor"].as_str().unwrap().to_owned();
    }
}

#[tokio::test]
async fn rooms_that_come_and_go_while_their_reader_does_are_whole_for_each_membership() {
    const ROOMS: usize = 90;
    const STEPS: usize = 2_500;
    let store = MemoryStore::new();
    let server = TestServer::with(Setup { store: Arc::new(store.clone()), ..Setup::default() });
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    let mut rooms = Vec::new();
    for n in 0..ROOMS {
        ann.ask(create_channel(&format!("room-{n}"))).await;
        rooms.push(bob.ask(join(&format!("room-{n}"))).await["room"].as_str().unwrap().to_owned());
    }
    let first = bob.ask(follow_all("now")).await["cursor"].as_str().unwrap().to_owned();
    bob.ask(json!({ "type": "unfollow_all" })).await;

    let names = rooms.clone();
    let talking = tokio::spawn(async move {
        let mut random = Random(11);
        let mut inside = [true; ROOMS];
        for _ in 0..STEPS {
            let n = random.below(ROOMS);
            match random.below(12) {
                0 if inside[n] => drop(ann.ask(kick(&json!(names[n]), "bob")).await),
                1 if inside[n] => drop(bob.ask(json!({ "type": "leave", "room": names[n] })).await),
                0 | 1 => drop(bob.ask(join(&names[n])).await),
                _ => {
                    ann.ask(post(&names[n], "a word")).await;
                    continue;
                }
            }
            inside[n] = !inside[n];
        }
        for n in 0..ROOMS {
            if !inside[n] {
                bob.ask(join(&names[n])).await;
            }
            ann.ask(post(&names[n], "the last word")).await;
        }
    });
    let token = server.token("bob");
    let (by_stream, by_socket, talked) = tokio::time::timeout(Duration::from_secs(60), async {
        tokio::join!(
            come_and_go_until(3, &first, rooms.len(), Reader::Stream(&server, &token)),
            come_and_go_until(5, &first, rooms.len(), Reader::Socket(&server)),
            talking
        )
    })
    .await
    .expect("everything comes to its end");
    talked.unwrap();

    for room in &rooms {
        let log = store.read(&key(room).stream(), Seq::ZERO, 10_000).await.unwrap().records;
        // From each beginning of a membership up to its end.
        let mut memberships: Vec<(u64, u64)> = Vec::new();
        for record in &log {
            let seq = record.position.seq.0;
            let Event::Room(event) = &record.event else { continue };
            match event {
                RoomEvent::MemberJoined { user, .. } if user.as_str() == "bob" => memberships.push((seq, u64::MAX)),
                RoomEvent::MemberLeft { user, .. } | RoomEvent::MemberKicked { user, .. } if user.as_str() == "bob" => {
                    memberships.last_mut().unwrap().1 = seq;
                }
                _ => {}
            }
        }
        let head = log.last().unwrap().position.seq.0;
        for seen in [&by_stream[room], &by_socket[room]] {
            assert!(seen.is_sorted_by(|a, b| a < b), "{room}: nothing comes twice: {seen:?}");
            for (n, (from, to)) in memberships.iter().enumerate() {
                // The first one had begun before the cursor.
                let from = if n == 0 { from + 1 } else { *from };
                let part: Vec<u64> = seen.iter().copied().filter(|seq| (from..=*to).contains(seq)).collect();
                let whole: Vec<u64> = (from..).take(part.len()).collect();
                assert_eq!(part, whole, "{room}: without a gap from where the membership began");
                assert!(*to < u64::MAX || from + part.len() as u64 == head + 1, "{room}: up to its last record");
            }
            let inside = |seq: &u64| memberships.iter().any(|(from, to)| (from..=to).contains(&seq));
            assert!(seen.iter().all(inside), "{room}: {seen:?} of {memberships:?}");
        }
    }
}

enum Reader<'a> {
    Stream(&'a TestServer, &'a str),
    Socket(&'a TestServer),
}

/// Reads a world by many connections until the talk is over and the last word has come from every room.
async fn come_and_go_until(seed: u64, first: &str, rooms: usize, reader: Reader<'_>) -> BTreeMap<String, Vec<u64>> {
    let (mut random, mut cursor) = (Random(seed), first.to_owned());
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut ended = BTreeSet::new();
    let mut note = |record: &Value| {
        let room = record["room"].as_str().unwrap().to_owned();
        if record["content"]["text"] == "the last word" {
            ended.insert(room.clone());
        }
        seen.entry(room).or_default().push(record["seq"].as_u64().unwrap());
        ended.len() < rooms
    };
    let mut going_on = true;
    while going_on {
        let left = 1 + random.below(120);
        match reader {
            Reader::Stream(server, token) => {
                // A removal cuts it while it is being opened, too.
                let opened = patiently(Events::try_open(server.address, token, WORLD, Some(&cursor))).await;
                let Ok(opened) = opened else { continue };
                let mut events = opened.expect("the cursor is ours");
                for _ in 0..left {
                    // A removal ends the stream.
                    let Some(event) = events.next().await else { break };
                    cursor = event.id.clone().unwrap_or(cursor);
                    if event.name == "record" {
                        going_on = note(&event.json());
                    }
                    if !going_on {
                        break;
                    }
                }
            }
            Reader::Socket(server) => {
                let mut client = server.client("bob").await;
                cursor = client.ask(follow_all(&cursor)).await["cursor"].as_str().unwrap().to_owned();
                for _ in 0..left {
                    let record = client.record().await;
                    cursor = record["world"].as_str().unwrap().to_owned();
                    going_on = note(&record);
                    if !going_on {
                        break;
                    }
                }
            }
        }
    }
    seen
}

fn follow_all(from: &str) -> Value {
    json!({ "type": "follow_all", "from": from })
}

async fn create_rooms(client: &mut Client, count: usize) -> Vec<String> {
    let mut rooms = Vec::new();
    for _ in 0..count {
        let created = client.ask(json!({ "type": "create", "kind": "group" })).await;
        rooms.push(created["room"].as_str().unwrap().to_owned());
    }
    rooms
}

fn key(room: &str) -> RoomKey {
    RoomKey { tenant: TenantId::default_tenant(), room: RoomId(Uuid::parse_str(room).unwrap()) }
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort();
    items
}

/// Numbers that look random and are the same every time (Knuth, The Art of Computer Programming, volume 2, 3.3.4).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}
