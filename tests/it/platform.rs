//! Who users are, as a platform says that runs beside the server.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chinwag::clock::{Clock, ManualClock, SystemClock};
use chinwag::platform::{Places, Platform, PlatformOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::{Client, Setup, TestServer, create_channel, follow, join};

/// A platform that knows everybody whose id does not begin with `no`.
#[derive(Default)]
struct Other {
    /// The first line and the authorization of each request.
    asked: Mutex<Vec<(String, String)>>,
    fails: AtomicBool,
    hangs: AtomicBool,
    version: AtomicUsize,
}

impl Other {
    async fn start() -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/{{tenant}}/users?ids={{users}}", listener.local_addr().unwrap());
        let other = Arc::new(Self::default());
        let its = Arc::clone(&other);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let other = Arc::clone(&its);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.ok()?);
                    }
                    let answer = other.answer(&String::from_utf8(head).ok()?).await;
                    stream.write_all(answer.as_bytes()).await.ok()
                });
            }
        });
        (other, address)
    }

    async fn answer(&self, head: &str) -> String {
        let line = head.lines().next().unwrap().to_owned();
        let token = head.lines().find(|line| line.to_ascii_lowercase().starts_with("authorization:"));
        self.asked.lock().unwrap().push((line.clone(), token.unwrap_or_default().to_owned()));
        if self.hangs.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        if self.fails.load(Ordering::SeqCst) {
            return "HTTP/1.1 500 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned();
        }
        let version = self.version.load(Ordering::SeqCst);
        let ids = line.split("ids=").nth(1).unwrap().split(' ').next().unwrap();
        let known = ids.split(',').filter(|id| !id.starts_with("no"));
        let entries: Vec<Value> = known
            .map(|id| json!({ "id": id, "username": format!("{id} {version}"), "mail": format!("{id}@p") }))
            .collect();
        let body = json!({ "entries": entries }).to_string();
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

struct Stage {
    other: Arc<Other>,
    clock: Arc<ManualClock>,
    server: TestServer,
}

async fn stage() -> Stage {
    let (other, url) = Other::start().await;
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let options = PlatformOptions {
        url,
        token: Some("t-1".to_owned()),
        list: "/entries".to_owned(),
        places: Places {
            id: "/id".to_owned(),
            name: "/username".to_owned(),
            avatar: "/avatar".to_owned(),
            about: String::new(),
            email: "/mail".to_owned(),
            telephone: String::new(),
        },
        fresh: Duration::from_secs(60),
        stale: Duration::from_secs(600),
    };
    let platform = Platform::start(options, Arc::clone(&clock) as _).unwrap();
    let setup = Setup { clock: Arc::clone(&clock) as _, profiles: Some(platform), ..Setup::default() };
    Stage { other, clock, server: TestServer::with(setup) }
}

async fn names(client: &mut Client, users: &[&str]) -> Vec<Value> {
    let found = client.ask(json!({ "type": "users", "users": users })).await;
    found["users"].as_array().unwrap().iter().map(|user| user["name"].clone()).collect()
}

#[tokio::test]
async fn many_are_looked_up_at_once_and_remembered_for_a_while() {
    let stage = stage().await;
    let mut ann = stage.server.client("ann").await;
    let users: Vec<String> = (0..100).map(|n| format!("u{n}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    assert_eq!(names(&mut ann, &users).await[99], "u99 0");
    assert_eq!(stage.other.asked(), 1, "one request for a hundred");
    let (line, token) = stage.other.asked.lock().unwrap()[0].clone();
    assert!(line.starts_with("GET /default/users?ids=u0,u1,u10,"), "{line}");
    assert!(token.ends_with("Bearer t-1"), "{token}");
    stage.other.version.store(1, Ordering::SeqCst);
    assert_eq!(names(&mut ann, &["u7"]).await, ["u7 0"]);
    stage.clock.advance(Duration::from_secs(61));
    assert_eq!(names(&mut ann, &["u7"]).await, ["u7 1"]);
    assert_eq!(stage.other.asked(), 2);
    assert_eq!(names(&mut ann, &["nobody", "u8"]).await, [Value::Null, json!("u8 1")]);
    assert_eq!(names(&mut ann, &["nobody"]).await, [Value::Null]);
    assert_eq!(stage.other.asked(), 3, "that somebody is not known is remembered, too");
}

#[tokio::test]
async fn those_who_ask_at_the_same_time_are_asked_for_together() {
    let stage = stage().await;
    let mut clients = Vec::new();
    for n in 0..20 {
        clients.push(stage.server.client(&format!("c{n}")).await);
    }
    let asked = clients.iter_mut().enumerate().map(|(n, client)| async move {
        let name = format!("u{n}");
        names(client, &[&name]).await
    });
    futures_util::future::join_all(asked).await;
    assert!(stage.other.asked() < 20, "{} requests", stage.other.asked());
}

#[tokio::test]
async fn what_was_known_is_told_when_the_platform_fails_and_nobody_waits_for_it_again_and_again() {
    let stage = stage().await;
    let mut ann = stage.server.client("ann").await;
    assert_eq!(names(&mut ann, &["bob"]).await, ["bob 0"]);
    stage.other.fails.store(true, Ordering::SeqCst);
    stage.clock.advance(Duration::from_secs(61));
    assert_eq!(names(&mut ann, &["bob", "cas"]).await, [json!("bob 0"), Value::Null]);
    assert_eq!(names(&mut ann, &["bob", "dan"]).await, [json!("bob 0"), Value::Null]);
    assert_eq!(stage.other.asked(), 2, "it is left in peace for a while");
    stage.clock.advance(Duration::from_secs(600));
    assert_eq!(names(&mut ann, &["bob"]).await, [Value::Null], "too old");
    stage.other.fails.store(false, Ordering::SeqCst);
    stage.clock.advance(Duration::from_secs(6));
    assert_eq!(names(&mut ann, &["bob"]).await, ["bob 0"]);
}

#[tokio::test]
async fn a_platform_that_hangs_costs_five_seconds_once_and_others_nothing() {
    let stage = stage().await;
    let (mut ann, mut bob) = (stage.server.client("ann").await, stage.server.client("bob").await);
    stage.other.hangs.store(true, Ordering::SeqCst);
    let began = Instant::now();
    let waiting = async { names(&mut ann, &["cas"]).await };
    let others = async {
        let asked = Instant::now();
        bob.ask(create_channel("lobby")).await;
        asked.elapsed()
    };
    let (found, elsewhere) = tokio::join!(waiting, others);
    assert_eq!(found, [Value::Null]);
    assert!(began.elapsed() >= Duration::from_secs(5) && began.elapsed() < Duration::from_secs(9));
    assert!(elsewhere < Duration::from_secs(1), "{elsewhere:?}");
    let again = Instant::now();
    names(&mut ann, &["cas"]).await;
    assert!(again.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn what_the_platform_says_stands_before_what_users_say_and_contacts_are_as_they_allow() {
    let stage = stage().await;
    let (mut ann, mut bob) = (stage.server.client("ann").await, stage.server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    bob.ask(follow("lobby", "now")).await;
    ann.ask(json!({ "type": "profile_update", "name": "Not Ann", "about": "here" })).await;
    let told = bob.notice("user_updated").await;
    assert_eq!((&told["name"], &told["about"], &told["email"]), (&json!("ann 0"), &json!("here"), &Value::Null));
    let shown = bob.ask(json!({ "type": "users", "users": ["ann"] })).await["users"][0].clone();
    assert_eq!((&shown["name"], &shown["email"]), (&json!("ann 0"), &Value::Null));
    ann.ask(json!({ "type": "settings_update", "contacts": "everybody" })).await;
    let shown = bob.ask(json!({ "type": "users", "users": ["ann"] })).await["users"][0].clone();
    assert_eq!(shown["email"], "ann@p");
}

#[tokio::test]
async fn what_the_platform_says_otherwise_than_before_is_told_like_an_own_change() {
    let stage = stage().await;
    let (mut ann, mut bob) = (stage.server.client("ann").await, stage.server.client("bob").await);
    let (mut cas, mut zoe) = (stage.server.client("cas").await, stage.server.client("zoe").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    bob.ask(follow("lobby", "now")).await;
    names(&mut cas, &["ann", "dan"]).await;
    stage.clock.advance(Duration::from_secs(61));
    names(&mut cas, &["ann", "dan"]).await;
    stage.other.version.store(1, Ordering::SeqCst);
    stage.clock.advance(Duration::from_secs(61));
    // Whoever asks: those who know the user are told, and the user.
    assert_eq!(names(&mut cas, &["ann", "dan"]).await[0], "ann 1");
    let told = bob.notice("user_updated").await;
    assert_eq!((&told["user"], &told["name"], &told["email"]), (&json!("ann"), &json!("ann 1"), &Value::Null));
    let own = ann.notice("user_updated").await;
    assert_eq!((&own["name"], &own["email"]), (&json!("ann 1"), &json!("ann@p")));
    for version in 2..5 {
        stage.other.version.store(version, Ordering::SeqCst);
        stage.clock.advance(Duration::from_secs(61));
        names(&mut cas, &["ann"]).await;
    }
    let mut heard = Vec::new();
    loop {
        let told = bob.notice("user_updated").await;
        heard.push(told["name"].clone());
        if told["name"] == "ann 4" {
            break;
        }
    }
    assert!(heard.len() <= 2, "it was told more often than once a second: {heard:?}");
    for client in [&mut zoe, &mut cas] {
        client.hears_back().await;
        assert!(!client.take_aside().iter().any(|notice| notice["type"] == "user_updated"));
    }
}
