//! Stored shapes: how a record looks on disk, and back.
//!
//! A stored record is a version byte and a MessagePack array. Its position is not part of it: that is where it lies.
//! The shapes here are this module's own, so that a rename in the domain never changes a byte on disk. Decoding takes
//! whatever a disk may hold and never panics.

mod value;

use std::sync::Arc;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use self::deed::StoredDeed;
pub(super) use self::value::StoredFields;

use super::StoreError;
use crate::domain::command::{Decision, Reading};
use crate::domain::document::{CollectionName, Whose};
use crate::domain::inbox::{Reached, Settings};
use crate::domain::policy::History;
use crate::domain::room::Settings as RoomSettings;
use crate::domain::rules::Links;
use crate::domain::{
    AccountId, Alias, Attachment, Attachments, Audience, Audited, Capabilities, ClientId, Content, DirectoryEvent,
    Emoji, Epoch, Event, FileId, FileName, Forwarded, InReplyTo, InboxEvent, MediaType, Mentions, Name, Num, Position,
    Record, RecordId, Reported, Rights, Role, RoomEvent, RoomId, RoomKey, RoomKind, Rules, Seq, StreamId, TenantId,
    Timestamp, UserId,
};

mod deed;

/// The version of the shapes below. A new one gets a new number, and the old stays readable.
const VERSION: u8 = 1;

/// How deep a value is nested at most: nothing that is written here goes beyond a third of it.
const DEPTH_MAX: usize = 32;

/// Appends `record` to `out` as it lies on disk, without its position.
pub fn encode(record: &Record, out: &mut Vec<u8>) {
    let stored = StoredRecord {
        id: Id(record.id.0),
        num: record.num.0,
        at: record.at.0,
        author: record.author.as_str(),
        client_id: record.client_id.as_ref().map(ClientId::as_str),
        event: StoredEvent::of(&record.event),
    };
    out.push(VERSION);
    rmp_serde::encode::write(out, &stored).expect("writing plain values to memory does not fail");
}

/// Reads what [`encode`] wrote, as the record at `position`.
pub(super) fn decode(position: Position, bytes: &[u8]) -> Result<Record, StoreError> {
    let stored: StoredRecord = versioned(bytes)?;
    Ok(Record {
        position,
        id: RecordId(stored.id.0),
        num: Num(stored.num),
        at: Timestamp(stored.at),
        author: user(stored.author)?,
        client_id: stored.client_id.map(|text| ClientId::new(text).map_err(damage)).transpose()?,
        event: stored.event.into_domain()?,
    })
}

/// The record as it reads once its content is erased; `None` for one that has no content.
pub(super) fn erased(record: &Record) -> Option<Record> {
    match &record.event {
        Event::Room(RoomEvent::MessagePosted { .. } | RoomEvent::MessageEdited { .. }) => {
            Some(Record { event: Event::Room(RoomEvent::MessageErased), ..record.clone() })
        }
        Event::Room(
            RoomEvent::RoomCreated { .. }
            | RoomEvent::RoomUpdated(_)
            | RoomEvent::RoomArchived
            | RoomEvent::DocumentCreated { .. }
            | RoomEvent::DocumentUpdated { .. }
            | RoomEvent::DocumentDeleted { .. }
            | RoomEvent::MemberJoined { .. }
            | RoomEvent::MemberInvited { .. }
            | RoomEvent::MemberLeft { .. }
            | RoomEvent::MemberKicked { .. }
            | RoomEvent::RoleChanged { .. }
            | RoomEvent::RightsChanged { .. }
            | RoomEvent::RulesChanged(_)
            | RoomEvent::MemberBanned { .. }
            | RoomEvent::MemberUnbanned { .. }
            | RoomEvent::MemberMuted { .. }
            | RoomEvent::MemberUnmuted { .. }
            | RoomEvent::MemberBlocked { .. }
            | RoomEvent::MemberUnblocked { .. }
            | RoomEvent::MessageDeleted { .. }
            | RoomEvent::ReactionAdded { .. }
            | RoomEvent::ReactionRemoved { .. }
            | RoomEvent::MessagePinned { .. }
            | RoomEvent::MessageUnpinned { .. }
            | RoomEvent::HistoryTrimmed { .. }
            | RoomEvent::MessageErased
            | RoomEvent::Audited(_)
            | RoomEvent::Administered(_)
            | RoomEvent::Reported(_)
            | RoomEvent::ReportResolved { .. },
        )
        | Event::Directory(_)
        | Event::Inbox(_) => None,
    }
}

/// The first byte of the names of rooms' streams.
pub(super) const ROOM_STREAM: u8 = b'r';

/// A stream's name in keys and checksums. No name is the beginning of another, so that a prefix scan of one stream
/// never meets a second.
pub(super) fn stream_key(stream: &StreamId) -> Arc<[u8]> {
    let mut key = Vec::with_capacity(32);
    match stream {
        StreamId::Room(room) => {
            tenant_key(ROOM_STREAM, &room.tenant, &mut key);
            key.extend_from_slice(room.room.0.as_bytes());
        }
        StreamId::User(tenant, user) => {
            tenant_key(b'u', tenant, &mut key);
            key.push(u8::try_from(user.as_str().len()).expect("a user id has at most 128 bytes"));
            key.extend_from_slice(user.as_str().as_bytes());
        }
        StreamId::Directory(tenant) => tenant_key(b'd', tenant, &mut key),
        StreamId::Accounts(tenant) => tenant_key(b'a', tenant, &mut key),
        StreamId::Server => key.push(b's'),
        StreamId::Files => key.push(b'f'),
        StreamId::Owed => key.push(b'o'),
    }
    key.into()
}

fn tenant_key(kind: u8, tenant: &TenantId, key: &mut Vec<u8>) {
    key.push(kind);
    key.push(u8::try_from(tenant.as_str().len()).expect("a tenant id has at most 64 bytes"));
    key.extend_from_slice(tenant.as_str().as_bytes());
}

/// Splits what begins with a stream's name into the stream and the rest.
pub(super) fn split_stream(key: &[u8]) -> Option<(StreamId, &[u8])> {
    let (&kind, rest) = key.split_first()?;
    if kind == b's' {
        return Some((StreamId::Server, rest));
    }
    if kind == b'f' {
        return Some((StreamId::Files, rest));
    }
    if kind == b'o' {
        return Some((StreamId::Owed, rest));
    }
    let (tenant, rest) = split_text(rest)?;
    let tenant = TenantId::new(tenant).ok()?;
    match kind {
        ROOM_STREAM => {
            let (id, rest) = rest.split_first_chunk::<16>()?;
            Some((StreamId::Room(RoomKey { tenant, room: RoomId(Uuid::from_bytes(*id)) }), rest))
        }
        b'u' => {
            let (user, rest) = split_text(rest)?;
            Some((StreamId::User(tenant, UserId::new(user).ok()?), rest))
        }
        b'd' => Some((StreamId::Directory(tenant), rest)),
        b'a' => Some((StreamId::Accounts(tenant), rest)),
        _ => None,
    }
}

pub(super) fn split_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(len))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// The checksum of a stored record, which ties its bytes to the place they lie at. `stream` is the checksum of the
/// stream's name, computed once for many records.
pub(super) fn checksum(stream: u32, position: Position, bytes: &[u8]) -> u32 {
    let mut place = [0; 16];
    place[..8].copy_from_slice(&position.epoch.0.to_le_bytes());
    place[8..].copy_from_slice(&position.seq.0.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(stream, &place), bytes)
}

/// Reads a value behind its version byte.
pub(super) fn versioned<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, StoreError> {
    let Some((&version, rest)) = bytes.split_first() else { return Err(damage("an empty value")) };
    if version != VERSION {
        return Err(damage(format!("a value of version {version}")));
    }
    let mut stored = rmp_serde::Deserializer::from_read_ref(rest);
    stored.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut stored).map_err(damage)
}

/// Writes a value behind its version byte.
pub(super) fn version(value: &impl Serialize) -> Vec<u8> {
    let mut out = vec![VERSION];
    rmp_serde::encode::write(&mut out, value).expect("writing plain values to memory does not fail");
    out
}

pub(super) fn damage(what: impl ToString) -> StoreError {
    StoreError::Damaged(what.to_string())
}

pub(super) fn user(text: &str) -> Result<UserId, StoreError> {
    UserId::new(text).map_err(damage)
}

pub(super) fn account(text: &str) -> Result<AccountId, StoreError> {
    AccountId::new(text).map_err(damage)
}

pub(super) fn emoji(text: &str) -> Result<Emoji, StoreError> {
    Emoji::new(text).map_err(damage)
}

pub(super) fn file_name(text: &str) -> Result<FileName, StoreError> {
    FileName::new(text).map_err(damage)
}

pub(super) fn media_type(text: &str) -> Result<MediaType, StoreError> {
    MediaType::new(text).map_err(damage)
}

pub(super) fn alias(text: Option<&str>) -> Result<Option<Alias>, StoreError> {
    text.map(|text| Alias::forced(text).map_err(damage)).transpose()
}

pub(super) fn name(text: Option<&str>) -> Result<Option<Name>, StoreError> {
    text.map(|text| Name::new(text).map_err(damage)).transpose()
}

#[derive(Serialize, Deserialize)]
struct StoredRecord<'a> {
    id: Id,
    num: u64,
    at: i64,
    #[serde(borrow)]
    author: &'a str,
    client_id: Option<&'a str>,
    event: StoredEvent<'a>,
}

/// The names are on disk in every record, hence short.
#[derive(Serialize, Deserialize)]
enum StoredEvent<'a> {
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
pub(super) struct StoredDecision<'a> {
    #[serde(borrow)]
    audited: StoredEvent<'a>,
    reading: Option<(&'a str, bool)>,
}

impl<'a> StoredDecision<'a> {
    pub(super) fn of(Decision { audited, reading }: &'a Decision) -> Self {
        let reading = reading.as_ref().map(|reading| (reading.user.as_str(), reading.reads));
        Self { audited: StoredEvent::of_audited(audited), reading }
    }

    pub(super) fn into_domain(self) -> Result<Decision, StoreError> {
        let Event::Room(RoomEvent::Audited(audited)) = self.audited.into_domain()? else {
            return Err(damage("what a room owes its audit room is no decision"));
        };
        let reading = self.reading.map(|(who, reads)| Ok::<_, StoreError>(Reading { user: user(who)?, reads }));
        Ok(Decision { audited: *audited, reading: reading.transpose()? })
    }
}

/// In which collection a document is, and whose it is.
#[derive(Serialize, Deserialize)]
struct StoredWhose<'a> {
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

/// Epoch and seq.
#[derive(Serialize, Deserialize, Clone, Copy, Default)]
pub(super) struct StoredReached(u64, u64);

impl From<Reached> for StoredReached {
    fn from(Reached(position): Reached) -> Self {
        Self(position.epoch.0, position.seq.0)
    }
}

impl From<StoredReached> for Reached {
    fn from(StoredReached(epoch, seq): StoredReached) -> Self {
        Self(Position { epoch: Epoch(epoch), seq: Seq(seq) })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredReply<'a> {
    message: Id,
    by: &'a str,
    thread: Id,
}

#[derive(Serialize, Deserialize)]
struct StoredForwarded<'a> {
    by: &'a str,
    at: i64,
    source: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredAttachment<'a> {
    id: Id,
    name: &'a str,
    media: &'a str,
    size: u64,
}

impl<'a> StoredEvent<'a> {
    fn of(event: &'a Event) -> Self {
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

    fn into_domain(self) -> Result<Event, StoreError> {
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

/// A uuid as sixteen raw bytes.
#[derive(Clone, Copy)]
pub(super) struct Id(pub Uuid);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0.as_bytes())
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sixteen;

        impl Visitor<'_> for Sixteen {
            type Value = Id;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("sixteen bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Id, E> {
                Uuid::from_slice(bytes).map(Id).map_err(E::custom)
            }
        }

        deserializer.deserialize_bytes(Sixteen)
    }
}

#[derive(Serialize, Deserialize, Clone, Copy)]
pub(super) enum StoredKind {
    #[serde(rename = "c")]
    Channel,
    #[serde(rename = "g")]
    Group,
    #[serde(rename = "d")]
    Direct,
    #[serde(rename = "b")]
    Box,
    #[serde(rename = "v")]
    Canvas,
    #[serde(rename = "k")]
    Collection,
    #[serde(rename = "a")]
    Audit,
}

impl From<RoomKind> for StoredKind {
    fn from(kind: RoomKind) -> Self {
        match kind {
            RoomKind::Channel => Self::Channel,
            RoomKind::Group => Self::Group,
            RoomKind::Direct => Self::Direct,
            RoomKind::Box => Self::Box,
            RoomKind::Canvas => Self::Canvas,
            RoomKind::Collection => Self::Collection,
            RoomKind::Audit => Self::Audit,
        }
    }
}

impl From<StoredKind> for RoomKind {
    fn from(kind: StoredKind) -> Self {
        match kind {
            StoredKind::Channel => Self::Channel,
            StoredKind::Group => Self::Group,
            StoredKind::Direct => Self::Direct,
            StoredKind::Box => Self::Box,
            StoredKind::Canvas => Self::Canvas,
            StoredKind::Collection => Self::Collection,
            StoredKind::Audit => Self::Audit,
        }
    }
}

#[derive(Serialize, Deserialize, Clone, Copy, Default)]
pub(super) enum StoredHistory {
    #[default]
    #[serde(rename = "a")]
    All,
    #[serde(rename = "j")]
    FromJoin,
}

impl From<History> for StoredHistory {
    fn from(history: History) -> Self {
        match history {
            History::All => Self::All,
            History::FromJoin => Self::FromJoin,
        }
    }
}

impl From<StoredHistory> for History {
    fn from(history: StoredHistory) -> Self {
        match history {
            StoredHistory::All => Self::All,
            StoredHistory::FromJoin => Self::FromJoin,
        }
    }
}

/// What may not be said, in an event and in a row.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredRules<'a> {
    #[serde(borrow)]
    words: Vec<&'a str>,
    links: StoredLinks,
    hosts: Vec<&'a str>,
}

impl<'a> From<&'a Rules> for StoredRules<'a> {
    fn from(rules: &'a Rules) -> Self {
        let texts = |texts: &'a [String]| texts.iter().map(String::as_str).collect();
        Self { words: texts(rules.words()), links: rules.links().into(), hosts: texts(rules.hosts()) }
    }
}

impl StoredRules<'_> {
    pub(super) fn rules(self) -> Result<Rules, StoreError> {
        let texts = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
        let rules = Rules::new(texts(self.words), self.links.into(), texts(self.hosts));
        rules.map_err(|error| StoreError::Damaged(error.to_string()))
    }
}

#[derive(Serialize, Deserialize, Clone, Copy)]
enum StoredLinks {
    #[serde(rename = "a")]
    Any,
    #[serde(rename = "n")]
    None,
    #[serde(rename = "l")]
    Listed,
}

impl From<Links> for StoredLinks {
    fn from(links: Links) -> Self {
        match links {
            Links::Any => Self::Any,
            Links::None => Self::None,
            Links::Listed => Self::Listed,
        }
    }
}

impl From<StoredLinks> for Links {
    fn from(links: StoredLinks) -> Self {
        match links {
            StoredLinks::Any => Self::Any,
            StoredLinks::None => Self::None,
            StoredLinks::Listed => Self::Listed,
        }
    }
}

#[derive(Serialize, Deserialize, Clone, Copy, Default)]
pub(super) enum StoredAudience {
    #[default]
    #[serde(rename = "n")]
    Nobody,
    #[serde(rename = "o")]
    Owners,
    #[serde(rename = "e")]
    Everybody,
}

impl From<Audience> for StoredAudience {
    fn from(audience: Audience) -> Self {
        match audience {
            Audience::Nobody => Self::Nobody,
            Audience::Owners => Self::Owners,
            Audience::Everybody => Self::Everybody,
        }
    }
}

impl From<StoredAudience> for Audience {
    fn from(audience: StoredAudience) -> Self {
        match audience {
            StoredAudience::Nobody => Self::Nobody,
            StoredAudience::Owners => Self::Owners,
            StoredAudience::Everybody => Self::Everybody,
        }
    }
}

#[derive(Serialize, Deserialize, Clone, Copy, Default)]
pub(super) enum StoredRole {
    #[default]
    #[serde(rename = "v")]
    Viewer,
    #[serde(rename = "g")]
    Guest,
    #[serde(rename = "m")]
    Member,
    #[serde(rename = "a")]
    Admin,
    #[serde(rename = "o")]
    Owner,
}

impl From<Role> for StoredRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::Guest => Self::Guest,
            Role::Member => Self::Member,
            Role::Admin => Self::Admin,
            Role::Owner => Self::Owner,
        }
    }
}

impl From<StoredRole> for Role {
    fn from(role: StoredRole) -> Self {
        match role {
            StoredRole::Viewer => Self::Viewer,
            StoredRole::Guest => Self::Guest,
            StoredRole::Member => Self::Member,
            StoredRole::Admin => Self::Admin,
            StoredRole::Owner => Self::Owner,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Deed;
    use crate::domain::account::Rank;
    use crate::domain::document::{DEPTH_MAX as NESTED_MAX, FIELDS_BYTES_MAX, Fields, Number, Value};
    use crate::domain::{Epoch, Seq};
    use crate::store::RECORD_BYTES_MAX;

    #[test]
    fn every_kind_of_event_comes_back_as_it_was() {
        for event in every_event() {
            let record = record(event);
            let mut bytes = Vec::new();
            encode(&record, &mut bytes);
            assert_eq!(decode(record.position, &bytes), Ok(record));
        }
    }

    #[test]
    fn a_room_updated_before_there_was_a_choice_shows_no_edits() {
        #[derive(Serialize)]
        enum Before {
            #[serde(rename = "ru")]
            RoomUpdated { name: Option<&'static str> },
        }
        let event = Before::RoomUpdated { name: Some("Lobby") };
        let bytes = version(&(Id(Uuid::from_u128(5)), 12, 7, "ann", None::<&str>, event));
        let name = Some(Name::new("Lobby").unwrap());
        let updated = Event::Room(RoomEvent::RoomUpdated(RoomSettings { name, ..RoomSettings::default() }));
        assert_eq!(decode(PLACE, &bytes).map(|record| record.event), Ok(updated));
    }

    #[test]
    fn a_message_of_before_there_were_attachments_has_none() {
        #[derive(Serialize)]
        enum Before {
            #[serde(rename = "q")]
            MessagePostedTo {
                text: &'static str,
                body: Option<&'static str>,
                reply: Option<()>,
                mentions: Vec<&'static str>,
            },
        }
        let event = Before::MessagePostedTo { text: "hi", body: None, reply: None, mentions: vec!["bob"] };
        let bytes = version(&(Id(Uuid::from_u128(5)), 12, 7, "ann", None::<&str>, event));
        let posted = decode(PLACE, &bytes).unwrap().event;
        let Event::Room(RoomEvent::MessagePosted { attachments, mentions, .. }) = posted else { panic!("{posted:?}") };
        assert_eq!((attachments.len(), mentions.len()), (0, 1));
    }

    #[test]
    fn the_largest_and_the_deepest_document_is_a_record() {
        let name = |length: usize| "n".repeat(length);
        let whose = Whose {
            collection: CollectionName::new(&name(CollectionName::BYTES_MAX)).unwrap(),
            owner: UserId::new(&name(UserId::BYTES_MAX)).unwrap(),
            account: AccountId::new(&name(AccountId::BYTES_MAX)).unwrap(),
        };
        let of = |value: Value| Fields([("x".into(), value)].into());
        let mut deep = of(Value::Null);
        for _ in 1..NESTED_MAX {
            deep = of(Value::Map(deep));
        }
        let text = |text: &str| Value::Text(text.into());
        let many = |value: Value| Value::List(vec![value.clone(); FIELDS_BYTES_MAX / value.bytes() - 8]);
        let number = |number: Number| many(Value::Number(number));
        let largest = [
            text(&name(FIELDS_BYTES_MAX - 64)),
            many(text("")),
            many(Value::Null),
            many(Value::List(Vec::new())),
            number(Number::whole(0)),
            number(Number::whole(-33)),
            number(Number::whole(128)),
            number(Number::whole(256)),
            number(Number::whole(65_536)),
            number(Number::unsigned(1 << 32)),
            number(Number::float(0.5).unwrap()),
        ];
        for fields in largest.map(of).into_iter().chain([deep]) {
            let whose = Box::new(whose.clone());
            let fields = fields.checked().unwrap();
            let event = RoomEvent::DocumentUpdated {
                whose,
                document: RecordId(Uuid::nil()),
                created: Timestamp(i64::MAX),
                fields,
            };
            let mut record = record(Event::Room(event));
            record.author = UserId::new(&name(UserId::BYTES_MAX)).unwrap();
            let mut bytes = Vec::new();
            encode(&record, &mut bytes);
            assert!(bytes.len() <= RECORD_BYTES_MAX, "{}", bytes.len());
            assert_eq!(decode(record.position, &bytes), Ok(record));
        }
    }

    #[test]
    fn what_is_nested_without_an_end_is_damage() {
        let mut decided = RoomEvent::RoomArchived;
        for _ in 0..DEPTH_MAX {
            decided = RoomEvent::Audited(Box::new(Audited { decided, ..audited() }));
        }
        let mut bytes = Vec::new();
        encode(&record(Event::Room(decided)), &mut bytes);
        assert!(matches!(decode(PLACE, &bytes), Err(StoreError::Damaged(_))));
    }

    #[test]
    fn a_record_of_another_version_is_damaged_and_not_guessed_at() {
        let mut bytes = Vec::new();
        encode(&record(Event::Room(RoomEvent::RoomArchived)), &mut bytes);
        bytes[0] = VERSION + 1;
        assert!(matches!(decode(PLACE, &bytes), Err(StoreError::Damaged(_))));
    }

    #[test]
    fn a_checksum_holds_a_record_to_its_place() {
        let stream = crc32c::crc32c(b"stream");
        let elsewhere = Position { seq: Seq(8), ..PLACE };
        let later = Position { epoch: Epoch(2), ..PLACE };
        let sum = checksum(stream, PLACE, b"bytes");
        assert_ne!(sum, checksum(stream, elsewhere, b"bytes"));
        assert_ne!(sum, checksum(stream, later, b"bytes"));
        assert_ne!(sum, checksum(crc32c::crc32c(b"other"), PLACE, b"bytes"));
        assert_ne!(sum, checksum(stream, PLACE, b"bytez"));
    }

    #[test]
    fn a_stream_is_found_again_from_its_key() {
        let tenant = TenantId::default_tenant();
        let room = RoomKey { tenant: tenant.clone(), room: RoomId(Uuid::from_u128(7)) };
        for stream in [
            StreamId::Room(room),
            StreamId::User(tenant.clone(), UserId::new("ann").unwrap()),
            StreamId::Accounts(tenant.clone()),
            StreamId::Directory(tenant),
            StreamId::Server,
            StreamId::Files,
            StreamId::Owed,
        ] {
            let mut key = stream_key(&stream).to_vec();
            key.extend_from_slice(b"rest");
            assert_eq!(split_stream(&key), Some((stream, &b"rest"[..])));
        }
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = decode(PLACE, &bytes);
            let _ = split_stream(&bytes);
        }

        #[test]
        fn decoding_what_was_changed_never_panics(
            which in 0..every_event().len(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = Vec::new();
            encode(&record(every_event().swap_remove(which)), &mut bytes);
            for (index, byte) in changes {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = decode(PLACE, &bytes);
            let _ = decode(PLACE, &bytes[..cut.index(bytes.len())]);
        }
    }

    const PLACE: Position = Position { epoch: Epoch(1), seq: Seq(7) };

    fn record(event: Event) -> Record {
        Record {
            position: PLACE,
            id: RecordId(Uuid::from_u128(u128::MAX - 3)),
            num: Num(12),
            at: Timestamp(1_700_000_000_000),
            author: UserId::new("ann").unwrap(),
            client_id: Some(ClientId::new("c-1").unwrap()),
            event,
        }
    }

    fn attachment(size: u64) -> Attachment {
        let (name, media) = (FileName::new("Über.png").unwrap(), MediaType::new("image/png").unwrap());
        Attachment { id: FileId(Uuid::from_u128(u128::from(size) + 7)), name, media, size }
    }

    fn audited() -> Audited {
        let (id, by) = (RecordId(Uuid::from_u128(5)), UserId::new("ann").unwrap());
        let decided = RoomEvent::MemberMuted { user: UserId::new("bob").unwrap(), until: Some(Timestamp(9)) };
        Audited { room: RoomId(Uuid::from_u128(4)), position: PLACE, id, at: Timestamp(-1), by, decided }
    }

    fn deeds(rank: Rank) -> [Deed; 10] {
        let (user, invite) = (UserId::new("bob").unwrap(), Uuid::from_u128(7));
        let reason = Some(Name::new("spam").unwrap());
        [
            Deed::AccountAdded { user: user.clone(), rank },
            Deed::AccountChanged { user: user.clone(), rank, disabled: true },
            Deed::ResetMade { user: user.clone() },
            Deed::InviteMade { invite, rank },
            Deed::InviteTakenBack { invite },
            Deed::Banned { user: user.clone(), until: Some(Timestamp(i64::MAX)), reason },
            Deed::Banned { user: user.clone(), until: None, reason: None },
            Deed::Unbanned { user: user.clone() },
            Deed::TokensRevoked { user: Some(user), since: Timestamp(-1) },
            Deed::TokensRevoked { user: None, since: Timestamp(7) },
        ]
    }

    fn whose() -> Box<Whose> {
        let collection = CollectionName::new("tasks_760_").unwrap();
        let (owner, account) = (UserId::new("ann").unwrap(), AccountId::new("acme").unwrap());
        Box::new(Whose { collection, owner, account })
    }

    fn fields() -> Arc<Fields> {
        let list = Value::List(vec![Value::Number(Number::whole(-7)), Value::Text("x".into()), Value::Null]);
        Arc::new(Fields([("list".into(), list), ("done".into(), Value::Bool(false))].into()))
    }

    fn every_event() -> Vec<Event> {
        let reached = Reached(PLACE);
        let user = UserId::new("bob").unwrap();
        let alias = Some(Alias::new("lobby").unwrap());
        let name = Some(Name::new("Lobby, the").unwrap());
        let id = RecordId(Uuid::from_u128(5));
        let content = Content { text: Some("hi".into()), body: Some(r#"{"a":1}"#.into()) };
        let mut events: Vec<Event> = [
            RoomEvent::RoomUpdated(RoomSettings {
                name: name.clone(),
                edit_history: true,
                slow_mode_ms: 7,
                history: History::FromJoin,
                keep_ms: 86_400_000,
            }),
            RoomEvent::RoomArchived,
            RoomEvent::DocumentCreated { whose: whose(), fields: fields() },
            RoomEvent::DocumentUpdated { whose: whose(), document: id, created: Timestamp(-1), fields: fields() },
            RoomEvent::DocumentDeleted { whose: whose(), document: id },
            RoomEvent::MemberLeft { user: user.clone(), joined: id },
            RoomEvent::MemberKicked { user: user.clone(), joined: id, reason: None },
            RoomEvent::MemberBanned {
                user: user.clone(),
                joined: Some(id),
                invited: false,
                until: Some(Timestamp(i64::MAX)),
                reason: name.clone(),
            },
            RoomEvent::MemberBanned { user: user.clone(), joined: None, invited: true, until: None, reason: None },
            RoomEvent::MemberUnbanned { user: user.clone() },
            RoomEvent::MemberMuted { user: user.clone(), until: Some(Timestamp(9)) },
            RoomEvent::MemberMuted { user: user.clone(), until: None },
            RoomEvent::RulesChanged(Box::new(
                Rules::new(vec!["spam".to_owned()], Links::Listed, vec!["example.org".to_owned()]).unwrap(),
            )),
            RoomEvent::RightsChanged {
                user: user.clone(),
                rights: Rights { allow: Capabilities::of_bits(2), deny: Capabilities::of_bits(5) },
                may: Capabilities::of_bits(8),
            },
            RoomEvent::MemberUnmuted { user: user.clone() },
            RoomEvent::MemberBlocked { user: user.clone() },
            RoomEvent::MemberUnblocked { user: user.clone() },
            RoomEvent::posted(content.clone()),
            RoomEvent::ReactionAdded {
                message: id, by: user.clone(), emoji: Emoji::new("👩‍🚀").unwrap(), count: 7
            },
            RoomEvent::ReactionRemoved { message: id, by: user.clone(), emoji: Emoji::new("+1").unwrap(), count: 0 },
            RoomEvent::MessagePosted {
                content: content.clone(),
                reply: Some(Box::new(InReplyTo { message: id, by: user.clone(), thread: id })),
                mentions: Mentions::default(),
                forwarded: None,
                attachments: Attachments::default(),
            },
            RoomEvent::MessagePosted {
                content: content.clone(),
                reply: None,
                mentions: [user.clone()].into(),
                forwarded: None,
                attachments: [attachment(1), attachment(2)].into(),
            },
            RoomEvent::MessagePosted {
                content: content.clone(),
                reply: Some(Box::new(InReplyTo { message: id, by: user.clone(), thread: id })),
                mentions: [user.clone()].into(),
                forwarded: Some(Box::new(Forwarded { by: user.clone(), at: Timestamp(-1), source: u64::MAX })),
                attachments: Attachments::default(),
            },
            RoomEvent::MessagePosted {
                content: Content::default(),
                reply: None,
                mentions: [user.clone()].into(),
                forwarded: None,
                attachments: Attachments::default(),
            },
            RoomEvent::MessagePosted {
                content: Content::default(),
                reply: None,
                mentions: Mentions::default(),
                forwarded: Some(Box::new(Forwarded { by: user.clone(), at: Timestamp(7), source: 1 })),
                attachments: [attachment(u64::MAX)].into(),
            },
            RoomEvent::MessageEdited {
                message: id,
                by: user.clone(),
                content: content.clone(),
                mentions: [user.clone()].into(),
            },
            RoomEvent::MessageEdited {
                message: id,
                by: user.clone(),
                content: content.clone(),
                mentions: Mentions::default(),
            },
            RoomEvent::MessageDeleted { message: id, by: user.clone() },
            RoomEvent::MessagePinned { message: id, by: user.clone() },
            RoomEvent::MessageUnpinned { message: id, by: user.clone() },
            RoomEvent::MessageErased,
            RoomEvent::Audited(Box::new(audited())),
            RoomEvent::Reported(Box::new(Reported {
                room: RoomId(Uuid::from_u128(4)),
                message: id,
                by: user.clone(),
                at: Timestamp(-1),
                content: content.clone(),
                attachments: [attachment(3)].into(),
                reason: name.clone(),
            })),
            RoomEvent::ReportResolved { report: id, note: name.clone() },
            RoomEvent::ReportResolved { report: id, note: None },
        ]
        .map(Event::Room)
        .into();
        for kind in RoomKind::ALL {
            let (alias, name) = (alias.clone(), name.clone());
            let audits = Some(RoomId(Uuid::from_u128(8)));
            events.push(Event::Room(RoomEvent::RoomCreated { kind, alias, num: Num(4), name, audits }));
        }
        for role in Role::ALL {
            let user = user.clone();
            events.push(Event::Room(RoomEvent::MemberJoined { user: user.clone(), role }));
            events.push(Event::Room(RoomEvent::MemberInvited { user: user.clone(), role }));
            events.push(Event::Room(RoomEvent::RoleChanged { user, role, was: Role::Guest }));
        }
        for rank in Rank::ALL {
            events.extend(deeds(rank).map(|deed| Event::Room(RoomEvent::Administered(Box::new(deed)))));
        }
        let room = RoomId(Uuid::from_u128(9));
        events.push(Event::Directory(DirectoryEvent::RoomReserved { room, num: Num(1), alias }));
        events.push(Event::Directory(DirectoryEvent::NumsLeased { before: Num(1000) }));
        events.push(Event::Inbox(InboxEvent::MessageHidden { room, message: id, hidden: true }));
        let settings = Settings { private_reading: true, contacts: Audience::Owners, invisible: true };
        events.push(Event::Inbox(InboxEvent::SettingsUpdated(settings)));
        events.push(Event::Inbox(InboxEvent::ProfileUpdated));
        let other = UserId::new("bob").unwrap();
        events.push(Event::Inbox(InboxEvent::UserBlocked { user: other, blocked: true }));
        events.push(Event::Inbox(InboxEvent::EntryUpdated { room, delivered: reached, read: Reached::NOTHING }));
        events
    }
}
