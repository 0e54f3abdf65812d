//! One device of somebody: a connection that comes back with its cursors, and writes down what it is shown.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::plan::{self, Follows, Transport};
use super::recount::{number, text};
use super::rest;
use super::stage::{Stage, Tally};
use super::view::{Begun, Stretch, View};
use crate::support::listeners::{Events, Http};

/// Before a connection is tried again.
const PAUSE: Duration = Duration::from_millis(25);

/// Longer than any answer may take; then the connection is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many of a room's latest messages a person knows.
const KNOWN_MAX: usize = 24;

/// What came of a command.
#[derive(Debug)]
pub enum Answer {
    Done(Value),
    Refused {
        code: String,
        after: Option<u64>,
    },
    /// The connection has ended, or there is none: nobody knows.
    Gone,
}

/// What a person asks of a device.
pub enum Order {
    On,
    Off,
    /// Drop the connection and come back.
    Break,
    Ask(Value, oneshot::Sender<Answer>),
    Presence(&'static str),
}

/// What somebody knows of the rooms, from all own devices.
#[derive(Default)]
pub struct Known {
    pub rooms: HashMap<String, KnownRoom>,
}

#[derive(Default)]
pub struct KnownRoom {
    pub head: u64,
    /// The latest messages and their authors.
    pub messages: VecDeque<(String, String)>,
    pub members: BTreeSet<String>,
}

/// A device as its person has it.
pub struct Handle {
    pub orders: mpsc::UnboundedSender<Order>,
    pub view: Arc<Mutex<View>>,
    pub socket: bool,
}

impl Handle {
    pub fn new(stage: &Arc<Stage>, user: &str, plan: plan::Device, known: &Arc<Mutex<Known>>) -> Self {
        let (orders, taken) = mpsc::unbounded_channel();
        let world = plan.follows == Follows::World;
        let view = Arc::new(Mutex::new(View { world, presence: plan.presence, ..View::default() }));
        let socket = matches!(plan.transport, Transport::Json | Transport::MessagePack);
        let device = Device {
            token: stage.token(user),
            orders: taken,
            view: Arc::clone(&view),
            known: Arc::clone(known),
            stage: Arc::clone(stage),
            has_been_on: false,
            place: None,
            before: None,
            cursors: HashMap::new(),
            plan,
        };
        tokio::spawn(device.live());
        Self { orders, view, socket }
    }

    pub fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    pub async fn ask(&self, command: Value) -> Answer {
        let (to, answer) = oneshot::channel();
        self.order(Order::Ask(command, to));
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Answer::Gone,
        }
    }
}

struct Device {
    stage: Arc<Stage>,
    token: String,
    plan: plan::Device,
    orders: mpsc::UnboundedReceiver<Order>,
    view: Arc<Mutex<View>>,
    known: Arc<Mutex<Known>>,
    has_been_on: bool,
    /// The cursor of the world.
    place: Option<String>,
    /// Where the rooms ended before the world was opened for the first time, until it is known where they ended after.
    before: Option<BTreeMap<String, u64>>,
    /// By room: the cursor of the last record, and its seq.
    cursors: HashMap<String, (String, u64)>,
}

/// Why a connection is not there any more.
enum Left {
    Off,
    Broken,
    Over,
}

struct Gone;

fn gone<E>(_: E) -> Gone {
    Gone
}

impl Device {
    async fn live(mut self) {
        let mut on = false;
        loop {
            if !on {
                match self.orders.recv().await {
                    Some(Order::On) => on = true,
                    Some(Order::Ask(_, to)) => drop(to.send(Answer::Gone)),
                    Some(Order::Presence(word)) => self.view().presence = Some(word),
                    Some(Order::Off | Order::Break) => {}
                    None => return,
                }
                continue;
            }
            let left = match self.plan.transport {
                Transport::Json | Transport::MessagePack => self.converse().await,
                Transport::Events | Transport::Polls => self.read().await,
            };
            match left {
                Ok(Left::Over) => return,
                Ok(Left::Off) => on = false,
                Ok(Left::Broken) | Err(Gone) => tokio::time::sleep(PAUSE).await,
            }
            self.view().on = false;
        }
    }

    /// A connection is there, perhaps again.
    fn connected(&mut self) {
        let was = std::mem::replace(&mut self.view().on, true);
        if !was {
            let again = std::mem::replace(&mut self.has_been_on, true);
            self.stage.tally.reconnects.fetch_add(u64::from(again), Ordering::Relaxed);
        }
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().expect("nobody panics holding this")
    }

    /// Where all rooms of the user end now.
    async fn heads(&self) -> Result<BTreeMap<String, u64>, Gone> {
        let mut http = Http::connect(self.stage.address(), &self.token).await.map_err(gone)?;
        let mut heads = BTreeMap::new();
        // One that is brought back meanwhile is in the last.
        for archived in [false, true, false] {
            let command = json!({ "type": "inbox", "archived": archived });
            let Answer::Done(list) = rest::ask(&mut http, &command).await else { return Err(Gone) };
            for room in list["rooms"].as_array().into_iter().flatten() {
                heads.insert(text(room, "room").to_owned(), number(room, "head"));
            }
        }
        Ok(heads)
    }

    /// Before the world is opened.
    async fn about_to_open(&mut self) -> Result<String, Gone> {
        if let Some(place) = &self.place {
            return Ok(place.clone());
        }
        if self.plan.from == "now" {
            self.before = Some(self.heads().await?);
        }
        Ok(self.plan.from.to_owned())
    }

    /// After that: from here on there is a place to come back to.
    async fn opened(&mut self, place: String) -> Result<(), Gone> {
        self.place = Some(place);
        if self.before.is_some() {
            let after = self.heads().await?;
            let before = self.before.take().expect("it is there");
            // Of a room that was left meanwhile it is not known.
            let left = before.keys().filter(|room| !after.contains_key(*room)).map(|room| (room.clone(), u64::MAX));
            let ends: Vec<_> = left.chain(after.iter().map(|(room, after)| (room.clone(), *after))).collect();
            let mut view = self.view();
            for (room, after) in ends {
                let before = before.get(&room).copied().unwrap_or(0);
                let stretches = view.rooms.entry(room).or_default();
                if stretches.is_empty() {
                    stretches.push(Stretch { begun: Begun::Between(0, 0), head: None, shown: Vec::new() });
                }
                stretches[0].begun = Begun::Between(before, after);
            }
        }
        Ok(())
    }

    /// One WebSocket, from its handshake to its end.
    async fn converse(&mut self) -> Result<Left, Gone> {
        let opening = tokio::time::timeout(PATIENCE, self.connect());
        let mut socket = opening.await.map_err(gone)??;
        let mut asked: HashMap<String, oneshot::Sender<Answer>> = HashMap::new();
        let mut sent: HashMap<String, Option<(String, u64)>> = HashMap::new();
        let mut number_of = 0_u64;
        if self.plan.follows == Follows::World {
            let from = self.about_to_open().await?;
            socket.say(&json!({ "id": "world", "type": "follow_all", "from": from })).await?;
        }
        for room in self.wanted() {
            self.follow(&mut socket, &mut sent, &room).await?;
        }
        let presence = self.view().presence;
        if let Some(presence) = presence {
            socket.say(&json!({ "id": "presence", "type": "presence", "presence": presence })).await?;
        }
        self.connected();
        loop {
            tokio::select! {
                order = self.orders.recv() => match order {
                    None => return Ok(Left::Over),
                    Some(Order::Off) => return Ok(Left::Off),
                    Some(Order::Break) => return Ok(Left::Broken),
                    Some(Order::On) => {}
                    Some(Order::Presence(word)) => {
                        self.view().presence = Some(word);
                        socket.say(&json!({ "id": "presence", "type": "presence", "presence": word })).await?;
                    }
                    Some(Order::Ask(mut command, to)) => {
                        number_of += 1;
                        let id = format!("ask-{number_of}");
                        command["id"] = json!(id);
                        asked.insert(id, to);
                        socket.say(&command).await?;
                    }
                },
                frame = socket.hear() => {
                    let frame = frame?;
                    match text(&frame, "type") {
                        "record" => self.note(frame, None),
                        "reply" => {
                            let id = text(&frame, "id").to_owned();
                            if let Some(to) = asked.remove(&id) {
                                let _ = to.send(answer(frame));
                            } else {
                                self.replied(&id, &frame, &mut sent).await?;
                            }
                        }
                        "removed" => {
                            Tally::add(&self.stage.tally.removals);
                            let room = text(&frame, "room").to_owned();
                            if self.wanted().contains(&room) {
                                self.follow(&mut socket, &mut sent, &room).await?;
                            }
                        }
                        "room_gained" => {
                            let room = text(&frame, "room").to_owned();
                            if frame["standing"] == "member" && self.wanted().contains(&room) {
                                self.follow(&mut socket, &mut sent, &room).await?;
                            }
                        }
                        "follow_failed" => return Ok(Left::Broken),
                        "gap" => self.gap(&frame),
                        _ => Tally::add(&self.stage.tally.signals),
                    }
                }
            }
        }
    }

    async fn connect(&self) -> Result<Socket, Gone> {
        let address = self.stage.address();
        let packed = self.plan.transport == Transport::MessagePack;
        let stream = TcpStream::connect(address).await.map_err(gone)?;
        let mut request = format!("ws://{address}/v1/ws").into_client_request().map_err(gone)?;
        let headers = request.headers_mut();
        headers.insert("authorization", format!("Bearer {}", self.token).parse().map_err(gone)?);
        let spoken = if packed { "chinwag.v1.msgpack" } else { "chinwag.v1.json" };
        headers.insert("sec-websocket-protocol", spoken.parse().map_err(gone)?);
        let (socket, _) = client_async(request, stream).await.map_err(gone)?;
        let mut socket = Socket { socket, packed };
        let hello = socket.hear().await?;
        if hello["type"] == "hello" && hello["authenticated"] == true { Ok(socket) } else { Err(Gone) }
    }

    /// The rooms that it follows one by one.
    fn wanted(&self) -> Vec<String> {
        match &self.plan.follows {
            Follows::World => Vec::new(),
            Follows::Rooms(rooms) => rooms.iter().map(|room| self.stage.rooms[*room].clone()).collect(),
        }
    }

    async fn follow(
        &mut self,
        socket: &mut Socket,
        sent: &mut HashMap<String, Option<(String, u64)>>,
        room: &str,
    ) -> Result<(), Gone> {
        let at = self.cursors.get(room).cloned();
        let from = at.as_ref().map_or(self.plan.from, |(cursor, _)| cursor.as_str());
        let id = format!("{room} {}", sent.len());
        socket.say(&json!({ "id": id, "type": "follow", "room": room, "from": from })).await?;
        sent.insert(id, at);
        Ok(())
    }

    /// The reply to something of its own.
    async fn replied(
        &mut self,
        id: &str,
        reply: &Value,
        sent: &mut HashMap<String, Option<(String, u64)>>,
    ) -> Result<(), Gone> {
        if id == "world" && reply["ok"] == true {
            return self.opened(text(reply, "cursor").to_owned()).await;
        }
        if reply["ok"] != true {
            return match text(&reply["error"], "code") {
                "not_member" | "room_not_found" => Ok(()),
                "busy" | "unavailable" | "shutting_down" => Err(Gone),
                _ => {
                    self.stage.tally.fault(format!("{:?} is refused: {reply}", self.plan));
                    Err(Gone)
                }
            };
        }
        let Some(at) = sent.get(id).cloned() else { return Ok(()) };
        let room = id.split(' ').next().expect("an id begins with the room");
        let head = number(reply, "head");
        let begun = match at {
            Some((_, seq)) => seq,
            None if self.plan.from == "now" => head,
            None => 0,
        };
        self.cursors.entry(room.to_owned()).or_insert_with(|| (text(reply, "cursor").to_owned(), begun));
        let stretch = Stretch { begun: Begun::At(begun), head: Some(head), shown: Vec::new() };
        self.view().rooms.entry(room.to_owned()).or_default().push(stretch);
        Ok(())
    }

    /// An event stream or a row of pages, from its opening to its end.
    async fn read(&mut self) -> Result<Left, Gone> {
        let place = self.about_to_open().await?;
        match self.plan.transport {
            Transport::Events => self.listen(place).await,
            Transport::Polls | Transport::Json | Transport::MessagePack => self.poll(place).await,
        }
    }

    async fn listen(&mut self, place: String) -> Result<Left, Gone> {
        let address = self.stage.address();
        let (path, last) = match &*place {
            "start" | "now" => (format!("/v1/events?after={place}"), None),
            cursor => ("/v1/events".to_owned(), Some(cursor)),
        };
        let opening = tokio::time::timeout(PATIENCE, Events::try_open(address, &self.token, &path, last)).await;
        let Ok(Ok(Ok(mut events))) = opening else { return Err(Gone) };
        let hello = events.try_next().await.ok_or(Gone)?;
        self.opened(hello.id.ok_or(Gone)?).await?;
        self.connected();
        loop {
            tokio::select! {
                order = self.orders.recv() => if let Some(left) = self.ordered(order) { return Ok(left) },
                event = events.try_next() => {
                    let event = event.ok_or(Gone)?;
                    match &*event.name {
                        "record" => self.note(event.json(), event.id),
                        "gap" => self.gap(&event.json()),
                        "removed" => Tally::add(&self.stage.tally.removals),
                        "close" | "follow_failed" => return Err(Gone),
                        _ => Tally::add(&self.stage.tally.signals),
                    }
                }
            }
        }
    }

    async fn poll(&mut self, place: String) -> Result<Left, Gone> {
        let mut http = Http::connect(self.stage.address(), &self.token).await.map_err(gone)?;
        let mut path = format!("/v1/events?after={place}");
        loop {
            tokio::select! {
                order = self.orders.recv() => if let Some(left) = self.ordered(order) { return Ok(left) },
                answer = http.try_get(&path) => {
                    let answer = answer.map_err(gone)?;
                    if answer.status != 200 {
                        return Err(Gone);
                    }
                    let page = answer.json();
                    for notice in page["notices"].as_array().into_iter().flatten() {
                        self.gap(notice);
                    }
                    for record in page["records"].as_array().into_iter().flatten() {
                        self.note(record.clone(), None);
                    }
                    self.opened(text(&page, "cursor").to_owned()).await?;
                    self.connected();
                    path = format!("/v1/events?limit=100&wait=5s&after={}", text(&page, "cursor"));
                }
            }
        }
    }

    /// What an order is to who only reads.
    fn ordered(&self, order: Option<Order>) -> Option<Left> {
        match order {
            None => Some(Left::Over),
            Some(Order::Off) => Some(Left::Off),
            Some(Order::Break) => Some(Left::Broken),
            Some(Order::Ask(_, to)) => {
                let _ = to.send(Answer::Gone);
                None
            }
            Some(Order::On | Order::Presence(_)) => None,
        }
    }

    fn gap(&mut self, notice: &Value) {
        if notice["type"] == "gap" {
            let gap = (text(notice, "room").to_owned(), number(notice, "from"), number(notice, "to"));
            self.view().gaps.push(gap);
        }
    }

    /// A record has been dealt with: from here on it is not asked for again.
    fn note(&mut self, record: Value, event_id: Option<String>) {
        self.stage.tally.deliveries.fetch_add(1, Ordering::Relaxed);
        let (room, seq) = (text(&record, "room").to_owned(), number(&record, "seq"));
        if let Some(place) = event_id.or_else(|| Some(record["world"].as_str()?.to_owned())) {
            self.place = Some(place);
        }
        self.cursors.insert(room.clone(), (text(&record, "cursor").to_owned(), seq));
        self.learn(&room, &record);
        let shown = self.stage.texts.shown(record);
        let world = self.plan.follows == Follows::World;
        let mut view = self.view();
        let stretches = view.rooms.entry(room).or_default();
        if stretches.is_empty() {
            // What comes of a room that was never asked for stands out as well.
            let begun = if world { Begun::Between(0, 0) } else { Begun::At(0) };
            stretches.push(Stretch { begun, head: None, shown: Vec::new() });
        }
        stretches.last_mut().expect("there is one").shown.push(shown);
    }

    fn learn(&self, room: &str, record: &Value) {
        let mut known = self.known.lock().expect("nobody panics holding this");
        let known = known.rooms.entry(room.to_owned()).or_default();
        known.head = known.head.max(number(record, "seq"));
        match text(record, "event") {
            "message_posted" => {
                known.messages.push_back((text(record, "id").to_owned(), text(record, "author").to_owned()));
                if known.messages.len() > KNOWN_MAX {
                    known.messages.pop_front();
                }
            }
            "member_joined" => drop(known.members.insert(text(record, "user").to_owned())),
            _ => {}
        }
    }
}

fn answer(reply: Value) -> Answer {
    if reply["ok"] == true {
        return Answer::Done(reply);
    }
    let error = &reply["error"];
    Answer::Refused { code: text(error, "code").to_owned(), after: error["retry_after_ms"].as_u64() }
}

/// A WebSocket in either notation.
struct Socket {
    socket: WebSocketStream<TcpStream>,
    packed: bool,
}

impl Socket {
    async fn say(&mut self, command: &Value) -> Result<(), Gone> {
        let message = if self.packed {
            Message::binary(rmp_serde::to_vec_named(command).expect("a command can be packed"))
        } else {
            Message::text(command.to_string())
        };
        self.socket.send(message).await.map_err(gone)
    }

    /// The next frame. Safe to abandon.
    async fn hear(&mut self) -> Result<Value, Gone> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).expect("frames are JSON")),
                Some(Ok(Message::Binary(bytes))) => {
                    return Ok(rmp_serde::from_slice(&bytes).expect("frames are MessagePack"));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Gone),
            }
        }
    }
}

/// How many of something there are.
pub fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
