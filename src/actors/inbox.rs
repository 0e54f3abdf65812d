//! A user's inbox: the rooms the user is in, and the live sessions that want to hear when that changes.
//!
//! It needs no actor: the rooms are rows, and who wants to hear stands in a table of the registry, so that a connection
//! costs no hop to another thread.

use std::sync::Arc;

use actix::{Message, Recipient};

use super::registry::Registry;
use crate::domain::policy::Standing;
use crate::domain::{Role, RoomId, StreamId, TenantId, UserId};
use crate::store::rows::{self, Place, Row};
use crate::store::{Store, StoreError};
use crate::wire::Listed;

/// A session that hears of changes in its user's rooms, for as long as it holds this.
pub struct Attached {
    registry: Arc<Registry>,
    key: (TenantId, UserId),
    session: Recipient<RoomsChanged>,
}

impl Attached {
    /// Attaches a session. What is committed from now on it is told.
    pub fn new(registry: &Arc<Registry>, tenant: &TenantId, user: &UserId, session: Recipient<RoomsChanged>) -> Self {
        let (registry, key) = (Arc::clone(registry), (tenant.clone(), user.clone()));
        registry.attach(&key, session.clone());
        Self { registry, key, session }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.registry.detach(&self.key, &self.session);
    }
}

/// The user gained or lost a room, or became something else in it. It is on disk already.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub enum RoomsChanged {
    Gained { room: RoomId, role: Role, standing: Standing },
    Lost { room: RoomId },
}

/// Some of a user's rooms.
pub struct Listing {
    pub rooms: Vec<Listed>,
    /// Whether there are others.
    pub more: bool,
}

/// The user's rooms after `after`, in the order of their ids. Wakes nobody.
pub async fn list_rooms(
    store: &dyn Store,
    tenant: &TenantId,
    user: &UserId,
    after: Option<RoomId>,
    limit: usize,
) -> Result<Listing, StoreError> {
    let stream = StreamId::User(tenant.clone(), user.clone());
    let after = after.map(rows::place);
    let found = store.scan(&stream, rows::PLACES, after.as_deref(), limit + 1).await?;
    let rooms = found.iter().take(limit).map(|(key, row)| {
        let place = Place::decode(row)?;
        Ok(Listed { room: rows::room_of(key)?, kind: place.kind, role: place.role, standing: place.standing })
    });
    Ok(Listing { rooms: rooms.collect::<Result<_, _>>()?, more: found.len() > limit })
}
