//! Stored shapes: how a record looks on disk, and back.
//!
//! A stored record is a version byte and a MessagePack array. Its position is not part of it: that is where it lies.
//! The shapes here are this module's own, so that a rename in the domain never changes a byte on disk. Decoding takes
//! whatever a disk may hold and never panics.

mod deed;
mod events;
mod streams;
mod value;
mod words;

#[cfg(test)]
mod tests;

pub(super) use self::events::StoredDecision;
pub(super) use self::streams::{ROOM_STREAM, split_stream, split_text, stream_key};
pub(super) use self::value::StoredFields;
pub(super) use self::words::{
    Id, StoredAudience, StoredHistory, StoredKind, StoredReached, StoredRole, StoredRules, account, alias, emoji,
    file_name, media_type, name, user,
};

use serde::{Deserialize, Serialize};

use self::events::StoredEvent;
use crate::domain::{ClientId, Event, Num, Position, Record, RecordId, RoomEvent, Timestamp};
use crate::store::StoreError;

/// The version of the shapes below. A new one gets a new number, and the old stays readable.
const VERSION: u8 = 1;

/// How deep a value is nested at most: nothing that is written here goes beyond a third of it.
const DEPTH_MAX: usize = 32;

/// Appends `record` to `out` as it lies on disk, without its position.
pub fn encode(record: &Record, out: &mut Vec<u8>) {
    let stored = StoredRecord {
        id: Id(record.id.0),
        num: record.num.0,
        at: record.at.0,
        author: record.author.as_str(),
        client_id: record.client_id.as_ref().map(ClientId::as_str),
        event: StoredEvent::of(&record.event),
    };
    out.push(VERSION);
    rmp_serde::encode::write(out, &stored).expect("writing plain values to memory does not fail");
}

/// Reads what [`encode`] wrote, as the record at `position`.
pub(super) fn decode(position: Position, bytes: &[u8]) -> Result<Record, StoreError> {
    let stored: StoredRecord = versioned(bytes)?;
    Ok(Record {
        position,
        id: RecordId(stored.id.0),
        num: Num(stored.num),
        at: Timestamp(stored.at),
        author: user(stored.author)?,
        client_id: stored.client_id.map(|text| ClientId::new(text).map_err(damage)).transpose()?,
        event: stored.event.into_domain()?,
    })
}

/// The record as it reads once its content is erased; `None` for one that has no content.
pub(super) fn erased(record: &Record) -> Option<Record> {
    match &record.event {
        Event::Room(RoomEvent::MessagePosted { .. } | RoomEvent::MessageEdited { .. }) => {
            Some(Record { event: Event::Room(RoomEvent::MessageErased), ..record.clone() })
        }
        Event::Room(
            RoomEvent::RoomCreated { .. }
            | RoomEvent::RoomUpdated(_)
            | RoomEvent::RoomArchived
            | RoomEvent::DocumentCreated { .. }
            | RoomEvent::DocumentUpdated { .. }
            | RoomEvent::DocumentDeleted { .. }
            | RoomEvent::MemberJoined { .. }
            | RoomEvent::MemberInvited { .. }
            | RoomEvent::MemberLeft { .. }
            | RoomEvent::MemberKicked { .. }
            | RoomEvent::RoleChanged { .. }
            | RoomEvent::RightsChanged { .. }
            | RoomEvent::RulesChanged(_)
            | RoomEvent::MemberBanned { .. }
            | RoomEvent::MemberUnbanned { .. }
            | RoomEvent::MemberMuted { .. }
            | RoomEvent::MemberUnmuted { .. }
            | RoomEvent::MemberBlocked { .. }
            | RoomEvent::MemberUnblocked { .. }
            | RoomEvent::MessageDeleted { .. }
            | RoomEvent::ReactionAdded { .. }
            | RoomEvent::ReactionRemoved { .. }
            | RoomEvent::MessagePinned { .. }
            | RoomEvent::MessageUnpinned { .. }
            | RoomEvent::HistoryTrimmed { .. }
            | RoomEvent::MessageErased
            | RoomEvent::Audited(_)
            | RoomEvent::Administered(_)
            | RoomEvent::Reported(_)
            | RoomEvent::ReportResolved { .. },
        )
        | Event::Directory(_)
        | Event::Inbox(_) => None,
    }
}

/// The checksum of a stored record, which ties its bytes to the place they lie at. `stream` is the checksum of the
/// stream's name, computed once for many records.
pub(super) fn checksum(stream: u32, position: Position, bytes: &[u8]) -> u32 {
    let mut place = [0; 16];
    place[..8].copy_from_slice(&position.epoch.0.to_le_bytes());
    place[8..].copy_from_slice(&position.seq.0.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(stream, &place), bytes)
}

/// Reads a value behind its version byte.
pub(super) fn versioned<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, StoreError> {
    let Some((&version, rest)) = bytes.split_first() else { return Err(damage("an empty value")) };
    if version != VERSION {
        return Err(damage(format!("a value of version {version}")));
    }
    let mut stored = rmp_serde::Deserializer::from_read_ref(rest);
    stored.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut stored).map_err(damage)
}

/// Writes a value behind its version byte.
pub(super) fn version(value: &impl Serialize) -> Vec<u8> {
    let mut out = vec![VERSION];
    rmp_serde::encode::write(&mut out, value).expect("writing plain values to memory does not fail");
    out
}

pub(super) fn damage(what: impl ToString) -> StoreError {
    StoreError::Damaged(what.to_string())
}

#[derive(Serialize, Deserialize)]
struct StoredRecord<'a> {
    id: Id,
    num: u64,
    at: i64,
    #[serde(borrow)]
    author: &'a str,
    client_id: Option<&'a str>,
    event: StoredEvent<'a>,
}
