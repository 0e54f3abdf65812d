//! WebSockets: the handshake, the stream of what comes in, and the body of what goes out. The session actor is started
//! between the two.

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
use super::body::Body;
use super::credentials;
use super::handshake::{self, Handshake};
use super::kill::KillSwitch;
use super::problem::Problem;
use crate::actors::{Link, SessionActor, TRAFFIC};
use crate::wire::guard::Limits;
use crate::wire::{Assembler, CloseReason, InboundError, Incoming, Refusal, frame};

/// Opens a WebSocket.
pub async fn open(request: HttpRequest, payload: web::Payload, edge: web::ThinData<Edge>) -> HttpResponse {
    upgrade(&request, payload, &edge).await.unwrap_or_else(|problem| problem.response())
}

async fn upgrade(request: &HttpRequest, payload: web::Payload, edge: &Edge) -> Result<HttpResponse, Problem> {
    let Handshake { dialect, subprotocol, token } = handshake::check(request)?;
    let registry = edge.worker.registry();
    if registry.draining() {
        return Err(Problem::unavailable(&Refusal::shutting_down()));
    }
    let principal = credentials::presented(request, edge, token.as_deref()).await?;
    let guard = edge.door.admit(request, principal.as_ref())?;
    let kill = request.conn_data::<KillSwitch>().cloned();
    let kill = kill.ok_or_else(|| Problem::unavailable(&Refusal::unavailable()))?;
    let mut response = actix_ws::handshake(request)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, Refusal::bad_handshake(error)))?;
    if let Some(subprotocol) = subprotocol {
        response.insert_header(("Sec-WebSocket-Protocol", subprotocol));
    }

    kill.keep();
    let link = Rc::new(Link::new(dialect, Box::new(kill)));
    link.counts_as(guard);
    let inbound = Inbound::new(payload, Rc::clone(&link), registry.limits().frame_bytes_max);
    let (worker, gate, its_link) = (Rc::clone(&edge.worker), edge.gate.clone(), Rc::clone(&link));
    SessionActor::create(move |ctx| {
        ctx.add_stream(inbound);
        SessionActor::new(worker, its_link, gate, principal)
    });
    tracing::info!(target: TRAFFIC, authenticated = link.is_authenticated(), "connection opened");
    Ok(response.streaming(Body::of(link, Arc::clone(edge.worker.registry()))))
}

/// What comes in: whole messages, until the first thing that is none.
struct Inbound {
    payload: web::Payload,
    link: Rc<Link>,
    assembler: Assembler,
    frame_bytes_max: u64,
    /// What has come and has not been put together yet.
    chunk: Bytes,
    ended: bool,
    window: Instant,
}

/// Control frames are counted within this.
const WINDOW: Duration = Duration::from_secs(1);

impl Inbound {
    fn new(payload: web::Payload, link: Rc<Link>, frame_bytes_max: u64) -> Self {
        Self {
            payload,
            link,
            assembler: Assembler::new(Limits::BEFORE_AUTH),
            frame_bytes_max,
            chunk: Bytes::new(),
            ended: false,
            window: Instant::now(),
        }
    }

    /// The next message in what has come.
    fn assemble(&mut self) -> Result<Option<Incoming>, CloseReason> {
        if self.link.is_authenticated() {
            self.assembler.set_limits(Limits { frame_bytes_max: self.frame_bytes_max, ..Limits::AUTHENTICATED });
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

impl Stream for Inbound {
    type Item = Result<Incoming, CloseReason>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while !self.ended {
            // A client that does not take its replies does not get to ask for more.
            ready!(self.link.poll_reading(cx));
            if !self.chunk.is_empty() {
                match self.assemble() {
                    Ok(Some(incoming)) => return Poll::Ready(Some(Ok(incoming))),
                    Ok(None) => {}
                    Err(reason) => {
                        // Nothing after it can be understood; a stream that went on would yield it for ever.
                        self.ended = true;
                        return Poll::Ready(Some(Err(reason)));
                    }
                }
            }
            match ready!(Pin::new(&mut self.payload).poll_next(cx)) {
                Some(Ok(chunk)) => self.received(chunk),
                Some(Err(_)) | None => self.ended = true,
            }
        }
        Poll::Ready(None)
    }
}
