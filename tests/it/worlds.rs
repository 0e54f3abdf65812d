//! A user's whole world on one connection: all rooms, those of later too, under one cursor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chinwag::domain::{Epoch, RoomId, RoomKey, Seq, TenantId};
use chinwag::store::Store;
use chinwag::store::memory::MemoryStore;
use chinwag::wire::world_cursor;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use uuid::Uuid;

use crate::harness::{Client, Setup, TestServer, create_channel, follow, join, kick, patiently, post};
use crate::support::listeners::Events;

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
    const ROOMS: usize = 100;
    const POSTS: usize = 1_500;
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let rooms = create_rooms(&mut ann, ROOMS).await;
    // Its kernel takes little, so that what waits is the server's.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = patiently(socket.connect(server.address)).await.unwrap();
    let head = format!(
        "GET {WORLD} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nAccept: text/event-stream\r\n\r\n",
        server.token("ann")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("event: hello") {
        let mut chunk = [0; 1024];
        let read = patiently(stream.read(&mut chunk)).await.unwrap();
        text.extend(&chunk[..read]);
    }
    let filler = "x".repeat(2_000);
    for n in 0..POSTS {
        ann.ask(post(&rooms[n * 7 % ROOMS], &filler)).await;
    }
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut count = 0;
    while count < POSTS {
        let mut chunk = [0; 65_536];
        let read = patiently(stream.read(&mut chunk)).await.unwrap();
        assert_ne!(read, 0, "{count} records came before the end");
        text.extend(&chunk[..read]);
        let known = String::from_utf8_lossy(&text).into_owned();
        let Some(end) = known.rfind("\n\n") else { continue };
        for data in known[..end].split("\n\n").filter_map(|event| event.split("data: ").nth(1)) {
            let Some(json) = data.split("\r\n").next() else { continue };
            let Ok(record) = serde_json::from_str::<Value>(json) else { continue };
            if record["type"] == "record" {
                let room = record["room"].as_str().unwrap().to_owned();
                seen.entry(room).or_default().push(record["seq"].as_u64().unwrap());
                count += 1;
            }
        }
        text = text.split_off(end + 2);
    }
    for (room, seqs) in seen {
        assert_eq!(seqs, (3..3 + seqs.len() as u64).collect::<Vec<_>>(), "{room}");
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
