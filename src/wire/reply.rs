//! What a client is told besides records: replies to what it asked, and notices it did not ask for.

use std::time::Duration;

use crate::domain::policy::{Role, RoomKind, Standing};
use crate::domain::recent::Receipt;
use crate::domain::{
    Alias, Emoji, Epoch, Name, Num, Position, Principal, Record, RecordId, RoomId, RoomKey, Seq, Timestamp, UserId,
};

use super::Refusal;

/// The answer to one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    Authenticated {
        principal: Principal,
    },
    Created {
        room: RoomKey,
        num: Num,
        alias: Option<Alias>,
        receipt: Receipt,
    },
    /// `position` is that of the record, or of the head where nothing had to change.
    Changed {
        room: RoomKey,
        position: Position,
        at: Timestamp,
    },
    /// `duplicate` says that the client id had been published before, with this receipt.
    Published {
        room: RoomKey,
        receipt: Receipt,
        duplicate: bool,
    },
    /// Records after `at` follow; the log reaches to `head` now.
    Following {
        room: RoomKey,
        at: Position,
        head: Seq,
    },
    Unfollowed {
        room: RoomId,
    },
    /// What happens in all `rooms` rooms of the user after `cursor` follows.
    FollowingAll {
        cursor: String,
        rooms: usize,
    },
    UnfollowedAll,
    /// `before` is where the next older page ends; `None` when there is nothing older.
    History {
        room: RoomKey,
        records: Vec<Record>,
        /// What users feel about those of them that are messages, as it is now.
        reactions: Vec<Tally>,
        before: Option<Position>,
    },
    /// Replies of the thread that began with the message `thread`, oldest first. `after` is where the next page starts;
    /// `None` when there are no more.
    Thread {
        room: RoomKey,
        thread: RecordId,
        records: Vec<Record>,
        reactions: Vec<Tally>,
        after: Option<Position>,
    },
    /// Who has reacted to `message` with `emoji`, in the order of the ids; `count` are they all. `after` is where the next
    /// page starts; `None` when there are no more.
    Reactions {
        room: RoomKey,
        message: RecordId,
        emoji: Emoji,
        count: u32,
        users: Vec<UserId>,
        after: Option<UserId>,
    },
    /// Records after some place; `cursor` is where the next page continues. `complete` says that nothing lay beyond it
    /// when it was read, and the log reached to `head`.
    Page {
        room: RoomKey,
        records: Vec<Record>,
        cursor: Position,
        complete: bool,
        head: Seq,
    },
    /// `after` is where the next page starts; `None` when there are no more.
    Rooms {
        rooms: Vec<Listed>,
        after: Option<RoomId>,
    },
    Room {
        room: RoomKey,
        about: About,
    },
    /// `after` is where the next page starts; `None` when there are no more.
    Members {
        room: RoomKey,
        members: Vec<ListedMember>,
        after: Option<UserId>,
    },
    Refused(Refusal),
}

/// What a room is to somebody who may know of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct About {
    pub kind: RoomKind,
    pub num: Num,
    pub alias: Option<Alias>,
    pub name: Option<Name>,
    pub created_at: Timestamp,
    pub archived: bool,
    /// What the user is in it, or is invited to be.
    pub place: Option<(Role, Standing)>,
    /// Its newest record; for members only, since it tells how much is said.
    pub head: Option<Position>,
}

/// How many users have reacted to a message in one way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tally {
    pub message: RecordId,
    pub emoji: Emoji,
    pub count: u32,
    /// The reader is one of them.
    pub mine: bool,
}

/// A member in a room's list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedMember {
    pub user: UserId,
    pub role: Role,
    /// The record by which the membership began.
    pub joined: RecordId,
}

/// A room in a user's list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed {
    pub room: RoomId,
    pub kind: RoomKind,
    pub role: Role,
    pub standing: Standing,
}

/// What the server says without having been asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// The first frame of every connection.
    Hello {
        epoch: Epoch,
        /// How often the server pings.
        heartbeat: Duration,
        authenticated: bool,
    },
    /// The first event of a stream: `room` follows after `at`, and its log reaches to `head` now.
    Streaming {
        epoch: Epoch,
        /// How often a comment comes where nothing else does.
        heartbeat: Duration,
        room: RoomKey,
        at: Position,
        head: Seq,
    },
    /// The first event of a stream of all rooms of the user: it follows after `cursor`.
    StreamingAll {
        epoch: Epoch,
        /// How often a comment comes where nothing else does.
        heartbeat: Duration,
        cursor: String,
        rooms: usize,
    },
    /// The follow of this room has ended, because the user is no longer a member.
    Removed {
        room: RoomId,
        reason: Removal,
    },
    RoomGained {
        room: RoomId,
        standing: Standing,
        role: Role,
    },
    RoomLost {
        room: RoomId,
    },
    /// The server restarts, and the connection is about to be closed.
    Restarting {
        /// When to connect again; another time for each connection, so that not all come at once.
        retry_after: Duration,
    },
    /// The records of the room from `from` to `to` are passed over.
    Gap {
        room: RoomId,
        from: Seq,
        to: Seq,
        reason: Absence,
    },
    /// The follow of this room has ended for a fault of ours.
    FollowFailed {
        room: RoomId,
        refusal: Refusal,
    },
}

/// Why records are not there for somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absence {
    /// They are of a time when the user was not in the room.
    NotMember,
}

impl Absence {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotMember => "not_member",
        }
    }
}

/// How a membership ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removal {
    Left,
    Kicked,
}

impl Removal {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Kicked => "kicked",
        }
    }
}
