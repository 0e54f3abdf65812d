//! The body of what lasts, a WebSocket or an event stream: passive, it only drains the connection's outbox, so a
//! client that does not read stops nothing but itself.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;

use crate::actors::{Link, Registry, TRAFFIC};

/// What goes out.
pub struct Body {
    registry: Arc<Registry>,
    link: Rc<Link>,
}

impl Body {
    pub fn of(link: Rc<Link>, registry: Arc<Registry>) -> Self {
        Self { registry, link }
    }
}

impl Stream for Body {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let taken = ready!(self.link.outbox.poll_take(cx, || self.link.drained()));
        if let Some(bytes) = &taken {
            self.registry.metrics().sent_bytes.inc_by(bytes.len() as u64);
        }
        Poll::Ready(taken.map(Ok))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let seconds = self.link.opened().elapsed().as_secs();
        tracing::info!(target: TRAFFIC, seconds, authenticated = self.link.is_authenticated(), "connection closed");
        self.link.gone();
    }
}
