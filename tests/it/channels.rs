//! StaticBackend's channels: over event streams with requests beside them, over WebSockets, and over the same rooms as the
//! native protocol.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chinwag::actors::Limits;
use chinwag::actors::accounts::By;
use chinwag::actors::limits::{self, Rate, Rates};
use chinwag::domain::account::Rank;
use chinwag::domain::channel::Admissions;
use chinwag::domain::{TenantId, UserId};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::accounts::owner;
use crate::harness::{Setup, TestServer, create_channel, follow, join, kick, patiently, post};
use crate::support::listeners::{Answer, Events, Http};

/// A client of channels.
pub struct Channels {
    pub sid: String,
    token: String,
    address: SocketAddr,
    carried: Carried,
    /// What has come and has not been asked for.
    aside: VecDeque<Value>,
}

enum Carried {
    Stream(Box<Events>),
    Socket(Box<WebSocketStream<TcpStream>>),
}

const CONNECT: &str = "/staticbackend/sse/connect?sbpk=pk";

impl Channels {
    /// One that has heard what it is called, on a stream.
    async fn stream(server: &TestServer, user: &str) -> Self {
        Self::resumed(server, user, None).await
    }

    async fn resumed(server: &TestServer, user: &str, last: Option<&str>) -> Self {
        let events = Events::open(server.address, "", CONNECT, last).await.unwrap();
        Self::begun(server, user, Carried::Stream(Box::new(events))).await
    }

    /// The same on a WebSocket.
    async fn socket(server: &TestServer, user: &str) -> Self {
        let request = format!("ws://{}/staticbackend/ws", server.address).into_client_request().unwrap();
        let stream = TcpStream::connect(server.address).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.expect("the handshake is right");
        Self::begun(server, user, Carried::Socket(Box::new(socket))).await
    }

    async fn begun(server: &TestServer, user: &str, carried: Carried) -> Self {
        let mut client = Self {
            sid: String::new(),
            token: server.token(user),
            address: server.address,
            carried,
            aside: VecDeque::new(),
        };
        let init = client.next().await;
        assert_eq!((&init["type"], &init["sid"]), (&json!("init"), &init["data"]));
        client.sid = init["sid"].as_str().unwrap().to_owned();
        client
    }

    /// One that has said who it is, too.
    async fn known(mut self) -> Self {
        let token = self.token.clone();
        self.send("auth", &token, "").await;
        assert_eq!(self.next().await["data"], token);
        self
    }

    async fn both(server: &TestServer, one: &str, other: &str) -> [Self; 2] {
        [Self::stream(server, one).await.known().await, Self::socket(server, other).await.known().await]
    }

    fn command(&self, kind: &str, data: &str, channel: &str) -> Value {
        json!({"sid": self.sid, "token": self.token, "type": kind, "data": data, "channel": channel})
    }

    async fn send(&mut self, kind: &str, data: &str, channel: &str) {
        let command = self.command(kind, data, channel);
        match &mut self.carried {
            Carried::Socket(socket) => socket.send(Message::text(command.to_string())).await.unwrap(),
            Carried::Stream(_) => {
                let answer = said(self.address, &self.token, "pk", &command).await;
                assert_eq!((answer.status, &*answer.body), (200, "true"), "{answer:?}");
            }
        }
    }

    async fn next(&mut self) -> Value {
        match self.aside.pop_front() {
            Some(object) => object,
            None => self.heard().await,
        }
    }

    async fn heard(&mut self) -> Value {
        match &mut self.carried {
            Carried::Stream(events) => {
                let event = events.next().await.expect("the stream goes on");
                assert_eq!(event.name, "", "their clients listen for messages, which have no name");
                event.json()
            }
            Carried::Socket(socket) => loop {
                match patiently(socket.next()).await.expect("the socket is open").expect("it works") {
                    Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                    Message::Ping(_) | Message::Pong(_) => {}
                    other => panic!("{other:?}"),
                }
            },
        }
    }

    /// Leaves aside what comes until something else has happened.
    async fn listen_during<T>(&mut self, something: impl Future<Output = T>) -> T {
        tokio::pin!(something);
        loop {
            tokio::select! {
                result = &mut something => return result,
                object = self.heard() => self.aside.push_back(object),
            }
        }
    }

    /// The next of a kind; others that come before it are left.
    async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            if let Some(index) = self.aside.iter().position(|object| object["type"] == kind) {
                return self.aside.remove(index).unwrap();
            }
            let object = self.heard().await;
            self.aside.push_back(object);
        }
    }

    /// Joins, and hears both answers that there have been.
    async fn join(&mut self, channel: &str) -> Value {
        self.send("join", channel, "").await;
        let ok = self.next_of("ok").await;
        let mut joined = self.next_of("joined").await;
        while joined["sid"] != self.sid {
            joined = self.next_of("joined").await;
        }
        assert_eq!((&ok["data"], &joined["data"]), (&json!(channel), &json!(channel)));
        assert_eq!(joined["channel"], channel);
        joined
    }
}

async fn said(address: SocketAddr, token: &str, key: &str, command: &Value) -> Answer {
    let mut http = Http::connect(address, token).await.unwrap();
    let path = format!("/staticbackend/sse/msg?sbpk={key}");
    patiently(http.request("POST", &path, Some(command))).await.unwrap()
}

#[tokio::test]
async fn what_is_said_reaches_every_member_in_the_same_order_whatever_it_speaks() {
    let server = TestServer::start();
    let [mut ann, mut bob] = Channels::both(&server, "ann", "bob").await;
    ann.join("lobby").await;
    bob.join("lobby").await;
    let come = ann.next_of("joined").await;
    assert_ne!(come["data"], bob.sid, "what opens a connection is told to nobody else");
    assert_eq!(come["channel"], "lobby");
    let mut eve = server.client("eve").await;
    eve.ask(join("lobby")).await;
    eve.ask(follow("lobby", "now")).await;

    ann.send("chan_in", "one", "lobby").await;
    assert_eq!(ann.next_of("ok").await["data"], "");
    bob.send("chan_in", "two", "lobby").await;
    assert_eq!(bob.next_of("ok").await["sid"], bob.sid);
    let third = eve.ask(post("lobby", "three")).await;
    eve.ask(json!({"type": "edit", "room": "lobby", "message": third["record"], "content": {"text": "3"}})).await;
    eve.ask(json!({"type": "delete", "room": "lobby", "message": third["record"]})).await;

    for client in [&mut ann, &mut bob] {
        for (kind, data) in [("chan_out", "one"), ("chan_out", "two"), ("chan_out", "three"), ("chan_edited", "3")] {
            let object = client.next_of(kind).await;
            assert_eq!((&object["data"], &object["channel"]), (&json!(data), &json!("lobby")));
            assert_eq!((&object["sid"], &object["token"]), (&json!(""), &json!("")), "nobody else's");
        }
        let deleted = client.next_of("chan_deleted").await;
        assert_eq!((&deleted["data"], &deleted["id"]), (&third["record"], &third["record"]));
    }
    for text in ["one", "two", "three"] {
        let record = eve.record().await;
        assert_eq!(record["content"]["text"], text);
    }
}

#[tokio::test]
async fn commands_that_come_before_the_token_are_carried_out_behind_it() {
    let server = TestServer::start();
    for mut client in [Channels::stream(&server, "ann").await, Channels::socket(&server, "bob").await] {
        client.send("chan_in", "hello", "lobby").await;
        client.send("join", "lobby", "").await;
        client.send("echo", "anybody", "").await;
        assert_eq!(client.next().await["data"], "echo: anybody", "that needs nobody");
        let client = &mut client.known().await;
        assert_eq!(client.next_of("ok").await["data"], "");
        assert_eq!(client.next_of("ok").await["data"], "lobby");
    }
}

#[tokio::test]
async fn what_waits_for_a_token_in_vain_is_refused() {
    let server = TestServer::start();
    let mut ann = Channels::stream(&server, "ann").await;
    ann.send("auth", "nonsense", "").await;
    ann.send("join", "lobby", "").await;
    for _ in 0..2 {
        let refused = ann.next().await;
        assert_eq!((&refused["type"], &refused["data"]), (&json!("error"), &json!("invalid token")));
    }
    let ann = &mut ann.known().await;
    ann.join("lobby").await;
}

#[tokio::test]
async fn what_cannot_be_done_is_said_in_the_words_of_the_original() {
    let server = TestServer::start();
    for mut client in Channels::both(&server, "ann", "bob").await {
        let refused = [
            (("chan_in", "hello", ""), "no channel was specified"),
            (("join", "", ""), "no channel was specified"),
            (("chan_in", "hello", "db-tasks_760_"), "you cannot write to database channel"),
            (("chan_in", "hello", "DB-tasks"), "you cannot write to database channel"),
            (("shout", "hello", "lobby"), "shout command not found"),
        ];
        for ((kind, data, channel), why) in refused {
            client.send(kind, data, channel).await;
            let error = client.next().await;
            let expected = json!({"sid": client.sid, "type": "error", "data": why, "channel": "", "token": ""});
            assert_eq!(error, expected);
        }
        client.send("presence", "nowhere", "").await;
        assert_eq!(client.next().await["type"], "error");
        client.join("lobby").await;
        client.send("presence", "lobby", "").await;
        assert!(client.next_of("presence").await["data"].as_str().unwrap().parse::<u32>().is_ok());
    }
}

#[tokio::test]
async fn only_who_a_connection_belongs_to_speaks_by_its_name_and_a_stranger_hears_nothing() {
    let server = TestServer::start();
    let mut ann = Channels::stream(&server, "ann").await.known().await;
    ann.join("lobby").await;
    let echo = ann.command("echo", "hello", "");
    let answer = said(server.address, &server.token("eve"), "pk", &echo).await;
    assert_eq!(answer.status, 401, "{answer:?}");
    let none = said(server.address, &server.token("ann"), "other", &echo).await;
    assert_eq!((none.status, &*none.body), (401, "invalid StaticBackend public key"));
    let unknown = json!({"sid": "7eea6625-54c1-11eb-8296-d6c19976ae8a", "type": "echo", "data": "hello"});
    assert_eq!(said(server.address, &server.token("ann"), "pk", &unknown).await.body, "true");
    ann.send("echo", "me", "").await;
    assert_eq!(ann.next().await["data"], "echo: me");
}

#[tokio::test]
async fn a_request_may_speak_for_a_websocket_whose_client_authenticates_beside_it() {
    let server = TestServer::start();
    let mut bob = Channels::socket(&server, "bob").await;
    let auth = bob.command("auth", &server.token("bob"), "");
    assert_eq!(said(server.address, &server.token("bob"), "pk", &auth).await.body, "true");
    assert_eq!(bob.next().await["type"], "token");
    bob.join("lobby").await;
}

#[tokio::test]
async fn who_comes_back_goes_on_where_it_was() {
    let server = TestServer::start();
    let mut ann = Channels::stream(&server, "ann").await.known().await;
    ann.join("lobby").await;
    let mut eve = server.client("eve").await;
    eve.ask(join("lobby")).await;
    eve.ask(post("lobby", "one")).await;
    let one = ann.next_of("chan_out").await;
    drop(ann);
    for text in ["two", "three"] {
        eve.ask(post("lobby", text)).await;
    }
    let last = one["cursor"].as_str().unwrap();
    let mut resumed = Channels::resumed(&server, "ann", Some(last)).await.known().await;
    resumed.join("lobby").await;
    let mut bob = Channels::socket(&server, "bob").await.known().await;
    let mut since = bob.command("join", "lobby", "");
    since["since"] = json!(last);
    let Carried::Socket(socket) = &mut bob.carried else { panic!("it is a socket") };
    socket.send(Message::text(since.to_string())).await.unwrap();
    for client in [&mut resumed, &mut bob] {
        for text in ["two", "three"] {
            assert_eq!(client.next_of("chan_out").await["data"], text);
        }
    }
    // Another channel is not where that was, and begins now; and so does the same one the next time.
    resumed.join("attic").await;
    resumed.join("lobby").await;
    eve.ask(post("lobby", "four")).await;
    assert_eq!(resumed.next_of("chan_out").await["data"], "four");
}

#[tokio::test]
async fn who_comes_by_another_device_is_told_to_the_first_one_too() {
    let server = TestServer::start();
    let mut phone = Channels::stream(&server, "ann").await.known().await;
    phone.join("lobby").await;
    let mut desk = Channels::socket(&server, "ann").await.known().await;
    desk.join("lobby").await;
    let joined = phone.next_of("joined").await;
    assert!(joined["data"] != phone.sid && joined["data"] != desk.sid && joined["channel"] == "lobby", "{joined}");
}

#[tokio::test]
async fn what_a_stranger_posts_is_short_and_what_anybody_posts_is_counted() {
    let rates = Rates {
        messages_per_session: Some(Rate { count: 1, per: Duration::from_secs(1), burst: 5 }),
        ..Setup::default().limits.rates
    };
    let limits = Limits { rates, ..Setup::default().limits };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let ann = Channels::stream(&server, "ann").await;
    let long = ann.command("join", &"x".repeat(5_000), "");
    assert_eq!(said(server.address, &server.token("ann"), "pk", &long).await.status, 413);
    let ann = &mut ann.known().await;
    let echo = ann.command("echo", "hello", "");
    let mut answers = Vec::new();
    for _ in 0..40 {
        answers.push(said(server.address, &server.token("ann"), "pk", &echo).await.status);
    }
    assert!(answers.contains(&200) && answers.last() == Some(&429), "{answers:?}");
}

#[tokio::test]
async fn who_does_not_answer_for_the_tenant_any_more_follows_no_collection_as_root() {
    let server = TestServer::start();
    let boss = owner(&server).await;
    let root = boss["token"].as_str().unwrap().to_owned();
    let mut first = Channels::socket(&server, "nobody").await;
    first.token = root.clone();
    let mut first = first.known().await;
    first.join("db-secrets_700_").await;
    let create = async |text: &str| {
        let mut http = Http::connect(server.address, &server.token("eve")).await.unwrap();
        let document = json!({ "text": text });
        let path = "/staticbackend/db/secrets_700_?sbpk=pk";
        assert_eq!(patiently(http.request("POST", path, Some(&document))).await.unwrap().status, 201);
    };
    create("seen").await;
    assert!(first.next_of("db_created").await["data"].as_str().unwrap().contains("seen"));
    let tenant = TenantId::default_tenant();
    let user = UserId::new(boss["user"].as_str().unwrap()).unwrap();
    let code = [7; 32];
    let local = tokio::task::LocalSet::new();
    let added = server.accounts.add(tenant.clone(), UserId::new("other").unwrap(), Rank::Owner, code);
    local.run_until(added).await.unwrap();
    let change = server.accounts.change(By::Operator, tenant, user, (Some(Rank::Member), None));
    local.run_until(first.listen_during(change)).await.unwrap();
    create("unseen").await;
    first.send("echo", "still here", "").await;
    first.next_of("echo").await;
    assert!(first.aside.iter().all(|it| it["type"] != "db_created"), "{:?}", first.aside);
    assert_eq!(first.next_of("error").await["data"], "you have been removed from a channel");
}

#[tokio::test]
async fn who_is_removed_hears_nothing_more() {
    let server = TestServer::start();
    let [mut ann, mut bob] = Channels::both(&server, "ann", "bob").await;
    let mut olga = server.client("olga").await;
    olga.ask(json!({"type": "create", "kind": "channel", "alias": "lobby"})).await;
    ann.join("lobby").await;
    bob.join("lobby").await;
    olga.ask(kick(&json!("lobby"), "ann")).await;
    bob.listen_during(olga.ask(kick(&json!("lobby"), "bob"))).await;
    let error = bob.next_of("error").await;
    assert_eq!(error["data"], "you have been removed from a channel");
    olga.ask(post("lobby", "among us")).await;
    // An event stream cannot show what it has read, so it is cut.
    let Carried::Stream(events) = &mut ann.carried else { panic!("it is a stream") };
    while let Some(event) = patiently(events.next()).await {
        assert_ne!(event.json()["data"], "among us");
    }
    bob.send("echo", "still here", "").await;
    assert_eq!(bob.next_of("echo").await["data"], "echo: still here");
    assert!(bob.aside.iter().all(|object| object["data"] != "among us"), "{:?}", bob.aside);
}

#[tokio::test]
async fn channels_of_two_tenants_do_not_meet_whatever_they_are_called() {
    let server = TestServer::start();
    let mut ann = Channels::socket(&server, "ann").await.known().await;
    ann.join("lobby").await;
    let mut elsewhere = Channels::socket(&server, "ann").await;
    elsewhere.token = server.token_in("elsewhere", "ann", Duration::from_secs(60));
    let mut elsewhere = elsewhere.known().await;
    elsewhere.join("lobby").await;
    elsewhere.send("chan_in", "secret", "lobby").await;
    elsewhere.next_of("chan_out").await;
    ann.send("echo", "nothing", "").await;
    assert_eq!(ann.next().await["data"], "echo: nothing");
    // The public key has said which tenant it is.
    let mut stream = Channels::stream(&server, "ann").await;
    stream.send("auth", &server.token_in("elsewhere", "ann", Duration::from_secs(60)), "").await;
    assert_eq!(stream.next().await["data"], "invalid token");
}

#[tokio::test]
async fn who_answers_for_the_tenant_publishes_by_a_request_and_nobody_else() {
    let server = TestServer::start();
    let root = owner(&server).await["token"].as_str().unwrap().to_owned();
    let mut ann = Channels::stream(&server, "ann").await.known().await;
    ann.join("news").await;
    let publish = async |token: &str, path: &str, body: Value| {
        let mut http = Http::connect(server.address, token).await.unwrap();
        let path = format!("/staticbackend/{path}?sbpk=pk");
        let answer = patiently(http.request("POST", &path, Some(&body))).await.unwrap();
        (answer.status, answer.body)
    };
    let said = |data: &str| json!({"channel": "news", "type": "chan_out", "data": data});
    for path in ["publish", "publish-message"] {
        assert_eq!(publish(&root, path, said(path)).await, (200, "true".to_owned()));
        assert_eq!(ann.next_of("chan_out").await["data"], path);
    }
    let refused = (401, "invalid StaticBackend root token".to_owned());
    assert_eq!(publish(&server.token("ann"), "publish", said("hello")).await, refused);
    let database = json!({"channel": "db-tasks", "data": "hello"});
    let refused = (400, "you cannot write to database channel".to_owned());
    assert_eq!(publish(&root, "publish", database).await, refused);
    let other = json!({"channel": "news", "type": "db_created", "data": "hello"});
    assert_eq!(publish(&root, "publish", other).await.0, 400);
}

#[tokio::test]
async fn names_of_channels_say_who_may_come_in_whatever_protocol_is_spoken() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let admissions = Admissions { closed: names(&["staff-*"]), read_only: names(&["news"]) };
    let channels = limits::Channels { others: Arc::new(admissions), ..limits::Channels::default() };
    let limits = Limits { channels, ..Setup::default().limits };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let mut ann = Channels::stream(&server, "ann").await.known().await;
    let mut olga = server.client("olga").await;
    olga.ask(create_channel("staff-1")).await;
    for channel in ["staff-1", "staff-2"] {
        for (kind, data, channel) in [("join", channel, ""), ("chan_in", "hello", channel)] {
            ann.send(kind, data, channel).await;
            let error = ann.next_of("error").await["data"].as_str().unwrap().to_owned();
            assert!(error.starts_with("forbidden"), "{error}");
        }
    }
    let mut eve = server.client("eve").await;
    assert_eq!(eve.refused(join("staff-1")).await, "forbidden");
    olga.ask(json!({"type": "invite", "room": "staff-1", "user": "ann", "role": "member"})).await;
    ann.join("staff-1").await;
    ann.join("news").await;
    ann.send("chan_in", "fake news", "news").await;
    assert!(ann.next_of("error").await["data"].as_str().unwrap().starts_with("forbidden"));
    eve.ask(join("news")).await;
    assert_eq!(eve.refused(post("news", "fake news")).await, "forbidden");
}
