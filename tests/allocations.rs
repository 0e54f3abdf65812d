//! How often memory is asked for on the way of a message, from the frame that a client sent to what its room's followers
//! take. Everything stands on one thread here, session, room, relay and followers alike, so that all of it is counted;
//! only the sockets are missing.

use std::cell::Cell;
use std::future::{Future, poll_fn, ready};
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix::{Actor, AsyncContext, System, SystemRunner};
use bytes::Bytes;
use chinwag::actors::{Admission, Arrived, Cut, Gate, Limits, Link, Registry, SessionActor, Worker};
use chinwag::clock::SystemClock;
use chinwag::domain::{Principal, TenantId, Timestamp, UserId};
use chinwag::store::memory::{Faults, MemoryStore};
use chinwag::wire::{Dialect, Incoming, frame};
use tokio::sync::mpsc;

/// How many messages are published before anything is counted.
const WARM_UP: usize = 256;

/// How many are counted.
const COUNTED: usize = 32;

/// How many are committed together where many are.
const BATCH: usize = 64;

/// How a message is asked for.
const WORDS: &str = "a hundred and fifty bytes of text are said in this room again and again, and everybody who \
                     follows it is to have each of them once and in order, at once.";

/// How the others ask for them.
const FOLLOW: &str = r#"{"id":"2","type":"follow","room":"ROOM"}"#;
const FOLLOW_ALL: &str = r#"{"id":"2","type":"follow_all"}"#;

/// What one message asks for that is published alone, whoever follows: counted, and not to become more. Half of it is
/// actix's, for what is sent between actors and what they wait for.
const OF_A_MESSAGE: u64 = 42;

/// What a message asks for at most that is for more followers than a turn of the thread, however many they are.
const OF_TURNS: u64 = 4;

#[test]
fn a_message_costs_no_more_allocations_than_it_did() {
    let total = single(1, Dialect::NativeJson);
    assert!(total <= OF_A_MESSAGE * COUNTED as u64, "{total} for {COUNTED} messages");
}

#[test]
fn a_follower_more_costs_no_allocation_for_a_message() {
    for dialect in [Dialect::NativeJson, Dialect::NativeMsgpack] {
        let (few, more, many) = (single(10, dialect), single(100, dialect), single(1000, dialect));
        let turns = OF_TURNS * COUNTED as u64;
        assert!(
            more <= few && many <= few + turns,
            "{COUNTED} messages: {few} with 10, {more} with 100, {many} with 1000"
        );
    }
}

#[test]
fn a_follower_more_costs_no_allocation_for_many_messages_that_are_committed_together() {
    for dialect in [Dialect::NativeJson, Dialect::NativeMsgpack] {
        let (few, more, many) = (together(10, dialect), together(100, dialect), together(1000, dialect));
        assert!(
            // One is published before them.
            more <= few && many <= few + 2 * OF_TURNS,
            "{BATCH} messages: {few} with 10, {more} with 100, {many} with 1000"
        );
    }
}

/// Its records are its own, because of the cursor in them.
#[test]
fn a_reader_of_a_world_more_costs_one_allocation_for_a_message() {
    let (few, many) = (world(10), world(100));
    assert!(many - few <= 90 * COUNTED as u64, "{COUNTED} messages: {few} with 10, {many} with 100");
}

#[test]
fn a_follower_more_costs_no_allocation_for_many_messages_that_wait_for_it() {
    let (few, more, many) = (waiting(10), waiting(100), waiting(1000));
    let turns = OF_TURNS * BATCH as u64;
    assert!(more <= few && many <= few + turns, "{BATCH} messages: {few} with 10, {more} with 100, {many} with 1000");
}

/// Counts those of messages that are published and written one by one.
fn single(followers: usize, dialect: Dialect) -> u64 {
    one_by_one(&Chat::with(followers, dialect, FOLLOW))
}

/// The same where everybody follows all rooms.
fn world(followers: usize) -> u64 {
    one_by_one(&Chat::with(followers, Dialect::NativeJson, FOLLOW_ALL))
}

fn one_by_one(chat: &Chat) -> u64 {
    chat.settle(WARM_UP, || chat.publish_one());
    let counts = (0..COUNTED).map(|_| chat.count(chat.publish_one()));
    let total = counts.sum();
    println!("{} followers: {total} allocations for {COUNTED} messages", chat.followers.len());
    total
}

/// Counts those of messages that are committed together and written at once.
fn together(followers: usize, dialect: Dialect) -> u64 {
    let chat = Chat::with(followers, dialect, FOLLOW);
    chat.settle(WARM_UP / BATCH, || chat.publish_together());
    let count = chat.count(chat.publish_together());
    println!("{followers} followers, {dialect:?}: {count} allocations for {BATCH} messages in one batch");
    count
}

/// Counts those of messages that are published one by one and written when all are there.
fn waiting(followers: usize) -> u64 {
    let chat = Chat::with(followers, Dialect::NativeJson, FOLLOW);
    let round = || async {
        for _ in 0..BATCH {
            chat.publisher.says(&chat.frame);
            chat.publisher.sends(1).await;
        }
        chat.all_send(BATCH).await;
    };
    chat.settle(WARM_UP / BATCH, round);
    let count = chat.count(round());
    println!("{followers} followers: {count} allocations for {BATCH} messages that wait");
    count
}

/// A room of one user: one session publishes, the others follow.
struct Chat {
    system: SystemRunner,
    registry: Arc<Registry>,
    faults: Faults,
    publisher: Client,
    followers: Vec<Client>,
    frame: Bytes,
}

/// One session without a socket.
struct Client {
    link: Rc<Link>,
    says: mpsc::Sender<Arrived>,
}

impl Chat {
    fn with(followers: usize, dialect: Dialect, follow: &str) -> Self {
        let system = System::new();
        let store = MemoryStore::new();
        let faults = store.faults();
        let (registry, publisher, followers, room) = system.block_on(async {
            let hour = Duration::from_secs(3600);
            // Nothing is to happen by the clock while it is counted.
            let limits = Limits { sweep: hour, room_idle: hour, in_flight_per_session: 2 * BATCH, ..Limits::lifted() };
            let registry = Registry::new(Arc::new(store), Arc::new(SystemClock), limits);
            let worker = Worker::start(Arc::clone(&registry));
            let publisher = Client::new(&worker, Dialect::NativeJson);
            publisher.says(&Bytes::from_static(br#"{"id":"1","type":"create","kind":"group"}"#));
            let created = publisher.hears("\"num\"").await;
            let (_, room) = created.split_once(r#""room":""#).expect("the reply names the room");
            let room = room[..36].to_owned();
            let mut sessions = Vec::new();
            for _ in 0..followers {
                let follower = Client::new(&worker, dialect);
                follower.says(&asks(dialect, &follow.replace("ROOM", &room)));
                follower.hears("cursor").await;
                sessions.push(follower);
            }
            (registry, publisher, sessions, room)
        });
        let frame = format!(r#"{{"id":"3","type":"post","room":"{room}","content":{{"text":"{WORDS}"}}}}"#).into();
        Self { system, registry, faults, publisher, followers, frame }
    }

    /// How often memory is asked for until `done` is.
    fn count(&self, done: impl Future<Output = ()>) -> u64 {
        allocation_counter::measure(|| self.system.block_on(done)).count_total
    }

    /// Does something again and again, so that every queue and table has its size.
    fn settle<F: Future<Output = ()>>(&self, times: usize, work: impl Fn() -> F) {
        (0..times).for_each(|_| self.system.block_on(work()));
    }

    async fn publish_one(&self) {
        self.publisher.says(&self.frame);
        self.publisher.sends(1).await;
        self.all_send(1).await;
    }

    /// Publishes one, and many while that is being committed. They are committed together when it has been written.
    async fn publish_together(&self) {
        self.faults.hold();
        self.publisher.says(&self.frame);
        while self.faults.held() == 0 {
            tokio::task::yield_now().await;
        }
        (0..BATCH).for_each(|_| self.publisher.says(&self.frame));
        while self.registry.commands_in_flight() <= BATCH {
            tokio::task::yield_now().await;
        }
        let before = self.faults.commits();
        self.faults.release_one();
        self.publisher.sends(1).await;
        self.all_send(1).await;
        self.faults.release();
        self.publisher.sends(BATCH).await;
        assert_eq!(self.faults.commits() - before, 1, "all but the first were committed together");
        self.all_send(BATCH).await;
    }

    /// To every follower `records` records are written.
    async fn all_send(&self, records: usize) {
        for follower in &self.followers {
            follower.sends(records).await;
        }
    }
}

impl Client {
    fn new(worker: &Rc<Worker>, dialect: Dialect) -> Self {
        let link = Rc::new(Link::new(dialect, Box::new(NoSocket)));
        let (says, mut said) = mpsc::channel(4 * BATCH);
        let (worker, its_link) = (Rc::clone(worker), Rc::clone(&link));
        SessionActor::create(move |ctx| {
            ctx.add_stream(futures_util::stream::poll_fn(move |cx| said.poll_recv(cx).map(|said| said.map(Ok))));
            SessionActor::new(worker, its_link, Arc::new(Open), Some(ann()))
        });
        Self { link, says }
    }

    fn says(&self, frame: &Bytes) {
        let message =
            if self.link.dialect().is_text() { Incoming::Text(frame.clone()) } else { Incoming::Binary(frame.clone()) };
        let message = Arrived { incoming: message, more: false };
        self.says.try_send(message).expect("there is room for a batch");
    }

    /// Writes `messages` messages, and no more are there, as the carrier of the connection would.
    async fn sends(&self, messages: usize) {
        let sent = Cell::new(0);
        let send = |_: &mut Context<'_>, slices: &[IoSlice<'_>]| {
            // What the client has to do with them is not counted.
            allocation_counter::opt_out(|| {
                sent.set(sent.get() + slices.iter().map(|slice| frames(slice)).sum::<usize>());
            });
            Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
        };
        poll_fn(|cx| {
            assert!(self.link.outbox.poll_send(cx, send, || self.link.drained()).is_pending(), "nobody closes it");
            if sent.get() < messages { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        assert_eq!(sent.get(), messages, "each message once");
    }

    /// What waits.
    async fn take(&self) -> Bytes {
        let taken = poll_fn(|cx| self.link.outbox.poll_take(cx, || self.link.drained())).await;
        taken.expect("nobody closes it")
    }

    /// Takes until something has `word` in it.
    async fn hears(&self, word: &str) -> String {
        loop {
            let heard = String::from_utf8_lossy(&self.take().await).into_owned();
            if heard.contains(word) {
                return heard;
            }
        }
    }
}

fn asks(dialect: Dialect, json: &str) -> Bytes {
    if dialect.is_text() {
        return json.to_owned().into();
    }
    let value: serde_json::Value = serde_json::from_str(json).expect("it is JSON");
    rmp_serde::to_vec_named(&value).expect("it is MessagePack").into()
}

fn frames(written: &[u8]) -> usize {
    let mut written = Bytes::copy_from_slice(written);
    std::iter::from_fn(|| frame::take(&mut written)).count()
}

fn ann() -> Principal {
    Principal {
        tenant: TenantId::default_tenant(),
        user: UserId::new("ann").expect("it is one"),
        token: None,
        login: None,
        issued_at: Timestamp(0),
        expires_at: Timestamp(i64::MAX),
    }
}

struct NoSocket;

impl Cut for NoSocket {
    fn cut(&self) {}
}

struct Open;

impl Gate for Open {
    fn admit<'a>(&'a self, _: &'a str, _: Timestamp) -> Admission<'a> {
        Box::pin(ready(Ok(ann())))
    }
}
