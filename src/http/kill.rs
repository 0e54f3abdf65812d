//! Ending a connection that no longer listens.
//!
//! `shutdown` on its socket would let a reader that wakes up later still have everything the kernel holds; dissolving
//! the association (`connect` to no address, see connect(2)) discards it.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::TcpListener;
use std::rc::{Rc, Weak};
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::middleware::Next;
use actix_web::rt::net::TcpStream;
use actix_web::{Error, HttpResponse, web};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, sockopt};
use tokio::time::{Instant, MissedTickBehavior};

use super::Edge;
use super::listener::Connection;
use super::socket::Socket;
use crate::actors::Cut;

/// What the kernel may hold of a connection, in bytes: on loopback it would hold megabytes for one that does not read.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// After this long without an acknowledgement of what was sent the kernel gives a connection up (RFC 5482).
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the head of a request may take to arrive: a client that drips it holds a connection no longer than that.
/// actix-http 3.20 sees to that for the first request of a connection; for those behind it [`timed`] does.
pub const REQUEST_HEAD: Duration = Duration::from_secs(5);

/// How long a refusal has to be read while its request is still coming in.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How often it is looked whose time is up: so much longer anybody may have.
const ROUND: Duration = Duration::from_millis(250);

/// How often it is looked whether a client that waits is still there.
const LOOK: Duration = Duration::from_secs(1);

/// Marks an answer whose request has a body that nobody reads.
pub struct Unread;

/// Ends one connection.
#[derive(Clone)]
pub struct KillSwitch(Rc<Handle>);

struct Handle {
    socket: Rc<Socket>,
    /// The connection has become one that may last.
    kept: Cell<bool>,
    /// When it is cut unless it has come further by then.
    due: Cell<Instant>,
}

/// Cuts the connections of one thread whose time is up: all of them are looked at together, so that none needs a timer.
#[derive(Clone)]
pub struct Watch(Rc<RefCell<Vec<Weak<Handle>>>>);

impl Watch {
    /// Watches for as long as the thread's event loop runs.
    pub fn start() -> Self {
        let watch = Self(Rc::default());
        let watching = watch.clone();
        actix_web::rt::spawn(async move {
            let mut rounds = tokio::time::interval(ROUND);
            rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                rounds.tick().await;
                watching.look(Instant::now());
            }
        });
        watch
    }

    fn look(&self, now: Instant) {
        self.0.borrow_mut().retain(|handle| {
            // The socket of a connection that has ended is not kept, nor is one that may last watched any more.
            let Some(handle) = handle.upgrade().filter(|handle| !handle.kept.get()) else { return false };
            let in_time = now < handle.due.get();
            if !in_time {
                KillSwitch(handle).cut();
            }
            in_time
        });
    }
}

/// Sets what the kernel has to know of the connections that are going to be accepted: they inherit it (tcp(7), accept(2)
/// of Linux), which saves each of them the calls.
pub fn prepare(listener: &TcpListener) -> io::Result<()> {
    let millis = u32::try_from(USER_TIMEOUT.as_millis()).expect("20,000 fits");
    sockopt::set_tcp_nodelay(listener, true)?;
    sockopt::set_socket_send_buffer_size(listener, SEND_BUFFER_BYTES)?;
    Ok(sockopt::set_tcp_user_timeout(listener, millis)?)
}

/// Ends a connection before anything is known of it.
pub fn refuse(stream: &TcpStream) {
    let _ = net::connect_unspec(stream);
}

impl KillSwitch {
    /// For a connection that has `time` until its first request.
    pub fn new(socket: Rc<Socket>, time: Duration, watch: &Watch) -> Self {
        let due = Cell::new(Instant::now() + time);
        let handle = Rc::new(Handle { socket, kept: Cell::new(false), due });
        watch.0.borrow_mut().push(Rc::downgrade(&handle));
        Self(handle)
    }

    pub fn socket(&self) -> &Rc<Socket> {
        &self.0.socket
    }

    /// Lets the connection last as long as its owner wants.
    pub fn keep(&self) {
        self.0.kept.set(true);
    }

    /// Gives the connection so much more time from now on, or so little.
    pub fn allow(&self, time: Duration) {
        self.0.due.set(Instant::now() + time);
    }

    /// What comes of `work` that may take longer than any answer and ends by itself; the connection has `time` again and
    /// again meanwhile.
    pub async fn while_working<T>(&self, time: Duration, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            self.allow(time);
            if let Ok(done) = tokio::time::timeout(time / 2, &mut work).await {
                return done;
            }
        }
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
        let peeked = self.0.socket.with_fd(|fd| net::recv(fd, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT));
        match peeked {
            Ok((_, bytes)) => bytes == 0,
            Err(Errno::AGAIN | Errno::INTR) => false,
            Err(_) => true,
        }
    }
}

/// Times the requests of a connection that is kept: each from its beginning to its answer, and what is behind the
/// answer, the taking of it, the pause and the head of the next request together. actix-http 3.20 times only the head of
/// the first one and a pause in which nothing comes at all, and waits for ever for the end of a body that nobody reads.
/// Keeps no connection that there is no place for. Stands before everything that may answer.
pub async fn timed(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let edge = request.app_data::<web::ThinData<Edge>>();
    let time = edge.map(|edge| edge.worker.registry().limits().request).unwrap_or_default();
    let connection = request.conn_data::<Connection>().cloned();
    if let Some(Connection { kill, seat, .. }) = &connection {
        if kill.0.kept.get() {
            // It came behind the request of something that lasts, and the connection is HTTP's no longer.
            return Ok(request.into_response(HttpResponse::BadRequest().finish()).map_into_right_body());
        }
        kill.socket().requested();
        if let Some(edge) = edge {
            seat.requested(&edge.worker.registry().limits());
        }
        kill.allow(time);
    }
    let mut answered = next.call(request).await?.map_into_left_body();
    let Some(edge) = answered.request().app_data::<web::ThinData<Edge>>() else { return Ok(answered) };
    let (mut to_stay, draining) = (true, edge.worker.registry().draining());
    if let Some(Connection { kill, seat, .. }) = &connection {
        let unread = answered.response().extensions().get::<Unread>().is_some();
        if unread {
            kill.allow(LAST_WORDS);
        } else {
            kill.allow(time + REQUEST_HEAD);
            kill.socket().answered();
        }
        to_stay = seat.may_stay(&edge.worker.registry().limits());
    }
    if !to_stay || draining {
        answered.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(answered)
}

impl Cut for KillSwitch {
    fn cut(&self) {
        if let Err(error) = self.0.socket.with_fd(|fd| net::connect_unspec(fd)) {
            // The connection was gone already.
            tracing::debug!(%error, "a connection could not be cut");
        }
    }

    /// A socket that has sent all, its end too, and has had that acknowledged and the other end, has no peer any more,
    /// and neither has one that was reset (tcp(7), ip(7)).
    fn is_settled(&self) -> bool {
        self.0.socket.with_fd(|fd| net::getpeername(fd)).is_err_and(|error| error == Errno::NOTCONN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_inherits_what_was_set() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        prepare(&listener).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(sockopt::tcp_nodelay(&accepted).unwrap());
        // Linux gives twice what is asked for, for its own use (socket(7)).
        assert_eq!(sockopt::socket_send_buffer_size(&accepted).unwrap(), 2 * SEND_BUFFER_BYTES);
        assert_eq!(u128::from(sockopt::tcp_user_timeout(&accepted).unwrap()), USER_TIMEOUT.as_millis());
    }
}
