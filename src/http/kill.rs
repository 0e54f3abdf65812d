//! Ending a connection that no longer listens.
//!
//! A second handle on the connection's socket is taken when it is accepted. `shutdown` on it would let a reader that
//! wakes up later still have everything the kernel holds; dissolving the association (`connect` to no address, see
//! connect(2)) discards it.

use std::any::Any;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use rustix::net::sockopt;

use crate::actors::Cut;

/// What the kernel may hold of a connection, in bytes: on loopback it would hold megabytes for one that does not read.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// After this long without an acknowledgement of what was sent the kernel gives a connection up (RFC 5482).
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// The second handle on one connection.
#[derive(Clone)]
pub struct KillSwitch(Rc<OwnedFd>);

/// Prepares an accepted connection.
pub fn on_connect(io: &dyn Any, extensions: &mut Extensions) {
    let Some(stream) = io.downcast_ref::<TcpStream>() else { return };
    if let Err(error) = prepare(stream) {
        tracing::debug!(%error, "a socket option could not be set");
    }
    match stream.as_fd().try_clone_to_owned() {
        Ok(handle) => {
            extensions.insert(KillSwitch(Rc::new(handle)));
        }
        Err(error) => tracing::warn!(%error, "no second handle for a connection; it will not be able to open a socket"),
    }
}

fn prepare(stream: &TcpStream) -> rustix::io::Result<()> {
    let millis = u32::try_from(USER_TIMEOUT.as_millis()).expect("20,000 fits");
    sockopt::set_tcp_nodelay(stream, true)?;
    sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER_BYTES)?;
    sockopt::set_tcp_user_timeout(stream, millis)
}

impl Cut for KillSwitch {
    fn cut(&self) {
        if let Err(error) = rustix::net::connect_unspec(&*self.0) {
            // The connection was gone already.
            tracing::debug!(%error, "a connection could not be cut");
        }
    }
}
