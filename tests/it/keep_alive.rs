//! Connections that are kept from one request to the next, and those who would hold one for ever.

use std::time::{Duration, Instant};

use chinwag::actors::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{PATIENCE, Setup, TestServer, create_channel};
use crate::listening::Listening;

/// What the head of a request may take at most, of which nothing can be set.
const HEAD: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_connection_is_used_again() {
    let server = TestServer::start();
    server.client("ann").await.ask(create_channel("lobby")).await;
    let mut http = server.http("ann").await;
    let local = http.socket().local_addr().unwrap();
    for path in ["/v1/rooms/lobby/events", "/nowhere", "/healthz", "/v1/rooms/lobby/events?wait=1"] {
        let answer = http.get(path).await;
        assert_ne!(answer.header("connection"), Some("close"), "{path}");
    }
    assert_eq!(http.socket().local_addr().unwrap(), local);
}

#[tokio::test]
async fn a_connection_that_nobody_uses_is_closed() {
    let server = hurried(Duration::from_millis(300));
    let mut http = server.http("ann").await;
    assert_eq!(http.get("/healthz").await.status, 200);
    let began = Instant::now();
    assert!(http.is_ended().await);
    assert!(began.elapsed() < HEAD, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_second_head_that_drips_is_cut() {
    let time = Duration::from_millis(500);
    let server = hurried(time);
    let mut http = server.http("ann").await;
    assert_eq!(http.get("/healthz").await.status, 200);
    let began = Instant::now();
    let head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
    http.socket().write_all(head).await.unwrap();
    // One byte at a time, for as long as it is taken.
    let mut answer = [0; 64];
    loop {
        assert!(began.elapsed() < PATIENCE, "it is still there");
        let drip = http.socket().write_all(b"x").await;
        let pause = tokio::time::timeout(Duration::from_millis(50), http.socket().read(&mut answer)).await;
        if drip.is_err() || pause.is_ok_and(|read| !matches!(read, Ok(1..))) {
            break;
        }
    }
    assert!(began.elapsed() < time + HEAD + Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_lasts_is_not_cut_by_the_time_of_requests() {
    let server = hurried(Duration::from_millis(300));
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let (mut events, _) = server.events("ann", "lobby", None).await;
    let mut http = server.http("ann").await;
    http.send("/v1/rooms/lobby/events?after=now&wait=20", "").await.unwrap();
    let longer = Duration::from_millis(300) + HEAD + Duration::from_secs(1);
    assert!(tokio::time::timeout(longer, events.try_next()).await.is_err(), "nothing has happened yet");
    ann.ask(crate::harness::post("lobby", "still here")).await;
    assert_eq!(events.record().await["seq"], 3);
    assert_eq!(crate::harness::patiently(http.answer()).await.unwrap().ok()["records"][0]["seq"], 3);
    // The time is that of any request again.
    let began = Instant::now();
    assert!(http.is_ended().await);
    assert!(began.elapsed() < HEAD + Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_body_that_never_ends_holds_no_connection() {
    let server = hurried(Duration::from_millis(500));
    let head = "POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let mut stream = server.raw(head).await;
    let mut answer = Vec::new();
    let began = Instant::now();
    let _ = crate::harness::patiently(stream.read_to_end(&mut answer)).await;
    assert!(answer.starts_with(b"HTTP/1.1 405"), "{}", String::from_utf8_lossy(&answer));
    assert!(began.elapsed() < HEAD + Duration::from_secs(3), "{:?}", began.elapsed());
}

/// A server whose requests have little time.
fn hurried(request: Duration) -> TestServer {
    let limits = Limits { request, sweep: Duration::from_millis(20), ..Limits::lifted() };
    TestServer::with(Setup { limits, ..Setup::default() })
}
