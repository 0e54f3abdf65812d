//! A user's inbox: what each of the user's rooms is to the user, put in order, and the live sessions that want to hear
//! when that changes, or when a room is gained or lost.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient, WrapFuture};
use tokio::sync::oneshot;

use super::failure::{commit_failed, read_failed};
use super::registry::Registry;
use crate::clock::random_wide;
use crate::domain::inbox::{Entry, Reached, Settings, Update};
use crate::domain::policy::Standing;
use crate::domain::{
    Event, InboxEvent, Num, Position, Record, RecordId, Rejection, Role, RoomId, RoomKey, Seq, Signal, StreamId,
    TenantId, Timestamp, UserId,
};
use crate::store::rows::{self, Kept, Place, Progress, Row};
use crate::store::{Commit, Put, Store, StoreError};
use crate::wire::{self, Listed, Refusal};

/// How many changes of entries wait for an inbox.
const WAITING_MAX: usize = 256;

/// How many of them are written together.
const TOGETHER_MAX: usize = 64;

/// Hosts one user's inbox while the user has sessions here, or something is to be changed.
pub struct InboxActor {
    registry: Arc<Registry>,
    tenant: TenantId,
    user: UserId,
    sessions: Vec<Recipient<RoomsChanged>>,
    /// How many sessions and changes have come.
    taken: u64,
    /// Where the user's stream ends on disk.
    head: Head,
    waiting: VecDeque<Change>,
    /// What else is to be written.
    beside: Beside,
    /// Some are being written.
    busy: bool,
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
            beside: Beside::default(),
            busy: false,
        }
    }

    /// Writes what has come, unless something is being written.
    fn work(&mut self, ctx: &mut Context<Self>) {
        if self.busy || (self.waiting.is_empty() && self.beside.is_empty()) {
            return;
        }
        self.busy = true;
        let changes: Vec<Change> = self.waiting.drain(..self.waiting.len().min(TOGETHER_MAX)).collect();
        let owner = (self.tenant.clone(), self.user.clone());
        let written = write(Arc::clone(&self.registry), owner, self.head, changes, std::mem::take(&mut self.beside));
        ctx.spawn(written.into_actor(self).map(|written, inbox, ctx| {
            inbox.busy = false;
            inbox.head = written.head;
            for updated in &written.updated {
                inbox.signal(updated);
                inbox.tell(&RoomsChanged::Updated(Arc::clone(updated)));
            }
            for (change, answer) in written.answers {
                // Whoever asked may be gone.
                let _ = change.send(answer);
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

    /// Ends when nobody needs it any more.
    fn rest(&self, ctx: &mut Context<Self>) {
        let idle = self.sessions.is_empty() && self.waiting.is_empty() && !self.busy;
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

/// Changes what a room is to the user. Answered when that is on disk.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Change {
    pub room: RoomId,
    pub update: Update,
    pub to: oneshot::Sender<Result<Arc<Updated>, Refusal>>,
}

impl Handler<Change> for InboxActor {
    type Result = ();

    fn handle(&mut self, change: Change, ctx: &mut Self::Context) {
        self.taken += 1;
        if self.waiting.len() >= WAITING_MAX {
            let _ = change.to.send(Err(Refusal::busy(super::registry::BUSY)));
            return;
        }
        self.waiting.push_back(change);
        self.work(ctx);
    }
}

/// The user was last seen at this time.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Seen(pub Timestamp);

impl Handler<Seen> for InboxActor {
    type Result = ();

    fn handle(&mut self, Seen(at): Seen, ctx: &mut Self::Context) {
        self.taken += 1;
        self.beside.seen = Some(at);
        self.work(ctx);
    }
}

/// Changes what the user has decided for all rooms. Answered when that is on disk.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Decide {
    pub settings: Settings,
    pub to: oneshot::Sender<Result<(), Refusal>>,
}

impl Handler<Decide> for InboxActor {
    type Result = ();

    fn handle(&mut self, decide: Decide, ctx: &mut Self::Context) {
        self.taken += 1;
        if self.beside.decided.len() >= TOGETHER_MAX {
            let _ = decide.to.send(Err(Refusal::busy(super::registry::BUSY)));
            return;
        }
        self.beside.decided.push(decide);
        self.work(ctx);
    }
}

/// What is written beside the changes of entries.
#[derive(Default)]
struct Beside {
    /// When the user was last seen.
    seen: Option<Timestamp>,
    /// The last of them holds.
    decided: Vec<Decide>,
}

impl Beside {
    fn is_empty(&self) -> bool {
        self.seen.is_none() && self.decided.is_empty()
    }

    fn answer(self, answer: &Result<(), Refusal>) {
        for Decide { to, .. } in self.decided {
            // Whoever asked may be gone.
            let _ = to.send(answer.clone());
        }
    }
}

/// What came of some changes.
struct Written {
    head: Head,
    updated: Vec<Arc<Updated>>,
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
}

type Answer = Result<Arc<Updated>, Refusal>;

/// Carries out changes in their order, and writes what follows from them all at once.
async fn write(
    registry: Arc<Registry>,
    owner: (TenantId, UserId),
    head: Head,
    changes: Vec<Change>,
    beside: Beside,
) -> Written {
    let mut answers = Vec::with_capacity(changes.len());
    let settings = beside.decided.last().map(|decide| decide.settings);
    let written = decide(&registry, &owner, head, changes, settings, &mut answers).await;
    let (head, updated, mut commit) = match written {
        Ok(Decided { head, updated, commit }) => (Head::Known(head), updated, commit),
        Err(error) => return Written::failed(answers, beside, &read_failed(&error)),
    };
    if let Some(at) = beside.seen {
        let (under, key) = (commit.stream.clone(), rows::LAST_SEEN.into());
        commit.puts.push(Put { under, key, value: Some(at.encode()) });
    }
    if commit.puts.is_empty() {
        // Everything is as it was asked to be.
        beside.answer(&Ok(()));
        return Written { head, updated, answers };
    }
    let last = commit.records.last().map(|record| record.position);
    match registry.store().commit(commit).await {
        Ok(()) => {
            beside.answer(&Ok(()));
            Written { head: last.map_or(head, |last| Head::Known(Some(last))), updated, answers }
        }
        Err(error) => {
            tracing::warn!(%error, "an inbox could not be written");
            Written::failed(answers, beside, &commit_failed(error))
        }
    }
}

impl Written {
    /// Nothing is known to be written: everybody is told so.
    fn failed(answers: Vec<(oneshot::Sender<Answer>, Answer)>, beside: Beside, refusal: &Refusal) -> Self {
        beside.answer(&Err(refusal.clone()));
        let answers = answers.into_iter().map(|(to, _)| (to, Err(refusal.clone()))).collect();
        Self { head: Head::Unknown, updated: Vec::new(), answers }
    }
}

/// What follows from some changes.
struct Decided {
    head: Option<Position>,
    updated: Vec<Arc<Updated>>,
    commit: Commit,
}

async fn decide(
    registry: &Registry,
    (tenant, user): &(TenantId, UserId),
    head: Head,
    changes: Vec<Change>,
    settings: Option<Settings>,
    answers: &mut Vec<(oneshot::Sender<Answer>, Answer)>,
) -> Result<Decided, StoreError> {
    let store = &**registry.store();
    let stream = StreamId::User(tenant.clone(), user.clone());
    // None is left without an answer, whatever fails below.
    let mut wanted = Vec::with_capacity(changes.len());
    for Change { room, update, to } in changes {
        answers.push((to, Err(Refusal::unavailable())));
        wanted.push((room, update));
    }
    let head = match head {
        Head::Known(head) => head,
        Head::Unknown => store.settle(&stream).await?,
    };
    let mut entries: BTreeMap<RoomId, Standpoint> = BTreeMap::new();
    for (room, _) in &wanted {
        if !entries.contains_key(room) {
            let key = RoomKey { tenant: tenant.clone(), room: *room };
            entries.insert(*room, standpoint(store, &stream, &key).await?);
        }
    }
    let before = settings_of(store, &stream).await?;
    let now = settings.unwrap_or(before);
    let mut next = head.map_or(Seq::ZERO, |head| head.seq);
    let (epoch, at) = (store.epoch(), registry.now());
    let mut commit = Commit { stream, expected: head, records: Vec::new(), puts: Vec::new(), erase: Vec::new() };
    let mut updated = Vec::new();
    if now != before {
        next = next.next();
        let event = InboxEvent::SettingsUpdated(now);
        commit.records.push(record(user, Position { epoch, seq: next }, at, event));
        let (under, key) = (commit.stream.clone(), rows::SETTINGS.into());
        commit.puts.push(Put { under, key, value: Some(now.encode()) });
    }
    for ((room, update), (_, answer)) in wanted.into_iter().zip(answers) {
        let point = entries.get_mut(&room).expect("each has been looked up");
        let entry = point.head.ok_or(Rejection::NotMember).and_then(|head| point.kept.entry.updated(update, head));
        *answer = match entry {
            Err(rejection) => Err(rejection.into()),
            Ok(entry) => {
                let changed = entry != point.kept.entry;
                let shown = if now.private_reading { point.kept.shown } else { entry.read };
                let moved = (entry.delivered, shown) != (point.kept.entry.delivered, point.kept.shown);
                if changed {
                    next = next.next();
                    let position = Position { epoch, seq: next };
                    point.kept = Kept { entry: entry.clone(), shown, changed: position };
                    let (delivered, read) = (entry.delivered, entry.read);
                    let event = InboxEvent::EntryUpdated { room, delivered, read };
                    commit.records.push(record(user, position, at, event));
                }
                let point = Updated { room, entry, shown, moved, position: point.kept.changed };
                let point = Arc::new(point);
                if changed {
                    updated.push(Arc::clone(&point));
                }
                Ok(point)
            }
        };
    }
    for (room, Standpoint { kept, was, .. }) in entries {
        if kept.changed == was {
            continue;
        }
        let key = RoomKey { tenant: tenant.clone(), room };
        let progress = Progress { delivered: kept.entry.delivered, read: kept.shown };
        commit.puts.push(Put { under: commit.stream.clone(), key: rows::entry(room), value: Some(kept.encode()) });
        commit.puts.push(Put { under: key.stream(), key: rows::progress(user), value: Some(progress.encode()) });
    }
    Ok(Decided { head, updated, commit })
}

/// How a user stands to a room.
struct Standpoint {
    /// The end of the room; `None` for who is no member.
    head: Option<Position>,
    kept: Kept,
    /// `kept.changed` as it is on disk.
    was: Position,
}

async fn standpoint(store: &dyn Store, stream: &StreamId, room: &RoomKey) -> Result<Standpoint, StoreError> {
    let (place, entry) = (rows::place(room.room), rows::entry(room.room));
    let mut found = store.get_all(stream, &[&place, &entry]).await?.into_iter();
    let place = found.next().flatten().map(|row| Place::decode(&row)).transpose()?;
    let kept = found.next().flatten().map(|row| Kept::decode(&row)).transpose()?.unwrap_or_default();
    let head = match place {
        Some(Place { standing: Standing::Member, .. }) => store.head(&room.stream()).await?,
        Some(Place { standing: Standing::Invited, .. }) | None => None,
    };
    Ok(Standpoint { head, was: kept.changed, kept })
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
