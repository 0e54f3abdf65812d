//! Bans from a tenant: nothing comes in, nothing goes out, until they end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chinwag::clock::{Clock, ManualClock, SystemClock};
use chinwag::domain::account::Rank;
use chinwag::domain::exclusion::{EXCLUSIONS_PER_TENANT_MAX, Exclusion};
use chinwag::domain::{StreamId, TenantId, UserId};
use chinwag::store::memory::MemoryStore;
use chinwag::store::rows::{self, Row};
use chinwag::store::sled::{self, SledStore};
use chinwag::store::{Commit, Put, Store};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::accounts::{PASSWORD, anybody, log_in, open, owner, refused, register, send, text};
use crate::harness::{Setup, TestServer, create_channel, follow, handshake, join, masked, patiently, post};

#[tokio::test]
async fn nothing_reaches_who_is_banned_from_the_tenant_on_any_connection() {
    let server = open();
    let owner = owner(&server).await;
    let mut bob = server.client("bob").await;
    let room = bob.ask(create_channel("harbour")).await["room"].as_str().unwrap().to_owned();
    // Of an issuer's token: there is no account of this name.
    let mallory = json!({ "token": server.token("mallory") });
    let token = text(&mallory["token"]);
    let mut client = server.client_with(token, Some("chinwag.v1.json")).await;
    client.ask(join(&room)).await;
    client.ask(json!({ "type": "presence", "presence": "online" })).await;
    bob.ask(follow(&room, "now")).await;
    let ticket = send(&server, "POST", "/v1/tickets", Some(&mallory), &Value::Null).await.1["ticket"].take();
    client.ask(follow(&room, "now")).await;
    let deaf = server.raw_socket(Some(token)).await;
    let head = format!(
        "GET /v1/rooms/{room}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nX-Auth-Token: {token}\r\n\r\n"
    );
    let mut stream = server.raw(&head).await;
    let mut heard = String::new();
    while !heard.contains("event: hello") {
        let mut bytes = [0; 4096];
        let count = patiently(stream.read(&mut bytes)).await.unwrap();
        heard.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }

    let until = SystemClock.now().0 + 60_000;
    let began = Instant::now();
    let ban = json!({ "user": "mallory", "until": until, "reason": "spam" });
    let (status, banned) = send(&server, "POST", "/v1/bans", Some(&owner), &ban).await;
    assert_eq!((status, &banned["connections"]), (201, &json!(3)), "{banned}");
    assert!(began.elapsed() > Duration::from_millis(400), "it was answered before the deaf one was cut");
    bob.ask(post(&room, "after")).await;

    assert_eq!(client.closed().await, Some(4406));
    assert!(client.take_aside().iter().all(|heard| !heard.to_string().contains("after")));
    for mut stream in [deaf, stream] {
        let mut rest = Vec::new();
        let _ = patiently(stream.read_to_end(&mut rest)).await;
        let rest = String::from_utf8_lossy(&rest).into_owned();
        assert!(!rest.contains("after"), "{rest}");
        assert!(rest.contains("tenant_banned"), "it was not told why: {rest}");
    }
    for token in [token.to_owned(), server.token("mallory")] {
        let (_, problem) = send(&server, "GET", "/v1/me", Some(&json!({ "token": token })), &Value::Null).await;
        assert_eq!((&problem["code"], &problem["retry"]), (&json!("tenant_banned"), &json!("later")), "{problem}");
        assert_eq!((&problem["until"], &problem["reason"]), (&json!(until), &json!("spam")));
        assert!((1..=60_000).contains(&problem["retry_after_ms"].as_u64().unwrap()));
        let mut late = server.open(None, Some("chinwag.v1.json")).await;
        let error = late.try_ask(json!({ "type": "auth", "token": token })).await["error"].take();
        assert_eq!(
            (&error["code"], &error["until"], &error["reason"]),
            (&json!("tenant_banned"), &json!(until), &json!("spam"))
        );
    }
    let gone = bob.notice("presence").await;
    assert_eq!((&gone["user"], &gone["presence"]), (&json!("mallory"), &json!("offline")));
    refused(&server, "GET", &format!("/v1/events?ticket={}", text(&ticket)), None, &Value::Null, "tenant_banned").await;
    // The same id in another tenant is somebody else.
    let elsewhere = server.token_in("hill", "mallory", Duration::from_secs(60));
    server.client_with(&elsewhere, None).await.hears_back().await;

    let (status, _) = send(&server, "DELETE", "/v1/bans/mallory", Some(&owner), &Value::Null).await;
    assert_eq!(status, 200);
    let mut back = server.client_with(token, Some("chinwag.v1.json")).await;
    back.ask(post(&room, "the membership has stayed")).await;
}

#[tokio::test]
async fn what_connects_while_its_user_is_being_banned_is_ended_too() {
    let server = &open();
    let owner = &owner(server).await;
    let mut bob = server.client("bob").await;
    let room = bob.ask(create_channel("harbour")).await["room"].as_str().unwrap().to_owned();
    server.client("mallory").await.ask(join(&room)).await;
    let (token, room) = (&server.token("mallory"), &room);
    let connecting = futures_util::future::join_all((0..40).map(|_| async move {
        let mut stream = server.raw(&handshake(&format!("Authorization: Bearer {token}\r\n"))).await;
        let follow = json!({ "type": "follow", "id": "1", "room": room, "from": "now" }).to_string();
        let _ = stream.write_all(&masked(0x81, follow.as_bytes())).await;
        stream
    }));
    let banning = async { send(server, "POST", "/v1/bans", Some(owner), &json!({ "user": "mallory" })).await.0 };
    let (streams, status) = tokio::join!(connecting, banning);
    assert_eq!(status, 201);
    bob.ask(post(room, "after")).await;
    for mut stream in streams {
        let mut heard = Vec::new();
        let _ = patiently(stream.read_to_end(&mut heard)).await;
        assert!(!String::from_utf8_lossy(&heard).contains("after"));
    }
}

#[tokio::test]
async fn a_timed_ban_keeps_out_by_every_door_and_ends_by_itself() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = TestServer::with(Setup { clock: clock.clone(), accounts: anybody(), ..Setup::default() });
    let (owner, ann) = (owner(&server).await, register(&server, "ann").await);
    let until = clock.now().0 + 60_000;
    for user in ["ann", "bob"] {
        let ban = json!({ "user": user, "until": until });
        assert_eq!(send(&server, "POST", "/v1/bans", Some(&owner), &ban).await.0, 201);
    }
    let login = json!({ "name": "ann", "password": PASSWORD });
    let refresh = json!({ "refresh": ann["refresh"] });
    let bob = json!({ "name": "bob", "password": PASSWORD });
    refused(&server, "POST", "/v1/logins", None, &login, "tenant_banned").await;
    refused(&server, "POST", "/v1/logins", None, &json!({ "name": "ann", "password": "not hers" }), "login_failed")
        .await;
    refused(&server, "POST", "/v1/logins/refresh", None, &refresh, "tenant_banned").await;
    refused(&server, "POST", "/v1/accounts", None, &bob, "tenant_banned").await;
    refused(&server, "GET", "/v1/me", Some(&ann), &Value::Null, "tenant_banned").await;
    let head = |more: &str| format!("GET /v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n");
    let (status, body) = server.exchange(&head(&format!("X-Auth-Token: {}\r\n", text(&ann["token"])))).await;
    assert!(status == 403 && body.contains("tenant_banned"), "{status} {body}");

    clock.advance(Duration::from_millis(60_001));
    assert_eq!(send(&server, "GET", "/v1/me", Some(&ann), &Value::Null).await.0, 200);
    assert_eq!(send(&server, "POST", "/v1/logins/refresh", None, &refresh).await.0, 200);
    assert_eq!(send(&server, "POST", "/v1/accounts", None, &bob).await.0, 201);
    log_in(&server, "ann", PASSWORD).await;
    refused(&server, "DELETE", "/v1/bans/ann", Some(&owner), &Value::Null, "ban_not_found").await;
    let (_, listed) = send(&server, "GET", "/v1/bans", Some(&owner), &Value::Null).await;
    assert_eq!(listed["bans"], json!([]));
    assert_eq!(server.registry.exclusions().len(), 2);
    let local = tokio::task::LocalSet::new();
    local.run_until(server.accounts.forget_bans()).await.unwrap();
    assert_eq!(server.registry.exclusions().len(), 0);
    server.registry.load_exclusions().await.unwrap();
    assert_eq!(server.registry.exclusions().len(), 0, "the rows are gone, too");
}

#[tokio::test]
async fn bans_survive_a_restart_and_are_listed_by_pages() {
    let home = tempfile::tempdir().unwrap();
    let start = || {
        let store = SledStore::open(home.path(), sled::Options::default()).unwrap();
        TestServer::with(Setup { store: Arc::new(store), accounts: anybody(), ..Setup::default() })
    };
    let mut server = start();
    let (boss, ann) = (owner(&server).await, register(&server, "ann").await);
    register(&server, "carl").await;
    let disabled = json!({ "disabled": true });
    assert_eq!(send(&server, "PATCH", "/v1/accounts/carl", Some(&boss), &disabled).await.0, 200);
    for (user, reason) in [("ann", json!("spam")), ("bob", Value::Null), ("eve", Value::Null), ("gone", Value::Null)] {
        let ban = json!({ "user": user, "reason": reason });
        assert_eq!(send(&server, "POST", "/v1/bans", Some(&boss), &ban).await.0, 201);
    }
    assert_eq!(send(&server, "DELETE", "/v1/bans/gone", Some(&boss), &Value::Null).await.0, 200);
    server.stop();

    let server = start();
    let (_, problem) = send(&server, "GET", "/v1/me", Some(&ann), &Value::Null).await;
    assert_eq!((&problem["code"], &problem["retry"]), (&json!("tenant_banned"), &json!("no")), "{problem}");
    assert_eq!((&problem["reason"], &problem["until"]), (&json!("spam"), &Value::Null));
    server.client("gone").await.hears_back().await;
    let carl = json!({ "token": server.token("carl") });
    refused(&server, "GET", "/v1/me", Some(&carl), &Value::Null, "account_disabled").await;

    let (_, page) = send(&server, "GET", "/v1/bans?limit=2", Some(&boss), &Value::Null).await;
    let users =
        |page: &Value| page["bans"].as_array().unwrap().iter().map(|ban| ban["user"].clone()).collect::<Vec<_>>();
    assert_eq!((users(&page), &page["after"]), (vec![json!("ann"), json!("bob")], &json!("bob")));
    assert_eq!((&page["bans"][0]["by"], &page["bans"][0]["reason"]), (&json!("owner"), &json!("spam")));
    let (_, page) = send(&server, "GET", "/v1/bans?limit=2&after=bob", Some(&boss), &Value::Null).await;
    assert_eq!((users(&page), &page["after"]), (vec![json!("eve")], &Value::Null));
}

#[tokio::test]
async fn nobody_bans_who_ranks_as_high() {
    let server = open();
    let owner = owner(&server).await;
    for user in ["ada", "amy", "member", "olga"] {
        register(&server, user).await;
    }
    for (user, rank) in [("ada", "admin"), ("amy", "admin"), ("olga", "owner")] {
        let rank = json!({ "rank": rank });
        assert_eq!(send(&server, "PATCH", &format!("/v1/accounts/{user}"), Some(&owner), &rank).await.0, 200);
    }
    let (ada, member) = (log_in(&server, "ada", PASSWORD).await, log_in(&server, "member", PASSWORD).await);
    let nobody = json!({ "token": server.token("nobody") });
    for (by, user, code) in [
        (&member, "stranger", "rank_too_low"),
        (&nobody, "stranger", "rank_too_low"),
        (&ada, "amy", "rank_too_low"),
        (&ada, "ada", "rank_too_low"),
        (&ada, "olga", "rank_too_low"),
        (&owner, "olga", "rank_too_low"),
        (&owner, "owner", "rank_too_low"),
        (&owner, "chinwag:operator", "name_reserved"),
    ] {
        refused(&server, "POST", "/v1/bans", Some(by), &json!({ "user": user }), code).await;
    }
    let past = json!({ "user": "member", "until": 1 });
    refused(&server, "POST", "/v1/bans", Some(&ada), &past, "ends_too_soon").await;
    refused(&server, "DELETE", "/v1/bans/member", Some(&ada), &Value::Null, "ban_not_found").await;
    refused(&server, "GET", "/v1/bans", Some(&member), &Value::Null, "rank_too_low").await;
    for (by, user) in [(&ada, "member"), (&ada, "stranger"), (&owner, "amy")] {
        assert_eq!(send(&server, "POST", "/v1/bans", Some(by), &json!({ "user": user })).await.0, 201, "{user}");
    }
    refused(&server, "DELETE", "/v1/bans/amy", Some(&ada), &Value::Null, "rank_too_low").await;
    // What an owner has decided an admin neither takes back nor shortens.
    assert_eq!(send(&server, "POST", "/v1/bans", Some(&owner), &json!({ "user": "another" })).await.0, 201);
    refused(&server, "DELETE", "/v1/bans/another", Some(&ada), &Value::Null, "rank_too_low").await;
    let shorter = json!({ "user": "another", "until": SystemClock.now().0 + 1_000 });
    refused(&server, "POST", "/v1/bans", Some(&ada), &shorter, "rank_too_low").await;
    assert_eq!(send(&server, "DELETE", "/v1/bans/stranger", Some(&owner), &Value::Null).await.0, 200);
}

#[tokio::test]
async fn an_invite_is_worth_what_its_maker_may_do_when_it_is_used() {
    let server = open();
    let owner = owner(&server).await;
    register(&server, "ada").await;
    let change = async |body: Value| send(&server, "PATCH", "/v1/accounts/ada", Some(&owner), &body).await.0;
    assert_eq!(change(json!({ "rank": "owner" })).await, 200);
    let ada = log_in(&server, "ada", PASSWORD).await;
    let invite = send(&server, "POST", "/v1/invites", Some(&ada), &json!({ "rank": "owner", "uses": 5 })).await.1;
    let account = |name: &str| json!({ "name": name, "password": PASSWORD, "invite": invite["code"] });
    let good = send(&server, "POST", "/v1/accounts", None, &account("one")).await;
    assert_eq!((good.0, &good.1["rank"]), (201, &json!("owner")), "{good:?}");
    assert_eq!(change(json!({ "rank": "admin" })).await, 200);
    refused(&server, "POST", "/v1/accounts", None, &account("two"), "invite_invalid").await;
    assert_eq!(change(json!({ "rank": "owner", "disabled": true })).await, 200);
    refused(&server, "POST", "/v1/accounts", None, &account("two"), "invite_invalid").await;
    assert_eq!(change(json!({ "disabled": false })).await, 200);
    assert_eq!(send(&server, "POST", "/v1/accounts", None, &account("two")).await.0, 201);
}

#[tokio::test]
async fn a_disabled_account_has_no_connection_left_whatever_its_issuers_clock_says() {
    let server = open();
    let owner = owner(&server).await;
    register(&server, "carl").await;
    let ahead = chinwag::domain::Timestamp(SystemClock.now().0 + 4_000);
    let token = server.token_of("default", "carl", ahead, Duration::from_secs(60));
    let mut carl = server.client_with(&token, Some("chinwag.v1.json")).await;
    carl.hears_back().await;
    let disabled = json!({ "disabled": true });
    assert_eq!(send(&server, "PATCH", "/v1/accounts/carl", Some(&owner), &disabled).await.0, 200);
    assert!(carl.closed().await.is_some());
}

#[tokio::test]
async fn the_operator_bans_an_owner_but_not_the_last_who_can_come_in() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let server = TestServer::with(Setup { admin: Some(socket.clone()), accounts: anybody(), ..Setup::default() });
    let owner = owner(&server).await;
    register(&server, "olga").await;
    let rank = json!({ "rank": "owner" });
    assert_eq!(send(&server, "PATCH", "/v1/accounts/olga", Some(&owner), &rank).await.0, 200);
    let client = reqwest::Client::builder().unix_socket(socket).build().unwrap();
    let ask = async |path: &str, body: Value| {
        let request = client.post(format!("http://localhost/tenants/default/{path}")).json(&body);
        let answer = patiently(request.send()).await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    assert_eq!(ask("bans", json!({ "user": "olga" })).await.0, 200);
    let (_, refusal) = ask("bans", json!({ "user": "owner" })).await;
    assert_eq!(refusal["code"], "last_account_owner");
    let (_, refusal) = ask("accounts/owner", json!({ "disabled": true })).await;
    assert_eq!(refusal["code"], "last_account_owner", "the other one is banned");
    assert_eq!(ask("bans/olga/revoke", json!({})).await.0, 200);
    assert_eq!(ask("bans", json!({ "user": "owner" })).await.0, 200);
}

#[tokio::test]
async fn a_tenant_that_has_as_many_bans_as_may_be_takes_no_more_until_one_is_taken_back() {
    let store = MemoryStore::new();
    let [tenant, by] = ["default", "owner"];
    let tenant = TenantId::new(tenant).unwrap();
    let ban = chinwag::domain::exclusion::TenantBan {
        by: UserId::new(by).unwrap(),
        at: SystemClock.now(),
        rank: Some(Rank::Owner),
        until: None,
        reason: None,
    };
    let exclusion = Exclusion { disabled: false, ban: Some(ban) };
    let put = |number: usize| Put {
        under: StreamId::Server,
        key: rows::exclusion(&tenant, &UserId::new(&format!("user-{number}")).unwrap()),
        value: Some(exclusion.encode()),
    };
    let puts = (0..EXCLUSIONS_PER_TENANT_MAX).map(put).collect();
    let stream = StreamId::Accounts(tenant.clone());
    store
        .commit(Commit { stream, expected: None, records: Vec::new(), puts, erase: Vec::new(), trim: None })
        .await
        .unwrap();
    let server = TestServer::with(Setup { store: Arc::new(store), accounts: anybody(), ..Setup::default() });
    let owner = owner(&server).await;
    register(&server, "ann").await;
    let ban = json!({ "user": "ann" });
    refused(&server, "POST", "/v1/bans", Some(&owner), &ban, "too_many_exclusions").await;
    let disable = json!({ "disabled": true });
    refused(&server, "PATCH", "/v1/accounts/ann", Some(&owner), &disable, "too_many_exclusions").await;
    assert_eq!(send(&server, "POST", "/v1/bans", Some(&owner), &json!({ "user": "user-7" })).await.0, 201);
    assert_eq!(send(&server, "DELETE", "/v1/bans/user-7", Some(&owner), &Value::Null).await.0, 200);
    assert_eq!(send(&server, "POST", "/v1/bans", Some(&owner), &ban).await.0, 201);
}
