//! One client connection: it decodes what comes in, asks rooms, and follows them for its user.
//!
//! Commands are carried out in the order in which they came: a command for a room is handed over before the next is
//! looked at, and everything else waits until the commands before it have been answered. The session never writes to
//! a socket; replies and pages go into the link's outbox.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, ActorStreamExt, Addr, AsyncContext, Context, Handler, Recipient,
    StreamHandler, WrapFuture, WrapStream,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::asking::{self, done, publishes};
use super::channels::Channels;
use super::connections;
use super::failure::read_failed;
use super::inbox::{Attach, Detach, InboxActor, RoomsChanged};
use super::limits::{Rate, names};
use super::link::{Kind, Link, News};
use super::outbox;
use super::overview;
use super::pages::FramedPage;
use super::profiles::Introductions;
use super::rates::Limiter;
use super::reading::{Admitted, open};
use super::registry::{Registry, Sheaf, With};
use super::room::Answer;
use super::worker::{Follower, Registration, Worker};
use super::world::{Opened, WorldFollow, follow_all};
use crate::domain::session::Generation;
use crate::domain::{Position, Principal, Profile, RoomId, RoomKey, RoomName, TenantId, Timestamp, UserId};
use crate::store::StoreError;
use crate::wire::frame::{self, Opcode};
use crate::wire::guard::Limits;
use crate::wire::{
    Ask, ChannelAsk, CloseReason, From as Since, Incoming, Notice, Refusal, Reply, Request, UserProfile,
};

/// How many frames that cannot be understood a connection may send in all.
const BAD_FRAMES_MAX: u32 = 16;

/// How long a connection with too many commands under way is asked to wait.
const BUSY: Duration = Duration::from_millis(100);

/// With so much more waiting in the control lane than after the last reply to a command of its own, a connection is not
/// told of changes in its rooms any more, but closed.
const NOTICES_BYTES_MAX: usize = 4 * outbox::CONTROL_BYTES_MAX;

/// How many frames of any kind a connection may send for each that changes a room: enough to follow all of its rooms
/// and to read on at once after it has come back.
const FRAMES_PER_MESSAGE: u32 = 4;

/// How many names of rooms a session remembers.
const NAMES_MAX: usize = 256;

/// Says who a token belongs to.
pub trait Gate: Send + Sync {
    /// Whose token this is at `now`. May look a key up elsewhere, for a few seconds at most.
    fn admit<'a>(&'a self, token: &'a str, now: Timestamp) -> Admission<'a>;

    /// What its tokens say of their bearers besides who they are, where they do.
    fn introductions(&self) -> Option<&Arc<Introductions>> {
        None
    }
}

/// The answer of a [`Gate`].
pub type Admission<'a> = Pin<Box<dyn Future<Output = Result<Principal, Refusal>> + Send + 'a>>;

/// A whole message that came in.
pub struct Arrived {
    pub incoming: Incoming,
    /// Another one has come with it, and follows.
    pub more: bool,
}

/// Hosts one connection.
pub struct SessionActor {
    worker: Rc<Worker>,
    link: Rc<Link>,
    gate: Arc<dyn Gate>,
    principal: Option<Principal>,
    /// The user's inbox, and the address by which it knows this session.
    inbox: Option<(Addr<InboxActor>, Recipient<RoomsChanged>)>,
    follows: BTreeMap<RoomId, Rc<Follower>>,
    /// All of the user's rooms, in the place of single ones.
    world: Option<WorldFollow>,
    names: HashMap<RoomName, RoomKey>,
    queue: VecDeque<Request>,
    /// Commands handed to rooms and not answered yet.
    in_flight: usize,
    /// Something is under way that the next command has to wait for.
    exclusive: bool,
    /// A page is being read.
    pulling: bool,
    /// The room whose page was read last, so that the others get their turn.
    pulled: Option<RoomId>,
    bad_frames: u32,
    /// How many bytes waited in the control lane after the last reply: a list of many rooms is long.
    own_bytes: Cell<usize>,
    /// How many commands that change a room it has sent, and how many frames of any kind.
    messages: Limiter,
    frames: Limiter,
    /// The tenant that its users are of, where that was settled before anybody said who it is.
    tenant: Option<TenantId>,
    pub(super) channels: Channels,
}

impl SessionActor {
    /// A session over `link`; `principal` is who the handshake has proved it to be.
    pub fn new(worker: Rc<Worker>, link: Rc<Link>, gate: Arc<dyn Gate>, principal: Option<Principal>) -> Self {
        Self {
            worker,
            link,
            gate,
            principal,
            inbox: None,
            follows: BTreeMap::new(),
            world: None,
            names: HashMap::new(),
            queue: VecDeque::new(),
            in_flight: 0,
            exclusive: false,
            pulling: false,
            pulled: None,
            bad_frames: 0,
            own_bytes: Cell::new(0),
            messages: Limiter::default(),
            frames: Limiter::default(),
            tenant: None,
            channels: Channels::default(),
        }
    }

    /// A session that takes tokens of one tenant alone.
    pub fn of_tenant(mut self, tenant: Option<TenantId>) -> Self {
        self.tenant = tenant;
        self
    }

    /// A session of a client that has come back, and had come to `cursor`.
    pub fn resuming(mut self, cursor: Option<String>) -> Self {
        self.channels.resume = cursor;
        self
    }

    /// A session over a connection whose client only listens: no command comes by it, and it brings what `followers`, which have been
    /// admitted, hear.
    pub fn streaming(
        worker: Rc<Worker>,
        link: Rc<Link>,
        gate: Arc<dyn Gate>,
        principal: Principal,
        followers: impl IntoIterator<Item = Rc<Follower>>,
    ) -> Self {
        let mut session = Self::new(worker, link, gate, Some(principal));
        session.follows = followers.into_iter().map(|follower| (follower.room().room, follower)).collect();
        session
    }

    /// As [`SessionActor::streaming`], of a world that has been opened.
    pub fn streaming_world(
        worker: Rc<Worker>,
        link: Rc<Link>,
        gate: Arc<dyn Gate>,
        principal: Principal,
        world: WorldFollow,
    ) -> Self {
        // It may have asked for a pull before anybody knew whom to tell.
        world.drained();
        let mut session = Self::new(worker, link, gate, Some(principal));
        session.world = Some(world);
        session
    }

    pub(super) fn registry(&self) -> &Arc<Registry> {
        self.worker.registry()
    }

    pub(super) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    pub(super) fn link(&self) -> &Rc<Link> {
        &self.link
    }

    pub(super) fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    pub(super) fn user(&self) -> Option<UserId> {
        self.principal.as_ref().map(|by| by.user.clone())
    }

    pub(super) fn knows(&self, room: &RoomName) -> bool {
        self.names.contains_key(room)
    }

    /// Puts a command before all that wait.
    pub(super) fn first(&mut self, request: Request) {
        self.queue.push_front(request);
    }

    /// Something that was said beside the connection.
    pub(super) fn said(&mut self, payload: &Bytes, ctx: &mut Context<Self>) -> Result<(), Refusal> {
        if !self.link.outbox.is_open() {
            return Err(Refusal::unavailable());
        }
        if self.link.is_congested() {
            return Err(Refusal::busy(BUSY));
        }
        if self.principal.is_none() && payload.len() as u64 > Limits::BEFORE_AUTH.message_bytes_max {
            return Err(Refusal::body_too_large());
        }
        let registry = self.worker.registry();
        let rate = registry.limits().rates.messages_per_session.map(frames_rate);
        let checked = self.frames.check(rate, registry.meters().time());
        checked.map_err(|after| Refusal::rate_limited(names::MESSAGES_PER_SESSION, after))?;
        self.message(payload, ctx);
        self.pump(ctx);
        Ok(())
    }

    pub(super) fn reply(&self, id: &str, reply: &Reply) {
        if let Reply::Refused(refusal) = reply {
            tracing::info!(target: super::TRAFFIC, code = refusal.code(), "command refused");
            self.registry().metrics().refused(refusal);
        }
        self.link.reply(Some(id), reply);
        self.own_bytes.set(self.link.outbox.control_bytes());
    }

    pub(super) fn refuse(&self, id: &str, refusal: Refusal) {
        self.reply(id, &Reply::Refused(refusal));
    }

    fn notify(&self, notice: &Notice) {
        self.link.notify(notice);
    }

    /// A data frame came in; what it asks is looked at together with what came behind it.
    fn frame(&mut self, payload: &Bytes, ctx: &mut Context<Self>) {
        self.pace(ctx);
        self.message(payload, ctx);
    }

    fn message(&mut self, payload: &Bytes, ctx: &mut Context<Self>) {
        let dialect = self.link.dialect();
        let decoded = match self.principal {
            Some(_) => dialect.decode(payload),
            None => dialect.decode_before_auth(payload),
        };
        match decoded {
            Ok(request) if self.under_way() >= self.registry().limits().in_flight_per_session => {
                self.refuse(&request.id, Refusal::busy(BUSY));
            }
            Ok(request) => match self.count(&request.ask) {
                Ok(()) if self.principal.is_none() && self.waits(&request.ask) => self.keep_early(request, ctx),
                Ok(()) => self.queue.push_back(request),
                Err(refusal) => self.refuse(&request.id, refusal),
            },
            Err(error) => {
                self.registry().metrics().refused(&error.refusal);
                self.link.reply(error.id.as_deref(), &Reply::Refused(error.refusal));
                // With an id it is a command like any other that is refused.
                self.bad_frames += u32::from(error.id.is_none());
                if self.bad_frames >= BAD_FRAMES_MAX {
                    self.link.close(CloseReason::BadFrame);
                }
            }
        }
    }

    /// Whether something waits for the token that comes beside it.
    fn waits(&self, ask: &Ask) -> bool {
        self.link.dialect().waits_for_a_token() && matches!(ask, Ask::Channel(ask) if !ask.needs_nobody())
    }

    /// Whoever sends more than any client needs to, refused or not, is not answered as fast as it sends: what it sends
    /// is left where it is until there is room for the next.
    fn pace(&mut self, ctx: &mut Context<Self>) {
        let registry = self.worker.registry();
        let rate = registry.limits().rates.messages_per_session.map(frames_rate);
        let Err(wait) = self.frames.check(rate, registry.meters().time()) else { return };
        self.link.pause_reading();
        ctx.run_later(wait, move |session, _| {
            // This frame takes the place that there is now.
            let _ = session.frames.check(rate, session.worker.registry().meters().time());
            session.link.resume_reading();
        });
    }

    /// Counts what changes a room against the connection's own rate; the others are counted where all transports meet.
    fn count(&mut self, ask: &Ask) -> Result<(), Refusal> {
        match ask {
            Ask::Command { .. }
            | Ask::Attach { .. }
            | Ask::Forward { .. }
            | Ask::Create { .. }
            | Ask::InboxUpdate { .. }
            | Ask::Invite { .. }
            | Ask::Block { .. }
            | Ask::ProfileUpdate { .. }
            | Ask::Report { .. }
            | Ask::ResolveReport { .. }
            | Ask::Channel(ChannelAsk::Enter { .. } | ChannelAsk::Say { .. })
            | Ask::Hide { .. } => {
                let registry = self.worker.registry();
                let rate = registry.limits().rates.messages_per_session;
                let checked = self.messages.check(rate, registry.meters().time());
                checked.map_err(|after| Refusal::rate_limited(names::MESSAGES_PER_SESSION, after))
            }
            Ask::Auth { .. }
            | Ask::Follow { .. }
            | Ask::Unfollow { .. }
            | Ask::FollowAll { .. }
            | Ask::UnfollowAll
            | Ask::History { .. }
            | Ask::Thread { .. }
            | Ask::Reactions { .. }
            | Ask::Edits { .. }
            | Ask::Pins { .. }
            | Ask::Rooms { .. }
            | Ask::Room { .. }
            | Ask::Members { .. }
            | Ask::Bans { .. }
            | Ask::Mutes { .. }
            | Ask::Rules { .. }
            | Ask::Readers { .. }
            | Ask::Typing { .. }
            | Ask::Presence { .. }
            | Ask::Presences { .. }
            | Ask::Settings { .. }
            | Ask::Users { .. }
            | Ask::FindUsers { .. }
            | Ask::Blocks { .. }
            | Ask::Hidden { .. }
            | Ask::Inbox { .. }
            | Ask::InboxChanges { .. }
            | Ask::Channel(ChannelAsk::Echo { .. } | ChannelAsk::Count { .. } | ChannelAsk::Failed { .. })
            | Ask::NotYet => Ok(()),
        }
    }

    /// How many commands have not been answered.
    fn under_way(&self) -> usize {
        self.queue.len() + self.in_flight + usize::from(self.exclusive)
    }

    /// Looks at the commands that wait, as far as their order allows, and hands those for one room over together.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        let mut sheaf = Sheaf::default();
        let (mut room, mut asked) = (None, Vec::new());
        while let Some((request, key, by)) = self.next_for_a_room(ctx) {
            let Request { id, ask: Ask::Command { command, client_id, .. } } = request else { continue };
            if room.as_ref() != Some(&key)
                && let Some(before) = room.replace(key.clone())
            {
                self.reply_in_order(before, std::mem::take(&mut asked), ctx);
            }
            let publishes = publishes(&command);
            match self.registry().submit_with(&mut sheaf, &key, by, command, client_id, With::default()) {
                Ok(answer) => {
                    self.in_flight += 1;
                    if publishes {
                        asked.push((id, publishes, answer));
                    } else {
                        // A removal takes as long as others need to prove it.
                        self.reply_in_order(key, vec![(id, publishes, answer)], ctx);
                    }
                }
                Err(refusal) => self.reply(&id, &done(key, publishes, Err(refusal))),
            }
        }
        if let Some(room) = room {
            self.reply_in_order(room, asked, ctx);
        }
    }

    /// Replies to commands that were handed to a room together, in their order: the room answers in that, too, those that
    /// publish.
    fn reply_in_order(
        &mut self,
        room: RoomKey,
        asked: Vec<(String, bool, impl Future<Output = Answer> + 'static)>,
        ctx: &mut Context<Self>,
    ) {
        let answers = stream::iter(asked).then(|(id, publishes, answer)| async move { (id, publishes, answer.await) });
        let reply =
            move |(id, publishes, answer): (String, bool, Answer), session: &mut Self, ctx: &mut Context<Self>| {
                session.in_flight -= 1;
                session.reply(&id, &done(room.clone(), publishes, answer));
                session.pump(ctx);
            };
        ctx.spawn(answers.into_actor(self).map(reply).finish());
    }

    /// The next command for a room that is known, if its turn has come. What is for no room is carried out meanwhile.
    fn next_for_a_room(&mut self, ctx: &mut Context<Self>) -> Option<(Request, RoomKey, Principal)> {
        while !self.exclusive {
            if self.link.is_revoked() {
                self.queue.clear();
            }
            let request = self.queue.pop_front()?;
            let request = self.as_command(request);
            let Some(by) = self.principal.clone() else {
                self.authenticate(request, ctx);
                continue;
            };
            if self.link.has_expired(self.registry().instant()) {
                // It may have waited behind others until now.
                self.refuse(&request.id, Refusal::token_expired());
                self.queue.clear();
                self.link.close(CloseReason::TokenExpired);
                return None;
            }
            if let Ask::Command { room, .. } = &request.ask {
                match self.names.get(room).cloned() {
                    Some(key) => return Some((request, key, by)),
                    None => self.resolve(request, by, ctx),
                }
            } else if self.in_flight > 0 {
                self.queue.push_front(request);
                return None;
            } else {
                self.ask(request, by, ctx);
            }
        }
        None
    }

    fn authenticate(&mut self, request: Request, ctx: &mut Context<Self>) {
        if let Ask::Channel(ask) = request.ask {
            return self.answer_anybody(&request.id, ask);
        }
        let Ask::Auth { token } = request.ask else {
            return self.refuse(&request.id, Refusal::unauthenticated());
        };
        let (registry, link, this) = (Arc::clone(self.registry()), Rc::clone(&self.link), ctx.address());
        let whose = self.whose(token.clone());
        let admit = async move {
            let principal = whose.await?;
            link.counts_for(&registry.limits(), &principal)?;
            Ok(principal)
        };
        // What comes behind it is read by other rules, once it is known who sent it.
        self.link.pause_reading();
        self.exclusively(ctx, admit, move |session, admitted| match admitted.and_then(|admitted| admitted) {
            Ok(principal) => {
                session.link.resume_reading();
                session.admit(principal.clone(), this);
                session.reply(&request.id, &Reply::Authenticated { principal, token });
                for early in session.channels.take_early().into_iter().rev() {
                    session.first(early);
                }
            }
            Err(refusal) => {
                let limited = refusal.limit().is_some();
                session.refuse(&request.id, refusal);
                if !limited && session.link.dialect().waits_for_a_token() {
                    return session.link.resume_reading();
                }
                session.link.close(if limited { CloseReason::LimitReached } else { CloseReason::Unauthenticated });
            }
        });
    }

    /// Says whose token it is, unless its address has sent too many that were no good.
    fn whose(&self, token: String) -> impl Future<Output = Result<Principal, Refusal>> + use<> {
        let (gate, registry, link) = (Arc::clone(&self.gate), Arc::clone(self.registry()), Rc::clone(&self.link));
        let tenant = self.tenant.clone();
        async move {
            let principal = match link.address() {
                Some(address) => connections::authenticate(&registry, &*gate, &token, address).await?,
                None => gate.admit(&token, registry.now()).await?,
            };
            match tenant.is_none_or(|tenant| tenant == principal.tenant) {
                true => Ok(principal),
                false => Err(Refusal::token_invalid()),
            }
        }
    }

    fn admit(&mut self, principal: Principal, this: Addr<Self>) {
        self.worker.authenticated(&self.link, &principal);
        self.attach(&principal, this.recipient());
        self.principal = Some(principal);
    }

    /// The user brings a new token: the connection stands on that one from now on. Another user's is refused, and one that
    /// is no good changes nothing.
    fn refresh(&mut self, id: String, by: Principal, token: String, ctx: &mut Context<Self>) {
        self.exclusively(ctx, self.whose(token.clone()), move |session, admitted| {
            match admitted.and_then(|admitted| admitted) {
                Ok(principal) if (&principal.tenant, &principal.user) != (&by.tenant, &by.user) => {
                    session.refuse(&id, Refusal::already_authenticated());
                }
                Ok(principal) => {
                    session.principal = Some(principal.clone());
                    session.reply(&id, &Reply::Authenticated { principal: principal.clone(), token });
                    session.worker.refreshed(&session.link, &principal);
                }
                Err(refusal) => session.refuse(&id, refusal),
            }
        });
    }

    /// Asks the user's inbox for news.
    fn attach(&mut self, principal: &Principal, session: Recipient<RoomsChanged>) {
        let attach = Attach { session: session.clone() };
        self.inbox = Some((self.registry().attach(&principal.tenant, &principal.user, attach), session));
    }

    /// Finds out which room a command is for, and puts the command back in its place.
    fn resolve(&mut self, request: Request, by: Principal, ctx: &mut Context<Self>) {
        let Ask::Command { room: name, .. } = &request.ask else { return };
        let (registry, name) = (Arc::clone(self.registry()), name.clone());
        let resolve = async move { (registry.look_up(&by, registry.find(&by, &name)).await, name) };
        self.exclusively(ctx, resolve, move |session, resolved| match resolved {
            Ok((Ok(key), name)) => {
                session.remember(name, key);
                session.queue.push_front(request);
            }
            Ok((Err(refusal), _)) | Err(refusal) => session.refuse(&request.id, refusal),
        });
    }

    pub(super) fn remember(&mut self, name: RoomName, key: RoomKey) {
        if self.names.len() >= NAMES_MAX {
            self.names.clear();
        }
        self.names.insert(name, key);
    }

    /// Does something that the commands behind it wait for, within a time limit.
    pub(super) fn exclusively<T: 'static>(
        &mut self,
        ctx: &mut Context<Self>,
        work: impl Future<Output = T> + 'static,
        then: impl FnOnce(&mut Self, Result<T, Refusal>) + 'static,
    ) {
        self.exclusive = true;
        let work = tokio::time::timeout(self.registry().limits().answer_timeout, work);
        ctx.spawn(work.into_actor(self).map(|result, session, ctx| {
            session.exclusive = false;
            then(session, result.map_err(|_| Refusal::unavailable()));
            if session.link.outbox.take_pull() {
                // At once, so that what a new follower has missed leaves together with the reply.
                session.pull(ctx);
            }
            session.pump(ctx);
        }));
    }

    /// Everything that is not for one room's rules alone.
    fn ask(&mut self, request: Request, by: Principal, ctx: &mut Context<Self>) {
        let Request { id, ask } = request;
        match ask {
            Ask::Auth { token } => self.refresh(id, by, token, ctx),
            Ask::NotYet => self.refuse(&id, Refusal::unauthenticated()),
            Ask::Channel(ask) => self.channel(id, by, ask, ctx),
            Ask::Command { .. } => unreachable!("commands are handed to their rooms"),
            Ask::Follow { room, from } => self.follow(id, by, room, from, ctx),
            Ask::Unfollow { room } => {
                let registry = Arc::clone(self.registry());
                let resolve = async move { registry.look_up(&by, registry.resolve_for(&by, &room)).await };
                self.exclusively(ctx, resolve, move |session, resolved| {
                    let reply = match resolved.and_then(|resolved| resolved) {
                        Ok(key) => match session.follows.remove(&key.room) {
                            Some(follower) => {
                                session.worker.unregister(&follower);
                                Reply::Unfollowed { room: key.room }
                            }
                            None => Reply::Refused(Refusal::not_following()),
                        },
                        Err(refusal) => Reply::Refused(refusal),
                    };
                    session.reply(&id, &reply);
                });
            }
            Ask::FollowAll { from } => self.follow_all(id, by, from, ctx),
            Ask::UnfollowAll => match self.world.take() {
                Some(world) => self.exclusively(ctx, world.end(), move |session, ended| {
                    session.reply(&id, &ended.map_or_else(Reply::Refused, |()| Reply::UnfollowedAll));
                }),
                None => self.refuse(&id, Refusal::not_following()),
            },
            Ask::Create { .. }
            | Ask::Attach { .. }
            | Ask::Forward { .. }
            | Ask::Invite { .. }
            | Ask::Block { .. }
            | Ask::History { .. }
            | Ask::Thread { .. }
            | Ask::Reactions { .. }
            | Ask::Edits { .. }
            | Ask::Pins { .. }
            | Ask::Rooms { .. }
            | Ask::Room { .. }
            | Ask::Members { .. }
            | Ask::Bans { .. }
            | Ask::Mutes { .. }
            | Ask::Rules { .. }
            | Ask::Readers { .. }
            | Ask::Typing { .. }
            | Ask::Presence { .. }
            | Ask::Presences { .. }
            | Ask::Settings { .. }
            | Ask::ProfileUpdate { .. }
            | Ask::Users { .. }
            | Ask::FindUsers { .. }
            | Ask::Blocks { .. }
            | Ask::Report { .. }
            | Ask::ResolveReport { .. }
            | Ask::Hide { .. }
            | Ask::Hidden { .. }
            | Ask::Inbox { .. }
            | Ask::InboxChanges { .. }
            | Ask::InboxUpdate { .. } => {
                let (worker, link) = (Rc::clone(&self.worker), Rc::clone(&self.link));
                let answer = async move { asking::answer(&worker, &link, by, ask).await };
                self.exclusively(ctx, answer, move |session, answered| {
                    session.reply(&id, &answered.unwrap_or_else(Reply::Refused));
                });
            }
        }
    }

    /// Follows a room. The follower is registered before its rights are looked up, and these before the head, so that
    /// no removal and no record can slip between.
    fn follow(&mut self, id: String, by: Principal, name: RoomName, since: Since, ctx: &mut Context<Self>) {
        if self.world.is_some() {
            return self.refuse(&id, Refusal::follow_mixed());
        }
        let (worker, link) = (Rc::clone(&self.worker), Rc::clone(&self.link));
        let open = async move {
            let registry = worker.registry();
            let open = async {
                let key = registry.resolve_for(&by, &name).await?;
                let registration = worker.register(key, by.user.clone(), &link);
                let admitted = open(registry, registration.follower(), since).await?;
                Ok((registration, admitted))
            };
            registry.look_up(&by, open).await
        };
        self.exclusively(ctx, open, move |session, opened| {
            let opened = opened.and_then(|opened| opened);
            session.registry().metrics().command("follow", &opened);
            let greet = |session: &Self, room: &RoomKey, admitted: &Admitted| {
                let Admitted { at, head, .. } = *admitted;
                session.reply(&id, &Reply::Following { room: room.clone(), at, head });
            };
            let followed =
                opened.and_then(|(registration, admitted)| session.take_follow(registration, admitted, greet));
            if let Err(refusal) = followed {
                session.refuse(&id, refusal);
            }
        });
    }

    /// Follows from now on what has been opened; `greet` replies before anything of it.
    pub(super) fn take_follow(
        &mut self,
        registration: Registration,
        admitted: Admitted,
        greet: impl FnOnce(&Self, &RoomKey, &Admitted),
    ) -> Result<RoomKey, Refusal> {
        let key = registration.follower().room().clone();
        if let Some(older) = self.follows.remove(&key.room) {
            // What waits of it, also that it has ended, must not come behind the reply to this one.
            self.worker.unregister(&older);
        }
        self.forget_ended();
        if self.follows.len() >= self.registry().limits().follows_per_session {
            return Err(Refusal::too_many_follows());
        }
        let follower = registration.keep();
        greet(self, &key, &admitted);
        if let Some(gap) = admitted.gap {
            self.link.notify(&Notice::Gap { room: key.room, gap });
        }
        self.worker.greet(&follower);
        if follower.follow().borrow().wants_page_after().is_some() {
            self.link.outbox.want_pull();
        }
        self.follows.insert(key.room, follower);
        Ok(key)
    }

    /// Follows all rooms of the user. A follow of single rooms beside it would send their records twice, on one
    /// connection where both are taken back together when the client is slow; so it is the one or the other.
    fn follow_all(&mut self, id: String, by: Principal, since: Since, ctx: &mut Context<Self>) {
        self.forget_ended();
        if !self.follows.is_empty() {
            return self.refuse(&id, Refusal::follow_mixed());
        }
        let (worker, link, older) = (Rc::clone(&self.worker), Rc::clone(&self.link), self.world.take());
        let (its_id, its_link) = (id.clone(), Rc::clone(&link));
        let greet = move |Opened { cursor, rooms }| {
            its_link.reply(Some(&its_id), &Reply::FollowingAll { cursor, rooms });
        };
        let open = async move {
            if let Some(older) = older {
                older.end().await;
            }
            follow_all(&worker, &link, by, since, greet).await
        };
        self.exclusively(ctx, open, move |session, opened| match opened.and_then(|opened| opened) {
            Ok(world) => {
                // It may have asked for a pull before anybody knew whom to tell.
                world.drained();
                session.world = Some(world);
            }
            Err(refusal) => session.refuse(&id, refusal),
        });
    }

    fn forget_ended(&mut self) {
        self.follows.retain(|_, follower| follower.follow().borrow().at().is_some());
    }

    /// Reads the next page of a follower that is behind, if no page is being read.
    fn pull(&mut self, ctx: &mut Context<Self>) {
        if self.pulling || !self.link.outbox.is_open() {
            return;
        }
        let Some(follower) = self.next_behind() else { return };
        let (generation, after) = {
            let follow = follower.follow().borrow();
            let Some(after) = follow.wants_page_after() else { return };
            (follow.generation(), after)
        };
        self.pulling = true;
        self.pulled = Some(follower.room().room);
        let pages = Rc::clone(self.worker.pages());
        let read = pages.after(follower.room().clone(), self.link.dialect(), after.seq);
        ctx.spawn(read.into_actor(self).map(move |page, session, ctx| {
            session.pulling = false;
            match page {
                Ok(page) => session.hand_over(&follower, generation, after, &page),
                Err(error) => session.fail(&follower, &error),
            }
            if session.next_behind().is_some() {
                if session.link.outbox.log_is_empty() {
                    session.pull(ctx);
                } else {
                    session.link.outbox.want_pull();
                }
            }
        }));
    }

    /// The next follower that is behind, after the one whose turn was last.
    fn next_behind(&self) -> Option<Rc<Follower>> {
        let behind = |follower: &&Rc<Follower>| follower.follow().borrow().wants_page_after().is_some();
        let later = self.pulled.and_then(|room| {
            use std::ops::Bound::{Excluded, Unbounded};
            self.follows.range((Excluded(room), Unbounded)).map(|(_, follower)| follower).find(behind)
        });
        later.or_else(|| self.follows.values().find(behind)).cloned()
    }

    fn hand_over(&mut self, follower: &Rc<Follower>, generation: Generation, after: Position, page: &FramedPage) {
        let after = follower.skip(generation, after, page.trimmed(after.seq));
        let last = page.last(after.seq, None);
        let mut removals = page.removals(follower.user(), after.seq);
        let seqs = removals.clone().map(|(seq, _)| seq);
        let handed = follower.follow().borrow_mut().page(generation, after.seq, last, page.is_complete(), seqs);
        if let Some((from, until)) = handed.records {
            let (frames, records) = page.frames(from.seq, until, follower.reader());
            if records > 0 {
                // When that is too much after all, the follower has been set back and reads again.
                let _ = self.link.outbox.push_log(frames, records, follower.clone(), from);
            }
        }
        if let Some((_, kicked)) = handed.ended.and_then(|ended| removals.find(|(seq, _)| *seq == ended)) {
            self.worker.removed(follower, kicked);
        }
    }

    /// A follow has to end because its log cannot be read, unless it has ended meanwhile.
    fn fail(&mut self, follower: &Rc<Follower>, error: &StoreError) {
        let refusal = read_failed(error);
        if follower.follow().borrow().at().is_none() {
            return;
        }
        self.worker.unregister(follower);
        self.follows.remove(&follower.room().room);
        self.notify(&Notice::FollowFailed { room: follower.room().room, refusal });
        match self.link.kind() {
            Kind::Socket if self.link.dialect().takes_commands() => {}
            // It cannot follow again but by coming back.
            Kind::Socket | Kind::Events | Kind::Request | Kind::Command => self.link.close(CloseReason::Internal),
        }
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.link.outbox.is_gone() {
            // The connection broke before there was anybody to be told of it.
            self.link.cut();
            return ctx.stop();
        }
        self.link.attach(ctx.address().recipient());
        match self.link.kind() {
            Kind::Socket if self.follows.is_empty() => self.greet(ctx),
            Kind::Events if self.link.socket().is_some() => self.greet(ctx),
            // It has been opened, and told where it stands; it only did not read yet.
            Kind::Socket | Kind::Events | Kind::Request | Kind::Command => {
                if self.world.is_some()
                    && let Some(principal) = self.principal.clone()
                {
                    self.attach(&principal, ctx.address().recipient());
                }
                if self.next_behind().is_some() {
                    self.link.outbox.want_pull();
                }
            }
        }
    }
}

impl SessionActor {
    fn greet(&mut self, ctx: &mut Context<Self>) {
        self.worker.open(&self.link);
        let limits = self.registry().limits();
        self.notify(&Notice::Hello {
            epoch: self.registry().store().epoch(),
            heartbeat: limits.heartbeat,
            authenticated: self.principal.is_some(),
            socket: self.link.socket(),
        });
        if let Some(socket) = self.link.socket() {
            self.registry().sockets().open(socket, ctx.address().recipient());
        }
        if let Some(principal) = self.principal.take() {
            self.admit(principal, ctx.address());
        }
    }
}

/// However a session ends, and be it by a panic, nothing of it stays behind.
impl Drop for SessionActor {
    #[expect(clippy::disallowed_methods, reason = "once per session")]
    fn drop(&mut self) {
        for follower in std::mem::take(&mut self.follows).into_values() {
            self.worker.unregister(&follower);
        }
        if let Some(socket) = self.link.socket() {
            self.registry().sockets().close(socket);
        }
        self.worker.closed(&self.link, self.principal.as_ref());
        self.link.gone();
        if let Some((inbox, session)) = self.inbox.take() {
            inbox.do_send(Detach { session });
        }
    }
}

impl StreamHandler<Result<Arrived, CloseReason>> for SessionActor {
    fn handle(&mut self, arrived: Result<Arrived, CloseReason>, ctx: &mut Self::Context) {
        let (incoming, more) = match arrived {
            Ok(Arrived { incoming, more }) => (Ok(incoming), more),
            Err(reason) => (Err(reason), false),
        };
        if !self.link.outbox.is_open() {
            // All it can still say is that it has what was sent before it was revoked.
            if let Ok(Incoming::Pong(payload)) = &incoming {
                self.link.pong(payload);
            }
            return;
        }
        match incoming {
            Ok(Incoming::Text(_) | Incoming::Binary(_)) if !self.link.dialect().takes_commands() => self.pace(ctx),
            Ok(Incoming::Text(payload)) if self.link.dialect().is_text() => self.frame(&payload, ctx),
            Ok(Incoming::Binary(payload)) if !self.link.dialect().is_text() => self.frame(&payload, ctx),
            Ok(Incoming::Text(_) | Incoming::Binary(_)) => self.link.close(CloseReason::UnsupportedData),
            Ok(Incoming::Ping(payload)) => self.link.outbox.push_control(frame::frame(Opcode::Pong, &payload)),
            Ok(Incoming::Pong(payload)) => self.link.pong(&payload),
            Ok(Incoming::Close(_)) => self.link.close(CloseReason::Normal),
            Err(reason) => self.link.close(reason),
        }
        // Where nothing more is read for now, what follows has to wait.
        if !more || self.link.is_paused() {
            self.pump(ctx);
        }
    }

    /// The client has ended its side without a word, or the connection broke: nobody reads an answer.
    fn finished(&mut self, _: &mut Self::Context) {
        if self.link.outbox.is_open() {
            self.link.cut();
        }
    }
}

impl Handler<News> for SessionActor {
    type Result = ();

    fn handle(&mut self, news: News, ctx: &mut Self::Context) {
        match news {
            News::Drained => {
                if let Some(world) = &self.world {
                    world.drained();
                }
                self.pull(ctx);
            }
            News::Gone => ctx.stop(),
        }
    }
}

impl Handler<RoomsChanged> for SessionActor {
    type Result = ();

    fn handle(&mut self, change: RoomsChanged, _: &mut Self::Context) {
        if self.link.outbox.control_bytes() > self.own_bytes.get() + NOTICES_BYTES_MAX {
            // Others decide how many of these there are; a client that does not keep up reads its list of rooms again.
            self.link.close(CloseReason::SlowConsumer);
            return self.link.cut();
        }
        self.notify(&match change {
            RoomsChanged::Gained { room, role, standing } => Notice::RoomGained { room, role, standing },
            RoomsChanged::Lost { room } => Notice::RoomLost { room },
            RoomsChanged::Hidden { room, message, hidden } => Notice::MessageHidden { room, message, hidden },
            RoomsChanged::Blocked { user, blocked } => Notice::UserBlocked { user, blocked },
            RoomsChanged::Profile(profile) => {
                let Some(by) = &self.principal else { return };
                let (user, profile) = (by.user.clone(), Profile::clone(&profile));
                Notice::UserUpdated(Box::new(UserProfile { user, profile }))
            }
            RoomsChanged::Updated(updated) => {
                let Some(by) = &self.principal else { return };
                let (owner, change) = (overview::inbox_key(by), updated.change());
                Notice::InboxUpdated { owner, change }
            }
        });
    }
}

/// The rate of frames that goes with a rate of messages.
fn frames_rate(messages: Rate) -> Rate {
    let times = |number: u32| number.saturating_mul(FRAMES_PER_MESSAGE);
    Rate { count: times(messages.count), per: messages.per, burst: times(messages.burst) }
}
