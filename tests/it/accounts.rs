//! Accounts over HTTP: registering, logging in, devices, passwords, invites.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chinwag::actors::Limits;
use chinwag::actors::accounts::{By, Options};
use chinwag::actors::limits::Rate;
use chinwag::auth::codes;
use chinwag::clock::ManualClock;
use chinwag::domain::account::{INVITE_LIFE_MAX_MS, INVITES_MAX, Invite, Rank, Registration};
use chinwag::domain::{StreamId, TenantId, Timestamp, UserId};
use chinwag::store::memory::MemoryStore;
use chinwag::store::rows::{self, Row};
use chinwag::store::sled::{self, SledStore};
use chinwag::store::{Commit, Put, Store};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{PATIENCE, Setup, TestServer, create_channel, follow, join, patiently, post};

const HOUR: Duration = Duration::from_secs(3600);
pub const PASSWORD: &str = "correct horse battery";

#[tokio::test]
async fn who_registers_is_logged_in_and_can_do_so_again() {
    let server = open();
    let ann = register(&server, "ann").await;
    assert_eq!((&ann["user"], &ann["tenant"], &ann["rank"]), (&json!("ann"), &json!("default"), &json!("member")));
    let mut client = server.client_with(text(&ann["token"]), Some("chinwag.v1.json")).await;
    client.ask(create_channel("lobby")).await;

    let again = json!({ "name": "ann", "password": PASSWORD, "device": "tablet" });
    let (status, tablet) = send(&server, "POST", "/v1/logins", None, &again).await;
    assert_eq!(status, 201, "{tablet}");
    let (_, logins) = send(&server, "GET", "/v1/me/logins", Some(&tablet), &Value::Null).await;
    let logins = logins["logins"].as_array().unwrap();
    let shown = |device: &str| logins.iter().find(|login| login["device"] == device).unwrap();
    assert_eq!((shown("phone")["current"].clone(), shown("tablet")["current"].clone()), (json!(false), json!(true)));
    assert_eq!(shown("tablet")["login"], tablet["login"]);
}

#[tokio::test]
async fn the_page_for_invites_takes_nothing_from_elsewhere() {
    let server = open();
    for (path, kind) in [("/join", "text/html"), ("/setup", "text/html"), ("/join.js", "text/javascript")] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut stream = server.raw_bytes(head.as_bytes()).await;
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let answer = answer.to_lowercase();
        assert!(answer.contains(&format!("content-type: {kind}")), "{answer}");
        assert!(answer.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{answer}");
        assert!(!answer.contains("http://") && !answer.contains("https://"), "{path}");
    }
}

#[tokio::test]
async fn one_of_two_who_register_one_name_at_the_same_time_gets_it() {
    let server = open();
    let body = registration("ann");
    let both = || send(&server, "POST", "/v1/accounts", None, &body);
    let ((one, _), (other, _)) = tokio::join!(both(), both());
    assert_eq!([one.min(other), one.max(other)], [201, 409]);
    refused(&server, "POST", "/v1/accounts", None, &body, "name_taken").await;
}

#[tokio::test]
async fn what_cannot_be_registered_is_refused_with_its_reason() {
    let server = open();
    let with = |name: &str, password: &str| json!({ "name": name, "password": password });
    for (body, code) in [
        (with("chinwag:operator", PASSWORD), "name_reserved"),
        (with("two words", PASSWORD), "bad_request"),
        (with("ann", "short"), "password_refused"),
        (with("ann", "iloveyou"), "password_refused"),
        (with("ann.of.hill", "Ann.Of.Hill"), "password_refused"),
        (json!({ "name": "ann" }), "bad_request"),
        (json!({ "name": "ann", "password": PASSWORD, "invite": "guessed" }), "invite_invalid"),
    ] {
        refused(&server, "POST", "/v1/accounts", None, &body, code).await;
    }
    let closed = with_options(Options { registration: Registration::Off, ..Options::default() });
    refused(&closed, "POST", "/v1/accounts", None, &registration("ann"), "registration_closed").await;
    let invited = TestServer::start();
    refused(&invited, "POST", "/v1/accounts", None, &registration("ann"), "registration_closed").await;
}

#[tokio::test]
async fn a_name_that_somebody_uses_by_a_token_is_nobody_elses_to_take() {
    let server = open();
    server.client("ann").await.ask(create_channel("lobby")).await;
    refused(&server, "POST", "/v1/accounts", None, &registration("ann"), "name_taken").await;
}

#[tokio::test]
async fn a_wrong_password_and_a_user_that_is_not_there_are_told_apart_by_nothing() {
    let server = open();
    register(&server, "ann").await;
    let with = |name: &str| json!({ "name": name, "password": "not this one" });
    let (wrong, nobody) = (
        send(&server, "POST", "/v1/logins", None, &with("ann")).await,
        send(&server, "POST", "/v1/logins", None, &with("bob")).await,
    );
    assert_eq!(wrong, nobody);
    assert_eq!(wrong.1["code"], "login_failed");
}

#[tokio::test]
async fn who_guesses_is_stopped_for_the_account_and_for_the_address() {
    let guess = |server: TestServer, limit: &'static str, others: u16| async move {
        register(&server, "ann").await;
        register(&server, "bob").await;
        let wrong = json!({ "name": "ann", "password": "not this one" });
        for _ in 0..3 {
            refused(&server, "POST", "/v1/logins", None, &wrong, "login_failed").await;
        }
        let right = json!({ "name": "ann", "password": PASSWORD });
        let (status, problem) = send(&server, "POST", "/v1/logins", None, &right).await;
        assert_eq!((status, text(&problem["limit"])), (429, limit), "{problem}");
        assert!(problem["retry_after_ms"].as_u64().unwrap() > 0);
        let bob = json!({ "name": "bob", "password": PASSWORD });
        assert_eq!(send(&server, "POST", "/v1/logins", None, &bob).await.0, others);
    };
    let mut by_account = Limits::lifted();
    by_account.rates.auth_failures_per_account = Some(Rate::per_minute(3, 3));
    guess(limited(by_account), "rates.auth_failures_per_account", 201).await;
    let mut by_address = Limits::lifted();
    by_address.rates.auth_failures_per_address = Some(Rate::per_minute(3, 3));
    by_address.rates.auth_penalty = Duration::from_secs(60);
    guess(limited(by_address), "rates.auth_failures_per_address", 429).await;
    let mut logins = Limits::lifted();
    logins.rates.logins_per_address = Some(Rate::per_minute(5, 5));
    guess(limited(logins), "rates.logins_per_address", 429).await;
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_twice_ends_the_login() {
    let server = open();
    let first = register(&server, "ann").await;
    let body = |login: &Value| json!({ "refresh": login["refresh"] });
    let (status, second) = send(&server, "POST", "/v1/logins/refresh", None, &body(&first)).await;
    assert_eq!((status, &second["login"]), (200, &first["login"]), "{second}");
    let mut phone = server.client_with(text(&second["token"]), Some("chinwag.v1.json")).await;

    refused(&server, "POST", "/v1/logins/refresh", None, &body(&first), "refresh_invalid").await;
    assert_eq!(phone.closed().await, Some(4401));
    refused(&server, "POST", "/v1/logins/refresh", None, &body(&second), "refresh_invalid").await;
    refused(&server, "GET", "/v1/me", Some(&second), &Value::Null, "token_revoked").await;
    refused(&server, "POST", "/v1/logins/refresh", None, &json!({ "refresh": "guessed" }), "refresh_invalid").await;
}

#[tokio::test]
async fn nothing_reaches_a_device_whose_login_has_been_ended() {
    let server = open();
    let phone = register(&server, "ann").await;
    let tablet = log_in(&server, "ann", PASSWORD).await;
    let mut on_phone = server.client_with(text(&phone["token"]), Some("chinwag.v1.json")).await;
    on_phone.ask(create_channel("lobby")).await;
    on_phone.ask(follow("lobby", "now")).await;
    let mut bob = server.client("bob").await;
    bob.ask(join("lobby")).await;
    // One that reads nothing is cut.
    let _deaf = server.raw_socket(Some(text(&phone["token"]))).await;
    let before = server.connections().await;

    let path = format!("/v1/me/logins/{}", text(&phone["login"]));
    let (status, ended) = send(&server, "DELETE", &path, Some(&tablet), &Value::Null).await;
    assert_eq!((status, ended), (200, json!({ "ended": 1 })));
    bob.ask(post("lobby", "not for the phone")).await;
    assert_eq!(on_phone.closed().await, Some(4401));
    let came = on_phone.take_aside();
    assert!(came.iter().all(|frame| !frame.to_string().contains("not for the phone")), "{came:?}");
    assert!(server.connections().await <= before - 2);
    refused(&server, "GET", "/v1/me", Some(&phone), &Value::Null, "token_revoked").await;
    refused(&server, "POST", "/v1/logins/refresh", None, &json!({ "refresh": phone["refresh"] }), "refresh_invalid")
        .await;
    assert_eq!(send(&server, "GET", "/v1/me", Some(&tablet), &Value::Null).await.0, 200);
    refused(&server, "DELETE", &path, Some(&tablet), &Value::Null, "login_not_found").await;
}

#[tokio::test]
async fn who_logs_out_is_answered_and_then_out() {
    let server = open();
    let (phone, tablet) = (register(&server, "ann").await, log_in(&server, "ann", PASSWORD).await);
    // Over one connection, on which something was shown before.
    let client = reqwest::Client::new();
    let at = |path: &str| format!("http://{}{path}", server.address);
    let me = client.get(at("/v1/me/logins")).bearer_auth(text(&phone["token"])).send().await.unwrap();
    assert_eq!(me.status(), 200);
    me.bytes().await.unwrap();
    let out = client.delete(at("/v1/me/logins/current")).bearer_auth(text(&phone["token"])).send().await.unwrap();
    assert_eq!(out.status(), 200);
    refused(&server, "GET", "/v1/me", Some(&phone), &Value::Null, "token_revoked").await;
    assert_eq!(send(&server, "GET", "/v1/me", Some(&tablet), &Value::Null).await.0, 200);
}

#[tokio::test]
async fn another_password_ends_all_other_logins() {
    let server = open();
    let (phone, tablet) = (register(&server, "ann").await, log_in(&server, "ann", PASSWORD).await);
    let wrong = json!({ "password": "not this one", "new_password": "another password" });
    refused(&server, "PUT", "/v1/me/password", Some(&phone), &wrong, "login_failed").await;
    let body = json!({ "password": PASSWORD, "new_password": "another password" });
    let (status, ended) = send(&server, "PUT", "/v1/me/password", Some(&phone), &body).await;
    assert_eq!((status, ended), (200, json!({ "ended": 1 })));
    refused(&server, "GET", "/v1/me", Some(&tablet), &Value::Null, "token_revoked").await;
    assert_eq!(send(&server, "GET", "/v1/me", Some(&phone), &Value::Null).await.0, 200);
    let old = json!({ "name": "ann", "password": PASSWORD });
    refused(&server, "POST", "/v1/logins", None, &old, "login_failed").await;
    log_in(&server, "ann", "another password").await;
}

#[tokio::test]
async fn an_administrators_code_sets_another_password_once_and_in_its_time() {
    let clock = Arc::new(ManualClock::at(now()));
    let server = TestServer::with(Setup { clock: clock.clone(), accounts: anybody(), ..Setup::default() });
    let (owner, ann) = (owner(&server).await, register(&server, "ann").await);
    refused(&server, "POST", "/v1/accounts/ann/reset", Some(&ann), &Value::Null, "rank_too_low").await;
    refused(&server, "POST", "/v1/accounts/nobody/reset", Some(&owner), &Value::Null, "account_not_found").await;
    let made = || send(&server, "POST", "/v1/accounts/ann/reset", Some(&owner), &Value::Null);
    let redeem = |code: &Value| json!({ "name": "ann", "code": code, "password": "another password" });

    let (status, late) = made().await;
    assert_eq!(status, 201, "{late}");
    clock.advance(Duration::from_secs(15 * 60));
    refused(&server, "POST", "/v1/resets", None, &redeem(&late["code"]), "code_invalid").await;
    refused(&server, "POST", "/v1/resets", None, &redeem(&json!("AAAA")), "code_invalid").await;

    let (_, code) = made().await;
    let (status, ended) = send(&server, "POST", "/v1/resets", None, &redeem(&code["code"])).await;
    assert_eq!((status, ended), (200, json!({ "ended": 1 })));
    refused(&server, "GET", "/v1/me", Some(&ann), &Value::Null, "token_revoked").await;
    refused(&server, "POST", "/v1/resets", None, &redeem(&code["code"]), "code_invalid").await;
    log_in(&server, "ann", "another password").await;

    let nobody = json!({ "name": "nobody", "code": "AAAA", "password": "another password" });
    refused(&server, "POST", "/v1/resets", None, &nobody, "code_invalid").await;
}

#[tokio::test]
async fn an_invite_makes_as_many_accounts_as_it_says_until_it_is_over() {
    let clock = Arc::new(ManualClock::at(now()));
    let server = TestServer::with(Setup { clock: clock.clone(), ..Setup::default() });
    let owner = owner(&server).await;
    let with = |name: &str, invite: &Value| json!({ "name": name, "password": PASSWORD, "invite": invite["code"] });
    let made = |body: Value| {
        let (server, owner) = (&server, &owner);
        async move { send(server, "POST", "/v1/invites", Some(owner), &body).await }
    };
    let (status, twice) = made(json!({ "uses": 2 })).await;
    assert_eq!(status, 201, "{twice}");
    for name in ["ann", "bob"] {
        assert_eq!(send(&server, "POST", "/v1/accounts", None, &with(name, &twice)).await.0, 201);
    }
    refused(&server, "POST", "/v1/accounts", None, &with("eve", &twice), "invite_invalid").await;

    let (_, short) = made(json!({ "life_ms": 60_000 })).await;
    let (_, back) = made(json!({ "rank": "admin" })).await;
    let (_, listed) = send(&server, "GET", "/v1/invites", Some(&owner), &Value::Null).await;
    assert_eq!(listed["invites"].as_array().unwrap().len(), 2);
    assert!(listed["invites"].as_array().unwrap().iter().all(|invite| invite.get("code").is_none()));
    clock.advance(Duration::from_secs(60));
    refused(&server, "POST", "/v1/accounts", None, &with("eve", &short), "invite_invalid").await;
    let path = format!("/v1/invites/{}", text(&back["invite"]));
    assert_eq!(send(&server, "DELETE", &path, Some(&owner), &Value::Null).await.0, 200);
    refused(&server, "POST", "/v1/accounts", None, &with("eve", &back), "invite_invalid").await;
    refused(&server, "DELETE", &path, Some(&owner), &Value::Null, "invite_not_found").await;
}

#[tokio::test]
async fn of_those_who_come_with_the_last_use_of_an_invite_at_once_one_gets_in() {
    let server = TestServer::start();
    let owner = owner(&server).await;
    let (_, invite) = send(&server, "POST", "/v1/invites", Some(&owner), &json!({})).await;
    let body = |name: &str| json!({ "name": name, "password": PASSWORD, "invite": invite["code"] });
    let (ann, bob) = (body("ann"), body("bob"));
    let come = |body| send(&server, "POST", "/v1/accounts", None, body);
    let ((one, _), (other, _)) = tokio::join!(come(&ann), come(&bob));
    assert_eq!([one.min(other), one.max(other)], [201, 403]);
}

#[tokio::test]
async fn admins_and_owners_decide_over_accounts() {
    let server = open();
    let (owner, ann) = (owner(&server).await, register(&server, "ann").await);
    let disable = json!({ "disabled": true });
    refused(&server, "GET", "/v1/accounts", Some(&ann), &Value::Null, "rank_too_low").await;
    refused(&server, "POST", "/v1/invites", Some(&ann), &json!({}), "rank_too_low").await;
    refused(&server, "PATCH", "/v1/accounts/ann", Some(&ann), &disable, "rank_too_low").await;
    refused(&server, "PATCH", "/v1/accounts/owner", Some(&owner), &disable, "last_account_owner").await;

    let (_, listed) = send(&server, "GET", "/v1/accounts?limit=1", Some(&owner), &Value::Null).await;
    assert_eq!((&listed["accounts"][0]["user"], &listed["after"]), (&json!("ann"), &json!("ann")));
    let (status, changed) = send(&server, "PATCH", "/v1/accounts/ann", Some(&owner), &json!({ "rank": "admin" })).await;
    assert_eq!((status, &changed["rank"]), (200, &json!("admin")));
    refused(&server, "POST", "/v1/invites", Some(&ann), &json!({ "rank": "owner" }), "rank_too_low").await;
    assert_eq!(send(&server, "POST", "/v1/invites", Some(&ann), &json!({})).await.0, 201);

    let (status, _) = send(&server, "PATCH", "/v1/accounts/ann", Some(&owner), &disable).await;
    assert_eq!(status, 200);
    refused(&server, "GET", "/v1/accounts", Some(&ann), &Value::Null, "account_disabled").await;
    let right = json!({ "name": "ann", "password": PASSWORD });
    refused(&server, "POST", "/v1/logins", None, &right, "account_disabled").await;
    send(&server, "PATCH", "/v1/accounts/ann", Some(&owner), &json!({ "disabled": false })).await;
    log_in(&server, "ann", PASSWORD).await;
}

#[tokio::test]
async fn an_account_that_is_disabled_is_nobodys_way_in_whatever_the_token() {
    let server = open();
    let (owner, _) = (owner(&server).await, register(&server, "ann").await);
    let earlier = json!({ "token": server.token("ann") });
    let mut client = server.client_with(text(&earlier["token"]), None).await;
    let (status, _) = send(&server, "PATCH", "/v1/accounts/ann", Some(&owner), &json!({ "disabled": true })).await;
    assert_eq!((status, client.closed().await), (200, Some(4401)));
    refused(&server, "GET", "/v1/me", Some(&earlier), &Value::Null, "account_disabled").await;
    let later = json!({ "token": server.token_of("default", "ann", Timestamp(now().0 + 3_000), HOUR) });
    refused(&server, "GET", "/v1/me", Some(&later), &Value::Null, "account_disabled").await;

    let (status, _) = send(&server, "PATCH", "/v1/accounts/ann", Some(&owner), &json!({ "disabled": false })).await;
    assert_eq!(status, 200);
    refused(&server, "GET", "/v1/me", Some(&earlier), &Value::Null, "token_revoked").await;
    assert_eq!(send(&server, "GET", "/v1/me", Some(&later), &Value::Null).await.0, 200);
}

#[tokio::test]
async fn invites_are_for_who_could_have_made_them_and_so_many_are_open() {
    let store = MemoryStore::new();
    let tenant = StreamId::Accounts(TenantId::default_tenant());
    let put = |number: usize| {
        let (by, life) = (UserId::operator(), INVITE_LIFE_MAX_MS);
        let invite = Invite::new([7; 32], by, Rank::Member, 1, now(), life);
        let key = rows::accounts::invite(Uuid::from_u128(number as u128));
        Put { under: tenant.clone(), key, value: Some(invite.encode()) }
    };
    let puts = (0..INVITES_MAX - 2).map(put).collect();
    let commit =
        Commit { stream: tenant.clone(), expected: None, records: Vec::new(), puts, erase: Vec::new(), trim: None };
    store.commit(commit).await.unwrap();
    let server = TestServer::with(Setup { store: Arc::new(store), accounts: anybody(), ..Setup::default() });
    let (owner, ann) = (owner(&server).await, register(&server, "ann").await);
    refused(&server, "GET", "/v1/invites", Some(&ann), &Value::Null, "rank_too_low").await;
    let (status, _) = send(&server, "PATCH", "/v1/accounts/ann", Some(&owner), &json!({ "rank": "admin" })).await;
    assert_eq!(status, 200);
    let (_, made) = send(&server, "POST", "/v1/invites", Some(&owner), &json!({ "rank": "admin" })).await;
    let path = format!("/v1/invites/{}", text(&made["invite"]));
    refused(&server, "DELETE", &path, Some(&ann), &Value::Null, "rank_too_low").await;
    assert_eq!(send(&server, "POST", "/v1/invites", Some(&ann), &json!({})).await.0, 201);
    refused(&server, "POST", "/v1/invites", Some(&owner), &json!({}), "too_many_invites").await;
    assert_eq!(send(&server, "DELETE", &path, Some(&owner), &Value::Null).await.0, 200);
    assert_eq!(send(&server, "POST", "/v1/invites", Some(&owner), &json!({})).await.0, 201);
}

#[tokio::test]
async fn a_login_is_over_when_it_was_not_used_for_long() {
    let clock = Arc::new(ManualClock::at(now()));
    let server = TestServer::with(Setup { clock: clock.clone(), accounts: anybody(), ..Setup::default() });
    let ann = register(&server, "ann").await;
    clock.advance(Duration::from_secs(29 * 24 * 3600));
    let body = |login: &Value| json!({ "refresh": login["refresh"] });
    let (status, later) = send(&server, "POST", "/v1/logins/refresh", None, &body(&ann)).await;
    assert_eq!(status, 200, "{later}");
    clock.advance(Duration::from_secs(30 * 24 * 3600));
    refused(&server, "POST", "/v1/logins/refresh", None, &body(&later), "refresh_invalid").await;
    assert!(server.registry.revocations().is_empty(), "what had ended by itself needs no denial");
}

#[tokio::test]
async fn accounts_survive_a_restart_and_nothing_secret_is_on_disk() {
    let home = tempfile::tempdir().unwrap();
    let start = || {
        let store = SledStore::open(home.path(), sled::Options::default()).unwrap();
        TestServer::with(Setup { store: Arc::new(store), accounts: anybody(), ..Setup::default() })
    };
    let mut server = start();
    let owner = owner(&server).await;
    let ann = register(&server, "ann").await;
    let (_, code) = send(&server, "POST", "/v1/accounts/ann/reset", Some(&owner), &Value::Null).await;
    let (_, invite) = send(&server, "POST", "/v1/invites", Some(&owner), &json!({})).await;
    let tablet = log_in(&server, "ann", PASSWORD).await;
    send(&server, "DELETE", "/v1/me/logins/current", Some(&tablet), &Value::Null).await;
    server.stop();

    let secrets = [PASSWORD, text(&ann["refresh"]), text(&code["code"]), text(&invite["code"]), text(&ann["token"])];
    let mut bytes = 0;
    for file in files(home.path()) {
        let content = std::fs::read(&file).unwrap();
        bytes += content.len();
        for secret in secrets {
            let found = content.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "{secret} is in {}", file.display());
        }
    }
    assert!(bytes > 1_000, "there is a log to look through");

    let server = start();
    refused(&server, "GET", "/v1/me", Some(&tablet), &Value::Null, "token_revoked").await;
    let (status, _) = send(&server, "POST", "/v1/logins/refresh", None, &json!({ "refresh": ann["refresh"] })).await;
    assert_eq!(status, 200);
    log_in(&server, "ann", PASSWORD).await;
    let body = json!({ "name": "bob", "password": PASSWORD, "invite": invite["code"] });
    assert_eq!(send(&server, "POST", "/v1/accounts", None, &body).await.0, 201);
    let body = json!({ "name": "ann", "code": code["code"], "password": "another password" });
    assert_eq!(send(&server, "POST", "/v1/resets", None, &body).await.0, 200);
}

#[tokio::test]
async fn many_who_log_in_at_once_hold_up_nobodys_messages() {
    let server = open();
    register(&server, "ann").await;
    let mut bob = server.client("bob").await;
    bob.ask(create_channel("lobby")).await;
    let client = reqwest::Client::new();
    let logins: Vec<_> = (0..200)
        .map(|_| {
            let body = json!({ "name": "ann", "password": PASSWORD });
            let login = client.post(format!("http://{}/v1/logins", server.address)).json(&body);
            tokio::spawn(async move { patiently(login.send()).await.unwrap().status().as_u16() })
        })
        .collect();
    let (mut slowest, mut posted) = (Duration::ZERO, 0);
    while !logins.iter().all(tokio::task::JoinHandle::is_finished) {
        let began = Instant::now();
        bob.ask(post("lobby", "hello")).await;
        slowest = slowest.max(began.elapsed());
        posted += 1;
    }
    let (mut in_time, mut busy) = (0, 0);
    for login in logins {
        match login.await.unwrap() {
            201 => in_time += 1,
            503 => busy += 1,
            other => panic!("a log-in was answered {other}"),
        }
    }
    println!(
        "200 log-ins: {in_time}, and {busy} told to come back; {posted} messages meanwhile, the slowest took {slowest:?}"
    );
    assert!(in_time > 0 && posted >= 10, "{in_time} {posted}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let ann = log_in(&server, "ann", PASSWORD).await;
    let (_, logins) = send(&server, "GET", "/v1/me/logins", Some(&ann), &Value::Null).await;
    assert!(logins["logins"].as_array().unwrap().len() <= 50);
}

// ---- helpers

pub fn open() -> TestServer {
    with_options(anybody())
}

pub fn anybody() -> Options {
    Options { registration: Registration::Open, ..Options::default() }
}

fn with_options(accounts: Options) -> TestServer {
    TestServer::with(Setup { accounts, ..Setup::default() })
}

fn limited(limits: Limits) -> TestServer {
    TestServer::with(Setup { accounts: anybody(), limits, ..Setup::default() })
}

pub fn now() -> Timestamp {
    use chinwag::clock::{Clock, SystemClock};
    SystemClock.now()
}

fn registration(name: &str) -> Value {
    json!({ "name": name, "password": PASSWORD, "device": "phone" })
}

pub async fn register(server: &TestServer, name: &str) -> Value {
    let (status, body) = send(server, "POST", "/v1/accounts", None, &registration(name)).await;
    assert_eq!(status, 201, "{body}");
    body
}

/// An owner, who has come by an invite of the operator's.
pub async fn owner(server: &TestServer) -> Value {
    let (id, code, digest) = codes::invite().unwrap();
    let (tenant, accounts) = (TenantId::default_tenant(), Arc::clone(&server.accounts));
    let local = tokio::task::LocalSet::new();
    let invited = local.run_until(accounts.invite_to(By::Operator, tenant, (id, digest), Rank::Owner, (1, 60_000)));
    invited.await.unwrap();
    let body = json!({ "name": "owner", "password": PASSWORD, "invite": code });
    let (status, owner) = send(server, "POST", "/v1/accounts", None, &body).await;
    assert_eq!((status, &owner["rank"]), (201, &json!("owner")), "{owner}");
    owner
}

pub async fn log_in(server: &TestServer, name: &str, password: &str) -> Value {
    let (status, body) = send(server, "POST", "/v1/logins", None, &json!({ "name": name, "password": password })).await;
    assert_eq!(status, 201, "{body}");
    body
}

/// Sends a request of who is logged in as `login`, on a connection of its own.
pub async fn send(server: &TestServer, method: &str, path: &str, login: Option<&Value>, body: &Value) -> (u16, Value) {
    let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
    let request = client.request(method.parse().unwrap(), format!("http://{}{path}", server.address));
    let request = login.iter().fold(request, |request, login| request.bearer_auth(text(&login["token"])));
    let request = if body.is_null() { request } else { request.json(body) };
    let answer = patiently(request.send()).await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

pub async fn refused(server: &TestServer, method: &str, path: &str, login: Option<&Value>, body: &Value, code: &str) {
    let (status, problem) = send(server, method, path, login, body).await;
    assert_eq!(problem["code"], code, "{method} {path} {body} was answered {status} {problem}");
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
