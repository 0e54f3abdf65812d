//! What happened, as a record holds it: the shapes of events, and back.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::damage;
use super::deed::StoredDeed;
use super::value::StoredFields;
use super::words::{
    Id, StoredAudience, StoredHistory, StoredKind, StoredReached, StoredRole, StoredRules, account, alias, emoji,
    file_name, media_type, name, user,
};
use crate::domain::command::{Decision, Reading};
use crate::domain::document::{CollectionName, Whose};
use crate::domain::inbox::Settings;
use crate::domain::room::Settings as RoomSettings;
use crate::domain::{
    Alias, Attachment, Attachments, Audited, Capabilities, Content, DirectoryEvent, Epoch, Event, FileId, Forwarded,
    InReplyTo, InboxEvent, Mentions, Name, Num, Position, RecordId, Reported, Rights, RoomEvent, RoomId, Seq,
    Timestamp, UserId,
};
use crate::store::StoreError;

/// The names are on disk in every record, hence short.
#[derive(Serialize, Deserialize)]
pub enum StoredEvent<'a> {
    #[serde(rename = "rc")]
    RoomCreated {
        kind: StoredKind,
        #[serde(borrow)]
        alias: Option<&'a str>,
        num: u64,
        name: Option<&'a str>,
        /// Records that were written before there were audit rooms have none.
        #[serde(default)]
        audits: Option<Id>,
    },
    #[serde(rename = "ru")]
    RoomUpdated {
        name: Option<&'a str>,
        /// Records that were written before there was a choice have none.
        #[serde(default)]
        edit_history: bool,
        #[serde(default)]
        slow_mode_ms: u32,
        #[serde(default)]
        history: StoredHistory,
        #[serde(default)]
        keep_ms: u64,
    },
    #[serde(rename = "ra")]
    RoomArchived,
    #[serde(rename = "dc")]
    DocumentCreated {
        #[serde(borrow)]
        whose: StoredWhose<'a>,
        fields: StoredFields,
    },
    #[serde(rename = "du")]
    DocumentUpdated { whose: StoredWhose<'a>, document: Id, created: i64, fields: StoredFields },
    #[serde(rename = "dd")]
    DocumentDeleted { whose: StoredWhose<'a>, document: Id },
    #[serde(rename = "mj")]
    MemberJoined { user: &'a str, role: StoredRole },
    #[serde(rename = "mi")]
    MemberInvited { user: &'a str, role: StoredRole },
    #[serde(rename = "ml")]
    MemberLeft { user: &'a str, joined: Id },
    #[serde(rename = "mk")]
    MemberKicked { user: &'a str, joined: Id, reason: Option<&'a str> },
    #[serde(rename = "mr")]
    RoleChanged { user: &'a str, role: StoredRole, was: StoredRole },
    /// As [`Capabilities::bits`].
    #[serde(rename = "mg")]
    RightsChanged { user: &'a str, allow: u32, deny: u32, may: u32 },
    #[serde(rename = "rr")]
    RulesChanged(StoredRules<'a>),
    #[serde(rename = "mb")]
    MemberBanned { user: &'a str, joined: Option<Id>, invited: bool, until: Option<i64>, reason: Option<&'a str> },
    #[serde(rename = "mu")]
    MemberUnbanned { user: &'a str },
    #[serde(rename = "mm")]
    MemberMuted { user: &'a str, until: Option<i64> },
    #[serde(rename = "mn")]
    MemberUnmuted { user: &'a str },
    #[serde(rename = "mx")]
    MemberBlocked { user: &'a str },
    #[serde(rename = "my")]
    MemberUnblocked { user: &'a str },
    #[serde(rename = "p")]
    MessagePosted { text: Option<&'a str>, body: Option<&'a str> },
    #[serde(rename = "e")]
    MessageEdited { message: Id, by: &'a str, text: Option<&'a str>, body: Option<&'a str> },
    /// Of a message that mentions nobody and answers nothing, as most are, these members take no place.
    #[serde(rename = "q")]
    MessagePostedTo {
        text: Option<&'a str>,
        body: Option<&'a str>,
        reply: Option<StoredReply<'a>>,
        mentions: Vec<&'a str>,
    },
    #[serde(rename = "w")]
    MessageForwarded {
        text: Option<&'a str>,
        body: Option<&'a str>,
        reply: Option<StoredReply<'a>>,
        mentions: Vec<&'a str>,
        by: &'a str,
        at: i64,
        source: u64,
    },
    /// Of whatever kind the message is otherwise; most have no attachments.
    #[serde(rename = "y")]
    MessageAttached {
        text: Option<&'a str>,
        body: Option<&'a str>,
        reply: Option<StoredReply<'a>>,
        mentions: Vec<&'a str>,
        forwarded: Option<StoredForwarded<'a>>,
        attachments: Vec<StoredAttachment<'a>>,
    },
    #[serde(rename = "f")]
    MessageEditedTo { message: Id, by: &'a str, text: Option<&'a str>, body: Option<&'a str>, mentions: Vec<&'a str> },
    #[serde(rename = "d")]
    MessageDeleted { message: Id, by: &'a str },
    #[serde(rename = "ea")]
    ReactionAdded { message: Id, by: &'a str, emoji: &'a str, count: u32 },
    #[serde(rename = "er")]
    ReactionRemoved { message: Id, by: &'a str, emoji: &'a str, count: u32 },
    #[serde(rename = "pa")]
    MessagePinned { message: Id, by: &'a str },
    #[serde(rename = "pr")]
    MessageUnpinned { message: Id, by: &'a str },
    #[serde(rename = "x")]
    MessageErased,
    #[serde(rename = "ht")]
    HistoryTrimmed { epoch: u64, seq: u64 },
    #[serde(rename = "au")]
    Audited { room: Id, epoch: u64, seq: u64, id: Id, at: i64, by: &'a str, decided: Box<Self> },
    #[serde(rename = "ad")]
    Administered(StoredDeed<'a>),
    #[serde(rename = "re")]
    Reported {
        room: Id,
        message: Id,
        by: &'a str,
        at: i64,
        text: Option<&'a str>,
        body: Option<&'a str>,
        attachments: Vec<StoredAttachment<'a>>,
        reason: Option<&'a str>,
    },
    #[serde(rename = "rs")]
    ReportResolved { report: Id, note: Option<&'a str> },
    #[serde(rename = "dr")]
    RoomReserved { room: Id, num: u64, alias: Option<&'a str> },
    #[serde(rename = "dl")]
    NumsLeased { before: u64 },
    #[serde(rename = "iu")]
    EntryUpdated { room: Id, delivered: StoredReached, read: StoredReached },
    #[serde(rename = "is")]
    SettingsUpdated {
        private_reading: bool,
        /// Records that were written before there was a choice have none.
        #[serde(default)]
        contacts: StoredAudience,
        #[serde(default)]
        invisible: bool,
    },
    #[serde(rename = "ip")]
    ProfileUpdated,
    #[serde(rename = "ib")]
    UserBlocked { user: &'a str, blocked: bool },
    #[serde(rename = "ih")]
    MessageHidden { room: Id, message: Id, hidden: bool },
}

/// What a room owes its audit room.
#[derive(Serialize, Deserialize)]
pub struct StoredDecision<'a> {
    #[serde(borrow)]
    audited: StoredEvent<'a>,
    reading: Option<(&'a str, bool)>,
}

impl<'a> StoredDecision<'a> {
    pub fn of(Decision { audited, reading }: &'a Decision) -> Self {
        let reading = reading.as_ref().map(|reading| (reading.user.as_str(), reading.reads));
        Self { audited: StoredEvent::of_audited(audited), reading }
    }

    pub fn into_domain(self) -> Result<Decision, StoreError> {
        let Event::Room(RoomEvent::Audited(audited)) = self.audited.into_domain()? else {
            return Err(damage("what a room owes its audit room is no decision"));
        };
        let reading = self.reading.map(|(who, reads)| Ok::<_, StoreError>(Reading { user: user(who)?, reads }));
        Ok(Decision { audited: *audited, reading: reading.transpose()? })
    }
}

/// In which collection a document is, and whose it is.
#[derive(Serialize, Deserialize)]
pub struct StoredWhose<'a> {
    collection: &'a str,
    owner: &'a str,
    account: &'a str,
}

impl<'a> StoredWhose<'a> {
    fn of(Whose { collection, owner, account }: &'a Whose) -> Self {
        Self { collection: collection.as_str(), owner: owner.as_str(), account: account.as_str() }
    }

    fn into_domain(self) -> Result<Box<Whose>, StoreError> {
        let collection = CollectionName::new(self.collection).map_err(damage)?;
        Ok(Box::new(Whose { collection, owner: user(self.owner)?, account: account(self.account)? }))
    }
}

#[derive(Serialize, Deserialize)]
pub struct StoredReply<'a> {
    message: Id,
    by: &'a str,
    thread: Id,
}

#[derive(Serialize, Deserialize)]
pub struct StoredForwarded<'a> {
    by: &'a str,
    at: i64,
    source: u64,
}

#[derive(Serialize, Deserialize)]
pub struct StoredAttachment<'a> {
    id: Id,
    name: &'a str,
    media: &'a str,
    size: u64,
}

impl<'a> StoredEvent<'a> {
    pub fn of(event: &'a Event) -> Self {
        match event {
            Event::Room(event) => Self::of_room(event),
            Event::Directory(DirectoryEvent::RoomReserved { room, num, alias }) => {
                Self::RoomReserved { room: Id(room.0), num: num.0, alias: alias.as_ref().map(Alias::as_str) }
            }
            Event::Directory(DirectoryEvent::NumsLeased { before }) => Self::NumsLeased { before: before.0 },
            Event::Inbox(InboxEvent::EntryUpdated { room, delivered, read }) => {
                Self::EntryUpdated { room: Id(room.0), delivered: (*delivered).into(), read: (*read).into() }
            }
            Event::Inbox(InboxEvent::SettingsUpdated(settings)) => {
                let Settings { private_reading, contacts, invisible } = *settings;
                Self::SettingsUpdated { private_reading, contacts: contacts.into(), invisible }
            }
            Event::Inbox(InboxEvent::ProfileUpdated) => Self::ProfileUpdated,
            Event::Inbox(InboxEvent::UserBlocked { user, blocked }) => {
                Self::UserBlocked { user: user.as_str(), blocked: *blocked }
            }
            Event::Inbox(InboxEvent::MessageHidden { room, message, hidden }) => {
                Self::MessageHidden { room: Id(room.0), message: Id(message.0), hidden: *hidden }
            }
        }
    }

    fn of_room(event: &'a RoomEvent) -> Self {
        match event {
            RoomEvent::RoomCreated { kind, alias, num, name, audits } => Self::RoomCreated {
                kind: (*kind).into(),
                alias: alias.as_ref().map(Alias::as_str),
                num: num.0,
                name: name.as_ref().map(Name::as_str),
                audits: audits.map(|room| Id(room.0)),
            },
            RoomEvent::RoomUpdated(RoomSettings { name, edit_history, slow_mode_ms, history, keep_ms }) => {
                Self::RoomUpdated {
                    name: name.as_ref().map(Name::as_str),
                    edit_history: *edit_history,
                    slow_mode_ms: *slow_mode_ms,
                    history: (*history).into(),
                    keep_ms: *keep_ms,
                }
            }
            RoomEvent::RoomArchived => Self::RoomArchived,
            RoomEvent::DocumentCreated { whose, fields } => {
                Self::DocumentCreated { whose: StoredWhose::of(whose), fields: StoredFields(Arc::clone(fields)) }
            }
            RoomEvent::DocumentUpdated { whose, document, created, fields } => Self::DocumentUpdated {
                whose: StoredWhose::of(whose),
                document: Id(document.0),
                created: created.0,
                fields: StoredFields(Arc::clone(fields)),
            },
            RoomEvent::DocumentDeleted { whose, document } => {
                Self::DocumentDeleted { whose: StoredWhose::of(whose), document: Id(document.0) }
            }
            RoomEvent::MemberJoined { user, role } => Self::MemberJoined { user: user.as_str(), role: (*role).into() },
            RoomEvent::MemberInvited { user, role } => {
                Self::MemberInvited { user: user.as_str(), role: (*role).into() }
            }
            RoomEvent::MemberLeft { user, joined } => Self::MemberLeft { user: user.as_str(), joined: Id(joined.0) },
            RoomEvent::MemberKicked { user, joined, reason } => Self::MemberKicked {
                user: user.as_str(),
                joined: Id(joined.0),
                reason: reason.as_ref().map(Name::as_str),
            },
            RoomEvent::RoleChanged { user, role, was } => {
                Self::RoleChanged { user: user.as_str(), role: (*role).into(), was: (*was).into() }
            }
            RoomEvent::RulesChanged(rules) => Self::RulesChanged(StoredRules::from(&**rules)),
            RoomEvent::RightsChanged { user, rights: Rights { allow, deny }, may } => {
                Self::RightsChanged { user: user.as_str(), allow: allow.bits(), deny: deny.bits(), may: may.bits() }
            }
            RoomEvent::MemberBanned { user, joined, invited, until, reason } => Self::MemberBanned {
                user: user.as_str(),
                joined: joined.map(|joined| Id(joined.0)),
                invited: *invited,
                until: until.map(|until| until.0),
                reason: reason.as_ref().map(Name::as_str),
            },
            RoomEvent::MemberUnbanned { user } => Self::MemberUnbanned { user: user.as_str() },
            RoomEvent::MemberMuted { user, until } => {
                Self::MemberMuted { user: user.as_str(), until: until.map(|until| until.0) }
            }
            RoomEvent::MemberUnmuted { user } => Self::MemberUnmuted { user: user.as_str() },
            RoomEvent::MemberBlocked { user } => Self::MemberBlocked { user: user.as_str() },
            RoomEvent::MemberUnblocked { user } => Self::MemberUnblocked { user: user.as_str() },
            RoomEvent::MessagePosted { content, reply, mentions, forwarded, attachments } => {
                let (text, body) = (content.text.as_deref(), content.body.as_deref());
                if reply.is_none() && mentions.is_empty() && forwarded.is_none() && attachments.is_empty() {
                    return Self::MessagePosted { text, body };
                }
                let reply = reply.as_deref().map(|InReplyTo { message, by, thread }| StoredReply {
                    message: Id(message.0),
                    by: by.as_str(),
                    thread: Id(thread.0),
                });
                let mentions = names(mentions);
                if !attachments.is_empty() {
                    let forwarded = forwarded.as_deref().map(|Forwarded { by, at, source }| StoredForwarded {
                        by: by.as_str(),
                        at: at.0,
                        source: *source,
                    });
                    let attachments = attachments.iter().map(StoredAttachment::of).collect();
                    return Self::MessageAttached { text, body, reply, mentions, forwarded, attachments };
                }
                match forwarded.as_deref() {
                    Some(Forwarded { by, at, source }) => Self::MessageForwarded {
                        text,
                        body,
                        reply,
                        mentions,
                        by: by.as_str(),
                        at: at.0,
                        source: *source,
                    },
                    None => Self::MessagePostedTo { text, body, reply, mentions },
                }
            }
            RoomEvent::MessageEdited { message, by, content, mentions } => {
                let (message, by) = (Id(message.0), by.as_str());
                let (text, body) = (content.text.as_deref(), content.body.as_deref());
                if mentions.is_empty() {
                    return Self::MessageEdited { message, by, text, body };
                }
                Self::MessageEditedTo { message, by, text, body, mentions: names(mentions) }
            }
            RoomEvent::MessageDeleted { message, by } => {
                Self::MessageDeleted { message: Id(message.0), by: by.as_str() }
            }
            RoomEvent::ReactionAdded { message, by, emoji, count } => {
                Self::ReactionAdded { message: Id(message.0), by: by.as_str(), emoji: emoji.as_str(), count: *count }
            }
            RoomEvent::ReactionRemoved { message, by, emoji, count } => {
                Self::ReactionRemoved { message: Id(message.0), by: by.as_str(), emoji: emoji.as_str(), count: *count }
            }
            RoomEvent::MessagePinned { message, by } => Self::MessagePinned { message: Id(message.0), by: by.as_str() },
            RoomEvent::MessageUnpinned { message, by } => {
                Self::MessageUnpinned { message: Id(message.0), by: by.as_str() }
            }
            RoomEvent::MessageErased => Self::MessageErased,
            RoomEvent::HistoryTrimmed { until } => Self::HistoryTrimmed { epoch: until.epoch.0, seq: until.seq.0 },
            RoomEvent::Audited(audited) => Self::of_audited(audited),
            RoomEvent::Administered(deed) => Self::Administered(StoredDeed::of(deed)),
            RoomEvent::Reported(reported) => Self::Reported {
                room: Id(reported.room.0),
                message: Id(reported.message.0),
                by: reported.by.as_str(),
                at: reported.at.0,
                text: reported.content.text.as_deref(),
                body: reported.content.body.as_deref(),
                attachments: reported.attachments.iter().map(StoredAttachment::of).collect(),
                reason: reported.reason.as_ref().map(Name::as_str),
            },
            RoomEvent::ReportResolved { report, note } => {
                Self::ReportResolved { report: Id(report.0), note: note.as_ref().map(Name::as_str) }
            }
        }
    }

    fn of_audited(Audited { room, position, id, at, by, decided }: &'a Audited) -> Self {
        Self::Audited {
            room: Id(room.0),
            epoch: position.epoch.0,
            seq: position.seq.0,
            id: Id(id.0),
            at: at.0,
            by: by.as_str(),
            decided: Box::new(Self::of_room(decided)),
        }
    }

    pub fn into_domain(self) -> Result<Event, StoreError> {
        Ok(Event::Room(match self {
            Self::RoomCreated { kind, alias: text, num, name: called, audits } => {
                let (alias, name, audits) = (alias(text)?, name(called)?, audits.map(|room| RoomId(room.0)));
                RoomEvent::RoomCreated { kind: kind.into(), alias, num: Num(num), name, audits }
            }
            Self::RoomUpdated { name: called, edit_history, slow_mode_ms, history, keep_ms } => {
                let (name, history) = (name(called)?, history.into());
                RoomEvent::RoomUpdated(RoomSettings { name, edit_history, slow_mode_ms, history, keep_ms })
            }
            Self::RoomArchived => RoomEvent::RoomArchived,
            Self::DocumentCreated { whose, fields } => {
                RoomEvent::DocumentCreated { whose: whose.into_domain()?, fields: fields.0 }
            }
            Self::DocumentUpdated { whose, document, created, fields } => RoomEvent::DocumentUpdated {
                whose: whose.into_domain()?,
                document: RecordId(document.0),
                created: Timestamp(created),
                fields: fields.0,
            },
            Self::DocumentDeleted { whose, document } => {
                RoomEvent::DocumentDeleted { whose: whose.into_domain()?, document: RecordId(document.0) }
            }
            Self::MemberJoined { user: who, role } => RoomEvent::MemberJoined { user: user(who)?, role: role.into() },
            Self::MemberInvited { user: who, role } => RoomEvent::MemberInvited { user: user(who)?, role: role.into() },
            Self::MemberLeft { user: who, joined } => {
                RoomEvent::MemberLeft { user: user(who)?, joined: RecordId(joined.0) }
            }
            Self::MemberKicked { user: who, joined, reason } => {
                RoomEvent::MemberKicked { user: user(who)?, joined: RecordId(joined.0), reason: name(reason)? }
            }
            Self::RoleChanged { user: who, role, was } => {
                RoomEvent::RoleChanged { user: user(who)?, role: role.into(), was: was.into() }
            }
            Self::RulesChanged(rules) => RoomEvent::RulesChanged(Box::new(rules.rules()?)),
            Self::RightsChanged { user: who, allow, deny, may } => {
                let (allow, deny) = (Capabilities::of_bits(allow), Capabilities::of_bits(deny));
                let may = Capabilities::of_bits(may);
                RoomEvent::RightsChanged { user: user(who)?, rights: Rights { allow, deny }, may }
            }
            Self::MemberBanned { user: who, joined, invited, until, reason } => RoomEvent::MemberBanned {
                user: user(who)?,
                joined: joined.map(|joined| RecordId(joined.0)),
                invited,
                until: until.map(Timestamp),
                reason: name(reason)?,
            },
            Self::MemberUnbanned { user: who } => RoomEvent::MemberUnbanned { user: user(who)? },
            Self::MemberMuted { user: who, until } => {
                RoomEvent::MemberMuted { user: user(who)?, until: until.map(Timestamp) }
            }
            Self::MemberUnmuted { user: who } => RoomEvent::MemberUnmuted { user: user(who)? },
            Self::MemberBlocked { user: who } => RoomEvent::MemberBlocked { user: user(who)? },
            Self::MemberUnblocked { user: who } => RoomEvent::MemberUnblocked { user: user(who)? },
            Self::MessagePosted { text, body } => RoomEvent::posted(content(text, body)),
            Self::MessagePostedTo { text, body, reply, mentions } => {
                let (content, reply, mentions) = (content(text, body), in_reply_to(reply)?, users(mentions)?);
                let attachments = Attachments::default();
                RoomEvent::MessagePosted { content, reply, mentions, forwarded: None, attachments }
            }
            Self::MessageAttached { text, body, reply, mentions, forwarded, attachments } => {
                let (content, reply, mentions) = (content(text, body), in_reply_to(reply)?, users(mentions)?);
                let forwarded = forwarded.map(StoredForwarded::into_domain).transpose()?;
                let attachments = attachments.into_iter().map(StoredAttachment::into_domain);
                let attachments = attachments.collect::<Result<Attachments, _>>()?;
                RoomEvent::MessagePosted { content, reply, mentions, forwarded, attachments }
            }
            Self::MessageForwarded { text, body, reply, mentions, by, at, source } => {
                let (content, reply, mentions) = (content(text, body), in_reply_to(reply)?, users(mentions)?);
                let forwarded = Some(StoredForwarded { by, at, source }.into_domain()?);
                let attachments = Attachments::default();
                RoomEvent::MessagePosted { content, reply, mentions, forwarded, attachments }
            }
            Self::MessageEdited { message, by, text, body } => RoomEvent::MessageEdited {
                message: RecordId(message.0),
                by: user(by)?,
                content: content(text, body),
                mentions: Mentions::default(),
            },
            Self::MessageEditedTo { message, by, text, body, mentions } => RoomEvent::MessageEdited {
                message: RecordId(message.0),
                by: user(by)?,
                content: content(text, body),
                mentions: users(mentions)?,
            },
            Self::MessageDeleted { message, by } => {
                RoomEvent::MessageDeleted { message: RecordId(message.0), by: user(by)? }
            }
            Self::ReactionAdded { message, by, emoji: of, count } => {
                let (message, by, emoji) = (RecordId(message.0), user(by)?, emoji(of)?);
                RoomEvent::ReactionAdded { message, by, emoji, count }
            }
            Self::ReactionRemoved { message, by, emoji: of, count } => {
                let (message, by, emoji) = (RecordId(message.0), user(by)?, emoji(of)?);
                RoomEvent::ReactionRemoved { message, by, emoji, count }
            }
            Self::MessagePinned { message, by } => {
                RoomEvent::MessagePinned { message: RecordId(message.0), by: user(by)? }
            }
            Self::MessageUnpinned { message, by } => {
                RoomEvent::MessageUnpinned { message: RecordId(message.0), by: user(by)? }
            }
            Self::MessageErased => RoomEvent::MessageErased,
            Self::HistoryTrimmed { epoch, seq } => {
                RoomEvent::HistoryTrimmed { until: Position { epoch: Epoch(epoch), seq: Seq(seq) } }
            }
            Self::Audited { room, epoch, seq, id, at, by, decided } => {
                let (room, id, at, by) = (RoomId(room.0), RecordId(id.0), Timestamp(at), user(by)?);
                let Event::Room(decided) = decided.into_domain()? else {
                    return Err(damage("a decision that is none of a room"));
                };
                let position = Position { epoch: Epoch(epoch), seq: Seq(seq) };
                RoomEvent::Audited(Box::new(Audited { room, position, id, at, by, decided }))
            }
            Self::Administered(deed) => RoomEvent::Administered(Box::new(deed.into_domain()?)),
            Self::Reported { room, message, by, at, text, body, attachments, reason } => {
                let attachments = attachments.into_iter().map(StoredAttachment::into_domain);
                RoomEvent::Reported(Box::new(Reported {
                    room: RoomId(room.0),
                    message: RecordId(message.0),
                    by: user(by)?,
                    at: Timestamp(at),
                    content: content(text, body),
                    attachments: attachments.collect::<Result<Attachments, _>>()?,
                    reason: name(reason)?,
                }))
            }
            Self::ReportResolved { report, note } => {
                RoomEvent::ReportResolved { report: RecordId(report.0), note: name(note)? }
            }
            Self::RoomReserved { room, num, alias: text } => {
                let (room, num, alias) = (RoomId(room.0), Num(num), alias(text)?);
                return Ok(Event::Directory(DirectoryEvent::RoomReserved { room, num, alias }));
            }
            Self::NumsLeased { before } => {
                return Ok(Event::Directory(DirectoryEvent::NumsLeased { before: Num(before) }));
            }
            Self::EntryUpdated { room, delivered, read } => {
                let (room, delivered, read) = (RoomId(room.0), delivered.into(), read.into());
                return Ok(Event::Inbox(InboxEvent::EntryUpdated { room, delivered, read }));
            }
            Self::SettingsUpdated { private_reading, contacts, invisible } => {
                let settings = Settings { private_reading, contacts: contacts.into(), invisible };
                return Ok(Event::Inbox(InboxEvent::SettingsUpdated(settings)));
            }
            Self::ProfileUpdated => return Ok(Event::Inbox(InboxEvent::ProfileUpdated)),
            Self::UserBlocked { user: who, blocked } => {
                return Ok(Event::Inbox(InboxEvent::UserBlocked { user: user(who)?, blocked }));
            }
            Self::MessageHidden { room, message, hidden } => {
                let (room, message) = (RoomId(room.0), RecordId(message.0));
                return Ok(Event::Inbox(InboxEvent::MessageHidden { room, message, hidden }));
            }
        }))
    }
}

impl StoredForwarded<'_> {
    fn into_domain(self) -> Result<Box<Forwarded>, StoreError> {
        Ok(Box::new(Forwarded { by: user(self.by)?, at: Timestamp(self.at), source: self.source }))
    }
}

impl<'a> StoredAttachment<'a> {
    fn of(Attachment { id, name, media, size }: &'a Attachment) -> Self {
        Self { id: Id(id.0), name: name.as_str(), media: media.as_str(), size: *size }
    }

    fn into_domain(self) -> Result<Attachment, StoreError> {
        let (name, media) = (file_name(self.name)?, media_type(self.media)?);
        Ok(Attachment { id: FileId(self.id.0), name, media, size: self.size })
    }
}

fn names(users: &[UserId]) -> Vec<&str> {
    users.iter().map(UserId::as_str).collect()
}

fn users(names: Vec<&str>) -> Result<Mentions, StoreError> {
    names.into_iter().map(user).collect()
}

fn in_reply_to(reply: Option<StoredReply<'_>>) -> Result<Option<Box<InReplyTo>>, StoreError> {
    let Some(StoredReply { message, by, thread }) = reply else { return Ok(None) };
    let (message, thread) = (RecordId(message.0), RecordId(thread.0));
    Ok(Some(Box::new(InReplyTo { message, by: user(by)?, thread })))
}

fn content(text: Option<&str>, body: Option<&str>) -> Content {
    Content { text: text.map(Arc::from), body: body.map(Arc::from) }
}
