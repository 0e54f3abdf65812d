//! A room's host: it puts commands in order, lets the rules decide, and shows nothing before it is on disk.
//!
//! Decide, apply, commit, publish. At most one commit is in flight; what arrives meanwhile gathers for the next. A
//! room that fails to commit ends itself, and the next command wakes it from the log: nothing undoes an apply.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message as ActorMessage, WrapFuture};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::Either;
use tokio::sync::{mpsc, oneshot};

use super::auditing::{self, Owed, Taken, Turn};
use super::batch::{Batch, DialectSet, Pending, removal_of};
use super::blocking::blocks_between;
use super::directory::{LeaseNums, Nums};
use super::failure::{commit_failed, read_failed};
use super::files::Hold;
use super::inbox::RoomsChanged;
use super::projection::{owe, project};
use super::reading::{message_at, rules_of};
use super::registry::{Admission, Registry, RelayId, fingerprint};
use super::relay::Publication;
use super::retention::{Going, going};
use crate::clock::random_wide;
use crate::domain::command::{Audit, Begin, Decision, Readers, Reading};
use crate::domain::document::{CHANGED_MAX, Document};
use crate::domain::policy::{History, Standing};
use crate::domain::recent::{AGE_MAX_MS, Receipt, Recent, Seen};
use crate::domain::room::{Ban, Header, Member, Message, Mute, PINS_MAX, Pin, Snapshot};
use crate::domain::{
    Capabilities, Capability, ClientId, Command, Emoji, Event, Num, Position, Principal, Record, RecordId, Rejection,
    Rights, Role, Room, RoomEvent, RoomKey, RoomKind, Seq, StreamId, Timestamp, UserId,
};
use crate::store::rows::documents::DocumentCount;
use crate::store::rows::{self, Row};
use crate::store::{Commit, CommitError, Put, Store, StoreError};
use crate::wire::{Label, Refusal};

/// What came of a command.
#[derive(Clone, Debug)]
pub struct Done {
    /// The first record it led to; where it led to none, where the room stands.
    pub receipt: Receipt,
    /// It had been published before, under the same client id.
    pub duplicate: bool,
    /// What its author may do from then on who has become a member by it.
    pub may: Option<Capabilities>,
    /// How many records it led to.
    pub records: usize,
}

/// What a command is answered.
pub type Answer = Result<Done, Refusal>;

/// Asks a room to carry out commands, in their order. What comes together is committed together.
#[derive(ActorMessage)]
#[rtype(result = "()")]
pub struct Submit(pub Vec<Submission>);

/// A command on its way to its room. Answered after the commit, and after a removal has reached every follower.
pub struct Submission {
    pub by: Principal,
    pub command: Command,
    pub client_id: Option<ClientId>,
    pub beside: Option<Beside>,
    pub asker: Asker,
}

/// Rows that are not the room's own, and are written in one commit with what a command leads to, also where that is
/// nothing. Where the command is refused they are not written.
pub struct Beside {
    pub puts: Vec<Put>,
    /// Is told when they are on disk; dropped where they are not, or nobody knows.
    pub written: oneshot::Sender<()>,
}

/// Whoever waits for the answer to a command.
pub struct Asker {
    to: oneshot::Sender<Answer>,
    /// The command's place among those the room may have: given back when it is answered or dropped.
    _admission: Arc<Admission>,
    /// The files that it attaches, if any: they are not collected before what refers to them is on disk.
    _hold: Option<Hold>,
}

impl Asker {
    pub fn new(to: oneshot::Sender<Answer>, admission: Arc<Admission>, hold: Option<Hold>) -> Self {
        Self { to, _admission: admission, _hold: hold }
    }

    pub(super) fn tell(self, answer: Answer) {
        // Whoever asked may be gone.
        let _ = self.to.send(answer);
    }
}

/// How many batches wait for a relay that has not taken the last ones; with more, its followers read the log.
const BACKLOG_MAX: usize = 256;

/// How many rows are read at once when a room wakes.
const ROWS_PER_SCAN: usize = 1000;

/// How many records are read at once when a room wakes.
const RECORDS_PER_READ: usize = 1000;

/// How many documents are read at once.
const DOCUMENTS_PER_READ: usize = 64;

/// How many messages a room keeps in mind of those that were edited or deleted of late.
const KNOWN_MAX: usize = 256;

/// How long a removal may take to reach everybody before the command is answered with `unavailable`: four times what
/// the relays give a connection.
const REMOVAL_TIME: Duration = Duration::from_secs(2);

/// Hosts one room.
pub struct RoomActor {
    key: RoomKey,
    registry: Arc<Registry>,
    room: Room,
    recent: Recent,
    last_at: Timestamp,
    /// The head on disk.
    committed: Option<Position>,
    /// The seq up to which has been published, shared with whoever comes after this actor.
    published: Arc<AtomicU64>,
    /// What has come and has not been looked at.
    waiting: VecDeque<Submission>,
    /// Something is being looked up for the first of them, or of what follows from it.
    held: bool,
    /// What goes with the records that the command at hand trims.
    going: Option<Going>,
    gathering: Gathered,
    in_flight: Option<Gathered>,
    relays: HashMap<RelayId, RelayLink>,
    /// Where the room stood before each commit with a removal that has not reached everybody yet.
    removals: BTreeSet<Seq>,
    /// Answers that would tell of one of these.
    late: Vec<(Seq, Reply)>,
    owed: Owed,
    nums: Arc<Nums>,
    last_command: Instant,
    watch: Watch,
}

/// Says when the removals of a publication have reached every follower.
type Removed = mpsc::Receiver<std::convert::Infallible>;

/// What goes into one commit.
#[derive(Default)]
struct Gathered {
    records: Vec<Record>,
    puts: Vec<Put>,
    erase: Vec<Seq>,
    trim: Option<Seq>,
    replies: Vec<Reply>,
    /// Who is told that it is on disk before it is shown to anybody.
    written: Vec<oneshot::Sender<()>>,
    /// The last of the records that the audit room is owed; and of those by which somebody reads no more.
    owed: Option<Seq>,
    lost: Option<Seq>,
    /// Who reads what is decided, or does not any more, from these records on; and who has seen to that himself.
    readings: Vec<Reading>,
    left: Vec<UserId>,
}

/// An answer that waits for a commit.
struct Reply {
    to: Asker,
    answer: Answer,
    waits: Waits,
    /// Whoever reads no more from this record on has to be out of the audit room before it is told.
    after: Seq,
}

/// What an answer waits for besides what is to be committed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    Nothing,
    /// That those whom its own commit removes are reached by nothing more.
    Removal,
    /// The same of all who are being removed: it may tell of any of them.
    Removals,
}

/// What the answer to a command may tell of, though it leads to nothing.
#[derive(Clone, Copy, Default)]
struct Tells {
    removals: bool,
    /// That of others than it removes itself.
    others: bool,
    /// That somebody does not read any more what is decided.
    readers: bool,
}

impl Tells {
    fn of(command: &Command) -> Self {
        let others = match command {
            Command::Administer(administer) => administer.lets_go(),
            command => matches!(command, Command::Audit(_)),
        };
        Self { removals: command.removes(), others, readers: command.narrows() }
    }

    /// Who may not do it is told so at once: of who reads only that somebody is no member says something.
    fn of_refusal(self, rejection: Rejection) -> Self {
        Self { readers: self.readers && rejection == Rejection::NoSuchMember, ..self }
    }
}

/// A command that has been decided, as far as what follows from it is recorded and answered.
struct Decided {
    by: Principal,
    client_id: Option<ClientId>,
    beside: Option<Beside>,
    asker: Asker,
    tells: Tells,
    events: Vec<RoomEvent>,
}

/// What one relay has been sent.
#[derive(Default)]
struct RelayLink {
    unacknowledged: bool,
    backlog: Vec<Arc<Batch>>,
}

/// Tells the registry when the room dies of a panic, and at which command.
struct Watch {
    registry: Arc<Registry>,
    key: RoomKey,
    at: Option<(Principal, Command)>,
    /// It has not handed everything to its audit room.
    owes: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let command = self.at.take().map(|(by, command)| fingerprint(&by, &command));
            self.registry.room_died(&self.key, command, self.owes);
        }
    }
}

impl RoomActor {
    pub fn new(registry: Arc<Registry>, key: RoomKey, published: Arc<AtomicU64>) -> Self {
        let (nums, _) = registry.nums(&key.tenant);
        Self {
            watch: Watch { registry: Arc::clone(&registry), key: key.clone(), at: None, owes: false },
            key,
            room: Room::default(),
            recent: Recent::default(),
            last_at: Timestamp(0),
            committed: None,
            published,
            waiting: VecDeque::new(),
            held: false,
            going: None,
            gathering: Gathered::default(),
            in_flight: None,
            relays: HashMap::new(),
            removals: BTreeSet::new(),
            late: Vec::new(),
            owed: Owed::default(),
            nums,
            last_command: Instant::now(),
            registry,
        }
    }

    /// Looks at a command whose message, if it has one, is known.
    fn consider(&mut self, submit: Submission, ctx: &mut Context<Self>) {
        self.watch.at = Some((submit.by.clone(), submit.command.clone()));
        self.carry_out(submit, ctx);
    }

    fn carry_out(&mut self, submit: Submission, ctx: &mut Context<Self>) {
        let (now, tells) = (self.now(), Tells::of(&submit.command));
        if let Some(client_id) = &submit.client_id {
            let seen = self.recent.seen(&submit.by.user, client_id, &submit.command, now);
            let answer = match seen {
                Seen::Never => None,
                Seen::Before(receipt) => Some(Ok(Done { receipt, duplicate: true, may: None, records: 0 })),
                Seen::Otherwise => Some(Err(Rejection::ClientIdReused.into())),
            };
            if let Some(answer) = answer {
                return self.answer(submit.asker, answer, tells);
            }
        }
        if submit.command == Command::Watch {
            return self.watch(submit.asker);
        }
        self.room.abide(Arc::clone(self.registry.limits().rules.of(&self.key.tenant)));
        match self.room.decide(&submit.by, submit.command, now) {
            Err(rejection) => self.answer(submit.asker, Err(rejection.into()), tells.of_refusal(rejection)),
            Ok(events) if events.is_empty() => {
                self.gathering.put_beside(submit.beside);
                self.answer(submit.asker, self.unchanged(), tells);
            }
            Ok(events) => {
                let Submission { by, client_id, beside, asker, .. } = submit;
                let decided = Decided { by, client_id, beside, asker, tells, events };
                match self.nums.take(decided.events.len()) {
                    Some(num) => self.record(decided, num, now),
                    None => self.lease(decided, ctx),
                }
            }
        }
    }

    /// Notes that there is an audit room to be told of who reads it, with the next commit.
    fn watch(&mut self, to: Asker) {
        let header = match self.room.watch() {
            Ok(header) => header.encode(),
            Err(rejection) => return self.answer(to, Err(rejection.into()), Tells::default()),
        };
        self.gathering.puts.push(Put { under: self.key.stream(), key: rows::HEADER.into(), value: Some(header) });
        let answer = self.unchanged();
        self.gathering.replies.push(Reply { to, answer, waits: Waits::Nothing, after: Seq::ZERO });
    }

    /// Gets nums from the directory, and goes on where `consider` left off; nothing else happens meanwhile.
    fn lease(&mut self, decided: Decided, ctx: &mut Context<Self>) {
        let (nums, directory) = self.registry.nums(&self.key.tenant);
        self.nums = nums;
        let lease = tokio::time::timeout(
            self.registry.limits().answer_timeout,
            directory.send(LeaseNums { count: decided.events.len() }),
        );
        self.held = true;
        ctx.wait(lease.into_actor(self).map(move |leased, room, ctx| {
            room.held = false;
            match leased {
                Ok(Ok(Ok(num))) => {
                    let now = room.now();
                    room.record(decided, num, now);
                }
                Ok(Ok(Err(refusal))) => room.answer(decided.asker, Err(refusal), Tells::default()),
                Ok(Err(_)) | Err(_) => room.answer(decided.asker, Err(Refusal::unavailable()), Tells::default()),
            }
            room.going = None;
            room.work(ctx);
        }));
    }

    /// Stamps the events, takes note of them, and puts them up for the next commit.
    fn record(&mut self, decided: Decided, first_num: Num, at: Timestamp) {
        let epoch = self.registry.store().epoch();
        let Decided { by, mut client_id, beside, asker, tells, events } = decided;
        let mut receipt = None;
        let (mut removing, mut joins) = (false, false);
        let records = events.len();
        let authors = authors(&by.user, &events);
        for (index, (num, event)) in (first_num.0..).zip(events).enumerate() {
            let seq = self.room.head().map_or(Seq::ZERO, |head| head.seq).next();
            let record = Record {
                position: Position { epoch, seq },
                id: RecordId::new(at, seq, random_wide()),
                num: Num(num),
                at,
                author: authors.get(index).unwrap_or(&by.user).clone(),
                client_id: client_id.take(),
                event: Event::Room(event),
            };
            let read = concerns(&record).is_some_and(|user| self.room.reads_audit(user));
            self.room.apply(&record);
            self.recent.apply(&record);
            removing |= removes(&record);
            joins |= matches!(&record.event, Event::Room(RoomEvent::MemberJoined { user, .. }) if *user == by.user);
            receipt.get_or_insert_with(|| Receipt::of(&record));
            let reading = self.room.reading_after(&record, read);
            self.gathering.readings.extend(reading.clone());
            let decision = self.room.owes(self.key.room, &record, reading);
            // Whoever comes after it finds it if it dies while that is on its way to the disk.
            self.watch.owes |= decision.is_some();
            if let Some(Reading { user, .. }) = decision.as_ref().and_then(Decision::loses) {
                self.owed.narrows(seq);
                self.gathering.lost = Some(seq);
                self.gathering.left.extend(Some(user).filter(|user| **user == by.user).cloned());
            }
            self.gathering.add(&self.key, &self.room, record, decision.as_ref());
            if let Some(going) = self.going.take() {
                self.gathering.trim(going);
            }
        }
        self.gathering.put_beside(beside);
        self.last_at = at;
        let receipt = receipt.expect("there is at least one event");
        let may = joins.then(|| self.room.may(&by.user)).flatten();
        let waits = match tells.others {
            true => Waits::Removals,
            false if removing => Waits::Removal,
            false => Waits::Nothing,
        };
        self.gathering.replies.push(Reply {
            to: asker,
            answer: Ok(Done { receipt, duplicate: false, may, records }),
            waits,
            after: self.after(tells),
        });
    }

    /// At which record whoever reads no more has to be out of the audit room before the answer of a command that `tells`
    /// this may be relied on: also by commands before it, for it may say of them that they hold.
    fn after(&self, tells: Tells) -> Seq {
        if tells.readers { self.owed.narrowed() } else { Seq::ZERO }
    }

    /// Answers at once, or, where something is applied that is not on disk yet, after it is: an answer may depend on
    /// it. That of a command that `tells` of removals may depend on one that has not reached everybody.
    fn answer(&mut self, to: Asker, answer: Answer, tells: Tells) {
        let waits = if tells.removals { Waits::Removals } else { Waits::Nothing };
        let after = self.after(tells);
        let reply = Reply { to, answer, waits, after };
        if self.in_flight.is_none() && self.gathering.records.is_empty() && self.gathering.written.is_empty() {
            self.settle(vec![reply]);
        } else {
            self.gathering.replies.push(reply);
        }
    }

    /// Answers what stands on nothing that has still to be committed.
    fn settle(&mut self, replies: Vec<Reply>) {
        if self.removals.is_empty() {
            return self.send_all(replies, removal_due());
        }
        let (late, others): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.waits == Waits::Removals);
        let at = self.committed.map_or(Seq::ZERO, |head| head.seq);
        self.late.extend(late.into_iter().map(|reply| (at, reply)));
        self.send_all(others, removal_due());
    }

    /// Answers what waited for removals that have reached everybody by now, whatever is removed after it.
    fn send_late(&mut self) {
        let open = self.removals.first().copied();
        let due = self.late.extract_if(.., |(at, _)| open.is_none_or(|open| open >= *at));
        let due = due.map(|(_, reply)| reply).collect();
        self.send_all(due, removal_due());
    }

    /// Answers, by `due` at the latest what waits for the audit room.
    fn send_all(&self, replies: Vec<Reply>, due: tokio::time::Instant) {
        for Reply { to, answer, waits: _, after } in replies {
            self.owed.tell(to, answer, after, due);
        }
    }

    fn unchanged(&self) -> Answer {
        let position = self.room.head().ok_or_else(|| Refusal::from(Rejection::RoomNotFound))?;
        let id = RecordId::new(self.last_at, position.seq, 0);
        let receipt = Receipt { position, id, num: Num(0), at: self.last_at };
        Ok(Done { receipt, duplicate: false, may: None, records: 0 })
    }

    /// Commits what has gathered, unless a commit is in flight.
    fn flush(&mut self, ctx: &mut Context<Self>) {
        if self.in_flight.is_some() || (self.gathering.replies.is_empty() && self.gathering.puts.is_empty()) {
            return;
        }
        let mut gathered = std::mem::take(&mut self.gathering);
        if gathered.records.is_empty() && gathered.puts.is_empty() {
            return self.settle(gathered.replies);
        }
        let commit = Commit {
            stream: self.key.stream(),
            expected: self.committed,
            records: gathered.records.clone(),
            puts: std::mem::take(&mut gathered.puts),
            erase: std::mem::take(&mut gathered.erase),
            trim: gathered.trim,
        };
        let committed = self.registry.store().commit(commit);
        let (records, began) = (gathered.records.len(), Instant::now());
        self.in_flight = Some(gathered);
        ctx.spawn(committed.into_actor(self).map(move |result, room, ctx| {
            if result.is_ok() {
                room.registry.metrics().committed(records, began.elapsed());
            }
            room.committed(result, ctx);
        }));
    }
}

impl RoomActor {
    /// A commit has settled: show it and answer for it, or end.
    fn committed(&mut self, result: Result<(), CommitError>, ctx: &mut Context<Self>) {
        let Some(gathered) = self.in_flight.take() else { return };
        if let Err(error) = result {
            tracing::warn!(room = %self.key.room, %error, "a commit failed; the room is woken from its log when needed");
            // Whoever is told asks again, and must not reach this one then.
            self.end(error == CommitError::Unknown, ctx);
            return self.fail(gathered.replies, &commit_failed(error));
        }
        // The first record of a room removes nobody.
        let before = self.committed.map_or(Seq::ZERO.next(), |committed| committed.seq);
        self.committed = gathered.records.last().map(|record| record.position).or(self.committed);
        if let Some(seq) = gathered.owed {
            self.owed.filed(seq);
        }
        if let Some(seq) = gathered.lost {
            self.owed.lost(seq, gathered.left);
        }
        self.see_to_audits(ctx);
        for written in gathered.written {
            // Whoever waited may be gone.
            let _ = written.send(());
        }
        let (removals, others): (Vec<_>, Vec<_>) =
            gathered.replies.into_iter().partition(|reply| reply.waits == Waits::Removal);
        if gathered.records.iter().any(removes) {
            self.removals.insert(before);
        }
        // First, so that who follows as well gets answer and record in one.
        self.settle(others);
        if !gathered.records.is_empty() {
            self.show(&gathered.records, removals, before, ctx);
        }
        if self.waiting.is_empty() {
            self.forget();
            self.flush(ctx);
        } else {
            // One of these may have waited for nothing to be on its way to the disk.
            self.work(ctx);
        }
    }

    /// Has everybody know of records that are on disk, and answers those that remove somebody when they have done so.
    fn show(&mut self, records: &[Record], removals: Vec<Reply>, before: Seq, ctx: &mut Context<Self>) {
        if let Some(removed) = self.publish(records, ctx) {
            self.answer_when_removed(removed, removals, before, ctx);
        }
        self.has_published();
        self.tell_inboxes(records);
        for record in records {
            if let Some(user) = ends_typing(record) {
                self.registry.typed(&self.key, user);
            }
        }
        self.registry.digests().committed(&self.key, records);
    }

    /// Frames the records for whoever follows and sends them on their way. With a removal among them there is a receiver,
    /// which is done when every removal has reached every follower.
    fn publish(&mut self, records: &[Record], ctx: &mut Context<Self>) -> Option<Removed> {
        let (pending, removed) = records.iter().any(removes).then(|| mpsc::channel(1)).unzip();
        // Read after the commit: a follower that registers later finds these records, and this membership, on disk.
        let interest = self.registry.interest(&self.key);
        let dialects = interest.iter().fold(DialectSet::default(), |all, (_, dialects)| all.union(*dialects));
        let mut relays: Vec<RelayId> = interest.into_iter().map(|(relay, _)| relay).collect();
        if removed.is_some() {
            relays = self.registry.relays();
        }
        if relays.is_empty() {
            return removed;
        }
        let alias = self.room.header().and_then(|header| header.alias.as_ref());
        let batch = Batch::new(Label { key: &self.key, alias }, records, dialects, pending.as_ref());
        for relay in relays {
            let link = self.relays.entry(relay).or_default();
            let matters = |batch: &Arc<Batch>| !batch.removals().is_empty() || batch.narrows();
            if link.backlog.len() >= BACKLOG_MAX && !matters(&batch) {
                // Followers notice that something is missing as soon as the relay moves again, and read the log.
                link.backlog.retain(matters);
            }
            link.backlog.push(Arc::clone(&batch));
            self.registry.metrics().publications.inc();
            self.send(relay, ctx);
        }
        removed
    }

    /// Sends a relay what has gathered for it, unless it has not taken the last publication yet. Of one that dies the
    /// connections are cut, and come back to read the log: then it counts as taken, and the removals in it have been
    /// held until then.
    fn send(&mut self, id: RelayId, ctx: &mut Context<Self>) {
        let Some(link) = self.relays.get_mut(&id) else { return };
        if link.unacknowledged || link.backlog.is_empty() {
            return;
        }
        let Some(relay) = self.registry.relay(id) else { return };
        link.unacknowledged = true;
        let batches = std::mem::take(&mut link.backlog);
        let removals: Vec<Pending> =
            batches.iter().flat_map(|batch| batch.removals()).map(|removal| removal.pending.clone()).collect();
        let removes = !removals.is_empty();
        let taken = relay.send(Publication { room: self.key.clone(), batches });
        let registry = Arc::clone(&self.registry);
        let taken = async move {
            if taken.await.is_err() {
                let _ = tokio::time::timeout(REMOVAL_TIME, registry.replaced(id, &relay)).await;
            }
            drop(removals);
        };
        // A room that waits for a removal looks at nothing else of its own.
        let taken = if removes { Either::Left(actix::spawn(taken).map(drop)) } else { Either::Right(taken) };
        ctx.spawn(taken.into_actor(self).map(move |(), room, ctx| {
            if let Some(link) = room.relays.get_mut(&id) {
                link.unacknowledged = false;
            }
            room.send(id, ctx);
        }));
    }

    /// Answers once nothing of the room can reach the removed any more: the barrier of a removal. Where that is not
    /// known in time, the room ends, and its successor publishes again what came after `before`, and looks at no
    /// command until it has been confirmed; so does one that comes because this actor has died meanwhile.
    fn answer_when_removed(&mut self, mut removed: Removed, replies: Vec<Reply>, before: Seq, ctx: &mut Context<Self>) {
        let due = removal_due();
        let reached = async move { tokio::time::timeout_at(due, removed.recv()).await };
        ctx.spawn(reached.into_actor(self).map(move |reached, room, ctx| {
            if reached.is_ok() {
                room.removals.remove(&before);
                room.has_published();
                room.send_all(replies, due);
                room.send_late();
                return;
            }
            tracing::error!(room = %room.key.room, "a removal was not confirmed by every relay in time");
            room.end(true, ctx);
            room.fail(replies, &Refusal::unavailable());
        }));
    }

    /// Sees to it that the audit room has what has been decided, and only those who read it.
    fn see_to_audits(&mut self, ctx: &mut Context<Self>) {
        self.let_go(ctx);
        self.hand_on(ctx);
        let uncommitted = self.in_flight.iter().chain([&self.gathering]).any(|gathered| gathered.owed.is_some());
        self.watch.owes = uncommitted || self.owed.is_open();
    }

    /// Tells the audit room who reads it still, before and beside what is handed on to it.
    fn let_go(&mut self, ctx: &mut Context<Self>) {
        if !self.owed.begins_letting_go() {
            return;
        }
        let num = auditing::num_to_begin(Arc::clone(&self.registry), auditing::audit_of(&self.key));
        let told = num.into_actor(self).then(|num, room, _| {
            let at = room.committed.map_or(Seq::ZERO, |head| head.seq);
            let told = num.map(|num| room.tell_readers(num));
            async move { told?.await.map(|()| at) }.into_actor(room)
        });
        ctx.spawn(told.map(|told, room, ctx| match told {
            Ok(at) => {
                room.owed.out(at);
                room.see_to_audits(ctx);
            }
            Err(refusal) => room.try_again(|owed| &mut owed.letting_go, &refusal, ctx),
        }));
    }

    /// The audit room has what it is told when this returns: whoever reads no more from then on is told of behind it.
    fn tell_readers(&self, num: Option<Num>) -> impl Future<Output = Result<(), Refusal>> + use<> {
        let now = self.readers_on_disk();
        let begin = num.map(|num| Begin { num, audits: Some(self.key.room), readers: now.iter().cloned().collect() });
        let readers = Some(Readers { now, left: self.owed.left() });
        auditing::write_down(
            &self.registry,
            &auditing::audit_of(&self.key),
            Audit { begin, readers, decisions: Vec::new() },
        )
    }

    /// Who reads what is decided, as far as that is on disk.
    fn readers_on_disk(&self) -> BTreeSet<UserId> {
        let mut readers = self.room.audit_readers();
        let uncommitted = self.in_flight.iter().chain([&self.gathering]).flat_map(|gathered| &gathered.readings);
        for Reading { user, reads } in uncommitted.rev() {
            if *reads {
                readers.remove(user);
            } else {
                readers.insert(user.clone());
            }
        }
        readers
    }

    /// Hands what has been decided to the audit room, as long as there is something.
    fn hand_on(&mut self, ctx: &mut Context<Self>) {
        let Some((after, until)) = self.owed.begins_handing_on() else { return };
        let owed = auditing::owed(Arc::clone(&self.registry), self.key.clone(), (after, until));
        let handed = owed.into_actor(self).then(|owed, room, _| {
            let handed = owed.map(|(decisions, taken)| room.hand_over(decisions, taken));
            async move { handed?.await }.into_actor(room)
        });
        ctx.spawn(handed.map(|handed, room, ctx| match handed {
            Ok(Taken { through, rows }) => {
                room.owed.taken(through);
                room.gathering.puts.extend(rows.into_iter().map(settled));
                room.flush(ctx);
                room.see_to_audits(ctx);
            }
            Err(refusal) => room.try_again(|owed| &mut owed.handing_on, &refusal, ctx),
        }));
    }

    /// The audit room has it when this returns, so that who is let in reads now, and is let go of behind it.
    fn hand_over(
        &self,
        mut decisions: Vec<Decision>,
        taken: Taken,
    ) -> impl Future<Output = Result<Taken, Refusal>> + use<> {
        if decisions.iter().any(|decision| decision.reading.is_some()) {
            let mut readers = self.readers_on_disk();
            for decision in &mut decisions {
                decision.reading.take_if(|reading| !(reading.reads && readers.remove(&reading.user)));
            }
        }
        let audit = (!decisions.is_empty()).then(|| Audit { decisions, ..Audit::default() });
        let told = audit.map(|audit| auditing::write_down(&self.registry, &auditing::audit_of(&self.key), audit));
        async move {
            if let Some(told) = told {
                told.await?;
            }
            Ok(taken)
        }
    }

    /// Does again what an audit room has not taken.
    fn try_again(&mut self, turn: fn(&mut Owed) -> &mut Turn, refusal: &Refusal, ctx: &mut Context<Self>) {
        let (wait, first) = turn(&mut self.owed).failed();
        if first {
            let code = refusal.code();
            tracing::warn!(room = %self.key.room, code, "an audit room does not take what was decided; it is tried again");
        }
        ctx.run_later(wait, move |room, ctx| {
            turn(&mut room.owed).again();
            room.see_to_audits(ctx);
        });
    }

    /// Publishes what a predecessor had committed when it ended. Where somebody was removed by that, no command is
    /// looked at before the removal has reached everybody: its answer may say that the user is no member any more.
    fn make_up_for(&mut self, unpublished: &[Record], ctx: &mut Context<Self>) {
        self.tell_inboxes(unpublished);
        if !unpublished.iter().any(removes) {
            return self.announce();
        }
        let Some(mut removed) = self.publish(unpublished, ctx) else { return };
        let reached = async move { tokio::time::timeout(REMOVAL_TIME, removed.recv()).await };
        ctx.wait(reached.into_actor(self).map(move |reached, room, ctx| {
            if reached.is_ok() {
                return room.announce();
            }
            // The next one has to see to it.
            tracing::error!(room = %room.key.room, "a removal was not confirmed by every relay in time");
            room.end(false, ctx);
        }));
    }

    /// Tells followers where the room stands: they read what they have not been sent. Not before every removal has reached
    /// them: one that began to follow at the removal itself would read beyond it.
    fn announce(&self) {
        self.has_published();
        if let Some(head) = self.committed {
            let narrows = self.room.header().is_some_and(|header| header.settings.history == History::FromJoin);
            self.registry.announce(&self.key, head.seq, narrows);
        }
    }

    /// Notes what a successor need not see to: all that has been sent on its way, up to the first removal that has not
    /// reached everybody.
    fn has_published(&self) {
        let committed = self.committed.map_or(Seq::ZERO, |committed| committed.seq);
        let published = self.removals.first().copied().unwrap_or(committed);
        self.published.store(published.0, Ordering::Release);
    }

    fn tell_inboxes(&self, records: &[Record]) {
        for record in records {
            let Event::Room(event) = &record.event else { continue };
            let room = self.key.room;
            let (user, change) = match event {
                RoomEvent::MemberJoined { user, role } | RoomEvent::RoleChanged { user, role, .. } => {
                    (user, RoomsChanged::Gained { room, role: *role, standing: Standing::Member })
                }
                RoomEvent::MemberInvited { user, role } => {
                    (user, RoomsChanged::Gained { room, role: *role, standing: Standing::Invited })
                }
                RoomEvent::MemberLeft { user, .. } | RoomEvent::MemberKicked { user, .. } => {
                    (user, RoomsChanged::Lost { room })
                }
                RoomEvent::MemberBanned { user, joined, invited, .. } if joined.is_some() || *invited => {
                    (user, RoomsChanged::Lost { room })
                }
                // Who was neither must not learn from it that there is such a room.
                RoomEvent::MemberBanned { .. } => continue,
                RoomEvent::Audited(_)
                | RoomEvent::Administered(_)
                | RoomEvent::Reported(_)
                | RoomEvent::ReportResolved { .. }
                | RoomEvent::MemberUnbanned { .. }
                | RoomEvent::MemberMuted { .. }
                | RoomEvent::RightsChanged { .. }
                | RoomEvent::RulesChanged(_)
                | RoomEvent::MemberUnmuted { .. }
                | RoomEvent::MemberBlocked { .. }
                | RoomEvent::MemberUnblocked { .. }
                | RoomEvent::RoomCreated { .. }
                | RoomEvent::RoomUpdated(_)
                | RoomEvent::RoomArchived
                | RoomEvent::DocumentCreated { .. }
                | RoomEvent::DocumentUpdated { .. }
                | RoomEvent::DocumentDeleted { .. }
                | RoomEvent::MessagePosted { .. }
                | RoomEvent::MessageEdited { .. }
                | RoomEvent::MessageDeleted { .. }
                | RoomEvent::ReactionAdded { .. }
                | RoomEvent::ReactionRemoved { .. }
                | RoomEvent::MessagePinned { .. }
                | RoomEvent::MessageUnpinned { .. }
                | RoomEvent::HistoryTrimmed { .. }
                | RoomEvent::MessageErased => continue,
            };
            self.registry.rooms_changed(&self.key.tenant, user, change);
        }
    }

    fn fail(&mut self, replies: Vec<Reply>, refusal: &Refusal) {
        let others = std::mem::take(&mut self.gathering.replies)
            .into_iter()
            .chain(std::mem::take(&mut self.late).into_iter().map(|(_, reply)| reply));
        for reply in replies.into_iter().chain(others) {
            reply.to.tell(Err(refusal.clone()));
        }
    }

    /// `announce` says that records may be on disk that no follower has heard of.
    fn end(&mut self, announce: bool, ctx: &mut Context<Self>) {
        // What a relay has not taken goes with this actor; its followers have to be told that there is more.
        let owed = self.relays.values().any(|link| link.unacknowledged || !link.backlog.is_empty());
        self.registry.room_stopped(&self.key, &ctx.address(), announce || owed);
        if self.owed.is_open() {
            let (registry, key) = (Arc::clone(&self.registry), self.key.clone());
            actix::spawn(async move {
                tokio::time::sleep(REMOVAL_TIME).await;
                registry.wake(&key);
            });
        }
        ctx.stop();
    }

    /// Goes to sleep when nobody has asked for anything for a while.
    fn rest(&mut self, ctx: &mut Context<Self>) {
        let idle = self.in_flight.is_none()
            && self.gathering.replies.is_empty()
            && self.gathering.puts.is_empty()
            && !self.owed.is_open()
            && self.relays.values().all(|link| !link.unacknowledged && link.backlog.is_empty())
            && self.last_command.elapsed() >= self.registry.limits().room_idle;
        if idle && self.registry.retire(&self.key, &ctx.address()) {
            ctx.stop();
        }
    }

    /// The time of the next record: never before the last one's.
    fn now(&self) -> Timestamp {
        self.registry.now().max(self.last_at)
    }
}

impl Gathered {
    /// Puts up a record that the room has just applied.
    fn add(&mut self, key: &RoomKey, room: &Room, record: Record, decision: Option<&Decision>) {
        let mut erase = Vec::new();
        project(key, room, &record, &mut self.puts, &mut erase);
        if let Some(decision) = decision {
            owe(key, room, decision, &mut self.puts);
            self.owed = Some(record.position.seq);
        }
        for seq in erase {
            // What has not been written yet is not written at all.
            match self.records.iter_mut().find(|record| record.position.seq == seq) {
                Some(unwritten) => unwritten.event = Event::Room(RoomEvent::MessageErased),
                None => self.erase.push(seq),
            }
        }
        self.records.push(record);
    }

    /// Puts up rows of others that go with a command.
    fn put_beside(&mut self, beside: Option<Beside>) {
        if let Some(Beside { puts, written }) = beside {
            self.puts.extend(puts);
            self.written.push(written);
        }
    }

    /// Puts up what goes with the records that the last one has trimmed.
    fn trim(&mut self, going: Going) {
        self.trim = Some(going.until.seq);
        self.puts.extend(going.puts);
        self.erase.extend(going.erase);
    }

    /// The messages that these records change, by the seqs that they were posted at. An edit whose message is deleted
    /// by the same commit is not told apart any more, but then the deletion is there.
    fn changed_messages(&self) -> BTreeSet<Seq> {
        self.records.iter().filter_map(changes).collect()
    }

    /// The documents that these records change.
    fn changed_documents(&self) -> BTreeSet<RecordId> {
        let changed = self.records.iter().filter_map(|record| match &record.event {
            Event::Room(RoomEvent::DocumentUpdated { document, .. } | RoomEvent::DocumentDeleted { document, .. }) => {
                Some(*document)
            }
            Event::Room(_) | Event::Directory(_) | Event::Inbox(_) => None,
        });
        changed.collect()
    }
}

/// Which message a record changes.
fn changes(record: &Record) -> Option<Seq> {
    match &record.event {
        Event::Room(
            RoomEvent::MessageEdited { message, .. }
            | RoomEvent::MessageDeleted { message, .. }
            | RoomEvent::ReactionAdded { message, .. }
            | RoomEvent::ReactionRemoved { message, .. },
        ) => Some(message.seq()),
        Event::Room(_) | Event::Directory(_) | Event::Inbox(_) => None,
    }
}

/// Whose writing ends with a record.
fn ends_typing(record: &Record) -> Option<&UserId> {
    match &record.event {
        Event::Room(RoomEvent::MessagePosted { .. }) => Some(&record.author),
        Event::Room(RoomEvent::MemberMuted { user, .. } | RoomEvent::MemberBlocked { user }) => Some(user),
        Event::Room(RoomEvent::RightsChanged { user, may, .. }) if !may.has(Capability::Post) => Some(user),
        Event::Room(_) => removal_of(record).map(|(user, _)| user),
        Event::Directory(_) | Event::Inbox(_) => None,
    }
}

fn removes(record: &Record) -> bool {
    removal_of(record).is_some()
}

/// Until when a removal has to have reached everybody that is committed now.
fn removal_due() -> tokio::time::Instant {
    tokio::time::Instant::now() + REMOVAL_TIME
}

/// The user who reads more or less of what is decided by a record.
fn concerns(record: &Record) -> Option<&UserId> {
    match &record.event {
        Event::Room(event) => event.concerns(),
        Event::Directory(_) | Event::Inbox(_) => None,
    }
}

/// Who is the author of each of `events`, where that is not who asks for them: what an audit room is told has been done by
/// others, and so has what follows from it, which stands before it.
fn authors(by: &UserId, events: &[RoomEvent]) -> Vec<UserId> {
    if !events.iter().any(|event| matches!(event, RoomEvent::Audited(_) | RoomEvent::MemberLeft { .. })) {
        return Vec::new();
    }
    let mut author = by;
    let mut authors: Vec<_> = events
        .iter()
        .rev()
        .map(|event| {
            if let RoomEvent::Audited(audited) = event {
                author = &audited.by;
            }
            if let RoomEvent::MemberLeft { user, .. } = event { user.clone() } else { author.clone() }
        })
        .collect();
    authors.reverse();
    authors
}

/// Takes away the row of what an audit room has taken.
fn settled(key: Bytes) -> Put {
    Put { under: StreamId::Owed, key, value: None }
}

impl Actor for RoomActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let published = Seq(self.published.load(Ordering::Acquire));
        let wake = wake(Arc::clone(self.registry.store()), self.key.clone(), published, self.registry.now());
        ctx.wait(wake.into_actor(self).map(move |woken, room, ctx| match woken {
            Ok(Woken { head, room: woken, recent, last_at, unpublished, owes }) => {
                room.committed = head;
                room.room = woken;
                room.recent = recent;
                room.last_at = last_at;
                if let Some(head) = head.filter(|_| owes) {
                    room.owed.found(head.seq);
                    room.see_to_audits(ctx);
                }
                room.make_up_for(&unpublished, ctx);
            }
            Err(error) => {
                tracing::error!(room = %room.key.room, %error, "a room could not be woken");
                room.end(false, ctx);
            }
        }));
        let idle = self.registry.limits().room_idle;
        ctx.run_interval(idle / 2, Self::rest);
    }
}

impl Handler<Submit> for RoomActor {
    type Result = ();

    fn handle(&mut self, submit: Submit, ctx: &mut Self::Context) {
        self.last_command = Instant::now();
        self.waiting.extend(submit.0);
        self.work(ctx);
    }
}

impl RoomActor {
    /// Looks at what has come, as far as everything for it is known, and commits what follows from it all together.
    fn work(&mut self, ctx: &mut Context<Self>) {
        while !self.held
            && let Some(submit) = self.waiting.pop_front()
        {
            if let Command::Trim { until, at, .. } = submit.command {
                if self.in_flight.is_some() || !self.gathering.records.is_empty() {
                    self.waiting.push_front(submit);
                    break;
                }
                self.load_going(until, at, submit, ctx);
                continue;
            }
            if let Command::Write(write) = &submit.command {
                let unknown = self.room.unknown_documents(write);
                match unknown.is_empty() || unknown.len() > CHANGED_MAX {
                    true => self.consider(submit, ctx),
                    false => self.load_documents(unknown, submit, ctx),
                }
                continue;
            }
            let unknown = !self.room.can_decide(&submit.by.user, &submit.command);
            match submit.command.target().filter(|_| unknown) {
                None => self.consider(submit, ctx),
                Some(target) => self.load(target, submit, ctx),
            }
        }
        if self.gathering.replies.len() != 1 {
            // A death from here on is not known to be any one command's.
            self.watch.at = None;
        }
        self.flush(ctx);
        self.watch.at = None;
        self.forget();
    }

    /// Lets go of the messages that no record under way changes, when there are many, and of all such documents. Not while a command is held: what
    /// follows from it has been decided and not been applied.
    fn forget(&mut self) {
        if self.held {
            return;
        }
        let under_way = || self.in_flight.iter().chain([&self.gathering]);
        if self.room.known_count() > KNOWN_MAX {
            let changed = under_way().flat_map(Gathered::changed_messages).collect();
            self.room.forget_messages(&changed);
        }
        if self.room.knows_documents() {
            let changed = under_way().flat_map(Gathered::changed_documents).collect();
            self.room.forget_documents(&changed);
        }
    }

    /// Gets the documents that a command is about; nothing else happens meanwhile.
    fn load_documents(&mut self, ids: Vec<RecordId>, submit: Submission, ctx: &mut Context<Self>) {
        let load = documents_at(Arc::clone(self.registry.store()), self.key.clone(), ids);
        self.held = true;
        ctx.wait(load.into_actor(self).map(move |loaded, room, ctx| {
            room.held = false;
            match loaded {
                Ok(loaded) => {
                    for (id, document) in loaded {
                        room.room.know_document(id, document);
                    }
                    room.consider(submit, ctx);
                }
                Err(error) => room.answer(submit.asker, Err(read_failed(&error)), Tells::default()),
            }
            room.work(ctx);
        }));
    }

    /// Gets the message that a command refers to, and what its sender feels about it where that matters; nothing else
    /// happens meanwhile.
    fn load(&mut self, target: RecordId, submit: Submission, ctx: &mut Context<Self>) {
        let reactor = submit.command.reacts().then(|| submit.by.user.clone());
        let load = load(Arc::clone(self.registry.store()), self.key.clone(), target, reactor);
        self.held = true;
        ctx.wait(load.into_actor(self).map(move |loaded, room, ctx| {
            room.held = false;
            match loaded {
                Ok(loaded) => {
                    if let Some((message, reactions)) = loaded {
                        let target = message.id;
                        room.room.know(message);
                        if let Some(reactions) = reactions {
                            room.room.know_reactions(target, submit.by.user.clone(), reactions);
                        }
                    }
                    room.consider(submit, ctx);
                }
                Err(error) => room.answer(submit.asker, Err(read_failed(&error)), Tells::default()),
            }
            room.work(ctx);
        }));
    }
}

impl RoomActor {
    /// Gets what goes with the room's oldest records; nothing else happens meanwhile, and nothing of the room is on its way
    /// to the disk.
    fn load_going(&mut self, until: Position, at: Timestamp, mut submit: Submission, ctx: &mut Context<Self>) {
        let trimmed = self.room.header().map_or(Seq::ZERO, |header| header.trimmed.seq);
        let load = going(Arc::clone(self.registry.store()), self.key.clone(), trimmed, until, at);
        self.held = true;
        ctx.wait(load.into_actor(self).map(move |loaded, room, ctx| {
            room.held = false;
            match loaded {
                Ok(going) => {
                    if let Command::Trim { until, at, .. } = &mut submit.command {
                        (*until, *at) = (going.until, going.at);
                    }
                    room.going = Some(going);
                    room.consider(submit, ctx);
                    // It stays where nums have to be leased first, and nothing else is looked at until then.
                    room.going = room.going.take().filter(|_| room.held);
                }
                Err(error) => room.answer(submit.asker, Err(read_failed(&error)), Tells::default()),
            }
            room.work(ctx);
        }));
    }
}

/// What a room finds when it wakes.
struct Woken {
    head: Option<Position>,
    room: Room,
    recent: Recent,
    last_at: Timestamp,
    /// What a predecessor had committed and not published.
    unpublished: Vec<Record>,
    /// It has not handed everything to its audit room.
    owes: bool,
}

/// Reads a room as it is on disk, after whatever a predecessor had under way has settled. That one had published the
/// records up to `published`; zero says that there was none.
async fn wake(store: Arc<dyn Store>, key: RoomKey, published: Seq, now: Timestamp) -> Result<Woken, StoreError> {
    let stream = key.stream();
    let Some(head) = store.settle(&stream).await? else {
        let (recent, unpublished) = (Recent::default(), Vec::new());
        return Ok(Woken {
            head: None,
            room: Room::default(),
            recent,
            last_at: Timestamp(0),
            unpublished,
            owes: false,
        });
    };
    let header = store.get(&stream, rows::HEADER).await?;
    let header = header.ok_or_else(|| StoreError::Damaged(format!("room {} has no header", key.room)))?;
    let mut members = BTreeMap::<UserId, Member>::new();
    scan(&*store, &key, rows::MEMBERS, |user, row| {
        members.insert(user, Member::decode(row)?);
        Ok(())
    })
    .await?;
    let mut invited = BTreeMap::<UserId, Role>::new();
    scan(&*store, &key, rows::INVITATIONS, |user, row| {
        invited.insert(user, Role::decode(row)?);
        Ok(())
    })
    .await?;
    let mut bans = BTreeMap::<UserId, Ban>::new();
    scan(&*store, &key, rows::BANS, |user, row| {
        bans.insert(user, Ban::decode(row)?);
        Ok(())
    })
    .await?;
    let mut mutes = BTreeMap::<UserId, Mute>::new();
    scan(&*store, &key, rows::MUTES, |user, row| {
        mutes.insert(user, Mute::decode(row)?);
        Ok(())
    })
    .await?;
    let mut rights = BTreeMap::<UserId, Rights>::new();
    scan(&*store, &key, rows::RIGHTS, |user, row| {
        rights.insert(user, Rights::decode(row)?);
        Ok(())
    })
    .await?;
    let mut pins = BTreeMap::new();
    for (_, row) in store.scan(&stream, rows::PINS, None, PINS_MAX).await? {
        let pin = Pin::decode(&row)?;
        pins.insert(pin.message.seq(), pin);
    }
    let header = Header::decode(&header)?;
    let blocks = if header.kind == RoomKind::Direct { blocks_between(&*store, &key).await? } else { BTreeSet::new() };
    let rules = rules_of(&*store, &stream).await?.into();
    let owes = header.audited && !store.scan(&StreamId::Owed, &rows::owed_by(&key), None, 1).await?.is_empty();
    let taken = match header.kind {
        RoomKind::Audit => store.get(&stream, rows::TAKEN).await?,
        RoomKind::Channel
        | RoomKind::Group
        | RoomKind::Direct
        | RoomKind::Box
        | RoomKind::Canvas
        | RoomKind::Collection => None,
    };
    let documents = match header.kind {
        RoomKind::Collection => store.get(&stream, rows::documents::DOCUMENT_COUNT).await?,
        RoomKind::Channel | RoomKind::Group | RoomKind::Direct | RoomKind::Box | RoomKind::Canvas | RoomKind::Audit => {
            None
        }
    };
    let DocumentCount(documents) = documents.map(|row| Row::decode(&row)).transpose()?.unwrap_or_default();
    let taken = taken.map(|row| Position::decode(&row)).transpose()?;
    let snapshot =
        Snapshot { head, header, members, invited, bans, mutes, rights, blocks, rules, pins, taken, documents };
    let mut room = Room::restore(snapshot);

    let (mut recent, mut last_at, mut unpublished) = (Recent::default(), Timestamp(0), Vec::new());
    let since = Timestamp(now.0.saturating_sub(AGE_MAX_MS));
    let mut after = remembered_after(&*store, &stream, head.seq, since).await?;
    if published != Seq::ZERO {
        after = after.min(published);
    }
    loop {
        let page = store.read(&stream, after, RECORDS_PER_READ).await?;
        for record in &page.records {
            recent.apply(record);
            room.recall(record);
            last_at = last_at.max(record.at);
            if published != Seq::ZERO && record.position.seq > published {
                unpublished.push(record.clone());
            }
        }
        match page.records.last() {
            Some(last) if !page.complete => after = last.position.seq,
            Some(_) | None => break,
        }
    }
    Ok(Woken { head: Some(head), room, recent, last_at, unpublished, owes })
}

/// After which seq the records lie that a room remembers the client ids of: not too many, and none from before
/// `since`. Times never go backwards within a room, so the place is found in a few reads.
async fn remembered_after(
    store: &dyn Store,
    stream: &StreamId,
    head: Seq,
    since: Timestamp,
) -> Result<Seq, StoreError> {
    // Everything up to `low` is too old; the head itself is always read, for its time.
    let (mut low, mut high) = (Recent::tail_from(head), Seq(head.0.saturating_sub(1)));
    while low < high {
        let middle = Seq(low.0 + (high.0 - low.0) / 2);
        let page = store.read(stream, middle, 1).await?;
        match page.records.first() {
            Some(record) if record.at < since => low = record.position.seq,
            Some(_) | None => high = middle,
        }
    }
    Ok(low)
}

async fn scan(
    store: &dyn Store,
    key: &RoomKey,
    prefix: &[u8],
    mut each: impl FnMut(UserId, &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let stream = key.stream();
    let mut after: Option<Bytes> = None;
    loop {
        let found = store.scan(&stream, prefix, after.as_deref(), ROWS_PER_SCAN).await?;
        for (row_key, row) in &found {
            each(rows::user_of(row_key)?, row)?;
        }
        match found.into_iter().last() {
            Some((last, _)) => after = Some(last),
            None => return Ok(()),
        }
    }
}

/// The documents of these ids, each `None` where there is none.
async fn documents_at(
    store: Arc<dyn Store>,
    key: RoomKey,
    ids: Vec<RecordId>,
) -> Result<Vec<(RecordId, Option<Document>)>, StoreError> {
    let stream = key.stream();
    let mut documents = Vec::with_capacity(ids.len());
    for ids in ids.chunks(DOCUMENTS_PER_READ) {
        let keys: Vec<Bytes> = ids.iter().map(|id| rows::documents::document(id.seq())).collect();
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        for (id, row) in ids.iter().zip(store.get_all(&stream, &keys).await?) {
            let document = row.map(|row| Document::decode(&row)).transpose()?;
            documents.push((*id, document.filter(|document| document.id == *id)));
        }
    }
    Ok(documents)
}

/// Loads what the rules have to know of a message, and what `reactor` feels about it; `None` when there is none of this
/// id.
async fn load(
    store: Arc<dyn Store>,
    key: RoomKey,
    id: RecordId,
    reactor: Option<UserId>,
) -> Result<Option<(Message, Option<BTreeSet<Emoji>>)>, StoreError> {
    let stream = key.stream();
    let Some(message) = message_at(&*store, &stream, id).await? else { return Ok(None) };
    let Some(reactor) = reactor else { return Ok(Some((message, None))) };
    let row = store.get(&stream, &rows::reactions_of(id.seq(), &reactor)).await?;
    let reactions = row.map(|row| Row::decode(&row)).transpose()?.unwrap_or_default();
    Ok(Some((message, Some(reactions))))
}

#[cfg(test)]
mod tests;
