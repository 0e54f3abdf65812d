//! What happened. Events are in the past tense and fat: whatever a dialect has to show is in the event, so that a
//! frame is a function of one record, live or replayed.

use super::{
    Alias, ClientId, Content, DirectoryEvent, Name, Num, Position, RecordId, Role, RoomKind, Timestamp, UserId,
};

/// An event with its place in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub position: Position,
    pub id: RecordId,
    pub num: Num,
    pub at: Timestamp,
    /// Who asked for it.
    pub author: UserId,
    /// The author's own id for it, where one was given.
    pub client_id: Option<ClientId>,
    pub event: Event,
}

/// What happened in a stream; each kind of stream has its own events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    Room(RoomEvent),
    Directory(DirectoryEvent),
}

/// What happened in a room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RoomEvent {
    RoomCreated {
        kind: RoomKind,
        alias: Option<Alias>,
        num: Num,
        name: Option<Name>,
    },
    RoomUpdated {
        name: Option<Name>,
    },
    RoomArchived,
    /// `user` is the author for who joined by itself, someone else for who was added.
    MemberJoined {
        user: UserId,
        role: Role,
    },
    MemberInvited {
        user: UserId,
        role: Role,
    },
    /// `joined` is the record by which the membership began.
    MemberLeft {
        user: UserId,
        joined: RecordId,
    },
    /// The author kicked `user`; `joined` is the record by which the membership began.
    MemberKicked {
        user: UserId,
        joined: RecordId,
        reason: Option<Name>,
    },
    RoleChanged {
        user: UserId,
        role: Role,
        was: Role,
    },
    MessagePosted {
        content: Content,
    },
    /// `by` is the author of the message.
    MessageEdited {
        message: RecordId,
        by: UserId,
        content: Content,
    },
    /// `by` is the author of the message. Its content is gone from the log; its place stays.
    MessageDeleted {
        message: RecordId,
        by: UserId,
    },
    /// Stands where a message was posted or edited that has since been deleted.
    MessageErased,
}
