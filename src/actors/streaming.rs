//! Opening a connection whose client only listens, to what was settled before it began: an event stream, or the socket of
//! a box.

use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, AsyncContext};
use futures_util::Stream;

use super::link::Link;
use super::reading::{Admitted, open};
use super::session::{Arrived, Gate, SessionActor};
use super::worker::{Follower, Worker};
use super::world::{Opened, follow_all};
use crate::domain::{Principal, RoomName};
use crate::wire::{CloseReason, From as Since, Notice, Refusal};

/// Streams what happens in `room`, from `since` on, to `by`, whose connection is `link`. When this returns `Ok`, a
/// session looks after the link and its outbox begins with the place where the stream stands; with a refusal nothing
/// has been started, and the connection may be used for something else.
pub async fn stream_room(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    gate: Arc<dyn Gate>,
    by: Principal,
    room: &RoomName,
    since: Since,
) -> Result<(), Refusal> {
    let (follower, by) = open_room(worker, link, by, room, since).await?;
    let (worker, link) = (Rc::clone(worker), Rc::clone(link));
    SessionActor::create(move |_| SessionActor::streaming(worker, link, gate, by, [follower]));
    Ok(())
}

/// As [`stream_room`], over a socket. What comes by it is `inbound`, of which only signs of life are heeded.
pub async fn stream_room_on_socket(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    gate: Arc<dyn Gate>,
    by: Principal,
    room: &RoomName,
    since: Since,
    inbound: impl Stream<Item = Result<Arrived, CloseReason>> + 'static,
) -> Result<(), Refusal> {
    let (follower, by) = open_room(worker, link, by, room, since).await?;
    let (worker, link) = (Rc::clone(worker), Rc::clone(link));
    SessionActor::create(move |ctx| {
        ctx.add_stream(inbound);
        SessionActor::streaming(worker, link, gate, by, [follower])
    });
    Ok(())
}

async fn open_room(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    by: Principal,
    room: &RoomName,
    since: Since,
) -> Result<(Rc<Follower>, Principal), Refusal> {
    let opening = Opening::new(worker, link, by);
    let registry = worker.registry();
    if registry.draining() {
        // Those who are told that the server stops are told once; whoever comes later looks for itself.
        return Err(Refusal::shutting_down());
    }
    let open = async {
        let key = registry.resolve_for(&opening.by, room).await?;
        let registration = worker.register(key, opening.by.user.clone(), link);
        let admitted = open(registry, registration.follower(), since).await?;
        Ok::<_, Refusal>((registration, admitted))
    };
    let opened = registry.look_up(&opening.by, open);
    let time = registry.limits().answer_timeout;
    let opened = tokio::time::timeout(time, opened).await.map_err(|_| Refusal::unavailable())??;
    let (registration, Admitted { at, head, gap }) = opened;
    // From where it was opened up to here nothing has been waited for, so no record can have come before this.
    let room = registration.follower().room().clone();
    let id = room.room;
    let (epoch, heartbeat) = (registry.store().epoch(), registry.limits().comment);
    link.notify(&Notice::Streaming { epoch, heartbeat, room, at, head });
    if let Some(gap) = gap {
        link.notify(&Notice::Gap { room: id, gap });
    }
    let (follower, by) = (registration.keep(), opening.done());
    worker.greet(&follower);
    Ok((follower, by))
}

/// As [`stream_room`], of all rooms of `by`.
pub async fn stream_world(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    gate: Arc<dyn Gate>,
    by: Principal,
    since: Since,
) -> Result<(), Refusal> {
    let opening = Opening::new(worker, link, by);
    let registry = worker.registry();
    if registry.draining() {
        return Err(Refusal::shutting_down());
    }
    let (epoch, heartbeat) = (registry.store().epoch(), registry.limits().comment);
    let its_link = Rc::clone(link);
    let greet = move |Opened { cursor, rooms }| {
        its_link.notify(&Notice::StreamingAll { epoch, heartbeat, cursor, rooms });
    };
    let world = follow_all(worker, link, opening.by.clone(), since, greet).await?;
    let by = opening.done();
    let (worker, link) = (Rc::clone(worker), Rc::clone(link));
    SessionActor::create(move |_| SessionActor::streaming_world(worker, link, gate, by, world));
    Ok(())
}

/// A connection on which a stream is being opened: known to its worker as its user's, so that a removal reaches it.
/// Dropped without [`Opening::done`], also with a request that is given up half-way, it is forgotten again.
pub struct Opening {
    worker: Rc<Worker>,
    link: Rc<Link>,
    by: Principal,
    done: bool,
}

impl Opening {
    pub fn new(worker: &Rc<Worker>, link: &Rc<Link>, by: Principal) -> Self {
        worker.open(link);
        worker.authenticated(link, &by);
        Self { worker: Rc::clone(worker), link: Rc::clone(link), by, done: false }
    }

    /// Whose it is. From here on its session tidies up.
    pub fn done(mut self) -> Principal {
        self.done = true;
        self.by.clone()
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if !self.done {
            self.worker.forget(&self.link, &self.by);
        }
    }
}
