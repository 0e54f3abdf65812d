//! Why the rules said no.

/// Why a command was not carried out. Each has a stable code, by which programs recognise it, and a sentence for
/// people. `docs/errors.md` lists them all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    /// Also the answer to who may not know that the room exists.
    #[error("there is no such room")]
    RoomNotFound,
    #[error("a room of this name or for this pair exists already")]
    RoomExists,
    #[error("the room is archived: it can be read, not changed")]
    RoomArchived,
    #[error("a channel needs an alias")]
    AliasRequired,
    #[error("a direct room is between exactly two different users")]
    NotAPair,
    #[error("you are not a member of this room; join it first")]
    NotMember,
    #[error("the user is a member already")]
    AlreadyMember,
    #[error("your role in this room does not allow that")]
    Forbidden,
    #[error("this kind of room does not allow that")]
    KindForbids,
    #[error("the user is not a member of this room")]
    NoSuchMember,
    /// `wait_ms` is how long the ban lasts still, where it ends.
    #[error("you are banned from this room")]
    Banned { wait_ms: Option<u64> },
    #[error("the user is banned from this room")]
    UserBanned,
    #[error("a room has at most 10,000 bans")]
    TooManyBans,
    /// `wait_ms` is how long the mute lasts still, where it ends.
    #[error("you are muted in this room: you can read, not write")]
    Muted { wait_ms: Option<u64> },
    /// `wait_ms` is how long it takes until the next message is due.
    #[error("this room is in slow mode: your next message has to wait")]
    SlowMode { wait_ms: u64 },
    #[error("the message has a word that is not allowed here")]
    WordNotAllowed,
    #[error("the message has a link that is not allowed here")]
    LinkNotAllowed,
    #[error("a room has at most 10,000 mutes")]
    TooManyMutes,
    #[error("in a room the rights of at most 10,000 users differ from what their roles allow")]
    TooManyRights,
    #[error("one of you has blocked the other")]
    Blocked,
    #[error("a user blocks at most 1,000 others")]
    TooManyBlocks,
    #[error("the time at which it is to end is not later than now")]
    EndsTooSoon,
    #[error("the room would be left without an owner; make somebody else an owner first")]
    LastOwner,
    #[error("the room has as many members as it may have")]
    RoomFull,
    #[error("there is no such message in this room")]
    MessageNotFound,
    #[error("the message has been deleted")]
    MessageDeleted,
    #[error("only the author of a message may edit it")]
    NotAuthor,
    #[error("the message has been edited as often as it may be")]
    TooManyEdits,
    #[error("this room does not show what its messages said before they were edited")]
    EditsHidden,
    #[error("a message mentions at most 50 users")]
    TooManyMentions,
    #[error("a user reacts to a message in at most 10 ways, and all together in at most 20")]
    TooManyReactions,
    #[error("a room has at most 50 pinned messages")]
    TooManyPins,
    #[error("the content is empty or larger than 32768 bytes")]
    ContentSize,
    /// Also the answer to who may not know that the file exists.
    #[error("there is no such file, or it is not yours to use here")]
    FileNotFound,
    #[error("a message has at most 10 attachments")]
    TooManyAttachments,
    #[error("there is no such report in this room")]
    ReportNotFound,
    #[error("there is no such document, or it is not yours to see")]
    DocumentNotFound,
    #[error("a document has at most 61440 bytes as JSON in a string, and 16 levels")]
    DocumentSize,
    #[error("a change is of at most 1,000 documents, which have 2 MiB together")]
    TooManyDocuments,
    #[error("a collection finds its documents by at most 16 paths, of 1 to 200 bytes")]
    TooManyIndexes,
    #[error("the field holds no number to which that can be added")]
    NotANumber,
    #[error("an avatar has to be a picture: PNG, JPEG, GIF, WebP, AVIF or BMP")]
    NotAPicture,
    #[error("the room has not come so far: there is no record of this seq yet")]
    NotThereYet,
    #[error("this client id was used already for something else")]
    ClientIdReused,
}

impl Rejection {
    pub const ALL: [Self; 44] = [
        Self::RoomNotFound,
        Self::RoomExists,
        Self::RoomArchived,
        Self::AliasRequired,
        Self::NotAPair,
        Self::NotMember,
        Self::AlreadyMember,
        Self::Forbidden,
        Self::KindForbids,
        Self::NoSuchMember,
        Self::Banned { wait_ms: None },
        Self::UserBanned,
        Self::TooManyBans,
        Self::Muted { wait_ms: None },
        Self::SlowMode { wait_ms: 0 },
        Self::WordNotAllowed,
        Self::LinkNotAllowed,
        Self::TooManyMutes,
        Self::TooManyRights,
        Self::Blocked,
        Self::TooManyBlocks,
        Self::EndsTooSoon,
        Self::LastOwner,
        Self::RoomFull,
        Self::MessageNotFound,
        Self::MessageDeleted,
        Self::NotAuthor,
        Self::TooManyEdits,
        Self::EditsHidden,
        Self::TooManyMentions,
        Self::TooManyReactions,
        Self::TooManyPins,
        Self::ContentSize,
        Self::FileNotFound,
        Self::TooManyAttachments,
        Self::ReportNotFound,
        Self::DocumentNotFound,
        Self::DocumentSize,
        Self::TooManyDocuments,
        Self::TooManyIndexes,
        Self::NotANumber,
        Self::NotAPicture,
        Self::NotThereYet,
        Self::ClientIdReused,
    ];

    /// After how many milliseconds the same would not be refused for this any more, where that is known.
    pub fn wait_ms(self) -> Option<u64> {
        match self {
            Self::Banned { wait_ms } | Self::Muted { wait_ms } => wait_ms,
            Self::SlowMode { wait_ms } => Some(wait_ms),
            Self::RoomNotFound
            | Self::RoomExists
            | Self::RoomArchived
            | Self::AliasRequired
            | Self::NotAPair
            | Self::NotMember
            | Self::AlreadyMember
            | Self::Forbidden
            | Self::KindForbids
            | Self::NoSuchMember
            | Self::UserBanned
            | Self::TooManyBans
            | Self::WordNotAllowed
            | Self::LinkNotAllowed
            | Self::TooManyMutes
            | Self::TooManyRights
            | Self::Blocked
            | Self::TooManyBlocks
            | Self::EndsTooSoon
            | Self::LastOwner
            | Self::RoomFull
            | Self::MessageNotFound
            | Self::MessageDeleted
            | Self::NotAuthor
            | Self::TooManyEdits
            | Self::EditsHidden
            | Self::TooManyMentions
            | Self::TooManyReactions
            | Self::TooManyPins
            | Self::ContentSize
            | Self::FileNotFound
            | Self::TooManyAttachments
            | Self::ReportNotFound
            | Self::DocumentNotFound
            | Self::DocumentSize
            | Self::TooManyDocuments
            | Self::TooManyIndexes
            | Self::NotANumber
            | Self::NotAPicture
            | Self::NotThereYet
            | Self::ClientIdReused => None,
        }
    }

    /// The code by which programs know this refusal. It never changes its meaning.
    pub fn code(self) -> &'static str {
        match self {
            Self::RoomNotFound => "room_not_found",
            Self::RoomExists => "room_exists",
            Self::RoomArchived => "room_archived",
            Self::AliasRequired => "alias_required",
            Self::NotAPair => "not_a_pair",
            Self::NotMember => "not_member",
            Self::AlreadyMember => "already_member",
            Self::Forbidden => "forbidden",
            Self::KindForbids => "kind_forbids",
            Self::NoSuchMember => "no_such_member",
            Self::Banned { .. } => "banned",
            Self::UserBanned => "user_banned",
            Self::TooManyBans => "too_many_bans",
            Self::Muted { .. } => "muted",
            Self::SlowMode { .. } => "slow_mode",
            Self::WordNotAllowed => "word_not_allowed",
            Self::LinkNotAllowed => "link_not_allowed",
            Self::TooManyMutes => "too_many_mutes",
            Self::TooManyRights => "too_many_rights",
            Self::Blocked => "blocked",
            Self::TooManyBlocks => "too_many_blocks",
            Self::EndsTooSoon => "ends_too_soon",
            Self::LastOwner => "last_owner",
            Self::RoomFull => "room_full",
            Self::MessageNotFound => "message_not_found",
            Self::MessageDeleted => "message_deleted",
            Self::NotAuthor => "not_author",
            Self::TooManyEdits => "too_many_edits",
            Self::EditsHidden => "edits_hidden",
            Self::TooManyMentions => "too_many_mentions",
            Self::TooManyReactions => "too_many_reactions",
            Self::TooManyPins => "too_many_pins",
            Self::ContentSize => "content_size",
            Self::FileNotFound => "file_not_found",
            Self::TooManyAttachments => "too_many_attachments",
            Self::ReportNotFound => "report_not_found",
            Self::DocumentNotFound => "document_not_found",
            Self::DocumentSize => "document_size",
            Self::TooManyDocuments => "too_many_documents",
            Self::TooManyIndexes => "too_many_indexes",
            Self::NotANumber => "not_a_number",
            Self::NotAPicture => "not_a_picture",
            Self::NotThereYet => "not_there_yet",
            Self::ClientIdReused => "client_id_reused",
        }
    }
}
