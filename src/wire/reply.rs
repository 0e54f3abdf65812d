//! What a client is told besides records: replies to what it asked, and notices it did not ask for.

use std::time::Duration;

use uuid::Uuid;

use crate::domain::inbox::{Entry, Last, Settings, Unread};
use crate::domain::policy::{Role, RoomKind, Standing};
use crate::domain::profile::ContactHash;
use crate::domain::recent::Receipt;
use crate::domain::room::{Ban, Mute, Settings as RoomSettings};
use crate::domain::{
    Alias, Capabilities, Content, Emoji, Epoch, Event, Mentions, Name, Num, Position, Presence, Principal, Profile,
    Record, RecordId, Rights, RoomEvent, RoomId, RoomKey, Rules, Seq, Signal, Timestamp, UserId,
};

use super::Refusal;

/// The answer to one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    Authenticated {
        principal: Principal,
        /// By which it was proved.
        token: String,
    },
    Created {
        room: RoomKey,
        num: Num,
        alias: Option<Alias>,
        may: Capabilities,
        receipt: Receipt,
    },
    /// The user has become a member with the record at `position`, and may do so much.
    Joined {
        room: RoomKey,
        position: Position,
        at: Timestamp,
        may: Capabilities,
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
    /// It has been told to those who follow the room.
    Signaled {
        room: RoomKey,
    },
    /// What happens in all `rooms` rooms of the user after `cursor` follows.
    FollowingAll {
        cursor: String,
        rooms: usize,
    },
    UnfollowedAll,
    /// `before` is where the next older page ends; `None` when there is nothing older. Then `gap` is what was older and is
    /// not kept any more.
    History {
        room: RoomKey,
        records: Vec<Record>,
        beside: Beside,
        before: Option<Position>,
        gap: Option<Gap>,
    },
    /// Replies of the thread that began with the message `thread`, oldest first. `after` is where the next page starts;
    /// `None` when there are no more.
    Thread {
        room: RoomKey,
        thread: RecordId,
        records: Vec<Record>,
        beside: Beside,
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
    /// What `message` has said, oldest first. `after` is where the next page starts; `None` when there are no more.
    Edits {
        room: RoomKey,
        message: RecordId,
        versions: Vec<Version>,
        after: Option<Position>,
    },
    /// Pinned messages, the one that was pinned last first, and the records by which they were posted in the same order.
    /// `before` is where the next page starts, the pins before it; `None` when there are no more.
    Pins {
        room: RoomKey,
        pins: Vec<Pinned>,
        records: Vec<Record>,
        beside: Beside,
        before: Option<Position>,
    },
    /// Records after some place; `cursor` is where the next page continues. `complete` says that nothing lay beyond it
    /// when it was read, and the log reached to `head`.
    Page {
        room: RoomKey,
        records: Vec<Record>,
        cursor: Position,
        complete: bool,
        head: Seq,
        gap: Option<Gap>,
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
    /// Who is banned, in the order of the ids. `after` is where the next page starts; `None` when there are no more.
    Bans {
        room: RoomKey,
        bans: Vec<(UserId, Ban)>,
        after: Option<UserId>,
    },
    /// What may not be said.
    Rules {
        room: RoomKey,
        rules: Rules,
    },
    /// Who is muted, as with bans.
    Mutes {
        room: RoomKey,
        mutes: Vec<(UserId, Mute)>,
        after: Option<UserId>,
    },
    /// How far the other members of a room have got, seen from one message.
    Readers {
        room: RoomKey,
        message: RecordId,
        readers: Readers,
        after: Option<UserId>,
    },
    Present {
        presence: Option<Presence>,
    },
    /// Who of a room is there.
    Presences {
        room: RoomKey,
        presences: Presences,
        after: Option<UserId>,
    },
    Inbox(Inbox),
    Settings(Settings),
    /// What the user says of itself, with everything.
    Profile(Box<UserProfile>),
    Users(Vec<UserProfile>),
    /// Who can be reached by what, of those who let that be known.
    FoundUsers(Vec<(ContactHash, UserProfile)>),
    /// A message has been reported, now or before.
    Reported {
        room: RoomKey,
        message: RecordId,
    },
    Blocked {
        user: UserId,
        blocked: bool,
    },
    /// Whom the user has blocked, in the order of the ids.
    Blocks {
        users: Vec<UserId>,
        after: Option<UserId>,
    },
    /// Messages that the user does not want to see; `after` is where the next page starts.
    Hidden {
        room: RoomKey,
        messages: Vec<RecordId>,
        after: Option<RecordId>,
    },
    InboxChanges(Changes),
    InboxUpdated {
        owner: RoomKey,
        change: Change,
        unread: Unread,
    },
    /// To a client of channels.
    Channel(ChannelReply),
    Refused(Refusal),
}

/// What a client of channels is told, whose dialect has no rooms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChannelReply {
    /// What it has sent.
    Echoed { data: String, channel: String, token: String },
    /// It listens to `channel` from `at` on.
    Entered { channel: String, room: RoomKey, at: Position },
    /// How many listen.
    Counted { count: u32 },
    /// It has asked for something that there is not.
    Failed { why: String },
}

/// A user's rooms, the one with the latest message first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inbox {
    /// By what its cursor is told from those of rooms.
    pub owner: RoomKey,
    pub rooms: Vec<InboxRoom>,
    /// Where the next page starts; `None` when there are no more.
    pub after: Option<Activity>,
    /// Of all rooms that are neither muted nor put away.
    pub unread: u64,
    pub mentions: u64,
    /// What has changed in the inbox up to here is in this answer.
    pub cursor: Position,
}

/// A room in a user's inbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InboxRoom {
    pub room: RoomId,
    pub kind: RoomKind,
    pub role: Role,
    pub num: Num,
    pub alias: Option<Alias>,
    pub name: Option<Name>,
    pub created_at: Timestamp,
    pub head: Seq,
    pub last: Option<Last>,
    pub unread: Unread,
    pub entry: Entry,
}

/// When a room was last spoken in, and which, so that no two are alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Activity {
    pub at: Timestamp,
    pub room: RoomId,
}

impl Activity {
    /// As text that clients hand back.
    pub fn encode(self) -> String {
        format!("{:016x}{:032x}", self.at.0, self.room.0.as_u128())
    }

    /// Reads what [`Activity::encode`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (at, room) = text.split_at_checked(16).filter(|(_, room)| room.len() == 32)?;
        let room = RoomId(u128::from_str_radix(room, 16).ok().map(Uuid::from_u128)?);
        Some(Self { at: Timestamp(i64::from_str_radix(at, 16).ok()?), room })
    }
}

impl InboxRoom {
    pub fn activity(&self) -> Activity {
        Activity { at: self.last.as_ref().map_or(self.created_at, |last| last.at), room: self.room }
    }

    /// How much it takes to say it, about.
    pub fn bytes(&self) -> usize {
        let last = self.last.as_ref().and_then(|last| last.text.as_deref()).map_or(0, str::len);
        let name = self.name.as_ref().map_or(0, |name| name.as_str().len());
        let alias = self.alias.as_ref().map_or(0, |alias| alias.as_str().len());
        512 + last + name + alias + self.entry.draft.as_deref().map_or(0, str::len)
    }
}

/// An entry of a user's inbox as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub room: RoomId,
    pub entry: Entry,
    /// Where it has come to be so.
    pub position: Position,
}

/// The entries that have changed after some place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changes {
    pub owner: RoomKey,
    pub changes: Vec<Change>,
    pub cursor: Position,
    /// Nothing lay beyond the page when it was read.
    pub complete: bool,
}

/// How many of a room's members a message has come to, and how far some of them have got.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Readers {
    /// All members but the author.
    pub members: u32,
    pub delivered: u32,
    pub read: u32,
    pub users: Vec<Reader>,
}

/// How many members of a room are there, and some of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Presences {
    pub members: u32,
    pub online: u32,
    pub away: u32,
    /// `None` in a room with too many members.
    pub users: Option<Vec<Present>>,
}

/// Whether a member is there, and when he was last seen who is not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Present {
    pub user: UserId,
    pub presence: Option<Presence>,
    pub last_seen: Option<Timestamp>,
}

/// How far a member has got in a room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reader {
    pub user: UserId,
    pub delivered_to: Seq,
    pub read_to: Seq,
}

/// What a room is to somebody who may know of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct About {
    pub kind: RoomKind,
    pub num: Num,
    pub alias: Option<Alias>,
    pub created_at: Timestamp,
    pub archived: bool,
    pub settings: RoomSettings,
    /// What the user is in it, or is invited to be.
    pub place: Option<(Role, Standing)>,
    /// What the user may do in it.
    pub may: Capabilities,
    /// Its newest record; for members only, since it tells how much is said.
    pub head: Option<Position>,
    /// Of an audit room: the room that it is about.
    pub audits: Option<RoomId>,
    /// Its audit room, for who may read that.
    pub audit: Option<RoomId>,
}

/// What the messages of an answer are now, whatever their records say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Beside {
    /// What users feel about them.
    pub reactions: Vec<Tally>,
    /// What those of them say that have been edited.
    pub edited: Vec<Edited>,
    /// Those of them that the reader does not want to see.
    pub hidden: Vec<RecordId>,
}

/// What a message says since its last edit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edited {
    pub message: RecordId,
    pub version: Version,
}

impl Edited {
    /// By the record of an edit; `None` for any other.
    pub fn of(record: &Record) -> Option<Self> {
        let Event::Room(RoomEvent::MessageEdited { message, .. }) = &record.event else { return None };
        Some(Self { message: *message, version: Version::of(record)? })
    }
}

/// What a message says from one record on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    pub seq: Seq,
    pub at: Timestamp,
    pub content: Content,
    pub mentions: Mentions,
}

impl Version {
    /// By the record of a message or of an edit; `None` for any other.
    pub fn of(record: &Record) -> Option<Self> {
        let Event::Room(event) = &record.event else { return None };
        let (content, mentions) = event.said()?;
        Some(Self { seq: record.position.seq, at: record.at, content: content.clone(), mentions: mentions.into() })
    }
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

/// A message that is pinned: by whom, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pinned {
    pub message: RecordId,
    pub by: UserId,
    pub at: Timestamp,
}

/// A member in a room's list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedMember {
    pub user: UserId,
    pub role: Role,
    /// What was decided about the user, whatever the role says.
    pub rights: Rights,
    pub muted: Option<Mute>,
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
        /// What the connection is called, where its dialect calls it anything.
        socket: Option<Uuid>,
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
    /// What a room is to the user has changed.
    InboxUpdated {
        owner: RoomKey,
        change: Change,
    },
    /// The user does not want to see a message any more, or wants to again.
    MessageHidden {
        room: RoomId,
        message: RecordId,
        hidden: bool,
    },
    /// What holds for the moment in a room that is followed.
    Signal {
        room: RoomId,
        signal: Signal,
    },
    /// The server restarts, and the connection is about to be closed.
    Restarting {
        /// When to connect again; another time for each connection, so that not all come at once.
        retry_after: Duration,
    },
    /// What a user says of itself has changed: one of those whose rooms are followed, or the user of the connection.
    UserUpdated(Box<UserProfile>),
    /// The user of the connection has blocked another one, or does no longer.
    UserBlocked {
        user: UserId,
        blocked: bool,
    },
    /// The records of the room from `from` to `to` are passed over.
    Gap {
        room: RoomId,
        gap: Gap,
    },
    /// The follow of this room has ended for a fault of ours.
    FollowFailed {
        room: RoomId,
        refusal: Refusal,
    },
}

/// What a user says of itself, as far as it is shown to who is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserProfile {
    pub user: UserId,
    pub profile: Profile,
}

/// Records from one to another, both included, that are passed over for somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    pub from: Seq,
    pub to: Seq,
    pub reason: Absence,
}

/// Why records are not there for somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absence {
    /// They are of a time when the user was not in the room.
    NotMember,
    /// They are older than the room keeps any.
    Retention,
}

impl Absence {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotMember => "not_member",
            Self::Retention => "retention",
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
