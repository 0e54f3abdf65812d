//! How much anybody may take: rates of messages and connections, counts, and what is told to who takes more.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chinwag::actors::Limits;
use chinwag::actors::limits::{Connections, Rate, Rates, TenantLimits};
use chinwag::domain::{Position, RoomId, RoomKey, Seq, StreamId, TenantId, UserId};
use chinwag::store::memory::MemoryStore;
use chinwag::store::{Commit, Put, Store, rows};
use chinwag::wire::Cursor;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::harness::*;

#[tokio::test]
async fn a_session_that_posts_too_fast_is_told_when_to_go_on_and_may_go_on_then() {
    let server = limited(Rates { messages_per_session: Some(Rate::per_second(4, 3)), ..Rates::default() });
    let (mut ann, mut other) = (server.client("ann").await, server.client("ann").await);
    ann.ask(create_channel("lobby")).await;
    let (mut taken, mut pauses) = (1, Vec::new());
    for _ in 0..5 {
        match limit_of(&ann.try_ask(post("lobby", "hi")).await) {
            None => taken += 1,
            Some(refused) => pauses.push(refused),
        }
    }
    assert!((3..=4).contains(&taken), "the burst and what time has added: {taken}");
    let (limit, pause) = pauses.pop().expect("some were refused");
    assert_eq!(limit, "rates.messages_per_session");
    assert!(pause <= Duration::from_millis(250), "{pause:?}");
    other.ask(post("lobby", "another connection has its own rate")).await;
    tokio::time::sleep(pause).await;
    ann.ask(post("lobby", "the time has come")).await;
}

#[tokio::test]
async fn a_user_has_one_rate_on_all_connections_and_nobody_else_pays_for_it() {
    let server = limited(Rates { messages_per_user: Some(Rate::per_minute(1, 6)), ..Rates::default() });
    let mut sessions = [server.client("ann").await, server.client("ann").await, server.client("ann").await];
    sessions[0].ask(create_channel("lobby")).await;
    let mut taken = 0;
    for n in 0..12 {
        match limit_of(&sessions[n % 3].try_ask(post("lobby", "hi")).await) {
            None => taken += 1,
            Some((limit, _)) => assert_eq!(limit, "rates.messages_per_user"),
        }
    }
    assert_eq!(taken, 5, "to create the room was the first of six");
    let mut bob = server.client("bob").await;
    bob.ask(join("lobby")).await;
    bob.ask(post("lobby", "hi")).await;
    // Another tenant's user of the same name is somebody else.
    let token = server.token_in("other", "ann", Duration::from_secs(60));
    server.client_with(&token, None).await.ask(create_channel("lobby")).await;
}

#[tokio::test]
async fn what_looks_at_many_rooms_or_members_counts_as_a_message_does() {
    // A room and a message, and one for each of those below.
    let server = limited(Rates { messages_per_user: Some(Rate::per_minute(1, 3)), ..Rates::default() });
    for command in [
        json!({ "type": "inbox" }),
        json!({ "type": "inbox_changes", "since": "CURSOR" }),
        json!({ "type": "inbox_update", "room": "ROOM", "pinned": true }),
        json!({ "type": "settings_update", "private_reading": true }),
        json!({ "type": "hide", "room": "ROOM", "message": "MESSAGE" }),
        json!({ "type": "readers", "room": "ROOM", "message": "MESSAGE" }),
        json!({ "type": "presences", "room": "ROOM" }),
        json!({ "type": "presence", "presence": "away" }),
        json!({ "type": "typing", "room": "ROOM" }),
    ] {
        let user = command["type"].as_str().unwrap().to_owned();
        let mut client = server.client(&user).await;
        let room = client.ask(json!({ "type": "create", "kind": "group" })).await["room"].clone();
        let message = client.ask(post(room.as_str().unwrap(), "hi")).await["record"].clone();
        let inbox = RoomId::inbox(&TenantId::default_tenant(), &UserId::new(&user).unwrap());
        let start = Position { epoch: MemoryStore::EPOCH, seq: Seq::ZERO };
        let cursor = Cursor::encode(&RoomKey { tenant: TenantId::default_tenant(), room: inbox }, start);
        let command = command.to_string().replace("ROOM", room.as_str().unwrap());
        let command = command.replace("MESSAGE", message.as_str().unwrap()).replace("CURSOR", &cursor);
        let command: Value = serde_json::from_str(&command).unwrap();
        client.ask(command.clone()).await;
        assert_eq!(client.refused(command).await, "rate_limited", "{user}");
    }
}

#[tokio::test]
async fn a_room_and_a_tenant_have_rates_of_their_own() {
    let limits = Limits {
        rates: Rates { messages_per_room: Some(Rate::per_minute(1, 4)), ..Rates::default() },
        tenants: [(
            TenantId::new("small").unwrap(),
            TenantLimits { messages: Some(Rate::per_minute(1, 6)), ..TenantLimits::default() },
        )]
        .into(),
        ..Limits::lifted()
    };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let token = server.token_in("small", "ann", Duration::from_secs(60));
    let mut ann = server.client_with(&token, None).await;
    ann.ask(create_channel("one")).await;
    for _ in 0..3 {
        ann.ask(post("one", "hi")).await;
    }
    for _ in 0..10 {
        // What the room refuses uses nothing up of the tenant's.
        let (limit, pause) = limit_of(&ann.try_ask(post("one", "hi")).await).expect("the room has had its four");
        assert_eq!(limit, "rates.messages_per_room");
        assert!(pause > Duration::from_secs(50), "{pause:?}");
    }
    ann.ask(create_channel("two")).await;
    ann.ask(post("two", "hi")).await;
    assert_eq!(limit_of(&ann.try_ask(post("two", "hi")).await).unwrap().0, "tenant.messages");
    let mut bob = server.client("bob").await;
    bob.ask(create_channel("two")).await;
    bob.ask(post("two", "hi")).await;
}

#[tokio::test]
async fn a_rate_that_changes_holds_for_the_connections_that_are_there() {
    let server = limited(Rates { messages_per_user: Some(Rate::per_minute(1, 2)), ..Rates::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    ann.ask(post("lobby", "hi")).await;
    assert!(limit_of(&ann.try_ask(post("lobby", "hi")).await).is_some());
    server.registry.set_limits(Limits::lifted());
    for _ in 0..50 {
        ann.ask(post("lobby", "hi")).await;
    }
    let rates = Rates { messages_per_session: Some(Rate::per_minute(1, 1)), ..Rates::default() };
    server.registry.set_limits(Limits { rates, ..Limits::lifted() });
    ann.ask(post("lobby", "hi")).await;
    assert_eq!(limit_of(&ann.try_ask(post("lobby", "hi")).await).unwrap().0, "rates.messages_per_session");
}

#[tokio::test]
async fn a_session_that_goes_on_flooding_is_answered_slowly_and_wakes_nobody() {
    let server = limited(Rates { messages_per_session: Some(Rate::per_second(5, 5)), ..Rates::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let (began, sent) = (Instant::now(), 60);
    let mut ids = Vec::new();
    for _ in 0..sent {
        ids.push(ann.send(post("lobby", "hi")).await);
    }
    let mut taken = 0;
    for id in &ids {
        match limit_of(&ann.reply(id).await) {
            None => taken += 1,
            Some((limit, _)) => assert_eq!(limit, "rates.messages_per_session"),
        }
    }
    let took = began.elapsed();
    // Twenty frames at once and twenty a second.
    assert!(took >= Duration::from_millis(1_900), "{sent} frames were answered in {took:?}");
    let bound = 5 + 1 + usize::try_from(took.as_millis() * 5 / 1_000).unwrap();
    assert!((5..=bound).contains(&taken), "{taken} were taken in {took:?}");
    let head = ann.ask(json!({ "type": "history", "room": "lobby", "limit": 1 })).await;
    assert_eq!(head["records"][0]["seq"], 2 + taken, "the room has two records of its own, and no more is in the log");
}

#[tokio::test]
async fn who_asks_for_rooms_in_vain_too_often_has_to_wait_and_keeps_the_rooms_it_has() {
    let server = limited(Rates { failed_joins_per_user: Some(Rate::per_minute(10, 3)), ..Rates::default() });
    let (mut ann, mut eve) = (server.client("ann").await, server.client("eve").await);
    ann.ask(create_channel("lobby")).await;
    let hidden = ann.ask(json!({ "type": "create", "kind": "group" })).await["room"].clone();
    eve.ask(join("lobby")).await;
    // One that is not there, one that may not be known of, one that is known and not joined.
    ann.ask(create_channel("other")).await;
    assert_eq!(eve.refused(join("nowhere")).await, "room_not_found");
    assert_eq!(eve.refused(json!({ "type": "join", "room": hidden })).await, "room_not_found");
    assert_eq!(eve.refused(follow("other", "now")).await, "not_member");
    for command in [join("nowhere"), follow("other", "now"), json!({ "type": "history", "room": "lobby" })] {
        let (limit, pause) = limit_of(&eve.try_ask(command).await).expect("she has had her three");
        assert_eq!(limit, "rates.failed_joins_per_user");
        assert!(pause <= Duration::from_secs(6), "{pause:?}");
    }
    eve.ask(post("lobby", "what she has is not touched")).await;
    ann.ask(follow("lobby", "now")).await;
}

#[tokio::test]
async fn a_tenant_has_no_more_rooms_than_it_may() {
    let limits = Limits { tenant: TenantLimits { rooms: Some(3), ..TenantLimits::default() }, ..Limits::lifted() };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let mut ann = server.client("ann").await;
    for alias in ["one", "two", "three"] {
        ann.ask(create_channel(alias)).await;
    }
    let refused = ann.try_ask(create_channel("four")).await;
    assert_eq!(refused["error"]["code"], "too_many_rooms");
    assert_eq!(refused["error"]["limit"], "tenant.rooms");
    assert_eq!(ann.refused(create_channel("one")).await, "room_exists", "a name that is there uses nothing up");
    let token = server.token_in("other", "ann", Duration::from_secs(60));
    server.client_with(&token, None).await.ask(create_channel("four")).await;
}

#[tokio::test]
async fn rooms_are_counted_across_restarts_also_those_from_before_there_was_a_count() {
    let store = MemoryStore::new();
    let start = || {
        let tenant = TenantLimits { rooms: Some(3), ..TenantLimits::default() };
        // Opened again, because a server that stops closes it.
        let store = Arc::new(store.in_epoch(MemoryStore::EPOCH));
        TestServer::with(Setup { store, limits: Limits { tenant, ..Limits::lifted() }, ..Setup::default() })
    };
    let mut server = start();
    server.client("ann").await.ask(create_channel("one")).await;
    server.stop();
    server = start();
    server.client("ann").await.ask(create_channel("two")).await;
    server.stop();
    // As an older version left it.
    let store = store.in_epoch(MemoryStore::EPOCH);
    let stream = StreamId::Directory(TenantId::default_tenant());
    let expected = store.head(&stream).await.unwrap();
    let puts = vec![Put { under: stream.clone(), key: rows::ROOM_COUNT.into(), value: None }];
    store.commit(Commit { stream, expected, records: Vec::new(), puts, erase: Vec::new(), trim: None }).await.unwrap();
    server = start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("three")).await;
    assert_eq!(ann.refused(create_channel("four")).await, "too_many_rooms");
}

#[tokio::test]
async fn a_user_or_address_with_too_many_connections_is_refused_before_the_upgrade() {
    let server = connected(Connections { per_user: Some(2), per_address: Some(4), ..Connections::default() });
    let (ann, _second) = (server.client("ann").await, server.client("ann").await);
    let refused = refused_upgrade(&server, Some("ann"), "").await;
    assert_eq!(refused, (429, "too_many_connections".to_owned(), "connections.per_user".to_owned()));
    eventually("who was refused has gone", || server.registry.connections().open() == 2).await;
    let _others = (server.client("bob").await, server.client("eve").await);
    let refused = refused_upgrade(&server, Some("dan"), "").await;
    assert_eq!(refused, (429, "too_many_connections".to_owned(), "connections.per_address".to_owned()));
    drop(ann);
    eventually("the place is given back", || server.registry.connections().open() == 3).await;
    server.client("ann").await;
}

#[tokio::test]
async fn an_event_stream_is_a_connection_like_any_other() {
    let rates = Rates { failed_joins_per_user: Some(Rate::per_minute(1, 1)), ..Rates::default() };
    let connections = Connections { per_user: Some(2), ..Connections::default() };
    let server =
        TestServer::with(Setup { limits: Limits { rates, connections, ..Limits::lifted() }, ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let stream = |user: &str, room: &str| {
        format!(
            "GET /v1/rooms/{room}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\
             Authorization: Bearer {}\r\n\r\n",
            server.token(user)
        )
    };
    let mut events = server.raw(&stream("ann", "lobby")).await;
    assert_eq!(first_line(&mut events).await.0, 200);
    assert_eq!(refused_upgrade(&server, Some("ann"), "").await.2, "connections.per_user");
    let (status, body) =
        server.exchange(&stream("ann", "lobby").replace("Accept", "Connection: close\r\nAccept")).await;
    assert_eq!((status, body.contains("connections.per_user")), (429, true), "{body}");
    drop(events);
    eventually("the place is given back", || server.registry.connections().open() == 1).await;
    // And rooms are asked for as elsewhere.
    for (room, expected) in [("nowhere", 404), ("lobby", 429)] {
        let request = stream("eve", room).replace("Accept", "Connection: close\r\nAccept");
        assert_eq!(server.exchange(&request).await.0, expected, "{room}");
        let page = stream("bob", room).replace("Accept: text/event-stream", "Connection: close");
        assert_eq!(server.exchange(&page).await.0, expected, "a page of {room}");
    }
}

#[tokio::test]
async fn strangers_have_a_share_of_the_connections_and_who_says_who_it_is_leaves_it() {
    let server = connected(Connections {
        total: Some(20),
        unauthenticated_percent: Some(10),
        per_user: Some(1),
        ..Connections::default()
    });
    let (mut first, mut second) = (server.open(None, None).await, server.open(None, None).await);
    let refused = refused_upgrade(&server, None, "").await;
    assert_eq!(refused.2, "connections.unauthenticated_percent");
    first.ask(json!({ "type": "auth", "token": server.token("ann") })).await;
    let _third = server.open(None, None).await;
    // A second connection of the same user is one too many, and it is told so by reply and by close code.
    let reply = second.try_ask(json!({ "type": "auth", "token": server.token("ann") })).await;
    assert_eq!(reply["error"]["code"], "too_many_connections");
    assert_eq!(reply["error"]["limit"], "connections.per_user");
    assert_eq!(second.closed().await, Some(4429));
    first.ask(json!({ "type": "rooms" })).await;
}

#[tokio::test]
async fn an_address_whose_tokens_are_no_good_is_barred_without_a_look_at_them() {
    let server = limited(Rates {
        auth_failures_per_address: Some(Rate::per_minute(4, 4)),
        auth_penalty: Duration::from_secs(60),
        ..Rates::default()
    });
    let bad = "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.AAAA\r\n";
    for _ in 0..3 {
        let (status, code, _) = refused_upgrade(&server, None, bad).await;
        assert_eq!((status, code.as_str()), (401, "token_invalid"));
    }
    let mut stranger = server.open(None, None).await;
    assert_eq!(stranger.refused(json!({ "type": "auth", "token": "no good" })).await, "token_invalid");
    assert_eq!(stranger.closed().await, Some(4401));
    let barred = (429, "rate_limited".to_owned(), "rates.auth_failures_per_address".to_owned());
    assert_eq!(refused_upgrade(&server, None, bad).await, barred);
    assert_eq!(refused_upgrade(&server, Some("ann"), "").await, barred, "a good token is not looked at either");
    let mut stranger = server.open(None, None).await;
    let reply = stranger.try_ask(json!({ "type": "auth", "token": server.token("ann") })).await;
    let (limit, pause) = limit_of(&reply).expect("nor one that comes later");
    assert_eq!(limit, "rates.auth_failures_per_address");
    assert!(pause > Duration::from_secs(30) && pause <= Duration::from_secs(60), "{pause:?}");
    assert_eq!(stranger.closed().await, Some(4429));
}

#[tokio::test]
async fn connections_that_come_too_fast_are_cut_before_they_are_read() {
    let server = limited(Rates { connects_per_address: Some(Rate::per_second(2, 5)), ..Rates::default() });
    let mut answered = 0;
    let began = Instant::now();
    for _ in 0..20 {
        let Ok(mut stream) = tokio::net::TcpStream::connect(server.address).await else { continue };
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
        let mut answer = Vec::new();
        let _ = patiently(stream.read_to_end(&mut answer)).await;
        answered += usize::from(answer.starts_with(b"HTTP/1.1 200"));
    }
    let more = usize::try_from(began.elapsed().as_millis() / 500).unwrap() + 1;
    assert!((5..=5 + more).contains(&answered), "{answered} were answered");
}

#[tokio::test]
async fn connections_without_a_request_are_few_and_a_request_makes_room_for_the_next() {
    let server = connected(Connections { opening_per_address: Some(3), ..Connections::default() });
    let cut = || server.registry.metrics().connections_cut.get();
    let are_opening = async |number: usize| {
        let address = std::net::IpAddr::from(Ipv4Addr::LOCALHOST).into();
        eventually("they are counted", || server.registry.connections().opening(address) == number).await;
    };
    let begin = "GET /healthz HTTP/1.1\r\nHost: local";
    let [mut first, mut second, mut third] =
        [server.raw(begin).await, server.raw(begin).await, server.raw(begin).await];
    are_opening(3).await;
    for cuts in 1..=3 {
        // It may be gone before it is known here to be there.
        let end = match tokio::net::TcpStream::connect(server.address).await {
            Ok(mut stream) => patiently(stream.read_u8()).await.expect_err("one too many"),
            Err(error) => error,
        };
        let end = end.kind();
        assert!([ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof].contains(&end), "{end}");
        assert_eq!(cut(), cuts);
    }

    // Whatever its request is answered, and though the connection stays, it is not opening from then on.
    first.write_all(b"host\r\nOrigin: https://elsewhere.example\r\n\r\n").await.unwrap();
    assert_eq!(first_line(&mut first).await.0, 403);
    are_opening(2).await;
    let mut others = Vec::new();
    for _ in 0..5 {
        let mut stream = server.raw(&handshake(&format!("Authorization: Bearer {}\r\n", server.token("ann")))).await;
        assert_eq!(first_line(&mut stream).await.0, 101);
        others.push(stream);
    }
    assert_eq!(cut(), 3);
    second.write_all(b"host\r\n\r\n").await.unwrap();
    assert_eq!(first_line(&mut second).await.0, 200, "those that were there are not touched");

    // Who goes without a word gives the place back, too.
    third.shutdown().await.unwrap();
    are_opening(0).await;
}

#[tokio::test]
async fn a_connection_that_is_merely_kept_counts_as_any_other() {
    let server = connected(Connections { per_address: Some(3), ..Connections::default() });
    let ask = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut kept = Vec::new();
    for _ in 0..3 {
        kept.push(server.raw(ask).await);
        assert_eq!(first_line(kept.last_mut().unwrap()).await.0, 200);
    }
    assert_eq!(server.registry.connections().open(), 3);
    // One more is answered, and not kept: the answer has an end. Nor can it become one that lasts.
    assert_eq!(server.exchange(ask).await, (200, "ok\n".to_owned()));
    let refused = refused_upgrade(&server, Some("ann"), "").await;
    assert_eq!(refused, (429, "too_many_connections".to_owned(), "connections.per_address".to_owned()));
    // Only a few are let in to be told.
    let cut = || server.registry.metrics().connections_cut.get();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.extend(tokio::net::TcpStream::connect(server.address).await);
    }
    eventually("the others are cut", || cut() >= 12).await;
    assert_eq!(server.registry.connections().open(), 3);
    // Those that were there go on, and where one goes another comes in, though there are some that wait.
    let mut last = kept.pop().unwrap();
    let mut body = [0; 3];
    last.read_exact(&mut body).await.unwrap();
    last.write_all(ask.as_bytes()).await.unwrap();
    assert_eq!(first_line(&mut last).await.0, 200);
    drop(last);
    eventually("the place is given back", || server.registry.connections().open() == 2).await;
    server.client("ann").await.ask(create_channel("lobby")).await;
}

#[tokio::test]
async fn strangers_are_kept_within_their_share_and_who_shows_a_token_is_none() {
    let connections = Connections { total: Some(20), unauthenticated_percent: Some(10), ..Connections::default() };
    let server = connected(connections);
    let strangers = || server.registry.connections().strangers();
    let ask = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut kept = Vec::new();
    for _ in 0..2 {
        kept.push(server.raw(ask).await);
        assert_eq!(first_line(kept.last_mut().unwrap()).await.0, 200);
    }
    assert_eq!(strangers(), 2);
    assert_eq!(server.exchange(ask).await, (200, "ok\n".to_owned()), "answered, and not kept");
    assert_eq!(refused_upgrade(&server, None, "").await.2, "connections.unauthenticated_percent");

    let me = format!("GET /v1/me HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n", server.token("ann"));
    let mut known = server.raw(&me).await;
    let (status, head) = first_line(&mut known).await;
    assert_eq!((status, head.to_ascii_lowercase().contains("connection: close")), (200, false), "{head}");
    assert_eq!(strangers(), 2);
    let last = kept.last_mut().unwrap();
    last.read_exact(&mut [0; 3]).await.unwrap();
    last.write_all(me.as_bytes()).await.unwrap();
    assert_eq!(first_line(last).await.0, 200);
    assert_eq!(strangers(), 1);
    server.open(None, None).await;
}

#[tokio::test]
async fn a_large_body_on_its_way_is_a_connection_of_its_user() {
    let server = connected(Connections { per_user: Some(1), ..Connections::default() });
    server.client("bob").await.ask(create_channel("lobby")).await;
    // It would be the one too many for the body on its way, which is told so and never looked at again.
    eventually("the socket has gone", || server.registry.connections().open() == 0).await;
    let post = |text: &str| {
        let body = json!({ "content": { "text": text } }).to_string();
        format!(
            "POST /v1/rooms/lobby/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            server.token("bob"),
            body.len()
        )
    };
    let large = post(&"x".repeat(20 * 1024));
    let (most, rest) = large.split_at(large.len() - 2);
    let slow_and_refused = async {
        loop {
            let mut slow = server.raw(most).await;
            let mut refused = None;
            for _ in 0..50 {
                let (status, body) = server.exchange(&large).await;
                if status == 429 {
                    refused = Some(body);
                    break;
                }
                assert_eq!(status, 201, "{body}");
            }
            let Some(refused) = refused else {
                // One of those beside it had the place when it grew, so it was the one to be refused: again.
                assert_eq!(first_line(&mut slow).await.0, 429);
                continue;
            };
            assert!(refused.contains("connections.per_user"), "{refused}");
            assert_eq!(server.exchange(&post("what is small is not counted")).await.0, 201);
            slow.write_all(rest.as_bytes()).await.unwrap();
            // Where one of those beside it had the place when it grew, it was the one to be refused: again.
            match first_line(&mut slow).await.0 {
                429 => {}
                status => return status,
            }
        }
    };
    assert_eq!(patiently(slow_and_refused).await, 201);
    assert_eq!(server.exchange(&large).await.0, 201, "the place is given back");
}

#[tokio::test]
async fn connections_of_proxies_may_be_opening_as_they_like() {
    let limits = Limits {
        connections: Connections { opening_per_address: Some(1), ..Connections::default() },
        ..Limits::lifted()
    };
    let proxies = vec![ipnet::IpNet::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST))];
    let server = TestServer::with(Setup { limits, proxies, ..Setup::default() });
    let mut opening = Vec::new();
    for _ in 0..5 {
        opening.push(server.raw("GET /healthz HTTP/1.1\r\nHost: local").await);
    }
    for mut stream in opening {
        stream.write_all(b"host\r\n\r\n").await.unwrap();
        assert_eq!(first_line(&mut stream).await.0, 200);
    }
}

#[tokio::test]
async fn the_operator_can_read_what_has_been_counted() {
    let home = tempfile::tempdir().unwrap();
    let admin = home.path().join("admin.sock");
    let rates = Rates { messages_per_user: Some(Rate::per_minute(1, 3)), ..Rates::default() };
    let limits = Limits { rates, ..Limits::lifted() };
    let server = TestServer::with(Setup { admin: Some(admin.clone()), limits, ..Setup::default() });
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    bob.ask(follow("lobby", "now")).await;
    for _ in 0..2 {
        ann.ask(post("lobby", "hi")).await;
        bob.record().await;
    }
    assert!(limit_of(&ann.try_ask(post("lobby", "hi")).await).is_some());
    let _stranger = server.open(None, None).await;
    let answer = metrics(&admin).await;
    for line in [
        "chinwag_connections_open{transport=\"websocket\"} 3",
        "chinwag_connections_unauthenticated 1",
        "chinwag_authentications_total{outcome=\"ok\"} 2",
        "chinwag_commands_total{kind=\"post\",outcome=\"ok\"} 2",
        "chinwag_commands_total{kind=\"post\",outcome=\"rate_limited\"} 1",
        "chinwag_commands_total{kind=\"follow\",outcome=\"ok\"} 1",
        "chinwag_refusals_total{code=\"rate_limited\",limit=\"rates.messages_per_user\"} 1",
        "chinwag_deliveries_total 2",
        "chinwag_followers 1",
        "chinwag_followers_lagging 0",
        "chinwag_rooms_awake 1",
        "chinwag_inboxes 2",
        "chinwag_store_writable 1",
    ] {
        assert!(answer.contains(&format!("{line}\n")), "{line}: {answer}");
    }
    assert_eq!(server.get("/metrics").await.0, 404, "clients cannot");
}

#[tokio::test]
async fn who_publishes_lines_faster_than_the_rate_is_refused_few_of_them() {
    const LINES: u64 = 200;
    let home = tempfile::tempdir().unwrap();
    let admin = home.path().join("admin.sock");
    let rates = Rates { messages_per_session: Some(Rate::per_second(50, 20)), ..Rates::default() };
    let limits = Limits { rates, ..Limits::lifted() };
    let server = TestServer::with(Setup { admin: Some(admin.clone()), limits, ..Setup::default() });
    let mut bob = server.client("bob").await;
    bob.ask(create_channel("lobby")).await;
    bob.ask(follow("lobby", "start")).await;

    let mut publisher = std::process::Command::new(env!("CARGO_BIN_EXE_chinwag"))
        .args(["pub", "lobby", "--url", &format!("http://{}", server.address), "--token", &server.token("ann")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = publisher.stdin.take().unwrap();
    let lines: String = (1..=LINES).map(|line| format!("{{\"line\":{line}}}\n")).collect();
    let publishing = tokio::task::spawn_blocking(move || {
        // It reads as fast as it is answered, and the pipe holds all of this.
        std::io::Write::write_all(&mut input, lines.as_bytes()).unwrap();
        drop(input);
        publisher.wait_with_output().unwrap()
    });
    let output = patiently(publishing).await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 200, "each is acknowledged");

    let mut arrived = Vec::new();
    while arrived.len() < 200 {
        let record = bob.record().await;
        arrived.extend(record["content"]["line"].as_u64());
    }
    let overtaken = arrived.windows(2).filter(|pair| pair[0] > pair[1]).count();
    let refused = metrics(&admin).await;
    let refused = refused.lines().find_map(|line| {
        line.strip_prefix("chinwag_refusals_total{code=\"rate_limited\",limit=\"rates.messages_per_session\"} ")
    });
    let refused: u64 = refused.expect("the first lines came too fast").parse().unwrap();
    println!("of {LINES} lines {refused} were refused once more, {overtaken} overtaken");
    assert!(refused <= 50, "of {LINES} lines {refused} were refused once more");
    // Only those in flight beside the first that is refused can overtake it, where time makes room between them.
    assert!(overtaken <= 10, "{overtaken} were overtaken: {arrived:?}");
    arrived.sort_unstable();
    assert_eq!(arrived, (1..=LINES).collect::<Vec<_>>(), "each once");
    assert_eq!(told.lines().count(), 1, "of a rate it is told once: {told}");
}

#[tokio::test]
async fn behind_a_proxy_each_client_counts_for_itself() {
    let rates = Rates { connects_per_address: Some(Rate::per_minute(1, 3)), ..Rates::default() };
    let connections = Connections { per_address: Some(2), ..Connections::default() };
    let limits = Limits { rates, connections, ..Limits::lifted() };
    let proxies = vec![ipnet::IpNet::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST))];
    let server = TestServer::with(Setup { limits, proxies, ..Setup::default() });
    let from = |address: &str| {
        format!("X-Forwarded-For: 1.1.1.1, {address}\r\nAuthorization: Bearer {}\r\n", server.token("ann"))
    };
    let mut open = Vec::new();
    for address in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"] {
        let mut stream = server.raw(&handshake(&from(address))).await;
        let (first, _) = first_line(&mut stream).await;
        assert_eq!(first, 101, "{address}");
        open.push(stream);
    }
    let refused = refused_upgrade(&server, None, &from("192.0.2.1")).await;
    assert_eq!(refused, (429, "too_many_connections".to_owned(), "connections.per_address".to_owned()));
    let refused = refused_upgrade(&server, None, &from("192.0.2.1")).await;
    assert_eq!(refused, (429, "rate_limited".to_owned(), "rates.connects_per_address".to_owned()));
}

/// What the operator reads.
async fn metrics(admin: &Path) -> String {
    let mut socket = tokio::net::UnixStream::connect(admin).await.unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    patiently(socket.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

fn limited(rates: Rates) -> TestServer {
    TestServer::with(Setup { limits: Limits { rates, ..Limits::lifted() }, ..Setup::default() })
}

fn connected(connections: Connections) -> TestServer {
    TestServer::with(Setup { limits: Limits { connections, ..Limits::lifted() }, ..Setup::default() })
}

/// Which limit a reply says has been reached, and how long to wait.
fn limit_of(reply: &Value) -> Option<(String, Duration)> {
    if reply["ok"] == true {
        return None;
    }
    let error = &reply["error"];
    assert_eq!((&error["code"], &error["retry"]), (&json!("rate_limited"), &json!("later")), "{reply}");
    let pause = error["retry_after_ms"].as_u64().expect("it says how long to wait");
    Some((error["limit"].as_str().expect("it names the limit").to_owned(), Duration::from_millis(pause)))
}

/// What a handshake is answered that is not taken: status, code and limit.
async fn refused_upgrade(server: &TestServer, user: Option<&str>, more: &str) -> (u16, String, String) {
    let token = user.map(|user| format!("Authorization: Bearer {}\r\n", server.token(user))).unwrap_or_default();
    let (status, body) = server.exchange(&handshake(&format!("{token}{more}"))).await;
    let problem: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{status}: {error}: {body}"));
    let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    (status, text("code"), text("limit"))
}

async fn first_line(stream: &mut tokio::net::TcpStream) -> (u16, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    (head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0), head)
}
