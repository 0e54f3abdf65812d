//! A tenant's directory: what must be unique, decided in one place.
//!
//! It reserves the names of rooms, and leases the small integers in blocks that are on disk before any of them is
//! used, so that a num is never given twice, whatever is killed when.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture};
use tokio::sync::oneshot;

use super::failure::{commit_failed, read_failed};
use super::limits::names;
use crate::domain::{
    Alias, DirectoryEvent, Event, Num, Position, Record, RecordId, RoomId, Seq, StreamId, TenantId, Timestamp, UserId,
};
use crate::store::rows::{self, Reservation, RoomCount, Row};
use crate::store::{Commit, Put, Store, StoreError};
use crate::wire::Refusal;

/// How many nums are leased at once: what a crash may leave unused.
pub const LEASE: u64 = 1024;

/// The most reservations that go into one commit.
const GATHER_MAX: usize = 128;

/// How many rows are read at once to count them.
const ROWS_PER_SCAN: usize = 1000;

/// The nums that may be used now. Shared by all rooms of a tenant.
#[derive(Default)]
pub struct Nums(Mutex<Block>);

#[derive(Default)]
struct Block {
    next: u64,
    before: u64,
}

impl Nums {
    /// The next `count` nums in a row; `None` when the lease has to be renewed first.
    pub fn take(&self, count: usize) -> Option<Num> {
        let mut block = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = block.next;
        let next = first + count as u64;
        (next <= block.before).then(|| {
            block.next = next;
            Num(first)
        })
    }

    fn lease(&self, from: u64, before: u64) {
        let mut block = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if block.next < from && block.before < from {
            block.next = from;
        }
        block.before = before;
    }
}

/// Hosts one tenant's directory.
pub struct DirectoryActor {
    store: Arc<dyn Store>,
    tenant: TenantId,
    nums: Arc<Nums>,
    now: Box<dyn Fn() -> Timestamp + Send>,
    /// How many rooms the tenant may have now.
    rooms_max: Box<dyn Fn() -> Option<u64> + Send>,
    head: Option<Position>,
    leased: u64,
    /// How many rooms have been reserved.
    rooms: u64,
    waiting: Vec<(Reserve, oneshot::Sender<Result<Reservation, Refusal>>)>,
    leases: Vec<(usize, oneshot::Sender<Result<Num, Refusal>>)>,
    /// Reservations wait for nums.
    short: bool,
    busy: bool,
}

impl DirectoryActor {
    pub fn new(
        store: Arc<dyn Store>,
        tenant: TenantId,
        nums: Arc<Nums>,
        now: impl Fn() -> Timestamp + Send + 'static,
        rooms_max: impl Fn() -> Option<u64> + Send + 'static,
    ) -> Self {
        Self {
            store,
            tenant,
            nums,
            now: Box::new(now),
            rooms_max: Box::new(rooms_max),
            head: None,
            leased: 1,
            rooms: 0,
            waiting: Vec::new(),
            leases: Vec::new(),
            short: false,
            busy: false,
        }
    }

    fn stream(&self) -> StreamId {
        StreamId::Directory(self.tenant.clone())
    }

    /// Serves what has gathered, one commit at a time: leases first, because reservations need nums.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        // Whoever gave up, because the store took too long, does not come back for the answer.
        self.waiting.retain(|(_, reply)| !reply.is_closed());
        self.leases.retain(|(_, reply)| !reply.is_closed());
        if self.busy {
            return;
        }
        self.serve_leases();
        let count = self.waiting.len().min(GATHER_MAX);
        if self.short || !self.leases.is_empty() {
            self.renew(ctx);
        } else if count > 0 {
            self.look_up(count, ctx);
        }
    }

    fn serve_leases(&mut self) {
        let nums = &self.nums;
        self.leases = std::mem::take(&mut self.leases)
            .into_iter()
            .filter_map(|(count, reply)| match nums.take(count) {
                Some(first) => {
                    // A room that died meanwhile leaves a hole, which is allowed.
                    let _ = reply.send(Ok(first));
                    None
                }
                None => Some((count, reply)),
            })
            .collect();
    }

    fn renew(&mut self, ctx: &mut Context<Self>) {
        let largest = self.leases.iter().map(|(count, _)| *count as u64).max().unwrap_or(0);
        let before = self.leased + LEASE.max(largest);
        let event = DirectoryEvent::NumsLeased { before: Num(before) };
        let put = Put { under: self.stream(), key: rows::LEASE.into(), value: Some(Num(before).encode()) };
        let from = self.leased;
        self.short = false;
        self.commit(vec![event], vec![put], ctx, move |directory, result| match result {
            Ok(()) => {
                directory.leased = before;
                directory.nums.lease(from, before);
                directory.serve_leases();
            }
            Err(refusal) => {
                for (_, reply) in directory.leases.drain(..) {
                    let _ = reply.send(Err(refusal.clone()));
                }
            }
        });
    }

    /// Finds what is reserved already among the first `count` requests, then reserves the rest.
    fn look_up(&mut self, count: usize, ctx: &mut Context<Self>) {
        self.busy = true;
        let requests: Vec<_> = self.waiting.drain(..count).collect();
        let (store, stream) = (Arc::clone(&self.store), self.stream());
        let look_up = async move {
            let mut found = Vec::with_capacity(requests.len());
            for (request, reply) in requests {
                let row = match request.key() {
                    Some(key) => store.get(&stream, &key).await,
                    None => Ok(None),
                };
                let reserved = row.and_then(|row| row.map(|row| Reservation::decode(&row)).transpose());
                found.push((request, reply, reserved));
            }
            found
        };
        ctx.spawn(look_up.into_actor(self).map(|found, directory, ctx| {
            directory.busy = false;
            directory.reserve(found, ctx);
        }));
    }

    fn reserve(&mut self, found: Vec<Found>, ctx: &mut Context<Self>) {
        let mut made: HashMap<bytes::Bytes, Reservation> = HashMap::new();
        let (mut events, mut puts, mut replies) = (Vec::new(), Vec::new(), Vec::new());
        let mut short = Vec::new();
        let mut rooms = self.rooms;
        let rooms_max = (self.rooms_max)();
        for (request, reply, reserved) in found {
            let known = match reserved {
                Ok(known) => known.or_else(|| request.key().and_then(|key| made.get(&key).cloned())),
                Err(error) => {
                    let _ = reply.send(Err(read_failed(&error)));
                    continue;
                }
            };
            if let Some(reservation) = known {
                replies.push((reply, reservation));
                continue;
            }
            if !request.beside && rooms_max.is_some_and(|max| rooms >= max) {
                let _ = reply.send(Err(Refusal::too_many_rooms(names::ROOMS_PER_TENANT)));
                continue;
            }
            let Some(num) = self.nums.take(1) else {
                short.push((request, reply));
                continue;
            };
            let room = request.room.unwrap_or_else(|| RoomId::new((self.now)(), crate::clock::random_wide()));
            let reservation = Reservation { room, num, alias: request.alias.clone() };
            if let Some(key) = request.key() {
                made.insert(key, reservation.clone());
            }
            rooms += u64::from(!request.beside);
            events.push(DirectoryEvent::RoomReserved { room, num, alias: request.alias.clone() });
            let keys = [Some(rows::room(room)), Some(rows::num(num)), request.alias.as_ref().map(rows::alias)];
            puts.extend(keys.into_iter().flatten().map(|key| Put {
                under: self.stream(),
                key,
                value: Some(reservation.encode()),
            }));
            replies.push((reply, reservation));
        }
        if !short.is_empty() {
            // They go on as soon as there are nums again.
            short.append(&mut self.waiting);
            self.waiting = short;
            self.short = true;
        }
        if events.is_empty() {
            answer(replies, &Ok(()));
            return self.pump(ctx);
        }
        puts.push(Put { under: self.stream(), key: rows::ROOM_COUNT.into(), value: Some(RoomCount(rooms).encode()) });
        self.commit(events, puts, ctx, move |directory, result| {
            if result.is_ok() {
                directory.rooms = rooms;
            }
            answer(replies, &result);
        });
    }

    fn commit(
        &mut self,
        events: Vec<DirectoryEvent>,
        puts: Vec<Put>,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, Result<(), Refusal>) + 'static,
    ) {
        self.busy = true;
        let records = self.records(events);
        let head = records.last().map(|record| record.position);
        let commit =
            Commit { stream: self.stream(), expected: self.head, records, puts, erase: Vec::new(), trim: None };
        let committed = self.store.commit(commit);
        ctx.spawn(committed.into_actor(self).map(move |result, directory, ctx| {
            directory.busy = false;
            if result.is_ok() {
                directory.head = head;
            }
            then(directory, result.map_err(commit_failed));
            match result {
                Ok(()) => directory.pump(ctx),
                // What is on disk is not known any more: the next request starts over from there.
                Err(_) => ctx.stop(),
            }
        }));
    }

    fn records(&self, events: Vec<DirectoryEvent>) -> Vec<Record> {
        let at = (self.now)();
        let author = UserId::new("chinwag").expect("it is short and plain");
        let epoch = self.store.epoch();
        let mut seq = self.head.map_or(Seq::ZERO, |head| head.seq);
        let mut record = |event| {
            seq = seq.next();
            Record {
                position: Position { epoch, seq },
                id: RecordId::new(at, seq, crate::clock::random_wide()),
                num: Num(0),
                at,
                author: author.clone(),
                client_id: None,
                event: Event::Directory(event),
            }
        };
        events.into_iter().map(&mut record).collect()
    }
}

type Found = (Reserve, oneshot::Sender<Result<Reservation, Refusal>>, Result<Option<Reservation>, StoreError>);

fn answer(replies: Vec<(oneshot::Sender<Result<Reservation, Refusal>>, Reservation)>, result: &Result<(), Refusal>) {
    for (reply, reservation) in replies {
        // Whoever asked may be gone; the reservation stays.
        let _ = reply.send(result.clone().map(|()| reservation));
    }
}

impl Actor for DirectoryActor {
    type Context = Context<Self>;

    /// Wakes from the log: commits of a predecessor have settled before the first request is looked at.
    fn started(&mut self, ctx: &mut Self::Context) {
        let (store, stream) = (Arc::clone(&self.store), self.stream());
        let wake = async move {
            let head = store.settle(&stream).await?;
            let leased = store.get(&stream, rows::LEASE).await?;
            let leased = leased.map(|row| Num::decode(&row)).transpose()?;
            let rooms = match store.get(&stream, rows::ROOM_COUNT).await? {
                Some(row) => RoomCount::decode(&row)?,
                None => count_rooms(&*store, &stream).await?,
            };
            Ok::<_, StoreError>((head, leased, rooms))
        };
        ctx.wait(wake.into_actor(self).map(|woken, directory, ctx| match woken {
            Ok((head, leased, rooms)) => {
                directory.head = head;
                directory.rooms = rooms.0;
                directory.leased = leased.map_or(1, |before| before.0);
            }
            Err(error) => {
                tracing::error!(tenant = %directory.tenant, %error, "a directory could not be woken");
                ctx.stop();
            }
        }));
    }
}

/// Counts what a directory holds that was written before it kept count.
async fn count_rooms(store: &dyn Store, stream: &StreamId) -> Result<RoomCount, StoreError> {
    let (mut count, mut after) = (0, None::<bytes::Bytes>);
    loop {
        let found = store.scan(stream, rows::ROOMS, after.as_deref(), ROWS_PER_SCAN).await?;
        count += found.len() as u64;
        match found.into_iter().last() {
            Some((last, _)) => after = Some(last),
            None => return Ok(RoomCount(count)),
        }
    }
}

/// Asks for names for a room: those that the alias or the room has already, or new ones.
#[derive(Message, Clone)]
#[rtype(result = "Result<Reservation, Refusal>")]
pub struct Reserve {
    pub alias: Option<Alias>,
    /// Given where the room's id follows from something else, as a direct room's.
    pub room: Option<RoomId>,
    /// It is not among the rooms that the tenant may have so many of.
    pub beside: bool,
}

impl Reserve {
    /// The row that says whether there are names already.
    fn key(&self) -> Option<bytes::Bytes> {
        match (&self.alias, self.room) {
            (Some(alias), _) => Some(rows::alias(alias)),
            (None, Some(room)) => Some(rows::room(room)),
            (None, None) => None,
        }
    }
}

impl Handler<Reserve> for DirectoryActor {
    type Result = ResponseFuture<Result<Reservation, Refusal>>;

    fn handle(&mut self, reserve: Reserve, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.waiting.push((reserve, reply));
        self.pump(ctx);
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(Refusal::unavailable())) })
    }
}

/// Asks for `count` nums in a row.
#[derive(Message)]
#[rtype(result = "Result<Num, Refusal>")]
pub struct LeaseNums {
    pub count: usize,
}

impl Handler<LeaseNums> for DirectoryActor {
    type Result = ResponseFuture<Result<Num, Refusal>>;

    fn handle(&mut self, lease: LeaseNums, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.leases.push((lease.count, reply));
        self.pump(ctx);
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(Refusal::unavailable())) })
    }
}
