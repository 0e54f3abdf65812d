//! WebSockets: the handshake, and the stream of what comes in. The session actor is started between it and the carrier
//! of what goes out.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_web_actors::ws as actix_ws;
use bytes::{Buf, Bytes};
use futures_util::Stream;

use super::Edge;
use super::carrier::Carrier;
use super::credentials;
use super::handshake::{self, Handshake};
use super::listener::Connection;
use super::problem::Problem;
use super::socket::Socket;
use crate::actors::{Arrived, Link, SessionActor, streaming};
use crate::domain::{Principal, RoomName, TenantId};
use crate::wire::guard::Limits;
use crate::wire::{Assembler, CloseReason, Dialect, From as Since, InboundError, Incoming, Refusal, frame};

/// Opens a WebSocket.
pub async fn open(request: HttpRequest, payload: web::Payload, edge: web::ThinData<Edge>) -> HttpResponse {
    upgrade(&request, payload, &edge).await.unwrap_or_else(|problem| problem.response())
}

async fn upgrade(request: &HttpRequest, payload: web::Payload, edge: &Edge) -> Result<HttpResponse, Problem> {
    let handshake = handshake::check(request)?;
    if edge.worker.registry().draining() {
        return Err(Problem::unavailable(&Refusal::shutting_down()));
    }
    let principal = credentials::presented(request, edge, handshake.token.as_deref()).await?;
    start(request, payload, edge, &handshake, principal, |session| session)
}

/// Opens a WebSocket of StaticBackend's channels; `tenant` is that of the public key, where there is one.
pub fn open_channels(
    request: &HttpRequest,
    payload: web::Payload,
    edge: &Edge,
    tenant: Option<TenantId>,
) -> Result<HttpResponse, Problem> {
    let handshake = Handshake { dialect: Dialect::StaticBackend, ..handshake::check(request)? };
    if edge.worker.registry().draining() {
        return Err(Problem::unavailable(&Refusal::shutting_down()));
    }
    start(request, payload, edge, &handshake, None, |session| session.of_tenant(tenant))
}

/// Opens a WebSocket on which `by` only listens to what happens in `room` after `since`.
pub async fn open_box(
    request: &HttpRequest,
    payload: web::Payload,
    edge: &Edge,
    by: Principal,
    room: &RoomName,
    since: Since,
) -> Result<HttpResponse, Problem> {
    let handshake = Handshake { dialect: Dialect::Misakey, subprotocol: None, ..handshake::check(request)? };
    let connected = connect(request, payload, edge, &handshake, Some(&by))?;
    let Connected { response, connection, link, inbound } = connected;
    let gate = edge.gate.clone();
    let opened = streaming::stream_room_on_socket(&edge.worker, &link, gate, by, room, since, inbound).await;
    opened.map_err(Problem::of)?;
    Ok(Carrier::take_over(response, connection, link, Arc::clone(edge.worker.registry())))
}

/// Starts the session of a connection; `settled` adds what has been settled before.
fn start(
    request: &HttpRequest,
    payload: web::Payload,
    edge: &Edge,
    handshake: &Handshake,
    principal: Option<Principal>,
    settled: impl FnOnce(SessionActor) -> SessionActor + 'static,
) -> Result<HttpResponse, Problem> {
    let connected = connect(request, payload, edge, handshake, principal.as_ref())?;
    let Connected { response, connection, link, inbound } = connected;
    let (worker, gate, its_link) = (Rc::clone(&edge.worker), edge.gate.clone(), Rc::clone(&link));
    SessionActor::create(move |ctx| {
        ctx.add_stream(inbound);
        settled(SessionActor::new(worker, its_link, gate, principal))
    });
    Ok(Carrier::take_over(response, connection, link, Arc::clone(edge.worker.registry())))
}

/// A connection whose handshake is right, before anything has been started for it.
struct Connected<'a> {
    response: HttpResponse,
    connection: &'a Connection,
    link: Rc<Link>,
    inbound: Inbound,
}

fn connect<'a>(
    request: &'a HttpRequest,
    payload: web::Payload,
    edge: &Edge,
    handshake: &Handshake,
    principal: Option<&Principal>,
) -> Result<Connected<'a>, Problem> {
    let guard = edge.door.admit(request, principal)?;
    let connection = request.conn_data::<Connection>();
    let connection = connection.ok_or_else(|| Problem::unavailable(&Refusal::unavailable()))?;
    let mut response = actix_ws::handshake(request)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, Refusal::bad_handshake(error)))?;
    if let Some(subprotocol) = handshake.subprotocol {
        response.insert_header(("Sec-WebSocket-Protocol", subprotocol));
    }

    let link = Rc::new(Link::new(handshake.dialect, Box::new(connection.kill.clone())));
    link.counts_as(guard);
    let socket = Rc::clone(connection.kill.socket());
    let frame_bytes_max = edge.worker.registry().limits().frame_bytes_max;
    let limits = if handshake.dialect.takes_commands() {
        Limits { frame_bytes_max, ..Limits::AUTHENTICATED }
    } else {
        Limits::LISTENER
    };
    let inbound = Inbound::new(payload, socket, Rc::clone(&link), limits);
    Ok(Connected { response: response.finish(), connection, link, inbound })
}

/// What comes in: whole messages, until the first thing that is none.
struct Inbound {
    /// What came with the handshake, as long as HTTP has the socket.
    early: Option<web::Payload>,
    early_bytes: usize,
    socket: Rc<Socket>,
    link: Rc<Link>,
    assembler: Assembler,
    /// Once it is known whose it is.
    limits: Limits,
    /// What has come and has not been put together yet.
    chunk: Bytes,
    /// What has been put together and not been handed on.
    next: Option<Result<Incoming, CloseReason>>,
    ended: bool,
    window: Instant,
}

/// Control frames are counted within this.
const WINDOW: Duration = Duration::from_secs(1);

/// How much is read at once.
const READ_BYTES: usize = 32 * 1024;

/// With so much before the handshake has been answered, actix-http 3.20 stops reading, and drops what it has read beyond
/// it (`h1::payload::MAX_BUFFER_SIZE`). A client that waits for the answer has sent nothing.
const EARLY_BYTES_MAX: usize = 32 * 1024;

thread_local! {
    /// What is read lands here, and only as much as there was is kept: a connection at rest holds no buffer.
    static LANDING: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

impl Inbound {
    fn new(payload: web::Payload, socket: Rc<Socket>, link: Rc<Link>, limits: Limits) -> Self {
        Self {
            early: Some(payload),
            early_bytes: 0,
            socket,
            link,
            assembler: Assembler::new(Limits::BEFORE_AUTH),
            limits,
            chunk: Bytes::new(),
            next: None,
            ended: false,
            window: Instant::now(),
        }
    }

    /// The next bytes: first those that came with the handshake, then those of the socket. None are the end.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        if let Some(early) = &mut self.early {
            match ready!(Pin::new(early).poll_next(cx)) {
                Some(Ok(chunk)) => {
                    self.early_bytes += chunk.len();
                    let whole = self.early_bytes < EARLY_BYTES_MAX;
                    return Poll::Ready(if whole { chunk } else { Bytes::new() });
                }
                // HTTP has let go of the connection.
                Some(Err(_)) | None => self.early = None,
            }
        }
        LANDING.with_borrow_mut(|landing| {
            let read = ready!(self.socket.poll_read(cx, landing)).unwrap_or(0);
            Poll::Ready(Bytes::copy_from_slice(&landing[..read]))
        })
    }

    /// The next message in what has come.
    fn assemble(&mut self) -> Result<Option<Incoming>, CloseReason> {
        if self.chunk.is_empty() {
            return Ok(None);
        }
        if self.link.is_authenticated() {
            self.assembler.set_limits(self.limits);
        }
        let mut rest = &self.chunk[..];
        let next = self.assembler.next(&mut rest);
        let used = self.chunk.len() - rest.len();
        self.chunk.advance(used);
        self.link.hear(self.assembler.in_frame());
        if let Ok(Some(Incoming::Pong(payload))) = &next
            && frame::pong_token(payload).is_some_and(|token| self.link.unproven(token))
        {
            self.assembler.forgive_control_frame();
        }
        next.map_err(InboundError::close_reason)
    }

    fn received(&mut self, chunk: Bytes) {
        self.chunk = chunk;
        if self.window.elapsed() >= WINDOW {
            self.window = Instant::now();
            self.assembler.new_window();
        }
    }
}

impl Inbound {
    /// The next message in what has come already; an error is the last.
    fn assembled(&mut self) -> Option<Result<Incoming, CloseReason>> {
        let next = self.next.take().or_else(|| self.assemble().transpose());
        // Nothing after it can be understood; a stream that went on would yield it for ever.
        self.ended |= matches!(next, Some(Err(_)));
        next
    }
}

impl Stream for Inbound {
    type Item = Result<Arrived, CloseReason>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while !self.ended {
            // A client that does not take its replies does not get to ask for more.
            ready!(self.link.poll_reading(cx));
            if let Some(next) = self.assembled() {
                let Ok(incoming) = next else { return Poll::Ready(next.err().map(Err)) };
                // What is behind a token is read by other rules once it is known whose it is.
                self.next = if self.link.is_authenticated() { self.assemble().transpose() } else { None };
                let more = matches!(self.next, Some(Ok(_)));
                return Poll::Ready(Some(Ok(Arrived { incoming, more })));
            }
            let chunk = ready!(self.poll_bytes(cx));
            self.ended = chunk.is_empty();
            self.received(chunk);
        }
        Poll::Ready(None)
    }
}
