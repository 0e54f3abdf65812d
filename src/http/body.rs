//! The body of what lasts, a WebSocket or an event stream: passive, it only drains the connection's outbox, so a
//! client that does not read stops nothing but itself.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;

use crate::actors::Link;

/// What goes out.
pub struct Body {
    link: Rc<Link>,
}

impl Body {
    pub fn of(link: Rc<Link>) -> Self {
        Self { link }
    }
}

impl Stream for Body {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.link.outbox.poll_take(cx, || self.link.drained()).map(|taken| taken.map(Ok))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.link.gone();
    }
}
