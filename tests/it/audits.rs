//! What is decided about others is written down, each once, in a room that only those follow who answer for the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chinwag::actors::Limits;
use chinwag::actors::limits::{Rate, Rates};
use chinwag::actors::retention::Sweep;
use chinwag::clock::{Clock, ManualClock, SystemClock};
use chinwag::domain::command::Audit;
use chinwag::domain::{Command, Event, FileId, Record, RoomEvent, RoomId, RoomKey, StreamId, TenantId, Timestamp};
use chinwag::store::memory::{Fault, MemoryStore};
use chinwag::store::{Commit, CommitError, Put, Store, rows};
use futures_util::FutureExt;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::files::{principal, uploaded};
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
    let Watched { store, server, mut ann, mut bob, mut cas, audit } = watched().await;
    bob.ask(follow(&audit, "start")).await;
    refuse(&store, &audit);
    // Nobody loses anything by a mute.
    ann.ask(json!({ "type": "mute", "room": "lobby", "user": "cas", "until": null })).await;
    assert_eq!(ann.refused(role("bob", "member")).await, "unavailable");
    assert_eq!(ann.refused(role("bob", "member")).await, "unavailable", "it holds, and may not be relied on");
    // Who may not ask for it need not wait.
    assert_eq!(cas.refused(kick(&json!("lobby"), "bob")).await, "forbidden");
    assert_eq!(server.client("zoe").await.refused(kick(&json!("lobby"), "bob")).await, "not_member");
    store.faults().clear();
    ann.ask(role("bob", "member")).await;
    assert_eq!(bob.refused(json!({ "type": "history", "room": audit })).await, "room_not_found");
    let events: Vec<_> = log(&mut ann, &audit).await.iter().map(|entry| entry["decided"]["event"].clone()).collect();
    assert_eq!(events, ["role_changed", "member_muted", "role_changed"], "each once");
}

#[tokio::test]
async fn another_command_that_takes_the_right_away_waits_for_what_the_first_has_taken() {
    let Watched { store, server: _server, mut ann, mut bob, cas: _cas, audit } = watched().await;
    bob.ask(follow(&audit, "start")).await;
    refuse(&store, &audit);
    assert_eq!(ann.refused(role("bob", "member")).await, "unavailable");
    assert_eq!(ann.refused(rights("bob", &[], &["audit"])).await, "unavailable", "he reads it still");
    assert_eq!(ann.refused(kick(&json!("lobby"), "bob")).await, "unavailable", "he reads it still");
    store.faults().clear();
    assert_eq!(ann.refused(kick(&json!("lobby"), "bob")).await, "no_such_member");
    assert_eq!(bob.refused(json!({ "type": "history", "room": audit })).await, "room_not_found");
}

#[tokio::test]
async fn who_reads_no_more_is_out_however_much_is_still_to_be_written_down() {
    let Watched { store, server: _server, mut ann, mut bob, cas: _cas, audit } = watched().await;
    eventually("it is written down", || records_of(&store, &audit) == 4).await;
    refuse_entries(&store, &audit);
    for _ in 0..8 {
        ann.ask(rights("cas", &["audit"], &[])).await;
        ann.ask(rights("cas", &[], &["audit"])).await;
    }
    ann.ask(role("bob", "member")).await;
    assert_eq!(bob.refused(json!({ "type": "history", "room": audit })).await, "room_not_found");
    assert_eq!(log(&mut ann, &audit).await.len(), 1);
    store.faults().clear();
    let written = async {
        while log(&mut ann, &audit).await.len() < 18 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently(written).await;
    let seqs: Vec<_> =
        log(&mut ann, &audit).await.iter().map(|entry| entry["decided"]["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted(), "{seqs:?}");
    let joined = of(&history(&mut ann, &audit).await, "member_joined");
    assert!(joined.iter().all(|record| record["user"] != "cas"), "he reads it no more when it is written down");
}

#[tokio::test]
async fn who_has_read_only_meanwhile_is_never_let_in() {
    let store = MemoryStore::new();
    let server = TestServer::with(Setup { store: Arc::new(store.clone()), ..Setup::default() });
    let (mut ann, _bob, mut cas) = lobby(&server).await;
    ann.ask(kick(&json!("lobby"), "bob")).await;
    let audit = audit_of(&mut ann, "lobby").await;
    gained(&mut ann, &audit).await;
    refuse(&store, &audit);
    ann.ask(role("cas", "admin")).await;
    ann.ask(kick(&json!("lobby"), "cas")).await;
    store.faults().clear();
    eventually("it is written down", || records_of(&store, &audit) >= 5).await;
    assert_eq!(log(&mut ann, &audit).await.len(), 3);
    let joined = of(&history(&mut ann, &audit).await, "member_joined");
    assert!(joined.iter().all(|record| record["user"] == "ann"), "{joined:?}");
    cas.hears_back().await;
    let gained = cas.take_aside().into_iter().filter(|frame| frame["type"] == "room_gained");
    assert_eq!(gained.filter(|frame| frame["room"] == *audit).count(), 0);
}

#[tokio::test]
async fn who_leaves_by_a_request_is_answered_though_the_connection_showed_him_the_audit_room() {
    let server = TestServer::start();
    let (mut ann, mut bob, _cas) = lobby(&server).await;
    ann.ask(role("bob", "admin")).await;
    let audit = audit_of(&mut ann, "lobby").await;
    gained(&mut bob, &audit).await;
    drop(bob);
    for (method, path, body) in [
        ("PUT", "/v1/rooms/lobby/members/bob/role", Some(json!({ "role": "member" }))),
        ("POST", "/v1/rooms/lobby/leave", None),
    ] {
        ann.ask(role("bob", "owner")).await;
        let mut http = server.http("bob").await;
        patiently(async { while http.get(&format!("/v1/rooms/{audit}/events?after=start")).await.status != 200 {} })
            .await;
        let answer = http.request(method, path, body.as_ref()).await.expect("it is answered");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert_eq!(http.get(&format!("/v1/rooms/{audit}/events?after=start")).await.status, 404);
    }
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
async fn a_row_of_no_room_does_not_keep_others_from_being_woken() {
    let store = MemoryStore::new();
    let mut server = TestServer::with(Setup { store: Arc::new(store.clone()), ..Setup::default() });
    let (mut ann, _bob, _cas) = lobby(&server).await;
    let audit = audit_of(&mut ann, "lobby").await;
    refuse(&store, &audit);
    ann.try_ask(kick(&json!("lobby"), "cas")).await;
    drop(ann);
    server.stop();
    store.faults().clear();
    let stream = StreamId::Room(RoomKey { tenant: TenantId::default_tenant(), room: RoomId(Uuid::from_u128(1)) });
    let put = Put { under: StreamId::Owed, key: Bytes::from_static(&[0]), value: Some(Bytes::new()) };
    let (records, erase) = (Vec::new(), Vec::new());
    let store = store.in_epoch(MemoryStore::EPOCH);
    store.commit(Commit { stream, expected: None, records, puts: vec![put], erase, trim: None }).await.unwrap();
    let server = TestServer::with(Setup { store: Arc::new(store.clone()), ..Setup::default() });
    eventually("it is written down", || records_of(&store, &audit) >= 3).await;
    drop(server);
}

#[tokio::test]
async fn what_cannot_be_read_of_what_is_owed_does_not_keep_back_what_is_behind_it() {
    // As what was decided: of these, and what then arrives.
    for (decided, damaged, arrives) in [(&["bob", "cas"][..], &[0][..], &["cas"][..]), (&["bob"], &[0], &[])] {
        let store = MemoryStore::new();
        let mut server = TestServer::with(Setup { store: Arc::new(store.clone()), ..Setup::default() });
        let (mut ann, _bob, _cas) = lobby(&server).await;
        let audit = audit_of(&mut ann, "lobby").await;
        refuse(&store, &audit);
        for user in decided {
            ann.try_ask(kick(&json!("lobby"), user)).await;
        }
        drop(ann);
        server.stop();
        store.faults().clear();
        let store = store.in_epoch(MemoryStore::EPOCH);
        let owed = store.scan(&StreamId::Owed, &[], None, 10).await.unwrap();
        assert_eq!(owed.len(), decided.len());
        let damage = |&at: &usize| Put {
            under: StreamId::Owed,
            key: owed[at].0.clone(),
            value: Some(Bytes::from_static(b"\xc1")),
        };
        let (stream, records, puts) = (StreamId::Owed, Vec::new(), damaged.iter().map(damage).collect());
        store.commit(Commit { stream, expected: None, records, puts, erase: Vec::new(), trim: None }).await.unwrap();

        let server = TestServer::with(Setup { store: Arc::new(store.clone()), ..Setup::default() });
        patiently(async {
            while !store.scan(&StreamId::Owed, &[], None, 10).await.unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(server.registry.metrics().decisions_lost.get(), damaged.len() as u64);
        let mut ann = server.client("ann").await;
        let kicked: Vec<_> = log(&mut ann, &audit).await.iter().map(|entry| entry["decided"]["user"].clone()).collect();
        assert_eq!(kicked, arrives);
        // What is decided from then on is written down.
        ann.ask(json!({ "type": "update", "room": "lobby", "name": "The lobby" })).await;
        eventually("it is written down", || records_of(&store, &audit) >= 3 + arrives.len() as u64).await;
    }
}

#[tokio::test]
async fn who_fills_an_audit_room_with_commands_keeps_nothing_out_of_it() {
    let limits = Limits { in_flight_per_room: 1, ..Setup::default().limits };
    let store = MemoryStore::new();
    let server = TestServer::with(Setup { store: Arc::new(store.clone()), limits, ..Setup::default() });
    let (mut ann, _bob, _cas) = lobby(&server).await;
    let audit = audit_of(&mut ann, "lobby").await;
    ann.ask(kick(&json!("lobby"), "bob")).await;
    gained(&mut ann, &audit).await;
    // All of it is on disk: what is held from now on holds up everything behind it.
    ann.ask(follow(&audit, "start")).await;
    entries(&mut ann, 1).await;
    let room = RoomKey { tenant: TenantId::default_tenant(), room: RoomId(Uuid::parse_str(&audit).unwrap()) };
    let audited = |command| server.registry.submit(&room, principal("ann"), command, None);
    let held = RoomId(Uuid::parse_str(&audit).unwrap());
    store.faults().when(Fault::Hold, move |commit| is_of(commit, held));
    ann.ask(kick(&json!("lobby"), "cas")).await;
    eventually("it is being written down", || store.faults().held() > 0).await;
    let busy = audited(Command::Leave).now_or_never().expect("it is refused at once").unwrap_err();
    assert_eq!(busy.code(), "busy");
    assert!(audited(Command::Audit(Audit::default())).now_or_never().is_none(), "it waits for what is held");
    store.faults().release();
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

#[tokio::test]
async fn a_report_keeps_what_was_said_whatever_becomes_of_the_message() {
    let server = TestServer::start();
    let (mut ann, mut bob, mut cas) = lobby(&server).await;
    let audit = audit_of(&mut ann, "lobby").await;
    let file = uploaded(&server, "cas", "room=lobby&name=evidence.txt", b"buy this").await;
    let said = json!({ "type": "post", "room": "lobby", "content": { "text": "buy" }, "attachments": [file] });
    let said = cas.ask(said).await["record"].clone();
    cas.ask(json!({ "type": "edit", "room": "lobby", "message": said, "content": { "text": "buy it" } })).await;
    let reported = bob.ask(report(&said, Some("spam"))).await;
    assert_eq!(reported["message"], said);
    cas.ask(json!({ "type": "edit", "room": "lobby", "message": said, "content": { "text": "hello" } })).await;
    cas.ask(json!({ "type": "delete", "room": "lobby", "message": said })).await;
    server.registry.files().unwrap().collect(server.registry.limits().files, Timestamp(i64::MAX)).await.unwrap();

    let reports = of(&history(&mut ann, &audit).await, "reported");
    let [entry] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!((&entry["author"], &entry["reason"]), (&json!("bob"), &json!("spam")));
    let evidence = &entry["reported"];
    assert_eq!((&evidence["message"], &evidence["by"]), (&said, &json!("cas")));
    assert_eq!(evidence["content"], json!({ "text": "buy it" }));
    assert_eq!(
        (&evidence["attachments"][0]["id"], &evidence["attachments"][0]["name"]),
        (&json!(file), &json!("evidence.txt"))
    );
    // Who answers for the room reads the file, and who has sent it reads his own.
    for (user, status) in [("ann", 200), ("cas", 200), ("bob", 404)] {
        let answer = server.http(user).await.get(&format!("/v1/files/{file}")).await;
        assert_eq!(answer.status, status, "{user}");
    }
    for command in [json!({ "type": "delete", "room": audit, "message": entry["id"] }), follow(&audit, "start")] {
        assert_eq!(cas.refused(command).await, "room_not_found");
    }

    assert_eq!(ann.refused(resolve(&audit, &said)).await, "report_not_found");
    assert_eq!(bob.refused(resolve(&audit, &entry["id"])).await, "room_not_found");
    ann.ask(resolve(&audit, &entry["id"])).await;
    ann.ask(resolve(&audit, &entry["id"])).await;
    let resolved = of(&history(&mut ann, &audit).await, "report_resolved");
    assert_eq!(resolved.len(), 1);
    assert_eq!((&resolved[0]["report"], &resolved[0]["note"]), (&entry["id"], &json!("seen")));
}

#[tokio::test]
async fn a_message_is_reported_by_whoever_reads_it_and_by_each_once() {
    let server = TestServer::start();
    let (mut ann, mut bob, mut cas) = lobby(&server).await;
    let audit = audit_of(&mut ann, "lobby").await;
    ann.ask(role("bob", "viewer")).await;
    let said = cas.ask(post("lobby", "spam")).await["record"].clone();
    // At the same time, on two connections.
    let mut again = server.client("bob").await;
    let (one, other) = tokio::join!(bob.ask(report(&said, None)), again.ask(report(&said, Some("spam"))));
    assert_eq!((&one["message"], &other["message"]), (&said, &said));
    bob.ask(report(&said, None)).await;
    ann.ask(report(&said, None)).await;
    let by: Vec<_> = of(&history(&mut ann, &audit).await, "reported").iter().map(|it| it["author"].clone()).collect();
    assert_eq!(by, ["bob", "ann"]);

    for (user, code) in [("zoe", "not_member"), ("cas", "ok")] {
        let mut client = server.client(user).await;
        assert_eq!(told(&client.try_ask(report(&said, None)).await), code, "{user}");
    }
    ann.ask(json!({ "type": "update", "room": "lobby", "history": "join" })).await;
    let mut zoe = server.client("zoe").await;
    zoe.ask(join("lobby")).await;
    assert_eq!(zoe.refused(report(&said, None)).await, "message_not_found");
    cas.ask(json!({ "type": "delete", "room": "lobby", "message": said })).await;
    assert_eq!(bob.refused(report(&said, None)).await, "message_deleted");
    assert_eq!(cas.refused(report(&json!("0190a000-0000-7000-8000-000000000003"), None)).await, "message_not_found");
}

#[tokio::test]
async fn a_report_before_any_decision_begins_an_audit_room_that_hears_who_may_read_it() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    ann.ask(json!({ "type": "invite", "room": "lobby", "user": "bob", "role": "admin" })).await;
    let mut bob = server.client("bob").await;
    bob.ask(join("lobby")).await;
    let audit = audit_of(&mut bob, "lobby").await;
    let said = ann.ask(post("lobby", "spam")).await["record"].clone();
    server.client("bob").await.ask(report(&said, None)).await;
    bob.ask(follow(&audit, "start")).await;
    bob.ask(json!({ "type": "leave", "room": "lobby" })).await;
    assert_eq!(bob.refused(json!({ "type": "history", "room": audit })).await, "room_not_found");
    assert_eq!(of(&history(&mut ann, &audit).await, "reported").len(), 1);
}

#[tokio::test]
async fn evidence_is_kept_for_a_time_of_its_own_and_then_no_longer() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let mut limits = Setup::default().limits;
    (limits.keep.others, limits.keep.evidence) = (Some(DAY_MS), Some(90 * DAY_MS));
    let server = TestServer::with(Setup { clock: Arc::clone(&clock) as Arc<dyn Clock>, limits, ..Setup::default() });
    let later = async |days: u64| {
        clock.advance(Duration::from_millis(days * DAY_MS));
        Sweep::default().round(&server.registry).await.unwrap();
        server.registry.files().unwrap().collect(server.registry.limits().files, Timestamp(i64::MAX)).await.unwrap();
        let token = server.token_of("default", "ann", clock.now(), Duration::from_secs(60));
        server.client_with(&token, None).await
    };
    let (mut ann, mut bob, mut cas) = lobby(&server).await;
    let audit = audit_of(&mut ann, "lobby").await;
    let file = uploaded(&server, "cas", "room=lobby&name=evidence.txt", b"buy this").await;
    let said = json!({ "type": "post", "room": "lobby", "attachments": [file] });
    let said = cas.ask(said).await["record"].clone();
    bob.ask(report(&said, None)).await;
    let mut ann = later(2).await;
    assert_eq!(of(&history(&mut ann, "lobby").await, "message_posted").len(), 0);
    assert_eq!(of(&history(&mut ann, &audit).await, "reported").len(), 1);
    let kept =
        async || server.registry.store().get(&StreamId::Files, &rows::file(file_id(&file))).await.unwrap().is_some();
    assert!(kept().await, "what is evidence is not collected");
    let mut ann = later(90).await;
    assert_eq!(of(&history(&mut ann, &audit).await, "reported").len(), 0);
    let mut ann = later(1).await;
    assert!(!kept().await);
    assert_eq!(ann.refused(report(&said, None)).await, "message_not_found");
}

#[tokio::test]
async fn who_reports_too_often_has_to_wait() {
    let rates = Rates { reports_per_user: Some(Rate::per_minute(1, 2)), ..Rates::default() };
    let server = TestServer::with(Setup { limits: Limits { rates, ..Limits::lifted() }, ..Setup::default() });
    let (mut ann, mut bob, mut cas) = lobby(&server).await;
    for n in 0..3 {
        let said = ann.ask(post("lobby", "hi")).await["record"].clone();
        let answer = bob.try_ask(report(&said, None)).await;
        assert_eq!(told(&answer), if n < 2 { "ok" } else { "rate_limited" });
        assert!(n < 2 || answer["error"]["limit"] == "rates.reports_per_user", "{answer}");
        cas.ask(post("lobby", "another has a rate of his own")).await;
    }
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn file_id(file: &str) -> FileId {
    FileId(Uuid::parse_str(file).unwrap())
}

fn report(message: &Value, reason: Option<&str>) -> Value {
    json!({ "type": "report", "room": "lobby", "message": message, "reason": reason })
}

fn resolve(audit: &str, report: &Value) -> Value {
    json!({ "type": "resolve_report", "room": audit, "report": report, "note": "seen" })
}

fn told(answer: &Value) -> &str {
    if answer["ok"] == true { "ok" } else { code(answer) }
}

async fn history(client: &mut Client, room: &str) -> Vec<Value> {
    let page = client.ask(json!({ "type": "history", "room": room, "limit": 100 })).await;
    page["records"].as_array().unwrap().clone()
}

fn of(records: &[Value], event: &str) -> Vec<Value> {
    records.iter().filter(|record| record["event"] == *event).cloned().collect()
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

/// Has every commit of the audit room fail that writes down what was decided.
fn refuse_entries(store: &MemoryStore, audit: &str) {
    let audit = RoomId(Uuid::parse_str(audit).unwrap());
    let decided = |record: &Record| matches!(record.event, Event::Room(RoomEvent::Audited(_)));
    store.faults().when(Fault::Fail(CommitError::Failed), move |commit| {
        is_of(commit, audit) && commit.records.iter().any(decided)
    });
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
    of(&history(client, audit).await, "audited")
}

/// Why something was refused, if it was.
fn code(reply: &Value) -> &str {
    reply["error"]["code"].as_str().unwrap_or_default()
}

/// Waits until a client hears that it has the room.
async fn gained(client: &mut Client, room: &str) {
    while client.notice("room_gained").await["room"] != *room {}
}

/// The lobby, of which bob is an admin, who reads what is decided in it.
struct Watched {
    store: MemoryStore,
    server: TestServer,
    ann: Client,
    bob: Client,
    cas: Client,
    audit: String,
}

async fn watched() -> Watched {
    let store = MemoryStore::new();
    let server = TestServer::with(Setup { store: Arc::new(store.clone()), ..Setup::default() });
    let (mut ann, mut bob, cas) = lobby(&server).await;
    ann.ask(role("bob", "admin")).await;
    let audit = audit_of(&mut ann, "lobby").await;
    gained(&mut bob, &audit).await;
    Watched { store, server, ann, bob, cas, audit }
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
