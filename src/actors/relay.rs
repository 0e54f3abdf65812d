//! Between rooms and connections: one relay per worker thread takes the publications of rooms and hands them to the
//! followers on its thread, and cuts who does not prove that a removal has reached it.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix::{
    Actor, ActorContext, ActorFutureExt, ActorResponse, Addr, AsyncContext, Context, Handler, Message, MessageResult,
    WrapFuture,
};

use tokio::task::JoinSet;

use super::batch::{Batch, Pending};
use super::turns::{Taken, Turns};
use super::worker::{Cutting, Worker};
use crate::domain::revocation::Subject;
use crate::domain::{Revocation, RoomKey, Seq, Signal, UserId};
use crate::metrics::Census;
use crate::wire::{CloseReason, Notice};

/// Takes publications for the followers of one worker thread.
pub struct RelayActor {
    worker: Rc<Worker>,
    turns: Rc<Turns>,
    /// In the order in which their time is up.
    proving: VecDeque<Cutting>,
}

impl RelayActor {
    pub fn new(worker: Rc<Worker>) -> Self {
        Self { turns: Turns::new(Rc::clone(&worker)), worker, proving: VecDeque::new() }
    }

    /// Every follower has been handed its part.
    fn delivered(&mut self, publication: &Publication, ctx: &mut Context<Self>) {
        let cutting = self.worker.prove(&publication.room, &publication.batches);
        self.await_proof(cutting, ctx);
    }

    fn await_proof(&mut self, cutting: Vec<Cutting>, ctx: &mut Context<Self>) {
        for cutting in cutting {
            self.proving.push_back(cutting);
            if self.proving.len() == 1 {
                ctx.run_later(self.worker.registry().limits().proof, Self::cut_unproven);
            }
        }
    }

    /// Cuts the connections whose time to prove themselves is up. One timer for all that wait: a context looks at each
    /// of its timers whenever anything happens.
    fn cut_unproven(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        while let Some(cutting) = self.proving.pop_front_if(|cutting| cutting.due <= now) {
            if cutting.link.unproven(cutting.token) {
                self.worker.registry().metrics().removals_cut.inc();
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
        let sweep = self.worker.registry().limits().sweep;
        ctx.run_interval(sweep, |relay, _| relay.worker.sweep());
        let mut tasks = JoinSet::new();
        tasks.spawn_local(Rc::clone(&self.turns).go_round());
        // It ends with the relay, and where it dies of a panic, so does the relay.
        let died = async move { tasks.join_next().await };
        ctx.spawn(died.into_actor(self).map(|died, _, _| {
            if let Some(Err(error)) = died {
                resume_unwind(error.into_panic());
            }
        }));
    }
}

/// Committed batches of one room, oldest first. Answered when they have been handed over; before that, a room sends no
/// others. What a successor of its sends meanwhile waits behind them.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Publication {
    pub room: RoomKey,
    pub batches: Vec<Arc<Batch>>,
}

impl Handler<Publication> for RelayActor {
    type Result = ActorResponse<Self, ()>;

    fn handle(&mut self, publication: Publication, ctx: &mut Self::Context) -> Self::Result {
        match self.turns.take(publication) {
            Taken::Served(publication) => {
                self.delivered(&publication, ctx);
                ActorResponse::reply(())
            }
            Taken::Waiting(served) => ActorResponse::r#async(served.into_actor(self).map(|served, relay, ctx| {
                relay.delivered(&served.expect("what waits is not dropped before the relay"), ctx);
            })),
        }
    }
}

/// Tokens are denied from now on: the connections that stand on them end. Answered with how many sockets and
/// streams these are; they are gone when every clone of `pending` is.
#[derive(Message)]
#[rtype(result = "usize")]
pub struct Revoke {
    pub subject: Subject,
    pub revocation: Revocation,
    /// What is said to those that end.
    pub close: CloseReason,
    pub pending: Pending,
}

impl Handler<Revoke> for RelayActor {
    type Result = usize;

    fn handle(&mut self, revoke: Revoke, ctx: &mut Self::Context) -> usize {
        let cutting = self.worker.revoke(&revoke);
        // Those that were ending already have been cut at once.
        let count = cutting.iter().filter(|cutting| !cutting.link.is_cut()).count();
        self.await_proof(cutting, ctx);
        count
    }
}

/// A room stands at `head`, whatever has been published: followers that have less read the log.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Announce {
    pub room: RoomKey,
    pub head: Seq,
    /// Nothing from before a membership is read there.
    pub narrows: bool,
}

impl Handler<Announce> for RelayActor {
    type Result = ();

    fn handle(&mut self, announce: Announce, _: &mut Self::Context) {
        self.worker.announce(&announce);
    }
}

/// What holds for the moment in a room.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Signaled {
    pub room: RoomKey,
    pub signal: Signal,
}

impl Handler<Signaled> for RelayActor {
    type Result = ();

    fn handle(&mut self, signaled: Signaled, _: &mut Self::Context) {
        self.worker.signal(&signaled.room, &signaled.signal);
    }
}

/// What a user says of itself has changed: told to those who follow one of `rooms`.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Updated {
    pub user: UserId,
    pub rooms: Vec<RoomKey>,
    pub notice: Arc<Notice>,
}

impl Handler<Updated> for RelayActor {
    type Result = ();

    fn handle(&mut self, Updated { user, rooms, notice }: Updated, _: &mut Self::Context) {
        self.worker.user_updated(&user, &rooms, &notice);
    }
}

/// The process is stopping: every connection of the thread is told when to come back, and closed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CloseAll(pub CloseReason);

impl Handler<CloseAll> for RelayActor {
    type Result = ();

    fn handle(&mut self, close: CloseAll, _: &mut Self::Context) {
        for link in self.worker.links() {
            link.close(close.0);
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
        self.worker.links().len()
    }
}

/// What the connections of the thread hold now.
#[derive(Message)]
#[rtype(result = "Census")]
pub struct TakeCensus;

impl Handler<TakeCensus> for RelayActor {
    type Result = MessageResult<TakeCensus>;

    fn handle(&mut self, _: TakeCensus, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.worker.census())
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
    use std::cell::Cell;
    use std::io::{self, IoSlice};
    use std::task::{Context as TaskContext, Poll, Waker};

    use bytes::Bytes;
    use tokio::sync::mpsc::{self, error::TryRecvError};
    use tokio::task::JoinHandle;
    use uuid::Uuid;

    use super::*;
    use crate::actors::batch::DialectSet;
    use crate::actors::outbox::LOG_BYTES_MAX;
    use crate::actors::turns::DELIVERIES_PER_TURN;
    use crate::actors::worker::Follower;
    use crate::actors::{Cut, Limits, Link, Registry, Sink};
    use crate::clock::SystemClock;
    use crate::domain::{
        Content, Event, Num, Position, Principal, Record, RecordId, RoomEvent, RoomId, Seq, TenantId, Timestamp, UserId,
    };
    use crate::store::memory::MemoryStore;
    use crate::wire::{Dialect, Label};

    #[test]
    fn what_waits_of_an_ended_follow_is_taken_out_with_the_word_that_it_has_ended() {
        actix::System::new().block_on(async {
            let worker = worker();
            let link = Rc::new(Link::new(Dialect::NativeJson, Box::new(Uncuttable)));
            let room = room(1);
            let bob = UserId::new("bob").unwrap();
            let follower = worker.register(room, bob, &link).keep();
            let from = Position::start(worker.registry().store().epoch());
            let _ = link.outbox.push_log(Bytes::from_static(b"a record"), 1, follower.clone(), from);
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
            let bob = principal(&UserId::new("bob").unwrap());
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
            let room = room(1);
            let (pending, _removed) = mpsc::channel(1);
            let batch = Batch::new(Label::plain(&room), &[kick_of(&bob.user)], DialectSet::default(), Some(&pending));
            assert!(relay().send(Publication { room, batches: vec![batch] }).await.is_err());
            while !relay().connected() {
                tokio::task::yield_now().await;
            }
            assert_eq!(relay().send(CountLinks).await, Ok(2), "their sessions would let go of them");
            assert!(cut.get() && !deadly.get());
        });
    }

    #[test]
    fn a_publication_to_many_leaves_the_thread_to_others_and_passes_nobody_over_who_stays() {
        actix::System::new().block_on(async {
            let worker = worker();
            let room = room(1);
            let mut followers = live_followers(&worker, &room, 4 * DELIVERIES_PER_TURN);
            let published = publish(&worker, &room, vec![batch(&room, 3)]);
            let (mut turns, mut gone) = (0, 0);
            while !published.is_finished() {
                let now = served(&followers);
                turns += usize::from(now > 0 && now < followers.len());
                // One that has been served and one that may not have been leave.
                for index in [followers.len() - 1, 0] {
                    let (follower, _) = followers.swap_remove(index);
                    worker.unregister(&follower);
                    gone += 1;
                }
                tokio::task::yield_now().await;
            }
            assert!(turns >= 2, "nobody else had a turn");
            assert!(gone >= 4);
            assert_eq!(served(&followers), followers.len());
            assert!(followers.iter().all(|(follower, _)| follower.follow().borrow().is_live()));
        });
    }

    #[test]
    fn many_large_publications_at_once_leave_the_thread_to_others() {
        actix::System::new().block_on(async {
            let worker = worker();
            let rooms: Vec<_> = (1..=8).map(room).collect();
            let of_room = 2 * DELIVERIES_PER_TURN;
            let followers: Vec<_> = rooms.iter().map(|room| live_followers(&worker, room, of_room)).collect();
            let published: Vec<_> = rooms.iter().map(|room| publish(&worker, room, vec![batch(room, 3)])).collect();
            let (mut before, mut turns) = (0, 0);
            while before < 8 * of_room {
                let now: usize = followers.iter().map(|followers| served(followers)).sum();
                assert!(now - before <= DELIVERIES_PER_TURN, "{} were served in one turn", now - before);
                turns += usize::from(now > before);
                before = now;
                tokio::task::yield_now().await;
            }
            assert_eq!(turns, 16);
            for published in published {
                published.await.unwrap();
            }
        });
    }

    #[test]
    fn a_small_publication_does_not_wait_for_a_large_one() {
        actix::System::new().block_on(async {
            let worker = worker();
            let (large, small) = (room(1), room(2));
            let many = live_followers(&worker, &large, 8 * DELIVERIES_PER_TURN);
            let few = live_followers(&worker, &small, 1);
            let published = publish(&worker, &large, vec![batch(&large, 3)]);
            publish(&worker, &small, vec![batch(&small, 3)]).await.unwrap();
            assert_eq!(served(&few), 1);
            assert!(served(&many) < many.len() / 2);
            published.await.unwrap();
            assert_eq!(served(&many), many.len());
        });
    }

    #[test]
    fn each_batch_of_a_publication_counts() {
        actix::System::new().block_on(async {
            let (worker, room) = (worker(), room(1));
            let followers = live_followers(&worker, &room, DELIVERIES_PER_TURN);
            let published = publish(&worker, &room, (3..11).map(|seq| batch(&room, seq)).collect());
            while served(&followers) == 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!(served(&followers), DELIVERIES_PER_TURN / 8);
            published.await.unwrap();
            assert_eq!(served(&followers), followers.len());
        });
    }

    #[test]
    fn large_batches_of_one_publication_do_not_set_back_who_takes_them() {
        actix::System::new().block_on(async {
            let (worker, room) = (worker(), room(1));
            let (follower, link) = live_followers(&worker, &room, 1).remove(0);
            let (sink, mut cx) = (Rc::new(Taking::default()), TaskContext::from_waker(Waker::noop()));
            link.outbox.connect(sink.clone());
            assert!(link.outbox.poll_take(&mut cx, || {}).is_pending());
            let batches: Vec<_> = (3..8).map(|seq| long_batch(&room, seq)).collect();
            let bytes: usize = batches.iter().map(|batch| frames_of(batch).len()).sum();
            assert!(bytes > 2 * LOG_BYTES_MAX);
            publish(&worker, &room, batches).await.unwrap();
            assert!(follower.follow().borrow().is_live(), "it has to read the log");
            assert_eq!((sink.0.get(), link.outbox.bytes()), (bytes, 0));
            assert_eq!(worker.registry().metrics().sent_bytes.get(), bytes as u64);
        });
    }

    #[test]
    fn a_removal_amid_turns_is_the_last_for_whom_it_removes_and_is_held_until_all_are_served() {
        actix::System::new().block_on(async {
            let (worker, room) = (worker(), room(1));
            let followers = live_followers(&worker, &room, 4 * DELIVERIES_PER_TURN);
            let ((removed, link), (_, last)) = (&followers[followers.len() - 1], &followers[0]);
            worker.authenticated(link, &principal(removed.user()));
            let (pending, mut confirmed) = mpsc::channel(1);
            let kick = Batch::new(Label::plain(&room), &[kick_of(removed.user())], dialects(), Some(&pending));
            drop(pending);
            let published = publish(&worker, &room, vec![kick, batch(&room, 4)]);
            while !published.is_finished() {
                assert_eq!(confirmed.try_recv(), Err(TryRecvError::Empty), "not all were served");
                tokio::task::yield_now().await;
            }
            assert_eq!(confirmed.try_recv(), Err(TryRecvError::Empty), "nothing has been proved");
            let of_removed = take(link);
            // Behind it all there is a ping.
            let (of_removed, token) = of_removed.split_at(of_removed.len() - size_of::<u64>());
            let (of_removed, of_last) = (String::from_utf8_lossy(of_removed), take(last));
            let of_last = String::from_utf8_lossy(&of_last);
            assert!(of_removed.contains(r#""seq":3"#) && of_removed.contains(r#""kicked""#), "{of_removed}");
            assert!(!of_removed.contains(r#""seq":4"#), "{of_removed}");
            assert!(of_last.contains(r#""seq":4"#), "{of_last}");
            link.pong(token);
            assert_eq!(confirmed.recv().await, None);
        });
    }

    #[test]
    fn what_a_successor_publishes_waits_behind_its_predecessors() {
        actix::System::new().block_on(async {
            let worker = worker();
            let (one, other) = (room(1), room(2));
            let followers = live_followers(&worker, &one, 4 * DELIVERIES_PER_TURN);
            let others = live_followers(&worker, &other, 4 * DELIVERIES_PER_TURN);
            let of_predecessor = publish(&worker, &one, (3..11).map(|seq| batch(&one, seq)).collect());
            let of_other = publish(&worker, &other, vec![batch(&other, 3)]);
            while served(&followers) == 0 {
                tokio::task::yield_now().await;
            }
            assert!(!of_predecessor.is_finished());
            let of_successor = publish(&worker, &one, vec![batch(&one, 11)]);
            for published in [of_predecessor, of_other, of_successor] {
                published.await.unwrap();
            }
            for (at, followers) in [(11, &followers), (3, &others)] {
                for (follower, _) in followers {
                    let follow = follower.follow().borrow();
                    assert!(follow.is_live(), "nobody has to read the log");
                    assert_eq!(follow.at().unwrap().seq, Seq(at));
                }
            }
        });
    }

    /// Followers that have everything up to the second record.
    fn live_followers(worker: &Rc<Worker>, room: &RoomKey, count: usize) -> Vec<(Rc<Follower>, Rc<Link>)> {
        let begin = Position { epoch: MemoryStore::EPOCH, seq: Seq(2) };
        let follower = |n| {
            let link = Rc::new(Link::new(Dialect::NativeJson, Box::new(Uncuttable)));
            let follower = worker.register(room.clone(), UserId::new(&format!("u{n}")).unwrap(), &link).keep();
            let generation = {
                let mut follow = follower.follow().borrow_mut();
                follow.admit(begin, Seq(1));
                follow.generation()
            };
            follower.follow().borrow_mut().page(generation, begin.seq, None, true, []);
            (follower, link)
        };
        (0..count).map(follower).collect()
    }

    fn served(followers: &[(Rc<Follower>, Rc<Link>)]) -> usize {
        followers.iter().filter(|(_, link)| !link.outbox.log_is_empty()).count()
    }

    /// What waits for a connection.
    fn take(link: &Link) -> Bytes {
        let mut cx = TaskContext::from_waker(Waker::noop());
        let Poll::Ready(Some(taken)) = link.outbox.poll_take(&mut cx, || {}) else { panic!("nothing waits") };
        taken
    }

    /// Sends a publication to the relay of the thread, which has it when this returns.
    fn publish(worker: &Worker, room: &RoomKey, batches: Vec<Arc<Batch>>) -> JoinHandle<()> {
        let registry = worker.registry();
        let relay = registry.relay(registry.relays()[0]).unwrap();
        let taken = relay.send(Publication { room: room.clone(), batches });
        actix::spawn(async { taken.await.unwrap() })
    }

    /// A record that removes nobody who is there.
    fn batch(room: &RoomKey, seq: u64) -> Arc<Batch> {
        let mut record = kick_of(&UserId::new("nobody").unwrap());
        record.position.seq = Seq(seq);
        Batch::new(Label::plain(room), &[record], dialects(), None)
    }

    fn long_batch(room: &RoomKey, seq: u64) -> Arc<Batch> {
        let mut record = kick_of(&UserId::new("nobody").unwrap());
        record.position.seq = Seq(seq);
        let content = Content::text(&"x".repeat(LOG_BYTES_MAX / 2));
        let (reply, mentions, forwarded, attachments) = (None, Box::default(), None, Box::default());
        record.event = Event::Room(RoomEvent::MessagePosted { content, reply, mentions, forwarded, attachments });
        Batch::new(Label::plain(room), &[record], dialects(), None)
    }

    fn frames_of(batch: &Batch) -> Bytes {
        batch.frames(Dialect::NativeJson, Seq(batch.first().0 - 1), batch.last().seq, None).unwrap().0
    }

    fn dialects() -> DialectSet {
        let mut dialects = DialectSet::default();
        dialects.insert(Dialect::NativeJson);
        dialects
    }

    fn room(number: u128) -> RoomKey {
        RoomKey { tenant: TenantId::default_tenant(), room: RoomId(Uuid::from_u128(number)) }
    }

    fn principal(user: &UserId) -> Principal {
        Principal {
            tenant: TenantId::default_tenant(),
            user: user.clone(),
            token: None,
            login: None,
            issued_at: Timestamp(0),
            expires_at: Timestamp(i64::MAX),
        }
    }

    /// A socket that takes everything, and counts it.
    #[derive(Default)]
    struct Taking(Cell<usize>);

    impl Sink for Taking {
        fn try_send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let bytes = slices.iter().map(|slice| slice.len()).sum();
            self.0.set(self.0.get() + bytes);
            Ok(bytes)
        }

        fn look_ahead(&self) {}
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
        Worker::start(Registry::new(Arc::new(MemoryStore::new()), Arc::new(SystemClock), Limits::default()))
    }
}
