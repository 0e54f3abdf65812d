//! An accepted connection's socket. HTTP has it on loan; what lasts, a WebSocket or an event stream, leaves HTTP behind
//! its head and has the socket for its own, so that no buffer and no future of a request stays with it.
//!
//! An answer that is to last is made with [`Socket::leave`] and has [`Leaving`] for a body. What HTTP writes from then
//! on, the head, is kept here instead of being sent; with the flush behind it HTTP is told that the client has gone,
//! and lets go of the connection. Then [`Socket::poll_own`] is ready: the head goes out together with the first frames.

use std::cell::{Cell, RefCell};
use std::hint;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use actix_web::body::{BodySize, MessageBody};
use actix_web::rt::net::TcpStream;
use bytes::{Bytes, BytesMut};
use rustix::net::{self, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::listener::Connection;
use crate::actors::{Cut, Sink};

/// A read of less than this is a piece.
const PIECE_BYTES: usize = 1024;

/// In so many pieces the head of a request may come: more than a slow line makes of it. One that drips ends its
/// connection: actix-http 3.20 begins the head anew with each piece, and a client makes pieces as cheaply as bytes.
const HEAD_PIECES_MAX: u8 = 64;

/// A socket that HTTP and its later owner share, on one thread.
pub struct Socket {
    io: RefCell<Io>,
    stage: Cell<Stage>,
    /// What HTTP has written since it was left.
    head: RefCell<BytesMut>,
    /// Who waits for the socket to be its own.
    owner: Cell<Option<Waker>>,
    /// In how many pieces the head of the next request has come; `None` while one is answered.
    head_pieces: Cell<Option<u8>>,
}

/// What is spoken on it.
pub enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// HTTP has it.
    Lent,
    /// HTTP writes its last answer's head.
    Leaving,
    /// HTTP has nothing to do with it any more.
    Left,
}

impl Socket {
    pub fn new(io: Io) -> Rc<Self> {
        Rc::new(Self {
            io: RefCell::new(io),
            stage: Cell::new(Stage::Lent),
            head: RefCell::default(),
            owner: Cell::default(),
            head_pieces: Cell::new(Some(0)),
        })
    }

    /// The head of a request has come whole.
    pub fn requested(&self) {
        self.head_pieces.set(None);
    }

    /// What comes next is the head of another request.
    pub fn answered(&self) {
        self.head_pieces.set(Some(0));
    }

    /// Whether the head drips, now that so many bytes have come at once.
    fn drips(&self, bytes: usize) -> bool {
        let Some(pieces) = self.head_pieces.get() else { return false };
        let pieces = if bytes < PIECE_BYTES { pieces.saturating_add(1) } else { pieces };
        self.head_pieces.set(Some(pieces));
        pieces > HEAD_PIECES_MAX
    }

    /// The head that HTTP writes next is its last; the connection is its caller's from then on.
    pub fn leave(&self) {
        self.stage.set(Stage::Leaving);
    }

    /// Ready with the head of the answer, which has still to be sent, when HTTP has let go.
    pub fn poll_own(&self, cx: &Context<'_>) -> Poll<Bytes> {
        if self.stage.get() == Stage::Left {
            return Poll::Ready(self.head.take().freeze());
        }
        self.owner.set(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// Reads what there is into `buffer`; no bytes are the end.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(self.io.borrow_mut().poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Writes as much as goes.
    pub fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match (&mut *self.io.borrow_mut(), slices) {
            // The usual case, for which the kernel has a shorter way.
            (Io::Plain(stream), [only]) => Pin::new(stream).poll_write(cx, only),
            (Io::Plain(stream), _) => Pin::new(stream).poll_write_vectored(cx, slices),
            (Io::Tls(stream), _) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    /// Sends what TLS may still hold.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.borrow_mut().poll_flush(cx)
    }

    /// Says that nothing more comes.
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.borrow_mut().poll_shutdown(cx)
    }

    /// Does something with the socket underneath.
    pub fn with_fd<T>(&self, work: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        work(self.io.borrow().tcp().as_fd())
    }

    fn left(&self) {
        self.stage.set(Stage::Left);
        if let Some(owner) = self.owner.take() {
            owner.wake();
        }
    }
}

/// The way past the carrier while it has nothing to do, to a socket that takes bytes as they are. It does not ask the
/// event loop whether the socket takes any: where it does not, the carrier is told so by the socket, too.
impl Sink for Socket {
    fn try_send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match (&*self.io.borrow(), slices) {
            (Io::Plain(stream), [only]) => Ok(net::send(stream, only, SendFlags::NOSIGNAL)?),
            (Io::Plain(stream), _) => stream.try_write_vectored(slices),
            (Io::Tls(_), _) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn look_ahead(&self) {
        hint::black_box(self.io.borrow().tcp().as_raw_fd());
    }
}

impl Io {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// The socket as HTTP has it.
pub struct Lent {
    connection: Connection,
}

impl Lent {
    pub fn new(connection: Connection) -> Self {
        Self { connection }
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    fn socket(&self) -> &Socket {
        self.connection.kill.socket()
    }
}

impl Lent {
    fn poll_request(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.socket().io.borrow_mut().poll_read(cx, buffer))?;
        if self.socket().drips(buffer.filled().len() - before) {
            self.connection.kill.cut();
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Lent {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.socket().stage.get() {
            Stage::Lent => self.poll_request(cx, buffer),
            // What comes is its owner's; the flush behind the head has HTTP look again.
            Stage::Leaving => Poll::Pending,
            Stage::Left => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Lent {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.socket().stage.get() {
            Stage::Lent => self.socket().poll_write(cx, &[IoSlice::new(bytes)]),
            Stage::Leaving => {
                self.socket().head.borrow_mut().extend_from_slice(bytes);
                Poll::Ready(Ok(bytes.len()))
            }
            // An answer to what came behind the request: nobody may take it for a part of the stream.
            Stage::Left => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.socket().stage.get() {
            Stage::Lent => return self.socket().poll_flush(cx),
            Stage::Leaving if self.socket().head.borrow().is_empty() => {}
            Stage::Leaving => {
                self.socket().left();
                cx.waker().wake_by_ref();
            }
            Stage::Left => {}
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.socket().stage.get() {
            Stage::Lent => self.socket().poll_shutdown(cx),
            Stage::Leaving | Stage::Left => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.socket().left();
    }
}

/// The body of an answer whose connection leaves HTTP: it has none there. It ends when HTTP looks at it again behind
/// the flush of the head, so that nothing is answered before that.
#[derive(Default)]
pub struct Leaving(Cell<bool>);

impl MessageBody for Leaving {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.0.replace(true) { Poll::Ready(None) } else { Poll::Pending }
    }
}
