//! Between rooms and connections: one relay per worker thread takes a room's publications and hands them to the
//! followers on its thread.
//!
//! Everything here lives on one thread. The session puts its followers into the [`Worker`]'s table before it looks up
//! whether they may follow, so that no removal passes them by; the relay actor only adds what arrives from rooms, and
//! one sweep of timers for all connections.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message};

use super::batch::{Batch, DialectSet, Removal};
use super::link::Link;
use super::registry::{Registry, RelayId};
use crate::domain::session::{Follow, Generation};
use crate::domain::{Position, Principal, RoomKey, Seq, TenantId, UserId};
use crate::wire::{self, CloseReason, Dialect, Notice};

/// How long a connection has to prove that it has taken everything of a room its user was removed from.
pub const PROOF_TIME: Duration = Duration::from_millis(500);

/// How long the last words of a connection have to leave after its session has ended. Then what the kernel still holds
/// is thrown away, so that no removal has to wait for a connection that nobody answers for.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What one worker thread's connections share.
pub struct Worker {
    id: RelayId,
    registry: Arc<Registry>,
    rooms: RefCell<HashMap<RoomKey, Followers>>,
    links: RefCell<Vec<Rc<Link>>>,
    /// The connections by whose they are: a removal has to reach all of its user's, following or not.
    users: RefCell<HashMap<(TenantId, UserId), Vec<Rc<Link>>>>,
    /// Those whose session has ended, oldest first: the kernel may still hold something for them.
    ended: RefCell<VecDeque<Ended>>,
    generations: Cell<u64>,
}

struct Ended {
    at: Instant,
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

/// One room followed by one connection.
pub struct Follower {
    room: RoomKey,
    user: UserId,
    link: Rc<Link>,
    follow: RefCell<Follow>,
}

impl Follower {
    pub fn new(room: RoomKey, user: UserId, link: Rc<Link>, follow: Follow) -> Self {
        Self { room, user, link, follow: RefCell::new(follow) }
    }

    pub fn room(&self) -> &RoomKey {
        &self.room
    }

    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// The rules of how far it has got. Never borrowed across a call to an outbox.
    pub fn follow(&self) -> &RefCell<Follow> {
        &self.follow
    }

    /// What was handed over after `to` has been taken back.
    pub fn rewind(&self, to: Position) {
        self.follow.borrow_mut().rewind(to);
    }
}

impl Worker {
    /// Starts the relay of this thread and makes it known to the rooms.
    pub fn start(registry: Arc<Registry>) -> Rc<Self> {
        let worker = |id, registry| {
            Rc::new(Self {
                id,
                registry,
                rooms: RefCell::new(HashMap::new()),
                links: RefCell::new(Vec::new()),
                users: RefCell::new(HashMap::new()),
                ended: RefCell::new(VecDeque::new()),
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
    /// come back and read the log; a new relay takes its place.
    fn relay_died(self: &Rc<Self>) {
        tracing::error!("a relay died; its connections are cut and it is started again");
        self.registry.replace_relay(self.id, RelayActor::new(Rc::clone(self)).start());
        self.cut_all();
    }

    fn cut_all(&self) {
        let links = self.links.borrow().clone();
        for link in links {
            link.cut();
        }
        self.cut_ended(Instant::now());
    }

    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Takes a connection into the sweep.
    pub fn open(&self, link: &Rc<Link>) {
        self.links.borrow_mut().push(Rc::clone(link));
    }

    /// Notes whose connection it is.
    pub fn authenticated(&self, link: &Rc<Link>, principal: &Principal) {
        link.authenticated_until(principal.expires_at);
        let user = (principal.tenant.clone(), principal.user.clone());
        self.users.borrow_mut().entry(user).or_default().push(Rc::clone(link));
    }

    /// Lets go of a connection whose session has ended. Removals reach it until nothing of it can leave any more.
    pub fn closed(&self, link: &Rc<Link>, principal: Option<&Principal>) {
        self.links.borrow_mut().retain(|other| !Rc::ptr_eq(other, link));
        let Some(principal) = principal else { return };
        let user = (principal.tenant.clone(), principal.user.clone());
        if link.is_cut() {
            self.forget_link(link, user);
        } else {
            self.ended.borrow_mut().push_back(Ended { at: Instant::now(), link: Rc::clone(link), user });
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

    /// Cuts the connections whose session ended at `until` or before.
    fn cut_ended(&self, until: Instant) {
        loop {
            let next = self.ended.borrow_mut().pop_front_if(|ended| ended.at <= until);
            let Some(ended) = next else { return };
            ended.link.cut();
            self.forget_link(&ended.link, ended.user);
        }
    }

    /// Registers a follower for publications and removals, before anything is known about its rights.
    pub fn register(self: &Rc<Self>, room: RoomKey, user: UserId, link: &Rc<Link>) -> Registration {
        self.generations.set(self.generations.get() + 1);
        let follow = Follow::opening(Generation(self.generations.get()));
        let follower = Rc::new(Follower::new(room.clone(), user, Rc::clone(link), follow));
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
        follower.follow.borrow_mut().end();
        follower.link.outbox.purge(follower);
        self.forget(follower);
    }

    fn forget(&self, follower: &Rc<Follower>) {
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

    /// Hands a batch to every follower of its room. A removal in it ends the follows of its user, and asks all of the
    /// user's connections for the proof that nothing of the room is on its way any more: those that do not follow may
    /// have been shown its history.
    fn deliver(&self, room: &RoomKey, batch: &Batch) -> Vec<Cutting> {
        let mut ended = Vec::new();
        if let Some(followers) = self.rooms.borrow().get(room) {
            for follower in &followers.list {
                if let Some(removal) = hand_over(follower, batch) {
                    ended.push((Rc::clone(follower), removal));
                }
            }
        }
        for (follower, removal) in ended {
            self.removed(&follower, removal.kicked);
        }
        batch.removals().iter().flat_map(|removal| self.prove(&room.tenant, removal)).collect()
    }

    /// Says, behind what the follower was still entitled to, that its follow has ended.
    pub fn removed(&self, follower: &Rc<Follower>, kicked: bool) {
        self.forget(follower);
        let reason = if kicked { wire::Removal::Kicked } else { wire::Removal::Left };
        let dialect = follower.link.dialect();
        let notice = Notice::Removed { room: follower.room.room, reason };
        follower.link.outbox.push_behind_log(dialect.frame(&dialect.encode_notice(&notice)), Some(follower));
    }

    fn prove(&self, tenant: &TenantId, removal: &Removal) -> Vec<Cutting> {
        let users = self.users.borrow();
        let links = users.get(&(tenant.clone(), removal.user.clone()));
        let due = Instant::now() + PROOF_TIME;
        let cutting =
            |link: &Rc<Link>| Cutting { token: link.prove(removal.pending.clone()), link: Rc::clone(link), due };
        links.into_iter().flatten().map(cutting).collect()
    }

    fn announce(&self, room: &RoomKey, head: Seq) {
        if let Some(followers) = self.rooms.borrow().get(room) {
            for follower in &followers.list {
                follower.follow.borrow_mut().announce(head);
                want_pull(follower);
            }
        }
    }

    fn sweep(&self) {
        let limits = self.registry.limits();
        let now = Instant::now();
        let clock = self.registry.now();
        let before = |time: Duration| now.checked_sub(time);
        if let Some(until) = before(LAST_WORDS) {
            self.cut_ended(until);
        }
        let links = self.links.borrow().clone();
        for link in links {
            let older = |since: Instant, time: Duration| before(time).is_some_and(|limit| since <= limit);
            let jammed = link.outbox.stuck_since().is_some_and(|since| older(since, limits.slow_consumer));
            if jammed {
                // Whatever it was told now it would not read.
                tracing::debug!(waiting_bytes = link.outbox.bytes(), "slow consumer");
                link.close(CloseReason::SlowConsumer);
                link.cut();
            } else if older(link.heard(), limits.heartbeat * 2) {
                link.ask_close(CloseReason::HeartbeatMissed);
            } else if link.frame_since().is_some_and(|since| older(since, limits.frame_deadline)) {
                link.ask_close(CloseReason::BadFrame);
            } else if link.expires_at().is_none() && older(link.opened(), limits.auth_timeout) {
                link.ask_close(CloseReason::Unauthenticated);
            } else if link.expires_at().is_some_and(|at| at <= clock) {
                link.ask_close(CloseReason::TokenExpired);
            } else if let Some(due) = before(limits.heartbeat) {
                link.ping_if_before(due, now);
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

/// Gives a follower what of the batch continues where it stands. Returns the removal that ends it, if one does.
fn hand_over<'a>(follower: &Rc<Follower>, batch: &'a Batch) -> Option<&'a Removal> {
    let removals = || batch.removals().iter().filter(|removal| removal.user == follower.user);
    let seqs = removals().map(|removal| removal.seq);
    let handed = follower.follow.borrow_mut().publication(batch.first(), batch.last(), seqs);
    if let Some((from, until)) = handed.records {
        match batch.frames(follower.link.dialect(), from.seq, until) {
            Some(frames) => {
                let count = Batch::count(from.seq, until);
                // When that is too much, the follower has been set back and reads the log.
                let _ = follower.link.outbox.push_log(frames, count, follower, from);
            }
            None => follower.rewind(from),
        }
    }
    want_pull(follower);
    handed.ended.and_then(|seq| removals().find(|removal| removal.seq == seq))
}

fn want_pull(follower: &Rc<Follower>) {
    if follower.follow.borrow().wants_page_after().is_some() {
        follower.link.outbox.want_pull();
    }
}

/// A connection that has to prove itself, or be cut.
struct Cutting {
    link: Rc<Link>,
    token: u64,
    due: Instant,
}

/// Takes publications for the followers of one worker thread.
pub struct RelayActor {
    worker: Rc<Worker>,
    /// In the order in which their time is up.
    proving: VecDeque<Cutting>,
}

impl RelayActor {
    fn new(worker: Rc<Worker>) -> Self {
        Self { worker, proving: VecDeque::new() }
    }

    /// Cuts the connections whose time to prove themselves is up. One timer for all that wait: a context looks at each
    /// of its timers whenever anything happens.
    fn cut_unproven(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        while let Some(cutting) = self.proving.pop_front_if(|cutting| cutting.due <= now) {
            if cutting.link.unproven(cutting.token) {
                cutting.link.cut();
            }
        }
        if let Some(next) = self.proving.front() {
            ctx.run_later(next.due.saturating_duration_since(now), Self::cut_unproven);
        }
    }
}

impl Drop for RelayActor {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let worker = Rc::clone(&self.worker);
            // Not here: a second panic while the first unwinds would end the process.
            actix::spawn(async move { worker.relay_died() });
        }
    }
}

impl Actor for RelayActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let sweep = self.worker.registry.limits().sweep;
        ctx.run_interval(sweep, |relay, _| relay.worker.sweep());
    }
}

/// Committed batches of one room, oldest first. Answered when they have been handed over.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Publication {
    pub room: RoomKey,
    pub batches: Vec<Arc<Batch>>,
}

impl Handler<Publication> for RelayActor {
    type Result = ();

    fn handle(&mut self, publication: Publication, ctx: &mut Self::Context) {
        for batch in &publication.batches {
            for cutting in self.worker.deliver(&publication.room, batch) {
                self.proving.push_back(cutting);
                if self.proving.len() == 1 {
                    ctx.run_later(PROOF_TIME, Self::cut_unproven);
                }
            }
        }
    }
}

/// A room stands at `head`, whatever has been published: followers that have less read the log.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Announce {
    pub room: RoomKey,
    pub head: Seq,
}

impl Handler<Announce> for RelayActor {
    type Result = ();

    fn handle(&mut self, announce: Announce, _: &mut Self::Context) {
        self.worker.announce(&announce.room, announce.head);
    }
}

/// The process is stopping: every connection of the thread is told when to come back.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CloseAll(pub CloseReason);

impl Handler<CloseAll> for RelayActor {
    type Result = ();

    fn handle(&mut self, close: CloseAll, _: &mut Self::Context) {
        for link in self.worker.links.borrow().iter() {
            link.ask_close(close.0);
        }
    }
}

/// How many connections the thread has.
#[derive(Message)]
#[rtype(result = "usize")]
pub struct CountLinks;

impl Handler<CountLinks> for RelayActor {
    type Result = usize;

    fn handle(&mut self, _: CountLinks, _: &mut Self::Context) -> usize {
        self.worker.links.borrow().len()
    }
}

/// Cuts every connection of the thread that is still open.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CutAll;

impl Handler<CutAll> for RelayActor {
    type Result = ();

    fn handle(&mut self, _: CutAll, ctx: &mut Self::Context) {
        self.worker.cut_all();
        ctx.stop();
    }
}

/// The address by which rooms reach a relay.
pub type RelayAddr = Addr<RelayActor>;

#[cfg(test)]
mod tests {
    use std::task::{Context as TaskContext, Poll, Waker};

    use bytes::Bytes;
    use tokio::sync::mpsc;
    use uuid::Uuid;

    use super::*;
    use crate::actors::{Cut, Limits};
    use crate::clock::SystemClock;
    use crate::domain::{Event, Num, Record, RecordId, RoomEvent, RoomId, Timestamp};
    use crate::store::memory::MemoryStore;

    #[test]
    fn what_waits_of_an_ended_follow_is_taken_out_with_the_word_that_it_has_ended() {
        actix::System::new().block_on(async {
            let worker = worker();
            let link = Rc::new(Link::new(Dialect::NativeJson, Box::new(Uncuttable)));
            let room = RoomKey { tenant: TenantId::default_tenant(), room: RoomId(Uuid::nil()) };
            let bob = UserId::new("bob").unwrap();
            let follower = worker.register(room, bob, &link).keep();
            let from = Position::start(worker.registry().store().epoch());
            let _ = link.outbox.push_log(Bytes::from_static(b"a record"), 1, &follower, from);
            worker.removed(&follower, true);
            worker.unregister(&follower);
            let mut cx = TaskContext::from_waker(Waker::noop());
            assert_eq!(link.outbox.poll_take(&mut cx, || {}), Poll::Pending);
        });
    }

    #[test]
    fn a_relay_that_dies_is_started_again_and_its_connections_are_cut() {
        actix::System::new().block_on(async {
            let worker = worker();
            let bob = Principal {
                tenant: TenantId::default_tenant(),
                user: UserId::new("bob").unwrap(),
                expires_at: Timestamp(i64::MAX),
            };
            let (deadly, cut) = (Rc::new(Cell::new(true)), Rc::new(Cell::new(false)));
            let ending = Rc::new(Link::new(Dialect::NativeJson, Box::new(Deadly(Rc::clone(&deadly)))));
            let other = Rc::new(Link::new(Dialect::NativeJson, Box::new(Noted(Rc::clone(&cut)))));
            for link in [&ending, &other] {
                worker.open(link);
            }
            worker.authenticated(&ending, &bob);
            ending.close(CloseReason::Normal);

            let registry = worker.registry();
            let relay = || registry.relay(registry.relays()[0]).unwrap();
            let room = RoomKey { tenant: TenantId::default_tenant(), room: RoomId(Uuid::nil()) };
            let (pending, _removed) = mpsc::channel(1);
            let batch = Batch::new(&room, &[kick_of(&bob.user)], DialectSet::default(), &pending);
            assert!(relay().send(Publication { room, batches: vec![batch] }).await.is_err());
            while !relay().connected() {
                tokio::task::yield_now().await;
            }
            assert_eq!(relay().send(CountLinks).await, Ok(2), "their sessions would let go of them");
            assert!(cut.get() && !deadly.get());
        });
    }

    struct Uncuttable;

    /// Panics the first time.
    struct Deadly(Rc<Cell<bool>>);

    impl Cut for Deadly {
        fn cut(&self) {
            assert!(!self.0.replace(false), "the panic that the test asked for");
        }
    }

    struct Noted(Rc<Cell<bool>>);

    impl Cut for Noted {
        fn cut(&self) {
            self.0.set(true);
        }
    }

    fn kick_of(user: &UserId) -> Record {
        let id = RecordId(Uuid::nil());
        Record {
            position: Position { epoch: MemoryStore::EPOCH, seq: Seq(3) },
            id,
            num: Num(3),
            at: Timestamp(0),
            author: UserId::new("ann").unwrap(),
            client_id: None,
            event: Event::Room(RoomEvent::MemberKicked { user: user.clone(), joined: id, reason: None }),
        }
    }

    impl Cut for Uncuttable {
        fn cut(&self) {
            unreachable!("nothing is cut here");
        }
    }

    fn worker() -> Rc<Worker> {
        let arbiters = vec![actix::Arbiter::current()];
        Worker::start(Registry::new(Arc::new(MemoryStore::new()), Arc::new(SystemClock), Limits::default(), arbiters))
    }
}
