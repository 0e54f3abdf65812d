//! Readers that change the transport every moment, always from where they are: over a WebSocket, by an event stream, by
//! waiting, by pages. Whatever happens to the server meanwhile, each reads everything once and in order.
//!
//! What they read is a [`Source`]: it says where it is found, and how its records continue one another.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::listeners::{Events, Http};
use super::random::Random;

/// What is read, on whichever transport.
#[derive(Clone)]
pub struct Source {
    /// Its address over HTTP.
    pub path: String,
    /// The command that follows it over a WebSocket, without its place.
    pub follow: Value,
}

impl Source {
    pub fn room(name: &str) -> Self {
        Self { path: format!("/v1/rooms/{name}/events"), follow: json!({"type": "follow", "room": name}) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Transport {
    WebSocket,
    Events,
    Waiting,
    Pages,
}

impl Transport {
    pub const ALL: [Self; 4] = [Self::WebSocket, Self::Events, Self::Waiting, Self::Pages];
}

/// A record as far as its place is concerned: room, seq and id. The same on every transport.
pub type Seen = (String, u64, String);

/// Somebody who reads.
pub struct Reader {
    source: Source,
    token: String,
    /// Where it begins: `start` or `now`; from the first answer on, a cursor.
    place: String,
    pub read: Vec<Seen>,
    /// How many records came by which transport.
    pub by: BTreeMap<Transport, usize>,
}

/// What is the matter with a connection. It is given up, and the next one goes on.
pub struct Gone;

impl Reader {
    pub fn new(source: Source, token: String, place: &str) -> Self {
        Self { source, token, place: place.to_owned(), read: Vec::new(), by: BTreeMap::new() }
    }

    /// Reads, by another transport every moment, until it has read the record at `last` of `room`.
    pub async fn run(
        mut self,
        mut address: watch::Receiver<SocketAddr>,
        mut random: Random,
        mut last: watch::Receiver<Option<(String, u64)>>,
    ) -> Self {
        loop {
            let done = last
                .borrow_and_update()
                .as_ref()
                .is_some_and(|(room, last)| self.read.iter().rev().any(|(other, seq, _)| other == room && seq >= last));
            if done {
                return self;
            }
            let transport = Transport::ALL[usize::try_from(random.below(4)).expect("small")];
            let (at, limit) = (*address.borrow_and_update(), 1 + random.below(100));
            let time = Duration::from_millis(50 + random.below(350));
            // Given up in the middle of whatever it does; what it has not noted it reads again.
            let left = tokio::time::timeout(time, self.read_by(transport, at, limit)).await;
            if matches!(left, Ok(Err(Gone))) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Opens a connection and reads for as long as it lasts.
    pub async fn read_by(&mut self, transport: Transport, at: SocketAddr, limit: u64) -> Result<(), Gone> {
        match transport {
            Transport::WebSocket => self.follow(at).await,
            Transport::Events => self.listen(at).await,
            Transport::Waiting => self.poll(transport, at, &format!("&wait=5s&limit={limit}")).await,
            Transport::Pages => self.poll(transport, at, &format!("&limit={limit}")).await,
        }
    }

    /// Opens a connection and leaves it as soon as it has said where it stands.
    pub async fn touch(&mut self, transport: Transport, at: SocketAddr) -> Result<(), Gone> {
        match transport {
            Transport::WebSocket => self.open_socket(at).await.map(drop),
            Transport::Events => self.open_events(at).await.map(drop),
            Transport::Waiting => self.ask(transport, at, "&wait=50ms").await,
            Transport::Pages => self.ask(transport, at, "").await,
        }
    }

    async fn follow(&mut self, at: SocketAddr) -> Result<(), Gone> {
        let mut socket = self.open_socket(at).await?;
        loop {
            let frame = next_frame(&mut socket).await?;
            match frame["type"].as_str() {
                Some("record") => self.note(Transport::WebSocket, &frame),
                Some("follow_failed") => return Err(Gone),
                _ => {}
            }
        }
    }

    async fn open_socket(&mut self, at: SocketAddr) -> Result<WebSocketStream<TcpStream>, Gone> {
        let mut socket = connect(at, &self.token).await?;
        let mut command = self.source.follow.clone();
        command["id"] = json!("follow");
        command["from"] = json!(self.place);
        socket.send(Message::text(command.to_string())).await.map_err(|_| Gone)?;
        loop {
            let frame = next_frame(&mut socket).await?;
            if frame["type"] == "reply" {
                self.stands(&frame["cursor"], frame["ok"] == true)?;
                return Ok(socket);
            }
        }
    }

    async fn listen(&mut self, at: SocketAddr) -> Result<(), Gone> {
        let mut events = self.open_events(at).await?;
        while let Some(event) = events.try_next().await {
            match &*event.name {
                "record" => {
                    let record = event.json();
                    assert_eq!(event.id.as_deref(), record["cursor"].as_str());
                    self.note(Transport::Events, &record);
                }
                "close" | "follow_failed" => {}
                _ => panic!("{event:?}"),
            }
        }
        Err(Gone)
    }

    async fn open_events(&mut self, at: SocketAddr) -> Result<Events, Gone> {
        let (path, last) = match &*self.place {
            place @ ("start" | "now") => (format!("{}?after={place}", self.source.path), None),
            cursor => (self.source.path.clone(), Some(cursor.to_owned())),
        };
        let opened = Events::try_open(at, &self.token, &path, last.as_deref()).await.map_err(|_| Gone)?;
        let Ok(mut events) = opened else { return Err(Gone) };
        let hello = events.try_next().await.ok_or(Gone)?;
        assert_eq!(hello.name, "hello");
        self.stands(&json!(hello.id), true)?;
        Ok(events)
    }

    async fn poll(&mut self, transport: Transport, at: SocketAddr, more: &str) -> Result<(), Gone> {
        let mut http = Http::connect(at, &self.token).await.map_err(|_| Gone)?;
        loop {
            self.ask_on(&mut http, transport, more).await?;
            if transport == Transport::Pages {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    async fn ask(&mut self, transport: Transport, at: SocketAddr, more: &str) -> Result<(), Gone> {
        let mut http = Http::connect(at, &self.token).await.map_err(|_| Gone)?;
        self.ask_on(&mut http, transport, more).await
    }

    async fn ask_on(&mut self, http: &mut Http, transport: Transport, more: &str) -> Result<(), Gone> {
        let path = format!("{}?after={}{more}", self.source.path, self.place);
        let answer = http.try_get(&path).await.map_err(|_| Gone)?;
        if answer.status != 200 {
            assert!(matches!(answer.status, 429 | 503), "{answer:?}");
            return Err(Gone);
        }
        let page = answer.json();
        for record in page["records"].as_array().expect("a page has records") {
            self.note(transport, record);
        }
        self.stands(&page["cursor"], true)
    }

    fn stands(&mut self, cursor: &Value, ok: bool) -> Result<(), Gone> {
        if !ok {
            return Err(Gone);
        }
        cursor.as_str().expect("an answer says where it stands").clone_into(&mut self.place);
        Ok(())
    }

    /// A record has been dealt with: from here on it is never asked for again.
    fn note(&mut self, transport: Transport, record: &Value) {
        let seen = seen(record);
        let before = self.read.iter().rev().find(|(room, ..)| *room == seen.0);
        if let Some((_, before, _)) = before {
            assert_eq!(seen.1, before + 1, "by {transport:?}, after {:?}", self.by);
        }
        self.read.push(seen);
        *self.by.entry(transport).or_default() += 1;
        record["cursor"].as_str().expect("a record has a cursor").clone_into(&mut self.place);
    }
}

/// Posts to a room one message after the other until it is told to stop, and says which it was promised. What was not
/// acknowledged is sent again under the same client id.
pub async fn publish(
    room: &str,
    name: &str,
    token: &str,
    mut address: watch::Receiver<SocketAddr>,
    promised: Arc<Mutex<Vec<Seen>>>,
    stop: watch::Receiver<bool>,
) {
    let mut number = 0;
    while !*stop.borrow() {
        let at = *address.borrow_and_update();
        let _ = post_on(room, name, token, at, &promised, &stop, &mut number).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn post_on(
    room: &str,
    name: &str,
    token: &str,
    at: SocketAddr,
    promised: &Mutex<Vec<Seen>>,
    stop: &watch::Receiver<bool>,
    number: &mut u64,
) -> Result<(), Gone> {
    let mut socket = connect(at, token).await?;
    while !*stop.borrow() {
        let content = json!({"text": format!("{name} {number}")});
        let client_id = format!("{name}-{number}");
        let post = json!({"id": "p", "type": "post", "room": room, "content": content, "client_id": client_id});
        let reply = ask(&mut socket, &post).await?;
        if reply["ok"] != true {
            return Err(Gone);
        }
        let text = |member: &str| reply[member].as_str().expect("a receipt is whole").to_owned();
        let receipt = (text("room"), reply["seq"].as_u64().expect("a receipt has a seq"), text("record"));
        promised.lock().expect("nobody panics with it").push(receipt);
        *number += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// Sends a command and waits for its reply.
pub async fn ask(socket: &mut WebSocketStream<TcpStream>, command: &Value) -> Result<Value, Gone> {
    socket.send(Message::text(command.to_string())).await.map_err(|_| Gone)?;
    loop {
        let frame = next_frame(socket).await?;
        if frame["type"] == "reply" && frame["id"] == command["id"] {
            return Ok(frame);
        }
    }
}

pub async fn connect(at: SocketAddr, token: &str) -> Result<WebSocketStream<TcpStream>, Gone> {
    let mut request = format!("ws://{at}/v1/ws").into_client_request().expect("an address is one");
    request.headers_mut().insert("Authorization", format!("Bearer {token}").parse().expect("a token is text"));
    let stream = TcpStream::connect(at).await.map_err(|_| Gone)?;
    tokio_tungstenite::client_async(request, stream).await.map(|(socket, _)| socket).map_err(|_| Gone)
}

async fn next_frame(socket: &mut WebSocketStream<TcpStream>) -> Result<Value, Gone> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).expect("frames are JSON")),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Gone),
        }
    }
}

/// All records of a room, by pages.
pub async fn log(at: SocketAddr, token: &str, room: &str) -> Vec<Seen> {
    let mut http = Http::connect(at, token).await.expect("the server listens");
    let (mut log, mut after) = (Vec::new(), "start".to_owned());
    loop {
        let page = http.get(&format!("/v1/rooms/{room}/events?limit=100&after={after}")).await.ok();
        log.extend(page["records"].as_array().expect("a page has records").iter().map(seen));
        if page["complete"] == true {
            return log;
        }
        page["cursor"].as_str().expect("a page has a cursor").clone_into(&mut after);
    }
}

fn seen(record: &Value) -> Seen {
    let text = |member: &str| record[member].as_str().expect("a record is whole").to_owned();
    (text("room"), record["seq"].as_u64().expect("a record has a seq"), text("id"))
}

/// A crowd of readers and publishers in one room while `trouble` befalls the server. `up` says where it is now.
pub async fn crowd(
    room: &str,
    tokens: &[String],
    up: &watch::Sender<SocketAddr>,
    random: &mut Random,
    trouble: impl Future<Output = ()>,
) {
    let (stop, stopped) = watch::channel(false);
    let (last, until) = watch::channel(None);
    let promised = Arc::new(Mutex::new(Vec::new()));
    let mut readers = tokio::task::JoinSet::new();
    for (n, token) in tokens.iter().enumerate() {
        let place = if n % 2 == 0 { "start" } else { "now" };
        let reader = Reader::new(Source::room(room), token.clone(), place);
        readers.spawn(reader.run(up.subscribe(), random.fork(), until.clone()));
    }
    let mut publishers = tokio::task::JoinSet::new();
    for (n, token) in tokens.iter().take(2).enumerate() {
        let (room, token, promised) = (room.to_owned(), token.clone(), Arc::clone(&promised));
        let (address, stopped) = (up.subscribe(), stopped.clone());
        publishers.spawn(async move {
            publish(&room, &format!("publisher-{n}"), &token, address, promised, stopped).await;
        });
    }
    trouble.await;
    stop.send_replace(true);
    while let Some(published) = publishers.join_next().await {
        published.expect("a publisher does not panic");
    }

    let log = log(*up.borrow(), &tokens[0], room).await;
    let (id, head, _) = log.last().expect("something was published").clone();
    last.send_replace(Some((id, head)));
    let promised = promised.lock().expect("nobody panics with it").clone();
    assert!(promised.len() > 50, "only {} were published", promised.len());
    assert!(promised.iter().all(|receipt| log.contains(receipt)), "something that was promised is gone");
    let mut by = BTreeMap::new();
    let finished = tokio::time::timeout(Duration::from_secs(20), async {
        while let Some(reader) = readers.join_next().await {
            let reader = reader.expect("a reader finds nothing wrong");
            // Who began now has everything from the first one on; a gap would have been found on the way.
            let from = reader.read.first().expect("it has read something").1;
            assert_eq!(reader.read, log[usize::try_from(from - 1).expect("small")..]);
            for (transport, count) in reader.by {
                *by.entry(transport).or_insert(0) += count;
            }
        }
    });
    finished.await.expect("readers come to the end");
    println!("switching: published={} read={by:?}", promised.len());
    assert_eq!(by.len(), Transport::ALL.len(), "a transport was not used: {by:?}");
}
