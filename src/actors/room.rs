//! A room's host: it puts commands in order, lets the rules decide, and shows nothing before it is on disk.
//!
//! Decide, apply, commit, publish. At most one commit is in flight; what arrives meanwhile gathers for the next. A
//! room that fails to commit ends itself, and the next command wakes it from the log: nothing undoes an apply.

mod audit;
mod gathering;
mod loading;
mod publishing;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message as ActorMessage, WrapFuture};
use bytes::Bytes;
use tokio::sync::oneshot;

use self::gathering::Gathered;
use self::loading::{Woken, wake};
use self::publishing::RelayLink;
use super::auditing::Owed;
use super::batch::removal_of;
use super::directory::{LeaseNums, Nums};
use super::failure::commit_failed;
use super::files::Hold;
use super::registry::{Admission, Registry, RelayId, fingerprint};
use super::retention::Going;
use crate::clock::random_wide;
use crate::domain::command::{Decision, Reading};
use crate::domain::document::{CHANGED_MAX, Change, Entry, Index, Reader};
use crate::domain::recent::{Receipt, Recent, Seen};
use crate::domain::{
    Capabilities, ClientId, Command, Event, Num, Position, Principal, Record, RecordId, Rejection, Room, RoomEvent,
    RoomKey, Seq, Timestamp, UserId,
};
use crate::store::rows::documents::{self, Indexed};
use crate::store::rows::{self, Row};
use crate::store::{Commit, CommitError, Put};
use crate::wire::Refusal;

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
        if let Command::Write(write) = &submit.command
            && let Change::Index(index) = &write.change
        {
            return self.index(&write.by, index, submit.asker);
        }
        if submit.command == Command::Watch {
            return self.watch(submit.asker);
        }
        let (limits, tenant) = (self.registry.limits(), &self.key.tenant);
        self.room.abide(Arc::clone(limits.rules.of(tenant)), Arc::clone(limits.channels.of(tenant)));
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

    /// Has documents found by what they have at a path, with the next commit.
    fn index(&mut self, by: &Reader, index: &Index, to: Asker) {
        let built = match self.room.index(by, index) {
            Ok(built) => built,
            Err(rejection) => return self.answer(to, Err(rejection.into()), Tells::default()),
        };
        let put = |key, value| Put { under: self.key.stream(), key, value: Some(value) };
        let mut puts = vec![put(documents::index(&index.path), Indexed { built }.encode())];
        for document in index.documents.iter().filter_map(|id| self.room.document(*id)) {
            let entry = Entry::at(document, &index.path);
            puts.push(put(documents::entry(&index.path, &entry, document.id.seq()), Bytes::new()));
        }
        self.gathering.puts.extend(puts);
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

    /// Lets go of the messages that no record under way changes, when there are many, and of all such documents. Not while
    /// a command is held: what follows from it has been decided and not been applied.
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
}

#[cfg(test)]
mod tests;
