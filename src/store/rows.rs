//! The rows that lie beside the records: a room's state at its head, found without replaying it.
//!
//! A room writes them in the same commit as the events that change them, so they are never older or newer than its
//! head. Keys and values are this module's; the domain's words go in and come out.

pub mod accounts;
pub mod documents;

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::StoreError;
use super::codec::{
    self, Id, StoredAudience, StoredDecision, StoredHistory, StoredKind, StoredReached, StoredRole, StoredRules, damage,
};
use crate::domain::command;
use crate::domain::exclusion::{Exclusion, TenantBan};
use crate::domain::file::Hash;
use crate::domain::inbox::{Entry, Reached, Settings};
use crate::domain::policy::{Role, RoomKind, Standing};
use crate::domain::profile::{Avatar, ContactHash, Email, Introduction, Telephone};
use crate::domain::revocation::{Revocation, Subject};
use crate::domain::room::{Ban, Header, Member, Message, Mute, Pin, Settings as RoomSettings};
use crate::domain::{
    Alias, Capabilities, Content, Emoji, Epoch, File, FileId, FileName, LoginId, Name, Num, Position, Profile, Purpose,
    RecordId, Rights, RoomId, RoomKey, Rules, Seq, TenantId, Timestamp, TokenId, UserId,
};

/// A value that is kept as a row.
pub trait Row: Sized {
    fn encode(&self) -> Bytes;
    fn decode(bytes: &[u8]) -> Result<Self, StoreError>;
}

/// What a tenant's directory knows of a room: under its alias, its num and its id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reservation {
    pub room: RoomId,
    pub num: Num,
    pub alias: Option<Alias>,
}

/// A room in a user's list: as a member, or as somebody invited.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    pub kind: RoomKind,
    pub role: Role,
    pub standing: Standing,
    /// The record by which the membership began; 0 for who is invited, and in rows of before they said so.
    pub joined: Seq,
}

/// Under a room's stream: what the room is, a [`Header`].
pub const HEADER: &[u8] = b"h";

/// Under a room's stream: before the key of every [`Member`].
pub const MEMBERS: &[u8] = b"m";

/// Under a room's stream: before the key of every invitation, a [`Role`].
pub const INVITATIONS: &[u8] = b"i";

/// Under a room's stream: before the key of every [`Ban`].
pub const BANS: &[u8] = b"b";

/// Under a room's stream: before the key of every [`Mute`].
pub const MUTES: &[u8] = b"u";

/// Under a room's stream: what may not be said, its [`Rules`].
pub const RULES: &[u8] = b"w";

/// Under an audit room's stream: up to which [`Position`] of the room that it is about it has taken what was decided.
pub const TAKEN: &[u8] = b"a";

/// Under a room's stream: before the key of every [`Rights`].
pub const RIGHTS: &[u8] = b"g";

/// Under a user's stream: before the key, a row without a value, of everybody whom the user has blocked.
pub const BLOCKS: &[u8] = b"y";

/// Under a room's stream: before the key of every [`Message`].
pub const MESSAGES: &[u8] = b"s";

/// Under a room's stream: before the key of every reply, by its thread.
const THREADS: &[u8] = b"t";

/// Under a room's stream: before the key of what every user feels about a message, by the message.
pub const REACTIONS: &[u8] = b"e";

/// Under a room's stream: before the key of every [`Pin`].
pub const PINS: &[u8] = b"f";

/// Under a user's stream: before the key of every [`Place`].
pub const PLACES: &[u8] = b"p";

/// Under a user's stream: before the key of every [`Kept`] entry of the inbox. By itself it is [`INTRODUCTION`].
pub const ENTRIES: &[u8] = b"k";

/// Under a room's stream: before the key of how far each user has got, a [`Progress`].
pub const PROGRESS: &[u8] = b"q";

/// Under a user's stream: the [`Settings`].
pub const SETTINGS: &[u8] = b"o";

/// Under a user's stream: before the key of every message that the user does not want to see, a [`RecordId`].
pub const HIDDEN: &[u8] = b"x";

/// Among the files: before the key of every [`Filed`].
pub const FILES: &[u8] = b"f";

/// Among the files: before the key of everything that refers to a file, by the file.
const REFERENCES: &[u8] = b"r";

/// Among the files: before the key of every [`Unfinished`] upload.
pub const UPLOADS: &[u8] = b"u";

/// Among the files: before the key of the [`Usage`] of every tenant.
pub const USAGES: &[u8] = b"b";

/// Among the files: before the key of every file, by its content.
const CONTENTS: &[u8] = b"c";

/// In the key of a reference: it is a message's, or a user's.
const BY_MESSAGE: u8 = b'm';
const BY_USER: u8 = b'u';

/// A file as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filed {
    pub file: File,
    /// Since when nothing has been known to refer to it.
    pub loose_since: Option<Timestamp>,
}

/// An upload that comes in several requests, and is not complete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unfinished {
    pub id: FileId,
    pub tenant: TenantId,
    pub owner: UserId,
    pub purpose: Purpose,
    pub name: FileName,
    /// How large the file will be.
    pub size: u64,
    /// How much of it is on disk.
    pub offset: u64,
    /// When the last of it came.
    pub at: Timestamp,
}

/// How many bytes a tenant's files have, each counted for every upload of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Usage(pub u64);

/// Under a user's stream: when the user was last seen, a [`Timestamp`].
pub const LAST_SEEN: &[u8] = b"z";

/// Under a user's stream: the [`Profile`].
pub const PROFILE: &[u8] = b"n";

/// Under a user's stream: what tokens have said of the user, an [`Introduction`]. Whoever reads [`ENTRIES`] meets it.
pub const INTRODUCTION: &[u8] = b"k";

/// An entry of a user's inbox as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    pub entry: Entry,
    /// How far others know that the user has read.
    pub shown: Reached,
    /// Where in the user's stream it has changed last.
    pub changed: Position,
}

impl Default for Kept {
    fn default() -> Self {
        let Reached(nowhere) = Reached::NOTHING;
        Self { entry: Entry::default(), shown: Reached::NOTHING, changed: nowhere }
    }
}

/// How far a user has got in a room, as others may know: what follows from the entry in the user's inbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    pub delivered: Reached,
    pub read: Reached,
}

/// Under a directory's stream: the [`Num`] below which all may have been used.
pub const LEASE: &[u8] = b"l";

/// Under a directory's stream: how many rooms have been reserved, a [`RoomCount`].
pub const ROOM_COUNT: &[u8] = b"c";

/// How many rooms a tenant has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct RoomCount(pub u64);

/// Under a room's stream: the [`Member`] that `user` is.
pub fn member(user: &UserId) -> Bytes {
    joined(MEMBERS, user.as_str().as_bytes())
}

/// Under a room's stream: the [`Role`] with which `user` is invited.
pub fn invitation(user: &UserId) -> Bytes {
    joined(INVITATIONS, user.as_str().as_bytes())
}

/// Under a room's stream: the [`Ban`] of `user`.
pub fn ban(user: &UserId) -> Bytes {
    joined(BANS, user.as_str().as_bytes())
}

/// Under a room's stream: the [`Mute`] of `user`.
pub fn mute(user: &UserId) -> Bytes {
    joined(MUTES, user.as_str().as_bytes())
}

/// Under a room's stream: the [`Rights`] of `user`.
pub fn rights(user: &UserId) -> Bytes {
    joined(RIGHTS, user.as_str().as_bytes())
}

/// Under a user's stream: that `user` is blocked.
pub fn block(user: &UserId) -> Bytes {
    joined(BLOCKS, user.as_str().as_bytes())
}

/// Under a room's stream: the [`Message`] that was posted at `seq`. Keys are in the order of the seqs.
pub fn message(seq: Seq) -> Bytes {
    joined(MESSAGES, &seq.0.to_be_bytes())
}

/// Under a room's stream: before the keys of the replies of the thread that began at `root`.
pub fn thread(root: Seq) -> Bytes {
    joined(THREADS, &root.0.to_be_bytes())
}

/// Under a room's stream: a row without a value, for the reply at `seq` in the thread that began at `root`. Keys are in
/// the order of the seqs.
pub fn threaded(root: Seq, seq: Seq) -> Bytes {
    joined(&thread(root), &seq.0.to_be_bytes())
}

/// Under a room's stream: before the keys of what users feel about the message that was posted at `seq`.
pub fn reactions(seq: Seq) -> Bytes {
    joined(REACTIONS, &seq.0.to_be_bytes())
}

/// Under a room's stream: the emojis with which `user` has reacted to the message that was posted at `seq`. Keys are in
/// the order of the users.
pub fn reactions_of(seq: Seq, user: &UserId) -> Bytes {
    joined(&reactions(seq), user.as_str().as_bytes())
}

/// Whose key [`reactions_of`] made.
pub fn reactor_of(key: &[u8]) -> Result<UserId, StoreError> {
    let user = key.strip_prefix(REACTIONS).and_then(|key| key.get(8..)).and_then(|user| std::str::from_utf8(user).ok());
    codec::user(user.ok_or_else(|| damage("a key that names nobody who reacted"))?)
}

/// Under a room's stream: the [`Pin`] of the message that was posted at `seq`.
pub fn pin(seq: Seq) -> Bytes {
    joined(PINS, &seq.0.to_be_bytes())
}

/// Of which message, by where it was posted, [`message`], [`reactions_of`] or [`pin`] made the key.
pub fn message_of(key: &[u8]) -> Result<Seq, StoreError> {
    let seq = [MESSAGES, REACTIONS, PINS].into_iter().find_map(|prefix| key.strip_prefix(prefix));
    let seq = seq.and_then(|seq| seq.first_chunk()).map(|seq| Seq(u64::from_be_bytes(*seq)));
    seq.ok_or_else(|| damage("a key that names no message"))
}

/// At which seq the reply is that [`threaded`] made the key of.
pub fn seq_of(key: &[u8]) -> Result<Seq, StoreError> {
    let seq = key.strip_prefix(THREADS).and_then(|key| key.get(8..)).and_then(|seq| seq.try_into().ok());
    Ok(Seq(u64::from_be_bytes(seq.ok_or_else(|| damage("a key that names no reply"))?)))
}

/// Under a user's stream: the [`Place`] of `room` in the user's list.
pub fn place(room: RoomId) -> Bytes {
    joined(PLACES, room.0.as_bytes())
}

/// Under a user's stream: the [`Kept`] entry of `room`.
pub fn entry(room: RoomId) -> Bytes {
    joined(ENTRIES, room.0.as_bytes())
}

/// Under a user's stream: before the keys of the messages of `room` that the user does not want to see.
pub fn hidden_in(room: RoomId) -> Bytes {
    joined(HIDDEN, room.0.as_bytes())
}

/// Under a user's stream: the [`RecordId`] of the message at `seq` of `room`, which the user does not want to see. Keys are
/// in the order of the seqs.
pub fn hidden(room: RoomId, seq: Seq) -> Bytes {
    joined(&hidden_in(room), &seq.0.to_be_bytes())
}

/// Under a room's stream: the [`Progress`] of `user`. Written by the user's inbox.
pub fn progress(user: &UserId) -> Bytes {
    joined(PROGRESS, user.as_str().as_bytes())
}

/// Among the files: the [`Filed`] of this id.
pub fn file(id: FileId) -> Bytes {
    joined(FILES, id.0.as_bytes())
}

/// Among the files: before the keys of what refers to a file.
pub fn references(file: FileId) -> Bytes {
    joined(REFERENCES, file.0.as_bytes())
}

/// Among the files: before the keys of the messages that refer to a file.
pub fn references_by_messages(file: FileId) -> Bytes {
    joined(&references(file), &[BY_MESSAGE])
}

/// Among the files: before the keys of the messages of a room that refer to a file.
pub fn references_in(file: FileId, room: RoomId) -> Bytes {
    joined(&references_by_messages(file), room.0.as_bytes())
}

/// Among the files: a row without a value, while the message at `seq` of `room` refers to `file`. Written by the room.
pub fn referred_by_message(file: FileId, room: RoomId, seq: Seq) -> Bytes {
    joined(&references_in(file, room), &seq.0.to_be_bytes())
}

/// Among the files: a row without a value, while `user` has `file` for an avatar. Written with what says so.
pub fn referred_by_user(file: FileId, user: &UserId) -> Bytes {
    joined(&joined(&references(file), &[BY_USER]), user.as_str().as_bytes())
}

/// In which room the message is that [`referred_by_message`] made the key of.
pub fn referring_room(key: &[u8]) -> Result<RoomId, StoreError> {
    let by = key.strip_prefix(REFERENCES).and_then(|key| key.get(16..));
    let room = by.and_then(|by| by.strip_prefix(&[BY_MESSAGE])?.get(..16)).and_then(|id| Uuid::from_slice(id).ok());
    room.map(RoomId).ok_or_else(|| damage("a key that names no message that refers to a file"))
}

/// Under an audit room's stream: the [`RecordId`] of the report that `user` has made of a message.
pub fn report(message: RecordId, user: &UserId) -> Bytes {
    [b"r", message.0.as_bytes().as_slice(), user.as_str().as_bytes()].concat().into()
}

/// Under an audit room's stream: a row without a value, for a report that has been seen to, by where it lies.
pub fn resolved(report: Seq) -> Bytes {
    joined(b"v", &report.0.to_be_bytes())
}

/// Among what is owed: before the keys of what `room` owes.
pub fn owed_by(room: &RoomKey) -> Bytes {
    let tenant = room.tenant.as_str();
    let length = u8::try_from(tenant.len()).expect("a tenant id has at most 64 bytes");
    [&[length], tenant.as_bytes(), room.room.0.as_bytes()].concat().into()
}

/// Among what is owed: the [`Decision`] of the record at `seq` of `room`, until its audit room has it. Keys are in the order of
/// the seqs. Written by the room.
///
/// [`Decision`]: crate::domain::command::Decision
pub fn owed(room: &RoomKey, seq: Seq) -> Bytes {
    joined(&owed_by(room), &seq.0.to_be_bytes())
}

/// Who owes what [`owed`] made the key of.
pub fn owing_room(key: &[u8]) -> Result<RoomKey, StoreError> {
    let owing = codec::split_text(key).and_then(|(tenant, rest)| Some((tenant, rest.get(..16)?)));
    let (tenant, room) = owing.ok_or_else(|| damage("a key that names no room that owes something"))?;
    let (tenant, room) = (TenantId::new(tenant).map_err(damage)?, Uuid::from_slice(room).map_err(damage)?);
    Ok(RoomKey { tenant, room: RoomId(room) })
}

/// Among the files: the [`Unfinished`] upload of this id.
pub fn upload(id: FileId) -> Bytes {
    joined(UPLOADS, id.0.as_bytes())
}

/// Among the files: the [`Usage`] of a tenant.
pub fn usage(tenant: &TenantId) -> Bytes {
    joined(USAGES, tenant.as_str().as_bytes())
}

/// Whose key [`usage`] made.
pub fn tenant_of(key: &[u8]) -> Result<TenantId, StoreError> {
    let tenant = key.strip_prefix(USAGES).and_then(|tenant| std::str::from_utf8(tenant).ok());
    let tenant = tenant.and_then(|tenant| TenantId::new(tenant).ok());
    tenant.ok_or_else(|| damage("a key that names no tenant"))
}

/// By what a user can be found, who says this of itself.
pub fn contact_hashes(profile: &Profile) -> Vec<ContactHash> {
    let email = profile.email.as_ref().map(Email::normal);
    let telephone = profile.telephone.as_ref().map(|telephone| telephone.as_str().to_owned());
    let contacts = email.into_iter().chain(telephone);
    let hash = |contact: String| digest::digest(&digest::SHA256, contact.as_bytes());
    let of_bytes = |hash: &digest::Digest| hash.as_ref().try_into().expect("SHA-256 has 32 bytes");
    contacts.map(|contact| ContactHash(of_bytes(&hash(contact)))).collect()
}

/// Among the files: before the keys of the files of this content.
pub fn contents(hash: &Hash) -> Bytes {
    joined(CONTENTS, &hash.0)
}

/// Among the files: a row without a value, for a file of this content.
pub fn content(hash: &Hash, file: FileId) -> Bytes {
    joined(&contents(hash), file.0.as_bytes())
}

/// Under a directory's stream: the [`Reservation`] of an alias.
pub fn alias(alias: &Alias) -> Bytes {
    joined(b"a", alias.as_str().as_bytes())
}

/// Under a directory's stream: the [`Reservation`] of a num.
pub fn num(num: Num) -> Bytes {
    joined(b"n", &num.0.to_be_bytes())
}

/// Under a directory's stream: before the key of every room's [`Reservation`].
pub const ROOMS: &[u8] = b"r";

/// Under a directory's stream: the [`Reservation`] of a room.
pub fn room(room: RoomId) -> Bytes {
    joined(ROOMS, room.0.as_bytes())
}

/// Under the server's own stream: before the key of every [`Revocation`].
pub const REVOCATIONS: &[u8] = b"v";

/// Under the server's own stream: the [`Revocation`] of `subject`.
pub fn revocation(subject: &Subject) -> Bytes {
    let mut key = REVOCATIONS.to_vec();
    match subject {
        Subject::Token(token) => {
            key.push(b't');
            key.extend_from_slice(token.as_str().as_bytes());
        }
        Subject::Login(login) => {
            key.push(b'l');
            key.extend_from_slice(login.0.as_bytes());
        }
        Subject::User(tenant, user) => {
            key.push(b'u');
            key.push(u8::try_from(tenant.as_str().len()).expect("a tenant id has at most 64 bytes"));
            key.extend_from_slice(tenant.as_str().as_bytes());
            key.extend_from_slice(user.as_str().as_bytes());
        }
        Subject::Tenant(tenant) => {
            key.push(b'a');
            key.extend_from_slice(tenant.as_str().as_bytes());
        }
    }
    key.into()
}

/// Under the server's own stream: before the key of every [`Exclusion`].
pub const EXCLUSIONS: &[u8] = b"x";

/// Under the server's own stream: what keeps `user` out of `tenant`, an [`Exclusion`].
pub fn exclusion(tenant: &TenantId, user: &UserId) -> Bytes {
    let length = u8::try_from(tenant.as_str().len()).expect("a tenant id has at most 64 bytes");
    [EXCLUSIONS, &[length], tenant.as_str().as_bytes(), user.as_str().as_bytes()].concat().into()
}

/// Of whom [`exclusion`] made the key.
pub fn excluded_of(key: &[u8]) -> Result<(TenantId, UserId), StoreError> {
    let excluded = |key: &[u8]| {
        let (tenant, user) = codec::split_text(key.strip_prefix(EXCLUSIONS)?)?;
        Some((TenantId::new(tenant).ok()?, UserId::new(std::str::from_utf8(user).ok()?).ok()?))
    };
    excluded(key).ok_or_else(|| damage("a key that names nobody who could be excluded"))
}

/// Of whom [`revocation`] made the key.
pub fn subject_of(key: &[u8]) -> Result<Subject, StoreError> {
    let subject = |key: &[u8]| {
        let (&kind, rest) = key.strip_prefix(REVOCATIONS)?.split_first()?;
        let text = |bytes| std::str::from_utf8(bytes).ok();
        match kind {
            b't' => Some(Subject::Token(TokenId::new(text(rest)?).ok()?)),
            b'l' => Some(Subject::Login(LoginId(Uuid::from_slice(rest).ok()?))),
            b'u' => {
                let (tenant, user) = codec::split_text(rest)?;
                Some(Subject::User(TenantId::new(tenant).ok()?, UserId::new(text(user)?).ok()?))
            }
            b'a' => Some(Subject::Tenant(TenantId::new(text(rest)?).ok()?)),
            _ => None,
        }
    };
    subject(key).ok_or_else(|| damage("a key that names nobody whose tokens could be denied"))
}

/// Whose key [`member`], [`invitation`], [`ban`], [`mute`], [`rights`], [`block`] or [`progress`] made.
pub fn user_of(key: &[u8]) -> Result<UserId, StoreError> {
    let prefixes = [MEMBERS, INVITATIONS, BANS, MUTES, RIGHTS, BLOCKS, PROGRESS];
    let text = prefixes.into_iter().find_map(|prefix| key.strip_prefix(prefix));
    let text = text.and_then(|text| std::str::from_utf8(text).ok());
    codec::user(text.ok_or_else(|| damage("a key that names no user"))?)
}

/// Of which room [`place`] or [`entry`] made the key.
pub fn room_of(key: &[u8]) -> Result<RoomId, StoreError> {
    let id = key.strip_prefix(PLACES).or_else(|| key.strip_prefix(ENTRIES));
    let id = id.and_then(|id| Uuid::from_slice(id).ok());
    id.map(RoomId).ok_or_else(|| damage("a key that names no room"))
}

fn joined(prefix: &[u8], rest: &[u8]) -> Bytes {
    [prefix, rest].concat().into()
}

impl Row for Header {
    fn encode(&self) -> Bytes {
        let stored = StoredHeader {
            kind: self.kind.into(),
            num: self.num.0,
            alias: self.alias.as_ref().map(Alias::as_str),
            name: self.settings.name.as_ref().map(Name::as_str),
            created_at: self.created_at.0,
            archived: self.archived,
            edit_history: self.settings.edit_history,
            slow_mode_ms: self.settings.slow_mode_ms,
            history: self.settings.history.into(),
            keep_ms: self.settings.keep_ms,
            trimmed: Reached(self.trimmed).into(),
            audits: self.audits.map(|room| Id(room.0)),
            audited: self.audited,
        };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredHeader = codec::versioned(bytes)?;
        let Reached(trimmed) = stored.trimmed.into();
        Ok(Self {
            kind: stored.kind.into(),
            num: Num(stored.num),
            alias: codec::alias(stored.alias)?,
            created_at: Timestamp(stored.created_at),
            archived: stored.archived,
            trimmed,
            settings: RoomSettings {
                name: codec::name(stored.name)?,
                edit_history: stored.edit_history,
                slow_mode_ms: stored.slow_mode_ms,
                history: stored.history.into(),
                keep_ms: stored.keep_ms,
            },
            audits: stored.audits.map(|room| RoomId(room.0)),
            audited: stored.audited,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredHeader<'a> {
    kind: StoredKind,
    num: u64,
    #[serde(borrow)]
    alias: Option<&'a str>,
    name: Option<&'a str>,
    created_at: i64,
    archived: bool,
    /// Rows that were written before there was a choice have none.
    #[serde(default)]
    edit_history: bool,
    #[serde(default)]
    slow_mode_ms: u32,
    #[serde(default)]
    history: StoredHistory,
    #[serde(default)]
    keep_ms: u64,
    #[serde(default)]
    trimmed: StoredReached,
    #[serde(default)]
    audits: Option<Id>,
    #[serde(default)]
    audited: bool,
}

impl Row for Member {
    fn encode(&self) -> Bytes {
        codec::version(&StoredMember { role: self.role.into(), joined: Id(self.joined.0) }).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredMember = codec::versioned(bytes)?;
        Ok(Self { role: stored.role.into(), joined: RecordId(stored.joined.0) })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredMember {
    role: StoredRole,
    joined: Id,
}

/// An invitation: the role that the invited will have.
impl Row for Role {
    fn encode(&self) -> Bytes {
        codec::version(&StoredRole::from(*self)).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned::<StoredRole>(bytes).map(Self::from)
    }
}

impl Row for Ban {
    fn encode(&self) -> Bytes {
        let (until, reason) = (self.until.map(|until| until.0), self.reason.as_ref().map(Name::as_str));
        codec::version(&StoredBan { by: self.by.as_str(), at: self.at.0, until, reason, rank: self.rank.into() }).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let StoredBan { by, at, until, reason, rank } = codec::versioned(bytes)?;
        let (by, reason) = (codec::user(by)?, codec::name(reason)?);
        Ok(Self { by, at: Timestamp(at), rank: rank.into(), until: until.map(Timestamp), reason })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredBan<'a> {
    #[serde(borrow)]
    by: &'a str,
    at: i64,
    until: Option<i64>,
    reason: Option<&'a str>,
    /// Rows that were written before it was asked for have none: anybody takes them back.
    #[serde(default)]
    rank: StoredRole,
}

impl Row for Exclusion {
    fn encode(&self) -> Bytes {
        let ban = self.ban.as_ref().map(|ban| StoredTenantBan {
            by: ban.by.as_str(),
            at: ban.at.0,
            rank: ban.rank.map(Into::into),
            until: ban.until.map(|until| until.0),
            reason: ban.reason.as_ref().map(Name::as_str),
        });
        codec::version(&StoredExclusion { disabled: self.disabled, ban }).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let StoredExclusion { disabled, ban } = codec::versioned(bytes)?;
        let ban = ban.map(|StoredTenantBan { by, at, rank, until, reason }| {
            let (by, reason) = (codec::user(by)?, codec::name(reason)?);
            Ok(TenantBan { by, at: Timestamp(at), rank: rank.map(Into::into), until: until.map(Timestamp), reason })
        });
        Ok(Self { disabled, ban: ban.transpose()? })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredExclusion<'a> {
    disabled: bool,
    #[serde(borrow)]
    ban: Option<StoredTenantBan<'a>>,
}

#[derive(Serialize, Deserialize)]
struct StoredTenantBan<'a> {
    #[serde(borrow)]
    by: &'a str,
    at: i64,
    rank: Option<accounts::StoredRank>,
    until: Option<i64>,
    reason: Option<&'a str>,
}

impl Row for Mute {
    fn encode(&self) -> Bytes {
        let (by, until) = (Some(self.by.as_str()), self.until.map(|until| until.0));
        codec::version(&StoredMute { until, by, at: self.at.0, rank: self.rank.into() }).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let StoredMute { until, by, at, rank } = codec::versioned(bytes)?;
        let by = by.map_or_else(|| Ok(UserId::operator()), codec::user)?;
        Ok(Self { by, at: Timestamp(at), rank: rank.into(), until: until.map(Timestamp) })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredMute<'a> {
    until: Option<i64>,
    /// Rows that were written before mutes were listed have none of these.
    #[serde(borrow, default)]
    by: Option<&'a str>,
    #[serde(default)]
    at: i64,
    #[serde(default)]
    rank: StoredRole,
}

impl Row for Rules {
    fn encode(&self) -> Bytes {
        codec::version(&StoredRules::from(self)).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned::<StoredRules>(bytes)?.rules()
    }
}

impl Row for Rights {
    fn encode(&self) -> Bytes {
        codec::version(&StoredRights { allow: self.allow.bits(), deny: self.deny.bits() }).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let StoredRights { allow, deny } = codec::versioned(bytes)?;
        Ok(Self { allow: Capabilities::of_bits(allow), deny: Capabilities::of_bits(deny) })
    }
}

/// As [`Capabilities::bits`].
#[derive(Serialize, Deserialize)]
struct StoredRights {
    allow: u32,
    deny: u32,
}

impl Row for Revocation {
    fn encode(&self) -> Bytes {
        codec::version(&StoredRevocation { since: self.since.0, until: self.until.0 }).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredRevocation = codec::versioned(bytes)?;
        Ok(Self { since: Timestamp(stored.since), until: Timestamp(stored.until) })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredRevocation {
    since: i64,
    until: i64,
}

impl Row for Message {
    fn encode(&self) -> Bytes {
        let stored = StoredMessage {
            id: Id(self.id.0),
            author: self.author.as_str(),
            edits: self.edits.iter().map(|seq| seq.0).collect(),
            deleted: self.deleted,
            thread: self.thread.map(|thread| Id(thread.0)),
            reactions: self.reactions.iter().map(|(emoji, count)| (emoji.as_str(), *count)).collect(),
            forwarded: self.forwarded,
            files: self.files.iter().map(|file| Id(file.0)).collect(),
        };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredMessage = codec::versioned(bytes)?;
        Ok(Self {
            id: RecordId(stored.id.0),
            author: codec::user(stored.author)?,
            edits: stored.edits.into_iter().map(Seq).collect(),
            deleted: stored.deleted,
            thread: stored.thread.map(|thread| RecordId(thread.0)),
            forwarded: stored.forwarded,
            files: stored.files.into_iter().map(|file| FileId(file.0)).collect(),
            reactions: stored
                .reactions
                .into_iter()
                .map(|(emoji, count)| Ok((codec::emoji(emoji)?, count)))
                .collect::<Result<_, StoreError>>()?,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredMessage<'a> {
    id: Id,
    #[serde(borrow)]
    author: &'a str,
    edits: Vec<u64>,
    deleted: bool,
    /// Rows that were written before there were threads, reactions and forwards have none.
    #[serde(default)]
    thread: Option<Id>,
    #[serde(default)]
    reactions: Vec<(&'a str, u32)>,
    #[serde(default)]
    forwarded: bool,
    #[serde(default)]
    files: Vec<Id>,
}

impl Row for Filed {
    fn encode(&self) -> Bytes {
        let File { id, tenant, owner, purpose, hash, size, media, name, at } = &self.file;
        let stored = StoredFile {
            id: Id(id.0),
            tenant: tenant.as_str(),
            owner: owner.as_str(),
            room: stored_purpose(*purpose),
            hash: hash.0,
            size: *size,
            media: media.as_str(),
            name: name.as_str(),
            at: at.0,
            loose_since: self.loose_since.map(|since| since.0),
        };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredFile = codec::versioned(bytes)?;
        let file = File {
            id: FileId(stored.id.0),
            tenant: TenantId::new(stored.tenant).map_err(damage)?,
            owner: codec::user(stored.owner)?,
            purpose: purpose(stored.room),
            hash: Hash(stored.hash),
            size: stored.size,
            media: codec::media_type(stored.media)?,
            name: codec::file_name(stored.name)?,
            at: Timestamp(stored.at),
        };
        Ok(Self { file, loose_since: stored.loose_since.map(Timestamp) })
    }
}

/// The room that a file is for; none for an avatar.
fn stored_purpose(purpose: Purpose) -> Option<Id> {
    match purpose {
        Purpose::Attachment(room) => Some(Id(room.0)),
        Purpose::Avatar => None,
    }
}

fn purpose(room: Option<Id>) -> Purpose {
    room.map_or(Purpose::Avatar, |room| Purpose::Attachment(RoomId(room.0)))
}

#[derive(Serialize, Deserialize)]
struct StoredFile<'a> {
    id: Id,
    #[serde(borrow)]
    tenant: &'a str,
    owner: &'a str,
    room: Option<Id>,
    hash: [u8; 32],
    size: u64,
    media: &'a str,
    name: &'a str,
    at: i64,
    loose_since: Option<i64>,
}

impl Row for Unfinished {
    fn encode(&self) -> Bytes {
        let stored = StoredUpload {
            id: Id(self.id.0),
            tenant: self.tenant.as_str(),
            owner: self.owner.as_str(),
            room: stored_purpose(self.purpose),
            name: self.name.as_str(),
            size: self.size,
            offset: self.offset,
            at: self.at.0,
        };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredUpload = codec::versioned(bytes)?;
        Ok(Self {
            id: FileId(stored.id.0),
            tenant: TenantId::new(stored.tenant).map_err(damage)?,
            owner: codec::user(stored.owner)?,
            purpose: purpose(stored.room),
            name: codec::file_name(stored.name)?,
            size: stored.size,
            offset: stored.offset,
            at: Timestamp(stored.at),
        })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredUpload<'a> {
    id: Id,
    #[serde(borrow)]
    tenant: &'a str,
    owner: &'a str,
    room: Option<Id>,
    name: &'a str,
    size: u64,
    offset: u64,
    at: i64,
}

impl Row for Usage {
    fn encode(&self) -> Bytes {
        codec::version(&self.0).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned(bytes).map(Self)
    }
}

impl Row for Pin {
    fn encode(&self) -> Bytes {
        let stored = StoredPin {
            message: Id(self.message.0),
            by: self.by.as_str(),
            epoch: self.position.epoch.0,
            seq: self.position.seq.0,
            at: self.at.0,
        };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredPin = codec::versioned(bytes)?;
        Ok(Self {
            message: RecordId(stored.message.0),
            by: codec::user(stored.by)?,
            position: Position { epoch: Epoch(stored.epoch), seq: Seq(stored.seq) },
            at: Timestamp(stored.at),
        })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredPin<'a> {
    message: Id,
    #[serde(borrow)]
    by: &'a str,
    epoch: u64,
    seq: u64,
    at: i64,
}

/// What one user feels about one message.
impl Row for BTreeSet<Emoji> {
    fn encode(&self) -> Bytes {
        let emojis: Vec<&str> = self.iter().map(Emoji::as_str).collect();
        codec::version(&emojis).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned::<Vec<&str>>(bytes)?.into_iter().map(codec::emoji).collect()
    }
}

impl Row for Reservation {
    fn encode(&self) -> Bytes {
        let alias = self.alias.as_ref().map(Alias::as_str);
        codec::version(&StoredReservation { room: Id(self.room.0), num: self.num.0, alias }).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredReservation = codec::versioned(bytes)?;
        Ok(Self { room: RoomId(stored.room.0), num: Num(stored.num), alias: codec::alias(stored.alias)? })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredReservation<'a> {
    room: Id,
    num: u64,
    #[serde(borrow)]
    alias: Option<&'a str>,
}

impl Row for Place {
    fn encode(&self) -> Bytes {
        let invited = match self.standing {
            Standing::Member => false,
            Standing::Invited => true,
        };
        let (kind, role, joined) = (self.kind.into(), self.role.into(), self.joined.0);
        codec::version(&StoredPlace { kind, role, invited, joined }).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredPlace = codec::versioned(bytes)?;
        let standing = if stored.invited { Standing::Invited } else { Standing::Member };
        Ok(Self { kind: stored.kind.into(), role: stored.role.into(), standing, joined: Seq(stored.joined) })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredPlace {
    kind: StoredKind,
    role: StoredRole,
    invited: bool,
    #[serde(default)]
    joined: u64,
}

impl Row for Kept {
    fn encode(&self) -> Bytes {
        let Entry { delivered, read, muted_until, pinned, archived, draft } = &self.entry;
        let stored = StoredEntry {
            delivered: (*delivered).into(),
            read: (*read).into(),
            shown: self.shown.into(),
            muted_until: muted_until.map(|until| until.0),
            pinned: *pinned,
            archived: *archived,
            draft: draft.as_deref(),
            changed: Reached(self.changed).into(),
        };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let StoredEntry { delivered, read, shown, muted_until, pinned, archived, draft, changed } =
            codec::versioned(bytes)?;
        let muted_until = muted_until.map(Timestamp);
        let (delivered, read, draft) = (delivered.into(), read.into(), draft.map(Arc::from));
        let entry = Entry { delivered, read, muted_until, pinned, archived, draft };
        let Reached(changed) = changed.into();
        Ok(Self { entry, shown: shown.into(), changed })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredEntry<'a> {
    delivered: StoredReached,
    read: StoredReached,
    shown: StoredReached,
    muted_until: Option<i64>,
    pinned: bool,
    archived: bool,
    #[serde(borrow)]
    draft: Option<&'a str>,
    changed: StoredReached,
}

impl Row for RecordId {
    fn encode(&self) -> Bytes {
        codec::version(&Id(self.0)).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned::<Id>(bytes).map(|id| Self(id.0))
    }
}

impl Row for Settings {
    fn encode(&self) -> Bytes {
        codec::version(&(self.private_reading, StoredAudience::from(self.contacts), self.invisible)).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        // Older rows are one value, and then two.
        let first = || codec::versioned(bytes).map(|private_reading| (private_reading, StoredAudience::default()));
        let second =
            || codec::versioned(bytes).or_else(|_| first()).map(|(reading, contacts)| (reading, contacts, false));
        let (private_reading, contacts, invisible) = codec::versioned(bytes).or_else(|_| second())?;
        Ok(Self { private_reading, contacts: contacts.into(), invisible })
    }
}

impl Row for Profile {
    fn encode(&self) -> Bytes {
        let stored = StoredProfile {
            name: self.name.as_ref().map(Name::as_str),
            avatar: match &self.avatar {
                Some(Avatar::Address(address)) => Some(address),
                Some(Avatar::File(_)) | None => None,
            },
            about: self.about.as_ref().map(Name::as_str),
            email: self.email.as_ref().map(Email::as_str),
            telephone: self.telephone.as_ref().map(Telephone::as_str),
            text: self.fields.text.as_deref(),
            body: self.fields.body.as_deref(),
            avatar_file: self.avatar.as_ref().and_then(Avatar::file).map(|file| Id(file.0)),
        };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredProfile = codec::versioned(bytes)?;
        Ok(Self {
            name: codec::name(stored.name)?,
            avatar: match stored.avatar_file {
                Some(file) => Some(Avatar::File(FileId(file.0))),
                None => stored.avatar.map(|address| Avatar::Address(address.into())),
            },
            about: codec::name(stored.about)?,
            email: stored.email.map(Email::new).transpose().map_err(damage)?,
            telephone: stored.telephone.map(Telephone::new).transpose().map_err(damage)?,
            fields: Content { text: stored.text.map(Arc::from), body: stored.body.map(Arc::from) },
        })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredProfile<'a> {
    #[serde(borrow)]
    name: Option<&'a str>,
    avatar: Option<&'a str>,
    about: Option<&'a str>,
    email: Option<&'a str>,
    telephone: Option<&'a str>,
    text: Option<&'a str>,
    body: Option<&'a str>,
    /// In the place of `avatar`.
    #[serde(default)]
    avatar_file: Option<Id>,
}

impl Row for Introduction {
    fn encode(&self) -> Bytes {
        let avatar = match &self.avatar {
            Some(Avatar::Address(address)) => Some(&**address),
            Some(Avatar::File(_)) | None => None,
        };
        let stored = StoredIntroduction {
            name: self.name.as_ref().map(Name::as_str),
            avatar,
            about: self.about.as_ref().map(Name::as_str),
            email: self.email.as_ref().map(Email::as_str),
            telephone: self.telephone.as_ref().map(Telephone::as_str),
            wins: self.wins,
        };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let StoredIntroduction { name, avatar, about, email, telephone, wins } = codec::versioned(bytes)?;
        Ok(Self {
            name: codec::name(name)?,
            avatar: avatar.map(|address| Avatar::Address(address.into())),
            about: codec::name(about)?,
            email: email.map(Email::new).transpose().map_err(damage)?,
            telephone: telephone.map(Telephone::new).transpose().map_err(damage)?,
            wins,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredIntroduction<'a> {
    #[serde(borrow)]
    name: Option<&'a str>,
    avatar: Option<&'a str>,
    about: Option<&'a str>,
    email: Option<&'a str>,
    telephone: Option<&'a str>,
    wins: bool,
}

impl Row for Progress {
    fn encode(&self) -> Bytes {
        codec::version(&(StoredReached::from(self.delivered), StoredReached::from(self.read))).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let (delivered, read): (StoredReached, StoredReached) = codec::versioned(bytes)?;
        Ok(Self { delivered: delivered.into(), read: read.into() })
    }
}

impl Row for Timestamp {
    fn encode(&self) -> Bytes {
        codec::version(&self.0).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned(bytes).map(Self)
    }
}

impl Row for Position {
    fn encode(&self) -> Bytes {
        codec::version(&StoredReached::from(Reached(*self))).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned::<StoredReached>(bytes).map(|stored| Reached::from(stored).0)
    }
}

impl Row for command::Decision {
    fn encode(&self) -> Bytes {
        codec::version(&StoredDecision::of(self)).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned::<StoredDecision>(bytes)?.into_domain()
    }
}

impl Row for Num {
    fn encode(&self) -> Bytes {
        codec::version(&self.0).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned(bytes).map(Self)
    }
}

impl Row for RoomCount {
    fn encode(&self) -> Bytes {
        codec::version(&self.0).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned(bytes).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::account::Rank;
    use crate::domain::command::Reading;
    use crate::domain::inbox::FOREVER;
    use crate::domain::policy::History;
    use crate::domain::rules::Links;
    use crate::domain::{Audience, Audited, RoomEvent};
    use crate::domain::{Epoch, MediaType, Position};

    #[test]
    fn every_row_comes_back_as_it_was() {
        let id = RecordId(Uuid::from_u128(3));
        let alias = Some(Alias::forced("42").unwrap());
        round(Header {
            kind: RoomKind::Canvas,
            num: Num(7),
            alias: alias.clone(),
            created_at: Timestamp(-1),
            archived: true,
            trimmed: Position { epoch: Epoch(3), seq: Seq(8) },
            settings: RoomSettings {
                name: None,
                edit_history: true,
                slow_mode_ms: 7,
                history: History::FromJoin,
                keep_ms: 86_400_000,
            },
            audits: Some(RoomId(Uuid::from_u128(2))),
            audited: true,
        });
        let allow = Capabilities::of_bits(5);
        round(Rights { allow, deny: Capabilities::of_bits(2) });
        // As it was written before rooms could show edits.
        let short = codec::version(&(StoredKind::Group, 7, None::<&str>, None::<&str>, -1, false));
        assert_eq!(
            Header::decode(&short).map(|header| (header.num, header.settings.edit_history)),
            Ok((Num(7), false))
        );
        round(Member { role: Role::Admin, joined: id });
        let reason = Some(Name::new("spam").unwrap());
        let (at, rank) = (Timestamp(-1), Role::Admin);
        round(Ban { by: ann(), at, rank, until: Some(Timestamp(i64::MAX)), reason });
        round(Ban { by: ann(), at: Timestamp(7), rank: Role::Owner, until: None, reason: None });
        round(Introduction::default());
        round(Introduction {
            name: Some(Name::new("Ann").unwrap()),
            avatar: Avatar::address("https://p.example/ann.png"),
            about: Some(Name::new("here").unwrap()),
            email: Some(Email::new("ann@example.org").unwrap()),
            telephone: Some(Telephone::new("+4930123456").unwrap()),
            wins: true,
        });
        let ban = TenantBan { by: ann(), at, rank: Some(Rank::Admin), until: Some(Timestamp(i64::MAX)), reason: None };
        round(Exclusion { disabled: true, ban: Some(ban.clone()) });
        round(Exclusion { disabled: false, ban: Some(TenantBan { rank: None, ..ban }) });
        let tenant = TenantId::new("harbour").unwrap();
        assert_eq!(excluded_of(&exclusion(&tenant, &ann())), Ok((tenant, ann())));
        round(Mute { by: ann(), at, rank, until: Some(Timestamp(9)) });
        round(Mute { by: ann(), at, rank: Role::Member, until: None });
        let words = vec!["spam".to_owned(), "Grüße".to_owned()];
        round(Rules::new(words, Links::Listed, vec!["example.org".to_owned()]).unwrap());
        round(Rules::default());
        // As they were written before they said who.
        let muted = Mute::decode(&codec::version(&(Some(9),))).unwrap();
        assert_eq!((muted.until, muted.rank), (Some(Timestamp(9)), Role::Viewer));
        let banned = Ban::decode(&codec::version(&("ann", 7, None::<i64>, None::<&str>))).unwrap();
        assert_eq!((banned.at, banned.rank), (Timestamp(7), Role::Viewer));
        round(Message {
            id,
            author: ann(),
            thread: None,
            forwarded: true,
            edits: vec![Seq(4), Seq(u64::MAX)],
            deleted: false,
            reactions: vec![(Emoji::new("+1").unwrap(), 3)],
            files: vec![FileId(Uuid::from_u128(8))],
        });
        let name = FileName::new("Über.png").unwrap();
        let (tenant, at) = (TenantId::default_tenant(), Timestamp(-1));
        for purpose in [Purpose::Avatar, Purpose::Attachment(RoomId(Uuid::from_u128(4)))] {
            let file = File {
                id: FileId(Uuid::from_u128(8)),
                tenant: tenant.clone(),
                owner: ann(),
                purpose,
                hash: Hash([0xfe; 32]),
                size: u64::MAX,
                media: MediaType::new("image/png").unwrap(),
                name: name.clone(),
                at,
            };
            round(Filed { file: file.clone(), loose_since: Some(at) });
            round(Filed { file, loose_since: None });
            let (tenant, name) = (tenant.clone(), name.clone());
            let id = FileId(Uuid::from_u128(9));
            round(Unfinished { id, tenant, owner: ann(), purpose, name, size: u64::MAX, offset: 7, at });
        }
        round(Usage(u64::MAX));
        let position = Position { epoch: Epoch(2), seq: Seq(9) };
        round(Pin { message: id, by: ann(), position, at: Timestamp(-1) });
        round(BTreeSet::from([Emoji::new("+1").unwrap(), Emoji::new("❤").unwrap()]));
        // As it was written before there were threads, reactions, forwards and files.
        let short = codec::version(&(Id(Uuid::from_u128(5)), "ann", vec![4_u64], false));
        let later = |message: Message| (message.thread, message.reactions, message.forwarded, message.files);
        assert_eq!(Message::decode(&short).map(later), Ok((None, Vec::new(), false, Vec::new())));
        round(Reservation { room: RoomId(Uuid::from_u128(1)), num: Num(1 << 40), alias });
        round(Num(u64::MAX));
        round(Position { epoch: Epoch(2), seq: Seq(u64::MAX) });
        let decided = RoomEvent::RoleChanged { user: ann(), role: Role::Member, was: Role::Admin };
        let (room, position) = (RoomId(Uuid::from_u128(2)), Position { epoch: Epoch(1), seq: Seq(9) });
        let audited = Audited { room, position, id, at: Timestamp(-1), by: ann(), decided };
        let reading = Some(Reading { user: ann(), reads: false });
        round(command::Decision { audited: audited.clone(), reading });
        round(command::Decision { audited, reading: None });
        let reached = |epoch, seq| Reached(Position { epoch: Epoch(epoch), seq: Seq(seq) });
        let entry = Entry {
            delivered: reached(1, u64::MAX),
            read: reached(0, 3),
            muted_until: Some(FOREVER),
            pinned: true,
            archived: false,
            draft: Some("what I wanted to say".into()),
        };
        round(Kept { entry, shown: reached(1, 2), changed: reached(3, 9).0 });
        let contacts = Audience::Owners;
        round(Settings { private_reading: true, contacts, invisible: true });
        let before: Result<Settings, _> = Row::decode(&codec::version(&true));
        assert_eq!(before, Ok(Settings { private_reading: true, ..Settings::default() }));
        let later: Result<Settings, _> = Row::decode(&codec::version(&(true, StoredAudience::from(contacts))));
        assert_eq!(later, Ok(Settings { private_reading: true, contacts, invisible: false }));
        round(Profile {
            name: Some(Name::new("Ann").unwrap()),
            avatar: Some(Avatar::Address("https://example.org/ann.png".into())),
            about: None,
            email: Some(Email::new("ann@example.org").unwrap()),
            telephone: Some(Telephone::new("+4930123").unwrap()),
            fields: Content { text: None, body: Some(r#"{"mood":"fine"}"#.into()) },
        });
        round(Profile::default());
        round(Profile { avatar: Some(Avatar::File(FileId(Uuid::from_u128(6)))), ..Profile::default() });
        round(id);
        round(Kept::default());
        round(Timestamp(-7));
        round(Progress { delivered: reached(2, 7), read: Reached::NOTHING });
        round(RoomCount(u64::MAX));
        for role in Role::ALL {
            round(role);
        }
        for standing in [Standing::Member, Standing::Invited] {
            round(Place { kind: RoomKind::Direct, role: Role::Owner, standing, joined: Seq(7) });
        }
        // As it was written before places said since when.
        let short = codec::version(&(StoredKind::from(RoomKind::Group), StoredRole::from(Role::Guest), false));
        assert_eq!(Place::decode(&short).map(|place| place.joined), Ok(Seq::ZERO));
    }

    #[test]
    fn a_key_names_its_user_or_room() {
        let id = RoomId(Uuid::from_u128(77));
        assert_eq!(user_of(&member(&ann())), Ok(ann()));
        assert_eq!(user_of(&invitation(&ann())), Ok(ann()));
        assert_eq!(user_of(&progress(&ann())), Ok(ann()));
        assert_eq!(room_of(&place(id)), Ok(id));
        let file = FileId(Uuid::from_u128(6));
        assert_eq!(referring_room(&referred_by_message(file, id, Seq(3))), Ok(id));
        assert!(referring_room(&referred_by_user(file, &ann())).is_err());
        assert_eq!(room_of(&entry(id)), Ok(id));
        assert!(room_of(&member(&ann())).is_err());
        let key = RoomKey { tenant: TenantId::default_tenant(), room: id };
        assert_eq!(owing_room(&owed(&key, Seq(3))), Ok(key.clone()));
        assert!(owed(&key, Seq(255)) < owed(&key, Seq(256)));
        assert!(owing_room(b"\x07default").is_err());
        assert!(user_of(HEADER).is_err());
    }

    #[test]
    fn messages_are_in_the_order_of_their_seqs() {
        assert!(message(Seq(255)) < message(Seq(256)));
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
            let _ = Header::decode(&bytes);
            let _ = Member::decode(&bytes);
            let _ = Ban::decode(&bytes);
            let _ = Exclusion::decode(&bytes);
            let _ = Introduction::decode(&bytes);
            let _ = excluded_of(&bytes);
            let _ = Mute::decode(&bytes);
            let _ = Rules::decode(&bytes);
            let _ = Role::decode(&bytes);
            let _ = Message::decode(&bytes);
            let _ = Pin::decode(&bytes);
            let _ = Reservation::decode(&bytes);
            let _ = Place::decode(&bytes);
            let _ = Kept::decode(&bytes);
            let _ = Progress::decode(&bytes);
            let _ = Num::decode(&bytes);
            let _ = command::Decision::decode(&bytes);
            let _ = owing_room(&bytes);
            let _ = Filed::decode(&bytes);
            let _ = Unfinished::decode(&bytes);
            let _ = referring_room(&bytes);
            let _ = user_of(&bytes);
            let _ = room_of(&bytes);
        }
    }

    fn round<T: Row + PartialEq + Debug>(row: T) {
        assert_eq!(T::decode(&row.encode()), Ok(row));
    }

    fn ann() -> UserId {
        UserId::new("ann").unwrap()
    }
}
