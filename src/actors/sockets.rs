//! Connections that are called something, and what is said to them by requests beside them.
//!
//! In some dialects a client that only listens speaks by requests which name its connection. A name is no secret: who speaks
//! to a connection has to be who it belongs to, once it belongs to somebody.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use actix::{Message, Recipient};
use bytes::Bytes;
use uuid::Uuid;

use crate::domain::Principal;
use crate::wire::Refusal;

/// Something that is said to a connection beside it; answered when it has been taken, not when it has been carried out.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Said {
    pub payload: Bytes,
    /// Who says it, where that has been shown.
    pub by: Option<Principal>,
}

/// All connections that are called something.
#[derive(Default)]
pub struct Sockets(Mutex<HashMap<Uuid, Recipient<Said>>>);

impl Sockets {
    pub fn open(&self, socket: Uuid, session: Recipient<Said>) {
        self.lock().insert(socket, session);
    }

    pub fn close(&self, socket: Uuid) {
        self.lock().remove(&socket);
    }

    pub fn get(&self, socket: Uuid) -> Option<Recipient<Said>> {
        self.lock().get(&socket).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Recipient<Said>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
