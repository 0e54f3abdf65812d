//! Rooms over a log that fails: what is on disk is shown, what is not is not, and a room that dies comes back whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chinwag::actors::Limits;
use chinwag::clock::{Clock, SystemClock};
use chinwag::domain::{Epoch, Event, RoomEvent, RoomId, RoomKey, TenantId, Timestamp};
use chinwag::store::memory::{Fault, Faults, MemoryStore};
use chinwag::store::{Commit, CommitError, StoreError};
use serde_json::json;

use crate::harness::{Setup, TestServer, create_channel, eventually, follow, join, kick, post};

#[tokio::test]
async fn nothing_is_answered_or_shown_before_it_is_on_disk() {
    let (server, faults) = faulty();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    ann.ask(follow("lobby", "now")).await;
    faults.hold();
    let id = ann.send(post("lobby", "held")).await;
    eventually("the commit", || faults.held() == 1).await;
    let mut bob = server.client("bob").await;
    assert_eq!(bob.refused(follow("lobby", "start")).await, "not_member");
    ann.hears_back().await;
    assert!(ann.take_aside().iter().all(|frame| frame["type"] != "record" && frame["id"] != *id));
    faults.release();
    assert_eq!(ann.reply(&id).await["seq"], 3);
    assert_eq!(ann.record().await["seq"], 3);
}

#[tokio::test]
async fn answers_that_rest_on_what_is_not_on_disk_yet_wait_for_it() {
    let (server, faults) = faulty();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    faults.hold();
    let kick = ann.send(kick(&json!("lobby"), "bob")).await;
    eventually("the kick's commit", || faults.held() == 1).await;
    // The room knows of the kick already, and must not let on: it may yet be lost.
    let refused = bob.send(post("lobby", "am I in?")).await;
    bob.hears_back().await;
    assert!(bob.take_aside().iter().all(|frame| frame["id"] != *refused));
    faults.release();
    let (kicked, refused) = tokio::join!(ann.reply(&kick), bob.reply(&refused));
    assert_eq!((&kicked["ok"], &refused["error"]["code"]), (&json!(true), &json!("not_member")));
}

#[tokio::test]
async fn a_repeated_publish_is_answered_when_the_first_is_on_disk() {
    let (server, faults) = faulty();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let mut publish = post("lobby", "once");
    publish["client_id"] = json!("c-1");
    faults.hold();
    let first = ann.send(publish.clone()).await;
    eventually("the commit", || faults.held() == 1).await;
    let again = ann.send(publish).await;
    ann.hears_back().await;
    assert!(ann.take_aside().iter().all(|frame| frame["id"] != *again));
    faults.release();
    assert_eq!(ann.reply(&first).await["seq"], 3);
    assert_eq!(ann.reply(&again).await["duplicate"], true);
}

#[tokio::test]
async fn what_arrives_during_a_commit_goes_together_into_the_next() {
    let (server, faults) = faulty();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let before = faults.commits();
    faults.hold();
    let mut ids = vec![ann.send(post("lobby", "first")).await];
    eventually("the first commit", || faults.held() == 1).await;
    for n in 0..40 {
        ids.push(ann.send(post("lobby", &n.to_string())).await);
    }
    ann.hears_back().await;
    faults.release();
    for id in &ids {
        assert_eq!(ann.reply(id).await["ok"], true);
    }
    assert_eq!(faults.commits() - before, 2);
}

#[tokio::test]
async fn a_failed_commit_is_answered_unavailable_and_the_room_goes_on_from_its_log() {
    let (server, faults) = faulty();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    ann.ask(follow("lobby", "now")).await;
    for error in [CommitError::Failed, CommitError::Conflict] {
        faults.next(Fault::Fail(error));
        assert_eq!(ann.refused(post("lobby", "lost")).await, "unavailable");
    }
    assert_eq!(ann.ask(post("lobby", "kept")).await["seq"], 3);
    assert_eq!(ann.record().await["content"]["text"], "kept");
}

#[tokio::test]
async fn a_commit_in_doubt_is_settled_by_sending_it_again() {
    let (server, faults) = faulty();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    bob.ask(follow("lobby", "now")).await;
    for (n, fault) in [Fault::Tear, Fault::Forget].into_iter().enumerate() {
        let mut publish = post("lobby", &format!("{fault:?}"));
        publish["client_id"] = json!(n.to_string());
        faults.next(fault);
        assert_eq!(ann.refused(publish.clone()).await, "unavailable");
        let reply = ann.ask(publish.clone()).await;
        assert_eq!(reply.get("duplicate").is_some(), fault == Fault::Tear);
        assert_eq!(ann.ask(publish).await["seq"], reply["seq"]);
    }
    assert_eq!(bob.record().await["content"]["text"], "Tear");
    assert_eq!(bob.record().await["content"]["text"], "Forget");
}

#[tokio::test]
async fn a_room_that_ends_between_commit_and_publish_tells_its_followers_where_it_stands() {
    let (server, faults) = faulty();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    bob.ask(follow("lobby", "now")).await;
    faults.next(Fault::Tear);
    assert_eq!(ann.refused(post("lobby", "on disk")).await, "unavailable");
    // Nobody says anything more, and still it comes.
    assert_eq!(bob.record().await["content"]["text"], "on disk");
}

#[tokio::test]
async fn a_room_that_dies_is_started_again_and_refuses_what_kills_it() {
    let (server, faults) = faulty();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    bob.ask(follow("lobby", "now")).await;
    faults.when(Fault::Panic, |commit| says(commit, "poison"));
    for _ in 0..2 {
        assert_eq!(ann.refused(post("lobby", "poison")).await, "unavailable");
        ann.ask(post("lobby", "fine")).await;
        assert_eq!(bob.record().await["content"]["text"], "fine");
    }
    assert_eq!(ann.refused(post("lobby", "poison")).await, "command_refused");
    ann.ask(post("lobby", "still here")).await;
    assert_eq!(bob.record().await["content"]["text"], "still here");
}

#[tokio::test]
async fn a_commit_in_flight_when_its_room_dies_is_settled_before_the_successor_decides() {
    let store = MemoryStore::new();
    let faults = store.faults();
    let clock = Arc::new(DeadlyClock::default());
    let setup = Setup { store: Arc::new(store), clock: Arc::clone(&clock) as _, ..Setup::default() };
    let server = TestServer::with(setup);
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    ann.ask(follow("lobby", "now")).await;
    let mut publish = post("lobby", "in flight");
    publish["client_id"] = json!("c-1");
    faults.hold();
    let in_flight = ann.send(publish.clone()).await;
    eventually("the commit", || faults.held() == 1).await;
    clock.0.store(true, Ordering::Relaxed);
    assert_eq!(ann.refused(post("lobby", "deadly")).await, "unavailable");
    assert_eq!(ann.reply(&in_flight).await["error"]["code"], "unavailable");
    // The successor does not know what is on disk until the store does.
    let again = ann.send(publish).await;
    ann.hears_back().await;
    assert!(ann.take_aside().iter().all(|frame| frame["id"] != *again && frame["type"] != "record"));
    faults.release();
    let reply = ann.reply(&again).await;
    assert_eq!((&reply["seq"], &reply["duplicate"]), (&json!(3), &json!(true)), "{reply}");
    assert_eq!(ann.record().await["content"]["text"], "in flight");
    assert_eq!(ann.ask(post("lobby", "next")).await["seq"], 4);
}

#[tokio::test]
async fn a_room_that_keeps_dying_is_shut_and_costs_the_others_nothing() {
    let (server, faults) = faulty();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    ann.ask(create_channel("quiet")).await;
    faults.when(Fault::Panic, |commit| says(commit, "poison"));
    for n in 0..5 {
        assert_eq!(ann.refused(post("lobby", &format!("poison {n}"))).await, "unavailable");
    }
    assert_eq!(ann.refused(post("lobby", "fine")).await, "room_shut");
    ann.ask(post("quiet", "fine")).await;
    assert_eq!(ann.ask(json!({ "type": "history", "room": "lobby" })).await["records"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_full_disk_refuses_publishes_and_goes_on_reading() {
    let (server, faults) = faulty();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    faults.fill();
    assert_eq!(ann.refused(post("lobby", "no room")).await, "storage_full");
    assert_eq!(ann.refused(create_channel("other")).await, "storage_full");
    ann.ask(follow("lobby", "start")).await;
    assert_eq!(ann.seqs_until(2).await, [1, 2]);
    faults.clear();
    assert_eq!(ann.ask(post("lobby", "room again")).await["seq"], 3);
    assert_eq!(ann.record().await["seq"], 3);
}

#[tokio::test]
async fn a_log_that_cannot_be_read_ends_the_follow_with_a_word() {
    let (server, faults) = faulty();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    faults.fail_reads(StoreError::Damaged("a test".to_owned()));
    assert_eq!(ann.refused(follow("lobby", "start")).await, "unavailable");
    faults.clear();
    ann.ask(follow("lobby", "start")).await;
    assert_eq!(ann.seqs_until(2).await, [1, 2]);
}

#[tokio::test]
async fn a_sleeping_room_is_woken_by_a_command_and_not_by_followers() {
    let limits = Limits { room_idle: Duration::from_millis(50), ..Setup::default().limits };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let mut ann = server.client("ann").await;
    let mut publish = post("lobby", "once");
    publish["client_id"] = json!("c-1");
    ann.ask(create_channel("lobby")).await;
    let first = ann.ask(publish.clone()).await;
    eventually("the room sleeps", || server.registry.rooms_awake() == 0).await;
    ann.ask(follow("lobby", "start")).await;
    assert_eq!(ann.seqs_until(3).await, [1, 2, 3]);
    ann.ask(json!({ "type": "history", "room": "lobby" })).await;
    assert_eq!(server.registry.rooms_awake(), 0);
    let again = ann.ask(publish).await;
    assert_eq!((&again["seq"], &again["duplicate"]), (&first["seq"], &json!(true)), "a woken room remembers");
    assert_eq!(ann.ask(post("lobby", "awake")).await["seq"], 4);
    assert_eq!(ann.record().await["seq"], 4);
}

#[tokio::test]
async fn a_room_takes_a_bounded_number_of_commands_at_once() {
    let store = MemoryStore::new();
    let faults = store.faults();
    let limits = Limits { in_flight_per_room: 8, in_flight_per_session: 16, ..Setup::default().limits };
    let server = TestServer::with(Setup { store: Arc::new(store), limits, ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    ann.ask(post("lobby", "known by name")).await;
    faults.hold();
    let mut ids = Vec::new();
    for n in 0..12 {
        ids.push(ann.send(post("lobby", &n.to_string())).await);
    }
    for id in &ids[8..] {
        assert_eq!(ann.reply(id).await["error"]["code"], "busy");
    }
    faults.release();
    for id in &ids[..8] {
        assert_eq!(ann.reply(id).await["ok"], true);
    }
}

#[tokio::test]
async fn a_session_takes_a_bounded_number_of_commands_at_once() {
    let store = MemoryStore::new();
    let faults = store.faults();
    let limits = Limits { in_flight_per_session: 8, ..Setup::default().limits };
    let server = TestServer::with(Setup { store: Arc::new(store), limits, ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    faults.hold();
    let mut ids = Vec::new();
    for n in 0..12 {
        ids.push(ann.send(post("lobby", &n.to_string())).await);
    }
    for id in &ids[8..] {
        assert_eq!(ann.reply(id).await["error"]["code"], "busy");
    }
    faults.release();
    for id in &ids[..8] {
        assert_eq!(ann.reply(id).await["ok"], true);
    }
}

#[tokio::test]
async fn names_and_nums_are_never_given_twice() {
    let store = MemoryStore::new();
    let mut nums = Vec::new();
    for round in 0..3 {
        let server =
            TestServer::with(Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() });
        let mut ann = server.client("ann").await;
        let room = ann.ask(create_channel(&format!("room-{round}"))).await;
        nums.push(room["num"].as_u64().unwrap());
        for _ in 0..40 {
            nums.push(ann.ask(post(&format!("room-{round}"), "hi")).await["num"].as_u64().unwrap());
        }
        assert_eq!(ann.refused(create_channel("room-0")).await, "room_exists");
    }
    let count = nums.len();
    assert!(nums.is_sorted(), "{nums:?}");
    nums.dedup();
    assert_eq!(nums.len(), count);
}

#[tokio::test]
async fn one_alias_asked_for_by_many_at_once_is_one_room() {
    let server = TestServer::start();
    let mut clients = Vec::new();
    for n in 0..8 {
        let mut client = server.client(&format!("user-{n}")).await;
        let id = client.send(create_channel("lobby")).await;
        clients.push((client, id));
    }
    let mut made = 0;
    for (mut client, id) in clients {
        let reply = client.reply(&id).await;
        made += u32::from(reply["ok"] == true);
        assert!(reply["ok"] == true || reply["error"]["code"] == "room_exists", "{reply}");
    }
    assert_eq!(made, 1);
}

#[tokio::test]
async fn the_two_of_a_direct_room_find_the_same_one() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    let with = |other: &str| json!({ "type": "create", "kind": "direct", "members": [{ "user": other }] });
    let hers = ann.ask(with("bob")).await;
    let his = bob.ask(with("ann")).await;
    assert_eq!((&hers["room"], &hers["num"], &hers["seq"]), (&his["room"], &his["num"], &his["seq"]));
    assert_eq!(ann.refused(with("ann")).await, "not_a_pair");
    let room = hers["room"].as_str().unwrap();
    bob.ask(follow(room, "start")).await;
    ann.ask(post(room, "psst")).await;
    assert_eq!(bob.seqs_until(4).await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_deleted_message_leaves_its_place_and_nothing_else() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let mut publish = post("lobby", "secret one");
    publish["client_id"] = json!("c-1");
    let posted = ann.ask(publish.clone()).await;
    let message = posted["record"].clone();
    let edit = json!({ "type": "edit", "room": "lobby", "message": message, "content": { "text": "secret two" } });
    let delete = json!({ "type": "delete", "room": "lobby", "message": message });
    // Both are under way at once: the second is decided on what the first leads to.
    let ids = [ann.send(edit.clone()).await, ann.send(delete.clone()).await, ann.send(edit).await];
    assert_eq!(ann.reply(&ids[0]).await["ok"], true);
    assert_eq!(ann.reply(&ids[1]).await["ok"], true);
    assert_eq!(ann.reply(&ids[2]).await["error"]["code"], "message_deleted");
    assert_eq!(ann.refused(delete).await, "message_deleted");
    let history = ann.ask(json!({ "type": "history", "room": "lobby" })).await;
    let events: Vec<_> = history["records"].as_array().unwrap().iter().map(|r| r["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["room_created", "member_joined", "message_erased", "message_erased", "message_deleted"]);
    assert!(!history.to_string().contains("secret"));
    assert_eq!(ann.ask(publish).await["seq"], posted["seq"], "sent again, it is still the same");
}

#[tokio::test]
async fn a_cursor_from_before_a_loss_is_refused_and_one_that_still_holds_resumes() {
    let with_bob = json!({ "type": "create", "kind": "direct", "members": [{ "user": "bob" }] });
    let cursors_of = async |store: MemoryStore, messages: usize| {
        let server = TestServer::with(Setup { store: Arc::new(store), ..Setup::default() });
        let mut ann = server.client("ann").await;
        let room = ann.ask(with_bob.clone()).await["room"].as_str().unwrap().to_owned();
        for n in 0..messages {
            ann.ask(post(&room, &n.to_string())).await;
        }
        let records = ann.ask(json!({ "type": "history", "room": room })).await["records"].clone();
        let cursors = records.as_array().unwrap().iter().map(|r| r["cursor"].as_str().unwrap().to_owned());
        (room, cursors.collect::<Vec<_>>())
    };
    // The room of a pair has the same id wherever it is made: as if all of it had been lost and begun anew.
    let (room, lost) = cursors_of(MemoryStore::new(), 5).await;
    let store = MemoryStore::new().in_epoch(Epoch(2 << 32));
    let (_, kept) = cursors_of(store.clone(), 2).await;
    let store = store.in_epoch(Epoch(3 << 32));
    let server = TestServer::with(Setup { store: Arc::new(store), ..Setup::default() });
    let mut ann = server.client("ann").await;
    for cursor in &lost {
        assert_eq!(ann.refused(follow(&room, cursor)).await, "epoch_changed");
        let history = json!({ "type": "history", "room": room, "before": cursor });
        assert_eq!(ann.refused(history).await, "epoch_changed");
    }
    ann.ask(follow(&room, &kept[2])).await;
    ann.ask(post(&room, "in the third epoch")).await;
    assert_eq!(ann.seqs_until(6).await, [4, 5, 6]);
}

#[tokio::test]
async fn a_session_that_dies_leaves_nothing_behind_and_costs_the_others_nothing() {
    let clock = Arc::new(DeadlyClock::default());
    // The sweep looks at the clock, too.
    let limits = Limits { sweep: Duration::from_secs(600), ..Limits::lifted() };
    let server = TestServer::with(Setup { clock: Arc::clone(&clock) as _, limits, ..Setup::default() });
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    let room = ann.ask(create_channel("lobby")).await["room"].clone();
    bob.ask(join("lobby")).await;
    bob.ask(follow("lobby", "now")).await;
    let key = RoomKey { tenant: TenantId::default_tenant(), room: RoomId(room.as_str().unwrap().parse().unwrap()) };
    assert!(!server.registry.interest(&key).is_empty());
    clock.1.store(true, Ordering::Relaxed);
    bob.send(post("lobby", "deadly")).await;
    assert_eq!(bob.closed().await, None, "it ends without a word");
    eventually("the end of its follow", || server.registry.interest(&key).is_empty()).await;
    assert_eq!(server.connections().await, 1);
    ann.ask(post("lobby", "fine")).await;
    ann.ask(kick(&json!("lobby"), "bob")).await;
}

/// A clock at which whoever looks next dies once it has been told to: the first for rooms, which ask it for the time of
/// their records, the second for sessions, which ask it whether their token has expired.
#[derive(Default)]
struct DeadlyClock(AtomicBool, AtomicBool);

impl Clock for DeadlyClock {
    fn now(&self) -> Timestamp {
        assert!(!self.0.swap(false, Ordering::Relaxed), "deadly");
        SystemClock.now()
    }

    fn instant(&self) -> Instant {
        assert!(!self.1.swap(false, Ordering::Relaxed), "deadly");
        SystemClock.instant()
    }
}

/// A server and what can be done to its log.
fn faulty() -> (TestServer, Faults) {
    let store = MemoryStore::new();
    let faults = store.faults();
    (TestServer::with(Setup { store: Arc::new(store), ..Setup::default() }), faults)
}

fn says(commit: &Commit, word: &str) -> bool {
    commit.records.iter().any(|record| match &record.event {
        Event::Room(RoomEvent::MessagePosted { content, .. }) => {
            content.text.as_deref().is_some_and(|text| text.starts_with(word))
        }
        Event::Room(_) | Event::Directory(_) | Event::Inbox(_) => false,
    })
}
