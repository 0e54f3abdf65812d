//! Who users are to each other.

use std::sync::Arc;

use chinwag::actors::Limits;
use chinwag::actors::limits::Rate;
use chinwag::domain::{StreamId, TenantId};
use chinwag::store::Store;
use chinwag::store::memory::MemoryStore;
use serde_json::{Value, json};

use crate::harness::{Client, Setup, TestServer, create_channel, follow, join, post};

async fn shown(client: &mut Client, user: &str) -> Value {
    client.ask(json!({ "type": "users", "users": [user] })).await["users"][0].clone()
}

#[tokio::test]
async fn a_change_is_told_once_however_many_rooms_are_shared_and_to_nobody_else() {
    let server = TestServer::start();
    let mut people = Vec::new();
    for user in ["ann", "bob", "zoe"] {
        people.push(server.client(user).await);
    }
    let [ann, bob, zoe] = &mut people[..] else { unreachable!() };
    for room in 0..20 {
        ann.ask(create_channel(&format!("room-{room}"))).await;
        bob.ask(join(&format!("room-{room}"))).await;
        bob.ask(follow(&format!("room-{room}"), "now")).await;
    }
    zoe.ask(create_channel("hers")).await;
    zoe.ask(follow("hers", "now")).await;
    let mut worldly = server.client("bob").await;
    worldly.ask(json!({ "type": "follow_all", "from": "now" })).await;
    let mut again = server.client("ann").await;
    again.hears_back().await;
    ann.ask(json!({ "type": "profile_update", "name": "Ann", "telephone": "+4930123456" })).await;
    for client in [&mut *bob, &mut worldly] {
        let told = client.notice("user_updated").await;
        assert_eq!((&told["name"], &told["telephone"]), (&json!("Ann"), &Value::Null));
    }
    assert_eq!(again.notice("user_updated").await["telephone"], "+4930123456", "one's own");
    // What is as it was asked to be changes nothing, and whatever would have come has come with what is said next.
    ann.ask(json!({ "type": "profile_update", "name": "Ann" })).await;
    ann.ask(post("room-0", "hi")).await;
    for client in [bob, &mut worldly] {
        client.record().await;
        client.hears_back().await;
        let more = client.take_aside();
        assert!(!more.iter().any(|notice| notice["type"] == "user_updated"), "{more:?}");
    }
    zoe.hears_back().await;
    let more = zoe.take_aside();
    assert!(!more.iter().any(|notice| notice["type"] == "user_updated"), "{more:?}");
}

#[tokio::test]
async fn how_somebody_can_be_reached_is_shown_to_whom_the_user_allows() {
    let store = MemoryStore::new();
    let setup = || Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() };
    {
        let mut server = TestServer::with(setup());
        let mut ann = server.client("ann").await;
        ann.ask(json!({ "type": "profile_update", "name": "Ann", "email": "ann@example.org" })).await;
        ann.ask(json!({ "type": "settings_update", "contacts": "owners" })).await;
        server.stop();
    }
    let server = TestServer::with(setup());
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    assert_eq!(shown(&mut ann, "ann").await["email"], "ann@example.org", "to the user itself");
    assert_eq!(shown(&mut bob, "ann").await["email"], Value::Null);
    bob.ask(json!({ "type": "create", "kind": "canvas", "members": [{ "user": "ann" }] })).await;
    assert_eq!(shown(&mut bob, "ann").await["email"], Value::Null, "nobody asked her");
    bob.ask(create_channel("his")).await;
    assert_eq!(shown(&mut bob, "ann").await["email"], Value::Null);
    ann.ask(join("his")).await;
    let hash = 2 * 32;
    let now = shown(&mut bob, "ann").await;
    assert_eq!((&now["email"], now["email_hash"].as_str().unwrap().len()), (&json!("ann@example.org"), hash));
    let mut cas = server.client("cas").await;
    cas.ask(join("his")).await;
    assert_eq!(shown(&mut cas, "ann").await["email"], Value::Null, "no owner");
    ann.ask(json!({ "type": "leave", "room": "his" })).await;
    assert_eq!(shown(&mut bob, "ann").await["email"], Value::Null);
    ann.ask(json!({ "type": "settings_update", "contacts": "everybody" })).await;
    assert_eq!(shown(&mut cas, "ann").await["email"], "ann@example.org");
    let other = server.token_in("other", "cas", std::time::Duration::from_secs(60));
    let mut other = server.client_with(&other, Some("chinwag.v1.json")).await;
    assert_eq!(shown(&mut other, "ann").await, json!({ "user": "ann", "name": null }), "another tenant's");
}

#[tokio::test]
async fn many_changes_are_told_together() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    bob.ask(follow("lobby", "now")).await;
    for n in 0..50 {
        ann.ask(json!({ "type": "profile_update", "name": format!("Ann {n}") })).await;
    }
    let mut told = vec![bob.notice("user_updated").await["name"].clone()];
    while told.last() != Some(&json!("Ann 49")) {
        told.push(bob.notice("user_updated").await["name"].clone());
    }
    assert!(told.len() <= 4, "{told:?}");
}

#[tokio::test]
async fn what_is_no_profile_is_refused() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let large = json!({ "x": "a".repeat(5_000) });
    for bad in [
        json!({}),
        json!({ "name": "a\u{202e}b" }),
        json!({ "name": "a".repeat(201) }),
        json!({ "email": "ann" }),
        json!({ "telephone": "030 123" }),
        json!({ "avatar": "data:text/html,x" }),
        json!({ "avatar": "/v1/files/../me" }),
        json!({ "fields": large }),
        json!({ "fields": "x" }),
    ] {
        let mut ask = json!({ "type": "profile_update" });
        ask.as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
        assert_eq!(ann.refused(ask).await, "bad_request", "{bad}");
    }
    let many: Vec<String> = (0..101).map(|n| format!("u{n}")).collect();
    for bad in [json!([]), json!(many), json!(["a b"]), json!("ann,,bob")] {
        assert_eq!(ann.refused(json!({ "type": "users", "users": bad })).await, "bad_request", "{bad}");
    }
}

async fn find(client: &mut Client, hashes: &[&str]) -> Vec<String> {
    let found = client.ask(json!({ "type": "find_users", "hashes": hashes })).await;
    let name = |user: &Value| user["user"].as_str().unwrap().to_owned();
    found["users"].as_array().unwrap().iter().map(name).collect()
}

/// The SHA-256 of `ann@example.org`, of `+4930123456` and of `+4930654321`.
const MAIL: &str = "438c4c7afe600cdf1e455c369bec76dc970fc8ca463447c7b387a347f3c79331";
const PHONE: &str = "a909469fabf3f43d0b7b6c42a85a6e7e8ceb36c7a2f0f1b9c15b80dc16384cb7";
const OTHER: &str = "b6f59c2cc09c17eaa409c118bb9b955da0d07df10bf5161c2ed1664436ac92b5";

#[tokio::test]
async fn users_are_found_by_their_contacts_where_they_allow_it() {
    let store = MemoryStore::new();
    let setup = || Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() };
    let mut server = TestServer::with(setup());
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    let said =
        json!({ "type": "profile_update", "name": "Ann", "email": "Ann@Example.ORG", "telephone": "+4930123456" });
    let shown = ann.ask(said).await;
    assert_eq!((&shown["email"], &shown["email_hash"]), (&json!("Ann@Example.ORG"), &json!(MAIL)));
    assert_eq!(shown["telephone_hash"], PHONE);
    assert_eq!(find(&mut ann, &[MAIL]).await, ["ann"], "oneself");

    let ask = json!({ "type": "find_users", "hashes": [OTHER] });
    let nobody = bob.ask(ask).await["users"].take();
    let not_allowed = bob.ask(json!({ "type": "find_users", "hashes": [MAIL] })).await["users"].take();
    assert_eq!((&nobody, &not_allowed), (&json!([]), &json!([])), "they are told apart by nothing");
    ann.ask(json!({ "type": "settings_update", "contacts": "owners" })).await;
    bob.ask(create_channel("his")).await;
    assert_eq!(find(&mut bob, &[MAIL, PHONE]).await, Vec::<String>::new());
    ann.ask(join("his")).await;
    assert_eq!(find(&mut bob, &[PHONE.to_uppercase().as_str(), OTHER, MAIL]).await, ["ann", "ann"]);
    ann.ask(json!({ "type": "settings_update", "contacts": "everybody" })).await;
    let mut zoe = server.client("zoe").await;
    let found = zoe.ask(json!({ "type": "find_users", "hashes": [MAIL] })).await["users"].take();
    let expected = json!([{ "hash": MAIL, "user": "ann", "name": "Ann", "email": "Ann@Example.ORG", "email_hash": MAIL,
        "telephone": "+4930123456", "telephone_hash": PHONE }]);
    assert_eq!(found, expected);
    ann.ask(json!({ "type": "block", "user": "zoe" })).await;
    assert_eq!(find(&mut zoe, &[MAIL]).await, Vec::<String>::new());
    let elsewhere = server.token_in("hill", "zoe", std::time::Duration::from_secs(60));
    assert_eq!(find(&mut server.client_with(&elsewhere, None).await, &[MAIL]).await, Vec::<String>::new());

    // Who says so too is found, too; nobody has looked whose it is.
    bob.ask(json!({ "type": "profile_update", "telephone": "+4930123456" })).await;
    bob.ask(json!({ "type": "settings_update", "contacts": "everybody" })).await;
    server.stop();
    let server = TestServer::with(setup());
    let mut cay = server.client("cay").await;
    assert_eq!(find(&mut cay, &[PHONE]).await, ["ann", "bob"]);
    let mut ann = server.client("ann").await;
    ann.ask(json!({ "type": "profile_update", "telephone": "+4930654321" })).await;
    assert_eq!(find(&mut cay, &[PHONE, OTHER, MAIL]).await, ["bob", "ann", "ann"]);
    ann.ask(json!({ "type": "profile_update", "telephone": null, "email": null })).await;
    assert_eq!(find(&mut cay, &[PHONE, OTHER, MAIL]).await, ["bob"]);
    let contacts = StreamId::Accounts(TenantId::default_tenant());
    assert_eq!(
        store.scan(&contacts, b"c", None, 10).await.unwrap().len(),
        1,
        "what is found by no more is kept no more"
    );
}

#[tokio::test]
async fn who_looks_for_contacts_is_bounded_at_once_and_over_time() {
    let mut limits = Limits::lifted();
    limits.rates.contacts_per_user = Some(Rate::per_minute(150, 150));
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let mut ann = server.client("ann").await;
    for bad in
        [json!([]), json!(vec![MAIL; 101]), json!(MAIL), json!([&MAIL[1..]]), json!([7]), json!([null]), json!({})]
    {
        assert_eq!(ann.refused(json!({ "type": "find_users", "hashes": bad })).await, "bad_request", "{bad}");
    }
    find(&mut ann, &[MAIL; 100]).await;
    let refusal = ann.try_ask(json!({ "type": "find_users", "hashes": vec![MAIL; 100] })).await["error"].take();
    assert_eq!((&refusal["code"], &refusal["limit"]), (&json!("rate_limited"), &json!("rates.contacts_per_user")));
    find(&mut server.client("bob").await, &[MAIL]).await;
}
