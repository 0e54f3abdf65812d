//! The rows of a tenant's directory: which rooms have which aliases and nums.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Row, joined};
use crate::domain::{Alias, Num, RoomId};
use crate::store::StoreError;
use crate::store::codec::{self, Id};

/// What a tenant's directory knows of a room: under its alias, its num and its id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reservation {
    pub room: RoomId,
    pub num: Num,
    pub alias: Option<Alias>,
}

/// Under a directory's stream: the [`Reservation`] of an alias.
pub fn alias(alias: &Alias) -> Bytes {
    joined(b"a", alias.as_str().as_bytes())
}

/// Under a directory's stream: the [`Reservation`] of a num.
pub fn num(num: Num) -> Bytes {
    joined(b"n", &num.0.to_be_bytes())
}

/// Under a directory's stream: before the key of every room's [`Reservation`].
pub const ROOMS: &[u8] = b"r";

/// Under a directory's stream: the [`Reservation`] of a room.
pub fn room(room: RoomId) -> Bytes {
    joined(ROOMS, room.0.as_bytes())
}

impl Row for Reservation {
    fn encode(&self) -> Bytes {
        let alias = self.alias.as_ref().map(Alias::as_str);
        codec::version(&StoredReservation { room: Id(self.room.0), num: self.num.0, alias }).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredReservation = codec::versioned(bytes)?;
        Ok(Self { room: RoomId(stored.room.0), num: Num(stored.num), alias: codec::alias(stored.alias)? })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredReservation<'a> {
    room: Id,
    num: u64,
    #[serde(borrow)]
    alias: Option<&'a str>,
}

/// Under a directory's stream: the [`Num`] below which all may have been used.
pub const LEASE: &[u8] = b"l";

/// Under a directory's stream: how many rooms have been reserved, a [`RoomCount`].
pub const ROOM_COUNT: &[u8] = b"c";

/// How many rooms a tenant has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct RoomCount(pub u64);

impl Row for RoomCount {
    fn encode(&self) -> Bytes {
        codec::version(&self.0).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned(bytes).map(Self)
    }
}
