//! Readers that change the transport every moment, always from where they are: over a WebSocket, by an event stream, by
//! waiting, by pages. Whatever happens to the server meanwhile, each reads everything once and in order.
//!
//! What they read is a [`Source`]: it says where it is found, and where its records tell how to go on behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::listeners::{Events, Http};
use super::random::Random;

/// How long readers may take to come to the end when nothing happens any more.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is read, on whichever transport.
#[derive(Clone)]
pub enum Source {
    /// One room, by its alias.
    Room(String),
    /// All rooms of the reader, under one cursor.
    World,
}

impl Source {
    /// Its address over HTTP.
    fn path(&self) -> String {
        match self {
            Self::Room(name) => format!("/v1/rooms/{name}/events"),
            Self::World => "/v1/events".to_owned(),
        }
    }

    /// The command that follows it over a WebSocket.
    fn follow(&self, from: &str) -> Value {
        match self {
            Self::Room(name) => json!({"id": "follow", "type": "follow", "room": name, "from": from}),
            Self::World => json!({"id": "follow", "type": "follow_all", "from": from}),
        }
    }

    /// Where to go on behind a record; `None` where only its page says that. `id` is that of its event.
    fn behind<'a>(&self, transport: Transport, id: Option<&'a str>, record: &'a Value) -> Option<&'a str> {
        let cursor = record["cursor"].as_str().expect("a record has a cursor");
        match (self, transport) {
            (Self::Room(_), Transport::Events) => {
                assert_eq!(id, Some(cursor));
                Some(cursor)
            }
            (Self::Room(_), Transport::WebSocket | Transport::Waiting | Transport::Pages) => Some(cursor),
            (Self::World, Transport::WebSocket) => {
                Some(record["world"].as_str().expect("a record tells its place in the world"))
            }
            (Self::World, Transport::Events) => Some(id.expect("an event tells its record's place in the world")),
            (Self::World, Transport::Waiting | Transport::Pages) => None,
        }
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
    user: String,
    token: String,
    /// Where it begins: `start` or `now`; from the first answer on, a cursor.
    place: String,
    /// Between which seqs of each room it began. Where none is named, it was at the start.
    began: BTreeMap<String, (u64, u64)>,
    /// Of each room, in the order in which it came.
    read: BTreeMap<String, Vec<Seen>>,
    /// The rooms of which something was passed over, and the last seq of that.
    gaps: Vec<(String, u64)>,
    /// How many records came by which transport.
    by: BTreeMap<Transport, usize>,
}

/// What is the matter with a connection. It is given up, and the next one goes on.
pub struct Gone;

impl Reader {
    fn new(source: &Source, (user, token): &(String, String), place: &str) -> Self {
        Self {
            source: source.clone(),
            user: user.clone(),
            token: token.clone(),
            place: place.to_owned(),
            began: BTreeMap::new(),
            read: BTreeMap::new(),
            gaps: Vec::new(),
            by: BTreeMap::new(),
        }
    }

    /// Takes its place, by some transport, and learns how far each room had come before and after that.
    async fn begin(&mut self, rooms: &[String], address: &mut watch::Receiver<SocketAddr>, transport: Transport) {
        let mut before = None;
        loop {
            let at = *address.borrow_and_update();
            if let Ok(Ok(())) = tokio::time::timeout(PATIENCE, self.try_begin(rooms, at, transport, &mut before)).await
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn try_begin(
        &mut self,
        rooms: &[String],
        at: SocketAddr,
        transport: Transport,
        before: &mut Option<BTreeMap<String, u64>>,
    ) -> Result<(), Gone> {
        if self.place == "now" {
            *before = Some(heads(at, &self.token, rooms).await?);
            self.touch(transport, at).await?;
        }
        let after = heads(at, &self.token, rooms).await?;
        let before = before.as_ref().expect("it began now");
        self.began = after.into_iter().map(|(room, after)| (room.clone(), (before[&room], after))).collect();
        Ok(())
    }

    /// Reads, by another transport every moment, until it has read the `last` record of each room.
    async fn run(
        mut self,
        mut address: watch::Receiver<SocketAddr>,
        mut random: Random,
        mut last: watch::Receiver<Option<BTreeMap<String, u64>>>,
    ) -> Self {
        while !last.borrow_and_update().as_ref().is_some_and(|last| self.has(last)) {
            let transport = Transport::ALL[usize::try_from(random.below(4)).expect("small")];
            let (at, limit) = (*address.borrow_and_update(), 1 + random.below(100));
            // Now and then long enough for a world to come to a pass while it is read.
            let most = if random.percent(10) { 2_000 } else { 350 };
            let time = Duration::from_millis(50 + random.below(most));
            // Given up in the middle of whatever it does; what it has not noted it reads again.
            let left = tokio::time::timeout(time, self.read_by(transport, at, limit)).await;
            if matches!(left, Ok(Err(Gone))) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        // Behind the end there is nothing, on no transport.
        for transport in Transport::ALL {
            let at = *address.borrow();
            let _ = tokio::time::timeout(Duration::from_millis(100), self.read_by(transport, at, 100)).await;
        }
        self
    }

    fn has(&self, last: &BTreeMap<String, u64>) -> bool {
        let read = |room| self.read.get(room).and_then(|read| read.last()).map_or(0, |(_, seq, _)| *seq);
        last.iter().all(|(room, last)| read(room) >= *last)
    }

    /// Opens a connection and reads for as long as it lasts.
    async fn read_by(&mut self, transport: Transport, at: SocketAddr, limit: u64) -> Result<(), Gone> {
        match transport {
            Transport::WebSocket => self.follow(at).await,
            Transport::Events => self.listen(at).await,
            Transport::Waiting => self.poll(transport, at, &format!("&wait=5s&limit={limit}")).await,
            Transport::Pages => self.poll(transport, at, &format!("&limit={limit}")).await,
        }
    }

    /// Opens a connection and leaves it as soon as it has said where it stands.
    async fn touch(&mut self, transport: Transport, at: SocketAddr) -> Result<(), Gone> {
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
                Some("record") => self.note(Transport::WebSocket, None, &frame),
                Some("follow_failed") => return Err(Gone),
                _ => self.heed(&frame),
            }
        }
    }

    async fn open_socket(&mut self, at: SocketAddr) -> Result<WebSocketStream<TcpStream>, Gone> {
        let mut socket = connect(at, &self.token).await?;
        let command = self.source.follow(&self.place);
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
                "record" => self.note(Transport::Events, event.id.as_deref(), &event.json()),
                "close" | "follow_failed" => {}
                "gap" | "room_gained" => self.heed(&event.json()),
                _ => panic!("{event:?}"),
            }
        }
        Err(Gone)
    }

    async fn open_events(&mut self, at: SocketAddr) -> Result<Events, Gone> {
        let (path, last) = match &*self.place {
            place @ ("start" | "now") => (format!("{}?after={place}", self.source.path()), None),
            cursor => (self.source.path(), Some(cursor.to_owned())),
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
        let path = format!("{}?after={}{more}", self.source.path(), self.place);
        let answer = http.try_get(&path).await.map_err(|_| Gone)?;
        if answer.status != 200 {
            assert!(matches!(answer.status, 429 | 503), "{answer:?}");
            return Err(Gone);
        }
        let page = answer.json();
        for notice in page["notices"].as_array().into_iter().flatten() {
            self.heed(notice);
        }
        for record in page["records"].as_array().expect("a page has records") {
            self.note(transport, None, record);
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
    fn note(&mut self, transport: Transport, id: Option<&str>, record: &Value) {
        let seen = seen(record);
        let room = self.read.entry(seen.0.clone()).or_default();
        if let Some((_, before, _)) = room.last() {
            assert_eq!(seen.1, before + 1, "by {transport:?}, after {:?}", self.by);
        }
        room.push(seen);
        *self.by.entry(transport).or_default() += 1;
        if let Some(place) = self.source.behind(transport, id, record) {
            place.clone_into(&mut self.place);
        }
    }

    fn heed(&mut self, notice: &Value) {
        if notice["type"] == "gap" {
            let room = notice["room"].as_str().expect("a gap is in a room").to_owned();
            self.gaps.push((room, notice["to"].as_u64().expect("a gap has an end")));
        }
    }

    /// Everything from where it began, once and in order: of each room, the end of its log.
    fn check(&self, logs: &Logs) {
        for (room, log) in &logs.records {
            let Some((_, first, _)) = self.read.get(room).and_then(|read| read.first()) else {
                panic!("{}: nothing of {room}", self.user);
            };
            // A room begins with the membership where it is followed with all others.
            let joined = match self.source {
                Source::Room(_) => 1,
                Source::World => logs.joined[&(room.clone(), self.user.clone())],
            };
            let (before, after) = self.began.get(room).copied().unwrap_or_default();
            let begins = joined.max(before + 1)..=joined.max(after + 1);
            assert!(begins.contains(first), "{}: {room} from {first} and not from {begins:?}", self.user);
            assert_eq!(self.read[room], log[usize::try_from(first - 1).expect("small")..], "{}", self.user);
            let passed_over = self.gaps.iter().filter(|(other, _)| other == room);
            assert!(passed_over.clone().all(|(_, to)| to + 1 == joined), "{}: {:?}", self.user, self.gaps);
        }
        assert_eq!(self.read.len(), logs.records.len(), "{} has read of other rooms", self.user);
    }
}

/// What was said in each room, by its id, and by which seq each user came in.
struct Logs {
    records: BTreeMap<String, Vec<Seen>>,
    joined: BTreeMap<(String, String), u64>,
}

impl Logs {
    async fn read(at: SocketAddr, token: &str, rooms: &[String]) -> Self {
        let (mut records, mut joined) = (BTreeMap::new(), BTreeMap::new());
        for name in rooms {
            let log = log(at, token, name).await;
            let (room, ..) = log.first().expect("a room has a first record").clone();
            let members = asked(at, token, &json!({"id": "1", "type": "members", "room": name})).await;
            for member in members["members"].as_array().expect("a room has members") {
                let of = log.iter().find(|(.., id)| member["joined"] == **id).expect("a membership begins in the log");
                joined.insert((room.clone(), member["user"].as_str().expect("a member has an id").to_owned()), of.1);
            }
            records.insert(room, log);
        }
        Self { records, joined }
    }

    fn heads(&self) -> BTreeMap<String, u64> {
        self.records.iter().map(|(room, log)| (room.clone(), log.last().map_or(0, |(_, seq, _)| *seq))).collect()
    }
}

/// Readers and publishers of one source.
pub struct Crowd {
    source: Source,
    rooms: Vec<String>,
    /// Their user ids and tokens.
    people: Vec<(String, String)>,
    /// How many of the people publish beside reading.
    publishers: usize,
    /// How many of the rooms the others join only in the middle.
    late: usize,
}

impl Crowd {
    pub fn of_room(people: Vec<(String, String)>) -> Self {
        Self {
            source: Source::Room("lobby".to_owned()),
            rooms: vec!["lobby".to_owned()],
            people,
            publishers: 2,
            late: 0,
        }
    }

    pub fn of_world(rooms: usize, people: Vec<(String, String)>) -> Self {
        let rooms: Vec<_> = (0..rooms).map(|n| format!("room-{n}")).collect();
        Self { source: Source::World, rooms, people, publishers: 3, late: 3 }
    }

    /// The rooms that are there from the beginning for whoever has this number.
    fn rooms_of(&self, person: usize) -> &[String] {
        if person < self.publishers { &self.rooms } else { &self.rooms[self.late..] }
    }

    async fn furnish(&self, at: SocketAddr) {
        for (n, (_, token)) in self.people.iter().enumerate() {
            for room in self.rooms_of(n) {
                asked(at, token, &if n == 0 { create(room) } else { join(room) }).await;
            }
        }
    }

    /// All of them read while some publish and `trouble` befalls the server. `up` says where it is now.
    pub async fn switch(&self, up: &watch::Sender<SocketAddr>, random: &mut Random, trouble: impl Future<Output = ()>) {
        self.furnish(*up.borrow()).await;
        let (stop, stopped) = watch::channel(false);
        let (last, until) = watch::channel(None);
        let promised = Arc::new(Mutex::new(Vec::new()));
        let (begun, mut beginning) = mpsc::channel::<()>(1);
        let mut readers = JoinSet::new();
        for (n, person) in self.people.iter().enumerate() {
            // By turns: from the start, from now when nothing has happened yet, and from now in the middle.
            let mut reader = Reader::new(&self.source, person, if n % 3 == 0 { "start" } else { "now" });
            let (rooms, mut address, mut random) = (self.rooms.clone(), up.subscribe(), random.fork());
            let transport = Transport::ALL[usize::try_from(random.below(4)).expect("small")];
            if n % 3 == 1 {
                reader.begin(&rooms, &mut address, transport).await;
            }
            let (until, begun) = (until.clone(), begun.clone());
            readers.spawn(async move {
                if n % 3 == 2 {
                    tokio::time::sleep(Duration::from_millis(random.below(2_000))).await;
                    reader.begin(&rooms, &mut address, transport).await;
                }
                drop(begun);
                reader.run(address, random, until).await
            });
        }
        drop(begun);
        let mut others = JoinSet::new();
        for (n, (_, token)) in self.people.iter().enumerate() {
            let (token, address, mut random) = (token.clone(), up.subscribe(), random.fork());
            if n < self.publishers {
                let (rooms, promised, stopped) = (self.rooms.clone(), Arc::clone(&promised), stopped.clone());
                others.spawn(async move { publish(&rooms, n, &token, address, promised, stopped).await });
            } else {
                let rooms = self.rooms[..self.late].to_vec();
                others.spawn(async move { join_later(&rooms, &token, address, &mut random).await });
            }
        }
        trouble.await;
        stop.send_replace(true);
        let over = tokio::time::timeout(PATIENCE, async {
            while let Some(over) = others.join_next().await {
                over.expect("nobody who publishes or joins panics");
            }
            beginning.recv().await;
        });
        over.await.expect("everybody joins and begins");
        let (at, (_, token)) = (*up.borrow(), &self.people[0]);
        for room in &self.rooms {
            asked(at, token, &post(room, "the last word")).await;
        }

        let logs = Logs::read(at, token, &self.rooms).await;
        last.send_replace(Some(logs.heads()));
        let promised = promised.lock().expect("nobody panics with it").clone();
        assert!(promised.len() > 50, "only {} were published", promised.len());
        let all: BTreeSet<_> = logs.records.values().flatten().collect();
        assert!(promised.iter().all(|receipt| all.contains(receipt)), "something that was promised is gone");
        let mut by = BTreeMap::new();
        let finished = tokio::time::timeout(PATIENCE, async {
            while let Some(reader) = readers.join_next().await {
                let reader = reader.expect("a reader finds nothing wrong");
                reader.check(&logs);
                for (transport, count) in reader.by {
                    *by.entry(transport).or_insert(0) += count;
                }
            }
        });
        finished.await.expect("readers come to the end");
        println!("switching: rooms={} published={} read={by:?}", self.rooms.len(), promised.len());
        assert_eq!(by.len(), Transport::ALL.len(), "a transport was not used: {by:?}");
    }

    /// Readers that are told where they stand by one transport, and read nothing more before `restart` is over and
    /// they go on by another: every pair of transports, from the start and from now.
    pub async fn sleep(&self, up: &watch::Sender<SocketAddr>, restart: impl Future<Output = ()>) {
        self.furnish(*up.borrow()).await;
        let (at, person) = (*up.borrow(), &self.people[0]);
        let everywhere = async |at, text| {
            for room in &self.rooms {
                asked(at, &person.1, &post(room, text)).await;
            }
        };
        everywhere(at, "before").await;
        let mut readers = Vec::new();
        for (before, behind) in Transport::ALL.iter().flat_map(|a| Transport::ALL.map(|b| (*a, b))) {
            let mut from_now = Reader::new(&self.source, person, "now");
            from_now.begin(&self.rooms, &mut up.subscribe(), before).await;
            assert!(from_now.read.is_empty(), "{before:?}");
            let mut from_start = Reader::new(&self.source, person, "start");
            assert!(from_start.touch(before, at).await.is_ok(), "{before:?}");
            readers.extend([(from_now, behind), (from_start, behind)]);
        }
        everywhere(at, "missed").await;
        restart.await;
        let at = *up.borrow();
        everywhere(at, "after").await;
        let logs = Logs::read(at, &person.1, &self.rooms).await;
        let last = logs.heads();
        let reading = readers.into_iter().map(async |(mut reader, behind)| {
            while !reader.has(&last) {
                let _ = tokio::time::timeout(Duration::from_millis(500), reader.read_by(behind, at, 1)).await;
            }
            reader.check(&logs);
        });
        tokio::time::timeout(PATIENCE, join_all(reading)).await.expect("readers come to the end");
    }
}

/// Posts one message after the other, to one room after the other, until it is told to stop, and says which it was
/// promised. What was not acknowledged is sent again under the same client id.
async fn publish(
    rooms: &[String],
    publisher: usize,
    token: &str,
    mut address: watch::Receiver<SocketAddr>,
    promised: Arc<Mutex<Vec<Seen>>>,
    stop: watch::Receiver<bool>,
) {
    let mut number = 0;
    while !*stop.borrow() {
        let at = *address.borrow_and_update();
        let _ = post_on(rooms, publisher, token, at, &promised, &stop, &mut number).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn post_on(
    rooms: &[String],
    publisher: usize,
    token: &str,
    at: SocketAddr,
    promised: &Mutex<Vec<Seen>>,
    stop: &watch::Receiver<bool>,
    number: &mut usize,
) -> Result<(), Gone> {
    let mut socket = connect(at, token).await?;
    while !*stop.borrow() {
        // Each goes through the rooms by a way of its own.
        let mut command = post(&rooms[(*number * (2 * publisher + 1) + publisher) % rooms.len()], "a word");
        command["client_id"] = json!(format!("{publisher}-{number}"));
        let reply = ask(&mut socket, &command).await?;
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

/// Joins one room after the other, with pauses.
async fn join_later(rooms: &[String], token: &str, mut address: watch::Receiver<SocketAddr>, random: &mut Random) {
    for room in rooms {
        tokio::time::sleep(Duration::from_millis(random.below(1_500))).await;
        loop {
            let at = *address.borrow_and_update();
            // Whoever does not know whether it is in asks again.
            match try_ask(at, token, &join(room)).await {
                Ok(reply) if reply["ok"] == true || reply["error"]["code"] == "already_member" => break,
                Ok(_) | Err(Gone) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

fn create(room: &str) -> Value {
    json!({"id": "1", "type": "create", "kind": "channel", "alias": room})
}

fn join(room: &str) -> Value {
    json!({"id": "1", "type": "join", "room": room})
}

fn post(room: &str, text: &str) -> Value {
    json!({"id": "1", "type": "post", "room": room, "content": {"text": text}})
}

/// How far each room has come, by its id; 0 where whoever asks is no member.
async fn heads(at: SocketAddr, token: &str, rooms: &[String]) -> Result<BTreeMap<String, u64>, Gone> {
    let mut socket = connect(at, token).await?;
    let mut heads = BTreeMap::new();
    for room in rooms {
        let reply = ask(&mut socket, &json!({"id": "1", "type": "room", "room": room})).await?;
        if reply["ok"] != true {
            return Err(Gone);
        }
        let room = reply["room"].as_str().expect("a room has an id").to_owned();
        heads.insert(room, reply["head"].as_u64().unwrap_or(0));
    }
    Ok(heads)
}

/// The reply to a command that nothing stands in the way of.
async fn asked(at: SocketAddr, token: &str, command: &Value) -> Value {
    let Ok(reply) = try_ask(at, token, command).await else { panic!("the server answers {command}") };
    assert_eq!(reply["ok"], true, "{command}: {reply}");
    reply
}

async fn try_ask(at: SocketAddr, token: &str, command: &Value) -> Result<Value, Gone> {
    let mut socket = connect(at, token).await?;
    ask(&mut socket, command).await
}

/// Sends a command and waits for its reply.
async fn ask(socket: &mut WebSocketStream<TcpStream>, command: &Value) -> Result<Value, Gone> {
    socket.send(Message::text(command.to_string())).await.map_err(|_| Gone)?;
    loop {
        let frame = next_frame(socket).await?;
        if frame["type"] == "reply" && frame["id"] == command["id"] {
            return Ok(frame);
        }
    }
}

async fn connect(at: SocketAddr, token: &str) -> Result<WebSocketStream<TcpStream>, Gone> {
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
async fn log(at: SocketAddr, token: &str, room: &str) -> Vec<Seen> {
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
