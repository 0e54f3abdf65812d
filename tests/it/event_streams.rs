//! Event streams: a room over plain HTTP, resumed by the id of the last event.

use std::time::{Duration, Instant};

use chinwag::actors::Limits;
use serde_json::json;

use crate::harness::{Setup, TestServer, create_channel, join, kick, patiently, post};
use crate::listening::Listening;
use crate::support::listeners::Events;

#[tokio::test]
async fn a_stream_says_where_it_stands_and_then_what_happens() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let before = ann.ask(post("lobby", "before")).await;
    let (mut events, hello) = server.events("ann", "lobby", None).await;
    assert_eq!(hello.id.as_deref(), before["cursor"].as_str(), "without a place it begins now");
    assert_eq!(hello.json()["head"], before["seq"]);
    let posted = ann.ask(post("lobby", "hello")).await;
    let record = events.record().await;
    assert_eq!((&record["cursor"], &record["content"]["text"]), (&posted["cursor"], &json!("hello")));

    let header = |name: &str| events.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
    assert_eq!(header("content-type"), Some("text/event-stream"));
    assert_eq!(header("cache-control"), Some("no-store, no-transform"));
    assert_eq!(header("x-accel-buffering"), Some("no"));
}

#[tokio::test]
async fn a_record_is_the_same_on_a_stream_and_on_a_websocket() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    ann.ask(json!({"type": "follow", "room": "lobby", "from": "now"})).await;
    let (mut events, _) = server.events("ann", "alias%3Alobby", None).await;
    ann.ask(post("lobby", "one")).await;
    assert_eq!(events.record().await, ann.record().await);
}

#[tokio::test]
async fn the_id_of_the_last_event_resumes_and_wins_over_the_address() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let mut cursors = Vec::new();
    for text in ["one", "two", "three"] {
        cursors.push(ann.ask(post("lobby", text)).await["cursor"].as_str().unwrap().to_owned());
    }
    let path = format!("/v1/rooms/lobby/events?after={}", cursors[1]);
    let mut resumed = Events::open(server.address, &server.token("ann"), &path, Some(&cursors[0])).await.unwrap();
    assert_eq!(resumed.next().await.unwrap().id.as_deref(), Some(&*cursors[0]));
    assert_eq!(resumed.record().await["content"]["text"], "two");
    let mut from_the_address = Events::open(server.address, &server.token("ann"), &path, None).await.unwrap();
    assert_eq!(from_the_address.next().await.unwrap().id.as_deref(), Some(&*cursors[1]));
    assert_eq!(from_the_address.record().await["content"]["text"], "three");
}

#[tokio::test]
async fn a_long_log_is_streamed_whole_and_joined_to_what_is_new() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let text = "x".repeat(4 * 1024);
    for _ in 0..200 {
        ann.ask(post("lobby", &text)).await;
    }
    let token = server.token("ann");
    let mut events = Events::open(server.address, &token, "/v1/rooms/lobby/events?after=start", None).await.unwrap();
    events.next().await.unwrap();
    for seq in 1..=100 {
        assert_eq!(events.record().await["seq"], seq);
    }
    for _ in 0..20 {
        ann.ask(post("lobby", "more")).await;
    }
    for seq in 101..=222 {
        assert_eq!(events.record().await["seq"], seq);
    }
}

#[tokio::test]
async fn what_is_refused_is_a_problem_and_no_stream() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    ann.ask(create_channel("other")).await;
    let foreign = ann.ask(post("other", "x")).await["cursor"].as_str().unwrap().to_owned();
    let (token, stranger) = (server.token("ann"), server.token("eve"));
    let room = "/v1/rooms/lobby/events";
    let cases = [
        (&*token, room, Some("nonsense"), 400, "cursor_invalid"),
        (&token, room, Some("start"), 400, "cursor_invalid"),
        (&token, room, Some(""), 400, "cursor_invalid"),
        (&token, room, Some("EDMl-VkDBVJa\u{e9}"), 400, "cursor_invalid"),
        (&token, room, Some(&*foreign), 400, "cursor_foreign"),
        (&token, "/v1/rooms/nowhere/events", None, 404, "room_not_found"),
        (&token, "/v1/rooms/a%20b/events", None, 400, "bad_request"),
        (&token, "/v1/rooms/lobby/events?after=start&after=now", None, 400, "bad_request"),
        (&token, "/v1/rooms/lobby/events?limit=5", None, 400, "bad_request"),
        (&stranger, room, None, 403, "not_member"),
        ("nonsense", room, None, 401, "token_invalid"),
    ];
    for (token, path, last, status, code) in cases {
        let Err(refused) = Events::open(server.address, token, path, last).await else {
            panic!("{path} {last:?} is streamed")
        };
        assert_eq!(refused.refusal(), (status, code.to_owned()), "{path} {last:?}");
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    }
    assert_eq!(server.connections().await, 1, "of what is refused nothing stays");
}

#[tokio::test]
async fn no_id_with_control_characters_opens_a_stream() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let cursor = ann.ask(create_channel("lobby")).await["cursor"].as_str().unwrap().to_owned();
    for bad in [format!("{cursor}\0"), format!("{cursor}\nX: y\0"), format!("{cursor}\r"), format!("\u{1}{cursor}")] {
        let mut http = server.http("ann").await;
        let more = format!("Accept: text/event-stream\r\nLast-Event-ID: {bad}\r\nConnection: close\r\n");
        http.send("/v1/rooms/lobby/events", &more).await.unwrap();
        assert_eq!(patiently(http.answer()).await.unwrap().status, 400, "{bad:?}");
    }
}

#[tokio::test]
async fn no_content_breaks_out_of_its_event() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let (mut events, _) = server.events("ann", "lobby", None).await;
    let texts =
        ["\r", "\n", "\r\n", "a\n\ndata: {}\n\n", "\rid: x\rretry: 1\r\r", "\u{2028}\u{85}", ":", "\n\nevent: close\n"];
    for text in texts {
        let body = json!({"text": text, "more": {text: [text]}});
        ann.ask(json!({"type": "post", "room": "lobby", "content": body})).await;
        assert_eq!(events.record().await["content"], body);
    }
}

#[tokio::test]
async fn a_client_that_goes_away_without_a_word_is_noticed() {
    let comment = Duration::from_millis(300);
    let limits = Limits { comment, sweep: Duration::from_millis(20), ..Limits::lifted() };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let (mut events, _) = server.events("ann", "lobby", None).await;
    assert_eq!(server.connections().await, 2);
    while events.comments < 3 {
        // Nothing happens in the room, so that only comments come.
        let waited = tokio::time::timeout(comment / 2, events.try_next()).await;
        assert!(waited.is_err(), "{waited:?}");
    }
    drop(events);
    let began = Instant::now();
    while server.connections().await > 1 {
        assert!(began.elapsed() < 2 * comment + Duration::from_secs(2), "its stream lives on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_says_so() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    // It is good for its leeway of five seconds longer.
    let token = server.token_in("default", "ann", Duration::from_secs(1));
    let mut events = Events::open(server.address, &token, "/v1/rooms/lobby/events", None).await.unwrap();
    events.next().await.unwrap();
    let close = events.next().await.unwrap();
    assert_eq!(close.name, "close");
    assert_eq!(close.json(), json!({"code": 4403, "name": "token_expired", "reconnect": false}));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_stop_tells_streams_when_to_come_back() {
    let mut server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let (mut events, _) = server.events("ann", "lobby", None).await;
    let stopping = server.begin_stop();
    let close = events.next().await.unwrap();
    assert_eq!((&*close.name, close.id), ("close", None));
    let said = serde_json::from_str::<serde_json::Value>(&close.data).unwrap();
    assert_eq!((&said["code"], &said["name"], &said["reconnect"]), (&json!(1012), &json!("restarting"), &json!(true)));
    assert_eq!(said["retry_after_ms"].as_u64(), close.retry);
    assert!((1000..=6000).contains(&close.retry.unwrap()));
    assert_eq!(events.next().await, None);
    patiently(tokio::task::spawn_blocking(|| stopping.join())).await.unwrap().expect("it stops in order");
}

#[tokio::test]
async fn a_kick_that_is_answered_has_cut_the_stream() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let room = ann.ask(create_channel("lobby")).await["room"].clone();
    server.client("bob").await.ask(join("lobby")).await;
    let (mut events, _) = server.events("bob", "lobby", None).await;
    // What he has not read when he is kicked is more than his own end of the connection has taken.
    let text = "x".repeat(30 * 1024);
    for _ in 0..100 {
        ann.ask(post("lobby", &text)).await;
    }
    ann.ask(kick(&room, "bob")).await;
    let after = ann.ask(post("lobby", "not for bob")).await;
    while let Some(event) = events.next().await {
        assert_eq!(event.name, "record", "{event:?}");
        assert!(event.json()["seq"].as_u64() < after["seq"].as_u64());
    }
    let refused = Events::open(server.address, &server.token("bob"), "/v1/rooms/lobby/events", None).await;
    assert_eq!(refused.err().unwrap().refusal(), (403, "not_member".to_owned()));
}

#[tokio::test]
async fn a_stream_that_is_not_read_is_cut_and_hurts_nobody() {
    let slow_consumer = Duration::from_millis(500);
    let limits = Limits { slow_consumer, sweep: Duration::from_millis(20), ..Limits::lifted() };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let (events, hello) = server.events("ann", "lobby", None).await;
    let text = "x".repeat(30 * 1024);
    // On loopback the two ends hold some megabytes.
    for _ in 0..300 {
        ann.ask(post("lobby", &text)).await;
    }
    let began = Instant::now();
    while server.connections().await > 1 {
        assert!(began.elapsed() < Duration::from_secs(10), "it is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(events);
    let (mut events, _) = server.events("ann", "lobby", hello.id.as_deref()).await;
    for seq in 3..=302 {
        assert_eq!(events.record().await["seq"], seq);
    }
}
