//! A user's whole world on one connection: all rooms that the user is in, those of later too, under one cursor.
//!
//! Each room has a follower, as for any other follow, so that publications and removals reach it the same way. What
//! the followers of a world share is its [`Track`]: it says of every record whether it may be handed over now, and
//! which cursor stands behind it. The [`WorldActor`] opens followers, reads the log for those that are behind, one page
//! at a time and only when everything before has left, and makes a pass when the track has no place for more.
//!
//! Whoever begins a pass takes the log's mark first and lists the rooms afterwards. So a room that is not in the list
//! has been joined after the mark, and needs no exception: nobody stands before the beginning of a membership.

use std::cell::{Cell, RefCell};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, Recipient, WrapFuture,
};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::batch::Batch;
use super::failure::read_failed;
use super::inbox::{Attach, Detach, InboxActor, RoomsChanged, list_rooms};
use super::link::{Cut, Link};
use super::pages::FramedPage;
use super::paging::gone;
use super::registry::Registry;
use super::worker::{Follower, Registration, Worker};
use crate::domain::policy::Standing;
use crate::domain::room::{Header, Member};
use crate::domain::session::Generation;
use crate::domain::world::{Pass, RoomTag, Stand, World};
use crate::domain::{Mark, Position, Principal, RoomId, RoomKey, Seq, StreamId};
use crate::store::rows::{self, Row};
use crate::store::{At, Store, StoreError};
use crate::wire::{Absence, CloseReason, CursorText, Dialect, From as Since, Gap, Notice, Refusal, world_cursor};

/// How many rooms a world may have. What one costs in memory is a follower, less than a KiB.
pub const ROOMS_MAX: usize = 10_000;

/// How many rooms are listed at once.
const LIST_ROOMS: usize = 500;

/// How many memberships are looked up at once: a few for each thread that reads.
const LOOK_UPS: usize = 16;

/// How far a world has got, shared by its followers.
pub struct Track {
    registry: Arc<Registry>,
    /// Whose cursors these are.
    by: Principal,
    world: RefCell<World>,
    /// Nothing is handed over: a pass is about to begin.
    paused: Cell<bool>,
    /// A follower has ended, and nobody has looked yet which.
    ended: Cell<bool>,
}

impl Track {
    fn new(registry: &Arc<Registry>, by: Principal, world: World) -> Self {
        let (world, paused, ended) = (RefCell::new(world), Cell::new(true), Cell::new(false));
        Self { registry: Arc::clone(registry), by, world, paused, ended }
    }

    /// Whether records of `room` may be handed over as they are published.
    pub fn takes(&self, room: RoomId) -> bool {
        !self.paused.get() && self.world.borrow().takes(RoomTag::of(room))
    }

    /// Appends the record at `seq`, as it was framed for everybody, with the cursor behind it, and takes note that it
    /// is handed over.
    pub fn put(&self, out: &mut BytesMut, dialect: Dialect, room: RoomId, seq: Seq, framed: &[u8]) {
        let tag = RoomTag::of(room);
        {
            let mut world = self.world.borrow_mut();
            if world.pass().is_some() {
                world.reached(tag, seq);
            } else {
                let noted = world.delivered(tag, seq);
                debug_assert!(noted.is_ok(), "whoever hands over has asked");
            }
        }
        dialect.put_in_world(out, framed, &self.sealed());
    }

    /// What was handed over of `room` after `seq` has been taken back.
    pub fn rewound(&self, room: RoomId, seq: Seq) {
        self.world.borrow_mut().rewound(RoomTag::of(room), seq);
    }

    /// A follower of this world has ended.
    pub fn ended(&self) {
        self.ended.set(true);
    }

    /// The cursor behind everything that has been handed over.
    pub fn cursor(&self) -> String {
        self.sealed().to_string()
    }

    fn sealed(&self) -> CursorText<{ world_cursor::TEXT_BYTES_MAX }> {
        let epoch = self.registry.store().epoch();
        self.registry.sealer().seal(&self.by.tenant, &self.by.user, epoch, &self.world.borrow())
    }
}

/// A world that is being followed. Dropped, it ends.
pub struct WorldFollow {
    addr: Addr<WorldActor>,
    track: Rc<Track>,
}

impl WorldFollow {
    /// The connection takes records again and none are waiting.
    #[expect(clippy::disallowed_methods, reason = "a pull is asked for once at a time")]
    pub fn drained(&self) {
        self.addr.do_send(Drained);
    }

    /// Waits until nothing is behind.
    async fn settled(&self) {
        let (settled, told) = oneshot::channel();
        // Who is gone is not behind, and whoever takes from the link hears of its end.
        if self.addr.send(Settle(settled)).await.is_ok() {
            let _ = told.await;
        }
    }

    /// Ends it; when this returns, nothing of it is handed over any more.
    pub async fn end(self) {
        // Who is gone has ended already.
        let _ = self.addr.send(End).await;
    }
}

impl Drop for WorldFollow {
    #[expect(clippy::disallowed_methods, reason = "once per follow")]
    fn drop(&mut self) {
        self.addr.do_send(End);
    }
}

/// Where a world begins.
pub struct Opened {
    pub cursor: String,
    /// How many rooms it has.
    pub rooms: usize,
}

/// Follows everything that happens in the rooms of `by`, whose connection is `link`. `greet` is called before anything
/// of it is handed over. With a refusal nothing has been started.
pub async fn follow_all(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    by: Principal,
    since: Since,
    greet: impl FnOnce(Opened) + 'static,
) -> Result<WorldFollow, Refusal> {
    let (opened, told) = oneshot::channel();
    let (worker, link) = (Rc::clone(worker), Rc::clone(link));
    let time = worker.registry().limits().answer_timeout;
    let host = WorldActor {
        track: Rc::new(Track::new(worker.registry(), by, World::at(Mark::default()))),
        worker,
        link,
        inbox: None,
        since: Some(since),
        greet: Some(Box::new(greet)),
        opened: Some(opened),
        rooms: BTreeMap::new(),
        gained: BTreeSet::new(),
        again: BTreeSet::new(),
        targets: BTreeMap::new(),
        gaps: BTreeMap::new(),
        busy: true,
        read: None,
        settling: Vec::new(),
    };
    let track = Rc::clone(&host.track);
    let follow = WorldFollow { addr: host.start(), track };
    match tokio::time::timeout(time, told).await {
        Ok(Ok(Ok(()))) => Ok(follow),
        Ok(Ok(Err(refusal))) => Err(refusal),
        Ok(Err(_)) | Err(_) => Err(Refusal::unavailable()),
    }
}

/// What happened in all rooms of a user, as objects in JSON.
pub struct Paged {
    pub records: Vec<Bytes>,
    pub notices: Vec<Bytes>,
    /// Where the next page continues.
    pub cursor: String,
    /// Nothing lay beyond the page when it was read.
    pub complete: bool,
}

/// Up to `limit` records from all rooms of `by` after `since`; where there are none yet, the first that come within
/// `wait`. `link` is the connection that the answer will leave by: known as its user's, so a removal cuts it.
pub async fn page(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    by: Principal,
    since: Since,
    limit: usize,
    wait: Duration,
) -> Result<Paged, Refusal> {
    tokio::select! {
        biased;
        refusal = gone(link) => Err(refusal),
        page = read_page(worker, by, since, limit, wait) => page,
    }
}

async fn read_page(
    worker: &Rc<Worker>,
    by: Principal,
    since: Since,
    limit: usize,
    wait: Duration,
) -> Result<Paged, Refusal> {
    let until = Instant::now() + wait;
    // Nothing leaves through this one: what comes is taken out here.
    let link = Rc::new(Link::request(Box::new(Uncut)));
    let begins = Rc::new(Cell::new(None));
    let told = Rc::clone(&begins);
    let world = follow_all(worker, &link, by, since, move |opened| told.set(Some(opened.cursor))).await?;
    let cursor = begins.take().ok_or_else(Refusal::unavailable)?;
    let mut page = Paged { records: Vec::new(), notices: Vec::new(), cursor, complete: false };
    let next = || poll_fn(|cx| link.outbox.poll_take(cx, || world.drained()));
    loop {
        {
            let mut settled = pin!(world.settled());
            loop {
                let framed = tokio::select! {
                    // What has come, first: who is settled has handed all of it over.
                    biased;
                    framed = next() => framed.ok_or_else(Refusal::unavailable)?,
                    () = &mut settled => break,
                };
                if page.add(framed, limit) {
                    return Ok(page);
                }
            }
        }
        page.cursor = world.track.cursor();
        page.complete = true;
        if !page.records.is_empty() || Instant::now() >= until {
            return Ok(page);
        }
        if let Ok(framed) = timeout_at(until, next()).await {
            page.complete = false;
            if page.add(framed.ok_or_else(Refusal::unavailable)?, limit) {
                return Ok(page);
            }
        }
    }
}

impl Paged {
    /// Takes over what was framed; true when the page is full, and there may be more.
    fn add(&mut self, mut framed: Bytes, limit: usize) -> bool {
        for (object, cursor) in Dialect::take_apart(&mut framed) {
            match cursor {
                Some(_) if self.records.len() >= limit => return true,
                Some(cursor) => {
                    self.records.push(object);
                    self.cursor = cursor;
                }
                None => self.notices.push(object),
            }
        }
        self.records.len() >= limit
    }
}

struct Uncut;

impl Cut for Uncut {
    fn cut(&self) {}
}

/// Hosts one world.
struct WorldActor {
    worker: Rc<Worker>,
    link: Rc<Link>,
    track: Rc<Track>,
    inbox: Option<(Addr<InboxActor>, Recipient<RoomsChanged>)>,
    /// What was asked for, until it has been opened.
    since: Option<Since>,
    greet: Option<Box<dyn FnOnce(Opened)>>,
    opened: Option<oneshot::Sender<Result<(), Refusal>>>,
    rooms: BTreeMap<RoomTag, Rc<Follower>>,
    /// Rooms that the user has come into and that have no follower yet.
    gained: BTreeSet<RoomId>,
    /// Rooms that the user has come into while a follower of an earlier membership was still there.
    again: BTreeSet<RoomId>,
    /// How far the pass that is under way reads each room.
    targets: BTreeMap<RoomTag, Seq>,
    /// What is passed over in a room, until its first records are handed over.
    gaps: BTreeMap<RoomTag, Gap>,
    /// Something is being read; one thing at a time.
    busy: bool,
    /// The room that was read last, so that the others get their turn.
    read: Option<RoomTag>,
    /// Who wants to know when nothing is behind.
    settling: Vec<oneshot::Sender<()>>,
}

/// What becomes of a world when it is opened, or comes to a pass.
struct Survey {
    world: World,
    found: Vec<Found>,
    /// Where the rooms that were known stood at the mark up to which is read.
    known: Vec<(RoomTag, Seq)>,
}

/// A room that the user is in.
struct Found {
    registration: Registration,
    /// Where the membership began.
    joined: Seq,
    /// Up to where the room has been trimmed.
    trimmed: Seq,
    /// Where the world stands in it, by its cursor.
    stood: Seq,
    /// How far it had come at the mark up to which is read.
    target: Seq,
    head: Position,
}

impl WorldActor {
    fn registry(&self) -> &Arc<Registry> {
        self.worker.registry()
    }

    fn notify(&self, notice: &Notice) {
        self.link.notify(notice);
    }

    /// Does `work`, which nothing else is done beside.
    fn alone<T: 'static>(
        &mut self,
        ctx: &mut Context<Self>,
        work: impl Future<Output = T> + 'static,
        then: impl FnOnce(&mut Self, T, &mut Context<Self>) + 'static,
    ) {
        self.busy = true;
        ctx.spawn(work.into_actor(self).map(|result, world, ctx| {
            world.busy = false;
            then(world, result, ctx);
            world.go_on(ctx);
        }));
    }

    fn open(&mut self, since: Since, ctx: &mut Context<Self>) {
        let survey = survey(Rc::clone(&self.worker), Rc::clone(&self.link), Rc::clone(&self.track), since);
        self.alone(ctx, survey, |world, surveyed, ctx| {
            let Some(opened) = world.opened.take() else { return };
            match surveyed {
                Ok(surveyed) => {
                    // Whoever asked may be gone.
                    let _ = opened.send(Ok(()));
                    *world.track.world.borrow_mut() = surveyed.world;
                    // Told before anything is admitted, so that no record can come before it.
                    if let Some(greet) = world.greet.take() {
                        greet(Opened { cursor: world.track.cursor(), rooms: surveyed.found.len() });
                    }
                    for found in surveyed.found {
                        world.admit(found, true);
                    }
                    world.track.paused.set(false);
                }
                Err(refusal) => {
                    let _ = opened.send(Err(refusal));
                    ctx.stop();
                }
            }
        });
    }

    /// Takes a room in. `told` says whether what is passed over is said.
    fn admit(&mut self, found: Found, told: bool) {
        let Found { registration, joined, trimmed, stood, target, head } = found;
        let room = registration.follower().room().room;
        let tag = RoomTag::of(room);
        if self.rooms.contains_key(&tag) || self.rooms.len() >= ROOMS_MAX {
            if self.rooms.get(&tag).is_some_and(|other| other.room().room == room) {
                // Should that be of an earlier membership, it has yet to hear of its end.
                self.again.insert(room);
            } else {
                tracing::warn!(%room, "a room has no place in a world");
                self.notify(&Notice::FollowFailed { room, refusal: Refusal::too_many_follows() });
            }
            return;
        }
        let floor = Seq(joined.0.saturating_sub(1));
        // Without the head of a log that is behind what the room says nobody stands beyond it.
        let at = Position { seq: stood.max(floor).max(trimmed.min(head.seq)), ..head };
        {
            let mut follow = registration.follower().follow().borrow_mut();
            if !follow.admit(at, joined) {
                return;
            }
            let generation = follow.generation();
            // Who stands at the head has nothing to read, unless something came meanwhile.
            follow.page(generation, at.seq, None, at.seq == head.seq, []);
        }
        if told && stood.max(floor) < trimmed {
            let from = if stood == Seq::ZERO { joined } else { stood.next() };
            self.gaps.insert(tag, Gap { from, to: trimmed, reason: Absence::Retention });
        } else if told && Seq::ZERO < stood && stood < floor {
            self.gaps.insert(tag, Gap { from: stood.next(), to: floor, reason: Absence::NotMember });
        }
        if self.track.world.borrow().pass().is_some() && at.seq < target {
            self.targets.insert(tag, target);
        }
        let follower = registration.keep();
        self.worker.greet(&follower);
        self.rooms.insert(tag, follower);
    }

    /// Does what is to be done next, unless something is being done.
    fn go_on(&mut self, ctx: &mut Context<Self>) {
        if self.busy || !self.link.outbox.is_open() {
            return;
        }
        if self.track.ended.take() {
            self.forget_ended();
        }
        if !self.gained.is_empty() {
            return self.open_gained(ctx);
        }
        let pass = self.track.world.borrow().pass();
        if pass.is_none() && self.next_behind().is_none() {
            return self.settle();
        }
        if !self.link.outbox.log_is_empty() {
            return self.link.outbox.want_pull();
        }
        if let Some(pass) = pass {
            if let Some((follower, target)) = self.next_of(pass) {
                return self.pull(follower, Some(target), ctx);
            }
            self.track.world.borrow_mut().finish();
            self.targets.clear();
        }
        match self.next_behind() {
            Some(follower) if self.track.takes(follower.room().room) => self.pull(follower, None, ctx),
            Some(_) => self.begin_pass(ctx),
            None => self.settle(),
        }
    }

    fn settle(&mut self) {
        for settling in self.settling.drain(..) {
            // Whoever asked may be gone.
            let _ = settling.send(());
        }
    }

    fn forget_ended(&mut self) {
        let ended = self.rooms.extract_if(.., |_, follower| follower.follow().borrow().at().is_none());
        for (tag, follower) in ended.collect::<Vec<_>>() {
            self.track.world.borrow_mut().lost(tag);
            self.targets.remove(&tag);
            self.gaps.remove(&tag);
            let room = follower.room().room;
            if self.again.remove(&room) {
                self.gained.insert(room);
            }
        }
    }

    fn open_gained(&mut self, ctx: &mut Context<Self>) {
        let rooms = std::mem::take(&mut self.gained).into_iter().collect();
        let world = self.track.world.borrow().clone();
        let (worker, link, track) = (Rc::clone(&self.worker), Rc::clone(&self.link), Rc::clone(&self.track));
        let look_up = async move { look_up(&worker, &link, &track, rooms, &world, world.mark()).await };
        self.alone(ctx, look_up, |world, found, ctx| match found {
            // Nothing of them is in the pass that may be under way: they were joined after its mark.
            Ok(found) => found.into_iter().for_each(|found| world.admit(found, false)),
            Err(error) => world.give_up(&error, ctx),
        });
    }

    /// The next room of a pass that is not where it has to be.
    fn next_of(&self, pass: Pass) -> Option<(Rc<Follower>, Seq)> {
        let from = pass.reached.map_or(RoomTag(0), |(tag, _)| tag);
        self.targets.range(from..).find_map(|(tag, target)| {
            let follower = self.rooms.get(tag)?;
            let after = follower.follow().borrow().wants_page_after()?;
            (after.seq < *target).then(|| (Rc::clone(follower), *target))
        })
    }

    /// The next follower that is behind, after the one whose turn was last.
    fn next_behind(&self) -> Option<Rc<Follower>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let behind = |follower: &&Rc<Follower>| follower.follow().borrow().wants_page_after().is_some();
        let later = self
            .read
            .and_then(|tag| self.rooms.range((Excluded(tag), Unbounded)).map(|(_, follower)| follower).find(behind));
        later.or_else(|| self.rooms.values().find(behind)).cloned()
    }

    /// Takes the log's mark and reads up to it. Nothing is handed over from here until the pass has begun, so that
    /// nothing that was handed over lies beyond the mark.
    fn begin_pass(&mut self, ctx: &mut Context<Self>) {
        self.track.paused.set(true);
        let known: Vec<_> = self.rooms.iter().map(|(tag, follower)| (*tag, follower.room().clone())).collect();
        let world = self.track.world.borrow().clone();
        let (worker, link, track) = (Rc::clone(&self.worker), Rc::clone(&self.link), Rc::clone(&self.track));
        let resurvey = async move { resurvey(&worker, &link, &track, known, world).await };
        self.alone(ctx, resurvey, |world, surveyed, ctx| {
            let Survey { world: begun, found, known } = match surveyed {
                Ok(surveyed) => surveyed,
                Err(error) => return world.give_up(&error, ctx),
            };
            *world.track.world.borrow_mut() = begun;
            for (tag, target) in known {
                let Some(follower) = world.rooms.get(&tag) else { continue };
                // One that is live has not been told of it yet, perhaps.
                follower.follow().borrow_mut().announce(target);
                world.targets.insert(tag, target);
            }
            found.into_iter().for_each(|found| world.admit(found, false));
            world.track.paused.set(false);
        });
    }

    /// Reads the next page of a follower, in a pass up to `until`.
    fn pull(&mut self, follower: Rc<Follower>, until: Option<Seq>, ctx: &mut Context<Self>) {
        let (generation, after) = {
            let follow = follower.follow().borrow();
            let Some(after) = follow.wants_page_after() else { return };
            (follow.generation(), after)
        };
        self.read = Some(RoomTag::of(follower.room().room));
        let pages = Rc::clone(self.worker.pages());
        let page = pages.after(follower.room().clone(), self.link.dialect(), after.seq);
        self.alone(ctx, page, move |world, page, ctx| match page {
            Ok(page) => world.hand_over(&follower, generation, after, &page, until),
            Err(error @ StoreError::Damaged(_)) => world.fail(&follower, &error),
            Err(error) => world.give_up(&error, ctx),
        });
    }

    fn hand_over(
        &mut self,
        follower: &Rc<Follower>,
        generation: Generation,
        after: Position,
        page: &FramedPage,
        until: Option<Seq>,
    ) {
        let room = follower.room().room;
        if until.is_none() && !self.track.takes(room) {
            // Others have taken the last places while it was read: there has to be a pass first.
            return;
        }
        let after = follower.skip(generation, after, page.trimmed(after.seq));
        let last = page.last(after.seq, until);
        let complete = page.is_complete() && last == page.last(after.seq, None);
        let mut removals = page.removals(follower.user(), after.seq);
        let seqs = removals.clone().map(|(seq, _)| seq).filter(|seq| until.is_none_or(|until| *seq <= until));
        let handed = follower.follow().borrow_mut().page(generation, after.seq, last, complete, seqs);
        if let Some((from, until)) = handed.records {
            if let Some(gap) = self.gaps.remove(&RoomTag::of(room)) {
                self.notify(&Notice::Gap { room, gap });
            }
            let dialect = self.link.dialect();
            let mut frames = BytesMut::new();
            for seq in (from.seq.0..until.0).map(Seq) {
                self.track.put(&mut frames, dialect, room, seq.next(), &page.frames(seq, seq.next(), None).0);
            }
            // When that is too much after all, the follower has been set back and reads again.
            let _ = self.link.outbox.push_log(frames.freeze(), Batch::count(from.seq, until), follower.clone(), from);
        }
        if let Some((_, kicked)) = handed.ended.and_then(|ended| removals.find(|(seq, _)| *seq == ended)) {
            self.worker.removed(follower, kicked);
        }
    }

    /// A room's log is damaged: the others go on without it.
    fn fail(&mut self, follower: &Rc<Follower>, error: &StoreError) {
        let refusal = read_failed(error);
        self.worker.unregister(follower);
        self.track.ended();
        self.notify(&Notice::FollowFailed { room: follower.room().room, refusal });
    }

    /// The log cannot be read now: the client comes back with its cursor.
    fn give_up(&mut self, error: &StoreError, ctx: &mut Context<Self>) {
        let _ = read_failed(error);
        self.link.close(CloseReason::Internal);
        ctx.stop();
    }
}

impl Actor for WorldActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Before the rooms are listed, so that none is missed.
        let session: Recipient<RoomsChanged> = ctx.address().recipient();
        let attach = Attach { session: session.clone() };
        let by = &self.track.by;
        self.inbox = Some((self.registry().attach(&by.tenant, &by.user, attach), session));
        if let Some(since) = self.since.take() {
            self.open(since, ctx);
        }
    }
}

/// However a world ends, nothing of it stays behind.
impl Drop for WorldActor {
    #[expect(clippy::disallowed_methods, reason = "once per world")]
    fn drop(&mut self) {
        for follower in std::mem::take(&mut self.rooms).into_values() {
            self.worker.unregister(&follower);
        }
        if let Some((inbox, session)) = self.inbox.take() {
            inbox.do_send(Detach { session });
        }
        if std::thread::panicking() {
            let link = Rc::clone(&self.link);
            // Not here: a second panic while the first unwinds would end the process.
            actix::spawn(async move { link.cut() });
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Drained;

impl Handler<Drained> for WorldActor {
    type Result = ();

    fn handle(&mut self, _: Drained, ctx: &mut Self::Context) {
        self.go_on(ctx);
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Settle(oneshot::Sender<()>);

impl Handler<Settle> for WorldActor {
    type Result = ();

    fn handle(&mut self, Settle(settling): Settle, ctx: &mut Self::Context) {
        self.settling.push(settling);
        self.go_on(ctx);
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct End;

impl Handler<End> for WorldActor {
    type Result = ();

    fn handle(&mut self, _: End, ctx: &mut Self::Context) {
        for follower in std::mem::take(&mut self.rooms).into_values() {
            self.worker.unregister(&follower);
        }
        ctx.stop();
    }
}

impl Handler<RoomsChanged> for WorldActor {
    type Result = ();

    fn handle(&mut self, change: RoomsChanged, ctx: &mut Self::Context) {
        match change {
            RoomsChanged::Gained { room, standing: Standing::Member, .. } => {
                if self.rooms.get(&RoomTag::of(room)).is_some_and(|follower| follower.room().room == room) {
                    // Its role has changed; or it was lost in between, and the follower has yet to hear of that.
                    self.again.insert(room);
                } else {
                    self.gained.insert(room);
                }
            }
            RoomsChanged::Gained { standing: Standing::Invited, .. }
            | RoomsChanged::Updated(_)
            | RoomsChanged::Profile(_)
            | RoomsChanged::Blocked { .. }
            | RoomsChanged::Hidden { .. } => {}
            RoomsChanged::Lost { room } => {
                self.gained.remove(&room);
                self.again.remove(&room);
            }
        }
        self.go_on(ctx);
    }
}

/// Looks up where a world begins, and what there is to be read.
async fn survey(worker: Rc<Worker>, link: Rc<Link>, track: Rc<Track>, since: Since) -> Result<Survey, Refusal> {
    let (store, by) = (&**worker.registry().store(), &track.by);
    let next = store.mark();
    let (mut world, reads) = match since {
        Since::Start => (World::at(Mark::default()), true),
        Since::Now => (World::at(next), false),
        Since::Cursor(text) => (worker.registry().sealer().open(&by.tenant, &by.user, store.epoch(), &text)?, true),
    };
    let rooms = list(store, by).await.map_err(|error| read_failed(&error))?;
    if rooms.len() > ROOMS_MAX {
        return Err(Refusal::too_many_follows());
    }
    if reads {
        // One that was under way goes on.
        world.begin(next);
    }
    let until = world.pass().map_or(next, |pass| pass.next);
    let found = look_up(&worker, &link, &track, rooms, &world, until).await.map_err(|error| read_failed(&error))?;
    Ok(Survey { world, found, known: Vec::new() })
}

/// Looks up what there is to be read by a world that has been followed all the time.
async fn resurvey(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    track: &Rc<Track>,
    known: Vec<(RoomTag, RoomKey)>,
    mut world: World,
) -> Result<Survey, StoreError> {
    let store = &**worker.registry().store();
    let next = store.mark();
    let mut rooms = list(store, &track.by).await?;
    rooms.retain(|room| known.binary_search_by_key(&RoomTag::of(*room), |(tag, _)| *tag).is_err());
    let found = look_up(worker, link, track, rooms, &world, next).await?;
    let streams = known.iter().map(|(_, room)| room.stream()).collect();
    let places = store.positions_at(streams, next).await?;
    world.begin(next);
    let known = known.into_iter().zip(places).map(|((tag, _), at)| (tag, at.seq)).collect();
    Ok(Survey { world, found, known })
}

/// The rooms that the user is in.
async fn list(store: &dyn Store, by: &Principal) -> Result<Vec<RoomId>, StoreError> {
    let (mut rooms, mut after) = (Vec::new(), None);
    loop {
        let listing = list_rooms(store, &by.tenant, &by.user, after, LIST_ROOMS).await?;
        after = listing.rooms.last().map(|listed| listed.room);
        let members = listing.rooms.into_iter().filter(|listed| listed.standing == Standing::Member);
        rooms.extend(members.map(|listed| listed.room));
        if !listing.more || rooms.len() > ROOMS_MAX {
            return Ok(rooms);
        }
    }
}

/// Registers a follower for each room, then looks up its membership, then where it stands and how far there is to go.
/// Rooms that the user is not in any more are left out.
async fn look_up(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    track: &Rc<Track>,
    rooms: Vec<RoomId>,
    world: &World,
    until: Mark,
) -> Result<Vec<Found>, StoreError> {
    let (store, by) = (worker.registry().store(), &track.by);
    let registered = rooms.into_iter().map(|room| {
        let key = RoomKey { tenant: by.tenant.clone(), room };
        worker.register_in(key, by.user.clone(), link, Some(Rc::clone(track)))
    });
    let registered: Vec<Registration> = registered.collect();
    let members = stream::iter(registered).map(|registration| async {
        let stream = registration.follower().room().stream();
        let Some(row) = store.get(&stream, &rows::member(&by.user)).await? else { return Ok(None) };
        let joined = Member::decode(&row)?.joined.seq();
        let header = store.get(&stream, rows::HEADER).await?;
        let header = header.map(|row| Header::decode(&row)).transpose()?;
        Ok(Some((registration, joined, header.map_or(Seq::ZERO, |header| header.trimmed.seq))))
    });
    type Looked = Result<Option<(Registration, Seq, Seq)>, StoreError>;
    let members: Vec<Looked> = members.buffered(LOOK_UPS).collect().await;
    let members: Vec<_> = members.into_iter().filter_map(Result::transpose).collect::<Result<_, _>>()?;

    let streams: Vec<StreamId> =
        members.iter().map(|(registration, ..)| registration.follower().room().stream()).collect();
    let marks = [Some(world.mark()), world.pass().map(|pass| pass.next), Some(until)];
    let mut places: BTreeMap<Mark, Vec<At>> = BTreeMap::new();
    for mark in marks.into_iter().flatten() {
        if let Entry::Vacant(place) = places.entry(mark) {
            place.insert(store.positions_at(streams.clone(), mark).await?);
        }
    }
    let at = |mark: Mark, index: usize| places.get(&mark).and_then(|places| places.get(index)).copied();
    let found = members.into_iter().enumerate().filter_map(|(index, (registration, joined, trimmed))| {
        let At { head, seq: target } = at(until, index)?;
        let stood = match world.stands(RoomTag::of(registration.follower().room().room)) {
            Stand::At(seq) => seq,
            Stand::AtMark(mark) => at(mark, index)?.seq,
        };
        Some(Found { registration, joined, trimmed, stood, target, head: head? })
    });
    Ok(found.collect())
}
