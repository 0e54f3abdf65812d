//! What the connections of one worker thread share: who follows which room, whose each connection is, and one sweep of
//! timers for all of them.
//!
//! Everything here lives on one thread, without locks. The session puts its followers into the [`Worker`]'s table before
//! it looks up whether they may follow, so that no removal passes them by; the thread's relay hands them what arrives
//! from rooms.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::hint;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext};
use bytes::{Bytes, BytesMut};

use super::batch::{Batch, DialectSet, Removal};
use super::excluding::closing;
use super::link::{Kind, Link};
use super::outbox::{Pushed, Source, StateKey};
use super::pages::Pages;
use super::presences::{self, Device};
use super::registry::{Registry, RelayId};
use super::relay::{Announce, Publication, RelayActor, Revoke};
use super::signals::{self, ROOMS_OF_ONE_MAX, TYPING};
use super::world::Track;
use crate::domain::document::Reader;
use crate::domain::revocation::Subject;
use crate::domain::session::{Follow, Generation};
use crate::domain::{Position, Presence, Principal, RoomId, RoomKey, Seq, Signal, TenantId, UserId};
use crate::metrics::Census;
use crate::wire::{self, Absence, CloseReason, Dialect, Gap, Notice};

/// How long the last words of a connection have to leave after its session has ended. Then what the kernel still holds
/// is thrown away, so that no removal has to wait for a connection that nobody answers for.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The same for an answer to a request, which nothing follows: some networks take seconds for a page.
const LAST_ANSWER: Duration = Duration::from_secs(10);

/// How many connections are kept for their answers when these have been sent: each holds a descriptor. With another
/// the oldest is thrown away.
const ANSWERS_MAX: usize = 256;

/// At so many followers is looked before they are served. Then their memory is fetched at the same time, and not for one
/// after the other, with a call of the kernel between each two. With 5,000 of them a delivery costs 5 to 13 % less.
const LOOKED_AHEAD: usize = 32;

/// What one worker thread's connections share.
pub struct Worker {
    id: RelayId,
    registry: Arc<Registry>,
    rooms: RefCell<HashMap<RoomKey, Followers>>,
    links: RefCell<Vec<Rc<Link>>>,
    /// The connections by whose they are: a removal has to reach all of its user's, following or not.
    users: RefCell<HashMap<(TenantId, UserId), Vec<Rc<Link>>>>,
    /// Those that have ended: the kernel may still hold something for them.
    ended: RefCell<Vec<Ended>>,
    /// Those of requests that have ended, oldest first.
    answers: RefCell<VecDeque<Ended>>,
    pages: Rc<Pages>,
    /// Whose writing ends when nothing more is heard of it, or with the connection.
    typists: RefCell<BTreeMap<(RoomKey, UserId), Typist>>,
    hasher: RandomState,
    generations: Cell<u64>,
}

/// Somebody who is writing.
struct Typist {
    until: Instant,
    link: Rc<Link>,
}

struct Ended {
    /// When it is thrown away.
    due: Instant,
    link: Rc<Link>,
    user: (TenantId, UserId),
}

#[derive(Default)]
struct Followers {
    list: Vec<Rc<Follower>>,
    by_dialect: [usize; Dialect::COUNT],
}

/// A follower while it is not known yet whether it may stay: dropped without having been kept, also with a read that
/// is given up half-way, it is unregistered.
pub struct Registration {
    worker: Rc<Worker>,
    follower: Rc<Follower>,
    kept: bool,
}

impl Registration {
    pub fn follower(&self) -> &Rc<Follower> {
        &self.follower
    }

    /// The follower, which stays registered until [`Worker::unregister`].
    pub fn keep(mut self) -> Rc<Follower> {
        self.kept = true;
        Rc::clone(&self.follower)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if !self.kept {
            self.worker.unregister(&self.follower);
        }
    }
}

/// One room followed by one connection. What each publication looks at comes first, so that it lies together.
#[repr(C)]
pub struct Follower {
    link: Rc<Link>,
    /// Of a follower that belongs to a world.
    track: Option<Rc<Track>>,
    dialect: Dialect,
    follow: RefCell<Follow>,
    room: RoomKey,
    user: UserId,
    /// Of a follower of a collection: as whom it reads.
    reader: Option<Box<Reader>>,
}

impl Follower {
    pub fn new(room: RoomKey, user: UserId, link: Rc<Link>, follow: Follow) -> Self {
        let dialect = link.dialect();
        Self { room, user, link, track: None, dialect, follow: RefCell::new(follow), reader: None }
    }

    pub fn room(&self) -> &RoomKey {
        &self.room
    }

    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// As whom it reads documents, where it does.
    pub fn reader(&self) -> Option<&Reader> {
        self.reader.as_deref()
    }

    /// Has the processor fetch what a publication is going to look at.
    fn look_ahead(&self) {
        hint::black_box(self.follow.borrow().is_live());
        self.link.outbox.look_ahead();
    }

    /// Where it reads on that stands at `after`, of what begins only behind `trimmed`: its client is told what is not kept
    /// any more.
    pub fn skip(&self, generation: Generation, after: Position, trimmed: Option<Position>) -> Position {
        let Some(trimmed) = trimmed else { return after };
        if !self.follow.borrow_mut().skip(generation, after.seq, trimmed) {
            return after;
        }
        let gap = Gap { from: after.seq.next(), to: trimmed.seq, reason: Absence::Retention };
        self.link.notify(&Notice::Gap { room: self.room.room, gap });
        trimmed
    }

    /// The rules of how far it has got. Never borrowed across a call to an outbox.
    pub fn follow(&self) -> &RefCell<Follow> {
        &self.follow
    }
}

impl Source for Follower {
    fn rewind(&self, to: Position) {
        let mut follow = self.follow.borrow_mut();
        follow.rewind(to);
        if let (Some(track), Some(_)) = (&self.track, follow.at()) {
            track.rewound(self.room.room, to.seq);
        }
    }
}

impl Worker {
    /// Starts the relay of this thread and makes it known to the rooms.
    pub fn start(registry: Arc<Registry>) -> Rc<Self> {
        let worker = |id, registry| {
            Rc::new(Self {
                id,
                pages: Pages::new(Arc::clone(&registry)),
                registry,
                rooms: RefCell::new(HashMap::new()),
                links: RefCell::new(Vec::new()),
                users: RefCell::new(HashMap::new()),
                ended: RefCell::new(Vec::new()),
                answers: RefCell::new(VecDeque::new()),
                typists: RefCell::default(),
                hasher: RandomState::new(),
                generations: Cell::new(0),
            })
        };
        let mut made = None;
        let relay = RelayActor::create(|ctx| {
            let id = registry.add_relay(ctx.address());
            let worker = worker(id, Arc::clone(&registry));
            made = Some(Rc::clone(&worker));
            RelayActor::new(worker)
        });
        drop(relay);
        made.expect("create calls the closure at once")
    }

    /// The relay has died of a panic. What it had in its hands is lost, so every connection of the thread is cut, to
    /// come back and read the log. Then a new relay takes its place, which tells rooms that nothing of before can reach
    /// anybody.
    pub(super) fn relay_died(self: &Rc<Self>) {
        tracing::error!("a relay died; its connections are cut and it is started again");
        self.cut_all();
        self.registry.replace_relay(self.id, RelayActor::new(Rc::clone(self)).start());
    }

    /// Cuts every connection of the thread, also those of requests that have been answered.
    pub(super) fn cut_all(&self) {
        let answered: Vec<_> =
            self.users.borrow().values().flatten().filter(|link| link.kind().shows_rooms()).cloned().collect();
        for link in self.links().into_iter().chain(answered) {
            link.cut();
        }
        self.cut_ended(|_| true);
    }

    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The pages of the log that the thread's followers share.
    pub fn pages(&self) -> &Rc<Pages> {
        &self.pages
    }

    /// Every connection of the thread.
    pub fn links(&self) -> Vec<Rc<Link>> {
        self.links.borrow().clone()
    }

    /// What the thread's connections hold now.
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for follower in self.rooms.borrow().values().flat_map(|followers| &followers.list) {
            census.followers += 1;
            census.lagging += usize::from(follower.follow().borrow().wants_page_after().is_some());
        }
        for link in &*self.links.borrow() {
            census.outbox_bytes += link.outbox.bytes();
            census.proofs += link.proofs_owed();
        }
        census
    }

    /// Takes a connection into the sweep.
    pub fn open(&self, link: &Rc<Link>) {
        match link.kind() {
            Kind::Socket | Kind::Events => self.registry.metrics().connection_opened(link.dialect().transport()),
            // Counted among the requests.
            Kind::Request | Kind::Command => {}
        }
        self.links.borrow_mut().push(Rc::clone(link));
    }

    /// Notes whose connection it is.
    pub fn authenticated(&self, link: &Rc<Link>, principal: &Principal) {
        link.authenticated_until(self.registry.end_of(principal), principal);
        let user = (principal.tenant.clone(), principal.user.clone());
        self.users.borrow_mut().entry(user).or_default().push(Rc::clone(link));
        self.close_the_denied(link, principal);
    }

    /// Its user has brought another token: from now on the connection stands on that one.
    pub fn refreshed(&self, link: &Rc<Link>, principal: &Principal) {
        link.authenticated_until(self.registry.end_of(principal), principal);
        self.close_the_denied(link, principal);
    }

    /// A revocation that was made after the token had been looked at, and before the connection was among those that
    /// are told of it.
    fn close_the_denied(&self, link: &Link, principal: &Principal) {
        if let Some(refusal) = self.registry.denied(principal) {
            link.deny(closing(&refusal));
        }
    }

    /// Ends every connection that the subject denies.
    pub(super) fn revoke(&self, revoke: &Revoke) -> Vec<Cutting> {
        let Revoke { subject, revocation, close, pending } = revoke;
        let denied = |link: &&Rc<Link>| link.is_of(|principal| subject.denies(*revocation, principal));
        let users = self.users.borrow();
        let links: Vec<_> = match subject {
            Subject::User(tenant, user) => {
                let of = users.get(&(tenant.clone(), user.clone()));
                of.into_iter().flatten().filter(denied).cloned().collect()
            }
            Subject::Token(_) | Subject::Login(_) | Subject::Tenant(_) => {
                users.values().flatten().filter(denied).cloned().collect()
            }
        };
        drop(users);
        let due = Instant::now() + self.registry.limits().proof;
        links.into_iter().map(|link| Cutting { token: link.revoke(*close, pending.clone()), link, due }).collect()
    }

    /// Lets go of a connection whose session has ended. Removals reach it until nothing of it can leave any more.
    pub fn closed(&self, link: &Rc<Link>, principal: Option<&Principal>) {
        self.leave(link);
        // What a request has said holds on without it.
        if link.typing() > 0 && link.kind() == Kind::Socket {
            self.end_typing(|typist| Rc::ptr_eq(&typist.link, link));
        }
        if let Some(by) = principal.filter(|_| link.present().get()) {
            self.present(by, link, None);
        }
        let Some(principal) = principal else { return };
        let user = (principal.tenant.clone(), principal.user.clone());
        if link.is_cut() || link.is_settled() {
            return self.forget_link(link, user);
        }
        let ended = |time| Ended { due: Instant::now() + time, link: Rc::clone(link), user };
        if link.kind().lasts() {
            self.ended.borrow_mut().push(ended(LAST_WORDS));
            return;
        }
        let oldest = {
            let mut answers = self.answers.borrow_mut();
            answers.push_back(ended(LAST_ANSWER));
            if answers.len() > ANSWERS_MAX { answers.pop_front() } else { None }
        };
        if let Some(Ended { link, user, .. }) = oldest {
            link.cut();
            self.forget_link(&link, user);
        }
    }

    /// Lets go of a connection of which nothing of any room has been shown on `link`.
    pub fn forget(&self, link: &Rc<Link>, principal: &Principal) {
        self.leave(link);
        self.forget_link(link, (principal.tenant.clone(), principal.user.clone()));
    }

    /// A request on `link` has been answered. Removals reach the connection as before.
    pub fn answered(&self, link: &Rc<Link>) {
        self.leave(link);
    }

    fn leave(&self, link: &Rc<Link>) {
        if link.kind() == Kind::Command {
            // It is in nobody's way, and was never taken into the sweep.
            return;
        }
        let mut links = self.links.borrow_mut();
        // A request is mostly among the last to have come.
        let Some(index) = links.iter().rposition(|other| Rc::ptr_eq(other, link)) else { return };
        links.swap_remove(index);
        match link.kind() {
            Kind::Socket | Kind::Events => {
                self.registry.metrics().connection_closed(link.dialect().transport(), link.ended());
            }
            Kind::Request | Kind::Command => {}
        }
    }

    fn forget_link(&self, link: &Rc<Link>, user: (TenantId, UserId)) {
        if let Entry::Occupied(mut links) = self.users.borrow_mut().entry(user) {
            links.get_mut().retain(|other| !Rc::ptr_eq(other, link));
            if links.get().is_empty() {
                links.remove();
            }
        }
    }

    /// Cuts the connections that have ended, all of them or those whose time is up, and lets go of those that have
    /// nothing left to cut.
    fn cut_ended(&self, is_up: impl Fn(Instant) -> bool) {
        let is_over = |ended: &Ended| is_up(ended.due) || ended.link.is_settled();
        let mut over: Vec<_> = self.ended.borrow_mut().extract_if(.., |ended| is_over(ended)).collect();
        {
            let mut answers = self.answers.borrow_mut();
            let (gone, left): (Vec<_>, Vec<_>) = answers.drain(..).partition(is_over);
            answers.extend(left);
            over.extend(gone);
        }
        for Ended { link, user, .. } in over {
            // Of those that are settled the kernel knows nothing that it could throw away.
            link.cut();
            self.forget_link(&link, user);
        }
    }

    /// Registers a follower for publications and removals, before anything is known about its rights.
    pub fn register(self: &Rc<Self>, room: RoomKey, user: UserId, link: &Rc<Link>) -> Registration {
        self.register_as(room, user, link, None, None)
    }

    /// As [`Worker::register`], for a follower of a collection: it is handed what `reader` is told of.
    pub fn register_reader(
        self: &Rc<Self>,
        room: RoomKey,
        user: UserId,
        link: &Rc<Link>,
        reader: Reader,
    ) -> Registration {
        self.register_as(room, user, link, None, Some(Box::new(reader)))
    }

    /// As [`Worker::register`], for a follower that belongs to a world.
    pub fn register_in(
        self: &Rc<Self>,
        room: RoomKey,
        user: UserId,
        link: &Rc<Link>,
        track: Option<Rc<Track>>,
    ) -> Registration {
        self.register_as(room, user, link, track, None)
    }

    fn register_as(
        self: &Rc<Self>,
        room: RoomKey,
        user: UserId,
        link: &Rc<Link>,
        track: Option<Rc<Track>>,
        reader: Option<Box<Reader>>,
    ) -> Registration {
        self.generations.set(self.generations.get() + 1);
        let follow = Follow::opening(Generation(self.generations.get()));
        let follower = Follower { track, reader, ..Follower::new(room.clone(), user, Rc::clone(link), follow) };
        let follower = Rc::new(follower);
        let mut rooms = self.rooms.borrow_mut();
        let followers = rooms.entry(room.clone()).or_default();
        followers.list.push(Rc::clone(&follower));
        followers.by_dialect[link.dialect().index()] += 1;
        if followers.by_dialect[link.dialect().index()] == 1 {
            self.registry.set_interest(&room, self.id, followers.dialects());
        }
        Registration { worker: Rc::clone(self), follower, kept: false }
    }

    /// Ends a follow; nothing more is handed to it, and what it has not taken yet goes nowhere.
    pub fn unregister(&self, follower: &Rc<Follower>) {
        let followed = follower.follow.borrow().at().is_some();
        follower.follow.borrow_mut().end();
        follower.link.outbox.purge(follower);
        if followed {
            follower.link.outbox.purge_state(follower.room.room);
        }
        self.forget_follower(follower);
    }

    fn forget_follower(&self, follower: &Rc<Follower>) {
        let mut rooms = self.rooms.borrow_mut();
        let Some(followers) = rooms.get_mut(&follower.room) else { return };
        let Some(index) = followers.list.iter().position(|other| Rc::ptr_eq(other, follower)) else { return };
        followers.list.swap_remove(index);
        let count = &mut followers.by_dialect[follower.link.dialect().index()];
        *count -= 1;
        if *count == 0 {
            self.registry.set_interest(&follower.room, self.id, followers.dialects());
        }
        if followers.list.is_empty() {
            rooms.remove(&follower.room);
        }
    }

    /// Hands committed batches of a room, oldest first, to at most `most` followers, and sends them on. A removal ends
    /// the follows of its user. Of the followers the first `unserved` are left to be served; returns how many have been
    /// served now. They are served from the back: the place of one that leaves meanwhile is taken by the last, who has
    /// been served, and one that comes stands behind them and finds on disk what it has come too late for.
    pub(super) fn deliver(&self, publication: &Publication, unserved: &mut usize, most: usize) -> usize {
        let mut ended = Vec::new();
        let Publication { room, batches } = publication;
        let rooms = self.rooms.borrow();
        let list = rooms.get(room).map_or(&[][..], |followers| &followers.list);
        let end = list.len().min(*unserved);
        *unserved = end.saturating_sub(most);
        let (mut records, mut overflows, mut sent) = (0, 0, 0);
        for chunk in list[*unserved..end].rchunks(LOOKED_AHEAD) {
            chunk.iter().for_each(|follower| follower.look_ahead());
            for follower in chunk {
                for (behind, batch) in (0..batches.len()).rev().zip(batches) {
                    let handed = hand_over(follower, batch, behind > 0);
                    records += handed.records;
                    overflows += u64::from(handed.overflowed);
                    sent += handed.sent as u64;
                    if let Some(removal) = handed.removal {
                        ended.push((Rc::clone(follower), removal));
                    }
                }
            }
        }
        drop(rooms);
        let metrics = self.registry.metrics();
        metrics.deliveries.inc_by(records);
        metrics.sent_bytes.inc_by(sent);
        if overflows > 0 {
            metrics.outbox_overflows.inc_by(overflows);
        }
        for (follower, removal) in ended {
            self.removed(&follower, removal.kicked);
        }
        end - *unserved
    }

    /// Asks all connections of those whom `batches` remove for the proof that nothing of the room is on its way any more:
    /// those that do not follow may have been shown its history.
    pub(super) fn prove(&self, room: &RoomKey, batches: &[Arc<Batch>]) -> Vec<Cutting> {
        let removals = batches.iter().flat_map(|batch| batch.removals());
        if room.room == RoomId::audit_of_tenant(&room.tenant) {
            removals.clone().for_each(|removal| self.end_roots(&room.tenant, &removal.user));
        }
        removals.flat_map(|removal| self.prove_removal(room, removal)).collect()
    }

    /// Somebody does not answer for the tenant any more: what followed collections as who may read all of them ends.
    fn end_roots(&self, tenant: &TenantId, user: &UserId) {
        let is_root = |follower: &&Rc<Follower>| {
            follower.user == *user && matches!(follower.reader.as_deref(), Some(Reader::Root { .. }))
        };
        let rooms = self.rooms.borrow();
        let followers =
            rooms.iter().filter(|(room, _)| room.tenant == *tenant).flat_map(|(_, followers)| &followers.list);
        let roots: Vec<_> = followers.filter(is_root).cloned().collect();
        drop(rooms);
        for follower in roots {
            self.unregister(&follower);
            self.removed(&follower, true);
        }
    }

    /// Says, behind what the follower was still entitled to, that its follow has ended.
    pub fn removed(&self, follower: &Rc<Follower>, kicked: bool) {
        self.forget_follower(follower);
        follower.link.outbox.purge_state(follower.room.room);
        let reason = if kicked { wire::Removal::Kicked } else { wire::Removal::Left };
        if let Some(track) = &follower.track {
            track.ended();
            follower.link.outbox.want_pull();
        }
        let dialect = follower.link.dialect();
        if dialect.ends_with_its_room() {
            return follower.link.end();
        }
        let notice = Notice::Removed { room: follower.room.room, reason };
        follower.link.outbox.push_behind_log(dialect.frame_notice(&notice), Some(follower.clone()));
    }

    fn prove_removal(&self, room: &RoomKey, removal: &Removal) -> Vec<Cutting> {
        let users = self.users.borrow();
        let links = users.get(&(room.tenant.clone(), removal.user.clone()));
        let due = Instant::now() + self.registry.limits().proof;
        let cutting =
            |link: &Rc<Link>| Cutting { token: link.prove(removal.pending.clone()), link: Rc::clone(link), due };
        let by_itself = |link: &&Rc<Link>| !removal.kicked && link.is_leaving(room);
        let links = links.into_iter().flatten().filter(|link| link.kind().shows_rooms());
        links.filter(|link| !by_itself(link)).map(cutting).collect()
    }

    /// Notes that `user` is writing in a room, or does no longer, and tells those who follow it.
    pub fn typing(&self, room: &RoomKey, user: &UserId, link: &Rc<Link>, typing: bool) {
        let (now, key) = (Instant::now(), (room.clone(), user.clone()));
        if let Some(before) = self.typists.borrow_mut().remove(&key) {
            before.link.count_typing(-1);
        }
        if !typing {
            return self.registry.typed(room, user);
        }
        if link.typing() >= ROOMS_OF_ONE_MAX {
            self.end_oldest_typing(link);
        }
        link.count_typing(1);
        self.typists.borrow_mut().insert(key, Typist { until: now + TYPING, link: Rc::clone(link) });
        let signal = Signal::Typing { user: user.clone(), typing: true };
        self.registry.typists().begin(room, user, now, || self.registry.signal(room, &signal));
    }

    fn end_oldest_typing(&self, link: &Rc<Link>) {
        let oldest = {
            let typists = self.typists.borrow();
            let own = typists.iter().filter(|(_, typist)| Rc::ptr_eq(&typist.link, link));
            own.min_by_key(|(_, typist)| typist.until).map(|(_, typist)| typist.until)
        };
        self.end_typing(|typist| Rc::ptr_eq(&typist.link, link) && Some(typist.until) == oldest);
    }

    /// Takes note of what a connection or a request says of its user, and tells those who follow a room of his.
    pub fn present(&self, by: &Principal, link: &Rc<Link>, presence: Option<Presence>) {
        let who = (by.tenant.clone(), by.user.clone());
        let device = if link.kind() == Kind::Socket {
            link.present().set(presence.is_some());
            connection(link)
        } else {
            Device::Requests
        };
        let news = self.registry.presences().say(&who, device, presence, Instant::now());
        if let Some(news) = news {
            actix::spawn(presences::tell(Arc::clone(&self.registry), who, Some(news)));
        }
    }

    /// Ends the writing of those of whom `is_over` says so.
    fn end_typing(&self, is_over: impl Fn(&Typist) -> bool) {
        let over: Vec<_> = self.typists.borrow_mut().extract_if(.., |_, typist| is_over(typist)).collect();
        for ((room, user), typist) in over {
            typist.link.count_typing(-1);
            self.registry.typed(&room, &user);
        }
    }

    /// Tells the followers of a room what holds for the moment, framed once for each dialect.
    pub(super) fn signal(&self, room: &RoomKey, signal: &Signal) {
        let rooms = self.rooms.borrow();
        let Some(followers) = rooms.get(room) else { return };
        if self.is_crowded(followers) && !signal.ends_another() {
            return;
        }
        let notice = Notice::Signal { room: room.room, signal: signal.clone() };
        let framed =
            |dialect: Dialect| (followers.by_dialect[dialect.index()] > 0).then(|| dialect.frame_notice(&notice));
        let frames = Dialect::ALL.map(framed);
        let key = self.state_key(room, signal);
        let own = |follower: &Follower| match signal.handle() {
            Some(handle) => follower.link.handle() == Some(handle),
            None => follower.user == *signal.user(),
        };
        for follower in followers.list.iter().filter(|follower| !own(follower)) {
            let Some(frame) = &frames[follower.dialect.index()] else { continue };
            // A page that is waited for would gather them all.
            if follower.link.kind().lasts() && follower.follow.borrow().at().is_some() {
                push_state(follower, key, frame.clone());
            }
        }
    }

    /// Tells those who follow one of `rooms`, each connection once, what `user` says of itself.
    pub(super) fn user_updated(&self, user: &UserId, rooms: &[RoomKey], notice: &Notice) {
        let Some(RoomKey { tenant, .. }) = rooms.first() else { return };
        let followed = self.rooms.borrow();
        let frames = Dialect::ALL.map(|dialect| dialect.frame_notice(notice));
        let key = StateKey { room: RoomId::inbox(tenant, user), of: 0 };
        let mut told = HashSet::new();
        for follower in rooms.iter().filter_map(|room| followed.get(room)).flat_map(|followers| &followers.list) {
            let waits = follower.follow.borrow().at().is_some() && follower.link.kind().lasts();
            if follower.user != *user && waits && told.insert(Rc::as_ptr(&follower.link)) {
                push_state(follower, key, frames[follower.dialect.index()].clone());
            }
        }
    }

    /// Tells a new follower what holds for the moment.
    pub fn greet(&self, follower: &Follower) {
        let crowded = self.rooms.borrow().get(&follower.room).is_none_or(|followers| self.is_crowded(followers));
        if crowded || !follower.link.kind().lasts() {
            return;
        }
        for user in self.registry.typists().of(&follower.room) {
            if user == follower.user {
                continue;
            }
            let signal = Signal::Typing { user, typing: true };
            let key = self.state_key(&follower.room, &signal);
            let notice = Notice::Signal { room: follower.room.room, signal };
            push_state(follower, key, follower.dialect.frame_notice(&notice));
        }
    }

    /// Whether a signal would go to too many; the others follow on other threads.
    fn is_crowded(&self, followers: &Followers) -> bool {
        followers.list.len() * self.registry.relays().len() > signals::FOLLOWERS_MAX
    }

    fn state_key(&self, room: &RoomKey, signal: &Signal) -> StateKey {
        StateKey { room: room.room, of: self.hasher.hash_one((signal.kind(), signal.user(), signal.handle())) }
    }

    pub(super) fn announce(&self, announced: &Announce) {
        if let Some(followers) = self.rooms.borrow().get(&announced.room) {
            for follower in &followers.list {
                if announced.narrows {
                    follower.follow.borrow_mut().narrow();
                }
                follower.follow.borrow_mut().announce(announced.head);
                want_pull(follower);
            }
        }
    }

    pub(super) fn sweep(&self) {
        let limits = self.registry.limits();
        let now = Instant::now();
        self.end_typing(|typist| typist.until <= now);
        for (who, presence) in self.registry.presences().due(now) {
            actix::spawn(presences::tell(Arc::clone(&self.registry), who, presence));
        }
        let clock = self.registry.instant();
        let before = |time: Duration| now.checked_sub(time);
        self.cut_ended(|due| due <= now);
        self.pages.forget_old(now);
        let links = self.links();
        for link in links {
            let older = |since: Instant, time: Duration| before(time).is_some_and(|limit| since <= limit);
            let jammed = link.outbox.stuck_since().is_some_and(|since| older(since, limits.slow_consumer));
            if jammed {
                // Whatever it was told now it would not read.
                tracing::debug!(waiting_bytes = link.outbox.bytes(), "slow consumer");
                link.close(CloseReason::SlowConsumer);
                link.cut();
            } else if link.kind().is_heard() && older(link.heard(), limits.heartbeat * 2) {
                link.close(CloseReason::HeartbeatMissed);
            } else if link.frame_since().is_some_and(|since| older(since, limits.frame_deadline)) {
                link.close(CloseReason::BadFrame);
            } else if !link.is_authenticated() && older(link.opened(), limits.auth_timeout) {
                link.close(CloseReason::Unauthenticated);
            } else if link.has_expired(clock) {
                link.close(CloseReason::TokenExpired);
            } else if let Some(due) = link.kind().beat(&limits).and_then(before) {
                link.beat_if_before(due, now);
            }
        }
    }
}

impl Followers {
    fn dialects(&self) -> DialectSet {
        let mut set = DialectSet::default();
        for dialect in Dialect::ALL {
            if self.by_dialect[dialect.index()] > 0 {
                set.insert(dialect);
            }
        }
        set
    }
}

/// By what a connection is known while it is there.
fn connection(link: &Rc<Link>) -> Device {
    Device::Connection(Rc::as_ptr(link).addr() as u64)
}

/// What came of handing a batch to a follower.
struct Handed<'a> {
    records: u64,
    /// How many bytes the socket has taken.
    sent: usize,
    /// Its outbox was full, and it has been set back.
    overflowed: bool,
    /// The removal that ends it.
    removal: Option<&'a Removal>,
}

/// Gives a follower what of the batch continues where it stands, and sends it on where no `more` come.
fn hand_over<'a>(follower: &Rc<Follower>, batch: &'a Batch, more: bool) -> Handed<'a> {
    let outbox = &follower.link.outbox;
    let (mut records, mut overflowed, mut sent) = (0, false, 0);
    let removals = || batch.removals().iter().filter(|removal| removal.user == follower.user);
    let seqs = removals().map(|removal| removal.seq);
    if follower.track.as_ref().is_some_and(|track| !track.takes(follower.room.room)) {
        follower.follow.borrow_mut().announce(batch.last().seq);
    }
    if batch.narrows() {
        follower.follow.borrow_mut().narrow();
    }
    let handed = follower.follow.borrow_mut().publication(batch.first(), batch.last(), seqs);
    if let Some((from, until)) = handed.records {
        match frames_for(follower, batch, from.seq, until) {
            // Of a collection: it is told of none of them.
            Some((_, 0)) => {}
            Some((frames, told)) => {
                records = told;
                let (pushed, bytes) = if more {
                    outbox.lay_log(frames, records, follower.clone(), from)
                } else {
                    outbox.publish(frames, records, follower.clone(), from)
                };
                // When that is too much, the follower has been set back and reads the log.
                (overflowed, sent) = (pushed == Pushed::TakenBack, bytes);
            }
            None => follower.rewind(from),
        }
    }
    want_pull(follower);
    if records == 0 && !more {
        // What was laid before.
        sent = outbox.send();
    }
    let removal = handed.ended.and_then(|seq| removals().find(|removal| removal.seq == seq));
    Handed { records, sent, overflowed, removal }
}

/// The frames of the records after `after` up to `until` that the follower is told of, and how many these are; in a world
/// each with the cursor behind it.
fn frames_for(follower: &Follower, batch: &Batch, after: Seq, until: Seq) -> Option<(Bytes, u64)> {
    let dialect = follower.dialect;
    let Some(track) = &follower.track else { return batch.frames(dialect, after, until, follower.reader()) };
    let mut out = BytesMut::new();
    for seq in (after.0..until.0).map(Seq) {
        let (framed, _) = batch.frames(dialect, seq, seq.next(), None)?;
        track.put(&mut out, dialect, follower.room.room, seq.next(), &framed);
    }
    Some((out.freeze(), Batch::count(after, until)))
}

/// Tells a follower what its dialect has a word for.
fn push_state(follower: &Follower, key: StateKey, frame: Bytes) {
    if !frame.is_empty() {
        follower.link.outbox.push_state(key, frame);
    }
}

fn want_pull(follower: &Rc<Follower>) {
    if follower.follow.borrow().wants_page_after().is_some() {
        follower.link.outbox.want_pull();
    }
}

/// A connection that has to prove itself, or be cut.
pub struct Cutting {
    pub link: Rc<Link>,
    pub token: u64,
    pub due: Instant,
}
