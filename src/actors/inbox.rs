//! A user's inbox: what each of the user's rooms is to the user, put in order, and the live sessions that want to hear
//! when that changes, or when a room is gained or lost.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient, WrapFuture};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::blocking::is_shut;
use super::failure::{commit_failed, read_failed};
use super::files::{Files, Hold};
use super::registry::Registry;
use super::{presences, profiles};
use crate::clock::random_wide;
use crate::domain::inbox::{BLOCKS_MAX, Entry, Reached, Settings, SettingsUpdate, Update};
use crate::domain::policy::Standing;
use crate::domain::profile::{Avatar, ContactHash, Introduction};
use crate::domain::room::Header;
use crate::domain::{
    Event, InboxEvent, Num, Position, Profile, ProfileUpdate, Record, RecordId, Rejection, Role, RoomId, RoomKey,
    RoomKind, Seq, Signal, StreamId, TenantId, Timestamp, UserId,
};
use crate::store::rows::{self, Kept, Place, Progress, Row};
use crate::store::{Commit, Put, Store, StoreError};
use crate::wire::{self, Listed, Refusal};

/// How many wishes wait for an inbox.
const WAITING_MAX: usize = 256;

/// How many of them are written together.
const TOGETHER_MAX: usize = 64;

/// How many hidden messages that are not there any more are forgotten with another one that is hidden.
const FORGOTTEN_AT_ONCE: usize = 100;

/// Between two times that others are told who a user is.
pub(super) const BETWEEN_PROFILES: Duration = Duration::from_secs(1);

/// Hosts one user's inbox while the user has sessions here, or something is to be changed.
pub struct InboxActor {
    registry: Arc<Registry>,
    tenant: TenantId,
    user: UserId,
    sessions: Vec<Recipient<RoomsChanged>>,
    /// How many sessions and wishes have come.
    taken: u64,
    /// Where the user's stream ends on disk.
    head: Head,
    waiting: VecDeque<Wish>,
    /// When the user was last seen, if that is to be written.
    seen: Option<Seen>,
    /// Some are being written.
    busy: bool,
    /// Others are being told who the user is, or have been a moment ago; whether there is something newer to tell.
    profile_told: Option<bool>,
}

/// Where a stream ends.
#[derive(Clone, Copy)]
enum Head {
    /// Something may be under way, of a predecessor or by a commit whose end is not known.
    Unknown,
    Known(Option<Position>),
}

impl InboxActor {
    pub fn new(registry: Arc<Registry>, tenant: TenantId, user: UserId) -> Self {
        Self {
            registry,
            tenant,
            user,
            sessions: Vec::new(),
            taken: 0,
            head: Head::Unknown,
            waiting: VecDeque::new(),
            seen: None,
            busy: false,
            profile_told: None,
        }
    }

    /// Writes what has come, unless something is being written.
    fn work(&mut self, ctx: &mut Context<Self>) {
        if self.busy || (self.waiting.is_empty() && self.seen.is_none()) {
            return;
        }
        self.busy = true;
        let wishes: Vec<Wish> = self.waiting.drain(..self.waiting.len().min(TOGETHER_MAX)).collect();
        let owner = (self.tenant.clone(), self.user.clone());
        let written = write(Arc::clone(&self.registry), owner, self.head, wishes, self.seen.take());
        ctx.spawn(written.into_actor(self).map(|written, inbox, ctx| {
            inbox.busy = false;
            inbox.head = written.head;
            for news in &written.news {
                match news {
                    RoomsChanged::Updated(updated) => inbox.signal(updated),
                    RoomsChanged::Profile(_) => inbox.tell_of_profile(ctx),
                    RoomsChanged::Gained { .. }
                    | RoomsChanged::Lost { .. }
                    | RoomsChanged::Hidden { .. }
                    | RoomsChanged::Blocked { .. } => {}
                }
                inbox.tell(news);
            }
            if let Some(settings) = written.settings {
                presences::show(&inbox.registry, (inbox.tenant.clone(), inbox.user.clone()), !settings.invisible);
            }
            for (to, answer) in written.answers {
                // Whoever asked may be gone.
                let _ = to.send(answer);
            }
            inbox.work(ctx);
            inbox.rest(ctx);
        }));
    }

    /// Tells those who follow the room how far the user has got.
    fn signal(&self, updated: &Updated) {
        let room = RoomKey { tenant: self.tenant.clone(), room: updated.room };
        let (user, entry) = (self.user.clone(), &updated.entry);
        let (delivered_to, read_to) = (entry.delivered.0.seq, updated.shown.0.seq);
        if updated.moved {
            self.registry.signal(&room, &Signal::Progress { user, delivered_to, read_to });
        }
    }

    #[expect(clippy::disallowed_methods, reason = "one per session and committed change")]
    fn tell(&self, change: &RoomsChanged) {
        for session in &self.sessions {
            session.do_send(change.clone());
        }
    }

    /// Tells those who share a room who the user is now: what changes meanwhile is told together after a while.
    fn tell_of_profile(&mut self, ctx: &mut Context<Self>) {
        self.profile_told = self.profile_told.map_or(Some(false), |_| Some(true));
        if self.profile_told != Some(false) {
            return;
        }
        let tell = profiles::tell(Arc::clone(&self.registry), (self.tenant.clone(), self.user.clone()));
        let tell = async move {
            tell.await;
            tokio::time::sleep(BETWEEN_PROFILES).await;
        };
        ctx.spawn(tell.into_actor(self).map(|(), inbox, ctx| {
            if inbox.profile_told.take() == Some(true) {
                inbox.tell_of_profile(ctx);
            }
            inbox.rest(ctx);
        }));
    }

    /// Ends when nobody needs it any more.
    fn rest(&self, ctx: &mut Context<Self>) {
        let idle = self.sessions.is_empty() && self.waiting.is_empty() && !self.busy && self.profile_told.is_none();
        if idle && self.registry.retire_inbox(&self.tenant, &self.user, &ctx.address(), self.taken) {
            ctx.stop();
        }
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
        self.taken += 1;
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
        self.rest(ctx);
    }
}

/// What the user's sessions hear. It is on disk already.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub enum RoomsChanged {
    /// The user gained a room, or became something else in it.
    Gained {
        room: RoomId,
        role: Role,
        standing: Standing,
    },
    Lost {
        room: RoomId,
    },
    /// What a room is to the user has changed.
    Updated(Arc<Updated>),
    /// The user does not want to see a message any more, or wants to again.
    Hidden {
        room: RoomId,
        message: RecordId,
        hidden: bool,
    },
    /// What the user says of itself has changed.
    Profile(Arc<Profile>),
    /// The user has blocked another one, or does no longer.
    Blocked {
        user: UserId,
        blocked: bool,
    },
}

impl Handler<RoomsChanged> for InboxActor {
    type Result = ();

    fn handle(&mut self, change: RoomsChanged, _: &mut Self::Context) {
        self.tell(&change);
    }
}

/// An entry as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Updated {
    pub room: RoomId,
    pub entry: Entry,
    /// How far others know that the user has read.
    shown: Reached,
    /// For others the user has got further.
    moved: bool,
    /// Where in the user's stream it has come to be so.
    pub position: Position,
}

impl Updated {
    pub fn change(&self) -> wire::Change {
        wire::Change { room: self.room, entry: self.entry.clone(), position: self.position }
    }
}

/// What a user may ask of the inbox.
pub enum What {
    /// Changes what a room is to the user.
    Update { room: RoomId, update: Update },
    /// Changes what the user has decided for all rooms.
    Decide(SettingsUpdate),
    /// Changes what the user says of itself.
    Profile(ProfileUpdate),
    /// Takes over what a token says of the user.
    Introduce(Introduction),
    /// Blocks another user, or does no longer.
    Block { user: UserId, blocked: bool },
    /// Has a message shown no more, or again.
    Hide { room: RoomId, message: RecordId, hidden: bool },
}

/// What has come of it, on disk.
#[derive(Clone, Debug)]
pub enum Granted {
    Updated(Arc<Updated>),
    Settings(Settings),
    Profile(Arc<Profile>),
    Done,
}

/// Asks something of the inbox, which is answered when it is on disk.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Wish {
    pub what: What,
    pub to: oneshot::Sender<Answer>,
}

type Answer = Result<Granted, Refusal>;

impl Handler<Wish> for InboxActor {
    type Result = ();

    fn handle(&mut self, wish: Wish, ctx: &mut Self::Context) {
        self.taken += 1;
        if self.waiting.len() >= WAITING_MAX {
            let _ = wish.to.send(Err(Refusal::busy(super::registry::BUSY)));
            return;
        }
        self.waiting.push_back(wish);
        self.work(ctx);
    }
}

/// Somebody else says something else of the user than before: this is what the user is shown as now.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ProfileChanged(pub Arc<Profile>);

impl Handler<ProfileChanged> for InboxActor {
    type Result = ();

    fn handle(&mut self, changed: ProfileChanged, ctx: &mut Self::Context) {
        self.taken += 1;
        self.tell(&RoomsChanged::Profile(changed.0));
        self.tell_of_profile(ctx);
    }
}

/// The user was last seen at this time.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Seen {
    pub at: Timestamp,
    /// Dropped when it is on disk.
    pub noted: Option<Noted>,
}

/// Held by what is to be written still.
pub type Noted = mpsc::Sender<Infallible>;

impl Handler<Seen> for InboxActor {
    type Result = ();

    fn handle(&mut self, seen: Seen, ctx: &mut Self::Context) {
        self.taken += 1;
        self.seen = Some(seen);
        self.work(ctx);
    }
}

/// What came of some wishes.
struct Written {
    head: Head,
    news: Vec<RoomsChanged>,
    /// Where these have changed.
    settings: Option<Settings>,
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
}

/// Carries out wishes in their order, and writes what follows from them all at once.
async fn write(
    registry: Arc<Registry>,
    (tenant, user): (TenantId, UserId),
    head: Head,
    wishes: Vec<Wish>,
    seen: Option<Seen>,
) -> Written {
    let (whats, askers): (Vec<_>, Vec<_>) = wishes.into_iter().map(|wish| (wish.what, wish.to)).unzip();
    let failed = |askers: Vec<oneshot::Sender<Answer>>, refusal: &Refusal| {
        let answers = askers.into_iter().map(|to| (to, Err(refusal.clone()))).collect();
        Written { head: Head::Unknown, news: Vec::new(), settings: None, answers }
    };
    let decided = match Deciding::begin(&registry, tenant, user, head).await {
        Ok(mut deciding) => deciding.all(whats).await.map(|answers| (deciding, answers)),
        Err(error) => Err(error),
    };
    let (deciding, answers) = match decided {
        Ok(decided) => decided,
        Err(error) => return failed(askers, &read_failed(&error)),
    };
    let settings = deciding.resettled.then_some(deciding.settings);
    let (commit, news, _holds) = deciding.end(seen.as_ref().map(|seen| seen.at));
    let (before, last) = (commit.expected, commit.records.last().map(|record| record.position));
    // Without anything to write everything is as it was asked to be.
    if !commit.puts.is_empty()
        && let Err(error) = registry.store().commit(commit).await
    {
        tracing::warn!(%error, "an inbox could not be written");
        return failed(askers, &commit_failed(error));
    }
    let answers = askers.into_iter().zip(answers).collect();
    Written { head: Head::Known(last.or(before)), news, settings, answers }
}

/// What follows from some wishes, put together for one commit.
struct Deciding<'a> {
    registry: &'a Registry,
    tenant: TenantId,
    user: UserId,
    settings: Settings,
    /// They are others than before.
    resettled: bool,
    /// What the user says of itself, if that is asked for.
    profile: Option<Arc<Profile>>,
    /// What tokens have said of the user, if that is about to change.
    introduced: Option<Arc<Introduction>>,
    /// Files that are not to be collected before the commit has settled.
    holds: Vec<Hold>,
    points: BTreeMap<RoomId, Standpoint>,
    at: Timestamp,
    next: Seq,
    commit: Commit,
    news: Vec<RoomsChanged>,
}

impl<'a> Deciding<'a> {
    async fn begin(registry: &'a Registry, tenant: TenantId, user: UserId, head: Head) -> Result<Self, StoreError> {
        let store = &**registry.store();
        let stream = StreamId::User(tenant.clone(), user.clone());
        let expected = match head {
            Head::Known(head) => head,
            Head::Unknown => store.settle(&stream).await?,
        };
        Ok(Self {
            settings: settings_of(store, &stream).await?,
            resettled: false,
            profile: None,
            introduced: None,
            holds: Vec::new(),
            points: BTreeMap::new(),
            at: registry.now(),
            next: expected.map_or(Seq::ZERO, |head| head.seq),
            commit: Commit { stream, expected, records: Vec::new(), puts: Vec::new(), erase: Vec::new(), trim: None },
            news: Vec::new(),
            registry,
            tenant,
            user,
        })
    }

    /// The answers to all of them, in their order.
    async fn all(&mut self, whats: Vec<What>) -> Result<Vec<Answer>, StoreError> {
        let mut answers = Vec::with_capacity(whats.len());
        for what in whats {
            answers.push(match what {
                What::Update { room, update } => self.update(room, update).await?,
                What::Hide { room, message, hidden } => self.hide(room, message, hidden).await?,
                What::Decide(update) => {
                    self.decide(update.of(self.settings));
                    Ok(Granted::Settings(self.settings))
                }
                What::Profile(update) => self.profile(update).await?,
                What::Introduce(said) => self.introduce(&said).await?,
                What::Block { user, blocked } => self.block(user, blocked).await?,
            });
        }
        Ok(answers)
    }

    /// What is to be written, and what the user's sessions are told then.
    fn end(mut self, seen: Option<Timestamp>) -> (Commit, Vec<RoomsChanged>, Vec<Hold>) {
        let invisible = self.settings.invisible;
        for (room, Standpoint { kept, was, shut, .. }) in std::mem::take(&mut self.points) {
            if kept.changed == was {
                continue;
            }
            let key = RoomKey { tenant: self.tenant.clone(), room };
            let progress = Progress { delivered: kept.entry.delivered, read: kept.shown };
            self.put(rows::entry(room), Some(kept.encode()));
            if !shut && !invisible {
                let value = Some(progress.encode());
                self.commit.puts.push(Put { under: key.stream(), key: rows::progress(&self.user), value });
            }
        }
        if let Some(at) = seen {
            self.put(rows::LAST_SEEN.into(), Some(at.encode()));
        }
        (self.commit, self.news, self.holds)
    }

    async fn update(&mut self, room: RoomId, update: Update) -> Result<Answer, StoreError> {
        let Settings { private_reading: private, invisible, .. } = self.settings;
        let point = self.point(room).await?;
        let updated = point.head.ok_or(Rejection::NotMember).and_then(|head| point.kept.entry.updated(update, head));
        let entry = match updated {
            Ok(entry) => entry,
            Err(rejection) => return Ok(Err(rejection.into())),
        };
        let (before, shut) = (point.kept.clone(), point.shut || invisible);
        let shown = if private || shut { before.shown } else { entry.read };
        let moved = !shut && (entry.delivered, shown) != (before.entry.delivered, before.shown);
        let changed = entry != before.entry;
        let mut position = before.changed;
        if changed {
            let (delivered, read) = (entry.delivered, entry.read);
            position = self.record(InboxEvent::EntryUpdated { room, delivered, read });
            self.point(room).await?.kept = Kept { entry: entry.clone(), shown, changed: position };
        }
        let updated = Arc::new(Updated { room, entry, shown, moved, position });
        if changed {
            self.news.push(RoomsChanged::Updated(Arc::clone(&updated)));
        }
        Ok(Ok(Granted::Updated(updated)))
    }

    async fn hide(&mut self, room: RoomId, message: RecordId, hidden: bool) -> Result<Answer, StoreError> {
        if self.point(room).await?.head.is_none() {
            return Ok(Err(Rejection::NotMember.into()));
        }
        self.forget_hidden(room).await?;
        self.record(InboxEvent::MessageHidden { room, message, hidden });
        self.put(rows::hidden(room, message.seq()), hidden.then(|| message.encode()));
        self.news.push(RoomsChanged::Hidden { room, message, hidden });
        Ok(Ok(Granted::Done))
    }

    /// Lets go of some of what the user did not want to see and what the room has trimmed since.
    async fn forget_hidden(&mut self, room: RoomId) -> Result<(), StoreError> {
        let store = &**self.registry.store();
        let key = RoomKey { tenant: self.tenant.clone(), room };
        let header = store.get(&key.stream(), rows::HEADER).await?.map(|row| Header::decode(&row)).transpose()?;
        let Some(kept_from) = header.map(|header| header.kept_from()) else { return Ok(()) };
        let oldest = store.scan(&self.commit.stream, &rows::hidden_in(room), None, FORGOTTEN_AT_ONCE).await?;
        let gone = rows::hidden(room, kept_from);
        for (key, _) in oldest.into_iter().take_while(|(key, _)| *key < gone) {
            self.put(key, None);
        }
        Ok(())
    }

    async fn block(&mut self, user: UserId, blocked: bool) -> Result<Answer, StoreError> {
        let store = &**self.registry.store();
        let key = rows::block(&user);
        // What has been decided with this commit is not on disk yet, and is decided again.
        let before = store.get(&self.commit.stream, &key).await?.is_some();
        let undecided = !self.commit.puts.iter().any(|put| put.key.starts_with(rows::BLOCKS));
        if before == blocked && undecided {
            return Ok(Ok(Granted::Done));
        }
        let others = store.scan(&self.commit.stream, rows::BLOCKS, None, BLOCKS_MAX).await?;
        let decided = self.commit.puts.iter().filter(|put| put.key.starts_with(rows::BLOCKS) && put.value.is_some());
        if blocked && !before && others.len() + decided.count() >= BLOCKS_MAX {
            return Ok(Err(Rejection::TooManyBlocks.into()));
        }
        self.record(InboxEvent::UserBlocked { user: user.clone(), blocked });
        self.put(key, blocked.then(Bytes::new));
        self.news.push(RoomsChanged::Blocked { user, blocked });
        Ok(Ok(Granted::Done))
    }

    async fn profile(&mut self, update: ProfileUpdate) -> Result<Answer, StoreError> {
        let (before, introduced) = (self.own_profile().await?, self.introduced().await?);
        let profile = introduced.heeded(before.updated(update));
        self.change_profile(before, profile).await
    }

    async fn introduce(&mut self, said: &Introduction) -> Result<Answer, StoreError> {
        let (before, introduced) = (self.own_profile().await?, self.introduced().await?);
        let (profile, now) = said.introduce(&before, &introduced);
        if now != *introduced {
            self.put(rows::INTRODUCTION.into(), Some(now.encode()));
            self.introduced = Some(Arc::new(now));
        }
        self.change_profile(before, profile).await
    }

    async fn own_profile(&self) -> Result<Arc<Profile>, StoreError> {
        match &self.profile {
            Some(profile) => Ok(Arc::clone(profile)),
            None => Ok(Arc::new(profiles::profile_of(&**self.registry.store(), &self.commit.stream).await?)),
        }
    }

    /// What tokens have said of the user.
    async fn introduced(&self) -> Result<Arc<Introduction>, StoreError> {
        if let Some(known) = &self.introduced {
            return Ok(Arc::clone(known));
        }
        let row = self.registry.store().get(&self.commit.stream, rows::INTRODUCTION).await?;
        Ok(Arc::new(row.map(|row| Introduction::decode(&row)).transpose()?.unwrap_or_default()))
    }

    async fn change_profile(&mut self, before: Arc<Profile>, profile: Profile) -> Result<Answer, StoreError> {
        let profile = Arc::new(profile);
        if profile != before {
            if let Err(refusal) = self.avatar(before.avatar.as_ref(), profile.avatar.as_ref()).await {
                return Ok(Err(refusal));
            }
            self.record(InboxEvent::ProfileUpdated);
            self.put(rows::PROFILE.into(), Some(profile.encode()));
            self.contacts(&before, &profile);
            self.news.push(RoomsChanged::Profile(Arc::clone(&profile)));
        }
        self.profile = Some(Arc::clone(&profile));
        Ok(Ok(Granted::Profile(profile)))
    }

    /// By its contacts the user is found, for as long as it says that they are its own.
    fn contacts(&mut self, before: &Profile, now: &Profile) {
        let (before, now) = (rows::contact_hashes(before), rows::contact_hashes(now));
        let put = |hash: &ContactHash, value| Put {
            under: StreamId::Accounts(self.tenant.clone()),
            key: rows::accounts::contact(*hash, &self.user),
            value,
        };
        let gone = before.iter().filter(|hash| !now.contains(hash)).map(|hash| put(hash, None));
        let come = now.iter().filter(|hash| !before.contains(hash)).map(|hash| put(hash, Some(Bytes::new())));
        let puts: Vec<_> = gone.chain(come).collect();
        self.commit.puts.extend(puts);
    }

    /// A file that stands for the user is referred to for as long as it does.
    async fn avatar(&mut self, before: Option<&Avatar>, now: Option<&Avatar>) -> Result<(), Refusal> {
        let (before, now) = (before.and_then(Avatar::file), now.and_then(Avatar::file));
        if before == now {
            return Ok(());
        }
        if let Some(file) = now {
            self.holds.push(self.registry.files()?.avatar(&self.tenant, &self.user, file).await?);
        }
        let gone = before.map(|file| Files::avatar_reference(file, &self.user, false));
        let come = now.map(|file| Files::avatar_reference(file, &self.user, true));
        self.commit.puts.extend(gone.into_iter().chain(come));
        Ok(())
    }

    fn decide(&mut self, settings: Settings) {
        if settings != self.settings {
            self.record(InboxEvent::SettingsUpdated(settings));
            self.put(rows::SETTINGS.into(), Some(settings.encode()));
            self.settings = settings;
            self.resettled = true;
        }
    }

    async fn point(&mut self, room: RoomId) -> Result<&mut Standpoint, StoreError> {
        if !self.points.contains_key(&room) {
            let key = RoomKey { tenant: self.tenant.clone(), room };
            let point = standpoint(&**self.registry.store(), &self.commit.stream, &key).await?;
            self.points.insert(room, point);
        }
        Ok(self.points.get_mut(&room).expect("it has just been looked up"))
    }

    fn record(&mut self, event: InboxEvent) -> Position {
        self.next = self.next.next();
        let position = Position { epoch: self.registry.store().epoch(), seq: self.next };
        self.commit.records.push(record(&self.user, position, self.at, event));
        position
    }

    /// A row under the user's stream.
    fn put(&mut self, key: Bytes, value: Option<Bytes>) {
        self.commit.puts.push(Put { under: self.commit.stream.clone(), key, value });
    }
}

/// How a user stands to a room.
struct Standpoint {
    /// The end of the room; `None` for who is no member.
    head: Option<Position>,
    kept: Kept,
    /// `kept.changed` as it is on disk.
    was: Position,
    /// The other one is not to learn how far the user gets: one of the two has blocked the other.
    shut: bool,
}

async fn standpoint(store: &dyn Store, stream: &StreamId, room: &RoomKey) -> Result<Standpoint, StoreError> {
    let (place, entry) = (rows::place(room.room), rows::entry(room.room));
    let mut found = store.get_all(stream, &[&place, &entry]).await?.into_iter();
    let place = found.next().flatten().map(|row| Place::decode(&row)).transpose()?;
    let kept = found.next().flatten().map(|row| Kept::decode(&row)).transpose()?.unwrap_or_default();
    let direct = place.as_ref().is_some_and(|place| place.kind == RoomKind::Direct);
    let head = match place {
        Some(Place { standing: Standing::Member, .. }) => store.head(&room.stream()).await?,
        Some(Place { standing: Standing::Invited, .. }) | None => None,
    };
    Ok(Standpoint { head, was: kept.changed, kept, shut: direct && is_shut(store, room).await? })
}

/// What the user has decided for all rooms.
pub async fn settings_of(store: &dyn Store, stream: &StreamId) -> Result<Settings, StoreError> {
    let row = store.get(stream, rows::SETTINGS).await?;
    Ok(row.map(|row| Row::decode(&row)).transpose()?.unwrap_or_default())
}

fn record(user: &UserId, position: Position, at: Timestamp, event: InboxEvent) -> Record {
    Record {
        position,
        id: RecordId::new(at, position.seq, random_wide()),
        num: Num(0),
        at,
        author: user.clone(),
        client_id: None,
        event: Event::Inbox(event),
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
