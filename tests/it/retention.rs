//! Rooms that keep what was said for a time, and what becomes of it afterwards.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chinwag::actors::Limits;
use chinwag::actors::retention::{Sweep, Trimmed};
use chinwag::clock::{Clock, ManualClock, SystemClock};
use chinwag::domain::{RoomId, RoomKey, Seq, StreamId, TenantId, UserId};
use chinwag::store::memory::{Fault, MemoryStore};
use chinwag::store::{Store, rows};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Client, Setup, TestServer, create_channel, eventually, follow, join, patiently, post};
use crate::support::listeners::{Events, Http};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);

#[tokio::test]
async fn what_a_room_has_kept_for_long_enough_is_gone_for_everybody() {
    let lobby = Lobby::open().await;
    let (mut ann, mut bob) = (lobby.client("ann").await, lobby.client("bob").await);
    let old = ann.ask(post("lobby", "old")).await;
    let (message, cursor) = (old["record"].clone(), old["cursor"].as_str().unwrap().to_owned());
    let about = |kind: &str| json!({ "type": kind, "room": "lobby", "message": message });
    let reply =
        |text: &str| json!({ "type": "post", "room": "lobby", "content": { "text": text }, "reply_to": message });
    bob.ask(reply("old reply")).await;
    let react = |kind: &str| json!({ "type": kind, "room": "lobby", "message": message, "emoji": "👍" });
    bob.ask(react("react")).await;
    ann.ask(about("pin")).await;
    let edit = json!({ "type": "edit", "room": "lobby", "message": message, "content": { "text": "old edited" } });
    ann.ask(edit.clone()).await;
    let gone = ann.ask(post("lobby", "deleted")).await["record"].clone();
    ann.ask(json!({ "type": "delete", "room": "lobby", "message": gone })).await;
    let last = ann.ask(json!({ "type": "room", "room": "lobby" })).await["head"].as_u64().unwrap();
    lobby.clock.advance(12 * HOUR);
    let (mut ann, mut bob) = (lobby.client("ann").await, lobby.client("bob").await);
    ann.ask(edit).await;
    bob.ask(reply("a later reply")).await;
    let new = ann.ask(post("lobby", "new")).await["seq"].as_u64().unwrap();

    lobby.clock.advance(12 * HOUR - Duration::from_secs(1));
    assert_eq!(lobby.sweep().await, Trimmed::default(), "nothing goes before its time");
    let (mut ann, mut bob) = (lobby.client("ann").await, lobby.client("bob").await);
    let mut live = lobby.client("bob").await;
    live.ask(follow("lobby", "now")).await;
    lobby.clock.advance(Duration::from_secs(1));
    assert_eq!(lobby.sweep().await, Trimmed { rooms: 1, records: last, more: false });
    assert_eq!(lobby.sweep().await, Trimmed::default());

    let told = live.record().await;
    assert_eq!(
        (&told["event"], &told["before"], &told["seq"]),
        (&json!("history_trimmed"), &json!(last + 1), &json!(new + 1))
    );
    let gap = json!({ "from": 1, "to": last, "reason": "retention" });
    let history = bob.ask(json!({ "type": "history", "room": "lobby" })).await;
    assert_eq!(
        (seqs(&history), &history["before"], &history["gap"]),
        ((last + 1..=new + 1).collect(), &Value::Null, &gap)
    );
    assert_eq!(history["records"][0]["event"], "message_erased", "the edit has gone with its message");
    let before = bob.ask(json!({ "type": "history", "room": "lobby", "before": cursor })).await;
    assert_eq!((seqs(&before), &before["gap"]), (vec![], &gap));
    for (since, from) in [("start", 1), (&*cursor, old["seq"].as_u64().unwrap() + 1)] {
        let followed = bob.ask(follow("lobby", since)).await;
        let gap = bob.notice("gap").await;
        assert_eq!((&gap["from"], &gap["to"], &gap["reason"]), (&json!(from), &json!(last), &json!("retention")));
        assert_eq!(bob.seqs_until(new + 1).await, (last + 1..=new + 1).collect::<Vec<_>>());
        // The cursor in between is one like any other.
        let cursor = followed["cursor"].as_str().unwrap();
        assert_eq!(bob.ask(follow("lobby", cursor)).await["cursor"], cursor);
        assert_eq!(bob.seqs_until(new + 1).await.len() as u64, new + 1 - last);
        let mut http = Http::connect(lobby.server.address, &lobby.token("bob")).await.unwrap();
        let page = http.get(&format!("/v1/rooms/alias:lobby/events?after={since}")).await.ok();
        assert_eq!(page["gap"], json!({ "from": from, "to": last, "reason": "retention" }));
        assert_eq!(seqs(&page), (last + 1..=new + 1).collect::<Vec<_>>());
    }
    for ask in [react("react"), react("unreact"), reply("too late"), about("pin"), about("delete"), about("readers")] {
        assert_eq!(ann.refused(ask.clone()).await, "message_not_found", "{ask}");
    }
    let hide = json!({ "type": "hide", "room": "lobby", "message": message });
    assert_eq!(bob.refused(hide).await, "message_not_found");
    bob.ask(json!({ "type": "unhide", "room": "lobby", "message": message })).await;
    let forward = json!({ "type": "post", "room": "lobby", "forward": { "room": "lobby", "message": message } });
    assert_eq!(bob.refused(forward).await, "message_not_found");
    assert_eq!(seqs(&bob.ask(json!({ "type": "pins", "room": "lobby" })).await), Vec::<u64>::new());
    let thread = json!({ "type": "thread", "room": "lobby", "message": message });
    assert_eq!(seqs(&bob.ask(thread).await), [new - 1], "what answered it later is still there");
    let inbox = bob.ask(json!({ "type": "inbox" })).await;
    assert_eq!((&inbox["rooms"][0]["last"]["seq"], &inbox["unread"]), (&json!(new), &json!(1)));
    assert_eq!(lobby.rows_up_to(last).await, Vec::<Bytes>::new());
}

#[tokio::test]
async fn what_was_hidden_is_forgotten_with_the_message() {
    let lobby = Lobby::open().await;
    let (mut ann, mut bob) = (lobby.client("ann").await, lobby.client("bob").await);
    let hide = |message: &Value| json!({ "type": "hide", "room": "lobby", "message": message });
    for text in ["old", "old, too"] {
        let message = ann.ask(post("lobby", text)).await["record"].clone();
        bob.ask(hide(&message)).await;
    }
    lobby.clock.advance(DAY);
    lobby.sweep().await;
    let (mut ann, mut bob) = (lobby.client("ann").await, lobby.client("bob").await);
    let hidden = json!({ "type": "hidden", "room": "lobby" });
    assert_eq!(bob.ask(hidden.clone()).await["messages"], json!([]));
    let message = ann.ask(post("lobby", "new")).await["record"].clone();
    bob.ask(hide(&message)).await;
    assert_eq!(bob.ask(hidden).await["messages"], json!([message]));
    let own = StreamId::User(TenantId::default_tenant(), UserId::new("bob").unwrap());
    assert_eq!(lobby.store.scan(&own, rows::HIDDEN, None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn all_that_was_said_may_go_and_the_room_goes_on() {
    let mut lobby = Lobby::open().await;
    let mut ann = lobby.client("ann").await;
    let head = ann.ask(post("lobby", "the last word")).await["seq"].as_u64().unwrap();
    lobby.clock.advance(2 * DAY);
    assert_eq!(lobby.sweep().await.records, head);
    // That it was trimmed is no reason to trim it again.
    lobby.clock.advance(2 * DAY);
    assert_eq!(lobby.sweep().await, Trimmed::default());
    for _ in 0..2 {
        let mut bob = lobby.client("bob").await;
        let history = bob.ask(json!({ "type": "history", "room": "lobby" })).await;
        assert_eq!((seqs(&history), history["gap"]["to"].as_u64()), (vec![head + 1], Some(head)));
        assert_eq!(bob.ask(json!({ "type": "inbox" })).await["rooms"][0]["last"], Value::Null);
        lobby = lobby.restarted();
    }
    let mut bob = lobby.client("bob").await;
    assert_eq!(bob.ask(post("lobby", "the first")).await["seq"], head + 2);
    lobby.clock.advance(DAY);
    assert_eq!(lobby.sweep().await.records, 2);
}

#[tokio::test]
async fn who_is_behind_when_it_happens_is_told_and_goes_on() {
    let lobby = Lobby::open().await;
    let mut ann = lobby.client("ann").await;
    // More than fits into what waits for one connection.
    for _ in 0..600 {
        ann.ask(post("lobby", &"x".repeat(4_000))).await;
    }
    lobby.clock.advance(DAY);
    let head = lobby.client("ann").await.ask(post("lobby", "new")).await["seq"].as_u64().unwrap();
    let mut bob = lobby.client("bob").await;
    bob.ask(follow("lobby", "now")).await;
    let token = lobby.token("bob");
    let mut room = Events::open_narrow(lobby.server.address, &token, "/v1/rooms/alias:lobby/events?after=start").await;
    let mut world = Events::open_narrow(lobby.server.address, &token, "/v1/events?after=start").await;
    // Neither has read, so what is behind the first page waits to be asked for.
    assert_eq!(lobby.sweep().await.records, head - 1);
    assert_eq!(bob.record().await["event"], "history_trimmed");
    let now = bob.ask(json!({ "type": "room", "room": "lobby" })).await["head"].as_u64().unwrap();
    // A world begins with the membership.
    for (events, before) in [(&mut room, 0), (&mut world, 2)] {
        let (mut at, mut gaps) = (before, Vec::new());
        while at < now {
            let event = events.next().await.unwrap().json();
            match event["type"].as_str() {
                Some("gap") => {
                    let (from, to) = (event["from"].as_u64().unwrap(), event["to"].as_u64().unwrap());
                    assert_eq!((from, &event["reason"]), (at + 1, &json!("retention")));
                    gaps.push(to);
                    at = to;
                }
                Some("record") => {
                    at += 1;
                    assert_eq!(event["seq"], at);
                }
                _ => {}
            }
        }
        // In one part, or in several where it reads on meanwhile.
        assert_eq!(gaps.last(), Some(&(head - 1)), "{gaps:?}");
    }
}

#[tokio::test]
async fn a_world_is_told_what_it_has_missed_for_good_and_nothing_else() {
    let lobby = Lobby::open().await;
    let (mut ann, mut bob) = (lobby.client("ann").await, lobby.client("bob").await);
    let seen = bob.ask(json!({ "type": "follow_all", "from": "now" })).await["cursor"].as_str().unwrap().to_owned();
    let first = ann.ask(post("lobby", "missed")).await["seq"].as_u64().unwrap();
    let last = ann.ask(post("lobby", "missed, too")).await["seq"].as_u64().unwrap();
    lobby.clock.advance(DAY);
    let mut bob = lobby.client("bob").await;
    let all = bob.ask(json!({ "type": "follow_all", "from": "now" })).await["cursor"].as_str().unwrap().to_owned();
    bob.ask(json!({ "type": "unfollow_all" })).await;
    assert_eq!(lobby.sweep().await.records, last);
    // Who had seen all of it misses nothing.
    bob.ask(json!({ "type": "follow_all", "from": all })).await;
    assert_eq!(bob.record().await["event"], "history_trimmed");
    assert!(bob.take_aside().iter().all(|frame| frame["type"] != "gap"));
    let mut bob = lobby.client("bob").await;
    bob.ask(json!({ "type": "follow_all", "from": seen })).await;
    let gap = bob.notice("gap").await;
    assert_eq!((gap["to"].as_u64(), &gap["reason"]), (Some(last), &json!("retention")));
    assert!(gap["from"].as_u64().unwrap() <= first);
    assert_eq!(bob.record().await["event"], "history_trimmed");
}

#[tokio::test]
async fn the_shorter_of_two_times_counts_and_a_room_that_keeps_for_ever_is_left_alone() {
    for (own, operator, goes_after) in
        [(0, None, None), (2, None, Some(2)), (0, Some(1), Some(1)), (3, Some(1), Some(1)), (1, Some(3), Some(1))]
    {
        let mut limits = Limits::lifted();
        limits.keep.others = operator.map(|days: u64| days * 86_400_000);
        let lobby = Lobby::with(limits, own).await;
        let head = lobby.client("ann").await.ask(post("lobby", "old")).await["seq"].as_u64().unwrap();
        let trimmed = async |days: u32| {
            lobby.clock.advance(days * DAY - HOUR);
            assert_eq!(lobby.sweep().await.records, 0, "{own}, {operator:?}");
            lobby.clock.advance(HOUR);
            lobby.sweep().await.records
        };
        let records = trimmed(goes_after.unwrap_or(1000)).await;
        assert_eq!(records, if goes_after.is_some() { head } else { 0 }, "{own}, {operator:?}");
    }
}

#[tokio::test]
async fn long_histories_go_a_part_at_a_time_and_every_room_has_its_turn() {
    let lobby = Lobby::open().await;
    let mut ann = lobby.client("ann").await;
    for n in 0..300 {
        let alias = format!("room-{n}");
        ann.ask(create_channel(&alias)).await;
        ann.ask(json!({ "type": "update", "room": alias, "keep_ms": 86_400_000 })).await;
    }
    let long = "x".repeat(4_000);
    for _ in 0..200 {
        ann.ask(post("lobby", &long)).await;
    }
    let head = ann.ask(json!({ "type": "room", "room": "lobby" })).await["head"].as_u64().unwrap();
    lobby.clock.advance(DAY);
    let sweep = Sweep::default();
    let (mut total, mut rounds) = (Trimmed::default(), 0);
    loop {
        let round = sweep.round(&lobby.server.registry).await.unwrap();
        total = Trimmed { rooms: total.rooms + round.rooms, records: total.records + round.records, more: round.more };
        rounds += 1;
        if !round.more {
            break;
        }
    }
    // Each has an audit room by now, or soon, that has its turn as well.
    assert!((2..=3).contains(&rounds), "{rounds}");
    assert_eq!((total.rooms, total.records), (301, head + 300 * 3));
    let head_now = lobby.client("ann").await.ask(json!({ "type": "room", "room": "lobby" })).await["head"].as_u64();
    // 200 messages of 4,000 bytes are seven pages of 128 KiB.
    assert!(head_now.is_some_and(|now| (head + 6..head + 9).contains(&now)), "{head_now:?}, {head}");
}

#[tokio::test]
async fn what_is_trimmed_frees_a_full_disk() {
    let lobby = Lobby::open().await;
    let mut ann = lobby.client("ann").await;
    let message = ann.ask(post("lobby", "old")).await["record"].clone();
    let recent = ann.ask(post("lobby", "old, too")).await["record"].clone();
    lobby.clock.advance(DAY);
    // After a start the room has no nums, and nothing is deleted without one.
    let lobby = lobby.restarted();
    let mut ann = lobby.client("ann").await;
    lobby.store.faults().fill();
    assert_eq!(ann.refused(post("lobby", "new")).await, "storage_full");
    ann.ask(json!({ "type": "delete", "room": "lobby", "message": recent })).await;
    assert!(lobby.sweep().await.records > 0);
    lobby.store.faults().clear();
    let delete = json!({ "type": "delete", "room": "lobby", "message": message });
    assert_eq!(ann.refused(delete).await, "message_not_found");
}

#[tokio::test]
async fn how_long_a_room_keeps_is_for_ever_or_a_day_to_a_hundred_years() {
    let lobby = Lobby::open().await;
    let (mut ann, mut bob) = (lobby.client("ann").await, lobby.client("bob").await);
    let keep = |keep: Value| json!({ "type": "update", "room": "lobby", "keep_ms": keep });
    for bad in [json!(1), json!(86_399_999), json!(3_155_760_000_001_u64), json!(-1), json!("1d"), Value::Null] {
        assert_eq!(ann.refused(keep(bad.clone())).await, "bad_request", "{bad}");
    }
    for good in [0, 86_400_000, 3_155_760_000_000_u64] {
        ann.ask(keep(json!(good))).await;
        assert_eq!(bob.ask(json!({ "type": "room", "room": "lobby" })).await["keep_ms"], good);
    }
    assert_eq!(bob.refused(keep(json!(0))).await, "forbidden");
    // It deletes what others have said: who may only change what the room is changes the name and not this.
    ann.ask(json!({ "type": "rights", "room": "lobby", "user": "bob", "allow": ["update"] })).await;
    bob.ask(json!({ "type": "update", "room": "lobby", "name": "The lobby" })).await;
    assert_eq!(bob.refused(keep(json!(86_400_000))).await, "forbidden");
    ann.ask(json!({ "type": "rights", "room": "lobby", "user": "bob", "allow": ["update", "delete"] })).await;
    bob.ask(keep(json!(86_400_000))).await;
}

#[tokio::test]
async fn the_edits_of_what_goes_are_erased_some_at_a_time() {
    let lobby = Lobby::open().await;
    let mut ann = lobby.client("ann").await;
    let mut messages = Vec::new();
    for n in 0..9 {
        messages.push(ann.ask(post("lobby", &format!("old {n}"))).await["record"].clone());
    }
    lobby.clock.advance(DAY);
    let mut ann = lobby.client("ann").await;
    for n in 0..250 {
        for message in &messages {
            let content = json!({ "text": format!("edited {n}") });
            ann.ask(json!({ "type": "edit", "room": "lobby", "message": message, "content": content })).await;
        }
    }
    let head = async || lobby.client("ann").await.ask(json!({ "type": "room", "room": "lobby" })).await["head"].clone();
    let before = head().await.as_u64().unwrap();
    lobby.sweep().await;
    // Of nine with 250 edits each, four go at once.
    assert_eq!(head().await, before + 3);
    let mut last = json!({ "type": "history", "room": "lobby", "limit": 100 });
    for _ in 0..before / 100 {
        let page = lobby.client("bob").await.ask(last.clone()).await;
        assert!(!page.to_string().contains("edited "), "{page}");
        last["before"] = page["before"].clone();
    }
}

#[tokio::test]
async fn a_room_with_more_than_a_round_takes_has_its_turn_again_at_once() {
    let lobby = Lobby::open().await;
    let mut ann = lobby.client("ann").await;
    // More than 64 pages of 128 KiB.
    for _ in 0..2_200 {
        ann.ask(post("lobby", &"x".repeat(4_000))).await;
    }
    lobby.clock.advance(DAY);
    let sweep = Sweep::default();
    let mut rounds = Vec::new();
    for _ in 0..2 {
        rounds.push(sweep.round(&lobby.server.registry).await.unwrap().more);
    }
    assert_eq!(rounds, [true, false]);
    let kept = lobby.client("bob").await.ask(json!({ "type": "history", "room": "lobby" })).await;
    assert!(!kept.to_string().contains("xxx"));
}

#[tokio::test]
async fn a_room_is_trimmed_as_soon_as_nothing_else_of_it_is_on_its_way_to_the_disk() {
    let lobby = Lobby::open().await;
    let mut ann = lobby.client("ann").await;
    ann.ask(post("lobby", "old")).await;
    lobby.clock.advance(DAY);
    let mut ann = lobby.client("ann").await;
    // When its audit room has taken this, a commit of rows alone takes it away.
    lobby.store.faults().when(Fault::Hold, |commit| {
        commit.records.is_empty() && commit.puts.iter().any(|put| put.under == StreamId::Owed)
    });
    ann.ask(json!({ "type": "mute", "room": "lobby", "user": "bob" })).await;
    eventually("it is taken away", || lobby.store.faults().held() > 0).await;
    let release = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        // What comes behind it is not held.
        lobby.store.faults().clear();
        lobby.store.faults().release();
    };
    let (trimmed, ()) = patiently(async { tokio::join!(lobby.sweep(), release) }).await;
    assert!(trimmed.records > 0);
}

/// A room of ann's and bob's, and a clock.
struct Lobby {
    server: TestServer,
    store: MemoryStore,
    clock: Arc<ManualClock>,
    limits: Limits,
}

impl Lobby {
    /// One that keeps for a day.
    async fn open() -> Self {
        Self::with(Limits::lifted(), 1).await
    }

    async fn with(limits: Limits, days: u64) -> Self {
        let (store, clock) = (MemoryStore::new(), Arc::new(ManualClock::at(SystemClock.now())));
        let lobby = Self::start(store, clock, limits);
        let mut ann = lobby.client("ann").await;
        ann.ask(create_channel("lobby")).await;
        lobby.client("bob").await.ask(join("lobby")).await;
        if days > 0 {
            ann.ask(json!({ "type": "update", "room": "lobby", "keep_ms": days * 86_400_000 })).await;
        }
        lobby
    }

    fn start(store: MemoryStore, clock: Arc<ManualClock>, limits: Limits) -> Self {
        let server = TestServer::with(Setup {
            store: Arc::new(store.in_epoch(MemoryStore::EPOCH)),
            clock: Arc::clone(&clock) as _,
            limits: limits.clone(),
            ..Setup::default()
        });
        Self { server, store, clock, limits }
    }

    fn restarted(mut self) -> Self {
        self.server.stop();
        Self::start(self.store.clone(), Arc::clone(&self.clock), self.limits.clone())
    }

    fn token(&self, user: &str) -> String {
        self.server.token_of("default", user, self.clock.now(), HOUR)
    }

    async fn client(&self, user: &str) -> Client {
        self.server.client_with(&self.token(user), Some("chinwag.v1.json")).await
    }

    async fn sweep(&self) -> Trimmed {
        Sweep::default().round(&self.server.registry).await.unwrap()
    }

    /// The keys of the rows that speak of messages up to `until`.
    async fn rows_up_to(&self, until: u64) -> Vec<Bytes> {
        let room = self.client("ann").await.ask(json!({ "type": "room", "room": "lobby" })).await;
        let room = RoomId(Uuid::parse_str(room["room"].as_str().unwrap()).unwrap());
        let stream = RoomKey { tenant: TenantId::default_tenant(), room }.stream();
        let (mut found, bob) = (Vec::new(), UserId::new("bob").unwrap());
        for seq in (1..=until).map(Seq) {
            let own = [rows::message(seq), rows::pin(seq), rows::reactions_of(seq, &bob)];
            for key in own.into_iter().chain((1..seq.0).map(|root| rows::threaded(Seq(root), seq))) {
                if self.store.get(&stream, &key).await.unwrap().is_some() {
                    found.push(key);
                }
            }
        }
        let files = self.store.scan(&StreamId::Files, b"r", None, 10).await.unwrap();
        found.extend(files.into_iter().map(|(key, _)| key));
        found
    }
}

fn seqs(page: &Value) -> Vec<u64> {
    page["records"].as_array().unwrap().iter().map(|record| record["seq"].as_u64().unwrap()).collect()
}
