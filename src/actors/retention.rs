//! Rooms that keep what was said for a time: which of them have something that is older, and what goes with it.
//!
//! A sweep looks at all rooms in turn, a page of them at a time, and wakes only those with something to trim. How long a
//! room keeps is read each time, so that what the operator decides holds for all rooms there are. What a room lets go of
//! it decides and commits itself, some of its oldest records at a time; the rows that speak of the messages among these
//! are looked up here, while the room does nothing else.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::failure::read_failed;
use super::limits::Keeping;
use super::registry::Registry;
use crate::domain::room::{Header, Message};
use crate::domain::{
    Command, Event, FileId, Position, Principal, Record, RoomEvent, RoomKey, Seq, StreamId, Timestamp, UserId,
};
use crate::store::rows::{self, Row};
use crate::store::{Put, Store, StoreError};
use crate::wire::Refusal;

/// How many rooms a round looks at, and how many of them at the same time.
const ROOMS_PER_ROUND: usize = 256;
const ROOMS_AT_ONCE: usize = 4;

/// How many records of one room are trimmed together, and how many pages of them in one round: a room with more has its
/// turn again in the next.
const RECORDS_AT_ONCE: usize = 1000;
const TRIMS_PER_ROUND: usize = 64;

/// How many rows are read at once, and about how many go in one commit.
const ROWS_PER_SCAN: usize = 1000;
const ROWS_MAX: usize = 10_000;

/// About how many later edits of the messages that go are erased in one commit: each may lie in a chunk of its own, which
/// is written anew.
const EDITS_MAX: usize = 1_000;

/// What a round has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Trimmed {
    pub rooms: usize,
    pub records: u64,
    /// Not all rooms have been looked at, or one of them has more to trim: the next round goes on with them.
    pub more: bool,
}

/// Where the sweep is: behind this room; `None` is before the first.
#[derive(Default)]
pub struct Sweep(tokio::sync::Mutex<Place>);

#[derive(Default)]
struct Place {
    after: Option<RoomKey>,
    /// One of the rooms before has more to trim.
    left: bool,
}

impl Sweep {
    /// Looks at the next rooms, and has those that keep something for too long let go of it. What fails does not keep it
    /// from the rest.
    pub async fn round(&self, registry: &Arc<Registry>) -> Result<Trimmed, Refusal> {
        let mut place = self.0.lock().await;
        let rooms = registry.store().rooms(place.after.clone(), ROOMS_PER_ROUND).await;
        let rooms = rooms.map_err(|error| read_failed(&error))?;
        let more = rooms.len() == ROOMS_PER_ROUND;
        place.after = rooms.last().filter(|_| more).cloned();
        let trims = stream::iter(rooms).map(|room| async move {
            trim(registry, &room).await.unwrap_or_else(|refusal| {
                tracing::warn!(room = %room.room, %refusal, "a room could not be trimmed");
                (0, false)
            })
        });
        let trims = trims.buffer_unordered(ROOMS_AT_ONCE);
        let round = trims.fold(Trimmed::default(), async |round, (records, more)| Trimmed {
            rooms: round.rooms + usize::from(records > 0),
            records: round.records + records,
            more: round.more || more,
        });
        let mut round = round.await;
        place.left |= round.more;
        round.more = more || std::mem::take(&mut place.left);
        Ok(round)
    }
}

/// Has a room let go of what it keeps for too long; returns how many records that were, about, and whether there are more.
async fn trim(registry: &Arc<Registry>, room: &RoomKey) -> Result<(u64, bool), Refusal> {
    let mut records = 0;
    for _ in 0..TRIMS_PER_ROUND {
        let limits = registry.limits().clone();
        let due = due(&**registry.store(), room, &limits.keep, registry.now()).await;
        let Some((kept_from, until, at, operator)) = due.map_err(|error| read_failed(&error))? else {
            return Ok((records, false));
        };
        let trim = Command::Trim { until, at, operator };
        registry.submit(room, server(room, registry.now()), trim, None).await?;
        records += until.seq.0 + 1 - kept_from.0;
    }
    Ok((records, true))
}

fn server(room: &RoomKey, now: Timestamp) -> Principal {
    Principal {
        tenant: room.tenant.clone(),
        user: UserId::operator(),
        token: None,
        login: None,
        issued_at: now,
        expires_at: Timestamp(i64::MAX),
    }
}

/// From where on a room keeps records, and the place and time of the last of its oldest that it has kept for long enough,
/// with what the operator has decided about that.
/// Where these say nothing but that something was trimmed before, they may stay: each would be followed by another.
async fn due(
    store: &dyn Store,
    room: &RoomKey,
    keep: &Keeping,
    now: Timestamp,
) -> Result<Option<(Seq, Position, Timestamp, Option<u64>)>, StoreError> {
    let stream = room.stream();
    let Some(header) = store.get_all(&stream, &[rows::HEADER]).await?.pop().flatten() else { return Ok(None) };
    let header = Header::decode(&header)?;
    let operator = keep.of_room(&room.tenant, header.kind);
    let Some(keep_ms) = header.settings.keep_ms(operator) else { return Ok(None) };
    let oldest = store.read(&stream, header.trimmed.seq, 1).await?.records;
    if oldest.first().is_none_or(|record| !record.at.is_past(keep_ms, now)) {
        return Ok(None);
    }
    let page = store.read(&stream, header.trimmed.seq, RECORDS_AT_ONCE).await?.records;
    let due = page.iter().take_while(|record| record.at.is_past(keep_ms, now));
    let last = due.filter(|record| !is_trim(record)).last();
    Ok(last.map(|record| (header.kept_from(), record.position, record.at, operator)))
}

fn is_trim(record: &Record) -> bool {
    matches!(record.event, Event::Room(RoomEvent::HistoryTrimmed { .. }))
}

/// What goes with the oldest records of a room.
#[derive(Debug)]
pub struct Going {
    /// As much of what was asked for as goes at once.
    pub until: Position,
    pub at: Timestamp,
    /// The rows that speak of the messages among them.
    pub puts: Vec<Put>,
    /// Where these messages have been edited further on.
    pub erase: Vec<Seq>,
}

/// Looks up what goes with the records of a room behind `trimmed`, up to `until`, of which nothing may be on its way to
/// the disk. It is cut short where too many rows would go.
pub async fn going(
    store: Arc<dyn Store>,
    key: RoomKey,
    trimmed: Seq,
    until: Position,
    at: Timestamp,
) -> Result<Going, StoreError> {
    let stream = key.stream();
    let mut records = records(&*store, &stream, trimmed, until.seq).await?;
    let messages = messages(&*store, &stream, &mut records).await?;
    let mut keys = reactions(&*store, &stream, &mut records).await?;
    let Some(last) = records.last() else { return Ok(Going { until, at, puts: Vec::new(), erase: Vec::new() }) };
    let (until, at) = (last.position, last.at);
    let mut refers: Vec<(FileId, Seq)> = Vec::new();
    let mut erase = Vec::new();
    for record in &records {
        let seq = record.position.seq;
        let attachments = match &record.event {
            Event::Room(RoomEvent::MessagePosted { reply, attachments, .. }) => {
                keys.extend(reply.as_ref().map(|reply| rows::threaded(reply.thread.seq(), seq)));
                attachments
            }
            Event::Room(RoomEvent::Reported(reported)) => {
                keys.extend([rows::report(reported.message, &record.author), rows::resolved(seq)]);
                &reported.attachments
            }
            Event::Room(_) | Event::Directory(_) | Event::Inbox(_) => continue,
        };
        refers.extend(attachments.iter().map(|attachment| (attachment.id, seq)));
    }
    for (row_key, message) in messages.into_iter().filter(|(_, message)| message.id.seq() <= until.seq) {
        erase.extend(message.edits.iter().filter(|edit| **edit > until.seq));
        keys.extend(message.thread.map(|thread| rows::threaded(thread.seq(), message.id.seq())));
        keys.push(row_key);
    }
    keys.extend(up_to(&*store, &stream, rows::PINS, until.seq).await?.into_iter().map(|(row_key, _)| row_key));
    let own = keys.into_iter().map(|row_key| Put { under: stream.clone(), key: row_key, value: None });
    let refers = refers.into_iter().map(|(file, seq)| {
        let row_key = rows::referred_by_message(file, key.room, seq);
        Put { under: StreamId::Files, key: row_key, value: None }
    });
    Ok(Going { until, at, puts: own.chain(refers).collect(), erase })
}

async fn records(store: &dyn Store, stream: &StreamId, trimmed: Seq, until: Seq) -> Result<Vec<Record>, StoreError> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let after = records.last().map_or(trimmed, |record| record.position.seq);
        let page = store.read(stream, after, RECORDS_AT_ONCE).await?;
        let there = page.records.len();
        records.extend(page.records.into_iter().filter(|record| record.position.seq <= until));
        if page.complete || there == 0 || records.last().is_some_and(|record| record.position.seq >= until) {
            return Ok(records);
        }
    }
}

/// What is known of the messages among `records` and before. Where too many of their edits would go at once, the last of
/// the records are left out; all edits of the first message go.
async fn messages(
    store: &dyn Store,
    stream: &StreamId,
    records: &mut Vec<Record>,
) -> Result<Vec<(Bytes, Message)>, StoreError> {
    let Some(until) = records.last().map(|record| record.position.seq) else { return Ok(Vec::new()) };
    let (mut messages, mut edits) = (Vec::new(), 0);
    for (key, row) in up_to(store, stream, rows::MESSAGES, until).await? {
        let message = Message::decode(&row)?;
        edits += message.edits.len();
        if edits > EDITS_MAX && !messages.is_empty() {
            records.retain(|record| record.position.seq < message.id.seq());
            break;
        }
        messages.push((key, message));
    }
    Ok(messages)
}

/// The keys of what users feel about the messages among `records`. Where that is too much at once, the last of these are
/// left out; all that is felt about the first goes, however much it is.
async fn reactions(store: &dyn Store, stream: &StreamId, records: &mut Vec<Record>) -> Result<Vec<Bytes>, StoreError> {
    let (Some(first), Some(until)) = (records.first(), records.last()) else { return Ok(Vec::new()) };
    let (first, until) = (first.position.seq, until.position.seq);
    let (mut keys, mut last): (Vec<(Seq, Bytes)>, Option<Bytes>) = (Vec::new(), None);
    loop {
        let page = store.scan(stream, rows::REACTIONS, last.as_deref(), ROWS_PER_SCAN).await?;
        let ends = page.len() < ROWS_PER_SCAN;
        last = page.last().map(|(key, _)| key.clone());
        for (key, _) in page {
            let seq = rows::message_of(&key)?;
            if seq > until {
                return Ok(keys.into_iter().map(|(_, key)| key).collect());
            }
            if seq > first && keys.len() >= ROWS_MAX {
                records.retain(|record| record.position.seq < seq);
                return Ok(keys.into_iter().filter(|(of, _)| *of < seq).map(|(_, key)| key).collect());
            }
            keys.push((seq, key));
        }
        if ends {
            return Ok(keys.into_iter().map(|(_, key)| key).collect());
        }
    }
}

/// The rows of a room under `prefix` that speak of messages up to `until`. Of those before nothing is left.
async fn up_to(
    store: &dyn Store,
    stream: &StreamId,
    prefix: &[u8],
    until: Seq,
) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
    let mut found: Vec<(Bytes, Bytes)> = Vec::new();
    loop {
        let last = found.last().map(|(key, _)| key.clone());
        let page = store.scan(stream, prefix, last.as_deref(), ROWS_PER_SCAN).await?;
        let ends = page.len() < ROWS_PER_SCAN;
        for (key, row) in page {
            if rows::message_of(&key)? > until {
                return Ok(found);
            }
            found.push((key, row));
        }
        if ends {
            return Ok(found);
        }
    }
}
