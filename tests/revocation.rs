//! Removals under load: five hundred followers on all transports, of whom somebody is removed all the time.
//!
//! `ROUNDS` says how many are removed, and `CHINWAG_REVOCATION_SEED` repeats a run's choices (not its timing).

#[path = "it/harness.rs"]
#[allow(dead_code, reason = "shared with the other tests of the server")]
mod harness;
#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chinwag::actors::Limits;
use chinwag::clock::{Clock, SystemClock};
use chinwag::domain::Timestamp;
use chinwag::store::sled::{Options, SledStore};
use futures_util::{SinkExt, StreamExt};
use harness::{Client, Setup, TestServer, create_channel, eventually, join, kick, patiently, post};
use serde::Deserialize;
use serde_json::{Value, json};
use support::listeners::{Events, Http};
use support::random::Random;
use support::sized_by;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// Each follows by all [`Way::ALL`]: 504 followers.
const USERS: usize = 72;

/// Each of so many has some connections that it never reads: of all, a tenth.
const DEAF: usize = 4;
const DEAF_WAYS: [Way; 3] = [Way::Json, Way::Stream, Way::Poll];

const PUBLISHERS: usize = 3;

/// How many remove somebody at the same time, each among users of its own.
const REMOVERS: usize = 3;

/// How many are away before the first of them comes back.
const AWAY: usize = 3;

/// Half a second for who does not answer, and what a busy machine may need.
const REMOVAL_MAX: Duration = Duration::from_secs(3);

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn nothing_of_a_room_reaches_who_has_been_removed_on_any_connection_under_load() {
    raise_file_limit();
    let rounds = usize::try_from(sized_by("ROUNDS", 60)).expect("a number of rounds");
    let mut random = Random::seeded_by("CHINWAG_REVOCATION_SEED");
    let home = tempfile::tempdir().unwrap();
    let stage = Arc::new(Stage::new(home.path().join("admin.sock"), &home.path().join("data")));
    stage.server.client("ann").await.ask(create_channel("lobby")).await;

    let mut crowd: Vec<Vec<Member>> = (0..REMOVERS).map(|_| Vec::new()).collect();
    for n in 0..USERS {
        crowd[n % REMOVERS].push(Member::enter(&stage, n).await);
    }
    eventually("everybody follows", || stage.following() == USERS * Way::ALL.len()).await;
    let publishers = (0..PUBLISHERS).map(|_| tokio::spawn(publish(Arc::clone(&stage)))).collect::<Vec<_>>();

    let removers = crowd.into_iter().enumerate().map(|(n, users)| {
        let rounds = rounds / REMOVERS + usize::from(n < rounds % REMOVERS);
        tokio::spawn(remove(Arc::clone(&stage), users, rounds, random.fork()))
    });
    let (mut tally, mut everybody) = (Tally::default(), Vec::new());
    for remover in removers.collect::<Vec<_>>() {
        let (counted, users) = remover.await.expect("nobody was sent what is not for it");
        tally.add(counted);
        everybody.extend(users);
    }
    eventually("everybody follows again", || stage.following() == USERS * Way::ALL.len()).await;
    stage.over.store(true, Ordering::Relaxed);
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let seen = stage.seen.load(Ordering::Relaxed);
    println!("{tally}; {seen} records seen, {} posted", stage.posted.load(Ordering::Relaxed));
    assert_eq!(tally.removals(), rounds);
    assert!(tally.slowest < REMOVAL_MAX, "{:?}", tally.slowest);
    assert!(seen > rounds as u64, "nobody read anything");
}

/// The server, and what everybody does to it together.
struct Stage {
    server: TestServer,
    admin: PathBuf,
    over: AtomicBool,
    posted: AtomicU64,
    seen: AtomicU64,
    following: AtomicUsize,
}

impl Stage {
    fn new(admin: PathBuf, data: &std::path::Path) -> Self {
        // Who never reads is there until it is removed.
        let limits = Limits {
            slow_consumer: HOUR,
            heartbeat: HOUR,
            request: HOUR,
            sweep: Duration::from_millis(50),
            ..Limits::lifted()
        };
        let store = SledStore::open(data, Options::default()).unwrap();
        let setup = Setup { store: Arc::new(store), limits, admin: Some(admin.clone()), ..Setup::default() };
        Self {
            server: TestServer::with(setup),
            admin,
            over: AtomicBool::new(false),
            posted: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            following: AtomicUsize::new(0),
        }
    }

    fn following(&self) -> usize {
        self.following.load(Ordering::Relaxed)
    }

    /// Revokes as the operator does.
    async fn revoke(&self, body: &Value) {
        let client = reqwest::Client::builder().unix_socket(self.admin.as_path()).build().unwrap();
        let answer = patiently(client.post("http://localhost/revocations").json(body).send()).await.unwrap();
        assert_eq!(answer.status(), 200);
    }
}

/// Posts as fast as it is acknowledged.
async fn publish(stage: Arc<Stage>) {
    let mut ann = stage.server.client("ann").await;
    let text = "x".repeat(500);
    while !stage.over.load(Ordering::Relaxed) {
        ann.ask(post("lobby", &text)).await;
        stage.posted.fetch_add(1, Ordering::Relaxed);
    }
}

/// Removes one after the other; they come back later.
async fn remove(stage: Arc<Stage>, mut users: Vec<Member>, rounds: usize, mut random: Random) -> (Tally, Vec<Member>) {
    let mut ann = stage.server.client("ann").await;
    let (mut tally, mut away) = (Tally::default(), Vec::new());
    for _ in 0..rounds {
        let chosen = usize::try_from(random.below(users.len() as u64)).expect("users are few");
        let mut user = users.swap_remove(chosen);
        // Now and then somebody who has only just begun to follow.
        if random.percent(75) {
            user.settled(&stage, &mut tally).await;
        }
        let how = Removal::ALL[usize::try_from(random.below(Removal::ALL.len() as u64)).expect("small")];
        user.remove(&stage, how, &mut ann, &mut tally).await;
        user.settled(&stage, &mut tally).await;
        away.push(user);
        if away.len() > AWAY {
            let mut back = away.remove(0);
            back.come_back(&stage, &mut ann).await;
            users.push(back);
        }
    }
    for mut user in away {
        user.come_back(&stage, &mut ann).await;
        users.push(user);
    }
    for user in &mut users {
        user.settled(&stage, &mut tally).await;
    }
    (tally, users)
}

/// How somebody is removed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Removal {
    Kick,
    /// Before it comes back the ban is taken back.
    Ban,
    Leave,
    /// The operator revokes the token with which all connections were opened.
    Token,
    /// And all tokens of the user.
    User,
}

impl Removal {
    const ALL: [Self; 5] = [Self::Kick, Self::Ban, Self::Leave, Self::Token, Self::User];

    fn revokes(self) -> bool {
        match self {
            Self::Token | Self::User => true,
            Self::Kick | Self::Ban | Self::Leave => false,
        }
    }
}

/// What was counted.
#[derive(Default)]
struct Tally {
    by_kind: BTreeMap<Removal, usize>,
    by_way: BTreeMap<Way, usize>,
    deaf: usize,
    kept: usize,
    slowest: Duration,
}

impl Tally {
    fn removals(&self) -> usize {
        self.by_kind.values().sum()
    }

    fn add(&mut self, other: Self) {
        for (kind, count) in other.by_kind {
            *self.by_kind.entry(kind).or_default() += count;
        }
        for (way, count) in other.by_way {
            *self.by_way.entry(way).or_default() += count;
        }
        self.deaf += other.deaf;
        self.kept += other.kept;
        self.slowest = self.slowest.max(other.slowest);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { by_kind, by_way, deaf, kept, slowest } = self;
        write!(f, "revocation: {} removals {by_kind:?}, of connections {by_way:?}, ", self.removals())?;
        write!(f, "{deaf} unread, {kept} sockets lived on; the slowest took {slowest:?}")
    }
}

/// A user with a connection of each way.
struct Member {
    name: String,
    standing: watch::Sender<Standing>,
    token: String,
    issued_at: Timestamp,
    removed: Option<Removal>,
    /// How its connections have taken the last change.
    taken: mpsc::UnboundedReceiver<(Way, Taken)>,
    change: usize,
    /// How many connections have not taken it.
    outstanding: usize,
}

/// What a user is, as its connections are told at each change, and its token.
#[derive(Clone)]
struct Standing {
    change: usize,
    token: String,
    now: Now,
}

#[derive(Clone, Copy)]
enum Now {
    /// With the seq of its joining.
    In { joined: u64 },
    /// With the last record that it may have been sent.
    Out { last: u64, revoked: bool },
}

/// What a connection has made of it.
#[derive(Clone, Copy)]
struct Taken {
    change: usize,
    /// It had been followed by until then.
    followed: bool,
    deaf: bool,
    /// Its socket is there still.
    kept: bool,
}

impl Member {
    async fn enter(stage: &Arc<Stage>, n: usize) -> Self {
        let name = format!("user-{n}");
        let issued_at = Timestamp(SystemClock.now().0 - 2_000);
        let token = stage.server.token_of("default", &name, issued_at, HOUR);
        let joined = seq_of(&stage.server.client(&name).await.ask(join("lobby")).await);
        let (standing, _) = watch::channel(Standing { change: 0, token: token.clone(), now: Now::In { joined } });
        let (tell, taken) = mpsc::unbounded_channel();
        for way in Way::ALL {
            let is_deaf = n.is_multiple_of(DEAF) && DEAF_WAYS.contains(&way);
            let follower = Follower {
                stage: Arc::clone(stage),
                way,
                name: name.clone(),
                is_deaf,
                open: None,
                last: 0,
                bound: None,
                gap: None,
            };
            tokio::spawn(follower.live(standing.subscribe(), tell.clone()));
        }
        Self { name, standing, token, issued_at, removed: None, taken, change: 0, outstanding: Way::ALL.len() }
    }

    async fn remove(&mut self, stage: &Stage, how: Removal, ann: &mut Client, tally: &mut Tally) {
        // Tokens of the second of a revocation are denied with it, and these are from later.
        let how = if how == Removal::User && self.issued_at > SystemClock.now() { Removal::Kick } else { how };
        let mut own = stage.server.client_with(&self.token, Some("chinwag.v1.json")).await;
        let began = Instant::now();
        let answer = match how {
            Removal::Kick => ann.ask(kick(&json!("lobby"), &self.name)).await,
            Removal::Ban => ann.ask(json!({ "type": "ban", "room": "lobby", "user": self.name })).await,
            Removal::Leave => own.ask(json!({ "type": "leave", "room": "lobby" })).await,
            Removal::Token => {
                stage.revoke(&json!({ "token": token_id(&self.token) })).await;
                Value::Null
            }
            Removal::User => {
                stage.revoke(&json!({ "user": self.name })).await;
                Value::Null
            }
        };
        tally.slowest = tally.slowest.max(began.elapsed());
        *tally.by_kind.entry(how).or_default() += 1;
        // A removal has a record of its own. A revocation has none: what was there when it was answered may have come.
        let last = match answer["seq"].as_u64() {
            Some(seq) => seq,
            None => ann.ask(json!({ "type": "room", "room": "lobby" })).await["head"].as_u64().expect("a head"),
        };
        self.removed = Some(how);
        self.tell(Now::Out { last, revoked: how.revokes() });
    }

    async fn come_back(&mut self, stage: &Stage, ann: &mut Client) {
        let removed = self.removed.take().expect("it is away");
        let revoked = removed.revokes();
        if revoked {
            self.issued_at = Timestamp(SystemClock.now().0 + 1_500);
            self.token = stage.server.token_of("default", &self.name, self.issued_at, HOUR);
        }
        let mut own = stage.server.client_with(&self.token, Some("chinwag.v1.json")).await;
        if removed == Removal::Ban {
            assert_eq!(own.refused(join("lobby")).await, "banned");
            ann.ask(json!({ "type": "unban", "room": "lobby", "user": self.name })).await;
        }
        let joined = if revoked { 0 } else { seq_of(&own.ask(join("lobby")).await) };
        self.tell(Now::In { joined });
    }

    fn tell(&mut self, now: Now) {
        self.change += 1;
        self.outstanding = Way::ALL.len();
        self.standing.send_replace(Standing { change: self.change, token: self.token.clone(), now });
    }

    /// Every connection has taken the last change, and found nothing that it should not have been sent.
    async fn settled(&mut self, stage: &Stage, tally: &mut Tally) {
        while self.outstanding > 0 {
            let taken = soon("its connections have noticed", self.taken.recv()).await;
            let (way, taken) = taken.expect("its connections live as long as it");
            self.outstanding -= usize::from(taken.change == self.change);
            if taken.followed {
                *tally.by_way.entry(way).or_default() += 1;
                tally.deaf += usize::from(taken.deaf);
                tally.kept += usize::from(taken.kept);
                stage.following.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// How a room is followed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Way {
    Json,
    Packed,
    Stream,
    Poll,
    World,
    WorldStream,
    WorldPoll,
}

impl Way {
    const ALL: [Self; 7] =
        [Self::Json, Self::Packed, Self::Stream, Self::Poll, Self::World, Self::WorldStream, Self::WorldPoll];

    /// Whether it goes on without the room.
    fn is_world(self) -> bool {
        match self {
            Self::World | Self::WorldStream | Self::WorldPoll => true,
            Self::Json | Self::Packed | Self::Stream | Self::Poll => false,
        }
    }

    fn path(self) -> &'static str {
        if self.is_world() { "/v1/events" } else { "/v1/rooms/lobby/events" }
    }
}

/// A connection that follows, of one user.
struct Follower {
    stage: Arc<Stage>,
    way: Way,
    name: String,
    is_deaf: bool,
    open: Option<Open>,
    /// The last record that it was sent.
    last: u64,
    /// The last that it may be sent, while its user is away.
    bound: Option<u64>,
    /// What it must not be sent although its user is back: what lies between these.
    gap: Option<(u64, u64)>,
}

enum Open {
    Socket(Box<WebSocketStream<TcpStream>>),
    Stream(Events),
    /// Asks again and again; of one that is deaf, any request whose answer is not read.
    Poll {
        http: Http,
        cursor: String,
    },
}

/// There is no more of a connection, or it has been refused.
struct Gone;

impl Open {
    /// What is beneath it. What has been read and not looked at is lost.
    fn into_inner(self) -> TcpStream {
        match self {
            Self::Socket(socket) => socket.into_inner(),
            Self::Stream(events) => events.into_inner(),
            Self::Poll { http, .. } => http.into_inner(),
        }
    }
}

#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    seq: Option<u64>,
    ok: Option<bool>,
}

impl Follower {
    async fn live(mut self, mut standing: watch::Receiver<Standing>, tell: mpsc::UnboundedSender<(Way, Taken)>) {
        let (mut followed, mut out) = (false, 0);
        loop {
            let Standing { change, token, now } = standing.borrow_and_update().clone();
            let taken = Taken { change, followed: false, deaf: self.is_deaf, kept: false };
            match now {
                Now::In { joined } => {
                    self.gap = (joined > 0 && out > 0).then_some((out, joined));
                    followed = self.enter(&token).await.is_ok();
                    self.stage.following.fetch_add(usize::from(followed), Ordering::Relaxed);
                    let _ = tell.send((self.way, taken));
                    if followed && !self.is_deaf {
                        self.read_until_changed(&mut standing).await;
                    }
                }
                Now::Out { last, revoked } => {
                    self.come_to_the_end(&token, last, revoked).await;
                    let _ = tell.send((self.way, Taken { followed, kept: self.open.is_some(), ..taken }));
                    (followed, out) = (false, last);
                }
            }
            if standing.changed().await.is_err() {
                return;
            }
        }
    }

    /// Follows from now on, on the socket that is there or on another.
    async fn enter(&mut self, token: &str) -> Result<(), Gone> {
        let kept = self.open.take();
        self.last = 0;
        let lives_on = kept.is_some();
        let mut open = match kept {
            Some(open) => open,
            None => soon("it connects", self.connect(token)).await?,
        };
        let follow = match self.way {
            Way::Json | Way::Packed => Some(json!({ "type": "follow", "room": "lobby", "from": "now" })),
            // One that was there all the time has gained the room by itself.
            Way::World if !lives_on => Some(json!({ "type": "follow_all", "from": "now" })),
            Way::World | Way::Stream | Way::Poll | Way::WorldStream | Way::WorldPoll => None,
        };
        if let (Open::Socket(socket), Some(command)) = (&mut open, follow) {
            self.send(socket, command).await?;
            // The answer of one that is deaf is waited for: so it follows.
            while !self.answered(socket).await? {}
        }
        self.open = Some(open);
        Ok(())
    }

    async fn connect(&self, token: &str) -> Result<Open, Gone> {
        let (address, path) = (self.stage.server.address, format!("{}?after=now", self.way.path()));
        match self.way {
            Way::Json | Way::Packed | Way::World => {
                let stream = TcpSocket::new_v4().unwrap();
                if self.is_deaf {
                    stream.set_recv_buffer_size(4 * 1024).unwrap();
                }
                let stream = stream.connect(address).await.map_err(|_| Gone)?;
                let mut request = format!("ws://{address}/v1/ws").into_client_request().unwrap();
                let headers = request.headers_mut();
                headers.insert("Authorization", format!("Bearer {token}").parse().unwrap());
                headers.insert("Sec-WebSocket-Protocol", self.subprotocol().parse().unwrap());
                let (socket, _) = tokio_tungstenite::client_async(request, stream).await.map_err(|_| Gone)?;
                Ok(Open::Socket(Box::new(socket)))
            }
            Way::Stream if self.is_deaf => {
                let mut http = Http::connect_narrow(address, token).await.map_err(|_| Gone)?;
                http.send(&path, "Accept: text/event-stream\r\n").await.map_err(|_| Gone)?;
                Ok(Open::Poll { http, cursor: String::new() })
            }
            Way::Stream | Way::WorldStream => {
                let opened = Events::try_open(address, token, &path, None).await.map_err(|_| Gone)?;
                opened.map(Open::Stream).map_err(|_| Gone)
            }
            Way::Poll if self.is_deaf => {
                let mut http = Http::connect_narrow(address, token).await.map_err(|_| Gone)?;
                let path = format!("{}?after=start&limit=500", self.way.path());
                http.send(&path, "").await.map_err(|_| Gone)?;
                Ok(Open::Poll { http, cursor: String::new() })
            }
            Way::Poll | Way::WorldPoll => {
                let mut http = Http::connect(address, token).await.map_err(|_| Gone)?;
                let answer = http.try_get(&path).await.map_err(|_| Gone)?;
                if answer.status != 200 {
                    return Err(Gone);
                }
                let cursor = answer.json()["cursor"].as_str().expect("a page has a cursor").to_owned();
                Ok(Open::Poll { http, cursor })
            }
        }
    }

    fn subprotocol(&self) -> &'static str {
        if self.way == Way::Packed { "chinwag.v1.msgpack" } else { "chinwag.v1.json" }
    }

    async fn send(&self, socket: &mut WebSocketStream<TcpStream>, mut command: Value) -> Result<(), Gone> {
        command["id"] = json!("1");
        let message = if self.way == Way::Packed {
            Message::binary(rmp_serde::to_vec_named(&command).unwrap())
        } else {
            Message::text(command.to_string())
        };
        socket.send(message).await.map_err(|_| Gone)
    }

    /// Reads a frame; whether it is the reply, which is no refusal.
    async fn answered(&mut self, socket: &mut WebSocketStream<TcpStream>) -> Result<bool, Gone> {
        let frame = soon("it is answered", next_frame(socket)).await?;
        self.note_frame(&frame);
        match (frame.kind.as_str(), frame.ok) {
            ("reply", Some(true)) => Ok(true),
            ("reply", _) => Err(Gone),
            _ => Ok(false),
        }
    }

    async fn read_until_changed(&mut self, standing: &mut watch::Receiver<Standing>) {
        while let Some(mut open) = self.open.take() {
            let read = match &mut open {
                // An answer is taken whole.
                Open::Poll { http, cursor } => poll(http, self.way, cursor).await,
                Open::Socket(socket) => tokio::select! {
                    frame = next_frame(socket) => frame.map(|frame| record_in(&frame).into_iter().collect()),
                    _ = standing.changed() => { standing.mark_changed(); Ok(Vec::new()) }
                },
                Open::Stream(events) => tokio::select! {
                    seqs = next_event(events) => seqs,
                    _ = standing.changed() => { standing.mark_changed(); Ok(Vec::new()) }
                },
            };
            let Ok(seqs) = read else { return };
            seqs.into_iter().for_each(|seq| self.note(seq));
            self.open = Some(open);
            if standing.has_changed().unwrap_or(true) {
                return;
            }
        }
    }

    /// Its user has been removed, and that has been answered: whatever it is sent still is from before, and it comes to
    /// nothing more by asking.
    async fn come_to_the_end(&mut self, token: &str, last: u64, revoked: bool) {
        let way = self.way;
        assert!(self.last <= last, "{}, {way:?}: {} came, {last} was the last", self.name, self.last);
        self.bound = Some(last);
        match self.open.take() {
            Some(open) if self.is_deaf => self.take_what_is_held(open.into_inner()).await,
            Some(open) => self.take_what_is_left(open, revoked).await,
            None => {}
        }
        self.bound = None;
        if !self.is_deaf && (revoked || matches!(way, Way::Stream | Way::Poll)) {
            assert!(soon("it is refused", self.connect(token)).await.is_err(), "{way:?}: it is let in again");
        }
    }

    async fn take_what_is_left(&mut self, open: Open, revoked: bool) {
        match open {
            Open::Socket(mut socket) => {
                if revoked {
                    while let Ok(frame) = soon("its socket ends", next_frame(&mut socket)).await {
                        self.note_frame(&frame);
                    }
                    return;
                }
                let ask = json!({ "type": "history", "room": "lobby" });
                if self.send(&mut socket, ask).await.is_err() {
                    return;
                }
                // One that had not answered in time has been cut.
                loop {
                    let Ok(frame) = soon("its question is answered", next_frame(&mut socket)).await else { return };
                    self.note_frame(&frame);
                    if frame.kind == "reply" {
                        assert_eq!(frame.ok, Some(false), "{:?}: it is told what was said", self.way);
                        break;
                    }
                }
                self.open = Some(Open::Socket(socket));
            }
            Open::Stream(mut events) => {
                while let Ok(seqs) = soon("its stream ends", next_event(&mut events)).await {
                    seqs.into_iter().for_each(|seq| self.note(seq));
                }
            }
            Open::Poll { mut http, mut cursor } => {
                // By a world that goes on without the room it may be answered.
                while let Ok(seqs) = poll(&mut http, self.way, &mut cursor).await {
                    assert!(self.way.is_world() && !revoked, "{:?}: it is answered", self.way);
                    if seqs.is_empty() {
                        return;
                    }
                    seqs.into_iter().for_each(|seq| self.note(seq));
                }
            }
        }
    }

    /// Nothing is added to what its own kernel holds, whatever happens in the room: not even when it begins to read.
    async fn take_what_is_held(&self, mut stream: TcpStream) {
        let held = rustix::io::ioctl_fionread(&stream).unwrap();
        let posted = self.stage.posted.load(Ordering::Relaxed);
        eventually("more is posted", || self.stage.posted.load(Ordering::Relaxed) > posted + 5).await;
        // One that had been sent all that there was is not cut, and ends now.
        let _ = stream.shutdown().await;
        let mut rest = Vec::new();
        let _ = soon("its connection ends", stream.read_to_end(&mut rest)).await;
        let (name, way) = (&self.name, self.way);
        assert!(rest.len() as u64 <= held, "{name}, {way:?}: {} bytes came, {held} were there", rest.len());
        seqs_in(&String::from_utf8_lossy(&rest)).for_each(|seq| self.check(seq));
    }

    fn note_frame(&mut self, frame: &Frame) {
        if let Some(seq) = record_in(frame) {
            self.note(seq);
        }
    }

    fn note(&mut self, seq: u64) {
        assert!(self.last == 0 || seq == self.last + 1, "{}, {:?}: {seq} after {}", self.name, self.way, self.last);
        self.check(seq);
        self.last = seq;
        self.stage.seen.fetch_add(1, Ordering::Relaxed);
    }

    fn check(&self, seq: u64) {
        let (name, way) = (&self.name, self.way);
        if let Some(bound) = self.bound {
            assert!(seq <= bound, "{name}, {way:?}: {seq} came later, {bound} was the last");
        }
        if let Some((out, joined)) = self.gap {
            assert!(seq <= out || joined <= seq, "{name}, {way:?}: {seq} came, from {out} to {joined} it was away");
        }
    }
}

async fn next_frame(socket: &mut WebSocketStream<TcpStream>) -> Result<Frame, Gone> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).expect("frames are JSON")),
            Some(Ok(Message::Binary(bytes))) => {
                return Ok(rmp_serde::from_slice(&bytes).expect("frames are MessagePack"));
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_))) => {}
            Some(Err(_)) | None => return Err(Gone),
        }
    }
}

fn record_in(frame: &Frame) -> Option<u64> {
    (frame.kind == "record").then(|| frame.seq.expect("a record has a seq"))
}

async fn next_event(events: &mut Events) -> Result<Vec<u64>, Gone> {
    let event = events.try_next().await.ok_or(Gone)?;
    if event.name != "record" {
        return Ok(Vec::new());
    }
    let frame: Frame = serde_json::from_str(&event.data).expect("events are JSON");
    Ok(record_in(&frame).into_iter().collect())
}

async fn poll(http: &mut Http, way: Way, cursor: &mut String) -> Result<Vec<u64>, Gone> {
    let path = format!("{}?after={cursor}&wait=200ms", way.path());
    let answer = soon("its page comes", http.try_get(&path)).await.map_err(|_| Gone)?;
    if answer.status != 200 {
        return Err(Gone);
    }
    let page = answer.json();
    page["cursor"].as_str().expect("a page has a cursor").clone_into(cursor);
    Ok(page["records"].as_array().expect("a page has records").iter().map(seq_of).collect())
}

/// Waits, and says for what where that takes too long.
async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    let waited = tokio::time::timeout(harness::PATIENCE, future).await;
    waited.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// The seqs in as much of an answer as has come.
fn seqs_in(text: &str) -> impl Iterator<Item = u64> {
    let after = text.split("\"seq\":").skip(1);
    after.filter_map(|rest| rest.split_once(|c: char| !c.is_ascii_digit())?.0.parse().ok())
}

fn seq_of(value: &Value) -> u64 {
    value["seq"].as_u64().expect("a record has a seq")
}

fn token_id(token: &str) -> String {
    use base64::Engine;
    let claims = token.split('.').nth(1).expect("a token has three parts");
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).expect("claims are base64");
    let claims: Value = serde_json::from_slice(&claims).expect("claims are JSON");
    claims["jti"].as_str().expect("our tokens have ids").to_owned()
}

fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}
