//! Channels: rooms that whoever asks for is in, made when somebody asks first.
//!
//! Their clients know neither rooms nor members. Who listens to a channel becomes a member of the room, and stays one, so
//! that whatever holds for members holds for them, too; the server is its only owner.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{AsyncContext, Context, Handler, ResponseFuture};

use super::asking;
use super::documents;
use super::reading::{Admitted, Insider, open};
use super::registry::Registry;
use super::session::SessionActor;
use super::sockets::Said;
use super::worker::Registration;
use crate::domain::command::Create;
use crate::domain::document::{CollectionName, Reader};
use crate::domain::{
    Alias, Command, Content, Principal, Rejection, RoomId, RoomKey, RoomKind, RoomName, Signal, UserId,
};
use crate::wire::{Ask, ChannelAsk, ChannelReply, Cursor, From as Since, Refusal, Reply, Request, collection_of};

/// How long what comes before the token waits for it: requests that are sent together arrive in any order.
const TOKEN_WAIT: Duration = Duration::from_secs(3);

/// How many commands wait for it at most.
const EARLY_MAX: usize = 16;

/// What a session holds for a client of channels.
#[derive(Default)]
pub(super) struct Channels {
    /// What came before the token.
    early: VecDeque<Request>,
    /// Where it had come to when it broke the last time: a cursor of one of its channels.
    pub resume: Option<String>,
}

impl Channels {
    /// What came before the token, which has come.
    pub fn take_early(&mut self) -> VecDeque<Request> {
        std::mem::take(&mut self.early)
    }
}

impl SessionActor {
    /// Keeps a command that came before the token for a while.
    pub(super) fn keep_early(&mut self, request: Request, ctx: &mut Context<Self>) {
        if self.channels.early.len() >= EARLY_MAX {
            return self.refuse(&request.id, Refusal::unauthenticated());
        }
        self.channels.early.push_back(request);
        if self.channels.early.len() == 1 {
            ctx.run_later(TOKEN_WAIT, |session, _| {
                for request in session.channels.take_early() {
                    session.refuse(&request.id, Refusal::unauthenticated());
                }
            });
        }
    }

    /// Answers what needs nobody.
    pub(super) fn answer_anybody(&self, id: &str, ask: ChannelAsk) {
        let reply = match ask {
            ChannelAsk::Echo { data, channel, token } => ChannelReply::Echoed { data, channel, token },
            ChannelAsk::Failed { why } => ChannelReply::Failed { why },
            ChannelAsk::Enter { .. } | ChannelAsk::Say { .. } | ChannelAsk::Count { .. } => {
                return self.refuse(id, Refusal::unauthenticated());
            }
        };
        self.reply(id, &Reply::Channel(reply));
    }

    /// Carries out what a client of channels asks.
    pub(super) fn channel(&mut self, id: String, by: Principal, ask: ChannelAsk, ctx: &mut Context<Self>) {
        match ask {
            ChannelAsk::Echo { .. } | ChannelAsk::Failed { .. } => self.answer_anybody(&id, ask),
            ChannelAsk::Enter { channel, since } if collection_of(&channel).is_some() => {
                self.follow_collection(id, by, channel, since, ctx);
            }
            ChannelAsk::Enter { channel, since } => match alias_of(&channel) {
                Ok(alias) => self.enter(id, by, alias, since, ctx),
                Err(refusal) => self.refuse(&id, refusal),
            },
            ChannelAsk::Say { channel, data } => match alias_of(&channel) {
                Ok(alias) => self.say(id, by, alias, data, ctx),
                Err(refusal) => self.refuse(&id, refusal),
            },
            ChannelAsk::Count { channel } => match alias_of(&channel) {
                Ok(alias) => self.count_listeners(id, by, alias, ctx),
                Err(refusal) => self.refuse(&id, refusal),
            },
        }
    }

    /// A message for a channel that is known already, as what it is.
    pub(super) fn as_command(&self, request: Request) -> Request {
        let Ask::Channel(ChannelAsk::Say { channel, data }) = &request.ask else { return request };
        let Ok(alias) = alias_of(channel) else { return request };
        let room = RoomName::Alias(alias);
        if self.knows(&room) { Request { ask: posted(room, data), ..request } } else { request }
    }

    fn enter(&mut self, id: String, by: Principal, alias: Alias, since: Option<String>, ctx: &mut Context<Self>) {
        let (worker, link) = (Rc::clone(self.worker()), Rc::clone(self.link()));
        let (resume, channel) = (self.channels.resume.clone(), alias.clone());
        let opened = async move {
            let registry = worker.registry();
            let key = let_in(registry, &by, &alias).await?;
            let register = || worker.register(key.clone(), by.user.clone(), &link);
            go_on(registry, register, &key, since, resume).await
        };
        self.exclusively(ctx, opened, move |session, opened| {
            let opened = session.resumed(opened);
            if let Some(room) = session.listen(&id, channel.as_str(), opened) {
                session.entered(room, channel);
            }
        });
    }

    /// Follows what becomes of the documents of a collection, as far as `by` may read them; there need be none yet.
    fn follow_collection(
        &mut self,
        id: String,
        by: Principal,
        channel: String,
        since: Option<String>,
        ctx: &mut Context<Self>,
    ) {
        let (worker, link) = (Rc::clone(self.worker()), Rc::clone(self.link()));
        let (resume, name) = (self.channels.resume.clone(), collection_of(&channel).map(CollectionName::new));
        let opened = async move {
            let registry = worker.registry();
            let name = name.ok_or(Rejection::RoomNotFound)?.map_err(Refusal::bad_request)?;
            let reader = match documents::root(registry, &by).await? {
                Some(root) => root,
                None => documents::user(registry, &by).await?,
            };
            let key = RoomKey { tenant: by.tenant.clone(), room: RoomId::collection(&by.tenant, &name) };
            let register = || worker.register_reader(key.clone(), by.user.clone(), &link, reader.clone());
            let opened = go_on(registry, register, &key, since, resume).await?;
            // From here on it is told when that ends; before, it may have passed by.
            if matches!(reader, Reader::Root { .. }) && documents::root(registry, &by).await?.is_none() {
                return Err(Rejection::Forbidden.into());
            }
            Ok(opened)
        };
        self.exclusively(ctx, opened, move |session, opened| {
            let opened = session.resumed(opened);
            session.listen(&id, &channel, opened);
        });
    }

    /// What has been opened. A place that a client has come back with is good once.
    fn resumed(
        &mut self,
        opened: Result<Result<Resumed, Refusal>, Refusal>,
    ) -> Result<(Registration, Admitted), Refusal> {
        let (registration, admitted, resumed) = opened.and_then(|opened| opened)?;
        if resumed {
            self.channels.resume = None;
        }
        Ok((registration, admitted))
    }

    /// Follows what has been opened under the name of `channel`.
    fn listen(
        &mut self,
        id: &str,
        channel: &str,
        opened: Result<(Registration, Admitted), Refusal>,
    ) -> Option<RoomKey> {
        self.registry().metrics().command("enter", &opened);
        let greet = |session: &Self, room: &RoomKey, admitted: &Admitted| {
            let (channel, room, at) = (channel.to_owned(), room.clone(), admitted.at);
            session.reply(id, &Reply::Channel(ChannelReply::Entered { channel, room, at }));
        };
        let followed = opened.and_then(|(registration, admitted)| self.take_follow(registration, admitted, greet));
        followed.map_err(|refusal| self.refuse(id, refusal)).ok()
    }

    /// Tells the others of a channel that somebody has come.
    fn entered(&mut self, room: RoomKey, channel: Alias) {
        self.remember(RoomName::Alias(channel.clone()), room.clone());
        if let (Some(user), Some(handle)) = (self.user(), self.link().handle()) {
            self.registry().signal(&room, &Signal::Entered { user, channel, handle });
        }
    }

    fn say(&mut self, id: String, by: Principal, alias: Alias, data: String, ctx: &mut Context<Self>) {
        let (registry, name) = (Arc::clone(self.registry()), RoomName::Alias(alias.clone()));
        let let_in = async move { let_in(&registry, &by, &alias).await };
        self.exclusively(ctx, let_in, move |session, room| match room.and_then(|room| room) {
            Ok(room) => {
                let ask = posted(name.clone(), &data);
                session.remember(name, room);
                session.first(Request { id, ask });
            }
            Err(refusal) => session.refuse(&id, refusal),
        });
    }

    fn count_listeners(&mut self, id: String, by: Principal, alias: Alias, ctx: &mut Context<Self>) {
        let (worker, link) = (Rc::clone(self.worker()), Rc::clone(self.link()));
        let ask = Ask::Presences { room: RoomName::Alias(alias), after: None, limit: 1 };
        let answer = async move { asking::answer(&worker, &link, by, ask).await };
        self.exclusively(ctx, answer, move |session, answered| {
            let reply = match answered.unwrap_or_else(Reply::Refused) {
                Reply::Presences { presences, .. } => {
                    Reply::Channel(ChannelReply::Counted { count: presences.online + presences.away })
                }
                refused => refused,
            };
            session.reply(&id, &reply);
        });
    }
}

impl Handler<Said> for SessionActor {
    type Result = ResponseFuture<Result<(), Refusal>>;

    fn handle(&mut self, said: Said, ctx: &mut Self::Context) -> Self::Result {
        let whose = |principal: &Principal| (principal.tenant.clone(), principal.user.clone());
        let foreign = match (self.principal(), &said.by) {
            (Some(own), Some(by)) => whose(own) != whose(by),
            (Some(_), None) => true,
            (None, _) => false,
        };
        let taken = if foreign { Err(Refusal::token_invalid()) } else { self.said(&said.payload, ctx) };
        Box::pin(std::future::ready(taken))
    }
}

/// A follow that has been opened, and whether at the place that a client has come back with.
type Resumed = (Registration, Admitted, bool);

/// Opens a follow where the client says, else where it had come to if that is a place of this room, else now. A place that
/// is none any more is no reason to stay away.
async fn go_on(
    registry: &Registry,
    register: impl Fn() -> Registration,
    room: &RoomKey,
    since: Option<String>,
    resume: Option<String>,
) -> Result<Resumed, Refusal> {
    if let Some(since) = since {
        let registration = register();
        let admitted = open(registry, registration.follower(), Since::Cursor(since)).await?;
        return Ok((registration, admitted, false));
    }
    let resume = resume.filter(|cursor| Cursor::parse(cursor, room).is_ok());
    let resumed = resume.is_some();
    if let Some(cursor) = resume {
        let registration = register();
        match open(registry, registration.follower(), Since::Cursor(cursor)).await {
            Ok(admitted) => return Ok((registration, admitted, true)),
            Err(refusal) if ["cursor_invalid", "epoch_changed"].contains(&refusal.code()) => {}
            Err(refusal) => return Err(refusal),
        }
    }
    let registration = register();
    let admitted = open(registry, registration.follower(), Since::Now).await?;
    Ok((registration, admitted, resumed))
}

/// Says `data` in a channel, and joins it for that; it is made where there is none.
pub async fn publish(registry: &Arc<Registry>, by: &Principal, channel: &str, data: &str) -> Result<(), Refusal> {
    let room = let_in(registry, by, &alias_of(channel)?).await?;
    registry.submit(&room, by.clone(), post(data), None).await.map(drop)
}

fn posted(room: RoomName, data: &str) -> Ask {
    Ask::Command { room, command: post(data), client_id: None }
}

fn post(data: &str) -> Command {
    let (reply_to, mentions, attachments) = (None, Vec::new(), Vec::new());
    Command::Post { content: Content::text(data), reply_to, mentions, attachments }
}

fn alias_of(channel: &str) -> Result<Alias, Refusal> {
    Alias::forced(channel).map_err(Refusal::bad_request)
}

/// The room of a channel, of which `by` is a member from now on; it is made where there is none.
async fn let_in(registry: &Arc<Registry>, by: &Principal, alias: &Alias) -> Result<RoomKey, Refusal> {
    let name = RoomName::Alias(alias.clone());
    let found = match registry.find(by, &name).await {
        Err(refusal) if refusal.code() == Rejection::RoomNotFound.code() => make(registry, by, alias).await,
        found => found,
    };
    let key = match found {
        // Somebody else has made it meanwhile.
        Err(refusal) if refusal.code() == Rejection::RoomExists.code() => registry.find(by, &name).await?,
        found => found?,
    };
    if Insider::of(&**registry.store(), &key, &by.user).await.is_ok() {
        return Ok(key);
    }
    match registry.submit(&key, by.clone(), Command::Join, None).await {
        Err(refusal) if refusal.code() == Rejection::AlreadyMember.code() => Ok(key),
        Err(refusal) => Err(refusal),
        Ok(_) => Ok(key),
    }
}

/// Makes the room of a channel, and `by` a member of it.
async fn make(registry: &Arc<Registry>, by: &Principal, alias: &Alias) -> Result<RoomKey, Refusal> {
    let admission = registry.limits().channels.of(&by.tenant).of(alias);
    let role = admission.role(None).ok_or(Rejection::Forbidden)?;
    let reserved = registry.reserve(by, Some(alias.clone()), None).await?;
    let room = RoomKey { tenant: by.tenant.clone(), room: reserved.room };
    let owner = Principal { user: UserId::server(), token: None, login: None, ..by.clone() };
    let members = vec![(by.user.clone(), role)];
    let create = Create { kind: RoomKind::Channel, num: reserved.num, alias: Some(alias.clone()), name: None, members };
    registry.submit(&room, owner, Command::Create(create), None).await?;
    Ok(room)
}
