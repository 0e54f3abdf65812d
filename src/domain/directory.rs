//! What must be unique in a tenant: aliases, and the small integers.

use super::{Alias, Num, RoomId};

/// What happened in a tenant's directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DirectoryEvent {
    /// `num` and, where given, `alias` name `room` from now on. The room itself may never come to be: a reservation
    /// is kept, and asking again for the same alias leads to the same room.
    RoomReserved { room: RoomId, num: Num, alias: Option<Alias> },
    /// All nums below `before` may have been used. Recorded before any of them is, so that a num is never used twice;
    /// those that a stop leaves unused are holes.
    NumsLeased { before: Num },
}
