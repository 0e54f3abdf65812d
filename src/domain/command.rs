//! What is asked. Commands are imperative; what they lead to is in [`super::event`].

use std::collections::BTreeSet;
use std::sync::Arc;

use super::document::Write;
use super::event::{Audited, Reported};
use super::policy::History;
use super::recent::fnv;
use super::room::Settings;
use super::{
    Alias, Attachment, Attachments, Content, Deed, Emoji, FileId, Name, Num, Position, RecordId, Rights, Role, RoomId,
    RoomKind, RulesChange, Timestamp, UserId,
};

/// What somebody asks of a room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    Create(Create),
    Update(Update),
    Archive,
    Join,
    Leave,
    Invite {
        user: UserId,
        role: Role,
    },
    Kick {
        user: UserId,
        reason: Option<Name>,
    },
    ChangeRole {
        user: UserId,
        role: Role,
    },
    /// What is decided about a member takes the place of what was.
    ChangeRights {
        user: UserId,
        rights: Rights,
    },
    /// Changes what may not be said.
    ChangeRules(RulesChange),
    /// Of whoever it is, member or not; without `until` for good.
    Ban {
        user: UserId,
        until: Option<Timestamp>,
        reason: Option<Name>,
    },
    Unban {
        user: UserId,
    },
    /// Of a member; without `until` for good.
    Mute {
        user: UserId,
        until: Option<Timestamp>,
    },
    Unmute {
        user: UserId,
    },
    /// The other one of a direct room: neither of the two says anything more in it.
    Block {
        user: UserId,
    },
    Unblock {
        user: UserId,
    },
    /// `mentions` are members; in any order, and again as often as one likes.
    Post {
        content: Content,
        reply_to: Option<RecordId>,
        mentions: Vec<UserId>,
        attachments: Vec<Attach>,
    },
    /// Posts what was said elsewhere.
    Forward {
        source: Source,
        reply_to: Option<RecordId>,
        mentions: Vec<UserId>,
    },
    Edit {
        message: RecordId,
        content: Content,
        mentions: Vec<UserId>,
    },
    Delete {
        message: RecordId,
    },
    React {
        message: RecordId,
        emoji: Emoji,
    },
    Unreact {
        message: RecordId,
        emoji: Emoji,
    },
    Pin {
        message: RecordId,
    },
    Unpin {
        message: RecordId,
    },
    /// Lets go of the records up to this one, which is of that time, where the room keeps none for so long. The server's
    /// own; the operator may have decided how long rooms keep anything.
    Trim {
        until: Position,
        at: Timestamp,
        operator: Option<u64>,
    },
    /// Of a collection: changes documents. Who writes is not who asks for it but who the command says.
    Write(Arc<Write>),
    /// Of an audit room: writes down what was decided elsewhere. The server asks this, and nobody else.
    Audit(Audit),
    /// Of a tenant's audit room: writes down what was decided there. The server asks this for who has decided it.
    Administer(Administer),
    /// Of a room that is moderated: its audit room is told from now on who reads it. The server asks this.
    Watch,
    /// Of an audit room: takes a report. Whoever reports asks it by way of the server.
    Report(Report),
    /// Of an audit room.
    ResolveReport {
        report: RecordId,
        note: Option<Name>,
        found: Option<Found>,
    },
}

/// A report, and whether it is known that the user has reported the message before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    pub reported: Reported,
    pub before: bool,
}

/// That there is such a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    pub resolved: bool,
}

/// What an audit room is to write down.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Audit {
    /// Begins the room, where there is none yet.
    pub begin: Option<Begin>,
    /// From now on nobody else reads it.
    pub readers: Option<Readers>,
    /// In the order of their positions. Whoever reads more by one of them is let in before it; no two let in the same.
    pub decisions: Vec<Decision>,
}

/// What has been decided in a tenant, and who decides there from then on, or does no longer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Administer {
    /// Nothing, where somebody has only come in.
    pub deed: Option<Deed>,
    pub reading: Option<Reading>,
}

impl Administer {
    /// Whether somebody does no longer.
    pub fn lets_go(&self) -> bool {
        self.reading.as_ref().is_some_and(|reading| !reading.reads)
    }
}

/// Who reads what is decided in a room.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Readers {
    pub now: BTreeSet<UserId>,
    /// Who has seen to it himself that he reads it no more, as far as that is known.
    pub left: BTreeSet<UserId>,
}

/// What a new audit room is to be. `num` has been reserved in the tenant's directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Begin {
    pub num: Num,
    /// The room that it is about; that of a tenant is about none.
    pub audits: Option<RoomId>,
    pub readers: Vec<UserId>,
}

/// What was decided, and who reads of such from then on, or does no longer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    pub audited: Audited,
    pub reading: Option<Reading>,
}

impl Decision {
    /// Who does no longer.
    pub fn loses(&self) -> Option<&Reading> {
        self.reading.as_ref().filter(|reading| !reading.reads)
    }
}

/// Whether a user reads what is decided in a room, or in a tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reading {
    pub user: UserId,
    pub reads: bool,
}

/// What is to change of a room's settings: what is `None` stays as it is; a name that is `Some(None)` is taken away.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Update {
    pub name: Option<Option<Name>>,
    pub edit_history: Option<bool>,
    pub slow_mode_ms: Option<u32>,
    pub history: Option<History>,
    pub keep_ms: Option<u64>,
}

impl Update {
    /// What the settings are with it.
    pub fn of(self, before: &Settings) -> Settings {
        let Self { name, edit_history, slow_mode_ms, history, keep_ms } = self;
        Settings {
            name: name.unwrap_or_else(|| before.name.clone()),
            edit_history: edit_history.unwrap_or(before.edit_history),
            slow_mode_ms: slow_mode_ms.unwrap_or(before.slow_mode_ms),
            history: history.unwrap_or(before.history),
            keep_ms: keep_ms.unwrap_or(before.keep_ms),
        }
    }
}

/// What a new room is to be. `num` and `alias` have been reserved in the tenant's directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Create {
    pub kind: RoomKind,
    pub num: Num,
    pub alias: Option<Alias>,
    pub name: Option<Name>,
    /// Members besides the creator, with their roles: the other one of a direct room, the first of a group.
    pub members: Vec<(UserId, Role)>,
}

/// A message that is forwarded, of this room or another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    pub room: RoomId,
    pub message: RecordId,
    /// `None` where there is none that the sender may read.
    pub original: Option<Original>,
}

/// A file that is to be attached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attach {
    pub file: FileId,
    /// `None` where there is none that the sender may attach in this room.
    pub found: Option<Attachment>,
}

/// What a message says, who said it first, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Original {
    pub content: Content,
    pub attachments: Attachments,
    pub by: UserId,
    pub at: Timestamp,
}

impl Source {
    /// A number by which a repetition is told from another message, and which does not lead back to this one.
    pub fn tag(&self) -> u64 {
        fnv(self.room.0.as_bytes().iter().chain(self.message.0.as_bytes()).copied())
    }
}

impl Command {
    /// A message that answers nothing and mentions nobody.
    pub fn post(content: Content) -> Self {
        Self::Post { content, reply_to: None, mentions: Vec::new(), attachments: Vec::new() }
    }

    /// What it is called.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Update(_) => "update",
            Self::Archive => "archive",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Invite { .. } => "invite",
            Self::Kick { .. } => "kick",
            Self::ChangeRole { .. } => "role",
            Self::ChangeRights { .. } => "rights",
            Self::ChangeRules(_) => "rules_update",
            Self::Ban { .. } => "ban",
            Self::Unban { .. } => "unban",
            Self::Mute { .. } => "mute",
            Self::Unmute { .. } => "unmute",
            Self::Block { .. } => "block",
            Self::Unblock { .. } => "unblock",
            Self::Post { .. } | Self::Forward { .. } => "post",
            Self::Edit { .. } => "edit",
            Self::Delete { .. } => "delete",
            Self::React { .. } => "react",
            Self::Unreact { .. } => "unreact",
            Self::Pin { .. } => "pin",
            Self::Unpin { .. } => "unpin",
            Self::Trim { .. } => "trim",
            Self::Write(_) => "write",
            Self::Audit(_) => "audit",
            Self::Administer(_) => "administer",
            Self::Watch => "watch",
            Self::Report(_) => "report",
            Self::ResolveReport { .. } => "resolve_report",
        }
    }

    /// Whether it ends somebody's membership, or may.
    pub fn removes(&self) -> bool {
        match self {
            Self::Leave | Self::Kick { .. } | Self::Ban { .. } | Self::Audit(_) => true,
            Self::Administer(administer) => administer.lets_go(),
            Self::Create(_)
            | Self::Update(_)
            | Self::Archive
            | Self::Join
            | Self::Invite { .. }
            | Self::ChangeRole { .. }
            | Self::ChangeRights { .. }
            | Self::ChangeRules(_)
            | Self::Unban { .. }
            | Self::Mute { .. }
            | Self::Unmute { .. }
            | Self::Block { .. }
            | Self::Unblock { .. }
            | Self::Post { .. }
            | Self::Forward { .. }
            | Self::Edit { .. }
            | Self::Delete { .. }
            | Self::React { .. }
            | Self::Unreact { .. }
            | Self::Pin { .. }
            | Self::Unpin { .. }
            | Self::Trim { .. }
            | Self::Write(_)
            | Self::Watch
            | Self::Report(_)
            | Self::ResolveReport { .. } => false,
        }
    }

    /// Whether it takes away more than it brings, and is carried out where there is hardly any space left.
    pub fn frees(&self) -> bool {
        matches!(self, Self::Delete { .. } | Self::Trim { .. })
    }

    /// Whether by it `user`, who asks for it, leaves the room or its audit room, or may.
    pub fn leaves(&self, user: &UserId) -> bool {
        match self {
            Self::ChangeRole { user: whose, .. } | Self::ChangeRights { user: whose, .. } => whose == user,
            command => *command == Self::Leave,
        }
    }

    /// Whether it takes from somebody the right to read what is decided in the room, or may.
    pub fn narrows(&self) -> bool {
        self.removes() || matches!(self, Self::ChangeRole { .. } | Self::ChangeRights { .. })
    }

    /// Whether the room has to know the reactions of who asks before it decides.
    pub fn reacts(&self) -> bool {
        matches!(self, Self::React { .. } | Self::Unreact { .. })
    }

    /// The message this command is about, which the room has to know before it decides.
    pub fn target(&self) -> Option<RecordId> {
        match self {
            Self::Edit { message, .. }
            | Self::Delete { message }
            | Self::React { message, .. }
            | Self::Unreact { message, .. }
            | Self::Pin { message }
            | Self::Unpin { message } => Some(*message),
            Self::Post { reply_to, .. } | Self::Forward { reply_to, .. } => *reply_to,
            Self::Create(_)
            | Self::Update(_)
            | Self::Archive
            | Self::Join
            | Self::Leave
            | Self::Invite { .. }
            | Self::Kick { .. }
            | Self::ChangeRole { .. }
            | Self::ChangeRights { .. }
            | Self::ChangeRules(_)
            | Self::Ban { .. }
            | Self::Unban { .. }
            | Self::Mute { .. }
            | Self::Unmute { .. }
            | Self::Block { .. }
            | Self::Unblock { .. }
            | Self::Trim { .. }
            | Self::Write(_)
            | Self::Audit(_)
            | Self::Administer(_)
            | Self::Watch
            | Self::Report(_)
            | Self::ResolveReport { .. } => None,
        }
    }
}
