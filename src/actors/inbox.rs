//! A user's inbox: the rooms the user is in, and the live sessions that want to hear when that changes.

use std::sync::Arc;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, Recipient, ResponseFuture};

use super::failure::read_failed;
use super::registry::Registry;
use crate::domain::policy::Standing;
use crate::domain::{Role, RoomId, StreamId, TenantId, UserId};
use crate::store::rows::{self, Place, Row};
use crate::wire::{Listed, Refusal};

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

/// Asks for the user's rooms after `after`, in the order of their ids; `more` says whether there are others.
#[derive(Message)]
#[rtype(result = "Result<Listing, Refusal>")]
pub struct ListRooms {
    pub after: Option<RoomId>,
    pub limit: usize,
}

/// Some of a user's rooms.
pub struct Listing {
    pub rooms: Vec<Listed>,
    pub more: bool,
}

impl Handler<ListRooms> for InboxActor {
    type Result = ResponseFuture<Result<Listing, Refusal>>;

    fn handle(&mut self, list: ListRooms, _: &mut Self::Context) -> Self::Result {
        let store = Arc::clone(self.registry.store());
        let stream = StreamId::User(self.tenant.clone(), self.user.clone());
        Box::pin(async move {
            let after = list.after.map(rows::place);
            let found = store.scan(&stream, rows::PLACES, after.as_deref(), list.limit + 1).await;
            let found = found.map_err(|error| read_failed(&error))?;
            let more = found.len() > list.limit;
            let rooms = found.iter().take(list.limit).map(|(key, row)| {
                let place = Place::decode(row)?;
                let room = rows::room_of(key)?;
                Ok(Listed { room, kind: place.kind, role: place.role, standing: place.standing })
            });
            let rooms = rooms.collect::<Result<_, _>>().map_err(|error| read_failed(&error))?;
            Ok(Listing { rooms, more })
        })
    }
}
