//! A room by pages over plain HTTP, and waiting for what comes next.

use std::time::{Duration, Instant};

use chinwag::actors::Limits;
use chinwag::actors::limits::{Connections, Rate, Rates};
use serde_json::{Value, json};

use crate::harness::{Client, Setup, TestServer, create_channel, join, kick, patiently, post};
use crate::listening::Listening;
use crate::support::listeners::{Answer, Http};

#[tokio::test]
async fn pages_go_forwards_from_the_start_until_there_is_no_more() {
    let server = TestServer::start();
    let (mut ann, mut http) = lobby(&server, 10).await;
    let mut path = "/v1/rooms/lobby/events?limit=5".to_owned();
    let mut seqs = Vec::new();
    loop {
        let page = http.get(&path).await.ok();
        seqs.extend(seqs_of(&page));
        assert_eq!(page["head"], 12);
        assert!(page["records"].as_array().unwrap().len() <= 5);
        path = format!("/v1/rooms/lobby/events?limit=5&after={}", page["cursor"].as_str().unwrap());
        if page["complete"] == true {
            break;
        }
    }
    assert_eq!(seqs, (1..=12).collect::<Vec<_>>());
    let empty = http.get(&path).await.ok();
    assert_eq!((&empty["records"], &empty["complete"]), (&json!([]), &json!(true)));
    assert!(path.ends_with(empty["cursor"].as_str().unwrap()), "the place stays where it was");
    ann.ask(post("lobby", "next")).await;
    assert_eq!(seqs_of(&http.get(&path).await.ok()), [13]);
}

#[tokio::test]
async fn a_page_holds_the_records_that_a_websocket_is_sent() {
    let server = TestServer::start();
    let (mut ann, mut http) = lobby(&server, 3).await;
    ann.ask(json!({"type": "follow", "room": "lobby", "from": "start"})).await;
    let page = http.get("/v1/rooms/lobby/events?after=start").await;
    assert_eq!(page.header("content-type"), Some("application/json"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let page = page.ok();
    for record in page["records"].as_array().unwrap() {
        assert_eq!(*record, ann.record().await);
    }
    let last = page["records"].as_array().unwrap().last().unwrap();
    assert_eq!(page["cursor"], last["cursor"]);
}

#[tokio::test]
async fn a_page_backwards_is_that_of_the_history() {
    let server = TestServer::start();
    let (mut ann, mut http) = lobby(&server, 10).await;
    let newest = ann.ask(json!({"type": "history", "room": "lobby", "limit": 4})).await;
    let before = newest["before"].as_str().unwrap();
    let older = ann.ask(json!({"type": "history", "room": "lobby", "limit": 4, "before": before})).await;
    let page = http.get(&format!("/v1/rooms/lobby/events?limit=4&before={before}")).await.ok();
    assert_eq!((&page["records"], &page["before"]), (&older["records"], &older["before"]));
}

#[tokio::test]
async fn who_waits_is_answered_when_something_happens() {
    let server = TestServer::start();
    let (mut ann, mut http) = lobby(&server, 1).await;
    http.send("/v1/rooms/lobby/events?after=now&wait=20s", "").await.unwrap();
    while server.connections().await < 2 {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    let posted = ann.ask(post("lobby", "at last")).await;
    let page = patiently(http.answer()).await.unwrap().ok();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!((seqs_of(&page), &page["cursor"]), (vec![4], &posted["cursor"]));
    // What is there already is not waited for.
    let page = http.get("/v1/rooms/lobby/events?wait=20s").await.ok();
    assert_eq!(seqs_of(&page), [1, 2, 3, 4]);
}

#[tokio::test]
async fn who_waits_in_vain_is_answered_with_the_same_place() {
    let limits = Limits { poll_wait: Duration::from_millis(400), ..Limits::lifted() };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let (_ann, mut http) = lobby(&server, 1).await;
    let cursor = http.get("/v1/rooms/lobby/events").await.ok()["cursor"].as_str().unwrap().to_owned();
    for (wait, least) in [("150ms", 150), ("3000", 400)] {
        let began = Instant::now();
        let page = http.get(&format!("/v1/rooms/lobby/events?after={cursor}&wait={wait}")).await.ok();
        assert!(began.elapsed() >= Duration::from_millis(least), "{wait}: {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(5), "{wait}: {:?}", began.elapsed());
        assert_eq!((&page["records"], &page["cursor"]), (&json!([]), &json!(cursor)));
    }
}

#[tokio::test]
async fn nothing_piles_up_for_who_waits() {
    let server = TestServer::start();
    let (mut ann, mut http) = lobby(&server, 1).await;
    // Between the answer and the next question more happens than one page holds.
    let mut after = "now".to_owned();
    let mut seqs = Vec::new();
    for _ in 0..5 {
        http.send(&format!("/v1/rooms/lobby/events?after={after}&wait=20&limit=100"), "").await.unwrap();
        for _ in 0..60 {
            ann.ask(post("lobby", "more")).await;
        }
        let page = patiently(http.answer()).await.unwrap().ok();
        after = page["cursor"].as_str().unwrap().to_owned();
        seqs.extend(seqs_of(&page));
    }
    while seqs.last() != Some(&303) {
        let page = http.get(&format!("/v1/rooms/lobby/events?after={after}&wait=20")).await.ok();
        after = page["cursor"].as_str().unwrap().to_owned();
        seqs.extend(seqs_of(&page));
    }
    assert_eq!(seqs, (seqs[0]..=303).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_waits_counts_as_a_connection_and_whoever_asks_for_rooms_as_elsewhere() {
    let connections = Connections { per_user: Some(2), ..Connections::default() };
    let rates = Rates { failed_joins_per_user: Some(Rate::per_minute(1, 1)), ..Rates::default() };
    let limits = Limits { connections, rates, ..Limits::lifted() };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let (mut ann, mut first) = lobby(&server, 1).await;
    first.send("/v1/rooms/lobby/events?after=now&wait=20", "").await.unwrap();
    while server.connections().await < 2 {
        tokio::task::yield_now().await;
    }
    let mut second = server.http("ann").await;
    let refused = second.get("/v1/rooms/lobby/events?after=now&wait=20").await;
    assert_eq!(refused.refusal(), (429, "too_many_connections".to_owned()));
    assert_eq!(second.get("/v1/rooms/lobby/events").await.status, 200, "who does not wait is answered");
    ann.ask(post("lobby", "go on")).await;
    patiently(first.answer()).await.unwrap().ok();
    assert_eq!(second.get("/v1/rooms/lobby/events?after=now&wait=10ms").await.status, 200, "the place is free again");
    let mut eve = server.http("eve").await;
    assert_eq!(eve.get("/v1/rooms/nowhere/events").await.status, 404);
    assert_eq!(eve.get("/v1/rooms/elsewhere/events").await.refusal(), (429, "rate_limited".to_owned()));
}

#[tokio::test]
async fn questions_that_make_no_sense_are_refused() {
    let server = TestServer::start();
    let (mut ann, mut http) = lobby(&server, 1).await;
    ann.ask(create_channel("other")).await;
    let foreign = ann.ask(post("other", "x")).await["cursor"].as_str().unwrap().to_owned();
    let here = http.get("/v1/rooms/lobby/events").await.ok()["cursor"].as_str().unwrap().to_owned();
    let cases = [
        ("limit=0".to_owned(), 400, "bad_request"),
        ("limit=101".to_owned(), 400, "bad_request"),
        ("limit=-1".to_owned(), 400, "bad_request"),
        ("wait=soon".to_owned(), 400, "bad_request"),
        ("wait=%2B5".to_owned(), 400, "bad_request"),
        ("wait=".to_owned(), 400, "bad_request"),
        (format!("before={here}&after=start"), 400, "bad_request"),
        (format!("before={here}&wait=1"), 400, "bad_request"),
        ("after=nonsense".to_owned(), 400, "cursor_invalid"),
        ("before=now".to_owned(), 400, "cursor_invalid"),
        (format!("after={foreign}"), 400, "cursor_foreign"),
    ];
    for (query, status, code) in cases {
        let refused = http.get(&format!("/v1/rooms/lobby/events?{query}")).await;
        assert_eq!(refused.refusal(), (status, code.to_owned()), "{query}");
    }
    let mut eve = server.http("eve").await;
    assert_eq!(eve.get("/v1/rooms/lobby/events").await.refusal(), (403, "not_member".to_owned()));
    assert_eq!(eve.get("/v1/rooms/lobby/events?wait=5").await.refusal(), (403, "not_member".to_owned()));
    let mut nobody = Http::connect(server.address, "nonsense").await.unwrap();
    assert_eq!(nobody.get("/v1/rooms/lobby/events").await.refusal(), (401, "token_invalid".to_owned()));
}

#[tokio::test]
async fn a_kick_that_is_answered_has_ended_the_waiting() {
    let server = TestServer::start();
    let (mut ann, _) = lobby(&server, 1).await;
    let room = ann.ask(json!({"type": "history", "room": "lobby"})).await["room"].clone();
    server.client("bob").await.ask(join("lobby")).await;
    let mut http = server.http("bob").await;
    http.send("/v1/rooms/lobby/events?after=now&wait=20s", "").await.unwrap();
    while server.connections().await < 2 {
        tokio::task::yield_now().await;
    }
    ann.ask(kick(&room, "bob")).await;
    ann.ask(post("lobby", "not for bob")).await;
    assert!(patiently(http.answer()).await.is_err(), "its connection is cut");
    let mut http = server.http("bob").await;
    assert_eq!(http.get("/v1/rooms/lobby/events").await.refusal(), (403, "not_member".to_owned()));
}

#[tokio::test]
async fn a_kick_that_is_answered_cannot_be_followed_by_a_page() {
    let server = TestServer::start();
    let (mut ann, _) = lobby(&server, 1).await;
    let room = ann.ask(json!({"type": "history", "room": "lobby"})).await["room"].clone();
    let text = "x".repeat(30 * 1024);
    for _ in 0..30 {
        ann.ask(post("lobby", &text)).await;
    }
    server.client("bob").await.ask(join("lobby")).await;
    // Pages lie in the server's buffers and have not been read when bob is kicked.
    let mut http = Http::connect_narrow(server.address, &server.token("bob")).await.unwrap();
    for _ in 0..60 {
        http.send("/v1/rooms/lobby/events", "").await.unwrap();
    }
    patiently(http.answer()).await.unwrap().ok();
    ann.ask(kick(&room, "bob")).await;
    let mut read = 1;
    while patiently(http.answer()).await.is_ok() {
        read += 1;
    }
    assert!(read < 60, "whatever the server still had is thrown away; {read} came");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_who_waits() {
    let mut server = TestServer::start();
    let (_ann, mut http) = lobby(&server, 1).await;
    http.send("/v1/rooms/lobby/events?after=now&wait=50", "").await.unwrap();
    while server.connections().await < 2 {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    let stopping = server.begin_stop();
    let answer = patiently(http.answer()).await.unwrap();
    assert_eq!(answer.refusal(), (503, "shutting_down".to_owned()));
    assert!(answer.header("retry-after").is_some());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    patiently(tokio::task::spawn_blocking(|| stopping.join())).await.unwrap().expect("it stops in order");
}

#[tokio::test]
async fn who_waits_with_a_token_that_ends_is_told_so() {
    let server = TestServer::start();
    let (_ann, _) = lobby(&server, 1).await;
    // It is good for its leeway of five seconds longer.
    let token = server.token_in("default", "ann", Duration::from_secs(1));
    let mut http = Http::connect(server.address, &token).await.unwrap();
    let answer = http.get("/v1/rooms/lobby/events?after=now&wait=15").await;
    assert_eq!(answer.refusal(), (401, "token_expired".to_owned()));
}

#[tokio::test]
async fn who_waits_and_goes_away_does_not_keep_a_place() {
    let connections = Connections { per_user: Some(21), ..Connections::default() };
    let limits = Limits { connections, poll_wait: Duration::from_secs(50), ..Limits::lifted() };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let (_ann, _) = lobby(&server, 1).await;
    let path = |index| if index % 2 == 0 { "/v1/rooms/lobby/events" } else { "/v1/events" };
    let mut waiting = Vec::new();
    for index in 0..20 {
        let mut http = server.http("ann").await;
        http.send(&format!("{}?after=now&wait=50", path(index)), "").await.unwrap();
        waiting.push(http);
    }
    while server.connections().await < 21 {
        tokio::task::yield_now().await;
    }
    let mut next = server.http("ann").await;
    assert_eq!(next.get("/v1/events?after=now&wait=10ms").await.refusal().0, 429);
    let went = Instant::now();
    drop(waiting);
    while next.get("/v1/events?after=now&wait=10ms").await.status != 200 {
        assert!(went.elapsed() < Duration::from_secs(10), "those who went away still hold their places");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn pages_that_have_arrived_hold_no_descriptors() {
    // Both ends of every connection are in this process: those of the client are closed when the count is made.
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let server = TestServer::start();
    let (_ann, _) = lobby(&server, 1).await;
    let before = descriptors();
    let began = Instant::now();
    for _ in 0..100 {
        let mut http = server.http("ann").await;
        http.send("/v1/rooms/lobby/events", "Connection: close\r\n").await.unwrap();
        patiently(http.answer()).await.unwrap().ok();
    }
    while descriptors() > before + 10 {
        // Were they kept for as long as a page may take, it would be ten seconds.
        assert!(began.elapsed() < Duration::from_secs(8), "{} of {before}", descriptors());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A room with so many posts (behind two other records), its owner, and a client of hers.
async fn lobby(server: &TestServer, posts: usize) -> (Client, Http) {
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    for _ in 0..posts {
        ann.ask(post("lobby", "hello")).await;
    }
    (ann, server.http("ann").await)
}

fn seqs_of(page: &Value) -> Vec<u64> {
    page["records"].as_array().unwrap().iter().map(|record| record["seq"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_proxy_may_ask_for_several_users_on_one_connection() {
    let server = TestServer::start();
    let (mut ann, _) = lobby(&server, 1).await;
    let room = ann.ask(json!({"type": "history", "room": "lobby"})).await["room"].clone();
    let users: Vec<_> = (0..16).map(|n| format!("user-{n}")).collect();
    for user in &users {
        server.client(user).await.ask(join("lobby")).await;
    }
    let mut proxy = server.http("ann").await;
    let ask = |user: &str| format!("X-Auth-Token: {}\r\n", server.token(user));
    proxy.anonymous();
    let mut last: Option<Answer> = None;
    for user in &users {
        proxy.send("/v1/rooms/lobby/events", &ask(user)).await.unwrap();
        let answer = patiently(proxy.answer()).await.unwrap();
        answer.ok();
        last = Some(answer);
    }
    assert_eq!(last.unwrap().header("connection"), Some("close"), "sixteen users are as many as share one");
    assert!(proxy.is_ended().await);

    let mut proxy = server.http("ann").await;
    proxy.anonymous();
    for user in &users[..3] {
        proxy.send("/v1/rooms/lobby/events", &ask(user)).await.unwrap();
        patiently(proxy.answer()).await.unwrap().ok();
    }
    ann.ask(kick(&room, &users[0])).await;
    assert!(proxy.is_ended().await, "the page of the first may still have been on its way");
}
