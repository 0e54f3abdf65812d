//! Carries what waits in a connection's outbox to its socket, and nothing else, so that a client that does not read
//! stops nothing but itself. The same for WebSockets and event streams.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_web::HttpResponse;

use super::listener::Connection;
use super::socket::{Leaving, Socket};
use super::visit::Visitors;
use crate::actors::{Kind, Link, Registry, Sink, TRAFFIC};

/// How much of what is sent behind the request for a stream is passed over: requests behind it, by mistake.
const UNASKED_BYTES_MAX: usize = 64 * 1024;

/// Carries until the connection has nothing more to say, or is gone.
pub struct Carrier {
    socket: Rc<Socket>,
    link: Rc<Link>,
    registry: Arc<Registry>,
    stage: Stage,
    /// What has come from a client that only listens.
    unasked: usize,
    /// Who was shown something on the connection before, and is reached through it.
    _visitors: Visitors,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// HTTP still has the socket.
    Opening,
    Open,
    /// All has been said.
    Ending,
}

impl Carrier {
    /// Takes the connection over behind the head of `response`.
    pub fn take_over(
        mut response: HttpResponse,
        connection: &Connection,
        link: Rc<Link>,
        registry: Arc<Registry>,
    ) -> HttpResponse {
        tracing::info!(target: TRAFFIC, authenticated = link.is_authenticated(), "connection opened");
        connection.kill.keep();
        let socket = Rc::clone(connection.kill.socket());
        socket.leave();
        let visitors = connection.visitors.clone();
        actix_web::rt::spawn(Self { socket, link, registry, stage: Stage::Opening, unasked: 0, _visitors: visitors });
        // Its end is the end of the connection.
        response.head_mut().no_chunking(true);
        response.map_body(|_, _| actix_web::body::BoxBody::new(Leaving::default()))
    }

    fn poll_carry(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stage == Stage::Opening {
            self.link.outbox.begin(ready!(self.socket.poll_own(cx)));
            self.link.outbox.connect(Rc::clone(&self.socket) as Rc<dyn Sink>);
            self.stage = Stage::Open;
        }
        if self.stage == Stage::Open {
            self.poll_gone(cx)?;
            let (socket, metrics) = (&self.socket, self.registry.metrics());
            let send = |cx: &mut Context<'_>, slices: &[IoSlice<'_>]| {
                let sent = ready!(socket.poll_write(cx, slices))?;
                metrics.sent_bytes.inc_by(sent as u64);
                Poll::Ready(Ok(sent))
            };
            let sent = self.link.outbox.poll_send(cx, send, || self.link.drained());
            if sent.is_pending() {
                // What TLS holds goes out, or is asked for again when the socket takes it.
                let _ = self.socket.poll_flush(cx)?;
            }
            ready!(sent)?;
            self.link.gone();
            self.stage = Stage::Ending;
        }
        self.socket.poll_shutdown(cx)
    }

    /// Notices that who only listens has left. What it says is not looked at, and who says a lot is let go of.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.link.kind() {
            Kind::Events => {
                while let Poll::Ready(bytes) = self.socket.poll_read(cx, &mut [0; 1024])? {
                    self.unasked += bytes;
                    if bytes == 0 || self.unasked > UNASKED_BYTES_MAX {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Ok(())
            }
            Kind::Socket | Kind::Request | Kind::Command => Ok(()),
        }
    }
}

impl Future for Carrier {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Err(error) = ready!(self.poll_carry(cx)) {
            tracing::debug!(%error, "a connection broke");
        }
        Poll::Ready(())
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        let seconds = self.link.opened().elapsed().as_secs();
        tracing::info!(target: TRAFFIC, seconds, authenticated = self.link.is_authenticated(), "connection closed");
        self.link.gone();
    }
}
