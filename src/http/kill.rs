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
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use rustix::net::sockopt;

use crate::actors::Cut;

/// What the kernel may hold of a connection, in bytes: on loopback it would hold megabytes for one that does not read.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// After this long without an acknowledgement of what was sent the kernel gives a connection up (RFC 5482).
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a connection may take that is no WebSocket, from its acceptance to the end of its answer. actix-http 3.20
/// gives the head of a request a time, but waits for ever for the end of a chunked body that nobody reads.
const REQUEST: Duration = Duration::from_secs(10);

/// The second handle on one connection.
#[derive(Clone)]
pub struct KillSwitch(Rc<Handle>);

struct Handle {
    socket: OwnedFd,
    /// The connection has become one that may last.
    kept: Cell<bool>,
}

/// Prepares an accepted connection; returns its second handle, if there is one.
pub fn on_connect(io: &dyn Any, extensions: &mut Extensions) -> Option<KillSwitch> {
    let stream = tcp_of(io)?;
    if let Err(error) = prepare(stream) {
        tracing::debug!(%error, "a socket option could not be set");
    }
    match stream.as_fd().try_clone_to_owned() {
        Ok(socket) => {
            let switch = KillSwitch(Rc::new(Handle { socket, kept: Cell::new(false) }));
            switch.expect_request();
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

    fn expect_request(&self) {
        // Does not keep the socket of a connection that has ended meanwhile.
        let handle = Rc::downgrade(&self.0);
        actix_web::rt::spawn(async move {
            tokio::time::sleep(REQUEST).await;
            if let Some(handle) = handle.upgrade()
                && !handle.kept.get()
            {
                Self(handle).cut();
            }
        });
    }
}

impl Cut for KillSwitch {
    fn cut(&self) {
        if let Err(error) = rustix::net::connect_unspec(&self.0.socket) {
            // The connection was gone already.
            tracing::debug!(%error, "a connection could not be cut");
        }
    }
}
