//! A server on a thread of its own, and clients that wait for what they expect instead of sleeping.

#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use chinwag::actors::accounts::{Accounts, Options};
use chinwag::actors::profiles::ProfileSource;
use chinwag::actors::relay::CountLinks;
use chinwag::actors::{Gate, Limits, Registry};
use chinwag::auth::{Claims, Identity, IdentityOptions, Keyring, Secret};
use chinwag::clock::{Clock, SystemClock};
use chinwag::domain::{TenantId, Timestamp, UserId};
use chinwag::http::origin::Origins;
use chinwag::http::staticbackend::PublicKeys;
use chinwag::reset_hook::ResetHookOptions;
use chinwag::server::{Parts, Server};
use chinwag::store::Store;
use chinwag::store::files::{FileStore, Free};
use chinwag::store::memory::MemoryStore;
use chinwag::tls::Certificate;
use chinwag::wire::Sealer;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use ipnet::IpNet;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use uuid::Uuid;

/// How long anything may take before a test fails: long enough for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How a server is to be set up.
pub struct Setup {
    pub store: Arc<dyn Store>,
    /// Where files are kept; a server that is started again finds those of before.
    pub files: Arc<TempDir>,
    /// How much is free on their disk, where that is to be another figure than the real one.
    pub free: Option<Free>,
    pub clock: Arc<dyn Clock>,
    pub limits: Limits,
    pub accounts: Options,
    pub reset_hook: Option<ResetHookOptions>,
    pub origins: Arc<Origins>,
    /// Says whose tokens are; without one, the harness's own secret does.
    pub gate: Option<Arc<dyn Gate>>,
    /// Who knows, besides the users themselves, who they are.
    pub profiles: Option<Arc<dyn ProfileSource>>,
    /// Where the operator's socket is to be.
    pub admin: Option<PathBuf>,
    pub workers: usize,
    pub listen: SocketAddr,
    pub tls: Option<Certificate>,
    pub proxies: Vec<IpNet>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            store: Arc::new(MemoryStore::new()),
            files: temporary(),
            free: None,
            clock: Arc::new(SystemClock),
            limits: Limits { sweep: Duration::from_millis(50), ..Limits::lifted() },
            accounts: Options::default(),
            reset_hook: None,
            origins: Arc::default(),
            gate: None,
            profiles: None,
            admin: None,
            workers: 2,
            listen: ([127, 0, 0, 1], 0).into(),
            tls: None,
            proxies: Vec::new(),
        }
    }
}

/// A folder for files that goes with the last who has it.
pub fn temporary() -> Arc<TempDir> {
    Arc::new(TempDir::new().expect("there is room for temporary files"))
}

/// A running server; stopped in order when dropped.
pub struct TestServer {
    pub address: SocketAddr,
    pub registry: Arc<Registry>,
    pub accounts: Arc<Accounts>,
    keyring: Arc<Keyring>,
    /// Goes with the last server that has it.
    pub files: Arc<TempDir>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TestServer {
    pub fn start() -> Self {
        Self::with(Setup::default())
    }

    pub fn with(setup: Setup) -> Self {
        let secret = Secret::new(vec![7; 32]).expect("32 bytes are enough");
        let keyring = Arc::new(Keyring::new(&secret));
        let (started, server) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let clock = Arc::clone(&setup.clock);
        let own = || Identity::new(&IdentityOptions::default(), secret, clock).expect("the defaults are right");
        let gate = setup.gate.unwrap_or_else(|| Arc::new(own()) as Arc<dyn Gate>);
        let store = FileStore::open(setup.files.path(), 0).expect("the folder is ours");
        let store = match setup.free {
            Some(free) => store.measured_by(free),
            None => store,
        };
        let files = Arc::clone(&setup.files);
        let signing = Keyring::clone(&keyring);
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let listener = TcpListener::bind(setup.listen).expect("loopback has a free port");
                let parts = Parts {
                    store: setup.store,
                    files: store,
                    clock: setup.clock,
                    gate,
                    public_keys: PublicKeys::new([("pk".to_owned(), TenantId::default_tenant())]),
                    origins: setup.origins,
                    limits: setup.limits,
                    keyring: Some(signing),
                    accounts: setup.accounts,
                    reset_hook: setup.reset_hook,
                    proxies: setup.proxies,
                    sealer: Sealer::new(&[7; 32]).expect("it is long enough"),
                    profiles: setup.profiles,
                    admin: setup.admin,
                    metrics: None,
                    tls: setup.tls,
                    workers: setup.workers,
                };
                let server = Server::start(listener, parts).await.expect("a listener can be listened to");
                let started_as = (server.address(), Arc::clone(server.registry()), Arc::clone(server.accounts()));
                started.send(started_as).expect("the test waits");
                let _ = stopped.await;
                server.stop().await;
            });
        });
        let (address, registry, accounts) = server.recv().expect("the server starts");
        Self { address, registry, accounts, keyring, files, stop: Some(stop), thread: Some(thread) }
    }

    /// Stops the server in order and waits for it.
    pub fn stop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            if !std::thread::panicking() {
                result.expect("the server stops in order");
            }
        }
    }

    /// Begins to stop; the returned thread ends when the server has.
    pub fn begin_stop(&mut self) -> JoinHandle<()> {
        self.stop.take();
        self.thread.take().expect("it runs")
    }

    /// How many connections the server has.
    pub async fn connections(&self) -> usize {
        let mut count = 0;
        for relay in self.registry.relays() {
            let relay = self.registry.relay(relay).expect("it is in the list");
            count += relay.send(CountLinks).await.expect("relays live as long as the server");
        }
        count
    }

    pub fn token(&self, user: &str) -> String {
        self.token_in("default", user, Duration::from_secs(3600))
    }

    pub fn token_in(&self, tenant: &str, user: &str, lifetime: Duration) -> String {
        self.token_of(tenant, user, SystemClock.now(), lifetime)
    }

    pub fn token_of(&self, tenant: &str, user: &str, issued_at: Timestamp, lifetime: Duration) -> String {
        let claims = Claims {
            tenant: TenantId::new(tenant).unwrap(),
            user: UserId::new(user).unwrap(),
            issued_at,
            lifetime,
            id: Uuid::new_v4(),
            login: None,
        };
        self.keyring.mint(&claims).unwrap()
    }

    /// A client that is `user`, has heard `hello`, and speaks JSON.
    pub async fn client(&self, user: &str) -> Client {
        self.client_with(&self.token(user), Some("chinwag.v1.json")).await
    }

    pub async fn client_with(&self, token: &str, subprotocol: Option<&str>) -> Client {
        let mut client = self.open(Some(token), subprotocol).await;
        let hello = client.next().await;
        assert_eq!(hello["type"], "hello", "{hello}");
        client
    }

    /// A client that has only opened its connection.
    pub async fn open(&self, token: Option<&str>, subprotocol: Option<&str>) -> Client {
        let mut request = format!("ws://{}/v1/ws", self.address).into_client_request().unwrap();
        if let Some(token) = token {
            request.headers_mut().insert("Authorization", format!("Bearer {token}").parse().unwrap());
        }
        if let Some(subprotocol) = subprotocol {
            request.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol.parse().unwrap());
        }
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.expect("the handshake is right");
        let msgpack = subprotocol.is_some_and(|name| name.contains("msgpack"));
        Client::new(socket, msgpack)
    }

    /// A bare socket on which `head` has been sent.
    pub async fn raw(&self, head: &str) -> TcpStream {
        self.raw_bytes(head.as_bytes()).await
    }

    pub async fn raw_bytes(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // A server that has refused what came first need not take the rest.
        let _ = stream.write_all(bytes).await;
        stream
    }

    /// A bare socket after a right handshake; nothing has been read but the answer's head.
    pub async fn raw_socket(&self, token: Option<&str>) -> TcpStream {
        self.raw_socket_with(token, "").await
    }

    /// A bare socket that speaks MessagePack.
    pub async fn packed_socket(&self, token: Option<&str>) -> TcpStream {
        self.raw_socket_with(token, "Sec-WebSocket-Protocol: chinwag.v1.msgpack\r\n").await
    }

    async fn raw_socket_with(&self, token: Option<&str>, more: &str) -> TcpStream {
        let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let mut stream = self.raw(&handshake(&format!("{authorization}{more}"))).await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("an answer"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        stream
    }

    /// The status and body of a plain GET.
    pub async fn get(&self, path: &str) -> (u16, String) {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await
    }

    /// Sends a request and reads until the server closes.
    pub async fn exchange(&self, request: &str) -> (u16, String) {
        let mut stream = self.raw(request).await;
        let mut answer = Vec::new();
        patiently(stream.read_to_end(&mut answer)).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        (status, body)
    }
}

/// A right handshake with more headers, each ended by CR LF.
pub fn handshake(more: &str) -> String {
    format!(
        "GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

/// A frame as a client sends it: masked, with `first` as its first byte.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = announced(first, payload.len() as u64);
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// The beginning of a client's frame, up to its length.
pub fn announced(first: u8, payload_bytes: u64) -> Vec<u8> {
    match payload_bytes {
        0..=125 => vec![first, 0x80 | payload_bytes as u8],
        126..=0xffff => [&[first, 0x80 | 126][..], &(payload_bytes as u16).to_be_bytes()].concat(),
        _ => [&[first, 0x80 | 127][..], &payload_bytes.to_be_bytes()].concat(),
    }
}

/// The next frame of the server on a bare socket: its first byte and its payload; `None` when there is no more.
pub async fn raw_frame(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let read = async {
        let first = stream.read_u8().await?;
        let payload_bytes = match stream.read_u8().await? {
            126 => usize::from(stream.read_u16().await?),
            127 => usize::try_from(stream.read_u64().await?).expect("it fits"),
            short => usize::from(short),
        };
        let mut payload = vec![0; payload_bytes];
        stream.read_exact(&mut payload).await?;
        Ok::<_, std::io::Error>((first, payload))
    };
    patiently(read).await.ok()
}

/// The code by which the server closes a bare socket, whatever it says before; `None` when it ends without.
pub async fn raw_close(stream: &mut TcpStream) -> Option<u16> {
    loop {
        let (first, payload) = raw_frame(stream).await?;
        if first == 0x88 {
            return Some(u16::from_be_bytes(*payload.first_chunk()?));
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A client of the native protocol. It reads all the time, as clients do, so that pings are answered.
pub struct Client {
    pub sink: SplitSink<WebSocketStream<TcpStream>, Message>,
    incoming: mpsc::UnboundedReceiver<Result<Value, Option<u16>>>,
    reading: tokio::task::JoinHandle<()>,
    msgpack: bool,
    asked: u64,
    /// What came while something else was waited for.
    aside: VecDeque<Value>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Client {
    fn new(socket: WebSocketStream<TcpStream>, msgpack: bool) -> Self {
        let (sink, mut source) = socket.split();
        let (came, incoming) = mpsc::unbounded_channel();
        let reading = tokio::spawn(async move {
            loop {
                let value = match source.next().await {
                    Some(Ok(Message::Text(text))) => Ok(serde_json::from_str(&text).expect("frames are JSON")),
                    Some(Ok(Message::Binary(bytes))) => {
                        Ok(rmp_serde::from_slice(&bytes).expect("frames are MessagePack"))
                    }
                    Some(Ok(Message::Close(frame))) => Err(frame.map(|frame| frame.code.into())),
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                    Some(Err(_)) | None => Err(None),
                };
                let ended = value.is_err();
                if came.send(value).is_err() || ended {
                    // Read on, so that a close is answered.
                    while source.next().await.is_some_and(|read| read.is_ok()) {}
                    return;
                }
            }
        });
        Self { sink, incoming, reading, msgpack, asked: 0, aside: VecDeque::new() }
    }

    /// Sends a command and waits for its reply, which is `ok`.
    pub async fn ask(&mut self, command: Value) -> Value {
        let reply = self.try_ask(command.clone()).await;
        assert_eq!(reply["ok"], true, "{command} was answered {reply}");
        reply
    }

    /// Sends a command and waits for its refusal; returns the code.
    pub async fn refused(&mut self, command: Value) -> String {
        let reply = self.try_ask(command.clone()).await;
        assert_eq!(reply["ok"], false, "{command} was answered {reply}");
        reply["error"]["code"].as_str().expect("every refusal has a code").to_owned()
    }

    pub async fn try_ask(&mut self, command: Value) -> Value {
        let id = self.send(command).await;
        self.reply(&id).await
    }

    /// Exchanges a word with the server that waits for nothing: what was sent before has been read when it returns.
    pub async fn hears_back(&mut self) {
        assert_eq!(self.refused(json!({ "type": "nonsense" })).await, "unknown_command");
    }

    /// Sends a command and returns the id it was given.
    pub async fn send(&mut self, mut command: Value) -> String {
        self.asked += 1;
        let id = self.asked.to_string();
        command["id"] = json!(id);
        let message = if self.msgpack {
            Message::binary(rmp_serde::to_vec_named(&command).unwrap())
        } else {
            Message::text(command.to_string())
        };
        patiently(self.sink.send(message)).await.expect("the connection is open");
        id
    }

    /// Waits for the reply to a command.
    pub async fn reply(&mut self, id: &str) -> Value {
        self.find(|value| value["type"] == "reply" && value["id"] == *id).await
    }

    /// Waits for the next record.
    pub async fn record(&mut self) -> Value {
        self.find(|value| value["type"] == "record").await
    }

    /// Waits for records until one has this seq; returns all their seqs.
    pub async fn seqs_until(&mut self, last: u64) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.last() != Some(&last) {
            seqs.push(self.record().await["seq"].as_u64().expect("a record has a seq"));
        }
        seqs
    }

    /// Waits for a notice of this type.
    pub async fn notice(&mut self, kind: &str) -> Value {
        self.find(|value| value["type"] == *kind).await
    }

    async fn find(&mut self, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        if let Some(index) = self.aside.iter().position(&mut wanted) {
            return self.aside.remove(index).expect("it was there");
        }
        loop {
            let value = self.receive().await.expect("the connection is open");
            if wanted(&value) {
                return value;
            }
            self.aside.push_back(value);
        }
    }

    /// The next message, whatever it is.
    pub async fn next(&mut self) -> Value {
        match self.aside.pop_front() {
            Some(value) => value,
            None => self.receive().await.expect("the connection is open"),
        }
    }

    /// The next message of one of these types; others are dropped.
    pub async fn next_of(&mut self, kinds: &[&str]) -> Value {
        loop {
            let value = self.next().await;
            if value["type"].as_str().is_some_and(|kind| kinds.contains(&kind)) {
                return value;
            }
        }
    }

    /// Everything that came and was not asked for.
    pub fn take_aside(&mut self) -> Vec<Value> {
        self.aside.drain(..).collect()
    }

    async fn receive(&mut self) -> Result<Value, Option<u16>> {
        patiently(self.incoming.recv()).await.unwrap_or(Err(None))
    }

    /// Reads until the connection ends; returns the close code, if there was one.
    pub async fn closed(&mut self) -> Option<u16> {
        loop {
            match self.receive().await {
                Ok(value) => self.aside.push_back(value),
                Err(code) => return code,
            }
        }
    }
}

/// Waits, but not for ever.
pub async fn patiently<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("this does not take so long")
}

/// Waits until something is so.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what} did not come about");
}

pub fn post(room: &str, text: &str) -> Value {
    json!({ "type": "post", "room": room, "content": { "text": text } })
}

pub fn create_channel(alias: &str) -> Value {
    json!({ "type": "create", "kind": "channel", "alias": alias })
}

pub fn join(room: &str) -> Value {
    json!({ "type": "join", "room": room })
}

pub fn follow(room: &str, from: &str) -> Value {
    json!({ "type": "follow", "room": room, "from": from })
}

pub fn kick(room: &Value, user: &str) -> Value {
    json!({ "type": "kick", "room": room, "user": user })
}

/// What this process has in memory (proc(5), `statm`, the second number, in pages of 4 KiB).
pub fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("statm has pages");
    pages * 4096
}
