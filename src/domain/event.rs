//! What happened. Events are in the past tense and fat: whatever a dialect has to show is in the event, so that a
//! frame is a function of one record, live or replayed.

use std::sync::Arc;

use super::document::{Fields, Whose};
use super::room::Settings;
use super::{
    Alias, Attachments, Capabilities, ClientId, Content, Deed, DirectoryEvent, Emoji, InboxEvent, Name, Num, Position,
    RecordId, Rights, Role, RoomId, RoomKind, Rules, Timestamp, UserId,
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
    Inbox(InboxEvent),
}

/// What a message answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InReplyTo {
    pub message: RecordId,
    /// The author of that message.
    pub by: UserId,
    /// The message that the thread began with: the first that was not a reply.
    pub thread: RecordId,
}

/// Where a forwarded message comes from. Who reads it need not know the room that it was said in, so that is not told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forwarded {
    /// Who said it first.
    pub by: UserId,
    pub at: Timestamp,
    /// The [tag](super::Source::tag) of the message that was forwarded; for repetitions, and shown to nobody.
    pub source: u64,
}

/// The most users that one message mentions.
pub const MENTIONS_MAX: usize = 50;

/// Who is mentioned: each once, in the order of the ids.
pub type Mentions = Box<[UserId]>;

/// What happened in a room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RoomEvent {
    RoomCreated {
        kind: RoomKind,
        alias: Option<Alias>,
        num: Num,
        name: Option<Name>,
        /// Of an audit room: the room whose decisions it holds; that of the tenant has none.
        audits: Option<RoomId>,
    },
    /// What it is from then on, changed or not.
    RoomUpdated(Settings),
    RoomArchived,
    /// In a collection: its id is that of the record.
    DocumentCreated {
        whose: Box<Whose>,
        fields: Arc<Fields>,
    },
    /// What a document is from then on. It was `created` then, and is whose it was.
    DocumentUpdated {
        whose: Box<Whose>,
        document: RecordId,
        created: Timestamp,
        fields: Arc<Fields>,
    },
    DocumentDeleted {
        whose: Box<Whose>,
        document: RecordId,
    },
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
    /// `may` is what the user may do from then on.
    RightsChanged {
        user: UserId,
        rights: Rights,
        may: Capabilities,
    },
    /// What may not be said from then on.
    RulesChanged(Box<Rules>),
    /// The author banned `user`; `joined` is the record by which the membership began that it ended, where there was one,
    /// and `invited` says that an invitation went with it. Without `until` it is for good.
    MemberBanned {
        user: UserId,
        joined: Option<RecordId>,
        invited: bool,
        until: Option<Timestamp>,
        reason: Option<Name>,
    },
    /// Also where a ban had ended by itself and its place was needed.
    MemberUnbanned {
        user: UserId,
    },
    /// Without `until` it is for good, also when `user` leaves and comes back.
    MemberMuted {
        user: UserId,
        until: Option<Timestamp>,
    },
    /// Also where a mute had ended by itself and its place was needed.
    MemberUnmuted {
        user: UserId,
    },
    /// Of a direct room: the author has blocked `user`, the other one.
    MemberBlocked {
        user: UserId,
    },
    MemberUnblocked {
        user: UserId,
    },
    MessagePosted {
        content: Content,
        reply: Option<Box<InReplyTo>>,
        mentions: Mentions,
        /// Where it was said before; then the content is not its author's own.
        forwarded: Option<Box<Forwarded>>,
        attachments: Attachments,
    },
    /// `by` is the author of the message. Its `mentions` take the place of those before.
    MessageEdited {
        message: RecordId,
        by: UserId,
        content: Content,
        mentions: Mentions,
    },
    /// `by` is the author of the message. Its content is gone from the log; its place stays.
    MessageDeleted {
        message: RecordId,
        by: UserId,
    },
    /// The author feels so about a message of `by`; so many do now.
    ReactionAdded {
        message: RecordId,
        by: UserId,
        emoji: Emoji,
        count: u32,
    },
    /// The author does no longer; so many do still.
    ReactionRemoved {
        message: RecordId,
        by: UserId,
        emoji: Emoji,
        count: u32,
    },
    /// `by` is the author of the message.
    MessagePinned {
        message: RecordId,
        by: UserId,
    },
    /// `by` is the author of the message. A message that is deleted is not pinned any more either, without a word.
    MessageUnpinned {
        message: RecordId,
        by: UserId,
    },
    /// The records up to this one are gone for good, and with them what was known of the messages among them. What is
    /// left of these further on, an edit or a pin, is gone, too.
    HistoryTrimmed {
        until: Position,
    },
    /// Stands where a message was posted or edited that has since been deleted or trimmed.
    MessageErased,
    /// Of an audit room: the author has decided something in the room that it is about.
    Audited(Box<Audited>),
    /// Of the tenant's audit room: the author has decided something about others.
    Administered(Box<Deed>),
    /// Of an audit room: the author has reported a message.
    Reported(Box<Reported>),
    /// Of an audit room: the author has seen to a report.
    ReportResolved {
        report: RecordId,
        note: Option<Name>,
    },
}

/// A message that somebody has reported, as it was then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reported {
    pub room: RoomId,
    pub message: RecordId,
    /// Who posted it, and when.
    pub by: UserId,
    pub at: Timestamp,
    pub content: Content,
    pub attachments: Attachments,
    pub reason: Option<Name>,
}

/// What somebody has decided, as the audit room of the room has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Audited {
    pub room: RoomId,
    /// Of the record there.
    pub position: Position,
    pub id: RecordId,
    pub at: Timestamp,
    pub by: UserId,
    pub decided: RoomEvent,
}

impl RoomEvent {
    /// Of a message that answers nothing and mentions nobody.
    pub fn posted(content: Content) -> Self {
        Self::MessagePosted {
            content,
            reply: None,
            mentions: Mentions::default(),
            forwarded: None,
            attachments: Attachments::default(),
        }
    }

    /// What it says and whom it mentions, where it is a message or an edit of one.
    pub fn said(&self) -> Option<(&Content, &[UserId])> {
        match self {
            Self::MessagePosted { content, mentions, .. } | Self::MessageEdited { content, mentions, .. } => {
                Some((content, mentions))
            }
            Self::RoomCreated { .. }
            | Self::RoomUpdated(_)
            | Self::RoomArchived
            | Self::DocumentCreated { .. }
            | Self::DocumentUpdated { .. }
            | Self::DocumentDeleted { .. }
            | Self::MemberJoined { .. }
            | Self::MemberInvited { .. }
            | Self::MemberLeft { .. }
            | Self::MemberKicked { .. }
            | Self::RoleChanged { .. }
            | Self::RightsChanged { .. }
            | Self::RulesChanged(_)
            | Self::MemberBanned { .. }
            | Self::MemberUnbanned { .. }
            | Self::MemberMuted { .. }
            | Self::MemberUnmuted { .. }
            | Self::MemberBlocked { .. }
            | Self::MemberUnblocked { .. }
            | Self::MessageDeleted { .. }
            | Self::ReactionAdded { .. }
            | Self::ReactionRemoved { .. }
            | Self::MessagePinned { .. }
            | Self::MessageUnpinned { .. }
            | Self::HistoryTrimmed { .. }
            | Self::MessageErased
            | Self::Audited(_)
            | Self::Administered(_)
            | Self::Reported(_)
            | Self::ReportResolved { .. } => None,
        }
    }
}
