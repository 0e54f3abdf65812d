//! Many WebSocket clients on one thread: opening, reading, writing. Does not know what is said.
//!
//! Nothing is allocated per message: what comes in is read into one buffer and handed on from there, what goes out is
//! gathered in a buffer per client and written at the end of a round.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::{self, EventFlags};
use socket2::{Domain, Socket, Type};

use crate::{Outcome, poll, websocket};

/// Larger than anything that one read brings.
const SCRATCH_BYTES: usize = 4 * 1024 * 1024;

/// As many connections leave from one address: each has 28,000 ports, and some are still in use from before.
const CONNECTIONS_PER_ADDRESS: usize = 4_000;

pub type ClientId = usize;

/// What has happened to a client.
pub enum Happened<'a> {
    /// The handshake is done, and the server's greeting, where it has one, is there.
    Opened,
    Text(&'a [u8]),
}

/// What has come in, for the table.
#[derive(Clone, Copy, Default, Debug)]
pub struct Arrived {
    pub reads: u64,
    pub bytes: u64,
}

pub struct Clients {
    epoll: OwnedFd,
    server: SocketAddr,
    /// Whether the server's first frame is a greeting.
    greets: bool,
    clients: Vec<Option<Client>>,
    events: Vec<epoll::Event>,
    scratch: Vec<u8>,
    /// Those that have something to write.
    dirty: Vec<ClientId>,
    pub arrived: Arrived,
}

struct Client {
    stream: TcpStream,
    stage: Stage,
    /// The beginning of a frame whose end has not come.
    rest: Vec<u8>,
    out: Vec<u8>,
    /// The kernel took less than there was; an event says when to go on.
    full: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Handshake,
    Greeting,
    Open,
}

impl Clients {
    pub fn new(server: SocketAddr, greets: bool) -> Outcome<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            server,
            greets,
            clients: Vec::new(),
            events: poll::events(),
            scratch: vec![0; SCRATCH_BYTES],
            dirty: Vec::new(),
            arrived: Arrived::default(),
        })
    }

    /// Begins to connect; [`Happened::Opened`] tells the end.
    pub fn open(&mut self, path: &str, token: Option<&str>) -> Outcome<ClientId> {
        let id = self.clients.len();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let host = u8::try_from(2 + id / CONNECTIONS_PER_ADDRESS)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)).into())?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&self.server.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error.into()),
        }
        let stream = TcpStream::from(socket);
        epoll::add(&self.epoll, &stream, epoll::EventData::new_u64(id as u64), EventFlags::OUT)?;
        let identity = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: chinwag.v1.json\r\n{identity}\r\n"
        );
        let client =
            Client { stream, stage: Stage::Connecting, rest: Vec::new(), out: request.into_bytes(), full: true };
        self.clients.push(Some(client));
        // On loopback a connection is there at once, and its server does not have to wait for the request.
        self.connected(id)?;
        Ok(id)
    }

    /// Ends a connection without a word, as one ends whose machine has gone out of reach.
    pub fn cut(&mut self, id: ClientId) {
        self.clients[id] = None;
    }

    /// The id of the next one.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Has `text` sent at the end of this round.
    pub fn send(&mut self, id: ClientId, text: &[u8]) {
        self.put(id, websocket::TEXT, text);
    }

    fn put(&mut self, id: ClientId, opcode: u8, payload: &[u8]) {
        if let Some(client) = &mut self.clients[id] {
            if client.out.is_empty() {
                self.dirty.push(id);
            }
            websocket::put_masked(&mut client.out, opcode, payload);
        }
    }

    /// Writes what is to be sent, waits for at most `limit` for what comes, and hands it on. False where nothing came.
    pub fn round(
        &mut self,
        limit: Option<Duration>,
        on: &mut impl FnMut(&mut Self, ClientId, Happened<'_>) -> Outcome<()>,
    ) -> Outcome<bool> {
        self.flush()?;
        let mut events = std::mem::take(&mut self.events);
        poll::wait(&self.epoll, &mut events, limit)?;
        for event in &events {
            let id = usize::try_from(event.data.u64())?;
            let flags = event.flags;
            if flags.contains(EventFlags::OUT) {
                self.writable(id)?;
            }
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                self.read(id, on)?;
            }
        }
        let came = !events.is_empty();
        self.events = events;
        Ok(came)
    }

    pub fn flush(&mut self) -> Outcome<()> {
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            if self.clients[id].as_ref().is_some_and(|client| !client.full) {
                self.write(id)?;
            }
        }
        self.dirty = dirty;
        Ok(())
    }

    fn writable(&mut self, id: ClientId) -> Outcome<()> {
        if self.stage(id) == Some(Stage::Connecting) {
            return self.connected(id);
        }
        let Some(client) = &mut self.clients[id] else { return Ok(()) };
        client.full = false;
        epoll::modify(&self.epoll, &client.stream, epoll::EventData::new_u64(id as u64), EventFlags::IN)?;
        self.write(id)
    }

    /// Sends the request, where the connection is there; otherwise an event says when it is.
    fn connected(&mut self, id: ClientId) -> Outcome<()> {
        let Some(client) = &mut self.clients[id] else { return Ok(()) };
        if let Some(error) = client.stream.take_error()? {
            return Err(format!("client {id} cannot connect: {error}").into());
        }
        if client.stream.peer_addr().is_err() {
            return Ok(());
        }
        client.stage = Stage::Handshake;
        client.full = false;
        epoll::modify(&self.epoll, &client.stream, epoll::EventData::new_u64(id as u64), EventFlags::IN)?;
        self.write(id)
    }

    fn write(&mut self, id: ClientId) -> Outcome<()> {
        let Some(client) = &mut self.clients[id] else { return Ok(()) };
        match client.stream.write(&client.out) {
            Ok(bytes) if bytes == client.out.len() => client.out.clear(),
            Ok(bytes) => drop(client.out.drain(..bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(format!("client {id} cannot write: {error}").into()),
        }
        if !client.out.is_empty() {
            client.full = true;
            let wanted = EventFlags::IN | EventFlags::OUT;
            epoll::modify(&self.epoll, &client.stream, epoll::EventData::new_u64(id as u64), wanted)?;
        }
        Ok(())
    }

    fn read(
        &mut self,
        id: ClientId,
        on: &mut impl FnMut(&mut Self, ClientId, Happened<'_>) -> Outcome<()>,
    ) -> Outcome<()> {
        let Some(client) = &mut self.clients[id] else { return Ok(()) };
        let mut scratch = std::mem::take(&mut self.scratch);
        let before = client.rest.len();
        scratch[..before].copy_from_slice(&client.rest);
        client.rest.clear();
        let bytes = match client.stream.read(&mut scratch[before..]) {
            Ok(0) => return Err(format!("the server has ended connection {id}").into()),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(format!("connection {id}: {error}").into()),
        };
        self.arrived.reads += 1;
        self.arrived.bytes += bytes as u64;
        let taken = self.take(id, &scratch[..before + bytes], on)?;
        if let Some(client) = &mut self.clients[id] {
            client.rest.extend_from_slice(&scratch[taken..before + bytes]);
        }
        self.scratch = scratch;
        Ok(())
    }

    /// Hands on what is whole; returns how much that was.
    fn take(
        &mut self,
        id: ClientId,
        input: &[u8],
        on: &mut impl FnMut(&mut Self, ClientId, Happened<'_>) -> Outcome<()>,
    ) -> Outcome<usize> {
        let mut at = 0;
        if self.stage(id) == Some(Stage::Handshake) {
            let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(0) };
            if !input.starts_with(b"HTTP/1.1 101 ") {
                return Err(format!("refused: {}", String::from_utf8_lossy(input)).into());
            }
            at = end + 4;
            self.set_stage(id, if self.greets { Stage::Greeting } else { Stage::Open });
            if !self.greets {
                on(self, id, Happened::Opened)?;
            }
        }
        while let Some(header) = websocket::header(&input[at..]) {
            let end = at + header.bytes + header.payload;
            if end > input.len() {
                break;
            }
            let payload = &input[at + header.bytes..end];
            match header.opcode {
                websocket::TEXT if self.stage(id) == Some(Stage::Greeting) => {
                    self.set_stage(id, Stage::Open);
                    on(self, id, Happened::Opened)?;
                }
                websocket::TEXT => on(self, id, Happened::Text(payload))?,
                websocket::PING => self.put(id, websocket::PONG, payload),
                websocket::CLOSE => {
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
                    return Err(format!("the server closes connection {id}: {reason}").into());
                }
                other => return Err(format!("a frame of opcode {other:#x}").into()),
            }
            at = end;
        }
        Ok(at)
    }

    fn stage(&self, id: ClientId) -> Option<Stage> {
        self.clients[id].as_ref().map(|client| client.stage)
    }

    fn set_stage(&mut self, id: ClientId, stage: Stage) {
        if let Some(client) = &mut self.clients[id] {
            client.stage = stage;
        }
    }
}
