//! What a room keeps in mind, and what becomes of removals when it or a relay dies.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;

use actix::Addr;
use bytes::Bytes;
use tokio::sync::oneshot::error::TryRecvError;
use uuid::Uuid;

use super::*;
use crate::actors::relay::{CutAll, RelayActor};
use crate::actors::{Cut, Limits, Link, Worker, auditing};
use crate::clock::SystemClock;
use crate::domain::command::{Administer, Audit, Begin, Readers};
use crate::domain::{Alias, Audited, Content, Create, Deed, Emoji, Epoch, RoomId, RoomKind, StreamId, TenantId};
use crate::store::memory::{Faults, MemoryStore};
use crate::wire::{CloseReason, Dialect};

#[derive(ActorMessage)]
#[rtype(result = "usize")]
struct Known;

impl Handler<Known> for RoomActor {
    type Result = usize;

    fn handle(&mut self, _: Known, _: &mut Self::Context) -> usize {
        self.room.known_count()
    }
}

/// Has the room die of a panic.
#[derive(ActorMessage)]
#[rtype(result = "()")]
struct Die;

impl Handler<Die> for RoomActor {
    type Result = ();

    fn handle(&mut self, _: Die, _: &mut Self::Context) {
        panic!("the panic that the test asked for");
    }
}

#[test]
fn commands_that_lead_to_nothing_leave_nothing_behind() {
    actix::System::new().block_on(async {
        let registry = registry();
        let room = RoomActor::new(registry, key(5), Arc::default()).start();
        let ask = async |command| answered(ask(&room, command)).await.receipt.id;
        open(&room, &[]).await;
        let mut messages = Vec::new();
        for _ in 0..2 * KNOWN_MAX {
            messages.push(ask(Command::post(Content::text("hi"))).await);
        }
        // Nothing is committed from here on.
        for message in messages {
            ask(Command::Unreact { message, emoji: Emoji::new("+1").unwrap() }).await;
            let known = room.send(Known).await.unwrap();
            // A message, and what somebody feels about it.
            assert!(known <= KNOWN_MAX + 2, "{known} are known");
        }
    });
}

#[test]
fn what_a_command_was_decided_by_is_known_still_when_its_nums_have_come() {
    actix::System::new().block_on(async {
        let store = MemoryStore::new();
        let faults = store.faults();
        let registry = registry_over(store);
        let room = RoomActor::new(Arc::clone(&registry), key(5), Arc::default()).start();
        let post = async || answered(ask(&room, Command::post(Content::text("hi")))).await.receipt;
        open(&room, &["bob"]).await;
        let message = post().await;
        let emoji = || Emoji::new("+1").unwrap();
        while room.send(Known).await.unwrap() < KNOWN_MAX {
            let other = post().await.id;
            answered(ask(&room, Command::Unreact { message: other, emoji: emoji() })).await;
        }
        let last = post().await.position.seq;

        let (nums, _) = registry.nums(&TenantId::default_tenant());
        while nums.take(1).is_some() {}
        faults.hold();
        let react = || Command::React { message: message.id, emoji: emoji() };
        let reactions = ["ann", "bob"].map(|by| ask_by(by, &room, react()));
        // The lease goes through. The first of the two is held, so that the log cannot tell the second of it.
        held(&faults).await;
        faults.release_one();
        held(&faults).await;
        room.send(Known).await.unwrap();
        faults.release();
        for reaction in reactions {
            answered(reaction).await;
        }
        let read = registry.store().read(&key(5).stream(), last, 10).await.unwrap();
        let count = |record: &Record| match &record.event {
            Event::Room(RoomEvent::ReactionAdded { count, .. }) => *count,
            other => panic!("{other:?}"),
        };
        assert_eq!(read.records.iter().map(count).collect::<Vec<_>>(), [1, 2]);
    });
}

#[test]
fn the_successor_of_a_room_that_died_before_a_removal_was_confirmed_sees_to_it_first() {
    actix::System::new().block_on(async {
        let registry = registry();
        let worker = Worker::start(Arc::clone(&registry));
        let cut = Rc::new(Cell::new(false));
        let noted = Rc::clone(&cut);
        let link = connect(&worker, "bob", move || noted.set(true));
        let published = Arc::<AtomicU64>::default();
        let room = RoomActor::new(Arc::clone(&registry), key(5), Arc::clone(&published)).start();
        open(&room, &["bob"]).await;
        let kicked = ask(&room, kick("bob"));
        // It is said after the removal, and does not make up for it.
        answered(ask(&room, Command::post(Content::text("without bob")))).await;
        while link.proofs_owed() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(room.send(Die).await.is_err());
        kicked.await.expect_err("it died with the room");

        let successor = RoomActor::new(registry, key(5), published).start();
        let refused = ask(&successor, kick("bob")).await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Rejection::NoSuchMember.code());
        assert!(cut.get(), "bob may still be shown something");
    });
}

#[test]
fn an_audit_room_tells_of_no_removal_that_has_not_reached_everybody_whatever_follows() {
    actix::System::new().block_on(async {
        let registry = registry();
        let worker = Worker::start(Arc::clone(&registry));
        let cut = Rc::new(Cell::new(false));
        let noted = Rc::clone(&cut);
        let _link = connect(&worker, "bob", move || noted.set(true));
        let room = RoomActor::new(registry, key(5), Arc::default()).start();
        let readers = ["ann", "bob"].map(user).to_vec();
        let begin = Begin { num: Num(1), audits: Some(RoomId(Uuid::from_u128(4))), readers };
        answered(ask(&room, Command::Audit(Audit { begin: Some(begin), ..Audit::default() }))).await;
        let only =
            |names: &[&str]| Readers { now: names.iter().map(|name| user(name)).collect(), ..Readers::default() };
        let told = |readers| Command::Audit(Audit { readers: Some(readers), ..Audit::default() });
        let first = ask(&room, told(only(&["ann"])));
        room.send(Known).await.unwrap();
        // As its successor does who has died before the answer came: with something else that removes nobody from it.
        let (position, at, by) = (Position { epoch: Epoch(1), seq: Seq(9) }, Timestamp(1), user("ann"));
        let id = RecordId::new(at, position.seq, 0);
        let audited = Audited { room: key(4).room, position, id, at, by, decided: RoomEvent::RoomArchived };
        let decisions = vec![Decision { audited, reading: None }];
        let again = Audit { begin: None, readers: Some(only(&["ann"])), decisions };
        answered(ask(&room, Command::Audit(again))).await;
        assert!(cut.get(), "bob may still be shown something");
        answered(first).await;
    });
}

#[test]
fn who_asks_again_whether_somebody_is_out_of_a_tenants_audit_room_waits_as_who_asked_first() {
    actix::System::new().block_on(async {
        let registry = registry();
        let worker = Worker::start(Arc::clone(&registry));
        let cut = Rc::new(Cell::new(false));
        let noted = Rc::clone(&cut);
        let _link = connect(&worker, "bob", move || noted.set(true));
        let room = RoomActor::new(registry, key(5), Arc::default()).start();
        let begin = Begin { num: Num(1), audits: None, readers: ["ann", "bob"].map(user).to_vec() };
        answered(ask(&room, Command::Audit(Audit { begin: Some(begin), ..Audit::default() }))).await;
        let out = |deed| {
            let reading = Some(Reading { user: user("bob"), reads: false });
            ask(&room, Command::Administer(Administer { deed, reading }))
        };
        let first = out(Some(Deed::ResetMade { user: user("bob") }));
        room.send(Known).await.unwrap();
        // He is a member no more; another deed is not held up by that, and whoever asks whether it holds is.
        let other = Administer { deed: Some(Deed::ResetMade { user: user("cas") }), reading: None };
        answered(ask(&room, Command::Administer(other))).await;
        assert!(!cut.get(), "nobody has waited yet");
        answered(out(None)).await;
        assert!(cut.get(), "bob may still be shown something");
        answered(first).await;
    });
}

#[test]
fn a_decision_that_was_on_its_way_to_the_disk_when_its_room_died_is_handed_on() {
    actix::System::new().block_on(async {
        let store = MemoryStore::new();
        let faults = store.faults();
        let registry = registry_over(store);
        let room = RoomActor::new(Arc::clone(&registry), key(5), Arc::default()).start();
        open(&room, &["bob"]).await;
        faults.hold();
        let kicked = ask(&room, kick("bob"));
        held(&faults).await;
        assert!(room.send(Die).await.is_err());
        kicked.await.expect_err("it died with the room");
        faults.release();
        let audit = auditing::audit_of(&key(5)).stream();
        let begun = tokio::time::timeout(Duration::from_secs(5), async {
            while registry.store().head(&audit).await.unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        begun.await.expect("somebody wakes the room");
    });
}

#[test]
fn who_decides_in_a_tenant_is_not_told_before_it_is_known_what_became_of_it_though_the_room_dies() {
    actix::System::new().block_on(async {
        let store = MemoryStore::new();
        let faults = store.faults();
        let registry = registry_over(store);
        let tenant = TenantId::default_tenant();
        let (stream, key) = (StreamId::Accounts(tenant.clone()), Bytes::from_static(b"bob"));
        let decide = |value: &'static [u8]| {
            let (registry, tenant) = (Arc::clone(&registry), tenant.clone());
            let put = Put { under: stream.clone(), key: key.clone(), value: Some(Bytes::from_static(value)) };
            let deed = Administer { deed: Some(Deed::ResetMade { user: user("bob") }), reading: None };
            async move { auditing::administer(&registry, &tenant, user("ann"), deed, vec![put]).await.map(drop) }
        };
        decide(b"one").await.unwrap();
        faults.hold();
        let mut second = actix::spawn(decide(b"two"));
        held(&faults).await;
        let room = registry.awake(&auditing::audit_of_tenant(&tenant)).expect("it has just been asked something");
        assert!(room.send(Die).await.is_err());
        let early = tokio::time::timeout(Duration::from_millis(200), &mut second).await;
        assert!(early.is_err(), "{early:?}");
        faults.release();
        assert_eq!(second.await.unwrap().unwrap_err().code(), "unavailable");
        assert_eq!(registry.store().get(&stream, &key).await.unwrap().as_deref(), Some(&b"two"[..]));
    });
}

#[test]
fn no_removal_is_answered_before_the_connections_of_a_relay_that_died_are_cut() {
    actix::System::new().block_on(async {
        let registry = registry();
        let worker = Worker::start(Arc::clone(&registry));
        let (one, other) = (key(5), key(6));
        let rooms = [one, other].map(|key| RoomActor::new(Arc::clone(&registry), key, Arc::default()).start());
        for room in &rooms {
            open(room, &["bob", "carol"]).await;
        }
        let deadly = Cell::new(true);
        let ending = connect(&worker, "bob", move || {
            assert!(!deadly.replace(false), "the panic that the test asked for");
        });
        ending.close(CloseReason::Normal);
        let answers = Rc::new(RefCell::new(Vec::new()));
        let (early, before) = (Rc::new(Cell::new(None)), Rc::clone(&answers));
        let (noted, its_registry) = (Rc::clone(&early), Arc::clone(&registry));
        let _open = connect(&worker, "carol", move || {
            let has_come = |answer: &mut Answered| !matches!(answer.try_recv(), Err(TryRecvError::Empty));
            let replaced = its_registry.relay(its_registry.relays()[0]).unwrap().connected();
            noted.set(Some(replaced || before.borrow_mut().iter_mut().any(has_come)));
        });
        // The relay dies of the first of the two, and has the second before it.
        answers.borrow_mut().extend([ask(&rooms[0], kick("bob")), ask(&rooms[1], kick("carol"))]);
        while early.get().is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(early.get(), Some(false));
        for answer in answers.take() {
            answered(answer).await;
        }
    });
}

#[test]
fn a_removal_that_a_dead_relay_was_sent_waits_for_the_one_that_takes_its_place() {
    actix::System::new().block_on(async {
        let registry = registry();
        let worker = Worker::start(Arc::clone(&registry));
        let room = RoomActor::new(Arc::clone(&registry), key(5), Arc::default()).start();
        open(&room, &["bob"]).await;
        let relay = registry.relays()[0];
        registry.relay(relay).unwrap().send(CutAll).await.unwrap();
        let mut kicked = ask(&room, kick("bob"));
        let early = tokio::time::timeout(Duration::from_millis(50), &mut kicked).await;
        assert!(early.is_err(), "{early:?}");
        registry.replace_relay(relay, RelayActor::new(worker).start());
        answered(kicked).await;
    });
}

async fn held(faults: &Faults) {
    let waited = tokio::time::timeout(Duration::from_secs(5), async {
        while faults.held() == 0 {
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("the room commits");
}

type Answered = oneshot::Receiver<Answer>;

fn ask(room: &Addr<RoomActor>, command: Command) -> Answered {
    ask_by("ann", room, command)
}

/// Hands a command to the room, which has it when this returns.
fn ask_by(by: &str, room: &Addr<RoomActor>, command: Command) -> Answered {
    let (to, answer) = oneshot::channel();
    let admission = Admission::new(&Arc::new(AtomicUsize::new(0)), 1).expect("there is room for one");
    let asker = Asker::new(to, Arc::new(admission), None);
    let submission = Submission { by: principal(by), command, client_id: None, beside: None, asker };
    room.try_send(Submit(vec![submission])).unwrap();
    answer
}

async fn answered(answer: Answered) -> Done {
    answer.await.unwrap().unwrap()
}

/// Has ann create the room, and others join it.
async fn open(room: &Addr<RoomActor>, members: &[&str]) {
    let kind = RoomKind::Channel;
    let create =
        Create { kind, num: Num(1), alias: Some(Alias::new("lobby").unwrap()), name: None, members: Vec::new() };
    answered(ask(room, Command::Create(create))).await;
    for member in members {
        answered(ask_by(member, room, Command::Join)).await;
    }
}

fn kick(who: &str) -> Command {
    Command::Kick { user: user(who), reason: None }
}

/// A connection of a user, and what is done when it is cut.
fn connect(worker: &Rc<Worker>, user: &str, cut: impl Fn() + 'static) -> Rc<Link> {
    let link = Rc::new(Link::new(Dialect::NativeJson, Box::new(Cutting(cut))));
    worker.open(&link);
    worker.authenticated(&link, &principal(user));
    link
}

struct Cutting<F>(F);

impl<F: Fn()> Cut for Cutting<F> {
    fn cut(&self) {
        (self.0)();
    }
}

fn registry() -> Arc<Registry> {
    registry_over(MemoryStore::new())
}

fn registry_over(store: MemoryStore) -> Arc<Registry> {
    let registry = Registry::new(Arc::new(store), Arc::new(SystemClock), Limits::default());
    registry.host_here();
    registry
}

fn key(room: u128) -> RoomKey {
    RoomKey { tenant: TenantId::default_tenant(), room: RoomId(Uuid::from_u128(room)) }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn principal(name: &str) -> Principal {
    let (tenant, user) = (TenantId::default_tenant(), user(name));
    Principal { tenant, user, token: None, login: None, issued_at: Timestamp(0), expires_at: Timestamp(i64::MAX) }
}
