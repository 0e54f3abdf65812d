//! What is decided about others is written down, each once, in a room that only those follow who answer for the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chinwag::domain::{RoomId, RoomKey, StreamId, TenantId};
use chinwag::store::memory::{Fault, MemoryStore};
use chinwag::store::{Commit, CommitError, Store};
use futures_util::FutureExt;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Client, Setup, TestServer, create_channel, eventually, follow, join, kick, patiently, post};
use crate::listening::Listening;
use crate::support::listeners::Events;

#[tokio::test]
async fn what_is_decided_is_written_down_for_those_who_answer_for_the_room() {
    let server = TestServer::start();
    let (mut ann, mut bob, mut cas) = lobby(&server).await;
    let audit = audit_of(&mut ann, "lobby").await;
    assert_eq!(bob.ask(json!({ "type": "room", "room": "lobby" })).await["audit"], Value::Null);
    assert_eq!(ann.refused(follow(&audit, "start")).await, "room_not_found");
    let said = cas.ask(post("lobby", "spam")).await;

    let muted = ann.ask(json!({ "type": "mute", "room": "lobby", "user": "cas", "until": null })).await;
    gained(&mut ann, &audit).await;
    ann.ask(json!({ "type": "delete", "room": "lobby", "message": said["record"] })).await;
    ann.ask(role("bob", "admin")).await;
    gained(&mut bob, &audit).await;
    bob.ask(json!({ "type": "kick", "room": "lobby", "user": "cas", "reason": "enough" })).await;

    bob.ask(follow(&audit, "start")).await;
    let entries = entries(&mut bob, 4).await;
    assert_eq!(entries.iter().map(|entry| &entry["author"]).collect::<Vec<_>>(), ["ann", "ann", "ann", "bob"]);
    let decided: Vec<_> = entries.iter().map(|entry| &entry["decided"]).collect();
    let events: Vec<_> = decided.iter().map(|decided| &decided["event"]).collect();
    assert_eq!(events, ["member_muted", "message_deleted", "role_changed", "member_kicked"]);
    assert_eq!((&decided[0]["seq"], &decided[0]["user"]), (&muted["seq"], &json!("cas")));
    assert_eq!((&decided[1]["message"], &decided[1]["by"]), (&said["record"], &json!("cas")));
    assert_eq!((&decided[3]["user"], &decided[3]["reason"]), (&json!("cas"), &json!("enough")));
    let about = bob.ask(json!({ "type": "room", "room": audit })).await;
    assert_eq!(
        (&about["kind"], &about["role"], &about["archived"]),
        (&json!("audit"), &json!("viewer"), &json!(false))
    );
    let lobby = ann.ask(json!({ "type": "room", "room": "lobby" })).await;
    assert_eq!((&about["audits"], &about["capabilities"]), (&lobby["room"], &json!([])));
    let first = ann.ask(json!({ "type": "history", "room": audit })).await;
    let created = &first["records"][0];
    assert_eq!((&created["event"], &created["audits"]), (&json!("room_created"), &lobby["room"]));
    assert_eq!(created["author"], "chinwag:server");
    for client in [&mut cas, &mut server.client("zoe").await] {
        assert_eq!(client.refused(follow(&audit, "start")).await, "room_not_found");
    }
}

#[tokio::test]
async fn whoever_may_not_read_an_audit_room_does_not_find_it_by_any_way() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let people = ["admin", "allowed", "denied", "member", "guest", "viewer", "gone", "demoted"];
    for user in people {
        server.client(user).await.ask(join("lobby")).await;
    }
    for (user, as_) in [
        ("admin", "admin"),
        ("denied", "admin"),
        ("gone", "admin"),
        ("demoted", "admin"),
        ("guest", "guest"),
        ("viewer", "viewer"),
    ] {
        ann.ask(role(user, as_)).await;
    }
    ann.ask(rights("allowed", &["audit"], &[])).await;
    ann.ask(rights("denied", &[], &["audit"])).await;
    ann.ask(kick(&json!("lobby"), "gone")).await;
    ann.ask(role("demoted", "member")).await;
    let audit = audit_of(&mut ann, "lobby").await;
    let head = ann.ask(json!({ "type": "room", "room": audit })).await["head"].as_u64().unwrap();
    let entry = ann.ask(json!({ "type": "history", "room": audit, "limit": 1 })).await["records"][0]["id"].clone();

    for (user, reads) in [
        ("ann", true),
        ("admin", true),
        ("allowed", true),
        ("denied", false),
        ("member", false),
        ("guest", false),
        ("viewer", false),
        ("stranger", false),
        ("gone", false),
        ("demoted", false),
    ] {
        let expect = |reply: &Value, what: &str| {
            let code = &reply["error"]["code"];
            assert_eq!(reply["ok"], reads, "{user}: {what}: {reply}");
            assert!(reads || code == "room_not_found" || code == "message_not_found", "{user}: {what}: {reply}");
        };
        let mut client = server.client(user).await;
        for command in [
            json!({ "type": "history", "room": audit }),
            json!({ "type": "room", "room": audit }),
            json!({ "type": "members", "room": audit }),
            json!({ "type": "pins", "room": audit }),
            json!({ "type": "inbox_update", "room": audit, "read_to": 1 }),
            follow(&audit, "start"),
        ] {
            let kind = command["type"].clone();
            expect(&client.try_ask(command).await, kind.as_str().unwrap());
        }
        let thread = client.try_ask(json!({ "type": "thread", "room": audit, "message": entry })).await;
        assert_eq!(thread["error"]["code"] == "room_not_found", !reads, "{user}: {thread}");
        if reads {
            assert_eq!(client.seqs_until(head).await.len() as u64, head, "{user}");
        }
        for kind in ["rooms", "inbox"] {
            let listed = client.ask(json!({ "type": kind })).await["rooms"].to_string();
            assert_eq!(listed.contains(&audit), reads, "{user}: {kind}");
        }
        let mut http = server.http(user).await;
        let page = http.get(&format!("/v1/rooms/{audit}/events?after=start")).await;
        assert_eq!(page.status, if reads { 200 } else { 404 }, "{user}: a page");
        let path = format!("/v1/rooms/{audit}/events");
        let stream = Events::open(server.address, &server.token(user), &path, None).await;
        assert_eq!(stream.is_ok(), reads, "{user}: an event stream");
        // By hand nobody does anything in it.
        for command in
            [post(&audit, "hi"), join(&audit), json!({ "type": "leave", "room": audit }), kick(&json!(audit), "ann")]
        {
            assert_eq!(client.try_ask(command.clone()).await["ok"], false, "{user}: {command}");
        }
        let invite = json!({ "type": "invite", "room": audit, "user": "member", "role": "viewer" });
        assert_eq!(client.try_ask(invite).await["ok"], false, "{user}");
    }
    assert_eq!(ann.try_ask(json!({ "type": "create", "kind": "audit" })).await["ok"], false);
}

#[tokio::test]
async fn nothing_of_an_audit_room_reaches_whoever_has_been_told_to_read_it_no_more() {
    let server = Arc::new(TestServer::start());
    let (mut ann, mut bob, _cas) = lobby(&server).await;
    ann.ask(role("bob", "admin")).await;
    let audit = audit_of(&mut ann, "lobby").await;
    gained(&mut bob, &audit).await;
    let over = Arc::new(AtomicBool::new(false));
    let busy = tokio::spawn({
        let (server, over) = (Arc::clone(&server), Arc::clone(&over));
        async move {
            let mut client = server.client("ann").await;
            for round in 0.. {
                let (kind, until) = if round % 2 == 0 { ("mute", json!(null)) } else { ("unmute", Value::Null) };
                let mut command = json!({ "type": kind, "room": "lobby", "user": "cas" });
                if kind == "mute" {
                    command["until"] = until;
                }
                client.ask(command).await;
                if over.load(Ordering::Relaxed) {
                    return round;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            unreachable!("it goes on until it is over")
        }
    });
    let mut seen = 0;
    for round in 0..24 {
        bob.ask(follow(&audit, "now")).await;
        seen += entries(&mut bob, 1).await.len();
        tokio::time::sleep(Duration::from_millis(round * 3)).await;
        let takes = match round % 3 {
            0 => role("bob", "member"),
            1 => rights("bob", &[], &["audit"]),
            _ => kick(&json!("lobby"), "bob"),
        };
        ann.ask(takes.clone()).await;
        assert_eq!(bob.refused(json!({ "type": "history", "room": audit })).await, "room_not_found", "{takes}");
        let before = bob.take_aside();
        seen += before.len();
        let out = before.iter().filter(|frame| frame["room"] == *audit && frame["event"] == "member_kicked");
        assert_eq!(out.filter(|frame| frame["user"] == "bob").count(), 1, "{takes}: it hears that it is out");
        tokio::time::sleep(Duration::from_millis(60)).await;
        bob.hears_back().await;
        let after = bob.take_aside();
        assert!(
            after.iter().all(|frame| frame["room"] != *audit || frame["type"] == "room_lost"),
            "{takes}: {after:?}"
        );
        if round % 3 == 2 {
            bob.ask(join("lobby")).await;
        }
        ann.ask(rights("bob", &[], &[])).await;
        ann.ask(role("bob", "admin")).await;
        gained(&mut bob, &audit).await;
        bob.take_aside();
    }
    over.store(true, Ordering::Relaxed);
    let rounds = busy.await.unwrap();
    assert!(rounds > 50 && seen > 48, "{rounds} decisions were made meanwhile, {seen} frames seen");
}

#[tokio::test]
async fn who_takes_the_right_away_is_not_told_so_before_the_audit_room_has_let_go() {
    let store = MemoryStore::new();
    let server = TestServer::with(Setup { store: Arc::new(store.clone()), ..Setup::default() });
    let (mut ann, mut bob, _cas) = lobby(&server).await;
    ann.ask(role("bob", "admin")).await;
    let audit = audit_of(&mut ann, "lobby").await;
    gained(&mut bob, &audit).await;
    bob.ask(follow(&audit, "start")).await;
    refuse(&store, &audit);
    // Nobody loses anything by a mute.
    ann.ask(json!({ "type": "mute", "room": "lobby", "user": "cas", "until": null })).await;
    assert_eq!(ann.refused(role("bob", "member")).await, "unavailable");
    assert_eq!(ann.refused(role("bob", "member")).await, "unavailable", "it holds, and may not be relied on");
    store.faults().clear();
    ann.ask(role("bob", "member")).await;
    assert_eq!(bob.refused(json!({ "type": "history", "room": audit })).await, "room_not_found");
    let events: Vec<_> = log(&mut ann, &audit).await.iter().map(|entry| entry["decided"]["event"].clone()).collect();
    assert_eq!(events, ["role_changed", "member_muted", "role_changed"], "each once");
}

#[tokio::test]
async fn what_was_decided_before_the_end_arrives_once_after_the_next_start() {
    for (fault, struck) in [
        (Fault::Fail(CommitError::Failed), Struck::Taking),
        (Fault::Tear, Struck::Taking),
        (Fault::Forget, Struck::Taking),
        (Fault::Fail(CommitError::Failed), Struck::Settling),
        (Fault::Forget, Struck::Settling),
        (Fault::Tear, Struck::Settling),
    ] {
        let store = MemoryStore::new();
        let mut server = TestServer::with(Setup { store: Arc::new(store.clone()), ..Setup::default() });
        let (mut ann, _bob, _cas) = lobby(&server).await;
        let audit = audit_of(&mut ann, "lobby").await;
        match struck {
            Struck::Taking => {
                let audit = RoomId(Uuid::parse_str(&audit).unwrap());
                store.faults().when(fault, move |commit| is_of(commit, audit));
            }
            // The rows of what was taken are taken away by a commit without records.
            Struck::Settling => store.faults().when(fault, |commit| {
                commit.records.is_empty() && commit.puts.iter().any(|put| put.under == StreamId::Owed)
            }),
        }
        for user in ["bob", "cas"] {
            // A commit that fails takes with it what waits behind it.
            while !["", "no_such_member"].contains(&code(&ann.try_ask(kick(&json!("lobby"), user)).await)) {}
        }
        let owed = async || store.scan(&StreamId::Owed, &[], None, 10).await.unwrap().len();
        // What was written and not said to be is found to be there.
        assert!(fault == Fault::Tear || owed().await > 0, "{fault:?}");
        if matches!(struck, Struck::Settling) {
            eventually("it is taken", || records_of(&store, &audit) >= 3).await;
        }
        drop(ann);
        server.stop();
        store.faults().clear();
        let server =
            TestServer::with(Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() });
        // Nobody asks anything of the lobby.
        patiently(async {
            while owed().await > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let mut ann = server.client("ann").await;
        let kicked: Vec<_> = log(&mut ann, &audit).await.iter().map(|entry| entry["decided"]["user"].clone()).collect();
        assert_eq!(kicked, ["bob", "cas"], "{fault:?}");
    }
}

#[tokio::test]
async fn a_tenant_with_as_many_rooms_as_it_may_have_is_moderated_all_the_same() {
    let mut limits = Setup::default().limits;
    limits.tenant.rooms = Some(1);
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let (mut ann, _bob, _cas) = lobby(&server).await;
    assert_eq!(ann.refused(create_channel("another")).await, "too_many_rooms");
    let audit = audit_of(&mut ann, "lobby").await;
    ann.ask(kick(&json!("lobby"), "cas")).await;
    gained(&mut ann, &audit).await;
    ann.ask(follow(&audit, "start")).await;
    assert_eq!(entries(&mut ann, 1).await[0]["decided"]["user"], "cas");
}

/// What goes wrong.
enum Struck {
    Taking,
    Settling,
}

/// Has every commit of the audit room fail.
fn refuse(store: &MemoryStore, audit: &str) {
    let audit = RoomId(Uuid::parse_str(audit).unwrap());
    store.faults().when(Fault::Fail(CommitError::Failed), move |commit| is_of(commit, audit));
}

fn is_of(commit: &Commit, room: RoomId) -> bool {
    matches!(&commit.stream, StreamId::Room(key) if key.room == room)
}

/// How many records a room has.
fn records_of(store: &MemoryStore, room: &str) -> u64 {
    let room = RoomKey { tenant: TenantId::default_tenant(), room: RoomId(Uuid::parse_str(room).unwrap()) };
    let head = store.head(&room.stream()).now_or_never().unwrap().unwrap();
    head.map_or(0, |head| head.seq.0)
}

/// The entries of an audit room.
async fn log(client: &mut Client, audit: &str) -> Vec<Value> {
    let page = client.ask(json!({ "type": "history", "room": audit, "limit": 100 })).await;
    let records = page["records"].as_array().unwrap();
    records.iter().filter(|record| record["event"] == "audited").cloned().collect()
}

/// Why something was refused, if it was.
fn code(reply: &Value) -> &str {
    reply["error"]["code"].as_str().unwrap_or_default()
}

/// Waits until a client hears that it has the room.
async fn gained(client: &mut Client, room: &str) {
    while client.notice("room_gained").await["room"] != *room {}
}

/// The channel of ann, of which bob and cas are members.
async fn lobby(server: &TestServer) -> (Client, Client, Client) {
    let (mut ann, mut bob, mut cas) =
        (server.client("ann").await, server.client("bob").await, server.client("cas").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    cas.ask(join("lobby")).await;
    (ann, bob, cas)
}

async fn audit_of(client: &mut Client, room: &str) -> String {
    let about = client.ask(json!({ "type": "room", "room": room })).await;
    let room = RoomId(Uuid::parse_str(about["room"].as_str().unwrap()).unwrap());
    let audit = about["audit"].as_str().expect("the room says where what is decided is written down").to_owned();
    assert_eq!(audit, RoomId::audit(&TenantId::default_tenant(), room).to_string());
    audit
}

/// The next `count` entries of an audit room that is followed.
async fn entries(client: &mut Client, count: usize) -> Vec<Value> {
    let mut entries = Vec::new();
    while entries.len() < count {
        let record = client.record().await;
        if record["event"] == "audited" {
            entries.push(record);
        }
    }
    entries
}

fn rights(user: &str, allow: &[&str], deny: &[&str]) -> Value {
    json!({ "type": "rights", "room": "lobby", "user": user, "allow": allow, "deny": deny })
}

fn role(user: &str, role: &str) -> Value {
    json!({ "type": "role", "room": "lobby", "user": user, "role": role })
}
