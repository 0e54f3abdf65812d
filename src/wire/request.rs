//! What a client asks, whatever its dialect.

use crate::domain::profile::ContactHash;
use crate::domain::{
    Alias, ClientId, Command, Content, Emoji, FileId, Name, Presence, ProfileUpdate, RecordId, Role, RoomId, RoomKind,
    RoomName, UserId,
};

use super::{Activity, Refusal};
use crate::domain::inbox::{SettingsUpdate, Update};

/// One command of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The client's own name for it, repeated in the reply.
    pub id: String,
    pub ask: Ask,
}

/// What is asked. `room` is as the client named it; whoever carries the request out looks it up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    Auth {
        token: String,
    },
    Create {
        kind: RoomKind,
        alias: Option<Alias>,
        name: Option<Name>,
        members: Vec<(UserId, Role)>,
    },
    Command {
        room: RoomName,
        command: Command,
        client_id: Option<ClientId>,
    },
    /// To post a message with files.
    Attach {
        room: RoomName,
        content: Content,
        attachments: Vec<FileId>,
        reply_to: Option<RecordId>,
        mentions: Vec<UserId>,
        client_id: Option<ClientId>,
    },
    /// To post what the message `message` of the room `source` says.
    Forward {
        room: RoomName,
        source: RoomName,
        message: RecordId,
        reply_to: Option<RecordId>,
        mentions: Vec<UserId>,
        client_id: Option<ClientId>,
    },
    Follow {
        room: RoomName,
        from: From,
    },
    Unfollow {
        room: RoomName,
    },
    /// All rooms of the user, those of later, too.
    FollowAll {
        from: From,
    },
    UnfollowAll,
    /// `before` is a cursor, read once the room is known.
    History {
        room: RoomName,
        before: Option<String>,
        limit: usize,
    },
    /// The replies of a thread. `after` is a cursor, read once the room is known.
    Thread {
        room: RoomName,
        thread: RecordId,
        after: Option<String>,
        limit: usize,
    },
    /// Who has reacted to a message with an emoji.
    Reactions {
        room: RoomName,
        message: RecordId,
        emoji: Emoji,
        after: Option<UserId>,
        limit: usize,
    },
    /// What a message has said, one edit after the other. `after` is a cursor, read once the room is known.
    Edits {
        room: RoomName,
        message: RecordId,
        after: Option<String>,
        limit: usize,
    },
    /// The messages that are pinned. `before` is a cursor, read once the room is known.
    Pins {
        room: RoomName,
        before: Option<String>,
        limit: usize,
    },
    Rooms {
        after: Option<RoomId>,
        limit: usize,
    },
    /// What a room is, and what the user is in it.
    Room {
        room: RoomName,
    },
    Members {
        room: RoomName,
        after: Option<UserId>,
        limit: usize,
    },
    /// Whether the user is there, as this connection has it; `None`: it does not count.
    Presence {
        presence: Option<Presence>,
    },
    /// Who of a room is there.
    Presences {
        room: RoomName,
        after: Option<UserId>,
        limit: usize,
    },
    /// Who is banned from a room.
    Bans {
        room: RoomName,
        after: Option<UserId>,
        limit: usize,
    },
    /// What may not be said in a room.
    Rules {
        room: RoomName,
    },
    /// Who is muted in a room.
    Mutes {
        room: RoomName,
        after: Option<UserId>,
        limit: usize,
    },
    /// The user is writing, or does no longer.
    Typing {
        room: RoomName,
        typing: bool,
    },
    /// How far the members of a room have got, seen from one message.
    Readers {
        room: RoomName,
        message: RecordId,
        after: Option<UserId>,
        limit: usize,
    },
    /// The user's rooms by their latest messages; `archived` are those that the user has put away.
    Inbox {
        archived: bool,
        after: Option<Activity>,
        limit: usize,
    },
    /// What has changed in the user's inbox. `since` is a cursor of it.
    InboxChanges {
        since: String,
        limit: usize,
    },
    /// Has a message seen by those who answer for the room.
    Report {
        room: RoomName,
        message: RecordId,
        reason: Option<Name>,
    },
    /// Of an audit room: a report has been seen to.
    ResolveReport {
        room: RoomName,
        report: RecordId,
        note: Option<Name>,
    },
    /// The user does not want to see a message any more, or wants to again.
    Hide {
        room: RoomName,
        message: RecordId,
        hidden: bool,
    },
    /// Which messages the user does not want to see.
    Hidden {
        room: RoomName,
        after: Option<RecordId>,
        limit: usize,
    },
    /// What the user has decided for all rooms, and what of it is to be changed.
    Settings {
        update: Option<SettingsUpdate>,
    },
    /// Changes what the user says of itself.
    ProfileUpdate {
        update: ProfileUpdate,
    },
    /// Invites somebody who may have blocked the user.
    Invite {
        room: RoomName,
        user: UserId,
        role: Role,
    },
    /// Another user is blocked, or is no longer.
    Block {
        user: UserId,
        blocked: bool,
    },
    /// Whom the user has blocked.
    Blocks {
        after: Option<UserId>,
        limit: usize,
    },
    /// What users say of themselves.
    Users {
        users: Vec<UserId>,
    },
    /// Users by how they can be reached.
    FindUsers {
        hashes: Vec<ContactHash>,
    },
    InboxUpdate {
        room: RoomName,
        update: Update,
    },
    /// What a client of channels asks.
    Channel(ChannelAsk),
    /// A command that has to wait until the client has said who it is. What it says has not been looked at.
    NotYet,
}

/// What a client of channels asks, whose dialect has no rooms: where there is none of a channel's name, it is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChannelAsk {
    /// To hear what it has sent, authenticated or not.
    Echo {
        data: String,
        channel: String,
        token: String,
    },
    /// To listen; `since` is a cursor, read once the room is known.
    Enter {
        channel: String,
        since: Option<String>,
    },
    Say {
        channel: String,
        data: String,
    },
    /// How many listen.
    Count {
        channel: String,
    },
    /// Something that there is not: what to say of it.
    Failed {
        why: String,
    },
}

impl ChannelAsk {
    pub(super) fn failed(why: &str) -> Self {
        Self::Failed { why: why.to_owned() }
    }

    /// Whether it is answered to anybody.
    pub fn needs_nobody(&self) -> bool {
        match self {
            Self::Echo { .. } | Self::Failed { .. } => true,
            Self::Enter { .. } | Self::Say { .. } | Self::Count { .. } => false,
        }
    }
}

/// Where a follow starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum From {
    Start,
    Now,
    /// Read once the room is known, or the user.
    Cursor(String),
}

/// Why a frame is no request.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{refusal}")]
pub struct DecodeError {
    /// The request's id, where that much could be read.
    pub id: Option<String>,
    pub refusal: Refusal,
}
