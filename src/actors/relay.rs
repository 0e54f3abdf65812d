//! Between rooms and connections: one relay per worker thread takes the publications of rooms and hands them to the
//! followers on its thread, and cuts who does not prove that a removal has reached it.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix::{
    Actor, ActorContext, ActorFutureExt, ActorResponse, Addr, AsyncContext, Context, Handler, Message, MessageResult,
    WrapFuture,
};

use super::batch::{Batch, Pending};
use super::worker::{Cutting, Worker};
use crate::domain::revocation::Subject;
use crate::domain::{Revocation, RoomKey, Seq, Signal};
use crate::metrics::Census;
use crate::wire::CloseReason;

/// Takes publications for the followers of one worker thread.
pub struct RelayActor {
    worker: Rc<Worker>,
    /// In the order in which their time is up.
    proving: VecDeque<Cutting>,
}

impl RelayActor {
    pub fn new(worker: Rc<Worker>) -> Self {
        Self { worker, proving: VecDeque::new() }
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
    }
}

/// Committed batches of one room, oldest first. Answered when they have been handed over; before that, a room sends no
/// others. What a successor of its sends meanwhile comes too early for those who have not been served: they read the
/// log.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Publication {
    pub room: RoomKey,
    pub batches: Vec<Arc<Batch>>,
}

impl Handler<Publication> for RelayActor {
    type Result = ActorResponse<Self, ()>;

    fn handle(&mut self, publication: Publication, ctx: &mut Self::Context) -> Self::Result {
        let mut left = self.worker.deliver(&publication.room, &publication.batches, usize::MAX);
        if left == 0 {
            self.delivered(&publication, ctx);
            return ActorResponse::reply(());
        }
        let worker = Rc::clone(&self.worker);
        let rest = async move {
            while left > 0 {
                tokio::task::yield_now().await;
                left = worker.deliver(&publication.room, &publication.batches, left);
            }
            publication
        };
        let delivered = |publication: Publication, relay: &mut Self, ctx: &mut _| relay.delivered(&publication, ctx);
        ActorResponse::r#async(rest.into_actor(self).map(delivered))
    }
}

/// Tokens are denied from now on: the connections that stand on them end. Answered with how many sockets and
/// streams these are; they are gone when every clone of `pending` is.
#[derive(Message)]
#[rtype(result = "usize")]
pub struct Revoke {
    pub subject: Subject,
    pub revocation: Revocation,
    pub pending: Pending,
}

impl Handler<Revoke> for RelayActor {
    type Result = usize;

    fn handle(&mut self, revoke: Revoke, ctx: &mut Self::Context) -> usize {
        let cutting = self.worker.revoke(&revoke.subject, revoke.revocation, &revoke.pending);
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
}

impl Handler<Announce> for RelayActor {
    type Result = ();

    fn handle(&mut self, announce: Announce, _: &mut Self::Context) {
        self.worker.announce(&announce.room, announce.head);
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
    use std::task::{Context as TaskContext, Poll, Waker};

    use bytes::Bytes;
    use tokio::sync::mpsc;
    use uuid::Uuid;

    use super::*;
    use crate::actors::batch::DialectSet;
    use crate::actors::worker::{FOLLOWERS_PER_TURN, Follower};
    use crate::actors::{Cut, Limits, Link, Registry};
    use crate::clock::SystemClock;
    use crate::domain::{
        Event, Num, Position, Principal, Record, RecordId, RoomEvent, RoomId, Seq, TenantId, Timestamp, UserId,
    };
    use crate::store::memory::MemoryStore;
    use crate::wire::Dialect;

    #[test]
    fn what_waits_of_an_ended_follow_is_taken_out_with_the_word_that_it_has_ended() {
        actix::System::new().block_on(async {
            let worker = worker();
            let link = Rc::new(Link::new(Dialect::NativeJson, Box::new(Uncuttable)));
            let room = RoomKey { tenant: TenantId::default_tenant(), room: RoomId(Uuid::nil()) };
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
            let bob = Principal {
                tenant: TenantId::default_tenant(),
                user: UserId::new("bob").unwrap(),
                token: None,
                issued_at: Timestamp(0),
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
            let batch = Batch::new(&room, &[kick_of(&bob.user)], DialectSet::default(), Some(&pending));
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
            let room = RoomKey { tenant: TenantId::default_tenant(), room: RoomId(Uuid::nil()) };
            let begin = Position { epoch: MemoryStore::EPOCH, seq: Seq(2) };
            let mut followers = Vec::new();
            for n in 0..4 * FOLLOWERS_PER_TURN {
                let link = Rc::new(Link::new(Dialect::NativeJson, Box::new(Uncuttable)));
                let follower = worker.register(room.clone(), UserId::new(&format!("u{n}")).unwrap(), &link).keep();
                let generation = {
                    let mut follow = follower.follow().borrow_mut();
                    follow.admit(begin, Seq(1));
                    follow.generation()
                };
                follower.follow().borrow_mut().page(generation, begin.seq, None, true, []);
                followers.push((follower, link));
            }
            let served = |followers: &[(Rc<Follower>, Rc<Link>)]| {
                followers.iter().filter(|(_, link)| !link.outbox.log_is_empty()).count()
            };
            let registry = worker.registry();
            let relay = registry.relay(registry.relays()[0]).unwrap();
            let mut dialects = DialectSet::default();
            dialects.insert(Dialect::NativeJson);
            let batch = Batch::new(&room, &[kick_of(&UserId::new("u1").unwrap())], dialects, None);
            let published = actix::spawn(relay.send(Publication { room, batches: vec![batch] }));
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
