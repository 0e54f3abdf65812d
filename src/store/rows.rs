//! The rows that lie beside the records: a room's state at its head, found without replaying it.
//!
//! A room writes them in the same commit as the events that change them, so they are never older or newer than its
//! head. Keys and values are this module's; the domain's words go in and come out.
//!
//! Rows of one stream stand in several files. A new kind of key has a first byte that no other of its stream has.

pub mod accounts;
mod audits;
pub mod boxes;
mod denials;
mod directory;
pub mod documents;
mod files;
mod messages;
pub mod people;
mod rooms;
mod users;

#[cfg(test)]
mod tests;

pub use self::audits::*;
pub use self::denials::*;
pub use self::directory::*;
pub use self::files::*;
pub use self::messages::*;
pub use self::rooms::*;
pub use self::users::*;

use bytes::Bytes;

use crate::domain::inbox::Reached;
use crate::domain::{Num, Position, RecordId, Timestamp, UserId};
use crate::store::StoreError;
use crate::store::codec::{self, Id, StoredReached, damage};

/// A value that is kept as a row.
pub trait Row: Sized {
    fn encode(&self) -> Bytes;
    fn decode(bytes: &[u8]) -> Result<Self, StoreError>;
}

/// Whose key [`member`], [`invitation`], [`ban`], [`mute`], [`rights`], [`block`] or [`progress`] made.
pub fn user_of(key: &[u8]) -> Result<UserId, StoreError> {
    let prefixes = [MEMBERS, INVITATIONS, BANS, MUTES, RIGHTS, BLOCKS, PROGRESS];
    let text = prefixes.into_iter().find_map(|prefix| key.strip_prefix(prefix));
    let text = text.and_then(|text| std::str::from_utf8(text).ok());
    codec::user(text.ok_or_else(|| damage("a key that names no user"))?)
}

fn joined(prefix: &[u8], rest: &[u8]) -> Bytes {
    [prefix, rest].concat().into()
}

impl Row for Num {
    fn encode(&self) -> Bytes {
        codec::version(&self.0).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned(bytes).map(Self)
    }
}

impl Row for RecordId {
    fn encode(&self) -> Bytes {
        codec::version(&Id(self.0)).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned::<Id>(bytes).map(|id| Self(id.0))
    }
}

impl Row for Position {
    fn encode(&self) -> Bytes {
        codec::version(&StoredReached::from(Reached(*self))).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned::<StoredReached>(bytes).map(|stored| Reached::from(stored).0)
    }
}

impl Row for Timestamp {
    fn encode(&self) -> Bytes {
        codec::version(&self.0).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned(bytes).map(Self)
    }
}
