//! Ending a connection that no longer listens.
//!
//! A second handle on the connection's socket is taken when it is accepted. `shutdown` on it would let a reader that
//! wakes up later still have everything the kernel holds; dissolving the association (`connect` to no address, see
//! connect(2)) discards it.

use std::any::Any;
use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::body::MessageBody;
use actix_web::dev::{Extensions, ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::middleware::Next;
use actix_web::rt::net::TcpStream;
use actix_web::{Error, web};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, sockopt};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Edge;
use crate::actors::{Cut, Seat};

/// What the kernel may hold of a connection, in bytes: on loopback it would hold megabytes for one that does not read.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// After this long without an acknowledgement of what was sent the kernel gives a connection up (RFC 5482).
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the head of a request may take to arrive: a client that drips it holds a connection no longer than that.
/// actix-http 3.20 sees to that for the first request of a connection; for those behind it [`timed`] does.
pub const REQUEST_HEAD: Duration = Duration::from_secs(5);

/// How long a refusal has to be read while its request is still coming in.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How often it is looked whether a client that waits is still there.
const LOOK: Duration = Duration::from_secs(1);

/// Marks an answer whose request has a body that nobody reads.
pub struct Unread;

/// The second handle on one connection.
#[derive(Clone)]
pub struct KillSwitch(Rc<Handle>);

struct Handle {
    socket: OwnedFd,
    /// The connection has become one that may last.
    kept: Cell<bool>,
    /// When it is cut unless it has come further by then.
    due: Cell<Instant>,
    /// `due` has moved.
    moved: Rc<Notify>,
}

/// Prepares an accepted connection, which has `time` until its first request; returns its second handle, if there is
/// one.
pub fn on_connect(io: &dyn Any, extensions: &mut Extensions, time: Duration) -> Option<KillSwitch> {
    let stream = tcp_of(io)?;
    if let Err(error) = prepare(stream) {
        tracing::debug!(%error, "a socket option could not be set");
    }
    match stream.as_fd().try_clone_to_owned() {
        Ok(socket) => {
            let (due, moved) = (Cell::new(Instant::now() + time), Rc::new(Notify::new()));
            let switch = KillSwitch(Rc::new(Handle { socket, kept: Cell::new(false), due, moved }));
            switch.watch();
            extensions.insert(switch.clone());
            Some(switch)
        }
        Err(error) => {
            tracing::warn!(%error, "no second handle for a connection; it will not be able to open a socket");
            None
        }
    }
}

/// The connection's socket, under TLS where that is spoken.
pub fn tcp_of(io: &dyn Any) -> Option<&TcpStream> {
    let encrypted = io.downcast_ref::<TlsStream<TcpStream>>().map(|stream| stream.get_ref().0);
    encrypted.or_else(|| io.downcast_ref())
}

fn prepare(stream: &TcpStream) -> rustix::io::Result<()> {
    let millis = u32::try_from(USER_TIMEOUT.as_millis()).expect("20,000 fits");
    sockopt::set_tcp_nodelay(stream, true)?;
    sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER_BYTES)?;
    sockopt::set_tcp_user_timeout(stream, millis)
}

impl KillSwitch {
    /// Lets the connection last as long as its owner wants.
    pub fn keep(&self) {
        self.0.kept.set(true);
    }

    /// Gives the connection so much more time from now on, or so little.
    pub fn allow(&self, time: Duration) {
        self.0.due.set(Instant::now() + time);
        self.0.moved.notify_one();
    }

    /// What comes of `work`, unless the client goes away meanwhile: who is answered by nobody keeps its place no longer.
    /// actix-http 3.20 lets a handler run on to its end.
    pub async fn while_there<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let left = async {
            loop {
                tokio::time::sleep(LOOK).await;
                if self.has_left() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = left => None,
        }
    }

    /// Whether the client has closed the connection, or its half: then there is an end to read.
    fn has_left(&self) -> bool {
        let mut byte = [0_u8];
        match net::recv(&self.0.socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, bytes)) => bytes == 0,
            Err(Errno::AGAIN | Errno::INTR) => false,
            Err(_) => true,
        }
    }

    /// Cuts the connection when its time is up.
    fn watch(&self) {
        // Does not keep the socket of a connection that has ended meanwhile.
        let (handle, moved) = (Rc::downgrade(&self.0), Rc::clone(&self.0.moved));
        actix_web::rt::spawn(async move {
            while let Some(handle) = handle.upgrade().filter(|handle| !handle.kept.get()) {
                let due = handle.due.get();
                if due <= Instant::now() {
                    return Self(handle).cut();
                }
                drop(handle);
                tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = moved.notified() => {}
                }
            }
        });
    }
}

/// Times the requests of a connection that is kept: each from its beginning to its answer, and what is behind the
/// answer, the taking of it, the pause and the head of the next request together. actix-http 3.20 times only the head of
/// the first one and a pause in which nothing comes at all, and waits for ever for the end of a body that nobody reads.
/// Keeps no connection that there is no place for. Stands before everything that may answer.
pub async fn timed(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let edge = request.app_data::<web::ThinData<Edge>>();
    let time = edge.map(|edge| edge.worker.registry().limits().request).unwrap_or_default();
    let kill = request.conn_data::<KillSwitch>().cloned();
    if let Some((seat, edge)) = request.conn_data::<Rc<Seat>>().zip(edge) {
        seat.requested(&edge.worker.registry().limits());
    }
    if let Some(kill) = &kill {
        kill.allow(time);
    }
    let mut answered = next.call(request).await?;
    if let Some(kill) = &kill {
        let unread = answered.response().extensions().get::<Unread>().is_some();
        kill.allow(if unread { LAST_WORDS } else { time + REQUEST_HEAD });
    }
    let edge = answered.request().app_data::<web::ThinData<Edge>>();
    let seat = answered.request().conn_data::<Rc<Seat>>();
    let to_stay = seat.zip(edge).is_none_or(|(seat, edge)| seat.may_stay(&edge.worker.registry().limits()));
    if !to_stay || edge.is_some_and(|edge| edge.worker.registry().draining()) {
        answered.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(answered)
}

impl Cut for KillSwitch {
    fn cut(&self) {
        if let Err(error) = net::connect_unspec(&self.0.socket) {
            // The connection was gone already.
            tracing::debug!(%error, "a connection could not be cut");
        }
    }

    /// A socket that has sent all, its end too, and has had that acknowledged and the other end, has no peer any more,
    /// and neither has one that was reset (tcp(7), ip(7)).
    fn is_settled(&self) -> bool {
        net::getpeername(&self.0.socket).is_err_and(|error| error == Errno::NOTCONN)
    }
}
