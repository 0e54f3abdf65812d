//! What is decided in a tenant is written down with it, in a room that those follow who decide there, and nobody else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chinwag::actors::Limits;
use chinwag::domain::account::{Account, Rank};
use chinwag::domain::revocation::Subject;
use chinwag::domain::{Event, Revocation, RoomEvent, RoomId, RoomKey, Seq, StreamId, TenantId, Timestamp, UserId};
use chinwag::store::memory::{Fault, MemoryStore};
use chinwag::store::rows::{self, Row};
use chinwag::store::{Commit, CommitError, Put, Store};
use chinwag::wire::Dialect;
use futures_util::FutureExt;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::accounts::{PASSWORD, anybody, now, owner, refused, register, send, text};
use crate::files::uploaded;
use crate::harness::{Client, Setup, TestServer, eventually, follow, join, kick, patiently, post};
use crate::listening::Listening;
use crate::support::listeners::Events;

#[tokio::test]
async fn each_deed_is_an_entry_in_its_order_for_whoever_administers() {
    let (_, server) = of(&[("olga", Rank::Owner), ("adam", Rank::Admin), ("bob", Rank::Member)]).await;
    let (olga, adam) = (login(&server, "olga"), login(&server, "adam"));
    let mut follower = server.client("adam").await;
    assert_eq!(follower.refused(follow(&audit(), "start")).await, "room_not_found");

    let added = server.accounts.add(tenant(), user("carol"), Rank::Admin, [7; 32]);
    tokio::task::LocalSet::new().run_until(added).await.unwrap();
    gained(&mut follower).await;
    let (_, made) = send(&server, "POST", "/v1/invites", Some(&adam), &json!({})).await;
    let invite = text(&made["invite"]);
    ok(&server, "DELETE", &format!("/v1/invites/{invite}"), &adam, &Value::Null).await;
    ok(&server, "POST", "/v1/accounts/bob/reset", &adam, &Value::Null).await;
    ok(&server, "PATCH", "/v1/accounts/bob", &olga, &json!({ "rank": "admin" })).await;
    // It is so already.
    ok(&server, "PATCH", "/v1/accounts/bob", &olga, &json!({ "rank": "admin" })).await;
    ok(&server, "PATCH", "/v1/accounts/bob", &olga, &json!({ "disabled": true })).await;
    let until = now().0 + 60_000;
    let ban = json!({ "user": "mallory", "until": until, "reason": "spam" });
    ok(&server, "POST", "/v1/bans", &adam, &ban).await;
    ok(&server, "DELETE", "/v1/bans/mallory", &adam, &Value::Null).await;
    let revocation = Revocation { since: now(), until: Timestamp(until) };
    for subject in [Subject::User(tenant(), user("eve")), Subject::Tenant(tenant())] {
        server.registry.revoke(subject, revocation).await.unwrap();
    }

    let entries = deeds(&server).await;
    let since = revocation.since.0;
    let expected = [
        json!({ "author": "chinwag:operator", "deed": "account_added", "user": "carol", "rank": "admin" }),
        json!({ "author": "adam", "deed": "invite_made", "invite": invite, "rank": "member" }),
        json!({ "author": "adam", "deed": "invite_taken_back", "invite": invite }),
        json!({ "author": "adam", "deed": "reset_made", "user": "bob" }),
        json!({ "author": "olga", "deed": "account_changed", "user": "bob", "rank": "admin", "disabled": false }),
        json!({ "author": "olga", "deed": "account_changed", "user": "bob", "rank": "admin", "disabled": true }),
        json!({ "author": "adam", "deed": "user_banned", "user": "mallory", "until": until, "reason": "spam" }),
        json!({ "author": "adam", "deed": "user_unbanned", "user": "mallory" }),
        json!({ "author": "chinwag:operator", "deed": "tokens_revoked", "user": "eve", "since": since }),
        json!({ "author": "chinwag:operator", "deed": "tokens_revoked", "user": null, "since": since }),
    ];
    assert_eq!(entries, expected);
}

#[tokio::test]
async fn the_room_is_found_by_those_who_administer_the_tenant_and_by_nobody_else() {
    let people = [("olga", Rank::Owner), ("adam", Rank::Admin), ("bob", Rank::Member), ("carol", Rank::Admin)];
    let (_, server) = of(&people).await;
    let olga = login(&server, "olga");
    ok(&server, "PATCH", "/v1/accounts/carol", &olga, &json!({ "rank": "member" })).await;
    let stranger_of = server.token_in("hill", "olga", Duration::from_secs(60));
    for (name, reads) in
        [("olga", true), ("adam", true), ("bob", false), ("carol", false), ("zoe", false), ("elsewhere", false)]
    {
        let token = if name == "elsewhere" { stranger_of.clone() } else { server.token(name) };
        let mut client = server.client_with(&token, Some("chinwag.v1.json")).await;
        for command in [
            json!({ "type": "history", "room": audit() }),
            json!({ "type": "room", "room": audit() }),
            json!({ "type": "members", "room": audit() }),
            json!({ "type": "inbox_update", "room": audit(), "read_to": 1 }),
            follow(&audit(), "start"),
        ] {
            let answer = client.try_ask(command).await;
            assert_eq!(answer["ok"], reads, "{name}: {answer}");
            assert!(reads || answer["error"]["code"] == "room_not_found", "{name}: {answer}");
        }
        for kind in ["rooms", "inbox"] {
            let listed = client.ask(json!({ "type": kind })).await["rooms"].clone();
            let found = listed.as_array().unwrap().iter().find(|room| room["room"] == *audit());
            assert_eq!(found.map(|room| &room["kind"]), reads.then_some(&json!("audit")), "{name}: {kind}");
        }
        // By hand nobody does anything in it.
        let invite = json!({ "type": "invite", "room": audit(), "user": "bob", "role": "viewer" });
        let leave = json!({ "type": "leave", "room": audit() });
        for command in [post(&audit(), "hi"), join(&audit()), leave, kick(&json!(audit()), "adam"), invite] {
            assert_eq!(client.try_ask(command.clone()).await["ok"], false, "{name}: {command}");
        }
        let path = format!("/v1/rooms/{}/events", audit());
        let stream = Events::open(server.address, &token, &path, None).await;
        assert_eq!(stream.is_ok(), reads, "{name}: an event stream");
    }
    let about = server.client("adam").await.ask(json!({ "type": "room", "room": audit() })).await;
    assert_eq!((&about["kind"], &about["role"]), (&json!("audit"), &json!("viewer")));
    assert_eq!((about.get("audits"), about.get("audit"), &about["capabilities"]), (None, None, &json!([])));
}

#[tokio::test]
async fn nothing_of_it_reaches_who_administers_no_more_once_that_is_answered() {
    let (_, server) = of(&[("olga", Rank::Owner), ("adam", Rank::Admin)]).await;
    let server = Arc::new(server);
    let olga = login(&server, "olga");
    ok(&server, "POST", "/v1/invites", &olga, &json!({})).await;
    let mut adam = server.client("adam").await;
    let busy = tokio::spawn({
        let (server, olga) = (Arc::clone(&server), olga.clone());
        async move {
            for n in 0.. {
                let ban = json!({ "user": format!("mallory-{n}"), "reason": "spam" });
                if send(&server, "POST", "/v1/bans", Some(&olga), &ban).await.0 != 201 {
                    return;
                }
            }
        }
    });
    let mut seen = 0;
    for round in 0..10 {
        adam.ask(follow(&audit(), "now")).await;
        let (mut events, _) = server.events("adam", &audit(), None).await;
        seen += usize::from(adam.record().await["event"] == "administered");
        ok(&server, "PATCH", "/v1/accounts/adam", &olga, &json!({ "rank": "member" })).await;
        assert_eq!(adam.refused(json!({ "type": "history", "room": audit() })).await, "room_not_found");
        let before = adam.take_aside();
        let out = before.iter().filter(|frame| frame["event"] == "member_kicked" && frame["user"] == "adam");
        assert_eq!(out.count(), 1, "round {round}: he hears that he is out");
        let after = format!("after-{round}");
        ok(&server, "POST", "/v1/bans", &olga, &json!({ "user": after })).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        adam.hears_back().await;
        let heard = adam.take_aside();
        assert!(heard.iter().all(|frame| frame["room"] != *audit() || frame["type"] == "room_lost"), "{heard:?}");
        while let Some(event) = events.next().await {
            assert!(!event.data.contains(&after), "round {round}: {event:?}");
            seen += 1;
        }
        ok(&server, "PATCH", "/v1/accounts/adam", &olga, &json!({ "rank": "admin" })).await;
        gained(&mut adam).await;
        adam.take_aside();
    }
    busy.abort();
    assert!(seen >= 20, "{seen} frames were seen meanwhile");
    ok(&server, "PATCH", "/v1/accounts/adam", &olga, &json!({ "disabled": true })).await;
    adam.closed().await;
    assert_eq!(members(&server).await, names(&["olga"]));
}

#[tokio::test]
async fn a_lock_is_held_for_the_commit_and_not_for_those_who_are_let_go_of() {
    let (store, server) = of(&[("olga", Rank::Owner), ("adam", Rank::Admin)]).await;
    let olga = login(&server, "olga");
    ok(&server, "POST", "/v1/invites", &olga, &json!({})).await;
    let _deaf = server.raw_socket(Some(&server.token("adam"))).await;
    let began = Instant::now();
    let demoted = async {
        ok(&server, "PATCH", "/v1/accounts/adam", &olga, &json!({ "rank": "member" })).await;
        began.elapsed()
    };
    let others = async {
        eventually("it is on disk", || account(&store, "adam").rank == Rank::Member).await;
        ok(&server, "POST", "/v1/invites", &olga, &json!({})).await;
        began.elapsed()
    };
    let (demoted, others) = tokio::join!(demoted, others);
    assert!(demoted > Duration::from_millis(400), "it was answered before the deaf one was cut");
    assert!(others < demoted, "{others:?}, {demoted:?}");
}

#[tokio::test]
async fn who_gives_up_his_own_rank_is_answered_on_the_connection_that_showed_him_the_room() {
    let (_, server) = of(&[("olga", Rank::Owner), ("olaf", Rank::Owner)]).await;
    ok(&server, "POST", "/v1/invites", &login(&server, "olga"), &json!({})).await;
    let mut http = server.http("olaf").await;
    let page = format!("/v1/rooms/{}/events?after=start", audit());
    assert_eq!(http.get(&page).await.status, 200);
    let answer = http.request("PATCH", "/v1/accounts/olaf", Some(&json!({ "rank": "member" }))).await;
    assert_eq!(answer.expect("it is answered").status, 200);
    assert_eq!(http.get(&page).await.status, 404);
}

#[tokio::test]
async fn who_registers_as_an_admin_comes_into_the_room_and_who_does_as_a_member_never_touches_it() {
    let store = MemoryStore::new();
    let setup = Setup { store: Arc::new(store.clone()), accounts: anybody(), ..Setup::default() };
    let server = TestServer::with(setup);
    register(&server, "ann").await;
    assert_eq!(head(&store), 0, "there is no room for what nobody has decided");
    // By the invite that the operator makes.
    let owner = owner(&server).await;
    assert_eq!(members(&server).await, names(&["owner"]));
    let (_, invite) = send(&server, "POST", "/v1/invites", Some(&owner), &json!({ "rank": "admin" })).await;
    let before = head(&store);
    register(&server, "bob").await;
    assert_eq!(head(&store), before, "members come without it");
    let body = json!({ "name": "adam", "password": PASSWORD, "invite": invite["code"] });
    assert_eq!(send(&server, "POST", "/v1/accounts", None, &body).await.0, 201);
    assert_eq!(members(&server).await, names(&["adam", "owner"]));
    let last = log(&mut server.client("adam").await).await.pop().unwrap();
    assert_eq!(
        (&last["event"], &last["user"], &last["author"]),
        (&json!("member_joined"), &json!("adam"), &json!("adam"))
    );

    let disabled = json!({ "disabled": true });
    ok(&server, "PATCH", "/v1/accounts/adam", &owner, &disabled).await;
    assert_eq!(members(&server).await, names(&["owner"]));
    ok(&server, "PATCH", "/v1/accounts/adam", &owner, &json!({ "disabled": false })).await;
    assert_eq!(members(&server).await, names(&["adam", "owner"]));
}

#[tokio::test]
async fn a_deed_and_its_entry_are_on_disk_together_or_neither_is() {
    for (fault, happens) in [(Fault::Fail(CommitError::Failed), false), (Fault::Forget, false), (Fault::Tear, true)] {
        let (store, mut server) = of(&[("olga", Rank::Owner), ("bob", Rank::Member)]).await;
        let olga = login(&server, "olga");
        ok(&server, "POST", "/v1/invites", &olga, &json!({})).await;
        store.faults().when(fault, |commit| commit.stream == room().stream());
        let promote = json!({ "rank": "admin" });
        refused(&server, "PATCH", "/v1/accounts/bob", Some(&olga), &promote, "unavailable").await;
        store.faults().clear();
        let agree = async |server: &TestServer| {
            let changed = deeds(server).await.iter().filter(|entry| entry["deed"] == "account_changed").count();
            assert_eq!(changed, usize::from(happens), "{fault:?}");
            assert_eq!(account(&store, "bob").rank == Rank::Admin, happens, "{fault:?}");
            assert_eq!(members(server).await.contains("bob"), happens, "{fault:?}");
        };
        agree(&server).await;
        server.stop();
        let store = store.in_epoch(MemoryStore::EPOCH);
        let again = TestServer::with(Setup { store: Arc::new(store), ..Setup::default() });
        agree(&again).await;
    }
}

#[tokio::test]
async fn whatever_changes_while_the_room_begins_its_members_are_those_who_administer() {
    for round in 0..12 {
        let people: Vec<_> = (0..12).map(|n| format!("user-{n}")).collect();
        let rank = |n: usize| if n.is_multiple_of(2) { Rank::Admin } else { Rank::Member };
        let mut accounts: Vec<_> = people.iter().enumerate().map(|(n, name)| (name.as_str(), rank(n))).collect();
        accounts.push(("olga", Rank::Owner));
        let (store, server) = of(&accounts).await;
        let (server, olga) = (&server, &login(&server, "olga"));
        let said = direct_message(server, "user-1", "user-2").await;
        let changes = people.iter().enumerate().map(|(n, name)| async move {
            let change = match (n + round) % 4 {
                0 => json!({ "rank": "member" }),
                1 => json!({ "rank": "admin" }),
                2 => json!({ "disabled": true }),
                _ => json!({ "rank": "owner" }),
            };
            ok(server, "PATCH", &format!("/v1/accounts/{name}"), olga, &change).await;
        });
        let report = async {
            // Who is disabled meanwhile is not heard.
            let mut http = server.http("user-1").await;
            let path = format!("/v1/rooms/{}/messages/{}/report", text(&said["room"]), text(&said["record"]));
            let _ = http.request("POST", &path, Some(&json!({}))).await;
        };
        let nothing = json!({});
        tokio::join!(join_all(changes), report, ok(server, "POST", "/v1/invites", olga, &nothing));
        let administer = people.iter().map(String::as_str).chain(["olga"]);
        let administer: BTreeSet<_> =
            administer.filter(|name| account(&store, name).administers()).map(str::to_owned).collect();
        assert_eq!(members(server).await, administer, "round {round}");
        assert!(administer.len() > 2, "{administer:?}");
    }
}

#[tokio::test]
async fn readers_who_fill_the_room_with_commands_keep_no_deed_out() {
    let limits = Limits { in_flight_per_room: 1, ..Setup::default().limits };
    let store = MemoryStore::new();
    plant(&store, &[("olga", Rank::Owner)]).await;
    let server = TestServer::with(Setup { store: Arc::new(store.clone()), limits, ..Setup::default() });
    let olga = &login(&server, "olga");
    ok(&server, "POST", "/v1/invites", olga, &json!({})).await;
    let said = direct_message(&server, "ann", "bob").await;
    store.faults().when(Fault::Hold, |commit| commit.stream == room().stream());
    let mut bob = server.client("bob").await;
    bob.send(report(&said)).await;
    eventually("the report is on its way to the disk", || store.faults().held() > 0).await;
    let commits = store.faults().commits();
    let deed = async {
        let (status, answer) = send(&server, "POST", "/v1/invites", Some(olga), &json!({})).await;
        assert_eq!(status, 201, "{answer}");
    };
    let release = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(store.faults().commits(), commits, "it waits for what is held");
        store.faults().clear();
        store.faults().release();
    };
    tokio::join!(deed, release);
}

#[tokio::test]
async fn a_message_of_a_direct_room_is_reported_to_those_who_answer_for_the_tenant() {
    let (_, server) = of(&[("olga", Rank::Owner), ("adam", Rank::Admin), ("bob", Rank::Member)]).await;
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    let direct = json!({ "type": "create", "kind": "direct", "members": [{ "user": "bob" }] });
    let direct = text(&ann.ask(direct).await["room"]).to_owned();
    let file = uploaded(&server, "ann", &format!("room={direct}&name=evidence.txt"), b"buy this").await;
    let said = json!({ "type": "post", "room": direct, "content": { "text": "buy" }, "attachments": [file] });
    let said = json!({ "room": direct, "record": ann.ask(said).await["record"] });
    // Neither is kept from it by what one has to do with the other.
    bob.ask(json!({ "type": "block", "user": "ann" })).await;
    for reporter in [&mut bob, &mut ann] {
        let answer = reporter.ask(report(&said)).await;
        assert_eq!((&answer["room"], &answer["message"]), (&said["room"], &said["record"]));
        reporter.ask(report(&said)).await;
    }
    assert_eq!(server.client("zoe").await.refused(report(&said)).await, "room_not_found");
    ann.ask(json!({ "type": "delete", "room": direct, "message": said["record"] })).await;
    server.registry.files().unwrap().collect(server.registry.limits().files, Timestamp(i64::MAX)).await.unwrap();

    let mut adam = server.client("adam").await;
    let reports: Vec<_> = log(&mut adam).await.into_iter().filter(|entry| entry["event"] == "reported").collect();
    assert_eq!(reports.iter().map(|entry| text(&entry["author"])).collect::<Vec<_>>(), ["bob", "ann"]);
    let evidence = &reports[0]["reported"];
    assert_eq!(
        (&evidence["room"], &evidence["message"], &evidence["by"]),
        (&said["room"], &said["record"], &json!("ann"))
    );
    assert_eq!((&evidence["content"], &evidence["attachments"][0]["id"]), (&json!({ "text": "buy" }), &json!(file)));
    for (name, status) in [("adam", 200), ("bob", 404)] {
        assert_eq!(server.http(name).await.get(&format!("/v1/files/{file}")).await.status, status, "{name}");
    }
    let resolve = json!({ "type": "resolve_report", "room": audit(), "report": reports[0]["id"], "note": "seen" });
    assert_eq!(bob.refused(resolve.clone()).await, "room_not_found");
    adam.ask(resolve.clone()).await;
    adam.ask(resolve).await;
    let resolved = log(&mut adam).await.into_iter().filter(|entry| entry["event"] == "report_resolved");
    assert_eq!(resolved.count(), 1);
    // Of an entry there is no report.
    let entry = json!({ "room": audit(), "record": reports[0]["id"] });
    assert_eq!(adam.refused(report(&entry)).await, "message_not_found");
}

// ---- helpers

/// A server on whose disk these accounts are, from before there was an audit room.
async fn of(accounts: &[(&str, Rank)]) -> (MemoryStore, TestServer) {
    let store = MemoryStore::new();
    plant(&store, accounts).await;
    let server = TestServer::with(Setup { store: Arc::new(store.clone()), ..Setup::default() });
    (store, server)
}

async fn plant(store: &MemoryStore, accounts: &[(&str, Rank)]) {
    let stream = StreamId::Accounts(tenant());
    let row = |(name, rank): &(&str, Rank)| Put {
        under: stream.clone(),
        key: rows::accounts::account(&user(name)),
        value: Some(Account::new(*rank, None, Timestamp(7)).encode()),
    };
    let puts = accounts.iter().map(row).collect();
    let commit = Commit { stream, expected: None, records: Vec::new(), puts, erase: Vec::new(), trim: None };
    store.commit(commit).await.unwrap();
}

fn account(store: &MemoryStore, name: &str) -> Account {
    let row = store.get(&StreamId::Accounts(tenant()), &rows::accounts::account(&user(name)));
    Account::decode(&row.now_or_never().unwrap().unwrap().expect("there is such an account")).unwrap()
}

/// Who is a member of the audit room, as it is on disk.
async fn members(server: &TestServer) -> BTreeSet<String> {
    let found = server.registry.store().scan(&room().stream(), rows::MEMBERS, None, 1_000);
    found.await.unwrap().iter().map(|(key, _)| rows::user_of(key).unwrap().to_string()).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// How many records the audit room has.
fn head(store: &MemoryStore) -> u64 {
    store.head(&room().stream()).now_or_never().unwrap().unwrap().map_or(0, |head| head.seq.0)
}

fn room() -> RoomKey {
    RoomKey { tenant: tenant(), room: RoomId::audit_of_tenant(&tenant()) }
}

fn audit() -> String {
    room().room.to_string()
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn login(server: &TestServer, name: &str) -> Value {
    json!({ "token": server.token(name) })
}

async fn ok(server: &TestServer, method: &str, path: &str, by: &Value, body: &Value) {
    let (status, answer) = send(server, method, path, Some(by), body).await;
    assert!((200..300).contains(&status), "{method} {path} {body} was answered {status} {answer}");
}

/// A message in a direct room, with where it is.
async fn direct_message(server: &TestServer, by: &str, other: &str) -> Value {
    let mut client = server.client(by).await;
    let direct = json!({ "type": "create", "kind": "direct", "members": [{ "user": other }] });
    let direct = client.ask(direct).await["room"].clone();
    let mut said = client.try_ask(post(text(&direct), "hello")).await;
    // Where a room has one command under way at most, what made it may be that for a moment longer.
    while said["error"]["code"] == "busy" {
        said = client.try_ask(post(text(&direct), "hello")).await;
    }
    json!({ "room": direct, "record": said["record"] })
}

fn report(said: &Value) -> Value {
    json!({ "type": "report", "room": said["room"], "message": said["record"], "reason": null })
}

async fn gained(client: &mut Client) {
    while client.notice("room_gained").await["room"] != *audit() {}
}

/// What is on disk of what was decided, each with its author.
async fn deeds(server: &TestServer) -> Vec<Value> {
    let page = patiently(server.registry.store().read(&room().stream(), Seq::ZERO, 100)).await.unwrap();
    let entries = page.records.iter().filter(|it| matches!(it.event, Event::Room(RoomEvent::Administered(_))));
    let shown = entries.map(|entry| {
        let frame = Dialect::NativeJson.encode_record(&room(), entry);
        let mut shown: Value = serde_json::from_slice(&frame).unwrap();
        for member in ["type", "room", "seq", "cursor", "id", "num", "at", "event"] {
            shown.as_object_mut().unwrap().remove(member).expect("every entry has it");
        }
        shown
    });
    shown.collect()
}

async fn log(client: &mut Client) -> Vec<Value> {
    let page = client.ask(json!({ "type": "history", "room": audit(), "limit": 100 })).await;
    page["records"].as_array().unwrap().clone()
}
