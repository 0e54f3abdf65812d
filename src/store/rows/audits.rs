//! What rooms owe their audit rooms, what these have taken, and reports.

use bytes::Bytes;
use uuid::Uuid;

use super::{Row, joined};
use crate::domain::{RecordId, RoomId, RoomKey, Seq, TenantId, UserId, command};
use crate::store::StoreError;
use crate::store::codec::{self, StoredDecision, damage};

/// Under an audit room's stream: up to which [`Position`](crate::domain::Position) of the room that it is about it has
/// taken what was decided.
pub const TAKEN: &[u8] = b"a";

/// Under an audit room's stream: the [`RecordId`] of the report that `user` has made of a message.
pub fn report(message: RecordId, user: &UserId) -> Bytes {
    [b"r", message.0.as_bytes().as_slice(), user.as_str().as_bytes()].concat().into()
}

/// Under an audit room's stream: a row without a value, for a report that has been seen to, by where it lies.
pub fn resolved(report: Seq) -> Bytes {
    joined(b"v", &report.0.to_be_bytes())
}

/// Among what is owed: before the keys of what `room` owes.
pub fn owed_by(room: &RoomKey) -> Bytes {
    let tenant = room.tenant.as_str();
    let length = u8::try_from(tenant.len()).expect("a tenant id has at most 64 bytes");
    [&[length], tenant.as_bytes(), room.room.0.as_bytes()].concat().into()
}

/// Among what is owed: the [`Decision`] of the record at `seq` of `room`, until its audit room has it. Keys are in the order of
/// the seqs. Written by the room.
///
/// [`Decision`]: crate::domain::command::Decision
pub fn owed(room: &RoomKey, seq: Seq) -> Bytes {
    joined(&owed_by(room), &seq.0.to_be_bytes())
}

/// Who owes what [`owed`] made the key of.
pub fn owing_room(key: &[u8]) -> Result<RoomKey, StoreError> {
    let owing = codec::split_text(key).and_then(|(tenant, rest)| Some((tenant, rest.get(..16)?)));
    let (tenant, room) = owing.ok_or_else(|| damage("a key that names no room that owes something"))?;
    let (tenant, room) = (TenantId::new(tenant).map_err(damage)?, Uuid::from_slice(room).map_err(damage)?);
    Ok(RoomKey { tenant, room: RoomId(room) })
}

/// At which record what [`owed`] made the key of was decided.
pub fn owed_at(key: &[u8]) -> Result<Seq, StoreError> {
    let rest = codec::split_text(key).and_then(|(_, rest)| rest.get(16..));
    let seq =
        rest.and_then(|seq| seq.try_into().ok()).ok_or_else(|| damage("a key that names no record that is owed"))?;
    Ok(Seq(u64::from_be_bytes(seq)))
}

impl Row for command::Decision {
    fn encode(&self) -> Bytes {
        codec::version(&StoredDecision::of(self)).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned::<StoredDecision>(bytes)?.into_domain()
    }
}
