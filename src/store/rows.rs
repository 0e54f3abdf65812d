//! The rows that lie beside the records: a room's state at its head, found without replaying it.
//!
//! A room writes them in the same commit as the events that change them, so they are never older or newer than its
//! head. Keys and values are this module's; the domain's words go in and come out.

use bytes::Bytes;

use super::StoreError;
use crate::domain::policy::{Role, RoomKind};
use crate::domain::room::{Header, Member, Message};
use crate::domain::{Alias, Num, RoomId, Seq, UserId};

/// A value that is kept as a row.
pub trait Row: Sized {
    fn encode(&self) -> Bytes;
    fn decode(bytes: &[u8]) -> Result<Self, StoreError>;
}

/// What a tenant's directory knows of a room: under its alias, its num and its id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reservation {
    pub room: RoomId,
    pub num: Num,
    pub alias: Option<Alias>,
}

/// A room in a user's list: as a member, or as somebody invited.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    pub kind: RoomKind,
    pub role: Role,
    pub standing: Standing,
}

/// What a user is to a room in the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    Member,
    Invited,
}
