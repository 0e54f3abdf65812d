//! A user's inbox: the rooms the user is in, and the live sessions that want to hear when that changes.

use std::sync::Arc;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, Recipient};

use super::registry::Registry;
use crate::domain::policy::Standing;
use crate::domain::{Role, RoomId, StreamId, TenantId, UserId};
use crate::store::rows::{self, Place, Row};
use crate::store::{Store, StoreError};
use crate::wire::Listed;

/// Hosts one user's inbox while the user has sessions here.
pub struct InboxActor {
    registry: Arc<Registry>,
    tenant: TenantId,
    user: UserId,
    sessions: Vec<Recipient<RoomsChanged>>,
    attached: u64,
}

impl InboxActor {
    pub fn new(registry: Arc<Registry>, tenant: TenantId, user: UserId) -> Self {
        Self { registry, tenant, user, sessions: Vec::new(), attached: 0 }
    }
}

impl Actor for InboxActor {
    type Context = Context<Self>;
}

/// A session of the user wants to hear of changes.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Attach {
    pub session: Recipient<RoomsChanged>,
}

impl Handler<Attach> for InboxActor {
    type Result = ();

    fn handle(&mut self, attach: Attach, _: &mut Self::Context) {
        self.attached += 1;
        self.sessions.push(attach.session);
    }
}

/// A session has ended.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Detach {
    pub session: Recipient<RoomsChanged>,
}

impl Handler<Detach> for InboxActor {
    type Result = ();

    fn handle(&mut self, detach: Detach, ctx: &mut Self::Context) {
        self.sessions.retain(|session| *session != detach.session && session.connected());
        if self.sessions.is_empty()
            && self.registry.retire_inbox(&self.tenant, &self.user, &ctx.address(), self.attached)
        {
            ctx.stop();
        }
    }
}

/// The user gained or lost a room, or became something else in it. It is on disk already.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub enum RoomsChanged {
    Gained { room: RoomId, role: Role, standing: Standing },
    Lost { room: RoomId },
}

impl Handler<RoomsChanged> for InboxActor {
    type Result = ();

    #[expect(clippy::disallowed_methods, reason = "one per session and committed change of a membership")]
    fn handle(&mut self, change: RoomsChanged, _: &mut Self::Context) {
        for session in &self.sessions {
            session.do_send(change);
        }
    }
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
