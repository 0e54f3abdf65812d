//! The life of a token: other issuers, refresh, expiry, revocation, tickets, and which web pages may come.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chinwag::auth::options::{
    Algorithm, IssuerOptions, JwksOptions, JwksSource, KeyOptions, KeySource, ProfileClaims, RequiredClaim,
    TenantSource,
};
use chinwag::auth::{Identity, IdentityOptions, Secret};
use chinwag::clock::{Clock, ManualClock, SystemClock};
use chinwag::domain::revocation::Subject;
use chinwag::domain::{Revocation, StreamId, TenantId, Timestamp, UserId};
use chinwag::http::origin::Origins;
use chinwag::store::memory::MemoryStore;
use futures_util::future::join_all;
use jsonwebtoken::{EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::harness::{Setup, TestServer, create_channel, follow, handshake, join, patiently, post};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_connection_lives_on_with_a_new_token_of_its_user() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = TestServer::with(Setup { clock: clock.clone(), ..Setup::default() });
    let short = || server.token_in("default", "ann", Duration::from_secs(60));
    let mut ann = server.client_with(&short(), None).await;
    let mut idle = server.client_with(&short(), None).await;

    let reply = ann.ask(json!({ "type": "auth", "token": server.token("ann") })).await;
    assert_eq!(reply["user"], "ann");
    for (token, code) in [
        (server.token("bob"), "already_authenticated"),
        (server.token_in("other", "ann", HOUR), "already_authenticated"),
        ("a.b.c".to_owned(), "token_invalid"),
    ] {
        assert_eq!(ann.refused(json!({ "type": "auth", "token": token })).await, code);
    }

    clock.advance(Duration::from_secs(66));
    assert_eq!(idle.closed().await, Some(4403));
    ann.hears_back().await;
    clock.advance(HOUR);
    assert_eq!(ann.closed().await, Some(4403));
}

#[tokio::test]
async fn a_clock_that_jumps_logs_nobody_out() {
    let start = SystemClock.now();
    let clock = Arc::new(ManualClock::at(start));
    let server = TestServer::with(Setup { clock: clock.clone(), ..Setup::default() });
    let mut ann = server.client("ann").await;
    for jump in [365 * 24 * 3_600_000, -(365 * 24 * 3_600_000), 0] {
        clock.set(Timestamp(start.0 + jump));
        // Several sweeps go by.
        tokio::time::sleep(Duration::from_millis(200)).await;
        ann.hears_back().await;
    }
}

#[tokio::test]
async fn a_revocation_ends_every_connection_of_its_user_before_it_is_answered() {
    let server = TestServer::start();
    let mut bob = server.client("bob").await;
    let room = bob.ask(create_channel("harbour")).await["room"].clone();
    let room = room.as_str().unwrap();
    let token = server.token("ann");
    let mut anns = Vec::new();
    for index in 0..100 {
        let mut ann = server.client_with(&token, None).await;
        if index == 0 {
            ann.ask(join(room)).await;
        }
        if index % 2 == 0 {
            ann.ask(follow(room, "now")).await;
        }
        anns.push(ann);
    }
    // Takes nothing, and so never says that it has what was sent.
    let mut deaf = server.raw_socket(Some(&token)).await;
    let mut other = server.client_with(&server.token_in("other", "ann", HOUR), None).await;

    let mut posted = 0;
    for _ in 0..20 {
        posted += 1;
        bob.ask(post(room, "before")).await;
    }
    let began = Instant::now();
    let done = server.registry.revoke(user("default", "ann"), since(SystemClock.now())).await.unwrap();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(took > Duration::from_millis(400), "it was answered before the deaf one was cut: {took:?}");
    assert_eq!(done.connections, 101);
    bob.ask(post(room, "after")).await;

    for ann in &mut anns {
        assert_eq!(ann.closed().await, Some(4401));
        let heard: Vec<_> = ann.take_aside().into_iter().filter(|value| value["type"] == "record").collect();
        assert!(heard.len() <= posted, "{heard:?}");
        assert!(heard.iter().all(|record| !record.to_string().contains("after")), "{heard:?}");
    }
    let mut rest = Vec::new();
    let _ = patiently(deaf.read_to_end(&mut rest)).await;
    assert!(!String::from_utf8_lossy(&rest).contains("after"));

    let (status, body) = server.exchange(&head(&format!("Authorization: Bearer {token}\r\n"))).await;
    assert_eq!((status, code(&body)), (401, "token_revoked".to_owned()));
    other.hears_back().await;
    bob.hears_back().await;
    // One that was issued later is good: this far ahead the clocks may be.
    let later = Timestamp(SystemClock.now().0 + 3_000);
    server.client_with(&server.token_of("default", "ann", later, HOUR), None).await.hears_back().await;
}

#[tokio::test]
async fn what_connects_while_it_is_being_revoked_is_ended_too() {
    let server = &TestServer::start();
    let mut bob = server.client("bob").await;
    let room = bob.ask(create_channel("harbour")).await["room"].as_str().unwrap().to_owned();
    server.client("ann").await.ask(join(&room)).await;
    let token = server.token("ann");

    let (token, room) = (&token, &room);
    let connecting = join_all((0..40).map(|_| async move {
        let head = handshake(&format!("Authorization: Bearer {token}\r\n"));
        let mut stream = server.raw(&head).await;
        let follow = json!({ "type": "follow", "id": "1", "room": room, "from": "now" }).to_string();
        let _ = stream.write_all(&super::harness::masked(0x81, follow.as_bytes())).await;
        stream
    }));
    let revoking = async {
        tokio::time::sleep(Duration::from_millis(2)).await;
        server.registry.revoke(user("default", "ann"), since(SystemClock.now())).await.unwrap();
    };
    let (streams, ()) = tokio::join!(connecting, revoking);
    bob.ask(post(room, "after")).await;
    for mut stream in streams {
        let mut heard = Vec::new();
        let _ = patiently(stream.read_to_end(&mut heard)).await;
        let heard = String::from_utf8_lossy(&heard).into_owned();
        assert!(!heard.contains("after"), "{heard}");
    }
    let alone = async {
        while server.connections().await > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    patiently(alone).await;
}

#[tokio::test]
async fn event_streams_end_with_a_revocation_and_say_why() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let room = ann.ask(create_channel("harbour")).await["room"].as_str().unwrap().to_owned();
    let mut stream = server
        .raw(&format!(
            "GET /v1/rooms/{room}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\
             X-Auth-Token: {}\r\n\r\n",
            server.token("ann")
        ))
        .await;
    let mut heard = String::new();
    while !heard.contains("event: hello") {
        let mut bytes = [0; 4096];
        let count = patiently(stream.read(&mut bytes)).await.unwrap();
        heard.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    let done = server.registry.revoke(user("default", "ann"), since(SystemClock.now())).await.unwrap();
    assert_eq!(done.connections, 2);
    let mut rest = Vec::new();
    let _ = patiently(stream.read_to_end(&mut rest)).await;
    let rest = String::from_utf8_lossy(&rest).into_owned();
    assert!(rest.contains("token_revoked"), "{rest}");
    assert_eq!(ann.closed().await, Some(4401));
}

#[tokio::test]
async fn the_operator_revokes_by_token_user_or_tenant_and_a_restart_forgets_nothing() {
    let store = MemoryStore::new();
    let dir = tempfile::tempdir().unwrap();
    let setup = || Setup {
        store: Arc::new(store.in_epoch(MemoryStore::EPOCH)),
        admin: Some(dir.path().join("admin.sock")),
        ..Setup::default()
    };
    let mut server = TestServer::with(setup());
    let (ann, bob, eve) = (server.token("ann"), server.token("bob"), server.token_in("hill", "eve", HOUR));
    let spare = server.token("ann");
    let id = |token: &str| claims_of(token)["jti"].as_str().unwrap().to_owned();

    let (status, revoked) = admin(&dir.path().join("admin.sock"), Some(json!({ "token": id(&ann) }))).await;
    assert_eq!((status, &revoked["token"]), (200, &json!(id(&ann))));
    assert_eq!(admission(&server, &ann).await, "token_revoked");
    assert_eq!(admission(&server, &spare).await, "admitted");
    for (body, token) in [(json!({ "user": "bob" }), &bob), (json!({ "tenant": "hill" }), &eve)] {
        assert_eq!(admission(&server, token).await, "admitted");
        assert_eq!(admin(&dir.path().join("admin.sock"), Some(body)).await.0, 200);
        assert_eq!(admission(&server, token).await, "token_revoked");
    }
    let ahead = SystemClock.now().0 + 60_000;
    for bad in [json!({}), json!({ "user": "" }), json!({ "tenant": "hill", "since": ahead }), json!({ "users": "x" })]
    {
        assert_eq!(admin(&dir.path().join("admin.sock"), Some(bad)).await.0, 400);
    }
    let (_, list) = admin(&dir.path().join("admin.sock"), None).await;
    assert_eq!(list["revocations"].as_array().unwrap().len(), 3);

    server.stop();
    let server = TestServer::with(setup());
    for token in [&ann, &bob, &eve] {
        assert_eq!(admission(&server, token).await, "token_revoked");
    }
    assert_eq!(admission(&server, &spare).await, "admitted");
}

#[tokio::test]
async fn a_revocation_is_forgotten_when_nothing_it_concerns_can_be_alive() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = TestServer::with(Setup { clock: clock.clone(), ..Setup::default() });
    server.registry.revoke(user("default", "ann"), since(clock.now())).await.unwrap();
    server.registry.forget_revocations().await.unwrap();
    assert_eq!(server.registry.revocations().len(), 1);
    clock.advance(25 * HOUR);
    server.registry.forget_revocations().await.unwrap();
    assert_eq!(server.registry.revocations().len(), 0);
    server.registry.load_revocations().await.unwrap();
    assert_eq!(server.registry.revocations().len(), 0, "its row is gone, too");
}

#[tokio::test]
async fn a_ticket_opens_one_connection() {
    let server = TestServer::start();
    let token = server.token("ann");
    let mut ann = server.client("ann").await;
    let room = ann.ask(create_channel("harbour")).await["room"].as_str().unwrap().to_owned();
    let ticket = || async {
        let request =
            request("POST", "/v1/tickets", &format!("Authorization: Bearer {token}\r\nContent-Length: 0\r\n"));
        let (status, body) = server.exchange(&request).await;
        assert_eq!(status, 201, "{body}");
        let made: Value = serde_json::from_str(&body).unwrap();
        assert!(made["expires_at"].as_i64().unwrap() > SystemClock.now().0);
        made["ticket"].as_str().unwrap().to_owned()
    };
    let one = ticket().await;
    let path = format!("/v1/ws?ticket={one}");
    let mut socket = server.raw(&handshake("").replace("/v1/ws", &path)).await;
    let hello = first_frame(&mut socket).await;
    assert_eq!((&hello["type"], &hello["authenticated"]), (&json!("hello"), &json!(true)));
    let again = server.exchange(&handshake("").replace("/v1/ws", &path)).await;
    assert_eq!((again.0, code(&again.1)), (401, "ticket_invalid".to_owned()));

    let path = format!("/v1/rooms/{room}/events?ticket={}", ticket().await);
    let mut stream = server.raw(&request("GET", &path, "Accept: text/event-stream\r\n")).await;
    let mut status = [0; 12];
    patiently(stream.read_exact(&mut status)).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");

    let two = format!("/v1/ws?ticket={}", ticket().await);
    let both = handshake(&format!("Authorization: Bearer {token}\r\n")).replace("/v1/ws", &two);
    let refused = server.exchange(&both).await;
    assert_eq!((refused.0, code(&refused.1)), (400, "bad_request".to_owned()));

    // Made before a revocation, it is good for nothing after it.
    let stale = ticket().await;
    server.registry.revoke(user("default", "ann"), since(SystemClock.now())).await.unwrap();
    let refused = server.exchange(&handshake("").replace("/v1/ws", &format!("/v1/ws?ticket={stale}"))).await;
    assert_eq!((refused.0, code(&refused.1)), (401, "token_revoked".to_owned()));
}

#[tokio::test]
async fn a_token_is_taken_from_headers_and_never_from_the_address() {
    let server = TestServer::start();
    let token = server.token("ann");
    for name in ["token", "access_token", "jwt", "authorization", "ticket"] {
        let path = format!("/v1/ws?{name}={token}");
        let mut socket = server.raw(&handshake("").replace("/v1/ws", &path)).await;
        let mut status = [0; 12];
        patiently(socket.read_exact(&mut status)).await.unwrap();
        if name == "ticket" {
            assert_eq!(&status, b"HTTP/1.1 401");
            continue;
        }
        assert_eq!(&status, b"HTTP/1.1 101");
        assert_eq!(first_frame(&mut socket).await["authenticated"], false, "{name}");
    }
    for headers in [format!("X-Auth-Token: {token}\r\n"), format!("Sec-WebSocket-Protocol: bearer.{token}\r\n")] {
        let mut socket = server.raw(&handshake(&headers)).await;
        assert_eq!(first_frame(&mut socket).await["authenticated"], true);
    }
    let other = server.token("bob");
    let two = format!("Authorization: Bearer {token}\r\nSec-WebSocket-Protocol: bearer.{other}\r\n");
    let (status, body) = server.exchange(&handshake(&two)).await;
    assert_eq!((status, code(&body)), (400, "bad_request".to_owned()));
}

#[tokio::test]
async fn web_pages_come_only_from_where_they_may() {
    let origins = Arc::new(Origins::new(&["https://chat.example".to_owned()]).unwrap());
    let listed = TestServer::with(Setup { origins: Arc::clone(&origins), ..Setup::default() });
    let matrix = [
        (None, true),
        (Some("https://chat.example"), true),
        (Some("https://evil.example"), false),
        (Some("null"), false),
        (Some("https://sub.chat.example"), false),
        (Some("https://chat.example.evil"), false),
        (Some("https://chat.example:8443"), false),
        (Some("http://chat.example"), false),
        (Some("https://CHAT.example"), false),
        (Some("http://localhost"), false),
        (Some(""), false),
    ];
    for (origin, good) in matrix {
        let headers = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
        let socket = answer(&listed, &handshake(&headers)).await;
        assert_eq!(socket.starts_with("HTTP/1.1 101"), good, "{origin:?}: {socket}");
        assert_eq!(socket.contains("origin_refused"), !good, "{origin:?}: {socket}");
        for path in ["/v1/rooms/1/events", "/v1/tickets", "/healthz"] {
            let plain = answer(&listed, &request("GET", path, &headers)).await.to_lowercase();
            assert_eq!(plain.contains("origin_refused"), !good, "{origin:?}: {plain}");
            let allowed = plain.contains("access-control-allow-origin: https://chat.example\r\n");
            assert_eq!(allowed, good && origin.is_some(), "{origin:?}: {plain}");
            assert!(!plain.contains("access-control-allow-credentials"));
            assert!(plain.contains("vary: origin") && plain.contains("referrer-policy: no-referrer"), "{plain}");
        }
    }

    let preflight = |origin: &str| {
        let asks = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n";
        request("OPTIONS", "/v1/tickets", &format!("Origin: {origin}\r\n{asks}"))
    };
    let allowed = answer(&listed, &preflight("https://chat.example")).await.to_lowercase();
    assert!(allowed.starts_with("http/1.1 204"), "{allowed}");
    assert!(allowed.contains("access-control-allow-headers: authorization"), "{allowed}");
    assert!(answer(&listed, &preflight("https://evil.example")).await.starts_with("HTTP/1.1 403"));

    // What the operator changes holds from the next request on.
    origins.set(&["https://evil.example".to_owned()]).unwrap();
    assert!(answer(&listed, &preflight("https://evil.example")).await.starts_with("HTTP/1.1 204"));

    let same = TestServer::start();
    for (origin, good) in
        [("http://localhost", true), ("https://localhost", true), ("http://localhost:81", false), ("null", false)]
    {
        let socket = answer(&same, &handshake(&format!("Origin: {origin}\r\n"))).await;
        assert_eq!(socket.starts_with("HTTP/1.1 101"), good, "{origin}");
        assert!(!socket.to_lowercase().contains("access-control"), "{socket}");
    }
}

#[tokio::test]
async fn a_ticket_is_good_for_the_page_that_asked_for_it() {
    let list = ["https://a.example".to_owned(), "https://b.example".to_owned()];
    let server = TestServer::with(Setup { origins: Arc::new(Origins::new(&list).unwrap()), ..Setup::default() });
    for (origin, good) in [(Some("https://a.example"), true), (Some("https://b.example"), false), (None, false)] {
        let ask =
            format!("Origin: https://a.example\r\nX-Auth-Token: {}\r\nContent-Length: 0\r\n", server.token("ann"));
        let (_, body) = server.exchange(&request("POST", "/v1/tickets", &ask)).await;
        let made: Value = serde_json::from_str(&body).unwrap();
        let headers = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
        let path = format!("/v1/ws?ticket={}", made["ticket"].as_str().unwrap());
        let socket = answer(&server, &handshake(&headers).replace("/v1/ws", &path)).await;
        assert_eq!(socket.starts_with("HTTP/1.1 101"), good, "{origin:?}: {socket}");
    }
}

#[tokio::test]
async fn the_keys_of_an_issuer_change_while_its_users_are_connected() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let keys = KeyServer::start(&[&old]).await;
    let mut issuer = issuer("https://id.example", Some(&keys));
    if let Some(jwks) = &mut issuer.jwks {
        jwks.keep_old = Duration::from_secs(600);
    }
    let identity = identity(vec![issuer], &clock);
    let server = TestServer::with(Setup { clock: clock.clone(), gate: Some(identity), ..Setup::default() });
    let token = |signer: &Signer| signer.sign(&claims("https://id.example", "ann"));

    let mut ann = server.client_with(&token(&old), None).await;
    assert_eq!(keys.asked(), 1);
    keys.hold(&[&new]);
    // However many name a key that is not known, nobody looks so soon again.
    for _ in 0..20 {
        assert_eq!(admission(&server, &token(&new)).await, "token_invalid");
    }
    assert_eq!(keys.asked(), 1);
    clock.advance(Duration::from_secs(31));
    let new_token = &token(&new);
    let admissions = join_all((0..20).map(|_| admission(&server, new_token))).await;
    assert!(admissions.iter().all(|admission| admission == "admitted"), "{admissions:?}");
    assert_eq!(keys.asked(), 2);
    assert_eq!(admission(&server, &token(&old)).await, "admitted", "tokens of the old key live on");
    ann.hears_back().await;

    // A set that cannot be read takes nobody's key away.
    keys.fail();
    clock.advance(Duration::from_secs(31));
    assert_eq!(admission(&server, &token(&Signer::new("third"))).await, "token_invalid");
    assert_eq!(keys.asked(), 3);
    assert_eq!(admission(&server, &token(&new)).await, "admitted");

    clock.advance(Duration::from_secs(600));
    assert_eq!(admission(&server, &token(&old)).await, "token_invalid", "it left the set ten minutes ago");
    ann.hears_back().await;
}

#[tokio::test]
async fn a_key_belongs_to_its_issuer_and_no_token_chooses_where_keys_come_from() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let (one, two) = (Signer::new("same"), Signer::new("same"));
    let (keys_one, keys_two) = (KeyServer::start(&[&one]).await, KeyServer::start(&[&two]).await);
    let sink = KeyServer::start(&[]).await;
    let issuers = vec![issuer("https://one.example", Some(&keys_one)), issuer("https://two.example", Some(&keys_two))];
    let server = TestServer::with(Setup { gate: Some(identity(issuers, &clock)), ..Setup::default() });

    for (signer, iss, expected) in [
        (&one, "https://one.example", "admitted"),
        (&two, "https://two.example", "admitted"),
        (&one, "https://two.example", "token_invalid"),
        (&two, "https://one.example", "token_invalid"),
        (&one, "https://three.example", "token_invalid"),
    ] {
        assert_eq!(admission(&server, &signer.sign(&claims(iss, "ann"))).await, expected, "{iss}");
    }

    let url = format!("http://{}/keys", sink.address);
    for (name, value) in [
        ("jku", json!(url)),
        ("x5u", json!(url)),
        ("kid", json!(url)),
        ("kid", json!("../../../etc/passwd")),
        ("jwk", one.public()),
        ("x5c", json!(["AA=="])),
        ("crit", json!(["jku"])),
    ] {
        let mut header = json!({ "alg": "ES256", "typ": "JWT", "kid": "same" });
        header[name] = value;
        let token = one.sign_with(&header, &claims("https://one.example", "ann"));
        assert_eq!(admission(&server, &token).await, "token_invalid", "{name}");
    }
    for claim in ["iss", "jku", "jwks_uri", "aud"] {
        let mut claims = claims("https://one.example", "ann");
        claims[claim] = json!(url);
        admission(&server, &one.sign(&claims)).await;
    }
    assert_eq!(sink.asked(), 0);
    assert_eq!(keys_one.asked(), 1, "an unknown kid does not have the set read again so soon");
}

#[tokio::test]
async fn what_tokens_say_of_their_bearers_goes_into_profiles_once_and_leaves_what_users_say() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let signer = Signer::new("a");
    let keys = KeyServer::start(&[&signer]).await;
    let profile = |win| ProfileClaims {
        name: "name".to_owned(),
        avatar: "picture".to_owned(),
        email: "email".to_owned(),
        telephone: "phone".to_owned(),
        win,
        ..ProfileClaims::default()
    };
    let kind = IssuerOptions { profile: profile(false), ..issuer("https://id.example", Some(&keys)) };
    let strict = IssuerOptions { profile: profile(true), ..issuer("https://strict.example", Some(&keys)) };
    let silent = issuer("https://silent.example", Some(&keys));
    let gate = identity(vec![kind, strict, silent], &clock);
    let server = TestServer::with(Setup { clock: clock.clone(), gate: Some(gate), ..Setup::default() });
    let token = |iss: &str, user: &str, said: Value| {
        let mut claims = claims(iss, user);
        claims.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
        signer.sign(&claims)
    };
    let (id, strict) = ("https://id.example", "https://strict.example");
    let mut bob = server.client_with(&token("https://silent.example", "bob", json!({ "name": "Bob" })), None).await;
    bob.ask(create_channel("lobby")).await;
    bob.ask(follow("lobby", "now")).await;
    let shown = async |client: &mut super::harness::Client, user: &str| {
        client.ask(json!({ "type": "users", "users": [user] })).await["users"][0].clone()
    };
    // It is taken over beside the connecting, perhaps before the connection hears of changes.
    let introduced = async |client: &mut super::harness::Client, user: &str, name: &str| {
        let look = async {
            loop {
                let found = shown(client, user).await;
                if found["name"] == name {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        patiently(look).await
    };
    let ann_stream = StreamId::User(TenantId::default_tenant(), UserId::new("ann").unwrap());
    let head = async || server.registry.store().head(&ann_stream).await.unwrap().map(|head| head.seq.0);

    let picture = "https://id.example/ann.png";
    let said = json!({ "name": "Ann", "picture": picture, "email": "ann@example.org", "phone": "no number" });
    let mut ann = server.client_with(&token(id, "ann", said.clone()), None).await;
    let own = introduced(&mut ann, "ann", "Ann").await;
    assert_eq!((&own["avatar"], &own["email"]), (&json!(picture), &json!("ann@example.org")));
    assert_eq!(own["telephone"], Value::Null, "it is none");
    ann.ask(join("lobby")).await;
    assert_eq!(ann.ask(json!({ "type": "inbox" })).await["rooms"][0]["alias"], "lobby");
    let before = head().await;
    for _ in 0..5 {
        server.client_with(&token(id, "ann", said.clone()), None).await.hears_back().await;
        let head = format!("X-Auth-Token: {}\r\n", token(id, "ann", said.clone()));
        assert_eq!(server.exchange(&request("GET", "/v1/me", &head)).await.0, 200);
    }

    // What the user has said, and what it has taken away, stays; what the token says otherwise than before is told.
    ann.ask(json!({ "type": "profile_update", "name": "Annie", "avatar": null })).await;
    assert_eq!(bob.notice("user_updated").await["name"], "Annie");
    assert_eq!(head().await, before.map(|seq| seq + 1), "the same was written once");
    let said = json!({ "name": "Anna", "picture": "https://id.example/anna.png", "email": "anna@example.org" });
    server.client_with(&token(id, "ann", said), None).await.hears_back().await;
    let own = loop {
        let told = ann.notice("user_updated").await;
        if told["email"] == "anna@example.org" {
            break told;
        }
    };
    assert_eq!((&own["name"], &own["avatar"]), (&json!("Annie"), &Value::Null));
    assert_eq!(shown(&mut bob, "bob").await["name"], Value::Null, "nobody asked for that issuer's claims");

    // Where claims win, nothing else does.
    let mut cay = server.client_with(&token(strict, "cay", json!({ "name": "Cay" })), None).await;
    introduced(&mut cay, "cay", "Cay").await;
    let kept = cay.ask(json!({ "type": "profile_update", "name": "Somebody", "about": "here" })).await;
    assert_eq!((&kept["name"], &kept["about"]), (&json!("Cay"), &json!("here")));
    cay.ask(json!({ "type": "profile_update", "telephone": "+4930123456" })).await;
    cay.take_aside();
    let said = json!({ "name": "Cay C.", "phone": "+4930654321" });
    server.client_with(&token(strict, "cay", said), None).await.hears_back().await;
    let own = loop {
        let told = cay.notice("user_updated").await;
        if told["name"] == "Cay C." {
            break told;
        }
    };
    assert_eq!((&own["telephone"], &own["about"]), (&json!("+4930654321"), &json!("here")));
}

#[tokio::test]
async fn a_server_starts_without_its_issuers_and_says_that_it_cannot_tell() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let signer = Signer::new("a");
    let keys = KeyServer::start(&[&signer]).await;
    keys.fail();
    let gate = identity(vec![issuer("https://id.example", Some(&keys))], &clock);
    let server = TestServer::with(Setup { clock: clock.clone(), gate: Some(gate), ..Setup::default() });
    let token = signer.sign(&claims("https://id.example", "ann"));
    assert_eq!(admission(&server, &token).await, "unavailable");
    keys.hold(&[&signer]);
    clock.advance(Duration::from_secs(31));
    assert_eq!(admission(&server, &token).await, "admitted");
}

#[tokio::test]
async fn a_required_claim_is_required_on_every_transport() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let signer = Signer::new("a");
    let keys = KeyServer::start(&[&signer]).await;
    let issuer = IssuerOptions {
        required: vec![RequiredClaim { claim: "amr".to_owned(), any_of: vec!["mfa".to_owned()] }],
        tenant: TenantSource::Claim("org".to_owned()),
        user_claim: "chat_user".to_owned(),
        ..issuer("https://id.example", Some(&keys))
    };
    let server = TestServer::with(Setup { gate: Some(identity(vec![issuer], &clock)), ..Setup::default() });
    for (amr, good) in [
        (json!(["pwd", "mfa"]), true),
        (json!("mfa"), true),
        (json!("pwd mfa"), true),
        (json!(["pwd"]), false),
        (json!("mfax"), false),
        (json!(true), false),
        (Value::Null, false),
    ] {
        let mut claims = claims("https://id.example", "ann");
        claims["amr"] = amr.clone();
        claims["org"] = json!("hill");
        claims["chat_user"] = json!("eve");
        let token = signer.sign(&claims);
        let mut client = server.open(None, None).await;
        client.next().await;
        let reply = client.try_ask(json!({ "type": "auth", "token": token })).await;
        assert_eq!(reply["ok"], good, "{amr}: {reply}");
        if good {
            assert_eq!((&reply["tenant"], &reply["user"]), (&json!("hill"), &json!("eve")));
        }
        assert_eq!(admission(&server, &token).await == "admitted", good, "{amr}");
        for path in ["/v1/rooms/1/events", "/v1/tickets"] {
            let method = if path == "/v1/tickets" { "POST" } else { "GET" };
            let headers = format!("X-Auth-Token: {token}\r\nAccept: text/event-stream\r\nContent-Length: 0\r\n");
            let (status, body) = server.exchange(&request(method, path, &headers)).await;
            assert_eq!(status != 401, good, "{amr} {path}: {body}");
        }
    }
}

#[test]
fn every_mistake_in_the_issuers_is_told_at_once() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let dir = tempfile::tempdir().unwrap();
    let pem = dir.path().join("key.pem");
    std::fs::write(&pem, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().public_key_pem()).unwrap();
    let key = |algorithm, source| KeyOptions { kid: None, algorithm, source };
    let mut insecure = issuer("https://one.example", None);
    insecure.jwks = Some(JwksOptions::of(JwksSource::Url("http://id.example/keys".to_owned())));
    let as_secret = IssuerOptions {
        keys: vec![key(Algorithm::Hs256, KeySource::SecretFile(pem.clone()))],
        ..issuer("https://two.example", None)
    };
    let right = IssuerOptions {
        keys: vec![key(Algorithm::Es256, KeySource::PemFile(pem))],
        ..issuer("https://two.example", None)
    };
    let options = IdentityOptions {
        issuers: vec![issuer("chinwag", None), insecure, as_secret, right.clone()],
        lifetime_max: 25 * HOUR,
        ..IdentityOptions::default()
    };
    let secret = || Secret::new(vec![7; 32]).unwrap();
    let error = Identity::new(&options, secret(), Arc::clone(&clock)).err().unwrap();
    let told = error.to_string();
    for expected in ["24 hours", "the server's own", "no keys", "not https", "PEM", "same iss"] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    let good = IdentityOptions { issuers: vec![right], ..IdentityOptions::default() };
    assert!(Identity::new(&good, secret(), clock).is_ok());
}

#[tokio::test]
async fn issuers_change_while_the_server_runs_and_a_mistake_changes_nothing() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let signer = Signer::new("a");
    let keys = KeyServer::start(&[&signer]).await;
    let options = |own_issuer, issuers| IdentityOptions { own_issuer, issuers, ..IdentityOptions::default() };
    let secret = Secret::new(vec![7; 32]).unwrap();
    let identity = Arc::new(Identity::new(&options(true, Vec::new()), secret, clock).unwrap());
    let server = TestServer::with(Setup { gate: Some(identity.clone()), ..Setup::default() });
    let (own, others) = (server.token("ann"), signer.sign(&claims("https://id.example", "ann")));
    let mut ann = server.client_with(&own, None).await;
    assert_eq!(admission(&server, &others).await, "token_invalid");
    assert!(identity.reload(&options(false, vec![issuer("chinwag", None)])).is_err());
    assert_eq!(admission(&server, &own).await, "admitted");
    identity.reload(&options(false, vec![issuer("https://id.example", Some(&keys))])).unwrap();
    assert_eq!(admission(&server, &others).await, "admitted");
    assert_eq!(admission(&server, &own).await, "token_invalid");
    ann.hears_back().await;
    // The same set is not read again only because something else has changed.
    identity.reload(&options(true, vec![issuer("https://id.example", Some(&keys))])).unwrap();
    assert_eq!(admission(&server, &others).await, "admitted");
    assert_eq!(keys.asked(), 1);
}

/// A key of an issuer's.
struct Signer {
    kid: String,
    pair: KeyPair,
}

impl Signer {
    fn new(kid: &str) -> Self {
        Self { kid: kid.to_owned(), pair: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap() }
    }

    fn public(&self) -> Value {
        use rcgen::PublicKeyData;
        let point = self.pair.der_bytes();
        let coordinate = |at: usize| URL_SAFE_NO_PAD.encode(&point[at..at + 32]);
        json!({ "kty": "EC", "crv": "P-256", "kid": self.kid, "x": coordinate(1), "y": coordinate(33) })
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(jsonwebtoken::Algorithm::ES256);
        header.kid = Some(self.kid.clone());
        self.sign_with(&serde_json::to_value(header).unwrap(), claims)
    }

    fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let key = EncodingKey::from_ec_der(&self.pair.serialize_der());
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::ES256).unwrap();
        format!("{message}.{signature}")
    }
}

/// An issuer's address, which counts how often it is asked.
struct KeyServer {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    /// What it answers, if it does.
    set: Arc<Mutex<Option<String>>>,
}

impl KeyServer {
    async fn start(signers: &[&Signer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self { address, asked: Arc::default(), set: Arc::default() };
        server.hold(signers);
        let (asked, set) = (Arc::clone(&server.asked), Arc::clone(&server.set));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                asked.fetch_add(1, Ordering::Relaxed);
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { break };
                    head.push(byte);
                }
                let set = set.lock().unwrap().clone();
                let answer = match set {
                    Some(set) => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{set}", set.len()),
                    None => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned(),
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        server
    }

    fn hold(&self, signers: &[&Signer]) {
        let keys: Vec<_> = signers.iter().map(|signer| signer.public()).collect();
        *self.set.lock().unwrap() = Some(json!({ "keys": keys }).to_string());
    }

    fn fail(&self) {
        *self.set.lock().unwrap() = None;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn issuer(iss: &str, keys: Option<&KeyServer>) -> IssuerOptions {
    IssuerOptions {
        name: "somebody".to_owned(),
        iss: iss.to_owned(),
        audiences: vec!["chat".to_owned()],
        typ: IssuerOptions::typ_default(),
        user_claim: IssuerOptions::USER_CLAIM_DEFAULT.to_owned(),
        tenant: TenantSource::Fixed("default".to_owned()),
        profile: ProfileClaims::default(),
        required: Vec::new(),
        keys: Vec::new(),
        jwks: keys.map(|keys| JwksOptions::of(JwksSource::Url(format!("http://{}/keys", keys.address)))),
    }
}

fn identity(issuers: Vec<IssuerOptions>, clock: &Arc<ManualClock>) -> Arc<Identity> {
    let options = IdentityOptions { issuers, ..IdentityOptions::default() };
    Arc::new(Identity::new(&options, Secret::new(vec![7; 32]).unwrap(), clock.clone()).unwrap())
}

fn claims(iss: &str, user: &str) -> Value {
    let now = SystemClock.now().0 / 1000;
    json!({ "iss": iss, "aud": "chat", "sub": user, "iat": now, "exp": now + 7200 })
}

fn claims_of(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn a_command_whose_body_comes_after_its_revocation_is_not_carried_out() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("harbour")).await;
    let token = server.token("bob");
    server.client_with(&token, None).await.ask(join("harbour")).await;
    let body = r#"{"content":{"text":"too late"}}"#;
    let mut bob = server
        .raw(&format!(
            "POST /v1/rooms/harbour/messages HTTP/1.1\r\nHost: localhost\r\nX-Auth-Token: {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
            body.len(),
            &body[..5]
        ))
        .await;
    // It is not said when the head has been read; without this the request would be refused from the beginning.
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.registry.revoke(user("default", "bob"), since(SystemClock.now())).await.unwrap();
    let _ = bob.write_all(&body.as_bytes()[5..]).await;
    let mut answer = Vec::new();
    let _ = patiently(bob.read_to_end(&mut answer)).await;
    assert!(answer.is_empty(), "it is cut: {}", answer.escape_ascii());
    let page = ann.ask(json!({ "type": "history", "room": "harbour" })).await;
    assert!(!page.to_string().contains("too late"), "{page}");
}

#[tokio::test]
async fn a_command_whose_token_ends_while_its_body_comes_is_refused() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = TestServer::with(Setup { clock: clock.clone(), ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("harbour")).await;
    let token = server.token_in("default", "ann", Duration::from_secs(60));
    let body = r#"{"content":{"text":"too late"}}"#;
    let mut late = server
        .raw(&format!(
            "POST /v1/rooms/harbour/messages HTTP/1.1\r\nHost: localhost\r\nX-Auth-Token: {token}\r\n\
             Connection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
            body.len(),
            &body[..5]
        ))
        .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    clock.advance(Duration::from_secs(66));
    late.write_all(&body.as_bytes()[5..]).await.unwrap();
    let mut answer = Vec::new();
    patiently(late.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 401 "), "{}", answer.escape_ascii());
}

#[tokio::test]
async fn a_kick_does_not_cut_the_command_of_its_user_and_a_revocation_cuts_its_connection() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let room = ann.ask(create_channel("harbour")).await["room"].clone();
    let token = server.token("bob");
    let body = r#"{"kind":"channel","alias":"own"}"#;
    let head = |path: &str| {
        format!(
            "POST /v1/rooms{path} HTTP/1.1\r\nHost: localhost\r\nX-Auth-Token: {token}\r\n\
             Content-Type: application/json\r\nContent-Length: "
        )
    };
    let mut bob = server.raw(&format!("{}0\r\n\r\n", head("/harbour/join"))).await;
    let mut buffer = vec![0; 4096];
    let bytes = patiently(bob.read(&mut buffer)).await.unwrap();
    assert!(buffer[..bytes].starts_with(b"HTTP/1.1 200 "), "{}", buffer[..bytes].escape_ascii());
    bob.write_all(format!("{}{}\r\n\r\n{}", head(""), body.len(), &body[..5]).as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    ann.ask(super::harness::kick(&room, "bob")).await;
    bob.write_all(&body.as_bytes()[5..]).await.unwrap();
    let bytes = patiently(bob.read(&mut buffer)).await.unwrap();
    assert!(buffer[..bytes].starts_with(b"HTTP/1.1 201 "), "{}", buffer[..bytes].escape_ascii());

    let began = Instant::now();
    server.registry.revoke(user("default", "bob"), since(SystemClock.now())).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(400), "nothing is under way: {:?}", began.elapsed());
    assert!(
        patiently(bob.read(&mut buffer)).await.map_or(true, |bytes| bytes == 0),
        "its answer may still have been on its way"
    );
}

#[tokio::test]
async fn who_was_only_refused_on_a_connection_is_not_remembered_with_it() {
    let server = TestServer::start();
    let mut proxy = server.raw("").await;
    let mut refused = async |user: &str| {
        let token = server.token(user);
        let get = format!("GET /v1/rooms/nowhere/events HTTP/1.1\r\nHost: localhost\r\nX-Auth-Token: {token}\r\n\r\n");
        proxy.write_all(get.as_bytes()).await.unwrap();
        let mut buffer = vec![0; 4096];
        let bytes = patiently(proxy.read(&mut buffer)).await.unwrap();
        assert!(buffer[..bytes].starts_with(b"HTTP/1.1 404 "), "{}", buffer[..bytes].escape_ascii());
    };
    for index in 0..40 {
        refused(&format!("user-{index}")).await;
    }
    for index in 0..40 {
        server.registry.revoke(user("default", &format!("user-{index}")), since(SystemClock.now())).await.unwrap();
    }
    refused("somebody").await;
}

fn user(tenant: &str, user: &str) -> Subject {
    Subject::User(TenantId::new(tenant).unwrap(), UserId::new(user).unwrap())
}

fn since(since: Timestamp) -> Revocation {
    Revocation { since, until: Timestamp(since.0 + 24 * 3_600_000) }
}

/// What a handshake with this token is answered: `admitted`, or the code of the refusal.
async fn admission(server: &TestServer, token: &str) -> String {
    let answer = answer(server, &handshake(&format!("Authorization: Bearer {token}\r\n"))).await;
    if answer.starts_with("HTTP/1.1 101") {
        return "admitted".to_owned();
    }
    code(answer.split_once("\r\n\r\n").expect("an answer has a body").1)
}

fn code(body: &str) -> String {
    let problem: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{body:?} is a problem document"));
    problem["code"].as_str().unwrap().to_owned()
}

fn head(headers: &str) -> String {
    handshake(headers)
}

fn request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
}

/// The head of an answer, and its body where that is not a socket. Does not wait for the end of the connection.
async fn answer(server: &TestServer, request: &str) -> String {
    let mut stream = server.raw(request).await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(patiently(stream.read_u8()).await.expect("an answer"));
    }
    let head = String::from_utf8_lossy(&answer).to_lowercase();
    let length = head.split_once("content-length: ").and_then(|(_, rest)| rest.split("\r\n").next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    patiently(stream.read_exact(&mut body)).await.expect("the body that was announced");
    answer.extend(body);
    String::from_utf8_lossy(&answer).into_owned()
}

/// The first frame on a socket whose handshake has been sent.
async fn first_frame(stream: &mut tokio::net::TcpStream) -> Value {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(patiently(stream.read_u8()).await.expect("an answer"));
    }
    let (_, payload) = super::harness::raw_frame(stream).await.expect("a frame");
    serde_json::from_slice(&payload).unwrap()
}

/// Asks on the operator's socket: for the list, or for a revocation.
async fn admin(socket: &Path, body: Option<Value>) -> (u16, Value) {
    let client = reqwest::Client::builder().unix_socket(socket).build().unwrap();
    let url = "http://localhost/revocations";
    let request = match body {
        Some(body) => client.post(url).json(&body),
        None => client.get(url),
    };
    let answer = patiently(request.send()).await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}
